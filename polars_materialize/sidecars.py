"""Sidecars to one long frame of scores, whatever fields their scorer writes.

A *sidecar* is an output file of a no-reference scorer. This project never runs a scorer; it reads what
one wrote. Everything a row lacks is refused here with its place; which rows of a feature table the
scores belong to is decided in `score_joins`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, get_args

import polars as pl

from polars_materialize import keys
from polars_materialize.arguments import checked
from polars_materialize.errors import (
    LISTED,
    OptionError,
    ScorerNameError,
    SidecarError,
    TableError,
    did_you_mean,
    listing,
    no_panics,
)
from polars_materialize.formats import (
    Duplicates,
    Pooling,
    ScoreFormat,
    check_columns,
    check_named,
    list_formats,
)
from polars_materialize.options import Sidecar, SidecarLike, list_entries
from polars_materialize.scores import SCORE_FIELDS, SCORE_SCHEMA, slug, unusable_rows
from polars_materialize.sidecar_files import (
    Layouts,
    decide,
    extract_files,
    refuse_formats,
    refuse_unknown_beside,
)
from polars_materialize.sidecar_rows import SCORER_FIELDS, Rules, Shape, clip_by_clip, named_format
from polars_materialize.stores import check_storage_options, local_folder
from polars_materialize.tables import Beside, Dialect, File, find, in_order, is_small, read_records

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from polars_materialize.sidecar_rows import Extracted
    from polars_materialize.stores import StorageOptions


BESIDE = Beside(inherited=SCORER_FIELDS[0], refused=frozenset(SCORE_FIELDS))
"""What counts beside a list of rows: who scored them, but no score of its own."""


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
    check_named(check_score_format, named_format(sidecar))
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


@checked
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
    whatever their case. Without options each file is read by the first of these that it has, in the row,
    then in its `summary`: key `clip_id video_id ...` (see `keys.SCORE_KEYS`); scorer `competitor`; score
    `score predicted_mos predicted_vmaf_or_mos pred_score prediction quality mos vmaf`, else the mean over
    `frames`, each of which must have one; run time `runtime_ms runtime_total_ms elapsed_ms`, else the sum
    over `frames`. No other field stands in for a row that has nothing there; files of one row each are read
    by the same fields. A `status` other than absent, `ok`, `pass`, `success`, `succeeded`, `done` or
    `completed` means `bad`.

    Args:
        scores: Entries: `path`, `LABEL=path` or `Sidecar`; a path may be a glob or a folder.
        score_key_field: The field that holds the key, in every sidecar that does not say itself.
        score_field: The field that holds the score, likewise.
        base_dir: What relative paths are relative to.
        storage_options: See `scan_table`.

    Returns:
        Columns as `SCORE_SCHEMA`: `scorer`, `key` (text, not yet normalised), `score`, `status` (`ok` or
        `bad`), `runtime_ms` (milliseconds), `frames` (how many frame scores were averaged, 0 for a
        plain score), `source` (the file), `place` (file and line), how to normalise the key, and `fields`
        (which fields were read, as JSON).

    Raises:
        OptionError: If an entry is not valid.
        TableError: If there is no such file; on collecting, if it is not of its format.
        SidecarError: On collecting, if rows lack a scorer, a key or a usable score.
        ScorerNameError: On collecting, if a label and a `competitor` disagree, or files of one label are of
            different formats.

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

    @no_panics()
    def read() -> pl.DataFrame:
        return read_scores(sources, score_key_field=score_key_field, score_field=score_field)

    return pl.defer(read, schema=SCORE_SCHEMA)


def list_sidecars(scores: SidecarLike | Iterable[SidecarLike]) -> list[Sidecar]:
    """Reads one entry or several."""
    return list_entries(scores, Sidecar, "scores")


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
    form = named_format(entry)
    return Dialect.of(form.text, entry.columns or form.columns)


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

    def read(entry: tuple[Rules, Sequence[File]]) -> tuple[pl.DataFrame, pl.DataFrame]:
        rules, files = entry
        part, columns = _read_entry(rules, files, tick)
        return part, _unusable(part, rules, columns)

    # Threads take turns at Python's lock, and gain nothing where files are small.
    in_turn = all(is_small(file) for _, files in sidecars for file in files)
    entries = [(Rules.of(entry, score_key_field, score_field), files) for entry, files in sidecars]
    for part, wrong in (map if in_turn else in_order)(read, entries):
        problems += wrong.head(LISTED).rows()
        count += wrong.height
        parts.append(part)
    if count:
        raise SidecarError(problems, count)
    if len(parts) > 1:
        refuse_unknown_beside([(rules, part) for (rules, _), part in zip(entries, parts, strict=True)])
    return pl.concat(parts)


def _unusable(part: pl.DataFrame, rules: Rules, columns: Iterable[str]) -> pl.DataFrame:
    """Find what makes rows of an entry unusable, in words of the format that each was read as."""
    forms = part.get_column("format")
    names = [None] if forms.null_count() == forms.len() else forms.unique().sort().to_list()
    known = list_formats().scores
    return pl.concat(
        unusable_rows(
            part if len(names) == 1 else part.filter(forms.eq_missing(pl.lit(name))),
            (rules if name is None or name == rules.form.name else rules.read_as(known[name])).described(
                columns if name is None else ()
            ),
        )
        for name in names
    )


def _read_entry(
    rules: Rules, files: Sequence[File], tick: Callable[[File], File], assumed: ScoreFormat | None = None
) -> tuple[pl.DataFrame, Iterable[str]]:
    """Read all rows of one entry as `SCORE_SCHEMA`; scorer, key and score may still be null.

    Args:
        rules: How to read them.
        files: The files of the entry.
        tick: Told of each file.
        assumed: The format of files of one row that show none.

    Returns:
        The rows, and the columns that they had.
    """
    sidecar = rules.entry
    parts: list[Extracted] = []
    columns: dict[str, None] = {}
    asked = dict(rules.asked)
    known = (name for form in list_formats().scores.values() for name in form.key_field)
    key_columns = list(known) if rules.key is keys.SCORE_KEYS else rules.key
    layouts = Layouts(rules, assumed)
    for found in read_records(map(tick, files), ("rows", "results"), key_columns, BESIDE):
        for own, records in layouts.parts(found):
            shape = Shape.of(records.frame.schema)
            columns.update(dict.fromkeys(records.frame.columns))
            asked = {option: name for option, name in asked.items() if not shape.has(name)}
            parts += extract_files(records, shape, own)
    if (missed := layouts.missed()) is not None:
        return _read_entry(rules, files, lambda file: file, missed)
    if not any(part.frame.height for part in parts):
        raise TableError(sidecar.path, "no rows; expected at least one score")
    for option, name in asked.items():
        raise TableError(
            sidecar.path,
            f"no row has the {option} {name!r}; the rows have {listing(columns)}"
            f"{did_you_mean(name, columns)}",
        )
    clips: list[pl.DataFrame] = []
    frames: dict[Pooling | None, list[pl.DataFrame]] = {}
    for part, rows in zip(parts, decide(parts), strict=True):
        if part.rules.form.rows == "frames":
            # A clip may go on in another batch, so its frames are pooled when all are there.
            frames.setdefault(part.rules.pooling, []).append(rows)
        else:
            clips.append(rows)
    clips += [clip_by_clip(pl.concat(rows), pooling) for pooling, rows in frames.items()]
    long = clips[0] if len(clips) == 1 else pl.concat(clips).sort("row")
    long.drop_in_place("row")
    refuse_formats(long, rules)
    return _named(long, sidecar), columns


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
    labels = pl.Series("scorer", [label]).new_from_index(0, long.height)
    return long.replace_column(long.get_column_index("scorer"), labels)
