"""Whole tables of a batch run by the workers of an executor: a table a task, its audit as plain values."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from polars_materialize import provenance
from polars_materialize.errors import MaterializeError, is_panic, unexpected
from polars_materialize.executors import refuse_other_versions, run_all
from polars_materialize.provenance import Described, Hasher
from polars_materialize.runs import Context, Memo, builtins
from polars_materialize.tables import staging_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from concurrent.futures import Executor

    from polars_materialize.provenance import Base
    from polars_materialize.stores import StorageOptions

Result = tuple[dict[str, Any] | None, str | None]
"""What comes of a table: its audit as plain values, or what went wrong."""

Table = TypeVar("Table", bound=msgspec.Struct)


def attempt(run: Callable[[Table, Context], msgspec.Struct], table: Table, context: Context) -> Result:
    """Runs one table: its audit as plain values, or what went wrong."""
    try:
        return builtins(run(table, context)), None
    except MaterializeError as error:
        return None, str(error)
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        return None, unexpected(error)  # whatever breaks one table must not stop the others


@dataclass(frozen=True)
class _Batch:
    """What every worker has to know of a batch.

    Attributes:
        entrypoint: See `Context`.
        argv: See `Context`.
        base_dir: See `Context`; the same wherever a worker runs.
        manifest: See `Context`.
        mark: What names its half-written files.
        versions: The versions that decide what is written.
        storage_options: See `Context`; workers get them, nobody else.
        base: See `Context`.
    """

    entrypoint: str
    argv: tuple[str, ...]
    base_dir: Path
    manifest: tuple[Described, Path] | None
    mark: str
    versions: dict[str, str]
    storage_options: StorageOptions | None = field(default=None, repr=False)
    base: Base = "manifest-folder"


def run_tables(
    executor: Executor,
    run: Callable[[Table, Context], msgspec.Struct],
    tables: Sequence[Table],
    outputs: Iterable[str],
    context: Context,
    *,
    note: Callable[[Table, Result], None],
    one_by_one: bool = False,
) -> Generator[Result, None, None]:
    """Runs tables by an executor's workers; gives what comes of each, in their order.

    Args:
        executor: Whose workers.
        run: Runs one table.
        tables: The tables, none of which reads what another writes.
        outputs: What they write.
        context: What they are part of.
        note: Called with each table, and with what came of it, when it is done.
        one_by_one: Begin a table when the one before is done.

    Raises:
        WorkersError: If the workers could not run a single table.
    """
    here = Path.cwd()
    batch = _Batch(
        entrypoint=context.entrypoint,
        argv=tuple(context.argv),
        base_dir=here / (context.base_dir or ""),
        base=context.base,
        manifest=None if context.manifest is None else (context.manifest[0], here / context.manifest[1]),
        mark=secrets.token_hex(4),
        versions=provenance.versions(),
        storage_options=context.storage_options,
    )
    found: dict[int, Result] = {}
    turn = done = 0
    try:
        with closing(run_all(executor, partial(_run, run, batch), tables, one_by_one=one_by_one)) as outcomes:
            for index, outcome in outcomes:
                found[index] = (None, outcome.problem) if outcome.value is None else outcome.value
                note(tables[index], found[index])
                done += 1
                if context.progress is not None:
                    context.progress(done, len(tables), "tables")
                while turn in found:
                    yield found.pop(turn)
                    turn += 1
    finally:
        places = [context.locate(output)[1] for output in outputs]
        _clear(batch.mark, [place for place in places if isinstance(place, Path)])


def _run(run: Callable[[Table, Context], msgspec.Struct], batch: _Batch, table: Table) -> Result:
    """Runs one table; what a worker does."""
    try:
        refuse_other_versions(batch.versions, provenance.versions())
    except MaterializeError as error:
        return None, str(error)
    hasher, memo = _shared.of(batch.mark)
    context = Context(
        entrypoint=batch.entrypoint,
        argv=batch.argv,
        base_dir=batch.base_dir,
        base=batch.base,
        hasher=hasher,
        manifest=batch.manifest,
        memo=memo,
        storage_options=batch.storage_options,
    )
    before = staging_mark.set(batch.mark)
    try:
        return attempt(run, table, context)
    finally:
        staging_mark.reset(before)


class _Shared(threading.local):
    """What tables of one batch share that one thread of a worker runs; another batch begins anew."""

    mark: str | None = None
    hasher: Hasher
    memo: Memo

    def of(self, mark: str) -> tuple[Hasher, Memo]:
        if self.mark != mark:
            self.mark, self.hasher, self.memo = mark, Hasher(), Memo()
        return self.hasher, self.memo


_shared = _Shared()


def _clear(mark: str, outputs: Iterable[Path]) -> None:
    """Removes what workers that were killed have left half-written."""
    for folder in {_fixed_folder(os.path.realpath(path)) for path in outputs}:
        for path in folder.rglob(f".*-{mark}-*.part"):
            with contextlib.suppress(OSError):
                path.unlink() if path.is_file() else shutil.rmtree(path)


def _fixed_folder(output: str) -> Path:
    """The folder below which a worker writes, whatever a template is filled with."""
    return Path(output.partition("{")[0] + "x").parent
