"""Batches: every table of a manifest, one report, and what it is made of."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize import batch_reports, batches, errors
from polars_materialize.cli import main
from polars_materialize.provenance import Hasher, Inputs

REPOSITORY = Path(pm.__file__).resolve().parents[1]
KINDS = ["second-opinion", "mos-labels"]
every_kind = pytest.mark.parametrize("kind", KINDS)

LINE = {
    "second-opinion": "second-opinion batch materialize: "
    "tables={} input_rows={} output_rows={} failed_tables={}",
    "mos-labels": "MOS-label batch materialize: tables={} input_rows={} matched_rows={} failed_tables={}",
}
NOTES = {
    "second-opinion": [
        "table 'one': warning: Z 2: match rate 0.3333 (1 of 3 distinct keys have a score); "
        "min_match_rate says how many to expect",
        "table 'three': warning: Z 2: no key is on both sides: rows have 'c', scores 'a'",
    ],
    "mos-labels": [],
}
"""What stands before the last line: one scorer has few scores of the first table, and none of the third."""
SCORE_OPTIONS = {
    "key_column": None,
    "score_key_field": None,
    "score_field": None,
    "key_normalize": "auto",
    "missing_policy": "mark",
    "bad_policy": "mark",
    "min_match_rate": None,
    "allow_folding": False,
    "prefix": "second_opinion",
    "overwrite": False,
}
LABEL_OPTIONS = {
    "feature_key_column": None,
    "label_key_column": None,
    "label_mos_column": None,
    "label_scale": "auto",
    "key_normalize": "auto",
    "feature_key_regex": None,
    "label_key_regex": None,
    "min_match_rate": 0.95,
    "allow_folding": False,
    "status_column": "mos_label_status",
    "overwrite": False,
}


def fill(folder):
    """Writes three small feature tables, sidecars and labels that they share."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"clip_id": ["a", "b", "b", "c"], "vmaf": [90.5, 40.0, 41.0, 70.25]}
    pl.DataFrame(rows).write_parquet(folder / "one.parquet")
    (folder / "two.csv").write_text("clip_id,vmaf\na,1\nx,2\n")
    (folder / "three.jsonl").write_text('{"clip_id": "c", "deep": {"x": [1]}}\n')
    scores = [
        {"clip_id": "a", "competitor": "m", "score": 0.5, "runtime_ms": 3},
        {"clip_id": "b", "competitor": "m", "score": None, "status": "broken"},
        {"clip_id": "c", "competitor": "m", "score": 0.25},
        {"clip_id": "a", "competitor": "Z 2", "score": 7},
    ]
    (folder / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    (folder / "l.csv").write_text("clip_id,mos,split\na,3,train\nb,4,test\nc,80,test\nunused,7,\n,0,\n")
    return folder


def tables_of(kind, *, broken=False):
    """Three tables; the second of them names a file that is not there if `broken`."""
    name, entry = ("scores", "s.jsonl") if kind == "second-opinion" else ("labels", "l.csv")
    features = {"one": "one.parquet", "two": "no.csv" if broken else "two.csv", "three": "three.jsonl"}
    return [
        {
            "id": table,
            "features": path,
            name: [entry],
            "out": f"out/{table}.{path.split('.')[-1]}",
            "audit_json": f"audits/{table}.json",
            **({} if kind == "second-opinion" else {"min_match_rate": 0.5}),
        }
        for table, path in features.items()
    ]


def write_manifest(folder, tables, **top):
    """Writes a manifest into a folder."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({"tables": tables, **top}))
    return path


def digest(path):
    """The SHA-256 of a file, by hashlib alone."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def described(folder, name):
    """How provenance has to describe a file that is there."""
    path = Path(folder) / name
    content = {"path": name, "exists": True, "kind": "file"}
    return {**content, "sha256": digest(path), "bytes": path.stat().st_size}


def files_of(folder):
    """Every file below a folder, with its bytes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_what_a_notebook_shows_of_a_report(tmp_path):
    report = pm.run_batch(write_manifest(fill(tmp_path), tables_of("second-opinion")))
    counts = "{'tables': 3, 'failed_tables': 0, 'input_rows': 7, 'output_rows': 7}"
    schema = "second-opinion-materializer-batch-v1"
    assert repr(report) == f"BatchReport(schema='{schema}', status='ok', summary={counts})"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "report_json: ''; expected a path"),
        ("out", "report_json: out: is a folder; expected a file"),
        ("one.parquet/x/r.json", "one.parquet takes no file"),
    ],
)
def test_reports_that_cannot_be_written_are_refused_before_anything_runs(
    path, problem, tmp_path, monkeypatch
):
    manifest = write_manifest(fill(tmp_path), tables_of("second-opinion"))
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    before = files_of(tmp_path)

    with pytest.raises(errors.OptionError) as info:
        pm.run_batch(manifest, report_json=path)

    assert problem in str(info.value)
    assert files_of(tmp_path) == before


def test_what_the_tables_did_is_said_if_the_report_cannot_be_written(tmp_path, monkeypatch, capsys):
    path = write_manifest(fill(tmp_path), tables_of("second-opinion"))
    described = batches._Files.add

    def meanwhile(files, table, audit):
        if (tmp_path / "r.json").is_file():
            (tmp_path / "r.json").unlink()
            (tmp_path / "r.json").mkdir()
        described(files, table, audit)

    monkeypatch.setattr(batches._Files, "add", meanwhile)
    monkeypatch.setattr(batch_reports, "REST", 10**6)  # so that it is not written just then

    status = main(
        ["second-opinion", "batch", "--manifest", str(path), "--report-json", str(tmp_path / "r.json")]
    )

    last, error = capsys.readouterr().err.splitlines()[-2:]
    assert status == 1
    assert last == LINE["second-opinion"].format(3, 7, 7, 0)
    assert error.endswith("r.json: is a folder; expected a file")


def test_only_tables_of_small_files_run_side_by_side(tmp_path, monkeypatch):
    """Not those of globs, folders and files that are not there: nobody knows how large they are."""
    fill(tmp_path)
    (tmp_path / "folder").mkdir()
    features = ["one.parquet", "two.csv", "*.parquet", "folder", "no.csv", "three.jsonl", "one.parquet"]
    tables = [
        {"id": str(index), "features": path, "scores": ["s.jsonl"], "out": f"out/{index}.parquet"}
        for index, path in enumerate(features)
    ]
    groups = []
    run = batches._Tables._side_by_side

    def watched(self, some, *rest):
        groups.append([table.id for table in some])
        return run(self, some, *rest)

    monkeypatch.setattr(batches._Tables, "_side_by_side", watched)

    report = pm.run_batch(write_manifest(tmp_path, tables))

    assert groups == [["0", "1"], ["5", "6"]]
    assert [entry["status"] for entry in report.tables] == ["ok", "ok", "ok", "error", "error", "ok", "ok"]


def test_progress_of_small_tables_is_of_tables(tmp_path):
    seen = []
    path = write_manifest(fill(tmp_path), tables_of("second-opinion", broken=False))
    pm.run_batch(path, progress=lambda *parts: seen.append(parts))
    assert seen == [(1, 3, "tables"), (2, 3, "tables"), (3, 3, "tables")]


# --- the report ---------------------------------------------------------------------------------------


def test_report_of_second_opinions(tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path))
    write_manifest(tmp_path, tables_of("second-opinion"), defaults={"prefix": "nr"})

    pm.run_batch("manifest.json", report_json="reports/r.json", fail_fast=True)
    report = json.loads((tmp_path / "reports" / "r.json").read_text())

    assert list(report) == sorted(report)
    assert set(report) == {"schema", "status", "manifest", "summary", "tables", "run_provenance"}
    assert report["schema"] == "second-opinion-materializer-batch-v1"
    assert report["status"] == "ok"
    assert report["manifest"] == "manifest.json"
    assert report["summary"] == {"tables": 3, "failed_tables": 0, "input_rows": 7, "output_rows": 7}
    assert [table["id"] for table in report["tables"]] == ["one", "two", "three"]

    def counts(matched, missing, bad, unused, *, scorer="m", slug="m", loaded=3, keys=(3, 3)):
        return {
            "competitor": scorer,
            "column_prefix": f"nr_{slug}",
            "scores_loaded": loaded,
            "matched_rows": matched,
            "missing_rows": missing,
            "bad_rows": bad,
            "unused_scores": unused,
            "matched_feature_keys": keys[0],
            "total_feature_keys": keys[1],
            "match_rate": pytest.approx(keys[0] / keys[1]),
            "replaced_scores": 0,
            "hint": None,
            "formats": [],
            "fields": [fields],
        }

    fields = report["tables"][0]["summary"]["competitors"]["m"]["fields"][0]
    assert fields["source"] == "s.jsonl"
    assert report["tables"][0] == {
        "id": "one",
        "features": "one.parquet",
        "scores": ["s.jsonl"],
        "out": "out/one.parquet",
        "audit_json": "audits/one.json",
        "partition_by": None,
        "config": {**SCORE_OPTIONS, "prefix": "nr"},
        "status": "ok",
        "summary": {
            "input_rows": 4,
            "output_rows": 4,
            "competitors": {
                "Z 2": counts(1, 3, 0, 0, scorer="Z 2", slug="z_2", loaded=1, keys=(1, 3)),
                "m": counts(2, 0, 2, 0),
            },
            "shards": {"read": 1, "written": 1},
        },
        "warnings": [
            "Z 2: match rate 0.3333 (1 of 3 distinct keys have a score); "
            "min_match_rate says how many to expect"
        ],
        "columns_added": [
            f"nr_{slug}_{name}"
            for slug in ("z_2", "m")
            for name in ("score", "status", "runtime_ms", "frames", "source")
        ],
    }
    assert report["tables"][1]["summary"]["competitors"]["m"] == counts(1, 1, 0, 2, keys=(1, 2))
    assert report["tables"][2]["summary"]["competitors"]["m"] == counts(1, 0, 0, 2, keys=(1, 1))


def test_report_of_mos_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path))
    write_manifest(tmp_path, tables_of("mos-labels"))

    pm.run_batch("manifest.json", kind="mos-labels", report_json="r.json")
    report = json.loads((tmp_path / "r.json").read_text())

    assert report["schema"] == "mos-label-materializer-batch-v1"
    assert report["status"] == "ok"
    assert report["summary"] == {
        "tables": 3,
        "failed_tables": 0,
        "input_rows": 7,
        "output_rows": 7,
        "matched_rows": 6,
        "missing_rows": 1,
    }
    assert report["tables"][1] == {
        "id": "two",
        "features": "two.csv",
        "labels": ["l.csv"],
        "out": "out/two.csv",
        "audit_json": "audits/two.json",
        "partition_by": None,
        "config": {**LABEL_OPTIONS, "min_match_rate": 0.5},
        "status": "ok",
        "summary": {
            "input_rows": 2,
            "output_rows": 2,
            "matched_rows": 1,
            "missing_rows": 1,
            "match_rate": 0.5,
            "labels_loaded": 4,
            "total_feature_keys": 2,
            "matched_feature_keys": 1,
            "shards": {"read": 1, "written": 1},
        },
        "warnings": [],
        "columns_added": ["mos", "mos_raw_0_100", "mos_label_status", "mos_label_source", "split"],
    }


@every_kind
def test_provenance_of_a_report(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path))
    write_manifest(tmp_path, tables_of(kind))

    status = main([kind, "batch", "--manifest", "manifest.json", "--report-json", "r.json"])
    report = json.loads((tmp_path / "r.json").read_text())
    provenance = report["run_provenance"]

    role, entry = ("scores", "s.jsonl") if kind == "second-opinion" else ("labels", "l.csv")
    assert status == 0
    assert provenance["schema"] == "ai-run-provenance-v1"
    assert provenance["entrypoint"]["module"] == "polars_materialize"
    assert provenance["entrypoint"]["version"] == pm.__version__
    assert provenance["argv"] == [kind, "batch", "--manifest", "manifest.json", "--report-json", "r.json"]
    assert provenance["args"] == {
        "manifest": "manifest.json",
        "base_dir": None,
        "fail_fast": False,
        "report_json": "r.json",
        "report_md": None,
    }
    assert provenance["inputs"]["manifest"] == described(tmp_path, "manifest.json")
    features = sorted(["one.parquet", "two.csv", "three.jsonl"])
    assert provenance["inputs"]["features"] == [described(tmp_path, name) for name in features]
    assert provenance["inputs"][role] == [described(tmp_path, entry)]
    written = [f"{folder}/{name}" for name in ("one", "two", "three") for folder in ("out", "audits")]
    paths = [next((tmp_path / name).parent.glob(f"{Path(name).name}.*")) for name in written]
    expected = [described(tmp_path, str(path.relative_to(tmp_path))) for path in paths]
    found = provenance["outputs"]["tables"]
    assert sorted(found, key=lambda file: file["path"]) == sorted(expected, key=lambda file: file["path"])
    assert {"polars_materialize", "python", "polars", "pyarrow"} <= set(provenance["versions"])
    assert provenance["base_dir"] == "manifest-folder"


@every_kind
def test_audits_of_a_batch_name_every_input_and_the_manifest(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path))
    write_manifest(tmp_path, tables_of(kind))

    pm.run_batch("manifest.json", kind=kind)
    inputs = json.loads((tmp_path / "audits" / "one.json").read_text())["run_provenance"]["inputs"]

    flat = [file for value in inputs.values() for file in (value if isinstance(value, list) else [value])]
    entry = "s.jsonl" if kind == "second-opinion" else "l.csv"
    expected = [described(tmp_path, name) for name in ("manifest.json", "one.parquet", entry)]
    assert sorted(flat, key=lambda file: file["path"]) == sorted(expected, key=lambda file: file["path"])


def test_every_file_of_globs_and_folders_is_an_input_of_the_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("f/1.csv", "f/2.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"clip_id\n{name}\n")
    for name in ("s/1.json", "s/2.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"clip_id": name, "score": 1}))
    table = {"id": "x", "features": "f/*.csv", "scores": ["m=s"], "out": "o.csv"}
    write_manifest(tmp_path, [table])

    inputs = pm.run_batch("manifest.json").run_provenance["inputs"]

    assert inputs["features"] == [described(tmp_path, name) for name in ("f/1.csv", "f/2.csv")]
    assert inputs["scores"] == [described(tmp_path, name) for name in ("s/1.json", "s/2.json")]


# --- Markdown -----------------------------------------------------------------------------------------


def cells_of(line):
    """The cells of a Markdown row, their escapes undone."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    cells = re.split(r"(?<!\\)(?:\\\\)*\|", line[1:-1])
    return [html.unescape(re.sub(r"\\([^\sA-Za-z0-9])", r"\1", cell.strip())) for cell in cells]


def rows_of(text):
    """The rows of the only table of a Markdown report."""
    return [cells_of(line) for line in text.splitlines() if line.startswith("|")]


def test_markdown_of_second_opinions(tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path))
    write_manifest(tmp_path, tables_of("second-opinion", broken=True))

    pm.run_batch("manifest.json", report_md="new/r.md")
    text = (tmp_path / "new" / "r.md").read_text()

    assert text.startswith("# ")
    assert "failed" in text.partition("|")[0]
    rows = rows_of(text)
    assert rows[0] == ["Table", "Status", "Input rows", "Output rows", "Output"]
    assert rows[2:] == [
        ["one", "ok", "4", "4", "out/one.parquet"],
        ["two", "error", "", "", ""],
        ["three", "ok", "1", "1", "out/three.jsonl"],
    ]
    assert "no.csv: no such file" in text


