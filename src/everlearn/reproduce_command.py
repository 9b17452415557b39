"""`everlearn reproduce`."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from everlearn import flags
from everlearn.errors import ConfigurationError, MissingDataError

if TYPE_CHECKING:
    from everlearn.experiments.store import StoredRun
    from everlearn.reproducing.planning import Cut
    from everlearn.reproducing.published import Item, Published

Runs = Annotated[str, typer.Option(metavar="FOLDER", help="Folder that the runs are written to, and found below.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PAPER/ITEM]...", help="Tables and figures, such as `df-cnn/figure-3`. [list them all]"),
]
Methods = Annotated[str | None, typer.Option(help="Only these rows, with commas. [all]", show_default=False)]
Trials = Annotated[int | None, typer.Option(help="Of each row. [as many as published]")]
Epochs = Annotated[int | None, typer.Option(help="A task, instead of those published.")]
Plan = Annotated[bool, typer.Option("--plan", help="Say what is missing, and do nothing.")]
Show = Annotated[
    bool,
    typer.Option("--show", help="Show what is there, and do nothing; --methods, --trials and the settings narrow it."),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE.md", help="Write the page of results from the records that are there; do nothing else."),
]
Figure = Annotated[
    Path | None, typer.Option(metavar="FILE.html", help="Draw the accuracies of one table, published and ours.")
]
File = Annotated[
    Path | None, typer.Option("--published", metavar="FILE.yaml", help="Published values of your own. [the papers']")
]


def reproduce(
    items: Names = None,
    trials: Trials = None,
    epochs: Epochs = None,
    methods: Methods = None,
    settings: flags.Settings = None,
    options: flags.Options = None,
    stream_options: flags.StreamOptions = None,
    backbone: flags.BackboneName = None,
    plan: Plan = False,
    show: Show = False,
    out: Out = None,
    figure: Figure = None,
    data: flags.Data = None,
    runs: Runs = flags.RUNS,
    workers: flags.Workers = None,
    ray: flags.Ray = None,
    cores_per_run: flags.CoresPerRun = None,
    gpus_per_run: flags.GpusPerRun = None,
    device: flags.RunDevice = None,
    published: File = None,
) -> None:
    """Run the papers' tables and figures again, and show what they print beside what comes out.

    Without an argument it lists them. What is finished below the folder of runs is not done again, and what was
    stopped goes on. Flags cut a table down; its heading says by how much.

    Examples:

        everlearn reproduce df-cnn/figure-3 --data ~/data --trials 1 --epochs 300

        everlearn reproduce df-cnn/table-1 --data ~/data --methods stl,df-cnn --plan

        everlearn reproduce --runs results --out docs/results.md
    """
    from everlearn.reproducing.planning import check_items
    from everlearn.reproducing.published import item_of
    from everlearn.reproducing.published import published as read

    known = read(published)
    if published is not None:
        check_items(known.items)
    chosen = {name: item_of(known, name) for name in items or ()}
    console, folder = Console(emoji=False), _folder(runs)
    given = {
        "--trials": trials, "--epochs": epochs, "--methods": methods, "--set": settings or None,
        "--option": options or None, "--stream-option": stream_options or None, "--backbone": backbone,
        "--plan": plan or None, "--show": show or None, "--figure": figure, "--data": data, "--workers": workers,
        "--ray": ray, "--cores-per-run": cores_per_run, "--gpus-per-run": gpus_per_run, "--device": device,
    }  # fmt: skip
    _check([flag for flag, value in given.items() if value is not None], len(chosen), folder, out, figure)
    if out is not None:
        write_page(known, list(chosen), _found(folder), folder, out, console, published)
    elif not chosen:
        _list(known, _found(folder), folder, console, published)
    else:
        cut = replace(_cut(trials, epochs, methods, settings, options, stream_options), backbone=backbone)
        how = _How(folder, data, device or "cpu", workers, ray, cores_per_run, gpus_per_run, plan, show, figure)
        _again(known, chosen, cut, how, console)


def _folder(runs: str) -> Path:
    """The folder of runs."""
    from everlearn.experiments.remote import is_url

    if is_url(runs):
        raise ConfigurationError(
            f"runs of a table lie in a folder of this machine, but {runs} is a URL; give a folder."
        )
    return Path(runs)


def _check(given: Sequence[str], chosen: int, runs: Path, out: Path | None, figure: Path | None) -> None:
    """Refuse flags that would say nothing, or that contradict each other.

    Args:
        given: the flags that came, but for those of files and folders that every use has.
        chosen: how many tables were named.
        runs: the folder of runs.
        out: where the page goes, if it is asked for.
        figure: where the picture goes, likewise.
    """
    flags.check_file("--out", out, "results.md")
    flags.check_file("--figure", figure, "figure.html")
    if out is not None and given:
        raise ConfigurationError(f"--out writes the page of all records and does nothing else; leave out {given[0]}.")
    if out is None and not chosen and given:
        raise ConfigurationError(
            f"{given[0]} is of a table or figure, but none was named; name one, such as df-cnn/figure-3 "
            "(`everlearn reproduce` lists them)."
        )
    if "--plan" in given and (other := [flag for flag in ("--show", "--figure") if flag in given]):
        raise ConfigurationError(f"--plan says what is missing and shows no results; leave out --plan or {other[0]}.")
    if "--figure" in given and chosen != 1:
        raise ConfigurationError(f"a figure is of one table, but {chosen} were named.")
    named = runs != flags.RUNS_FOLDER  # the published values can be shown where nothing has been run yet
    if not runs.exists() and (out is not None or ("--show" in given and named)):
        raise ConfigurationError(f"there is no folder {runs}; give the one that the runs lie in with --runs.")


@dataclass(frozen=True)
class _How:
    """Where and how tables are run again, and what is shown of them."""

    runs: Path
    data: Path | None
    device: str
    workers: int | None
    ray: str | None
    cores: float | None
    gpus: float | None
    plan: bool
    show: bool
    figure: Path | None


def _again(known: "Published", chosen: "Mapping[str, Item]", cut: "Cut", how: _How, console: Console) -> None:
    """Run tables again, as far as that is asked for, and show them."""
    from everlearn.reproducing.planning import NO_CUT, check_backbone, check_options, parts

    check_backbone(cut.backbone)
    for item in chosen.values():  # what is wrong is said before anything is done
        for part in parts(item, cut):
            check_options(part)
    missed: list[str] = []
    for name, item in chosen.items():
        if not how.show:
            missed += _do(name, item, cut, how, console)
        if not how.plan:
            shown = replace(how, figure=None) if missed else how
            _show(known, name, cut if how.show else NO_CUT, shown, console)
    if missed:
        raise MissingDataError("; ".join(missed))


def _found(runs: Path) -> "list[StoredRun]":
    """What there is below the folder of runs."""
    from everlearn.experiments.store import find_runs

    if runs.exists() and not runs.is_dir():
        raise ConfigurationError(f"runs lie in a folder, but {runs} is a file; name another with --runs.")
    return find_runs(runs) if runs.is_dir() else []


def write_page(
    known: "Published",
    names: Sequence[str],
    there: "Sequence[StoredRun]",
    runs: Path,
    out: Path,
    console: Console,
    file: Path | None = None,
) -> None:
    """Write the page of results; of all items if none is named. `file`: of published values of one's own."""
    from everlearn.experiments.files import explained, write_whole
    from everlearn.reproducing.page import markdown, said_of

    own = ["--published", str(file)] if file else []
    command = shlex.join(["everlearn", "reproduce", *names, *own, "--runs", str(runs), "--out", str(out)])
    page = markdown(known, said_of(known, list(names) or list(known.items), there), command, file)
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page.encode())
    console.print(f"The page is {out}", soft_wrap=True, highlight=False, markup=False)


