"""The audit of files: inputs hashed, reports written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from polars_materialize.arguments import checked
from polars_materialize.errors import OptionError, OutputError, listing
from polars_materialize.paths import reads
from polars_materialize.provenance import Inputs, describe, run_provenance
from polars_materialize.reports import to_json
from polars_materialize.runs import Context, PathLike, single_run
from polars_materialize.signal_mix.audit import Table, audit_each, make_report
from polars_materialize.signal_mix.baseline import load_baseline
from polars_materialize.signal_mix.families import Family, built_in, choose_families, read_families, read_file
from polars_materialize.signal_mix.options import SignalOptions, check_options
from polars_materialize.stores import real, refuse_output, refuse_url
from polars_materialize.tables import scan_files, staged
from polars_materialize.tables.files import COMPRESSIONS, SUFFIXES
from polars_materialize.texts import refuse_unwritable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polars_materialize.signal_mix.reports import SignalReport
    from polars_materialize.stores import StorageOptions
    from polars_materialize.tables import File


@checked
def audit_tables(
    inputs: PathLike | Iterable[PathLike],
    *,
    out_json: PathLike | None = None,
    out_md: PathLike | None = None,
    out_html: PathLike | None = None,
    base_dir: PathLike | None = None,
    target: str | None = None,
    families: PathLike | Iterable[Family] | None = None,
    top_k: int = 12,
    redundancy_threshold: float = 0.95,
    complement_threshold: float = 0.70,
    target_threshold: float = 0.20,
    min_finite_ratio: float = 0.80,
    min_std: float = 1e-12,
    sample: int | None = None,
    seed: int = 0,
    baseline: PathLike | None = None,
    storage_options: StorageOptions | None = None,
    hashed: bool = True,
    argv: Sequence[str] = (),
) -> SignalReport:
    """Audits table files, and writes what was found.

    As `audit_signals`, for files. The report lists every input with its hash.

    Args:
        inputs: The tables: paths or globs as `scan_table` takes them, each also as `LABEL=path`. Without a
            label a table is called by its file's name, less the suffix.
        out_json: Where to write the report.
        out_md: Where to write it for people.
        out_html: Where to write it as one page with pictures.
        base_dir: What relative paths are relative to.
        target: See `audit_signals`.
        families: See `audit_signals`.
        top_k: See `audit_signals`.
        redundancy_threshold: See `audit_signals`.
        complement_threshold: See `audit_signals`.
        target_threshold: See `audit_signals`.
        min_finite_ratio: See `audit_signals`.
        min_std: See `audit_signals`.
        sample: See `audit_signals`.
        seed: See `audit_signals`.
        baseline: The JSON report of an earlier audit to compare with.
        storage_options: See `scan_table`; never written anywhere.
        hashed: Hash inputs; without, their hashes are null and the run is quicker.
        argv: The command line's arguments, for the report.

    Returns:
        The report.

    Raises:
        OptionError: If an option is not valid, or the file of families is wrong.
        TableError: If a table or the earlier report cannot be read, or no table has the target.
        OutputError: If an output is also an input, or cannot be written.
        InputChangedError: If an input changed during the run.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "f.csv").write_text("clip_id,psnr_y,mos\\na,30,1\\nb,31,2\\nc,35,4\\n")
        ...     report = audit_tables("phone=f.csv", out_md="audit.md", base_dir=folder)
        ...     report.tables[0].label, report.summary["covered"], (Path(folder) / "audit.md").exists()
        ('phone', 1, True)
    """
    options = SignalOptions(
        target=target,
        top_k=top_k,
        redundancy_threshold=redundancy_threshold,
        complement_threshold=complement_threshold,
        target_threshold=target_threshold,
        min_finite_ratio=min_finite_ratio,
        min_std=min_std,
        sample=sample,
        seed=seed,
    )
    check_options(options)
    listed = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    entries = label_inputs([os.fspath(entry) for entry in listed])
    outputs: dict[str, str] = {
        name: os.fspath(path)
        for name, path in (("out_json", out_json), ("out_md", out_md), ("out_html", out_html))
        if path is not None
    }
    refuse_unwritable({"inputs": [f"{label}={path}" for label, path in entries], "target": target, **outputs})
    for name, path in outputs.items():
        if not path.strip() or "\0" in path:
            raise OptionError(f"{name}: expected a path", option=name)
        refuse_output(path)
    entrypoint = "signal-mix" if argv else "audit_tables"
    with single_run(
        entrypoint, argv=argv, base_dir=base_dir, hashed=hashed, storage_options=storage_options
    ) as context:
        return _run(entries, outputs, options, context, families=families, baseline=baseline)


def _run(
    entries: Sequence[tuple[str, str]],
    outputs: dict[str, str],
    options: SignalOptions,
    context: Context,
    *,
    families: PathLike | Iterable[Family] | None,
    baseline: PathLike | None,
) -> SignalReport:
    inputs = Inputs(context.hasher)
    found = [(label, path, context.find(path)) for label, path in entries]
    for _, _, files in found:
        inputs.add("tables", ((file.written, file.path) for file in files))
    known, named = _families(families, inputs, context)
    earlier = None
    if baseline is not None:
        refuse_url(baseline, "baseline")
        place = context.place(os.fspath(baseline))
        earlier = load_baseline(*place)
        inputs.add("baseline", [place])
    inputs.refuse_as_outputs(context.locate(path) for path in outputs.values())
    _refuse_patterns([path for _, path in entries], outputs, context)

    tables = audit_each([_table(*each) for each in found], known, options)
    report = make_report(tables, earlier, {})
    with contextlib.ExitStack() as stack:
        parts = {
            name: stack.enter_context(staged(*context.locate(outputs[name])))
            for name in ("out_json", "out_md", "out_html")
            if name in outputs
        }
        inputs.refuse_changed()
        described = inputs.described()
        args: dict[str, Any] = {
            **msgspec.to_builtins(options),
            "inputs": [f"{label}={path}" for label, path in entries],
            "families": named,
            "baseline": None if baseline is None else os.fspath(baseline),
            **{name: outputs.get(name) for name in ("out_json", "out_md", "out_html")},
        }

        def provenance(written: dict[str, Any]) -> dict[str, Any]:
            return run_provenance(
                entrypoint=context.entrypoint,
                argv=context.argv,
                args=args,
                inputs={role: files if role == "tables" else files[0] for role, files in described.items()},
                outputs=written,
            )

        # What people read shows the inputs only, so that the JSON can hold its hash.
        report = msgspec.structs.replace(report, run_provenance=provenance({}))
        if "out_md" in parts:
            parts["out_md"].write_bytes(report.to_markdown().encode())
        if "out_html" in parts:
            parts["out_html"].write_bytes(report.to_html().encode())
        hashed = context.hasher is not None
        made: dict[str, Any] = {
            name: describe(outputs[name], part, hashed=hashed)
            for name, part in parts.items()
            if name != "out_json"
        }
        report = msgspec.structs.replace(report, run_provenance=provenance(made))
        if "out_json" in parts:
            parts["out_json"].write_bytes(to_json(report))
    return report


def _table(label: str, path: str, files: Sequence[File]) -> Table:
    return Table(label, scan_files(files), path)


def _families(
    families: PathLike | Iterable[Family] | None, inputs: Inputs, context: Context
) -> tuple[tuple[Family, ...], object]:
    """The families, and what the provenance calls them."""
    if families is None:
        return built_in(), None
    if isinstance(families, (str, os.PathLike)):
        refuse_url(families, "families")
        written, path = context.place(os.fspath(families))
        content = read_file(written, path)
        inputs.add("families", [(written, path)])
        return read_families(written, content), written
    chosen = choose_families(families)
    return chosen, msgspec.to_builtins(chosen)


def _refuse_patterns(patterns: Iterable[str], outputs: dict[str, str], context: Context) -> None:
    """Refuses outputs that a later run of the same command would read."""
    for pattern in patterns:
        for path in outputs.values():
            if reads(context.base_dir, pattern, real(context.base_dir, path)):
                problem = f"would be an input too, by {pattern!r}; expected a place outside of it"
                raise OutputError(f"{path}: {problem}", path=path)


def label_inputs(entries: Sequence[str]) -> list[tuple[str, str]]:
    """The label and the path of each input.

    Raises:
        OptionError: If there are none, a path is blank, or two labels are the same.

    Example:
        >>> label_inputs(["phone=runs/f.parquet", "runs/lr=0.1/after.csv.gz"])
        [('phone', 'runs/f.parquet'), ('after', 'runs/lr=0.1/after.csv.gz')]
        >>> label_inputs(["a/f.csv", "b/f.csv"])
        [('a/f.csv', 'a/f.csv'), ('b/f.csv', 'b/f.csv')]
    """
    if not entries:
        raise OptionError("input: expected at least one table", option="input")
    split = [_split(entry) for entry in entries]
    plain = [_stem(path) for label, path in split if label is None]
    labelled = [
        (label or (path if plain.count(_stem(path)) > 1 else _stem(path)), path) for label, path in split
    ]
    for _, path in labelled:
        if not path.strip():
            raise OptionError("input: a path is blank; expected [LABEL=]PATH", option="input")
    labels = [label for label, _ in labelled]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        problem = f"input: tables with the same label: {listing(twice)}; give them others, as LABEL=PATH"
        raise OptionError(problem, option="input")
    return labelled


def _split(entry: str) -> tuple[str | None, str]:
    label, equals, path = entry.partition("=")
    # A separator before the first "=" means that "=" belongs to a folder's name.
    if not equals or "/" in label or "\\" in label:
        return None, entry
    return label.strip() or None, path


def _stem(path: str) -> str:
    name = Path(path).name or path
    for suffixes in (COMPRESSIONS, SUFFIXES):
        for suffix in suffixes:
            if name.lower().endswith(suffix) and len(name) > len(suffix):
                name = name[: -len(suffix)]
                break
    return name
