"""Ctrl-C and SIGTERM as a wish to stop at the next good moment, so that what was done so far can be kept."""

import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

_Step = TypeVar("_Step")
_End = TypeVar("_End")


def followed(
    steps: Generator[_Step, None, _End], each: Callable[[_Step], object], signals: Sequence[signal.Signals]
) -> _End:
    """Go through a generator to its end; a wish to stop closes it after a step.

    Before its first step signals do what they always do: nothing is lost then.

    Args:
        steps: that may be closed after each of its steps.
        each: what is done with a step.
        signals: that are such a wish.

    Returns:
        What the generator came to.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    try:
        each(next(steps))
        with wish_to_stop(signals) as wished:
            while not wished():
                each(next(steps))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    steps.close()
    raise KeyboardInterrupt


@contextmanager
def wish_to_stop(signals: Sequence[signal.Signals]) -> Iterator[Callable[[], bool]]:
    """Yield what says whether somebody wants this process to stop. The second such signal does what it always does.

    A signal that is ignored (as a shell has Ctrl-C ignored in the background) stays so. Only the main thread hears
    signals; in others it says no for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    wished: list[int] = []
    handlers = {number: signal.getsignal(number) for number in signals}
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
