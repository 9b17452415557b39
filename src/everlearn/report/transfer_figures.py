"""What methods chose to transfer, and how they came to it: Lee et al. 2021, Figs. 4 and 8, and courses over epochs.

Configurations are digits; plotly would read them as numbers, so they are labels of whole numbers on every axis.
"""

from collections.abc import Sequence

import plotly.graph_objects as go

from everlearn.report.groups import Comparison, Trial
from everlearn.report.style import (
    PALETTE,
    Style,
    dress,
    method_styles,
    padded,
    phase_ticks,
    task_colours,
    text,
)
from everlearn.report.transfer import (
    Posterior,
    Scores,
    Shares,
    Stretch,
    block_courses,
    block_shares,
    configuration_shares,
    posterior,
    scores,
    selecting,
)

SHARES = {"transfers": Style(PALETTE[1], "solid"), "task-specific": Style("#9ecae9", "solid")}
"""The colours of blocks that transfer, and of those that a task has for itself."""
ROWS = 32
"""More configurations than these make no readable picture."""
_DARKER = [[0.0, "#ffffff"], [0.25, "#c6dbef"], [0.5, "#6baed6"], [0.75, "#2171b5"], [1.0, "#08306b"]]
_EDGE = "#8b949e"
_DIGITS = {"family": "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace", "size": 11}


def selecting_styles(comparison: Comparison) -> dict[str, Style]:
    """Colours of the methods that chose: those of the other figures, unless these repeat themselves."""
    chosen = [entry.label for entry in selecting(comparison)]
    if len(comparison.labels) > len(PALETTE):
        return method_styles(chosen)
    return {label: style for label, style in method_styles(comparison.labels).items() if label in chosen}


def choice_panels(comparison: Comparison) -> dict[str, go.Figure]:
    """The share of choices that fell on each configuration, one panel a method (Lee et al. 2021, Fig. 8, top).

    Returns:
        by label; all panels have one range and bars of one thickness.
    """
    found = {entry.label: configuration_shares(entry) for entry in selecting(comparison)}
    rows = max((len(_choices(shares)) for shares in found.values()), default=0)
    most = max((share for shares in found.values() for _, share in _choices(shares)), default=1.0)
    return {label: _choice_panel(label, shares, rows, most) for label, shares in found.items()}


def block_panels(comparison: Comparison) -> dict[str, go.Figure]:
    """For each block the shares of choices in which it transfers and in which it is the task's own (Fig. 8, bottom)."""
    panels: dict[str, go.Figure] = {}
    for entry in selecting(comparison):
        shares, figure = block_shares(entry), go.Figure()
        numbers = list(range(1, len(shares) + 1))
        for (name, style), values in zip(SHARES.items(), (shares, [1 - share for share in shares]), strict=True):
            figure.add_bar(
                x=numbers,
                y=values,
                name=name,
                marker={"color": style.colour, "line": {"color": "white", "width": 1}},
                width=0.7,
                hovertemplate="block %{x}: %{y:.0%}<extra>" + name + "</extra>",
            )
        dress(figure, "block, from the image to the head", "share of choices", 250)
        figure.update_layout(barmode="stack", title=text(entry.label))
        figure.update_xaxes(tickvals=numbers)
        figure.update_yaxes(range=[0, 1], tickformat=".0%")
        panels[entry.label] = figure
    return panels


def frequency_figure(comparison: Comparison) -> go.Figure | None:
    """The share of choices in which each block transfers, one bar a method (Lee et al. 2021, Fig. 4).

    None if no method chose anything.
    """
    figure, blocks = go.Figure(), 0
    styles = selecting_styles(comparison)
    for entry in selecting(comparison):
        shares = block_shares(entry)
        blocks = max(blocks, len(shares))
        figure.add_bar(
            x=list(range(1, len(shares) + 1)),
            y=shares,
            name=text(entry.label),
            marker={"color": styles[entry.label].colour},
            opacity=0.85,
            hovertemplate="block %{x}: %{y:.0%}<extra>" + text(entry.label) + "</extra>",
        )
    if not blocks:
        return None
    dress(figure, "block, from the image to the head", "share of choices in which it transfers", 320)
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.06, title="Frequency of transfer")
    figure.update_xaxes(tickvals=list(range(1, blocks + 1)))
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return figure


