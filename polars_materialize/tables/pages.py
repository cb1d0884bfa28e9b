"""The pages of a Parquet column chunk, looked through as its bytes are copied.

Each page begins with a header that says how long it is. So a chunk whose pages do not fill it exactly, or do
not hold as many values or unpack to as many bytes as the footer says, is damaged; and so is a page whose
header has a value of another kind or beyond its bounds, or a checksum that is not that of its bytes. Nothing
is decompressed or decoded.
"""

from __future__ import annotations

import zlib

from polars_materialize.tables import thrift
from polars_materialize.tables.thrift import BINARY, FALSE, I32, I64, STRUCT, TRUE, Struct

DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_2 = range(4)
KIND, UNPACKED_BYTES, PAGE_BYTES, CHECKSUM = 1, 2, 3, 4  # PageHeader
OWN = {DATA_PAGE: 5, INDEX_PAGE: 6, DICTIONARY_PAGE: 7, DATA_PAGE_2: 8}
"""The field of a page's header that holds the header of its kind."""
BOOLEAN = TRUE
STATISTICS = {1: BINARY, 2: BINARY, 3: I64, 4: I64, 5: BINARY, 6: BINARY, 7: BOOLEAN, 8: BOOLEAN}
KINDS: dict[int, dict[int, int]] = {
    DATA_PAGE: {1: I32, 2: I32, 3: I32, 4: I32, 5: STRUCT},
    INDEX_PAGE: {},
    DICTIONARY_PAGE: {1: I32, 2: I32, 3: BOOLEAN},
    DATA_PAGE_2: {1: I32, 2: I32, 3: I32, 4: I32, 5: I32, 6: I32, 7: BOOLEAN, 8: STRUCT},
}
"""The types of the fields of those headers; fields that are not known here may be of any."""
NEEDED = {DATA_PAGE: 4, INDEX_PAGE: 0, DICTIONARY_PAGE: 2, DATA_PAGE_2: 6}
"""How many of those fields, the first ones, each header must have."""
ENCODINGS = {DATA_PAGE: (2, 3, 4), INDEX_PAGE: (), DICTIONARY_PAGE: (2,), DATA_PAGE_2: (4,)}
"""The fields that name encodings, which are numbered up to `LAST_ENCODING`."""
LAST_ENCODING = 9
LARGEST = 2**31 - 1
DICTIONARY_ENCODINGS = (0, 2)
WIDTHS = {1: 4, 2: 8, 3: 12, 4: 4, 5: 8}
"""How many bytes a value of each physical type of fixed width takes in a dictionary."""
BYTE_ARRAY, LENGTH_BYTES = 6, 4
"""How many a text takes at least."""
HEADER_BYTES = 2**9
"""How much of a page is looked at first, since most headers are much shorter."""
LONGEST_HEADER = 2**24
"""A header holds the least and the greatest value of its page, so it may be long."""


class PageError(Exception):
    """The pages of a chunk are not what they say."""


class Pages:
    """Looks through the pages of one chunk, piece by piece."""

    def __init__(self, values: int, unpacked: int, *, is_packed: bool, physical: int | None = None) -> None:
        """Begins with a chunk.

        Args:
            values: How many values the footer says that it has.
            unpacked: How many bytes it says that the pages have with their headers when they are unpacked.
            is_packed: Whether it says that they are compressed.
            physical: The physical type of the values, if it is known.
        """
        self._values = values
        self._unpacked = unpacked
        self._is_packed = is_packed
        self._physical = physical
        self._headers = 0  # bytes
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
        if self._unpacked not in (0, self._headers):  # some writers leave headers out of the sum
            raise PageError("its pages do not unpack to as many bytes as the footer says")

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
            self._headers += length
            self._unpacked -= length
            self._look_at(header)
            return taken

    def _look_at(self, header: Struct) -> None:
        kind, size, unpacked = header.get(KIND), header.get(PAGE_BYTES), header.get(UNPACKED_BYTES)
        if not isinstance(kind, int) or kind not in KINDS:
            raise PageError("there is no page where the footer says that one begins")
        if not _is_size(size) or not _is_size(unpacked):
            raise PageError("a page does not say how long it is")
        own = header.get(OWN[kind])
        if not _is_sound(header, {KIND: I32, UNPACKED_BYTES: I32, PAGE_BYTES: I32, CHECKSUM: I32}, 3) or (
            not isinstance(own, Struct) or not _is_sound(own, KINDS[kind], NEEDED[kind])
        ):
            raise PageError("the header of a page cannot be read")
        if not all(0 <= own.get(number) <= LAST_ENCODING for number in ENCODINGS[kind]):
            raise PageError("a page has an unknown encoding")
        levels = self._count(kind, own, unpacked)
        is_packed = self._is_packed and (kind != DATA_PAGE_2 or own.get(7, True))
        if levels > min(size, unpacked) or (not is_packed and size != unpacked):
            raise PageError("a page does not say how long it is")
        self._unpacked -= unpacked
        checksum = header.get(CHECKSUM)
        self._checksum = checksum & 0xFFFFFFFF if isinstance(checksum, int) else None
        self._left, self._sum = size, 0
        self._end_page()

    def _count(self, kind: int, own: Struct, unpacked: int) -> int:
        """Counts the values of a page; returns how many of its bytes are levels, as far as it says so."""
        if kind == INDEX_PAGE:
            return 0
        values = own.get(1)
        if kind == DICTIONARY_PAGE:
            width = WIDTHS.get(self._physical or 0)
            least = values * (width or (LENGTH_BYTES if self._physical == BYTE_ARRAY else 0))
            if not 0 <= least <= unpacked or values < 0 or (width and least != unpacked):
                raise PageError("a dictionary does not say how many values it has")
            if own.get(2) not in DICTIONARY_ENCODINGS:
                raise PageError("a page has an unknown encoding")
            return 0
        nulls, rows, *levels = (
            (own.get(2), own.get(3), own.get(5), own.get(6)) if kind == DATA_PAGE_2 else (0, 0)
        )
        if not 0 <= values <= self._values or not (0 <= nulls <= values and 0 <= rows <= values):
            raise PageError("its pages do not hold as many values as the footer says")
        if min(levels, default=0) < 0:
            raise PageError("a page does not say how long it is")
        statistics = own.get(8 if kind == DATA_PAGE_2 else 5)
        if statistics is not None and not _is_sound(statistics, STATISTICS, 0):
            raise PageError("the statistics of a page cannot be read")
        self._values -= values
        return sum(levels)

    def _end_page(self) -> None:
        if not self._left and self._checksum is not None:
            if self._sum != self._checksum:
                raise PageError("a page has another checksum than its bytes")
            self._checksum = None


def _is_size(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= LARGEST


def _is_sound(value: Struct, kinds: dict[int, int], needed: int) -> bool:
    """Whether a struct has its first fields, and each that is known is of its kind and within its bounds."""
    fields = value.fields
    for number in range(1, needed + 1):
        if number not in fields:
            return False
    for number, (kind, content) in fields.items():
        known = kinds.get(number, kind)
        if kind != known and not (known == BOOLEAN and kind == FALSE):
            return False
        if kind == I32 and not -LARGEST - 1 <= content <= LARGEST:
            return False
    return True
