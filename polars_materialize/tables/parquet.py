"""Parquet files as they lie on the disk: column chunks, one after another, and a footer that knows them.

The format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import base64
import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from polars_materialize import warm
from polars_materialize.tables import thrift
from polars_materialize.tables.thrift import BINARY, I16, I32, I64, LIST, STRUCT, List, Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAGIC = b"PAR1"
ARROW_SCHEMA = b"ARROW:schema"
"""Where writers keep the Arrow schema that columns were made from."""

# The numbers of fields, of those that are looked at here.
SCHEMA, ROWS, GROUPS, PAIRS, ORDERS, ENCRYPTION = 2, 3, 4, 5, 7, 8  # FileMetaData
NAME, CHILDREN = 4, 5  # SchemaElement
CHUNKS, GROUP_BYTES, GROUP_ROWS, SORTING, GROUP_OFFSET, GROUP_COMPRESSED, ORDINAL = range(1, 8)  # RowGroup
ELSEWHERE, CHUNK_OFFSET, CHUNK_META = 1, 2, 3  # ColumnChunk
PAGE_INDEX = (4, 5, 6, 7)
CHUNK_ENCRYPTION = (8, 9)
UNCOMPRESSED, COMPRESSED = 6, 7  # ColumnMetaData
PAGES = (9, 10, 11)
BLOOM_FILTER = (14, 15)


@dataclass(frozen=True)
class Footer:
    """The footer of a Parquet file.

    Attributes:
        meta: Its `FileMetaData`.
        columns: For each column of the table its schema: a tree of elements, depth first.
        leaves: For each column how many chunks it has in a row group.
    """

    meta: Struct
    columns: dict[str, list[Struct]]
    leaves: dict[str, int]

    @property
    def groups(self) -> list[Struct]:
        """The row groups."""
        groups: list[Struct] = self.meta.get(GROUPS).items
        return groups

    @property
    def pairs(self) -> dict[bytes, bytes]:
        """The key-value metadata."""
        return {pair.get(1): pair.get(2, b"") for pair in self.meta.get(PAIRS, List(STRUCT, [])).items}

    def chunks(self, group: Struct) -> dict[str, list[Struct]]:
        """The chunks of a row group by column."""
        chunks = iter(group.get(CHUNKS).items)
        return {name: list(itertools.islice(chunks, count)) for name, count in self.leaves.items()}

    def orders(self) -> dict[str, list[Struct]] | None:
        """How the values of columns are ordered in statistics, by column, if the file says so."""
        if self.meta.get(ORDERS) is None:
            return None
        orders = iter(self.meta.get(ORDERS).items)
        return {name: list(itertools.islice(orders, count)) for name, count in self.leaves.items()}


def read_footer(stream: BinaryIO) -> Footer | None:
    """The footer of a Parquet file; none if it is encrypted, keeps columns in other files, or is damaged."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 8))
    tail = stream.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length + 12 > size:
        return None
    stream.seek(size - 8 - length)
    try:
        meta = thrift.decode(stream.read(length))
        footer = Footer(meta, *_columns(meta.get(SCHEMA).items))
    except (ValueError, RecursionError, StopIteration, AttributeError):
        return None
    return footer if _is_plain(footer) else None


def _is_plain(footer: Footer) -> bool:
    """Whether every chunk is in the file itself, and open to all."""
    chunks = [chunk for group in footer.groups for chunk in group.get(CHUNKS).items]
    sealed = (ELSEWHERE, *CHUNK_ENCRYPTION)
    return footer.meta.get(ENCRYPTION) is None and all(
        chunk.get(CHUNK_META) is not None and not any(chunk.get(number) for number in sealed)
        for chunk in chunks
    )


def _columns(elements: Sequence[Struct]) -> tuple[dict[str, list[Struct]], dict[str, int]]:
    rest = iter(elements)
    columns: dict[str, list[Struct]] = {}
    leaves: dict[str, int] = {}
    for _ in range(next(rest).get(CHILDREN, 0)):
        column, count = _column(rest)
        name = column[0].get(NAME).decode()
        columns[name], leaves[name] = column, count
    return columns, leaves


def _column(rest: Iterator[Struct]) -> tuple[list[Struct], int]:
    """The next element with all below it, and how many of them are leaves."""
    element = next(rest)
    column, leaves = [element], 0
    for _ in range(element.get(CHILDREN, 0)):
        part, count = _column(rest)
        column += part
        leaves += count
    return column, leaves or 1


