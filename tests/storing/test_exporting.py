"""What is exported answers as the learner does, without everlearn."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import everlearn
from everlearn.errors import ConfigurationError, StoreError
from everlearn.learner import Learner
from tests.storing.conftest import QUICK, STREAM

PIXELS = STREAM.tasks[2].test.images  # type: ignore[union-attr]


def wanted(learner: Learner) -> np.ndarray:
    return np.array([list(answer.probabilities.values()) for answer in learner.predict(PIXELS, "birds")])


LOAD = """
import json, sys
import numpy as np
import torch
more = {"everlearn.json": ""}
network = torch.export.load(sys.argv[1], extra_files=more).module()
logits = network(torch.from_numpy(np.load(sys.argv[2])))
np.save(sys.argv[3], logits.softmax(1).detach().numpy())
assert "everlearn" not in sys.modules
print(json.loads(more["everlearn.json"])["classes"])
"""


def test_torch_without_everlearn(original: Path, tmp_path: Path) -> None:
    learner = everlearn.open(original)
    files = learner.export("birds", "torch", tmp_path / "birds.pt2")
    np.save(tmp_path / "in.npy", PIXELS.numpy())
    command = [sys.executable, "-c", LOAD, str(files[0]), str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['class 0', 'class 1']"
    assert np.load(tmp_path / "out.npy") == pytest.approx(wanted(learner), abs=1e-6)


def test_onnx_through_its_own_runtime(original: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    learner = everlearn.open(original)
    (file,) = learner.export("birds", "onnx", tmp_path / "birds.onnx")
    session = runtime.InferenceSession(str(file))
    for count in (1, len(PIXELS)):
        logits = session.run(None, {"pixels": PIXELS[:count].numpy()})[0]
        assert torch.tensor(logits).softmax(1).numpy() == pytest.approx(wanted(learner)[:count], abs=1e-6)
    about = json.loads(session.get_modelmeta().custom_metadata_map["everlearn"])
    assert about["classes"] == ["class 0", "class 1"]


def test_safetensors_and_their_description(original: Path, tmp_path: Path) -> None:
    learner = everlearn.open(original)
    numbers, about = learner.export("birds", "safetensors", tmp_path / "birds.safetensors")
    told = json.loads(about.read_text())
    assert told["standardise"]["mean"] == learner.tasks["birds"].preprocessing.mean
    with safe_open(numbers, framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    plain = learner.network("birds")
    assert all(torch.equal(found[name], tensor) for name, tensor in plain.state_dict().items())


def test_no_file_takes_the_place_of_another(original: Path, tmp_path: Path) -> None:
    learner = everlearn.open(original)
    files = [learner.export("birds", "safetensors", tmp_path / name) for name in ("birds", "fish.v1", "fish.v2")]
    assert [[file.name for file in two] for two in files] == [
        ["birds", "birds.json"], ["fish.v1", "fish.v1.json"], ["fish.v2", "fish.v2.json"]
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"cat.json is no name for it; take .*cat.safetensors\.$"):
        learner.export("birds", "safetensors", tmp_path / "cat.json")
    assert not (tmp_path / "cat.json").exists()
    with pytest.raises(StoreError, match=r"birds could not be made: .* exists; name a file elsewhere"):
        learner.export("birds", "safetensors", tmp_path / "birds" / "x")
    with pytest.raises(StoreError, match="is a folder; name the file to write"):
        learner.export("birds", "safetensors", tmp_path)


def test_what_cannot_be_exported(original: Path, tmp_path: Path) -> None:
    learner = everlearn.open(original)
    with pytest.raises(ConfigurationError, match="no format to export to named 'tflite'"):
        learner.export("birds", "tflite", tmp_path / "birds")
    with pytest.raises(ConfigurationError, match="there are birds, fish"):
        learner.export("dogs", "onnx", tmp_path / "dogs")


def test_a_network_of_columns_too(tmp_path: Path) -> None:
    learner = Learner.create(tmp_path / "vision", method="prognn", backbone="digits", training=QUICK)
    learner.learn("fish", STREAM.tasks[0])
    learner.learn("birds", STREAM.tasks[1])
    for to in ("torch", "safetensors"):
        assert all(file.exists() for file in learner.export("birds", to, tmp_path / to))
