"""Sets of encoded images, from local Parquet files and from a hub that does not answer."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks import encoded, open_image_set, task_from_set
from everlearn.tasks.encoded import EncodedImages
from tests.tasks.made import encode, encode_webp, noise, rows_of, write_parquet

NAMES = ("ant", "bee", "cat")


def open_set(data: Path, label: str = "label") -> dict[str, EncodedImages]:
    return open_image_set("toys", "someone/toys", label, data)


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """Ten training and two test images a class; the class of key k is k % 3."""
    train, test = list(range(30)), list(range(100, 106))
    write_parquet(tmp_path / "toys/train.parquet", [key % 3 for key in train], train, NAMES)
    write_parquet(tmp_path / "toys/test.parquet", [(key - 100) % 3 for key in test], test, NAMES)
    return tmp_path


def test_a_set_is_opened_and_decoded_row_by_row(toys: Path) -> None:
    train = open_set(toys)["train"]
    assert train.classes == NAMES
    assert train.labels.tolist() == [0, 1, 2] * 10
    pixels = train.decode([4, 0])
    assert np.array_equal(pixels, np.stack([noise(4), noise(0)]))
    assert train.decode([4], grey=True).shape == (1, 4, 4)
    assert train.decode([4], size=(2, 3)).shape == (1, 2, 3, 3)


def test_only_the_rows_that_are_wanted_are_decoded(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    read = encoded.read_image
    monkeypatch.setattr(
        encoded, "read_image", lambda source, what, *rest: (seen.append(what), read(source, what, *rest))[1]
    )
    train = open_set(toys)["train"]
    assert seen == []
    train.decode([7, 2])
    assert seen == ["image 7 of toys/train.parquet", "image 2 of toys/train.parquet"]


@pytest.mark.parametrize("place", ["toys", "."])
def test_shards_are_one_set_wherever_they_lie(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    write_parquet(folder / "train-00001-of-00002.parquet", [1], [8], NAMES, image="img")
    write_parquet(folder / "train-00000-of-00002.parquet", [2, 0], [6, 7], NAMES, image="img")
    write_parquet(folder / "test-00000-of-00001.parquet", [0], [9], NAMES, image="img")
    train = open_set(tmp_path)["train"]
    assert train.labels.tolist() == [2, 0, 1]
    assert np.array_equal(train.decode([0, 1, 2]), np.stack([noise(6), noise(7), noise(8)]))


def test_labels_without_names_in_the_schema(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", ["owl", "fox", "owl"], [0, 1, 2], label="kind", image="photo")
    write_parquet(tmp_path / "test.parquet", ["elk", "fox"], [3, 4], label="kind", image="photo")
    both = open_set(tmp_path, "kind")
    assert both["test"].classes == both["train"].classes == ("elk", "fox", "owl")
    assert both["train"].labels.tolist() == [2, 1, 2]
    assert both["test"].labels.tolist() == [0, 1]


def test_pixel_hashes_do_not_depend_on_order_or_encoding(toys: Path, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(30).tolist()
    write_parquet(tmp_path / "m/train.parquet", [k % 3 for k in order], order, NAMES, encoder=encode_webp)
    write_parquet(tmp_path / "m/test.parquet", [0], [100], NAMES, encoder=encode_webp)
    ours, mirror = open_set(toys)["train"], open_image_set("m", "x/m", "label", tmp_path)["train"]
    assert ours.pixel_hashes()[order].tolist() == mirror.pixel_hashes().tolist()
    assert len(set(ours.pixel_hashes().tolist())) == 30
    for here, there in zip(ours.by_class(), mirror.by_class(), strict=True):
        assert len(here) == 10
        assert np.array_equal(ours.decode(here), mirror.decode(there))


def test_pixel_hashes_are_kept_and_a_spoilt_copy_is_made_again(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLEARN_CACHE", str(tmp_path / "kept"))
    hashes = open_set(toys)["train"].pixel_hashes()
    [file] = (tmp_path / "kept").iterdir()
    with monkeypatch.context() as nothing_decoded:
        nothing_decoded.setattr(encoded, "read_image", None)
        assert np.array_equal(open_set(toys)["train"].pixel_hashes(), hashes)
    for spoilt in (b"", b"\x93NUMPY nonsense"):
        file.write_bytes(spoilt)
        assert np.array_equal(open_set(toys)["train"].pixel_hashes(), hashes)
    np.save(file, hashes[:-1])
    assert np.array_equal(open_set(toys)["train"].pixel_hashes(), hashes)
    assert [kept.name for kept in (tmp_path / "kept").iterdir()] == [file.name]


def test_caches_that_cannot_be_written_cost_nothing_but_time(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import config

    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EVERLEARN_CACHE", str(tmp_path / "file/cache"))
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path / "file/datasets"))
    assert len(open_set(toys)["train"].pixel_hashes()) == 30


def test_a_task_of_some_classes(toys: Path) -> None:
    sets = open_set(toys)
    task = task_from_set("t", sets, seed=1, classes=("cat", "ant"), validation=0.3)
    assert task.classes == ("cat", "ant")
    # 10 a class: 3 for validation, 7 left; 2 test images a class.
    assert {name: torch.bincount(part.labels).tolist() for name, part in task.splits().items()} == {
        "train": [7, 7],
        "validation": [3, 3],
        "test": [2, 2],
    }
    rows = [row for split in task.splits().values() for row in rows_of(split.images)]
    assert len(set(rows)) == 24
    of_key = {
        (noise(k).astype(np.float32) / 255).transpose(2, 0, 1).tobytes(): k for k in [*range(30), *range(100, 106)]
    }
    classes = {key: (key % 3 if key < 100 else (key - 100) % 3) for key in of_key.values()}
    for split in task.splits().values():
        for row, label in zip(rows_of(split.images), split.labels.tolist(), strict=True):
            assert NAMES[classes[of_key[row]]] == task.classes[label]
    again, other = (task_from_set("t", sets, seed, ("cat", "ant"), 0.3) for seed in (1, 2))
    assert rows_of(again.train.images) == rows_of(task.train.images)
    assert set(rows_of(other.train.images)) != set(rows_of(task.train.images))
    assert len(task_from_set("all", sets, 0).classes) == 3


def test_a_class_that_the_set_has_not(toys: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^toys/train.parquet has no class 'elk'; it has ant, bee, cat\.$"):
        task_from_set("t", open_set(toys), 0, ("ant", "elk"))


def test_a_folder_without_the_set_says_where_and_what(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        open_set(tmp_path)
    assert str(caught.value) == (
        f"the set toys is missing: neither {tmp_path}/toys nor {tmp_path} holds train.parquet (or "
        "train-*.parquet) and test.parquet (or test-*.parquet); name the folder that holds toys/ with "
        "--data DIR or EVERLEARN_DATA, or name none to have someone/toys downloaded from the Hugging Face "
        "hub."
    )
    write_parquet(tmp_path / "toys/train.parquet", [0], [0], NAMES)
    with pytest.raises(MissingDataError, match="the set toys is missing"):  # half of it is not it
        open_set(tmp_path)
    with pytest.raises(MissingDataError, match=f"there is no folder {tmp_path}/no that could hold"):
        open_set(tmp_path / "no")


def test_a_broken_parquet_file_is_named(toys: Path) -> None:
    (toys / "toys/test.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=f"^{toys}/toys/test.parquet cannot be read as Parquet .*; fetch it again"):
        open_set(toys)


def test_a_missing_column_is_named(toys: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^toys/train.parquet has no column 'fine_label'; its columns are image, label\.$"
    ):
        open_set(toys, "fine_label")
    from datasets import Dataset

    for split in ("train", "test"):
        Dataset.from_dict({"words": ["a"], "label": [0]}).to_parquet(str(tmp_path / f"n/{split}.parquet"))
    with pytest.raises(DataError, match=r"^n/train.parquet has no column of images; its columns are words, label"):
        open_image_set("n", "x/n", "label", tmp_path)


def test_hidden_and_missing_labels_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "toys/train.parquet", [0, 1], [0, 1], NAMES)
    write_parquet(tmp_path / "toys/test.parquet", [-1, -1], [2, 3], NAMES)
    with pytest.raises(DataError, match=r"toys/test.parquet has the label -1, but its 3 classes are labelled 0 to 2"):
        open_set(tmp_path)
    write_parquet(tmp_path / "toys/test.parquet", [0, None, None], [2, 3, 4], NAMES)
    with pytest.raises(DataError, match=r"^2 of the images of toys/test.parquet have no label"):
        open_set(tmp_path)


def test_a_broken_image_is_named_by_its_row(tmp_path: Path) -> None:
    def broken(pixels: np.ndarray) -> bytes:
        return b"" if np.array_equal(pixels, noise(1)) else encode_webp(pixels)

    for split in ("train", "test"):
        write_parquet(tmp_path / f"toys/{split}.parquet", [0, 1], [0, 1], NAMES, encoder=broken)
    with pytest.raises(DataError, match=r"^image 1 of toys/test.parquet is empty"):
        open_set(tmp_path)["test"].decode([0, 1])


def test_progress_bars_and_loggers_are_left_as_they_were(toys: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import datasets

    logger = logging.getLogger("huggingface_hub")
    before = (datasets.are_progress_bars_disabled(), logger.level)
    open_set(toys)
    assert (datasets.are_progress_bars_disabled(), logger.level) == before
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_labels_of_another_split_count_by_their_names(tmp_path: Path) -> None:
    write_parquet(tmp_path / "toys/train.parquet", [0, 1, 2], [0, 1, 2], NAMES)
    write_parquet(tmp_path / "toys/test.parquet", [0, 1, 2], [3, 4, 5], ("cat", "ant", "bee"))
    both = open_set(tmp_path)
    assert (both["test"].classes, both["test"].labels.tolist()) == (NAMES, [2, 0, 1])
    write_parquet(tmp_path / "toys/test.parquet", [0, 1], [3, 4], ("cat", "elk"))
    with pytest.raises(DataError, match=r"^toys/test.parquet has images of a class 'elk', which toys/train.parquet"):
        open_set(tmp_path)
    write_parquet(tmp_path / "toys/train.parquet", [1, 2], [0, 1])
    write_parquet(tmp_path / "toys/test.parquet", [0, 1], [3, 4], ("2", "1"))
    both = open_set(tmp_path)
    assert both["train"].classes == both["test"].classes == ("1", "2")
    assert (both["train"].labels.tolist(), both["test"].labels.tolist()) == ([0, 1], [1, 0])


def written(folder: Path, images: Sequence[object], labels: Sequence[object], image: object, label: object) -> Path:
    """A set of two equal splits in a folder of a user's own making."""
    from datasets import Dataset, Features

    for split in ("train", "test"):
        rows = {"image": list(images), "label": list(labels)}
        file = folder / "toys" / f"{split}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(rows, features=Features({"image": image, "label": label})).to_parquet(str(file))
    return folder


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    from datasets import Image, List, Value

    shown = [{"bytes": encode_webp(noise(key)), "path": None} for key in range(2)]
    data = written(tmp_path / "lists", shown, [[0], [1]], Image(), List(Value("int64")))
    with pytest.raises(DataError, match=r"^column 'label' of toys/train.parquet is wanted with one .* holds list"):
        open_set(data)
    data = written(tmp_path / "nan", shown, [float("nan"), 1.0], Image(), Value("float32"))
    with pytest.raises(DataError, match=r"^column 'label' of toys/train.parquet has 1 labels that are no numbers"):
        open_set(data)
    write_parquet(tmp_path / "toys/train.parquet", ["owl", "fox"], [0, 1])
    write_parquet(tmp_path / "toys/test.parquet", [0, 1], [2, 3])
    with pytest.raises(DataError, match=r"of one kind .*train.parquet holds string; toys/test.parquet holds int64"):
        open_set(tmp_path)
    write_parquet(tmp_path / "toys/train.parquet", [0, 1], [0, 1], NAMES)
    with pytest.raises(DataError, match=r"^toys/test.parquet has images of a class '0', .* are ant, bee, cat"):
        open_set(tmp_path)


