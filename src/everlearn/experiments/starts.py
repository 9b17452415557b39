"""Trained networks that runs go on from: trained here, once a trial, or given as a file.

A stream may begin with a task that is there before the others come (the old task of Li and Hoiem 2016). Its network is
trained by a run of its own, below `starts/` in the folder of the runs; the other runs go on from what it left.
"""

from dataclasses import replace
from pathlib import Path

from everlearn.errors import ConfigurationError, StoreError
from everlearn.experiments.records import RunConfig, StreamConfig
from everlearn.experiments.store import STARTS, run_id
from everlearn.methods.base import Method
from everlearn.methods.catalogue import network_name
from everlearn.networks.backbone import Backbone
from everlearn.networks.papers import make_backbone
from everlearn.networks.trained import read_trained, with_weights
from everlearn.tasks import STREAMS
from everlearn.tasks.task import Task, TaskStream
from everlearn.training.settings import Training

TRAINED = "trained.safetensors"
METHOD = "hps"
"""Trains the first task's network: ordinary training, all of it moves."""


def start_of(config: RunConfig, first: Training) -> RunConfig:
    """The run that trains the first task's network for another run: one for all runs whose first task is the same."""
    info = STREAMS[config.stream.name]
    same = STREAMS[info.first_as] if info.first_as else info
    options = {
        name: option.default if option.later else config.stream.options.get(name, option.default)
        for name, option in same.options.items()
    }
    if "fingerprint" in config.stream.options:  # tasks that somebody gave, which name, seed and options do not tell
        options["fingerprint"] = config.stream.options["fingerprint"]
    stream = StreamConfig(name=same.name, seed=config.stream.seed, options=options)
    code = {name: mark for name, mark in config.code.items() if name == config.backbone}
    update = {
        "method": METHOD,
        "options": {},
        "training": first,
        "tasks": 1,
        "start": "",
        "code": code,
        "stream": stream,
    }
    return config.model_copy(update=update)


def named(start: RunConfig) -> str:
    """How a run says that it goes on from what another left."""
    return f"run:{run_id(start)}"


def backbone_of(config: RunConfig, stream: TaskStream, root: Path, file: Path | None) -> Backbone:
    """The backbone of a run, with the numbers of the network that it goes on from.

    Args:
        config: names method, backbone and start.
        stream: whose first task such a network knows.
        root: the folder of the runs.
        file: of a trained network, if one was given.

    Raises:
        StoreError: the network is not there, or is another than that which the run was planned with.
    """
    backbone = make_backbone(network_name(config.method, config.backbone), stream.image_shape)
    kind, _, name = config.start.partition(":")
    first = stream.tasks[0]
    if kind == "run":
        found = sorted((root / STARTS).glob(f"*.{name}/{TRAINED}"))
        if not found:
            raise StoreError(
                f"the trained network that {config.method} goes on from is not below {root / STARTS}; if its run "
                f"{name} is there without it, remove that folder and give the same command again."
            )
        return with_weights(backbone, read_trained(found[0]), str(found[0]), first.name, first.classes)
    if file is not None:
        backbone = given_backbone(backbone, file, first)
    if backbone.fingerprint() != name:
        raise StoreError(f"the trained network of backbone {config.backbone!r} has changed since the run was planned.")
    return backbone


def given_backbone(backbone: Backbone, file: Path, first: Task) -> Backbone:
    """A backbone with the numbers of a user's file.

    What it knows is a task of the name that the file says, or else of the file's own name; where the stream's first
    task has that name, the classes are that task's, and the kind of its labels is.
    """
    trained = read_trained(file)
    name = trained.task or file.stem
    if trained.task is None and first.name == name:
        trained = replace(trained, multi_label=first.multi_label)
    return with_weights(backbone, trained, str(file), name, first.classes if first.name == name else ())


def known_first(stream: TaskStream, backbone: Backbone) -> TaskStream:
    """The stream with the tasks that a trained network knows in front; where it begins with them, as it is.

    Raises:
        ConfigurationError: a task of the stream has the name of a known one and another number of classes or kind of
            labels, or stands at another place. (The names of the classes may differ: ImageNet has several sets of them,
            in one order.)
    """
    front: list[Task] = []
    rest = list(stream.tasks)
    for known in backbone.trained:
        task = next((task for task in rest if task.name == known.name), None)
        if task is None:
            front.append(Task(known.name, known.classes, multi_label=known.multi_label))
            continue
        alike = (len(task.classes), task.multi_label) == (len(known.classes), known.multi_label)
        if not alike or rest[0] is not task:
            raise ConfigurationError(
                f"the trained network knows a task {known.name!r} of {len(known.classes)} classes, but the stream has "
                f"one of that name with {len(task.classes)} classes, other labels, or at another place; rename one of "
                "them."
            )
        front.append(rest.pop(0))
    return stream if len(front) + len(rest) == len(stream) else replace(stream, tasks=(*front, *rest))


def check_start(method: Method, name: str, stream: TaskStream, trained: int, training: Training) -> None:
    """Raise `ConfigurationError` if a method cannot learn this stream after so many trained tasks."""
    if trained and not method.takes_trained:
        raise ConfigurationError(f"{name!r} cannot go on from a trained network; lwf or fine-tuning, for example, can.")
    if trained and training.protocol != "lifelong":
        raise ConfigurationError("a trained network goes on under the protocol lifelong; leave out --protocol.")
    wanted = set(range(trained)) if method.looks_back else set[int]()
    for task in range(trained, len(stream)):
        wanted |= {source for stage in range(len(method.stages)) for source in method.sources(task, stage)}
    for task in sorted(wanted):
        if stream.tasks[task].train is None:
            raise ConfigurationError(
                f"{name!r} needs the training images of task {stream.tasks[task].name!r}, but there are none; "
                "choose a method that does not, such as lwf."
            )


def first_tasks(stream: TaskStream, count: int | None) -> TaskStream:
    """The stream's first so many tasks; all, if None."""
    return stream if count is None else replace(stream, tasks=stream.tasks[:count])
