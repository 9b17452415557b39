"""What streams and methods are called where several comparisons stand side by side, and in which order."""

import json
from collections.abc import Mapping, Sequence

from everlearn.experiments.records import RunConfig
from everlearn.report.groups import Comparison, label_of

REFERENCE = "lwf"
"""The method that the others are measured against."""

_ORDER = (
    REFERENCE, "fine-tuning", "feature-extraction", "joint", "expansion", "expansion-lwf", "l2", "ewc", "ewc-online",
    "duplicate-and-fine-tune",
)  # fmt: skip
"""The methods of Li and Hoiem 2016 from above, as they list them."""


def rank(label: str, config: RunConfig) -> tuple[int, str]:
    """Where a method stands in tables and legends: as in the paper; what it does not have comes after that."""
    base = config.method.partition("@")[0]
    return _ORDER.index(base) if base in _ORDER else len(_ORDER), label


def short_labels(configs: Mapping[str, RunConfig]) -> dict[str, str]:
    """The methods' labels, by what they were given for."""
    every = list(configs.values())
    return {key: label_of(config, every) for key, config in configs.items()}


def stream_names(found: Sequence[Comparison]) -> list[str]:
    """The streams' names, each with no more of its options than is needed to tell it from the others.

    An option is not named where it has the value that it has in most of them.
    """
    names: list[str] = []
    for one in found:
        same = [other for other in found if other.stream == one.stream]
        extra = [
            f"{name} {one.options.get(name, 'default')}"
            for name in sorted({name for other in same for name in other.options})
            if not _usual(one.options.get(name), [other.options.get(name) for other in same])
        ]
        if len({other.tasks for other in same}) > 1:
            extra.append("all tasks" if one.tasks is None else f"first {one.tasks} tasks")
        if len({(json.dumps(other.options, sort_keys=True), other.tasks) for other in same}) < len(same):
            extra.append(f"from {', '.join(one.starts) or 'the first task'}")
        names.append(f"{one.stream} ({', '.join(extra)})" if extra else one.stream)
    return names


def fraction(comparison: Comparison) -> float:
    """The share of the new task's training images that its stream takes; 1 where nothing is said of it."""
    try:
        return float(comparison.options.get("fraction", 1.0))
    except ValueError:
        return 1.0


def _usual(value: object, values: Sequence[object]) -> bool:
    return 2 * sum(json.dumps(other) == json.dumps(value) for other in values) > len(values)
