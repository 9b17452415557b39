"""Arrays of every layout become the same images."""

import numpy as np
import pytest
import torch

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks import images_from_array, split_from_arrays, task_from_arrays
from tests.tasks.made import noise

BYTES = noise(0, (5, 4, 6, 3))  # [N, H, W, C]


def test_bytes_become_floats_between_0_and_1() -> None:
    levels = np.array([[[0, 51, 255]]], dtype=np.uint8)
    images = images_from_array(levels)
    assert images.dtype == torch.float32
    assert torch.equal(images, torch.tensor([[[[0.0, 0.2, 1.0]]]]))  # 51 / 255 = 0.2


def test_every_layout_puts_a_pixel_where_it_belongs() -> None:
    images = images_from_array(BYTES, "NHWC")
    assert images.shape == (5, 3, 4, 6)
    assert images.is_contiguous()
    for n, c, y, x in np.ndindex(5, 3, 4, 6):
        assert images[n, c, y, x] == np.float32(BYTES[n, y, x, c]) / np.float32(255)
    assert torch.equal(images_from_array(BYTES.transpose(0, 3, 1, 2)), images)
    assert torch.equal(images_from_array(torch.from_numpy(BYTES), "NHWC"), images)
    assert torch.equal(images_from_array(BYTES[..., 0]), images[:, :1])
    assert torch.equal(images_from_array(BYTES[..., 0], "NHW"), images[:, :1])


def test_floats_are_kept_and_copied() -> None:
    array = np.array([[[[-3.5, 7.0]]]])
    images = images_from_array(array)
    tensor = torch.ones(1, 1, 1, 2)
    copied = images_from_array(tensor)
    array[:], tensor[:] = 0, 0
    assert images.dtype == torch.float32
    assert images.flatten().tolist() == [-3.5, 7.0]
    assert copied.flatten().tolist() == [1.0, 1.0]


def test_a_read_only_array_is_taken() -> None:
    array = np.zeros((2, 3, 3), dtype=np.float32)
    array.flags.writeable = False
    assert images_from_array(array).shape == (2, 1, 3, 3)


@pytest.mark.parametrize(
    ("images", "layout", "said"),
    [
        (np.zeros((2, 3)), None, r"layout NCHW, NHWC or NHW are wanted, but an array of shape \[2, 3\]"),
        (np.zeros((2, 3, 3)), "NHWC", r"layout NHWC are wanted, but an array of shape \[2, 3, 3\]"),
        (np.zeros((2, 3, 3), dtype=np.int32), None, "uint8 or floating point, but came as torch.int32"),
        (np.full((2, 3, 3), "x"), None, "uint8 or floating point, but came as <U1"),
        (
            np.zeros((2, 8, 8, 3)),
            None,
            r"look like \[N, H, W, C\]; say layout='NHWC', or layout='NCHW'.* 8 channels",
        ),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(images: np.ndarray, layout: str | None, said: str) -> None:
    with pytest.raises(DataError, match=said):
        images_from_array(images, layout)


def test_a_layout_that_is_said_is_believed() -> None:
    assert images_from_array(np.zeros((2, 8, 8, 3)), "NCHW").shape == (2, 8, 8, 3)
    with pytest.raises(ConfigurationError, match="there is no layout 'CHWN'; there are NCHW, NHWC, NHW"):
        images_from_array(np.zeros((2, 8, 8, 3)), "CHWN")


@pytest.mark.parametrize(
    "labels", [[1, 0, 2, 1, 0], np.array([1, 0, 2, 1, 0], np.uint8), torch.tensor([1, 0, 2, 1, 0])]
)
def test_labels_of_every_integer_kind_are_taken(labels: object) -> None:
    split = split_from_arrays(BYTES, labels, "NHWC")  # pyright: ignore[reportArgumentType]
    assert split.labels.dtype == torch.int64
    assert split.labels.tolist() == [1, 0, 2, 1, 0]


def test_labels_that_are_no_integers_are_refused() -> None:
    with pytest.raises(DataError, match="labels are wanted as integers, but came as float64"):
        split_from_arrays(BYTES, np.zeros(5), "NHWC")


def test_a_task_of_arrays_checks_what_every_task_checks() -> None:
    pair = (BYTES, [0, 1, 0, 1, 0])
    task = task_from_arrays("t", ["a", "b"], pair, (BYTES[:2], [1, 0]), (BYTES[:3], [0, 0, 1]), "NHWC")
    assert [len(split) for split in task.splits().values()] == [5, 2, 3]
    assert task.classes == ("a", "b")
    with pytest.raises(DataError, match="the test split of task 't' has the label 2"):
        task_from_arrays("t", ["a", "b"], pair, pair, (BYTES[:1], [2]), "NHWC")
    with pytest.raises(DataError, match="the validation split of task 't' is empty"):
        task_from_arrays("t", ["a", "b"], pair, (BYTES[:0], []), pair, "NHWC")
    with pytest.raises(DataError, match="the train split of task 't' has pixels that are not finite"):
        task_from_arrays("t", ["a", "b"], (np.full((1, 4, 6, 3), np.nan), [0]), pair, pair, "NHWC")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
def test_a_tensor_on_a_gpu_comes_to_main_memory() -> None:
    images, labels = torch.rand(4, 1, 3, 2, device="cuda"), torch.tensor([0, 1, 0, 1], device="cuda")
    made = split_from_arrays(images, labels)
    assert made.images.device.type == made.labels.device.type == "cpu"  # type: ignore[union-attr]
    assert torch.equal(made.images, images.cpu())  # type: ignore[arg-type]
