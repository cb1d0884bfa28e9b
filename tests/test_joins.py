"""The join of scores onto a feature table: rows, columns, policies, guards and counts."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import oracle
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.io.plugins import register_io_source
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.options import ScoreOptions
from polars_materialize.score_joins import plan_scores

ENGINES = ["streaming", "in-memory"]
PARTS = ["score", "status", "runtime_ms", "frames", "source"]
DTYPES = [pl.Float64, pl.String, pl.Float64, pl.Int64, pl.String]


def scores_of(*rows, scorer="m"):
    """A frame of scores from `(key, score)` or `(key, score, status)`."""
    return pl.DataFrame(
        [(scorer, row[0], row[1], (*row, "ok")[2]) for row in rows],
        schema={"scorer": pl.String, "key": pl.String, "score": pl.Float64, "status": pl.String},
        orient="row",
    )


def joined(frame, scores, *, engine="lazy", **options):
    """Joins as a DataFrame (`eager`) or as a LazyFrame in one of the engines."""
    if engine == "eager":
        return pm.join_scores(frame, scores, **options)
    return pm.join_scores(frame.lazy(), scores, **options).collect(engine=engine)


def as_text(frame):
    """Enum and Categorical columns as the text they hold."""
    return frame.with_columns(pl.col(pl.Enum, pl.Categorical).cast(pl.String))


every_engine = pytest.mark.parametrize("engine", ["eager", *ENGINES])
lazy_engines = pytest.mark.parametrize("engine", ENGINES)


# --- what a join gives --------------------------------------------------------------------------------


@every_engine
def test_five_columns_for_each_scorer_in_sorted_order(engine):
    frame = pl.DataFrame({"clip_id": ["a"], "vmaf": [90.0]})
    scores = pl.concat([scores_of(("a", 1.0), scorer=name) for name in ("musiq", "Zed", "DOVER")])

    result = as_text(joined(frame, scores, engine=engine))

    names = [f"second_opinion_{slug}_{part}" for slug in ("dover", "zed", "musiq") for part in PARTS]
    assert result.columns == ["clip_id", "vmaf", *names]
    assert result.dtypes[2:] == DTYPES * 3


@every_engine
def test_values_of_matched_bad_and_missing_rows(engine):
    frame = pl.DataFrame({"clip_id": ["a", "b", "c", "d"]})
    scores = pl.DataFrame(
        {
            "scorer": "m",
            "key": ["a", "b", "d"],
            "score": [1.5, None, 4.0],
            "status": ["ok", "bad", "bad"],
            "runtime_ms": [3.0, None, 5.0],
            "frames": [0, 0, 7],
            "source": ["x.jsonl", "x.jsonl", "y.jsonl"],
        }
    )

    result = as_text(joined(frame, scores, engine=engine))

    assert result.rows() == [
        ("a", 1.5, "ok", 3.0, 0, "x.jsonl"),
        ("b", None, "bad", None, 0, "x.jsonl"),
        ("c", None, "missing", None, 0, None),
        ("d", 4.0, "bad", 5.0, 7, "y.jsonl"),
    ]


def test_a_frame_gives_a_frame_and_a_plan_a_plan():
    frame = pl.DataFrame({"clip_id": ["a"]})

    assert isinstance(pm.join_scores(frame, scores_of(("a", 1.0))), pl.DataFrame)
    assert isinstance(pm.join_scores(frame.lazy(), scores_of(("a", 1.0)).lazy()), pl.LazyFrame)


def test_the_schema_of_a_plan_is_that_of_its_result():
    plan = pm.join_scores(pl.LazyFrame({"clip_id": ["a"]}), scores_of(("a", 1.0)))

    assert plan.collect_schema() == plan.collect().schema


@every_engine
def test_prefix(engine):
    frame = pl.DataFrame({"clip_id": ["a"]})

    result = joined(frame, scores_of(("a", 1.0)), engine=engine, prefix="nr")

    assert result.columns == ["clip_id", *(f"nr_m_{part}" for part in PARTS)]


@every_engine
def test_order_and_number_of_rows_of_many_frames(engine):
    rows = 50_000
    clips = pl.int_range(rows, eager=True).hash(1) % 997
    frame = pl.DataFrame({"clip_id": clips.cast(pl.String), "row": range(rows)})
    scores = scores_of(*((str(clip), float(clip)) for clip in range(0, 997, 2)))

    result = joined(frame, scores, engine=engine)

    assert_frame_equal(result.select(frame.columns), frame)
    expected = [float(clip) if clip % 2 == 0 else None for clip in clips]
    assert result["second_opinion_m_score"].to_list() == expected


@every_engine
def test_drop_keeps_the_order_of_the_rest(engine):
    rows = 20_000
    frame = pl.DataFrame({"clip_id": [str(n * 7919 % 101) for n in range(rows)], "row": range(rows)})
    scores = scores_of(*((str(clip), 1.0) for clip in range(50)))

    result = joined(frame, scores, engine=engine, missing_policy="drop")

    kept = frame.filter(pl.col("clip_id").cast(pl.Int64) < 50)
    assert_frame_equal(result.select(frame.columns), kept)


@every_engine
def test_other_columns_come_through_as_they_are(engine):
    frame = pl.DataFrame(
        {
            "list": [[1, 2], None, []],
            "clip_id": ["a", None, "b"],
            "struct": [{"x": 1}, {"x": None}, None],
            "big": [2**63 - 1, None, -(2**63)],
            "nan": [float("nan"), None, float("inf")],
            "text": ["2024-01-01", "", "\ud55c\uae00"],
            "time": pl.Series([0, None, 1], dtype=pl.Datetime("us", "UTC")),
            "enum": pl.Series(["x", None, "y"], dtype=pl.Enum(["y", "x"])),
            "binary": [b"\xff", None, b""],
        }
    )

    result = joined(frame, scores_of(("a", 1.0)), engine=engine)

    assert_frame_equal(result.select(frame.columns), frame)
    assert result.columns[: frame.width] == frame.columns


# --- keys ---------------------------------------------------------------------------------------------


@every_engine
@pytest.mark.parametrize(
    "keys",
    [
        pl.Series([1, 2, None], dtype=pl.Int32),
        pl.Series([1, 2, None], dtype=pl.UInt64),
        pl.Series([1.0, 2.0, None], dtype=pl.Float64),
        pl.Series([1.0, 2.0, float("nan")], dtype=pl.Float32),
        pl.Series([Decimal(1), Decimal(2), None], dtype=pl.Decimal(5, 0)),
        pl.Series([Decimal("1.000"), Decimal("2"), None], dtype=pl.Decimal(38, 3)),
        pl.Series(["1", " 2\t", " "], dtype=pl.String),
        pl.Series(["1", "2", None], dtype=pl.Categorical),
        pl.Series(["1", "2", None], dtype=pl.Enum(["2", "1"])),
    ],
    ids=lambda keys: str(keys.dtype),
)
def test_key_columns_of_every_type(engine, keys):
    frame = pl.DataFrame({"clip_id": keys})

    result = joined(frame, scores_of(("1", 10.0), ("2", 20.0), ("nan", 30.0)), engine=engine)

    assert result["second_opinion_m_score"].to_list() == [10.0, 20.0, None]
    assert_frame_equal(result.select("clip_id"), frame)


@every_engine
def test_rows_without_a_key_never_match(engine):
    frame = pl.DataFrame({"clip_id": [None, "", "  ", "a", None]})

    result = as_text(joined(frame, scores_of(("a", 1.0)), engine=engine))

    assert result["second_opinion_m_status"].to_list() == ["missing"] * 3 + ["ok", "missing"]
    assert result["clip_id"].to_list() == frame["clip_id"].to_list()


@pytest.mark.parametrize("key", [None, "", " "])
def test_scores_without_a_key_are_refused(key):
    with pytest.raises(errors.SidecarError, match=r"^1 sidecar row is not usable: scores: rows\[0\]: no key"):
        pm.join_scores(pl.DataFrame({"clip_id": ["a", None]}), scores_of((key, 1.0)))


@every_engine
def test_nan_ids(engine):
    frame = pl.DataFrame({"clip_id": [float("nan"), 12345.0, -0.0, 0.0, None]})

    result = joined(frame, scores_of(("12345", 1.0), ("0", 2.0)), engine=engine)

    assert result["second_opinion_m_score"].to_list() == [None, 1.0, 2.0, 2.0, None]


@every_engine
@pytest.mark.parametrize("policy", ["mark", "drop"])
@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_single_row_without_a_key(engine, policy, dtype, value):
    frame = pl.DataFrame({"clip_id": pl.Series([value], dtype=dtype)})

    result = as_text(joined(frame, scores_of(("a", 1.0)), engine=engine, bad_policy=policy))

    assert result.drop("clip_id").rows() == [(None, "missing", None, 0, None)]


@every_engine
def test_spellings_of_one_text_share_a_score(engine):
    frame = pl.DataFrame({"clip_id": ["caf\u00e9", "cafe\u0301", " caf\u00e9 "]})

    result = joined(frame, scores_of(("cafe\u0301", 1.0)), engine=engine, key_normalize="raw")

    assert result["second_opinion_m_score"].to_list() == [1.0] * 3


@every_engine
def test_auto_is_decided_for_each_side_by_its_own_column(engine, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"clip_id": "a.mp4", "score": 1}\n')
    frame = pl.DataFrame({"path": ["d/a.mp4", "e/b.mp4"]})

    result = joined(frame, pm.scan_scores(f"m={tmp_path / 'x.jsonl'}"), engine=engine)

    assert result["second_opinion_m_score"].to_list() == [1.0, None]


@every_engine
@pytest.mark.parametrize(
    ("rule", "expected"),
    [("raw", [None, None, 3.0]), ("basename", [1.0, 1.0, None]), ("stem", [1.0, 1.0, None])],
)
def test_explicit_rules(engine, rule, expected):
    scores = {"raw": ("t_20.0", 3.0), "basename": ("y/a.mp4", 1.0), "stem": ("a.yuv", 1.0)}[rule]
    frame = pl.DataFrame({"path": ["d/a.mp4", "e\\a.mp4", "t_20.0"]})

    result = joined(frame, scores_of(scores), engine=engine, key_normalize=rule, allow_folding=True)

    assert result["second_opinion_m_score"].to_list() == expected


def test_no_key_column_is_refused_at_once():
    with pytest.raises(errors.KeyColumnError, match="'frame', 'vmaf'"):
        pm.join_scores(pl.LazyFrame({"frame": [1], "vmaf": [1.0]}), scores_of(("a", 1.0)))


def test_the_named_key_column():
    frame = pl.DataFrame({"clip_id": ["a"], "other": ["b"]})

    result = pm.join_scores(frame, scores_of(("b", 1.0)), key_column="other")

    assert result["second_opinion_m_score"].to_list() == [1.0]


# --- guards -------------------------------------------------------------------------------------------


def guarded(kind):
    """A plan with a guard that has to fire, and the guard's error."""
    frame = pl.LazyFrame({"path": ["a", "b", "c", None], "row": range(4), "vmaf": [1.0, 2.0, 3.0, 4.0]})
    if kind == "missing":
        scores = scores_of(("a", 1.0), ("b", 1.0))
        return pm.join_scores(frame, scores, missing_policy="fail"), errors.MissingScoreError
    if kind == "bad":
        scores = scores_of(("a", 1.0), ("b", None, "bad"))
        return pm.join_scores(frame, scores, bad_policy="fail"), errors.BadScoreError
    frame = frame.with_columns(path=pl.col("path") + pl.Series(["/x", "/y", "/y", "/z"]))
    return pm.join_scores(frame, scores_of(("x", 1.0))), errors.FoldingError


