"""Polars' own scans of Parquet and Arrow tables: of this machine, in a store, or copied from one."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import polars as pl

from polars_materialize import warm
from polars_materialize.errors import TableError, listing
from polars_materialize.stores import Url
from polars_materialize.stores.copies import AT_ONCE
from polars_materialize.tables.arrow_streams import check_stream
from polars_materialize.tables.batches import each_batch
from polars_materialize.tables.failures import FAILURES, unreadable
from polars_materialize.tables.files import SCANNED
from polars_materialize.tables.parquet import intervals, stored_schema
from polars_materialize.tables.readers import lazily
from polars_materialize.tables.zones import refuse_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from polars_materialize.tables.files import File


AS_IT_IS: dict[str, Any] = {"glob": False, "hive_partitioning": False}
"""A path is no glob, and its folders are read by this package, which loses no zero of theirs."""


def scan_parquet(file: File) -> pl.LazyFrame:
    """A Parquet file as a LazyFrame."""
    if file.is_local:
        return _kept(file, lambda: pl.scan_parquet(file.local(), **AS_IT_IS))
    return pl.scan_parquet(str(file.path), **AS_IT_IS, **_reaching(file))


def scan_parquets(files: Sequence[File], *, path: str | None = None) -> pl.LazyFrame:
    """Parquet files with the same columns as one LazyFrame: all of this machine, or all in one store.

    Args:
        files: The files.
        path: A column for the path of the file that a row is from; for files of this machine only.
    """
    if files[0].is_local:
        return pl.scan_parquet([file.local() for file in files], **AS_IT_IS, include_file_paths=path)
    return pl.scan_parquet([str(file.path) for file in files], **AS_IT_IS, **_reaching(files[0]))


def reach(file: File) -> str | None:
    """What files have in common that `scan_parquets` takes together; none if it takes no other with it."""
    if isinstance(file.path, Path):
        return ""
    return None if file.path.copied else f"{file.path.address.scheme}://{file.path.address.bucket}"


HEAD_BYTES = 2**16
"""How much of an Arrow file is looked through for its schema, with which it begins."""


def _arrow() -> Any:
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - slow to import

    return pa


_schemas: WeakKeyDictionary[Url, pl.Schema] = WeakKeyDictionary()


def read_ahead(files: Sequence[File]) -> None:
    """Reads the schemas of Parquet tables in stores side by side, since each waits for its store."""
    remote = [file for file in files if file.format == "parquet" and not file.is_local]

    def read(file: File) -> None:
        with contextlib.suppress(*FAILURES):  # reading it says what is wrong
            parquet_schema(file)

    if len(remote) > 1:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="tables") as pool:
            list(pool.map(read, remote))


def parquet_schema(file: File) -> pl.Schema:
    """The schema of a Parquet file.

    Raises:
        TableError: If a column holds intervals, or times at an offset.
    """
    if file.is_local:
        with file.local().open("rb") as stream:
            columns, schema = intervals(stream), stored_schema(stream)
        if columns:
            problem = f"the columns {listing(columns)} hold intervals, which Polars cannot read"
            raise TableError(file.written, f"{problem}; write them as text or as numbers")
        refuse_offsets(file.written, schema, lambda: _arrow().ipc.read_schema(_arrow().py_buffer(schema)))
        return pl.scan_parquet(file.local(), **AS_IT_IS).collect_schema()
    assert isinstance(file.path, Url), "what is not local has a url"  # noqa: S101
    if file.path not in _schemas:
        _schemas[file.path] = scan_parquet(file).collect_schema()
    return _schemas[file.path]


def scan_ipc(file: File) -> pl.LazyFrame:
    """An Arrow file as a LazyFrame.

    Raises:
        TableError: If a stream is cut off, or a column holds times at an offset.
    """
    with file.open() as stream:
        head = stream.read(HEAD_BYTES)
    if not head.startswith(b"ARROW1"):
        # The streaming layout has no index at its end to scan by.
        check_stream(file.local(), file.written)
        refuse_offsets(file.written, head, lambda: _arrow().ipc.open_stream(str(file.local())).schema)
        return pl.read_ipc_stream(file.local()).lazy()
    if file.is_local:
        refuse_offsets(file.written, head, lambda: _arrow().ipc.open_file(str(file.local())).schema)
        return _kept(file, lambda: pl.scan_ipc(file.local(), glob=False))
    return pl.scan_ipc(str(file.path), glob=False, **_reaching(file))


def refuse_unreadable(files: Sequence[File]) -> None:
    """Refuses the first of some Parquet and Arrow files whose rows cannot be read; to find it reads them all.

    Raises:
        TableError: Names it.
    """
    for file in files:
        if file.format in SCANNED:
            try:
                frame = scan_parquet(file) if file.format == "parquet" else scan_ipc(file)
                each_batch(frame, lambda _: None)
            except FAILURES as error:
                raise unreadable(file.written, error) from None


def _reaching(file: File) -> dict[str, Any]:
    return file.path.for_polars() if isinstance(file.path, Url) else {}


def _kept(file: File, scan: Callable[[], pl.LazyFrame]) -> pl.LazyFrame:
    """A scan that keeps the copy that it is of, for as long as a plan holds it."""
    if not isinstance(file.path, Url):
        return scan()

    def read(columns: list[str]) -> Iterator[pl.DataFrame]:
        return scan().select(columns).collect_batches(maintain_order=True)

    return lazily(read, scan().collect_schema())
