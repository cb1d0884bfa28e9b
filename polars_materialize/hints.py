"""What may keep the keys of two sides apart that do not meet, tried with the code that joins them.

A hint is followed, so it must not lead to wrong data. Each rule is tried on all keys of both sides before it
is shown. A rule is passed over if it makes one key of different values on either side, if evidence or matches
that are there now would be lost, or if it would join files of different folders.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from polars_materialize import keys
from polars_materialize.errors import KeyColumnError, MaterializeError, counted, listing
from polars_materialize.folding import find_folded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from polars_materialize.formats import KeyNormalize

SHOWN = 3
"""How many keys of each side a hint shows."""

RULES: tuple[KeyNormalize, ...] = ("basename", "stem", "raw", "auto")
"""The rules that are tried; of those that help as much, the first is shown."""

SPELLINGS: Mapping[str, pl.Expr] = {
    "if they were spelled in lower case": pl.col("key").str.to_lowercase(),
    "if they had no leading zeros": pl.col("key").str.replace(r"^0+(\d+)$", "${1}"),
}
"""Other spellings of keys, which no option makes."""


LIKELY = 0.5
"""The least share of a column's values that are keys of the other side, if the column looks like a key."""

FIRST = 10_000
"""How many rows of a table are looked at for that."""

LONG = 1_000
"""Integers below this are as likely to number frames as to name clips."""


def likely_keys(
    rows: Callable[[], pl.LazyFrame] | None,
    evidence: Callable[[], pl.Series],
    key_normalize: KeyNormalize,
    key_regex: str | None = None,
) -> str:
    """Say which columns of a table without a key column look like one; no text if none does.

    Args:
        rows: Gives the table, if it may be looked at.
        evidence: Gives the keys of the evidence.
        key_normalize: How the table's keys are normalised.
        key_regex: What is taken from a key then.
    """
    if rows is None:
        return ""
    lf, made = rows(), {}
    for name, dtype in lf.collect_schema().items():
        with contextlib.suppress(KeyColumnError):
            text = keys.key_text(pl.col(name), dtype, name=name, table="")
            key = keys.normalize_key(text, keys.resolve_normalize(key_normalize, name))
            key = keys.extract_key(key, key_regex, option="feature_key_regex")
            made[name] = pl.when(pl.col(name).min() >= LONG).then(key) if dtype.is_numeric() else key
    first = lf.head(FIRST).select(**made).collect()
    known, said = evidence().implode(), []
    for column in first.iter_columns():
        distinct = column.drop_nulls().unique()
        met = int(distinct.is_in(known).sum())
        if met and met >= LIKELY * distinct.len():
            said.append(f"{column.name!r} ({met:,} of its first {counted(distinct.len(), 'key')})")
    return f"; keys of the other side are in {', '.join(said)}" if said else ""


@dataclass(frozen=True)
class Keyed:
    """Both sides of a join with their keys: frames with `text` and `key`.

    Attributes:
        table: The distinct values of the table.
        evidence: The rows of each kind of evidence that a key was made of: of each scorer, say.
    """

    table: pl.DataFrame
    evidence: Mapping[str, pl.DataFrame]

    @cached_property
    def keys(self) -> pl.Series:
        """The distinct keys of the table."""
        return self.table.get_column("key").drop_nulls().unique()

    @cached_property
    def met(self) -> dict[str, int]:
        """How many keys of the table each kind of evidence has."""
        return {
            name: int(self.keys.is_in(side.get_column("key").drop_nulls().unique().implode()).sum())
            for name, side in self.evidence.items()
        }

    def is_like(self, other: Keyed) -> bool:
        """Whether two ways to make keys give the same keys."""
        pairs = [
            (self.table, other.table),
            *((side, other.evidence[name]) for name, side in self.evidence.items()),
        ]
        return all(
            one.height == two.height and one.get_column("key").eq_missing(two.get_column("key")).all()
            for one, two in pairs
        )

    def spelled(self, key: pl.Expr) -> Keyed:
        """Build both sides with their keys in another spelling."""
        evidence = {name: side.with_columns(key=key) for name, side in self.evidence.items()}
        return Keyed(self.table.with_columns(key=key), evidence)

    @property
    def folds(self) -> bool:
        """Whether one key is made of different values on a side."""
        return any(find_folded(side).height for side in (self.table, *self.evidence.values()))

    @property
    def crosses_folders(self) -> bool:
        """Whether a value of the table meets evidence of a file in another folder."""
        own = _with_folders(self.table, "own")
        for side in self.evidence.values():
            pairs = own.join(
                _with_folders(side, "other"),
                on="key",
                how="inner",
                nulls_equal=False,
                coalesce=True,
                maintain_order="none",
                validate="m:m",
            )
            differ = ~(_ends_with("own", "other") | _ends_with("other", "own"))
            if pairs.select(differ.any()).collect(engine="in-memory").item():
                return True
        return False


