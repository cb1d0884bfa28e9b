"""Object stores and the web, against real servers on loopback."""

from __future__ import annotations

import functools
import gc
import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import batch_workers, errors, stores
from polars_materialize.cli import main
from polars_materialize.paths import Readers
from polars_materialize.stores import objects, urls
from polars_materialize.stores.options import check_storage_options, for_obstore, for_polars, for_scheme
from polars_materialize.tables import Splice, find, find_shards

boto3 = pytest.importorskip("boto3", reason="needs moto[server]")
pytest.importorskip("moto", reason="needs moto[server]")
pytest.importorskip("obstore", reason="needs obstore")

SAME = ~pl.selectors.ends_with("_source")
"""All columns but those that name the files that rows come from."""
KEY, SECRET = "AKIDOFTHISTEST", "s3cr3t-VALUE-0123456789"
START_SECONDS = 60
SUFFIXES = ["parquet", "arrow", "csv", "csv.gz", "jsonl", "jsonl.zst", "json"]
TABLE = pl.DataFrame(
    {"clip_id": ["a", "b", "b", "é 7"], "vmaf": [90.5, None, 41.0, 2.0**-40], "n": [1, 2, 3, 2**60]}
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of an S3 server in a process of its own."""
    log = tmp_path_factory.mktemp("moto") / "log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    process.kill()
                    pytest.fail(f"the S3 server did not start: {log.read_text()}")
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture(scope="module")
def options(server):
    """What reaches it."""
    return {
        "aws_endpoint_url": server,
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
        "aws_region": "eu-west-1",
    }


@pytest.fixture(scope="module")
def client(server):
    """Another client of it."""
    return boto3.client(
        "s3",
        endpoint_url=server,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )


class Bucket:
    """A bucket of one test, as another program sees it."""

    def __init__(self, client, name):
        self.client, self.name = client, name
        client.create_bucket(Bucket=name)

    def url(self, key=""):
        return f"s3://{self.name}/{key}"

    def put(self, key, content):
        data = content.encode() if isinstance(content, str) else content
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        return self.url(key)

    def get(self, key):
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def list(self):
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]

    def uploads(self):
        return self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])


@pytest.fixture
def bucket(client, request):
    """An empty bucket."""
    return Bucket(client, f"bucket-{hashlib.md5(request.node.name.encode()).hexdigest()[:12]}")


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path_factory):
    """No credentials around, and no copies left behind."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")):
            monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    gc.collect()
    assert not [path for path in folder.rglob("*") if path.is_file()], "a copy was left behind"


def fill(bucket, folder):
    """The same tables, sidecars and labels in a bucket and in a folder."""
    rows = {"clip_id": ["a", "b", "b", "c"], "vmaf": [90.5, 40.0, 41.0, 70.25]}
    files = {
        "one.parquet": None,
        "two.csv": "clip_id,vmaf\na,1\nx,2\n",
        "dover.jsonl": '{"clip_id": "a", "score": 0.5}\n{"clip_id": "b", "score": 0.25}\n',
        "musiq/a.json": '{"clip_id": "a", "competitor": "musiq", "score": 50}',
        "musiq/c.json": '{"clip_id": "c", "competitor": "musiq", "score": 70}',
        "mos.csv": "clip_id,mos\na,80\nb,12.5\nc,50\nx,1\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            pl.DataFrame(rows).write_parquet(path)
        else:
            path.write_text(text)
        bucket.put(name, path.read_bytes())
    return folder


# Tables


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_of_each_format_go_there_and_come_back(suffix, bucket, options, tmp_path):
    url = bucket.url(f"runs/täble 1.{suffix}")
    pm.sink_table(TABLE, url, storage_options=options)
    pm.sink_table(TABLE, tmp_path / f"t.{suffix}")
    assert bucket.get(f"runs/täble 1.{suffix}") == (tmp_path / f"t.{suffix}").read_bytes()
    assert_frame_equal(pm.scan_table(url, storage_options=options).collect(), TABLE)
    assert pm.scan_table(url, storage_options=options).select(pl.len()).collect().item() == TABLE.height
    assert not bucket.uploads()


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "jsonl"])
def test_what_was_overwritten_is_not_read_any_more(suffix, bucket, options):
    url = bucket.url(f"t.{suffix}")
    for height in (1, 5, 2):
        frame = pl.DataFrame({"a": range(height)})
        pm.sink_table(frame, url, storage_options=options)
        lf = pm.scan_table(url, storage_options=options)
        assert lf.select(pl.len()).collect().item() == height
        assert_frame_equal(lf.collect(), frame)


def test_the_environment_says_how_to_reach_a_store(bucket, options, monkeypatch):
    for name, value in options.items():
        monkeypatch.setenv(name.upper(), value)
    for suffix in ("parquet", "csv"):
        pm.sink_table(TABLE, bucket.url(f"t.{suffix}"))
        assert_frame_equal(pm.scan_table(bucket.url(f"t.{suffix}")).collect(), TABLE)


@pytest.mark.parametrize(
    "key", ["a b.csv", "a%20b.csv", "é.parquet", "a#b.csv", "a?b.parquet", "x=1/a+b.csv"]
)
def test_names_are_taken_literally(key, bucket, options):
    pm.sink_table(TABLE, bucket.url(key), storage_options=options)
    assert bucket.list() == [key]
    assert_frame_equal(pm.scan_table(bucket.url(key), storage_options=options).collect(), TABLE)


def test_globs_mean_what_they_mean_for_files(bucket, options, tmp_path):
    names = ["s/b.csv", "s/a.csv", "s/.hidden.csv", "s/x/c.csv", "s/x/.y/d.csv", "s/[1].csv", "t.csv"]
    for name in names:
        bucket.put(name, f"clip_id\n{name}\n")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"clip_id\n{name}\n")
    for pattern in ("s/*.csv", "s/**/*.csv", "*/[ab].csv", "s/?.csv", "**/*.csv", "s/[1].csv", "s/*/*.csv"):
        expected = [file.written for file in find(pattern, tmp_path)]
        found = [file.written for file in find(bucket.url(pattern), storage_options=options)]
        assert found == [bucket.url(name) for name in expected], pattern
    lf = pm.scan_table(bucket.url("s/?.csv"), storage_options=options)
    assert lf.collect().to_series().to_list() == ["s/a.csv", "s/b.csv"]
    with pytest.raises(errors.TableError, match=r"/no/\*\.csv: no object matches$"):
        pm.scan_table(bucket.url("no/*.csv"), storage_options=options)


