"""What a job far larger than any corpus here would take: `python -m benchmarks.scale`.

A model, not a measurement: rates that were measured on 2 cores, times how much there is. It prints the tables
of `docs/scale.md`. Rates may be those of a run of the suite (`--results`); everything else is an option.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

USED_CORES = 2
"""Cores that one process is taken to keep busy: no more was measured, and files take turns."""


@dataclass(frozen=True)
class Rates:
    """What one of everything takes. Times are processor time, in microseconds unless they say otherwise.

    Attributes:
        row: A row of 22 columns whose old columns are copied as they are.
        row_scorer: That row's five columns of one scorer.
        full_row: What it takes more if all columns have to be read and written.
        shard_ms: A file of the table, however small, and the one written for it.
        flush_ms: Until that one is on the disk, by the clock.
        unlooked_ms: A file joined with all evidence and not its own: for a million clips...
        unlooked_scorer_ms: ... and for each scorer of them.
        score: A row of a sidecar: to read, to prove, to key and to join with clips.
        score_bytes: Its peak memory.
        clip_bytes: That of a clip, with its counts.
        file_bytes: That of a file of the table.
        hash_gb: Gigabytes hashed a second.
        saliency_seconds: A clip of 8 frames of 960 x 540 through the network.
    """

    row: float = 0.48
    row_scorer: float = 0.09
    full_row: float = 1.6
    shard_ms: float = 6.3
    flush_ms: float = 10.0
    unlooked_ms: float = 130.0
    unlooked_scorer_ms: float = 11.0
    score: float = 4.2
    score_bytes: float = 290.0
    clip_bytes: float = 330.0
    file_bytes: float = 64_000.0
    hash_gb: float = 1.0
    saliency_seconds: float = 1.67

    @classmethod
    def of(cls, results: dict[str, Any]) -> Rates:
        """The rates that a run of the suite tells; the others as they are stated."""
        found, sizes = cls(), results["sizes"]
        cases = {case["name"]: case for case in results["cases"]}

        def least(case: str, contender: str, quantity: str) -> float | None:
            for one in cases.get(case, {}).get("contenders", []):
                if one["name"] == contender and one[quantity]:
                    return float(min(one[quantity]))
            return None

        small, large = least("script", "package", "cpu_seconds"), least("join", "package", "cpu_seconds")
        more = sizes["rows"] - sizes["script_rows"]
        if small is not None and large is not None and more > 0:
            own = (large - small) * 1e6 / more - 3 * found.row_scorer
            found = replace(found, row=max(own, 0.0))
        kept, dropped = (least("refresh", f"package{end}", "cpu_seconds") for end in ("", ", drop"))
        if kept is not None and dropped is not None:
            found = replace(found, full_row=max((dropped - kept) * 1e6 / sizes["rows"], 0.0))
        start, clips = (
            least(*which, "cpu_seconds") for which in (("startup", "--help"), ("clips", "package"))
        )
        scores = 3 * sizes["clip_rows"]
        if start is not None and clips is not None:
            rows = sizes["clip_rows"] * (found.row + 3 * found.row_scorer) / 1e6
            found = replace(found, score=max((clips - start - rows) * 1e6 / scores, 0.0))
        start, clips = (
            least(*which, "peak_bytes") for which in (("startup", "--help"), ("clips", "package"))
        )
        if start is not None and clips is not None:
            own = (clips - start - sizes["clip_rows"] * found.clip_bytes) / scores
            found = replace(found, score_bytes=max(own, 0.0))
        return found


@dataclass(frozen=True)
class Amounts:
    """How much of everything.

    Attributes:
        rows: Rows of the table.
        shards: Its files.
        scorers: Scorers, each with a score for every clip.
        clips: Clips.
        row_bytes: Bytes of a row.
        added_bytes: Bytes that each scorer adds to it, at a hundred rows a clip.
        score_file_bytes: Bytes of a sidecar's row.
        clip_megabytes: Megabytes of a clip, an example.
        audit_bytes: Bytes of an audit for each file.
    """

    rows: float = 1e9
    shards: float = 1e4
    scorers: float = 10
    clips: float = 1e7
    row_bytes: float = 143.0
    added_bytes: float = 0.17
    score_file_bytes: float = 86.0
    clip_megabytes: float = 3.0
    audit_bytes: float = 480.0


@dataclass(frozen=True)
class Machines:
    """What it runs on; prices are examples, not offers.

    Attributes:
        cores: Cores of the one large machine.
        workers: Small machines.
        worker_cores: Cores of each.
        gb_second: Gigabytes that a machine reads or writes a second.
        core_hour: The price of a core for an hour.
        egress_gb: The price of a gigabyte that leaves a region.
    """

    cores: float = 16
    workers: float = 50
    worker_cores: float = 4
    gb_second: float = 0.5
    core_hour: float = 0.05
    egress_gb: float = 0.09


@dataclass(frozen=True)
class Layout:
    """A way to divide the work.

    Attributes:
        name: In the table.
        processes: How many there are, each with files of its own.
        cores: Of each.
        scores: The share of all scores that each process reads.
    """

    name: str
    processes: float
    cores: float
    scores: float


@dataclass(frozen=True)
class Cost:
    """What a layout takes.

    Attributes:
        evidence_hours: Until a process has its evidence.
        table_hours: Until it has written its files.
        hash_hours: For the hashes of its audit.
        memory_gb: The peak of each process.
        network_gb: What all of them read and write.
        network_hours: What each takes for its part of that, if it does nothing else meanwhile.
        money: For their cores.
        egress: For the network, if all of it left a region.
    """

    evidence_hours: float
    table_hours: float
    hash_hours: float
    memory_gb: float
    network_gb: float
    network_hours: float
    money: float
    egress: float

    @property
    def hours(self) -> float:
        """From start to end."""
        return self.evidence_hours + self.table_hours + self.hash_hours


def layouts(machines: Machines) -> list[Layout]:
    """The ways that the page compares."""
    own = 1 / machines.workers
    return [
        Layout("1 process", 1, machines.cores, 1.0),
        Layout(
            f"{machines.workers:g} workers, all scores each", machines.workers, machines.worker_cores, 1.0
        ),
        Layout(f"{machines.workers:g} workers, own scores", machines.workers, machines.worker_cores, own),
    ]


def cost(rates: Rates, amounts: Amounts, machines: Machines, layout: Layout, *, full: bool = False) -> Cost:
    """What a join of scores takes in one layout; `full` if columns cannot be copied as they are."""
    scores = amounts.clips * amounts.scorers * layout.scores
    rows, shards = amounts.rows / layout.processes, amounts.shards / layout.processes
    row = rates.row + rates.row_scorer * amounts.scorers + (rates.full_row if full else 0.0)
    table_seconds = rows * row / 1e6 + shards * rates.shard_ms / 1e3
    read = rows * amounts.row_bytes + scores * amounts.score_file_bytes
    written = rows * (amounts.row_bytes + amounts.added_bytes * amounts.scorers)
    used = min(layout.cores, USED_CORES)
    evidence = scores * rates.score / 1e6 / used / 3600
    table = (table_seconds / used + shards * rates.flush_ms / 1e3) / 3600
    hashes = (read + written) / 1e9 / rates.hash_gb / used / 3600
    clips = amounts.clips / layout.processes
    memory = scores * rates.score_bytes + clips * rates.clip_bytes + shards * rates.file_bytes
    network = (read + written) * layout.processes / 1e9
    transfer = network / layout.processes / machines.gb_second / 3600
    money = (evidence + table + hashes) * layout.processes * layout.cores * machines.core_hour
    return Cost(evidence, table, hashes, memory / 1e9, network, transfer, money, network * machines.egress_gb)


def saliency(rates: Rates, amounts: Amounts, machines: Machines) -> dict[str, float]:
    """What measuring every clip takes: core-hours, hours, money, gigabytes of video."""
    core_hours = amounts.clips * rates.saliency_seconds / 3600
    return {
        "core_hours": core_hours,
        "one_hours": core_hours / machines.cores,
        "worker_hours": core_hours / (machines.workers * machines.worker_cores),
        "money": core_hours * machines.core_hour,
        "network_gb": amounts.clips * amounts.clip_megabytes / 1e3,
    }


def unlooked(rates: Rates, amounts: Amounts) -> float:
    """Core-hours that shards would take if each were joined with all evidence."""
    each = rates.unlooked_ms + rates.unlooked_scorer_ms * amounts.scorers
    return amounts.shards * each * amounts.clips / 1e6 / 1e3 / 3600


def text(rates: Rates, amounts: Amounts, machines: Machines) -> str:
    """The page's tables."""
    own = layouts(machines)
    costs = [cost(rates, amounts, machines, one) for one in own]
    full = [cost(rates, amounts, machines, one, full=True) for one in own]
    measured = saliency(rates, amounts, machines)
    rows = [
        ["evidence read and joined with clips", *(_hours(one.evidence_hours) for one in costs)],
        ["shards joined and written", *(_hours(one.table_hours) for one in costs)],
        ["hashes of an audit", *(_hours(one.hash_hours) for one in costs)],
        ["**from start to end**", *(f"**{_hours(one.hours)}**" for one in costs)],
        ["the same with `drop`, or to one file", *(_hours(one.hours) for one in full)],
        ["peak memory of a process", *(f"{one.memory_gb:,.1f} GB" for one in costs)],
        ["read and written by all", *(f"{one.network_gb:,.0f} GB" for one in costs)],
        [
            f"that alone, at {machines.gb_second:g} GB a second",
            *(_hours(one.network_hours) for one in costs),
        ],
        ["cores, by the hour", *(f"${one.money:,.2f}" for one in costs)],
        ["egress, if all of it left a region", *(f"${one.egress:,.0f}" for one in costs)],
        [
            "audits",
            *(f"{amounts.shards / one.processes * amounts.audit_bytes / 1e6:,.1f} MB each" for one in own),
        ],
    ]
    others = [
        ["processor time", f"{measured['core_hours']:,.0f} core-hours"],
        [f"on {machines.cores:g} cores", _hours(measured["one_hours"])],
        [
            f"on {machines.workers:g} workers of {machines.worker_cores:g} cores",
            _hours(measured["worker_hours"]),
        ],
        ["cores, by the hour", f"${measured['money']:,.0f}"],
        ["video to be read", f"{measured['network_gb']:,.0f} GB"],
    ]
    return "\n\n".join(
        [
            f"{amounts.rows:,.0f} rows in {amounts.shards:,.0f} shards, {amounts.scorers:g} scorers x "
            f"{amounts.clips:,.0f} clips:",
            _table(["", *(one.name for one in own)], rows),
            f"Saliency of {amounts.clips:,.0f} clips:",
            _table(["", ""], others),
            f"Each shard joined with all evidence: {unlooked(rates, amounts):,.1f} core-hours more.",
        ]
    )


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.1f} min"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, help="a results.json of the suite, for its rates")
    parts: tuple[Any, ...] = (Amounts(), Machines(), Rates())
    for part in parts:
        for one in fields(part):
            value = getattr(part, one.name)
            flag = f"--{one.name.replace('_', '-')}"
            parser.add_argument(flag, type=float, metavar="X", help=f"{value:,g}")
    options = parser.parse_args(arguments)
    if options.results is not None:
        parts = (*parts[:2], Rates.of(json.loads(options.results.read_text(encoding="utf-8"))))
    given = {name: value for name, value in vars(options).items() if value is not None}
    amounts, machines, rates = (
        replace(part, **{one.name: given[one.name] for one in fields(part) if one.name in given})
        for part in parts
    )
    print(text(rates, amounts, machines))


if __name__ == "__main__":
    main()
