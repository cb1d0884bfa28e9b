"""Runs that join scores onto one table."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from polars_materialize.arguments import checked
from polars_materialize.errors import OptionError
from polars_materialize.notices import Caller
from polars_materialize.options import ScoreTable, Sidecar, SidecarLike
from polars_materialize.reports import ScoreAudit
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
from polars_materialize.score_joins import ScoreEvidence, ScorePlan, check_score_options, plan_scores
from polars_materialize.sidecars import (
    check_sidecar,
    find_sidecars,
    list_sidecars,
    read_scores,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import polars as pl

    from polars_materialize.formats import KeyNormalize
    from polars_materialize.options import Policy
    from polars_materialize.stores import StorageOptions


@checked
def materialize_scores(
    features: PathLike,
    scores: SidecarLike | Iterable[SidecarLike],
    out: PathLike,
    *,
    audit_json: PathLike | None = None,
    partition_by: str | list[str] | None = None,
    base_dir: PathLike | None = None,
    key_column: str | None = None,
    score_key_field: str | None = None,
    score_field: str | None = None,
    key_normalize: KeyNormalize = "auto",
    missing_policy: Policy = "mark",
    bad_policy: Policy = "mark",
    min_match_rate: float | None = None,
    allow_folding: bool = False,
    prefix: str = "second_opinion",
    overwrite: bool = False,
    storage_options: StorageOptions | None = None,
    hashed: bool = True,
    argv: Sequence[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> ScoreAudit:
    """Joins scorers' sidecars onto a feature table, from files to a file, and says what was done.

    Everything is checked and counted before anything is written. The table is streamed, never wholly in
    memory. If anything fails, an older `out` and `audit_json` stay as they are.

    Args:
        features: The feature table: a file or a glob; see `scan_table` for the formats.
        scores: The sidecars: `path`, `LABEL=path` or `Sidecar`; see `scan_scores`.
        out: The table to write; a Parquet file carries the audit in its footer.
        audit_json: Where to write the audit too.
        partition_by: The columns that the output, then a folder, is parted by, as Hive does it.
        base_dir: What relative paths are relative to.
        key_column: See `join_scores`.
        score_key_field: See `scan_scores`.
        score_field: See `scan_scores`.
        key_normalize: See `join_scores`.
        missing_policy: See `join_scores`.
        bad_policy: See `join_scores`.
        min_match_rate: See `join_scores`.
        allow_folding: See `join_scores`.
        prefix: See `join_scores`.
        overwrite: Replace columns that the feature table already has. (An older `out` is always replaced.)
        storage_options: See `scan_table`; never written anywhere.
        hashed: Hash inputs and output for the audit; without, its hashes are null and the run is quicker.
        argv: The command line's arguments, for the audit.
        progress: Called with the number of sidecar files begun and of all, and the word `files`.

    Returns:
        The audit.

    Raises:
        MaterializeError: Whatever `scan_table`, `scan_scores`, `join_scores` and `sink_table` raise.
        OutputError: If an output is also an input.
        InputChangedError: If an input changed during the run.

    Warns:
        MatchWarning: If a scorer meets no row, or few; the audit says so too.

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
        partition_by=partition_by,
        key_column=key_column,
        score_key_field=score_key_field,
        score_field=score_field,
        key_normalize=key_normalize,
        missing_policy=missing_policy,
        bad_policy=bad_policy,
        min_match_rate=min_match_rate,
        allow_folding=allow_folding,
        prefix=prefix,
        overwrite=overwrite,
    )
    entrypoint = "second-opinion table" if argv else "materialize_scores"
    with single_run(
        entrypoint,
        argv=argv,
        base_dir=base_dir,
        hashed=hashed,
        progress=progress,
        storage_options=storage_options,
    ) as context:
        audit = run_score_table(table, context)
    if not argv:  # the command line says it itself
        Caller.find().warn(audit.warnings)
    return audit


def run_score_table(table: ScoreTable, context: Context) -> ScoreAudit:
    """Runs one table of scores; see `materialize_scores`."""
    check_score_table(table)
    return run_table(table, context, Run.of("features", "out", score_part(table, context)))


def score_part(table: ScoreTable, context: Context) -> Part[ScorePlan, ScoreEvidence, ScoreAudit]:
    """What a table of its kind joins."""
    entries = [Sidecar.of(entry) for entry in table.scores]
    sidecars = find_sidecars(entries, context.base_dir, context.storage_options)

    def plan(schema: pl.Schema) -> ScorePlan:
        fields = {"score_key_field": table.score_key_field, "score_field": table.score_field}
        scores = context.read(
            sidecars, lambda: read_scores(sidecars, **fields, progress=context.progress), *fields.values()
        )
        return plan_scores(
            schema, scores, table, table=table.features, rows=partial(context.rows, table.features)
        )

    def audit(plan: ScorePlan, evidence: ScoreEvidence) -> ScoreAudit:
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
            run_provenance={},
            warnings=evidence.warnings,
        )

    files = [(file.written, file.path) for _, found in sidecars for file in found]
    return Part(
        role="scores",
        name="scores",
        files=files,
        paths=[entry.path for entry, _ in sidecars],
        key_column=table.key_column,
        plan=plan,
        audit=audit,
    )


def check_score_table(table: ScoreTable) -> None:
    """Refuses what a table's options and paths alone show to be wrong.

    Raises:
        OptionError: Names the option.
    """
    check_score_part(table)
    check_own_paths(table)


def check_score_part(table: ScoreTable) -> None:
    """As `check_score_table`, but for the outputs."""
    check_score_options(table)
    if not table.scores:
        raise OptionError("scores: expected at least one sidecar", option="scores")
    for index, entry in enumerate(table.scores):
        check_entry(check_sidecar, Sidecar.of(entry), f"scores[{index}]")
