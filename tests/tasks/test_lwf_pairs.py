"""The pairs of Learning without Forgetting, from tiny folders in the official layouts of their sets."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks import STREAMS, StoredImages, Task, TaskStream, Value, fingerprint, make_stream
from everlearn.tasks.lwf_pairs import INFOS
from everlearn.tasks.official import SCENES_CLASSES, SCENES_PARTS, VOC_CLASSES, VOC_PARTS, lines_of
from everlearn.tasks.standardising import IMAGENET
from everlearn.tasks.transforms import standardise, statistics
from tests.tasks.made import noise, write_images, write_parquet

SMALL: dict[str, Value] = {"size": 8, "resize": 10}
VOC_NAMES = {"train": [f"2008_{k:06}" for k in range(40)], "val": [f"2009_{k:06}" for k in range(10)]}


def save(file: Path, key: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(key, (9, 12, 3))).save(file)


def mark(image: int, column: int) -> str:
    """Image k shows class k % 20, and class (k + 1) % 20 but as difficult objects only."""
    return {0: "1", 1: "0"}.get((column - image) % 20, "-1")


def write_voc(root: Path) -> None:
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, names in VOC_NAMES.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for column, one in enumerate(VOC_CLASSES):
            lines = (f"{name} {mark(k, column):>2}\n" for k, name in enumerate(names))
            (lists / f"{one}_{split}.txt").write_text("".join(lines))
        for key, name in enumerate(names):
            save(root / "JPEGImages" / f"{name}.jpg", key)


def write_cub(root: Path) -> None:
    """Three species of eight images; the first six of each are for training."""
    species = ["001.Albatross", "002.Auklet", "003.Wren"]
    images = [(f"{species[k // 8]}/{k}.jpg", k // 8 + 1, k % 8 < 6) for k in range(24)]
    for k, (file, _, _) in enumerate(images):
        save(root / "images" / file, k)
    lists = {
        "images.txt": [f"{k} {file}" for k, (file, _, _) in enumerate(images, 1)],
        "image_class_labels.txt": [f"{k} {label}" for k, (_, label, _) in enumerate(images, 1)],
        "train_test_split.txt": [f"{k} {int(train)}" for k, (_, _, train) in enumerate(images, 1)],
        "classes.txt": [f"{k} {name}" for k, name in enumerate(species, 1)],
    }
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n")


def write_scenes(root: Path, classes: tuple[str, ...]) -> None:
    for name, numbers in (("TrainImages.txt", range(4)), ("TestImages.txt", range(4, 6))):
        files = [f"{one}/{number}.jpg" for one in classes for number in numbers]
        for key, file in enumerate(files):
            save(root / "Images" / file, key)
        (root / name).write_text("\n".join(reversed(files)) + "\n\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for old, first in (("imagenet", 0), ("places2", 500)):
        write_images(folder / old / "train", {"n02": 4, "n01": 4, "n03": 4}, (20, 16), first, ".JPEG")
        write_images(folder / old / "val", {"n02": 2, "n01": 3, "n03": 2}, (9, 14), first + 100, ".JPEG")
    write_voc(folder / "VOCdevkit" / "VOC2012")
    write_cub(folder / "CUB_200_2011")
    write_scenes(folder / "indoorCVPR_09", SCENES_CLASSES)
    for split in ("train", "test"):
        labels = [k % 10 for k in range(40)]
        file = folder / "mnist" / f"{split}.parquet"
        write_parquet(file, labels, list(range(40)), list("0123456789"), shape=(28, 28))
    return folder


def made(data: Path, name: str, seed: int = 0, **options: Value) -> TaskStream:
    return make_stream(name, seed, data, {**SMALL, **options})


def sizes(task: Task) -> dict[str, int]:
    return {name: len(split) for name, split in task.splits().items()}


def stored(task: Task, split: str) -> StoredImages:
    images = task.splits()[split].images
    assert isinstance(images, StoredImages)
    return images


@pytest.mark.parametrize("name", INFOS)
def test_every_pair(data: Path, name: str) -> None:
    old, new = made(data, name).tasks
    assert (old.name, new.name) == tuple(name.split("-to-"))
    assert old.classes == ("n01", "n02", "n03")
    assert sizes(old) == {"test": 7}
    expected = {  # training images, 5 % of them, of each class at least one
        "voc": {"train": 38, "validation": 2, "test": 10},
        "cub": {"train": 15, "validation": 3, "test": 6},
        "scenes": {"train": 3 * 67, "validation": 67, "test": 2 * 67},
        "mnist": {"train": 30, "validation": 10, "test": 40},
    }
    assert sizes(new) == expected[new.name]
    assert new.multi_label == (new.name == "voc")
    for task in (old, new):
        assert stored(task, "test").take(torch.tensor([0])).shape == (1, 3, 8, 8)
    assert STREAMS[name] is INFOS[name]


def test_the_old_task_is_in_the_order_of_its_folders(data: Path) -> None:
    old = made(data, "imagenet-to-cub", old_train=True, standardise="none").tasks[0]
    assert {name: torch.bincount(split.labels).tolist() for name, split in old.splits().items()} == {
        "train": [3, 3, 3],
        "validation": [1, 1, 1],
        "test": [3, 2, 2],
    }
    for split, folder in (("train", "train"), ("validation", "train"), ("test", "val")):
        images = stored(old, split)
        files = [images.source.files[row] for row in images.rows]  # type: ignore[attr-defined]
        expected = [[folder, old.classes[label]] for label in old.splits()[split].labels]
        assert [file.split("/")[:2] for file in files] == expected


def test_an_old_task_of_names_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011").symlink_to(data / "CUB_200_2011")
    with pytest.raises(MissingDataError, match=r"there is no file .*/imagenet/classes.txt; write the names"):
        made(tmp_path, "imagenet-to-cub", old="none")
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "classes.txt").write_text("tench\ngoldfish\n\nshark\n")
    stream = made(tmp_path, "imagenet-to-cub", old="none")
    assert stream.tasks[0].classes == ("tench", "goldfish", "shark")
    assert sizes(stream.tasks[0]) == {}
    assert stream.image_shape == (3, 8, 8)
    with pytest.raises(ConfigurationError, match="old_train wants images of imagenet, but old=none asks for none"):
        made(tmp_path, "imagenet-to-cub", old="none", old_train=True)


def test_names_beside_the_folders(data: Path, tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011").symlink_to(data / "CUB_200_2011")
    write_images(tmp_path / "imagenet" / "val", {"n02": 2, "n01": 3})
    (tmp_path / "imagenet" / "classes.txt").write_text("tench\ngoldfish\n")
    assert made(tmp_path, "imagenet-to-cub").tasks[0].classes == ("tench", "goldfish")
    (tmp_path / "imagenet" / "classes.txt").write_text("tench\n")
    with pytest.raises(DataError, match=r"classes.txt names 1 classes, but there are folders of 2"):
        made(tmp_path, "imagenet-to-cub")
    write_images(tmp_path / "imagenet" / "train", {"n02": 2, "n03": 3})
    with pytest.raises(DataError, match=r"class 'n01' of .*/imagenet is not in both train/ and val/"):
        made(tmp_path, "imagenet-to-cub", old_train=True)


def test_the_old_task_from_parquet_files(data: Path, tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011").symlink_to(data / "CUB_200_2011")
    for split, keys in (("validation", [0, 1, 2]), ("train", list(range(10, 22)))):
        file = tmp_path / "imagenet" / f"{split}-00000-of-00001.parquet"
        write_parquet(file, [key % 2 for key in keys], keys, ("fish", "bird"))
    old = made(tmp_path, "imagenet-to-cub", old_train=True).tasks[0]
    assert (old.classes, sizes(old)) == (("fish", "bird"), {"train": 10, "validation": 2, "test": 3})
    assert sizes(made(tmp_path, "imagenet-to-cub").tasks[0]) == {"test": 3}


@pytest.mark.parametrize(("difficult", "shown"), [("absent", {0}), ("present", {0, 1})])
def test_labels_of_voc(data: Path, difficult: str, shown: set[int]) -> None:
    new = made(data, "imagenet-to-voc", difficult=difficult).tasks[1]
    assert new.classes == VOC_CLASSES
    for split in new.splits():
        images, labels = stored(new, split), new.splits()[split].labels
        for row, label in zip(images.rows, labels, strict=True):
            expected = [float((column - int(row)) % 20 in shown) for column in range(20)]
            assert label.tolist() == expected


def test_the_parts_of_voc_share_images_and_split_labels(data: Path) -> None:
    whole = made(data, "places2-to-voc").tasks[1]
    _, *parts = made(data, "places2-to-voc", parts=3).tasks
    assert {part.name: part.classes for part in parts} == {f"voc-{name}": VOC_PARTS[name] for name in VOC_PARTS}
    for part in parts:
        columns = torch.tensor([VOC_CLASSES.index(one) for one in part.classes])
        for split in ("train", "validation", "test"):
            assert stored(part, split).digest == stored(whole, split).digest
            assert torch.equal(part.splits()[split].labels, whole.splits()[split].labels[:, columns])


def test_the_parts_of_scenes_share_out_images(data: Path) -> None:
    _, *parts = made(data, "imagenet-to-scenes", parts=3).tasks
    assert [(part.name, part.classes) for part in parts] == [(f"scenes-{k}", v) for k, v in SCENES_PARTS.items()]
    for part in parts:
        assert sizes(part) == {
            name: n * len(part.classes) for name, n in (("train", 3), ("validation", 1), ("test", 2))
        }
        images = stored(part, "test")
        files = [images.source.files[row] for row in images.rows]  # type: ignore[attr-defined]
        assert [file.partition("/")[0] for file in files] == [part.classes[k] for k in part.splits()["test"].labels]


def test_the_lists_of_parts_hold_every_class_once() -> None:
    for parts, classes, count in ((VOC_PARTS, VOC_CLASSES, 20), (SCENES_PARTS, SCENES_CLASSES, 67)):
        assert len(set(classes)) == len(classes) == sum(map(len, parts.values())) == count


def test_the_official_split_of_cub(data: Path) -> None:
    new = made(data, "imagenet-to-cub").tasks[1]
    assert new.classes == ("Albatross", "Auklet", "Wren")
    for split in new.splits():
        images = stored(new, split)
        for row, label in zip(images.rows, new.splits()[split].labels.tolist(), strict=True):
            file = images.source.files[row]  # type: ignore[attr-defined]
            number = int(Path(file).stem)
            assert (number // 8, number % 8 < 6) == (label, split != "test")


def test_a_fraction_of_a_multi_label_set(data: Path) -> None:
    drawn = {f: made(data, "imagenet-to-voc", fraction=f).tasks[1] for f in (1.0, 0.3, 0.1)}
    # Of 40 images 2 are set aside; 0.3 of 38 are 11.4, 0.1 are 3.8.
    assert {f: sizes(task)["train"] for f, task in drawn.items()} == {1.0: 38, 0.3: 11, 0.1: 4}
    rows = {f: set(stored(task, "train").rows.tolist()) for f, task in drawn.items()}
    assert rows[0.1] < rows[0.3] < rows[1.0]
    assert all(sizes(task)["test"] == 10 for task in drawn.values())


def test_ways_of_standardising(data: Path) -> None:
    plain, old, own = (made(data, "imagenet-to-cub", standardise=how).tasks for how in ("none", "old", "train"))
    by = [IMAGENET, statistics(stored(plain[1], "train"))]
    for position in (0, 1):
        pixels = stored(plain[position], "test").load()
        assert torch.equal(stored(old[position], "test").load(), standardise(pixels, IMAGENET))
        assert torch.equal(stored(own[position], "test").load(), standardise(pixels, by[position]))


def test_in_memory_it_is_the_same(data: Path) -> None:
    needed, held = (made(data, "imagenet-to-voc", in_memory=how, parts=3).tasks for how in (False, True))
    for one, other in zip(needed, held, strict=True):
        for split in one.splits():
            assert torch.equal(stored(one, split).load(), torch.as_tensor(other.splits()[split].images))


def test_images_are_squashed_or_keep_their_shape(data: Path) -> None:
    squashed, kept = (stored(made(data, "imagenet-to-cub", aspect=how).tasks[0], "test") for how in ("squash", "keep"))
    assert squashed.shape == kept.shape == (7, 3, 8, 8)
    assert not torch.equal(squashed.load(), kept.load())
    with pytest.raises(ConfigurationError, match="resized to 4 x 4 are too small to cut 8 x 8 out of"):
        made(data, "imagenet-to-cub", resize=4)
    with pytest.raises(ConfigurationError, match="size is wanted as a side in pixels"):
        made(data, "imagenet-to-cub", size=0)


def test_the_outline_is_what_is_built(data: Path) -> None:
    for new, parts in (("voc", 1), ("voc", 3), ("scenes", 1), ("scenes", 3), ("mnist", 2)):
        stream = made(data, f"imagenet-to-{new}", parts=parts)
        outline = STREAMS[stream.name].outline
        assert outline is not None
        assert outline(stream.options).classes == (1000, *(len(task.classes) for task in stream.tasks[1:]))
        assert outline(stream.options).image_shape == stream.image_shape
    assert STREAMS["places2-to-voc"].outline is None


def test_a_stream_is_known_without_decoding(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from everlearn.tasks import stored as module

    monkeypatch.setattr(module, "read_image", None)
    prints = [fingerprint(made(data, "imagenet-to-voc", seed)) for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("imagenet-to-voc", "imagenet is read from a data folder that holds imagenet/val/CLASS/NAME.jpg"),
        ("places2-to-cub", "places2 is read from a data folder that holds places2/val/CLASS/NAME.jpg"),
    ],
)
def test_without_a_data_folder(name: str, said: str) -> None:
    with pytest.raises(MissingDataError, match=f"^{said}; name it with --data DIR or EVERLEARN_DATA"):
        make_stream(name)


@pytest.mark.parametrize(
    ("new", "looked", "source"),
    [
        ("voc", "no ImageSets/Main/train.txt in {0}/VOCdevkit/VOC2012, {0}/VOC2012,", "http://host.robots.ox.ac.uk"),
        ("cub", "no images.txt in {0}/CUB_200_2011, ", "https://www.vision.caltech.edu"),
        ("scenes", "no Images in {0}/indoorCVPR_09, ", "https://web.mit.edu/torralba"),
        ("mnist", "the set mnist is missing: neither {0}/mnist nor {0} holds", "ylecun/mnist"),
    ],
)
def test_a_missing_set_says_where_and_whence(data: Path, tmp_path: Path, new: str, looked: str, source: str) -> None:
    with pytest.raises(
        MissingDataError, match=r"imagenet is missing: .*/imagenet holds neither val/CLASS/NAME.jpg nor"
    ):
        made(tmp_path, f"imagenet-to-{new}")
    (tmp_path / "imagenet").symlink_to(data / "imagenet")
    with pytest.raises(MissingDataError, match=f"{re.escape(looked.format(tmp_path))}.*{re.escape(source)}"):
        made(tmp_path, f"imagenet-to-{new}")


def test_missing_training_images_of_the_old_task(data: Path, tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011").symlink_to(data / "CUB_200_2011")
    write_images(tmp_path / "imagenet" / "val", {"n02": 2, "n01": 3})
    with pytest.raises(MissingDataError, match=r"there is no folder .*/imagenet/train, .*old_train=false"):
        made(tmp_path, "imagenet-to-cub", old_train=True)


def copied(data: Path, tmp_path: Path) -> Path:
    """The data with files of its own for some lists, so that a test may spoil them."""
    for set_ in ("imagenet", "VOCdevkit", "CUB_200_2011", "indoorCVPR_09"):
        for file in (data / set_).rglob("*.txt"):
            target = tmp_path / file.relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    for folder in ("imagenet/val", "VOCdevkit/VOC2012/JPEGImages", "CUB_200_2011/images", "indoorCVPR_09/Images"):
        (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / folder).symlink_to(data / folder)
    return tmp_path


MAIN = "VOCdevkit/VOC2012/ImageSets/Main"


@pytest.mark.parametrize(
    ("new", "file", "content", "said"),
    [
        ("voc", f"{MAIN}/cat_val.txt", None, r"there is no file .*/cat_val.txt, which the set comes with"),
        ("voc", f"{MAIN}/val.txt", "", r"val.txt holds no line"),
        ("voc", f"{MAIN}/cat_val.txt", "2009_000000 2\n", r"cat_val.txt is not as the set .* the line '2009_000000 2'"),
        ("voc", f"{MAIN}/cat_val.txt", "2009_000000 -1\n", r"cat_val.txt says nothing of image 2009_000001"),
        ("cub", "CUB_200_2011/train_test_split.txt", None, r"there is no file .*train_test_split.txt"),
        ("cub", "CUB_200_2011/train_test_split.txt", "1 1\n2 0\n", r"train_test_split.txt says nothing of image 3"),
        ("cub", "CUB_200_2011/image_class_labels.txt", "1 9\n", r"image_class_labels.txt is not as .* line '1 9'"),
        ("scenes", "indoorCVPR_09/TestImages.txt", None, r"there is no file .*TestImages.txt"),
        ("scenes", "indoorCVPR_09/TestImages.txt", "a.jpg\n", r"wanted with CLASS/NAME.jpg in each .* says 'a.jpg'"),
    ],
)
def test_a_spoilt_list_is_named(
    data: Path, tmp_path: Path, new: str, file: str, content: str | None, said: str
) -> None:
    folder = copied(data, tmp_path)
    made(folder, f"imagenet-to-{new}")  # as it is, it can be read
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(DataError, match=said):
        made(folder, f"imagenet-to-{new}")


def test_a_missing_image_is_named_before_anything_is_learned(data: Path, tmp_path: Path) -> None:
    folder = copied(data, tmp_path)
    (folder / "CUB_200_2011" / "images").unlink()
    with pytest.raises(DataError, match=r"CUB_200_2011/images/001.Albatross/\d.jpg cannot be read: No such file"):
        fingerprint(made(folder, "imagenet-to-cub"))


def test_numbers_are_checked(data: Path) -> None:
    for options in ({"validation": 0}, {"validation": 1}, {"fraction": 0}):
        with pytest.raises(ConfigurationError, match="is wanted above 0 and"):
            made(data, "imagenet-to-cub", **options)
    with pytest.raises(ConfigurationError, match="cub has 3 classes, which make 1 to 1 parts of at least 2"):
        made(data, "imagenet-to-cub", parts=2)


def test_a_mark_at_the_begin_of_a_list_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfdog\ncat\n")
    assert lines_of(tmp_path / "classes.txt") == ["dog", "cat"]
