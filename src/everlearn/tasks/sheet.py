"""A contact sheet: a row a task with a few of its training images, to see what a stream is made of.

Images within [0, 1] are drawn as they are; those of a stream that was standardised come back to [0, 1] each by its own
least and greatest number. Of more than three channels the first three are drawn as red, green and blue.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks.task import Split, Task, TaskStream

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

_COLUMNS = 10
"""Images a row; fewer where a task has a few classes that do not divide it."""
_ROWS = 60
"""Tasks that are drawn at most."""
_MARGIN, _NAMES, _GAP, _CAPTION, _LEAST = 16, 190, 6, 18, 72
_INK, _FAINT, _PAPER = (25, 25, 25), (120, 120, 120), (255, 255, 255)


@dataclass(frozen=True)
class _Row:
    """A task's images, float32 `[n, C, H, W]`, and what stands below each."""

    task: Task
    images: Tensor | None
    captions: tuple[str, ...]


def can_draw(stream: TaskStream) -> bool:
    """Whether the stream's images are pictures: features of 1 x 1 pixel are none."""
    return stream.image_shape[1:] != (1, 1)


def draw_sheet(stream: TaskStream) -> "Image":
    """The sheet as an RGB image.

    Raises:
        DataError: the stream's images are features, or an image cannot be decoded.
    """
    from PIL import Image, ImageDraw

    channels, height, width = stream.image_shape
    if not can_draw(stream):
        raise DataError(
            f"there is nothing to draw of {stream.name!r}: an image of it is {channels} features, 1 x 1 pixel each."
        )
    rows = [_row(task) for task in stream.tasks[:_ROWS]]
    plain = all(row.images is None or _within(row.images) for row in rows)
    # Small images are enlarged by a whole number, so that pixels stay squares.
    factor = max(1, -(-_LEAST // max(height, width)))
    scale = factor if max(height, width) <= 2 * _LEAST else 2 * _LEAST / max(height, width)
    cell = (max(1, round(height * scale)), max(1, round(width * scale)))
    head = _head(stream, plain)
    top = _MARGIN + sum(size + 9 for _, size in head) + _GAP
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    widths = [pen.textlength(text, _font(size)) for text, size in head]
    widths += [_NAMES + _left(row.captions, len(row.captions), cell[1]) for row in rows]
    sheet = Image.new("RGB", (2 * _MARGIN + int(max(widths)) + 1, top + len(rows) * _row_height(cell[0])), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (text, size) in enumerate(head):
        above = _MARGIN + sum(size + 9 for _, size in head[:number])
        pen.text((_MARGIN, above), text, _FAINT if number else _INK, _font(size))
    for number, row in enumerate(rows):
        _draw_row(sheet, pen, row, number, top + number * _row_height(cell[0]), cell, plain)
    return sheet


def write_sheet(stream: TaskStream, file: Path) -> None:
    """Draw the sheet into a PNG file.

    Raises:
        ConfigurationError: the file's name ends otherwise, or it cannot be written.
        DataError: as for `draw_sheet`.
    """
    if file.suffix.lower() != ".png":
        raise ConfigurationError(f"a sheet is a picture in PNG, so its name is wanted as {file.stem}.png, not {file}.")
    sheet = draw_sheet(stream)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(file)
    except OSError as error:
        raise ConfigurationError(f"the sheet {file} cannot be written: {error.strerror or error}.") from error


def _row_height(cell: int) -> int:
    return cell + _CAPTION + 2 * _GAP


def _left(captions: tuple[str, ...], position: int, cell: int) -> int:
    """Where an image stands; between classes there is more room."""
    changes = sum(captions[k] != captions[k - 1] for k in range(1, min(position, len(captions) - 1) + 1))
    several = len(set(captions)) < len(captions)
    return position * (cell + _GAP) + (2 * _GAP * changes if several else 0)


def _within(images: Tensor) -> bool:
    return bool(images.min() >= 0 and images.max() <= 1)


def _row(task: Task) -> _Row:
    split = next(iter(task.splits().values()), None)
    if split is None:
        return _Row(task, None, ())
    chosen = _choose(split, len(task.classes))
    index = torch.tensor([row for row, _ in chosen])
    images = split.images[index] if isinstance(split.images, Tensor) else split.images.take(index)
    return _Row(task, images.float(), tuple(task.classes[label] for _, label in chosen))


def _choose(split: Split, classes: int) -> list[tuple[int, int]]:
    """Positions and labels of the images of a row: as many of each class where they all find room.

    Of more classes than find room, every so many-th is shown.
    """
    each = max(1, _COLUMNS // classes)
    labels = [label * classes // min(classes, _COLUMNS) for label in range(min(classes, _COLUMNS))]
    chosen = []
    for label in labels:
        of_class = split.labels[:, label] > 0 if split.multi_label else split.labels == label
        rows = of_class.nonzero().flatten()
        # Evenly over the class: the rest of the digits would otherwise be zeros alone.
        few = torch.arange(min(each, len(rows))) * len(rows) // max(1, min(each, len(rows)))
        chosen += [(row, label) for row in rows[few].tolist()]
    return chosen or [(0, 0)]


def picture(image: Tensor, plain: bool) -> np.ndarray:
    """An image `[C, H, W]` as 8-bit levels, `[H, W, 3]`; `plain` if it lies in [0, 1]."""
    shown = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    if not plain:
        low, high = shown.min(), shown.max()
        shown = (shown - low) / (high - low).clamp_min(1e-12)
    return (shown.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _head(stream: TaskStream, plain: bool) -> list[tuple[str, int]]:
    """The lines above the rows, and the size of each one's letters."""
    channels, height, width = stream.image_shape
    words = [f"{height} x {width} pixels, " + {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")]
    words += ["the first three as colours"] if channels > 3 else []
    words += ["the first as grey"] if channels == 2 else []
    words += [] if plain else ["each image drawn between its least and greatest number, as they go beyond 0 to 1"]
    lines = [(f"{stream.name}: {stream.about}".removesuffix(": "), 17), ("; ".join([*words, "training images"]), 12)]
    return [*lines, (f"the first {_ROWS} of {len(stream)} tasks", 12)] if len(stream) > _ROWS else lines


def _draw_row(
    sheet: "Image", pen: "ImageDraw", row: _Row, number: int, top: int, cell: tuple[int, int], plain: bool
) -> None:
    from PIL import Image
    from PIL.Image import Resampling

    pen.line((_MARGIN, top - _GAP, sheet.width - _MARGIN, top - _GAP), (225, 225, 225))
    pen.text((_MARGIN, top + 2), _cut(pen, f"{number + 1}. {row.task.name}", _NAMES - 12, 14), _INK, _font(14))
    count = len(row.task.classes)
    pen.text((_MARGIN, top + 22), f"{count} class{'es' if count > 1 else ''}", _FAINT, _font(12))
    if row.images is None:
        pen.text((_MARGIN + _NAMES, top + 2), "no images: it comes with a trained network", _FAINT, _font(12))
        return
    before = ""
    for position, (image, caption) in enumerate(zip(row.images, row.captions, strict=True)):
        left = _MARGIN + _NAMES + _left(row.captions, position, cell[1])
        shrunk = cell[0] < image.shape[1]
        drawn = Image.fromarray(picture(image, plain)).resize(
            (cell[1], cell[0]), Resampling.LANCZOS if shrunk else Resampling.NEAREST
        )
        sheet.paste(drawn, (left, top))
        pen.rectangle((left - 1, top - 1, left + cell[1], top + cell[0]), outline=(225, 225, 225))
        same = row.captions.count(caption)
        if caption != before:
            room = same * (cell[1] + _GAP) - _GAP
            pen.text((left, top + cell[0] + 2), _cut(pen, caption, room, 12), _INK, _font(12))
        before = caption


def _cut(pen: "ImageDraw", text: str, room: int, size: int) -> str:
    """The text, or as much of it as there is room for."""
    font = _font(size)
    if pen.textlength(text, font) <= room:
        return text
    while text and pen.textlength(text + "...", font) > room:
        text = text[:-1]
    return text + "..."


def _font(size: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size)
