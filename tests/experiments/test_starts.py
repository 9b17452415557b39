"""Runs that go on from a trained network: one that was trained for them, once a trial, or one that came as a file."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import everlearn
from everlearn.errors import ConfigurationError, EverlearnError, StoreError, UnknownNameError
from everlearn.experiments import store
from everlearn.experiments.asking import check
from everlearn.experiments.execute import Place, execute
from everlearn.experiments.plan import Request, plan_runs
from everlearn.experiments.presets import PRESETS
from everlearn.experiments.records import RunConfig
from everlearn.experiments.starts import TRAINED, given_backbone, known_first, named, start_of
from everlearn.experiments.store import StoredRun, find_runs, read_run
from everlearn.methods.lwf import Lwf
from everlearn.networks.backbone import Backbone, TrainedTask
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.trained import pack_trained
from everlearn.sharing.hard import Hard
from everlearn.tasks import STREAMS, make_stream
from everlearn.tasks.info import Option
from everlearn.tasks.task import Task, TaskStream
from everlearn.testing.methods import made_stream
from everlearn.training.data import StreamData
from everlearn.training.evaluation import evaluate
from everlearn.training.settings import Training
from tests.experiments.test_resume import run_through, same
from tests.methods.family import multi_label_stream

QUICK: dict[str, Any] = {"epochs": 1, "evaluate_every": 1, "evaluate_others_every": 1}
FIRST = Training(epochs=3, rate=1e-3, reduction="sum", evaluate_every=3)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first task of digits is trained apart, once a trial."""
    monkeypatch.setitem(PRESETS, "digits", replace(PRESETS["digits"], first=FIRST))


def compared(root: Path, methods: Sequence[str] = ("lwf", "hps"), **more: Any) -> list[StoredRun]:
    asked = {"trials": 1, "training": QUICK, "runs": root, "workers": 0, "quiet": True, **more}
    return everlearn.run(asked.pop("stream", "digits"), methods, **asked)


def start_runs(root: Path) -> list[StoredRun]:
    return [read_run(path.parent) for path in sorted((root / store.STARTS).glob(f"*/{store.RUN}"))]


def files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- trained for them


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[StoredRun]]:
    """Two trials of two methods that go on from the trial's start; left as they are."""
    root = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "digits", replace(PRESETS["digits"], first=FIRST))
        return root, compared(root, trials=2)


def test_the_first_task_is_trained_once_a_trial_and_shared(both: tuple[Path, list[StoredRun]]) -> None:
    root, done = both
    starts = start_runs(root)
    by_trial = {run.run.config.trial: run for run in starts}
    assert len(starts) == len(by_trial) == 2
    for start in starts:
        config = start.run.config
        assert (config.method, config.tasks, config.start, config.training) == ("hps", 1, "", FIRST)
        assert start.run.tasks == ["0-vs-1"]
        assert start.result is not None
        assert (start.folder / TRAINED).exists()
    assert {run.run.config.start for run in done} == {f"run:{start.run.id}" for start in starts}
    for run in done:
        start = by_trial[run.run.config.trial]
        assert run.run.config.start == f"run:{start.run.id}" == named(start.run.config)
        assert [(phase.first, phase.last) for phase in run.run.phases][:2] == [(0, 0), (0, 1)]
        known = [e for e in run.evaluations if e.task == "0-vs-1"]
        last = [e for e in start.evaluations if e.split == "test"][-1]
        assert (known[0].epoch, known[0].split, known[0].training) == (0, "validation", "0-vs-1")
        first = next(e for e in known if e.split == "test")
        assert (first.epoch, last.epoch) == (0, 3)
        assert (first.accuracy, first.loss) == (last.accuracy, pytest.approx(last.loss, rel=1e-5))
        assert "train" not in {e.split for e in known}


