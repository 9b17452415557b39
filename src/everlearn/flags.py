"""The flags that several commands have, or that say much: each a type with its help, so that a command lists names."""

from pathlib import Path
from typing import Annotated

import typer

from everlearn.errors import ConfigurationError

RUNS = "runs"
"""The folder that runs lie in unless another is named."""
RUNS_FOLDER = Path(RUNS)

# ------------------------------------------------------------------ what is learned, and by what

StreamName = Annotated[str | None, typer.Argument(help="The tasks: a name of `everlearn streams`.")]
Methods = Annotated[
    str | None,
    typer.Option(
        help="Names of `everlearn methods`, with commas; `df-cnn@top-2` transfers the top two blocks, "
        "`mine.py:Mine` is your own. [the stream's own]",
        show_default=False,
    ),
]
Trials = Annotated[int | None, typer.Option(help="Independent runs of each method. [the stream's own]")]
Protocol = Annotated[str | None, typer.Option(help="`lifelong` or `multi-task`.")]
BackboneName = Annotated[str | None, typer.Option(help="Network of the tasks: a name, or `file.py:Name`.")]
Data = Annotated[
    Path | None, typer.Option(help="Folder of data sets. [EVERLEARN_DATA, or the hub]", show_default=False)
]
Seed = Annotated[int | None, typer.Option(help="Seed of the first trial's stream. [0]")]
SameStream = Annotated[
    bool | None, typer.Option("--same-stream", help="One stream for all trials.", show_default=False)
]

# ------------------------------------------------------------------ settings

Epochs = Annotated[int | None, typer.Option(help="Epochs a task (in all, with --protocol multi-task).")]
Batch = Annotated[int | None, typer.Option(help="Images a step.")]
Rate = Annotated[float | None, typer.Option(help="Learning rate at the start.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of the training.")
]
Options = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="A hyper-parameter of the methods.")
]
StreamOptions = Annotated[
    list[str] | None, typer.Option("--stream-option", metavar="NAME=VALUE", help="An option of the stream.")
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=V1,V2", help="An option of the stream with several values, all of which are run."),
]
Start = Annotated[
    Path | None,
    typer.Option(help="File of a trained network that every method goes on from (safetensors, state dict)."),
]
First = Annotated[
    list[str] | None,
    typer.Option(
        "--first",
        metavar="NAME=VALUE",
        help="A setting of the first task's training, where every method goes on from its network.",
    ),
]
Config = Annotated[Path | None, typer.Option(help="TOML or YAML file that says what these flags can say; flags win.")]

# ------------------------------------------------------------------ where and how it is done

Runs = Annotated[str, typer.Option(help="Folder that the runs are written to.")]
RunsAt = Annotated[str, typer.Option(help="Folder that the runs are written to, or a URL (`s3://bucket/runs`).")]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Do the runs on a Ray cluster: `host:port`, or `auto` for the one of this machine."
    ),
]
CoresPerRun = Annotated[float | None, typer.Option(help="Of the cluster, for each run. [1]")]
GpusPerRun = Annotated[float | None, typer.Option(help="Of the cluster, for each run. [1 with --device cuda]")]
Workers = Annotated[int | None, typer.Option(help="Processes at a time. [one a core]")]
RunDevice = Annotated[str | None, typer.Option(help="`cpu`, `cuda`, `cuda:1`. [cpu]")]
CheckpointSeconds = Annotated[float | None, typer.Option(help="What a killed run loses at most. [60]")]
KeepWeights = Annotated[
    bool | None, typer.Option("--keep-weights", help="Leave the final weights with each run.", show_default=False)
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TRACKER", help="At the end, give the records to `tensorboard:DIR`, `mlflow:URI` or `mlflow`."
    ),
]
ReportPath = Annotated[
    str | None, typer.Option(metavar="FILE", help="Where the report goes. [report.html in the folder of the runs]")
]


def page_of(flag: str, said: str | Path | None) -> Path | None:
    """Where a page was asked to go: a file, or a folder that there is."""
    if said == "":
        raise ConfigurationError(f"{flag} needs a file or a folder, but came empty; leave it out for report.html.")
    return None if said is None else Path(said)


def check_file(flag: str, file: Path | None, such_as: str) -> None:
    """Refuse, before anything is done, what no file can be written to: a folder, as an empty name is too."""
    if file is not None and file.is_dir():
        raise ConfigurationError(f"{flag} needs the name of a file, such as {such_as}, but {file} is a folder.")
