"""What is searched over, as a person writes it; and the papers' grids."""

import pytest

from everlearn.errors import ConfigurationError
from everlearn.methods.catalogue import make_method, option_names
from everlearn.tuning.papers import GRIDS, paper_grid
from everlearn.tuning.search import Choices, Range, read_search
from everlearn.tuning.study import grid_size


def test_ranges_and_values() -> None:
    said = {"rate": "1e-4..1e-2:log", "k": "4..16", "lambda_old": "0.3, 1,3,1", "kb_channels": "8,8;16,16"}
    assert read_search(said, {"k": True, "rate": False}) == {
        "rate": Range(1e-4, 1e-2, log=True),
        "k": Range(4, 16, whole=True),
        "lambda_old": Choices(("0.3", "1", "3")),
        "kb_channels": Choices(("8,8", "16,16")),
    }
    assert read_search({"stamped": [True, False], "k": [1, 2.5]}, {}) == {
        "stamped": Choices(("true", "false")),
        "k": Choices(("1", "2.5")),
    }


def test_numbers_are_written_as_the_command_line_reads_them() -> None:
    assert Range(1, 16, whole=True).text(4.0) == "4"
    assert float(Range(1e-4, 1e-2).text(0.1 + 0.2)) == 0.1 + 0.2, "no digit is lost"


def test_the_size_of_a_space() -> None:
    assert grid_size({"a": Choices(("1", "2")), "k": Range(4, 6, whole=True)}) == 6
    assert grid_size({"a": Choices(("1", "2")), "b": Range(0, 1)}) is None


def test_the_size_of_a_long_range_is_known_without_a_list_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Range, "listed", None)
    assert grid_size({"k": Range(1, 1e9, whole=True), "a": Choices(("1", "2"))}) == 2_000_000_000


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ("", "needs values"),
        ("1,,2", "needs values"),
        ([], "needs values"),
        ("1..", "LOW..HIGH"),
        ("1..x", "LOW..HIGH"),
        ("1..inf", "LOW..HIGH"),
        ("1..2:", "LOW..HIGH"),
        ("1..2:lin", "LOW..HIGH"),
        ("2..1", "lower end below"),
        ("1..1", "lower end below"),
        ("0..1:log", "above 0"),
        ("1.5..3", "whole numbers"),
        ("5..1e30", "at most 15 digits"),
    ],
)
def test_what_cannot_be_searched(said: str | list[str], part: str) -> None:
    with pytest.raises(ConfigurationError, match=part):
        read_search({"k": said}, {"k": True})


@pytest.mark.parametrize("name", GRIDS)
def test_the_papers_grids_are_of_options_that_there_are(name: str) -> None:
    grid = paper_grid(f"{name}@top-2")
    assert grid is not None
    assert grid.source
    for option, values in grid.values.items():
        for value in values:
            method = make_method(name, "cifar", 3, {option: value})
            assert option in option_names(method)
            assert float(getattr(method, option, getattr(getattr(method, "rule", None), option, None))) == float(value)
