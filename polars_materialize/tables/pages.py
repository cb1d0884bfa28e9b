"""The pages of a Parquet column chunk, looked through as its bytes are copied.

Each page begins with a header that says how long it is. So a chunk whose pages do not fill it exactly, or do
not hold as many values as the footer says, is damaged; and so is a page that has a checksum which is not that
of its bytes. Nothing is decompressed or decoded.
"""

from __future__ import annotations

import zlib

from polars_materialize.tables import thrift
from polars_materialize.tables.thrift import Struct

DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_2 = range(4)
KIND, PAGE_BYTES, CHECKSUM = 1, 3, 4  # PageHeader
VALUES = {DATA_PAGE: 5, DATA_PAGE_2: 8}
"""The field of a page's header that holds the header of its kind, which begins with its number of values."""
HEADER_BYTES = 2**9
"""How much of a page is looked at first, since most headers are much shorter."""
LONGEST_HEADER = 2**24
"""A header holds the least and the greatest value of its page, so it may be long."""


class PageError(Exception):
    """The pages of a chunk are not what they say."""


class Pages:
    """Looks through the pages of one chunk, piece by piece."""

    def __init__(self, values: int) -> None:
        """Begins with a chunk.

        Args:
            values: How many values the footer says that it has.
        """
        self._values = values
        self._held = b""  # the beginning of a header
        self._left = 0  # bytes of the page
        self._checksum: int | None = None
        self._sum = 0

    def add(self, piece: memoryview) -> None:
        """Looks at the next bytes.

        Raises:
            PageError: If they are no pages, or not the ones that were written.
        """
        while piece:
            if self._left:
                part = piece[: self._left]
                if self._checksum is not None:
                    self._sum = zlib.crc32(part, self._sum)
                self._left -= len(part)
                piece = piece[len(part) :]
                self._end_page()
            else:
                piece = piece[self._begin_page(piece) :]

    def end(self) -> None:
        """Notes that there are no more bytes.

        Raises:
            PageError: If there should be some.
        """
        if self._left or self._held:
            raise PageError("a page is cut off")
        if self._values:
            raise PageError("its pages do not hold as many values as the footer says")

    def _begin_page(self, piece: memoryview) -> int:
        """Reads the header of a page; returns how many bytes of the piece it took."""
        size = HEADER_BYTES
        while True:
            data = self._held + bytes(piece[:size])
            try:
                header, length = thrift.decode_first(data)
            except thrift.CutOffError:
                if len(data) > LONGEST_HEADER:
                    raise PageError("the header of a page has no end") from None
                if size < len(piece):
                    size *= 8
                    continue
                self._held = data
                return len(piece)
            except ValueError:
                raise PageError("the header of a page cannot be read") from None
            taken = length - len(self._held)
            self._held = b""
            self._look_at(header)
            return taken

    def _look_at(self, header: Struct) -> None:
        kind, size = header.get(KIND), header.get(PAGE_BYTES)
        if kind not in (DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_2):
            raise PageError("there is no page where the footer says that one begins")
        if not isinstance(size, int) or size < 0:
            raise PageError("a page does not say how long it is")
        if kind in VALUES:
            own = header.get(VALUES[kind])
            values = own.get(1) if isinstance(own, Struct) else None
            if not isinstance(values, int) or not 0 <= values <= self._values:
                raise PageError("its pages do not hold as many values as the footer says")
            self._values -= values
        checksum = header.get(CHECKSUM)
        self._checksum = checksum & 0xFFFFFFFF if isinstance(checksum, int) else None
        self._left, self._sum = size, 0
        self._end_page()

    def _end_page(self) -> None:
        if not self._left and self._checksum is not None:
            if self._sum != self._checksum:
                raise PageError("a page has another checksum than its bytes")
            self._checksum = None
