"""What each column is to an audit: the target, a signal, or neither and why.

This is decided by names and dtypes alone. Whether a column is made from the target only its values show;
see `leakage`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from polars_materialize.errors import TableError, did_you_mean, listing
from polars_materialize.signal_mix.leakage import is_opinion
from polars_materialize.signal_mix.patterns import matches, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from polars_materialize.signal_mix.families import Family

TARGETS = ("vmaf", "vmaf_score", "mos_raw_0_100", "mos", "dmos", "score")
"""Where a target is looked for, whatever the case."""

Reason = Literal["target", "identity", "bookkeeping", "leakage", "not-numeric"]
"""Why a column is no signal."""

IDENTITY = (
    *("sha", "md5", "hash", "uuid", "timestamp", "manifest", "license", "licence", "url", "uri", "bucket"),
    *("split", "fold", "corpus_version", "filename", "basename"),
)
"""Name parts that make a column an identity, wherever they stand."""

IDENTITY_ENDS = ("src", "id", "path", "key")
"""Name parts that do so at the end only: `src_path` is an identity, `src_width` a width."""

BOOKKEEPING = (
    *("frame_idx", "frame_index", "frame_num", "frame_number", "frame_no", "_runtime_ms", "=runtime_ms"),
    *("elapsed_ms", "=n", "=frame", "=index", "=idx", "=row", "=row_nr", "=unnamed"),
    *("=saliency_status", "=saliency_aggregator", "=saliency_ema_alpha"),
    *("mos_label_status", "mos_label_source"),
)
"""Counters, timings, and what joins of this package note down beside their values."""

BESIDE_SCORE = ("_status", "_runtime_ms", "_frames", "_source")
"""The ends of the columns that a second opinion has beside `_score`."""


@dataclass(frozen=True)
class Roles:
    """What the columns of one table are.

    Attributes:
        target: The target, if there is one.
        numeric: The columns that hold numbers, in the table's order.
        signals: Those of them that are signals.
        excluded: Every other column, and why it is no signal.
        families: The columns of each family.
        warnings: What a user should know of how this was decided.
    """

    target: str | None
    numeric: list[str]
    signals: list[str]
    excluded: dict[str, Reason]
    families: dict[str, list[str]]
    warnings: list[str]

    @property
    def analysed(self) -> list[str]:
        """The columns whose values are looked at: signals, the target, and opinions."""
        others = {name for name, why in self.excluded.items() if why in ("target", "leakage")}
        known = set(self.signals) | others
        return [name for name in self.numeric if name in known]


def is_number(dtype: pl.DataType) -> bool:
    """Whether a dtype holds numbers; booleans count as 0 and 1.

    Example:
        >>> is_number(pl.Decimal(10, 2)), is_number(pl.Boolean()), is_number(pl.String())
        (True, True, False)
    """
    return dtype.is_numeric() or dtype == pl.Boolean()


def choose_target(
    schema: Mapping[str, pl.DataType], asked: str | None, table: str
) -> tuple[str | None, list[str]]:
    """The column that signals are to explain, and what to warn of.

    Args:
        schema: The table's.
        asked: The target that was asked for, if any. A table without it has no target.
        table: What to call the table in an error.

    Raises:
        TableError: If the asked one holds no numbers.
    """
    if asked is not None:
        if asked not in schema:
            hint = did_you_mean(asked, schema)
            return None, [f"no target column {asked!r}, so there is nothing to correlate with{hint}"]
        if not is_number(schema[asked]):
            numeric = [name for name, dtype in schema.items() if is_number(dtype)]
            problem = f"target column {asked!r} is {schema[asked]}; expected numbers"
            raise TableError(table, f"{problem}; the numeric columns are {listing(numeric)}")
        return asked, []
    warnings: list[str] = []
    for wanted in TARGETS:
        for name, dtype in schema.items():
            if name.lower() != wanted:
                continue
            if is_number(dtype):
                return name, warnings
            warnings.append(
                f"column {name!r} has the name of a target, but is {dtype}, so it was passed over"
            )
    warnings.append(
        f"no target column ({' '.join(TARGETS)}), so there is nothing to correlate with; name one"
    )
    return None, warnings


def second_opinions(names: Iterable[str]) -> set[str]:
    """The columns of second opinions, which this package writes five at a time under any prefix.

    Example:
        >>> columns = [f"nr_x_{part}" for part in ("score", "status", "runtime_ms", "frames", "source")]
        >>> sorted(second_opinions([*columns, "vmaf_score"])) == sorted(columns)
        True
    """
    known = set(names)
    found = set()
    for name in known:
        stem = name.removesuffix("_score")
        group = {f"{stem}{end}" for end in BESIDE_SCORE}
        if stem != name and group <= known:
            found |= {name, *group}
    return found


def why_no_signal(name: str, joined: set[str]) -> Reason | None:
    """Why a column is no signal by its name alone, if it is none.

    Args:
        name: The column.
        joined: The columns that are known to be of second opinions.

    Example:
        >>> [why_no_signal(name, set()) for name in ("clip_id", "src_width", "frame_idx", "MOS", "psnr_y")]
        ['identity', None, 'bookkeeping', 'leakage', None]
    """
    if any(matches(pattern, name) for pattern in BOOKKEEPING):
        return "bookkeeping"
    if (name in joined or matches("second_opinion", name)) and name.endswith(BESIDE_SCORE):
        return "bookkeeping"
    ends = any(matches(f"_{end}", name) or matches(f"={end}", name) for end in IDENTITY_ENDS)
    if ends or not parts_of(name) or any(matches(pattern, name) for pattern in IDENTITY):
        return "identity"
    return "leakage" if name not in joined and is_opinion(name) else None


def decide_roles(
    schema: Mapping[str, pl.DataType], families: Sequence[Family], *, target: str | None, table: str
) -> Roles:
    """What each column is, by its name and dtype.

    Columns that name identities belong to no family, whatever else their name holds: `content_id` says
    nothing of the content. Bookkeeping belongs to its family, but never counts as numbers of it.
    """
    chosen, warnings = choose_target(schema, target, table)
    joined = second_opinions(schema)
    numeric = [name for name, dtype in schema.items() if is_number(dtype)]
    excluded: dict[str, Reason] = {}
    for name, dtype in schema.items():
        why = "target" if name == chosen else why_no_signal(name, joined)
        if why in (None, "leakage") and not is_number(dtype):
            why = "not-numeric"
        if why is not None:
            excluded[name] = why
    members: dict[str, list[str]] = {}
    for family in families:
        members[family.name] = [
            name
            for name in schema
            if excluded.get(name) != "identity"
            and (family.has(name) or (name in joined and family.has("second_opinion")))
        ]
    return Roles(
        target=chosen,
        numeric=numeric,
        signals=[name for name in numeric if name not in excluded],
        excluded=excluded,
        families=members,
        warnings=warnings,
    )
