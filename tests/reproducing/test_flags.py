"""Flags of `everlearn reproduce` do what they say, or are refused in a sentence."""

from pathlib import Path

import pytest

from everlearn.reproducing.published import Published
from tests.command_line import CommandLine
from tests.reproducing.conftest import planned, stored, written


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path / "here", monkeypatch, capsys)


@pytest.fixture
def words(cli: CommandLine, known: Published, file: Path) -> tuple[str, ...]:
    """The command that shows a table of which STL and HPS have two trials each."""
    item = known.items["mine/table-1"]
    runs = [stored(planned(item, method, trial), [0.9]) for method in ("stl", "hps") for trial in range(2)]
    written(runs, cli.folder / "runs")
    return ("reproduce", "mine/table-1", "--published", str(file))


def test_showing_writes_nothing(cli: CommandLine, words: tuple[str, ...]) -> None:
    before = sorted(cli.folder.rglob("*"))
    said = cli.says(*words, "--show")
    assert "as published; 2 of 3 trials" in said
    assert sorted(cli.folder.rglob("*")) == before
    assert "only" not in said
    cli.says(*words, "--show", "--figure", "figure.html")  # which is asked for
    assert sorted(cli.folder.rglob("*")) == sorted([*before, cli.folder / "figure.html"])


def test_showing_is_cut_down_like_running(cli: CommandLine, words: tuple[str, ...]) -> None:
    said = cli.says(*words, "--show", "--trials", "1", "--methods", "hps,df-cnn")
    assert "as published; 1 of 3 trials; only hps, df-cnn" in said
    assert "STL" not in said.replace("that of STL", "")
    assert "as published" not in cli.says(*words, "--show", "--epochs", "3")
    assert "training setting" in cli.refuses(*words, "--show", "--set", "epoch=3")
    assert "method of this table" in cli.refuses(*words, "--show", "--methods", "snn")


def test_names_that_do_not_exist_are_told_with_the_item_that_has_them(cli: CommandLine, file: Path) -> None:
    text = file.read_text()
    assert "`everlearn reproduce mine/table-1 --published" in cli.says("reproduce", "--published", str(file))
    for old, new, said in (
        ("stream: digits", "stream: digitz", "mine/table-1: there is no stream named 'digitz'"),
        ("hps", "hpss", "mine/table-1: there is no method named 'hpss'"),
    ):
        assert old in text
        file.write_text(text.replace(old, new))
        assert said in cli.refuses("reproduce", "--published", str(file))


def test_flags_that_contradict_each_other_are_refused(cli: CommandLine, words: tuple[str, ...]) -> None:
    assert "leave out --plan or --show" in cli.refuses(*words, "--plan", "--show")
    assert "leave out --plan or --figure" in cli.refuses(*words, "--plan", "--figure", "figure.html")
    assert "leave out --epochs" in cli.refuses(*words, "--out", "page.md", "--epochs", "3")


@pytest.mark.parametrize("name", [".", "/", "", "runs"])
def test_a_file_that_is_to_be_written_has_a_name(cli: CommandLine, words: tuple[str, ...], name: str) -> None:
    before = sorted(cli.folder.rglob("*"))
    assert "--out needs the name of a file, such as results.md" in cli.refuses(*words, "--out", name)
    assert "--figure needs the name of a file" in cli.refuses(*words, "--workers", "0", "--figure", name)
    assert sorted(cli.folder.rglob("*")) == before


def test_names_are_no_markup(cli: CommandLine, known: Published, words: tuple[str, ...], file: Path) -> None:
    item, methods = known.items["mine/table-1"], ("stl", "hps", "df-cnn")
    runs = [stored(planned(item, method, trial), [0.9]) for method in methods for trial in range(3)]
    written([run for run in runs if not (cli.folder / "runs" / run.folder.name).exists()], cli.folder / "runs")
    (cli.folder / "r[").mkdir()
    (cli.folder / "runs").rename(cli.folder / "r[/b]")
    own = ("--runs", "r[/b]")
    assert "finished below r[/b], of" in cli.says("reproduce", "--published", str(file), *own)
    assert "The figure is f[red]:cat:.html" in cli.says(*words, *own, "--show", "--figure", "f[red]:cat:.html")
    assert "The page is p[red].md" in cli.says("reproduce", *words[2:], *own, "--out", "p[red].md")
    file.write_text(file.read_text().replace("mine/table-1", "mine/t[a]-1"))
    said = cli.says("reproduce", "mine/t[a]-1", "--published", str(file), *own)
    assert "mine/t[a]-1: 9 runs" in said
    assert "The report of these runs, with their figures, is r[/b]/mine-t[a]-1.html" in said
    assert "mine/t[a]-1" in cli.says("reproduce", "--published", str(file), *own)


