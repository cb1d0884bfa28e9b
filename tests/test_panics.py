"""A panic of a library ends a table with one line: never a batch, a worker or a notebook."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import duckdb
import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize import batches, errors
from polars_materialize.cli import main
from polars_materialize.executors import run_all

SINGLE = ["second-opinion", "table", "--features", "f.csv", "--scores", "x=s.jsonl", "--out", "o.csv"]


class PanicException(BaseException):
    """A panic of any library."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A feature table, a sidecar, and a table that Polars panics on when it reads its schema."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.csv").write_text("clip_id,vmaf\na,1\n")
    (tmp_path / "l.csv").write_text("clip_id,mos\na,3\n")
    (tmp_path / "s.jsonl").write_text('{"clip_id": "a", "score": 1}\n')
    duckdb.sql("copy (select 'a' clip_id, interval 1 day iv) to 'iv.parquet'")
    tables = [
        {"id": name, "features": name, "scores": ["x=s.jsonl"], "out": f"out{n}.csv"}
        for n, name in enumerate(["f.csv", "iv.parquet", "f.csv"])
    ]
    for n, table in enumerate(tables):
        table["id"] = f"t{n}"
    (tmp_path / "m.json").write_text(json.dumps({"tables": tables}))
    return tmp_path


def panics():
    """Whether the installed Polars panics on that table, or has an error for it."""
    try:
        pl.scan_parquet("iv.parquet").collect_schema()
    except pl.exceptions.PanicException:
        return True
    except pl.exceptions.PolarsError:
        return False
    return False


def ours(text):
    """The lines of this program on standard error, without Rust's own of a panic."""
    return [
        line for line in text.splitlines() if re.match(r"error: |table '|[a-z-]+ (batch )?materialize", line)
    ]


def test_a_table_that_polars_panics_on_fails_alone(folder, capfd):
    assert panics()

    assert main(["second-opinion", "batch", "--manifest", "m.json", "--report-json", "r.json"]) == 1

    report = json.loads((folder / "r.json").read_text())
    assert [table["status"] for table in report["tables"]] == ["ok", "error", "ok"]
    assert report["tables"][1]["error"].startswith("iv.parquet: the columns 'iv' hold intervals, ")
    assert len(ours(capfd.readouterr().err)) == 2


@pytest.mark.parametrize(
    "words",
    [
        "second-opinion table --features iv.parquet --scores x=s.jsonl --out o.csv",
        "second-opinion table --features f.csv --scores x=iv.parquet --out o.csv",
        "mos-labels table --features iv.parquet --labels l.csv --out o.csv",
        "mos-labels table --features f.csv --labels iv.parquet --out o.csv",
        "saliency table --input iv.parquet --output o.csv",
        "refresh table --features iv.parquet --scores x=s.jsonl --out o.csv",
        "signal-mix --input iv.parquet --out-json o.csv",
    ],
)
def test_a_run_that_a_library_panics_in_has_one_line(folder, words, capfd):
    assert main(words.split()) == 1

    told = ours(capfd.readouterr().err)
    assert len(told) == 1
    assert told[0].startswith("error: iv")
    assert not (folder / "o.csv").exists()


@pytest.mark.usefixtures("folder")
def test_a_notebook_gets_errors_of_this_package():
    calls = [
        lambda: pm.scan_table("iv.parquet"),
        lambda: pm.scan_scores("x=iv.parquet").collect(),
        lambda: pm.scan_labels("iv.parquet").collect(),
        lambda: pm.materialize_scores("iv.parquet", "x=s.jsonl", "o.csv"),
        lambda: pm.audit_tables("iv.parquet"),
        lambda: pm.join_scores(pl.scan_parquet("iv.parquet"), pm.scan_scores("x=s.jsonl")),
        lambda: pm.sink_table(pl.scan_parquet("iv.parquet"), "o.csv"),
        lambda: pm.audit_signals(pl.scan_parquet("iv.parquet")),
        lambda: pm.add_saliency(pl.scan_parquet("iv.parquet")),
        lambda: pm.measure_saliency(pl.scan_parquet("iv.parquet")),
    ]
    for call in calls:
        with pytest.raises(errors.MaterializeError, match=r"month_day_millisecond_interval|hold intervals"):
            call()


def panic(*_, **__):
    raise PanicException("index out\nof bounds")


@pytest.mark.usefixtures("folder")
def test_a_panic_where_nobody_expects_one_is_told_in_one_line(monkeypatch, capfd):
    monkeypatch.setattr("polars_materialize.score_runs.run_table", panic)

    with pytest.raises(errors.LibraryError, match=r"^a library failed inside: index out of bounds$"):
        pm.materialize_scores("f.csv", "x=s.jsonl", "o.csv")
    assert main(SINGLE) == 1
    assert ours(capfd.readouterr().err) == ["error: a library failed inside: index out of bounds"]
    report = pm.run_batch("m.json")
    first, *others = [table["error"] for table in report.tables]
    assert first == "a library failed inside: index out of bounds"
    assert others == ["the same error as table 't0'"] * 2


@pytest.mark.usefixtures("folder")
def test_a_panic_of_the_program_itself_is_told_in_one_line(monkeypatch, capfd):
    monkeypatch.setattr(batches, "read_as", panic)

    assert main(["second-opinion", "batch", "--manifest", "m.json"]) == 1

    assert capfd.readouterr().err.startswith(
        "error: a library failed inside: index out of bounds (this is a bug"
    )


def test_a_panic_in_a_worker_is_the_problem_of_its_item():
    with ThreadPoolExecutor(1) as executor:
        found = dict(run_all(executor, panic, [1]))
    assert found[0].problem == "a library failed inside: index out of bounds"


def test_a_worker_survives_a_panic():
    with pm.Jobs(1) as executor:
        pid = executor.submit(worker_pid).result()
        with pytest.raises(errors.LibraryError, match=r"^a library failed inside: index out of bounds$"):
            executor.submit(panic).result()
        assert executor.submit(worker_pid).result() == pid


def worker_pid():
    import os  # noqa: PLC0415

    return os.getpid()


def test_no_memory_is_no_bug(monkeypatch, capfd, folder):  # noqa: ARG001
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("polars_materialize.score_runs.run_table", fail)

    assert main(SINGLE) == 1
    assert capfd.readouterr().err == "error: there is not enough memory\n"