def test_shards_of_parquet_are_one_table(bucket, options):
    for index in range(3):
        pm.sink_table(TABLE.head(index + 1), bucket.url(f"s/{index}.parquet"), storage_options=options)
    lf = pm.scan_table(bucket.url("s/*.parquet"), storage_options=options)
    assert_frame_equal(lf.collect(), pl.concat([TABLE.head(1), TABLE.head(2), TABLE.head(3)]))


def test_arrow_streams_are_read_from_a_store(bucket, options, tmp_path):
    TABLE.write_ipc_stream(tmp_path / "t.arrow")
    url = bucket.put("t.arrow", (tmp_path / "t.arrow").read_bytes())
    assert_frame_equal(pm.scan_table(url, storage_options=options).collect(), TABLE)


def test_many_small_sidecars_in_a_prefix(bucket, options, tmp_path):
    def put(index):
        text = json.dumps({"clip_id": f"clip{index}", "score": index / 8})
        bucket.put(f"dover/{index:03}.json", text)
        (tmp_path / f"{index:03}.json").write_text(text)

    for index in range(100):
        put(index)
    there = pm.scan_scores(f"dover={bucket.url('dover')}", storage_options=options).collect()
    here = pm.scan_scores(f"dover={tmp_path}").collect()
    assert_frame_equal(there.drop("source", "place"), here.drop("source", "place"))
    assert there.get_column("source").item(7) == bucket.url("dover/007.json")
    with_slash = pm.scan_scores(f"dover={bucket.url('dover/')}", storage_options=options).collect()
    assert_frame_equal(with_slash, there)


def test_prefixes_are_as_strict_as_folders(bucket, options):
    bucket.put("p/x/a.json", "{}")
    bucket.put("p/a.json", "{}")
    with pytest.raises(errors.TableError, match="/p/x: is a prefix in a prefix; name the objects"):
        pm.scan_scores(bucket.url("p"), storage_options=options)
    with pytest.raises(errors.TableError, match="/p: is a prefix; expected an object, or a glob"):
        pm.audit_tables(bucket.url("p"), storage_options=options)
    bucket.put("q/.hidden", "")
    with pytest.raises(errors.TableError, match="/q: the prefix is empty"):
        pm.scan_scores(bucket.url("q"), storage_options=options)
    with pytest.raises(errors.TableError, match="/q: the prefix has no objects"):
        pm.scan_table(bucket.url("q"), storage_options=options)


def test_a_prefix_of_shards_is_a_table_as_a_folder_is(bucket, options, tmp_path):
    names = ["d/p=1/a.parquet", "d/p=1/b.csv", "d/p=22/x/a.parquet", "d/p=22/_SUCCESS", "d/.h/p=3/a.csv"]
    for index, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            pm.sink_table(TABLE.head(index + 1), path)
        else:
            path.write_text("")
        bucket.put(name, path.read_bytes())
    bucket.put("d/p=1/", "")  # as consoles make a "folder"
    bucket.put("dd/other.csv", "a\n1\n")
    here = pm.scan_table(tmp_path / "d").collect()
    assert here.get_column("p").unique().sort().to_list() == [1, 22]
    for url in (bucket.url("d"), bucket.url("d/")):
        assert_frame_equal(pm.scan_table(url, storage_options=options).collect(), here)
    written = [file.written for file in find_shards(bucket.url("d/"), None, options)]
    assert written == [bucket.url(name) for name in names[:3]]
    bucket.put("d/p=1/q=2/c.parquet", b"")
    with pytest.raises(errors.TableError, match="lies in folders of 'p', 'q', but of 'p' in ") as error:
        pm.scan_table(bucket.url("d"), storage_options=options)
    one_line(error)


def test_a_prefix_has_to_say_what_its_objects_say(bucket, options, tmp_path):
    parts = {"d/p=1/a.parquet": 1, "d/p=1/b.parquet": 1, "d/p=22/c.arrow": 22, "d/p=22/d.csv": 22}
    for name, p in parts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pm.sink_table(pl.DataFrame({"p": [p, p], "x": [1.5, 2.5]}), path)
        bucket.put(name, path.read_bytes())
    here = pm.scan_table(tmp_path / "d").collect()
    assert_frame_equal(pm.scan_table(bucket.url("d"), storage_options=options).collect(), here)
    assert here.get_column("p").to_list() == [1, 1, 1, 1, 22, 22, 22, 22]

    for name, p in parts.items():
        suffix = Path(name).suffix
        pm.sink_table(pl.DataFrame({"p": [p, 7], "x": [0.5, 0.5]}), tmp_path / f"other{suffix}")
        bucket.put(name, (tmp_path / f"other{suffix}").read_bytes())
        problem = f"{name}: the column 'p' holds '7', but its folder says '{p}'; expected one value"
        with pytest.raises(errors.TableError, match=problem) as error:
            pm.scan_table(bucket.url("d"), storage_options=options)
        one_line(error)
        bucket.put(name, (tmp_path / name).read_bytes())


# Runs


def shards(bucket, folder):
    """A table of three shards and its labels and scores, in a bucket and in a folder."""
    fill(bucket, folder)
    for index, key in enumerate(["x/a", "x/b", "y/a"]):
        path = folder / f"t/{key}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"clip_id": ["a", "b", "c"][: index + 1], key[-1]: index}).write_parquet(path)
        bucket.put(f"t/{key}.parquet", path.read_bytes())