@lazy_engines
@pytest.mark.parametrize("kind", ["missing", "bad", "folding"])
@pytest.mark.parametrize(
    "later",
    [
        lambda plan: plan,
        lambda plan: plan.filter(pl.col("row") == 0),
        lambda plan: plan.filter(pl.col("path").str.starts_with("a")),
        lambda plan: plan.select("vmaf"),
        lambda plan: plan.select("second_opinion_m_frames"),
        lambda plan: plan.head(1),
        lambda plan: plan.tail(1),
        lambda plan: plan.select(pl.len()),
        lambda plan: plan.drop_nulls(),
        lambda plan: plan.sort("row", descending=True).head(1),
        lambda plan: plan.group_by("row").agg(pl.len()),
        lambda plan: plan.drop("^second_opinion.*$"),
    ],
    ids=[
        *("whole", "filter", "filter-key", "select", "select-new", "head", "tail", "len"),
        *("drop-nulls", "sort", "group", "drop-new"),
    ],
)
def test_guards_fire_at_collect_whatever_follows(engine, kind, later):
    plan, error = guarded(kind)

    plan = later(plan)

    with pytest.raises(error, match=r"'[bcy/]+'"):
        plan.collect(engine=engine)


@pytest.mark.parametrize("kind", ["missing", "bad", "folding"])
def test_guards_fire_at_a_sink(kind, tmp_path):
    plan, error = guarded(kind)
    old = tmp_path / "out.parquet"
    old.write_bytes(b"old")

    with pytest.raises(error, match=r"'[bcy/]+'"):
        pm.sink_table(plan, old)

    assert old.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [old]


