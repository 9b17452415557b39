"""What the papers searched over, as search spaces: of each method only what its paper or its authors' code gives."""

from dataclasses import dataclass

from everlearn.methods.catalogue import plain_name


@dataclass(frozen=True)
class Grid:
    """What was searched over for a method.

    Attributes:
        values: of each option those that were tried, as text, as `--option` takes them.
        source: where it is said.
    """

    values: dict[str, tuple[str, ...]]
    source: str


_TF = Grid(
    {"orthogonality": ("0.001", "0.005", "0.01", "0.05", "0.1")},
    "Lee et al. 2021, appendix on experiments: 'chosen by grid search', after Bulat et al. 2020",
)

GRIDS: dict[str, Grid] = {
    "tf": _TF,
    "lasem-tf": _TF,
    "darts-tf": _TF,
    "brute-force-tf": _TF,
    "lwf": Grid({"lambda_old": ("0.3", "1", "3", "10")}, "the code of Li and Hoiem 2016, which settles on 1"),
    "l2": Grid({"lambda_c": ("0.05", "0.5")}, "Li and Hoiem 2016, Sec. 4.2: the two values that they report"),
    "ewc": Grid(
        {"lambda_ewc": ("0.001", "1", "1000", "100000", "10000000")},
        "the code of Lee et al. 2021, whose multipliers of the Fisher information these are; EWC itself is not in it",
    ),
}
"""By name of the method. Grids that are tied to one stream and network (the learning rates of Li and Hoiem's pairs)
are left out; so are methods whose papers say that they were tuned and not over what (Lee et al. 2019, App. B.3)."""


def paper_grid(method: str) -> Grid | None:
    """The grid of a method's paper; its configuration (`tf@top-2`) does not matter."""
    return GRIDS.get(plain_name(method))
