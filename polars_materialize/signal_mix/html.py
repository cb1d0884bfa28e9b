"""An audit's report as one HTML page with pictures, made from the struct alone.

The page needs no network and runs no script: styles and pictures stand in it, and its content security policy
forbids the rest. All text from files is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from polars_materialize.shown import visible
from polars_materialize.signal_mix.markdown import WARNING, input_rows, more, names_plain, shown, signal_count
from polars_materialize.signal_mix.pictures import draw_bars, draw_heat_map
from polars_materialize.signal_mix.text import label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polars_materialize.signal_mix.reports import BaselineChanges, SignalReport, TableChanges, TableReport

STYLE = """
.signal-mix { --ink: #1c1e21; --soft: #5b6168; --line: #d9dde2; --paper: #fff; --plus: #c2570c; --minus:
#1d5fa8;
  --covered: #dcefe0; --weak: #fdf0c8; --missing: #f9d9d5; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { .signal-mix { --ink: #e6e8ea; --soft: #a3aab2; --line: #3a4047;
  --paper: #16181b; --plus: #f08a3c; --minus: #62a4ee; --covered: #1f4a2b; --weak: #55460f; --missing:
  #5f2620; } }
.signal-mix h1, .signal-mix h2, .signal-mix h3 { line-height: 1.2; margin: 1.6em 0 .5em; }
.signal-mix table { border-collapse: collapse; margin: .5em 0; }
.signal-mix th, .signal-mix td { border: 1px solid var(--line); padding: .2em .6em; text-align: left;
  vertical-align: top; color: var(--ink); background: var(--paper); }
.signal-mix td, .signal-mix th.name { overflow-wrap: anywhere; min-width: 8em; }
.signal-mix h2, .signal-mix h3, .signal-mix p, .signal-mix li { overflow-wrap: anywhere; }
.signal-mix td.number { text-align: right; white-space: nowrap; min-width: 0;
  font-variant-numeric: tabular-nums; }
.signal-mix td.covered { background: var(--covered); } .signal-mix td.weak { background: var(--weak); }
.signal-mix td.missing { background: var(--missing); }
.signal-mix .scroll { overflow-x: auto; } .signal-mix .soft { color: var(--soft); }
.signal-mix svg text { font-size: 10px; fill: var(--ink); } .signal-mix svg text.family { font-weight: 600; }
.signal-mix svg .plus { fill: var(--plus); } .signal-mix svg .minus { fill: var(--minus); }
.signal-mix svg .none { fill: var(--line); } .signal-mix svg .grid { stroke: var(--line); }
.signal-mix svg .rank { stroke: var(--ink); stroke-width: 2; }
"""

PAGE = """<!DOCTYPE html>
<html lang="en"> <head> <meta charset="utf-8"> <meta http-equiv="Content-Security-Policy"
content="default-src 'none'; style-src 'unsafe-inline'"> <meta name="viewport" content="width=device-width,
initial-scale=1"> <meta name="color-scheme" content="light dark"> <title>Signal-mix audit</title>
<style>html {{ color-scheme: light dark; }} body {{ margin: 0; }} body > .signal-mix {{ padding: 1em 2em;
}}</style> </head> <body> {body} </body> </html>
"""


def to_html(report: SignalReport) -> str:
    """The whole page."""
    return PAGE.format(body=to_fragment(report))


def to_fragment(report: SignalReport) -> str:
    """What stands in the page's body, with its styles."""
    top = report.run_provenance.get("args", {}).get("top_k", 12)
    parts = [f'<div class="signal-mix">\n<style>{STYLE}</style>', "<h1>Signal-mix audit</h1>"]
    parts += [_overview(report), _coverage(report)]
    if report.baseline is not None:
        parts += _changes(report.baseline, top)
    for table in report.tables:
        parts += _table(table, top)
    parts += _inputs(report)
    parts.append("</div>")
    return "\n".join(part for part in parts if part)


def _grid(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; numbers stand to the right."""
    lines = ["".join(f"<th>{escape(name)}</th>" for name in head)]
    for row in rows:
        cells = []
        for cell in row:
            is_number = isinstance(cell, (int, float)) or cell is None
            text = f"{cell:,}" if isinstance(cell, int) else shown(cell) if is_number else visible(str(cell))  # type: ignore[arg-type]
            cells.append(f"<td{' class=number' if is_number else ''}>{escape(text)}</td>")
        lines.append("".join(cells))
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table>\n{body}\n</table></div>'


def _overview(report: SignalReport) -> str:
    rows: list[list[object]] = [
        [
            label(table.label),
            label(table.path or "", 200),
            table.rows,
            table.columns,
            len(table.signal_columns),
            label(table.target) if table.target else "none",
            len(table.covered_families),
            len(table.weak_families),
            len(table.missing_families),
        ]
        for table in report.tables
    ]
    head = ["Table", "File", "Rows", "Columns", "Signals", "Target", "Covered", "Weak", "Missing"]
    return _grid(head, rows)


def _coverage(report: SignalReport) -> str:
    """The coverage matrix: families by tables."""
    names = list(dict.fromkeys(name for table in report.tables for name in table.family_health))
    titles = ("Family", *(label(table.label) for table in report.tables))
    head = "".join(f'<th class="name">{escape(title)}</th>' for title in titles)
    lines = [f"<tr>{head}</tr>"]
    for name in names:
        first = report.tables[0].family_health[name]
        cells = [f'<th title="{escape(label(first.question, WARNING))}">{escape(label(first.label))}</th>']
        for table in report.tables:
            health = table.family_health[name]
            listed = names_plain(health.healthy_columns or health.matched_columns, 12)
            count = signal_count(health)
            cells.append(f'<td class="{health.status}" title="{escape(listed)}">{health.status}{count}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = "\n".join(lines)
    return f'<h2>Coverage</h2>\n<div class="scroll"><table>\n{body}\n</table></div>'


def _changes(baseline: BaselineChanges, top: int) -> list[str]:
    parts = [f"<h2>Changes since {escape(label(baseline.path or 'an earlier audit', 200))}</h2>"]
    for table in baseline.tables:
        parts += _table_changes(table, top)
    for what, labels in (("New tables", baseline.tables_added), ("Gone tables", baseline.tables_removed)):
        if labels:
            parts.append(f"<p>{what}: {escape(names_plain(labels, top))}.</p>")
    return parts


def _table_changes(table: TableChanges, top: int) -> list[str]:
    called = "" if table.label == table.baseline_label else f" (was {label(table.baseline_label)})"
    parts = [f"<h3>{escape(label(table.label) + called)}</h3>"]
    rows: list[list[object]] = [
        ["Rows", f"{table.rows_before:,} before, {table.rows_after:,} now"],
        ["Newly covered", names_plain(table.newly_covered, top)],
        ["No longer covered", names_plain(table.no_longer_covered, top)],
        ["New signals", names_plain(table.signals_added, top)],
        ["Gone signals", names_plain(table.signals_removed, top)],
    ]
    if table.target_before != table.target_after:
        was, now = (label(str(target)) for target in (table.target_before, table.target_after))
        rows.append(["Target", f"was {was}, is {now}: correlations not compared"])
    parts.append(_grid(["What", "Which"], rows))
    if table.moved:
        moves = [[label(move.column), move.statistic, move.before, move.after] for move in table.moved[:top]]
        parts.append(f"<p>Correlations that moved{more(len(table.moved), top)}:</p>")
        parts.append(_grid(["Column", "Statistic", "Before", "Now"], moves))
    return parts


def _table(table: TableReport, top: int) -> list[str]:
    target = f"target {label(table.target)}" if table.target else "no target"
    parts = [
        f"<h2>{escape(label(table.label))}</h2>",
        f'<p class="soft">{table.rows:,} rows, {len(table.signal_columns):,} signals, {escape(target)}</p>',
    ]
    if table.warnings:
        items = "".join(f"<li>{escape(label(warning, WARNING))}</li>" for warning in table.warnings)
        parts.append(f"<h3>Warnings</h3>\n<ul>{items}</ul>")
    bars = draw_bars(table)
    if bars:
        parts.append(f"<h3>Correlation with {escape(label(str(table.target)))} by family</h3>")
        parts.append('<p class="soft">Bars are Pearson, strokes Spearman; the strongest of each family.</p>')
        parts.append(f'<div class="scroll">{bars}</div>')
    picture = draw_heat_map(table.heat_map)
    if picture:
        left_out = f"; {table.heat_map.left_out:,} signals not shown" if table.heat_map.left_out else ""
        parts.append("<h3>Correlations of signals</h3>")
        parts.append(f'<p class="soft">Orange: the same way; blue: opposite ways; grey: no r{left_out}.</p>')
        parts.append(f'<div class="scroll">{picture}</div>')
    return parts + _lists(table, top)


def _lists(table: TableReport, top: int) -> list[str]:
    parts = []
    if table.target_correlations:
        rows: list[list[object]] = [
            [label(row.column), label(row.family or ""), row.pearson, row.spearman, row.n]
            for row in table.target_correlations[:top]
        ]
        parts.append(f"<h3>Strongest signals{more(len(table.target_correlations), top)}</h3>")
        parts.append(_grid(["Column", "Family", "Pearson", "Spearman", "n"], rows))
    if table.leakage_columns:
        rows = [
            [label(leak.column), leak.pearson, leak.spearman, leak.n, label(leak.reason, WARNING)]
            for leak in table.leakage_columns[:top]
        ]
        parts.append(f"<h3>Leakage{more(len(table.leakage_columns), top)}</h3>")
        parts.append(_grid(["Column", "Pearson", "Spearman", "n", "Why it is no signal"], rows))
    if table.clusters:
        rows = [
            [label(one.representative), len(one.columns), one.least_r, names_plain(one.columns[1:], top)]
            for one in table.clusters[:top]
        ]
        parts.append(f"<h3>Redundant groups{more(len(table.clusters), top)}</h3>")
        parts.append(_grid(["Representative", "Columns", "Least r", "Others"], rows))
    if table.intersections:
        rows = [
            [
                f"{label(p.left)} + {label(p.right)}",
                f"{label(p.left_family)} + {label(p.right_family)}",
                *(p.pearson, p.left_target, p.right_target, p.joint, p.n),
            ]
            for p in table.intersections[:top]
        ]
        parts.append(f"<h3>Complementary pairs{more(table.intersection_count, top)}</h3>")
        head = ["Signals", "Families", "r", "First with the target", "Second", "Together", "n"]
        parts.append(_grid(head, rows))
    gaps = [(name, table.family_health[name]) for name in (*table.missing_families, *table.weak_families)]
    if gaps:
        rows = [
            [label(gap.label), gap.status, gap.question, ", ".join(gap.candidate_metrics), gap.recommendation]
            for _, gap in gaps
        ]
        parts.append("<h3>What is blind</h3>")
        parts.append(_grid(["Family", "Status", "Question", "Candidates", "Recommendation"], rows))
    return parts


def _inputs(report: SignalReport) -> list[str]:
    rows = input_rows(report)
    return ["<h2>Inputs</h2>", _grid(["Role", "Path", "Bytes", "SHA-256"], rows)] if rows else []
