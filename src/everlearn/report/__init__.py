"""Tables, figures and one self-contained HTML page of stored runs."""

from pathlib import Path

from everlearn.experiments.files import explained, write_whole
from everlearn.experiments.store import find_runs
from everlearn.report.findings import findings_frame, weights_frame
from everlearn.report.fractions import errors_frame
from everlearn.report.old_new import old_new_frame
from everlearn.report.page import render_page
from everlearn.report.table import print_table, table_frame
from everlearn.report.units import growth_frame, units_frame

__all__ = [
    "errors_frame",
    "findings_frame",
    "growth_frame",
    "old_new_frame",
    "print_table",
    "table_frame",
    "units_frame",
    "weights_frame",
    "write_report",
]


def write_report(root: str | Path, out: str | Path) -> Path:
    """Write one self-contained HTML page of every run below a folder.

    Args:
        root: the folder that the runs lie in.
        out: the page's path, or a folder that exists, which then gets a `report.html`. A page that is there
            already is replaced at once: a reader sees the old one or the new one.

    Returns:
        the page's path.

    Raises:
        StoreError: no run is finished, a run cannot be read, or the page cannot be written.
    """
    root, out = Path(root), Path(out)
    page = render_page(find_runs(root), root)
    target = out / "report.html" if out.is_dir() else out
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, page.encode())
    return target
