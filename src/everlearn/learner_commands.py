"""The commands of a learner on disk: flags. What they do is in `learner_work.py`, loaded when one of them is used."""

from pathlib import Path
from typing import Annotated

import typer

from everlearn import flags

Store = Annotated[Path, typer.Argument(help="The learner's folder.")]
TaskName = Annotated[str, typer.Option("--task", help="Name of the task.")]
MaybeTask = Annotated[
    str | None, typer.Option("--task", help="The task that answers. [the most plausible]", show_default=False)
]
Own = Annotated[str | None, typer.Option(help="`file.py:Name`, if the learner comes from a file of your own.")]
Size = Annotated[str | None, typer.Option(help="Height x width of all images, such as 64x64. [they agree]")]
Device = Annotated[str, typer.Option(help="`cpu`, `cuda`, `cuda:1`.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (learn, predict, evaluate, show, forget, rollback, export, check):
        app.command()(command)


def learn(
    store: Store,
    task: TaskName,
    images: Annotated[Path, typer.Option(help="Folder of class folders.")],
    test: Annotated[Path | None, typer.Option(help="Folder of test images. [a fifth is set aside]")] = None,
    validate: Annotated[
        list[str] | None,
        typer.Option("--validate", metavar="TASK=FOLDER", help="Images of an old task, to see what happens to it."),
    ] = None,
    accept_drop: Annotated[
        float | None, typer.Option(help="Keep the old generation if an old task's accuracy falls by more.")
    ] = None,
    keep_validation: Annotated[
        int, typer.Option(help="Keep so many of the task's validation images in the store, to watch it later.")
    ] = 0,
    method: Annotated[
        str | None, typer.Option(help="Of a new learner: a name of `everlearn methods`, or `file.py:Name`. [lwf]")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Of a new learner: a name, or `file.py:Name`. [cifar]")] = None,
    size: Size = None,
    grey: Annotated[bool, typer.Option("--grey", help="Of a new learner: one channel instead of three.")] = False,
    standardise: Annotated[
        str | None, typer.Option(help="`train`: by the task's own training images; `imagenet`; `none`. [train]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of this lesson.")] = None,
    batch: flags.Batch = None,
    rate: flags.Rate = None,
    settings: flags.Settings = None,
    options: flags.Options = None,
    keep: Annotated[int | None, typer.Option(help="Of a new learner: generations that are kept. [5]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of a new learner. [0]")] = None,
    device: Device = "cpu",
) -> None:
    """Teach a learner a task, beside those that it knows; a new learner is made where there is none.

    Settings and options hold for this lesson; those that a new learner is made with hold for later ones too.

    Examples:

        everlearn learn vision --task birds --images ./birds --method lwf --backbone cifar --size 32x32

        everlearn learn vision --task fish --images ./fish --validate birds=./more-birds --accept-drop 0.02
    """
    from everlearn import learner_work

    training = {"epochs": epochs, "batch": batch, "rate": rate}
    asked = learner_work.Lesson(
        task, images, test, validate or [], accept_drop, keep_validation, training, settings or [], options or [], size,
        standardise,
    )  # fmt: skip
    learner_work.learn(store, asked, learner_work.New(method, backbone, grey, keep, seed), device)


def predict(
    store: Store,
    images: Annotated[list[str], typer.Argument(help="Files, folders, patterns such as 'photos/*.jpg'.")],
    task: MaybeTask = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with every class's probability.")
    ] = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV.")] = False,
    method: Own = None,
    backbone: Own = None,
    device: Device = "cpu",
) -> None:
    """Say what images show, with probabilities; without --task, also which task they are most plausibly of."""
    from everlearn import learner_work

    learner_work.predict(learner_work.opened(store, method, backbone, device), images, task, json, csv)


def evaluate(
    store: Store,
    task: TaskName,
    images: Annotated[Path, typer.Option(help="Folder of class folders.")],
    method: Own = None,
    backbone: Own = None,
    device: Device = "cpu",
) -> None:
    """Measure how well a task is known, on images whose classes are known."""
    from everlearn import learner_work

    learner_work.evaluate(learner_work.opened(store, method, backbone, device), task, images)


def show(store: Store, method: Own = None, backbone: Own = None) -> None:
    """Show what a learner knows: tasks, classes, sizes, accuracy when learned and since, history."""
    from everlearn import learner_work

    learner_work.show(learner_work.opened(store, method, backbone))


def forget(store: Store, task: TaskName, method: Own = None, backbone: Own = None) -> None:
    """Forget a task; all others answer as before. Older generations know it until they are pruned."""
    from everlearn import learner_work

    learner_work.forget(learner_work.opened(store, method, backbone), task)


def rollback(
    store: Store,
    to: Annotated[int, typer.Option(help="A generation of `everlearn show`.")],
    method: Own = None,
    backbone: Own = None,
) -> None:
    """Go back to an older generation, by a new one that equals it."""
    from everlearn import learner_work

    learner_work.rollback(store, to, method, backbone)


def export(
    store: Store,
    task: TaskName,
    to: Annotated[str, typer.Option(help="`onnx`, `torch` (torch.export) or `safetensors`.")],
    out: Annotated[Path | None, typer.Option(help="The file. [TASK.onnx, TASK.pt2, TASK.safetensors]")] = None,
    method: Own = None,
    backbone: Own = None,
) -> None:
    """Write a task's network as a plain one, which loads without everlearn."""
    from everlearn import learner_work

    learner_work.export(learner_work.opened(store, method, backbone), task, to, out)


def check(store: Store, method: Own = None, backbone: Own = None) -> None:
    """Find and name everything that is damaged in a learner's folder."""
    from everlearn import learner_work

    learner_work.check(store, method, backbone)
