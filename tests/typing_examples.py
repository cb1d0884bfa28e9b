"""Uses of the public API whose types mypy checks; nothing here is run."""

from __future__ import annotations

from typing import assert_type

import polars as pl

import polars_materialize as pm


def frames_keep_their_kind(eager: pl.DataFrame, lazy: pl.LazyFrame) -> None:
    scores = pm.scan_scores(["dover=dover.jsonl", pm.Sidecar("nvc/qalign", label="q-align")])
    labels = pm.scan_labels(pm.LabelFile("mos.csv", scale="1:5"))
    assert_type(scores, pl.LazyFrame)
    assert_type(pm.join_scores(eager, scores), pl.DataFrame)
    assert_type(pm.join_scores(lazy, scores.collect(), missing_policy="fail"), pl.LazyFrame)
    assert_type(pm.join_labels(eager, labels), pl.DataFrame)
    assert_type(lazy.pipe(pm.join_scores, scores).pipe(pm.join_labels, labels), pl.LazyFrame)
    assert_type(pm.add_saliency(eager), pl.DataFrame)
    assert_type(lazy.pipe(pm.add_saliency, root="clips", frame_selection="uniform"), pl.LazyFrame)
    assert_type(pm.measure_saliency(lazy, workers=2, progress=print), pl.DataFrame)


def options_are_checked(lazy: pl.LazyFrame, scores: pl.LazyFrame) -> None:
    pm.join_scores(lazy, scores, missing_policy="ignore")  # type: ignore[arg-type]
    pm.join_scores(lazy, scores, key_normalise="stem")  # type: ignore[call-arg]
    pm.add_saliency(lazy, temporal_aggregator="median")  # type: ignore[arg-type]
    pm.add_saliency(lazy, frames=8)  # type: ignore[call-arg]
    pm.measure_saliency(lazy, overwrite=True)  # type: ignore[call-arg]


def runs_return_structs() -> None:
    assert_type(pm.materialize_scores("f.parquet", "dover=s.jsonl", "o.parquet"), pm.ScoreAudit)
    assert_type(pm.materialize_labels("f.parquet", ["mos.csv"], "o.parquet"), pm.LabelAudit)
    assert_type(pm.materialize_saliency("f.parquet", "o.parquet", model_path="net.onnx"), pm.SaliencyAudit)
    assert_type(pm.run_batch("manifest.json", kind="mos-labels"), pm.BatchReport)
    assert_type(pm.scan_table("shards/*.parquet"), pl.LazyFrame)


def audits_are_structs(eager: pl.DataFrame, lazy: pl.LazyFrame) -> None:
    assert_type(pm.audit_signals({"before": eager, "after": lazy}, target="mos"), pm.SignalReport)
    assert_type(pm.audit_tables(["a=f.parquet"], families=[pm.Family(name="x")]), pm.SignalReport)
