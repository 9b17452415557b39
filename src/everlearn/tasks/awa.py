"""The stream `awa`: fifty animals, each against the rest, from features of photographs (Yoon et al. 2018, sec. 4).

Animals with Attributes (Lampert et al. 2009) comes with DECAF features of its 30,475 photographs, 4,096 numbers each.
Of each animal 30 are drawn for training, 30 for validation and 30 for the test; fifty tasks of two classes share them.
An image is its features as 500 channels of 1 x 1 pixel, for fully connected networks.

What is read, from `DIR/awa/` of the data folder:
  * `features.npz`: arrays `features` `[N, D]` and `labels` `[N]`, whole numbers from 0; if wanted `names` of classes.
  * Or text: `Features/decaf/CLASS/*.txt` (or `Animals_with_Attributes/Features/decaf/CLASS/*.txt`), a file a
    photograph, its numbers divided by white space; classes in the order of their names. Only what is drawn is read.

Details that change the numbers:
  * The principal components are those of the training images of all tasks, so the first task's features know of the
    other animals; the paper's were of some whole set too. All splits are projected on them.
  * `standardise=together`: all components are divided by one number, so that their mean square over the training
    images is 1; `each`: every component by its own deviation, the weakest as strong as the first; `none`. The paper
    does not say.
  * Features are rounded to multiples of 1/256 of their unit, so that the last bits of the decomposition, which differ
    between machines and numbers of threads, do not show; those of `none`, to 1/256 of the root of the mean square.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError, MissingDataError
from everlearn.tasks.against_rest import BALANCE, against_rest
from everlearn.tasks.draws import permutation
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.task import SPLITS, Split, TaskStream

_CLASSES = 50
_STEP = 256.0


@dataclass(frozen=True)
class Features:
    """A set of features: names of the classes, `labels` `[N]`, and what reads the features `[n, D]` of some rows."""

    names: tuple[str, ...]
    labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]


def build(seed: int, data: Path | None, options: Mapping[str, Value]) -> TaskStream:
    """Make the stream from `DIR/awa/` of the data folder.

    Raises:
        MissingDataError: neither kind of file is there.
        DataError: a file cannot be read, or an animal has too few photographs.
        ConfigurationError: a number out of range.
    """
    counts = _counts(options)
    features = open_features(data)
    rows = _draw(features, seed, counts)
    raw = {
        name: torch.from_numpy(features.read(np.concatenate(part)).astype(np.float64)) for name, part in rows.items()
    }
    for name, images in raw.items():
        if not torch.isfinite(images).all():
            raise DataError(f"the {name} features of awa have numbers that are not finite; fetch them again.")
    reduce = principal(raw["train"], int(options["components"]), str(options["standardise"]))
    splits = [
        Split(reduce(raw[name])[:, :, None, None], torch.from_numpy(features.labels[np.concatenate(rows[name])]))
        for name in SPLITS
    ]
    tasks = against_rest(features.names, splits, str(options["balance"]), seed, "awa")
    return TaskStream("awa", seed, tuple(tasks), dict(options), INFO.about)


def _counts(options: Mapping[str, Value]) -> dict[str, int]:
    counts = {name: int(options[name]) for name in SPLITS}
    for name, count in counts.items():
        if count < 1:
            raise ConfigurationError(f"{name} is wanted as at least 1 image of each animal, but came as {count}.")
    components, most = int(options["components"]), _CLASSES * counts["train"] - 1
    if not 1 <= components <= most:
        raise ConfigurationError(
            f"components is wanted as 1 to {most}, one less than there are training images of {_CLASSES} animals, "
            f"but came as {components}."
        )
    return counts


def _draw(features: Features, seed: int, counts: Mapping[str, int]) -> dict[str, list[np.ndarray]]:
    """Rows by split and class; test and validation images are the first of a class's drawn order."""
    total, kept = sum(counts.values()), counts["test"] + counts["validation"]
    rows: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for label, name in enumerate(features.names):
        pool = np.flatnonzero(features.labels == label)
        if len(pool) < total:
            raise DataError(
                f"class {name!r} of awa has {len(pool)} images, but {' + '.join(map(str, counts.values()))} = {total} "
                "are asked for as train, validation and test; ask for fewer."
            )
        order = pool[permutation(len(pool), seed, "awa", "images", label)[:total]]
        rows["train"].append(order[kept:])
        rows["validation"].append(order[counts["test"] : kept])
        rows["test"].append(order[: counts["test"]])
    return rows


def principal(train: Tensor, components: int, how: str) -> Callable[[Tensor], Tensor]:
    """What projects features `[n, D]`, float64, on the first principal components of the training images.

    The sign of a component is such that its largest weight is positive.

    Raises:
        ConfigurationError: there are not so many components.
    """
    most = min(train.shape[0] - 1, train.shape[1])
    if components > most:
        raise ConfigurationError(f"features of {train.shape[1]} numbers have at most {most} components; ask for fewer.")
    mean = train.mean(0)
    _, _, directions = torch.linalg.svd(train - mean, full_matrices=False)
    kept = directions[:components]
    largest = kept.gather(1, kept.abs().argmax(1, keepdim=True))
    kept = kept * torch.where(largest < 0, -1.0, 1.0)
    squares = ((train - mean) @ kept.T).square().mean(0)
    together = squares.mean().sqrt().clamp_min(1e-12)
    unit = squares.sqrt().clamp_min(1e-12) if how == "each" else together

    def reduce(features: Tensor) -> Tensor:
        projected = torch.round((features - mean) @ kept.T / unit * _STEP) / _STEP
        return (projected * unit if how == "none" else projected).to(torch.float32)

    return reduce


