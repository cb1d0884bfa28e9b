"""Work by the workers of executors: processes of this machine, a real Dask cluster, any other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import polars as pl
import pytest
import saliency_oracle as oracle
import worker_tasks as tasks
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import errors, executors
from polars_materialize.cli import main
from polars_materialize.executors import run_all
from polars_materialize.options import SaliencyOptions
from polars_materialize.saliency_stages import load_stage
from polars_materialize.saliency_workers import divided, measure_clip

if sys.platform == "win32":
    pytest.skip("workers are killed by signals", allow_module_level=True)

REPOSITORY = Path(pm.__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
    "POLARS_MAX_THREADS": "1",
}
DIED = "the worker that ran it died, twice"


@contextlib.contextmanager
def running_cluster(folder, workers=2, *, allowed_failures=3):
    """A scheduler and workers, each a process; gives the address, the scheduler and the workers."""
    setting = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures)}
    file = folder / "scheduler.json"
    common = ["--host", "127.0.0.1", "--no-dashboard"]
    with (folder / "log").open("w") as log, contextlib.ExitStack() as stack:

        def start(program, *words):
            command = [sys.executable, "-m", f"distributed.cli.{program}", *words, *common]
            process = subprocess.Popen(
                command, env={**ENVIRONMENT, **setting}, cwd=folder, stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        scheduler = start("dask_scheduler", "--port", "0", "--scheduler-file", str(file))
        until(lambda: file.exists() and file.read_text().endswith("}"))
        address = json.loads(file.read_text())["address"]
        words = ["--nthreads", "1", "--memory-limit", "0", "--local-directory", str(folder)]
        words += ["--no-nanny", "--death-timeout", "60"]
        started = [start("dask_worker", address, *words) for _ in range(workers)]
        if started:
            with pm.dask(address) as executor:
                until(lambda: len(executor._client.nthreads()) == workers)
        yield address, scheduler, started


def until(condition):
    """Waits until something is so."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not come so far")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a cluster that no test harms."""
    pytest.importorskip("distributed")
    with running_cluster(tmp_path_factory.mktemp("cluster")) as (address, *_):
        yield address


@pytest.fixture(scope="module")
def jobs():
    """Two worker processes."""
    with pm.Jobs(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def pool():
    """Python's own worker processes."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.fixture(params=["jobs", "dask", "threads", "pool"])
def executor(request):
    """Executors of every kind."""
    if request.param in {"jobs", "pool"}:
        yield request.getfixturevalue(request.param)
    elif request.param == "dask":
        with pm.dask(request.getfixturevalue("cluster")) as found:
            yield found
    else:
        with ThreadPoolExecutor(3) as found:
            yield found


def outcomes(executor, function, items, **options):
    """What came of every item, in order: a value, or a problem as text in a list."""
    found = dict(run_all(executor, function, items, **options))
    assert sorted(found) == list(range(len(items)))
    return [found[i].value if found[i].problem is None else [found[i].problem] for i in sorted(found)]


# --- items ----------------------------------------------------------------------------------------------


def test_every_item_has_its_outcome(executor):
    assert outcomes(executor, tasks.double, list(range(40))) == list(range(0, 80, 2))
    assert outcomes(executor, tasks.double, []) == []


def test_an_item_that_fails_leaves_the_others_alone(executor):
    found = outcomes(executor, tasks.fail_on_3, list(range(6)))

    assert found == [0, 1, 2, ["unexpected KeyError: 'not\\nthis one'"], 4, 5]


def test_what_concerns_all_items_ends_the_run(executor):
    with pytest.raises(errors.TableError, match="no such file"):
        list(run_all(executor, pm.scan_table, ["no.csv", "neither.csv"]))

    assert outcomes(executor, tasks.double, [1]) == [2]


def test_one_by_one_begins_an_item_when_the_one_before_is_done(executor):
    begun = []

    def items():
        for number in range(4):
            begun.append(number)
            yield number

    order = [index for index, _ in run_all(executor, tasks.slow_double, items(), one_by_one=True)]

    assert order == [0, 1, 2, 3]


