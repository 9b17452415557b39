"""Avalanche's worker: the same work by its own loop; runs in the environment that the driver made for it.

python theirs.py JOB.npz JOB.json
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset
from turns import Turns

# torchvision was built for another torch, so its compiled operators are not there; nothing here calls them.
_OPERATORS = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
warnings.simplefilter("ignore")

from avalanche.benchmarks import nc_benchmark  # noqa: E402
from avalanche.core import SupervisedPlugin  # noqa: E402
from avalanche.models import MultiHeadClassifier, MultiTaskModule  # noqa: E402
from avalanche.training.supervised import EWC, LwF, Naive  # noqa: E402

import avalanche  # noqa: E402


class Net(MultiTaskModule):
    """everlearn's network `cifar` with a shared hidden layer; a linear head a task."""

    def __init__(self, start: dict[str, np.ndarray]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for channels, pool in ((32, 1), (32, 2), (64, 1), (64, 2)):
            layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(pool)] if pool > 1 else []
            inputs = channels
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 8 * 8, 64), nn.ReLU(inplace=True))
        self.heads = MultiHeadClassifier(64, initial_out_features=10)
        moving = [module for module in self.trunk if isinstance(module, nn.Conv2d | nn.Linear)]
        for place, module in enumerate(moving):
            filled(module, start, f"block_{place}")

    def forward(self, x: torch.Tensor, task_labels: torch.Tensor | None) -> torch.Tensor:
        return self.heads(self.trunk(x), task_labels)


def filled(module: nn.Module, start: dict[str, np.ndarray], name: str) -> None:
    """Give a layer the numbers that everlearn's starts from."""
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(start[f"{name}_weight"]))
        module.bias.copy_(torch.from_numpy(start[f"{name}_bias"]))


class Hooks(SupervisedPlugin):
    """Waits for the driver before each epoch, starts the heads as everlearn's start, and counts the steps."""

    def __init__(self, turns: Turns, start: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.turns, self.start, self.steps = turns, start, 0

    def before_training_exp(self, strategy, **kwargs) -> None:
        task = strategy.experience.current_experience
        filled(strategy.model.heads.classifiers[str(task)].classifier, self.start, f"head_{task}")

    def before_training_epoch(self, strategy, **kwargs) -> None:
        self.turns.wait()

    def after_training_iteration(self, strategy, **kwargs) -> None:
        self.steps += 1

    def after_training_epoch(self, strategy, **kwargs) -> None:
        self.turns.over()


def scenario(tasks: int, arrays: dict[str, np.ndarray]):
    """Tasks of ten classes each, with task labels; a task's labels count from zero."""

    def every(split: str):
        images = torch.cat([torch.from_numpy(arrays[f"{split}_x_{t}"]) for t in range(tasks)])
        labels = torch.cat([torch.from_numpy(arrays[f"{split}_y_{t}"]) + 10 * t for t in range(tasks)])
        data = TensorDataset(images, labels)
        data.targets = labels.tolist()
        return data

    return nc_benchmark(
        every("train"), every("test"), tasks, task_labels=True, shuffle=False,
        fixed_class_order=list(range(10 * tasks)), class_ids_from_zero_in_each_exp=True,
    )  # fmt: skip


def strategy_of(job: dict, model: Net, hooks: Hooks):
    """Its own strategies, without metrics and loggers, which would cost it time."""
    common = {
        "model": model,
        "criterion": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), job["rate"]),
        "train_mb_size": job["batch"],
        "train_epochs": job["epochs"],
        "evaluator": None,
        "plugins": [hooks],
    }
    if job["method"] == "ewc":
        return EWC(ewc_lambda=job["lambda_theirs"], mode="separate", **common)
    return LwF(alpha=1.0, temperature=2.0, **common) if job["method"] == "lwf" else Naive(**common)


@torch.no_grad()
def accuracy(model: Net, task: int, arrays: dict[str, np.ndarray]) -> float:
    images, labels = (torch.from_numpy(arrays[f"test_{kind}_{task}"]) for kind in ("x", "y"))
    guesses = [model(part, torch.full((len(part),), task)).argmax(1) for part in images.split(250)]
    return float((torch.cat(guesses) == labels).float().mean())


def main() -> None:
    torch.set_num_threads(1)
    turns, job, arrays = Turns(), json.loads(Path(sys.argv[2]).read_text()), dict(np.load(sys.argv[1]))
    torch.manual_seed(job["seed"])
    model, benchmark = Net(arrays), scenario(job["tasks"], arrays)
    hooks = Hooks(turns, arrays)
    strategy = strategy_of(job, model, hooks)
    for experience in benchmark.train_stream:
        strategy.train(experience, drop_last=True)
    model.eval()
    accuracies = [accuracy(model, task, arrays) for task in range(job["tasks"])]
    turns.done(accuracies, hooks.steps, f"Avalanche {avalanche.__version__}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