def test_markdown_of_mos_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path))
    (tmp_path / "two.csv").write_text("clip_id\na\nb\nx\n")
    write_manifest(tmp_path, tables_of("mos-labels"))

    pm.run_batch("manifest.json", kind="mos-labels", report_md="r.md")
    rows = rows_of((tmp_path / "r.md").read_text())

    assert rows[0] == ["Table", "Status", "Match rate", "Matched rows", "Missing rows", "Output"]
    assert rows[2:] == [
        ["one", "ok", "1.000", "4", "0", "out/one.parquet"],
        ["two", "ok", "0.667", "2", "1", "out/two.csv"],
        ["three", "ok", "1.000", "1", "0", "out/three.jsonl"],
    ]


HOSTILE = [
    "a|b",
    "<script>alert(1)</script>",
    "one\ntwo | three\n# four",
    "[l](http://x.invalid) ![i](j)",
    "`code`",
    "**bold** _em_ ~~gone~~",
    "&amp; &lt;",
    "\\| back\\slash \\",
    "\r\n| x | y |\r\n",
    "\u2028| line |\u2029",
    "<!-- hidden",
    "*" * 3,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_escapes_ids_paths_and_errors(text, tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path))
    features = text.replace("*", "") + ".csv"  # which would be a glob
    table = {"id": text, "features": features, "scores": ["s.jsonl"], "out": f"out/{text}.csv"}
    write_manifest(tmp_path, [table])

    pm.run_batch("manifest.json", report_md="r.md")
    report = (tmp_path / "r.md").read_text()

    rows = [line for line in report.splitlines() if line.lstrip().startswith("|")]
    assert len(rows) == 3
    assert len(report.splitlines()) == 11
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    cells = cells_of(rows[2])
    assert len(cells) == 5
    assert cells[0] == shown.strip()
    assert cells[1:4] == ["error", "", ""]
    assert cells[4] == ""  # it has not been written
    assert "<" not in report
    assert not re.search(r"(?<!\\)[\[\]`*~]", report.replace("**failed**", ""))


