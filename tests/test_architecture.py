"""The rules of the house that a machine can check: see docs/architecture.md."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import everlearn

SRC = Path(everlearn.__file__).parent
FILES = sorted(SRC.rglob("*.py"))

ROOMS = [
    {"errors", "intervals", "metrics", "seeds", "plugins", "stopping"},
    {"tasks"},
    {"sharing"},
    {"networks"},
    {"methods"},
    {"training"},
    {"experiments"},
    {"storing"},
    {"learner"},
    {"report"},
    {"tuning", "tracking", "benching"},
    {"reproducing"},
    {"serving"},
    {"testing", "commands", "learner_commands", "learner_work", "flags"}
    | {"tune_command", "track_command", "bench_command", "reproduce_command"},
    {"cli", "__init__"},
]
"""From the ground up: a module imports from its own room and from those above it in this list."""


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def level(name: str) -> int:
    return next(i for i, rooms in enumerate(ROOMS) if name in rooms)


def module_of(file: Path) -> str:
    return ".".join(("everlearn", *file.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield name if name in MODULES else node.module


MODULES = {module_of(file) for file in FILES}


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_go_down_only(file: Path) -> None:
    here = room(module_of(file))
    if here == "__init__":
        return  # the public names, loaded when they are used
    for name in imports(parsed(file)):
        if name.startswith("everlearn.") and level(room(name)) > level(here):
            # The settings of the loop are plain numbers that records and presets speak of.
            assert name.startswith("everlearn.training.settings"), f"{module_of(file)} imports {name}"


def test_no_import_cycles() -> None:
    modules = {module_of(file): file for file in FILES}
    needs = {
        name: {needed for needed in imports(parsed(file)) if needed in modules and needed != name}
        for name, file in modules.items()
        if name != "everlearn"
    }
    done: set[str] = set()
    while ready := {name for name in needs if name not in done and needs[name] - {"everlearn"} <= done}:
        done |= ready
    assert set(needs) - done == set(), "these import each other"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_files_and_functions_are_small(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 320, "a file is about 300 lines at most"
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.FunctionDef):
            body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 50, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_signatures_and_imports_of_a_library(file: Path) -> None:
    tree = parsed(file)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert node.args.kwarg is None, f"{node.name} takes **{node.args.kwarg}"
    forbidden = {"pickle", "torchvision", "dill", "cloudpickle", "shelve", "marshal"}
    assert not forbidden & {name.split(".")[0] for name in imports(tree)}
    # A user's own state dict is read by the unpickler that makes tensors and nothing else; no other file is.
    loads = re.findall(r"torch\.load\(.*\)", file.read_text())
    assert all("weights_only=True" in load for load in loads)
    assert not loads or file.name == "trained.py"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_inheritance_is_shallow(file: Path) -> None:
    module = importlib.import_module(module_of(file)) if file.name != "worker.py" else None
    for thing in vars(module).values() if module else ():
        if isinstance(thing, type) and thing.__module__ == getattr(module, "__name__", None):
            ours = [base for base in thing.__mro__ if base.__module__.startswith("everlearn")]
            if not issubclass(thing, Exception):
                # Depth 2: a class, the class that it derives from, and the contract that this one fulfils.
                assert len(ours) <= 3, f"{thing.__name__}: {[base.__name__ for base in ours]}"


def test_the_public_names_are_these() -> None:
    assert set(everlearn.__all__) == set(everlearn._HOMES)
    for name in everlearn.__all__:
        assert getattr(everlearn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = everlearn.nonsense


def test_everything_public_has_a_docstring() -> None:
    """What is inherited from a documented method, or belongs to a private class, needs none."""
    missing = []
    for file in FILES:
        tree = parsed(file)
        for node in [tree, *tree.body]:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                name = getattr(node, "name", module_of(file))
                if not name.startswith("_") and not ast.get_docstring(node):
                    missing.append(f"{module_of(file)}: {name}")
                if isinstance(node, ast.ClassDef) and not name.startswith("_"):
                    methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
                    bases = importlib.import_module(module_of(file)).__dict__[name].__mro__[1:]
                    for method in methods:
                        inherited = any(hasattr(base, method.name) for base in bases)
                        if not inherited and not ast.get_docstring(method):
                            missing.append(f"{module_of(file)}: {name}.{method.name}")
    assert missing == []
