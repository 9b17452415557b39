"""A learner of two small tasks of coloured images, a client that asks it, and a server at a real port."""

import io
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from everlearn.learner import Learner
from everlearn.serving import app
from everlearn.tasks.task import Split, Task

SIZE = 16
COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.2), "blue": (0.1, 0.2, 0.9), "yellow": (0.9, 0.9, 0.1)}
FRUIT = ("red", "green")
FLAGS = ("blue", "yellow", "red")


def made_task(name: str, classes: tuple[str, ...]) -> Task:
    random = torch.Generator().manual_seed(len(name))

    def split(count: int) -> Split:
        labels = torch.arange(count) % len(classes)
        colours = torch.tensor([COLOURS[c] for c in classes])[labels]
        noise = 0.2 * torch.rand(count, 3, SIZE, SIZE, generator=random)
        return Split((colours[:, :, None, None] + noise - 0.1).clamp(0, 1), labels)

    return Task(name, classes, split(60), split(6), split(6))


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "vision"
    training = {"epochs": 3, "batch": 10, "evaluate_every": 3, "optimiser": "adam", "rate": 0.003}
    learner = Learner.create(folder, method="df-cnn", backbone="digits", training=training, size=(SIZE, SIZE))
    learner.learn("fruit", made_task("fruit", FRUIT))
    learner.learn("flags", made_task("flags", FLAGS))
    return folder


@pytest.fixture
def vision(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "vision"))


@pytest.fixture(scope="session")
def client(original: Path) -> Iterator[TestClient]:
    """Of a learner that no test changes."""
    with TestClient(app(original)) as client:
        yield client


def picture(colour: str = "red", size: tuple[int, int] = (20, 20)) -> Image.Image:
    return Image.new("RGB", size, tuple(int(255 * c) for c in COLOURS[colour]))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def form(*contents: bytes, name: str = "image.png", field: str = "images") -> list[tuple[str, tuple[str, bytes]]]:
    return [(field, (name, content)) for content in contents]


@contextmanager
def serving(api: FastAPI) -> Iterator[int]:
    """A real server in a thread of its own; gives its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        server = uvicorn.Server(uvicorn.Config(api, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture
def wait() -> Wait:
    """Wait until something holds, ten seconds at most."""
    pause = threading.Event()

    def until(holds: Callable[[], bool]) -> None:
        for _ in range(200):
            if holds():
                return
            pause.wait(0.05)
        raise AssertionError("it did not come to hold")

    return until
