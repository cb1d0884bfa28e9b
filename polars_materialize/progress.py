"""How far a long run is: one line on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from types import TracebackType

EVERY_S = 0.2
"""How often the line is written anew, in seconds."""


class Progress:
    """What is done of all, how many a second, and the time left; a context manager: the line goes away.

    Example:
        >>> with Progress() as progress:  # standard error is no terminal here, so nothing is written
        ...     progress(3, 10)
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Writes to `stream`, by default standard error, if it is a terminal."""
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._began = self._written = 0.0
        self._done = self._all = 0
        self._what = ""

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Takes the line away."""
        self.clear()

    def __call__(self, done: int, total: int, what: str = "clips") -> None:
        """Says how far a table is.

        Args:
            done: How many are done.
            total: How many there are.
            what: Of what.
        """
        if not self._shown:
            return
        now = time.monotonic()
        if (total, what) != (self._all, self._what) or done < self._done:
            self._began, self._what = now, what  # another table
        self._done, self._all = done, total
        if done == total:
            self.clear()
        elif now - self._written >= EVERY_S:
            self._written = now
            self._write(f"{done:,} of {total:,} {what}{_rate(done, total, now - self._began)}")

    def clear(self) -> None:
        """Takes the line away, so that something else can be said."""
        if self._shown and self._written:
            self._written = 0.0
            self._write("")

    def _write(self, line: str) -> None:
        self._stream.write(f"\r{line}\x1b[K")
        self._stream.flush()


def _rate(done: int, total: int, seconds: float) -> str:
    """How many a second, and the time left, once that can be told.

    Example:
        >>> _rate(20, 100, 10.0), _rate(0, 100, 10.0)
        (', 2.0 a second, 40 s left', '')
    """
    if not done or seconds <= 0:
        return ""
    left = round((total - done) * seconds / done)
    clock = f"{left} s" if left < 120 else f"{left // 60} min" if left < 7200 else f"{left // 3600} h"
    return f", {done / seconds:.1f} a second, {clock} left"
