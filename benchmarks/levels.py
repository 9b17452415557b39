"""What the level of single-task learning on CIFAR-100 depends on: one thing changed at a time.

The first tasks of the stream `cifar100` (seed 0), each learned alone by the published protocol for fewer epochs; the
best test accuracy of each, among evaluations every five epochs, and what it was at the best validation epoch.

    base         as `everlearn run cifar100 --methods stl`
    scrambled    rows, columns and colours of every image misread, as where CHW numbers are taken for HWC
    none, train  images not standardised, or by the training split instead of each split's own statistics
    nodrop       without dropout
    mean         the mean of a batch's losses instead of their sum
    superclass   the authors' classes instead of random ones

    python benchmarks/levels.py --data DIR [--epochs 120] [--tasks 3] [--only base,nodrop]
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from everlearn.errors import EverlearnError
from everlearn.experiments.presets import preset_of
from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import CONV_NETS, conv_net
from everlearn.tasks import make_stream
from everlearn.tasks.task import Split, Task
from everlearn.training.data import StreamData
from everlearn.training.events import Measured
from everlearn.training.fit import Plan, State, learn

OPTIONS = {"none": {"standardise": "none"}, "train": {"standardise": "train"}, "superclass": {"classes": "superclass"}}
CHANGES = ("base", "scrambled", "none", "train", "nodrop", "mean", "superclass")


def misread(split: Split | None) -> Split | None:
    """The numbers of each image, channel by channel, taken for those of its pixels."""
    if split is None:
        return None
    assert isinstance(split.images, torch.Tensor)
    channels, height, width = split.images.shape[1:]
    images = split.images.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
    return replace(split, images=images.contiguous())


def tasks_of(change: str, data: Path, count: int) -> tuple[Task, ...]:
    """The first tasks of the stream, changed."""
    tasks = make_stream("cifar100", 0, data, OPTIONS.get(change, {})).tasks[:count]
    if change != "scrambled":
        return tasks
    return tuple(
        replace(t, train=misread(t.train), validation=misread(t.validation), test=misread(t.test)) for t in tasks
    )


def peaks(change: str, data: Path, count: int, epochs: int) -> list[tuple[float, float]]:
    """Of each task its best test accuracy, and that at its best validation epoch (the earliest of several)."""
    stream = replace(make_stream("cifar100", 0, data, {}), tasks=tasks_of(change, data, count))
    net = CONV_NETS["cifar"]
    backbone = conv_net("cifar", replace(net, dropout=0.0) if change == "nodrop" else net, stream.image_shape)
    training = replace(preset_of("cifar100").training, epochs=epochs, evaluate_every=5, evaluate_others_every=10**6)
    training = replace(training, reduction="mean") if change == "mean" else training
    method = make_method("stl", "cifar", count, {})
    state = State(method.network(backbone, count, 0))
    classes = [len(task.classes) for task in stream.tasks]
    seen: dict[tuple[int, str], list[float]] = {}
    for event in learn(Plan(method, StreamData(stream, state.network.device, last=True), classes, training, 0), state):
        if isinstance(event, Measured) and event.task == event.training:
            seen.setdefault((event.task, event.split), []).append(event.accuracy)
    found: list[tuple[float, float]] = []
    for task in range(count):
        test, validation = seen[task, "test"], seen[task, "validation"]
        found.append((max(test), test[validation.index(max(validation))]))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--only", default=",".join(CHANGES))
    asked = parser.parse_args()
    changes = asked.only.split(",")
    if unknown := [change for change in changes if change not in CHANGES]:
        parser.error(f"--only takes {', '.join(CHANGES)}, but had {', '.join(map(repr, unknown))}.")
    try:
        tasks_of("base", asked.data, 1)
    except EverlearnError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    print("| change | peak | at best validation | peaks by task |")
    print("| --- | --- | --- | --- |")
    for change in changes:
        found = peaks(change, asked.data, asked.tasks, asked.epochs)
        peak, validated = (100 * sum(column) / len(found) for column in zip(*found, strict=True))
        each = ", ".join(f"{100 * one:.1f}" for one, _ in found)
        print(f"| {change} | {peak:.1f} | {validated:.1f} | {each} |", flush=True)


if __name__ == "__main__":
    main()
