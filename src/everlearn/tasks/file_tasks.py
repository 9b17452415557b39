"""A task from image files: which can be read, how they are divided, and what a person should know of them.

In order: files that cannot be read are refused, or passed over if told so; each class is divided at random unless the
splits are given; training images are capped, if told so. Warned of: images that are in two splits, and classes that
have many times the training images of others. The same files, seed and options give the same task, whether its images
lie in memory, are decoded as needed, or come from a cache.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError, EverlearnWarning
from everlearn.tasks.cached import cached
from everlearn.tasks.draws import parts, permutation
from everlearn.tasks.listed import ClassFiles, check_classes
from everlearn.tasks.pixels import Fit, Size, stack, to_float
from everlearn.tasks.readable import decode_each, hash_files, pixel_hash
from everlearn.tasks.stored import ImageFiles, Source, StoredImages, sized
from everlearn.tasks.task import SPLITS, Split, Task

NAMED = 5
"""How many files a message names at most."""
UNEVEN = 5
"""The largest class may have so many times the training images of the smallest before that is warned of."""
FRACTIONS = (0.6, 0.2, 0.2)
"""Of a class: for training, validation and test."""


@dataclass(frozen=True)
class Recipe:
    """Where a task's images lie.

    Attributes:
        name: the task's.
        where: how messages name it: its folder.
        root: the folder that all its files lie in.
        files: by split and class, or under the name `all`; validation may be missing, and is then a part of train.
        fractions: train, validation, test of every class; with train and test given, only the proportion of the
            first two counts.
    """

    name: str
    where: str
    root: Path
    files: Mapping[str, ClassFiles]
    fractions: tuple[float, float, float] = FRACTIONS


@dataclass(frozen=True)
class Handling:
    """What is done with the images.

    Attributes:
        size: height and width that all are resized to (the aspect ratio is not kept); None: they agree.
        grey: one channel instead of RGB.
        in_memory: whether they are decoded at once; otherwise as needed, which wants a size.
        cache: a folder that decoded images are kept in and read from as needed, which wants a size; None: none.
        skip_corrupt: whether files that cannot be read are passed over.
        per_class: training images that a class has at most; 0: all.
        advise: whether messages name the options of a stream that help.

    Raises:
        ConfigurationError: fewer than no images a class.
    """

    size: Size | None = None
    grey: bool = False
    in_memory: bool = True
    cache: Path | None = None
    skip_corrupt: bool = False
    per_class: int = 0
    advise: bool = True

    def __post_init__(self) -> None:
        if self.per_class < 0:
            raise ConfigurationError(
                f"per_class is wanted as at least 1 training image of a class, or 0 for all, but came as "
                f"{self.per_class}."
            )


@dataclass(frozen=True)
class _Opened:
    """A task's files, as far as they were looked at: decoded, or still a source; why some cannot be read; hashes."""

    source: Source
    pixels: np.ndarray | None
    bad: Mapping[Path, str]
    hashes: Mapping[Path, int] | None


def make_task(recipe: Recipe, seed: int, how: Handling) -> Task:
    """The task; pixels in [0, 1], not standardised.

    Raises:
        DataError: a class is missing in a split or too small to divide, a file cannot be read, two images differ in
            size and no size is given.
        ConfigurationError: images are not to lie in memory, and no size is given.
    """
    check_classes(recipe.where, recipe.files)
    paths = list(dict.fromkeys(_every(recipe.files)))
    opened = _open(recipe, paths, how)
    files = _readable(recipe, len(paths), opened.bad, how)
    divided = _divide(recipe, files, seed)
    _warn_of_doubles(recipe, divided, opened.hashes)
    divided["train"] = _capped(divided["train"], seed, how.per_class)
    _warn_of_unevenness(recipe, divided["train"], how.advise)
    # Where images lie in memory, those that cannot be read have left no place among them.
    kept = paths if opened.pixels is None else [path for path in paths if path not in opened.bad]
    place = {path: row for row, path in enumerate(kept)}
    splits = [_split(divided[name], place, opened, how) for name in SPLITS]
    return Task(recipe.name, tuple(divided["train"]), *splits)


def _every(files: Mapping[str, ClassFiles]) -> Iterable[Path]:
    return (file for split in files.values() for pool in split.values() for file in pool)


def _open(recipe: Recipe, paths: list[Path], how: Handling) -> _Opened:
    source = ImageFiles(recipe.root, tuple(str(path.relative_to(recipe.root)) for path in paths))
    if how.cache is not None:
        kept = cached(source, how.grey, sized(how.size, recipe.where), how.cache)
        bad = {paths[row]: _reason(source, row, how.grey) for row in np.flatnonzero(kept.hashes == 0).tolist()}
        return _Opened(kept, None, bad, dict(zip(paths, kept.hashes.tolist(), strict=True)))
    if not how.in_memory:
        size = sized(how.size, recipe.where)
        if not how.skip_corrupt:
            return _Opened(source, None, {}, None)
        hashes, bad = {}, {}
        for path, image in zip(paths, decode_each(source, len(paths), how.grey, size), strict=True):
            hashes[path] = pixel_hash(image)
            if isinstance(image, DataError):
                bad[path] = str(image)
        return _Opened(source, None, bad, hashes)
    images = dict(zip(paths, decode_each(source, len(paths), how.grey, how.size), strict=True))
    bad = {path: str(image) for path, image in images.items() if isinstance(image, DataError)}
    good = {path: image for path, image in images.items() if not isinstance(image, DataError)}
    hashes = {path: pixel_hash(image) for path, image in images.items()}
    del images
    names = [str(path.relative_to(recipe.root.parent)) for path in good]
    pixels = stack(list(good.values()), names) if good and (how.skip_corrupt or not bad) else None
    return _Opened(source, pixels, bad, hashes)


