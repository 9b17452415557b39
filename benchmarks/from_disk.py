"""What images on disk cost in training, against the same images in memory: images a second, and peak memory.

    python benchmarks/from_disk.py [--images 200000] [--batch 10,64] [--folder DIR] [--kind cache,files]

Makes a folder of JPEG files of 32 x 32 pixels (kept in DIR, so that a second call finds them), and trains the network
`cifar` on them by everlearn's own loop, one thread, plain fine-tuning:

    memory    all images decoded at once
    cache     in_memory=false with cache=DIR: decoded once, then read
    files     in_memory=false: every image decoded each time

Speeds are of pieces of an epoch taken in turns, in alternating order; a ratio is the median over rounds. Peak memory is
that of a process of its own that passes through a whole epoch of all images, with a network that costs next to
nothing.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from PIL import Image

from everlearn.methods.base import Batch
from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone
from everlearn.tasks import TaskStream, make_stream
from everlearn.training.data import TrainingData, on_device, training_batches

CLASSES, SIDE, ROUNDS, STEPS = 10, 32, 7, {10: 30, 64: 6}
OPTIONS = {"memory": {}, "cache": {"in_memory": False}, "files": {"in_memory": False}}


def make_images(root: Path, count: int) -> None:
    """root/task/CLASS/NUMBER.jpg: smooth random colours, a tint for each class."""

    def one(number: int) -> None:
        file = root / "task" / f"class-{number % CLASSES}" / f"{number // CLASSES}.jpg"
        if not file.exists():
            random = np.random.default_rng(number)
            small = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            small[..., 0] = small[..., 0] // 2 + 12 * (number % CLASSES)
            Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(file, quality=90)

    for label in range(CLASSES):
        (root / "task" / f"class-{label}").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, count, 10_000):
            list(pool.map(one, range(start, min(start + 10_000, count))))


def stream(folder: Path, kind: str) -> TaskStream:
    """The images in memory, from the cache, or as files."""
    more = {"cache": str(folder / "cache")} if kind == "cache" else {}
    return make_stream("folders", 0, None, {"path": str(folder / "images"), "size": "32x32", **OPTIONS[kind], **more})


class Loop:
    """Training on one kind of images: what it does for `steps` steps takes so many seconds."""

    def __init__(self, data: TrainingData, batch: int) -> None:
        method = make_method("fine-tuning", "cifar", 1, {})
        self.network = method.network(make_backbone("cifar", (3, SIDE, SIDE)), 1, 0)
        self.learned = method.begin(self.network, {}, CLASSES)
        self.network.train()
        self.optimiser = torch.optim.SGD(self.network.parameters(), 1e-4)
        self.data, self.batch, self.epoch = data, batch, 0

    def batches(self) -> Iterator[Batch]:
        """Those of a new epoch."""
        self.epoch += 1
        return training_batches(self.data, self.batch, 0, 0, self.epoch, 0)

    def seconds(self, steps: int) -> float:
        """How long so many steps take, once the first batches are there."""
        batches = self.batches()
        for batch in islice(batches, 3):
            self.step(batch)
        begun = perf_counter()
        for batch in islice(batches, steps):
            self.step(batch)
        passed = perf_counter() - begun
        batches.close()  # type: ignore[attr-defined]
        return passed

    def step(self, batch: Batch) -> None:
        """One step of fine-tuning."""
        loss = torch.nn.functional.cross_entropy(self.network(batch.images, 0), batch.labels)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def compare(data: dict[str, TrainingData], batch: int) -> None:
    """Images a second of each kind, and its ratio to memory; and that the batches are the same."""
    kinds = list(data)
    loops = {kind: Loop(one, batch) for kind, one in data.items()}
    firsts = {kind: next(loop.batches()).images for kind, loop in loops.items()}
    same = all(torch.equal(firsts["memory"], images) for images in firsts.values())
    steps, times = STEPS.get(batch, 20), {kind: list[float]() for kind in kinds}
    for number in range(ROUNDS + 1):
        for kind in kinds if number % 2 else kinds[::-1]:
            passed = loops[kind].seconds(steps)
            if number:
                times[kind].append(passed)
    for kind in kinds:
        ratio = median(held / own for held, own in zip(times["memory"], times[kind], strict=True))
        speed = batch * steps / median(times[kind])
        print(f"batch {batch:3} {kind:7} {speed:7.0f} images/s  {ratio:.3f} of memory", flush=True)
    print(f"batch {batch:3} the same batches, bit for bit: {same}", flush=True)


def one_epoch(folder: Path, kind: str, batch: int = 64) -> None:
    """Memory of this process before and after a whole epoch, in MB."""

    def megabytes(what: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))

    before = megabytes("VmRSS")
    begun = perf_counter()
    tasks = stream(folder, kind).tasks
    made = perf_counter() - begun
    data = on_device(tasks[0].splits()["train"], torch.device("cpu"), True)
    del tasks
    opened = megabytes("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    marks, begun, batches = [], perf_counter(), len(data.labels) // batch
    for number, taken in enumerate(training_batches(data, batch, 0, 0, 1, 0)):
        taken.images.mean()
        if number % max(1, batches // 10) == 0:
            marks.append(round(megabytes("VmRSS")))
    seconds = perf_counter() - begun
    print(
        f"{kind:7} imports {before:.0f} MB; opened in {made:.1f} s, peak {opened:.0f} MB; an epoch of "
        f"{len(data.labels)} images in {seconds:.1f} s without a network, peak {megabytes('VmHWM'):.0f} MB, "
        f"along it {marks}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--batch", default="10,64")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/everlearn-from-disk"))
    parser.add_argument("--kind", default="cache,files")
    parser.add_argument("--epoch", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.folder / str(given.images)
    if given.epoch:
        one_epoch(folder, given.epoch)
        return
    begun = perf_counter()
    make_images(folder / "images", given.images)
    print(f"{given.images} JPEG files in {perf_counter() - begun:.0f} s", flush=True)
    kinds = given.kind.split(",")
    begun = perf_counter()
    stream(folder, "cache")
    print(f"the cache was made, or found, in {perf_counter() - begun:.0f} s", flush=True)
    for kind in ("memory", *kinds):
        words = [
            sys.executable,
            __file__,
            "--images",
            str(given.images),
            "--folder",
            str(given.folder),
            "--epoch",
            kind,
        ]
        subprocess.run(words, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    cpu = torch.device("cpu")
    data = {k: on_device(stream(folder, k).tasks[0].splits()["train"], cpu, True) for k in ("memory", *kinds)}
    for batch in map(int, given.batch.split(",")):
        compare(data, batch)


if __name__ == "__main__":
    main()
