"""Rows of one sidecar entry: by which rules they are read, and the scores that come of them.

Which field holds a part of a row (its key, its score, ...) is decided once a file: the first of the known
names that the file has. A row that has nothing usable there has no such part; no other field steps in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import polars as pl

from polars_materialize import fields, keys
from polars_materialize.errors import KeyColumnError
from polars_materialize.formats import (
    ScoreFormat,
    find_format,
    is_own_key,
    list_formats,
    nearest,
    numbers_of,
    recognise,
)
from polars_materialize.scores import FILE_NAME, SCORE_FIELDS, means_ok, slug, slug_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from polars_materialize.fields import Field
    from polars_materialize.formats import Pooling
    from polars_materialize.options import Sidecar
    from polars_materialize.tables import Records

SCORER_FIELDS = ("competitor",)
STATUS_FIELDS = ("status",)
RUNTIME_FIELDS = ("runtime_ms", "runtime_total_ms", "elapsed_ms")
FRAME_NUMBERS = frozenset(
    (
        "frame",
        "frame_idx",
        "frame_index",
        "frame_id",
        "frame_num",
        "frame_number",
        "framenum",
        "frame_no",
        "n",
    )
)
"""Fields that tell the frames of a clip apart."""


Place = Literal["row", "summary", "frames", "logits"]


class Looked(NamedTuple):
    """Where the key and the score of rows were looked for, in words, and hints."""

    key: str
    score: str
    name_key: str = ""
    name_score: str = ""
    nearly: str | None = None


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
        layout: Which of the layouts of the format the files have; none if they show none.
    """

    entry: Sidecar
    form: ScoreFormat
    asked: Mapping[str, str]
    key: Sequence[str]
    score: Sequence[str]
    runtime: Sequence[str]
    status: Sequence[str]
    pooling: Pooling | None
    layout: int | None = None

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

    @property
    def names_blanks(self) -> bool:
        """Whether a field was named with blanks around it, as no trimmed name is."""
        return any(name != name.strip() for name in self.asked.values())

    def formats(self, columns: Iterable[str]) -> list[ScoreFormat]:
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
    def pooling_of_lists(self) -> Pooling | None:
        """How a list in a row is pooled; rows that are frames are pooled when all of a clip are there."""
        return None if self.form.rows == "frames" else self.pooling

    @property
    def named(self) -> set[str]:
        """The options that name fields, in the entry or for the table."""
        return set() if self.form.name else set(self.asked)

    @property
    def by_file(self) -> bool:
        """Whether the sidecar's own file name is the key."""
        return list(self.key) == [FILE_NAME]

    def described(self, columns: Iterable[str] = ()) -> Looked:
        """What the key and the score are looked for in, in words.

        Args:
            columns: The columns that rows have which are of no known format.
        """
        key = repr(self.key[0]) if len(self.key) == 1 else f"any of {' '.join(self.key)}"
        score = repr(self.score[0]) if len(self.score) == 1 else f"any of {' '.join(self.score)}"
        name_key = name_score = ""
        if "key_field" not in self.asked and not self.form.key_field:
            name_key = " (name it with key_field, or say the format)"
        if "score_field" not in self.asked and not self.form.score_field:
            name_score = " (name it with score_field, or say the format)"
        pooled = f" (pooling {self.pooling!r} needs a list of frame scores)" if self.pooling else ""
        near = nearest(columns, list_formats().scores)
        nearly = f"it has all fields of the format {near[0]!r} but {near[1]!r}" if near is not None else None
        return Looked(key, score, name_key, name_score + pooled, nearly)


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
        """Find the fields of rows with a schema."""
        summaries = [f for f in fields.find_fields(schema, ["summary"]) if f.dtype == pl.Struct]
        frames = [f for f in fields.find_fields(schema, ["frames"]) if _is_objects(f.dtype)]
        return cls(schema, summaries, frames)

    def places(self, name: str) -> Iterator[tuple[Place, Field, str]]:
        """Find the fields of a name in each place, and how each is spelled; of frames the list of them."""
        for found in fields.find_fields(self.schema, [name]):
            yield "row", found, found.name
        for summary in self.summaries:
            for found in fields.inside(summary, [name]):
                yield "summary", found, found.name
        for frames in self.frames:
            for found in fields.inside(frames, [name]):
                yield "frames", frames, found.name

    @property
    def has_frame_numbers(self) -> bool:
        """Whether rows say which frame of a clip they are."""
        return not FRAME_NUMBERS.isdisjoint(name.strip().lower() for name in self.schema)

    def has(self, name: str) -> bool:
        """Whether rows have a field, in whatever place."""
        return any(True for _ in self.places(name))

    def names(self) -> Iterator[str]:
        """List the names of all fields of the row, its summary and its frames."""
        yield from self.schema
        for outer in (*self.summaries, *self.frames):
            yield from fields.members(outer)


