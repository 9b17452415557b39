"""The share of evaluation in a run, by how often and what is evaluated: ten tasks of CIFAR-100, a few epochs each.

    all        every task learned so far after every epoch, as the authors' code does (its untrained tasks left out)
    changed    the same, but for tasks whose function cannot have changed: they are not asked again
    schedule   what `everlearn run cifar100` does in 2,000 epochs, shortened: the task in training every 10th epoch, the
               others every 100th

Seconds are of the processor, one thread. The first two shares do not depend on the number of epochs, so that few are
enough; the third is of one long enough to hold the schedule's round of 100 epochs, of two tasks alone.

    python benchmarks/evaluation.py --data DIR [--methods stl,hps] [--epochs 2]
"""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from time import process_time

import torch

from everlearn.errors import EverlearnError
from everlearn.experiments.presets import preset_of
from everlearn.methods.catalogue import make_method
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.tasks import make_stream
from everlearn.tasks.task import TaskStream
from everlearn.training import fit
from everlearn.training.data import StreamData
from everlearn.training.fit import Plan, State, learn


def share(name: str, stream: TaskStream, epochs: int, own: int, others: int) -> tuple[float, float]:
    """Seconds of training and of evaluation."""
    plan, state = begun(name, stream, epochs, own, others)
    for _ in learn(plan, state):
        pass
    return state.training_seconds, state.evaluation_seconds


def begun(
    name: str,
    stream: TaskStream,
    epochs: int,
    own: int,
    others: int,
    options: Mapping[str, float] | None = None,
    precision: str = "float32",
) -> tuple[Plan, State]:
    """A method before its first step, to be evaluated so often."""
    training = replace(preset_of("cifar100").training, epochs=epochs, evaluate_every=own, evaluate_others_every=others)
    training = replace(training, precision=precision)
    classes = [len(task.classes) for task in stream.tasks]
    method = make_method(name, "cifar", len(classes), options or {})
    network = method.network(make_backbone("cifar", stream.image_shape), len(classes), 0)
    data = StreamData(stream, torch.device("cpu"), last=True)
    return Plan(method, data, classes, training, 0), State(network)


def every_task(network: LifelongNetwork, moved: Iterable[str], tasks: Iterable[int]) -> set[int]:
    """Instead of `changed`: all of them."""
    return set(tasks)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", default="stl,hps")
    parser.add_argument("--epochs", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    fit.perf_counter = process_time
    try:
        stream = make_stream("cifar100", 0, asked.data, {})
        for name in asked.methods.split(","):
            begun(name, stream, 1, 1, 1)
    except EverlearnError as error:
        parser.error(str(error))
    two = replace(stream, tasks=stream.tasks[:2])
    skipping: Callable[..., set[int]] = fit.changed
    print("| method | all | changed | schedule |")
    print("| --- | --- | --- | --- |")
    for name in asked.methods.split(","):
        fit.changed = every_task
        found = [share(name, stream, asked.epochs, 1, 1)]
        fit.changed = skipping
        found += [share(name, stream, asked.epochs, 1, 1), share(name, two, 100, 10, 100)]
        print(f"| `{name}` | " + " | ".join(f"{spent / (spent + trained):.2f}" for trained, spent in found) + " |")


if __name__ == "__main__":
    main()
