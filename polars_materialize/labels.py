"""MOS label files to one long frame of labels, and that to one label a key.

A *mean opinion score* (MOS) is what human raters gave a clip on average. Corpora publish it on scales of
their own; here every label comes out on 1 to 5 (`mos`) and on 0 to 100 (`mos_raw_0_100`), both linear.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from polars_materialize import fields, keys
from polars_materialize.errors import (
    LISTED,
    DuplicateKeyError,
    LabelError,
    OptionError,
    TableError,
    did_you_mean,
    listing,
)
from polars_materialize.options import LabelFile
from polars_materialize.reports import LabelSource
from polars_materialize.tables import File, Records, find, read_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polars_materialize.options import KeyNormalize

LabelLike = str | os.PathLike[str] | LabelFile

MOS_COLUMNS = ("mos", "mean_mos", "mos_raw_0_100", "raw_mos", "score", "quality")
EXTRAS: dict[str, tuple[str, ...]] = {
    "corpus": ("corpus",),
    "corpus_version": ("corpus_version",),
    "mos_n_ratings": ("n_ratings", "mos_n_ratings", "rating_count"),
    "mos_std_dev": ("mos_std_dev", "stddev", "std_dev"),
    "split": ("split",),
}
"""What is copied along where a label file has it: the new column, and the names it goes by."""

NUMERIC_EXTRAS = ("mos_n_ratings", "mos_std_dev")
SAME = 1e-6
"""Two scores (on 1 to 5) of one key that differ by no more are the same label."""

LABEL_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "value": pl.Float64,
        "written": pl.String,
        "source": pl.String,
        "place": pl.String,
        "key_column": pl.String,
        "key_regex": pl.String,
        "mos_column": pl.String,
        "scale": pl.String,
        "problem": pl.String,
        **{name: pl.Float64 if name in NUMERIC_EXTRAS else pl.String for name in EXTRAS},
    }
)
"""The columns of a long frame of labels; only `key` and `value` have to be given."""


def parse_scale(scale: str, *, option: str = "label_scale") -> tuple[float, float] | None:
    """The ends of a scale, or None for `auto`.

    Raises:
        OptionError: If it is neither `auto` nor two finite numbers, the lower first.

    Example:
        >>> parse_scale("-7:94"), parse_scale("auto")
        ((-7.0, 94.0), None)
    """
    if scale == "auto":
        return None
    low_text, colon, high_text = scale.partition(":")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        low = high = math.nan
    if not colon or not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise OptionError(f"{option}: {scale!r}; expected auto, or LOW:HIGH such as 1:5", option=option)
    return low, high


def scan_labels(
    labels: LabelLike | Iterable[LabelLike],
    *,
    label_key_column: str | None = None,
    label_mos_column: str | None = None,
    label_scale: str = "auto",
    label_key_regex: str | None = None,
    base_dir: str | os.PathLike[str] | None = None,
) -> pl.LazyFrame:
    """Opens label files as one long frame, one row a row of the files.

    The files are read when the frame is collected, which `join_labels` does. Without options each file's own
    columns decide, whatever their case: the key is in the first of `keys.LABEL_KEYS`, the score in the first
    of `mos mean_mos mos_raw_0_100 raw_mos score quality`. Spread (`mos_std_dev stddev std_dev`), number of
    ratings (`n_ratings mos_n_ratings rating_count`), `split`, `corpus` and `corpus_version` come along.

    Args:
        labels: Label files: paths, globs or `LabelFile`.
        label_key_column: The key column, in every file that does not say itself.
        label_mos_column: The MOS column, likewise.
        label_scale: `auto`, or `LOW:HIGH`, likewise. `auto` decides for a whole file: 0 to 100 if its MOS
            column is called `mos_raw_0_100` or any value of a row with a key is above 5, else 1 to 5.
        label_key_regex: What to take from a normalised key, likewise.
        base_dir: What relative paths are relative to.

    Returns:
        Columns as `LABEL_SCHEMA`: `key` (text, not yet normalised), `value` (as in the file), and what is
        needed to make labels of them.

    Raises:
        OptionError: If a scale or a pattern is not valid.
        TableError: If there is no such file; on collecting, if it is not of its format.
        KeyColumnError: On collecting, if a file has no key column.
        LabelError: On collecting, if a spread or a number of ratings is no number.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "labels.csv"
        ...     _ = path.write_text("clip_id,MOS\\na,3.5\\nb,4.1\\n")
        ...     scan_labels(path).select("key", "value").collect().rows()
        [('a', 3.5), ('b', 4.1)]
    """
    defaults = LabelFile(
        "",
        key_column=label_key_column,
        mos_column=label_mos_column,
        key_regex=label_key_regex,
        scale=label_scale,
    )
    base = None if base_dir is None else Path(base_dir)
    found = find_labels(list_labels(labels), defaults, base)
    return pl.defer(lambda: read_labels(found), schema=LABEL_SCHEMA)


def list_labels(labels: LabelLike | Iterable[LabelLike]) -> list[LabelFile]:
    """Reads one entry or several."""
    if isinstance(labels, (str, os.PathLike, LabelFile)):
        labels = [labels]
    return [entry if isinstance(entry, LabelFile) else LabelFile(os.fspath(entry)) for entry in labels]


def find_labels(
    entries: Sequence[LabelFile], defaults: LabelFile, base_dir: Path | None
) -> list[tuple[LabelFile, list[File]]]:
    """The files of each entry, its options filled in from `defaults` and checked.

    Raises:
        OptionError: If an option is not valid, or there is no entry.
        TableError: If there is no such file.
    """
    if not entries:
        raise OptionError("labels: expected at least one label file", option="labels")
    full = [
        msgspec.structs.replace(
            entry,
            key_column=entry.key_column or defaults.key_column,
            mos_column=entry.mos_column or defaults.mos_column,
            key_regex=entry.key_regex or defaults.key_regex,
            scale=entry.scale or defaults.scale or "auto",
        )
        for entry in entries
    ]
    for entry in full:
        check_label_file(entry)
    return [
        (entry, find(entry.path, base_dir, columns=tuple(entry.columns) if entry.columns else None))
        for entry in full
    ]


def check_label_file(entry: LabelFile) -> None:
    """Refuses what can be seen to be wrong with an entry before any file is read.

    Raises:
        OptionError: If a scale, a pattern or the list of columns is not valid.
    """
    if not entry.path.strip():
        raise OptionError("labels: an entry names no path", option="labels")
    if entry.scale is not None:
        parse_scale(entry.scale, option="label_scale")
    if entry.key_regex is not None:
        keys.check_regex(entry.key_regex, option="label_key_regex")
    if entry.columns is not None and (not entry.columns or len(set(entry.columns)) < len(entry.columns)):
        raise OptionError(
            f"columns: {listing(entry.columns)}; expected one name for each cell, each once", option="columns"
        )


def read_labels(files: Sequence[tuple[LabelFile, Sequence[File]]]) -> pl.DataFrame:
    """Reads label files now; see `scan_labels`."""
    return pl.concat(_read_file(entry, file) for entry, found in files for file in found)


def _read_file(entry: LabelFile, file: File) -> pl.DataFrame:
    parts = [_extract(records, entry, file) for records in read_records([file])]
    if not any(part.height for part in parts):
        raise TableError(file.written, "no rows; expected at least one label")
    return pl.concat(parts).sort("row").drop("row")


def _extract(records: Records, entry: LabelFile, file: File) -> pl.DataFrame:
    frame = records.frame
    key = keys.infer_key_column(frame.columns, keys.LABEL_KEYS, asked=entry.key_column, table=file.written)
    mos = _mos_column(frame, entry, file)
    wrong: list[pl.Expr] = []
    extras: dict[str, pl.Expr] = {}
    for extra, names in EXTRAS.items():
        found = [field for field in fields.find_fields(frame.schema, names) if field.name != mos.name]
        if extra in NUMERIC_EXTRAS:
            extras[extra] = fields.first([fields.number(field) for field in found], pl.Float64())
            wrong += [_not_a_number(field) for field in found]
        else:
            extras[extra] = fields.first([fields.text(field) for field in found], pl.String())
    text = keys.key_text(pl.col(key), frame.schema[key], name=key, table=file.written)
    long = frame.select(
        pl.int_range(pl.len()).alias("height"),  # gives the frame its height if all else is a literal
        text.alias("key"),
        fields.number(mos).alias("value"),
        _as_written(mos).alias("written"),
        pl.lit(key).alias("key_column"),
        pl.lit(entry.key_regex, dtype=pl.String).alias("key_regex"),
        pl.lit(mos.name).alias("mos_column"),
        pl.lit(entry.scale, dtype=pl.String).alias("scale"),
        fields.first(wrong, pl.String()).alias("problem"),
        *(expr.alias(name) for name, expr in extras.items()),
    )
    return long.with_columns(records.source, records.place, records.row).select("row", *LABEL_SCHEMA.names())


def _mos_column(frame: pl.DataFrame, entry: LabelFile, file: File) -> fields.Field:
    names = [entry.mos_column] if entry.mos_column else MOS_COLUMNS
    found = fields.find_fields(frame.schema, names)
    if found:
        return found[0]
    hint = did_you_mean(names[0], frame.columns) if entry.mos_column else ""
    raise TableError(
        file.written,
        f"no MOS column; it has {listing(frame.columns)}; tried {' '.join(names)}{hint}; "
        "name it with label_mos_column",
    )


def _as_written(field: fields.Field) -> pl.Expr:
    """A value for an error message."""
    if field.dtype.is_nested():
        return pl.lit("a list or an object")
    return pl.coalesce(field.expr.cast(pl.String), pl.lit("null"))


def _not_a_number(field: fields.Field) -> pl.Expr:
    """What is wrong with a field that holds text which is no number; null where nothing is."""
    text = fields.stated(field)
    reason = pl.concat_str(pl.lit(f"{field.name} '"), text, pl.lit("' is no number"))
    return pl.when(text.is_not_null() & fields.number(field).is_null()).then(reason)


def complete_labels(labels: pl.DataFrame) -> pl.DataFrame:
    """Gives a frame of labels made elsewhere the columns and dtypes of `LABEL_SCHEMA`.

    Raises:
        OptionError: If a column is missing or of another dtype.
    """
    if labels.schema == LABEL_SCHEMA:
        return labels
    names = {"value": "mos"} if "value" not in labels.columns else {}
    lacking = [
        names.get(name, name) for name in ("key", "value") if names.get(name, name) not in labels.columns
    ]
    if lacking:
        raise OptionError(
            f"labels: no column {listing(lacking)}; expected a frame as scan_labels gives it, "
            "or with at least key and mos"
        )
    given = labels.rename({old: new for new, old in names.items()})
    row = pl.int_range(pl.len()).cast(pl.String)
    defaults = {
        "place": pl.concat_str(pl.lit("labels: rows["), row, pl.lit("]")),
        "source": pl.lit("labels"),
        "key_column": pl.lit("key"),
        "mos_column": pl.lit("mos"),
        "scale": pl.lit("auto"),
        "written": pl.coalesce(pl.col("value").cast(pl.String), pl.lit("null")),
    }
    key = keys.key_text(pl.col("key"), given.schema["key"], name="key", table="labels")
    try:
        return given.with_columns(
            defaults.get(name, pl.lit(None)).alias(name) for name in LABEL_SCHEMA if name not in given.columns
        ).select(
            (key if name == "key" else pl.col(name)).cast(dtype).alias(name)
            for name, dtype in LABEL_SCHEMA.items()
        )
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n", 1)[0]
        raise OptionError(f"labels: not a frame of labels: {reason}") from None


@dataclass(frozen=True)
class KeyedLabels:
    """One label a key, and how it came to that.

    Attributes:
        labels: `key`, `mos` (1 to 5), `mos_raw_0_100`, `source` and the extras; one row a key.
        sources: What each file gave.
        rows: The `text` and the `key` (null if it has none) of every row of the files, for counting.
    """

    labels: pl.DataFrame
    sources: list[LabelSource]
    rows: pl.DataFrame


def key_labels(labels: pl.DataFrame, key_normalize: KeyNormalize) -> KeyedLabels:
    """Makes one label a key of a long frame of labels.

    Raises:
        LabelError: If a row with a key has no MOS, or one outside of its scale.
        DuplicateKeyError: If rows of one key have different labels.
    """
    parts, sources = [], []
    for file in labels.partition_by("source", "scale", maintain_order=True) if labels.height else [labels]:
        keyed = _with_keys(file, key_normalize)
        scaled, scale = _with_scale(keyed)
        parts.append(scaled)
        if file.height:
            sources.append(
                LabelSource(
                    path=file.item(0, "source"),
                    key_column=file.item(0, "key_column"),
                    mos_column=file.item(0, "mos_column"),
                    scale=scale,
                    rows=file.height,
                    rows_without_key=keyed.get_column("key").null_count(),
                )
            )
    every = pl.concat(parts)
    rows = every.filter(pl.col("key").is_not_null())
    problems = rows.filter(pl.col("reason").is_not_null())
    if not problems.is_empty():
        raise LabelError(problems.head(LISTED).select("place", "reason").rows(), problems.height)
    _refuse_conflicts(rows)
    one_each = rows.unique("key", keep="first", maintain_order=True)
    return KeyedLabels(
        labels=one_each.select("key", "mos", "mos_raw_0_100", "source", *EXTRAS),
        sources=sources,
        rows=every.select("text", "key"),
    )


def _with_keys(file: pl.DataFrame, key_normalize: KeyNormalize) -> pl.DataFrame:
    """One file's rows with their normalised `key`, and what it was made of as `text`."""
    parts = []
    for part in file.partition_by("key_column", "key_regex", maintain_order=True) or [file]:
        column, regex = part.select("key_column", "key_regex").row(0) if part.height else (None, None)
        key = keys.normalize_key(pl.col("key"), keys.resolve_normalize(key_normalize, column or ""))
        key = keys.extract_key(key, regex, option="label_key_regex")
        parts.append(part.with_columns(text="key", key=key))
    return pl.concat(parts)


