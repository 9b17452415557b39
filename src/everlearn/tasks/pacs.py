"""The stream `pacs`: photos of seven kinds of thing, then cartoons of the same, in place of Office-Home's two domains.

Each domain's classes are cut into `parts` tasks; first come those of the photos, then those of the cartoons, with the
same classes in the same order. Two parts: dog, elephant, giraffe, guitar; and horse, house, person. The network is
Office-Home's at 128 x 128.

Details that change the numbers:
  * Test images are those of the set; an eighth of the training images of each class is set aside for validation.
  * Nothing is standardised, as in `office-home`; pixels are 8-bit levels in [0, 1].
  * `fraction` takes that share of each class in each split, at least one image; a smaller share is part of a larger.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np

from everlearn.errors import MissingDataError
from everlearn.tasks.domains import held, pool_of_set, side_of, split_of_pool
from everlearn.tasks.draws import check_share, parts, permutation
from everlearn.tasks.hub import open_image_set
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.pairs import groups_of
from everlearn.tasks.pixels import Fit
from everlearn.tasks.task import Task, TaskStream
from everlearn.tasks.transforms import Standardise, standardise_splits

DOMAINS = ("photo", "cartoon")
CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
_VALIDATION = 1 / 8


def build(seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream from `DIR/pacs/` of the data folder.

    Raises:
        MissingDataError: the set is not there.
        DataError: a class is missing or has too few images, or a file cannot be read.
        ConfigurationError: a size below 1, a number of parts that cannot be had, or a fraction out of range.
    """
    if data is None:
        raise MissingDataError(
            "PACS is read from a data folder that holds pacs/ with photo_train.parquet, photo_test.parquet, "
            "cartoon_train.parquet and cartoon_test.parquet; name it with --data DIR or EVERLEARN_DATA."
        )
    fit = Fit((side_of(options), side_of(options)))
    names = [f"{domain}_{split}" for domain in DOMAINS for split in ("train", "test")]
    sets = open_image_set("pacs", "", "label", data, names)
    how, share = cast(Standardise, options["standardise"]), check_share(float(options["fraction"]))
    tasks = []
    for domain in DOMAINS:
        train, test = (
            held(pool_of_set(sets[f"{domain}_{split}"], CLASSES), fit, bool(options["in_memory"]))
            for split in ("train", "test")
        )
        divided = {name: _divide(rows, name, seed, domain, share) for name, rows in train.rows.items()}
        tested = {
            name: np.sort(_some(rows[permutation(len(rows), seed, "pacs", domain, "test", name)], share))
            for name, rows in test.rows.items()
        }
        for number, group in groups_of("PACS", CLASSES, {}, int(options["parts"])).items():
            splits = standardise_splits(
                split_of_pool(train, [divided[name][0] for name in group], fit),
                split_of_pool(train, [divided[name][1] for name in group], fit),
                split_of_pool(test, [tested[name] for name in group], fit),
                how,
            )
            tasks.append(Task(f"{domain}-{number}", tuple(group), *splits))
    return TaskStream("pacs", seed, tuple(tasks), dict(options), INFO.about)


def _divide(rows: np.ndarray, name: str, seed: int, domain: str, share: float) -> list[np.ndarray]:
    what = f"class {name!r} of {domain}_train"
    drawn = parts(len(rows), (1 - _VALIDATION, _VALIDATION), what, seed, "pacs", domain, name)
    return [_some(rows[part], share) for part in drawn]


def _some(rows: np.ndarray, share: float) -> np.ndarray:
    """The first of them, at least one."""
    return rows[: max(1, int(len(rows) * share + 0.5))]


def _outline(options: Mapping[str, Value]) -> Outline:
    counts = [len(group) for group in groups_of("PACS", CLASSES, {}, int(options["parts"])).values()]
    return Outline(tuple(counts * len(DOMAINS)), (3, side_of(options), side_of(options)))


INFO = StreamInfo(
    name="pacs",
    about="seven kinds of thing in photos, then in cartoons: two domains, as Office-Home has",
    content="4 tasks of 4 and 3 classes, two of each domain, 3 x 128 x 128",
    build=build,
    outline=_outline,
    options={
        "parts": Option(2, "tasks that each domain's seven classes are cut into: 1, 2 or 3"),
        "size": Option(128, "side in pixels that images are resized to"),
        "standardise": Option(
            "none", "each task by its training split, each split by itself, or not", ("none", "train", "split")
        ),
        "fraction": Option(1.0, "of the images of each class in each split, for a quick look"),
        "in_memory": Option(True, "keep all images as 8-bit levels in memory (0.2 GB); false: decode them as needed"),
    },
    data="pacs/ with photo_train.parquet, photo_test.parquet, cartoon_train.parquet and cartoon_test.parquet",
    hub=None,
    licence="for research, with citation (Li et al. 2017)",
)
