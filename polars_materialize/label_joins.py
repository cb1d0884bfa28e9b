"""MOS labels joined onto feature tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from polars_materialize import keys
from polars_materialize.arguments import checked
from polars_materialize.errors import MatchRateError, OptionError
from polars_materialize.folding import find_folded
from polars_materialize.guards import Coverage, check_match_rate, low_match_rate, refuse_folding
from polars_materialize.hints import Hints, Keyed, likely_keys
from polars_materialize.joins import (
    SOURCE,
    Frame,
    Guards,
    TableSide,
    check_choices,
    collected,
    count_keys,
    join,
    sum_rows,
)
from polars_materialize.labels import (
    EXTRAS,
    KEY_RULE,
    KeyedLabels,
    complete_labels,
    key_labels,
    parse_scale,
)
from polars_materialize.names import is_pattern
from polars_materialize.options import LabelOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from polars_materialize.formats import KeyNormalize
    from polars_materialize.reports import KeyCounts, LabelSource


@dataclass(frozen=True)
class LabelEvidence:
    """Labels for the distinct key values of one table, checked.

    Attributes:
        frame: One row for each key value: the value, under the key column's name, and the new columns.
        rows: The table's rows.
        matched_rows: Its rows with a label.
        total_keys: Its distinct keys.
        matched_keys: Its distinct keys with a label.
        unused_labels: The labels that met none of them.
        keys: The counts of the table's side.
        warnings: What a reader should know before the table is used, in words.
    """

    frame: pl.DataFrame
    rows: int
    matched_rows: int
    total_keys: int
    matched_keys: int
    unused_labels: int
    keys: KeyCounts
    warnings: list[str]

    @property
    def match_rate(self) -> float:
        """The share of the table's distinct keys with a label; 1 for a table without rows."""
        return Coverage(self.matched_keys, self.total_keys, self.rows).rate


@dataclass(frozen=True)
class LabelPlan:
    """A join of labels onto one table: everything but the table's rows.

    Attributes:
        side: The feature table's side.
        options: The join's options.
        long: The labels as they were read.
        labels: One label a key.
        rows: The `text` and the `key` of every row of the label files.
        sources: What each label file gave.
        label_keys: The counts of the labels' side.
    """

    side: TableSide
    options: LabelOptions
    long: pl.DataFrame
    labels: pl.DataFrame
    rows: pl.DataFrame
    sources: list[LabelSource]
    label_keys: KeyCounts

    def evidence(self, values: pl.DataFrame) -> LabelEvidence:
        """Attaches labels to distinct key values, and refuses too low a match rate.

        Raises:
            FoldingError: If one key is made of different values, without `allow_folding`.
            MatchRateError: If fewer than `min_match_rate` of the distinct keys have a label.
        """
        keyed = self.side.keyed(values)
        hints = self._hints(keyed)
        folded = self.side.find_folded(keyed)
        if folded.height and not self.options.allow_folding:
            refuse_folding(folded, rule=self.side.rule, column=self.side.key, hint=hints.suggest("labels"))
        status = self.options.status_column
        labels = self.labels.select(
            "key", *(c for c in self.side.columns if c != status), matched=pl.lit(True)
        )
        wide = keyed.join(
            labels,
            on="key",
            how="left",
            nulls_equal=False,
            coalesce=True,
            maintain_order="left",
            validate="m:1",
        ).with_columns(pl.col("matched").fill_null(value=False))
        matched = wide.filter("matched")
        counts = count_keys(keyed, folded)
        matched_keys = matched.get_column("key").n_unique()
        coverage = Coverage(matched_keys, counts.distinct_keys, counts.rows)
        least = self.options.min_match_rate
        if coverage.rate < least:
            hint = hints.suggest("labels")
            raise MatchRateError(
                *low_match_rate(wide, self.labels, coverage, least=least, noun="label", hint=hint)
            )
        state = pl.when("matched").then(pl.lit("ok")).otherwise(pl.lit("missing-label"))
        new = {name: pl.col(name) for name in self.side.columns if name != status}
        new[status] = state
        return LabelEvidence(
            frame=wide.select(
                pl.col("value").alias(self.side.key), *(new[name].alias(name) for name in self.side.columns)
            ),
            rows=counts.rows,
            matched_rows=sum_rows(matched),
            total_keys=counts.distinct_keys,
            matched_keys=matched_keys,
            unused_labels=self.labels.height - matched_keys,
            keys=counts,
            warnings=[] if matched_keys or not counts.rows else [f"labels: {hints.explain('labels')}"],
        )

    def _hints(self, keyed: pl.DataFrame) -> Hints:
        """What would make both sides meet, if they do not."""

        def both(keyed: pl.DataFrame, rows: pl.DataFrame, labels: pl.DataFrame) -> Keyed:
            has_label = pl.col("key").is_in(labels.get_column("key").implode())
            return Keyed(keyed, {"labels": rows.filter(has_label)})

        def make(rule: KeyNormalize) -> Keyed:
            found, _ = _key_labels(self.long, rule, allow_folding=self.options.allow_folding)
            return both(keyed.with_columns(key=self.side.make_key(rule)), found.rows, found.labels)

        return Hints(both(keyed, self.rows, self.labels), make, "label")


