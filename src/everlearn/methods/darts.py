"""DARTS: which blocks of a task transfer is relaxed to a mixture, whose weights are learned by gradient descent.

Papers: Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search" (ICLR 2019; arXiv 2018), the search; Lee,
Behpour and Eaton (ICML 2021), Sec. 4.2, its use for selective transfer, as DARTS HPS and DARTS DF-CNN.

    for each task t:
        new own parameters in both forms, an ordinary layer's and the rule's, for every block; a new head
        alpha[b] = (0, 0) for every block b
        for each batch:
            move alpha down    L(w, alpha)                          (order 1)
                               L(w - xi grad_w L(w, alpha), alpha)  (order 2)
            move w down        L(w, alpha) + penalty
        block b of task t transfers if alpha[b][1] > alpha[b][0]; the other alternative is dropped

    block b gives   s[b][0] f_b(x; own ordinary weights) + s[b][1] f_b(x; rule(shared_b, own_b)),   s = softmax(alpha)

Symbols: w all weights, shared, own and the head's; L the cross-entropy of the mixture; f_b a block; xi the length of
the step that order 2 looks ahead; c[b] = alpha[b][1] > alpha[b][0] the discrete configuration.

Details that change the numbers (code: the code of Lee et al. 2021):
  * `scheme`: in the code alpha and w move on the same batch, by one optimiser and schedule (our default). The paper
    says "the hyper-parameter settings described in the original paper", which are those of `bilevel`: alpha has half
    of the training images and Adam (rate 3e-4, betas 0.5 and 0.999, weight decay 1e-3), w has the other half.
  * Which half an image belongs to is a draw for each two neighbours in the split, so that the halves are equally large
    whatever its size. A batch is divided by it; a half that is empty in a batch skips its step, and so does one of a
    single image where the network normalises over a batch.
  * Alpha moves before the weights, which see the new alpha. Dropout is on in both steps, each with masks of its own.
  * Order 2 is by finite differences, as in both codes: with v = grad_w' L(w', alpha) and epsilon = 0.01 / |v|, from
    dL(w')/dalpha goes xi (dL(w + epsilon v)/dalpha - dL(w - epsilon v)/dalpha) / (2 epsilon). Its passes see the same
    dropout masks, else these would be most of the difference. w' is a plain gradient step whatever the optimiser. The
    kinks of ReLU and max-pooling make the difference rough.
  * `mix`: the code mixes after ReLU and before max-pooling; the maximum of a mixture is not the mixture of maxima. So
    do we where a block is an `nn.Sequential` that ends in a pooling layer (or in max-pooling and ReLU, which is the
    same as ReLU and max-pooling); of other blocks the outputs are mixed.
  * The rule's penalty on a block counts by its share s[b][1], taken as a constant: alpha moves down the cross-entropy
    alone. Else alpha would shun a block because its factors are not orthogonal yet. (Ours: DARTS TF was never run.)
  * While it is learned the task answers with c, not with the mixture; a tie is task-specific, and so is the start.
    There is no training after the choice is made.
  * At the end of a task what blocks share goes back, where c[b] = 0, to what it was before the task (`unselected`), as
    under LASEM; after the first task, to its start, where the code draws anew.
  * Running statistics of normalisation: each alternative has its own, and every pass moves them.
"""

from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.methods.base import Batch, Data, Finding, Memory, Method, Objective, Reduction
from everlearn.methods.losses import task_loss
from everlearn.networks.alternatives import has_statistics
from everlearn.networks.backbone import Backbone
from everlearn.networks.calling import Caller
from everlearn.networks.configurations import Configuration
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.parts import TaskStructure
from everlearn.networks.same import SameMaxPool2d
from everlearn.networks.snapshots import put_back, snapshot
from everlearn.seeds import derive
from everlearn.sharing.rule import SharingRule
from everlearn.training.settings import Training

ALPHA = Training(optimiser="adam", rate=3e-4, schedule="constant", beta1=0.5, beta2=0.999, weight_decay=1e-3)
"""How alpha moves under `bilevel`: Liu et al. 2018, App. A.1.1."""
MAXIMA = (SameMaxPool2d, nn.MaxPool2d)
POOLING = (SameMaxPool2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)
_CHOICES = {
    "scheme": ("authors", "bilevel"),
    "mix": ("before-pooling", "after-block"),
    "unselected": ("rolled-back", "kept"),
}
_BEFORE, _SHARES = "before/", "shares"


