"""The errors that a user of everlearn can meet.

    EverlearnError
    ├── ConfigurationError      what was asked for does not exist or does not fit together
    │   └── UnknownNameError    a name that nothing answers to; says which names are near
    ├── DataError               images, labels or files that cannot be learned from
    │   └── MissingDataError    a data set that is not where it was looked for
    ├── LayerError              a sharing rule that cannot make a layer's weights
    └── StoreError              a run folder that cannot be read or written

Every message says what was wanted, what came, and what to do. The command line prints the message alone and
leaves with status 2; anything that is not an `EverlearnError` is a fault of ours and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class EverlearnError(Exception):
    """The base of every error that is meant for a user."""


class ConfigurationError(EverlearnError, ValueError):
    """What was asked for does not exist or does not fit together."""


def check_not_negative(owner: object, *names: str) -> None:
    """Raise `ConfigurationError` for the first of these attributes that is no finite number of at least 0."""
    for name in names:
        value = getattr(owner, name)
        if not 0 <= value < float("inf"):
            raise ConfigurationError(f"{name} needs a number of at least 0, but came as {value}.")


class UnknownNameError(ConfigurationError):
    """A name that nothing answers to.

    Args:
        kind: what the name should have been, in the singular ("method").
        name: what came.
        known: the names that exist; the near ones are named first.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
        there = f"there are {', '.join(names) or 'none'}."
        hint = f"did you mean {' or '.join(near)}?" if near else there
        super().__init__(f"there is no {kind} named {name!r}; {hint}")
        self.near = near


class DataError(EverlearnError, ValueError):
    """Images, labels or files that cannot be learned from."""


class MissingDataError(DataError):
    """A data set that is not where it was looked for."""


class LayerError(EverlearnError, ValueError):
    """A sharing rule that cannot make a layer's weights."""


class StoreError(EverlearnError):
    """A run folder that cannot be read or written."""


class EverlearnWarning(UserWarning):
    """Something that a user should know of a run that is nevertheless finished."""
