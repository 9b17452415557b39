"""The small pairs of Learning without Forgetting: on made-up sets, and on the real ones if they are here."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks import STREAMS, Task, TaskStream, Value, fingerprint, make_stream
from everlearn.tasks.lwf_small import CIFAR10_PARTS
from everlearn.tasks.transforms import standardise, statistics
from tests.tasks.made import noise, rows_of, write_parquet

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CIFAR100 = [f"class{label:02}" for label in range(100)]
PACS = ["dog", "elephant", "giraffe", "guitar", "horse", "house", "person"]


def write_set(
    folder: Path,
    names: list[str],
    train: int,
    first: int,
    label: str = "label",
    prefix: str = "",
    shape: tuple[int, ...] = (4, 4, 3),
) -> None:
    """So many training images and two test images a class, in a shuffled order."""
    for split, count, start in (("train", train, first), ("test", 2, first + 5000)):
        keys = np.random.default_rng(first).permutation(count * len(names))
        labels = [int(key) // count for key in keys]
        file = folder / f"{prefix}{split}.parquet"
        write_parquet(file, labels, (keys + start).tolist(), names, label=label, shape=shape)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_set(folder / "cifar100", CIFAR100, 3, 0, "fine_label")
    write_set(folder / "cifar10", CIFAR10, 20, 10_000, shape=(32, 32, 3))
    write_set(folder / "mnist", list("0123456789"), 20, 20_000, shape=(28, 28))
    for k, domain in enumerate(("photo", "cartoon")):
        write_set(folder / "pacs", PACS, 10, 30_000 + 10_000 * k, prefix=f"{domain}_")
    return folder


def made(data: Path, name: str = "cifar100-to-cifar10", seed: int = 0, **options: Value) -> TaskStream:
    return make_stream(name, seed, data, options)


def images(task: Task, split: str) -> Tensor:
    held = task.splits()[split].images
    assert isinstance(held, Tensor)
    return held


def counts(task: Task) -> dict[str, list[int]]:
    return {name: torch.bincount(split.labels).tolist() for name, split in task.splits().items()}


def test_an_old_task_and_a_new_one(data: Path) -> None:
    old, new = made(data, standardise="none").tasks
    assert (old.name, old.classes, new.name, new.classes) == ("cifar100", tuple(CIFAR100), "cifar10", tuple(CIFAR10))
    # 5 % of three are none, so one; 10 % of twenty are two.
    assert counts(old) == {"train": [2] * 100, "validation": [1] * 100, "test": [2] * 100}
    assert counts(new) == {"train": [18] * 10, "validation": [2] * 10, "test": [2] * 10}
    rows = [row for task in (old, new) for split in task.splits() for row in rows_of(images(task, split))]
    assert len(set(rows)) == len(rows) == 300 + 200 + 200 + 20


def test_labels_belong_to_their_images(data: Path) -> None:
    new = made(data, "pacs-photo-to-cartoon", standardise="none", size=4).tasks[1]
    of_key = {(noise(40_000 + key).astype(np.float32) / 255).transpose(2, 0, 1).tobytes(): key for key in range(70)}
    for split in ("train", "validation"):
        for row, label in zip(rows_of(images(new, split)), new.splits()[split].labels.tolist(), strict=True):
            assert of_key[row] // 10 == label


def test_both_are_standardised_by_the_old_task_or_each_by_its_own(data: Path) -> None:
    plain, old, own = (made(data, standardise=how) for how in ("none", "old", "train"))
    assert old.options["standardise"] == "old" == STREAMS["cifar100-to-cifar10"].options["standardise"].default
    by = [statistics(images(task, "train")) for task in plain.tasks]
    for position in (0, 1):
        for split in ("train", "validation", "test"):
            pixels = images(plain.tasks[position], split)
            assert torch.equal(images(old.tasks[position], split), standardise(pixels, by[0]))
            assert torch.equal(images(own.tasks[position], split), standardise(pixels, by[position]))


def test_a_smaller_fraction_is_part_of_a_larger_one(data: Path) -> None:
    # 18 a class: 0.3 of them are 5.4, 0.1 are 1.8, 0.03 are 0.54.
    drawn = {f: made(data, standardise="none", fraction=f).tasks for f in (1.0, 0.3, 0.1, 0.03)}
    assert {f: counts(tasks[1])["train"] for f, tasks in drawn.items()} == {
        1.0: [18] * 10,
        0.3: [5] * 10,
        0.1: [2] * 10,
        0.03: [1] * 10,
    }
    rows = {f: set(rows_of(images(tasks[1], "train"))) for f, tasks in drawn.items()}
    assert rows[0.03] < rows[0.1] < rows[0.3] < rows[1.0]
    for tasks in drawn.values():
        for split in ("validation", "test"):
            assert torch.equal(images(tasks[1], split), images(drawn[1.0][1], split))
        assert torch.equal(images(tasks[0], "train"), images(drawn[1.0][0], "train"))
    other = made(data, seed=1, standardise="none", fraction=0.3).tasks[1]
    assert set(rows_of(images(other, "train"))) != rows[0.3]


def test_three_parts_of_cifar10_share_out_its_images(data: Path) -> None:
    whole = made(data, standardise="none").tasks[1]
    old, *parts = made(data, standardise="none", parts=3).tasks
    assert old.name == "cifar100"
    assert {part.name: part.classes for part in parts} == {f"cifar10-{k}": v for k, v in CIFAR10_PARTS.items()}
    for split in whole.splits():
        assert sum(len(part.splits()[split]) for part in parts) == len(whole.splits()[split])
        label_of = dict(zip(rows_of(images(whole, split)), whole.splits()[split].labels.tolist(), strict=True))
        for part in parts:
            for row, label in zip(rows_of(images(part, split)), part.splits()[split].labels.tolist(), strict=True):
                assert part.classes[label] == whole.classes[label_of[row]]


def test_other_parts_are_equal_cuts_in_order(data: Path) -> None:
    tasks = made(data, "cifar100-to-mnist", parts=3).tasks[1:]
    assert [(task.name, "".join(task.classes)) for task in tasks] == [
        ("mnist-1", "0123"),
        ("mnist-2", "456"),
        ("mnist-3", "789"),
    ]
    for count in (0, 6):
        with pytest.raises(
            ConfigurationError, match=f"mnist has 10 classes, which make 1 to 5 parts .* came as {count}"
        ):
            made(data, "cifar100-to-mnist", parts=count)


def test_named_parts_want_the_published_classes(data: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "cifar10", [*CIFAR10[:9], "lorry"], 4, 10_000, shape=(32, 32, 3))
    (tmp_path / "cifar100").symlink_to(data / "cifar100")
    with pytest.raises(DataError, match=r"cifar10 is cut into 3 parts by the names .* differs in lorry, truck"):
        made(tmp_path, parts=3)
    assert len(made(tmp_path, parts=2).tasks) == 3


def test_how_many_images_of_mnist(data: Path) -> None:
    few = made(data, "cifar100-to-mnist", images=50).tasks[1]
    assert counts(few)["train"] == [5] * 10
    assert few.image_shape == (3, 32, 32)
    assert counts(made(data, "cifar100-to-mnist", images=50, fraction=0.3).tasks[1])["train"] == [2] * 10
    assert counts(made(data, "cifar100-to-mnist").tasks[1])["train"] == [18] * 10  # fewer than 5,000
    with pytest.raises(ConfigurationError, match="images is wanted as at least 10, one a class, but came as 9"):
        made(data, "cifar100-to-mnist", images=9)


def test_grey_digits_come_as_rgb_of_32_pixels(tmp_path: Path, data: Path) -> None:
    (tmp_path / "cifar100").symlink_to(data / "cifar100")
    for split in ("train", "test"):
        labels = [k % 10 for k in range(40)]
        keys = list(range(40))
        file = tmp_path / "mnist" / f"{split}.parquet"
        write_parquet(file, labels, keys, list("0123456789"), shape=(28, 28))
    pixels = images(made(tmp_path, "cifar100-to-mnist", standardise="none").tasks[1], "train")
    assert torch.equal(pixels[:, 0], pixels[:, 2])
    assert pixels.shape[1:] == (3, 32, 32)


@pytest.mark.parametrize("name", ["cifar100-to-cifar10", "cifar100-to-mnist", "pacs-photo-to-cartoon"])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_outline_is_what_is_built(data: Path, name: str, parts: int) -> None:
    stream = made(data, name, parts=parts)
    outline = STREAMS[name].outline
    assert outline is not None
    sizes = outline(stream.options)
    assert sizes.classes == tuple(len(task.classes) for task in stream.tasks)
    assert sizes.image_shape == stream.image_shape


def test_what_the_streams_refuse(data: Path, tmp_path: Path) -> None:
    for name, value in (("fraction", 0), ("fraction", 1.5), ("old_fraction", -1.0)):
        with pytest.raises(ConfigurationError, match="fraction is wanted above 0 and at most 1, but came as"):
            made(data, **{name: value})
    with pytest.raises(ConfigurationError, match="size is wanted as a side in pixels of at least 1, but came as 0"):
        made(data, "pacs-photo-to-cartoon", size=0)
    with pytest.raises(MissingDataError, match="the set cifar100 is missing"):
        made(tmp_path)
    with pytest.raises(MissingDataError, match=r"PACS is read from a data folder that holds pacs/photo_train.parquet"):
        make_stream("pacs-photo-to-cartoon")


def test_the_same_seed_gives_the_same_stream(data: Path) -> None:
    assert fingerprint(made(data, fraction=0.3)) == fingerprint(made(data, fraction=0.3))
    assert fingerprint(made(data, fraction=0.3)) != fingerprint(made(data, seed=1, fraction=0.3))


REAL = os.environ.get("EVERLEARN_DATA")


@pytest.mark.realdata
@pytest.mark.skipif(not REAL, reason="EVERLEARN_DATA is not set; name a folder that holds pacs/photo_train.parquet")
def test_the_real_photos_and_cartoons() -> None:
    stream = made(Path(str(REAL)), "pacs-photo-to-cartoon", fraction=0.1, old_fraction=0.1, size=32)
    assert [len(task.splits()["test"]) for task in stream.tasks] == [333, 469]
    assert [task.classes for task in stream.tasks] == [tuple(PACS)] * 2
    pixels = images(stream.tasks[0], "train")
    assert pixels.mean((0, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(pixels.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    # Cartoons are brighter and more colourful; by the photos' statistics that stays.
    assert images(stream.tasks[1], "train").mean() > 0.2


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not REAL, reason="EVERLEARN_DATA is not set; name a folder that holds cifar100 and cifar10")
def test_the_real_sets() -> None:
    old, new = made(Path(str(REAL)), old_fraction=0.02, fraction=0.02).tasks
    assert counts(old) == {"train": [10] * 100, "validation": [25] * 100, "test": [100] * 100}
    assert counts(new) == {"train": [9] * 10, "validation": [50] * 10, "test": [200] * 10}


def test_another_set_is_not_taken_for_the_new_one(data: Path, tmp_path: Path) -> None:
    (tmp_path / "cifar100").symlink_to(data / "cifar100")
    for name, other in (("cifar10", "mnist"), ("mnist", "cifar10")):
        (tmp_path / name).symlink_to(data / other)
        with pytest.raises(DataError, match=f"is wanted as {name}, of .* pixels, but its first image has"):
            made(tmp_path, f"cifar100-to-{name}")
