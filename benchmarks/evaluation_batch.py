"""How long an image takes to evaluate, by how many are evaluated at a time: milliseconds of the processor, one thread.

The median of seven rounds over all sizes, without the loss.

    python benchmarks/evaluation_batch.py      a minute
"""

import argparse
from statistics import median
from time import process_time

import torch

from everlearn.methods.catalogue import make_method
from everlearn.networks.papers import make_backbone

SIZES = (10, 25, 50, 100, 250, 500)
NETS = {("hps", "cifar"): 500, ("df-cnn", "cifar"): 500, ("hps", "alex-32"): 500, ("hps", "resnet18"): 500}
"""Method and backbone, and how many images."""


@torch.inference_mode()
def milliseconds(method: str, backbone: str, count: int) -> dict[int, float]:
    """Of an image, by the size of a batch."""
    built = make_method(method, backbone, 1, {})
    network = built.network(make_backbone(backbone, (3, 32, 32)), 1, 0)
    built.begin(network, {}, 10)
    network.eval()
    images = torch.randn(count, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(7):
        for size in SIZES:
            begun = process_time()
            for part in images.split(size):
                network(part, 0)
            found[size].append(process_time() - begun)
    return {size: 1e3 * median(seconds) / count for size, seconds in found.items()}


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    print(f"{'':18}", *(f"{size:>6}" for size in SIZES))
    for (method, backbone), count in NETS.items():
        found = milliseconds(method, backbone, count)
        print(f"{method + ' on ' + backbone:18}", *(f"{value:6.3f}" for value in found.values()), flush=True)


if __name__ == "__main__":
    main()
