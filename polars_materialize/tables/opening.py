"""One file of a table: its schema, and its rows as a LazyFrame.

Text files are read through once to find a schema that holds every value of theirs.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from polars_materialize.errors import TableError
from polars_materialize.tables import chunks, csv, dtypes, jsonl, strict
from polars_materialize.tables.failures import FAILURES, unreadable
from polars_materialize.tables.readers import lazily
from polars_materialize.tables.scans import parquet_schema, scan_ipc, scan_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from polars_materialize.tables.files import File


ZSTD = b"\x28\xb5\x2f\xfd"
"""How a frame of zstd begins that is not to be skipped."""


class Kept:
    """Rows of files that were parsed to find their schema, as long as they are few."""

    def __init__(self, limit: int) -> None:
        """Begins with none, and room for `limit` bytes."""
        self._limit = self._left = limit
        self._parts: dict[str, list[pl.DataFrame] | None] = {}

    def add(self, file: File, part: pl.DataFrame) -> None:
        """Keeps rows, or lets go of all of the file's."""
        parts = self._parts.setdefault(file.written, [])
        if parts is None or not part.height:
            return
        size = int(part.estimated_size())
        # Rows without any field have no columns that could be filled up.
        if self._limit and size <= self._left and part.width:
            self._left -= size
            parts.append(part)
        else:
            self._left += sum(int(known.estimated_size()) for known in parts)
            self._parts[file.written] = None

    def table(self, file: File, schema: pl.Schema, mixed: frozenset[dtypes.Path]) -> pl.LazyFrame | None:
        """The rows of a file, if they were kept, and were parsed as the whole of the table has to be."""
        parts = self._parts.get(file.written)
        if not parts or mixed:
            return None
        if any(dtype not in (schema[n], pl.Null()) for part in parts for n, dtype in part.schema.items()):
            return None
        whole = []
        for part in parts:
            absent = (name for name, dtype in schema.items() if part.schema.get(name) != dtype)
            nulls = {name: pl.lit(None, schema[name]) for name in absent}
            whole.append(part.with_columns(**nulls).select(schema.names()))
        return pl.concat(whole, how="vertical").lazy()


def inspect(file: File, key_columns: Sequence[str], kept: Kept) -> dtypes.Profile:
    """A file's schema, and what else decides how it is read."""
    profile = dtypes.Profile()
    try:
        if file.format == "parquet":
            return dtypes.Profile(schema=dict(parquet_schema(file)))
        if file.format == "ipc":
            return dtypes.Profile(schema=dict(scan_ipc(file).collect_schema()))
        if file.format == "csv":
            return csv.infer(file, key_columns)
        rows = _infer_json(file, profile, kept)
    except FAILURES as error:
        raise unreadable(file.written, error) from None
    if not rows and file.format == "jsonl":
        raise TableError(file.written, chunks.EMPTY)
    profile.plain &= file.format == "jsonl"
    return profile


def _infer_json(file: File, profile: dtypes.Profile, kept: Kept) -> int:
    """Infers the schema of JSON, chunks side by side; returns how many rows there are."""
    rows = 0
    for part in strict.read_all(_json_chunks(file)):
        profile.merge(part.profile)
        kept.add(file, part.frame)
        rows += part.frame.height
        for name, _ in file.partitions:
            absent = pl.Series(name, [None] * min(part.frame.height, 1))
            profile.hold(part.frame.get_column(name, default=absent))
    return rows


def scan(file: File, schema: pl.Schema, mixed: frozenset[dtypes.Path], *, plain: bool) -> pl.LazyFrame:
    """A file's rows, given what `inspect` has found of it.

    Args:
        file: The file.
        schema: Its columns, with their dtypes in the whole table.
        mixed: Where lists and objects are to become JSON text.
        plain: Whether Polars' own scan reads the same.
    """
    if file.format == "parquet":
        return scan_parquet(file)
    if file.format == "ipc":
        return scan_ipc(file)
    # A scan by path would not keep a copy.
    plain = plain and isinstance(file.path, Path) and _is_seen_as_compressed(file)
    # scan_ndjson has no way to say that a path is no glob.
    if plain and file.format == "jsonl" and not glob.has_magic(str(file.path)):
        return pl.scan_ndjson(file.local(), schema=dict(schema))
    if plain and file.format == "csv":
        return csv.scan(file, schema)

    return lazily(lambda columns: _read(file, schema, columns, mixed), schema, file.path)


def _is_seen_as_compressed(file: File) -> bool:
    """Whether Polars decompresses a file that is compressed: not if a zstd frame to skip comes first."""
    if file.compression != "zstd":
        return True
    with file.path.open("rb") as stream:
        return stream.read(len(ZSTD)) == ZSTD


def _read(
    file: File, schema: pl.Schema, columns: list[str], mixed: frozenset[dtypes.Path]
) -> Iterator[pl.DataFrame]:
    yield pl.DataFrame(schema={name: schema[name] for name in columns})
    if file.format == "csv":
        yield from csv.read(file, schema, columns)
        return
    # Without any column the rows still have to be counted.
    wanted = {name: schema[name] for name in columns or list(schema)[:1]}
    for chunk in _json_chunks(file):
        yield jsonl.parse(chunk, wanted, mixed).select(columns)


def _json_chunks(file: File) -> Iterator[chunks.Chunk]:
    if file.format == "jsonl":
        return chunks.read_lines(file)
    return (chunk for chunk, _ in chunks.read_documents([file], ("rows",), single=False))
