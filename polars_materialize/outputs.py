"""Where a run writes: one file, a file for each shard, or a folder parted by columns.

`joined.parquet` is one file. `joined/{stem}.parquet` is a file for each file of the table, with the columns
that this one has: `{stem}` is its name less its suffix, `{folder}` the folder that it lies in below the one
that all share. With `partition_by` the path is a folder, parted as Hive does it; of this machine only.
Objects in a store (`s3://`) are whole, each; those of a template appear one after another.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from polars_materialize import signals
from polars_materialize.errors import OptionError, OutputError, TableError, did_you_mean, listing
from polars_materialize.footers import earlier_audits, footer_text, limit
from polars_materialize.provenance import as_written, describe
from polars_materialize.stores import Url, is_url, refuse_output
from polars_materialize.tables import (
    FOOTER_KEY,
    POLARS_FAILURES,
    SIDE_BY_SIDE,
    File,
    Splice,
    changed_types,
    check_partitions,
    check_sink,
    in_order,
    is_up_to,
    refuse_unreadable,
    staged,
    staged_folder,
    write,
    write_partitions,
    write_spliced,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import msgspec
    import polars as pl

    from polars_materialize.chains import Attached
    from polars_materialize.provenance import Described
    from polars_materialize.stores import Place, StorageOptions
    from polars_materialize.tables import Shard, Table

STEM, FOLDER = "{stem}", "{folder}"

PARTITIONS = 2**8
"""How many files a folder that is parted by columns is taken to have, before it is written."""

LIGHT_BYTES = 2**25
"""Of what size the files of a table may be to be joined and written side by side."""


@dataclass(frozen=True)
class Joined:
    """A table with its new columns, before it is written.

    Attributes:
        table: The table.
        rows: All rows of it.
        attached: Gives rows of it the new columns.
        schema: The columns of both.
        added: The new columns.
        drops: Whether rows may be missing then.
    """

    table: Table
    rows: pl.LazyFrame
    attached: Attached
    schema: pl.Schema
    added: Mapping[str, pl.DataType]
    drops: bool

    def frame(self, shard: int | None = None) -> pl.LazyFrame:
        """All rows, or those of one file with the columns that it has, with the new columns."""
        if shard is None:
            return self.attached.all(self.rows)
        return self.attached.some(self.table.part(shard)).select(self.names(shard))

    def names(self, shard: int | None = None) -> list[str]:
        """The columns of all rows, or of those of one file."""
        kept = self.schema if shard is None else {*self.table.shards[shard].columns, *self.added}
        return [name for name in self.schema if name in kept]


def check_target(target: str, partition_by: Sequence[str], option: str) -> None:
    """Refuses a path that nothing could be written to.

    Raises:
        OptionError: Names the option.
    """
    if partition_by:
        if is_url(target):
            problem = f"{target!r} is a url; partition_by writes a folder of this machine only"
            raise OptionError(f"{option}: {problem}", option=option)
        if not target.strip() or "\0" in target or is_template(target):
            raise OptionError(
                f"{option}: {target!r}; expected a folder, as partition_by is said", option=option
            )
        if len(set(partition_by)) < len(partition_by):
            problem = f"partition_by: {listing(partition_by)}; expected each column once"
            raise OptionError(problem, option="partition_by")
        return
    unknown = [part for part in re.findall(r"\{[^{}/]*\}", target) if part not in (STEM, FOLDER)]
    if unknown:
        problem = f"unknown {unknown[0]}{did_you_mean(unknown[0], (STEM, FOLDER))}"
        raise OptionError(f"{option}: {problem}; expected {STEM} or {FOLDER}", option=option)
    try:
        example = _filled(target, "x", ".")
        File.of(example)
        refuse_output(example)
    except (OutputError, TableError) as error:
        raise OptionError(f"{option}: {error}", option=option) from None


def is_template(target: str) -> bool:
    """Whether a path is one for each file of a table."""
    return STEM in target or FOLDER in target


def _filled(target: str, stem: str, folder: str) -> str:
    parts = {STEM: stem, FOLDER: folder}  # in one go: a file may be called {folder}.csv
    if is_url(target) and folder == ".":  # no part of an object's name may be
        target = re.sub(r"(?<=/)\{folder\}/", "", target)
    return re.sub(r"\{stem\}|\{folder\}", lambda found: parts[found[0]], target)


class Outputs:
    """What a run writes for one table, but for its audit."""

    def __init__(
        self,
        target: str,
        partition_by: Sequence[str],
        shards: Sequence[File],
        base_dir: Path | None,
        storage_options: StorageOptions | None = None,
    ) -> None:
        """Finds the paths to write to.

        Args:
            target: The path as the user wrote it.
            partition_by: The columns that a folder is parted by, if it is one.
            shards: The files of the table.
            base_dir: What a relative path is relative to.
            storage_options: How a store is reached.

        Raises:
            OutputError: If two files of the table would have the same output.
        """
        self.target = target
        self.partition_by = list(partition_by)
        self.is_template = is_template(target)
        if partition_by:
            path = Path(target) if base_dir is None else base_dir / target
            self.files = [File(target, path, "parquet")]
        elif self.is_template:
            self.files = _one_each(target, shards, base_dir, storage_options)
        else:
            self.files = [File.of(target, base_dir, storage_options=storage_options)]
        self._parts: list[Path] = []
        self._warnings: dict[int, list[str]] = {}

    @property
    def warnings(self) -> list[str]:
        """What a reader should know of what was written, each once: types of columns that changed."""
        said = itertools.chain.from_iterable(self._warnings[place] for place in sorted(self._warnings))
        return list(dict.fromkeys(said))

    @property
    def paths(self) -> list[tuple[str, Place]]:
        """The files, objects and folders, as the user would write them, and where they are."""
        return [(file.written, file.path) for file in self.files]

    def check(self, schema: pl.Schema) -> None:
        """Refuses columns that the outputs cannot hold.

        Raises:
            OutputError: Names them.
        """
        if self.partition_by:
            check_partitions(self.target, schema, self.partition_by)
        for file in self.files:
            check_sink(file, schema)

    def stage(self, stack: contextlib.ExitStack) -> None:
        """Makes places beside the outputs to write to, which take their place when the stack ends well."""
        if self.partition_by:
            folder = self.files[0]
            self._parts = [stack.enter_context(staged_folder(folder.written, folder.local()))]
            return
        self._parts = [stack.enter_context(staged(file.written, file.path)) for file in self.files]

    def expected(self) -> Described | list[Described]:
        """The outputs as they can be described before they are written."""
        if self.partition_by:
            return [as_written(self.target, "directory")]
        found = [as_written(file.written, "file") for file in self.files]
        return found if self.is_template else found[0]

    def write(self, joined: Joined, audit: Callable[[], msgspec.Struct]) -> None:
        """Writes the table to the staged places.

        Args:
            joined: The table.
            audit: Gives the audit for the footers of Parquet files, when these are written: last of all.

        Raises:
            OutputError: If a file cannot be written.
            TableError: If that is because a file of the table cannot be read.
        """
        try:
            self._write(joined, audit)
        except OutputError as error:
            if isinstance(error.__context__, POLARS_FAILURES):
                refuse_unreadable([shard.file for shard in joined.table.shards])
            raise

    def _write(self, joined: Joined, audit: Callable[[], msgspec.Struct]) -> None:

        def metadata(shards: Sequence[Shard], files: int) -> Callable[[], dict[str, str]]:
            earlier = earlier_audits([shard.file for shard in shards])
            return lambda: {FOOTER_KEY: footer_text(audit(), earlier, limit(files))}

        every = joined.table.shards
        if self.partition_by:
            file, part, own = self.files[0], self._parts[0], metadata(every, PARTITIONS)
            self._warnings[0] = _changes(joined, None, file)
            write_partitions(joined.frame(), file, part, by=self.partition_by, metadata=own)
            return
        shards = range(len(joined.table.shards)) if self.is_template else [None]

        def write_one(place: tuple[int | None, File, Path]) -> None:
            shard, file, part = place
            parts = every if shard is None else [every[shard]]
            own = metadata(parts, len(self.files)) if file.format == "parquet" else None
            if not _write_one(joined, shard, file, part, own):
                self._warnings[shard or 0] = _changes(joined, shard, file)

        # While a small file is flushed to the disk, another may be joined; a large one takes all cores.
        are_light = all(is_up_to(shard.file.path, LIGHT_BYTES) for shard in joined.table.shards)
        several = SIDE_BY_SIDE if are_light else 1
        for _ in in_order(write_one, zip(shards, self.files, self._parts, strict=True), at_once=several):
            pass

    def describe(self, *, hashed: bool) -> Described | list[Described]:
        """The staged outputs, described as what they will be."""
        if not self.partition_by:
            found = [
                describe(file.written, part, hashed=hashed)
                for file, part in zip(self.files, self._parts, strict=True)
            ]
            return found if self.is_template else found[0]
        root = self._parts[0]
        names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        stem = self.target.rstrip("/\\")
        return [describe(f"{stem}/{name}", root / name, hashed=hashed) for name in names]


@contextlib.contextmanager
def placed(written: Sequence[tuple[str, Place]]) -> Iterator[contextlib.ExitStack]:
    """A stack of staged files and folders, which take their places one right after another at its end.

    Between two of them Ctrl-C and a polite kill have to wait, so a table and its audit are of one run. Only
    what ends the process at once (SIGKILL, a power cut) can come between; the hash in the audit shows that.
    Objects are sent to a store then, which takes too long to wait for.

    Args:
        written: What is going to be written.
    """
    local = all(isinstance(path, Path) for _, path in written)
    with contextlib.ExitStack() as stack:
        yield stack
        with signals.held_back() if local else contextlib.nullcontext():
            stack.close()


def _one_each(
    target: str, shards: Sequence[File], base_dir: Path | None, options: StorageOptions | None
) -> list[File]:
    """An output for each file of a table."""
    parents = [_parent(file) for file in shards]
    shared = os.path.commonpath(parents) if len(set(parents)) > 1 else str(parents[0])
    files: dict[str, File] = {}
    for file, parent in zip(shards, parents, strict=True):
        folder = PurePath(os.path.relpath(parent, shared)).as_posix()
        written = _filled(target, file.stem, folder)
        written = written if is_url(written) else PurePath(written).as_posix()
        output = File.of(written, base_dir, storage_options=options)
        if output.written in files:
            first = files[output.written]
            lacking = [part for part in (STEM, FOLDER) if part not in target]
            hint = f"with {lacking[0]} in its path" if lacking else "so one of them needs another name"
            raise OutputError(
                f"{output.written}: would be the output of {first.written} and of {file.written}; "
                f"expected one for each, {hint}",
                path=output.written,
            )
        files[output.written] = file
    return [File.of(written, base_dir, storage_options=options) for written in files]


def _parent(file: File) -> PurePath:
    """The folder of a file, or the prefix of an object in its bucket."""
    if isinstance(file.path, Url):
        return PurePosixPath("/", file.path.address.path).parent
    return PurePath(file.written).parent


def _changes(joined: Joined, shard: int | None, file: File) -> list[str]:
    """What Polars does not keep of the types of a table, or of one of its files."""
    shards = joined.table.shards if shard is None else [joined.table.shards[shard]]
    schema = joined.frame(shard).collect_schema()
    return changed_types([one.file for one in shards], schema, file, joined.added)


def _write_one(
    joined: Joined, shard: int | None, file: File, part: Path, metadata: Callable[[], dict[str, str]] | None
) -> bool:
    """Writes one file: the whole table, or the rows and columns of one of its files.

    Returns:
        Whether old columns were copied as they are.
    """
    shards = joined.table.shards if shard is None else [joined.table.shards[shard]]
    frame = joined.frame(shard)
    keeps = metadata is not None and all(one.plain for one in shards) and not joined.drops
    spliced = Splice.of([one.file for one in shards], joined.added) if keeps else None
    if spliced is None or metadata is None:
        write(frame, file, part, metadata)
        return False
    added = frame.select(list(joined.added))
    write_spliced(spliced, added, file, part, names=joined.names(shard), metadata=metadata)
    return True
