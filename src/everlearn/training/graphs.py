"""CUDA graphs: training steps are recorded once, up to twenty together, and then launched as a whole.

A small network's step is a hundred or two kernels of a few microseconds each, and takes Python and the driver longer to
launch than the device to compute. Recorded steps are launched in one call. They read their batches from a fixed place,
to which the images are copied first, and their learning rate from a number on the device (`make_optimiser`); dropout
draws from the device's generator, whose seed and position are read at each launch, so its draws are those of steps that
are not recorded.

A step is recorded where it does the same each time: one loss a batch, or several that are alike whatever is in the
batch, and nothing that several processes exchange. The first steps of a stage are taken as they are, for what is made
in a first step (the optimisers' memory, the libraries' workspaces) must be there before.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, TypeVar
from weakref import WeakSet

import torch

from everlearn.methods.base import Batch, Objective
from everlearn.training.beside import Beside
from everlearn.training.data import Resident, TrainingData
from everlearn.training.optimisers import may_record
from everlearn.training.parallel import world
from everlearn.training.settings import Training
from everlearn.training.steps import Step, step_of

WARM_UP = 3
"""Steps that are taken as they are before one is recorded, of each task whose images train."""
TOGETHER = 20
"""Steps that are recorded as one, at most: a GPU waits between two launches."""
MOST = 2**26
"""Bytes of images, at most, whose steps are recorded as one: what takes more keeps a GPU busy step by step."""

Given = TypeVar("Given")
Key = tuple[int, int]
"""The task whose images a batch holds, and how many."""


class Side:
    """A stream beside the usual one, on which steps are recorded.

    Attributes:
        device: a GPU.
        spoilt: whether a recording has failed since, on whichever side: after that no older one can be launched, for
            each reads its dropout from a generator's state that is no longer the device's.
    """

    spoilt: bool = False
    _all: ClassVar[WeakSet["Side"]] = WeakSet()

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._all.add(self)
        self._stream = torch.cuda.Stream(device)
        # Nothing that is recorded here leaves anything there that is read after it, so all may use the same memory.
        self._pool = torch.cuda.graph_pool_handle()

    def take(self, work: Callable[[], Given]) -> Given:
        """Do here what is to be recorded, as it must be done before."""
        usual = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            given = work()
        usual.wait_stream(self._stream)
        return given

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        """Record what some work launches, without doing it; what is returned launches it.

        Raises:
            RuntimeError: something in it cannot be recorded.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            # The stream is entered here as well, because a recording that fails does not leave the one that it entered.
            with torch.cuda.stream(self._stream), torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                work()
        except RuntimeError:
            # Up to PyTorch 2.12 the device's generator would believe that it is still being recorded; a copy does not.
            generator = torch.cuda.default_generators[self._stream.device_index]
            generator.graphsafe_set_state(generator.clone_state())
            for side in self._all:
                side.spoilt = True
            raise

        def launch() -> None:
            with torch.cuda.device(self.device):
                graph.replay()

        return launch


@dataclass
class Recording:
    """The recorded steps of one task in one stage, for each task whose images it trains on.

    Attributes:
        step: what is recorded.
        size: images of a step; a batch of more is several steps'.
        objective: whose step it is.
        side: of the network's device; another after one that is spoilt, and steps are recorded anew.
        doubts: where it is said that recording failed.
        taken: how many steps were taken as they are.
        launches: the batch that recorded steps read, and what launches them.
        losses: how many steps down a loss are taken of a batch of so many.
        impossible: whether recording was tried and failed.
    """

    step: Step
    size: int
    objective: Objective
    side: Side
    doubts: list[str]
    taken: Counter[Key] = field(default_factory=Counter[Key])
    launches: dict[Key, tuple[Batch, Callable[[], None]]] = field(default_factory=dict)
    losses: Counter[Key] = field(default_factory=Counter[Key])
    impossible: bool = False

    def together(self, data: Mapping[int, TrainingData]) -> int:
        """How many batches of these tasks' images are to be given as one."""
        split = next(iter(data.values()))
        if len(data) > 1 or not isinstance(split, Resident):
            return 1
        return TOGETHER if TOGETHER * self.size * split.pixels[0].nbytes <= MOST else 1

    def sound(self) -> Side:
        """The side, or another in its place if it is spoilt."""
        if self.side.spoilt:
            self.launches.clear()
            self.side = type(self.side)(self.side.device)
        return self.side

    def __call__(self, batch: Batch) -> int:
        """Take the steps of a batch, as they are or recorded; give how many."""
        key, side = (batch.task, len(batch.labels)), self.sound()
        if self.taken[key] < WARM_UP:
            steps = list(self._steps(batch))
            self.taken[key] += len(steps)
            self.losses[key] = sum(side.take(partial(self.step, one)) for one in steps)
            return self.losses[key]
        if key not in self.launches and not self.impossible:
            self._record(key, batch)
        if key not in self.launches:
            return self._take(batch)
        fixed, launch = self.launches[key]
        _copy(batch, fixed)
        launch()
        return self.losses[key]

    def _steps(self, batch: Batch) -> Iterator[Batch]:
        """The batches that were given as one."""
        for place, start in enumerate(range(0, len(batch.labels), self.size)):
            rows = slice(start, start + self.size)
            parts = {name: getattr(batch, name)[rows] for name in ("images", "labels", "index")}
            yield replace(batch, **parts, step=batch.step + place)

    def _take(self, batch: Batch) -> int:
        return sum(self.step(one) for one in self._steps(batch))

    def _record(self, key: Key, batch: Batch) -> None:
        places = {name: torch.empty_like(getattr(batch, name)) for name in ("images", "labels", "index")}
        fixed = replace(batch, **places)
        _copy(batch, fixed)
        try:
            self.launches[key] = fixed, self.side.record(lambda: self._take(fixed))
        except RuntimeError as error:
            self.impossible = True
            self.launches.clear()
            # What was recorded has not run, so gradients that it left are of no use.
            for parameter in self.objective.moves.values():
                parameter.grad = None
            self.doubts.append(doubt("a training step", error))


def recording(
    objective: Objective,
    optimisers: Sequence[torch.optim.Optimizer],
    training: Training,
    device: torch.device,
    doubts: list[str],
) -> Recording | None:
    """A recording of a step that is yet to be made; None where steps are to be taken as they are.

    Args:
        objective: the loss, and which parameters.
        optimisers: of those; their rates are tensors on the device.
        training: its `graphs` asks for recordings.
        device: of the network, a GPU.
        doubts: where it is said that recording failed.
    """
    same = (objective.steps is None or objective.alike) and not objective.apart
    if not may_record(training, device) or not same or training.augment or world() > 1:
        return None
    # What comes after a step reads the rate where the optimiser does.
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    rate = next((group["lr"] for group in groups if group["pace"] == 1.0), None)
    if objective.after is None:
        rate = 0.0
    elif rate is None:
        return None
    beside = Beside(device) if device.type == "cuda" else None
    step = step_of(objective, optimisers, training, device, rate, beside)
    return Recording(step, training.batch, objective, Side(device), doubts)


def doubt(what: str, error: RuntimeError) -> str:
    """What is said of something that could not be recorded."""
    said = (str(error).splitlines() or ["no reason was given"])[0]
    return (
        f"{what} could not be recorded as a CUDA graph ({said}), so that is done kernel by kernel: slower, and with "
        "the same numbers."
    )


def _copy(batch: Batch, fixed: Batch) -> None:
    fixed.images.copy_(batch.images)
    fixed.labels.copy_(batch.labels)
    fixed.index.copy_(batch.index)
