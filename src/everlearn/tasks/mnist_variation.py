"""The stream `mnist-variation`: rotated digits on a background, each digit against the rest (Yoon et al. 2018, sec. 4).

Of each digit 1,000 training, 200 validation and 5,000 test images; ten tasks of two classes, which share all images.
The paper's set is not among its authors' files. Its size, 62,000, and its description fit the rotated digits on
background images of Larochelle et al. 2007 (12,000 and 50,000), which `source=official` reads; `source=made` makes
like images from MNIST.

Details that change the numbers:
  * `made`: all 70,000 digits of MNIST are one pool. A digit is turned about the image's middle by an angle drawn
    uniformly from [0, 2 pi), bilinear in whole numbers (`everlearn.tasks.rotated`), and laid over the background: a
    level d of ink covers it by d / 255.
  * `background=texture`: smooth random greys of its own for each image, for the photographs that Larochelle et al.
    cut their backgrounds from; `noise`: each pixel a level of its own, uniform from 0 to 255; `none`: black.
  * An image of MNIST has one angle and one background, whatever the numbers of images are; they and the division
    into splits come from the seed.
  * `official`: training and validation images are drawn from the first file, test images from the second, of each
    digit up to the numbers asked for. Its classes are not quite of one size, so a few digits have some fewer. Its
    files hold images column by column; here they stand upright.
  * Pixels are in [0, 1]; nothing is standardised. `balance` says how many images of the rest are trained on; the
    paper does not, and `all` uses every image that it counts.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks.against_rest import BALANCE, against_rest
from everlearn.tasks.draws import permutation
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.levels import levels_split
from everlearn.tasks.mnist import DIGITS, HUB, SIDE, read_mnist
from everlearn.tasks.rotated import over, random_angles, random_levels, rotate, textures
from everlearn.tasks.task import SPLITS, Split, TaskStream

OFFICIAL = {
    "train": "mnist_all_background_images_rotation_normalized_train_valid.amat",
    "test": "mnist_all_background_images_rotation_normalized_test.amat",
}
_WHERE = "http://www.iro.umontreal.ca/~lisa/icml2007data/mnist_rotation_back_image_new.zip"
_CHUNK = 500
"""Digits turned at a time: what is computed with then stays in the processor's cache."""


