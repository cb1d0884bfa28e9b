"""Parquet files as they lie on the disk: column chunks, one after another, and a footer that knows them.

The format: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import base64
import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from polars_materialize.tables import thrift
from polars_materialize.tables.pages import PageError, Pages
from polars_materialize.tables.thrift import BINARY, I16, I32, I64, LIST, STRUCT, List, Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAGIC = b"PAR1"
ARROW_SCHEMA = b"ARROW:schema"
"""Where writers keep the Arrow schema that columns were made from."""

# The numbers of fields, of those that are looked at here.
SCHEMA, ROWS, GROUPS, PAIRS, ORDERS, ENCRYPTION = 2, 3, 4, 5, 7, 8  # FileMetaData
NAME, CHILDREN, CONVERTED = 4, 5, 6  # SchemaElement
INTERVAL = 21
CHUNKS, GROUP_BYTES, GROUP_ROWS, SORTING, GROUP_OFFSET, GROUP_COMPRESSED, ORDINAL = range(1, 8)  # RowGroup
ELSEWHERE, CHUNK_OFFSET, CHUNK_META = 1, 2, 3  # ColumnChunk
PAGE_INDEX = (4, 5, 6, 7)
CHUNK_ENCRYPTION = (8, 9)
PHYSICAL = 1  # ColumnMetaData
PATH, CODEC, VALUES, UNCOMPRESSED, COMPRESSED = range(3, 8)
DATA, INDEX, DICTIONARY = 9, 10, 11
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
    """The footer of a Parquet file; none if it is encrypted, keeps columns in other files, or is damaged.

    Raises:
        PageError: If the footer is whole, but the file ends before its columns do.
    """
    content, end = _footer_bytes(stream)
    try:
        meta = thrift.decode(content)
        footer = Footer(meta, *_columns(meta.get(SCHEMA).items))
        return footer if _is_plain(footer, end) else None
    except WRONG:
        return None


def intervals(stream: BinaryIO) -> list[str]:
    """The columns of a Parquet file that hold intervals; none if it is damaged."""
    try:
        schema = thrift.decode_first(_footer_bytes(stream)[0], until=SCHEMA)[0].get(SCHEMA)
        columns, _ = _columns(schema.items)
        return [name for name, parts in columns.items() if any(p.get(CONVERTED) == INTERVAL for p in parts)]
    except WRONG:
        return []


def stored_schema(stream: BinaryIO) -> bytes:
    """The Arrow schema that a Parquet file holds, as it is there; none if it holds none or is damaged."""
    try:
        content = _footer_bytes(stream)[0]
        key = content.rfind(ARROW_SCHEMA)
        if key < 0:
            return b""
        # What follows is the value of the pair, which is the next field of its struct.
        text = thrift.decode_first(content[key + len(ARROW_SCHEMA) :], until=1)[0].get(1, b"")
        return base64.b64decode(text)
    except WRONG:
        return b""


WRONG = (ValueError, RecursionError, RuntimeError, StopIteration, AttributeError, TypeError)
"""What comes of a footer whose values are not of the kinds that they should be."""


def _footer_bytes(stream: BinaryIO) -> tuple[bytes, int]:
    """The bytes of a footer, none if there is no whole one, and where they begin."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 8))
    tail = stream.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length + 12 > size:
        return b"", 0
    start = size - 8 - length
    stream.seek(start)
    return stream.read(length), start


def _is_plain(footer: Footer, end: int) -> bool:
    """Whether every chunk is in the file itself, ahead of `end`, and open to all."""
    width = sum(footer.leaves.values())
    rows = [group.get(GROUP_ROWS) for group in footer.groups]
    # Of a group without rows nothing is copied.
    chunks = [group.get(CHUNKS).items for group in footer.groups if group.get(GROUP_ROWS)]
    return (
        footer.meta.get(ENCRYPTION) is None
        and footer.meta.get(ROWS) == sum(rows)
        and min(rows, default=0) >= 0
        and all(len(some) == width for some in chunks)
        and all(_is_within(chunk, end) for some in chunks for chunk in some)
    )


