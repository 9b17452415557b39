"""How cost grows with the number of tasks: time of a task, memory and disk, for each method.

Tasks of two classes, 20 made 8 x 8 images each, two epochs of five steps, the digits' backbone, one thread; what is
evaluated is not timed. A task's seconds, of the processor, are its share of `training_seconds`: its steps, and what the
method does before and after them. To tell growth from noise, each method may learn all tasks in several rounds, and the
fastest round of each task counts; a line of the table is the median of the last tasks over the median of the first
ones. MB after so many tasks: every number of the network and of the method's memory. MB of the file: what a checkpoint
holds when the last task is over, which is these numbers and what is known of the tasks; one that is written while a
task is learned holds what its optimisers remember as well.

    python benchmarks/growth.py [--tasks 100] [--rounds 2] [--methods hps,lwf] [--figure docs/figures/growth.html]
"""

import argparse
import json
from pathlib import Path
from statistics import median
from time import process_time

import torch

from everlearn.errors import EverlearnError
from everlearn.experiments.checkpoint import pack_state
from everlearn.methods.base import Method
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


def begun(name: str, tasks: int) -> tuple[Method, State]:
    """A method, and the state before its first step."""
    method = make_method(name, "digits", tasks, OPTIONS.get(name, {}))
    return method, State(method.network(make_backbone("digits", (1, 8, 8)), tasks, 0))


def grown(name: str, tasks: int) -> tuple[list[float], list[float], float]:
    """Of each task its seconds, and the megabytes that are kept after it; and those of the checkpoint at the end."""
    training = Training(epochs=2, batch=4, rate=1e-3, evaluate_every=10**6, evaluate_others_every=10**6)
    method, state = begun(name, tasks)
    data = StreamData(made_stream(tasks=tasks), torch.device("cpu"), last=True)
    data.tasks = [{"train": splits["train"]} for splits in data.tasks]  # else evaluations would take most of the time
    kept: list[float] = []
    for event in learn(Plan(method, data, [2] * tasks, training, 0), state):
        if not isinstance(event, Measured) and len(kept) < len(state.seconds):
            numbers = [*state.network.state_dict().values(), *state.memory.values()]
            kept.append(sum(tensor.nbytes for tensor in numbers) / 1e6)
    seconds = [end - begin for begin, end in zip([0.0, *state.seconds], state.seconds, strict=False)]
    return seconds, kept, len(pack_state(state, {})) / 1e6


def fastest(name: str, tasks: int, rounds: int) -> tuple[list[float], list[float], float]:
    """The same, of several rounds the fastest for each task."""
    seconds, kept, file = zip(*(grown(name, tasks) for _ in range(rounds)), strict=True)
    return [min(column) for column in zip(*seconds, strict=True)], kept[0], file[0]


def draw(found: dict[str, tuple[list[float], list[float], float]], path: Path) -> None:
    """Two panels: seconds of a task over those of the first ones, and megabytes; of some methods, to be legible."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(1, 2, subplot_titles=("Time of a task, over that of the first", "Kept after a task, in MB"))
    drawn = {name: found[name] for name in DRAWN if name in found} or found
    for place, (name, (seconds, kept, _)) in enumerate(drawn.items()):
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
    names = asked.methods.split(",") if asked.methods else all_methods()
    if asked.tasks < 1 + FIRST or asked.rounds < 1:
        parser.error(f"at least {1 + FIRST} tasks and 1 round are needed, but {asked.tasks} and {asked.rounds} came.")
    try:
        if alone := [name for name in names if "lifelong" not in begun(name, asked.tasks)[0].protocols]:
            parser.error(f"{', '.join(alone)} cannot learn task after task; leave it out.")
    except EverlearnError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    fit.perf_counter = process_time  # so that what runs beside it counts less
    found: dict[str, tuple[list[float], list[float], float]] = {}
    columns = f"ms, tasks 2 to {1 + FIRST} | the last {LAST} over them | MB after 1 | after {asked.tasks} | of the file"
    print(f"| method | {columns} |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        seconds, kept, file = found[name] = fastest(name, asked.tasks, asked.rounds)
        first, last = median(seconds[1 : 1 + FIRST]), median(seconds[-LAST:])
        numbers = f"{1e3 * first:.0f} | {last / first:.2f} | {kept[0]:.2f} | {kept[-1]:.2f} | {file:.2f}"
        print(f"| `{name}` | {numbers} |", flush=True)
    if asked.figure:
        draw(found, asked.figure)
    if asked.numbers:
        asked.numbers.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
