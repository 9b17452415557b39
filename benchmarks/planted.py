"""Whether methods that choose find what they should, on made tasks of which it is known what they have in common.

The stream `planted` has 11 tasks that share low-level filters (`shared=low`: the right choice is 10, transfer block 1
and not block 2) or high-level ones (`shared=high`: 01). Three seeds. Printed are each method's mean accuracies, and of
those that choose, how many of the ten tasks after the first got the right configuration.

    python benchmarks/planted.py [FOLDER]      about ten minutes; runs are kept in FOLDER (runs/planted)
"""

import argparse
from pathlib import Path

import everlearn
from everlearn.experiments.store import StoredRun

RIGHT = {"low": "10", "high": "01"}
WAYS: tuple[tuple[tuple[str, ...], dict[str, str]], ...] = (
    (("stl", "hps", "hps@10", "hps@01", "brute-force-hps"), {}),
    (("lasem-hps",), {}),
    (("lasem-hps",), {"prior": "mean"}),
    (("lasem-hps",), {"prior": "mean", "likelihood": "mean"}),
)


def chosen(run: StoredRun) -> list[str]:
    return [found.configuration for found in run.findings if found.settled]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/planted"))
    root = parser.parse_args().folder
    for shared, right in RIGHT.items():
        for methods, options in WAYS:
            runs = everlearn.run("planted", methods, options=options, stream_options={"shared": shared}, runs=root)
            table = everlearn.table_frame(runs)
            for method, peak, final in zip(
                table["method"], table["peak_accuracy"], table["final_accuracy"], strict=True
            ):
                print(f"{shared:5} {method:16} {options} peak {100 * peak:.1f} final {100 * final:.1f}", flush=True)
                for run in (run for run in runs if run.run.config.method == method and run.findings):
                    later = chosen(run)[-10:]
                    hits = sum(c == right for c in later)
                    print(f"      trial {run.run.config.trial}: {hits} of 10 right: {' '.join(later)}", flush=True)


if __name__ == "__main__":
    main()