@pytest.mark.usefixtures("apart")
def test_a_second_call_does_nothing_and_a_further_method_takes_the_same_start(tmp_path: Path) -> None:
    first = compared(tmp_path, ["lwf"])
    before = files(tmp_path)
    again = compared(tmp_path, ["lwf"])
    assert [run.run.id for run in again] == [run.run.id for run in first]
    assert files(tmp_path) == before
    compared(tmp_path, ["lwf", "fine-tuning", "lwf+response=l1"])
    after = files(tmp_path)
    assert {path: after[path] for path in before} == before, "the start and what was finished stay as they were"
    assert len(start_runs(tmp_path)) == 1
    assert len(find_runs(tmp_path)) == 3


def test_neither_runs_nor_report_list_the_start(both: tuple[Path, list[StoredRun]]) -> None:
    root, _ = both
    assert len(list(root.rglob(store.RUN))) == 6
    runs = find_runs(root)
    assert [run.run.config.method for run in runs] == ["hps", "hps", "lwf", "lwf"]
    table = everlearn.table_frame(runs)
    assert dict(zip(table["method"], table["trials"], strict=True)) == {"hps": 2, "lwf": 2}
    assert [run.run.config.method for run in find_runs(root / store.STARTS)] == ["hps"] * 2, (
        "who asks for them, sees them"
    )


@pytest.mark.usefixtures("apart")
def test_a_start_that_was_lost_is_told(tmp_path: Path) -> None:
    (run,) = compared(tmp_path, ["lwf"])
    (start,) = start_runs(tmp_path)
    expected = (run.folder / store.ACCURACY).read_bytes()
    (start.folder / TRAINED).unlink()
    assert len(compared(tmp_path, ["lwf"])) == 1, "what is finished needs it no more"
    shutil.rmtree(run.folder)
    with pytest.raises(
        EverlearnError, match=rf"is not below {tmp_path / store.STARTS}; .*{start.run.id}.*remove that folder"
    ):
        compared(tmp_path, ["lwf"])
    with pytest.raises(StoreError, match="remove that folder"):
        list(execute(run.run.config, make_stream("digits"), Place(tmp_path)))
    shutil.rmtree(start.folder)
    (again,) = compared(tmp_path, ["lwf"])
    assert (again.folder / store.ACCURACY).read_bytes() == expected


@pytest.mark.usefixtures("apart")
def test_settings_of_the_first_task_are_its_own(tmp_path: Path) -> None:
    plain, longer = (plan_runs(Request("digits", ("lwf",), trials=1, first=first)) for first in ({}, {"epochs": "5"}))
    assert plain[0].start != longer[0].start
    assert plain[0].training == longer[0].training
    with pytest.raises(UnknownNameError, match="training setting"):
        plan_runs(Request("digits", ("lwf",), trials=1, first={"epoch": 5}))


def test_settings_of_a_first_task_that_is_as_the_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not trained apart here"):
        compared(tmp_path / "runs", ["lwf"], first={"epochs": 5})
    assert not (tmp_path / "runs").exists()


FIRST_OF_PAIR = PRESETS["cifar100-to-cifar10"].first


def start(stream: str = "cifar100-to-cifar10", method: str = "lwf", first: Training | None = None, **more: Any) -> str:
    config = plan_runs(Request(stream, (method,), trials=1, **more))[0]
    assert FIRST_OF_PAIR is not None
    found = named(start_of(config, first or FIRST_OF_PAIR))
    assert first is not None or config.start == found
    return found


def options(**options: Any) -> dict[str, Mapping[str, Any]]:
    return {"stream_options": options}


@pytest.mark.parametrize(
    "more",
    [
        {"method": "fine-tuning"}, {"method": "lwf+response=l1"}, {"options": {"lambda_old": 3}},
        {"training": {"epochs": 7}}, options(fraction=0.1), options(parts=3), options(fraction="0.1", parts="5"),
        {"stream": "cifar100-to-mnist"}, {"stream": "cifar100-to-mnist", **options(images=1000, parts=2)},
    ],
)  # fmt: skip
def test_what_leaves_the_first_task_as_it_is_shares_its_start(more: dict[str, Any]) -> None:
    assert start(**more) == start()