def open_features(data: Path | None) -> Features:
    """The set in a data folder: `awa/features.npz`, or the published text.

    Raises:
        MissingDataError: neither is there.
        DataError: it cannot be read, or is not of fifty classes.
    """
    wanted = "features.npz (features [N, D], labels [N]) nor Features/decaf/CLASS/*.txt"
    if data is None:
        raise MissingDataError(
            f"the features of Animals with Attributes are read from a data folder that holds awa/ with {wanted}; "
            "name it with --data DIR or EVERLEARN_DATA."
        )
    folder = data / "awa"
    places = [folder / "Features" / "decaf", folder / "Animals_with_Attributes" / "Features" / "decaf"]
    text = next((place for place in places if place.is_dir()), None)
    if (folder / "features.npz").is_file():
        features = _read_arrays(folder / "features.npz")
    elif text is not None:
        features = _read_text(text)
    else:
        raise MissingDataError(
            f"the features of Animals with Attributes are missing: {folder} holds neither {wanted}; they are published "
            "at https://cvml.ista.ac.at/AwA/ (AwA-features-decaf.tar.bz2)."
        )
    if len(features.names) != _CLASSES:
        raise DataError(f"{folder} is wanted with the features of {_CLASSES} animals, but has {len(features.names)}.")
    return features


def _read_arrays(file: Path) -> Features:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            lacking = {"features", "labels"} - set(arrays.files)
            if lacking:
                raise DataError(f"{file} lacks the array {sorted(lacking)[0]!r}; it has {', '.join(arrays.files)}.")
            features, labels = arrays["features"], arrays["labels"]
            named = [str(name) for name in np.atleast_1d(arrays["names"])] if "names" in arrays.files else None
    except DataError:
        raise
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{file} cannot be read as arrays of numbers ({error}); write it with numpy.savez.") from error
    whole = np.issubdtype(labels.dtype, np.integer)
    real = np.issubdtype(features.dtype, np.floating) or np.issubdtype(features.dtype, np.integer)
    if features.ndim != 2 or labels.shape != features.shape[:1] or not whole or not real:
        raise DataError(
            f"{file} needs features [N, D] and whole labels [N], all of them real numbers, but has {features.dtype} "
            f"{list(features.shape)} and {labels.dtype} {list(labels.shape)}."
        )
    # One more than there may be is enough to see that it is too much.
    count = min(int(labels.max()), _CLASSES) + 1 if len(labels) else 0
    names = tuple(named or (f"class-{label + 1}" for label in range(count)))
    if len(labels) and (labels.min() < 0 or labels.max() >= len(names)):
        raise DataError(
            f"{file} has the label {labels.min() if labels.min() < 0 else labels.max()}, which has no name."
        )
    return Features(names, labels.astype(np.int64), lambda rows: features[rows])


def _read_text(folder: Path) -> Features:
    names = sorted(place.name for place in folder.iterdir() if place.is_dir())
    files = [(label, file) for label, name in enumerate(names) for file in sorted((folder / name).glob("*.txt"))]

    def read(rows: np.ndarray) -> np.ndarray:
        vectors = [_vector(files[int(row)][1]) for row in rows]
        for vector, row in zip(vectors, rows, strict=True):
            if len(vector) != len(vectors[0]):
                raise DataError(f"{files[int(row)][1]} has {len(vector)} numbers, others {len(vectors[0])}.")
        return np.stack(vectors)

    return Features(tuple(names), np.array([label for label, _ in files], dtype=np.int64), read)


def _vector(file: Path) -> np.ndarray:
    try:
        return np.array(file.read_text().split(), dtype=np.float32)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as numbers ({error}); fetch it again.") from error


def _outline(options: Mapping[str, Value]) -> Outline:
    return Outline((2,) * _CLASSES, (int(options["components"]), 1, 1))


INFO = StreamInfo(
    name="awa",
    about="fifty animals, each against the rest, from features of photographs (Yoon et al. 2018)",
    content="50 tasks of 2 classes, 500 features as channels of 1 x 1",
    build=build,
    outline=_outline,
    options={
        "components": Option(500, "principal components that the features are reduced to"),
        "train": Option(30, "training images of each animal"),
        "validation": Option(30, "validation images of each animal"),
        "test": Option(30, "test images of each animal"),
        "standardise": Option(
            "together", "components by one number, each by its own, or not", ("together", "each", "none")
        ),
        "balance": BALANCE,
    },
    data="awa/ with features.npz, or with Features/decaf/CLASS/*.txt, in the data folder",
    hub=None,
    licence="features for research, with citation (Lampert et al. 2009); photographs are not needed",
)
