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
from polars_materialize.tables.parallel import Behind
from polars_materialize.tables.parquet import ARROW_SCHEMA, GROUP_ROWS, Footer, ParquetWriter, read_footer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

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
    """

    def __init__(self, files: Sequence[File], footers: Sequence[Footer]) -> None:
        """Use `Splice.of`."""
        self.files = files
        self.footers = footers

    @classmethod
    def of(cls, files: Sequence[File], added: Mapping[str, pl.DataType]) -> Splice | None:
        """Looks whether columns can be put beside those of some files.

        They cannot if a file is no Parquet file, in a store, encrypted or damaged; if the files have not the
        same columns of the same kinds; if a row group is so large that new columns for it would take much
        memory; or if there are so many that it would not be quick.

        Args:
            files: The files of one table.
            added: The new columns.
        """
        footers: list[Footer] = []
        for file in files:
            if file.format != "parquet" or not file.is_local:
                return None
            with file.local().open("rb") as stream:
                footer = read_footer(stream)
            if footer is None or (footers and not _alike(footer, footers[0])):
                return None
            footers.append(footer)
        rows = [group.get(GROUP_ROWS) for footer in footers for group in footer.groups]
        if not rows or min(rows) == 0 or max(rows) * 8 * len(added) > GROUP_BYTES:
            return None
        chunks = sum(footers[0].leaves.values()) + len(added)
        return cls(files, footers) if len(rows) * chunks <= CHUNKS else None

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
            TableError: If a file is cut off.
        """
        writer = ParquetWriter(out, names)
        sizes = [group.get(GROUP_ROWS) for footer in self.footers for group in footer.groups]
        cutter = _Cutter(sizes)
        new: Footer | None = None

        def add(encoded: BinaryIO, own: Footer) -> None:
            file, source, footer, group = next(groups)
            parts = {name: (source, chunks) for name, chunks in footer.chunks(group).items()}
            parts |= {name: (encoded, chunks) for name, chunks in own.chunks(own.groups[0]).items()}
            try:
                writer.add_group(group, parts)
            except EOFError as error:
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
        assert new is not None, "there is a row group"  # noqa: S101
        assert cutter.done, "the new columns have a value for each row"  # noqa: S101
        writer.end(self.footers[0], new, metadata())

    def _groups(self) -> Generator[tuple[File, BinaryIO, Footer, Struct], None, None]:
        """The row groups of the table, each with its file."""
        for file, footer in zip(self.files, self.footers, strict=True):
            with file.local().open("rb", buffering=0) as stream:
                while footer.groups:
                    yield file, stream, footer, footer.groups.pop(0)


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


def _alike(one: Footer, other: Footer) -> bool:
    """Whether two files have the same columns, of the same kinds."""
    return one.columns == other.columns and one.pairs.get(ARROW_SCHEMA) == other.pairs.get(ARROW_SCHEMA)


def _encode(frame: pl.DataFrame) -> tuple[BinaryIO, Footer]:
    """New columns as a Parquet file of one row group, in memory, and its footer."""
    stream = io.BytesIO()
    frame.write_parquet(stream, row_group_size=frame.height)
    footer = read_footer(stream)
    assert footer is not None, "it was just written"  # noqa: S101
    return stream, footer
