"""Rows of evidence, each with its place: of files one by one, or of many small ones together."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal, NamedTuple

import polars as pl

from polars_materialize.errors import TableError
from polars_materialize.names import refuse_patterns
from polars_materialize.tables import chunks, csv, dtypes, jsonl, kinds, strict
from polars_materialize.tables.failures import FAILURES, unreadable
from polars_materialize.tables.files import is_small
from polars_materialize.tables.shards import scan_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from polars_materialize.tables.files import File


class Whole(NamedTuple):
    """Lines that were read together, of which each batch of rows holds some.

    Attributes:
        chunk: The lines.
        source: The file of each row, as the user wrote it.
        names: All names that the rows have.
    """

    chunk: chunks.Chunk
    source: pl.Series
    names: Sequence[str]


class Records(NamedTuple):
    """Rows of evidence and where each comes from.

    Attributes:
        frame: The rows, with the columns that their file has.
        source: The file of each row, as the user wrote it.
        place: The file and the line (`scores.jsonl:17`) or row (`scores.json: rows[3]`) of each row.
        row: The number of each row, over all batches.
        whole: What a batch of JSON or XML is part of; none for tables, whose rows all have the same columns.
    """

    frame: pl.DataFrame
    source: pl.Series
    place: pl.Series
    row: pl.Series
    whole: Whole | None = None


def read_records(
    files: Iterable[File],
    wrappers: Sequence[str] = ("rows",),
    key_columns: Sequence[str] = (),
    beside: chunks.Beside | None = None,
) -> Iterator[Records]:
    """Reads small tables now, batch by batch, with the place of every row.

    Batches may differ in columns and dtypes; each holds its own values exactly. Rows with fields of other
    kinds than their neighbours' come in batches of their own; `Records.row` has the order of all.

    Args:
        files: The files to read; each is asked for when its turn comes.
        wrappers: The names under which a JSON object may hold the list of rows; an object without
            any of them is one row.
        key_columns: See `scan_files`.
        beside: What may stand beside such a list.

    Raises:
        TableError: If a file is not of its format; names the file and the line.
    """
    start = 0
    for chunk, source, frame in _read_chunks(files, wrappers, key_columns, beside):
        refuse_patterns(frame.columns, source.item(0) if source.len() else "")
        rows = source.len()
        for records in _parts(chunk, source, frame):
            yield records._replace(row=records.row + start)
        start += rows


_Chunk = tuple[chunks.Chunk | pl.Series, pl.Series, pl.DataFrame]
"""Rows with their places (or the chunk that knows them), and the file of each."""


def _read_chunks(
    files: Iterable[File], wrappers: Sequence[str], key_columns: Sequence[str], beside: chunks.Beside | None
) -> Iterator[_Chunk]:
    for gathered, some in itertools.groupby(files, _gathered_as):
        if gathered == "json":
            for chunk, sources in chunks.read_documents(some, wrappers, single=True, beside=beside):
                frame = jsonl.infer(chunk, dtypes.Profile())
                yield chunk, pl.Series("source", sources, dtype=pl.String), frame
        elif gathered == "csv":
            for group in csv.gather(some, key_columns):
                yield from _read_gathered(group, key_columns)
        else:
            for file in some:
                yield from _read_file(file, key_columns)


def _gathered_as(file: File) -> Literal["json", "csv"] | None:
    """As what a file's rows are put together with those of its neighbours, which is quicker."""
    if file.format in ("json", "xml") or (file.format == "jsonl" and is_small(file)):
        return "json"
    return "csv" if file.format == "csv" and is_small(file) else None


def _read_gathered(group: csv.Gathered, key_columns: Sequence[str]) -> Iterator[_Chunk]:
    if group.frame is None:
        for file in group.files:
            yield from _read_file(file, key_columns)
        return
    written = pl.Series("source", [file.written for file in group.files], dtype=pl.String)
    source = written.repeat_by(pl.Series(group.rows)).explode()
    lines = pl.int_ranges(pl.lit(group.skipped + 1), pl.Series(group.rows) + group.skipped + 1, eager=True)
    yield source + ":" + lines.explode().cast(pl.String), source, group.frame


def _read_file(file: File, key_columns: Sequence[str]) -> Iterator[_Chunk]:
    try:
        yield from _read_rows(file, key_columns)
    except FAILURES as error:
        raise unreadable(file.written, error) from None


def _read_rows(file: File, key_columns: Sequence[str]) -> Iterator[_Chunk]:
    if file.format == "jsonl":
        empty = True
        for chunk, _, frame, _ in strict.read_all(chunks.read_lines(file)):
            empty = False
            yield chunk, _repeat(file.written, frame.height), frame
        if empty:
            raise TableError(file.written, chunks.EMPTY)
        return
    frame = scan_files([file], key_columns).collect()
    if file.format == "csv":
        place = f"{file.written}:" + csv.line_numbers(file, frame.height).cast(pl.String)
    else:
        row = pl.int_range(frame.height, eager=True).cast(pl.String)
        place = f"{file.written}: rows[" + row + "]"
    yield place, _repeat(file.written, frame.height), frame


def _parts(chunk: chunks.Chunk | pl.Series, source: pl.Series, frame: pl.DataFrame) -> Iterator[Records]:
    """A chunk's rows, in parts of one shape each."""
    if isinstance(chunk, pl.Series):
        yield Records(frame, source, chunk.alias("place"), _numbers(frame))
        return
    whole = Whole(chunk, source, frame.columns)
    parts = kinds.split_by_shape(chunk, frame)
    if not parts:
        yield Records(frame, source, chunk.all_places(frame.height), _numbers(frame), whole)
    for rows, part in parts:
        own = jsonl.infer(part, dtypes.Profile())
        row = pl.Series("row", rows, dtype=pl.Int64)
        yield Records(own, source.gather(row), part.all_places(own.height), row, whole)


def _numbers(frame: pl.DataFrame) -> pl.Series:
    return pl.int_range(frame.height, eager=True, dtype=pl.Int64).alias("row")


def _repeat(text: str, times: int) -> pl.Series:
    return pl.Series("source", [text], dtype=pl.String).new_from_index(0, times)


def shapes_of(lines: Sequence[bytes]) -> list[pl.Schema]:
    """Find the columns and dtypes of JSON objects; several where a field is of several kinds."""
    chunk = chunks.Chunk(b"\n".join(lines), "")
    frame = jsonl.infer(chunk, dtypes.Profile())
    parts = [part for _, part in kinds.split_by_shape(chunk, frame)]
    return [jsonl.infer(part, dtypes.Profile()).schema for part in parts] or [frame.schema]
