"""The cases: their corpora, their contenders and their targets."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks import corpora
from benchmarks.targets import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.corpora import Corpus


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the targets are meant for the defaults.

    Attributes:
        rows: Rows of the table of frames.
        memory_rows: Rows of the table that shows how memory grows.
        clips: Clips in each sidecar and label file.
        variant_rows: Rows of the tables that are shuffled, or have other keys.
        clip_rows: Rows of the table with one row a clip.
        wide_rows: Rows of the table with 300 columns.
        jsonl_rows: Rows of the JSONL table.
        script_rows: Rows of the table that a row-at-a-time script survives.
        payloads: Wrapper payloads in one file.
        files: Files of one payload.
        tables: Tables of the batch.
        raw_clips: Clips to measure the saliency of.
        shards: Files of the table that is in several.
        tasks: Tasks that do nothing.
    """

    rows: int = 10_000_000
    memory_rows: int = 40_000_000
    clips: int = 100_000
    variant_rows: int = 2_500_000
    clip_rows: int = 500_000
    wide_rows: int = 250_000
    jsonl_rows: int = 500_000
    script_rows: int = 1_000_000
    payloads: int = 1_000_000
    files: int = 100_000
    tables: int = 200
    raw_clips: int = 200
    shards: int = 200
    tasks: int = 2_000

    def scaled(self, scale: float) -> Sizes:
        """All of it, more or less."""
        smallest = {"tables": 2, "raw_clips": 4, "shards": 2, "tasks": 20}
        return Sizes(
            **{
                one.name: max(round(getattr(self, one.name) * scale), smallest.get(one.name, 200))
                for one in fields(self)
            }
        )


@dataclass(frozen=True)
class Contender:
    """A program of a case.

    Attributes:
        name: In the report.
        command: What to run.
        output: What it writes: a path, or a pattern for several.
        makes: `copy`, the input as it is; `joined`, the input with all new columns, or all scores; or nothing
            that could be compared.
        given: The input table, a path or a pattern.
        once: Whether it is too slow to be repeated.
    """

    name: str
    command: list[str]
    output: Path | None = None
    makes: Literal["copy", "joined"] | None = None
    given: Path | None = None
    once: bool = False


@dataclass(frozen=True)
class Case:
    """Contenders that do the same work.

    Attributes:
        name: As in `--only`.
        title: What the work is.
        contenders: In the order of the first repeat; ratios are to the first.
        targets: What the package has to reach here.
        warm_up: Whether each contender is run once before it counts: for those that take less than a second.
        repeats: How many times as often as the others it is repeated.
    """

    name: str
    title: str
    contenders: list[Contender]
    targets: list[Target] = field(default_factory=list)
    warm_up: bool = False
    repeats: int = 1


@dataclass(frozen=True)
class Setting:
    """Where a case runs. It gathers the corpora that the case asks for.

    Attributes:
        sizes: How large they are.
        data: Where they are kept.
        seed: What they are made from.
        work: The folder for outputs.
        corpora: Those that were asked for.
    """

    sizes: Sizes
    data: Path
    seed: int
    work: Path
    corpora: list[Corpus] = field(default_factory=list)

    def path(self, corpus: Corpus) -> str:
        """A corpus' path; it will be there when the case runs."""
        if corpus not in self.corpora:
            self.corpora.append(corpus)
        return str(corpus.path(self.data, self.seed))


