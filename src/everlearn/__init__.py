"""everlearn: lifelong learning of deep image classifiers.

The public names load what they need when they are first used, so that the command line answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everlearn.errors import EverlearnError
    from everlearn.experiments.run import run
    from everlearn.experiments.store import StoredRun, find_runs, read_run
    from everlearn.learner import Learner, open
    from everlearn.methods.base import Batch, Method, Objective
    from everlearn.methods.catalogue import METHODS, make_method
    from everlearn.methods.static import StaticTransfer
    from everlearn.networks.backbone import Backbone
    from everlearn.networks.lifelong import LifelongNetwork
    from everlearn.networks.papers import make_backbone
    from everlearn.report import (
        errors_frame,
        findings_frame,
        growth_frame,
        print_table,
        table_frame,
        units_frame,
        weights_frame,
        write_report,
    )
    from everlearn.sharing import RULES
    from everlearn.sharing.rule import LayerShape, SharingRule
    from everlearn.tasks import STREAMS, make_stream
    from everlearn.tasks.task import Split, Task, TaskStream
    from everlearn.tracking.track import track
    from everlearn.training.settings import Training
    from everlearn.tuning.results import Tuned
    from everlearn.tuning.tune import tune

__version__ = "0.1.0"

_HOMES = {
    "Backbone": "networks.backbone",
    "Batch": "methods.base",
    "EverlearnError": "errors",
    "LayerShape": "sharing.rule",
    "Learner": "learner",
    "LifelongNetwork": "networks.lifelong",
    "METHODS": "methods.catalogue",
    "Method": "methods.base",
    "Objective": "methods.base",
    "RULES": "sharing",
    "STREAMS": "tasks",
    "SharingRule": "sharing.rule",
    "Split": "tasks.task",
    "StaticTransfer": "methods.static",
    "StoredRun": "experiments.store",
    "Task": "tasks.task",
    "TaskStream": "tasks.task",
    "Training": "training.settings",
    "Tuned": "tuning.results",
    "errors_frame": "report",
    "find_runs": "experiments.store",
    "findings_frame": "report",
    "growth_frame": "report",
    "make_backbone": "networks.papers",
    "make_method": "methods.catalogue",
    "make_stream": "tasks",
    "open": "learner",
    "print_table": "report",
    "read_run": "experiments.store",
    "run": "experiments.run",
    "table_frame": "report",
    "track": "tracking.track",
    "tune": "tuning.tune",
    "units_frame": "report",
    "weights_frame": "report",
    "write_report": "report",
}

__all__ = [
    "METHODS",
    "RULES",
    "STREAMS",
    "Backbone",
    "Batch",
    "EverlearnError",
    "LayerShape",
    "Learner",
    "LifelongNetwork",
    "Method",
    "Objective",
    "SharingRule",
    "Split",
    "StaticTransfer",
    "StoredRun",
    "Task",
    "TaskStream",
    "Training",
    "Tuned",
    "errors_frame",
    "find_runs",
    "findings_frame",
    "growth_frame",
    "make_backbone",
    "make_method",
    "make_stream",
    "open",
    "print_table",
    "read_run",
    "run",
    "table_frame",
    "track",
    "tune",
    "units_frame",
    "weights_frame",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'everlearn' has no attribute {name!r}")
    return getattr(import_module(f"everlearn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