# --- a table that fails -------------------------------------------------------------------------------


@every_kind
def test_a_table_that_fails_leaves_the_others_alone(kind, tmp_path, capsys):
    fill(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "two.csv").write_text("old")
    path = write_manifest(tmp_path, tables_of(kind, broken=True))

    status = main([kind, "batch", "--manifest", str(path), "--report-json", str(tmp_path / "r.json")])

    shown = capsys.readouterr()
    report = json.loads((tmp_path / "r.json").read_text())
    assert status == 1
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert all(word in lines[0] for word in ("two", "no.csv: no such file"))
    assert lines[1:] == [*NOTES[kind], LINE[kind].format(3, 5, 5, 1)]
    assert report["status"] == "failed"
    assert report["summary"]["failed_tables"] == 1
    assert [table["status"] for table in report["tables"]] == ["ok", "error", "ok"]
    failed = report["tables"][1]
    assert failed["error"] == "no.csv: no such file"
    assert "summary" not in failed
    assert failed["config"]["overwrite"] is False
    assert (tmp_path / "out" / "two.csv").read_text() == "old"
    assert not (tmp_path / "audits" / "two.json").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "one.parquet",
        "three.jsonl",
        "two.csv",
    ]
    missing = {"path": "no.csv", "exists": False, "kind": "missing", "sha256": None, "bytes": None}
    assert missing in report["run_provenance"]["inputs"]["features"]
    written = {file["path"] for file in report["run_provenance"]["outputs"]["tables"]}
    assert written == {"out/one.parquet", "audits/one.json", "out/three.jsonl", "audits/three.json"}


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("second-opinion", {"missing_policy": "fail"}, "missing_policy"),
        ("second-opinion", {"bad_policy": "fail"}, "bad_policy"),
        ("second-opinion", {"key_column": "nope"}, "nope"),
        ("second-opinion", {"score_field": "nope"}, "nope"),
        ("second-opinion", {"scores": ["m=s.jsonl"]}, "competitor"),
        ("second-opinion", {"scores": ["no*.jsonl"]}, "no file matches"),
        ("mos-labels", {"min_match_rate": 1.0, "features": "two.csv"}, "match rate 0.5"),
        ("mos-labels", {"label_scale": "1:5"}, "l.csv:4"),
        ("mos-labels", {"labels": ["l.csv", "l2.csv"]}, "l2.csv:2"),
        ("mos-labels", {"label_mos_column": "nope"}, "nope"),
    ],
)
def test_what_fails_a_table_is_its_error(kind, change, reason, tmp_path):
    fill(tmp_path)
    (tmp_path / "l2.csv").write_text("clip_id,mos\na,1\n")
    tables = tables_of(kind)
    tables[0] = {**tables[0], **change}

    report = pm.run_batch(write_manifest(tmp_path, tables), kind=kind)

    assert [table["status"] for table in report.tables] == ["error", "ok", "ok"]
    assert reason in report.tables[0]["error"]
    assert "\n" not in report.tables[0]["error"]
    assert not (tmp_path / "out" / "one.parquet").exists()


