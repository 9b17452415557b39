"""What `everlearn bench` measures: ratios of what was timed, and of nothing else."""

import json
import re
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from everlearn.bench_command import bench as bench_command
from everlearn.benching import measures
from everlearn.benching.measures import MEASURES, Measure, bench, ratios
from everlearn.benching.steps import BATCH, IMAGES, Epoch, everlearns, plain_loop
from everlearn.cli import app
from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.training import evaluation, fit, replays
from everlearn.training.optimisers import TF1RMSProp


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(measures, "perf_counter", lambda: now[0])
    return now


def test_a_ratio_is_the_first_time_by_the_second_in_alternating_order(clock: list[float]) -> None:
    called: list[str] = []

    def taking(name: str, long: float) -> None:
        called.append(name)
        clock[0] += long

    assert ratios(lambda: taking("first", 6.0), lambda: taking("second", 4.0), 3) == [1.5] * 3
    warm, rest = called[:2], called[2:]
    assert warm == ["first", "second"]
    assert rest == ["second", "first", "first", "second", "second", "first"]


def test_the_median_and_the_spread_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        MEASURES, "made", Measure("one over another", "at most 2", lambda rounds: [3.0, 1.0, 1.5][:rounds])
    )
    threads = torch.get_num_threads()
    (found,) = bench(["made"], rounds=3)
    assert (found.name, found.middle, found.least, found.most) == ("made", 1.5, 1.0, 3.0)
    assert torch.get_num_threads() == threads
    with pytest.raises(UnknownNameError, match=r"there is no measure named 'mad'.*made"):
        list(bench(["mad"]))


def test_what_the_machine_has_not_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(MEASURES):
        monkeypatch.setitem(MEASURES, name, Measure(name, "", lambda _: [1.0]))
    for has in (True, False):
        monkeypatch.setattr(measures, "has_bfloat16", lambda _, has=has: has)
        monkeypatch.setattr("torch.cuda.is_available", lambda has=has: has)
        assert {"bfloat16", "graphs"} & {found.name for found in bench()} == ({"bfloat16", "graphs"} if has else set())
    assert [found.name for found in bench(["bfloat16"])] == ["bfloat16"], "asked for by name it is measured"


def test_both_sides_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    one = torch.Tensor.backward

    def counted(self: torch.Tensor) -> None:
        nonlocal steps
        steps += 1
        one(self)

    monkeypatch.setattr(torch.Tensor, "backward", counted)
    for epoch in (plain_loop(), everlearns("stl"), everlearns("hps", 3)):
        steps = 0
        epoch()
        assert steps == IMAGES // BATCH


def test_a_sure_network_has_gradients_below_the_smallest_full_number(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[float] = []
    step = TF1RMSProp.step

    def looked(self: TF1RMSProp) -> None:
        found.extend(float(p.grad.abs().max()) for group in self.param_groups for p in group["params"])
        step(self)

    monkeypatch.setattr(TF1RMSProp, "step", looked)
    monkeypatch.setattr(fit, "denormals_as_zero", nullcontext)
    everlearns("stl", sure=True)()
    assert 0 < max(found) < 1.2e-38
    found.clear()
    everlearns("stl")()
    assert max(found) > 1e-3


def test_a_trial_and_its_parts_are_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[Epoch] = []
    counts = {"steps": 0, "evaluations": 0}
    backward, ask = torch.Tensor.backward, evaluation.ask

    def compared(trial: Epoch, parts: Epoch, _: int) -> list[float]:
        sides.extend((trial, parts))
        return [1.0]

    def stepped(self: torch.Tensor) -> None:
        counts["steps"] += 1
        backward(self)

    def evaluated(*given: Any) -> Any:
        counts["evaluations"] += 1
        return ask(*given)

    monkeypatch.setattr(measures, "ratios", compared)
    monkeypatch.setattr(torch.Tensor, "backward", stepped)
    monkeypatch.setattr(evaluation, "ask", evaluated)
    monkeypatch.setattr(replays, "ask", evaluated)
    list(bench(["trial"], rounds=1))
    done = []
    for side in sides:
        counts.update(steps=0, evaluations=0)
        side()
        done.append(dict(counts))
    assert done[0] == done[1]
    assert done[0]["steps"] == 6 * (IMAGES // BATCH)


def test_a_name_that_comes_twice_is_measured_once_and_none_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURES, "made", Measure("one over another", "at most 2", lambda _: [1.25]))
    assert [found.name for found in bench(["made", "made"])] == ["made"]
    for nothing in ("", " , "):
        done = CliRunner().invoke(app, ["bench", "--measures", nothing])
        assert isinstance(done.exception, ConfigurationError)
        assert "--measures needs names" in str(done.exception)


def test_the_help_names_every_measure() -> None:
    assert set(MEASURES) <= set(re.findall(r"`([\w-]+)`", bench_command.__doc__ or ""))


def test_the_command_prints_lines_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURES, "made", Measure("one over another", "at most 2", lambda _: [1.25]))
    done = CliRunner().invoke(app, ["bench", "--measures", "made", "--rounds", "1", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["middle"] == 1.25
    shown = CliRunner().invoke(app, ["bench", "--measures", "made"])
    assert shown.stdout.splitlines()[-1] == "made            1.25  (1.25 to 1.25)  one over another; goal: at most 2"
