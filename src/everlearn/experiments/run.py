"""`everlearn.run`: an experiment from start to end, and again only what is missing."""

import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import torch

from everlearn.errors import ConfigurationError, EverlearnError, EverlearnWarning, UnknownNameError
from everlearn.experiments import store
from everlearn.experiments.cluster import Cluster, cluster_of, connected
from everlearn.experiments.elsewhere import bring, place_of
from everlearn.experiments.execute import CHECKPOINT_SECONDS, Place, check_device
from everlearn.experiments.files import explained
from everlearn.experiments.on_ray import run_on_ray
from everlearn.experiments.plan import Request, Value, first_training, plan_runs, stream_config, with_changes
from everlearn.experiments.pool import run_here, run_in_processes
from everlearn.experiments.presets import preset_of
from everlearn.experiments.progress import show
from everlearn.experiments.records import RunConfig
from everlearn.experiments.starts import check_start, given_backbone, known_first, start_of
from everlearn.experiments.store import StoredRun
from everlearn.experiments.together import check_alone, is_first, joined, launched
from everlearn.experiments.worker import Report
from everlearn.methods.catalogue import make_method, network_name, option_names
from everlearn.networks.papers import make_backbone
from everlearn.tasks import make_stream, stream_of
from everlearn.tasks.task import TaskStream
from everlearn.training.augmentation import check_augmentation
from everlearn.training.precision import has_bfloat16
from everlearn.training.settings import Training


def run(
    stream: str | TaskStream,
    methods: Sequence[str] = (),
    *,
    trials: int | None = None,
    seed: int = 0,
    same_stream: bool = False,
    backbone: str | None = None,
    training: Mapping[str, Value] | None = None,
    options: Mapping[str, Value] | None = None,
    stream_options: Mapping[str, Value] | None = None,
    start: str | Path | None = None,
    first: Mapping[str, Value] | None = None,
    sweep: Mapping[str, Sequence[Value]] | None = None,
    data: str | Path | None = None,
    runs: str | Path = "runs",
    workers: int | None = None,
    device: str = "cpu",
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    keep_weights: bool = False,
    quiet: bool = False,
    ray: str | None = None,
    cores_per_run: float = 1.0,
    gpus_per_run: float | None = None,
) -> list[StoredRun]:
    """Run every method on every trial's stream; what is finished is not done again, what is half done goes on.

    Args:
        stream: name of a stream (`everlearn streams`), a YAML file or folder that tells one (`./photos`), or tasks of
            your own, which are learned in this process.
        methods: names of methods (`everlearn methods`), with a configuration ("df-cnn@top-2") and options of their
            own ("lwf+response=l1") if wanted, or `file.py:Name`; empty: the stream's own.
        trials: independent runs of each method; None: the stream's own number.
        seed: of the first trial's stream; trial i draws its stream from `seed + i`.
        same_stream: one stream for all trials, which then differ in start, order and dropout alone.
        backbone: name of a backbone, or `file.py:Name`; None: the stream's own.
        training: settings of `everlearn.Training` that differ from the stream's own.
        options: hyper-parameters of the methods and rules; each method takes those that it has.
        stream_options: options of the stream.
        start: file of a trained network that every method goes on from: safetensors or a state dict, with the names
            that `LifelongNetwork.export` gives.
        first: settings that differ from the stream's own of the training of its first task, where that is a network
            that every method goes on from.
        sweep: options of the stream with several values each, all of which are run: `{"fraction": [0.03, 0.1]}`.
        data: folder of data sets; None: the folder that EVERLEARN_DATA names, or the hub.
        runs: the folder that run folders are written to, or a URL that fsspec knows (`s3://bucket/runs`).
        workers: processes at a time; None: one a core; 0: work in this process.
        device: `cpu`, `cuda`, `cuda:1`.
        checkpoint_seconds: what a killed run loses at most.
        keep_weights: leave the final weights in each run's folder.
        quiet: no progress bars; there are none anyway where the output is no terminal.
        ray: the runs are tasks of the Ray cluster at this address, `host:port`, or `auto` for the one that this
            machine belongs to; None: they are done on this machine.
        cores_per_run: that a task of the cluster takes up.
        gpus_per_run: that a task of the cluster takes up; None: one if the device is `cuda`, else none.

    Returns:
        The runs of this experiment, as they lie on disk. Under `torchrun` all processes train each run together, by
        parts of every batch, and process 0 writes.

    Raises:
        EverlearnError: anything that a user can mend; nothing is written when the request itself is at fault.
    """
    request = asked_for(
        stream, methods, trials, seed, same_stream, backbone, training, options, stream_options, start, first, data,
        sweep,
    )  # fmt: skip
    check_place("cpu" if ray else device, workers)  # a cluster has devices that this machine has not
    check_alone(workers)
    place = place_of(runs, Place(Path(runs), device, checkpoint_seconds, keep_weights, request.start))
    cluster = cluster_of(ray, cores_per_run, gpus_per_run, device) if ray else None
    _check_far(place, workers, cluster, request.given, gpus_per_run)
    count = cluster or processes(request, workers)
    with connected(cluster):
        return _complete(request, place, count, quiet)