def _is_objects(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List) and dtype.inner == pl.Struct


PARTS = ("scorer", "key", "score", "status", "runtime_ms")
"""The parts of a row of which each file has one field."""
PLACES: tuple[Place, ...] = ("row", "summary", "frames", "logits")
"""Where a part is looked for, in this order."""
SPELLINGS = 1_000
STEP = 1_000_000
NOWHERE = len(PLACES) * STEP
"""The rank of a part that a file does not have."""


@dataclass(frozen=True)
class Candidate:
    """A field that may hold a part of a row.

    Attributes:
        place: Where it stands.
        name: The name that was looked for.
        index: Which of the known names that is.
        field: The field; of frames, the list whose items have it.
        spelled: Its path, as the file spells it. Fields of one name in several spellings are so many
            candidates.
    """

    place: Place
    name: str
    index: int
    field: Field
    spelled: str

    @property
    def rank(self) -> int:
        """Its place among the candidates of its part, whatever its spelling: one for all of an entry."""
        return PLACES.index(self.place) * STEP + self.index * SPELLINGS

    @property
    def is_exact(self) -> bool:
        """Whether it is spelled as it was looked for, which goes before another spelling."""
        outer = f"{self.place}." if self.place in ("summary", "frames") else ""
        return self.spelled == f"{outer}{self.name}"


Candidates = dict[str, list[Candidate]]
"""For each part the fields that may hold it, best first."""


def find_candidates(shape: Shape, rules: Rules) -> Candidates:
    """Find the fields that may hold each part of rows."""

    def find(names: Sequence[str], places: Sequence[Place], test: Callable[[Field], bool]) -> list[Candidate]:
        known = [
            Candidate(place, name, index, found, spelled)
            for index, name in enumerate(names)
            for place, found, spelled in shape.places(name)
            if place in places and (place == "frames" or test(found))
        ]
        return sorted(known, key=lambda one: (one.rank, not one.is_exact))

    pooling = rules.pooling_of_lists
    scores = find(rules.score, PLACES, lambda field: pooling is None or field.dtype == pl.List)
    if name := rules.form.logits_field:
        logits = fields.find_fields(shape.schema, [name])
        scores += [Candidate("logits", name, 0, found, found.name) for found in logits]

    def may_be_key(field: Field) -> bool:
        """Whether it is a field; an object that happens to be called `name` holds fields, and is none."""
        return "key_field" in rules.asked or field.dtype != pl.Struct

    return {
        "scorer": find(SCORER_FIELDS, PLACES[:2], lambda _: True),
        "key": [] if rules.by_file else find(rules.key, PLACES[:2], may_be_key),
        "score": scores,
        "status": find(rules.status, PLACES[:1], lambda _: True),
        "runtime_ms": find(rules.runtime, PLACES, lambda _: True),
    }


def opinion(names: Iterable[str], rules: Rules) -> str | None:
    """Find a name that says that `mos` beside it is what people said, where no score was named."""
    if rules.score is not SCORE_FIELDS:
        return None
    return min((name for name in names if name.lower().startswith(("pred", "gt"))), default=None)


@dataclass(frozen=True)
class Extracted:
    """Rows of files that have the same fields.

    Attributes:
        frame: The rows as `SCORE_SCHEMA`, with `row`; scorer, key and score may be null.
        rules: What they were read by.
        chosen: The field of each part, if there is one.
        beside: A field that makes `mos` no score, if there is one.
        assumed: The scorer of rows that do not say.
    """

    frame: pl.DataFrame
    rules: Rules
    chosen: Mapping[str, Candidate]
    beside: str | None
    assumed: str | None


