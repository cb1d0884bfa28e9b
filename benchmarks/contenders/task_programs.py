"""Tasks that do nothing, handed to other processes: what handing them over takes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import polars_materialize as pm
from polars_materialize.executors import run_all

if TYPE_CHECKING:
    from benchmarks.contenders import Job

WORKERS = 2


def by_jobs(job: Job) -> None:
    """By worker processes of this package."""
    with pm.Jobs(WORKERS) as executor:
        _check(job, sorted(found.value for _, found in run_all(executor, abs, range(job.tasks))))


def by_dask(job: Job) -> None:
    """By a Dask cluster on this machine."""
    from distributed import LocalCluster  # noqa: PLC0415 - slow to import

    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(
            LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
        )
        executor = stack.enter_context(pm.dask(cluster.scheduler_address))
        _check(job, sorted(found.value for _, found in run_all(executor, abs, range(job.tasks))))


def _check(job: Job, found: list[int | None]) -> None:
    if found != list(range(job.tasks)):
        raise RuntimeError("not every task was done")
