"""A learner that knows nothing yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from everlearn.errors import ConfigurationError, StoreError, UnknownNameError
from everlearn.experiments.plan import settings
from everlearn.experiments.presets import preset_of
from everlearn.methods.catalogue import plain_name
from everlearn.networks.papers import check_name
from everlearn.plugins import fingerprint_of, is_plugin
from everlearn.storing.building import Code, new_mind, pack_numbers
from everlearn.storing.material import check_sides
from everlearn.storing.records import SCHEMA, Event, LearnerRecord, Value, now, versions
from everlearn.storing.requests import check_new
from everlearn.storing.store import NUMBERS, Store
from everlearn.training.settings import warn_of_unread

WAYS = ("train", "imagenet", "none")


@dataclass(frozen=True)
class Wish:
    """What a learner is to be; see `everlearn.Learner.create`."""

    method: str = "lwf"
    backbone: str = "cifar"
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    training: Mapping[str, Value] = field(default_factory=dict[str, Value])
    size: tuple[int, int] | None = None
    grey: bool = False
    standardise: str = "train"
    seed: int = 0
    keep: int = 5


def create(folder: Path, wish: Wish) -> Code:
    """Write the first generation; return the user's own files that the learner comes from.

    Raises:
        ConfigurationError: something that does not exist or fit together, or a method that needs old images again.
        StoreError: the folder is in use, or cannot be written.
    """
    store, own = Store(folder), {"method": plain_name(wish.method), "backbone": wish.backbone}
    own = {kind: name for kind, name in own.items() if is_plugin(name)}
    code = Code(own.get("method"), own.get("backbone"))
    record = _record(wish, {kind: fingerprint_of(name) for kind, name in own.items()})
    mind = new_mind(record, code)
    check_new(mind)
    if mind.backbone is not None:
        record = record.model_copy(update={"numbers": mind.backbone.fingerprint()})
    if store.exists() or (folder.is_dir() and not store.unused()):
        raise StoreError(f"{folder} is in use; give a folder that does not exist yet, or open what is there.")
    with store.writing():
        store.write(record, {NUMBERS: pack_numbers(None, {})})
    return code


def _record(wish: Wish, code: dict[str, str]) -> LearnerRecord:
    if wish.grey and wish.size is None:
        raise ConfigurationError("grey images need a size as well, such as size=(32, 32) (--size 32x32).")
    check_sides(wish.size or ())
    if wish.standardise not in WAYS:
        raise UnknownNameError("way to standardise", wish.standardise, WAYS)
    check_name(wish.backbone)
    if not 1 <= wish.keep <= 1000:
        raise ConfigurationError(f"keep needs a whole number from 1 to 1000, but came as {wish.keep}.")
    training = settings(preset_of("folders").training, wish.training)
    warn_of_unread(wish.training, [training])
    return LearnerRecord(
        schema_version=SCHEMA,
        method=wish.method,
        backbone=wish.backbone,
        options=dict(wish.options),
        training=training,
        seed=wish.seed,
        code=cast(Any, code),
        image_shape=None if wish.size is None else (1 if wish.grey else 3, *wish.size),
        standardise=cast(Any, wish.standardise),
        keep=wish.keep,
        history=[Event(generation=1, what="created", when=now(), versions=versions())],
    )
