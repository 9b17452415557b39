"""When a task is evaluated changes neither what is trained nor what is measured of another."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from everlearn.methods.base import Method
from everlearn.methods.fine_tuning import FineTuning
from everlearn.methods.lasem import Lasem
from everlearn.methods.lwf import Lwf
from everlearn.networks.backbone import Backbone
from everlearn.sharing.factors import Factors
from everlearn.sharing.hard import Hard
from tests.methods.family import QUICK, begun, learned, numbers, same, small


@pytest.mark.parametrize("method", [FineTuning(warm_up=0.0), Lwf(warm_up=0.0)])
def test_old_tasks_are_measured_with_the_newest_statistics(method: Method) -> None:
    found: list[list[float]] = []
    for every in (1, 4):
        training = replace(QUICK, evaluate_every=every, evaluate_others_every=1)
        events = learned(*begun(method, backbone=small(norm=True), training=training))
        found.append([event.loss for event in events if (event.training, event.task, event.split) == (1, 0, "test")])
    assert len(found[0]) > 3
    assert found[0] == found[1]


def normalised() -> Backbone:
    """Three blocks with batch normalisation: what the later ones see depends on what the earlier ones transfer."""
    sizes = ((1, 4), (4, 4), (4, 4))
    blocks = [nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()) for i, o in sizes]
    return Backbone.of(blocks, 4 * 64)


@pytest.mark.parametrize("method", [Lasem(Hard()), Lasem(Factors(), prior="mean", likelihood="mean")])
def test_lasems_statistics_do_not_wait_for_an_evaluation(method: Method) -> None:
    found: list[dict[str, torch.Tensor]] = []
    for every in (1, 4):
        training = replace(QUICK, evaluate_every=every, evaluate_others_every=every)
        plan, state = begun(method, backbone=normalised(), training=training)
        learned(plan, state)
        found.append(numbers(state))
    assert same(*found)