def test_an_item_that_kills_its_worker_is_tried_twice_and_blamed_alone(jobs):
    assert outcomes(jobs, tasks.die_on_3, list(range(8))) == [0, 1, 2, [DIED], 4, 5, 6, 7]


def test_an_item_whose_worker_dies_once_is_done(jobs, tmp_path):
    assert outcomes(jobs, tasks.die_once, [tmp_path / "a", tmp_path / "b"]) == ["a", "b"]


def test_a_pool_that_breaks_for_good_keeps_what_is_done():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        found = outcomes(executor, tasks.die_on_3, list(range(8)))

    assert found[:2] == [0, 1]
    assert len(found[3]) == 1
    assert found[7][0].startswith("its workers died: ")


def test_workers_that_run_nothing_at_all_are_an_error():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()

    with pytest.raises(errors.WorkersError, match="after shutdown") as caught:
        list(run_all(executor, tasks.double, [1]))

    assert caught.value.code == "workers"


def test_a_task_that_cannot_be_handed_over_is_an_error(jobs):
    with pytest.raises(errors.WorkersError, match=r"takes no more tasks: .*(pickle|local object)"):
        list(run_all(jobs, lambda item: item, [1]))

    assert outcomes(jobs, tasks.double, [1]) == [2]


# --- processes of this machine ------------------------------------------------------------------------------


