"""DEN as a whole: which stages run, what moves in them, what is expanded and split, and its relatives."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from everlearn.errors import ConfigurationError
from everlearn.methods.catalogue import make_method
from everlearn.methods.den import DRIFT, EXPAND, FIRST, RETRAIN, SPLIT, TUNE, Den
from everlearn.methods.losses import task_loss
from everlearn.methods.proximal import connections
from everlearn.networks.backbone import Backbone
from everlearn.networks.growing import GrowingNetwork
from everlearn.testing import check_method
from everlearn.testing.methods import made_stream
from everlearn.training.fit import Found, Plan, State, learn
from everlearn.training.settings import Training
from tests.methods.family import answers, at_stage, batch_of, begun, learned, multi_label_stream, small

ADAM = Training(epochs=10, batch=5, optimiser="adam", rate=3e-3, schedule="constant", evaluate_every=10,
                evaluate_others_every=10)  # fmt: skip
NEVER = float("inf")


def den(**options: float | str | bool) -> Den:
    return replace(Den(k=3, mu_top=1e-2), **options)


def started(method: Den, until: tuple[int, int, int] | None = None, seed: int = 0) -> tuple[Plan, State]:
    """A run, brought to a stage of a task with so many epochs over; None: to the end."""
    plan, state = begun(method, backbone=small(dropout=0.0), training=ADAM, seed=seed)
    learned(plan, state, at_stage(*until) if until else lambda state: False)
    return plan, state


def network_of(state: State) -> GrowingNetwork:
    assert isinstance(state.network, GrowingNetwork)
    return state.network


def counts(method: Den) -> list[dict[str, list[int]]]:
    plan, state = begun(method, backbone=small(dropout=0.0), training=ADAM)
    found = [event for event in learn(plan, state) if isinstance(event, Found) and event.settled]
    return [{what: list(numbers) for what, numbers in event.finding.counts.items()} for event in found]


# ------------------------------------------------------------------ the stages


def test_a_task_s_epochs_are_shared_out() -> None:
    method = Den(retrain=0.3, expand=0.2, drift=0.25, split=0.0)
    assert [method.epochs(stage, 20, 0) for stage in range(6)] == [20, 0, 0, 0, 0, 0]
    assert [method.epochs(stage, 20, 1) for stage in range(6)] == [0, 6, 4, 5, 0, 0]
    assert [method.epochs(stage, 2, 1) for stage in range(6)] == [0, 1, 1, 1, 0, 0]
    assert [replace(method, tune_after=2).epochs(TUNE, 20, task) for task in range(3)] == [0, 20, 0]


def test_all_its_stages_together_have_as_many_epochs_as_a_task() -> None:
    for shares in ((0.4, 0.2, 0.2, 0.2), (0.37, 0.21, 0.23, 0.19)):
        method = Den(**dict(zip(("retrain", "expand", "drift", "split"), shares, strict=True)))
        found = {epochs: [method.epochs(stage, epochs, 1) for stage in range(1, 5)] for epochs in range(5, 200)}
        assert {epochs: sum(each) for epochs, each in found.items()} == {epochs: epochs for epochs in found}
        assert all(abs(n - s * epochs) < 1 for epochs, each in found.items() for n, s in zip(each, shares, strict=True))


def test_a_head_may_pool_before_its_layer() -> None:
    """Eq. 3 is of what reaches the outputs: one number for each unit there, where the trunk gives a map."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = (
            nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()),
        )

    def head(classes: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))

    backbone = Backbone("pooled", blocks, head, start="module")
    plan, state = begun(Den(k=2, mu_top=1e-2), backbone=backbone, training=replace(ADAM, epochs=5))
    learned(plan, state, at_stage(1, RETRAIN))
    network, images = network_of(state), plan.data[1]["train"]
    features, _ = plan.method._features(network, 1, images)  # type: ignore[attr-defined]
    with torch.no_grad():
        wanted = network.eval().features(images.take(slice(0, 20)), 1).mean((2, 3))
    torch.testing.assert_close(features, wanted)
    assert learned(plan, state)


@pytest.mark.parametrize(("tau", "expands"), [(0.0, True), (NEVER, False)])
def test_the_network_is_expanded_if_the_training_loss_is_above_tau(tau: float, expands: bool) -> None:
    plan, state = started(den(tau=tau), (1, EXPAND, 0))
    network = network_of(state)
    data = plan.data[1]["train"]
    network.eval()
    if not expands:
        loss = task_loss(network(data.take(slice(None)), 1), data.labels, "mean")
        assert float(state.memory["loss"]) == pytest.approx(float(loss), rel=1e-5)
    assert any(name.startswith("rows") for name in network.part(1).extra) is expands
    assert plan.method.needed(network, state.memory, 1, EXPAND) is expands