@lazy_engines
def test_guards_count_every_row_under_a_filter(engine):
    frame = pl.LazyFrame({"clip_id": ["a"] + ["b"] * 7 + ["c"] * 5, "row": range(13)})
    plan = pm.join_scores(frame, scores_of(("a", 1.0)), missing_policy="fail")

    with pytest.raises(errors.MissingScoreError) as caught:
        plan.filter(pl.col("row") == 0).collect(engine=engine)

    assert caught.value.offenders.sort("key").select("key", "rows").rows() == [("b", 7), ("c", 5)]


def test_missing_fail_names_count_and_ten_keys_of_each_scorer():
    frame = pl.DataFrame({"clip_id": [f"k{n:02}" for n in range(30)] + ["k01", None]})
    scores = pl.concat(
        [
            scores_of(*((f"k{n:02}", 1.0) for n in range(25)), scorer="few"),
            scores_of(("k00", 1.0), scorer="many"),
        ]
    )

    with pytest.raises(errors.MissingScoreError) as caught:
        pm.join_scores(frame, scores, missing_policy="fail")

    text = str(caught.value)
    assert "few: 6 rows" in text
    assert "many: 31 rows" in text
    assert all(f"'k{n}'" in text for n in range(25, 30))
    many = text.partition("many")[2]
    assert sum(f"'k{n:02}'" in many for n in range(30)) == 10


@every_engine
def test_offenders_are_told_in_the_order_of_their_names(engine):
    keys = [f"k{n * 37 % 100:02}" for n in range(100)]

    with pytest.raises(errors.MissingScoreError) as caught:
        joined(pl.DataFrame({"clip_id": keys}), scores_of(("x", 1.0)), engine=engine, missing_policy="fail")

    assert caught.value.offenders["key"].to_list() == sorted(keys)
    assert ", ".join(f"'k{n:02}'" for n in range(10)) + " and 90 more" in str(caught.value)


def test_bad_fail_names_scorer_and_key():
    frame = pl.DataFrame({"clip_id": ["a", "b", "b"]})

    with pytest.raises(errors.BadScoreError, match=r"m: 2 rows.*'b'"):
        pm.join_scores(frame, scores_of(("a", 1.0), ("b", 2.0, "bad")), bad_policy="fail")


def test_fail_policies_pass_when_all_is_well():
    frame = pl.DataFrame({"clip_id": ["a", "b", "b"]})
    scores = scores_of(("a", 1.0), ("b", 2.0), ("unused", None, "bad"))

    result = pm.join_scores(frame, scores, missing_policy="fail", bad_policy="fail")

    assert result["second_opinion_m_score"].to_list() == [1.0, 2.0, 2.0]


