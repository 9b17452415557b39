"""The data file: whole, run by what exists, and refused in a sentence where it is not what it should be."""

from pathlib import Path

import pytest

from everlearn.commands import count_parameters
from everlearn.errors import ConfigurationError, UnknownNameError
from everlearn.experiments.plan import with_changes
from everlearn.methods.catalogue import make_method, option_names
from everlearn.reproducing.planning import parts
from everlearn.reproducing.published import MEASURES, Printed, Published, item_of, published
from tests.reproducing.conftest import FILE

PAPERS = published()
RESULTS = {name: item for name, item in PAPERS.items.items() if not item.drawing}


def test_every_table_and_figure_of_the_papers_is_named() -> None:
    wanted = {
        *(f"df-cnn/figure-{n}" for n in range(1, 8)), "df-cnn/table-1", "df-cnn/table-2",
        *(f"lasem/figure-{n}" for n in range(1, 9)), *(f"lasem/table-{n}" for n in range(1, 4)),
        *(f"den/figure-{n}" for n in range(1, 7)),
        *(f"lwf/figure-{n}" for n in range(1, 7)), "lwf/table-1", "lwf/table-2",
    }  # fmt: skip
    assert set(PAPERS.items) == wanted
    assert {name.partition("/")[0] for name in PAPERS.items} == set(PAPERS.papers)


@pytest.mark.parametrize("name", RESULTS)
def test_its_runs_can_be_planned(name: str) -> None:
    item = RESULTS[name]
    assert item.rows
    for part in parts(item):
        assert len(part.configs) == item.trials * len(part.request.methods)
    for row in item.rows:
        method, changes = with_changes(row.method)
        assert set(changes) <= set(option_names(make_method(method, "cifar", 10, changes)))
    assert all(column.measure or column.needs for column in item.columns.values()), "what cannot be run says why"


def test_values_are_those_of_the_papers() -> None:
    """A few of each, typed again from the papers."""

    def cell(item: str, row: int, key: str) -> tuple[float, float]:
        return RESULTS[item].rows[row].printed[key][:2]

    assert cell("df-cnn/figure-3", 5, "peak") == (37.2, 1.3)
    assert cell("df-cnn/figure-3", 3, "time") == (9.21, 0.019)
    assert cell("df-cnn/figure-5", 1, "peak") == (51.9, 0.9)
    assert cell("lasem/table-3", 6, "peak") == (42.0, 0.6)
    assert cell("lasem/table-1", 2, "forgetting") == (1.0, 0.0)
    assert cell("df-cnn/table-1", 3, "30%")[0] == 0.75
    assert cell("df-cnn/table-2", 14, "4%")[0] == 20.2
    assert cell("den/figure-6", 5, "auroc")[0] == 0.9965
    assert cell("den/figure-4", 4, "auroc") == (0.7684, 0.01)
    assert cell("lwf/table-1", 2, "a-places-cub-new")[0] == -19.4
    assert cell("lwf/table-2", 7, "places-cub-old")[0] == -8.5


def test_sizes_are_those_that_the_methods_have() -> None:
    item = RESULTS["df-cnn/figure-3"]
    sizes = {row.method: row.printed["size"] for row in item.rows if "size" in row.printed}
    for method, printed in sizes.items():
        ours = count_parameters(method, "cifar100")["total"]
        assert abs(ours / 1e6 - printed.mean) <= printed.rounding, method


def test_a_value_has_its_interval_and_its_rounding() -> None:
    row = item_of(published(), "df-cnn/figure-3").rows[0]
    assert row.printed["peak"] == Printed(31.2, 2.2, 0.05)
    assert row.printed["size"].rounding == 0.005


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("90.0 ± 1.0", "90.0 +- 1.0", "items.mine/table-1.rows.0.printed.peak: .*needs a number, or one with its"),
        ("peak_accuracy", "beauty", "measures beauty; known are peak_accuracy"),
        ("[hps, stl]", "[hps, den]", "names rows that it does not have: den"),
        ("beside: stl", "beside: mtl", "names rows that it does not have: mtl"),
        ("{final: 58.5}}", "{final: 58.5}}\n    differences: [[l2, lwf]]", "rows are differences from lwf already"),
        ("far: 50.0", "near: 50.0", "STL has columns that it does not have: near"),
        ("stream: digits\n    trials: 3", "trials: 3", "peak names no stream"),
        ("rows: [{method: stl, label: STL}]", "rows: []", "mine/figure-2: it has no rows; name the methods"),
        ("p. 5\n    stream: digits", "p. 5", "mine/figure-2: .*it names no stream; say what its rows are run on"),
        ("time: 5.0", "time: 0", "mine/table-1: .*time of STL is divided by that of STL, which is 0"),
        ("label: L2,", "label: L2, group: b,", "L2 is a difference from lwf, of which its group .b. has no row"),
        ("trials: 2", "trials: 0", "mine/table-2: .*needs one trial or more, but came with 0"),
        (
            "mine/figure-2",
            "theirs/figure-2",
            "theirs/figure-2 is of theirs, which is not among papers; add its citation",
        ),
        ("drawing: true", "drawing: [", "is no valid YAML"),
        ("papers:", "paper:", "is no file of published values"),
        ("title: Digits", "title: 2020-13-45", "is no valid YAML: month must be in 1..12"),
        ("title: Digits", "title: !!bool x", "is no valid YAML"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FILE
    (tmp_path / "wrong.yaml").write_text(FILE.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=said):
        published(tmp_path / "wrong.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        published(tmp_path / "nowhere.yaml")


def test_an_item_is_found_by_its_name(known: Published) -> None:
    with pytest.raises(UnknownNameError, match="mine/table-1"):
        item_of(known, "mine/table-9")
    with pytest.raises(ConfigurationError, match=r"The idea.* is no result"):
        item_of(known, "mine/figure-1")
    assert set(MEASURES) >= {column.measure for column in item_of(known, "mine/table-1").columns.values()} - {""}
