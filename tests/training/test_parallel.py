"""Several processes that train one learner together end where one process ends that has the whole batch."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor
from safetensors.torch import load_file
from torch import nn

import everlearn
from everlearn.errors import ConfigurationError
from everlearn.experiments.execute import Place, execute
from everlearn.experiments.store import ACCURACY, CHECKPOINT, run_folder
from everlearn.methods.catalogue import make_method
from everlearn.networks.backbone import Backbone
from everlearn.networks.papers import make_backbone
from everlearn.storing.checking import check
from everlearn.tasks import make_stream
from everlearn.training.parallel import _Hooks, check_network, spread, world
from tests.experiments.test_resume import QUICK, config_of
from tests.training.torchrun_worker import METHODS, trained

pytestmark = pytest.mark.xdist_group("torchrun")  # what the two processes did is made once

WORKER = Path(__file__).with_name("torchrun_worker.py")
ROOT = Path(__file__).parents[2]


def torchrun(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Two processes of one thread."""
    # Should a process be aborted, its traceback is among what is shown.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    return subprocess.run(command, env=env, cwd=cwd, text=True, capture_output=True, timeout=240)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    done = torchrun(str(WORKER), str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("batch", "reduction"), [(5, "mean"), (4, "sum")])
def test_two_processes_equal_one(together: Path, name: str, batch: int, reduction: str) -> None:
    first, second = (load_file(together / f"{name}.{reduction}.{rank}.safetensors") for rank in (0, 1))
    state, numbers = trained(name, batch, reduction)
    alone = state.network.state_dict() | {"numbers": torch.tensor(numbers)}
    assert first.keys() == second.keys() == alone.keys()
    # DEN starts its heads from a sparse linear model, whose solver stops at a tolerance that is larger than rounding.
    close = 1e-3 if name == "den" else 1e-6
    for key, tensor in alone.items():
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0, msg=key)
        torch.testing.assert_close(first[key], tensor, rtol=close, atol=close, msg=f"{name} {key}")


def test_one_process_is_left_alone() -> None:
    network = make_method("hps", "digits", 1, {}).network(make_backbone("digits", (1, 8, 8)), 1, 0)
    network.add_task(2, (True,) * len(network.templates))
    assert world() == 1
    with spread(network):
        assert not network._forward_hooks
        assert not network._forward_pre_hooks


def test_dropout_is_drawn_apart_and_all_go_on_from_the_same_draws() -> None:
    network = make_method("hps", "digits", 1, {}).network(make_backbone("digits", (1, 8, 8)), 1, 0).train()
    inside, after = [], []
    for rank in (0, 1):
        torch.manual_seed(3)
        hooks = _Hooks(2, rank)
        (part, task) = hooks.before(network, (torch.arange(5.0), 0)) or ()
        assert (part.tolist(), task) == (([0.0, 1.0, 2.0], [3.0, 4.0])[rank], 0)
        inside.append(float(torch.rand(())))
        hooks._restore(torch.device("cpu"))
        after.append(float(torch.rand(())))
    assert inside[0] != inside[1]
    assert after[0] == after[1]
    assert hooks.before(network, (torch.ones(1, 1), 0)) is None, "one image is not divided"


def test_rows_of_the_images_are_cut_and_nothing_else() -> None:
    network = make_method("hps", "digits", 1, {}).network(make_backbone("digits", (1, 8, 8)), 1, 0).eval()
    rows, gates = torch.arange(10.0).view(5, 2), torch.ones(4)
    for several in ((rows, gates), [rows, gates]):
        given = _Hooks(2, 1).before(network, (torch.arange(5.0), 0, several, gates, torch.tensor(7.0)))
        assert given is not None
        images, task, (cut, whole), *others = given
        assert (images.tolist(), task, cut.tolist()) == ([3.0, 4.0], 0, [[6.0, 7.0], [8.0, 9.0]])
        assert [one.tolist() for one in (whole, *others)] == [[1.0] * 4, [1.0] * 4, 7.0]


def test_batches_whose_statistics_would_differ_are_refused() -> None:
    trunk = (nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()),)
    backbone = Backbone("mine", trunk, lambda classes: nn.Linear(4, classes), start="module")
    network = make_method("hps", "digits", 1, {}).network(backbone, 1, 0)
    with pytest.raises(ConfigurationError, match=r"has batch normalisation \(BatchNorm2d\(4, .*\), whose statistics"):
        check_network(network)
    check_network(make_method("hps", "digits", 1, {}).network(make_backbone("digits", (1, 8, 8)), 1, 0))


def test_the_command_line_goes_on_from_a_checkpoint_and_writes_once(tmp_path: Path) -> None:
    config = config_of("hps")
    run = execute(config, make_stream("digits", 0), Place(tmp_path / "runs", checkpoint_seconds=1e9))
    next(progress for progress in run if progress.epochs >= 8)  # in the middle of the second task
    run.close()
    folder = run_folder(tmp_path / "runs", config)
    before = (folder / ACCURACY).read_bytes()
    assert (folder / CHECKPOINT).exists()

    words = ["-m", "everlearn.cli", "run", "digits", "--methods", "hps", "--trials", "1"]
    words += [word for name, value in QUICK.items() for word in ("--set", f"{name}={value}")]
    done = torchrun(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The report is") == done.stdout.count("28,090") == 1
    # It went on with what was there; each line is written by one process.
    lines = (folder / ACCURACY).read_bytes()
    assert lines.startswith(before)
    assert len(lines.splitlines()) == len(set(lines.splitlines())) > len(before.splitlines())
    assert sorted(file.name for file in (tmp_path / "runs").iterdir() if file.is_dir()) == [folder.name]
    assert not (folder / CHECKPOINT).exists()

    assert torchrun(*words, cwd=tmp_path).returncode == 0
    assert (folder / ACCURACY).read_bytes() == lines, "nothing was left to do"
    refused = torchrun(*words, "--workers", "2", "--runs", "other", cwd=tmp_path)
    assert "torchrun starts the processes here, but 2 workers were asked for as well" in refused.stderr
    assert not (tmp_path / "other").exists()


def test_a_learner_on_disk_is_taught_by_two_processes(tmp_path: Path) -> None:
    for task, colours in (("warm", ("red", "orange")), ("cold", ("blue", "green"))):
        for colour in colours:
            (tmp_path / task / colour).mkdir(parents=True)
            for number in range(12):
                noise = np.random.default_rng([number, len(colour)]).integers(0, 40, (16, 16, 3), dtype=np.uint8)
                plain = np.array(ImageColor.getrgb(colour), dtype=np.uint8) // 2
                Image.fromarray(plain + noise).save(tmp_path / task / colour / f"{number}.png")
    words = ["-m", "everlearn.cli", "learn", "store", "--set", "batch=6", "--epochs", "2"]
    first = [*words, "--method", "lwf", "--backbone", "cifar", "--size", "16x16"]
    for known, (task, start) in enumerate((("warm", first), ("cold", words))):
        done = torchrun(*start, "--task", task, "--images", task, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(f"learned {task}") == 1, "one process speaks"
        learner = everlearn.open(tmp_path / "store")
        assert (learner.generation, len(learner.record.tasks)) == (known + 2, known + 1), "the first was empty"
    assert not check(tmp_path / "store").damage
    assert "warm" in done.stdout, "what happened to the old task is told"
    assert learner.predict(tmp_path / "cold" / "blue" / "0.png", task="cold")[0].label in ("blue", "green")
    assert not list(Path(tempfile.gettempdir()).glob("everlearn-*/store")), "the others' copies are gone"
