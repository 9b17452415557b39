"""One run, from nothing or from its checkpoint to its result."""

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from math import isfinite
from pathlib import Path
from time import monotonic

import numpy
import torch

from everlearn.errors import ConfigurationError, StoreError, UnknownNameError
from everlearn.experiments import store
from everlearn.experiments.checkpoint import load_state, pack, save_state
from everlearn.experiments.files import locked, write_whole
from everlearn.experiments.records import SCHEMA, Evaluation, FindingRecord, Phase, ResultRecord, RunConfig, RunRecord
from everlearn.experiments.starts import TRAINED, backbone_of, check_start, first_tasks, known_first
from everlearn.methods.catalogue import make_method
from everlearn.networks.backbone import Backbone
from everlearn.networks.configurations import spell
from everlearn.networks.trained import pack_trained
from everlearn.plugins import fingerprint_of
from everlearn.seeds import derive
from everlearn.tasks import fingerprint
from everlearn.tasks.task import TaskStream
from everlearn.training.data import StreamData, lies_last
from everlearn.training.fit import Found, Measured, Plan, State, Tick, learn
from everlearn.training.parallel import check_network, world

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Progress:
    """How far a run is: epochs of all attempts that are over, of how many; of an experiment, phases as well."""

    epochs: int
    total: int
    phases: int = 0


@dataclass(frozen=True)
class Place:
    """Where and how a run is executed; nothing of it changes a number.

    Attributes:
        root: the folder of run folders.
        device: `cpu`, `cuda`, `cuda:1`.
        checkpoint_seconds: between two checkpoints.
        keep_weights: whether the final weights stay in the run's folder.
        start: file of the trained network that runs go on from, where a user gave one.
        url: where the runs lie, if not in `root`, which then is only where they are worked on.
    """

    root: Path
    device: str = "cpu"
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    keep_weights: bool = False
    start: Path | None = None
    url: str | None = None

    def below(self, name: str) -> "Place":
        """The same, for the runs in a folder within."""
        return replace(self, root=self.root / name, url=None if self.url is None else f"{self.url}/{name}")


def check_device(device: str) -> None:
    """Raise `ConfigurationError` for a device that this machine does not have."""
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UnknownNameError("device", device, ("cpu", "cuda", "cuda:0"))
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"the device {device} was asked for, but PyTorch finds {torch.cuda.device_count()} such devices here; "
            "use cpu, or install a PyTorch with CUDA."
        )


def prepare(config: RunConfig, stream: TaskStream, backbone: Backbone, device: str = "cpu") -> tuple[Plan, State]:
    """The plan of a run and the state before its first step.

    Raises:
        ConfigurationError: method, options or backbone do not exist or do not fit together.
        LayerError: the method's rule cannot make a layer of the backbone.
    """
    method = make_method(config.method, config.backbone, len(stream), config.options)
    check_start(method, config.method, stream, len(backbone.trained), config.training)
    seed = derive(config.trial, "trial")
    network = method.network(backbone, len(stream), seed).to(device)
    if world() > 1:
        check_network(network)
    data = StreamData(stream, network.device, lies_last(config.training, network.device))
    classes = [len(task.classes) for task in stream.tasks]
    return Plan(method, data, classes, config.training, seed, len(backbone.trained)), State(network)


