"""Saliency of clips joined onto feature tables.

The clips of a table are its distinct values of path and geometry; each is measured once by the stage in
`saliency`, and what it found is joined back on those raw values.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from polars_materialize import warm
from polars_materialize.errors import (
    ColumnExistsError,
    KeyColumnError,
    OutputError,
    counted,
    did_you_mean,
    listing,
)
from polars_materialize.joins import SOURCE, sum_rows
from polars_materialize.names import refuse_patterns, spare_names
from polars_materialize.reports import ClipCounts, ClipFailure, OtherTags
from polars_materialize.saliency_stages import SPECTRAL_RESIDUAL, VALUES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from polars_materialize.options import SaliencyOptions
    from polars_materialize.saliency.clips import Clip
    from polars_materialize.saliency.stage import Result, Stage
    from polars_materialize.saliency_hashes import ClipHashes

    PathLike = str | os.PathLike[str]
    Progress = Callable[[int, int], None]

STATUSES = ("ok", "skipped-existing", "missing-source", "missing-geometry", "decode-failed", "model-failed")
SHOWN = 50
"""How many failures an audit shows before it counts the rest."""


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
        for name in geometry:
            dtype = schema[name]
            if not (dtype.is_numeric() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
                raise KeyColumnError(
                    f"{table}: the geometry column {name!r} is {dtype}; expected numbers",
                    column=name,
                    dtype=dtype,
                )
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
        # Text may hold numbers, or nothing at all (a CSV's column of nulls); its values tell.
        fits = dtype.is_numeric() or dtype == pl.String() if wanted.is_float() else not dtype.is_nested()
        if not fits and dtype != pl.Null():
            raise ColumnExistsError(
                f"{table}: the column {name!r} is {dtype}; expected {expected}, as rows keep what they have",
                columns=[name],
            )

    @property
    def drops(self) -> bool:
        """Whether rows may be dropped: never."""
        return False

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """The new columns; an empty name is a column that nobody wants."""
        options = self.options
        named = {
            "saliency_mean": pl.Float64(),
            "saliency_var": pl.Float64(),
            options.status_column: pl.String(),
            options.model_id_column: SOURCE,
            options.aggregator_column: SOURCE,
            options.ema_alpha_column: pl.Float64(),
        }
        return {name: dtype for name, dtype in named.items() if name}

    @property
    def evidence_schema(self) -> pl.Schema:
        """The schema of the evidence: what names a clip (`key0`, ...), and what was found."""
        keys = {f"key{index}": self.schema[name] for index, name in enumerate(self.keys)}
        return pl.Schema({**keys, **dict.fromkeys(VALUES, pl.Float64()), "status": pl.String()})

    def _raw(self, name: str) -> pl.Expr:
        """The raw values of a column; NaN, which says nothing, as null."""
        column = pl.col(name)
        return column.fill_nan(None) if self.schema[name].is_float() else column

    def _number(self, name: str) -> pl.Expr:
        """What rows have already in a column of numbers."""
        column = pl.col(name)
        if self.schema[name] == pl.String():
            return column.str.strip_chars().cast(pl.Float64, strict=False)
        return column.cast(pl.Float64)

    @property
    def _other(self) -> pl.Expr:
        """The number of rows with text in a column of numbers that is none."""
        texts = [
            name
            for name, dtype in self.columns.items()
            if dtype.is_float() and self.schema.get(name) == pl.String()
        ]
        others = [self._number(name).is_null() & (pl.col(name).str.strip_chars() != "") for name in texts]
        return pl.any_horizontal(others) if others else pl.lit(value=False)

    @property
    def _skipped(self) -> pl.Expr:
        """Whether a row has both values already, and may keep them."""
        if self.options.overwrite or not all(name in self.schema for name in VALUES):
            return pl.lit(value=False)
        finite = [self._number(name).is_finite().fill_null(value=False) for name in VALUES]
        return finite[0] & finite[1]

    def distinct_values(self, lf: pl.LazyFrame) -> pl.LazyFrame:
        """The distinct clips (`key0`, ...) and how many `rows` name each, those to be `skipped` apart.

        `other` counts rows with text where there should be numbers.
        """
        names = [f"key{index}" for index in range(len(self.keys))]
        raw = {name: self._raw(key) for name, key in zip(names, self.keys, strict=True)}
        distinct = lf.select(**raw, skipped=self._skipped, other=self._other).group_by(*names, "skipped")
        return distinct.agg(rows=pl.len().cast(pl.Int64), other=pl.col("other").sum().cast(pl.Int64))

    def attach(self, lf: pl.LazyFrame, evidence: pl.LazyFrame) -> pl.LazyFrame:
        """The table with the new columns; those that it has already in their old places.

        A row keeps what it has unless its clip was measured: values, and metadata of an earlier run.
        """
        names = list(dict.fromkeys([*self.schema, *self.columns]))
        added = self.evidence_schema.names()
        spare = spare_names(names, len(added))
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
            skipping = pl.when(skipped).then(pl.lit("skipped-existing")).otherwise(status)
            exprs[options.status_column] = skipping
        return joined.with_columns(**exprs).select(names)

    def _kept(self, name: str) -> pl.Expr:
        """What rows have in a column already, as its new type."""
        is_number = self.columns[name].is_float()
        if name not in self.schema:
            return pl.lit(None, pl.Float64() if is_number else pl.String())
        return self._number(name) if is_number else pl.col(name).cast(pl.String)

    @property
    def model_id(self) -> str:
        """What the model is called."""
        options = self.options
        if options.model_id is not None:
            return options.model_id
        return SPECTRAL_RESIDUAL if options.model_path is None else Path(options.model_path).stem


@dataclass(frozen=True)
class SaliencyEvidence:
    """What was found of the clips of one table.

    Attributes:
        frame: One row for each clip: see `SaliencySide.evidence_schema`.
        rows: How many rows of the table have each status.
        clips: How many clips have each.
        frames: How many frames were measured.
        other_tags: The clips whose tags differ from what was assumed.
        geometry_mismatch_rows: Rows that give a clip another geometry than its own.
        failures: The clips without a result; the first of them.
        warnings: None; the failures say it all.
    """

    frame: pl.DataFrame
    rows: dict[str, int]
    clips: ClipCounts
    other_tags: OtherTags
    geometry_mismatch_rows: int
    failures: list[ClipFailure]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SaliencyPlan:
    """Saliency joined onto one table: everything but its rows and its clips.

    Attributes:
        side: The table's side.
        stage: What measures clips.
        folders: What relative paths of clips are relative to, each to the one before.
        outputs: What will be written, which no clip may be.
        progress: Told how many clips are done, of how many.
        hashes: What hashes the clips, if anything does.
    """

    side: SaliencySide
    stage: Stage
    folders: tuple[Path, ...]
    outputs: tuple[Path, ...] = ()
    progress: Progress | None = None
    hashes: ClipHashes | None = None

    def evidence(self, values: pl.DataFrame) -> SaliencyEvidence:
        """Measures the distinct clips of a table.

        Raises:
            ColumnExistsError: If rows have text where numbers would go.
            OutputError: If an output is one of the clips.
        """
        others = int(values.get_column("other").sum())
        if others:
            raise ColumnExistsError(
                f"{counted(others, 'row')} with text in a column of {listing(VALUES)} or the like; "
                "expected numbers, as rows keep what they have",
                columns=list(VALUES),
            )
        known = values.filter("skipped")
        results = self.measure(values.filter(~pl.col("skipped")))
        named = pl.col("written").str.strip_chars() != ""
        clip = pl.col("clip").filter(named.fill_null(value=False))
        status = results.group_by("status").agg(pl.col("rows").sum(), clips=clip.n_unique())
        rows = {**dict.fromkeys(STATUSES, 0), **dict(status.select("status", "rows").iter_rows())}
        rows["skipped-existing"] = sum_rows(known)
        clips = dict(status.select("status", "clips").iter_rows())
        failed = results.filter(pl.col("status") != "ok")
        reasons = failed.group_by("written", "status", "message", maintain_order=True).agg(
            pl.col("rows").sum()
        )
        return SaliencyEvidence(
            frame=results.select(self.side.evidence_schema.names()),
            rows=rows,
            clips=ClipCounts(
                total=sum(clips.values()),
                ok=clips.get("ok", 0),
                failed=sum(clips.values()) - clips.get("ok", 0),
                frames=int(results.unique("clip").get_column("frames").sum()),
            ),
            other_tags=self._other_tags(results.unique("clip", maintain_order=True)),
            geometry_mismatch_rows=sum_rows(results.filter("mismatch")),
            failures=[
                ClipFailure(path=path, status=status, message=message, rows=count)
                for path, status, message, count in reasons.head(SHOWN).iter_rows()
            ],
        )

    def measure(self, values: pl.DataFrame) -> pl.DataFrame:
        """The results of distinct values, in the order of paths: each file is decoded once.

        Returns:
            `values` with `written`, `clip` (which of the files it is), `saliency_mean`, `saliency_var`,
            `status`, `message`, `frames`, `width`, `height`, its tags, and whether its geometry is a
            `mismatch`.
        """
        keys = [name for name in values.columns if name.startswith("key")]
        values = values.with_columns(written=pl.col("key0").cast(pl.String), **self._geometry())
        values = values.sort("written", *keys[1:], nulls_last=True, maintain_order=True)
        outputs = {_real(os.fspath(path)): path for path in self.outputs}
        jobs: dict[object, int] = {}
        clips: list[Clip] = []
        of: list[int] = []
        named = list(self._clips(values))
        for clip in named:
            real = _real(clip.path)
            if real in outputs:
                raise OutputError(
                    f"{outputs[real]}: is also the clip {clip.written!r}; expected a file of its own"
                )
            # A name that leads to no file is itself, whatever it could be tidied up to.
            there = "\0" not in clip.path and os.path.exists(clip.path)  # noqa: PTH110 - as written
            identity = (real if there else clip.path, clip.width, clip.height)
            if identity not in jobs:
                jobs[identity] = len(clips)
                clips.append(clip)
            of.append(jobs[identity])
        if self.hashes is not None:
            self.hashes.begin(named)
        results = self.stage.run(clips, self.progress) if clips else []
        if self.hashes is not None:
            ok = (clip for clip, place in zip(named, of, strict=True) if results[place].status == "ok")
            self.hashes.measured(ok)
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

    def _other_tags(self, clips: pl.DataFrame) -> OtherTags:
        """The clips whose tags differ from what was assumed of them."""
        from polars_materialize.saliency.pixels import HDR, MATRICES  # noqa: PLC0415 - an extra

        known = ["bt709", "gbr", *(MATRICES if self.side.options.matrix == "as-tagged" else ())]
        matrix = (~pl.col("matrix").is_in(known)).fill_null(value=False)
        transfer = pl.col("transfer").is_in(HDR).fill_null(value=False)

        def by_tag(tag: str, differs: pl.Expr) -> dict[str, int]:
            return dict(clips.filter(differs).group_by(tag).len().sort(tag).iter_rows())

        return OtherTags(
            clips=clips.filter(matrix | transfer).height,
            matrix=by_tag("matrix", matrix),
            transfer=by_tag("transfer", transfer),
        )

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
        with warm.importing:
            from polars_materialize.saliency.clips import Clip, is_raw, locate  # noqa: PLC0415 - an extra

        options = self.side.options
        for written, width, height in values.select("written", "row_width", "row_height").iter_rows():
            path = locate(written, self.folders)
            if is_raw(path):
                yield Clip(written, path, width or options.default_width, height or options.default_height)
            else:
                yield Clip(written, path)


TAGS = ("pix_fmt", "matrix", "transfer", "range")
"""What a clip says of its pixels, in the order of `Tags`."""

_FOUND = {
    "clip": pl.Int64(),
    "saliency_mean": pl.Float64(),
    "saliency_var": pl.Float64(),
    "status": pl.String(),
    "message": pl.String(),
    "frames": pl.Int64(),
    "width": pl.Int64(),
    "height": pl.Int64(),
    "stored_width": pl.Int64(),
    "stored_height": pl.Int64(),
    **dict.fromkeys(TAGS, pl.String()),
}


def _real(path: str) -> str:
    """What two names of one file share; a path that no file can have is itself."""
    try:
        return os.path.realpath(path) if path else ""
    except ValueError:
        return path


def _row(index: int, result: Result) -> tuple[object, ...]:
    size, stored = result.size or (None, None), result.stored or (None, None)
    tags = [getattr(result.tags, tag) for tag in TAGS]
    return index, result.mean, result.var, result.status, result.message, result.frames, *size, *stored, *tags


def plan_saliency(
    schema: pl.Schema,
    options: SaliencyOptions,
    stage: Stage,
    *,
    table: str,
    base_dir: Path | None = None,
    outputs: Sequence[Path] = (),
    progress: Progress | None = None,
    hashes: ClipHashes | None = None,
) -> SaliencyPlan:
    """Checks all that the table's schema alone can tell.

    Args:
        schema: The table's.
        options: The join's options.
        stage: What measures clips; see `load_stage`.
        table: What to call the table in an error.
        base_dir: What `root`, or else clips, are relative to.
        outputs: What will be written, which no clip may be.
        progress: Told how many clips are done, of how many.
        hashes: What hashes the clips, if anything does.
    """
    folders = (base_dir, None if options.root is None else Path(options.root))
    found = tuple(folder for folder in folders if folder is not None)
    side = SaliencySide.of(schema, options, table)
    return SaliencyPlan(side, stage, found, tuple(outputs), progress, hashes)
