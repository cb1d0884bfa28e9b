"""Row keys: which column holds them, and how its values become text that two tables share.

Everything here is pure: names and dtypes in, names and `pl.Expr` out. The rules:

1. **Text.** Integers print as digits, floats that are whole numbers as integers (ids that passed through
   a nullable integer column come back as `12345.0`). Text is NFC-normalised and trimmed.
2. **Normalisation**, `key_normalize`: `raw`, `basename`, `stem`, or `auto` (`basename` where the column's
   name speaks of files, else `raw`).
3. **Regex**, if any: the first match anywhere; its first group if it has one, else all of it.

Null, blank, NaN, and text that a regex does not match, are *no key*: null.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, get_args

import polars as pl

from polars_materialize.errors import KeyColumnError, OptionError, did_you_mean, listing, other_separator
from polars_materialize.formats import KeyNormalize
from polars_materialize.names import LABEL_KEYS, SCORE_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "KEY_NORMALIZE",
    "LABEL_KEYS",
    "SCORE_KEYS",
    "check_regex",
    "extract_key",
    "infer_key_column",
    "key_text",
    "normalize_key",
    "resolve_normalize",
]

KEY_NORMALIZE: tuple[KeyNormalize, ...] = get_args(KeyNormalize)

MEDIA_SUFFIXES = (
    "mp4",
    "mkv",
    "mov",
    "webm",
    "avi",
    "yuv",
    "y4m",
    "m4v",
    "ts",
    "mts",
    "m2ts",
    "mpg",
    "mpeg",
    "wmv",
    "flv",
    "3gp",
    "mxf",
    "ogv",
    "vob",
    "ivf",
    "obu",
    "av1",
    "264",
    "265",
    "266",
    "h264",
    "h265",
    "h266",
    "hevc",
    "gif",
    "png",
    "jpg",
    "jpeg",
    "bmp",
    "tif",
    "tiff",
    "webp",
    "exr",
)
"""What `stem` takes off. Only these: ids such as `t_20.0` hold dots of their own."""

REPORT_SUFFIXES = ("json", "jsonl", "ndjson", "csv", "txt", "log", "xml")
"""What `stem` takes off first where the key is the name of the sidecar file itself."""

_WITHOUT_WIDTH = re.compile(
    r"\\b\{[\w-]*\}|\\[AbBz<>]|\(\?[a-zA-Z-]*(?:P?<\w*>|:)?|[()^$|*+?]|\{[\d, ]*\}|\s"
)
"""What matches no character, or a blank; a pattern of nothing else gives no key."""

FILE_WORDS = ("path", "file", "name", "src")
"""A column whose name holds one of these is taken by `auto` to hold file names."""


def infer_key_column(
    columns: Sequence[str],
    candidates: Iterable[str],
    *,
    asked: str | None,
    table: str,
    option: str = "key_column",
    hint: Callable[[], str] = str,
) -> str:
    """The column that holds a table's keys.

    Args:
        columns: The table's columns.
        candidates: Names to look for, best first, whatever their case.
        asked: The column that the user named, if any.
        table: What to call the table in an error.
        option: What names a column that has another name.
        hint: Gives what else an error may suggest.

    Raises:
        KeyColumnError: If the table has none of them.

    Example:
        >>> infer_key_column(["Frame", "Clip_ID"], SCORE_KEYS, asked=None, table="features.csv")
        'Clip_ID'
    """
    if asked is not None:
        if asked in columns:
            return asked
        raise KeyColumnError(
            f"{table}: no key column {asked!r}; it has {listing(columns)}{did_you_mean(asked, columns)}"
            f"{other_separator(columns)}",
            columns=list(columns),
            tried=[asked],
        )
    tried = list(candidates)
    by_lower: dict[str, str] = {}
    for name in columns:
        by_lower.setdefault(name.lower(), name)
    for candidate in tried:
        if candidate in columns:
            return candidate
        if candidate in by_lower:
            return by_lower[candidate]
    has = f"it has {listing(columns)}{other_separator(columns)}" if columns else "it has no columns"
    raise KeyColumnError(
        f"{table}: no key column; {has}; tried {' '.join(tried)}; name it with {option}{hint()}",
        columns=list(columns),
        tried=tried,
    )


def resolve_normalize(rule: KeyNormalize, column: str) -> Literal["raw", "basename", "stem"]:
    """What `auto` means for a column; other rules mean themselves.

    Example:
        >>> resolve_normalize("auto", "distorted_path"), resolve_normalize("auto", "clip_id")
        ('basename', 'raw')
    """
    if rule != "auto":
        return rule
    return "basename" if any(word in column.lower() for word in FILE_WORDS) else "raw"


def check_regex(pattern: str, *, option: str) -> int:
    """The group to take from a match of `pattern`: 1 if it has one, else 0.

    Raises:
        OptionError: If the pattern is not one of Rust's `regex` crate, which has no look-around and
            no back-references, or if it can match empty text only.

    Example:
        >>> check_regex(r"(\\d+)\\.mp4$", option="key_regex"), check_regex(r"\\d+", option="key_regex")
        (1, 0)
    """
    try:
        groups = pl.Series([""]).str.extract_groups(pattern).dtype
    except pl.exceptions.PolarsError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("error:")), lines[-1])
        raise OptionError(
            f"{option}: not a valid pattern {pattern!r}: {reason.removeprefix('error: ')}; "
            "expected the syntax of Rust's regex crate",
            option=option,
            pattern=pattern,
        ) from None
    if not _WITHOUT_WIDTH.sub("", pattern):
        raise OptionError(
            f"{option}: {pattern!r} matches empty text only, which is no key",
            option=option,
            pattern=pattern,
        )
    return 1 if isinstance(groups, pl.Struct) and groups.fields else 0


def key_text(column: pl.Expr, dtype: pl.DataType, *, name: str, table: str) -> pl.Expr:
    """Rule 1: the text of a key column's values, null where there is no key.

    Raises:
        KeyColumnError: If the dtype cannot name a clip (booleans, times, lists, ...).

    Example:
        >>> frame = pl.DataFrame({"id": [12345.0, 0.5, float("nan")]})
        >>> text = key_text(pl.col("id"), pl.Float64(), name="id", table="features.csv")
        >>> frame.select(text).to_series().to_list()
        ['12345', '0.5', None]
    """
    if dtype.is_float():
        exact = column.cast(pl.Float64)
        whole = exact.is_finite() & (exact == exact.floor()) & (exact.abs() < 2.0**127)
        digits = pl.when(whole).then(exact).cast(pl.Int128).cast(pl.String)
        return pl.when(~column.is_nan()).then(pl.coalesce(digits, column.cast(pl.String)))
    if dtype.is_integer():
        return column.cast(pl.String)
    if dtype.is_decimal():
        # What a number is called must not depend on the scale of its column.
        digits = column.cast(pl.String).str.replace(r"(\.\d*?)0+$", "${1}")
        return digits.str.strip_suffix(".")
    if dtype == pl.Null():
        return column.cast(pl.String)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _unless_blank(_composed(column.cast(pl.String)).str.strip_chars())
    raise KeyColumnError(
        f"{table}: the key column {name!r} is {dtype}; expected text or numbers",
        column=name,
        dtype=dtype,
    )


def normalize_key(
    text: pl.Expr, rule: Literal["raw", "basename", "stem"], *, sidecar_name: bool = False
) -> pl.Expr:
    """Rule 2, on text; with `sidecar_name`, `stem` also takes off what reports are saved as.

    Example:
        >>> names = pl.DataFrame({"path": ["a/b/clip.MP4", "C:\\\\x\\\\t_20.0", "dir/"]})
        >>> names.select(normalize_key(pl.col("path"), "stem")).to_series().to_list()
        ['clip', 't_20.0', 'dir']
    """
    if rule == "raw":
        return text
    key = text.str.strip_chars_end("/\\").str.replace(r"(?s)^.*[/\\]", "")
    if rule == "stem":
        if sidecar_name:
            key = _without_suffix(_without_suffix(key, ("gz", "zst")), REPORT_SUFFIXES)
        key = _without_suffix(key, MEDIA_SUFFIXES)
    return _unless_blank(key)


def extract_key(key: pl.Expr, regex: str | None, *, option: str) -> pl.Expr:
    """Rule 3: what a regex finds in a key; the key itself without a regex.

    Raises:
        OptionError: If the pattern is not valid.
    """
    if regex is None:
        return key
    return _unless_blank(key.str.extract(regex, check_regex(regex, option=option)))


def _without_suffix(key: pl.Expr, suffixes: Sequence[str]) -> pl.Expr:
    return key.str.replace(rf"(?is)^(.+)\.(?:{'|'.join(suffixes)})$", "${1}")


def _composed(text: pl.Expr) -> pl.Expr:
    """NFC, which ASCII is in any case; to normalise takes ten times as long as to see that."""
    other = pl.when(text.str.len_bytes() != text.str.len_chars()).then(text)
    return pl.coalesce(other.str.normalize("NFC"), text)


def _unless_blank(text: pl.Expr) -> pl.Expr:
    return pl.when(text.str.strip_chars() != "").then(text)
