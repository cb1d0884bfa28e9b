"""One long frame of MOS labels, and what makes one label a key of it.

A *mean opinion score* (MOS) is what human raters gave a clip on average. Corpora publish it on scales of
their own; here every label comes out on 1 to 5 (`mos`) and on 0 to 100 (`mos_raw_0_100`), both linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from polars_materialize import keys
from polars_materialize.errors import LISTED, DuplicateKeyError, LabelError, OptionError, first_line, listing
from polars_materialize.reports import LabelSource

if TYPE_CHECKING:
    from polars_materialize.formats import KeyNormalize


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
KEY_RULE = ("key_column", "key_normalize", "key_regex")
"""The columns that say how the key of a label is made."""
LABEL_SCHEMA = pl.Schema(
    {
        "key": pl.String,
        "value": pl.Float64,
        "written": pl.String,
        "source": pl.String,
        "place": pl.String,
        "key_column": pl.String,
        "key_normalize": pl.String,
        "key_regex": pl.String,
        "mos_column": pl.String,
        "scale": pl.String,
        "format": pl.String,
        "missing": pl.Boolean,
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
    if {"value", "mos"} <= set(labels.columns):
        raise OptionError("labels: both a column 'value' and a column 'mos'; expected one of them")
    names |= {
        extra: next(alias for alias in aliases if alias in labels.columns)
        for extra, aliases in EXTRAS.items()
        if extra not in labels.columns and any(alias in labels.columns for alias in aliases)
    }
    given = labels.rename({old: new for new, old in names.items()})
    row = pl.int_range(pl.len()).cast(pl.String)
    defaults = {
        "place": pl.concat_str(pl.lit("labels: rows["), row, pl.lit("]")),
        "source": pl.lit("labels"),
        "key_column": pl.lit("key"),
        "mos_column": pl.lit("mos"),
        "scale": pl.lit("auto"),
        "missing": pl.lit(value=False),
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
        raise OptionError(f"labels: not a frame of labels: {first_line(error)}") from None


@dataclass(frozen=True)
class KeyedLabels:
    """One label a key, and how it came to that.

    Attributes:
        labels: `key`, `mos` (1 to 5), `mos_raw_0_100`, `source` and the extras; one row a key.
        sources: What each file gave.
        rows: The `text` and the `key` (null if it has none) of every row of the files, and `KEY_RULE`.
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
                    rows_without_mos=int(file.get_column("missing").sum()),
                    format=file.item(0, "format"),
                )
            )
    every = pl.concat(parts)
    rows = every.filter(pl.col("key").is_not_null() & ~pl.col("missing"))
    problems = rows.filter(pl.col("reason").is_not_null())
    if not problems.is_empty():
        raise LabelError(problems.head(LISTED).select("place", "reason").rows(), problems.height)
    _refuse_conflicts(rows)
    one_each = rows.unique("key", keep="first", maintain_order=True)
    return KeyedLabels(
        labels=one_each.select("key", "mos", "mos_raw_0_100", "source", *EXTRAS),
        sources=sources,
        rows=every.select("text", "key", *KEY_RULE),
    )


def _with_keys(file: pl.DataFrame, key_normalize: KeyNormalize) -> pl.DataFrame:
    """One file's rows with their normalised `key`, and what it was made of as `text`."""
    parts = []
    by = list(KEY_RULE)
    for part in file.partition_by(by, maintain_order=True) or [file]:
        column, own, regex = part.select(by).row(0) if part.height else (None, None, None)
        rule = keys.resolve_normalize(own or key_normalize, column or "")
        key = keys.normalize_key(pl.col("key"), rule)
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
    parts = ["place", "mos", *EXTRAS]
    conflicts = rows.group_by("key").agg(pl.col(parts), differs=differs).filter("differs").sort("key")
    if conflicts.is_empty():
        return
    shown = "; ".join(_difference(row) for row in conflicts.head(LISTED).iter_rows(named=True))
    more = f"; and {conflicts.height - LISTED:,} more" if conflicts.height > LISTED else ""
    raise DuplicateKeyError(
        f"different labels of one key (mos is on 1 to 5): {shown}{more}; expected one label for each key",
        offenders=conflicts.drop("differs"),
    )


def _difference(conflict: dict[str, Any]) -> str:
    """The first row of a key, the first that differs from it, and in what."""
    for other in range(1, len(conflict["place"])):
        first, second = conflict["mos"][0], conflict["mos"][other]
        what = [f"mos {first:g} and {second:g}"] if abs(first - second) > SAME else []
        what += [
            f"{extra} {conflict[extra][0]!r} and {conflict[extra][other]!r}"
            for extra in EXTRAS
            if conflict[extra][0] != conflict[extra][other]
        ]
        if what:
            break
    places = f"{conflict['place'][0]} and {conflict['place'][other]}"
    return f"{conflict['key']!r} at {places}: {', '.join(what)}"
