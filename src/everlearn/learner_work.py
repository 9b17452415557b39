"""What the commands of a learner on disk do, once their flags are read."""

import csv as csv_files
import json as json_text
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from everlearn.errors import ConfigurationError, DataError, StoreError
from everlearn.experiments.together import is_first, joined_store, signals_heard
from everlearn.learner import Learned, Learner
from everlearn.learner import open as open_learner
from everlearn.stopping import followed
from everlearn.storing.answering import Prediction
from everlearn.storing.building import Code
from everlearn.storing.checking import check as check_store
from everlearn.storing.exporting import SUFFIXES
from everlearn.storing.going_back import go_back
from everlearn.storing.pictures import find_pictures
from everlearn.storing.records import Event, TaskRecord, Value, lasting
from everlearn.storing.requests import Request
from everlearn.storing.store import Store, lesson_files
from everlearn.tasks.pixels import parse_size

PART = 1000
"""Images between two outputs."""


@dataclass(frozen=True)
class Lesson:
    """The flags of `everlearn learn` that concern the lesson."""

    task: str
    images: Path
    test: Path | None
    validate: Sequence[str]
    accept_drop: float | None
    keep_validation: int
    training: Mapping[str, int | float | None]
    settings: Sequence[str]
    options: Sequence[str]
    size: str | None
    standardise: str | None


@dataclass(frozen=True)
class New:
    """Those that concern a new learner."""

    method: str | None
    backbone: str | None
    grey: bool
    keep: int | None
    seed: int | None


def opened(store: Path, method: str | None, backbone: str | None, device: str = "cpu") -> Learner:
    """The learner of a folder."""
    return open_learner(store, method, backbone, device)


def learn(store: Path, asked: Lesson, new: New, device: str) -> None:
    """`everlearn learn`; under `torchrun` all processes train together, and the first one writes and speaks."""
    with joined_store(store, device) as (mine, own_device):
        _learn(mine, asked, new, own_device)


def _learn(store: Path, asked: Lesson, new: New, device: str) -> None:
    training: dict[str, Value] = {name: value for name, value in asked.training.items() if value is not None}
    training |= _pairs("--set", asked.settings)
    options = _pairs("--option", asked.options)
    size = parse_size(asked.size or "")
    exists = Store(store).exists()
    if exists:
        learner = _known(store, new, device)
    else:
        learner = Learner.create(
            store, method=new.method or "lwf", backbone=new.backbone or "cifar", options=options, training=training,
            size=size, grey=new.grey, standardise=asked.standardise or "train", seed=new.seed or 0,
            keep=5 if new.keep is None else new.keep, device=device,
        )  # fmt: skip
        training, options = {}, {}
    request = Request(
        asked.task, asked.images, asked.test, _pairs("--validate", asked.validate), asked.keep_validation,
        asked.accept_drop, training, options, size, asked.standardise,
    )  # fmt: skip
    try:
        done = _taught(learner, request)
    except Exception as error:
        if not exists and not learner.refresh():
            Store(store).discard()
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            smaller = "a smaller batch, such as --set batch=8" if exists else "a smaller one, such as --size 64x64"
            raise DataError(f"there is not enough memory for images of this size; give {smaller}.") from error
        raise
    except KeyboardInterrupt:
        then = "goes on from here" if learner.unfinished else "begins it anew"
        said = f"stopped; generation {learner.generation} of {store} is as it was, and the same command {then}."
        print(f"everlearn: {said}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(130) from None
    if is_first():
        _tell(learner, done)


def _known(store: Path, new: New, device: str) -> Learner:
    """A learner that exists: flags that make one may only say what is so."""
    plain = [name for name, value in asdict(new).items() if value is not None and value is not False]
    own = {kind: value for kind in ("method", "backbone") if (value := getattr(new, kind)) and ".py:" in value}
    learner = opened(store, own.get("method"), own.get("backbone"), device)
    shape = learner.record.image_shape
    known = {**dict(learner.record), "grey": shape is not None and shape[0] == 1}
    wrong = [name for name in plain if name not in own and known[name] != getattr(new, name)]
    if wrong:
        flags = ", ".join(f"--{name}" for name in wrong)
        raise ConfigurationError(
            f"{store} has a learner of method {learner.record.method!r} and backbone {learner.record.backbone!r}; "
            f"leave out {flags}, or give another folder."
        )
    return learner


def _taught(learner: Learner, request: Request) -> Learned:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not (console.is_terminal and is_first())) as bars:
        bar = bars.add_task(request.name, total=None)
        return followed(
            learner.learning(request),
            lambda step: bars.update(bar, completed=step.epochs, total=step.total),
            signals_heard((signal.SIGINT, signal.SIGTERM)),
        )


