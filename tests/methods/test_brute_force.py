"""Brute force, against static runs of the same seed, scripted accuracies, and its records."""

import copy
import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError
from everlearn.experiments import store
from everlearn.experiments.plan import Request, plan_runs
from everlearn.experiments.records import Evaluation
from everlearn.experiments.store import StoredRun, read_run
from everlearn.methods.brute_force import BruteForce
from everlearn.methods.catalogue import make_method
from everlearn.methods.static import StaticTransfer
from everlearn.networks.configurations import every_configuration, spell
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.networks.resnet import resnet18
from everlearn.report.histories import history
from everlearn.sharing.deconvolution import Deconvolution
from everlearn.sharing.factors import Factors
from everlearn.sharing.hard import Hard
from everlearn.sharing.rule import SharingRule
from everlearn.testing.methods import begun
from everlearn.training import replays
from everlearn.training.evaluation import Score, evaluate
from everlearn.training.fit import Found, Measured, Plan, State, Tick, learn
from everlearn.training.settings import Training
from tests.experiments.test_resume import run_through

QUICK = Training(epochs=2, batch=10, rate=3e-3, decay=0.5, evaluate_every=1, evaluate_others_every=1)
ALL, GROUPS = every_configuration(3), "1,3/2"
BY_RULE = pytest.mark.parametrize("rule", [Hard(), Factors(), Deconvolution()], ids=["hard", "tf", "df-cnn"])
IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def until(plan: Plan, state: State, phase: int) -> list[Measured | Found]:
    """Learn up to the beginning of a phase; what was told since the state was made."""
    found: list[Measured | Found] = []
    for event in learn(plan, state):
        if isinstance(event, Tick):
            if state.phase == phase and state.stage < 0 and state.attempt == 0:
                break
        else:
            found.append(event)
    return found


def numbers(network: LifelongNetwork) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in network.state_dict().items()}


def of_attempt(events: list[Measured | Found], attempt: int | None, training: int) -> list[Measured]:
    """The evaluations of one attempt, as those of a method without attempts."""
    ours = [e for e in events if isinstance(e, Measured) and e.training == training and e.attempt == attempt]
    return [dataclasses.replace(event, attempt=None) for event in ours]


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ---------------------------------------------------------------- what an attempt is


@BY_RULE
def test_each_attempt_at_the_second_task_is_a_static_run_of_the_same_seed(rule: SharingRule) -> None:
    """The same start, batches, dropout and rates: every evaluation and every number of task 2, bit for bit."""
    plan, state = begun(BruteForce(rule), QUICK)
    events: list[Measured | Found] = []
    ends: list[dict[str, Tensor]] = []
    for event in learn(plan, state):
        if not isinstance(event, Tick):
            events.append(event)
        elif state.phase == 1 and (state.stage, state.epoch) == (0, 2):
            ends.append(numbers(state.network))
        elif state.phase == 2:
            break
    assert len(ends) == 8
    for attempt, configuration in enumerate(ALL):
        static, other = begun(StaticTransfer(rule, f"111/{spell(configuration)}/111"), QUICK)
        expected = [e for e in until(static, other, 2) if isinstance(e, Measured) and e.training == 1]
        ours = of_attempt(events, attempt, 1)
        assert [e for e in ours if e.task == 1] == [e for e in expected if e.task == 1]
        used = other.network.used(1)
        assert {n for n in ends[attempt] if n.startswith("tasks.1.")} == {n for n in used if n.startswith("tasks.1.")}
        assert all(torch.equal(ends[attempt][name], p) for name, p in used.items())
        # The first task drifts with the shared blocks that it keeps, and with no other: as in the static run, where
        # blocks that task 2 does not transfer stand still.
        last = evaluate(other.network, 0, static.data[0]["test"])
        found = next(e for e in reversed(ours) if e.task == 0)
        assert (found.accuracy, found.loss) == (last.accuracy, pytest.approx(last.loss, rel=1e-5))
    assert len({round(e.loss, 6) for i in range(8) for e in of_attempt(events, i, 1)[-1:]}) > 1