@dataclass(frozen=True)
class Darts(Method):
    """Differentiable search for the blocks of one sharing rule that transfer.

    Attributes:
        rule: how transferred blocks get their weights.
        scheme: what alpha learns from: `authors`, the same batch and optimiser as the weights; `bilevel`, another half
            of the training images by an Adam of its own.
        order: 1, alpha's gradient at the weights as they are; 2, at the weights one step further.
        xi: length of that step.
        mix: where alternatives are mixed: `before-pooling` where a block ends in pooling, or `after-block`.
        unselected: what becomes of the shared parameters that the task does not use: `rolled-back` or `kept`.

    Raises:
        UnknownNameError: a choice that does not exist.
        ConfigurationError: a number out of range.
    """

    rule: SharingRule
    scheme: Literal["authors", "bilevel"] = "authors"
    order: int = 1
    xi: float = 1e-4
    mix: Literal["before-pooling", "after-block"] = "before-pooling"
    unselected: Literal["rolled-back", "kept"] = "rolled-back"

    protocols: ClassVar[tuple[str, ...]] = ("lifelong",)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UnknownNameError(name, str(getattr(self, name)), choices)
        if self.order not in (1, 2):
            raise ConfigurationError(f"order is 1 or 2, but is {self.order}.")
        if not 0 < self.xi < float("inf"):
            raise ConfigurationError(f"xi needs a number above 0, but is {self.xi}.")

    # ---------------------------------------------------------------- a task's beginning and end

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        return LifelongNetwork(backbone, self.rule, seed)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        memory.clear()
        none = (False,) * network.blocks
        return network.rebuild(TaskStructure(classes, none, open=True, extra={"alpha": (network.blocks, 2)}))

    def enter(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], stage: int, data: Data) -> None:
        if self.unselected == "rolled-back":
            memory |= {_BEFORE + name: tensor for name, tensor in snapshot(network, ["shared"]).items()}

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        alpha = alpha_of(network, tasks[0]).detach()
        configuration = discrete(alpha)
        unused = tuple(f"{_BEFORE}shared.{block}." for block, transfer in enumerate(configuration) if not transfer)
        back = {name.removeprefix(_BEFORE): t for name, t in memory.items() if name.startswith(unused)}
        network.settle(tasks[0], configuration)
        put_back(network, back)
        memory.clear()
        memory[_SHARES] = alpha.softmax(1)[:, 1].clone()
        return set(back)

    def present(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int]) -> None:
        if network.structures[tasks[0]].open:
            network.choose(tasks[0], discrete(alpha_of(network, tasks[0])))

    def finding(self, network: LifelongNetwork, memory: Memory, task: int) -> Finding:
        if not network.structures[task].open:
            return Finding(network.configurations[task], blocks=tuple(map(float, memory[_SHARES].cpu())))
        alpha = alpha_of(network, task).detach()
        return Finding(discrete(alpha), blocks=tuple(map(float, alpha.softmax(1)[:, 1].cpu())))

    # ---------------------------------------------------------------- a batch

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        mixture = Mixture(network, task, reduction, self.mix == "before-pooling")
        moves = network.used(task)
        weights = [p for name, p in moves.items() if name != alpha_name(task)]
        least = 2 if has_statistics([*network.templates, network.head(task)]) else 1

        def steps(batch: Batch) -> Iterator[Tensor]:
            bilevel = self.scheme == "bilevel"
            for_weights, for_alpha = halves(batch, network.seed, task, least) if bilevel else (batch, batch)
            if for_alpha is not None:
                gradient = self.alpha_gradient(mixture, weights, for_alpha, for_weights)
                yield (mixture.alpha * gradient).sum()
            if for_weights is not None:
                yield mixture.loss(for_weights)

        apart = {alpha_name(task): ALPHA} if self.scheme == "bilevel" else {}
        return Objective(moves, mixture.loss, steps, apart)

    def alpha_gradient(
        self, mixture: "Mixture", weights: Sequence[Tensor], for_alpha: Batch, for_weights: Batch | None
    ) -> Float[Tensor, " blocks 2"]:
        """The gradient of alpha's loss by alpha, of the order that was asked for; every weight is left as it was.

        Args:
            mixture: the task's network.
            weights: everything that moves but alpha.
            for_alpha: what alpha learns from.
            for_weights: what the step ahead is taken on; None: the weights take no step, so there is no looking ahead.
        """
        alpha = mixture.alpha
        if self.order == 1 or for_weights is None:
            return _gradients(mixture.cross_entropy(for_alpha, alpha), [alpha])[0]
        with _same_draws(alpha):
            step = _gradients(mixture.loss(for_weights), weights)
        with _moved(weights, step, -self.xi), _same_draws(alpha):
            gradient, *v = _gradients(mixture.cross_entropy(for_alpha, alpha), [alpha, *weights])
        length = torch.stack([part.square().sum() for part in v]).sum().sqrt()
        epsilon = 0.01 / max(float(length), 1e-30)
        with _moved(weights, v, epsilon), _same_draws(alpha):
            above = _gradients(mixture.cross_entropy(for_weights, alpha), [alpha])[0]
        with _moved(weights, v, -epsilon):  # the last pass moves the generator on: the weights' step has other masks
            below = _gradients(mixture.cross_entropy(for_weights, alpha), [alpha])[0]
        return gradient - self.xi * (above - below) / (2 * epsilon)


