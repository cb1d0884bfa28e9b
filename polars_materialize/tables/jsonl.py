"""JSON lines and JSON documents to frames: lossless, in chunks, with the place of every fault.

Polars parses each chunk; that is fast, and it needs only the schema of the whole file. What it cannot
take by itself (`NaN` and `Infinity` tokens, types that change from line to line, a byte-order mark)
costs time only in the chunks that hold it. Measured with Polars 2.1: inference over all lines drops
no field, but one of a column's types may then fail to parse; a lone surrogate reads as NUL.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from polars_materialize.errors import TableError
from polars_materialize.tables import dtypes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from polars_materialize.tables.files import File

CHUNK_BYTES = 32 << 20
"""Bytes of lines that are parsed at a time: large enough to use all cores, small enough to hold."""

BOM = b"\xef\xbb\xbf"
NOT_JSON_TOKEN = re.compile(rb"-?Infinity|NaN")
STRING = re.compile(rb'("(?:[^"\\]|\\.)*")')
NESTED = ("list", "object")
NOT_TEXT = ("true", "false", "NaN", "Infinity", "-Infinity")
"""What values that are no text look like in a column of text."""

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines of JSON, and where they come from.

    Attributes:
        data: One JSON value a line; blank lines may stand between them.
        source: The file, for messages.
        first_line: The line number of the first line, if the chunk is a piece of a file of lines.
        places: The place of each value, if not.
        bom: Whether the file begins with a byte-order mark, which is no longer part of `data`.
    """

    data: bytes
    source: str
    first_line: int = 1
    places: Sequence[str] | None = None
    bom: bool = False

    def lines(self) -> list[tuple[int, bytes]]:
        """The lines that are not blank, with their offset from the first."""
        return [(i, line) for i, line in enumerate(self.data.split(b"\n")) if line.strip()]

    def all_places(self, rows: int) -> pl.Series:
        """The place of each row, as text."""
        if self.places is not None:
            return pl.Series("place", self.places, dtype=pl.String)
        if rows == self.data.count(b"\n") + (not self.data.endswith(b"\n")):
            offsets = pl.int_range(rows, eager=True)
        else:
            offsets = pl.Series([offset for offset, _ in self.lines()], dtype=pl.Int64)
        return (f"{self.source}:" + (offsets + self.first_line).cast(pl.String)).alias("place")

    def fault(self, row: int, problem: str) -> TableError:
        """The error that says what is wrong with one row."""
        if self.places is not None:
            return TableError(self.places[row], problem)
        return TableError(self.source, problem, line=self.first_line + self.lines()[row][0])


def read_lines(file: File) -> Iterator[Chunk]:
    """Cuts a file of JSON lines into chunks at line ends."""
    first_line, rest = 1, []
    with file.open() as stream:
        start = stream.read(len(BOM))
        bom = start == BOM
        rest = [] if bom else [start]
        while data := stream.read(CHUNK_BYTES):
            cut = data.rfind(b"\n") + 1
            if not cut:
                rest.append(data)
                continue
            block = b"".join((*rest, data[:cut]))
            rest = [data[cut:]]
            yield Chunk(block, file.written, first_line, bom=bom)
            first_line += block.count(b"\n")
    block = b"".join(rest)
    if block:
        yield Chunk(block, file.written, first_line, bom=bom)


def read_documents(
    files: Iterable[File], wrappers: Sequence[str], *, single: bool
) -> Iterator[tuple[Chunk, list[str]]]:
    """Cuts JSON documents into rows, and gathers the rows of many small files into chunks.

    A document is a list of rows, an object that holds such a list under one of the names in
    `wrappers`, or (with `single`) itself one row.

    Yields:
        A chunk, and the file of each of its rows.
    """
    rows: list[bytes] = []
    places: list[str] = []
    sources: list[str] = []
    size = 0
    for file in files:
        for place, row in _document_rows(file, wrappers, single=single):
            rows.append(row)
            places.append(place)
            sources.append(file.written)
            size += len(row)
            if size > CHUNK_BYTES:
                yield Chunk(b"\n".join(rows), file.written, places=places), sources
                rows, places, sources, size = [], [], [], 0
    if rows:
        yield Chunk(b"\n".join(rows), sources[-1], places=places), sources


