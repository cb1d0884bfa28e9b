"""Text that is not UTF-8 is refused by its place before anything runs, wherever it stands."""

from __future__ import annotations

import json

import pytest

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.cli import main
from polars_materialize.texts import find_unwritable

HALF = "\ud800"
TABLE = {"id": "t", "features": "f.csv", "scores": ["x=s.jsonl"], "out": "o.csv", "audit_json": "a.json"}


@pytest.fixture(autouse=True)
def bundle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.csv").write_text("clip_id\na\n")
    (tmp_path / "s.jsonl").write_text('{"clip_id": "a", "score": 1}\n')
    return tmp_path


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"features": f"f{HALF}.csv"}, "$.tables[0].features"),
        ({"out": f"o{HALF}.csv"}, "$.tables[0].out"),
        ({"audit_json": f"a{HALF}.json"}, "$.tables[0].audit_json"),
        ({"id": HALF}, "$.tables[0].id"),
        ({"scores": [f"x={HALF}"]}, "$.tables[0].scores[0]"),
        ({"scores": [{"path": "s.jsonl", "label": HALF}]}, "$.tables[0].scores[0].label"),
        ({"prefix": HALF}, "$.tables[0].prefix"),
        ({f"_{HALF}": 1}, r"$.tables[0]._\ud800"),
    ],
)
def test_half_a_surrogate_pair_in_a_manifest_is_named_by_its_place(bundle, change, place, capsys):
    (bundle / "m.json").write_text(json.dumps({"tables": [{**TABLE, **change}]}))

    assert main(["second-opinion", "batch", "--manifest", "m.json"]) == 2

    told = capsys.readouterr().err
    assert told.startswith(f"error: m.json: {place}: '")
    assert r"\ud800" in told
    assert told.endswith("' is not UTF-8 text, which no report could hold\n")
    assert not (bundle / "o.csv").exists()


def test_a_whole_pair_in_a_manifest_is_a_character(bundle):
    (bundle / "m.json").write_text(json.dumps({"tables": [{**TABLE, "out": "\U0001f600.csv"}]}))

    assert r"\ud83d\ude00" in (bundle / "m.json").read_text()
    assert main(["second-opinion", "batch", "--manifest", "m.json"]) == 0
    assert (bundle / "\U0001f600.csv").exists()


@pytest.mark.parametrize("option", ["--features", "--scores", "--out", "--audit-json", "--prefix"])
def test_an_argument_that_is_not_utf_8_is_refused(option, capsys):
    given = {"--features": "f.csv", "--scores": "x=s.jsonl", "--out": "o.csv", option: "x\udcff"}

    assert main(["second-opinion", "table", *(word for pair in given.items() for word in pair)]) == 2

    line = r"error: 'x\udcff' is not UTF-8 text, which no report could hold"
    assert capsys.readouterr().err == line + "\n"


def test_a_call_with_text_that_is_not_utf_8_is_refused(bundle):
    (bundle / "m.json").write_text(json.dumps({"tables": [TABLE]}))
    calls = {
        "prefix": lambda: pm.materialize_scores("f.csv", "x=s.jsonl", "o.csv", prefix=HALF),
        "audit_json": lambda: pm.materialize_scores("f.csv", "x=s.jsonl", "o.csv", audit_json=HALF),
        "report_json": lambda: pm.run_batch("m.json", report_json=HALF),
        "manifest": lambda: pm.run_batch(HALF),
        "inputs": lambda: pm.audit_tables(f"{HALF}=f.csv"),
        "out_md": lambda: pm.audit_tables("f.csv", out_md=HALF),
    }
    for option, call in calls.items():
        with pytest.raises(errors.OptionError) as caught:
            call()
        assert str(caught.value).startswith(f"{option}: '\\ud800")
        assert caught.value.fields["option"] == option
    assert sorted(path.name for path in bundle.iterdir()) == ["f.csv", "m.json", "s.jsonl"]


def test_what_can_be_written_is_let_through():
    assert find_unwritable({"é": ["\U0001f600", 1, None, b"\xff", {"a": ()}]}) is None
