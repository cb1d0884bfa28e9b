"""Runs one contender: `python -m benchmarks.contenders NAME JOB`."""

from __future__ import annotations

import json
import sys
from importlib import import_module

from benchmarks.contenders import Job

PROGRAMS = {
    "polars-copy": "polars_programs:copy",
    "polars-copy-hashed": "polars_programs:copy_hashed",
    "polars-scores": "polars_programs:join_scores",
    "polars-labels": "polars_programs:join_labels",
    "polars-payloads": "polars_programs:read_payloads",
    "polars-tables": "polars_programs:join_tables",
    "duckdb-scores": "duckdb_programs:join_scores",
    "duckdb-labels": "duckdb_programs:join_labels",
    "duckdb-payloads": "duckdb_programs:read_payloads",
    "pandas-scores": "pandas_programs:join_scores",
    "pandas-iterrows": "pandas_programs:join_row_by_row",
    "pyarrow-scores": "pyarrow_programs:join_scores",
    "script-parquet": "pandas_programs:join_records",
    "script-jsonl": "scripts:join_jsonl",
    "script-payloads": "payload_scripts:read_payloads",
    "script-files": "payload_scripts:read_files",
    "json-loads": "scripts:only_loads",
    "json-loads-pool": "scripts:only_loads_pool",
    "package-payloads": "package_programs:read_payloads",
    "tasks-jobs": "task_programs:by_jobs",
    "tasks-dask": "task_programs:by_dask",
}


def main() -> None:
    """Reads the arguments and runs the program."""
    name, job = sys.argv[1:]
    module, function = PROGRAMS[name].split(":")
    getattr(import_module(f"benchmarks.contenders.{module}"), function)(Job(**json.loads(job)))


if __name__ == "__main__":
    main()
