"""Frames to files: complete or not at all.

Polars' own sinks are not atomic (2.1): an error or a kill half-way leaves a broken file where a good
one was. Here a file is written beside its target (see `staging`) and flushed to the disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import polars as pl

from polars_materialize import warm
from polars_materialize.arguments import checked
from polars_materialize.errors import MaterializeError, OutputError, did_you_mean, listing, no_panics
from polars_materialize.stores import check_storage_options, in_one_line
from polars_materialize.tables.batches import each_batch
from polars_materialize.tables.dtypes import instance
from polars_materialize.tables.failures import FAILURES
from polars_materialize.tables.files import HIVE_NULL, TEXT_FORMATS, File
from polars_materialize.tables.inputs import is_input
from polars_materialize.tables.staging import NO_ROWS, staged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from polars_materialize.stores import StorageOptions
    from polars_materialize.tables.splice import Splice

    Metadata = Callable[[], dict[str, str]]

GROUP_ROWS = 131_072
"""Rows of a Parquet row group or an Arrow batch; Polars' own choice depends on the number of cores."""

MORSEL_ROWS = 20_000
"""Rows that Polars streams at a time; smaller than its own choice, which took half as much memory again."""

TEXT_ROWS = 5_000
"""The same for formats of text, a row of which is much larger than in memory."""

FLUSH_S = 0.25
"""How often the disk is told to go on with what has been written, in seconds."""


@checked
@no_panics()
def sink_table(
    lf: pl.LazyFrame | pl.DataFrame,
    path: str | os.PathLike[str],
    *,
    storage_options: StorageOptions | None = None,
) -> None:
    """Collects a frame into a table file, atomically; the suffix decides the format.

    The frame is streamed, so it need not fit into memory. Folders are made. A failed or interrupted
    write leaves an older file at `path` as it was. JSON has no NaN and no infinity: they become null
    there. `.json` is written as `{"rows": [...]}`.

    Args:
        lf: The rows to write, in order.
        path: Where to; see `scan_table` for the suffixes. To `s3://` what is complete in a temporary file is
            sent from there, and takes the place of an older object as a whole.
        storage_options: See `scan_table`.

    Raises:
        TableError: If the suffix is unknown.
        OutputError: If the format cannot hold the frame's dtypes, the file cannot be written, or the plan is
            known to read it.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     sink_table(pl.LazyFrame({"clip_id": ["a"]}), Path(folder) / "new" / "out.json")
        ...     print((Path(folder) / "new" / "out.json").read_text(), end="")
        {"rows": [
        {"clip_id":"a"}
        ]}
    """
    frame = lf.lazy()
    file = File.of(path, storage_options=check_storage_options(storage_options))
    check_sink(file, frame.collect_schema())
    if isinstance(file.path, Path) and is_input(frame, file.path):
        problem = f"{file.written}: the plan that is to be written reads it; expected another file"
        raise OutputError(problem, path=file.written)
    with staged(file.written, file.path) as part:
        write(frame, file, part)


def check_sink(file: File, schema: pl.Schema) -> None:
    """Refuses dtypes that a file's format cannot hold, before anything is written.

    Raises:
        OutputError: Names the columns.
    """
    for kind, refuses in _refusals(file.format).items():
        columns = [name for name, dtype in schema.items() if refuses(dtype)]
        if columns:
            takes_all = not any(
                test(dtype) for test in _refusals("parquet").values() for dtype in schema.dtypes()
            )
            raise OutputError(
                f"{file.written}: {file.format} cannot hold the {kind} columns {listing(columns)}; "
                f"write {'.parquet' if takes_all else '.arrow'} instead",
                path=file.written,
                columns=columns,
            )


