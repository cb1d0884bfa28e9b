"""Saliency of clips joined onto feature tables.

The clips of a table are its distinct values of path and geometry; each is measured once by the stage in
`saliency`, and what it found is joined back on those raw values.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import polars as pl

from polars_materialize.errors import (
    ColumnExistsError,
    ExtraError,
    KeyColumnError,
    OptionError,
    did_you_mean,
    listing,
)
from polars_materialize.joins import SOURCE, Frame, check_choices, join, sum_rows
from polars_materialize.names import is_pattern, refuse_patterns
from polars_materialize.options import FrameSelection, SaliencyOptions, TemporalAggregator
from polars_materialize.reports import ClipCounts, ClipFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from polars_materialize.saliency.clips import Clip
    from polars_materialize.saliency.stage import Result, Stage

    PathLike = str | os.PathLike[str]
    Progress = Callable[[int, int], None]

SPECTRAL_RESIDUAL = "spectral_residual"
"""What the method without a network is called."""

STATUSES = ("ok", "skipped-existing", "missing-source", "missing-geometry", "decode-failed", "model-failed")
STATUS = pl.Enum(STATUSES)
SHOWN = 50
"""How many failures an audit shows before it counts the rest."""

VALUES = ("saliency_mean", "saliency_var")


@dataclass(frozen=True)
class SaliencySide:
    """The table's side: which columns name its clips, and the columns that it gets.

    Attributes:
        schema: The table's schema.
        keys: The columns that name a clip: its path, and its geometry as far as the table has it.
        options: The join's options.
    """

    schema: pl.Schema
    keys: tuple[str, ...]
    options: SaliencyOptions

    @classmethod
    def of(cls, schema: pl.Schema, options: SaliencyOptions, table: str) -> SaliencySide:
        """Finds the columns, and refuses what the schema alone shows to be wrong.

        Raises:
            KeyColumnError: If there is no path column, or one that cannot hold paths.
            ColumnExistsError: If a column that would hold results holds something else.
        """
        refuse_patterns(schema, table)
        path = options.path_column
        if path not in schema:
            has = f"it has {listing(schema)}{did_you_mean(path, schema)}"
            raise KeyColumnError(
                f"{table}: no path column {path!r}; {has}; name it with path_column",
                columns=list(schema),
                tried=[path],
            )
        dtype = schema[path]
        if not (dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null) or dtype.is_integer()):
            raise KeyColumnError(
                f"{table}: the path column {path!r} is {dtype}; expected text", column=path, dtype=dtype
            )
        geometry = [name for name in (options.width_column, options.height_column) if name in schema]
        side = cls(schema, (path, *geometry), options)
        for name, wanted in side.columns.items():
            if name in side.keys:
                raise ColumnExistsError(
                    f"the join would replace {name!r}, which names the clips", columns=[name]
                )
            side._refuse_other(name, wanted, table)
        return side

    def _refuse_other(self, name: str, wanted: pl.DataType, table: str) -> None:
        if name not in self.schema or name == self.options.status_column:
            return
        dtype = self.schema[name]
        expected = "numbers" if wanted.is_float() else "text"
        fits = dtype.is_numeric() if wanted.is_float() else not dtype.is_nested()
        if not fits and dtype != pl.Null():
            raise ColumnExistsError(
                f"{table}: the column {name!r} is {dtype}; expected {expected}, as rows keep what they have",
                columns=[name],
            )

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """The new columns; an empty name is a column that nobody wants."""
        options = self.options
        named = {
            "saliency_mean": pl.Float64(),
            "saliency_var": pl.Float64(),
            options.status_column: STATUS,
            options.model_id_column: SOURCE,
            options.aggregator_column: SOURCE,
            options.ema_alpha_column: pl.Float64(),
        }
        return {name: dtype for name, dtype in named.items() if name}

    @property
    def evidence_schema(self) -> pl.Schema:
        """The schema of the evidence: what names a clip, and what was found."""
        return pl.Schema(
            {
                **{name: self.schema[name] for name in self.keys},
                **dict.fromkeys(VALUES, pl.Float64()),
                "status": STATUS,
            }
        )

    def _raw(self, name: str) -> pl.Expr:
        """The raw values of a column; NaN, which says nothing, as null."""
        column = pl.col(name)
        return column.fill_nan(None) if self.schema[name].is_float() else column

    @property
    def _skipped(self) -> pl.Expr:
        """Whether a row has both values already, and may keep them."""
        if self.options.overwrite or not all(name in self.schema for name in VALUES):
            return pl.lit(value=False)
        finite = [pl.col(name).cast(pl.Float64).is_finite().fill_null(value=False) for name in VALUES]
        return finite[0] & finite[1]

    def distinct_values(self, lf: pl.LazyFrame) -> pl.LazyFrame:
        """The distinct clips and how many `rows` name each, those to be `skipped` apart from the others."""
        names = [f"key{index}" for index in range(len(self.keys))]
        raw = {name: self._raw(key) for name, key in zip(names, self.keys, strict=True)}
        distinct = lf.select(**raw, skipped=self._skipped).group_by(*names, "skipped")
        return distinct.agg(rows=pl.len().cast(pl.Int64))

    def attach(self, lf: pl.LazyFrame, evidence: pl.LazyFrame) -> pl.LazyFrame:
        """The table with the new columns; those that it has already in their old places.

        A row keeps what it has unless its clip was measured: values, and metadata of an earlier run.
        """
        names = list(dict.fromkeys([*self.schema, *self.columns]))
        added = [*self.keys, *VALUES, "status"]
        spare = _spare_names(names, len(added))
        joined = lf.join(
            evidence.rename(dict(zip(added, spare, strict=True))),
            left_on=[self._raw(name) for name in self.keys],
            right_on=spare[: len(self.keys)],
            how="left",
            nulls_equal=True,
            coalesce=False,
            maintain_order="left",
            validate="m:m",  # the evidence is unique by construction, and checking costs a pass
        )
        mean, var, status = (pl.col(name) for name in spare[len(self.keys) :])
        skipped = self._skipped
        measured = ~skipped & (status == "ok")
        options = self.options
        new = {
            "saliency_mean": mean,
            "saliency_var": var,
            options.model_id_column: pl.lit(self.model_id),
            options.aggregator_column: pl.lit(options.temporal_aggregator),
            options.ema_alpha_column: pl.lit(options.ema_alpha),
        }
        exprs = {
            name: pl.when(measured).then(value).otherwise(self._kept(name)).cast(self.columns[name])
            for name, value in new.items()
            if name
        }
        if options.status_column:
            skipping = pl.when(skipped).then(pl.lit("skipped-existing", dtype=STATUS)).otherwise(status)
            exprs[options.status_column] = skipping
        return joined.with_columns(**exprs).select(names)

    def _kept(self, name: str) -> pl.Expr:
        """What rows have in a column already, as its new type."""
        dtype = pl.Float64() if self.columns[name].is_float() else pl.String()
        return pl.col(name).cast(dtype) if name in self.schema else pl.lit(None, dtype)

    @property
    def model_id(self) -> str:
        """What the model is called."""
        options = self.options
        if options.model_id is not None:
            return options.model_id
        return SPECTRAL_RESIDUAL if options.model_path is None else Path(options.model_path).stem


def _spare_names(taken: Sequence[str], count: int) -> list[str]:
    """Names that a table does not have."""
    known = set(taken)
    free = (name for name in map("saliency_{}".format, range(len(known) + count)) if name not in known)
    return [next(free) for _ in range(count)]


@dataclass(frozen=True)
class SaliencyEvidence:
    """What was found of the clips of one table.

    Attributes:
        frame: One row for each clip: see `SaliencySide.evidence_schema`.
        rows: How many rows of the table have each status.
        clips: How many clips have each.
        frames: How many frames were measured.
        geometry_mismatch_rows: Rows that give a clip another geometry than its own.
        failures: The clips without a result; the first of them.
    """

    frame: pl.DataFrame
    rows: dict[str, int]
    clips: ClipCounts
    geometry_mismatch_rows: int
    failures: list[ClipFailure]


@dataclass(frozen=True)
class SaliencyPlan:
    """Saliency joined onto one table: everything but its rows and its clips.

    Attributes:
        side: The table's side.
        stage: What measures clips.
        folders: What relative paths of clips are relative to, each to the one before.
        progress: Told how many clips are done, of how many.
    """

    side: SaliencySide
    stage: Stage
    folders: tuple[Path, ...]
    progress: Progress | None = None

    def evidence(self, values: pl.DataFrame) -> SaliencyEvidence:
        """Measures the distinct clips of a table."""
        known = values.filter("skipped")
        results = self.measure(values.filter(~pl.col("skipped")))
        named = pl.col("written").str.strip_chars() != ""
        clip = pl.col("clip").filter(named.fill_null(value=False))
        status = results.group_by("status").agg(pl.col("rows").sum(), clips=clip.n_unique())
        rows = {**dict.fromkeys(STATUSES, 0), **dict(status.select("status", "rows").iter_rows())}
        rows["skipped-existing"] = sum_rows(known)
        clips = dict(status.select("status", "clips").iter_rows())
        failed = results.filter(pl.col("status") != "ok")
        keys = [pl.col(f"key{i}").alias(name) for i, name in enumerate(self.side.keys)]
        return SaliencyEvidence(
            frame=results.select(*keys, *VALUES, "status"),
            rows=rows,
            clips=ClipCounts(
                total=sum(clips.values()),
                ok=clips.get("ok", 0),
                failed=sum(clips.values()) - clips.get("ok", 0),
                frames=int(results.unique("clip").get_column("frames").sum()),
            ),
            geometry_mismatch_rows=sum_rows(results.filter("mismatch")),
            failures=[
                ClipFailure(path=path, status=status, message=message, rows=count)
                for path, status, message, count in failed.head(SHOWN)
                .select("written", "status", "message", "rows")
                .iter_rows()
            ],
        )

    def measure(self, values: pl.DataFrame) -> pl.DataFrame:
        """The results of distinct values, in the order of paths: each file is decoded once.

        Returns:
            `values` with `written`, `clip` (which of the files it is), `saliency_mean`, `saliency_var`,
            `status`, `message`, `frames`, `width`, `height`, and whether its geometry is a `mismatch`.
        """
        keys = [name for name in values.columns if name.startswith("key")]
        values = values.with_columns(written=pl.col("key0").cast(pl.String), **self._geometry())
        values = values.sort("written", *keys[1:], nulls_last=True, maintain_order=True)
        jobs: dict[object, int] = {}
        clips: list[Clip] = []
        of: list[int] = []
        for clip in self._clips(values):
            identity = (os.path.realpath(clip.path) if clip.path else "", clip.width, clip.height)
            if identity not in jobs:
                jobs[identity] = len(clips)
                clips.append(clip)
            of.append(jobs[identity])
        results = self.stage.run(clips, self.progress) if clips else []
        found = pl.DataFrame(
            [_row(index, result) for index, result in enumerate(results)], schema=_FOUND, orient="row"
        )
        places = values.with_columns(clip=pl.Series(of, dtype=pl.Int64))
        joined = places.join(
            found,
            on="clip",
            how="left",
            nulls_equal=False,
            coalesce=True,
            maintain_order="left",
            validate="m:1",
        )
        said = (pl.col("row_width") > 0) & (pl.col("row_height") > 0)
        shown = (pl.col("row_width") == pl.col("width")) & (pl.col("row_height") == pl.col("height"))
        stored = (pl.col("row_width") == pl.col("stored_width")) & (
            pl.col("row_height") == pl.col("stored_height")
        )
        return joined.with_columns(mismatch=(said & ~shown & ~stored).fill_null(value=False))

    def _geometry(self) -> dict[str, pl.Expr]:
        """What rows say of their clip's width and height; 0 for nothing, -1 for nothing that could be one."""
        exprs = {}
        for side, name in (
            ("width", self.side.options.width_column),
            ("height", self.side.options.height_column),
        ):
            if name not in self.side.keys:
                exprs[f"row_{side}"] = pl.lit(0, pl.Int64)
                continue
            column = pl.col(f"key{self.side.keys.index(name)}")
            text = column.cast(pl.String).str.strip_chars()
            number = text.cast(pl.Float64, strict=False)
            whole = number.is_finite() & (number == number.floor()) & (number >= 0) & (number < 2**31)
            exprs[f"row_{side}"] = (
                pl.when(column.is_null() | (text == "") | (text.str.to_lowercase() == "nan"))
                .then(0)
                .when(whole)
                .then(number.cast(pl.Int64, strict=False))
                .otherwise(-1)
                .cast(pl.Int64)
            )
        return exprs

    def _clips(self, values: pl.DataFrame) -> Iterator[Clip]:
        from polars_materialize.saliency.clips import Clip, is_raw, locate  # noqa: PLC0415 - an extra

        options = self.side.options
        for written, width, height in values.select("written", "row_width", "row_height").iter_rows():
            path = locate(written, self.folders)
            if is_raw(path):
                yield Clip(written, path, width or options.default_width, height or options.default_height)
            else:
                yield Clip(written, path)


