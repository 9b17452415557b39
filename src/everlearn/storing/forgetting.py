"""Forgetting a task: what it alone had is gone, and all others answer as before to the last bit.

Its position stays, since methods tell tasks by position, and so does what other tasks read: columns of progressive
networks, units with time stamps, groups. Numbers that go become zeros: nothing can be had back from them.
"""

import torch

from everlearn.errors import ConfigurationError
from everlearn.storing.building import Mind
from everlearn.storing.records import LearnerRecord


def without(mind: Mind, place: int) -> LearnerRecord:
    """Forget the task at a position, in the network and memory of `mind`; return the record without its names.

    Raises:
        ConfigurationError: all tasks share its head (SNN).
    """
    network = mind.network
    assert network is not None
    if network.shared_head is not None:
        raise ConfigurationError("all tasks of this learner share one head, so that none can be taken out of it.")
    gone = _alone(mind, place)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in gone:
                parameter.zero_()
        for name, tensor in mind.memory.items():
            if any(name.endswith(one) for one in gone):
                mind.memory[name] = torch.zeros_like(tensor)
    task = mind.record.tasks[place]
    blank = task.model_copy(
        update={"name": "", "classes": [], "accuracy": {}, "images": {}, "kept": 0, "forgotten": True}
    )
    tasks = [*mind.record.tasks[:place], blank, *mind.record.tasks[place + 1 :]]
    return mind.record.model_copy(update={"tasks": tasks})


def _alone(mind: Mind, place: int) -> set[str]:
    """The names of the parameters that the task alone uses."""
    network = mind.network
    assert network is not None
    mine = {name for name, _ in network.named_parameters() if name.startswith(f"tasks.{place}.")}
    head = {name for name in mine if name.startswith(f"tasks.{place}.head.")}
    # What a new task does not share starts from what the first one has.
    own = mine - head if place > 0 else set[str]()
    for other in range(len(network.tasks)):
        own -= set(network.used(other)) if other != place else set()
    return head | own
