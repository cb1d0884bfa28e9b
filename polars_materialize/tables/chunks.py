"""JSON files cut into chunks of lines that know where they come from."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import msgspec
import polars as pl

from polars_materialize import warm
from polars_materialize.errors import TableError
from polars_materialize.tables import xml
from polars_materialize.tables.dtypes import WITH_POINT, is_exact
from polars_materialize.tables.json_text import DEEPEST, RepeatedFieldError, loads, numbers_as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from polars_materialize.tables.files import File


CHUNK_BYTES = 8 << 20
"""Bytes of lines that are parsed at a time: large enough to use all cores, small enough to hold."""
FIRST_BYTES = 1 << 18
"""How many of them come first, to know what to expect of the others."""
COUNTED_BYTES = 1 << 20
"""Up to what size lines are counted without NumPy; to import it takes as long as to count a hundred times."""
EMPTY = "the file is empty; expected one JSON object a line"
LINE_END = ord(b"\n")
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Chunk:
    """Lines of JSON, and where they come from.

    Attributes:
        data: One JSON value a line; blank lines may stand between them.
        source: The file, for messages.
        first_line: The line number of the first line, if the chunk is a piece of a file of lines.
        places: The place of each value, if not.
        bom: Whether the file begins with a byte-order mark, which is no longer part of `data`.
    """

    data: bytes
    source: str
    first_line: int = 1
    places: Sequence[str] | None = None
    bom: bool = False

    @cached_property
    def ends(self) -> npt.NDArray[np.intp]:
        """Where line ends stand in the data."""
        with warm.importing:
            import numpy as np  # noqa: PLC0415 - only large files need it

        return np.flatnonzero(np.frombuffer(self.data, np.uint8) == LINE_END)

    @cached_property
    def line_ends(self) -> int:
        """How many line ends there are."""
        return self.data.count(b"\n") if len(self.data) <= COUNTED_BYTES else len(self.ends)

    def lines(self) -> list[tuple[int, bytes]]:
        """The lines that are not blank, with their offset from the first."""
        return [(i, line) for i, line in enumerate(self.data.split(b"\n")) if line.strip()]

    def all_places(self, rows: int) -> pl.Series:
        """The place of each row, as text."""
        if self.places is not None:
            return pl.Series("place", self.places, dtype=pl.String)
        if rows == self.line_ends + (not self.data.endswith(b"\n")):
            offsets = pl.int_range(rows, eager=True)
        else:
            offsets = pl.Series([offset for offset, _ in self.lines()], dtype=pl.Int64)
        return (f"{self.source}:" + (offsets + self.first_line).cast(pl.String)).alias("place")

    def fault(self, row: int, problem: str) -> TableError:
        """The error that says what is wrong with one row."""
        if self.places is not None:
            return TableError(self.places[row], problem)
        return TableError(self.source, problem, line=self.first_line + self.lines()[row][0])


def read_lines(file: File) -> Iterator[Chunk]:
    """Cuts a file of JSON lines into chunks at line ends."""
    first_line, size = 1, min(FIRST_BYTES, CHUNK_BYTES)
    with file.open() as stream:
        start = stream.read(len(BOM))
        bom = start == BOM
        data = (b"" if bom else start) + _read_to_line_end(stream, size)
        while data:
            chunk = Chunk(numbers_as_text(data, file.dialect.texts), file.written, first_line, bom=bom)
            yield chunk
            first_line += chunk.line_ends
            data = _read_to_line_end(stream, CHUNK_BYTES)


def _read_to_line_end(stream: BinaryIO, size: int) -> bytes:
    """Reads about so many bytes, up to a line's end."""
    if not stream.seekable():
        data = stream.read(size)
        return data if data.endswith(b"\n") else data + stream.readline()
    # A piece is not copied to get its end, but read when it is known where that is.
    start = stream.tell()
    stream.seek(start + size)
    size += len(stream.readline())
    stream.seek(start)
    return stream.read(size)


