"""The run-time checks of the tests: types by beartype everywhere, shapes by jaxtyping where a signature states one.

jaxtyping's import hook decorates every function, and what it does at each call to follow shapes takes longer than most
functions do. Functions without shapes are therefore beartype's alone, which took a third off the time of the tests.
"""

import inspect
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

# A whole number is a number, as for static checkers (PEP 484).
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

_WITH_SHAPES = jaxtyping.jaxtyped


def jaxtyped(*, typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """As `jaxtyping.jaxtyped`, and faster for functions that state no shape."""

    def decorate(what: Any) -> Any:
        if inspect.isfunction(what) and not any(map(_has_shape, what.__annotations__.values())):
            return typechecker(what)
        return _WITH_SHAPES(what, typechecker=typechecker)

    return decorate


def _has_shape(annotation: Any) -> bool:
    if isinstance(annotation, str):  # perhaps, and it may name what is imported for static checkers alone
        return True
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(map(_has_shape, get_args(annotation)))
