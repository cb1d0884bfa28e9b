"""The report of a batch while it runs, and when it is ended early; what tables lack, and what they share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from written import described, files_of

import polars_materialize as pm
from polars_materialize import batch_inputs, batch_reports, batches, errors
from polars_materialize.cli import main

REPOSITORY = Path(pm.__file__).resolve().parents[1]


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A current folder with a feature table, sidecars, and a report of an earlier run."""
    monkeypatch.chdir(tmp_path)
    Path("f.csv").write_text("clip_id,vmaf\na,1\nb,2\n")
    Path("s.jsonl").write_text('{"clip_id": "a", "competitor": "m", "score": 0.5}\n')
    Path("bad.jsonl").write_text('{"clip_id": "a", "competitor": "m"}\n')
    Path("z.jsonl").write_text('{"clip_id": "z", "competitor": "z", "score": 0.5}\n')
    Path("r.json").write_text('{"status": "ok"}')
    return tmp_path


def entry(name, **fields):
    return {
        "id": name,
        "features": "f.csv",
        "scores": ["s.jsonl"],
        "out": f"out/{name}.csv",
        "audit_json": f"out/{name}.json",
        **fields,
    }


def manifest(*tables, path="m.json"):
    Path(path).write_text(json.dumps({"tables": tables}))
    return path


def stored(path="r.json"):
    return json.loads(Path(path).read_text())


def statuses(report):
    return [table["status"] for table in report["tables"]]


def watch(monkeypatch, before, *, one_by_one=True):
    """Has something done before each table that runs."""
    attempt = batches.attempt

    def watched(run, table, context):
        before(table.id)
        return attempt(run, table, context)

    monkeypatch.setattr(batches, "attempt", watched)
    monkeypatch.setattr(batch_reports, "REST", 0)
    if one_by_one:
        monkeypatch.setattr(batches, "LIGHT_BYTES", -1)


# --- while it runs --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
def test_a_report_says_what_is_done_from_its_first_second_on(monkeypatch):
    seen = []
    watch(monkeypatch, lambda _: seen.append((stored(), Path("r.md").read_text())))
    tables = [entry("one"), entry("two", scores=["bad.jsonl"]), entry("three")]

    pm.run_batch(manifest(*tables), report_json="r.json", report_md="r.md")

    assert [report["status"] for report, _ in seen] == ["running"] * 3
    assert [statuses(report) for report, _ in seen] == [
        ["not-run", "not-run", "not-run"],
        ["ok", "not-run", "not-run"],
        ["ok", "error", "not-run"],
    ]
    assert all("Status: **running**" in text for _, text in seen)
    last, _ = seen[-1]
    assert last["summary"] == {"tables": 3, "failed_tables": 1, "input_rows": 2, "output_rows": 2}
    assert last["run_provenance"]["inputs"]["manifest"] == described("m.json")
    assert [file["path"] for file in last["run_provenance"]["outputs"]["tables"]] == [
        *("out/one.csv", "out/one.json")
    ]
    assert (stored()["status"], statuses(stored())) == ("failed", ["ok", "error", "ok"])


@pytest.mark.usefixtures("bundle")
def test_only_tables_that_were_written_have_outputs(monkeypatch):
    seen = []
    watch(monkeypatch, lambda _: seen.append(stored()))
    tables = [entry("one"), entry("two", scores=["bad.jsonl"]), entry("three")]

    pm.run_batch(manifest(*tables), report_json="r.json")

    assert [{"out", "audit_json"} & set(table) for table in seen[-1]["tables"]] == [
        *({"out", "audit_json"}, set(), set())
    ]
    assert all(table["warnings"] == [] for table in seen[-1]["tables"])
    assert [len(table["columns_added"]) for table in seen[-1]["tables"]] == [5, 0, 0]


@pytest.mark.usefixtures("bundle")
def test_many_tables_are_written_together(monkeypatch):
    monkeypatch.setattr(batch_reports, "REST", 10**6)
    writes = []
    write = batch_reports.LiveReport._write
    monkeypatch.setattr(
        batch_reports.LiveReport,
        "_write",
        lambda self, status: (writes.append(status), write(self, status))[1],
    )

    report = pm.run_batch(
        manifest(*(entry(f"t{n}", audit_json=None) for n in range(40))), report_json="r.json"
    )

    assert report.status == stored()["status"] == "ok"
    assert writes == ["running", None]


