"""Evidence joined onto tables, by distinct key values.

A feature table is long and wide, the evidence small. So no join here touches the table's keys row by row:
it takes the *distinct values* of the key column with their row counts, makes keys of those, attaches the
evidence to them, and has there every count, guard and policy. What remains is one left join of the
untouched table on its own raw key column.

In a lazy plan the small side is a node that checks and raises when the plan is collected. Measured with
Polars 2.1: it runs, on all rows, under a later `filter`, `head` or `select` of other columns, in both
engines; it does not where the result has no rows by definition (`head(0)`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec
import polars as pl

from polars_materialize import guards, keys
from polars_materialize.errors import BadScoreError, MissingScoreError, OptionError
from polars_materialize.options import KeyNormalize, Policy, ScoreOptions
from polars_materialize.reports import FeatureKeyCounts, KeyCounts, ScorerCounts
from polars_materialize.scores import complete_scores, key_scores, scorer_slugs

if TYPE_CHECKING:
    from collections.abc import Mapping

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

STATUS = pl.Enum(["ok", "bad", "missing"])
SOURCE = pl.Categorical()
"""Text as a dictionary: a tenth of a plain text column's time to write, and it reads as the same text."""


@dataclass(frozen=True)
class Evidence:
    """Evidence for the distinct key values of one table, checked.

    Attributes:
        frame: One row for each key value that keeps its rows: the value, under the key column's name, and
            the new columns.
        input_rows: The table's rows.
        output_rows: Its rows after `drop`.
        competitors: What was joined, by scorer.
        keys: The counts of both sides.
    """

    frame: pl.DataFrame
    input_rows: int
    output_rows: int
    competitors: dict[str, ScorerCounts]
    keys: FeatureKeyCounts


def join_scores(
    frame: Frame,
    scores: pl.LazyFrame | pl.DataFrame,
    *,
    key_column: str | None = None,
    key_normalize: KeyNormalize = "auto",
    missing_policy: Policy = "mark",
    bad_policy: Policy = "mark",
    prefix: str = "second_opinion",
    overwrite: bool = False,
) -> Frame:
    """Joins the scores of no-reference scorers onto a feature table, by clip key.

    The scores are collected now, since their scorers decide the new columns. Of a lazy table only the
    schema is read; its guards fire when the result is collected. The number and the order of rows never
    change, `drop` aside, and neither do other columns. Keys may repeat (frames of a clip).

    Args:
        frame: The feature table, one row a clip or a frame.
        scores: Scores as `scan_scores` gives them, or a frame of your own with at least `scorer`, `key`
            and `score`.
        key_column: The table's key column; else the first of `keys.SCORE_KEYS` that it has.
        key_normalize: `raw`; `basename`; `stem`, the basename less a media suffix; `auto`, basename where a
            column's name speaks of files, else raw. For both sides, except sidecars with a rule of
            their own.
        missing_policy: Rows that lack a scorer: `mark` keeps them, `drop` drops them, `fail` refuses.
        bad_policy: Rows with a score whose status is `bad`: the same.
        prefix: What the names of the new columns begin with.
        overwrite: Replace columns that the table already has, in place.

    Returns:
        The table with five columns for each scorer, scorers sorted:
        `<prefix>_<slug>_score` (Float64; null if missing), `_status` (Enum `ok`, `bad`, `missing`),
        `_runtime_ms` (Float64, milliseconds), `_frames` (Int64; how many frame scores were averaged, 0 for
        a plain score) and `_source` (Categorical; the sidecar).

    Raises:
        OptionError: If an option is not valid, or `scores` is not a frame of scores.
        KeyColumnError: If the table has no key column.
        ColumnExistsError: If it has one of the new columns, without `overwrite`.
        ScorerNameError: If a scorer's name gives no column name, or the same as another's.
        DuplicateKeyError: If a scorer has two scores of one key.
        FoldingError: On collecting, if `auto` would make one key of different feature values.
        MissingScoreError: On collecting, under `missing_policy="fail"`.
        BadScoreError: On collecting, under `bad_policy="fail"`.

    Example:
        >>> features = pl.LazyFrame({"clip_id": ["a", "a", "b"], "vmaf": [90.0, 91.0, 40.0]})
        >>> scores = pl.DataFrame({"scorer": "dover", "key": ["a"], "score": [0.7]})
        >>> joined = features.pipe(join_scores, scores)
        >>> joined.select("clip_id", "second_opinion_dover_score").collect().rows()
        [('a', 0.7), ('a', 0.7), ('b', None)]
    """
    options = ScoreOptions(
        key_column=key_column,
        key_normalize=key_normalize,
        missing_policy=missing_policy,
        bad_policy=bad_policy,
        prefix=prefix,
        overwrite=overwrite,
    )
    lf = frame.lazy()
    plan = plan_scores(lf.collect_schema(), scores, options, table="the feature table")
    evidence = plan.distinct_values(lf).map_batches(
        lambda values: plan.evidence(values).frame, schema=plan.evidence_schema
    )
    joined = plan.attach(lf, evidence)
    return joined.collect() if isinstance(frame, pl.DataFrame) else joined


