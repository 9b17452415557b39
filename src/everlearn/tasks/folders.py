"""Tasks from folders of image files, and the stream `folders`: one sub-folder a task, or what a YAML file tells.

A task's folder holds one folder a class, or `train/`, `val/` (or `valid/`, `validation/`) and `test/` that
hold the classes:

    fruit/apple/1.jpg                         divided at random, class by class
    fruit/train/apple/1.jpg, fruit/test/...   as it comes; without val/, a part of train/ is set aside

Files of other kinds, and files and folders whose names begin with a dot, are passed over.
"""

from collections.abc import Mapping
from pathlib import Path

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks.draws import check_fractions
from everlearn.tasks.file_tasks import FRACTIONS, Handling, Recipe, make_task
from everlearn.tasks.info import Option, StreamInfo, Value
from everlearn.tasks.listed import IMAGE_SUFFIXES, VALIDATION_NAMES, class_files, folder_files, subfolders
from everlearn.tasks.paths import folder_name, path_of
from everlearn.tasks.pixels import Size, parse_size
from everlearn.tasks.standardising import IMAGENET
from everlearn.tasks.stream_file import content_mark, is_stream_file, read_stream_file, recipes
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.tasks.transforms import Standardise, standardise, standardise_splits

__all__ = ["IMAGE_SUFFIXES", "INFO", "VALIDATION_NAMES", "class_files", "folder_task", "task_from_folder"]


def task_from_folder(
    folder: Path,
    name: str | None = None,
    size: Size | None = None,
    grey: bool = False,
    seed: int = 0,
    fractions: tuple[float, float, float] = FRACTIONS,
    in_memory: bool = True,
    skip_corrupt: bool = False,
    cache: Path | None = None,
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
        skip_corrupt: whether files that cannot be read are passed over, with a warning that names them.
        cache: a folder that decoded images are kept in, and read from as they are needed.

    Raises:
        MissingDataError: the folder does not exist.
        DataError: it holds no images or one class only, a class is missing in a split or too small to divide,
            files are empty or cannot be read, or two images differ in size and no size is given.
        ConfigurationError: the fractions are not above 0 or do not sum to 1; images are to be decoded as needed,
            without a size.
    """
    return folder_task(folder, name, seed, Handling(size, grey, in_memory, cache, skip_corrupt), fractions)


def folder_task(
    folder: Path, name: str | None, seed: int, how: Handling, fractions: tuple[float, float, float] = FRACTIONS
) -> Task:
    """As `task_from_folder`, of which the arguments and errors are."""
    check_fractions(fractions)
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingDataError(f"there is no folder {folder}; give one that holds a folder of images for each class.")
    return make_task(_recipe(folder, name, fractions), seed, how)


def _recipe(folder: Path, name: str | None = None, fractions: tuple[float, float, float] = FRACTIONS) -> Recipe:
    # Of a link its own name, and of "." that of the folder it stands for.
    name = folder_name(folder) if name is None else name
    return Recipe(name, str(folder), folder, folder_files(folder), fractions)


def build(seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream: one task for each folder in `path`, in the order of their names, or as its YAML file tells.

    Every task is standardised by the statistics of its training split, or as `standardise` says.

    Raises:
        ConfigurationError: no path is given, a size that is none, or no size where images are decoded as needed; a
            YAML file that says what no stream is, or that was changed since.
        MissingDataError: there is no such folder or file.
        DataError: as for `task_from_folder`, or the tasks' images differ in size.
    """
    path = str(options["path"])
    if not path:
        raise ConfigurationError("stream 'folders' wants the option path: a folder that holds a folder for each task.")
    size, root = parse_size(str(options["size"])), path_of(path, "the option path")
    cache = str(options.get("cache", ""))
    how = Handling(
        size,
        bool(options["grey"]),
        bool(options["in_memory"]),
        path_of(cache, "the option cache") if cache else None,
        bool(options.get("skip_corrupt", False)),
        int(options.get("per_class", 0)),
    )
    found = _told(root, str(options.get("content", ""))) if is_stream_file(path) else _found(root)
    tasks = tuple(_standardised(make_task(recipe, seed, how), str(options["standardise"])) for recipe in found)
    return TaskStream("folders", seed, tasks, dict(options), INFO.about)


def _found(root: Path) -> list[Recipe]:
    if not root.is_dir():
        raise MissingDataError(f"there is no folder {root}; path names one that holds a folder for each task.")
    folders = subfolders(root)
    if not folders:
        raise DataError(f"{root} holds no folders; each task is wanted as {root.name}/TASK/CLASS/NAME.jpg.")
    return [_recipe(folder) for folder in folders]


def _told(file: Path, content: str) -> list[Recipe]:
    told = read_stream_file(file)
    if content and content != content_mark(file):
        raise ConfigurationError(
            f"{file} was changed since this run began; change it back to go on, or begin a run of its own."
        )
    return recipes(file, told)


def told(options: Mapping[str, Value]) -> dict[str, Value]:
    """The options that the YAML file sets, if `path` is one, and a mark of its content.

    Raises:
        ConfigurationError: the file says what no stream is; the path is none.
    """
    file = path_of(str(options["path"]), "the option path")
    if not is_stream_file(str(file)) or not file.is_file():
        return {}
    return {**read_stream_file(file).options(file.parent), "content": content_mark(file)}


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
    about="your own images: a folder that holds a folder for each task, or a YAML file that tells the tasks",
    content="a task a folder, a class a folder in it; every task of one image size",
    build=build,
    outline=None,
    options={
        "path": Option(
            "", "TASK/CLASS/NAME.jpg, or TASK/train/CLASS/NAME.jpg with val/ and test/ beside; or a YAML file"
        ),
        "size": Option("", "height x width that all images are resized to, such as 64x64; empty: they agree"),
        "grey": Option(False, "one channel instead of three"),
        "standardise": Option(
            "train",
            "each task by its training images, all by ImageNet's RGB values (for networks trained on it), or not",
            ("train", "imagenet", "none"),
        ),
        "in_memory": Option(True, "decode all images at once; false: as they are needed, if memory cannot hold them"),
        "cache": Option(
            "", "a folder that decoded images are kept in: read as they are needed, at the speed of memory", quiet=True
        ),
        "skip_corrupt": Option(False, "pass over files that cannot be read, and say which", quiet=True),
        "per_class": Option(0, "training images of a class at most, drawn by the seed; 0: all", quiet=True),
        "content": Option("", "set here: marks what a YAML file says", quiet=True, hidden=True),
    },
    data="the folder that the option path names",
    hub=None,
    licence="yours",
    told=told,
)