class Mixture:
    """An open task's network with both alternatives of every block mixed.

    Args:
        network: that holds the task open.
        task: position of the task.
        reduction: of a batch's losses.
        before_pooling: mix before the pooling layer of blocks that end in one.
    """

    def __init__(self, network: LifelongNetwork, task: int, reduction: Reduction, before_pooling: bool) -> None:
        self.network, self.task = network, task
        self.reduction: Reduction = reduction
        parts = [cut(block) if before_pooling else (block, None) for block in network.templates]
        self.blocks = [(Caller(module), pooling) for module, pooling in parts]

    @property
    def alpha(self) -> nn.Parameter:
        """Of the task: `[blocks, 2]`."""
        return alpha_of(self.network, self.task)

    def logits(self, images: Float[Tensor, " n c h w"], alpha: Tensor) -> Float[Tensor, " n classes"]:
        """Of the mixed network."""
        for block, (call, pooling) in enumerate(self.blocks):
            share = alpha[block].softmax(0)
            own, transferred = (
                call(self.network.weights(block, self.task, transfer), images) for transfer in (False, True)
            )
            images = share[0] * own + share[1] * transferred
            images = images if pooling is None else pooling(images)
        return self.network.head(self.task)(images)  # type: ignore[no-any-return]

    def cross_entropy(self, batch: Batch, alpha: Tensor) -> Float[Tensor, ""]:
        """What alpha moves down."""
        return task_loss(self.logits(batch.images, alpha), batch.labels, self.reduction)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """What the weights move down: the cross-entropy and each block's penalty by its share, alpha standing still."""
        alpha = self.alpha.detach()
        total = self.cross_entropy(batch, alpha)
        for block, share in enumerate(alpha.softmax(1)[:, 1]):
            penalty = self.network.penalty_of(block, self.task)
            total = total if penalty is None else total + share * penalty
        return total


def alpha_name(task: int) -> str:
    """The name of a task's alpha among the network's parameters."""
    return f"tasks.{task}.extra.alpha"


def alpha_of(network: LifelongNetwork, task: int) -> nn.Parameter:
    """An open task's alpha, `[blocks, 2]`: column 0 task-specific, column 1 transfer."""
    return network.part(task).extra["alpha"]


def discrete(alpha: Float[Tensor, " blocks 2"]) -> Configuration:
    """The larger alpha of each block; a tie is task-specific."""
    return tuple(map(bool, (alpha[:, 1] > alpha[:, 0]).cpu()))


def cut(block: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """A block as what comes before its last pooling layer, and that layer; None where it does not end in one.

    Max-pooling and then ReLU is taken for ReLU and then max-pooling, which is the same.
    """
    if type(block) is nn.Sequential and len(block) > 1 and isinstance(block[-1], POOLING):
        return block[:-1], block[-1]
    if type(block) is nn.Sequential and len(block) > 2 and isinstance(block[-1], nn.ReLU):
        *before, (_, pooling), relu = block.named_children()
        if isinstance(pooling, MAXIMA):
            return nn.Sequential(OrderedDict((*before, relu))), pooling
    return block, None


def halves(batch: Batch, seed: int, task: int, least: int = 1) -> tuple[Batch | None, Batch | None]:
    """What of a batch is in the weights' half of the task's training split, and what in alpha's.

    Of the images at positions 2i and 2i + 1 one belongs to each half. None for a part of less than `least` images.
    """
    mine = [derive(seed, "halves", task, i // 2) % 2 == i % 2 for i in map(int, batch.index.cpu())]
    chosen = torch.tensor(mine, device=batch.index.device)
    first, second = (_part(batch, where) if int(where.sum()) >= least else None for where in (~chosen, chosen))
    return first, second


def _part(batch: Batch, chosen: Tensor) -> Batch:
    return Batch(batch.images[chosen], batch.labels[chosen], batch.index[chosen], batch.step)


def _gradients(loss: Tensor, of: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of, allow_unused=True, materialize_grads=True))


@contextmanager
def _moved(weights: Sequence[Tensor], direction: Sequence[Tensor], length: float) -> Generator[None, None, None]:
    """Weights moved along a direction, in place; afterwards they are, bit for bit, what they were."""
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, part in zip(weights, direction, strict=True):
            weight.add_(part, alpha=length)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, kept in zip(weights, before, strict=True):
                weight.copy_(kept)


@contextmanager
def _same_draws(like: Tensor) -> Generator[None, None, None]:
    """What is drawn inside is drawn again afterwards."""
    devices = [like.device] if like.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # pyright: ignore[reportUnknownMemberType]
        yield
