"""Some of a task's images, for what need not see all."""

import torch
from torch import Tensor

from everlearn.methods import den
from everlearn.methods.den import Den
from everlearn.methods.sampling import some_of
from everlearn.seeds import generator
from everlearn.testing.methods import made_stream
from everlearn.training.data import Resident
from tests.methods.family import at_stage, begun, learned, small


def class_by_class() -> Resident:
    """Thirty images of three classes, one class after the other."""
    labels = torch.arange(30) // 10
    return Resident(labels.float().view(-1, 1, 1, 1).repeat(1, 1, 2, 2), labels, False)


def drawn(most: int, size: int = 4) -> tuple[Tensor, Tensor, list[int]]:
    parts = list(some_of(class_by_class(), most, size, generator(0, "x")))
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return images, labels, [len(part) for _, part in parts]


def test_all_in_order_or_some_that_are_drawn() -> None:
    for most in (0, 30, 31):
        _, labels, sizes = drawn(most)
        assert torch.equal(labels, class_by_class().labels)
        assert sizes == [4] * 7 + [2]
    images, labels, sizes = drawn(10)
    assert sizes == [4, 4, 2]
    assert set(labels.tolist()) == {0, 1, 2}
    assert torch.equal(images[:, 0, 0, 0], labels.float()), "each with its label"
    assert torch.equal(drawn(10)[1], labels)


def test_den_looks_at_images_of_all_classes(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Of more images than fit, and for the one batch whose loss is compared with tau."""
    asked: list[int] = []

    def watched(images, most, size, random):  # type: ignore[no-untyped-def]
        asked.append(most)
        return some_of(images, most, size, random)

    monkeypatch.setattr(den, "some_of", watched)
    monkeypatch.setattr(den, "FEATURES", 8 * 4 * 6)  # of six images: features are the eight units of the last block
    plan, state = begun(Den(loss_of="batch"), stream=made_stream(), backbone=small(dropout=0.0))
    learned(plan, state, until=at_stage(1, den.DRIFT))
    assert asked[:2] == [6, den.BATCH]
