import pytest

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.networks.configurations import (
    configurations_of_tasks,
    every_configuration,
    parse_configuration,
    parse_groups,
    spell,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", "1111"),
        ("none", "0000"),
        ("top-1", "0001"),
        ("top-3", "0111"),
        ("bottom-1", "1000"),
        ("bottom-4", "1111"),
        ("alternating", "0101"),
        ("0110", "0110"),
    ],
)
def test_named_configurations(text: str, expected: str) -> None:
    assert spell(parse_configuration(text, 4)) == expected


def test_one_for_each_task() -> None:
    found = configurations_of_tasks("all/none/top-1", 2, 3)
    assert [spell(c) for c in found] == ["11", "00", "01"]
    assert configurations_of_tasks("top-1", 2, 3) == ((False, True),) * 3


@pytest.mark.parametrize("text", ["alll", "top", "top-x", "", "012", "side-2"])
def test_unknown_names_are_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UnknownNameError, match="configuration"):
        parse_configuration(text, 4)


def test_near_names_are_suggested() -> None:
    with pytest.raises(UnknownNameError, match="did you mean alternating"):
        parse_configuration("alternate", 4)


@pytest.mark.parametrize(
    ("text", "why"), [("top-5", "from 1 to 4"), ("top-0", "from 1 to 4"), ("01", "write 4 digits")]
)
def test_configurations_that_do_not_fit(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        parse_configuration(text, 4)


def test_as_many_configurations_as_tasks() -> None:
    with pytest.raises(ConfigurationError, match="2 configurations, but there are 3 tasks"):
        configurations_of_tasks("all/none", 4, 3)


# ---------------------------------------------------------------- all of them, and groups


@pytest.mark.parametrize("blocks", [1, 3, 6])
def test_every_configuration_in_the_order_of_the_authors(blocks: int) -> None:
    """Place i = sum of 2^j over the blocks j that do not transfer."""
    found = every_configuration(blocks)
    assert len(found) == len(set(found)) == 2**blocks
    for place, configuration in enumerate(found):
        assert place == sum(2**j for j, transfer in enumerate(configuration) if not transfer)
    assert spell(found[0]) == "1" * blocks
    assert spell(found[-1]) == "0" * blocks


def test_the_order_for_three_blocks() -> None:
    assert [spell(c) for c in every_configuration(3)] == ["111", "011", "101", "001", "110", "010", "100", "000"]


def test_blocks_of_a_group_agree() -> None:
    # Bit g of a configuration's place says that group g does not transfer.
    assert [spell(c) for c in every_configuration(5, "1-2/3/4-5")] == [
        "11111", "00111", "11011", "00011", "11100", "00100", "11000", "00000",
    ]  # fmt: skip
    assert [spell(c) for c in every_configuration(4, "2,4/1,3")] == ["1111", "1010", "0101", "0000"]
    assert every_configuration(4, "1/2/3/4") == every_configuration(4)
    assert [spell(c) for c in every_configuration(9, "1-9")] == ["1" * 9, "0" * 9]


@pytest.mark.parametrize(
    ("text", "blocks", "groups"),
    [
        ("", 3, ((0,), (1,), (2,))),
        ("1-3/4-6/7-9", 9, ((0, 1, 2), (3, 4, 5), (6, 7, 8))),
        ("1,3/2,4/5/6", 6, ((0, 2), (1, 3), (4,), (5,))),
        ("3/1-2", 3, ((2,), (0, 1))),
        ("1-2,5/3-4", 5, ((0, 1, 4), (2, 3))),
    ],
)
def test_groups(text: str, blocks: int, groups: tuple[tuple[int, ...], ...]) -> None:
    assert parse_groups(text, blocks) == groups


@pytest.mark.parametrize("text", ["one", "1-/2", "1,,2/3", "1/2/3/", "1;2;3", "1.5/2", "-", "1-2-3"])
def test_texts_that_are_no_groups(text: str) -> None:
    with pytest.raises(ConfigurationError, match="groups are written like 1-3/4-6"):
        every_configuration(3, text)


@pytest.mark.parametrize("text", ["1-2", "1-4", "0-2/3", "1-2/2-3", "1/2/3/3", "3-1", "1-3/4"])
def test_groups_that_leave_out_repeat_or_invent_a_block(text: str) -> None:
    with pytest.raises(ConfigurationError, match="each of the backbone's 3 blocks once, from 1 to 3"):
        parse_groups(text, 3)
