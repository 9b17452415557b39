"""Folders of image files become tasks, or one plain sentence."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks import Task, make_stream, task_from_folder
from everlearn.tasks.folders import VALIDATION_NAMES
from everlearn.tasks.paths import folder_name
from everlearn.tasks.standardising import IMAGENET
from everlearn.tasks.transforms import standardise, statistics
from tests.tasks.made import noise, rows_of, write_images


def says(error: type[Exception], message: str) -> "pytest.RaisesExc[Exception]":
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def everything(task: Task) -> list[bytes]:
    return [row for split in task.splits().values() for row in rows_of(split.images)]


def test_a_folder_is_divided_class_by_class(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", {"dog": 10, "cat": 5})
    (tmp_path / "pets" / "dog" / "notes.txt").write_text("passed over")
    (tmp_path / "pets" / "dog" / ".hidden.png").write_text("passed over")
    (tmp_path / "pets" / ".git").mkdir()
    task = task_from_folder(tmp_path / "pets")
    assert (task.name, task.classes, task.image_shape) == ("pets", ("cat", "dog"), (3, 6, 5))
    # cat: 5 * 0.2 = 1, 1, and 3 left. dog: 10 * 0.2 = 2, 2, and 6 left.
    counts = {name: torch.bincount(split.labels).tolist() for name, split in task.splits().items()}
    assert counts == {"train": [3, 6], "validation": [1, 2], "test": [1, 2]}
    assert len(set(everything(task))) == 15


def test_a_task_is_called_as_it_is_told(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", {"dog": 3, "cat": 3})
    assert [task_from_folder(tmp_path / "pets", name).name for name in (None, "mine", "")] == ["pets", "mine", ""]


def test_labels_belong_to_their_images(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 4, "dog": 4})  # keys 0 .. 3 are cats, 4 .. 7 dogs
    of_key = {(noise(key, (6, 5, 3)).astype(np.float32) / 255).transpose(2, 0, 1).tobytes(): key for key in range(8)}
    for split in task_from_folder(tmp_path).splits().values():
        for row, label in zip(rows_of(split.images), split.labels.tolist(), strict=True):
            assert of_key[row] // 4 == label


def test_the_division_comes_from_the_seed(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 10, "dog": 10})
    first, again, other = (rows_of(task_from_folder(tmp_path, seed=seed).train.images) for seed in (1, 1, 2))
    assert first == again
    assert set(first) != set(other)


def test_other_fractions_give_other_counts(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 10, "dog": 10})
    task = task_from_folder(tmp_path, fractions=(0.2, 0.3, 0.5))
    assert [len(split) for split in task.splits().values()] == [4, 6, 10]
    with pytest.raises(ConfigurationError, match="sum to 1"):
        task_from_folder(tmp_path, fractions=(0.5, 0.5, 0.5))


@pytest.mark.parametrize("validation", VALIDATION_NAMES)
def test_given_splits_are_kept(tmp_path: Path, validation: str) -> None:
    counts = {"train": 3, validation: 2, "test": 4}
    for k, (name, count) in enumerate(counts.items()):
        write_images(tmp_path / name, {"cat": count, "dog": 1}, first=100 * k)
    task = task_from_folder(tmp_path)
    assert [len(split) for split in task.splits().values()] == [4, 3, 5]
    test_image = (noise(200, (6, 5, 3)).astype(np.float32) / 255).transpose(2, 0, 1).tobytes()
    assert test_image == rows_of(task.test.images)[0]
    assert len(set(everything(task))) == 12


def test_without_a_validation_folder_a_part_of_train_serves(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 12, "dog": 12})
    write_images(tmp_path / "test", {"cat": 2, "dog": 3}, first=100)
    # 0.2 / (0.6 + 0.2) = a quarter of 12 is 3 a class (a fifth would be 2).
    task = task_from_folder(tmp_path)
    assert [len(split) for split in task.splits().values()] == [18, 6, 5]
    assert len(set(everything(task))) == 29


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_images(tmp_path, {"bus": 3, "train": 3})
    assert task_from_folder(tmp_path).classes == ("bus", "train")


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".bmp", ".gif", ".tiff"])
def test_files_of_many_kinds(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path, {"cat": 3, "dog": 3}, suffix=suffix)
    task = task_from_folder(tmp_path, grey=True)
    assert task.image_shape == (1, 6, 5)
    assert len(set(everything(task))) == 6


def test_images_are_resized_when_asked(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 3}, size=(6, 5))
    write_images(tmp_path, {"dog": 3}, size=(9, 9))
    assert task_from_folder(tmp_path, size=(4, 8), name="mine").image_shape == (3, 4, 8)


def test_images_of_differing_sizes_are_named(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", {"cat": 3}, size=(6, 5))
    write_images(tmp_path / "pets", {"dog": 3}, size=(7, 5), first=10)
    with pytest.raises(
        DataError,
        match=r"^pets/cat/\d.png has 6 x 5 pixels but pets/dog/\d.png has 7 x 5; resize all to one size .*size=64x64",
    ):
        task_from_folder(tmp_path / "pets")


def test_a_missing_folder(tmp_path: Path) -> None:
    with says(
        MissingDataError,
        f"there is no folder {tmp_path}/no; give one that holds a folder of images for each class.",
    ):
        task_from_folder(tmp_path / "no")


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(
        DataError,
        match=f"^{tmp_path} holds no folder of images for a class; images are wanted as {tmp_path.name}/CLASS/NAME.jpg",
    ):
        task_from_folder(tmp_path)


def test_one_class(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 5})
    with says(DataError, f"{tmp_path} holds one class only, 'cat'; a task needs at least two."):
        task_from_folder(tmp_path)


def test_a_class_without_images(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 5, "dog": 0, "owl": 4})
    with says(DataError, f"class 'dog' of {tmp_path} holds no images; add some or take the folder out."):
        task_from_folder(tmp_path)


def test_a_class_too_small_to_divide(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 5, "dog": 2})
    with pytest.raises(DataError, match=f"^class 'dog' of {tmp_path} has 2 images, too few to divide into 3 parts"):
        task_from_folder(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8 broken"])
def test_an_empty_or_unreadable_file_is_named(tmp_path: Path, data: bytes) -> None:
    write_images(tmp_path, {"cat": 5, "dog": 5})
    (tmp_path / "dog" / "3.jpg").write_bytes(data)
    with pytest.raises(DataError, match=f"^{tmp_path}/dog/3.jpg (is empty|cannot be read)"):
        task_from_folder(tmp_path)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_class_missing_in_a_split(tmp_path: Path, split: str) -> None:
    for name in ("train", "val", "test"):
        write_images(tmp_path / name, {"cat": 2, "dog": 2, **({} if name == split else {"owl": 2})})
    named = "validation" if split == "val" else split
    with says(DataError, f"class 'owl' of {tmp_path} has no images in its {named} split; each class needs some."):
        task_from_folder(tmp_path)


def test_train_without_test_and_two_validations(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 2, "dog": 2})
    with says(DataError, f"{tmp_path} has train/ but no test/; add it, or put the classes directly into {tmp_path}."):
        task_from_folder(tmp_path)
    for name in ("test", "val", "valid"):
        write_images(tmp_path / name, {"cat": 2, "dog": 2})
    with says(DataError, f"{tmp_path} has both val/ and valid/; keep one of them."):
        task_from_folder(tmp_path)


def test_the_stream_has_a_task_a_folder_standardised_by_its_training_images(tmp_path: Path) -> None:
    write_images(tmp_path / "zoo", {"cat": 5, "dog": 5})
    write_images(tmp_path / "fruit", {"fig": 5, "kiwi": 5, "plum": 5}, first=50)
    stream = make_stream("folders", 3, None, {"path": str(tmp_path)})
    assert [(task.name, task.classes) for task in stream.tasks] == [
        ("fruit", ("fig", "kiwi", "plum")),
        ("zoo", ("cat", "dog")),
    ]
    assert stream.options == {
        "path": str(tmp_path), "size": "", "grey": False, "standardise": "train", "in_memory": True,
    }  # fmt: skip
    plain = task_from_folder(tmp_path / "zoo", seed=3)
    by = statistics(plain.train.images)
    for name, split in plain.splits().items():
        assert torch.equal(stream.tasks[1].splits()[name].images, standardise(split.images, by))
    for how, wanted in (("none", plain.test.images), ("imagenet", standardise(plain.test.images, IMAGENET))):
        other = make_stream("folders", 3, None, {"path": str(tmp_path), "standardise": how})
        assert torch.equal(other.tasks[1].splits()["test"].images, wanted)
    small = make_stream("folders", 3, None, {"path": str(tmp_path), "size": "8x4", "grey": True})
    assert small.image_shape == (1, 8, 4)


def test_what_the_stream_refuses(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="wants the option path"):
        make_stream("folders")
    with pytest.raises(MissingDataError, match=f"there is no folder {tmp_path}/no; path names one"):
        make_stream("folders", options={"path": f"{tmp_path}/no"})
    with pytest.raises(DataError, match=f"{tmp_path} holds no folders; each task is wanted as"):
        make_stream("folders", options={"path": str(tmp_path)})
    write_images(tmp_path / "a", {"x": 3, "y": 3}, size=(6, 5))
    write_images(tmp_path / "b", {"x": 3, "y": 3}, size=(7, 7))
    with pytest.raises(DataError, match=r"differ in image shape.*resize them"):
        make_stream("folders", options={"path": str(tmp_path)})
    with pytest.raises(ConfigurationError, match="size is wanted"):
        make_stream("folders", options={"path": str(tmp_path), "size": "big"})


def test_images_are_copied_apart(tmp_path: Path) -> None:
    """A split must not hold on to the memory of the others."""
    write_images(tmp_path, {"cat": 5, "dog": 5})
    for split in task_from_folder(tmp_path).splits().values():
        assert split.images.untyped_storage().nbytes() == split.images.numel() * 4


def test_a_relative_path_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "pets", {"cat": 3, "dog": 3})
    monkeypatch.chdir(tmp_path / "pets")
    assert task_from_folder(Path(".")).name == "pets"
    Image.fromarray(noise(0, (9, 9, 3))).save("cat/9.png")
    with pytest.raises(DataError, match="9 x 9"):
        task_from_folder(Path("."))


def test_a_link_has_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    for name in ("fruit", "tools"):
        write_images(tmp_path / "store" / name / "images", {"a": 5, "b": 5})
        (tmp_path / "links" / name).symlink_to(tmp_path / "store" / name / "images")
    stream = make_stream("folders", options={"path": str(tmp_path / "links")})
    assert [task.name for task in stream.tasks] == ["fruit", "tools"]
    assert folder_name(tmp_path / "links" / "tools" / "..") == "tools", "what it stands for: the folder of images/"


@pytest.mark.parametrize("option", ["path", "cache"])
@pytest.mark.parametrize(
    ("text", "said"),
    [("~nobody-of-that-name/x", "no user of this machine"), ("a" * 300, "File name too long"), ("a\0b", "zero byte")],
)
@pytest.mark.parametrize("suffix", ["", ".yaml"])
def test_paths_that_are_none(tmp_path: Path, option: str, text: str, said: str, suffix: str) -> None:
    options = {"path": str(tmp_path), "size": "4x4", option: text + suffix}
    with pytest.raises(ConfigurationError, match=f"^the option {option} is wanted as a path, but .*{said}"):
        make_stream("folders", options=options)
