"""Arguments of the Python interface are of the kinds that they are documented with, or are refused in a sentence.

The command line has text alone, which is read as what is wanted.
"""

from collections.abc import Iterable, Mapping
from numbers import Real
from operator import index
from pathlib import Path
from typing import SupportsIndex, cast

from everlearn.errors import ConfigurationError
from everlearn.tasks.task import TaskStream


def check_stream(stream: object) -> None:
    """Raise `ConfigurationError` unless it is text or tasks."""
    if not isinstance(stream, str | TaskStream):
        raise ConfigurationError(
            f"a stream is a name, a YAML file or a folder, as text, or a TaskStream, but came as {stream!r:.80}."
        )


def checked_methods(methods: object) -> tuple[str, ...]:
    """Names of methods.

    Raises:
        ConfigurationError: no list of names, or an empty one.
    """
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        raise ConfigurationError(
            f"methods are wanted as a list of names, such as ['stl'], but came as {methods!r:.80}."
        )
    names = tuple(methods)
    for name in names:
        if not isinstance(name, str):
            raise ConfigurationError(f"a method is wanted by its name, such as 'stl', but came as {name!r:.80}.")
    if not names:
        raise ConfigurationError("methods came as an empty list; name one, such as ['stl'].")
    return names


def checked_whole(name: str, number: object) -> int:
    """A whole number.

    Raises:
        ConfigurationError: it is something else.
    """
    try:
        return index(cast(SupportsIndex, number))
    except TypeError:
        raise ConfigurationError(f"{name} needs a whole number, but came as {number!r:.80}.") from None


def check_named(name: str, values: object, example: str = "{'rate': 0.001}") -> None:
    """Raise `ConfigurationError` unless it is values by names, or nothing."""
    if values is not None and not (isinstance(values, Mapping) and all(isinstance(key, str) for key in values)):
        raise ConfigurationError(f"{name} needs values by name, such as {example}, but came as {values!r:.80}.")


def check_values(name: str, values: object) -> None:
    """Raise `ConfigurationError` unless it is single values by names, or nothing."""
    check_named(name, values)
    for key, value in cast(Mapping[str, object], values or {}).items():
        if not isinstance(value, str | Real):
            raise ConfigurationError(f"{name} needs one value of {key}, but came as {value!r:.80}.")


def check_lists(name: str, values: object, text: bool = False) -> None:
    """Raise `ConfigurationError` unless it is lists of values by names, or nothing; `text` allows text for a list."""
    check_named(name, values, "{'rate': [0.001, 0.01]}")
    for key, value in cast(Mapping[str, object], values or {}).items():
        if not isinstance(value, Iterable) or (isinstance(value, str) and not text):
            raise ConfigurationError(
                f"{name} needs several values of {key}, as a list, but they came as {value!r:.80}."
            )


def check_truth(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless it is True or False; any text would count as true."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} is True or False, but came as {value!r:.80}.")


def check_path(name: str, path: object) -> None:
    """Raise `ConfigurationError` unless it is text or a path, or nothing."""
    if not isinstance(path, str | Path | None):
        raise ConfigurationError(f"{name} is wanted as text or a path, but came as {path!r:.80}.")
