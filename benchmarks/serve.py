"""What serving costs, as ratios measured interleaved, and whether 200 clients are served for a minute without an error.

    stored_over_plain     a batch through the network of a stored DF-CNN against one through the same ordinary layers
    asked_over_plain      the same with standardising and softmax on both sides, as predictions do it
    served_over_plain     images a second by HTTP, PNG files in requests of 32 from four clients, against the plain
                          network on tensors that are ready, batch 32, in this process

CIFAR network, 32 x 32 images, weights in channels last and one torch thread on either side; the server has a process
of its own, and shares the machine with the clients. Each is the median over rounds of the ratio of two timings taken
directly after each other, in alternating order. Then the clients: one image a request, a request after the other, each
answer compared with what the first one was; `--seconds 0` leaves them out.

    python benchmarks/serve.py [--rounds 8] [--clients 200] [--seconds 60]
"""

import argparse
import asyncio
import io
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from torch import nn

import everlearn
from everlearn.learner import Learner
from everlearn.networks.papers import make_backbone
from everlearn.serving.current import Current
from everlearn.storing.pictures import statistics_of
from everlearn.tasks.standardising import standardise_images
from everlearn.tasks.task import Split, Task

BATCH, AT_ONCE, BOUNDARY = 32, 4, "everlearn"


def make_store(folder: Path) -> None:
    """A DF-CNN that learned two tasks badly: what it says does not matter here."""
    random = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        return Split(torch.rand(count, 3, 32, 32, generator=random), torch.arange(count) % 10)

    learner = Learner.create(folder, method="df-cnn", backbone="cifar", size=(32, 32), training={"epochs": 1})
    for name in ("birds", "fish"):
        learner.learn(name, Task(name, tuple("0123456789"), split(20), split(10), split(10)))


def plain_of(stored: nn.Module) -> nn.Module:
    """Ordinary layers, put together by hand, with the numbers of a stored network."""
    backbone = make_backbone("cifar", (3, 32, 32))
    plain = nn.Sequential(*backbone.blocks, backbone.head(10)).eval().requires_grad_(False)
    numbers = list(stored.state_dict().values())
    plain.load_state_dict(dict(zip(plain.state_dict(), numbers, strict=True)))
    return plain.to(memory_format=torch.channels_last)


def png_files(count: int) -> list[bytes]:
    """Images as files."""
    random, files = np.random.default_rng(0), []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(file, "PNG")
        files.append(file.getvalue())
    return files


def request_of(files: list[bytes], query: str) -> bytes:
    """A whole HTTP request."""
    head = 'Content-Disposition: form-data; name="images"; filename="a.png"'
    parts = b"".join(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + file + b"\r\n" for file in files)
    body = parts + f"--{BOUNDARY}--\r\n".encode()
    lines = f"POST /predict?{query} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n"
    return f"{lines}Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode() + body


class Client:
    """A connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.I)
        assert length, head
        return int(head.split()[1]), await self._reader.readexactly(int(length[1]))


async def connect(port: int) -> Client:
    """Connect to the server."""
    return Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))


@contextmanager
def server(store: Path) -> Iterator[int]:
    """A server in a process of its own; gives its port."""
    words = ["serve", str(store), "--port", "0", "--threads", "1"]
    process = subprocess.Popen([sys.executable, "-m", "everlearn.cli", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        yield int(said.split(" (")[0].rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = perf_counter()
    work()
    return perf_counter() - begun


def ratio(one: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """The median over rounds of the time of one over that of the other, and the least and the largest."""
    one(), other()
    found = []
    for turn in range(rounds):
        if turn % 2:
            a, b = seconds(one), seconds(other)
        else:
            b, a = seconds(other), seconds(one)
        found.append(a / b)
    return median(found), min(found), max(found)


def served(port: int, requests: int) -> Callable[[], object]:
    """So many requests of 32 images, from four clients."""
    request = request_of(png_files(BATCH), "task=birds")

    async def client(count: int) -> None:
        asking = await connect(port)
        for _ in range(count):
            status, body = await asking.ask(request)
            assert status == 200, body

    async def all_clients() -> None:
        await asyncio.gather(*(client(requests // AT_ONCE) for _ in range(AT_ONCE)))

    return lambda: asyncio.run(all_clients())


async def crowd(port: int, clients: int, last: float) -> None:
    """Many clients at a time; print what they met."""
    files = png_files(16)
    requests = [request_of([file], "task=birds&top=3") for file in files]
    first = await connect(port)
    right = [json.loads((await first.ask(request))[1])["images"][0]["label"] for request in requests]
    met: Counter[str] = Counter()
    took: list[float] = []
    until = perf_counter() + last

    async def one(place: int) -> None:
        asking = await connect(port)
        while perf_counter() < until:
            which = (place + len(took)) % len(files)
            begun = perf_counter()
            status, body = await asking.ask(requests[which])
            took.append(perf_counter() - begun)
            same = status == 200 and json.loads(body)["images"][0]["label"] == right[which]
            met["right" if same else f"status {status}"] += 1

    ended = await asyncio.gather(*(one(place) for place in range(clients)), return_exceptions=True)
    met.update(f"fault {type(error).__name__}" for error in ended if error is not None)
    cuts = quantiles(took, n=100)
    print(f"{clients} clients for {last:g} s: {dict(met)}; {len(took) / last:.0f} requests/s, ", end="")
    print(f"median {cuts[49]:.2f} s, 99 % below {cuts[98]:.2f} s")


def main() -> None:
    """Read the flags, and make the store."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "vision"
        make_store(store)
        with torch.inference_mode():
            measure(store, asked)


def measure(store: Path, asked: argparse.Namespace) -> None:
    """Measure and print."""
    loaded = Current(store, None, None, "cpu").loaded
    stored = everlearn.open(store).network("birds")
    plain, by = plain_of(stored), statistics_of(loaded.tasks["birds"].preprocessing)
    pixels = torch.rand(BATCH, 3, 32, 32)
    torch.testing.assert_close(stored(pixels), plain(pixels))
    pairs = 40 * asked.rounds  # short ones, so that both sides of a pair meet the same machine
    tell("stored_over_plain", *ratio(lambda: stored(pixels), lambda: plain(pixels), pairs))
    tell("asked_over_plain", *ratio(
        lambda: loaded.ask("birds", pixels), lambda: plain(standardise_images(pixels, by)).softmax(1), pairs
    ))  # fmt: skip
    with server(store) as port:
        some = 8 * AT_ONCE
        middle, least, most = ratio(
            lambda: [plain(pixels) for _ in range(some)], served(port, some), asked.rounds
        )  # fmt: skip
        tell("served_over_plain", middle, least, most)
        if asked.seconds:
            asyncio.run(crowd(port, asked.clients, asked.seconds))


def tell(name: str, middle: float, least: float, most: float) -> None:
    """Print a ratio."""
    print(f"{name:20} {middle:.3f}   ({least:.3f} to {most:.3f})", flush=True)


if __name__ == "__main__":
    main()
