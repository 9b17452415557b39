"""A network that gets a column for every task, fed by the columns before it (progressive networks).

    h_l^(t) = f( W_l^(t) h_{l-1}^(t) + sum_{j<t} U_l^(t,j) relu( V_l^(t,j) a_l^(t,j) h_{l-1}^(j) ) )       for l >= 2

Rusu et al., "Progressive Neural Networks", 2016, Eq. 2, with the lateral path of each earlier column by itself, as Lee
et al. 2019 have it; or with all earlier columns side by side in one path, as Rusu et al. have it.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from everlearn.errors import ConfigurationError, LayerError
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.sites import Site
from everlearn.seeds import generator
from everlearn.sharing.initialisers import truncated_normal
from everlearn.sharing.own import Own
from everlearn.sharing.rule import Tensors


class ColumnNetwork(LifelongNetwork):
    """A column for every task; earlier ones are read and never changed.

    Args:
        backbone: blocks and head; each block but the first has its one layer as a child.
        seed: of every start.
        together: whether a lateral path takes all earlier columns side by side, rather than each by itself.

    Raises:
        LayerError: a block whose layer nothing can be added to before what follows it.
    """

    def __init__(self, backbone: Backbone, seed: int, together: bool = False) -> None:
        super().__init__(backbone, Own(), seed)
        self.together = together
        for block, module in enumerate(backbone.blocks[1:], start=1):
            sites = self.sites[block]
            if (
                len(sites) != 1
                or not isinstance(module, nn.Sequential)
                or sites[0].path not in dict(module.named_children())
            ):
                raise LayerError(
                    f"a column's lateral paths end before what follows a block's one layer, so block {block + 1} of "
                    f"{backbone.name!r} needs to be an nn.Sequential with one convolution or linear layer in it."
                )

    def add_column(self, classes: int, scale: float) -> int:
        """Make room for a task, with lateral paths from all columns before it; return its position.

        Args:
            classes: how many.
            scale: a path from one of t columns narrows `n` channels to `n / (scale * (t + 1))`, from all of them
                together to `n / scale`, rounded down.

        Raises:
            ConfigurationError: a path would have no channel left.
        """
        task = self.add_task(classes, (False,) * self.blocks)
        extra: dict[str, Tensor] = {}
        for block in range(1, self.blocks) if task > 0 else ():
            for path, columns in self._paths(task):
                extra |= self._new_path(block, task, path, columns, scale)
        for name, tensor in extra.items():
            self.part(task).extra[name] = nn.Parameter(tensor.to(self.device))
        shapes = {name: tuple(tensor.shape) for name, tensor in extra.items()}
        self.structures[task] = replace(self.structures[task], extra=shapes)
        return task

    def _paths(self, task: int) -> list[tuple[int, Sequence[int]]]:
        """Each lateral path's number, and the columns that it takes."""
        return [(0, range(task))] if self.together else [(column, (column,)) for column in range(task)]

    def _new_path(self, block: int, task: int, path: int, columns: Sequence[int], scale: float) -> Tensors:
        layer = self.sites[block][0].layer
        inputs = layer.inputs * len(columns)
        narrow = int(layer.inputs / scale if self.together else layer.inputs / (scale * (task + 1)))
        if narrow < 1:
            raise ConfigurationError(
                f"scale={scale:g} leaves no channel to the lateral paths of task {task + 1} into {layer.name}; "
                "give a smaller scale."
            )
        random = generator(self.seed, "lateral", task, block, path)
        point, window = ((1, 1), tuple(layer.kernel)) if layer.kernel else ((), ())
        shapes = {"a": (len(columns),), "v": (narrow, inputs, *point), "u": (layer.outputs, narrow, *window)}
        made = {f"{name}{block}_{path}": truncated_normal(shape, random) for name, shape in shapes.items()}
        return {**made, f"b{block}_{path}": torch.full((narrow,), 0.2)}

    # ---------------------------------------------------------------- the function

    def features(self, images: Tensor, task: int) -> Tensor:
        """What a task's column gives its head; earlier columns run at rest, once."""
        with self._earlier_at_rest():
            before = self._earlier(images, task)
        hidden = images
        for block in range(self.blocks):
            hidden = self._block(block, task, hidden, [column[block] for column in before])
        return hidden

    def _earlier(self, images: Tensor, task: int) -> list[list[Tensor]]:
        """Of each column before a task's, what goes into each of its blocks."""
        inputs: list[list[Tensor]] = [[images] for _ in range(task)]
        for block in range(self.blocks - 1):
            below = [column[block] for column in inputs]
            for column in range(task):
                inputs[column].append(self._block(block, column, below[column], below[:column]))
        return inputs

    @contextmanager
    def _earlier_at_rest(self) -> Iterator[None]:
        modes = [template.training for template in self.templates]
        try:
            for template in self.templates:
                template.eval()
            with torch.no_grad():
                yield
        finally:
            for template, mode in zip(self.templates, modes, strict=True):
                template.train(mode)

    def _block(self, block: int, task: int, hidden: Tensor, before: Sequence[Tensor]) -> Tensor:
        """One block of a column, from what is below it and below the same block of the columns before."""
        weights = self.weights(block, task)
        if block == 0 or not before:
            return self.run_block(block, weights, hidden)
        site, laterals = self.sites[block][0], list(before)
        reached = False
        for name, child in self.templates[block].named_children():
            own = {key.removeprefix(f"{name}."): t for key, t in weights.items() if key.startswith(f"{name}.")}
            hidden = functional_call(child, own, (hidden,))
            if name == site.path:
                hidden, reached = hidden + self._lateral(block, task, site, child, laterals), True
            elif not reached:
                laterals = [functional_call(child, own, (lateral,)) for lateral in laterals]
        return hidden

    def _lateral(self, block: int, task: int, site: Site, layer: nn.Module, before: Sequence[Tensor]) -> Tensor:
        """The sum of the lateral paths into a layer, before the layer's activation."""
        extra, found = self.part(task).extra, []
        for path, columns in self._paths(task):
            a, v, b, u = (extra[f"{name}{block}_{path}"] for name in "avbu")
            scaled = torch.cat([a[place] * before[column] for place, column in enumerate(columns)], 1)
            if isinstance(layer, nn.Conv2d):
                narrow = F.relu(F.conv2d(scaled, v, b))
                how = (layer.stride, layer.padding, layer.dilation)
                found.append(F.conv2d(narrow, u, None, *how))  # type: ignore[arg-type]
            else:
                found.append(F.linear(F.relu(F.linear(scaled, v, b)), u))
        return sum(found[1:], found[0])

    def used(self, task: int) -> dict[str, nn.Parameter]:
        found: dict[str, nn.Parameter] = {}
        for column in range(task + 1):
            mine = super().used(column)
            found |= {n: p for n, p in mine.items() if column == task or ".head." not in n}
        return found

    def export(self, task: int) -> nn.Sequential:
        """One task's network with the columns that it reads, in evaluation mode; it shares no memory."""
        copied = ColumnNetwork(self.backbone, self.seed, self.together)
        for structure in self.structures[: task + 1]:
            copied.rebuild(structure)
        mine, theirs = copied.state_dict(keep_vars=True), self.state_dict()
        for name, tensor in mine.items():
            tensor.data = theirs[name].detach().clone()
        parts: OrderedDict[str, nn.Module] = OrderedDict(columns=_Columns(copied, task))
        head = copied.head(task)
        copied.part(task).head = None
        parts["head"] = head
        return nn.Sequential(parts).eval()


class _Columns(nn.Module):
    """A network's features of one task."""

    def __init__(self, network: ColumnNetwork, task: int) -> None:
        super().__init__()
        self.network, self.task = network, task

    def forward(self, images: Tensor) -> Tensor:
        return self.network.features(images, self.task)
