"""Public image sets: from Parquet files in a data folder, or from the Hugging Face hub.

Images are a struct of bytes and path in the column `image` or `img` (or the first that the schema calls an
image); labels are integers with the classes' names in the schema, or any integers or words, whose order is
then the classes' order. The first split's classes are those of all: a label of another split counts by its name.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.draws import parts
from everlearn.tasks.encoded import EncodedImages
from everlearn.tasks.pixels import Fit, Size, to_float
from everlearn.tasks.rows import Rows, open_rows
from everlearn.tasks.stored import StoredImages, sized
from everlearn.tasks.task import Split, Task

if TYPE_CHECKING:
    import pyarrow


def open_image_set(
    name: str,
    hub: str,
    label: str = "label",
    data: Path | None = None,
    splits: Sequence[str] = ("train", "test"),
) -> dict[str, EncodedImages]:
    """Open splits of a set without decoding an image.

    Args:
        name: the set's folder in a data folder.
        hub: its name on the Hugging Face hub.
        label: the column of labels.
        data: the data folder; None for the hub.
        splits: which.

    Raises:
        MissingDataError: the files are not there, or the hub cannot be reached and holds no copy here.
        DataError: a file cannot be read, a column is missing or holds something else, an image has no label, or one of
            a class that the first split does not have.
    """
    opened = open_rows(name, hub, data, splits)
    columns = {split: _labels(rows, label) for split, rows in opened.items()}
    classes, first = _class_names(opened, label, columns), opened[splits[0]].where
    return {
        split: _encoded(rows, _positions(columns[split], rows, label, classes, first), classes)
        for split, rows in opened.items()
    }


def check_side(images: EncodedImages, side: int, name: str) -> None:
    """Raise `DataError` unless the first image is a square of that side.

    A data folder may be a set's own folder, so that another set's files would else be taken for those of this one.
    """
    height, width = images.decode([0]).shape[1:3]
    if (height, width) != (side, side):
        raise DataError(
            f"{images.where} is wanted as {name}, of {side} x {side} pixels, but its first image has {height} x "
            f"{width}; name the folder that holds {name}/ with --data DIR or EVERLEARN_DATA."
        )


def task_from_set(
    name: str,
    sets: Mapping[str, EncodedImages],
    seed: int,
    classes: Sequence[str] | None = None,
    validation: float = 0.15,
    grey: bool = False,
    size: Size | None = None,
    in_memory: bool = True,
) -> Task:
    """A task of all or some of a set's classes; pixels in [0, 1], not standardised.

    Args:
        name: the task's.
        sets: as `open_image_set` returns them.
        seed: of the draw of the validation images.
        classes: which, in the order of the task's labels; None for all.
        validation: the fraction of each class's training images that is set aside for validation.
        grey: one channel instead of RGB.
        size: height and width to resize to.
        in_memory: whether all images are decoded at once; otherwise when they are needed, which wants a size.

    Raises:
        ConfigurationError: the set has no such class, or validation is no fraction; images are to be decoded as
            needed, without a size.
        DataError: a class has too few images, images differ in size.
    """
    if not 0 < validation < 1:
        raise ConfigurationError(f"validation is wanted above 0 and below 1, but came as {validation:g}.")
    train, test = sets["train"], sets["test"]
    chosen = train.classes if classes is None else tuple(classes)
    unknown = sorted(set(chosen) - set(train.classes))
    if unknown:
        raise ConfigurationError(f"{train.where} has no class {unknown[0]!r}; it has {', '.join(train.classes)}.")
    pools = train.by_class()
    learned, kept, tested = [], [], []
    for one in chosen:
        position = train.classes.index(one)
        pool, what = pools[position], f"class {one!r} of {train.where}"
        first, second = parts(len(pool), (1 - validation, validation), what, seed, "set", one)
        learned.append(pool[first])
        kept.append(pool[second])
        tested.append(np.flatnonzero(test.labels == position))
    return Task(
        name,
        chosen,
        split_of(train, learned, grey, size, in_memory),
        split_of(train, kept, grey, size, in_memory),
        split_of(test, tested, grey, size, in_memory),
    )


def split_of(
    images: EncodedImages,
    rows: Sequence[np.ndarray],
    grey: bool = False,
    size: Size | None = None,
    in_memory: bool = True,
) -> Split:
    """A split of images `[N, C, H, W]` in [0, 1], class after class: `rows[k]` are the rows of label k.

    Raises:
        ConfigurationError: images are to be decoded as needed, without a size.
        DataError: no row at all, a row cannot be decoded, or two differ in size and no size is given.
    """
    index = np.concatenate(rows)
    if len(index) == 0:
        raise DataError(f"{images.where} holds no image of the classes that are wanted.")
    labels = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(part) for part in rows]).astype(np.int64))
    if in_memory:
        return Split(to_float(images.decode(index, grey, size)), labels)
    return Split(StoredImages(images, index, Fit(sized(size, images.where)), grey), labels)


def _labels(rows: Rows, label: str) -> "pyarrow.ChunkedArray":
    import pyarrow

    names = rows.table.column_names
    if label not in names:
        raise DataError(f"{rows.where} has no column {label!r}; its columns are {', '.join(names)}.")
    table = cast("pyarrow.Table", rows.table.select_columns([label]).with_format("arrow")[:])
    column = table.column(label)
    if column.null_count:
        raise DataError(f"{column.null_count} of the images of {rows.where} have no {label}; take them out.")
    if pyarrow.types.is_nested(column.type):
        raise DataError(
            f"column {label!r} of {rows.where} is wanted with one number or word an image, but holds {column.type}."
        )
    if pyarrow.types.is_floating(column.type) and (bad := int((~np.isfinite(column.to_numpy())).sum())):
        raise DataError(
            f"column {label!r} of {rows.where} has {bad} labels that are no numbers (NaN or infinity); take them out."
        )
    return column


def _schema_names(rows: Rows, label: str) -> tuple[str, ...] | None:
    names = getattr(rows.table.features[label], "names", None)
    return None if names is None else tuple(names)


def _class_names(
    opened: Mapping[str, Rows], label: str, columns: Mapping[str, "pyarrow.ChunkedArray"]
) -> tuple[str, ...]:
    """The names in the first split's schema, or else the labels that occur in any split without names, in order."""
    names = {split: _schema_names(rows, label) for split, rows in opened.items()}
    first = next(iter(names.values()))
    if first is not None:
        return first
    plain = {split: column for split, column in columns.items() if names[split] is None}
    found = {value for column in plain.values() for value in column.unique().to_pylist()}
    try:
        return tuple(str(value) for value in sorted(found))
    except TypeError as error:
        kinds = "; ".join(f"{opened[split].where} holds {column.type}" for split, column in plain.items())
        raise DataError(
            f"column {label!r} is wanted with labels of one kind in all files, but {kinds}; make them agree."
        ) from error


