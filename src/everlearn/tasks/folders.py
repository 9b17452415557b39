"""Tasks from folders of image files, and the stream `folders`: one sub-folder a task.

A task's folder holds one folder a class, or `train/`, `val/` (or `valid/`, `validation/`) and `test/` that
hold the classes:

    fruit/apple/1.jpg                         divided at random, class by class
    fruit/train/apple/1.jpg, fruit/test/...   as it comes; without val/, a part of train/ is set aside

Files of other kinds, and files and folders whose names begin with a dot, are passed over.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks.draws import check_fractions, parts
from everlearn.tasks.info import Option, StreamInfo, Value
from everlearn.tasks.pixels import Fit, Size, parse_size, read_image, stack, to_float
from everlearn.tasks.standardising import IMAGENET
from everlearn.tasks.stored import ImageFiles, StoredImages, sized
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.tasks.transforms import Standardise, standardise, standardise_splits

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
VALIDATION_NAMES = ("val", "valid", "validation")

_Files = dict[str, list[Path]]
"""Image files by class, in the order of the classes' names."""


def task_from_folder(
    folder: Path,
    name: str | None = None,
    size: Size | None = None,
    grey: bool = False,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    in_memory: bool = True,
) -> Task:
    """A task from a folder of image files; pixels in [0, 1], not standardised.

    Args:
        folder: as this module's head draws it; the classes are in the order of their names.
        name: the task's; the folder's by default.
        size: height and width that all images are resized to (the aspect ratio is not kept); None: they
            agree.
        grey: one channel instead of RGB.
        seed: of the division into splits.
        fractions: train, validation, test of every class; with `train/` and `test/` given, only the
            proportion of the first two counts.
        in_memory: whether all images are decoded at once; otherwise when they are needed, which wants a size. A
            file that is no image is then found when it is needed.

    Raises:
        MissingDataError: the folder does not exist.
        DataError: it holds no images or one class only, a class is missing in a split or too small to divide,
            a file is empty or cannot be read, or two images differ in size and no size is given.
        ConfigurationError: the fractions are not above 0 or do not sum to 1; images are to be decoded as needed,
            without a size.
    """
    check_fractions(fractions)
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingDataError(f"there is no folder {folder}; give one that holds a folder of images for each class.")
    title = name or folder.resolve().name
    files = _given(folder) if _is_divided(folder) else {"all": class_files(folder)}
    _check_classes(folder, files)
    divided = _divide(folder, files, seed, fractions)
    made = _decode(folder, divided, grey, size) if in_memory else _store(folder, divided, grey, size)
    return Task(title, tuple(divided["train"]), made["train"], made["validation"], made["test"])


def _is_divided(folder: Path) -> bool:
    """Whether `train/` is a split rather than a class of trains: then it holds folders."""
    return (folder / "train").is_dir() and bool(_subfolders(folder / "train"))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def class_files(folder: Path) -> dict[str, list[Path]]:
    """The image files of `folder/CLASS/` by class, in the order of names.

    Raises:
        DataError: there is no class, or one without images.
    """
    found = {
        sub.name: sorted(
            file for file in sub.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
        )
        for sub in _subfolders(folder)
    }
    if not any(found.values()):
        raise DataError(
            f"{folder} holds no folder of images for a class; images are wanted as {folder.name}/CLASS/NAME.jpg "
            f"(or {', '.join(sorted(IMAGE_SUFFIXES - {'.jpg'}))})."
        )
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise DataError(f"class {empty[0]!r} of {folder} holds no images; add some or take the folder out.")
    return found


def _given(folder: Path) -> dict[str, _Files]:
    """The splits that the folder comes with; validation may be missing."""
    if not (folder / "test").is_dir():
        raise DataError(f"{folder} has train/ but no test/; add it, or put the classes directly into {folder}.")
    splits = {"train": class_files(folder / "train"), "test": class_files(folder / "test")}
    validation = [folder / name for name in VALIDATION_NAMES if (folder / name).is_dir()]
    if len(validation) > 1:
        raise DataError(f"{folder} has both {validation[0].name}/ and {validation[1].name}/; keep one of them.")
    if validation:
        splits["validation"] = class_files(validation[0])
    return splits


def _check_classes(folder: Path, splits: Mapping[str, _Files]) -> None:
    every = sorted({name for files in splits.values() for name in files})
    if len(every) < 2:
        raise DataError(f"{folder} holds one class only, {every[0]!r}; a task needs at least two.")
    for split, files in splits.items():
        missing = [name for name in every if name not in files]
        if missing:
            raise DataError(
                f"class {missing[0]!r} of {folder} has no images in its {split} split; each class needs some."
            )


