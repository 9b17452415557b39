"""The parts of the page on transfer: what was chosen, and how static configurations do beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import plotly.graph_objects as go

from everlearn.experiments.records import FindingRecord
from everlearn.report.families import ALL, families
from everlearn.report.family_figures import (
    BEST,
    OTHERS,
    best_names,
    forgetting_by_task_panels,
    range_panels,
    role_styles,
    static_panels,
)
from everlearn.report.findings import chosen_frame
from everlearn.report.groups import Comparison, Entry, Trial
from everlearn.report.panels import Panel, Swatch, drawn, method_legend, panel
from everlearn.report.style import INK
from everlearn.report.transfer import selecting, settled
from everlearn.report.transfer_figures import (
    SHARES,
    block_panels,
    block_styles,
    choice_panels,
    course_panels,
    frequency_figure,
    posterior_panels,
    score_panels,
    selecting_styles,
)


@dataclass(frozen=True)
class Choice:
    """What one task got: the configuration, and what spoke for it; empty where nothing was searched or weighed."""

    configuration: str
    probability: str
    validation: str


@dataclass(frozen=True)
class Found:
    """What the methods that choose have found out."""

    csv: str
    tasks: int
    rows: list[tuple[str, str, list[Choice]]]
    choices: list[Panel]
    frequency: list[Panel]
    blocks: list[Panel]
    posteriors: list[Panel]
    scores: list[Panel]
    courses: list[Panel]
    method_legend: list[Swatch]
    share_legend: list[Swatch]
    block_legend: list[Swatch]


@dataclass(frozen=True)
class Families:
    """Static configurations of each rule, beside the searches over it."""

    statics: list[Panel]
    ranges: list[Panel]
    by_task: list[Panel]
    static_legend: list[Swatch]
    range_legend: list[Swatch]
    task_legend: list[Swatch]


def found_section(comparison: Comparison) -> Found | None:
    """What is said of findings; None if there are none."""
    entries = selecting(comparison)
    if not entries:
        return None
    frequency, choices = frequency_figure(comparison), choice_panels(comparison)
    names = {trial.stored.run.id: name for entry in entries for trial, name in _named(entry)}
    return Found(
        csv="data:text/csv;charset=utf-8," + quote(chosen_frame(comparison).to_csv(index=False)),
        tasks=max(len(trial.history.tasks) for entry in entries for trial in entry.trials),
        rows=[(entry.label, name, _choices(trial)) for entry in entries for trial, name in _named(entry)],
        choices=_panels({_counted(entry): choices[entry.label] for entry in entries}),
        frequency=[panel("", frequency)] if frequency is not None else [],
        blocks=_panels(block_panels(comparison)),
        posteriors=_of_trials(posterior_panels(comparison), names),
        scores=_of_trials(score_panels(comparison), names),
        courses=_panels(course_panels(comparison)),
        method_legend=method_legend(selecting_styles(comparison), width=9),
        share_legend=method_legend(SHARES, width=9),
        block_legend=[
            Swatch(name, colour, "", width, name) for name, (colour, width) in block_styles(comparison).items()
        ],
    )


def family_section(comparison: Comparison) -> Families | None:
    """What is said of static configurations; None if no rule has several of them, or one and a search."""
    statics, ranges = static_panels(comparison), range_panels(comparison)
    by_task, best = forgetting_by_task_panels(comparison), best_names(comparison)
    if not statics and not ranges and not by_task:
        return None
    captions = {"peak": "Mean peak accuracy", "forgetting": "Mean forgetting ratio after all tasks"}
    styles = role_styles(families(comparison))
    bars = {name: style for name, style in styles.items() if name in (ALL, OTHERS)}
    lines = {name: style for name, style in styles.items() if name not in (ALL, OTHERS, BEST)}
    box = Swatch("range of the static configurations", INK, "", 2, OTHERS)
    return Families(
        statics=_panels(statics),
        ranges=_panels({captions[of]: figure for of, figure in ranges.items()}),
        by_task=_panels(
            {f"{name} (best static: {best[name]})" if name in best else name: one for name, one in by_task.items()}
        ),
        static_legend=drawn(method_legend(bars, width=9) + method_legend(lines), statics),
        range_legend=drawn([box, *method_legend({ALL: styles[ALL]}, width=4), *method_legend(lines, width=9)], ranges),
        task_legend=drawn(method_legend(styles), by_task),
    )


def _panels(figures: Mapping[str, go.Figure]) -> list[Panel]:
    return [panel(label, figure) for label, figure in figures.items()]


def _counted(entry: Entry) -> str:
    choices = len(settled(entry))
    return f"{entry.label}, {choices} choice{'' if choices == 1 else 's'}"


def _of_trials(figures: Mapping[str, tuple[Trial, go.Figure]], names: Mapping[str, str]) -> list[Panel]:
    return [panel(f"{label}, trial {names[one.stored.run.id]}", figure) for label, (one, figure) in figures.items()]


def _named(entry: Entry) -> list[tuple[Trial, str]]:
    """The trials and their numbers; with the stream's seed where a number comes twice."""
    numbers = [trial.key[1] for trial in entry.trials]
    return [
        (trial, str(trial.key[1]) if numbers.count(trial.key[1]) == 1 else f"{trial.key[1]}, seed {trial.key[0]}")
        for trial in entry.trials
    ]


def _choices(trial: Trial) -> list[Choice]:
    found = {one.task: one for one in trial.stored.findings if one.settled}
    return [_choice(found[task]) if task in found else Choice("", "", "") for task in trial.history.tasks]


def _choice(found: FindingRecord) -> Choice:
    weight = found.weights.get(found.configuration)
    shown = "" if weight is None else f"{100 * weight:.0f} %"
    return Choice(found.configuration, shown if found.blocks else "", "" if found.blocks else shown)
