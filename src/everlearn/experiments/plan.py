"""From what a person asks for to the runs that are to be done."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.experiments.presets import Preset, preset_of
from everlearn.experiments.records import RunConfig, StreamConfig
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
        methods: names of methods, each with a configuration if wanted ("df-cnn@top-2"); empty: the stream's own.
        trials: how many; None: the stream's own number.
        seed: of trial 0's stream; trial i draws its stream from `seed + i`.
        same_stream: draw one stream for all trials, which then differ in start, order and dropout alone.
        backbone: None: the stream's own.
        training: settings of the loop that differ from the stream's own, by name.
        options: hyper-parameters of the methods and rules, by name; each method takes those that it has.
        stream_options: of the stream.
        data: folder of data sets; None: the hub.
        given: the stream itself, where it is no stream of the table.
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
    training = settings(preset, request.training)
    backbone = request.backbone or preset.backbone
    return [
        RunConfig(
            stream=stream_config(request, trial),
            method=method,
            options=dict(request.options),
            backbone=backbone,
            training=training,
            trial=trial,
            code={name: fingerprint_of(name) for name in (plain_name(method), backbone) if is_plugin(name)},
        )
        for trial in range(trials)
        for method in dict.fromkeys(request.methods or preset.methods)
    ]


def stream_config(request: Request, trial: int) -> StreamConfig:
    """The stream of one trial, with all its options; one that was given has its fingerprint among them."""
    if request.given is not None:
        mark = {"fingerprint": fingerprint(request.given)[:16]}
        return StreamConfig(name=request.given.name, seed=request.given.seed, options={**request.given.options, **mark})
    seed = request.seed + (0 if request.same_stream else trial)
    options = stream_info(request.stream).resolve(request.stream_options)
    return StreamConfig(name=request.stream, seed=seed, options=options)


def settings(preset: Preset, changes: Mapping[str, Value]) -> Training:
    """A stream's training with some settings changed; text is read as the type that the setting has.

    Raises:
        UnknownNameError: no such setting.
        ConfigurationError: a value that the setting cannot have.
    """
    values = asdict(preset.training)
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
    try:
        number = wanted(value)
    except ValueError:
        number = None
    if number is None or (wanted is int and float(value) != number):
        kind = "a whole number" if wanted is int else "a number"
        raise ConfigurationError(f"{name} needs {kind}, but came as {value!r}.")
    return number
