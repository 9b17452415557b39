import errno
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from everlearn.errors import StoreError
from everlearn.experiments import files, store
from everlearn.experiments.checkpoint import load_state, save_state
from everlearn.experiments.execute import Place, execute
from everlearn.experiments.records import FindingRecord, RunConfig
from everlearn.methods.base import Batch, Data, Memory, Method, Objective, Reduction
from everlearn.networks.backbone import Backbone
from everlearn.networks.lifelong import LifelongNetwork
from everlearn.networks.parts import TaskStructure
from everlearn.sharing.factors import Factors
from everlearn.tasks import make_stream
from everlearn.testing.methods import CHECKS, TRAINING, begun
from everlearn.training.fit import State, Tick, learn
from everlearn.training.settings import Training
from tests.experiments.test_resume import config_of, run_through


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return run_through(config_of("stl"), tmp_path)


def test_pandas_reads_the_records_in_one_line(finished: Path) -> None:
    table = pd.read_json(finished / "accuracy.jsonl", lines=True)
    assert list(table.columns) == ["epoch", "training", "task", "split", "accuracy", "loss"]
    assert set(table.task) == {"0-vs-1", "2-vs-3", "4-vs-5", "6-vs-7", "8-vs-9"}
    assert table.accuracy.between(0, 1).all()


def test_the_result_counts_what_was_done(finished: Path) -> None:
    result = store.read_run(finished).result
    assert result is not None
    assert (result.epochs, result.steps) == (30, 120)  # 5 tasks x 6 epochs; 40 images in batches of 10
    assert result.parameters["total"] == result.parameters["own"] + result.parameters["head"]
    assert result.training_seconds > 0


@pytest.mark.parametrize("name", ["accuracy.jsonl", "findings.jsonl"])
@pytest.mark.parametrize("cut", [1, 40])
def test_a_journal_that_was_cut_off_after_the_end_is_refused(tmp_path: Path, name: str, cut: int) -> None:
    folder = run_through(config_of("lasem-hps"), tmp_path)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-cut])
    count = len(whole.splitlines())
    with pytest.raises(StoreError, match=rf"{name} is damaged: it has {count - 1} whole lines of {count}; remove"):
        store.read_run(folder)
    (folder / name).write_bytes(whole)
    assert store.read_run(folder).result is not None


def test_a_run_from_before_lines_were_counted_is_read(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert result.pop("lines") == {"accuracy.jsonl": len((finished / "accuracy.jsonl").read_bytes().splitlines())}
    (finished / "result.json").write_text(json.dumps(result))
    assert store.read_run(finished).result is not None


def test_a_runs_name_depends_on_everything_that_changes_its_numbers() -> None:
    base = config_of("stl")
    changed = [
        config_of("hps"),
        config_of("stl", rate=0.5),
        base.model_copy(update={"trial": 1}),
        base.model_copy(update={"options": {"orthogonality": 0.5}}),
        base.model_copy(update={"backbone": "cifar"}),
        base.model_copy(update={"stream": base.stream.model_copy(update={"seed": 1})}),
        base.model_copy(update={"code": {"mine.py:Mine": "abc"}}),
    ]
    assert len({store.run_id(config) for config in [base, *changed]}) == 8
    assert store.run_id(RunConfig.model_validate_json(base.model_dump_json())) == store.run_id(base)


def test_a_runs_name_never_changes() -> None:
    """Stored runs are found by their name: if this fails, every run on every disk would be done again."""
    config = RunConfig.model_validate(
        {"stream": {"name": "digits", "seed": 0}, "method": "stl", "backbone": "digits",
         "training": Training(epochs=3), "trial": 0}
    )  # fmt: skip
    assert store.run_id(config) == "257e78141a8d7db5"
    one_by_one = config.model_copy(update={"training": Training(epochs=3, graphs=False)})
    assert store.run_id(one_by_one) == store.run_id(config), "how a GPU takes its steps is no part of what a run is"


def test_a_newer_schema_is_refused(finished: Path) -> None:
    for name in (store.RUN, store.RESULT):
        content = json.loads((finished / name).read_text())
        (finished / name).write_text(json.dumps(content | {"schema_version": 99}))
        with pytest.raises(StoreError, match=r"newer everlearn \(its schema is 99; this one reads up to 1\)"):
            store.read_run(finished)
        (finished / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (store.RUN, b"{", "cannot be read"),
        (store.RUN, b"[]", "is damaged"),
        (store.RUN, b'{"schema_version": 1}', "is damaged: id: field required"),
        (store.RESULT, b"\xff\xfe", "cannot be read"),
        (store.ACCURACY, b'{"epoch": -}\n', "is damaged"),
        (store.FINDINGS, b'{"epoch": 1, "task": "0-vs-1"}\n', "is damaged"),
    ],
)
def test_damage_is_named(finished: Path, name: str, content: bytes, why: str) -> None:
    (finished / name).write_bytes(content)
    with pytest.raises(StoreError, match=why) as caught:
        store.read_run(finished)
    assert str(finished) in str(caught.value)


