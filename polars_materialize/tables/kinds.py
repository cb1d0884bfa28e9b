"""What a column cannot say: the order of fields, and fields that are of several kinds.

A column has one dtype; and Polars 2.1 gives the fields of wide or uneven objects in the order of a hash,
keeps the first of a repeated field, and reads half a surrogate pair as NUL. What these functions find out,
line by line, they find out only in the chunks where something hints at it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import TYPE_CHECKING, Any

import polars as pl

from polars_materialize import warm
from polars_materialize.tables import dtypes
from polars_materialize.tables.chunks import BOM, Chunk
from polars_materialize.tables.json_text import DEEPEST, RepeatedFieldError, is_deep, loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


NESTED = ("list", "object")
NOT_TEXT = ("true", "false", "NaN", "Infinity", "-Infinity")
"""What values that are no text look like in a column of text."""
SEARCHED_BYTES = 2**16
"""Up to what size bytes are searched sooner than a query begins."""
ODD_COLONS = (b" :", b"\t:", b"\r:", b"\n:")
"""What shows that a colon may not follow its name at once."""
LONG_NUMBER = re.compile(rb"[0-9]{16}\.")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
NULL_FIELD = re.compile(rb'"((?:[^"\\]|\\.)*)":\s*null')


def texts(frame: pl.DataFrame) -> list[dtypes.Path]:
    """Where a frame holds text."""
    leaves = (leaf for name, dtype in frame.schema.items() for leaf in dtypes.leaves(dtype, (name,)))
    return [path for path, leaf in leaves if leaf == pl.String()]


def nested_in_text(chunk: Chunk, frame: pl.DataFrame) -> set[dtypes.Path]:
    """Where lists and objects came out as text, because other rows have something else there."""
    if _is_flat(chunk, frame.height):
        return set()
    suspects = _texts_where(frame, _looks_nested)
    if not suspects:
        return suspects
    shapes = (_shape(json.loads(line)) for _, line in chunk.lines())
    return {path for shape in shapes for path, kind in shape if kind in NESTED and path in suspects}


def _is_flat(chunk: Chunk, rows: int) -> bool:
    """Whether there are no lists, and no objects but the rows."""
    return b"[" not in chunk.data and chunk.data.count(b"{") <= rows


def _texts_where(frame: pl.DataFrame, test: Callable[[pl.Expr], pl.Expr]) -> set[dtypes.Path]:
    """Where a frame holds text of which some passes a test; asked in one go, as many frames are small."""
    paths = texts(frame)
    if not paths:
        return set()
    cells = (pl.lit(dtypes.leaf_values(frame, path)) for path in paths)
    found = pl.select(test(text).any().alias(str(place)) for place, text in enumerate(cells)).row(0)
    return {path for path, is_there in zip(paths, found, strict=True) if is_there}


def _looks_nested(text: pl.Expr) -> pl.Expr:
    """Whether a text may be that of a list or an object."""
    return text.str.starts_with("{") | text.str.starts_with("[")


class _Float(str):
    """A number with a point or an exponent, as it is written."""

    __slots__ = ()


def nested_as_text(chunk: Chunk, mixed: frozenset[dtypes.Path]) -> Chunk:
    """Writes lists and objects as JSON text where they stand beside other values, and numbers as they are."""

    def number(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: number(member) for name, member in value.items()}
        if isinstance(value, list):
            return [number(item) for item in value]
        return float(value) if isinstance(value, _Float) else value

    def text(value: Any, path: dtypes.Path) -> Any:
        if isinstance(value, _Float):
            return str(value) if path in mixed else float(value)
        if isinstance(value, (dict, list)) and path in mixed:
            return json.dumps(number(value), ensure_ascii=False)
        if isinstance(value, dict):
            return {name: text(member, (*path, name)) for name, member in value.items()}
        if isinstance(value, list):
            return [text(item, (*path, dtypes.ITEM)) for item in value]
        return value

    lines = chunk.data.split(b"\n")
    for offset, line in chunk.lines():
        try:
            lines[offset] = json.dumps(text(json.loads(line, parse_float=_Float), ())).encode()
        except (ValueError, RecursionError):
            continue  # reported as what it is when the line is parsed
    return dataclasses.replace(chunk, data=b"\n".join(lines))


def field_order(chunk: Chunk, schema: pl.Struct) -> dict[dtypes.Path, dict[str, None]]:
    """The fields of each object in the order in which they first appear, which Polars 2.1 loses.

    Most often the first line has them all; then only lines are looked at that have one still missing.
    """
    missing = {(*path, name) for path, names in _objects(schema) for name in names}
    order: dict[dtypes.Path, dict[str, None]] = {}
    start = 0
    while missing and start < len(chunk.data):
        end = chunk.data.find(b"\n", start)
        end = len(chunk.data) if end < 0 else end
        line = chunk.data[start:end]
        start = end + 1
        if not line.strip():
            continue
        for path, name in _names(json.loads(line)):
            order.setdefault(path, {}).setdefault(name)
            missing.discard((*path, name))
        start = _next_line_with({path[-1] for path in missing}, chunk.data, start)
    return order


def _next_line_with(names: set[str], data: bytes, start: int) -> int:
    """The beginning of the next line that may have one of some names."""
    nearest = len(data)
    for name in names:
        spelled = json.dumps(name).encode()
        if not name.isascii() or b"\\" in spelled:
            return start  # it has more than one spelling, so any line may have it
        found = data.find(spelled, start, nearest)
        nearest = found if found >= 0 else nearest
    return max(start, data.rfind(b"\n", start, nearest) + 1)


def _objects(dtype: pl.DataType, path: dtypes.Path = ()) -> Iterator[tuple[dtypes.Path, list[str]]]:
    """Where a dtype has objects, and their fields."""
    if isinstance(dtype, pl.List):
        yield from _objects(dtypes.instance(dtype.inner), (*path, dtypes.ITEM))
    elif isinstance(dtype, pl.Struct):
        yield path, [part.name for part in dtype.fields]
        for part in dtype.fields:
            yield from _objects(dtypes.instance(part.dtype), (*path, part.name))


def _names(value: Any, path: dtypes.Path = ()) -> Iterator[tuple[dtypes.Path, str]]:
    """The names of a JSON value's objects, in their order, and where they are."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield path, name
            yield from _names(member, (*path, name))
    elif isinstance(value, list):
        for item in value:
            yield from _names(item, (*path, dtypes.ITEM))