def test_the_loss_is_compared_over_all_images() -> None:
    _plan, state = started(den(tau=NEVER), (1, EXPAND, 0))
    loss = float(state.memory["loss"])
    for tau, expands in ((loss * 0.99, True), (loss * 1.01, False)):
        assert den(tau=tau).needed(state.network, state.memory, 1, EXPAND) is expands


def test_the_first_task_is_trained_whole_with_a_sparse_norm() -> None:
    plan, state = started(den(mu=2.0), (0, FIRST, 10))
    _plain, other = started(den(mu=0.0), (0, FIRST, 10))

    def zeros(one: State) -> float:
        weights = [connections(network_of(one).trunk(block).weight.detach()) for block in range(3)]
        return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)

    assert zeros(other) == 0 < 0.3 < zeros(state)
    assert set(plan.method.objective(state.network, state.memory, 0, FIRST, "mean").moves) == set(state.network.used(0))


def test_what_is_next_to_nothing_after_the_first_task_is_nothing() -> None:
    _, state = started(den(mu=0.5, zero=0.05), (1, RETRAIN, 0))
    for block in range(3):
        sizes = connections(network_of(state).trunk(block).weight.detach())
        assert ((sizes == 0) | (sizes >= 0.05)).all()
        assert block == 0 or (sizes == 0).any()


def test_after_later_tasks_what_was_nothing_and_is_next_to_it_is_nothing_again() -> None:
    method = den(mu=0.5, zero=0.05, tau=NEVER, splitting="never", retraining="l2", inputs="all")
    plan, state = started(method, (1, SPLIT, 0))
    network = network_of(state)
    old = [network.trunk(block).weight.detach().clone() for block in range(3)]
    cut = [connections(layer.weight.detach()) for layer in network.cut(1)]
    learned(plan, state, at_stage(2, FIRST))
    small = kept = 0
    for block in range(3):
        sizes, before = connections(network.trunk(block).weight.detach()), connections(old[block])
        assert ((sizes == 0) | (sizes >= 0.05))[before == 0].all()
        small += int(((cut[block] > 0) & (cut[block] < 0.05)).sum())
        kept += int(((sizes > 0) & (sizes < 0.05))[before > 0].sum())
    # There was something to clean; and what was something before the task is left, however small it has become.
    assert small > kept > 0


def test_only_the_part_that_is_selected_is_trained() -> None:
    plan, state = started(den(mu=0.5, mu_top=0.1, tau=NEVER, splitting="never"), (1, RETRAIN, 0))
    network = network_of(state)
    before = [network.trunk(block).weight.detach().clone() for block in range(3)]
    cut = network.structures[1].cut
    assert [len(units) for units in cut[1:]] == state.memory["selected"].tolist()
    assert 0 < len(cut[-1]) < 8
    objective = plan.method.objective(network, state.memory, 1, RETRAIN, "mean")
    assert all(name.startswith(("tasks.1.extra", "tasks.1.head")) for name in objective.moves)
    learned(plan, state, at_stage(2, FIRST))
    for block in range(3):
        moved = network.trunk(block).weight.detach() != before[block]
        rows = moved.flatten(1).any(1).nonzero().flatten().tolist()
        assert rows
        assert set(rows) <= set(cut[block + 1])


def test_the_losses_are_the_paper_s_equations() -> None:
    method = den(tau=0.0, retraining="l2", mu_top=0.05, l2=0.3, lambda_drift=0.7)
    plan, state = started(method, (1, RETRAIN, 2))
    network, batch = network_of(state), batch_of(plan, 1)
    network.eval()
    head = network.head_layer(1).weight
    squares = sum(float(layer.weight.square().sum()) for layer in network.cut(1)) + float(head.square().sum())
    plain = task_loss(network(batch.images, 1), batch.labels, "sum")
    loss = method.objective(network, state.memory, 1, RETRAIN, "sum").loss(batch)
    assert float(loss) == pytest.approx(float(plain) + 5 * 0.15 * squares, rel=1e-5)  # a sum over five examples

    learned(plan, state, at_stage(1, DRIFT, 1))
    network.eval()
    distance = 0.0
    for block, layer in enumerate(network.cut(1)):
        old = network.old(1, block).weight
        distance += float((layer.weight[: old.shape[0], : old.shape[1]] - old).square().sum())
    plain = task_loss(network(batch.images, 1), batch.labels, "mean")
    loss = method.objective(network, state.memory, 1, DRIFT, "mean").loss(batch)
    assert distance > 0
    assert float(loss) == pytest.approx(float(plain) + 0.7 * distance, rel=1e-5)


