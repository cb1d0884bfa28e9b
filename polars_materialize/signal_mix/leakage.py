"""Columns that are made from the target, which would explain it too well.

Three kinds are kept out of the signals:

- pools and rating statistics of the target, by name: `mos_std_dev` beside `mos`, `vmaf_p10` beside `vmaf`;
- columns named after the target that are a straight line of it: `mos_raw_0_100` beside `mos`, `norm_vmaf`;
- columns named after the target that put the rows into the same or the opposite order, over many rows.

A column with another name that is a straight line of the target stays a signal, with a warning: over few
rows that may be chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polars_materialize.signal_mix.patterns import parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

LINE = 1 - 1e-9
"""From which |r| on a column is a straight line of the target; labels are often written with few digits."""

ORDERED_ROWS = 20
"""From how many rows on the same order as the target's is no chance."""

LABELS = ("mos", "mos_raw_0_100")
"""Two columns of one label, as this package's joins write them."""

STATISTICS = (
    *(
        "mean",
        "average",
        "median",
        "min",
        "max",
        "std",
        "stdev",
        "stddev",
        "std_dev",
        "sd",
        "var",
        "variance",
    ),
    *(
        "ci",
        "ci95",
        "sem",
        "p1",
        "p5",
        "p10",
        "p20",
        "p25",
        "p75",
        "p80",
        "p90",
        "p95",
        "p99",
        "harmonic_mean",
    ),
    *("hmean", "iqr", "zscore", "z", "norm", "normalized", "normalised", "scaled", "raw", "bagging"),
)
"""What the name of a pool or a rating statistic of the target ends with."""


def stems(target: str) -> list[tuple[str, ...]]:
    """The name parts that tell of columns made from a target.

    Example:
        >>> stems("mos_raw_0_100")
        [('mos', 'raw', '0', '100'), ('mos',)]
    """
    names = [target, *(name for name in LABELS if target.lower() in LABELS and name != target.lower())]
    return [parts_of(name) for name in names]


def is_named_after(name: str, target: str) -> bool:
    """Whether a column's name holds the target's.

    Example:
        >>> is_named_after("norm_mos", "mos"), is_named_after("mosaic", "mos")
        (True, False)
        >>> is_named_after("MOS", "mos_raw_0_100")
        True
    """
    parts = parts_of(name)
    return any(_find(stem, parts) is not None for stem in stems(target))


RATING_STATISTICS = ("std", "stdev", "stddev", "std_dev", "sd", "var", "variance", "ci", "ci95", "sem", "sos")
"""Whole names that beside opinion scores can only be statistics of the ratings."""

OPINIONS = (*LABELS, "dmos")


def is_statistic(name: str, target: str) -> bool:
    """Whether a column is a pool or a rating statistic of the target, by its name.

    Example:
        >>> [is_statistic(name, "mos") for name in ("mos_std_dev", "ci", "mos_n_ratings", "dover_mos_std")]
        [True, True, False, False]
    """
    parts = parts_of(name)
    ends = [parts_of(end) for end in STATISTICS]
    bare = target.lower() in OPINIONS and parts in [parts_of(name) for name in RATING_STATISTICS]
    return bare or any(
        len(parts) > len(stem) > 0 and parts[: len(stem)] == stem and parts[len(stem) :] in ends
        for stem in stems(target)
    )


def _find(stem: Sequence[str], parts: Sequence[str]) -> int | None:
    """Where some parts stand in others."""
    last = len(parts) - len(stem)
    return next((i for i in range(last + 1) if stem and parts[i : i + len(stem)] == stem), None)


def why_leak(name: str, target: str, *, pearson: float, spearman: float, n: int) -> str | None:
    """Why a column is taken to be made from the target, if it is.

    Args:
        name: The column.
        target: The target.
        pearson: Its r with the target; NaN if there is none.
        spearman: Its rho, likewise.
        n: The rows of both.

    Example:
        >>> why_leak("mos_raw_0_100", "mos", pearson=1.0, spearman=1.0, n=3)
        "named after 'mos' and a straight line of it (r = 1 on 3 rows)"
        >>> why_leak("dover_mos", "mos", pearson=0.9, spearman=0.9, n=3) is None
        True
    """
    if is_statistic(name, target):
        return f"a pool or rating statistic of {target!r}, by its name"
    if not is_named_after(name, target):
        return None
    if abs(pearson) >= LINE:
        return f"named after {target!r} and a straight line of it (r = {pearson:.0f} on {n:,} rows)"
    if abs(spearman) >= LINE and n >= ORDERED_ROWS:
        return f"named after {target!r} and in its order (Spearman {spearman:.0f} on {n:,} rows)"
    return None
