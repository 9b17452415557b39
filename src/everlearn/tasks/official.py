"""The new tasks of Learning without Forgetting in their official layouts: VOC 2012, CUB-200-2011, MIT Scenes.

None can be fetched without a browser or an agreement, so each is looked for in a data folder, unpacked as it comes:

    DIR/VOCdevkit/VOC2012/    JPEGImages/ID.jpg, ImageSets/Main/{train,val}.txt and CLASS_{train,val}.txt
    DIR/CUB_200_2011/         images/CLASS/NAME.jpg, images.txt, classes.txt, image_class_labels.txt,
                              train_test_split.txt
    DIR/indoorCVPR_09/        Images/CLASS/NAME.jpg, TrainImages.txt, TestImages.txt

Details that change the numbers:
  * VOC is trained on `train` (5,717 images) and reported on `val` (5,823), as in the paper. A class file says 1 where
    an image shows the class, -1 where it does not, and 0 where it shows but difficult instances of it. VOC's
    evaluation leaves these out, class by class; labels here are 0 or 1, so they count as absent (or, by option, as
    present).
  * The paper cuts VOC into transport, animals and objects, and Scenes into large, medium and small rooms, but does not
    print the lists. Those here are ours; `person` is among the animals.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from everlearn.errors import DataError, MissingDataError
from everlearn.tasks.pairs import Groups, ImageSet
from everlearn.tasks.pixels import Fit
from everlearn.tasks.stored import ImageFiles, StoredImages
from everlearn.tasks.task import Split

VOC_PARTS: Groups = {
    "transport": ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    "animals": ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    "objects": ("bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor"),
}
VOC_CLASSES = tuple(sorted(name for members in VOC_PARTS.values() for name in members))

_LARGE = """airport_inside auditorium bowling buffet casino church_inside cloister concert_hall greenhouse grocerystore
gym library lobby mall movietheater museum poolinside restaurant subway trainstation videostore waitingroom warehouse"""
_MEDIUM = """artstudio bakery bar bookstore classroom clothingstore computerroom deli fastfood_restaurant florist
gameroom garage hairsalon jewelleryshop kindergarden laboratorywet laundromat meeting_room office restaurant_kitchen
shoeshop toystore"""
_SMALL = """bathroom bedroom children_room closet corridor dentaloffice dining_room elevator hospitalroom inside_bus
inside_subway kitchen livingroom locker_room nursery operating_room pantry prisoncell stairscase studiomusic tv_studio
winecellar"""
SCENES_PARTS: Groups = {
    "large": tuple(sorted(_LARGE.split())),
    "medium": tuple(sorted(_MEDIUM.split())),
    "small": tuple(sorted(_SMALL.split())),
}
SCENES_CLASSES = tuple(sorted(name for members in SCENES_PARTS.values() for name in members))


def find_folder(data: Path | None, title: str, places: Sequence[str], mark: str, source: str) -> Path:
    """The first of `places` in the data folder that holds `mark`.

    Args:
        data: the data folder.
        title: of the set.
        places: folders in it.
        mark: a file or folder that tells the set.
        source: where the set is to be had.

    Raises:
        MissingDataError: there is none; says what was looked for and where to get it.
    """
    wanted = f"a data folder that holds {places[0]}/{mark}"
    if data is None:
        raise MissingDataError(
            f"{title} is read from {wanted}; name it with --data DIR or EVERLEARN_DATA (the set is at {source})."
        )
    for place in places:
        if (data / place / mark).exists():
            return data / place
    looked = ", ".join(str(data / place) for place in places)
    raise MissingDataError(
        f"{title} is missing: there is no {mark} in {looked}; get the set from {source} and unpack it in {data}, or "
        "name another data folder with --data DIR or EVERLEARN_DATA."
    )


def voc(data: Path | None, fit: Fit, difficult: bool = False) -> ImageSet:
    """VOC 2012, several of 20 classes an image: `train`, and `val` as the test.

    Args:
        data: the data folder.
        fit: how images come to one size.
        difficult: whether an image that shows but difficult instances of a class is of that class.

    Raises:
        MissingDataError: the set or one of its lists is not there.
        DataError: a list is not as published.
    """
    places = ("VOCdevkit/VOC2012", "VOC2012", "voc/VOCdevkit/VOC2012", "voc")
    source = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
    root = find_folder(data, "VOC 2012", places, "ImageSets/Main/train.txt", source)
    train, test = (_voc_split(root, name, fit, difficult) for name in ("train", "val"))
    return ImageSet("voc", VOC_CLASSES, train, test, True, {3: VOC_PARTS})


def _voc_split(root: Path, split: str, fit: Fit, difficult: bool) -> Split:
    lists = root / "ImageSets" / "Main"
    names = lines_of(lists / f"{split}.txt")
    labels = torch.zeros(len(names), len(VOC_CLASSES))
    for column, one in enumerate(VOC_CLASSES):
        file = lists / f"{one}_{split}.txt"
        marks = dict(_pairs(file, ("-1", "0", "1")))
        if missing := [name for name in names if name not in marks]:
            raise DataError(f"{file} says nothing of image {missing[0]}, which {split}.txt lists; unpack VOC again.")
        shown = ("1", "0") if difficult else ("1",)
        labels[:, column] = torch.tensor([float(marks[name] in shown) for name in names])
    return _split(root / "JPEGImages", [f"{name}.jpg" for name in names], labels, fit)


def cub(data: Path | None, fit: Fit) -> ImageSet:
    """CUB-200-2011, 200 species of birds: 5,994 training and 5,794 test images.

    Args:
        data: the data folder.
        fit: how images come to one size.

    Raises:
        MissingDataError: the set or one of its lists is not there.
        DataError: a list is not as published.
    """
    places = ("CUB_200_2011", "cub/CUB_200_2011", "cub")
    source = "https://www.vision.caltech.edu/datasets/cub_200_2011/"
    root = find_folder(data, "CUB-200-2011", places, "images.txt", source)
    files = dict(_pairs(root / "images.txt"))
    classes = dict(_pairs(root / "classes.txt"))
    labels = dict(_pairs(root / "image_class_labels.txt", classes))
    learned = dict(_pairs(root / "train_test_split.txt", ("0", "1")))
    for name, known in (("image_class_labels.txt", labels), ("train_test_split.txt", learned)):
        if missing := [image for image in files if image not in known]:
            raise DataError(
                f"{root / name} says nothing of image {missing[0]}, which images.txt lists; unpack it again."
            )
    place = {number: position for position, number in enumerate(classes)}

    def split(mark: str) -> Split:
        chosen = [image for image in files if learned[image] == mark]
        numbers = torch.tensor([place[labels[image]] for image in chosen], dtype=torch.int64)
        return _split(root / "images", [files[image] for image in chosen], numbers, fit)

    # "001.Black_footed_Albatross": the number is the line's already.
    names = tuple(name.partition(".")[2] or name for name in classes.values())
    return ImageSet("cub", names, split("1"), split("0"))


def scenes(data: Path | None, fit: Fit) -> ImageSet:
    """MIT Indoor Scenes, 67 kinds of rooms: 5,360 training and 1,340 test images.

    Args:
        data: the data folder.
        fit: how images come to one size.

    Raises:
        MissingDataError: the set or one of its lists is not there.
        DataError: a list is not as published.
    """
    places = ("indoorCVPR_09", "scenes", "mit67")
    root = find_folder(data, "MIT Indoor Scenes", places, "Images", "https://web.mit.edu/torralba/www/indoor.html")
    lists = {name: lines_of(root / name) for name in ("TrainImages.txt", "TestImages.txt")}
    for name, files in lists.items():
        if wrong := [file for file in files if file.count("/") != 1]:
            raise DataError(f"{root / name} is wanted with CLASS/NAME.jpg in each line, but one says {wrong[0]!r}.")
    classes = sorted({file.partition("/")[0] for files in lists.values() for file in files})
    place = {name: position for position, name in enumerate(classes)}
    train, test = (
        _split(root / "Images", files, torch.tensor([place[file.partition("/")[0]] for file in files]), fit)
        for files in lists.values()
    )
    return ImageSet("scenes", tuple(classes), train, test, groups={3: SCENES_PARTS})


def lines_of(file: Path) -> list[str]:
    """The lines of a list, without empty ones.

    Raises:
        MissingDataError: there is no such file.
        DataError: it holds no line.
    """
    if not file.is_file():
        raise MissingDataError(f"there is no file {file}, which the set comes with; unpack the whole of it again.")
    # Some editors begin a file with a mark, which would else be a part of the first name.
    lines = [line.strip() for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    found = [line for line in lines if line]
    if not found:
        raise DataError(f"{file} holds no line, but lists what the set is made of; unpack it again.")
    return found


def _pairs(file: Path, values: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """Two words a line; the second one of `values`, if any are given."""
    allowed = None if values is None else frozenset(values)
    found = []
    for line in lines_of(file):
        first, _, second = line.partition(" ")
        second = second.strip()
        if not second or (allowed is not None and second not in allowed):
            raise DataError(f"{file} is not as the set is published: it has the line {line!r}; unpack it again.")
        found.append((first, second))
    return found


def _split(root: Path, files: Sequence[str], labels: torch.Tensor, fit: Fit) -> Split:
    return Split(StoredImages(ImageFiles(root, tuple(files)), np.arange(len(files)), fit), labels)
