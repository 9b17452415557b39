"""Epochs to be timed: everlearn's own loop, and the one that a person would write by hand.

CIFAR network, 32 x 32 images that were made, 170 of them (a task of CIFAR-100 as Lee et al. 2019 divide it),
TensorFlow 1's RMSProp on both sides.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F

from everlearn.methods.base import Memory
from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.training import fit
from everlearn.training.data import StreamData, lies_last
from everlearn.training.graphs import recording
from everlearn.training.optimisers import TF1RMSProp
from everlearn.training.settings import Training
from everlearn.training.steps import finish

IMAGES, BATCH = 170, 10
Epoch = Callable[[], None]
"""One epoch of something; it is called again and again."""


def made_stream(test: int = 10) -> TaskStream:
    """One task of ten classes, with so many test images."""
    random = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        return Split(torch.randn(count, 3, 32, 32, generator=random), torch.arange(count) % 10)

    return TaskStream("made", 0, (Task("task", tuple("0123456789"), split(IMAGES), split(10), split(test)),))


def plain_loop(batch: int = BATCH) -> Epoch:
    """What a person would write without a library: one module, one loop."""
    network = make_method("stl", "cifar", 1, {}).network(make_backbone("cifar", (3, 32, 32)), 1, 0)
    network.add_task(10, (True,) * 4)
    plain = network.export(0).train()
    optimiser = TF1RMSProp(list(plain.parameters()), 1e-4)
    split = made_stream().tasks[0].train
    assert split is not None
    assert isinstance(split.images, torch.Tensor)
    images = split.images.to(memory_format=torch.channels_last)

    def epoch() -> None:
        order = torch.randperm(IMAGES)
        for start in range(0, IMAGES - batch + 1, batch):
            index = order[start : start + batch]
            loss = F.cross_entropy(plain(images[index]), split.labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return epoch


def everlearns(
    name: str,
    tasks: int = 1,
    training: Training | None = None,
    device: str = "cpu",
    sure: bool = False,
    epochs: int = 1,
    backbone: str = "cifar",
) -> Epoch:
    """One epoch of everlearn's own loop, when so many tasks are known; the last of them is trained.

    Args:
        name: of the method.
        tasks: that are known.
        training: settings.
        device: where.
        sure: let the network answer every image rightly, and so surely that gradients are below 1.2e-38, as they are
            after some hundred epochs of a real task.
        epochs: more than one. A GPU is waited for after the last, as in a run, which waits when it evaluates.
        backbone: of the network.
    """
    settings = replace(training or Training(batch=BATCH), epochs=10**6)
    method = make_method(name, backbone, tasks, {})
    network = method.network(make_backbone(backbone, (3, 32, 32)), tasks, 0).to(device)
    memory: Memory = {}
    for _ in range(tasks):
        method.begin(network, memory, 10)
    network.train().requires_grad_(False)
    state = fit.State(network, memory, stage=0)
    data = StreamData(made_stream(), network.device, last=lies_last(settings, network.device))
    data.tasks = data.tasks * tasks
    if sure:
        data[0]["train"].labels.zero_()
        next(p for n, p in network.used(tasks - 1).items() if n.endswith("head.output.bias"))[0] = 95.0
    plan = fit.Plan(method, data, [10] * tasks, settings, 0)
    objective, _ = fit._objective(plan, state, tasks - 1)
    optimisers = fit._optimisers(plan, state, tasks - 1, objective)
    recorded = recording(objective, optimisers, settings, network.device, [])

    def epoch() -> None:
        for _ in range(epochs):
            for _ in fit._epoch(plan, state, tasks - 1, objective, optimisers, 1e-9, recorded):
                pass
        finish(network.device)

    return epoch