def _positions(
    column: "pyarrow.ChunkedArray", rows: Rows, label: str, classes: tuple[str, ...], first: str
) -> np.ndarray:
    """Labels as positions in `classes`, `[N]`, int64; `first` is where those come from."""
    place = {name: position for position, name in enumerate(classes)}
    names = _schema_names(rows, label)
    if names is None:
        known = {value: str(value) for value in column.unique().to_pylist()}
        _check_known(known.values(), place, rows.where, first)
        return np.array([place[known[value]] for value in column.to_pylist()], dtype=np.int64)
    labels = column.to_numpy().astype(np.int64)
    wrong = labels[(labels < 0) | (labels >= len(names))]
    if len(wrong):
        raise DataError(
            f"{rows.where} has the label {wrong[0]}, but its {len(names)} classes are labelled 0 to {len(names) - 1}."
        )
    if names == classes:
        return labels
    # Files that were written apart may name the same classes in another order.
    _check_known([names[number] for number in np.unique(labels)], place, rows.where, first)
    return np.array([place.get(name, -1) for name in names], dtype=np.int64)[labels]


def _check_known(found: Iterable[str], place: Mapping[str, int], where: str, first: str) -> None:
    unknown = [name for name in found if name not in place]
    if unknown:
        some = ", ".join([*list(place)[:5], *(["..."] if len(place) > 5 else [])])
        raise DataError(
            f"{where} has images of a class {unknown[0]!r}, which {first} has not: its classes are {some}; make the "
            "names of both agree."
        )


def _encoded(rows: Rows, labels: np.ndarray, classes: tuple[str, ...]) -> EncodedImages:
    import datasets

    names = rows.table.column_names
    known = [name for name in ("image", "img") if name in names]
    known += [name for name, kind in rows.table.features.items() if isinstance(kind, datasets.Image)]
    if not known:
        raise DataError(f"{rows.where} has no column of images; its columns are {', '.join(names)}.")
    _check_images(rows, known[0])
    undecoded = rows.table.select_columns(known[:1]).cast_column(known[0], datasets.Image(decode=False))
    return EncodedImages(rows.where, labels, classes, undecoded, known[0])


def _check_images(rows: Rows, column: str) -> None:
    """Raise `DataError` unless the column holds what images are made of: bytes, paths, or both of them."""
    import datasets

    kind = rows.table.features[column]
    plain = isinstance(kind, datasets.Value) and ("binary" in kind.dtype or "string" in kind.dtype)
    both = isinstance(kind, dict) and {"bytes", "path"} <= set(kind)
    if not (isinstance(kind, datasets.Image) or plain or both):
        held = rows.table.data.schema.field(column).type
        raise DataError(
            f"column {column!r} of {rows.where} is wanted with encoded images (a struct of bytes and path), but holds "
            f"{held}."
        )
