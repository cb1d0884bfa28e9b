"""What the suite found, as text, as JSON and as a picture."""

from __future__ import annotations

import html
import math
import os
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.suite import Options, Result
    from benchmarks.targets import Judgement

SCHEMA = "polars-materialize-benchmarks-v1"
PACKAGES = ("polars-materialize", "polars", "pyarrow", "duckdb", "pandas", "numpy")
WORDS = {True: "ok", False: "misses", None: "unknown"}


def summary(result: Result) -> dict[str, Any]:
    """All of a result, as plain values."""
    case = result.case
    first = case.contenders[0].name
    return {
        "name": case.name,
        "title": case.title,
        "load_before": round(result.load, 2),
        "skipped": result.skipped,
        "contenders": [
            {
                "name": contender.name,
                "seconds": _values(result, contender.name, "seconds"),
                "cpu_seconds": _values(result, contender.name, "cpu_seconds"),
                "peak_bytes": _values(result, contender.name, "peak_bytes"),
                "ratios": _ratios(result, contender.name, first),
                "rows": result.rows.get(contender.name),
                "agrees": contender.name not in result.wrong,
                "problem": result.problems.get(contender.name),
            }
            for contender in case.contenders
        ],
        "targets": [
            {
                **asdict(judgement.target),
                "values": judgement.values,
                "value": judgement.value,
                "verdict": WORDS[judgement.met],
                "allowed_seconds": judgement.target.allowed(result.repeats),
            }
            for judgement in _judgements(result)
        ],
    }