FOLDING = {
    "auto": (["one/clip.mp4", "two/clip.mp4", "three/other.mp4"], "clip.mp4"),
    "basename": (["one/clip.mp4", "two\\clip.mp4", "three/other.mp4"], "clip.mp4"),
    "stem": (["one/clip.mp4", "clip.yuv", "three/other.mp4"], "clip"),
}


@every_engine
@pytest.mark.parametrize("rule", FOLDING)
@pytest.mark.parametrize("scored", [True, False])
def test_folding_is_refused_under_every_rule_with_examples(engine, rule, scored):
    values, key = FOLDING[rule]
    frame = pl.DataFrame({"path": [*values, values[0]]})

    with pytest.raises(errors.FoldingError) as caught:
        joined(frame, scores_of((key if scored else "x", 1.0)), engine=engine, key_normalize=rule)

    text = str(caught.value)
    assert f"1 key of 2 different values of 'path': {', '.join(map(repr, sorted(values[:2])))}" in text
    assert f"would all be {key!r}" in text
    assert f"key_normalize {rule!r}" in text
    assert "other" not in text
    assert caught.value.fields["offenders"].rows() == [(key, sorted(values[:2]))]


def test_an_error_of_folding_shows_two_keys_and_counts_the_rest():
    paths = [f"{folder}/{clip}" for clip in range(30) for folder in "abcde"]

    with pytest.raises(errors.FoldingError) as caught:
        pm.join_scores(pl.DataFrame({"path": paths}), scores_of(("0", 1.0)))

    text = str(caught.value)
    assert "30 keys of 150 different values" in text
    assert "'a/0', 'b/0', 'c/0' and 2 more would all be '0'; 'a/1'" in text
    assert "a/10" not in text
    assert len(text) < 400


@every_engine
@pytest.mark.parametrize("rule", FOLDING)
def test_folding_is_allowed_when_asked_for(engine, rule):
    values, key = FOLDING[rule]
    frame = pl.DataFrame({"path": values})

    result = joined(frame, scores_of((key, 1.0)), engine=engine, key_normalize=rule, allow_folding=True)

    assert result["second_opinion_m_score"].to_list() == [1.0, 1.0, None]


@every_engine
def test_spaces_and_unicode_forms_are_no_folding(engine):
    frame = pl.DataFrame({"path": ["a/caf\u00e9", " a/cafe\u0301", "a/caf\u00e9\t", "a/x"]})

    result = joined(frame, scores_of(("caf\u00e9", 1.0)), engine=engine)

    assert result["second_opinion_m_score"].to_list() == [1.0, 1.0, 1.0, None]


def test_repeated_values_are_no_folding():
    frame = pl.DataFrame({"path": ["one/clip.mp4"] * 3 + [None, None, " ", "/"]})

    result = pm.join_scores(frame, scores_of(("clip.mp4", 1.0)))

    assert result["second_opinion_m_score"].to_list() == [1.0] * 3 + [None] * 4


def test_an_id_column_does_not_fold_under_auto():
    frame = pl.DataFrame({"clip_id": ["one/clip.mp4", "two/clip.mp4"]})

    result = pm.join_scores(frame, scores_of(("one/clip.mp4", 1.0)))

    assert result["second_opinion_m_score"].to_list() == [1.0, None]


def test_lists_of_an_audit_are_sorted():
    """The bytes of an audit are promised, and so is the order of what it lists."""
    names = [f"format {n * 7 % 40:02}" for n in range(40)]
    keys = [f"k{n}" for n in range(40)]
    scores = pl.DataFrame({"scorer": "m", "key": keys, "score": 1.0, "format": names})
    other = scores.with_columns(scorer=pl.lit("a"), format=pl.lit(None, dtype=pl.String))
    plan = plan_scores(
        pl.Schema({"clip_id": pl.String}), pl.concat([scores, other]), ScoreOptions(), table="features"
    )

    found = plan.evidence(pl.DataFrame({"value": keys, "rows": [1] * 40}))

    assert found.competitors["m"].formats == sorted(names)
    assert found.competitors["a"].formats == []
    assert list(found.competitors) == list(found.keys.scores) == ["a", "m"]


# --- the match rate -----------------------------------------------------------------------------------


@every_engine
def test_too_few_keys_of_a_scorer_are_refused(engine):
    frame = pl.DataFrame({"clip_id": [*(f"k{n:02}" for n in range(20)), "k19", None, " "]})
    few = scores_of(*((f"k{n:02}", 1.0) for n in range(4)), ("x", 1.0), scorer="few")
    scores = pl.concat(
        [
            few,
            scores_of(("k00", 1, "bad"), scorer="one"),
            scores_of(*((k, 1) for k in frame["clip_id"].head(20))),
        ]
    )

    with pytest.raises(errors.MatchRateError) as caught:
        joined(frame, scores, engine=engine, min_match_rate=0.25)
    result = joined(frame, scores, engine=engine, min_match_rate=0.05)

    shown = ", ".join(f"'k{n:02}'" for n in range(4, 14))
    assert str(caught.value).startswith(
        "few: match rate 0.2000 (4 of 20 distinct keys have a score), expected 0.25; "
        f"without a score: {shown} and 6 more; scores that no row has: 'x'; one: match rate 0.0500 (1 of 20 "
    )
    assert "m: " not in str(caught.value)
    assert caught.value.unmatched.filter(scorer="few").rows()[-1] == ("few", "k19", 2)
    assert caught.value.unmatched.height == 16 + 19
    assert caught.value.unused.rows() == [("few", "x")]
    assert result.height == frame.height


