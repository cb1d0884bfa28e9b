"""The contenders: small programs, each run in a process of its own.

`python -m benchmarks.contenders NAME JOB` runs one; the job is a `Job` as JSON. A program imports its own
engine only, so that none pays for another's start-up. They are written as a careful user of each engine
would: no tricks, no work left out. Every Parquet file is written with zstd, as Polars does by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SCORE_COLUMNS = ("score", "status", "runtime_ms", "frames", "source")
"""The parts of the columns that a scorer becomes."""


@dataclass(frozen=True)
class Job:
    """What a contender is to do.

    Attributes:
        out: The file or the folder to write.
        features: The feature table.
        key: Its key column.
        basename: Whether keys are basenames of paths.
        score_key: The key field of the sidecars.
        scores: The sidecars by scorer.
        labels: The label file.
        regex: What to take from a feature key for the labels: group 1.
        payloads: A JSONL file of wrapper payloads, or a folder of files that hold one each.
        tables: A folder of tables with their sidecars.
        names: Which tables in it.
        tasks: How many tasks to hand over.
    """

    out: str = ""
    features: str = ""
    key: str = "clip_id"
    basename: bool = False
    score_key: str = "clip_id"
    scores: dict[str, str] = field(default_factory=dict)
    labels: str = ""
    regex: str = ""
    payloads: str = ""
    tables: str = ""
    names: list[str] = field(default_factory=list)
    tasks: int = 0


def column(scorer: str, part: str) -> str:
    """The name of one of a scorer's columns."""
    return f"second_opinion_{scorer}_{part}"
