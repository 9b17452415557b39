"""The methods by name. A method that differs from another in rule and configuration alone has no file of its own.

A name may carry a configuration: `hps@bottom-2`, `df-cnn@0110`, `tf@all/none/...`; and `file.py:Name` is a method of
the user's own, a class derived from `Method` (made without arguments) or a function of a `Setting` that returns one.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.methods.base import Method
from everlearn.methods.table import METHODS, Entry, Setting
from everlearn.plugins import is_plugin, load_plugin

__all__ = ["METHODS", "Entry", "Setting", "make_method", "network_name", "option_names", "plain_name", "with_options"]

Value = str | int | float | bool
_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number"}


def make_method(name: str, backbone: str, tasks: int, options: Mapping[str, Value]) -> Method:
    """A method by name.

    Args:
        name: of the table, or `file.py:Name`; with `@configuration` if wanted.
        backbone: name of the backbone.
        tasks: how many tasks the stream holds.
        options: hyper-parameters by name; those that the method and its rule do not have are left to others.

    Raises:
        UnknownNameError: no such method.
        ConfigurationError: a method that has no configuration to choose, or a value that an option cannot have.
    """
    base, at, configuration = name.partition("@")
    setting = Setting(backbone, tasks)
    if is_plugin(base):
        method = _plugin(base, setting)
    elif base in METHODS:
        method = METHODS[base].make(setting)
    else:
        raise UnknownNameError("method", base, METHODS)
    given: dict[str, Value] = dict(options)
    if at:
        if "configuration" not in {f.name for f in fields(cast(Any, method))}:
            raise ConfigurationError(f"{base!r} has no configuration to choose; leave out '@{configuration}'.")
        given["configuration"] = configuration
    return with_options(method, given)


def plain_name(method: str) -> str:
    """A method's name without its configuration."""
    return method.partition("@")[0]


def network_name(method: str, backbone: str) -> str:
    """The backbone that a method uses where `backbone` is asked for: some methods have a larger or smaller one."""
    entry = METHODS.get(plain_name(method))
    return f"{backbone}-{entry.variant}" if entry and entry.variant else backbone


def option_names(method: Method) -> list[str]:
    """The hyper-parameters of a method and its rule."""
    names = [f.name for f in fields(cast(Any, method)) if f.name != "rule"]
    rule = getattr(method, "rule", None)
    return names + ([f.name for f in fields(rule)] if is_dataclass(rule) else [])


def with_options(method: Method, options: Mapping[str, Value]) -> Method:
    """The method with those of the options that it or its rule has."""
    rule = getattr(method, "rule", None)
    if rule is not None and is_dataclass(rule):
        method = replace(cast(Any, method), rule=_replaced(rule, options))
    return cast(Method, _replaced(method, options))


def said_options(name: str, backbone: str, tasks: int, options: Mapping[str, Value]) -> dict[str, str]:
    """Those of the options that a method has and that differ from its defaults, spelt alike: 2 and "2.0" are "2".

    Arguments and errors are those of `make_method`.
    """
    if not options:
        return {}
    method, plain = make_method(name, backbone, tasks, options), make_method(name, backbone, tasks, {})
    known = option_names(method)
    values = {one: (_option(method, one), _option(plain, one)) for one in options if one in known}
    return {one: _spelling(value, options[one]) for one, (value, default) in values.items() if value != default}


def _option(method: Method, name: str) -> Any:
    """The value of an option of a method, or of its rule."""
    return getattr(_owner(method, name), name)


def option_kind(method: Method, name: str) -> type | None:
    """Whether an option of a method, or of its rule, is text, a truth value, a whole or any number; None: else."""
    return _kind(_owner(method, name), name)


def _owner(method: Method, name: str) -> Any:
    """What has an option: the method, or its rule."""
    return method if name in {f.name for f in fields(cast(Any, method))} else cast(Any, method).rule


def _kind(thing: Any, name: str) -> type | None:
    """What a field is said to be (`float`, `int | None`), or else what its default is."""
    try:
        said = get_type_hints(cast(object, thing).__class__).get(name)
    except (NameError, TypeError):  # of a user's own class, which may name what is not there
        said = None
    members = get_args(said) if get_origin(said) in (Union, UnionType) else (said,)
    plain = [member for member in members if member is not NoneType]
    kinds = (bool, int, float, str)
    if len(plain) == 1 and plain[0] in kinds:
        return plain[0]
    default: object = next(f.default for f in fields(thing) if f.name == name)
    return type(default) if type(default) in kinds else None


def _spelling(value: object, given: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value).removesuffix(".0")
    return "".join(str(given).split()) if isinstance(value, tuple) else str(given)


def _replaced(thing: Any, options: Mapping[str, Value]) -> Any:
    changes = {f.name: _like(f.name, _kind(thing, f.name), options[f.name]) for f in fields(thing) if f.name in options}
    return replace(thing, **changes) if changes else thing


def _like(name: str, kind: type | None, value: Value) -> Any:
    """A value of a kind: numbers and truth values from text; where no kind is known, tuples of numbers from "16,24"."""
    if kind is str:
        return str(value)  # "12" from a file may have come as a number
    if kind is None:
        parts = value.split(",") if isinstance(value, str) else [""]
        return tuple(int(part) for part in parts) if all(part.strip().isdecimal() for part in parts) else value
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(value, bool):  # which Python takes for 1 or 0
            raise ValueError
        read = kind(value)
        # Not a number, which no bound would refuse; or one that was cut to a whole one.
        if read != read or (isinstance(value, float) and read != value):
            raise ValueError
        return read
    except (TypeError, ValueError, OverflowError, KeyError):
        raise ConfigurationError(f"the option {name} needs {_KINDS[kind]}, but came as {value!r}.") from None


def _plugin(name: str, setting: Setting) -> Method:
    found: Any = load_plugin("method", name)
    try:
        method: object = found() if isinstance(found, type) else found(setting) if callable(found) else found
    except TypeError as error:
        raise ConfigurationError(
            f"{name} cannot be made: {error}. A class needs a default for every option and the functions of "
            "everlearn.Method that have none (begin, objective); a function takes the setting."
        ) from error
    if not isinstance(method, Method):
        raise ConfigurationError(f"{name} is no method: it needs to be a class derived from everlearn.Method.")
    if not is_dataclass(method):
        raise ConfigurationError(
            f"{name} has no options that can be read: put @dataclass(frozen=True) before its class."
        )
    return method
