"""Files and folders that the command line is given: where things go, what is no file, names that look like markup."""

import os
from pathlib import Path

import pytest

from everlearn.errors import ConfigurationError
from everlearn.experiments.progress import show
from everlearn.experiments.worker import Report
from tests.command_line import CommandLine
from tests.report.conftest import make_run
from tests.reproducing.conftest import written

NAMES = (".", "/", "", "runs")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """A folder with one finished run."""
    line = CommandLine(tmp_path / "work", monkeypatch, capsys)
    written([make_run()], line.folder / "runs")
    return line


@pytest.mark.parametrize("name", NAMES)
def test_a_table_needs_the_name_of_a_file(here: CommandLine, name: str) -> None:
    before = sorted(here.folder.rglob("*"))
    assert "--csv needs the name of a file, such as table.csv" in here.refuses("report", "--csv", name)
    assert sorted(here.folder.rglob("*")) == before


def test_a_page_goes_to_a_file_or_into_a_folder(here: CommandLine) -> None:
    assert "--out needs a file or a folder, but came empty" in here.refuses("report", "--out", "")
    assert not list(here.folder.rglob("*.html"))
    for said, page in ((".", "report.html"), ("runs", "runs/report.html"), ("new/p.html", "new/p.html")):
        assert f"The report is {page}\n" in here.says("report", "--out", said)
        assert (here.folder / page).exists()


def test_a_table_goes_into_a_new_folder_as_a_page_does(here: CommandLine) -> None:
    here.says("report", "--csv", "new/table.csv")
    assert "stl" in (here.folder / "new" / "table.csv").read_text()


def test_paths_are_no_markup(here: CommandLine) -> None:
    for name in ("q[red]x", "q[/a]", ":cat:"):
        os.renames("runs", name)
        table = f"{name}/t[bold].csv"
        said = here.says("report", name, "--csv", table)
        assert f"Written as CSV: {table}\n" in said
        assert f"The report is {name}/report.html\n" in said
        os.renames(name, "runs")


def test_methods_in_progress_are_no_markup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    config = make_run().run.config.model_copy(update={"method": "q[/a].py:Mine"})
    assert len(list(show([config], iter([Report(run=0, epochs=1, total=2)])))) == 1
    assert "q[/a].py:Mine, trial 0" in capsys.readouterr().err


def test_runs_at_the_root_of_memory(here: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLEARN_SCRATCH", str(tmp_path / "scratch"))
    before = sorted(here.folder.iterdir())
    words = ("run", "digits", "--methods", "stl", "--epochs", "1", "--trials", "1", "--workers", "0")
    assert "The report is memory://report.html (here: " in here.says(*words, "--runs", "memory://")
    assert sorted(here.folder.iterdir()) == before


def test_why_a_method_is_not_counted_is_no_markup(here: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConfigurationError("no network in n[/et].py.")

    monkeypatch.setattr("everlearn.commands.count_parameters", refuse)
    assert "hps: no network in n[/et].py." in here.says("methods", "--stream", "digits")
