"""Moments and Pearson correlations of many columns at once, each pair on the rows where both are finite.

First each column is looked at whole: its count, range, mean, and Spearman's rho with the target. Then one
pass over blocks of rows adds up products of the columns less their means, scaled into -1..1, so that neither
a large mean nor a large scale costs digits (Chan, Golub and LeVeque, "Algorithms for computing the sample
variance", 1983, on shifted data). Holes are zeros there, and matrix products with the masks give the sums
that a pair's own rows need:

    r_ij = (Σxy - Σx Σy / n) / sqrt((Σx² - (Σx)² / n) (Σy² - (Σy)² / n)), over rows where both are finite.

Where the rows of a pair leave so little of a column's spread that this would lose digits, the pair is
computed again from its own values.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polars_materialize.signal_mix.exact import part
from polars_materialize.signal_mix.ranks import LEAST, TargetRanks

if TYPE_CHECKING:
    import numpy.typing as npt

    from polars_materialize.signal_mix.values import Floats, Values

AT_ONCE = min(4, os.cpu_count() or 1)

LOST = 1e-4
"""Below which share of its sum of squares a pair's spread is computed again from the values."""

TINY = 1e-200
"""Below which sum of squares the same is done, since smaller numbers have fewer digits."""

HUGE = 1e150
SHRUNK = 2.0**-600


@dataclass(frozen=True)
class Moments:
    """What the values of each column are like, and how they go together.

    Attributes:
        count: The finite values of each column.
        mean: Their mean; NaN without any.
        std: Their standard deviation, of a sample (n - 1); NaN with fewer than two.
        low: The least of them.
        high: The greatest of them.
        varies: Whether it has two different ones.
        r: Pearson's r of each pair; NaN where it does not exist.
        n: The rows of each pair.
        rho: Spearman's rho of each with the target; NaN where it does not exist, and without a target.
    """

    count: npt.NDArray[np.int64]
    mean: Floats
    std: Floats
    low: Floats
    high: Floats
    varies: npt.NDArray[np.bool_]
    r: Floats
    n: npt.NDArray[np.int64]
    rho: Floats


def compute_moments(values: Values, target: str | None) -> Moments:
    """Reads a table's numbers and makes their moments.

    Args:
        values: The numbers.
        target: The column among them to rank the others against.
    """
    count, mean, low, high, rho = _look(values, target)
    columns = len(values.columns)
    scale = np.where(np.maximum(np.abs(low), np.abs(high)) > HUGE, SHRUNK, 1.0)
    centre = mean * scale
    reach = np.maximum(high * scale - centre, centre - low * scale)
    varies = (count > 1) & (low < high) & (reach > 0)
    centre = np.where(varies, centre, 0.0)
    unit = np.where(varies, reach, 1.0)

    products = np.zeros((columns, columns))
    sums = np.zeros((columns, columns))  # [i, j]: of column i over the rows where j is finite
    squares = np.zeros((columns, columns))
    pairs = np.zeros((columns, columns))
    for block in values.blocks():
        x = _centred(block, scale=scale, centre=centre, unit=np.where(varies, unit, np.inf))
        products += x @ x.T
        _add_masked(x, np.isfinite(block), sums, squares, pairs)
    own = np.diagonal(squares) - np.diagonal(sums) ** 2 / np.maximum(count, 1)
    with np.errstate(over="ignore"):
        spread = np.sqrt(np.maximum(own, 0) / np.maximum(count - 1, 1)) * unit / scale
    std = np.where(count > 1, np.where(varies, spread, 0.0), np.nan)
    exact_mean = mean + np.diagonal(sums) / np.maximum(count, 1) * unit / scale
    n = np.rint(pairs).astype(np.int64)
    r = _correlations(products, sums, squares, n, varies)
    _again(values, r, _has_lost(sums, squares, n, varies))
    mean = np.where(varies, np.clip(exact_mean, low, high), mean)
    for i, exact in values.exact.items():
        mean[i] = exact.value(mean[i])
        low[i], high[i] = exact.range
    return Moments(count=count, mean=mean, std=std, low=low, high=high, varies=varies, r=r, n=n, rho=rho)


def _look(values: Values, target: str | None) -> tuple[npt.NDArray[np.int64], Floats, Floats, Floats, Floats]:
    """The count, mean, range and rho of each column."""
    ranks = None
    if target is not None:
        at = values.columns.index(target)
        ranks = TargetRanks(values.order(at) if at in values.exact else next(values.whole([at]))[1].copy())

    def look(columns: tuple[Floats, Floats]) -> tuple[int, float, float, float, float]:
        column, order = columns
        return (*describe(column), float("nan") if ranks is None else ranks.correlate(order))

    found: list[tuple[int, float, float, float, float]] = []
    waiting: list[tuple[Floats, Floats]] = []
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for i, column in values.whole(range(len(values.columns))):
            needs_order = ranks is not None and i in values.exact
            waiting.append((column, values.order(i) if needs_order else column))
            if len(waiting) == 2 * AT_ONCE:
                found += pool.map(look, waiting)
                waiting = []
        found += pool.map(look, waiting)
    table = np.array(found, dtype=np.float64).reshape(-1, 5).T
    return table[0].astype(np.int64), table[1], table[2], table[3], table[4]


