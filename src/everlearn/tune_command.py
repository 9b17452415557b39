"""`everlearn tune`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from everlearn import flags
from everlearn.errors import ConfigurationError

if TYPE_CHECKING:
    from everlearn.tuning.results import Tuned

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
By = Annotated[
    Literal["final", "peak"],
    typer.Option(
        "--measure",
        help="What a set is worth: the validation accuracy of all tasks after the last one, so that forgetting counts, "
        "or the best of each task in its own phase.",
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
    measure: By = "final",
    budget: Budget = None,
    trials: Annotated[int, typer.Option(help="Runs of each set.")] = 1,
    epochs: flags.Epochs = None,
    batch: flags.Batch = None,
    rate: flags.Rate = None,
    protocol: flags.Protocol = None,
    backbone: flags.BackboneName = None,
    data: flags.Data = None,
    runs: flags.Runs = flags.RUNS,
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
    said = {
        "methods": methods or "", "epochs": epochs, "batch": batch, "rate": rate, "protocol": protocol,
        "backbone": backbone, "data": data, "same_stream": same_stream, "training": settings, "options": options,
        "stream_options": stream_options, "start": start, "first": first, "device": device,
        "checkpoint_seconds": checkpoint_seconds,
    }  # fmt: skip
    own = {
        "search": _searched(search or []) or None, "measure": measure, "budget": budget, "trials": trials, "seed": seed,
        "runs": runs, "storage": storage, "prune": prune, "workers": workers,
    }  # fmt: skip
    found = _found(stream, said, own)
    from rich.console import Console

    from everlearn.tuning.showing import as_json, show

    if json:
        print(as_json(found))  # noqa: T201
        return
    for one in found:
        show(one, Console(emoji=False))


def _found(stream: str | None, said: Mapping[str, Any], own: Mapping[str, Any]) -> "list[Tuned]":
    """Search; `said` are flags that `everlearn run` has too, `own` those of the search."""
    from everlearn import commands
    from everlearn.tuning.showing import say, tell
    from everlearn.tuning.tune import tune as tuned

    if stream is None:
        raise ConfigurationError(
            "name the stream whose tasks are learned, such as `everlearn tune digits --methods tf`."
        )
    asked = commands.merge({}, said)
    asked["methods"] = [name for name in asked["methods"] if name]
    try:
        return tuned(stream, told=tell, **own, **asked)
    except KeyboardInterrupt:
        say("everlearn: stopped; the same command goes on from here.")
        raise typer.Exit(130) from None


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
