"""The report of a batch, from its first second on: what is done, what failed and why, what has not run."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Generic, Literal

from polars_materialize.batch_kinds import Kind, Table, id_of
from polars_materialize.errors import OutputError
from polars_materialize.reports import BatchReport, said_of, to_json, with_hints
from polars_materialize.runs import builtins
from polars_materialize.shown import escape
from polars_materialize.shown import table as table_of
from polars_materialize.stores import locate
from polars_materialize.tables import staged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from polars_materialize.batch_workers import Result
    from polars_materialize.stores import StorageOptions

Status = Literal["ok", "failed", "row-failures", "running", "interrupted"]

FAILURES = 10
"""How many clips without a result an entry lists; the table's audit lists more."""

REST = 10
"""A report is written again after so many times as long as writing it took."""


class LiveReport(Generic[Table]):
    """The report of a batch while it runs: written at its start, and when a table is done.

    Writing takes longer the more tables there are, so after each it rests for a while, and then writes all
    that was done meanwhile. Thus however a run ends, its report says what is done.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        form: Kind[Table],
        manifest: str,
        provenance: Callable[[], dict[str, Any]],
        *,
        outputs: Mapping[str, str],
        options: StorageOptions,
    ) -> None:
        """Begins with no table done.

        Args:
            tables: The tables of the manifest.
            form: Of which kind they are.
            manifest: The manifest's path, as the report says it.
            provenance: Gives what is known of inputs and outputs.
            outputs: The reports to write, by what they are called.
            options: How stores are reached.
        """
        self._tables = tables
        self._form = form
        self._manifest = manifest
        self._provenance = provenance
        self._outputs = outputs
        self._options = options
        self._results: dict[str, Result] = {}
        self._lock = threading.RLock()
        self._due = 0.0
        self._timer: threading.Timer | None = None
        self._ended = False

    @property
    def results(self) -> dict[str, Result]:
        """What came of the tables that are done, by id."""
        with self._lock:
            return dict(self._results)

    def begin(self) -> None:
        """Writes the report for the first time: an older one must not be taken for this run's.

        Raises:
            OutputError: If it cannot be written; better now than when all is done.
        """
        self._write("running")

    def note(self, table: Table, result: Result) -> None:
        """Takes note of what came of a table, in whatever thread it ran."""
        with self._lock:
            self._results[id_of(table)] = result
            if self._outputs:
                self._write_when_due()

    def _write_when_due(self) -> None:
        left = self._due - time.monotonic()
        if left <= 0:
            self._write_anyway()
        elif self._timer is None:
            self._timer = threading.Timer(left, self._write_anyway)
            self._timer.daemon = True
            self._timer.start()

    def _write_anyway(self) -> None:
        """Writes what is known; that it could not be is told at the end, if it still cannot be then."""
        with self._lock:
            self._timer = None
            if self._ended:
                return
            try:
                self._write("running")
            except OutputError:
                self._due = time.monotonic() + 1

    def _write(self, status: Status | None) -> BatchReport:
        with self._lock:
            began = time.monotonic()
            report = self._report(status)
            if self._outputs:
                texts = {
                    "report_json": lambda: to_json(report),
                    "report_md": lambda: to_markdown(report, self._form, self._audits()).encode(),
                }
                for name, written in self._outputs.items():
                    with staged(written, locate(written, None, self._options)) as part:
                        part.write_bytes(texts[name]())
            self._due = time.monotonic() + REST * (time.monotonic() - began)
            return report

    def end(self, *, interrupted: bool = False) -> BatchReport:
        """Writes the report for the last time.

        Args:
            interrupted: Whether the run did not come to its end; else tables that have not run, since one
                before them failed, are left out.

        Raises:
            OutputError: If it cannot be written; it has the report as a field.
        """
        with self._lock:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
            try:
                return self._write("interrupted" if interrupted else None)
            except OutputError as error:  # what the tables did is known nevertheless
                report = self._report("interrupted" if interrupted else None)
                raise OutputError(str(error), **{**error.fields, "report": report}) from None

    def _audits(self) -> dict[str, dict[str, Any]]:
        return {name: audit for name, (audit, _) in self._results.items() if audit is not None}

    def _report(self, status: Status | None) -> BatchReport:
        """The report; a status that is not given is that of the worst table."""
        entries: list[dict[str, Any]] = []
        known: dict[str, str] = {}
        for table in self._tables:
            result = self._results.get(id_of(table))
            if result is not None:
                entries.append(_entry(table, self._form, *result, known))
            elif status is not None:
                entries.append(_entry(table, self._form, None, None, known))
        return BatchReport(
            schema=self._form.schema,
            status=_status(entries) if status is None else status,
            manifest=self._manifest,
            summary=_totals(entries, self._form),
            tables=entries,
            run_provenance=self._provenance(),
        )


def _entry(
    table: Table,
    form: Kind[Table],
    audit: Mapping[str, Any] | None,
    error: str | None,
    known: dict[str, str],
) -> dict[str, Any]:
    """A table's entry in the report; `known` are the errors of tables before it, which it refers to."""
    content = builtins(table)
    config = {option: content.pop(option) for option in form.options.__struct_fields__}
    entry: dict[str, Any] = {**content, "config": config, "warnings": [], "columns_added": []}
    if audit is None:
        for name in form.outputs:  # what is there now is not of this run
            del entry[name]
        if error is None:
            return {**entry, "status": "not-run"}
        first = known.setdefault(error, id_of(table))
        same = f"the same error as table {first!r}"
        return {**entry, "status": "error", "error": error if first == id_of(table) else same}
    summary = {name: audit[name] for name in form.summary}
    failed = form.row_failures is not None and summary[form.row_failures]
    failures = {} if form.row_failures is None else {"failures": form.failures(audit)[:FAILURES]}
    return {
        **entry,
        **failures,
        "status": "row-failures" if failed else "ok",
        "summary": summary,
        "warnings": with_hints(audit["warnings"], _hints(audit)),
        "columns_added": audit["columns_added"],
    }


