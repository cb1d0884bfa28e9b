"""What a join refuses, checked on the small side before anything is written.

Each guard takes frames, finds the offenders as a frame, and raises an error that shows the first of them and
counts the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from polars_materialize import keys
from polars_materialize.errors import (
    LISTED,
    BadScoreError,
    ColumnExistsError,
    FoldingError,
    MatchRateError,
    MissingScoreError,
    counted,
    listing,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

SHOWN = 3
"""How many keys of each side a hint shows."""

TRIED = 100_000
"""How many keys of a table are tried in other spellings."""

_WAYS: Mapping[str, pl.Expr] = {
    "by key_normalize 'basename'": keys.normalize_key(pl.col("key"), "basename"),
    "by key_normalize 'stem'": keys.normalize_key(pl.col("key"), "stem"),
    "if they were spelled in lower case": pl.col("key").str.to_lowercase(),
    "if they had no leading zeros": pl.col("key").str.replace(r"^0+(\d+)$", "${1}"),
}
"""What may keep the keys of two sides apart: what would help, and what keys then are."""


def suggest_match(lacking: pl.Series, unused: pl.Series) -> str:
    """What would make keys of two sides meet that do not, if anything is seen; else no text.

    Example:
        >>> suggest_match(pl.Series(["a.mp4", "b.mp4"]), pl.Series(["a", "c"]))
        "by key_normalize 'stem' 1 of 2 keys would match"
    """
    sides = [
        side.drop_nulls().unique(maintain_order=True).alias("key").to_frame() for side in (lacking, unused)
    ]
    keys_of_rows, others = sides[0].head(TRIED), sides[1]
    best, found = "", 0
    for way, key in _WAYS.items():
        changed = pl.col("key").ne_missing(key).any()
        if not any(side.head(TRIED).select(changed).item() for side in sides):
            continue  # neither side is spelled so, and to look at all others takes its time
        folded = others.select(key).to_series().drop_nulls().implode()
        met = int(keys_of_rows.select(key.is_in(folded)).to_series().sum())
        if met > found:
            best, found = way, met
    total = counted(keys_of_rows.height, "key")
    total = f"the first {total}" if keys_of_rows.height < sides[0].height else total
    return f"{best} {found:,} of {total} would match" if found else ""


def explain_no_match(table: pl.Series, evidence: pl.Series) -> str:
    """Keys of two sides of which none meet, and what would make them.

    Args:
        table: Keys of the table.
        evidence: Keys of what was to be joined.
    """
    sides = [side.drop_nulls().unique().sort() for side in (table, evidence)]
    own, others = (listing(side.head(SHOWN), total=side.len()) for side in sides)
    if not own:
        return "no row has a key"
    hint = suggest_match(*sides)
    return f"no key is on both sides: rows have {own}, scores {others}" + (f"; {hint}" if hint else "")


def refuse_folding(keyed: pl.DataFrame, *, column: str) -> None:
    """Refuses distinct key texts that a guessed normalisation made one key.

    Args:
        keyed: Distinct values of the feature table, with their `text` and `key`.
        column: The feature table's key column, for the message.

    Raises:
        FoldingError: With examples.
    """
    folded = (
        keyed.filter(pl.col("key").is_not_null())
        .group_by("key")
        .agg(pl.col("text").unique().sort())
        .filter(pl.col("text").list.len() > 1)
        .sort("key")
    )
    if folded.is_empty():
        return
    examples = "; ".join(
        f"{listing(texts, limit=3)} would all be {key!r}" for key, texts in folded.head(3).iter_rows()
    )
    raise FoldingError(
        f"key_normalize 'auto' takes the basename of {column!r}, and so would make "
        f"{counted(folded.height, 'key')} of several values each: {examples}; "
        "say 'raw' to keep them apart, or 'basename' or 'stem' if they are the same clip",
        column=column,
        offenders=folded,
    )


def refuse_existing(existing: Sequence[str], added: Iterable[str], *, overwrite: bool, key: str) -> None:
    """Refuses to replace columns that the table already has, and ever to replace its key.

    Raises:
        ColumnExistsError: Names the columns.
    """
    added = set(added)
    if key in added:
        raise ColumnExistsError(f"the join would replace the key column {key!r}", columns=[key])
    taken = [name for name in existing if name in added]
    if taken and not overwrite:
        raise ColumnExistsError(
            f"the table already has the columns {listing(taken)}; expected none of them, or overwrite",
            columns=taken,
        )


def refuse_match_rate(
    keyed: pl.DataFrame, labels: pl.DataFrame, *, matched: int, total: int, least: float
) -> None:
    """Refuses a table of whose distinct keys too few have a label.

    Args:
        keyed: The table's distinct values, with their `key`, `rows` and whether they are `matched`.
        labels: The labels, with their `key`.
        matched: How many distinct keys have a label.
        total: How many there are.
        least: The least share that must.

    Raises:
        MatchRateError: With the rate, the counts, and unmatched keys of both sides.
    """
    rate = matched / total if total else float(keyed.is_empty())
    if rate >= least:
        return
    has_key = pl.col("key").is_not_null()
    lacking = keyed.filter(has_key & ~pl.col("matched")).group_by("key").agg(pl.col("rows").sum()).sort("key")
    unused = labels.join(
        keyed, on="key", how="anti", nulls_equal=False, maintain_order="none", validate="m:m"
    ).sort("key")
    shown = listing(lacking.get_column("key").head(LISTED), total=lacking.height)
    others = listing(unused.get_column("key").head(LISTED), total=unused.height)
    text = f"match rate {rate:.4f} ({matched:,} of {total:,} distinct keys have a label), expected {least:g}"
    text += f"; without a label: {shown}" if shown else "; no row has a key"
    text += f"; labels that no row has: {others}" if others else ""
    hint = suggest_match(lacking.get_column("key"), unused.get_column("key"))
    text += f"; {hint}" if hint else ""
    raise MatchRateError(text, lacking, unused.select("key"))


def refuse_status(
    offenders: pl.DataFrame,
    *,
    policy: str,
    what: str,
    error: type[MissingScoreError | BadScoreError],
    hint: Callable[[str], str | None],
) -> None:
    """Refuses clips that a policy of `fail` forbids.

    Args:
        offenders: Columns `scorer`, `key` (null for rows without one) and `rows`.
        policy: The option's name.
        what: What is wrong with them, in words.
        error: What to raise.
        hint: Says of a scorer why no row has a score of it.
    """
    if offenders.is_empty():
        return
    texts = []
    for (scorer,), part in offenders.group_by("scorer", maintain_order=True):
        clips = part.filter(pl.col("key").is_not_null())
        names = listing(clips.get_column("key").head(LISTED), total=clips.height)
        keyless = int(part.filter(pl.col("key").is_null()).get_column("rows").sum())
        text = f"{scorer}: {counted(int(part.get_column('rows').sum()), 'row')} {what}"
        text += f", {counted(clips.height, 'clip')}: {names}" if names else ""
        text += f", {counted(keyless, 'row')} of them without a key" if keyless else ""
        why = hint(str(scorer))
        text += f" ({why})" if why else ""
        texts.append(text)
    raise error(f"{policy} 'fail': {'; '.join(texts)}", offenders)
