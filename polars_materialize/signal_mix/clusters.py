"""Groups of columns that say the same.

Complete linkage: two groups are joined while every column of the one has at least the wanted |r| with every
column of the other. So any member can stand for any other. (Single linkage would chain: a like b, b like c,
and so on, until features with r = 0.3 are in one group.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polars_materialize.signal_mix.values import Floats

GONE = -1.0
"""The likeness of what cannot be joined."""


def cluster(r: Floats, threshold: float) -> list[list[int]]:
    """Groups of columns, any two of a group with an |r| of at least the threshold.

    Args:
        r: The correlation of each pair; NaN where there is none, which keeps the two apart.
        threshold: The least |r| within a group.

    Returns:
        Groups of two or more, each in the order of the columns; the largest first, then in the order of
        columns.

    Example:
        >>> cluster(np.array([[1, 0.99, 0.1], [0.99, 1, 0.9], [0.1, 0.9, 1]]), 0.9)
        [[0, 1]]
    """
    likeness = np.nan_to_num(np.abs(r), nan=GONE)
    np.fill_diagonal(likeness, GONE)
    groups: list[list[int]] = []
    for members in _connected(likeness >= threshold):
        groups += _merged(likeness[np.ix_(members, members)], members, threshold)
    return sorted(groups, key=lambda group: (-len(group), group))


def _merged(between: Floats, members: Sequence[int], threshold: float) -> list[list[int]]:
    """Joins the two most similar groups for as long as they are similar enough; `between` is used up."""
    groups = [[member] for member in members]
    while True:
        left, right = divmod(int(np.argmax(between)), len(groups))
        if between[left, right] < threshold:
            return [sorted(group) for group in groups if len(group) > 1]
        least = np.minimum(between[left], between[right])
        between[left], between[:, left] = least, least
        between[right], between[:, right] = GONE, GONE
        between[left, left] = GONE
        groups[left] += groups[right]
        groups[right] = []


def _connected(near: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[list[int]]:
    """The connected parts of a graph, but for single columns."""
    left = set(range(len(near)))
    parts = []
    while left:
        part, edge = set(), [min(left)]
        while edge:
            node = edge.pop()
            if node in left:
                left.discard(node)
                part.add(node)
                edge += [int(other) for other in np.flatnonzero(near[node]) if int(other) in left]
        if len(part) > 1:
            parts.append(sorted(part))
    return parts


def order_by_likeness(r: Floats, groups: Sequence[Sequence[int]]) -> list[int]:
    """All columns in an order that puts similar ones side by side, and groups in one piece.

    The two most similar pieces, by their mean |r|, are joined until one is left; a piece is turned round
    where that brings more similar ends together.

    Example:
        >>> order_by_likeness(np.array([[1, 0.1, 0.9], [0.1, 1, 0.2], [0.9, 0.2, 1]]), [])
        [0, 2, 1]
    """
    likeness = np.nan_to_num(np.abs(r), nan=0.0)
    grouped = {member for group in groups for member in group}
    pieces = [list(group) for group in groups] + [[i] for i in range(len(r)) if i not in grouped]
    pieces.sort()
    while len(pieces) > 1:
        best = int(np.argmax(_means(likeness, pieces)))
        left, right = sorted(divmod(best, len(pieces)))
        ends = [
            (a, b) for a in (pieces[left], pieces[left][::-1]) for b in (pieces[right], pieces[right][::-1])
        ]
        joined = max(ends, key=lambda pair: likeness[pair[0][-1], pair[1][0]])
        pieces[left] = joined[0] + joined[1]
        del pieces[right]
    return pieces[0] if pieces else []


def _means(likeness: Floats, pieces: Sequence[Sequence[int]]) -> Floats:
    """The mean likeness of each two pieces, above the diagonal."""
    order = [member for piece in pieces for member in piece]
    sizes = np.array([len(piece) for piece in pieces])
    starts = np.cumsum([0, *sizes[:-1]])
    rows = np.add.reduceat(likeness[np.ix_(order, order)], starts, axis=0)
    means = np.add.reduceat(rows, starts, axis=1) / np.outer(sizes, sizes)
    return np.asarray(np.where(np.triu(np.ones_like(means), 1) > 0, means, -1.0))