def test_by_default_retraining_has_all_three_norms() -> None:
    method = den(mu_top=0.05, l2=0.3, lambda_drift=0.7)
    plan, state = started(method, (1, RETRAIN, 2))
    network, batch = network_of(state), batch_of(plan, 1)
    network.eval()
    objective = method.objective(network, state.memory, 1, RETRAIN, "mean")
    held = [layer.weight for layer in network.cut(1)]
    near = sum(float((layer - network.old(1, b).weight).square().sum()) for b, layer in enumerate(held))
    squares = sum(float(w.square().sum()) for w in [*held, network.head_layer(1).weight])
    plain = task_loss(network(batch.images, 1), batch.labels, "mean")
    assert float(objective.loss(batch)) == pytest.approx(float(plain) + 0.15 * squares + 0.7 * near, rel=1e-5)
    assert objective.after is not None
    before = held[1].detach().clone()
    with torch.no_grad():
        objective.after(0.1)
    torch.testing.assert_close(held[1].detach(), torch.nn.functional.softshrink(before, 0.1 * method.mu))


@pytest.mark.parametrize("proximal", ["rate", "fixed"])
def test_thresholds_follow_the_rate_or_not(proximal: str) -> None:
    method = den(tau=0.0, mu=0.02, gamma=0.05, proximal=proximal)
    _, state = started(method, (1, EXPAND, 1))
    extra = network_of(state).part(1).extra
    objective = method.objective(state.network, state.memory, 1, EXPAND, "mean")
    assert objective.after is not None
    rows, bias = extra["rows1"].detach().clone(), extra["row_bias1"].detach().clone()
    columns = extra["columns1"].detach().clone()
    with torch.no_grad():
        objective.after(0.5)
    scale = 0.5 if proximal == "rate" else 1.0
    rows = torch.nn.functional.softshrink(rows, 0.02 * scale)
    norms = (rows.square().sum(1) + bias.square()).sqrt()
    shrunk = (1 - 0.05 * scale / norms).clamp_min(0)
    torch.testing.assert_close(extra["rows1"].detach(), rows * shrunk[:, None])
    torch.testing.assert_close(extra["row_bias1"].detach(), bias * shrunk)
    torch.testing.assert_close(extra["columns1"].detach(), torch.nn.functional.softshrink(columns, 0.02 * scale))


def test_while_the_network_is_expanded_old_tasks_stand_still() -> None:
    plan, state = started(den(tau=0.0), (1, EXPAND, 0))
    before = answers(plan, state, 0)
    learned(plan, state, at_stage(1, EXPAND, 2))
    assert torch.equal(answers(plan, state, 0), before)
    moves = plan.method.objective(state.network, state.memory, 1, EXPAND, "mean").moves
    assert not set(moves) & set(state.network.used(0))


def test_a_strong_group_norm_leaves_no_new_unit_and_none_keeps_all() -> None:
    assert counts(den(tau=0.0, gamma=1e4, splitting="never"))[1]["added"] == [0, 0, 0]
    assert counts(den(tau=0.0, gamma=0.0, splitting="never"))[1]["added"] == [3, 3, 3]


# ------------------------------------------------------------------ splitting


def test_units_are_split_that_drifted_further_than_sigma() -> None:
    method = den(tau=NEVER, sigma=NEVER)
    plan, state = started(method, (1, DRIFT, 2))
    network = network_of(state)
    rho = [(now.weight - network.old(1, block).weight).detach().flatten(1).norm(dim=1)
           for block, now in enumerate(network.cut(1))]  # fmt: skip
    sigma = float(torch.cat(rho).median())
    replace(method, sigma=sigma).enter(network, state.memory, (1,), SPLIT, plan.images(plan.phases()[1]))
    expected = [int((one > sigma).sum()) for one in rho]
    assert state.memory["split"].tolist() == expected
    assert 0 < sum(expected) < sum(len(one) for one in rho)
    selected = state.memory["selected"].tolist()
    assert [len(layer.bias) for layer in network.cut(1)] == [a + b for a, b in zip(selected, expected, strict=True)]


