"""Parquet tables that get columns without their own being read.

The chunks of old columns are copied as they are, and only the new ones are encoded. So nothing of a column
can be lost, not even how it was encoded; and a join takes less time than copying its table by reading and
writing it.
"""

from __future__ import annotations

import contextlib
import io
from collections import deque
from typing import TYPE_CHECKING, BinaryIO

import polars as pl

from polars_materialize.errors import TableError
from polars_materialize.tables.batches import each_batch
from polars_materialize.tables.footers import (
    UnknownSchemaError,
    arrow_schema,
    merged_pairs,
    merged_schema,
)
from polars_materialize.tables.pages import PageError
from polars_materialize.tables.parallel import Behind
from polars_materialize.tables.parquet import ARROW_SCHEMA, GROUP_ROWS, Footer, ParquetWriter, read_footer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    import pyarrow as pa

    from polars_materialize.tables.files import File
    from polars_materialize.tables.thrift import Struct

GROUP_BYTES = 2**28
"""How much of new columns may be held at a time; how many rows a row group has, the source decides."""

AT_ONCE = 100_000
"""The rows of a table whose new columns are collected at once; starting a stream takes longer."""

CHUNKS = 50_000
"""How many column chunks a footer may have; rewriting a larger one takes seconds."""


class Splice:
    """The files of a table to which columns can be added.

    Attributes:
        files: The files.
        footers: The footer of each.
        schemas: The Arrow schema that each holds, if it does.
    """

    def __init__(
        self, files: Sequence[File], footers: Sequence[Footer], schemas: Sequence[pa.Schema | None]
    ) -> None:
        """Use `Splice.of`."""
        self.files = files
        self.footers = footers
        self.schemas = schemas

    @classmethod
    def of(cls, files: Sequence[File], added: Mapping[str, pl.DataType]) -> Splice | None:
        """Looks whether columns can be put beside those of some files.

        They cannot if a file is no Parquet file, in a store, encrypted or damaged, or holds an Arrow schema
        that is of no use; if the files have not the same columns of the same kinds; if a row group is so
        large that new columns for it would take much memory; or if there are so many that it would not be
        quick.

        Args:
            files: The files of one table.
            added: The new columns.

        Raises:
            TableError: If a file ends before its columns do.
        """
        footers: list[Footer] = []
        for file in files:
            if file.format != "parquet" or not file.is_local:
                return None
            try:
                with file.local().open("rb") as stream:
                    footer = read_footer(stream)
            except PageError as error:
                raise TableError(file.written, f"cannot be read: {error}") from None
            if footer is None or (footers and footer.columns != footers[0].columns):
                return None
            footers.append(footer)
        sizes = [group.get(GROUP_ROWS) for footer in footers for group in footer.groups]
        chunks = sum(footers[0].leaves.values()) + len(added)
        if max(sizes, default=0) * 8 * len(added) > GROUP_BYTES or len(sizes) * chunks > CHUNKS:
            return None
        try:
            arrow_schema(_encode(pl.DataFrame(schema=added))[1])
            schemas = [arrow_schema(footer) for footer in footers]
        except UnknownSchemaError:
            return None
        return cls(files, footers, schemas) if all(_alike(one, schemas[0]) for one in schemas) else None

    def write(
        self,
        added: pl.LazyFrame,
        names: Sequence[str],
        out: BinaryIO,
        metadata: Callable[[], Mapping[str, str]],
    ) -> None:
        """Writes the table with new columns, once: row groups are let go of as they are written.

        Args:
            added: The new columns, as many rows as the table has and in their order.
            names: All columns in their order; one of `added` takes the place of the table's.
            out: What to write to, at its beginning.
            metadata: Gives key-value metadata beside the table's own, when all else is written.

        Raises:
            TableError: If a file is cut off, or its pages are damaged.
        """
        pairs = merged_pairs(list(zip(self.footers, self.schemas, strict=True)), set(added.collect_schema()))
        writer = ParquetWriter(out, names)
        all_sizes = [group.get(GROUP_ROWS) for footer in self.footers for group in footer.groups]
        sizes = [rows for rows in all_sizes if rows]
        cutter = _Cutter(sizes)
        new = _encode(added.clear().collect())[1]

        def add(encoded: BinaryIO, own: Footer) -> None:
            file, source, footer, group = next(groups)
            parts = {name: (source, chunks) for name, chunks in footer.chunks(group).items()}
            parts |= {name: (encoded, chunks) for name, chunks in own.chunks(own.groups[0]).items()}
            try:
                writer.add_group(group, parts)
            except (EOFError, PageError) as error:
                raise TableError(file.written, f"cannot be read: {error}") from None

        def take(batch: pl.DataFrame, do: Callable[..., None]) -> None:
            nonlocal new
            for frame in cutter.add(batch):
                encoded, new = _encode(frame)
                do(add, encoded, new)

        with contextlib.closing(self._groups()) as groups:
            if sum(sizes) <= AT_ONCE:
                take(added.collect(engine="in-memory"), do=lambda work, *of: work(*of))
            else:
                # Copying waits for memory and the disk, so the next columns are encoded meanwhile.
                with Behind() as behind:
                    each_batch(added, lambda batch: take(batch, do=behind.do))
        assert cutter.done, "the new columns have a value for each row"  # noqa: S101
        own, schemas = arrow_schema(new), [schema for schema in self.schemas if schema is not None]
        if schemas and own is not None:
            pairs[ARROW_SCHEMA] = merged_schema(schemas, own, names, pairs)
        pairs |= {name.encode(): text.encode() for name, text in metadata().items()}
        writer.end(self.footers[0], new, pairs)

    def _groups(self) -> Generator[tuple[File, BinaryIO, Footer, Struct], None, None]:
        """The row groups of the table that have rows, each with its file."""
        for file, footer in zip(self.files, self.footers, strict=True):
            with file.local().open("rb", buffering=0) as stream:
                while footer.groups:
                    group = footer.groups.pop(0)
                    if group.get(GROUP_ROWS):
                        yield file, stream, footer, group


class _Cutter:
    """Cuts rows that come in batches to pieces of given sizes."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = deque(sizes)
        self._held: list[pl.DataFrame] = []
        self._rows = 0

    def add(self, batch: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The pieces that are complete with a batch."""
        self._held.append(batch)
        self._rows += batch.height
        while self._sizes and self._rows >= self._sizes[0]:
            size = self._sizes.popleft()
            frame = pl.concat(self._held)
            rest = frame.slice(size)
            self._held, self._rows = [rest], rest.height
            yield frame.head(size)

    @property
    def done(self) -> bool:
        """Whether every piece was given, and nothing is left."""
        return not self._sizes and not self._rows


def _alike(one: pa.Schema | None, other: pa.Schema | None) -> bool:
    """Whether two files say the same of the Arrow types of their columns."""
    if one is None or other is None:
        return one is other
    return bool(one.remove_metadata().equals(other.remove_metadata(), check_metadata=True))


def _encode(frame: pl.DataFrame) -> tuple[BinaryIO, Footer]:
    """New columns as a Parquet file of one row group, in memory, and its footer."""
    stream = io.BytesIO()
    frame.write_parquet(stream, row_group_size=frame.height)
    footer = read_footer(stream)
    assert footer is not None, "it was just written"  # noqa: S101
    return stream, footer
