"""How cost grows with the number of tasks: seconds of a task, and the numbers that have to be kept, for each method.

Tasks of two classes, 20 made 8 x 8 images each, two epochs of five steps, the digits' backbone, one thread; what is
evaluated is not timed. A task's seconds, of the processor, are its share of `training_seconds`: its steps, and what the
method does before and after them. To tell growth from noise, each method may learn all tasks in several rounds, and the
fastest round of each task counts; a line of the table is the median of the last tasks over the median of the first
ones. Kept: every number of the network and of the method's memory, in MB, as a checkpoint holds them.

    python benchmarks/growth.py [--tasks 100] [--rounds 2] [--methods hps,lwf] [--figure docs/figures/growth.html]
"""

import argparse
import json
from pathlib import Path
from statistics import median
from time import process_time

import torch

from everlearn.methods.catalogue import make_method
from everlearn.methods.table import METHODS
from everlearn.networks.papers import make_backbone
from everlearn.testing.methods import made_stream
from everlearn.training import fit
from everlearn.training.data import StreamData
from everlearn.training.events import Measured
from everlearn.training.fit import Plan, State, learn
from everlearn.training.settings import Training

DRAWN = (
    "stl", "hps", "df-cnn", "lasem-hps", "lwf", "ewc", "feature-extraction", "prognn", "apd-net-flat", "den",
)  # fmt: skip
OPTIONS = {"prognn": {"scale": 0.1}, "expansion": {"nodes": 4}, "expansion-lwf": {"nodes": 4}}
"""The published scale leaves a network of 16 channels no lateral path from the ninth task on, and the 1,024 nodes that
each task adds are for AlexNet's layers of 4,096, not of 32."""
FIRST, LAST = 5, 10
"""Tasks at either end whose median counts; the very first is left out, as it has no other before it."""


def all_methods() -> list[str]:
    """The methods of the table that learn task after task."""
    methods = {name: make_method(name, "digits", FIRST, {}) for name in METHODS}
    return [name for name, method in methods.items() if "lifelong" in method.protocols]


def grown(name: str, tasks: int) -> tuple[list[float], list[float]]:
    """Of each task its seconds, and the megabytes that are kept after it."""
    training = Training(epochs=2, batch=4, rate=1e-3, evaluate_every=10**6, evaluate_others_every=10**6)
    method = make_method(name, "digits", tasks, OPTIONS.get(name, {}))
    state = State(method.network(make_backbone("digits", (1, 8, 8)), tasks, 0))
    data = StreamData(made_stream(tasks=tasks), torch.device("cpu"), last=True)
    data.tasks = [{"train": splits["train"]} for splits in data.tasks]  # else evaluations would take most of the time
    kept: list[float] = []
    for event in learn(Plan(method, data, [2] * tasks, training, 0), state):
        if not isinstance(event, Measured) and len(kept) < len(state.seconds):
            numbers = [*state.network.state_dict().values(), *state.memory.values()]
            kept.append(sum(tensor.nbytes for tensor in numbers) / 1e6)
    seconds = [end - begin for begin, end in zip([0.0, *state.seconds], state.seconds, strict=False)]
    return seconds, kept


def fastest(name: str, tasks: int, rounds: int) -> tuple[list[float], list[float]]:
    """The same, of several rounds the fastest for each task."""
    seconds, kept = zip(*(grown(name, tasks) for _ in range(rounds)), strict=True)
    return [min(column) for column in zip(*seconds, strict=True)], kept[0]


def draw(found: dict[str, tuple[list[float], list[float]]], path: Path) -> None:
    """Two panels: seconds of a task over those of the first ones, and megabytes; of some methods, to be legible."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, subplot_titles=("Time of a task, over that of the first", "Kept after a task, in MB"))
    drawn = {name: found[name] for name in DRAWN if name in found} or found
    for place, (name, (seconds, kept)) in enumerate(drawn.items()):
        base, numbers = median(seconds[1 : 1 + FIRST]), list(range(1, len(seconds) + 1))
        smooth = [median(seconds[max(1, i - 4) : i + 5]) / base for i in range(len(seconds))]
        line = {"color": COLOURS[place % len(COLOURS)], "dash": "solid" if place < len(COLOURS) else "dot"}
        figure.add_trace(go.Scatter(x=numbers[1:], y=smooth[1:], name=name, line=line), 1, 1)
        figure.add_trace(go.Scatter(x=numbers, y=kept, name=name, line=line, showlegend=False), 1, 2)
    figure.update_xaxes(title="tasks").update_yaxes(type="log", dtick=1)
    figure.update_layout(template="plotly_white", width=1100, height=480)
    figure.write_html(path, include_plotlyjs=True, config={"displayModeBar": False})


COLOURS = (
    "#000000", "#0072b2", "#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#5d3a9b", "#999999", "#8c510a",
)  # fmt: skip


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--methods", help="with commas between. [all]")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--numbers", type=Path, help="everything as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    fit.perf_counter = process_time  # so that what runs beside it counts less
    found: dict[str, tuple[list[float], list[float]]] = {}
    print(f"| method | ms, tasks 2 to {1 + FIRST} | the last {LAST} over them | MB after 1 | after {asked.tasks} |")
    print("| --- | --- | --- | --- | --- |")
    for name in asked.methods.split(",") if asked.methods else all_methods():
        seconds, kept = found[name] = fastest(name, asked.tasks, asked.rounds)
        first, last = median(seconds[1 : 1 + FIRST]), median(seconds[-LAST:])
        print(f"| `{name}` | {1e3 * first:.0f} | {last / first:.2f} | {kept[0]:.2f} | {kept[-1]:.2f} |", flush=True)
    if asked.figure:
        draw(found, asked.figure)
    if asked.numbers:
        asked.numbers.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