@pytest.mark.usefixtures("bundle")
def test_what_was_done_while_a_report_rested_is_written_without_another_table(monkeypatch):
    def wait(name):
        if name == "long":
            deadline = time.monotonic() + 60
            while statuses(stored())[:3] != ["ok"] * 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(statuses(stored()))

    seen = []
    watch(monkeypatch, wait)
    monkeypatch.setattr(batch_reports, "REST", 100)

    pm.run_batch(manifest(*(entry(name) for name in ("a", "b", "c", "long"))), report_json="r.json")

    assert seen == [["ok", "ok", "ok", "not-run"]]


@pytest.mark.usefixtures("bundle")
def test_a_report_that_cannot_be_written_meanwhile_does_not_end_the_run(monkeypatch):
    def take(name):
        if name == "one":
            Path("r.json").unlink()
            Path("r.json").mkdir()
        else:
            Path("r.json").rmdir()

    watch(monkeypatch, take)

    assert pm.run_batch(manifest(entry("one"), entry("two")), report_json="r.json").status == "ok"
    assert statuses(stored()) == ["ok", "ok"]


@pytest.mark.usefixtures("bundle")
def test_a_report_that_cannot_be_written_at_the_start_ends_it_before_anything_runs(monkeypatch):
    monkeypatch.setattr(batches, "_check_reports", lambda _: None)
    Path("r.json").unlink()
    Path("r.json").mkdir()

    with pytest.raises(errors.OutputError, match=r"r\.json: is a folder"):
        pm.run_batch(manifest(entry("one")), report_json="r.json")

    assert not Path("out").exists()


# --- ended early ----------------------------------------------------------------------------------------


class Panic(BaseException):
    """What no handler of exceptions knows."""


ENDINGS = [KeyboardInterrupt(), SystemExit(3), Panic(), errors.WorkersError("gone"), MemoryError()]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda one: type(one).__name__)
def test_whatever_ends_a_run_leaves_a_report_that_says_so(ending, monkeypatch):
    def end(name):
        if name == "two":
            raise ending

    watch(monkeypatch, end)

    with pytest.raises(type(ending)) as caught:
        pm.run_batch(
            manifest(*(entry(n) for n in ("one", "two", "three"))), report_json="r.json", report_md="r.md"
        )

    assert caught.value is ending
    report = stored()
    assert (report["status"], statuses(report)) == ("interrupted", ["ok", "not-run", "not-run"])
    assert report["summary"]["failed_tables"] == 0
    assert report["run_provenance"]["outputs"]["tables"] == [
        described(name) for name in ("out/one.csv", "out/one.json")
    ]
    assert "Status: **interrupted**" in Path("r.md").read_text()
    assert [name for name in files_of() if ".part" in name] == []


@pytest.mark.usefixtures("bundle")
def test_tables_that_others_ran_meanwhile_are_done(monkeypatch):
    """Of tables side by side one may be done after another has ended the run."""
    ended = threading.Event()

    def end(name):
        if name == "one":
            ended.set()
            raise KeyboardInterrupt
        ended.wait(60)

    watch(monkeypatch, end, one_by_one=False)

    with pytest.raises(KeyboardInterrupt):
        pm.run_batch(manifest(*(entry(f"{name}") for name in ("one", "two", "three"))), report_json="r.json")

    report = stored()
    assert (report["status"], statuses(report)[0]) == ("interrupted", "not-run")
    for table in report["tables"]:
        assert Path(f"out/{table['id']}.csv").exists() == (table["status"] == "ok")
    assert "ok" in statuses(report)
    written = {file["path"] for file in report["run_provenance"]["outputs"]["tables"]}
    assert written == {str(path) for path in Path("out").iterdir()}