@every_kind
def test_fail_fast_stops_at_the_first_table_that_fails(kind, tmp_path, capsys):
    path = write_manifest(fill(tmp_path), tables_of(kind, broken=True))
    options = ["--fail-fast", "--report-json", str(tmp_path / "r.json")]

    status = main([kind, "batch", "--manifest", str(path), *options])

    report = json.loads((tmp_path / "r.json").read_text())
    assert status == 1
    assert [table["status"] for table in report["tables"]] == ["ok", "error"]
    assert report["status"] == "failed"
    assert (tmp_path / "out" / "one.parquet").exists()
    assert not (tmp_path / "out" / "three.jsonl").exists()
    assert capsys.readouterr().err.splitlines()[-1].endswith("failed_tables=1")


@every_kind
def test_the_last_line_of_a_batch(kind, tmp_path, capsys):
    path = write_manifest(fill(tmp_path), tables_of(kind))

    status = main([kind, "batch", "--manifest", str(path)])

    assert status == 0
    last = {"second-opinion": (3, 7, 7, 0), "mos-labels": (3, 7, 6, 0)}[kind]
    assert capsys.readouterr().err == "\n".join([*NOTES[kind], LINE[kind].format(*last), ""])


def test_rows_that_a_policy_drops_are_no_output_rows(tmp_path, capsys):
    tables = [{**table, "missing_policy": "drop"} for table in tables_of("second-opinion")[:2]]
    path = write_manifest(fill(tmp_path), tables)

    status = main(["second-opinion", "batch", "--manifest", str(path)])

    assert status == 0
    line = LINE["second-opinion"].format(2, 6, 2, 0)
    assert capsys.readouterr().err == f"{NOTES['second-opinion'][0]}\n{line}\n"