def test_no_folder_and_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no folder"):
        store.find_runs(tmp_path / "none")
    with pytest.raises(StoreError, match=r"there is no run\.json"):
        store.read_run(tmp_path)
    assert store.find_runs(tmp_path) == []


def _half(config: RunConfig, root: Path) -> Path:
    run = execute(config, make_stream("digits", 0), Place(root))
    for _ in range(8):
        next(run)
    run.close()
    return store.run_folder(root, config)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    config = config_of("stl")
    checkpoint = _half(config, tmp_path) / store.CHECKPOINT
    whole = checkpoint.read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2], b"\xff" * 50):
        checkpoint.write_bytes(content)
        with pytest.raises(StoreError, match="is damaged"):
            next(execute(config, make_stream("digits", 0), Place(tmp_path)))


def test_another_stream_is_not_mixed_in(tmp_path: Path) -> None:
    config = config_of("stl")
    _half(config, tmp_path)
    with pytest.raises(StoreError, match="are not those that"):
        next(execute(config, make_stream("digits", 1), Place(tmp_path)))


def test_a_method_s_file_that_was_changed_after_the_run_was_planned_is_refused(tmp_path: Path) -> None:
    """What is recorded as one file's run must not be another's."""
    file = tmp_path / "own.py"
    text = "from everlearn.methods.catalogue import make_method\n\n\ndef own(setting):\n"
    file.write_text(f"{text}    return make_method('stl', 'digits', 5, {{}})\n")
    config = config_of(f"{file}:own")
    _half(config, tmp_path / "runs")
    file.write_text(f"{text}    return make_method('hps', 'digits', 5, {{}})\n")
    with pytest.raises(StoreError, match=r"own\.py was changed after the runs were planned, .* give the command again"):
        next(execute(config, make_stream("digits", 0), Place(tmp_path / "runs")))


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    config = config_of("stl")
    run = execute(config, make_stream("digits", 0), Place(tmp_path))
    next(run)
    with pytest.raises(StoreError, match="another process is working"):
        next(execute(config, make_stream("digits", 0), Place(tmp_path)))
    run.close()


def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    files.write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StoreError, match=r"the disk that holds .* is full"):
        files.write_whole(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert path.read_bytes() == b"old"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="could not be written"), files.locked(tmp_path / "file" / "run"):
        pass


# ---------------------------------------------------------------- what a search for a task's blocks leaves


def test_a_finding_is_read_as_it_was_written(finished: Path) -> None:
    whole = FindingRecord(
        epoch=6, task="0-vs-1", configuration="101", weights={"111": 0.25, "101": 0.75}, blocks=[1, 0.25, 1],
        attempt=1, settled=True,
    )  # fmt: skip
    plain = FindingRecord(epoch=2, task="0-vs-1", configuration="111")
    journal = store.Journal(finished / store.FINDINGS, 0)
    for record in (plain, whole):
        journal.append(record)
    journal.close()
    assert store.read_run(finished).findings == (plain, whole)
    first = (finished / store.FINDINGS).read_text().splitlines()[0]
    assert json.loads(first) == {"epoch": 2, "task": "0-vs-1", "configuration": "111"}


