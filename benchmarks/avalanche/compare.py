"""The same work through Avalanche and through everlearn, an epoch of each in turns, on one CPU thread each.

Multi-head CIFAR-100 (the stream `cifar100`, its first three tasks) on the network `cifar` with a shared hidden layer
and no dropout, in float32, plain SGD, from the same numbers. Batch 10 on 170 images a task, 17 steps an epoch; batch
128 on 1,360, 10 steps (what is left of an epoch is dropped on both sides). Avalanche lives in an environment of its
own, which the first run makes (two minutes). Each of the two also runs once more with a heap that the C library does
not trim (`untrimmed`), and everlearn with layers in bfloat16 where the processor has it. Not timed: evaluation, the
first and last epoch of a task, and what is done once a task (Fisher information, recording responses). A ratio is of
two epochs of one turn, in which the sides go in the other order each time; printed are the median and the quartiles,
of processor and of wall-clock seconds.

    python benchmarks/avalanche/compare.py --data ../shared/data
    python benchmarks/avalanche/compare.py --data ../shared/data --methods ewc --batches 10 --seeds 1 --epochs 8
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ours import method_of, network_of

from everlearn.tasks import make_stream
from everlearn.training.precision import has_bfloat16

HERE = Path(__file__).parent
PACKAGES = (("torch==2.13.0", "numpy"), ("--no-deps", "torchvision==0.28.0"), ("avalanche-lib==0.6.0",))
UNTRIMMED = {f"MALLOC_{name}_": str(2**30) for name in ("TRIM_THRESHOLD", "MMAP_THRESHOLD")}
OURS, THEIRS = "ours.py", "theirs.py"
SIDES: dict[str, tuple[str, dict[str, str]]] = {
    "everlearn": (OURS, {}),
    "everlearn untrimmed": (OURS, UNTRIMMED),
    "everlearn bfloat16": (OURS, {"PRECISION": "bfloat16"}),
    "Avalanche": (THEIRS, {}),
    "Avalanche untrimmed": (THEIRS, UNTRIMMED),
}
"""What runs, by its name: a worker's script, and what its environment has beside the driver's."""
PAIRS = (
    ("everlearn", "Avalanche"),
    ("everlearn bfloat16", "Avalanche"),
    ("everlearn bfloat16", "everlearn"),
    ("everlearn untrimmed", "Avalanche"),
    ("everlearn untrimmed", "Avalanche untrimmed"),
    ("everlearn untrimmed", "everlearn"),
    ("Avalanche untrimmed", "Avalanche"),
)
TASKS = 3
BATCHES = {
    10: {"fraction": 0.04, "rate": 0.01, "epochs": 20, "lambda_ewc": 10.0, "lambda_theirs": 15.0},
    128: {"fraction": 0.32, "rate": 0.05, "epochs": 8, "lambda_ewc": 10.0, "lambda_theirs": 22.0},
}
"""By batch: 4 % of CIFAR-100's training images is the stream's own, 170 a task, of which 128 leaves one step.

Avalanche's Fisher information is of a batch's mean gradient and its term has no half: its lambda makes the sum of the
springs' stiffness about that of everlearn's after the first task.
"""

Turn = dict[str, float]


def environment(folder: Path) -> Path:
    """The Python that has Avalanche; installed if it is not there."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True)
        for packages in PACKAGES:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").touch()
    return python


