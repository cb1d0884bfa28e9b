"""Runs cases: makes their corpora, measures their contenders in turn, checks what they wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import measure
from benchmarks.cases import CASES, Case, Contender, Setting, Sizes
from benchmarks.check import Checker, compare

if TYPE_CHECKING:
    from benchmarks.check import Digest
    from benchmarks.corpora import Corpus
    from benchmarks.measure import Measurement

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Options:
    """How to run.

    Attributes:
        sizes: How large the corpora are.
        data: Where they are kept.
        seed: What they are made from.
        repeats: How often each contender is run.
        timeout: Seconds after which one is ended.
        without: Contenders to leave out.
        memory: Bytes of memory above which one is ended; without, four fifths of what is free when it starts.
        warm_up: Whether cases that ask for it run each contender once before it is measured.
    """

    sizes: Sizes
    data: Path
    seed: int
    repeats: int
    timeout: float
    memory: int | None
    without: tuple[str, ...] = ()
    warm_up: bool = True


@dataclass
class Result:
    """What came of a case.

    Attributes:
        case: The case.
        load: The system's load average before it.
        repeats: What was measured, by contender.
        rows: What is to be said of each contender's rows.
        wrong: The contenders whose rows are not the same.
        problems: Why contenders did not end well.
        failed: Those that ended badly by themselves, not at a limit of the suite.
        skipped: Why the case was not run, if so.
    """

    case: Case
    load: float
    repeats: list[dict[str, Measurement]] = field(default_factory=list)
    rows: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    skipped: str | None = None

    @property
    def well(self) -> bool:
        """Whether the case ran, and all who finished agreed."""
        return not (self.wrong or self.failed or self.skipped)


def run_case(name: str, options: Options) -> Result:
    """Runs one case."""
    options.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=options.data) as folder:
        setting = Setting(options.sizes, options.data, options.seed, Path(folder))
        case = CASES[name](setting)
        result = Result(case, os.getloadavg()[0])
        result.skipped = _lacking_disk(setting)
        if result.skipped:
            return result
        _make(setting)
        inputs = [corpus.path(options.data, options.seed) for corpus in setting.corpora]
        with Checker(_environment(), ROOT) as checker:
            _Runner(case, options, result, setting.work, inputs, checker).run()
        return result


def _lacking_disk(setting: Setting) -> str | None:
    new = [corpus for corpus in setting.corpora if not corpus.path(setting.data, setting.seed).exists()]
    largest = max((corpus.bytes for corpus in setting.corpora), default=0)
    needed, free = (
        sum(corpus.bytes for corpus in new) + 3 * largest // 2,
        shutil.disk_usage(setting.data).free,
    )
    if needed <= free:
        return None
    return f"needs {needed / 1e9:.1f} GB of disk in {setting.data}, has {free / 1e9:.1f} GB"


def _make(setting: Setting) -> None:
    """Makes corpora in a process of their own, which takes its memory with it."""

    def job(corpus: Corpus) -> list[object]:
        return [corpus.kind, str(corpus.path(setting.data, setting.seed)), setting.seed, corpus.size]

    missing = [c for c in setting.corpora if not c.path(setting.data, setting.seed).exists()]
    for corpus in missing:
        _tell(f"making {corpus.path(setting.data, setting.seed).name}")
    if missing:
        command = [sys.executable, "-m", "benchmarks.generators"]
        text = json.dumps([job(corpus) for corpus in missing])
        subprocess.run(command, input=text, text=True, check=True, env=_environment(), cwd=ROOT)
        os.sync()  # else the first contender shares the disk with what was just made


def _environment() -> dict[str, str]:
    """This checkout before any other that is installed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Runner:
    case: Case
    options: Options
    result: Result
    work: Path
    inputs: list[Path]
    checker: Checker
    inputs_digests: dict[Path, Digest] = field(default_factory=dict)
    joined_digests: dict[Path | None, Digest] = field(default_factory=dict)

    def run(self) -> None:
        """Runs every contender once a repeat, so that what else the machine does hits all alike."""
        contenders = self.case.contenders
        for contender in contenders:
            if contender.name in self.options.without:
                self.result.problems[contender.name] = "left out, as was asked"
            elif self.case.warm_up and self.options.warm_up:
                self._measure(contender)
        for repeat in range(self.options.repeats * self.case.repeats):
            self.result.repeats.append({})
            first = repeat % len(contenders)
            for contender in contenders[first:] + contenders[:first]:
                if contender.name in self.result.problems or (contender.once and repeat):
                    continue
                found = self._measure(contender)
                self.result.repeats[-1][contender.name] = found
                note = found.problem or f"{found.seconds:.2f} s, {found.peak_bytes / 1e6:,.0f} MB"
                _tell(f"{self.case.name}, repeat {repeat + 1}: {contender.name}: {note}")
                if found.problem:
                    self.result.problems[contender.name] = found.problem
                    if not found.stopped:
                        self.result.failed.append(contender.name)
                elif repeat == 0:
                    self._check(contender)
                self._clear(contender)

    def _measure(self, contender: Contender) -> Measurement:
        self._clear(contender)
        measure.warm(self.inputs)
        return measure.run(
            contender.command,
            env=_environment(),
            cwd=ROOT,
            timeout=self.options.timeout,
            memory=self.options.memory or measure.available_memory() * 4 // 5,
        )

    def _clear(self, contender: Contender) -> None:
        """Removes what was written: nobody else shall wait for it to reach the disk."""
        if contender.output is None:
            return
        if contender.output.parent != self.work:
            shutil.rmtree(contender.output.parent, ignore_errors=True)
        contender.output.unlink(missing_ok=True)

    def _check(self, contender: Contender) -> None:
        """Compares what the first repeat wrote; the contenders have no reason to write other rows later."""
        if contender.output is None or contender.makes is None:
            self.result.rows[contender.name] = "-"
            return
        given = None
        if contender.given is not None:
            if contender.given not in self.inputs_digests:
                self.inputs_digests[contender.given] = self.checker.digest(contender.given)
            given = self.inputs_digests[contender.given]
        own = self.checker.digest(contender.output, list(given.columns) if given else [])
        joined = self.joined_digests.get(contender.given) if contender.makes == "joined" else None
        same, text = compare(own, given=given, joined=joined, is_copy=contender.makes == "copy")
        self.result.rows[contender.name] = text
        if not same:
            self.result.wrong.append(contender.name)
        elif contender.makes == "joined":
            self.joined_digests.setdefault(contender.given, own)
