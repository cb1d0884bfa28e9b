"""The kinds of batches: what their tables are, how one is run, and what a report says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from polars_materialize.errors import counted
from polars_materialize.formats import LabelFormat, ScoreFormat, list_formats
from polars_materialize.label_files import check_label_format, list_labels
from polars_materialize.label_runs import check_label_table, run_label_table
from polars_materialize.manifests import Forms
from polars_materialize.options import (
    LabelFile,
    LabelOptions,
    LabelTable,
    RefreshOptions,
    RefreshTable,
    SaliencyOptions,
    SaliencyTable,
    ScoreOptions,
    ScoreTable,
    Sidecar,
)
from polars_materialize.refresh_runs import check_refresh_table, run_refresh_table
from polars_materialize.saliency_runs import check_saliency_table, run_saliency_table
from polars_materialize.score_runs import check_score_table, run_score_table
from polars_materialize.sidecars import check_score_format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from polars_materialize.runs import Context

Table = TypeVar("Table", bound=msgspec.Struct)


@dataclass(frozen=True)
class Kind(Generic[Table]):
    """What one kind of batch is made of; the runner knows nothing else of it.

    Attributes:
        name: As on the command line.
        title: In the reports.
        schema: The report's.
        table: The struct of a table.
        options: The struct of its options.
        run: Runs one table.
        check: Refuses options that no table could make right.
        inputs: The fields that hold input paths, and how to read them.
        outputs: The fields that hold output paths.
        summary: What a table's entry keeps of its audit.
        totals: The counts that the batch adds up, from a table's summary.
        columns: The Markdown report's, after `Table` and `Status`, before `Output`.
        line: The last line on stderr, for `str.format` with the summary.
        coverage: What the Markdown report says of the evidence of a table, in lines, from its audit.
        row_failures: What in a table's summary counts rows that failed one by one, if rows can.
        failures: The clips that failed, from a table's audit.
        forms: For each field that holds evidence its kind of formats.
        measures: Whether a table has clips to measure: then it is these that an executor's workers run.
    """

    name: str
    title: str
    schema: str
    table: type[Table]
    options: type[msgspec.Struct]
    run: Callable[[Table, Context], msgspec.Struct]
    check: Callable[[Table], None]
    inputs: Callable[[Table], list[tuple[str, str]]]
    outputs: tuple[str, ...]
    summary: tuple[str, ...]
    totals: tuple[str, ...]
    columns: Mapping[str, str]
    line: str
    coverage: Callable[[Mapping[str, Any]], list[str]]
    row_failures: str | None = None
    failures: Callable[[Mapping[str, Any]], list[dict[str, Any]]] = lambda _: []
    forms: Mapping[str, Forms] = field(default_factory=dict)
    measures: Callable[[Table], bool] = lambda _: False


def id_of(table: msgspec.Struct) -> str:
    """The id of a table, which every kind has."""
    return str(getattr(table, "id"))  # noqa: B009


def _sidecar_paths(field: str, entries: Sequence[str | Sidecar]) -> list[tuple[str, str]]:
    return [(f"{field}[{place}]", Sidecar.of(entry).path) for place, entry in enumerate(entries)]


def _label_paths(field: str, entries: Sequence[str | LabelFile]) -> list[tuple[str, str]]:
    return [(f"{field}[{place}]", entry.path) for place, entry in enumerate(list_labels(entries))]


def _model_paths(field: str, path: str | None) -> list[tuple[str, str]]:
    return [] if path is None else [(field, path)]


def _scorers(audit: Mapping[str, Any]) -> list[str]:
    """For each scorer which rows have a score of it."""
    rows = audit["input_rows"]
    return [
        f"{name}: {_share(one['matched_rows'], rows)} have a score, {one['bad_rows']:,} a bad one, "
        f"{one['missing_rows']:,} none; {one['unused_scores']:,} of {one['scores_loaded']:,} scores unused"
        for name, one in audit["competitors"].items()
    ]


def _label_files(audit: Mapping[str, Any]) -> list[str]:
    """For each label file what was read of it; which rows have a label is known of all of them."""
    keys = _share(audit["matched_feature_keys"], audit["total_feature_keys"], "clip")
    matched = (
        f"labels: {keys} have one; {audit['unused_labels']:,} of {audit['labels_loaded']:,} labels unused"
    )
    return [
        matched,
        *(
            f"{one['path']}: {counted(one['rows'], 'row')}, {one['rows_without_key']:,} without a key, "
            f"{one['rows_without_mos']:,} without a score; scale {one['scale']}"
            for one in audit["label_sources"]
        ),
    ]


def _clips(audit: Mapping[str, Any]) -> list[str]:
    """How many clips were measured."""
    return [f"saliency: {_share(audit['clips']['ok'], audit['clips']['total'], 'clip')} measured"]


def _parts(audit: Mapping[str, Any]) -> list[str]:
    """The same of each part of a refresh."""
    said = {"labels": _label_files, "scores": _scorers, "saliency": _clips}
    return [line for name, say in said.items() if audit[name] is not None for line in say(audit[name])]


def _share(part: int, whole: int, noun: str = "row") -> str:
    """Of how many how many, and what share that is.

    Example:
        >>> _share(1, 3), _share(0, 0)
        ('1 of 3 rows (0.333)', '0 of 0 rows')
    """
    share = f" ({part / whole:.3f})" if whole else ""
    return f"{part:,} of {counted(whole, noun)}{share}"


SCORE_FORMS = Forms(ScoreFormat, check_score_format, lambda: list_formats().scores)
LABEL_FORMS = Forms(LabelFormat, check_label_format, lambda: list_formats().labels)

SECOND_OPINION = Kind(
    name="second-opinion",
    title="Second-opinion batch",
    schema="second-opinion-materializer-batch-v1",
    table=ScoreTable,
    options=ScoreOptions,
    run=run_score_table,
    check=check_score_table,
    inputs=lambda table: [("features", table.features), *_sidecar_paths("scores", table.scores)],
    outputs=("out", "audit_json"),
    summary=("input_rows", "output_rows", "competitors", "shards"),
    totals=("input_rows", "output_rows"),
    columns={"Input rows": "input_rows", "Output rows": "output_rows"},
    line="second-opinion batch materialize: tables={tables} input_rows={input_rows} "
    "output_rows={output_rows} failed_tables={failed_tables}",
    coverage=_scorers,
    forms={"scores": SCORE_FORMS},
)


MOS_LABELS = Kind(
    name="mos-labels",
    title="MOS-label batch",
    schema="mos-label-materializer-batch-v1",
    table=LabelTable,
    options=LabelOptions,
    run=run_label_table,
    check=check_label_table,
    inputs=lambda table: [("features", table.features), *_label_paths("labels", table.labels)],
    outputs=("out", "audit_json"),
    summary=(
        "input_rows",
        "output_rows",
        "matched_rows",
        "missing_rows",
        "match_rate",
        "labels_loaded",
        "total_feature_keys",
        "matched_feature_keys",
        "shards",
    ),
    totals=("input_rows", "output_rows", "matched_rows", "missing_rows"),
    columns={"Match rate": "match_rate", "Matched rows": "matched_rows", "Missing rows": "missing_rows"},
    line="MOS-label batch materialize: tables={tables} input_rows={input_rows} "
    "matched_rows={matched_rows} failed_tables={failed_tables}",
    coverage=_label_files,
    forms={"labels": LABEL_FORMS},
)

SALIENCY = Kind(
    name="saliency",
    title="Saliency batch",
    schema="saliency-materializer-batch-v1",
    table=SaliencyTable,
    options=SaliencyOptions,
    run=run_saliency_table,
    check=check_saliency_table,
    inputs=lambda table: [("input", table.input), *_model_paths("model_path", table.model_path)],
    outputs=("output", "audit_json"),
    summary=("total", "ok", "skipped_existing", "failed", "shards"),
    totals=("total", "ok", "skipped_existing", "failed"),
    columns={"Total": "total", "OK": "ok", "Skipped": "skipped_existing", "Failed": "failed"},
    line="saliency batch materialize: tables={tables} total={total} ok={ok} "
    "skipped={skipped_existing} failed={failed} failed_tables={failed_tables}",
    coverage=_clips,
    row_failures="failed",
    failures=lambda audit: audit["failures"],
    measures=lambda _: True,
)

REFRESH = Kind(
    name="refresh",
    title="Refresh batch",
    schema="refresh-materializer-batch-v1",
    table=RefreshTable,
    options=RefreshOptions,
    run=run_refresh_table,
    check=check_refresh_table,
    inputs=lambda table: [
        ("features", table.features),
        *_label_paths("labels.files", table.labels.files if table.labels else []),
        *_sidecar_paths("scores.files", table.scores.files if table.scores else []),
        *_model_paths("saliency.model_path", table.saliency.model_path if table.saliency else None),
    ],
    outputs=("out", "audit_json"),
    summary=("input_rows", "output_rows", "failed", "labels", "scores", "saliency", "shards"),
    totals=("input_rows", "output_rows", "failed"),
    columns={"Input rows": "input_rows", "Output rows": "output_rows", "Failed": "failed"},
    line="refresh batch materialize: tables={tables} input_rows={input_rows} "
    "output_rows={output_rows} failed={failed} failed_tables={failed_tables}",
    coverage=_parts,
    row_failures="failed",
    failures=lambda audit: audit["saliency"]["failures"] if audit["saliency"] else [],
    forms={"labels": LABEL_FORMS, "scores": SCORE_FORMS},
    measures=lambda table: table.saliency is not None,
)

KINDS: dict[str, Kind[Any]] = {kind.name: kind for kind in (SECOND_OPINION, MOS_LABELS, SALIENCY, REFRESH)}