@dataclass(frozen=True)
class _Table:
    """A join of scores onto one table, for any contender."""

    setting: Setting
    features: str
    scores: dict[str, str]
    key: str = "text"
    suffix: str = ".parquet"

    @classmethod
    def of(cls, setting: Setting, table: Corpus, clips: int) -> _Table:
        key = table.size["key"]
        scores = {scorer: setting.path(corpora.sidecar(scorer, clips, key=key)) for scorer in corpora.SCORERS}
        return cls(setting, setting.path(table), scores, key, table.suffix)

    def program(
        self, name: str, program: str, *, makes: Literal["copy", "joined"], once: bool = False
    ) -> Contender:
        """One of the small programs."""
        out = self.setting.work / f"out{self.suffix}"
        job = {
            "out": str(out),
            "features": self.features,
            "key": corpora.KEY_COLUMNS[self.key],
            "basename": self.key == "path",
            "score_key": corpora.SCORE_KEYS[self.key],
            "scores": self.scores,
        }
        return Contender(name, _program(program, job), out, makes, Path(self.features), once=once)

    def package(self, name: str = "package", *, audit: bool = False) -> Contender:
        """This package's command line."""
        out = self.setting.work / f"out{self.suffix}"
        command = [*_PACKAGE, "second-opinion", "table", "--features", self.features, "--out", str(out)]
        for scorer, path in self.scores.items():
            command += ["--scores", f"{scorer}={path}"]
        if audit:
            command += ["--audit-json", str(self.setting.work / "audit.json")]
        return Contender(name, command, out, "joined", Path(self.features))

    def copy(self) -> Contender:
        """The floor."""
        return self.program("copy", "polars-copy", makes="copy")

    def usual(self) -> list[Contender]:
        """The floor, the package, and those that do not need the whole table in memory."""
        return [
            self.copy(),
            self.package(),
            self.program("duckdb", "duckdb-scores", makes="joined"),
            self.program("polars by hand", "polars-scores", makes="joined"),
        ]


_PACKAGE = [sys.executable, "-m", "polars_materialize"]


def _program(name: str, job: dict[str, Any]) -> list[str]:
    return [sys.executable, "-m", "benchmarks.contenders", name, json.dumps(job)]


def _join(setting: Setting) -> Case:
    sizes = setting.sizes
    table = _Table.of(setting, corpora.table(sizes.rows), sizes.clips)
    copy, package, *others = table.usual()
    contenders = [
        copy,
        table.program("copy + sha256sum", "polars-copy-hashed", makes="copy"),
        package,
        table.package("package, audit", audit=True),
        *others,
        table.program("pyarrow", "pyarrow-scores", makes="joined"),
        table.program("pandas", "pandas-scores", makes="joined"),
    ]
    targets = [
        Target("without audit: at most 0.75 x DuckDB", "package", 0.75, "duckdb"),
        Target("without audit: at most 1.2 x the copy", "package", 1.2, "copy"),
        Target("with audit: at most 1.25 x (copy + sha256sum)", "package, audit", 1.25, "copy + sha256sum"),
        Target("peak memory: at most 3 x the copy's", "package", 3.0, "copy", "peak_bytes"),
        Target("peak memory with audit: at most 3 x the copy's", "package, audit", 3.0, "copy", "peak_bytes"),
    ]
    title = f"{sizes.rows:,} rows x 22 columns Parquet, 3 sidecars x {sizes.clips:,} clips"
    return Case("join", title, contenders, targets)


def _variant(name: str, what: str, table: Callable[[Sizes], Corpus]) -> Callable[[Setting], Case]:
    """A join that has no target of its own."""

    def build(setting: Setting) -> Case:
        corpus = table(setting.sizes)
        one_each = corpus.size["high"] == 1
        clips = corpus.size["rows"] if one_each else setting.sizes.clips
        title = f"{corpus.size['rows']:,} rows x {corpus.size['features'] + 2} columns Parquet, {what}, "
        title += f"3 sidecars x {clips:,} clips"
        return Case(name, title, _Table.of(setting, corpus, clips).usual())

    return build


def _jsonl(setting: Setting) -> Case:
    sizes = setting.sizes
    table = _Table.of(setting, corpora.table(sizes.jsonl_rows, suffix=".jsonl"), sizes.clips)
    contenders = [*table.usual(), table.program("script", "script-jsonl", makes="joined", once=True)]
    targets = [Target("at most 1.5 x scan_ndjson to sink_ndjson", "package", 1.5, "copy")]
    return Case("jsonl", f"JSONL to JSONL, {sizes.jsonl_rows:,} rows x 22 columns", contenders, targets)


def _payload_programs(setting: Setting, source: str, programs: dict[str, str]) -> list[Contender]:
    out = setting.work / "out.parquet"
    job = {"payloads": source, "out": str(out)}
    contenders = [
        Contender(name, _program(program, job), out, "joined") for name, program in programs.items()
    ]
    return [replace(one, output=None, makes=None) if "only" in one.name else one for one in contenders]


