"""What the folders of a file say of its rows, as Hive names them, and whether the file says the same."""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import polars as pl

from polars_materialize.errors import TableError
from polars_materialize.stores.copies import AT_ONCE
from polars_materialize.tables import dtypes
from polars_materialize.tables.failures import FAILURES, unreadable
from polars_materialize.tables.files import TEXT_FORMATS
from polars_materialize.tables.parallel import in_order
from polars_materialize.tables.scans import reach, scan_parquets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polars_materialize.tables.files import File

SHOWN = 100
"""How many characters of a value an error shows."""


def partition_dtypes(files: Sequence[File], schema: pl.Schema) -> dict[str, pl.DataType]:
    """The dtypes of columns that folders say: as in files that have them, else integers or text.

    They are integers where each has one spelling.
    """
    values: dict[str, set[str]] = {}
    for file in files:
        for name, value in file.partitions:
            values.setdefault(name, set()).update([] if value is None else [value])
    guessed = {
        name: pl.Int64() if texts and all(map(_is_integer, texts)) else pl.String()
        for name, texts in values.items()
    }
    return {name: schema.get(name, dtype) for name, dtype in guessed.items()}


def _is_integer(text: str) -> bool:
    return bool(re.fullmatch("0|-?[1-9][0-9]{0,18}", text)) and -(2**63) <= int(text) < 2**63


def partition(file: File, name: str, value: str | None, dtype: pl.DataType) -> pl.Series:
    """What a folder says of all rows below.

    Raises:
        TableError: If it is no value of the column's dtype.
    """
    found = _value(value, dtype)
    if value is not None and found.null_count():
        problem = f"its folder says {name}={value!r}, but the column {name!r} of other files is {dtype}"
        raise TableError(file.written, problem)
    return found


def _value(text: str | None, dtype: pl.DataType) -> pl.Series:
    """The text of a folder's name as a value of a dtype; null if it is none."""
    texts = pl.Series([text], dtype=pl.String)
    with suppress(pl.exceptions.PolarsError):
        if dtype == pl.Boolean():
            return pl.Series([{"true": True, "false": False}.get((text or "").lower())], dtype=dtype)
        if dtype == pl.Date():
            return texts.str.to_date("%Y-%m-%d", strict=False)
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            return texts.str.to_datetime(time_unit=dtype.time_unit, strict=False)
        return texts.cast(dtype, strict=False)
    return pl.Series([None], dtype=dtype)


def refuse_other_values(
    files: Sequence[File],
    profiles: Sequence[dtypes.Profile],
    schemas: Sequence[pl.Schema],
    frames: Sequence[pl.LazyFrame],
) -> None:
    """Refuses files in which a column has another value than their folders say of it.

    Of Parquet files the statistics of row groups show that mostly; where they do not, and of Arrow files,
    that one column is read. The values of text files have been seen when their schema was found.

    Args:
        files: The files of a table.
        profiles: What was found of each.
        schemas: The columns of each file, as they are read.
        frames: The rows of each file.

    Raises:
        TableError: Names the file, the column and both values.
    """
    doubtful = []
    for place, (file, profile) in enumerate(zip(files, profiles, strict=True)):
        both = [(name, value) for name, value in file.partitions if name in profile.schema]
        if both and file.format in TEXT_FORMATS:
            for name, value in both:
                # In CSV an empty text is null.
                said = None if file.format == "csv" and not value else value
                dtype = schemas[place][name]
                _refuse(file, name, said, _others(_held(file, profile, name, dtype), name, said, dtype))
        elif both:
            doubtful.append(place)
    alike = itertools.groupby(doubtful, lambda place: _alike(place, files[place], profiles[place]))
    groups = [list(group) for _, group in alike]

    def check(group: list[int]) -> None:
        own = profiles[group[0]].schema
        rows = scan_parquets([files[place] for place in group]) if len(group) > 1 else frames[group[0]]
        for name, value in files[group[0]].partitions:
            if name not in own or _is_empty(_others(rows, name, value, own[name])):
                continue
            for place in group:  # one of them says otherwise, or cannot be read
                _refuse(files[place], name, value, _others(frames[place], name, value, own[name]))

    for _ in in_order(check, groups, at_once=AT_ONCE):  # a store is slow to answer
        pass


def _alike(place: int, file: File, profile: dtypes.Profile) -> tuple[object, ...]:
    """What files have in common that are looked at by one scan."""
    where = reach(file) if file.format == "parquet" else None
    # Where a file has to be looked at alone, its place makes it unlike all others.
    return (where, None if where is not None else place, file.partitions, tuple(profile.schema.items()))


def _held(file: File, profile: dtypes.Profile, name: str, dtype: pl.DataType) -> pl.LazyFrame:
    """The distinct values of a column of a text file."""
    texts = profile.held.get(name, pl.Series([], dtype=pl.String))
    cell = pl.col(name)
    if file.format == "csv":  # there null and empty text are one
        cell = pl.when(cell != "").then(cell)
    if dtype == pl.Boolean():
        cell = cell.str.to_lowercase() == "true"
    elif not dtype.is_nested():
        cell = cell.cast(dtype, strict=False)
    return texts.alias(name).to_frame().lazy().select(cell.alias(name))


def _others(rows: pl.LazyFrame, name: str, value: str | None, dtype: pl.DataType) -> pl.LazyFrame:
    """The values of a column that are not what a folder says."""
    cell = pl.col(name)
    if value is None:
        other = cell.is_not_null()
    elif not _has_text(dtype):
        other = pl.lit(value=True)
    else:
        said = _value(value, dtype)
        if said.null_count():
            other = cell.cast(pl.String, strict=False).ne_missing(pl.lit(value))
        elif dtype.is_temporal():  # Python has neither nanoseconds nor all years
            number = said.to_physical()
            other = cell.ne_missing(pl.lit(number.item(), dtype=number.dtype).cast(dtype))
        else:
            other = cell.ne_missing(pl.lit(said.item(), dtype=dtype))
    # Ahead of all else, since only so are row groups passed over by their statistics.
    return rows.filter(other).select(name).head(1)


def _has_text(dtype: pl.DataType) -> bool:
    """Whether there is text that stands for values of a dtype."""
    return not (dtype.is_nested() or dtype in (pl.Duration, pl.Object))


def _is_empty(rows: pl.LazyFrame) -> bool:
    with suppress(*FAILURES):
        return rows.collect().is_empty()
    return False


def _first(file: File, rows: pl.LazyFrame) -> pl.DataFrame:
    try:
        return rows.collect()
    except FAILURES as error:
        raise unreadable(file.written, error) from None


def _refuse(file: File, name: str, value: str | None, others: pl.LazyFrame) -> None:
    found = _first(file, others)
    if found.height:
        held, said = _held_shown(found.to_series()), _shown(value)
        problem = f"the column {name!r} holds {held}, but its folder says {said}; expected one value"
        raise TableError(file.written, problem)


def _held_shown(cell: pl.Series) -> str:
    if _has_text(cell.dtype) or cell.null_count():
        return _shown(None if cell.null_count() else cell.cast(pl.String, strict=False).item())
    return dtypes.NESTED if cell.dtype.is_nested() else f"a {cell.dtype}"


def _shown(value: str | None) -> str:
    """A value for an error message."""
    if value is None or value == dtypes.NESTED:
        return value or "null"
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
