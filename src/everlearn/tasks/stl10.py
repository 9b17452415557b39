"""The streams `stl10` and `stl10-five-way`: STL-10 behind noise and exchanged channels (Lee et al. 2021, App. A and E).

                      tasks     of a class: train / validation / test       of a task
    stl10             20 of 3   106 / 19 / 800, a quarter of 500            318 / 57 / 2400
    stl10-five-way    15 of 5    25 / 25 / 800, a tenth of 500              125 / 125 / 4000

Each task draws its classes, no two tasks the same set of them; a mean and a deviation of Gaussian noise; and an order
of the three channels, which may be as it was. All images of a task, those of the test too, are seen through its noise.

Details that change the numbers:
  * `noise=authors`: the mean is one of -5, -2.5, 0 and 2.5 % of the pixels' range and the deviation 0 or 2.5 %, as in
    the code. `paper`: "a mean and variance randomly sampled from {-10%, -5%, 0%, 5%, 10%}": the mean one of these five;
    no variance is negative, so the deviation is one of the other three.
  * Noise is added once, in whole levels of 255, clipped to the pixels' range; an image looks the same in each epoch,
    and otherwise in another task.
  * Pixels are in [-0.5, 0.5]; nothing is standardised.
  * `design`: the classes, noise and channels of all tasks are drawn from this seed, so they are the same in all trials,
    as in the code; with -1 from each trial's own. Which images train is drawn from the trial's seed, for each task
    anew: an image that trains one task may validate another.
  * A label is the class's place in its task's draw.
  * Images lie in memory once, as 8-bit levels (0.4 GB); twenty tasks of numbers would be 6 GB.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from everlearn.errors import ConfigurationError, DataError
from everlearn.seeds import derive
from everlearn.tasks.colours import Disguise, colours_split
from everlearn.tasks.draws import permutation
from everlearn.tasks.hub import open_image_set
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.standardising import Statistics
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.tasks.transforms import standardise

HUB = "tanganke/stl10"
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
SIDE = 96
_BINARIES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
_FOLDERS = ("stl10_binary", "stl10", "STL-10/raw_data", "")
_CENTRED = Statistics(torch.full((3,), 0.5), torch.ones(3))
_NOISES: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "authors": ((-0.05, -0.025, 0.0, 0.025), (0.0, 0.025)),
    "paper": ((-0.1, -0.05, 0.0, 0.05, 0.1), (0.0, 0.05, 0.1)),
    "none": ((0.0,), (0.0,)),
}
"""Means and deviations to draw from."""


@dataclass(frozen=True)
class Plan:
    """One of the two published streams: tasks, classes of each, the share of a class's training images that is used,
    and the part of those that is for validation."""

    tasks: int
    classes: int
    share: float
    validation: float


PLANS = {"stl10": Plan(20, 3, 0.25, 0.15), "stl10-five-way": Plan(15, 5, 0.1, 0.5)}


@dataclass(frozen=True, eq=False)
class Images:
    """`pixels` `[N, 96, 96, 3]`, uint8, in the order of a hash of them; `rows[k]` are those of class k."""

    pixels: np.ndarray
    rows: list[np.ndarray]


def design(plan: Plan, seed: int, noise: str, channels: str) -> list[tuple[tuple[int, ...], Disguise]]:
    """Classes and disguise of each task; a set of classes that was drawn before is drawn again."""
    means, deviations = _NOISES[noise]
    made: list[tuple[tuple[int, ...], Disguise]] = []
    for task in range(plan.tasks):
        attempt = 0
        while True:
            classes = tuple(permutation(10, seed, "stl10", "classes", task, attempt)[: plan.classes].tolist())
            if all(set(classes) != set(other) for other, _ in made):
                break
            attempt += 1
        first, second, third = (
            permutation(3, seed, "stl10", "channels", task).tolist() if channels == "exchanged" else (0, 1, 2)
        )
        mean = means[int(permutation(len(means), seed, "stl10", "mean", task)[0])]
        deviation = deviations[int(permutation(len(deviations), seed, "stl10", "deviation", task)[0])]
        made.append((classes, Disguise(mean, deviation, (first, second, third))))
    return made


def build(name: str, seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make a stream from the data folder, or from the hub without one.

    Raises:
        MissingDataError: the set is not there.
        DataError: it is not STL-10, or a file cannot be read.
    """
    plan, drawn_from = PLANS[name], int(options["design"])
    if drawn_from < -1:
        raise ConfigurationError(f"design is wanted as a seed, or -1 for the stream's own, but came as {drawn_from}.")
    train, test = read_stl10(data)
    tasks = []
    designs = design(plan, seed if drawn_from < 0 else drawn_from, str(options["noise"]), str(options["channels"]))
    for task, (classes, seen) in enumerate(designs):
        learned, kept = [], []
        for label in classes:
            first, second = _draw(train.rows[label], plan, seed, name, task, label)
            learned.append(first)
            kept.append(second)
        splits = [
            _split(train, learned, seen, derive(seed, name, task, "train")),
            _split(train, kept, seen, derive(seed, name, task, "train")),
            _split(test, [test.rows[label] for label in classes], seen, derive(seed, name, task, "test")),
        ]
        tasks.append(Task(f"task-{task + 1}", tuple(CLASSES[label] for label in classes), *splits))
    return TaskStream(name, seed, tuple(tasks), dict(options), INFOS[name].about)


