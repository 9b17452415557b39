"""`everlearn bench`."""

import json as jsons
import os
import platform
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from everlearn.errors import ConfigurationError


def bench(
    measures: Annotated[str | None, typer.Option(help="Names of measures, with commas. [all]")] = None,
    rounds: Annotated[int, typer.Option(help="Timings of each side of a ratio.")] = 12,
    json: Annotated[bool, typer.Option("--json", help="Lines of JSON.")] = False,
) -> None:
    """Measure on this machine some ratios that docs/performance.md claims; about two minutes.

    Of a training step: `stl`, `hps`, `df-cnn`, `hps-50` and `df-cnn-50` (at fifty tasks), `channels-last`, `sure`,
    `bfloat16`, and `graphs` on a GPU. Of a trial: `trial`; of two at once: `two-at-once`. What else that page claims is
    measured by the scripts in benchmarks/.

    Each ratio is the median over rounds of two timings taken directly after each other, in alternating order, so that
    both sides meet the same machine. Let nothing else run beside it.
    """
    if rounds < 1:
        raise ConfigurationError(f"rounds is wanted as a whole number of at least 1, but came as {rounds}.")
    import torch
    from rich.console import Console

    from everlearn.benching.measures import bench as measured

    names = [name.strip() for name in measures.split(",") if name.strip()] if measures is not None else []
    if measures is not None and not names:
        raise ConfigurationError("--measures needs names with commas, but came empty; leave it out to measure all.")
    console = Console()
    if not json:
        console.print(
            f"PyTorch {torch.__version__}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        )
    for ratio in measured(names, rounds):
        if json:
            sys.stdout.write(jsons.dumps(asdict(ratio)) + "\n")
            sys.stdout.flush()
        else:
            console.print(
                f"{ratio.name:14} {ratio.middle:5.2f}  ({ratio.least:.2f} to {ratio.most:.2f})  {ratio.about}; "
                f"goal: {ratio.goal}",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