def _document_rows(file: File, wrappers: Sequence[str], *, single: bool) -> Iterator[tuple[str, bytes]]:
    with file.open() as stream:
        data = stream.read().removeprefix(BOM)
    if not data or data.isspace():
        raise TableError(file.written, "the file is empty; expected JSON")
    document, encode = _decode_document(data, file)
    if isinstance(document, dict):
        name = next((name for name in wrappers if name in document), None)
        if name is None and single:
            yield file.written, _one_line(data)
            return
        if name is None:
            problem = f"expected a list of row objects or an object with {wrappers[0]!r}"
            raise TableError(file.written, problem)
        document = document[name]
        if isinstance(document, msgspec.Raw) and bytes(document).startswith(b"["):
            document = _decode_raw(document)
        if not isinstance(document, list):
            raise TableError(file.written, f"{name!r}: expected a list of row objects")
    if not isinstance(document, list):
        raise TableError(file.written, "expected a list of row objects or an object")
    for index, row in enumerate(document):
        place = f"{file.written}: rows[{index}]"
        line = _one_line(encode(row))
        if not line.lstrip().startswith(b"{"):
            raise TableError(place, "not a JSON object")
        yield place, line


def _decode_document(data: bytes, file: File) -> tuple[object, Callable[[Any], bytes]]:
    """Decodes the outer level of a document, and says how its rows are encoded again."""
    try:
        return _decode_raw(data), bytes
    except (msgspec.MsgspecError, RecursionError):
        pass
    try:  # Python's own decoder takes the NaN that Python's own encoder writes
        return json.loads(data), lambda row: json.dumps(row).encode()
    except (ValueError, RecursionError) as error:
        raise _not_json(file, error) from None


def _one_line(data: bytes) -> bytes:
    """JSON text without line ends, which stand only between tokens."""
    return data.replace(b"\n", b" ").replace(b"\r", b" ")


def _decode_raw(data: bytes | msgspec.Raw) -> object:
    """Decodes one level of JSON and leaves what is below as it is written."""
    return msgspec.json.decode(data, type=list[msgspec.Raw] | dict[str, msgspec.Raw])


def _not_json(file: File, error: Exception) -> TableError:
    if isinstance(error, json.JSONDecodeError):
        return TableError(file.written, f"not JSON: {error.msg}", line=error.lineno)
    return TableError(file.written, f"not JSON: {error}")


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
        chunk = _nested_as_text(chunk, mixed)
    try:
        return _polars(chunk.data, schema)
    except pl.exceptions.PolarsError:
        pass
    text = {name: _floats_as_text(dtype) for name, dtype in schema.items()}
    data = _replace_tokens(chunk.data, rb'"\g<0>"')
    try:
        return _polars(data, text).cast(pl.Schema(schema))
    except pl.exceptions.PolarsError:
        _raise_first_fault(chunk, lambda line: _polars(_replace_tokens(line, rb'"\g<0>"'), text))
        raise


def infer(chunk: Chunk, profile: dtypes.Profile) -> pl.DataFrame:
    """Reads the rows of a chunk with the narrowest dtypes that hold them, and notes those.

    Raises:
        TableError: If a line is not a JSON object; names the line.
    """
    if chunk.data.isspace():
        return pl.DataFrame()
    _refuse_lone_surrogates(chunk)
    try:
        frame = pl.read_ndjson(chunk.data, infer_schema_length=None)
    except pl.exceptions.PolarsError:
        schema = _infer_by_line(chunk)
        frame = parse(chunk, schema)
        profile.plain &= not NOT_JSON_TOKEN.search(chunk.data)
    profile.plain &= not chunk.bom
    _refuse_repeated_fields(chunk, frame)
    exact = {name: _exact(chunk, frame, name) for name in frame.columns}
    order = _field_order(chunk, pl.Struct(exact))
    names = dict.fromkeys([*order.get((), {}), *exact])
    schema = {name: dtypes.reorder(exact[name], order, (name,)) for name in names}
    if list(schema.items()) != list(frame.schema.items()):
        frame = parse(chunk, schema)
    profile.nested.update(_nested_in_text(chunk, frame))
    profile.plain &= not profile.nested.intersection(_texts(frame))
    profile.add(frame, frame.schema)
    return frame


def _texts(frame: pl.DataFrame) -> list[dtypes.Path]:
    """Where a frame holds text."""
    leaves = (leaf for name, dtype in frame.schema.items() for leaf in dtypes.leaves(dtype, (name,)))
    return [path for path, leaf in leaves if leaf == pl.String()]


def _nested_in_text(chunk: Chunk, frame: pl.DataFrame) -> set[dtypes.Path]:
    """Where lists and objects came out as text, because other rows have something else there."""
    suspects = {
        path for path in _texts(frame) if dtypes.leaf_values(frame, path).str.head(1).is_in(["{", "["]).any()
    }
    if not suspects:
        return suspects
    shapes = (_shape(json.loads(line)) for _, line in chunk.lines())
    return {path for shape in shapes for path, kind in shape if kind in NESTED and path in suspects}