@pytest.mark.parametrize(
    "flag",
    [
        ("--epochs", "3"), ("--trials", "1"), ("--methods", "stl"), ("--set", "rate=1"), ("--option", "k=1"),
        ("--stream-option", "test=1"), ("--backbone", "digits"), ("--plan",), ("--show",), ("--figure", "f.html"),
        ("--data", "."), ("--workers", "0"), ("--ray", "auto"), ("--device", "cpu"),
    ],
)  # fmt: skip
def test_a_flag_of_a_table_needs_one(cli: CommandLine, flag: tuple[str, ...]) -> None:
    assert f"{flag[0]} is of a table or figure, but none was named" in cli.refuses("reproduce", *flag)


def test_without_a_table_there_are_the_list_and_the_page(cli: CommandLine, words: tuple[str, ...]) -> None:
    assert "mine/table-1" in cli.says("reproduce", *words[2:])
    cli.says("reproduce", "--runs", "runs", "--out", "page.md", *words[2:])
    assert "2 of 3 rows" in (cli.folder / "page.md").read_text()


def test_a_folder_that_is_not_there_is_not_an_empty_one(cli: CommandLine, words: tuple[str, ...]) -> None:
    (cli.folder / "page.md").write_text("a full page")
    for how in (("--out", "page.md"), ("--show",), ("--show", "--figure", "figure.html")):
        assert "there is no folder nowhere; give" in cli.refuses(*words, "--runs", "nowhere", *how)
    assert "there is no folder" in cli.refuses("reproduce", "--runs", "nowhere", "--out", "page.md")
    assert (cli.folder / "page.md").read_text() == "a full page"


def test_a_url_is_no_folder(cli: CommandLine, words: tuple[str, ...]) -> None:
    for how in ((), ("--plan",), ("--show",), ("--out", "page.md")):
        assert "s3://x/y is a URL; give a folder" in cli.refuses(*words, "--runs", "s3://x/y", *how)
    assert "is a URL" in cli.refuses("reproduce", "--runs", "s3://x/y")
    assert not (cli.folder / "s3:").exists()


def test_a_plan_refuses_what_the_run_would(cli: CommandLine, words: tuple[str, ...]) -> None:
    assert "no option of these methods named 'foo'" in cli.refuses(*words, "--plan", "--option", "foo=1")
    alone = cli.refuses(*words, "--plan", "--methods", "stl", "--option", "foo=1")
    assert "there is no option of these methods named 'foo'; there are none." in alone
    assert "workers needs" in cli.refuses(*words, "--plan", "--workers", "-3")
    assert "cores_per_run needs a number above 0" in cli.refuses(*words, "--ray", "auto", "--cores-per-run", "0")
    assert "cores_per_run is of a Ray cluster" in cli.refuses(*words, "--plan", "--cores-per-run", "1")
    assert "needs a number" in cli.refuses("reproduce", "lwf/table-1", "--plan", "--option", "temperature=warm")


def test_a_flag_that_names_nothing_is_refused(cli: CommandLine, words: tuple[str, ...]) -> None:
    for methods in ("", ",", " , "):
        for how in ("--show", "--plan"):
            assert "--methods names no row; name some" in cli.refuses(*words, how, "--methods", methods)
    assert "there is no backbone named 'nosuch'" in cli.refuses(*words, "--show", "--backbone", "nosuch")
    assert "there is no backbone named ''" in cli.refuses(*words, "--plan", "--backbone", "")
    assert "as published" not in cli.says(*words, "--show", "--backbone", "digits-large")


def test_the_page_says_how_it_is_written_again(cli: CommandLine, words: tuple[str, ...], file: Path) -> None:
    own = file.rename(file.parent / "my values.yaml")
    cli.says("reproduce", "--published", str(own), "--out", "my page.md")
    page = (cli.folder / "my page.md").read_text()
    assert f"\neverlearn reproduce --published '{own}' --runs runs --out 'my page.md'\n" in page
    assert f"\neverlearn reproduce mine/table-1 --published '{own}' --data DIR --trials 2 --methods stl,hps\n" in page


def test_images_that_are_missing_are_what_is_said_to_be_missing(cli: CommandLine) -> None:
    cli.monkeypatch.setenv("COLUMNS", "2000")
    assert "nothing but computing time" in cli.says("reproduce", "df-cnn/table-2", "--show")
    said = cli.says("reproduce", "df-cnn/table-2", "--show", "--data", str(cli.folder))
    assert "nothing but computing" not in said
    assert f"the images of cifar10, which are not in {cli.folder}" in said


def test_rows_and_tables_are_listed_in_full(cli: CommandLine) -> None:
    rows = cli.refuses("reproduce", "df-cnn/table-1", "--methods", "tf", "--plan")
    assert "there are stl (STL), hps (HPS), dmtrl (TF), df-cnn.direct (DF-CNN.direct)" in rows
    paper = cli.refuses("reproduce", "df-cnn")
    assert "df-cnn is a whole paper" in paper
    for name in ("figure-3", "figure-4", "figure-5", "table-1", "table-2", "figure-6", "figure-7"):
        assert f"df-cnn/{name}" in paper
    assert "(df-cnn/figure-1, df-cnn/figure-2 are drawings)" in paper
