"""Headings and commands say which runs stand under them: their seeds, their rows, their trials, their file."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from everlearn.experiments.store import StoredRun
from everlearn.reproducing.comparing import outcomes
from everlearn.reproducing.page import markdown, said_of
from everlearn.reproducing.published import Item, Published, published
from everlearn.reproducing.saying import Said, commands, heading
from tests.reproducing.conftest import planned, stored


def seeded(item: Item, pairs: Sequence[tuple[int, int]], method: str = "stl") -> list[StoredRun]:
    """A run a pair of the stream's seed and the trial."""
    config = planned(item, method, 0)
    changes = [{"trial": n, "stream": config.stream.model_copy(update={"seed": seed})} for seed, n in pairs]
    return [stored(config.model_copy(update=change), [0.9]) for change in changes]


def said(item: Item, runs: Sequence[StoredRun]) -> list[tuple[str, list[str]]]:
    """The heading of each outcome, and its commands."""
    one = Said("mine/table-1", item, outcomes(item, runs))
    return [(heading(item, found), commands(one, found)) for found in one.outcomes]


@pytest.mark.parametrize(
    ("pairs", "told", "flags"),
    [
        ([(10, 0), (11, 1), (12, 2)], ["seeds from 10; 3 of 3 trials"], "--seed 10"),
        ([(10, 0)], ["seeds from 10; 1 of 3 trials"], "--seed 10"),
        (
            [(0, 0), (0, 1), (0, 2)],
            ["as published; 1 of 3 trials", "stream of every trial the same instead of its own; 3 of 3 trials"],
            "--same-stream",
        ),
        (
            [(7, 0), (7, 1), (7, 2)],
            ["stream of every trial of seed 7 instead of its own; 3 of 3 trials"],
            "--seed 7 --same-stream",
        ),
        (
            [(0, 0), (1, 1), (2, 2), (1, 0), (2, 1), (3, 2)],
            ["as published; 3 of 3 trials", "seeds from 1; 3 of 3 trials"],
            "--seed 1",
        ),
    ],
)
def test_trials_of_other_seeds_are_one_table(
    known: Published, pairs: list[tuple[int, int]], told: list[str], flags: str
) -> None:
    item = known.items["mine/table-1"]
    found = said(item, seeded(item, pairs))
    assert [words for words, _ in found] == told
    assert found[-1][1] == [f"# `everlearn reproduce` does not make these runs; `everlearn run` does, with {flags}"]


def test_seeds_are_told_by_the_runs_of_all_rows(known: Published) -> None:
    item = known.items["mine/table-1"]
    runs = [*seeded(item, [(5, 0), (5, 1), (5, 2)]), *seeded(item, [(5, 0)], "hps")]
    assert [words for words, _ in said(item, runs)] == [
        "stream of every trial of seed 5 instead of its own; 1 to 3 of 3 trials"
    ]


def test_a_command_makes_the_trials_that_it_stands_for(known: Published) -> None:
    item = known.items["mine/table-1"]
    [(words, lines)] = said(item, seeded(item, [(3, 3), (4, 4)]))
    assert words == "as published; 2 of 3 trials"
    assert lines == [
        "# of these trials, only 3, 4",
        "everlearn reproduce mine/table-1 --data DIR --trials 5 --methods stl",
    ]


def test_of_options_that_contain_each_other_each_has_its_command(known: Published) -> None:
    item = known.items["mine/table-1"]
    config = planned(item, "hps", 0)
    options = ({"a": 1}, {"a": 1, "b": 2})
    runs = [stored(config.model_copy(update={"options": one}), [0.5]) for one in options]
    [(_, lines)] = said(item, [*runs, stored(planned(item, "stl", 0), [0.4])])
    start = "everlearn reproduce mine/table-1 --data DIR --trials 1 --methods"
    assert lines == [f"{start} stl", f"{start} hps --option a=1", f"{start} hps --option a=1 --option b=2"]


def test_a_row_with_options_is_asked_for_by_them() -> None:
    item = published().items["den/figure-4"]
    [(_, lines)] = said(item, [stored(planned(item, "den-constant", 0), [0.5, 0.6])])
    assert lines == ["everlearn reproduce mine/table-1 --data DIR --trials 1 --methods den-constant+k=13"]


def test_what_a_command_makes_besides_is_said() -> None:
    item = published().items["lwf/table-2"]
    [(_, lines)] = said(item, [stored(planned(item, "lwf", 0), [0.4, 0.6])])
    assert lines == [
        "# this makes lwf+response=l1, lwf+response=l2, lwf+response=cross-entropy as well",
        "everlearn reproduce mine/table-1 --data DIR --trials 1 --methods lwf",
    ]


def test_a_file_of_published_values_is_in_the_commands_and_every_word_is_one(known: Published) -> None:
    item, file = known.items["mine/table-1"], Path("my values.yaml")
    config = planned(item, "stl", 0).model_copy(update={"backbone": "my nets.py:Net", "code": {"my nets.py:Net": "5f"}})
    runs = [stored(config, [0.9])]
    [found] = outcomes(item, runs)
    [line] = commands(Said("mine/table-1", item, [found]), found, file)
    words = shlex.split(line)
    assert words[:5] == ["everlearn", "reproduce", "mine/table-1", "--published", "my values.yaml"]
    assert words[words.index("--backbone") + 1] == "my nets.py:Net"
    assert line in markdown(known, said_of(known, ["mine/table-1"], runs), "x", file)
