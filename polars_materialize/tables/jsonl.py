"""JSON lines and JSON documents to frames: lossless, in chunks, with the place of every fault.

Polars parses each chunk; that is fast, and it needs only the schema of the whole file. What it cannot
take by itself (`NaN` and `Infinity` tokens, types that change from line to line, a byte-order mark)
costs time only in the chunks that hold it. Measured with Polars 2.1: inference over all lines drops
no field, but one of a column's types may then fail to parse; a lone surrogate reads as NUL.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import polars as pl

from polars_materialize.tables import dtypes, kinds
from polars_materialize.tables.chunks import cut_off
from polars_materialize.tables.json_text import RepeatedFieldError, loads

if TYPE_CHECKING:
    from collections.abc import Callable

    from polars_materialize.tables.chunks import Chunk


NOT_JSON_TOKEN = re.compile(rb"-?Infinity|NaN")
LONG = "^-?[0-9]{16,}$"
"""What text looks like that may have been a number of many digits."""
STRING = re.compile(rb'("(?:[^"\\]|\\.)*")')


def parse(chunk: Chunk, schema: dtypes.Schema, mixed: frozenset[dtypes.Path] = frozenset()) -> pl.DataFrame:
    """Reads the rows of a chunk with a known schema.

    Args:
        chunk: The rows.
        schema: Their dtypes.
        mixed: Where lists and objects are to become JSON text; Polars' own text of them is not JSON.

    Raises:
        TableError: If a line is not a JSON object; names the line.
    """
    if chunk.data.isspace():
        return pl.DataFrame(schema=pl.Schema(schema))
    if any(path[0] in schema for path in mixed):
        chunk = kinds.nested_as_text(chunk, mixed)
    try:
        return _polars(chunk.data, schema)
    except pl.exceptions.PolarsError:
        pass
    text = {name: _floats_as_text(dtype) for name, dtype in schema.items()}
    data = _quote_tokens(chunk.data)
    try:
        return _polars(data, text).cast(pl.Schema(schema))
    except pl.exceptions.PolarsError:
        _raise_first_fault(chunk, lambda line: _polars(_quote_tokens(line), text))
        raise


def infer(chunk: Chunk, profile: dtypes.Profile) -> pl.DataFrame:
    """Reads the rows of a chunk with the narrowest dtypes that hold them, and notes those.

    Raises:
        TableError: If a line is not a JSON object; names the line.
    """
    if chunk.data.isspace():
        return pl.DataFrame()
    kinds.refuse_deep(chunk)
    kinds.refuse_lone_surrogates(chunk)
    kinds.refuse_inner_marks(chunk)
    try:
        frame = _polars(chunk.data, None)
    except pl.exceptions.PolarsError:
        schema = _infer_by_line(chunk)
        frame = parse(chunk, schema)
        profile.plain &= not NOT_JSON_TOKEN.search(chunk.data)
    profile.plain &= not chunk.bom
    kinds.refuse_repeated_fields(chunk, frame)
    as_written: set[dtypes.Path] = set()
    exact = {name: _exact(chunk, frame, name, as_written) for name in frame.columns}
    order = kinds.field_order(chunk, pl.Struct(exact))
    names = dict.fromkeys([*order.get((), {}), *exact])
    schema = {name: dtypes.reorder(exact[name], order, (name,)) for name in names}
    if as_written or list(schema.items()) != list(frame.schema.items()):
        frame = parse(chunk, schema, frozenset(as_written))
    profile.nested.update(kinds.nested_in_text(chunk, frame), as_written)
    profile.plain &= not profile.nested.intersection(kinds.texts(frame))
    profile.add(frame, frame.schema)
    return frame


def _polars(data: bytes, schema: dtypes.Schema | None) -> pl.DataFrame:
    try:
        if schema is None:
            return pl.read_ndjson(data, infer_schema_length=None)
        return pl.read_ndjson(data, schema=dict(schema))
    except pl.exceptions.PanicException as error:  # of a field that is null once and an object once, say
        raise pl.exceptions.ComputeError(str(error)) from None


def _quote_tokens(data: bytes) -> bytes:
    """Quotes `NaN`, `Infinity` and `-Infinity` where they are tokens, not inside of strings."""
    if not NOT_JSON_TOKEN.search(data):
        return data
    parts = STRING.split(data)  # the odd parts are the strings
    between = b"\0".join(parts[::2])
    parts[::2] = NOT_JSON_TOKEN.sub(rb'"\g<0>"', between).split(b"\0")
    return b"".join(parts)


def _floats_as_text(dtype: pl.DataType) -> pl.DataType:
    floats = {path: pl.String() for path, leaf in dtypes.leaves(dtype) if leaf == pl.Float64()}
    return dtypes.with_leaves(dtype, floats)


def _raise_first_fault(chunk: Chunk, read: Callable[[bytes], object]) -> None:
    """Raises for the first line that `read` refuses, in Polars' judgement, in Python's words."""
    for row, (_, line) in enumerate(chunk.lines()):
        try:
            read(line)
        except pl.exceptions.PolarsError:
            raise chunk.fault(row, _what_is_wrong(line)) from None


def _what_is_wrong(line: bytes) -> str:
    try:
        value = loads(line)
    except RepeatedFieldError as error:
        return str(error)
    except UnicodeDecodeError as error:
        return f"not UTF-8 text: {error.reason}; save it as UTF-8"
    except json.JSONDecodeError as error:
        return f"not a JSON object: {error.msg} at column {error.colno}{cut_off(error)}"
    except (ValueError, RecursionError) as error:
        return f"not a JSON object: {error}"
    if not isinstance(value, dict):
        return f"not a JSON object: it is a {_kind(value)}"
    return "a number in it is beyond what 64-bit floats or 128-bit integers hold; write it as text"


def _kind(value: object) -> str:
    names = {list: "list", str: "text", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _infer_by_line(chunk: Chunk) -> dict[str, pl.DataType]:
    """Finds the schema of a chunk that Polars' own inference does not take."""
    schema: dict[str, pl.DataType] = {}
    for row, (_, line) in enumerate(chunk.lines()):
        try:
            value = loads(line)
        except (ValueError, RecursionError, RepeatedFieldError):
            raise chunk.fault(row, _what_is_wrong(line)) from None
        if not isinstance(value, dict):
            raise chunk.fault(row, _what_is_wrong(line))
        schema = dtypes.unite_schemas(schema, {name: _dtype_of(item) for name, item in value.items()})
    # Wide enough for any sign; what it narrows to is decided on the values, as for Polars' own inference.
    return {name: dtypes.with_leaves(dtype, _wide(dtype)) for name, dtype in schema.items()}


