"""Rows of one sidecar entry: by which rules they are read, and the scores that come of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from polars_materialize import fields, keys
from polars_materialize.errors import KeyColumnError
from polars_materialize.formats import (
    ScoreFormat,
    find_format,
    is_own_key,
    list_formats,
    numbers_of,
    recognise,
)
from polars_materialize.scores import FILE_NAME, SCORE_FIELDS, means_ok

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from polars_materialize.fields import Field
    from polars_materialize.formats import Pooling
    from polars_materialize.options import Sidecar
    from polars_materialize.tables import Records

SCORER_FIELDS = ("competitor",)
STATUS_FIELDS = ("status",)
RUNTIME_FIELDS = ("runtime_ms", "runtime_total_ms", "elapsed_ms")


def named_format(entry: Sidecar) -> ScoreFormat:
    """The format that an entry names; for `auto` one that says nothing."""
    return ScoreFormat() if entry.format == "auto" else find_format(entry.format, list_formats().scores)


@dataclass(frozen=True)
class Rules:
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
    def of(cls, entry: Sidecar, score_key_field: str | None, score_field: str | None) -> Rules:
        """The rules of an entry, given the options of its table."""
        form = named_format(entry)
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

    def recognised(self, columns: Iterable[str]) -> Rules:
        """The rules for rows with some columns: where nothing was said, those of a format that they show."""
        form = recognise(columns, list_formats().scores, keys.SCORE_KEYS)
        return self if form is None else self.read_as(form)

    def read_as(self, form: ScoreFormat) -> Rules:
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
        return Rules(self.entry, form, self.asked, key, score, runtime, status, pooling)

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


def clip_by_clip(frames: pl.DataFrame, pooling: Pooling | None) -> pl.DataFrame:
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
class Shape:
    """The fields that a batch of rows has, and those inside its `summary` and its `frames`."""

    schema: pl.Schema
    summaries: list[Field]
    frames: list[Field]

    @classmethod
    def of(cls, schema: pl.Schema) -> Shape:
        """The fields of rows with a schema."""
        summaries = [f for f in fields.find_fields(schema, ["summary"]) if f.dtype == pl.Struct]
        frames = [f for f in fields.find_fields(schema, ["frames"]) if _is_objects(f.dtype)]
        return cls(schema, summaries, frames)

    def find(self, names: Sequence[str]) -> list[Field]:
        """Fields of the row, then of its summary."""
        rows = fields.find_fields(self.schema, names)
        return rows + [found for summary in self.summaries for found in fields.inside(summary, names)]

    def has(self, name: str) -> bool:
        """Whether rows have a field, in whatever place."""
        frames = [found for frame in self.frames for found in fields.inside(frame, [name])]
        return bool(self.find([name]) or frames)


def _is_objects(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List) and dtype.inner == pl.Struct


def extract(records: Records, shape: Shape, rules: Rules) -> pl.DataFrame:
    """Rows as `SCORE_SCHEMA`, with `row`; scorer, key and score may be null."""
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
    # Nor is another key spelt as its rule for keys expects.
    has_own_key = all(is_own_key(name, form.key_field) for name in rules.key)
    said = {
        "key_normalize": sidecar.key_normalize or (form.key_normalize if has_own_key else None),
        "key_regex": sidecar.key_regex or (form.key_regex if has_own_key else None),
        "format": form.name or None,
        "duplicates": sidecar.duplicates or form.duplicates,
    }
    rows = records.frame.lazy().select(
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
        rows = rows.with_columns(key=name, key_field=pl.lit(FILE_NAME))
    # An eager select works out again what columns share; a stream takes twice as long to begin.
    return rows.collect(engine="in-memory")


def _score(shape: Shape, rules: Rules) -> fields.Pooled:
    """The first usable score in the row, its summary, or pooled over its frames."""
    names, pooling = rules.score, rules.pooling
    candidates = [fields.scalar_or_pooled(field, pooling) for field in shape.find(names)]
    candidates += [fields.pool(fields.per_item(frames, names), pooling) for frames in shape.frames]
    if rules.form.logits_field:
        logits = fields.find_fields(shape.schema, [rules.form.logits_field])
        values = [fields.expected(field, rules.form.levels) for field in logits]
        candidates += [fields.Pooled(value, pl.lit(0, dtype=pl.Int64)) for value in values]
    return fields.first_pooled(candidates)


def _spelled_missing(shape: Shape, rules: Rules, score: fields.Pooled) -> pl.Expr:
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


def _runtime(shape: Shape, names: Sequence[str]) -> pl.Expr:
    """The first run time in the row, its summary, or the sum over the frames that have one."""
    candidates = [fields.scalar_or_sum(field) for field in shape.find(names)]
    candidates += [fields.total(fields.per_item(frames, names)) for frames in shape.frames]
    return fields.first(candidates, pl.Float64())


def _key(shape: Shape, rules: Rules) -> tuple[pl.Expr, pl.Expr]:
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
