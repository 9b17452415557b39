"""What a task and a stream refuse, and what they say of it."""

import math
import re

import pytest
import torch

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks import Split, Task, TaskStream


def split(count: int = 4, classes: int = 2, shape: tuple[int, int, int] = (1, 3, 2)) -> Split:
    return Split(torch.zeros(count, *shape), torch.arange(count) % classes)


def task(name: str = "pets", train: Split | None = None, validation: Split | None = None) -> Task:
    return Task(
        name,
        ("cat", "dog"),
        split() if train is None else train,
        split(2) if validation is None else validation,
        split(6),
    )


def test_a_task_knows_its_splits_and_image_shape() -> None:
    made = task()
    assert {name: len(part) for name, part in made.splits().items()} == {
        "train": 4,
        "validation": 2,
        "test": 6,
    }
    assert made.image_shape == (1, 3, 2)


def refused(message: str) -> "pytest.RaisesExc[DataError]":
    return pytest.raises(DataError, match=f"^{re.escape(message)}$")


def test_an_empty_split_is_named() -> None:
    with refused("the validation split of task 'pets' is empty; every split needs at least one image."):
        task(validation=split(0))


@pytest.mark.parametrize(("label", "named"), [(-1, -1), (2, 2)])
def test_a_label_out_of_range_is_named(label: int, named: int) -> None:
    bad = Split(torch.zeros(3, 1, 3, 2), torch.tensor([0, label, 1]))
    with refused(f"the train split of task 'pets' has the label {named}, but its 2 classes are labelled 0 to 1."):
        task(train=bad)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_pixel_that_is_no_number_is_found(value: float) -> None:
    images = torch.zeros(4, 1, 3, 2)
    images[2, 0, 1, 1] = value
    with pytest.raises(DataError, match=r"train split of task 'pets' has pixels .* in image \[2\]"):
        task(train=Split(images, torch.tensor([0, 1, 0, 1])))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (Split(torch.zeros(2, 3, 2), torch.tensor([0, 1])), "needs floating-point images [N, C, H, W]"),
        (Split(torch.zeros(2, 1, 3, 2, dtype=torch.uint8), torch.tensor([0, 1])), "torch.uint8"),
        (
            Split(torch.zeros(2, 1, 3, 2, dtype=torch.float64), torch.tensor([0, 1])),
            "of 32 bits, but has torch.float64",
        ),
        (
            Split(torch.zeros(2, 1, 3, 2, dtype=torch.float16), torch.tensor([0, 1])),
            "of 32 bits, but has torch.float16",
        ),
        (Split(torch.zeros(2, 1, 3, 2), torch.tensor([0.0, 1.0])), "needs int64 labels [N]"),
        (Split(torch.zeros(2, 1, 3, 2), torch.tensor([0, 1, 0])), "has 2 images but 3 labels"),
    ],
)
def test_tensors_of_the_wrong_kind_are_refused(bad: Split, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        task(train=bad)


def test_splits_of_different_image_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"splits of task 'pets' hold images of different shapes.*\(3, 3, 2\)"):
        task(train=split(shape=(3, 3, 2)))


def test_a_task_needs_two_classes_of_different_names() -> None:
    with pytest.raises(DataError, match=r"needs at least two classes, but has \['cat'\]"):
        Task("pets", ("cat",), split(classes=1), split(classes=1), split(classes=1))
    with pytest.raises(DataError, match="names a class twice"):
        Task("pets", ("cat", "cat"), split(), split(), split())


def test_a_stream_needs_tasks_of_different_names_and_one_image_shape() -> None:
    assert len(TaskStream("s", 0, (task("a"), task("b")))) == 2
    with pytest.raises(ConfigurationError, match="stream 's' holds no task"):
        TaskStream("s", 0, ())
    with pytest.raises(ConfigurationError, match=r"two tasks of stream 's' have one name.*'a', 'a'"):
        TaskStream("s", 0, (task("a"), task("a")))
    wide = Task("wide", ("x", "y"), *[split(shape=(1, 3, 9))] * 3)
    with pytest.raises(DataError, match=r"differ in image shape: .*\(1, 3, 9\).*resize"):
        TaskStream("s", 0, (task("a"), wide))