def refuse_repeated_fields(chunk: Chunk, frame: pl.DataFrame) -> None:
    """Refuses an object that has a field twice, of which Polars keeps the first in silence.

    Each value that is not null has a name and a colon, and so does each null. Where that is not the number
    of colons, or they cannot be counted, the lines are looked at one by one. Where it is, a field may still
    be null once and something else once, so lines are looked at that name the field of a null again.
    """
    names = [(*path, name) for path, found in _objects(pl.Struct(frame.schema)) for name in found]
    cells = [dtypes.leaf_values(frame, path) for path in names]
    values = sum(leaf.len() - leaf.null_count() for leaf in cells)
    data, suspects = chunk.data, None
    if not any(odd in data for odd in ODD_COLONS):
        nulls = data.count(b'":') - values
        if nulls == 0:
            return
        if nulls == data.count(b'":null') + data.count(b'": null'):
            suspects = _lines_with_a_null_named_again(chunk)
            if not suspects:
                return
    for row, (offset, line) in enumerate(chunk.lines()):
        if suspects is not None and offset not in suspects:
            continue
        try:
            loads(line)
        except RepeatedFieldError as error:
            raise chunk.fault(row, str(error)) from None


def _lines_with_a_null_named_again(chunk: Chunk) -> set[int]:
    """The lines, counted from 0, that may have a field twice of which one is null."""
    data = chunk.data
    if len(data) <= SEARCHED_BYTES:
        return {offset for offset, line in chunk.lines() if b"null" in line}
    with warm.importing:
        import numpy as np  # noqa: PLC0415 - only large files need it

    found: set[int] = set()
    for name in set(NULL_FIELD.findall(data)):
        # By the position of its lines: a field that is often null is found as often as there are rows.
        starts = [match.start() for match in re.finditer(re.escape(b'"' + name + b'"'), data)]
        lines = np.searchsorted(chunk.ends, starts)
        found.update(lines[1:][lines[1:] == lines[:-1]].tolist())
    if b"\\" in data:  # a name may be spelled in two ways
        found.update(offset for offset, line in chunk.lines() if b"null" in line and b"\\" in line)
    return found


