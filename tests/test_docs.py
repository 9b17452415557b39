"""The documentation leads somewhere, leaves nothing out, and its examples run.

Conventions of the pages: a ```python, ```toml or ```yaml block whose first line is a comment that names a file
(`# mine.py`) is that file; the other ```python blocks of the README, the tour and the how-to pages run in their order,
each page in a folder of its own; every line of a ```sh block that begins with `everlearn` is a command that is
understood, with streams, methods, settings and options that exist.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from everlearn.cli import app
from everlearn.commands import merge, read_config
from everlearn.experiments.plan import settings, with_changes
from everlearn.experiments.presets import preset_of
from everlearn.methods.catalogue import METHODS, make_method, option_names
from everlearn.networks.configurations import configurations_of_tasks
from everlearn.networks.papers import BACKBONES, CONV_NETS
from everlearn.reproducing.planning import Cut
from everlearn.reproducing.published import published
from everlearn.sharing import RULES
from everlearn.tasks import STREAMS, stream_info, stream_of, stream_outline
from everlearn.training.settings import Training

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
METHOD_PAGES = sorted((DOCS / "methods").glob("*.md"))
RUN = [ROOT / "README.md", DOCS / "tour.md", *sorted((DOCS / "how-to").glob("*.md"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS: dict[str, typer.core.TyperCommand] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.M | re.S)
    return [text for language, text in found if language in languages]


def file_name(block: str) -> str | None:
    named = re.match(r"# ([\w./-]+\.(?:py|toml|yaml))\n", block)
    return named[1] if named else None


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def commands(page: Path) -> list[str]:
    lines = "\n".join(blocks(page, "sh")).splitlines()
    inline = re.findall(r"`(everlearn (?:run|report|methods|streams|reproduce)[^`]*)`", prose(page))
    return [line.partition(" #")[0].strip() for line in lines if line.startswith("everlearn")] + inline


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# ---------------------------------------------------------------- links and completeness


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if path:
            assert file.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(file), f"{target}: no such heading; there are {sorted(anchors(file))}"


def test_the_index_names_every_page() -> None:
    index = (DOCS / "index.md").read_text()
    for page in DOCS.rglob("*.md"):
        if page.name != "index.md":
            assert f"({page.relative_to(DOCS)})" in index


def test_every_method_is_documented() -> None:
    catalogue = (DOCS / "methods" / "catalogue.md").read_text()
    others = "".join(page.read_text() for page in METHOD_PAGES if page.name != "catalogue.md")
    for name in METHODS:
        assert f"| `{name}` |" in catalogue
        assert f"`{name}`" in others
    written = re.findall(r"^\| `([^`@]+)` \| `", catalogue, re.M)
    assert set(written) - {"file.py:Name"} <= set(METHODS) | all_options(), "the catalogue names what does not exist"


def all_options() -> set[str]:
    return {option for name in METHODS for option in option_names(make_method(name, "cifar", 10, {}))}


def test_every_option_of_a_method_is_documented() -> None:
    catalogue = (DOCS / "methods" / "catalogue.md").read_text()
    # A configuration comes after an @; the others are what makes a method of the table that method.
    for option in all_options() - {"configuration", "shared_head", "tasks"}:
        assert f"| `{option}` |" in catalogue


def test_every_file_of_a_method_has_its_page() -> None:
    import everlearn

    folder = Path(everlearn.__file__).parent / "methods"
    for file in folder.glob("*.py"):
        if file.stem not in ("__init__", "base"):
            assert (DOCS / "methods" / f"{file.stem.replace('_', '-')}.md").exists()


def test_every_setting_stream_rule_and_backbone_is_documented() -> None:
    table = (DOCS / "settings.md").read_text()
    plain = Training()
    for field in fields(Training):
        value = getattr(plain, field.name)
        row = re.search(rf"^\| `{field.name}` \| (?:`?([^|`]+?)`? )?\|", table, re.M)
        assert row, f"no row for {field.name}"
        text = row[1] or ""
        shown = eval(text) if re.fullmatch(r"[\d./]+", text) else text  # numbers, and 1/4000
        assert shown == value, f"the default of {field.name} is {value}"
    for name, info in STREAMS.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}`:"))
        for option in info.options.values():
            assert all(f"`{choice}`" in row for choice in option.choices)
        assert all(f"`{option}`" in row for option in info.options)
    for name in BACKBONES:
        base = name.removesuffix("-large").removesuffix("-reduced")
        assert f"`{base}`" in table
        assert base not in CONV_NETS or CONV_NETS.keys() >= {f"{base}-large", f"{base}-reduced"}
    pages = "".join(page.read_text() for page in METHOD_PAGES)
    assert all(f"`{rule}`" in pages for rule in RULES)


def test_every_flag_is_documented() -> None:
    table = (DOCS / "settings.md").read_text()
    for parameter in COMMANDS["run"].params:
        flag = parameter.opts[0]
        if flag != "--help":
            assert f"`{flag}" in table, flag


# ---------------------------------------------------------------- commands


def understand(words: list[str], page: Path) -> None:
    """Parse a command as the program does, and look up every name in it; nothing is run."""
    given = COMMANDS[words[0]].make_context(words[0], words[1:]).params
    if words[0] == "methods":
        assert given["stream"] is None or given["stream"] in STREAMS
    if words[0] == "reproduce":
        understand_items(given, page)
    if words[0] != "run":
        return
    flags = {name: value for name, value in given.items() if name not in ("settings", "config")}
    flags: dict[str, object] = {n: list(v) if isinstance(v, tuple) else v for n, v in flags.items()}
    flags["training"] = list(given["settings"] or ())
    asked = merge(configuration(given["config"], page), flags | no_value(flags))
    if asked.get("stream") is None:
        assert words == ["run"] or "--help" in words
        return
    stream, options = stream_of(asked["stream"], asked.get("stream_options", {}))
    preset = preset_of(stream)
    stream_info(stream).resolve(options)
    settings(preset.training, asked.get("training", {}))
    backbone = asked.get("backbone") or preset.backbone
    assert ".py:" in backbone or backbone.startswith("timm:") or backbone in BACKBONES
    known: set[str] = set()
    for text in asked.get("methods") or ():
        name, changes = with_changes(text)
        if ".py:" in name:
            assert name.partition(":")[0] in {file_name(block) for block in blocks(page, "python")} | {"file.py"}
            known |= set(asked.get("options", {}))
        else:
            method = make_method(name, backbone, 10, {**asked.get("options", {}), **changes})
            known |= set(option_names(method))
            assert set(changes) <= set(option_names(method))
            understand_configuration(name, backbone, stream)
    assert set(asked.get("options", {})) <= known


def understand_items(given: dict[str, Any], page: Path) -> None:
    file = given["published"]
    own = next((yaml.safe_load(b)["items"] for b in blocks(page, "yaml") if file_name(b) == str(file)), {})
    known = {**published().items, **own}
    assert set(given["items"] or ()) <= set(known)
    for name in given["items"] or ():
        cut = Cut(methods=tuple((given["methods"] or "").split(",")) if given["methods"] else ())
        assert name in own or cut.rows(known[name])


def understand_configuration(method: str, backbone: str, stream: str) -> None:
    configuration = method.partition("@")[2]
    if configuration and backbone in CONV_NETS:
        tasks = len(stream_outline(stream).classes) if stream_info(stream).outline else 1
        net = CONV_NETS[backbone]
        configurations_of_tasks(configuration, len(net.channels) + net.shared, tasks)


def no_value(flags: dict[str, object]) -> dict[str, None]:
    return {name: None for name, value in flags.items() if value in ([], (), None)}


def configuration(path: Path | None, page: Path) -> dict[str, object]:
    if path is None:
        return {}
    return tomllib.loads(next(block for block in blocks(page, "toml") if file_name(block) == str(path)))


@by_page
def test_commands_are_understood(page: Path) -> None:
    for line in commands(page):
        if "..." in line or "STREAM" in line:
            continue
        words = shlex.split(line)[1:]
        try:
            understand([word for word in words if word != "--help"], page)
        except Exception as error:
            pytest.fail(f"{line}: {type(error).__name__}: {error}")


def test_the_makefile_has_what_the_pages_call() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        called = re.findall(r"\bmake (\w+)", "\n".join(blocks(page, "sh")))
        assert set(called) <= targets


# ---------------------------------------------------------------- examples


@by_page
def test_examples_are_valid(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page, "python"), start=1):
        compile(block, f"{page.name}, example {number}", "exec")
    for block in blocks(page, "toml", "yaml"):
        file = tmp_path / (file_name(block) or "example.toml")
        file.write_text(block)
        assert read_config(file)


QUICK = """
import json, os, sys, traceback
from pathlib import Path
import everlearn
from everlearn.experiments.run import run

