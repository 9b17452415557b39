import math

import pytest
import torch

from everlearn.networks.same import SameMaxPool2d, same_size


def slow_pool(image: torch.Tensor, size: int) -> torch.Tensor:
    """TensorFlow's definition: ceil(n/s) windows; the missing pixels are split, the smaller half before."""
    out = math.ceil(image.shape[-1] / size)
    before = (out * size - image.shape[-1]) // 2
    result = torch.empty(out, out)
    for i in range(out):
        for j in range(out):
            rows = range(max(0, i * size - before), min(image.shape[-1], (i + 1) * size - before))
            columns = range(max(0, j * size - before), min(image.shape[-1], (j + 1) * size - before))
            result[i, j] = max(float(image[0, 0, y, x]) for y in rows for x in columns)
    return result


@pytest.mark.parametrize(
    ("pixels", "size"), [(128, 3), (43, 3), (15, 2), (8, 2), (32, 3), (11, 3), (7, 2), (96, 3), (5, 3)]
)
def test_pooling_is_tensorflows(pixels: int, size: int) -> None:
    image = torch.randn(1, 1, pixels, pixels, generator=torch.Generator().manual_seed(0))
    assert torch.equal(SameMaxPool2d(size)(image)[0, 0], slow_pool(image, size))
    assert same_size(pixels, size) == math.ceil(pixels / size)


def test_a_window_that_begins_before_the_image_differs_from_ceil_mode() -> None:
    # 4 pixels by 3: two windows, two pixels missing, one before. Windows hold (., 0, 1) and (2, 3, .);
    # with ceil_mode they would hold (0, 1, 2) and (3).
    image = torch.tensor([[1.0, 2.0, 3.0, 0.0]] * 4)[None, None]
    assert SameMaxPool2d(3)(image)[0, 0, 0].tolist() == [2.0, 3.0]
