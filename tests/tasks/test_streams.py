"""The table of streams: every entry, every option, every misspelling."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from everlearn.errors import ConfigurationError, MissingDataError, UnknownNameError
from everlearn.tasks import STREAMS, Split, Task, TaskStream, Value, fingerprint, make_stream, stream_info


@pytest.mark.parametrize("name", STREAMS)
def test_every_entry_says_what_it_is(name: str) -> None:
    info = stream_info(name)
    assert info.name == name
    for text in (
        info.about,
        info.content,
        info.data,
        info.licence,
        *(option.help for option in info.options.values()),
    ):
        assert text
        assert "\n" not in text
    # Options that came later are left out where they have their defaults, so that earlier runs keep their names.
    plain = {key: option.default for key, option in info.options.items() if not option.quiet}
    assert info.resolve({}) == plain
    for option in info.options.values():
        assert not option.choices or option.default in option.choices


@pytest.mark.parametrize("tasks", ["pairs", "one-against-rest"])
def test_the_outline_is_what_is_built(tasks: str) -> None:
    stream = make_stream("digits", options={"tasks": tasks})
    outline = STREAMS["digits"].outline
    assert outline is not None
    sizes = outline(stream.options)
    assert sizes.classes == tuple(len(task.classes) for task in stream.tasks)
    assert sizes.image_shape == stream.image_shape


def test_an_unknown_stream_names_the_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"^there is no stream named 'digit'; did you mean digits\?$"):
        make_stream("digit")


def test_an_unknown_option_names_the_near_ones() -> None:
    with pytest.raises(
        UnknownNameError,
        match=r"^there is no option of stream 'cifar100' named 'class'; did you mean classes or tasks\?$",
    ):
        make_stream("cifar100", options={"class": "random"})


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "digits",
            {"train": "many"},
            "option train of stream 'digits' is wanted as a whole number, but came as 'many'",
        ),
        ("digits", {"train": 2.5}, "wanted as a whole number, but came as 2.5"),
        ("digits", {"train": True}, "wanted as a whole number, but came as True"),
        (
            "digits",
            {"tasks": "trios"},
            "option tasks .* is one of pairs, one-against-rest, but came as 'trios'",
        ),
        ("digits", {"tasks": False}, "wanted as text, but came as False"),
        ("cifar100", {"fraction": "all"}, "wanted as a number, but came as 'all'"),
        ("cifar100", {"fraction": True}, "wanted as a number, but came as True"),
        ("folders", {"grey": "maybe"}, "wanted as true or false, but came as 'maybe'"),
    ],
)
def test_values_of_the_wrong_kind(name: str, options: dict[str, Value], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make_stream(name, options=options)


def test_words_are_read_as_the_options_type() -> None:
    assert STREAMS["digits"].resolve({"train": "40"}) == {"tasks": "pairs", "train": 40}
    assert STREAMS["digits"].resolve({"train": 40.0})["train"] == 40
    assert STREAMS["cifar100"].resolve({"fraction": "0.1"})["fraction"] == 0.1
    assert STREAMS["cifar100"].resolve({"fraction": 1})["fraction"] == 1.0
    folders = STREAMS["folders"].resolve({"grey": "Yes", "size": 32})
    assert (folders["grey"], folders["size"]) == (True, "32")
    assert STREAMS["folders"].resolve({"grey": "false"})["grey"] is False
    assert make_stream("digits", options={"train": "40"}).options == {"tasks": "pairs", "train": 40}


def test_the_data_folder_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLEARN_DATA", str(tmp_path / "named"))
    with pytest.raises(MissingDataError, match=f"there is no folder {tmp_path}/named"):
        make_stream("cifar100")
    with pytest.raises(MissingDataError, match=f"neither {tmp_path}/cifar100 nor {tmp_path} holds"):
        make_stream("cifar100", data=tmp_path)


def tiny(
    pixel: float = 0.5, label: int = 1, name: str = "t", classes: tuple[str, str] = ("a", "b"), seed: int = 0
) -> TaskStream:
    images = torch.zeros(2, 1, 1, 2)
    images[1, 0, 0, 1] = pixel
    split = Split(images, torch.tensor([0, label]))
    return TaskStream("s", seed, (Task(name, classes, split, split, split),), {"seen": seed})


def test_a_fingerprint_is_a_sha256_of_all_that_is_learned() -> None:
    # [0, 0, 0, 0.5] as little-endian float32, [0, 1] as little-endian int64, three times.
    split = b"(2, 1, 1, 2)" + bytes(12) + b"\0\0\0\x3f" + bytes(8) + b"\1" + bytes(7)
    assert fingerprint(tiny()) == hashlib.sha256(b"('t', ('a', 'b'))" + 3 * split).hexdigest()


def test_a_fingerprint_sees_images_labels_and_names_and_nothing_else() -> None:
    same = fingerprint(tiny())
    assert fingerprint(tiny(seed=7)) == same
    others = [tiny(pixel=0.25), tiny(label=0), tiny(name="u"), tiny(classes=("a", "c"))]
    assert len({same, *map(fingerprint, others)}) == 5


def test_a_fingerprint_does_not_depend_on_memory_layout() -> None:
    images = torch.rand(2, 3, 4, 5)
    labels = torch.tensor([0, 1])

    def of(laid_out: torch.Tensor) -> str:
        split = Split(laid_out, labels)
        return fingerprint(TaskStream("s", 0, (Task("t", ("a", "b"), split, split, split),)))

    assert of(images) == of(images.to(memory_format=torch.channels_last))


def test_importing_tasks_imports_no_slow_library() -> None:
    code = "import sys, everlearn.tasks; print([m for m in ('datasets', 'sklearn', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
