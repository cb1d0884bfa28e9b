"""The one idea behind every join: evidence joined onto a table by distinct key values.

A feature table is long and wide, the evidence small. So no join here touches the table's keys row by row:
it takes the *distinct values* of the key column with their row counts, makes keys of those, attaches the
evidence to them, and has there every count, guard and policy. What remains is one join of the untouched
table on its own raw key column.

In a lazy plan the small side is a node that collects the distinct values, checks, and raises, when the plan
is collected. Measured with Polars 2.1: it runs, on all rows, under a later `filter`, `head` or `select` of
other columns, in both engines; it does not where the result needs no row of the table (`head(0)`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, get_args

import polars as pl

from polars_materialize import guards, keys
from polars_materialize.errors import OptionError, no_panics
from polars_materialize.folding import count_folded, find_folded
from polars_materialize.names import refuse_patterns, spare_names
from polars_materialize.notices import Caller
from polars_materialize.reports import KeyCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from polars_materialize.formats import KeyNormalize

Guards = Literal["lazy", "now"]
"""When a lazy table's keys are looked at: when the result is collected, or when it is joined."""
Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

SOURCE = pl.String()
"""Plain text, since not every reader of Parquet, Arrow or Delta reads a dictionary as text."""


@dataclass(frozen=True)
class TableSide:
    """The feature table's side of a join: its key column, and the columns that it gets.

    Attributes:
        schema: The table's schema.
        key: Its key column.
        name: What to call it in an error.
        key_normalize: How its keys are normalised.
        key_regex: What is taken from a key then.
        columns: The new columns.
        drops: Whether rows may be dropped.
    """

    schema: pl.Schema
    key: str
    name: str
    key_normalize: KeyNormalize
    key_regex: str | None
    columns: Mapping[str, pl.DataType]
    drops: bool = False

    @classmethod
    def of(
        cls,
        schema: pl.Schema,
        name: str,
        *,
        candidates: Iterable[str],
        asked: str | None,
        option: str = "key_column",
        key_normalize: KeyNormalize,
        key_regex: str | None = None,
        columns: Mapping[str, pl.DataType],
        overwrite: bool,
        drops: bool = False,
        hint: Callable[[], str] = str,
    ) -> TableSide:
        """Finds the key column, and refuses what the schema alone shows to be wrong.

        Args:
            schema: The table's schema.
            name: What to call it in an error.
            candidates: Names of key columns, best first.
            asked: The column that the user named, if any.
            option: What names it.
            key_normalize: How its keys are normalised.
            key_regex: What is taken from a key then.
            columns: The new columns.
            overwrite: Whether they may replace columns of the table.
            drops: Whether rows may be dropped.
            hint: Says which columns look like a key, if the table has none of the known names.

        Raises:
            KeyColumnError: If the table has no key column.
            ColumnExistsError: If it has one of the new columns, without `overwrite`.
        """
        refuse_patterns(schema, name)
        key = keys.infer_key_column(
            schema.names(), candidates, asked=asked, table=name, option=option, hint=hint
        )
        keys.key_text(pl.col(key), schema[key], name=key, table=name)
        guards.refuse_existing(schema.names(), columns, overwrite=overwrite, key=key)
        return cls(schema, key, name, key_normalize, key_regex, columns, drops)

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that rows are known by: one."""
        return (self.key,)

    @property
    def _raw_key(self) -> pl.Expr:
        """The key column's values; NaN, which is no key, as null.

        Polars 2.1 joins NaN to NaN, but not in its in-memory engine if one side has a single row.
        """
        column = pl.col(self.key)
        return column.fill_nan(None) if self.schema[self.key].is_float() else column

    @property
    def evidence_schema(self) -> pl.Schema:
        """The schema of the evidence: the key column's raw values, and the new columns."""
        return pl.Schema({self.key: self.schema[self.key], **self.columns})

    def distinct_values(self, lf: pl.LazyFrame) -> pl.LazyFrame:
        """The distinct values of the key column, and how many rows have each: `value`, `rows`."""
        values = lf.select(value=self._raw_key)
        return values.group_by("value").agg(rows=pl.len().cast(pl.Int64))

    def make_key(self, key_normalize: KeyNormalize) -> pl.Expr:
        """Build the key of a `text`, by the table's rule or by another one."""
        rule = keys.resolve_normalize(key_normalize, self.key)
        return keys.extract_key(
            keys.normalize_key(pl.col("text"), rule), self.key_regex, option="feature_key_regex"
        )

    def keyed(self, values: pl.DataFrame) -> pl.DataFrame:
        """Distinct values with their `text` and their `key`, in the order of the text."""
        text = keys.key_text(pl.col("value"), self.schema[self.key], name=self.key, table=self.name)
        return (
            values.lazy()
            .with_columns(text=text)
            .with_columns(key=self.make_key(self.key_normalize))
            .sort("text", "value", nulls_last=True, maintain_order=True)
            .collect(engine="in-memory")
        )

    @property
    def rule(self) -> str:
        """What makes keys, in words."""
        rule = keys.resolve_normalize(self.key_normalize, self.key)
        how = f"key_normalize {self.key_normalize!r}"
        how += f" ({rule})" if self.key_normalize == "auto" else ""
        return how if self.key_regex is None else f"{how} and feature_key_regex {self.key_regex!r}"

    def find_folded(self, keyed: pl.DataFrame) -> pl.DataFrame:
        """Find keys of several different values; see `folding.find_folded`."""
        is_text = self.key_regex is None and keys.resolve_normalize(self.key_normalize, self.key) == "raw"
        return find_folded(keyed.clear() if is_text else keyed)  # to look at every value takes its time

    def attach(self, lf: pl.LazyFrame, evidence: pl.LazyFrame) -> pl.LazyFrame:
        """The table with the new columns; replaced ones in their old places."""
        names = list(dict.fromkeys([*self.schema, *self.columns]))
        kept = lf.drop([name for name in self.columns if name in self.schema])
        [value] = spare_names(names, 1)
        joined = kept.join(
            evidence.rename({self.key: value}),
            left_on=self._raw_key,
            right_on=value,
            how="inner" if self.drops else "left",
            nulls_equal=True,
            coalesce=False,
            maintain_order="left",
            validate="m:m",  # the evidence is unique by construction, and checking costs a pass
        )
        return joined.select(names)


