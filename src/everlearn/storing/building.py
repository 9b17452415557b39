"""From a learner's record and tensors to its method and network, and back.

Names of the tables are made from the tables. A user's own file is known to the record by name and hash alone: it is
imported only where the user names it, and only if it still has the content that it had.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn

from everlearn.errors import ConfigurationError, EverlearnError, StoreError
from everlearn.experiments.checkpoint import load_tensors, pack, under
from everlearn.methods.base import Memory, Method
from everlearn.methods.catalogue import make_method, network_name, plain_name
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import BACKBONES, make_backbone
from everlearn.networks.sites import find_sites
from everlearn.plugins import fingerprint_of, is_plugin
from everlearn.seeds import derive
from everlearn.storing.reading import Shapes, parse_tensors, tensor_shapes
from everlearn.storing.records import LearnerRecord, TaskRecord, Value
from everlearn.storing.store import NUMBERS, Generation

TASKS = 10
"""How many tasks a method is told that there will be: nobody knows. It chooses among published sizes by that."""

_ROOM = 2**24
"""Numbers that a network may have whatever its file holds."""


@dataclass(frozen=True)
class Code:
    """The user's own files, `file.py:Name`, as the user names them; None where there is none.

    Attributes:
        method: that the method comes from.
        backbone: that the backbone comes from.
    """

    method: str | None = None
    backbone: str | None = None


@dataclass
class Mind:
    """A learner in memory.

    Attributes:
        record: of the generation.
        method: as created.
        backbone: of its network; None until the shape of its images is known.
        network: of all tasks; None as well.
        memory: the method's.
    """

    record: LearnerRecord
    method: Method
    backbone: Backbone | None
    network: LifelongNetwork | None
    memory: Memory


def load_mind(generation: Generation, code: Code) -> Mind:
    """A learner in memory, from the bytes of a generation.

    Raises:
        StoreError: it needs a user's own file that was not named or has changed, or its files do not fit together.
    """
    record, path = generation.record, generation.folder / NUMBERS
    content = generation.files[NUMBERS]
    shapes = tensor_shapes(content, path)
    try:
        mind = new_mind(record, code, shapes)
        tensors = parse_tensors(content, path)
        if tensors and not record.tasks:
            raise StoreError(f"{path} is damaged: it holds numbers, but the record knows no task.")
        if mind.network is not None and record.tasks:  # before the first task the seed says it all
            for task in record.tasks:
                mind.network.rebuild(task.structure)
            load_tensors(mind.network, under("network/", tensors))
            mind.network.eval().requires_grad_(False)
    except StoreError:
        raise
    except KeyError as error:
        raise StoreError(f"{path} is damaged: it lacks or has too much of {str(error)[:100]}.") from None
    except (EverlearnError, RuntimeError, IndexError, AssertionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StoreError(f"{generation.folder} cannot be opened: {reason or type(error).__name__}") from None
    mind.memory.update({name: t.clone() for name, t in under("memory/", tensors).items()})
    return mind


def new_mind(record: LearnerRecord, code: Code, shapes: Shapes | None = None) -> Mind:
    """A learner that knows no task yet; with `shapes`, of what its file holds, checked not to be far larger.

    Raises:
        EverlearnError: method or backbone do not exist or do not fit together.
    """
    method = make_method(_named(record, "method", code), record.backbone, TASKS, record.options)
    if record.image_shape is None:
        return Mind(record, method, None, None, {})
    name = network_name(record.method, _named(record, "backbone", code))
    if shapes is not None and not is_plugin(name):
        _check_size(record, method, name, shapes)
    backbone = make_backbone(name, record.image_shape)
    if backbone.trained:
        raise ConfigurationError(f"{name!r} comes with a trained task; a learner begins with a backbone that has none.")
    if backbone.fingerprint() != record.numbers and record.tasks:
        raise StoreError(
            f"the numbers that the backbone {name!r} comes with are not those that the learner began with."
        )
    return Mind(record, method, backbone, fresh_network(method, backbone, record.seed), {})


def fresh_network(method: Method, backbone: Backbone, seed: int) -> LifelongNetwork:
    """A learner's network before its first task."""
    return method.network(backbone, TASKS, derive(seed, "trial"))