def _draw(pool: np.ndarray, plan: Plan, seed: int, name: str, task: int, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows of a class; the validation part is rounded up."""
    count = int(len(pool) * plan.share)
    aside = int(np.ceil(count * plan.validation - 1e-9))
    if not 0 < aside < count:
        raise DataError(
            f"STL-10 is wanted with 500 training images of {CLASSES[label]}, of which {plan.share:.0%} are used, but "
            f"has {len(pool)}; fetch it again."
        )
    drawn = pool[permutation(len(pool), seed, name, "images", task, label)[:count]]
    return drawn[aside:], drawn[:aside]


def _split(images: Images, rows: Sequence[np.ndarray], seen: Disguise, seed: int) -> Split:
    made = colours_split(images.pixels, rows, Disguise(seen.mean, seen.deviation, seen.channels, seed))
    return Split(standardise(made.images, _CENTRED), made.labels)


def read_stl10(data: Path | None) -> tuple[Images, Images]:
    """Training and test images: from the official binaries or Parquet in the data folder, or from the hub.

    Raises:
        MissingDataError: the set is nowhere there.
        DataError: it is not as published.
    """
    for place in () if data is None else (data / folder for folder in _FOLDERS):
        if all((place / file).is_file() for file in _BINARIES):
            return _binary(place, "train"), _binary(place, "test")
    sets = open_image_set("stl10", HUB, "label", data)
    made = []
    for images in sets.values():
        # A set without names has its labels in the official order.
        names = CLASSES if images.classes == tuple("0123456789") else images.classes
        if sorted(names) != sorted(CLASSES):
            raise DataError(f"{images.where} is wanted with the classes {', '.join(CLASSES)}, but has others.")
        place = np.array([CLASSES.index(name) for name in names])
        made.append(_ordered(images.decode(np.arange(len(images.labels))), place[images.labels], images.where))
    return made[0], made[1]


def _binary(folder: Path, split: str) -> Images:
    """Official files: 3 x 96 x 96 levels an image, each channel column by column; labels from 1."""
    levels, labels = (np.fromfile(folder / f"{split}_{part}.bin", dtype=np.uint8) for part in "Xy")
    size = 3 * SIDE * SIDE
    if not len(labels) or len(levels) != len(labels) * size or labels.min() < 1 or labels.max() > len(CLASSES):
        raise DataError(
            f"{folder}/{split}_X.bin is wanted with {size} bytes for each label from 1 to 10 of {split}_y.bin, but "
            f"has {len(levels)} for {len(labels)} labels; fetch it again."
        )
    pixels = levels.reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1)
    return _ordered(np.ascontiguousarray(pixels), labels.astype(np.int64) - 1, str(folder))


def _ordered(pixels: np.ndarray, labels: np.ndarray, where: str) -> Images:
    if pixels.shape[1:] != (SIDE, SIDE, 3):
        raise DataError(f"{where} is wanted with images of {SIDE} x {SIDE} pixels, but has {pixels.shape[1:3]}.")
    hashes = [hashlib.sha256(image.tobytes()).digest() for image in pixels]
    order = np.array(sorted(range(len(hashes)), key=lambda row: (hashes[row], int(labels[row]))))
    sorted_labels = labels[order]
    return Images(pixels[order], [np.flatnonzero(sorted_labels == label) for label in range(len(CLASSES))])


def _info(name: str, about: str, content: str) -> StreamInfo:
    plan = PLANS[name]
    return StreamInfo(
        name=name,
        about=about,
        content=content,
        build=lambda seed, data, options: build(name, seed, data, options),
        outline=lambda options: Outline((plan.classes,) * plan.tasks, (3, SIDE, SIDE)),
        options={
            "noise": Option("authors", "as in the code, as the paper says, or none", ("authors", "paper", "none")),
            "channels": Option("exchanged", "in an order drawn for each task, or kept", ("exchanged", "kept")),
            "design": Option(0, "seed of classes, noise and channels, for all trials; -1: each trial's own"),
        },
        data="in the data folder stl10_binary/ with train_X.bin ..., or stl10/train.parquet and test.parquet; or hub",
        hub=HUB,
        licence="images of ImageNet, for research, with citation (Coates et al. 2011)",
    )


INFOS: Mapping[str, StreamInfo] = {
    "stl10": _info(
        "stl10",
        "STL-10, three classes a task, behind noise and exchanged channels (Lee et al. 2021)",
        "20 tasks of 3 classes, 3 x 96 x 96",
    ),
    "stl10-five-way": _info(
        "stl10-five-way",
        "STL-10, five classes a task, for transfer by groups of layers (Lee et al. 2021, App. E)",
        "15 tasks of 5 classes, 3 x 96 x 96",
    ),
}
