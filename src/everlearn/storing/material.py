"""What a lesson is made of: a task from a folder of images or as it was given, and images of old tasks to watch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save

from everlearn.errors import ConfigurationError, DataError, StoreError
from everlearn.storing.pictures import folder_split, levels_of, measured
from everlearn.storing.reading import parse_tensors
from everlearn.storing.records import LearnerRecord, Preprocessing, TaskRecord
from everlearn.storing.store import Generation
from everlearn.tasks.arrays import images_from_array
from everlearn.tasks.file_tasks import Handling
from everlearn.tasks.folders import folder_task
from everlearn.tasks.pixels import MAX_SIDE
from everlearn.tasks.task import Split, Task

Shape = tuple[int, int, int]


def lesson_task(
    record: LearnerRecord,
    name: str,
    images: str | Path | Task,
    test: str | Path | None,
    size: tuple[int, int] | None,
    in_memory: bool,
) -> Task:
    """The task of a lesson, its pixels not standardised.

    Args:
        record: of the learner.
        name: of the task.
        images: a folder of class folders, or a task.
        test: a folder of test images; then all of the other images are for training and validation.
        size: height and width that images are resized to; only before the first task.
        in_memory: whether all images are decoded at once.

    Raises:
        DataError: the images cannot be learned from, or are of another shape than the learner's.
        ConfigurationError: another size than the learner's.
    """
    shape = record.image_shape
    check_sides(size or ())
    if shape is not None and size not in (None, shape[1:]):
        raise ConfigurationError(f"the learner's images have {shape[1]} x {shape[2]} pixels; leave out the size.")
    if not isinstance(images, str | Path | Task):
        raise DataError(f"images are wanted as a folder of class folders or a Task, but came as {images!r:.80}.")
    if isinstance(images, Task):
        if images.train is None:
            raise DataError(f"task {name!r} has no training images, so there is nothing to learn from.")
        task = replace(images, name=name)
    else:
        folder = Path(images).expanduser()
        if test is not None and (folder / "train").is_dir() and (folder / "test").is_dir():
            raise ConfigurationError(
                f"{folder / 'test'} holds test images already, which would be trained on beside those of {test}; leave "
                "the other folder out, or move this one away."
            )
        task = _from_folder(record, name, folder, shape[1:] if shape else size, in_memory)
    if test is not None:
        task = _with_test(task, Path(test).expanduser())
    check_sides(task.image_shape or ())
    if shape is not None and task.image_shape != shape:
        raise DataError(
            f"the learner's images are {' x '.join(map(str, shape))} (channels, height, width), but those of {name!r} "
            f"are {' x '.join(map(str, task.image_shape or ()))}."
        )
    return task


def check_sides(sides: Sequence[int]) -> None:
    """Raise `ConfigurationError` for what no record has as height or width."""
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise ConfigurationError(
            f"images are wanted with sides of 1 to {MAX_SIDE:,} pixels, but came as {' x '.join(map(str, sides))}; "
            "give another size."
        )


def _from_folder(record: LearnerRecord, name: str, folder: Path, size: tuple[int, int] | None, in_memory: bool) -> Task:
    grey = record.image_shape is not None and record.image_shape[0] == 1
    try:
        return folder_task(folder, name, record.seed, Handling(size, grey, in_memory, advise=False))
    except (DataError, ConfigurationError) as error:
        # The folders' own words name the flag of another command.
        raise type(error)(str(error).replace("--stream-option size=", "--size ")) from None


def _with_test(task: Task, folder: Path) -> Task:
    """The task with test images of another folder; what was set aside for that trains."""
    assert task.train is not None
    assert task.test is not None
    train, more = task.train.images, task.test.images
    if not (isinstance(train, torch.Tensor) and isinstance(more, torch.Tensor)):
        raise ConfigurationError(
            "a folder of test images needs all images in memory; put both into one folder instead."
        )
    channels, height, width = train.shape[1:]
    pre = Preprocessing(channels=channels, height=height, width=width, mean=[0.0] * channels, scale=[1.0] * channels)
    whole = Split(torch.cat([train, more]), torch.cat([task.train.labels, task.test.labels]))
    return replace(task, train=whole, test=folder_split(folder, task.classes, pre, task.name))


def preprocessing(task: Task, how: str) -> Preprocessing:
    """How the task's images are standardised."""
    assert task.train is not None
    return measured(task.train, how)


def watched(generation: Generation, given: Mapping[str, str | Path | Split]) -> dict[int, Split]:
    """Images of old tasks by position: those that are given, else those that the store keeps.

    Raises:
        ConfigurationError: images are given of a task that the learner does not know.
        StoreError: those that are kept are damaged.
    """
    record, found = generation.record, dict[int, Split]()
    for place, task in enumerate(record.tasks):
        if task.forgotten:
            continue
        if task.name in given:
            found[place] = split_of(given[task.name], task)
        elif (name := kept_name(place)) in generation.files:
            found[place] = _kept(generation, name, task)
    return found


def split_of(images: str | Path | Split, task: TaskRecord) -> Split:
    """Labelled images of a task, not standardised."""
    if isinstance(images, Split):
        return images
    return folder_split(Path(images).expanduser(), task.classes, task.preprocessing, task.name)


def kept_name(place: int) -> str:
    """The file that holds a task's kept validation images."""
    return f"validation-{place}.safetensors"


def pack_kept(split: Split) -> bytes:
    """Validation images as the content of such a file."""
    assert isinstance(split.images, torch.Tensor)
    return save({"images": levels_of(split.images).contiguous(), "labels": split.labels.contiguous()})


def _kept(generation: Generation, name: str, task: TaskRecord) -> Split:
    path = generation.folder / name
    tensors = parse_tensors(generation.files[name], path)
    if tensors.keys() != {"images", "labels"}:
        raise StoreError(f"{path} is damaged: it holds no labelled images.")
    try:  # through a task, which checks shapes, labels and pixels
        split = Split(images_from_array(tensors["images"]), tensors["labels"])
        return Task(task.name, tuple(task.classes), test=split).test or split
    except DataError as error:
        raise StoreError(f"{path} is damaged: {error}") from None
