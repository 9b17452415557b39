"""STL-10 in its official files and as a made set: classes, noise, channels and numbers of images."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks import SPLITS, StoredImages, TaskStream, Value, fingerprint, make_stream, stream_outline
from everlearn.tasks.colours import ColourLevels, Disguise, noise_levels
from everlearn.tasks.stl10 import CLASSES, PLANS, _draw, design
from tests.tasks.made import encode, noise, write_parquet

TRAIN, TEST = 40, 2


def drawing(pixels: np.ndarray) -> np.ndarray:
    """96 x 96 pixels of their own for each key: the noise, every pixel as a square of 24 x 24."""
    return np.kron(pixels, np.ones((24, 24, 1), dtype=np.uint8))


def keys_of(split: str, order: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Keys of a split in some order, and their classes: 40 c .. 40 c + 39, and 500 + 2 c, 501 + 2 c."""
    first, count = (0, TRAIN) if split == "train" else (500, TEST)
    keys = np.random.default_rng(order).permutation(10 * count)
    return keys + first, keys // count


def write_binaries(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        keys, labels = keys_of(split)
        with (folder / f"{split}_X.bin").open("wb") as file:
            for key in keys:
                # Channel after channel, column after column.
                file.write(drawing(noise(int(key))).transpose(2, 1, 0).tobytes())
        (folder / f"{split}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())


def write_set(folder: Path, names: Sequence[str]) -> None:
    place = [names.index(one) if one in names else number for number, one in enumerate(CLASSES)]
    for split in ("train", "test"):
        keys, labels = keys_of(split, order=1)
        write_parquet(
            folder / f"{split}.parquet", [place[label] for label in labels], keys.tolist(), names,
            encoder=lambda pixels: encode(drawing(pixels)),
        )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_binaries(folder / "stl10_binary")
    return folder


def made(data: Path, seed: int = 0, name: str = "stl10", **options: Value) -> TaskStream:
    return make_stream(name, seed, data, options)


def images_of(stream: TaskStream, task: int, split: str) -> torch.Tensor:
    images = stream.tasks[task].splits()[split].images
    assert isinstance(images, StoredImages)
    return images.load()


CLASS_OF = {
    drawing(noise(int(key))).tobytes(): CLASSES[label]
    for split in ("train", "test")
    for key, label in zip(*keys_of(split), strict=True)
}


@pytest.mark.parametrize(("name", "learned", "kept"), [("stl10", 8, 2), ("stl10-five-way", 2, 2)])
def test_classes_and_numbers_of_images(data: Path, name: str, learned: int, kept: int) -> None:
    stream = made(data, name=name, noise="none", channels="kept")
    plan = PLANS[name]
    assert [task.name for task in stream.tasks] == [f"task-{number}" for number in range(1, plan.tasks + 1)]
    assert len({frozenset(task.classes) for task in stream.tasks}) == plan.tasks
    assert (
        stream_outline(name).classes
        == tuple(len(task.classes) for task in stream.tasks)
        == (plan.classes,) * plan.tasks
    )
    assert stream_outline(name).image_shape == stream.image_shape == (3, 96, 96)
    for position in (0, plan.tasks - 1):
        task, every = stream.tasks[position], []
        for split, count in zip(SPLITS, (learned, kept, TEST), strict=True):
            labels = task.splits()[split].labels
            assert torch.bincount(labels).tolist() == [count] * plan.classes
            levels = ((images_of(stream, position, split) + 0.5) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
            rows = [image.contiguous().numpy().tobytes() for image in levels]
            assert [CLASS_OF[row] for row in rows] == [task.classes[label] for label in labels.tolist()]
            every += rows
        assert len(set(every)) == len(every)


def test_of_500_images_of_a_class() -> None:
    """Lee et al. 2021, App. A: 318 and 57 of three classes, 125 and 125 of five."""
    for name, learned, kept in (("stl10", 106, 19), ("stl10-five-way", 25, 25)):
        train, aside = _draw(np.arange(500), PLANS[name], 0, name, 4, 2)
        assert (len(train), len(aside), len(set(train) | set(aside))) == (learned, kept, learned + kept)
        # Another task draws others of the same class.
        assert set(_draw(np.arange(500), PLANS[name], 0, name, 5, 2)[0]) != set(train)


def test_noise_and_channels_are_drawn_from_what_is_published() -> None:
    for noise_of, means, deviations in (
        ("authors", {-0.05, -0.025, 0.0, 0.025}, {0.0, 0.025}),
        ("paper", {-0.1, -0.05, 0.0, 0.05, 0.1}, {0.0, 0.05, 0.1}),
        ("none", {0.0}, {0.0}),
    ):
        drawn = [seen for seed in range(4) for _, seen in design(PLANS["stl10"], seed, noise_of, "exchanged")]
        assert {seen.mean for seen in drawn} == means
        assert {seen.deviation for seen in drawn} == deviations
        assert len({seen.channels for seen in drawn}) == 6
    assert {seen.channels for _, seen in design(PLANS["stl10"], 0, "authors", "kept")} == {(0, 1, 2)}
    # Fifteen of the 252 sets of five, none of them twice, for any seed.
    for seed in range(20):
        assert len({frozenset(classes) for classes, _ in design(PLANS["stl10-five-way"], seed, "none", "kept")}) == 15


def test_noise_comes_first_and_then_the_channels() -> None:
    image = noise(0, (64, 64, 3))
    for seen in (Disguise(0.0, 0.025, (2, 0, 1), 5), Disguise(-0.05, 0.025, (2, 0, 1), 5)):
        loud = seen.of(image, 7)
        steps = loud.astype(int) - image[:, :, [2, 0, 1]]
        inside = (loud > 0) & (loud < 255)
        # 2.5 % of 255 levels are 6.4, which 12,000 draws tell to a tenth.
        assert steps[inside].std() == pytest.approx(6.375, abs=0.15)
        assert steps[inside].mean() == pytest.approx(255 * seen.mean, abs=0.5)
        assert np.array_equal(loud, seen.of(image, 7))
        assert not np.array_equal(loud, seen.of(image, 8))
        plain = Disguise(seen.mean, seen.deviation, (0, 1, 2), 5).of(image, 7)
        assert np.array_equal(plain[:, :, [2, 0, 1]], loud)
    # Without deviation all move alike, and stay within what a level can be: -5 % are 12.75 levels, rounded to 13.
    assert np.array_equal(Disguise(-0.05).of(image, 0), np.maximum(image.astype(int) - 13, 0))
    table = noise_levels(0.0, 0.025)
    assert (table[:32768] == -table[:32767:-1]).all()
    assert table.max() == 28  # 6.375 times 4.33, the largest of 65,536 quantiles


def test_levels_keep_their_digest_and_are_not_changed_by_those_who_take_them() -> None:
    pixels = noise(0, (3, 4, 4, 3))
    plain, seen = ColourLevels(pixels), ColourLevels(pixels, Disguise(0.05))
    plain.decode([0, 1])[:] = 0
    seen.decode([0, 1])[:] = 0
    assert np.array_equal(pixels, noise(0, (3, 4, 4, 3)))
    others = [plain.digest(np.array([0])), plain.digest(np.array([1])), seen.digest(np.array([0]))]
    assert len(set(others)) == 3


def test_the_design_is_the_same_in_all_trials_unless_told_otherwise(data: Path) -> None:
    first, second, own = made(data, 0), made(data, 1), made(data, 1, design=-1)
    assert [task.classes for task in first.tasks] == [task.classes for task in second.tasks]
    assert [task.classes for task in first.tasks] != [task.classes for task in own.tasks]
    assert fingerprint(first) != fingerprint(second)
    with pytest.raises(ConfigurationError, match="design is wanted as a seed, or -1"):
        made(data, design=-2)


def test_binaries_and_sets_give_the_same_images_on_any_machine(data: Path, tmp_path: Path) -> None:
    known = "2f73e4b61a0df532"
    write_set(tmp_path / "named" / "stl10", sorted(CLASSES, reverse=True))
    write_set(tmp_path / "numbered" / "stl10", "0123456789")  # type: ignore[arg-type]
    for place in (data, tmp_path / "named", tmp_path / "numbered"):
        assert fingerprint(made(place, 3))[:16] == known
    # And what they hold: 3 x 96 x 96 numbers of task 1's test, to the last level.
    assert int(((images_of(made(data, 3), 0, "test") + 0.5) * 255).round().sum()) == 20_716_992


def test_what_is_missing_or_damaged_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"the set stl10 is missing.*tanganke/stl10"):
        made(tmp_path)
    write_set(tmp_path / "stl10", [f"x{label}" for label in range(10)])
    with pytest.raises(DataError, match=r"is wanted with the classes airplane, bird, .*, but has others"):
        made(tmp_path)
    for file in (data / "stl10_binary").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train_X.bin is wanted with 27648 bytes for each label"):
        made(tmp_path)


# As the module is read: a fixture takes the variable away from the tests themselves.
REAL = os.environ.get("EVERLEARN_DATA")


@pytest.mark.skipif(not REAL, reason="EVERLEARN_DATA is not set; name a folder that holds stl10/ or stl10_binary/")
@pytest.mark.realdata
@pytest.mark.slow
def test_the_real_set() -> None:
    assert REAL is not None
    data = Path(REAL)
    if not any((data / name).exists() for name in ("stl10", "stl10_binary", "STL-10")):
        pytest.skip(f"{data} holds no STL-10")
    for name, sizes in (("stl10", [318, 57, 2400]), ("stl10-five-way", [125, 125, 4000])):
        for task in made(data, name=name).tasks:
            assert [len(split) for split in task.splits().values()] == sizes
