"""Spearman's rank correlation of columns with one target: average ranks, on the rows where both are finite.

A column without holes is ranked once. The target is ranked once for each pattern of holes that it meets.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from polars_materialize.signal_mix.values import Floats

LEAST = 3
"""The fewest rows that a correlation is made of."""

REMEMBERED = 4
"""For how many patterns of holes the target's ranks are kept."""


def sorted_ranks(column: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """The order that sorts a column without holes, and the ranks in that order, from 1.

    Equal values share the mean of their ranks.
    """
    order = np.argsort(column)
    ordered = column[order]
    new = ordered[1:] != ordered[:-1]
    if new.all():
        return order, np.arange(1.0, len(column) + 1)
    starts = np.concatenate([[0], np.flatnonzero(new) + 1])
    counts = np.diff(np.append(starts, len(column)))
    return order, np.repeat(starts + (counts + 1) / 2, counts)


def average_ranks(column: Floats) -> Floats:
    """The ranks of a column without holes, from 1; equal values share the mean of theirs.

    Example:
        >>> average_ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist()
        [3.5, 1.0, 3.5, 2.0]
    """
    order, ordered = sorted_ranks(column)
    ranks = np.empty(len(column))
    ranks[order] = ordered
    return ranks


class TargetRanks:
    """The target's ranks, less their mean, on the rows of a mask."""

    def __init__(self, target: Floats) -> None:
        """Ranks nothing yet."""
        self.target = target
        self.finite = np.isfinite(target)
        self._known: dict[bytes, Floats] = {}
        self._lock = threading.Lock()

    def on(self, both: npt.NDArray[np.bool_]) -> Floats:
        """The ranks on the rows where the target and a column are finite."""
        key = np.packbits(both).tobytes()
        with self._lock:
            ranks = self._known.get(key)
            if ranks is None:
                ranks = average_ranks(self.target[both]) - _middle(both)
                while len(self._known) >= REMEMBERED:
                    del self._known[next(iter(self._known))]
                self._known[key] = ranks
        return ranks

    def correlate(self, column: Floats) -> float:
        """Spearman's rho with a column; NaN if it does not exist."""
        both = self.finite & np.isfinite(column)
        whole = bool(both.all())
        if int(both.sum()) < LEAST:
            return float("nan")
        target = self.on(both)
        order, ranks = sorted_ranks(column if whole else column[both])
        ranks = ranks - _middle(both)
        spread = float(np.sum(ranks * ranks)) * float(np.sum(target * target))
        if not spread > 0:
            return float("nan")
        return float(np.clip(np.sum(ranks * target[order]) / np.sqrt(spread), -1, 1))


def _middle(rows: npt.NDArray[np.bool_]) -> float:
    """The mean of the ranks of some rows."""
    return (int(rows.sum()) + 1) / 2
