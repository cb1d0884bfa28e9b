"""Batches: every table of a manifest, one policy, one report.

The runner knows nothing of what a table is joined with; a `Kind` says that.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from polars_materialize.arguments import checked
from polars_materialize.batch_inputs import find_lacking, input_files, output_paths, read_as
from polars_materialize.batch_kinds import KINDS, Kind, Table, id_of
from polars_materialize.batch_reports import LiveReport
from polars_materialize.batch_workers import Result, attempt, run_tables
from polars_materialize.clashes import Paths, check_paths
from polars_materialize.errors import ManifestError, MaterializeError, OptionError, OutputError
from polars_materialize.outputs import Outputs, is_template
from polars_materialize.progress import counted_from, named
from polars_materialize.provenance import (
    Hasher,
    as_written,
    describe,
    describe_bytes,
    from_base,
    run_provenance,
)
from polars_materialize.runs import Context, Memo, PathLike, partition_columns
from polars_materialize.stores import check_storage_options, is_url, local_folder, refuse_url
from polars_materialize.tables import SIDE_BY_SIDE, find_shards, in_order, is_up_to

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from polars_materialize.manifests import Manifest
    from polars_materialize.provenance import Described
    from polars_materialize.reports import BatchReport
    from polars_materialize.stores import Place, StorageOptions

LIGHT_BYTES = 2**24
"""Of what size the files of a table may be that is run side by side with others."""


@checked
def run_batch(
    manifest: PathLike,
    *,
    kind: str = "second-opinion",
    base_dir: PathLike | None = None,
    report_json: PathLike | None = None,
    report_md: PathLike | None = None,
    fail_fast: bool = False,
    storage_options: StorageOptions | None = None,
    argv: Sequence[str] = (),
    on_failure: Callable[[str, str], None] | None = None,
    on_lacking: Callable[[str, str], None] | None = None,
    executor: Executor | None = None,
    progress: Callable[..., None] | None = None,
) -> BatchReport:
    """Runs every table of a manifest, and reports.

    The manifest is checked whole before anything runs, and every input of every table is looked for: a table
    that lacks some fails at once, and says all that it lacks. A table that fails is reported and leaves the
    others alone. The reports are written at the start, with the status `running`, and when tables are done;
    whatever ends the run early leaves them as `interrupted`.

    Args:
        manifest: The manifest.
        kind: Of which kind it is: `second-opinion`, `mos-labels`, `saliency` or `refresh`.
        base_dir: What its relative paths are relative to; else its own folder.
        report_json: Where to write the report.
        report_md: Where to write it for people.
        fail_fast: Stop at the first table that fails; the report then ends with it.
        storage_options: See `scan_table`; they come before the manifest's own. Never written anywhere.
        argv: The command line's arguments, for the report.
        on_failure: Called with the id and the message of a table that failed, when its turn has come.
        on_lacking: Called with the same of a table that lacks inputs, before anything runs; `on_failure` is
            called of it nevertheless.
        executor: Runs tables by the workers of this `concurrent.futures.Executor`, such as `Jobs` or `dask`;
            of tables with clips to measure the clips, one table after another. A table whose worker dies
            twice has failed. With `fail_fast` tables are run one after another, as none may be written after
            one that fails.
        progress: Called with how many are done and of how many, and of what if that is not clips.

    Returns:
        The report.

    Raises:
        ManifestError: If the manifest is wrong; nothing has run then.
        OutputError: If a report cannot be written.
        WorkersError: If the workers of `executor` cannot be used.
    """
    if kind not in KINDS:
        raise OptionError(f"kind: {kind!r}; expected one of {' '.join(KINDS)}")
    form = KINDS[kind]
    refuse_url(manifest, "manifest")
    local_folder(base_dir)
    given = check_storage_options(storage_options)
    read = read_as(form, manifest, base_dir)
    outputs = {
        name: os.fspath(path)
        for name, path in (("report_json", report_json), ("report_md", report_md))
        if path is not None
    }
    options = {**read.storage_options, **given}
    _check_reports(outputs)
    _check_tables(read, form, outputs, options)
    written = Path(read.written).name if base_dir is None else from_base(read.written, read.base_dir)
    with Hasher() as hasher:
        context = Context(
            entrypoint=f"{kind} batch",
            argv=argv,
            base_dir=read.base_dir,
            base="manifest-folder" if base_dir is None else "base-dir",
            hasher=hasher,
            manifest=(describe_bytes(written, read.content), read.path),
            progress=progress,
            memo=Memo(),
            executor=executor,
            storage_options=options,
        )
        args = {
            "manifest": written,
            "base_dir": None if base_dir is None else os.fspath(base_dir),
            "fail_fast": fail_fast,
            "report_json": None,
            "report_md": None,
            **{name: from_base(path, read.base_dir) for name, path in outputs.items()},
        }
        files = _Files(form, context)
        live = LiveReport(
            read.tables, form, written, partial(files.provenance, args), outputs=outputs, options=options
        )
        live.begin()
        try:
            # With `fail_fast` a table that lacks something ends the run when its turn comes.
            lacking = {} if fail_fast else find_lacking(read.tables, form, context)
            for table in read.tables:
                if table.id in lacking:
                    live.note(table, (None, lacking[table.id]))
                    if on_lacking is not None:
                        on_lacking(table.id, lacking[table.id])
            tables = _Tables(read.tables, lacking, form, context, live.note, fail_fast)
            with closing(tables.run()) as ran:
                for table, (audit, error) in zip(read.tables, ran, strict=False):
                    files.add(table, audit)
                    if error is not None and on_failure is not None:
                        on_failure(table.id, error)
                    if error is not None and fail_fast:
                        break
            return live.end()
        except OutputError:  # the report itself could not be written
            raise
        except BaseException:
            # Tables that others ran meanwhile are done, too; what failed is not hashed any more.
            for table in read.tables:
                audit, _ = live.results.get(table.id, (None, None))
                if audit is not None:
                    files.add(table, audit)
            with contextlib.suppress(OutputError):
                live.end(interrupted=True)
            raise


def _check_reports(outputs: Mapping[str, str]) -> None:
    """Refuses reports that could not be written when all is done.

    Raises:
        OptionError: Names the option.
    """
    for name, written in outputs.items():
        if not written.strip() or "\0" in written:
            raise OptionError(f"{name}: {written!r}; expected a path", option=name)
        if is_url(written):
            continue
        path = Path(written)
        parent = next((folder for folder in path.absolute().parents if folder.exists()), None)
        try:
            is_folder = path.is_dir()
        except OSError as error:
            raise OptionError(f"{name}: {written}: {error.strerror}", option=name) from None
        if is_folder:
            raise OptionError(f"{name}: {written}: is a folder; expected a file", option=name)
        if parent is None or not parent.is_dir() or not os.access(parent, os.W_OK):
            raise OptionError(f"{name}: {written}: {parent} takes no file", option=name)


def _check_tables(
    read: Manifest[Table], form: Kind[Table], outputs: Mapping[str, str], options: StorageOptions
) -> None:
    """Checks what the tables' structs alone cannot: patterns, suffixes, and paths that collide."""
    for index, table in enumerate(read.tables):
        try:
            form.check(table)
        except MaterializeError as error:
            option = error.fields.get("option")
            place = f"$.tables[{index}]" + (f".{option}" if option else "")
            problem = str(error).removeprefix(f"{option}: ")
            problem = problem.removeprefix(f"{str(option).rpartition('.')[2].partition('[')[0]}: ")
            raise ManifestError(read.written, problem, place=place) from None
    check_paths(
        read,
        lambda table: _paths(table, form, read.base_dir, options),
        [(f"--{name.replace('_', '-')}", path) for name, path in outputs.items()],
    )


