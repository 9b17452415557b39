"""Images of the same classes in several domains, in folders or in one set: what `office-home` and `pacs` are made of.

Images come in the order of a hash of their encoded bytes, which does not depend on where they lie or on how a library
decodes them: any copy of a set gives the same draws.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.colours import ColourLevels, class_labels
from everlearn.tasks.encoded import EncodedImages
from everlearn.tasks.info import Value
from everlearn.tasks.listed import IMAGE_SUFFIXES
from everlearn.tasks.pixels import Fit
from everlearn.tasks.stored import ImageFiles, Source, StoredImages
from everlearn.tasks.task import Split


@dataclass(frozen=True, eq=False)
class Pool:
    """Images of one domain.

    Attributes:
        source: where they lie.
        rows: for each class its images, in the order of a hash of their bytes.
        where: how an error names them.
    """

    source: Source
    rows: Mapping[str, np.ndarray]
    where: str


def pool_of_folder(folder: Path, classes: Sequence[str]) -> Pool:
    """The images of `folder/CLASS/NAME.jpg` for these classes.

    Raises:
        DataError: a class has no folder or no image, or a file cannot be read.
    """
    files: list[str] = []
    rows: dict[str, np.ndarray] = {}
    for name in classes:
        found = sorted(folder.joinpath(name).glob("*")) if (folder / name).is_dir() else []
        images = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")]
        if not images:
            raise DataError(f"{folder} is wanted with images in {name}/, but has none; unpack the set again.")
        images.sort(key=_content)
        rows[name] = np.arange(len(files), len(files) + len(images))
        files += [str(file.relative_to(folder)) for file in images]
    return Pool(ImageFiles(folder, tuple(files)), rows, str(folder))


def _content(file: Path) -> tuple[bytes, str]:
    try:
        return hashlib.sha256(_framed(file.read_bytes())).digest(), file.name
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error


def _framed(data: bytes) -> bytes:
    """As `EncodedImages.digest` takes an image's bytes."""
    return len(data).to_bytes(8, "little") + data


def pool_of_set(images: EncodedImages, classes: Sequence[str], chosen: np.ndarray | None = None) -> Pool:
    """The images of a set for these classes.

    Args:
        images: the set.
        classes: names of its classes.
        chosen: `[N]`, whether a row counts (those of one domain); None: all.

    Raises:
        DataError: the set has not such a class, or no image of it.
    """
    rows: dict[str, np.ndarray] = {}
    for name in classes:
        if name not in images.classes:
            raise DataError(f"{images.where} has no class {name!r}; it has {', '.join(images.classes)}.")
        mine = images.labels == images.classes.index(name)
        found = np.flatnonzero(mine if chosen is None else mine & chosen)
        if not len(found):
            raise DataError(f"{images.where} holds no image of the class {name!r} in a domain that is wanted.")
        rows[name] = np.array(sorted(found.tolist(), key=lambda row: (images.digest(np.array([row])), row)))
    return Pool(images, rows, images.where)


def held(pool: Pool, fit: Fit, in_memory: bool) -> Pool:
    """The same images, as 8-bit levels in memory if wanted: only those that the pool speaks of.

    Raises:
        DataError: one of them cannot be decoded.
    """
    if not in_memory:
        return pool
    index = np.concatenate(list(pool.rows.values()))
    pixels = np.empty((len(index), *fit.size, 3), dtype=np.uint8)
    for start in range(0, len(index), 100):
        pixels[start : start + 100] = pool.source.decode(index[start : start + 100], size=fit)
    ends = np.cumsum([len(rows) for rows in pool.rows.values()])
    places = np.split(np.arange(len(index)), ends[:-1])
    return Pool(ColourLevels(pixels), dict(zip(pool.rows, places, strict=True)), pool.where)


def split_of_pool(pool: Pool, rows: Sequence[np.ndarray], fit: Fit) -> Split:
    """The images of these rows, class after class; in [0, 1] when they are taken."""
    return Split(StoredImages(pool.source, np.concatenate(rows), fit), class_labels(rows))


def side_of(options: Mapping[str, Value]) -> int:
    """The option `size`, a side in pixels.

    Raises:
        ConfigurationError: it is below 1.
    """
    side = int(options["size"])
    if side < 1:
        raise ConfigurationError(f"size is wanted as a side in pixels of at least 1, but came as {side}.")
    return side