def _refusals(format: str) -> dict[str, Callable[[pl.DataType], bool]]:  # noqa: A002 - as files call it
    """What dtypes a format cannot hold: for each kind of them its name, and how it is known."""
    found: dict[str, Callable[[pl.DataType], bool]] = {}
    if format == "csv":
        found["nested"] = lambda dtype: dtype.is_nested()
        found["duration"] = lambda dtype: dtype == pl.Duration
    if format in TEXT_FORMATS:
        found["binary"] = lambda dtype: _holds(dtype, lambda part: part in (pl.Binary, pl.Object))
    if format == "parquet":
        found["field-less"] = lambda dtype: _holds(dtype, lambda part: part == pl.Struct([]))
    return found


def _holds(dtype: pl.DataType, wanted: Callable[[pl.DataType], bool]) -> bool:
    """Whether a dtype, or one inside of it, is wanted."""
    inner: list[object] = [dtype.inner] if isinstance(dtype, (pl.List, pl.Array)) else []
    inner += [part.dtype for part in dtype.fields] if isinstance(dtype, pl.Struct) else []
    return wanted(dtype) or any(_holds(instance(part), wanted) for part in inner)


def write(frame: pl.LazyFrame, file: File, part: Path, metadata: Metadata | None = None) -> None:
    """Streams a frame into `part`, in the format of `file`.

    Args:
        frame: The frame.
        file: What it is to be.
        part: The path to write to.
        metadata: Gives the key-value metadata of a Parquet file when its footer is written, which is last.

    Raises:
        OutputError: If the file cannot be written.
    """
    with _writing(file, part) as stream:
        _sink(frame, file, stream, metadata)
    if file.format == "jsonl" and _is_empty(replace(file, path=part)):
        problem = f"{file.written}: there are no rows, without which JSON lines hold no columns"
        raise OutputError(f"{problem}; write .parquet or .csv instead", path=file.written)


def _is_empty(file: File) -> bool:
    with file.open() as stream:
        return not stream.read(1)


def write_spliced(
    splice: Splice,
    added: pl.LazyFrame,
    file: File,
    part: Path,
    *,
    names: Sequence[str],
    metadata: Metadata,
) -> None:
    """Writes a Parquet table with new columns into `part`, its old columns as they are; see `Splice`.

    Raises:
        OutputError: If the file cannot be written.
        TableError: If a file of the table is cut off.
    """
    with _writing(file, part) as stream:
        splice.write(added, names, stream, metadata)


def check_partitions(written: str, schema: pl.Schema, by: Sequence[str]) -> None:
    """Refuses columns that no folder could be parted by.

    Raises:
        OutputError: Names them.
    """
    for name in by:
        if name not in schema:
            raise OutputError(
                f"{written}: no column {name!r} to part by; the table has {listing(schema)}"
                f"{did_you_mean(name, schema)}",
                path=written,
            )
        dtype = schema[name]
        if not (dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Date, pl.Categorical, pl.Enum)):
            raise OutputError(
                f"{written}: the column {name!r} is {dtype}; expected text, integers, booleans or dates "
                "to part by",
                path=written,
            )
    if len(by) == len(schema):
        raise OutputError(f"{written}: expected a column that is not parted by", path=written)


def write_partitions(
    frame: pl.LazyFrame, file: File, part: Path, *, by: Sequence[str], metadata: Metadata
) -> None:
    """Streams a frame into a folder of Parquet files, parted by columns as Hive does it.

    The columns are in the files, too, with their dtypes. Rows keep their order within a part.

    Raises:
        OutputError: If the files cannot be written, or a text is what Hive writes for null.
    """
    part.mkdir()
    texts = [pl.col(name).cast(pl.String) == HIVE_NULL for name in by]
    try:
        with _small_morsels.of(MORSEL_ROWS):
            if frame.select(pl.any_horizontal(texts).any()).collect().item():
                problem = f"{file.written}: the text {HIVE_NULL!r} would read as null"
                raise OutputError(problem, path=file.written)
            frame.sink_parquet(
                pl.PartitionBy(part, key=list(by), include_key=True),
                metadata=lambda _: metadata(),
                row_group_size=GROUP_ROWS,
                mkdir=True,
                maintain_order=True,
            )
        if not any(part.iterdir()):
            frame.sink_parquet(part / NO_ROWS, metadata=lambda _: metadata())
        for path in part.rglob("*.parquet"):
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
    except FAILURES as error:
        problem = f"{file.written}: could not be written: {in_one_line(error)}"
        raise OutputError(problem, path=file.written) from None


