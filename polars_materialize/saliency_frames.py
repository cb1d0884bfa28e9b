"""Saliency in notebooks: frames in, frames out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from polars_materialize.arguments import checked
from polars_materialize.errors import no_panics
from polars_materialize.joins import SOURCE, Frame, Guards, join
from polars_materialize.saliency_joins import TAGS, plan_saliency
from polars_materialize.saliency_stages import VALUES, load_stage, make_options
from polars_materialize.saliency_workers import divided

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from concurrent.futures import Executor

    from polars_materialize.options import FrameSelection, Matrix, TemporalAggregator

    PathLike = str | os.PathLike[str]
    Progress = Callable[[int, int], None]


@checked
def add_saliency(
    frame: Frame,
    *,
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
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    guards: Guards = "lazy",
) -> Frame:
    """Adds the saliency of each row's clip: the mean and the variance of its mask.

    The model is loaded now. The clips of a lazy table are decoded when it is collected, each time it is: sink
    it or collect it once. However many rows name a clip, it is decoded once. Clips that cannot be measured
    say so in the status, and never end the run. The number and the order of rows never change.

    At most `max_frames` frames are decoded to 8-bit 4:2:0 of limited range, `frame_samples` of them are taken
    evenly, made RGB by BT.709, normalised by the mean and deviation of ImageNet, and given to the network one
    by one. Their masks, in 0..1, become one by `temporal_aggregator`: per pixel the `mean`; the `max`; `ema`,
    the exponential moving average; `motion-weighted`, the mean weighted by `max(mean |dY| / 255, 1e-6)`
    against the sampled frame before, 1 for the first. Without a network the mask is the spectral residual
    (Hou and Zhang, CVPR 2007).

    Args:
        frame: The table, one row a clip or a frame of one.
        path_column: The column that names each row's clip: a local video file, or raw 8-bit 4:2:0 as `.yuv`.
        width_column: The column with the width of raw video; a container's geometry is its own.
        height_column: The column with its height.
        root: The folder that relative paths are relative to; else the working directory.
        ffmpeg_bin: The `ffmpeg` program to decode with; else PyAV, in process.
        ffprobe_bin: The `ffprobe` program, which `uniform` needs beside `ffmpeg_bin`.
        model_path: An ONNX network that takes `[1, 3, H, W]` and gives a mask of that height and width.
        model_id: What to call it; else the file's stem. Without a network only `spectral_residual`.
        max_frames: How many frames of a clip are considered at most.
        frame_samples: How many of those are measured at most.
        frame_selection: The `first` frames, or `uniform`: those shown at moments spread over the clip.
        temporal_aggregator: How masks become one.
        ema_alpha: What the current frame weighs in `ema`, above 0 and up to 1.
        overwrite: Measure rows again that have finite values; else they are `skipped-existing`.
        status_column: The name of the status column; empty for none, as for the next three.
        model_id_column: The name of the column with the model's id.
        aggregator_column: The name of the column with the aggregator.
        ema_alpha_column: The name of the column with `ema_alpha`.
        default_width: The width of raw video whose row says none; 0 for unknown.
        default_height: The height likewise.
        decode_timeout_s: How long decoding one clip may take, in seconds.
        max_pixels: How many pixels a frame may have, 4096 x 2304 by default; clips with larger frames are
            `model-failed`, before memory is taken for them.
        matrix: The matrix that makes RGB of YUV: `bt709` whatever a clip says, or `as-tagged`: BT.601, BT.709
            or BT.2020 as its stream is tagged, and BT.709 where it is not.
        workers: How many frames are worked on at a time; else as many as Polars has threads. It does not
            change results.
        executor: Measures clips by the workers of this `concurrent.futures.Executor`, such as `Jobs` or
            `dask`, one clip a task; it has to be open when a lazy table is collected. A clip whose worker
            dies twice is `decode-failed`.
        guards: When the clips of a lazy table are measured: `lazy`, when the result is collected; `now`, at
            once, which gives a plan without Python in it.
        progress: Called with the number of clips done and of all, now and then.

    Returns:
        The table with `saliency_mean` and `saliency_var` (Float64, of values in 0..1; population variance),
        the status (String: `ok`, `skipped-existing`, `missing-source`, `missing-geometry`, `decode-failed`,
        `model-failed`), and for rows that are `ok` the model's id and the aggregator (String) and
        `ema_alpha` (Float64). Rows that are not `ok` keep what they had in all columns but the status.

        In Polars' streaming engine a sum over a slice of a lazy result may be that of other rows; see "Slices
        of a lazy join" in `docs/concepts.md`.

    Raises:
        OptionError: If an option is not valid.
        ModelError: If the model is missing, or not an ONNX network that takes pictures.
        ExtraError: If a package of the extra `saliency` is not installed.
        WorkersError: If the workers of `executor` cannot be used.
        KeyColumnError: If the table has no such path column.
        ColumnExistsError: If the table has text where numbers would go.

    Example:
        >>> table = pl.DataFrame({"src": ["gone.mp4", None]})
        >>> add_saliency(table).select("src", "saliency_mean", "saliency_status").rows()
        [('gone.mp4', None, 'missing-source'), (None, None, 'missing-source')]
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
    )
    stage = divided(load_stage(options, None, workers), options, None, executor)
    return join(
        frame,
        lambda schema: plan_saliency(schema, options, stage, table="the table", progress=progress),
        guards,
    )


