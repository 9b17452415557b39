"""everlearn's worker: its own loop over the images and starts in a file that the driver made.

python ours.py JOB.npz JOB.json      PRECISION=bfloat16 in the environment sets that
"""

import json
import os
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from turns import Turns

from everlearn.methods.base import Method
from everlearn.methods.catalogue import make_method
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import CONV_NETS, conv_net
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.training.data import StreamData
from everlearn.training.events import Measured, Tick
from everlearn.training.fit import Plan, State, learn
from everlearn.training.settings import Training

SHAPE = (3, 32, 32)


def network_of(method: Method, tasks: int, seed: int) -> LifelongNetwork:
    """The network `cifar` with its hidden layer in the trunk, so that a head is one linear layer; no dropout."""
    return method.network(conv_net("cifar", replace(CONV_NETS["cifar"], shared=1, dropout=0.0), SHAPE), tasks, seed)


def method_of(job: dict) -> Method:
    """The job's method, without warm-up."""
    options = {"fine-tuning": {}, "ewc": {"lambda_ewc": job["lambda_ewc"]}, "lwf": {"temperature": 2.0}}
    return make_method(job["method"], "cifar", job["tasks"], {"warm_up": 0.0, **options[job["method"]]})


def stream_of(job: dict, arrays: dict[str, np.ndarray]) -> TaskStream:
    """The tasks; what they need for validation is two images, as evaluation is no part of this."""
    classes = tuple(str(label) for label in range(10))

    def task(number: int) -> Task:
        pairs = {
            name: Split(*(torch.from_numpy(arrays[f"{name}_{kind}_{number}"]) for kind in ("x", "y")))
            for name in ("train", "test")
        }
        few = Split(pairs["train"].images[:2], pairs["train"].labels[:2])
        return Task(f"task-{number}", classes, pairs["train"], few, pairs["test"])

    return TaskStream("exported", 0, tuple(task(number) for number in range(job["tasks"])))


def main() -> None:
    """Learn all tasks, an epoch a turn. Evaluations fall into each task's first and last epoch alone."""
    torch.set_num_threads(1)
    turns, job = Turns(), json.loads(Path(sys.argv[2]).read_text())
    training = Training(
        epochs=job["epochs"], batch=job["batch"], optimiser="sgd", rate=job["rate"], schedule="constant",
        evaluate_every=10**6, evaluate_others_every=10**6, precision=os.environ.get("PRECISION", "float32"),
    )  # fmt: skip
    method, stream = method_of(job), stream_of(job, dict(np.load(sys.argv[1])))
    state = State(network_of(method, job["tasks"], job["seed"]))
    data = StreamData(stream, torch.device("cpu"), last=training.memory_format == "channels_last")
    worked, accuracies = 0, [0.0] * job["tasks"]
    turns.wait()
    for event in learn(Plan(method, data, [10] * job["tasks"], training, job["seed"]), state):
        if isinstance(event, Measured) and event.split == "test":
            accuracies[event.task] = event.accuracy
        if isinstance(event, Tick) and state.worked > worked:
            worked = state.worked
            turns.over()
            if worked < job["tasks"] * job["epochs"]:
                turns.wait()
    turns.done(accuracies, state.steps, f"everlearn {version('everlearn')}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
