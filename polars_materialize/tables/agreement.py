"""Where files of one table give a column different dtypes: which of them it has, or that it has none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from polars_materialize.errors import TableError
from polars_materialize.tables.failures import FAILURES, unreadable
from polars_materialize.tables.files import TEXT_FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polars_materialize.tables.dtypes import Profile
    from polars_materialize.tables.files import File

Typed = tuple[pl.DataType, int]
"""A dtype, and which file of a table is the first to have it."""


def agree(files: Sequence[File], profiles: Sequence[Profile]) -> tuple[list[Profile], list[dict[str, Typed]]]:
    """Makes the profiles of a table's files agree.

    Text has no dtypes, so numbers in it become those of Parquet and Arrow files beside it. Whether all of
    them can is seen when they are read; see `refuse_misfits`.

    Returns:
        The profiles, and for each file the columns that have to be cast, with their dtypes in others.

    Raises:
        TableError: If two files of Parquet or Arrow disagree, or text holds what is no number where these
            have numbers, or the other way round.
    """
    typed: dict[str, Typed] = {}
    for place, (file, profile) in enumerate(zip(files, profiles, strict=True)):
        for name, dtype in () if file.format in TEXT_FORMATS else profile.schema.items():
            if dtype != pl.Null() and typed.setdefault(name, (dtype, place))[0] != dtype:
                _disagree(files, name, typed[name], (dtype, place))
    agreed, cast = [], []
    for place, (file, profile) in enumerate(zip(files, profiles, strict=True)):
        others: dict[str, Typed] = {}
        for name, dtype in profile.result().items() if file.format in TEXT_FORMATS else ():
            known = typed.get(name, (dtype, place))
            if dtype in (known[0], pl.Null()):
                continue
            if not (_is_number(dtype) and _is_number(known[0])):
                _disagree(files, name, known, (dtype, place))
            others[name] = known
        cast.append(others)
        agreed.append(_as_typed(profile, {name: dtype for name, (dtype, _) in others.items()}))
    return agreed, cast


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float()


def _as_typed(profile: Profile, typed: Mapping[str, pl.DataType]) -> Profile:
    """A profile in which some columns have other dtypes."""
    if not typed:
        return profile
    return replace(
        profile,
        schema={**profile.schema, **typed},
        inexact={path for path in profile.inexact if path[0] not in typed},
        negative={path for path in profile.negative if path[0] not in typed},
    )


def _disagree(files: Sequence[File], name: str, *typed: Typed) -> None:
    (known, first), (dtype, later) = sorted(typed, key=lambda each: each[1])
    raise TableError(
        files[later].written,
        f"column {name!r} is {dtype}, but {known} in {files[first].written}; "
        "the files of one table must agree",
    )


def refuse_misfits(
    files: Sequence[File], place: int, profile: Profile, rows: pl.LazyFrame, typed: Mapping[str, Typed]
) -> None:
    """Refuses a text file with a number that would be lost in the dtype that other files give its column.

    Args:
        files: The files of the table.
        place: Which of them it is.
        profile: What was found of it alone.
        rows: Its rows, as they are read.
        typed: For each column that is to be cast its dtype in other files, and the first of these.

    Raises:
        TableError: Names the column and the number.
    """
    own = profile.result()
    # Of integers it is known already whether Float64 holds them.
    doubtful = [
        name
        for name, (dtype, _) in typed.items()
        if not (own[name].is_integer() and dtype == pl.Float64() and (name,) not in profile.inexact)
    ]
    if not doubtful:
        return
    firsts = (
        pl.col(name).filter(_is_lost(pl.col(name), own[name], typed[name][0])).first() for name in doubtful
    )
    try:
        lost = rows.select(firsts).collect()
    except FAILURES as error:
        raise unreadable(files[place].written, error) from None
    for name in lost.columns:
        value, (dtype, first) = lost.get_column(name).cast(pl.String).item(), typed[name]
        if value is not None:
            raise TableError(
                files[place].written,
                f"column {name!r} holds {value}, which does not fit {dtype}, its dtype "
                f"in {files[first].written}; the files of one table must agree",
            )


def _is_lost(number: pl.Expr, own: pl.DataType, dtype: pl.DataType) -> pl.Expr:
    """Whether a number of text is another one in a dtype of numbers.

    A float is the same in fewer bits if it is written the same: 0.1 is no sum of powers of two in any.
    """
    there = number.cast(dtype, strict=False)
    if own.is_integer():
        return there.cast(pl.Int128, strict=False).ne_missing(number.cast(pl.Int128))
    lost = there.cast(own, strict=False).ne_missing(number)
    if dtype.is_integer():
        return lost
    return lost & there.cast(pl.String).cast(own, strict=False).ne_missing(number)
