"""Files of one sidecar entry: in which format each is, and which of its fields hold what.

Both are decided once a file; for files of one row each once for all of them, since the file of a clip that
failed may lack what the others have.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from polars_materialize import keys
from polars_materialize.errors import ScorerNameError, TableError, counted
from polars_materialize.formats import list_formats
from polars_materialize.scores import slug_of
from polars_materialize.sidecar_rows import (
    NOWHERE,
    PARTS,
    SPELLINGS,
    STEP,
    Candidates,
    Extracted,
    Rules,
    Shape,
    extract,
    find_candidates,
    opinion,
    written,
)
from polars_materialize.tables import Records, shapes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from polars_materialize.formats import ScoreFormat
    from polars_materialize.sidecar_rows import Candidate
    from polars_materialize.tables import Whole

ALONE = ""
"""What stands for all files of one row, where a file is named."""
_outer = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Layouts:
    """The formats of an entry's files, found as they are read.

    Attributes:
        formats: The formats of files of one row.
        others: What files of one row have that are of no format.
    """

    def __init__(self, rules: Rules, assumed: ScoreFormat | None = None) -> None:
        """Take the rules of the entry, and the format of files of one row that show none."""
        self.rules = rules
        self.assumed = assumed
        self.formats: dict[str, ScoreFormat] = {}
        self.others: set[tuple[str, ...]] = set()
        self._known: dict[tuple[str, ...], Rules] = {}
        self._rules: dict[tuple[str, int | None], Rules] = {}
        self._files: dict[str, Rules] = {}
        self._whole: Whole | None = None
        self._only: Rules | None = None
        self._names: dict[int, set[str]] = {}

    def missed(self) -> ScoreFormat | None:
        """The format that all other files of one row are in, if one that shows none may be of it too."""
        if self.assumed is not None or len(self.formats) != 1:
            return None  # with several, nothing tells which
        (form,) = self.formats.values()
        return form if any(self._may_be(form, names) for names in self.others) else None

    def parts(self, found: Records) -> Iterator[tuple[Rules, Records]]:
        """Part rows by the format of their file."""
        whole = found.whole
        if whole is None:
            yield self._table(found)
            return
        if whole.source.is_empty():
            yield self.rules, found
            return
        if whole.chunk.places is None:  # a large file, of which this may not be the first piece
            source = whole.source.item(0)
            if source not in self._files:
                self._files[source] = self._recognised(tuple(whole.names))
            yield self._files[source], found
            return
        if not self.rules.formats(whole.names) and len(self.rules.form.marks) < 2 and self.assumed is None:
            yield self.rules, found
            return
        if whole is not self._whole:
            self._read(whole)
        if self._only is not None:
            yield self._only, found
            return
        by_rules: dict[int, tuple[Rules, list[int]]] = {}
        for row, source in enumerate(found.source):
            own = self._files[source]
            by_rules.setdefault(id(own), (own, []))[1].append(row)
        for own, rows in by_rules.values():
            some = take(found, rows)
            columns = [name for name in some.frame.columns if name in self._names[id(own)]]
            yield own, some._replace(frame=some.frame.select(columns))

    def _table(self, found: Records) -> tuple[Rules, Records]:
        """The rows of a table: blanks around the names of its columns are no part of them."""
        names = [name.strip() for name in found.frame.columns]
        if len(set(names)) < len(names) or self.rules.names_blanks:
            return self.rules, found
        is_over = "" in names and found.frame.get_column(found.frame.columns[names.index("")]).count() > 0
        # What stands beyond the last name says that cells are not where they seem to be.
        own = self._recognised(tuple(name for name in names if name or not is_over))
        return own, found._replace(frame=found.frame.rename(str.strip))

    def _read(self, whole: Whole) -> None:
        """Find the format of each file of which lines were read together."""
        several = repeated(whole.source)
        self._names = {}
        names: dict[str, tuple[str, ...]] = {}
        for source, (_, line) in zip(whole.source, whole.chunk.lines(), strict=True):
            own = names_of(line)
            names[source] = tuple(dict.fromkeys((*names[source], *own))) if source in names else own
        for source, own in names.items():
            rules = self._recognised(own)
            if source not in several:
                if rules.form is not self.rules.form:
                    self.formats[rules.form.name] = rules.form
                elif self.assumed is not None and self._may_be(self.assumed, own):
                    rules = self._read_as(self.rules.read_as(self.assumed))
                else:
                    self.others.add(own)
            self._files[source] = rules
            self._names.setdefault(id(rules), set()).update(own)
        self._whole, self._only = whole, rules if len(self._names) == 1 else None

    def _recognised(self, names: tuple[str, ...]) -> Rules:
        if names not in self._known:
            own = self.rules.recognised(names) if self.rules.formats(names) else self.rules
            self._known[names] = self._read_as(own, layout_of(own.form, names))
        return self._known[names]

    def _read_as(self, rules: Rules, layout: int | None = None) -> Rules:
        """The one object for all files of a format and a layout."""
        if layout is None and rules.form is self.rules.form:
            return self.rules
        return self._rules.setdefault((rules.form.name, layout), replace(rules, layout=layout))

    def _may_be(self, form: ScoreFormat, names: Iterable[str]) -> bool:
        """Whether a file of one row, which lacks something of a format, can still be of it."""
        present = set(names)
        lower = {name.lower() for name in present}
        marks = {name for some in form.marks for name in some}
        other_key = {name for name in present if name.lower() in keys.SCORE_KEYS} - marks
        says_otherwise = "competitor" in lower and self.rules.entry.label is None
        has_key = (
            bool(marks & present)
            if self.rules.read_as(form).by_file
            else any(name.lower() in lower for name in form.key_field)
        )
        return has_key and not other_key and not says_otherwise and not present.intersection(form.never)


def layout_of(form: ScoreFormat, names: Iterable[str]) -> int | None:
    """Which of the layouts of a format has these names."""
    present = set(names)
    found = [(len(marks), index) for index, marks in enumerate(form.marks) if present.issuperset(marks)]
    return max(found)[1] if found else None


def names_of(line: bytes) -> tuple[str, ...]:
    """The names that one JSON object has."""
    try:
        return tuple(_outer.decode(line))
    except msgspec.MsgspecError:  # Python's own decoder takes the NaN that Python's own encoder writes
        return tuple(json.loads(line))


def repeated(source: pl.Series) -> frozenset[str]:
    """The files of which there is more than one row; rows of one file follow one another."""
    return frozenset(source.filter(source == source.shift(1)).unique())


def take(records: Records, rows: list[int]) -> Records:
    """Some of the rows."""
    frame, source, place, row = records[:4]
    return records._replace(
        frame=frame[rows], source=source.gather(rows), place=place.gather(rows), row=row.gather(rows)
    )


def extract_files(records: Records, shape: Shape, rules: Rules) -> Iterator[Extracted]:
    """Read rows, each by the fields that its file has; files that were read together may have others."""
    found, doubt = find_candidates(shape, rules), opinion(shape.names(), rules)
    whole = records.whole
    several = repeated(whole.source) if whole is not None and whole.chunk.places is not None else frozenset()
    if whole is None or not several:
        yield extract(records, shape, rules, found, doubt)
        return
    files = pl.Series([source if source in several else ALONE for source in records.source])
    doubtful = set(files.unique()) if doubt is not None else _doubtful(records, files, found)
    lines = _lines_of(whole, several, doubtful)
    best = {part: candidates[:1] for part, candidates in found.items()}
    # One name of a status does not stand for another.
    best["status"] = found["status"]
    groups: dict[object, tuple[list[int], Candidates, str | None]] = {}
    of_file = {}
    for row, file in enumerate(files):
        if file not in of_file:
            own, said = _of_file(lines[file], rules, found) if file in doubtful else (best, None)
            ranks = tuple(tuple((one.rank, one.spelled) for one in own[part]) for part in PARTS)
            of_file[file] = groups.setdefault((ranks, said), ([], own, said))
        of_file[file][0].append(row)
    for rows, own, said in groups.values():
        yield extract(take(records, rows), shape, rules, own, said)


def _doubtful(records: Records, files: pl.Series, found: Candidates) -> set[str]:
    """The files that may not have the best of the fields that files read together have: it is null there."""
    firsts = [candidates[0] for candidates in found.values() if candidates]
    has = [first.field.expr.is_not_null().any() for first in firsts]
    shown = (
        records.frame.lazy()
        .group_by(files.alias("0"))
        .agg(pl.all_horizontal(pl.lit(value=True), *has).alias("1"))
    )
    return set(shown.filter(~pl.col("1")).collect(engine="in-memory").get_column("0"))


def _lines_of(whole: Whole, several: frozenset[str], files: set[str]) -> dict[str, list[bytes]]:
    """The lines of some files."""
    lines: dict[str, list[bytes]] = {}
    for source, (_, line) in zip(whole.source, whole.chunk.lines(), strict=True) if files else ():
        file = source if source in several else ALONE
        if file in files:
            lines.setdefault(file, []).append(line)
    return lines


def _of_file(lines: Sequence[bytes], rules: Rules, found: Candidates) -> tuple[Candidates, str | None]:
    """Those of the fields that a file has, and what makes its `mos` no score."""
    names = {name for line in lines for name in names_of(line)}
    lower = {name.lower() for name in names}
    if lower.isdisjoint(("summary", "frames")) and not any(
        "." in one.name for some in found.values() for one in some
    ):
        own = {part: [one for one in found[part] if one.spelled in names] for part in PARTS}
        return own, opinion(names, rules)
    # What is deeper in them shows only when all of a line is read.
    has: dict[str, set[tuple[int, str]]] = {part: set() for part in PARTS}
    said = None
    for schema in shapes_of(lines):
        shape = Shape.of(schema)
        said = said or opinion(shape.names(), rules)
        for part, candidates in find_candidates(shape, rules).items():
            has[part].update((one.rank, one.spelled) for one in candidates)
    own = {part: [one for one in found[part] if (one.rank, one.spelled) in has[part]] for part in PARTS}
    return own, said


def _ranks(parts: Sequence[Extracted]) -> list[dict[str, int]]:
    """What comes first among the fields that rows have for each part: of one name the first spelling."""
    spelled: dict[str, int] = {}

    def rank(found: Candidate | None) -> int:
        if found is None:
            return NOWHERE
        if found.is_exact:
            return found.rank
        return found.rank + min(spelled.setdefault(found.spelled, len(spelled) + 1), SPELLINGS - 1)

    return [{part: rank(one.chosen.get(part)) for part in PARTS} for one in parts]


def decide(parts: Sequence[Extracted]) -> list[pl.DataFrame]:
    """Take from rows what stands in another field than that of their file.

    Batches of one file may have other fields. Where a later one has a better field for a part, rows of
    an earlier one do not have it at all.

    Returns:
        The rows of each part.

    Raises:
        TableError: If the score of a file would be `mos`, and a field beside it says that this is no score.
    """
    ranks = _ranks(parts)
    if len({(id(one.rules), *own.values()) for one, own in zip(parts, ranks, strict=True)}) == 1:
        for one in parts:
            _refuse_opinions(one, one.frame, [ranks[0]["score"]])
        return [one.frame for one in parts]
    best = {part: f"best_{part}" for part in PARTS}
    own = {part: _of_part([rank[part] for rank in ranks], pl.Int64()) for part in PARTS}
    file = pl.when(pl.len().over("source") > 1).then("source")  # files of one row are as one
    layout = _of_part([one.rules.layout for one in parts], pl.Int64())
    # All layouts of a format that has logits have them: one way to a score holds for all.
    has_logits = _of_part([one.rules.form.logits_field for one in parts], pl.String()).is_not_null()
    tagged = (
        pl.concat(one.frame.with_columns(part=i) for i, one in enumerate(parts))
        .with_columns(layout=layout)
        .with_columns(
            # A file that shows no layout lacks something that others have.
            pl.when(pl.col("layout").is_null() | (has_logits if part == "score" else False))
            .then(own[part].min().over(file, "format"))
            .otherwise(own[part].min().over(file, "format", "layout"))
            .alias(best[part])
            for part in PARTS
        )
    )
    for i, one in enumerate(parts):
        if one.beside is not None:
            rows = tagged.filter(pl.col("part") == i)
            _refuse_opinions(one, rows, rows.get_column(best["score"]))
    lost = {part: own[part] > pl.col(best[part]) for part in PARTS}
    assumed = _of_part([one.assumed for one in parts], pl.String())
    is_other = lost["status"] & (own["status"] // SPELLINGS == pl.col(best["status"]) // SPELLINGS)
    has_missing = _of_part([int(bool(one.rules.form.missing)) for one in parts], pl.Int64()) == 1
    kept = tagged.with_columns(
        scorer=pl.when(lost["scorer"]).then(assumed).otherwise("scorer"),
        key=pl.when(~lost["key"]).then("key"),
        key_field=pl.when(~lost["key"]).then("key_field"),
        score=pl.when(~lost["score"]).then("score"),
        frames=pl.when(lost["score"]).then(0).otherwise("frames"),
        runtime_ms=pl.when(~lost["runtime_ms"]).then("runtime_ms"),
        # Another name of a status says something still, but another spelling of it does not.
        status=pl.when(is_other & (pl.col("score").is_not_null() | ~has_missing))
        .then(pl.lit("ok"))
        .otherwise("status"),
    )
    named = kept.drop("fields").join(
        _written(kept.select("format", *best.values()).unique(), parts, ranks),
        on=["format", *best.values()],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    by_part = named.partition_by("part", as_dict=True)
    columns = parts[0].frame.columns
    return [by_part[i,].select(columns) if (i,) in by_part else one.frame for i, one in enumerate(parts)]


def _of_part(values: Sequence[int | str | None], dtype: pl.DataType) -> pl.Expr:
    """What each part has, for its rows."""
    return pl.col("part").replace_strict(
        range(len(values)), pl.Series(values, dtype=dtype), return_dtype=dtype
    )


def _written(
    decided: pl.DataFrame, parts: Sequence[Extracted], ranks: Sequence[Mapping[str, int]]
) -> pl.DataFrame:
    """The fields that were read where files have some formats and ranks."""
    rules = {one.rules.form.name or None: one.rules for one in parts}
    spelled = {
        (one.rules.form.name or None, part, rank[part]): chosen.spelled
        for one, rank in zip(parts, ranks, strict=True)
        for part, chosen in one.chosen.items()
    }
    texts = []
    for form, *taken in decided.iter_rows():
        read = {
            part: spelled[form, part, rank] for part, rank in zip(PARTS, taken, strict=True) if rank < NOWHERE
        }
        texts.append(written(read, rules[form]))
    return decided.with_columns(pl.Series("fields", texts, dtype=pl.String))


def _refuse_opinions(one: Extracted, rows: pl.DataFrame, ranks: Iterable[int]) -> None:
    """Refuse files whose score would be `mos`, where a field beside it says that people gave that.

    Raises:
        TableError: Names the file and both fields.
    """
    if one.beside is None or rows.is_empty():
        return
    for rank in set(ranks):
        if rank < NOWHERE and one.rules.score[rank % STEP // SPELLINGS] == "mos":
            raise TableError(
                rows.item(0, "source"),
                f"the score would be 'mos', but {one.beside!r} stands beside it, so 'mos' may be what people "
                "said; name the score with score_field",
            )


def refuse_formats(long: pl.DataFrame, rules: Rules) -> None:
    """Refuse files of different formats under the one label that an entry gives.

    Raises:
        ScorerNameError: Names the formats, and a file of each.
    """
    label, forms = rules.entry.label, long.get_column("format")
    if label is None or forms.is_empty() or forms.eq_missing(forms.item(0)).all():
        return
    found = (
        long.group_by("format")
        .agg(pl.col("source").first(), files=pl.col("source").n_unique())
        .sort("format")
    )
    if found.get_column("format").null_count() and {"key_field", "score_field"} <= rules.named:
        return  # what is read is the same in all
    raise _mixed("label", label, found)


def refuse_unknown_beside(entries: Iterable[tuple[Rules, pl.DataFrame]]) -> None:
    """Refuse files of no known format and files of one under one scorer, in different entries.

    So are formats of somebody's own that say otherwise than others what they measure. Whether files of two
    known formats measure the same is seen when their scores are put together.

    Raises:
        ScorerNameError: Names the format, and a file of each.
    """
    found = pl.concat(
        part.group_by(slug_of(pl.col("scorer")).alias("slug"), "format", maintain_order=True).agg(
            pl.col("scorer", "source").first(),
            files=pl.col("source").n_unique(),
            # Where both fields were named, what is read is what was asked for.
            is_named=pl.lit({"key_field", "score_field"} <= rules.named),
            is_own=pl.lit(rules.form.name not in ("", *list_formats().scores)),
            meant=pl.col("format")
            .first()
            .replace_strict(_meant(rules.form), default=None, return_dtype=pl.String),
        )
        for rules, part in entries
    )
    unknown = pl.col("format").is_null()
    is_mixed = (unknown & ~pl.col("is_named")).any().over("slug") & (~unknown).any().over("slug")
    is_mixed |= pl.col("is_own").any().over("slug") & (pl.col("meant").drop_nulls().n_unique() > 1).over(
        "slug"
    )
    mixed = found.filter(is_mixed & ~(unknown & pl.col("is_named")))
    if mixed.height:
        own = mixed.filter(pl.col("slug") == mixed.item(0, "slug"))
        by_format = own.group_by("format").agg(pl.col("source").first(), pl.col("files").sum())
        raise _mixed("scorer", own.item(0, "scorer"), by_format.sort("format"))


def _meant(own: ScoreFormat) -> dict[str, str]:
    """What formats say that they measure: the scorer and the range."""
    forms = {**list_formats().scores, own.name: own}
    said = {
        name: [form.label, *(None if end is None else float(end) for end in (form.low, form.high))]
        for name, form in forms.items()
    }
    return {name: json.dumps(parts) for name, parts in said.items()}


def _mixed(kind: str, name: str, found: pl.DataFrame) -> ScorerNameError:
    """The error that names formats, a file of each and how many more there are."""
    said = "; ".join(
        f"{'no known format' if form is None else repr(form)} in {source}"
        + (f" and {counted(files - 1, 'more file')}" if files > 1 else "")
        for form, source, files in found.iter_rows()
    )
    return ScorerNameError(
        f"the {kind} {name!r} has files of different formats: {said}; expected one format under one {kind}",
        **{kind: name},
    )
