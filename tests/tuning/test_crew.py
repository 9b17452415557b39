"""Several sets at a time: no two threads are given one set, and what was left is given back."""

import functools
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from everlearn.errors import StoreError
from everlearn.experiments.execute import Place
from everlearn.experiments.plan import Request
from everlearn.tuning import crew
from everlearn.tuning import study as study_module
from everlearn.tuning.crew import _Crew, work
from everlearn.tuning.objective import Objective
from everlearn.tuning.search import Choices, Range
from everlearn.tuning.study import enqueue, open_study, silent, suggested


def nothing(*_: Any) -> None:
    pass


def idle() -> Objective:
    """An objective that is not called."""
    return Objective(Request("digits"), {}, frozenset(), "final", Place(Path("runs")), False, threading.Event())


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study()


def test_threads_ask_one_at_a_time(study: optuna.Study) -> None:
    inside, most, ask = 0, 0, study.ask

    def slow(fixed: Any = None) -> optuna.Trial:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)
        inside -= 1
        return ask(fixed)

    study.ask = slow  # type: ignore[method-assign]
    _Crew(study, idle(), 4, nothing)
    threads = [threading.Thread(target=study.ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert sorted(trial.number for trial in study.trials) == [0, 1, 2, 3]


def test_sets_that_are_still_taken_are_given_back_once_the_storage_answers(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = study.ask()  # another machine's
    mine = _Crew(study, idle(), 4, nothing)
    taken, over = study.ask(), study.ask()
    study.tell(over, 1.0)
    busy, tell, read = [2, 2], study.tell, study.get_trials

    def late(which: int, then: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            busy[which] -= 1
            if busy[which] >= 0:
                raise StorageInternalError("database is locked")
            return then(*given, **named)

        return call

    monkeypatch.setattr(crew, "sleep", nothing)
    monkeypatch.setattr(study, "get_trials", late(0, read))
    monkeypatch.setattr(study, "tell", late(1, tell))
    mine.leave()
    states = {trial.number: trial.state for trial in read()}
    assert states == {
        other.number: TrialState.RUNNING, taken.number: TrialState.FAIL, over.number: TrialState.COMPLETE
    }  # fmt: skip


def test_a_set_that_was_given_back_while_the_storage_said_otherwise_is_no_fault(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = _Crew(study, idle(), 4, nothing)
    first, _, read = study.ask(), study.ask(), study.get_trials
    old = [read(states=(TrialState.RUNNING,))]
    study.tell(first, state=TrialState.FAIL)
    monkeypatch.setattr(crew, "sleep", nothing)
    monkeypatch.setattr(study, "get_trials", lambda **named: old.pop() if old else read(**named))
    mine.leave()
    assert [trial.state for trial in read()] == [TrialState.FAIL] * 2


def test_a_storage_that_fails_is_told_in_a_sentence(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise StorageInternalError("database is locked")

    monkeypatch.setattr(crew, "sleep", nothing)
    monkeypatch.setattr(study, "get_trials", locked)
    for side in (1, 2):
        with pytest.raises(StoreError, match=r"storage of the search failed \(database is locked\); the same command"):
            work(study, idle(), 2, side, nothing)


# ---------------------------------------------------------------- a whole grid

GRID = {"lambda_old": Choices(("0.3", "1", "3", "10"))}


class Quick(Objective):
    """An objective that takes no time; `dies` says in which set the process ends."""

    def __init__(self, dies: int = -1) -> None:
        super().__init__(Request("digits"), GRID, frozenset(), "final", Place(Path("runs")), False, threading.Event())
        self._dies = dies
        self.tried: list[str] = []

    def __call__(self, trial: optuna.Trial) -> float:
        value = suggested(trial, GRID)["lambda_old"]
        if trial.number == self._dies:
            raise SystemExit
        self.tried.append(value)
        return float(value)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new data base, in which a set counts as left after two seconds."""
    monkeypatch.setattr(study_module, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(study_module, "GRACE_SECONDS", 2)
    monkeypatch.setattr(crew, "_LOOK_SECONDS", 0.05)
    return f"sqlite:///{tmp_path / 'tuning.db'}"


def tried(url: str, quick: Quick, wanted: int = 4, seed: int = 1) -> list[tuple[str, str]]:
    """One command; what the study then holds: states and values."""
    with silent():
        found = open_study("grid", url, seed, prune=True)
        enqueue(found, GRID, whole=wanted == 4)
        refill = functools.partial(study_module.refill, found, GRID) if wanted == 4 else None
        work(found, quick, wanted, 1, nothing, refill)
    return [(trial.state.name, trial.params.get("lambda_old", "")) for trial in found.get_trials()]


def test_of_a_grid_nothing_is_tried_twice_and_nothing_left_out_after_a_kill(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(_Crew, "leave", nothing)
        killed.setattr(optuna.Study, "tell", nothing)  # nobody hears of it
        with pytest.raises(SystemExit):
            tried(storage, Quick(dies=0))
    again = Quick()
    states = tried(storage, again)
    assert again.tried == ["1", "3", "10", "0.3"], "which was waited for"
    assert sorted(value for state, value in states if state == "COMPLETE") == ["0.3", "1", "10", "3"]
    assert [value for state, value in states if state == "FAIL"] == ["0.3"]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
@pytest.mark.parametrize("late", [False, True])
def test_what_another_machine_was_given_of_a_grid_is_waited_for_and_not_drawn(
    storage: str, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """`late`: it was in the queue when this machine looked, and no more when it asked."""
    with silent():
        other = open_study("grid", storage, 1, prune=True)
    enqueue(other, GRID, whole=True)
    theirs, mine, looks = other.ask(), Quick(), [late]
    suggested(theirs, GRID)
    read, refill = optuna.Study.get_trials, study_module.refill

    def looked(self: optuna.Study, *given: Any, **named: Any) -> Any:
        found = read(self, *given, **named)
        if named.get("states") == (TrialState.WAITING,) and not found and looks.pop():
            looks.append(False)
            return read(self, deepcopy=False)
        return found

    def over(*given: Any) -> None:
        looks.append(False)
        other.tell(theirs, 0.3)
        refill(*given)

    monkeypatch.setattr(study_module, "refill", over)
    monkeypatch.setattr(optuna.Study, "get_trials", looked)
    states = tried(storage, mine)
    assert mine.tried == ["1", "3", "10"]
    assert [value for state, value in states if state == "COMPLETE"] == ["0.3", "1", "3", "10"]
    assert [value for state, value in states if state == "FAIL"] == [""] * late


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_set_that_was_left_moves_no_draw(storage: str) -> None:
    space = {"rate": Range(1e-4, 1e-2, whole=False, log=True)}

    def drawn(url: str, left: bool) -> list[float]:
        with silent():
            found = open_study("drawn", url, 1, prune=True)
            for number in range(4):
                trial = found.ask()
                suggested(trial, space)
                if number == 1 and left:
                    found.tell(trial, state=TrialState.FAIL)
                    enqueue(found, space, whole=False)
                    trial = found.ask()
                    suggested(trial, space)
                found.tell(trial, 0.5)
        return [trial.params["rate"] for trial in found.get_trials() if trial.state == TrialState.COMPLETE]

    assert drawn(storage, left=True) == drawn(storage.replace("tuning.db", "other.db"), left=False)
