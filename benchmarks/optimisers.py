"""What torch's fused optimisers save of a training step on a CPU: a step with them over one without, on one thread.

Interleaved in this process; the median, with the quartiles, over rounds of one epoch each. Batch 10, `stl`, float32.

    python benchmarks/optimisers.py
    python benchmarks/optimisers.py --backbones resnet18 --rounds 5
"""

import argparse
from statistics import median, quantiles
from typing import Any

import torch

from everlearn.benching.measures import ratios
from everlearn.benching.steps import BATCH, Epoch, everlearns
from everlearn.networks.papers import BACKBONES
from everlearn.training.settings import Training

SETTINGS = {
    "adam": Training(batch=BATCH, optimiser="adam"),
    "adamw": Training(batch=BATCH, optimiser="adamw", weight_decay=0.01),
}


def plain(training: Training, backbone: str) -> Epoch:
    """An epoch whose optimiser takes one parameter and one operation at a time."""
    kinds: tuple[Any, ...] = torch.optim.Adam, torch.optim.AdamW
    before = [kind.__init__ for kind in kinds]
    try:
        for kind, init in zip(kinds, before, strict=True):
            kind.__init__ = lambda self, *args, init=init, **own: init(self, *args, **{**own, "fused": False})
        return everlearns("stl", training=training, backbone=backbone)
    finally:
        for kind, init in zip(kinds, before, strict=True):
            kind.__init__ = init


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["cifar"], choices=BACKBONES, metavar="NAME")
    parser.add_argument("--optimisers", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    if asked.rounds < 2:
        parser.error(f"quartiles need at least 2 rounds, but --rounds came as {asked.rounds}.")
    torch.set_num_threads(1)
    for backbone in asked.backbones:
        for name in asked.optimisers:
            training = SETTINGS[name]
            fused = everlearns("stl", training=training, backbone=backbone)
            found = ratios(fused, plain(training, backbone), asked.rounds)
            low, _, high = quantiles(found, n=4)
            print(f"{backbone:10} {name:20} {median(found):.3f} ({low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main()
