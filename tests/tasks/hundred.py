"""A made-up CIFAR-100 on disk: a hundred classes of ten training images and two test images each."""

from pathlib import Path

import numpy as np

from tests.tasks.made import encode_webp, noise, write_parquet

NAMES = [f"class{label:02}" for label in range(100)]


def write_set(folder: Path, order: int = 0, image: str = "image", webp: bool = False) -> None:
    """Class c has ten training images, keys from 10 c, and two test images, keys from 5000 + 2 c."""
    for split, first, count in (("train", 0, 10), ("test", 5000, 2)):
        keys = np.random.default_rng(order).permutation(100 * count) + first
        write_parquet(
            folder / f"{split}.parquet",
            [int(key - first) // count for key in keys],
            keys.tolist(),
            NAMES,
            image,
            "fine_label",
            **({"encoder": encode_webp} if webp else {}),
        )


CLASS_OF = {
    (noise(key).astype(np.float32) / 255).transpose(2, 0, 1).tobytes(): label
    for label in range(100)
    for key in (*range(10 * label, 10 * label + 10), 5000 + 2 * label, 5001 + 2 * label)
}
"""The class of each image of the set, by its pixels as a stream without standardising has them."""
