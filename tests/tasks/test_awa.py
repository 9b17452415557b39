"""Fifty animals from made-up features, as arrays and as the published text."""

from pathlib import Path

import numpy as np
import pytest
import torch

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks import TaskStream, Value, fingerprint, make_stream, stream_outline
from everlearn.tasks.awa import principal
from tests.tasks.made import rows_of

ANIMALS = [f"animal{label:02}" for label in range(50)]
COUNT, NUMBERS = 7, 12


def features() -> tuple[np.ndarray, np.ndarray]:
    """Seven images an animal of twelve numbers each, in mixed order; later numbers vary less."""
    labels = np.random.default_rng(1).permutation(50 * COUNT) % 50
    values = np.random.default_rng(2).standard_normal((50 * COUNT, NUMBERS)) * 0.8 ** np.arange(NUMBERS)
    return (values + labels[:, None] / 25).astype(np.float32), labels


def write_arrays(folder: Path, **other: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values, labels = features()
    np.savez(folder / "features.npz", **{"features": values, "labels": labels, "names": np.array(ANIMALS)} | other)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_arrays(folder / "awa")
    return folder


def made(data: Path, seed: int = 0, **options: Value) -> TaskStream:
    return make_stream("awa", seed, data, {"components": 5, "train": 3, "validation": 2, "test": 2, **options})


def test_fifty_binary_tasks_over_one_set_of_features(data: Path) -> None:
    stream = made(data)
    assert [task.name for task in stream.tasks] == [f"{animal}-vs-rest" for animal in ANIMALS]
    assert stream.image_shape == (5, 1, 1) == stream_outline("awa", stream.options).image_shape
    for label, task in enumerate(stream.tasks):
        assert task.classes == ("rest", ANIMALS[label])
        for name, count in (("train", 3), ("validation", 2), ("test", 2)):
            split, first = task.splits()[name], stream.tasks[0].splits()[name]
            assert split.labels.tolist() == [int(other == label) for other in range(50) for _ in range(count)]
            assert isinstance(split.images, torch.Tensor)
            assert split.images is first.images
    shown = [row for split in stream.tasks[0].splits().values() for row in rows_of(split.images)]  # type: ignore[arg-type]
    assert len(set(shown)) == 350


def test_components_are_those_of_the_training_images(data: Path) -> None:
    whole = made(data, components=NUMBERS, standardise="none").tasks[0]
    train, test = (whole.splits()[name].images.flatten(1).double() for name in ("train", "test"))  # type: ignore[union-attr]
    # Over the training images components have mean 0, do not go together, and vary less and less.
    assert train.mean(0).abs().max() < 1e-3
    together = train.T @ train / len(train)
    assert (together - together.diag().diag()).abs().max() < 0.005
    assert (together.diag().diff() < 0.005).all()
    assert test.mean(0).abs().max() > 0.01


def test_components_are_scikit_learns() -> None:
    from sklearn.decomposition import PCA

    values, _ = features()
    projected = principal(torch.from_numpy(values.astype(np.float64)), 3, "none")(torch.from_numpy(values).double())
    expected = torch.from_numpy(PCA(3).fit_transform(values))
    torch.testing.assert_close(projected.abs(), expected.abs(), atol=0.01, rtol=0)


def test_each_way_of_standardising_and_what_it_is_rounded_to() -> None:
    values = torch.from_numpy(features()[0].astype(np.float64))
    together, each, none = (principal(values, 4, how)(values) for how in ("together", "each", "none"))
    assert together.square().mean().item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(each.square().mean(0), torch.ones(4), atol=1e-3, rtol=0)
    for made_of in (together, each):
        assert torch.equal(made_of * 256, (made_of * 256).round())
    ratio = none / together
    assert torch.allclose(ratio[together != 0], ratio[0, 0])
    assert together.square().mean(0)[0] > 2 * together.square().mean(0)[3]


def test_the_sign_of_a_component_does_not_depend_on_the_decomposition() -> None:
    values = torch.randn(30, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reduce = principal(values, 6, "none")
    mean = values.mean(0)
    for number in range(6):
        # A unit of the numbers one by one gives the component's weights.
        weights = torch.stack([reduce((mean + unit)[None])[0, number] for unit in torch.eye(6, dtype=torch.float64)])
        assert weights[weights.abs().argmax()] > 0


def test_the_published_text_gives_the_same_stream_as_arrays_in_its_order(tmp_path: Path) -> None:
    values, labels = features()
    order = np.argsort(labels, kind="stable")
    write_arrays(tmp_path / "arrays" / "awa", features=values[order], labels=labels[order])
    root = tmp_path / "text" / "awa" / "Animals_with_Attributes" / "Features" / "decaf"
    for number, row in enumerate(order):
        name = ANIMALS[labels[row]]
        (root / name).mkdir(parents=True, exist_ok=True)
        text = " ".join(f"{value:.9g}" for value in values[row])
        (root / name / f"{name}_{number:04}.txt").write_text(text + "\n")
    assert fingerprint(made(tmp_path / "text")) == fingerprint(made(tmp_path / "arrays"))
    file = sorted((root / ANIMALS[7]).glob("*.txt"))[0]
    file.write_text("1 2")
    with pytest.raises(DataError, match=r"animal07_\d+.txt has 2 numbers, others 12"):
        [made(tmp_path / "text", seed) for seed in range(3)]
    for one in (root / ANIMALS[7]).glob("*.txt"):
        one.write_text("some words")
    with pytest.raises(DataError, match="cannot be read as numbers"):
        made(tmp_path / "text")


def test_features_come_from_the_seed(data: Path) -> None:
    assert fingerprint(made(data, 1)) == fingerprint(made(data, 1))
    streams = (made(data, 1), made(data, 2), made(data, 1, balance="equal"), made(data, 1, standardise="each"))
    assert len(set(map(fingerprint, streams))) == 4
    equal = streams[2].tasks[9]
    assert [torch.bincount(split.labels).tolist() for split in equal.splits().values()] == [[3, 3], [98, 2], [98, 2]]


def test_features_that_are_not_there_or_too_few(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"holds awa/ with features.npz .*EVERLEARN_DATA"):
        make_stream("awa")
    with pytest.raises(MissingDataError, match=r"awa holds neither features.npz"):
        made(tmp_path)
    with pytest.raises(DataError, match=r"'animal00' of awa has 7 images, but 4 \+ 2 \+ 2 = 8 are asked for"):
        made(data, train=4)
    with pytest.raises(ConfigurationError, match="test is wanted as at least 1 image of each animal"):
        made(data, test=0)
    with pytest.raises(ConfigurationError, match="components is wanted as 1 to 149"):
        made(data, components=150)
    with pytest.raises(ConfigurationError, match="features of 12 numbers have at most 12 components"):
        made(data, components=13)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"labels": np.arange(3)}, r"needs features \[N, D\] and whole labels \[N\]"),
        ({"labels": features()[1] / 2}, "needs features .* and float64"),
        ({"labels": features()[1] + 1}, "has the label 50, which has no name"),
        ({"features": np.full((350, NUMBERS), np.nan)}, "numbers that are not finite"),
        ({"features": np.full((350, NUMBERS), "much")}, "all of them real numbers, but has <U4"),
        ({"features": np.full((350, NUMBERS), 1j)}, "all of them real numbers, but has complex128"),
        ({"names": np.array("unicorn")}, "has the label 49, which has no name"),
        ({"names": np.array([*ANIMALS, "unicorn"])}, "wanted with the features of 50 animals, but has 51"),
    ],
)
def test_arrays_that_are_no_features(tmp_path: Path, other: dict[str, np.ndarray], said: str) -> None:
    write_arrays(tmp_path / "awa", **other)
    with pytest.raises(DataError, match=said):
        made(tmp_path)


def test_a_file_that_is_no_arrays(tmp_path: Path) -> None:
    (tmp_path / "awa").mkdir()
    file = tmp_path / "awa" / "features.npz"
    write_arrays(tmp_path / "awa")
    cut_off = file.read_bytes()[:1000]
    for content in (b"", b"words", cut_off):
        file.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as arrays of numbers"):
            made(tmp_path)
    np.savez(file, features=np.zeros((2, 2)))
    with pytest.raises(DataError, match="lacks the array 'labels'; it has features"):
        made(tmp_path)


def test_labels_of_few_bits_without_names(tmp_path: Path) -> None:
    values, labels = features()
    (tmp_path / "awa").mkdir()
    np.savez(tmp_path / "awa" / "features.npz", features=values, labels=labels.astype(np.uint8))
    assert made(tmp_path).tasks[49].classes == ("rest", "class-50")
