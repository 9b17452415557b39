"""Runs whose folders lie at a URL: planned, executed and read in a mirror on this machine (`remote.py`)."""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from everlearn.errors import StoreError
from everlearn.experiments import store
from everlearn.experiments.execute import Place, Progress, execute
from everlearn.experiments.records import RunConfig
from everlearn.experiments.remote import Remote, is_url, mark, mirror_of
from everlearn.tasks.task import TaskStream


def local_of(runs: str | Path) -> Path:
    """The folder in which all runs can be read: the one that was named, or the mirror of a URL, fetched anew.

    Raises:
        StoreError: nothing is at the URL, or it cannot be read.
    """
    if not is_url(runs):
        return Path(runs)
    remote = Remote(str(runs))
    root, names = mirror_of(remote.url), remote.names()
    if not names:
        raise StoreError(f"there are no runs at {runs}; give the URL that `everlearn run` wrote its runs to.")
    here = [folder.name for folder in root.iterdir() if folder.is_dir()] if root.is_dir() else []
    remote.read(root / name for name in sorted({*names, *here} - {store.STARTS}))
    return root


def keep_page(page: Path, runs: str | Path) -> str:
    """Send the page of runs at a URL there; where it is now to be found."""
    if not is_url(runs):
        return str(page)
    remote = Remote(str(runs))
    remote.put(page, page.name)
    return f"{remote.url.removesuffix('/')}/{page.name} (here: {page})"


def execute_at(config: RunConfig, stream: TaskStream, place: Place) -> Iterator[Progress]:
    """`execute`, in the mirror if the runs lie at a URL; what each checkpoint and the end leave is sent there.

    Raises:
        StoreError: as `execute`; or the URL cannot be read or written.
    """
    if place.url is None:
        yield from execute(config, stream, place)
        return
    remote, folder = Remote(place.url), store.run_folder(place.root, config)
    _fetch_start(config, place, place.url)
    remote.fetch(folder)
    checkpoint = folder / store.CHECKPOINT
    known = mark(checkpoint)
    with closing(execute(config, stream, place)) as progress:  # type: ignore[type-var] (a generator)
        for step in progress:
            if mark(checkpoint) != known:
                known = mark(checkpoint)
                remote.push(folder)
            try:
                yield step
            except GeneratorExit:
                progress.close()  # type: ignore[attr-defined]
                with suppress(StoreError):  # nobody is left to be told; the URL has the checkpoint before
                    remote.push(folder)
                raise
    remote.push(folder)


def place_of(runs: str | Path, place: Place) -> Place:
    """A place, with its mirror as root if the runs lie at a URL.

    Raises:
        ConfigurationError: no file system has such a URL, or a package for it is missing.
    """
    if not is_url(runs):
        return place
    url = Remote(str(runs)).url
    return replace(place, root=mirror_of(url), url=url)


def bring(place: Place, configs: Sequence[RunConfig]) -> None:
    """If the runs lie at a URL, bring here what is there of these.

    Raises:
        StoreError: it cannot be read.
    """
    if place.url is not None:
        Remote(place.url).read(store.run_folder(place.root, config) for config in configs)


def _fetch_start(config: RunConfig, place: Place, url: str) -> None:
    """Bring the trained network here that a run goes on from."""
    kind, _, name = config.start.partition(":")
    if kind == "run":
        starts = Remote(f"{url}/{store.STARTS}")
        if found := starts.find(f".{name}"):
            starts.read([place.root / store.STARTS / found])