@dataclass
class Worker:
    """A process that does an epoch for each line that it reads."""

    python: Path
    script: str
    folder: Path
    extra: dict[str, str] = field(default_factory=dict)
    answers: list[Turn] = field(default_factory=list)
    end: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [self.python, HERE / self.script, self.folder / "job.npz", self.folder / "job.json"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads, **self.extra},
        )  # fmt: skip

    def turn(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.answers.append(self.answer())

    def answer(self) -> dict:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


def prepare(folder: Path, job: dict, data: Path) -> None:
    """Write images and starts, which both sides read."""
    stream = make_stream("cifar100", job["seed"], data, {"fraction": job["fraction"]})
    arrays = {}
    for number, task in enumerate(stream.tasks[: job["tasks"]]):
        for name, split in (("train", task.train), ("test", task.test)):
            assert split is not None
            assert isinstance(split.images, torch.Tensor)
            arrays |= {f"{name}_x_{number}": split.images.numpy(), f"{name}_y_{number}": split.labels.numpy()}
    method = method_of(job)
    network = network_of(method, job["tasks"], job["seed"])
    for number in range(job["tasks"]):
        method.begin(network, {}, 10)
        output = network.head(number).get_submodule("output")
        arrays |= {f"head_{number}_{kind}": tensor.detach().numpy() for kind, tensor in output.named_parameters()}
    for block in range(network.blocks):
        for name, tensor in network.weights(block, 0).items():
            arrays[f"block_{block}_{name.rpartition('.')[2]}"] = tensor.detach().numpy()
    np.savez(folder / "job.npz", **arrays)
    (folder / "job.json").write_text(json.dumps(job))


def run(folder: Path, job: dict, theirs: Path, sides: Sequence[str]) -> dict[str, Worker]:
    """All sides through all tasks, in the order A B C D, D C B A, A B C D and so on."""
    pythons = {OURS: Path(sys.executable), THEIRS: theirs}
    workers = {side: Worker(pythons[SIDES[side][0]], SIDES[side][0], folder, SIDES[side][1]) for side in sides}
    order = list(workers.values())
    for epoch in range(TASKS * job["epochs"]):
        for worker in order if epoch % 2 == 0 else reversed(order):
            worker.turn()
    for worker in order:
        worker.end = worker.answer()
        worker.process.wait()
        assert worker.end["steps"] == order[0].end["steps"], "the sides took different numbers of steps"
    return workers


def timed(runs: list[dict[str, Worker]], side: str, tasks: range, clock: str) -> list[float]:
    """The seconds of one side's epochs, but for the first and last of each task."""
    seconds = []
    for workers in runs:
        answers = workers[side].answers
        epochs = len(answers) // TASKS
        for task in tasks:
            seconds += [turn[clock] for turn in answers[task * epochs + 1 : (task + 1) * epochs - 1]]
    return seconds


def report(name: str, runs: list[dict[str, Worker]]) -> None:
    """Print seconds an epoch, ratios and accuracies of the seeds so far together."""
    first_side = next(iter(runs[0].values()))
    epochs, steps = len(first_side.answers) // TASKS, first_side.end["steps"]
    print(f"\n{name}: {len(runs)} seeds, {epochs} epochs a task, {steps} steps")
    for label, tasks in (("task 1", range(1)), (f"tasks 2-{TASKS}", range(1, TASKS))):
        for clock in ("cpu", "wall"):
            each = {side: timed(runs, side, tasks, clock) for side in runs[0]}
            said = ", ".join(f"{side} {median(seconds):.3f}" for side, seconds in each.items())
            print(f"  {label}, {clock} seconds an epoch: {said}")
            for first, second in ((a, b) for a, b in PAIRS if a in each and b in each):
                low, middle, high = quantiles([a / b for a, b in zip(each[first], each[second], strict=True)], n=4)
                between = f"{first} over {second}"
                print(f"    {between:46} {middle:.3f} ({low:.3f} to {high:.3f}; {len(each[first])} pairs)")
    for side in runs[0]:
        ends = [workers[side].end["accuracies"] for workers in runs]
        means = " ".join(f"{100 * sum(end) / TASKS:.1f}" for end in ends)
        by_task = " ".join(f"{100 * sum(task) / len(ends):.1f}" for task in zip(*ends, strict=True))
        print(f"  accuracy of {side:20} by seed {means}; by task {by_task}; {runs[0][side].end['versions']}")
    sys.stdout.flush()


def main() -> None:
    """Compare as the flags say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds cifar100/")
    parser.add_argument("--environment", type=Path, default=Path("/tmp/everlearn-avalanche/env"))
    parser.add_argument("--methods", nargs="+", default=["fine-tuning", "ewc", "lwf"])
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES), choices=list(BATCHES))
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), help="[all that the processor has]")
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--from-seed", type=int, default=0, help="the first of them")
    parser.add_argument("--epochs", type=int, help="a task; by default 20 of batch 10 and 8 of batch 128")
    asked = parser.parse_args()
    if asked.epochs is not None and asked.epochs < 4:
        parser.error("--epochs needs at least 4, as the first and the last of a task are not timed")
    lower = has_bfloat16(torch.device("cpu"))
    sides = asked.sides or [side for side in SIDES if lower or side != "everlearn bfloat16"]
    theirs = environment(asked.environment)
    for batch in asked.batches:
        for method in asked.methods:
            runs = []
            for seed in range(asked.from_seed, asked.from_seed + asked.seeds):
                job = {"method": method, "batch": batch, "seed": seed, "tasks": TASKS, **BATCHES[batch]}
                job["epochs"] = asked.epochs or job["epochs"]
                with TemporaryDirectory() as folder:
                    prepare(Path(folder), job, asked.data)
                    runs.append(run(Path(folder), job, theirs, sides))
                report(f"{method}, batch {batch}", runs)


if __name__ == "__main__":
    main()