def test_what_changes_the_first_task_has_another_start() -> None:
    assert FIRST_OF_PAIR is not None
    changed = [
        {"seed": 1}, {"backbone": "resnet18"}, options(old_fraction=0.5), options(standardise="none"),
        {"first": replace(FIRST_OF_PAIR, epochs=1)}, {"stream": "cifar100-to-mnist", **options(standardise="train")},
        {"stream": "pacs-photo-to-cartoon", "first": FIRST_OF_PAIR},
    ]  # fmt: skip
    names = [start(), *(start(**more) for more in changed)]
    assert len(set(names)) == len(names)
    both = [start(name, **options(old_fraction=0.5)) for name in ("cifar100-to-cifar10", "cifar100-to-mnist")]
    assert both[0] == both[1] == names[3]
    trials = plan_runs(Request("cifar100-to-cifar10", ("lwf",), trials=2, same_stream=True))
    assert trials[0].start != trials[1].start, "every trial begins anew"


def test_the_start_is_a_run_of_the_stream_that_says_the_same_first_task() -> None:
    assert FIRST_OF_PAIR is not None
    request = Request(
        "cifar100-to-mnist", ("lwf+response=l1",), 1, stream_options={"images": 1000, "old_fraction": 0.5}
    )
    found = start_of(plan_runs(request)[0], FIRST_OF_PAIR)
    assert found.stream.name == "cifar100-to-cifar10"
    assert found.stream.options == {"fraction": 1.0, "parts": 1, "standardise": "old", "old_fraction": 0.5}
    assert (found.options, found.tasks, found.training) == ({}, 1, FIRST_OF_PAIR)


@pytest.mark.usefixtures("apart")
def test_an_option_that_is_later_leaves_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    info = STREAMS["digits"]
    for later in (True, False):
        more = {**info.options, "more": Option(1, "of the later tasks", later=later)}
        monkeypatch.setitem(STREAMS, "digits", replace(info, options=more))  # type: ignore[arg-type]
        found = {plan_runs(Request("digits", ("lwf",), 1, stream_options={"more": n}))[0].start for n in (1, 2)}
        assert len(found) == (1 if later else 2)


def test_the_users_own_code_counts_for_the_start_as_far_as_it_takes_part(tmp_path: Path) -> None:
    source = (
        "from everlearn.networks.papers import make_backbone\ndef net(shape): return make_backbone('digits', shape)\n"
    )
    mine = tmp_path / "mine.py"
    mine.write_text(source + "from everlearn.methods.lwf import Lwf\n")
    config = plan_runs(Request("digits", (f"{mine}:Lwf",), 1, backbone=f"{mine}:net"))[0]
    assert set(config.code) == {f"{mine}:Lwf", f"{mine}:net"}
    assert set(start_of(config, FIRST).code) == {f"{mine}:net"}


