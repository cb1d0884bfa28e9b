"""What follows from the statistics of one table: health, correlations, pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polars_materialize.signal_mix import clusters
from polars_materialize.signal_mix.reports import (
    DIGITS,
    Cluster,
    ColumnStats,
    FamilyHealth,
    HeatMap,
    Intersection,
    RedundantPair,
    TargetCorrelation,
    number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polars_materialize.signal_mix.families import Family
    from polars_materialize.signal_mix.moments import Moments
    from polars_materialize.signal_mix.options import SignalOptions
    from polars_materialize.signal_mix.values import Floats

LISTED_PAIRS = 10_000
"""How many redundant pairs a report lists; clusters say the same in fewer words."""

HEAT_MAP_COLUMNS = 80


@dataclass(frozen=True)
class Statistics:
    """The statistics of the signals of one table.

    Attributes:
        names: The signals.
        family: The first family of each; null without.
        families: All families of each.
        r: Pearson's r of each pair; NaN where there is none.
        n: The rows of each pair.
        pearson: r with the target; NaN where there is none.
        spearman: rho with the target, likewise.
        target_n: The rows that each shares with the target.
    """

    names: list[str]
    family: list[str | None]
    families: list[frozenset[str]]
    r: Floats
    n: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    pearson: Floats
    spearman: Floats
    target_n: list[int]


def describe_columns(moments: Moments, names: Sequence[str], rows: int) -> dict[str, ColumnStats]:
    """What the values of each column are like."""
    return {
        name: ColumnStats(
            n=int(moments.count[i]),
            finite_ratio=int(moments.count[i]) / rows if rows else 0.0,
            mean=number(moments.mean[i]),
            std=number(moments.std[i]),
            min=number(moments.low[i]),
            max=number(moments.high[i]),
        )
        for i, name in enumerate(names)
    }


def judge_families(
    families: Sequence[Family],
    members: Mapping[str, Sequence[str]],
    stats: Mapping[str, ColumnStats],
    options: SignalOptions,
) -> dict[str, FamilyHealth]:
    """What a table has of each family: `covered`, `weak` or `missing`.

    Args:
        families: The families.
        members: The columns of each by name.
        stats: What the values of each signal are like. Other columns cover nothing.
        options: The thresholds.
    """
    health = {}
    for family in families:
        matched = list(members[family.name])
        numeric = [name for name in matched if name in stats]
        healthy = [name for name in numeric if _is_healthy(stats[name], options)]
        status = "covered" if healthy else "weak" if matched else "missing"
        health[family.name] = FamilyHealth(
            status=status,
            label=family.title,
            question=family.question,
            matched_columns=matched,
            numeric_columns=numeric,
            healthy_columns=healthy,
            candidate_metrics=list(family.candidate_metrics),
            recommendation=family.recommendation,
        )
    return health


def _is_healthy(stats: ColumnStats, options: SignalOptions) -> bool:
    return (
        stats.std is not None
        and stats.std > options.min_std
        and stats.finite_ratio >= options.min_finite_ratio
    )


def correlate_target(found: Statistics) -> list[TargetCorrelation]:
    """Each signal with the target, the strongest first."""
    rows = [
        TargetCorrelation(
            column=name,
            family=found.family[i],
            pearson=number(found.pearson[i], DIGITS),
            spearman=number(found.spearman[i], DIGITS),
            n=found.target_n[i],
        )
        for i, name in enumerate(found.names)
    ]
    return sorted(rows, key=lambda row: (-strength(row.pearson), -strength(row.spearman), row.column))


def strength(r: float | None) -> float:
    """How strong a correlation is; less than any other if it does not exist."""
    return -1.0 if r is None else abs(r)


def find_redundant(found: Statistics, threshold: float) -> tuple[list[RedundantPair], int]:
    """Pairs that say the same, the strongest first, and how many there are."""
    lefts, rights = np.nonzero(np.triu(_sized(found.r) >= threshold, 1))
    order = np.lexsort((rights, lefts, -_sized(found.r)[lefts, rights]))
    pairs = [
        RedundantPair(
            left=found.names[i],
            right=found.names[j],
            left_family=found.family[i],
            right_family=found.family[j],
            pearson=round(float(found.r[i, j]), DIGITS),
            n=int(found.n[i, j]),
        )
        for i, j in zip(lefts[order[:LISTED_PAIRS]], rights[order[:LISTED_PAIRS]], strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-abs(pair.pearson), pair.left, pair.right)), len(lefts)


def _sized(r: Floats) -> Floats:
    """|r| as reports round it, so that a threshold holds for what is shown."""
    return np.asarray(np.round(np.abs(r), DIGITS))


def find_intersections(found: Statistics, options: SignalOptions) -> tuple[list[Intersection], int]:
    """The best complementary pairs, and how many there are.

    They are ordered by the multiple correlation of the target with both: with a and b the two correlations
    with the target and r the one between them, R² = (a² + b² - 2abr) / (1 - r²).
    """
    strong = np.flatnonzero(_sized(found.pearson) >= options.target_threshold)
    pairs = []
    for place, i in enumerate(strong):
        for j in strong[place + 1 :]:
            r = float(found.r[i, j])
            if not round(abs(r), DIGITS) <= options.complement_threshold:
                continue
            if _same_family(found.families[i], found.families[j]):
                continue
            a, b = float(found.pearson[i]), float(found.pearson[j])
            pairs.append((round(_joint(a, b, r), DIGITS), int(i), int(j), r))
    pairs.sort(key=lambda pair: (-pair[0], found.names[pair[1]], found.names[pair[2]]))
    return [_intersection(found, *pair) for pair in pairs[: options.top_k]], len(pairs)


def _same_family(left: frozenset[str], right: frozenset[str]) -> bool:
    """Whether two signals share a family, or one has none that could be different."""
    return not left or not right or bool(left & right)


def _joint(a: float, b: float, r: float) -> float:
    rest = 1 - r * r
    if rest <= 1e-12:
        return max(abs(a), abs(b))
    return math.sqrt(min(1.0, max(0.0, (a * a + b * b - 2 * a * b * r) / rest)))


def _intersection(found: Statistics, joint: float, i: int, j: int, r: float) -> Intersection:
    if abs(found.pearson[j]) > abs(found.pearson[i]):
        i, j = j, i
    return Intersection(
        left=found.names[i],
        right=found.names[j],
        left_family=str(found.family[i]),
        right_family=str(found.family[j]),
        pearson=round(r, DIGITS) + 0.0,
        n=int(found.n[i, j]),
        left_target=round(float(found.pearson[i]), DIGITS),
        right_target=round(float(found.pearson[j]), DIGITS),
        joint=joint,
    )


def find_clusters(found: Statistics, threshold: float) -> tuple[list[Cluster], list[list[int]]]:
    """Groups of signals that say the same, and their numbers with the representative first.

    A group is represented by the member with the highest |r| with the target; without a target, or among
    equals, by the one most like the others.
    """
    sized = _sized(found.r)
    groups = []
    for group in clusters.cluster(sized, threshold):
        likeness = {i: float(np.mean([sized[i, j] for j in group if j != i])) for i in group}
        goes = {i: strength(number(found.pearson[i], DIGITS)) for i in group}
        best = min(group, key=lambda i: (-goes[i], -likeness[i], found.names[i]))
        groups.append([best, *(i for i in group if i != best)])
    return [_cluster(found, sized, group) for group in groups], groups


def _cluster(found: Statistics, sized: Floats, group: Sequence[int]) -> Cluster:
    first = group[0]
    within = sized[np.ix_(group, group)][np.triu_indices(len(group), 1)]
    return Cluster(
        representative=found.names[first],
        columns=[found.names[i] for i in group],
        families=sorted({family for i in group for family in found.families[i]}),
        least_r=float(within.min()),
        target_pearson=number(found.pearson[first], DIGITS),
    )


def draw_heat_map(found: Statistics, groups: Sequence[Sequence[int]]) -> HeatMap:
    """The correlations of a picture: constant columns left out, and of a cluster all but one if need be."""
    shown = [i for i in range(len(found.names)) if np.isfinite(np.delete(found.r[i], i)).any()]
    if len(shown) > HEAT_MAP_COLUMNS:
        redundant = {i for group in groups for i in group[1:]}
        shown = [i for i in shown if i not in redundant]
        groups = []
    if len(shown) > HEAT_MAP_COLUMNS:
        shown.sort(key=lambda i: (-strength(number(float(found.pearson[i]))), i))
        shown = sorted(shown[:HEAT_MAP_COLUMNS])
    place = {column: at for at, column in enumerate(shown)}
    r = found.r[np.ix_(shown, shown)] if shown else np.empty((0, 0))
    pieces = [[place[i] for i in group] for group in groups]
    order = [shown[i] for i in clusters.order_by_likeness(r, pieces)]
    return HeatMap(
        columns=[found.names[i] for i in order],
        pearson=[[number(float(found.r[i, j]), 3) for j in order[:at]] for at, i in enumerate(order)],
        left_out=len(found.names) - len(order),
    )
