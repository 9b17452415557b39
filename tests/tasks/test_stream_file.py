"""A YAML file tells a stream; whatever is wrong in it is one sentence that names the line."""

import re
from pathlib import Path

import pytest
import torch

from everlearn.errors import ConfigurationError, EverlearnError, MissingDataError, UnknownNameError
from everlearn.tasks import make_stream, stream_info
from tests.tasks.made import write_images

TEXT = """
size: 4x3
tasks:
  - name: fruit
    folder: photos/fruit
    shares: [50, 25, 25]
    classes: [pear, apple]
  - name: tools
    train: tools/learn
    test: tools/exam
    classes:
      saw: [handsaw, chainsaw]
      "no": mallet
order: [tools, fruit]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_images(tmp_path / "photos" / "fruit", {"apple": 8, "fig": 8, "pear": 8})
    for number, (split, count) in enumerate((("learn", 8), ("exam", 3))):
        counts = {"handsaw": count, "chainsaw": count, "mallet": count}
        write_images(tmp_path / "tools" / split, counts, first=100 * (number + 1))
    (tmp_path / "stream.yaml").write_text(TEXT)
    return tmp_path / "stream.yaml"


def test_what_the_file_tells_is_made(file: Path) -> None:
    stream = make_stream("folders", 0, None, {"path": str(file)})
    assert stream.image_shape == (3, 4, 3)
    tools, fruit = stream.tasks
    assert (tools.name, tools.classes) == ("tools", ("saw", "no")), "as written: no is a name, not false"
    assert (fruit.name, fruit.classes) == ("fruit", ("pear", "apple"))
    # fruit: 8 a class by 50 / 25 / 25. tools: two merged folders are 16 saws, a quarter of them for validation.
    counts = [[split.labels.bincount().tolist() for split in task.splits().values()] for task in stream.tasks]
    assert counts == [[[12, 6], [4, 2], [6, 3]], [[4, 4], [2, 2], [2, 2]]]


def test_labels_follow_the_files_order(file: Path) -> None:
    plain = file.with_name("plain.yaml")
    text = "standardise: none\ntasks: [{name: f, folder: photos/fruit, classes: [%s]}]"
    plain.write_text(text % "pear, apple")
    one = make_stream("folders", 0, None, {"path": str(plain)}).tasks[0]
    plain.write_text(text % "apple, pear")
    other = make_stream("folders", 0, None, {"path": str(plain)}).tasks[0]
    assert one.train is not None
    assert other.train is not None
    pears = [task.train.images[task.train.labels == label] for task, label in ((one, 0), (other, 1))]
    assert torch.equal(*pears)


def test_the_command_line_wins_and_the_content_counts(file: Path) -> None:
    info = stream_info("folders")
    told = info.resolve({"path": str(file)})
    assert told["size"] == "4x3"
    assert "skip_corrupt" not in told, "options added later are left out where they say nothing"
    assert info.resolve({"path": str(file), "size": "8x8"})["size"] == "8x8"
    assert info.resolve(told) == told
    file.write_text(TEXT + "skip_corrupt: yes\ncache: kept\nper_class: 3\n")
    again = info.resolve({"path": str(file)})
    assert (again["skip_corrupt"], again["per_class"]) == (True, 3)
    assert again["cache"] == str(file.parent / "kept")
    assert again["content"] != told["content"]
    with pytest.raises(ConfigurationError, match=r"stream.yaml was changed since this run began"):
        make_stream("folders", 0, None, told)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("size: 4x3", "sise: 4x3", "line 2) named 'sise'; did you mean size"),
        ("shares: [50, 25, 25]", "shares: [50, much, 25]", "line 6: shares of task 1 is wanted as three numbers"),
        ("shares: [50, 25, 25]", "shares: [50, 25]", "line 6: shares of task 1 is wanted as three numbers"),
        ("shares: [50, 25, 25]", "share: [50]", "line 6) named 'share'; did you mean shares?"),
        ("shares: [50, 25, 25]", "shares: [50, 25, 0]", "line 6: shares of task 1"),
        ("  - name: fruit\n    folder", "  - folder", "line 4: task 1 needs name: text"),
        ("    folder: photos/fruit\n", "", "task 1 wants either folder, or train and test"),
        ("    test: tools/exam\n", "", "task 2 wants either folder, or train and test"),
        ("name: tools", "name: fruit", "the stream wants tasks of different names"),
        ("order: [tools, fruit]", "order: [tools]", "order as each of the tasks' names once (fruit, tools)"),
        ("[pear, apple]", "[pear, pear]", "each class folder once"),
        ('"no": mallet', '"no": handsaw', "line 8: task 2 wants each class folder in one class only"),
        ("[pear, apple]", "3", "line 7: classes of task 1 is wanted as a list of class folders"),
        ("[pear, apple]", "[pear, appel]", "there is no class folder of task 'fruit'"),
        ("photos/fruit", "photos/froot", "photos/froot, which task 'fruit'"),
        ("size: 4x3", "size: big", "size is wanted as height x width"),
        ("size: 4x3", "standardise: some", "standardise of stream 'folders' is one of train, imagenet, none"),
        ("size: 4x3", "grey: perhaps", "line 2: grey of the stream is wanted as true or false, but came as 'perhaps'"),
        ("size: 4x3", "per_class: -1", "line 2: per_class of the stream is wanted as a whole number"),
        ("size: 4x3", "size: 4x3\nsize: 5x5", "line 3: size is said twice"),
        ("size: 4x3", "size: [", "is no valid YAML"),
        (TEXT, "- fruit", "needs names with values"),
        (TEXT, "", "needs names with values"),
        (TEXT, "size: 3", "line 1: the stream needs tasks"),
        (TEXT, "tasks: []", "line 1: tasks of the stream is wanted as a list of tasks"),
        (TEXT, "tasks: [fruit]", "line 1: task 1 is wanted as a name with folders"),
        (TEXT, "tasks: &a [*a]", "deeper than anything"),
    ],
)
def test_mistakes_name_their_line(file: Path, old: str, new: str, said: str) -> None:
    assert old in TEXT
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(EverlearnError, match=re.escape(said)) as caught:
        make_stream("folders", 0, None, {"path": str(file)})
    assert isinstance(caught.value, ConfigurationError | UnknownNameError | MissingDataError)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"there is no file .*none.yaml; path names a folder, or a YAML file"):
        make_stream("folders", 0, None, {"path": str(tmp_path / "none.yaml")})


def test_a_default_that_the_command_line_names_wins_over_the_file_for_good(file: Path) -> None:
    info = stream_info("folders")
    file.write_text(TEXT + "skip_corrupt: yes\nper_class: 3\ncache: kept\n")
    given = {"path": str(file), "per_class": 0, "skip_corrupt": False, "cache": ""}
    once = info.resolve(given)
    assert {name: once[name] for name in given} == given
    assert info.resolve(once) == once, "a run is made again from its record"
    assert [len(make_stream("folders", 0, None, options).tasks[0].train or ()) for options in (given, once)] == [18, 18]
    assert info.resolve({"path": str(file)})["per_class"] == 3
    file.write_text(TEXT)
    assert set(info.resolve(given)) == set(info.resolve({"path": str(file)})), "names of earlier runs stay"


def test_a_cache_in_the_users_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent / "home"))
    file.write_text(TEXT + "cache: ~/kept\n")
    assert stream_info("folders").resolve({"path": str(file)})["cache"] == str(file.parent / "home" / "kept")


@pytest.mark.parametrize("shares", ["[.inf, 1, 1]", "[1, inf, 1]", "[nan, 1, 1]", "[1e308, 1e308, 1e308]"])
def test_shares_that_are_no_numbers(file: Path, shares: str) -> None:
    file.write_text(TEXT.replace("[50, 25, 25]", shares))
    with pytest.raises(ConfigurationError, match="three numbers above 0, for train, validation and test"):
        make_stream("folders", 0, None, {"path": str(file)})


def test_a_folder_of_nobody(file: Path) -> None:
    file.write_text(TEXT.replace("photos/fruit", "~nobody-of-that-name/fruit"))
    with pytest.raises(
        ConfigurationError, match=r"folder of task 'fruit' .* '~nobody-of-that-name' is no user of this"
    ):
        make_stream("folders", 0, None, {"path": str(file)})