def _payloads(setting: Setting) -> Case:
    count = setting.sizes.payloads
    programs = {
        "json.loads only": "json-loads",
        "package": "package-payloads",
        "script": "script-payloads",
        "duckdb": "duckdb-payloads",
        "polars by hand": "polars-payloads",
    }
    contenders = _payload_programs(setting, setting.path(corpora.payloads(count)), programs)
    targets = [
        Target("at least 10 x json.loads in a loop", "package", 10.0, "json.loads only", at_least=True),
    ]
    return Case("payloads", f"{count:,} wrapper payloads of 10 frames in one JSONL", contenders, targets)


def _files(setting: Setting) -> Case:
    count = setting.sizes.files
    programs = {
        "threads, json.loads only": "json-loads-pool",
        "package": "package-payloads",
        "threads, json.loads": "script-files",
        "duckdb": "duckdb-payloads",
        "polars by hand": "polars-payloads",
    }
    contenders = _payload_programs(setting, setting.path(corpora.files(count)), programs)
    contenders = [replace(one, once=one.name == "duckdb") for one in contenders]
    targets = [
        Target("at most 1.0 x a thread pool with json.loads", "package", 1.0, "threads, json.loads only"),
    ]
    return Case("files", f"{count:,} files of one wrapper payload", contenders, targets)


def _labels(setting: Setting) -> Case:
    sizes = setting.sizes
    features = setting.path(corpora.table(sizes.rows))
    labels = setting.path(corpora.labels(sizes.clips))
    out, given = setting.work / "out.parquet", Path(features)
    job = {"out": str(out), "features": features, "labels": labels, "regex": corpora.LABEL_REGEX}
    command = [
        *_PACKAGE,
        "mos-labels",
        "table",
        "--features",
        features,
        "--labels",
        labels,
        "--out",
        str(out),
    ]
    command += ["--feature-key-regex", corpora.LABEL_REGEX]
    contenders = [
        Contender("copy", _program("polars-copy", job), out, "copy", given),
        Contender("package", command, out, "joined", given),
        Contender("duckdb", _program("duckdb-labels", job), out, "joined", given),
        Contender("polars by hand", _program("polars-labels", job), out, "joined", given),
    ]
    targets = [Target("at most 1.2 x the copy", "package", 1.2, "copy")]
    title = f"MOS labels with a regex, {sizes.rows:,} rows x 22 columns Parquet, {sizes.clips:,} labels"
    return Case("labels", title, contenders, targets)


def _script(setting: Setting) -> Case:
    sizes = setting.sizes
    table = _Table.of(setting, corpora.table(sizes.script_rows), sizes.clips)
    contenders = [
        table.copy(),
        table.package(),
        table.program("script", "script-parquet", makes="joined"),
        table.program("pandas iterrows", "pandas-iterrows", makes="joined"),
    ]
    targets = [
        Target(f"at least 25 x {text}", "package", 25.0, over, at_least=True)
        for over, text in (
            ("pandas iterrows", "pandas, row by row"),
            ("script", "plain Python, row by row"),
        )
    ]
    title = f"a row-at-a-time script, {sizes.script_rows:,} rows x 22 columns Parquet"
    return Case("script", title, contenders, targets)


def _batch(setting: Setting) -> Case:
    count, rows = setting.sizes.tables, 1_000
    folder = setting.path(corpora.tables(count, rows))
    out = setting.work / "out"
    names = corpora.table_names(count)
    pattern, given = out / "*.parquet", Path(folder) / "*.parquet"
    job = {"tables": folder, "names": names, "scores": dict.fromkeys(corpora.SCORERS, ""), "out": str(out)}

    def package(own: list[str]) -> list[str]:
        manifest = setting.work / f"manifest-{len(own)}.json"
        entries = [
            {
                "id": name,
                "features": f"{name}.parquet",
                "scores": [f"{scorer}={name}.{scorer}.jsonl" for scorer in corpora.SCORERS],
                "out": str(out / f"{name}.parquet"),
                "audit_json": str(out / f"{name}.audit.json"),
            }
            for name in own
        ]
        manifest.write_text(json.dumps({"tables": entries}), encoding="utf-8")
        reports = ["--report-json", str(out / "report.json"), "--report-md", str(out / "report.md")]
        options = ["--manifest", str(manifest), "--base-dir", folder, *reports]
        return [*_PACKAGE, "second-opinion", "batch", *options]

    by_hand = Contender("polars by hand", _program("polars-tables", job), pattern, "joined", given)
    contenders = [
        Contender("package, 1 table", package(names[:1])),
        Contender("package", package(names), pattern, "joined", given),
        by_hand,
    ]
    text = "at most 0.02 s a table beyond start-up (a batch of one table)"
    targets = [Target(text, "package", 0.02, minus="package, 1 table", each=count - 1)]
    title = f"a batch of {count} tables of {rows:,} rows, with audits and reports"
    return Case("batch", title, contenders, targets, warm_up=True)