def posterior_panels(comparison: Comparison) -> dict[str, tuple[Trial, go.Figure]]:
    """The probability of each configuration while every task was learned, of the first trial that has it.

    Returns:
        by label: the trial and its heat map; no method with more than `ROWS` configurations.
    """
    panels: dict[str, tuple[Trial, go.Figure]] = {}
    for entry in selecting(comparison):
        for trial in entry.trials:
            found = posterior(trial)
            if found is not None and len(found.configurations) <= ROWS:
                panels[entry.label] = trial, _posterior_panel(entry.label, found, trial)
                break
    return panels


def score_panels(comparison: Comparison) -> dict[str, tuple[Trial, go.Figure]]:
    """The validation accuracy of every configuration that was tried, of the first trial; as `posterior_panels`."""
    panels: dict[str, tuple[Trial, go.Figure]] = {}
    for entry in selecting(comparison):
        found = scores(entry.trials[0])
        if found is not None and len(found.configurations) <= ROWS:
            panels[entry.label] = entry.trials[0], _score_panel(entry.label, found)
    return panels


def course_panels(comparison: Comparison) -> dict[str, go.Figure]:
    """The probability that each block transfers while every task was learned: a line a block, means over trials."""
    panels: dict[str, go.Figure] = {}
    styles = block_styles(comparison)
    for entry in selecting(comparison):
        courses = block_courses(entry)
        if not courses:
            continue
        figure = go.Figure()
        _add_blocks(figure, courses, styles)
        ends = sorted({end for phase in entry.trials[0].history.phases for end in phase})
        dress(figure, "epochs of the whole sequence", "probability of transfer", 260)
        figure.update_layout(title=text(entry.label))
        figure.update_xaxes(range=[ends[0], ends[-1]], **phase_ticks(ends))
        figure.update_yaxes(range=padded([0.0, 1.0], top=1.0), tickformat=".0%")
        panels[entry.label] = figure
    return panels


def block_styles(comparison: Comparison) -> dict[str, tuple[str, float]]:
    """Colour and width of every block's line, by its name in legends, in the order of the blocks.

    From dark to light, and from wide to narrow: where lines lie upon one another, those of lower blocks still show.
    """
    courses = [course for entry in selecting(comparison) for course in block_courses(entry)]
    blocks = max((len(course.blocks[0]) for course in courses), default=0)
    widths = [1.6 + 3.6 * (blocks - 1 - block) / max(1, blocks - 1) for block in range(blocks)]
    names = [f"block {block + 1}{', nearest the image' if block == 0 else ''}" for block in range(blocks)]
    return dict(zip(names, zip(task_colours(blocks), widths, strict=True), strict=True))


def _choices(shares: Shares) -> list[tuple[str, float]]:
    """The bars of a histogram: the listed configurations, and the others together."""
    name = "1 other" if shares.unlisted == 1 else f"{shares.unlisted} others"
    others = [(name, shares.others)] if shares.unlisted else []
    return [*zip(shares.configurations, shares.shares, strict=True), *others]


def _choice_panel(label: str, shares: Shares, rows: int, most: float) -> go.Figure:
    bars, figure = _choices(shares), go.Figure()
    listed = len(shares.configurations)
    figure.add_bar(
        x=[share for _, share in bars],
        y=list(range(len(bars))),
        orientation="h",
        marker={"color": [PALETTE[0]] * listed + [_EDGE] * (len(bars) - listed)},
        width=0.7,
        text=[f"{share:.0%}" for _, share in bars],
        textposition="outside",
        textangle=0,
        cliponaxis=False,
        customdata=[text(name) for name, _ in bars],
        hovertemplate=f"%{{customdata}}: %{{x:.1%}} of {shares.choices} choices<extra></extra>",
    )
    dress(figure, "share of choices", "", 62 + 22 * rows)
    figure.update_layout(title=text(label))
    figure.update_xaxes(range=[0, 1.2 * most], tickformat=".0%", nticks=5)
    figure.update_yaxes(
        range=[rows - 0.5, -0.5],
        tickvals=list(range(len(bars))),
        ticktext=[text(name) for name, _ in bars],
        tickfont=_DIGITS,
        showgrid=False,
    )
    return figure


