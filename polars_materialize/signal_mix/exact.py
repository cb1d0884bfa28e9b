"""Integers and decimals that float64 cannot hold: their least value is subtracted before they become floats.

A float64 has 53 bits, so `1_700_000_000_000_000_001` and `..._002` (nanoseconds of a clock, say) are the same
float. What such a column has above its least value mostly fits, and correlations need no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polars_materialize.signal_mix.values import Floats

FLOAT_INTEGERS = 2**53
"""Up to here float64 holds every whole number."""

INTEGERS = 2**127
"""Below here the integers of Polars hold every difference."""


@dataclass(frozen=True)
class Exact:
    """What is known of a column that float64 cannot hold.

    Attributes:
        low: Its least value, in steps.
        high: Its greatest value, in steps.
        steps: The steps of one: 1, or 100 for a decimal with two places.
    """

    low: int
    high: int
    steps: int

    @property
    def offset(self) -> int:
        """What is subtracted, in steps; nothing where the difference would not fit an integer."""
        return self.low if self.high - self.low < INTEGERS else 0

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest value, as the nearest floats."""
        return float(Fraction(self.low, self.steps)), float(Fraction(self.high, self.steps))

    def value(self, above: float) -> float:
        """The value that stands so far above the offset.

        Example:
            >>> Exact(low=2**60, high=2**60 + 8, steps=1).value(4.0) == 2.0**60
            True
        """
        return float(Fraction(self.offset, self.steps) + Fraction(above))


def can_exceed(dtype: pl.DataType) -> bool:
    """Whether float64 cannot hold every number of a dtype.

    Example:
        >>> [can_exceed(dtype) for dtype in (pl.Int64(), pl.Decimal(5, 2), pl.Int32(), pl.Float64())]
        [True, True, False, False]
    """
    return dtype.is_decimal() or dtype in (pl.Int64, pl.UInt64, pl.Int128, pl.UInt128)


def find_exact(ranges: Mapping[str, tuple[int | None, int | None]], schema: pl.Schema) -> dict[str, Exact]:
    """The columns that need care, of those whose dtype can exceed float64.

    Args:
        ranges: The least and the greatest value of each in steps; null without any.
        schema: The table's.
    """
    found = {}
    for name, (low, high) in ranges.items():
        dtype = schema[name]
        steps = 10**dtype.scale if isinstance(dtype, pl.Decimal) else 1
        # A decimal's fraction is rounded by float64 however small the number is.
        if low is not None and high is not None and (steps > 1 or max(-low, high) > FLOAT_INTEGERS):
            found[name] = Exact(low, high, steps)
    return found


def to_float(name: str, exact: Exact | None) -> pl.Expr:
    """Build the expression that makes a column float64, less its offset."""
    if exact is None:
        return pl.col(name).cast(pl.Float64)
    steps = pl.col(name).to_physical()
    if exact.offset:
        kind = pl.UInt128 if exact.high >= INTEGERS else pl.Int128
        steps = steps.cast(kind) - pl.lit(exact.offset, dtype=kind)
    return steps.cast(pl.Float64) / float(exact.steps)


def order(column: pl.Series) -> Floats:
    """Numbers in the order of a column's values, equal where they are; NaN for nulls."""
    return column.to_physical().rank("dense").cast(pl.Float64).to_numpy()


def part(column: pl.Series, rows: Sequence[bool] | np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Floats:
    """Some rows of a column without holes as float64, less the least of them; the scale is of no matter."""
    steps = column.to_physical().filter(pl.Series(rows, dtype=pl.Boolean))
    low, high = steps.min(), steps.max()
    if not isinstance(low, int) or not isinstance(high, int):
        return np.empty(0)
    frame = steps.alias("x").to_frame()
    return frame.select(to_float("x", Exact(low, high, 1)))["x"].to_numpy()
