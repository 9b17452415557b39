"""From what a person asks for to the runs that are to be done."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args, get_type_hints

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.experiments.presets import Preset, preset_of
from everlearn.experiments.records import RunConfig, StreamConfig
from everlearn.experiments.starts import named, start_of
from everlearn.methods.catalogue import plain_name
from everlearn.plugins import fingerprint_of, is_plugin
from everlearn.tasks import fingerprint, stream_info
from everlearn.tasks.task import TaskStream
from everlearn.training.settings import Training

Value = str | int | float | bool


@dataclass(frozen=True)
class Request:
    """An experiment: every method on every trial's stream.

    Attributes:
        stream: name of a stream.
        methods: names of methods, each with a configuration ("df-cnn@top-2") and options of its own
            ("lwf+response=l1") if wanted; empty: the stream's own.
        trials: how many; None: the stream's own number.
        seed: of trial 0's stream; trial i draws its stream from `seed + i`.
        same_stream: draw one stream for all trials, which then differ in start, order and dropout alone.
        backbone: None: the stream's own.
        training: settings of the loop that differ from the stream's own, by name.
        options: hyper-parameters of the methods and rules, by name; each method takes those that it has.
        stream_options: of the stream.
        data: folder of data sets; None: the hub.
        given: the stream itself, where it is no stream of the table.
        start: file of a trained network that every method goes on from.
        first: settings of the first task's training that differ from the stream's own, by name.
        sweep: values of options of the stream that are all run, by name; of several options every combination.
    """

    stream: str
    methods: tuple[str, ...] = ()
    trials: int | None = None
    seed: int = 0
    same_stream: bool = False
    backbone: str | None = None
    training: Mapping[str, Value] = field(default_factory=dict)
    options: Mapping[str, Value] = field(default_factory=dict)
    stream_options: Mapping[str, Value] = field(default_factory=dict)
    data: Path | None = None
    given: TaskStream | None = None
    start: Path | None = None
    first: Mapping[str, Value] = field(default_factory=dict)
    sweep: Mapping[str, Sequence[Value]] = field(default_factory=dict)

    def each(self) -> "list[Request]":
        """One request for each combination of what is swept over; without a sweep this one alone."""
        if not self.sweep:
            return [self]
        if self.given is not None or not all(self.sweep.values()):
            raise ConfigurationError("a sweep needs a stream of the table, and at least one value of each option.")
        return [
            replace(
                self, stream_options={**self.stream_options, **dict(zip(self.sweep, values, strict=True))}, sweep={}
            )
            for values in product(*self.sweep.values())
        ]


def plan_runs(request: Request) -> list[RunConfig]:
    """The runs of an experiment, trial by trial, so that every method has a first result soon.

    Raises:
        UnknownNameError: a setting that does not exist.
        ConfigurationError: a value out of range, or no trial.
    """
    preset = preset_of(request.stream)
    trials = preset.trials if request.trials is None else request.trials
    if trials < 1:
        raise ConfigurationError(f"an experiment needs at least one trial, but {trials} came.")
    training = settings(preset.training, request.training)
    first = first_training(preset, request)
    backbone = request.backbone or preset.backbone
    configs: list[RunConfig] = []
    named_methods = dict.fromkeys(request.methods or preset.methods)
    for trial, one, text in product(range(trials), request.each(), named_methods):
        method, changes = with_changes(text)
        config = RunConfig(
            stream=stream_config(one, trial),
            method=method,
            options={**request.options, **changes},
            backbone=backbone,
            training=training,
            trial=trial,
            code={name: fingerprint_of(name) for name in (plain_name(method), backbone) if is_plugin(name)},
        )
        start = "" if first is None else named(start_of(config, first))
        configs.append(config.model_copy(update={"start": start}))
    return configs


def first_training(preset: Preset, request: Request) -> Training | None:
    """How the first task's network is trained; None where it is not trained apart, or comes as a file.

    Raises:
        ConfigurationError: settings of it for a stream whose first task is as the others.
    """
    if preset.first is not None and request.start is None:
        return settings(preset.first, request.first)
    if request.first:
        raise ConfigurationError(
            f"the first task of {request.stream!r} is not trained apart here, so it has no settings of its own; "
            "leave out --first."
        )
    return None


def with_changes(text: str) -> tuple[str, dict[str, Value]]:
    """A method's name and its own options, from `lwf+response=l1+temperature=1`."""
    name, *changes = re.split(r"\+(?=\w+=)", text)
    return name, dict(change.split("=", 1) for change in changes)  # type: ignore[misc]


def spelt(config: RunConfig, beside: Mapping[str, Value] | None = None) -> str:
    """The method of a run as a person asks for it: with its options, but for those that stand beside it."""
    own = [f"{name}={value}" for name, value in config.options.items() if (beside or {}).get(name) != value]
    return "+".join([config.method, *own])


def stream_config(request: Request, trial: int) -> StreamConfig:
    """The stream of one trial, with all its options; one that was given has its fingerprint among them."""
    if request.given is not None:
        mark = {"fingerprint": fingerprint(request.given)[:16]}
        return StreamConfig(name=request.given.name, seed=request.given.seed, options={**request.given.options, **mark})
    seed = request.seed + (0 if request.same_stream else trial)
    options = stream_info(request.stream).resolve(request.stream_options)
    return StreamConfig(name=request.stream, seed=seed, options=options)


def settings(training: Training, changes: Mapping[str, Value]) -> Training:
    """A training with some settings changed; text is read as the type that the setting has.

    Raises:
        UnknownNameError: no such setting.
        ConfigurationError: a value that the setting cannot have.
    """
    values = asdict(training)
    types = get_type_hints(Training)
    for name, value in changes.items():
        if name not in values:
            raise UnknownNameError("training setting", name, [f.name for f in fields(Training)])
        values[name] = _read(name, value, types[name])
    return Training(**values)


def _read(name: str, value: Value, wanted: Any) -> Value:
    """A value of the setting's type: one of a `Literal`'s, or a number, from text if need be."""
    choices = get_args(wanted)
    if choices:
        if value not in choices:
            raise UnknownNameError(name, str(value), choices)
        return value
    if wanted is bool:
        truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(value).lower())
        if truth is None:
            raise ConfigurationError(f"{name} needs true or false, but came as {value!r}.")
        return truth
    try:
        number = None if isinstance(value, bool) else wanted(value)
    except (TypeError, ValueError, OverflowError):  # of None, of text, of infinity as a whole number
        number = None
    if number is None or (wanted is int and float(value) != number):
        kind = "a whole number" if wanted is int else "a number"
        raise ConfigurationError(f"{name} needs {kind}, but came as {value!r}.")
    return number
