"""A learner as those see it who ask it: what it knows, its answers, its networks; nothing here changes the folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.experiments.execute import check_device
from everlearn.storing.answering import Prediction, answer
from everlearn.storing.building import Code, load_mind
from everlearn.storing.exporting import export
from everlearn.storing.material import split_of
from everlearn.storing.pictures import Pictures
from everlearn.storing.records import Event, LearnerRecord, TaskRecord
from everlearn.storing.store import Generation, Store
from everlearn.storing.teaching import score
from everlearn.tasks.task import Split
from everlearn.training.evaluation import Score

PLAIN = 32
"""Plain networks that are kept ready, one a task."""


class Reader:
    """A learner on disk, as it was when it was opened; `refresh` brings in what others did since.

    Arguments and errors as of `everlearn.open`.
    """

    def __init__(
        self, folder: str | Path, method: str | None = None, backbone: str | None = None, device: str = "cpu"
    ) -> None:
        check_device(device)
        self._store, self._code = Store(Path(folder).expanduser()), Code(method, backbone)
        self._device = device
        self._see(self._store.read())

    # ---------------------------------------------------------------- what there is

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._store.folder

    @property
    def generation(self) -> int:
        """Which generation this is."""
        return self._generation.number

    @property
    def generations(self) -> list[int]:
        """The generations that are kept."""
        return sorted(self._store.current().manifests)

    @property
    def record(self) -> LearnerRecord:
        """Everything but the numbers."""
        return self._generation.record

    @property
    def tasks(self) -> Mapping[str, TaskRecord]:
        """The tasks that it knows, by name, in the order in which they were learned."""
        return {task.name: task for task in self.record.tasks if not task.forgotten}

    @property
    def history(self) -> Sequence[Event]:
        """What was done, oldest first."""
        return tuple(self.record.history)

    @property
    def counts(self) -> Mapping[str, int]:
        """Numbers that it holds, by kind: `shared`, `own`, `head`, `total`."""
        network = self._mind.network
        return network.counts() if network is not None else {"shared": 0, "own": 0, "head": 0, "total": 0}

    def network(self, task: str) -> nn.Module:
        """The plain network of a task, from standardised images to logits, in evaluation mode; not to be changed."""
        place = self._place(task)
        plain = self._plain.pop(place, None)
        if plain is None:
            assert self._mind.network is not None
            plain = self._mind.network.export(place).to(self._device).requires_grad_(False)
        self._plain[place] = plain
        while len(self._plain) > PLAIN:
            self._plain.pop(next(iter(self._plain)))
        return plain

    def refresh(self) -> bool:
        """Bring in what other processes did since; return whether there was anything.

        Not while another thread asks: a server opens a second reader and puts it in the place of the first.

        Raises:
            StoreError: what is there now is damaged; the learner stays as it was.
        """
        current = self._store.current()
        if current.manifests[current.generation] == self._generation.manifest:
            return False
        self._see(self._store.read())
        return True

    # ---------------------------------------------------------------- asking

    def predict(self, images: Pictures, task: str | None = None) -> list[Prediction]:
        """Labels with probabilities.

        Args:
            images: paths, images of Pillow, or an array or tensor `[N, C, H, W]` (8-bit levels, or numbers as those
                that the task was learned from); one or several.
            task: that answers; None: for each image the most plausible (`everlearn.storing.answering` has the rule).

        Raises:
            UnknownNameError: the learner knows no such task.
            DataError: an image that cannot be read.
        """
        self._place(task) if task is not None else self._some()
        asked = [self.tasks[task]] if task is not None else list(self.tasks.values())
        return answer(asked, self.network, images, named=task is not None)

    def evaluate(self, task: str, images: str | Path | Split) -> Score:
        """How well a task is known.

        Args:
            task: which.
            images: a folder of class folders, or a split whose pixels are not standardised.

        Raises:
            UnknownNameError: the learner knows no such task.
            DataError: images that cannot be read, or a class that the task does not have.
        """
        place, known = self._place(task), self.tasks[task]
        assert self._mind.network is not None
        return score(self._mind.network, place, split_of(images, known), known.preprocessing)

    def export(self, task: str, to: str, out: str | Path) -> list[Path]:
        """Write a task's network as a plain one, that needs no everlearn; return the files.

        Args:
            task: which.
            to: `onnx`, `torch` (torch.export, `.pt2`) or `safetensors`.
            out: the file.

        Raises:
            ConfigurationError: no such task or format, or the format cannot express the network.
            StoreError: the file could not be written.
        """
        known = self.record.tasks[self._place(task)]
        assert self._mind.network is not None
        plain = self._mind.network.export(self._place(task)).cpu().requires_grad_(False)
        return export(plain, known, to, Path(out).expanduser())

    def _see(self, generation: Generation) -> None:
        mind = load_mind(generation, self._code)
        if mind.network is not None:
            mind.network.to(self._device)
        self._generation, self._mind = generation, mind
        self._plain: dict[int, nn.Module] = {}

    def _some(self) -> None:
        if not self.tasks:
            raise ConfigurationError(f"{self.folder} knows no task yet; teach it one with learn (`everlearn learn`).")

    def _place(self, task: str) -> int:
        for place, known in enumerate(self.record.tasks):
            if known.name == task and not known.forgotten:
                return place
        self._some()
        raise UnknownNameError(f"task of {self.folder}", task, self.tasks)
