"""What the diagonal of the Fisher information costs, as a ratio measured interleaved in this process on one CPU thread.

    fisher_over_loop      `diagonal_fisher` against the plain loop: for each image a pass forward, a pass backward
                          (`torch.autograd.grad`), and the squares added up
    ms_per_image          what `diagonal_fisher` takes for an image, then what the loop takes

CIFAR network, HPS, 170 images of 32 x 32 in batches of 34, labels of the data, channels last for both sides. The ratio
is the median over rounds of the ratio of two timings taken directly after each other, in alternating order; the
milliseconds are the smallest of all rounds.

    python benchmarks/fisher.py [images in a batch]       half a minute
"""

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F

from everlearn.methods.catalogue import make_method
from everlearn.methods.fisher import diagonal_fisher
from everlearn.networks.papers import make_backbone

IMAGES, BATCH, ROUNDS = 170, 34, 12


def seconds(run: Callable[[], None]) -> float:
    begun = perf_counter()
    run()
    return perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batch", nargs="?", type=int, default=BATCH, help="images in a batch")
    batch = parser.parse_args().batch
    if batch < 1:
        parser.error(f"a batch needs at least one image, but {batch} came.")
    torch.set_num_threads(1)
    method = make_method("hps", "cifar", 1, {})
    network = method.network(make_backbone("cifar", (3, 32, 32)), 1, 0)
    method.begin(network, {}, 10)
    used = network.used(0)
    random = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 3, 32, 32, generator=random).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(IMAGES) % 10

    def layers() -> None:
        diagonal_fisher(network, 0, zip(images.split(batch), labels.split(batch), strict=True), used)

    def loop() -> None:
        network.eval()
        sums = [torch.zeros_like(p) for p in used.values()]
        for n in range(IMAGES):
            loss = F.cross_entropy(network(images[n : n + 1], 0), labels[n : n + 1])
            for total, gradient in zip(sums, torch.autograd.grad(loss, list(used.values())), strict=True):
                total.addcmul_(gradient, gradient)

    layers(), loop()  # warm
    times: dict[Callable[[], None], list[float]] = {layers: [], loop: []}
    for i in range(ROUNDS):
        for run in (layers, loop) if i % 2 == 0 else (loop, layers):
            times[run].append(seconds(run))
    ratios = [a / b for a, b in zip(times[layers], times[loop], strict=True)]
    print(f"fisher_over_loop {median(ratios):.3f}")
    print(f"ms_per_image {min(times[layers]) / IMAGES * 1e3:.3f} {min(times[loop]) / IMAGES * 1e3:.3f}")


if __name__ == "__main__":
    main()
