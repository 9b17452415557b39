"""The picture shows the numbers of the table, and nothing else."""

from pathlib import Path

import pytest

from everlearn.errors import ConfigurationError
from everlearn.reproducing.comparing import outcomes
from everlearn.reproducing.figure import draw, figure
from everlearn.reproducing.page import Said
from everlearn.reproducing.published import Published
from tests.reproducing.conftest import planned, stored


@pytest.fixture
def said(known: Published) -> Said:
    item = known.items["mine/table-1"]
    runs = [stored(planned(item, "stl", 0), [0.86]), stored(planned(item, "stl", 1), [0.90])]
    return Said("mine/table-1", item, outcomes(item, [*runs, stored(planned(item, "df-cnn", 0), [0.94])]))


def test_each_row_that_was_run_has_both_marks(said: Said) -> None:
    drawn = figure(said)
    published, ours = drawn.data
    assert (published.name, ours.name) == ("published", "ours")
    assert list(published.x) == pytest.approx([90.0, 95.0])
    assert list(ours.x) == pytest.approx([88.0, 94.0])
    assert list(published.error_x.array) == [pytest.approx(1.0), None]
    assert list(ours.error_x.array) == [pytest.approx(12.7062 * 2, rel=1e-4), None]
    assert list(drawn.layout.yaxis.ticktext) == ["STL", "DF-CNN"]
    assert drawn.layout.xaxis.title.text == "Peak accuracy, %"
    assert drawn.layout.title.text == "mine/table-1: as published; 1 to 2 of 3 trials"


def test_differences_from_a_row_are_drawn_without_it(known: Published) -> None:
    item = known.items["mine/table-2"]
    lwf = stored(planned(item, "lwf", 0), [0.60])
    others = [stored(planned(item, method, 0), [value]) for method, value in (("fine-tuning", 0.57), ("l2", 0.59))]
    drawn = figure(Said("mine/table-2", item, outcomes(item, [lwf, *others])))
    published, ours = drawn.data
    assert list(drawn.layout.yaxis.ticktext) == ["fine-tuning", "L2"]
    assert list(published.x) == pytest.approx([-5.0, -1.5])
    assert list(ours.x) == pytest.approx([-3.0, -1.0])
    assert published.error_x.array is ours.error_x.array is None  # a bar without a length is drawn as a stroke
    assert drawn.layout.xaxis.title.text == "Final accuracy, difference from LwF, points"
    assert drawn.layout.xaxis.zeroline is True
    # Alone, that row has its accuracy.
    alone = figure(Said("mine/table-2", item, outcomes(item, [lwf])))
    assert (list(alone.data[1].x), alone.layout.xaxis.title.text) == ([60.0], "Final accuracy, %")


def test_it_is_a_page_of_its_own(said: Said, tmp_path: Path) -> None:
    draw(said, tmp_path / "deep" / "figure.html")
    assert "Plotly.newPlot" in (tmp_path / "deep" / "figure.html").read_text()


def test_nothing_is_drawn_of_nothing(known: Published, said: Said, tmp_path: Path) -> None:
    for one in (
        Said("mine/table-1", said.item, []),
        Said("mine/figure-2", known.items["mine/figure-2"], said.outcomes),
    ):
        with pytest.raises(ConfigurationError, match="nothing was run that could be drawn"):
            draw(one, tmp_path / "figure.html")
    assert not (tmp_path / "figure.html").exists()
