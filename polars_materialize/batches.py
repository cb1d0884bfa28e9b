"""Batches: every table of a manifest, one policy, one report.

The runner knows nothing of what a table is joined with; a `Kind` says that.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polars_materialize.batch_kinds import KINDS, Kind, Table
from polars_materialize.batch_workers import attempt, run_tables
from polars_materialize.errors import ManifestError, MaterializeError, OptionError, OutputError
from polars_materialize.manifests import Manifest, Paths, check_paths, read_manifest
from polars_materialize.outputs import Outputs, is_template
from polars_materialize.provenance import Hasher, describe, describe_bytes, run_provenance
from polars_materialize.reports import BatchReport, escape, to_json
from polars_materialize.reports import table as table_of
from polars_materialize.runs import Context, Memo, PathLike, builtins, partition_columns
from polars_materialize.stores import check_storage_options, is_url, local_folder, locate, refuse_url
from polars_materialize.tables import SIDE_BY_SIDE, Dialect, find, find_shards, in_order, is_up_to, staged
from polars_materialize.texts import refuse_unwritable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from polars_materialize.provenance import Described
    from polars_materialize.stores import StorageOptions

LIGHT_BYTES = 2**24
"""Of what size the files of a table may be that is run side by side with others."""


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
    executor: Executor | None = None,
    progress: Callable[..., None] | None = None,
) -> BatchReport:
    """Runs every table of a manifest, and reports.

    The manifest is checked whole before anything runs. A table that fails is reported and leaves the
    others alone.

    Args:
        manifest: The manifest.
        kind: Of which kind it is: `second-opinion`, `mos-labels`, `saliency` or `refresh`.
        base_dir: What its relative paths are relative to; else its own folder.
        report_json: Where to write the report.
        report_md: Where to write it for people.
        fail_fast: Stop at the first table that fails; the report then ends with it.
        storage_options: See `scan_table`; they come before the manifest's own. Never written anywhere.
        argv: The command line's arguments, for the report.
        on_failure: Called with the id and the message of a table that failed, when it does.
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
    refuse_unwritable(
        {
            name: os.fspath(path)
            for name, path in (("manifest", manifest), ("report_json", report_json), ("report_md", report_md))
            if path is not None
        }
    )
    read = read_manifest(
        manifest,
        table=form.table,
        options=form.options,
        forms=form.forms,
        base_dir=base_dir,
    )
    outputs = {
        name: os.fspath(path)
        for name, path in (("report_json", report_json), ("report_md", report_md))
        if path is not None
    }
    options = {**read.storage_options, **given}
    _check_reports(outputs)
    _check_tables(read, form, outputs, options)
    with Hasher() as hasher:
        context = Context(
            entrypoint=f"{kind} batch",
            argv=argv,
            base_dir=read.base_dir,
            hasher=hasher,
            manifest=(describe_bytes(read.written, read.content), read.path),
            progress=progress,
            memo=Memo(),
            executor=executor,
            storage_options=options,
        )
        entries: list[dict[str, Any]] = []
        inputs = _Gathered()
        written: list[Described] = []
        with closing(_run_all(read.tables, form, context, fail_fast=fail_fast)) as ran:
            for table, (audit, error) in zip(read.tables, ran, strict=False):
                entries.append(_entry(table, form, audit, error))
                if audit is None:
                    inputs.add(_describe_inputs(table, form, context))
                else:
                    inputs.add(audit["run_provenance"]["inputs"])
                    written += _written(table, form, context, audit)
                if error is not None:
                    if on_failure is not None:
                        on_failure(table.id, error)
                    if fail_fast:
                        break
    report = BatchReport(
        schema=form.schema,
        status=_status(entries),
        manifest=read.written,
        summary=_totals(entries, form),
        tables=entries,
        run_provenance=run_provenance(
            entrypoint=context.entrypoint,
            argv=argv,
            args={
                "manifest": read.written,
                "base_dir": None if base_dir is None else os.fspath(base_dir),
                "fail_fast": fail_fast,
                "report_json": outputs.get("report_json"),
                "report_md": outputs.get("report_md"),
            },
            inputs=inputs.by_role(describe_bytes(read.written, read.content)),
            outputs={"tables": written},
        ),
    )
    try:
        _write_reports(report, form, outputs, options)
    except OutputError as error:  # what the tables did is known nevertheless
        raise OutputError(str(error), **{**error.fields, "report": report}) from None
    return report


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
        if path.is_dir():
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
    for name, path in _output_paths(table, form):
        outputs.append((name, path))
        if name == form.outputs[0] and not by and is_template(path):
            with contextlib.suppress(MaterializeError):  # the run says what is wrong
                shards = find_shards(inputs[0][1], base_dir, options)
                each = Outputs(path, by, shards, base_dir, options)
                outputs[-1:] = [(name, written) for written, _ in each.paths]
    return Paths(inputs, outputs, form.outputs[:1] if by else ())


def _output_paths(table: Table, form: Kind[Table]) -> list[tuple[str, str]]:
    paths = ((name, getattr(table, name)) for name in form.outputs)
    return [(name, path) for name, path in paths if path is not None]


def _run_all(
    tables: Sequence[Table], form: Kind[Table], context: Context, *, fail_fast: bool
) -> Generator[tuple[dict[str, Any] | None, str | None], None, None]:
    """Runs tables, here or elsewhere: for each its audit or its error, in order."""
    run = partial(attempt, form.run, context=context)
    for measures, group in itertools.groupby(tables, form.measures):
        some = list(group)
        if measures:
            yield from map(run, some)
        elif context.executor is not None:
            outputs = [path for table in some for _, path in _output_paths(table, form)]
            yield from run_tables(context.executor, form.run, some, outputs, context, one_by_one=fail_fast)
        else:
            for light, own in itertools.groupby(some, lambda table: _is_light(table, form, context)):
                if light and not fail_fast:
                    yield from _run_side_by_side(list(own), form, context)
                else:
                    yield from map(run, own)


