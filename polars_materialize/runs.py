"""Runs of one table, from files to files.

The order of a table's run: note and hash the inputs; read the small side; plan, guard and count on distinct
keys; stream the joined table beside its target; prove that no input changed meanwhile; rename.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from polars_materialize import reports
from polars_materialize.joins import check_options, plan_scores
from polars_materialize.options import ScoreTable, Sidecar
from polars_materialize.provenance import Hasher, Inputs, describe, run_provenance
from polars_materialize.reports import ScoreAudit
from polars_materialize.scores import SidecarLike, find_sidecars, list_sidecars, read_scores
from polars_materialize.tables import File, check_sink, find, scan_files, staged, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polars_materialize.options import KeyNormalize, Policy
    from polars_materialize.provenance import Described

PathLike = str | os.PathLike[str]
FOOTER_KEY = "polars_materialize.audit"
"""Where a Parquet output keeps its own audit, less the hash of itself."""


@dataclass(frozen=True)
class Context:
    """What a run is part of.

    Attributes:
        entrypoint: What was called.
        argv: The command line's arguments, if there was one.
        base_dir: What relative paths are relative to.
        hasher: What hashes inputs; without, an audit's hashes are null.
        manifest: The manifest that the table is from, as written and where it is.
    """

    entrypoint: str
    argv: Sequence[str] = ()
    base_dir: Path | None = None
    hasher: Hasher | None = None
    manifest: tuple[str, Path] | None = None

    def locate(self, written: str) -> tuple[str, Path]:
        """A path as written, and where it is."""
        return written, Path(written) if self.base_dir is None else self.base_dir / written

    def describe(self, written: str, path: Path) -> Described:
        """Describes an output, with its hash if inputs have theirs."""
        return describe(written, path, hashed=self.hasher is not None)


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
        base = None if base_dir is None else Path(base_dir)
        entrypoint = "second-opinion table" if argv else "materialize_scores"
        context = Context(entrypoint, argv=argv, base_dir=base, hasher=hasher)
        return run_score_table(table, context)


def run_score_table(table: ScoreTable, context: Context) -> ScoreAudit:
    """Runs one table of scores; see `materialize_scores`."""
    check_options(table)
    out = File.of(table.out, context.base_dir)
    inputs = Inputs(context.hasher)
    features = find(table.features, context.base_dir)
    sidecars = find_sidecars([Sidecar.of(entry) for entry in table.scores], context.base_dir)
    inputs.add("features", ((file.written, file.path) for file in features))
    inputs.add("scores", ((file.written, file.path) for _, files in sidecars for file in files))
    if context.manifest is not None:
        inputs.add("manifest", [context.manifest])
    inputs.refuse_as_outputs(_outputs(table, context))

    scores = read_scores(sidecars, score_key_field=table.score_key_field, score_field=table.score_field)
    lf = scan_files(features)
    plan = plan_scores(lf.collect_schema(), scores, table, table=table.features)
    evidence = plan.evidence(plan.distinct_values(lf).collect())
    joined = plan.attach(lf, evidence.frame.lazy())
    check_sink(out, joined.collect_schema())

    def audit(outputs: dict[str, Described]) -> ScoreAudit:
        described = inputs.described()
        return ScoreAudit(
            feature_table=table.features,
            output=table.out,
            key_column=plan.key,
            key_normalize=table.key_normalize,
            input_rows=evidence.input_rows,
            output_rows=evidence.output_rows,
            missing_policy=table.missing_policy,
            bad_policy=table.bad_policy,
            competitors=evidence.competitors,
            keys=evidence.keys,
            run_provenance=run_provenance(
                entrypoint=context.entrypoint,
                argv=context.argv,
                args=builtins(table),
                inputs={role: _single(role, files) for role, files in described.items()},
                outputs=outputs,
            ),
        )

    with contextlib.ExitStack() as stack:
        if table.audit_json is not None:
            audit_part = stack.enter_context(staged(*context.locate(table.audit_json)))
        part = stack.enter_context(staged(out.written, out.path))
        footer = {FOOTER_KEY: reports.to_json(audit({})).decode()} if out.format == "parquet" else {}
        write(joined, out, part, footer)
        inputs.refuse_changed()
        done = audit({"out": context.describe(table.out, part)})
        if table.audit_json is not None:
            audit_part.write_bytes(reports.to_json(done))
    return done


def _outputs(table: ScoreTable, context: Context) -> list[tuple[str, Path]]:
    written = [path for path in (table.out, table.audit_json) if path is not None]
    return [context.locate(path) for path in written]


def _single(role: str, files: Sequence[Described]) -> Described | Sequence[Described]:
    """A role that names one file is described by itself, one that names several by a list."""
    return files if role in _MANY or len(files) != 1 else files[0]


_MANY = ("scores",)


def builtins(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct as plain values."""
    content: dict[str, Any] = msgspec.to_builtins(struct)
    return content
