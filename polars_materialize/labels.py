"""One long frame of MOS labels, and what makes one label a key of it.

A *mean opinion score* (MOS) is what human raters gave a clip on average. Corpora publish it on scales of
their own; here every label comes out on 1 to 5 (`mos`) and on 0 to 100 (`mos_raw_0_100`), both linear.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from polars_materialize import fields, keys
from polars_materialize.errors import (
    LISTED,
    DuplicateKeyError,
    LabelError,
    LabelFileError,
    OptionError,
    counted,
    first_line,
    listing,
)
from polars_materialize.reports import LabelSource

if TYPE_CHECKING:
    from collections.abc import Sequence

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
TEXT_EXTRAS = tuple(name for name in EXTRAS if name not in NUMERIC_EXTRAS)
SAME = 1e-6
"""Two scores (on 1 to 5) of one key that differ by no more are the same label."""
RAW_COLUMN = "mos_raw_0_100"
"""A MOS column of this name is on 0 to 100, whatever its values are."""
FIVE, HUNDRED = (1.0, 5.0), (0.0, 100.0)
"""The two scales that `auto` knows."""
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""An end of a scale; `float` takes `1_00` and digits of other scripts, too."""
CLEARLY_HUNDRED = 10
"""Only a largest value above this shows that a file is on 0 to 100."""
CHOICES = ["source", "scale", "key_column", "key_normalize", "key_regex", "mos_column", "format"]
"""What is one for all rows that were read from a file in one way."""
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
    ends = [end.strip(" ") for end in scale.split(":")]
    low, high = map(float, ends) if len(ends) == 2 and all(map(NUMBER.fullmatch, ends)) else (math.nan,) * 2
    # Of a scale that is wider than any number no share can be computed.
    if not (math.isfinite(high - low) and low < high):
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
    given = labels.rename({old: new for new, old in names.items()})
    extras = {extra: [name for name in aliases if name in given.columns] for extra, aliases in EXTRAS.items()}
    for name in (name for extra in NUMERIC_EXTRAS for name in extras[extra]):
        dtype = given.schema[name]
        if not (dtype.is_numeric() or dtype in (pl.String, pl.Null)):
            raise OptionError(f"labels: {name} is {dtype}; expected numbers", option="labels")
    for name in (own for own in given.columns if LABEL_SCHEMA.get(own) == pl.String() and own != "key"):
        dtype = given.schema[name]
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
            raise OptionError(f"labels: {name} is {dtype}; expected text", option="labels")
    missing = given.schema.get("missing", pl.Null())
    if missing not in (pl.Boolean(), pl.Null()):
        raise OptionError(f"labels: missing is {missing}; expected True or False", option="labels")
    score = fields.Field("value", pl.col("value"), given.schema["value"])
    row = pl.int_range(pl.len()).cast(pl.String)
    defaults: dict[str, pl.Expr] = {
        "place": pl.concat_str(pl.lit("labels: rows["), row, pl.lit("]")),
        "source": pl.lit("labels"),
        "key_column": pl.lit("key"),
        "mos_column": pl.lit("mos"),
        "scale": pl.lit("auto"),
        "missing": pl.lit(value=False),
        "written": pl.coalesce(as_written(score), pl.lit("null")),
    }
    made = {
        "key": keys.key_text(pl.col("key"), given.schema["key"], name="key", table="labels"),
        "value": fields.number(score),
    }
    columns = []
    for name, dtype in LABEL_SCHEMA.items():
        own = extras.get(name, [name] if name in given.columns else [])
        # A null would hide a row from the checks: where nothing is said, the default holds.
        said = [*(pl.col(each).cast(dtype) for each in own), defaults.get(name, pl.lit(None)).cast(dtype)]
        columns.append(made.get(name, pl.coalesce(said)).alias(name))
    try:
        return given.select(columns)
    except pl.exceptions.PolarsError as error:
        raise OptionError(f"labels: not a frame of labels: {first_line(error)}", option="labels") from None


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
        LabelFileError: If `auto` cannot tell the scale of a file, or no file has a label.
        DuplicateKeyError: If rows of one key have different labels.
    """
    parts, sources, unclear = [], [], []
    for file in labels.partition_by(CHOICES, maintain_order=True) if labels.height else [labels]:
        keyed = _with_keys(file, key_normalize)
        ends = _scale_of(keyed)
        if isinstance(ends, LabelFileError):
            unclear.append(ends)
            ends = None
        parts.append(_scaled(keyed, ends))
        if file.height:
            sources.append(
                LabelSource(
                    path=file.item(0, "source"),
                    key_column=file.item(0, "key_column"),
                    mos_column=file.item(0, "mos_column"),
                    scale=None if ends is None else _text_of(ends),
                    rows=file.height,
                    rows_without_key=keyed.get_column("key").null_count(),
                    rows_without_mos=int(file.get_column("missing").sum()),
                    format=file.item(0, "format"),
                )
            )
    every = pl.concat(parts)
    rows = _refuse_problems(every)
    if unclear:
        raise unclear[0]
    if rows.is_empty():
        raise LabelFileError(_why_none(every, sources))
    _refuse_conflicts(rows)
    one_each = rows.unique("key", keep="first", maintain_order=True)
    return KeyedLabels(
        labels=one_each.select("key", "mos", "mos_raw_0_100", "source", *EXTRAS),
        sources=sources,
        rows=every.select("text", "key", *KEY_RULE),
    )


def _refuse_problems(every: pl.DataFrame) -> pl.DataFrame:
    """The rows that have a key and are not missing, if nothing is wrong with them."""
    rows = every.filter(pl.col("key").is_not_null() & ~pl.col("missing"))
    problems = rows.filter(pl.col("reason").is_not_null())
    if not problems.is_empty():
        raise LabelError(problems.head(LISTED).select("place", "reason").rows(), problems.height)
    return rows


def _with_keys(file: pl.DataFrame, key_normalize: KeyNormalize) -> pl.DataFrame:
    """One file's rows with their normalised `key`, and what it was made of as `text`."""
    return file.with_columns(text="key", key=_key(file, key_normalize))