def _workers(setting: Setting) -> Case:
    count = setting.sizes.raw_clips
    folder = Path(setting.path(corpora.raw_clips(count)))
    table, out = folder / "table.parquet", setting.work / "out.parquet"

    def command(name: str, to: Path) -> list[str]:
        paths = ["--input", str(folder / f"{name}.parquet"), "--output", str(to)]
        return [*_PACKAGE, "saliency", "table", *paths, "--root", str(folder)]

    one_thread = ["env", "POLARS_MAX_THREADS=1"]
    halves = (
        shlex.join([*one_thread, *command(f"half_{half}", setting.work / f"half_{half}.parquet")])
        for half in range(2)
    )
    contenders = [
        Contender("package", command("table", out), out, "joined", table),
        Contender("one thread", [*one_thread, *command("table", out)], out, "joined", table),
        Contender("--jobs 2", [*command("table", out), "--jobs", "2"], out, "joined", table),
        # What the machine has to give: nothing is shared, and nothing is put together.
        Contender("two of one thread, half the clips each", ["sh", "-c", f"{' & '.join(halves)} & wait"]),
    ]
    text = "2 processes: at least 1.7 x one with one thread"
    targets = [Target(text, "--jobs 2", 1.7, "one thread", at_least=True)]
    title = f"the spectral residual of {count} raw clips of 960x540, 8 frames each"
    return Case("workers", title, contenders, targets)


def _tasks(setting: Setting) -> Case:
    count = setting.sizes.tasks
    contenders, targets = [], []
    for name, program, limit in (("jobs", "tasks-jobs", 0.001), ("dask", "tasks-dask", 0.01)):
        few, many = f"{name}, 2 tasks", f"{name}, {count:,} tasks"
        contenders += [
            Contender(few, _program(program, {"tasks": 2})),
            Contender(many, _program(program, {"tasks": count})),
        ]
        text = f"{name}: at most {limit:g} s a task beyond the start"
        targets.append(Target(text, many, limit, minus=few, each=count - 2))
    title = f"{count:,} tasks that do nothing, handed to 2 processes"
    return Case("tasks", title, contenders, targets, warm_up=True)


def _shards(setting: Setting) -> Case:
    sizes = setting.sizes
    table = _Table.of(setting, corpora.table(sizes.variant_rows), sizes.clips)
    one_file = table.package("package, 1 file")
    folder = setting.path(corpora.shards(sizes.variant_rows, sizes.shards))
    # All are compared with the one file, so what is read of the shards has to be its rows, in its order.
    to_one = replace(table, features=folder).package("package, shards to 1 file")
    outputs = setting.work / "out"
    template = [
        str(outputs / "{stem}.parquet") if part == str(to_one.output) else part for part in to_one.command
    ]
    contenders = [
        one_file,
        replace(to_one, given=one_file.given),
        Contender("package, shards to shards", template, outputs / "*.parquet", "joined", one_file.given),
    ]
    title = f"{sizes.variant_rows:,} rows x 22 columns Parquet in {sizes.shards} shards, or in 1 file"
    return Case("shards", title, contenders)