@checked
def join_labels(
    frame: Frame,
    labels: pl.LazyFrame | pl.DataFrame,
    *,
    feature_key_column: str | None = None,
    key_normalize: KeyNormalize = "auto",
    feature_key_regex: str | None = None,
    min_match_rate: float = 0.95,
    allow_folding: bool = False,
    status_column: str = "mos_label_status",
    overwrite: bool = False,
    guards: Guards = "lazy",
) -> Frame:
    """Joins mean opinion scores onto a feature table, by clip key.

    The labels are collected now, since their files decide the new columns. Of a lazy table only the schema is
    read; its guards fire when the result is collected. The number and the order of rows never change, and
    neither do other columns. Keys may repeat (frames of a clip).

    Args:
        frame: The feature table, one row a clip or a frame.
        labels: Labels as `scan_labels` gives them, or a frame of your own with at least `key` and `mos`.
        feature_key_column: The table's key column; else the first of `keys.LABEL_KEYS` that it has.
        key_normalize: `raw`; `basename`; `stem`, the basename less a media suffix; `auto`, basename where a
            column's name speaks of files, else raw. For both sides, `auto` by each side's own column.
        feature_key_regex: What to take from a normalised feature key: the first group of the first match, or
            all of the match if the pattern has no group. No match is no key.
        min_match_rate: The least share of the table's distinct keys that must have a label, 0 to 1.
        allow_folding: Whether different values of the key column, or of the label files, may become one key,
            whose label they share.
        status_column: The name of the status column.
        overwrite: Replace columns that the table already has, in place.
        guards: When the keys of a lazy table are looked at: `lazy`, when the result is collected; `now`, at
            once, which gives a plan without Python in it, to be serialised and sent to another engine.

    Returns:
        The table with `mos` (Float64, 1 to 5), `mos_raw_0_100` (Float64, 0 to 100), the status (String: `ok`,
        `missing-label`), `mos_label_source` (String; the label file), and of the extras those that the
        labels have: `corpus`, `corpus_version` (String), `mos_n_ratings` (Int64), `mos_std_dev` (Float64, in
        the label file's own scale), `split` (String).

        In Polars' streaming engine a sum over a slice of a lazy result may be that of other rows; see "Slices
        of a lazy join" in `docs/concepts.md`.

    Raises:
        OptionError: If an option is not valid, or `labels` is not a frame of labels.
        KeyColumnError: If the table has no key column.
        ColumnExistsError: If it has one of the new columns, without `overwrite`.
        LabelError: If a label with a key has no MOS, or one outside of its scale.
        DuplicateKeyError: If one key has different labels.
        FoldingError: If one key is made of different values of the label files, or, on collecting, of
            different feature values, without `allow_folding`.
        MatchRateError: On collecting, if too few keys have a label.

    Warns:
        MatchWarning: On collecting, if no row has a label and `min_match_rate` allows that.

    Example:
        >>> features = pl.LazyFrame({"clip_id": ["a", "a", "b"], "vmaf": [90.0, 91.0, 40.0]})
        >>> labels = pl.DataFrame({"key": ["a", "b"], "mos": [4.2, 1.5]})
        >>> joined = features.pipe(join_labels, labels)
        >>> joined.select("clip_id", "mos", "mos_raw_0_100").collect().rows()
        [('a', 4.2, 80.0), ('a', 4.2, 80.0), ('b', 1.5, 12.5)]
    """
    options = LabelOptions(
        feature_key_column=feature_key_column,
        key_normalize=key_normalize,
        feature_key_regex=feature_key_regex,
        min_match_rate=min_match_rate,
        allow_folding=allow_folding,
        status_column=status_column,
        overwrite=overwrite,
    )
    # A lazy table is not looked at before it is collected, not even by an error.
    rows = frame.lazy if isinstance(frame, pl.DataFrame) else None
    plan = partial(plan_labels, labels=labels, options=options, table="the feature table", rows=rows)
    return join(frame, plan, guards)


