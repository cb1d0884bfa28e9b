"""Sidecars to one long frame of scores, whatever fields their scorer writes.

A *sidecar* is an output file of a no-reference scorer. This project never runs a scorer; it reads what
one wrote. Everything a row lacks is refused here with its place; which rows of a feature table the
scores belong to is decided in `score_joins`.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

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
from polars_materialize.formats import (
    Duplicates,
    Pooling,
    ScoreFormat,
    check_columns,
    check_named,
    find_format,
    list_formats,
    numbers_of,
    recognise,
)
from polars_materialize.names import spare_names
from polars_materialize.options import Sidecar
from polars_materialize.scores import FILE_NAME, SCORE_FIELDS, SCORE_SCHEMA, means_ok, slug, unusable_rows
from polars_materialize.stores import check_storage_options, local_folder
from polars_materialize.tables import Dialect, File, Records, find, in_order, is_small, read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from polars_materialize.fields import Field
    from polars_materialize.stores import StorageOptions


SidecarLike = str | os.PathLike[str] | Sidecar
SCORER_FIELDS = ("competitor",)
STATUS_FIELDS = ("status",)
DOCUMENTS = ("json", "jsonl", "xml")
"""The formats of files whose rows say each for itself which fields they have."""
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
    check_named(check_score_format, _named_format(sidecar))
    check_columns(sidecar.columns)
    for option, value, known in (
        ("pooling", sidecar.pooling, get_args(Pooling)),
        ("duplicates", sidecar.duplicates, get_args(Duplicates)),
    ):
        if value is not None and value not in known:
            raise OptionError(f"{option}: {value!r}; expected one of {' '.join(known)}", option=option)
    rule = sidecar.key_normalize
    if rule is not None and rule not in keys.KEY_NORMALIZE:
        raise OptionError(
            f"key_normalize: {rule!r}; expected one of {' '.join(keys.KEY_NORMALIZE)}", option="scores"
        )
    if sidecar.key_regex is not None:
        keys.check_regex(sidecar.key_regex, option="key_regex")


def check_score_format(form: ScoreFormat) -> None:
    """Refuses what can be seen to be wrong with a format before any file is read.

    Raises:
        OptionError: If a pattern, the list of columns or the rating words are not valid.
    """
    check_columns(form.columns)
    if form.key_regex is not None:
        keys.check_regex(form.key_regex, option="key_regex")
    if bool(form.logits_field) != bool(form.levels):
        raise OptionError(
            "levels: expected with logits_field what each of its words stands for", option="levels"
        )


def scan_scores(
    scores: SidecarLike | Iterable[SidecarLike],
    *,
    score_key_field: str | None = None,
    score_field: str | None = None,
    base_dir: str | os.PathLike[str] | None = None,
    storage_options: StorageOptions | None = None,
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
        storage_options: See `scan_table`.

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
    options = check_storage_options(storage_options)
    sources = find_sidecars(list_sidecars(scores), local_folder(base_dir), options)

    def read() -> pl.DataFrame:
        return read_scores(sources, score_key_field=score_key_field, score_field=score_field)

    return pl.defer(read, schema=SCORE_SCHEMA)


def list_sidecars(scores: SidecarLike | Iterable[SidecarLike]) -> list[Sidecar]:
    """Reads one entry or several."""
    if isinstance(scores, (str, os.PathLike, Sidecar)):
        return [Sidecar.of(scores)]
    return [Sidecar.of(entry) for entry in scores]


def find_sidecars(
    entries: Sequence[Sidecar], base_dir: Path | None, storage_options: StorageOptions | None = None
) -> list[tuple[Sidecar, list[File]]]:
    """The files of each entry, after checking every entry.

    Raises:
        OptionError: If an entry is not valid, or there is none.
        TableError: If there is no such file.
    """
    if not entries:
        raise OptionError("scores: expected at least one sidecar")
    for entry in entries:
        check_sidecar(entry)
    found = []
    for entry in entries:
        files = find(
            entry.path, base_dir, folders=True, dialect=_dialect(entry), storage_options=storage_options
        )
        found.append((entry, files))
    return found


def _dialect(entry: Sidecar) -> Dialect:
    form = _named_format(entry)
    return Dialect.of(form.text, entry.columns or form.columns)


def _named_format(entry: Sidecar) -> ScoreFormat:
    """The format that an entry names; for `auto` one that says nothing."""
    return ScoreFormat() if entry.format == "auto" else find_format(entry.format, list_formats().scores)


def read_scores(
    sidecars: Sequence[tuple[Sidecar, Sequence[File]]],
    *,
    score_key_field: str | None = None,
    score_field: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> pl.DataFrame:
    """Reads sidecars now; see `scan_scores`.

    Args:
        sidecars: Entries, and the files of each.
        score_key_field: See `scan_scores`.
        score_field: See `scan_scores`.
        progress: Told how many files were read, of how many.
    """
    parts: list[pl.DataFrame] = []
    problems: list[tuple[str, str]] = []
    count = 0

    total, begun = sum(len(files) for _, files in sidecars), itertools.count()

    def tick(file: File) -> File:
        if progress is not None:
            progress(next(begun), total, "files")
        return file

    def read(entry: tuple[Sidecar, Sequence[File]]) -> tuple[pl.DataFrame, pl.DataFrame]:
        sidecar, files = entry
        rules = _Rules.of(sidecar, score_key_field, score_field)
        part = _read_entry(rules, files, tick)
        return part, _unusable(part, rules)

    # Threads take turns at Python's lock, and gain nothing where files are small.
    in_turn = all(is_small(file) for _, files in sidecars for file in files)
    for part, wrong in (map if in_turn else in_order)(read, sidecars):
        problems += wrong.head(LISTED).rows()
        count += wrong.height
        parts.append(part)
    if count:
        raise SidecarError(problems, count)
    return pl.concat(parts)


def _unusable(part: pl.DataFrame, rules: _Rules) -> pl.DataFrame:
    """What makes rows of an entry unusable, in words of the format that each was read as."""
    names = part.get_column("format").unique().sort().to_list()
    if names == [rules.form.name or None]:
        return unusable_rows(part, *rules.described())
    known = list_formats().scores
    return pl.concat(
        unusable_rows(
            part.filter(pl.col("format").eq_missing(name)),
            *(rules if name is None else rules.read_as(known[name])).described(),
        )
        for name in names
    )


@dataclass(frozen=True)
class _Rules:
    """How the rows of one entry are read: what it says, then its format, then the table's options.

    Attributes:
        entry: The entry.
        form: Its format; one that says nothing, if it names none.
        asked: The fields that were named, by option; each must be there.
        key: The names of fields that may hold the key.
        score: The names of fields that may hold the score.
        runtime: The names of fields that may hold the run time.
        status: The names of fields that may hold the status.
        pooling: How scores of frames become one, if that was said.
    """

    entry: Sidecar
    form: ScoreFormat
    asked: Mapping[str, str]
    key: Sequence[str]
    score: Sequence[str]
    runtime: Sequence[str]
    status: Sequence[str]
    pooling: Pooling | None

    @classmethod
    def of(cls, entry: Sidecar, score_key_field: str | None, score_field: str | None) -> _Rules:
        form = _named_format(entry)
        scores = [entry.score_field] if entry.score_field else form.score_field
        scores = scores or ([score_field] if score_field else [])
        key = [entry.key_field] if entry.key_field else form.key_field
        key = key or ([score_key_field] if score_key_field else [])
        named = {
            "key_field": key[0] if len(key) == 1 else None,
            "score_field": scores[0] if len(scores) == 1 and not form.levels else None,
            "runtime_field": entry.runtime_field or form.runtime_field,
            "status_field": entry.status_field or form.status_field,
        }
        asked = {option: name for option, name in named.items() if name and name != FILE_NAME}
        runtime, status = named["runtime_field"], named["status_field"]
        return cls(
            entry,
            form,
            asked,
            key=key or keys.SCORE_KEYS,
            score=scores or SCORE_FIELDS,
            runtime=[runtime] if runtime else RUNTIME_FIELDS,
            status=[status] if status else STATUS_FIELDS,
            pooling=entry.pooling or form.pooling,
        )

    def candidates(self, columns: Iterable[str]) -> list[ScoreFormat]:
        """The formats that some of the rows with some columns may be in, where nothing was said."""
        if self.entry.format != "auto" or self.entry.columns:
            return []
        present = set(columns)
        known = list_formats().scores.values()
        return [form for form in known if any(present.issuperset(marks) for marks in form.marks)]

    def recognised(self, columns: Iterable[str]) -> _Rules:
        """The rules for rows with some columns: where nothing was said, those of a format that they show."""
        form = recognise(columns, list_formats().scores, keys.SCORE_KEYS)
        return self if form is None else self.read_as(form)

    def read_as(self, form: ScoreFormat) -> _Rules:
        """The rules for rows of a format, where nothing was said.

        What the generic rule would take beside its fields may be what people said of the clip (`mos`, say).
        """
        key, score, runtime, status = self.key, self.score, self.runtime, self.status
        if key is keys.SCORE_KEYS and form.key_field:
            key = form.key_field
        if score is SCORE_FIELDS:
            score = form.score_field
        if runtime is RUNTIME_FIELDS and form.runtime_field:
            runtime = [form.runtime_field, *runtime]
        if status is STATUS_FIELDS and form.status_field:
            status = [form.status_field, *status]
        pooling = self.pooling or form.pooling
        return _Rules(self.entry, form, self.asked, key, score, runtime, status, pooling)

    @property
    def by_file(self) -> bool:
        """Whether the sidecar's own file name is the key."""
        return list(self.key) == [FILE_NAME]

    def described(self) -> tuple[str, str]:
        """What the key and the score are looked for in, in words."""
        key = repr(self.key[0]) if len(self.key) == 1 else f"any of {' '.join(self.key)}"
        score = repr(self.score[0]) if len(self.score) == 1 else f"any of {' '.join(self.score)}"
        if "key_field" not in self.asked and not self.form.key_field:
            key += " (name it with key_field, or say the format)"
        if "score_field" not in self.asked and not self.form.score_field:
            score += " (name it with score_field, or say the format)"
        pooled = f" (pooling {self.pooling!r} needs a list of frame scores)" if self.pooling else ""
        return key, score + pooled


