"""`everlearn tune`."""

import json as jsons
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from everlearn import flags
from everlearn.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

    from everlearn.tuning.results import TriedSet, Tuned

RUNS = Path("runs")
SHOWN = 10
"""Sets in the table."""

Methods = Annotated[
    str | None,
    typer.Option(help="Names of `everlearn methods`, with commas; each is searched on its own.", show_default=False),
]
Search = Annotated[
    list[str] | None,
    typer.Option(
        "--search",
        metavar="NAME=SPACE",
        help="A setting or an option of the method, and what is searched over: `rate=1e-4..1e-2:log`, `k=4..16`, "
        "`lambda_old=0.3,1,3`. [the grid of the method's paper]",
    ),
]
Budget = Annotated[int | None, typer.Option(help="Sets of values to try. [all, where they can be listed; or else 20]")]
Storage = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Optuna storage, for several machines. [sqlite, tuning.db in the folder of runs]"),
]
Prune = Annotated[bool, typer.Option("--prune/--no-prune", help="Give up sets that fall behind.")]


def tune(
    stream: flags.StreamName = None,
    methods: Methods = None,
    search: Search = None,
    budget: Budget = None,
    trials: Annotated[int, typer.Option(help="Runs of each set.")] = 1,
    epochs: flags.Epochs = None,
    batch: flags.Batch = None,
    rate: flags.Rate = None,
    protocol: flags.Protocol = None,
    backbone: flags.BackboneName = None,
    data: flags.Data = None,
    runs: flags.Runs = RUNS,
    seed: Annotated[int, typer.Option(help="Seed of the first trial's stream, and of the search.")] = 0,
    same_stream: flags.SameStream = None,
    settings: flags.Settings = None,
    options: flags.Options = None,
    stream_options: flags.StreamOptions = None,
    start: flags.Start = None,
    first: flags.First = None,
    storage: Storage = None,
    prune: Prune = True,
    workers: Annotated[
        int | None, typer.Option(help="Sets at a time, each in a process of its own. [one a core]")
    ] = None,
    device: flags.RunDevice = None,
    checkpoint_seconds: flags.CheckpointSeconds = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Search over hyper-parameters on validation images, with Optuna; print the best sets and a command for the best.

    The same command goes on where it was stopped; with a larger --budget it tries more. Runs are those of
    `everlearn run`, in the same folder.

    Examples:

        everlearn tune digits --methods tf

        everlearn tune digits --methods lwf --search rate=1e-4..1e-2:log --search lambda_old=0.3,1,3 --budget 20
    """
    from rich.console import Console

    from everlearn import commands
    from everlearn.tuning.tune import tune as tuned

    if stream is None:
        raise ConfigurationError(
            "name the stream whose tasks are learned, such as `everlearn tune digits --methods tf`."
        )
    said = {
        "methods": methods or "", "epochs": epochs, "batch": batch, "rate": rate, "protocol": protocol,
        "backbone": backbone, "data": data, "same_stream": same_stream, "training": settings, "options": options,
        "stream_options": stream_options, "start": start, "first": first, "device": device,
        "checkpoint_seconds": checkpoint_seconds,
    }  # fmt: skip
    asked = commands.merge({}, said)
    asked["methods"] = [name for name in asked["methods"] if name]
    try:
        found = tuned(
            stream, search=_searched(search or []) or None, budget=budget, trials=trials, seed=seed,
            runs=runs, storage=storage, prune=prune, workers=workers, told=_tell, **asked,
        )  # fmt: skip
    except KeyboardInterrupt:
        _say("everlearn: stopped; the same command goes on from here.")
        raise typer.Exit(130) from None
    if json:
        print(jsons.dumps([_plain(one) for one in found], indent=2))  # noqa: T201
        return
    for one in found:
        _show(one, Console())


def _searched(said: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in said:
        name, equals, space = text.partition("=")
        if not (name and equals and space):
            raise ConfigurationError(f"--search needs NAME=SPACE, such as rate=1e-4..1e-2:log, but came as {text!r}.")
        if name in found:
            raise ConfigurationError(f"--search names {name} twice; give all its values in one, such as {name}=1,10.")
        found[name] = space
    return found


def _tell(method: str, over: int, wanted: int, one: "TriedSet") -> None:
    values = ", ".join(f"{name} {_short(value)}" for name, value in one.values.items())
    _say(f"{method}, set {over} of {wanted}: {values}: {_worth(one)}")


def _worth(one: "TriedSet") -> str:
    given_up = f", given up after {one.tasks} task{'' if one.tasks == 1 else 's'}"
    return f"{100 * one.validation:.1f} %{'' if one.state == 'finished' else given_up}"


def _short(value: str) -> str:
    """A number as a table has room for; other text as it is."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _plain(found: "Tuned") -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(found), "best": None if found.best is None else asdict(found.best)}


def _show(found: "Tuned", console: "Console") -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE, title=f"{escape(found.method)}: best sets on validation images", title_justify="left")
    for name in found.space:
        table.add_column(escape(name), justify="right")
    table.add_column("validation, %", justify="right")
    table.add_column("tasks", justify="right")
    table.add_column("")
    for one in found.sets[:SHOWN]:
        state = "" if one.state == "finished" else one.state
        values = [escape(_short(one.values.get(name, ""))) for name in found.space]
        table.add_row(*values, f"{100 * one.validation:.1f}", str(one.tasks), state)
    console.print(table)
    over = sum(one.state == "finished" for one in found.sets)
    console.print(f"{over} sets finished, {len(found.sets) - over} given up early.", highlight=False)
    if found.source:
        console.print(f"Searched over the grid of {escape(found.source)}.", highlight=False, soft_wrap=True)
    if found.command:
        console.print("With the best set, on the test images:", highlight=False)
        console.print(f"  {escape(found.command)}", highlight=False, soft_wrap=True)
