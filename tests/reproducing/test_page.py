"""What is printed stands on the page, run or not; times are compared on one kind of machine; headings say enough."""

import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

from everlearn.experiments.execute import _processor  # pyright: ignore[reportPrivateUsage]
from everlearn.experiments.store import StoredRun
from everlearn.plugins import fingerprint_of
from everlearn.reproducing.comparing import Outcome, outcomes
from everlearn.reproducing.machines import kind_of
from everlearn.reproducing.page import Said, heading, markdown, print_item, said_of
from everlearn.reproducing.planning import Cut
from everlearn.reproducing.published import Published, published
from tests.reproducing.conftest import MACHINE, planned, stored

GENERIC: dict[str, str | int] = {**MACHINE, "processor": "Intel(R) Xeon(R) Processor"}


def on(run: StoredRun, machine: dict[str, str | int]) -> StoredRun:
    """The run as if it had been done by another machine."""
    assert run.result
    return dataclasses.replace(run, result=run.result.model_copy(update={"machine": machine}))


def times(known: Published, machine: dict[str, str | int]) -> Outcome:
    """STL in 10 seconds and HPS in 5, both by a machine of this kind."""
    item = known.items["mine/table-1"]
    both = (("stl", 10.0), ("hps", 5.0))
    return outcomes(item, [on(stored(planned(item, m, 0), [0.9], seconds=s), machine) for m, s in both])[0]


def page_of(known: Published, runs: list[StoredRun]) -> str:
    return markdown(known, said_of(known, list(known.items), runs), "x")


# ---------------------------------------------------------------- what was not run


def test_every_printed_value_of_the_papers_stands_on_the_page() -> None:
    known = published()
    page = page_of(known, [])
    assert "| HPS brute force | 40.4 ± 0.3 | 6.55 | 59.4 ± 0.2 | 4.72 |" in page
    assert "| DEN | 48.00 ± 0.60 | 0.28 ± 0.01 | 0.67 |" in page
    assert "both rows on machines known to be of one kind" in page


def test_a_column_without_a_value_of_ours_keeps_its_published_ones(known: Published) -> None:
    # Published: 5 and 10 seconds. Of the nearest runs HPS alone is there, of shorter ones STL, beside itself.
    item = known.items["mine/table-1"]
    short = planned(item, "stl", 0, Cut(training={"epochs": 5}))
    runs = [stored(planned(item, "hps", 0), [0.8]), on(stored(short, [0.5]), GENERIC)]
    page = page_of(known, runs)
    assert "| Published, not run here | Time over that of STL | Accuracy far away, % |" in page
    assert "| HPS | 2.00 | – |" in page
    # Where shorter runs alone have the value, its table has the rows that were not run as well.
    page = page_of(known, [runs[0], stored(short, [0.5])])
    assert page.count("| HPS | 2.00 |") == 1
    assert "| STL | 1.00 | 1.00 | 1 | 0.00 |\n| HPS | 2.00 | not run |  |  |" in page


def test_a_published_difference_that_is_nowhere_ours_stands_there_once(known: Published) -> None:
    item = known.items["mine/table-1"]
    short = Cut(training={"epochs": 5})
    runs = [stored(planned(item, "stl", 0), [0.9]), stored(planned(item, "hps", 0), [0.8])]
    runs += [stored(planned(item, m, 0, short), [0.5]) for m in ("stl", "df-cnn")]
    page = page_of(known, runs)
    assert "| Published difference, not run here | Peak accuracy, points |" in page
    assert page.count("DF-CNN minus HPS") == 1
    assert "| DF-CNN minus HPS | +15.0 |" in page  # 95 - 80
    assert page.count("HPS minus STL") == 1  # which is ours