def plan_labels(
    schema: pl.Schema,
    labels: pl.LazyFrame | pl.DataFrame,
    options: LabelOptions,
    *,
    table: str,
    rows: Callable[[], pl.LazyFrame] | None = None,
) -> LabelPlan:
    """Checks all of a join that the table's schema and the labels alone can tell.

    Args:
        schema: The feature table's.
        labels: The labels; collected here.
        options: The join's options.
        table: What to call the feature table in an error.
        rows: Gives the feature table, where an error may look at it.
    """
    check_label_options(options)
    long = complete_labels(collected(labels))
    keyed, folded = _key_labels(long, options.key_normalize, allow_folding=options.allow_folding)
    one_each = _ratings_as_integers(keyed.labels).with_columns(mos_label_source=pl.col("source").cast(SOURCE))
    extras = {name: one_each.schema[name] for name in EXTRAS if one_each.get_column(name).count()}
    side = TableSide.of(
        schema,
        table,
        candidates=keys.LABEL_KEYS,
        asked=options.feature_key_column,
        option="feature_key_column",
        key_normalize=options.key_normalize,
        key_regex=options.feature_key_regex,
        columns={
            "mos": pl.Float64(),
            "mos_raw_0_100": pl.Float64(),
            options.status_column: pl.String(),
            "mos_label_source": SOURCE,
            **extras,
        },
        overwrite=options.overwrite,
        hint=partial(
            likely_keys,
            rows,
            lambda: one_each.get_column("key"),
            key_normalize=options.key_normalize,
            key_regex=options.feature_key_regex,
        ),
    )
    counts = count_keys(keyed.rows.with_columns(rows=pl.lit(1)), folded)
    return LabelPlan(side, options, long, one_each, keyed.rows, keyed.sources, counts)


def _key_labels(
    long: pl.DataFrame, rule: KeyNormalize, *, allow_folding: bool
) -> tuple[KeyedLabels, pl.DataFrame]:
    """Make one label a key, and find the keys of several values.

    Raises:
        FoldingError: If there are such keys, without `allow_folding`.
        LabelFileError: If there is no label.
    """
    keyed = key_labels(long, rule)
    folded = find_folded(keyed.rows, KEY_RULE)
    if folded.height and not allow_folding:
        _refuse_folding(keyed, folded, rule)
    return keyed, folded


def _refuse_folding(keyed: KeyedLabels, folded: pl.DataFrame, key_normalize: KeyNormalize) -> None:
    """Refuse labels of which one key would be made of different values, though they are equal."""
    own = keyed.rows.filter(pl.col("key") == folded.item(0, "key"))
    column, rule, regex = own.select(KEY_RULE).row(0)
    how = f"key_normalize {rule or key_normalize!r}"
    how += f" and the key pattern {regex!r}" if regex else ""
    refuse_folding(folded, rule=how, column=column, hint="", of=" of the labels")


def _ratings_as_integers(labels: pl.DataFrame) -> pl.DataFrame:
    """Numbers of ratings as Int64, unless one of them is a fraction or beyond it."""
    ratings = labels.get_column("mos_n_ratings").drop_nulls()
    if ((ratings == ratings.floor()) & (ratings.abs() <= 2.0**53)).all():
        return labels.with_columns(pl.col("mos_n_ratings").cast(pl.Int64))
    return labels


def check_label_options(options: LabelOptions) -> None:
    """Refuses option values that no table could make right.

    Raises:
        OptionError: Names the option and what was expected.
    """
    check_choices(options, {"key_normalize": keys.KEY_NORMALIZE})
    parse_scale(options.label_scale)
    for option in ("feature_key_regex", "label_key_regex"):
        pattern = getattr(options, option)
        if pattern is not None:
            keys.check_regex(pattern, option=option)
    check_match_rate(options.min_match_rate)
    taken = {"mos", "mos_raw_0_100", "mos_label_source", *EXTRAS}
    name = options.status_column
    if not name.strip() or name in taken or is_pattern(name):
        raise OptionError(
            f"status_column: {options.status_column!r}; expected a column name of its own",
            option="status_column",
        )
