"""A query's rows handed on batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl


def each_batch(frame: pl.LazyFrame, take: Callable[[pl.DataFrame], None]) -> None:
    """Runs a query, and hands its rows on in their order.

    An error of `take` is raised as it is when the query has ended: Polars 2.1 words it anew, and may write of
    a panic of its own to standard error.

    Example:
        >>> import polars as pl
        >>> each_batch(pl.LazyFrame({"a": [1, 2]}), lambda batch: print(batch.rows()))
        [(1,), (2,)]
    """
    problem: BaseException | None = None

    def guarded(batch: pl.DataFrame) -> None:
        nonlocal problem
        if problem is None:
            try:
                take(batch)
            except BaseException as error:  # noqa: BLE001 - raised below
                problem = error

    frame.sink_batches(guarded, maintain_order=True)
    if problem is not None:
        raise problem
