"""One long frame of scores: its columns, what makes a row unusable, and the key of each row.

Where the rows come from is the business of `sidecars`; which rows of a feature table they belong to, of
`score_joins`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import polars as pl

from polars_materialize import keys
from polars_materialize.errors import (
    LISTED,
    DuplicateKeyError,
    OptionError,
    ScorerNameError,
    SidecarError,
    counted,
    first_line,
    listing,
)
from polars_materialize.formats import list_formats
from polars_materialize.names import spare_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polars_materialize.formats import KeyNormalize
    from polars_materialize.sidecar_rows import Looked


SCORE_FIELDS = (
    *("score", "predicted_mos", "predicted_vmaf_or_mos", "pred_score", "prediction", "quality"),
    *("mos", "vmaf"),
)
"""Where a score is looked for. `mos` and `vmaf` come last: beside a prediction they are something else."""
OK_WORDS = ("ok", "pass", "success", "succeeded", "done", "completed")
FILE_NAME = "@filename"
"""As a `key_field`: the sidecar's own file name is the key."""
SCORE_SCHEMA = pl.Schema(
    {
        "scorer": pl.String,
        "key": pl.String,
        "score": pl.Float64,
        "status": pl.String,
        "runtime_ms": pl.Float64,
        "frames": pl.Int64,
        "source": pl.String,
        "place": pl.String,
        "key_field": pl.String,
        "key_normalize": pl.String,
        "key_regex": pl.String,
        "format": pl.String,
        "duplicates": pl.String,
        "fields": pl.String,
    }
)
"""The columns of a long frame of scores; only `scorer`, `key` and `score` have to be given."""


def slug(scorer: str) -> str:
    """The part of a column's name that stands for a scorer.

    Example:
        >>> slug("Q-Align (v1.1)"), slug("!")
        ('q_align_v1_1', '')
    """
    return re.sub(r"[^a-z0-9]+", "_", scorer.lower()).strip("_")


def slug_of(scorer: pl.Expr) -> pl.Expr:
    """As `slug`, of a column.

    Example:
        >>> pl.select(slug_of(pl.lit("Q-Align (v1.1)"))).item()
        'q_align_v1_1'
    """
    return scorer.str.to_lowercase().str.replace_all("[^a-z0-9]+", "_").str.strip_chars("_")


def means_ok(status: pl.Expr) -> pl.Expr:
    """Whether a status says that the scorer succeeded; one that says nothing does."""
    state = status.str.strip_chars().str.to_lowercase()
    return state.is_null() | state.is_in(["", *OK_WORDS])


def unusable_rows(long: pl.DataFrame, looked: Looked | None = None) -> pl.DataFrame:
    """Find what makes rows unusable: `place` and `reason`; no rows if all are usable.

    Args:
        long: Scores.
        looked: Where their key and their score were looked for, in words.
    """
    if _are_usable(long):  # most often they are, which is seen sooner than a query begins
        return pl.DataFrame(schema={"place": pl.String, "reason": pl.String})
    key, score, name_key, name_score, nearly = looked or ("'key'", "'score'", "", "", None)
    finite = pl.col("score").is_finite().fill_null(value=False)

    def where(part: str, names: str, hint: str) -> pl.Expr:
        """The field that the file has, else all that were looked for."""
        own = pl.col("fields").str.json_path_match(f"$.{part}")
        return pl.concat_str(
            pl.coalesce(pl.concat_str(pl.lit("'"), own, pl.lit("'")), pl.lit(names)), pl.lit(hint)
        )

    lacking = [
        pl.when(pl.col("key").is_null() | ~finite).then(pl.lit(nearly, dtype=pl.String)),
        pl.when(pl.col("key").is_null()).then(
            pl.concat_str(pl.lit("no key in "), where("key", key, name_key))
        ),
        pl.when((pl.col("status") == "ok") & ~finite).then(
            pl.concat_str(pl.lit("status ok without a usable score in "), where("score", score, name_score))
        ),
        pl.when(pl.col("scorer").is_null()).then(
            pl.lit("no scorer, expected LABEL=path or a field 'competitor'")
        ),
    ]
    read_as = pl.concat_str(pl.lit("; read as '"), "format", pl.lit("'"))
    reason = pl.concat_list(lacking).list.drop_nulls()
    wrong = (
        long.lazy()
        .filter(pl.any_horizontal(each.is_not_null() for each in lacking[1:]))
        .select("place", reason=pl.concat_str(reason.list.join("; "), read_as.fill_null("")))
    )
    return wrong.collect(engine="in-memory")


def _are_usable(long: pl.DataFrame) -> bool:
    """Whether no row lacks what it needs; if the sum of scores is finite, so is each."""
    scorer, key, score, status = (long.get_column(name) for name in ("scorer", "key", "score", "status"))
    if scorer.null_count() or key.null_count() or not math.isfinite(score.sum()):
        return False
    return not (score.null_count() and (score.is_null() & (status == "ok")).any())