def _paths(table: Table, form: Kind[Table], base_dir: Path, options: StorageOptions) -> Paths:
    """The paths of a table; an output for each of its files, as far as they are there."""
    inputs, by = form.inputs(table), partition_columns(table)
    outputs: list[tuple[str, str]] = []
    for name, path in output_paths(table, form):
        outputs.append((name, path))
        if name == form.outputs[0] and not by and is_template(path):
            with contextlib.suppress(MaterializeError):  # the run says what is wrong
                shards = find_shards(inputs[0][1], base_dir, options)
                each = Outputs(path, by, shards, base_dir, options)
                outputs[-1:] = [(name, written) for written, _ in each.paths]
    return Paths(inputs, outputs, form.outputs[:1] if by else ())


@dataclass(frozen=True)
class _Tables(Generic[Table]):
    """The tables of a manifest, to be run here or elsewhere.

    Attributes:
        every: The tables.
        lacking: What is said of those that lack an input, by id: they are not run.
        form: Of which kind they are.
        context: What they are part of.
        note: Called with each table that has run, and with what came of it, which may be before its turn.
        fail_fast: Whether none may run after one that fails.
    """

    every: Sequence[Table]
    lacking: Mapping[str, str]
    form: Kind[Table]
    context: Context
    note: Callable[[Table, Result], None]
    fail_fast: bool

    def run(self) -> Generator[Result, None, None]:
        """Runs them: for each its audit or its error, in order."""
        done = 0
        for measures, group in itertools.groupby(self.every, self.form.measures):
            some = list(group)
            if measures:
                yield from self._one_by_one(some, done)
            elif self.context.executor is not None:
                yield from self._elsewhere(self.context.executor, some, done)
            else:
                for light, part in itertools.groupby(some, self._is_light):
                    few = list(part)
                    way = self._side_by_side if light and not self.fail_fast else self._one_by_one
                    yield from way(few, done + some.index(few[0]))
            done += len(some)

    def _result(self, table: Table, progress: Callable[..., None] | None) -> Result:
        if id_of(table) in self.lacking:
            return None, self.lacking[id_of(table)]
        result = attempt(self.form.run, table, replace(self.context, progress=progress))
        self.note(table, result)
        return result

    def _one_by_one(self, tables: Sequence[Table], done: int) -> Iterator[Result]:
        for place, table in enumerate(tables, start=done + 1):
            name = f"table {id_of(table)!r} ({place} of {len(self.every)})"
            yield self._result(table, named(self.context.progress, name))

    def _side_by_side(self, tables: Sequence[Table], done: int) -> Iterator[Result]:
        """Runs small tables: what is done around one takes longer than what Polars does with all cores."""
        results = in_order(lambda table: self._result(table, None), tables, at_once=SIDE_BY_SIDE)
        for place, result in enumerate(results, start=done + 1):
            if self.context.progress is not None:
                self.context.progress(place, len(self.every), "tables")
            yield result

    def _elsewhere(self, executor: Executor, tables: Sequence[Table], done: int) -> Iterator[Result]:
        present = [table for table in tables if id_of(table) not in self.lacking]
        outputs = [path for table in present for _, path in output_paths(table, self.form)]
        before = done + len(tables) - len(present)
        for place in range(done, before):
            if self.context.progress is not None:
                self.context.progress(place + 1, len(self.every), "tables")
        own = replace(self.context, progress=counted_from(self.context.progress, before, len(self.every)))
        ran = run_tables(
            executor, self.form.run, present, outputs, own, note=self.note, one_by_one=self.fail_fast
        )
        with closing(ran):
            for table in tables:
                said = self.lacking.get(id_of(table))
                yield next(ran) if said is None else (None, said)

    def _is_light(self, table: Table) -> bool:
        """Whether a table is small, and is joined with small files."""
        return all(is_up_to(self.context.locate(path)[1], LIGHT_BYTES) for _, path in self.form.inputs(table))


