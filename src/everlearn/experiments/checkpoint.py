"""Where a run stands, as one file: tensors as safetensors, everything else as JSON in its header.

The file is replaced at once, so there is always a whole one; nothing in it is executed when it is read.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from everlearn.errors import StoreError
from everlearn.experiments.files import write_whole
from everlearn.experiments.records import SCHEMA
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.parts import TaskStructure
from everlearn.training.fit import Plan, State
from everlearn.training.optimisers import make_optimisers


class Position(BaseModel):
    """Everything of a `State` that is no tensor.

    Attributes:
        schema_version: of the file.
        tasks: the structure of each task begun so far.
        numbers: of each optimiser by task: what it remembers of each parameter that is no tensor.
        journals: bytes of each journal of the run that belong to this state, by file name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int
    tasks: list[TaskStructure]
    phase: int
    attempt: int
    score: float
    best: float
    best_epoch: int
    dropped: bool
    warnings: list[str]
    stage: int
    epoch: int
    step: int
    epochs: int
    worked: int
    steps: int
    stale: list[int]
    training_seconds: float
    evaluation_seconds: float
    seconds: list[float]
    numbers: dict[int, list[dict[int, dict[str, float]]]]
    journals: dict[str, int]


_COPIED = (
    "phase", "attempt", "score", "best", "best_epoch", "dropped", "stage", "epoch", "step", "epochs", "worked", "steps",
    "training_seconds", "evaluation_seconds",
)  # fmt: skip


def save_state(path: Path, state: State, journals: Mapping[str, int]) -> None:
    """Write a state.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    write_whole(path, pack_state(state, journals))


def pack_state(state: State, journals: Mapping[str, int]) -> bytes:
    """A state as the content of a file."""
    tensors = {f"network/{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"memory/{name}": tensor for name, tensor in state.memory.items()}
    numbers: dict[int, list[dict[int, dict[str, float]]]] = {}
    for task, optimisers in state.optimisers.items():
        numbers[task] = [{} for _ in optimisers]
        for place, optimiser in enumerate(optimisers):
            for i, remembered in optimiser.state_dict()["state"].items():
                kept = {name: value for name, value in remembered.items() if value is not None}
                prefix = f"optimiser/{task}/{place}/{i}"
                tensors |= {f"{prefix}/{name}": value for name, value in kept.items() if isinstance(value, Tensor)}
                numbers[task][place][i] = {n: v for n, v in kept.items() if not isinstance(v, Tensor)}
    position = Position(
        schema_version=SCHEMA,
        tasks=state.network.structures,
        stale=sorted(state.stale),
        warnings=state.warnings,
        seconds=state.seconds,
        numbers=numbers,
        journals=dict(journals),
        **{name: getattr(state, name) for name in _COPIED},
    )
    return pack(tensors, position.model_dump_json())


def pack(tensors: dict[str, Tensor], header: str) -> bytes:
    """Tensors and a JSON text as one safetensors file."""
    return save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, {"everlearn": header})


def load_state(path: Path, plan: Plan, state: State) -> dict[str, int]:
    """Bring a fresh state to where a checkpoint stands; return the bytes of each journal that belong to it.

    Raises:
        StoreError: the file is damaged, of a newer schema, or of another run.
    """
    tensors, position = _read(path)
    try:
        restore(tensors, position, plan, state)
    except KeyError as error:
        raise _damaged(path, f"it lacks or has too much of {error}") from None
    return position.journals


def restore(tensors: dict[str, Tensor], position: Position, plan: Plan, state: State) -> None:
    """Bring a fresh state, of a network without tasks, to where these tensors and this position stand.

    Raises:
        KeyError: a tensor that one has and the other has not.
    """
    network = state.network
    for structure in position.tasks:
        network.rebuild(structure)
    load_tensors(network, under("network/", tensors))
    state.memory.update({name: t.to(network.device) for name, t in under("memory/", tensors).items()})
    for name in _COPIED:
        setattr(state, name, getattr(position, name))
    state.stale, state.warnings = set(position.stale), list(position.warnings)
    state.seconds = list(position.seconds)
    for task, numbers in position.numbers.items():
        objective = plan.method.objective(network, state.memory, task, state.stage, plan.training.reduction)
        state.optimisers[task] = make_optimisers(plan.training, objective)
        for place, (optimiser, known) in enumerate(zip(state.optimisers[task], numbers, strict=True)):
            _remember(optimiser, known, under(f"optimiser/{task}/{place}/", tensors))


def journals_of(path: Path) -> dict[str, int]:
    """The bytes of each journal that belong to a checkpoint, without reading its tensors.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(json.loads((file.metadata() or {})["everlearn"])["journals"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from None


def _remember(optimiser: Optimizer, numbers: dict[int, dict[str, float]], tensors: dict[str, Tensor]) -> None:
    remembered: dict[int, dict[str, Tensor | float]] = {i: {**kept} for i, kept in numbers.items()}
    for name, tensor in tensors.items():
        index, _, kind = name.partition("/")
        remembered.setdefault(int(index), {})[kind] = tensor
    optimiser.load_state_dict({"state": remembered, "param_groups": optimiser.state_dict()["param_groups"]})


def load_tensors(network: LifelongNetwork, tensors: dict[str, Tensor]) -> None:
    """Give a network its numbers; a parameter takes the stored shape (a decomposition may have cut its rank).

    Raises:
        KeyError: a name that one has and the other has not.
    """
    present = network.state_dict(keep_vars=True)
    for name in present.keys() ^ tensors.keys():
        raise KeyError(name)
    with torch.no_grad():
        for name, tensor in present.items():
            # A copy is aligned in memory as any other tensor; what the file gave need not be.
            tensor.data = tensors[name].to(device=tensor.device, dtype=tensor.dtype, copy=True)


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without the beginning."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], Position]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("everlearn", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if isinstance(header, dict) and header.get("schema_version", 0) > SCHEMA:
        raise StoreError(f"{path} was written by a newer everlearn; upgrade everlearn to go on with this run.")
    try:
        return tensors, Position.model_validate(header)
    except ValidationError as error:
        raise _damaged(path, error.errors()[0]["msg"]) from None


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(f"{path} is damaged ({why}); remove {path.parent} and run it again.")
