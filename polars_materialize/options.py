"""The options of each kind of join: one place for their names, types and defaults.

The same names are keyword arguments in notebooks, fields in manifests, and `--with-dashes` options on the
command line. The structs are read from JSON as they are, so they hold plain values only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from polars_materialize import arguments
from polars_materialize.errors import OptionError
from polars_materialize.formats import Duplicates, KeyNormalize, LabelFormat, Pooling, ScoreFormat

Policy = Literal["mark", "drop", "fail"]
FrameSelection = Literal["first", "uniform"]
TemporalAggregator = Literal["mean", "ema", "max", "motion-weighted"]
Matrix = Literal["bt709", "as-tagged"]


class ScoreOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How scores are read and joined.

    Attributes:
        key_column: The feature table's key column; else the first known name it has.
        score_key_field: The sidecars' key field; else the first known name a file has.
        score_field: The sidecars' score field; else the first known name with a number.
        key_normalize: How keys become comparable: `auto`, `raw`, `basename`, `stem`.
        missing_policy: Rows without a score: `mark`, `drop`, `fail`.
        bad_policy: Rows whose score is marked as bad: `mark`, `drop`, `fail`.
        min_match_rate: The least share of the table's distinct keys that each scorer must have, 0 to 1.
        allow_folding: Whether different values of the key column may become one key.
        prefix: What the names of the new columns begin with.
        overwrite: Whether columns that exist are replaced.
    """

    key_column: str | None = None
    score_key_field: str | None = None
    score_field: str | None = None
    key_normalize: KeyNormalize = "auto"
    missing_policy: Policy = "mark"
    bad_policy: Policy = "mark"
    min_match_rate: float | None = None
    allow_folding: bool = False
    prefix: str = "second_opinion"
    overwrite: bool = False