@every_kind
def test_a_batch_gives_what_single_runs_give(kind, tmp_path):
    path = write_manifest(fill(tmp_path), tables_of(kind))
    run = pm.materialize_scores if kind == "second-opinion" else pm.materialize_labels
    options = {} if kind == "second-opinion" else {"min_match_rate": 0.5}
    entry = "s.jsonl" if kind == "second-opinion" else "l.csv"

    pm.run_batch(path, kind=kind)

    for table in tables_of(kind):
        alone = f"alone/{table['id']}{Path(table['out']).suffix}"
        run(table["features"], entry, alone, base_dir=tmp_path, **options)
        one, other = pm.scan_table(tmp_path / alone), pm.scan_table(tmp_path / table["out"])
        assert one.collect().equals(other.collect())


# --- determinism --------------------------------------------------------------------------------------


def _note(found, *failure):
    found.append(failure)


@every_kind
def test_small_tables_side_by_side_give_what_they_give_one_by_one(kind, tmp_path, monkeypatch):
    """Twelve tables, two of which fail: in the same order, with the same bytes and the same errors."""
    tables = [
        {**table, "id": f"{table['id']} {turn}", "out": f"{turn}/{table['out']}", "audit_json": None}
        for turn in range(4)
        for table in tables_of(kind, broken=turn in (1, 2))
    ]
    before, results = pl.Config.save(), []
    for most in (batches.LIGHT_BYTES, -1):
        monkeypatch.setattr(batches, "LIGHT_BYTES", most)
        folder = fill(tmp_path / str(most))
        path = write_manifest(folder, tables)
        failed = []
        monkeypatch.chdir(folder)
        note = partial(_note, failed)
        pm.run_batch(path.name, kind=kind, report_json="r.json", on_failure=note)
        results.append((failed, files_of(folder)))

    assert results[0] == results[1]
    assert [name for name, _ in results[0][0]] == ["two 1", "two 2"]
    assert pl.Config.save() == before


