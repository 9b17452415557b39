"""Several sets at a time: no two threads are given one set, and what was left is given back."""

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
from everlearn.tuning.crew import _Crew, work
from everlearn.tuning.objective import Objective


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
