"""The streams `office-home` and `office-home-incremental` (Lee et al. 2019, sec. 4; Lee et al. 2021, App. A).

`office-home`: the 65 classes in five groups of 13; a task for each group of Product images, then one for each group of
Real-World images. Of each class 60 % of the images are for training, 10 % for validation and 30 % for the test, each
rounded down.

`office-home-incremental`, of the second paper's code alone: six tasks of Product images. The first tells couches,
tables and paper clips apart, each further one a class more.

Details that change the numbers:
  * `classes=authors`: the groups of the authors' code, the same in both domains and in this order. The paper draws
    them at random, once; `classes=random` draws them from the seed, the same for both domains (App. D).
  * The test images are drawn from the seed as well, so trials differ in all data, as in the code.
  * Images are resized to 128 x 128 (bilinear, antialiased, the aspect ratio not kept) by Pillow; the authors' code
    resizes with skimage, whose antialiasing is a Gaussian. Pixels are 8-bit levels in [0, 1]; nothing is standardised.
  * Classes are not balanced. A label is the class's place in its group.
  * `office-home-incremental`, `images=redrawn`, the code's: each task divides its classes' images anew, so that an
    image may test one task and train a later one. `images=shared`: a class is divided once for all tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from everlearn.errors import DataError, MissingDataError
from everlearn.tasks.domains import Pool, held, pool_of_folder, pool_of_set, side_of, split_of_pool
from everlearn.tasks.draws import permutation
from everlearn.tasks.hub import open_image_set
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.pixels import Fit
from everlearn.tasks.rows import MissingShardsError, open_rows
from everlearn.tasks.task import Task, TaskStream
from everlearn.tasks.transforms import Standardise, standardise_splits

HUB = "flwrlabs/office-home"
DOMAINS = {"product": ("Product",), "real-world": ("RealWorld", "Real World", "Real_World")}
"""Each domain with its names: of folders, and in the hub's set."""

_FOLDERS = ("OfficeHomeDataset", "OfficeHomeDataset_10072016", "office-home", "office_home", "")

GROUPS: tuple[tuple[str, ...], ...] = tuple(
    tuple(group.split())
    for group in (
        "TV Sneakers Soda Telephone Radio Calendar Bottle Speaker Exit_Sign Scissors Bed Spoon Couch",
        "Trash_Can Fan Flipflops Mop Webcam Push_Pin Helmet Chair Oven Eraser Flowers Monitor Knives",
        "Refrigerator Desk_Lamp Screwdriver Bucket Pan Lamp_Shade Bike Mouse Printer Paper_Clip Drill Curtains "
        "Clipboards",
        "Candles Keyboard Backpack Postit_Notes Marker Hammer Glasses Laptop Sink Computer Pencil Notebook ToothBrush",
        "Kettle Batteries Ruler Mug File_Cabinet Folder Table Fork Shelf Toys Calculator Alarm_Clock Pen",
    )
)
"""The authors' groups."""

CLASSES = tuple(sorted((name for group in GROUPS for name in group), key=str.lower))
INCREMENTAL = ("Couch", "Table", "Paper_Clip", "Clipboards", "Bucket", "Notebook", "Bed", "Trash_Can")
"""The classes of the incremental stream in the order in which they come; the first task has three."""

_Options = Mapping[str, Value]


def class_groups(how: str, seed: int) -> tuple[tuple[str, ...], ...]:
    """The classes of a domain's five tasks; `how` is `authors` or `random`."""
    if how == "authors":
        return GROUPS
    order = permutation(len(CLASSES), seed, "office-home", "classes")
    return tuple(tuple(CLASSES[int(k)] for k in group) for group in np.split(order, len(GROUPS)))


def build(seed: int, data: Path | None, options: _Options) -> TaskStream:
    """Make `office-home` from the data folder, or from the hub without one.

    Raises:
        MissingDataError: the set is not there.
        DataError: a class is missing or has too few images, or a file cannot be read.
        ConfigurationError: a size below 1.
    """
    groups = class_groups(str(options["classes"]), seed)
    fit = Fit((side_of(options), side_of(options)))
    tasks = []
    for domain, pool in _pools(data, tuple(DOMAINS), CLASSES).items():
        pool = held(pool, fit, bool(options["in_memory"]))
        rows = {name: _divide(pool, name, seed, domain) for name in CLASSES}
        for number, group in enumerate(groups, start=1):
            tasks.append(_task(f"{domain}-{number}", group, pool, rows, fit, options))
    return TaskStream("office-home", seed, tuple(tasks), dict(options), INFOS["office-home"].about)


