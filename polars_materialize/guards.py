"""What a join refuses, checked on the small side before anything is written.

Each guard takes frames, finds the offenders as a frame, and raises an error that shows the first of them and
counts the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

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
from polars_materialize.hints import suggest_match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


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
