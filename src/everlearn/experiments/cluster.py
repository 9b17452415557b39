"""The Ray cluster that runs are given to: what was asked for, and a connection to it."""

import importlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from everlearn.errors import ConfigurationError


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what of it each run is given.

    Attributes:
        address: `host:port` of the cluster's head; `auto`: the cluster that this machine belongs to.
        cores: of a run; a fraction lets several share one.
        gpus: of a run; a fraction lets several share one.
    """

    address: str = "auto"
    cores: float = 1.0
    gpus: float = 0.0


def cluster_of(address: str, cores: float | None, gpus: float | None, device: str) -> Cluster:
    """What was asked for, checked; by default a run has one core, and on `cuda` one GPU.

    Raises:
        ConfigurationError: numbers that are no shares, a device that Ray is to choose, or Ray is missing.
    """
    if device not in ("cpu", "cuda"):
        raise ConfigurationError(
            f"on a Ray cluster the device is cpu or cuda, but {device} was asked for; Ray says which GPU a run has."
        )
    if cores is not None and not 0 < cores < float("inf"):
        raise ConfigurationError(f"cores_per_run needs a number above 0, but came as {cores}.")
    if gpus is not None and device == "cpu":
        raise ConfigurationError("gpus_per_run was given, but the device is cpu; give the device cuda as well.")
    if gpus is not None and not (0 < gpus < 1 or (gpus >= 1 and gpus == int(gpus))):
        raise ConfigurationError(
            f"gpus_per_run needs a share below 1, or a whole number, but came as {gpus}; 0.25 puts four runs on a GPU."
        )
    ray_itself()
    return Cluster(address, 1.0 if cores is None else cores, 0.0 if device == "cpu" else 1.0 if gpus is None else gpus)


@contextmanager
def connected(crew: "Cluster | int") -> Iterator[None]:
    """Have a connection to a cluster; one that the program has already is used as it is. A number of processes: none.

    Raises:
        ConfigurationError: there is no such cluster.
    """
    if not isinstance(crew, Cluster) or (ray := ray_itself()).is_initialized():
        yield
        return
    _listening(crew.address)
    try:
        ray.init(address=crew.address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError, AssertionError) as error:
        where = (
            "no Ray cluster runs on this machine"
            if crew.address == "auto"
            else (f"this machine cannot work with a Ray cluster at {crew.address} ({_line(error)})")
        )
        raise ConfigurationError(
            f"{where}; start one with `ray start --head`, or join it with `ray start --address HOST:PORT`."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def ray_itself() -> Any:
    """The package; it is large, and imported only where it is asked for.

    Raises:
        ConfigurationError: it is not here.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigurationError(
            f"a cluster needs Ray, which is not here ({error}); pip install everlearn[ray]."
        ) from None


def _listening(address: str) -> None:
    """Raise `ConfigurationError` where nobody listens; Ray itself would try for minutes."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not (host and colon and port.isdecimal()):
        raise ConfigurationError(
            f"the address of a Ray cluster is HOST:PORT or auto, but came as {address!r}; `ray start --head` says it."
        )
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            pass
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"nobody listens at {address} ({_line(error)}); start a cluster with `ray start --head`, which says its "
            "address."
        ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
