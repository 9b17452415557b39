"""Stored runs with made-up but plausible numbers, built from records, not from training."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from everlearn.experiments.records import (
    SCHEMA,
    Evaluation,
    FindingRecord,
    Phase,
    ResultRecord,
    RunConfig,
    RunRecord,
    StreamConfig,
)
from everlearn.experiments.store import StoredRun, run_folder, run_id
from everlearn.training.settings import Training

TASKS = ["0 or 1", "2 or 3", "4 or 5", "6 or 7", "8 or 9"]
# How good a method gets, how fast (epochs), how much of a task it loses per later task, what it weighs.
METHODS = {
    "stl": (0.955, 6.0, 0.0, 52_930),
    "hps": (0.940, 5.0, 0.085, 26_450),
    "tf": (0.930, 9.0, 0.05, 55_120),
    "df-cnn": (0.972, 3.0, 0.012, 98_314),
    "df-cnn.direct": (0.966, 3.5, 0.02, 155_872),
    "df-cnn.tc2": (0.961, 4.0, 0.03, 61_210),
}
TRAINING = Training(epochs=40, batch=10, rate=1e-3, evaluate_every=2, evaluate_others_every=8)


def make_run(
    method: str = "stl",
    trial: int = 0,
    *,
    training: Training = TRAINING,
    tasks: list[str] = TASKS,
    seed: int = 0,
    backbone: str = "digits-cnn",
    options: dict[str, str | int | float | bool] | None = None,
    finished: bool = True,
) -> StoredRun:
    """One run of the lifelong or the multi-task protocol."""
    stream = StreamConfig(name="digits", seed=seed)
    config = RunConfig(
        stream=stream, method=method, options=options or {}, backbone=backbone, training=training, trial=trial
    )
    epochs = training.epochs
    if training.protocol == "lifelong":
        phases = [Phase(task=t, first=i * epochs, last=(i + 1) * epochs) for i, t in enumerate(tasks)]
    else:
        phases = [Phase(task=None, first=0, last=epochs)]
    run = RunRecord(
        schema_version=SCHEMA,
        id=run_id(config),
        config=config,
        tasks=tasks,
        classes=[2] * len(tasks),
        phases=phases,
        fingerprint=f"5f3a{seed}",
    )
    weight = METHODS.get(method, METHODS["stl"])[3]
    result = _result(weight, trial, phases[-1].last)
    evaluations = _evaluations(run, np.random.default_rng([trial, seed, len(method), *method.encode()]))
    if not finished:
        evaluations = [line for line in evaluations if line.epoch <= 2 * epochs]
    return StoredRun(run_folder(Path("runs"), config), run, result if finished else None, tuple(evaluations))


def make_taught(
    method: str,
    trial: int,
    values: Mapping[str, Sequence[float | None]],
    *,
    given: int = 1,
    stream: str = "places-voc",
    seed: int | None = None,
    stream_options: dict[str, str | int | float | bool] | None = None,
    options: dict[str, str | int | float | bool] | None = None,
    backbone: str = "alexnet",
    start: str = "run:5f3a",
    metrics: Sequence[Literal["accuracy", "mAP"]] = (),
    training: Training = TRAINING,
) -> StoredRun:
    """New tasks taught to a network that came with the first tasks.

    Args:
        method: its name.
        trial: its number.
        values: by task, its test value when the network came and when each of the new tasks had been learned; None
            where it was not evaluated.
        given: how many tasks came with the network; without any, the first task has a phase like the others.
        stream: its name.
        seed: of the stream; None: the trial's number.
        stream_options: of the stream.
        options: of the method.
        backbone: its name.
        start: where the network came from.
        metrics: of the tasks.
        training: settings of the loop.
    """
    tasks, epochs = list(values), training.epochs
    ends = [max(0, place + 1 - given) * epochs for place in range(len(tasks))]
    phases = [Phase(task=t, first=max(0, end - epochs), last=end) for t, end in zip(tasks, ends, strict=True)]
    config = RunConfig(
        stream=StreamConfig(name=stream, seed=trial if seed is None else seed, options=stream_options or {}),
        method=method,
        options=options or {},
        backbone=backbone,
        training=training,
        trial=trial,
        start=start if given else "",
    )
    run = RunRecord(
        schema_version=SCHEMA,
        id=run_id(config),
        config=config,
        tasks=tasks,
        classes=[20] * len(tasks),
        phases=phases,
        fingerprint="5f3a",
        metrics=list(metrics),
    )
    lines = [
        Evaluation(epoch=end, training=None, task=task, split="test", accuracy=value, loss=None)
        for stage, end in enumerate(sorted(set(ends)))
        for task, course in values.items()
        if (value := course[stage]) is not None
    ]
    result = _result(METHODS["stl"][3], trial, ends[-1])
    return StoredRun(run_folder(Path("runs"), config), run, result, tuple(lines))


def make_grown(
    method: str,
    trial: int = 0,
    stages: Sequence[Sequence[float]] = ((0.9,), (0.8, 0.7)),
    *,
    seconds: Sequence[float] = (),
    parameters: Mapping[str, int] | None = None,
    counts: Sequence[Mapping[str, list[int]]] = (),
    auroc: bool = True,
    backbone: str = "digits",
    stream: str = "digits",
    options: dict[str, str | int | float | bool] | None = None,
    training: Training | None = None,
) -> StoredRun:
    """A run of tasks "a", "b", ... whose performance was measured whenever a task was over.

    Args:
        method: its name.
        trial: its number.
        stages: for each stage, the area under the ROC curve of the tasks that were over by then; accuracies are half.
        seconds: of each phase.
        parameters: by kind.
        counts: what was counted of the layers of each task; empty: nothing.
        auroc: whether areas were measured, or their numbers stand for accuracies.
        backbone: its name.
        stream: its name.
        options: of the method.
        training: settings of the loop; None: ten epochs a task.
    """
    training = training or dataclasses.replace(TRAINING, epochs=10, auroc=auroc)
    epochs, tasks = training.epochs, [chr(ord("a") + place) for place in range(len(stages))]
    config = RunConfig(
        stream=StreamConfig(name=stream, seed=trial), method=method, options=options or {}, backbone=backbone,
        training=training, trial=trial,
    )  # fmt: skip
    run = RunRecord(
        schema_version=SCHEMA,
        id=run_id(config),
        config=config,
        tasks=tasks,
        classes=[2] * len(tasks),
        phases=[Phase(task=t, first=i * epochs, last=(i + 1) * epochs) for i, t in enumerate(tasks)],
        fingerprint="5f3a",
    )
    lines = [
        Evaluation(
            epoch=(stage + 1) * epochs, training=tasks[stage], task=task, split="test", loss=None,
            accuracy=value / 2 if auroc else value, auroc=value if auroc else None,
        )
        for stage, values in enumerate(stages)
        for task, value in zip(tasks, values, strict=False)
    ]  # fmt: skip
    found = [
        FindingRecord(epoch=(place + 1) * epochs, task=task, configuration="11", settled=True, counts=dict(each))
        for place, (task, each) in enumerate(zip(tasks, counts, strict=False))
    ]
    made = _result(METHODS["stl"][3], trial, epochs * len(tasks))
    result = made.model_copy(
        update={
            "phase_seconds": list(seconds),
            "training_seconds": sum(seconds) or made.training_seconds,
            "parameters": dict(parameters) if parameters else made.parameters,
        }
    )
    return StoredRun(run_folder(Path("runs"), config), run, result, tuple(lines), tuple(found))


def _result(weight: int, trial: int, epochs: int) -> ResultRecord:
    return ResultRecord(
        schema_version=SCHEMA,
        parameters={
            "shared": weight // 5,
            "own": weight // 5,
            "head": weight - 2 * (weight // 5),
            "total": weight,
        },
        training_seconds=10.0 + trial + weight / 10_000,
        evaluation_seconds=2.5 + trial / 10,
        steps=20_000,
        epochs=epochs,
        finished=f"2025-03-0{trial % 9 + 1}T10:00:00+00:00",
        machine={"processor": "x86_64", "cores": 2, "device": "cpu", "threads": 1},
        versions={"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6", "everlearn": "0.1.0"},
    )


def _evaluations(run: RunRecord, draw: np.random.Generator) -> list[Evaluation]:
    height, speed, loss, _ = METHODS.get(run.config.method, METHODS["stl"])
    training, lines = run.config.training, []
    lift = draw.normal(0, 0.008)
    heights = {task: height + lift + draw.normal(0, 0.012) for task in run.tasks}

    def add(epoch: int, busy: str | None, task: str, accuracy: float) -> None:
        for split, noise in (("validation", 0.02), ("test", 0.004)):
            value = min(1.0, max(0.0, accuracy + draw.normal(0, noise)))
            lines.append(Evaluation(epoch=epoch, training=busy, task=task, split=split, accuracy=value, loss=1 - value))

    for phase in run.phases:
        busy = [phase.task] if phase.task else run.tasks
        for epoch in range(phase.first, phase.last + 1, training.evaluate_every):
            for task in busy:
                rise = 1 - math.exp(-(epoch - phase.first) / speed)
                add(epoch, phase.task, task, 0.5 + (heights[task] - 0.5) * rise)
            others = phase.task and loss and epoch > phase.first and epoch % training.evaluate_others_every == 0
            for task in run.tasks[: run.tasks.index(phase.task)] if others and phase.task else []:
                since = epoch / training.epochs - run.tasks.index(task) - 1
                add(epoch, phase.task, task, 0.5 + (heights[task] - 0.5) * math.exp(-6 * loss * since**0.7))
    return lines


@pytest.fixture(name="make_run")
def make_run_fixture() -> Callable[..., StoredRun]:
    return make_run


@pytest.fixture(name="make_taught")
def make_taught_fixture() -> Callable[..., StoredRun]:
    return make_taught


@pytest.fixture(name="make_grown")
def make_grown_fixture() -> Callable[..., StoredRun]:
    return make_grown


@pytest.fixture
def runs() -> list[StoredRun]:
    """Six methods, three trials each, five tasks."""
    return [make_run(method, trial) for method in METHODS for trial in range(3)]


@pytest.fixture
def multi_task() -> Training:
    return dataclasses.replace(TRAINING, protocol="multi-task", epochs=100)
