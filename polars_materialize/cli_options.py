"""The options of commands: what they are called, what they say of themselves, and how they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click
import msgspec

from polars_materialize.errors import OptionError
from polars_materialize.options import LabelFile, SaliencyOptions, Sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Command = Callable[..., None]

Entry = TypeVar("Entry", Sidecar, LabelFile)
PartStruct = TypeVar("PartStruct", bound=msgspec.Struct)

SHOWN = 80
"""How many characters of an option that is JSON an error shows."""

HELP = {
    "feature_key_column": "The feature table's key column; else the first known name it has.",
    "label_key_column": "The label files' key column; else the first known name each has.",
    "label_mos_column": "The label files' MOS column; else the first known name each has.",
    "label_scale": "The scale of the labels: auto, or LOW:HIGH such as 1:5 or 0:100.",
    "feature_key_regex": "What to take from a feature key: group 1 of the first match.",
    "label_key_regex": "What to take from a label key: group 1 of the first match.",
    "min_match_rate": "Refuse the join if a smaller share (0 to 1) of the table's distinct keys is matched.",
    "allow_folding": "Allow different key values of a table to become one key.",
    "status_column": "The name of the status column.",
    "key_column": "The feature table's key column; else the first known name it has.",
    "score_key_field": "The sidecars' key field; else the first known name a file has.",
    "score_field": "The sidecars' score field; else the first known name with a number.",
    "key_normalize": "How keys become comparable.",
    "missing_policy": "What to do with rows without a score.",
    "bad_policy": "What to do with rows whose score is marked as bad.",
    "prefix": "What the names of the new columns begin with.",
    "overwrite": "Replace columns that the table already has.",
    "target": "The column to correlate signals with; by default the first known name in each table.",
    "top_k": "How many rows the lists for people show.",
    "redundancy_threshold": "Least |r| of two redundant signals.",
    "complement_threshold": "Greatest |r| between the signals of a complementary pair.",
    "target_threshold": "Least |r| with the target of both signals of a complementary pair.",
    "min_finite_ratio": "The least share of finite values of a healthy column.",
    "min_std": "A healthy column has a standard deviation above this.",
    "sample": "Number of rows of each table to look at; by default all.",
    "seed": "Random seed of the sample.",
}

SALIENCY_HELP = {
    "path_column": "The column that names each row's clip.",
    "width_column": "The column with the width of raw video.",
    "height_column": "The column with its height.",
    "root": "The folder that relative paths of clips are relative to.",
    "ffmpeg_bin": "An ffmpeg program to decode with; else PyAV, in process.",
    "ffprobe_bin": "An ffprobe program, which uniform needs beside --ffmpeg-bin.",
    "model_path": "An ONNX network; else the spectral residual, which needs none.",
    "model_id": "What to call the network; else its file's stem.",
    "max_frames": "How many frames of a clip are considered at most.",
    "frame_samples": "How many of those are measured at most.",
    "frame_selection": "Which frames are considered: the first, or some spread over the clip.",
    "temporal_aggregator": "How the masks of frames become one.",
    "ema_alpha": "What the current frame weighs in ema, above 0 and up to 1.",
    "overwrite": "Measure rows again that have saliency already.",
    "status_column": "The name of the status column; '' for none.",
    "model_id_column": "The name of the column with the model's id; '' for none.",
    "aggregator_column": "The name of the column with the aggregator; '' for none.",
    "ema_alpha_column": "The name of the column with ema_alpha; '' for none.",
    "default_width": "The width of raw video whose row says none.",
    "default_height": "The height likewise.",
    "decode_timeout_s": "How long decoding one clip may take, in seconds.",
    "max_pixels": "How many pixels a frame may have; clips with larger frames are model-failed.",
    "matrix": "The matrix that makes RGB of YUV: bt709, or as-tagged, the one that a clip is tagged with.",
    "hash_clips": "Hash clips for the audit, beside decoding.",
}


FEATURES = "The feature table: a file, a glob, or a folder of shards."
OUT = "The table to write; joined/{stem}.parquet writes a file for each shard."
PARTITION_BY = click.option(
    "--partition-by",
    multiple=True,
    metavar="COLUMN",
    callback=lambda _, __, value: list(value) or None,
    help="A column that the output, then a folder, is parted by; may be repeated.",
)


def struct_options(
    struct: type[msgspec.Struct], texts: Mapping[str, str] = HELP
) -> Callable[[Command], Command]:
    """Click options for every field of an options struct."""

    def decorate(command: Command) -> Command:
        hints = get_type_hints(struct)
        for field in reversed(msgspec.structs.fields(struct)):
            flag = f"--{field.name.replace('_', '-')}"
            kind: dict[str, Any] = {"help": texts[field.name], "default": field.default}
            if hints[field.name] is bool:
                kind["is_flag"] = True
                flag += f"/--no-{flag[2:]}" if field.default else ""
            elif get_origin(hints[field.name]) is Literal:
                kind |= {"type": click.Choice(get_args(hints[field.name])), "show_default": True}
            elif field.default is not None:
                kind |= {"type": hints[field.name], "show_default": True}
            elif number := {int, float}.intersection(get_args(hints[field.name])):
                kind["type"] = number.pop()
            command = click.option(flag, **kind)(command)
        return command

    return decorate


def table_options(
    evidence: str, metavar: str, text: str, struct: type[msgspec.Struct]
) -> Callable[[Command], Command]:
    """Click options for a run of one table: its paths, then the fields of its options struct."""

    def decorate(command: Command) -> Command:
        command = struct_options(struct)(command)
        for option in (
            PARTITION_BY,
            click.option("--audit-json", help="Where to write the audit."),
            click.option("--out", required=True, help=OUT),
            click.option(evidence, required=True, multiple=True, metavar=metavar, help=text),
            click.option("--features", required=True, help=FEATURES),
        ):
            command = option(command)
        return command

    return decorate


def batch_options(command: Command) -> Command:
    """Click options for a manifest and its reports."""
    for option in reversed(
        (
            click.option("--manifest", required=True, help="The manifest (JSON)."),
            click.option("--base-dir", help="What its relative paths are relative to."),
            click.option("--report-json", help="Where to write the report."),
            click.option("--report-md", help="Where to write the report for people."),
            click.option("--fail-fast", is_flag=True, help="Stop at the first table that fails."),
        )
    ):
        command = option(command)
    return command


def worker_options(command: Command) -> Command:
    """Click options for where the work is done that can be divided."""
    for option in (
        click.option("--dask", metavar="ADDRESS", help="Use a Dask cluster; its scheduler's address."),
        click.option(
            "--jobs",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            metavar="N",
            help="Use this many processes.",
        ),
    ):
        command = option(command)
    return command


def read_entry(text: str, struct: type[Entry], option: str) -> str | Entry:
    """An entry of evidence: a path as it is, or a JSON object of its options."""
    if not text.lstrip().startswith("{"):
        return text
    from polars_materialize.manifests import read_struct  # noqa: PLC0415 - slow to import

    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return read_struct(text, struct, option=f"{option} {shown}")


def read_part(
    text: str | None, struct: type[PartStruct], name: str, files: Sequence[object] = ()
) -> PartStruct | None:
    """A part of a refresh: its files, and its options as JSON; none if neither is said."""
    if text is None and not files:
        return None
    from polars_materialize.manifests import read_struct  # noqa: PLC0415 - slow to import

    option = f"--{name}-options"
    if not files and struct is not SaliencyOptions:
        raise OptionError(f"{option}: --{name}s is missing")
    return read_struct(text or "{}", struct, option=option, more={"files": files} if files else {})
