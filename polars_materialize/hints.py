"""What may keep the keys of two sides apart that do not meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from polars_materialize import keys
from polars_materialize.errors import counted, listing

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    Args:
        lacking: Keys of the table, each once.
        unused: Keys of what was to be joined, likewise.

    Example:
        >>> suggest_match(pl.Series(["a.mp4", "b.mp4"]), pl.Series(["a", "c"]))
        "by key_normalize 'stem' 1 of 2 keys would match"
    """
    sides = [side.drop_nulls().alias("key").to_frame() for side in (lacking, unused)]
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
