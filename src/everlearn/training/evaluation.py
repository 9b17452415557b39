"""How well a task is known: accuracy and loss of its splits, and which tasks need to be asked again."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from everlearn.errors import ConfigurationError
from everlearn.methods.losses import task_loss
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.training.data import TrainingData
from everlearn.training.parallel import spread
from everlearn.training.precision import exact

ON_CPU, ELSEWHERE = 100, 500
"""Images at a time. What a thread computes of many leaves its cache: of 250 at once each takes a third longer on the
networks for CIFAR (`benchmarks/evaluation_batch.py`). Other devices want much to do at once."""


def at_a_time(device: torch.device) -> int:
    """Images that are evaluated at a time."""
    return ON_CPU if device.type == "cpu" else ELSEWHERE


@dataclass(frozen=True)
class Score:
    """How well a split is known.

    Attributes:
        accuracy: share of images whose largest logit is their label; of a multi-label task the mean average precision.
        loss: mean over images.
        auroc: area under the ROC curve, if it was asked for and is defined.
    """

    accuracy: float
    loss: float
    auroc: float | None = None


Answers = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""Logits and labels of a split, in order, so many at a time."""


def evaluate(
    network: LifelongNetwork, task: int, data: TrainingData, auroc: bool = False, answers: Answers | None = None
) -> Score:
    """How well the network knows a split; see `ask`. It is left in the mode that it was in."""
    training = network.training
    score = ask(network, task, data, auroc, answers)
    network.train(training)
    return score()


def ask(
    network: LifelongNetwork, task: int, data: TrainingData, auroc: bool = False, answers: Answers | None = None
) -> Callable[[], Score]:
    """Ask the network about a split, without dropout; what is returned waits for a GPU to have answered.

    It is left without dropout: of a network of many tasks, which has hundreds of modules, to change that takes as long
    as some images.

    Args:
        network: as it is.
        task: whose head answers.
        data: the split.
        auroc: measure the area under the ROC curve as well.
        answers: what the network answers to it, where somebody knows that for less than running it.
    """
    count, several = len(data.labels), data.labels.ndim == 2
    kept: list[Tensor] = []
    right, loss = sums(network, task, data, answers, kept if several or auroc else None)

    def score() -> Score:
        accuracy = mean_average_precision(torch.cat(kept), data.labels) if several else int(right) / count
        return Score(accuracy, float(loss) / count, area_under_roc(torch.cat(kept), data.labels) if auroc else None)

    return score


@torch.no_grad()
def sums(
    network: LifelongNetwork,
    task: int,
    data: TrainingData,
    answers: Answers | None = None,
    kept: list[Tensor] | None = None,
) -> tuple[Int64[Tensor, ""], Float64[Tensor, ""]]:
    """How many images of a split are known rightly, and the sum of their losses; see `ask`.

    Args:
        network: as it is.
        task: whose head answers.
        data: the split.
        answers: what it answers.
        kept: where all logits are to be put.
    """
    if network.training:
        network.eval()
    right = torch.zeros((), dtype=torch.int64, device=data.labels.device)
    loss = torch.zeros((), dtype=torch.float64, device=data.labels.device)
    size = at_a_time(network.device)
    with spread(network), exact(network.device):
        for logits, labels in (answers or partial(answered, network, task, data))(size):
            if labels.ndim == 1:
                right += (logits.argmax(1) == labels).sum()
            if kept is not None:
                kept.append(logits)
            loss += task_loss(logits, labels, "sum")
    return right, loss


def answered(network: LifelongNetwork, task: int, data: TrainingData, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A network's logits of one task for a split, and the labels, so many at a time."""
    for images, labels in data.batches(size):
        yield network(images, task), labels


def mean_average_precision(scores: Float[Tensor, " n classes"], labels: Float[Tensor, " n classes"]) -> float:
    """The average precision of each label, mean over those that some image has (scikit-learn's, a sum over steps).

    The evaluation of VOC 2012 makes precision fall with recall before it sums, which gives slightly more.
    """
    from sklearn.metrics import average_precision_score

    present = labels.sum(0) > 0
    if not present.any() or not torch.isfinite(scores).all():
        return 0.0
    return float(average_precision_score(labels[:, present].cpu().numpy(), scores[:, present].cpu().numpy()))


def area_under_roc(
    logits: Float[Tensor, " n classes"], labels: Int64[Tensor, " n"] | Float[Tensor, " n classes"]
) -> float | None:
    """The area under the ROC curve, each class against the rest, mean over classes (Yoon et al. 2018, Sec. 4.1).

    Classes that no image, or every image, is of have no such area and are left out; None if none is left, or a logit
    is no finite number. The score of a class is its probability: softmax, or of a multi-label task the logit itself.
    """
    from sklearn.metrics import roc_auc_score

    if labels.ndim == 1:
        truth, scores = torch.nn.functional.one_hot(labels, logits.shape[1]), logits.double().softmax(1)
    else:
        truth, scores = labels.long(), logits.double()
    defined = (truth.sum(0) > 0) & (truth.sum(0) < len(truth))
    if not defined.any() or not torch.isfinite(scores).all():
        return None
    return float(roc_auc_score(truth[:, defined].cpu().numpy(), scores[:, defined].cpu().numpy(), average="macro"))


def changed(network: LifelongNetwork, moved: Iterable[str] | None, tasks: Iterable[int]) -> set[int]:
    """Those of the tasks whose function depends on a parameter that moved.

    Raises:
        ConfigurationError: a method gave no names, or one that the network has not.
    """
    names = _known(network, moved)
    return {task for task in tasks if not names.isdisjoint(network.used(task))}


def _known(network: LifelongNetwork, moved: Iterable[str] | None) -> frozenset[str]:
    """The names; `ConfigurationError` for none at all, and for one without the place of its parameter before it.

    By such a name nobody would know that the task's function has changed: it would not be evaluated again.
    """
    if moved is None:
        raise ConfigurationError(
            "leave of a method gave None; it needs to return the names of the parameters that it changed, or set()."
        )
    names = frozenset(moved)
    there = [name for name, _ in network.named_parameters()]
    for name in sorted(names.difference(there)):
        whole = next((one for one in there if one.endswith(f".{name}")), None)
        if whole is not None:
            raise ConfigurationError(
                f"a method calls a parameter {name!r} that the network calls {whole!r}; take the names from "
                "network.used(task) or network.named_parameters()."
            )
    return names
