"""A whole trial of STL on CIFAR-100 over its bare steps and its scheduled evaluation, on one thread.

Ten tasks through everlearn's own loop. After each of its epochs one is taken by a loop written by hand, and after each
of its evaluations the same images are evaluated bare, so that both sides have the same machine; processor seconds of
the one over those of the other. What is done once a task weighs less in the published 2,000 epochs than in fewer.

    python benchmarks/whole_trial.py --data DIR [--epochs 60] [--tasks 10]
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time

import torch

from everlearn.benching.steps import BATCH, plain_loop
from everlearn.errors import EverlearnError
from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.tasks import make_stream
from everlearn.training.data import StreamData
from everlearn.training.evaluation import evaluate
from everlearn.training.events import Measured
from everlearn.training.fit import Plan, State, learn
from everlearn.training.precision import denormals_as_zero
from everlearn.training.settings import Training


def seconds(work: Callable[[], object]) -> float:
    """Of the processor."""
    begun = process_time()
    work()
    return process_time() - begun


def measure(data: Path, epochs: int, tasks: int) -> tuple[float, float]:
    """Seconds of the trial and of its parts."""
    stream = make_stream("cifar100", 0, data, {})
    method, device = make_method("stl", "cifar", tasks, {}), torch.device("cpu")
    images = StreamData(stream, device, last=True)
    state = State(method.network(make_backbone("cifar", (3, 32, 32)), tasks, 0))
    plain = method.network(make_backbone("cifar", (3, 32, 32)), 1, 0)
    method.begin(plain, {}, 10)
    bare, whole, parts, worked = plain_loop(), 0.0, 0.0, 0
    bare()
    events = learn(Plan(method, images, [10] * tasks, Training(epochs=epochs, batch=BATCH), 0), state)
    while True:
        begun = process_time()
        event = next(events, None)
        whole += process_time() - begun
        if event is None:
            return whole, parts
        if isinstance(event, Measured):
            parts += seconds(partial(evaluate, plain, 0, images[event.task][event.split]))
        while worked < state.worked:
            with denormals_as_zero():
                parts += seconds(bare)
            worked += 1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds cifar100/")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--tasks", type=int, default=10)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    try:
        whole, parts = measure(asked.data, asked.epochs, asked.tasks)
    except EverlearnError as error:
        sys.exit(str(error))
    print(f"{asked.tasks} tasks of {asked.epochs} epochs: {whole:.1f} s over {parts:.1f} s: {whole / parts:.3f}")


if __name__ == "__main__":
    main()
