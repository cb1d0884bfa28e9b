"""How the dtypes that parts of a text file show become the dtype of the whole column.

Text formats have no types, so each part of a file is read with the narrowest type that holds it, and
the parts are united here. Nothing may be lost on the way: what no number type holds exactly becomes
text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

Path = tuple[str, ...]
Schema = Mapping[str, pl.DataType]

ITEM = "[]"
"""The step into a list in a leaf's path."""

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
        return pl.List(unite(_dtype(left.inner), _dtype(right.inner)))
    if isinstance(left, pl.Struct) and isinstance(right, pl.Struct):
        return pl.Struct(unite_schemas(left.to_schema(), right.to_schema()))
    return pl.String()


def unite_schemas(left: Mapping[str, object], right: Mapping[str, object]) -> dict[str, pl.DataType]:
    """Unites field by field; a field that only one side has is kept, at its place there."""
    united = {name: _dtype(dtype) for name, dtype in left.items()}
    for name, dtype in right.items():
        united[name] = unite(united[name], _dtype(dtype)) if name in united else _dtype(dtype)
    return united


def leaves(dtype: pl.DataType, path: Path = ()) -> Iterator[tuple[Path, pl.DataType]]:
    """Every scalar dtype inside of `dtype`, with the way to it.

    Example:
        >>> list(leaves(pl.List(pl.Struct({"score": pl.Float64()}))))
        [(('[]', 'score'), Float64)]
    """
    if isinstance(dtype, pl.List):
        yield from leaves(_dtype(dtype.inner), (*path, ITEM))
    elif isinstance(dtype, pl.Struct):
        for part in dtype.fields:
            yield from leaves(_dtype(part.dtype), (*path, part.name))
    else:
        yield path, dtype


def with_leaves(dtype: pl.DataType, new: Mapping[Path, pl.DataType], path: Path = ()) -> pl.DataType:
    """The same dtype with the leaves at some paths exchanged."""
    if isinstance(dtype, pl.List):
        return pl.List(with_leaves(_dtype(dtype.inner), new, (*path, ITEM)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({f.name: with_leaves(_dtype(f.dtype), new, (*path, f.name)) for f in dtype.fields})
    return new.get(path, dtype)


def leaf_values(frame: pl.DataFrame, path: Path) -> pl.Series:
    """All values of one leaf of one column, lists flattened; `path` begins with the column."""
    values = frame.get_column(path[0])
    for step in path[1:]:
        # explode() of a list keeps one null for an empty list, which no check here minds.
        values = values.explode() if step == ITEM else values.struct.field(step)
    return values


@dataclass
class Profile:
    """What has been seen of a text table's columns so far.

    Attributes:
        schema: The united dtypes.
        inexact: Leaves with an integer that Float64 does not hold.
        negative: Leaves with an integer below zero, which UInt64 does not hold.
        plain: Whether Polars' own scan reads the same values from the file, given the schema.
    """

    schema: dict[str, pl.DataType] = field(default_factory=dict)
    inexact: set[Path] = field(default_factory=set)
    negative: set[Path] = field(default_factory=set)
    plain: bool = True

    def add(self, frame: pl.DataFrame, schema: Schema) -> None:
        """Takes in one part of the file: its values, and the dtypes found for it."""
        self.schema = unite_schemas(self.schema, schema)
        for name, dtype in schema.items():
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


def _dtype(dtype: object) -> pl.DataType:
    """Polars gives nested dtypes as classes or instances; this makes them instances."""
    return dtype() if isinstance(dtype, type) else dtype  # type: ignore[return-value]
