"""Means over trials and how sure they are: confidence intervals by Student's t distribution."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from everlearn.errors import ConfigurationError

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean over trials and its confidence interval.

    Attributes:
        mean: over the trials in which the number is defined; NaN if there is none.
        half_width: the interval is `mean - half_width` to `mean + half_width`; NaN with fewer than two
            trials.
        n: trials in which the number is defined.
    """

    mean: float
    half_width: float
    n: int


def interval(values: Sequence[float] | Floats, level: float = 0.95) -> Interval:
    """The mean of independent trials with its confidence interval by Student's t distribution.

    half_width = t_{n-1}((1 + level) / 2) * s / sqrt(n), s the sample standard deviation (n - 1 below).
    Trials in which the number is not defined (NaN) are left out, and `n` says how many remain.

    Raises:
        ConfigurationError: `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ConfigurationError(f"a confidence level lies between 0 and 1, but came as {level}.")
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    n = len(known)
    if n < 2:
        return Interval(float(known[0]) if n else math.nan, math.nan, n)
    quantile = float(stats.t.ppf((1 + level) / 2, n - 1))
    return Interval(float(known.mean()), quantile * float(known.std(ddof=1)) / math.sqrt(n), n)


def paired_interval(first: Sequence[float] | Floats, second: Sequence[float] | Floats, level: float = 0.95) -> Interval:
    """The interval of `first - second`, trial by trial: narrower than two intervals where trials share their
    data.

    Raises:
        ConfigurationError: not as many of the one as of the other.
    """
    if len(first) != len(second):
        raise ConfigurationError(
            f"paired differences need as many values on both sides, but {len(first)} and {len(second)} came."
        )
    return interval(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64), level)
