"""From what a person asks for to a request that can be done: what is wrong is said before anything is written."""

import os
import warnings
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import torch

from everlearn.errors import ConfigurationError, EverlearnWarning, UnknownNameError
from everlearn.experiments import store
from everlearn.experiments.cluster import Cluster, cluster_of
from everlearn.experiments.execute import Place, check_device
from everlearn.experiments.kinds import (
    check_lists,
    check_path,
    check_stream,
    check_truth,
    check_values,
    checked_methods,
    checked_whole,
)
from everlearn.experiments.plan import Request, Value, first_training, stream_config, with_changes
from everlearn.experiments.presets import preset_of
from everlearn.experiments.records import RunConfig
from everlearn.experiments.starts import check_start, given_backbone, known_first
from everlearn.experiments.together import check_alone, launched
from everlearn.methods.catalogue import make_method, network_name, option_names, said_options
from everlearn.networks.papers import make_backbone
from everlearn.networks.parts import check_one_head
from everlearn.tasks import make_stream, stream_of
from everlearn.tasks.task import TaskStream
from everlearn.training.augmentation import check_augmentation
from everlearn.training.precision import has_bfloat16
from everlearn.training.settings import warn_of_unread


def asked_for(
    stream: str | TaskStream,
    methods: Sequence[str] | None,
    trials: int | None,
    seed: int,
    same_stream: bool,
    backbone: str | None,
    training: Mapping[str, Value] | None,
    options: Mapping[str, Value] | None,
    stream_options: Mapping[str, Value] | None,
    start: str | Path | None,
    first: Mapping[str, Value] | None,
    data: str | Path | None,
    sweep: Mapping[str, Sequence[Value]] | None = None,
) -> Request:
    """The request that the arguments of `run` make: files and folders found, a YAML file or folder read as a stream.

    Raises:
        ConfigurationError: an argument of another kind than it should be.
        EverlearnError: a file that cannot be read as a stream.
    """
    check_stream(stream)
    named = {"training": training, "options": options, "stream_options": stream_options, "first": first}
    for what, values in named.items():
        check_values(what, values)
    for what, path in {"backbone": backbone, "start": start, "data": data}.items():
        check_path(what, path)
    check_lists("sweep", sweep)
    check_truth("same_stream", same_stream)
    _check_swept(sweep or {}, stream_options or {})
    backbone = None if backbone is None else str(backbone)
    chosen = () if methods is None else checked_methods(methods)
    trials, seed = None if trials is None else checked_whole("trials", trials), checked_whole("seed", seed)
    given = stream if isinstance(stream, TaskStream) else None
    if given is not None and stream_options:
        raise ConfigurationError(
            f"stream_options came as {dict(stream_options)!r} with a stream that is made already, which cannot take "
            "them; make it with them (make_stream), or give its name."
        )
    name, told = stream_of(stream, stream_options or {}) if isinstance(stream, str) else (stream.name, {})
    return Request(
        name, chosen, trials, seed, same_stream, backbone, training or {}, options or {}, told,
        data_folder(data), given, None if start is None else Path(start).expanduser(), first or {}, sweep or {},
    )  # fmt: skip


def _check_swept(sweep: Mapping[str, Sequence[Value]], options: Mapping[str, Value]) -> None:
    for name, values in sweep.items():
        if name in options:
            raise ConfigurationError(
                f"{name} is swept over ({', '.join(map(str, values))}) and has a value as well, {options[name]}; leave "
                "out one of the two."
            )


def data_folder(data: str | Path | None) -> Path | None:
    """The folder of data sets: as given, or as EVERLEARN_DATA says."""
    named = data or os.environ.get("EVERLEARN_DATA") or None
    return None if named is None else Path(named).expanduser().resolve()


def crew_of(
    place: Place,
    given: TaskStream | None,
    workers: int | None,
    ray: str | None,
    cores: float | None,
    gpus: float | None,
) -> int | Cluster:
    """Who does the runs: so many processes of this machine, or a cluster.

    Raises:
        ConfigurationError: what was asked for does not exist here, or does not go together.
    """
    if ray is not None and not ray.strip():
        raise ConfigurationError(
            "the address of a Ray cluster is HOST:PORT or auto, but came empty; say one, or leave ray (--ray) out."
        )
    device = "cpu" if ray else place.device  # a cluster has devices that this machine has not
    check_place(device, workers, place.checkpoint_seconds)
    check_alone(workers)
    cluster = cluster_of(ray, cores, gpus, place.device) if ray else None
    check_far(place, workers, cluster, given, cores, gpus)
    return cluster or processes(given, workers)


def processes(given: TaskStream | None, workers: int | None) -> int:
    """How many work at a time: one a core unless a number is said; 0, this one, for tasks of the user's own."""
    if given is not None:
        return 0
    return (os.cpu_count() or 1) if workers is None else workers


def check_place(device: str, workers: int | None, seconds: float) -> None:
    """Raise `ConfigurationError` for a device that is not here, less than no workers, or seconds that never pass."""
    if not seconds >= 0:  # nor is "not a number"
        raise ConfigurationError(f"checkpoint_seconds needs a number of at least 0, but came as {seconds}.")
    if workers is not None and checked_whole("workers", workers) < 0:
        raise ConfigurationError(
            f"workers needs a whole number of at least 0 (0: this process), but came as {workers}."
        )
    check_device(device)


