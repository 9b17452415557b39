"""bfloat16: of the layers in training steps, and of nothing else."""

from pathlib import Path

import pytest
import torch

import everlearn
from everlearn.errors import EverlearnWarning
from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.testing.methods import made_stream
from everlearn.training.data import StreamData
from everlearn.training.events import Measured
from everlearn.training.fit import Plan, State, learn
from everlearn.training.settings import Training


def trained(method: str, precision: str) -> tuple[State, list[Measured]]:
    training = Training(epochs=3, batch=5, rate=1e-3, evaluate_every=3, precision=precision)  # type: ignore[arg-type]
    built = make_method(method, "digits", 2, {})
    state = State(built.network(make_backbone("digits", (1, 8, 8)), 2, 7))
    data = StreamData(made_stream(tasks=2), torch.device("cpu"), last=True)
    events = list(learn(Plan(built, data, [2, 2], training, 7), state))
    return state, [event for event in events if isinstance(event, Measured)]


@pytest.mark.parametrize("method", ["hps", "df-cnn", "lasem-hps", "ewc", "lwf"])
def test_the_numbers_are_nearly_those_of_float32(method: str) -> None:
    (exact, measured), (coarse, other) = trained(method, "float32"), trained(method, "bfloat16")
    apart = 0.0
    for name, tensor in exact.network.state_dict().items():
        found = coarse.network.state_dict()[name]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, tensor, rtol=0.05, atol=0.02, msg=name)
        apart = max(apart, float((found - tensor).abs().max()))
    assert apart > 1e-6, "the layers were computed in float32"
    assert coarse.steps == exact.steps
    # Before the first step the networks are the same, and evaluations are in float32.
    assert [event.loss for event in measured[:3]] == [event.loss for event in other[:3]]


def test_where_it_is_imitated_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"cpu does not compute with bfloat16 here: PyTorch imitates it"
    quick = {"epochs": 1, "precision": "bfloat16"}
    monkeypatch.setattr("everlearn.experiments.asking.has_bfloat16", lambda _: False)
    with pytest.warns(EverlearnWarning, match=said):
        everlearn.run("digits", ["stl"], trials=1, training=quick, runs=tmp_path / "a", workers=0)
    monkeypatch.setattr("everlearn.experiments.asking.has_bfloat16", lambda _: True)
    everlearn.run("digits", ["stl"], trials=1, training=quick, runs=tmp_path / "b", workers=0)
    everlearn.run("digits", ["stl"], trials=1, training={"epochs": 1}, runs=tmp_path / "c", workers=0)
