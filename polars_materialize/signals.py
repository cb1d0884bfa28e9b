"""What ends a run from outside: Ctrl-C, a polite `kill`, a terminal that is closed.

Each raises `KeyboardInterrupt` in the main thread, so that half-written files are cleared away on the way
out. What was told to be ignored, as `nohup` does, stays ignored.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINE = "interrupted; what was being written is left as it was"

AGAIN_S = 0.05
"""After how many seconds a signal is sent again that Python could only print."""

ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""The signals that end a run; Windows has no SIGHUP."""


def on_end(handler: Callable[[int, Any], Any]) -> dict[signal.Signals, Any]:
    """Set a handler for the signals that end a run; return the handlers that there were."""
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, known in before.items():
        if known is not signal.SIG_IGN:
            signal.signal(number, handler)
    return before


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """Raise `KeyboardInterrupt` for all signals that end a run, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = on_end(signal.default_int_handler)
    try:
        yield
    finally:
        for number, known in before.items():
            if known is not None:  # it was not set from Python
                signal.signal(number, known)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold back the signals that end a run, in the thread that handles them; send them again at the end."""
    held: list[int] = []
    before: dict[signal.Signals, Any] = {}
    here = threading.current_thread() is threading.main_thread()
    try:
        for number in ENDING if here else ():
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.getsignal(number)
                signal.signal(number, lambda number, _: held.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(held):
            signal.raise_signal(number)


def keep_interrupts(number: signal.Signals = signal.SIGINT) -> None:
    """Send a signal again that came where Python can only print its exception, such as in a callback.

    Args:
        number: The signal to send again.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any, /) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # Not from here, where it would be raised within this function.
            again = threading.Timer(AGAIN_S, _thread.interrupt_main, [number])
            again.daemon = True
            again.start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
