"""The line that says how far a run is: it names the table, and promises nothing that it does not know."""

from __future__ import annotations

import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize import batches, progress
from polars_materialize.progress import Progress, counted_from, named


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self):
        return True

    def lines(self):
        """What the line has said, one after another; empty where it was taken away."""
        return [text.removesuffix("\x1b[K") for text in self.getvalue().split("\r")[1:]]


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second each time it is looked at."""
    times = iter(range(1, 10**6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("f.csv").write_text("clip_id\na\n")
    Path("s").mkdir()
    for n in range(4):
        Path(f"s/{n}.json").write_text(json.dumps({"clip_id": f"{n}", "competitor": "m", "score": 1}))
    return tmp_path


def manifest(count, **fields):
    tables = [
        {"id": f"t{n}", "features": "f.csv", "scores": ["s"], "out": f"o/{n}.csv", **fields}
        for n in range(count)
    ]
    Path("m.json").write_text(json.dumps({"tables": tables}))
    return "m.json"


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("what", ["files", "tables", "files of table 'x' (1 of 2)"])
def test_time_left_is_guessed_of_clips_only(what):
    with Progress(terminal := Terminal()) as said:
        for done in range(99):
            said(done, 100, what)
    assert terminal.lines()[-2] == f"98 of 100 {what}"
    assert not re.search("left|second", terminal.getvalue())


@pytest.mark.usefixtures("clock")
def test_time_left_is_guessed_when_many_clips_are_done_and_many_are_left():
    with Progress(terminal := Terminal()) as said:
        for done in range(400):
            said(done, 400, "clips of table 'x' (1 of 2)")
    lines = terminal.lines()
    told = [" left" in line for line in lines]
    assert told[:20] == [False] * 20
    assert told[21]
    assert not any(told[-60:])  # the last clip may be the longest
    assert lines[100] == "100 of 400 clips of table 'x' (1 of 2), 1.0 a second, about 5 min left"


@pytest.mark.usefixtures("clock")
def test_a_phase_takes_the_place_of_a_count():
    with Progress(terminal := Terminal()) as said:
        one = named(said, "table 'x' (1 of 2)")
        one(3, 4, "files")
        one.phase("joining")
    assert terminal.lines() == ["3 of 4 files of table 'x' (1 of 2)", "table 'x' (1 of 2): joining", ""]


def test_nothing_is_written_where_there_is_no_terminal():
    stream = io.StringIO()
    with Progress(stream) as said:
        said(1, 2)
        said.phase("joining")
    assert stream.getvalue() == ""


def test_callables_of_users_are_called_with_counts_only():
    seen = []

    def told(*counts):
        seen.append(counts)

    assert named(told, "table 'x'") is told
    progress.say_phase(told, "joining")
    progress.say_phase(None, "joining")
    counted_from(told, 100, 500)(23, 200, "tables")
    assert named(None, "x") is counted_from(None, 0, 1) is None
    assert seen == [(123, 500, "tables")]


@pytest.mark.usefixtures("bundle", "clock")
def test_every_line_of_a_batch_names_its_table_and_none_stays(monkeypatch):
    """A line of files that were read stood for as long as rows were joined."""
    monkeypatch.setattr(batches, "LIGHT_BYTES", -1)
    with Progress(terminal := Terminal()) as said:
        pm.run_batch(manifest(2), progress=said)

    lines = [line for line in terminal.lines() if line]
    assert all(
        re.match(r"table 't[01]' \([12] of 2\): |\d of 4 files of table 't[01]' ", line) for line in lines
    )
    for number in (0, 1):
        name = f"table 't{number}' ({number + 1} of 2)"
        own = [line for line in lines if name in line]
        assert own[-2:] == [f"{name}: joining", f"{name}: writing"]
    assert terminal.lines()[-1] == ""


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_tables_are_counted_of_all_tables(elsewhere):
    """Groups of tables that run side by side were counted each by itself."""
    pl.DataFrame({"clip_id": ["a"]}).write_csv("1.csv")
    pl.DataFrame({"clip_id": ["a"]}).write_csv("2.csv")
    path = manifest(7, scores=["s/0.json"])
    content = json.loads(Path(path).read_text())
    content["tables"][2]["features"] = "[12].csv"  # nobody knows the size of a glob: it runs by itself
    content["tables"][5]["features"] = "no.csv"
    Path(path).write_text(json.dumps(content))
    seen = []

    with ThreadPoolExecutor(1) as threads:
        pm.run_batch(
            path,
            executor=threads if elsewhere else None,
            progress=lambda *counts: seen.append(counts) if counts[2:] == ("tables",) else None,
        )

    assert {total for _, total, _ in seen} == {7}
    done = [count for count, _, _ in seen]
    assert done == ([*range(1, 8)] if elsewhere else [1, 2, 4, 5, 7])