@BY_RULE
def test_each_attempt_at_a_later_task_is_a_static_step_from_what_was_kept(rule: SharingRule) -> None:
    plan, state = begun(BruteForce(rule, GROUPS), QUICK)
    until(plan, state, 2)
    kept = copy.deepcopy(state.network)
    events = until(plan, state, 3)
    for attempt, configuration in enumerate(every_configuration(3, GROUPS)):
        other = State(copy.deepcopy(kept), phase=2, epochs=4, stale={0, 1})
        static = dataclasses.replace(plan, method=StaticTransfer(rule, f"111/111/{spell(configuration)}"))
        assert of_attempt(events, attempt, 2) == until(static, other, 3)
    for before, now in zip(kept.tasks[:2], state.network.tasks[:2], strict=True):
        assert equal(dict(before.state_dict()), dict(now.state_dict())), "earlier tasks' own numbers never move"


def test_the_first_task_is_trained_once_and_transfers_everything() -> None:
    plan, state = begun(BruteForce(Hard()), QUICK)
    events = until(plan, state, 1)
    static, other = begun(StaticTransfer(Hard()), QUICK)
    assert events == until(static, other, 1), "no attempts, no findings"
    assert equal(numbers(state.network), numbers(other.network))


# ---------------------------------------------------------------- what is kept


def scripted(monkeypatch: pytest.MonkeyPatch, state: State, script: dict[int, list[float]]) -> None:
    """Let evaluations of validation splits find these accuracies, by attempt and epoch; 0.1 where none is given."""

    def ask(network: LifelongNetwork, task: int, data: object, auroc: bool, answers: object) -> Callable[[], Score]:
        validation = len(data.labels) == 8  # type: ignore[attr-defined]
        return lambda: Score(script.get(state.attempt, [0.1] * 3)[state.epoch] if validation else 0.1, 0.0)

    monkeypatch.setattr(replays, "ask", ask)


SCRIPT = {0: [0.3, 0.3, 0.3], 2: [0.1, 0.85, 0.2], 4: [0.1, 0.6, 0.8], 5: [0.85, 0.1, 0.1], 7: [0.8, 0.8, 0.8]}
"""Attempt 2 has the best evaluation, and a bad end; attempt 5 is as good, and later; 4 and 7 end best."""


@pytest.mark.parametrize(("rule", "task"), [(Hard(), 1), (Hard(), 2), (Factors(), 1)], ids=["hard-1", "hard-2", "tf-1"])
def test_the_end_of_the_attempt_with_the_best_evaluation_is_kept(
    monkeypatch: pytest.MonkeyPatch, rule: SharingRule, task: int
) -> None:
    plan, state = begun(BruteForce(rule), QUICK)
    until(plan, state, task)
    scripted(monkeypatch, state, SCRIPT)
    seen: dict[tuple[int, int], dict[str, Tensor]] = {}
    found: list[Found] = []
    for event in learn(plan, state):
        if isinstance(event, Found):
            found.append(event)
        elif isinstance(event, Tick) and state.phase == task and state.stage == 0:
            seen[state.attempt, state.epoch] = numbers(state.network)
        elif isinstance(event, Tick) and state.phase == task + 1:
            break
    now = numbers(state.network)
    assert equal(now, seen[2, 2])
    assert not equal(now, seen[2, 1]), "the end, not the best epoch"
    assert spell(state.network.configurations[task]) == spell(ALL[2]) == "101"
    assert spell(state.network.configurations[0]) == ("101" if task == 1 else spell(state.network.configurations[1]))
    (one,) = found
    assert (one.epochs, one.task, one.settled, one.finding.attempt) == (2 * (task + 1), task, True, 2)
    assert one.finding.configuration == ALL[2]
    best = [0.3, 0.1, 0.85, 0.1, 0.8, 0.85, 0.1, 0.8]
    assert one.finding.weights == {c: pytest.approx(w) for c, w in zip(ALL, best, strict=True)}


