"""An old task and a new one, from two published sets: what the streams of Learning without Forgetting are made of.

Everything here works on images that are still encoded: parts are set aside, thinned and cut before any is decoded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.draws import check_share, parts, permutation
from everlearn.tasks.encoded import EncodedImages
from everlearn.tasks.pixels import Fit
from everlearn.tasks.standardising import Statistics
from everlearn.tasks.stored import StoredImages
from everlearn.tasks.task import Split, Task
from everlearn.tasks.transforms import standardise, statistics

Groups = Mapping[str, Sequence[str]]
"""Names of classes by the name of their part."""


@dataclass(frozen=True)
class ImageSet:
    """A published set, none of its images decoded.

    Attributes:
        name: of the task that it becomes.
        classes: names of the labels.
        train: its training images, before any are set aside; None where they are not wanted.
        test: what is reported; None where there are no images of it at all.
        multi_label: whether an image may be of several classes.
        groups: how its classes are cut into so many parts, where that is not by equal cuts in their order.
    """

    name: str
    classes: tuple[str, ...]
    train: Split | None
    test: Split | None
    multi_label: bool = False
    groups: Mapping[int, Groups] = field(default_factory=dict)


def encoded_split(images: EncodedImages, fit: Fit, by_pixels: bool = True) -> Split:
    """A split of a set from Parquet files or the hub.

    Args:
        images: the split.
        fit: how its images come to one size.
        by_pixels: whether the order is that of the pixels' hashes, class by class, so that any mirror of the set
            gives the same draws. That decodes every image once, which hours would not suffice for in ImageNet.
    """
    rows = np.concatenate(images.by_class()) if by_pixels else np.arange(len(images.labels))
    return Split(StoredImages(images, rows, fit), torch.from_numpy(images.labels[rows].astype(np.int64)))


def make_task(images: ImageSet, validation: float, seed: int, fraction: float = 1.0, most: int | None = None) -> Task:
    """A task of all classes of a set.

    Args:
        images: the set.
        validation: the share of its training images that is set aside, of each class alike.
        seed: of the draws.
        fraction: of the training images that are left, how many are learned from; of each class alike, at least one.
            A smaller fraction is part of a larger one. Of a multi-label set the images are drawn without regard to
            classes.
        most: images of a class of which the fraction is taken; None: all.

    Raises:
        ConfigurationError: a share or fraction out of range.
        DataError: a class has too few images.
    """
    check_share(fraction)
    if not 0 < validation < 1:
        raise ConfigurationError(f"validation is wanted above 0 and below 1, but came as {validation:g}.")
    if images.train is None:
        return Task(images.name, images.classes, test=images.test, multi_label=images.multi_label)
    learned, kept = [], []
    for label, pool in enumerate(_pools(images.train, len(images.classes))):
        what = images.name if images.train.multi_label else f"class {images.classes[label]!r} of {images.name}"
        first, second = parts(len(pool), (1 - validation, validation), what, seed, images.name, "aside", label)
        count = max(1, int((len(first) if most is None else min(most, len(first))) * fraction + 0.5))
        drawn = first[permutation(len(first), seed, images.name, "fraction", label)[:count]]
        learned.append(pool[np.sort(drawn)])
        kept.append(pool[np.sort(second)])
    train, aside = (subset(images.train, np.concatenate(rows)) for rows in (learned, kept))
    return Task(images.name, images.classes, train, aside, images.test)


def _pools(split: Split, classes: int) -> list[np.ndarray]:
    """Positions by class; of a multi-label split all in one."""
    if split.multi_label:
        return [np.arange(len(split))]
    labels = split.labels.numpy()
    return [np.flatnonzero(labels == label) for label in range(classes)]


def subset(split: Split, index: np.ndarray) -> Split:
    """The images at these positions."""
    chosen = torch.from_numpy(index)
    images = split.images
    return Split(images.select(index) if isinstance(images, StoredImages) else images[chosen], split.labels[chosen])


def groups_of(name: str, classes: Sequence[str], groups: Mapping[int, Groups], count: int, least: int = 2) -> Groups:
    """The classes of each of `count` parts, by the part's name.

    Args:
        name: of the set, for errors.
        classes: all.
        groups: the parts that have names, by their number; another number is cut equally, in the classes' order.
        count: how many parts.
        least: how many classes a part needs.

    Raises:
        ConfigurationError: so many parts are not to be had.
        DataError: the parts speak of classes that the set has not.
    """
    if not 1 <= count <= len(classes) // least:
        raise ConfigurationError(
            f"{name} has {len(classes)} classes, which make 1 to {len(classes) // least} parts of at least {least}, "
            f"but parts came as {count}."
        )
    if count not in groups:
        cuts = np.array_split(np.arange(len(classes)), count)
        return {str(number): tuple(classes[int(k)] for k in places) for number, places in enumerate(cuts, start=1)}
    listed = sorted(one for members in groups[count].values() for one in members)
    if listed != sorted(classes):
        other = sorted(set(classes) ^ set(listed))
        raise DataError(
            f"{name} is cut into {count} parts by the names of its published classes, but it differs in "
            f"{', '.join(other[:3])}; name the classes as published, or ask for another number of parts."
        )
    return groups[count]


def cut(task: Task, groups: Groups) -> list[Task]:
    """One task a part. Images go with their class; of a multi-label task all parts share all images, and each has
    its classes' labels."""
    if len(groups) == 1:
        return [task]
    made = []
    for part, members in groups.items():
        columns = np.array([task.classes.index(one) for one in members])
        splits = (_cut_split(split, columns) for split in task.splits().values())
        made.append(Task(f"{task.name}-{part}", tuple(members), *splits))
    return made


def _cut_split(split: Split, columns: np.ndarray) -> Split:
    if split.multi_label:
        return Split(split.images, split.labels[:, torch.from_numpy(columns)])
    index = np.flatnonzero(np.isin(split.labels.numpy(), columns))
    chosen = subset(split, index)
    place = {int(old): new for new, old in enumerate(columns)}
    return Split(chosen.images, torch.tensor([place[int(label)] for label in chosen.labels], dtype=torch.int64))


def finished(tasks: Sequence[Task], how: str, in_memory: bool, old: Statistics | None = None) -> list[Task]:
    """Decode an old task and the new ones, if they are to lie in memory, and standardise them.

    Args:
        tasks: the old one first.
        how: `old`: all by the old task ("The data normalization of the original task is used for the new task",
            Li and Hoiem 2016); `train`: each by its own training split; `none`.
        in_memory: whether all images are decoded now.
        old: what the old task is standardised by; None: the statistics of its training split.
    """
    held = [{name: _held(split, in_memory) for name, split in task.splits().items()} for task in tasks]
    if how != "none":
        first = old if old is not None else statistics(held[0]["train"].images)
        by = [first, *(first if how == "old" else statistics(splits["train"].images) for splits in held[1:])]
        held = [
            {name: Split(standardise(split.images, one), split.labels) for name, split in splits.items()}
            for splits, one in zip(held, by, strict=True)
        ]
    return [
        replace(task, train=splits.get("train"), validation=splits.get("validation"), test=splits.get("test"))
        for task, splits in zip(tasks, held, strict=True)
    ]


def _held(split: Split, in_memory: bool) -> Split:
    images = split.images
    return Split(images.load(), split.labels) if in_memory and isinstance(images, StoredImages) else split
