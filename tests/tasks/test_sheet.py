"""The contact sheet: the right images, in the right place, as they look."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from everlearn.errors import ConfigurationError, DataError
from everlearn.tasks import Split, Task, TaskStream, make_stream
from everlearn.tasks.sheet import _choose, draw_sheet, picture, write_sheet


def flat(levels: list[float], labels: list[int], channels: int = 1, side: int = 8) -> Split:
    images = torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, channels, side, side).clone()
    return Split(images, torch.tensor(labels))


def stream_of(split: Split, classes: int = 2, tasks: int = 1) -> TaskStream:
    names = tuple(f"class {number}" for number in range(classes))
    return TaskStream("made", 0, tuple(Task(f"task {t}", names, split, split, split) for t in range(tasks)))


def levels_in(sheet: Image.Image) -> set[tuple[int, int, int]]:
    return {pixel for _, pixel in sheet.getcolors(10**6) or ()}  # type: ignore[misc]


def test_images_are_drawn_as_they_are_each_class_in_its_order() -> None:
    split = flat([0.2, 0.4, 0.6], [1, 0, 1], channels=3)
    split.images[:, 1] = 0  # no letter has such a colour
    sheet = np.asarray(draw_sheet(stream_of(split)))
    places = [
        np.argwhere((sheet == (round(255 * level), 0, round(255 * level))).all(2)).mean(0) for level in (0.4, 0.2, 0.6)
    ]
    assert np.ptp([place[0] for place in places]) == 0, "one row"
    assert places[0][1] < places[1][1] < places[2][1], "class 0 first, then class 1 in order"
    # 8 pixels enlarged by nine, the least whole number that makes 72 of them.
    assert (sheet == (102, 0, 102)).all(2).sum() == 72 * 72


def test_images_are_spread_over_a_class() -> None:
    split = flat([k / 100 for k in range(100)], [0] * 50 + [1] * 50)
    assert [row for row, _ in _choose(split, 2)] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    many = Split(torch.zeros(40, 1, 2, 2), torch.arange(40) % 20)
    assert [label for _, label in _choose(many, 20)] == list(range(0, 20, 2))
    both = Split(torch.zeros(3, 1, 2, 2), torch.tensor([[0.0, 1], [0, 0], [1, 1]]))
    assert _choose(both, 2) == [(2, 0), (0, 1), (2, 1)]


def test_standardised_images_come_back_each_by_its_own_range() -> None:
    image = torch.tensor([[-1.0, 0.0], [1.0, 3.0]])[None]
    assert picture(image, plain=False)[..., 0].tolist() == [[0, 64], [128, 255]]
    assert picture(image / 4 + 0.25, plain=True)[..., 0].tolist() == [[0, 64], [128, 255]]
    assert picture(torch.full((1, 2, 2), 5.0), plain=False).max() == 0
    coloured = picture(torch.stack([torch.full((2, 2), level) for level in (0.0, 0.2, 0.4, 0.9)]), plain=True)
    assert coloured[0, 0].tolist() == [0, 51, 102], "the first three of four channels"
    assert picture(torch.rand(2, 4, 4), plain=True).shape == (4, 4, 3)


def test_a_sheet_has_a_row_a_task_up_to_sixty() -> None:
    split = flat([0.2, 0.4], [0, 1])
    one, three, many = (draw_sheet(stream_of(split, tasks=count)).height for count in (1, 3, 70))
    row = (three - one) // 2
    assert row > 72
    assert 59 * row < many - one < 60 * row


def test_large_images_are_made_small_and_a_task_without_images_is_said() -> None:
    split = flat([0.2, 0.4], [0, 1], channels=3, side=300)
    tasks = (Task("old", ("a", "b")), *stream_of(split).tasks)
    sheet = draw_sheet(TaskStream("pair", 0, tasks))
    assert sheet.width < 900
    assert (51, 51, 51) in levels_in(sheet)


def test_features_are_no_pictures_and_a_sheet_is_a_png(tmp_path: Path) -> None:
    features = Split(torch.zeros(2, 500, 1, 1), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="there is nothing to draw of 'made': an image of it is 500 features"):
        draw_sheet(stream_of(features))
    stream = make_stream("digits", 0, None, {"train": 10})
    with pytest.raises(ConfigurationError, match=r"its name is wanted as a.png, not .*a.jpg"):
        write_sheet(stream, tmp_path / "a.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_sheet(stream, tmp_path / "file" / "a.png")
    write_sheet(stream, tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as opened:
        assert opened.size == draw_sheet(stream).size
