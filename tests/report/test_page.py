"""The page: whole, self-contained, escaped, and saying what its numbers say."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args, get_type_hints
from urllib.parse import unquote

import pytest

from everlearn import report
from everlearn.errors import StoreError
from everlearn.experiments.records import FindingRecord
from everlearn.report import provenance, write_report
from everlearn.report.groups import Comparison, comparisons
from everlearn.report.page import render_page
from everlearn.report.summary import summary
from everlearn.report.table import summary_tables
from everlearn.training.settings import Training

ROOT = Path("runs")
EVIL = "<img src=x onerror=alert(1)></script><b>&amp;"


class Reader(HTMLParser):
    """Collects a page's addresses, its visible text, its tags and the JSON of its figures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.figures: list[dict] = []
        self._json = self._script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self._script = tag in ("script", "style")
        self._json = ("type", "application/json") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._script = self._json = False

    def handle_data(self, data: str) -> None:
        if self._json:
            self.figures.append(json.loads(data))
        elif not self._script:
            self.text += data


@pytest.fixture
def page(runs) -> str:
    return render_page(runs, ROOT)


def test_it_needs_nothing_from_elsewhere(page) -> None:
    reader = Reader(page)
    assert all(address.startswith(("#", "data:")) for address in reader.addresses)
    assert "link" not in reader.tags
    assert "default-src 'none'" in page
    assert page.count("plotly.js v") == 1
    assert len(page) < 6_000_000


def test_it_holds_every_number_of_the_table(runs, page) -> None:
    text = Reader(page).text
    (table,) = summary_tables(runs)
    for row in table.rows:
        for measure in table.measures:
            assert table.cell(row, measure) in text
    for measure in table.measures:
        assert measure.definition in text


def test_it_has_the_figures(page) -> None:
    # six panels of accuracy, two of forgetting, one of convergence
    assert len(Reader(page).figures) == 9


def test_it_says_how_every_number_was_obtained(runs, page) -> None:
    text = Reader(page).text
    for run in runs:
        for wanted in (run.run.id, run.run.fingerprint, run.folder.name):
            assert wanted in text
    for wanted in (
        "tf1-rmsprop",
        "0.001",
        "hyperbolic",
        "40 per task",
        "10 images",
        "torch 2.13.0",
        "x86_64",
    ):
        assert wanted in text
    assert "1. 0 or 1 (2 classes)" in text
    assert "earlier ones every 8" in text


def test_the_csv_is_inside(runs, page) -> None:
    (table,) = summary_tables(runs)
    (address,) = [address for address in Reader(page).addresses if address.startswith("data:text/csv")]
    assert unquote(address.split(",", 1)[1]) == table.csv()


def test_names_from_folders_are_escaped_everywhere(make_run) -> None:
    runs = [make_run("hps", trial, tasks=[EVIL, "plain"]) for trial in range(2)]
    runs.append(make_run(EVIL, 0, tasks=[EVIL, "plain"]))
    runs.append(make_run(EVIL, 1, tasks=[EVIL, "plain"], finished=False))
    reader = Reader(render_page(runs, Path(EVIL)))
    assert not {"img", "b"} & set(reader.tags)
    assert EVIL in reader.text
    # 3 scripts of ours (plotly, the page's, and one a figure): a name that closed one would change the count
    assert reader.tags.count("script") == 2 + len(reader.figures)
    shown = json.dumps(reader.figures)
    assert "<img" not in shown
    assert "&lt;img" in shown


def test_unfinished_runs_are_listed_and_enter_no_number(make_run) -> None:
    done = [make_run("hps", trial) for trial in range(2)]
    begun = make_run("ewc", 0, finished=False)
    with_begun, without = (Reader(render_page(runs, ROOT)) for runs in ([*done, begun], done))
    assert "1 run has not finished" in " ".join(with_begun.text.split())
    assert "ewc, trial 0: 80 of 200 epochs" in with_begun.text
    assert begun.folder.name in with_begun.text
    assert "not finished" not in without.text
    assert with_begun.figures == without.figures


def test_different_trainings_stand_apart(make_run) -> None:
    one = make_run("hps", 0)
    other = make_run("hps", 0, training=dataclasses.replace(one.run.config.training, epochs=20))
    page = render_page([one, other], ROOT)
    assert page.count('class="comparison"') == 2
    assert page.count("plotly.js v") == 1
    assert "2 separate comparisons" in page
    assert [f">digits (seed 0), epochs {epochs}</a>" in page for epochs in (20, 40)] == [True, True]