def _read_entry(rules: _Rules, files: Sequence[File], tick: Callable[[File], File]) -> pl.DataFrame:
    """All rows of one entry as `SCORE_SCHEMA`; scorer, key and score may still be null."""
    sidecar = rules.entry
    parts: list[pl.DataFrame] = []
    columns: dict[str, None] = {}
    asked = dict(rules.asked)
    known = (name for form in list_formats().scores.values() for name in form.key_field)
    key_columns = list(known) if rules.key is keys.SCORE_KEYS else rules.key
    tables = {file.written for file in files if file.format not in DOCUMENTS}
    frames: dict[Pooling | None, list[pl.DataFrame]] = {}
    for found in read_records(map(tick, files), ("rows", "results"), key_columns):
        whole = found.source.len() == 0 or found.source.item(0) in tables
        for own, records in _recognised(found, rules, whole=whole):
            shape = _Shape.of(records.frame.schema)
            columns.update(dict.fromkeys(records.frame.columns))
            asked = {option: name for option, name in asked.items() if not shape.has(name)}
            if own.form.rows == "frames":
                # A clip may go on in the next batch, so its frames are pooled when all are there.
                rows = _extract(records, shape, replace(own, pooling=None))
                frames.setdefault(own.pooling, []).append(rows)
            else:
                parts.append(_extract(records, shape, own))
    parts += [_clip_by_clip(pl.concat(rows), pooling) for pooling, rows in frames.items()]
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


