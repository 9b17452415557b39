"""Names that point into a user's own file: `path/to/file.py:Name`."""

import hashlib
import importlib.util
import sys
from pathlib import Path

from everlearn.errors import ConfigurationError, UnknownNameError


def is_plugin(name: str) -> bool:
    """Whether a name points into a file."""
    return ".py:" in name


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
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigurationError(f"{path} cannot be imported: {type(error).__name__}: {error}.") from error
    if not hasattr(module, wanted):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UnknownNameError(f"{kind} in {path}", wanted, public)
    return getattr(module, wanted)


def _path(name: str) -> Path:
    path = Path(name.rpartition(":")[0]).expanduser()
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}; a name with '.py:' needs a file and a name in it.")
    return path
