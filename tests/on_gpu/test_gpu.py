"""What only a GPU can show: everything runs there, records what it can, and ends as it does on a CPU."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import everlearn
from everlearn.methods.base import Batch, Memory, Objective, Reduction
from everlearn.methods.catalogue import METHODS, make_method
from everlearn.methods.static import StaticTransfer
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.papers import make_backbone
from everlearn.sharing import Hard
from everlearn.testing import check_method
from everlearn.testing.methods import CHECKS, TRAINING, made_stream
from everlearn.training import replays
from everlearn.training.beside import Beside
from everlearn.training.data import StreamData, lies_last
from everlearn.training.evaluation import evaluate
from everlearn.training.events import Measured
from everlearn.training.fit import Plan, State, learn
from everlearn.training.precision import exact
from everlearn.training.settings import Training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

TOGETHER = {"dmtrl", "dmtrl-from-stl"}
GPU = torch.device("cuda:0")
QUICK: dict[str, Any] = {"epochs": 4, "batch": 5, "rate": 1e-3, "evaluate_every": 4}
RECORDED = ("stl", "hps", "tf", "df-cnn", "df-cnn.direct", "df-cnn.tc2", "prognn", "joint", "fine-tuning")
RECORDED += ("feature-extraction", "l2", "ewc", "lwf", "den", "lasem-hps", "lasem-tf", "lasem-df-cnn")


def options(name: str) -> dict[str, str]:
    if METHODS[name].grows:
        return {"nodes": "5"}
    return {"groups": "1/2,3"} if name.startswith("brute-force") and name != "brute-force-hps" else {}


def trained(name: str, device: torch.device, **settings: Any) -> State:
    training = Training(**{**QUICK, "protocol": "multi-task" if name in TOGETHER else "lifelong", **settings})
    method = make_method(name, "digits", 3, options(name))
    state = State(method.network(make_backbone("digits", (1, 8, 8)), 3, 7).to(device))
    data = StreamData(made_stream(), device, lies_last(training, device))
    for _ in learn(Plan(method, data, [2, 2, 2], training, 7), state):
        pass
    return state


def numbers(state: State) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in state.network.state_dict().items()}


def assert_close(first: State, second: State, share: float) -> None:
    """Numbers differ by no more than a share of the largest of their tensor."""
    others = numbers(second)
    for name, tensor in numbers(first).items():
        far = (tensor - others[name]).abs().max()
        assert far <= max(1e-5, share * float(tensor.abs().max())), name


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_its_promises_there(name: str) -> None:
    method = make_method(name, "digits", 3, options(name))
    check_method(method, "multi-task" if name in TOGETHER else "lifelong", "cuda")


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_steps_are_those_that_are_taken_one_by_one(name: str) -> None:
    plain, recorded = (trained(name, GPU, graphs=on) for on in (False, True))
    assert not [said for said in recorded.warnings if "recorded" in said]
    assert plain.steps == recorded.steps
    # A head that DEN chooses units by has large weights; what is small beside them has their rounding.
    assert_close(plain, recorded, 1e-3 if name == "den" else 1e-4)


@pytest.mark.parametrize("name", ["stl", "hps", "df-cnn", "ewc", "lasem-hps", "lwf", "joint"])
def test_recorded_evaluations_find_what_others_find(name: str) -> None:
    method, settings = make_method(name, "digits", 3, options(name)), {**QUICK, "epochs": 8, "evaluate_every": 1}
    state = State(method.network(make_backbone("digits", (1, 8, 8)), 3, 7).to(GPU))
    data, count = StreamData(made_stream(), GPU, last=False), 0
    for event in learn(Plan(method, data, [2, 2, 2], Training(**settings), 7), state):
        if isinstance(event, Measured):
            score, count = evaluate(state.network, event.task, data[event.task][event.split]), count + 1
            assert (event.accuracy, event.loss) == (score.accuracy, score.loss)
    assert count >= 3 * 3 * 8
    assert not [said for said in state.warnings if "recorded" in said]


@pytest.mark.parametrize("name", ["hps", "df-cnn", "lasem-hps", "lwf"])
def test_a_recorded_run_goes_on_to_the_same_bits(name: str) -> None:
    CHECKS["resumes"](make_method(name, "digits", 3, {}), replace(TRAINING, graphs=True), "cuda")


# Factors that come from a singular value decomposition have no sign of their own.
@pytest.mark.parametrize("name", sorted(set(METHODS) - {"dmtrl-from-stl"}))
def test_it_ends_as_on_a_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A GPU draws other numbers for dropout.
    monkeypatch.setattr(F, "dropout", lambda images, *_: images)
    assert_close(trained(name, torch.device("cpu")), trained(name, GPU), 1e-2)


@pytest.mark.parametrize("name", ["hps", "df-cnn", "tf", "prognn", "lasem-hps"])
def test_two_streams_give_the_gradients_of_one(name: str) -> None:
    method = make_method(name, "cifar", 2, {})
    network, memory = method.network(make_backbone("cifar", (3, 32, 32)), 2, 0).to(GPU), dict[str, Tensor]()
    for _ in range(2):
        method.begin(network, memory, 10)
    objective = method.objective(network, memory, 1, 0, "sum")
    for parameter in objective.moves.values():
        parameter.requires_grad_(True)
    images, labels = torch.randn(10, 3, 32, 32, device=GPU), torch.arange(10, device=GPU)
    batch, found = Batch(images, labels, labels, 0, 1), list[dict[str, Tensor]]()
    for beside in (Beside(GPU), None):
        for _ in range(20):  # a race shows in one of many
            torch.manual_seed(0)
            with exact(GPU), beside or nullcontext():
                next(objective.losses(batch)).backward()
                if beside:
                    beside.meet()
            found.append({name: p.grad for name, p in objective.moves.items() if p.grad is not None})
            network.zero_grad()
    for gradients in found:
        for one, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[-1][one], rtol=1e-4, atol=1e-4, msg=one)


@dataclass(frozen=True)
class Asking(StaticTransfer):
    """A method that cannot be recorded: it asks the device for a number."""

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        whole = super().objective(network, memory, task, stage, reduction)
        return replace(whole, loss=lambda batch: whole.loss(batch) * max(1.0, float(batch.images.sum() * 0)))


def test_what_cannot_be_recorded_is_said_and_trains_all_the_same() -> None:
    methods, data = (Asking(Hard()), StaticTransfer(Hard())), StreamData(made_stream(), GPU, last=False)
    found = [State(method.network(make_backbone("digits", (1, 8, 8)), 3, 7).to(GPU)) for method in methods]
    for method, state in zip(methods, found, strict=True):
        for _ in learn(Plan(method, data, [2, 2, 2], Training(**QUICK), 7), state):
            pass
    assert len(found[0].warnings) == 3
    assert_close(*found, 1e-4)


@pytest.mark.parametrize("error", [True, False])
def test_what_is_recorded_before_something_cannot_be_is_recorded_anew(
    error: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, found = replays.sums, list[int]()

    def refuses(network: LifelongNetwork, task: int, data: Any, *others: Any) -> Any:
        if torch.cuda.is_current_stream_capturing():
            found.append(task)
            if error:
                raise RuntimeError("no memory is left")
            return whole(network, task, data, *others)[0].item()
        return whole(network, task, data, *others)

    monkeypatch.setattr(replays, "sums", refuses)
    plain, recorded = (trained("hps", GPU, graphs=on, epochs=8, evaluate_every=1) for on in (False, True))
    assert found == [0, 1, 2]
    assert len([said for said in recorded.warnings if "an evaluation could not be recorded" in said]) == 3
    assert_close(plain, recorded, 1e-4)


def test_layers_in_bfloat16_train() -> None:
    low, full = (trained("hps", GPU, precision=precision) for precision in ("bfloat16", "float32"))
    assert_close(low, full, 0.1)
    assert any(not torch.equal(a, b) for a, b in zip(numbers(low).values(), numbers(full).values(), strict=True))


def test_a_learner_there_answers_as_on_a_cpu(tmp_path: Path) -> None:
    folder = tmp_path / "learner"
    settings = {"epochs": 3, "batch": 5}
    learner = everlearn.Learner.create(folder, method="lwf", backbone="digits", training=settings, device="cuda")
    for task in made_stream().tasks:
        learner.learn(task.name, task, standardise="none")
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    there, here = (one.predict(images, "task 1") for one in (learner, everlearn.open(folder)))
    assert [one.label for one in there] == [one.label for one in here]
    assert [one.probability for one in there] == pytest.approx([one.probability for one in here], abs=1e-5)


@pytest.mark.filterwarnings("ignore:.*share the GPU by turns")
def test_runs_share_the_card(tmp_path: Path) -> None:
    training = {"epochs": 3, "graphs": True}
    found = everlearn.run(
        "digits", ["hps", "stl"], trials=2, training=training, runs=tmp_path, device="cuda", workers=4
    )
    assert len(found) == 4
    assert all(torch.cuda.get_device_name(0) == run.result.machine["device"] for run in found if run.result)