@checked
@no_panics()
def measure_saliency(
    clips: pl.DataFrame | pl.LazyFrame,
    *,
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
    default_width: int = 0,
    default_height: int = 0,
    decode_timeout_s: float = 300.0,
    max_pixels: int = 9_437_184,
    matrix: Matrix = "bt709",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Measures the saliency of clips, as a frame of its own: the stage alone, to join where and how you like.

    Args:
        clips: Names clips in its `path_column`; raw video needs a width and a height too. A clip that several
            rows name is measured once. A lazy frame is collected.
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
        default_width: See `add_saliency`.
        default_height: See `add_saliency`.
        decode_timeout_s: See `add_saliency`.
        max_pixels: See `add_saliency`.
        matrix: See `add_saliency`.
        workers: See `add_saliency`.
        executor: See `add_saliency`.
        progress: See `add_saliency`.

    Returns:
        One row for each distinct clip, by path: the path and, where `clips` has them, the width and height
        columns; `saliency_mean` and `saliency_var` (Float64), `saliency_status` (String), `saliency_message`
        (String: why there is no result, in the decoder's or the network's words), `saliency_frames` (Int64:
        how many were measured); how the clip is tagged, null where it is not or has no result:
        `saliency_pix_fmt`, `saliency_matrix`, `saliency_transfer` and `saliency_range` (String, in the
        names of the `ffmpeg` program); `saliency_model_id` and `saliency_aggregator` (String),
        `saliency_ema_alpha` (Float64).

    Raises:
        OptionError: If an option is not valid.
        ModelError: If the model is missing, or not an ONNX network that takes pictures.
        ExtraError: If a package of the extra `saliency` is not installed.
        WorkersError: If the workers of `executor` cannot be used.
        KeyColumnError: If there is no such path column.

    Example:
        >>> found = measure_saliency(pl.DataFrame({"src": ["gone.mp4", "gone.mp4"]}))
        >>> found.select("src", "saliency_status", "saliency_message").rows()
        [('gone.mp4', 'missing-source', 'No such file or directory')]
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
        default_width=default_width,
        default_height=default_height,
        decode_timeout_s=decode_timeout_s,
        max_pixels=max_pixels,
        matrix=matrix,
    )
    stage = divided(load_stage(options, None, workers), options, None, executor)
    lf = clips.lazy()
    names = [n for n in (options.path_column, options.width_column, options.height_column) if n]
    schema = lf.collect_schema()
    only = lf.select([name for name in dict.fromkeys(names) if name in schema])
    plan = plan_saliency(only.collect_schema(), options, stage, table="the clips", progress=progress)
    values = plan.side.distinct_values(only).drop("skipped", "other")
    results = plan.measure(values.collect())
    ok = pl.col("status") == "ok"
    return results.select(
        *(pl.col(f"key{i}").alias(name) for i, name in enumerate(plan.side.keys)),
        *VALUES,
        saliency_status=pl.col("status"),
        saliency_message=pl.col("message"),
        saliency_frames=pl.col("frames"),
        **{f"saliency_{tag}": pl.col(tag).cast(SOURCE) for tag in TAGS},
        saliency_model_id=pl.when(ok).then(pl.lit(plan.side.model_id)).cast(SOURCE),
        saliency_aggregator=pl.when(ok).then(pl.lit(options.temporal_aggregator)).cast(SOURCE),
        saliency_ema_alpha=pl.when(ok).then(pl.lit(options.ema_alpha)),
    )
