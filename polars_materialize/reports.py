"""Audits and reports: the structs that runs leave behind, as JSON and Markdown.

JSON has sorted keys and no clock, so that the same run gives the same bytes.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec


class KeyCounts(msgspec.Struct, frozen=True):
    """How many rows, values and keys a side of a join has.

    Fewer distinct keys than distinct values means that different values share a key, or have none.

    Attributes:
        rows: All rows.
        rows_without_key: Rows that are null, blank or NaN, or that a regex does not match.
        distinct_values: Distinct values as text, blank ones aside.
        distinct_keys: Distinct keys made of them.
    """

    rows: int
    rows_without_key: int
    distinct_values: int
    distinct_keys: int


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
        replaced_scores: Scores before those that were taken, where sidecars have `duplicates: last`.
        formats: The formats that its sidecars were read as, if not by the generic rule.
        hint: Why no row has a score of it, as far as the keys tell; null if a row has.
    """

    competitor: str
    column_prefix: str
    scores_loaded: int
    matched_rows: int
    missing_rows: int
    bad_rows: int
    unused_scores: int
    replaced_scores: int = 0
    formats: list[str] = []
    hint: str | None = None


class ScoreAudit(msgspec.Struct, frozen=True, kw_only=True):
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

    def _repr_markdown_(self) -> str:
        """A table of the scorers, for notebooks."""
        head = ["Scorer", "Scores", "Matched rows", "Missing rows", "Bad rows", "Unused scores"]
        rows: list[list[object]] = [
            [c.competitor, c.scores_loaded, c.matched_rows, c.missing_rows, c.bad_rows, c.unused_scores]
            for c in self.competitors.values()
        ]
        title = f"**{escape(self.feature_table)}** to **{escape(self.output)}**"
        return f"{title}: {self.input_rows:,} rows in, {self.output_rows:,} out\n\n{table(head, rows)}"


class LabelSource(msgspec.Struct, frozen=True):
    """What one label file gave, and how it was read.

    Attributes:
        path: The file.
        key_column: Its key column.
        mos_column: Its MOS column.
        scale: The scale of its scores, `LOW:HIGH`.
        rows: Its rows.
        rows_without_key: Rows that name no clip.
        rows_without_mos: Rows that say, as their format spells it, that there is no score.
        format: The format that it was read as; null for the generic rule.
    """

    path: str
    key_column: str | None
    mos_column: str | None
    scale: str
    rows: int
    rows_without_key: int
    rows_without_mos: int = 0
    format: str | None = None


class LabelAudit(msgspec.Struct, frozen=True, kw_only=True):
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

    def _repr_markdown_(self) -> str:
        """A table of the label files, for notebooks."""
        head = ["Labels", "Key", "MOS", "Scale", "Rows", "Without key"]
        rows: list[list[object]] = [
            [s.path, s.key_column, s.mos_column, s.scale, s.rows, s.rows_without_key]
            for s in self.label_sources
        ]
        title = f"**{escape(self.feature_table)}** to **{escape(self.output)}**"
        matched = f"{self.matched_rows:,} of {self.input_rows:,} rows have a label"
        return f"{title}: {matched} (match rate {self.match_rate:.3f})\n\n{table(head, rows)}"


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


class SaliencyAudit(msgspec.Struct, frozen=True, kw_only=True):
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

    def _repr_markdown_(self) -> str:
        """Rows by status, for notebooks."""
        rows: list[list[object]] = [[status, count] for status, count in self.statuses.items() if count]
        title = f"**{escape(self.input)}** to **{escape(self.output)}**"
        clips = f"{self.clips.ok:,} of {self.clips.total:,} clips measured"
        return f"{title}: {clips}\n\n{table(['Status', 'Rows'], rows)}"


class RefreshAudit(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass joined onto one table.

    Attributes:
        schema: The kind of the report.
        feature_table: The feature table, as the user wrote its path.
        output: The table that was written.
        input_rows: The feature table's rows.
        output_rows: The written table's rows.
        failed: Rows whose clip was not measured, though it was to be.
        labels: What was joined of labels; its provenance is this one's.
        scores: What was joined of scores, likewise.
        saliency: What was measured, likewise.
        run_provenance: Inputs and outputs with their hashes, options, versions.
        shards: How many files the table was read from and written to.
        warnings: What a reader should know before the table is used, in words; none most often.
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

    def _repr_markdown_(self) -> str:
        """What each part did, for notebooks."""
        parts = [part for part in (self.labels, self.scores, self.saliency) if part is not None]
        return "\n\n".join(part._repr_markdown_() for part in parts)


class BatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch did: one entry a table.

    Attributes:
        schema: The kind of the report.
        status: `ok`, `failed`, or for saliency `row-failures`.
        manifest: The manifest, as the user wrote its path.
        summary: Counts over all tables.
        tables: For each table its `id`, paths, `config`, `status`, and `summary` or `error`.
        run_provenance: Inputs and outputs with their hashes, options, versions.
    """

    schema: str
    status: Literal["ok", "failed", "row-failures"]
    manifest: str
    summary: dict[str, int]
    tables: list[dict[str, Any]]
    run_provenance: dict[str, Any]

    def __repr__(self) -> str:
        """Its counts; all of it would fill pages."""
        return f"BatchReport(schema={self.schema!r}, status={self.status!r}, summary={self.summary})"

    def hints(self) -> list[tuple[str, str]]:
        """The tables no row of which has a score of a scorer, and for each such scorer why, in words."""
        found = []
        for entry in self.tables:
            summary = entry.get("summary", {})
            scores = summary.get("scores") or summary  # of a refresh they are a part
            for name, counts in scores.get("competitors", {}).items():
                if counts["hint"] is not None:
                    found.append((entry["id"], f"{name}: {counts['hint']}"))
        return found


def to_json(report: msgspec.Struct) -> bytes:
    """A report as indented JSON with sorted keys and a last newline."""
    compact = msgspec.json.encode(report, order="sorted")
    return msgspec.json.format(compact, indent=2) + b"\n"


def table(head: list[str], rows: list[list[object]]) -> str:
    """A Markdown table; cells are escaped.

    Example:
        >>> print(table(["Table", "Rows"], [["a<b", 3]]))
        | Table | Rows |
        | --- | --- |
        | a&lt;b | 3 |
    """
    lines = [head, ["---"] * len(head), *([escape(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    r"""Makes text from a file plain text in Markdown: one line, no markup, no HTML.

    Example:
        >>> print(escape("<b>*clip*</b> a|b snake_case"))
        &lt;b&gt;\*clip\*&lt;/b&gt; a\|b snake_case
    """
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|\[\]~])", r"\\\1", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside of a word it is no markup
