"""The streams `mnist` and `cifar10`: two-class tasks that are learned together (Lee et al. 2019, App. B.2 and C).

`tasks=homogeneous`: ten tasks, each telling one class (label 1) from all others (label 0). `heterogeneous`: five, the
first telling class 1 (label 1) from class 2 (label 0), the next class 3 from class 4, and so on.

    images a task, training / validation / test
    mnist, 3 %       300 / 60     homogeneous, `variant=authors`: 300 / 30     test 2000, heterogeneous 1800
    mnist, 30 %     3000 / 600    3000 / 300
    cifar10, 4 %     340 / 60     10 %: 840 / 160    30 %: 2500 / 500    50 %: 4160 / 840    70 %: 5840 / 1160    2000

Details that change the numbers:
  * `fraction` is of 10,000 images, as in the authors' code: about what two classes of either set hold. In a smaller
    set it is still so many images, as long as there are so many; of test images there are fewer in proportion.
  * Half of the images are of the class, half of the others. Where one side has too few, the other fills up, as in the
    authors' code: among MNIST's test images are 892 fives.
  * The images of a homogeneous task come from a fraction of the set that all ten share. `variant=paper`: of each class
    as many images as half a task, so that halves are even. `variant=authors`: of each class that fraction of its
    images, rounded down, of which there may be fewer than half a task needs: 166 for 170 at 4 % of CIFAR-10.
  * Training to validation is 5 to 1; the authors' homogeneous MNIST has 10 to 1 (`variant=authors`).
  * A twelfth of MNIST's images of each digit is set aside for validation, and a sixth of CIFAR-10's of each class; no
    training image of a task is among the validation images of any. The authors took MNIST's as TensorFlow's tutorial
    did, 5,000 without regard to digits. The test images are drawn from the seed too; theirs are the same in all trials.
  * Pixels of MNIST are in [0, 1]; those of CIFAR-10 are standardised task by task and split by split (authors).
  * Heads have two outputs where the paper says one (authors); the networks are `mnist` and `cifar`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.colours import class_labels
from everlearn.tasks.draws import parts, permutation
from everlearn.tasks.encoded import EncodedImages
from everlearn.tasks.hub import check_side, open_image_set
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.mnist import HUB as MNIST
from everlearn.tasks.pixels import to_float
from everlearn.tasks.task import SPLITS, Split, Task, TaskStream
from everlearn.tasks.transforms import Standardise, standardise_splits

CIFAR10 = "uoft-cs/cifar10"
_CLASSES = 10
_WHOLE = 10_000
"""Images that a fraction is of."""

_Pools = Mapping[str, list[np.ndarray]]
"""For each split the rows of each class, in random order."""


@dataclass(frozen=True)
class Sizes:
    """Images of a task in each split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A task before its images are decoded: for each split the rows of either class."""

    name: str
    classes: tuple[str, str]
    rows: Mapping[str, list[np.ndarray]]


@dataclass(frozen=True)
class _Published:
    """What differs between the two sets.

    Attributes:
        name: the stream's, and the set's folder.
        hub: the set on the Hugging Face hub.
        images: training images of the whole set.
        aside: share of each class's training images that is set aside for validation.
        shape: of the images.
        sizes: of a task, by its kind, fraction and variant.
    """

    name: str
    hub: str
    images: int
    aside: float
    shape: tuple[int, int, int]
    sizes: Callable[[str, float, str], Sizes]


def mnist_sizes(kind: str, fraction: float, variant: str) -> Sizes:
    """Images of an `mnist` task: so much of 10,000 to train on, and a fifth (or tenth) of that for validation."""
    train = int(_WHOLE * fraction + 0.5)
    ratio = 10 if kind == "homogeneous" and variant == "authors" else 5
    return Sizes(train, int(train / ratio + 0.5), 2000 if kind == "homogeneous" else 1800)


def cifar10_sizes(kind: str, fraction: float, variant: str) -> Sizes:
    """Images of a `cifar10` task: a sixth of so much of 10,000, in whole batches of 20, is for validation."""
    total = int(_WHOLE * fraction + 0.5)
    validation = 20 * round(total / 120) or max(1, round(total / 6))
    return Sizes(total - validation, validation, 2000)


def halves(own: np.ndarray, others: np.ndarray, count: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The first rows of both, half of `count` each; where one has too few, the other fills up.

    Args:
        own: rows of a task's class.
        others: rows of what it is told from.
        count: of both together.
        what: how an error names the images.

    Raises:
        ConfigurationError: there are not so many, or none of one.
    """
    first = min(len(own), max(count // 2, count - len(others)))
    if len(own) + len(others) < count or not 0 < first < count:
        raise ConfigurationError(
            f"{what} are wanted as {count} a task, but there are {len(own)} of its class and {len(others)} of the "
            "others to choose from; give another fraction, or a larger set."
        )
    return own[:first], others[: count - first]


def _pools(train: EncodedImages, test: EncodedImages, aside: float, seed: int, name: str) -> _Pools:
    pools: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for label, rows in enumerate(train.by_class()):
        what = f"class {train.classes[label]!r} of {train.where}"
        first, second = parts(len(rows), (1 - aside, aside), what, seed, name, "images", label)
        pools["train"].append(rows[first])
        pools["validation"].append(rows[second])
    for label, rows in enumerate(test.by_class()):
        pools["test"].append(rows[permutation(len(rows), seed, name, "test", label)])
    return pools


def _shared(pool: Sequence[np.ndarray], count: int, fraction: float, variant: str) -> list[np.ndarray]:
    """What homogeneous tasks draw their training or validation images from."""
    if variant == "authors":
        # What is whole but for the last bits of a product is whole.
        return [rows[: max(1, int(fraction * len(rows) + 1e-9))] for rows in pool]
    return [rows[: -(-count // 2)] for rows in pool]


def _told_apart(kind: str, pool: Sequence[np.ndarray], position: int, seed: int, *words: str) -> list[np.ndarray]:
    """Rows of a task's class, and of what it is told from."""
    if kind == "heterogeneous":
        return [pool[2 * position], pool[2 * position + 1]]
    rest = np.concatenate([rows for label, rows in enumerate(pool) if label != position])
    return [pool[position], rest[permutation(len(rest), seed, *words, "rest", position)]]


def _maker(of: _Published) -> Callable[[int, Path | None, Mapping[str, Value]], TaskStream]:
    return lambda seed, data, options: _build(of, seed, data, options)


def _build(of: _Published, seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream from the data folder, or from the hub without one.

    Raises:
        MissingDataError: the set is not there.
        DataError: it has other than ten classes or other sizes than the set, or a file cannot be read.
        ConfigurationError: a fraction out of range, or more images than there are.
    """
    kind, variant, fraction = str(options["tasks"]), str(options["variant"]), float(options["fraction"])
    if not 0 < fraction <= 1:
        raise ConfigurationError(f"fraction is wanted above 0 and at most 1, but came as {fraction:g}.")
    sets = open_image_set(of.name, of.hub, "label", data)
    train, test = sets["train"], sets["test"]
    if len(train.classes) != _CLASSES:
        raise DataError(f"{train.where} is wanted with {_CLASSES} classes, but has {len(train.classes)}.")
    for images in sets.values():
        check_side(images, of.shape[1], of.name)
    pools = dict(_pools(train, test, of.aside, seed, of.name))
    sizes = of.sizes(kind, fraction, variant)
    sizes = replace(sizes, test=max(2, min(sizes.test, sizes.test * len(test.labels) // _WHOLE)))
    if kind == "homogeneous":
        share = min(1.0, fraction * of.images / len(train.labels))
        pools["train"] = _shared(pools["train"], sizes.train, share, variant)
        pools["validation"] = _shared(pools["validation"], sizes.validation, share, variant)
    count = _CLASSES if kind == "homogeneous" else _CLASSES // 2
    how = cast(Standardise, options["standardise"])
    drawn = [_drawn(of, kind, position, train.classes, pools, sizes, seed) for position in range(count)]
    tasks = _tasks(drawn, sets, of.shape[0] == 1, how)
    return TaskStream(of.name, seed, tuple(tasks), dict(options), INFOS[of.name].about)


def _drawn(
    of: _Published, kind: str, position: int, classes: Sequence[str], pools: _Pools, sizes: Sizes, seed: int
) -> _Drawn:
    if kind == "heterogeneous":
        own, other = classes[2 * position : 2 * position + 2]
        title = f"{own}-vs-{other}"
    else:
        own, other = classes[position], "rest"
        title = f"{own}-vs-rest"
    rows = {}
    for split in SPLITS:
        mine, others = _told_apart(kind, pools[split], position, seed, of.name, split)
        first, second = halves(mine, others, getattr(sizes, split), f"{split} images of {title}")
        rows[split] = [second, first]
    return _Drawn(title, (other, own), rows)


def _tasks(drawn: Sequence[_Drawn], sets: Mapping[str, EncodedImages], grey: bool, how: Standardise) -> list[Task]:
    """Tasks of what was drawn; an image that several of them have is decoded once."""
    pixels: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, images in sets.items():
        splits = ("test",) if name == "test" else ("train", "validation")
        used = np.unique(np.concatenate([rows for one in drawn for split in splits for rows in one.rows[split]]))
        pixels[name] = used, images.decode(used, grey)
    made = []
    for one in drawn:
        splits = []
        for split, rows in one.rows.items():
            used, levels = pixels["test" if split == "test" else "train"]
            taken = levels[np.searchsorted(used, np.concatenate(rows))]
            splits.append(Split(to_float(taken), class_labels(rows)))
        made.append(Task(one.name, one.classes, *standardise_splits(splits[0], splits[1], splits[2], how)))
    return made


def _outline(shape: tuple[int, int, int]) -> Callable[[Mapping[str, Value]], Outline]:
    return lambda options: Outline((2,) * (_CLASSES if options["tasks"] == "homogeneous" else _CLASSES // 2), shape)


_SETS = (
    _Published("mnist", MNIST, 60_000, 1 / 12, (1, 28, 28), mnist_sizes),
    _Published("cifar10", CIFAR10, 50_000, 1 / 6, (3, 32, 32), cifar10_sizes),
)
_TASKS = Option(
    "homogeneous", "each class against the rest, or classes in pairs of two", ("homogeneous", "heterogeneous")
)
_VARIANT = Option("paper", "how homogeneous tasks draw: even halves, or as the authors' code", ("paper", "authors"))


def _info(of: _Published, title: str, fractions: str, standardise: str, licence: str) -> StreamInfo:
    least = float(fractions.split(",")[0])
    return StreamInfo(
        name=of.name,
        about=f"{title} in two-class tasks that are learned together (Lee et al. 2019, App. C)",
        content=f"10 tasks of 2 classes, or 5, {of.shape[0]} x {of.shape[1]} x {of.shape[2]}",
        build=_maker(of),
        outline=_outline(of.shape),
        options={
            "tasks": _TASKS,
            "fraction": Option(least, f"of 10,000 images, for each task: {fractions} in the paper"),
            "variant": _VARIANT,
            "standardise": Option(
                standardise, "each split by itself, by the task's training split, or not", ("split", "train", "none")
            ),
        },
        data=f"{of.name}/train.parquet and test.parquet in the data folder, or the hub",
        hub=of.hub,
        licence=licence,
    )


INFOS: Mapping[str, StreamInfo] = {
    "mnist": _info(_SETS[0], "MNIST", "0.03, 0.05, 0.07, 0.1, 0.3", "none", "CC BY-SA 3.0"),
    "cifar10": _info(
        _SETS[1],
        "CIFAR-10",
        "0.04, 0.1, 0.3, 0.5, 0.7",
        "split",
        "free for research, with citation (Krizhevsky 2009)",
    ),
}
