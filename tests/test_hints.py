"""Scores that no row has: said, with what would help, wherever a user looks."""

from __future__ import annotations

import json

import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize import errors, hints
from polars_materialize.cli import main
from polars_materialize.hints import explain_no_match, suggest_match

STEM = (
    "no key is on both sides: rows have 'a.mp4', 'b.mp4', scores 'a'; "
    "by key_normalize 'stem' 1 of 2 keys would match"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Rows that name files, and scores and labels that name clips."""
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"clip_id": ["a.mp4", "a.mp4", "b.mp4"], "vmaf": [1.0, 2.0, 3.0]}).write_parquet("f.parquet")
    (tmp_path / "dover.jsonl").write_text('{"clip_id": "a", "score": 0.5}\n')
    (tmp_path / "musiq.jsonl").write_text('{"clip_id": "b.mp4", "score": 0.7}\n')
    (tmp_path / "labels.csv").write_text("clip_id,mos\na,3\nb,4\n")
    return tmp_path


@pytest.mark.parametrize(
    ("rows", "others", "hint"),
    [
        (["a.mp4", "b.mp4", None], ["a", "c"], "by key_normalize 'stem' 1 of 2 keys would match"),
        (["x/a.mp4", "x/b.mp4"], ["a.mp4", "b.mp4"], "by key_normalize 'basename' 2 of 2 keys would match"),
        (["x/a.mp4"], ["y/a.mkv"], "by key_normalize 'stem' 1 of 1 key would match"),
        (["Clip_A", "clip_b"], ["clip_a"], "if they were spelled in lower case 1 of 2 keys would match"),
        (["12", "13"], ["00012", "0013"], "if they had no leading zeros 2 of 2 keys would match"),
        (["0", "a"], ["000"], "if they had no leading zeros 1 of 2 keys would match"),
        (["a"], ["b"], ""),
        (["0a"], ["a"], ""),
        ([], ["b"], ""),
        ([None], [None], ""),
        # What helps most is said.
        (["a.mp4", "b.mp4", "C"], ["a", "b", "c"], "by key_normalize 'stem' 2 of 3 keys would match"),
    ],
)
def test_what_would_make_keys_meet(rows, others, hint):
    sides = (pl.Series(side, dtype=pl.String) for side in (rows, others))

    assert suggest_match(*sides) == hint


def test_keys_of_both_sides_are_shown_and_counted():
    text = explain_no_match(pl.Series([f"k{n}" for n in range(9)]), pl.Series(["x", None, "x"]))

    assert text == "no key is on both sides: rows have 'k0', 'k1', 'k2' and 6 more, scores 'x'"


def test_a_table_without_keys_is_told_from_one_with_others():
    assert explain_no_match(pl.Series([None, None], dtype=pl.String), pl.Series(["x"])) == "no row has a key"


@pytest.mark.parametrize("lazy", [True, False])
def test_an_error_of_a_policy_says_it_too(lazy):
    frame = pl.DataFrame({"clip_id": ["a.mp4", "b.mp4"]})
    scores = pl.DataFrame({"scorer": ["dover", "musiq"], "key": ["a", "b.mp4"], "score": [0.5, 0.7]})

    def join(frame):
        return pm.join_scores(frame, scores, missing_policy="fail")

    with pytest.raises(errors.MissingScoreError) as caught:
        join(frame.lazy()).collect() if lazy else join(frame)

    # A scorer that some rows met is not explained.
    assert str(caught.value) == (
        f"missing_policy 'fail': dover: 2 rows without a score, 2 clips: 'a.mp4', 'b.mp4' ({STEM}); "
        "musiq: 1 row without a score, 1 clip: 'a.mp4'"
    )


@pytest.mark.usefixtures("folder")
def test_too_low_a_match_rate_says_what_would_help():
    with pytest.raises(errors.MatchRateError, match=r"'b'; by key_normalize 'stem' 2 of 2 keys would match$"):
        pm.materialize_labels("f.parquet", ["labels.csv"], "o.parquet")

    audit = pm.materialize_labels("f.parquet", ["labels.csv"], "o.parquet", key_normalize="stem")
    assert audit.match_rate == 1.0


@pytest.mark.usefixtures("folder")
def test_an_audit_has_it_only_for_scorers_that_no_row_met():
    audit = pm.materialize_scores("f.parquet", ["dover=dover.jsonl", "musiq=musiq.jsonl"], "o.parquet")

    assert {name: counts.hint for name, counts in audit.competitors.items()} == {"dover": STEM, "musiq": None}


@pytest.mark.parametrize("rows", [{"clip_id": []}, {"clip_id": ["a"]}])
def test_there_is_nothing_to_explain_of_no_rows_and_of_bad_scores(folder, rows):
    pl.DataFrame(rows, schema={"clip_id": pl.String}).write_parquet("e.parquet")
    (folder / "bad.jsonl").write_text('{"clip_id": "a", "status": "failed"}\n')

    audit = pm.materialize_scores("e.parquet", ["bad=bad.jsonl"], "o.parquet")

    assert audit.competitors["bad"].hint is None


@pytest.mark.usefixtures("folder")
def test_a_single_run_notes_it(capsys):
    options = ["--features", "f.parquet", "--out", "o.parquet"]
    scores = ["--scores", "dover=dover.jsonl", "--scores", "musiq=musiq.jsonl"]

    assert main(["second-opinion", "table", *options, *scores]) == 0
    single = capsys.readouterr().err.splitlines()
    assert main(["refresh", "table", *options, *scores]) == 0
    refreshed = capsys.readouterr().err.splitlines()

    assert single[0] == refreshed[0] == f"note: dover: {STEM}"
    assert single[1].startswith("second-opinion materialize: input_rows=3")
    assert refreshed[1].startswith("refresh materialize: input_rows=3")
    assert len(single) == len(refreshed) == 2


@pytest.mark.parametrize("kind", ["second-opinion", "refresh"])
def test_a_batch_notes_it_and_keeps_it_in_its_reports(folder, kind, capsys):
    entries = ["dover=dover.jsonl", "musiq=musiq.jsonl"]
    scores = entries if kind == "second-opinion" else {"files": entries}
    table = {"id": "t|1", "features": "f.parquet", "scores": scores, "out": "o.parquet"}
    (folder / "m.json").write_text(json.dumps({"tables": [table]}))

    options = ["--manifest", "m.json", "--report-json", "r.json", "--report-md", "r.md"]
    assert main([kind, "batch", *options]) == 0

    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"table 't|1': warning: dover: {STEM}"
    assert said[-1].startswith(f"{kind} batch materialize: tables=1 input_rows=3")
    assert len(said) == 2
    markdown = (folder / "r.md").read_text()
    assert f"## Warnings\n\n- Table t\\|1: dover: {STEM}" in markdown
    summary = json.loads((folder / "r.json").read_text())["tables"][0]["summary"]
    competitors = (summary if kind == "second-opinion" else summary["scores"])["competitors"]
    assert (competitors["dover"]["hint"], competitors["musiq"]["hint"]) == (STEM, None)


def test_of_many_keys_the_first_are_tried(monkeypatch):
    monkeypatch.setattr(hints, "TRIED", 2)
    rows = pl.Series(["b.mp4", "a.mp4", "b.mp4", "c.mp4"])

    hint = suggest_match(rows, pl.Series(["c", "b", "a"]))

    assert hint == "by key_normalize 'stem' 2 of the first 2 keys would match"
