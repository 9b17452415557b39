"""Values that no paper printed, and runs with accuracies that are chosen, not trained."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from everlearn.experiments.records import SCHEMA, Evaluation, Phase, ResultRecord, RunConfig, RunRecord
from everlearn.experiments.store import ACCURACY, RESULT, RUN, StoredRun, run_folder, run_id, write_record
from everlearn.reproducing.planning import Cut, parts
from everlearn.reproducing.published import Item, Published, published

FILE = """
papers: {mine: 'A. Body: "A paper"'}
items:
  mine/figure-1: {title: The idea, place: Sec. 1, drawing: true}
  mine/table-1:
    title: Digits
    place: p. 3
    stream: digits
    trials: 3
    interval: standard error
    columns:
      peak: {title: Peak accuracy, measure: peak_accuracy}
      size: {title: Numbers held, measure: parameters_total, scale: 1.0e+6}
      time: {title: Time over that of STL, measure: training_seconds, beside: stl}
      far: {title: Accuracy far away, needs: a ship}
    rows:
      - {method: stl, label: STL, printed: {peak: 90.0 ± 1.0, size: '0.05', time: 5.0, far: 50.0}}
      - {method: hps, label: HPS, printed: {peak: 80.0 ± 2.0, size: '0.03', time: 10.0}}
      - {method: df-cnn, label: DF-CNN, printed: {peak: 95.0}}
    differences: [[hps, stl], [df-cnn, hps]]
  mine/table-2:
    title: Digits, taught
    place: p. 4
    stream: digits
    trials: 2
    relative: lwf
    columns:
      final: {title: Final accuracy, measure: final_accuracy}
    rows:
      - {method: lwf, label: LwF, printed: {final: 60.0}}
      - {method: fine-tuning, label: fine-tuning, printed: {final: -5.0}}
      - {method: l2, label: L2, absolute: true, printed: {final: 58.5}}
  mine/figure-2:
    title: Curves
    place: p. 5
    stream: digits
    trials: 3
    drawn: the accuracy panels of the report
    rows: [{method: stl, label: STL}]
"""

MACHINE: dict[str, str | int] = {"processor": "A Processor 7", "cores": 2, "threads": 1, "device": "cpu"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def known(file: Path) -> Published:
    return published(file)


def planned(item: Item, method: str, trial: int, cut: Cut | None = None) -> RunConfig:
    """The run of a row that the item plans."""
    configs = [config for part in parts(item, cut or Cut()) for config in part.configs]
    return next(c for c in configs if (c.method, c.trial) == (method, trial))


def stored(config: RunConfig, values: Sequence[float], *, seconds: float = 1.0, size: int = 1000) -> StoredRun:
    """A finished run of one task a value, which it has from the end of its phase on: peak and final are one."""
    epochs = config.training.epochs
    tasks = [f"task-{n}" for n in range(len(values))]
    phases = [Phase(task=task, first=n * epochs, last=(n + 1) * epochs) for n, task in enumerate(tasks)]
    lines = tuple(
        Evaluation(epoch=at.last, training=at.task, task=task, split="test", accuracy=value, loss=1.0)
        for n, at in enumerate(phases)
        for task, value in list(zip(tasks, values, strict=True))[: n + 1]
    )
    run = RunRecord(
        schema_version=SCHEMA, id=run_id(config), config=config, tasks=tasks, classes=[2] * len(tasks),
        phases=phases, fingerprint="5f3a",
    )  # fmt: skip
    result = ResultRecord(
        schema_version=SCHEMA, parameters={"total": size}, training_seconds=seconds, evaluation_seconds=0.0,
        steps=1, epochs=phases[-1].last, finished="2026-01-01T00:00:00+00:00", machine=MACHINE, versions={},
    )  # fmt: skip
    return StoredRun(run_folder(Path("runs"), config), run, result, lines)


def written(runs: Sequence[StoredRun], root: Path) -> None:
    """The runs as folders."""
    for one in runs:
        folder = root / one.folder.name
        folder.mkdir(parents=True)
        write_record(folder / RUN, one.run)
        (folder / ACCURACY).write_text("".join(line.model_dump_json() + "\n" for line in one.evaluations))
        assert one.result is not None
        write_record(folder / RESULT, one.result)
