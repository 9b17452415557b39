"""What the table of streams says of each stream, and how a stream's options are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.tasks.task import TaskStream

Value = str | int | float | bool


@dataclass(frozen=True)
class Option:
    """One option of a stream.

    Attributes:
        default: its type is the option's.
        help: one line.
        choices: the values there are; empty for any.
        later: whether it leaves the first task as it is.
        quiet: whether it is left out where it has its default: an option added later leaves the names of earlier runs
            as they are.
        hidden: whether people are not told of it: it is set here alone.
    """

    default: Value
    help: str
    choices: tuple[str, ...] = ()
    later: bool = False
    quiet: bool = False
    hidden: bool = False


@dataclass(frozen=True)
class Outline:
    """What is known of a stream before its images are read.

    Attributes:
        classes: the number of classes of each task.
        image_shape: channels, height, width.
    """

    classes: tuple[int, ...]
    image_shape: tuple[int, int, int]


@dataclass(frozen=True)
class StreamInfo:
    """One entry of the table of streams.

    Attributes:
        name: as on the command line.
        about: one line for people.
        content: tasks, classes and image shape, in words.
        build: makes the stream from a seed, a data folder (or None) and all its options.
        outline: its sizes by its options, without reading data; None where only the data tell.
        options: by name.
        data: which files or packages hold the images.
        hub: the set's name on the Hugging Face hub, if it comes from there.
        licence: of the images.
        first_as: the stream that has the same first task, from the same seed and options; empty: none.
        told: of all options with their defaults, those that a file of the user's sets, which count where nothing was
            given; None: there is no such file.
    """

    name: str
    about: str
    content: str
    build: Callable[[int, Path | None, Mapping[str, Value]], TaskStream]
    outline: Callable[[Mapping[str, Value]], Outline] | None
    options: Mapping[str, Option]
    data: str
    hub: str | None
    licence: str
    first_as: str = ""
    told: Callable[[Mapping[str, Value]], Mapping[str, Value]] | None = None

    def resolve(self, options: Mapping[str, Value]) -> dict[str, Value]:
        """All options, with their defaults filled in and words read as numbers where numbers are wanted.

        What comes out, given again, comes out again: runs are recorded with their options, and made from the record.

        Raises:
            UnknownNameError: there is no such option.
            ConfigurationError: a value of another type, or not among the choices.
        """
        for name in options:
            if name not in self.options:
                raise UnknownNameError(f"option of stream {self.name!r}", name, self.options)
        every = {name: option.default for name, option in self.options.items()} | dict(options)
        read = {name: self._value(name, value) for name, value in every.items()}
        told = {} if self.told is None else self.told(read)
        # What a file says is read as what a command line says.
        read |= {name: self._value(name, value) for name, value in told.items() if name not in options}
        return {name: value for name, value in read.items() if self._counts(name, value, told)}

    def _counts(self, name: str, value: Value, told: Mapping[str, Value]) -> bool:
        """Whether an option is written down: not a quiet one at its default, unless a file says something else."""
        option = self.options[name]
        return not option.quiet or value != option.default or told.get(name, value) != value

    def _value(self, name: str, value: Value) -> Value:
        option = self.options[name]
        read = _READERS[type(option.default)]
        made = read(value)
        what = f"option {name} of stream {self.name!r}"
        if made is None:
            kind = _KINDS[type(option.default)]
            raise ConfigurationError(f"{what} is wanted as {kind}, but came as {value!r}.")
        if option.choices and made not in option.choices:
            raise ConfigurationError(f"{what} is one of {', '.join(option.choices)}, but came as {value!r}.")
        return made


def _boolean(value: Value) -> bool | None:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(str(value).lower())


def _integer(value: Value) -> int | None:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _number(value: Value) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _text(value: Value) -> str | None:
    # A size given as 32 on a command line or in a file arrives as a number.
    return None if isinstance(value, bool) else str(value)


_READERS: Mapping[type, Callable[[Value], Value | None]] = {
    bool: _boolean,
    int: _integer,
    float: _number,
    str: _text,
}
_KINDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
