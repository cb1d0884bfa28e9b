"""Scores joined onto feature tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import msgspec
import polars as pl

from polars_materialize import keys
from polars_materialize.arguments import checked
from polars_materialize.errors import BadScoreError, MatchRateError, MissingScoreError, OptionError
from polars_materialize.folding import count_folded
from polars_materialize.guards import (
    Coverage,
    check_match_rate,
    low_match_rate,
    refuse_folding,
    refuse_status,
)
from polars_materialize.hints import Hints, Keyed, likely_keys
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
from polars_materialize.reports import FieldsRead, KeyCounts, ScoreKeyCounts, ScorerCounts
from polars_materialize.scores import complete_scores, key_scores, scorer_slugs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polars_materialize.formats import KeyNormalize

STATUSES = ("ok", "bad", "missing")
FEW = 0.5
"""Below this match rate a scorer gives a warning, unless `min_match_rate` says what to expect."""


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
        warnings: What a reader should know before the table is used, in words.
    """

    frame: pl.DataFrame
    input_rows: int
    output_rows: int
    competitors: dict[str, ScorerCounts]
    keys: ScoreKeyCounts
    warnings: list[str]


@checked
def join_scores(
    frame: Frame,
    scores: pl.LazyFrame | pl.DataFrame,
    *,
    key_column: str | None = None,
    key_normalize: KeyNormalize = "auto",
    missing_policy: Policy = "mark",
    bad_policy: Policy = "mark",
    min_match_rate: float | None = None,
    allow_folding: bool = False,
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
        min_match_rate: The least share of the table's distinct keys that each scorer must have a score of,
            0 to 1. Without it, a scorer that meets no row, or fewer than half of the keys, gives a warning.
        allow_folding: Whether different values of the key column may become one key, whose score they share.
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
        FoldingError: On collecting, if one key is made of different feature values, without `allow_folding`.
        MatchRateError: On collecting, if a scorer has too few of the keys.
        MissingScoreError: On collecting, under `missing_policy="fail"`, or if `drop` would leave no row.
        BadScoreError: On collecting, under `bad_policy="fail"`, or if `drop` would leave no row.

    Warns:
        MatchWarning: On collecting, if a scorer meets no row, or few.

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
        min_match_rate=min_match_rate,
        allow_folding=allow_folding,
        prefix=prefix,
        overwrite=overwrite,
    )
    # A lazy table is not looked at before it is collected, not even by an error.
    rows = frame.lazy if isinstance(frame, pl.DataFrame) else None
    plan = partial(plan_scores, scores=scores, options=options, table="the feature table", rows=rows)
    return join(frame, plan, guards)


def plan_scores(
    schema: pl.Schema,
    scores: pl.LazyFrame | pl.DataFrame,
    options: ScoreOptions,
    *,
    table: str,
    rows: Callable[[], pl.LazyFrame] | None = None,
) -> ScorePlan:
    """Checks all of a join that the table's schema and the scores alone can tell.

    Args:
        schema: The feature table's.
        scores: The scores; collected here.
        options: The join's options.
        table: What to call the feature table in an error.
        rows: Gives the feature table, where an error may look at it.
    """
    check_score_options(options)
    long = complete_scores(collected(scores))
    slugs, rule = scorer_slugs(long), options.key_normalize
    side = TableSide.of(
        schema,
        table,
        candidates=keys.SCORE_KEYS,
        asked=options.key_column,
        key_normalize=rule,
        columns={
            f"{options.prefix}_{slug}_{part}": dtype
            for slug in slugs.values()
            for part, dtype in _PARTS.items()
        },
        overwrite=options.overwrite,
        drops="drop" in (options.missing_policy, options.bad_policy),
        hint=partial(likely_keys, rows, lambda: key_scores(long, rule).get_column("key"), key_normalize=rule),
    )
    return ScorePlan(side, options, long, key_scores(long, rule), slugs)


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
    check_match_rate(options.min_match_rate)
    if not options.prefix.strip():
        raise OptionError("prefix: expected the beginning of a column name, not blank text", option="prefix")
    if options.prefix.startswith("^"):
        raise OptionError(
            f"prefix: {options.prefix!r}; expected the beginning of a column name, which '^' cannot be: "
            "Polars takes such names for patterns",
            option="prefix",
        )


