"""The command line: `everlearn run | report | methods | streams`, and those of a learner on disk."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from everlearn import learner_commands
from everlearn.errors import ConfigurationError, EverlearnError
from everlearn.serving.command import serve

app = typer.Typer(
    name="everlearn",
    help="Lifelong learning of deep image classifiers: task after task, without the old data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

_Pairs = Annotated[list[str] | None, typer.Option()]


@app.command()
def run(
    stream: Annotated[str | None, typer.Argument(help="The tasks: a name of `everlearn streams`.")] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Names of `everlearn methods`, with commas; `df-cnn@top-2` transfers the top two blocks, "
            "`mine.py:Mine` is your own. [the stream's own]",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Independent runs of each method. [the stream's own]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs a task (in all, with --protocol multi-task).")] = None,
    batch: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate at the start.")] = None,
    protocol: Annotated[str | None, typer.Option(help="`lifelong` or `multi-task`.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Network of the tasks: a name, or `file.py:Name`.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of data sets. [EVERLEARN_DATA, or the hub]", show_default=False),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder that the runs are written to.")] = Path("runs"),
    seed: Annotated[int | None, typer.Option(help="Seed of the first trial's stream. [0]")] = None,
    same_stream: Annotated[
        bool | None, typer.Option("--same-stream", help="One stream for all trials.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of the training."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="A hyper-parameter of the methods."),
    ] = None,
    stream_options: Annotated[
        list[str] | None,
        typer.Option("--stream-option", metavar="NAME=VALUE", help="An option of the stream."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=V1,V2", help="An option of the stream with several values, all of which are run."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="File of a trained network that every method goes on from (safetensors, state dict)."),
    ] = None,
    first: Annotated[
        list[str] | None,
        typer.Option(
            "--first",
            metavar="NAME=VALUE",
            help="A setting of the first task's training, where every method goes on from its network.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML or YAML file that says what these flags can say; flags win.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes at a time. [one a core]")] = None,
    device: Annotated[str | None, typer.Option(help="`cpu`, `cuda`, `cuda:1`. [cpu]")] = None,
    checkpoint_seconds: Annotated[float | None, typer.Option(help="What a killed run loses at most. [60]")] = None,
    keep_weights: Annotated[
        bool | None,
        typer.Option("--keep-weights", help="Leave the final weights with each run.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Where the report goes. [report.html in the folder of the runs]")
    ] = None,
) -> None:
    """Teach a stream of tasks to several methods, several trials each; print the table and write the report.

    A finished run is never done again, and a stopped one goes on where it stood: the same command completes it.

    Examples:

        everlearn run digits

        everlearn run cifar100 --data ~/data --methods stl,hps,df-cnn --trials 1 --epochs 300

        everlearn run digits --methods df-cnn,df-cnn@top-2,hps@alternating --set optimiser=adam
    """
    from everlearn import commands

    flags = {
        "stream": stream, "methods": methods, "trials": trials, "epochs": epochs, "batch": batch, "rate": rate,
        "protocol": protocol, "backbone": backbone, "data": data, "runs": None, "seed": seed,
        "same_stream": same_stream, "training": settings, "options": options, "stream_options": stream_options,
        "start": start, "first": first, "sweep": sweep,
        "workers": workers, "device": device, "checkpoint_seconds": checkpoint_seconds,
        "keep_weights": keep_weights, "report": report,
    }  # fmt: skip
    flags["runs"] = runs if runs != Path("runs") else None
    try:
        commands.run_experiment(flags, config, Console())
    except KeyboardInterrupt:
        _leave("everlearn: stopped; the same command goes on from here.", 130)


@app.command()
def report(
    runs: Annotated[Path, typer.Argument(help="Folder that `everlearn run` wrote to.")] = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="The page. [report.html in the folder of the runs]")] = None,
    wide: Annotated[bool, typer.Option("--wide", help="All columns of the table.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV too; other tables go beside it.")] = None,
) -> None:
    """Write one self-contained HTML page about finished runs, and print its table."""
    from everlearn import commands

    commands.write_report_of(runs, out, wide, csv, Console())


@app.command()
def methods(
    stream: Annotated[str | None, typer.Option(help="Count the parameters that each needs for this stream.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Network of the tasks. [the stream's own]")] = None,
    tasks: Annotated[int | None, typer.Option(help="Count for that many tasks. [the stream's own]")] = None,
) -> None:
    """List the methods, one line each; with --stream, the parameters each has after all tasks, without training."""
    from everlearn import commands

    commands.list_methods(stream, backbone, tasks, Console())


@app.command()
def streams(
    name: Annotated[
        str | None, typer.Argument(help="One stream, to be shown with its tasks; or a YAML file of your own. [all]")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of data sets. [EVERLEARN_DATA, or the hub]", show_default=False),
    ] = None,
    stream_options: Annotated[
        list[str] | None,
        typer.Option("--stream-option", metavar="NAME=VALUE", help="An option of the stream."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the stream.")] = 0,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw a few images of each task into this picture.")
    ] = None,
) -> None:
    """List the streams of tasks, with their options and where their data comes from; or show one with its tasks."""
    from everlearn import commands

    if name is None:
        if data or stream_options or sheet:
            raise ConfigurationError("name the stream that is to be shown, such as `everlearn streams digits`.")
        commands.list_streams(Console())
        return
    commands.show_stream(name, data, stream_options or [], seed, sheet, Console())


learner_commands.add_to(app)
app.command()(serve)


def main() -> None:
    """Entry point: a user's mistake is one plain sentence and status 2; a warning is one as well."""
    warnings.formatwarning = lambda message, *_, **__: f"everlearn: warning: {message}\n"
    try:
        app()
    except EverlearnError as error:
        _leave(f"everlearn: {error}", 2)


def _leave(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)  # noqa: T201
    sys.exit(status)


if __name__ == "__main__":
    main()
