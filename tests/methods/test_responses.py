"""The response-preserving losses, against numbers worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from everlearn.methods.losses import task_loss
from everlearn.methods.responses import RESPONSE_LOSSES, old_loss

# p = softmax((ln 4, 0)) = (0.8, 0.2); at T = 2: softmax((ln 2, 0)) = (2/3, 1/3)
WANTED = torch.tensor([[math.log(4), 0.0]])
# q = softmax((0, ln 9)) = (0.1, 0.9); at T = 2: softmax((0, ln 3)) = (1/4, 3/4)
PRESENT = torch.tensor([[0.0, math.log(9)]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("distillation", -2 / 3 * math.log(1 / 4) - 1 / 3 * math.log(3 / 4)),
        ("cross-entropy", -0.8 * math.log(0.1) - 0.2 * math.log(0.9)),
        ("l1", 2 * (2 / 3 - 1 / 4)),
        ("l2", 2 * (2 / 3 - 1 / 4) ** 2),
    ],
)
def test_by_hand(kind: str, expected: float) -> None:
    assert old_loss(kind, 2.0, [WANTED], [PRESENT], [False]).tolist() == pytest.approx([expected])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # One label: sigmoid(ln 4 / 2) = 2/3 wanted, sigmoid(-ln 9 / 2) = 1/4 present; another of 1/2 and 1/2.
        ("distillation", -2 / 3 * math.log(1 / 4) - 1 / 3 * math.log(3 / 4) + math.log(2)),
        ("cross-entropy", -0.8 * math.log(0.1) - 0.2 * math.log(0.9) + math.log(2)),
        ("l1", 2 / 3 - 1 / 4),
        ("l2", (2 / 3 - 1 / 4) ** 2),
    ],
)
def test_several_labels_by_hand(kind: str, expected: float) -> None:
    wanted, present = torch.tensor([[math.log(4), 0.0]]), torch.tensor([[-math.log(9), 0.0]])
    assert old_loss(kind, 2.0, [wanted], [present], [True]).tolist() == pytest.approx([expected])


def test_distillation_at_one_is_cross_entropy_on_soft_targets() -> None:
    wanted, present = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(present, wanted.softmax(1), reduction="none")
    torch.testing.assert_close(old_loss("distillation", 1.0, [wanted], [present], [False]), expected)
    torch.testing.assert_close(old_loss("cross-entropy", 3.0, [wanted], [present], [False]), expected)


def test_the_modified_probabilities_are_those_of_eq_3() -> None:
    wanted, present = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1))
    y, yhat = (p.softmax(1) ** 0.5 / (p.softmax(1) ** 0.5).sum(1, keepdim=True) for p in (wanted, present))
    expected = -(y * yhat.log()).sum(1)
    torch.testing.assert_close(old_loss("distillation", 2.0, [wanted], [present], [False]), expected)


@pytest.mark.parametrize("kind", RESPONSE_LOSSES)
def test_tasks_are_summed_whatever_their_shapes(kind: str) -> None:
    random = torch.Generator().manual_seed(2)
    shapes, several = [3, 2, 3, 2, 4], [False, False, False, True, True]
    wanted, present = ([torch.randn(6, n, generator=random) for n in shapes] for _ in range(2))
    alone = [old_loss(kind, 2.0, [w], [p], [s]) for w, p, s in zip(wanted, present, several, strict=True)]
    torch.testing.assert_close(old_loss(kind, 2.0, wanted, present, several), sum(alone[1:], alone[0]))


@pytest.mark.parametrize("kind", RESPONSE_LOSSES)
def test_what_is_kept_pulls_nowhere(kind: str) -> None:
    """Where the answers are as recorded, the gradient is zero."""
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), requires_grad=True)
    for several in (False, True):
        (gradient,) = torch.autograd.grad(old_loss(kind, 2.0, [logits.detach()], [logits], [several]).sum(), logits)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


def test_a_multi_label_task_sums_its_labels() -> None:
    logits = torch.tensor([[math.log(3), -math.log(4)], [0.0, 0.0]])  # probabilities 3/4, 1/5; 1/2, 1/2
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    each = [-math.log(3 / 4) - math.log(4 / 5), 2 * math.log(2)]
    assert task_loss(logits, labels, "none").tolist() == pytest.approx(each)
    assert float(task_loss(logits, labels, "sum")) == pytest.approx(sum(each))
    assert float(task_loss(logits, labels, "mean")) == pytest.approx(sum(each) / 2)
