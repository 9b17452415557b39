"""Files that cannot be read, doubles, uneven classes; and the same task from memory, from files and from a cache."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from everlearn.errors import ConfigurationError, DataError, EverlearnWarning
from everlearn.tasks import StoredImages, Task, cached, fingerprint, make_stream, task_from_folder
from everlearn.tasks.cached import Cached
from everlearn.tasks.file_tasks import Handling
from everlearn.tasks.folders import folder_task
from tests.tasks.made import encode, noise, rows_of, write_images

KINDS = ("memory", "files", "cache")


def task(folder: Path, kind: str, skip: bool = False) -> Task:
    cache = folder.parent / "cache" if kind == "cache" else None
    return task_from_folder(folder, size=(4, 4), in_memory=kind == "memory", skip_corrupt=skip, cache=cache)


def pixels(task: Task) -> list[torch.Tensor]:
    return [s.images.load() if isinstance(s.images, StoredImages) else s.images for s in task.splits().values()]


def break_some(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / "dog" / f"{number}.png").write_bytes(b"" if number else b"no image")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    write_images(tmp_path / "pets", {"cat": 10, "dog": 20})
    return tmp_path / "pets"


@pytest.mark.parametrize("kind", ["memory", "cache"])
def test_files_that_cannot_be_read_are_named_and_counted(pets: Path, kind: str) -> None:
    break_some(pets, 7)
    with pytest.raises(DataError) as caught:
        task(pets, kind)
    assert str(caught.value) == (
        f"7 of the 30 files of {pets} cannot be read: dog/0.png, dog/1.png, dog/2.png, dog/3.png, dog/4.png and 2 "
        f"more. Of the first: {pets}/dog/0.png cannot be read as an image (it is no image of a known format); replace "
        "it or take it out, or pass over such files (--stream-option skip_corrupt=true)."
    )


def test_a_decoder_that_raises_what_no_other_does_is_passed_over_too(pets: Path) -> None:
    (pets / "dog" / "20.avif").write_bytes(encode(noise(0, (40, 40, 3)), "AVIF").replace(b"pitm", b"xxxx"))
    with pytest.warns(EverlearnWarning, match="passed over as no image that can be read: dog/20.avif, of the 31"):
        assert sum(map(len, task(pets, "memory", skip=True).splits().values())) == 30


def test_they_are_passed_over_when_told_to_and_the_task_is_the_same_however_it_is_read(pets: Path) -> None:
    break_some(pets, 2)
    made = []
    for kind in KINDS:
        with pytest.warns(EverlearnWarning, match="passed over as no image that can be read: dog/0.png, dog/1.png, of"):
            made.append(task(pets, kind, skip=True))
    # Without the two: 18 dogs, of which 0.2 * 18 = 3.6, so 4, are for validation, and 4 for the test.
    assert [s.labels.bincount().tolist() for s in made[0].splits().values()] == [[6, 10], [2, 4], [2, 4]]
    for other in made[1:]:
        for one, two in zip(pixels(made[0]), pixels(other), strict=True):
            assert torch.equal(one, two)
    break_some(pets, 20)
    with pytest.warns(EverlearnWarning), pytest.raises(DataError, match=r"class 'dog' of .* has no images; each class"):
        task(pets, "memory", skip=True)


@pytest.mark.parametrize("kind", KINDS)
def test_images_in_two_splits_are_said(tmp_path: Path, kind: str) -> None:
    for number, split in enumerate(("train", "val", "test")):
        write_images(tmp_path / "pets" / split, {"cat": 8, "dog": 8}, first=100 * number)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task(tmp_path / "pets", kind)
    shutil.copy(tmp_path / "pets/train/cat/3.png", tmp_path / "pets/train/cat/twice.png")  # within a split: no harm
    shutil.copy(tmp_path / "pets/train/cat/3.png", tmp_path / "pets/test/dog/again.png")
    said = r"test/dog/again.png \(test\) shows what train/cat/3.png \(train\) shows. Accuracies"
    with pytest.warns(EverlearnWarning, match=said):
        task(tmp_path / "pets", kind)


def test_uneven_classes_are_said_and_can_be_capped(tmp_path: Path) -> None:
    write_images(tmp_path / "zoo" / "pets", {"cat": 5, "dog": 60})  # 3 and 36 for training
    options = {"path": str(tmp_path / "zoo")}
    with pytest.warns(EverlearnWarning, match="36 training images of 'dog', 3 of 'cat'; --stream-option per_class=3"):
        whole = make_stream("folders", 0, None, options)
    few, some = (make_stream("folders", 0, None, options | {"per_class": n, "standardise": "none"}) for n in (3, 6))
    counts = [split.labels.bincount().tolist() for split in few.tasks[0].splits().values()]
    assert counts == [[3, 3], *[split.labels.bincount().tolist() for split in whole.tasks[0].splits().values()][1:]]
    kept = [set(rows_of(stream.tasks[0].splits()["train"].images)) for stream in (few, some)]  # type: ignore[arg-type]
    assert kept[0] < kept[1]
    with pytest.warns(EverlearnWarning, match="3 of 'cat'; add some of 'cat', or take some of 'dog' out"):
        folder_task(tmp_path / "zoo" / "pets", None, 0, Handling(advise=False))
    with pytest.raises(ConfigurationError, match="per_class is wanted as at least 1"):
        make_stream("folders", 0, None, options | {"per_class": -1})


def test_pictures_of_other_kinds_are_said(pets: Path) -> None:
    (pets / "dog" / "IMG_1.HEIC").write_bytes(b"heic")
    with pytest.warns(EverlearnWarning, match=r"cannot be read here: 1 .heic; save them as JPEG or PNG"):
        task(pets, "memory")
    shutil.rmtree(pets / "cat")
    (pets / "cat").mkdir()
    (pets / "cat" / "a.cr2").write_bytes(b"raw")
    with pytest.raises(DataError, match=r"class 'cat' .* holds no images.* \(1 .cr2, 1 .heic\): save them"):
        task(pets, "memory")


# ---------------------------------------------------------------- the cache


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows whenever a cache is made."""
    made: list[int] = []
    write = cached._write
    monkeypatch.setattr(cached, "_write", lambda *words: (made.append(1), write(*words))[1])
    return made


