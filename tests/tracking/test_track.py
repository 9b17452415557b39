"""Records for TensorBoard and MLflow, read back by their own readers."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import everlearn
from everlearn.errors import ConfigurationError, StoreError, UnknownNameError
from everlearn.experiments.records import FindingRecord
from everlearn.experiments.store import StoredRun
from everlearn.tasks.task import TaskStream
from everlearn.tracking import mlflow as sink
from everlearn.tracking import track as tracking
from everlearn.tracking.contents import Contents, contents
from everlearn.tracking.tensorboard import MARK
from everlearn.tracking.uris import check_listening
from tests.report.conftest import make_grown, make_run

FEW = ["0 or 1", "2 or 3"]


@pytest.fixture
def runs() -> list[StoredRun]:
    return [make_run(method, tasks=FEW) for method in ("stl", "hps")]


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """MLflow in files, which is quicker to make than its data base."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


def stored_in(server: str) -> list[Run]:
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("everlearn.digits")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id])


# ---------------------------------------------------------------- what is written


def test_the_numbers_are_those_of_the_table(runs: list[StoredRun]) -> None:
    table = everlearn.table_frame(runs).set_index("method")
    found = {one.settings["method"]: one.final for one in contents(runs)}
    for method, final in found.items():
        for key in ("peak_accuracy", "final_accuracy", "forgetting_ratio", "training_seconds", "parameters_total"):
            assert final[key] == pytest.approx(table.loc[method, key])
    assert "forward_transfer" in found["hps"]
    assert "forward_transfer" not in found["stl"], "a number that is not defined is left out"
    assert found["hps"]["parameters_shared"] == runs[1].result.parameters["shared"]  # type: ignore[union-attr]


def test_curves_are_the_lines_of_the_run(tiny_stream: Callable[..., TaskStream], tmp_path: Path) -> None:
    quick = {"epochs": 2, "evaluate_every": 1, "evaluate_others_every": 1}
    (run,) = everlearn.run(tiny_stream(tasks=2), ["hps"], trials=1, backbone="digits", training=quick, runs=tmp_path)
    (one,) = contents([run])
    curves = {curve.name: dict(curve.points) for curve in one.curves}
    splits = ("train", "validation", "test")
    grown = {f"until_task/{name}" for name in ("accuracy", "training_seconds")}
    tasks = {f"{k}/{s}/task {t}" for k in ("accuracy", "loss") for s in splits for t in (1, 2)}
    assert set(curves) == tasks | grown
    for line in run.evaluations:
        later = [e for e in run.evaluations if (e.epoch, e.task, e.split) == (line.epoch, line.task, line.split)][-1]
        assert curves[f"accuracy/{line.split}/{line.task}"][line.epoch] == later.accuracy
        assert curves[f"loss/{line.split}/{line.task}"][line.epoch] == later.loss
    assert [epoch for epoch, _ in one.curves[0].points] == sorted(curves[one.curves[0].name])


def test_of_several_attempts_the_kept_one_is_shown() -> None:
    run = make_run("brute-force-hps", tasks=FEW)
    line = run.evaluations[-1]
    tried = line.model_copy(update={"accuracy": 0.123, "attempt": 1, "training": "2 or 3"})
    (one,) = contents([replace(run, evaluations=(*run.evaluations, tried))])
    assert 0.123 not in {value for curve in one.curves for _, value in curve.points}
    (plain,) = contents([run])
    assert one.curves == plain.curves


def test_settings_say_what_was_asked_for() -> None:
    (one,) = contents([make_run("tf", options={"orthogonality": "0.5"}, trial=3)])
    assert one.settings["option.orthogonality"] == "0.5"
    assert (one.settings["method"], one.settings["trial"], one.settings["stream"]) == ("tf", 3, "digits")
    assert one.settings["rate"] == 1e-3


# ---------------------------------------------------------------- what methods found out


