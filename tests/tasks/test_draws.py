"""Named draws: the same everywhere, independent of one another, and of the sizes asked for."""

import numpy as np
import pytest

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.draws import check_fractions, divide, parts, permutation


def test_a_draw_is_the_same_on_every_machine() -> None:
    # Recorded once; another number here means that every stream of every user changes.
    assert permutation(10, 0, "test").tolist() == [6, 4, 0, 7, 2, 9, 3, 5, 1, 8]


def test_a_permutation_holds_every_number_once() -> None:
    assert sorted(permutation(1000, 3, "a").tolist()) == list(range(1000))


def test_seed_and_words_change_the_order() -> None:
    orders = {tuple(permutation(20, *key)) for key in [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", "1")]}
    assert len(orders) == 5


def test_permutations_are_uniform() -> None:
    # 6,000 orders of 3 things: each of the 6 is expected 1,000 times, with a deviation of sqrt(833) = 29.
    counts = np.unique([permutation(3, seed, "u") for seed in range(6000)], axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert abs(counts - 1000).max() < 5 * 29


def test_parts_have_their_fractions_and_the_first_has_the_rest() -> None:
    # 13 * 0.2 = 2.6 -> 3 each, 7 left. 5 * 0.2 = 1 each. 3 * 0.2 = 0.6 -> 1. 3 * 0.1 = 0.3 -> at least 1.
    assert divide(13, (0.6, 0.2, 0.2), "x") == [7, 3, 3]
    assert divide(5, (0.6, 0.2, 0.2), "x") == [3, 1, 1]
    assert divide(3, (0.8, 0.1, 0.1), "x") == [1, 1, 1]
    # Half of 5 is 2.5, rounded up.
    assert divide(5, (0.5, 0.5), "x") == [2, 3]


def test_parts_are_disjoint_and_complete() -> None:
    drawn = parts(50, (0.6, 0.2, 0.2), "x", 7, "p")
    assert [len(part) for part in drawn] == [30, 10, 10]
    assert sorted(np.concatenate(drawn).tolist()) == list(range(50))


def test_too_few_to_divide_is_said() -> None:
    with pytest.raises(
        DataError, match=r"^class 'cat' has 2 images, too few to divide into 3 parts by 0.6 / 0.2 / 0.2"
    ):
        divide(2, (0.6, 0.2, 0.2), "class 'cat'")


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0), (1.2, -0.2)])
def test_fractions_that_are_none_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError, match="above 0 and to sum to 1"):
        check_fractions(fractions)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_fraction_that_is_no_number_is_refused(place: int) -> None:
    fractions = [0.6, 0.2, 0.2]
    fractions[place] = float("nan")
    with pytest.raises(ConfigurationError, match="need to be above 0 and to sum to 1"):
        check_fractions(fractions)
