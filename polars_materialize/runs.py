"""Runs of one table, from files to files.

The order of a table's run: note and hash the inputs; read the small side; plan, guard and count on distinct
keys; stream the joined table beside its target; prove that no input changed meanwhile; rename.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from polars_materialize import reports
from polars_materialize.errors import InputChangedError, OptionError, TableError
from polars_materialize.label_joins import LabelEvidence, LabelPlan, check_label_options, plan_labels
from polars_materialize.labels import LabelLike, check_label_file, find_labels, list_labels, read_labels
from polars_materialize.options import LabelFile, LabelTable, ScoreTable, Sidecar
from polars_materialize.provenance import Hasher, Inputs, describe, run_provenance
from polars_materialize.reports import LabelAudit, LabelKeyCounts, ScoreAudit
from polars_materialize.score_joins import ScoreEvidence, ScorePlan, check_score_options, plan_scores
from polars_materialize.scores import SidecarLike, check_sidecar, find_sidecars, list_sidecars, read_scores
from polars_materialize.tables import File, check_sink, find, scan_files, staged, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import polars as pl

    from polars_materialize.options import KeyNormalize, Policy
    from polars_materialize.provenance import Described

PathLike = str | os.PathLike[str]
AnyPlan = TypeVar("AnyPlan", ScorePlan, LabelPlan)
AnyEvidence = TypeVar("AnyEvidence", ScoreEvidence, LabelEvidence)
Audit = TypeVar("Audit", ScoreAudit, LabelAudit)
Entry = TypeVar("Entry", Sidecar, LabelFile)
FOOTER_KEY = "polars_materialize.audit"
"""Where a Parquet output keeps its own audit, less its provenance: that lists every input file."""


@dataclass(frozen=True)
class Context:
    """What a run is part of.

    Attributes:
        entrypoint: What was called.
        argv: The command line's arguments, if there was one.
        base_dir: What relative paths are relative to.
        hasher: What hashes inputs; without, an audit's hashes are null.
        manifest: The manifest that the table is from, described as it was read, and where it is.
    """

    entrypoint: str
    argv: Sequence[str] = ()
    base_dir: Path | None = None
    hasher: Hasher | None = None
    manifest: tuple[Described, Path] | None = None

    def locate(self, written: str) -> tuple[str, Path]:
        """A path as written, and where it is."""
        return written, Path(written) if self.base_dir is None else self.base_dir / written


@dataclass(frozen=True)
class _Run(Generic[AnyPlan, AnyEvidence, Audit]):
    """What one kind of run does differently from another.

    Attributes:
        role: What its evidence files are called.
        files: The evidence files.
        plan: Plans the join, from the feature table's schema; reads the evidence.
        evidence: Attaches it to the table's distinct key values.
        audit: What to say of it, but for its provenance.
    """

    role: str
    files: Iterable[File]
    plan: Callable[[pl.Schema], AnyPlan]
    evidence: Callable[[AnyPlan, pl.DataFrame], AnyEvidence]
    audit: Callable[[AnyPlan, AnyEvidence, dict[str, Any]], Audit]


def materialize_scores(
    features: PathLike,
    scores: SidecarLike | Iterable[SidecarLike],
    out: PathLike,
    *,
    audit_json: PathLike | None = None,
    base_dir: PathLike | None = None,
    key_column: str | None = None,
    score_key_field: str | None = None,
    score_field: str | None = None,
    key_normalize: KeyNormalize = "auto",
    missing_policy: Policy = "mark",
    bad_policy: Policy = "mark",
    prefix: str = "second_opinion",
    overwrite: bool = False,
    argv: Sequence[str] = (),
) -> ScoreAudit:
    """Joins scorers' sidecars onto a feature table, from files to a file, and says what was done.

    Everything is checked and counted before anything is written. The table is streamed, never wholly in
    memory. If anything fails, an older `out` and `audit_json` stay as they are.

    Args:
        features: The feature table: a file or a glob; see `scan_table` for the formats.
        scores: The sidecars: `path`, `LABEL=path` or `Sidecar`; see `scan_scores`.
        out: The table to write; a Parquet file carries the audit in its footer.
        audit_json: Where to write the audit too.
        base_dir: What relative paths are relative to.
        key_column: See `join_scores`.
        score_key_field: See `scan_scores`.
        score_field: See `scan_scores`.
        key_normalize: See `join_scores`.
        missing_policy: See `join_scores`.
        bad_policy: See `join_scores`.
        prefix: See `join_scores`.
        overwrite: Replace columns that the feature table already has. (An older `out` is always replaced.)
        argv: The command line's arguments, for the audit.

    Returns:
        The audit.

    Raises:
        MaterializeError: Whatever `scan_table`, `scan_scores`, `join_scores` and `sink_table` raise.
        OutputError: If an output is also an input.
        InputChangedError: If an input changed during the run.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "f.csv").write_text("clip_id,vmaf\\na,90\\nb,40\\n")
        ...     _ = (Path(folder) / "s.jsonl").write_text('{"clip_id": "a", "score": 0.7}')
        ...     audit = materialize_scores("f.csv", "dover=s.jsonl", "out.csv", base_dir=folder)
        ...     (audit.output_rows, audit.competitors["dover"].matched_rows)
        (2, 1)
    """
    table = ScoreTable(
        id="",
        features=os.fspath(features),
        scores=list(list_sidecars(scores)),
        out=os.fspath(out),
        audit_json=None if audit_json is None else os.fspath(audit_json),
        key_column=key_column,
        score_key_field=score_key_field,
        score_field=score_field,
        key_normalize=key_normalize,
        missing_policy=missing_policy,
        bad_policy=bad_policy,
        prefix=prefix,
        overwrite=overwrite,
    )
    with Hasher() as hasher:
        context = _context("second-opinion table" if argv else "materialize_scores", argv, base_dir, hasher)
        return run_score_table(table, context)


def materialize_labels(
    features: PathLike,
    labels: LabelLike | Iterable[LabelLike],
    out: PathLike,
    *,
    audit_json: PathLike | None = None,
    base_dir: PathLike | None = None,
    feature_key_column: str | None = None,
    label_key_column: str | None = None,
    label_mos_column: str | None = None,
    label_scale: str = "auto",
    key_normalize: KeyNormalize = "auto",
    feature_key_regex: str | None = None,
    label_key_regex: str | None = None,
    min_match_rate: float = 0.95,
    status_column: str = "mos_label_status",
    overwrite: bool = False,
    argv: Sequence[str] = (),
) -> LabelAudit:
    """Joins MOS labels onto a feature table, from files to a file, and says what was done.

    As `materialize_scores`, for labels.

    Args:
        features: The feature table: a file or a glob; see `scan_table` for the formats.
        labels: The label files: paths, globs or `LabelFile`; see `scan_labels`.
        out: The table to write; a Parquet file carries the audit in its footer.
        audit_json: Where to write the audit too.
        base_dir: What relative paths are relative to.
        feature_key_column: See `join_labels`.
        label_key_column: See `scan_labels`.
        label_mos_column: See `scan_labels`.
        label_scale: See `scan_labels`.
        key_normalize: See `join_labels`.
        feature_key_regex: See `join_labels`.
        label_key_regex: See `scan_labels`.
        min_match_rate: See `join_labels`.
        status_column: See `join_labels`.
        overwrite: Replace columns that the feature table already has. (An older `out` is always replaced.)
        argv: The command line's arguments, for the audit.

    Returns:
        The audit.

    Raises:
        MaterializeError: Whatever `scan_table`, `scan_labels`, `join_labels` and `sink_table` raise.
        OutputError: If an output is also an input.
        InputChangedError: If an input changed during the run.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "f.csv").write_text("clip_id,vmaf\\na,90\\nb,40\\n")
        ...     _ = (Path(folder) / "mos.csv").write_text("clip_id,mos\\na,80\\nb,12.5\\n")
        ...     audit = materialize_labels("f.csv", "mos.csv", "out.csv", base_dir=folder)
        ...     (audit.matched_rows, audit.label_scale)
        (2, '0:100')
    """
    table = LabelTable(
        id="",
        features=os.fspath(features),
        labels=list(list_labels(labels)),
        out=os.fspath(out),
        audit_json=None if audit_json is None else os.fspath(audit_json),
        feature_key_column=feature_key_column,
        label_key_column=label_key_column,
        label_mos_column=label_mos_column,
        label_scale=label_scale,
        key_normalize=key_normalize,
        feature_key_regex=feature_key_regex,
        label_key_regex=label_key_regex,
        min_match_rate=min_match_rate,
        status_column=status_column,
        overwrite=overwrite,
    )
    with Hasher() as hasher:
        context = _context("mos-labels table" if argv else "materialize_labels", argv, base_dir, hasher)
        return run_label_table(table, context)


def _context(entrypoint: str, argv: Sequence[str], base_dir: PathLike | None, hasher: Hasher) -> Context:
    base = None if base_dir is None else Path(base_dir)
    return Context(entrypoint, argv=argv, base_dir=base, hasher=hasher)


def run_score_table(table: ScoreTable, context: Context) -> ScoreAudit:
    """Runs one table of scores; see `materialize_scores`."""
    check_score_table(table)
    sidecars = find_sidecars([Sidecar.of(entry) for entry in table.scores], context.base_dir)

    def plan(schema: pl.Schema) -> ScorePlan:
        scores = read_scores(sidecars, score_key_field=table.score_key_field, score_field=table.score_field)
        return plan_scores(schema, scores, table, table=table.features)

    def audit(plan: ScorePlan, evidence: ScoreEvidence, provenance: dict[str, Any]) -> ScoreAudit:
        return ScoreAudit(
            feature_table=table.features,
            output=table.out,
            key_column=plan.side.key,
            key_normalize=table.key_normalize,
            input_rows=evidence.input_rows,
            output_rows=evidence.output_rows,
            missing_policy=table.missing_policy,
            bad_policy=table.bad_policy,
            competitors=evidence.competitors,
            keys=evidence.keys,
            run_provenance=provenance,
        )

    files = [file for _, found in sidecars for file in found]
    return _run(table, context, _Run("scores", files, plan, ScorePlan.evidence, audit))


def run_label_table(table: LabelTable, context: Context) -> LabelAudit:
    """Runs one table of labels; see `materialize_labels`."""
    check_label_table(table)
    found = find_labels(list_labels(table.labels), label_defaults(table), context.base_dir)

    def plan(schema: pl.Schema) -> LabelPlan:
        return plan_labels(schema, read_labels(found), table, table=table.features)

    def audit(plan: LabelPlan, evidence: LabelEvidence, provenance: dict[str, Any]) -> LabelAudit:
        return LabelAudit(
            feature_table=table.features,
            output=table.out,
            feature_key_column=plan.side.key,
            label_key_column=_same(source.key_column for source in plan.sources),
            label_mos_column=_same(source.mos_column for source in plan.sources),
            label_scale=_same(source.scale for source in plan.sources),
            key_normalize=table.key_normalize,
            feature_key_regex=table.feature_key_regex,
            label_key_regex=table.label_key_regex,
            min_match_rate=table.min_match_rate,
            input_rows=evidence.rows,
            output_rows=evidence.rows,
            total_feature_keys=evidence.total_keys,
            matched_feature_keys=evidence.matched_keys,
            matched_rows=evidence.matched_rows,
            missing_rows=evidence.rows - evidence.matched_rows,
            labels_loaded=plan.labels.height,
            labels_without_key=plan.label_keys.rows_without_key,
            unused_labels=evidence.unused_labels,
            match_rate=evidence.match_rate,
            label_sources=plan.sources,
            keys=LabelKeyCounts(**msgspec.structs.asdict(evidence.keys), labels=plan.label_keys),
            run_provenance=provenance,
        )

    files = [file for _, parts in found for file in parts]
    return _run(table, context, _Run("labels", files, plan, LabelPlan.evidence, audit))


def check_score_table(table: ScoreTable) -> None:
    """Refuses what a table's options and paths alone show to be wrong.

    Raises:
        OptionError: Names the option.
    """
    check_score_options(table)
    _check_outputs(table)
    if not table.scores:
        raise OptionError("scores: expected at least one sidecar", option="scores")
    for index, entry in enumerate(table.scores):
        _check_entry(check_sidecar, Sidecar.of(entry), f"scores[{index}]")


def check_label_table(table: LabelTable) -> None:
    """Refuses what a table's options and paths alone show to be wrong.

    Raises:
        OptionError: Names the option.
    """
    check_label_options(table)
    _check_outputs(table)
    if not table.labels:
        raise OptionError("labels: expected at least one label file", option="labels")
    for index, entry in enumerate(list_labels(table.labels)):
        _check_entry(check_label_file, entry, f"labels[{index}]")


def _check_outputs(table: ScoreTable | LabelTable) -> None:
    try:
        File.of(table.out)
    except TableError as error:
        raise OptionError(f"out: {error}", option="out") from None
    if table.audit_json is not None and (not table.audit_json.strip() or "\0" in table.audit_json):
        raise OptionError("audit_json: expected a path", option="audit_json")


def _check_entry(check: Callable[[Entry], None], entry: Entry, place: str) -> None:
    try:
        check(entry)
    except OptionError as error:
        inner = error.fields.get("option")
        nested = inner if inner and inner not in place else None
        raise OptionError(str(error), option=f"{place}.{nested}" if nested else place) from None


def label_defaults(table: LabelTable) -> LabelFile:
    """The table's options that an entry of its labels may say otherwise."""
    return LabelFile(
        "",
        key_column=table.label_key_column,
        mos_column=table.label_mos_column,
        key_regex=table.label_key_regex,
        scale=table.label_scale,
    )


