"""Tables: a file, or several that are one table."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from polars_materialize.arguments import checked
from polars_materialize.names import refuse_patterns, spare_names
from polars_materialize.stores import check_storage_options
from polars_materialize.tables import dtypes
from polars_materialize.tables.agreement import agree, refuse_misfits
from polars_materialize.tables.files import TEXT_FORMATS, find_shards
from polars_materialize.tables.folders import partition, partition_dtypes, refuse_other_values
from polars_materialize.tables.opening import Kept, inspect, scan
from polars_materialize.tables.scans import reach, read_ahead, scan_parquets

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from polars_materialize.stores import StorageOptions
    from polars_materialize.tables.files import File

KEPT_BYTES = 2**28
"""How much of a table that was parsed to find its schema a run keeps."""


@checked
def scan_table(
    path: str | os.PathLike[str], *, storage_options: StorageOptions | None = None
) -> pl.LazyFrame:
    """Opens a table file of any known format as a LazyFrame, with nothing lost.

    The suffix decides: `.parquet .pq .jsonl .ndjson .json .csv .arrow .feather .ipc`, text formats
    also with `.gz` or `.zst`. Parquet and Arrow files are not read until the frame is collected, but for
    columns that their folders say, too. Text files hold no schema, so they are read through once here to
    find one that holds every value: every field of every line, numbers only where nothing is lost by it,
    text otherwise.

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
            message names the file and the line); if files of a glob disagree about a column's dtype; if a
            file has a column that its folders say, with other values.

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


class Shard(NamedTuple):
    """One file of a table.

    Attributes:
        file: The file.
        rows: Its rows, with its own columns, in their dtypes of the whole table.
        columns: These columns.
        plain: Whether it is a Parquet file with all of its columns in itself.
        said: What its folders say, for a Parquet file that lacks nothing else.
    """

    file: File
    rows: pl.LazyFrame
    columns: Mapping[str, pl.DataType]
    plain: bool
    said: Mapping[str, pl.Series] | None


class Table(NamedTuple):
    """A table in one file or several.

    Attributes:
        shards: The files.
        schema: The columns of all of them.
    """

    shards: Sequence[Shard]
    schema: pl.Schema

    def whole(self) -> pl.LazyFrame:
        """The rows of all files; a column that some of them lack is null there."""
        frames = []
        for (scans, own), group in itertools.groupby(self.shards, _kind):
            shards = list(group)
            some = [shard.rows for shard in shards]
            if scans is not None and len(shards) > 1:  # thousands of scans would be planned one by one
                some = [_scan(shards)]
            frames += [self._widened(frame, dict(own)) for frame in some]
        return frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical")

    def part(self, place: int) -> pl.LazyFrame:
        """The rows of one file, with the columns of all."""
        return self._widened(self.shards[place].rows, self.shards[place].columns)

    def _widened(self, frame: pl.LazyFrame, own: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        """Rows with the columns of all files, in their order."""
        if list(own.items()) == list(self.schema.items()):
            return frame
        absent = {name: pl.lit(None, dtype) for name, dtype in self.schema.items() if name not in own}
        # Not by one select, which would make a row of nothing but these for a file without columns.
        return frame.with_columns(**absent).select(self.schema.names())


def _kind(shard: Shard) -> tuple[tuple[str, ...] | None, tuple[tuple[str, pl.DataType], ...]]:
    """What files have in common that can be read by one scan."""
    where = reach(shard.file)
    # Of objects in a store no path comes back by which to join what folders say.
    apart = shard.said is None or where is None or (bool(shard.said) and not shard.file.is_local)
    return None if apart else (str(where), *(shard.said or {})), tuple(shard.columns.items())


def _scan(shards: Sequence[Shard]) -> pl.LazyFrame:
    """The rows of Parquet files with the same columns, in one scan; what folders say is joined on."""
    files = [shard.file for shard in shards]
    cells = [shard.said or {} for shard in shards]
    if not cells[0]:
        return scan_parquets(files)
    [path] = spare_names(shards[0].columns, 1)
    said = {name: pl.concat([cell[name] for cell in cells]) for name in cells[0]}
    return (
        scan_parquets(files, path=path)
        .join(
            pl.LazyFrame({path: [str(file.local()) for file in files], **said}),
            on=path,
            how="left",
            nulls_equal=False,
            coalesce=True,
            maintain_order="left",
            validate="m:m",  # a path stands once, and checking costs a pass
        )
        .select(list(shards[0].columns))
    )


def open_table(files: Sequence[File], key_columns: Sequence[str] = (), *, keep: bool = False) -> Table:
    """Opens the files of one table; see `scan_table`.

    Args:
        files: The files.
        key_columns: Columns of CSV files that hold keys, beside those with a name that says so: they become
            numbers only if no cell could be spelled otherwise, since `1.10` and `1.1` are two clips.
        keep: Keep the rows of JSON files that had to be parsed to find their schema, if they are small:
            for runs, which look at a table twice and do not outlive it.
    """
    kept = Kept(KEPT_BYTES if keep else 0)
    read_ahead(files)
    found = [inspect(file, key_columns, kept) for file in files]
    for file, profile in zip(files, found, strict=True):
        refuse_patterns(profile.schema, file.written)
    alone = found
    found, cast = agree(files, alone)
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
    said = partition_dtypes(files, schema)
    rows: list[pl.LazyFrame] = []
    read: list[pl.Schema] = []
    shards: list[Shard] = []
    for place, (file, profile) in enumerate(zip(files, found, strict=True)):
        own = pl.Schema({name: schema[name] for name in profile.schema})
        if not own and file.format in TEXT_FORMATS:  # rows without any field are rows
            own = pl.Schema(list(schema.items())[:1])
        numbers = {name: alone[place].result()[name] for name in cast[place]}
        read.append(pl.Schema({**own, **numbers}))
        frame = kept.table(file, read[-1], mixed)
        if frame is None:
            frame = scan(file, read[-1], mixed, plain=profile.plain and not mixed)
        rows.append(frame)
        refuse_misfits(files, place, alone[place], frame, cast[place])
        cell = {
            name: partition(file, name, value, said[name])
            for name, value in file.partitions
            if name not in own
        }
        new = {name: pl.lit(value).first() for name, value in cell.items()}
        columns = {**own, **{name: said[name] for name in new}}
        if file.format not in TEXT_FORMATS:  # a column of nulls without a type gets that of the others
            others = (name for name, dtype in own.items() if profile.schema[name] != dtype)
            new |= {name: pl.lit(None, own[name]) for name in others}
        new |= {name: pl.col(name).cast(own[name]) for name in numbers}
        is_parquet = file.format == "parquet"
        shards.append(
            Shard(
                file,
                frame.with_columns(**new) if new else frame,
                columns,
                plain=is_parquet and not new,
                said=cell if is_parquet and len(cell) == len(new) else None,
            )
        )
    refuse_other_values(files, found, read, rows)
    whole = pl.Schema({**schema, **{name: dtype for name, dtype in said.items() if name not in schema}})
    return Table(shards, whole)