def split_by_shape(chunk: Chunk, frame: pl.DataFrame) -> list[tuple[list[int], Chunk]]:
    """Parts a chunk so that no field is text in one row and a list, an object, a boolean or NaN in another.

    One column cannot be both, so all of such a field reads as text; apart, each part keeps its kind.

    Returns:
        For each part its rows' numbers, and its chunk; nothing if the chunk is of one shape.
    """
    if len(chunk.data) <= SEARCHED_BYTES and _has_scalars_only(chunk, frame.height):
        return []
    if not _texts_where(frame, lambda text: _looks_nested(text) | text.is_in(NOT_TEXT)):
        return []
    lines = chunk.lines()
    shapes = [frozenset(_shape(json.loads(line))) for _, line in lines]
    kinds: dict[dtypes.Path, set[str]] = {}
    for shape in shapes:
        for path, kind in shape:
            kinds.setdefault(path, set()).add(kind)
    mixed = {path for path, found in kinds.items() if len(found) > 1}
    groups: dict[frozenset[tuple[dtypes.Path, str]], list[int]] = {}
    for row, shape in enumerate(shapes):
        groups.setdefault(frozenset(part for part in shape if part[0] in mixed), []).append(row)
    if len(groups) < 2:
        return []
    places = chunk.all_places(len(lines)).to_list()
    return [
        (
            rows,
            Chunk(b"\n".join(lines[row][1] for row in rows), chunk.source, places=[places[r] for r in rows]),
        )
        for rows in groups.values()
    ]


def _has_scalars_only(chunk: Chunk, rows: int) -> bool:
    """Whether fields can be nothing but text, finite numbers and null."""
    return _is_flat(chunk, rows) and not any(
        mark in chunk.data for mark in (b"true", b"false", b"NaN", b"Inf")
    )


def _shape(value: Any, path: dtypes.Path = ()) -> Iterator[tuple[dtypes.Path, str]]:
    """What kinds of value a JSON value holds, and where."""
    if isinstance(value, dict):
        yield path, "object"
        for name, member in value.items():
            yield from _shape(member, (*path, name))
    elif isinstance(value, list):
        yield path, "list"
        for item in value:
            yield from _shape(item, (*path, dtypes.ITEM))
    elif isinstance(value, bool):
        yield path, "boolean"
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "token"
    elif value is not None:
        yield path, "scalar"


def has_inexact_integer(chunk: Chunk, path: dtypes.Path) -> bool:
    """Whether a leaf that reads as Float64 was written with an integer that Float64 rounds."""
    values = _values(chunk, path)
    return any(isinstance(value, int) and int(float(value)) != value for value in values)


def has_inexact_float(chunk: Chunk, path: dtypes.Path) -> bool:
    """The same with a point, such as `9007199254740993.0`."""
    if not LONG_NUMBER.search(chunk.data):
        return False
    wide = (
        value
        for value in _values(chunk, path)
        if isinstance(value, _Float) and re.match(dtypes.WITH_POINT, value) and abs(float(value)) >= 2.0**53
    )
    return not all(map(dtypes.is_exact, wide))


def _values(chunk: Chunk, path: dtypes.Path) -> Iterator[Any]:
    """The values of a leaf that are not null."""
    for _, line in chunk.lines():
        values = [json.loads(line, parse_float=_Float)]
        for step in path:
            values = [
                item
                for value in values
                for item in (value if step == dtypes.ITEM else [value.get(step)])
                if item is not None
            ]
        yield from values


def refuse_deep(chunk: Chunk) -> None:
    """Refuses lists and objects that are nested so deep that parsers fail, or take for ever."""
    if not is_deep(chunk.data):
        return
    for row, (_, line) in enumerate(chunk.lines()):
        if is_deep(line):
            raise chunk.fault(row, f"lists and objects nested more than {DEEPEST} deep")


def refuse_inner_marks(chunk: Chunk) -> None:
    """Refuses a byte-order mark within a file, which Polars passes over only where a chunk begins."""
    if BOM not in chunk.data:
        return
    for row, (_, line) in enumerate(chunk.lines()):
        if line.lstrip().startswith(BOM):
            raise chunk.fault(row, "not a JSON object: it begins with a byte-order mark")


def refuse_lone_surrogates(chunk: Chunk) -> None:
    """Refuses text with half of a surrogate pair, which Polars reads as NUL."""
    # One byte is looked for much quicker than two.
    if b"\\" not in chunk.data or b"\\u" not in chunk.data:
        return
    for row, (_, line) in enumerate(chunk.lines()):
        if b"\\ud" not in line and b"\\uD" not in line:
            continue
        try:
            text = json.dumps(json.loads(line), ensure_ascii=False)
        except (ValueError, RecursionError):
            continue  # reported as what it is when the line is parsed
        if LONE_SURROGATE.search(text):
            raise chunk.fault(row, "text with half of a surrogate pair, which is no character")