@dataclass(frozen=True)
class Searching(Method):
    """Open tasks, a parameter of the method's own with an optimiser of its own, and two steps a batch."""

    def network(self, backbone: Backbone, tasks: int, seed: int) -> LifelongNetwork:
        return LifelongNetwork(backbone, Factors(), seed)

    def begin(self, network: LifelongNetwork, memory: Memory, classes: int) -> int:
        memory["batches"] = torch.tensor(0)
        structure = TaskStructure(classes, (True, False, True), open=True, extra={"alpha": (network.blocks,)})
        return network.rebuild(structure)

    def objective(
        self, network: LifelongNetwork, memory: Memory, task: int, stage: int, reduction: Reduction
    ) -> Objective:
        alpha = network.part(task).extra["alpha"]

        def loss(batch: Batch) -> Tensor:
            x = batch.images
            for block, share in enumerate(alpha.sigmoid()):
                ways = [network.run_block(block, network.weights(block, task, way), x) for way in (False, True)]
                x = (1 - share) * ways[0] + share * ways[1]
            return torch.nn.functional.cross_entropy(network.head(task)(x), batch.labels, reduction=reduction)

        def steps(batch: Batch) -> Iterator[Tensor]:
            yield loss(batch)
            yield (alpha - 1).square().sum()
            memory["batches"] = memory["batches"] + 1

        apart = {f"tasks.{task}.extra.alpha": Training(optimiser="adam", rate=0.1, schedule="constant")}
        return Objective(network.used(task), loss, steps, apart)

    def leave(self, network: LifelongNetwork, memory: Memory, tasks: Sequence[int], data: Data) -> set[str]:
        network.settle(tasks[0], tuple(bool(a > 0) for a in network.part(tasks[0]).extra["alpha"]))
        return set(network.used(tasks[0]))


def numbers(state: State) -> dict[str, Tensor]:
    """Every tensor of a state, by a name that says where it is."""
    found = {f"network {name}": tensor for name, tensor in state.network.state_dict().items()}
    found |= {f"memory {name}": tensor for name, tensor in state.memory.items()}
    for task, optimisers in state.optimisers.items():
        for place, optimiser in enumerate(optimisers):
            for i, remembered in optimiser.state_dict()["state"].items():
                found |= {f"optimiser {task} {place} {i} {n}": torch.as_tensor(v) for n, v in remembered.items()}
    return {name: tensor.clone() for name, tensor in found.items()}


def test_a_checkpoint_holds_an_open_task_and_every_optimiser(tmp_path: Path) -> None:
    plan, state = begun(Searching(), TRAINING)
    for event in learn(plan, state):
        if isinstance(event, Tick) and (state.phase, state.epoch) == (1, 1):
            break
    path = tmp_path / "state.safetensors"
    save_state(path, state, {"accuracy.jsonl": 12, "findings.jsonl": 34})
    plan, other = begun(Searching(), TRAINING)
    assert load_state(path, plan, other) == {"accuracy.jsonl": 12, "findings.jsonl": 34}
    assert other.network.structures == state.network.structures
    settled, searched = other.network.structures
    assert (settled.open, dict(settled.extra)) == (False, {})
    assert (searched.open, searched.configuration) == (True, (True, False, True))
    assert dict(searched.extra) == {"alpha": (3,)}
    expected, found = numbers(state), numbers(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    # 4 batches of one epoch, a step of each loss; the first optimiser remembers squares, the second two means.
    assert int(found["memory batches"]) == 4
    assert found["optimiser 1 1 0 step"] == 8
    assert found["optimiser 1 1 0 exp_avg"].shape == (3,)
    assert sum(name.startswith("optimiser 1 0 ") for name in found) == len(other.network.used(1)) - 1
    first, second = other.optimisers[1]
    assert (type(first).__name__, type(second).__name__) == ("TF1RMSProp", "Adam")
    assert second.param_groups[0]["params"] == [other.network.part(1).extra["alpha"]]


def test_open_tasks_and_several_optimisers_resume_bit_for_bit() -> None:
    CHECKS["resumes"](Searching(), TRAINING)
