"""The run-time checks of these tests are switched on: of types everywhere, of shapes where they are stated."""

from typing import Any

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from everlearn.networks.same import SameMaxPool2d
from everlearn.seeds import derive
from everlearn.training.events import Tick
from tests.checking import checked, jaxtyped

Images = Float[Tensor, "n c h w"]
decorated = jaxtyped(typechecker=checked)


def test_types_of_the_package_are_checked() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        derive("no number", "words")  # type: ignore[arg-type]
    with pytest.raises(TypeCheckError):
        Tick("many", 0)  # type: ignore[arg-type]


def test_shapes_of_the_package_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        SameMaxPool2d(2)(torch.zeros(3, 3))


def of_pairs(first: Float[Tensor, " n"], second: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return first + second


def in_a_list(several: "list[Float[Tensor, ' n']]", number: float) -> int:
    return len(several)


def returned(image: Tensor) -> Images:
    return image


def plain(number: float, text: str) -> str:
    return text * int(number)


def test_shapes_are_followed_from_one_argument_to_the_next() -> None:
    assert decorated(of_pairs)(torch.zeros(2), torch.zeros(2)).shape == (2,)
    with pytest.raises(TypeCheckError):
        decorated(of_pairs)(torch.zeros(2), torch.zeros(3))


@pytest.mark.parametrize(
    ("function", "good", "bad"),
    [
        (in_a_list, ([torch.zeros(2)], 1), ([torch.zeros(2, 2)], 1)),
        (returned, (torch.zeros(1, 1, 2, 2),), (torch.zeros(2, 2),)),
    ],
)
def test_a_shape_anywhere_in_a_signature_counts(function: Any, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    decorated(function)(*good)
    with pytest.raises(TypeCheckError):
        decorated(function)(*bad)


def test_without_shapes_types_are_checked_all_the_same() -> None:
    assert decorated(plain)(2, "ab") == "abab", "a whole number is a number"
    with pytest.raises(BeartypeCallHintViolation):
        decorated(plain)("2", "ab")
