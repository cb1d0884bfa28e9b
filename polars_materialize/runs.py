"""Runs of one table, from files to files.

The order of a table's run: note and hash the inputs; read the small side; plan, guard and count on distinct
keys; stream the joined table beside its target; prove that no input changed meanwhile; rename.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from polars_materialize import reports
from polars_materialize.chains import Attached, Chain
from polars_materialize.errors import InputChangedError, OptionError, OutputError, TableError, no_panics
from polars_materialize.outputs import Joined, Outputs, check_target, placed
from polars_materialize.paths import Readers
from polars_materialize.progress import say_phase
from polars_materialize.provenance import Hasher, Inputs, file_state, run_provenance
from polars_materialize.reports import ShardCounts
from polars_materialize.stores import Url, check_storage_options, local_folder, locate, refuse_output
from polars_materialize.tables import find, find_shards, open_table, staged
from polars_materialize.texts import refuse_unwritable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    import polars as pl

    from polars_materialize.joins import Evidence, Plan
    from polars_materialize.provenance import Base, Described
    from polars_materialize.saliency_hashes import ClipHashes
    from polars_materialize.stores import Place, StorageOptions
    from polars_materialize.tables import File, Table


PathLike = str | os.PathLike[str]
AnyPlan = TypeVar("AnyPlan", bound="Plan")
AnyEvidence = TypeVar("AnyEvidence", bound="Evidence")
Audit = TypeVar("Audit", bound=msgspec.Struct)
Entry = TypeVar("Entry", bound=msgspec.Struct)
MEMO_BYTES = 2**27
"""How much evidence is kept for the next table of a batch."""


class Memo:
    """Evidence that tables of one batch share: read once, for as long as its files do not change."""

    def __init__(self) -> None:
        """Begins with nothing known."""
        self._known: dict[object, pl.DataFrame] = {}
        self._bytes = 0
        self._lock = threading.Lock()
        self._reading: dict[object, threading.Lock] = {}

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
        with self._lock:
            reading = self._reading.setdefault(key, threading.Lock())
        with reading:  # another table that needs the same waits for it
            known = self._known.get(key)
            if known is None:
                known = read()
                with self._lock:
                    self._keep(key, known)
            self._reading.pop(key, None)
        return known

    def _keep(self, key: object, frame: pl.DataFrame) -> None:
        size = int(frame.estimated_size())
        if self._bytes + size > MEMO_BYTES:
            self._known.clear()
            self._bytes = 0
        if size <= MEMO_BYTES:
            self._known[key] = frame
            self._bytes += size


@dataclass(frozen=True)
class Context:
    """What a run is part of.

    Attributes:
        entrypoint: What was called.
        argv: The command line's arguments, if there was one.
        base_dir: What relative paths are relative to.
        base: Which folder that is.
        hasher: What hashes inputs; without, an audit's hashes are null.
        manifest: The manifest that the table is from, described as it was read, and where it is.
        progress: Told how much is done, of how much, and (if not clips) of what.
        memo: What tables of a batch share.
        executor: What measures clips, if other processes do.
        storage_options: How stores are reached; never shown.
    """

    entrypoint: str
    argv: Sequence[str] = ()
    base_dir: Path | None = None
    base: Base = "working-directory"
    hasher: Hasher | None = None
    manifest: tuple[Described, Path] | None = None
    progress: Callable[..., None] | None = None
    memo: Memo | None = None
    executor: Executor | None = None
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

    def say(self, phase: str) -> None:
        """Says what is done now."""
        say_phase(self.progress, phase)

    def place(self, written: str) -> tuple[str, Path]:
        """As `locate`, for what can be on this machine only."""
        return written, Path(written) if self.base_dir is None else self.base_dir / written

    def rows(self, written: str) -> pl.LazyFrame:
        """The rows of a feature table, for an error that looks at it again."""
        return open_table(find_shards(written, self.base_dir, self.storage_options)).whole()

    def find(self, written: str) -> list[File]:
        """The files that a path, a url or a glob of them means."""
        return find(written, self.base_dir, storage_options=self.storage_options)


@dataclass(frozen=True)
class Part(Generic[AnyPlan, AnyEvidence, Audit]):
    """One kind of evidence that a run joins onto its table.

    Attributes:
        role: What its files are called in the provenance.
        name: What it is called beside other kinds.
        files: The evidence files.
        paths: The paths that they were found by.
        key_column: The feature table's key column, if it was named.
        plan: Plans the join, from the feature table's schema; reads the evidence.
        audit: What to say of it, but for its provenance, which comes later.
        versions: The versions of what only this kind of evidence uses.
        clips: The files that are known only when the table has been read.
    """

    role: str
    name: str
    files: Iterable[tuple[str, Place]]
    paths: Iterable[str]
    key_column: str | None
    plan: Callable[[pl.Schema], AnyPlan]
    audit: Callable[[AnyPlan, AnyEvidence], Audit]
    versions: Callable[[AnyPlan], Mapping[str, str]] = field(default=lambda _: {})
    clips: ClipHashes | None = None


AnyPart = Part[Any, Any, Any]


@dataclass(frozen=True)
class Run(Generic[Audit]):
    """What a run of one table joins, and what it says of that.

    Attributes:
        source: The field of its struct that holds the feature table's path.
        target: The field that holds the path of the table to write.
        parts: What is joined, in the order of the new columns.
        audit: The audit, of those of the parts, and of what is known of the whole run: its provenance, its
            columns, and how many files there were.
    """

    source: str
    target: str
    parts: Sequence[AnyPart]
    audit: Callable[[Sequence[Any], dict[str, Any]], Audit]

    @classmethod
    def of(cls, source: str, target: str, part: Part[Any, Any, Audit]) -> Run[Audit]:
        """A run that joins one kind of evidence."""

        def audit(audits: Sequence[Audit], whole: dict[str, Any]) -> Audit:
            return msgspec.structs.replace(audits[0], **whole)

        return cls(source, target, [part], audit)


@contextlib.contextmanager
def single_run(
    entrypoint: str,
    *,
    argv: Sequence[str],
    base_dir: PathLike | None,
    hashed: bool,
    progress: Callable[..., None] | None = None,
    executor: Executor | None = None,
    storage_options: StorageOptions | None = None,
) -> Iterator[Context]:
    """What a run of one table is part of, for as long as it lasts."""
    options = check_storage_options(storage_options)
    base = local_folder(base_dir)
    with no_panics(), Hasher() if hashed else contextlib.nullcontext() as hasher:
        yield Context(
            entrypoint,
            argv=argv,
            base_dir=base,
            base="working-directory" if base is None else "base-dir",
            hasher=hasher,
            progress=progress,
            executor=executor,
            storage_options=options,
        )


def check_own_paths(table: msgspec.Struct, source: str = "features", target: str = "out") -> None:
    """Refuses a feature table that no path names, and outputs that no run could write.

    Args:
        table: A table with its paths and options.
        source: The field that holds the feature table's path.
        target: The field that holds the path of the table to write.

    Raises:
        OptionError: Names the option.
    """
    features: str = getattr(table, source)
    if not features.strip() or "\0" in features:
        raise OptionError(f"{source}: {features!r}; expected a path", option=source)
    check_target(getattr(table, target), partition_columns(table), target)
    audit_json: str | None = getattr(table, "audit_json")  # noqa: B009 - every table has it
    if audit_json is not None and (not audit_json.strip() or "\0" in audit_json):
        raise OptionError("audit_json: expected a path", option="audit_json")
    try:
        refuse_output(audit_json or "")
    except (OutputError, TableError) as error:
        raise OptionError(f"audit_json: {error}", option="audit_json") from None


def partition_columns(table: msgspec.Struct) -> list[str]:
    """The columns that a table's output is parted by."""
    by: str | list[str] | None = getattr(table, "partition_by")  # noqa: B009 - every table has it
    return [] if by is None else [by] if isinstance(by, str) else by


