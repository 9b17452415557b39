"""The command line: what it answers to mistakes, and that a whole experiment runs from it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from everlearn.methods.catalogue import METHODS
from everlearn.tasks import stream_of
from tests.command_line import CommandLine

ROOT = Path(__file__).parent.parent


def everlearn(*words: str, cwd: Path, data: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "EVERLEARN_DATA"} | ({"EVERLEARN_DATA": data} if data else {})
    env |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    command = [sys.executable, "-m", "everlearn.cli", *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path / "work", monkeypatch, capsys)


def holds(said: str, parts: Sequence[str]) -> None:
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run", "digit"], ["no stream named 'digit'", "did you mean digits"]),
        (["run"], ["name a stream"]),
        (["run", "digits", "--methods", "dfcnn"], ["no method named 'dfcnn'", "df-cnn"]),
        (["run", "digits", "--methods", "stl,hps@tops-2"], ["no configuration named 'tops-2'"]),
        (["run", "digits", "--methods", "hps@top-9"], ["from 1 to 3"]),
        (["run", "digits", "--methods", "hps@01"], ["the backbone has 3"]),
        (["run", "digits", "--methods", "hps@all/none"], ["2 configurations, but there are 5 tasks"]),
        (["run", "digits", "--methods", "dmtrl-from-stl@all"], ["has no configuration"]),
        (["run", "digits", "--methods", "mine.py:Mine"], ["there is no file mine.py"]),
        (["run", "digits", "--backbone", "cifr"], ["no backbone named 'cifr'", "did you mean cifar"]),
        (["run", "digits", "--trials", "0"], ["at least one trial"]),
        (["run", "digits", "--epochs", "0"], ["epochs needs a whole number of at least 1"]),
        (["run", "digits", "--rate", "-1"], ["rate needs a number above 0"]),
        (["run", "digits", "--protocol", "both"], ["no protocol named 'both'", "lifelong"]),
        (["run", "digits", "--set", "optimizer=adam"], ["training setting", "optimiser"]),
        (["run", "digits", "--methods", "stl", "--option", "foo=1"], ["option of these methods", "there are none."]),
        (["run", "digits", "--set", "optimiser=adamm"], ["adam"]),
        (["run", "digits", "--set", "momentum=much"], ["momentum needs a number", "much"]),
        (["run", "digits", "--set", "momentum"], ["NAME=VALUE", "momentum"]),
        (["run", "digits", "--methods", "mine.py"], ["mine.py names a file, but nothing in it; write mine.py:Name"]),
        (
            ["run", "digits", "--set", "optimiser=sgd", "--set", "momentum=1"],
            ["momentum needs a number from 0 to below"],
        ),
        (["run", "digits", "--option", "orthogonal=1"], ["orthogonality"]),
        (["run", "digits", "--methods", "tf", "--option", "orthogonality=x"], ["needs a number"]),
        (["run", "digits", "--stream-option", "task=pairs"], ["tasks"]),
        (["run", "digits", "--device", "cuda:7"], ["cuda:7"]),
        (["run", "digits", "--device", "gpu"], ["gpu"]),
        (["run", "digits", "--workers", "-1"], ["workers"]),
        (["run", "digits", "--checkpoint-seconds", "nan"], ["checkpoint_seconds needs a number", "nan"]),
        (["run", "digits", "--checkpoint-seconds", "-1"], ["checkpoint_seconds needs a number of at least 0", "-1"]),
        (["run", "digits", "--report", ""], ["--report needs a file or a folder, but came empty"]),
        (["run", "digits", "--runs", "file://"], ["file:// names no folder", "file:///home/me/runs"]),
        (["run", "digits", "--runs", "memory://"], ["memory:// is of one process"]),
        (["run", "digits", "--ray", ""], ["HOST:PORT or auto, but came empty"]),
        (["run", "digits", "--cores-per-run", "2"], ["cores_per_run is of a Ray cluster"]),
        (["run", "digits", "--gpus-per-run", "0.5"], ["gpus_per_run is of a Ray cluster"]),
        (["run", "digits", "--config", "none.toml"], ["none.toml cannot be read"]),
        (["run", "cifar100", "--data", "."], ["cifar100"]),
        (["report", "nothing"], ["there is no folder nothing"]),
        (["report", "."], ["at least one finished run"]),
        (["methods", "--stream", "cifar"], ["did you mean cifar10 or cifar100"]),
        (["streams", "digit"], ["no stream named 'digit'", "did you mean digits"]),
        (["streams", "--sheet", "a.png"], ["name the stream that is to be shown"]),
        (["streams", "digits", "--sheet", "a.jpg"], ["a picture in PNG", "a.png"]),
        (["streams", "digits", "--stream-option", "train=many"], ["train", "a whole number", "many"]),
        (["streams", "cifar100", "--data", ".", "--sheet", "a.png"], ["the set cifar100 is missing"]),
        (["streams", "mine.yaml"], ["there is no file mine.yaml"]),
        (["run", "mine.yaml"], ["there is no file mine.yaml"]),
    ],
)
def test_mistakes_are_answered_in_one_sentence_and_leave_nothing(
    here: CommandLine, tmp_path: Path, words: list[str], parts: list[str]
) -> None:
    holds(here.refuses(*words), parts)
    assert list((tmp_path / "work").iterdir()) == []


def folder_of_images(root: Path, classes: int = 2, size: tuple[int, int] = (8, 8)) -> Path:
    for task in ("first", "second"):
        for c in range(classes):
            (root / task / f"class{c}").mkdir(parents=True)
            for i in range(10):
                Image.new("RGB", size, (60 * c, 10 * i, 30)).save(root / task / f"class{c}" / f"{i}.png")
    return root


def test_image_folders_that_cannot_be_learned_from(here: CommandLine, tmp_path: Path) -> None:
    def refused(path: Path, *parts: str) -> None:
        holds(here.refuses("run", "folders", "--stream-option", f"path={path}", "--methods", "stl"), parts)

    refused(tmp_path / "none", "none")
    refused(folder_of_images(tmp_path / "one", classes=1), "one", "class")
    empty = folder_of_images(tmp_path / "empty")
    (empty / "first" / "class0" / "3.png").write_bytes(b"")
    refused(empty, "3.png")
    broken = folder_of_images(tmp_path / "broken")
    (broken / "first" / "class0" / "3.png").write_bytes(b"no image")
    refused(broken, "3.png")
    differing = folder_of_images(tmp_path / "differing")
    Image.new("RGB", (9, 8)).save(differing / "first" / "class0" / "3.png")
    refused(differing, "size")
    assert list((tmp_path / "work").iterdir()) == []


def test_a_kernel_that_the_deconvolution_cannot_make(here: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom everlearn import Backbone\n"
        "def even(shape):\n    return Backbone.of([nn.Conv2d(shape[0], 4, 4)], 4 * 25)\n"
    )
    words = ["run", "digits", "--methods", "df-cnn", "--backbone", f"{tmp_path / 'net.py'}:even"]
    holds(here.refuses(*words), ["layer 1, a 4x4 convolution", "odd"])
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.slow
def test_an_experiment_from_a_file_then_again_then_its_report(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from everlearn import StaticTransfer\nfrom everlearn.sharing.hard import Hard\n"
        "def Mine(setting):\n    return StaticTransfer(Hard(), 'bottom-1')\n"
    )
    (tmp_path / "experiment.toml").write_text(
        'stream = "digits"\nmethods = ["stl", "mine.py:Mine"]\ntrials = 2\nruns = "out"\nepochs = 1\n'
        "[training]\nbatch = 5\n[stream_options]\ntrain = 10\n"
    )
    first = everlearn("run", "--config", "experiment.toml", "--epochs", "2", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stderr == "", "quiet where there is no terminal"
    assert "stl" in first.stdout
    assert "mine.py:Mine" in first.stdout
    assert str(Path("out") / "report.html") in first.stdout
    runs = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("run.json")]
    assert len(runs) == 4
    assert {r["config"]["training"]["epochs"] for r in runs} == {2}, "flags win over the file"
    assert {r["config"]["training"]["batch"] for r in runs} == {5}
    assert {r["config"]["stream"]["options"]["train"] for r in runs} == {10}
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("result.json")}
    again = everlearn("run", "--config", "experiment.toml", "--epochs", "2", cwd=tmp_path)
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written, "finished runs are not done again"
    report = everlearn("report", "out", "--out", "page.html", "--csv", "table.csv", "--wide", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "<html" in (tmp_path / "page.html").read_text()
    assert "stl" in (tmp_path / "table.csv").read_text()
    newer = next((tmp_path / "out").rglob("run.json"))
    newer.write_text(newer.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    refused = everlearn("report", "out", cwd=tmp_path)
    assert refused.returncode == 2
    assert "newer everlearn" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "trials: three",
            "trials should be a valid integer, unable to parse string as an integer, but came as 'three'",
        ),
        ("stream: [digits]", "stream should be a valid string, but came as ['digits']"),
        ("methods: {a: 1}", "methods should be an instance of sequence"),
        ("workers: 1.5", "workers should be a valid integer"),
        ("same_stream: maybe", "same_stream should be a valid boolean"),
        ("epochs: [2]", "training needs one value of epochs, but came as [2]"),
        ("options: 3", "options needs names with values, but came as 3"),
        ("first: [1]", "first needs names with values, but came as [1]"),
        ("sweep: {train: {a: 1}}", "sweep needs one value of train"),
        ("report: [1]", "report should be a valid string"),
        ("track: 3", "track should be a valid string"),
        (
            "training: {epochs: 2}",
            "epochs came as 1 and, with --set (training in a file), as 2; leave out one of the two",
        ),
        ("epochs: .inf", "epochs needs a whole number, but came as inf"),
        ("rate: yes", "rate needs a number, but came as True"),
        ("trials: yes", "trials should be a number, but came as True"),
        ("training: {1: 2}", "training needs names that are text, but one came as 1; put it in quotes"),
        ("options: {no: 3}", "options needs names that are text, but one came as False"),
        ("1: 2", "wrong.yaml needs names that are text, but one came as 1"),
        ("data: 2020-13-45", "wrong.yaml is no valid YAML: month must be in 1..12"),
        ("data: 2020-12-31", "data should be"),
        ("data: !!bool x", "wrong.yaml is no valid YAML"),
        ("data: !!timestamp x", "wrong.yaml is no valid YAML"),
        ("report: ''", "--report needs a file or a folder, but came empty"),
        ("checkpoint_seconds: .nan", "checkpoint_seconds needs a number of at least 0, but came as nan"),
    ],
)
def test_values_of_another_type_in_a_config_file(here: CommandLine, line: str, said: str) -> None:
    name = line.partition(":")[0]
    plain = "".join(f"{key}: {value}\n" for key, value in (("stream", "digits"), ("epochs", 1)) if key != name)
    (here.folder / "wrong.yaml").write_text(plain + line + "\n")
    holds(here.refuses("run", "--config", "wrong.yaml"), [said])
    assert not (here.folder / "runs").exists()


def test_text_in_a_config_file_is_read_as_what_it_says(here: CommandLine) -> None:
    (here.folder / "text.yaml").write_text("stream: digits\nmethods: stl\ntrials: '1'\nworkers: '0'\nepochs: '1'\n")
    here.says("run", "--config", "text.yaml")
    assert len(list((here.folder / "runs").rglob("result.json"))) == 1


def test_config_files_that_say_nothing_sensible(here: CommandLine, tmp_path: Path) -> None:
    for name, text, part in [
        ("a.toml", "stream = ", "no valid TOML"),
        ("a.yaml", "stream: [", "no valid YAML"),
        ("b.yaml", "- digits", "needs names with values"),
        ("c.yaml", "stream: digits\nmethod: stl\n", "did you mean methods"),
    ]:
        (tmp_path / name).write_text(text)
        holds(here.refuses("run", "--config", str(tmp_path / name)), [part])


@pytest.mark.parametrize(
    ("flag", "values", "said"),
    [
        ("--set", ("batch=5", "batch=7"), "--set came with batch=5 and batch=7; leave out one of the two"),
        ("--stream-option", ("train=5", "train=7"), "--stream-option came with train=5 and train=7"),
        ("--sweep", ("train=10", "train=20"), "--sweep came with train=10 and train=20; give all values in one"),
    ],
)
def test_a_name_that_comes_twice_is_refused(here: CommandLine, flag: str, values: tuple[str, str], said: str) -> None:
    words = [word for value in values for word in (flag, value)]
    holds(here.refuses("run", "digits", "--methods", "hps", *words), [said])
    assert not (here.folder / "runs").exists()


def test_a_warning_of_a_stream_that_is_made_twice_is_printed_once(tmp_path: Path) -> None:
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        folder = tmp_path / "photos" / "one" / name
        folder.mkdir(parents=True)
        for n in range(12):
            Image.new("RGB", (16, 16), (*colour[:1], n, *colour[2:])).save(folder / f"{n}.png")
    (folder / "bad.png").write_bytes(b"no image")
    words = ("size=16x16", "skip_corrupt=true", "path=photos")
    options = [part for word in words for part in ("--stream-option", word)]
    done = everlearn(
        "run", "folders", *options, "--methods", "hps", "--trials", "1", "--epochs", "1", "--workers", "0", cwd=tmp_path
    )
    assert (done.returncode, done.stderr.count("bad.png")) == (0, 1)


def test_lists_and_counts(here: CommandLine, tmp_path: Path) -> None:
    assert "df-cnn.tc2" in here.says("methods")
    counts = here.says("methods", "--stream", "cifar100")
    for number in ("3,284,260", "9,345,860", "2,694,148", "7,963,252", "2,995,168"):
        assert number in counts
    streams = here.says("streams")
    assert "cifar100" in streams
    assert "Krizhevsky" in streams
    usage = everlearn("run", "--nonsense", cwd=tmp_path)
    assert usage.returncode == 2
    assert "--nonsense" in usage.stderr


def shown(here: CommandLine, *words: str) -> str:
    """What `everlearn streams ...` prints, its lines joined."""
    return " ".join(here.says("streams", *words).split())


def test_a_stream_is_shown_with_its_tasks_and_drawn(here: CommandLine, tmp_path: Path) -> None:
    said = shown(here, "digits", "--stream-option", "train=10", "--sheet", "d.png")
    for part in (
        "comes with scikit-learn", "CC BY 4.0", "train=10", "default 40", "8 x 8 pixels, grey",
        "2 2-vs-3 2: 2, 3 10 72 144 5", "The sheet is d.png",
    ):  # fmt: skip
        assert part in said
    with Image.open(tmp_path / "work" / "d.png") as sheet:
        assert sheet.format == "PNG"


def test_of_a_stream_that_is_missing_here_is_said_what_is_known_and_what_to_do(here: CommandLine) -> None:
    said = shown(here, "cifar100", "--data", ".")
    assert "32 x 32 pixels, colour" in said
    assert "10 10" in said
    assert "Not on this machine: the set cifar100 is missing: neither" in said
    assert "--data DIR" in said
    assert "path=DIR" in shown(here, "folders")


def test_a_file_of_tasks_is_shown_and_run_by_its_name(here: CommandLine, tmp_path: Path) -> None:
    folder_of_images(tmp_path / "work" / "photos")
    (tmp_path / "work" / "mine.yaml").write_text(
        "tasks:\n- {name: b, folder: photos/second}\n- {name: a, folder: photos/first}\n"
    )
    said = shown(here, "mine.yaml")
    assert "1 b 2: class0, class1 12 4 4 6" in said
    assert "content" not in said
    assert "1 first 2: class0, class1" in shown(here, "./photos")
    assert stream_of("mine.yaml", {"size": "8"}) == ("folders", {"path": "mine.yaml", "size": "8"})
    assert stream_of("./photos", {}) == ("folders", {"path": "./photos"})
    assert stream_of("digits", {}) == ("digits", {})


def test_networks_without_variants_are_counted_too(here: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everlearn.commands.METHODS", {name: METHODS[name] for name in ("stl", "stl-large", "hps")})
    listed = here.says("methods", "--stream", "cifar100", "--backbone", "cifar-large")
    assert "9,345,860" in listed
    assert "stl-large" not in listed


@pytest.mark.parametrize(
    ("stream", "unfit", "said"),
    [
        ("pacs", "snn", "one head for all tasks needs tasks of equally many classes"),
        ("permuted-mnist", "df-cnn", "deconvolution makes the filters of convolutions"),
    ],
)
def test_a_method_that_does_not_suit_the_stream_is_listed_without_counts(
    here: CommandLine, monkeypatch: pytest.MonkeyPatch, stream: str, unfit: str, said: str
) -> None:
    monkeypatch.setattr("everlearn.commands.METHODS", {name: METHODS[name] for name in ("hps", unfit, "ewc")})
    listed = here.says("methods", "--stream", stream)
    rows = {words[0]: words[1:] for line in listed.splitlines() if (words := line.split())}
    assert rows[unfit] == ["-"] * 4
    assert rows["hps"] == rows["ewc"], "those before and after it are counted"
    assert f"{unfit}: {said}" in " ".join(listed.split())