def test_the_multi_task_protocol_has_its_error_and_no_forgetting(make_run, multi_task) -> None:
    text = Reader(render_page([make_run("hps", trial, training=multi_task) for trial in range(2)], ROOT)).text
    assert "Multi-task error" in text
    assert "Catastrophic forgetting" not in text
    assert "100 in all" in text


@pytest.mark.parametrize("runs_given", ["none", "unfinished"])
def test_no_finished_run_is_one_plain_sentence(make_run, runs_given) -> None:
    runs = [] if runs_given == "none" else [make_run("hps", 0, finished=False)]
    with pytest.raises(StoreError, match=r"at least one finished run.*\.$") as caught:
        render_page(runs, ROOT)
    assert str(caught.value).count(". ") == 0
    assert ("1 have begun" in str(caught.value)) == bool(runs)


class TestFound:
    @pytest.fixture
    def searched(self, make_run):
        """A search, a brute-force search without its first task, and two static configurations; two trials each."""

        def found(method: str, trial: int, **more) -> list[FindingRecord]:
            tasks, first = ["a", "b"], method.startswith("brute")
            return [
                FindingRecord(epoch=40 * place + 40, task=task, configuration="011", settled=True, **more)
                for place, task in enumerate(tasks)
                if place >= first
            ]

        runs = []
        for trial in range(2):
            lasem = found("lasem-hps", trial, weights={"011": 0.875, "111": 0.125}, blocks=[0.125, 1.0, 1.0])
            brute = found("brute-force-hps", trial, weights={"011": 0.75, "111": 0.5}, attempt=1)
            for method, findings in (("lasem-hps", lasem), ("brute-force-hps", brute), ("hps", ()), ("hps@top-1", ())):
                made = make_run(method, trial, tasks=["a", "b"])
                runs.append(dataclasses.replace(made, findings=tuple(findings)))
        return runs

    def test_everything_that_was_found_is_on_the_page(self, searched) -> None:
        page = render_page(searched, ROOT)
        text = " ".join(Reader(page).text.split())
        for wanted in (
            "What it found",
            "brute-force-hps0 –011 75 %",
            "lasem-hps1 011 88 %011 88 %",
            "lasem-hps, 4 choices",
            "brute-force-hps, 2 choices",
            "lasem-hps, trial 0",
            "block 1, nearest the image",
            "One configuration for all tasks",
            "range of the static configurations",
            "Forgetting, task by task",
        ):
            assert wanted in text
        assert "<small>88 %<i></i></small>" in page  # a probability
        assert "<small><i>75 %</i></small>" in page  # a validation accuracy
        # accuracy 4, forgetting 2, convergence 1; choices 2, blocks 1 + 2, posterior 1, courses 1, scores 1;
        # static 1, range 2, by task 1
        assert len(Reader(page).figures) == 7 + 8 + 4

    def test_choices_can_be_downloaded(self, searched) -> None:
        addresses = [one for one in Reader(render_page(searched, ROOT)).addresses if one.startswith("data:text/csv")]
        lines = unquote(addresses[1].split(",", 1)[1]).splitlines()
        assert lines[0].startswith(
            "stream,seed,method,backbone,trial,run,task_number,task,epoch,attempt,configuration,"
        )
        assert len(lines) == 1 + 2 + 4
        assert ",011,0.875,,0.125,1.0,1.0" in lines[-1]

    def test_every_entry_of_a_legend_has_lines_below_it(self, searched) -> None:
        parts = render_page(searched, ROOT).split('class="figures"')[1:]
        entries = [re.findall(r'data-group="([^"]*)"', part) for part in parts]
        for part, listed in zip(parts, entries, strict=True):
            drawn = [trace for figure in Reader(part).figures for trace in figure["data"]]
            assert set(listed) <= {trace.get("legendgroup") or trace.get("name") for trace in drawn}
        assert ["transfers", "task-specific"] in entries
        assert ["All", "other static configurations", "brute-force", "lasem"] in entries

    def test_it_is_there_only_where_there_is_something(self, searched, make_run) -> None:
        def titles(runs) -> list[bool]:
            text = Reader(render_page(runs, ROOT)).text
            return [title in text for title in ("What it found", "One configuration for all tasks")]

        assert titles([make_run("hps", 0), make_run("stl", 0)]) == [False, False]
        assert titles([make_run("hps", 0), make_run("hps@top-1", 0)]) == [False, True]
        assert titles([run for run in searched if run.findings]) == [True, False]

    def test_names_are_escaped(self, searched, make_run) -> None:
        (finding, *_) = searched[0].findings
        findings = (finding.model_copy(update={"task": EVIL}),)
        evil = [dataclasses.replace(make_run(EVIL, 0, tasks=[EVIL, "plain"]), findings=findings)]
        reader = Reader(render_page([*evil, make_run(f"hps@{EVIL.replace('/', '')}", 0), make_run("hps", 0)], ROOT))
        assert not {"img", "b"} & set(reader.tags)
        assert reader.tags.count("script") == 2 + len(reader.figures)
        assert "<img" not in json.dumps(reader.figures)

    def test_trials_of_one_number_are_told_apart_by_their_seeds(self, searched) -> None:
        run = searched[0]
        config = run.run.config.model_copy(update={"stream": run.run.config.stream.model_copy(update={"seed": 7})})
        other = dataclasses.replace(run, run=run.run.model_copy(update={"id": "other", "config": config}))
        text = " ".join(Reader(render_page([run, other], ROOT)).text.split())
        assert "lasem-hps0, seed 0 011" in text
        assert "lasem-hps0, seed 7 011" in text