def _hints(audit: Mapping[str, Any]) -> dict[str, str | None]:
    scores = audit.get("scores") or audit  # of a refresh they are a part
    return {name: counts["hint"] for name, counts in scores.get("competitors", {}).items()}


def _status(entries: Sequence[Mapping[str, Any]]) -> Status:
    """The status of a batch, by its worst table."""
    found = {entry["status"] for entry in entries}
    if "error" in found:
        return "failed"
    return "row-failures" if "row-failures" in found else "ok"


def _totals(entries: Sequence[Mapping[str, Any]], form: Kind[Table]) -> dict[str, int]:
    summaries = [entry["summary"] for entry in entries if "summary" in entry]
    return {
        "tables": len(entries),
        "failed_tables": sum(entry["status"] == "error" for entry in entries),
        **{name: sum(summary[name] for summary in summaries) for name in form.totals},
    }


def to_markdown(report: BatchReport, form: Kind[Table], audits: Mapping[str, Mapping[str, Any]]) -> str:
    """A batch's report for people: its status, a row a table, what went wrong, and what was joined.

    Args:
        report: The report.
        form: Of which kind its tables are.
        audits: The audits of the tables that are done, by id.
    """
    rows = []
    for entry in report.tables:
        summary = entry.get("summary", {})
        cells = [_cell(summary.get(name, "")) for name in form.columns.values()]
        rows.append([entry["id"], entry["status"], *cells, entry.get(form.outputs[0], "")])
    parts = [
        f"# {form.title} report",
        f"Status: **{report.status}**. Manifest: {escape(report.manifest)}",
        table_of(["Table", "Status", *form.columns, "Output"], rows),
    ]
    entries = report.tables
    coverage = [
        (e["id"], line) for e in entries if e["id"] in audits for line in form.coverage(audits[e["id"]])
    ]
    sections = {
        "Failures": [(entry["id"], entry["error"]) for entry in entries if "error" in entry],
        "Warnings": report.warnings(),
        "Coverage": coverage,
        "Clips that failed": _clips(report, form),
    }
    for title, lines in sections.items():
        if lines:
            # A line begins with a word of its own, so that none is taken for a heading or a list.
            parts.append(f"## {title}")
            parts.append("\n".join(f"- Table {escape(name)}: {escape(said)}" for name, said in lines))
    return "\n\n".join(parts) + "\n"


def _clips(report: BatchReport, form: Kind[Table]) -> list[tuple[str, str]]:
    """The first clips of each table that failed, and how many rows all of them have."""
    found = []
    for entry in report.tables:
        failures = entry.get("failures", [])
        found += [(entry["id"], said_of(failure)) for failure in failures]
        rest = entry["summary"][form.row_failures] - sum(one["rows"] for one in failures) if failures else 0
        if rest:
            found.append((entry["id"], f"and {rest:,} more rows; its audit lists more clips"))
    return found


def _cell(value: object) -> object:
    """A number as the report shows it: a share with three decimals."""
    return f"{value:.3f}" if isinstance(value, float) else value
