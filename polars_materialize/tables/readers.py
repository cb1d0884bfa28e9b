"""Readers of this package as LazyFrames."""

from __future__ import annotations

import atexit
import threading
import time
from typing import TYPE_CHECKING

from polars.io.plugins import register_io_source

from polars_materialize.errors import no_panics
from polars_materialize.tables.inputs import READS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl


class _Running:
    """Keeps the interpreter from ending under a reader that a finished query left behind.

    Polars 2.1 returns from a query that needs no more rows while the thread that reads them still runs;
    if the interpreter then ends, that thread aborts the process.
    """

    def __init__(self) -> None:
        self.readers = 0
        self.ending = False
        self.changed = threading.Condition()

    def __enter__(self) -> None:
        with self.changed:
            self.readers += 1

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self.readers -= 1
            self.changed.notify_all()

    def end(self) -> None:
        self.ending = True
        with self.changed:
            if self.readers and self.changed.wait_for(lambda: not self.readers, timeout=30):
                time.sleep(0.05)  # the thread has yet to leave the generator


_running = _Running()
atexit.register(_running.end)


def lazily(
    read: Callable[[list[str]], Iterator[pl.DataFrame]], schema: pl.Schema, path: object = None
) -> pl.LazyFrame:
    """Rows that are read when a query asks for them, and no further than it asks.

    Args:
        read: Gives the rows in frames of the columns that it is told, in their order.
        schema: All columns.
        path: The file that is read.
    """

    def source(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - a hint
    ) -> Iterator[pl.DataFrame]:
        with _running, no_panics():  # Polars would make a panic of its own of one
            for frame in read(schema.names() if with_columns is None else with_columns):
                head = frame if n_rows is None else frame.head(n_rows)
                n_rows = None if n_rows is None else n_rows - head.height
                yield head if predicate is None else head.filter(predicate)
                if n_rows == 0 or _running.ending:
                    return

    setattr(source, READS, path)
    return register_io_source(source, schema=schema)