@pytest.mark.parametrize("source", ["t/*/*.parquet", "t"])
def test_shards_there_to_one_object_and_to_one_each(source, bucket, options, tmp_path):
    shards(bucket, tmp_path)
    run = functools.partial(pm.materialize_scores, base_dir=tmp_path, storage_options=options)
    here = run(source, "dover=dover.jsonl", "out/{folder}/{stem}.parquet")
    run(source, "dover=dover.jsonl", "one.csv")
    dover = f"dover={bucket.url('dover.jsonl')}"
    there = run(bucket.url(source), dover, bucket.url("out/{folder}/{stem}.parquet"))
    assert (there.shards.read, there.shards.written) == (here.shards.read, here.shards.written) == (3, 3)
    names = ["out/x/a.parquet", "out/x/b.parquet", "out/y/a.parquet"]
    described = there.run_provenance["outputs"]["out"]
    assert [one["path"] for one in described] == [bucket.url(name) for name in names]
    for name, one in zip(names, described, strict=True):
        content = bucket.get(name)
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
        got, expected = pl.read_parquet(content), pl.read_parquet(tmp_path / name)
        assert_frame_equal(got.select(SAME), expected.select(SAME))
    run(bucket.url(source), dover, bucket.url("one.csv"))
    one = pm.scan_table(bucket.url("one.csv"), storage_options=options).select(SAME).collect()
    assert_frame_equal(one, pm.scan_table(tmp_path / "one.csv").select(SAME).collect())
    run(bucket.url("t/x/a.parquet"), dover, bucket.url("flat/{folder}/{stem}.csv"))
    assert [name for name in bucket.list() if name.startswith("flat")] == ["flat/a.csv"]


def test_outputs_of_shards_are_guarded_there_as_here(bucket, options, tmp_path):
    shards(bucket, tmp_path)
    run = functools.partial(pm.materialize_scores, base_dir=tmp_path, storage_options=options)
    dover = f"dover={bucket.url('dover.jsonl')}"
    before = bucket.list()
    with pytest.raises(errors.OutputError, match=r"a\.parquet: would be the output of ") as error:
        run(bucket.url("t"), dover, bucket.url("out/{stem}.parquet"))
    one_line(error)
    with pytest.raises(errors.OutputError, match="would be an input too, by 's3://"):
        run(bucket.url("t"), dover, bucket.url("t/new/{folder}/{stem}.parquet"))
    with pytest.raises(errors.OutputError, match=r"is also the input s3://.*/t/x/a\.parquet"):
        run(bucket.url("t/*/*.parquet"), dover, bucket.url("t/{folder}/{stem}.parquet"))
    with pytest.raises(errors.OptionError, match="partition_by writes a folder of this machine only"):
        run(bucket.url("t"), dover, bucket.url("out"), partition_by="clip_id")
    with pytest.raises(errors.OptionError, match="outputs go to files or to s3://, not to gs://"):
        run(bucket.url("t"), dover, "gs://b/{stem}.csv")
    assert bucket.list() == before
    audit = run(bucket.url("t"), dover, "parted", partition_by="clip_id")
    assert audit.shards.written == 3
    assert pm.scan_table(tmp_path / "parted").collect().height == 6


def test_one_of_several_objects_that_cannot_be_sent(bucket, options, tmp_path, monkeypatch):
    shards(bucket, tmp_path)
    names = ["out/x/a.parquet", "out/x/b.parquet", "out/y/a.parquet", "audit.json"]
    for name in names:
        bucket.put(name, "old")
    upload = stores.Url.upload

    def fail(url, path):
        if url.written.endswith("x/b.parquet"):
            raise stores.StoreError("the store at x cannot be reached")
        upload(url, path)

    monkeypatch.setattr(stores.Url, "upload", fail)
    with pytest.raises(errors.OutputError, match=r"x/b\.parquet: could not be written: the store") as error:
        pm.materialize_scores(
            bucket.url("t"),
            f"dover={bucket.url('dover.jsonl')}",
            bucket.url("out/{folder}/{stem}.parquet"),
            audit_json=bucket.url("audit.json"),
            storage_options=options,
        )
    one_line(error)
    assert [bucket.get(name) == b"old" for name in names] == [True, True, False, True]
    assert pl.read_parquet(bucket.get(names[2])).height == 3
    assert not bucket.uploads()


def refresh_manifest(bucket, folder, options):
    tables = [
        {
            "id": source,
            "features": bucket.url(source),
            "labels": {"files": [bucket.url("mos.csv")], "min_match_rate": 0},
            "scores": {"files": [f"dover={bucket.url('dover.jsonl')}", bucket.url("musiq/")]},
            "out": bucket.url(out),
            "audit_json": bucket.url(f"audits/{index}.json"),
        }
        for index, (source, out) in enumerate(
            [("t", "out/{folder}/{stem}.parquet"), ("two.csv", "out/two.csv"), ("gone.csv", "out/gone.csv")]
        )
    ]
    (folder / "m.json").write_text(json.dumps({"tables": tables, "storage_options": options}))
    return folder / "m.json"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_refresh_batch_there_and_secrets_nowhere(jobs, bucket, options, tmp_path, capfd):
    shards(bucket, tmp_path)
    path = refresh_manifest(bucket, tmp_path, options)
    words = ["refresh", "batch", "--manifest", str(path), "--jobs", str(jobs)]
    outputs = ["--report-json", bucket.url("r/report.json"), "--report-md", str(tmp_path / "report.md")]
    assert main([*words, *outputs]) == 1
    told = capfd.readouterr()
    assert f"table 'gone.csv': {bucket.url('gone.csv')}: no such object" in told.err
    report = json.loads(bucket.get("r/report.json"))
    assert [entry["status"] for entry in report["tables"]] == ["ok", "ok", "error"]
    written = {entry["path"]: entry["sha256"] for entry in report["run_provenance"]["outputs"]["tables"]}
    names = [f"out/{name}" for name in ("x/a.parquet", "x/b.parquet", "y/a.parquet", "two.csv")]
    for name in [*names, "audits/0.json", "audits/1.json"]:
        assert written[bucket.url(name)] == hashlib.sha256(bucket.get(name)).hexdigest()
    pm.refresh_table(
        "t",
        "here.parquet",
        labels=pm.LabelPart(files=["mos.csv"], min_match_rate=0),
        scores=pm.ScorePart(files=["dover=dover.jsonl", "musiq/"]),
        base_dir=tmp_path,
    )
    here = pl.read_parquet(tmp_path / "here.parquet")
    there = pm.scan_table(bucket.url("out/*/*.parquet"), storage_options=options).collect()
    same = SAME - pl.selectors.ends_with("_file")
    assert_frame_equal(there.select(same), here.select(same), check_column_order=False)

    everything = told.out.encode() + told.err.encode() + (tmp_path / "report.md").read_bytes()
    everything += b"".join(bucket.get(key) for key in bucket.list())
    for secret in (KEY, SECRET, options["aws_endpoint_url"]):
        assert secret.encode() not in everything


