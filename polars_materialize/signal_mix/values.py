"""The numbers of a table as float64, in which every hole is NaN: in blocks of rows, or whole columns.

A block has one row a column and one column a table row. Blocks have a fixed number of table rows, so that
sums over them have the same last bits in every run. A table whose numbers fit into `KEPT_BYTES` is read
once and kept. A larger one is read anew, by columns and by rows, which is what scanned Parquet is made for.
Columns that float64 cannot hold are read less their least value; see `exact`.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from polars_materialize.errors import MaterializeError
from polars_materialize.signal_mix.exact import can_exceed, find_exact, order, to_float
from polars_materialize.tables.failures import FAILURES, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from polars_materialize.signal_mix.exact import Exact

    Floats = npt.NDArray[np.float64]

KEPT_BYTES = 2**28
"""Up to how many bytes of numbers are kept in memory."""

BLOCK_VALUES = 2**20
"""About how many numbers a block holds."""

SLICE_VALUES = 2**24
"""About how many numbers are read at once of a table that can be read in slices."""

SLICED = re.compile(r"(Parquet SCAN|DF|PROJECT|ESTIMATED ROWS|UNION|PLAN|END UNION|CACHE)\b")
"""The lines of a plan that gives any slice of its rows without making those before it."""


class Values:
    """The numbers of some columns of a table.

    Attributes:
        columns: Their names.
        rows: The table's rows.
        exact: The columns that are read less an offset, by number.
    """

    def __init__(self, frame: pl.LazyFrame, columns: Sequence[str], label: str) -> None:
        """Counts the rows, and reads the numbers if they are few.

        Args:
            frame: The table.
            columns: Columns that hold numbers.
            label: What to call the table in an error.
        """
        self.columns = list(columns)
        self._frame = frame
        self._label = label
        self._kept: list[Floats] | None = None
        self.rows, exact = _survey(frame, self.columns, label)
        self.exact = {place: exact[name] for place, name in enumerate(self.columns) if name in exact}
        if 8 * self.rows * len(self.columns) <= KEPT_BYTES:
            self._kept = list(self._read(range(len(self.columns))))

    def blocks(self) -> Iterator[Floats]:
        """The blocks of all columns, in the order of rows."""
        return iter(self._kept) if self._kept is not None else self._read(range(len(self.columns)))

    def whole(self, wanted: Sequence[int]) -> Iterator[tuple[int, Floats]]:
        """Whole columns, one at a time; as many are read at once as fit into memory.

        Args:
            wanted: The numbers of the columns.
        """
        if self._kept is not None:
            for index in wanted:
                yield index, np.concatenate([np.empty(0), *(block[index] for block in self._kept)])
            return
        at_once = max(1, KEPT_BYTES // (16 * max(1, self.rows)))  # the last ones may still be in use
        for start in range(0, len(wanted), at_once):
            group = wanted[start : start + at_once]
            names = [self.columns[index] for index in group]
            frame = collect(self._frame.select(names), self._label)
            for index in group:
                yield index, self._block(frame, [index])[0]

    def series(self, index: int) -> pl.Series:
        """A whole column as it is."""
        name = self.columns[index]
        return collect(self._frame.select(name), self._label)[name]

    def order(self, index: int) -> Floats:
        """What ranks a column that is read less an offset, without rounding."""
        return order(self.series(index))

    def _read(self, wanted: Sequence[int]) -> Iterator[Floats]:
        """Blocks of some columns, each with the same number of rows but for the last."""
        if not wanted:
            return
        height = max(1024, BLOCK_VALUES // len(wanted))
        numbers = self._frame.select(self.columns[index] for index in wanted)
        waiting: list[pl.DataFrame] = []
        rows = 0
        at_once = max(height, SLICE_VALUES // len(wanted))
        slices = _slices if _can_slice(numbers) else _batches
        for batch in slices(numbers, at_once, self._label):
            waiting.append(batch)
            rows += batch.height
            if rows < height:
                continue
            joined = pl.concat(waiting)
            for start in range(0, rows - height + 1, height):
                yield self._block(joined.slice(start, height), wanted)
            waiting = [joined.slice(rows - rows % height)]
            rows %= height
        if rows:
            yield self._block(pl.concat(waiting), wanted)

    def _block(self, frame: pl.DataFrame, wanted: Sequence[int]) -> Floats:
        # Polars makes NaN of null here.
        numbers = frame.select(to_float(self.columns[i], self.exact.get(i)) for i in wanted).to_numpy()
        block: Floats = np.ascontiguousarray(numbers.T)
        infinite = np.isinf(block)
        return np.where(infinite, np.nan, block) if infinite.any() else block


def _can_slice(frame: pl.LazyFrame) -> bool:
    """Whether slices of a frame cost no more than the whole: scanned Parquet and frames in memory."""
    return all(SLICED.match(line.strip()) for line in frame.explain().splitlines())


def _slices(frame: pl.LazyFrame, height: int, label: str) -> Iterator[pl.DataFrame]:
    """A frame in slices, one in memory at a time.

    Polars 2.1 gives batches quicker, but reads so far ahead of them that 300 columns took 2.5 GB.
    """
    start = 0
    while True:
        batch = collect(frame.slice(start, height), label)
        if batch.height:
            yield batch
        if batch.height < height:
            return
        start += height


def _batches(frame: pl.LazyFrame, height: int, label: str) -> Iterator[pl.DataFrame]:
    batches = frame.collect_batches(chunk_size=height, maintain_order=True)
    while True:
        try:
            batch = next(batches, None)
        except MaterializeError:
            raise
        except FAILURES as error:
            raise unreadable(label, error) from None
        if batch is None:
            return
        yield batch


def collect(frame: pl.LazyFrame, label: str) -> pl.DataFrame:
    """Collects a frame.

    Raises:
        TableError: If it cannot be read.
    """
    try:
        return frame.collect()
    except MaterializeError:
        raise
    except FAILURES as error:
        raise unreadable(label, error) from None


def _survey(frame: pl.LazyFrame, columns: Sequence[str], label: str) -> tuple[int, dict[str, Exact]]:
    """The rows of a table, and the columns that float64 cannot hold."""
    schema = frame.collect_schema()
    asked = [name for name in columns if can_exceed(schema[name])]
    steps = [pl.col(name).to_physical() for name in asked]
    ranges = [
        *(column.min().alias(f"{place} low") for place, column in enumerate(steps)),
        *(column.max().alias(f"{place} high") for place, column in enumerate(steps)),
    ]
    rows, *found = collect(frame.select(pl.len().alias("rows"), *ranges), label).row(0)
    pairs = zip(found[: len(asked)], found[len(asked) :], strict=True)
    return int(rows), find_exact(dict(zip(asked, pairs, strict=True)), schema)


def count_rows(frame: pl.LazyFrame, label: str) -> int:
    """How many rows a table has.

    Raises:
        TableError: If it cannot be read.
    """
    return int(collect(frame.select(pl.len()), label).item())


def sample_rows(frame: pl.LazyFrame, rows: int, *, size: int, seed: int) -> pl.LazyFrame:
    """A sample of a table's rows without repetition, in their order; the seed decides which.

    Example:
        >>> sample_rows(pl.LazyFrame({"x": range(100)}), 100, size=3, seed=0).collect()["x"].to_list()
        [49, 53, 97]
    """
    chosen = sorted(random.Random(seed).sample(range(rows), size))  # noqa: S311 - no secret
    number = "row"
    while number in frame.collect_schema():
        number += "_"
    wanted = pl.Series(chosen, dtype=pl.get_index_type())
    return frame.with_row_index(number).filter(pl.col(number).is_in(wanted.implode())).drop(number)
