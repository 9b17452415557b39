"""Where the rows of a public image set come from: Parquet files in a data folder, or the Hugging Face hub.

A data folder holds one folder a set, as the hub lays it out: `DIR/cifar100/train.parquet` and `test.parquet`,
or shards `train-00000-of-00002.parquet`; DIR may also be that folder itself.
"""

import atexit
import functools
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from everlearn.errors import DataError, MissingDataError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset


_SHARD = re.compile(r"-(\d+)-of-(\d+)(?:-[0-9a-f]+)?\.parquet$")
"""Names of shards, as the hub gives them: which, and of how many."""
_NAMED = 5
"""How many files a message names at most."""


class MissingShardsError(MissingDataError):
    """A set of which a part is there: the place is right, and other places need not be named."""


@dataclass(frozen=True)
class Rows:
    """One split as Hugging Face `datasets` holds it, and how an error names it."""

    table: "Dataset"
    where: str


def open_rows(name: str, hub: str, data: Path | None, splits: Sequence[str]) -> dict[str, Rows]:
    """Open splits of a set; arguments and errors as of `everlearn.tasks.hub.open_image_set`."""
    with _quiet():
        if data is None:
            return {split: Rows(_download(hub, split), f"the {split} split of {hub}") for split in splits}
        return {
            split: Rows(_read_parquet(files, split), _where(files))
            for split, files in find_parquet(name, hub, data, splits).items()
        }


def find_parquet(name: str, hub: str, data: Path, splits: Sequence[str]) -> dict[str, list[Path]]:
    """The Parquet files of each split, shards in order.

    Raises:
        MissingDataError: not all are there; it says where it looked, for which files, and what to do.
        MissingShardsError: some shards of a split are there, and some are not.
    """
    places = (data / name, data)
    for place in places:
        found = {
            split: [place / f"{split}.parquet"]
            if (place / f"{split}.parquet").is_file()
            else sorted(place.glob(f"{split}-*.parquet"))
            for split in splits
        }
        for split, files in found.items():
            _check_shards(split, files)
        if all(found.values()):
            return found
    wanted = " and ".join(f"{split}.parquet (or {split}-*.parquet)" for split in splits)
    looked = f"neither {places[0]} nor {data} holds" if data.is_dir() else f"there is no folder {data} that could hold"
    raise MissingDataError(
        f"the set {name} is missing: {looked} {wanted}; name the folder that holds {name}/ with --data DIR "
        f"or EVERLEARN_DATA, or name none to have {hub} downloaded from the Hugging Face hub."
    )


def _check_shards(split: str, files: Sequence[Path]) -> None:
    """Raise `MissingShardsError` unless there are as many shards as their names say."""
    told = [(file, match) for file in files if (match := _SHARD.search(file.name))]
    if not told:
        return
    folder, counts = files[0].parent, sorted({int(match[2]) for _, match in told})
    if len(counts) > 1:
        raise DataError(
            f"{folder} holds {split} files of {counts[0]} shards and of {counts[1]}; keep those of one download."
        )
    there = {int(match[1]) for _, match in told}
    missing = [number for number in range(counts[0]) if number not in there]
    if missing:
        named = [f"{split}-{number:05}-of-{counts[0]:05}.parquet" for number in missing]
        rest = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        raise MissingShardsError(
            f"{folder} holds {len(there)} of the {counts[0]} files of its {split} split: {', '.join(named[:_NAMED])}"
            f"{rest} {'are' if missing[1:] else 'is'} missing; fetch {'them' if missing[1:] else 'it'} as well."
        )


def _where(files: Sequence[Path]) -> str:
    others = f" and {len(files) - 1} other files" if files[1:] else ""
    return f"{files[0].parent.name}/{files[0].name}{others}"