def _same(values: Iterable[str | None]) -> str | None:
    """The value that all share, if they do."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def _run(table: ScoreTable | LabelTable, context: Context, run: _Run[AnyPlan, AnyEvidence, Audit]) -> Audit:
    """Runs one table of any kind of evidence."""
    out = File.of(table.out, context.base_dir)
    inputs = Inputs(context.hasher)
    features = find(table.features, context.base_dir)
    inputs.add("features", ((file.written, file.path) for file in features))
    inputs.add(run.role, ((file.written, file.path) for file in run.files))
    if context.manifest is not None:
        inputs.add("manifest", [(context.manifest[0]["path"], context.manifest[1])])
    written = [path for path in (table.out, table.audit_json) if path is not None]
    inputs.refuse_as_outputs(context.locate(path) for path in written)

    lf = scan_files(features)
    plan = run.plan(lf.collect_schema())
    evidence = run.evidence(plan, plan.side.distinct_values(lf).collect())
    joined = plan.side.attach(lf, evidence.frame.lazy())
    check_sink(out, joined.collect_schema())
    with contextlib.ExitStack() as stack:
        if table.audit_json is not None:
            audit_part = stack.enter_context(staged(*context.locate(table.audit_json)))
        part = stack.enter_context(staged(out.written, out.path))
        footer = {}
        if out.format == "parquet":
            footer[FOOTER_KEY] = reports.to_json(run.audit(plan, evidence, {})).decode()
        write(joined, out, part, footer)
        inputs.refuse_changed()
        if context.manifest is not None and inputs.described()["manifest"] != [context.manifest[0]]:
            raise InputChangedError.of(context.manifest[0]["path"])
        outputs = {"out": describe(table.out, part, hashed=context.hasher is not None)}
        audit = run.audit(plan, evidence, _provenance(table, context, inputs, outputs))
        if table.audit_json is not None:
            audit_part.write_bytes(reports.to_json(audit))
    return audit


def _provenance(
    table: ScoreTable | LabelTable, context: Context, inputs: Inputs, outputs: Mapping[str, Described]
) -> dict[str, Any]:
    described = inputs.described()
    return run_provenance(
        entrypoint=context.entrypoint,
        argv=context.argv,
        args=builtins(table),
        # The evidence may be many files, the other roles are one unless they are a glob.
        inputs={
            role: files if role in {"scores", "labels"} or len(files) != 1 else files[0]
            for role, files in described.items()
        },
        outputs=outputs,
    )


def builtins(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct as plain values."""
    content: dict[str, Any] = msgspec.to_builtins(struct)
    return content