def _nested_as_text(chunk: Chunk, mixed: frozenset[dtypes.Path]) -> Chunk:
    """Writes lists and objects as JSON text where they stand beside other values."""

    def text(value: Any, path: dtypes.Path) -> Any:
        if isinstance(value, (dict, list)) and path in mixed:
            return json.dumps(value, ensure_ascii=False)
        if isinstance(value, dict):
            return {name: text(member, (*path, name)) for name, member in value.items()}
        if isinstance(value, list):
            return [text(item, (*path, dtypes.ITEM)) for item in value]
        return value

    lines = chunk.data.split(b"\n")
    for offset, line in chunk.lines():
        try:
            lines[offset] = json.dumps(text(json.loads(line), ())).encode()
        except (ValueError, RecursionError):
            continue  # reported as what it is when the line is parsed
    return dataclasses.replace(chunk, data=b"\n".join(lines))


def _field_order(chunk: Chunk, schema: pl.Struct) -> dict[dtypes.Path, dict[str, None]]:
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


def _refuse_repeated_fields(chunk: Chunk, frame: pl.DataFrame) -> None:
    """Refuses an object that has a field twice, of which Polars keeps the first in silence.

    Each value that is not null has a name and a colon, and so does each null. Where that is not the number
    of colons, the lines are looked at one by one.
    """
    names = [(*path, name) for path, found in _objects(pl.Struct(frame.schema)) for name in found]
    values = sum(int(dtypes.leaf_values(frame, path).drop_nulls().len()) for path in names)
    if chunk.data.count(b'":') == values + chunk.data.count(b"null"):
        return
    for row, (_, line) in enumerate(chunk.lines()):
        try:
            json.loads(line, object_pairs_hook=_refuse_twice)
        except RepeatedFieldError as error:
            raise chunk.fault(row, f"an object has the field {error.args[0]!r} twice") from None


class RepeatedFieldError(Exception):
    """An object of JSON has a field twice."""


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedFieldError(next(name for name in names if names.count(name) > 1))
    return members


def split_by_shape(chunk: Chunk, frame: pl.DataFrame) -> list[tuple[list[int], Chunk]]:
    """Parts a chunk so that no field is text in one row and a list, an object, a boolean or NaN in another.

    One column cannot be both, so all of such a field reads as text; apart, each part keeps its kind.

    Returns:
        For each part its rows' numbers, and its chunk; nothing if the chunk is of one shape.
    """
    texts = [dtypes.leaf_values(frame, path) for path in _texts(frame)]
    if not any((text.str.head(1).is_in(["{", "["]) | text.is_in(NOT_TEXT)).any() for text in texts):
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


def _polars(data: bytes, schema: dtypes.Schema) -> pl.DataFrame:
    return pl.read_ndjson(data, schema=dict(schema))


def _replace_tokens(data: bytes, replacement: bytes) -> bytes:
    """Replaces `NaN`, `Infinity` and `-Infinity` where they are tokens, not inside of strings."""
    if not NOT_JSON_TOKEN.search(data):
        return data
    parts = STRING.split(data)  # the odd parts are the strings
    between = b"\0".join(parts[::2])
    parts[::2] = NOT_JSON_TOKEN.sub(replacement, between).split(b"\0")
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
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return f"not a JSON object: {error.msg} at column {error.colno}"
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
            value = json.loads(line)
        except (ValueError, RecursionError):
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


def _exact(chunk: Chunk, frame: pl.DataFrame, name: str) -> pl.DataType:
    """The dtype that holds a column's values exactly, where Polars chose one that may not."""
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
            wide = values.is_finite() & (values.abs() >= 2.0**53)
            if wide.any() and _has_inexact_integer(chunk, path):
                new[path] = pl.String()
    return dtypes.with_leaves(dtype, new, (name,))


def _has_inexact_integer(chunk: Chunk, path: dtypes.Path) -> bool:
    """Whether a leaf that reads as Float64 was written with an integer that Float64 rounds."""
    for _, line in chunk.lines():
        values = [json.loads(line)]
        for step in path:
            values = [
                item
                for value in values
                for item in (value if step == dtypes.ITEM else [value.get(step)])
                if item is not None
            ]
        if any(isinstance(v, int) and int(float(v)) != v for v in values):
            return True
    return False


def _refuse_lone_surrogates(chunk: Chunk) -> None:
    if b"\\ud" not in chunk.data and b"\\uD" not in chunk.data:
        return
    for row, (_, line) in enumerate(chunk.lines()):
        if b"\\u" not in line:
            continue
        try:
            text = json.dumps(json.loads(line), ensure_ascii=False)
        except (ValueError, RecursionError):
            continue  # reported as what it is when the line is parsed
        if LONE_SURROGATE.search(text):
            raise chunk.fault(row, "text with half of a surrogate pair, which is no character")