@every_engine
@pytest.mark.parametrize("least", [0.5, 1, 0.0])
def test_a_match_rate_that_is_met_just_so(engine, least):
    frame = pl.DataFrame({"clip_id": ["a", "a", "a", "b", None]})
    keys = ["a", "b"][: 2 if least == 1 else 1] if least else ["x"]

    result = joined(frame, scores_of(*((key, 1.0) for key in keys)), engine=engine, min_match_rate=least)

    assert result.height == 5


def test_rows_without_any_key_have_no_match_rate():
    frame = pl.DataFrame({"clip_id": [None, " "]})

    with pytest.raises(errors.MatchRateError, match=r"0\.0000 \(0 of 0 .*; no row has a key"):
        pm.join_scores(frame, scores_of(("a", 1.0)), min_match_rate=0.1)
    assert pm.join_scores(frame.clear(), scores_of(("a", 1.0)), min_match_rate=1).height == 0


NO_SHARE = r"^min_match_rate: .*; expected a (share from 0 to 1$|number)"


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan"), "0.9", "", True])
def test_a_match_rate_that_is_no_share_is_refused(least):
    with pytest.raises(errors.OptionError, match=NO_SHARE):
        pm.join_scores(pl.LazyFrame({"clip_id": ["a"]}), scores_of(("a", 1.0)), min_match_rate=least)
    with pytest.raises(errors.OptionError, match=NO_SHARE):
        pm.join_labels(
            pl.LazyFrame({"key": ["a"]}), pl.DataFrame({"key": ["a"], "mos": [1.0]}), min_match_rate=least
        )


# --- another reading: DuckDB and pandas ---------------------------------------------------------------

BASENAMES = {"raw": "{}", "basename": r"regexp_extract({}, '[^/\\]*$')"}


@given(
    st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "x/a", "y/a", "y/b", "z\\c", "c"])), max_size=9),
    st.lists(st.sampled_from(["a", "b", "c", "x/a", "q/d"]), min_size=1, max_size=4, unique=True),
    st.sampled_from(["raw", "basename"]),
)
@settings(max_examples=60, deadline=None)
def test_folding_and_match_rates_as_duckdb_and_pandas_count_them(values, scored, rule):
    frame = pl.DataFrame({"clip_id": values}, schema={"clip_id": pl.String})
    scores = scores_of(*((key, float(n)) for n, key in enumerate(scored)))
    key = BASENAMES[rule]
    features, evidence = frame.to_pandas(), scores.to_pandas()
    duplicates = duckdb.sql(
        f"select 1 from (select {key.format('key')} k from evidence) group by k having count(*) > 1"
    ).fetchall()
    [[folded]] = duckdb.sql(
        f"""select coalesce(sum(n), 0) from (
            select count(distinct clip_id) n from (select clip_id, {key.format("clip_id")} k from features)
            where k is not null group by k
        ) where n > 1"""
    ).fetchall()
    own = features["clip_id"].dropna()
    if rule == "basename":
        own, evidence["key"] = (
            own.str.replace(r".*[/\\]", "", regex=True),
            evidence["key"].str.replace(r".*[/\\]", "", regex=True),
        )
    distinct = set(own)
    rate = len(distinct & set(evidence["key"])) / len(distinct) if distinct else float(not values)

    def run(least=None, **options):
        return pm.join_scores(frame, scores, key_normalize=rule, min_match_rate=least, **options)

    if duplicates:
        with pytest.raises(errors.DuplicateKeyError, match="more than one score of "):
            run()
        return
    if folded:
        with pytest.raises(errors.FoldingError) as caught:
            run()
        assert caught.value.fields["offenders"]["text"].list.len().sum() == folded
    result = run(rate, allow_folding=True)
    if rate < 1:
        with pytest.raises(errors.MatchRateError, match=f"match rate {rate:.4f} "):
            run(rate + 1e-9, allow_folding=True)
    by_pandas = features.assign(key=own).merge(evidence[["key", "score"]], on="key", how="left")["score"]
    assert [None if is_nan(score) else score for score in by_pandas] == result[
        "second_opinion_m_score"
    ].to_list()


# --- columns that exist -------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_columns_that_exist_are_refused_at_once(part):
    name = f"second_opinion_m_{part}"
    frame = pl.LazyFrame({"clip_id": ["a"], name: [1]})

    with pytest.raises(errors.ColumnExistsError, match=name):
        pm.join_scores(frame, scores_of(("a", 1.0)))


@every_engine
def test_overwrite_replaces_in_place(engine):
    frame = pl.DataFrame(
        {
            "second_opinion_m_status": [1, 2],
            "x": [3, 4],
            "second_opinion_m_score": ["old", "old"],
            "clip_id": ["a", "b"],
            "y": [5, 6],
        }
    )

    result = as_text(joined(frame, scores_of(("a", 1.0)), engine=engine, overwrite=True))

    new = [f"second_opinion_m_{part}" for part in ("runtime_ms", "frames", "source")]
    assert result.columns == [*frame.columns, *new]
    assert result.rows() == [
        ("ok", 3, 1.0, "a", 5, None, 0, None),
        ("missing", 4, None, "b", 6, None, 0, None),
    ]


