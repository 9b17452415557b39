"""What is computed from recorded accuracies, and nothing else: pure functions of a `History`.

Shapes: E epochs at which anything was evaluated, T tasks in the order of presentation. Accuracies are
fractions, 0 to 1. A number that is not defined (a task never evaluated, a reference of 0, no later task) is
NaN, never 0.
"""

from everlearn.metrics.accuracies import (
    Reference,
    accuracy_at_best_validation,
    average_accuracy,
    backward_transfer,
    convergence,
    end_of_phase_accuracy,
    final_accuracy,
    final_forgetting_ratio,
    forgetting_after,
    forgetting_by_task,
    forgetting_ratio,
    forward_transfer,
    multi_task_error,
    peak_accuracy,
)
from everlearn.metrics.growth import (
    MEASURED,
    Measured,
    average_by_stage,
    final_average,
    measured,
    performance,
    performance_by_stage,
    seconds_by_stage,
)
from everlearn.metrics.history import Floats, History, forward_filled, mean

__all__ = [
    "MEASURED",
    "Floats",
    "History",
    "Measured",
    "Reference",
    "accuracy_at_best_validation",
    "average_accuracy",
    "average_by_stage",
    "backward_transfer",
    "convergence",
    "end_of_phase_accuracy",
    "final_accuracy",
    "final_average",
    "final_forgetting_ratio",
    "forgetting_after",
    "forgetting_by_task",
    "forgetting_ratio",
    "forward_filled",
    "forward_transfer",
    "mean",
    "measured",
    "multi_task_error",
    "peak_accuracy",
    "performance",
    "performance_by_stage",
    "seconds_by_stage",
]
