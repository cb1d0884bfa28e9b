"""What people write with pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from benchmarks.contenders import SCORE_COLUMNS, column
from benchmarks.contenders.scripts import add_scores, load_scores

if TYPE_CHECKING:
    from benchmarks.contenders import Job


def join_scores(job: Job) -> None:
    """One left merge a scorer."""
    frame = pd.read_parquet(job.features)
    for scorer, path in job.scores.items():
        side = _sidecar(job, scorer, path)
        frame = frame.merge(side, how="left", left_on=job.key, right_on="join_key").drop(columns="join_key")
        frame[column(scorer, "status")] = frame[column(scorer, "status")].fillna("missing")
        frame[column(scorer, "frames")] = frame[column(scorer, "frames")].fillna(0).astype("int64")
    frame.to_parquet(job.out, compression="zstd", index=False)


def _sidecar(job: Job, scorer: str, path: str) -> pd.DataFrame:
    side = pd.read_json(path, lines=True)
    ok = side["status"] == "ok"
    return pd.DataFrame(
        {
            "join_key": side[job.score_key],
            column(scorer, "score"): side["score"],
            column(scorer, "status"): ok.map({True: "ok", False: "bad"}),
            column(scorer, "runtime_ms"): side["runtime_ms"],
            column(scorer, "frames"): 0,
            column(scorer, "source"): path,
        }
    )


def join_records(job: Job) -> None:
    """The script that most wrote: rows as dictionaries, and a look-up for each."""
    scores = load_scores(job)
    rows = pd.read_parquet(job.features).to_dict("records")
    for row in rows:
        add_scores(row, job, scores)
    pd.DataFrame(rows).to_parquet(job.out, compression="zstd", index=False)


def join_row_by_row(job: Job) -> None:
    """`iterrows` and a look-up a row."""
    sides = {
        scorer: _sidecar(job, scorer, path).set_index("join_key").to_dict("index")
        for scorer, path in job.scores.items()
    }
    frame = pd.read_parquet(job.features)
    columns: dict[str, list[object]] = {
        column(scorer, part): [] for scorer in job.scores for part in SCORE_COLUMNS
    }
    for _, row in frame.iterrows():
        for scorer, side in sides.items():
            found = side.get(row[job.key], {})
            for part in SCORE_COLUMNS:
                name = column(scorer, part)
                missing = {"status": "missing", "frames": 0}.get(part)
                columns[name].append(found.get(name, missing))
    frame.assign(**columns).to_parquet(job.out, compression="zstd", index=False)