def quick(stream, methods=(), **how):
    how["training"] = {**(how.get("training") or {}), "epochs": 1}
    return run(stream, methods, **{**how, "trials": 1, "workers": 0, "quiet": True})

everlearn.run = quick
outcome = {}
for name, page in json.load(sys.stdin).items():
    folder = Path(name.replace("/", "_"))
    folder.mkdir()
    os.chdir(folder)
    sys.path.insert(0, os.getcwd())
    names = {"__name__": "example"}
    outcome[name] = ""
    try:
        for file, text in page["files"].items():
            Path(file).write_text(text)
        for text in page["blocks"]:
            exec(compile(text, name, "exec"), names)
        for options in page["runs"]:
            quick(**options)
    except BaseException:
        outcome[name] = traceback.format_exc()
    sys.path.pop(0)
    os.chdir("..")
print("OUTCOME", json.dumps(outcome))
"""
"""Runs all pages in one process, each in a folder of its own, with a single epoch and trial."""


def own_runs(page: Path) -> list[dict[str, object]]:
    """What the page's commands ask of `everlearn.run`, where they name a file of the page."""
    found = []
    for line in commands(page):
        given = COMMANDS["run"].make_context("run", shlex.split(line)[2:]).params if " run " in line else {}
        names = f"{given.get('methods')},{given.get('backbone')}"
        if ".py:" in names and "file.py" not in names:
            options = dict(pair.split("=") for pair in given["options"] or ())
            methods = given["methods"].split(",")
            one = {"methods": methods, "backbone": given["backbone"], "options": options, "runs": "commands"}
            found.append({"stream": given["stream"], **one})
    return found


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pages = {}
    for page in RUN:
        python = blocks(page, "python")
        pages[str(page.relative_to(ROOT))] = {
            "files": {name: block for block in python if (name := file_name(block))},
            "blocks": [block for block in python if not file_name(block)],
            "runs": own_runs(page),
        }
    process = subprocess.run(
        [sys.executable, "-c", QUICK],
        input=json.dumps(pages),
        cwd=tmp_path_factory.mktemp("docs"),
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    last = process.stdout.splitlines()[-1]
    return json.loads(last.removeprefix("OUTCOME "))


@pytest.mark.slow
@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in RUN])
def test_examples_run(page: str, outcome: dict[str, str]) -> None:
    assert not outcome[page], outcome[page]


def test_there_are_examples() -> None:
    """The patterns above find what they are meant to find."""
    assert sum(len(blocks(page, "python")) for page in RUN) > 15
    assert sum(len(commands(page)) for page in PAGES) > 25
    assert len([line for page in RUN for line in own_runs(page)]) >= 4