def _are_plain(scores: pl.DataFrame) -> bool:
    """Whether run times and counts of frames are such as sidecars give."""
    runtime, frames = scores.get_column("runtime_ms"), scores.get_column("frames")
    return math.isfinite(runtime.sum()) and not frames.null_count() and not (frames < 0).any()


def complete_scores(scores: pl.DataFrame) -> pl.DataFrame:
    """Gives a frame of scores made elsewhere the columns and dtypes of `SCORE_SCHEMA`.

    Raises:
        OptionError: If a column is missing or of another dtype.
        SidecarError: If rows lack a scorer, a key or a usable score.
    """
    if scores.is_empty():
        raise OptionError("scores: no rows; expected at least one score", option="scores")
    if scores.schema == SCORE_SCHEMA and _are_usable(scores) and _are_plain(scores):
        return scores
    lacking = [name for name in ("scorer", "key", "score") if name not in scores.columns]
    if lacking:
        raise OptionError(
            f"scores: no column {listing(lacking)}; expected a frame as scan_scores gives it, "
            "with at least scorer, key and score"
        )
    row = pl.int_range(pl.len()).cast(pl.String)
    place = pl.concat_str(pl.lit("scores: rows["), row, pl.lit("]"))
    defaults = {
        "status": pl.lit("ok"),
        "frames": pl.lit(0),
        "place": place,
        "key_field": pl.lit("key"),
        "duplicates": pl.lit("refuse"),
    }
    key = keys.key_text(pl.col("key"), scores.schema["key"], name="key", table="scores")
    given = scores.with_columns(
        defaults.get(name, pl.lit(None)).alias(name) for name in SCORE_SCHEMA if name not in scores.columns
    )
    # A boolean is no number, whatever it is cast to.
    no_numbers = [name for name in ("score", "runtime_ms") if given.schema[name] == pl.Boolean]
    given = given.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in no_numbers)
    counts = given.get_column("frames")
    if counts.dtype == pl.Boolean or (
        counts.dtype.is_numeric() and ((counts < 0) | (counts.is_finite() & (counts % 1 != 0))).any()
    ):
        raise OptionError("scores: column 'frames': expected whole numbers, 0 or more", option="scores")
    try:
        long = given.with_columns(key.alias("key")).select(
            pl.col(name).cast(dtype) for name, dtype in SCORE_SCHEMA.items()
        )
    except pl.exceptions.PolarsError as error:
        raise OptionError(f"scores: not a frame of scores: {first_line(error)}") from None
    is_ok = means_ok(pl.col("status"))
    long = long.with_columns(
        status=pl.when(is_ok).then(pl.lit("ok")).otherwise(pl.lit("bad")),
        frames=pl.col("frames").fill_null(0),
        score=pl.when(pl.col("score").is_finite()).then("score"),
        runtime_ms=pl.when(pl.col("runtime_ms").is_finite()).then("runtime_ms"),
    )
    if (long.get_column("frames") < 0).any():  # as text
        raise OptionError("scores: column 'frames': expected whole numbers, 0 or more", option="scores")
    wrong = unusable_rows(long)
    if not wrong.is_empty():
        raise SidecarError(wrong.head(LISTED).rows(), wrong.height)
    return long


def key_scores(scores: pl.DataFrame, key_normalize: KeyNormalize) -> pl.DataFrame:
    """Normalises the keys of a long frame of scores, each by its own sidecar's rule if it has one.

    Raises:
        SidecarError: If a row has no key left.
        DuplicateKeyError: If two rows of a scorer have one key.
    """
    parts = []
    order = spare_names(scores.columns, 1)
    by = ["key_field", "key_normalize", "key_regex"]
    for part in _alike(scores.with_row_index(order[0]), by):
        field, own, regex = part.select(by).row(0)
        rule = keys.resolve_normalize(own or key_normalize, field or "")
        key = keys.normalize_key(pl.col("key"), rule, sidecar_name=field == FILE_NAME)
        named = part.lazy().with_columns(text="key", key=keys.extract_key(key, regex, option="key_regex"))
        parts.append(named.drop(by[1:]))
    together = parts[0] if len(parts) == 1 else pl.concat(parts).sort(order)
    keyed = together.drop(order).collect(engine="in-memory")
    if keyed.get_column("key").null_count():
        lost = keyed.filter(pl.col("key").is_null())
        reason = pl.concat_str(pl.lit("no key is left of '"), "text", pl.lit("'"))
        raise SidecarError(lost.head(LISTED).select("place", reason).rows(), lost.height)
    keyed = _replace_repeated(keyed)
    _refuse_duplicates(keyed)
    return keyed


def _alike(scores: pl.DataFrame, by: Sequence[str]) -> list[pl.DataFrame]:
    """The rows with the same values of some columns; most often these are all, and need no parting."""
    as_first = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).first()) for name in by)
    if scores.select(as_first.all()).item():
        return [scores]
    return scores.partition_by(by, maintain_order=True)