class TestSummary:
    def test_it_names_who_leads_and_whether_that_is_settled(self, make_run) -> None:
        def run(method: str, trial: int, peak: float):
            made = make_run(method, trial, tasks=["a", "b"])
            level = [line.model_copy(update={"accuracy": peak}) for line in made.evaluations if line.split == "test"]
            return dataclasses.replace(made, evaluations=tuple(level))

        # differences 0.02, 0.04, 0.06: mean 4.0 points, half width 4.302653 * 2 / sqrt(3) = 5.0: not settled
        unsettled = [run("x", i, 0.9) for i in range(3)]
        unsettled += [run("y", i, 0.9 - gap) for i, gap in enumerate((0.02, 0.04, 0.06))]
        (table,) = summary_tables(unsettled)
        text = summary(table)
        assert text.startswith("Two methods learned the two tasks of digits one after the other, 40 epochs each")
        assert "x reached the highest mean peak accuracy, 90.0 ± 0.0 %; y, the next, is 4.0 ± 5.0 points" in text
        assert "too close" in text
        # differences 0.04, 0.05, 0.06: 5.0 with half width 2.5: settled
        settled = [run("x", i, 0.9) for i in range(3)]
        settled += [run("y", i, 0.9 - gap) for i, gap in enumerate((0.04, 0.05, 0.06))]
        (table,) = summary_tables(settled)
        assert "90.0 ± 0.0 %, 5.0 ± 2.5 points from y, the next" in summary(table)

    def test_it_names_who_forgot_only_if_somebody_did(self, make_run) -> None:
        (table,) = summary_tables([make_run(name, trial) for name in ("hps", "tf") for trial in range(2)])
        assert "hps forgot most, keeping 0." in summary(table)
        alike = [make_run("hps", trial, backbone=name) for name in ("a", "b") for trial in range(2)]
        (table,) = summary_tables(alike)
        assert "All methods kept the same share of their peak accuracy, 0." in summary(table)
        # One method stays at 0.8; the other gains: 0.9 on tasks that are no longer in training.
        rising = [
            dataclasses.replace(
                made,
                evaluations=tuple(
                    line.model_copy(update={"accuracy": 0.9 if gains and line.training != line.task else 0.8})
                    for line in made.evaluations
                ),
            )
            for gains, made in [(False, make_run("stl", 0)), (True, make_run("hps", 0))]
        ]
        (table,) = summary_tables(rising)
        assert "On average no method ended below its peak accuracy." in summary(table)

    def test_one_method_is_compared_with_nothing(self, make_run) -> None:
        (table,) = summary_tables([make_run("hps", 0)])
        text = summary(table)
        assert text.startswith("One method learned the five tasks of digits")
        assert "next" not in text
        assert "in one trial." in text


