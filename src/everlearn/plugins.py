"""Names that point into a user's own file: `path/to/file.py:Name`."""

import hashlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

from everlearn.errors import ConfigurationError, UnknownNameError


def is_plugin(name: str) -> bool:
    """Whether a name points into a file."""
    return ".py:" in name or name.endswith(".py")


def fingerprint_of(name: str) -> str:
    """A hash of the content of the file that a name points into, so that a changed file is a new run."""
    return hashlib.sha256(_path(name).read_bytes()).hexdigest()[:16]


def load_plugin(kind: str, name: str) -> object:
    """What the file defines under the name.

    Args:
        kind: what it should be, in the singular ("method"); for errors.
        name: `path/to/file.py:Name`.

    Raises:
        ConfigurationError: there is no such file, or it cannot be imported.
        UnknownNameError: the file does not define the name.
    """
    path, wanted = _path(name), name.rpartition(":")[2]
    module_name = f"everlearn_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path, loader=_AsItIs(module_name, str(path)))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        raise ConfigurationError(
            f'{path} cannot be imported: it ends the program (sys.exit); put that under if __name__ == "__main__".'
        ) from error
    except Exception as error:
        said = f"{path} cannot be imported: {type(error).__name__}: {error}.{_of_a_neighbour(path, error)}"
        raise ConfigurationError(said) from error
    if not hasattr(module, wanted):
        own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module_name}
        public = [key for key in own if not key.startswith("_")]  # not what the file imports
        raise UnknownNameError(f"{kind} in {path}", wanted, public)
    return getattr(module, wanted)


class _AsItIs(SourceFileLoader):
    """Runs the file's text, which is what the hash is of.

    Python would take compiled code that it has kept for a file of that size and of that second: of a file that was
    changed twice in a second, as an editor or a script may, the one before.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _of_a_neighbour(path: Path, error: Exception) -> str:
    """What to do where a file wants the one beside it, which Python would find if it ran the file as a script."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    first = error.name
    neighbour = next((one for one in (path.with_name(f"{first}.py"), path.with_name(first)) if one.exists()), None)
    if neighbour is None:
        return ""
    return (
        f" {neighbour.name} lies beside it, but is not looked for: a run is told by the content of one file. Put all "
        f"that it needs into {path.name}, or make {first} a package and install it (pip install -e)."
    )


def _path(name: str) -> Path:
    text = name.rpartition(":")[0]
    if name.endswith(".py"):
        raise ConfigurationError(f"{name} names a file, but nothing in it; write {name}:Name, as the file calls it.")
    try:
        path = Path(text).expanduser()
        there = path.is_file()
    except (RuntimeError, OSError) as error:  # no such user, or a name that no file can have
        raise ConfigurationError(f"{text!r:.80} is no path of a file here ({error}); write its whole path.") from error
    if not there:
        raise ConfigurationError(f"there is no file {path}; a name with '.py:' needs a file and a name in it.")
    return path