def execute(config: RunConfig, stream: TaskStream, place: Place) -> Iterator[Progress]:
    """Run, or go on, or do nothing if the run is finished; may be abandoned after any `Progress`.

    Yields once an epoch or oftener. Closing the generator saves a checkpoint first.

    Raises:
        StoreError: the folder cannot be written, is damaged, or another process has it.
    """
    folder = store.run_folder(place.root, config)
    with locked(folder) as mine:
        if not mine:
            raise StoreError(f"another process is working on {folder}; wait for it, or stop it.")
        if (folder / store.RESULT).exists():
            phases = store.read_run(folder).run.phases
            yield Progress(phases[-1].last, phases[-1].last, len(phases))
            return
        stream = first_tasks(stream, config.tasks)
        backbone = backbone_of(config, stream, place.root, place.start)
        stream = known_first(stream, backbone)
        plan, state = prepare(config, stream, backbone, place.device)
        _check_code(config)
        with closing(_open(folder, config, stream, plan, state)) as journals:
            yield from _go_on(folder, place, plan, state, journals, stream)
        if place.keep_weights:
            write_whole(folder / store.WEIGHTS, pack(state.network.state_dict(), "{}"))
        if config.tasks is not None:
            _keep_trained(folder / TRAINED, state, stream)
        if said := diverged(store.read_run(folder)):
            state.warnings.append(said)
        store.write_record(folder / store.RESULT, _result(state, place, store.count_lines(folder)))
        (folder / store.CHECKPOINT).unlink(missing_ok=True)


def _check_code(config: RunConfig) -> None:
    """Raise `StoreError` where a file of the user's is no longer the one that the run is recorded with."""
    for name, mark in config.code.items():
        if fingerprint_of(name) != mark:
            raise StoreError(
                f"{name.rpartition(':')[0]} was changed after the runs were planned, and this one would be recorded as "
                "one of what it was before; give the command again, which makes new runs of what it is now."
            )


def diverged(stored: store.StoredRun) -> str:
    """What is to be said of a run whose losses were not all finite; empty if they were.

    What was tried and not kept does not count; of what was kept there are evaluations without an attempt.
    """
    kept = [one for one in stored.evaluations if one.attempt is None]
    lost = [one for one in kept if one.loss is None]
    if not lost:
        return ""
    return (
        f"the training diverged: {len(lost)} of {len(kept)} evaluations had a loss that is no finite "
        f"number, the first of {lost[0].task!r} at epoch {lost[0].epoch}; give a lower rate (--rate)."
    )


def _keep_trained(path: Path, state: State, stream: TaskStream) -> None:
    """Write the last task's network for other runs to go on from."""
    last = stream.tasks[-1]
    network = state.network.export(len(stream) - 1)
    write_whole(path, pack_trained(network, last.name, last.classes, last.multi_label))


def _open(folder: Path, config: RunConfig, stream: TaskStream, plan: Plan, state: State) -> "_Journals":
    if (folder / store.RUN).exists():
        known = store.read_run(folder).run
        if known.fingerprint != fingerprint(stream):
            raise StoreError(
                f"the images of stream {stream.name!r} are not those that {folder} was begun with; "
                "give the same data, or another folder for the runs."
            )
    else:
        store.write_record(folder / store.RUN, _record(config, stream, plan))
    checkpoint = folder / store.CHECKPOINT
    keep = load_state(checkpoint, plan, state) if checkpoint.exists() else {}
    store.check_journals(folder, keep)
    return _Journals(folder, keep, [task.name for task in stream.tasks])


def _go_on(
    folder: Path, place: Place, plan: Plan, state: State, journals: "_Journals", stream: TaskStream
) -> Iterator[Progress]:
    total, saved = plan.work(state.network), monotonic()
    for event in learn(plan, state):
        if not isinstance(event, Tick):
            journals.append(event)
            continue
        if monotonic() - saved >= place.checkpoint_seconds:
            save_state(folder / store.CHECKPOINT, state, journals.settle())
            saved = monotonic()
        try:
            yield Progress(event.epochs, total, event.phases)
        except GeneratorExit:
            save_state(folder / store.CHECKPOINT, state, journals.settle())
            raise
    journals.settle()


