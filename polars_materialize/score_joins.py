"""Scores joined onto feature tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import polars as pl

from polars_materialize import keys
from polars_materialize.errors import BadScoreError, MissingScoreError, OptionError
from polars_materialize.guards import refuse_status
from polars_materialize.hints import explain_no_match
from polars_materialize.joins import (
    KEY_COUNTS,
    SOURCE,
    Frame,
    Guards,
    TableSide,
    check_choices,
    collected,
    join,
    sum_rows,
)
from polars_materialize.options import Policy, ScoreOptions
from polars_materialize.reports import KeyCounts, ScoreKeyCounts, ScorerCounts
from polars_materialize.scores import complete_scores, key_scores, scorer_slugs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polars_materialize.formats import KeyNormalize

STATUSES = ("ok", "bad", "missing")


@dataclass(frozen=True)
class ScoreEvidence:
    """Scores for the distinct key values of one table, checked.

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
    keys: ScoreKeyCounts


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
    guards: Guards = "lazy",
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
        guards: When the keys of a lazy table are looked at: `lazy`, when the result is collected; `now`, at
            once, which gives a plan without Python in it, to be serialised and sent to another engine.

    Returns:
        The table with five columns for each scorer, scorers sorted:
        `<prefix>_<slug>_score` (Float64; null if missing), `_status` (String: `ok`, `bad` or `missing`),
        `_runtime_ms` (Float64, milliseconds), `_frames` (Int64; how many frame scores were averaged, 0 for
        a plain score) and `_source` (String; the sidecar).

        In Polars' streaming engine a sum over a slice of a lazy result may be that of other rows; see "Slices
        of a lazy join" in `docs/concepts.md`.

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
    return join(frame, lambda schema: plan_scores(schema, scores, options, table="the feature table"), guards)


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
    check_score_options(options)
    long = complete_scores(collected(scores))
    slugs = scorer_slugs(long)
    side = TableSide.of(
        schema,
        table,
        candidates=keys.SCORE_KEYS,
        asked=options.key_column,
        key_normalize=options.key_normalize,
        columns={
            f"{options.prefix}_{slug}_{part}": dtype
            for slug in slugs.values()
            for part, dtype in _PARTS.items()
        },
        overwrite=options.overwrite,
        drops="drop" in (options.missing_policy, options.bad_policy),
    )
    return ScorePlan(side, options, key_scores(long, options.key_normalize), slugs)


_PARTS: Mapping[str, pl.DataType] = {
    "score": pl.Float64(),
    "status": pl.String(),
    "runtime_ms": pl.Float64(),
    "frames": pl.Int64(),
    "source": SOURCE,
}


def check_score_options(options: ScoreOptions) -> None:
    """Refuses option values that no table could make right.

    Raises:
        OptionError: Names the option and what was expected.
    """
    policies = get_args(Policy)
    choices = {"key_normalize": keys.KEY_NORMALIZE, "missing_policy": policies, "bad_policy": policies}
    check_choices(options, choices)
    if not options.prefix.strip() or options.prefix.startswith("^"):
        raise OptionError("prefix: expected the beginning of a column name, not blank text", option="prefix")


