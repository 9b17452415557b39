"""Where MLflow may be, and whether anybody listens there: MLflow itself tries for minutes before it says so."""

import socket
from importlib.metadata import entry_points
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from everlearn.errors import ConfigurationError, StoreError

_SERVERS = {"http": 80, "https": 443}
"""With the port where none is named."""
_OTHERS = {"", "file", "sqlite", "postgresql", "mysql", "mssql", "databricks", "databricks-uc", "uc"}
_SECONDS = 5.0


def check_uri(uri: str) -> None:
    """Raise `ConfigurationError` for what is no URI of MLflow's, or of a plugin of it."""
    split = urlsplit(uri)
    kind = split.scheme.partition("+")[0]
    if kind in _SERVERS:
        known = bool(_place(uri)[0])
    else:
        known = kind in _OTHERS | {one.name for one in entry_points(group="mlflow.tracking_store")}
    if not known:
        raise ConfigurationError(
            f"MLflow is wanted at the URI of a server or of a data base, such as http://localhost:5000 or "
            f"sqlite:///mlflow.db, but came as {uri!r}."
        )


def check_listening(uri: str) -> None:
    """Raise `StoreError` if the URI is of a server and nobody listens there; one behind a proxy is not asked."""
    kind = urlsplit(uri).scheme
    if kind not in _SERVERS:
        return
    host, port = _place(uri)
    if kind in getproxies() and not proxy_bypass(host):
        return
    try:
        with socket.create_connection((host, port), timeout=_SECONDS):
            pass
    except OSError as error:
        raise StoreError(
            f"MLflow at {uri} could not be written: nobody listens there ({error}); start it with `mlflow server`, or "
            "name another URI."
        ) from None


def _place(uri: str) -> tuple[str, int]:
    """Host and port of a server; no host where there is none, or a port that is no number."""
    try:
        split = urlsplit(uri)
        return split.hostname or "", split.port or _SERVERS[split.scheme]
    except ValueError:
        return "", 0