# ---------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("machine", "compared"),
    [
        (MACHINE, True),
        (GENERIC, False),
        ({**MACHINE, "processor": "AMD EPYC"}, False),
        ({**MACHINE, "processor": "x86_64"}, False),
        ({}, False),
        ({**GENERIC, "processor": "Intel(R) Xeon(R) Processor, model 207, 2100 MHz"}, True),
        ({**GENERIC, "device": "NVIDIA H200"}, True),
    ],
)
def test_times_are_compared_where_the_kind_of_machine_is_known(
    known: Published, machine: dict[str, str | int], compared: bool
) -> None:
    _, hps, _ = times(known, machine).lines
    assert hps.cells["time"].ours.n == compared
    assert hps.cells["peak"].ours.n == 1


def test_a_gpu_is_known_by_its_name_and_a_processor_by_all_that_is_recorded() -> None:
    gpu: dict[str, str | int] = {**MACHINE, "device": "NVIDIA H200"}
    assert kind_of(gpu) == kind_of({**gpu, "processor": "another"}) != kind_of({**gpu, "device": "NVIDIA H100"})
    assert kind_of(MACHINE) != kind_of({**MACHINE, "threads": 2})


def test_of_a_run_that_cannot_be_compared_the_time_is_not_called_not_run(known: Published) -> None:
    item = known.items["mine/table-1"]
    runs = [stored(planned(item, "stl", 0), [0.9]), on(stored(planned(item, "hps", 0), [0.8]), GENERIC)]
    page = page_of(known, runs)
    assert "| HPS | 2.00 | – |  |  |" in page
    assert "compared only where both are known to have run on one kind" in page


