"""The conformance suite of methods: what everlearn relies on, whatever a method learns.

    from everlearn.testing import check_method

    def test_my_method():
        check_method(MyMethod())

Each check is a function of a method that raises `MethodFault` with one sentence; `CHECKS` names them all. They train
a small convolutional network on a few made images for a few epochs; what the method learns is not judged.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from everlearn.experiments.checkpoint import load_state, save_state
from everlearn.methods.base import Batch, Method
from everlearn.networks.papers import make_backbone
from everlearn.tasks.task import Split, Task, TaskStream
from everlearn.training.data import StreamData, lies_last, training_batches
from everlearn.training.fit import Found, Measured, Plan, State, Tick, learn
from everlearn.training.settings import Training

SHAPE = (1, 8, 8)
TRAINING = Training(epochs=2, batch=5, rate=1e-3, evaluate_every=1, evaluate_others_every=1)


class MethodFault(AssertionError):
    """A method does not do what everlearn relies on."""


def check_method(method: Method, protocol: str = "lifelong", device: str = "cpu") -> None:
    """Run every check.

    Args:
        method: the method under test.
        protocol: `lifelong`, or `multi-task` for a method that learns all tasks together.
        device: where it is tested: `cpu`, `cuda`, `cuda:1`.

    Raises:
        MethodFault: the first check that failed, with the method's name.
    """
    training = TRAINING if protocol == "lifelong" else Training(**{**vars(TRAINING), "protocol": protocol, "epochs": 4})
    for check in CHECKS.values():
        check(method, training, device)


def made_split(count: int, classes: int, seed: int) -> Split:
    """Images whose class shows as the brighter of `classes` horizontal bands, in noise."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    images = 0.3 * torch.rand(count, *SHAPE, generator=random)
    for i, label in enumerate(labels.tolist()):
        images[i, :, label * SHAPE[1] // classes : (label + 1) * SHAPE[1] // classes] += 0.7
    return Split(images, labels)


def made_stream(tasks: int = 3, classes: int = 2, train: int = 20) -> TaskStream:
    """Small tasks that a small network learns in some tens of epochs."""
    names = tuple(f"class {i}" for i in range(classes))
    splits = [
        [made_split(count, classes, 10 * task + i) for i, count in enumerate((train, 8, 12))] for task in range(tasks)
    ]
    return TaskStream("made", 0, tuple(Task(f"task {t + 1}", names, *three) for t, three in enumerate(splits)))


def begun(method: Method, training: Training, seed: int = 0, device: str = "cpu") -> tuple[Plan, State]:
    """A plan over the made stream, and the state before its first step."""
    stream = made_stream()
    network = method.network(make_backbone("digits", SHAPE), len(stream), seed).to(device)
    data = StreamData(stream, network.device, lies_last(training, network.device))
    return Plan(method, data, [len(task.classes) for task in stream.tasks], training, seed), State(network)


def check_same_seed(method: Method, training: Training, device: str = "cpu") -> None:
    """The same seed gives the same records and numbers; another seed gives others."""
    (first, a), (second, b), (_, c) = (_finished(method, training, seed, device) for seed in (0, 0, 1))
    _require(first == second and _equal(a, b), method, "gives different results for one seed")
    _require(not _equal(a, c), method, "gives the same results for two seeds")


def check_resumes(method: Method, training: Training, device: str = "cpu") -> None:
    """Saved, opened by a fresh state and taken up after every tick, a run equals one that was never stopped."""
    expected, numbers = _finished(method, training, 0, device)
    plan, state = begun(method, training, device=device)
    found: list[Measured | Found] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        while _advance(plan, state, found):
            save_state(path, state, {})
            plan, state = begun(method, training, device=device)
            load_state(path, plan, state)
    _require(found == expected, method, "gives other records when it is stopped and taken up")
    _require(_equal(numbers, _numbers(state)), method, "ends with other numbers when it is stopped and taken up")


def check_moves(method: Method, training: Training, device: str = "cpu") -> None:
    """While a task is trained, only the parameters that its objective opens move or have gradients, and all do."""
    plan, state = begun(method, training, device=device)
    before: dict[str, Tensor] = {}
    allowed: set[str] = set()
    for event in learn(plan, state):
        if isinstance(event, Tick) and not plan.phases()[0].together and state.stage >= 0:
            task, now = state.phase, _numbers(state)
            if state.epoch > 0:
                moved = {name for name in before if name in now and not torch.equal(before[name], now[name])}
                statistics = {name for name, _ in state.network.named_buffers()}
                _require(moved - statistics <= allowed, method, f"moves what it did not open: {moved - allowed}")
                _require(moved != set() and allowed <= moved, method, f"opens what never moves: {allowed - moved}")
            before, allowed = now, set(_objective(plan, state, task).moves) if _trains(plan, state, task) else set()
        _require(all(p.grad is None for p in state.network.parameters()), method, "leaves gradients behind")


def check_objective_only_reads(method: Method, training: Training, device: str = "cpu") -> None:
    """Asking for an objective, and for a loss, changes neither the network nor the memory."""
    plan, state = begun(method, training, device=device)
    next(learn(plan, state))
    numbers, memory = _numbers(state), {name: tensor.clone() for name, tensor in state.memory.items()}
    loss = _objective(plan, state, 0).loss(_batch(plan))
    _require(loss.ndim == 0 and bool(torch.isfinite(loss)), method, "gives a loss that is no finite number")
    same = _equal(numbers, _numbers(state)) and _equal(memory, state.memory)
    _require(same, method, "changes the network or its memory when asked for an objective")


def check_predicts(method: Method, training: Training, device: str = "cpu") -> None:
    """Every task has logits for each of its classes; an exported network gives the same."""
    plan, state = begun(method, training, device=device)
    list(learn(plan, state))
    state.network.eval()
    for task, classes in enumerate(plan.classes):
        images = plan.data[task]["test"].take(slice(None))
        logits = state.network(images, task)
        _require(tuple(logits.shape) == (len(images), classes), method, f"gives logits {tuple(logits.shape)}")
        plain = state.network.export(task)(images)
        _require(torch.allclose(plain, logits, rtol=1e-5, atol=1e-6), method, "exports another function")


def check_keeps_no_images(method: Method, training: Training, device: str = "cpu") -> None:
    """Between two tasks, and when all is learned, neither network nor memory holds a training image of any task."""
    plan, state = begun(method, training, device=device)
    images = torch.cat([data["train"].take(slice(None)).flatten(1) for data in plan.data.tasks])
    for event in learn(plan, state):
        if not isinstance(event, Tick) or state.stage >= 0 or state.attempt > 0:
            continue
        for name, tensor in [*state.network.state_dict().items(), *state.memory.items()]:
            if tensor.numel() >= images.shape[1] and tensor.numel() % images.shape[1] == 0:
                rows = tensor.reshape(-1, images.shape[1]).to(images.dtype)
                _require(not (torch.cdist(rows, images) < 1e-6).any(), method, f"keeps an image in {name!r}")


CHECKS: dict[str, Callable[[Method, Training, str], None]] = {
    "same seed": check_same_seed,
    "resumes": check_resumes,
    "moves": check_moves,
    "objective only reads": check_objective_only_reads,
    "predicts": check_predicts,
    "keeps no images": check_keeps_no_images,
}


def _finished(
    method: Method, training: Training, seed: int, device: str
) -> tuple[list[Measured | Found], dict[str, Tensor]]:
    plan, state = begun(method, training, seed, device)
    return [event for event in learn(plan, state) if not isinstance(event, Tick)], _numbers(state)


def _advance(plan: Plan, state: State, found: list[Measured | Found]) -> bool:
    for event in learn(plan, state):
        if isinstance(event, Tick):
            return True
        found.append(event)
    return False


def _trains(plan: Plan, state: State, task: int) -> bool:
    """Whether the stage that was entered has an epoch that is trained."""
    stage = state.stage
    if stage >= len(plan.method.stages) or plan.method.epochs(stage, plan.training.epochs, task) == 0:
        return False
    return plan.method.needed(state.network, state.memory, task, stage)


def _objective(plan: Plan, state: State, task: int):  # type: ignore[no-untyped-def]
    return plan.method.objective(state.network, state.memory, task, state.stage, plan.training.reduction)


def _batch(plan: Plan) -> Batch:
    return next(training_batches(plan.data[0]["train"], plan.training.batch, 0, 0, 0, 0))


def _numbers(state: State) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.network.state_dict().items()}


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _require(holds: bool, method: Method, what: str) -> None:
    if not holds:
        raise MethodFault(f"{type(method).__name__} {what}.")