def _list(
    known: "Published", there: "Sequence[StoredRun]", runs: Path, console: Console, file: Path | None = None
) -> None:
    from everlearn.reproducing.doing import plan
    from everlearn.reproducing.planning import NO_CUT

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("table or figure", "what", "where", "runs"):
        table.add_column(title, justify="right" if title == "runs" else "left", no_wrap=title == "table or figure")
    for name, item in known.items.items():
        work = None if item.drawing else plan(item, NO_CUT, there)
        runs_of = "" if work is None or not work.planned else f"{work.planned - work.missing} of {work.planned}"
        told = "a drawing" if item.drawing else runs_of or "no data"
        table.add_row(escape(name), escape(item.title), escape(item.place), told)
    console.print(table)
    first = next((name for name, item in known.items.items() if not item.drawing), None)
    own = ["--published", str(file)] if file else []
    said = f"\nRuns: finished below {runs}, of those published."
    if first is not None:
        shorter = shlex.join(["everlearn", "reproduce", first, *own, "--trials", "1", "--epochs", "300"])
        said += f" `{shorter}` does a shorter one."
    console.print(said, highlight=False, soft_wrap=True, markup=False)


def _cut(
    trials: int | None,
    epochs: int | None,
    methods: str | None,
    settings: list[str] | None,
    options: list[str] | None,
    stream_options: list[str] | None,
) -> "Cut":
    from everlearn.commands import merge
    from everlearn.reproducing.planning import Cut

    said = {
        "methods": methods, "training": settings, "options": options, "stream_options": stream_options,
        "epochs": epochs,
    }  # fmt: skip
    read = merge({}, said)
    rows = tuple(filter(None, read.get("methods", ())))
    if methods is not None and not rows:
        raise ConfigurationError(
            "--methods names no row; name some with commas, such as stl,hps, or leave it out for all of them."
        )
    return Cut(trials, rows, read.get("training", {}), read.get("options", {}), read.get("stream_options", {}))