def check_entry(check: Callable[[Entry], None], entry: Entry, place: str) -> None:
    """Checks an entry of evidence; an error names its place among the entries."""
    try:
        check(entry)
    except OptionError as error:
        inner = error.fields.get("option")
        nested = inner if inner and inner not in place else None
        raise OptionError(str(error), option=f"{place}.{nested}" if nested else place) from None


def run_table(table: msgspec.Struct, context: Context, run: Run[Audit]) -> Audit:
    """Runs one table of any kind of evidence."""
    refuse_unwritable(builtins(table))
    source, target = str(getattr(table, run.source)), str(getattr(table, run.target))
    audit_json: str | None = getattr(table, "audit_json")  # noqa: B009 - every table has it
    options = context.storage_options
    features = find_shards(source, context.base_dir, options)
    outputs = Outputs(target, partition_columns(table), features, context.base_dir, options)
    inputs = Inputs(context.hasher)
    inputs.add(run.source, ((file.written, file.path) for file in features))
    for part in run.parts:
        inputs.add(part.role, part.files)
    if context.manifest is not None:
        inputs.add("manifest", [(context.manifest[0]["path"], context.manifest[1])])
    written = [*outputs.paths, *([] if audit_json is None else [context.locate(audit_json)])]
    inputs.refuse_as_outputs(written)
    if outputs.partition_by:
        _refuse_inside(outputs.files[0], [*inputs.paths(), *written[1:]])
    patterns = [source, *(path for part in run.parts for path in part.paths)]
    _refuse_as_inputs(written, Readers(context.base_dir, [(pattern, pattern) for pattern in patterns]))

    context.say("reading")
    key_columns = [part.key_column for part in run.parts if part.key_column]
    opened = open_table(features, key_columns, keep=True)
    joined, audits, versions = _join(opened, run.parts, outputs, source, context)
    columns = {"columns": list(opened.schema), "columns_added": list(joined.added)}
    with placed(written) as stack:
        # What is staged last takes its place first: the audit, unless a table has to be sent, which may fail.
        sent = not all(isinstance(path, Path) for _, path in written)
        audit_part = None if audit_json is None else staged(*context.locate(audit_json))
        if not sent:
            outputs.stage(stack)
        audit_file = None if audit_part is None else stack.enter_context(audit_part)
        if sent:
            outputs.stage(stack)

        clips = [part.clips for part in run.parts if part.clips is not None]

        def audit_of(described: Described | list[Described], argv: Sequence[str] = ()) -> Audit:
            count = ShardCounts(len(features), len(described) if isinstance(described, list) else 1)
            found = inputs.described()
            for one in clips:
                found["clips"] = one.described()
            provenance = _provenance(table, context, found, {run.target: described}, versions, argv=argv)
            return run.audit(audits, {"run_provenance": provenance, "shards": count, **columns})

        context.say("writing")
        # The footer is written last, when the inputs have been hashed beside the work. It holds no command
        # line, so that a table is the same however its run was started.
        outputs.write(joined, lambda: audit_of(outputs.expected()))
        inputs.refuse_changed()
        for watched in clips:
            watched.refuse_changed()
        if context.manifest is not None and inputs.described()["manifest"] != [context.manifest[0]]:
            raise InputChangedError.of(context.manifest[0]["path"])
        # Nobody would see the hash of what the command line writes without an audit.
        seen = audit_json is not None or context.manifest is not None or not context.argv
        audit = audit_of(outputs.describe(hashed=context.hasher is not None and seen), context.argv)
        if outputs.warnings:  # known only now, and so not in the footer
            said: Any = audit
            audit = msgspec.structs.replace(audit, warnings=[*said.warnings, *outputs.warnings])
        if audit_file is not None:
            audit_file.write_bytes(reports.to_json(audit))
    return audit


