"""Which types of old columns change where a table is written by Polars, and not copied.

Polars has fewer types than Arrow. Where chunks are copied as they are this does not matter; where rows are
read and written, a column that Polars has no type for comes out as the nearest one that it has, with the same
values. That is told, not passed over.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import polars as pl

from polars_materialize import warm
from polars_materialize.stores import Url

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import pyarrow as pa

    from polars_materialize.tables.files import File

MOST_FILES = 100
"""Of how many files of a table the types are looked at; they agree, or the table is refused."""


def changed_types(
    files: Sequence[File], schema: pl.Schema, output: File, added: Collection[str]
) -> list[str]:
    """What a reader should know of columns whose types Polars does not keep, in words.

    Args:
        files: The files of the table.
        schema: Its columns as they are written.
        output: What is written.
        added: The columns that are new.
    """
    if output.format not in ("parquet", "ipc"):
        return []
    sources = [file for file in files[:MOST_FILES] if file.format in ("parquet", "ipc")]
    sources = [file for file in sources if not isinstance(file.path, Url) or file.path.copied]
    if not sources:
        return []
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - slow to import

    changes: dict[str, str] = {}
    has_index = False
    try:
        written = _as_written(schema, output)
        for file in sources:
            own = _schema_of(file)
            has_index |= _has_index(own)
            for field in own:
                if field.name in added or field.name not in written.names:
                    continue
                new = written.field(field.name).type
                if _plain(field.type) != _plain(new):
                    change = f"the column {field.name!r} is {field.type}, written as {new}"
                    changes.setdefault(field.name, change)
    except (pa.ArrowException, ValueError, OSError):  # a type of Polars alone, which it keeps
        return []
    found = list(changes.values())
    if has_index:
        found.append("the index that pandas has noted is written as ordinary columns")
    return found


def _as_written(schema: pl.Schema, output: File) -> pa.Schema:
    """What Arrow reads of a table of these columns that Polars wrote."""
    frame, stream = pl.DataFrame(schema=schema), io.BytesIO()
    if output.format == "parquet":
        frame.write_parquet(stream)
    else:
        frame.write_ipc(stream, compat_level=pl.CompatLevel.oldest())
    stream.seek(0)
    return _read_schema(stream, output.format)


def _schema_of(file: File) -> pa.Schema:
    with file.local().open("rb") as stream:
        return _read_schema(stream, file.format)


def _read_schema(stream: io.BufferedIOBase, format: str) -> pa.Schema:  # noqa: A002 - as files call it
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415

    if format == "parquet":
        return pq.read_schema(stream)
    magic = stream.read(6)
    stream.seek(0)
    return (pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream)(stream).schema


def _plain(dtype: pa.DataType) -> str:
    """A type less what no reader minds: how long texts and lists may be, and how categories are numbered."""
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415

    kinds = pa.types
    if isinstance(dtype, pa.BaseExtensionType):
        return str(dtype)
    if kinds.is_string(dtype) or kinds.is_large_string(dtype) or str(dtype) == "string_view":
        return "string"
    if kinds.is_binary(dtype) or kinds.is_large_binary(dtype) or str(dtype) == "binary_view":
        return "binary"
    if kinds.is_list(dtype) or kinds.is_large_list(dtype) or str(dtype).endswith("list_view"):
        return f"list<{_plain(dtype.value_type)}>"
    if kinds.is_fixed_size_list(dtype):
        return f"list<{_plain(dtype.value_type)}>[{dtype.list_size}]"
    if kinds.is_map(dtype):
        return f"map<{_plain(dtype.key_type)}, {_plain(dtype.item_type)}>"
    if kinds.is_struct(dtype):
        parts = (f"{field.name!r}: {_plain(field.type)}" for field in dtype)
        return f"struct<{', '.join(parts)}>"
    if kinds.is_dictionary(dtype):
        return f"dictionary<{_plain(dtype.value_type)}, {dtype.ordered}>"
    return str(dtype)


def _has_index(schema: pa.Schema) -> bool:
    """Whether pandas has noted columns that are an index."""
    try:
        index = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))["index_columns"]
        return any(isinstance(column, str) for column in index)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
