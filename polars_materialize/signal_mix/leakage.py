"""Columns that are made from the target, or with it by the same people, which would explain it too well.

Four kinds are kept out of the signals:

- other opinions, by name: `dmos`, `MOSChunk05`, `stdFull`, `n_ratings`, `subject_07`;
- pools and rating statistics of the target, by name: `mos_std_dev` beside `mos`, `vmaf_p10` beside `vmaf`;
- columns named after the target that are a straight line of it: `mos_raw_0_100` beside `mos`, `norm_vmaf`;
- columns named after the target that put the rows into the same or the opposite order, over many rows.

A column with another name that is a straight line of the target stays a signal, with a warning: over few
rows that may be chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polars_materialize.signal_mix.families import built_in
from polars_materialize.signal_mix.patterns import begins, parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

LINE = 1 - 1e-9
"""From which |r| on a column is a straight line of the target; labels are often written with few digits."""

ORDERED_ROWS = 20
"""From how many rows on the same order as the target's is no chance."""

SAME = (("mos", "mos_raw_0_100"), ("vmaf", "vmaf_score"))
"""Names of one thing: this package's joins write both of a label, and libvmaf's tools either of its score."""

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
    others = [name for names in SAME if target.lower() in names for name in names if name != target.lower()]
    return [parts_of(name) for name in (target, *others)]


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

OPINIONS = (
    *("mos", "dmos", "raw_mos", "raw_dmos", "zmos", "z_mos", "gt_mos", "true_mos", "human_mos", "jod"),
    *("opinion", "mean_opinion_score", "subject", "subjects", "subjective", "rating", "ratings"),
    *("n_ratings", "num_ratings", "votes", "n_votes", "num_votes", "std", "stdev", "stddev", "sos", "ci"),
    *("mosfull", "moschunk", "dmosfull", "dmoschunk", "stdfull", "stdchunk", "rawmos", "rawdmos"),
)
"""What the name of an opinion, or of a statistic of opinions, begins with."""

SPREADS = ("std", "stdev", "stddev")

RATED = ("no_reference_ugc", "hdr_display_panel")
"""The families of what people rate, and of how: `std_qp` is a pool of a feature, `std_hdr` is none."""


def is_opinion(name: str) -> bool:
    """Whether a column holds opinions of people, or a statistic of them, by its name.

    Example:
        >>> [name for name in ("MOSChunk05", "stdFull", "votes", "dover_mos", "std_qp") if is_opinion(name)]
        ['MOSChunk05', 'stdFull', 'votes']
    """
    if not any(begins(start, name) for start in OPINIONS):
        return False
    first, *rest = parts_of(name)
    measured = "_".join(rest)
    return not (first in SPREADS and any(f.has(measured) for f in built_in() if f.name not in RATED))


def is_statistic(name: str, target: str) -> bool:
    """Whether a column is a pool or a rating statistic of the target, by its name.

    Example:
        >>> [is_statistic(name, "mos") for name in ("mos_std_dev", "ci", "mos_n_ratings", "dover_mos_std")]
        [True, True, False, False]
    """
    parts = parts_of(name)
    ends = [parts_of(end) for end in STATISTICS]
    bare = is_opinion(target) and parts in [parts_of(name) for name in RATING_STATISTICS]
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
