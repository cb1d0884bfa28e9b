"""The command line: options in, one call, one line out.

Nothing heavy is imported before a command runs, so that `--help` is quick.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from polars_materialize import signals
from polars_materialize._version import __version__
from polars_materialize.cli_options import (
    FEATURES,
    OUT,
    PARTITION_BY,
    SALIENCY_HELP,
    batch_options,
    read_entry,
    read_part,
    struct_options,
    table_options,
    worker_options,
)
from polars_materialize.errors import MaterializeError, OptionError, OutputError, is_panic, unexpected
from polars_materialize.options import (
    LabelFile,
    LabelOptions,
    LabelPart,
    SaliencyOptions,
    ScoreOptions,
    ScorePart,
    Sidecar,
)
from polars_materialize.progress import Progress
from polars_materialize.signal_mix.options import SignalOptions
from polars_materialize.texts import PROBLEM, find_unwritable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polars_materialize.reports import LabelAudit, RefreshAudit, SaliencyAudit, ScoreAudit

FAILURES = 10
"""How many clips without a result a single run shows."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="polars-materialize")
def cli() -> None:
    """Joins evidence onto video-quality feature tables, and proves what was joined with what."""


@cli.command("formats")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--brief", "style", flag_value="brief", help="One line for each.")
@click.option("--json", "style", flag_value="json", help="As JSON.")
def formats(names: tuple[str, ...], style: Literal["brief", "json"] | None) -> None:
    """List the formats of sidecars and label files that can be read by name.

    For each its fields, the form of its keys, its range, what is better, and an example line.
    """
    from polars_materialize.format_lists import describe_formats  # noqa: PLC0415 - nothing else needs it

    click.echo(describe_formats(names, style=style or "full"), nl=False)


@cli.group("second-opinion")
def second_opinion() -> None:
    """Join the scores of no-reference scorers (DOVER, Q-Align, MUSIQ, ...)."""


@second_opinion.command("table")
@table_options(
    "--scores",
    "[LABEL=]PATH",
    "A sidecar file, glob or folder, or a JSON object of its options; may be repeated.",
    ScoreOptions,
)
@click.pass_obj
def second_opinion_table(
    argv: Sequence[str], /, features: str, scores: tuple[str, ...], out: str, **options: Any
) -> None:
    """Join scores onto one feature table."""
    from polars_materialize.score_runs import materialize_scores  # noqa: PLC0415 - polars is slow to import

    entries = [read_entry(entry, Sidecar, "--scores") for entry in scores]
    hashed = _is_seen(options["audit_json"], out, options["partition_by"])
    with Progress() as progress:
        audit = materialize_scores(
            features, entries, out, hashed=hashed, argv=argv, progress=progress, **options
        )
    _say_warnings(audit)
    counts = " ".join(
        f"{c.column_prefix}={c.matched_rows}/{audit.input_rows}" for c in audit.competitors.values()
    )
    click.echo(
        f"second-opinion materialize: input_rows={audit.input_rows} output_rows={audit.output_rows} {counts}",
        err=True,
    )


def _is_seen(audit_json: str | None, out: str, partition_by: list[str] | None) -> bool:
    """Whether an audit is written, in whose provenance hashes stand: as a file, or in a Parquet footer."""
    return audit_json is not None or partition_by is not None or out.lower().endswith((".parquet", ".pq"))


def _say_warnings(audit: ScoreAudit | LabelAudit | RefreshAudit) -> None:
    """Says what a reader should know before the table is used."""
    for text in audit.warnings:
        click.echo(f"warning: {text}", err=True)


@second_opinion.command("batch")
@batch_options
@worker_options
@click.pass_obj
def second_opinion_batch(argv: Sequence[str], /, **options: Any) -> None:
    """Join scores onto every table of a manifest."""
    _run_batch("second-opinion", argv, options)


@cli.group("mos-labels")
def mos_labels() -> None:
    """Join the mean opinion scores of human raters."""


@mos_labels.command("table")
@table_options(
    "--labels",
    "PATH",
    "A label file or glob, or a JSON object of its options; may be repeated.",
    LabelOptions,
)
@click.pass_obj
def mos_labels_table(
    argv: Sequence[str], /, features: str, labels: tuple[str, ...], out: str, **options: Any
) -> None:
    """Join MOS labels onto one feature table."""
    from polars_materialize.label_runs import materialize_labels  # noqa: PLC0415 - polars is slow to import

    entries = [read_entry(entry, LabelFile, "--labels") for entry in labels]
    hashed = _is_seen(options["audit_json"], out, options["partition_by"])
    audit = materialize_labels(features, entries, out, hashed=hashed, argv=argv, **options)
    _say_warnings(audit)
    click.echo(
        f"MOS-label materialize: input_rows={audit.input_rows} matched_rows={audit.matched_rows} "
        f"missing_rows={audit.missing_rows} match_rate={audit.match_rate:.3f}",
        err=True,
    )