def _with_scale(keyed: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Decides the scale of one file's rows, and converts them; `reason` says what is wrong with a row."""
    asked = keyed.item(0, "scale") if keyed.height else None
    ends = parse_scale(asked or "auto")
    value = pl.col("value")
    if ends is None:
        has_key = pl.col("key").is_not_null()
        raw = pl.col("mos_column").str.to_lowercase() == "mos_raw_0_100"
        is_wide = keyed.select((raw | (has_key & (value > 5))).any()).item()
        ends = (0.0, 100.0) if is_wide else (1.0, 5.0)
    low, high = ends
    share = (value - low) / (high - low)
    scale = f"{_plain(low)}:{_plain(high)}"
    what = pl.concat_str("mos_column", pl.lit(" '"), "written", pl.lit("'"))
    reason = (
        pl.when(~value.is_finite().fill_null(value=False))
        .then(pl.concat_str(what, pl.lit(" is no finite number")))
        .when(~value.is_between(low, high))
        .then(pl.concat_str(what, pl.lit(f" is outside of the scale {scale}")))
        .otherwise(pl.col("problem"))
    )
    scaled = keyed.with_columns(
        mos=value if ends == (1.0, 5.0) else 1 + 4 * share,
        mos_raw_0_100=value if ends == (0.0, 100.0) else 100 * share,
        reason=reason,
    )
    return scaled, scale


def _plain(number: float) -> str:
    """A number as a person writes it, exactly."""
    return str(int(number)) if number == int(number) else repr(number)


def _refuse_conflicts(rows: pl.DataFrame) -> None:
    """Refuses rows of one key whose labels differ; equal ones count once."""
    differs = (pl.col("mos").max() - pl.col("mos").min()) > SAME
    for extra in EXTRAS:
        differs |= pl.col(extra).n_unique() > 1
    conflicts = (
        rows.group_by("key")
        .agg(pl.col("place"), pl.col("mos"), differs=differs)
        .filter("differs")
        .sort("key")
    )
    if conflicts.is_empty():
        return
    shown = "; ".join(
        f"{key!r} at {places[0]} ({scores[0]:g}) and {places[1]} ({scores[1]:g})"
        for key, places, scores in (_differing(row) for row in conflicts.head(LISTED).iter_rows())
    )
    more = f"; and {conflicts.height - LISTED:,} more" if conflicts.height > LISTED else ""
    raise DuplicateKeyError(
        f"different labels of one key (as mos on 1 to 5): {shown}{more}; expected one label for each key",
        offenders=conflicts.drop("differs"),
    )


def _differing(row: tuple[str, list[str], list[float], bool]) -> tuple[str, list[str], list[float]]:
    """The first row of a key, and the first that differs from it if any does by its score."""
    key, places, scores, _ = row
    other = next((i for i, score in enumerate(scores) if abs(score - scores[0]) > SAME), 1)
    return key, [places[0], places[other]], [scores[0], scores[other]]
