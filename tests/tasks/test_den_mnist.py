"""The streams of Yoon et al. 2018 that are made from MNIST: on a made-up set, and on the real one if it is here."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks import Split, StoredImages, TaskStream, Value, fingerprint, make_stream, stream_outline
from everlearn.tasks.levels import Levels, levels_split
from everlearn.tasks.mnist import read_mnist
from everlearn.tasks.mnist_variation import OFFICIAL, read_amat
from everlearn.tasks.permuted_mnist import pixel_order
from everlearn.tasks.rotated import over, random_angles, random_levels, rotate, textures
from everlearn.training.data import on_device, training_batches
from tests.tasks.made import encode, noise, rows_of, write_parquet

TRAIN, TEST = 6, 4
DIGITS = [str(digit) for digit in range(10)]


def drawing(pixels: np.ndarray) -> np.ndarray:
    """28 x 28 grey levels of their own for each key: the noise, every pixel as a square of 7 x 7."""
    return np.kron(pixels[:, :, 0], np.ones((7, 7), dtype=np.uint8))


def write_mnist(folder: Path, order: int = 0, classes: int = 10) -> None:
    """Digit d has the keys 6 d .. 6 d + 5 in training and 500 + 4 d .. 500 + 4 d + 3 in the test."""
    for split, first, count in (("train", 0, TRAIN), ("test", 500, TEST)):
        keys = np.random.default_rng(order).permutation(classes * count) + first
        labels = [int(key - first) // count for key in keys]
        write_parquet(
            folder / f"{split}.parquet", labels, keys.tolist(), DIGITS[:classes],
            encoder=lambda pixels: encode(drawing(pixels)),
        )  # fmt: skip


DIGIT_OF = {
    drawing(noise(key)).tobytes(): digit
    for digit in range(10)
    for key in (*range(TRAIN * digit, TRAIN * (digit + 1)), *range(500 + TEST * digit, 500 + TEST * (digit + 1)))
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_mnist(folder / "mnist")
    return folder


def pixels_of(split: Split) -> torch.Tensor:
    assert isinstance(split.images, StoredImages)
    return split.images.load()


def levels_of(split: Split) -> list[bytes]:
    return rows_of((pixels_of(split) * 255).round().to(torch.uint8))


# ---------------------------------------------------------------- images as levels


def test_levels_are_permuted_when_they_are_taken() -> None:
    pixels = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    split = levels_split(pixels, np.array([4, 5]), np.array([1, 0, 1]), np.array([5, 0, 1, 2, 3, 4]))
    assert split.labels.tolist() == [5, 4, 5]
    assert split.images.shape == (3, 1, 2, 3)
    # Image 0 of the split is row 1: its levels 6 .. 11, the last of them first.
    assert torch.equal(pixels_of(split)[0], torch.tensor([[[11, 6, 7], [8, 9, 10]]]) / 255)


def test_what_is_taken_of_levels_is_a_copy_and_their_digest_sees_rows_and_order() -> None:
    pixels = noise(0, (3, 2, 2))
    for order in (None, np.array([3, 2, 1, 0])):
        Levels(pixels, order).decode(np.arange(3))[:] = 0
        assert np.array_equal(pixels, noise(0, (3, 2, 2)))
    orders = (None, np.arange(4), np.array([1, 0, 2, 3]))
    digests = {Levels(pixels, order).digest(np.array(rows)) for order in orders for rows in ([0, 1], [1, 0])}
    assert len(digests) == 6
    assert Levels(pixels).digest(np.array([0])) == Levels(pixels.copy()).digest(np.array([0]))


def test_batches_of_levels_are_those_of_the_same_images_in_memory() -> None:
    split = levels_split(noise(1, (20, 4, 4)), np.arange(20) % 2, np.arange(20), np.arange(16)[::-1].copy())
    cpu = torch.device("cpu")
    held = on_device(Split(pixels_of(split), split.labels), cpu, True)
    streamed = on_device(split, cpu, True)
    pairs = [training_batches(one, 8, 3, 0, 5, 0) for one in (held, streamed)]
    for one, other in zip(*pairs, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_mnist_from_any_mirror_is_in_one_order(data: Path, tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", order=1)
    for one, other in zip(read_mnist(data), read_mnist(tmp_path), strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.labels, other.labels)
        assert [DIGIT_OF[image.tobytes()] for image in one.pixels] == one.labels.tolist()


def test_what_is_not_mnist_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path / "few" / "mnist", classes=3)
    with pytest.raises(DataError, match="wanted with the ten digits, but has 3 classes"):
        make_stream("permuted-mnist", 0, tmp_path / "few")
    for split in ("train", "test"):
        write_parquet(tmp_path / "small" / "mnist" / f"{split}.parquet", [0, 1], [0, 1], DIGITS)
    with pytest.raises(DataError, match="images of 28 x 28 pixels, but has 4 x 4"):
        make_stream("mnist-variation", 0, tmp_path / "small")
    with pytest.raises(MissingDataError, match=r"the set mnist is missing.*ylecun/mnist"):
        make_stream("permuted-mnist", 0, tmp_path / "no")


# ---------------------------------------------------------------- permuted-mnist


def permuted(data: Path, seed: int = 0, **options: Value) -> TaskStream:
    return make_stream("permuted-mnist", seed, data, {"tasks": 3, "validation": 10, **options})


def test_permuted_tasks_are_one_set_of_images_in_different_pixel_orders(data: Path) -> None:
    stream = permuted(data)
    assert [task.name for task in stream.tasks] == ["permutation-1", "permutation-2", "permutation-3"]
    outline = stream_outline("permuted-mnist", stream.options)
    assert (outline.classes, outline.image_shape) == ((10,) * 3, stream.image_shape) == ((10,) * 3, (1, 28, 28))
    for name, count in (("train", 50), ("validation", 10), ("test", 40)):
        undone = []
        for number, task in enumerate(stream.tasks):
            split = task.splits()[name]
            assert len(split) == count
            order = pixel_order(0, number)
            assert order is not None
            plain = torch.empty(count, 784)
            plain[:, torch.from_numpy(order)] = pixels_of(split).reshape(count, 784)
            undone.append(plain)
            shown = [DIGIT_OF[row] for row in rows_of((plain * 255).round().to(torch.uint8))]
            assert shown == split.labels.tolist()
        assert torch.equal(undone[0], undone[1])
        assert torch.equal(undone[0], undone[2])
        assert not torch.equal(pixels_of(stream.tasks[0].splits()[name]), pixels_of(stream.tasks[1].splits()[name]))


def test_pixel_orders_are_permutations_of_their_own() -> None:
    orders = [pixel_order(seed, task) for seed in (0, 1) for task in range(10)]
    assert all(order is not None and sorted(order.tolist()) == list(range(784)) for order in orders)
    assert len({order.tobytes() for order in orders if order is not None}) == 20
    assert pixel_order(0, 0, False) is None
    assert np.array_equal(np.asarray(pixel_order(0, 1, False)), np.asarray(pixel_order(0, 1)))


def test_no_image_is_in_two_splits_and_none_is_left_out(data: Path) -> None:
    task = permuted(data, permute_first=False).tasks[0]
    shown = [row for split in task.splits().values() for row in levels_of(split)]
    assert len(shown) == 100
    assert set(shown) == set(DIGIT_OF)


def test_the_images_lie_in_memory_once(data: Path) -> None:
    held = set()
    for task in permuted(data).tasks:
        for split in (task.train, task.validation):
            assert split is not None
            assert isinstance(split.images, StoredImages)
            assert isinstance(split.images.source, Levels)
            held.add(id(split.images.source.pixels))
    assert len(held) == 1


def test_permuted_mnist_comes_from_the_seed(data: Path, tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", order=1)
    marks = {fingerprint(permuted(data, 3)), fingerprint(permuted(tmp_path, 3))}
    assert len(marks) == 1
    others = (permuted(data, 4), permuted(data, 3, permute_first=False), permuted(data, 3, tasks=2))
    assert len(marks | {fingerprint(stream) for stream in others}) == 4


def test_more_images_contain_the_fewer_and_leave_the_others(data: Path) -> None:
    few, many = (permuted(data, train=count, test=count).tasks[1] for count in (5, 30))
    assert [len(split) for split in few.splits().values()] == [5, 10, 5]
    assert set(levels_of(few.train)) < set(levels_of(many.train))
    assert set(levels_of(few.test)) < set(levels_of(many.test))
    assert levels_of(few.validation) == levels_of(many.validation)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": 0}, "tasks is wanted as at least 1, but came as 0"),
        ({"validation": 60}, "validation is wanted as 1 to 59 .* came as 60"),
        ({"validation": 0}, "validation is wanted as 1 to 59 .* came as 0"),
        ({"train": 51}, "train is wanted as 1 to 50 images, or 0 for all, but came as 51"),
        ({"test": -1}, "test is wanted as 1 to 40 images, or 0 for all, but came as -1"),
    ],
)
def test_numbers_that_permuted_mnist_has_not(data: Path, options: dict[str, Value], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        permuted(data, **options)


# ---------------------------------------------------------------- turning and backgrounds


@pytest.mark.parametrize("side", [4, 5, 28])
def test_quarter_turns_are_exact_and_anticlockwise(side: int) -> None:
    images = noise(0, (3, side, side))
    for quarters in range(-1, 5):
        turned = rotate(images, np.full(3, quarters * np.pi / 2))
        assert np.array_equal(turned, np.rot90(images, quarters, axes=(1, 2)))


def test_a_turn_of_an_eighth_by_hand() -> None:
    """A dot one pixel above the middle goes to half a root of two up and as much to the left."""
    image = np.zeros((1, 5, 5), dtype=np.uint8)
    image[0, 1, 2] = 200
    turned = rotate(image, np.array([np.pi / 4]))[0].astype(int)
    # Pixel (1, 1), (-1, -1) from the middle, is taken from (-1.41421, 0): 0.58579 of the dot, 0.41421 of black.
    # In 2^-8 of a pixel, -1.41421 is -362.04, rounded -362: 150 / 256 of 200 is 117.2.
    assert turned[1, 1] == 117
    # Pixel (1, 2), (-1, 0), is taken from (-0.70711, -0.70711): 0.70711 * 0.29289 of the dot; 181 and 75 / 256.
    assert turned[1, 2] == round(200 * 181 * 75 / 256**2) == 41
    assert turned[1, 2] == turned[2, 1]
    assert turned[3:, 3:].sum() == 0


def test_angles_are_uniform_over_the_circle() -> None:
    angles = random_angles(8000, 0, "test")
    assert angles.min() >= 0
    assert angles.max() < 2 * np.pi
    counts = np.bincount((angles * 8 / (2 * np.pi)).astype(int), minlength=8)
    assert counts.min() > 900
    assert counts.max() < 1100


def test_textures_are_smooth_and_noise_is_not() -> None:
    smooth, rough = (make((200, 28, 28), 0, "test").astype(int) for make in (textures, random_levels))
    assert (smooth.min((1, 2)) == 0).all()
    assert (smooth.max((1, 2)) == 255).all()
    assert (rough.min(), rough.max()) == (0, 255)
    # Independent uniform levels differ by 255 / 3 = 85 on average.
    assert np.abs(np.diff(rough)).mean() == pytest.approx(85, abs=2)
    assert np.abs(np.diff(smooth)).mean() < 20
    assert len({image.tobytes() for image in smooth}) == 200
    # The same on every machine, whatever it sums first.
    assert textures((1, 28, 28), 0, "test")[0, 0, :6].tolist() == smooth[0, 0, :6].tolist()


def test_ink_covers_a_background() -> None:
    ink, background = np.array([[[0, 255, 51]]], dtype=np.uint8), np.array([[[90, 90, 100]]], dtype=np.uint8)
    # 51 is a fifth: 0.2 * 255 + 0.8 * 100 = 131.
    assert over(ink, background).tolist() == [[[90, 255, 131]]]


# ---------------------------------------------------------------- mnist-variation


def varied(data: Path, seed: int = 0, **options: Value) -> TaskStream:
    return make_stream("mnist-variation", seed, data, {"train": 5, "validation": 2, "test": 3, **options})


@pytest.mark.parametrize("background", ["none", "noise", "texture"])
def test_ten_binary_tasks_over_one_set_of_images(data: Path, background: str) -> None:
    stream = varied(data, background=background)
    assert [task.name for task in stream.tasks] == [f"{digit}-vs-rest" for digit in range(10)]
    for digit, task in enumerate(stream.tasks):
        assert task.classes == ("rest", str(digit))
        for name, count in (("train", 5), ("validation", 2), ("test", 3)):
            split = task.splits()[name]
            assert split.labels.tolist() == [int(other == digit) for other in range(10) for _ in range(count)]
            assert split.images is stream.tasks[0].splits()[name].images
    shown = [row for split in stream.tasks[0].splits().values() for row in levels_of(split)]
    assert len(set(shown)) == 100
    assert not set(shown) & set(DIGIT_OF)


def test_an_image_is_the_digit_turned_by_its_angle_over_its_background(data: Path) -> None:
    first, second = read_mnist(data)
    digits = np.concatenate([part.pixels[part.labels == 7] for part in (first, second)])
    turned = rotate(digits, random_angles(10, 5, "mnist-variation", "angle", 7))
    noisy = over(turned, random_levels(digits.shape, 5, "mnist-variation", "noise", 7))
    for background, made in (("none", turned), ("noise", noisy)):
        task = varied(data, 5, background=background).tasks[7]
        shown = {
            row
            for split in task.splits().values()
            for row, label in zip(levels_of(split), split.labels.tolist(), strict=True)
            if label
        }
        assert shown == {image.tobytes() for image in made}


def test_more_training_images_of_a_digit_contain_the_fewer(data: Path) -> None:
    few, many = (varied(data, train=count).tasks[0] for count in (2, 5))
    assert set(levels_of(few.train)) < set(levels_of(many.train))
    assert levels_of(few.test) == levels_of(many.test)


def test_equal_balance_trains_on_as_many_of_the_rest_dealt_evenly(data: Path) -> None:
    whole, equal = (varied(data, balance=balance) for balance in ("all", "equal"))
    digit_of = {row: number // 5 for number, row in enumerate(levels_of(whole.tasks[0].train))}
    for digit, task in enumerate(equal.tasks):
        assert torch.bincount(task.train.labels).tolist() == [5, 5]
        shown = Counter(digit_of[row] for row in levels_of(task.train))
        assert shown.pop(digit) == 5
        assert max(shown.values()) == 1
        assert len(shown) == 5
        assert len(set(levels_of(task.train))) == 10
        assert levels_of(task.test) == levels_of(whole.tasks[digit].test)
    others = [frozenset(levels_of(task.train)) for task in equal.tasks]
    assert len(set(others)) == 10


def test_variations_come_from_the_seed(data: Path, tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", order=1)
    assert fingerprint(varied(data, 3)) == fingerprint(varied(tmp_path, 3))
    streams = [varied(data, seed, background=how) for seed in (3, 4) for how in ("none", "noise", "texture")]
    streams.append(varied(data, 3, balance="equal"))
    assert len(set(map(fingerprint, streams))) == 7


def test_numbers_that_mnist_has_not(data: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"10 images of the digit 0, but 6 \+ 2 \+ 3 = 11 are asked for"):
        varied(data, train=6)
    with pytest.raises(ConfigurationError, match="validation is wanted as at least 1 image of each digit"):
        varied(data, validation=0)


def write_amat(folder: Path, train: int = 4, test: int = 3) -> dict[bytes, int]:
    """Larochelle's two files of so many images a digit; what they show, upright, with the digit."""
    folder.mkdir(parents=True)
    shown: dict[bytes, int] = {}
    for name, count, first in (("train", train, 0), ("test", test, 500)):
        lines = []
        for number in range(10 * count):
            upright = noise(first + number, (28, 28)).astype(np.float32) / 255
            shown[upright.tobytes()] = number % 10
            lines.append(" ".join(f"{value:.9g}" for value in [*upright.T.ravel(), number % 10]))
        (folder / OFFICIAL[name]).write_text("\n".join(lines) + "\n")
    return shown