KILLED = """
import os, signal, sys
from polars_materialize import batch_reports, batches, cli
batches.LIGHT_BYTES, batch_reports.REST = -1, 0
attempt = batches.attempt
def killed(run, table, context):
    if table.id == "two":
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return attempt(run, table, context)
batches.attempt = killed
sys.exit(cli.main(["second-opinion", "batch", "--manifest", "m.json", "--report-json", "r.json"]))
"""


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("name", "status"), [("SIGKILL", "running"), ("SIGINT", "interrupted"), ("SIGTERM", "interrupted")]
)
def test_a_killed_run_leaves_no_stale_report(name, status):
    manifest(*(entry(n) for n in ("one", "two", "three")))

    ran = subprocess.run(
        [sys.executable, "-c", KILLED, name],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
    assert (stored()["status"], statuses(stored())) == (status, ["ok", "not-run", "not-run"])


@pytest.mark.usefixtures("bundle")
def test_fail_fast_leaves_out_what_has_not_run():
    tables = [entry("one"), entry("two", features="no.csv"), entry("three")]

    report = pm.run_batch(manifest(*tables), report_json="r.json", fail_fast=True)

    assert (report.status, statuses(stored())) == ("failed", ["ok", "error"])


# --- what tables lack ------------------------------------------------------------------------------------


LACKING = {
    "all": {"features": "no/*.parquet", "scores": ["x=no.jsonl", {"path": "gone/"}, "s.jsonl"]},
    "none": {},
    "one": {"scores": ["s.jsonl", "no.jsonl"]},
}
SAID = {
    "all": "no/*.parquet: no file matches; no.jsonl: no such file; gone/: no such file",
    "one": "no.jsonl: no such file",
}


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("where", ["here", "side by side", "elsewhere"])
def test_tables_that_lack_inputs_say_all_of_them_before_anything_runs(monkeypatch, where):
    ran, events = [], []
    watch(monkeypatch, ran.append, one_by_one=where == "here")
    tables = [entry(name, **fields) for name, fields in LACKING.items()]

    with ThreadPoolExecutor(1) as threads:
        report = pm.run_batch(
            manifest(*tables),
            executor=threads if where == "elsewhere" else None,
            on_lacking=lambda *said: events.append(("lacks", *said, Path("out").exists())),
            on_failure=lambda *said: events.append(("failed", *said)),
        )

    assert statuses({"tables": report.tables}) == ["error", "ok", "error"]
    assert {table["id"]: table["error"] for table in report.tables if "error" in table} == SAID
    assert ran == ([] if where == "elsewhere" else ["none"])
    assert events == [
        *(("lacks", name, said, False) for name, said in SAID.items()),
        *(("failed", name, said) for name, said in SAID.items()),
    ]
    missing = {file["path"] for file in report.run_provenance["inputs"]["scores"] if not file["exists"]}
    assert missing == {"no.jsonl", "gone/"}


@pytest.mark.usefixtures("bundle")
def test_what_lacks_inputs_is_in_the_report_while_the_others_run(monkeypatch):
    seen = []
    watch(monkeypatch, lambda _: seen.append(statuses(stored())))

    pm.run_batch(manifest(entry("one"), entry("two", features="no.csv")), report_json="r.json")

    assert seen == [["not-run", "error"]]


@pytest.mark.usefixtures("bundle")
def test_the_command_line_says_once_what_a_table_lacks(capsys):
    tables = [entry("ok"), *(entry(name, **fields) for name, fields in LACKING.items())]

    assert main(["second-opinion", "batch", "--manifest", manifest(*tables)]) == 1

    assert capsys.readouterr().err.splitlines()[:-1] == [
        f"table {name!r}: {said}" for name, said in SAID.items()
    ]


@pytest.mark.parametrize("name", ["[x].csv", "a*.csv", "b?.csv"])
def test_files_whose_names_look_like_globs_are_there(bundle, name):
    (bundle / name).write_text("clip_id\na\n")
    assert pm.run_batch(manifest(entry("one", features=name))).status == "ok"


@pytest.mark.usefixtures("bundle")
def test_an_input_that_cannot_be_looked_at_is_the_error_of_its_table():
    tables = [entry("nul", features="a\0b.csv"), entry("text", features="\ud800.csv"), entry("ok")]
    try:
        report = pm.run_batch(manifest(*tables))
    except errors.ManifestError:  # which is as good
        report = None
    if report is not None:
        assert statuses({"tables": report.tables}) == ["error", "error", "ok"]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("what", ["describe", "find"])
def test_inputs_that_cannot_be_read_end_no_batch(monkeypatch, what):
    """A table that failed is described as far as its files let themselves be read."""

    def refuse(*_, **options):
        if options.get("hashed", True):
            raise PermissionError(13, "Permission denied")
        return {"path": "f.csv", "exists": True, "kind": "file", "sha256": None, "bytes": 9}

    monkeypatch.setattr(batches if what == "describe" else batch_inputs, what, refuse)
    tables = [
        entry("one", scores=["bad.jsonl"], audit_json=None),
        entry("two", scores=["no*.jsonl"], audit_json=None),
        entry("three", audit_json=None),
    ]

    report = pm.run_batch(manifest(*tables), report_json="r.json")

    assert report.status == stored()["status"] == "failed"
    assert statuses(stored()) == ["error", "error", "ok"]


# --- what tables share ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
def test_an_error_that_tables_share_is_said_in_full_once(capsys):
    names = ["one", "two", "three"]
    path = manifest(*(entry(name, scores=["bad.jsonl"]) for name in names), entry("four", features="no.csv"))
    options = ["--report-json", "r.json", "--report-md", "r.md"]

    assert main(["second-opinion", "batch", "--manifest", path, *options]) == 1

    first, *others, lacking = (table["error"] for table in stored()["tables"])
    assert first.startswith("1 sidecar row is not usable: bad.jsonl:1: ")
    assert others == ["the same error as table 'one'"] * 2
    assert lacking == "no.csv: no such file"
    for text in (capsys.readouterr().err, Path("r.md").read_text()):
        assert (text.count("bad.jsonl:1"), text.count("the same error as table 'one'")) == (1, 2)


@pytest.mark.usefixtures("bundle")
def test_python_is_told_every_error_in_full():
    told = []
    tables = [entry(name, scores=["bad.jsonl"]) for name in ("one", "two")]

    pm.run_batch(manifest(*tables), on_failure=lambda *said: told.append(said))

    assert told[0][1] == told[1][1]
    assert "bad.jsonl:1" in told[1][1]


@pytest.mark.usefixtures("bundle")
def test_warnings_are_in_the_entry_the_markdown_and_once_on_stderr(capsys):
    path = manifest(entry("none"), *(entry(name, scores=["s.jsonl", "z.jsonl"]) for name in ("one", "two")))
    options = ["--report-json", "r.json", "--report-md", "r.md"]

    assert main(["second-opinion", "batch", "--manifest", path, *options]) == 0

    warnings = [table["warnings"] for table in stored()["tables"]]
    assert (warnings[0], warnings[1]) == ([], warnings[2])
    assert len(warnings[1]) == 1
    assert warnings[1][0].startswith("z: ")
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert said == [f"table 'one' and 1 more: warning: {warnings[1][0]}"]
    sections = Path("r.md").read_text().split("\n## ")
    assert [section.partition("\n")[0] for section in sections[1:]] == ["Warnings", "Coverage"]
    assert sections[1].count("- Table ") == 2
    assert (
        "- Table one: m: 1 of 2 rows (0.500) have a score, 0 a bad one, 1 none; 0 of 1 scores" in sections[2]
    )
    assert (
        "- Table one: z: 0 of 2 rows (0.000) have a score, 0 a bad one, 2 none; 1 of 1 scores" in sections[2]
    )


@pytest.mark.usefixtures("bundle")
def test_long_errors_are_cut_on_stderr_and_whole_in_the_report(capsys):
    Path("bad.jsonl").write_text(
        "".join(f'{{"clip_id": "{n}", "competitor": "m", "pad": "{"x" * 40}"}}\n' for n in range(30))
    )
    name = f"{'long' * 40}.jsonl"
    Path("bad.jsonl").rename(name)
    path = manifest(entry("one", scores=[name]))

    assert main(["second-opinion", "batch", "--manifest", path, "--report-json", "r.json"]) == 1

    line = capsys.readouterr().err.splitlines()[0]
    error = stored()["tables"][0]["error"]
    assert len(error) > 1_500
    assert error.startswith(f"30 sidecar rows are not usable: {name}:1: status ok without a usable score")
    assert error.endswith(f"{name}:10); and 20 more")
    assert len(line) < 400
    assert line.startswith(f"table 'one': 30 sidecar rows are not usable: {name}:1: status ok")


# --- labels and clips -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
def test_the_markdown_says_what_each_label_file_covers():
    Path("l.csv").write_text("clip_id,mos\na,4\n,3\nx,2\n")
    table = entry("one", labels=["l.csv"], min_match_rate=0.5)
    del table["scores"]

    pm.run_batch(manifest(table), kind="mos-labels", report_md="r.md")

    lines = Path("r.md").read_text().partition("## Coverage\n\n")[2].splitlines()
    assert lines == [
        "- Table one: labels: 1 of 2 clips (0.500) have one; 1 of 2 labels unused",
        "- Table one: l.csv: 3 rows, 1 without a key, 0 without a score; scale 1:5",
    ]


@pytest.mark.parametrize("kind", ["saliency", "refresh"])
@pytest.mark.usefixtures("bundle")
def test_clips_that_failed_are_named_everywhere(kind, capsys):
    pytest.importorskip("av", reason="needs PyAV")
    pl.DataFrame({"src": [f"no{n:02}|\u202e.mkv" for n in range(15)] * 2}).write_csv("clips.csv")
    tables = []
    for name in ("one", "two"):
        if kind == "saliency":
            tables.append({"id": name, "input": "clips.csv", "output": f"{name}.csv"})
        else:
            tables.append({"id": name, "features": "clips.csv", "out": f"{name}.csv", "saliency": {}})
    path = manifest(*tables)
    options = ["--allow-row-failures", "--report-json", "r.json", "--report-md", "r.md"]

    assert main([kind, "batch", "--manifest", path, *options]) == 0

    *said, last = capsys.readouterr().err.splitlines()
    assert len(said) == 11
    assert said[0] == (r"table 'one': 'no00|\u202e.mkv': missing-source: No such file or directory (2 rows)")
    assert said[-1] == "and 40 more rows without a result; the audits list more clips"
    assert last.endswith("failed_tables=0")
    for table in stored()["tables"]:
        assert [one["path"] for one in table["failures"]] == [f"no{n:02}|\u202e.mkv" for n in range(10)]
        assert set(table["failures"][0]) == {"path", "status", "message", "rows"}
    clips = Path("r.md").read_text().partition("## Clips that failed\n\n")[2].splitlines()
    assert len(clips) == 22
    assert clips[10] == "- Table one: and 10 more rows; its audit lists more clips"
    assert "\u202e" not in "".join(clips)


# --- one base ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["relative", "absolute"])
def test_relative_paths_have_one_base_and_folders_do_not_show(bundle, way):
    """Neither the folder of the bundle nor where it is run from shows in what is written there."""
    contents = []
    for name in ("one", "two/deep"):
        folder = bundle / name
        folder.mkdir(parents=True)
        for file in ("f.csv", "s.jsonl"):
            (folder / file).write_bytes(Path(file).read_bytes())
        table = entry("t", out="out/t.parquet")
        manifest(table, entry("x", features="no.csv"), path=folder / "m.json")
        path = folder / "m.json" if way == "absolute" else Path(name, "m.json")

        report = pm.run_batch(path, report_json=f"{name}/r.json")

        assert report.manifest == "m.json"
        provenance = report.run_provenance
        assert provenance["base_dir"] == "manifest-folder"
        assert provenance["args"]["manifest"] == "m.json"
        assert provenance["args"]["report_json"] == "r.json"
        audit = stored(folder / "out/t.json")["run_provenance"]
        assert audit["base_dir"] == "manifest-folder"
        assert audit["inputs"]["manifest"]["path"] == "m.json"
        contents.append(files_of(folder))
    assert contents[0] == contents[1]


def test_reports_beside_the_bundle_and_a_base_dir_have_the_same_base(bundle):
    (bundle / "sub").mkdir()
    manifest(entry("one"), path="sub/m.json")

    report = pm.run_batch("sub/m.json", base_dir=".", report_json="r.json", report_md=bundle / "r.md")

    provenance = report.run_provenance
    assert (report.manifest, provenance["base_dir"]) == ("sub/m.json", "base-dir")
    assert provenance["args"]["report_json"] == "r.json"
    assert provenance["args"]["report_md"] == str(bundle / "r.md")
    (bundle / "run").mkdir()
    os.chdir("run")
    report = pm.run_batch("../sub/m.json", base_dir="..", report_json="x.json")
    assert report.manifest == "sub/m.json"
    assert report.run_provenance["args"]["report_json"] == "run/x.json"
    assert stored("../out/one.json")["run_provenance"]["inputs"]["manifest"]["path"] == "sub/m.json"
    os.chdir("..")
