"""Ctrl-C and SIGTERM as a wish to stop at the next good moment, so that what was done so far can be kept."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def wish_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield what says whether somebody wants this process to stop. The second such signal does what it always does.

    A signal that is ignored (as a shell has Ctrl-C ignored in the background) stays so. Only the main thread hears
    signals; in others it says no for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    wished: list[int] = []
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        wished.append(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(wished)
    finally:
        restore()