def _key(file: pl.DataFrame, key_normalize: KeyNormalize) -> pl.Expr:
    """The normalised key of one file's rows."""
    column, own, regex = file.select(KEY_RULE).row(0) if file.height else (None, None, None)
    rule = keys.resolve_normalize(own or key_normalize, column or "")
    return keys.extract_key(keys.normalize_key(pl.col("key"), rule), regex, option="label_key_regex")


def with_scale(file: pl.DataFrame, key_normalize: KeyNormalize | None) -> pl.DataFrame:
    """One file's rows, all that were read in one way, with the scale that `auto` finds in them.

    Args:
        file: The rows.
        key_normalize: How their keys will be normalised. If that is not known yet, rows have a say that have
            a key under any rule.

    Raises:
        LabelFileError: If the scale is not plain.
        LabelError: If it is not, and there are rows with a key but without a number.
    """
    rules = keys.KEY_NORMALIZE if key_normalize is None else [key_normalize]
    keyed = file.with_columns(key=pl.coalesce(_key(file, rule) for rule in rules))
    ends = _scale_of(keyed)
    if isinstance(ends, LabelFileError):
        _refuse_problems(_scaled(keyed, None))
        raise ends
    return file if ends is None else file.with_columns(scale=pl.lit(_text_of(ends)))


def _scale_of(keyed: pl.DataFrame) -> tuple[float, float] | LabelFileError | None:
    """The ends of the scale of one file's rows: as asked for, or where it is plain from all its labels.

    None if there is nothing to decide it by, and an error to raise if it is not plain.
    """
    asked = parse_scale(keyed.item(0, "scale") if keyed.height else "auto")
    if asked is not None:
        return asked
    has_number = pl.col("value").is_finite() & pl.col("key").is_not_null() & ~pl.col("missing")
    labels = keyed.filter(has_number).sort("value", maintain_order=True)
    if labels.is_empty():
        return None
    values = labels.get_column("value")
    low, high = float(values[0]), float(values[-1])
    column = labels.item(0, "mos_column")
    if column.lower() == RAW_COLUMN:
        return HUNDRED
    if FIVE[0] <= low and high <= FIVE[1]:
        return FIVE
    if HUNDRED[0] <= low and CLEARLY_HUNDRED < high <= HUNDRED[1]:
        return HUNDRED
    odd = labels.filter(~pl.col("value").is_between(*FIVE)).height
    few = f" ({odd:,} of {counted(len(values), 'value')} outside of 1 to 5)" if odd * 2 < len(values) else ""
    return LabelFileError(
        f"{labels.item(0, 'source')}: label_scale 'auto' cannot tell the scale of {column!r}, which goes "
        f"from {plain(low)} at {labels.item(0, 'place')} to {plain(high)} at {labels.item(-1, 'place')}"
        f"{few}; "
        f"expected all values from 1 to 5, or all from 0 to 100 and the largest above {CLEARLY_HUNDRED}; "
        "say it with label_scale LOW:HIGH, or `scale` of the entry",
        path=labels.item(0, "source"),
        low=low,
        high=high,
    )


