"""What a training step of a progressive network costs, as ratios measured interleaved in this process on one thread.

    N_over_stl        a step at the N-th task, with what earlier columns give for an image kept, against one of STL
    N_kept_computed   the same against one that computes the earlier columns for each batch

The 4-convolution net for CIFAR-100, batch 10, 170 images. Each number is the median over twelve rounds of the ratio of
two timings (an epoch each) taken directly after each other, in alternating order.

    python benchmarks/prognn_step.py      three minutes on a CPU
"""

import argparse

import torch

from everlearn.training import keeping
from step import everlearns, ratio

TASKS = (2, 5, 10)


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    for tasks in TASKS:
        kept = everlearns("prognn", tasks)
        print(f"{tasks}_over_stl {ratio(kept, everlearns('stl', tasks)):.2f}", flush=True)
        usual, keeping.KEPT = keeping.KEPT, 0
        computed = everlearns("prognn", tasks)
        keeping.KEPT = usual
        print(f"{tasks}_kept_computed {ratio(kept, computed):.2f}", flush=True)


if __name__ == "__main__":
    main()
