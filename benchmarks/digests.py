"""Digests of tables: `python -m benchmarks.digests` answers with one for each line of standard input.

A digest is one sum of hashes, over rows (whatever their order), over rows with their places, and over each
column. Hashes are of values, not of types: all numbers count as Float64 rounded to six decimals (the corpora
hold no finer ones), NaN as null, text of any type as text. Columns may stand in any order.
"""

from __future__ import annotations

import functools
import glob
import json
import operator
import sys
import zlib
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

LOW_BITS = 0xFFFF_FFFF
"""Sums of so many bits overflow for no table here."""


def digest(pattern: str, given: Sequence[str]) -> dict[str, Any]:
    """The fields of a `benchmarks.check.Digest` of all files that match a pattern, as one table."""
    paths = sorted(glob.glob(pattern))  # noqa: PTH207 - the pattern is absolute
    if not paths:
        raise FileNotFoundError(pattern)
    if paths[0].endswith(".jsonl"):
        frame = pl.scan_ndjson(paths, infer_schema_length=None)
    else:
        frame = pl.scan_parquet(paths)
    schema = frame.collect_schema()
    names = sorted(schema)
    hashes = frame.select(_hash(name, schema[name]).alias(name) for name in names).with_row_index(" place")
    rows = _mix(names), _mix(given or names)
    place = pl.col(" place").hash(seed=1)
    sums = {
        "all": rows[0].hash(),
        "all_ordered": (rows[0] ^ place).hash(),
        "given": rows[1].hash(),
        "given_ordered": (rows[1] ^ place).hash(),
        **{f"column {name}": pl.col(name) for name in names},
    }
    found = (
        hashes.select(pl.len().alias("rows"), *(_sum(value).alias(name) for name, value in sums.items()))
        .collect(engine="streaming")
        .row(0, named=True)
    )
    columns = {name: found.pop(f"column {name}") for name in names}
    return {"columns": columns, **found}


def _hash(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column's hashes; the name is in them, so that two columns cannot be swapped."""
    column = pl.col(name)
    if dtype.is_numeric():
        # Adding zero makes a negative zero, which JSON writers spell differently, a plain one.
        column = column.cast(pl.Float64).fill_nan(None).round(6) + 0.0
    else:
        column = column.cast(pl.String)
    return column.hash(seed=zlib.crc32(name.encode()))


def _mix(names: Sequence[str]) -> pl.Expr:
    parts = [pl.col(name) for name in names]
    while len(parts) > 10:  # a shallow tree: hundreds of columns in one chain are slow to plan
        parts = [functools.reduce(operator.xor, parts[i : i + 10]) for i in range(0, len(parts), 10)]
    return functools.reduce(operator.xor, parts)


def _sum(hashes: pl.Expr) -> pl.Expr:
    return (hashes & LOW_BITS).sum()


def main() -> None:
    """Answers each line of standard input, a pattern and the input's columns, with a digest."""
    for line in sys.stdin:
        print(json.dumps(digest(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
