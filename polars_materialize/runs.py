"""Runs of one table, from files to files.

The order of a table's run: note and hash the inputs; read the small side; plan, guard and count on distinct
keys; stream the joined table beside its target; prove that no input changed meanwhile; rename.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import polars as pl

from polars_materialize import reports
from polars_materialize.errors import InputChangedError, OptionError, OutputError, TableError
from polars_materialize.paths import Readers
from polars_materialize.provenance import Hasher, Inputs, describe, file_state, run_provenance
from polars_materialize.stores import (
    check_storage_options,
    in_one_line,
    local_folder,
    locate,
    real,
    refuse_output,
)
from polars_materialize.tables import (
    File,
    Splice,
    check_sink,
    find,
    scan_files,
    staged,
    write,
    write_spliced,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from polars_materialize.joins import Evidence, Plan
    from polars_materialize.provenance import Described
    from polars_materialize.stores import Place, StorageOptions


PathLike = str | os.PathLike[str]
AnyPlan = TypeVar("AnyPlan", bound="Plan")
AnyEvidence = TypeVar("AnyEvidence", bound="Evidence")
Audit = TypeVar("Audit", bound=msgspec.Struct)
Entry = TypeVar("Entry", bound=msgspec.Struct)
MEMO_BYTES = 2**27
"""How much evidence is kept for the next table of a batch."""

FOOTER_KEY = "polars_materialize.audit"
"""Where a Parquet output keeps its own audit, less its provenance: that lists every input file."""


class Memo:
    """Evidence that tables of one batch share: read once, for as long as its files do not change."""

    def __init__(self) -> None:
        """Begins with nothing known."""
        self._known: dict[object, pl.DataFrame] = {}
        self._bytes = 0

    def read(
        self,
        entries: Sequence[tuple[Entry, Sequence[File]]],
        read: Callable[[], pl.DataFrame],
        *options: object,
    ) -> pl.DataFrame:
        """What `read` gives; what it gave before, if that was for the same files and options.

        Args:
            entries: What is read: entries, and the files of each.
            read: Reads it.
            options: What else decides what is read.
        """
        states = tuple(
            (msgspec.json.encode(entry), tuple((file.written, file_state(file.path)) for file in files))
            for entry, files in entries
        )
        key = states, options
        if key not in self._known:
            frame = read()
            size = int(frame.estimated_size())
            if self._bytes + size > MEMO_BYTES:
                self._known.clear()
                self._bytes = 0
            if size > MEMO_BYTES:
                return frame
            self._known[key] = frame
            self._bytes += size
        return self._known[key]


@dataclass(frozen=True)
class Context:
    """What a run is part of.

    Attributes:
        entrypoint: What was called.
        argv: The command line's arguments, if there was one.
        base_dir: What relative paths are relative to.
        hasher: What hashes inputs; without, an audit's hashes are null.
        manifest: The manifest that the table is from, described as it was read, and where it is.
        progress: Told how much is done, of how much, and (if not clips) of what.
        memo: What tables of a batch share.
        storage_options: How stores are reached; never shown.
    """

    entrypoint: str
    argv: Sequence[str] = ()
    base_dir: Path | None = None
    hasher: Hasher | None = None
    manifest: tuple[Described, Path] | None = None
    progress: Callable[..., None] | None = None
    memo: Memo | None = None
    storage_options: StorageOptions | None = field(default=None, repr=False)

    def read(
        self,
        entries: Sequence[tuple[Entry, Sequence[File]]],
        read: Callable[[], pl.DataFrame],
        *options: object,
    ) -> pl.DataFrame:
        """Evidence; for a batch see `Memo.read`, a single run has nobody to share it with."""
        return read() if self.memo is None else self.memo.read(entries, read, *options)

    def locate(self, written: str) -> tuple[str, Place]:
        """A path as written, and where it is."""
        return written, locate(written, self.base_dir, self.storage_options)

    def place(self, written: str) -> tuple[str, Path]:
        """As `locate`, for what can be on this machine only."""
        return written, Path(written) if self.base_dir is None else self.base_dir / written

    def find(self, written: str) -> list[File]:
        """The files that a path, a url or a glob of them means."""
        return find(written, self.base_dir, storage_options=self.storage_options)


@dataclass(frozen=True)
class Run(Generic[AnyPlan, AnyEvidence, Audit]):
    """What one kind of run does differently from another.

    Attributes:
        source: The field of its struct that holds the feature table's path.
        target: The field that holds the path of the table to write.
        role: What its evidence files are called.
        files: The evidence files.
        paths: The paths that they were found by.
        key_column: The feature table's key column, if it was named.
        plan: Plans the join, from the feature table's schema; reads the evidence.
        evidence: Attaches it to the table's distinct key values.
        audit: What to say of it, but for its provenance.
        versions: The versions of what only this kind of run uses.
    """

    source: str
    target: str
    role: str
    files: Iterable[tuple[str, Place]]
    paths: Iterable[str]
    key_column: str | None
    plan: Callable[[pl.Schema], AnyPlan]
    evidence: Callable[[AnyPlan, pl.DataFrame], AnyEvidence]
    audit: Callable[[AnyPlan, AnyEvidence, dict[str, Any]], Audit]
    versions: Callable[[AnyPlan], Mapping[str, str]] = field(default=lambda _: {})


@contextlib.contextmanager
def single_run(
    entrypoint: str,
    *,
    argv: Sequence[str],
    base_dir: PathLike | None,
    hashed: bool,
    progress: Callable[..., None] | None = None,
    storage_options: StorageOptions | None = None,
) -> Iterator[Context]:
    """What a run of one table is part of, for as long as it lasts."""
    options = check_storage_options(storage_options)
    base = local_folder(base_dir)
    with Hasher() if hashed else contextlib.nullcontext() as hasher:
        yield Context(
            entrypoint, argv=argv, base_dir=base, hasher=hasher, progress=progress, storage_options=options
        )


def check_outputs(table: msgspec.Struct, target: str = "out") -> None:
    """Refuses outputs that no run could write.

    Args:
        table: A table with its paths and options.
        target: The field that holds the path of the table to write.

    Raises:
        OptionError: Names the option.
    """
    try:
        File.of(getattr(table, target))
        refuse_output(getattr(table, target))
    except (OutputError, TableError) as error:
        raise OptionError(f"{target}: {error}", option=target) from None
    audit_json: str | None = getattr(table, "audit_json")  # noqa: B009 - every table has it
    if audit_json is not None and (not audit_json.strip() or "\0" in audit_json):
        raise OptionError("audit_json: expected a path", option="audit_json")
    try:
        refuse_output(audit_json or "")
    except (OutputError, TableError) as error:
        raise OptionError(f"audit_json: {error}", option="audit_json") from None


def check_entry(check: Callable[[Entry], None], entry: Entry, place: str) -> None:
    """Checks an entry of evidence; an error names its place among the entries."""
    try:
        check(entry)
    except OptionError as error:
        inner = error.fields.get("option")
        nested = inner if inner and inner not in place else None
        raise OptionError(str(error), option=f"{place}.{nested}" if nested else place) from None


def run_table(table: msgspec.Struct, context: Context, run: Run[AnyPlan, AnyEvidence, Audit]) -> Audit:
    """Runs one table of any kind of evidence."""
    paths: dict[str, str | None] = {
        name: getattr(table, name) for name in (run.source, run.target, "audit_json")
    }
    source, target, audit_json = str(paths[run.source]), str(paths[run.target]), paths["audit_json"]
    out = File.of(target, context.base_dir, storage_options=context.storage_options)
    inputs = Inputs(context.hasher)
    features = context.find(source)
    inputs.add(run.source, ((file.written, file.path) for file in features))
    inputs.add(run.role, run.files)
    if context.manifest is not None:
        inputs.add("manifest", [(context.manifest[0]["path"], context.manifest[1])])
    written = [path for path in (target, audit_json) if path is not None]
    inputs.refuse_as_outputs(context.locate(path) for path in written)

    readers = Readers(context.base_dir, [(pattern, pattern) for pattern in (source, *run.paths)])
    for path in written:
        pattern = readers.of(real(context.base_dir, path))
        if pattern is not None:
            problem = f"would be an input too, by {pattern!r}; expected a place outside of it"
            raise OutputError(f"{path}: {problem}", path=path)

    lf = scan_files(features, [run.key_column] if run.key_column else [], keep=True)
    plan = run.plan(lf.collect_schema())
    check_sink(out, plan.side.attach(lf, plan.side.evidence_schema.to_frame().lazy()).collect_schema())
    try:
        values = plan.side.distinct_values(lf).collect()
    except (pl.exceptions.PolarsError, OSError) as error:  # a store or a disk that went away meanwhile
        raise TableError(source, f"cannot be read: {in_one_line(error)}") from None
    evidence = run.evidence(plan, values)
    joined = plan.side.attach(lf, evidence.frame.lazy())
    with contextlib.ExitStack() as stack:
        if audit_json is not None:
            audit_part = stack.enter_context(staged(*context.locate(audit_json)))
        part = stack.enter_context(staged(out.written, out.path))
        footer = {}
        if out.format == "parquet":
            footer[FOOTER_KEY] = reports.to_json(run.audit(plan, evidence, {})).decode()
        keeps = out.format == "parquet" and not plan.side.drops
        spliced = Splice.of(features, plan.side.columns) if keeps else None
        if spliced is not None:
            added = joined.select(list(plan.side.columns))
            names = joined.collect_schema().names()
            write_spliced(spliced, added, out, part, names=names, metadata=footer)
        else:
            write(joined, out, part, footer)
        inputs.refuse_changed()
        if context.manifest is not None and inputs.described()["manifest"] != [context.manifest[0]]:
            raise InputChangedError.of(context.manifest[0]["path"])
        outputs = {run.target: describe(target, part, hashed=context.hasher is not None)}
        provenance = _provenance(table, context, inputs, outputs, run.versions(plan))
        audit = run.audit(plan, evidence, provenance)
        if audit_json is not None:
            audit_part.write_bytes(reports.to_json(audit))
    return audit


def _provenance(
    table: msgspec.Struct,
    context: Context,
    inputs: Inputs,
    outputs: Mapping[str, Described],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    described = inputs.described()
    return run_provenance(
        entrypoint=context.entrypoint,
        argv=context.argv,
        args={name: value for name, value in builtins(table).items() if name != "id" or value},
        # The evidence may be many files, the other roles are one unless they are a glob.
        inputs={
            role: files if role in {"scores", "labels"} or len(files) != 1 else files[0]
            for role, files in described.items()
        },
        outputs=outputs,
        others=versions,
    )


def builtins(struct: object) -> dict[str, Any]:
    """A struct as plain values."""
    content: dict[str, Any] = msgspec.to_builtins(struct)
    return content
