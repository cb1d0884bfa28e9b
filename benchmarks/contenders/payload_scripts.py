"""What people write today for wrapper payloads: a loop with `json`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.contenders.scripts import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.contenders import Job


def read_payloads(job: Job) -> None:
    """Wrapper payloads of one file to one score each."""
    with Path(job.payloads).open("rb") as stream:
        _write_scores(map(json.loads, stream), job.out)


def read_files(job: Job) -> None:
    """The same from a folder of files, read by a pool of threads."""
    with ThreadPoolExecutor() as pool:
        _write_scores(pool.map(load, sorted(Path(job.payloads).iterdir())), job.out)


def _write_scores(payloads: Iterable[Any], out: str) -> None:
    rows = [
        {
            "scorer": payload["summary"]["competitor"],
            "key": payload["name"],
            "score": fmean(frame["predicted_vmaf_or_mos"] for frame in payload["frames"]),
            "runtime_ms": payload["summary"]["runtime_total_ms"],
            "frames": len(payload["frames"]),
        }
        for payload in payloads
    ]
    pq.write_table(pa.Table.from_pylist(rows), out, compression="zstd")
