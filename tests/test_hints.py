"""Scores that no row has: said, with what would help, wherever a user looks."""

from __future__ import annotations

import json
import re

import oracle
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.cli import main

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


def hint_of(rows, others, **options):
    """The hint of a join of scores, and the number of rows; none if a row has a score."""
    frame = pl.DataFrame({"clip_id": rows}, schema={"clip_id": pl.String})
    scores = pl.DataFrame({"scorer": "m", "key": others, "score": [float(n) for n in range(len(others))]})
    try:
        pm.join_scores(frame, scores, min_match_rate=1, **options)
    except errors.MatchRateError as error:
        found = re.search(r"; (by|if) .*$", str(error))
        return found.group(0)[2:] if found else ""
    return None


@pytest.mark.parametrize(
    ("rows", "others", "hint"),
    [
        (["a.mp4", "b.mp4", None], ["a", "c"], "by key_normalize 'stem' 1 of 2 keys would match"),
        (["x/a.mp4", "x/b.mp4"], ["a.mp4", "b.mp4"], "by key_normalize 'basename' 2 of 2 keys would match"),
        (["in/x/a.mp4"], ["./x/a.mkv"], "by key_normalize 'stem' 1 of 1 key would match"),
        (["/d/in/x/a.mp4"], ["in\\x\\a.mp4"], "by key_normalize 'basename' 1 of 1 key would match"),
        (["x/a.mp4"], ["/in/x/a"], "by key_normalize 'stem' 1 of 1 key would match"),
        (["a/./b/x.mp4"], ["b//x.mp4"], "by key_normalize 'basename' 1 of 1 key would match"),
        (["Clip_A", "clip_b"], ["clip_a"], "if they were spelled in lower case 1 of 2 keys would match"),
        (["12", "13"], ["00012", "0013"], "if they had no leading zeros 2 of 2 keys would match"),
        (["0", "a"], ["000"], "if they had no leading zeros 1 of 2 keys would match"),
        (["a"], ["b"], ""),
        (["0a"], ["a"], ""),
        # What helps most is said, and counts the keys that there are then.
        (["a.mp4", "b.mp4", "C"], ["a", "b", "c"], "by key_normalize 'stem' 2 of 3 keys would match"),
        # Some rows match as they are.
        (["a", "b.mp4"], ["a", "b"], "by key_normalize 'stem' 2 of 2 keys would match"),
        # Nothing that makes one key of several values, on either side.
        (["A/x", "B/x"], ["A/x.mp4"], ""),
        (["a/x.mp4", "b/x.mp4"], ["./in/a/x.mp4", "./in/b/x.mp4"], ""),
        (["x.mp4", "z"], ["x", "x.yuv"], ""),
        (["Clip", "clip", "b"], ["CLIP"], ""),
        (["a"], ["A", "\u00c0".lower(), "a".upper() * 2, "Aa"], ""),
        (["1", "2"], ["01", "001"], ""),
        # Nor what joins files of different folders.
        (["A/x"], ["B/x.mp4"], ""),
        (["x/a.mp4"], ["y/a.mp4"], ""),
        (["xa/a.mp4"], ["a/a.mp4"], ""),
        (["a/b/x", "y"], ["a/c/x", "y.mp4"], ""),
        (["/"], ["a/"], ""),
    ],
)
def test_what_would_make_keys_meet(rows, others, hint):
    assert hint_of(rows, others) == hint


def test_a_rule_that_loses_matches_of_another_scorer_is_no_hint():
    frame = pl.DataFrame({"clip_id": ["x/a", "x/b"]})
    scores = pl.DataFrame({"scorer": ["m", "n", "n"], "key": ["a", "x/a", "y/a"], "score": [1.0, 2.0, 3.0]})

    with pytest.raises(errors.MatchRateError) as caught:
        pm.join_scores(frame, scores, min_match_rate=0.5)  # by basename n would have two scores of a
    with pytest.raises(errors.MatchRateError, match="'basename' 1 of 2 keys"):
        pm.join_scores(frame, scores.head(2), min_match_rate=0.5)

    assert "would match" not in str(caught.value)


def test_a_rule_that_loses_matches_of_a_scorer_with_its_own_rule_is_no_hint():
    frame = pl.DataFrame({"clip_id": ["x/a", "x/b"]})
    scores = pl.DataFrame(
        {"scorer": ["m", "n"], "key": ["a", "x/a"], "score": [1.0, 2.0], "key_normalize": [None, "raw"]}
    )

    with pytest.raises(errors.MatchRateError) as caught:
        pm.join_scores(frame, scores, min_match_rate=0.5)

    assert "would match" not in str(caught.value)


def test_a_rule_that_leaves_a_label_without_a_key_is_no_hint():
    labels = pl.DataFrame({"key": ["/", "x/a"], "mos": [3.0, 4.0]})

    with pytest.raises(errors.MatchRateError) as caught:
        pm.join_labels(pl.DataFrame({"clip_id": ["a"]}), labels)
    with pytest.raises(errors.MatchRateError, match="'basename' 1 of 1 key would match"):
        pm.join_labels(pl.DataFrame({"clip_id": ["a"]}), labels.tail(1))

    assert "would match" not in str(caught.value)


