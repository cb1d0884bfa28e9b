"""What people write with Polars, and the floor: the same table copied."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from benchmarks.contenders import column

if TYPE_CHECKING:
    from benchmarks.contenders import Job


def copy(job: Job) -> None:
    """Scans the table and sinks it: nothing that writes the table can do less."""
    _sink(_scan(job.features), job.out)


def copy_hashed(job: Job) -> None:
    """The same, after `sha256sum` of every input: the floor of a run that leaves evidence."""
    inputs = [job.features, *job.scores.values()]
    subprocess.run(["sha256sum", "--", *inputs], check=True, stdout=subprocess.DEVNULL)
    copy(job)


def join_scores(job: Job) -> None:
    """Normalises the key of every row, then one left join a scorer."""
    _sink(_with_scores(_scan(job.features), job), job.out)


def join_tables(job: Job) -> None:
    """The same for one small table after another."""
    out = Path(job.out)
    out.mkdir(exist_ok=True)
    os.chdir(job.tables)  # so that sources are names, as those of a manifest are
    for name in job.names:
        own = replace(job, scores={scorer: f"{name}.{scorer}.jsonl" for scorer in job.scores})
        _sink(_with_scores(_scan(f"{name}.parquet"), own), str(out / f"{name}.parquet"))


def _with_scores(frame: pl.LazyFrame, job: Job) -> pl.LazyFrame:
    frame = frame.with_columns(_key(job.key, basename=job.basename).alias("join_key"))
    for scorer, path in job.scores.items():
        is_ok = pl.col("status") == "ok"
        side = pl.scan_ndjson(path, infer_schema_length=None).select(
            _key(job.score_key, basename=job.basename).alias("join_key"),
            pl.col("score").alias(column(scorer, "score")),
            pl.when(is_ok).then(pl.lit("ok")).otherwise(pl.lit("bad")).alias(column(scorer, "status")),
            pl.col("runtime_ms").alias(column(scorer, "runtime_ms")),
            pl.lit(0).alias(column(scorer, "frames")),
            pl.lit(path).alias(column(scorer, "source")),
        )
        frame = frame.join(side, on="join_key", how="left", maintain_order="left").with_columns(
            pl.col(column(scorer, "status")).fill_null("missing"),
            pl.col(column(scorer, "frames")).fill_null(0),
        )
    return frame.drop("join_key")


def join_labels(job: Job) -> None:
    """Applies the regex to the key of every row, then one left join."""
    mos = pl.col("mos").cast(pl.Float64)
    labels = pl.scan_csv(job.labels).select(
        pl.col("clip_id").alias("join_key"),
        (1.0 + mos / 25.0).alias("mos"),
        mos.alias("mos_raw_0_100"),
        pl.lit("ok").alias("mos_label_status"),
        pl.lit(job.labels).alias("mos_label_source"),
        pl.col("n_ratings").alias("mos_n_ratings"),
        "mos_std_dev",
    )
    key = pl.col(job.key).str.strip_chars().str.extract(job.regex, 1)
    joined = (
        _scan(job.features)
        .with_columns(key.alias("join_key"))
        .join(labels, on="join_key", how="left", maintain_order="left")
        .with_columns(pl.col("mos_label_status").fill_null("missing-label"))
        .drop("join_key")
    )
    _sink(joined, job.out)


def read_payloads(job: Job) -> None:
    """Wrapper payloads to one score each."""
    source = job.payloads if job.payloads.endswith(".jsonl") else f"{job.payloads}/*.json"
    scores = pl.scan_ndjson(source, infer_schema_length=None).select(
        pl.col("summary").struct.field("competitor").alias("scorer"),
        pl.col("name").alias("key"),
        pl.col("frames")
        .list.eval(pl.element().struct.field("predicted_vmaf_or_mos"))
        .list.mean()
        .alias("score"),
        pl.col("summary").struct.field("runtime_total_ms").alias("runtime_ms"),
        pl.col("frames").list.len().alias("frames"),
    )
    scores.sink_parquet(job.out)


def _key(name: str, *, basename: bool) -> pl.Expr:
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return text.str.split("/").list.last() if basename else text


def _scan(path: str) -> pl.LazyFrame:
    if path.endswith(".jsonl"):
        return pl.scan_ndjson(path, infer_schema_length=None)
    return pl.scan_parquet(path)


def _sink(frame: pl.LazyFrame, path: str) -> None:
    if path.endswith(".jsonl"):
        frame.sink_ndjson(path)
    else:
        frame.sink_parquet(path)