@dataclass(frozen=True)
class ScorePlan:
    """A join of scores onto one table: everything but the table's rows.

    Attributes:
        side: The feature table's side.
        options: The join's options.
        long: The scores as they were read.
        scores: The scores with their keys, one for each scorer and key.
        slugs: What each scorer is called in columns.
    """

    side: TableSide
    options: ScoreOptions
    long: pl.DataFrame
    scores: pl.DataFrame
    slugs: dict[str, str]

    def evidence(self, values: pl.DataFrame) -> ScoreEvidence:
        """Attaches scores to distinct key values, and applies every guard and policy there.

        Raises:
            FoldingError: If one key is made of different values, without `allow_folding`.
            MissingScoreError: If `missing_policy` forbids it.
            BadScoreError: If `bad_policy` forbids it.
            MatchRateError: If a scorer has fewer than `min_match_rate` of the keys.
        """
        keyed = self.side.keyed(values)
        hints = self._hints(keyed)
        folded = self.side.find_folded(keyed)
        if not self.options.allow_folding:
            self._refuse_folding(folded, hints)
        # Each scorer's join carries its own columns only; one after another they would copy those before.
        columns = [
            _scorer_columns(keyed.lazy(), own.lazy(), self._prefix(scorer))
            for scorer, own in self._by_scorer().items()
        ]
        wide = pl.concat([keyed.lazy(), *columns], how="horizontal").collect(engine="in-memory")
        self._apply_fail("missing", wide, hints)
        self._apply_fail("bad", wide, hints)
        competitors, counts = self._count(wide, folded, hints)
        self._refuse_match_rates(wide, competitors, hints)
        kept = wide.filter(self._keeps()) if self.side.drops else wide
        if kept.is_empty():
            self._refuse_to_drop_all(wide, hints)
        return ScoreEvidence(
            frame=kept.select(pl.col("value").alias(self.side.key), *self.side.columns),
            input_rows=counts.rows,
            output_rows=sum_rows(kept) if self.side.drops else counts.rows,
            competitors=competitors,
            keys=counts,
            warnings=self._warnings(competitors, hints),
        )

    def _hints(self, keyed: pl.DataFrame) -> Hints:
        """What would make both sides meet, if they do not."""

        def both(keyed: pl.DataFrame, scores: pl.DataFrame) -> Keyed:
            parts = scores.select("scorer", "text", "key").partition_by("scorer", as_dict=True)
            return Keyed(keyed, {str(scorer): part for (scorer,), part in parts.items()})

        def make(rule: KeyNormalize) -> Keyed:
            return both(keyed.with_columns(key=self.side.make_key(rule)), key_scores(self.long, rule))

        return Hints(both(keyed, self.scores), make, "score")

    def _refuse_folding(self, folded: pl.DataFrame, hints: Hints) -> None:
        """Refuse a table of which one key would be made of different values."""
        if folded.is_empty():
            return
        found = [hints.suggest(scorer) for scorer in self.slugs]
        hint = next((hint for hint in found if hint), "")
        refuse_folding(folded, rule=self.side.rule, column=self.side.key, hint=hint)

    def _refuse_match_rates(
        self, wide: pl.DataFrame, competitors: Mapping[str, ScorerCounts], hints: Hints
    ) -> None:
        """Refuse scorers that have too few of the table's keys."""
        least = self.options.min_match_rate
        low = [
            name for name, counts in competitors.items() if least is not None and counts.match_rate < least
        ]
        if least is None or not low:
            return
        texts, lacking, unused = [], [], []
        for name in low:
            counts = competitors[name]
            text, *sides = low_match_rate(
                wide.with_columns(matched=pl.col(f"{self._prefix(name)}_status") != "missing"),
                self.scores.filter(pl.col("scorer") == name),
                Coverage(counts.matched_feature_keys, counts.total_feature_keys, sum_rows(wide)),
                least=least,
                noun="score",
                hint=hints.suggest(name),
            )
            texts.append(f"{name}: {text}")
            lacking.append(sides[0].select(pl.lit(name).alias("scorer"), pl.all()))
            unused.append(sides[1].select(pl.lit(name).alias("scorer"), pl.all()))
        if texts:
            raise MatchRateError("; ".join(texts), pl.concat(lacking), pl.concat(unused))

    def _warnings(self, competitors: Mapping[str, ScorerCounts], hints: Hints) -> list[str]:
        """What a reader should know of scorers that meet no row, or few that nobody said to expect."""
        found = []
        for name, counts in competitors.items():
            text = counts.hint
            if text is None and self.options.min_match_rate is None and counts.match_rate < FEW:
                matched, total = counts.matched_feature_keys, counts.total_feature_keys
                hint = hints.suggest(name) or "min_match_rate says how many to expect"
                text = f"{Coverage(matched, total, counts.matched_rows).said('score')}; {hint}"
            if text is not None:
                found.append(f"{name}: {text}")
        return found

    def _prefix(self, scorer: str) -> str:
        return f"{self.options.prefix}_{self.slugs[scorer]}"

    def _by_scorer(self) -> dict[str, pl.DataFrame]:
        """Each scorer's own scores, in the order of the columns."""
        parts = self.scores.select("scorer", "key", *_PARTS).partition_by("scorer", as_dict=True)
        return {scorer: parts[scorer,] for scorer in self.slugs}

    def _hint(self, wide: pl.DataFrame, hints: Hints, scorer: str) -> str | None:
        """Why no row has a score of a scorer; none if a row has, or there are no rows."""
        if wide.is_empty() or (wide.get_column(f"{self._prefix(scorer)}_status") != "missing").any():
            return None
        return hints.explain(scorer)

    def _count(
        self, wide: pl.DataFrame, folded: pl.DataFrame, hints: Hints
    ) -> tuple[dict[str, ScorerCounts], ScoreKeyCounts]:
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
        read = _fields_read(self.scores)
        total = found["distinct_keys"]
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
                total_feature_keys=total,
                matched_feature_keys=found[f"used{index}"],
                match_rate=Coverage(found[f"used{index}"], total, found["rows"]).rate,
                replaced_scores=sides[scorer]["replaced"],
                formats=sides[scorer]["format"],
                hint=self._hint(wide, hints, scorer),
                fields=read.get(scorer, []),
            )
            for index, scorer in enumerate(self.slugs)
        }
        scores = {
            # A scorer has one value of a key, or was refused.
            scorer: KeyCounts(**{name: sides[scorer][name] for name in KEY_COUNTS}, folded_values=0)
            for scorer in self.slugs
        }
        table = {name: found[name] for name in KEY_COUNTS}
        return competitors, ScoreKeyCounts(**table, folded_values=count_folded(folded), scores=scores)

    def _with_status(self, status: str, wide: pl.DataFrame) -> pl.DataFrame:
        """The clips with a status, by scorer: `scorer`, `key`, `rows`."""
        offenders = [
            wide.filter(pl.col(f"{self._prefix(scorer)}_status") == status).select(
                "key", "rows", scorer=pl.lit(scorer)
            )
            for scorer in self.slugs
        ]
        return pl.concat(offenders).select("scorer", "key", "rows")

    def _apply_fail(self, status: Literal["missing", "bad"], wide: pl.DataFrame, hints: Hints) -> None:
        """Refuses clips of a status that the policy of its name forbids."""
        policy, what, error = _FAILURES[status]
        if getattr(self.options, policy) != "fail":
            return
        refuse_status(
            self._with_status(status, wide),
            problem=f"{policy} 'fail'",
            what=what,
            error=error,
            hint=partial(self._hint, wide, hints),
        )

    def _refuse_to_drop_all(self, wide: pl.DataFrame, hints: Hints) -> None:
        """Refuse policies of `drop` that would leave no row."""
        dropped = {
            status: policy
            for status, policy in _FAILURES.items()
            if getattr(self.options, policy[0]) == "drop"
        }
        policies = " and ".join(f"{name} 'drop'" for name, *_ in dropped.values())
        for status, (_, what, error) in dropped.items():
            refuse_status(
                self._with_status(status, wide),
                problem=f"{policies} would leave no row",
                what=what,
                error=error,
                hint=partial(self._hint, wide, hints),
            )

    def _keeps(self) -> pl.Expr:
        """Whether the policies keep the rows of a key value."""
        states = [pl.col(f"{self._prefix(scorer)}_status") for scorer in self.slugs]
        return ~pl.any_horizontal(pl.lit(False), *(s == status for s in states for status in self._dropped))

    @property
    def _dropped(self) -> list[str]:
        """The statuses whose rows are dropped."""
        return [
            status for status, (policy, *_) in _FAILURES.items() if getattr(self.options, policy) == "drop"
        ]


_FAILURES: Mapping[str, tuple[str, str, type[MissingScoreError | BadScoreError]]] = {
    "missing": ("missing_policy", "without a score", MissingScoreError),
    "bad": ("bad_policy", "with a bad score", BadScoreError),
}
"""The statuses that a policy rules: its name, what is wrong in words, and what to raise."""


def _fields_read(scores: pl.DataFrame) -> dict[str, list[FieldsRead]]:
    """The fields that the scores of each scorer were read from, where that is known."""
    files = (
        scores.lazy()
        .filter(pl.col("fields").is_not_null())
        .group_by("scorer", "format", "fields")
        .agg(pl.col("source").n_unique(), pl.col("source").min().alias("first"))
        .sort("scorer", "format", "fields")
        .collect(engine="in-memory")
    )
    read: dict[str, list[FieldsRead]] = {}
    for scorer, form, fields, count, first in files.iter_rows():
        read.setdefault(scorer, []).append(
            FieldsRead(files=count, source=first, format=form, **msgspec.json.decode(fields))
        )
    return read


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
