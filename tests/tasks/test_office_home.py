"""Office-Home from made folders and from a made set, and PACS in its place."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks import SPLITS, StoredImages, TaskStream, Value, fingerprint, make_stream, stream_outline
from everlearn.tasks.office_home import CLASSES, GROUPS, INCREMENTAL, class_groups
from everlearn.tasks.transforms import standardise, statistics
from tests.tasks.made import encode, noise, rows_of, write_parquet

SMALL: dict[str, Value] = {"size": 4}
LARGE_CLASS = "Couch"
"""Of this class there are 19 images: 11, 1 and 5 of them. Of others 10: 6, 1 and 3."""


def every_image() -> Iterator[tuple[str, str, int]]:
    """Domain, class and key of each image."""
    key = 0
    for domain in ("Product", "Real World"):
        for name in CLASSES:
            for _ in range(19 if name == LARGE_CLASS else 10):
                yield domain, name, key
                key += 1


SHOWN = {noise(key).tobytes(): (domain, name) for domain, name, key in every_image()}


def write_folders(root: Path, real: str = "RealWorld") -> None:
    for domain, name, key in every_image():
        folder = root / domain.replace("Real World", real) / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{key:05}.jpg").write_bytes(encode(noise(key)))


def write_set(file: Path) -> None:
    """As the hub has it: all domains in one split."""
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as ImageFeature

    images = [*every_image(), ("Art", "Couch", 5000), ("Clipart", "Bed", 5001)]
    images = [images[k] for k in np.random.default_rng(0).permutation(len(images))]
    features = Features(
        {"image": ImageFeature(), "domain": Value("string"), "label": ClassLabel(names=sorted(CLASSES))}
    )
    rows = {
        "image": [{"bytes": encode(noise(key)), "path": None} for _, _, key in images],
        "domain": [domain for domain, _, _ in images],
        "label": [name for _, name, _ in images],
    }
    file.parent.mkdir(parents=True)
    Dataset.from_dict(rows, features=features).to_parquet(str(file))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_folders(folder / "OfficeHomeDataset")
    return folder


def made(data: Path, seed: int = 0, name: str = "office-home", **options: Value) -> TaskStream:
    return make_stream(name, seed, data, {**SMALL, **options})


def images_of(stream: TaskStream, task: int, split: str) -> torch.Tensor:
    images = stream.tasks[task].splits()[split].images
    return images.load() if isinstance(images, StoredImages) else images


def shown(images: torch.Tensor) -> list[tuple[str, str]]:
    levels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return [SHOWN[row] for row in rows_of(levels)]


def test_five_tasks_of_products_then_five_of_real_rooms(data: Path) -> None:
    stream = made(data)
    names = [f"{domain}-{number}" for domain in ("product", "real-world") for number in range(1, 6)]
    assert [task.name for task in stream.tasks] == names
    assert [task.classes for task in stream.tasks] == [*GROUPS, *GROUPS]
    assert stream_outline("office-home").classes == tuple(len(task.classes) for task in stream.tasks) == (13,) * 10
    assert stream_outline("office-home").image_shape == (3, 128, 128)
    every: list[bytes] = []
    for position, task in enumerate(stream.tasks):
        domain = "Product" if position < 5 else "Real World"
        for split, few, many in zip(SPLITS, (6, 1, 3), (11, 1, 5), strict=True):
            labels = task.splits()[split].labels
            assert torch.bincount(labels).tolist() == [many if one == LARGE_CLASS else few for one in task.classes]
            images = images_of(stream, position, split)
            assert shown(images) == [(domain, task.classes[label]) for label in labels.tolist()]
            every += rows_of(images)
    assert len(set(every)) == len(every) == 2 * (64 * 10 + 17)


def test_the_authors_groups_hold_every_class_once_and_random_ones_do() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 65
    first, second = class_groups("random", 0), class_groups("random", 1)
    for groups in (GROUPS, first, second):
        assert [len(group) for group in groups] == [13] * 5
        assert sorted(name for group in groups for name in group) == sorted(CLASSES)
    assert len({GROUPS, first, second}) == 3


def test_folders_and_sets_give_the_same_images_on_any_machine(data: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "parquet" / "office-home" / "train.parquet")
    write_folders(tmp_path / "unpacked", "Real World")
    known = "7fe603b801448725"
    for place in (data, tmp_path / "parquet", tmp_path / "unpacked"):
        assert fingerprint(made(place, 1, standardise="split"))[:16] == known
    assert fingerprint(made(data, 2, standardise="split"))[:16] != known


def test_images_that_stay_on_disk_are_the_same(data: Path) -> None:
    held, stored = made(data), made(data, in_memory=False)
    for task in (0, 9):
        for split in SPLITS:
            assert torch.equal(images_of(held, task, split), images_of(stored, task, split))


def test_each_way_of_standardising(data: Path) -> None:
    plain, split, train = (
        made(data, name="office-home-incremental", standardise=how) for how in ("none", "split", "train")
    )
    for name in SPLITS:
        own, learned = images_of(plain, 3, name), images_of(plain, 3, "train")
        assert torch.equal(images_of(split, 3, name), standardise(own, statistics(own)))  # type: ignore[arg-type]
        assert torch.equal(images_of(train, 3, name), standardise(own, statistics(learned)))  # type: ignore[arg-type]


def test_a_class_more_with_each_task(data: Path) -> None:
    stream = made(data, name="office-home-incremental")
    assert [task.classes for task in stream.tasks] == [INCREMENTAL[:count] for count in range(3, 9)]
    assert stream_outline("office-home-incremental").classes == (3, 4, 5, 6, 7, 8)
    # Couch has 11, 1 and 5 images, the others 6, 1 and 3.
    assert [[len(s) for s in task.splits().values()] for task in stream.tasks] == [
        [11 + 6 * n, 1 + n, 5 + 3 * n] for n in range(2, 8)
    ]
    seen = [{name: set(rows_of(images_of(stream, k, name))) for name in SPLITS} for k in range(6)]
    for earlier in seen:
        assert not earlier["test"] & (seen[-1]["train"] | seen[-1]["validation"])
        assert earlier["train"] <= seen[-1]["train"]


def test_the_authors_divide_anew_for_each_task(data: Path) -> None:
    stream = made(data, name="office-home-incremental", images="redrawn")
    first, last = ({name: set(rows_of(images_of(stream, task, name))) for name in SPLITS} for task in (0, 5))
    assert first["test"] & last["train"]
    assert not last["test"] & last["train"]


def test_what_is_missing_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"Office-Home is missing: .* Product/CLASS/00001.jpg .* train.parquet"):
        made(tmp_path)
    (tmp_path / "Product" / "Bed").mkdir(parents=True)
    (tmp_path / "RealWorld").mkdir()
    with pytest.raises(DataError, match=r"Product is wanted with images in Alarm_Clock/, but has none"):
        made(tmp_path)
    for name in INCREMENTAL:
        (tmp_path / "Product" / name).mkdir(exist_ok=True)
        Image.fromarray(noise(1)).save(tmp_path / "Product" / name / "1.png")
    with pytest.raises(DataError, match=r"class 'Couch' of .*Product has 1 images, but a tenth"):
        made(tmp_path, name="office-home-incremental")
    with pytest.raises(ConfigurationError, match="size is wanted as a side in pixels of at least 1, but came as 0"):
        made(data, size=0)


# ---------------------------------------------------------------- PACS

PACS = ["dog", "elephant", "giraffe", "guitar", "horse", "house", "person"]


def write_pacs(folder: Path, order: int = 0) -> None:
    """Sixteen training and three test images of each class and domain."""
    for number, domain in enumerate(("photo", "cartoon")):
        for split, first, count in (("train", 0, 16), ("test", 500, 3)):
            keys = np.random.default_rng(order).permutation(7 * count)
            write_parquet(
                folder / f"{domain}_{split}.parquet",
                (keys // count).tolist(),
                (keys + first + 1000 * number).tolist(),
                PACS,
            )


def test_photos_then_cartoons(tmp_path: Path) -> None:
    write_pacs(tmp_path / "a" / "pacs")
    write_pacs(tmp_path / "b" / "pacs", order=1)
    stream = made(tmp_path / "a", name="pacs")
    assert [task.name for task in stream.tasks] == ["photo-1", "photo-2", "cartoon-1", "cartoon-2"]
    assert [task.classes for task in stream.tasks] == [tuple(PACS[:4]), tuple(PACS[4:])] * 2
    every: list[bytes] = []
    for position, task in enumerate(stream.tasks):
        # An eighth of 16 is 2.
        for split, count in zip(SPLITS, (14, 2, 3), strict=True):
            assert torch.bincount(task.splits()[split].labels).tolist() == [count] * len(task.classes)
            every += rows_of(images_of(stream, position, split))
    assert len(set(every)) == len(every) == 2 * 7 * 19
    assert fingerprint(stream)[:16] == fingerprint(made(tmp_path / "b", name="pacs"))[:16] == "e12cf162a4f0e2ab"
    for parts, classes in ((1, (7, 7)), (3, (3, 2, 2, 3, 2, 2))):
        assert tuple(len(task.classes) for task in made(tmp_path / "a", name="pacs", parts=parts).tasks) == classes
        assert stream_outline("pacs", {"parts": parts}).classes == classes
    with pytest.raises(ConfigurationError, match="make 1 to 3 parts of at least 2, but parts came as 4"):
        made(tmp_path / "a", name="pacs", parts=4)
    with pytest.raises(MissingDataError, match="PACS is read from a data folder"):
        make_stream("pacs")


def test_a_share_of_each_class_is_part_of_a_larger(tmp_path: Path) -> None:
    write_pacs(tmp_path / "pacs")
    whole, half, few = (made(tmp_path, name="pacs", fraction=share) for share in (1.0, 0.5, 0.01))
    for position, (task, smaller, smallest) in enumerate(zip(whole.tasks, half.tasks, few.tasks, strict=True)):
        for split, count in zip(SPLITS, (7, 1, 2), strict=True):
            assert torch.bincount(smaller.splits()[split].labels).tolist() == [count] * len(task.classes)
            assert torch.bincount(smallest.splits()[split].labels).tolist() == [1] * len(task.classes)
            first, second, third = (set(rows_of(images_of(s, position, split))) for s in (few, half, whole))
            assert first <= second < third
    for share in (0.0, 1.5):
        with pytest.raises(ConfigurationError, match="fraction is wanted above 0 and at most 1, but came as"):
            made(tmp_path, name="pacs", fraction=share)


REAL = os.environ.get("EVERLEARN_DATA")


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not REAL, reason="EVERLEARN_DATA is not set; name a folder that holds pacs/")
def test_the_real_photos_and_cartoons() -> None:
    stream = make_stream("pacs", 0, Path(str(REAL)))
    sizes = [[len(split) for split in task.splits().values()] for task in stream.tasks]
    assert sizes == [[532, 76, 151], [638, 91, 182], [928, 134, 265], [711, 102, 204]]
    assert stream.image_shape == (3, 128, 128)