@pytest.mark.usefixtures("apart")
def test_tasks_of_ones_own_under_a_known_name_have_their_own_start(tmp_path: Path) -> None:
    """Name, seed and options may be those of the table, and the images others."""
    stream = make_stream("digits")
    swapped = replace(stream, tasks=stream.tasks[::-1])
    starts = [plan_runs(Request("digits", ("lwf",), 1, given=one))[0].start for one in (None, stream, swapped)]
    assert len(set(starts)) == 3
    compared(tmp_path, ["lwf"])
    (run,) = compared(tmp_path, ["lwf"], stream=swapped)
    begun = {one.run.id: one for one in start_runs(tmp_path)}
    assert len(begun) == 2
    assert begun[run.run.config.start.removeprefix("run:")].run.tasks == ["8-vs-9"]


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(
    "EVERLEARN_SLOW" not in os.environ, reason="a minute and a half; set EVERLEARN_SLOW and EVERLEARN_DATA"
)
def test_cifar100_is_learned_once_for_both_pairs(tmp_path: Path) -> None:
    small = {"old_fraction": 0.002, "fraction": 0.002}
    asked: dict[str, Any] = {"stream_options": small, "first": {"epochs": 1}}
    done = compared(tmp_path, ("lwf", "joint"), stream="cifar100-to-cifar10", **asked)
    (begun,) = start_runs(tmp_path)
    written = files(begun.folder)
    asked["stream_options"] = {**small, "images": 100}
    more = compared(tmp_path, ["fine-tuning"], stream="cifar100-to-mnist", **asked)
    assert {run.run.config.start for run in [*done, *more]} == {f"run:{begun.run.id}"}
    assert files(begun.folder) == written
    assert [run.run.tasks for run in [*done, *more]] == [["cifar100", "cifar10"]] * 2 + [["cifar100", "mnist"]]
    last = [e for e in begun.evaluations if e.split == "test"][-1]
    for run in [*done, *more]:
        first = next(e for e in run.evaluations if (e.task, e.split) == ("cifar100", "test"))
        assert (first.epoch, first.accuracy) == (0, last.accuracy)


# ---------------------------------------------------------------- a file


def exported(classes: int, backbone: str = "digits") -> nn.Sequential:
    network = LifelongNetwork(make_backbone(backbone, (1, 8, 8)), Hard(), 3)
    network.add_task(classes, (True,) * network.blocks)
    return network.export(0)


def file_of(path: Path, task: str, classes: Sequence[str] = ("a", "b", "c"), several: bool = False) -> Path:
    path.write_bytes(pack_trained(exported(len(classes)), task, classes, several))
    return path


def planned(stream: TaskStream | str, methods: Sequence[str], path: Path | None, **more: Any) -> list[RunConfig]:
    given = stream if isinstance(stream, TaskStream) else None
    name = stream.name if isinstance(stream, TaskStream) else stream
    request = Request(
        name, tuple(methods), 1, backbone="digits", given=given, start=path, **{"training": QUICK, **more}
    )
    return check(request, plan_runs(request))


def test_a_known_task_without_images_is_put_in_front(tmp_path: Path) -> None:
    path = file_of(tmp_path / "net.safetensors", "letters")
    runs = tmp_path / "runs"
    methods = ("duplicate-and-fine-tune", "lwf")
    done = compared(
        runs, methods, stream=made_stream(tasks=2), backbone="digits", start=path, keep_weights=True,
        training={**QUICK, "batch": 5, "rate": 1e-3},
    )  # fmt: skip
    backbone = given_backbone(make_backbone("digits", (1, 8, 8)), path, made_stream().tasks[0])
    for run in done:
        assert run.run.tasks == ["letters", "task 1", "task 2"]
        assert run.run.classes == [3, 2, 2]
        assert [phase.last - phase.first for phase in run.run.phases] == [0, 1, 1]
        assert {e.task for e in run.evaluations} == {"task 1", "task 2"}
        assert run.run.config.start == f"weights:{backbone.fingerprint()}"
    kept, held = (load_file(run.folder / store.WEIGHTS) for run in done)
    numbers = exported(3).state_dict()
    assert torch.equal(kept["tasks.0.head.output.weight"], numbers["head.output.weight"])
    assert torch.equal(kept["tasks.0.own.0.=|conv/weight"], numbers["block1.conv.weight"])
    assert not torch.equal(held["tasks.0.head.output.weight"], numbers["head.output.weight"]), "lwf moves old heads"
    assert not (runs / store.STARTS).exists()


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_a_known_task_with_images_is_measured_at_once(tmp_path: Path, ending: str) -> None:
    stream, path = made_stream(tasks=2), tmp_path / f"task 1.{ending}"
    if ending == "pt":
        torch.save(exported(2).state_dict(), path)  # the task is called as the file, its classes as the stream's
    else:
        file_of(path, "task 1", ("other", "names"))
    (run,) = compared(tmp_path / "runs", ["fine-tuning"], stream=stream, backbone="digits", start=path)
    assert run.run.tasks == ["task 1", "task 2"]
    first = [e for e in run.evaluations if e.task == "task 1" and e.epoch == 0]
    assert [e.split for e in first] == ["validation", "test"]
    network = LifelongNetwork(make_backbone("digits", (1, 8, 8)), Hard(), 3)
    network.add_task(2, (True,) * 3)
    data = StreamData(stream, torch.device("cpu"), False)
    score = evaluate(network, 0, data[0]["test"])
    accuracy, loss = score.accuracy, score.loss
    assert (first[1].accuracy, first[1].loss) == (accuracy, pytest.approx(loss, rel=1e-5))


