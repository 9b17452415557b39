"""`everlearn reproduce`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PAPER/ITEM]...", help="Tables and figures, such as `df-cnn/figure-3`. [list them all]"),
]
Methods = Annotated[str | None, typer.Option(help="Only these rows, with commas. [all]", show_default=False)]
Trials = Annotated[int | None, typer.Option(help="Of each row. [as many as published]")]
Epochs = Annotated[int | None, typer.Option(help="A task, instead of those published.")]
Plan = Annotated[bool, typer.Option("--plan", help="Say what is missing, and do nothing.")]
Show = Annotated[bool, typer.Option("--show", help="Show what is there, and do nothing.")]
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
    plan: Plan = False,
    show: Show = False,
    out: Out = None,
    figure: Figure = None,
    data: flags.Data = None,
    runs: flags.Runs = flags.RUNS_FOLDER,
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
    from everlearn.experiments.store import find_runs
    from everlearn.reproducing.published import item_of
    from everlearn.reproducing.published import published as read

    known = read(published)
    chosen = {name: item_of(known, name) for name in items or ()}
    if runs.exists() and not runs.is_dir():
        raise ConfigurationError(f"runs lie in a folder, but {runs} is a file; name another with --runs.")
    there = find_runs(runs) if runs.is_dir() else []
    console = Console()
    if out is not None:
        write_page(known, list(chosen), there, runs, out, console)
        return
    if not chosen:
        _list(known, there, runs, console)
        return
    if figure is not None and len(chosen) != 1:
        raise ConfigurationError(f"a figure is of one table, but {len(chosen)} were named.")
    cut = _cut(trials, epochs, methods, settings, options, stream_options)
    missed: list[str] = []
    for name, item in chosen.items():
        if not show:
            missed += _do(name, item, cut, plan, console, {
                "data": data, "runs": runs, "workers": workers, "ray": ray, "device": device or "cpu",
                "cores": cores_per_run or 1.0, "gpus": gpus_per_run,
            })  # fmt: skip
        if not plan:
            _show(known, name, runs, console)
    if missed:
        raise MissingDataError("; ".join(missed))
    if figure is not None:
        _draw(known, list(chosen), runs, figure, console)


def write_page(
    known: "Published", names: Sequence[str], there: "Sequence[StoredRun]", runs: Path, out: Path, console: Console
) -> None:
    """Write the page of results; of all items if none is named."""
    from everlearn.experiments.files import explained, write_whole
    from everlearn.reproducing.page import markdown, said_of

    command = " ".join(["everlearn reproduce", *names, f"--runs {runs} --out {out}"])
    page = markdown(known, said_of(known, list(names) or list(known.items), there), command)
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page.encode())
    console.print(f"The page is {out}", soft_wrap=True, highlight=False)


def _draw(known: "Published", names: Sequence[str], runs: Path, file: Path, console: Console) -> None:
    from everlearn.experiments.store import find_runs
    from everlearn.reproducing.figure import draw
    from everlearn.reproducing.page import said_of

    draw(said_of(known, names, find_runs(runs) if runs.is_dir() else [])[0], file)
    console.print(f"The figure is {file}", soft_wrap=True, highlight=False)


def _list(known: "Published", there: "Sequence[StoredRun]", runs: Path, console: Console) -> None:
    from everlearn.reproducing.doing import plan
    from everlearn.reproducing.planning import NO_CUT

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("table or figure", "what", "where", "runs"):
        table.add_column(title, justify="right" if title == "runs" else "left", no_wrap=title == "table or figure")
    for name, item in known.items.items():
        work = None if item.drawing else plan(item, NO_CUT, there)
        runs_of = "" if work is None or not work.planned else f"{work.planned - work.missing} of {work.planned}"
        told = "a drawing" if item.drawing else runs_of or "no data"
        table.add_row(name, escape(item.title), escape(item.place), told)
    console.print(table)
    console.print(
        f"\nRuns: finished below {runs}, of those published. `everlearn reproduce df-cnn/figure-3 --trials 1 "
        "--epochs 300` does a shorter one.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


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

    said: dict[str, Any] = {
        "training": settings, "options": options, "stream_options": stream_options, "epochs": epochs
    }  # fmt: skip
    read = merge({}, said)
    names = tuple(name.strip() for name in methods.split(",") if name.strip()) if methods else ()
    if trials is not None and trials < 1:
        raise ConfigurationError(f"a table needs at least one trial, but {trials} came.")
    return Cut(trials, names, read.get("training", {}), read.get("options", {}), read.get("stream_options", {}))


def _do(name: str, item: "Item", cut: "Cut", only_plan: bool, console: Console, how: dict[str, Any]) -> list[str]:
    """Say what is missing of an item, and do it; give what was looked for, if all of it was in want of data."""
    from everlearn.experiments.asking import check_far, check_place, data_folder
    from everlearn.experiments.cluster import cluster_of, connected
    from everlearn.experiments.execute import Place
    from everlearn.experiments.store import find_runs
    from everlearn.reproducing.doing import do, plan
    from everlearn.reproducing.planning import parts

    runs, device = how["runs"], how["device"]
    there = find_runs(runs) if runs.is_dir() else []
    work = plan(item, cut, there, parts(item, cut, data_folder(how["data"])))
    console.print(f"{name}: {_runs(work.planned)}, {work.missing} to do", highlight=False)
    for part, missing in work.parts:
        where = " ".join([part.request.stream, *(f"{k}={v}" for k, v in part.request.stream_options.items())])
        methods = ", ".join(dict.fromkeys(config.method for config in missing))
        if missing:
            console.print(f"  {where}: {len(missing)} ({methods})", highlight=False, soft_wrap=True)
    if only_plan or not work.missing:
        return []
    check_place("cpu" if how["ray"] else device, how["workers"])
    place = Place(runs, device)
    cluster = cluster_of(how["ray"], how["cores"], how["gpus"], device) if how["ray"] else None
    check_far(place, how["workers"], cluster, None, how["gpus"])
    count = cluster or ((os.cpu_count() or 1) if how["workers"] is None else how["workers"])
    with connected(cluster):
        wanting = do(work, place, count, there, quiet=False)
    for one in wanting:
        console.print(f"[yellow]not run[/yellow]: {escape(one)}", soft_wrap=True, highlight=False)
    return wanting if len(wanting) == sum(bool(missing) for _, missing in work.parts) else []


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _show(known: "Published", name: str, runs: Path, console: Console) -> None:
    """Print an item's tables, and write the report of its runs."""
    from everlearn.experiments.files import write_whole
    from everlearn.experiments.store import find_runs
    from everlearn.report.page import render_page
    from everlearn.reproducing.page import print_item, said_of

    said = said_of(known, [name], find_runs(runs) if runs.is_dir() else [])[0]
    print_item(said, console)
    behind = {run.run.id: run for one in said.outcomes for run in one.runs}
    if behind:
        page = runs / f"{name.replace('/', '-')}.html"
        write_whole(page, render_page(list(behind.values()), runs).encode())
        console.print(f"The report of these runs, with their figures, is {page}", soft_wrap=True, highlight=False)