@mos_labels.command("batch")
@batch_options
@worker_options
@click.pass_obj
def mos_labels_batch(argv: Sequence[str], /, **options: Any) -> None:
    """Join MOS labels onto every table of a manifest."""
    _run_batch("mos-labels", argv, options)


@cli.group("saliency")
def saliency() -> None:
    """Measure the saliency of each row's clip."""


@saliency.command("table")
@click.option("--input", required=True, help=FEATURES)
@click.option("--output", required=True, help=OUT)
@click.option("--audit-json", help="Where to write the audit.")
@PARTITION_BY
@struct_options(SaliencyOptions, SALIENCY_HELP)
@worker_options
@click.pass_obj
def saliency_table(argv: Sequence[str], /, jobs: int, dask: str | None, **options: Any) -> None:
    """Add saliency to one table; exit 1 if a row has none."""
    from polars_materialize.executors import open_executor  # noqa: PLC0415 - slow to import
    from polars_materialize.saliency_runs import materialize_saliency  # noqa: PLC0415 - slow to import

    hashed = _is_seen(options["audit_json"], options["output"], options["partition_by"])
    with Progress() as progress, open_executor(jobs, dask) as executor:
        audit = materialize_saliency(
            options.pop("input"),
            options.pop("output"),
            hashed=hashed,
            argv=argv,
            executor=executor,
            progress=progress,
            **options,
        )
    _say_failures(audit)
    for text in audit.warnings:
        click.echo(f"warning: {text}", err=True)
    click.echo(
        f"saliency materialize: total={audit.total} ok={audit.ok} "
        f"skipped={audit.skipped_existing} failed={audit.failed}",
        err=True,
    )
    if audit.failed:
        raise click.exceptions.Exit(1)


def _say_failures(audit: SaliencyAudit) -> None:
    """Says why the first clips without a result have none."""
    for failure in audit.failures[:FAILURES]:
        path = "a row without a path" if failure.path is None else failure.path
        path = path if path.isprintable() else repr(path)
        click.echo(f"{path}: {failure.status}: {failure.message}", err=True)
    more = audit.clips.failed - FAILURES
    if more > 0:
        click.echo(f"and {more:,} more clips; --audit-json keeps the reasons", err=True)


@saliency.command("batch")
@batch_options
@worker_options
@click.option("--allow-row-failures", is_flag=True, help="Exit 0 if rows failed, but no table.")
@click.pass_obj
def saliency_batch(argv: Sequence[str], /, *, allow_row_failures: bool, **options: Any) -> None:
    """Add saliency to every table of a manifest."""
    _run_batch("saliency", argv, options, allow_row_failures=allow_row_failures)


@cli.group("refresh")
def refresh() -> None:
    """Join labels, scores and saliency in one pass."""


@refresh.command("table")
@click.option("--features", required=True, help=FEATURES)
@click.option("--labels", multiple=True, metavar="PATH", help="As for mos-labels; may be repeated.")
@click.option(
    "--scores", multiple=True, metavar="[LABEL=]PATH", help="As for second-opinion; may be repeated."
)
@click.option("--label-options", metavar="JSON", help="The options of mos-labels, as in a manifest.")
@click.option("--score-options", metavar="JSON", help="The options of second-opinion, likewise.")
@click.option("--saliency-options", metavar="JSON", help="Measure clips; {} for all defaults.")
@click.option("--out", required=True, help=OUT)
@click.option("--audit-json", help="Where to write the audit.")
@PARTITION_BY
@worker_options
@click.pass_obj
def refresh_table(
    argv: Sequence[str],
    /,
    *,
    jobs: int,
    dask: str | None,
    labels: tuple[str, ...],
    scores: tuple[str, ...],
    label_options: str | None,
    score_options: str | None,
    saliency_options: str | None,
    **options: Any,
) -> None:
    """Join labels, scores and saliency onto one feature table; exit 1 if a row has no saliency."""
    from polars_materialize import refresh_runs  # noqa: PLC0415 - polars is slow to import
    from polars_materialize.executors import open_executor  # noqa: PLC0415 - slow to import

    hashed = _is_seen(options["audit_json"], options["out"], options["partition_by"])
    with Progress() as progress, open_executor(jobs, dask) as executor:
        audit = refresh_runs.refresh_table(
            options.pop("features"),
            options.pop("out"),
            labels=read_part(
                label_options, LabelPart, "label", [read_entry(e, LabelFile, "--labels") for e in labels]
            ),
            scores=read_part(
                score_options, ScorePart, "score", [read_entry(e, Sidecar, "--scores") for e in scores]
            ),
            saliency=read_part(saliency_options, SaliencyOptions, "saliency"),
            hashed=hashed,
            argv=argv,
            executor=executor,
            progress=progress,
            **options,
        )
    _say_warnings(audit)
    if audit.saliency is not None:
        _say_failures(audit.saliency)
    click.echo(
        f"refresh materialize: input_rows={audit.input_rows} output_rows={audit.output_rows} "
        f"failed={audit.failed}",
        err=True,
    )
    if audit.failed:
        raise click.exceptions.Exit(1)


