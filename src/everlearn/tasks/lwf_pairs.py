"""The pairs of tasks of Learning without Forgetting (Li and Hoiem 2016, Table 1), from images that are yours.

The old task is ImageNet or Places2, which a trained network knows; only what it is measured on is read, unless
`old_train` asks for more (joint training does). The new task is VOC 2012 (several labels an image), CUB-200-2011, MIT
Indoor Scenes or MNIST. Images are decoded as they are needed.

Details that change the numbers:
  * `validation`, 5 % of the new task's training images, of each class alike, is set aside; the paper trains on all.
  * `aspect=squash`: images are resized to 256 x 256, as the paper does for AlexNet; `keep`: their shorter side to 256,
    as it does for VGG. Of that the middle 224 x 224 are taken, in training too: random crops (`augment`) are of these,
    padded, and not of the 256 x 256 of the paper.
  * `standardise=old`: by the mean and deviation of ImageNet's RGB values that go with the usual trained networks (those
    of Places2 as well): "The data normalization of the original task is used for the new task."
  * `fraction`, `parts`: as in `everlearn.tasks.lwf_small`. The parts of VOC share its images, each has its labels.
  * How VOC's difficult objects count, and what is in a part: `everlearn.tasks.official`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from everlearn.errors import ConfigurationError
from everlearn.tasks.hub import check_side, open_image_set
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.mnist import SIDE
from everlearn.tasks.official import SCENES_CLASSES, SCENES_PARTS, VOC_CLASSES, VOC_PARTS, cub, scenes, voc
from everlearn.tasks.old_sets import HUBS, old_set
from everlearn.tasks.pairs import ImageSet, cut, encoded_split, finished, groups_of, make_task
from everlearn.tasks.pixels import Fit
from everlearn.tasks.standardising import IMAGENET
from everlearn.tasks.task import TaskStream

MNIST = "ylecun/mnist"
_Options = Mapping[str, Value]


def _mnist(data: Path | None, fit: Fit) -> ImageSet:
    sets = open_image_set("mnist", MNIST, "label", data)
    for images in sets.values():
        check_side(images, SIDE, "mnist")
    return ImageSet("mnist", sets["train"].classes, encoded_split(sets["train"], fit), encoded_split(sets["test"], fit))


def _new_set(name: str, data: Path | None, fit: Fit, options: _Options) -> ImageSet:
    if name == "voc":
        return voc(data, fit, options["difficult"] == "present")
    return {"cub": cub, "scenes": scenes, "mnist": _mnist}[name](data, fit)


def _fit(options: _Options) -> Fit:
    size, resize = int(options["size"]), int(options["resize"])
    if size < 1:
        raise ConfigurationError(f"size is wanted as a side in pixels of at least 1, but came as {size}.")
    return Fit((size, size), (resize, resize), options["aspect"] == "keep")


def _build(name: str, old: str, new: str) -> Callable[[int, Path | None, _Options], TaskStream]:
    def build(seed: int, data: Path | None, options: _Options) -> TaskStream:
        fit = _fit(options)
        first = old_set(old, data, fit, str(options["old"]), bool(options["old_train"]))
        second = _new_set(new, data, fit, options)
        least = 1 if second.multi_label else 2
        groups = groups_of(second.name, second.classes, second.groups, int(options["parts"]), least)
        share = float(options["validation"])
        before = make_task(first, share, seed)
        after = cut(make_task(second, share, seed, float(options["fraction"])), groups)
        in_memory = bool(options["in_memory"])
        tasks = finished([before, *after], str(options["standardise"]), in_memory, IMAGENET)
        return TaskStream(name, seed, tuple(tasks), dict(options), INFOS[name].about)

    return build


_CLASSES = {
    "voc": (VOC_CLASSES, {3: VOC_PARTS}, 1),
    "cub": (tuple(map(str, range(200))), {}, 2),
    "scenes": (SCENES_CLASSES, {3: SCENES_PARTS}, 2),
    "mnist": (tuple("0123456789"), {}, 2),
}


def _outline(new: str) -> Callable[[_Options], Outline]:
    def outline(options: _Options) -> Outline:
        classes, named, least = _CLASSES[new]
        groups = groups_of(new, classes, named, int(options["parts"]), least)
        side = _fit(options).size[0]
        return Outline((1000, *map(len, groups.values())), (3, side, side))

    return outline


_OPTIONS = {
    "old_train": Option(False, "read the old task's training images too, as joint training needs them"),
    "validation": Option(0.05, "of the training images, set aside"),
    "fraction": Option(1.0, "of the new task's training images (the paper's 0.3, 0.1, 0.03)", later=True),
    "parts": Option(1, "tasks that the new task's classes are cut into, one learned after the other", later=True),
    "size": Option(224, "side in pixels of what is cut out of the middle"),
    "resize": Option(256, "side in pixels that images are resized to before"),
    "aspect": Option(
        "squash", "resize both sides (AlexNet), or the shorter and keep the shape (VGG)", ("squash", "keep")
    ),
    "standardise": Option("old", "by ImageNet's RGB values, each task by its own, or not", ("old", "train", "none")),
    "in_memory": Option(False, "decode all images at once"),
}
_OLD = {
    "imagenet": Option(
        "images",
        "the old task's images from the data folder, from the hub (150 GB), or its names alone",
        ("images", "hub", "none"),
    ),
    "places2": Option("images", "the old task's images from the data folder, or its names alone", ("images", "none")),
}
_DIFFICULT = Option(
    "absent", "how a class counts of which an image shows difficult objects only", ("absent", "present"), True
)

_TITLES = {
    "imagenet": "ImageNet",
    "places2": "Places2",
    "voc": "VOC 2012",
    "cub": "CUB-200-2011",
    "scenes": "MIT Indoor Scenes",
    "mnist": "MNIST",
}
_CONTENT = {
    "voc": "20 labels, several an image (or 3 parts: transport, animals, objects)",
    "cub": "200 species of birds",
    "scenes": "67 kinds of rooms (or 3 parts: large, medium, small)",
    "mnist": "10 digits",
}
_FOLDERS = {
    "imagenet": "imagenet/val/CLASS/ (and train/) or imagenet/validation-*.parquet",
    "places2": "places2/val/CLASS/ (and train/) or places2/validation-*.parquet",
    "voc": "VOCdevkit/VOC2012/",
    "cub": "CUB_200_2011/",
    "scenes": "indoorCVPR_09/ with TrainImages.txt and TestImages.txt",
    "mnist": "mnist/train.parquet and test.parquet",
}
_LICENCES = {
    "imagenet": "ImageNet for non-commercial research, by agreement",
    "places2": "Places2 for research, with citation (Zhou et al. 2017)",
    "voc": "VOC by the terms of Flickr",
    "cub": "CUB for non-commercial research",
    "scenes": "MIT Indoor Scenes for research, with citation (Quattoni and Torralba 2009)",
    "mnist": "MNIST CC BY-SA 3.0",
}


def _info(old: str, new: str) -> StreamInfo:
    name = f"{old}-to-{new}"
    classes = "1000 classes" if old == "imagenet" else "the classes of Places2 that you have (401 in the paper)"
    return StreamInfo(
        name=name,
        about=f"{_TITLES[old]} first, which a trained network knows, then {_TITLES[new]} (Li and Hoiem 2016)",
        content=f"{classes}, then {_CONTENT[new]}; 3 x 224 x 224",
        build=_build(name, old, new),
        # How many classes of Places2 there are depends on the release: the paper's has 401, the public one 365.
        outline=_outline(new) if old == "imagenet" else None,
        options={"old": _OLD[old], **_OPTIONS, **({"difficult": _DIFFICULT} if new == "voc" else {})},
        data=f"{_FOLDERS[old]}, and {_FOLDERS[new]}, in the data folder",
        hub=HUBS.get(old),
        licence=f"{_LICENCES[old]}; {_LICENCES[new]}",
    )


INFOS: Mapping[str, StreamInfo] = {
    f"{old}-to-{new}": _info(old, new)
    for old, every in {"imagenet": ("voc", "cub", "scenes", "mnist"), "places2": ("voc", "cub", "scenes")}.items()
    for new in every
}