def _recognised(found: Records, rules: _Rules, *, whole: bool) -> Iterator[tuple[_Rules, Records]]:
    """Rows with the rules that they are read by: of a table one format, of documents each row its own."""
    names = [name.strip() for name in found.frame.columns]
    known = rules.candidates(names) if len(set(names)) == len(names) else []
    if not known:
        yield rules, found
    elif whole:
        is_over = "" in names and found.frame.get_column(found.frame.columns[names.index("")]).count() > 0
        # What stands beyond the last name says that cells are not where they seem to be.
        own = rules.recognised(name for name in names if name or not is_over)
        yield own, found if own is rules else found._replace(frame=found.frame.rename(str.strip))
    else:
        frame, number = found.frame, spare_names(found.frame.columns, 1)[0]
        telling = {*keys.SCORE_KEYS, *(name for form in known for marks in form.marks for name in marks)}
        names = [name for name in frame.columns if name in telling or name.lower() in telling]
        shown = frame.select(pl.col(names).is_not_null()).with_row_index(number)
        for *has, rows in shown.group_by(names, maintain_order=True).agg(number).iter_rows():
            own = rules.recognised(name for name, is_there in zip(names, has, strict=True) if is_there)
            if len(rows) == frame.height:
                yield own, found
            else:
                yield own, Records(frame[rows], *(series.gather(rows) for series in found[1:]))


def _clip_by_clip(frames: pl.DataFrame, pooling: Pooling | None) -> pl.DataFrame:
    """One row a clip, of rows that are a frame each."""
    pooled = fields.pool(pl.col("score"), pooling)
    first_without = pl.col("place").filter(pl.col("score").is_null()).first()
    clips = (
        frames.sort("row")
        .group_by("source", "scorer", "key", maintain_order=True)
        .agg(
            pl.col("score"),
            pl.when((pl.col("status") == "bad").any())
            .then(pl.lit("bad"))
            .otherwise(pl.lit("ok"))
            .alias("status"),
            pl.when(pl.col("runtime_ms").count() > 0).then(pl.col("runtime_ms").sum()),
            pl.coalesce(first_without, pl.col("place").first()),
            pl.exclude("source", "scorer", "key", "score", "status", "runtime_ms", "place").first(),
        )
        .with_columns(pooled.value.alias("score"), pooled.frames.alias("frames"))
    )
    return clips.select(frames.columns)


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