@refresh.command("batch")
@batch_options
@worker_options
@click.option("--allow-row-failures", is_flag=True, help="Exit 0 if rows failed, but no table.")
@click.pass_obj
def refresh_batch(argv: Sequence[str], /, *, allow_row_failures: bool, **options: Any) -> None:
    """Join labels, scores and saliency onto every table of a manifest."""
    _run_batch("refresh", argv, options, allow_row_failures=allow_row_failures)


@cli.command("signal-mix")
@click.option(
    "--input",
    "inputs",
    required=True,
    multiple=True,
    metavar="[LABEL=]PATH",
    help="A table, or a glob of its shards; may be repeated.",
)
@click.option("--out-json", help="Where to write the report.")
@click.option("--out-md", help="Where to write the report for people.")
@click.option("--out-html", help="Where to write the report as a page with pictures.")
@click.option("--families", help="A file (JSON) of families that extend or replace the built-in ones.")
@click.option("--baseline", help="The JSON report of an earlier audit to compare with.")
@struct_options(SignalOptions)
@click.pass_obj
def signal_mix(argv: Sequence[str], /, inputs: tuple[str, ...], **options: Any) -> None:
    """Say which signal families tables cover, and how their columns relate.

    Without an output the report for people goes to stdout.
    """
    from polars_materialize.signal_mix.files import audit_tables  # noqa: PLC0415 - polars is slow to import

    report = audit_tables(inputs, argv=argv, **options)
    if not any(options[name] for name in ("out_json", "out_md", "out_html")):
        click.echo(report.to_markdown(), nl=False)
    counts = " ".join(f"{name}={report.summary[name]}" for name in report.summary)
    click.echo(f"signal-mix: {counts}", err=True)


def _run_batch(
    kind: str, argv: Sequence[str], options: dict[str, Any], *, allow_row_failures: bool = False
) -> None:
    from polars_materialize.batch_kinds import KINDS  # noqa: PLC0415 - polars is slow to import
    from polars_materialize.batches import run_batch  # noqa: PLC0415 - polars is slow to import
    from polars_materialize.executors import open_executor  # noqa: PLC0415 - slow to import
    from polars_materialize.shown import shortened  # noqa: PLC0415 - slow to import

    told: dict[str, str] = {}
    lacking: set[str] = set()

    def tell(table: str, error: str) -> None:
        if table in lacking:
            return
        progress.clear()
        first = told.setdefault(error, table)
        said = shortened(error) if first == table else f"the same error as table {first!r}"
        click.echo(f"table {table!r}: {said}", err=True)

    def tell_lacking(table: str, error: str) -> None:
        tell(table, error)
        lacking.add(table)

    workers = open_executor(options.pop("jobs"), options.pop("dask"))
    try:
        with Progress() as progress, workers as options["executor"]:
            report = run_batch(
                options.pop("manifest"),
                kind=kind,
                argv=argv,
                on_failure=tell,
                on_lacking=tell_lacking,
                progress=progress,
                **options,
            )
    except OutputError as error:  # a report could not be written; what the tables did is said all the same
        if "report" in error.fields:
            click.echo(KINDS[kind].line.format(**error.fields["report"].summary), err=True)
        raise
    for line in report.notes():
        click.echo(line, err=True)
    click.echo(KINDS[kind].line.format(**report.summary), err=True)
    if report.status != "ok" and not (allow_row_failures and report.status == "row-failures"):
        raise click.exceptions.Exit(1)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns its exit status.

    Every mistake of a user gives one line on stderr: exit 2 if the command line or the manifest is
    wrong, 1 if a table failed or was refused.

    Example:
        >>> main(["--version"])
        polars-materialize, version ...
        0
    """
    args = list(sys.argv[1:] if argv is None else argv)
    for arg in args:
        if found := find_unwritable(arg):
            click.echo(f"error: {found[1]} {PROBLEM}", err=True)
            return 2
    try:
        with signals.interrupting():
            return cli.main(args, prog_name="polars-materialize", standalone_mode=False, obj=args) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        where = error.ctx.command_path if error.ctx else "polars-materialize"
        click.echo(f"error: a command is missing (see {where} --help)", err=True)
        return 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "polars-materialize"
        message = " ".join(error.format_message().split())
        click.echo(f"error: {message} (see {where} --help)", err=True)
        return 2
    except OptionError as error:
        click.echo(f"error: {error}", err=True)
        return 2
    except MaterializeError as error:
        click.echo(f"error: {error}", err=True)
        return 1
    except (click.Abort, KeyboardInterrupt):
        click.echo(signals.LINE, err=True)
        return 130
    except OSError as error:
        click.echo(f"error: {error.filename or 'files'}: {error.strerror or error}", err=True)
        return 1
    except BaseException as error:  # a bug is no reason to show a user its insides
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        if os.environ.get("POLARS_MATERIALIZE_TRACEBACK"):
            raise
        hint = " (this is a bug; POLARS_MATERIALIZE_TRACEBACK=1 shows where)"
        click.echo(f"error: {unexpected(error)}{'' if isinstance(error, MemoryError) else hint}", err=True)
        return 1
