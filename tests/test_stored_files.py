"""Files that users have kept: what was written for an older version still reads, and means the same."""

from __future__ import annotations

import json

import polars as pl
import pytest

import polars_materialize as pm

# As written for version 0.1; never to be changed, only added to.
SCORES_MANIFEST = """\
{
  "_comment": "kept since 0.1",
  "_owner": {"team": "video"},
  "defaults": {
    "key_column": null,
    "score_key_field": null,
    "score_field": null,
    "key_normalize": "auto",
    "missing_policy": "mark",
    "bad_policy": "mark",
    "prefix": "second_opinion",
    "overwrite": false
  },
  "tables": [
    {
      "id": "plain",
      "features": "features/*.csv",
      "scores": ["dover=scores/dover.jsonl", "scores/wrapper.json"],
      "out": "out/plain.parquet",
      "audit_json": "out/plain.audit.json"
    },
    {
      "id": "objects",
      "features": "features/one.csv",
      "scores": [
        {
          "path": "scores/nested.jsonl",
          "label": "Q-Align",
          "key_field": "meta.video",
          "score_field": "result.score",
          "runtime_field": "result.ms",
          "status_field": "state",
          "key_normalize": "stem",
          "key_regex": "(.*)"
        }
      ],
      "out": "out/objects.jsonl",
      "audit_json": null,
      "key_column": "clip_id",
      "key_normalize": "raw",
      "missing_policy": "drop",
      "bad_policy": "drop",
      "prefix": "nr",
      "overwrite": true
    }
  ]
}
"""

LABELS_MANIFEST = """\
{
  "_comment": "kept since 0.1",
  "defaults": {
    "feature_key_column": null,
    "label_key_column": null,
    "label_mos_column": null,
    "label_scale": "auto",
    "key_normalize": "auto",
    "feature_key_regex": null,
    "label_key_regex": null,
    "min_match_rate": 0.95,
    "status_column": "mos_label_status",
    "overwrite": false
  },
  "tables": [
    {
      "id": "labels",
      "features": "features/*.csv",
      "labels": [
        "labels/mos.csv",
        {
          "path": "labels/headerless.txt",
          "columns": ["path", "fps", "j"],
          "key_column": "path",
          "mos_column": "j",
          "key_regex": "(\\\\w+)\\\\.mp4$",
          "scale": "0:100"
        }
      ],
      "out": "out/labels.parquet",
      "audit_json": "out/labels.audit.json",
      "min_match_rate": 0.5,
      "status_column": "label_state"
    }
  ]
}
"""


@pytest.fixture
def bundle(tmp_path):
    """The files that the stored manifests name."""
    files = {
        "features/one.csv": "clip_id,vmaf\na,90\nb,80\n",
        "features/two.csv": "clip_id,vmaf\nc,70\n",
        "scores/dover.jsonl": '{"clip_id": "a", "score": 0.5}\n{"clip_id": "b", "status": "failed"}\n',
        "scores/wrapper.json": json.dumps(
            {
                "name": "a",
                "frames": [
                    {"frame_idx": 0, "predicted_vmaf_or_mos": 70.0, "runtime_ms": 1.5},
                    {"frame_idx": 1, "predicted_vmaf_or_mos": 71.0, "runtime_ms": 2.0},
                ],
                "summary": {
                    "competitor": "fork-nr-metric",
                    "plcc": 0.0,
                    "srocc": 0.0,
                    "rmse": 0.0,
                    "runtime_total_ms": 3.5,
                    "params": 10,
                    "gflops": 0.1,
                },
            }
        ),
        "scores/nested.jsonl": json.dumps(
            {"meta": {"video": "x/a.mp4"}, "result": {"score": "4.5", "ms": 7}, "state": "pass"}
        ),
        "labels/mos.csv": "clip_id,MOS,n_ratings\na,4,21\n",
        "labels/headerless.txt": "v/b.mp4, 30.0, 25\n",
        "scores.json": SCORES_MANIFEST,
        "labels.json": LABELS_MANIFEST,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def as_text(path):
    """A table with its Enum and Categorical columns as the text they hold."""
    return pm.scan_table(path).with_columns(pl.col(pl.Enum, pl.Categorical).cast(pl.String)).collect()


def test_a_stored_manifest_of_second_opinions(bundle):
    report = pm.run_batch(bundle / "scores.json")

    assert report.status == "ok"
    plain = as_text(bundle / "out" / "plain.parquet")
    assert plain.drop("vmaf").rows() == [
        ("a", 0.5, "ok", None, 0, "scores/dover.jsonl", 70.5, "ok", 3.5, 2, "scores/wrapper.json"),
        ("b", None, "bad", None, 0, "scores/dover.jsonl", None, "missing", None, 0, None),
        ("c", None, "missing", None, 0, None, None, "missing", None, 0, None),
    ]
    assert plain.columns[2::5] == ["second_opinion_dover_score", "second_opinion_fork_nr_metric_score"]
    assert as_text(bundle / "out" / "objects.jsonl").to_dicts() == [
        {
            "clip_id": "a",
            "vmaf": 90,
            "nr_q_align_score": 4.5,
            "nr_q_align_status": "ok",
            "nr_q_align_runtime_ms": 7.0,
            "nr_q_align_frames": 0,
            "nr_q_align_source": "scores/nested.jsonl",
        }
    ]


def test_a_stored_manifest_of_mos_labels(bundle):
    report = pm.run_batch(bundle / "labels.json", kind="mos-labels")

    assert report.status == "ok"
    labelled = as_text(bundle / "out" / "labels.parquet")
    assert labelled.columns == [
        *("clip_id", "vmaf", "mos", "mos_raw_0_100", "label_state", "mos_label_source", "mos_n_ratings")
    ]
    assert labelled.drop("vmaf").rows() == [
        ("a", 4.0, 75.0, "ok", "labels/mos.csv", 21),
        ("b", 2.0, 25.0, "ok", "labels/headerless.txt", None),
        ("c", None, None, "missing-label", None, None),
    ]
