"""A learner on disk behind HTTP: predictions, health, metrics, and a page; see docs/how-to/serve.md."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from everlearn.serving.limits import Limits


def app(
    store: str | Path,
    limits: "Limits | None" = None,
    *,
    method: str | None = None,
    backbone: str | None = None,
    device: str = "cpu",
) -> "FastAPI":
    """The application that serves a learner, for any ASGI server.

    Args:
        store: the learner's folder.
        limits: of what a request may ask for.
        method: `file.py:Name`, if the learner's method comes from a file of the user's own.
        backbone: `file.py:Name`, if its backbone does.
        device: where it predicts.

    Raises:
        StoreError: there is no learner, or it is damaged.
        ConfigurationError: the extra `serve` is not installed.
    """
    from everlearn.serving.limits import Limits, check_installed

    check_installed()
    from everlearn.serving.application import application
    from everlearn.serving.current import Current

    return application(Current(Path(store), method, backbone, device), limits or Limits())