def test_workers_share_the_threads_of_this_process():
    before = dict(os.environ)
    with pm.Jobs(2) as executor:
        found = [executor.submit(tasks.environment) for _ in range(8)]
        threads = {future.result()[1:] for future in found}

    share = max(1, pl.thread_pool_size() // 2)
    assert threads == {(share, os.environ.get("OMP_NUM_THREADS", str(share)))}
    assert dict(os.environ) == before


def test_only_the_task_of_a_dead_worker_fails(jobs):
    futures = [jobs.submit(tasks.slow_double, number) for number in range(6)]
    dead = jobs.submit(tasks.die)
    futures += [jobs.submit(tasks.slow_double, number) for number in range(6, 9)]

    assert isinstance(dead.exception(), BrokenExecutor)
    assert [future.result() for future in futures] == list(range(0, 18, 2))


def test_processes_that_are_forks_are_refused():
    """Polars would wait in them for ever."""
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as executor:
        with pytest.raises(errors.OptionError, match="its processes are forks, in which Polars hangs"):
            run_all(executor, tasks.double, [1])
        with pytest.raises(errors.OptionError, match="executor: its processes are forks"):
            pm.measure_saliency(pl.DataFrame({"src": [str(Path(__file__))]}), executor=executor)


def test_jobs_are_an_executor_like_others(jobs):
    assert list(jobs.map(tasks.double, range(5))) == [0, 2, 4, 6, 8]
    assert jobs.submit(int, "7", base=8).result() == 7
    assert isinstance(jobs.submit(int, "x").exception(), ValueError)
    with pm.Jobs(1) as other:
        pass
    with pytest.raises(RuntimeError, match="after shutdown"):
        other.submit(tasks.double, 1)
    with pytest.raises(errors.OptionError, match="jobs: 0"):
        pm.Jobs(0)


def test_a_block_that_fails_ends_its_workers_at_once():
    began = time.monotonic()
    with pytest.raises(KeyError, match="the block"), pm.Jobs(2) as executor:  # noqa: PT012
        pids = [executor.submit(tasks.environment).result()[0]]
        futures = [executor.submit(time.sleep, 60) for _ in range(5)]
        until(futures[0].running)
        raise KeyError("the block")

    assert time.monotonic() - began < 30
    assert gone(pids)
    assert all(future.cancelled() or future.exception() is not None for future in futures)


def test_a_script_without_a_guard_gets_one_error(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import polars_materialize as pm\n"
        "from polars_materialize.executors import run_all\n"
        "try:\n"
        "    with pm.Jobs(1) as executor:\n"
        "        list(run_all(executor, len, ['a']))\n"
        "except pm.MaterializeError as error:\n"
        "    print(error)\n"
    )

    done = subprocess.run(
        [sys.executable, str(script)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "__name__ == '__main__'" in done.stdout.splitlines()[-1]


# --- clips --------------------------------------------------------------------------------------------------


def fill(folder, count=6):
    """Writes a table, clips of several kinds, and some that cannot be measured."""
    clips = folder / "clips"
    clips.mkdir(parents=True)
    names = [f"{index}.mkv" for index in range(count)]
    for index, name in enumerate(names):
        (clips / name).write_bytes(oracle.noise_clip(3, 48, 32, index))
    oracle.raw(clips / "r.yuv", oracle.noise(2, 16, 12, seed=5))
    (clips / "broken.mkv").write_bytes(b"no clip")
    (clips / "list.m3u8").write_text("#EXTM3U\n0.mkv\n")
    rows = [*((name, "", "") for name in names), ("r.yuv", "16", "12"), ("r.yuv", "", "")]
    rows += [(name, "", "") for name in ("broken.mkv", "list.m3u8", "gone.mkv", "", "clips", "0.mkv")]
    lines = ["src,width,height", *(",".join(row) for row in rows)]
    (folder / "f.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A bundle as the current folder."""
    monkeypatch.chdir(fill(tmp_path / "bundle"))
    return tmp_path / "bundle"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temporal_aggregator": "motion-weighted", "frame_selection": "uniform"},
        {"model_path": "block.onnx", "temporal_aggregator": "ema"},
        {"ffmpeg_bin": "ffmpeg"},
    ],
    ids=["residual", "uniform", "network", "ffmpeg"],
)
@pytest.mark.usefixtures("bundle")
def test_clips_are_measured_as_in_this_process(executor, options, networks, ffmpeg):
    places = {"block.onnx": networks / "block.onnx", "ffmpeg": ffmpeg}
    options = {name: places.get(value, value) for name, value in options.items()}
    table = pm.scan_table("f.csv").collect()
    told = []

    def progress(done, total):
        told.append((done, total))

    here = pm.measure_saliency(table, root="clips", **options)
    there = pm.measure_saliency(table, root="clips", executor=executor, progress=progress, **options)
    joined = pm.add_saliency(table.lazy(), root="clips", executor=executor, **options).collect()

    assert_frame_equal(there, here, check_exact=True)
    assert_frame_equal(joined, pm.add_saliency(table, root="clips", **options), check_exact=True)
    assert set(here["saliency_status"]) >= {"ok", "missing-source", "missing-geometry", "decode-failed"}
    assert told[-1] == (13, 13)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def deadly(path, ffmpeg):
    """An ffmpeg that kills who runs it over clips of a certain name."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\ncase "$*" in *deadly*) kill -9 $PPID ;; esac\nexec "{ffmpeg}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("kind", ["jobs", "dask"])
def test_a_clip_that_kills_its_worker_every_time_has_a_status(bundle, tmp_path, kind, ffmpeg, jobs):
    program = deadly(tmp_path / "bin" / "ffmpeg", ffmpeg)
    (bundle / "clips" / "1.mkv").rename(bundle / "clips" / "deadly.mkv")
    table = pl.DataFrame({"src": ["0.mkv", "deadly.mkv", *(f"{index}.mkv" for index in range(2, 6))]})
    expected = pm.measure_saliency(
        table.filter(pl.col("src") != "deadly.mkv"), root="clips", ffmpeg_bin=ffmpeg
    )

    with contextlib.ExitStack() as stack:
        executor = jobs
        if kind == "dask":
            folder = tmp_path / "cluster"
            folder.mkdir()
            address, *_ = stack.enter_context(running_cluster(folder, 3, allowed_failures=0))
            executor = stack.enter_context(pm.dask(address))
        found = pm.measure_saliency(table, root="clips", ffmpeg_bin=program, executor=executor)

    dead = found.filter(pl.col("src") == "deadly.mkv").row(0, named=True)
    assert (dead["saliency_status"], dead["saliency_message"]) == ("decode-failed", DIED)
    assert_frame_equal(found.filter(pl.col("src") != "deadly.mkv"), expected, check_exact=True)


@pytest.mark.usefixtures("bundle")
def test_a_worker_of_a_cluster_that_is_killed_costs_no_clip(tmp_path):
    table = pm.scan_table("f.csv").collect()
    killed = []

    with running_cluster(tmp_path) as (address, _, workers), pm.dask(address) as executor:

        def kill(done, total):
            if done > total // 2 and not killed:
                workers[0].kill()
                killed.append(workers[0].wait())

        found = pm.measure_saliency(table, root="clips", executor=executor, progress=kill)

    assert killed == [-signal.SIGKILL]
    assert_frame_equal(found, pm.measure_saliency(table, root="clips"), check_exact=True)


@pytest.mark.parametrize("dead", ["workers", "scheduler"])
def test_a_cluster_that_goes_away_leaves_statuses(tmp_path, monkeypatch, dead):
    monkeypatch.setattr(executors, "PATIENCE_S", 1.0)
    found = {}

    with running_cluster(tmp_path) as (address, scheduler, workers), pm.dask(address) as executor:
        for index, outcome in run_all(executor, tasks.slow_double, range(30)):
            found[index] = outcome
            if len(found) == 3:
                for process in [scheduler] if dead == "scheduler" else workers:
                    process.kill()

    reason = {"workers": "no worker was left to run it", "scheduler": "the Dask scheduler is gone"}[dead]
    assert sorted(found) == list(range(30))
    assert {outcome.problem for outcome in found.values()} == {None, reason}
    assert [found[i].value for i in found if not found[i].problem] == [
        2 * i for i in found if not found[i].problem
    ]


def test_a_cluster_without_workers_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "PATIENCE_S", 0.5)
    with (
        running_cluster(tmp_path, workers=0) as (address, *_),
        pm.dask(address) as executor,
        pytest.raises(errors.WorkersError, match="no worker"),
    ):
        list(run_all(executor, tasks.double, [1]))


def recipe_of(**options):
    """What workers are told of a stage."""
    given = SaliencyOptions(**options)
    stage = divided(load_stage(given, None, None), given, None, ThreadPoolExecutor(1))
    return stage.elsewhere.args[1]


def test_a_worker_with_other_versions_refuses():
    recipe = recipe_of()
    versions = (*((name, version) for name, version in recipe.versions if name != "av"), ("av", "0.1"))

    with pytest.raises(errors.WorkersError, match=r"a worker has .* av, 0\.1 is installed here"):
        measure_clip(replace(recipe, versions=versions), 1, ("a.mkv", "a.mkv", 0, 0))


def test_a_worker_with_another_network_refuses(tmp_path, networks):
    network = tmp_path / "net.onnx"
    network.write_bytes((networks / "block.onnx").read_bytes())
    recipe = recipe_of(model_path=str(network))
    network.write_bytes((networks / "pixel.onnx").read_bytes())

    with pytest.raises(errors.ModelError, match=r"net\.onnx: is another network"):
        measure_clip(recipe, 1, ("a.mkv", "a.mkv", 0, 0))


# --- tables -------------------------------------------------------------------------------------------------

KINDS = ["second-opinion", "mos-labels", "saliency"]


def fill_batch(folder):
    """Writes manifests of all kinds, of four tables each, of which the third fails."""
    fill(folder)
    clips = [f"{index}.mkv" for index in range(6)]
    pl.DataFrame({"src": clips, "vmaf": [1.5] * 6}).write_parquet(folder / "good.parquet")
    (folder / "s.jsonl").write_text("".join(json.dumps({"src": c, "score": 0.5}) + "\n" for c in clips))
    (folder / "l.csv").write_text("src,mos\n" + "".join(f"{c},3\n" for c in clips))
    for kind in KINDS:
        tables = []
        for index, name in enumerate(("good.parquet", "f.csv", "no.csv", "good.parquet")):
            suffix = Path(name).suffix
            paths = {"id": f"t{index}", "audit_json": f"o/{index}.json"}
            paths |= {"input" if kind == "saliency" else "features": name}
            paths |= {"output" if kind == "saliency" else "out": f"o/{index}{suffix}"}
            evidence = {
                "second-opinion": {"scores": ["x=s.jsonl"]},
                "mos-labels": {"labels": ["l.csv"], "min_match_rate": 0.1},
                "saliency": {"root": "clips"},
            }
            tables.append({**paths, **evidence[kind]})
        (folder / f"{kind}.json").write_text(json.dumps({"tables": tables}))
    return folder


def written(folder):
    """Every file below a folder with its bytes; of reports and audits without the command line."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".json":
            report = json.loads(content)
            assert report["run_provenance"].pop("argv")
            for one in report["run_provenance"]["outputs"].get("tables", []):
                if one["path"].endswith(".json"):  # it holds the command line too
                    del one["sha256"], one["bytes"]
            content = json.dumps(report)
        found[path.name] = content
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fail_fast", [False, True])
def test_batches_write_the_same_bytes_wherever_they_run(tmp_path, monkeypatch, executor, kind, fail_fast):
    monkeypatch.chdir(fill_batch(tmp_path / "bundle"))
    reports = {"report_json": "o/r.json", "report_md": "o/r.md"}
    found = []
    for where in (None, executor):
        report = pm.run_batch(f"{kind}.json", kind=kind, fail_fast=fail_fast, executor=where, **reports)
        found.append({path.name: path.read_bytes() for path in Path("o").iterdir()})
        for path in Path("o").iterdir():
            path.unlink()

    names = {"0.json", "0.parquet", "1.json", "1.csv", "r.json", "r.md"}
    assert set(found[0]) == names | (set() if fail_fast else {"3.json", "3.parquet"})
    assert found[1] == found[0]
    assert len(report.tables) == (3 if fail_fast else 4)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_on_the_command_line(tmp_path, monkeypatch, capsys, cluster, kind):
    monkeypatch.chdir(fill_batch(tmp_path / "bundle"))
    words = f"{kind} batch --manifest {kind}.json --report-json o/r.json --report-md o/r.md"
    found = []
    for where in ("", "--jobs 2", f"--dask {cluster}"):
        status = main(f"{words} {where}".split())
        found.append((status, capsys.readouterr().err, written(Path("o"))))
        for path in Path("o").iterdir():
            path.unlink()

    assert found[0][0] == 1
    assert {"0.parquet", "1.csv", "3.parquet", "r.json", "r.md"} <= set(found[0][2])
    assert found[1] == found[0]
    assert found[2] == found[0]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.usefixtures("bundle")
def test_a_table_of_saliency_is_the_same_wherever_it_runs(capsys, cluster, suffix):
    words = f"saliency table --input f.csv --output o/o.{suffix} --audit-json o/a.json --root clips"
    found = []
    for where in ("", "--jobs 2", f"--dask {cluster}"):
        status = main(f"{words} {where}".split())
        found.append((status, capsys.readouterr().err, written(Path("o"))))

    assert found[0][0] == 1
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_failures_are_told_in_the_order_of_tables(tmp_path, jobs):
    big = pl.DataFrame({"clip_id": [f"c{i // 20}" for i in range(200_000)], "x": range(200_000)})
    big.write_csv(tmp_path / "big.csv")
    (tmp_path / "s.jsonl").write_text('{"clip_id": "c1", "score": 1}\n')
    common = {"scores": ["x=s.jsonl"], "missing_policy": "fail"}
    tables = [{"id": "slow", "features": "big.csv", "out": "a.csv", **common}]
    tables += [{"id": f"t{i}", "features": "no.csv", "out": f"b{i}.csv", **common} for i in range(5)]
    (tmp_path / "m.json").write_text(json.dumps({"tables": tables}))
    told, done = [], []

    report = pm.run_batch(
        tmp_path / "m.json",
        executor=jobs,
        on_failure=lambda table, _: told.append(table),
        progress=lambda *words: done.append(words),
    )

    assert told == ["slow", "t0", "t1", "t2", "t3", "t4"] == [entry["id"] for entry in report.tables]
    assert done == [(count, 6, "tables") for count in range(1, 7)]


class DeadlyJobs(pm.Jobs):
    """Workers one of which is killed while it writes a certain table; once, or every time."""

    def __init__(self, folder, mark):
        super().__init__(2)
        self._deadly = folder, mark

    def submit(self, fn, /, *args, **kwargs):
        if args[0].id == "t1":
            return super().submit(tasks.die_while_writing, *self._deadly, fn, *args, **kwargs)
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("every_time", [False, True])
def test_a_table_whose_worker_dies_is_run_again(tmp_path, every_time):
    rows = pl.DataFrame({"clip_id": [f"c{i // 20}" for i in range(400_000)], "x": range(400_000)})
    rows.write_csv(tmp_path / "f.csv")
    (tmp_path / "s.jsonl").write_text('{"clip_id": "c1", "score": 1}\n')
    for place in ("here", "there"):
        tables = [
            {"id": f"t{i}", "features": "f.csv", "scores": ["x=s.jsonl"], "out": f"{place}/{i}.csv"}
            for i in range(3)
        ]
        (tmp_path / f"{place}.json").write_text(json.dumps({"tables": tables}))
    pm.run_batch(tmp_path / "here.json")
    folder, mark = tmp_path / "there", tmp_path / "mark"
    folder.mkdir()

    with DeadlyJobs(str(folder), None if every_time else str(mark)) as executor:
        report = pm.run_batch(tmp_path / "there.json", executor=executor)

    names = ["0.csv", "2.csv"] if every_time else ["0.csv", "1.csv", "2.csv"]
    assert mark.exists() == (not every_time)
    assert sorted(path.name for path in folder.iterdir()) == names
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    found = [entry.get("error") for entry in report.tables]
    assert found == [None, DIED if every_time else None, None]


# --- the command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("--jobs 0", 2, "Invalid value for '--jobs': 0 is not in the range x>=1."),
        ("--jobs two", 2, "'two' is not a valid integer"),
        ("--jobs 2 --dask tcp://127.0.0.1:1", 2, "jobs, dask: both are given; expected at most one of them"),
        ("--dask nowhere", 2, "dask: 'nowhere' is no address; expected a scheduler's"),
        ("--dask x://127.0.0.1:80", 1, "x://127.0.0.1:80: cannot be used: unknown address scheme"),
    ],
)
@pytest.mark.parametrize(
    "command", ["saliency table --input f.csv --output o.csv", "saliency batch --manifest m"]
)
@pytest.mark.usefixtures("bundle")
def test_mistakes_are_one_line(capsys, command, words, status, said):
    assert main(f"{command} {words}".split()) == status

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert said in printed.err
    assert not Path("o.csv").exists()


