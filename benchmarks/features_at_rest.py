"""What evaluations cost where what is still of the images that they ask is kept.

A method learns the first tasks of CIFAR-100 on the 4-convolution net, the last of them evaluated after every epoch; in
turns with what is still kept for evaluations (`everlearn.training.keeping.Known`) and computed anew in each. Feature
extraction's second task has a head on features at rest; ProgNN's column reads the columns before it. Seconds are of the
processor, one thread. What is learned and found is the same to the last bit, which is checked.

    python benchmarks/features_at_rest.py --data DIR [--method feature-extraction] [--tasks 2] [--epochs 50]
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import process_time

import torch

from evaluation import begun
from everlearn.errors import EverlearnError
from everlearn.tasks import make_stream
from everlearn.tasks.task import TaskStream
from everlearn.training import fit
from everlearn.training.events import Measured
from everlearn.training.fit import learn
from everlearn.training.keeping import Known


def last_task(method: str, stream: TaskStream, epochs: int) -> tuple[float, float, list[Measured]]:
    """Seconds of training and of evaluation in the last task, and what was found there."""
    plan, state = begun(method, stream, epochs, 1, epochs)
    found: list[Measured] = []
    before = (0.0, 0.0)
    for event in learn(plan, state):
        if state.phase < len(stream.tasks) - 1:
            before = (state.training_seconds, state.evaluation_seconds)
        elif isinstance(event, Measured):
            found.append(event)
    return state.training_seconds - before[0], state.evaluation_seconds - before[1], found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--method", default="feature-extraction")
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    fit.perf_counter = process_time
    try:
        whole = make_stream("cifar100", 0, asked.data, {})
        stream = replace(whole, tasks=whole.tasks[: asked.tasks])
        begun(asked.method, stream, 1, 1, 1)
    except EverlearnError as error:
        parser.error(str(error))
    as_it_is = Known.of
    ratios, wholes = list[float](), list[float]()
    for _ in range(asked.rounds):
        Known.of = as_it_is
        steps, evaluations, found = last_task(asked.method, stream, asked.epochs)
        Known.of = lambda self, split, data: None  # type: ignore[method-assign]
        plain_steps, plain, expected = last_task(asked.method, stream, asked.epochs)
        assert found == expected
        ratios.append(evaluations / plain)
        wholes.append((steps + evaluations) / (plain_steps + plain))
        print(
            f"seconds an epoch: steps {steps / asked.epochs:.3f}, evaluations {evaluations / asked.epochs:.3f}; "
            f"computed anew {plain / asked.epochs:.3f}",
            flush=True,
        )
    print(f"kept over computed anew: evaluations {median(ratios):.2f}, the whole task {median(wholes):.2f}")


if __name__ == "__main__":
    main()
