"""Learning without Forgetting: a new task is learned from its own images, old tasks' answers to them held.

Paper: Z. Li and D. Hoiem, "Learning without Forgetting", ECCV 2016, Sec. 3 and Fig. 3.

    start with   theta_s, theta_o of each old task;   X_n, Y_n of the new one
    record       Y_o <- f(X_n; theta_s, theta_o)                      of each old task, on the new images
    warm-up      minimise L_new(Y_n, f(X_n; theta_s, theta_n))        over theta_n
    joint        minimise L_new + lambda_o sum_o L_old(Y_o, f(X_n; theta_s, theta_o))
                                                                      over theta_s, all theta_o, theta_n
        L_old = - sum_i y'_i log yhat'_i                              (Eq. 2)
        y'_i  = y_i^(1/T) / sum_j y_j^(1/T)                           (Eq. 3), the same for yhat

Symbols: theta_s shared, theta_o and theta_n heads of old tasks and the new one; y_o recorded and yhat_o present
probabilities of an old task; T the temperature; lambda_o the weight of what is old.

Details that change the numbers:
  * y' is the softmax of logits over T, so the gradient carries 1 / T; it is not multiplied by T^2.
  * L_old is summed over labels and old tasks and averaged over the batch (summed, where the loss is).
  * An old multi-label task: each label is a distribution of two, and the labels' losses are summed.
  * `l1` and `l2` are of the modified probabilities: sum |y' - yhat'|, sum (y' - yhat')^2; `cross-entropy` is Eq. 2 at
    T = 1. The paper names them and gives no formula.
  * Responses are recorded anew for all old tasks when a further task comes, from the network as it then is.
  * Recorded once, they are those of the image as it lies in the training split. With augmented images `live` asks a
    copy of the old network for its answers to each batch instead, at the cost of a second forward pass.
  * Responses are recorded at rest; the present answers have dropout as the rest of training has.
  * Weight decay, 0.0005 in the paper, is a setting of the optimiser and reaches old heads too.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.methods.base import Batch, Data, Memory, Reduction
from everlearn.methods.expansion import expanding, grow
from everlearn.methods.fine_tuning import BATCH, FineTuning, Term
from everlearn.methods.responses import RESPONSE_LOSSES, old_loss
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.snapshots import listed, put_back
from everlearn.networks.trunks import at_rest, features_of, logits_of_tasks


@dataclass(frozen=True)
class Lwf(FineTuning):
    """Fine-tuning that holds old tasks' answers to the new images.

    Attributes:
        lambda_old: lambda_o, weight of what is old.
        temperature: T.
        response: what holds the answers: `distillation` (Eq. 2), `cross-entropy`, `l1`, `l2`.
        responses: `recorded` once a task, or `live`, asked of a copy of the old network for each batch.
        nodes: that each top layer gets for each new task (network expansion, Sec. 4.2); 0: none.
        layers: how many blocks of the trunk get them, counted from the head.
    """

    lambda_old: float = 1.0
    temperature: float = 2.0
    response: str = "distillation"
    responses: str = "recorded"
    nodes: int = 0
    layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.lambda_old < float("inf") or not 0 < self.temperature < float("inf"):
            raise ConfigurationError(
                "lambda_old needs a number of at least 0 and temperature one above 0, but they came as "
                f"{self.lambda_old} and {self.temperature}."
            )
        if self.response not in RESPONSE_LOSSES:
            raise UnknownNameError("response loss", self.response, RESPONSE_LOSSES)
        if self.responses not in ("recorded", "live"):
            raise ConfigurationError(f"responses are recorded or live, but came as {self.responses!r}.")

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        if not self.nodes:
            return super().network(backbone, tasks, seed)
        return expanding(backbone, seed, self.nodes, self.layers, self.configuration, whole=True)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        task = super().begin(network, memory, classes)
        grow(network, task, self.nodes)
        known, trained = memory.get("several", torch.zeros(0, device=network.device)), network.backbone.trained
        several = float(task < len(trained) and trained[task].multi_label)
        memory["several"] = torch.cat([known, known.new_tensor([several])])  # set when the task's labels are seen
        return task

    def enter(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], stage: int, data: Data) -> None:
        for task in tasks:
            if task in data:
                memory["several"][task] = float(data[task].labels.ndim == 2)
        super().enter(network, memory, tasks, stage, data)

    def prepare(self, network: LifelongNetwork, memory: Memory, task: int, data: Data) -> None:
        if self.lambda_old == 0:
            return
        if self.responses == "live":
            memory |= {f"old/{name}": tensor.detach().clone() for name, tensor in network.state_dict().items()}
            return
        apart = self._apart(network)
        parts = [responses_to(network, images, task, apart) for images, _ in data[task].batches(BATCH)]
        memory["responses"] = torch.cat(parts)

    def term(self, network: LifelongNetwork, memory: Memory, task: int, reduction: Reduction) -> Term | None:
        if self.lambda_old == 0:
            return None
        old = list(range(task))
        sizes = [structure.classes for structure in network.structures[:task]]
        several = [flag > 0 for flag in listed(memory["several"][:task])]
        recorded = self._recorded(network, memory, task)

        def term(batch: Batch, features: Mapping[int, Tensor]) -> Tensor:
            present = logits_of_tasks(network, features, old, held=self.statistics == "task")
            wanted = torch.split(recorded(batch), sizes, dim=1)
            each = old_loss(self.response, self.temperature, wanted, present, several)
            return self.lambda_old * (each.sum() if reduction == "sum" else each.mean())

        return term

    def _recorded(self, network: LifelongNetwork, memory: Memory, task: int) -> Callable[[Batch], Tensor]:
        """What gives the old tasks' logits for a batch, `[b, all their classes]`."""
        if self.responses == "recorded":
            return lambda batch: memory["responses"][batch.index]
        old = copy.deepcopy(network)
        put_back(old, {name[4:]: tensor for name, tensor in memory.items() if name.startswith("old/")})
        apart = self._apart(network)
        return lambda batch: responses_to(old, batch.images, task, apart)

    def _apart(self, network: LifelongNetwork) -> bool:
        """Whether old tasks have statistics of their own, so that they answer one by one."""
        return self.statistics == "task" and any(True for block in network.templates for _ in block.buffers())

    def remembered(self, task: int) -> Sequence[int]:
        return range(task)

    def moves(self, network: LifelongNetwork, task: int, bound: bool) -> dict[str, torch.nn.Parameter]:
        tasks = range(task + 1) if bound else (task,)
        return {name: p for one in tasks for name, p in network.used(one).items()}

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        for name in [name for name in memory if name == "responses" or name.startswith("old/")]:
            del memory[name]
        return super().leave(network, memory, tasks, data)


def responses_to(network: LifelongNetwork, images: Tensor, task: int, apart: bool = False) -> Tensor:
    """The logits of all tasks before one, side by side, `[b, all their classes]`, of the network at rest.

    `apart`: each task by itself, with the running statistics that it has; else with those of the first.
    """
    old = list(range(task))
    with at_rest(network):
        features: dict[int, Tensor] = {}
        for together in [[one] for one in old] if apart else [old]:
            features |= features_of(network, images, together)
        return torch.cat(logits_of_tasks(network, features, old), dim=1)