@dataclass(frozen=True)
class ScorePlan:
    """A join of scores onto one table: everything but the table's rows."""

    side: TableSide
    options: ScoreOptions
    scores: pl.DataFrame
    slugs: dict[str, str]

    def evidence(self, values: pl.DataFrame) -> ScoreEvidence:
        """Attaches scores to distinct key values, and applies every guard and policy there.

        Raises:
            FoldingError: If `auto` makes one key of different values.
            MissingScoreError: Under `missing_policy="fail"`.
            BadScoreError: Under `bad_policy="fail"`.
        """
        keyed = self.side.keyed(values).lazy()
        # Each scorer's join carries its own columns only; one after another they would copy those before.
        columns = [
            _scorer_columns(keyed, own.lazy(), self._prefix(scorer))
            for scorer, own in self._by_scorer().items()
        ]
        wide = pl.concat([keyed, *columns], how="horizontal").collect(engine="in-memory")
        self._apply_fail("missing", wide)
        self._apply_fail("bad", wide)
        kept = wide.filter(self._keeps()) if self.side.drops else wide
        competitors, counts = self._count(wide)
        return ScoreEvidence(
            frame=kept.select(pl.col("value").alias(self.side.key), *self.side.columns),
            input_rows=counts.rows,
            output_rows=sum_rows(kept) if self.side.drops else counts.rows,
            competitors=competitors,
            keys=counts,
        )

    def _prefix(self, scorer: str) -> str:
        return f"{self.options.prefix}_{self.slugs[scorer]}"

    def _by_scorer(self) -> dict[str, pl.DataFrame]:
        """Each scorer's own scores, in the order of the columns."""
        parts = self.scores.select("scorer", "key", *_PARTS).partition_by("scorer", as_dict=True)
        return {scorer: parts[scorer,] for scorer in self.slugs}

    def _hint(self, wide: pl.DataFrame, scorer: str) -> str | None:
        """Why no row has a score of a scorer; none if a row has, or there are no rows."""
        if wide.is_empty() or (wide.get_column(f"{self._prefix(scorer)}_status") != "missing").any():
            return None
        own = self.scores.filter(pl.col("scorer") == scorer)
        return explain_no_match(wide.get_column("key"), own.get_column("key"))

    def _count(self, wide: pl.DataFrame) -> tuple[dict[str, ScorerCounts], ScoreKeyCounts]:
        """What of each scorer met the table's rows, and the keys of both sides."""
        counts = dict(KEY_COUNTS)
        for index, scorer in enumerate(self.slugs):
            status = pl.col(f"{self._prefix(scorer)}_status")
            for state in STATUSES:
                counts[f"{state}{index}"] = pl.col("rows").filter(status == state).sum()
            counts[f"used{index}"] = pl.col("key").filter(status != "missing").n_unique()
        found = wide.select(**counts).row(0, named=True)
        own = (
            self.scores.lazy()
            .with_columns(rows=pl.lit(1))
            .group_by("scorer")
            .agg(pl.col("replaced").sum(), pl.col("format").drop_nulls().unique().sort(), **KEY_COUNTS)
            .collect(engine="in-memory")
        )
        sides = {side["scorer"]: side for side in own.iter_rows(named=True)}
        competitors = {
            scorer: ScorerCounts(
                competitor=scorer,
                column_prefix=self._prefix(scorer),
                scores_loaded=sides[scorer]["rows"],
                matched_rows=found[f"ok{index}"],
                missing_rows=found[f"missing{index}"],
                bad_rows=found[f"bad{index}"],
                # A scorer has one score for a key.
                unused_scores=sides[scorer]["rows"] - found[f"used{index}"],
                replaced_scores=sides[scorer]["replaced"],
                formats=sides[scorer]["format"],
                hint=self._hint(wide, scorer),
            )
            for index, scorer in enumerate(self.slugs)
        }
        scores = {
            scorer: KeyCounts(**{name: sides[scorer][name] for name in KEY_COUNTS}) for scorer in self.slugs
        }
        return competitors, ScoreKeyCounts(**{name: found[name] for name in KEY_COUNTS}, scores=scores)

    def _apply_fail(self, status: Literal["missing", "bad"], wide: pl.DataFrame) -> None:
        """Refuses clips of a status that the policy of its name forbids."""
        policy, what, error = _FAILURES[status]
        if getattr(self.options, policy) != "fail":
            return
        offenders = [
            wide.filter(pl.col(f"{self._prefix(scorer)}_status") == status).select(
                "key", "rows", scorer=pl.lit(scorer)
            )
            for scorer in self.slugs
        ]
        refuse_status(
            pl.concat(offenders).select("scorer", "key", "rows"),
            policy=policy,
            what=what,
            error=error,
            hint=partial(self._hint, wide),
        )

    def _keeps(self) -> pl.Expr:
        """Whether the policies keep the rows of a key value."""
        dropped = [
            status for status, (policy, *_) in _FAILURES.items() if getattr(self.options, policy) == "drop"
        ]
        states = [pl.col(f"{self._prefix(scorer)}_status") for scorer in self.slugs]
        return ~pl.any_horizontal(pl.lit(False), *(s == status for s in states for status in dropped))


_FAILURES: Mapping[str, tuple[str, str, type[MissingScoreError | BadScoreError]]] = {
    "missing": ("missing_policy", "without a score", MissingScoreError),
    "bad": ("bad_policy", "with a bad score", BadScoreError),
}
"""The statuses that a policy rules: its name, what is wrong in words, and what to raise."""


def _scorer_columns(keyed: pl.LazyFrame, own: pl.LazyFrame, prefix: str) -> pl.LazyFrame:
    """One scorer's five columns, for every key value."""
    columns = own.select(
        "key", *(pl.col(part).cast(dtype).alias(f"{prefix}_{part}") for part, dtype in _PARTS.items())
    )
    joined = keyed.select("key").join(
        columns,
        on="key",
        how="left",
        nulls_equal=False,
        coalesce=True,
        maintain_order="left",
        validate="m:1",
    )
    return joined.drop("key").with_columns(
        pl.col(f"{prefix}_status").fill_null("missing"),
        pl.col(f"{prefix}_frames").fill_null(0),
    )