class _Journals:
    """What a run writes while it learns: its evaluations, and what the method found out."""

    def __init__(self, folder: Path, keep: Mapping[str, int], names: list[str]) -> None:
        self._folder, self._keep, self._names = folder, keep, names
        self._open = {store.ACCURACY: store.Journal(folder / store.ACCURACY, keep.get(store.ACCURACY, 0))}
        if (folder / store.FINDINGS).exists():
            self._findings()

    def append(self, event: Measured | Found) -> None:
        """Write an event down."""
        if isinstance(event, Found):
            self._findings().append(_finding(event, self._names))
        else:
            self._open[store.ACCURACY].append(_evaluation(event, self._names))

    def settle(self) -> dict[str, int]:
        """Wait until everything is on the disk; return the bytes of each journal."""
        return {name: journal.settle() for name, journal in self._open.items()}

    def close(self) -> None:
        """Close the files."""
        for journal in self._open.values():
            journal.close()

    def _findings(self) -> store.Journal:
        if store.FINDINGS not in self._open:  # a method that finds nothing out has no such file
            path = self._folder / store.FINDINGS
            self._open[store.FINDINGS] = store.Journal(path, self._keep.get(store.FINDINGS, 0))
        return self._open[store.FINDINGS]


def _evaluation(event: Measured, names: list[str]) -> Evaluation:
    training = None if event.training is None else names[event.training]
    return Evaluation(
        epoch=event.epochs, training=training, task=names[event.task], split=event.split,  # type: ignore[arg-type]
        accuracy=event.accuracy, loss=event.loss if isfinite(event.loss) else None, attempt=event.attempt,
        auroc=None if event.auroc is None else round(event.auroc, 7),
    )  # fmt: skip


def _finding(event: Found, names: list[str]) -> FindingRecord:
    finding = event.finding
    return FindingRecord(
        epoch=event.epochs,
        task=names[event.task],
        configuration=spell(finding.configuration),
        weights={spell(c): round(w, 6) for c, w in finding.weights.items()},
        blocks=[round(p, 6) for p in finding.blocks],
        attempt=finding.attempt,
        settled=event.settled,
        counts={what: list(numbers) for what, numbers in finding.counts.items()},
    )


def _record(config: RunConfig, stream: TaskStream, plan: Plan) -> RunRecord:
    names = [task.name for task in stream.tasks]
    several = any(task.multi_label for task in stream.tasks)
    phases = [
        Phase(task=None if phase.training is None else names[phase.training], first=phase.first, last=phase.last)
        for phase in plan.phases()
    ]
    return RunRecord(
        schema_version=SCHEMA,
        id=store.run_id(config),
        config=config,
        tasks=names,
        classes=[len(task.classes) for task in stream.tasks],
        phases=phases,
        fingerprint=fingerprint(stream),
        metrics=["mAP" if task.multi_label else "accuracy" for task in stream.tasks] if several else [],
    )


def _result(state: State, place: Place, lines: dict[str, int]) -> ResultRecord:
    return ResultRecord(
        schema_version=SCHEMA,
        parameters=state.network.counts(),
        training_seconds=round(state.training_seconds, 3),
        evaluation_seconds=round(state.evaluation_seconds, 3),
        steps=state.steps,
        epochs=state.epochs,
        warnings=state.warnings,
        phase_seconds=[round(end - begin, 3) for begin, end in pairwise([0.0, *state.seconds])],
        lines=lines,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        machine={
            "processor": _processor(),
            "cores": os.cpu_count() or 1,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(place.device) if place.device.startswith("cuda") else "cpu",
        },
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "everlearn": version("everlearn"),
        },
    )


def _processor(told: Path = Path("/proc/cpuinfo"), scaling: Path = Path("/sys/devices/system/cpu/cpu0/cpufreq")) -> str:
    """The processor's name, and what tells it from others of that name: its model and, where it is steady, its clock.

    Args:
        told: what Linux says of the processors.
        scaling: there if their clock changes with the load.
    """
    text = told.read_text(errors="replace") if sys.platform == "linux" and told.is_file() else ""
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    known = {name.strip(): value.strip() for name, _, value in lines}
    name, model, clock = (known.get(key, "") for key in ("model name", "model", "cpu MHz"))
    if not name:
        return platform.processor() or platform.machine()
    steady = clock.replace(".", "", 1).isdecimal() and not scaling.exists() and "GHz" not in name
    numbers = [f"model {model}"] if model else []
    return ", ".join([name, *numbers, *([f"{round(float(clock), -2):.0f} MHz"] if steady else [])])