class Side(Protocol):
    """A table's side of a join: what its rows are known by, and the columns that they get."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that rows are known by."""

    @property
    def columns(self) -> Mapping[str, pl.DataType]:
        """The new columns."""

    @property
    def drops(self) -> bool:
        """Whether rows may be dropped."""

    @property
    def evidence_schema(self) -> pl.Schema:
        """The schema of the evidence: what rows are known by, and what was found."""

    def distinct_values(self, lf: pl.LazyFrame) -> pl.LazyFrame:
        """What rows are known by, each once, and how many rows have each."""

    def attach(self, lf: pl.LazyFrame, evidence: pl.LazyFrame) -> pl.LazyFrame:
        """The table with the new columns."""


class Evidence(Protocol):
    """Evidence for the distinct values of one table, checked and counted."""

    @property
    def frame(self) -> pl.DataFrame:
        """One row for each value that keeps its rows; see `Side.evidence_schema`."""

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader should know before the table is used."""


class Plan(Protocol):
    """A join onto one table: everything but the table's rows."""

    @property
    def side(self) -> Side:
        """The feature table's side."""

    def evidence(self, values: pl.DataFrame) -> Evidence:
        """Attaches evidence to distinct key values, and applies every guard and policy there."""


def join(frame: Frame, plan_of: Callable[[pl.Schema], Plan], when: Guards = "lazy") -> Frame:
    """Joins evidence onto a frame; the guards of a lazy one fire when it is collected, or now.

    Raises:
        OptionError: If `when` is neither `lazy` nor `now`.
    """
    if when not in get_args(Guards):
        raise OptionError(f"guards: {when!r}; expected one of {' '.join(get_args(Guards))}", option="guards")
    lf = frame.lazy()
    caller = Caller.find()
    with no_panics():
        plan = plan_of(lf.collect_schema())
        values = plan.side.distinct_values(lf)

        @no_panics()
        def evidence() -> pl.DataFrame:
            found = plan.evidence(values.collect())
            caller.warn(found.warnings)
            return found.frame

        if isinstance(frame, pl.DataFrame):
            return plan.side.attach(lf, evidence().lazy()).collect()
        if when == "now":
            return plan.side.attach(lf, evidence().lazy())
    # Hidden from the optimiser, which would else keep all of a table that is itself a join in memory: it
    # would serve the key pass and the join from one cache (1.2 GB became 2.6 GB at 10 million rows).
    return plan.side.attach(lf, pl.defer(evidence, schema=plan.side.evidence_schema))


def collected(frame: pl.LazyFrame | pl.DataFrame) -> pl.DataFrame:
    """A frame as it is, or what a lazy one gives."""
    return frame.collect() if isinstance(frame, pl.LazyFrame) else frame


def check_choices(options: object, choices: Mapping[str, Iterable[str]]) -> None:
    """Refuses options with a value that is none of their choices.

    Raises:
        OptionError: Names the option and what was expected.
    """
    for option, known in choices.items():
        value = getattr(options, option)
        if value not in tuple(known):
            raise OptionError(f"{option}: {value!r}; expected one of {' '.join(known)}", option=option)


KEY_COUNTS = {
    "rows": pl.col("rows").sum(),
    "rows_without_key": pl.col("rows").filter(pl.col("key").is_null()).sum(),
    "distinct_values": pl.col("text").drop_nulls().n_unique(),
    "distinct_keys": pl.col("key").drop_nulls().n_unique(),
}
"""The counts of one side of a join, given its values' `text`, their `key`, and their `rows`."""


def count_keys(keyed: pl.DataFrame, folded: pl.DataFrame) -> KeyCounts:
    """Count one side of a join; see `KEY_COUNTS` and `folding.find_folded`."""
    return KeyCounts(**keyed.select(**KEY_COUNTS).row(0, named=True), folded_values=count_folded(folded))


def sum_rows(keyed: pl.DataFrame) -> int:
    """How many rows of the table distinct values stand for."""
    return int(keyed.get_column("rows").sum())
