"""An audit's report as Markdown, made from the struct alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polars_materialize.shown import escape, table
from polars_materialize.signal_mix.text import label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polars_materialize.signal_mix.reports import (
        BaselineChanges,
        FamilyHealth,
        SignalReport,
        TableChanges,
        TableReport,
    )

WARNING = 600
"""How many characters of a warning a page shows."""

MARKS = {"covered": "covered", "weak": "**weak**", "missing": "**missing**"}


def to_markdown(report: SignalReport) -> str:
    """The report for people: what is covered, what goes with the target, what is redundant, what is blind."""
    top = report.run_provenance.get("args", {}).get("top_k", 12)
    parts = ["# Signal-mix audit", _overview(report), _coverage(report)]
    if report.baseline is not None:
        parts += changes(report.baseline, top)
    for one in report.tables:
        parts += _table(one, top)
    inputs = _inputs(report)
    if inputs:
        parts += ["## Inputs", inputs]
    return "\n\n".join(part for part in parts if part) + "\n"


def _overview(report: SignalReport) -> str:
    head = ["Table", "Rows", "Columns", "Signals", "Target", "Covered", "Weak", "Missing"]
    rows: list[list[object]] = [
        [
            label(one.label),
            f"{one.rows:,}",
            one.columns,
            len(one.signal_columns),
            label(one.target) if one.target else "none",
            len(one.covered_families),
            len(one.weak_families),
            len(one.missing_families),
        ]
        for one in report.tables
    ]
    return table(head, rows)


def _coverage(report: SignalReport) -> str:
    names = list(dict.fromkeys(name for one in report.tables for name in one.family_health))
    lines = [["Family", *(escape(label(one.label)) for one in report.tables)]]
    lines.append(["---"] * len(lines[0]))
    for name in names:
        cells = [escape(label(name))]
        for one in report.tables:
            health = one.family_health[name]
            cells.append(MARKS[health.status] + signal_count(health))
        lines.append(cells)
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## Coverage\n\nHow many healthy signals cover a family stands in brackets.\n\n{text}"


def signal_count(health: FamilyHealth) -> str:
    """How many signals cover a family, if anything does."""
    return f" ({len(health.healthy_columns)})" if health.healthy_columns else ""


def changes(baseline: BaselineChanges, top: int) -> list[str]:
    """What changed since an earlier audit."""
    source = f" {escape(label(baseline.path))}" if baseline.path else " an earlier audit"
    parts = [f"## Changes since{source}"]
    parts += [_changes(one, top) for one in baseline.tables]
    for what, labels in (("New tables", baseline.tables_added), ("Gone tables", baseline.tables_removed)):
        if labels:
            parts.append(f"{what}: {names(labels, top)}.")
    return parts


def _changes(one: TableChanges, top: int) -> str:
    called = "" if one.label == one.baseline_label else f" (was {escape(label(one.baseline_label))})"
    lines = [
        f"**{escape(label(one.label))}**{called}: {one.rows_before:,} rows before, {one.rows_after:,} now.",
        "",
    ]
    for what, found in (
        ("Newly covered", one.newly_covered),
        ("No longer covered", one.no_longer_covered),
        ("New signals", one.signals_added),
        ("Gone signals", one.signals_removed),
    ):
        lines.append(f"- {what}: {names(found, top)}")
    if one.target_before != one.target_after:
        was, now = (escape(label(str(target))) for target in (one.target_before, one.target_after))
        lines.append(f"- The target was {was} and is {now}, so correlations are not compared.")
    elif not one.moved:
        lines.append("- No correlation with the target moved.")
    else:
        rows: list[list[object]] = [
            [label(move.column), move.statistic, shown(move.before), shown(move.after)]
            for move in one.moved[:top]
        ]
        lines += ["", f"Correlations that moved{more(len(one.moved), top)}:", ""]
        lines.append(table(["Column", "Statistic", "Before", "Now"], rows))
    return "\n".join(lines)


def _table(one: TableReport, top: int) -> list[str]:
    where = f"{escape(label(one.path, 200))}, " if one.path else ""
    parts = [
        f"## {escape(label(one.label))}",
        f"{where}{one.rows:,} rows, {one.columns:,} columns, {len(one.signal_columns):,} signals; "
        f"target {escape(label(one.target)) if one.target else 'none'}.",
    ]
    if one.warnings:
        parts.append("\n".join(f"- Warning: {escape(label(warning, WARNING))}" for warning in one.warnings))
    parts += _correlations(one, top) + _leaks(one, top) + _clusters(one, top) + _pairs(one, top)
    gaps = [(name, one.family_health[name]) for name in (*one.missing_families, *one.weak_families)]
    if gaps:
        rows: list[list[object]] = [
            [label(name), gap.status, gap.question, ", ".join(gap.candidate_metrics), gap.recommendation]
            for name, gap in gaps
        ]
        parts += [
            "### What is blind",
            table(["Family", "Status", "Question", "Candidates", "Recommendation"], rows),
        ]
    return parts


def _correlations(one: TableReport, top: int) -> list[str]:
    if not one.target_correlations:
        return []
    rows: list[list[object]] = [
        [label(row.column), label(row.family or ""), shown(row.pearson), shown(row.spearman), f"{row.n:,}"]
        for row in one.target_correlations[:top]
    ]
    head = ["Column", "Family", "Pearson", "Spearman", "n"]
    title = f"### Correlation with the target{more(len(one.target_correlations), top)}"
    return [title, table(head, rows)]


def _leaks(one: TableReport, top: int) -> list[str]:
    if not one.leakage_columns:
        return []
    rows: list[list[object]] = [
        [
            label(leak.column),
            shown(leak.pearson),
            shown(leak.spearman),
            f"{leak.n:,}",
            label(leak.reason, WARNING),
        ]
        for leak in one.leakage_columns[:top]
    ]
    head = ["Column", "Pearson", "Spearman", "n", "Why it is no signal"]
    return [f"### Leakage{more(len(one.leakage_columns), top)}", table(head, rows)]


def _clusters(one: TableReport, top: int) -> list[str]:
    if not one.clusters:
        return []
    rows: list[list[object]] = [
        [
            label(each.representative),
            len(each.columns),
            shown(each.least_r),
            names_plain(each.columns[1:], top),
        ]
        for each in one.clusters[:top]
    ]
    redundant = sum(len(each.columns) - 1 for each in one.clusters)
    return [
        f"### Redundant groups{more(len(one.clusters), top)}",
        f"{redundant:,} signals say what the representative of their group says; "
        f"{one.redundant_pair_count:,} pairs.",
        table(["Representative", "Columns", "Least r", "Others"], rows),
    ]


def _pairs(one: TableReport, top: int) -> list[str]:
    if not one.intersections:
        return []
    rows: list[list[object]] = [
        [
            f"{label(pair.left)} + {label(pair.right)}",
            f"{label(pair.left_family)} + {label(pair.right_family)}",
            shown(pair.pearson),
            f"{shown(pair.left_target)}, {shown(pair.right_target)}",
            shown(pair.joint),
            f"{pair.n:,}",
        ]
        for pair in one.intersections[:top]
    ]
    head = ["Signals", "Families", "r", "r with the target", "Together", "n"]
    return [f"### Complementary pairs{more(one.intersection_count, top)}", table(head, rows)]


def _inputs(report: SignalReport) -> str:
    rows = input_rows(report)
    return table(["Role", "Path", "Bytes", "SHA-256"], rows) if rows else ""


def input_rows(report: SignalReport) -> list[list[object]]:
    """A row for each input file: its role, path, size and hash."""
    return [
        [role, label(file["path"], 200), file["bytes"], file["sha256"] or ""]
        for role, files in sorted(report.run_provenance.get("inputs", {}).items())
        for file in (files if isinstance(files, list) else [files])
    ]


def shown(r: float | None) -> str:
    """A correlation with three decimals.

    Example:
        >>> shown(0.12345), shown(None)
        ('0.123', 'none')
    """
    return "none" if r is None else f"{r:.3f}"


def more(count: int, top: int) -> str:
    """Says that a list shows only its first rows."""
    return f" ({top:,} of {count:,})" if count > top else ""


def names_plain(columns: Sequence[str], top: int) -> str:
    """Some names, the rest of them counted."""
    rest = len(columns) - top
    return (
        ", ".join(label(column) for column in columns[:top]) + (f" and {rest:,} more" if rest > 0 else "")
        if columns
        else "none"
    )


def names(columns: Sequence[str], top: int = 12) -> str:
    """Some names as Markdown, the rest of them counted."""
    return escape(names_plain(columns, top))
