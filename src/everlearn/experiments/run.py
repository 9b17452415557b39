"""`everlearn.run`: an experiment from start to end, and again only what is missing."""

import warnings
from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from everlearn.errors import EverlearnError, EverlearnWarning
from everlearn.experiments import store
from everlearn.experiments.asking import asked_for, check, crew_of, warn_of_precision, warn_of_settings, warn_of_turns
from everlearn.experiments.cluster import Cluster, connected
from everlearn.experiments.elsewhere import bring, place_of
from everlearn.experiments.execute import CHECKPOINT_SECONDS, Place
from everlearn.experiments.files import explained
from everlearn.experiments.kinds import check_path
from everlearn.experiments.on_ray import run_on_ray
from everlearn.experiments.plan import Request, Value, first_training, plan_runs, spelt
from everlearn.experiments.pool import run_here, run_in_processes
from everlearn.experiments.presets import preset_of
from everlearn.experiments.progress import show
from everlearn.experiments.records import RunConfig
from everlearn.experiments.starts import start_of
from everlearn.experiments.store import StoredRun
from everlearn.experiments.together import is_first, joined, launched
from everlearn.experiments.worker import Report
from everlearn.tasks.task import TaskStream
from everlearn.training.settings import Training


def run(
    stream: str | TaskStream,
    methods: Sequence[str] | None = None,
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
    cores_per_run: float | None = None,
    gpus_per_run: float | None = None,
) -> list[StoredRun]:
    """Run every method on every trial's stream; what is finished is not done again, what is half done goes on.

    Args:
        stream: name of a stream (`everlearn streams`), a YAML file or folder that tells one (`./photos`), or tasks of
            your own, which are learned in this process.
        methods: names of methods (`everlearn methods`), with a configuration ("df-cnn@top-2") and options of their
            own ("lwf+response=l1") if wanted, or `file.py:Name`; None: the stream's own.
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
        cores_per_run: that a task of the cluster takes up; None: one.
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
    check_path("runs", runs)
    place = place_of(runs, Place(Path(runs), device, checkpoint_seconds, keep_weights, request.start))
    count = crew_of(place, request.given, workers, ray, cores_per_run, gpus_per_run)
    with connected(count):
        return complete(request, place, count, quiet)


def complete(
    request: Request, place: Place, count: int | Cluster, quiet: bool, elsewhere: Container[str] = ()
) -> list[StoredRun]:
    """Check what was asked for, do what is missing of it in so many processes, and read all of it.

    Args:
        request: what was asked for.
        place: where the runs lie.
        count: processes at a time, or a cluster.
        quiet: no progress bars.
        elsewhere: names of runs that are finished in other folders: they are neither done nor read.

    Raises:
        EverlearnError: anything that a user can mend; nothing is written when the request itself is at fault.
    """
    planned = check(request, plan_runs(request))
    warn_of_settings(request, planned)
    configs = [config for config in planned if store.run_id(config) not in elsewhere]
    if not isinstance(count, Cluster):  # which has devices of its own
        warn_of_precision(configs, place.device)
    with explained(place.root):
        place.root.mkdir(parents=True, exist_ok=True)
    missing = _unfinished(place, configs)
    if place.keep_weights and is_first():
        _warn_of_weights(place, configs)
    if launched():
        first = first_training(preset_of(request.stream), request)
        folders = [store.run_folder(place.root, config) for config in configs]
        folders += [store.run_folder(place.root / store.STARTS, start) for start in _starts(configs, first)]
        with joined(place, folders) as mine:
            _do(request, configs, mine, 0, quiet or not is_first())
            return [store.read_run(store.run_folder(mine.root, config)) for config in configs]
    if not isinstance(count, Cluster):
        warn_of_turns(min(count, len(missing)), place.device)
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


def _warn_of_weights(place: Place, configs: Sequence[RunConfig]) -> None:
    """Say which runs were finished before without leaving their weights, which nothing has any more."""
    finished = [f for c in configs if ((f := store.run_folder(place.root, c)) / store.RESULT).exists()]
    if bare := [folder.name for folder in finished if not (folder / store.WEIGHTS).exists()]:
        warnings.warn(
            f"{', '.join(bare)}: finished before without leaving weights, so there are none to keep; to have them, "
            f"give another folder of runs, or remove what is named here from {place.url or place.root}.",
            EverlearnWarning,
            stacklevel=4,
        )


def _warn(done: Sequence[StoredRun], missing: Sequence[RunConfig]) -> None:
    """Say what the methods that were run now had doubts about."""
    new = {store.run_id(config) for config in missing}
    for run in done:
        for text in run.result.warnings if run.result and run.run.id in new else ():
            warnings.warn(
                f"{spelt(run.run.config)}, trial {run.run.config.trial}: {text}", EverlearnWarning, stacklevel=3
            )


def _watch(configs: Sequence[RunConfig], reports: Generator[Report], quiet: bool) -> None:
    errors: dict[str, list[str]] = {}
    watched: Callable[[Iterator[Report]], Iterator[Report]] = (lambda r: r) if quiet else (lambda r: show(configs, r))
    with closing(reports):
        for report in watched(reports):
            if report.error:
                config = configs[report.run]
                errors.setdefault(report.error, []).append(f"{spelt(config)} (trial {config.trial})")
    if errors:
        raise EverlearnError("\n".join(f"{', '.join(runs)}: {error}" for error, runs in errors.items()))