def test_an_attempt_that_never_gets_one_right_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, state = begun(BruteForce(Hard()), QUICK)
    until(plan, state, 1)
    scripted(monkeypatch, state, {i: [0.0] * 3 for i in range(8)})
    first: dict[str, Tensor] = {}
    for event in learn(plan, state):
        if isinstance(event, Tick) and (state.phase, state.attempt, state.epoch) == (1, 0, 2):
            first = numbers(state.network)
        elif isinstance(event, Tick) and state.phase == 2:
            break
    assert equal(numbers(state.network), first), "the first of equals"


@pytest.mark.parametrize("rule", [Hard(), Factors()], ids=["hard", "tf"])
def test_memory_holds_a_start_and_a_best_while_a_task_is_searched_and_nothing_large_after(rule: SharingRule) -> None:
    plan, state = begun(BruteForce(rule, GROUPS), QUICK)
    best = -1.0
    names: set[str] = set()
    ends: set[str] = set()
    for event in learn(plan, state):
        if isinstance(event, Measured) and event.split == "validation" and event.attempt is not None:
            ends = {f"best/{n}" for n in state.network.state_dict() if n.startswith(parts(state.phase))}
        if not isinstance(event, Tick):
            continue
        held = {name for name in state.memory if name.startswith("best/")}
        if state.stage < 0 and state.attempt == 0:
            assert set(state.memory) == ({"scores", "kept"} if state.phase > 1 else set())
            assert sum(t.numel() for t in state.memory.values()) <= 4 + 1
            best = -1.0
        elif state.stage < 0:
            if state.memory["scores"][state.attempt - 1] > best:
                best, names = float(state.memory["scores"][state.attempt - 1]), ends
            assert held == names, "of the best until now, and of no other"
            starts = {name.removeprefix("start/") for name in state.memory if name.startswith("start/")}
            assert all(name.startswith(("shared.", "tasks.0.")) for name in starts)
            assert any(name.startswith("tasks.0.") for name in starts) == (state.phase == 1)


def parts(task: int) -> tuple[str, ...]:
    return ("shared.", "tasks.0.", "tasks.1.") if task == 1 else ("shared.", f"tasks.{task}.")


# ---------------------------------------------------------------- the first task follows


def moved(network: LifelongNetwork) -> LifelongNetwork:
    """As if it had been trained: every number is another."""
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=random))
    return network.eval()


@pytest.mark.parametrize("backbone", [make_backbone("digits", (1, 8, 8)), resnet18(1, 4)], ids=["digits", "resnet"])
@BY_RULE
def test_the_first_task_takes_the_configuration_on_and_answers_as_before(rule: SharingRule, backbone: object) -> None:
    groups = "" if len(backbone.blocks) == 3 else "1-2,9/3-8"  # type: ignore[attr-defined]
    method = BruteForce(rule, groups)
    network = method.network(backbone, 2, 0)  # type: ignore[arg-type]
    memory: dict[str, Tensor] = {}
    method.begin(network, memory, 2)
    before = numbers(moved(network))
    with torch.no_grad():
        logits = network(IMAGES, 0)
    method.begin(network, memory, 2)
    for attempt, configuration in enumerate(every_configuration(network.blocks, groups)):
        method.restart(network, memory, [1], attempt)
        network.eval()
        assert network.configurations == [configuration, configuration]
        with torch.no_grad():
            torch.testing.assert_close(network(IMAGES, 0), logits, rtol=1e-4, atol=1e-5)
        for block, transfer in enumerate(configuration):
            for key, start in network.start_shared(block).items():
                now, trained = network.shared[block].get_parameter(key), before[f"shared.{block}.{key}"]
                back = isinstance(rule, Hard) and not transfer
                assert torch.equal(now, start if back else trained)
                assert not torch.equal(start, trained)
        # Whatever happens to shared blocks that are not transferred, the first task does not feel it.
        with torch.no_grad():
            for block, transfer in enumerate(configuration):
                for p in [] if transfer else network.shared[block].parameters():
                    p.add_(1)
            torch.testing.assert_close(network(IMAGES, 0), logits, rtol=1e-4, atol=1e-5)
        moved(network)  # an attempt that the next one must not feel


