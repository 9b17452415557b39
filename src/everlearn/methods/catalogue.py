"""The methods by name. A method that differs from another in rule and configuration alone has no file of its own.

A name may carry a configuration: `hps@bottom-2`, `df-cnn@0110`, `tf@all/none/...`; and `file.py:Name` is a method of
the user's own, a class derived from `Method` (made without arguments) or a function of a `Setting` that returns one.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, cast

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.methods.base import Method
from everlearn.methods.table import METHODS, Entry, Setting
from everlearn.plugins import is_plugin, load_plugin

__all__ = ["METHODS", "Entry", "Setting", "make_method", "network_name", "option_names", "plain_name", "with_options"]

Value = str | int | float | bool
_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number"}


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
    return getattr(method if name in {f.name for f in fields(cast(Any, method))} else cast(Any, method).rule, name)


def _spelling(value: object, given: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value).removesuffix(".0")
    return "".join(str(given).split()) if isinstance(value, tuple) else str(given)


def _replaced(thing: Any, options: Mapping[str, Value]) -> Any:
    changes = {f.name: _like(f, options[f.name]) for f in fields(thing) if f.name in options}
    return replace(thing, **changes) if changes else thing


def _like(field: Any, value: Value) -> Any:
    """A value of the field's kind: numbers and truth values from text, tuples of numbers from "16,24"."""
    default = field.default
    if isinstance(value, str) and (default is None or default is MISSING or isinstance(default, tuple)):
        parts = value.split(",")
        if all(part.strip().isdecimal() for part in parts):
            return tuple(int(part) for part in parts)
        return value
    if isinstance(default, str):
        return str(value)  # "12" from a file may have come as a number
    if default is MISSING or default is None:
        return value
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(value, bool):  # which Python takes for 1 or 0
            raise ValueError
        read = type(default)(value)
        if read != read:  # not a number: no bound would refuse it
            raise ValueError
        return read
    except (TypeError, ValueError, OverflowError, KeyError):
        kind = _KINDS.get(cast(type, type(default)), "a number")
        raise ConfigurationError(f"the option {field.name} needs {kind}, but came as {value!r}.") from None


def _plugin(name: str, setting: Setting) -> Method:
    found: Any = load_plugin("method", name)
    method: object = found() if isinstance(found, type) else found(setting) if callable(found) else found
    if not isinstance(method, Method):
        raise ConfigurationError(f"{name} is no method: it needs to be a class derived from everlearn.Method.")
    return method
