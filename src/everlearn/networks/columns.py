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

from everlearn.errors import ConfigurationError, LayerError
from everlearn.networks.backbone import Backbone
from everlearn.networks.calling import Caller, starts_in_place
from everlearn.networks.lifelong import LifelongNetwork
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
        LayerError: a block whose layer nothing can be added to before what follows it, or that keeps statistics of
            what goes into its layer.
    """

    def __init__(self, backbone: Backbone, seed: int, together: bool = False) -> None:
        super().__init__(backbone, Own(), seed)
        self.together = together
        self._calls = [{name: Caller(child, False) for name, child in t.named_children()} for t in self.templates]
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
            _check_before(module, sites[0].path, f"block {block + 1} of {backbone.name!r}")

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
        below = layer.inputs * getattr(self.templates[block].get_submodule(self.sites[block][0].path), "groups", 1)
        inputs = below * len(columns)
        narrow = int(below / scale if self.together else below / (scale * (task + 1)))
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

    def forward(self, images: Tensor, task: int, before: Sequence[Tensor] = ()) -> Tensor:
        """Logits of one task for images, `[n, classes]`.

        Args:
            images: `[n, C, H, W]`.
            task: whose.
            before: what `earlier` gives for these images and this task; computed if left out.
        """
        return self.head(task)(self.features(images, task, before))

    def features(self, images: Tensor, task: int, before: Sequence[Tensor] = ()) -> Tensor:
        """What a task's column gives its head; the arguments are those of `forward`."""
        before = before or self.earlier(images, task)
        hidden = images
        for block in range(self.blocks):
            hidden = self._block(block, task, hidden, before[(block - 1) * task : block * task] if block else ())
        return hidden

    def earlier(self, images: Tensor, task: int) -> tuple[Tensor, ...]:
        """What goes into each block but the first of each column before a task's, block by block; they are at rest."""
        hidden, found = [images] * task, list[Tensor]()
        with self._earlier_at_rest():
            for block in range(self.blocks - 1):
                hidden = [self._block(block, column, hidden[column], hidden[:column]) for column in range(task)]
                found += hidden
        return tuple(found)

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
        if starts_in_place(self.templates[block]):  # the next columns want what is below as it is
            hidden, laterals = hidden.clone(), [lateral.clone() for lateral in laterals]
        reached = False
        for name, call in self._calls[block].items():
            own = {key.removeprefix(f"{name}."): t for key, t in weights.items() if key.startswith(f"{name}.")}
            hidden = call(own, hidden)
            if name == site.path:
                hidden, reached = hidden + self._lateral(block, task, laterals), True
            elif not reached:
                laterals = [call(own, lateral) for lateral in laterals]
        return hidden

    def _lateral(self, block: int, task: int, before: Sequence[Tensor]) -> Tensor:
        """The sum of the lateral paths into a layer, before the layer's activation.

        Every path narrows its columns by itself. The sum of their ways into the layer is one convolution (one product)
        of all that is narrow side by side. Scaling V by a is scaling what V is applied to, and far less work.
        """
        layer = self.templates[block].get_submodule(self.sites[block][0].path)
        convolved = isinstance(layer, nn.Conv2d)
        extra, narrow, ways = self.part(task).extra, list[Tensor](), list[Tensor]()
        for path, columns in self._paths(task):
            a, v, b, u = (extra[f"{name}{block}_{path}"] for name in "avbu")
            scaled = torch.cat([part * a[place] for place, part in enumerate(v.chunk(len(columns), 1))], 1)
            below = before[columns[0]] if len(columns) == 1 else torch.cat([before[column] for column in columns], 1)
            narrow.append(F.conv2d(below, scaled, b) if convolved else F.linear(below, scaled, b))
            ways.append(u)
        inside, way = F.relu(torch.cat(narrow, 1)), torch.cat(ways, 1)
        if not isinstance(layer, nn.Conv2d):
            return F.linear(inside, way)
        return F.conv2d(inside, way, None, layer.stride, layer.padding, layer.dilation)  # type: ignore[arg-type]

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


def _check_before(module: nn.Sequential, path: str, name: str) -> None:
    """Raise `LayerError` where something before a block's layer keeps statistics: earlier columns have others."""
    for child, part in module.named_children():
        if child == path:
            return
        if any(True for _ in part.buffers()):
            raise LayerError(
                "what a column takes from the columns before it goes through the same steps as its own, so these "
                f"cannot keep running statistics; but {name} has a {type(part).__name__} before its layer. Put the "
                "layer first, or take a norm that keeps none (GroupNorm)."
            )


class _Columns(nn.Module):
    """A network's features of one task."""

    def __init__(self, network: ColumnNetwork, task: int) -> None:
        super().__init__()
        self.network, self.task = network, task

    def forward(self, images: Tensor) -> Tensor:
        return self.network.features(images, self.task)