def test_what_workers_are_told_does_not_show_options():
    batch = batch_workers._Batch("e", (), Path(), None, "m", {}, {"aws_secret_access_key": SECRET})
    assert SECRET not in repr(functools.partial(batch_workers._run, print, batch))


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("source", ["one.parquet", "two.csv"])
def test_a_run_there_gives_what_it_gives_here(source, suffix, bucket, options, tmp_path):
    fill(bucket, tmp_path)
    here = pm.materialize_scores(
        source, ["dover=dover.jsonl", "musiq"], f"out.{suffix}", audit_json="a.json", base_dir=tmp_path
    )
    there = pm.materialize_scores(
        bucket.url(source),
        [f"dover={bucket.url('dover.jsonl')}", bucket.url("musiq")],
        bucket.url(f"new/out.{suffix}"),
        audit_json=bucket.url("new/a.json"),
        storage_options=options,
    )
    assert_frame_equal(
        pm.scan_table(bucket.url(f"new/out.{suffix}"), storage_options=options).collect().select(SAME),
        pm.scan_table(tmp_path / f"out.{suffix}").collect().select(SAME),
    )
    assert [c.matched_rows for c in there.competitors.values()] == [
        c.matched_rows for c in here.competitors.values()
    ]
    audit = json.loads(bucket.get("new/a.json"))["run_provenance"]
    described = [audit["inputs"]["features"], *audit["inputs"]["scores"], audit["outputs"]["out"]]
    assert [part["path"] for part in described] == [
        bucket.url(name)
        for name in (source, "dover.jsonl", "musiq/a.json", "musiq/c.json", f"new/out.{suffix}")
    ]
    for part in described:
        content = bucket.get(part["path"].removeprefix(bucket.url()))
        assert part["sha256"] == hashlib.sha256(content).hexdigest()
        assert (part["bytes"], part["exists"], part["kind"]) == (len(content), True, "file")


def test_labels_and_a_local_output(bucket, options, tmp_path):
    fill(bucket, tmp_path)
    audit = pm.materialize_labels(
        bucket.url("one.parquet"),
        bucket.url("mos.csv"),
        "out.parquet",
        base_dir=tmp_path,
        storage_options=options,
    )
    assert audit.matched_rows == 4
    pm.materialize_labels("one.parquet", "mos.csv", "here.parquet", base_dir=tmp_path)
    out, here = (pl.read_parquet(tmp_path / name).select(SAME) for name in ("out.parquet", "here.parquet"))
    assert_frame_equal(out, here)
    long = pm.scan_labels(bucket.url("mos.csv"), storage_options=options).collect()
    assert long.get_column("value").to_list() == [80, 12.5, 50, 1]


def test_a_local_table_with_an_output_there_is_spliced(bucket, options, tmp_path):
    fill(bucket, tmp_path)
    pm.materialize_scores(
        "one.parquet",
        "dover=dover.jsonl",
        bucket.url("o.parquet"),
        base_dir=tmp_path,
        storage_options=options,
    )
    pm.materialize_scores("one.parquet", "dover=dover.jsonl", "o.parquet", base_dir=tmp_path)
    (tmp_path / "there.parquet").write_bytes(bucket.get("o.parquet"))
    assert_frame_equal(pl.read_parquet(tmp_path / "there.parquet"), pl.read_parquet(tmp_path / "o.parquet"))


def manifest(folder, bucket, options, **more):
    content = {
        "storage_options": options,
        "tables": [
            {
                "id": "one",
                "features": bucket.url("one.parquet"),
                "scores": [f"dover={bucket.url('dover.jsonl')}", bucket.url("musiq/*.json")],
                "out": bucket.url("out/one.parquet"),
                "audit_json": bucket.url("out/one.json"),
            },
            {
                "id": "two",
                "features": "two.csv",
                "scores": ["dover=dover.jsonl"],
                "out": bucket.url("out/two.csv"),
            },
            {
                "id": "gone",
                "features": bucket.url("gone.csv"),
                "scores": [f"dover={bucket.url('dover.jsonl')}"],
                "out": "gone.csv",
            },
        ],
        **more,
    }
    (folder / "m.json").write_text(json.dumps(content))
    return folder / "m.json"


def test_a_batch_with_options_in_its_manifest_and_secrets_nowhere(bucket, options, tmp_path, capsys):
    fill(bucket, tmp_path)
    path = manifest(tmp_path, bucket, {**options, "max_retries": 1})
    words = ["second-opinion", "batch", "--manifest", str(path)]
    outputs = ["--report-json", bucket.url("r/report.json"), "--report-md", str(tmp_path / "report.md")]
    assert main([*words, *outputs]) == 1
    told = capsys.readouterr()
    assert f"table 'gone': {bucket.url('gone.csv')}: no such object" in told.err
    report = json.loads(bucket.get("r/report.json"))
    assert [entry["status"] for entry in report["tables"]] == ["ok", "ok", "error"]
    written = {entry["path"]: entry["sha256"] for entry in report["run_provenance"]["outputs"]["tables"]}
    for name in ("out/one.parquet", "out/one.json", "out/two.csv"):
        assert written[bucket.url(name)] == hashlib.sha256(bucket.get(name)).hexdigest()
    features = {entry["path"]: entry for entry in report["run_provenance"]["inputs"]["features"]}
    assert features[bucket.url("one.parquet")]["bytes"] == len(bucket.get("one.parquet"))
    assert features[bucket.url("gone.csv")]["kind"] == "missing"

    everything = told.out.encode() + told.err.encode() + (tmp_path / "report.md").read_bytes()
    everything += b"".join(bucket.get(key) for key in bucket.list())
    for secret in (KEY, SECRET, options["aws_endpoint_url"]):
        assert secret.encode() not in everything