def test_images_that_are_none_are_refused(tmp_path: Path) -> None:
    from datasets import Image, List, Value

    data = written(tmp_path / "ints", [3, 4], [0, 1], Value("int64"), Value("int64"))
    with pytest.raises(DataError, match=r"^column 'image' of toys/train.parquet is wanted with encoded .* holds int64"):
        open_set(data)
    levels = [[[1, 2], [3, 4]]] * 2
    data = written(tmp_path / "levels", levels, [0, 1], List(List(Value("uint8"))), Value("int64"))
    with pytest.raises(DataError, match=r"^column 'image' of toys/train.parquet is wanted with encoded .* holds list"):
        open_set(data)
    shown = [{"bytes": encode_webp(noise(0)), "path": None}, None]
    train = open_set(written(tmp_path / "null", shown, [0, 1], Image(), Value("int64")))["train"]
    with pytest.raises(DataError, match=r"^image 1 of toys/train.parquet is missing: its row holds nothing"):
        train.decode([0, 1])
    with pytest.raises(DataError, match=r"^image 1 of toys/train.parquet is missing"):
        train.pixel_hashes()
    plain = written(
        tmp_path / "bytes", [encode_webp(noise(k)) for k in range(2)], [0, 1], Value("binary"), Value("int8")
    )
    assert np.array_equal(open_set(plain)["train"].decode([1]), noise(1)[None])
    with pytest.raises(DataError, match=r"^toys/train.parquet holds no image; the train split needs some"):
        open_set(written(tmp_path / "none", [], [], Image(), Value("int64")))


