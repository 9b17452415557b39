"""Images that stay encoded: decoded when asked for, the same numbers as in memory, known without being decoded."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks import StoredImages, Task, fingerprint, make_stream, open_image_set, stored, task_from_folder
from everlearn.tasks.hub import split_of, task_from_set
from everlearn.tasks.pixels import Fit, read_image
from everlearn.tasks.standardising import Statistics
from everlearn.tasks.stored import ImageFiles
from everlearn.tasks.transforms import standardise, statistics
from tests.tasks.made import encode, noise, write_images, write_parquet


def in_folder(folder: Path, count: int = 5, size: tuple[int, int] = (4, 3)) -> StoredImages:
    write_images(folder, {"cat": count})
    files = ImageFiles(folder, tuple(f"cat/{number}.png" for number in range(count)))
    return StoredImages(files, np.arange(count), Fit(size))


def test_only_the_images_that_are_asked_for_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = in_folder(tmp_path, size=(6, 5))
    seen: list[str] = []
    monkeypatch.setattr(
        stored, "read_image", lambda path, what, *rest: (seen.append(path.name), read_image(path, what, *rest))[1]
    )
    assert images.shape == (5, 3, 6, 5)
    assert len(images.digest) == 64
    assert seen == []
    taken = images.take(torch.tensor([3, 1]))
    assert seen == ["3.png", "1.png"]
    assert torch.equal(taken[0], torch.from_numpy(noise(3, (6, 5, 3))).permute(2, 0, 1) / 255)
    assert torch.equal(images.select(np.array([4, 3])).take(torch.tensor([1]))[0], taken[0])


def test_standardised_images_are_those_of_memory(tmp_path: Path) -> None:
    images = in_folder(tmp_path)
    by = statistics(images)
    whole = images.load()
    assert torch.equal(by.mean, statistics(whole).mean)
    assert torch.equal(standardise(images, by).load(), standardise(whole, by))
    twice = standardise(standardise(images, by), Statistics(torch.ones(3), torch.full((3,), 2.0)))
    torch.testing.assert_close(twice.load(), (standardise(whole, by) - 1) / 2)
    with pytest.raises(DataError, match="images of 3 channels cannot be standardised by 2"):
        standardise(images, Statistics(torch.ones(2), torch.ones(2)))


def test_statistics_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from everlearn.tasks import transforms

    images = torch.rand(25, 2, 3, 3) + 100  # far from 0, where a sum of squares would lose the deviation
    whole = statistics(images)
    for module in (transforms, stored):
        monkeypatch.setattr(module, "CHUNK", 4)
    torch.testing.assert_close(statistics(images).scale, whole.scale, rtol=1e-6, atol=0)
    held = in_folder(tmp_path, 9)
    assert [len(piece) for piece in held.pieces()] == [4, 4, 1]
    assert torch.equal(held.load(), held.take(torch.arange(9)))


def test_the_digest_sees_files_sizes_times_and_what_is_done_to_them(tmp_path: Path) -> None:
    images = in_folder(tmp_path)
    by = Statistics(torch.zeros(3), torch.ones(3))
    others = [
        images.select(np.array([1, 0, 2, 3, 4])),
        replace(images, fit=Fit((4, 3), (5, 5))),
        replace(images, grey=True),
        images.standardised(by),
    ]
    assert len({image.digest for image in (images, *others)}) == 5
    assert replace(images).digest == images.digest
    file = tmp_path / "cat" / "2.png"
    state = file.stat()
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    assert replace(images).digest != images.digest
    file.unlink()
    with pytest.raises(DataError, match=f"^{file} cannot be read: No such file"):
        _ = replace(images).digest


def test_the_digest_of_a_table_is_of_its_bytes(tmp_path: Path) -> None:
    def split(name: str, keys: list[int]) -> StoredImages:
        for part in ("train", "test"):
            write_parquet(tmp_path / name / f"{part}.parquet", [0, 1, 0], keys, ("a", "b"))
        train = open_image_set(name, "", data=tmp_path)["train"]
        images = split_of(train, [np.array([0, 2]), np.array([1])], size=(4, 4), in_memory=False).images
        assert isinstance(images, StoredImages)
        return images

    first, same, other = split("a", [1, 2, 3]), split("b", [1, 2, 3]), split("c", [1, 2, 4])
    assert first.digest == same.digest != other.digest
    assert torch.equal(first.take(torch.tensor([1]))[0], torch.from_numpy(noise(3)).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8 broken"])
def test_a_bad_file_is_named_when_its_turn_comes(tmp_path: Path, data: bytes) -> None:
    images = in_folder(tmp_path)
    (tmp_path / "cat" / "3.png").write_bytes(data)
    images.take(torch.tensor([0, 1, 2]))
    with pytest.raises(DataError, match=f"^{tmp_path}/cat/3.png (is empty|cannot be read)"):
        images.take(torch.tensor([2, 3]))


def test_the_middle_is_cut_out_of_what_is_resized() -> None:
    columns = np.repeat(np.arange(0, 80, 10, dtype=np.uint8)[None, :, None], 4, 0).repeat(
        3, 2
    )  # 4 x 8, darker to the left
    image = encode(columns)

    def fitted(fit: Fit) -> list[int]:
        return read_image(image, "it", True, fit)[0].tolist()

    assert fitted(Fit((2, 4), (4, 8))) == [20, 30, 40, 50]
    assert fitted(Fit((4, 4), keep=True)) == [20, 30, 40, 50]  # the shorter side is 4 already
    assert fitted(Fit((2, 2), (4, 4), keep=True)) == [30, 40]
    assert fitted(Fit((4, 4)))[0] < 20  # the whole width
    with pytest.raises(ConfigurationError, match="resized to 2 x 2 are too small to cut 4 x 4 out of"):
        Fit((4, 4), (2, 2))


def both(tmp_path: Path) -> tuple[Task, Task]:
    write_images(tmp_path / "cat", {"a": 6, "b": 7})
    return tuple(task_from_folder(tmp_path / "cat", size=(4, 4), in_memory=held) for held in (True, False))  # type: ignore


def test_a_folder_is_the_same_in_memory_and_as_needed(tmp_path: Path) -> None:
    held, needed = both(tmp_path)
    assert needed.image_shape == (3, 4, 4)
    for name, split in needed.splits().items():
        assert isinstance(split.images, StoredImages)
        assert torch.equal(split.images.load(), held.splits()[name].images)
        assert torch.equal(split.labels, held.splits()[name].labels)
    with pytest.raises(ConfigurationError, match=r"cat are to be decoded as needed.*size=64x64"):
        task_from_folder(tmp_path / "cat", in_memory=False)


def test_the_stream_folders_is_the_same_in_memory_and_as_needed(tmp_path: Path) -> None:
    write_images(tmp_path / "zoo", {"a": 6, "b": 7})
    options = {"path": str(tmp_path), "size": "4x3"}
    held, needed, again = (
        make_stream("folders", 0, None, options | more) for more in ({}, *[{"in_memory": False}] * 2)
    )
    for name, split in needed.tasks[0].splits().items():
        assert isinstance(split.images, StoredImages)
        assert torch.equal(split.images.load(), held.tasks[0].splits()[name].images)
    assert fingerprint(needed) == fingerprint(again) != fingerprint(held)
    with pytest.raises(ConfigurationError, match="decoded as needed"):
        make_stream("folders", options={"path": str(tmp_path), "in_memory": False})


def test_a_task_of_a_set_is_the_same_in_memory_and_as_needed(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 50)):
        keys = list(range(first, first + 12))
        write_parquet(tmp_path / f"{split}.parquet", [key % 2 for key in keys], keys, ("a", "b"))
    sets = open_image_set("toys", "", data=tmp_path)
    held, needed = (task_from_set("t", sets, 0, size=(4, 4), in_memory=how) for how in (True, False))
    for name, split in needed.splits().items():
        assert isinstance(split.images, StoredImages)
        assert torch.equal(split.images.load(), held.splits()[name].images)
    with pytest.raises(ConfigurationError, match=r"train.parquet are to be decoded as needed"):
        task_from_set("t", sets, 0, in_memory=False)


def test_a_task_without_some_splits_has_a_fingerprint_of_its_own() -> None:
    from everlearn.tasks import Split, TaskStream

    split = Split(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))
    whole = Task("new", ("a", "b"), split, split, split)
    old = [Task("old", ("a", "b"), test=split), Task("old", ("a", "b"), validation=split), Task("old", ("a", "b"))]
    old.append(Task("old", ("a", "b"), multi_label=True))
    assert len({fingerprint(TaskStream("s", 0, (one, whole))) for one in old}) == 4


def test_threads_that_decode_leave_the_filters_of_warnings_as_they_were(tmp_path: Path) -> None:
    images = in_folder(tmp_path, 12)
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: images.take(torch.tensor([k % 12])), range(60)))
    assert list(warnings.filters) == before


def test_a_grey_image_comes_to_three_channels(tmp_path: Path) -> None:
    Image.fromarray(noise(0, (5, 5))).save(tmp_path / "g.png")
    images = StoredImages(ImageFiles(tmp_path, ("g.png",)), np.arange(1), Fit((5, 5)))
    taken = images.take(torch.tensor([0]))
    assert torch.equal(taken[0, 0], taken[0, 2])
