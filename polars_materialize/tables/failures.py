"""What Polars raises where it cannot read or write, its panics included, in words of this package."""

from __future__ import annotations

import polars as pl

from polars_materialize.errors import TableError
from polars_materialize.stores import in_one_line

POLARS_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
FAILURES = (*POLARS_FAILURES, OSError)
"""A panic of Polars is no `Exception`, so that it would end a whole batch."""


def unreadable(written: str, error: BaseException) -> TableError:
    """The error that says why a file cannot be read."""
    return TableError(written, f"cannot be read: {in_one_line(error)}")
