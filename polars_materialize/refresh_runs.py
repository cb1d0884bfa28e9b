"""Runs that join labels, scores and saliency onto one table in one pass."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from polars_materialize.arguments import checked
from polars_materialize.errors import OptionError
from polars_materialize.label_files import list_labels
from polars_materialize.label_runs import check_label_part, label_part
from polars_materialize.notices import Caller
from polars_materialize.options import (
    LabelPart,
    LabelTable,
    RefreshTable,
    SaliencyOptions,
    SaliencyTable,
    ScorePart,
    ScoreTable,
)
from polars_materialize.reports import LabelAudit, RefreshAudit, SaliencyAudit, ScoreAudit
from polars_materialize.runs import Context, PathLike, Run, check_own_paths, run_table, single_run
from polars_materialize.saliency_runs import saliency_part
from polars_materialize.saliency_stages import check_saliency_options
from polars_materialize.score_runs import check_score_part, score_part
from polars_materialize.sidecars import list_sidecars

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from polars_materialize.runs import AnyPart
    from polars_materialize.stores import StorageOptions


class _Kind(NamedTuple):
    """What a part of a refresh is: its struct, its check, and what makes it a part of a run."""

    struct: type[LabelPart | ScorePart | SaliencyOptions]
    check: Callable[[Any], None]
    part: Callable[[Any, Context], AnyPart]


PARTS = {
    "labels": _Kind(LabelPart, check_label_part, label_part),
    "scores": _Kind(ScorePart, check_score_part, score_part),
    "saliency": _Kind(SaliencyOptions, check_saliency_options, saliency_part),
}
"""The parts, in the order of their columns."""


@checked
def refresh_table(
    features: PathLike,
    out: PathLike,
    *,
    labels: LabelPart | None = None,
    scores: ScorePart | None = None,
    saliency: SaliencyOptions | None = None,
    audit_json: PathLike | None = None,
    partition_by: str | list[str] | None = None,
    base_dir: PathLike | None = None,
    storage_options: StorageOptions | None = None,
    hashed: bool = True,
    argv: Sequence[str] = (),
    executor: Executor | None = None,
    progress: Callable[..., None] | None = None,
) -> RefreshAudit:
    """Joins labels, scores and saliency onto a feature table in one pass: read once, written once.

    The rows are those of the runs one after another: labels, then scores, then saliency. Each part is
    planned by the table as it was read, so none depends on another; only clips of rows that a policy of
    `drop` keeps are measured.

    Args:
        features: The feature table: a file, a glob, or a folder of shards.
        out: The table to write.
        labels: The MOS labels: their files and the options of `materialize_labels`.
        scores: The second opinions: their sidecars and the options of `materialize_scores`.
        saliency: The options of `materialize_saliency`.
        audit_json: Where to write the audit too.
        partition_by: The columns that the output, then a folder, is parted by, as Hive does it.
        base_dir: What relative paths are relative to.
        storage_options: See `scan_table`; never written anywhere.
        hashed: Hash inputs and output for the audit.
        argv: The command line's arguments, for the audit.
        executor: Whose workers measure clips; see `add_saliency`.
        progress: Called with how many are done and of how many, and of what if that is not clips.

    Returns:
        The audit.

    Raises:
        MaterializeError: Whatever the single runs raise.
        ColumnExistsError: If two parts would write one column, or one replaces what another needs.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from polars_materialize import LabelPart, ScorePart
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "f.csv").write_text("clip_id,vmaf\\na,90\\n")
        ...     _ = (Path(folder) / "mos.csv").write_text("clip_id,mos\\na,4.5\\n")
        ...     _ = (Path(folder) / "s.jsonl").write_text('{"clip_id": "a", "score": 0.7}')
        ...     audit = refresh_table(
        ...         "f.csv",
        ...         "out.csv",
        ...         labels=LabelPart(files=["mos.csv"]),
        ...         scores=ScorePart(files=["dover=s.jsonl"]),
        ...         base_dir=folder,
        ...     )
        ...     (audit.labels.matched_rows, audit.scores.competitors["dover"].matched_rows)
        (1, 1)
    """
    table = RefreshTable(
        id="",
        features=os.fspath(features),
        out=os.fspath(out),
        audit_json=None if audit_json is None else os.fspath(audit_json),
        partition_by=partition_by,
        labels=labels,
        scores=scores,
        saliency=saliency,
    )
    entrypoint = "refresh table" if argv else "refresh_table"
    with single_run(
        entrypoint,
        argv=argv,
        base_dir=base_dir,
        hashed=hashed,
        progress=progress,
        executor=executor,
        storage_options=storage_options,
    ) as context:
        audit = run_refresh_table(table, context)
    if not argv:  # the command line says it itself
        Caller.find().warn(audit.warnings)
    return audit


def run_refresh_table(table: RefreshTable, context: Context) -> RefreshAudit:
    """Runs one table of a refresh; see `refresh_table`."""
    check_refresh_table(table)
    parts = [PARTS[name].part(one, context) for name, one in _single_tables(table).items()]

    def audit(audits: Sequence[Any], whole: dict[str, Any]) -> RefreshAudit:
        found = {type(one): msgspec.structs.replace(one, shards=whole["shards"]) for one in audits}
        kinds = (LabelAudit, ScoreAudit, SaliencyAudit)
        labels, scores, saliency = (cast("Any", found.get(kind)) for kind in kinds)
        last = scores or labels
        return RefreshAudit(
            feature_table=table.features,
            output=table.out,
            input_rows=last.input_rows if last else saliency.total,
            output_rows=last.output_rows if last else saliency.total,
            failed=saliency.failed if saliency else 0,
            labels=labels,
            scores=scores,
            saliency=saliency,
            warnings=[warning for one in audits for warning in one.warnings],
            **whole,
        )

    return run_table(table, context, Run("features", "out", parts, audit))


def check_refresh_table(table: RefreshTable) -> None:
    """Refuses what a table's options and paths alone show to be wrong.

    Raises:
        OptionError: Names the option.
    """
    singles = _single_tables(table)
    if not singles:
        raise OptionError(f"expected at least one of {' '.join(PARTS)}")
    for name, single in singles.items():
        try:
            PARTS[name].check(single)
        except OptionError as error:
            option = str(error.fields.get("option") or "")
            inner = f"files{option.removeprefix(name)}" if option.partition("[")[0] == name else option
            place = f"{name}.{inner}" if inner else name
            problem = str(error)
            if problem.startswith(f"{name}: "):
                problem = f"{place}{problem.removeprefix(name)}"
            raise OptionError(problem, option=place) from None
    check_own_paths(table)


def _single_tables(table: RefreshTable) -> dict[str, LabelTable | ScoreTable | SaliencyTable]:
    """A table of a single kind for each part, in the order of their columns."""
    shared: dict[str, Any] = {
        "id": table.id,
        "audit_json": table.audit_json,
        "partition_by": table.partition_by,
    }
    paths: dict[str, Any] = {"features": table.features, "out": table.out, **shared}
    found: dict[str, LabelTable | ScoreTable | SaliencyTable] = {}
    if table.labels is not None:
        options = msgspec.structs.asdict(table.labels)
        found["labels"] = LabelTable(**paths, labels=list(list_labels(options.pop("files"))), **options)
    if table.scores is not None:
        options = msgspec.structs.asdict(table.scores)
        found["scores"] = ScoreTable(**paths, scores=list(list_sidecars(options.pop("files"))), **options)
    if table.saliency is not None:
        options = msgspec.structs.asdict(table.saliency)
        found["saliency"] = SaliencyTable(input=table.features, output=table.out, **shared, **options)
    return found