def _tell(learner: Learner, done: Learned) -> None:
    out = _console()
    scores = ", ".join(f"{split} {value:.1%}" for split, value in done.accuracy.items())
    out.print(
        f"{learner.folder}, generation {done.generation}: learned {done.task}; accuracy: {scores}.", soft_wrap=True
    )
    if done.resumed:
        out.print(f"  {done.resumed} epochs were over already when it went on")
    for effect in done.others:
        answers = "answers as before" if effect.moved == 0 else f"its probabilities moved by up to {effect.moved:.3f}"
        known = ""
        if effect.before is not None and effect.after is not None:
            known = f"accuracy {effect.before:.1%} -> {effect.after:.1%} on {effect.images} images; "
        out.print(f"  {effect.task}: {known}{answers}", soft_wrap=True)
    for sentence in done.warnings:
        print(f"everlearn: warning: {sentence}", file=sys.stderr)  # noqa: T201


def predict(learner: Learner, names: Sequence[str], task: str | None, json: bool, csv: bool) -> None:
    """`everlearn predict`."""
    if json and csv:
        raise ConfigurationError("give --json or --csv, not both.")
    paths = find_pictures(names)
    writer = csv_files.writer(sys.stdout)
    for start in range(0, len(paths), PART):
        part = paths[start : start + PART]
        answers = learner.predict(part, task)
        if json:
            for path, answer in zip(part, answers, strict=True):
                sys.stdout.write(json_text.dumps({"image": str(path), **asdict(answer)}) + "\n")
        elif csv:
            if start == 0:
                writer.writerow(["image", "task", "label", "probability", "sure"])
            for path, a in zip(part, answers, strict=True):
                sure = "" if a.sure is None else f"{a.sure:.4f}"
                writer.writerow([str(path), a.task, a.label, f"{a.probability:.4f}", sure])
        else:
            _print(part, answers, task is None)


def _print(paths: Sequence[Path], answers: Sequence[Prediction], which: bool) -> None:
    """A line an image, however long its path is."""
    out = _console()
    for path, answer in zip(paths, answers, strict=True):
        others = sorted(answer.probabilities.items(), key=lambda item: -item[1])[1:3]
        rest = ", ".join(f"{label} {p:.1%}" for label, p in others)
        task = f"{answer.task}: " if which else ""
        sure = f"; task sure by {answer.sure:.2f}" if answer.sure is not None else ""
        out.print(f"{path}  {task}{answer.label} {answer.probability:.1%}  ({rest}{sure})", soft_wrap=True)


def evaluate(learner: Learner, task: str, images: Path) -> None:
    """`everlearn evaluate`."""
    score = learner.evaluate(task, images)
    what = "mAP" if learner.tasks[task].multi_label else "accuracy"
    _console().print(f"{task}: {what} {score.accuracy:.1%}, loss {score.loss:.4f}")


