"""What is searched over, as a person writes it: `1e-4..1e-2:log`, `1..16`, `0.1,1,10`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from everlearn.errors import ConfigurationError

Value = str | int | float | bool

EXAMPLES = "rate=1e-4..1e-2:log, k=4..16 or lambda_old=0.3,1,3"

_PAST_WHOLE = 1e15
"""From about here on there are whole numbers that no float is."""


@dataclass(frozen=True)
class Choices:
    """Some values, each as text."""

    values: tuple[str, ...]

    def ends(self) -> tuple[str, ...]:
        """The values that must be allowed for the whole to be."""
        return self.values

    def listed(self) -> tuple[str, ...] | None:
        """All values, if they can be listed."""
        return self.values

    def size(self) -> int | None:
        """How many values there are; None: without end."""
        return len(self.values)

    def __str__(self) -> str:
        return ("; " if any("," in value for value in self.values) else ", ").join(self.values)


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, both among them.

    Attributes:
        low: the least.
        high: the greatest.
        log: whether as many are drawn from 1 to 10 as from 10 to 100.
        whole: whether only whole numbers are meant.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def ends(self) -> tuple[str, ...]:
        """The values that must be allowed for the whole to be."""
        return self.text(self.low), self.text(self.high)

    def listed(self) -> tuple[str, ...] | None:
        """All values, if they can be listed: whole numbers can."""
        if not self.whole:
            return None
        return tuple(str(number) for number in range(int(self.low), int(self.high) + 1))

    def size(self) -> int | None:
        """How many numbers there are, which may be more than could be listed; None: without end."""
        return int(self.high) - int(self.low) + 1 if self.whole else None

    def text(self, number: float) -> str:
        """A number of the range as `--set` and `--option` take it."""
        return str(int(number)) if self.whole else repr(float(number))

    def __str__(self) -> str:
        return f"{self.text(self.low)} to {self.text(self.high)}{', logarithmic' if self.log else ''}"


Dimension = Choices | Range


def read_search(said: Mapping[str, str | Sequence[Value]], whole: Mapping[str, bool]) -> dict[str, Dimension]:
    """What is searched over, by name.

    Args:
        said: of each name a range ("1e-4..1e-2:log") or values ("0.1,1,10"; "8,8;16,16" where a value has commas
            itself), or the values in a list.
        whole: for each name that there is whether it takes whole numbers alone.

    Raises:
        ConfigurationError: it is neither, or has nothing in it.
    """
    return {name: _read(name, text, whole.get(name, False)) for name, text in said.items()}


def _read(name: str, said: str | Sequence[Value], whole: bool) -> Dimension:
    if not isinstance(said, str):
        return _choices(name, [_plain(value) for value in said], said)
    if ".." in said:
        return _range(name, said, whole)
    return _choices(name, [part.strip() for part in said.split(";" if ";" in said else ",")], said)


def _plain(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _choices(name: str, values: Sequence[str], said: object) -> Choices:
    if not values or not all(values):
        raise ConfigurationError(f"the search of {name} needs values, such as {EXAMPLES}, but came as {said!r}.")
    return Choices(tuple(dict.fromkeys(values)))


def _range(name: str, said: str, whole: bool) -> Range:
    text, colon, scale = said.partition(":")
    low, _, high = text.partition("..")
    try:
        numbers = [float(low), float(high)]
    except ValueError:
        numbers = []
    if not numbers or (colon and scale != "log") or not all(map(math.isfinite, numbers)):
        raise ConfigurationError(
            f"the search of {name} needs the form LOW..HIGH or LOW..HIGH:log, but came as {said!r}."
        )
    if numbers[0] >= numbers[1]:
        raise ConfigurationError(f"the search of {name} needs a lower end below its upper end, but came as {said!r}.")
    if scale and numbers[0] <= 0:
        raise ConfigurationError(
            f"the search of {name} is logarithmic and needs a lower end above 0, but came as {said!r}."
        )
    if whole and not all(number.is_integer() and abs(number) < _PAST_WHOLE for number in numbers):
        raise ConfigurationError(
            f"the search of {name} needs whole numbers of at most 15 digits, but came as {said!r}."
        )
    return Range(*numbers, log=bool(scale), whole=whole)
