"""Random draws of tasks: each is named, and the same on every machine.

A draw is the order that a seed and its words give to a number of things. Only the raw bits of PCG64 are used:
numpy promises those for all its versions, but neither it nor torch promises what a shuffle makes of them.
"""

from collections.abc import Sequence

import numpy as np

from everlearn.errors import ConfigurationError, DataError
from everlearn.seeds import Word, derive


def permutation(count: int, seed: int, *words: Word) -> np.ndarray:
    """The numbers 0 .. count - 1 in random order, `[count]`, int64.

    The first k of them are a sample of k without replacement, and the sample of k + 1 contains it.

    Args:
        count: how many.
        seed: of the stream.
        words: what the order is for; other words give an independent order.
    """
    bits = np.random.PCG64(derive(seed, *words)).random_raw(count)
    return np.argsort(bits, kind="stable")


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise `ConfigurationError` unless the fractions are above 0 and sum to 1."""
    # Put so that what is no number is refused as well: it is neither above nor below another.
    if not (all(fraction > 0 for fraction in fractions) and abs(sum(fractions) - 1) <= 1e-6):
        raise ConfigurationError(
            f"the fractions of a split need to be above 0 and to sum to 1, but came as {list(fractions)}."
        )


def check_share(share: float, name: str = "fraction") -> float:
    """The share itself; raise `ConfigurationError` unless it is above 0 and at most 1."""
    if not 0 < share <= 1:
        raise ConfigurationError(f"{name} is wanted above 0 and at most 1, but came as {share:g}.")
    return share


def divide(count: int, fractions: Sequence[float], what: str) -> list[int]:
    """Sizes of the parts of `count` images.

    Every part but the first has its fraction, rounded (halves up), and at least one; the first has the rest.

    Args:
        count: images to divide.
        fractions: one a part; they sum to 1.
        what: how an error names the images ("class 'cat' of cats/").

    Raises:
        DataError: the first part would be empty.
    """
    sizes = [max(1, int(count * fraction + 0.5)) for fraction in fractions[1:]]
    if count - sum(sizes) < 1:
        raise DataError(
            f"{what} has {count} image{'s' if count != 1 else ''}, too few to divide into {len(fractions)} parts by "
            f"{' / '.join(f'{fraction:g}' for fraction in fractions)}; add images or change the fractions."
        )
    return [count - sum(sizes), *sizes]


def parts(count: int, fractions: Sequence[float], what: str, seed: int, *words: Word) -> list[np.ndarray]:
    """Divide the numbers 0 .. count - 1 at random: one int64 array a fraction; arguments as above."""
    ends = np.cumsum(divide(count, fractions, what))
    return np.split(permutation(count, seed, *words), ends[:-1])
