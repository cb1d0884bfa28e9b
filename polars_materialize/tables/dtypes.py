"""How the dtypes that parts of a text file show become the dtype of the whole column.

Text formats have no types, so each part of a file is read with the narrowest type that holds it, and
the parts are united here. Nothing may be lost on the way: what no number type holds exactly becomes
text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import polars as pl

from polars_materialize.names import is_pattern

Path = tuple[str, ...]
Schema = Mapping[str, pl.DataType]

ITEM = "[]"
"""The step into a list in a leaf's path."""

NESTED = "a list or an object"
"""How an error shows one."""

WITH_POINT = r"^-?[0-9]+\.[0-9]*$"
"""A number with a point and without an exponent; one with an exponent is shortened in any case."""

INTEGERS = (pl.Int64(), pl.UInt64())


def unite(left: pl.DataType, right: pl.DataType) -> pl.DataType:
    """The dtype that holds both; text where nothing else does.

    Example:
        >>> unite(pl.Int64(), pl.Float64()), unite(pl.Boolean(), pl.Int64())
        (Float64, String)
    """
    if left == right or right == pl.Null():
        return left
    if left == pl.Null():
        return right
    if left in INTEGERS and right in INTEGERS:
        return pl.UInt64()
    numbers = (*INTEGERS, pl.Float64())
    if left in numbers and right in numbers:
        return pl.Float64()
    if isinstance(left, pl.List) and isinstance(right, pl.List):
        return pl.List(unite(instance(left.inner), instance(right.inner)))
    if isinstance(left, pl.Struct) and isinstance(right, pl.Struct):
        return pl.Struct(unite_schemas(left.to_schema(), right.to_schema()))
    return pl.String()


def unite_schemas(left: Mapping[str, object], right: Mapping[str, object]) -> dict[str, pl.DataType]:
    """Unites field by field; a field that only one side has is kept, at its place there."""
    united = {name: instance(dtype) for name, dtype in left.items()}
    for name, dtype in right.items():
        united[name] = unite(united[name], instance(dtype)) if name in united else instance(dtype)
    return united


def leaves(dtype: pl.DataType, path: Path = ()) -> Iterator[tuple[Path, pl.DataType]]:
    """Every scalar dtype inside of `dtype`, with the way to it.

    Example:
        >>> list(leaves(pl.List(pl.Struct({"score": pl.Float64()}))))
        [(('[]', 'score'), Float64)]
    """
    if isinstance(dtype, pl.List):
        yield from leaves(instance(dtype.inner), (*path, ITEM))
    elif isinstance(dtype, pl.Struct):
        for part in dtype.fields:
            yield from leaves(instance(part.dtype), (*path, part.name))
    else:
        yield path, dtype


def _nested(dtype: pl.DataType, path: Path) -> Iterator[Path]:
    """The paths at which a dtype is a list or an object."""
    if isinstance(dtype, pl.List):
        yield path
        yield from _nested(instance(dtype.inner), (*path, ITEM))
    elif isinstance(dtype, pl.Struct):
        yield path
        for part in dtype.fields:
            yield from _nested(instance(part.dtype), (*path, part.name))


def reorder(dtype: pl.DataType, order: Mapping[Path, Mapping[str, object]], path: Path = ()) -> pl.DataType:
    """The same dtype with the fields of its objects in another order; unknown ones go last."""
    if isinstance(dtype, pl.List):
        return pl.List(reorder(instance(dtype.inner), order, (*path, ITEM)))
    if isinstance(dtype, pl.Struct):
        fields = {part.name: instance(part.dtype) for part in dtype.fields}
        known = [name for name in order.get(path, {}) if name in fields]
        return pl.Struct(
            {name: reorder(fields[name], order, (*path, name)) for name in dict.fromkeys([*known, *fields])}
        )
    return dtype


