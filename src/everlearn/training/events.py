"""What the loop tells as it goes."""

from dataclasses import dataclass

from everlearn.methods.base import Finding


@dataclass(frozen=True)
class Measured:
    """One task's split after `epochs` epochs of the run.

    `training` is the task in training, None for all; `attempt` which attempt at it, None if there is only one; `auroc`
    where it is measured and defined.
    """

    epochs: int
    training: int | None
    task: int
    split: str
    accuracy: float
    loss: float
    attempt: int | None = None
    auroc: float | None = None


@dataclass(frozen=True)
class Found:
    """What the method knows of a task after `epochs` epochs of the run; `settled` once the task is over."""

    epochs: int
    task: int
    finding: Finding
    settled: bool


@dataclass(frozen=True)
class Tick:
    """The state is consistent: it may be saved, and the run stopped.

    So many epochs of all attempts are over, and so many phases: what these have measured is told.
    """

    epochs: int
    phases: int


Event = Measured | Found | Tick