def _wide(dtype: pl.DataType) -> dict[dtypes.Path, pl.DataType]:
    return {path: pl.Int128() for path, leaf in dtypes.leaves(dtype) if leaf == pl.UInt64()}


def _dtype_of(value: Any) -> pl.DataType:
    match value:
        case None:
            return pl.Null()
        case bool():
            return pl.Boolean()
        case int():
            if -(2**63) <= value < 2**63:
                return pl.Int64()
            return pl.UInt64() if 0 <= value < 2**64 else pl.String()
        case float():
            return pl.Float64()
        case str():
            return pl.String()
        case list():
            inner: pl.DataType = pl.Null()
            for item in value:
                inner = dtypes.unite(inner, _dtype_of(item))
            return pl.List(inner)
    return pl.Struct({name: _dtype_of(item) for name, item in value.items()})


def _exact(chunk: Chunk, frame: pl.DataFrame, name: str, as_written: set[dtypes.Path]) -> pl.DataType:
    """The dtype that holds a column's values exactly, where Polars chose one that may not.

    Notes in `as_written` where numbers have to become text as they are written: Polars rounds them first.
    """
    new: dict[dtypes.Path, pl.DataType] = {}
    dtype = frame.schema[name]
    for path, leaf in dtypes.leaves(dtype, (name,)):
        if leaf == pl.Int128():
            values = dtypes.leaf_values(frame, path)
            fits = (values >= 0).all() and (values < 2**64).all()
            # Neither pyarrow nor DuckDB reads 128-bit integers from Parquet.
            new[path] = pl.UInt64() if fits else pl.String()
        elif leaf == pl.Float64():
            values = dtypes.leaf_values(frame, path)
            if _is_wide(values):
                if kinds.has_inexact_float(chunk, path):
                    as_written.add(path)
                if path in as_written or kinds.has_inexact_integer(chunk, path):
                    new[path] = pl.String()
        elif leaf == pl.String():
            # Beside text a number is text, too, but Polars has rounded it.
            values = dtypes.leaf_values(frame, path)
            if values.str.contains(LONG).any() and kinds.has_inexact_float(chunk, path):
                as_written.add(path)
    return dtypes.with_leaves(dtype, new, (name,))


def _is_wide(values: pl.Series) -> bool:
    """Whether there is a number so large that it may be an integer which Float64 rounds."""
    ends = [end for end in (values.min(), values.max()) if isinstance(end, float)]
    # Most often the ends tell; infinity says nothing of the others.
    return any(abs(end) >= 2.0**53 for end in ends) and bool(
        (values.is_finite() & (values.abs() >= 2.0**53)).any()
    )