@every_engine
def test_joining_twice_with_overwrite_is_joining_once(engine):
    frame = pl.DataFrame({"clip_id": ["a", "b", "a"], "x": [1, 2, 3]})
    once = joined(frame, scores_of(("a", 1.0)), engine=engine)

    twice = joined(once, scores_of(("a", 1.0)), engine=engine, overwrite=True)

    assert_frame_equal(as_text(twice), as_text(once))


def test_overwrite_never_replaces_the_key():
    frame = pl.DataFrame({"second_opinion_m_source": ["a"]})

    with pytest.raises(errors.ColumnExistsError, match="key"):
        pm.join_scores(frame, scores_of(("a", 1.0)), key_column="second_opinion_m_source", overwrite=True)


@every_engine
@pytest.mark.parametrize(
    "name", ["key", "rows", "value", "text", "len", "scorer", "place", "score", "literal"]
)
def test_column_names_that_a_join_might_use_inside(engine, name):
    frame = pl.DataFrame({"clip_id": ["b", "a", "a"], name: ["x", None, "y"]})

    result = joined(frame, scores_of(("a", 1.0)), engine=engine, key_column="clip_id")
    as_key = joined(frame.select(name), scores_of(("x", 1.0)), engine=engine, key_column=name)

    assert_frame_equal(result.select(frame.columns), frame)
    assert as_key["second_opinion_m_score"].to_list() == [1.0, None, None]


# --- options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"key_normalize": "base"}, {"missing_policy": "ignore"}, {"bad_policy": ""}, {"prefix": " "}],
)
def test_unknown_choices_are_refused_at_once(options):
    with pytest.raises(errors.OptionError, match=next(iter(options))):
        pm.join_scores(pl.LazyFrame({"clip_id": ["a"]}), scores_of(("a", 1.0)), **options)


@pytest.mark.parametrize("lacking", ["scorer", "key", "score"])
def test_a_frame_that_is_no_scores_is_refused(lacking):
    with pytest.raises(errors.OptionError, match=lacking):
        pm.join_scores(pl.DataFrame({"clip_id": ["a"]}), scores_of(("a", 1.0)).drop(lacking))


def test_scores_of_your_own_need_a_score_where_ok():
    with pytest.raises(errors.SidecarError, match=r"rows\[1\]"):
        pm.join_scores(pl.DataFrame({"clip_id": ["a"]}), scores_of(("a", 1.0), ("b", float("nan"))))


def test_scores_of_your_own_may_have_number_keys():
    scores = pl.DataFrame({"scorer": "m", "key": [1.0, 2.0], "score": [1, 2]})

    result = pm.join_scores(pl.DataFrame({"clip_id": [2, 1]}), scores)

    assert result["second_opinion_m_score"].to_list() == [2.0, 1.0]


# --- no rows, and when work happens -------------------------------------------------------------------


@every_engine
@pytest.mark.parametrize("policy", ["mark", "drop", "fail"])
def test_a_table_without_rows(engine, policy):
    frame = pl.DataFrame(schema={"clip_id": pl.String, "vmaf": pl.Float64})

    result = joined(frame, scores_of(("a", 1.0)), engine=engine, missing_policy=policy, bad_policy=policy)

    assert result.height == 0
    assert result.columns == ["clip_id", "vmaf", *(f"second_opinion_m_{part}" for part in PARTS)]


@every_engine
@pytest.mark.parametrize("policy", ["missing_policy", "bad_policy"])
def test_a_drop_of_every_row_is_refused(engine, policy):
    frame = pl.DataFrame({"clip_id": ["a", "a", "c"]})
    scores = (
        scores_of(("b", 1.0)) if policy == "missing_policy" else scores_of(("a", 1, "bad"), ("c", 2, "bad"))
    )
    error = errors.MissingScoreError if policy == "missing_policy" else errors.BadScoreError

    with pytest.raises(error) as caught:
        joined(frame, scores, engine=engine, **{policy: "drop"})

    assert str(caught.value).startswith(f"{policy} 'drop' would leave no row: m: 3 rows ")
    assert caught.value.offenders.rows() == [("m", "a", 2), ("m", "c", 1)]


def test_two_policies_that_drop_every_row_together_are_refused():
    frame = pl.DataFrame({"clip_id": ["a", "b"]})
    scores = scores_of(("a", 1.0, "bad"))

    with pytest.raises(errors.MissingScoreError, match=r"^missing_policy 'drop' and bad_policy 'drop' would"):
        pm.join_scores(frame, scores, missing_policy="drop", bad_policy="drop")

    kept = pm.join_scores(frame, scores, missing_policy="drop", min_match_rate=0)
    assert kept["clip_id"].to_list() == ["a"]


def counting(frame):
    """A LazyFrame that counts how often its rows are read."""
    reads = []

    def source(with_columns, predicate, n_rows, batch_size):  # noqa: ARG001 - the size is a hint
        reads.append(with_columns)
        part = frame if with_columns is None else frame.select(with_columns)
        part = part if n_rows is None else part.head(n_rows)
        yield part if predicate is None else part.filter(predicate)

    return register_io_source(source, schema=frame.schema), reads


