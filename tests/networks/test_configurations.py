import pytest

from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.networks.configurations import configurations_of_tasks, parse_configuration, spell


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
