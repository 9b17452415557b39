"""What a training step costs, as ratios measured interleaved in this process on one CPU thread: `everlearn bench`.

Other benchmarks take their epochs and ratios from here.

    python benchmarks/step.py
"""

import argparse
from statistics import median

from everlearn.benching.measures import bench, ratios
from everlearn.benching.steps import BATCH, Epoch, everlearns, made_stream, plain_loop

__all__ = ["BATCH", "ROUNDS", "Epoch", "everlearns", "plain_loop", "ratio", "stream"]

ROUNDS = 12
stream = made_stream


def ratio(first: Epoch, second: Epoch) -> float:
    """The median over rounds of first's time by second's; each round takes them in the other order."""
    return median(ratios(first, second, ROUNDS))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for measured in bench():
        print(f"{measured.name:14} {measured.middle:.3f}   {measured.about}", flush=True)


if __name__ == "__main__":
    main()