def _divide(folder: Path, files: dict[str, _Files], seed: int, fractions: Sequence[float]) -> dict[str, _Files]:
    if "validation" in files:
        return files
    if "all" in files:
        source, names, shares = files["all"], ("train", "validation", "test"), tuple(fractions)
    else:
        both = fractions[0] + fractions[1]
        source, names, shares = (
            files["train"],
            ("train", "validation"),
            (fractions[0] / both, fractions[1] / both),
        )
    divided = {name: dict[str, list[Path]]() for name in names}
    for label, pool in source.items():
        drawn = parts(len(pool), shares, f"class {label!r} of {folder}", seed, "folder", label)
        for name, rows in zip(names, drawn, strict=True):
            divided[name][label] = [pool[row] for row in sorted(rows.tolist())]
    return divided if "all" in files else {**divided, "test": files["test"]}


def _decode(folder: Path, splits: Mapping[str, _Files], grey: bool, size: Size | None) -> dict[str, Split]:
    """All splits' images in one go, so that any two of differing size are found."""
    files = [file for split in splits.values() for pool in split.values() for file in pool]
    names = [str(file.relative_to(folder.parent)) for file in files]
    images = [read_image(file, str(file), grey, size) for file in files]
    pixels = to_float(stack(images, names))
    made, start = {}, 0
    for name, split in splits.items():
        labels = _labels(split)
        made[name] = Split(pixels[start : start + len(labels)].clone(), labels)
        start += len(labels)
    return made


def _store(folder: Path, splits: Mapping[str, _Files], grey: bool, size: Size | None) -> dict[str, Split]:
    fit = Fit(sized(size, str(folder)))
    made = {}
    for name, split in splits.items():
        files = ImageFiles(folder, tuple(str(file.relative_to(folder)) for pool in split.values() for file in pool))
        made[name] = Split(StoredImages(files, np.arange(len(files.files)), fit, grey), _labels(split))
    return made


def _labels(split: _Files) -> Tensor:
    counts = [len(pool) for pool in split.values()]
    return torch.from_numpy(np.repeat(np.arange(len(counts)), counts).astype(np.int64))


def build(seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream: one task for each folder in `path`, in the order of their names.

    Every task is standardised by the statistics of its training split, or as `standardise` says.

    Raises:
        ConfigurationError: no path is given, a size that is none, or no size where images are decoded as needed.
        MissingDataError: there is no such folder.
        DataError: as for `task_from_folder`, or the tasks' images differ in size.
    """
    path = str(options["path"])
    if not path:
        raise ConfigurationError("stream 'folders' wants the option path: a folder that holds a folder for each task.")
    root, size = Path(path).expanduser(), parse_size(str(options["size"]))
    if not root.is_dir():
        raise MissingDataError(f"there is no folder {root}; path names one that holds a folder for each task.")
    folders = _subfolders(root)
    if not folders:
        raise DataError(f"{root} holds no folders; each task is wanted as {root.name}/TASK/CLASS/NAME.jpg.")
    grey, in_memory = bool(options["grey"]), bool(options["in_memory"])
    made = (task_from_folder(one, None, size, grey, seed, in_memory=in_memory) for one in folders)
    tasks = tuple(_standardised(task, str(options["standardise"])) for task in made)
    return TaskStream("folders", seed, tasks, dict(options), INFO.about)


def _standardised(task: Task, how: str) -> Task:
    splits = task.splits()
    if how == "imagenet":
        three = tuple(Split(standardise(split.images, IMAGENET), split.labels) for split in splits.values())
    else:
        kind: Standardise = "train" if how == "train" else "none"
        three = standardise_splits(splits["train"], splits["validation"], splits["test"], kind)
    return Task(task.name, task.classes, *three)


INFO = StreamInfo(
    name="folders",
    about="your own images: a folder that holds a folder for each task",
    content="a task a folder, a class a folder in it; every task of one image size",
    build=build,
    outline=None,
    options={
        "path": Option("", "the folder: TASK/CLASS/NAME.jpg, or TASK/train/CLASS/NAME.jpg with val/ and test/ beside"),
        "size": Option("", "height x width that all images are resized to, such as 64x64; empty: they agree"),
        "grey": Option(False, "one channel instead of three"),
        "standardise": Option(
            "train",
            "each task by its training images, all by ImageNet's RGB values (for networks trained on it), or not",
            ("train", "imagenet", "none"),
        ),
        "in_memory": Option(True, "decode all images at once; false: as they are needed, if memory cannot hold them"),
    },
    data="the folder that the option path names",
    hub=None,
    licence="yours",
)