def test_options_of_one_method_have_machines_of_their_own(known: Published) -> None:
    item = known.items["mine/table-1"]
    stl, hps = (stored(planned(item, m, 0), [0.9], seconds=5) for m in ("stl", "hps"))
    config = hps.run.config.model_copy(update={"options": {"z": 1}})
    elsewhere = on(stored(config, [0.9], seconds=50), GENERIC)
    found = {line.label: line.cells["time"].ours.n for line in outcomes(item, [stl, hps, elsewhere])[0].lines}
    assert (found["HPS"], found["HPS (z 1)"]) == (1, 0)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("model\t\t: 207\nmodel name\t: A Xeon\ncpu MHz\t\t: 2099.998\n", "A Xeon, model 207, 2100 MHz"),
        ("model\t\t: 85\nmodel name\t: A Xeon @ 2.00GHz\ncpu MHz\t\t: 1999.9\n", "A Xeon @ 2.00GHz, model 85"),
        ("model name\t: A Chip\ncpu MHz\t\t: unknown\n", "A Chip"),
        ("model name\t: A Chip\n\nmodel name\t: Another\nmodel\t: 3\n", "A Chip"),
    ],
)
def test_a_processor_is_recorded_with_what_tells_it_from_others(tmp_path: Path, told: str, name: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\n" + told)
    assert _processor(file, tmp_path / "nowhere") == name
    assert "MHz" not in _processor(file, tmp_path)  # a clock that changes with the load tells nothing


def test_a_processor_without_a_name_is_what_the_system_calls_it(tmp_path: Path) -> None:
    (tmp_path / "arm").write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert _processor(tmp_path / "arm") == _processor(tmp_path / "nowhere") != ""


# ---------------------------------------------------------------- headings


def test_numbers_of_a_heading_have_their_unit(known: Published) -> None:
    item = known.items["mine/table-1"]
    cut = Cut(training={"evaluate_every": 4, "batch": 1}, stream_options={"train": 10})
    [outcome] = outcomes(item, [stored(planned(item, "stl", 0, cut), [0.9])])
    words = heading(item, outcome).split("; ")
    assert "evaluate every 4 epochs instead of 2" in words
    assert any(word.startswith("batch 1 image instead of ") for word in words)
    assert any(word.startswith("train 10 images instead of ") for word in words)


def test_a_backbone_of_a_file_is_named_by_where_the_file_lies(known: Published, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "my.py").write_text("the text is what counts")
    item = known.items["mine/table-1"]
    config = planned(item, "stl", 0)
    code = {"my.py:Net": fingerprint_of(f"{folder}/my.py:Net")}
    run = stored(config.model_copy(update={"backbone": "my.py:Net", "code": code}), [0.9])
    run = dataclasses.replace(run, folder=folder / "deep" / run.folder.name)
    page = page_of(known, [run])
    assert f"**Backbone my.py:Net instead of digits; its file in {folder}; 1 of 3 trials**" in page
    assert f"```sh\n# in {folder}, where my.py lies\neverlearn reproduce mine/table-1" in page
    (folder / "my.py").write_text("another file now")
    assert f"its file my.py with the SHA-256 {code['my.py:Net']}...; 1 of 3 trials" in page_of(known, [run])


def test_what_the_papers_print_is_told_from_their_data() -> None:
    known = published()
    for name, said in (("lasem/figure-1", "where the paper prints no values"), ("lwf/table-2", "on data that the")):
        item = known.items[name]
        found = outcomes(item, [stored(planned(item, item.rows[0].method, 0), [0.5, 0.4])])
        assert heading(item, found[0]).startswith(f"settings as published, {said}")


def test_the_summary_says_how_many_rows_were_run(known: Published) -> None:
    item = known.items["mine/table-1"]
    page = page_of(known, [stored(planned(item, m, 0), [0.9]) for m in ("stl", "hps")])
    assert "| mine/table-1 | Digits | as published; 1 of 3 trials; 2 of 3 rows |" in page


def test_where_no_size_is_printed_nothing_is_said_of_its_digits(known: Published) -> None:
    item = known.items["mine/table-1"]
    runs = [stored(planned(item, method, 0), [0.9], size=30_000) for method in ("stl", "hps", "df-cnn")]
    page = page_of(known, runs)
    assert "| HPS | 0.03M | 0.03M | 1 |  | yes |" in page
    assert "| STL | 0.05M | 0.03M | 1 | −0.02M | no |" in page
    assert "| DF-CNN | – | 0.03M | 1 |  |  |" in page


def test_the_terminal_says_which_rows_are_differences(known: Published, capsys: pytest.CaptureFixture[str]) -> None:
    item = known.items["mine/table-2"]
    [said] = said_of(known, ["mine/table-2"], [stored(planned(item, "lwf", 0), [0.6])])
    print_item(said, Console(width=200))
    assert "Rows with a sign are differences from LwF, in points." in capsys.readouterr().out


# ---------------------------------------------------------------- cuts


def test_a_cut_narrows_what_is_shown(known: Published, capsys: pytest.CaptureFixture[str]) -> None:
    item = known.items["mine/table-1"]
    runs = [stored(planned(item, m, n), [0.9], seconds=5) for m in ("stl", "hps") for n in range(2)]
    runs.append(stored(planned(item, "stl", 0, Cut(training={"epochs": 5})), [0.5]))
    [said] = said_of(known, ["mine/table-1"], runs, Cut(trials=1, methods=("hps",)))
    [outcome] = said.outcomes
    [line] = outcome.lines
    assert (line.label, line.cells["peak"].ours.n) == ("HPS", 1)
    assert line.cells["time"].ours.mean == 1.0  # beside STL, which is not shown
    assert outcome.gaps == ()
    print_item(said, Console(width=200))
    shown = capsys.readouterr().out
    assert "as published; 1 of 3 trials; only hps" in shown
    assert not any(line.split()[:1] == ["STL"] for line in shown.splitlines())
    [said] = said_of(known, ["mine/table-1"], runs, Cut(training={"epochs": "5"}))
    assert [heading(item, one) for one in said.outcomes] == ["5 epochs instead of 60; 1 of 3 trials"]
    assert isinstance(said, Said)
    for cut in (Cut(stream_options={"train": 7}), Cut(backbone="digits-large"), Cut(options={"configuration": "x"})):
        [said] = said_of(known, ["mine/table-1"], runs, cut)
        assert all(run.run.config.method == "stl" for one in said.outcomes for run in one.runs) or not said.outcomes
