"""Several sets at a time: threads that each follow one, while their runs are in processes of their own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Lock
from time import sleep
from typing import Any

from optuna.exceptions import OptunaError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from everlearn.errors import StoreError
from everlearn.tuning.objective import Objective, Stopped
from everlearn.tuning.study import OVER, NotQueuedError, sets_over

_TRIES = 20
"""So often a storage is asked to take a set back."""

_LOOK_SECONDS = 1.0
"""Where others work on all that is left of a grid, it is looked so often what they have left."""

Refill = Callable[[], None]


def work(
    study: Study,
    objective: Objective,
    wanted: int,
    side: int,
    tell: Callable[[Study, int], None],
    refill: Refill | None = None,
) -> None:
    """Try sets until the study holds so many that are over.

    Other machines may work on the study meanwhile; their sets count too. Of a whole grid nothing is drawn: this waits
    for them, and takes up what they leave. When this is interrupted, or a set fails, the others save their
    checkpoints and stop, and will be taken up when the search goes on.

    Args:
        study: where sets come from and go to.
        objective: of a set.
        wanted: how many sets.
        side: how many at a time; 1: in this thread.
        tell: called with the study and the number of each set that is over, one at a time.
        refill: puts into the queue what was left of a whole grid; None: sets are drawn.

    Raises:
        EverlearnError: a run could not be done, or the storage failed.
    """
    crew = _Crew(study, objective, wanted, tell, refill)
    try:
        crew.work(side)
    except (OptunaError, SQLAlchemyError) as error:
        said = " ".join(str(error).split())[:200]
        raise StoreError(f"the storage of the search failed ({said}); the same command goes on from here.") from error
    finally:
        crew.leave()


class _Crew:
    def __init__(
        self,
        study: Study,
        objective: Objective,
        wanted: int,
        tell: Callable[[Study, int], None],
        refill: Refill | None = None,
    ) -> None:
        self._study, self._objective, self._wanted, self._tell = study, objective, wanted, tell
        self._refill = refill
        self._lock = Lock()
        self._busy = 0
        self._errors: list[BaseException] = []
        self._begun: set[int] = set()
        # SQLite cannot lock a row: of two threads that ask at once, both could be given the same set of the queue.
        asking, ask = Lock(), study.ask

        def one_at_a_time(fixed_distributions: dict[str, Any] | None = None) -> Trial:
            with asking:
                trial = ask(fixed_distributions)
            self._begun.add(trial.number)
            return trial

        study.ask = one_at_a_time

    def work(self, side: int) -> None:
        count = min(side, self._wanted)
        if count == 1:
            self._follow()
            return
        with ThreadPoolExecutor(count) as pool:
            # Not `Thread.join`: in Python 3.11 a thread whose join is interrupted counts as over, which it is not.
            crew = [pool.submit(self._guarded) for _ in range(count)]
            try:
                wait(crew)
            except KeyboardInterrupt:
                self._objective.stop.set()
                wait(crew)
                raise
        if self._errors:
            raise self._errors[0]

    def leave(self) -> None:
        """Give back the sets that are still taken: a storage that was busy may not have heard that they were left."""
        for _ in range(_TRIES):
            # A busy storage may have taken the set back and still have said that it failed: then it says ValueError.
            with suppress(OptunaError, SQLAlchemyError, ValueError):
                left = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                mine = [trial.number for trial in left if trial.number in self._begun]
                if not mine:
                    return
                for number in mine:
                    self._study.tell(number, state=TrialState.FAIL)
            sleep(0.1)

    def _guarded(self) -> None:
        try:
            self._follow()
        except Stopped:
            pass
        except BaseException as error:
            self._errors.append(error)
            self._objective.stop.set()

    def _follow(self) -> None:
        while self._claimed():
            try:
                self._study.optimize(self._objective, 1, callbacks=[self._told], catch=NotQueuedError)
            finally:
                with self._lock:
                    self._busy -= 1

    def _claimed(self) -> bool:
        """Whether one more set is wanted; if so, it is this thread's."""
        while not self._objective.stop.is_set():
            with self._lock:
                if self._over() + self._busy >= self._wanted:
                    return False
                if self._refill is None or self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                    self._busy += 1
                    return True
                self._refill()
            sleep(_LOOK_SECONDS)
        return False

    def _over(self) -> int:
        """How many sets are over; of a grid, each once."""
        if self._refill is not None:
            return sets_over(self._study)
        return len(self._study.get_trials(deepcopy=False, states=OVER))

    def _told(self, study: Study, trial: FrozenTrial) -> None:
        with self._lock:
            self._tell(study, trial.number)
