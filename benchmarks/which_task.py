"""How often a learner that is asked without a task answers with the right one, by several rules (docs/storage.md).

A learner is taught a stream's tasks one after the other, then every test image is put to all tasks. Besides the rule of
`predict`, certainty, two others: the task with the largest probability, and with the largest logit.

    python benchmarks/which_task.py [--stream digits] [--data DIR] [--methods stl,hps,lwf] [--epochs 60] [--rate 0.001]
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import everlearn
from everlearn.storing.answering import certainty
from everlearn.storing.pictures import statistics_of
from everlearn.storing.teaching import taken
from everlearn.tasks.standardising import standardise_images
from everlearn.tasks.task import TaskStream


def taught(stream: TaskStream, method: str, backbone: str, training: dict[str, float | int], folder: Path) -> list[str]:
    """Teach all tasks; a line of the table."""
    learner = everlearn.Learner.create(folder, method=method, backbone=backbone, training=training)
    for task in stream.tasks:
        learner.learn(task.name, task)
    records = [learner.tasks[task.name] for task in stream.tasks]
    logits: list[list[Tensor]] = [[] for _ in records]
    of: list[int] = []
    truth: list[Tensor] = []
    for place, task in enumerate(stream.tasks):
        split = task.test
        assert split is not None
        images = taken(split, torch.arange(len(split))).images
        of += [place] * len(split)
        truth.append(split.labels)
        for asked, record in zip(logits, records, strict=True):
            network = learner.network(record.name)
            shown = standardise_images(images, statistics_of(record.preprocessing))
            with torch.no_grad():
                asked.append(torch.cat([network(part) for part in shown.split(250)]))
    return summary([torch.cat(parts) for parts in logits], torch.tensor(of), torch.cat(truth))


def summary(logits: list[Tensor], of: Tensor, truth: Tensor) -> list[str]:
    """How often each rule is right, and the label with the task named and not."""
    every = [one.softmax(1) for one in logits]
    certain = torch.stack([certainty(one, False) for one in every], 1)
    chosen, images = certain.argmax(1), torch.arange(len(of))
    labels = torch.stack([one.argmax(1) for one in every], 1)
    rules = (
        chosen == of,
        torch.stack([one.amax(1) for one in every], 1).argmax(1) == of,
        torch.stack([one.amax(1) for one in logits], 1).argmax(1) == of,
        labels[images, of] == truth,
        (chosen == of) & (labels[images, chosen] == truth),
    )
    two = certain.topk(2, 1).values
    lead = two[:, 0] - two[:, 1]
    surer = (chosen == of)[lead >= lead.median()]
    return [str(len(of)), *(f"{100 * rule.float().mean():.1f}%" for rule in (*rules, surer))]


def main() -> None:
    """Read the flags, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", default="digits")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--methods", default="stl,hps,lwf")
    parser.add_argument("--backbone", default="digits")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rate", type=float, default=1e-3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    try:
        stream = everlearn.make_stream(asked.stream, 0, asked.data, {})
    except everlearn.EverlearnError as error:
        parser.error(str(error))
    heads = ("method", "images", "task right", "by probability", "by logit", "label, task named", "label, not named",
             "task right, surer half")  # fmt: skip
    print("| " + " | ".join(heads) + " |\n" + "| --- " * len(heads) + "|")
    training = {"epochs": asked.epochs, "rate": asked.rate}
    with tempfile.TemporaryDirectory() as folder:
        for method in asked.methods.split(","):
            cells = taught(stream, method, asked.backbone, training, Path(folder) / method)
            print("| " + " | ".join([f"`{method}`", *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
