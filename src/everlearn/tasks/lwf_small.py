"""An old task and a new one, small: what Learning without Forgetting (Li and Hoiem 2016) does, where ImageNet is not.

The old task is all 100 fine classes of CIFAR-100, or the photos of PACS; the new one CIFAR-10 (much alike), MNIST (not
at all), or the cartoons of PACS (the same classes drawn). The paper's own pairs are in `everlearn.tasks.lwf_pairs`.

Details that change the numbers:
  * 5 % of the old task's training images and 10 % of the new one's are set aside for validation, of each class alike.
  * `standardise=old`, the paper's: both by the old task's training split.
  * `fraction`, the paper's 0.3, 0.1 and 0.03: of the new task's training images, of each class alike, drawn from the
    seed; a smaller fraction is part of a larger. Validation and test stay whole.
  * `parts`: the new task's classes arrive in so many tasks, one after the other (the paper's Fig. 4). Three of CIFAR-10
    are its vehicles; pets and farm animals; wild animals. Others are equal cuts in the order of the classes.
  * MNIST is resized to 32 x 32 and made RGB. Of its training images `images` are used, 5,000 by default: with all
    60,000 every method knows it.
  * PACS comes with 128 x 128 pixels and is resized to `size`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from everlearn.errors import ConfigurationError, MissingDataError
from everlearn.tasks import cifar100
from everlearn.tasks.hub import check_side, open_image_set
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.mnist import SIDE
from everlearn.tasks.pairs import Groups, ImageSet, cut, encoded_split, finished, groups_of, make_task
from everlearn.tasks.pixels import Fit
from everlearn.tasks.task import TaskStream

CIFAR10 = "uoft-cs/cifar10"
MNIST = "ylecun/mnist"
CIFAR10_PARTS: Groups = {
    "vehicles": ("airplane", "automobile", "ship", "truck"),
    "pets-and-farm": ("cat", "dog", "horse"),
    "wild": ("bird", "deer", "frog"),
}

_OLD_VALIDATION, _NEW_VALIDATION = 0.05, 0.1
_Options = Mapping[str, Value]
_Open = Callable[[Path | None, _Options], ImageSet]

_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PACS_CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")


def _opened(
    name: str, folder: str, hub: str, label: str, data: Path | None, fit: Fit, prefix: str = "", side: int = 0
) -> ImageSet:
    names = (f"{prefix}train", f"{prefix}test")
    sets = open_image_set(folder, hub, label, data, names)
    for images in sets.values() if side else ():
        check_side(images, side, name)
    train, test = (encoded_split(sets[one], fit) for one in names)
    groups = {3: CIFAR10_PARTS} if name == "cifar10" else {}
    return ImageSet(name, sets[names[0]].classes, train, test, groups=groups)


def _cifar100(data: Path | None, options: _Options) -> ImageSet:
    return _opened("cifar100", "cifar100", cifar100.HUB, "fine_label", data, Fit((32, 32)))


def _cifar10(data: Path | None, options: _Options) -> ImageSet:
    return _opened("cifar10", "cifar10", CIFAR10, "label", data, Fit((32, 32)), side=32)


def _mnist(data: Path | None, options: _Options) -> ImageSet:
    return _opened("mnist", "mnist", MNIST, "label", data, Fit((32, 32)), side=SIDE)


def _pacs(domain: str) -> _Open:
    def opened(data: Path | None, options: _Options) -> ImageSet:
        if data is None:
            raise MissingDataError(
                f"PACS is read from a data folder that holds pacs/{domain}_train.parquet and {domain}_test.parquet; "
                "name it with --data DIR or EVERLEARN_DATA."
            )
        return _opened(domain, "pacs", "", "label", data, Fit((_side(options), _side(options))), f"{domain}_")

    return opened


def _side(options: _Options) -> int:
    side = int(options["size"]) if "size" in options else 32
    if side < 1:
        raise ConfigurationError(f"size is wanted as a side in pixels of at least 1, but came as {side}.")
    return side


def _most(options: _Options, classes: int) -> int | None:
    """Training images a class; None for all."""
    if "images" not in options:
        return None
    images = int(options["images"])
    if images < classes:
        raise ConfigurationError(f"images is wanted as at least {classes}, one a class, but came as {images}.")
    return images // classes


def _build(name: str, old: _Open, new: _Open) -> Callable[[int, Path | None, _Options], TaskStream]:
    def build(seed: int, data: Path | None, options: _Options) -> TaskStream:
        first, second = old(data, options), new(data, options)
        groups = groups_of(second.name, second.classes, second.groups, int(options["parts"]))
        before = make_task(first, _OLD_VALIDATION, seed, float(options["old_fraction"]))
        most = _most(options, len(second.classes))
        after = make_task(second, _NEW_VALIDATION, seed, float(options["fraction"]), most)
        tasks = finished([before, *cut(after, groups)], str(options["standardise"]), in_memory=True)
        return TaskStream(name, seed, tuple(tasks), dict(options), INFOS[name].about)

    return build


def _outline(old: int, new: tuple[str, ...], named: Mapping[int, Groups]) -> Callable[[_Options], Outline]:
    def outline(options: _Options) -> Outline:
        groups = groups_of("the new task", new, named, int(options["parts"]))
        return Outline((old, *map(len, groups.values())), (3, _side(options), _side(options)))

    return outline


_OPTIONS = {
    "fraction": Option(1.0, "of the new task's training images (the paper's 0.3, 0.1, 0.03)", later=True),
    "parts": Option(1, "tasks that the new task's classes are cut into, one learned after the other", later=True),
    "standardise": Option(
        "old", "both by the old task's training split (paper), each by its own, or not", ("old", "train", "none")
    ),
    "old_fraction": Option(1.0, "of the old task's training images, for a quick look"),
}

INFOS: Mapping[str, StreamInfo] = {
    "cifar100-to-cifar10": StreamInfo(
        name="cifar100-to-cifar10",
        about="CIFAR-100 first, then CIFAR-10, a similar task (after Li and Hoiem 2016)",
        content="100 classes, then 10 (or parts of them), 3 x 32 x 32",
        build=_build("cifar100-to-cifar10", _cifar100, _cifar10),
        outline=_outline(100, _CIFAR10_CLASSES, {3: CIFAR10_PARTS}),
        options=_OPTIONS,
        data="cifar100/ and cifar10/ with train.parquet and test.parquet in the data folder, or the hub",
        hub=f"{cifar100.HUB}, {CIFAR10}",
        licence="free for research, with citation (Krizhevsky 2009)",
    ),
    "cifar100-to-mnist": StreamInfo(
        name="cifar100-to-mnist",
        about="CIFAR-100 first, then MNIST, a task with nothing in common (after Li and Hoiem 2016)",
        content="100 classes, then 10 (or parts of them), 3 x 32 x 32",
        build=_build("cifar100-to-mnist", _cifar100, _mnist),
        outline=_outline(100, tuple("0123456789"), {}),
        options={**_OPTIONS, "images": Option(5000, "of MNIST's training images, of each digit alike", later=True)},
        data="cifar100/ and mnist/ with train.parquet and test.parquet in the data folder, or the hub",
        hub=f"{cifar100.HUB}, {MNIST}",
        licence="CIFAR-100 free for research, with citation (Krizhevsky 2009); MNIST CC BY-SA 3.0",
        first_as="cifar100-to-cifar10",
    ),
    "pacs-photo-to-cartoon": StreamInfo(
        name="pacs-photo-to-cartoon",
        about="photos of seven kinds of thing first, then cartoons of the same (after Li and Hoiem 2016)",
        content="7 classes, then the same 7 (or parts of them), 3 x 64 x 64",
        build=_build("pacs-photo-to-cartoon", _pacs("photo"), _pacs("cartoon")),
        outline=_outline(7, _PACS_CLASSES, {}),
        options={**_OPTIONS, "size": Option(64, "side in pixels that images are resized to")},
        data="pacs/ with photo_train.parquet, photo_test.parquet, cartoon_train.parquet and cartoon_test.parquet",
        hub=None,
        licence="for research, with citation (Li et al. 2017)",
    ),
}
