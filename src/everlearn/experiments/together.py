"""Runs that several processes train together, started by `torchrun`; training/parallel.py has what they do.

Process 0 works in the folder of the runs, as one process alone would. The others begin from copies of what lies there,
in folders of their own that are thrown away, so that only one process ever writes a record or a checkpoint.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed

from everlearn.errors import ConfigurationError
from everlearn.experiments.execute import Place


def launched() -> bool:
    """Whether `torchrun` started this process beside others."""
    return distributed.is_available() and distributed.is_torchelastic_launched() and _number("WORLD_SIZE") > 1


def is_first() -> bool:
    """Whether this process writes and speaks: process 0, or one that is alone."""
    return not launched() or _number("RANK") == 0


def check_alone(workers: int | None) -> None:
    """Raise `ConfigurationError` if workers were asked for as well."""
    if launched() and workers:
        raise ConfigurationError(
            f"torchrun starts the processes here, but {workers} workers were asked for as well; leave --workers out."
        )


@contextmanager
def joined(place: Place, folders: Sequence[Path]) -> Iterator[Place]:
    """Meet the other processes; yields where this one works.

    Args:
        place: as it was asked for.
        folders: in the root of the place, which the others need copies of.
    """
    cuda = place.device.startswith("cuda")
    if cuda:
        place = replace(place, device=f"cuda:{_number('LOCAL_RANK')}")
        torch.cuda.set_device(torch.device(place.device))
    distributed.init_process_group("nccl" if cuda else "gloo")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found: list[dict[str, bytes]] = [_contents(place.root, folders) if is_first() else {}]
        distributed.broadcast_object_list(found)
        if is_first():
            yield place
            return
        with tempfile.TemporaryDirectory(prefix="everlearn-") as own:
            for name, content in found[0].items():
                file = Path(own) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            yield replace(place, root=Path(own), keep_weights=False)
    finally:
        torch.set_num_threads(threads)
        distributed.destroy_process_group()


def _contents(root: Path, folders: Sequence[Path]) -> dict[str, bytes]:
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def _number(name: str) -> int:
    return int(os.environ.get(name, "0"))
