"""Standardising by a slow loop, resizing and greying by numbers worked by hand."""

import math

import pytest
import torch

from everlearn.errors import DataError
from everlearn.tasks import Split
from everlearn.tasks.transforms import grey, resize, standardise, standardise_splits, statistics


def images(seed: int, count: int = 3, channels: int = 2) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, 4, 5, generator=random) * (seed + 1)


def slowly(given: torch.Tensor) -> torch.Tensor:
    """x' = (x - mu) / max(sigma, 1 / sqrt(n)), a pixel at a time."""
    done = given.clone()
    for channel in range(given.shape[1]):
        pixels = given[:, channel].flatten().tolist()
        mean = math.fsum(pixels) / len(pixels)
        sigma = math.sqrt(math.fsum((pixel - mean) ** 2 for pixel in pixels) / len(pixels))
        for n in range(len(given)):
            for y in range(given.shape[2]):
                for x in range(given.shape[3]):
                    value = float(given[n, channel, y, x])
                    done[n, channel, y, x] = (value - mean) / max(sigma, 1 / math.sqrt(len(pixels)))
    return done


def test_standardising_is_the_slow_loop() -> None:
    given = images(1)
    torch.testing.assert_close(standardise(given, statistics(given)), slowly(given), atol=2e-6, rtol=0)


def test_a_channel_of_one_value_is_divided_by_the_floor() -> None:
    # n = 1 * 4 * 4 = 16 pixels, so the floor is 1/4, well above the deviation 0.
    by = statistics(torch.full((1, 1, 4, 4), 0.5))
    assert by.mean.item() == 0.5
    assert by.scale.item() == 0.25
    # Two pixels apart by 0.2 around the mean: sigma 0.1 is below 1 / sqrt(2) = 0.707.
    assert statistics(torch.tensor([[[[0.4, 0.6]]]])).scale.item() == pytest.approx(0.70710678)


def test_each_split_by_its_own_statistics_or_all_by_the_training_splits() -> None:
    parts = [Split(images(seed), torch.tensor([0, 1, 0])) for seed in range(3)]
    own = standardise_splits(*parts, how="split")
    shared = standardise_splits(*parts, how="train")
    none = standardise_splits(*parts, how="none")
    by = statistics(parts[0].images)
    for k, part in enumerate(parts):
        torch.testing.assert_close(own[k].images, slowly(part.images), atol=2e-6, rtol=0)
        expected = (part.images - by.mean[:, None, None]) / by.scale[:, None, None]
        torch.testing.assert_close(shared[k].images, expected)
        assert none[k] is part
        assert own[k].labels is part.labels
    assert not torch.allclose(own[2].images, shared[2].images)


def test_statistics_of_other_channels_are_refused() -> None:
    with pytest.raises(DataError, match="images of 3 channels cannot be standardised by 2"):
        standardise(images(0, channels=3), statistics(images(0, channels=2)))


def test_grey_is_luma() -> None:
    # 0.299 * 0.5 + 0.587 * 0.25 + 0.114 * 1 = 0.1495 + 0.14675 + 0.114 = 0.41025
    given = torch.tensor([0.5, 0.25, 1.0]).view(1, 3, 1, 1)
    assert grey(given).item() == pytest.approx(0.41025)
    assert grey(given[:, :1]) is not None
    assert torch.equal(grey(given[:, :1]), given[:, :1])
    with pytest.raises(DataError, match=r"3 channels \(or 1\) .* have 2"):
        grey(given[:, :2])


def test_resizing_weighs_all_pixels_that_a_larger_one_covers() -> None:
    # From 8 columns to 2, by 4: the triangle around the first new pixel, at 1.5, reaches 4 columns each way and
    # weighs columns 0 .. 5 by 1 - |column - 1.5| / 4 = 5/8, 7/8, 7/8, 5/8, 3/8, 1/8, which sum to 28/8. Column 0
    # thus has the share 5/28; the second new pixel, at 5.5, does not reach it.
    given = torch.zeros(1, 1, 3, 8)
    given[..., 0] = 1
    small = resize(given, (3, 2))
    assert small.shape == (1, 1, 3, 2)
    torch.testing.assert_close(small[0, 0], torch.tensor([[5 / 28, 0.0]] * 3))
