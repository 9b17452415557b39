"""The CIFAR-100 stream: on a made-up set of 100 classes , and on the real one if it is here."""

import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks import TaskStream, Value, fingerprint, make_stream, open_image_set, stream_outline
from everlearn.tasks.cifar100 import SUPERCLASS_TASKS, class_tasks, draw, overlapping
from everlearn.tasks.transforms import standardise, statistics
from tests.tasks.hundred import CLASS_OF, NAMES, write_set
from tests.tasks.made import rows_of, write_parquet


def made(data: Path, seed: int = 0, **options: Value) -> TaskStream:
    # 0.4 of the ten images: four a class, 15 % of which is 0.6, so one of them for validation.
    return make_stream("cifar100", seed, data, {"fraction": 0.4, **options})


@pytest.mark.parametrize("classes", ["random", "superclass"])
def test_ten_tasks_of_ten_classes_with_the_right_images(data: Path, classes: str) -> None:
    stream = made(data, classes=classes, standardise="none")
    assert [task.name for task in stream.tasks] == [f"task-{number}" for number in range(1, 11)]
    assert sorted(name for task in stream.tasks for name in task.classes) == NAMES
    every: list[bytes] = []
    for task in stream.tasks:
        counts = {name: torch.bincount(split.labels).tolist() for name, split in task.splits().items()}
        assert counts == {"train": [3] * 10, "validation": [1] * 10, "test": [2] * 10}
        for split in task.splits().values():
            shown = [NAMES[CLASS_OF[row]] for row in rows_of(split.images)]
            assert shown == [task.classes[label] for label in split.labels.tolist()]
            every += rows_of(split.images)
    assert len(set(every)) == len(every) == 600


def test_the_random_classes_come_from_the_seed() -> None:
    first, other = class_tasks("random", 0), class_tasks("random", 1)
    assert class_tasks("random", 0) == first != other
    for tasks in (first, other):
        assert sorted(label for task in tasks for label in task) == list(range(100))
        assert [len(task) for task in tasks] == [10] * 10


def test_the_authors_tasks_do_not_depend_on_the_seed_but_their_images_do(data: Path) -> None:
    streams = [made(data, seed, classes="superclass") for seed in (0, 0, 1)]
    for stream in streams:
        assert [task.classes for task in stream.tasks] == [tuple(NAMES[i] for i in ids) for ids in SUPERCLASS_TASKS]
    assert fingerprint(streams[0]) == fingerprint(streams[1]) != fingerprint(streams[2])


def test_the_authors_lists_hold_every_class_once() -> None:
    assert sorted(label for task in SUPERCLASS_TASKS for label in task) == list(range(100))
    # Task j + 1 of a five has the next fine label of every superclass.
    for half in (SUPERCLASS_TASKS[:5], SUPERCLASS_TASKS[5:]):
        for earlier, later in pairwise(half):
            assert all(one < two for one, two in zip(earlier, later, strict=True))


def test_tasks_that_overlap_by_half() -> None:
    assert overlapping([(1, 2, 3), (4, 5, 6)]) == ((1, 2, 3), (1, 5, 3), (4, 5, 6), (4, 2, 6))
    for seed in (0, 1):
        tasks = overlapping(class_tasks("random", seed))
        assert len(tasks) == 20
        assert Counter(label for task in tasks for label in task) == dict.fromkeys(range(100), 2)
        for earlier, later in pairwise((*tasks, tasks[0])):
            assert len(set(earlier) & set(later)) == 5


def test_twenty_tasks_with_the_authors_classes(data: Path) -> None:
    """Task 2 has every other class of the authors' task 1 and those between of their task 6; task 20 leads back."""
    assert stream_outline("cifar100", {"tasks": "20-overlapping"}).classes == (10,) * 20
    stream = made(data, classes="superclass", tasks="20-overlapping", standardise="none")
    for position, labels in (
        (0, (4, 1, 54, 9, 0, 5, 6, 3, 12, 8)),
        (1, (4, 23, 54, 34, 0, 2, 6, 36, 12, 41)),
        (2, (22, 23, 15, 34, 26, 2, 27, 36, 47, 41)),
        (17, (87, 91, 38, 61, 99, 94, 93, 97, 96, 90)),
        (19, (95, 1, 92, 9, 83, 5, 24, 3, 76, 8)),
    ):
        assert stream.tasks[position].classes == tuple(NAMES[label] for label in labels)
    first, second = stream.tasks[0].splits(), stream.tasks[1].splits()
    for name, count in (("train", 15), ("validation", 5), ("test", 10)):
        assert len(set(rows_of(first[name].images)) & set(rows_of(second[name].images))) == count  # type: ignore[arg-type]
    assert not set(rows_of(first["test"].images)) & set(rows_of(second["train"].images))  # type: ignore[arg-type]