@every_kind
def test_the_same_bundle_in_another_folder_gives_the_same_bytes(kind, tmp_path):
    tables = tables_of(kind, broken=True)
    rows = pl.DataFrame({"clip_id": [f"c{n % 700}" for n in range(60_000)], "row": range(60_000)})
    scored = [{"clip_id": f"c{n}", "competitor": f"m{n % 3}", "score": n} for n in range(700)]
    labelled = [{"clip_id": f"c{n}", "mos": 1 + n % 5, "split": f"s{n % 7}"} for n in range(700)]
    big = {"id": "big", "features": "big.parquet", "out": "out/big.parquet", "audit_json": "audits/big.json"}
    big |= {"scores": ["big.jsonl"]} if kind == "second-opinion" else {"labels": ["big.jsonl"]}
    folders = [tmp_path / "one", tmp_path / "other" / "deep"]
    for folder in folders:
        write_manifest(fill(folder), [*tables, big])
        rows.write_parquet(folder / "big.parquet")
        lines = scored if kind == "second-opinion" else labelled
        (folder / "big.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    for seed, folder in enumerate(folders):
        command = [
            kind,
            "batch",
            "--manifest",
            "manifest.json",
            "--report-json",
            "r.json",
            "--report-md",
            "r.md",
        ]
        result = run_in(folder, command, seed=seed)
        assert result.returncode == 1, result.stderr

    found = [files_of(folder) for folder in folders]
    assert found[0].keys() == found[1].keys()
    assert {name for name in found[0] if found[0][name] != found[1][name]} == set()
    assert {"r.json", "r.md", "out/big.parquet", "out/three.jsonl", "audits/one.json"} < found[0].keys()
    assert not any(str(tmp_path).encode() in content for content in found[0].values())


def run_in(folder, command, *, seed=0, before=""):
    """Runs the command line in a folder, in an interpreter of its own."""
    code = f"import sys\n{before}\nfrom polars_materialize.cli import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_running_twice_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path))
    write_manifest(tmp_path, tables_of("second-opinion"))

    pm.run_batch("manifest.json", report_json="r.json", report_md="r.md")
    first = files_of(tmp_path)
    pm.run_batch("manifest.json", report_json="r.json", report_md="r.md")

    assert files_of(tmp_path) == first


# --- inputs that change -------------------------------------------------------------------------------


def rewrite(path):
    path.write_bytes(b"other content")


def rewrite_same_size(path):
    path.write_bytes(path.read_bytes()[::-1])


def replace(path):
    new = path.with_name("new")
    new.write_bytes(path.read_bytes()[::-1])
    os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    new.replace(path)


def remove(path):
    path.unlink()


def append(path):
    with path.open("ab") as stream:
        stream.write(b"\n")


def rewrite_and_put_the_time_back(path):
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change", [rewrite, rewrite_same_size, replace, remove, append, rewrite_and_put_the_time_back]
)
def test_an_input_that_changes_is_refused(change, tmp_path):
    paths = [tmp_path / name for name in ("a.csv", "b.csv")]
    for path in paths:
        path.write_text("clip_id\na\n")
        os.utime(path, ns=(10**18, 10**18))  # so that a change now has another time for sure

    with Hasher() as hasher:
        inputs = Inputs(hasher)
        inputs.add("features", [("a.csv", paths[0]), ("written/b.csv", paths[1])])
        inputs.refuse_changed()
        change(paths[1])

        with pytest.raises(errors.InputChangedError, match=r"written/b\.csv"):
            inputs.refuse_changed()