class _SmallMorsels:
    """Morsels of few rows for as long as any thread writes; Polars has one setting for all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[int] = []
        self._config: pl.Config | None = None

    @contextlib.contextmanager
    def of(self, rows: int) -> Iterator[None]:
        """Asks for morsels of so many rows; the least that is asked for counts."""
        with self._lock:
            if self._config is None:
                self._config = pl.Config()
                self._config.__enter__()
            self._asked.append(rows)
            pl.Config.set_streaming_chunk_size(min(self._asked))
        try:
            yield
        finally:
            with self._lock:
                self._asked.remove(rows)
                if self._asked:
                    pl.Config.set_streaming_chunk_size(min(self._asked))
                else:
                    self._config.__exit__(None, None, None)
                    self._config = None


_small_morsels = _SmallMorsels()


@contextlib.contextmanager
def _flushing(file: int) -> Iterator[None]:
    """Has the disk begin with what is written while the rest is made, so that there is less to wait for.

    Raises:
        OSError: What the disk has said, which it says only once.
    """
    problems: list[OSError] = []
    done = threading.Event()

    def flush() -> None:
        while not problems and not done.wait(FLUSH_S):
            try:
                os.fsync(file)
            except OSError as error:
                problems.append(error)

    thread = threading.Thread(target=flush, name="flush")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if problems:
        raise problems[0]


@contextlib.contextmanager
def _writing(file: File, part: Path) -> Iterator[BinaryIO]:
    """A stream to `part`, which is on the disk when the block has ended."""
    rows = TEXT_ROWS if file.format in TEXT_FORMATS else MORSEL_ROWS
    try:
        # Opened here, so that a sink which an interrupt leaves behind has no file to make later on.
        with part.open("wb") as stream:
            with _small_morsels.of(rows), _flushing(stream.fileno()):
                yield stream
                stream.flush()
            os.fsync(stream.fileno())
    except MaterializeError:
        raise
    except FAILURES as error:
        problem = f"{file.written}: could not be written: {in_one_line(error)}"
        raise OutputError(problem, path=file.written) from None


def _sink(frame: pl.LazyFrame, file: File, stream: BinaryIO, metadata: Metadata | None) -> None:
    compression = file.compression or "uncompressed"
    if file.format == "parquet":
        pairs = None if metadata is None else lambda _: metadata()
        frame.sink_parquet(stream, metadata=pairs, row_group_size=GROUP_ROWS)
    elif file.format == "ipc":
        # Views of text, which Polars writes by itself, are not read by pandas with pyarrow below 19.
        oldest = pl.CompatLevel.oldest()
        frame.sink_ipc(stream, record_batch_size=GROUP_ROWS, compat_level=oldest)
    elif file.format == "csv":
        frame.sink_csv(stream, compression=compression, check_extension=False)
    elif file.format == "jsonl":
        frame.sink_ndjson(stream, compression=compression, check_extension=False)
    else:
        _sink_document(frame, file, stream)


def _sink_document(frame: pl.LazyFrame, file: File, stream: BinaryIO) -> None:
    """Writes `{"rows": [...]}`, one row a line."""
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - only this format needs it

    own = os.fdopen(os.dup(stream.fileno()), "wb")  # pyarrow closes what it is given
    with pa.output_stream(own, compression=file.compression) as out:
        out.write(b'{"rows": [')
        separator = b"\n"

        def add(batch: pl.DataFrame) -> None:
            nonlocal separator
            rows = batch.write_ndjson().encode().rstrip(b"\n")
            if rows:
                out.write(separator + rows.replace(b"\n", b",\n"))  # a line end is never inside of a row
                separator = b",\n"

        each_batch(frame, add)
        out.write(b"\n]}\n")