class TestProvenance:
    def test_the_command_spells_every_setting_out(self, runs) -> None:
        (comparison,) = comparisons(runs)
        (command,) = provenance.commands(comparison)
        start = "everlearn run digits --methods stl,df-cnn,df-cnn.direct,df-cnn.tc2,hps,tf --trials 3 --seed 0 "
        assert command.startswith(start + "--same-stream --backbone digits-cnn --protocol lifelong")
        assert "--rate 0.001 --set schedule=hyperbolic --set decay=0.00025" in command

    def test_rising_seeds_are_the_default_and_gaps_have_no_command(self, make_run) -> None:
        (rising,) = comparisons([make_run("hps", trial, seed=7 + trial) for trial in range(2)])
        assert "--trials 2 --seed 7 --backbone" in provenance.commands(rising)[0]
        (gap,) = comparisons([make_run("hps", 0), make_run("hps", 2)])
        assert provenance.commands(gap) == []

    def test_names_cannot_leave_the_command(self, make_run) -> None:
        (comparison,) = comparisons([make_run("x; rm -rf ~", 0)])
        assert "--methods 'x; rm -rf ~' --trials" in provenance.commands(comparison)[0]

    def test_what_makes_numbers_incomparable_is_said(self, make_run) -> None:
        one, other = make_run("hps", 0), make_run("tf", 0)
        (same,) = comparisons([one, other, make_run("hps", 1), make_run("tf", 1)])
        assert provenance.warnings(same) == []
        other = dataclasses.replace(
            other,
            run=other.run.model_copy(update={"fingerprint": "another"}),
            result=other.result.model_copy(update={"machine": {"processor": "arm"}, "versions": {"torch": "1"}}),
        )
        (mixed,) = comparisons([one, make_run("hps", 1), other])
        told = " ".join(provenance.warnings(mixed))
        for wanted in ("1 to 2", "single trial", "trial 0 of seed 0", "different machines", "versions"):
            assert wanted in told

    def test_trials_of_one_stream_beside_others_of_their_own_are_said(self, make_run) -> None:
        shared = [make_run("hps", trial, seed=7) for trial in (0, 1, 2)]
        own = [make_run("hps", trial, seed=8 + trial) for trial in (0, 1)]
        for runs in (shared, own):
            (alike,) = comparisons(runs)
            assert provenance.warnings(alike) == []
        (mixed,) = comparisons([*shared, *own])
        (said,) = provenance.warnings(mixed)
        assert said.startswith(
            "hps: trials 0, 1, 2 have the stream of seed 7 (--same-stream), and others one of their own"
        )

    def test_trials_with_their_own_order_are_told_apart(self, make_run) -> None:
        runs = [make_run("hps", 0, tasks=["a", "b"]), make_run("hps", 1, tasks=["b", "a"])]
        (comparison,) = comparisons(runs)
        assert provenance.tasks(comparison) == [
            ("trial 0", ["a (2 classes)", "b (2 classes)"]),
            ("trial 1", ["b (2 classes)", "a (2 classes)"]),
        ]


class TestWriting:
    @pytest.fixture(autouse=True)
    def _stored(self, runs, monkeypatch) -> None:
        monkeypatch.setattr(report, "find_runs", lambda root: runs)

    def test_it_writes_one_file_and_nothing_beside_it(self, tmp_path, page) -> None:
        assert write_report(ROOT, tmp_path / "new" / "r.html") == tmp_path / "new" / "r.html"
        assert (tmp_path / "new" / "r.html").read_text(encoding="utf-8") == page
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["r.html"]

    def test_a_folder_gets_a_report(self, tmp_path) -> None:
        assert write_report(ROOT, tmp_path) == tmp_path / "report.html"

    def test_a_path_that_cannot_be_written_is_a_store_error(self, tmp_path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="could not be written"):
            write_report(ROOT, tmp_path / "file" / "r.html")
        assert (tmp_path / "file").read_text() == ""


def test_plotly_json_is_plain_lists(page) -> None:
    # Readable by hand, and by plotly.js of any age: no base64 arrays.
    assert "bdata" not in json.dumps(Reader(page).figures)


def test_the_same_runs_make_the_same_page(runs, page) -> None:
    assert render_page(runs, ROOT) == page


@pytest.mark.parametrize("schedule", get_args(get_type_hints(Training)["schedule"]))
def test_every_schedule_has_words(schedule: str) -> None:
    """A report of a run under any schedule names it, and what belongs to it."""
    training = Training(schedule=schedule, augment="flip")  # type: ignore[arg-type]
    words = dict(provenance.settings(Comparison("made", (0,), {}, training, ())))
    assert words["Schedule"]
    assert words["Augmentation"] == "flip"
    assert ("Drop after" in words) == (schedule == "step")
    assert ("Patience" in words) == (schedule == "plateau")
