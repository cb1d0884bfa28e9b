"""The audit of frames: what `audit_signals` does, table by table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from polars_materialize.arguments import checked, describe
from polars_materialize.errors import OptionError, TableError, counted, did_you_mean, listing, no_panics
from polars_materialize.names import refuse_patterns
from polars_materialize.provenance import run_provenance
from polars_materialize.signal_mix import findings
from polars_materialize.signal_mix.baseline import Baseline, compare, read_baseline
from polars_materialize.signal_mix.columns import decide_roles
from polars_materialize.signal_mix.families import Family, choose_families
from polars_materialize.signal_mix.findings import Statistics
from polars_materialize.signal_mix.leakage import LINE, why_leak
from polars_materialize.signal_mix.moments import compute_moments
from polars_materialize.signal_mix.options import SignalOptions, check_options
from polars_materialize.signal_mix.reports import DIGITS, SCHEMA, Leak, SignalReport, TableReport, number
from polars_materialize.signal_mix.values import Values, collect, count_rows, sample_rows
from polars_materialize.tables.failures import FAILURES, unreadable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from polars_materialize.signal_mix.columns import Reason, Roles
    from polars_materialize.signal_mix.moments import Moments

Frame = pl.DataFrame | pl.LazyFrame
Frames = Frame | Mapping[str, Frame] | Sequence[Frame]

TRIED_ROWS = 1000
"""How many rows tell whether a text column holds numbers."""


@dataclass(frozen=True)
class Table:
    """A table to audit.

    Attributes:
        label: Its name in the report.
        frame: Its rows.
        path: The file, as the user wrote it, if it is one.
    """

    label: str
    frame: pl.LazyFrame
    path: str | None = None

    @property
    def name(self) -> str:
        """What an error calls it."""
        return self.path or self.label

    def read_schema(self) -> pl.Schema:
        """Its columns.

        Raises:
            TableError: If it cannot be read.
        """
        try:
            return self.frame.collect_schema()
        except FAILURES as error:
            raise unreadable(self.name, error) from None


@checked
@no_panics()
def audit_signals(
    frames: Frames,
    *,
    target: str | None = None,
    families: str | os.PathLike[str] | Iterable[Family] | None = None,
    top_k: int = 12,
    redundancy_threshold: float = 0.95,
    complement_threshold: float = 0.70,
    target_threshold: float = 0.20,
    min_finite_ratio: float = 0.80,
    min_std: float = 1e-12,
    sample: int | None = None,
    seed: int = 0,
    baseline: str | os.PathLike[str] | SignalReport | None = None,
) -> SignalReport:
    """Says which signal families tables cover, and how their columns go with a target and with each other.

    The tables are read now, in blocks: a scanned Parquet file is never loaded whole. Nothing is changed.

    Args:
        frames: A table, a list of tables, or tables by label.
        target: The column to correlate signals with; by default the first of `columns.TARGETS` in each table.
            A table without the target that is asked for is reported without one.
        families: A file of families, or the families themselves; else the built-in ones.
        top_k: How many rows the lists for people show, and how many intersections are listed.
        redundancy_threshold: Least |r| of two redundant signals.
        complement_threshold: Greatest |r| between the signals of a complementary pair.
        target_threshold: Least |r| with the target of both signals of a complementary pair.
        min_finite_ratio: The least share of finite values of a healthy column.
        min_std: A healthy column has a standard deviation above this.
        sample: Number of rows of each table to look at; by default all.
        seed: Random seed of the sample.
        baseline: An earlier report to compare with: its JSON file, or the struct.

    Returns:
        The report. Correlations have 12 decimals; what does not exist is null, never NaN.

    Raises:
        OptionError: If an option is not valid.
        TableError: If a table cannot be read, no table has the target that was asked for, or one has it as
            something other than numbers.

    Example:
        >>> frame = pl.DataFrame({"mos": [1.0, 2, 3, 4], "psnr_y": [30.0, 31, None, 36]})
        >>> table = audit_signals(frame, min_finite_ratio=0.7).tables[0]
        >>> table.target, table.signal_columns, table.family_health["error_energy"].status
        ('mos', ['psnr_y'], 'covered')
        >>> [(row.column, round(row.pearson, 4), row.n) for row in table.target_correlations]
        [('psnr_y', 0.9843, 3)]
    """
    options = SignalOptions(
        target=target,
        top_k=top_k,
        redundancy_threshold=redundancy_threshold,
        complement_threshold=complement_threshold,
        target_threshold=target_threshold,
        min_finite_ratio=min_finite_ratio,
        min_std=min_std,
        sample=sample,
        seed=seed,
    )
    check_options(options)
    chosen = choose_families(families)
    earlier = None if baseline is None else read_baseline(baseline)
    tables = audit_each(list_frames(frames), chosen, options)
    args: dict[str, Any] = {
        **msgspec.to_builtins(options),
        "families": [family.name for family in chosen],
        "baseline": None if earlier is None else earlier.path,
    }
    provenance = run_provenance(entrypoint="audit_signals", argv=(), args=args, inputs={}, outputs={})
    return make_report(tables, earlier, provenance)


def list_frames(frames: object) -> list[Table]:
    """The tables of an audit, labelled.

    Raises:
        OptionError: If they are none.
    """
    if isinstance(frames, (pl.DataFrame, pl.LazyFrame)):
        frames = {"table": frames}
    elif isinstance(frames, Sequence) and not isinstance(frames, str):
        frames = {f"table {place}": frame for place, frame in enumerate(frames, 1)}
    if not isinstance(frames, Mapping) or not frames:
        raise OptionError("frames: expected a frame, a list of frames, or frames by label", option="frames")
    for label, frame in frames.items():
        if not isinstance(label, str) or not label.strip():
            raise OptionError(f"frames: label {label!r}; expected text", option="frames")
        if not isinstance(frame, (pl.DataFrame, pl.LazyFrame)):
            problem = f"frames: {label!r} is {describe(frame)}; expected a polars DataFrame or LazyFrame"
            raise OptionError(problem, option="frames")
    return [Table(label, frame.lazy()) for label, frame in frames.items()]


def make_report(
    tables: list[TableReport], earlier: Baseline | None, provenance: dict[str, Any]
) -> SignalReport:
    """The report of tables, compared with an earlier one."""
    statuses = [health.status for table in tables for health in table.family_health.values()]
    return SignalReport(
        schema=SCHEMA,
        summary={
            "tables": len(tables),
            "rows": sum(table.rows for table in tables),
            **{status: statuses.count(status) for status in ("covered", "weak", "missing")},
        },
        tables=tables,
        baseline=None if earlier is None else compare(earlier, tables),
        run_provenance=provenance,
    )


def audit_each(
    tables: Sequence[Table], families: Sequence[Family], options: SignalOptions
) -> list[TableReport]:
    """Audits tables, of which at least one has the target that was asked for.

    Raises:
        TableError: If a table cannot be read, or none has the target.
    """
    schemas = [table.read_schema() for table in tables]
    target = options.target
    if target is not None and not any(target in schema for schema in schemas):
        known = list(dict.fromkeys(name for schema in schemas for name in schema))
        names = ", ".join(table.name for table in tables)
        problem = (
            f"no target column {target!r}{did_you_mean(target, known)}; the columns are {listing(known)}"
        )
        raise TableError(names, problem)
    return [audit_table(table, families, options) for table in tables]


def audit_table(table: Table, families: Sequence[Family], options: SignalOptions) -> TableReport:
    """Audits one table."""
    name = table.name
    schema = table.read_schema()
    refuse_patterns(schema, name)
    roles = decide_roles(schema, families, target=options.target, table=name)
    frame, rows, sampled = table.frame, None, None
    if options.sample is not None:
        rows = count_rows(frame, name)
        if options.sample < rows:
            sampled = options.sample
            frame = sample_rows(frame, rows, size=sampled, seed=options.seed)
    values = Values(frame, roles.analysed, name)
    moments = compute_moments(values, roles.target)
    roles, leaks, found = _statistics(values, moments, roles)

    stats = findings.describe_columns(moments, values.columns, values.rows)
    signal_stats = {column: stats[column] for column in roles.signals}
    health = findings.judge_families(families, roles.families, signal_stats, options)
    redundant, redundant_count = findings.find_redundant(found, options.redundancy_threshold)
    intersections, intersection_count = findings.find_intersections(found, options)
    clusters, groups = findings.find_clusters(found, options.redundancy_threshold)
    varying = {column for column, varies in zip(values.columns, moments.varies, strict=True) if varies}
    constant = [column for column, own in signal_stats.items() if own.n and column not in varying]
    report = TableReport(
        label=table.label,
        path=table.path,
        rows=values.rows if rows is None else rows,
        columns=len(schema),
        sampled_rows=sampled,
        target=roles.target,
        target_stats=None if roles.target is None else stats[roles.target],
        numeric_columns=roles.numeric,
        signal_columns=roles.signals,
        excluded_columns=dict(roles.excluded),
        leakage_columns=leaks,
        constant_columns=constant,
        unmatched_columns=[name for name, own in zip(found.names, found.families, strict=True) if not own],
        family_columns=roles.families,
        family_health=health,
        column_stats=signal_stats,
        target_correlations=[] if roles.target is None else findings.correlate_target(found),
        redundant_pairs=redundant,
        redundant_pair_count=redundant_count,
        clusters=clusters,
        intersections=intersections,
        intersection_count=intersection_count,
        heat_map=findings.draw_heat_map(found, groups),
        missing_families=[family for family, one in health.items() if one.status == "missing"],
        weak_families=[family for family, one in health.items() if one.status == "weak"],
        warnings=[],
    )
    warnings = [
        *roles.warnings,
        *_warnings(report, found, varying),
        *_texts(table.frame, schema, roles, name),
    ]
    return msgspec.structs.replace(report, warnings=warnings)


def _statistics(values: Values, moments: Moments, roles: Roles) -> tuple[Roles, list[Leak], Statistics]:
    """The statistics of the signals, when the leaks are out."""
    names = values.columns
    place = {name: at for at, name in enumerate(names)}
    pearson = rho = np.full(len(names), np.nan)
    shared = np.zeros(len(names), dtype=np.int64)
    if roles.target is not None:
        at = place[roles.target]
        pearson, shared, rho = moments.r[:, at], moments.n[:, at], moments.rho
    leaks = []
    for name, i in place.items():
        if name == roles.target:
            continue
        r, spearman, n = float(pearson[i]), float(rho[i]), int(shared[i])
        why = None
        if roles.target is not None:
            why = why_leak(name, roles.target, pearson=r, spearman=spearman, n=n)
        if why is None and roles.excluded.get(name) == "leakage":
            why = "an opinion of people or a statistic of opinions, by its name"
        if why is not None:
            leaks.append(Leak(name, why, number(r, DIGITS), number(spearman, DIGITS), n))
    leaked: dict[str, Reason] = {leak.column: "leakage" for leak in leaks}
    signals = [name for name in roles.signals if name not in leaked]
    indices = [place[name] for name in signals]
    members = [[family for family, own in roles.families.items() if name in own] for name in signals]
    return (
        replace(roles, signals=signals, excluded={**roles.excluded, **leaked}),
        leaks,
        Statistics(
            names=signals,
            family=[own[0] if own else None for own in members],
            families=[frozenset(own) for own in members],
            r=moments.r[np.ix_(indices, indices)],
            n=moments.n[np.ix_(indices, indices)],
            pearson=pearson[indices],
            spearman=rho[indices],
            target_n=[int(shared[i]) for i in indices],
        ),
    )


def _warnings(report: TableReport, found: Statistics, varying: set[str]) -> list[str]:
    """What a reader should know, of what the values show."""
    warnings = []
    target = report.target
    if not report.rows:
        warnings.append("the table has no rows")
    if report.sampled_rows is not None:
        warnings.append(f"looked at a sample of {report.sampled_rows:,} of {report.rows:,} rows")
    if report.rows and report.target_stats is not None and target not in varying:
        what = "one value only" if report.target_stats.n else "no finite value"
        warnings.append(f"the target {target!r} has {what}, so nothing correlates with it")
    if report.leakage_columns:
        names = listing(leak.column for leak in report.leakage_columns)
        count = counted(len(report.leakage_columns), "column is no signal", "columns are no signals")
        made = (
            "opinions of people" if target is None else f"made from the target {target!r} or other opinions"
        )
        warnings.append(f"leakage: {count}, since {made}: {names}")
    lines = [name for name, r in zip(found.names, found.pearson, strict=True) if abs(r) >= LINE]
    if lines:
        warnings.append(f"a straight line of the target {target!r}: {listing(lines)}; made from it?")
    if report.constant_columns:
        warnings.append(f"constant, so without any correlation: {listing(report.constant_columns)}")
    if report.unmatched_columns:
        count = counted(len(report.unmatched_columns), "signal belongs", "signals belong")
        names = listing(report.unmatched_columns)
        warnings.append(f"{count} to no family: {names}; a file of families can say to which")
    if not report.signal_columns:
        warnings.append("the table has no signal columns")
    return warnings


def _texts(frame: pl.LazyFrame, schema: Mapping[str, pl.DataType], roles: Roles, table: str) -> list[str]:
    """Names text columns whose first rows are all numbers, which is seldom meant."""
    others = [name for name, why in roles.excluded.items() if why == "not-numeric"]
    texts = [name for name in others if schema[name] == pl.String()]
    if not texts:
        return []
    numbers = pl.col(texts).str.strip_chars().cast(pl.Float64, strict=False)
    head = collect(frame.select(texts).head(TRIED_ROWS), table)
    whole = head.select(numbers.null_count() == pl.col(texts).null_count()).row(0)
    some = head.select(pl.col(texts).count() > 0).row(0)
    found = [name for name, all_, any_ in zip(texts, whole, some, strict=True) if all_ and any_]
    return [f"numbers written as text, so no signals: {listing(found)}; cast them"] if found else []