def test_at_most_so_many_that_drifted_least() -> None:
    found = counts(den(tau=NEVER, sigma=0.0, split_most=2))
    assert all(number <= 2 for number in found[1]["split"])
    assert sum(found[1]["split"]) > 0
    method = den(tau=NEVER, sigma=NEVER)
    plan, state = started(method, (1, DRIFT, 2))
    network = network_of(state)

    def drift(block: int) -> Tensor:
        old = network.old(1, block).weight
        now = network.cut(1)[block].weight.detach()
        return (now[: old.shape[0], : old.shape[1]] - old).flatten(1).norm(dim=1)

    before = [drift(block) for block in range(3)]
    replace(method, sigma=0.0, split_most=2).enter(network, state.memory, (1,), SPLIT, plan.images(plan.phases()[1]))
    for block, rho in enumerate(before):
        # Those that were split are back at their old weights: of all that moved, the two that moved least.
        back = ((drift(block) == 0) & (rho > 0)).nonzero().flatten().tolist()
        moved = (rho > 0).nonzero().flatten().tolist()
        assert back == sorted(sorted(moved, key=lambda unit: float(rho[unit]))[:2])


@pytest.mark.parametrize(
    ("options", "happens"),
    [({"splitting": "never"}, False), ({"splitting": "expanded", "tau": NEVER}, False),
     ({"splitting": "expanded", "tau": 0.0}, True), ({"tau": NEVER}, True)],
)  # fmt: skip
def test_when_units_are_split(options: dict[str, float | str], happens: bool) -> None:
    found = counts(den(sigma=0.0, **options))
    assert (sum(found[1]["split"]) > 0) is happens


# ------------------------------------------------------------------ what is found, and relatives


def test_what_is_told_of_a_task() -> None:
    found = counts(den(tau=0.0, sigma=0.0))
    assert found[0] == {"units": [4, 12, 8]}
    for before, one in itertools.pairwise(found):
        grown = [a + b + c for a, b, c in zip(before["units"], one["added"], one["split"], strict=True)]
        assert one["units"] == grown


def test_without_growing_the_network_stays_as_large_as_it_was() -> None:
    assert [one["units"] for one in counts(den(tau=NEVER, splitting="never"))] == [[4, 12, 8]] * 3


def test_den_finetune_trains_all_tasks_in_the_structure_that_was_found() -> None:
    method = den(tau=0.0, tune_after=3)
    plan, state = started(method, (2, TUNE, 0))
    network = network_of(state)
    assert network.open_task is None
    sizes = network.sizes()
    moves = method.objective(network, state.memory, 2, TUNE, "mean").moves
    assert {name.split(".")[1] for name in moves if name.startswith("tasks.")} == {"0", "1", "2"}
    assert method.sources(2, TUNE) == (0, 1, 2)
    before = [answers(plan, state, task) for task in range(3)]
    learned(plan, state)
    assert network.sizes() == sizes
    assert all(not torch.allclose(answers(plan, state, task), before[task]) for task in range(3))


def test_it_learns_and_hardly_forgets() -> None:
    training = replace(ADAM, epochs=60, evaluate_every=60, evaluate_others_every=60)
    plan, state = begun(Den(mu=0.02), made_stream(), small(dropout=0.0), training)
    last = {(m.task, m.split): m.accuracy for m in learned(plan, state)}
    assert min(last[task, "test"] for task in range(3)) >= 0.9


def test_tasks_of_several_labels() -> None:
    plan, state = begun(den(), multi_label_stream(), small(dropout=0.0), ADAM)
    measured = learned(plan, state)
    assert all(math.isfinite(m.loss) for m in measured)
    assert network_of(state).classes == [2, 3, 2]


@pytest.mark.parametrize("backbone", ["den-mnist", "cifar"])
def test_it_takes_networks_with_and_without_convolutions(backbone: str) -> None:
    shape = (1, 8, 8)
    from everlearn.networks.papers import make_backbone

    network = Den().network(make_backbone(backbone, shape), 2, 0)
    assert isinstance(network, GrowingNetwork)
    assert network.blocks == (2 if backbone == "den-mnist" else 5)


@pytest.mark.parametrize("name", ["den-authors", "den-no-stamp"])
def test_its_relatives_keep_what_everlearn_promises(name: str) -> None:
    check_method(make_method(name, "digits", 3, {"k": 2, "tau": 0.0, "sigma": 0.0}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mu": -1.0}, "mu needs a number of at least 0, but came as -1.0"),
        ({"selecting": "some"}, "selecting is converged or all, but came as 'some'"),
        ({"k": 0}, "k needs a whole number of at least 1"),
        ({"tau": -0.1}, "tau and sigma numbers of at least 0"),
        ({"retrain": float("nan")}, "retrain needs a number of at least 0"),
        ({"edges": "none"}, "edges is handed or copied"),
    ],
)
def test_bad_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        den(**options)


def test_without_a_stamp_an_old_task_changes_when_units_are_added() -> None:
    def moved(stamped: bool) -> Tensor:
        plan, state = started(den(tau=0.0, gamma=0.0, lambda_drift=1e4, splitting="never", stamped=stamped))
        return answers(plan, state, 0)

    assert not torch.allclose(moved(True), moved(False))