def with_leaves(dtype: pl.DataType, new: Mapping[Path, pl.DataType], path: Path = ()) -> pl.DataType:
    """The same dtype with the leaves at some paths exchanged."""
    if isinstance(dtype, pl.List):
        return pl.List(with_leaves(instance(dtype.inner), new, (*path, ITEM)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({f.name: with_leaves(instance(f.dtype), new, (*path, f.name)) for f in dtype.fields})
    return new.get(path, dtype)


def is_exact(number: str) -> bool:
    """Whether Float64 holds a number as it is written, to the last digit.

    Example:
        >>> is_exact("9007199254740992.0"), is_exact("9007199254740993.0")
        (True, False)
    """
    return Decimal(number) == Decimal(float(number))


def leaf_values(frame: pl.DataFrame, path: Path) -> pl.Series:
    """All values of one leaf of one column, lists flattened; `path` begins with the column."""
    values = frame.get_column(path[0])
    for step in path[1:]:
        # explode() of a list keeps one null for an empty list, which no check here minds.
        if step == ITEM:
            values = values.explode()
        else:  # struct.field() would take some names for patterns
            values = (
                values.struct.unnest().get_column(step) if is_pattern(step) else values.struct.field(step)
            )
    return values


@dataclass
class Profile:
    """What has been seen of a text table's columns so far.

    Attributes:
        schema: The united dtypes.
        inexact: Leaves with an integer that Float64 does not hold.
        negative: Leaves with an integer below zero, which UInt64 does not hold.
        nested: Where lists and objects have been seen, or a number with a point that Float64 rounds.
        plain: Whether Polars' own scan reads the same values from the file, given the schema.
        held: The distinct values, as text, of columns that the file's folders say, too.
    """

    schema: dict[str, pl.DataType] = field(default_factory=dict)
    inexact: set[Path] = field(default_factory=set)
    negative: set[Path] = field(default_factory=set)
    nested: set[Path] = field(default_factory=set)
    plain: bool = True
    held: dict[str, pl.Series] = field(default_factory=dict)

    def hold(self, values: pl.Series) -> None:
        """Takes in values of a column that the file's folders say, too."""
        if values.dtype.is_nested():
            values = values.is_null().replace_strict({True: None, False: NESTED}, return_dtype=pl.String)
        texts = values.cast(pl.String).unique(maintain_order=True)
        known = self.held.get(values.name)
        self.held[values.name] = texts if known is None else known.append(texts).unique(maintain_order=True)

    def add(self, frame: pl.DataFrame, schema: Schema) -> None:
        """Takes in one part of the file: its values, and the dtypes found for it."""
        self.schema = unite_schemas(self.schema, schema)
        for name, dtype in schema.items():
            self.nested.update(_nested(dtype, (name,)))
            for path, leaf in leaves(dtype, (name,)):
                if leaf in INTEGERS:
                    self._note_integers(leaf_values(frame, path), path)

    def _note_integers(self, values: pl.Series, path: Path) -> None:
        low, high = values.min(), values.max()
        if low is None or high is None:
            return
        if int(low) < 0:  # type: ignore[arg-type]
            self.negative.add(path)
        if max(-int(low), int(high)) > 2**53:  # type: ignore[arg-type]
            exact = values.cast(pl.Int128)
            if (exact.cast(pl.Float64).cast(pl.Int128) != exact).any():
                self.inexact.add(path)

    def merge(self, other: Profile) -> None:
        """Takes in what was seen in another part of the same table, but for `held`."""
        self.schema = unite_schemas(self.schema, other.schema)
        self.inexact |= other.inexact
        self.negative |= other.negative
        self.nested |= other.nested
        self.plain &= other.plain

    def mixed(self) -> frozenset[Path]:
        """Where lists and objects stand beside other values, and so become JSON text; and numbers as well."""
        schema = self.result()
        texts = {
            path for name in schema for path, leaf in leaves(schema[name], (name,)) if leaf == pl.String()
        }
        return frozenset(texts & self.nested)

    def result(self) -> pl.Schema:
        """The dtypes that hold every value seen, exactly."""
        united = {}
        for name, dtype in self.schema.items():
            text = {
                path: pl.String()
                for path, leaf in leaves(dtype, (name,))
                if (leaf == pl.Float64() and path in self.inexact)
                or (leaf == pl.UInt64() and path in self.negative)
            }
            united[name] = with_leaves(dtype, text, (name,))
        return pl.Schema(united)


def instance(dtype: object) -> pl.DataType:
    """Polars gives nested dtypes as classes or instances; this makes them instances."""
    return dtype() if isinstance(dtype, type) else dtype  # type: ignore[return-value]
