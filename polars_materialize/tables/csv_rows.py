"""CSV text cut into pieces of whole rows.

pyarrow would cut it by itself, but loses the line feed of a quoted `\\r\\n` that two of its blocks share, and
takes no row that is longer than a block.
"""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, BinaryIO

from polars_materialize import warm
from polars_materialize.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Buffer

    from polars_materialize.tables.files import File

BOM = b"\xef\xbb\xbf"
LONGEST_ROW = 2**30
"""A row that is longer is most often a quote that nothing closes."""
LINE_END = re.compile(rb"\r\n|\n|\r")
QUOTE, BEFORE_QUOTES = ord('"'), b',\n\r"'


def pieces(file: File, size: int, skipped: int) -> Iterator[bytes]:
    """Cuts a file into pieces of whole rows.

    Args:
        file: The file.
        size: About how many bytes a piece has.
        skipped: How many lines at its beginning are left out.

    Raises:
        TableError: If a row has no end.
    """
    with file.open() as stream:
        for piece in _cut(file, stream, size):
            rows = _without_lines(piece, skipped) if skipped else piece
            skipped = 0  # a header is one row, so it is whole in the first piece
            if rows:
                yield rows


def _without_lines(data: bytes, count: int) -> bytes:
    """What follows some lines."""
    ends = [match.end() for match, _ in zip(LINE_END.finditer(data), range(count), strict=False)]
    return data[ends[-1] :] if len(ends) == count else b""


def _cut(file: File, stream: BinaryIO, size: int) -> Iterator[bytes]:
    held = stream.read(len(BOM)).removeprefix(BOM) + stream.read(size)
    ahead = stream.read(1)  # most files are of one piece, and need not be looked at
    held, line, more = held + ahead, 1, bool(ahead)
    while held:
        end = _rows_end(held) if more else len(held)
        if end is None:
            yield from _by_row(held, stream, size)
            return
        if not end and len(held) > LONGEST_ROW:
            raise TableError(file.written, "a row of more than 1 GiB; is a quote not closed?", line=line)
        if end:
            yield held[:end]
            line += held.count(b"\n", 0, end)
            held = held[end:]
        if more:
            # Where a row is longer than a piece, as much again is read as there is of it.
            read = stream.read(max(size - len(held), len(held)))
            held, more = held + read, bool(read)


def _rows_end(data: bytes) -> int | None:
    """Where the last whole row ends; 0 if there is none, nothing if a quote stands within a cell.

    Where quotes begin only where cells do, a line end is that of a row if an even number of them came before.
    """
    quotes, end = data.count(b'"'), len(data)
    if quotes and not _begin_cells(data):
        return None
    while True:
        quote = data.rfind(b'"', 0, end)
        if quotes % 2 == 0:
            found = data.rfind(b"\n", quote + 1, end)
            if found < 0:  # after a carriage return at the very end there may yet be a line feed
                found = data.rfind(b"\r", quote + 1, min(end, len(data) - 1))
            if found >= 0:
                return found + 1
        if quote < 0:
            return 0
        quotes, end = quotes - 1, quote


def _begin_cells(data: bytes) -> bool:
    """Whether each quote that opens stands where a cell begins, or repeats the one that closes."""
    with warm.importing:
        import numpy as np  # noqa: PLC0415 - only large files with quotes need it

    content = np.frombuffer(data, np.uint8)
    before = np.flatnonzero(content == QUOTE)[::2] - 1
    begins = np.zeros(256, np.bool_)
    begins[list(BEFORE_QUOTES)] = True
    return bool(begins[content[before[before >= 0]]].all())


def _by_row(held: bytes, stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Cuts what was held, and what follows, row by row; which takes much longer."""
    # Bytes that are no text stay what they are: who reads them says where they are.
    both = io.BufferedReader(_Joined(held, stream))
    text = io.TextIOWrapper(both, encoding="utf-8", errors="surrogateescape", newline="")
    lines: list[str] = []
    length = 0

    def each() -> Iterator[str]:
        nonlocal length
        for line in text:
            lines.append(line)
            length += len(line)
            yield line

    for _ in csv.reader(each()):
        if length >= size:
            yield "".join(lines).encode(errors="surrogateescape")
            lines.clear()
            length = 0
    yield "".join(lines).encode(errors="surrogateescape")


class _Joined(io.RawIOBase):
    """Bytes, and then a stream."""

    def __init__(self, held: bytes, stream: BinaryIO) -> None:
        self._held = io.BytesIO(held)
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        data = self._held.read(len(view)) or self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)
