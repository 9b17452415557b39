"""Paths as people write them."""

from pathlib import Path

from everlearn.errors import ConfigurationError


def path_of(text: str, what: str) -> Path:
    """The path, with `~` read as the user's folder.

    Args:
        text: as it was written.
        what: how an error names it ("the option path").

    Raises:
        ConfigurationError: no file or folder can be called so, or there is no such user.
    """
    try:
        path = Path(text).expanduser()
        # Whether anything lies there does not matter here, but the question finds names that none can have.
        path.is_file()
    except RuntimeError as error:
        user = text.partition("/")[0]
        raise ConfigurationError(
            f"{what} is wanted as a path, but {user!r} is no user of this machine; write the folder's whole path."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{what} is wanted as a path, but {text!r:.80} cannot be one here ({error.strerror})."
        ) from error
    if "\0" in text:
        raise ConfigurationError(f"{what} is wanted as a path, but {text!r:.80} is none, as it holds a zero byte.")
    return path


def folder_name(folder: Path) -> str:
    """A folder's own name: of a link not its target's, and of "." or ".." the name of what it stands for."""
    return folder.resolve().name if folder.name in ("", "..") else folder.name