def plan_scores(
    schema: pl.Schema, scores: pl.LazyFrame | pl.DataFrame, options: ScoreOptions, *, table: str
) -> ScorePlan:
    """Checks all of a join that the table's schema and the scores alone can tell.

    Args:
        schema: The feature table's.
        scores: The scores; collected here.
        options: The join's options.
        table: What to call the feature table in an error.
    """
    check_options(options)
    key = keys.infer_key_column(schema.names(), keys.SCORE_KEYS, asked=options.key_column, table=table)
    keys.key_text(pl.col(key), schema[key], name=key, table=table)
    long = complete_scores(scores.lazy().collect())
    slugs = scorer_slugs(long)
    columns = {
        f"{options.prefix}_{slug}_{part}": dtype for slug in slugs.values() for part, dtype in _PARTS.items()
    }
    guards.refuse_existing(schema.names(), columns, overwrite=options.overwrite, key=key)
    return ScorePlan(
        schema=schema,
        key=key,
        table=table,
        options=options,
        scores=key_scores(long, options.key_normalize),
        slugs=slugs,
        columns=columns,
    )


_PARTS: Mapping[str, pl.DataType] = {
    "score": pl.Float64(),
    "status": STATUS,
    "runtime_ms": pl.Float64(),
    "frames": pl.Int64(),
    "source": SOURCE,
}


def check_options(options: ScoreOptions) -> None:
    """Refuses option values that no table could make right.

    Raises:
        OptionError: Names the option and what was expected.
    """
    choices = {
        "key_normalize": keys.KEY_NORMALIZE,
        "missing_policy": ("mark", "drop", "fail"),
        "bad_policy": ("mark", "drop", "fail"),
    }
    for option, known in choices.items():
        value = getattr(options, option)
        if value not in known:
            raise OptionError(f"{option}: {value!r}; expected one of {' '.join(known)}", option=option)
    if not options.prefix.strip():
        raise OptionError("prefix: expected the beginning of a column name, not blank text", option="prefix")