class Beside(NamedTuple):
    """What may stand beside the list of rows in a document.

    Attributes:
        inherited: A field there, or in a `summary` there, that counts for rows which do not have it.
        refused: Fields, in lower case, that would be lost there.
    """

    inherited: str | None = None
    refused: Collection[str] = ()


def read_documents(
    files: Iterable[File], wrappers: Sequence[str], *, single: bool, beside: Beside | None = None
) -> Iterator[tuple[Chunk, list[str]]]:
    """Cuts JSON documents into rows, and gathers the rows of many small files into chunks.

    A document is a list of rows, an object that holds such a list under one of the names in
    `wrappers`, or (with `single`) itself one row. Files of JSON lines may be among the documents.

    Yields:
        A chunk, and the file of each of its rows.
    """
    rows: list[bytes] = []
    places: list[str] = []
    sources: list[str] = []
    size = 0
    for file in files:
        if file.format == "jsonl":
            found = _line_rows(file)
        else:
            found = _document_rows(file, wrappers, single=single, beside=beside or Beside())
        for place, row in found:
            rows.append(row)
            places.append(place)
            sources.append(file.written)
            size += len(row)
            if size > CHUNK_BYTES:
                yield Chunk(b"\n".join(rows), file.written, places=places), sources
                rows, places, sources, size = [], [], [], 0
    if rows:
        yield Chunk(b"\n".join(rows), sources[-1], places=places), sources


def _line_rows(file: File) -> Iterator[tuple[str, bytes]]:
    """The lines of a small file that are not blank, each with its place."""
    with file.open() as stream:
        data = numbers_as_text(stream.read().removeprefix(BOM), file.dialect.texts)
    if not data:
        raise TableError(file.written, EMPTY)
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            yield f"{file.written}:{number}", line


def _document_rows(
    file: File, wrappers: Sequence[str], *, single: bool, beside: Beside
) -> Iterator[tuple[str, bytes]]:
    with file.open() as stream:
        data = numbers_as_text(stream.read().removeprefix(BOM), file.dialect.texts)
    if not data or data.isspace():
        raise TableError(file.written, f"the file is empty; expected {file.format.upper()}")
    if file.format == "xml":
        yield file.written, xml.to_json(data, file.written)
        return
    inherited = None
    document, encode = _decode_document(data, file, several=single)
    if isinstance(document, dict):
        name = next((name for name in wrappers if name in document), None)
        if name is None and single:
            yield file.written, _one_line(data)
            return
        if name is None:
            problem = f"expected a list of row objects or an object with {wrappers[0]!r}"
            raise TableError(file.written, problem)
        _refuse_repeated(data, document[name], file)
        inherited = _look_beside(document, name, wrappers, beside, file)
        document = document[name]
        if isinstance(document, msgspec.Raw) and bytes(document).startswith(b"["):
            document = _decode_raw(document)
        if not isinstance(document, list):
            raise TableError(file.written, f"{name!r}: expected a list of row objects")
    if not isinstance(document, list):
        raise TableError(file.written, "expected a list of row objects or an object")
    for index, row in enumerate(document):
        place = f"{file.written}: rows[{index}]"
        line = _one_line(encode(row))
        if not line.lstrip().startswith(b"{"):
            raise TableError(place, "not a JSON object")
        yield place, line if inherited is None else _with_field(line, *inherited)


def _look_beside(
    document: Mapping[str, Any], rows: str, wrappers: Sequence[str], beside: Beside, file: File
) -> tuple[str, bytes] | None:
    """The field that rows have from their document, if it says something.

    Raises:
        TableError: If something stands beside the rows that would be lost.
    """
    others = {name: _decoded(value) for name, value in document.items() if name != rows}
    for name, value in others.items():
        if (name in wrappers and isinstance(value, list)) or (
            name.lower() in beside.refused and value is not None
        ):
            raise TableError(file.written, f"{name!r} stands beside {rows!r}; expected it in the rows")
    summary = next((value for name, value in others.items() if name.lower() == "summary"), None)
    for place in (others, summary if isinstance(summary, dict) else {}):
        for name, value in place.items():
            if name.lower() == beside.inherited and value is not None and str(value).strip():
                return name, json.dumps(value).encode()
    return None


