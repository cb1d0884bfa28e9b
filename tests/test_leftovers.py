"""What killed processes leave half made is told from what living ones make, and cleared away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize import leftovers
from polars_materialize.stores.copies import Copies, new_prefix
from polars_materialize.tables.staging import staged, staged_folder

if not Path("/proc/self/stat").exists():
    pytest.skip("who is dead is told by /proc", allow_module_level=True)

TABLE = pl.DataFrame({"clip_id": ["a", "b"], "vmaf": [1.0, 2.0]})
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(pm.__file__).resolve().parents[1])}

CHILD = """
import os, signal, sys
from pathlib import Path
from polars_materialize.tables.staging import staged, staged_folder

def die():
    os.kill(os.getpid(), signal.SIGKILL)

target = Path(sys.argv[2])
{}
"""
KILLED = {
    "file": "with staged('t', target) as part:\n    part.write_bytes(b'half'); die()",
    "folder": "with staged_folder('t', target) as part:\n    (part / 'n=1').mkdir(parents=True); die()",
    "batch": (
        "from polars_materialize.tables import staging_mark\n"
        "staging_mark.set('0123abcd')\n"
        "with staged('t', target) as part:\n    part.write_bytes(b'half'); die()"
    ),
}
BETWEEN = """
from polars_materialize.tables import staging
rename = Path.rename

def once(path, to):
    rename(path, to)
    die()

Path.rename = once
with staged_folder('t', target) as part:
    part.mkdir()
"""
WAITING = """
with staged('t', target) as part:
    part.write_bytes(b'whole')
    print('ready', flush=True)
    sys.stdin.readline()
"""


def run_child(script, target, **options):
    """Starts a process that makes something."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD.format(script), "-", str(target)], env=ENVIRONMENT, **options
    )


def killed(script, target):
    """Has a process make something, and be killed over it."""
    assert run_child(script, target).wait(60) == -signal.SIGKILL


@pytest.fixture(autouse=True)
def always_look(monkeypatch):
    """Looks every time, however short ago the last time was."""
    monkeypatch.setattr(leftovers, "SHARE", 0)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", KILLED)
def test_the_next_to_write_in_a_folder_clears_what_a_killed_process_left(kind, tmp_path):
    killed(KILLED[kind], tmp_path / "t.csv")
    assert [name.rpartition(".")[2] for name in names(tmp_path)] == ["part"]

    pm.sink_table(TABLE.lazy(), tmp_path / "t.csv")

    assert names(tmp_path) == ["t.csv"]


def test_a_folder_that_was_put_aside_when_the_process_was_killed_comes_back(tmp_path):
    target = tmp_path / "t"
    with staged_folder("t", target) as part:
        part.mkdir()
        TABLE.write_parquet(part / "00000000.parquet", metadata={"polars_materialize.audit": "{}"})
    killed(BETWEEN, target)
    assert not target.exists()

    with staged_folder("t", target) as part:
        assert (target / "00000000.parquet").is_file()
        part.mkdir()
        (part / "n=1").mkdir()

    assert names(tmp_path) == ["t"]
    assert names(target) == ["n=1"]


def test_what_a_living_process_makes_is_left_alone(tmp_path):
    target = tmp_path / "t.csv"
    child = run_child(WAITING, target, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        pm.sink_table(TABLE.lazy(), target)
        assert len(names(tmp_path)) == 2
        child.communicate("go on\n", timeout=60)
    finally:
        child.kill()

    assert child.returncode == 0
    assert target.read_bytes() == b"whole"
    assert names(tmp_path) == ["t.csv"]


def test_what_may_be_of_another_host_or_somebody_else_is_left_alone(tmp_path):
    own = leftovers.new_owned()
    world, pid, start, _ = own.split("-")
    others = [
        f".t.csv.{world[::-1]}-{pid}-1-0.part",  # of another host, or from before a restart
        f".t.csv.{own}.part",  # this process
        f".t.csv.{own}.tmp",
        ".t.csv.0123abcd.part",
        f"t.csv.{world}-{pid}-1-0.part",  # not hidden
        f".{world}-{pid}-1-0.part",  # of no target
    ]
    mine = f".t.csv.{world}-{pid}-{int(start) + 1}-0.part"  # of an earlier process with the same number
    for name in [*others, mine]:
        (tmp_path / name).touch()

    pm.sink_table(TABLE.lazy(), tmp_path / "u.csv")

    assert names(tmp_path) == sorted([*others, "u.csv"])


def test_copies_and_uploads_of_killed_processes_are_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    world, pid, start, _ = leftovers.new_owned().split("-")
    for left in (f"{world}-{pid}-{int(start) + 1}-0-x", f"{world}-{pid}-{start}-0-y", "z"):
        (tmp_path / f"polars-materialize-{left}").mkdir()
        (tmp_path / f"polars-materialize-{left}" / "part").touch()

    folder = Copies().folder

    assert folder.name.startswith(f"polars-materialize-{world}-{pid}-{start}-")
    assert new_prefix() != new_prefix()
    assert {name.rpartition("-")[2] for name in names(tmp_path)} >= {"y", "z"}
    assert not any(name.endswith("-x") for name in names(tmp_path))


@pytest.mark.parametrize("name", ["n" * 251, "é" * 125 + "n", "n"], ids=["ascii", "accents", "short"])
def test_a_long_name_has_room_for_whose_its_part_is(name, tmp_path):
    with staged("t", tmp_path / f"{name}.csv") as part:
        part.write_text("x")
        assert len(os.fsencode(part.name)) <= 255
        assert leftovers._OWNER.search(part.name)

    assert names(tmp_path) == [f"{name}.csv"]


def test_a_folder_is_not_looked_through_all_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "SHARE", 10**9)
    world, pid, start, _ = leftovers.new_owned().split("-")
    left = tmp_path / f".t.csv.{world}-{pid}-{int(start) + 1}-0.part"

    assert list(leftovers.left_by_the_dead(tmp_path)) == []
    left.touch()
    assert list(leftovers.left_by_the_dead(tmp_path)) == []

    monkeypatch.setattr(leftovers, "_next_look", {})
    assert list(leftovers.left_by_the_dead(tmp_path)) == [left]


def test_where_nobody_can_tell_nothing_is_cleared(tmp_path, monkeypatch):
    world, pid, start, _ = leftovers.new_owned().split("-")
    (tmp_path / f".t.csv.{world}-{pid}-{int(start) + 1}-0.part").touch()

    monkeypatch.setattr(leftovers, "_world", lambda: None)
    assert list(leftovers.left_by_the_dead(tmp_path)) == []
    assert leftovers.new_owned().startswith("00000000-")

    monkeypatch.setattr(leftovers, "_world", lambda: world)
    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "_status", lambda _: None)  # as where /proc cannot be read just now
        assert list(leftovers.left_by_the_dead(tmp_path)) == []
        assert leftovers.new_owned().startswith("00000000-")
    monkeypatch.setattr(os, "kill", refuse)  # a process of another user
    assert list(leftovers.left_by_the_dead(tmp_path)) == []


def refuse(*_):
    raise PermissionError
