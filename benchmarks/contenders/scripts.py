"""What people write today: a loop over rows, with `json` and dictionaries."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import column

if TYPE_CHECKING:
    from benchmarks.contenders import Job


def join_jsonl(job: Job) -> None:
    """Line by line, and a look-up for each."""
    scores = load_scores(job)
    with Path(job.features).open() as source, Path(job.out).open("w") as out:
        for line in source:
            row = json.loads(line)
            add_scores(row, job, scores)
            out.write(json.dumps(row) + "\n")


def load_scores(job: Job) -> dict[str, dict[str, Any]]:
    """The rows of each sidecar by key."""
    scores: dict[str, dict[str, Any]] = {}
    for scorer, path in job.scores.items():
        scores[scorer] = {}
        with Path(path).open() as stream:
            for line in stream:
                row = json.loads(line)
                scores[scorer][row[job.score_key]] = row
    return scores


def add_scores(row: dict[str, Any], job: Job, scores: dict[str, dict[str, Any]]) -> None:
    """Puts the scores of one row into it."""
    key = str(row[job.key]).strip()
    for scorer, path in job.scores.items():
        found = scores[scorer].get(key)
        if found is None:
            values: tuple[Any, ...] = (None, "missing", None, 0, None)
        else:
            status = "ok" if found["status"] == "ok" else "bad"
            values = (found["score"], status, found["runtime_ms"], 0, path)
        for part, value in zip(("score", "status", "runtime_ms", "frames", "source"), values, strict=True):
            row[column(scorer, part)] = value


def only_loads(job: Job) -> None:
    """Parses every line and keeps nothing: the least that a loop can do."""
    with Path(job.payloads).open("rb") as stream:
        for line in stream:
            json.loads(line)


def only_loads_pool(job: Job) -> None:
    """Parses every file of a folder and keeps nothing."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(load, sorted(Path(job.payloads).iterdir())):
            pass


def load(path: Path) -> Any:
    """One file."""
    return json.loads(path.read_bytes())