def test_a_wrong_file_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    wrong = {
        "there is no file": tmp_path / "none.pt",
        "cannot be read as safetensors": tmp_path / "text.safetensors",
        "is no network of the backbone 'digits'": tmp_path / "other.safetensors",
        "has no tensor named head": tmp_path / "foreign.safetensors",
    }
    (tmp_path / "text.safetensors").write_text("text")
    save_file({**exported(2).state_dict(), "block7.x": torch.ones(1)}, tmp_path / "other.safetensors")
    save_file({"conv1.weight": torch.ones(1)}, tmp_path / "foreign.safetensors")
    for message, path in wrong.items():
        with pytest.raises(StoreError, match=message):
            compared(tmp_path / "runs", ["lwf"], start=path)
        assert not (tmp_path / "runs").exists()


def test_a_file_that_changes_after_the_plan_is_told(tmp_path: Path) -> None:
    stream, path = made_stream(tasks=2), file_of(tmp_path / "net.safetensors", "letters")
    (config,) = planned(stream, ["lwf"], path)
    next(execute(config, stream, Place(tmp_path / "right", start=path)))
    with torch.no_grad():
        other = exported(3)
        other.get_parameter("head.output.bias")[2] += 1e-3
    path.write_bytes(pack_trained(other, "letters", "abc", False))
    with pytest.raises(StoreError, match="backbone 'digits' has changed since the run was planned"):
        next(execute(config, stream, Place(tmp_path / "wrong", start=path)))
    (fresh,) = planned(stream, ["lwf"], path)
    assert store.run_id(fresh) != store.run_id(config), "other numbers are another run"


@pytest.mark.parametrize(
    ("task", "classes", "several"),
    [("task 1", "abc", False), ("task 2", "ab", False), ("task 1", "ab", True)],
    ids=["classes", "place", "labels"],
)
def test_a_known_task_that_is_another_than_the_streams_is_told(
    tmp_path: Path, task: str, classes: str, several: bool
) -> None:
    path = file_of(tmp_path / "net.safetensors", task, tuple(classes), several)
    with pytest.raises(ConfigurationError, match=f"knows a task {task!r} of {len(classes)} classes"):
        planned(made_stream(tasks=2), ["lwf"], path)


