"""`guards="now"`: a join that checks at once and gives a plan without Python in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import errors

REPOSITORY = Path(pm.__file__).resolve().parents[1]
FEATURES = pl.DataFrame({"clip_id": ["a", "b", None, "a", "c"], "vmaf": [1.0, 2.0, 3.0, 4.0, 5.0]})
SCORES = pl.DataFrame({"scorer": "m", "key": ["a", "b"], "score": [0.5, 0.25], "source": ["s.jsonl", None]})
LABELS = pl.DataFrame({"key": ["a", "b", "z"], "mos": [4.5, 3.0, 2.0]})
PYTHON = ("PYTHON", "python_udf")
ELSEWHERE = """
import sys
import polars as pl
assert "polars_materialize" not in sys.modules
plan = pl.LazyFrame.deserialize("plan.bin")
plan.collect(engine=sys.argv[1]).write_parquet("found.parquet")
plan.filter(pl.col("clip_id") == "a").sink_parquet("filtered.parquet")
assert "polars_materialize" not in sys.modules
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A feature table in a file, in a current folder."""
    monkeypatch.chdir(tmp_path)
    FEATURES.write_parquet("f.parquet")
    return tmp_path / "f.parquet"


def both(frame, **options):
    """Scores and labels joined onto a frame."""
    scored = pm.join_scores(frame, SCORES, **options)
    return pm.join_labels(scored, LABELS, min_match_rate=0.5, **options)


def has_python(plan):
    """Whether a plan calls Python."""
    shown = plan.explain(optimized=False)
    return any(part in shown for part in PYTHON)


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
def test_a_plan_is_collected_in_another_process(table, engine):
    plan = both(pl.scan_parquet(table), guards="now")
    plan.serialize("plan.bin")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    subprocess.run([sys.executable, "-c", ELSEWHERE, engine], check=True, env=environment, timeout=120)

    expected = both(FEATURES)
    found = pl.read_parquet("found.parquet")
    assert found.schema == expected.schema
    assert_frame_equal(found, expected, categorical_as_str=True)
    filtered = pl.read_parquet("filtered.parquet")
    assert_frame_equal(filtered, expected.filter(clip_id="a"), categorical_as_str=True)


@pytest.mark.usefixtures("table")
def test_a_plan_of_what_is_read_from_files_has_no_python_either(tmp_path):
    (tmp_path / "s.jsonl").write_text('{"clip_id": "a", "competitor": "m", "score": 0.5}\n')
    (tmp_path / "l.csv").write_text("name,mos\na,4\nb,3\nc,2\n")
    plan = pl.scan_parquet("f.parquet")
    plan = pm.join_scores(plan, pm.scan_scores("s.jsonl"), missing_policy="drop", guards="now")
    plan = pm.join_labels(plan, pm.scan_labels("l.csv"), guards="now")
    assert not has_python(plan)
    again = pl.LazyFrame.deserialize(plan.serialize()).collect()
    assert_frame_equal(again, plan.collect(), categorical_as_str=True)
    assert again["vmaf"].to_list() == [1.0, 4.0]


def test_a_plan_has_python_only_if_guards_wait(table):
    lf = pl.scan_parquet(table)
    assert not has_python(lf)
    assert not has_python(both(lf, guards="now"))
    assert has_python(both(lf))
    assert has_python(both(lf, guards="lazy"))
    assert_frame_equal(both(lf).collect(), both(lf, guards="now").collect(), categorical_as_str=True)


FAILING = [
    (lambda f, **o: pm.join_labels(f, LABELS, min_match_rate=0.9, **o), errors.MatchRateError, "'c'"),
    (lambda f, **o: pm.join_scores(f, SCORES, missing_policy="fail", **o), errors.MissingScoreError, "'c'"),
    (
        lambda f, **o: pm.join_scores(f, SCORES.with_columns(status=pl.lit("bad")), bad_policy="fail", **o),
        errors.BadScoreError,
        "'a', 'b'",
    ),
    (
        lambda f, **o: pm.join_scores(f.select(path=pl.format("{}/x.mp4", "vmaf")), SCORES, **o),
        errors.FoldingError,
        "'1.0/x.mp4'",
    ),
]


@pytest.mark.parametrize(("work", "error", "words"), FAILING)
def test_guards_fire_at_the_call_and_else_when_the_result_is_collected(table, work, error, words):
    lf = pl.scan_parquet(table)
    with pytest.raises(error, match=words):
        work(lf, guards="now")
    plan = work(lf)
    with pytest.raises((error, pl.exceptions.ComputeError)) as info:
        plan.collect()
    assert error.__name__ in f"{type(info.value).__name__}: {info.value}"
    assert words in str(info.value)


@pytest.mark.usefixtures("table")
def test_the_table_is_looked_at_now_and_read_again_later():
    lf = pl.scan_parquet("f.parquet")
    plan = both(lf, guards="now")
    FEATURES.with_columns(vmaf=pl.lit(9.0)).write_parquet("f.parquet")
    assert plan.collect()["vmaf"].to_list() == [9.0] * 5


@pytest.mark.parametrize("guards", ["now", "lazy"])
def test_frames_in_memory_are_joined_at_once_in_any_case(guards):
    found = both(FEATURES, guards=guards)
    assert isinstance(found, pl.DataFrame)
    assert_frame_equal(found, both(FEATURES), categorical_as_str=True)


@pytest.mark.parametrize("frame", [FEATURES, FEATURES.lazy()])
@pytest.mark.parametrize("guards", ["later", "", None, True])
def test_other_values_are_refused(frame, guards):
    for work in (lambda: pm.join_scores(frame, SCORES, guards=guards), lambda: both(frame, guards=guards)):
        with pytest.raises(errors.OptionError, match=f"guards: {guards!r}; expected one of lazy now"):
            work()