def test_an_input_that_is_only_read_is_not_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("clip_id\na\n")

    with Hasher() as hasher:
        inputs = Inputs(hasher)
        inputs.add("features", [("a.csv", path)])
        path.read_bytes()
        inputs.refuse_changed()

        assert inputs.described() == {"features": [described(tmp_path, "a.csv")]}


# A run makes its output's folder after it has read the evidence and before it has written the table: the
# moment at which these runs' inputs are replaced, by the run's own process and so for sure.
MEANWHILE = """
import os
def meanwhile(event, args, seen=[]):
    if event == "os.mkdir" and os.path.basename(str(args[0])) == "out" and not seen:
        seen.append(1)
        os.replace({new!r}, {old!r})
sys.addaudithook(meanwhile)
"""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("second-opinion", "two.csv"),
        ("second-opinion", "s.jsonl"),
        ("mos-labels", "two.csv"),
        ("mos-labels", "l.csv"),
    ],
)
def test_a_run_whose_input_is_replaced_meanwhile_is_refused(kind, name, tmp_path):
    tables = tables_of(kind)[1:2]
    write_manifest(fill(tmp_path), tables)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "two.csv").write_text("old")
    (tmp_path / "new").write_bytes((tmp_path / name).read_bytes().replace(b"b", b"d"))

    command = [kind, "batch", "--manifest", "manifest.json", "--report-json", "r.json"]
    result = run_in(tmp_path, command, before=MEANWHILE.format(new="new", old=name))

    assert not (tmp_path / "new").exists(), "nothing was replaced"
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 2
    assert f"{name}: changed while it was read" in result.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert "changed while it was read" in report["tables"][0]["error"]
    assert files_of(tmp_path / "out") == {"two.csv": b"old"}
    assert not (tmp_path / "audits" / "two.json").exists()


