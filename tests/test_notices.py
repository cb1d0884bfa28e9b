"""Warnings of evidence that meets no row, or few: in Python, in audits, and on the command line."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.cli import main

FRAME = pl.DataFrame({"clip_id": ["a", "b", "c", "d", "d"]})
NONE = "m: no key is on both sides: rows have 'a', 'b', 'c' and 1 more, scores 'x'"
FEW = "m: match rate 0.2500 (1 of 4 distinct keys have a score); min_match_rate says how many to expect"
LABELS = "labels: no key is on both sides: rows have 'a', 'b', 'c' and 1 more, labels 'x'"


def scores_of(*keys):
    """Scores of some keys."""
    return pl.DataFrame({"scorer": "m", "key": keys, "score": [1.0] * len(keys)})


def warned(call):
    """What a call warns of: each text, and the line that it points at."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(one.category is errors.MatchWarning for one in caught)
    return [(str(one.message), Path(one.filename).name, one.lineno) for one in caught]


def line_of(marked):
    """The number of the line of this file that ends with a mark."""
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if line.endswith(f"# {marked}"))


@pytest.mark.parametrize(
    ("keys", "options", "texts"),
    [
        (["x"], {}, [NONE]),
        (["a"], {}, [FEW]),
        (["a", "b"], {}, []),
        # Who says how much to expect is not told of less than that.
        (["a"], {"min_match_rate": 0.25}, []),
        (["x"], {"min_match_rate": 0}, [NONE]),
    ],
)
@pytest.mark.parametrize("engine", ["eager", "now", "streaming", "in-memory"])
def test_scores_that_meet_no_row_or_few(engine, keys, options, texts):
    def eager():
        pm.join_scores(FRAME, scores_of(*keys), **options)  # eager

    def now():
        pm.join_scores(FRAME.lazy(), scores_of(*keys), guards="now", **options)  # now

    def lazy():
        plan = FRAME.lazy().pipe(pm.join_scores, scores_of(*keys), **options)  # lazy
        found.append(warned(plan.collect_schema))
        plan.collect(engine=engine)

    found = []
    call = {"eager": eager, "now": now}.get(engine, lazy)
    mark = engine if engine in ("eager", "now") else "lazy"

    assert warned(call) == [(text, "test_notices.py", line_of(mark)) for text in texts]
    assert found in ([], [[]])  # nothing is said before the plan is collected


def test_a_table_without_rows_is_no_reason_to_warn():
    labels = pl.DataFrame({"key": ["x"], "mos": [3.0]})

    assert warned(lambda: pm.join_scores(FRAME.clear(), scores_of("x"))) == []
    assert warned(lambda: pm.join_labels(FRAME.clear(), labels, min_match_rate=0)) == []


def test_a_warning_may_be_an_error():
    plan = pm.join_scores(FRAME.lazy(), scores_of("x"))

    with warnings.catch_warnings():
        warnings.simplefilter("error", errors.MatchWarning)
        with pytest.raises(errors.MatchWarning, match="no key is on both sides"):
            plan.collect()


@pytest.mark.parametrize("lazy", [True, False])
def test_labels_that_meet_no_row(lazy):
    labels = pl.DataFrame({"key": ["x"], "mos": [3.0]})
    frame = FRAME.lazy() if lazy else FRAME

    def join():
        pm.join_labels(frame, labels, min_match_rate=0).lazy().collect()

    assert [text for text, *_ in warned(join)] == [LABELS]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A table, and evidence that meets no row of it."""
    monkeypatch.chdir(tmp_path)
    FRAME.write_parquet("f.parquet")
    (tmp_path / "s.jsonl").write_text('{"clip_id": "x", "score": 0.5}\n')
    (tmp_path / "l.csv").write_text("clip_id,mos\nx,3\n")
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_runs_warn_where_they_are_called():
    scores = pm.ScorePart(files=["m=s.jsonl"])
    labels = pm.LabelPart(files=["l.csv"], min_match_rate=0)
    audits = []

    def run():
        audits.append(pm.materialize_scores("f.parquet", "m=s.jsonl", "o.parquet"))  # scores
        audits.append(pm.materialize_labels("f.parquet", "l.csv", "o.parquet", min_match_rate=0))  # labels
        audits.append(pm.refresh_table("f.parquet", "o.parquet", scores=scores, labels=labels))  # both

    found = warned(run)

    name = "test_notices.py"
    assert found == [
        (NONE, name, line_of("scores")),
        (LABELS, name, line_of("labels")),
        (LABELS, name, line_of("both")),
        (NONE, name, line_of("both")),
    ]
    assert [audit.warnings for audit in audits] == [[NONE], [LABELS], [LABELS, NONE]]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["second-opinion", "table", "--scores", "m=s.jsonl"], [NONE]),
        (["mos-labels", "table", "--labels", "l.csv", "--min-match-rate", "0"], [LABELS]),
        (["refresh", "table", "--scores", "m=s.jsonl"], [NONE]),
    ],
)
def test_the_command_line_says_it_once_in_its_own_words(command, said, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            main([*command, "--features", "f.parquet", "--out", "o.parquet", "--audit-json", "a.json"]) == 0
        )

    lines = capsys.readouterr().err.splitlines()
    assert lines[:-1] == [f"warning: {text}" for text in said]
    assert json.loads(Path("a.json").read_text())["warnings"] == said
