"""What the tests of fine-tuning and its relatives have in common: a small trunk with fully connected blocks."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from everlearn.methods.base import Batch, Method
from everlearn.networks.backbone import Backbone
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.testing.methods import made_split, made_stream
from everlearn.training.data import StreamData, training_batches
from everlearn.training.fit import Measured, Plan, State, learn
from everlearn.training.settings import Training

QUICK = Training(
    epochs=4, batch=5, optimiser="sgd", momentum=0.9, rate=0.05, schedule="constant", evaluate_every=4,
    evaluate_others_every=4,
)  # fmt: skip


def small(norm: bool = False, dropout: float = 0.5) -> Backbone:
    """A convolution and two fully connected layers in the trunk; heads of one layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        middle: list[nn.Module] = [nn.BatchNorm2d(4)] if norm else []
        blocks = (
            nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *middle, nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 12), nn.ReLU()),
            nn.Sequential(nn.Dropout(dropout), nn.Linear(12, 8), nn.ReLU()),
        )
    return Backbone(
        "small", blocks, lambda classes: nn.Sequential(nn.Dropout(dropout), nn.Linear(8, classes)), start="module"
    )


def several_labels(count: int, seed: int) -> Split:
    """Images of two of three bands, each bright or not."""
    split = made_split(count, 4, seed)
    return Split(
        split.images, torch.stack([(split.labels % 2).float(), (split.labels // 2).float(), torch.ones(count)], 1)
    )


def multi_label_stream() -> TaskStream:
    """A task of one class an image, then one of several, then one of one again."""
    first, _, third = made_stream().tasks
    task = Task("several", ("a", "b", "c"), *(several_labels(count, count) for count in (20, 8, 12)))
    return TaskStream("made", 0, (first, task, third))


def begun(
    method: Method, stream: TaskStream | None = None, backbone: Backbone | None = None, training: Training = QUICK,
    seed: int = 0,
) -> tuple[Plan, State]:  # fmt: skip
    """A plan over a stream, and the state before its first step."""
    stream, backbone = stream or made_stream(), backbone or small()
    network = method.network(backbone, len(stream), seed)
    data = StreamData(stream, torch.device("cpu"), False)
    classes = [len(task.classes) for task in stream.tasks]
    return Plan(method, data, classes, training, seed, len(backbone.trained)), State(network)


def learned(plan: Plan, state: State, until: Callable[[State], bool] = lambda state: False) -> list[Measured]:
    """Learn to the end, or until something holds at a tick."""
    found: list[Measured] = []
    for event in learn(plan, state):
        if isinstance(event, Measured):
            found.append(event)
        elif until(state):
            break
    return found


def at_stage(task: int, stage: int, epoch: int = 0) -> Callable[[State], bool]:
    """Whether a stage of a task has begun, and so many of its epochs are over."""
    return lambda state: (state.phase, state.stage) == (task, stage) and state.epoch >= epoch


def batch_of(plan: Plan, task: int, size: int = 5) -> Batch:
    """The first batch of a task."""
    return next(training_batches(plan.data[task]["train"], size, 0, task, 0, 0))


def numbers(state: State) -> dict[str, Tensor]:
    """All that the network holds, copied."""
    return {name: tensor.clone() for name, tensor in state.network.state_dict().items()}


def answers(plan: Plan, state: State, task: int) -> Tensor:
    """A task's logits for its test images."""
    state.network.eval()
    with torch.no_grad():
        found = state.network(plan.data[task]["test"].take(slice(None)), task)
    state.network.train()
    return found


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two networks hold the same numbers, to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
