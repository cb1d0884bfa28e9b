"""Several joins onto one table: each planned by the table as it was read, all attached in one go.

So no part depends on what another adds, and the order in which they are named cannot matter. What a part
drops, later parts do not look at: a clip of which no row is left is not measured.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from polars_materialize.errors import ColumnExistsError, listing
from polars_materialize.tables.failures import FAILURES, unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polars_materialize.joins import Evidence, Plan, Side

FEW = 2**18
"""Rows of evidence that a shard may be joined with as they are; looking its own up takes as long."""


@dataclass(frozen=True)
class Chain:
    """Joins onto one table.

    Attributes:
        schema: The table's schema.
        sides: The table's side of each join, by what this is called, in the order of their new columns.
    """

    schema: pl.Schema
    sides: Mapping[str, Side]

    @property
    def added(self) -> dict[str, pl.DataType]:
        """The new columns of all."""
        return {name: dtype for side in self.sides.values() for name, dtype in side.columns.items()}

    @property
    def drops(self) -> bool:
        """Whether rows may be dropped."""
        return any(side.drops for side in self.sides.values())

    def check(self) -> None:
        """Refuses parts that would write one column, or one that another part needs.

        Raises:
            ColumnExistsError: Names the parts and the columns.
        """
        for one, side in self.sides.items():
            for other, later in self.sides.items():
                both = [name for name in side.columns if name in later.columns and other != one]
                needed = [name for name in side.columns if name in later.keys]
                if both:
                    raise ColumnExistsError(
                        f"{one} and {other} would both write {listing(both)}", columns=both
                    )
                if needed:
                    problem = f"{one} would replace {listing(needed)}, by which {other} knows its rows"
                    raise ColumnExistsError(problem, columns=needed)

    def evidence(self, plans: Sequence[Plan], lf: pl.LazyFrame, table: str) -> list[Evidence]:
        """The evidence of each join for the values that the table has.

        Args:
            plans: The joins.
            lf: The table.
            table: What to call it in an error.

        Raises:
            TableError: If it cannot be read.
        """
        known: dict[object, pl.DataFrame] = {}
        found: list[Evidence] = []
        for plan, side in zip(plans, self.sides.values(), strict=True):
            what = type(side), side.keys  # clips are not told apart as keys are
            if what not in known:
                try:
                    known[what] = side.distinct_values(lf).collect()
                except FAILURES as error:  # a store or a disk that went away
                    raise unreadable(table, error) from None
            found.append(plan.evidence(known[what]))
            if side.drops:
                lf, known = side.attach(lf, found[-1].frame.lazy()).select(self.schema.names()), {}
        return found

    def attach(self, lf: pl.LazyFrame, evidence: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
        """The table with the new columns; replaced ones in their old places.

        Args:
            lf: Rows with all columns of the table.
            evidence: The frame of each join's evidence.
        """
        schema = dict(self.schema)
        for side, frame in zip(self.sides.values(), evidence, strict=True):
            whole: Any = side
            lf = replace(whole, schema=pl.Schema(schema)).attach(lf, frame)
            schema |= side.columns
        return lf

    def schema_after(self) -> pl.Schema:
        """The schema of the table with the new columns; replaced ones in their old places."""
        return pl.Schema({**self.schema, **self.added})


class Attached:
    """The new columns of a chain, for any rows of its table."""

    def __init__(self, chain: Chain, evidence: Sequence[pl.DataFrame]) -> None:
        """Begins with all evidence, and no order to find some of it by.

        Args:
            chain: The joins.
            evidence: The frame of each join's evidence.
        """
        self._chain = chain
        self._frames = list(evidence)
        self._orders: dict[int, pl.DataFrame] = {}
        self._lock = threading.Lock()

    def all(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Many rows of the table with the new columns."""
        return self._chain.attach(rows, [frame.lazy() for frame in self._frames])

    def some(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """A small part of the table with the new columns: the same rows, joined with what they need only.

        A join takes time for all evidence, however few rows it is joined with: half a second for a million
        clips, and that again for each of a thousand shards.
        """
        known: dict[str, pl.Series] = {}
        frames = []
        for place, (side, frame) in enumerate(zip(self._chain.sides.values(), self._frames, strict=True)):
            key = side.keys[0]
            if frame.height > FEW:
                if key not in known:
                    known[key] = rows.select(self._hash(key, key).unique()).collect().to_series()
                frame = self._cut(place, key, known[key])  # noqa: PLW2901 - what is left of it
            frames.append(frame.lazy())
        return self._chain.attach(rows, frames)

    def _hash(self, key: str, name: str) -> pl.Expr:
        """The hashes of a key column, or of what it is called in evidence.

        Equal keys have equal ones; different keys may, too, which does no harm.
        """
        column, dtype = pl.col(name), self._chain.schema[key]
        if dtype.is_float():
            # As joins take them: NaN is null, and a negative zero is zero.
            column = column.fill_nan(None) + 0.0
        elif dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        return column.hash()

    def _cut(self, place: int, key: str, wanted: pl.Series) -> pl.DataFrame:
        """The evidence of one join for the keys with the wanted hashes, and perhaps a few more."""
        frame = self._frames[place]
        with self._lock:  # files may be written side by side
            if place not in self._orders:
                # Evidence begins with what rows are known by.
                hashes = frame.select(hash=self._hash(key, frame.columns[0])).with_row_index("row")
                self._orders[place] = hashes.sort("hash")
            order = self._orders[place]
        first = order["hash"].search_sorted(wanted, side="left")
        last = order["hash"].search_sorted(wanted, side="right")
        places = pl.int_ranges(first, last, eager=True).explode().drop_nulls()
        return frame[order["row"].gather(places)]
