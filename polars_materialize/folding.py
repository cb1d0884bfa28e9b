"""Different values that became one key: found, shown, and counted.

Spaces, Unicode forms and the `.0` of a whole number do not make values different: see `keys.key_text`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

_VALUE = pl.col("text").str.replace(r"^(-?\d+)\.0+$", "${1}")
"""What a text says: ids that passed through a nullable integer column come back as `12345.0`."""


def find_folded(keyed: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
    """Find keys that were made of several different values.

    Args:
        keyed: Values with their `text`, their `key`, and the columns of `by`.
        by: Columns that tell by what rule a key was made. Only values of one rule are compared: another
            column, or file, may spell the same clips otherwise.

    Returns:
        Columns `key` and `text` (the list of values, sorted), sorted by key.
    """
    made = keyed.lazy().filter(pl.col("key").is_not_null()).select("key", *by, text=_VALUE).unique()
    if made.select(pl.col("key").is_unique().all()).collect(engine="in-memory").item():
        return pl.DataFrame(schema={"key": pl.String, "text": pl.List(pl.String)})
    folded = made.group_by("key", *by).agg(pl.col("text").sort()).filter(pl.col("text").list.len() > 1)
    together = folded.group_by("key").agg(pl.col("text").explode().unique().sort()).sort("key")
    return together.collect(engine="in-memory")


def count_folded(folded: pl.DataFrame) -> int:
    """Count the values that share their key with another."""
    return int(folded.get_column("text").list.len().sum())