def finding(epoch: int, task: str, configuration: str, settled: bool = True, **more: Any) -> FindingRecord:
    return FindingRecord(epoch=epoch, task=task, configuration=configuration, settled=settled, **more)


def choosing() -> StoredRun:
    """A run that weighed two configurations in its first task, and tried some out in its second."""
    found = (
        finding(20, FEW[0], "10", settled=False, weights={"10": 0.6, "01": 0.4}, blocks=[0.6, 0.4]),
        finding(40, FEW[0], "11", settled=False, weights={"10": 0.7, "01": 0.3}, blocks=[0.7, 0.3]),
        finding(40, FEW[0], "10", weights={"10": 0.9, "01": 0.1}, blocks=[0.9, 0.1]),
        finding(80, FEW[1], "01", weights={"01": 0.8}),
    )
    return replace(make_run("lasem-hps", tasks=FEW), findings=found)


def test_what_was_weighed_is_sent_with_what_was_chosen() -> None:
    (one,) = contents([choosing()])
    curves = {curve.name: curve.points for curve in one.curves}
    assert curves["probability/10"] == ((20, 0.6), (40, 0.9)), "at one epoch, what was settled counts"
    assert curves["probability/01"] == ((20, 0.4), (40, 0.1))
    assert curves["transfers/block 2"] == ((20, 0.4), (40, 0.1))
    assert curves["validation_accuracy/01"] == ((80, 0.8),)
    assert one.chosen == {FEW[0]: "10", FEW[1]: "01"}


def test_what_grew_is_sent_by_layer_and_by_task() -> None:
    counts = [{"units": [4, 5]}, {"units": [6, 5], "added": [2, 0]}]
    run = make_grown("den", counts=counts, seconds=[1.0, 3.0])
    (one,) = contents([run])
    curves = {curve.name: curve.points for curve in one.curves}
    assert curves["units/layer 1"] == ((10, 4.0), (20, 6.0))
    assert curves["units/layer 2"] == ((10, 5.0), (20, 5.0))
    assert curves["added/layer 1"] == ((20, 2.0),)
    assert curves["until_task/training_seconds"] == ((10, 1.0), (20, 4.0))
    table = everlearn.growth_frame([run])
    for kind in ("auroc", "accuracy"):
        assert [value for _, value in curves[f"until_task/{kind}"]] == table[kind].tolist()
    assert one.chosen == {}, "what a network that grows counts is no choice"


def test_choices_are_text_in_tensorboard_and_tags_in_mlflow(server: str, tmp_path: Path) -> None:
    run = choosing()
    everlearn.track([run], [f"tensorboard:{tmp_path / 'logs'}", f"mlflow:{server}"])
    events = read(tmp_path / "logs" / run.folder.name)
    (text,) = events.Tensors("configurations/text_summary")
    assert f"| {FEW[1]} | 01 |" in text.tensor_proto.string_val[0].decode()
    assert [event.step for event in events.Scalars("probability/10")] == [20, 40]
    (stored,) = stored_in(server)
    assert {stored.data.tags[f"configuration/{task}"] for task in FEW} == {"10", "01"}
    assert stored.data.metrics["probability/10"] == 0.9


# ---------------------------------------------------------------- TensorBoard