@pytest.mark.usefixtures("bundle")
def test_no_scheduler_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr("polars_materialize.clusters.CONNECT_S", 1)

    status = main(["saliency", "table", "--input=f.csv", "--output=o.csv", "--dask=tcp://127.0.0.1:1"])

    said = "error: tcp://127.0.0.1:1: no Dask scheduler answers in 1 s; expected one that runs there\n"
    assert (status, capsys.readouterr().err) == (1, said)


def test_without_dask_the_extra_is_named(tmp_path):
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError(name='distributed')\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"}
    words = ["saliency", "batch", "--manifest=m", "--dask=tcp://h:1"]

    done = subprocess.run(
        [sys.executable, "-m", "polars_materialize", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    said = "error: distributed is not installed; pip install 'polars-materialize[dask]' brings it\n"
    assert (done.returncode, done.stderr) == (1, said)


def children(pid):
    """The processes that a process has started, and those that they have."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                found += [int(path.parent.name), *children(path.parent.name)]
    return found


def gone(pids):
    """Whether processes end soon."""

    def alive(pid):
        place = Path(f"/proc/{pid}/stat")
        with contextlib.suppress(OSError):
            return place.read_text().rpartition(")")[2].split()[0] not in "ZX"
        return False

    until(lambda: not any(map(alive, pids)))
    return True


HANGING = """#!/bin/sh
case " $* " in *" -i "*) ;; *) exec "{ffmpeg}" "$@" ;; esac
trap '' TERM INT HUP
sleep 600 &
touch "{mark}"
while :; do wait; sleep 1; done
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
@pytest.mark.parametrize("during", ["clips", "tables"])
def test_a_run_that_is_ended_leaves_no_worker_and_no_file(tmp_path, ffmpeg, number, during):
    folder, mark = tmp_path / "run", tmp_path / "mark"
    folder.mkdir()
    if during == "clips":
        fill(folder)
        program = tmp_path / "ffmpeg"
        program.write_text(HANGING.format(ffmpeg=ffmpeg, mark=mark))
        program.chmod(0o755)
        words = f"saliency table --input f.csv --root clips --output o/o.csv --ffmpeg-bin {program}"
    else:
        count = 1_500_000
        pl.select(clip_id="c" + (pl.int_range(count) // 20).cast(pl.String), x=pl.int_range(count)).write_csv(
            folder / "big.csv"
        )
        (folder / "s.jsonl").write_text('{"clip_id": "c1", "score": 1}\n')
        common = {"features": "big.csv", "scores": ["x=s.jsonl"]}
        tables = [{"id": f"{i}", "out": f"o/{i}.csv", **common} for i in range(4)]
        (folder / "m.json").write_text(json.dumps({"tables": tables}))
        words = "second-opinion batch --manifest m.json"
    (folder / "o").mkdir()

    process = subprocess.Popen(
        [sys.executable, "-m", "polars_materialize", *words.split(), "--jobs", "2"],
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(lambda: mark.exists() or any(path.suffix == ".part" for path in (folder / "o").iterdir()))
        pids = children(process.pid)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()

    assert len(pids) >= 2
    assert gone(pids)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert told.strip() == "interrupted; what was being written is left as it was"
        assert list((folder / "o").iterdir()) == []


ENDED_EARLY_AND_LATE = """
import os, signal, sys, threading
from multiprocessing import Pipe
from polars_materialize import processes

class Thread(threading.Thread):
    def start(self):  # handlers are set, and nothing is served yet
        os.kill(os.getpid(), signal.SIGTERM)

threading.Thread = Thread
ours, theirs = Pipe()
processes._serve(theirs)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # it ends already
    os.kill(os.getpid(), number)
print("ended")
"""


def test_a_worker_that_is_ended_at_any_time_says_nothing():
    done = subprocess.run(
        [sys.executable, "-c", ENDED_EARLY_AND_LATE],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_ctrl_c_at_a_terminal_reaches_all_processes_and_is_told_once(tmp_path, ffmpeg):
    folder, mark = fill(tmp_path / "run"), tmp_path / "mark"
    program = tmp_path / "ffmpeg"
    program.write_text(HANGING.format(ffmpeg=ffmpeg, mark=mark))
    program.chmod(0o755)
    words = f"saliency table --input f.csv --root clips --output o.csv --ffmpeg-bin {program} --jobs 2"

    process = subprocess.Popen(
        [sys.executable, "-m", "polars_materialize", *words.split()],
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(mark.exists)
        pids = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == 130
    assert told.strip() == "interrupted; what was being written is left as it was"
    assert gone(pids)