def _refresh(setting: Setting) -> Case:
    """Clips that were measured before: to measure them takes as long in either, and would hide the rest."""
    sizes = setting.sizes
    table = _Table.of(setting, corpora.measured(sizes.rows), sizes.clips)
    labels, given = setting.path(corpora.labels(sizes.clips)), Path(table.features)
    out, *between = (setting.work / f"{name}.parquet" for name in ("out", "labelled", "scored"))
    scores = [part for scorer, path in table.scores.items() for part in ("--scores", f"{scorer}={path}")]
    regex = ["--feature-key-regex", corpora.LABEL_REGEX]

    def in_turn(*more: str) -> list[str]:
        labelled, scored = map(str, between)
        paths = ["--features", table.features, "--labels", labels, "--out", labelled]
        first = [*_PACKAGE, "mos-labels", "table", *paths, *regex]
        paths = ["--features", labelled, *scores, "--out", scored]
        second = [*_PACKAGE, "second-opinion", "table", *paths, *more]
        third = [*_PACKAGE, "saliency", "table", "--input", scored, "--output", str(out)]
        runs = (first, second, third, ["rm", labelled, scored])
        return ["sh", "-c", " && ".join(map(shlex.join, runs))]

    def at_once(options: dict[str, str]) -> list[str]:
        paths = ["--features", table.features, "--labels", labels, *scores, "--out", str(out)]
        own = ["--label-options", json.dumps({"feature_key_regex": corpora.LABEL_REGEX})]
        own += ["--score-options", json.dumps(options), "--saliency-options", "{}"]
        return [*_PACKAGE, "refresh", "table", *paths, *own]

    drop = {"missing_policy": "drop"}
    contenders = [
        Contender("three runs", in_turn(), out, "joined", given),
        Contender("package", at_once({}), out, "joined", given),
        # Rows are missing from what these write, so they are compared with each other only.
        Contender("three runs, drop", in_turn("--missing-policy", "drop"), out, "joined"),
        Contender("package, drop", at_once(drop), out, "joined"),
    ]
    text = "at most 0.5 x the three runs one after another"
    targets = [
        Target(text, "package", 0.5, "three runs"),
        Target(f"with drop: {text}", "package, drop", 0.5, "three runs, drop"),
    ]
    title = (
        f"labels, 3 sidecars and saliency that is there in one pass, {sizes.rows:,} rows x 25 columns Parquet"
    )
    return Case("refresh", title, contenders, targets)


def _startup(setting: Setting) -> Case:
    del setting  # needs nothing of it
    script = Path(sys.executable).with_name("polars-materialize")
    help_command = [str(script), "--help"] if script.exists() else [*_PACKAGE, "--help"]
    contenders = [
        Contender("import click", [sys.executable, "-c", "import click"]),
        Contender("--help", help_command),
    ]
    text = "at most 1.3 x `python -c 'import click'` plus 50 ms"
    targets = [Target(text, "--help", 1.3, "import click", plus=0.05)]
    return Case("startup", "`polars-materialize --help`", contenders, targets, warm_up=True, repeats=5)


def _memory(setting: Setting) -> Case:
    sizes = setting.sizes
    contenders: list[Contender] = []
    for size, rows in (("small", sizes.rows), ("large", sizes.memory_rows)):
        table = _Table.of(setting, corpora.table(rows), sizes.clips)
        own = (table.copy(), table.package(), table.package("package, audit", audit=True))
        contenders += [replace(contender, name=f"{contender.name}, {size}") for contender in own]
    targets = []
    for name in ("package", "package, audit"):
        small, large = f"{name}, small", f"{name}, large"
        targets += [
            Target(f"{name}: peak memory grows by at most 1.2 x", large, 1.2, small, "peak_bytes"),
            Target(f"{large}: peak memory at most 3 x the copy's", large, 3.0, "copy, large", "peak_bytes"),
        ]
    title = f"from {sizes.rows:,} to {sizes.memory_rows:,} rows x 22 columns Parquet"
    return Case("memory", title, contenders, targets)


CASES: dict[str, Callable[[Setting], Case]] = {
    "join": _join,
    "shuffled": _variant("shuffled", "shuffled", lambda s: corpora.table(s.variant_rows, order="shuffled")),
    "paths": _variant("paths", "path keys", lambda s: corpora.table(s.variant_rows, key="path")),
    "integers": _variant("integers", "integer keys", lambda s: corpora.table(s.variant_rows, key="integer")),
    "clips": _variant("clips", "one row a clip", lambda s: corpora.table(s.clip_rows, low=1, high=1)),
    "wide": _variant("wide", "wide", lambda s: corpora.table(s.wide_rows, features=298)),
    "jsonl": _jsonl,
    "payloads": _payloads,
    "files": _files,
    "labels": _labels,
    "script": _script,
    "batch": _batch,
    "workers": _workers,
    "tasks": _tasks,
    "shards": _shards,
    "refresh": _refresh,
    "startup": _startup,
    "memory": _memory,
}

ASKED_FOR = ("memory",)
"""Cases that run only if they are named: what they write takes tens of gigabytes."""