class ParquetWriter:
    """Writes a file of row groups whose chunks come, as they are, from other files."""

    def __init__(self, out: BinaryIO, names: Sequence[str]) -> None:
        """Begins a file.

        Args:
            out: What to write to, at its beginning.
            names: The columns in their order.
        """
        self._out = out
        self._names = names
        self._groups: list[bytes] = []  # encoded: as structs they would take fifty times as much
        self._rows = 0
        self._buffer = memoryview(bytearray(2**20))
        self._at = out.write(MAGIC)

    def add_group(self, group: Struct, parts: Mapping[str, tuple[BinaryIO, list[Struct]]]) -> None:
        """Writes a row group.

        Args:
            group: What it is like, but for its chunks.
            parts: For each column its chunks, and the file that they are in.

        Raises:
            EOFError: If a file ends before its chunks do.
        """
        start = self._at
        chunks = [self._copy(parts[name][0], chunk) for name in self._names for chunk in parts[name][1]]
        metas = [chunk.get(CHUNK_META) for chunk in chunks]
        written = group.copy()
        written.set(CHUNKS, LIST, List(STRUCT, chunks))
        written.set(GROUP_BYTES, I64, sum(meta.get(UNCOMPRESSED) for meta in metas))
        written.set(GROUP_OFFSET, I64, start)
        written.set(GROUP_COMPRESSED, I64, sum(meta.get(COMPRESSED) for meta in metas))
        written.set(ORDINAL, I16, len(self._groups) % 2**15)
        written.drop(SORTING)  # says by their numbers which columns it is sorted by, and those may change
        self._groups.append(thrift.encode(written))
        self._rows += written.get(GROUP_ROWS)

    def _copy(self, source: BinaryIO, chunk: Struct) -> Struct:
        """Copies a chunk's pages; what points to them is moved, what points elsewhere is left out."""
        meta = chunk.get(CHUNK_META).copy()
        # A dictionary lies before the pages that use it; 0 means that there is none.
        first = min(meta.get(number) for number in PAGES if meta.get(number))
        shift = self._at - first
        self._copy_bytes(source, first, meta.get(COMPRESSED))
        for number in PAGES:
            if meta.get(number):
                meta.set(number, I64, meta.get(number) + shift)
        meta.drop(*BLOOM_FILTER)
        moved = chunk.copy()
        moved.drop(*PAGE_INDEX)
        moved.set(CHUNK_OFFSET, I64, chunk.get(CHUNK_OFFSET) + shift if chunk.get(CHUNK_OFFSET) else 0)
        moved.set(CHUNK_META, STRUCT, meta)
        return moved

    def _copy_bytes(self, source: BinaryIO, offset: int, count: int) -> None:
        source.seek(offset)
        self._at += count
        while count:
            piece = self._buffer[: min(count, len(self._buffer))]
            got = source.readinto(piece)  # type: ignore[attr-defined]
            if not got:
                raise EOFError("the file ends before its columns do")
            self._out.write(piece[:got])
            count -= got

    def end(self, table: Footer, added: Footer, metadata: Mapping[str, str]) -> None:
        """Writes the footer.

        Args:
            table: The footer of the table without the new columns.
            added: A footer of the new columns.
            metadata: Key-value metadata beside the table's.
        """
        columns = {**table.columns, **added.columns}
        root = table.meta.get(SCHEMA).items[0].copy()
        root.set(CHILDREN, I32, len(self._names))
        elements = [root, *itertools.chain.from_iterable(columns[name] for name in self._names)]
        meta = table.meta.copy()
        meta.set(SCHEMA, LIST, List(STRUCT, elements))
        meta.set(ROWS, I64, self._rows)
        meta.set(GROUPS, LIST, List(STRUCT, self._groups))
        pairs = {**table.pairs, **{name.encode(): text.encode() for name, text in metadata.items()}}
        if ARROW_SCHEMA in pairs:
            pairs[ARROW_SCHEMA] = _arrow_schema(pairs[ARROW_SCHEMA], added.pairs[ARROW_SCHEMA], self._names)
        entries = [Struct({1: (BINARY, name), 2: (BINARY, value)}) for name, value in pairs.items()]
        meta.set(PAIRS, LIST, List(STRUCT, entries))
        orders, others = table.orders(), added.orders()
        if orders is None or others is None:
            meta.drop(ORDERS)
        else:
            both = {**orders, **others}
            found = itertools.chain.from_iterable(both[name] for name in self._names)
            meta.set(ORDERS, LIST, List(STRUCT, list(found)))
        footer = thrift.encode(meta)
        self._out.write(footer + len(footer).to_bytes(4, "little") + MAGIC)


def _arrow_schema(table: bytes, added: bytes, names: Sequence[str]) -> bytes:
    """One Arrow schema of two, as writers keep it: a message of Arrow's own format, in base 64."""
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - slow to import

    one, other = (pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text))) for text in (table, added))
    fields = {name: one.field(name) for name in one.names} | {name: other.field(name) for name in other.names}
    both = pa.schema([fields[name] for name in names], metadata=one.metadata)
    return base64.b64encode(both.serialize())
