"""Sidecars to one long frame of scores, whatever fields their scorer writes.

A *sidecar* is an output file of a no-reference scorer. This project never runs a scorer; it reads what
one wrote. Everything a row lacks is refused here with its place; which rows of a feature table the
scores belong to is decided in `score_joins`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from polars_materialize import fields, keys
from polars_materialize.errors import (
    LISTED,
    KeyColumnError,
    OptionError,
    ScorerNameError,
    SidecarError,
    TableError,
    did_you_mean,
    listing,
)
from polars_materialize.options import Sidecar
from polars_materialize.scores import FILE_NAME, SCORE_FIELDS, SCORE_SCHEMA, means_ok, slug, unusable_rows
from polars_materialize.tables import File, Records, find, in_order, is_small, read_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polars_materialize.fields import Field


SidecarLike = str | os.PathLike[str] | Sidecar
SCORER_FIELDS = ("competitor",)
STATUS_FIELDS = ("status",)
RUNTIME_FIELDS = ("runtime_ms", "runtime_total_ms", "elapsed_ms")


def check_sidecar(sidecar: Sidecar) -> None:
    """Refuses what can be seen to be wrong with an entry before any file is read.

    Raises:
        OptionError: If a rule, a pattern or a name is not valid.
    """
    if not sidecar.path.strip():
        raise OptionError("scores: an entry names no path", option="scores")
    if sidecar.label is not None and not slug(sidecar.label):
        raise OptionError(
            f"scores: the label {sidecar.label!r} has no letter a-z and no digit for a column name",
            option="scores",
        )
    rule = sidecar.key_normalize
    if rule is not None and rule not in keys.KEY_NORMALIZE:
        raise OptionError(
            f"key_normalize: {rule!r}; expected one of {' '.join(keys.KEY_NORMALIZE)}", option="scores"
        )
    if sidecar.key_regex is not None:
        keys.check_regex(sidecar.key_regex, option="key_regex")


def scan_scores(
    scores: SidecarLike | Iterable[SidecarLike],
    *,
    score_key_field: str | None = None,
    score_field: str | None = None,
    base_dir: str | os.PathLike[str] | None = None,
) -> pl.LazyFrame:
    """Opens sidecars as one long frame of scores, one row a scored clip.

    The sidecars are read when the frame is collected, which `join_scores` does. Field names match
    whatever their case; null and blank count as absent. Without options the first of these is taken,
    in the row, then in its `summary`: key `clip_id video_id ... src_path` (see `keys.SCORE_KEYS`);
    scorer `competitor`; score `score mos predicted_mos predicted_vmaf_or_mos quality vmaf`, else the
    mean over `frames`, each of which must have one; run time `runtime_ms runtime_total_ms elapsed_ms`,
    else the sum over `frames`. A `status` other than absent, `ok`, `pass` or `success` means `bad`.

    Args:
        scores: Entries: `path`, `LABEL=path` or `Sidecar`; a path may be a glob or a folder.
        score_key_field: The field that holds the key, in every sidecar that does not say itself.
        score_field: The field that holds the score, likewise.
        base_dir: What relative paths are relative to.

    Returns:
        Columns as `SCORE_SCHEMA`: `scorer`, `key` (text, not yet normalised), `score`, `status` (`ok` or
        `bad`), `runtime_ms` (milliseconds), `frames` (how many frame scores were averaged, 0 for a
        plain score), `source` (the file), `place` (file and line), and how to normalise the key.

    Raises:
        OptionError: If an entry is not valid.
        TableError: If there is no such file; on collecting, if it is not of its format.
        SidecarError: On collecting, if rows lack a scorer, a key or a usable score.
        ScorerNameError: On collecting, if a label and a `competitor` disagree.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "dover.jsonl"
        ...     _ = path.write_text('{"clip_id": "a", "score": 0.7}\\n{"clip_id": "b", "score": "0.4"}')
        ...     scan_scores(f"dover={path}").select("scorer", "key", "score").collect().rows()
        [('dover', 'a', 0.7), ('dover', 'b', 0.4)]
    """
    sources = find_sidecars(list_sidecars(scores), None if base_dir is None else Path(base_dir))

    def read() -> pl.DataFrame:
        return read_scores(sources, score_key_field=score_key_field, score_field=score_field)

    return pl.defer(read, schema=SCORE_SCHEMA)


def list_sidecars(scores: SidecarLike | Iterable[SidecarLike]) -> list[Sidecar]:
    """Reads one entry or several."""
    if isinstance(scores, (str, os.PathLike, Sidecar)):
        return [Sidecar.of(scores)]
    return [Sidecar.of(entry) for entry in scores]


def find_sidecars(entries: Sequence[Sidecar], base_dir: Path | None) -> list[tuple[Sidecar, list[File]]]:
    """The files of each entry, after checking every entry.

    Raises:
        OptionError: If an entry is not valid, or there is none.
        TableError: If there is no such file.
    """
    if not entries:
        raise OptionError("scores: expected at least one sidecar")
    for entry in entries:
        check_sidecar(entry)
    return [(entry, find(entry.path, base_dir, folders=True)) for entry in entries]


def read_scores(
    sidecars: Sequence[tuple[Sidecar, Sequence[File]]],
    *,
    score_key_field: str | None = None,
    score_field: str | None = None,
) -> pl.DataFrame:
    """Reads sidecars now; see `scan_scores`."""
    parts: list[pl.DataFrame] = []
    problems: list[tuple[str, str]] = []
    count = 0

    def read(entry: tuple[Sidecar, Sequence[File]]) -> tuple[pl.DataFrame, pl.DataFrame]:
        given, files = entry
        sidecar = msgspec.structs.replace(
            given,
            key_field=given.key_field or score_key_field,
            score_field=given.score_field or score_field,
        )
        part = _read_entry(sidecar, files)
        return part, unusable_rows(part, sidecar)

    # Threads take turns at Python's lock, and gain nothing where files are small.
    in_turn = all(is_small(file) for _, files in sidecars for file in files)
    for part, wrong in (map if in_turn else in_order)(read, sidecars):
        problems += wrong.head(LISTED).rows()
        count += wrong.height
        parts.append(part)
    if count:
        raise SidecarError(problems, count)
    return pl.concat(parts)


def _read_entry(sidecar: Sidecar, files: Sequence[File]) -> pl.DataFrame:
    """All rows of one entry as `SCORE_SCHEMA`; scorer, key and score may still be null."""
    parts: list[pl.DataFrame] = []
    columns: dict[str, None] = {}
    asked = {
        option: name
        for option in ("key_field", "score_field", "runtime_field", "status_field")
        if (name := getattr(sidecar, option)) is not None and name != FILE_NAME
    }
    key_columns = [sidecar.key_field] if sidecar.key_field else []
    for records in read_records(files, ("rows", "results"), key_columns):
        shape = _Shape.of(records.frame.schema)
        columns.update(dict.fromkeys(records.frame.columns))
        asked = {option: name for option, name in asked.items() if not shape.has(name)}
        parts.append(_extract(records, shape, sidecar))
    if not any(part.height for part in parts):
        raise TableError(sidecar.path, "no rows; expected at least one score")
    for option, name in asked.items():
        raise TableError(
            sidecar.path,
            f"no row has the {option} {name!r}; the rows have {listing(columns)}"
            f"{did_you_mean(name, columns)}",
        )
    long = parts[0] if len(parts) == 1 else pl.concat(parts).sort("row")
    return _named(long.drop("row"), sidecar)


@dataclass(frozen=True)
class _Shape:
    """The fields that a batch of rows has, and those inside its `summary` and its `frames`."""

    schema: pl.Schema
    summaries: list[Field]
    frames: list[Field]

    @classmethod
    def of(cls, schema: pl.Schema) -> _Shape:
        summaries = [f for f in fields.find_fields(schema, ["summary"]) if f.dtype == pl.Struct]
        frames = [f for f in fields.find_fields(schema, ["frames"]) if _is_objects(f.dtype)]
        return cls(schema, summaries, frames)

    def find(self, names: Sequence[str]) -> list[Field]:
        """Fields of the row, then of its summary."""
        rows = fields.find_fields(self.schema, names)
        return rows + [found for summary in self.summaries for found in fields.inside(summary, names)]

    def has(self, name: str) -> bool:
        frames = [found for frame in self.frames for found in fields.inside(frame, [name])]
        return bool(self.find([name]) or frames)


def _is_objects(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List) and dtype.inner == pl.Struct


def _extract(records: Records, shape: _Shape, sidecar: Sidecar) -> pl.DataFrame:
    score = _score(shape, [sidecar.score_field] if sidecar.score_field else SCORE_FIELDS)
    runtime = _runtime(shape, [sidecar.runtime_field] if sidecar.runtime_field else RUNTIME_FIELDS)
    status_names = [sidecar.status_field] if sidecar.status_field else STATUS_FIELDS
    statuses = [fields.stated(field) for field in fields.find_fields(shape.schema, status_names)]
    is_ok = means_ok(fields.first(statuses, pl.String()))
    scorers = [fields.text(field) for field in shape.find(SCORER_FIELDS)]
    key, key_field = _key(shape, sidecar)
    long = records.frame.select(
        records.row,
        fields.first(scorers, pl.String()).alias("scorer"),
        key.alias("key"),
        score.value.alias("score"),
        pl.when(is_ok).then(pl.lit("ok")).otherwise(pl.lit("bad")).alias("status"),
        runtime.alias("runtime_ms"),
        score.frames.alias("frames"),
        records.source,
        records.place,
        key_field.alias("key_field"),
        pl.lit(sidecar.key_normalize, dtype=pl.String).alias("key_normalize"),
        pl.lit(sidecar.key_regex, dtype=pl.String).alias("key_regex"),
    )
    if sidecar.key_field == FILE_NAME:
        name = keys.normalize_key(pl.col("source"), "basename")
        long = long.with_columns(key=name, key_field=pl.lit(FILE_NAME))
    return long


def _score(shape: _Shape, names: Sequence[str]) -> fields.Pooled:
    """The first usable score in the row, its summary, or the mean over its frames."""
    candidates = [fields.scalar_or_pooled(field) for field in shape.find(names)]
    candidates += [fields.pool(fields.per_item(frames, names)) for frames in shape.frames]
    return fields.first_pooled(candidates)


def _runtime(shape: _Shape, names: Sequence[str]) -> pl.Expr:
    """The first run time in the row, its summary, or the sum over the frames that have one."""
    candidates = [fields.scalar_or_sum(field) for field in shape.find(names)]
    candidates += [fields.total(fields.per_item(frames, names)) for frames in shape.frames]
    return fields.first(candidates, pl.Float64())


def _key(shape: _Shape, sidecar: Sidecar) -> tuple[pl.Expr, pl.Expr]:
    """The key's text, and the name of the field that it was found in."""
    if sidecar.key_field == FILE_NAME:
        return pl.lit(None, dtype=pl.String), pl.lit(None, dtype=pl.String)
    names = [sidecar.key_field] if sidecar.key_field else keys.SCORE_KEYS
    texts, spelled = [], []
    for field in shape.find(names):
        try:
            text = keys.key_text(field.expr, field.dtype, name=field.name, table=sidecar.path)
        except KeyColumnError:
            if sidecar.key_field:
                raise
            continue  # an object that happens to be called `name` is no key
        texts.append(text)
        spelled.append(pl.when(text.is_not_null()).then(pl.lit(field.name)))
    return fields.first(texts, pl.String()), fields.first(spelled, pl.String())


def _named(long: pl.DataFrame, sidecar: Sidecar) -> pl.DataFrame:
    """Gives rows the entry's label, after checking that they do not say otherwise.

    Raises:
        ScorerNameError: If a row's own `competitor` has another slug.
    """
    label = sidecar.label
    if label is None:
        return long
    own = long.get_column("scorer")
    for scorer in own.drop_nulls().unique().sort() if own.null_count() < own.len() else ():
        if slug(scorer) != slug(label):
            place = long.filter(pl.col("scorer") == scorer).item(0, "place")
            raise ScorerNameError(
                f"{place}: the competitor is {scorer!r}, but the entry's label is {label!r}; "
                "expected the same name, or no label",
                label=label,
                competitor=scorer,
                place=place,
            )
    return long.with_columns(scorer=pl.lit(label))
