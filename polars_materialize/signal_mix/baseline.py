"""Two audits compared: which families are newly covered, and which correlations moved."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from polars_materialize import warm
from polars_materialize.errors import OptionError, TableError
from polars_materialize.signal_mix.reports import (
    DIGITS,
    SCHEMA,
    BaselineChanges,
    Move,
    SignalReport,
    StatusChange,
    TableChanges,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polars_materialize.signal_mix.reports import TableReport

MOVED = 0.05
"""From which difference on a correlation has moved."""


class EarlierHealth(msgspec.Struct, frozen=True):
    """What is read of a family in an earlier report."""

    status: str


class EarlierCorrelation(msgspec.Struct, frozen=True):
    """What is read of a signal in an earlier report."""

    column: str
    pearson: float | None
    spearman: float | None


class EarlierTable(msgspec.Struct, frozen=True):
    """What is read of a table in an earlier report."""

    label: str
    rows: int
    target: str | None
    signal_columns: list[str]
    family_health: dict[str, EarlierHealth]
    target_correlations: list[EarlierCorrelation]


class EarlierReport(msgspec.Struct, frozen=True):
    """What is read of an earlier report; fields that are not asked for may be there or not."""

    tables: list[EarlierTable]
    schema: str = SCHEMA


@dataclass(frozen=True)
class Baseline:
    """An earlier report, and where it is from."""

    path: str | None
    report: EarlierReport


def read_baseline(baseline: str | os.PathLike[str] | SignalReport) -> Baseline:
    """Takes an earlier report, from its JSON file or its struct.

    Raises:
        TableError: If the file is no report of an audit.
    """
    if isinstance(baseline, SignalReport):
        warm.describe(EarlierReport)
        return Baseline(None, msgspec.convert(msgspec.to_builtins(baseline), EarlierReport))
    try:
        written = os.fspath(baseline)
    except TypeError:
        problem = f"baseline: a {type(baseline).__name__}; expected a path or the report of an audit"
        raise OptionError(problem, option="baseline") from None
    return load_baseline(written, Path(written))


def load_baseline(written: str, path: Path) -> Baseline:
    """Takes an earlier report from its JSON file.

    Args:
        written: The file, as the user wrote its path.
        path: Where it is.

    Raises:
        TableError: If it is no report of an audit.
    """
    warm.describe(EarlierReport)
    try:
        report = msgspec.json.decode(path.read_bytes(), type=EarlierReport)
    except OSError as error:
        raise TableError(written, f"cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        problem = f"is no report of a signal-mix audit: {' '.join(str(error).split())}"
        raise TableError(written, problem) from None
    if report.schema != SCHEMA:
        raise TableError(written, f"has the schema {report.schema!r}; expected {SCHEMA!r}")
    return Baseline(written, report)


def compare(baseline: Baseline, tables: Sequence[TableReport]) -> BaselineChanges:
    """What is different since an earlier report.

    Tables are matched by label. If both reports have one table each, they are compared whatever their labels,
    since a table is often called otherwise after a join.
    """
    earlier = {table.label: table for table in baseline.report.tables}
    pairs = [(earlier[table.label], table) for table in tables if table.label in earlier]
    if not pairs and len(earlier) == len(tables) == 1:
        pairs = [(baseline.report.tables[0], tables[0])]
    before = {table.label for table, _ in pairs}
    after = {table.label for _, table in pairs}
    return BaselineChanges(
        path=baseline.path,
        tables=[_compare(*pair) for pair in pairs],
        tables_added=[table.label for table in tables if table.label not in after],
        tables_removed=[label for label in earlier if label not in before],
    )


def _compare(before: EarlierTable, after: TableReport) -> TableChanges:
    old = {name: health.status for name, health in before.family_health.items()}
    new = {name: health.status for name, health in after.family_health.items()}
    changes = [
        StatusChange(family, old.get(family), new.get(family))
        for family in dict.fromkeys([*new, *old])
        if old.get(family) != new.get(family)
    ]
    return TableChanges(
        label=after.label,
        baseline_label=before.label,
        rows_before=before.rows,
        rows_after=after.rows,
        target_before=before.target,
        target_after=after.target,
        newly_covered=[change.family for change in changes if change.after == "covered"],
        no_longer_covered=[change.family for change in changes if change.before == "covered"],
        status_changes=changes,
        signals_added=[name for name in after.signal_columns if name not in set(before.signal_columns)],
        signals_removed=[name for name in before.signal_columns if name not in set(after.signal_columns)],
        moved=_moves(before, after) if before.target == after.target else [],
    )


def _moves(before: EarlierTable, after: TableReport) -> list[Move]:
    """The correlations that moved, the furthest first."""
    old = {row.column: row for row in before.target_correlations}
    moves = []
    for row in after.target_correlations:
        if row.column not in old:
            continue
        for statistic in ("pearson", "spearman"):
            was, now = getattr(old[row.column], statistic), getattr(row, statistic)
            if (was is None) != (now is None) or (was is not None and _moved(was, now)):
                moves.append(Move(row.column, statistic, was, now))
    return sorted(moves, key=lambda move: (-distance(move), move.column, move.statistic))


def _moved(was: float, now: float) -> bool:
    """Whether a correlation moved far enough, as far as reports show: 0.35 is 0.05 from 0.30."""
    return round(abs(now - was), DIGITS) >= MOVED


def distance(move: Move) -> float:
    """How far a correlation moved; farther than any other if it came to exist or not to."""
    return 9.0 if move.before is None or move.after is None else abs(move.after - move.before)
