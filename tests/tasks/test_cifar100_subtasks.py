"""CIFAR-100 as ten times ten yes-or-no subtasks, on a made-up set of 100 classes."""

from pathlib import Path

import pytest
import torch

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks import TaskStream, Value, fingerprint, make_stream, stream_outline
from everlearn.tasks.cifar100_subtasks import class_groups
from everlearn.tasks.transforms import standardise, statistics
from tests.tasks.hundred import CLASS_OF, NAMES, write_set
from tests.tasks.made import rows_of, write_parquet


def made(data: Path, seed: int = 0, **options: Value) -> TaskStream:
    return make_stream("cifar100-subtasks", seed, data, options)


@pytest.mark.parametrize("classes", ["ordered", "random"])
def test_every_image_is_a_yes_to_its_class_alone(data: Path, classes: str) -> None:
    stream = made(data, classes=classes, standardise="none")
    assert [task.name for task in stream.tasks] == [f"task-{number}" for number in range(1, 11)]
    names = [name for task in stream.tasks for name in task.classes]
    assert (names == NAMES) == (classes == "ordered")
    assert sorted(names) == NAMES
    every: list[bytes] = []
    for task in stream.tasks:
        assert task.multi_label
        # A tenth of ten is one for validation.
        counts = {name: split.labels.sum(0).tolist() for name, split in task.splits().items()}
        assert counts == {"train": [9.0] * 10, "validation": [1.0] * 10, "test": [2.0] * 10}
        for split in task.splits().values():
            assert split.labels.dtype == torch.float32
            assert (split.labels.sum(1) == 1).all()
            shown = [NAMES[CLASS_OF[row]] for row in rows_of(split.images)]  # type: ignore[arg-type]
            assert shown == [task.classes[int(label)] for label in split.labels.argmax(1)]
            every += rows_of(split.images)  # type: ignore[arg-type]
    assert len(set(every)) == len(every) == 1200
    outline = stream_outline("cifar100-subtasks", stream.options)
    assert outline.classes == tuple(len(task.classes) for task in stream.tasks)


def test_groups_of_classes() -> None:
    assert class_groups("ordered", 5)[3] == list(range(30, 40))
    assert class_groups("random", 0) == class_groups("random", 0) != class_groups("random", 1)
    assert sorted(label for group in class_groups("random", 0) for label in group) == list(range(100))


def test_subtasks_come_from_the_seed(data: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "cifar100", order=1)
    assert fingerprint(made(data, 3)) == fingerprint(made(tmp_path, 3))
    assert len({fingerprint(made(data, seed, classes=how)) for seed in (3, 4) for how in ("ordered", "random")}) == 4


def test_a_fraction_is_part_of_a_larger_and_leaves_validation_and_test(data: Path) -> None:
    few, many = (made(data, fraction=part, validation=0.2, standardise="none").tasks[2] for part in (0.25, 1.0))
    assert [len(split) for split in few.splits().values()] == [20, 20, 20]
    assert [len(split) for split in many.splits().values()] == [80, 20, 20]
    images = [[rows_of(split.images) for split in task.splits().values()] for task in (few, many)]  # type: ignore[arg-type]
    assert set(images[0][0]) < set(images[1][0])
    assert images[0][1:] == images[1][1:]


def test_pixels_are_standardised_by_the_training_images_of_the_task(data: Path) -> None:
    plain, done = (made(data, **options).tasks[4].splits() for options in ({"standardise": "none"}, {}))
    by = statistics(plain["train"].images)
    for name, split in plain.items():
        assert torch.equal(done[name].images, standardise(split.images, by))  # type: ignore[arg-type]


def test_what_cannot_be_had(data: Path, tmp_path: Path) -> None:
    for value in (0, 1.01, float("nan")):
        with pytest.raises(ConfigurationError, match="fraction is wanted above 0 and at most 1"):
            made(data, fraction=value)
    for value in (0, 1):
        with pytest.raises(ConfigurationError, match="validation is wanted above 0 and below 1"):
            made(data, validation=value)
    with pytest.raises(DataError, match=r"class 'class00' .* has 10 images, too few"):
        made(data, validation=0.96)
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", [0, 1], [0, 1], NAMES[:2], label="fine_label")
    with pytest.raises(DataError, match="is wanted with 100 classes of fine_label, but has 2"):
        made(tmp_path)