def test_sidecars_keep_their_own_rule_when_a_hint_is_tried(tmp_path):
    (tmp_path / "s.jsonl").write_text('{"clip_id": "d/a.mp4", "score": 1}\n')
    frame = pl.DataFrame({"clip_id": ["a"]})
    entry = pm.Sidecar(str(tmp_path / "s.jsonl"), label="m", key_normalize="raw")

    with pytest.raises(errors.MatchRateError) as caught:
        pm.join_scores(frame, pm.scan_scores(entry), min_match_rate=1)

    assert "would match" not in str(caught.value)


@pytest.mark.parametrize("score", ["one/clip.mp4", "clip.mp4"])
def test_an_error_of_folding_has_a_hint_where_a_rule_keeps_values_apart(score):
    frame = pl.DataFrame({"path": ["one/clip.mp4", "two/clip.mp4"]})
    scores = pl.DataFrame({"scorer": "m", "key": [score], "score": [1.0]})

    with pytest.raises(errors.FoldingError) as caught:
        pm.join_scores(frame, scores)

    hint = "by key_normalize 'raw' 1 of 2 keys would match; " if score == "one/clip.mp4" else ""
    assert str(caught.value) == (
        "key_normalize 'auto' (basename) would make 1 key of 2 different values of 'path': "
        f"'one/clip.mp4', 'two/clip.mp4' would all be 'clip.mp4'; {hint}"
        "expected a key for each value, or allow_folding if they are one clip"
    )


def test_keys_of_both_sides_are_shown_and_counted():
    frame = pl.DataFrame({"clip_id": [f"k{n}" for n in range(9)]})
    scores = pl.DataFrame({"scorer": "m", "key": ["x"], "score": [1.0]})

    with pytest.warns(errors.MatchWarning) as caught:
        pm.join_scores(frame, scores)

    text = "m: no key is on both sides: rows have 'k0', 'k1', 'k2' and 6 more, scores 'x'"
    assert [str(one.message) for one in caught] == [text]


def test_a_table_without_keys_is_told_from_one_with_others():
    frame = pl.DataFrame({"clip_id": [None, " "]})

    with pytest.warns(errors.MatchWarning, match="^m: no row has a key$"):
        pm.join_scores(frame, pl.DataFrame({"scorer": "m", "key": ["x"], "score": [1.0]}))


# --- followed, on random keys -------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "A", "a.mp4", "b.yuv", "01", "1", "x.y"])
FOLDERS = st.sampled_from(["", "", "", "d/", "./d/", "in/d/", "e/", "d\\"])
TEXTS = st.builds("{}{}".format, FOLDERS, NAMES)
ASKED = re.compile(r"by key_normalize '(\w+)' ([\d,]+) of ([\d,]+) keys? would match")


def folder_of(text):
    """The parts of the folder that a text names."""
    return [part for part in re.split(r"[/\\]", text)[:-1] if part not in ("", ".")]


def joined_by(rule, rows, others):
    """The pairs of a row's text and a score's that a rule joins; None if it is not sound."""
    own = {text: oracle.make_key(text, rule, "clip_id") for text in rows}
    keys = {text: oracle.make_key(text, rule, "key") for text in others}
    if len(set(own.values())) < len(own) or len(set(keys.values())) < len(keys):
        return None
    pairs = {(a, b) for a, key in own.items() for b, other in keys.items() if key == other is not None}
    for one, other in pairs:
        short, long = sorted((folder_of(one), folder_of(other)), key=len)
        if short and long[-len(short) :] != short:
            return None
    return pairs


@given(
    st.lists(TEXTS, min_size=1, max_size=5, unique=True), st.lists(TEXTS, min_size=1, max_size=5, unique=True)
)
@settings(max_examples=100)
def test_every_hint_of_random_keys_is_right(rows, others):
    rule = "raw"
    matched = set(rows) & set(others)

    hint = hint_of(rows, others, key_normalize=rule)

    sound = {rule: joined_by(rule, rows, others) for rule in ("basename", "stem")}
    counts = {rule: len(pairs) for rule, pairs in sound.items() if pairs is not None}
    best = max(counts.values(), default=0)
    if hint is None:
        assert len(matched) == len(set(rows))
        return
    asked = ASKED.fullmatch(hint)
    if asked is None:  # no rule helps; another spelling may
        assert best <= len(matched) or hint.startswith("if ")
        return
    name, count, total = asked.group(1), int(asked.group(2)), int(asked.group(3))
    assert (count, total) == (counts[name], len(rows))
    assert count == best > len(matched)
    scores = pl.DataFrame({"scorer": "m", "key": others, "score": [float(n) for n in range(len(others))]})
    result = pm.join_scores(pl.DataFrame({"clip_id": rows}), scores, key_normalize=name)
    found = dict(zip(rows, result["second_opinion_m_score"], strict=True))
    assert {(text, others[int(score)]) for text, score in found.items() if score is not None} == sound[name]


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

    assert single[0] == refreshed[0] == f"warning: dover: {STEM}"
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