@lazy_engines
def test_only_the_schema_is_read_before_collect(engine):
    lf, reads = counting(pl.DataFrame({"clip_id": ["a", "b"], "x": [1, 2]}))

    plan = lf.pipe(pm.join_scores, scores_of(("a", 1.0)), missing_policy="mark")
    plan = plan.filter(pl.col("x") > 1).with_columns(y=pl.col("second_opinion_m_score") * 2)
    schema = plan.collect_schema()
    before = len(reads)
    result = plan.collect(engine=engine)

    assert before == 0
    assert len(reads) > 0
    assert result.schema == schema


@lazy_engines
def test_only_the_schema_of_a_deferred_table_is_read_before_collect(engine):
    frame = pl.DataFrame({"clip_id": ["a", "b"], "x": [1, 2]})
    reads = []

    def load():
        reads.append(1)
        return frame

    plan = pm.join_scores(pl.defer(load, schema=frame.schema), scores_of(("a", 1.0)), bad_policy="fail")
    before = len(reads)
    result = plan.collect(engine=engine)

    assert before == 0
    assert_frame_equal(result.select("clip_id", "x"), frame)


def test_joins_of_two_sets_of_scores_compose():
    frame = pl.LazyFrame({"clip_id": ["a", "b"]})

    plan = frame.pipe(pm.join_scores, scores_of(("a", 1.0))).pipe(
        pm.join_scores, scores_of(("b", 2.0), scorer="n")
    )

    result = plan.select(pl.col("^.*_score$")).collect()
    assert result.rows() == [(1.0, None), (None, 2.0)]


@lazy_engines
def test_the_second_guard_of_two_joins_fires(engine):
    frame = pl.LazyFrame({"clip_id": ["a", "b"]})
    plan = frame.pipe(pm.join_scores, scores_of(("a", 1.0)), missing_policy="drop").pipe(
        pm.join_scores, scores_of(("b", 2.0), scorer="n"), missing_policy="fail"
    )

    with pytest.raises(errors.MissingScoreError, match="'a'"):
        plan.collect(engine=engine)


# --- random tables against a second opinion -----------------------------------------------------------

KEYS = st.sampled_from(
    ["a", "b", "c", " a ", "x/a", "y/a.mp4", "x\\b.MP4", "a.mp4", "b.mp4", "c/", "t_20.0", "t_20"]
)
TEXT_CELLS = st.one_of(
    KEYS, KEYS, KEYS, st.sampled_from([None, "", " ", "/", "caf\u00e9", "cafe\u0301", "1", "12345"])
)
INT_CELLS = st.sampled_from([None, 1, 2, 3, 12345])
FLOAT_CELLS = st.sampled_from([None, 1.0, 2.0, 12345.0, 0.5, float("nan")])
DECIMAL_CELLS = st.sampled_from([None, *map(Decimal, ("1", "2.00", "0.50", "12345.0", "100"))])
COLUMNS = st.sampled_from(
    [
        (pl.String, TEXT_CELLS),
        (pl.String, TEXT_CELLS),
        (pl.Categorical, TEXT_CELLS),
        (pl.Int64, INT_CELLS),
        (pl.Float64, FLOAT_CELLS),
        (pl.Decimal(10, 2), DECIMAL_CELLS),
    ]
)


@st.composite
def tables(draw):
    dtype, cells = draw(COLUMNS)
    name = draw(st.sampled_from(["clip_id", "path"]))
    values = draw(st.lists(cells, min_size=draw(st.sampled_from([5, 5, 1, 0])), max_size=12))
    return name, pl.DataFrame({"row": range(len(values)), name: pl.Series(values, dtype=dtype)})


@st.composite
def score_lists(draw):
    names = draw(
        st.lists(st.sampled_from(["dover", "Q-Align", "musiq"]), min_size=1, max_size=3, unique=True)
    )
    field = draw(st.sampled_from(["clip_id", "path"]))
    found = []
    for name in names:
        cells = st.one_of(KEYS, st.sampled_from(["1", "2", "12345", "cafe\u0301", "0.5"]))
        # Keys that no rule folds, most of the time: else nearly every example is a duplicate.
        unique = (
            (lambda key: oracle.normalize(oracle.key_text(key), "stem")) if draw(st.integers(0, 9)) else None
        )
        for key in draw(st.lists(cells, min_size=1, max_size=6, unique_by=unique)):
            status = draw(st.sampled_from(["ok", "ok", "ok", "bad"]))
            score = draw(st.floats(-100, 100)) if status == "ok" or draw(st.booleans()) else None
            runtime = draw(st.sampled_from([None, 1.5]))
            found.append(oracle.Score(name, key, field, score, status, runtime))
    return found


POLICIES = st.sampled_from(["mark", "mark", "drop", "fail"])
OPTIONS = st.fixed_dictionaries(
    {
        "key_normalize": st.sampled_from(["auto", "auto", "raw", "basename", "stem"]),
        "missing_policy": POLICIES,
        "bad_policy": POLICIES,
        "min_match_rate": st.sampled_from([None, None, 0.0, 0.3, 1.0]),
        "allow_folding": st.sampled_from([False, True]),
        "prefix": st.sampled_from(["second_opinion", "nr"]),
    }
)