def _extract(records: Records, shape: _Shape, rules: _Rules) -> pl.DataFrame:
    score = _score(shape, rules)
    runtime = _runtime(shape, rules.runtime)
    statuses = [fields.stated(field) for field in fields.find_fields(shape.schema, rules.status)]
    is_missing = _spelled_missing(shape, rules, score)
    is_ok = means_ok(fields.first(statuses, pl.String())) & ~is_missing
    scorers = [fields.text(field) for field in shape.find(SCORER_FIELDS)]
    key, key_field = _key(shape, rules)
    sidecar, form = rules.entry, rules.form
    # Another score of a format is not what its label says.
    is_own = "score_field" not in rules.asked or rules.asked["score_field"] in form.score_field
    assumed = form.label if sidecar.label is None and is_own else None
    said = {
        "key_normalize": sidecar.key_normalize or form.key_normalize,
        "key_regex": sidecar.key_regex or form.key_regex,
        "format": form.name or None,
        "duplicates": sidecar.duplicates or form.duplicates,
    }
    long = records.frame.select(
        records.row,
        fields.first([*scorers, pl.lit(assumed, dtype=pl.String)], pl.String()).alias("scorer"),
        key.alias("key"),
        pl.when(~is_missing).then(score.value).alias("score"),
        pl.when(is_ok).then(pl.lit("ok")).otherwise(pl.lit("bad")).alias("status"),
        runtime.alias("runtime_ms"),
        score.frames.alias("frames"),
        records.source,
        records.place,
        key_field.alias("key_field"),
        *(pl.lit(text, dtype=pl.String).alias(name) for name, text in said.items()),
    )
    if rules.by_file:
        name = keys.normalize_key(pl.col("source"), "basename")
        long = long.with_columns(key=name, key_field=pl.lit(FILE_NAME))
    return long


def _score(shape: _Shape, rules: _Rules) -> fields.Pooled:
    """The first usable score in the row, its summary, or pooled over its frames."""
    names, pooling = rules.score, rules.pooling
    candidates = [fields.scalar_or_pooled(field, pooling) for field in shape.find(names)]
    candidates += [fields.pool(fields.per_item(frames, names), pooling) for frames in shape.frames]
    if rules.form.logits_field:
        logits = fields.find_fields(shape.schema, [rules.form.logits_field])
        values = [fields.expected(field, rules.form.levels) for field in logits]
        candidates += [fields.Pooled(value, pl.lit(0, dtype=pl.Int64)) for value in values]
    return fields.first_pooled(candidates)


def _spelled_missing(shape: _Shape, rules: _Rules, score: fields.Pooled) -> pl.Expr:
    """Whether a row says, as its format spells it, that there is no score."""
    if not rules.form.missing:
        return pl.lit(value=False)
    texts = [fields.text(field) for field in shape.find(rules.score)]
    said = fields.first(texts, pl.String()).str.to_lowercase()
    words = [word.lower() for word in rules.form.missing]
    stands_for_it = said.is_in([word for word in words if word]).fill_null(value=False)
    stands_for_it |= ((score.frames == 0) & score.value.is_in(numbers_of(words))).fill_null(value=False)
    # Nothing at all says so only where no frame says otherwise.
    return stands_for_it | (pl.lit("" in words) & said.is_null() & score.value.is_null())


def _runtime(shape: _Shape, names: Sequence[str]) -> pl.Expr:
    """The first run time in the row, its summary, or the sum over the frames that have one."""
    candidates = [fields.scalar_or_sum(field) for field in shape.find(names)]
    candidates += [fields.total(fields.per_item(frames, names)) for frames in shape.frames]
    return fields.first(candidates, pl.Float64())


def _key(shape: _Shape, rules: _Rules) -> tuple[pl.Expr, pl.Expr]:
    """The key's text, and the name of the field that it was found in."""
    if rules.by_file:
        return pl.lit(None, dtype=pl.String), pl.lit(None, dtype=pl.String)
    texts, spelled = [], []
    for field in shape.find(rules.key):
        try:
            text = keys.key_text(field.expr, field.dtype, name=field.name, table=rules.entry.path)
        except KeyColumnError:
            if "key_field" in rules.asked:
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