class Sidecar(arguments.Checked, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a scorer's outputs are, and how to read them where the generic rules do not fit.

    Attributes:
        path: A file, a glob, or a folder (of one JSON a clip, say).
        label: The scorer's name; needed where the rows have no `competitor`.
        key_field: The field that holds the clip's key, or `@filename`.
        score_field: The field that holds the score, or a list of scores a frame (their mean is taken).
        runtime_field: The field that holds the run time in milliseconds.
        status_field: The field that says whether the scorer succeeded.
        key_normalize: How this sidecar's keys are normalised, if not as the table's.
        key_regex: What to take from the normalised key: the first group of the first match.
        format: What wrote the files: `auto`, the name of a format, or a format.
        columns: The columns of a CSV that has no header, in their order.
        pooling: How the scores of frames become one: `mean`, `harmonic_mean`, `min`, `p5`, `p10`, `median`;
            only scores of frames count then.
        duplicates: What to do with a key that stands twice: `refuse`, or take the `last`.

    Fields may be dotted paths into nested objects (`metadata.name`, `frames.metrics.vmaf`).

    Example:
        >>> Sidecar("nvc/musiq", label="musiq", key_field="video", score_field="mean_musiq").path
        'nvc/musiq'
    """

    path: str
    label: str | None = None
    key_field: str | None = None
    score_field: str | None = None
    runtime_field: str | None = None
    status_field: str | None = None
    key_normalize: KeyNormalize | None = None
    key_regex: str | None = None
    format: str | ScoreFormat = "auto"
    columns: list[str] | None = None
    pooling: Pooling | None = None
    duplicates: Duplicates | None = None

    @classmethod
    def of(cls, entry: SidecarLike, place: str = "scores") -> Sidecar:
        """Reads an entry: `path`, `LABEL=path`, an object as in a manifest, or already a `Sidecar`.

        Raises:
            OptionError: If it is something else.

        Example:
            >>> entry = Sidecar.of("dover=runs/lr=0.1/dover.jsonl")
            >>> entry.label, entry.path
            ('dover', 'runs/lr=0.1/dover.jsonl')
        """
        if isinstance(entry, Sidecar):
            return entry
        if isinstance(entry, Mapping):
            return _from_object(cls, entry, place)
        if not arguments.is_path(entry):
            expected = "a path, LABEL=path, a Sidecar, or a dict of its fields"
            raise OptionError(f"{place}: {arguments.describe(entry)}; expected {expected}", option=place)
        text = os.fspath(entry)
        label, equals, path = text.partition("=")
        # A separator before the first "=" means that "=" belongs to a folder's name.
        if not equals or "/" in label or "\\" in label:
            return cls(text)
        return cls(path, label=label.strip() or None)


class LabelOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How MOS labels are read and joined.

    Attributes:
        feature_key_column: The feature table's key column; else the first known name it has.
        label_key_column: The label files' key column; else the first known name each has.
        label_mos_column: The label files' MOS column; else the first known name each has.
        label_scale: The scale of the labels: `auto`, or `LOW:HIGH` such as `1:5` or `0:100`.
        key_normalize: How keys become comparable: `auto`, `raw`, `basename`, `stem`.
        feature_key_regex: What to take from a feature key: the first group of the first match.
        label_key_regex: What to take from a label key, likewise.
        min_match_rate: The least share of the table's distinct keys that must have a label, 0 to 1.
        allow_folding: Whether different values of one side may become one key.
        status_column: The name of the status column.
        overwrite: Whether columns that exist are replaced.
    """

    feature_key_column: str | None = None
    label_key_column: str | None = None
    label_mos_column: str | None = None
    label_scale: str = "auto"
    key_normalize: KeyNormalize = "auto"
    feature_key_regex: str | None = None
    label_key_regex: str | None = None
    min_match_rate: float = 0.95
    allow_folding: bool = False
    status_column: str = "mos_label_status"
    overwrite: bool = False


class LabelFile(arguments.Checked, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file of MOS labels, and how to read it where the generic rules do not fit.

    Attributes:
        path: A file or a glob.
        columns: The columns of a CSV that has no header, in their order.
        key_column: The column that holds the clip's key.
        mos_column: The column that holds the mean opinion score.
        key_normalize: How this file's keys are normalised, if not as the table's.
        key_regex: What to take from the normalised key: the first group of the first match.
        scale: The scale of the scores: `auto`, or `LOW:HIGH`.
        format: What published it: `auto`, the name of a format, or a format.
        std_dev_column: The column with the standard deviation of the ratings.
        n_ratings_column: The column with their number.

    Example:
        >>> LabelFile("dover_labels.txt", columns=["path", "duration", "fps", "mos"]).columns
        ['path', 'duration', 'fps', 'mos']
    """

    path: str
    columns: list[str] | None = None
    key_column: str | None = None
    mos_column: str | None = None
    key_normalize: KeyNormalize | None = None
    key_regex: str | None = None
    scale: str | None = None
    format: str | LabelFormat = "auto"
    std_dev_column: str | None = None
    n_ratings_column: str | None = None

    @classmethod
    def of(cls, entry: LabelLike, place: str = "labels") -> LabelFile:
        """Reads an entry: a path, an object as in a manifest, or already a `LabelFile`.

        Raises:
            OptionError: If it is something else.

        Example:
            >>> LabelFile.of({"path": "mos.csv", "scale": "0:10"}).scale
            '0:10'
        """
        if isinstance(entry, LabelFile):
            return entry
        if isinstance(entry, Mapping):
            return _from_object(cls, entry, place)
        if not arguments.is_path(entry):
            expected = "a path, a LabelFile, or a dict of its fields"
            raise OptionError(f"{place}: {arguments.describe(entry)}; expected {expected}", option=place)
        return cls(os.fspath(entry))


SidecarLike = str | os.PathLike[str] | Sidecar | Mapping[str, Any]
"""An entry of scores, however it is written."""
LabelLike = str | os.PathLike[str] | LabelFile | Mapping[str, Any]
"""An entry of labels."""
Entry = TypeVar("Entry", Sidecar, LabelFile)


def list_entries(entries: object, struct: type[Entry], option: str) -> list[Entry]:
    """Reads one entry or several.

    Args:
        entries: An entry, or entries.
        struct: What an entry is read as.
        option: What to call them in an error.

    Raises:
        OptionError: If they are none.

    Example:
        >>> [entry.label for entry in list_entries(["dover=a.csv", {"path": "b.csv"}], Sidecar, "scores")]
        ['dover', None]
    """
    given: Any = entries
    several = isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping))
    if not several or arguments.is_frame(given):
        return [struct.of(given, option)]
    return [struct.of(entry, f"{option}[{index}]") for index, entry in enumerate(given)]


def _from_object(struct: type[Entry], value: Mapping[Any, Any], place: str) -> Entry:
    """An entry of an object of its fields; its format may be an object, too."""
    known = struct.__struct_fields__
    if value and not set(value) & set(known) and all(map(arguments.is_path, value.values())):
        label, path = next((str(label), os.fspath(path)) for label, path in value.items())
        entry = {"path": path, "label": label} if struct is Sidecar else {"path": path}
        raise OptionError(f"{place}: a dict without a path; expected an entry such as {entry}", option=place)
    form = value.get("format")
    if isinstance(form, Mapping):
        kind = ScoreFormat if struct is Sidecar else LabelFormat
        value = {**value, "format": arguments.entry_of(kind, form, f"{place}.format")}
    made: Entry = arguments.entry_of(struct, value, place)
    return made


class SaliencyOptions(arguments.Checked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clips are found, decoded and measured, and what their columns are called.

    Attributes:
        path_column: The column that names each row's clip.
        width_column: The column with the width of raw video, in pixels.
        height_column: The column with its height.
        root: The folder that relative paths of clips are relative to.
        ffmpeg_bin: The `ffmpeg` program to decode with; else PyAV, in process.
        ffprobe_bin: The `ffprobe` program, which `uniform` needs beside `ffmpeg_bin`.
        model_path: The ONNX network; else the spectral residual, which needs none.
        model_id: What to call it; else the model file's stem. Without a model only `spectral_residual`.
        max_frames: How many frames of a clip are considered at most.
        frame_samples: How many of those are measured at most.
        frame_selection: Which frames are considered: the `first`, or `uniform`, spread over the clip.
        temporal_aggregator: How the masks of frames become one: `mean`, `ema`, `max`, `motion-weighted`.
        ema_alpha: What the current frame weighs in `ema`, above 0 and up to 1.
        overwrite: Whether rows that have saliency already are measured again.
        status_column: The name of the status column; empty for none.
        model_id_column: The name of the column with the model's id; empty for none.
        aggregator_column: The name of the column with the aggregator; empty for none.
        ema_alpha_column: The name of the column with `ema_alpha`; empty for none.
        default_width: The width of raw video whose row says none; 0 for unknown.
        default_height: The height likewise.
        decode_timeout_s: How long decoding one clip may take, in seconds.
        max_pixels: How many pixels a frame may have; clips with larger frames are `model-failed`.
        matrix: The matrix that makes RGB of YUV: `bt709`, or `as-tagged`, the one that a clip is tagged with.
        hash_clips: Whether clips are hashed for the audit.
    """

    path_column: str = "src"
    width_column: str = "width"
    height_column: str = "height"
    root: str | None = None
    ffmpeg_bin: str | None = None
    ffprobe_bin: str | None = None
    model_path: str | None = None
    model_id: str | None = None
    max_frames: int = 8
    frame_samples: int = 8
    frame_selection: FrameSelection = "first"
    temporal_aggregator: TemporalAggregator = "mean"
    ema_alpha: float = 0.6
    overwrite: bool = False
    status_column: str = "saliency_status"
    model_id_column: str = "saliency_model_id"
    aggregator_column: str = "saliency_aggregator"
    ema_alpha_column: str = "saliency_ema_alpha"
    default_width: int = 0
    default_height: int = 0
    decode_timeout_s: float = 300.0
    max_pixels: int = 9_437_184
    matrix: Matrix = "bt709"
    hash_clips: bool = True


class LabelTable(LabelOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a MOS-label manifest: its paths and its options.

    Attributes:
        id: A name for reports, unlike every other table's.
        features: The feature table: a file, a glob, or a folder of shards.
        labels: The label files: paths or objects.
        out: The table to write: a file, `joined/{stem}.parquet` for one each, or a folder.
        audit_json: Where to write the audit, if anywhere.
        partition_by: The columns that the output, then a folder, is parted by.
    """

    id: str
    features: str
    labels: list[str | LabelFile]
    out: str
    audit_json: str | None = None
    partition_by: str | list[str] | None = None


class ScoreTable(ScoreOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a second-opinion manifest: its paths and its options.

    Attributes:
        id: A name for reports, unlike every other table's.
        features: The feature table: a file, a glob, or a folder of shards.
        scores: The sidecars: `path`, `LABEL=path` or an object.
        out: The table to write: a file, `joined/{stem}.parquet` for one each, or a folder.
        audit_json: Where to write the audit, if anywhere.
        partition_by: The columns that the output, then a folder, is parted by.
    """

    id: str
    features: str
    scores: list[str | Sidecar]
    out: str
    audit_json: str | None = None
    partition_by: str | list[str] | None = None


class SaliencyTable(SaliencyOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a saliency manifest: its paths and its options.

    Attributes:
        id: A name for reports, unlike every other table's.
        input: The feature table: a file, a glob, or a folder of shards.
        output: The table to write: a file, `joined/{stem}.parquet` for one each, or a folder.
        audit_json: Where to write the audit, if anywhere.
        partition_by: The columns that the output, then a folder, is parted by.
    """

    id: str
    input: str
    output: str
    audit_json: str | None = None
    partition_by: str | list[str] | None = None


def _plain_entries(files: object, struct: type[Entry]) -> list[str | Entry]:
    """Entries as JSON has them: text as it is, all else as a struct."""
    given = list(files) if isinstance(files, Iterable) and not isinstance(files, (str, Mapping)) else files
    made = list_entries(files if arguments.is_frame(files) else given, struct, "files")
    texts = given if isinstance(given, list) else [given]
    return [text if isinstance(text, str) else entry for text, entry in zip(texts, made, strict=True)]


class LabelPart(LabelOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The labels of a refresh: their files and their options.

    Attributes:
        files: The label files: paths or objects.

    Example:
        >>> LabelPart(files=["mos.csv"], min_match_rate=0.9).min_match_rate
        0.9
    """

    files: list[str | LabelFile]

    def __post_init__(self) -> None:
        """Takes one file for a list of one, and refuses fields of a wrong type.

        Raises:
            OptionError: Names the field.
        """
        msgspec.structs.force_setattr(self, "files", _plain_entries(self.files, LabelFile))
        arguments.check_fields(self)


class ScorePart(ScoreOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scores of a refresh: their sidecars and their options.

    Attributes:
        files: The sidecars: `path`, `LABEL=path` or an object.

    Example:
        >>> ScorePart(files=["dover=dover.jsonl"], key_normalize="stem").key_normalize
        'stem'
    """

    files: list[str | Sidecar]

    def __post_init__(self) -> None:
        """Takes one file for a list of one, and refuses fields of a wrong type.

        Raises:
            OptionError: Names the field.
        """
        msgspec.structs.force_setattr(self, "files", _plain_entries(self.files, Sidecar))
        arguments.check_fields(self)


class RefreshOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of each part of a refresh that tables may share.

    Attributes:
        labels: How labels are read and joined, where a table has some.
        scores: How scores are, likewise.
        saliency: How clips are measured, likewise.
    """

    labels: LabelOptions | None = None
    scores: ScoreOptions | None = None
    saliency: SaliencyOptions | None = None


class RefreshTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a refresh manifest: its paths, and the parts that are joined onto it.

    Attributes:
        id: A name for reports, unlike every other table's.
        features: The feature table: a file, a glob, or a folder of shards.
        out: The table to write: a file, `joined/{stem}.parquet` for one each, or a folder.
        audit_json: Where to write the audit, if anywhere.
        partition_by: The columns that the output, then a folder, is parted by.
        labels: The MOS labels, if any.
        scores: The second opinions, if any.
        saliency: How its clips are measured, if they are.
    """

    id: str
    features: str
    out: str
    audit_json: str | None = None
    partition_by: str | list[str] | None = None
    labels: LabelPart | None = None
    scores: ScorePart | None = None
    saliency: SaliencyOptions | None = None
