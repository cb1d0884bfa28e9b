"""Audits and reports: the structs that runs leave behind, as JSON and Markdown.

JSON has sorted keys and no clock, so that the same run gives the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from polars_materialize.errors import counted
from polars_materialize.shown import ITEMS, Shown, View, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOTED = 10
"""How many clips without a result stderr shows of a batch."""


class KeyCounts(msgspec.Struct, frozen=True):
    """How many rows, values and keys a side of a join has.

    Fewer distinct keys than distinct values means that different values share a key, or have none.

    Attributes:
        rows: All rows.
        rows_without_key: Rows that are null, blank or NaN, or that a regex does not match.
        distinct_values: Distinct values as text, blank ones aside.
        distinct_keys: Distinct keys made of them.
        folded_values: Distinct values that share their key with another value.
    """

    rows: int
    rows_without_key: int
    distinct_values: int
    distinct_keys: int
    folded_values: int


class ScoreKeyCounts(KeyCounts, frozen=True):
    """The same of the feature table, with each scorer's own beside it."""

    scores: dict[str, KeyCounts]


class LabelKeyCounts(KeyCounts, frozen=True):
    """The same of the feature table, with the labels' own beside it."""

    labels: KeyCounts


class ShardCounts(msgspec.Struct, frozen=True):
    """How many files a table was read from, and how many it was written to.

    Attributes:
        read: The files of the feature table.
        written: The files of the output.
    """

    read: int = 1
    written: int = 1


