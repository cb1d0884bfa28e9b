"""Any table file to a LazyFrame and back: lossless, atomic, the format by suffix.

`scan_table` and `sink_table` are the two ends of every run. `read_records` reads the small side (scores,
labels) together with the place of every row, so that an error can name it.
"""

from __future__ import annotations

import atexit
import glob
import itertools
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import polars as pl
from polars.io.plugins import register_io_source

from polars_materialize.errors import TableError
from polars_materialize.names import refuse_patterns, spare_names
from polars_materialize.stores import check_storage_options, in_one_line
from polars_materialize.tables import chunks, csv, dtypes, jsonl, kinds, strict
from polars_materialize.tables.files import TEXT_FORMATS, Dialect, File, find, find_shards, is_small
from polars_materialize.tables.parallel import in_order
from polars_materialize.tables.scans import (
    parquet_schema,
    reach,
    read_ahead,
    scan_ipc,
    scan_parquet,
    scan_parquets,
)
from polars_materialize.tables.sinks import (
    FOOTER_KEY,
    check_partitions,
    check_sink,
    sink_table,
    staged,
    staged_folder,
    staging_mark,
    write,
    write_partitions,
    write_spliced,
)
from polars_materialize.tables.splice import Splice

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from polars_materialize.stores import StorageOptions

__all__ = [
    "FOOTER_KEY",
    "Dialect",
    "File",
    "Records",
    "Splice",
    "Table",
    "check_partitions",
    "check_sink",
    "find",
    "find_shards",
    "in_order",
    "is_small",
    "open_table",
    "read_records",
    "scan_files",
    "scan_table",
    "sink_table",
    "staged",
    "staged_folder",
    "staging_mark",
    "write",
    "write_partitions",
    "write_spliced",
]


KEPT_BYTES = 2**28
"""How much of a table that was parsed to find its schema a run keeps."""


def scan_table(
    path: str | os.PathLike[str], *, storage_options: StorageOptions | None = None
) -> pl.LazyFrame:
    """Opens a table file of any known format as a LazyFrame, with nothing lost.

    The suffix decides: `.parquet .pq .jsonl .ndjson .json .csv .arrow .feather .ipc`, text formats
    also with `.gz` or `.zst`. Parquet and Arrow files are not read until the frame is collected. Text
    files hold no schema, so they are read through once here to find one that holds every value:
    every field of every line, numbers only where nothing is lost by it, text otherwise.

    Args:
        path: A file, a glob such as `shards/*.parquet`, or a folder of shards. The files are one table, in
            the order of their names; a column that some of them lack is null there. In a folder, those
            called `split=train` (as Hive names them) say what the column `split` is in all rows below.
            Or the url of an object, a glob or a prefix of them (`s3:// gs:// az:// https://`); text is
            copied to a temporary file then.
        storage_options: How to reach a store, beside what the environment says: `aws_region`,
            `aws_endpoint_url`, `aws_access_key_id`, ... as Polars names them.

    Returns:
        The rows of the file or files, in order.

    Raises:
        TableError: If there is no such file or its suffix is unknown; if it is not of its format (the
            message names the file and the line); if files of a glob disagree about a column's dtype.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "features.jsonl"
        ...     _ = path.write_text('{"clip_id": "a", "vmaf": NaN}\\n{"clip_id": "b", "note": "late"}')
        ...     scan_table(path).collect().rows()
        [('a', nan, None), ('b', None, 'late')]
    """
    return scan_files(find_shards(path, storage_options=check_storage_options(storage_options)))


def scan_files(files: Sequence[File], key_columns: Sequence[str] = (), *, keep: bool = False) -> pl.LazyFrame:
    """Opens the files of one table as one frame; see `open_table`."""
    return open_table(files, key_columns, keep=keep).whole()