def test_options_from_python_come_before_those_of_the_manifest(bucket, options, tmp_path):
    fill(bucket, tmp_path)
    wrong = {**options, "aws_endpoint_url": "http://127.0.0.1:9"}
    path = manifest(tmp_path, bucket, wrong)
    report = pm.run_batch(path, storage_options=options)
    assert [entry["status"] for entry in report.tables] == ["ok", "ok", "error"]
    assert SECRET not in repr(report)


def test_saliency_of_a_table_in_a_store(bucket, options, tmp_path):
    (tmp_path / "a.yuv").write_bytes(bytes(64 * 48 * 3 // 2))
    url = bucket.put("f.csv", "src,width,height\na.yuv,64,48\n")
    audit = pm.materialize_saliency(
        url, bucket.url("out.parquet"), base_dir=tmp_path, storage_options=options
    )
    assert (audit.ok, audit.failed) == (1, 0)
    out = pm.scan_table(bucket.url("out.parquet"), storage_options=options).collect()
    assert out.get_column("saliency_status").to_list() == ["ok"]


def test_plans_do_not_show_options(bucket, options):
    pm.sink_table(TABLE, bucket.url("t.parquet"), storage_options=options)
    lf = pm.scan_table(bucket.url("t.parquet"), storage_options=options)
    assert SECRET not in lf.explain() + repr(lf) + lf._repr_html_()


def test_signals_of_tables_in_a_store(bucket, options, tmp_path):
    fill(bucket, tmp_path)
    report = pm.audit_tables(
        f"one={bucket.url('one.parquet')}", out_json=bucket.url("signals.json"), storage_options=options
    )
    assert report.tables[0].label == "one"
    assert SECRET not in bucket.get("signals.json").decode()


# What goes wrong


def failing(height):
    """Rows that cannot all be made."""
    number = pl.when(pl.col("a") == height - 5).then(pl.lit("x")).otherwise(pl.lit("1"))
    return pl.LazyFrame({"a": range(height)}).with_columns(b=number.cast(pl.Int64))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failing_sink_keeps_the_object_and_leaves_no_upload(suffix, bucket, options):
    url = bucket.url(f"t.{suffix}")
    pm.sink_table(TABLE, url, storage_options=options)
    before = bucket.get(f"t.{suffix}")
    with pytest.raises(errors.OutputError, match="could not be written"):
        pm.sink_table(failing(400_000), url, storage_options=options)
    time.sleep(0.3)  # Polars' own sinks complete a broken upload later on
    assert bucket.get(f"t.{suffix}") == before
    assert bucket.list() == [f"t.{suffix}"]
    assert not bucket.uploads()


def test_an_upload_that_fails_half_way_keeps_the_object(bucket, options, tmp_path):
    url = bucket.put("t.bin.csv", "a\n1\n")
    path = tmp_path / "large"
    path.write_bytes(bytes(25 << 20))
    reads = []

    class Failing(type(path)):
        def open(self, *_):
            stream = path.open("rb")

            class Stream:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    stream.close()

                def read(self, size):
                    reads.append(size)
                    if len(reads) > 5:
                        raise OSError(5, "Input/output error")
                    return stream.read(size)

            return Stream()

        def stat(self, **_):
            return path.stat()

    with pytest.raises(stores.StoreError, match="Input/output error"):
        stores.Url(url, options).upload(Failing(path))
    assert bucket.get("t.bin.csv") == b"a\n1\n"
    assert not bucket.uploads()
    stores.Url(url, options).upload(path)
    assert bucket.get("t.bin.csv") == bytes(25 << 20)


def test_a_failing_run_writes_nothing(bucket, options, tmp_path):
    fill(bucket, tmp_path)
    bucket.put("out.parquet", "old")
    before = bucket.list()
    with pytest.raises(errors.MissingScoreError, match="missing_policy 'fail': dover: "):
        pm.materialize_scores(
            bucket.url("one.parquet"),
            f"dover={bucket.url('dover.jsonl')}",
            bucket.url("out.parquet"),
            audit_json=bucket.url("audit.json"),
            missing_policy="fail",
            storage_options=options,
        )
    assert bucket.list() == before
    assert bucket.get("out.parquet") == b"old"


@pytest.mark.parametrize("name", ["one.parquet", "dover.jsonl", "musiq/c.json"])
@pytest.mark.parametrize("hashed", [True, False])
def test_an_input_that_changes_meanwhile_is_noticed(*, name, hashed, bucket, options, tmp_path, monkeypatch):
    fill(bucket, tmp_path)
    bucket.put("out.parquet", "old")
    write = pm.outputs.write

    def change(*args):
        write(*args)
        content = bucket.get(name)
        bucket.put(name, content + b" " if name.endswith("l") else content[::-1])

    monkeypatch.setattr(pm.outputs, "write", change)
    with pytest.raises(errors.InputChangedError, match=f"{name}: changed while it was read"):
        pm.materialize_scores(
            bucket.url("one.parquet"),
            [f"dover={bucket.url('dover.jsonl')}", bucket.url("musiq")],
            bucket.url("out.parquet"),
            storage_options=options,
            hashed=hashed,
        )
    assert bucket.get("out.parquet") == b"old"


def test_an_input_that_changes_before_it_is_copied_is_noticed(bucket, options):
    url = bucket.put("s.jsonl", '{"clip_id": "a", "score": 1}')
    scores = pm.scan_scores(f"dover={url}", storage_options=options)
    bucket.put("s.jsonl", '{"clip_id": "a", "score": 2}')
    with pytest.raises(errors.InputChangedError, match=r"s\.jsonl: changed"):
        scores.collect()


def test_outputs_are_no_inputs(bucket, options, tmp_path):
    fill(bucket, tmp_path)
    run = functools.partial(pm.materialize_scores, storage_options=options, base_dir=tmp_path)
    sidecars = [f"dover={bucket.url('dover.jsonl')}"]
    with pytest.raises(errors.OutputError, match=r"is also the input s3://.*/one\.parquet"):
        run(bucket.url("one.parquet"), sidecars, bucket.url("one.parquet").replace("s3://", "S3://"))
    with pytest.raises(errors.OutputError, match="would be an input too, by 's3://"):
        run(bucket.url("*.parquet"), sidecars, bucket.url("new.parquet"))
    with pytest.raises(errors.OutputError, match="would be an input too, by 's3://"):
        run("one.parquet", [bucket.url("musiq")], bucket.url("musiq/new.json"))
    path = manifest(tmp_path, bucket, options)
    content = json.loads(path.read_text())
    content["tables"][1]["out"] = bucket.url("musiq/two.json")
    path.write_text(json.dumps(content))
    with pytest.raises(errors.ManifestError, match=r"tables\[1\].out: is also an input, \$\.tables\[0\]"):
        pm.run_batch(path)
    with pytest.raises(errors.ManifestError, match=r"\$\.tables\[0\]\.out: is also --report-md"):
        pm.run_batch(manifest(tmp_path, bucket, options), report_md=bucket.url("out/one.parquet"))


def test_readers_of_urls():
    inputs = [("a", "s3://b/x/*.csv"), ("b", "s3://b/y/"), ("c", "s3://b/[1].csv"), ("d", "https://h/*.csv")]
    readers = Readers(None, inputs)
    found = {
        "s3://b/x/1.csv": "a",
        "s3://c/x/1.csv": None,
        "gs://b/x/1.csv": None,
        "s3://b/x/y/1.csv": None,
        "s3://b/y/1.csv": "b",
        "s3://b/y/z/1.csv": "b",
        "s3://b/yy/1.csv": None,
        "s3://b/[1].csv": "c",
        "s3://b/1.csv": "c",
        "https://h/1.csv": None,
    }
    assert {url: readers.of(url) for url in found} == found


def one_line(error):
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({}, "no such object"),
        ({"bucket": "no-such-bucket"}, "no such bucket"),
        ({"aws_skip_signature": "true"}, "not permitted; check the credentials"),
        (
            {"aws_endpoint_url": "http://127.0.0.1:9", "max_retries": 1},
            "the store at http://127.0.0.1:9 cannot be reached",
        ),
        ({"aws_regoin": "x"}, "storage_options: 'aws_regoin' is no option of this kind of store"),
    ],
)
def test_what_stores_refuse_is_one_line(changed, problem, suffix, bucket, options):
    changed = dict(changed)
    url = f"s3://{changed.pop('bucket', bucket.name)}/gone.{suffix}"
    if "aws_skip_signature" in changed:
        bucket.put(f"gone.{suffix}", "a\n1\n")
    begin = time.monotonic()
    with pytest.raises(errors.TableError) as error:
        pm.scan_table(url, storage_options={**options, **changed})
    assert one_line(error).startswith(f"{url}: {problem}")
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"bucket": "no-such-bucket"}, "no such bucket"),
        ({"aws_endpoint_url": "http://127.0.0.1:9", "max_retries": 1}, "cannot be reached"),
    ],
)
def test_what_cannot_be_sent_is_one_line(changed, problem, bucket, options):
    changed = dict(changed)
    url = f"s3://{changed.pop('bucket', bucket.name)}/out.csv"
    with pytest.raises(errors.OutputError) as error:
        pm.sink_table(TABLE, url, storage_options={**options, **changed})
    assert one_line(error).startswith(f"{url}: could not be written: ")
    assert problem in str(error.value)