def build_incremental(seed: int, data: Path | None, options: _Options) -> TaskStream:
    """Make `office-home-incremental`; as `build`."""
    fit = Fit((side_of(options), side_of(options)))
    pool = held(_pools(data, ("product",), INCREMENTAL)["product"], fit, bool(options["in_memory"]))
    tasks = []
    for number in range(1, len(INCREMENTAL) - 1):
        words = (number,) if options["images"] == "redrawn" else ()
        names = INCREMENTAL[: number + 2]
        rows = {name: _divide(pool, name, seed, "product", *words) for name in names}
        tasks.append(_task(f"task-{number}", names, pool, rows, fit, options))
    name = "office-home-incremental"
    return TaskStream(name, seed, tuple(tasks), dict(options), INFOS[name].about)


def _pools(data: Path | None, domains: Sequence[str], classes: Sequence[str]) -> dict[str, Pool]:
    """The images of each domain: from folders in the data folder, from Parquet in it, or from the hub."""
    for place in () if data is None else (data / name for name in _FOLDERS):
        found = {name: [place / folder for folder in DOMAINS[name] if (place / folder).is_dir()] for name in domains}
        if all(found.values()):
            return {name: pool_of_folder(folders[0], classes) for name, folders in found.items()}
    try:
        images = open_image_set("office-home", HUB, "label", data, ("train",))["train"]
    except MissingDataError as error:
        if data is None or isinstance(error, MissingShardsError):
            raise
        raise MissingDataError(
            f"Office-Home is missing: {data} holds neither OfficeHomeDataset/ with Product/CLASS/00001.jpg and "
            f"RealWorld/CLASS/00001.jpg nor office-home/ with train.parquet (or train-*.parquet) of {HUB}; name "
            "another data folder with --data DIR or EVERLEARN_DATA, or name none to have the hub's downloaded."
        ) from error
    table = open_rows("office-home", HUB, data, ("train",))["train"].table
    if "domain" not in table.column_names:
        raise DataError(f"{images.where} has no column 'domain'; its columns are {', '.join(table.column_names)}.")
    told = np.array(table.select_columns(["domain"])["domain"][:])
    return {name: pool_of_set(images, classes, np.isin(told, DOMAINS[name])) for name in domains}


def _divide(pool: Pool, name: str, seed: int, domain: str, *words: int) -> list[np.ndarray]:
    """Rows of a class for training, validation and test: 60, 10 and 30 %, rounded down."""
    rows = pool.rows[name]
    count = len(rows)
    if count < 10:
        raise DataError(f"class {name!r} of {pool.where} has {count} images, but a tenth of them is to be set aside.")
    drawn = rows[permutation(count, seed, "office-home", domain, name, *words)]
    train, validation, test = count * 6 // 10, count // 10, count * 3 // 10
    return np.split(drawn, np.cumsum([train, validation, test]))[:3]


def _task(
    name: str, classes: Sequence[str], pool: Pool, rows: Mapping[str, list[np.ndarray]], fit: Fit, options: _Options
) -> Task:
    splits = [split_of_pool(pool, [rows[one][k] for one in classes], fit) for k in range(3)]
    how = cast(Standardise, options["standardise"])
    return Task(name, tuple(classes), *standardise_splits(splits[0], splits[1], splits[2], how))


_OPTIONS = {
    "size": Option(128, "side in pixels that images are resized to"),
    "standardise": Option(
        "none", "each task by its training split, each split by itself, or not", ("none", "train", "split")
    ),
    "in_memory": Option(True, "keep all images as 8-bit levels in memory (0.4 GB); false: decode them as needed"),
}


def _info(
    name: str, about: str, content: str, build: Callable[[int, Path | None, _Options], TaskStream],
    sizes: tuple[int, ...], options: Mapping[str, Option],
) -> StreamInfo:  # fmt: skip
    return StreamInfo(
        name=name,
        about=about,
        content=content,
        build=build,
        outline=lambda options: Outline(sizes, (3, side_of(options), side_of(options))),
        options={**options, **_OPTIONS},
        data="in the data folder OfficeHomeDataset/Product/ and RealWorld/, or office-home/train*.parquet; or the hub",
        hub=HUB,
        licence="free for research, not for trade, with citation (Venkateswara et al. 2017)",
    )


INFOS: Mapping[str, StreamInfo] = {
    "office-home": _info(
        "office-home",
        "things of home and office as products, then in real rooms (Lee et al. 2019)",
        "10 tasks of 13 classes, five of each domain, 3 x 128 x 128",
        build,
        (13,) * 10,
        {"classes": Option("authors", "the authors' groups, or drawn from the seed", ("authors", "random"))},
    ),
    "office-home-incremental": _info(
        "office-home-incremental",
        "products of three classes, and a class more with each task (code of Lee et al. 2021)",
        "6 tasks of 3 to 8 classes, 3 x 128 x 128",
        build_incremental,
        tuple(range(3, 9)),
        {"images": Option("shared", "a class is divided once, or anew for each task (authors)", ("shared", "redrawn"))},
    ),
}
