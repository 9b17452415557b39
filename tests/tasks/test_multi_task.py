"""MNIST and CIFAR-10 in two-class tasks: on made-up sets, and on the real ones if they are here."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks import SPLITS, Split, TaskStream, Value, fingerprint, make_stream, multi_task, stream_outline
from everlearn.tasks.multi_task import Sizes, cifar10_sizes, halves, mnist_sizes
from everlearn.tasks.transforms import standardise, statistics
from tests.tasks.made import noise, rows_of, write_parquet

NAMES = [f"c{label}" for label in range(10)]
TRAIN, TEST = 24, 6


SHAPE = (32, 32, 3)


def write_set(folder: Path, order: int = 0, shape: tuple[int, ...] = SHAPE) -> None:
    """Class c has the keys 24 c .. 24 c + 23 in training and 500 + 6 c .. 500 + 6 c + 5 in the test."""
    for split, first, count in (("train", 0, TRAIN), ("test", 500, TEST)):
        keys = np.random.default_rng(order).permutation(10 * count) + first
        labels = [int(k - first) // count for k in keys]
        write_parquet(folder / f"{split}.parquet", labels, keys.tolist(), NAMES, shape=shape)


CLASS_OF = {
    (noise(key, SHAPE).astype(np.float32) / 255).transpose(2, 0, 1).tobytes(): label
    for label in range(10)
    for key in (*range(TRAIN * label, TRAIN * (label + 1)), *range(500 + TEST * label, 500 + TEST * (label + 1)))
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_set(folder / "cifar10")
    write_set(folder / "mnist", shape=(28, 28))
    return folder


def made(data: Path, seed: int = 0, **options: Value) -> TaskStream:
    # 0.0024 of 10,000 are 24, of which 4 for validation; the tests of 60 images in all are 2000 * 60 / 10000 = 12.
    return make_stream("cifar10", seed, data, {"fraction": 0.0024, "standardise": "none", **options})


def counts(split: Split) -> list[int]:
    return torch.bincount(split.labels, minlength=2).tolist()


def test_pairs_tell_the_first_from_the_second(data: Path) -> None:
    stream = made(data, tasks="heterogeneous")
    assert [task.name for task in stream.tasks] == ["c0-vs-c1", "c2-vs-c3", "c4-vs-c5", "c6-vs-c7", "c8-vs-c9"]
    assert [task.classes for task in stream.tasks] == [(f"c{k + 1}", f"c{k}") for k in (0, 2, 4, 6, 8)]
    every: list[bytes] = []
    for task in stream.tasks:
        assert [counts(task.splits()[name]) for name in SPLITS] == [[10, 10], [2, 2], [6, 6]]
        for split in task.splits().values():
            shown = [NAMES[CLASS_OF[row]] for row in rows_of(split.images)]  # type: ignore[arg-type]
            assert shown == [task.classes[label] for label in split.labels.tolist()]
            every += rows_of(split.images)  # type: ignore[arg-type]
    assert len(set(every)) == len(every) == 5 * 36


@pytest.mark.parametrize("variant", ["paper", "authors"])
def test_each_class_against_the_rest_from_a_fraction_that_all_tasks_share(data: Path, variant: str) -> None:
    stream = made(data, variant=variant)
    assert [task.name for task in stream.tasks] == [f"{name}-vs-rest" for name in NAMES]
    seen: dict[str, set[bytes]] = {name: set() for name in SPLITS}
    for position, task in enumerate(stream.tasks):
        assert task.classes == ("rest", f"c{position}")
        for name, split in task.splits().items():
            rows = rows_of(split.images)  # type: ignore[arg-type]
            assert len(set(rows)) == len(rows)
            assert [CLASS_OF[row] == position for row in rows] == split.labels.bool().tolist()
            seen[name] |= set(rows)
        # Of 24 images a class 20 are for training, and 24 of 48 is one half: the authors cut 20 to 10 and 4 to 2.
        assert [counts(task.splits()[name]) for name in SPLITS] == [[10, 10], [2, 2], [6, 6]]
    assert not seen["train"] & seen["validation"]
    assert not (seen["train"] | seen["validation"]) & seen["test"]
    # Ten of each class is all that the ten tasks have.
    assert len(seen["train"]) <= 100


def test_the_authors_pools_are_rounded_down_and_filled_up_by_the_others(data: Path) -> None:
    # 38 of 10,000 are 6 + 32. Of each class's 20 the part 38 / 48, 15.8, is 15; of its 4 it is 3.
    paper, authors = (made(data, fraction=0.0038, variant=variant) for variant in ("paper", "authors"))
    assert [counts(paper.tasks[4].splits()[name]) for name in SPLITS] == [[16, 16], [3, 3], [6, 6]]
    assert [counts(authors.tasks[4].splits()[name]) for name in SPLITS] == [[17, 15], [3, 3], [6, 6]]


def test_half_of_each_as_far_as_there_are_so_many() -> None:
    own, others = np.arange(5), np.arange(100, 108)
    for count, first, second in ((4, 2, 2), (5, 2, 3), (12, 5, 7), (13, 5, 8)):
        assert [len(part) for part in halves(own, others, count, "x")] == [first, second]
    # The class fills up where the others are few.
    assert [len(part) for part in halves(others, own, 12, "x")] == [7, 5]
    for count in (14, 1):
        with pytest.raises(ConfigurationError, match=f"x are wanted as {count} a task, but there are 5 of its class"):
            halves(own, others, count, "x")


def test_the_published_numbers_of_images() -> None:
    """Lee et al. 2019, App. C, and the authors' code: training, validation and test images of a task."""
    for percent, train, validation in (
        (4, 340, 60),
        (10, 840, 160),
        (30, 2500, 500),
        (50, 4160, 840),
        (70, 5840, 1160),
    ):
        for kind in ("homogeneous", "heterogeneous"):
            assert cifar10_sizes(kind, percent / 100, "paper") == Sizes(train, validation, 2000)
    for percent in (3, 5, 7, 10, 30):
        share, train = percent / 100, 100 * percent
        assert mnist_sizes("heterogeneous", share, "authors") == Sizes(train, train // 5, 1800)
        assert mnist_sizes("homogeneous", share, "paper") == Sizes(train, train // 5, 2000)
        assert mnist_sizes("homogeneous", share, "authors") == Sizes(train, train // 10, 2000)


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({"tasks": "heterogeneous"}, "7d521ecdce37cadf"),
        ({"tasks": "homogeneous"}, "c8c8fb079556b054"),
        ({"tasks": "homogeneous", "variant": "authors", "fraction": 0.0038}, "8d6a620fbf3370f5"),
    ],
)
def test_the_same_images_on_any_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Value], known: str
) -> None:
    # What is known is of images of 4 x 4 pixels, from before others than 32 x 32 were refused.
    monkeypatch.setattr(multi_task, "check_side", lambda *_: None)
    one, other = tmp_path / "one", tmp_path / "other"
    write_set(one, shape=(4, 4, 3))
    write_set(other, 1, (4, 4, 3))
    assert fingerprint(made(one, 3, **options))[:16] == known
    assert fingerprint(made(other, 3, **options))[:16] == known != fingerprint(made(one, 4, **options))[:16]