def asked_for(
    stream: str | TaskStream,
    methods: Sequence[str],
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
    """The request that the arguments of `run` make: files and folders found, a YAML file or folder read as a stream."""
    given = stream if isinstance(stream, TaskStream) else None
    name, told = stream_of(stream, stream_options or {}) if isinstance(stream, str) else (stream.name, {})
    return Request(
        name, tuple(methods), trials, seed, same_stream, backbone, training or {}, options or {}, told,
        data_folder(data), given, None if start is None else Path(start).expanduser(), first or {}, sweep or {},
    )  # fmt: skip


def processes(request: Request, workers: int | None) -> int:
    """How many work at a time: one a core unless a number is said; 0, this one, for tasks of the user's own."""
    if request.given is not None:
        return 0
    return (os.cpu_count() or 1) if workers is None else workers


def _complete(request: Request, place: Place, count: int | Cluster, quiet: bool) -> list[StoredRun]:
    """Check what was asked for, do what is missing of it in so many processes, and read all of it."""
    configs = check(request, plan_runs(request))
    if not isinstance(count, Cluster):  # which has devices of its own
        _warn_of_precision(configs, place.device)
    with explained(place.root):
        place.root.mkdir(parents=True, exist_ok=True)
    if launched():
        first = first_training(preset_of(request.stream), request)
        folders = [store.run_folder(place.root, config) for config in configs]
        folders += [store.run_folder(place.root / store.STARTS, start) for start in _starts(configs, first)]
        with joined(place, folders) as mine:
            _do(request, configs, mine, 0, quiet or not is_first())
            return [store.read_run(store.run_folder(mine.root, config)) for config in configs]
    missing = _unfinished(place, configs)
    _do(request, configs, place, count, quiet)
    bring(place, configs)
    done = [store.read_run(store.run_folder(place.root, config)) for config in configs]
    _warn(done, missing)
    return done


def _do(request: Request, configs: Sequence[RunConfig], place: Place, count: int | Cluster, quiet: bool) -> None:
    """Do what is missing: first what other runs go on from."""
    missing = _unfinished(place, configs)
    starts = _starts(missing, first_training(preset_of(request.stream), request))
    _work(request, starts, place.below(store.STARTS), count, quiet)
    _work(request, missing, place, count, quiet)


def _unfinished(place: Place, configs: Sequence[RunConfig]) -> list[RunConfig]:
    """The runs that have no result yet; what a URL has of finished ones is here then."""
    bring(place, configs)
    return [c for c in configs if not (store.run_folder(place.root, c) / store.RESULT).exists()]


def _work(request: Request, configs: Sequence[RunConfig], place: Place, workers: int | Cluster, quiet: bool) -> None:
    """Do what is not finished of these runs, in so many processes; in this one, if 0."""
    todo = _unfinished(place, configs)
    if not todo:
        return
    if isinstance(workers, Cluster):
        _watch(todo, run_on_ray(todo, request.data, place, workers), quiet)
    elif workers:
        _watch(todo, run_in_processes(todo, request.data, place, workers), quiet)
    else:
        _watch(todo, run_here(todo, request.data, place, request.given), quiet)


def _starts(missing: Sequence[RunConfig], first: Training | None) -> list[RunConfig]:
    """The runs that train what the missing ones go on from, each once."""
    if first is None:
        return []
    return list({config.start: start_of(config, first) for config in missing}.values())


def _warn(done: Sequence[StoredRun], missing: Sequence[RunConfig]) -> None:
    """Say what the methods that were run now had doubts about."""
    new = {store.run_id(config) for config in missing}
    for run in done:
        for text in run.result.warnings if run.result and run.run.id in new else ():
            warnings.warn(
                f"{run.run.config.method}, trial {run.run.config.trial}: {text}", EverlearnWarning, stacklevel=3
            )


def _warn_of_precision(configs: Sequence[RunConfig], device: str) -> None:
    if any(config.training.precision == "bfloat16" for config in configs) and not has_bfloat16(torch.device(device)):
        warnings.warn(
            f"{device} does not compute with bfloat16 here: PyTorch imitates it, which takes about three times as "
            "long as float32; leave out precision=bfloat16 unless it is the numbers that you want.",
            EverlearnWarning,
            stacklevel=4,
        )


def data_folder(data: str | Path | None) -> Path | None:
    """The folder of data sets: as given, or as EVERLEARN_DATA says."""
    named = data or os.environ.get("EVERLEARN_DATA") or None
    return None if named is None else Path(named).expanduser().resolve()


def check_place(device: str, workers: int | None) -> None:
    """Raise `ConfigurationError` for a device that this machine does not have, or less than no workers."""
    if workers is not None and workers < 0:
        raise ConfigurationError(
            f"workers needs a whole number of at least 0 (0: this process), but came as {workers}."
        )
    check_device(device)


def _check_far(
    place: Place, workers: int | None, cluster: Cluster | None, given: TaskStream | None, gpus: float | None
) -> None:
    """Raise `ConfigurationError` for what cannot be done at a URL or on a cluster."""
    if cluster is None and gpus is not None:
        raise ConfigurationError("gpus_per_run is of a Ray cluster; say which with ray=auto (--ray auto), or leave it.")
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
    seen: dict[str, str] = {}
    for config in configs:
        spelt = f"{config.method} {sorted(config.options.items())}"
        if spelt not in seen:
            known[config.method], seen[spelt] = _check_method(request, config, stream)
        options = {name: value for name, value in config.options.items() if name in known[config.method]}
        planned = config.model_copy(update={"options": options, "start": config.start or seen[spelt]})
        checked.setdefault(store.run_id(planned), planned)
    every = {name for names in known.values() for name in names}
    wanted = [(option, every) for option in request.options]
    for method, changes in map(with_changes, request.methods):
        wanted += [(option, set(known[method])) for option in changes]
    for option, names in wanted:
        if option not in names:
            raise UnknownNameError("option of these methods", option, names - {"configuration", "shared_head"})
    return list(checked.values())


def first_stream(request: Request) -> TaskStream:
    """The stream of the first trial.

    Raises:
        EverlearnError: it cannot be made, or its data is missing.
    """
    first = stream_config(request.each()[0], 0)
    return request.given or make_stream(first.name, first.seed, request.data, first.options)


def _check_method(request: Request, config: RunConfig, stream: TaskStream) -> tuple[list[str], str]:
    """A method's options, and what says which trained network came with its backbone."""
    check_augmentation(config.training.augment)
    backbone = make_backbone(network_name(config.method, config.backbone), stream.image_shape)
    if request.start is not None:
        backbone = given_backbone(backbone, request.start, stream.tasks[0])
    whole = known_first(stream, backbone)
    method = make_method(config.method, config.backbone, len(whole), config.options)
    method.network(backbone, len(whole), 0)
    check_start(method, config.method, whole, 1 if config.start else len(backbone.trained), config.training)
    if config.training.protocol not in method.protocols:
        raise ConfigurationError(
            f"{config.method!r} learns under the protocol {' or '.join(method.protocols)} only, but "
            f"{config.training.protocol} was asked for; give --protocol {method.protocols[0]}."
        )
    mark = backbone.fingerprint()
    return option_names(method), f"weights:{mark}" if mark else ""


def _watch(configs: Sequence[RunConfig], reports: Generator[Report], quiet: bool) -> None:
    errors: dict[str, list[str]] = {}
    watched: Callable[[Iterator[Report]], Iterator[Report]] = (lambda r: r) if quiet else (lambda r: show(configs, r))
    with closing(reports):
        for report in watched(reports):
            if report.error:
                config = configs[report.run]
                errors.setdefault(report.error, []).append(f"{config.method} (trial {config.trial})")
    if errors:
        raise EverlearnError("\n".join(f"{', '.join(runs)}: {error}" for error, runs in errors.items()))
