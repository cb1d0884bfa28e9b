from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the suite is no part of the package

from benchmarks.__main__ import _names  # noqa: E402
from benchmarks.cases import CASES  # noqa: E402
from benchmarks.check import Digest, compare  # noqa: E402
from benchmarks.digests import digest  # noqa: E402
from benchmarks.generators import make  # noqa: E402
from benchmarks.measure import Measurement, run  # noqa: E402
from benchmarks.targets import Target  # noqa: E402

if sys.platform != "linux":
    pytest.skip("the suite reads /proc", allow_module_level=True)


def test_all_is_every_case():
    assert _names("all") == list(CASES)


WARM = ["startup"]
"""A case that is warmed up first, and takes no time; for the others that would prove nothing more."""
REST = [name for name in CASES if name not in WARM]


@pytest.mark.parametrize("names", [WARM, *(REST[part::4] for part in range(4))], ids=" ".join)
def test_the_whole_suite_runs_small_and_all_contenders_agree(names, tmp_path):
    only = ",".join(names)
    command = [sys.executable, "-m", "benchmarks", "--only", only, "--scale", "0.001", "--repeats", "1"]
    command += [] if names == WARM else ["--no-warm-up"]
    folders = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]

    done = subprocess.run(
        [*command, *folders], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert [case["name"] for case in results["cases"]] == names
    for case in results["cases"]:
        assert case["skipped"] is None
        for contender in case["contenders"]:
            assert contender["problem"] is None
            assert contender["agrees"]
            assert min(contender["seconds"]) > 0
        assert all(target["value"] is not None for target in case["targets"])
    package = {
        c["name"]: one["rows"]
        for c in results["cases"]
        for one in c["contenders"]
        if one["name"] == "package"
    }
    first = {"payloads", "files"}  # whose input is no table, so that there is nothing yet to compare with
    assert package == {
        name: "first of these" if name in first else "same, in order"
        for name in names
        if name not in {"shards", "startup", "tasks", "memory"}  # whose contenders have other names
    }
    assert ET.parse(tmp_path / "results" / "results.svg").getroot().tag.endswith("svg")
    assert not list((tmp_path / "data").glob("work-*"))


def test_corpora_are_the_same_for_the_same_seed(tmp_path):
    size = {"rows": 500, "features": 3, "low": 100, "high": 160, "order": "shuffled", "key": "path"}

    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make("table", tmp_path / f"{name}.parquet", seed, size)
    a, b, c = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in "abc")

    assert a.equals(b)
    assert not a.equals(c)
    assert a.height == 500
    assert a.select(pl.struct("src", "frame").n_unique()).item() == 500
    assert a.group_by("src").len()["len"].sort().to_list()[1:] >= [100]


GIVEN = pl.DataFrame({"clip_id": ["a", "a", "b"], "vmaf": [1.0, 2.0, 3.0]})
JOINED = GIVEN.with_columns(score=pl.Series([0.5, 0.5, None]))


def _digest(frame: pl.DataFrame, folder: Path, suffix: str = "parquet") -> Digest:
    path = folder / f"table.{suffix}"
    if suffix == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_ndjson(path)
    return Digest(**digest(str(path), GIVEN.columns))


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (JOINED, (True, "same, in order")),
        (JOINED.select("score", "vmaf", "clip_id"), (True, "same, in order")),
        (JOINED.with_columns(pl.col("clip_id").cast(pl.Categorical)), (True, "same, in order")),
        (JOINED.with_columns(pl.col("vmaf").cast(pl.Int32)), (True, "same, in order")),
        (JOINED.with_columns(pl.col("score").fill_null(float("nan"))), (True, "same, in order")),
        (JOINED.reverse(), (True, "same, order lost")),
        (JOINED.head(2), (False, "DIFFERENT: 2 rows, not 3")),
        (JOINED.drop("score"), (False, "DIFFERENT: columns score")),
        (JOINED.with_columns(more=1), (False, "DIFFERENT: columns more")),
        (JOINED.with_columns(pl.col("vmaf") + 1), (False, "DIFFERENT: columns vmaf")),
        (JOINED.with_columns(pl.col("score").fill_null(0.0)), (False, "DIFFERENT: columns score")),
        (
            JOINED.with_columns(pl.col("vmaf").reverse()),
            (False, "DIFFERENT: the columns are the same, the rows are not"),
        ),
    ],
)
def test_tables_are_compared_by_their_values(frame, expected, tmp_path):
    given, joined = _digest(GIVEN, tmp_path), _digest(JOINED, tmp_path)

    assert compare(_digest(frame, tmp_path), given=given, joined=joined, is_copy=False) == expected