def test_a_state_dict_takes_the_kind_of_labels_from_the_stream(tmp_path: Path) -> None:
    several, single = multi_label_stream().tasks[1], made_stream().tasks[0]
    for task in (several, single):
        torch.save(exported(len(task.classes)).state_dict(), tmp_path / f"{task.name}.pt")
        backbone = make_backbone("digits", (1, 8, 8))
        (known,) = given_backbone(backbone, tmp_path / f"{task.name}.pt", task).trained
        assert (known.classes, known.multi_label) == (task.classes, task.multi_label)
    (other,) = given_backbone(backbone, tmp_path / "task 1.pt", several).trained
    assert (other.name, other.multi_label, other.classes) == ("task 1", False, ("0", "1"))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ("", "123"), ("1", "123"), ("12", "123"), ("x", "x123"), ("xy", "xy123"), ("x1", "x123"), ("1x", "1x23"),
        ("1x2", "1x23"), ("2", None), ("21", None), ("13", None), ("x2", None),
    ],
)  # fmt: skip
def test_known_tasks_come_first_in_their_order(known: str, expected: str | None) -> None:
    stream = TaskStream("made", 0, tuple(replace(task, name=str(n + 1)) for n, task in enumerate(made_stream().tasks)))
    trained = tuple(TrainedTask(name, ("a", "b"), nn.Identity()) for name in known)
    backbone = Backbone("made", (nn.Identity(),), lambda classes: nn.Identity(), "given", trained)
    if expected is None:
        with pytest.raises(ConfigurationError, match="or at another place"):
            known_first(stream, backbone)
        return
    found = known_first(stream, backbone)
    assert "".join(task.name for task in found.tasks) == expected
    for task in found.tasks:
        assert task in stream.tasks or task == Task(task.name, ("a", "b"))
    assert (found is stream) == (expected == "123")


# ---------------------------------------------------------------- who can, and who cannot


@pytest.mark.parametrize("method", ["lasem-hps", "snn", "tf", "df-cnn", "brute-force-hps"])
def test_methods_that_cannot_go_on_are_refused(tmp_path: Path, method: str) -> None:
    path = file_of(tmp_path / "net.safetensors", "letters", ("a", "b"))
    with pytest.raises(ConfigurationError, match=f"'{method}' cannot go on from a trained network; lwf"):
        planned(made_stream(tasks=2), ["lwf", method], path)
    with pytest.raises(ConfigurationError, match="cannot go on"):
        compared(tmp_path / "runs", ["lwf", method], stream=made_stream(), backbone="digits", start=path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("method", ["joint", "ewc", "ewc-online"])
def test_methods_that_need_old_images_are_refused_without(tmp_path: Path, method: str) -> None:
    stream = made_stream(tasks=2)
    path = file_of(tmp_path / "net.safetensors", "letters")
    with pytest.raises(
        ConfigurationError, match=f"'{method}' needs the training images of task 'letters', but there are none.*lwf"
    ):
        planned(stream, [method], path)
    assert len(planned(stream, [method], file_of(path, "task 1", ("a", "b")))) == 1, "with them it can"


def test_methods_that_need_none_are_not_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path / "net.safetensors", "letters")
    methods = ("lwf", "fine-tuning", "feature-extraction", "l2", "hps", "stl", "lwf@bottom-2", "lwf+responses=live")
    assert len(planned(made_stream(tasks=2), methods, path)) == len(methods)


def test_a_task_without_images_that_no_network_knows_is_told() -> None:
    stream = TaskStream("made", 0, (Task("letters", ("a", "b")), *made_stream().tasks))
    with pytest.raises(ConfigurationError, match="needs the training images of task 'letters'"):
        planned(stream, ["lwf"], None)


def test_all_tasks_together_are_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path / "net.safetensors", "letters")
    training = {**QUICK, "protocol": "multi-task"}
    with pytest.raises(ConfigurationError, match="goes on under the protocol lifelong; leave out --protocol"):
        planned(made_stream(tasks=2), ["hps"], path, training=training)
    assert len(planned(made_stream(tasks=2), ["hps"], None, training=training)) == 1


def test_options_in_a_methods_name_make_a_run_of_its_own() -> None:
    methods = ("lwf", "lwf+response=l1", "lwf+response=l1+temperature=1", "lwf@bottom-2+lambda_old=3", "hps", "lwf")
    found = planned("digits", methods, None, options={"temperature": "4"})
    assert [(config.method, config.options) for config in found] == [
        ("lwf", {"temperature": "4"}),
        ("lwf", {"temperature": "4", "response": "l1"}),
        ("lwf", {"temperature": "1", "response": "l1"}),
        ("lwf@bottom-2", {"temperature": "4", "lambda_old": "3"}),
        ("hps", {}),
    ]
    assert len({store.run_id(config) for config in found}) == 5


