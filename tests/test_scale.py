from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the suite is no part of the package

from benchmarks.scale import (  # noqa: E402
    Amounts,
    Layout,
    Machines,
    Rates,
    cost,
    layouts,
    main,
    saliency,
    text,
    unlooked,
)

RATES = Rates(
    row=1.0,
    row_scorer=0.5,
    full_row=2.0,
    shard_ms=10.0,
    flush_ms=5.0,
    unlooked_ms=100.0,
    unlooked_scorer_ms=10.0,
    score=4.0,
    score_bytes=300.0,
    clip_bytes=100.0,
    file_bytes=1_000.0,
    hash_gb=1.0,
    saliency_seconds=2.0,
)
AMOUNTS = Amounts(
    rows=4e9,
    shards=1_000,
    scorers=2,
    clips=9e6,
    row_bytes=100,
    added_bytes=1,
    score_file_bytes=50,
    clip_megabytes=2,
    audit_bytes=500,
)
MACHINES = Machines(cores=8, workers=10, worker_cores=1, gb_second=0.5, core_hour=0.1, egress_gb=0.2)


def test_one_process_uses_two_cores_and_pays_for_all():
    found = cost(RATES, AMOUNTS, MACHINES, Layout("", 1, 8, 1.0))

    assert found.evidence_hours == pytest.approx(18e6 * 4e-6 / 2 / 3600)
    # 4e9 rows of two microseconds, 1,000 shards of 10 ms on two cores and of 5 ms by the clock.
    assert found.table_hours == pytest.approx((8_010 / 2 + 5) / 3600)
    assert found.network_gb == pytest.approx(400 + 0.9 + 408)
    assert found.hash_hours == pytest.approx(808.9 / 2 / 3600)
    assert found.network_hours == pytest.approx(808.9 / 0.5 / 3600)
    assert found.memory_gb == pytest.approx(5.4 + 0.9 + 0.001)
    assert found.money == pytest.approx(found.hours * 8 * 0.1)
    assert found.egress == pytest.approx(808.9 * 0.2)


def test_workers_divide_rows_and_scores_only_if_they_are_split():
    _, all_scores, own_scores = (cost(RATES, AMOUNTS, MACHINES, one) for one in layouts(MACHINES))

    assert all_scores.evidence_hours == pytest.approx(18e6 * 4e-6 / 3600)  # each of one core
    assert own_scores.evidence_hours == pytest.approx(all_scores.evidence_hours / 10)
    assert all_scores.table_hours == own_scores.table_hours == pytest.approx((801 + 0.5) / 3600)
    assert all_scores.memory_gb == pytest.approx(5.4 + 0.09 + 0.0001)
    assert own_scores.memory_gb == pytest.approx(0.54 + 0.09 + 0.0001)
    assert all_scores.network_gb - own_scores.network_gb == pytest.approx(0.9 * 9)


def test_reading_all_columns_takes_more():
    layout = Layout("", 1, 2, 1.0)

    plain, full = (cost(RATES, AMOUNTS, MACHINES, layout, full=full) for full in (False, True))

    assert full.table_hours - plain.table_hours == pytest.approx(8_000 / 2 / 3600)
    assert full.memory_gb == plain.memory_gb


def test_saliency_and_all_evidence_for_each_shard():
    found = saliency(RATES, AMOUNTS, MACHINES)

    assert found["core_hours"] == pytest.approx(5_000)
    assert found["one_hours"] == pytest.approx(625)
    assert found["worker_hours"] == pytest.approx(500)
    assert found["money"] == pytest.approx(500)
    assert found["network_gb"] == pytest.approx(18_000)
    assert unlooked(RATES, AMOUNTS) == pytest.approx(1_000 * 0.12 * 9 / 3600)


def _results() -> dict[str, object]:
    def case(name: str, contenders: dict[str, tuple[float, int]]) -> dict[str, object]:
        listed = [
            {"name": one, "cpu_seconds": [seconds, seconds + 1], "peak_bytes": [peak]}
            for one, (seconds, peak) in contenders.items()
        ]
        return {"name": name, "contenders": listed}

    return {
        "sizes": {"rows": 10_000_000, "script_rows": 1_000_000, "clip_rows": 500_000},
        "cases": [
            case("script", {"package": (2.0, 0)}),
            case("join", {"package": (11.0, 0)}),
            case("refresh", {"package": (12.0, 0), "package, drop": (32.0, 0)}),
            case("startup", {"--help": (0.5, 40_000_000)}),
            case("clips", {"package": (7.0, 640_000_000)}),
        ],
    }


def test_rates_may_be_those_of_a_run():
    found = Rates.of(_results())

    assert found.row == pytest.approx(1.0 - 3 * found.row_scorer)
    assert found.full_row == pytest.approx(2.0)
    assert found.score == pytest.approx((7.0 - 0.5 - 0.5) / 1.5)
    assert found.score_bytes == pytest.approx((600e6 - 500_000 * found.clip_bytes) / 1.5e6)
    stated = Rates()
    assert (
        replace(
            found,
            row=stated.row,
            full_row=stated.full_row,
            score=stated.score,
            score_bytes=stated.score_bytes,
        )
        == stated
    )


def test_rates_that_a_run_does_not_tell_are_as_stated():
    assert Rates.of({**_results(), "cases": []}) == Rates()


def test_options_count_more_than_results(tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(_results()))

    main(["--results", str(path), "--rows", "2e9", "--row", "3", "--workers", "7"])

    rates = replace(Rates.of(_results()), row=3.0)
    assert capsys.readouterr().out == text(rates, Amounts(rows=2e9), Machines(workers=7)) + "\n"


def test_the_page_shows_what_the_program_prints():
    command = [sys.executable, "-m", "benchmarks.scale"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout

    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")

    shown = page.partition("<!-- python -m benchmarks.scale -->")[2].partition("<!-- end -->")[0]
    assert shown.strip() == printed.strip()