def test_shards_that_are_missing_are_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "toys/train-00001-of-00003.parquet", [0], [0], NAMES)
    write_parquet(tmp_path / "toys/test.parquet", [0], [9], NAMES)
    with pytest.raises(MissingDataError) as caught:
        open_set(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/toys holds 1 of the 3 files of its train split: train-00000-of-00003.parquet, "
        "train-00002-of-00003.parquet are missing; fetch them as well."
    )
    for number in (0, 2):
        write_parquet(tmp_path / f"toys/train-0000{number}-of-00003.parquet", [0], [number], NAMES)
    assert len(open_set(tmp_path)["train"].labels) == 3
    write_parquet(tmp_path / "toys/train-00000-of-00001.parquet", [0], [7], NAMES)
    with pytest.raises(DataError, match="toys holds train files of 1 shards and of 3; keep those of one download"):
        open_set(tmp_path)


def test_shards_of_other_columns_are_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "toys/train-00000-of-00002.parquet", [0, 1], [0, 1], NAMES)
    write_parquet(tmp_path / "toys/train-00001-of-00002.parquet", ["a", "b"], [2, 3])
    write_parquet(tmp_path / "toys/test.parquet", [0], [9], NAMES)
    with pytest.raises(DataError, match=r"column 'label' is int64 in train-00000-.* and string in train-00001"):
        open_set(tmp_path)