def _decoded(value: object) -> object:
    return json.loads(bytes(value)) if isinstance(value, msgspec.Raw) else value


def _with_field(line: bytes, name: str, value: bytes) -> bytes:
    """A row with a field, unless it has that, whatever its case."""
    row = json.loads(line)
    own = {each for each in row if each.lower() == name.lower()}
    if any(row[each] is not None and row[each] != "" for each in own):
        return line
    if own:
        others = {each: content for each, content in row.items() if each not in own}
        return json.dumps({**others, name: json.loads(value)}).encode()
    head = b"{" + json.dumps(name).encode() + b": " + value
    return head + (b", " if row else b"") + line.lstrip()[1:].lstrip()


def _decode_document(data: bytes, file: File, *, several: bool) -> tuple[object, Callable[[Any], bytes]]:
    """Decodes the outer level of a document, and says how its rows are encoded again."""
    with contextlib.suppress(msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        document = _decode_raw(data)
        return document, bytes
    try:  # Python's own decoder takes the NaN that Python's own encoder writes
        return loads(data, parse_float=_number), lambda row: json.dumps(row).encode()
    except RepeatedFieldError as error:
        raise TableError(file.written, str(error)) from None
    except (ValueError, RecursionError) as error:
        if several and isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            return _split_documents(data, file), bytes
        raise _not_json(file, error, data) from None


def _number(text: str) -> float | str:
    """A number; as text if it is one of many digits that a float would round."""
    value = float(text)
    is_rounded = abs(value) >= 2.0**53 and re.match(WITH_POINT, text) and not is_exact(text)
    return text if is_rounded else value


def _refuse_repeated(data: bytes, rows: object, file: File) -> None:
    """Refuses a field that stands twice beside the rows of a document, of which msgspec keeps the last."""
    beside = data.replace(bytes(rows), b"0", 1) if isinstance(rows, msgspec.Raw) else data
    try:
        loads(beside)
    except RepeatedFieldError as error:
        raise TableError(file.written, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _not_json(file, error, data) from None


def _split_documents(data: bytes, file: File) -> list[bytes]:
    """JSON documents that stand one after another, with or without a line end between them."""
    text = data.decode().strip()
    decoder, documents, end = json.JSONDecoder(), [], 0
    while end < len(text):
        start = end
        try:
            end = decoder.raw_decode(text, start)[1]
        except (ValueError, RecursionError) as error:
            raise _not_json(file, error, data) from None
        documents.append(text[start:end].encode())
        while text[end : end + 1].isspace():
            end += 1
    return documents


def _one_line(data: bytes) -> bytes:
    """JSON text without line ends, which stand only between tokens."""
    return data.replace(b"\n", b" ").replace(b"\r", b" ")


def _decode_raw(data: bytes | msgspec.Raw) -> object:
    """Decodes one level of JSON and leaves what is below as it is written."""
    return msgspec.json.decode(data, type=list[msgspec.Raw] | dict[str, msgspec.Raw])


def _not_json(file: File, error: Exception, data: bytes) -> TableError:
    if isinstance(error, json.JSONDecodeError):
        return TableError(file.written, f"not JSON: {error.msg}{cut_off(error)}", line=error.lineno)
    if isinstance(error, UnicodeDecodeError):
        line = data.count(b"\n", 0, error.start) + 1
        return TableError(file.written, f"not UTF-8 text: {error.reason}; save it as UTF-8", line=line)
    if isinstance(error, RecursionError):
        return TableError(file.written, f"lists and objects nested more than {DEEPEST} deep")
    return TableError(file.written, f"not JSON: {error}")


def cut_off(error: json.JSONDecodeError) -> str:
    """A hint where JSON text ends before it is complete.

    Example:
        >>> try:
        ...     json.loads('{"clip_id": "a", "sco')
        ... except json.JSONDecodeError as error:
        ...     print(cut_off(error))
        ; was the file cut off?
    """
    is_short = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string")
    return "; was the file cut off?" if is_short else ""