@pytest.mark.parametrize("methods", [("lwf+respons=l1",), ("lwf", "hps+response2=l1"), ("hps+orthogonality=1",)])
def test_an_unknown_option_in_a_methods_name_is_refused(tmp_path: Path, methods: Sequence[str]) -> None:
    with pytest.raises(UnknownNameError, match="option of these methods"):
        compared(tmp_path / "runs", methods)
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------- stopped and taken up


def in_parts(config: RunConfig, root: Path, ticks: int) -> tuple[Path, set[str]]:
    """Execute, leaving the run after so many ticks as often as it takes; and the names of all that was saved."""
    folder, saved = store.run_folder(root, config), set[str]()
    stream = make_stream("digits", config.stream.seed)
    while not (folder / store.RESULT).exists():
        run: Iterator[object] = execute(config, stream, Place(root, keep_weights=True))
        for _ in zip(range(ticks), run, strict=False):
            pass
        run.close()  # type: ignore[attr-defined]
        if (folder / store.CHECKPOINT).exists():
            saved |= set(load_file(folder / store.CHECKPOINT))
    return folder, saved


@pytest.mark.usefixtures("apart")
def test_a_run_that_goes_on_from_another_resumes_bit_for_bit(tmp_path: Path) -> None:
    (whole,) = compared(tmp_path / "whole", ["lwf"], keep_weights=True, training={**QUICK, "epochs": 2})
    (begun,) = start_runs(tmp_path / "whole")
    folder, _ = in_parts(begun.run.config, tmp_path / "parts" / store.STARTS, 2)
    assert (folder / TRAINED).read_bytes() == (begun.folder / TRAINED).read_bytes()
    parts, _ = in_parts(whole.run.config, tmp_path / "parts", 3)
    assert same(whole.folder, parts)
    assert not (parts / store.CHECKPOINT).exists()


def test_lwf_resumes_in_the_middle_of_its_joint_stage(tmp_path: Path) -> None:
    (config,) = planned("digits", ["lwf"], None, training={"epochs": 3, "evaluate_every": 3})
    whole = run_through(config, tmp_path / "whole")
    parts, saved = in_parts(config, tmp_path / "parts", 3)
    assert {"memory/responses", "memory/bound"} <= saved, "it was left where these are held"
    assert "memory/features" not in saved, "what is still is computed again"
    assert same(whole, parts)


# ---------------------------------------------------------------- doubts


@pytest.fixture
def doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    """LwF has a doubt about every task that it learns."""
    monkeypatch.setattr(Lwf, "doubts", lambda method, network, memory, tasks: [f"was task {tasks[0] + 1} learned?"])


@pytest.mark.usefixtures("apart", "doubtful")
def test_doubts_become_warnings_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    said = [f"was task {n} learned?" for n in (2, 3, 4, 5)]
    with pytest.warns(UserWarning, match="learned") as caught:
        first, second = compared(tmp_path, ["lwf", "fine-tuning"])
    assert [str(one.message) for one in caught] == [f"lwf, trial 0: {text}" for text in said]
    assert first.result is not None
    assert second.result is not None
    assert (first.result.warnings, second.result.warnings) == (said, [])
    compared(tmp_path, ["lwf"])
    assert not recwarn.list, "what was finished before is not said again"


@pytest.mark.usefixtures("doubtful")
def test_doubts_outlast_a_stop(tmp_path: Path) -> None:
    (config,) = planned("digits", ["lwf"], None)
    folder, _ = in_parts(config, tmp_path, 3)
    result = read_run(folder).result
    assert result is not None
    assert result.warnings == [f"was task {n} learned?" for n in range(1, 6)]