def _run_side_by_side(
    tables: Sequence[Table], form: Kind[Table], context: Context
) -> Iterator[tuple[dict[str, Any] | None, str | None]]:
    """Runs small tables: what is done around one takes longer than what Polars does with all cores."""
    run = partial(attempt, form.run, context=replace(context, progress=None))
    for done, result in enumerate(in_order(run, tables, at_once=SIDE_BY_SIDE), start=1):
        if context.progress is not None:
            context.progress(done, len(tables), "tables")
        yield result


def _is_light(table: Table, form: Kind[Table], context: Context) -> bool:
    """Whether a table is small, and is joined with small files."""
    return all(is_up_to(context.locate(path)[1], LIGHT_BYTES) for _, path in form.inputs(table))


def _entry(
    table: Table, form: Kind[Table], audit: Mapping[str, Any] | None, error: str | None
) -> dict[str, Any]:
    """A table's entry in the report."""
    content = builtins(table)
    config = {option: content.pop(option) for option in form.options.__struct_fields__}
    entry: dict[str, Any] = {**content, "config": config}
    if audit is None:
        return {**entry, "status": "error", "error": error}
    summary = {name: audit[name] for name in form.summary}
    failures = form.row_failures is not None and summary[form.row_failures]
    return {**entry, "status": "row-failures" if failures else "ok", "summary": summary}


def _status(entries: Sequence[Mapping[str, Any]]) -> Literal["ok", "failed", "row-failures"]:
    """The status of a batch, by its worst table."""
    found = {entry["status"] for entry in entries}
    if "error" in found:
        return "failed"
    return "row-failures" if "row-failures" in found else "ok"


def _describe_inputs(
    table: Table, form: Kind[Table], context: Context
) -> dict[str, Described | list[Described]]:
    """The inputs of a table that failed, as far as they are there."""
    found: dict[str, Described | list[Described]] = {}
    for name, path in form.inputs(table):
        try:
            # A format may read files of any suffix.
            found_files = find(
                path,
                context.base_dir,
                folders=True,
                dialect=Dialect("csv"),
                storage_options=context.storage_options,
            )
            files = [(file.written, file.path) for file in found_files]
        except MaterializeError:
            files = [context.locate(path)]
        # As a run calls them: `labels.files[0]` are labels, `saliency.model_path` is the model.
        called = name.partition("[")[0].removesuffix(".files").rpartition(".")[2]
        role = found.setdefault(called, [])
        if isinstance(role, list):
            role += [describe(*file) for file in files]
    return found


def _written(table: Table, form: Kind[Table], context: Context, audit: Mapping[str, Any]) -> list[Described]:
    """The outputs of a table; what its audit knows of them is not hashed again."""
    known = audit["run_provenance"]["outputs"]
    found: list[Described] = []
    for name, path in _output_paths(table, form):
        own = known[name] if name in known else describe(*context.locate(path))
        found += own if isinstance(own, list) else [own]
    return found


class _Gathered:
    """The inputs of all tables by role, each file once."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, Described]] = {}

    def add(self, inputs: Mapping[str, Described | list[Described]]) -> None:
        for role, files in inputs.items():
            known = self._files.setdefault(role, {})
            for file in files if isinstance(files, list) else [files]:
                known.setdefault(str(file["path"]), file)

    def by_role(self, manifest: Described) -> dict[str, Described | list[Described]]:
        roles: dict[str, Described | list[Described]] = {
            role: [files[path] for path in sorted(files)] for role, files in self._files.items()
        }
        return {**roles, "manifest": manifest}


def _totals(entries: Sequence[Mapping[str, Any]], form: Kind[Table]) -> dict[str, int]:
    summaries = [entry["summary"] for entry in entries if "summary" in entry]
    return {
        "tables": len(entries),
        "failed_tables": len(entries) - len(summaries),
        **{name: sum(summary[name] for summary in summaries) for name in form.totals},
    }


def _write_reports(
    report: BatchReport, form: Kind[Table], outputs: Mapping[str, str], options: StorageOptions
) -> None:
    texts = {"report_json": to_json(report), "report_md": to_markdown(report, form).encode()}
    for name, written in outputs.items():
        with staged(written, locate(written, None, options)) as part:
            part.write_bytes(texts[name])


def to_markdown(report: BatchReport, form: Kind[Table]) -> str:
    """A batch's report for people: its status, a row a table, and what went wrong."""
    rows = []
    for entry in report.tables:
        summary = entry.get("summary", {})
        cells = [_cell(summary.get(name, "")) for name in form.columns.values()]
        rows.append([entry["id"], entry["status"], *cells, entry[form.outputs[0]]])
    parts = [
        f"# {form.title} report",
        f"Status: **{report.status}**. Manifest: {escape(report.manifest)}",
        table_of(["Table", "Status", *form.columns, "Output"], rows),
    ]
    errors = [entry for entry in report.tables if "error" in entry]
    if errors:
        parts.append("## Errors")
        parts.append("\n".join(f"- {escape(e['id'])}: {escape(e['error'])}" for e in errors))
    hints = report.hints()
    if hints:
        parts.append("## Scores that met no row")
        parts.append("\n".join(f"- {escape(table)}: {escape(hint)}" for table, hint in hints))
    return "\n\n".join(parts) + "\n"


def _cell(value: object) -> object:
    """A number as the report shows it: a share with three decimals."""
    return f"{value:.3f}" if isinstance(value, float) else value
