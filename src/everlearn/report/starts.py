"""What is known of the trained networks that runs went on from."""

from everlearn.experiments.records import RunConfig
from everlearn.experiments.store import STARTS, StoredRun, read_run


def trained_by(run: StoredRun) -> RunConfig | None:
    """The run that trained the network that a run went on from, as it was asked for; None where it is not there.

    Such runs lie below `starts/`, in the folder that the run lies in; a network that came as a file has none.

    Raises:
        StoreError: it is there, and cannot be read.
    """
    kind, _, name = run.run.config.start.partition(":")
    found = sorted((run.folder.parent / STARTS).glob(f"*.{name}")) if kind == "run" and name else []
    return read_run(found[0]).run.config if found else None