def _is_within(chunk: Struct, end: int) -> bool:
    meta = chunk.get(CHUNK_META)
    if meta is None or any(chunk.get(number) for number in (ELSEWHERE, *CHUNK_ENCRYPTION)):
        return False
    first = first_page(meta)
    if min(first, *(meta.get(number) for number in (VALUES, UNCOMPRESSED, COMPRESSED))) < 0:
        return False
    if first + meta.get(COMPRESSED) > end:
        raise PageError(f"the file ends before its column {_name(meta)!r} does")
    return first >= len(MAGIC)


def _name(meta: Struct) -> str:
    """The name of a chunk's column."""
    name: str = b".".join(meta.get(PATH).items).decode()
    return name


def first_page(meta: Struct) -> int:
    """Where a chunk begins: with its dictionary, if it has one, which lies ahead of its data."""
    data: int = meta.get(DATA)
    dictionary = meta.get(DICTIONARY) or 0
    return dictionary if 0 < dictionary < data else data


def _columns(elements: Sequence[Struct]) -> tuple[dict[str, list[Struct]], dict[str, int]]:
    rest = iter(elements)
    columns: dict[str, list[Struct]] = {}
    leaves: dict[str, int] = {}
    for _ in range(next(rest).get(CHILDREN, 0)):
        column, count = _column(rest)
        name = column[0].get(NAME).decode()
        if name in columns:
            raise ValueError("two columns have one name")
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
            PageError: If the pages of a chunk are damaged.
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
        first = first_page(meta)
        shift = self._at - first
        sizes = meta.get(VALUES), meta.get(UNCOMPRESSED)
        pages = Pages(*sizes, is_packed=meta.get(CODEC) != 0, physical=meta.get(PHYSICAL))
        try:
            self._copy_bytes(source, first, meta.get(COMPRESSED), pages)
        except PageError as error:
            raise PageError(f"the column {_name(meta)!r} is damaged: {error}") from None
        if meta.get(DICTIONARY) == first:
            meta.set(DICTIONARY, I64, first + shift)
        else:
            meta.drop(DICTIONARY)
        meta.set(DATA, I64, meta.get(DATA) + shift)
        meta.drop(INDEX, *BLOOM_FILTER)  # no writer has ever made an index page
        moved = chunk.copy()
        moved.drop(*PAGE_INDEX)
        moved.set(CHUNK_OFFSET, I64, 0)  # what the format asks for where the footer has all there is
        moved.set(CHUNK_META, STRUCT, meta)
        return moved

    def _copy_bytes(self, source: BinaryIO, offset: int, count: int, pages: Pages) -> None:
        source.seek(offset)
        self._at += count
        while count:
            piece = self._buffer[: min(count, len(self._buffer))]
            got = source.readinto(piece)  # type: ignore[attr-defined]
            if not got:
                raise EOFError("the file ends before its columns do")
            pages.add(piece[:got])
            self._out.write(piece[:got])
            count -= got
        pages.end()

    def end(self, table: Footer, added: Footer, pairs: Mapping[bytes, bytes]) -> None:
        """Writes the footer.

        Args:
            table: The footer of the table without the new columns.
            added: A footer of the new columns.
            pairs: The key-value metadata.
        """
        columns = {**table.columns, **added.columns}
        root = table.meta.get(SCHEMA).items[0].copy()
        root.set(CHILDREN, I32, len(self._names))
        elements = [root, *itertools.chain.from_iterable(columns[name] for name in self._names)]
        meta = table.meta.copy()
        meta.set(SCHEMA, LIST, List(STRUCT, elements))
        meta.set(ROWS, I64, self._rows)
        meta.set(GROUPS, LIST, List(STRUCT, self._groups))
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
