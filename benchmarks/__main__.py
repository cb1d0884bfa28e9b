"""`python -m benchmarks`: runs the suite; see `README.md` beside this file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.cases import ASKED_FOR, CASES, Sizes
from benchmarks.suite import Options, run_case

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Runs the cases that were asked for; 0 if all ran and all contenders agree, met targets or not."""
    arguments = _parser().parse_args()
    names = _names(arguments.only)
    sizes = Sizes().scaled(arguments.scale)
    given = {one.name: getattr(arguments, one.name) for one in fields(Sizes)}
    sizes = replace(sizes, **{name: value for name, value in given.items() if value is not None})
    _use_cores(arguments.cores)
    options = Options(
        sizes=sizes,
        data=arguments.data.resolve(),
        seed=arguments.seed,
        repeats=arguments.repeats,
        timeout=arguments.timeout,
        memory=int(arguments.memory_gb * 1e9) if arguments.memory_gb else None,
        without=tuple(arguments.without.split(",")),
        warm_up=not arguments.no_warm_up,
    )
    arguments.results.mkdir(parents=True, exist_ok=True)
    well, cases = True, []
    for name in names:
        result = run_case(name, options)
        well &= result.well
        cases.append(report.summary(result))
        print(report.table(cases[-1]), flush=True)
        # After every case, so that a run that is interrupted leaves what it has.
        content = report.document(options, cases)
        (arguments.results / "results.json").write_text(
            json.dumps(content, indent=1) + "\n", encoding="utf-8"
        )
        (arguments.results / "results.svg").write_text(report.picture(content), encoding="utf-8")
    _print_end(cases, names, sizes)
    print(f"written: {arguments.results / 'results.json'}, {arguments.results / 'results.svg'}")
    return 0 if well else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Runs the benchmark suite.")
    parser.add_argument("--only", help=f"cases, with commas: {','.join(CASES)}, or all")
    parser.add_argument("--without", default="", help="contenders to leave out, with commas: pandas,pyarrow")
    parser.add_argument("--scale", type=float, default=1.0, help="all sizes, times this (1.0)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each contender is run (3)")
    parser.add_argument("--no-warm-up", action="store_true", help="do not run before what is measured")
    parser.add_argument("--seed", type=int, default=1, help="what the corpora are made from (1)")
    parser.add_argument("--cores", type=int, default=2, help="how many processor cores to use (2)")
    parser.add_argument(
        "--timeout", type=float, default=1800.0, help="seconds after which a contender is ended"
    )
    parser.add_argument(
        "--memory-gb", type=float, help="memory above which one is ended (80%% of what is free)"
    )
    parser.add_argument("--data", type=Path, default=HERE / "data", help="where corpora are kept")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the results go")
    for one in fields(Sizes):
        flag = f"--{one.name.replace('_', '-')}"
        parser.add_argument(flag, type=int, metavar="N", help=f"{getattr(Sizes(), one.name):,} at full scale")
    return parser


def _names(only: str | None) -> list[str]:
    if only is None:
        return [name for name in CASES if name not in ASKED_FOR]
    names = list(CASES) if only == "all" else only.split(",")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        sys.exit(
            f"--only: no case {', '.join(map(repr, unknown))}; expected some of {','.join(CASES)}, or all"
        )
    return names


def _use_cores(wanted: int) -> None:
    """Keeps to some cores; what is started from here inherits them, and the engines make as many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:wanted])


def _print_end(cases: list[dict[str, Any]], names: list[str], sizes: Sizes) -> None:
    targets = [(case["name"], target) for case in cases for target in case["targets"]]
    if targets:
        met = sum(target["verdict"] == "ok" for _, target in targets)
        print(f"{met} of {len(targets)} targets met")
        for name, target in targets:
            print(f"  {name:<9} {report.verdict(target)}")
    for case in cases:
        if case["skipped"]:
            print(f"not run: {case['name']}: {case['skipped']}")
        for one in case["contenders"]:
            if one["problem"] or not one["agrees"]:
                print(f"look at: {case['name']}, {one['name']}: {one['problem'] or one['rows']}")
    for name in ASKED_FOR:
        if name not in names:
            print(f"not run: {name}: only if asked for, with --only {name}")
    if sizes != Sizes():
        print("the sizes are not the full ones, for which the targets are meant")
    if len(os.sched_getaffinity(0)) != 2:
        print(f"on {len(os.sched_getaffinity(0))} cores; the targets are meant for 2")


if __name__ == "__main__":
    sys.exit(main())