def test_the_official_files_are_read_upright(tmp_path: Path) -> None:
    shown = write_amat(tmp_path / "mnist-variation")
    stream = varied(tmp_path, source="official", train=2, validation=1, test=3)
    outcome: list[bytes] = []
    for digit, task in enumerate(stream.tasks):
        assert [len(split) for split in task.splits().values()] == [20, 10, 30]
        for name, split in task.splits().items():
            assert isinstance(split.images, torch.Tensor)
            assert split.images.data_ptr() == stream.tasks[0].splits()[name].images.data_ptr()  # type: ignore[union-attr]
            assert split.labels.tolist() == [int(shown[row] == digit) for row in rows_of(split.images)]
            outcome += rows_of(split.images) if digit == 0 else []
    assert len(set(outcome)) == 60
    # What a digit lacks is not made up: four of each in the file, one of them for validation.
    short = varied(tmp_path, source="official", train=9, validation=1, test=9)
    assert [len(split) for split in short.tasks[0].splits().values()] == [30, 10, 30]
    again = varied(tmp_path, 1, source="official", train=2, validation=1, test=3)
    assert fingerprint(again) != fingerprint(stream)


def test_official_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"mnist-variation lacks mnist_all_background.*train_valid\.amat and "):
        varied(tmp_path, source="official")
    with pytest.raises(MissingDataError, match="a data folder is needed"):
        make_stream("mnist-variation", options={"source": "official"})
    file = tmp_path / "some.amat"
    for text, said in (
        ("1 2 3\n", "wanted with 785 columns, but has 3"),
        ("a b c\n", "cannot be read as numbers in columns"),
        ("", "cannot be read as numbers in columns"),
        (" ".join(["0"] * 784) + " 11\n", "wanted as a digit from 0 to 9"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            read_amat(file)


# ---------------------------------------------------------------- the real set

REAL = os.environ.get("EVERLEARN_DATA")
real = pytest.mark.skipif(not REAL, reason="EVERLEARN_DATA is not set; name a folder that holds mnist/train.parquet")


@real
@pytest.mark.slow
@pytest.mark.realdata
def test_the_real_set() -> None:
    """The numbers of the paper's section 4 and appendix A.1."""
    data = Path(str(REAL))
    stream = make_stream("permuted-mnist", 0, data)
    assert len(stream.tasks) == 10
    for task in stream.tasks:
        assert [len(split) for split in task.splits().values()] == [55_000, 5_000, 10_000]
    variation = make_stream("mnist-variation", 0, data)
    for digit, task in enumerate(variation.tasks):
        assert [torch.bincount(split.labels).tolist() for split in task.splits().values()] == [
            [9_000, 1_000], [1_800, 200], [45_000, 5_000],
        ], digit  # fmt: skip
