"""L2: the shared weights are held near where they were.

Papers: the "L2 soft-constraint" of Li and Hoiem (ECCV 2016), Sec. 4.2 and Table 2(b); DNN-L2, the baseline of Yoon et
al. (ICLR 2018), Sec. 4.

    each new task:  minimise L(f(x; theta_s, theta_n), y) + lambda_c / 2 ||theta_s - theta_s'||^2

Symbols: theta_s' the shared weights before the new task (w_0); lambda_c the strength: 0.5 for VOC, 0.05 for the other
tasks of Li and Hoiem; 0.5 in the authors' code of Yoon et al.

Details that change the numbers:
  * The term is added once a batch, whatever the reduction of the loss.
  * Only what tasks share is held; old heads do not move, the new one is free, and so is a block of the trunk that no
    earlier task used: it is where it started at random.
  * `anchor=previous`: where the last task left them, W^{t-1} of Yoon et al.; `first`: the values that the first task
    ended with, "their original values" of Li and Hoiem. With one new task they are the same.
"""

from dataclasses import dataclass

from torch.nn import Parameter

from everlearn.errors import ConfigurationError, check_not_negative
from everlearn.methods.base import Data, Memory
from everlearn.methods.fine_tuning import FineTuning
from everlearn.methods.springs import Springs
from everlearn.networks.lifelong import LifelongNetwork


@dataclass(frozen=True)
class L2(FineTuning):
    """Fine-tuning with a spring on every shared weight.

    Attributes:
        lambda_c: strength.
        anchor: where the springs are fixed: where the `previous` task left the weights, or the `first`.
    """

    lambda_c: float = 0.5
    anchor: str = "previous"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self, "lambda_c")
        if self.anchor not in ("previous", "first"):
            raise ConfigurationError(f"anchor is previous or first, but came as {self.anchor!r}.")

    def prepare(self, network: LifelongNetwork, memory: Memory, task: int, data: Data) -> None:
        for earlier in range(task):
            for name, parameter in _shared(network, earlier).items():
                if self.anchor == "previous" or f"anchor {name}" not in memory:
                    memory[f"anchor {name}"] = parameter.detach().clone()

    def holds(self, network: LifelongNetwork, memory: Memory, task: int) -> Springs | None:
        held = {name: p for name, p in _shared(network, task).items() if f"anchor {name}" in memory}
        if self.lambda_c == 0 or not held:
            return None
        return Springs(list(held.values()), [memory[f"anchor {name}"] for name in held], self.lambda_c)


def _shared(network: LifelongNetwork, task: int) -> dict[str, Parameter]:
    """What a task uses of the shared trunk, by its name there."""
    prefix = "shared."
    return {name[len(prefix) :]: p for name, p in network.used(task).items() if name.startswith(prefix)}