def test_a_store_that_lets_nothing_be_written(web, options):
    _, address, handler = web
    handler.refuses = True
    options = {**options, "aws_endpoint_url": address}
    for url in ("s3://b/t.csv", "s3://b/t.parquet"):
        with pytest.raises(errors.OutputError) as error:
            pm.sink_table(TABLE, url, storage_options=options)
        assert one_line(error).startswith(
            f"{url}: could not be written: not permitted; check the credentials"
        )
        with pytest.raises(errors.TableError, match=f"{url}: not permitted"):
            pm.scan_table(url, storage_options=options)


def test_a_broken_object_is_named(bucket, options):
    url = bucket.put("broken.parquet", "PAR1 not really")
    with pytest.raises(errors.TableError, match=r"/broken\.parquet: cannot be read: "):
        pm.scan_table(url, storage_options=options)
    url = bucket.put("broken.csv", "a,b\n1\n")
    with pytest.raises(errors.TableError, match=r"/broken\.csv:2: expected 2 cells, found 1"):
        pm.scan_table(url, storage_options=options)


def test_an_object_that_goes_away_meanwhile_is_one_line(bucket, options, tmp_path, monkeypatch):
    fill(bucket, tmp_path)
    plan = pm.score_runs.plan_scores

    def remove(*args, **more):
        bucket.client.delete_object(Bucket=bucket.name, Key="one.parquet")
        return plan(*args, **more)

    monkeypatch.setattr(pm.score_runs, "plan_scores", remove)
    with pytest.raises(errors.TableError) as error:
        pm.materialize_scores(
            bucket.url("one.parquet"),
            f"dover={bucket.url('dover.jsonl')}",
            bucket.url("out.parquet"),
            storage_options=options,
            hashed=False,
        )
    assert one_line(error).startswith(f"{bucket.url('one.parquet')}: cannot be read: ")


def test_an_object_that_goes_away_before_it_is_joined_is_one_line(bucket, options, tmp_path, monkeypatch):
    fill(bucket, tmp_path)
    write = pm.outputs.write

    def remove(*args):
        bucket.client.delete_object(Bucket=bucket.name, Key="one.parquet")
        write(*args)

    monkeypatch.setattr(pm.outputs, "write", remove)
    with pytest.raises(errors.OutputError) as error:
        pm.materialize_scores(
            bucket.url("one.parquet"),
            f"dover={bucket.url('dover.jsonl')}",
            bucket.url("out.parquet"),
            storage_options=options,
            hashed=False,
        )
    assert (
        one_line(error)
        == f"{bucket.url('out.parquet')}: could not be written: one.parquet is not there any more"
    )
    assert "out.parquet" not in bucket.list()