def build(seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream from `DIR/mnist/` (or the hub), or from `DIR/mnist-variation/`.

    Raises:
        MissingDataError: the set is not there.
        DataError: it is not what is published, or a file cannot be read.
        ConfigurationError: a number of images that cannot be had.
    """
    counts = {name: int(options[name]) for name in SPLITS}
    for name, count in counts.items():
        if count < 1:
            raise ConfigurationError(f"{name} is wanted as at least 1 image of each digit, but came as {count}.")
    if options["source"] == "official":
        splits = _official(data, seed, counts)
    else:
        splits = _made(data, seed, counts, str(options["background"]))
    tasks = against_rest(DIGITS, splits, str(options["balance"]), seed, "mnist-variation")
    return TaskStream("mnist-variation", seed, tuple(tasks), dict(options), INFO.about)


def _made(data: Path | None, seed: int, counts: Mapping[str, int], background: str) -> list[Split]:
    first, second = read_mnist(data)
    labels = np.concatenate([first.labels, second.labels])
    pixels = np.concatenate([first.pixels, second.pixels])
    images: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for digit in range(len(DIGITS)):
        pool = np.flatnonzero(labels == digit)
        drawn = vary(pixels[pool], seed, digit, background, _chosen(len(pool), seed, digit, counts))
        for name, part in zip(SPLITS, np.split(drawn, np.cumsum(list(counts.values()))[:-1]), strict=True):
            images[name].append(part)
    made = []
    for name in SPLITS:
        told = np.repeat(np.arange(len(DIGITS)), counts[name])
        made.append(levels_split(np.concatenate(images[name]), told, np.arange(len(told))))
    return made


def _chosen(available: int, seed: int, digit: int, counts: Mapping[str, int]) -> np.ndarray:
    """Positions in a digit's pool, those of training, validation and test images one after the other.

    Test images are the first of the drawn order, validation images come next: more training images contain the fewer.
    """
    total = sum(counts.values())
    if total > available:
        raise ConfigurationError(
            f"MNIST has {available} images of the digit {digit}, but {' + '.join(map(str, counts.values()))} = {total} "
            "are asked for as train, validation and test; ask for fewer."
        )
    order = permutation(available, seed, "mnist-variation", "images", digit)[:total]
    kept = counts["test"] + counts["validation"]
    return np.concatenate([order[kept:], order[counts["test"] : kept], order[: counts["test"]]])


def vary(digits: np.ndarray, seed: int, digit: int, background: str, chosen: np.ndarray) -> np.ndarray:
    """The chosen ones of all images of a digit, each turned and laid over a background: uint8, as `digits`."""
    angles = random_angles(len(digits), seed, "mnist-variation", "angle", digit)[chosen]
    starts = range(0, len(chosen), _CHUNK)
    turned = np.concatenate([rotate(digits[chosen[s : s + _CHUNK]], angles[s : s + _CHUNK]) for s in starts])
    if background == "none":
        return turned
    make = {"noise": random_levels, "texture": textures}[background]
    return over(turned, make(digits.shape, seed, "mnist-variation", background, digit)[chosen])


def _official(data: Path | None, seed: int, counts: Mapping[str, int]) -> list[Split]:
    folder = None if data is None else data / "mnist-variation"
    missing = [file for file in OFFICIAL.values() if folder is None or not (folder / file).is_file()]
    if folder is None or missing:
        where = "a data folder is needed that holds mnist-variation/ with" if folder is None else f"{folder} lacks"
        raise MissingDataError(
            f"source=official reads Larochelle's rotated digits on backgrounds: {where} {' and '.join(missing)} "
            f"(from {_WHERE}); name the data folder with --data DIR or EVERLEARN_DATA, or take source=made."
        )
    train, test = (read_amat(folder / OFFICIAL[name]) for name in ("train", "test"))
    aside, end = counts["validation"], counts["validation"] + counts["train"]
    learned, kept, tested = [], [], []
    for digit in range(len(DIGITS)):
        pools = [np.flatnonzero(split.labels.numpy() == digit) for split in (train, test)]
        first, second = (
            pool[permutation(len(pool), seed, "mnist-variation", "official", name, digit)]
            for pool, name in zip(pools, ("train", "test"), strict=True)
        )
        learned.append(first[aside:end])
        kept.append(first[:aside])
        tested.append(second[: counts["test"]])
    parts = ((train, learned), (train, kept), (test, tested))
    index = [(split, torch.from_numpy(np.concatenate(rows))) for split, rows in parts]
    return [
        Split(split.images[rows], split.labels[rows]) for split, rows in index if isinstance(split.images, torch.Tensor)
    ]


def read_amat(file: Path) -> Split:
    """A file of Larochelle et al.: a line an image, 784 numbers from 0 to 1 column by column, then the digit.

    Raises:
        DataError: it holds something else.
    """
    import pandas

    try:
        table = pandas.read_csv(file, sep=r"\s+", header=None, dtype=np.float32).to_numpy()
    except (OSError, ValueError) as error:  # pandas' own errors of parsing are ValueErrors
        raise DataError(f"{file} cannot be read as numbers in columns ({error}); fetch it again.") from error
    if table.shape[1] != SIDE * SIDE + 1:
        raise DataError(f"{file} is wanted with {SIDE * SIDE + 1} columns, but has {table.shape[1]}; fetch it again.")
    labels = table[:, -1]
    if not np.isin(labels, np.arange(len(DIGITS))).all():
        raise DataError(f"the last column of {file} is wanted as a digit from 0 to 9, but has others; fetch it again.")
    columns = torch.from_numpy(table[:, :-1]).reshape(-1, 1, SIDE, SIDE)
    return Split(columns.transpose(2, 3).contiguous(), torch.from_numpy(labels.astype(np.int64)))


def _outline(options: Mapping[str, Value]) -> Outline:
    return Outline((2,) * len(DIGITS), (1, SIDE, SIDE))


INFO = StreamInfo(
    name="mnist-variation",
    about="rotated digits on a background, each digit against the rest (Yoon et al. 2018)",
    content="10 tasks of 2 classes, 1 x 28 x 28",
    build=build,
    outline=_outline,
    options={
        "source": Option("made", "from MNIST, or Larochelle's files in the data folder", ("made", "official")),
        "background": Option("texture", "of made images", ("texture", "noise", "none")),
        "train": Option(1000, "training images of each digit"),
        "validation": Option(200, "validation images of each digit"),
        "test": Option(5000, "test images of each digit"),
        "balance": BALANCE,
    },
    data="as for permuted-mnist; or mnist-variation/ with Larochelle's two .amat files in the data folder",
    hub=HUB,
    licence="CC BY-SA 3.0 (MNIST)",
)
