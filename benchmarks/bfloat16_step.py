"""What a training step with layers in bfloat16 costs, as a ratio to one in float32, interleaved in this process.

The 4-convolution net for CIFAR-100, batch 10, one thread, at the second task. Each number is the median over twelve
rounds of the ratio of two timings (an epoch of 17 steps each) taken directly after each other, in alternating order.

    python benchmarks/bfloat16_step.py      two minutes, on a processor that computes with bfloat16
"""

import argparse

import torch

from everlearn.training.settings import Training
from step import BATCH, everlearns, ratio

METHODS = ("stl", "hps", "tf", "df-cnn", "df-cnn.direct", "df-cnn.tc2", "prognn")


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    for name in METHODS:
        lower = everlearns(name, 2, Training(batch=BATCH, precision="bfloat16"))
        print(f"{name:14} {ratio(lower, everlearns(name, 2)):.2f}", flush=True)


if __name__ == "__main__":
    main()
