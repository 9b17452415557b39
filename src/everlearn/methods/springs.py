"""Springs, by which L2 and EWC hold shared weights where they were.

    R = lambda / 2 sum_i A_i (theta_i - B_i)^2             dR / d theta_i = lambda A_i (theta_i - B_i)

Symbols: theta the weights that are held, B where (the anchors), A how firmly (1, or the Fisher information), lambda the
strength.

R looks at no image, so its gradient is added to what the loss of the images has given, as optimisers add weight decay;
finding the same by autograd takes longer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Springs:
    """Springs on some weights.

    Attributes:
        held: theta.
        anchors: B, of the same shapes.
        strength: lambda.
        stiffness: A, of the same shapes; None: 1 everywhere.
    """

    held: Sequence[nn.Parameter]
    anchors: Sequence[Tensor]
    strength: float
    stiffness: Sequence[Tensor] | None = None

    def pull(self) -> None:
        """Add dR / d theta to the gradients of those that have one; others are not about to move."""
        for parameter, anchor, firmness in self._rows():
            if parameter.grad is None:
                continue
            away = parameter - anchor
            if firmness is None:
                parameter.grad.add_(away, alpha=self.strength)
            else:
                parameter.grad.addcmul_(firmness, away, value=self.strength)

    def energy(self) -> Tensor:
        """R, a scalar; no gradient comes through it."""
        with torch.no_grad():
            parts = [(1 if a is None else a) * (theta - b).square() for theta, b, a in self._rows()]
            return self.strength / 2 * torch.stack([part.sum() for part in parts]).sum()

    def _rows(self) -> Iterator[tuple[nn.Parameter, Tensor, Tensor | None]]:
        return zip(self.held, self.anchors, self.stiffness or [None] * len(self.held), strict=True)