_FOUND = {
    "clip": pl.Int64(),
    "saliency_mean": pl.Float64(),
    "saliency_var": pl.Float64(),
    "status": STATUS,
    "message": pl.String(),
    "frames": pl.Int64(),
    "width": pl.Int64(),
    "height": pl.Int64(),
    "stored_width": pl.Int64(),
    "stored_height": pl.Int64(),
}


def _row(index: int, result: Result) -> tuple[object, ...]:
    size, stored = result.size or (None, None), result.stored or (None, None)
    return (index, result.mean, result.var, result.status, result.message, result.frames, *size, *stored)


def add_saliency(
    frame: Frame,
    *,
    path_column: str = "src",
    width_column: str = "width",
    height_column: str = "height",
    root: PathLike | None = None,
    ffmpeg_bin: str | None = None,
    ffprobe_bin: str | None = None,
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
    workers: int | None = None,
    progress: Progress | None = None,
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
        model_id: What to call it; else the file's stem, or `spectral_residual`.
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
        workers: How many frames are worked on at a time; else as many as Polars has threads. It does not
            change results.
        progress: Called with the number of clips done and of all, now and then.

    Returns:
        The table with `saliency_mean` and `saliency_var` (Float64, of values in 0..1; population variance),
        the status (Enum: `ok`, `skipped-existing`, `missing-source`, `missing-geometry`, `decode-failed`,
        `model-failed`), and for rows that are `ok` the model's id and the aggregator (Categorical) and
        `ema_alpha` (Float64). Rows that are not `ok` keep what they had in all columns but the status.

    Raises:
        OptionError: If an option is not valid.
        ModelError: If the model is missing, or not an ONNX network that takes pictures.
        ExtraError: If a package of the extra `saliency` is not installed.
        KeyColumnError: If the table has no such path column.
        ColumnExistsError: If the table has text where numbers would go.

    Example:
        >>> table = pl.DataFrame({"src": ["gone.mp4", None]})
        >>> add_saliency(table).select("src", "saliency_mean", "saliency_status").rows()
        [('gone.mp4', None, 'missing-source'), (None, None, 'missing-source')]
    """
    options = SaliencyOptions(
        path_column=path_column,
        width_column=width_column,
        height_column=height_column,
        root=None if root is None else os.fspath(root),
        ffmpeg_bin=ffmpeg_bin,
        ffprobe_bin=ffprobe_bin,
        model_path=None if model_path is None else os.fspath(model_path),
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
    )
    stage = load_stage(options, None, workers)
    return join(
        frame, lambda schema: plan_saliency(schema, options, stage, table="the table", progress=progress)
    )


def measure_saliency(
    clips: pl.DataFrame | pl.LazyFrame,
    *,
    path_column: str = "src",
    width_column: str = "width",
    height_column: str = "height",
    root: PathLike | None = None,
    ffmpeg_bin: str | None = None,
    ffprobe_bin: str | None = None,
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
    workers: int | None = None,
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
        workers: See `add_saliency`.
        progress: See `add_saliency`.

    Returns:
        One row for each distinct clip, by path: the path and, where `clips` has them, the width and height
        columns; `saliency_mean` and `saliency_var` (Float64), `saliency_status` (Enum), `saliency_message`
        (String: why there is no result, in the decoder's or the network's words), `saliency_frames` (Int64:
        how many were measured), `saliency_model_id` and `saliency_aggregator` (Categorical),
        `saliency_ema_alpha` (Float64).

    Raises:
        OptionError: If an option is not valid.
        ModelError: If the model is missing, or not an ONNX network that takes pictures.
        ExtraError: If a package of the extra `saliency` is not installed.
        KeyColumnError: If there is no such path column.

    Example:
        >>> found = measure_saliency(pl.DataFrame({"src": ["gone.mp4", "gone.mp4"]}))
        >>> found.select("src", "saliency_status", "saliency_message").rows()
        [('gone.mp4', 'missing-source', 'No such file or directory')]
    """
    options = SaliencyOptions(
        path_column=path_column,
        width_column=width_column,
        height_column=height_column,
        root=None if root is None else os.fspath(root),
        ffmpeg_bin=ffmpeg_bin,
        ffprobe_bin=ffprobe_bin,
        model_path=None if model_path is None else os.fspath(model_path),
        model_id=model_id,
        max_frames=max_frames,
        frame_samples=frame_samples,
        frame_selection=frame_selection,
        temporal_aggregator=temporal_aggregator,
        ema_alpha=ema_alpha,
        default_width=default_width,
        default_height=default_height,
        decode_timeout_s=decode_timeout_s,
    )
    stage = load_stage(options, None, workers)
    lf = clips.lazy()
    names = [n for n in (options.path_column, options.width_column, options.height_column) if n]
    schema = lf.collect_schema()
    only = lf.select([name for name in dict.fromkeys(names) if name in schema])
    plan = plan_saliency(only.collect_schema(), options, stage, table="the clips", progress=progress)
    results = plan.measure(plan.side.distinct_values(only).collect().drop("skipped"))
    return results.select(
        *(pl.col(f"key{i}").alias(name) for i, name in enumerate(plan.side.keys)),
        *VALUES,
        saliency_status=pl.col("status"),
        saliency_message=pl.col("message"),
        saliency_frames=pl.col("frames"),
        saliency_model_id=pl.lit(plan.side.model_id).cast(SOURCE),
        saliency_aggregator=pl.lit(options.temporal_aggregator).cast(SOURCE),
        saliency_ema_alpha=pl.lit(options.ema_alpha),
    )


def plan_saliency(
    schema: pl.Schema,
    options: SaliencyOptions,
    stage: Stage,
    *,
    table: str,
    base_dir: Path | None = None,
    progress: Progress | None = None,
) -> SaliencyPlan:
    """Checks all that the table's schema alone can tell.

    Args:
        schema: The table's.
        options: The join's options.
        stage: What measures clips; see `load_stage`.
        table: What to call the table in an error.
        base_dir: What `root`, or else clips, are relative to.
        progress: Told how many clips are done, of how many.
    """
    folders = (base_dir, None if options.root is None else Path(options.root))
    found = tuple(folder for folder in folders if folder is not None)
    return SaliencyPlan(SaliencySide.of(schema, options, table), stage, found, progress)


def load_stage(options: SaliencyOptions, base_dir: Path | None, workers: int | None) -> Stage:
    """Checks options, finds programs and loads the model: what is wrong there is no clip's fault.

    Args:
        options: The options.
        base_dir: What relative paths are relative to.
        workers: How many frames are worked on at a time; else as many as Polars has threads.

    Raises:
        OptionError: If an option is not valid.
        ModelError: If the model cannot be used.
        ExtraError: If a package is not installed.
    """
    check_saliency_options(options)
    try:
        from polars_materialize.saliency.clips import Sampling  # noqa: PLC0415 - an extra
        from polars_materialize.saliency.models import OnnxModel  # noqa: PLC0415 - an extra
        from polars_materialize.saliency.programs import find_programs  # noqa: PLC0415 - an extra
        from polars_materialize.saliency.spectral import SpectralResidual  # noqa: PLC0415 - an extra
        from polars_materialize.saliency.stage import Stage  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ExtraError.of(str(error.name), "saliency") from None
    count = pl.thread_pool_size() if workers is None else workers
    if count < 1:
        raise OptionError(f"workers: {workers}; expected at least 1", option="workers")
    path = options.model_path
    located = None if path is None else Path(path) if base_dir is None else base_dir / path
    return Stage(
        model=SpectralResidual() if located is None else OnnxModel(located, str(path), count),
        sampling=Sampling(options.max_frames, options.frame_samples, options.frame_selection == "uniform"),
        aggregator=options.temporal_aggregator,
        ema_alpha=options.ema_alpha,
        timeout_s=options.decode_timeout_s,
        programs=None
        if options.ffmpeg_bin is None
        else find_programs(options.ffmpeg_bin, options.ffprobe_bin, base_dir),
        workers=count,
    )


def check_saliency_options(options: SaliencyOptions) -> None:
    """Refuses option values that no table could make right.

    Raises:
        OptionError: Names the option and what was expected.
    """
    check_choices(
        options,
        {
            "frame_selection": get_args(FrameSelection),
            "temporal_aggregator": get_args(TemporalAggregator),
        },
    )
    for option, least in (
        ("max_frames", 1),
        ("frame_samples", 1),
        ("default_width", 0),
        ("default_height", 0),
    ):
        value = getattr(options, option)
        if value < least:
            raise OptionError(f"{option}: {value}; expected at least {least}", option=option)
    if not 0 < options.ema_alpha <= 1:
        raise OptionError(
            f"ema_alpha: {options.ema_alpha!r}; expected above 0 and up to 1", option="ema_alpha"
        )
    if not 0 < options.decode_timeout_s < float("inf"):
        raise OptionError(
            f"decode_timeout_s: {options.decode_timeout_s!r}; expected seconds above 0",
            option="decode_timeout_s",
        )
    for option in ("root", "ffmpeg_bin", "ffprobe_bin", "model_path", "model_id"):
        value = getattr(options, option)
        if value is not None and (not value.strip() or "\0" in value):
            raise OptionError(f"{option}: {value!r}; expected some text", option=option)
    _check_programs(options)
    _check_names(options)


def _check_programs(options: SaliencyOptions) -> None:
    if options.ffprobe_bin is not None and options.ffmpeg_bin is None:
        raise OptionError(
            "ffprobe_bin: is of use only beside ffmpeg_bin; expected both or neither", option="ffprobe_bin"
        )
    if (
        options.ffmpeg_bin is not None
        and options.ffprobe_bin is None
        and options.frame_selection == "uniform"
    ):
        raise OptionError(
            "frame_selection: 'uniform' with ffmpeg_bin needs ffprobe_bin, which says when frames are shown",
            option="frame_selection",
        )


def _check_names(options: SaliencyOptions) -> None:
    """Refuses column names that could not stand side by side."""
    if not options.path_column:
        raise OptionError("path_column: ''; expected a column's name", option="path_column")
    taken = dict.fromkeys(VALUES, "the results")
    for option in ("status_column", "model_id_column", "aggregator_column", "ema_alpha_column"):
        name = getattr(options, option)
        if name and (not name.strip() or name in taken or is_pattern(name)):
            raise OptionError(f"{option}: {name!r}; expected a column name of its own", option=option)
        taken[name] = option
