"""Runs that add saliency to one table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from polars_materialize.arguments import checked
from polars_materialize.errors import counted
from polars_materialize.options import SaliencyOptions, SaliencyTable
from polars_materialize.reports import OtherTags, RowCounts, SaliencyAudit
from polars_materialize.runs import (
    Context,
    Part,
    PathLike,
    Run,
    builtins,
    check_own_paths,
    run_table,
    single_run,
)
from polars_materialize.saliency_hashes import ClipHashes
from polars_materialize.saliency_joins import SaliencyEvidence, SaliencyPlan, plan_saliency
from polars_materialize.saliency_stages import check_saliency_options, load_stage, make_options
from polars_materialize.saliency_workers import divided

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    import polars as pl

    from polars_materialize.options import FrameSelection, Matrix, TemporalAggregator
    from polars_materialize.stores import StorageOptions


@checked
def materialize_saliency(
    input: PathLike,  # noqa: A002 - as in manifests and on the command line
    output: PathLike,
    *,
    audit_json: PathLike | None = None,
    partition_by: str | list[str] | None = None,
    base_dir: PathLike | None = None,
    path_column: str = "src",
    width_column: str = "width",
    height_column: str = "height",
    root: PathLike | None = None,
    ffmpeg_bin: PathLike | None = None,
    ffprobe_bin: PathLike | None = None,
    model_path: PathLike | None = None,
    model_id: str | None = None,
    max_frames: int = 8,
    frame_samples: int = 8,
    frame_selection: FrameSelection = "first",
    temporal_aggregator: TemporalAggregator = "mean",
    ema_alpha: float = 0.6,
    overwrite: bool = False,
    status_column: str = "saliency_status",
    model_id_column: str = "saliency_model_id",
    aggregator_column: str = "saliency_aggregator",
    ema_alpha_column: str = "saliency_ema_alpha",
    default_width: int = 0,
    default_height: int = 0,
    decode_timeout_s: float = 300.0,
    max_pixels: int = 9_437_184,
    matrix: Matrix = "bt709",
    hash_clips: bool = True,
    storage_options: StorageOptions | None = None,
    hashed: bool = True,
    argv: Sequence[str] = (),
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SaliencyAudit:
    """Adds saliency to a table, from a file to a file, and says what was done.

    The table is written whether all clips could be measured or not; the audit says which could not, and why.
    Otherwise as `materialize_scores`.

    Args:
        input: The table: a file or a glob; see `scan_table` for the formats.
        output: The table to write; a Parquet file carries the audit in its footer.
        audit_json: Where to write the audit too.
        partition_by: The columns that the output, then a folder, is parted by, as Hive does it.
        base_dir: What relative paths are relative to: those above, the model's, `root`, and without a `root`
            the clips'.
        path_column: See `add_saliency`.
        width_column: See `add_saliency`.
        height_column: See `add_saliency`.
        root: See `add_saliency`.
        ffmpeg_bin: See `add_saliency`.
        ffprobe_bin: See `add_saliency`.
        model_path: See `add_saliency`.
        model_id: See `add_saliency`.
        max_frames: See `add_saliency`.
        frame_samples: See `add_saliency`.
        frame_selection: See `add_saliency`.
        temporal_aggregator: See `add_saliency`.
        ema_alpha: See `add_saliency`.
        overwrite: Measure rows again that have finite values. (An older `output` is always replaced.)
        status_column: See `add_saliency`.
        model_id_column: See `add_saliency`.
        aggregator_column: See `add_saliency`.
        ema_alpha_column: See `add_saliency`.
        default_width: See `add_saliency`.
        default_height: See `add_saliency`.
        decode_timeout_s: See `add_saliency`.
        max_pixels: See `add_saliency`.
        matrix: See `add_saliency`.
        hash_clips: Hash clips beside decoding, for the audit; without, their hashes are null.
        storage_options: See `scan_table`; never written anywhere.
        hashed: Hash inputs and output for the audit; without, its hashes are null and the run is quicker.
        argv: The command line's arguments, for the audit.
        executor: See `add_saliency`.
        progress: See `add_saliency`.

    Returns:
        The audit.

    Raises:
        MaterializeError: Whatever `scan_table`, `add_saliency` and `sink_table` raise.
        OutputError: If an output is also an input.
        InputChangedError: If an input changed during the run.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "f.csv").write_text("src,width,height\\na.yuv,64,48\\ngone.yuv,64,48\\n")
        ...     _ = (Path(folder) / "a.yuv").write_bytes(bytes(64 * 48 * 3 // 2))
        ...     audit = materialize_saliency("f.csv", "out.csv", base_dir=folder)
        ...     (audit.ok, audit.failed, audit.failures[0].status)
        (1, 1, 'missing-source')
    """
    options = make_options(
        path_column=path_column,
        width_column=width_column,
        height_column=height_column,
        root=root,
        ffmpeg_bin=ffmpeg_bin,
        ffprobe_bin=ffprobe_bin,
        model_path=model_path,
        model_id=model_id,
        max_frames=max_frames,
        frame_samples=frame_samples,
        frame_selection=frame_selection,
        temporal_aggregator=temporal_aggregator,
        ema_alpha=ema_alpha,
        overwrite=overwrite,
        status_column=status_column,
        model_id_column=model_id_column,
        aggregator_column=aggregator_column,
        ema_alpha_column=ema_alpha_column,
        default_width=default_width,
        default_height=default_height,
        decode_timeout_s=decode_timeout_s,
        max_pixels=max_pixels,
        matrix=matrix,
        hash_clips=hash_clips,
    )
    table = SaliencyTable(
        id="",
        input=os.fspath(input),
        output=os.fspath(output),
        audit_json=None if audit_json is None else os.fspath(audit_json),
        partition_by=partition_by,
        **msgspec.structs.asdict(options),
    )
    entrypoint = "saliency table" if argv else "materialize_saliency"
    with single_run(
        entrypoint,
        argv=argv,
        base_dir=base_dir,
        hashed=hashed,
        progress=progress,
        executor=executor,
        storage_options=storage_options,
    ) as context:
        return run_saliency_table(table, context)


def run_saliency_table(table: SaliencyTable, context: Context) -> SaliencyAudit:
    """Runs one table of saliency; see `materialize_saliency`."""
    check_saliency_table(table)
    return run_table(table, context, Run.of("input", "output", saliency_part(table, context)))


def saliency_part(
    table: SaliencyTable, context: Context
) -> Part[SaliencyPlan, SaliencyEvidence, SaliencyAudit]:
    """What a table of its kind joins."""
    model = [] if table.model_path is None else [context.locate(table.model_path)]
    outputs = [context.locate(path)[1] for path in (table.output, table.audit_json) if path is not None]

    hashes = ClipHashes(
        context.hasher if table.hash_clips else None, [] if table.root is None else [Path(table.root)]
    )

    def plan(schema: pl.Schema) -> SaliencyPlan:
        return plan_saliency(
            schema,
            table,
            divided(load_stage(table, context.base_dir, None), table, context.base_dir, context.executor),
            table=table.input,
            base_dir=context.base_dir,
            outputs=[place for place in outputs if isinstance(place, Path)],
            progress=context.progress,
            hashes=hashes,
        )

    def audit(plan: SaliencyPlan, evidence: SaliencyEvidence) -> SaliencyAudit:
        rows = evidence.rows
        total = sum(rows.values())
        failed = total - rows["ok"] - rows["skipped-existing"]
        content = builtins(table)
        return SaliencyAudit(
            table_id=table.id or None,
            batch_manifest=None if context.manifest is None else context.manifest[0]["path"],
            input=table.input,
            output=table.output,
            config={option: content[option] for option in SaliencyOptions.__struct_fields__},
            model_id=plan.side.model_id,
            summary=RowCounts(total, rows["ok"], rows["skipped-existing"], failed),
            total=total,
            ok=rows["ok"],
            skipped_existing=rows["skipped-existing"],
            failed=failed,
            statuses=rows,
            clips=evidence.clips,
            other_tags=evidence.other_tags,
            geometry_mismatch_rows=evidence.geometry_mismatch_rows,
            failures=evidence.failures,
            run_provenance={},
            warnings=tag_warnings(evidence.other_tags, table),
        )

    return Part(
        role="model_path",
        name="saliency",
        files=model,
        paths=[],
        key_column=table.path_column,
        plan=plan,
        audit=audit,
        versions=lambda plan: plan.stage.versions(),
        clips=hashes,
    )


def tag_warnings(tags: OtherTags, options: SaliencyOptions) -> list[str]:
    """Tell of clips whose tags differ from what was assumed.

    Example:
        >>> for text in tag_warnings(OtherTags(2, {"smpte170m": 1}, {"smpte2084": 1}), SaliencyOptions()):
        ...     print(text)
        read as BT.709, tagged otherwise: 1 clip (1 smpte170m); matrix 'as-tagged' follows the tags
        measured as ordinary video, tagged as HDR: 1 clip (1 smpte2084)
    """
    found = []
    if tags.matrix:
        hint = "; matrix 'as-tagged' follows the tags" if options.matrix == "bt709" else ""
        found.append(f"read as BT.709, tagged otherwise: {_by_tag(tags.matrix)}{hint}")
    if tags.transfer:
        found.append(f"measured as ordinary video, tagged as HDR: {_by_tag(tags.transfer)}")
    return found


def _by_tag(by_tag: dict[str, int]) -> str:
    each = ", ".join(f"{count:,} {tag}" for tag, count in by_tag.items())
    return f"{counted(sum(by_tag.values()), 'clip')} ({each})"


def check_saliency_table(table: SaliencyTable) -> None:
    """Refuses what a table's options and paths alone show to be wrong.

    Raises:
        OptionError: Names the option.
    """
    check_saliency_options(table)
    check_own_paths(table, "input", "output")
