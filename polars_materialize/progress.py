"""How far a long run is: one line on a terminal, nothing elsewhere.

Whoever calls it says what is done; how long the rest takes nobody knows before many clips are done.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

EVERY_S = 0.2
"""How often the line is written anew, in seconds."""

TELLING = 20
"""How many clips have to be done until the time that the rest takes is guessed."""


class Progress:
    """What is done of all, and how many a second; a context manager: the line goes away.

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
            what: Of what, and of which table.
        """
        if not self._shown:
            return
        now = time.monotonic()
        if (total, what) != (self._all, self._what) or done < self._done:
            self.clear()
            self._began, self._what = now, what  # another table
        self._done, self._all = done, total
        if done == total:
            self.clear()
        elif now - self._written >= EVERY_S:
            self._written = now
            rate = _rate(done, total, now - self._began) if what.startswith("clips") else ""
            self._write(f"{done:,} of {total:,} {what}{rate}")

    def phase(self, what: str) -> None:
        """Says what is done now, where nobody knows how much of it there is."""
        if self._shown:
            self._written = time.monotonic()
            self._what = what
            self._write(what)

    def clear(self) -> None:
        """Takes the line away, so that something else can be said."""
        if self._shown and self._written:
            self._written = 0.0
            self._write("")

    def _write(self, line: str) -> None:
        self._stream.write(f"\r{line}\x1b[K")
        self._stream.flush()


def _rate(done: int, total: int, seconds: float) -> str:
    """How many a second, and about how long the rest takes, once that can be told.

    Example:
        >>> _rate(20, 1000, 10.0), _rate(20, 100, 10.0), _rate(0, 100, 10.0)
        (', 2.0 a second, about 8 min left', ', 2.0 a second', '')
    """
    if not done or seconds <= 0:
        return ""
    minutes = round((total - done) * seconds / done / 60)
    clock = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
    left = f", about {clock} left" if done >= TELLING and minutes > 1 else ""
    return f", {done / seconds:.1f} a second{left}"


class _Named:
    """The progress of one table of several."""

    def __init__(self, progress: Callable[..., None], name: str) -> None:
        self._progress = progress
        self._name = name

    def __call__(self, done: int, total: int, what: str = "clips") -> None:
        self._progress(done, total, f"{what} of {self._name}")

    def phase(self, what: str) -> None:
        say_phase(self._progress, f"{self._name}: {what}")


def named(progress: Callable[..., None] | None, name: str) -> Callable[..., None] | None:
    """What tells the progress of one table of several, whose name a `Progress` shows.

    Other callables are called with counts, and what is counted.
    """
    return _Named(progress, name) if isinstance(progress, Progress) else progress


def counted_from(progress: Callable[..., None] | None, before: int, total: int) -> Callable[..., None] | None:
    """What tells the progress of some of all, before which others are done.

    Example:
        >>> counted_from(print, 100, 500)(23, 200, "tables")
        123 500 tables
    """
    if progress is None:
        return None
    return lambda done, _, what: progress(before + done, total, what)


def say_phase(progress: Callable[..., None] | None, what: str) -> None:
    """Says what is done now to a `Progress`; other callables are called with counts only."""
    say = getattr(progress, "phase", None)
    if say is not None:
        say(what)