def _named(record: LearnerRecord, kind: str, code: Code) -> str:
    """The name that a method or a backbone is made by; a user's own file as the user names it now."""
    recorded = record.method if kind == "method" else record.backbone
    given = code.method if kind == "method" else code.backbone
    plain, at, configuration = recorded.partition("@")
    if not is_plugin(plain):
        if kind == "backbone" and plain not in BACKBONES:
            raise StoreError(f"the learner's record names a backbone {plain[:80]!r}, which everlearn does not have.")
        return recorded
    if given is None:
        raise StoreError(
            f"the learner's {kind} comes from a file, {plain[:200]}, and no file that a store names is run: name it "
            f"yourself, {kind}={plain[:200]!r} (--{kind})."
        )
    given = plain_name(given)
    if not is_plugin(given) or given.rpartition(":")[2] != plain.rpartition(":")[2]:
        raise StoreError(f"the learner's {kind} is {plain[:200]}, but {given} was named.")
    marks = cast(Mapping[str, str], record.code)
    if fingerprint_of(given) != marks.get(kind):
        raise StoreError(f"{given} is not the file that the learner's {kind} came from: its content has changed.")
    return given + at + configuration


def _check_size(record: LearnerRecord, method: Method, name: str, shapes: Shapes) -> None:
    """Refuse a record whose network would be far larger than what its file holds, before anything is made."""
    held = sum(map(prod, shapes.values()))
    assert record.image_shape is not None
    with torch.device("meta"):  # shapes alone
        backbone = make_backbone(name, record.image_shape)
        heads = [_head(backbone, task) for task in record.tasks[:1] or ()]
        largest = max(record.tasks, key=lambda t: t.structure.classes, default=None)
        heads += [_head(backbone, largest)] if largest else []
    wanted = sum(p.numel() for module in (*backbone.blocks, *heads) for p in module.parameters())
    rule: Any = getattr(method, "rule", None)
    if rule is not None and record.tasks:  # its shared parameters are made with the first task
        wanted += sum(sum(rule.counts(site.layer)) for sites in find_sites(backbone.blocks) for site in sites)
    for task in record.tasks:
        wanted += sum(map(prod, task.structure.extra.values())) + task.structure.classes
    if wanted > _ROOM + 20 * held:
        raise StoreError(f"the learner's record asks for a network of {wanted:,} numbers, but its file holds {held:,}.")


def _head(backbone: Backbone, task: TaskRecord) -> nn.Module:
    classes, hidden = task.structure.classes, task.structure.hidden
    if not hidden:
        return backbone.head(classes)
    return nn.Sequential(backbone.head(hidden), nn.Linear(hidden, classes))


def pack_numbers(network: LifelongNetwork | None, memory: Memory) -> bytes:
    """Network and memory as the content of `numbers.safetensors`."""
    tensors: dict[str, Tensor] = {f"memory/{name}": tensor for name, tensor in memory.items()}
    if network is not None:
        tensors |= {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    return pack(tensors, "{}")


def lesson_method(mind: Mind, code: Code, changes: Mapping[str, Value], epochs: int) -> Method:
    """The method of one lesson: the learner's with some options changed.

    Raises:
        ConfigurationError: an option that shapes the network, or a lesson that needs old tasks' images.
    """
    record = mind.record
    method = mind.method
    if changes:
        name = _named(record, "method", code)
        method = make_method(name, record.backbone, TASKS, {**record.options, **changes})
        assert mind.backbone is not None
        assert mind.network is not None
        fresh = fresh_network(method, mind.backbone, record.seed)
        before = _shaping(mind.network)
        for what, value in _shaping(fresh).items():
            if before.get(what) != value:
                raise ConfigurationError(
                    f"the options {', '.join(sorted(changes))} shape the network ({what}), which is as it was created; "
                    "give them when the learner is created."
                )
    check_method(method, record.method, len(record.tasks), len(record.tasks) + 1, epochs)
    return method


def _shaping(network: LifelongNetwork) -> dict[str, object]:
    """What a network was made with, that is no tensor."""
    kept = (int, float, str, bool)
    plain = {n: v for n, v in vars(network).items() if isinstance(v, kept) and n != "training"}
    return {"kind": type(network), "rule": network.rule, **plain}


def check_method(method: Method, name: str, first: int, last: int, epochs: int) -> None:
    """Raise `ConfigurationError` if a method cannot learn task after task without the old tasks' images."""
    if "lifelong" not in method.protocols:
        raise ConfigurationError(
            f"{name!r} learns all tasks together, but a learner on disk gets them one by one, as lwf can."
        )
    if hasattr(getattr(method, "rule", None), "tasks"):
        raise ConfigurationError(f"{name!r} must know how many tasks will come, and nobody does; take tf.")
    if "/" in str(getattr(method, "configuration", "")):
        raise ConfigurationError(
            f"{name!r} names a configuration for each task, but nobody knows how many will come; give one for all."
        )
    for task in range(first, last):
        for stage, title in enumerate(method.stages):
            if method.epochs(stage, epochs, task) and set(method.sources(task, stage)) - {task}:
                raise ConfigurationError(
                    f"{name!r} needs the images of earlier tasks again (stage {title!r} of task {task + 1}), and a "
                    "learner on disk does not keep them; lwf or prognn, for example, need none."
                )
