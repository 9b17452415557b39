"""What DEN loses when it closes a task, by the size below which a weight counts as zero then (its option `zero`).

The first tasks of CIFAR-100 on the 4-convolution net, layers in bfloat16. Of each task the test accuracy at its last
evaluation before it is closed and once it is, and of all tasks so far then, in per cent.

    python benchmarks/den_zero.py --data DIR [--zeros 0.01,0.001] [--tasks 3] [--epochs 200]     five minutes each
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from evaluation import begun
from everlearn.tasks import make_stream
from everlearn.tasks.task import TaskStream
from everlearn.training.events import Measured
from everlearn.training.fit import learn


def closings(stream: TaskStream, zero: float, epochs: int) -> list[dict[int, list[float]]]:
    """For each task in turn, what all tasks so far were known to in its evaluations, in order."""
    plan, state = begun("den", stream, epochs, 10, 100, {"zero": zero}, "bfloat16")
    found: list[dict[int, list[float]]] = [{} for _ in stream.tasks]
    for event in learn(plan, state):
        if isinstance(event, Measured) and event.split == "test" and event.training is not None:
            found[event.training].setdefault(event.task, []).append(100 * event.accuracy)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--zeros", default="0.01,0.001")
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=200)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    whole = make_stream("cifar100", 0, asked.data, {})
    stream = replace(whole, tasks=whole.tasks[: asked.tasks])
    for zero in map(float, asked.zeros.split(",")):
        for task, found in enumerate(closings(stream, zero, asked.epochs)):
            before, closed = found[task][-2:]
            all_now = ", ".join(f"{found[one][-1]:.1f}" for one in sorted(found))
            print(f"zero {zero:g}, task {task + 1}: {before:.1f}, closed {closed:.1f}; all: {all_now}", flush=True)


if __name__ == "__main__":
    main()