class Table(NamedTuple):
    """A table in one file or several.

    Attributes:
        shards: The files.
        schema: The columns of all of them.
        frames: The rows of each file, with its own columns, in their dtypes of the whole.
        columns: The columns of each file.
        plain: Whether a file is a Parquet file with all of its columns in itself.
        said: What its folders say, for a Parquet file that lacks nothing else.
    """

    shards: Sequence[File]
    schema: pl.Schema
    frames: Sequence[pl.LazyFrame]
    columns: Sequence[Mapping[str, pl.DataType]]
    plain: Sequence[bool]
    said: Sequence[Mapping[str, pl.Series] | None]

    def whole(self) -> pl.LazyFrame:
        """The rows of all files; a column that some of them lack is null there."""
        frames = []
        for (scans, own), group in itertools.groupby(range(len(self.shards)), self._kind):
            places = list(group)
            some = [self.frames[place] for place in places]
            if scans is not None and len(places) > 1:  # thousands of scans would be planned one by one
                some = [self._scan(places)]
            frames += [self._widened(frame, dict(own)) for frame in some]
        return frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical")

    def shard(self, place: int) -> pl.LazyFrame:
        """The rows of one file, with the columns of all."""
        return self._widened(self.frames[place], self.columns[place])

    def _widened(self, frame: pl.LazyFrame, own: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Rows with the columns of all files, in their order."""
        if list(own.items()) == list(self.schema.items()):
            return frame
        absent = {name: pl.lit(None, dtype) for name, dtype in self.schema.items() if name not in own}
        # Not by one select, which would make a row of nothing but these for a file without columns.
        return frame.with_columns(**absent).select(self.schema.names())

    def _kind(self, place: int) -> tuple[tuple[str, ...] | None, tuple[tuple[str, pl.DataType], ...]]:
        """What files have in common that can be read by one scan."""
        said, where = self.said[place], reach(self.shards[place])
        # Of objects in a store no path comes back by which to join what folders say.
        apart = said is None or where is None or (bool(said) and not self.shards[place].is_local)
        together = None if apart else (str(where), *(said or {}))
        return together, tuple(self.columns[place].items())

    def _scan(self, places: Sequence[int]) -> pl.LazyFrame:
        """The rows of Parquet files with the same columns, in one scan; what folders say is joined on."""
        files = [self.shards[place] for place in places]
        cells = [self.said[place] or {} for place in places]
        if not cells[0]:
            return scan_parquets(files)
        paths = [str(file.local()) for file in files]
        [path] = spare_names(self.schema, 1)
        said = {name: pl.concat([cell[name] for cell in cells]) for name in cells[0]}
        rows = pl.scan_parquet(paths, glob=False, hive_partitioning=False, include_file_paths=path)
        return rows.join(
            pl.LazyFrame({path: paths, **said}),
            on=path,
            how="left",
            nulls_equal=False,
            coalesce=True,
            maintain_order="left",
            validate="m:m",  # a path stands once, and checking costs a pass
        ).select(list(self.columns[places[0]]))


def open_table(files: Sequence[File], key_columns: Sequence[str] = (), *, keep: bool = False) -> Table:
    """Opens the files of one table; see `scan_table`.

    Args:
        files: The files.
        key_columns: Columns of CSV files that hold keys, beside those with a name that says so: they become
            numbers only if no cell could be spelled otherwise, since `1.10` and `1.1` are two clips.
        keep: Keep the rows of JSON files that had to be parsed to find their schema, if they are small:
            for runs, which look at a table twice and do not outlive it.
    """
    kept = _Kept(KEPT_BYTES if keep else 0)
    read_ahead(files)
    found = [_inspect(file, key_columns, kept) for file in files]
    for file, profile in zip(files, found, strict=True):
        refuse_patterns(profile.schema, file.written)
    _refuse_disagreement(files, found)
    united = dtypes.Profile()
    for profile in found:
        united.merge(profile)
    mixed = united.mixed()
    # Cells of a CSV that are all blank are text, unless another file says what they are.
    blank = {
        name
        for file, profile in zip(files, found, strict=True)
        for name, dtype in (profile.schema.items() if file.format == "csv" else ())
        if dtype == pl.Null()
    }
    schema = pl.Schema(
        {
            name: pl.String() if dtype == pl.Null() and name in blank else dtype
            for name, dtype in united.result().items()
        }
    )
    said = _partition_dtypes(files, schema)
    frames, columns, plain, cells = [], [], [], []
    for file, profile in zip(files, found, strict=True):
        own = pl.Schema({name: schema[name] for name in profile.schema})
        if not own and file.format in TEXT_FORMATS:  # rows without any field are rows
            own = pl.Schema(list(schema.items())[:1])
        frame = kept.table(file, own, mixed)
        if frame is None:
            frame = _scan(file, own, mixed, plain=profile.plain and not mixed)
        cell = {
            name: _partition(file, name, value, said[name])
            for name, value in file.partitions
            if name not in own
        }
        new = {name: pl.lit(value).first() for name, value in cell.items()}
        columns.append({**own, **{name: said[name] for name in new}})
        if file.format not in TEXT_FORMATS:  # a column of nulls without a type gets that of the others
            others = (name for name, dtype in own.items() if profile.schema[name] != dtype)
            new |= {name: pl.lit(None, own[name]) for name in others}
        frames.append(frame.with_columns(**new) if new else frame)
        plain.append(file.format == "parquet" and not new)
        cells.append(cell if file.format == "parquet" and len(cell) == len(new) else None)
    whole = pl.Schema({**schema, **{name: dtype for name, dtype in said.items() if name not in schema}})
    return Table(files, whole, frames, columns, plain, cells)


def _partition_dtypes(files: Sequence[File], schema: pl.Schema) -> dict[str, pl.DataType]:
    """The dtypes of columns that folders say: as in files that have them, else integers or text.

    They are integers where each has one spelling.
    """
    values: dict[str, set[str]] = {}
    for file in files:
        for name, value in file.partitions:
            values.setdefault(name, set()).update([] if value is None else [value])
    guessed = {
        name: pl.Int64() if texts and all(map(_is_integer, texts)) else pl.String()
        for name, texts in values.items()
    }
    return {name: schema.get(name, dtype) for name, dtype in guessed.items()}


def _is_integer(text: str) -> bool:
    return bool(re.fullmatch("0|-?[1-9][0-9]{0,18}", text)) and -(2**63) <= int(text) < 2**63


def _partition(file: File, name: str, value: str | None, dtype: pl.DataType) -> pl.Series:
    """What a folder says of all rows below."""
    try:
        return pl.Series([value], dtype=pl.String).cast(dtype)
    except pl.exceptions.PolarsError:
        problem = f"its folder says {name}={value!r}, but the column {name!r} of other files is {dtype}"
        raise TableError(file.written, problem) from None


def _refuse_disagreement(files: Sequence[File], profiles: Sequence[dtypes.Profile]) -> None:
    """Refuses files of one table that give a column different dtypes; only text files may."""
    first: dict[str, list[tuple[File, pl.DataType]]] = {}
    for file, profile in zip(files, profiles, strict=True):
        is_text = file.format in TEXT_FORMATS
        for name, dtype in (profile.result() if is_text else profile.schema).items():
            seen = first.setdefault(name, [])
            for other, known in seen:
                if dtype not in (known, pl.Null()) and not (is_text and other.format in TEXT_FORMATS):
                    raise TableError(
                        file.written,
                        f"column {name!r} is {dtype}, but {known} in {other.written}; "
                        "the files of one table must agree",
                    )
            # Those of text may differ, so each of them counts, and so does the first of another kind.
            new = all(dtype != known or is_text != (other.format in TEXT_FORMATS) for other, known in seen)
            if new and dtype != pl.Null():
                seen.append((file, dtype))


class _Kept:
    """Rows of files that were parsed to find their schema, as long as they are few."""

    def __init__(self, limit: int) -> None:
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


def _inspect(file: File, key_columns: Sequence[str], kept: _Kept) -> dtypes.Profile:
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
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(file.written, f"cannot be read: {in_one_line(error)}") from None
    if not rows and file.format == "jsonl":
        raise TableError(file.written, chunks.EMPTY)
    profile.plain &= file.format == "jsonl"
    return profile


def _infer_json(file: File, profile: dtypes.Profile, kept: _Kept) -> int:
    """Infers the schema of JSON, chunks side by side; returns how many rows there are."""
    rows = 0
    for part in strict.read_all(_json_chunks(file)):
        profile.merge(part.profile)
        kept.add(file, part.frame)
        rows += part.frame.height
    return rows


def _scan(file: File, schema: pl.Schema, mixed: frozenset[dtypes.Path], *, plain: bool) -> pl.LazyFrame:
    if file.format == "parquet":
        return scan_parquet(file)
    if file.format == "ipc":
        return scan_ipc(file)
    plain = plain and isinstance(file.path, Path)  # a scan by path would not keep a copy
    # scan_ndjson has no way to say that a path is no glob.
    if plain and file.format == "jsonl" and not glob.has_magic(str(file.path)):
        return pl.scan_ndjson(file.local(), schema=dict(schema))
    if plain and file.format == "csv":
        return csv.scan(file, schema)

    def source(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - a hint
    ) -> Iterator[pl.DataFrame]:
        with _running:
            columns = list(schema) if with_columns is None else with_columns
            for frame in _read(file, schema, columns, mixed):
                head = frame if n_rows is None else frame.head(n_rows)
                n_rows = None if n_rows is None else n_rows - head.height
                yield head if predicate is None else head.filter(predicate)
                if n_rows == 0 or _running.ending:
                    return

    return register_io_source(source, schema=dict(schema))


class _Running:
    """Keeps the interpreter from ending under a reader that a finished query left behind.

    Polars 2.1 returns from a query that needs no more rows while the thread that reads them still runs;
    if the interpreter then ends, that thread aborts the process.
    """

    def __init__(self) -> None:
        self.readers = 0
        self.ending = False
        self.changed = threading.Condition()

    def __enter__(self) -> None:
        with self.changed:
            self.readers += 1

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self.readers -= 1
            self.changed.notify_all()

    def end(self) -> None:
        self.ending = True
        with self.changed:
            if self.readers and self.changed.wait_for(lambda: not self.readers, timeout=30):
                time.sleep(0.05)  # the thread has yet to leave the generator


_running = _Running()
atexit.register(_running.end)


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


class Records(NamedTuple):
    """Rows of evidence and where each comes from.

    Attributes:
        frame: The rows, with the columns that their file has.
        source: The file of each row, as the user wrote it.
        place: The file and the line (`scores.jsonl:17`) or row (`scores.json: rows[3]`) of each row.
        row: The number of each row, over all batches.
    """

    frame: pl.DataFrame
    source: pl.Series
    place: pl.Series
    row: pl.Series


def read_records(
    files: Iterable[File], wrappers: Sequence[str] = ("rows",), key_columns: Sequence[str] = ()
) -> Iterator[Records]:
    """Reads small tables now, batch by batch, with the place of every row.

    Batches may differ in columns and dtypes; each holds its own values exactly. Rows with fields of other
    kinds than their neighbours' come in batches of their own; `Records.row` has the order of all.

    Args:
        files: The files to read; each is asked for when its turn comes.
        wrappers: The names under which a JSON object may hold the list of rows; an object without
            any of them is one row.
        key_columns: See `scan_files`.

    Raises:
        TableError: If a file is not of its format; names the file and the line.
    """
    start = 0
    for chunk, source, frame in _read_chunks(files, wrappers, key_columns):
        refuse_patterns(frame.columns, source.item(0) if source.len() else "")
        rows = source.len()
        for records in _parts(chunk, source, frame):
            yield records._replace(row=records.row + start)
        start += rows


_Chunk = tuple[chunks.Chunk | pl.Series, pl.Series, pl.DataFrame]
"""Rows with their places (or the chunk that knows them), and the file of each."""


def _read_chunks(
    files: Iterable[File], wrappers: Sequence[str], key_columns: Sequence[str]
) -> Iterator[_Chunk]:
    for gathered, some in itertools.groupby(files, _gathered_as):
        if gathered == "json":
            for chunk, sources in chunks.read_documents(some, wrappers, single=True):
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
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(file.written, f"cannot be read: {in_one_line(error)}") from None


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
    parts = kinds.split_by_shape(chunk, frame)
    if not parts:
        yield Records(frame, source, chunk.all_places(frame.height), _numbers(frame))
    for rows, part in parts:
        own = jsonl.infer(part, dtypes.Profile())
        row = pl.Series("row", rows, dtype=pl.Int64)
        yield Records(own, source.gather(row), part.all_places(own.height), row)


def _numbers(frame: pl.DataFrame) -> pl.Series:
    return pl.int_range(frame.height, eager=True, dtype=pl.Int64).alias("row")


def _repeat(text: str, times: int) -> pl.Series:
    return pl.Series("source", [text], dtype=pl.String).new_from_index(0, times)