def _join(
    table: Table, parts: Sequence[AnyPart], outputs: Outputs, source: str, context: Context
) -> tuple[Joined, list[Any], dict[str, str]]:
    """Joins all parts onto a table: what is to be written, the audit of each, and what versions they used.

    The evidence as it was read is let go of then: it takes more memory than what is joined.
    """
    lf = table.whole()
    plans = {part.name: part.plan(table.schema) for part in parts}
    chain = Chain(table.schema, {name: plan.side for name, plan in plans.items()})
    chain.check()
    schema = chain.schema_after()
    outputs.check(schema)
    context.say("joining")
    evidence = chain.evidence(list(plans.values()), lf, source)
    attached = Attached(chain, [found.frame for found in evidence])
    joined = Joined(table, lf, attached, schema, chain.added, chain.drops)
    audits: list[Any] = []
    versions: dict[str, str] = {}
    for part, plan, found in zip(parts, plans.values(), evidence, strict=True):
        added = list(plan.side.columns)
        audits.append(msgspec.structs.replace(part.audit(plan, found), columns_added=added))
        versions |= part.versions(plan)
    return joined, audits, versions


def _refuse_inside(folder: File, others: Iterable[tuple[str, Place]]) -> None:
    """Refuses a folder to write, which replaces what is there, if something else of the run is in it."""
    real = Path(os.path.realpath(folder.local()))
    for name, path in others:
        if isinstance(path, Path) and Path(os.path.realpath(path)).is_relative_to(real):
            problem = f"{name} lies in it, which would be replaced with it"
            raise OutputError(f"{folder.written}: {problem}; expected a folder of its own", path=name)


def _refuse_as_inputs(written: Iterable[tuple[str, Place]], readers: Readers) -> None:
    """Refuses outputs that the next run would read."""
    for name, path in written:
        pattern = readers.of(str(path) if isinstance(path, Url) else os.path.realpath(path))
        if pattern is not None:
            problem = f"would be an input too, by {pattern!r}; expected a place outside of it"
            raise OutputError(f"{name}: {problem}", path=name)


def _provenance(
    table: msgspec.Struct,
    context: Context,
    inputs: Mapping[str, list[Described]],
    outputs: Mapping[str, Described | Sequence[Described]],
    versions: Mapping[str, str],
    *,
    argv: Sequence[str],
) -> dict[str, Any]:
    return run_provenance(
        entrypoint=context.entrypoint,
        argv=argv,
        args={name: value for name, value in builtins(table).items() if name != "id" or value},
        # The evidence may be many files, the other roles are one unless they are a glob.
        inputs={
            role: files if role in {"scores", "labels", "clips"} or len(files) != 1 else files[0]
            for role, files in inputs.items()
        },
        outputs=outputs,
        others=versions,
        base=context.base,
    )


def builtins(struct: object) -> dict[str, Any]:
    """A struct as plain values."""
    content: dict[str, Any] = msgspec.to_builtins(struct)
    return content
