"""Which image files a task's folder holds, by split and by class; nothing is opened here.

Files of other kinds, and files and folders whose names begin with a dot, are passed over. Pictures of a kind that
cannot be read here (an iPhone's HEIC) are passed over with a warning.
"""

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from everlearn.errors import DataError, EverlearnWarning

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm",
        ".jp2", ".avif",
    )
)  # fmt: skip
UNREADABLE_SUFFIXES = frozenset(
    (".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".exr")
)
"""Pictures that people have and Pillow does not read, or not in full."""
VALIDATION_NAMES = ("val", "valid", "validation")

ClassFiles = dict[str, list[Path]]
"""Image files by class, in the order of the task's classes."""


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, in the order of their names."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def is_divided(folder: Path) -> bool:
    """Whether `train/` is a split rather than a class of trains: then it holds folders."""
    return (folder / "train").is_dir() and bool(subfolders(folder / "train"))


def class_files(folder: Path) -> ClassFiles:
    """The image files of `folder/CLASS/` by class, in the order of names.

    Raises:
        DataError: there is no class, or one without images.
    """
    found, unread = ClassFiles(), Counter[str]()
    for sub in subfolders(folder):
        files = [file for file in sub.iterdir() if not file.name.startswith(".")]
        found[sub.name] = sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)
        unread.update(kind for file in files if (kind := file.suffix.lower()) in UNREADABLE_SUFFIXES)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(unread.items()))
    hint = f" Its pictures are of kinds that cannot be read here ({kinds}): save them as JPEG or PNG." if kinds else ""
    if not any(found.values()):
        raise DataError(
            f"{folder} holds no folder of images for a class; images are wanted as {folder.name}/CLASS/NAME.jpg "
            f"(or {', '.join(sorted(IMAGE_SUFFIXES - {'.jpg'}))}).{hint}"
        )
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise DataError(f"class {empty[0]!r} of {folder} holds no images; add some or take the folder out.{hint}")
    if kinds:
        warnings.warn(
            f"pictures of {folder} are passed over, as their kinds cannot be read here: {kinds}; save them as JPEG or "
            "PNG.",
            EverlearnWarning,
            stacklevel=2,
        )
    return found


def folder_files(folder: Path) -> dict[str, ClassFiles]:
    """A task's files by split: as its folder is divided, or all under the name `all`.

    Raises:
        DataError: train/ without test/, two folders of validation images, or as for `class_files`.
    """
    if not is_divided(folder):
        return {"all": class_files(folder)}
    if not (folder / "test").is_dir():
        raise DataError(f"{folder} has train/ but no test/; add it, or put the classes directly into {folder}.")
    splits = {"train": class_files(folder / "train"), "test": class_files(folder / "test")}
    validation = [folder / name for name in VALIDATION_NAMES if (folder / name).is_dir()]
    if len(validation) > 1:
        raise DataError(f"{folder} has both {validation[0].name}/ and {validation[1].name}/; keep one of them.")
    if validation:
        splits["validation"] = class_files(validation[0])
    return splits


def check_classes(where: str | Path, splits: Mapping[str, ClassFiles]) -> None:
    """Raise `DataError` unless there are two classes at least, and each has images in each split."""
    every = sorted({name for files in splits.values() for name in files})
    if len(every) < 2:
        only = f"one class only, {every[0]!r}" if every else "no class"
        raise DataError(f"{where} holds {only}; a task needs at least two.")
    for split, files in splits.items():
        missing = [name for name in every if not files.get(name)]
        if missing:
            others = f" (nor have {', '.join(map(repr, missing[1:5]))})" if missing[1:] else ""
            place = "" if split == "all" else f" in its {split} split"
            raise DataError(f"class {missing[0]!r} of {where} has no images{place}{others}; each class needs some.")