def test_another_set_is_not_taken_for_the_one_that_was_asked_for(data: Path) -> None:
    with pytest.raises(DataError, match=r"wanted as cifar10, of 32 x 32 pixels, but .* 28 x 28; .* holds cifar10/"):
        make_stream("cifar10", 0, data / "mnist", {"fraction": 0.0024})
    with pytest.raises(DataError, match=r"wanted as mnist, of 28 x 28 pixels, but its first image has 32 x 32"):
        make_stream("mnist", 0, data / "cifar10", {"fraction": 0.002})


def test_standardised_split_by_split_unless_told_otherwise(data: Path) -> None:
    plain = made(data).tasks[2].splits()
    for how in ("split", "train"):
        done = made(data, standardise=how).tasks[2].splits()
        for name, split in plain.items():
            by = statistics(plain["train"].images if how == "train" else split.images)
            assert torch.equal(done[name].images, standardise(split.images, by))  # type: ignore[arg-type]
    assert make_stream("cifar10", 0, data, {"fraction": 0.0024}).options["standardise"] == "split"


def test_digits_are_grey_and_in_the_unit_interval(data: Path) -> None:
    # 0.002 of 10,000 are 20 to train on and 4 for validation; a twelfth of 24 is 2 a digit.
    stream = make_stream("mnist", 0, data, {"fraction": 0.002, "tasks": "heterogeneous"})
    assert stream.options["standardise"] == "none"
    assert [counts(stream.tasks[0].splits()[name]) for name in SPLITS] == [[10, 10], [2, 2], [5, 5]]
    assert stream.image_shape[0] == 1
    assert 0 <= stream.tasks[0].train.images.min() < stream.tasks[0].train.images.max() <= 1  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_outlines(name: str) -> None:
    shape = (1, 28, 28) if name == "mnist" else (3, 32, 32)
    for tasks, count in (("homogeneous", 10), ("heterogeneous", 5)):
        outline = stream_outline(name, {"tasks": tasks})
        assert (outline.classes, outline.image_shape) == ((2,) * count, shape)


def test_what_cannot_be_had(data: Path, tmp_path: Path) -> None:
    for fraction in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(ConfigurationError, match="fraction is wanted above 0 and at most 1"):
            made(data, fraction=fraction)
    with pytest.raises(
        ConfigurationError, match=r"train images of c0-vs-c1 are wanted as 340 a task, but .* 20 of its"
    ):
        made(data, tasks="heterogeneous", fraction=0.04)
    with pytest.raises(MissingDataError, match=r"the set cifar10 is missing.*uoft-cs/cifar10"):
        made(tmp_path)
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", [0, 1], [0, 1], NAMES[:2])
    with pytest.raises(DataError, match="is wanted with 10 classes, but has 2"):
        made(tmp_path)


REAL = os.environ.get("EVERLEARN_DATA")


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not REAL, reason="EVERLEARN_DATA is not set; name a folder that holds cifar10/ and mnist/")
@pytest.mark.parametrize(
    ("name", "options", "train", "validation", "test", "known"),
    [
        ("cifar10", {"variant": "authors"}, [174, 166], [30, 30], [200, 200], "d88c423da56edf10"),
        ("cifar10", {"tasks": "heterogeneous"}, [170, 170], [30, 30], [200, 200], "57793f352fedfd61"),
        ("mnist", {}, [150, 150], [30, 30], [1000, 1000], "c93076953c9b733b"),
        ("mnist", {"tasks": "heterogeneous"}, [150, 150], [30, 30], [900, 900], "ee5669ee7afe5639"),
    ],
)
def test_the_real_sets(
    name: str, options: dict[str, Value], train: list[int], validation: list[int], test: list[int], known: str
) -> None:
    stream = make_stream(name, 0, Path(str(REAL)), options)
    assert [counts(stream.tasks[1].splits()[split]) for split in SPLITS] == [train, validation, test]
    assert fingerprint(stream)[:16] == known
