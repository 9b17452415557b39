"""Progress bars: the whole experiment and each running run, with the time left; silent where there is no terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from everlearn.experiments.plan import spelt
from everlearn.experiments.records import RunConfig
from everlearn.experiments.worker import Report


def show(configs: Sequence[RunConfig], reports: Iterator[Report]) -> Iterator[Report]:
    """Pass reports on and draw them as bars on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from reports
        return
    width = max(len(_label(config)) for config in configs)
    with Progress(
        TextColumn(f"{{task.description:<{width}}}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=console, transient=True,
    ) as bars:  # fmt: skip
        # In shares of a run, so that the time left of the whole counts what the running ones have done.
        whole = bars.add_task("all runs", total=len(configs))
        shares: dict[int, float] = {}
        tasks = {}
        for report in reports:
            if report.run not in tasks:
                tasks[report.run] = bars.add_task(_label(configs[report.run]), total=report.total)
            shares[report.run] = 1.0 if report.done or report.error else report.epochs / report.total
            bars.update(whole, completed=sum(shares.values()))
            bars.update(tasks[report.run], completed=report.epochs, total=report.total)
            if report.done or report.error:
                bars.remove_task(tasks[report.run])
            yield report


def _label(config: RunConfig) -> str:
    return f"{spelt(config)}, trial {config.trial}"