def _replace_repeated(keyed: pl.DataFrame) -> pl.DataFrame:
    """Takes the last score of a key from sidecars that say so; `replaced` counts those before it.

    Only rows of one file whose keys are the same text are reruns; others are different clips, or another
    metric, and stay to be refused. So do rows that all have their file's name as key, and those of a file
    that two entries name.
    """
    clip = ["scorer", "text", "source", "key", "duplicates", "key_field"]
    takes_last = (
        (pl.col("duplicates") == "last")
        & pl.col("key_field").ne_missing(FILE_NAME)
        & (pl.col("place").n_unique() == pl.len()).over(clip)
    )
    asked = keyed.get_column("duplicates")
    if asked.null_count() == asked.len() or not (asked == "last").any():
        return keyed.with_columns(replaced=pl.lit(0, dtype=pl.UInt32))
    before = pl.when(takes_last).then(pl.len().over(clip) - 1).otherwise(0).cast(pl.UInt32)
    kept = pl.struct(clip).is_last_distinct() | ~takes_last.fill_null(value=False)
    return keyed.with_columns(replaced=before, kept=kept).filter("kept").drop("kept")


def _refuse_duplicates(keyed: pl.DataFrame) -> None:
    if not keyed.group_by("scorer").agg(twice=pl.col("key").n_unique() < pl.len())["twice"].any():
        return
    repeated = (
        keyed.group_by("scorer", "key")
        .agg(
            pl.col("place", "text"),
            rows=pl.len(),
            is_rerun=(pl.col("text").n_unique() == 1)
            & (pl.col("source").n_unique() == 1)
            & pl.col("duplicates").is_null().all(),
            by_file=(pl.col("key_field") == FILE_NAME).all() & (pl.col("source").n_unique() == 1),
            read_twice=pl.col("place").n_unique() < pl.len(),
        )
        .filter(pl.col("rows") > 1)
        .sort("scorer", "key")
    )
    first = repeated.row(0, named=True)
    text, other = first["text"][:2]
    place, second = first["place"][:2]
    clips, scorers = repeated.get_column("key").n_unique(), repeated.get_column("scorer").n_unique()
    by = "one scorer" if scorers == 1 else f"each of {scorers:,} scorers"
    more = "" if repeated.height == 1 else ", such as"
    at = f"{place} and " if text == other else f"{place} and {other!r} at "
    key = "" if text == other else f", which are the one key {first['key']!r}"
    hint = ""
    if first["read_twice"]:
        hint = "; the file is named by two entries"
    elif first["by_file"]:
        hint = "; the key of every row is its file's name"
    elif repeated.get_column("is_rerun").all() and not repeated.get_column("read_twice").any():
        hint = " (if a rerun appended, say duplicates: last)"
    raise DuplicateKeyError(
        f"more than one score of {counted(clips, 'clip')} by {by}{more}: "
        f"{first['scorer']} {text!r} at {at}{second}{key}; expected one row for each scorer and key{hint}",
        offenders=repeated.drop("text", "is_rerun", "by_file", "read_twice"),
    )


def _refuse_mixed_formats(scores: pl.DataFrame) -> None:
    """Refuses scores of one scorer in formats that measure different things, which one column cannot hold.

    Raises:
        ScorerNameError: Names the formats, and a file of each.
    """
    known = list_formats().scores
    found: dict[str, dict[tuple[object, ...], tuple[str, str]]] = {}
    files = scores.group_by("scorer", "format", maintain_order=True).agg(pl.col("source").first())
    for scorer, name, source in files.sort("scorer", "format").iter_rows():
        form = known.get(name)
        if form is not None:
            ends = "" if form.low is None or form.high is None else f" ({form.low:g} to {form.high:g})"
            meant = (form.label, form.low, form.high)
            found.setdefault(scorer, {}).setdefault(meant, (f"{name!r}{ends}", source))
    for scorer, formats in found.items():
        if len(formats) > 1:
            said = " and ".join(f"{name} in {source}" for name, source in formats.values())
            raise ScorerNameError(
                f"the scorer {scorer!r} has scores of the formats {said}; label one of them otherwise"
            )


def scorer_slugs(scores: pl.DataFrame) -> dict[str, str]:
    """The scorers of a long frame, sorted, with the slug of each.

    Raises:
        ScorerNameError: If a name has no slug, two have the same, or a scorer has scores of several formats.
    """
    if scores.get_column("format").null_count() < scores.height:
        _refuse_mixed_formats(scores)
    slugs: dict[str, str] = {}
    owner: dict[str, str] = {}
    for scorer in scores.get_column("scorer").unique().sort():
        mark = slug(scorer)
        if not mark:
            raise ScorerNameError(f"the scorer {scorer!r} has no letter a-z and no digit for a column name")
        if mark in owner:
            raise ScorerNameError(
                f"the scorers {owner[mark]!r} and {scorer!r} would share the columns of {mark!r}; "
                "label one of them otherwise"
            )
        owner[mark] = scorer
        slugs[scorer] = mark
    return slugs
