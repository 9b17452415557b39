"""MLflow: an experiment for each stream, a run for each run."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient, get_tracking_uri

from everlearn.errors import StoreError
from everlearn.tracking.contents import Contents
from everlearn.tracking.uris import check_listening, check_uri

RUN, MARK = "everlearn.run", "everlearn.contents"
"""Tags: the run's id, and a hash of what is written. The hash is set last, so a run that has it is whole."""

_METRICS, _PARAMS = 1000, 100
"""What MLflow takes at a time."""


def write(runs: Sequence[Contents], where: str) -> int:
    """Write runs to MLflow; return how many were not there as they are now.

    A run that is there with other numbers, or half, is deleted (MLflow keeps deleted runs for a while) and made anew.

    Args:
        runs: what is written.
        where: URI of a server or a data base; empty: what MLflow is set to.

    Raises:
        ConfigurationError: no such URI.
        StoreError: MLflow does not take it, or nobody listens there.
    """
    place = where or get_tracking_uri()
    check_uri(place)
    check_listening(place)
    with _explained(where):
        client = MlflowClient(where or None)
        return sum(_write(client, run) for run in runs)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except _faults() as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise StoreError(f"MLflow at {where or 'its default'} could not be written: {said[0]}") from None


def _faults() -> tuple[type[Exception], ...]:
    """What goes wrong outside of here; SQLAlchemy comes with MLflow itself, and not with its client."""
    known = (MlflowException, ImportError, OSError)
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return known
    return (*known, SQLAlchemyError)


def _write(client: MlflowClient, run: Contents) -> bool:
    experiment = _experiment(client, f"everlearn.{run.stream}")
    there = client.search_runs([experiment], filter_string=f"tags.`{RUN}` = '{run.run}'")
    if any(_mark(one) == run.mark for one in there):
        return False
    for one in there:
        client.delete_run(one.info.run_id)
    when = int(datetime.fromisoformat(run.finished).timestamp() * 1000)
    made = client.create_run(experiment, start_time=when, run_name=run.name, tags={RUN: run.run}).info.run_id
    params = [Param(name, str(value)) for name, value in run.settings.items()]
    for at in range(0, len(params), _PARAMS):
        client.log_batch(made, params=params[at : at + _PARAMS])
    metrics = _metrics(run, when)
    for at in range(0, len(metrics), _METRICS):
        client.log_batch(made, metrics=metrics[at : at + _METRICS])
    tags = [RunTag(name, run.chosen[task]) for task, name in _named("configuration/", run.chosen).items()]
    for at in range(0, len(tags), _PARAMS):
        client.log_batch(made, tags=tags[at : at + _PARAMS])
    client.set_tag(made, MARK, run.mark)
    client.set_terminated(made, end_time=when)
    return True


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return client.create_experiment(name) if found is None else found.experiment_id


def _mark(run: Run) -> str:
    return run.data.tags.get(MARK, "")


def _metrics(run: Contents, when: int) -> list[Metric]:
    found = [Metric(name, value, when, 0) for name, value in run.final.items()]
    names = _named("", [curve.name for curve in run.curves])
    for curve in run.curves:
        found += [Metric(names[curve.name], value, when, epoch) for epoch, value in curve.points]
    return found


def _named(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """Names of metrics or tags as MLflow takes them, letters, digits and a few signs; no two are the same."""
    found: dict[str, str] = {}
    for name in names:
        allowed = re.sub(r"[^\w\-./ :]", "_", prefix + name, flags=re.ASCII)
        while allowed in found.values():  # two tasks whose names differ in what MLflow does not take
            allowed += "_"
        found[name] = allowed
    return found