def show(learner: Learner) -> None:
    """`everlearn show`."""
    out, record = _console(), learner.record
    kept = ", ".join(map(str, learner.generations))
    shape = " x ".join(map(str, record.image_shape)) if record.image_shape else "as the first task's"
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in learner.counts.items())
    out.print(f"{learner.folder}: {record.method} on {record.backbone}, images {shape}", soft_wrap=True)
    out.print(f"generation {learner.generation} (kept: {kept}); {record.epochs} epochs")
    out.print(f"numbers: {kinds}\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("task", "classes", "images", "blocks", "when learned", "since", "moved"):
        table.add_column(name)
    for task in learner.tasks.values():
        table.add_row(task.name, _classes(task), *_told(task), *_since(task, record.history))
    out.print(table)
    out.print()
    for event in record.history:
        out.print(f"{event.generation:>4}  {event.when}  {_line(event)}", soft_wrap=True)
    for path in lesson_files(Path(learner.folder)):
        with suppress(FileNotFoundError):  # the lesson is over meanwhile
            when = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
            said = "a lesson stood here; if none is going on, the same `everlearn learn` goes on from here"
            out.print(f"   -  {when}  {said}", soft_wrap=True)


def _classes(task: TaskRecord) -> str:
    names = ", ".join(task.classes[:4])
    return f"{len(task.classes)}: {names}{', ...' if len(task.classes) > 4 else ''}"


def _told(task: TaskRecord) -> tuple[str, str, str]:
    blocks = "".join("1" if on else "0" for on in task.structure.configuration)
    best = task.accuracy.get("test", task.accuracy.get("validation"))
    return str(sum(task.images.values())), blocks, "" if best is None else f"{best:.1%}"


def _since(task: TaskRecord, history: Sequence[Event]) -> tuple[str, str]:
    """The accuracy that a task had last on images that are watched, and how far its answers moved in all."""
    effects = [
        e for event in lasting(history) if event.generation > task.generation for e in event.others
        if e.task == task.name
    ]  # fmt: skip
    last = next((e.after for e in reversed(effects) if e.after is not None), None)
    moved = max((e.moved for e in effects), default=0.0)
    return "" if last is None else f"{last:.1%}", f"{moved:.3f}" if moved else "0"


def _line(event: Event) -> str:
    scores = ", ".join(f"{split} {value:.1%}" for split, value in event.accuracy.items())
    changes = ", ".join(f"{name}={value}" for name, value in {**event.training, **event.options}.items())
    what = f"{event.what} {event.task}".strip() + (f" to {event.to}" if event.to is not None else "")
    seconds = f"{event.epochs} epochs in {event.seconds:.1f} s" if event.epochs else ""
    return "; ".join(part for part in (what, scores, seconds, changes) if part)


def forget(learner: Learner, task: str) -> None:
    """`everlearn forget`."""
    _console().print(f"{learner.folder}, generation {learner.forget(task)}: forgot {task}.")


def rollback(store: Path, to: int, method: str | None, backbone: str | None) -> None:
    """`everlearn rollback`."""
    # Not through a learner, which would open the generation that counts and may be damaged.
    folder = store.expanduser()
    made = go_back(Store(folder), Code(method, backbone), to)
    _console().print(f"{folder}, generation {made.number}: as generation {to} was.")


def export(learner: Learner, task: str, to: str, out: Path | None) -> None:
    """`everlearn export`."""
    file = out or Path("".join(c if c.isalnum() or c in "-_." else "_" for c in task) + SUFFIXES.get(to, ""))
    for path in learner.export(task, to, file):
        _console().print(f"{path}: {path.stat().st_size:,} bytes", soft_wrap=True)


def check(store: Path, method: str | None, backbone: str | None) -> None:
    """`everlearn check`.

    Raises:
        StoreError: something is damaged; each thing is printed before.
    """
    found = check_store(store, Code(method, backbone))
    out = _console()
    for sentence in (*found.damage, *found.notes):
        out.print(sentence, soft_wrap=True)
    if found.damage:
        count = len(found.damage)
        raise StoreError(f"{store} is damaged: {count} thing{' is' if count == 1 else 's are'} wrong.")
    out.print(f"{store} is whole: generations {', '.join(map(str, found.generations))}.")


def _console() -> Console:
    """Standard output; names of tasks and classes are a user's, and no markup."""
    return Console(markup=False, highlight=False, emoji=False)


def _pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigurationError(f"{flag} needs NAME=VALUE, but came as {text!r}.")
        found[name] = value
    return found