def _do(name: str, item: "Item", cut: "Cut", how: _How, console: Console) -> list[str]:
    """Say what is missing of an item, and do it; give what was looked for, if all of it was in want of data."""
    from everlearn.experiments.asking import crew_of, data_folder
    from everlearn.experiments.cluster import connected
    from everlearn.experiments.execute import Place
    from everlearn.experiments.plan import spelt
    from everlearn.reproducing.doing import do, plan

    there = _found(how.runs)
    place = Place(how.runs, how.device)
    crew = crew_of(place, None, how.workers, how.ray, how.cores, how.gpus)
    work = plan(item, cut, there, data_folder(how.data))
    console.print(f"{name}: {_runs(work.planned)}, {work.missing} to do", highlight=False, markup=False)
    for part, missing in work.parts:
        where = " ".join([part.request.stream, *(f"{k}={v}" for k, v in part.request.stream_options.items())])
        methods = ", ".join(dict.fromkeys(spelt(config, cut.options) for config in missing))
        if missing:
            console.print(f"  {where}: {len(missing)} ({methods})", highlight=False, soft_wrap=True, markup=False)
    if how.plan or not work.missing:
        return []
    with connected(crew):
        wanting = do(work, place, crew, there, quiet=False)
    for one in wanting:
        console.print(f"[yellow]not run[/yellow]: {escape(one)}", soft_wrap=True, highlight=False)
    return wanting if len(wanting) == sum(bool(missing) for _, missing in work.parts) else []


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _show(known: "Published", name: str, cut: "Cut", how: _How, console: Console) -> None:
    """Print an item's tables, write the report of its runs unless showing is all, and draw it if that is asked for."""
    from everlearn.experiments.files import write_whole
    from everlearn.report.page import render_page
    from everlearn.reproducing.doing import lacking
    from everlearn.reproducing.figure import draw
    from everlearn.reproducing.page import print_item, said_of

    said = said_of(known, [name], _found(how.runs), cut)[0]
    print_item(said, console, lacking(said.item, how.data.expanduser()) if how.data else None)
    behind = {run.run.id: run for one in said.outcomes for run in one.runs}
    if behind and not how.show:
        page = how.runs / f"{name.replace('/', '-')}.html"
        write_whole(page, render_page(list(behind.values()), how.runs).encode())
        said_where = f"The report of these runs, with their figures, is {page}"
        console.print(said_where, soft_wrap=True, highlight=False, markup=False)
    if how.figure is not None:
        draw(said, how.figure)
        console.print(f"The figure is {how.figure}", soft_wrap=True, highlight=False, markup=False)