def test_a_manifest_that_is_replaced_meanwhile_is_refused_or_described_as_it_was_read(tmp_path):
    write_manifest(fill(tmp_path), tables_of("mos-labels")[1:2])
    read = digest(tmp_path / "manifest.json")
    (tmp_path / "new").write_text("{}")

    command = ["mos-labels", "batch", "--manifest", "manifest.json", "--report-json", "r.json"]
    result = run_in(tmp_path, command, before=MEANWHILE.format(new="new", old="manifest.json"))

    assert not (tmp_path / "new").exists(), "nothing was replaced"
    report = json.loads((tmp_path / "r.json").read_text())
    blocks = [report["run_provenance"]]
    if result.returncode == 0:
        blocks.append(json.loads((tmp_path / "audits" / "two.json").read_text())["run_provenance"])
    else:
        assert "manifest.json: changed" in result.stderr
    assert [block["inputs"]["manifest"]["sha256"] for block in blocks] == [read] * len(blocks)


@pytest.mark.parametrize("name", ["two.csv", "s.jsonl"])
def test_a_single_run_whose_input_is_replaced_meanwhile_is_refused(name, tmp_path):
    fill(tmp_path)
    (tmp_path / "new").write_bytes((tmp_path / name).read_bytes().replace(b"x", b"d"))

    command = (
        "second-opinion table --features two.csv --scores s.jsonl --out out/o.parquet --audit-json a.json"
    )
    result = run_in(tmp_path, command.split(), before=MEANWHILE.format(new="new", old=name))

    assert not (tmp_path / "new").exists(), "nothing was replaced"
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {name}: changed while it was read")
    assert result.stderr.count("\n") == 1
    assert files_of(tmp_path / "out") == {}
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("name", ["one.parquet", "s.jsonl", "manifest.json"])
def test_a_report_has_the_hashes_of_what_was_read_or_says_that_it_changed(name, tmp_path):
    path = write_manifest(fill(tmp_path), tables_of("second-opinion", broken=True))
    read = digest(tmp_path / name)

    def change(_table, _error):  # after the first table was written, which read the old content
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"\n")

    try:
        report = pm.run_batch(path, on_failure=change)
    except errors.InputChangedError:
        return

    inputs = report.run_provenance["inputs"]
    flat = [file for value in inputs.values() for file in (value if isinstance(value, list) else [value])]
    found = [file["sha256"] for file in flat if Path(file["path"]).name == name]
    refused = f"{name}: changed" in json.dumps(report.tables)
    assert read in found or refused