class FieldsRead(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields that the scores of some sidecars were read from, as the files spell them.

    Attributes:
        files: How many sidecars.
        source: One of them.
        format: The format that they were read as; null for the generic rule.
        key: The field of the clip's key; `@filename` for the sidecar's own name.
        score: The field of the score; `frames.score`, say, for the mean over frames.
        scorer: The field of the scorer, if the rows name it.
        status: The field of the status, if there is one.
        runtime_ms: The field of the run time, if there is one.
    """

    files: int
    source: str | None
    format: str | None = None
    key: str | None = None
    score: str | None = None
    scorer: str | None = None
    status: str | None = None
    runtime_ms: str | None = None


class ScorerCounts(msgspec.Struct, frozen=True):
    """What a join did with one scorer's scores; rows are rows of the feature table before `drop`.

    Attributes:
        competitor: The scorer.
        column_prefix: What the names of its columns begin with.
        scores_loaded: Its scores, one for each key.
        matched_rows: Rows with a score whose status is `ok`.
        missing_rows: Rows without a score.
        bad_rows: Rows with a score whose status is `bad`.
        unused_scores: Scores that no row has the key of.
        total_feature_keys: The distinct keys of the feature table.
        matched_feature_keys: How many of them have a score, be it `ok` or `bad`.
        match_rate: `matched_feature_keys / total_feature_keys`; 1 for a table without rows.
        replaced_scores: Scores before those that were taken, where sidecars have `duplicates: last`.
        formats: The formats that its sidecars were read as, if not by the generic rule.
        fields: The fields that its scores were read from; sidecars with the same ones are counted together.
        hint: Why no row has a score of it, as far as the keys tell; null if a row has.
    """

    competitor: str
    column_prefix: str
    scores_loaded: int
    matched_rows: int
    missing_rows: int
    bad_rows: int
    unused_scores: int
    total_feature_keys: int
    matched_feature_keys: int
    match_rate: float
    replaced_scores: int = 0
    formats: list[str] = []
    hint: str | None = None
    fields: list[FieldsRead] = []


class ScoreAudit(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """What joining scores onto one table did, and to what.

    Attributes:
        feature_table: The feature table, as the user wrote its path.
        output: The table that was written.
        key_column: The feature table's key column.
        key_normalize: The rule its keys were made by.
        input_rows: The feature table's rows.
        output_rows: The written table's rows; fewer only under a policy of `drop`.
        missing_policy: What was done with rows without a score.
        bad_policy: What was done with rows with a bad score.
        competitors: The counts of each scorer.
        keys: The counts of rows, values and keys of both sides.
        run_provenance: Inputs and outputs with their hashes, options, versions.
        shards: How many files the table was read from and written to.
        warnings: What a reader should know before the table is used, in words; none most often.
        columns: The columns of the feature table, as it was read.
        columns_added: The columns that the run has added, or replaced.
    """

    feature_table: str
    output: str
    key_column: str
    key_normalize: str
    input_rows: int
    output_rows: int
    missing_policy: str
    bad_policy: str
    competitors: dict[str, ScorerCounts]
    keys: ScoreKeyCounts
    run_provenance: dict[str, Any]
    shards: ShardCounts = ShardCounts()
    warnings: list[str] = []
    columns: list[str] = []
    columns_added: list[str] = []

    def views(self) -> list[View]:
        """A table of the scorers."""
        head = ["Scorer", "Scores", "Matched rows", "Missing rows", "Bad rows", "Unused scores"]
        rows = [
            [c.competitor, c.scores_loaded, c.matched_rows, c.missing_rows, c.bad_rows, c.unused_scores]
            for c in self.competitors.values()
        ]
        said = f"{self.input_rows:,} rows in, {self.output_rows:,} out"
        hints = {name: counts.hint for name, counts in self.competitors.items()}
        return [View([self.feature_table, self.output], said, head, rows, with_hints(self.warnings, hints))]


class LabelSource(msgspec.Struct, frozen=True):
    """What one label file gave, and how it was read.

    Attributes:
        path: The file.
        key_column: Its key column.
        mos_column: Its MOS column.
        scale: The scale of its scores, `LOW:HIGH`; null if it has none.
        rows: Its rows.
        rows_without_key: Rows that name no clip.
        rows_without_mos: Rows that say, as their format spells it, that there is no score.
        format: The format that it was read as; null for the generic rule.
    """

    path: str
    key_column: str | None
    mos_column: str | None
    scale: str | None
    rows: int
    rows_without_key: int
    rows_without_mos: int = 0
    format: str | None = None


class LabelAudit(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """What joining MOS labels onto one table did, and to what.

    Attributes:
        feature_table: The feature table, as the user wrote its path.
        output: The table that was written.
        feature_key_column: The feature table's key column.
        label_key_column: The label files' key column; null if they differ (see `label_sources`).
        label_mos_column: The label files' MOS column; null if they differ.
        label_scale: The scale that was decided, `LOW:HIGH`; null if the files differ.
        key_normalize: The rule keys were made by.
        feature_key_regex: What was taken from feature keys.
        label_key_regex: What was taken from label keys.
        min_match_rate: The least match rate that was asked for.
        input_rows: The feature table's rows.
        output_rows: The written table's rows, the same.
        total_feature_keys: The distinct keys of the feature table.
        matched_feature_keys: How many of them have a label.
        matched_rows: Rows with a label.
        missing_rows: Rows without.
        labels_loaded: Distinct keys with a label.
        labels_without_key: Label rows without a key, which were passed over.
        unused_labels: Labels that met no row.
        match_rate: `matched_feature_keys / total_feature_keys`; 1 for a table without rows.
        label_sources: What each label file gave.
        keys: The counts of rows, values and keys of both sides.
        run_provenance: Inputs and outputs with their hashes, options, versions.
        shards: How many files the table was read from and written to.
        warnings: What a reader should know before the table is used, in words; none most often.
        columns: The columns of the feature table, as it was read.
        columns_added: The columns that the run has added, or replaced.
    """

    feature_table: str
    output: str
    feature_key_column: str
    label_key_column: str | None
    label_mos_column: str | None
    label_scale: str | None
    key_normalize: str
    feature_key_regex: str | None
    label_key_regex: str | None
    min_match_rate: float
    input_rows: int
    output_rows: int
    total_feature_keys: int
    matched_feature_keys: int
    matched_rows: int
    missing_rows: int
    labels_loaded: int
    labels_without_key: int
    unused_labels: int
    match_rate: float
    label_sources: list[LabelSource]
    keys: LabelKeyCounts
    run_provenance: dict[str, Any]
    shards: ShardCounts = ShardCounts()
    warnings: list[str] = []
    columns: list[str] = []
    columns_added: list[str] = []

    def views(self) -> list[View]:
        """A table of the label files."""
        head = ["Labels", "Key", "MOS", "Scale", "Rows", "Without key"]
        rows = [
            [s.path, s.key_column, s.mos_column, s.scale, s.rows, s.rows_without_key]
            for s in self.label_sources
        ]
        matched = f"{self.matched_rows:,} of {self.input_rows:,} rows have a label"
        said = f"{matched} (match rate {self.match_rate:.3f})"
        return [View([self.feature_table, self.output], said, head, rows, self.warnings)]


class ClipCounts(msgspec.Struct, frozen=True):
    """How many distinct clips were measured; a file that is named in several ways is one.

    Attributes:
        total: All that rows asked for.
        ok: Those with a result.
        failed: Those without.
        frames: How many frames were measured in all.
    """

    total: int
    ok: int
    failed: int
    frames: int


class ClipFailure(msgspec.Struct, frozen=True):
    """Why a clip has no result.

    Attributes:
        path: The clip, as the table names it; null where a row names none.
        status: The status of its rows.
        message: The reason, in the words of the decoder or the network.
        rows: How many rows name it so.
    """

    path: str | None
    status: str
    message: str
    rows: int


class RowCounts(msgspec.Struct, frozen=True):
    """How many rows became what.

    Attributes:
        total: All rows.
        ok: Rows whose clip was measured.
        skipped_existing: Rows that had both values already.
        failed: Rows without a result.
    """

    total: int
    ok: int
    skipped_existing: int
    failed: int


class OtherTags(msgspec.Struct, frozen=True):
    """How many measured clips are tagged with something else than was assumed of them.

    Attributes:
        clips: The clips, each once.
        matrix: Clips by the tag of their matrix, where RGB was made by another one.
        transfer: Clips by the tag of their transfer function, where that is PQ or HLG, which nothing undoes.
    """

    clips: int
    matrix: dict[str, int]
    transfer: dict[str, int]


class SaliencyAudit(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """What adding saliency to one table did; counts are of rows unless they say otherwise.

    Attributes:
        schema: The kind of the report.
        table_id: The table's name in its batch; none in a run of one table.
        batch_manifest: The manifest of the batch; none likewise.
        input: The table, as the user wrote its path.
        output: The table that was written.
        config: Every effective option.
        model_id: What the model is called.
        summary: The next four counts, as reports of batches have them.
        total: All rows.
        ok: Rows whose clip was measured.
        skipped_existing: Rows that had both values already.
        failed: Rows without a result.
        statuses: Rows by status.
        clips: The distinct clips.
        other_tags: The clips whose tags differ from what was assumed.
        geometry_mismatch_rows: Rows that give a clip another geometry than its own, which was taken.
        failures: The first of the clips without a result.
        run_provenance: Inputs and outputs with their hashes, options, versions.
        shards: How many files the table was read from and written to.
        warnings: What a reader should know before the table is used, in words; none most often.
        columns: The columns of the feature table, as it was read.
        columns_added: The columns that the run has added, or replaced.
    """

    schema: str = "saliency-materializer-audit-v1"
    table_id: str | None = None
    batch_manifest: str | None = None
    input: str
    output: str
    config: dict[str, Any]
    model_id: str
    summary: RowCounts
    total: int
    ok: int
    skipped_existing: int
    failed: int
    statuses: dict[str, int]
    clips: ClipCounts
    other_tags: OtherTags
    geometry_mismatch_rows: int
    failures: list[ClipFailure]
    run_provenance: dict[str, Any]
    shards: ShardCounts = ShardCounts()
    warnings: list[str] = []
    columns: list[str] = []
    columns_added: list[str] = []

    def views(self) -> list[View]:
        """Rows by status, and why clips failed."""
        rows = [[status, count] for status, count in self.statuses.items() if count]
        said = f"{self.clips.ok:,} of {self.clips.total:,} clips measured"
        failures = [f"{one.path}: {one.status}: {one.message}" for one in self.failures]
        return [View([self.input, self.output], said, ["Status", "Rows"], rows, [*self.warnings, *failures])]


class RefreshAudit(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """What one pass joined onto one table.

    Attributes:
        schema: The kind of the report.
        feature_table: The feature table, as the user wrote its path.
        output: The table that was written.
        input_rows: The feature table's rows.
        output_rows: The written table's rows.
        failed: Rows whose clip was not measured, though it was to be.
        labels: What was joined of labels; its provenance and the table's columns are this one's.
        scores: What was joined of scores, likewise.
        saliency: What was measured, likewise.
        run_provenance: Inputs and outputs with their hashes, options, versions.
        shards: How many files the table was read from and written to.
        warnings: What a reader should know before the table is used, in words; none most often.
        columns: The columns of the feature table, as it was read.
        columns_added: The columns that the run has added, or replaced.
    """

    schema: str = "refresh-materializer-audit-v1"
    feature_table: str
    output: str
    input_rows: int
    output_rows: int
    failed: int
    labels: LabelAudit | None
    scores: ScoreAudit | None
    saliency: SaliencyAudit | None
    run_provenance: dict[str, Any]
    shards: ShardCounts = ShardCounts()
    warnings: list[str] = []
    columns: list[str] = []
    columns_added: list[str] = []

    def views(self) -> list[View]:
        """What each part did."""
        parts = [part for part in (self.labels, self.scores, self.saliency) if part is not None]
        return [view for part in parts for view in part.views()]


class BatchReport(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """What a batch did, or has done so far: one entry a table.

    Attributes:
        schema: The kind of the report.
        status: `ok`, `failed`, or where clips failed but no table `row-failures`. Of a batch that is not at
            its end `running`, and of one that was ended before it `interrupted`.
        manifest: The manifest; its path is relative to the base that `run_provenance` names.
        summary: Counts over all tables.
        tables: For each table its `id`, paths, `config`, `status`, `warnings`, `columns_added`, and `summary`
            or `error`. The status is `ok`, `row-failures`, `error`, or `not-run`. Only a table that was
            written has its outputs; where clips are measured, it has the first `failures`.
        run_provenance: Inputs and outputs with their hashes, options, versions.
    """

    schema: str
    status: Literal["ok", "failed", "row-failures", "running", "interrupted"]
    manifest: str
    summary: dict[str, int]
    tables: list[dict[str, Any]]
    run_provenance: dict[str, Any]

    def __repr__(self) -> str:
        """Its counts, and the first tables that failed; all of it would fill pages."""
        text = f"BatchReport(schema={self.schema!r}, status={self.status!r}, summary={self.summary}"
        failed = [entry for entry in self.tables if entry["status"] == "error"]
        errors = {entry["id"]: shortened(entry.get("error", "")) for entry in failed[:ITEMS]}
        more = len(failed) - len(errors)
        text += f", errors={errors}" if errors else ""
        return f"{text}{f' and {more:,} more' if more else ''})"

    def views(self) -> list[View]:
        """A row a table: those that failed first."""
        ranked = sorted(self.tables, key=lambda entry: entry["status"] != "error")
        rows = [[entry["id"], entry["status"], entry.get("error", "")] for entry in ranked]
        counts = ", ".join(f"{name} {count:,}" for name, count in self.summary.items())
        notes = [f"{table}: {warning}" for table, warning in self.warnings()]
        notes += [f"{table}: {said_of(failure)}" for table, failure in self.failures()]
        return [View([self.manifest], f"{self.status}: {counts}", ["Table", "Status", "Error"], rows, notes)]

    def warnings(self) -> list[tuple[str, str]]:
        """What a reader should know before tables are used: ids of tables, each with a warning of it."""
        return [(entry["id"], warning) for entry in self.tables for warning in entry["warnings"]]

    def failures(self) -> list[tuple[str, dict[str, Any]]]:
        """The first clips of each table that failed: the table's id, and the clip."""
        return [(entry["id"], one) for entry in self.tables for one in entry.get("failures", [])]

    def notes(self) -> list[str]:
        """What stderr says of tables that were written: their warnings, and the first clips that failed.

        A warning that several tables share is said once, with how many share it.
        """
        tables: dict[str, list[str]] = {}
        for name, warning in self.warnings():
            tables.setdefault(warning, []).append(name)
        lines = []
        for warning, names in tables.items():
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            lines.append(f"table {names[0]!r}{more}: warning: {shortened(warning)}")
        failures = self.failures()
        lines += [f"table {name!r}: {shortened(said_of(one))}" for name, one in failures[:NOTED]]
        rest = sum(entry.get("summary", {}).get("failed", 0) for entry in self.tables)
        rest -= sum(one["rows"] for _, one in failures[:NOTED])
        if failures and rest:
            lines.append(f"and {counted(rest, 'more row')} without a result; the audits list more clips")
        return lines


def said_of(failure: dict[str, Any]) -> str:
    """Why a clip has no result, in one line.

    Example:
        >>> said_of({"path": "a.mp4", "status": "missing-source", "message": "no such file", "rows": 2})
        'a.mp4: missing-source: no such file (2 rows)'
    """
    path = "a row without a path" if failure["path"] is None else failure["path"]
    path = path if path.isprintable() else repr(path)
    rows = f" ({failure['rows']:,} rows)" if failure["rows"] > 1 else ""
    return f"{path}: {failure['status']}: {failure['message']}{rows}"


def with_hints(warnings: Sequence[str], hints: Mapping[str, str | None]) -> list[str]:
    """Warnings, and of scorers that met no row why, unless a warning says that."""
    found = list(warnings)
    for scorer, hint in hints.items():
        if hint is not None and not any(hint in warning for warning in warnings):
            found.append(f"{scorer}: {hint}")
    return found


def to_json(report: msgspec.Struct) -> bytes:
    """A report as indented JSON with sorted keys and a last newline."""
    compact = msgspec.json.encode(report, order="sorted")
    return msgspec.json.format(compact, indent=2) + b"\n"