def test_a_cache_is_made_once_for_all_seeds_and_again_when_something_changes(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, cache = decoded(monkeypatch), pets.parent / "cache"

    def again(seed: int = 0, size: tuple[int, int] = (4, 4), grey: bool = False) -> int:
        one = task_from_folder(pets, size=size, grey=grey, seed=seed, cache=cache)
        other = task_from_folder(pets, size=size, grey=grey, seed=seed)
        assert all(torch.equal(*both) for both in zip(pixels(one), pixels(other), strict=True))
        return len(made)

    assert [again(), again(), again(seed=1)] == [1, 1, 1]
    assert [again(size=(3, 4)), again(grey=True)] == [2, 3]
    os.utime(pets / "dog" / "3.png", ns=(0, 10**9))
    assert again() == 4
    for file in cache.glob("*.npy"):
        os.truncate(file, file.stat().st_size // 2)
    assert again() == 5, "one that was cut short is made again"
    assert not list(cache.glob("*.part"))


def test_a_run_is_the_same_with_a_cache_and_without(pets: Path) -> None:
    options = {"path": str(pets.parent), "size": "4x4", "in_memory": False}
    cache = pets.parent.parent / "kept"
    held, read = (make_stream("folders", 3, None, options | more) for more in ({}, {"cache": str(cache)}))
    assert fingerprint(held) == fingerprint(read)
    assert isinstance(read.tasks[0].splits()["train"].images, StoredImages)
    whole = np.load(next(cache.glob("pets-*.npy")))
    assert (whole.shape, whole.dtype) == ((30, 4, 4, 3), np.uint8)


def test_images_come_in_any_order_and_a_lost_cache_is_named(pets: Path) -> None:
    split = task(pets, "cache").splits()["train"]
    assert isinstance(split.images, StoredImages)
    source = split.images.source
    assert isinstance(source, Cached)
    whole = np.load(source.file)
    for index in ([3, 4, 5, 1], [7], [2, 2, 29], [29, 28], []):
        assert np.array_equal(source.decode(index), whole[index])
    os.truncate(source.file, source.offset + 100)
    with pytest.raises(DataError, match=r"the cache .*npy was cut short; delete it"):
        source.decode([20])


def test_what_a_cache_refuses(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="decoded as needed"):
        task_from_folder(pets, cache=pets.parent / "cache")
    (pets.parent / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"the cache folder .*file cannot be used: .*; name another with cache=DIR"):
        task_from_folder(pets, size=(4, 4), cache=pets.parent / "file")
    usage = shutil.disk_usage(pets)
    monkeypatch.setattr(cached.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(DataError, match=r"take 0.0 GB, but the disk that holds .* has 0.0 GB left"):
        task(pets, "cache")
    assert not list((pets.parent / "cache").glob("*.npy"))


def test_two_folders_that_agree_in_names_sizes_and_times_have_a_cache_each(tmp_path: Path) -> None:
    for number, name in enumerate(("photo", "cartoon")):
        write_images(tmp_path / name / "objects", {"a": 5, "b": 5}, first=100 * number, suffix=".bmp")
        for file in (tmp_path / name).rglob("*.bmp"):
            os.utime(file, (1_700_000_000, 1_700_000_000))
    for name in ("photo", "cartoon"):
        kept = task_from_folder(tmp_path / name / "objects", size=(4, 4), cache=tmp_path / "kept")
        held = task_from_folder(tmp_path / name / "objects", size=(4, 4))
        assert all(torch.equal(*both) for both in zip(pixels(kept), pixels(held), strict=True))
    assert len(list((tmp_path / "kept").glob("objects-*.npy"))) == 2


def test_more_than_one_call_reads_is_read(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = task(pets, "cache").splits()["train"]
    assert isinstance(split.images, StoredImages)
    source, read = split.images.source, os.preadv
    assert isinstance(source, Cached)
    monkeypatch.setattr(cached.os, "preadv", lambda number, into, place: read(number, [into[0][:50]], place))
    assert np.array_equal(source.decode(range(30)), np.load(source.file))


def test_a_file_that_leads_nowhere_is_passed_over_with_a_cache_too(pets: Path) -> None:
    (pets / "cat" / "gone.png").symlink_to("/nowhere/gone.png")
    with pytest.raises(DataError, match=r"gone.png cannot be read: No such file.*skip_corrupt=true"):
        task_from_folder(pets, size=(4, 4), cache=pets.parent / "cache")
    with pytest.warns(EverlearnWarning, match=r"passed over as no image that can be read: cat/gone.png"):
        kept = task_from_folder(pets, size=(4, 4), cache=pets.parent / "cache", skip_corrupt=True)
    with pytest.warns(EverlearnWarning, match=r"passed over"):
        held = task_from_folder(pets, size=(4, 4), skip_corrupt=True)
    assert all(torch.equal(*both) for both in zip(pixels(kept), pixels(held), strict=True))
