"""What people write in SQL, with DuckDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from benchmarks.contenders import column

if TYPE_CHECKING:
    from benchmarks.contenders import Job


def join_scores(job: Job) -> None:
    """One left join a scorer, on the key as it is, or on its basename."""
    columns, joins = [], []
    for index, (scorer, path) in enumerate(job.scores.items()):
        side = f"s{index}"
        columns += [
            f"{side}.score AS {column(scorer, 'score')}",
            f"CASE WHEN {side}.join_key IS NULL THEN 'missing' WHEN {side}.status = 'ok' THEN 'ok' "
            f"ELSE 'bad' END AS {column(scorer, 'status')}",
            f"{side}.runtime_ms AS {column(scorer, 'runtime_ms')}",
            f"0::BIGINT AS {column(scorer, 'frames')}",
            f"CASE WHEN {side}.join_key IS NOT NULL THEN {_text(path)} END AS {column(scorer, 'source')}",
        ]
        key = f"parse_filename({job.score_key})" if job.basename else job.score_key
        rows = f"(SELECT {key} AS join_key, score, status, runtime_ms FROM read_json({_text(path)}))"
        joins.append(f"LEFT JOIN {rows} {side} ON {side}.join_key = f.join_key")
    key = f"parse_filename({job.key})" if job.basename else job.key
    source = f"(SELECT *, {key} AS join_key FROM {_read(job.features)}) f"
    _copy(f"SELECT f.* EXCLUDE (join_key), {', '.join(columns)} FROM {source} {' '.join(joins)}", job.out)


def join_labels(job: Job) -> None:
    """A left join on what the regex takes from the key."""
    key = f"regexp_extract({job.key}, {_text(job.regex)}, 1)"
    source = f"(SELECT *, {key} AS join_key FROM {_read(job.features)}) f"
    columns = (
        "1 + l.mos / 25 AS mos, l.mos AS mos_raw_0_100, "
        "CASE WHEN l.clip_id IS NULL THEN 'missing-label' ELSE 'ok' END AS mos_label_status, "
        f"CASE WHEN l.clip_id IS NOT NULL THEN {_text(job.labels)} END AS mos_label_source, "
        "l.n_ratings AS mos_n_ratings, l.mos_std_dev"
    )
    join = f"LEFT JOIN read_csv({_text(job.labels)}) l ON l.clip_id = f.join_key"
    _copy(f"SELECT f.* EXCLUDE (join_key), {columns} FROM {source} {join}", job.out)


def read_payloads(job: Job) -> None:
    """Wrapper payloads to one score each."""
    source = job.payloads if job.payloads.endswith(".jsonl") else f"{job.payloads}/*.json"
    _copy(
        "SELECT summary.competitor AS scorer, name AS key, "
        "list_avg(list_transform(frames, lambda f: f.predicted_vmaf_or_mos)) AS score, "
        f"summary.runtime_total_ms AS runtime_ms, len(frames) AS frames FROM read_json({_text(source)})",
        job.out,
    )


def _read(path: str) -> str:
    return f"read_json({_text(path)})" if path.endswith(".jsonl") else f"read_parquet({_text(path)})"


def _copy(query: str, out: str) -> None:
    options = "FORMAT json" if out.endswith(".jsonl") else "FORMAT parquet, COMPRESSION zstd"
    duckdb.sql(f"COPY ({query}) TO {_text(out)} ({options})")


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
