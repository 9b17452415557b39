"""Digits turned by any angle over a background, in whole numbers alone: the same pixels on every machine.

Floating-point sums may differ in their last bits between processors, and a level that is rounded would then differ.
Here angles become sines and cosines in steps of 2^-16; all that follows is exact.
"""

import numpy as np

from everlearn.seeds import Word, derive

_ONE = 1 << 16
_GRIDS = ((4, 4), (7, 2), (14, 1))
"""Of a texture: side of each grid of random levels, and its weight."""


def random_bits(count: int, seed: int, *words: Word) -> np.ndarray:
    """Independent uniform numbers of 64 bits, `[count]`, by name; from the raw bits of PCG64, as all draws of tasks."""
    return np.random.PCG64(derive(seed, *words)).random_raw(count)


def random_levels(shape: tuple[int, ...], seed: int, *words: Word) -> np.ndarray:
    """Independent uniform levels 0 .. 255 of this shape, uint8."""
    count = int(np.prod(shape))
    return random_bits(-(-count // 8), seed, *words).astype("<u8").view(np.uint8)[:count].reshape(shape)


def random_angles(count: int, seed: int, *words: Word) -> np.ndarray:
    """Independent uniform angles in [0, 2 pi), `[count]`, float64."""
    return (random_bits(count, seed, *words) >> 11).astype(np.float64) * (2 * np.pi / 2**53)


def rotate(pixels: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Square images turned anticlockwise about their middle: bilinear, black where nothing was.

    Pixel (y, x) of the result is taken from where the turn brings it from; what leaves the square is cut off.

    Args:
        pixels: `[n, H, H]`, uint8.
        angles: `[n]`, in radians.
    """
    side = pixels.shape[1]
    cos, sin = (np.rint(f(angles) * _ONE).astype(np.int32)[:, None, None] for f in (np.cos, np.sin))
    # Twice the distance from the middle, so that it is whole for an even side too.
    away = (2 * np.arange(side) - (side - 1)).astype(np.int32)
    down, right = away[:, None], away[None, :]
    middle = np.int32((side - 1) * _ONE)
    # In 2^-17 of a pixel, then rounded to 2^-8.
    y = (cos * down + sin * right + middle + 256) >> 9
    x = (cos * right - sin * down + middle + 256) >> 9
    return _between(np.pad(pixels, ((0, 0), (1, 1), (1, 1))), y, x)


def _between(padded: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bilinear levels at positions in 2^-8 of a pixel; `padded` has a black pixel more on each side."""
    last = padded.shape[1] - 1
    rows = np.clip((y >> 8) + np.arange(1, 3)[:, None, None, None], 0, last)
    columns = np.clip((x >> 8) + np.arange(1, 3)[:, None, None, None], 0, last)
    below, beside = y & 255, x & 255
    image = np.arange(len(padded))[:, None, None]
    total = np.full(y.shape, 1 << 15, dtype=np.int32)
    for row, tall in zip(rows, (256 - below, below), strict=True):
        for column, wide in zip(columns, (256 - beside, beside), strict=True):
            total += padded[image, row, column] * (tall * wide)
    return (total >> 16).astype(np.uint8)


def textures(shape: tuple[int, int, int], seed: int, *words: Word) -> np.ndarray:
    """Smooth random greys, `[n, H, H]` of this shape, uint8, stretched so that each has levels from 0 to 255.

    The weighted sum of three grids of independent uniform levels (4 x 4 with weight 4, 7 x 7 with 2, 14 x 14 with 1),
    each spread over the image by linear interpolation, its corners on the image's corners.
    """
    count, side, _ = shape
    made = np.empty(shape, dtype=np.uint8)
    grids = [random_levels((count, size, size), seed, *words, size) for size, _ in _GRIDS]
    for start in range(0, count, 1000):
        part = slice(start, start + 1000)
        # Whole numbers below 2^53, so float64 is exact in whatever order a product sums.
        total = np.zeros(made[part].shape)
        for grid, (size, weight) in zip(grids, _GRIDS, strict=True):
            spread = _spread(size, side)
            total += weight * (spread @ grid[part].astype(np.float64) @ spread.T)
        whole = total.astype(np.int64)
        low, high = (f(whole, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
        made[part] = (whole - low) * 255 // np.maximum(high - low, 1)
    return made


def _spread(size: int, side: int) -> np.ndarray:
    """Weights in 2^-8 that interpolate `size` points linearly at `side` places: `[side, size]`."""
    place = (np.arange(side) * (size - 1) * 256) // (side - 1)
    first = np.minimum(place // 256, size - 2)
    weights = np.zeros((side, size))
    weights[np.arange(side), first + 1] = place - 256 * first
    weights[np.arange(side), first] = 256 - (place - 256 * first)
    return weights


def over(digits: np.ndarray, background: np.ndarray) -> np.ndarray:
    """White digits laid over a background, both uint8: a level d of ink covers it by d / 255."""
    ink = digits.astype(np.int32)
    return ((ink * 255 + background * (255 - ink) + 127) // 255).astype(np.uint8)