@pytest.mark.parametrize("gone", [True, False])
def test_an_object_that_cannot_be_hashed_is_named(*, gone, bucket, options, tmp_path, monkeypatch):
    fill(bucket, tmp_path)

    def fail(_):
        if gone:
            bucket.client.delete_object(Bucket=bucket.name, Key="one.parquet")
        raise stores.StoreError("the store cannot be reached")

    monkeypatch.setattr(stores.Url, "blocks", fail)
    with pytest.raises((errors.TableError, errors.InputChangedError)) as error:
        pm.materialize_labels(
            bucket.url("one.parquet"),
            tmp_path / "mos.csv",
            bucket.url("out.parquet"),
            min_match_rate=0,
            storage_options=options,
        )
    problem = "" if gone else "cannot be read: the store cannot be reached"
    assert one_line(error).startswith(f"{bucket.url('one.parquet')}: {problem}")
    assert "out.parquet" not in bucket.list()


def test_a_store_without_a_region_is_refused_before_it_is_asked():
    with pytest.raises(errors.TableError, match="no region; expected AWS_REGION"):
        pm.scan_table("s3://bucket/t.csv", storage_options={"aws_access_key_id": KEY})


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://host/t.csv", "unknown kind of store; expected a path, or one of s3:// gs:// az:// https://"),
        ("s3:///t.csv", "expected s3://BUCKET/NAME"),
        ("s3://b//t.csv", "cannot be empty, '.' or '..'"),
        ("s3://b/../t.csv", "cannot be empty, '.' or '..'"),
        ("http://127.0.0.1:9/t.csv", "http:// is not encrypted; expected https://, or allow_http"),
        ("https://me:PASSWORD@host/t.csv", "holds a user or a password"),
        ("https://host/t.csv?X-Amz-Signature=PASSWORD", "a signed url is a secret"),
        (Path("s3://b/t.csv"), "a slash is missing; give urls as text"),
    ],
)
def test_what_is_no_url_of_an_object_is_refused(url, problem):
    for run in (pm.scan_table, pm.scan_labels):
        with pytest.raises(errors.MaterializeError) as error:
            run(url)
        assert problem in str(error.value)
        assert "PASSWORD" not in str(error.value)


