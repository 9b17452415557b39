"""Runs and lessons that several processes train together, started by `torchrun`; training/parallel.py has what they do.

Process 0 works in the folder of the runs, or on the learner, as one process alone would. The others begin from copies
of what lies there, in folders of their own that are thrown away, so that only one process ever writes what stays.
"""

import os
import signal
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


def signals_heard(signals: Sequence[signal.Signals]) -> Sequence[signal.Signals]:
    """Those that may stop a lesson after a step: none where processes wait for each other at every step."""
    return () if launched() else signals


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
    with _met(place.device) as device, _own(place.root, folders) as root:
        keep = place.keep_weights and is_first()
        yield replace(place, root=root, device=device, keep_weights=keep)


@contextmanager
def joined_store(folder: Path, device: str) -> Iterator[tuple[Path, str]]:
    """Meet the other processes that teach one learner; a process that is alone goes on as it is.

    Args:
        folder: of the learner on disk, which may not be there yet.
        device: that was asked for.

    Yields:
        the folder and the device of this process: process 0 works on the learner itself, the others on copies.
    """
    if not launched():
        yield folder, device
        return
    with _met(device) as own_device, _own(folder.parent, [folder]) as root:
        yield root / folder.name, own_device


@contextmanager
def _met(device: str) -> Iterator[str]:
    """A connection to the other processes, and the device of this one."""
    cuda = device.startswith("cuda")
    if cuda:
        device = f"cuda:{_number('LOCAL_RANK')}"
        torch.cuda.set_device(torch.device(device))
    distributed.init_process_group("nccl" if cuda else "gloo")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield device
    finally:
        torch.set_num_threads(threads)
        distributed.destroy_process_group()


@contextmanager
def _own(root: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """The root itself for process 0; for the others a folder that is thrown away, with copies of these folders."""
    found: list[dict[str, bytes]] = [_contents(root, folders) if is_first() else {}]
    distributed.broadcast_object_list(found)
    if is_first():
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="everlearn-") as own:
        for name, content in found[0].items():
            file = Path(own) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        yield Path(own)


def _contents(root: Path, folders: Sequence[Path]) -> dict[str, bytes]:
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def _number(name: str) -> int:
    return int(os.environ.get(name, "0"))
