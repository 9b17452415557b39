"""What a run writes about itself, and how it is read back.

A run is a folder:

    run.json         what was asked for (`RunRecord`), written first
    accuracy.jsonl   one line an evaluation (`Evaluation`); `pandas.read_json(path, lines=True)` reads it
    findings.jsonl   one line for each time the method said what it has found out (`FindingRecord`); not always there
    result.json      sizes, seconds, versions (`ResultRecord`), written last: a run that has it is finished
    checkpoint.safetensors   where it stands, until it is finished

Files of a newer schema are refused. When the schema changes, a function named after the step will upgrade older ones.
"""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from everlearn.errors import StoreError
from everlearn.training.settings import Training

SCHEMA = 1

_Model = TypeVar("_Model", bound=BaseModel)


def validated(
    found: object, path: Path, model: type[_Model], schema: int, newer: str = "", damaged: str = ""
) -> _Model:
    """A record out of what its file holds.

    Args:
        found: the file's JSON, parsed.
        path: of the file, for messages.
        model: what it should be.
        schema: the newest that is understood.
        newer: what else a person may do about a newer file.
        damaged: what a person may do about a damaged one.

    Raises:
        StoreError: it is of a newer schema, or not what it should be; with the first field that is wrong.
    """
    version = found.get("schema_version") if isinstance(found, dict) else None
    if isinstance(version, int) and version > schema:
        raise StoreError(
            f"{path} was written by a newer everlearn (its schema is {version}; this one reads up to {schema}); "
            f"upgrade everlearn{newer}."
        )
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:6]) or "the whole"
        raise StoreError(f"{path} is damaged: {where}: {first['msg'].lower()[:200]}{damaged}.") from None


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StreamConfig(_Record):
    """Which stream of tasks, and the seed that all its draws come from."""

    name: str
    seed: int
    options: dict[str, str | int | float | bool] = {}


class RunConfig(_Record):
    """Everything that determines a run's numbers; its hash is the run's name.

    Attributes:
        stream: the tasks.
        method: a name of `everlearn methods`, with or without a configuration ("df-cnn", "hps@top-2").
        options: hyper-parameters of the method and its rule that differ from their defaults.
        backbone: a name of the table of backbones.
        training: settings of the loop.
        trial: 0, 1, ...; the seed of initialisation, order and dropout.
        code: hashes of the user's own files that method and backbone come from.
        tasks: only the first so many tasks of the stream; None: all.
        start: the trained network that the run goes on from: `run:` and the name of the run that trained it, or
            `weights:` and a hash of its numbers; empty: none.
    """

    stream: StreamConfig
    method: str
    options: dict[str, str | int | float | bool] = {}
    backbone: str
    training: Training
    trial: int
    code: dict[str, str] = {}
    tasks: int | None = None
    start: str = ""


class Phase(_Record):
    """A stretch of epochs: of one task (lifelong), or of all (multi-task: `task` is None).

    The phase covers the epochs `first + 1` to `last`, counted from 1 over the whole run; of a task that came with a
    trained network, none (`first` is `last`).
    """

    task: str | None
    first: int
    last: int


class RunRecord(_Record):
    """`run.json`."""

    schema_version: int
    id: str
    config: RunConfig
    tasks: list[str]
    classes: list[int]
    phases: list[Phase]
    fingerprint: str
    """Hash over the stream's images and labels."""
    metrics: list[Literal["accuracy", "mAP"]] = []
    """What each task's evaluations give as accuracy: the share that is right, or, of a multi-label task, the mean
    average precision. Empty: accuracy for all."""


class Evaluation(_Record):
    """One line of `accuracy.jsonl`: one task's split, after `epoch` epochs of the whole run (0: before the first)."""

    epoch: int
    training: str | None
    """The task in training, or None in the multi-task protocol."""
    task: str
    split: Literal["train", "validation", "test"]
    accuracy: float
    loss: float | None
    """None where it is no finite number: the run diverged."""
    attempt: int | None = None
    """Which attempt at the task in training, where a method makes several; None for what was kept in the end."""
    auroc: float | None = None
    """The area under the ROC curve, mean over classes; None where it was not asked for, or is not defined."""


class FindingRecord(_Record):
    """One line of `findings.jsonl`: what the method knew of a task after `epoch` epochs.

    Attributes:
        epoch: of the whole run.
        task: in training, or just over.
        configuration: the blocks that transfer, as "0110".
        weights: what speaks for each configuration: its probability (LASEM), its best validation accuracy (brute
            force); empty where nothing was weighed.
        blocks: the probability that each block transfers; empty where nothing was weighed.
        attempt: which attempt was kept.
        settled: whether the task is over.
        counts: of each block a number, by what was counted: "units" that the task sees, those that were "selected",
            "added", "split"; empty for methods that do not change the network's shape.
    """

    epoch: int
    task: str
    configuration: str
    weights: dict[str, float] = {}
    blocks: list[float] = []
    attempt: int | None = None
    settled: bool = False
    counts: dict[str, list[int]] = {}


class ResultRecord(_Record):
    """`result.json`.

    Attributes:
        parameters: numbers held, by kind: `shared`, `own`, `head`, `total`.
        training_seconds: wall-clock time inside training steps, and in what a method does between its stages.
        evaluation_seconds: wall-clock time inside evaluations.
        steps: optimiser steps.
        epochs: epochs trained.
        finished: ISO 8601, UTC.
        machine: processor, cores, device, threads.
        versions: of python, torch, numpy, everlearn.
        warnings: what the method had doubts about.
        phase_seconds: of `training_seconds`, those of each phase.
        lines: of each journal (`accuracy.jsonl`, `findings.jsonl`), so that one that was cut off since is found; of an
            earlier run unknown.
    """

    schema_version: int
    parameters: dict[str, int]
    training_seconds: float
    evaluation_seconds: float
    steps: int
    epochs: int
    finished: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    warnings: list[str] = []
    phase_seconds: list[float] = []
    lines: dict[str, int] = {}
