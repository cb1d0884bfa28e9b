"""What an audit finds, as structs: their JSON is the report, and Markdown and HTML are made of them alone."""

from __future__ import annotations

import math
from typing import Any

import msgspec

SCHEMA = "signal-mix-audit-v1"

DIGITS = 12
"""Decimals of correlations; what is behind them differs between processors."""


class ColumnStats(msgspec.Struct, frozen=True):
    """The finite values of a column: how many, their share of the rows, mean, spread (n - 1) and range."""

    n: int
    finite_ratio: float
    mean: float | None
    std: float | None
    min: float | None
    max: float | None


class FamilyHealth(msgspec.Struct, frozen=True):
    """What a table has of a family.

    Attributes:
        status: `covered`, `weak` or `missing`.
        label: What people call the family.
        question: What its signals answer.
        matched_columns: The columns that belong to it by name.
        numeric_columns: Those of them that are signals; neither the target nor other opinions are.
        healthy_columns: Those of them with enough finite values, and some spread.
        candidate_metrics: What could be computed to cover it.
        recommendation: What to do if it is not covered.
    """

    status: str
    label: str
    question: str
    matched_columns: list[str]
    numeric_columns: list[str]
    healthy_columns: list[str]
    candidate_metrics: list[str]
    recommendation: str


class TargetCorrelation(msgspec.Struct, frozen=True):
    """How a signal goes with the target, on the `n` rows where both are finite."""

    column: str
    family: str | None
    pearson: float | None
    spearman: float | None
    n: int


class RedundantPair(msgspec.Struct, frozen=True):
    """Two signals that say the same."""

    left: str
    right: str
    left_family: str | None
    right_family: str | None
    pearson: float
    n: int


class Intersection(msgspec.Struct, frozen=True):
    """Two signals of different families that both go with the target, and not with each other.

    Attributes:
        left: The one that goes with the target more.
        right: The other.
        left_family: The family of `left`.
        right_family: The family of `right`.
        pearson: r of the two.
        n: The rows where both are finite.
        left_target: r of `left` with the target.
        right_target: r of `right` with the target.
        joint: The multiple correlation of the target with both, 0 to 1: what a linear model of the two
            reaches.
    """

    left: str
    right: str
    left_family: str
    right_family: str
    pearson: float
    n: int
    left_target: float
    right_target: float
    joint: float


class Cluster(msgspec.Struct, frozen=True):
    """Signals that all say the same, any two of them with |r| of at least `least_r`.

    Attributes:
        representative: The one to keep, if one is to be kept.
        columns: All of them, the representative first.
        families: The families that they belong to.
        least_r: The least |r| of any two of them.
        target_pearson: r of the representative with the target.
    """

    representative: str
    columns: list[str]
    families: list[str]
    least_r: float
    target_pearson: float | None


class Leak(msgspec.Struct, frozen=True):
    """A column that is made from the target or is another opinion, and so no signal.

    Attributes:
        column: The column.
        reason: Why it is taken for one.
        pearson: r with the target.
        spearman: Its rho, likewise.
        n: The rows of both.
    """

    column: str
    reason: str
    pearson: float | None
    spearman: float | None
    n: int


class HeatMap(msgspec.Struct, frozen=True):
    """Correlations of signals for a picture: similar ones side by side, r with three decimals.

    Attributes:
        columns: The signals; of a cluster only the representative, if there are too many.
        pearson: For each column its r with the columns before it.
        left_out: How many signals are not shown.
    """

    columns: list[str]
    pearson: list[list[float | None]]
    left_out: int


class TableReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one table.

    Attributes:
        label: Its name in the report.
        path: The file, as the user wrote it; null for a frame.
        rows: How many rows it has.
        columns: How many columns it has.
        sampled_rows: How many rows were looked at, if not all.
        target: The column that signals are to explain, if there is one.
        target_stats: What its values are like.
        numeric_columns: The columns that hold numbers.
        signal_columns: Those that are signals.
        excluded_columns: Every other column, and why it is no signal.
        leakage_columns: Columns that are made from the target, and other opinions.
        constant_columns: Signals with one value only, which correlate with nothing.
        unmatched_columns: Signals of no family.
        family_columns: The columns of each family, by name.
        family_health: What the table has of each family.
        column_stats: What the values of each signal are like.
        target_correlations: Each signal with the target, the strongest first.
        redundant_pairs: Pairs that say the same, the strongest first; at most `findings.LISTED_PAIRS`.
        redundant_pair_count: How many there are.
        clusters: Groups of signals that say the same, the largest first.
        intersections: The best complementary pairs, at most `top_k`.
        intersection_count: How many there are.
        heat_map: Correlations for a picture.
        missing_families: Families without a column.
        weak_families: Families without a healthy column.
        warnings: What a reader should know.
    """

    label: str
    path: str | None
    rows: int
    columns: int
    sampled_rows: int | None
    target: str | None
    target_stats: ColumnStats | None
    numeric_columns: list[str]
    signal_columns: list[str]
    excluded_columns: dict[str, str]
    leakage_columns: list[Leak]
    constant_columns: list[str]
    unmatched_columns: list[str]
    family_columns: dict[str, list[str]]
    family_health: dict[str, FamilyHealth]
    column_stats: dict[str, ColumnStats]
    target_correlations: list[TargetCorrelation]
    redundant_pairs: list[RedundantPair]
    redundant_pair_count: int
    clusters: list[Cluster]
    intersections: list[Intersection]
    intersection_count: int
    heat_map: HeatMap
    missing_families: list[str]
    weak_families: list[str]
    warnings: list[str]

    @property
    def covered_families(self) -> list[str]:
        """The families with a healthy column, in their order."""
        return [name for name, health in self.family_health.items() if health.status == "covered"]


class Move(msgspec.Struct, frozen=True):
    """A correlation with the target that is not what it was."""

    column: str
    statistic: str
    before: float | None
    after: float | None


class StatusChange(msgspec.Struct, frozen=True):
    """A family whose status is not what it was."""

    family: str
    before: str | None
    after: str | None


class TableChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What is different in one table since an earlier audit.

    Attributes:
        label: The table.
        baseline_label: What the earlier report calls it.
        rows_before: Its rows then.
        rows_after: Its rows now.
        target_before: Its target then; correlations are compared only if it is the same now.
        target_after: Its target now.
        newly_covered: Families that are covered now and were not.
        no_longer_covered: Families that were covered and are not now.
        status_changes: Every family whose status changed.
        signals_added: Signals that were not there.
        signals_removed: Signals that are not there any more.
        moved: Correlations with the target that moved by `baseline.MOVED` or more, or came to exist or not
            to.
    """

    label: str
    baseline_label: str
    rows_before: int
    rows_after: int
    target_before: str | None
    target_after: str | None
    newly_covered: list[str]
    no_longer_covered: list[str]
    status_changes: list[StatusChange]
    signals_added: list[str]
    signals_removed: list[str]
    moved: list[Move]


class BaselineChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What is different since an earlier audit.

    Attributes:
        path: The earlier report, as the user wrote it; null if it was a struct.
        tables: The tables that both have.
        tables_added: Tables that the earlier report does not have.
        tables_removed: Tables that this report does not have.
    """

    path: str | None
    tables: list[TableChanges]
    tables_added: list[str]
    tables_removed: list[str]


class SignalReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit found, one entry a table.

    Attributes:
        schema: The kind of the report.
        summary: `tables`, `rows`, and how many families are `covered`, `weak`, `missing` over all tables.
        tables: What was found in each.
        baseline: What changed since an earlier audit, if one was given.
        run_provenance: Inputs with their hashes, options, versions.
    """

    schema: str
    summary: dict[str, int]
    tables: list[TableReport]
    baseline: BaselineChanges | None
    run_provenance: dict[str, Any]

    def to_json(self) -> str:
        """The report as JSON with sorted keys."""
        from polars_materialize.reports import to_json  # noqa: PLC0415 - a name of its own here

        return to_json(self).decode()

    def to_markdown(self) -> str:
        """The report for people."""
        from polars_materialize.signal_mix.markdown import to_markdown  # noqa: PLC0415 - imports this module

        return to_markdown(self)

    def to_html(self) -> str:
        """The report as one page with pictures, which needs no network."""
        from polars_materialize.signal_mix.html import to_html  # noqa: PLC0415 - imports this module

        return to_html(self)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        """The part of the page that a notebook can hold."""
        from polars_materialize.signal_mix.html import to_fragment  # noqa: PLC0415 - imports this module

        return to_fragment(self)


def number(value: float, digits: int | None = None) -> float | None:
    """A number as reports hold it: null if it does not exist, and never -0.

    Example:
        >>> number(float("nan")), number(0.1 + 0.2, 12), number(-0.0)
        (None, 0.3, 0.0)
    """
    if not math.isfinite(value):
        return None
    return float(value if digits is None else round(float(value), digits)) + 0.0
