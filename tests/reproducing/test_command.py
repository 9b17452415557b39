"""`everlearn reproduce`, as a person uses it."""

from pathlib import Path

import pytest

from everlearn.experiments.store import find_runs
from everlearn.reproducing.published import Published
from tests.command_line import CommandLine
from tests.reproducing.conftest import planned, stored, written

ROOT = Path(__file__).parent.parent.parent
SHORT = ("--epochs", "1", "--set", "evaluate_every=1", "--workers", "0", "--trials", "1")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path / "here", monkeypatch, capsys)


def test_it_lists_what_there_is(cli: CommandLine, known: Published, file: Path) -> None:
    item = known.items["mine/table-1"]
    written([stored(planned(item, "stl", trial), [0.9]) for trial in range(2)], cli.folder / "runs" / "deep")
    lines = cli.says("reproduce", "--published", str(file)).splitlines()
    assert "a drawing" in next(line for line in lines if line.startswith("mine/figure-1"))
    assert next(line for line in lines if line.startswith("mine/table-1")).endswith("2 of 9")
    assert "df-cnn/figure-3" in cli.says("reproduce")


def test_it_runs_what_is_missing_and_nothing_twice(cli: CommandLine, file: Path) -> None:
    words = ("reproduce", "mine/table-1", "--published", str(file), "--methods", "stl,hps", *SHORT)
    planning = cli.says(*words, "--plan")
    assert "mine/table-1: 2 runs, 2 to do" in planning
    assert "  digits: 2 (stl, hps)" in planning
    assert not (cli.folder / "runs").exists()
    said = cli.says(*words, "--figure", "figure.html")
    assert (cli.folder / "figure.html").exists()
    assert "1 epoch instead of 60; evaluate every 1 epoch instead of 2; 1 of 3 trials" in said
    assert "HPS minus STL" in said
    assert "a ship" in said
    assert (cli.folder / "runs" / "mine-table-1.html").exists()
    done = {run.folder: (run.folder / "result.json").stat().st_mtime_ns for run in find_runs(cli.folder / "runs")}
    assert len(done) == 2
    # Wherever below the folder they lie.
    (cli.folder / "runs" / "old").mkdir()
    for folder in done:
        folder.rename(cli.folder / "runs" / "old" / folder.name)
    assert "2 runs, 0 to do" in cli.says(*words)
    assert "3 runs, 1 to do" in cli.says(*words[:4], *SHORT)
    assert len(find_runs(cli.folder / "runs")) == 3


def test_another_backbone_is_run_and_each_row_is_spelt(cli: CommandLine, file: Path) -> None:
    words = ("reproduce", "mine/table-1", "--published", str(file), "--methods", "stl", *SHORT)
    said = cli.says(*words, "--backbone", "digits-reduced")
    assert "backbone digits-reduced instead of digits" in " ".join(said.split())
    assert [run.run.config.backbone for run in find_runs(cli.folder / "runs")] == ["digits-reduced"]
    assert "1 run, 1 to do" in cli.says(*words, "--plan")
    losses = cli.says("reproduce", "lwf/table-2", "--methods", "lwf", "--plan")
    assert "(lwf, lwf+response=l1, lwf+response=l2, lwf+response=cross-entropy)" in losses


def test_showing_does_nothing(cli: CommandLine, file: Path) -> None:
    said = cli.says("reproduce", "mine/table-1", "--published", str(file), "--show")
    assert "90.0 ± 1.0" in said
    assert not (cli.folder / "runs").exists()


def test_what_cannot_be_run_is_said_with_what_it_needs(cli: CommandLine, file: Path) -> None:
    words = ("reproduce", "lasem/table-1", "--data", str(cli.folder), "--methods", "den", *SHORT)
    said, error = cli(*words, status=2)
    assert "not run: office-home-incremental: " in said
    assert "the images of Office-Home, and a GPU" in " ".join(said.split())
    assert error.startswith("everlearn: office-home-incremental: ")
    assert str(cli.folder) in error
    # What needs no images is run all the same, and then it is no mistake.
    file.write_text(file.read_text().replace("far: {title", "far: {measure: peak_accuracy, stream: pacs, title"))
    words = ("reproduce", "mine/table-1", "--published", str(file), "--data", str(cli.folder), "--methods", "stl")
    said = cli.says(*words, *SHORT)
    assert "mine/table-1: 2 runs, 2 to do" in said
    assert "not run: pacs: " in said
    assert len(find_runs(cli.folder / "runs")) == 1


def test_mistakes_are_told_in_a_sentence(cli: CommandLine, file: Path) -> None:
    own = ("--published", str(file))
    assert "table or figure" in cli.refuses("reproduce", "df-cnn/figure-33")
    assert "nothing to run" in cli.refuses("reproduce", "df-cnn/figure-1")
    assert "method of this table" in cli.refuses("reproduce", "mine/table-1", *own, "--methods", "snn")
    assert "at least one trial" in cli.refuses("reproduce", "mine/table-1", *own, "--trials", "0")
    assert "option" in cli.refuses("reproduce", "mine/table-1", *own, "--option", "nothing=1", *SHORT)
    assert "NAME=VALUE" in cli.refuses("reproduce", "mine/table-1", *own, "--set", "epochs")
    assert "epochs" in cli.refuses("reproduce", "mine/table-1", *own, "--epochs", "-3")
    assert "cannot be read" in cli.refuses("reproduce", "--published", "nowhere.yaml")
    assert "is a file" in cli.refuses("reproduce", "mine/table-1", *own, "--runs", str(file))
    assert "could be drawn" in cli.refuses("reproduce", "mine/table-1", *own, "--show", "--figure", "figure.html")
    assert "of one table" in cli.refuses("reproduce", "mine/table-1", "mine/table-2", *own, "--figure", "figure.html")
    assert not (cli.folder / "runs").exists()


def test_the_page_of_results_is_what_the_records_say(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / "results.md"
    cli.says("reproduce", "--runs", "results", "--out", str(out))
    written_now = out.read_text().replace(str(out), "docs/results.md")
    assert written_now == (ROOT / "docs" / "results.md").read_text(), (
        "records were added: everlearn reproduce --runs results --out docs/results.md"
    )