def test_tensorboard_has_curves_and_numbers(runs: list[StoredRun], tmp_path: Path) -> None:
    (done,) = everlearn.track(runs, f"tensorboard:{tmp_path}")
    assert (done.written, done.kept, done.unfinished) == (2, 0, 0)
    for run, one in zip(sorted(runs, key=lambda r: r.run.config.method != "stl"), contents(runs), strict=True):
        events = read(tmp_path / run.folder.name)
        for curve in one.curves:
            shown = [(event.step, event.value) for event in events.Scalars(curve.name)]
            assert [step for step, _ in shown] == [epoch for epoch, _ in curve.points]
            assert [value for _, value in shown] == pytest.approx([value for _, value in curve.points])
        assert events.Scalars("final_accuracy")[0].value == pytest.approx(one.final["final_accuracy"])
        tags = {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"}
        assert set(events.PluginTagToContent("hparams")) == tags


def test_tensorboard_is_written_once_and_anew_where_a_run_changed(runs: list[StoredRun], tmp_path: Path) -> None:
    to = f"tensorboard:{tmp_path}"
    everlearn.track(runs[1:], to)
    folder = tmp_path / runs[1].folder.name
    before = {path.name for path in folder.iterdir()}
    assert everlearn.track(runs[1:], to)[0].kept == 1
    assert {path.name for path in folder.iterdir()} == before
    assert "forward_transfer" not in read(folder).Tags()["scalars"]
    # With the single-task run beside it, it has a forward transfer.
    assert everlearn.track(runs, to)[0].written == 2
    assert "forward_transfer" in read(folder).Tags()["scalars"]
    assert len(list(folder.glob("events*"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(run.folder.name for run in runs)


def test_what_a_killed_process_left_is_cleared_away(runs: list[StoredRun], tmp_path: Path) -> None:
    name = runs[0].folder.name
    (tmp_path / f".{name}.new").mkdir()
    (tmp_path / f".{name}.new" / "events.out.tfevents.0").write_bytes(b"half")
    everlearn.track(runs[:1], f"tensorboard:{tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(list((tmp_path / name).glob("events*"))) == 1


def test_a_folder_of_somebody_else_is_left_alone(runs: list[StoredRun], tmp_path: Path) -> None:
    other = tmp_path / runs[1].folder.name
    other.mkdir()
    (other / "mine").write_text("x")
    with pytest.raises(StoreError, match="not written by everlearn"):
        everlearn.track(runs, f"tensorboard:{tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == [other.name], "nothing is written half"
    assert (other / "mine").exists()
    assert not (other / MARK).exists()


# ---------------------------------------------------------------- MLflow


def test_mlflow_has_curves_and_numbers(runs: list[StoredRun], server: str) -> None:
    (done,) = everlearn.track(runs, f"mlflow:{server}")
    assert (done.written, done.kept) == (2, 0)
    found = {run.data.params["method"]: run for run in stored_in(server)}
    for one in contents(runs):
        run = found[str(one.settings["method"])]
        assert run.info.status == "FINISHED"
        assert run.info.run_name == one.name
        assert run.data.params == {name: str(value) for name, value in one.settings.items()}
        assert run.data.metrics["final_accuracy"] == one.final["final_accuracy"]
        curve = one.curves[0]
        history = MlflowClient(server).get_metric_history(run.info.run_id, curve.name)
        assert sorted((point.step, point.value) for point in history) == list(curve.points)


def test_mlflow_is_written_once_and_anew_where_a_run_changed(runs: list[StoredRun], server: str) -> None:
    to = f"mlflow:{server}"
    everlearn.track(runs[1:], to)
    (first,) = stored_in(server)
    assert everlearn.track(runs[1:], to)[0].kept == 1
    assert [run.info.run_id for run in stored_in(server)] == [first.info.run_id]
    assert everlearn.track(runs, to)[0].written == 2
    assert len(stored_in(server)) == 2
    assert first.info.run_id not in {run.info.run_id for run in stored_in(server)}


def test_a_run_that_is_half_there_is_written_again(
    runs: list[StoredRun], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(run: Contents, when: int) -> list[object]:
        raise KeyboardInterrupt

    with monkeypatch.context() as here:
        here.setattr(sink, "_metrics", killed)
        with pytest.raises(KeyboardInterrupt):
            everlearn.track(runs[:1], f"mlflow:{server}")
    assert [run.data.metrics for run in stored_in(server)] == [{}]
    assert everlearn.track(runs[:1], f"mlflow:{server}")[0].written == 1
    (run,) = stored_in(server)
    assert run.data.metrics["final_accuracy"] > 0


def test_names_that_mlflow_does_not_take_stay_apart(server: str) -> None:
    run = make_run("hps", tasks=["a&b", "a|b"])
    everlearn.track([run], f"mlflow:{server}")
    (stored,) = stored_in(server)
    assert {"accuracy/test/a_b", "accuracy/test/a_b_"} <= stored.data.metrics.keys()


def test_many_numbers_are_sent_in_parts(runs: list[StoredRun], server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "_METRICS", 7)
    monkeypatch.setattr(sink, "_PARAMS", 3)
    everlearn.track(runs[:1], f"mlflow:{server}")
    (stored,) = stored_in(server)
    (one,) = contents(runs[:1])
    assert len(stored.data.params) == len(one.settings)
    assert len(stored.data.metrics) == len(one.final) + len(one.curves)


# ---------------------------------------------------------------- mistakes


def test_unfinished_runs_are_left_out(runs: list[StoredRun], tmp_path: Path) -> None:
    half = make_run("tf", tasks=FEW, finished=False)
    (done,) = everlearn.track([*runs, half], f"tensorboard:{tmp_path / 'logs'}")
    assert (done.written, done.unfinished) == (2, 1)
    with pytest.raises(ConfigurationError, match="at least one finished run"):
        everlearn.track([half], f"tensorboard:{tmp_path / 'other'}")
    assert not (tmp_path / "other").exists()


def test_targets_that_are_none(runs: list[StoredRun], tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean tensorboard"):
        everlearn.track(runs, "tensorbord:x")
    with pytest.raises(ConfigurationError, match="needs a folder"):
        everlearn.track(runs, "tensorboard:")
    with pytest.raises(ConfigurationError, match="say where"):
        everlearn.track(runs, [])
    with pytest.raises(StoreError, match="no folder"):
        everlearn.track(tmp_path / "none", f"tensorboard:{tmp_path}")
    for uri in ("foo://bar", "http:/localhost", "http://localhost:port", "localhost:5000"):
        with pytest.raises(ConfigurationError, match=re.escape(f"sqlite:///mlflow.db, but came as '{uri}'")):
            everlearn.track(runs, f"mlflow:{uri}")
    with pytest.raises(ConfigurationError, match="folder of this machine"):
        everlearn.track(runs, "tensorboard:s3://bucket/logs")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="could not be written"):
        everlearn.track(runs, f"tensorboard:{tmp_path / 'file'}")


@pytest.mark.filterwarnings("ignore")  # of MLflow's own tables
@pytest.mark.parametrize("uri", ["sqlite://nowhere/mlflow.db", "mysql+none://nowhere/mlflow"])
def test_a_data_base_that_cannot_be_opened_is_one_sentence(runs: list[StoredRun], uri: str) -> None:
    with pytest.raises(StoreError, match="could not be written"):
        everlearn.track(runs, f"mlflow:{uri}")


def test_a_server_that_is_down_is_found_out_at_once(runs: list[StoredRun], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    for to in ("mlflow:http://127.0.0.1:9", "mlflow"):
        begun = monotonic()
        with pytest.raises(StoreError, match=r"nobody listens there.*mlflow server"):
            everlearn.track(runs, to)
        assert monotonic() - begun < 10
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:8")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    check_listening("http://far.example:9")  # which only the proxy can tell


def test_runs_at_a_url_are_tracked_as_they_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLEARN_SCRATCH", str(tmp_path / "scratch"))
    url = "memory://tracked/runs"
    options = {"trials": 1, "training": {"epochs": 1}, "stream_options": {"train": 10}, "workers": 0}
    (run,) = everlearn.run("digits", ["stl"], runs=url, **options)
    (done,) = everlearn.track(url, f"tensorboard:{tmp_path / 'logs'}")
    assert done.written == 1
    assert (tmp_path / "logs" / run.folder.name / MARK).is_file()


def test_without_its_library_it_says_which_extra(runs: list[StoredRun], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(tracking, "import_module", missing)
    for to in ("tensorboard:x", "mlflow"):
        with pytest.raises(ConfigurationError, match=r"pip install everlearn\[track\]"):
            everlearn.track(runs, to)
