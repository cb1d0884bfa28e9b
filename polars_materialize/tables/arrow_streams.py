"""The messages of an Arrow file in the streaming layout, walked from the first to the mark of its end.

Readers take the end of the file for that of the stream, so what is cut between two messages reads as fewer
rows. Nothing but the lengths of messages is read here.

The format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO

from polars_materialize.errors import TableError

if TYPE_CHECKING:
    from pathlib import Path

CONTINUES = b"\xff\xff\xff\xff"
BODY_LENGTH = 3
"""The field of a message that says how long its body is."""
NO_END = "the file ends before the mark of its end; was it cut off?"


def check_stream(path: Path, written: str) -> None:
    """Walks through the messages of a stream.

    Raises:
        TableError: If they do not lead to the mark of the stream's end, or something follows it.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        while length := _next_length(stream, written):
            metadata = stream.read(length)
            if len(metadata) < length:
                raise TableError(written, f"cannot be read: {NO_END}")
            try:
                body = _body_length(metadata)
            except struct.error:
                raise TableError(
                    written, "cannot be read: a message of its Arrow stream is damaged"
                ) from None
            if body < 0:
                raise TableError(written, "cannot be read: a message of its Arrow stream is damaged")
            if stream.seek(body, os.SEEK_CUR) > size:
                raise TableError(written, f"cannot be read: {NO_END}")
        if stream.read().strip(b"\0"):
            raise TableError(written, "cannot be read: bytes follow the end of its Arrow stream")


def _next_length(stream: BinaryIO, written: str) -> int:
    """How long the metadata of the next message is; 0 at the mark of the stream's end."""
    head = stream.read(4)
    if head == CONTINUES:  # older writers leave this out
        head = stream.read(4)
    if len(head) < 4:
        raise TableError(written, f"cannot be read: {NO_END}")
    length = int.from_bytes(head, "little", signed=True)
    if length < 0:
        raise TableError(written, "cannot be read: a message of its Arrow stream is damaged")
    return length


def _body_length(metadata: bytes) -> int:
    """How many bytes of columns follow a message: a field of a FlatBuffers table, 0 where it is left out."""
    (table,) = struct.unpack_from("<I", metadata)
    (back,) = struct.unpack_from("<i", metadata, table)
    fields = table - back
    if fields < 0:
        raise struct.error
    (fields_bytes,) = struct.unpack_from("<H", metadata, fields)
    place = 4 + 2 * BODY_LENGTH
    if place + 2 > fields_bytes:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, fields + place)
    return int(struct.unpack_from("<q", metadata, table + offset)[0]) if offset else 0