class _Files(Generic[Table]):
    """The files of all tables: what was read by role, each once, and what was written."""

    def __init__(self, form: Kind[Table], context: Context) -> None:
        self._form = form
        self._context = context
        self._inputs: dict[str, dict[str, Described]] = {}
        self._written: dict[str, list[Described]] = {}
        self._lock = threading.Lock()

    def add(self, table: Table, audit: Mapping[str, Any] | None) -> None:
        """Takes note of the files of a table, with its audit if it has not failed."""
        if id_of(table) in self._written:
            return
        if audit is None:
            for role, written, place in input_files(table, self._form, self._context):
                if written not in self._inputs.get(role, {}):
                    found = _as_far_as_known(written, place)
                    with self._lock:
                        self._inputs.setdefault(role, {})[written] = found
            return
        outputs = _written(table, self._form, self._context, audit)
        with self._lock:
            self._written[id_of(table)] = outputs
            for role, files in audit["run_provenance"]["inputs"].items():
                known = self._inputs.setdefault(role, {})
                for file in files if isinstance(files, list) else [files]:
                    known.setdefault(str(file["path"]), file)

    def provenance(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of the whole run."""
        context = self._context
        with self._lock:
            inputs: dict[str, Described | list[Described]] = {
                role: [files[path] for path in sorted(files)] for role, files in self._inputs.items()
            }
            outputs = [file for files in self._written.values() for file in files]
        if context.manifest is not None:
            inputs["manifest"] = context.manifest[0]
        return run_provenance(
            entrypoint=context.entrypoint,
            argv=context.argv,
            args=args,
            inputs=inputs,
            outputs={"tables": outputs},
            base=context.base,
        )


def _as_far_as_known(written: str, place: Place) -> Described:
    """Describes an input of a table that failed, perhaps since it cannot be read."""
    for hashed in (True, False):
        with contextlib.suppress(OSError, MaterializeError):
            return describe(written, place, hashed=hashed)
    return as_written(written, "missing")


def _written(table: Table, form: Kind[Table], context: Context, audit: Mapping[str, Any]) -> list[Described]:
    """The outputs of a table; what its audit knows of them is not hashed again."""
    known = audit["run_provenance"]["outputs"]
    found: list[Described] = []
    for name, path in output_paths(table, form):
        own = known[name] if name in known else describe(*context.locate(path))
        found += own if isinstance(own, list) else [own]
    return found