def test_a_file_that_was_replaced_by_one_of_the_same_time_is_read(tmp_path: Path) -> None:
    seen = []
    for key in (1, 2):
        for split in ("train", "test"):
            file = tmp_path / f"toys/{split}.parquet"
            write_parquet(file, [0, 1], [key, key], NAMES, encoder=lambda pixels: encode(pixels, "BMP"))
            os.utime(file, (1_700_000_000, 1_700_000_000))
        seen.append(open_set(tmp_path)["train"].decode([0])[0])
    assert np.array_equal(seen[0], noise(1))
    assert np.array_equal(seen[1], noise(2))


@pytest.mark.parametrize("share", [0.0, -1.0, 1.0, 1.5, float("nan")])
def test_a_share_for_validation_that_is_none(toys: Path, share: float) -> None:
    with pytest.raises(ConfigurationError, match="validation is wanted above 0 and below 1, but came as"):
        task_from_set("t", open_set(toys), 0, validation=share)


def unreachable(*arguments: object, **options: object) -> None:
    raise OSError("[Errno -2] Name or service\nnot known")


def test_a_hub_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from datasets import config

    # Another test may have been the first to import both, without a network.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    with pytest.raises(MissingDataError) as caught:
        open_image_set("toys", "someone/toys")
    assert str(caught.value) == (
        "someone/toys could not be had from the Hugging Face hub ([Errno -2] Name or service not known), and "
        "no copy of its train split is on this machine; name a folder that holds it as Parquet with --data "
        "DIR or EVERLEARN_DATA, or try again with a network."
    )
    assert config.HF_HUB_OFFLINE is False


def test_a_set_from_the_hub_is_read_like_a_local_one(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local files play the hub's answer: which set and splits are asked for, and what is made of them."""
    import datasets
    import huggingface_hub

    asked: list[tuple[str, str]] = []

    def load(name: str, split: str, cache_dir: str) -> object:
        asked.append((name, split))
        return datasets.Dataset.from_parquet(str(toys / f"toys/{split}.parquet"), cache_dir=cache_dir)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", load)
    both = open_image_set("toys", "someone/toys")
    assert asked == [("someone/toys", "train"), ("someone/toys", "test")]
    assert both["test"].where == "the test split of someone/toys"
    assert np.array_equal(both["train"].decode([5]), noise(5)[None])


def test_a_full_disk_is_one_sentence(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets.Dataset, "from_parquet", full)
    with pytest.raises(
        DataError, match=r"could not be copied into the cache folder .*No space left.*HF_DATASETS_CACHE"
    ):
        open_set(toys)