def document(options: Options, cases: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole run, as plain values."""
    return {
        "schema": SCHEMA,
        "sizes": asdict(options.sizes),
        "seed": options.seed,
        "repeats": options.repeats,
        "machine": {
            "system": platform.system(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "cores_used": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "cases": cases,
    }


def table(case: dict[str, Any]) -> str:
    """A case for people."""
    lines = [f"{case['name']}: {case['title']}"]
    if case["skipped"]:
        return "\n".join([*lines, f"  not run: {case['skipped']}", ""])
    first = case["contenders"][0]["name"]
    rows = [("", "seconds", "fastest - slowest", "cpu s", "peak MB", f"x {first}", "rows")]
    for one in case["contenders"]:
        if one["problem"]:
            rows.append((one["name"], "-", "-", "-", "-", "-", one["problem"]))
            continue
        seconds = one["seconds"]
        rows.append(
            (
                one["name"],
                _number(median(seconds)),
                f"{_number(min(seconds))} - {_number(max(seconds))}",
                _number(median(one["cpu_seconds"])),
                f"{median(one['peak_bytes']) / 1e6:,.0f}",
                f"{median(one['ratios']):.2f}" if one["ratios"] else "-",
                one["rows"] or "-",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for name, *cells, last in rows:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join(["", name.ljust(widths[0]), *aligned, last]))
    lines += [f"  {verdict(target)}" for target in case["targets"]]
    return "\n".join([*lines, ""])


def verdict(target: dict[str, Any]) -> str:
    """A target and what came of it."""
    word = target["verdict"]
    if target["value"] is None:
        return f"{word:<7}  {target['text']}: not measured"
    shown = f"{target['value']:.4f} s" if target["over"] is None else f"{target['value']:.2f} x"
    return f"{word:<7}  {target['text']}: {shown}"


def _judgements(result: Result) -> list[Judgement]:
    return [target.judge(result.repeats) for target in result.case.targets]


def _values(result: Result, name: str, quantity: str) -> list[float]:
    found = [repeat[name] for repeat in result.repeats if name in repeat and not repeat[name].problem]
    return [round(getattr(one, quantity), 4) for one in found]


def _ratios(result: Result, name: str, first: str) -> list[float]:
    """Ratios within repeats: what slows a whole repeat down does not count."""
    both = [repeat for repeat in result.repeats if name in repeat and first in repeat]
    fine = [repeat for repeat in both if not (repeat[name].problem or repeat[first].problem)]
    return [round(repeat[name].seconds / repeat[first].seconds, 4) for repeat in fine]


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


# The picture: a strip of dots a case. Its axis is the ratio to the case's first contender, as a logarithm, so
# that twice as slow is as far to the right as twice as quick is to the left.

WIDTH, LEFT, RIGHT, ROW = 1000, 250, 650, 20
COLOURS = {"ok": "#1a7f37", "misses": "#b42318", "unknown": "#777"}


def picture(content: dict[str, Any]) -> str:
    """The whole run as SVG: a dot for each contender, a line for each target."""
    parts: list[str] = []
    y = 80
    for case in content["cases"]:
        if case["skipped"] or not any(one["ratios"] for one in case["contenders"]):
            continue
        block, y = _strip(case, y)
        parts += block
    used, machine = content["machine"]["cores_used"], content["machine"]["processor"]
    repeats = content["repeats"]
    made_by = f"Polars {content['versions']['polars']}, {used} cores of {machine}, repeats: {repeats}"
    meaning = (
        "Seconds relative to the case's first contender. Dots: medians; lines: all repeats; upright marks: "
    )
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"',
        ' font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{y}" fill="white"/>',
        _text(20, 26, "polars-materialize: benchmarks", size=16, bold=True),
        _text(20, 46, made_by),
        _text(20, 62, f"{meaning}where the package may be at most (green: met)."),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _strip(case: dict[str, Any], y: int) -> tuple[list[str], int]:
    shown = [one for one in case["contenders"] if one["ratios"]]
    base = median(case["contenders"][0]["seconds"])
    marks = [t for t in case["targets"] if t["allowed_seconds"] is not None]
    ratios = [r for one in shown for r in one["ratios"]] + [t["allowed_seconds"] / base for t in marks]
    low, high = math.log(min(ratios) / 1.15), math.log(max(ratios) * 1.15)

    def x(ratio: float) -> float:
        return LEFT + (RIGHT - LEFT) * (math.log(ratio) - low) / (high - low)

    parts = [_text(20, y + 14, f"{case['name']}: {case['title']}", bold=True)]
    top, bottom = y + 22, y + 22 + ROW * len(case["contenders"])
    for tick in _ticks(math.exp(low), math.exp(high)):
        parts.append(_line(x(tick), top, x(tick), bottom, "#999" if tick == 1 else "#ddd"))
        parts.append(_text(x(tick), bottom + 12, f"{tick:g} x", anchor="middle", colour="#777", size=10))
    for index, one in enumerate(case["contenders"]):
        middle = top + ROW * index + ROW / 2
        parts.append(_text(LEFT - 12, middle + 4, one["name"], anchor="end"))
        if one["problem"]:
            parts.append(_text(LEFT, middle + 4, one["problem"], colour="#777"))
        if not one["ratios"]:
            continue
        ratio, disagrees = median(one["ratios"]), not one["agrees"]
        colour = "#b42318" if disagrees else "#0b57d0" if _is_package(one["name"]) else "#555"
        parts.append(_line(x(min(one["ratios"])), middle, x(max(one["ratios"])), middle, colour, width=2))
        parts.append(f'<circle cx="{x(ratio):.1f}" cy="{middle:.1f}" r="5" fill="{colour}"/>')
        memory = f"{median(one['peak_bytes']) / 1e6:,.0f} MB"
        note = f"{ratio:.2f} x   {_number(median(one['seconds']))} s   {memory}"
        parts.append(_text(RIGHT + 12, middle + 4, note + ("   OTHER ROWS" if disagrees else "")))
        for target in marks:
            if target["of"] == one["name"]:
                place = x(target["allowed_seconds"] / base)
                colour = COLOURS[target["verdict"]]
                parts.append(_line(place, middle - 9, place, middle + 9, colour, width=3))
    y = bottom + 28
    for target in case["targets"]:
        parts.append(_text(LEFT, y, verdict(target), colour=COLOURS[target["verdict"]]))
        y += 16
    return parts, y + 14


def _is_package(name: str) -> bool:
    return name.startswith(("package", "--help"))


def _ticks(low: float, high: float) -> Iterable[float]:
    steps: Sequence[float] = (1, 2, 5) if high / low > 8 else (1, 1.25, 1.5, 2, 3, 4, 5, 6, 8)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [step * 10.0**exponent for exponent in exponents for step in steps]
    return [tick for tick in found if low <= tick <= high]


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    colour: str = "#222",
    size: int = 12,
    bold: bool = False,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"{weight}'
    return f'<text {where} xml:space="preserve">{html.escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: int = 1) -> str:
    where = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {where} stroke="{colour}" stroke-width="{width}"/>'
