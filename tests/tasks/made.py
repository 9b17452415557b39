"""Made-up image sets on disk; every image is `noise(key)` of its own key, and so differs from all others."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor


def noise(key: int, shape: tuple[int, ...] = (4, 4, 3)) -> np.ndarray:
    return np.random.default_rng(key).integers(0, 256, shape, dtype=np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def encode_webp(pixels: np.ndarray) -> bytes:
    return encode(pixels, "WEBP")


def write_images(
    folder: Path,
    classes: Mapping[str, int],
    size: tuple[int, int] = (6, 5),
    first: int = 0,
    suffix: str = ".png",
) -> None:
    """folder/class/0.png ...: so many images a class, of keys first, first + 1, ..."""
    key = first
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(noise(key, (*size, 3))).save(folder / name / f"{number}{suffix}")
            key += 1


def write_parquet(
    file: Path,
    labels: Sequence[int] | Sequence[str] | Sequence[int | None],
    keys: Sequence[int],
    names: Sequence[str] | None = None,
    image: str = "image",
    label: str = "label",
    encoder: Callable[[np.ndarray], bytes] = encode,
    shape: tuple[int, ...] = (4, 4, 3),
) -> None:
    """A Parquet file in the hub's image layout; row i shows `noise(keys[i], shape)`."""
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as ImageFeature

    plain = Value("string" if isinstance(labels[0], str) else "int64")
    features = Features({image: ImageFeature(), label: plain if names is None else ClassLabel(names=list(names))})
    rows = {image: [{"bytes": encoder(noise(key, shape)), "path": None} for key in keys], label: list(labels)}
    file.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(str(file))


def rows_of(images: Tensor) -> list[bytes]:
    """Every image as bytes, for comparison as sets."""
    return [image.contiguous().numpy().tobytes() for image in images]
