"""The old tasks of Learning without Forgetting: ImageNet and Places2, or what is at hand of them.

    DIR/imagenet/val/CLASS/NAME.jpg     what is reported; train/CLASS/... where the old task is trained as well
    DIR/imagenet/validation-*.parquet   the same as the hub has it; and train-*.parquet
    DIR/imagenet/classes.txt            names of the classes, one a line, in the order of the trained network's outputs

Whoever has a trained network and no images of its task gives `classes.txt` alone. Folders of classes are taken in the
order of their names, which is that of the usual trained networks; `classes.txt` beside them gives other names.
"""

from pathlib import Path

import numpy as np
import torch

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks.folders import class_files
from everlearn.tasks.hub import open_image_set
from everlearn.tasks.official import lines_of
from everlearn.tasks.pairs import ImageSet, encoded_split
from everlearn.tasks.pixels import Fit
from everlearn.tasks.rows import MissingShardsError
from everlearn.tasks.stored import ImageFiles, StoredImages
from everlearn.tasks.task import Split

HUBS = {"imagenet": "ILSVRC/imagenet-1k"}
SOURCES = {"imagenet": "https://www.image-net.org", "places2": "http://places2.csail.mit.edu"}

_PARTS = {"train": ("train",), "test": ("val", "validation")}


def old_set(name: str, data: Path | None, fit: Fit, how: str, train: bool) -> ImageSet:
    """An old task's set.

    Args:
        name: `imagenet` or `places2`; the folder in the data folder.
        data: the data folder.
        fit: how images come to one size.
        how: `images`: from the data folder; `hub`: from the Hugging Face hub; `none`: the classes' names alone.
        train: whether its training images are wanted.

    Raises:
        MissingDataError: what is wanted is not there; says where it was looked for.
        DataError: the classes of its parts or its list of names disagree.
        ConfigurationError: training images are wanted of a set without images.
    """
    if how == "none" and train:
        raise ConfigurationError(f"old_train wants images of {name}, but old=none asks for none; give one of the two.")
    wanted = ("test", "train") if train else ("test",)
    if how == "hub":
        return _from_table(name, None, fit, wanted)
    if data is None:
        raise MissingDataError(
            f"{name} is read from a data folder that holds {name}/val/CLASS/NAME.jpg; name it with --data DIR or "
            f"EVERLEARN_DATA (the set is at {SOURCES[name]})."
        )
    if how == "none":
        return ImageSet(name, _names_alone(data / name), None, None)
    if any((data / name / one).is_dir() for one in _PARTS["test"]):
        return _from_folders(name, data / name, fit, wanted)
    try:
        return _from_table(name, data, fit, wanted)
    except MissingShardsError:
        raise
    except MissingDataError as error:
        raise MissingDataError(
            f"{name} is missing: {data / name} holds neither val/CLASS/NAME.jpg nor validation-*.parquet"
            f"{' with train-*.parquet' if train else ''}; get it from {SOURCES[name]} and unpack it there, or take a "
            "trained network without its images: old=none."
        ) from error


def _names_alone(root: Path) -> tuple[str, ...]:
    if not (root / "classes.txt").is_file():
        raise MissingDataError(
            f"there is no file {root / 'classes.txt'}; write the names of the old task's classes into it, one a line, "
            "in the order of the trained network's outputs."
        )
    return tuple(lines_of(root / "classes.txt"))


def _from_folders(name: str, root: Path, fit: Fit, wanted: tuple[str, ...]) -> ImageSet:
    found: dict[str, dict[str, list[Path]]] = {}
    for part in wanted:
        places = [root / one for one in _PARTS[part] if (root / one).is_dir()]
        if not places:
            raise MissingDataError(
                f"there is no folder {root / _PARTS[part][0]}, which would hold {name}'s images for old_train=true; "
                f"get it from {SOURCES[name]}, or leave the old task untrained: old_train=false."
            )
        found[part] = class_files(places[0])
    folders = list(found["test"])
    for files in found.values():
        if other := sorted(set(files) ^ set(folders)):
            raise DataError(
                f"class {other[0]!r} of {root} is not in both train/ and val/; each class needs some images."
            )
    classes = _names_alone(root) if (root / "classes.txt").is_file() else tuple(folders)
    if len(classes) != len(folders):
        raise DataError(
            f"{root / 'classes.txt'} names {len(classes)} classes, but there are folders of {len(folders)}; make them "
            "agree, line by line."
        )
    splits = {part: _split(root, files, fit) for part, files in found.items()}
    return ImageSet(name, classes, splits.get("train"), splits["test"])


def _split(root: Path, files: dict[str, list[Path]], fit: Fit) -> Split:
    counts = [len(pool) for pool in files.values()]
    names = tuple(str(file.relative_to(root)) for pool in files.values() for file in pool)
    labels = torch.from_numpy(np.repeat(np.arange(len(counts)), counts).astype(np.int64))
    return Split(StoredImages(ImageFiles(root, names), np.arange(len(names)), fit), labels)


def _from_table(name: str, data: Path | None, fit: Fit, wanted: tuple[str, ...]) -> ImageSet:
    tables = ["validation" if part == "test" else part for part in wanted]
    sets = open_image_set(name, HUBS.get(name, ""), "label", data, tables)
    splits = {
        part: encoded_split(sets[table], fit, by_pixels=False) for part, table in zip(wanted, tables, strict=True)
    }
    return ImageSet(name, sets["validation"].classes, splits.get("train"), splits["test"])
