"""The pictures of an audit, as SVG to stand in a page: no script, no network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from polars_materialize.signal_mix.text import cut, label

if TYPE_CHECKING:
    from polars_materialize.signal_mix.reports import HeatMap, TableReport

CELL = 12
LABEL = 200
BAR = 16
WIDTH = 360
BARS = 5
"""How many signals of a family the bars show."""


def draw_heat_map(heat_map: HeatMap) -> str:
    """The correlations of signals as coloured squares: orange for the same way, blue for opposite ways.

    Squares that a hundredth of a correlation would not colour are left out. Each has its numbers as a
    tooltip.
    """
    names = heat_map.columns
    if not names:
        return ""
    side = CELL * len(names)
    parts = [
        f'<svg class="heat" role="img" aria-label="correlations of signals" viewBox="0 0 {LABEL + side} '
        f'{LABEL + side}" width="{LABEL + side}" height="{LABEL + side}">'
    ]
    for at, name in enumerate(names):
        text = escape(cut(name))
        middle = LABEL + at * CELL + CELL - 3
        parts.append(f'<text x="{LABEL - 4}" y="{middle}" text-anchor="end">{text}</text>')
        parts.append(f'<text transform="translate({middle} {LABEL - 4}) rotate(-90)">{text}</text>')
    for i, row in enumerate(heat_map.pearson):
        parts.append(_square(i, i, 1.0, label(names[i])))
        for j, r in enumerate(row):
            tip = f"{label(names[i])} and {label(names[j])}: {'no r' if r is None else f'{r:.2f}'}"
            parts.append(_square(i, j, r, tip))
            parts.append(_square(j, i, r, tip))
    parts.append("</svg>")
    return "".join(parts)


def _square(row: int, column: int, r: float | None, tip: str) -> str:
    if r is not None and abs(r) < 0.005:
        return ""
    place = f'x="{LABEL + column * CELL}" y="{LABEL + row * CELL}" width="{CELL}" height="{CELL}"'
    kind = "none" if r is None else "plus" if r > 0 else "minus"
    opacity = "" if r is None else f' fill-opacity="{abs(r):.2f}"'
    return f'<rect class="{kind}" {place}{opacity}><title>{escape(tip)}</title></rect>'


def draw_bars(table: TableReport) -> str:
    """The strongest signals of each family as bars of their correlation with the target.

    A bar is Pearson's r; the stroke across it is Spearman's rho.
    """
    rows: list[tuple[str, str, float | None, float | None]] = []
    families: dict[str, list[tuple[str, float | None, float | None]]] = {}
    for name in table.family_health:
        families[name] = []
    for row in table.target_correlations:
        families.setdefault(row.family or "no family", []).append((row.column, row.pearson, row.spearman))
    for name, found in families.items():
        for at, (column, pearson, spearman) in enumerate(found[:BARS]):
            rest = f" ({len(found)})" if at == 0 and len(found) > BARS else ""
            rows.append((name + rest if at == 0 else "", column, pearson, spearman))
    if not rows:
        return ""
    height = BAR * len(rows) + BAR
    whole = 2 * LABEL + WIDTH
    middle = 2 * LABEL + WIDTH // 2
    parts = [
        f'<svg class="bars" role="img" aria-label="correlation with the target by family" '
        f'viewBox="0 0 {whole} {height}" width="{whole}" height="{height}">'
    ]
    for share in (-1, -0.5, 0, 0.5, 1):
        x = middle + share * (WIDTH / 2 - 20)
        parts.append(f'<line class="grid" x1="{x:g}" x2="{x:g}" y1="{BAR}" y2="{height}"/>')
        parts.append(f'<text x="{x:g}" y="{BAR - 5}" text-anchor="middle">{share:g}</text>')
    for at, bar in enumerate(rows):
        parts.append(_bar(BAR + at * BAR, middle, bar))
    parts.append("</svg>")
    return "".join(parts)


def _bar(y: int, middle: int, bar: tuple[str, str, float | None, float | None]) -> str:
    family, column, pearson, spearman = bar
    unit = WIDTH / 2 - 20
    text = y + BAR - 4
    parts = []
    if family:
        parts.append(f'<line class="grid" x1="0" x2="{2 * LABEL + WIDTH}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="family" x="0" y="{text}">{escape(cut(family))}</text>')
    parts.append(f'<text x="{2 * LABEL - 4}" y="{text}" text-anchor="end">{escape(cut(column))}</text>')
    if pearson is not None:
        left = middle + min(0.0, pearson) * unit
        kind = "plus" if pearson > 0 else "minus"
        tip = escape(f"{label(column)}: Pearson {pearson:.3f}")
        parts.append(
            f'<rect class="{kind}" x="{left:.1f}" y="{y + 3}" width="{abs(pearson) * unit:.1f}" '
            f'height="{BAR - 6}"><title>{tip}</title></rect>'
        )
    if spearman is not None:
        x = middle + spearman * unit
        tip = escape(f"{label(column)}: Spearman {spearman:.3f}")
        parts.append(
            f'<line class="rank" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 1}" y2="{y + BAR - 1}">'
            f"<title>{tip}</title></line>"
        )
    return "".join(parts)
