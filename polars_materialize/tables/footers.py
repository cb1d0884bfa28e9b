"""The key-value metadata of Parquet files that become one file with other columns."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from polars_materialize import warm
from polars_materialize.tables.parquet import ARROW_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pyarrow as pa

    from polars_materialize.tables.parquet import Footer

PANDAS = b"pandas"
"""Where pandas keeps its own dtype of each column, and which columns are its index."""

TEXTS = ("unicode", "string", "str", "object", "mixed", "empty")
"""What pandas calls the type of column names that are text."""

SCHEMAS = (
    b"org.apache.spark.sql.parquet.row.metadata",
    b"parquet.avro.schema",
    b"avro.schema",
    b"iceberg.schema",
)
"""Where other writers list all columns; their readers would not see new ones, and misread replaced ones."""


class UnknownSchemaError(ValueError):
    """A file holds an Arrow schema that pyarrow does not read, or one of other columns than its own."""


def arrow_schema(footer: Footer) -> pa.Schema | None:
    """The Arrow schema that a file holds, if it holds one.

    Raises:
        UnknownSchemaError: If it is of no use.
    """
    text = footer.pairs.get(ARROW_SCHEMA)
    if text is None:
        return None
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - slow to import

    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
        names = schema.names
    except (pa.ArrowException, ValueError, OSError) as error:  # of Polars' Int128, say
        raise UnknownSchemaError(str(error)) from None
    if names != list(footer.columns):
        raise UnknownSchemaError("it has other columns than the file")
    return schema


def merged_schema(
    tables: Sequence[pa.Schema], added: pa.Schema, names: Sequence[str], pairs: Mapping[bytes, bytes]
) -> bytes:
    """One Arrow schema of those of files and of new columns, as writers keep it: in base 64.

    Args:
        tables: The schemas of the files, which are alike.
        added: The schema of the new columns.
        names: All columns in their order.
        pairs: The metadata of the file to write; the schema repeats what those of the files have.
    """
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - slow to import

    fields = {field.name: field for field in (*tables[0], *added)}
    own = {name for table in tables for name in table.metadata or {}}
    metadata = {name: value for name, value in pairs.items() if name in own}
    schema = pa.schema([fields[name] for name in names], metadata=metadata or None)
    return base64.b64encode(schema.serialize())


def merged_pairs(
    files: Sequence[tuple[Footer, pa.Schema | None]], added: Collection[str]
) -> dict[bytes, bytes]:
    """What is true of one file that is made of several: their metadata, but for the Arrow schema.

    Left out is what files say differently, since none of it is true of all rows, and what lists the columns
    as they were. pandas' own metadata is kept without the columns that are new now.

    Args:
        files: The footer of each file, and the Arrow schema that it holds, which may have metadata, too.
        added: The columns that are new, or take the place of old ones.
    """
    found: dict[bytes, set[bytes]] = {}
    for footer, schema in files:
        own = {**((schema and schema.metadata) or {}), **footer.pairs}
        for name, value in own.items():
            if name == PANDAS:
                found.setdefault(name, set()).add(_pandas(value, added, alone=len(files) == 1))
            elif name not in (ARROW_SCHEMA, *SCHEMAS):
                found.setdefault(name, set()).add(value)
    return {name: min(values) for name, values in found.items() if len(values) == 1 and min(values)}


def _pandas(text: bytes, added: Collection[str], *, alone: bool) -> bytes:
    """What pandas says of columns, less what it says of new ones; nothing if it cannot be read.

    An index that is not in a column counts the rows of its own file only.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        content["columns"] = [
            column for column in content["columns"] if column.get("field_name", column["name"]) not in added
        ]
        content["index_columns"] = [
            index
            for index in content["index_columns"]
            if (index not in added if isinstance(index, str) else alone)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return b""
    labels = content.get("column_indexes") or []
    if len(labels) > 1 or any(label.get("pandas_type") not in TEXTS for label in labels):
        # The names of new columns are text, which pandas would read as a number or as several levels.
        content["column_indexes"] = []
    return json.dumps(content).encode()