def _posterior_panel(label: str, found: Posterior, trial: Trial) -> go.Figure:
    figure = go.Figure()
    figure.add_heatmap(
        x=found.edges,
        y=[place - 0.5 for place in range(len(found.configurations) + 1)],
        z=[[round(value, 3) for value in row] for row in found.values],
        zmin=0,
        zmax=1,
        colorscale=_DARKER,
        colorbar={"thickness": 10, "outlinewidth": 0, "tickvals": [0, 0.5, 1], "tickformat": ".0%"},
        hovertemplate="%{y}: %{z:.1%}<extra></extra>",
    )
    ends = sorted({end for phase in trial.history.phases for end in phase})
    for end in ends[1:-1]:
        figure.add_vline(x=end, line={"color": _EDGE, "width": 1})
    epochs, chosen = [epoch for epoch, _ in found.chosen], [configuration for _, configuration in found.chosen]
    _mark(figure, epochs, chosen, found.configurations)
    _dress_rows(figure, "epochs of the whole sequence", found.configurations)
    figure.update_layout(title=text(label))
    figure.update_xaxes(range=[ends[0], ends[-1]], **{**phase_ticks(ends), "showgrid": False})
    return figure


def _score_panel(label: str, found: Scores) -> go.Figure:
    best = [max(column) for column in zip(*found.values, strict=True)]
    behind = [[100 * (value - top) for value, top in zip(row, best, strict=True)] for row in found.values]
    figure = go.Figure()
    figure.add_heatmap(
        x=found.tasks,
        y=list(range(len(found.configurations))),
        z=behind,
        customdata=found.values,
        zmin=min(-1.0, *(value for row in behind for value in row)),
        zmax=0,
        xgap=2,
        ygap=1,
        colorscale=_DARKER,
        colorbar={"thickness": 10, "outlinewidth": 0, "nticks": 4},
        hovertemplate="task %{x}, %{y}: %{customdata:.1%}, %{z:.1f} points from the best<extra></extra>",
    )
    _mark(figure, found.tasks, found.chosen, found.configurations)
    _dress_rows(figure, "task, by order of presentation", found.configurations)
    figure.update_layout(title=text(label))
    figure.update_xaxes(tickvals=found.tasks, showgrid=False)
    return figure


def _mark(figure: go.Figure, x: Sequence[int], chosen: Sequence[str], configurations: Sequence[str]) -> None:
    """A ring at what was chosen."""
    figure.add_scatter(
        x=list(x),
        y=[configurations.index(configuration) for configuration in chosen],
        mode="markers",
        marker={"color": "white", "size": 8, "line": {"color": PALETTE[1], "width": 2}},
        cliponaxis=False,
        text=list(chosen),
        hovertemplate="chosen: %{text}<extra></extra>",
        showlegend=False,
    )


def _dress_rows(figure: go.Figure, x_title: str, configurations: Sequence[str]) -> None:
    rows = len(configurations)
    dress(figure, x_title, "", 66 + max(17 * rows, 110))
    figure.update_yaxes(
        range=[rows - 0.5, -0.5],
        tickvals=list(range(rows)),
        ticktext=[text(configuration) for configuration in configurations],
        tickfont=_DIGITS,
        showgrid=False,
    )


def _add_blocks(figure: go.Figure, courses: Sequence[Stretch], styles: dict[str, tuple[str, float]]) -> None:
    for block, (name, (colour, width)) in enumerate(styles.items()):
        if block >= len(courses[0].blocks[0]):
            continue
        x: list[int | None] = []
        y: list[float | None] = []
        for course in courses:  # a gap between tasks: each begins anew
            x += [*course.epochs, None]
            y += [*(round(values[block], 3) for values in course.blocks), None]
        figure.add_scatter(
            x=x[:-1],
            y=y[:-1],
            mode="lines",
            name=name,
            line={"color": colour, "width": width},
            hovertemplate="%{y:.1%} after %{x} epochs<extra>" + name + "</extra>",
        )
