"""CUDA graphs: a training step is recorded once and then launched as a whole.

A small network's step is a hundred or two kernels of a few microseconds each, and takes Python and the driver longer to
launch than the device to compute. A recorded step is launched in one call. It reads its batch from a fixed place, to
which each batch is copied first, and its learning rate from a number on the device (`make_optimiser`); dropout draws
from the device's generator, whose seed and position are read at each launch, so its draws are those of a step that is
not recorded.

A step is recorded where it does the same each time: one loss a batch, nothing after it but the optimisers, nothing
that several processes exchange. The first steps of a stage are taken as they are, for what is made in a first step
(the optimisers' memory, the libraries' workspaces) must be there before.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from everlearn.errors import ConfigurationError, EverlearnWarning
from everlearn.methods.base import Batch, Objective
from everlearn.training.parallel import world
from everlearn.training.settings import Training
from everlearn.training.steps import Step

WARM_UP = 3
"""Steps that are taken as they are before one is recorded."""


@dataclass
class Recording:
    """The recorded steps of one task in one stage, one for each task whose images it trains on.

    Attributes:
        step: what is recorded.
        taken: steps that were taken as they are.
        launches: of each task whose images the batch holds and each size of batch: the batch that the recorded step
            reads, and what launches it.
        impossible: whether recording was tried and failed.
    """

    step: Step
    taken: int = 0
    launches: dict[tuple[int, int], tuple[Batch, Callable[[], None]]] = field(default_factory=dict)
    impossible: bool = False

    def __call__(self, batch: Batch) -> int:
        """Take the step of a batch, as it is or recorded; give the number of steps."""
        key = batch.task, len(batch.labels)
        if self.taken < WARM_UP:
            self.taken += 1
            return aside(self.step, batch)
        if key not in self.launches and not self.impossible:
            self._record(key, batch)
        if key not in self.launches:
            return self.step(batch)
        fixed, launch = self.launches[key]
        _copy(batch, fixed)
        launch()
        return 1

    def _record(self, key: tuple[int, int], batch: Batch) -> None:
        places = {name: torch.empty_like(getattr(batch, name)) for name in ("images", "labels", "index")}
        fixed = replace(batch, **places)
        _copy(batch, fixed)
        try:
            self.launches[key] = fixed, record(lambda: self.step(fixed))
        except RuntimeError as error:
            self.impossible = True
            warnings.warn(
                f"the training step cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}); it is taken "
                "kernel by kernel instead, which is slower and changes no number.",
                EverlearnWarning,
                stacklevel=2,
            )


def check_graphs(training: Training, device: str) -> None:
    """Raise `ConfigurationError` where steps are to be recorded and the device cannot."""
    if training.graphs and not device.startswith("cuda"):
        raise ConfigurationError(
            f"graphs records steps of a GPU, but the device is {device}; leave out graphs=1, or give --device cuda."
        )


def recording(objective: Objective, training: Training, step: Step) -> Recording | None:
    """A recording of a step that is yet to be made; None where steps are to be taken as they are."""
    same = objective.steps is None and objective.after is None and not training.augment and world() == 1
    return Recording(step) if training.graphs and same else None


def _copy(batch: Batch, fixed: Batch) -> None:
    fixed.images.copy_(batch.images)
    fixed.labels.copy_(batch.labels)
    fixed.index.copy_(batch.index)


def aside(step: Step, batch: Batch) -> int:
    """Take a step on a stream of its own, as what comes before a recording must be."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        steps = step(batch)
    torch.cuda.current_stream().wait_stream(stream)
    return steps


def record(step: Callable[[], int]) -> Callable[[], None]:
    """Record what a step launches, without taking it; what is returned launches it.

    Raises:
        RuntimeError: something in it cannot be recorded.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