@dataclass(frozen=True)
class ScorePlan:
    """A join of scores onto one table: everything but the table's rows."""

    schema: pl.Schema
    key: str
    table: str
    options: ScoreOptions
    scores: pl.DataFrame
    slugs: dict[str, str]
    columns: dict[str, pl.DataType]

    @property
    def drops(self) -> bool:
        """Whether a policy may drop rows."""
        return "drop" in (self.options.missing_policy, self.options.bad_policy)

    @property
    def evidence_schema(self) -> pl.Schema:
        """The schema of `Evidence.frame`."""
        return pl.Schema({self.key: self.schema[self.key], **self.columns})

    def distinct_values(self, lf: pl.LazyFrame) -> pl.LazyFrame:
        """The distinct values of the key column, and how many rows have each: `value`, `rows`."""
        values = lf.select(value=pl.col(self.key))
        return values.group_by("value").agg(rows=pl.len().cast(pl.Int64))

    def attach(self, lf: pl.LazyFrame, evidence: pl.LazyFrame) -> pl.LazyFrame:
        """The table with the new columns; replaced ones in their old places."""
        kept = lf.drop([name for name in self.columns if name in self.schema])
        joined = kept.join(
            evidence,
            on=self.key,
            how="inner" if self.drops else "left",
            nulls_equal=True,
            coalesce=True,
            maintain_order="left",
            validate="m:m",  # the evidence is unique by construction, and checking costs a pass
        )
        return joined.select(*dict.fromkeys([*self.schema, *self.columns]))

    def evidence(self, values: pl.DataFrame) -> Evidence:
        """Attaches scores to distinct key values, and applies every guard and policy there.

        Raises:
            FoldingError: If `auto` makes one key of different values.
            MissingScoreError: Under `missing_policy="fail"`.
            BadScoreError: Under `bad_policy="fail"`.
        """
        keyed = self._keyed(values)
        wide, competitors, unmatched, bad = keyed, {}, [], []
        for scorer, slug in self.slugs.items():
            prefix = f"{self.options.prefix}_{slug}"
            own = self.scores.filter(pl.col("scorer") == scorer)
            wide = _attach_scorer(wide, own, prefix)
            state = wide.get_column(f"{prefix}_status")
            rows = wide.select("key", "rows", scorer=pl.lit(scorer))
            unmatched.append(rows.filter(state == "missing"))
            bad.append(rows.filter(state == "bad"))
            competitors[scorer] = ScorerCounts(
                competitor=scorer,
                column_prefix=prefix,
                scores_loaded=own.height,
                matched_rows=_sum_rows(wide.filter(state == "ok")),
                missing_rows=_sum_rows(unmatched[-1]),
                bad_rows=_sum_rows(bad[-1]),
                unused_scores=own.join(
                    keyed, on="key", how="anti", nulls_equal=False, maintain_order="none"
                ).height,
            )
        self._apply_fail("missing_policy", unmatched, "without a score", MissingScoreError)
        self._apply_fail("bad_policy", bad, "with a bad score", BadScoreError)
        kept = wide.filter(self._keeps())
        return Evidence(
            frame=kept.select(pl.col("value").alias(self.key), *self.columns),
            input_rows=_sum_rows(keyed),
            output_rows=_sum_rows(kept),
            competitors=competitors,
            keys=self._key_counts(keyed),
        )

    def _keyed(self, values: pl.DataFrame) -> pl.DataFrame:
        """The values with their `text` and their `key`, in the order of the text."""
        name, rule = self.key, keys.resolve_normalize(self.options.key_normalize, self.key)
        text = keys.key_text(pl.col("value"), self.schema[name], name=name, table=self.table)
        keyed = values.with_columns(text=text).with_columns(key=keys.normalize_key(pl.col("text"), rule))
        if self.options.key_normalize == "auto":
            guards.refuse_folding(keyed, column=name)
        return keyed.sort("text", "value", nulls_last=True, maintain_order=True)

    def _apply_fail(
        self,
        policy: str,
        offenders: list[pl.DataFrame],
        what: str,
        error: type[MissingScoreError | BadScoreError],
    ) -> None:
        if getattr(self.options, policy) == "fail":
            columns = ["scorer", "key", "rows"]
            guards.refuse_status(pl.concat(offenders).select(columns), policy=policy, what=what, error=error)

    def _keeps(self) -> pl.Expr:
        """Whether the policies keep the rows of a key value."""
        dropped = [
            status
            for policy, status in (("missing_policy", "missing"), ("bad_policy", "bad"))
            if getattr(self.options, policy) == "drop"
        ]
        states = [pl.col(f"{self.options.prefix}_{slug}_status") for slug in self.slugs.values()]
        return ~pl.any_horizontal(pl.lit(False), *(s == status for s in states for status in dropped))

    def _key_counts(self, keyed: pl.DataFrame) -> FeatureKeyCounts:
        sides = self.scores.partition_by("scorer", as_dict=True)
        return FeatureKeyCounts(
            **msgspec.structs.asdict(_count_keys(keyed)),
            scores={
                scorer: _count_keys(sides[scorer,].with_columns(rows=pl.lit(1))) for scorer in self.slugs
            },
        )


def _attach_scorer(wide: pl.DataFrame, own: pl.DataFrame, prefix: str) -> pl.DataFrame:
    """One scorer's five columns, for every key value."""
    columns = own.select(
        "key", *(pl.col(part).cast(dtype).alias(f"{prefix}_{part}") for part, dtype in _PARTS.items())
    )
    joined = wide.join(
        columns,
        on="key",
        how="left",
        nulls_equal=False,
        coalesce=True,
        maintain_order="left",
        validate="m:1",
    )
    return joined.with_columns(
        pl.col(f"{prefix}_status").fill_null(pl.lit("missing", dtype=STATUS)),
        pl.col(f"{prefix}_frames").fill_null(0),
    )


def _count_keys(keyed: pl.DataFrame) -> KeyCounts:
    has_key = keyed.filter(pl.col("key").is_not_null())
    return KeyCounts(
        rows=_sum_rows(keyed),
        rows_without_key=_sum_rows(keyed) - _sum_rows(has_key),
        distinct_values=has_key.get_column("value").n_unique(),
        distinct_keys=has_key.get_column("key").n_unique(),
    )


def _sum_rows(keyed: pl.DataFrame) -> int:
    return int(keyed.get_column("rows").sum())