def _scaled(keyed: pl.DataFrame, ends: tuple[float, float] | None) -> pl.DataFrame:
    """One file's rows on both scales: `reason` says what is wrong with one, `read_on` its scale."""
    low, high = ends or (math.nan, math.nan)
    value = pl.col("value")
    share = (value - low) / (high - low)
    what = pl.concat_str("mos_column", pl.lit(" '"), "written", pl.lit("'"))
    is_outside = ~value.is_between(low, high) if ends else pl.lit(value=False)
    reason = (
        pl.when(~value.is_finite().fill_null(value=False))
        .then(pl.concat_str(what, pl.lit(" is no finite number")))
        .when(is_outside)
        .then(pl.concat_str(what, pl.lit(f" is outside of the scale {_text_of(ends)}")))
        .otherwise(pl.col("problem"))
    )
    return keyed.with_columns(
        mos=value if ends == FIVE else 1 + 4 * share,
        mos_raw_0_100=value if ends == HUNDRED else 100 * share,
        reason=reason,
        read_on=pl.lit(_text_of(ends)),
    )


def _text_of(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{plain(ends[0])}:{plain(ends[1])}"


def plain(number: float) -> str:
    """A number as a person writes it, exactly.

    Example:
        >>> plain(20.0), plain(-7.25)
        ('20', '-7.25')
    """
    return str(int(number)) if number == int(number) else repr(number)


def _why_none(every: pl.DataFrame, sources: Sequence[LabelSource]) -> str:
    """What is said if no row of any file is a label."""
    has_text = pl.col("text").is_not_null()
    unmatched = every.filter(has_text & pl.col("key").is_null())
    counts = [
        (every.height - every.filter(has_text).height, "without a key"),
        (unmatched.height, "whose key the regex does not match"),
        (every.filter(pl.col("key").is_not_null() & pl.col("missing")).height, "that state no score"),
    ]
    where = listing((source.path for source in sources), limit=1) or "the frame of labels"
    columns = listing(dict.fromkeys(source.key_column for source in sources))
    columns = f"; the key is in {columns}" if columns else ""
    text = f"no label in {where}: {counted(every.height, 'row')}"
    text += "".join(f", {count:,} {what}" for count, what in counts if count)
    text += f" (such as {unmatched.item(0, 'text')!r})" if unmatched.height else ""
    return f"{text}{columns}; expected at least one row with a key and a MOS"


def _refuse_conflicts(rows: pl.DataFrame) -> None:
    """Refuses rows of one key whose labels differ; equal ones count once.

    Raises:
        DuplicateKeyError: With one key as an example, as its rows have it, and the count.
    """
    differs = (pl.col("mos").max() - pl.col("mos").min()) > SAME
    for extra in EXTRAS:
        differs |= pl.col(extra).n_unique() > 1
    parts = ["place", "text", "mos", "mos_column", "written", "read_on", *EXTRAS]
    conflicts = rows.group_by("key").agg(pl.col(parts), differs=differs).filter("differs").sort("key")
    if conflicts.is_empty():
        return
    such_as = f"{counted(conflicts.height, 'key')}, such as" if conflicts.height > 1 else "the key"
    raise DuplicateKeyError(
        f"different labels of {such_as} {_difference(conflicts.drop('differs').row(0, named=True))}; "
        "expected one label for each key",
        offenders=conflicts.drop("differs"),
    )


def _difference(conflict: dict[str, Any]) -> str:
    """A key, and two of its rows that differ: in what, as it is written in the files, and where."""
    mos, extras = (
        conflict["mos"],
        [[conflict[extra][row] for extra in EXTRAS] for row in range(len(conflict["mos"]))],
    )
    if max(mos) - min(mos) > SAME:
        pair = sorted((mos.index(min(mos)), mos.index(max(mos))))
    else:
        pair = [0, next(row for row, own in enumerate(extras) if own != extras[0])]
    first, second = ({name: conflict[name][row] for name in conflict if name != "key"} for row in pair)
    names = [extra for extra in EXTRAS if first[extra] != second[extra]]
    is_scored = abs(first["mos"] - second["mos"]) > SAME
    texts = []
    for row in (first, second):
        said = [f"{row['mos_column']} {row['written']}"] if is_scored else []
        if is_scored and first["read_on"] != second["read_on"]:
            said[0] += f" on {row['read_on']}"
        said += [f"{name} {_shown(row[name])}" for name in names]
        own = f" (written {row['text']!r})" if first["text"] != second["text"] else ""
        texts.append(f"{', '.join(said)} at {row['place']}{own}")
    return f"{conflict['key']!r}: {', but '.join(texts)}"


def _shown(value: str | float | None) -> str:
    if value is None:
        return "absent"
    return repr(value) if isinstance(value, str) else plain(value)


def as_written(field: fields.Field) -> pl.Expr:
    """A value for an error message; null where there is none."""
    return pl.lit("a list or an object") if field.dtype.is_nested() else field.expr.cast(pl.String)