_FOLDER = (
    pl.concat_str(pl.lit("/"), pl.col("text").str.replace_all(r"[/\\]+", "/").str.strip_chars_end("/"))
    .str.replace_all(r"(?:/\.)+/", "/")
    .str.extract(r"(?s)^/?(/.+)/")
)
"""The folder that a text names, with a slash before it; null if it names none."""


def _with_folders(side: pl.DataFrame, name: str) -> pl.LazyFrame:
    """The keys that are made of files in folders; others meet none that differs."""
    return side.lazy().select("key", _FOLDER.alias(name)).filter(pl.col(name).is_not_null())


def _ends_with(name: str, other: str) -> pl.Expr:
    return pl.col(name).str.ends_with(pl.col(other))


@dataclass(frozen=True)
class Hints:
    """What would make two sides meet.

    Attributes:
        now: Both sides as they are joined.
        make: Makes the keys of both sides by another rule; raises where the join would.
        noun: What the evidence is called.
    """

    now: Keyed
    make: Callable[[KeyNormalize], Keyed]
    noun: str

    def suggest(self, name: str) -> str:
        """Say what would make more keys of the table meet a kind of evidence; no text if nothing would.

        Where the table's keys fold as they are, its matches do not count.
        """
        best, most, total = "", self._met.get(name, 0), 0
        for words, keyed in self._sound:
            if keyed.met[name] > most:
                best, most, total = words, keyed.met[name], keyed.keys.len()
        return f"{best} {most:,} of {counted(total, 'key')} would match" if best else ""

    def explain(self, name: str) -> str:
        """Show keys of both sides of which none meet, and say what would make them."""
        sides = self.now.keys.sort(), self.now.evidence[name].get_column("key").unique().sort()
        own, others = (listing(side.head(SHOWN), total=side.len()) for side in sides)
        if not own:
            return "no row has a key"
        hint = self.suggest(name)
        text = f"no key is on both sides: rows have {own}, {self.noun}s {others}"
        return f"{text}; {hint}" if hint else text

    @cached_property
    def _met(self) -> dict[str, int]:
        """The matches that no rule may lose."""
        return {} if find_folded(self.now.table).height else self.now.met

    @cached_property
    def _sound(self) -> list[tuple[str, Keyed]]:
        """What would join both sides, and nothing that does not belong together, in words."""
        others = ((words, keyed) for words, keyed in self._others() if not keyed.is_like(self.now))
        return [(words, keyed) for words, keyed in others if self._is_sound(keyed)]

    def _others(self) -> Iterator[tuple[str, Keyed]]:
        for rule in RULES:
            try:
                yield f"by key_normalize {rule!r}", self.make(rule)
            except MaterializeError:  # the join would refuse it
                continue
        for words, key in SPELLINGS.items():
            yield words, self.now.spelled(key)

    def _is_sound(self, keyed: Keyed) -> bool:
        gains = any(keyed.met[name] > self._met.get(name, 0) for name in keyed.met)
        loses = any(met > keyed.met[name] for name, met in self._met.items())
        lost = any(side.height != keyed.evidence[name].height for name, side in self.now.evidence.items())
        return gains and not (loses or lost or keyed.folds or keyed.crosses_folders)