def extract(
    records: Records, shape: Shape, rules: Rules, candidates: Candidates, beside: str | None
) -> Extracted:
    """Read rows of files that have the same fields.

    Args:
        records: The rows.
        shape: All fields that they have.
        rules: How to read them.
        candidates: The fields that may hold each part, best first.
        beside: A field that makes `mos` no score, if their files have one.
    """
    chosen = {part: found[0] for part, found in candidates.items() if found}
    score = _score(chosen.get("score"), rules)
    # What says that a row failed says so under each name, each in one spelling.
    states: dict[int, Field] = {}
    for one in candidates.get("status", ()):
        states.setdefault(one.index, one.field)
    is_missing = _spelled_missing(chosen.get("score"), rules, score)
    is_ok = means_ok(fields.first(list(map(fields.stated, states.values())), pl.String())) & ~is_missing
    scorers = [fields.text(chosen["scorer"].field)] if "scorer" in chosen else []
    key, key_field = _key(chosen.get("key"), records)
    sidecar, form = rules.entry, rules.form
    # Another score of a format is not what its label says.
    is_own = "score_field" not in rules.asked or rules.asked["score_field"] in form.score_field
    assumed = form.label if sidecar.label is None and is_own else None
    # Nor is another key spelt as its rule for keys expects.
    has_own_key = all(is_own_key(name, form.key_field) for name in rules.key)
    read = {part: candidate.spelled for part, candidate in chosen.items()}
    said = {
        "key_normalize": sidecar.key_normalize or (form.key_normalize if has_own_key else None),
        "key_regex": sidecar.key_regex or (form.key_regex if has_own_key else None),
        "format": form.name or None,
        # What says nothing may be told of reruns, but not where a key stands in many rows of a file anyway.
        "duplicates": sidecar.duplicates
        or form.duplicates
        or ("refuse" if rules.by_file or shape.has_frame_numbers else None),
        "fields": written(read, rules),
    }
    rows = records.frame.lazy().select(
        records.row,
        fields.first([*scorers, _assumed(shape, assumed, form)], pl.String()).alias("scorer"),
        key.alias("key"),
        pl.when(~is_missing).then(score.value).alias("score"),
        pl.when(is_ok).then(pl.lit("ok")).otherwise(pl.lit("bad")).alias("status"),
        _runtime(chosen.get("runtime_ms")).alias("runtime_ms"),
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
    return Extracted(rows.collect(engine="in-memory"), rules, chosen, beside, assumed)


def written(read: Mapping[str, str], rules: Rules) -> str:
    """Name the fields that were read, as JSON; the same text for the same fields."""
    key = {"key": FILE_NAME} if rules.by_file else {}
    return msgspec.json.encode({**read, **key}, order="sorted").decode()


def _assumed(shape: Shape, label: str | None, form: ScoreFormat) -> pl.Expr:
    """The scorer of rows that do not say: their format's, unless its own field names another."""
    assumed = pl.lit(label, dtype=pl.String)
    if label is None or form.label_field is None:
        return assumed
    texts = [fields.text(field) for field in fields.find_fields(shape.schema, [form.label_field])]
    own = fields.first(texts[:1], pl.String())
    return pl.when(own.is_null() | (slug_of(own) == slug(label))).then(assumed).otherwise(own)


def _score(chosen: Candidate | None, rules: Rules) -> fields.Pooled:
    """The score in the field that was chosen."""
    if chosen is None:
        return fields.Pooled(pl.lit(None, dtype=pl.Float64), pl.lit(0, dtype=pl.Int64))
    pooling = rules.pooling_of_lists
    if chosen.place == "logits":
        return fields.Pooled(fields.expected(chosen.field, rules.form.levels), pl.lit(0, dtype=pl.Int64))
    if chosen.place == "frames":
        found = fields.pool(fields.per_item(chosen.field, chosen.spelled), pooling)
    else:
        found = fields.scalar_or_pooled(chosen.field, pooling)
    return found._replace(frames=pl.when(found.value.is_not_null()).then(found.frames).otherwise(0))


def _spelled_missing(chosen: Candidate | None, rules: Rules, score: fields.Pooled) -> pl.Expr:
    """Whether a row says, as its format spells it, that there is no score."""
    if not rules.form.missing or chosen is None:
        return pl.lit(value=False)
    plain = [fields.text(chosen.field)] if chosen.place in PLACES[:2] else []
    said = fields.first(plain, pl.String()).str.to_lowercase()
    words = [word.lower() for word in rules.form.missing]
    stands_for_it = said.is_in([word for word in words if word]).fill_null(value=False)
    stands_for_it |= ((score.frames == 0) & score.value.is_in(numbers_of(words))).fill_null(value=False)
    # Nothing at all says so only where no frame says otherwise.
    return stands_for_it | (pl.lit("" in words) & said.is_null() & score.value.is_null())


def _runtime(chosen: Candidate | None) -> pl.Expr:
    """The run time in the field that was chosen; of frames, the sum of those that have one."""
    if chosen is None:
        return pl.lit(None, dtype=pl.Float64)
    if chosen.place == "frames":
        return fields.total(fields.per_item(chosen.field, chosen.spelled))
    return fields.scalar_or_sum(chosen.field)


def _key(chosen: Candidate | None, records: Records) -> tuple[pl.Expr, pl.Expr]:
    """The key's text, and the name of the field that it was found in.

    Raises:
        KeyColumnError: If the field's dtype cannot name a clip; names the first row that has it.
    """
    if chosen is None:
        return pl.lit(None, dtype=pl.String), pl.lit(None, dtype=pl.String)
    field = chosen.field
    try:
        text = keys.key_text(field.expr, field.dtype, name=field.name, table="")
    except KeyColumnError:
        has = records.frame.select(field.expr.is_not_null()).to_series()
        place = records.place.filter(has if has.any() else has.is_null() | True)
        keys.key_text(field.expr, field.dtype, name=field.name, table=place.item(0))
        raise
    return text, pl.when(text.is_not_null()).then(pl.lit(field.name))
