"""The generation that a server answers from, and the change to a newer one.

`Loaded` never changes. A newer generation is read and tried beside it, and then takes its place at once; requests
that began with the old one end with it. A generation that is damaged leaves the old one in place.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor, nn

from everlearn.errors import EverlearnError, StoreError
from everlearn.storing.answering import probabilities
from everlearn.storing.reader import Reader
from everlearn.storing.records import Preprocessing, TaskRecord
from everlearn.storing.store import Store

log = logging.getLogger("everlearn.serving")

PATIENCE = 10.0
"""Seconds after which a generation that was found damaged is looked at again: it may have been mended."""


@dataclass(frozen=True)
class Loaded:
    """One generation, ready to answer.

    Attributes:
        generation: which.
        mark: tells it from every other, also of a store that was made anew.
        tasks: by name.
        networks: the plain network of each task, whose weights were made when it was loaded.
    """

    generation: int
    mark: str
    tasks: Mapping[str, TaskRecord]
    networks: Mapping[str, nn.Module]

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Of every image; all tasks of a learner have the same shape. None while there is no task."""
        return next((task.preprocessing for task in self.tasks.values()), None)

    def ask(self, task: str, pixels: Tensor) -> Tensor:
        """The probabilities of a task, `[n, classes]`, for pixels in [0, 1]."""
        return probabilities(self.networks[task], self.tasks[task], pixels)


class Current:
    """A learner's folder as a server sees it.

    Args:
        folder: where it lies.
        method: `file.py:Name`, if its method comes from a file of the user's own.
        backbone: `file.py:Name`, if its backbone does.
        device: where it predicts.

    Raises:
        StoreError: there is no learner, or it is damaged.
    """

    def __init__(self, folder: Path, method: str | None, backbone: str | None, device: str) -> None:
        self.folder = folder.expanduser()
        self._store, self._of, self._device = Store(self.folder), (method, backbone), device
        self._refused, self._again = "", 0.0
        self.problem: str | None = None
        self.reloads = 0
        self.loaded = self._load()

    def on_disk(self) -> tuple[int, str]:
        """The number of the generation that counts on the disk, and its mark.

        Raises:
            StoreError: the file that names it is missing or damaged.
        """
        current = self._store.current()
        return current.generation, current.manifests[current.generation]

    def refresh(self) -> bool:
        """Take the newest generation; return whether there was one. Never raises for what is on the disk."""
        mark = "unreadable"
        try:
            _, mark = self.on_disk()
            if mark == self.loaded.mark:
                self.problem, self._refused = None, ""
                return False
            if mark == self._refused and monotonic() < self._again:
                return False
            loaded = self._load()
        except EverlearnError as error:
            problem = str(error).replace(str(self.folder), self.folder.name)
            if problem != self.problem:
                log.error("generation %d is kept: %s", self.loaded.generation, problem)
            self.problem, self._refused, self._again = problem, mark, monotonic() + PATIENCE
            return False
        self.loaded, self.problem, self._refused = loaded, None, ""
        self.reloads += 1
        log.info("generation %d is served from now on", loaded.generation)
        return True

    def _load(self) -> Loaded:
        number, mark = self.on_disk()
        reader = Reader(self.folder, *self._of, self._device)
        if reader.generation != number:  # it changed meanwhile; it is looked at again soon
            number, mark = reader.generation, ""
        # Convolutions are about twice as fast on a CPU where the channels lie together.
        networks = {name: reader.network(name) for name in reader.tasks}
        for network in networks.values():
            network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (torch's types lack it)
        loaded = Loaded(number, mark, dict(reader.tasks), networks)
        _try(loaded)
        return loaded


def _try(loaded: Loaded) -> None:
    """Let every network answer once, so that what does not fit is found now.

    Raises:
        StoreError: a network does not take the images, or does not know the classes, that its record speaks of.
    """
    for name, task in loaded.tasks.items():
        pre = task.preprocessing
        try:
            found = loaded.ask(name, torch.zeros(1, pre.channels, pre.height, pre.width))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise StoreError(f"the network of task {name!r} does not fit its images ({reason}).") from None
        if found.shape != (1, len(task.classes)):
            raise StoreError(f"the network of task {name!r} has {found.shape[1]} outputs for {len(task.classes)}.")
