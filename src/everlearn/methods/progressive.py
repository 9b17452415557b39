"""Progressive neural networks: a new column for each task, which reads the columns before it.

Paper: A. Rusu et al., "Progressive Neural Networks", 2016; as the baseline ProgNN of Lee, Stokes and Eaton (IJCAI 2019)
and of Yoon et al. (ICLR 2018).

    for each task t:
        a new column, a new head, and lateral paths from every column before it (`everlearn.networks.columns`)
        minimise  L(f_t(x), y)      over the new column, its lateral paths and its head

Symbols: a, V, U of a lateral path: a number that scales what comes, a projection to few channels, and the way from
there into the new column's layer.

Details that change the numbers:
  * `laterals=each` (Lee et al., authors' code, and the published counts 3,508,637 and 32,718,543): a path for each
    earlier column, of n / (2 (t + 1)) channels, rounded down, for t earlier columns and n channels below; all are
    added before the layer's activation. `together` (Rusu et al.): one path from all of them, of n / 2 channels.
  * No path into the first convolution, none into the layers of the head. Rusu et al. have them there too.
  * a, V and U start from the truncated normal of deviation 0.05, the bias of V from 0.2; U has no bias.
  * Earlier columns are at rest: no dropout, statistics as they are. Old tasks answer as before to the last bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from everlearn.errors import ConfigurationError
from everlearn.methods.base import Batch, Memory, Method, Objective, Reduction
from everlearn.methods.losses import task_loss
from everlearn.networks.backbone import Backbone
from everlearn.networks.columns import ColumnNetwork
from everlearn.networks.lifelong import LifelongNetwork


@dataclass(frozen=True)
class ProgressiveNet(Method):
    """A column for each task, fed by those before it.

    Attributes:
        scale: by how much lateral paths are narrowed.
        laterals: a path from `each` earlier column, or one from all of them `together`.
    """

    scale: float = 2.0
    laterals: str = "each"

    protocols: ClassVar[tuple[str, ...]] = ("lifelong",)

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf") or self.laterals not in ("each", "together"):
            raise ConfigurationError(
                "scale needs a number above 0, and laterals is each or together, but they came as "
                f"{self.scale} and {self.laterals!r}."
            )

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        return ColumnNetwork(backbone, seed, self.laterals == "together")

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        assert isinstance(network, ColumnNetwork)
        return network.add_column(classes, self.scale)

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        assert isinstance(network, ColumnNetwork)

        def loss(batch: Batch) -> Tensor:
            return task_loss(network(batch.images, task, batch.still), batch.labels, reduction)

        def still(images: Tensor) -> tuple[Tensor, ...]:
            return network.earlier(images, task)

        def answer(kept: tuple[Tensor, ...], images: Callable[[], Tensor]) -> Tensor:
            return network(images(), task, kept)

        moves = {name: p for name, p in network.used(task).items() if name.startswith(f"tasks.{task}.")}
        return Objective(moves, loss, still=still if task > 0 else None, answer=answer)