def test_any_mirror_gives_the_same_stream(data: Path, tmp_path: Path) -> None:
    write_set(tmp_path, order=1, image="img", webp=True)
    assert fingerprint(made(tmp_path, 3)) == fingerprint(made(data, 3)) != fingerprint(made(data, 4))


def test_each_way_of_standardising(data: Path) -> None:
    plain, split, train = (made(data, standardise=how).tasks[2].splits() for how in ("none", "split", "train"))
    for name in ("train", "validation", "test"):
        assert torch.equal(split[name].images, standardise(plain[name].images, statistics(plain[name].images)))
        assert torch.equal(train[name].images, standardise(plain[name].images, statistics(plain["train"].images)))
    assert not torch.equal(split["test"].images, train["test"].images)
    assert made(data).options == {"classes": "random", "fraction": 0.4, "standardise": "split"}


def test_four_percent_of_500_are_17_and_3() -> None:
    train, validation = draw(np.arange(500), 0.04, 0, 7)
    assert (len(train), len(validation), len(set(train) | set(validation))) == (17, 3, 20)
    # Another class, another draw; more images contain the fewer.
    assert set(draw(np.arange(500), 0.04, 0, 8)[0]) != set(train)
    assert set(train) < set(np.concatenate(draw(np.arange(500), 0.1, 0, 7)))
    # All of 500: 15 % are 75. A tenth: 50, of which 7.5, rounded up to 8. Two: one and one.
    assert [len(part) for part in draw(np.arange(500), 1.0, 0, 7)] == [425, 75]
    assert [len(part) for part in draw(np.arange(500), 0.1, 0, 7)] == [42, 8]
    assert [len(part) for part in draw(np.arange(500), 0.004, 0, 7)] == [1, 1]
    with pytest.raises(ConfigurationError, match=r"fraction 0.002 of the 500 training images of fine label 7 leaves 1"):
        draw(np.arange(500), 0.002, 0, 7)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_a_fraction_out_of_range(data: Path, fraction: float) -> None:
    with pytest.raises(ConfigurationError, match="fraction is wanted above 0 and at most 1"):
        made(data, fraction=fraction)


def test_a_set_of_other_classes_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", [0, 1], [0, 1], NAMES[:2], label="fine_label")
    with pytest.raises(DataError, match="is wanted with 100 classes of fine_label, but has 2"):
        made(tmp_path)
    with pytest.raises(MissingDataError, match=r"the set cifar100 is missing.*uoft-cs/cifar100"):
        made(tmp_path / "no")


REAL = os.environ.get("EVERLEARN_DATA")


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not REAL, reason="EVERLEARN_DATA is not set; name a folder that holds cifar100/train.parquet")
def test_the_real_set() -> None:
    """The numbers of the paper's section 4, and the superclasses of the authors' lists."""
    data = Path(str(REAL))
    stream = make_stream("cifar100", 0, data, {"classes": "superclass"})
    for task in stream.tasks:
        assert [len(split) for split in task.splits().values()] == [170, 30, 1000]
        assert task.image_shape == (3, 32, 32)
        for split in task.splits().values():
            assert split.images.mean((0, 2, 3)).abs().max() < 1e-4
            torch.testing.assert_close(split.images.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
        assert not set(rows_of(task.train.images)) & set(rows_of(task.validation.images))
    fine, coarse = (open_image_set("cifar100", "", label, data)["test"] for label in ("fine_label", "coarse_label"))
    above = dict(zip(fine.labels.tolist(), coarse.labels.tolist(), strict=True))
    for five in (SUPERCLASS_TASKS[:5], SUPERCLASS_TASKS[5:]):
        superclasses = [[above[label] for label in task] for task in five]
        assert all(found == superclasses[0] for found in superclasses)
        assert len(set(superclasses[0])) == 10
        for place, superclass in enumerate(superclasses[0]):
            members = sorted(label for label, one in above.items() if one == superclass)
            assert [task[place] for task in five] == members
    assert Counter(above.values()) == dict.fromkeys(range(20), 5)
    assert coarse.classes[above[4]] == "aquatic_mammals"
    assert coarse.classes[above[22]] == "household_electrical_devices"
    assert fingerprint(stream) == fingerprint(make_stream("cifar100", 0, data, {"classes": "superclass"}))
