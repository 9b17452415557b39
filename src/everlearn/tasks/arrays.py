"""Tasks from arrays in memory."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.task import Split, Task

Array = np.ndarray | Tensor
Labels = Array | Sequence[int]

_AXES = {"NCHW": 4, "NHWC": 4, "NHW": 3}


def images_from_array(images: Array, layout: str | None = None) -> Tensor:
    """Images as a task wants them: a copy in main memory, float32, `[N, C, H, W]`.

    Args:
        images: uint8, which becomes [0, 1], or floating point, which is kept.
        layout: "NCHW", "NHWC" or "NHW"; without it `[N, C, H, W]` if there are four and `[N, H, W]` if three.

    Raises:
        DataError: another number of axes, another type, or what looks like `[N, H, W, C]` and does not say
            so.
        ConfigurationError: there is no such layout.
    """
    if layout is not None and layout not in _AXES:
        raise ConfigurationError(f"there is no layout {layout!r}; there are {', '.join(_AXES)}.")
    # A copy, so that what the caller does with the array later cannot change the task.
    tensor = images.detach().to("cpu", copy=True) if isinstance(images, Tensor) else _from_numpy(np.array(images))
    if tensor.ndim not in (3, 4) or (layout and tensor.ndim != _AXES[layout]):
        wanted = layout or "NCHW, NHWC or NHW"
        raise DataError(f"images of layout {wanted} are wanted, but an array of shape {list(tensor.shape)} came.")
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise DataError(f"images are wanted as uint8 or floating point, but came as {tensor.dtype}; convert them.")
    if layout is None and tensor.ndim == 4 and tensor.shape[1] > 4 and tensor.shape[3] in (1, 3, 4):
        raise DataError(
            f"images of shape {list(tensor.shape)} look like [N, H, W, C]; say layout='NHWC', "
            f"or layout='NCHW' if they do have {tensor.shape[1]} channels."
        )
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(1)
    elif layout == "NHWC":
        tensor = tensor.permute(0, 3, 1, 2)
    scaled = tensor.to(torch.float32) / 255 if tensor.dtype == torch.uint8 else tensor.to(torch.float32)
    return scaled.contiguous()


def _from_numpy(images: np.ndarray) -> Tensor:
    try:
        return torch.from_numpy(images)
    except (TypeError, ValueError) as error:  # objects, strings, foreign byte order
        raise DataError(f"images are wanted as uint8 or floating point, but came as {images.dtype}.") from error


def split_from_arrays(images: Array, labels: Labels, layout: str | None = None) -> Split:
    """A split; images as for `images_from_array`, labels as any integers `[N]`.

    Raises:
        DataError: as for `images_from_array`, or labels that are no integers.
    """
    numbers = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if numbers.size and not np.issubdtype(numbers.dtype, np.integer):
        raise DataError(f"labels are wanted as integers, but came as {numbers.dtype}.")
    return Split(images_from_array(images, layout), torch.from_numpy(numbers.astype(np.int64)))


def task_from_arrays(
    name: str,
    classes: Sequence[str],
    train: tuple[Array, Labels],
    validation: tuple[Array, Labels],
    test: tuple[Array, Labels],
    layout: str | None = None,
) -> Task:
    """A task from a pair (images, labels) for each split.

    Args:
        name: unique within its stream.
        classes: names of the labels 0, 1, ...
        train: what is learned from.
        validation: what choices are made on.
        test: what is reported.
        layout: as for `images_from_array`.

    Raises:
        DataError: as for `split_from_arrays`; an empty split, a label out of range, a pixel that is not
            finite.
    """
    made = [split_from_arrays(images, labels, layout) for images, labels in (train, validation, test)]
    return Task(name, tuple(classes), *made)
