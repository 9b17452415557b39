"""Going back: a new generation that is as an older one was, but for the history.

What counts is neither opened nor built, as it may be the very thing that is damaged: all that is read is `current`, the
generation that is wanted, and the history of the newest record that is whole.
"""

from contextlib import suppress

from everlearn.errors import StoreError
from everlearn.storing.building import Code, load_mind
from everlearn.storing.records import Event, now, versions
from everlearn.storing.store import Generation, Store


def go_back(store: Store, code: Code, to: int) -> Generation:
    """Write the new generation and return it.

    Args:
        store: where the learner lies.
        code: the user's own files that it comes from.
        to: the older generation.

    Raises:
        StoreError: that generation is not kept or is damaged, or the folder could not be written.
    """
    store.current()  # a folder that holds no learner gets no lock
    with store.writing():
        old = store.read(to)
        load_mind(old, code)  # what cannot be opened is not gone back to
        event = Event(
            generation=store.current().generation + 1, what="rolled back", when=now(), to=to, versions=versions()
        )  # fmt: skip
        history = [*_history(store, old), event]
        return store.read(store.write(old.record.model_copy(update={"history": history}), dict(old.files)))


def _history(store: Store, old: Generation) -> list[Event]:
    """What was done until now, as far as a whole record after the old generation's tells it."""
    for number in sorted(store.current().manifests, reverse=True):
        if number > old.number:
            with suppress(StoreError):
                return store.record(number).history
    return old.record.history
