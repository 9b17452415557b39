"""The command line: `everlearn run | report | methods | streams`, and those of a learner on disk."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from everlearn import flags, learner_commands
from everlearn.bench_command import bench
from everlearn.errors import ConfigurationError, EverlearnError
from everlearn.reproduce_command import reproduce
from everlearn.serving.command import serve
from everlearn.track_command import track
from everlearn.tune_command import tune

app = typer.Typer(
    name="everlearn",
    help="Lifelong learning of deep image classifiers: task after task, without the old data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.command()
def run(
    stream: flags.StreamName = None,
    methods: flags.Methods = None,
    trials: flags.Trials = None,
    epochs: flags.Epochs = None,
    batch: flags.Batch = None,
    rate: flags.Rate = None,
    protocol: flags.Protocol = None,
    backbone: flags.BackboneName = None,
    data: flags.Data = None,
    runs: flags.RunsAt = flags.RUNS,
    seed: flags.Seed = None,
    same_stream: flags.SameStream = None,
    settings: flags.Settings = None,
    options: flags.Options = None,
    stream_options: flags.StreamOptions = None,
    sweep: flags.Sweep = None,
    start: flags.Start = None,
    first: flags.First = None,
    config: flags.Config = None,
    workers: flags.Workers = None,
    ray: flags.Ray = None,
    cores_per_run: flags.CoresPerRun = None,
    gpus_per_run: flags.GpusPerRun = None,
    device: flags.RunDevice = None,
    checkpoint_seconds: flags.CheckpointSeconds = None,
    keep_weights: flags.KeepWeights = None,
    report: flags.ReportPath = None,
    track: flags.Track = None,
) -> None:
    """Teach a stream of tasks to several methods, several trials each; print the table and write the report.

    A finished run is never done again, and a stopped one goes on where it stood: the same command completes it.

    Examples:

        everlearn run digits

        everlearn run cifar100 --data ~/data --methods stl,hps,df-cnn --trials 1 --epochs 300

        everlearn run digits --methods df-cnn,df-cnn@top-2,hps@alternating --set optimiser=adam
    """
    from everlearn import commands

    said = {
        "stream": stream, "methods": methods, "trials": trials, "epochs": epochs, "batch": batch, "rate": rate,
        "protocol": protocol, "backbone": backbone, "data": data, "seed": seed,
        "runs": runs if runs != flags.RUNS else None, "same_stream": same_stream, "training": settings,
        "options": options, "stream_options": stream_options,
        "start": start, "first": first, "sweep": sweep,
        "ray": ray, "cores_per_run": cores_per_run, "gpus_per_run": gpus_per_run,
        "workers": workers, "device": device, "checkpoint_seconds": checkpoint_seconds,
        "keep_weights": keep_weights, "report": report, "track": track,
    }  # fmt: skip
    try:
        commands.run_experiment(said, config, Console(emoji=False))
    except KeyboardInterrupt:
        _leave("everlearn: stopped; the same command goes on from here.", 130)


@app.command()
def report(
    runs: Annotated[str, typer.Argument(help="Folder or URL that `everlearn run` wrote to.")] = flags.RUNS,
    out: flags.ReportPath = None,
    wide: Annotated[bool, typer.Option("--wide", help="All columns of the table.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV too; other tables go beside it.")] = None,
) -> None:
    """Write one self-contained HTML page about finished runs, and print its table."""
    from everlearn import commands

    commands.write_report_of(runs, out, wide, csv, Console(emoji=False))


@app.command()
def methods(
    stream: Annotated[str | None, typer.Option(help="Count the parameters that each needs for this stream.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Network of the tasks. [the stream's own]")] = None,
    tasks: Annotated[int | None, typer.Option(help="Count for that many tasks. [the stream's own]")] = None,
) -> None:
    """List the methods, one line each; with --stream, the parameters each has after all tasks, without training."""
    from everlearn import commands

    commands.list_methods(stream, backbone, tasks, Console(emoji=False))


@app.command()
def streams(
    name: Annotated[
        str | None, typer.Argument(help="One stream, to be shown with its tasks; or a YAML file of your own. [all]")
    ] = None,
    data: flags.Data = None,
    stream_options: flags.StreamOptions = None,
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
        commands.list_streams(Console(emoji=False))
        return
    commands.show_stream(name, data, stream_options or [], seed, sheet, Console(emoji=False))


learner_commands.add_to(app)
app.command()(serve)
app.command()(tune)
app.command()(bench)
app.command()(track)
app.command()(reproduce)


def main() -> None:
    """Entry point: a user's mistake is one plain sentence and status 2; a warning is one as well."""
    told: set[str] = set()

    def sentence(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        """A warning, or nothing where it was told already: a stream may be made more than once."""
        known = str(message) in told
        told.add(str(message))
        return "" if known else f"everlearn: warning: {message}\n"

    warnings.formatwarning = sentence
    try:
        app()
    except EverlearnError as error:
        _leave(f"everlearn: {error}", 2)


def _leave(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)  # noqa: T201
    sys.exit(status)


if __name__ == "__main__":
    main()