def describe(column: Floats) -> tuple[int, float, float, float]:
    """The count, mean, least and greatest of a column's finite values; NaN without any.

    Example:
        >>> describe(np.array([1.0, np.nan, 4.0]))
        (2, 2.5, 1.0, 4.0)
    """
    finite = np.isfinite(column)
    values = column if finite.all() else column[finite]
    if not len(values):
        return 0, float("nan"), float("nan"), float("nan")
    low, high = float(values.min()), float(values.max())
    with np.errstate(over="ignore"):
        mean = float(values.mean())
    if not np.isfinite(mean):
        mean = float((values / len(values)).sum())
    return len(values), min(max(mean, low), high), low, high


def _centred(block: Floats, *, scale: Floats, centre: Floats, unit: Floats) -> Floats:
    """A block less the columns' means, in -1..1; holes and constant columns are 0."""
    x = block * scale[:, None] if (scale != 1).any() else block
    x = x - centre[:, None]
    x /= unit[:, None]
    hole = ~np.isfinite(x)
    if hole.any():
        x[hole] = 0.0
    return x


def _add_masked(
    x: Floats, finite: npt.NDArray[np.bool_], sums: Floats, squares: Floats, pairs: Floats
) -> None:
    """Adds a block's sums over the rows where another column is finite; the same holes share them."""
    if finite.all():
        sums += x.sum(axis=1)[:, None]
        squares += np.einsum("ij,ij->i", x, x)[:, None]
        pairs += x.shape[1]
        return
    _, first, which = np.unique(np.packbits(finite, axis=1), axis=0, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    masks = finite[first].astype(np.float64)
    sums += (x @ masks.T)[:, which]
    squares += ((x * x) @ masks.T)[:, which]
    pairs += (masks @ masks.T)[np.ix_(which, which)]


def _correlations(
    products: Floats, sums: Floats, squares: Floats, n: npt.NDArray[np.int64], varies: npt.NDArray[np.bool_]
) -> Floats:
    rows = np.maximum(n, 1)
    left = np.maximum(squares - sums**2 / rows, 0)
    right = left.T
    both = np.sqrt(left) * np.sqrt(right)
    usable = (n >= LEAST) & (both > 0) & varies[:, None] & varies[None, :]
    shared = products - sums * sums.T / rows
    r = np.full(products.shape, np.nan)
    np.divide(shared, both, out=r, where=usable)
    return np.asarray(np.clip(r, -1, 1))


def _has_lost(
    sums: Floats, squares: Floats, n: npt.NDArray[np.int64], varies: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which pairs have rows that leave too little of a column's spread."""
    left = squares - sums**2 / np.maximum(n, 1)
    poor = (n >= LEAST) & ((left < LOST * squares) | (squares < TINY)) & varies[:, None] & varies[None, :]
    return np.asarray(poor | poor.T)


def _again(values: Values, r: Floats, poor: npt.NDArray[np.bool_]) -> None:
    """Computes pairs from their own values."""
    for i, column in values.whole([int(i) for i in np.flatnonzero(poor.any(axis=1))]):
        others = [int(j) for j in np.flatnonzero(poor[i]) if j > i]
        kept = column.copy() if others else column
        series = values.series(i) if others and i in values.exact else None
        for j, other in values.whole(others):
            both = np.isfinite(kept) & np.isfinite(other)
            left = kept[both] if series is None else part(series, both)
            right = part(values.series(j), both) if j in values.exact else other[both]
            r[i, j] = r[j, i] = pearson(left, right)


def pearson(left: Floats, right: Floats) -> float:
    """Pearson's r of two columns without holes; NaN if it does not exist.

    Example:
        >>> round(pearson(np.array([1.0, 2, 3]), np.array([5.0, 3, 1])), 12)
        -1.0
        >>> pearson(np.array([1.0, 1, 1]), np.array([5.0, 3, 1]))
        nan
    """
    if len(left) < LEAST:
        return float("nan")
    x, y = _unit(left), _unit(right)
    if x is None or y is None:
        return float("nan")
    both = float(np.sqrt(np.sum(x * x)) * np.sqrt(np.sum(y * y)))
    return float(np.clip(np.sum(x * y) / both, -1, 1)) if both > 0 else float("nan")


def _unit(column: Floats) -> Floats | None:
    """A column less its mean, in -1..1; nothing if it is constant."""
    low, high = column.min(), column.max()
    if low == high:
        return None
    if max(abs(low), abs(high)) > HUGE:
        column = column * SHRUNK
    x = column - column.mean()
    reach = np.abs(x).max()
    if not reach > 0:
        return None
    x = x / reach
    return np.asarray(x - x.mean())
