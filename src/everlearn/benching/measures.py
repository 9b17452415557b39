"""The measures of `everlearn bench`: each is a ratio of what everlearn takes to what a stated reference takes."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch

from everlearn.benching.steps import BATCH, Epoch, everlearns, made_stream, plain_loop
from everlearn.errors import UnknownNameError
from everlearn.experiments.execute import check_device
from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.training.data import StreamData
from everlearn.training.evaluation import evaluate
from everlearn.training.fit import Plan, State, learn
from everlearn.training.precision import has_bfloat16
from everlearn.training.settings import Training


@dataclass(frozen=True)
class Ratio:
    """What was measured.

    Attributes:
        name: of the measure.
        about: what is divided by what.
        goal: what it should be, in words.
        middle: the median over rounds.
        least: the smallest of the rounds.
        most: the largest.
    """

    name: str
    about: str
    goal: str
    middle: float
    least: float
    most: float


Pairs = Callable[[int], list[float]]
"""The ratios of so many rounds."""


@dataclass(frozen=True)
class Measure:
    """A ratio that can be measured: `about` and `goal` as of `Ratio`."""

    about: str
    goal: str
    pairs: Pairs


def ratios(first: Epoch, second: Epoch, rounds: int) -> list[float]:
    """First's time by second's in each round, of timings directly after each other in alternating order."""
    first()
    second()
    found: list[float] = []
    for turn in range(rounds):
        if turn % 2:
            one = seconds(first)
            other = seconds(second)
        else:
            other = seconds(second)
            one = seconds(first)
        found.append(one / other)
    return found


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = perf_counter()
    work()
    return perf_counter() - begun


def bench(names: Sequence[str] = (), rounds: int = 12) -> Iterator[Ratio]:
    """Measure, on one thread; yields each ratio as it is known.

    Args:
        names: of `MEASURES`; empty: all that this machine's processor, or its GPU, computes as such.
        rounds: timings of each side.

    Raises:
        UnknownNameError: there is no such measure.
    """
    for name in names:
        if name not in MEASURES:
            raise UnknownNameError("measure", name, MEASURES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        missing = {"bfloat16"} if not has_bfloat16(torch.device("cpu")) else set[str]()
        missing |= {"graphs"} if not torch.cuda.is_available() else set()
        for name in dict.fromkeys(names) or [name for name in MEASURES if name not in missing]:
            measure = MEASURES[name]
            found = measure.pairs(rounds)
            yield Ratio(name, measure.about, measure.goal, median(found), min(found), max(found))
    finally:
        torch.set_num_threads(threads)


def _steps(name: str, other: str, tasks: int = 1) -> Pairs:
    return lambda rounds: ratios(everlearns(name, tasks), everlearns(other), rounds)


def _over_plain(name: str) -> Pairs:
    return lambda rounds: ratios(everlearns(name), plain_loop(), rounds)


def _setting(slow: Training, fast: Training) -> Pairs:
    return lambda rounds: ratios(everlearns("stl", 1, fast), everlearns("stl", 1, slow), rounds)


def _recorded(rounds: int) -> list[float]:
    check_device("cuda")
    plain = everlearns("hps", device="cuda", training=Training(batch=BATCH, graphs=False), epochs=10)
    return ratios(everlearns("hps", device="cuda", epochs=10), plain, rounds)


def _sure(rounds: int) -> list[float]:
    return ratios(everlearns("stl", sure=True), everlearns("stl"), rounds)


def _trial(rounds: int) -> list[float]:
    """A trial of STL, records of its evaluations and all, over its bare steps and bare evaluations."""
    epochs, every = 6, 3
    training = Training(epochs=epochs, batch=BATCH, evaluate_every=every)
    method, data = make_method("stl", "cifar", 1, {}), StreamData(made_stream(test=500), torch.device("cpu"), last=True)
    network = method.network(make_backbone("cifar", (3, 32, 32)), 1, 0)
    method.begin(network, {}, 10)
    bare = plain_loop()

    def trial() -> None:
        state = State(method.network(make_backbone("cifar", (3, 32, 32)), 1, 0))
        for _ in learn(Plan(method, data, [10], training, 0), state):
            pass

    def parts() -> None:
        for epoch in range(epochs):
            bare()
            if epoch % every == 0:
                for split in data[0].values():
                    evaluate(network, 0, split)
        for split in data[0].values():
            evaluate(network, 0, split)

    return ratios(trial, parts, max(2, rounds // 2))


def _two_at_once(rounds: int) -> list[float]:
    """Work of two processes at once, by that of one after the other, in the same time."""
    return [2 * _processes(1) / _processes(2) for _ in range(max(2, rounds // 2))]


_WORK = """
import sys, time, torch
torch.set_num_threads(1)
from everlearn.benching.steps import everlearns
epoch = everlearns("stl")
epoch()
print("ready", flush=True)
sys.stdin.readline()
begun = time.perf_counter()
for _ in range(12):
    epoch()
print(time.perf_counter() - begun, flush=True)
"""


def _processes(count: int) -> float:
    """The mean of the seconds that some epochs take in each of so many processes that begin together."""
    return sum(together([sys.executable, "-c", _WORK], count)) / count


def together(command: Sequence[str], count: int) -> list[float]:
    """What so many processes measure that begin together.

    Args:
        command: a process that prints a line when it is ready, reads one, measures, and prints a number.
        count: how many.
    """
    crew = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    for process in crew:
        assert process.stdout
        process.stdout.readline()
    for process in crew:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    return [float(process.communicate()[0]) for process in crew]


MEASURES: dict[str, Measure] = {
    "stl": Measure("an STL step over a loop written by hand", "at most 1.1", _over_plain("stl")),
    "hps": Measure("an HPS step over a loop written by hand", "at most 1.1", _over_plain("hps")),
    "df-cnn": Measure("a DF-CNN step over an STL step (Lee 2019: 1.33)", "at most 1.33", _steps("df-cnn", "stl")),
    "hps-50": Measure("an HPS step at 50 tasks over one at the first", "about 1", _steps("hps", "hps", 50)),
    "df-cnn-50": Measure("a DF-CNN step at 50 tasks over one at the first", "about 1", _steps("df-cnn", "df-cnn", 50)),
    "channels-last": Measure(
        "an STL step in channels last over one in contiguous layout",
        "below 1",
        _setting(Training(batch=BATCH, memory_format="contiguous"), Training(batch=BATCH)),
    ),
    "sure": Measure("an STL step of a network sure of every image over one of a network that is not", "about 1", _sure),
    "bfloat16": Measure(
        "an STL step in bfloat16 over one in float32",
        "below 1",
        _setting(Training(batch=BATCH), Training(batch=BATCH, precision="bfloat16")),
    ),
    "graphs": Measure("an HPS step recorded as a CUDA graph over one that is not, on a GPU", "below 1", _recorded),
    "trial": Measure("an STL trial over its bare steps and evaluations", "at most 1.05", _trial),
    "two-at-once": Measure("two trials at once: work in the same time", "at least 1.7 on 2 cores", _two_at_once),
}
"""By name."""