def write_sidecar(path, scores):
    lines = [
        {score.key_field: score.key, "competitor": score.scorer, "score": score.score}
        | {"status": score.status, "runtime_ms": score.runtime_ms}
        for score in scores
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for score in scores:
        score.source = str(path)


def is_nan(value):
    return isinstance(value, float) and math.isnan(value)


def same(found, wanted):
    return found == wanted or (is_nan(found) and is_nan(wanted))


def assert_rows(frame, expected):
    found = as_text(frame).rows(named=True)
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert list(row) == list(wanted)
        assert all(map(same, row.values(), wanted.values()))


@given(tables(), score_lists(), OPTIONS, st.sampled_from(["eager", *ENGINES]))
@settings(max_examples=300)
def test_random_joins_as_the_second_opinion(table, scores, options, engine):
    name, frame = table
    with TemporaryDirectory() as folder:
        write_sidecar(Path(folder) / "x.jsonl", scores)
        sidecars = pm.scan_scores(Path(folder) / "x.jsonl").collect()
    expected = oracle.join(frame.rows(named=True), scores, key_column=name, **options)
    if expected.refusals:
        with pytest.raises(errors.MaterializeError) as caught:
            joined(frame, sidecars, engine=engine, key_column=name, **options)
        assert caught.value.code in expected.refusals
        return

    result = joined(frame, sidecars, engine=engine, key_column=name, **options)

    assert_rows(result, expected.rows)


@given(tables(), score_lists(), OPTIONS)
@settings(max_examples=120)
def test_random_audits_as_the_second_opinion(table, scores, options):
    name, frame = table
    with TemporaryDirectory() as folder:
        sidecar, features, out = (Path(folder) / part for part in ("x.jsonl", "f.parquet", "o.parquet"))
        write_sidecar(sidecar, scores)
        frame.write_parquet(features)
        expected = oracle.join(frame.rows(named=True), scores, key_column=name, **options)
        if expected.refusals:
            with pytest.raises(errors.MaterializeError) as caught:
                pm.materialize_scores(features, sidecar, out, key_column=name, **options)
            assert caught.value.code in expected.refusals
            assert not out.exists()
            return

        audit = pm.materialize_scores(features, sidecar, out, key_column=name, **options)

        assert_rows(pl.read_parquet(out), expected.rows)
    assert audit.input_rows == expected.input_rows
    assert audit.output_rows == len(expected.rows)
    assert sorted(audit.competitors) == sorted(expected.competitors)
    for scorer, counts in expected.competitors.items():
        found = {field: getattr(audit.competitors[scorer], field) for field in counts}
        assert found == counts
    assert {field: getattr(audit.keys, field) for field in expected.keys} == expected.keys


def own_scores(**columns):
    return pl.DataFrame({"scorer": ["x"], "key": ["a"], "score": [0.5]}).with_columns(
        pl.Series(name, [value]) for name, value in columns.items()
    )


def test_booleans_in_a_frame_of_ones_own_are_no_numbers():
    table = pl.DataFrame({"clip_id": ["a"]})

    with pytest.raises(errors.SidecarError, match="without a usable score"):
        pm.join_scores(table, own_scores(score=True))
    found = pm.join_scores(table, own_scores(runtime_ms=True))
    assert found["second_opinion_x_runtime_ms"].to_list() == [None]


@pytest.mark.parametrize("time", [math.nan, math.inf])
def test_a_run_time_of_ones_own_that_is_not_finite_is_null(time):
    scores = own_scores(runtime_ms=time)
    table = pl.DataFrame({"clip_id": ["a"]})
    # A frame with all columns takes another way.
    complete = scores.select(
        (pl.col(name) if name in scores.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in pm.SCORE_SCHEMA.items()
    ).with_columns(frames=pl.lit(0, dtype=pl.Int64), status=pl.lit("ok"))

    for frame in (scores, complete):
        assert pm.join_scores(table, frame)["second_opinion_x_runtime_ms"].to_list() == [None]


@pytest.mark.parametrize("frames", [-3, 2.5, True, "-3"])
def test_frames_of_ones_own_are_counts(frames):
    with pytest.raises(errors.OptionError, match="'frames': expected whole numbers, 0 or more"):
        pm.join_scores(pl.DataFrame({"clip_id": ["a"]}), own_scores(frames=frames))


def test_no_option_is_suggested_that_frames_do_not_have():
    twice = pl.concat([own_scores(), own_scores()])

    with pytest.raises(errors.DuplicateKeyError, match=r"expected one row for each scorer and key$"):
        pm.join_scores(pl.DataFrame({"clip_id": ["a"]}), twice)


def test_clips_that_a_policy_refuses_are_counted_by_key():
    table = pl.DataFrame({"clip_id": ["b", " b", "a"]})

    with pytest.raises(errors.MissingScoreError, match=r"x: 2 rows .*, 1 clip: 'b'$"):
        pm.join_scores(table, own_scores(), missing_policy="fail")


def test_a_prefix_that_polars_takes_for_a_pattern_is_told_so():
    with pytest.raises(errors.OptionError, match=r"^prefix: '\^a\$'; expected .* patterns$"):
        pm.join_scores(pl.DataFrame({"clip_id": ["a"]}), own_scores(), prefix="^a$")
