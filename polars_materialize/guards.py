"""What a join refuses, checked on the small side before anything is written.

Each guard takes frames, finds the offenders as a frame, and raises an error that shows the first of them and
counts the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from polars_materialize.errors import (
    LISTED,
    BadScoreError,
    ColumnExistsError,
    FoldingError,
    MissingScoreError,
    OptionError,
    counted,
    listing,
)
from polars_materialize.folding import count_folded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def refuse_folding(folded: pl.DataFrame, *, rule: str, column: str, hint: str, of: str = "") -> None:
    """Refuse different values that became one key.

    Args:
        folded: Each such `key` with the list of its values as `text`.
        rule: What made the keys, in words.
        column: The column that holds the values.
        hint: What else would make both sides meet; no text if nothing would.
        of: Whose column it is, in words, if not the feature table's.

    Raises:
        FoldingError: With examples.
    """
    if folded.is_empty():
        return
    values = counted(count_folded(folded), "different value")
    examples = "; ".join(
        f"{listing(texts, limit=3)} would all be {key!r}" for key, texts in folded.head(2).iter_rows()
    )
    raise FoldingError(
        f"{rule} would make {counted(folded.height, 'key')} of {values} of {column!r}{of}: {examples}; "
        f"{hint}{'; ' if hint else ''}expected a key for each value, or allow_folding if they are one clip",
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


@dataclass(frozen=True)
class Coverage:
    """How many of a table's distinct keys have evidence.

    Attributes:
        matched: How many have.
        total: How many there are.
        rows: The table's rows.
    """

    matched: int
    total: int
    rows: int

    @property
    def rate(self) -> float:
        """The share that has evidence; 1 for a table without rows."""
        return self.matched / self.total if self.total else float(self.rows == 0)

    def said(self, noun: str) -> str:
        """Say it in words; `noun` is what keys have."""
        counts = f"{self.matched:,} of {self.total:,} distinct keys have a {noun}"
        return f"match rate {self.rate:.4f} ({counts})"


def low_match_rate(
    keyed: pl.DataFrame, evidence: pl.DataFrame, coverage: Coverage, *, least: float, noun: str, hint: str
) -> tuple[str, pl.DataFrame, pl.DataFrame]:
    """Say that too few of a table's distinct keys have evidence, and show unmatched keys of both sides.

    Args:
        keyed: The table's distinct values, with their `key`, `rows` and whether they are `matched`.
        evidence: The labels or scores, with their `key`.
        coverage: How many keys have some.
        least: The least share that must.
        noun: What one of them is called.
        hint: What would make more keys meet; no text if nothing would.

    Returns:
        The text, and the unmatched keys of both sides.
    """
    has_key = pl.col("key").is_not_null()
    lacking = keyed.filter(has_key & ~pl.col("matched")).group_by("key").agg(pl.col("rows").sum()).sort("key")
    unused = evidence.join(
        keyed, on="key", how="anti", nulls_equal=False, maintain_order="none", validate="m:m"
    ).sort("key")
    shown = listing(lacking.get_column("key").head(LISTED), total=lacking.height)
    others = listing(unused.get_column("key").head(LISTED), total=unused.height)
    text = f"{coverage.said(noun)}, expected {least:g}"
    text += f"; without a {noun}: {shown}" if shown else "; no row has a key"
    text += f"; {noun}s that no row has: {others}" if others else ""
    text += f"; {hint}" if hint else ""
    return text, lacking, unused.select("key")


def check_match_rate(rate: float | None, *, option: str = "min_match_rate") -> None:
    """Refuse a least match rate that is no share.

    Raises:
        OptionError: Says what was expected.
    """
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if rate is not None and not (is_number and 0 <= rate <= 1):
        raise OptionError(f"{option}: {rate!r}; expected a share from 0 to 1", option=option)


def refuse_status(
    offenders: pl.DataFrame,
    *,
    problem: str,
    what: str,
    error: type[MissingScoreError | BadScoreError],
    hint: Callable[[str], str | None],
) -> None:
    """Refuses clips that a policy forbids.

    Args:
        offenders: Columns `scorer`, `key` (null for rows without one) and `rows`.
        problem: The option, and what is wrong, in words.
        what: What is wrong with the clips, in words.
        error: What to raise.
        hint: Says of a scorer why no row has a score of it.
    """
    if offenders.is_empty():
        return
    texts = []
    for (scorer,), part in offenders.group_by("scorer", maintain_order=True):
        clips = part.filter(pl.col("key").is_not_null())
        # One key may be spelled in several ways.
        found = clips.get_column("key").unique(maintain_order=True)
        names = listing(found.head(LISTED), total=found.len())
        keyless = int(part.filter(pl.col("key").is_null()).get_column("rows").sum())
        text = f"{scorer}: {counted(int(part.get_column('rows').sum()), 'row')} {what}"
        text += f", {counted(found.len(), 'clip')}: {names}" if names else ""
        text += f", {counted(keyless, 'row')} of them without a key" if keyless else ""
        why = hint(str(scorer))
        text += f" ({why})" if why else ""
        texts.append(text)
    raise error(f"{problem}: {'; '.join(texts)}", offenders)
