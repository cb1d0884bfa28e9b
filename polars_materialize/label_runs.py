"""Runs that join MOS labels onto one table."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from polars_materialize.arguments import checked
from polars_materialize.errors import OptionError
from polars_materialize.label_files import (
    check_label_file,
    find_labels,
    list_labels,
    read_labels,
)
from polars_materialize.label_joins import LabelEvidence, LabelPlan, check_label_options, plan_labels
from polars_materialize.notices import Caller
from polars_materialize.options import LabelFile, LabelLike, LabelTable
from polars_materialize.reports import LabelAudit, LabelKeyCounts
from polars_materialize.runs import (
    Context,
    Part,
    PathLike,
    Run,
    check_entry,
    check_own_paths,
    run_table,
    single_run,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl

    from polars_materialize.formats import KeyNormalize
    from polars_materialize.stores import StorageOptions


@checked
def materialize_labels(
    features: PathLike,
    labels: LabelLike | Iterable[LabelLike],
    out: PathLike,
    *,
    audit_json: PathLike | None = None,
    partition_by: str | list[str] | None = None,
    base_dir: PathLike | None = None,
    feature_key_column: str | None = None,
    label_key_column: str | None = None,
    label_mos_column: str | None = None,
    label_scale: str = "auto",
    key_normalize: KeyNormalize = "auto",
    feature_key_regex: str | None = None,
    label_key_regex: str | None = None,
    min_match_rate: float = 0.95,
    allow_folding: bool = False,
    status_column: str = "mos_label_status",
    overwrite: bool = False,
    storage_options: StorageOptions | None = None,
    hashed: bool = True,
    argv: Sequence[str] = (),
) -> LabelAudit:
    """Joins MOS labels onto a feature table, from files to a file, and says what was done.

    As `materialize_scores`, for labels.

    Args:
        features: The feature table: a file or a glob; see `scan_table` for the formats.
        labels: The label files: paths, globs or `LabelFile`; see `scan_labels`.
        out: The table to write; a Parquet file carries the audit in its footer.
        audit_json: Where to write the audit too.
        partition_by: The columns that the output, then a folder, is parted by, as Hive does it.
        base_dir: What relative paths are relative to.
        feature_key_column: See `join_labels`.
        label_key_column: See `scan_labels`.
        label_mos_column: See `scan_labels`.
        label_scale: See `scan_labels`.
        key_normalize: See `join_labels`.
        feature_key_regex: See `join_labels`.
        label_key_regex: See `scan_labels`.
        min_match_rate: See `join_labels`.
        allow_folding: See `join_labels`.
        status_column: See `join_labels`.
        overwrite: Replace columns that the feature table already has. (An older `out` is always replaced.)
        storage_options: See `scan_table`; never written anywhere.
        hashed: Hash inputs and output for the audit; without, its hashes are null and the run is quicker.
        argv: The command line's arguments, for the audit.

    Returns:
        The audit.

    Raises:
        MaterializeError: Whatever `scan_table`, `scan_labels`, `join_labels` and `sink_table` raise.
        OutputError: If an output is also an input.
        InputChangedError: If an input changed during the run.

    Warns:
        MatchWarning: If no row has a label and `min_match_rate` allows that; the audit says so too.

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
        partition_by=partition_by,
        feature_key_column=feature_key_column,
        label_key_column=label_key_column,
        label_mos_column=label_mos_column,
        label_scale=label_scale,
        key_normalize=key_normalize,
        feature_key_regex=feature_key_regex,
        label_key_regex=label_key_regex,
        min_match_rate=min_match_rate,
        allow_folding=allow_folding,
        status_column=status_column,
        overwrite=overwrite,
    )
    entrypoint = "mos-labels table" if argv else "materialize_labels"
    with single_run(
        entrypoint, argv=argv, base_dir=base_dir, hashed=hashed, storage_options=storage_options
    ) as context:
        audit = run_label_table(table, context)
    if not argv:  # the command line says it itself
        Caller.find().warn(audit.warnings)
    return audit


def run_label_table(table: LabelTable, context: Context) -> LabelAudit:
    """Runs one table of labels; see `materialize_labels`."""
    check_label_table(table)
    return run_table(table, context, Run.of("features", "out", label_part(table, context)))


def label_part(table: LabelTable, context: Context) -> Part[LabelPlan, LabelEvidence, LabelAudit]:
    """What a table of its kind joins."""
    entries = list_labels(table.labels)
    found = find_labels(entries, _label_defaults(table), context.base_dir, context.storage_options)

    def plan(schema: pl.Schema) -> LabelPlan:
        labels = context.read(found, lambda: read_labels(found, table.key_normalize), table.key_normalize)
        return plan_labels(
            schema, labels, table, table=table.features, rows=partial(context.rows, table.features)
        )

    def audit(plan: LabelPlan, evidence: LabelEvidence) -> LabelAudit:
        return LabelAudit(
            feature_table=table.features,
            output=table.out,
            feature_key_column=plan.side.key,
            label_key_column=_same(source.key_column for source in plan.sources),
            label_mos_column=_same(source.mos_column for source in plan.sources),
            label_scale=_same(source.scale for source in plan.sources if source.scale is not None),
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
            run_provenance={},
            warnings=evidence.warnings,
        )

    files = [(file.written, file.path) for _, parts in found for file in parts]
    return Part(
        role="labels",
        name="labels",
        files=files,
        paths=[entry.path for entry, _ in found],
        key_column=table.feature_key_column,
        plan=plan,
        audit=audit,
    )


def check_label_table(table: LabelTable) -> None:
    """Refuses what a table's options and paths alone show to be wrong.

    Raises:
        OptionError: Names the option.
    """
    check_label_part(table)
    check_own_paths(table)


def check_label_part(table: LabelTable) -> None:
    """As `check_label_table`, but for the outputs."""
    check_label_options(table)
    if not table.labels:
        raise OptionError("labels: expected at least one label file", option="labels")
    for index, entry in enumerate(list_labels(table.labels)):
        check_entry(check_label_file, entry, f"labels[{index}]")


def _label_defaults(table: LabelTable) -> LabelFile:
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
