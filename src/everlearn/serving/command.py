"""`everlearn serve`."""

import logging
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from everlearn.errors import ConfigurationError
from everlearn.serving.limits import Limits, check_installed

_DEFAULT = Limits()


def serve(
    store: Annotated[Path, typer.Argument(help="The learner's folder.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0: at all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any that is free.", min=0, max=65535)] = 8000,
    device: Annotated[str, typer.Option(help="`cpu`, `cuda`, `cuda:1`.")] = "cpu",
    max_images: Annotated[int, typer.Option(help="Images of a request.")] = _DEFAULT.images,
    max_bytes: Annotated[int, typer.Option(help="Bytes of a request.")] = _DEFAULT.bytes,
    max_file_bytes: Annotated[int, typer.Option(help="Bytes of an image's file.")] = _DEFAULT.file_bytes,
    max_pixels: Annotated[int, typer.Option(help="Pixels of an image.")] = _DEFAULT.pixels,
    threads: Annotated[int | None, typer.Option(help="Threads of the networks. [torch's choice]", min=1)] = None,
    method: Annotated[
        str | None, typer.Option(help="`file.py:Name`, if the learner comes from a file of your own.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="The same of its backbone.")] = None,
) -> None:
    """Serve a learner over HTTP: a page to drop images on, predictions, health, metrics; see docs/how-to/serve.md.

    Newer generations are taken as they appear, without dropping a request. There is no password: whoever reaches the
    address may ask.

    Example:

        everlearn serve vision --port 8000
    """
    from everlearn.serving import app

    check_installed()
    limits = Limits(images=max_images, bytes=max_bytes, file_bytes=max_file_bytes, pixels=max_pixels)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    api = app(store, limits, method=method, backbone=backbone, device=device)
    logging.basicConfig(format="everlearn: %(message)s", level=logging.WARNING)
    logging.getLogger("everlearn.serving").setLevel(logging.INFO)
    with _listening(host, port) as listening:
        where = listening.getsockname()
        address = f"[{where[0]}]" if ":" in where[0] else where[0]
        typer.echo(f"{store} is served at http://{address}:{where[1]} (stop with Ctrl-C)")

        import uvicorn

        server = uvicorn.Server(uvicorn.Config(api, log_level="warning", access_log=False))
        # At a second Ctrl-C what is under way is given up, and uvicorn logs that as an error with a traceback.
        logging.getLogger("uvicorn.error").addFilter(lambda _: not server.force_exit)
        server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigurationError: there is no such address, or another program listens there.
    """
    try:
        kind, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(where[:2], family=kind, backlog=2048)
    except (OSError, OverflowError) as error:
        known = getattr(error, "errno", None) or 0
        reason = os.strerror(known) if known > 0 else getattr(error, "strerror", None) or error
        raise ConfigurationError(f"nothing can listen at {host}, port {port} ({reason}); give another.") from None