def test_under_hard_sharing_the_block_that_the_second_task_has_for_itself_is_new_to_the_third(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for rule in (Hard(), Factors()):
        plan, state = begun(BruteForce(rule), QUICK)
        until(plan, state, 1)
        after_first = numbers(state.network)
        scripted(monkeypatch, state, {2: [0.9] * 3})  # 101
        until(plan, state, 2)
        monkeypatch.undo()
        now = numbers(state.network)
        start = {f"shared.1.{key}": t for key, t in state.network.start_shared(1).items()}
        expected = start if isinstance(rule, Hard) else after_first
        assert all(torch.equal(now[name], expected[name]) for name in start)
        assert not any(torch.equal(start[name], after_first[name]) for name in start)
        assert not any(torch.equal(now[n], after_first[n]) for n in now if n.startswith(("shared.0.", "shared.2.")))


# ---------------------------------------------------------------- groups and refusals


def test_blocks_of_a_group_transfer_together() -> None:
    method = BruteForce(Hard(), GROUPS)
    assert [method.attempts(3, task) for task in (0, 1, 2)] == [1, 4, 4]
    assert BruteForce(Hard()).attempts(4, 1) == 16
    plan, state = begun(method, QUICK)
    tried: dict[tuple[int, int], list[str]] = {}
    for event in learn(plan, state):
        if isinstance(event, Tick) and state.phase > 0 and state.stage == 0:
            tried[state.phase, state.attempt] = [spell(c) for c in state.network.configurations]
    assert [tried[1, i] for i in range(4)] == [[c, c] for c in ("111", "010", "101", "000")]
    assert [tried[2, i][2] for i in range(4)] == ["111", "010", "101", "000"]
    assert plan.work(state.network) == state.worked == 2 + 2 * 4 + 2 * 4
    assert len(state.memory["scores"]) == 4


@pytest.mark.parametrize("groups", ["1-2", "1-4", "1/2/2", "1-2/3/", "one/two", "1;2;3"])
def test_groups_that_do_not_fit_are_refused_before_training(groups: str) -> None:
    with pytest.raises(ConfigurationError, match="groups"):
        BruteForce(Hard(), groups).network(make_backbone("digits", (1, 8, 8)), 2, 0)


def test_it_has_no_configuration_to_choose_and_one_protocol() -> None:
    with pytest.raises(ConfigurationError, match="no configuration to choose"):
        make_method("brute-force-hps@top-2", "digits", 5, {})
    assert BruteForce.protocols == ("lifelong",)
    assert make_method("brute-force-tf", "digits", 5, {"groups": "1/2-3", "orthogonality": 0.5}) == BruteForce(
        Factors(0.5), "1/2-3"
    )


# ---------------------------------------------------------------- records


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    training = {"epochs": 2, "evaluate_every": 1, "evaluate_others_every": 2}
    request = Request("digits", ("brute-force-hps",), trials=1, training=training, options={"groups": "1-2/3"})
    return read_run(run_through(plan_runs(request)[0], tmp_path_factory.mktemp("brute")))


def test_every_attempt_is_recorded_and_the_kept_one_named(recorded: StoredRun) -> None:
    lines = [json.loads(line) for line in (recorded.folder / store.ACCURACY).read_text().splitlines()]
    tasks = recorded.run.tasks
    for place, task in enumerate(tasks):
        own = [line for line in lines if line["training"] == task and line["task"] == task]
        attempts = {line.get("attempt") for line in own}
        assert attempts == ({None} if place == 0 else {None, 0, 1, 2, 3})
        first = 2 * place
        for attempt in range(4) if place else [None]:
            told = [e["epoch"] for e in own if e.get("attempt") == attempt and e["split"] == "validation"]
            assert told == [first, first + 1, first + 2], "each attempt counts from the same epoch"
        if place:
            assert {(e["epoch"], e["split"]) for e in own if "attempt" not in e} == {
                (first + 2, split) for split in ("train", "validation", "test")
            }
    assert "attempt" not in lines[0], "what is plain is left out"
    assert [f.task for f in recorded.findings] == tasks[1:]
    for finding in recorded.findings:
        scores = [
            max(e.accuracy for e in recorded.evaluations if e.training == e.task == finding.task
                and e.split == "validation" and e.attempt == i)
            for i in range(4)
        ]  # fmt: skip
        assert list(finding.weights) == ["111", "001", "110", "000"]
        assert list(finding.weights.values()) == pytest.approx(scores, abs=1e-6)
        assert finding.attempt == int(np.argmax(scores))
        assert finding.settled
        assert finding.configuration == list(finding.weights)[finding.attempt]
    result = recorded.result
    assert result is not None
    assert result.steps == 4 * 2 * (1 + 4 * 4), "40 images in batches of 10; one attempt, then four a task"


def told(attempt: int | None, epoch: int, accuracy: float, task: str, split: str = "validation") -> Evaluation:
    return Evaluation(
        epoch=epoch, training=task, task=task, split=split,  # type: ignore[arg-type]
        accuracy=accuracy, loss=0.0, attempt=attempt,
    )  # fmt: skip


def test_a_history_has_the_kept_attempt_alone(recorded: StoredRun) -> None:
    past = history(recorded)
    row = {epoch: i for i, epoch in enumerate(past.epochs.tolist())}
    others = 0
    for finding in recorded.findings:
        column = recorded.run.tasks.index(finding.task)
        for line in recorded.evaluations:
            if line.training == line.task == finding.task and line.split == "validation" and line.attempt is not None:
                known = past.validation[row[line.epoch], column]
                assert line.attempt != finding.attempt or known == line.accuracy
                others += line.attempt != finding.attempt and known != line.accuracy
    assert others > 0, "the attempts must differ for this to say anything"


def test_what_is_evaluated_after_the_attempts_counts(recorded: StoredRun) -> None:
    task = recorded.run.tasks[1]
    finding = next(f for f in recorded.findings if f.task == task)
    lines = [told(i, epoch, i / 10 + epoch / 100, task) for i in range(4) for epoch in (2, 3, 4)]
    lines += [told(None, 4, 0.99, task), told(None, 4, 0.77, task, "test"), told(2, 3, 0.66, task, "test")]
    for kept in (1, 2):
        run = dataclasses.replace(
            recorded, evaluations=tuple(lines), findings=(finding.model_copy(update={"attempt": kept}),)
        )
        past = history(run)
        assert past.validation[:, 1].tolist() == [kept / 10 + 0.02, kept / 10 + 0.03, 0.99]
        assert past.test[1:, 1].tolist()[-1] == 0.77
        assert past.test[1, 1] == 0.66 if kept == 2 else np.isnan(past.test[1, 1])
    for findings in ((), (finding.model_copy(update={"settled": False, "attempt": 1}),)):
        unsettled = history(dataclasses.replace(recorded, evaluations=tuple(lines), findings=findings))
        assert np.isnan(unsettled.validation[:2, 1]).all(), "nothing counts before one is kept"
        assert unsettled.validation[2, 1] == 0.99


def test_groups_that_came_as_a_number_are_refused_like_any_other_text() -> None:
    with pytest.raises(ConfigurationError, match="name each of the backbone's 3 blocks once"):
        make_method("brute-force-hps", "digits", 5, {"groups": 12}).network(make_backbone("digits", (1, 8, 8)), 2, 0)
