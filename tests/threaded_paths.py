"""Every path of the package that works in threads, each as the first thing that a fresh process does.

What several threads make first at once breaks rarely. Here Python changes threads after every microsecond.
By hand, 200 starts of each path, or of some: `python tests/threaded_paths.py FOLDER 200 [PATH]...`
"""

from __future__ import annotations

import contextlib
import http.server
import json
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

SWITCH_S = 1e-6
CLIPS = 6
BIG = 20_000
"""Rows of JSON lines that are a MB: small files are read by one thread."""


def fill(folder):
    """Writes what all paths read."""
    import polars as pl  # noqa: PLC0415 - processes that are measured import it themselves

    names = pl.select(clip_id="c" + pl.int_range(BIG).cast(pl.String), name=pl.lit("x" * 60))
    for scorer in ("dover", "qalign", "musiq"):
        rows = names.select("clip_id", "name", score=pl.int_range(pl.len()) / 7, competitor=pl.lit(scorer))
        rows.write_ndjson(folder / f"{scorer}.jsonl")
        rows.head(CLIPS).write_ndjson(folder / f"small-{scorer}.jsonl")
    features = pl.select(clip_id="c" + pl.int_range(CLIPS).cast(pl.String), vmaf=pl.int_range(CLIPS) / 3)
    features.write_ndjson(folder / "features.jsonl")
    features.write_parquet(folder / "features.parquet")
    for n in ("", "2", "3"):
        features.with_columns(mos=pl.lit(3.5)).write_csv(folder / f"labels{n}.csv")
    pl.concat([names] * 6).with_columns(vmaf=pl.int_range(pl.len()) / 3).write_ndjson(folder / "chunks.jsonl")
    for kind in ("jsonl", "csv", "parquet", "json"):
        (folder / kind).mkdir()
        for n in range(4):
            rows = features.with_columns(n=n)
            if kind == "json":
                (folder / kind / f"{n}.json").write_text(json.dumps({"rows": rows.rows(named=True)}))
            else:
                getattr(rows, {"jsonl": "write_ndjson"}.get(kind, f"write_{kind}"))(
                    folder / kind / f"{n}.{kind}"
                )
    scores = [f"{scorer}=small-{scorer}.jsonl" for scorer in ("dover", "qalign")]
    suffixes = ["parquet", "csv", "jsonl", "json", "csv.gz", "jsonl.zst", "arrow"]
    tables = [
        {
            "id": suffix,
            "features": f"features.{('parquet', 'jsonl')[n % 2]}",
            "scores": scores,
            "out": f"out/t.{suffix}",
        }
        for n, suffix in enumerate(suffixes)
    ]
    (folder / "batch.json").write_text(json.dumps({"tables": tables}))
    (folder / "clips").mkdir()
    for n in range(CLIPS):
        picture = bytes((x * n) % 251 for x in range(64 * 48 * 3 // 2))
        (folder / "clips" / f"c{n}.yuv").write_bytes(picture * 2)
    clips = pl.select(src="c" + pl.int_range(CLIPS).cast(pl.String) + ".yuv")
    clips.with_columns(width=64, height=48).write_csv(folder / "clips.csv")
    (folder / "saliency.json").write_text(
        json.dumps(
            {
                "tables": [
                    {"id": f"{n}", "input": "clips.csv", "root": "clips", "output": f"out/s{n}.csv"}
                    for n in range(2)
                ]
            }
        )
    )


def command(*words):
    """Runs the command line."""
    from polars_materialize.cli import main  # noqa: PLC0415

    assert main(list(words)) == 0


def together(*calls):
    """Calls functions in threads of their own, all at once, as somebody's program does."""
    gate = threading.Barrier(len(calls))

    def call(function):
        gate.wait()
        return function()

    with ThreadPoolExecutor(len(calls)) as pool:
        for done in [pool.submit(call, function) for function in calls]:
            done.result()


def sidecars():
    """Sidecars of a MB, hashed beside."""
    given = [f"--scores={scorer}.jsonl" for scorer in ("dover", "qalign", "musiq")]
    command(
        "second-opinion",
        "table",
        "--features",
        "features.jsonl",
        *given,
        "--out",
        "out/a.jsonl",
        "--audit-json",
        "out/a.json",
    )


def tables():
    """Small tables of a batch side by side, of every suffix."""
    command("second-opinion", "batch", "--manifest", "batch.json", "--report-json", "out/report.json")


def chunks():
    """Chunks of JSON lines."""
    command(
        "second-opinion",
        "table",
        "--features",
        "chunks.jsonl",
        "--scores",
        "dover.jsonl",
        "--out",
        "out/c.jsonl",
    )


def shards():
    """Shards, each to its own output."""
    for kind in ("parquet", "jsonl", "csv", "json"):
        command(
            "mos-labels",
            "table",
            "--features",
            f"{kind}/*.{kind}",
            "--labels",
            "labels.csv",
            "--out",
            f"out/{{stem}}.{kind}",
        )


def saliency():
    """Clips, decoded and measured."""
    command(
        "saliency",
        "table",
        "--input",
        "clips.csv",
        "--root",
        "clips",
        "--output",
        "out/s.csv",
        "--audit-json",
        "out/s.json",
    )


def signals():
    """Columns of a table."""
    command("signal-mix", "--input", "chunks.jsonl", "--out-json", "out/signals.json")


def web():
    """Objects of a web server."""
    import polars_materialize as pm  # noqa: PLC0415

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=".")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        labels = [f"{base}/{name}" for name in ("labels.csv", "labels2.csv", "labels3.csv")]
        pm.materialize_labels(
            f"{base}/features.parquet",
            labels,
            "out/w.parquet",
            storage_options={"allow_http": True},
            hashed=True,
        )
        server.shutdown()


def buckets():
    """Objects of a bucket: `s3.json` says how it is reached."""
    import polars_materialize as pm  # noqa: PLC0415

    options = json.loads(Path("s3.json").read_text())
    pm.materialize_labels(
        "s3://clips/shards/*.parquet",
        "s3://clips/labels*.csv",
        "s3://clips/out/{stem}.csv",
        storage_options=options,
        hashed=True,
    )


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the folder, without a word."""

    def log_message(self, *_):
        """Says nothing."""


def notebook():
    """Lazy joins by threads of a user."""

    def scores():
        import polars as pl  # noqa: PLC0415

        import polars_materialize as pm  # noqa: PLC0415

        found = pm.scan_scores(["dover=small-dover.jsonl", "qalign=small-qalign.jsonl"])
        pl.scan_parquet("features.parquet").pipe(pm.join_scores, found).collect()

    def labels():
        import polars as pl  # noqa: PLC0415

        import polars_materialize as pm  # noqa: PLC0415

        pl.scan_parquet("features.parquet").pipe(pm.join_labels, pm.scan_labels("labels.csv")).collect()

    def formats():
        import polars_materialize as pm  # noqa: PLC0415

        assert "dover-csv" in pm.list_formats().scores

    together(scores, labels, formats, scores)


def calls():
    """Whole runs by threads of a user."""

    def scores(out):
        import polars_materialize as pm  # noqa: PLC0415

        pm.materialize_scores("features.parquet", ["dover=small-dover.jsonl"], out)

    def labels():
        import polars_materialize as pm  # noqa: PLC0415

        pm.materialize_labels("features.jsonl", "labels.csv", "out/l.jsonl.gz")

    def clips():
        import polars_materialize as pm  # noqa: PLC0415

        pm.materialize_saliency("clips.csv", "out/m.csv", root="clips")

    def batch():
        import polars_materialize as pm  # noqa: PLC0415

        assert pm.run_batch("batch.json").status == "ok"

    def signals():
        import polars_materialize as pm  # noqa: PLC0415

        pm.audit_tables("features.parquet")

    together(partial(scores, "out/1.json"), partial(scores, "out/2.csv"), labels, clips, batch, signals)


def executor():
    """Tables and clips by an executor of threads."""
    import polars_materialize as pm  # noqa: PLC0415

    with ThreadPoolExecutor(3) as pool:
        assert pm.run_batch("batch.json", executor=pool).status == "ok"
        assert pm.run_batch("saliency.json", kind="saliency", executor=pool).status == "ok"


PATHS = [sidecars, tables, chunks, shards, saliency, signals, web, buckets, notebook, calls, executor]


def start(name, folder):
    """Runs a path in a fresh process; its exit status, and what it said."""
    done = subprocess.run(
        [sys.executable, __file__, str(folder), name],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stderr.strip()


def main():
    """Runs one path here, or each in many fresh processes."""
    folder, *words = sys.argv[1:]
    paths = {path.__name__: path for path in PATHS}
    if words[0] in paths:
        sys.setswitchinterval(SWITCH_S)
        with contextlib.chdir(folder):
            paths[words[0]]()
        return
    if not Path(folder).exists():
        Path(folder).mkdir()
        fill(Path(folder))
    for name in words[1:] or paths:
        ended = Counter()
        for _ in range(int(words[0])):
            status, said = start(name, folder)
            ended[(status, said.splitlines()[0][:300] if status and said else "")] += 1
        print(name, dict(ended), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
