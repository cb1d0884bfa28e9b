"""Fields of sidecar rows, found by name in whatever shape a scorer wrote them.

Pure: a schema and names in, `pl.Expr` out. A name is looked for as a whole, then whatever its case, then
as a dotted path into nested objects (`metadata.name`); a path through a list (`frames.metrics.vmaf`)
gives a list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from polars_materialize.tables.dtypes import instance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from polars_materialize.formats import Pooling


@dataclass(frozen=True, slots=True)
class Field:
    """A field that rows may have.

    Attributes:
        name: The path to it, as the file spells it.
        expr: Its values.
        dtype: Their dtype.
    """

    name: str
    expr: pl.Expr
    dtype: pl.DataType


def find_fields(schema: Mapping[str, pl.DataType], names: Sequence[str]) -> list[Field]:
    """The fields that match `names`, in the order of the names.

    Example:
        >>> schema = pl.Schema({"Video": pl.String, "pooled": pl.Struct({"vmaf": pl.Float64})})
        >>> [field.name for field in find_fields(schema, ["video", "pooled.vmaf", "mos"])]
        ['Video', 'pooled.vmaf']
    """
    columns = [_field(name, pl.col(name), dtype) for name, dtype in schema.items()]
    return [field for name in names for field in _find(columns, name)]


def _field(name: str, expr: pl.Expr, dtype: pl.DataType) -> Field:
    """A field; lists of one length each are lists."""
    if isinstance(dtype, pl.Array):
        return Field(name, expr.arr.to_list(), pl.List(dtype.inner))
    return Field(name, expr, dtype)


def inside(field: Field, names: Sequence[str]) -> list[Field]:
    """The fields inside an object or a list of objects that match `names`."""
    members, prefix = _members(field), f"{field.name}."
    return [found for name in names for found in _find(members, name, prefix)]


def members(field: Field) -> list[str]:
    """The names of all fields inside an object or a list of objects."""
    prefix = f"{field.name}."
    return [member.name.removeprefix(prefix) for member in _members(field)]


def _find(fields: Sequence[Field], name: str, prefix: str = "") -> list[Field]:
    """Fields of that name, exact matches first; a dotted path only where there is none."""
    own = [(field.name[len(prefix) :], field) for field in fields]
    exact = [field for spelled, field in own if spelled == name]
    folded = [field for spelled, field in own if spelled != name and spelled.lower() == name.lower()]
    if exact or folded or "." not in name:
        return exact + folded
    found: list[Field] = []
    for spelled, field in own:
        if name.lower().startswith(f"{spelled.lower()}."):
            rest = name[len(spelled) + 1 :]
            found += _find(_members(field), rest, f"{field.name}.")
    return found


def _members(field: Field) -> list[Field]:
    dtype = field.dtype
    if isinstance(dtype, pl.Struct):
        return [
            _field(f"{field.name}.{part.name}", field.expr.struct.field(part.name), instance(part.dtype))
            for part in dtype.fields
        ]
    if isinstance(dtype, pl.List):
        return [
            Field(member.name, field.expr.list.eval(member.expr), pl.List(member.dtype))
            for member in _members(_item(field))
        ]
    return []


def _item(lists: Field) -> Field:
    """The items of a list, for use inside of `list.eval`."""
    return Field(lists.name, pl.element(), instance(getattr(lists.dtype, "inner", pl.Null())))


def first(exprs: Sequence[pl.Expr], dtype: pl.DataType) -> pl.Expr:
    """The first value that is not null."""
    return pl.coalesce(exprs) if exprs else pl.lit(None, dtype=dtype)


def text(field: Field) -> pl.Expr:
    """A field as trimmed text; blank counts as absent, and so do lists and objects."""
    if field.dtype.is_nested() or field.dtype == pl.Null():
        return pl.lit(None, dtype=pl.String)
    trimmed = field.expr.cast(pl.String).str.strip_chars()
    return pl.when(trimmed != "").then(trimmed)


def stated(field: Field) -> pl.Expr:
    """As `text`, but a list or an object counts as something, whatever it says."""
    if field.dtype.is_nested():
        return pl.when(field.expr.is_not_null()).then(pl.lit("(not text)"))
    return text(field)


def number(field: Field) -> pl.Expr:
    """A field as a finite Float64; numbers written as text count, booleans do not."""
    if field.dtype == pl.String():
        value = field.expr.str.strip_chars().cast(pl.Float64, strict=False)
    elif field.dtype.is_numeric():
        value = field.expr.cast(pl.Float64)
    else:
        return pl.lit(None, dtype=pl.Float64)
    return pl.when(value.is_finite()).then(value)


class Pooled(NamedTuple):
    """One number a row; and where it has one, how many frames that was pooled from (0 for a plain number)."""

    value: pl.Expr
    frames: pl.Expr


def scalar_or_pooled(field: Field, pooling: Pooling | None = None) -> Pooled:
    """A field as one number: itself, or what a list is pooled to in which every item is a number.

    Args:
        field: The field.
        pooling: How a list is pooled, by default to its mean. If it is said, a plain number does not count.
    """
    if isinstance(field.dtype, pl.List):
        return pool(field.expr.list.eval(number(_item(field))), pooling)
    value = number(field) if pooling is None else pl.lit(None, dtype=pl.Float64)
    return Pooled(value, pl.lit(0, dtype=pl.Int64))


def pool(numbers: pl.Expr, pooling: Pooling | None = None) -> Pooled:
    """What each list is pooled to; null where it is empty or lacks a number."""
    complete = (numbers.list.len() > 0) & (numbers.list.agg(pl.element().null_count()) == 0)
    value = pl.when(complete).then(_POOLINGS[pooling or "mean"](numbers))
    usable = pl.when(value.is_finite()).then(value)
    return Pooled(usable, numbers.list.len().cast(pl.Int64))


def _harmonic_mean(numbers: pl.Expr) -> pl.Expr:
    """The harmonic mean as libvmaf defines it, of the numbers plus 1, so that it takes zeros.

    Source: `vmaf_score_pooled` in
    https://github.com/Netflix/vmaf/blob/master/libvmaf/src/libvmaf.c
    """
    raised = pl.element() + 1
    mean = pl.len() / (1 / raised).sum() - 1
    return numbers.list.agg(pl.when((raised > 0).all()).then(mean))


def _quantile(share: float) -> Callable[[pl.Expr], pl.Expr]:
    """A quantile, between two numbers interpolated as NumPy does."""
    return lambda numbers: numbers.list.agg(pl.element().quantile(share, "linear"))


_POOLINGS: Mapping[Pooling, Callable[[pl.Expr], pl.Expr]] = {
    "mean": lambda numbers: numbers.list.mean(),
    "harmonic_mean": _harmonic_mean,
    "min": lambda numbers: numbers.list.min(),
    "median": lambda numbers: numbers.list.median(),
    "p5": _quantile(0.05),
    "p10": _quantile(0.10),
}


def expected(logits: Field, levels: Mapping[str, float]) -> pl.Expr:
    """The expected value of what rating words stand for, given the logit of each in an object.

    The probabilities are the softmax of the logits. Null where one is missing.

    Source: section 3.2 of Q-Align, https://arxiv.org/abs/2312.17090
    """
    found = [inside(logits, [word]) for word in levels]
    if not found or not all(found):
        return pl.lit(None, dtype=pl.Float64)
    numbers = [number(fields[0]) for fields in found]
    highest = pl.max_horizontal(numbers)
    weights = [(each - highest).exp() for each in numbers]
    weighted = [weight * level for weight, level in zip(weights, levels.values(), strict=True)]
    value = pl.sum_horizontal(weighted, ignore_nulls=False) / pl.sum_horizontal(weights, ignore_nulls=False)
    return pl.when(value.is_finite()).then(value)


def per_item(objects: Field, spelled: str) -> pl.Expr:
    """The number at a path, as the file spells it, in each item of a list of objects."""
    found = inside(_item(objects), [spelled.removeprefix(f"{objects.name}.")])
    return objects.expr.list.eval(number(found[0]))


def scalar_or_sum(field: Field) -> pl.Expr:
    """A field as one number: itself, or the sum of the numbers in a list."""
    if not isinstance(field.dtype, pl.List):
        return number(field)
    return total(field.expr.list.eval(number(_item(field))))


def total(numbers: pl.Expr) -> pl.Expr:
    """The sum of each list's numbers; null where it has none or the sum is not finite."""
    value = pl.when(numbers.list.agg(pl.element().count()) > 0).then(numbers.list.sum())
    return pl.when(value.is_finite()).then(value)