def _read_parquet(files: Sequence[Path], split: str) -> "Dataset":
    import pyarrow
    import pyarrow.parquet
    from datasets import Dataset
    from datasets.exceptions import DatasetsError

    found: list[pyarrow.parquet.FileMetaData] = []
    for file in files:
        try:
            found.append(pyarrow.parquet.read_metadata(file))
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{file} cannot be read as Parquet ({error}); fetch it again.") from error
    if not any(one.num_rows for one in found):
        raise DataError(f"{_where(files)} holds no image; the {split} split needs some.")
    folder = _arrow_folder()
    try:
        names, kept = [os.fspath(file) for file in files], os.path.join(folder, _mark(files))
        return cast("Dataset", Dataset.from_parquet(names, cache_dir=kept))  # pyright: ignore[reportArgumentType]
    except (OSError, DatasetsError) as error:
        _check_columns(files, [one.schema.to_arrow_schema() for one in found], error)
        raise DataError(
            f"the {split} split in {files[0].parent} could not be copied into the cache folder {folder} "
            f"({error.__cause__ or error}); if the disk is full, name another folder with HF_DATASETS_CACHE."
        ) from error


def _check_columns(files: Sequence[Path], schemas: Sequence["pyarrow.Schema"], error: Exception) -> None:
    """Raise `DataError` if the shards differ in their columns."""
    for file, schema in zip(files, schemas, strict=True):
        other, first = ({field.name: str(field.type) for field in one} for one in (schema, schemas[0]))
        names = [name for name in [*first, *other] if first.get(name) != other.get(name)]
        if names:
            raise DataError(
                f"the files of {file.parent} are wanted with the same columns, but column {names[0]!r} is "
                f"{first.get(names[0], 'missing')} in {files[0].name} and {other.get(names[0], 'missing')} in "
                f"{file.name}; keep the files of one download."
            ) from error


def _mark(files: Sequence[Path]) -> str:
    """A folder's name that other content gives another of.

    `datasets` knows files by their names and times of change alone, so that it would go on with its copy of one that
    was replaced by another of the same time, as `cp -p` and `rsync -a` do. The end of a Parquet file says where its
    columns lie and how large they are.
    """
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            size = file.seek(-8, os.SEEK_END) + 8
            length = int.from_bytes(file.read(4), "little")
            file.seek(max(0, size - 8 - length))
            whole.update(size.to_bytes(8, "little") + file.read(length))
    return f"everlearn-{whole.hexdigest()[:16]}"


@functools.cache
def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="everlearn-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _arrow_folder() -> str:
    """Where datasets keeps its Arrow copies: its cache folder, or a temporary one if that is read-only."""
    from datasets import config

    usual = Path(config.HF_DATASETS_CACHE)
    nearest = next(folder for folder in (usual, *usual.parents) if folder.exists())
    return str(usual) if nearest.is_dir() and os.access(nearest, os.W_OK) else _temporary_folder()


def _download(hub: str, split: str) -> "Dataset":
    from datasets import config, load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub import HfApi

    offline = config.HF_HUB_OFFLINE
    reason: Exception | None = None
    try:
        # One quick question first: without a network, datasets itself would retry for half a minute.
        if not offline:
            HfApi().dataset_info(hub, timeout=10)
    # Whatever the hub's client raised: what counts is whether a copy is here.
    except Exception as error:
        reason, config.HF_HUB_OFFLINE = error, True
    try:
        return cast("Dataset", load_dataset(hub, split=split, cache_dir=_arrow_folder()))
    except (OSError, ValueError, DatasetsError) as error:
        cause = " ".join(str(reason or error).split())
        raise MissingDataError(
            f"{hub} could not be had from the Hugging Face hub ({cause}), and no copy of its {split} split "
            "is on this machine; name a folder that holds it as Parquet with --data DIR or EVERLEARN_DATA, "
            "or try again with a network."
        ) from error
    finally:
        config.HF_HUB_OFFLINE = offline


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of datasets, and no log lines of it or of the hub around our one sentence."""
    import datasets

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if not bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