@pytest.mark.parametrize("url", ["gs://b/t.csv", "az://b/t.csv", "https://h/t.csv", "s3://b/t.csv/"])
def test_outputs_go_to_s3_only(url, tmp_path):
    (tmp_path / "f.csv").write_text("clip_id\na\n")
    if not url.endswith("/"):
        with pytest.raises(errors.OutputError, match="outputs go to files or to s3://"):
            pm.sink_table(TABLE, url)
    for out, audit in ((url, None), ("out.csv", url)):
        with pytest.raises(errors.OptionError, match=r"outputs go to|unknown kind|not a prefix"):
            pm.materialize_scores("f.csv", "d=d.jsonl", out, audit_json=audit, base_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["f.csv"]


def test_what_must_be_on_this_machine(tmp_path):
    (tmp_path / "f.csv").write_text("src,width,height\ns3://b/clip.yuv,64,48\n")
    with pytest.raises(errors.OptionError, match=r"base_dir: 's3://b' is a url"):
        pm.scan_scores("d=d.jsonl", base_dir="s3://b")
    with pytest.raises(errors.OptionError, match=r"base_dir: 's3://b' is a url"):
        pm.materialize_scores("f.csv", "d=d.jsonl", "out.csv", base_dir="s3://b")
    with pytest.raises(errors.OptionError, match=r"manifest: 's3://b/m\.json' is a url"):
        pm.run_batch("s3://b/m.json")
    with pytest.raises(errors.OptionError, match=r"model_path: 's3://b/m\.onnx' is a url"):
        pm.materialize_saliency("f.csv", "out.csv", base_dir=tmp_path, model_path="s3://b/m.onnx")
    with pytest.raises(errors.OptionError, match=r"baseline: 's3://b/r\.json' is a url"):
        pm.audit_tables("f.csv", base_dir=tmp_path, baseline="s3://b/r.json")
    audit = pm.materialize_saliency("f.csv", "out.csv", base_dir=tmp_path)
    assert audit.failures[0].status == "missing-source"
    assert audit.failures[0].message == "No such file: clips are read from this machine only, not by url"


def test_wrong_options_are_refused_without_their_values(tmp_path):
    for wrong in ({"aws_region": ["SECRET"]}, {"aws_region": None}, ["SECRET"], {"max_retries": "SECRET"}):
        with pytest.raises(errors.OptionError, match="storage_options") as error:
            pm.scan_table("t.csv", storage_options=wrong)
        assert "SECRET" not in str(error.value)
        path = tmp_path / "m.json"
        path.write_text(json.dumps({"storage_options": wrong, "tables": [{}]}))
        with pytest.raises(errors.ManifestError) as error:
            pm.run_batch(path)
        assert "SECRET" not in str(error.value)


def test_urls_of_a_manifest_are_checked_before_anything_runs(tmp_path):
    table = {"id": "t", "features": "f.csv", "scores": ["d=d.jsonl"], "out": "out.csv"}
    for field, url in (("features", "https://h/f.csv?sig=PASSWORD"), ("audit_json", "gs://b/a.json")):
        path = tmp_path / "m.json"
        path.write_text(json.dumps({"tables": [{**table, field: url}]}))
        with pytest.raises(errors.ManifestError, match=rf"\$\.tables\[0\]\.{field}: ") as error:
            pm.run_batch(path)
        assert "PASSWORD" not in str(error.value)
        assert [entry.name for entry in tmp_path.iterdir()] == ["m.json"]


def test_an_older_state_of_a_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    objects._bucket.cache_clear()
    with pytest.raises(errors.ExtraError, match=r"polars-materialize\[cloud\]"):
        pm.scan_table("s3://b/t.csv", storage_options={"aws_region": "x"})


# Options


def test_options_are_translated():
    own = for_scheme({"aws_allow_http": True, "max_retries": 7, "google_service_account": "x"}, "s3")
    assert own == {"aws_allow_http": "true", "max_retries": "7"}
    assert for_polars(own) == {"aws_allow_http": "true", "max_retries": 7}
    for_store = for_obstore(own)
    assert for_store["config"] == {}
    assert for_store["client_options"]["allow_http"] == "true"
    assert for_store["retry_config"]["max_retries"] == 7
    assert for_scheme({"aws_endpoint_url": "http://h"}, "s3") == {
        "aws_endpoint_url": "http://h",
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    assert for_scheme({"google_service_account": "x", "aws_region": "y"}, "gs") == {
        "google_service_account": "x"
    }
    assert check_storage_options(None) == {}


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_stores_of_other_kinds_are_opened_and_their_errors_told(scheme):
    options = {
        "azure_storage_account_name": "devstoreaccount1",
        "azure_storage_account_key": "c2VjcmV0c2VjcmV0",
        "azure_endpoint": "http://127.0.0.1:9/devstoreaccount1",
        "google_skip_signature": "true",
        "google_base_url": "http://127.0.0.1:9",
        "azure_allow_http": "true",
        "google_allow_http": "true",
        "max_retries": 0,
    }
    with pytest.raises(errors.TableError) as error:
        pm.scan_table(f"{scheme}://b/t.csv", storage_options=options)
    assert str(error.value).startswith(f"{scheme}://b/t.csv: ")
    assert "\n" not in str(error.value)
    assert "c2VjcmV0" not in str(error.value)


def test_real_names_of_urls(tmp_path):
    assert urls.real(tmp_path, "S3://b/x") == "s3://b/x"
    assert urls.real(tmp_path, "https://HOST/x y#part") == "https://host/x%20y"
    assert urls.real(tmp_path, "x") == str(tmp_path.resolve() / "x")
    assert "SECRET" not in repr(stores.Url("s3://b/x", {"aws_secret_access_key": "SECRET"}))


# The web


class Plain(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; it knows no ranges."""

    protocol_version = "HTTP/1.1"
    no_head = False
    refuses = False
    short = False
    says_little = False
    moved_to = None

    def log_message(self, *_):
        pass

    def parse_request(self):
        fine = super().parse_request()
        if fine and self.refuses:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_error(403)
        return fine and not self.refuses

    def do_HEAD(self):
        if self.no_head:
            self.send_error(405)
        else:
            super().do_HEAD()

    def do_GET(self):
        if self.moved_to:
            self.send_response(302)
            self.send_header("Location", self.moved_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.says_little:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(Path(self.translate_path(self.path)).read_bytes())
            self.close_connection = True
        elif self.short:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"a\n1\n")
            self.close_connection = True
        else:
            super().do_GET()


@pytest.fixture
def web(tmp_path):
    """A folder that a web server shows, the server's address, and its handler."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = type("Handler", (Plain,), {})
    make = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


HTTP = {"allow_http": True, "max_retries": 0}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("no_head", [True, False])
def test_tables_of_the_web(suffix, no_head, web):
    folder, address, handler = web
    handler.no_head = no_head
    pm.sink_table(TABLE, folder / f"t é.{suffix}")
    lf = pm.scan_table(f"{address}/t é.{suffix}?version=1", storage_options=HTTP)
    assert_frame_equal(lf.collect(), TABLE)
    assert_frame_equal(lf.filter(pl.col("n") > 1).select("clip_id").collect(), TABLE[1:].select("clip_id"))
    assert lf.select(pl.len()).collect().item() == 4
    assert_frame_equal(lf.head(2).collect(), TABLE.head(2))


def test_a_run_from_the_web(web, tmp_path):
    folder, address, _ = web
    pl.DataFrame({"clip_id": ["a", "b"], "vmaf": [1.0, 2.0]}).write_parquet(folder / "f.parquet")
    (folder / "s.jsonl").write_text('{"clip_id": "a", "score": 0.5}\n')
    audit = pm.materialize_scores(
        f"{address}/f.parquet",
        f"dover={address}/s.jsonl",
        tmp_path / "out.parquet",
        storage_options=HTTP,
    )
    described = audit.run_provenance["inputs"]["features"]
    assert described["sha256"] == hashlib.sha256((folder / "f.parquet").read_bytes()).hexdigest()
    assert pl.read_parquet(tmp_path / "out.parquet").get_column("second_opinion_dover_score").to_list() == [
        0.5,
        None,
    ]
    assert Splice.of(find(f"{address}/f.parquet", storage_options=HTTP), {}) is not None


def test_errors_of_the_web_are_one_line(web):
    folder, address, handler = web

    def problem(url, **more):
        with pytest.raises(errors.TableError) as error:
            pm.scan_table(url, storage_options={**HTTP, **more}).collect()
        return one_line(error)

    assert problem(f"{address}/no.csv") == f"{address}/no.csv: no such object"
    assert "the server cannot be reached: Connection refused" in problem("http://127.0.0.1:9/t.csv")
    (folder / "t.csv").write_text("a\n1\n")
    handler.short, handler.no_head = True, True
    assert "the connection broke after 4 of 1,000 bytes" in problem(f"{address}/t.csv")
    handler.moved_to = "ftp://127.0.0.1/t.csv"
    assert "points to a place that is not https://" in problem(f"{address}/t.csv")
    assert "not encrypted" in problem(f"{address}/t.csv", allow_http=False)


def test_a_file_of_the_web_that_changes_is_noticed(web):
    folder, address, _ = web
    (folder / "s.jsonl").write_text('{"clip_id": "a", "score": 1}')
    scores = pm.scan_scores(f"dover={address}/s.jsonl", storage_options=HTTP)
    (folder / "s.jsonl").write_text('{"clip_id": "a", "score": 11}')
    with pytest.raises(errors.InputChangedError, match=r"/s\.jsonl: changed while it was read"):
        scores.collect()


def test_a_server_that_says_neither_size_nor_time(web, tmp_path):
    folder, address, handler = web
    handler.no_head = handler.says_little = True
    (folder / "f.csv").write_text("clip_id,vmaf\na,1\n")
    (folder / "s.jsonl").write_text('{"clip_id": "a", "score": 0.5}\n')
    audit = pm.materialize_scores(
        f"{address}/f.csv", f"dover={address}/s.jsonl", tmp_path / "out.csv", storage_options=HTTP
    )
    described = audit.run_provenance["inputs"]["features"]
    assert described["sha256"] == hashlib.sha256((folder / "f.csv").read_bytes()).hexdigest()
    assert (described["exists"], described["bytes"]) == (True, None)


# Light


def test_nothing_of_stores_is_imported_before_it_is_needed():
    code = (
        "import sys, polars_materialize.tables; "
        "print(sorted({'obstore', 'urllib.request', 'http.client'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
