"""What a request may ask for, and how one that asks for more is refused."""

from dataclasses import dataclass, fields
from importlib import import_module

from everlearn.errors import ConfigurationError, EverlearnError

NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        images: of one request.
        bytes: of one request.
        file_bytes: of one image's file.
        pixels: of one image, before it is resized.
        bytes_together: of all requests that are being read and answered.
        seconds: that a request may take to arrive.

    Raises:
        ConfigurationError: one of them is below 1.
    """

    images: int = 64
    bytes: int = 64 * 2**20
    file_bytes: int = 16 * 2**20
    pixels: int = 50_000_000
    bytes_together: int = 512 * 2**20
    seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise ConfigurationError(f"a limit ({field.name}) needs to be at least 1, but came as {value}.")


class Refused(EverlearnError):
    """A request that is not answered as asked.

    Args:
        status: of the HTTP answer.
        reason: one sentence.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def check_installed() -> None:
    """Raise `ConfigurationError` if the libraries of the extra `serve` are missing."""
    for name in NEEDED:
        try:
            import_module(name)
        except ImportError:
            raise ConfigurationError(f"serving needs {name}: pip install everlearn[serve].") from None


def amount(count: int) -> str:
    """A number of bytes for people."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