def test_a_table_is_the_same_in_another_format(tmp_path):
    assert _digest(JOINED, tmp_path) == _digest(JOINED, tmp_path, "jsonl")


def test_a_copy_has_the_columns_of_the_input_only(tmp_path):
    given = _digest(GIVEN, tmp_path)

    assert compare(given, given=given, joined=None, is_copy=True) == (True, "same, in order")
    same, _ = compare(_digest(JOINED, tmp_path), given=given, joined=None, is_copy=True)
    assert not same


def _repeat(**seconds: float) -> dict[str, Measurement]:
    return {name: Measurement(value, value, int(value * 100)) for name, value in seconds.items()}


@pytest.mark.parametrize(
    ("target", "value", "met", "allowed"),
    [
        (Target("", "a", 0.75, "b"), 0.5, True, 3.0),
        (Target("", "a", 0.4, "b"), 0.5, False, 1.6),
        (Target("", "a", 3.0, "b", at_least=True), 2.0, False, 4 / 3),
        (Target("", "a", 0.4, "b", plus=1.0), 0.25, True, 2.6),
        (Target("", "a", 0.02, minus="c", each=10), 0.1, False, 1.2),
        (Target("", "a", 3.0, "b", "peak_bytes"), 0.5, True, None),
        (Target("", "a", 3.0, "gone"), None, None, None),
    ],
)
def test_targets_are_judged_by_the_median_of_ratios(target, value, met, allowed):
    repeats = [_repeat(a=2.0, b=4.0, c=1.0), _repeat(a=2.0, b=4.0, c=1.0), _repeat(a=2.0, b=4.0, c=1.0)]

    judged = target.judge(repeats)

    assert judged.value == (None if value is None else pytest.approx(value))
    assert judged.met is met
    assert target.allowed(repeats) == (None if allowed is None else pytest.approx(allowed))


def _run(code: str, tmp_path: Path, *, timeout: float = 60.0, memory: int = 1 << 40) -> Measurement:
    command = [sys.executable, "-c", code]
    return run(command, env=os.environ, cwd=tmp_path, timeout=timeout, memory=memory)


def test_a_command_is_measured(tmp_path):
    small = _run("pass", tmp_path)
    large = _run("x = bytearray(200_000_000)", tmp_path)

    assert small.problem is None
    # Not compared with the small one, towards which Linux counts the memory of the process that starts it.
    assert large.peak_bytes > 200_000_000
    assert large.seconds > 0


def test_a_command_that_fails_is_not_measured(tmp_path):
    found = _run("raise SystemExit('no such luck')", tmp_path)

    assert found.problem == "exit status 1: no such luck"
    assert not found.stopped


@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        ("import time; time.sleep(60)", {"timeout": 0.3}, "ended after 0.3 s"),
        (
            "import time; x = bytearray(200_000_000); time.sleep(60)",
            {"memory": 100_000_000},
            "ended above 0.1 GB of memory",
        ),
    ],
)
def test_a_command_is_ended_at_its_limits(code, limits, reason, tmp_path):
    found = _run(code, tmp_path, **limits)

    assert found.problem == reason
    assert found.stopped
    assert found.seconds < 30
