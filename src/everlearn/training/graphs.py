"""CUDA graphs: a training step is recorded once and then launched as a whole.

A small network's step is a hundred or two kernels of a few microseconds each, and takes Python and the driver longer to
launch than the device to compute. A recorded step is launched in one call. It reads its batch from a fixed place, to
which each batch is copied first, and its learning rate from a number on the device (`make_optimiser`); dropout draws
from the device's generator, whose seed and position are read at each launch, so its draws are those of a step that is
not recorded.

A step is recorded where it does the same each time: one loss a batch, or several that are alike whatever is in the
batch, and nothing that several processes exchange. The first steps of a stage are taken as they are, for what is made
in a first step (the optimisers' memory, the libraries' workspaces) must be there before.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from everlearn.methods.base import Batch, Objective
from everlearn.training.beside import Beside
from everlearn.training.optimisers import may_record
from everlearn.training.parallel import world
from everlearn.training.settings import Training
from everlearn.training.steps import Step, step_of

WARM_UP = 3
"""Steps that are taken as they are before one is recorded, of each task whose images train."""

Key = tuple[int, int]
"""The task whose images a batch holds, and how many."""


class Side:
    """A stream beside the usual one, on which steps are recorded.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        # Nothing of a step is read after it, so all that are recorded here may use the same memory.
        self._pool = torch.cuda.graph_pool_handle()

    def take(self, step: Step, batch: Batch) -> int:
        """Take a step here, as those before a recording must be."""
        usual = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            steps = step(batch)
        usual.wait_stream(self._stream)
        return steps

    def record(self, step: Callable[[], int]) -> Callable[[], None]:
        """Record what a step launches, without taking it; what is returned launches it.

        Raises:
            RuntimeError: something in it cannot be recorded.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            # The stream is entered here as well, because a recording that fails does not leave the one that it entered.
            with torch.cuda.stream(self._stream), torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                step()
        except RuntimeError:
            # Up to PyTorch 2.12 the device's generator would believe that it is still being recorded; a copy does not.
            generator = torch.cuda.default_generators[self._stream.device_index]
            generator.graphsafe_set_state(generator.clone_state())
            raise

        def launch() -> None:
            with torch.cuda.device(self._stream.device):
                graph.replay()

        return launch


@dataclass
class Recording:
    """The recorded steps of one task in one stage, one for each task whose images it trains on.

    Attributes:
        step: what is recorded.
        objective: whose step it is.
        side: of the network's device.
        doubts: where it is said that recording failed.
        taken: how many steps were taken as they are.
        launches: the batch that a recorded step reads, and what launches the step.
        losses: how many steps down a loss a batch is.
        impossible: whether recording was tried and failed.
    """

    step: Step
    objective: Objective
    side: Side
    doubts: list[str]
    taken: Counter[Key] = field(default_factory=Counter[Key])
    launches: dict[Key, tuple[Batch, Callable[[], None]]] = field(default_factory=dict)
    losses: int = 1
    impossible: bool = False

    def __call__(self, batch: Batch) -> int:
        """Take the step of a batch, as it is or recorded; give the number of steps."""
        key = batch.task, len(batch.labels)
        if self.taken[key] < WARM_UP:
            self.taken[key] += 1
            self.losses = self.side.take(self.step, batch)
            return self.losses
        if key not in self.launches and not self.impossible:
            self._record(key, batch)
        if key not in self.launches:
            return self.step(batch)
        fixed, launch = self.launches[key]
        _copy(batch, fixed)
        launch()
        return self.losses

    def _record(self, key: Key, batch: Batch) -> None:
        places = {name: torch.empty_like(getattr(batch, name)) for name in ("images", "labels", "index")}
        fixed = replace(batch, **places)
        _copy(batch, fixed)
        try:
            self.launches[key] = fixed, self.side.record(lambda: self.step(fixed))
        except RuntimeError as error:
            self.impossible = True
            self.launches.clear()
            # What was recorded has not run, so gradients that it left are of no use.
            for parameter in self.objective.moves.values():
                parameter.grad = None
            said = (str(error).splitlines() or ["no reason was given"])[0]
            self.doubts.append(
                f"a training step could not be recorded as a CUDA graph ({said}), so steps were taken kernel by "
                "kernel: slower, and with the same numbers."
            )


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
    return Recording(step_of(objective, optimisers, training, device, rate, beside), objective, Side(device), doubts)


def _copy(batch: Batch, fixed: Batch) -> None:
    fixed.images.copy_(batch.images)
    fixed.labels.copy_(batch.labels)
    fixed.index.copy_(batch.index)
