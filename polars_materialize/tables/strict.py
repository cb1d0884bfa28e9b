"""JSON lines whose schema is known from earlier lines: read in one pass, and proved, or not read at all.

To find the schema of lines and then to parse them takes two passes, and proofs of what Polars would lose in
silence. Most often the first lines have all there is to know. So what follows them is given to pyarrow's
reader, which is strict where it is told all fields: it refuses a field that it was not told of, one that an
object has twice, a value of another kind, and half a surrogate pair. What it would take and should not is
looked for here. Lines that it refuses are read as if there had been none before them.
"""

from __future__ import annotations

import math
import re
import sys
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from polars_materialize import warm
from polars_materialize.tables import dtypes, jsonl
from polars_materialize.tables.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from polars_materialize.tables.chunks import Chunk


MISSES = 3
"""After how many chunks that were refused a file's schema is no longer tried on the next."""
OPENS, CLOSES, CARRIAGE_RETURN = b"{}\r"
ODD_NUMBER = re.compile(rb"-NaN|-0(?![.\d])")
"""What pyarrow takes for NaN or -0.0, and this package does not."""


class Part(NamedTuple):
    """The rows of a chunk.

    Attributes:
        chunk: Where they come from.
        profile: What was seen of their columns.
        frame: The rows.
        known: Whether they are as earlier rows let expect.
    """

    chunk: Chunk
    profile: dtypes.Profile
    frame: pl.DataFrame
    known: bool


def read_all(chunks: Iterable[Chunk]) -> Iterator[Part]:
    """Reads the chunks of a file, several at a time; the first alone, to know what to expect.

    Raises:
        TableError: If a line is not a JSON object; names the line.
    """
    chunks = iter(chunks)
    found = dtypes.Profile()
    misses = 0

    def expected() -> dict[str, pl.DataType]:
        return found.schema if misses < MISSES else {}

    first = (_read((chunk, expected())) for chunk in islice(chunks, 1))
    # What is expected of a chunk are fields of earlier ones, so fields stay in the order of their appearance.
    for part in chain(first, in_order(_read, ((chunk, expected()) for chunk in chunks))):
        misses += bool(found.schema) and not part.known
        found.merge(part.profile)
        yield part
    if "pyarrow" in sys.modules:  # it would keep for itself what others have use for
        with warm.importing:  # another thread may have imported half of it
            import pyarrow as pa  # noqa: PLC0415
        pa.default_memory_pool().release_unused()


def _read(item: tuple[Chunk, dtypes.Schema]) -> Part:
    chunk, schema = item
    profile = dtypes.Profile()
    frame = read(chunk, schema)
    if frame is None:
        return Part(chunk, profile, jsonl.infer(chunk, profile), known=False)
    profile.plain = not chunk.bom and all(values.is_finite().all() for values in _floats(frame))
    profile.add(frame, frame.schema)
    return Part(chunk, profile, frame, known=True)


def read(chunk: Chunk, schema: dtypes.Schema) -> pl.DataFrame | None:
    """The rows of a chunk, if they have no other fields and kinds of values than `schema` says.

    Then they are the rows that `jsonl.infer` gives, but for columns that have no value in the chunk, and for
    integers in columns of Float64.
    """
    if not schema or not all(_is_strict(dtype) for dtype in schema.values()):
        return None
    lines = _objects(chunk)
    if not lines or not _is_utf8(chunk.data):
        return None
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - only large files of JSON lines need it
        import pyarrow.json as pa_json  # noqa: PLC0415

    try:
        table = pa_json.read_json(
            pa.BufferReader(chunk.data),
            read_options=pa_json.ReadOptions(use_threads=False),
            parse_options=pa_json.ParseOptions(
                explicit_schema=pa.schema([(name, _arrow(dtype)) for name, dtype in schema.items()]),
                unexpected_field_behavior="error",
            ),
        )
    except pa.ArrowException:
        return None
    frame = pl.DataFrame(table)
    if frame.height != lines or list(frame.schema.items()) != list(schema.items()):
        return None
    return frame if _are_exact(chunk, frame) else None


def _is_strict(dtype: pl.DataType) -> bool:
    """Whether pyarrow reads a dtype exactly or not at all."""
    if isinstance(dtype, pl.List):
        inner = dtypes.instance(dtype.inner)
        return inner != pl.Null() and _is_strict(inner)  # of lists of nulls pyarrow 26 loses count
    if isinstance(dtype, pl.Struct):
        return bool(dtype.fields) and all(_is_strict(dtypes.instance(part.dtype)) for part in dtype.fields)
    return dtype in (pl.Null(), pl.Boolean(), pl.Int64(), pl.Float64(), pl.String())


def _objects(chunk: Chunk) -> int:
    """How many lines there are, if each begins and ends as an object does; else 0.

    Within an object no `}` and `{` stand side by side, so then none goes over a line's end. If there are as
    many objects as lines, each line is one. (This comes first: pyarrow 26 crashes on a line `null`.)
    """
    with warm.importing:
        import numpy as np  # noqa: PLC0415 - only large files of JSON lines need it

    data = np.frombuffer(chunk.data, np.uint8)
    ends = chunk.ends
    starts = np.concatenate(([0], ends + 1))
    if starts[-1] == len(data):
        starts = starts[:-1]
    else:
        ends = np.append(ends, len(data))
    if (ends - starts < 2).any():  # a blank line, which may be all that there is
        return 0
    last = data[ends - 1]
    last = np.where(last == CARRIAGE_RETURN, data[ends - 2], last)
    return len(starts) if (data[starts] == OPENS).all() and (last == CLOSES).all() else 0


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _arrow(dtype: pl.DataType) -> pa.DataType:
    """What pyarrow's reader calls a dtype."""
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415

    if isinstance(dtype, pl.List):
        return pa.list_(_arrow(dtypes.instance(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pa.struct([(part.name, _arrow(dtypes.instance(part.dtype))) for part in dtype.fields])
    scalars = {pl.Boolean(): pa.bool_(), pl.Int64(): pa.int64(), pl.Float64(): pa.float64()}
    return {**scalars, pl.String(): pa.string()}.get(dtype, pa.null())


def _are_exact(chunk: Chunk, frame: pl.DataFrame) -> bool:
    """Whether no number of Float64 may stand for something else.

    That is: an integer that Float64 rounds, a number that rounds to infinity, or what `ODD_NUMBER` finds.
    """
    odd = False
    for values in _floats(frame):
        ends = values.min(), values.max()  # NaN counts for neither
        if any(abs(float(end or 0.0)) >= 2.0**53 for end in ends):  # type: ignore[arg-type]
            return False
        odd |= math.isnan(values.sum())
        if (values == 0.0).any():
            odd |= bool((1.0 / values.filter(values == 0.0) < 0.0).any())
    return not (odd and ODD_NUMBER.search(chunk.data))


def _floats(frame: pl.DataFrame) -> Iterator[pl.Series]:
    for name, dtype in frame.schema.items():
        for path, leaf in dtypes.leaves(dtype, (name,)):
            if leaf == pl.Float64():
                yield dtypes.leaf_values(frame, path)
