"""This package, where its command line has no command for it: sidecars to one frame of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars_materialize as pm

if TYPE_CHECKING:
    from benchmarks.contenders import Job


def read_payloads(job: Job) -> None:
    """Wrapper payloads, of a file or of a folder of files, to one score each."""
    scores = pm.scan_scores(job.payloads).select("scorer", "key", "score", "runtime_ms", "frames")
    pm.sink_table(scores, job.out)