def _reason(source: ImageFiles, row: int, grey: bool) -> str:
    try:
        source.decode([row], grey)
    except DataError as error:
        return str(error)
    return f"{source.root / source.files[row]} could not be read when the cache was made; delete the cache."


def _readable(recipe: Recipe, count: int, bad: Mapping[Path, str], how: Handling) -> Mapping[str, ClassFiles]:
    """The files without those that cannot be read.

    Raises:
        DataError: there are such, and they are not to be passed over; or a class has no others.
    """
    if not bad:
        return recipe.files
    if not how.skip_corrupt:
        raise DataError(_complaint(recipe, count, bad, how.advise))
    warnings.warn(
        f"passed over as no image that can be read: {_named(recipe, bad)}, of the {count} files of {recipe.where}.",
        EverlearnWarning,
        stacklevel=2,
    )
    files = {
        split: {label: [file for file in pool if file not in bad] for label, pool in classes.items()}
        for split, classes in recipe.files.items()
    }
    check_classes(recipe.where, files)
    return files


def _complaint(recipe: Recipe, count: int, bad: Mapping[Path, str], advise: bool) -> str:
    first = next(iter(bad.values())).removesuffix(".")
    first += ", or pass over such files (--stream-option skip_corrupt=true)." if advise else "."
    if len(bad) == 1:
        return first
    return (
        f"{len(bad)} of the {count} files of {recipe.where} cannot be read: {_named(recipe, bad)}. Of the first: "
        f"{first}"
    )


def _named(recipe: Recipe, paths: Iterable[Path]) -> str:
    every = [str(path.relative_to(recipe.root)) for path in paths]
    rest = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + rest


def _divide(recipe: Recipe, files: Mapping[str, ClassFiles], seed: int) -> dict[str, ClassFiles]:
    if "validation" in files:
        return dict(files)
    if "all" in files:
        source, names, shares = files["all"], SPLITS, recipe.fractions
    else:
        both = recipe.fractions[0] + recipe.fractions[1]
        shares = (recipe.fractions[0] / both, recipe.fractions[1] / both)
        source, names = files["train"], SPLITS[:2]
    divided = {name: ClassFiles() for name in names}
    for label, pool in source.items():
        drawn = parts(len(pool), shares, f"class {label!r} of {recipe.where}", seed, "folder", label)
        for name, rows in zip(names, drawn, strict=True):
            divided[name][label] = [pool[row] for row in sorted(rows.tolist())]
    return divided if "all" in files else {**divided, "test": files["test"]}


def _capped(files: ClassFiles, seed: int, most: int) -> ClassFiles:
    """At most so many of each class, drawn; more contain the fewer."""
    if not most:
        return files
    return {
        label: [pool[row] for row in sorted(permutation(len(pool), seed, "folder", "cap", label)[:most].tolist())]
        for label, pool in files.items()
    }


def _warn_of_unevenness(recipe: Recipe, train: ClassFiles, advise: bool) -> None:
    counts = {label: len(pool) for label, pool in train.items()}
    few, many = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[many] > UNEVEN * counts[few]:
        option = f"--stream-option per_class={counts[few]} takes no more of any"
        warnings.warn(
            f"the classes of {recipe.where} are uneven: {counts[many]} training images of {many!r}, {counts[few]} of "
            f"{few!r}; {option if advise else f'add some of {few!r}, or take some of {many!r} out'}.",
            EverlearnWarning,
            stacklevel=2,
        )


def _warn_of_doubles(recipe: Recipe, divided: Mapping[str, ClassFiles], hashes: Mapping[Path, int] | None) -> None:
    flat = {name: [file for pool in divided[name].values() for file in pool] for name in SPLITS}
    known = hash_files(flat) if hashes is None else hashes
    first: dict[int, tuple[str, Path]] = {}
    doubles: list[str] = []
    for name, files in flat.items():
        for file in files:
            if file not in known:
                continue
            split, other = first.setdefault(known[file], (name, file))
            if split != name:
                here, there = file.relative_to(recipe.root), other.relative_to(recipe.root)
                doubles.append(f"{here} ({name}) shows what {there} ({split}) shows")
    if doubles:
        rest = f"; and {len(doubles) - NAMED} more" if len(doubles) > NAMED else ""
        warnings.warn(
            f"the splits of {recipe.where} have images in common: {'; '.join(doubles[:NAMED])}{rest}. Accuracies are "
            "too good for it; keep one of each.",
            EverlearnWarning,
            stacklevel=2,
        )


def _split(files: ClassFiles, place: Mapping[Path, int], opened: _Opened, how: Handling) -> Split:
    rows = np.array([place[file] for pool in files.values() for file in pool], dtype=np.int64)
    if opened.pixels is not None:
        return Split(to_float(opened.pixels[rows]), _labels(files))
    return Split(StoredImages(opened.source, rows, Fit(sized(how.size, "it")), how.grey), _labels(files))


def _labels(files: ClassFiles) -> Tensor:
    counts = [len(pool) for pool in files.values()]
    return torch.from_numpy(np.repeat(np.arange(len(counts)), counts).astype(np.int64))