def check_far(
    place: Place,
    workers: int | None,
    cluster: Cluster | None,
    given: TaskStream | None,
    cores: float | None,
    gpus: float | None,
) -> None:
    """Raise `ConfigurationError` for what cannot be done at a URL or on a cluster."""
    if cluster is None and (cores is not None or gpus is not None):
        share = "gpus_per_run" if cores is None else "cores_per_run"
        raise ConfigurationError(f"{share} is of a Ray cluster; say which with ray=auto (--ray auto), or leave it.")
    if cluster is not None and workers is not None:
        raise ConfigurationError(
            "runs are done by workers of this machine or by a Ray cluster, but both were asked for; leave one out."
        )
    if cluster is not None and given is not None:
        raise ConfigurationError(
            "tasks of your own are learned in this process; leave out ray, or write them as a file."
        )
    if launched() and (cluster is not None or place.url is not None):
        raise ConfigurationError(
            "torchrun's processes share one folder and no cluster; give a folder, and leave out ray."
        )
    if place.url and place.url.startswith("memory:") and (cluster is not None or (workers != 0 and given is None)):
        raise ConfigurationError("memory:// is of one process; give workers=0 (--workers 0), or another URL.")


def check(request: Request, configs: Sequence[RunConfig], stream: TaskStream | None = None) -> list[RunConfig]:
    """Find what a user got wrong before anything is written; leave each run the options that its method has.

    Args:
        request: what was asked for.
        configs: its runs.
        stream: the first trial's, if it has been made already.

    Raises:
        EverlearnError: the stream, its data, a method, an option, a configuration or a layer's size.
    """
    stream = stream or first_stream(request)
    known: dict[str, list[str]] = {}
    checked: dict[str, RunConfig] = {}
    seen: dict[str, tuple[dict[str, str], str]] = {}
    for config in configs:
        spelt = f"{config.method} {sorted(config.options.items())}"
        if spelt not in seen:
            known[config.method], seen[spelt] = _check_method(request, config, stream)
        options, start = seen[spelt]
        planned = config.model_copy(update={"options": options, "start": config.start or start})
        checked.setdefault(store.run_id(planned), planned)
    every = {name for names in known.values() for name in names}
    wanted = [(option, every) for option in request.options]
    for method, changes in map(with_changes, request.methods):
        wanted += [(option, set(known[method])) for option in changes]
    for option, names in wanted:
        check_option(option, names)
    return list(checked.values())


def check_option(name: str, known: Set[str]) -> None:
    """Raise `UnknownNameError` for an option that is none of those that some methods have."""
    if name not in known:
        raise UnknownNameError("option of these methods", name, known - {"configuration", "shared_head"})


def first_stream(request: Request) -> TaskStream:
    """The stream of the first trial.

    Raises:
        EverlearnError: it cannot be made, or its data is missing.
    """
    first = stream_config(request.each()[0], 0)
    return request.given or make_stream(first.name, first.seed, request.data, first.options)


def _check_method(
    request: Request, config: RunConfig, stream: TaskStream
) -> tuple[list[str], tuple[dict[str, str], str]]:
    """The options that a method has; those that it is given, and what says which trained network it goes on from."""
    check_augmentation(config.training.augment)
    backbone = make_backbone(network_name(config.method, config.backbone), stream.image_shape)
    if request.start is not None:
        backbone = given_backbone(backbone, request.start, stream.tasks[0])
    whole = known_first(stream, backbone)
    method = make_method(config.method, config.backbone, len(whole), config.options)
    if method.network(backbone, len(whole), 0).one_head:
        check_one_head([len(task.classes) for task in whole.tasks])
    check_start(method, config.method, whole, 1 if config.start else len(backbone.trained), config.training)
    if config.training.protocol not in method.protocols:
        raise ConfigurationError(
            f"{config.method!r} learns under the protocol {' or '.join(method.protocols)} only, but "
            f"{config.training.protocol} was asked for; give --protocol {method.protocols[0]}."
        )
    mark = backbone.fingerprint()
    options = said_options(config.method, config.backbone, len(whole), config.options)
    return option_names(method), (options, f"weights:{mark}" if mark else "")


def warn_of_precision(configs: Sequence[RunConfig], device: str) -> None:
    """Warn where bfloat16 was asked for and the device has no such arithmetic."""
    if any(config.training.precision == "bfloat16" for config in configs) and not has_bfloat16(torch.device(device)):
        warnings.warn(
            f"{device} does not compute with bfloat16 here: PyTorch imitates it, which takes about three times as "
            "long as float32; leave out precision=bfloat16 unless it is the numbers that you want.",
            EverlearnWarning,
            stacklevel=4,
        )


def warn_of_settings(request: Request, configs: Sequence[RunConfig]) -> None:
    """Warn of settings that the optimiser or the schedule does not read."""
    first = first_training(preset_of(request.stream), request)
    warn_of_unread(request.training, [config.training for config in configs])
    warn_of_unread(request.first, [] if first is None else [first])


def warn_of_turns(processes: int, device: str) -> None:
    """Warn where several processes share a GPU that lets only one at a time compute."""
    pipe = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")) / "control"
    if processes > 1 and device.startswith("cuda") and not pipe.exists():
        warnings.warn(
            f"{processes} processes share the GPU by turns, so that they do no more than one; "
            "`nvidia-cuda-mps-control -d`, given before, lets them compute side by side (docs/performance.md).",
            EverlearnWarning,
            stacklevel=4,
        )
