"""What is learned: tasks, streams of tasks, and where their images come from."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.tasks import (
    awa,
    cifar100,
    cifar100_subtasks,
    digits,
    folders,
    lwf_pairs,
    lwf_small,
    mnist_variation,
    multi_task,
    office_home,
    pacs,
    permuted_mnist,
    planted,
    stl10,
)
from everlearn.tasks.arrays import images_from_array, split_from_arrays, task_from_arrays
from everlearn.tasks.folders import task_from_folder
from everlearn.tasks.hub import open_image_set, task_from_set
from everlearn.tasks.info import Option, Outline, StreamInfo, Value
from everlearn.tasks.stored import StoredImages
from everlearn.tasks.stream_file import is_stream_file
from everlearn.tasks.task import SPLITS, Split, Task, TaskStream

__all__ = [
    "SPLITS",
    "STREAMS",
    "Option",
    "Outline",
    "Split",
    "StoredImages",
    "StreamInfo",
    "Task",
    "TaskStream",
    "Value",
    "fingerprint",
    "images_from_array",
    "make_stream",
    "open_image_set",
    "split_from_arrays",
    "stream_info",
    "stream_of",
    "stream_outline",
    "task_from_arrays",
    "task_from_folder",
    "task_from_set",
]

STREAMS: Mapping[str, StreamInfo] = {
    "digits": digits.INFO,
    "cifar100": cifar100.INFO,
    "planted": planted.INFO,
    "folders": folders.INFO,
    "permuted-mnist": permuted_mnist.INFO,
    "mnist-variation": mnist_variation.INFO,
    "cifar100-subtasks": cifar100_subtasks.INFO,
    "awa": awa.INFO,
    **multi_task.INFOS,
    **office_home.INFOS,
    "pacs": pacs.INFO,
    **stl10.INFOS,
    **lwf_small.INFOS,
    **lwf_pairs.INFOS,
}
"""Every stream by its name. A new one is a file with its `INFO`, and an entry here."""


def stream_of(name: str, options: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
    """A stream's name and options; a YAML file, or a folder given as a path, is the path of `folders`."""
    if name not in STREAMS and (is_stream_file(name) or "/" in name):
        return "folders", {"path": name, **options}
    return name, dict(options)


def stream_info(name: str) -> StreamInfo:
    """The entry of the table of streams.

    Raises:
        UnknownNameError: there is no such stream.
    """
    if name not in STREAMS:
        raise UnknownNameError("stream", name, STREAMS)
    return STREAMS[name]


def stream_outline(name: str, options: Mapping[str, Value] | None = None) -> Outline:
    """How many tasks, classes and pixels a stream has, without reading its images.

    Raises:
        UnknownNameError: there is no such stream or option.
        ConfigurationError: only the stream's data tell.
    """
    info = stream_info(name)
    resolved = info.resolve(options or {})
    if info.outline is None:
        raise ConfigurationError(
            f"how many tasks and classes {name!r} has is known from its data alone; name another stream."
        )
    return info.outline(resolved)


def make_stream(
    name: str, seed: int = 0, data: Path | None = None, options: Mapping[str, Value] | None = None
) -> TaskStream:
    """Make a stream of tasks; its `options` are all that it has, defaults included.

    Args:
        name: a name of `STREAMS`.
        seed: every random draw of the stream comes from it.
        data: the folder of image sets; by default what the environment variable EVERLEARN_DATA names, if it
            is set. Without either, public sets come from the Hugging Face hub.
        options: what differs from the stream's defaults.

    Raises:
        UnknownNameError: there is no such stream, or it has no such option.
        ConfigurationError: an option's value is of the wrong type or out of range.
        MissingDataError: the images are not where they were looked for.
        DataError: they cannot be learned from.
    """
    info = stream_info(name)
    resolved = info.resolve(options or {})
    named = os.environ.get("EVERLEARN_DATA")
    folder = Path(data) if data is not None else Path(named) if named else None
    return info.build(seed, folder, resolved)


def fingerprint(stream: TaskStream) -> str:
    """A SHA-256 over all that is learned: tasks' and classes' names, images as float32 and labels as int64,
    in order.

    The stream's own name, seed and options do not count: two streams of the same images have one fingerprint.
    Images that are decoded as needed count by their `digest` instead, so that nothing is decoded for it.
    """
    whole = hashlib.sha256()
    for task in stream.tasks:
        whole.update(repr((task.name, task.classes)).encode())
        if len(task.splits()) < len(SPLITS):
            whole.update(repr((tuple(task.splits()), task.multi_label)).encode())
        for split in task.splits().values():
            whole.update(repr(tuple(split.images.shape)).encode())
            if isinstance(split.images, StoredImages):
                whole.update(split.images.digest.encode())
            else:
                # Little-endian and contiguous, whatever the machine.
                whole.update(np.ascontiguousarray(split.images.numpy(), dtype="<f4").data)
            whole.update(np.ascontiguousarray(split.labels.numpy(), dtype="<i8").data)
    return whole.hexdigest()
