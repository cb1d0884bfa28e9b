"""Runs that add saliency: tables, audits, batches, the command line, and how runs end."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import saliency_oracle as oracle
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.cli import main

REPOSITORY = Path(pm.__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
OPTIONS = {
    "path_column": "src",
    "width_column": "width",
    "height_column": "height",
    "root": None,
    "ffmpeg_bin": None,
    "ffprobe_bin": None,
    "model_path": None,
    "model_id": None,
    "max_frames": 8,
    "frame_samples": 8,
    "frame_selection": "first",
    "temporal_aggregator": "mean",
    "ema_alpha": 0.6,
    "overwrite": False,
    "status_column": "saliency_status",
    "model_id_column": "saliency_model_id",
    "aggregator_column": "saliency_aggregator",
    "ema_alpha_column": "saliency_ema_alpha",
    "default_width": 0,
    "default_height": 0,
    "decode_timeout_s": 300.0,
    "max_pixels": 9_437_184,
    "matrix": "bt709",
    "hash_clips": True,
}
FEATURES = """src,width,height,vmaf
a.mkv,,,1
b.mkv,16,12,2
a.mkv,,,3
gone.mkv,,,4
,,,5
r.yuv,16,12,6
r.yuv,,,7
broken.mkv,,,8
b.mkv,99,12,9
"""
LINE = "saliency materialize: total=9 ok=5 skipped=0 failed=4\n"


def fill(folder, networks):
    """Writes a bundle: tables, clips, a network."""
    clips = folder / "clips"
    clips.mkdir(parents=True)
    for index, name in enumerate(("a.mkv", "b.mkv")):
        (clips / name).write_bytes(oracle.noise_clip(3, 16, 12, index))
    oracle.raw(clips / "r.yuv", oracle.noise(2, 16, 12, seed=5))
    (clips / "broken.mkv").write_bytes(b"no clip")
    (folder / "f.csv").write_text(FEATURES)
    (folder / "good.csv").write_text("src,vmaf\na.mkv,1\nb.mkv,2\na.mkv,3\n")
    shutil.copy(networks / "block.onnx", folder / "net.onnx")
    return folder


@pytest.fixture
def bundle(tmp_path, networks, monkeypatch):
    """A bundle as the current folder."""
    monkeypatch.chdir(fill(tmp_path / "bundle", networks))
    return tmp_path / "bundle"


def run(**options):
    """Runs the bundle's table."""
    return pm.materialize_saliency(
        options.pop("input", "f.csv"), options.pop("output", "o.csv"), **{"root": "clips", **options}
    )


def program(path, text):
    """Writes a program."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def real(command, folder, **options):
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "polars_materialize", *command.split()],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def as_text(frame):
    """Enum and Categorical columns as the text they hold."""
    return frame.with_columns(pl.col(pl.Enum, pl.Categorical).cast(pl.String))


def described(folder, name):
    """How provenance has to describe a file that is there."""
    content = (Path(folder) / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"path": name, "exists": True, "kind": "file", "sha256": digest, "bytes": len(content)}


def files_of(folder):
    """Every file below a folder, with its bytes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def load(path):
    """A report."""
    return json.loads(Path(path).read_text())


# --- the table ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json", ".csv", ".arrow", ".csv.gz", ".jsonl.zst"])
def test_tables_of_every_format(suffix):
    table = pm.scan_table("f.csv").collect()
    pm.sink_table(table, f"g{suffix}")

    audit = run(input=f"g{suffix}", output=f"new/o{suffix}")

    found = as_text(pm.scan_table(f"new/o{suffix}").collect())
    expected = as_text(pm.add_saliency(table, root="clips"))
    assert_frame_equal(found, expected, check_dtypes=False)
    assert (audit.total, audit.ok, audit.failed) == (9, 5, 4)
    assert [path.name for path in Path("new").iterdir()] == [f"o{suffix}"]


@pytest.mark.usefixtures("bundle")
def test_shards_are_one_table():
    table = pm.scan_table("f.csv").collect()
    for index in (1, 0, 2):
        table[index * 3 : index * 3 + 3].write_parquet(f"s{index}.parquet")

    audit = run(input="s*.parquet", output="o.parquet")

    assert pl.read_parquet("o.parquet")["vmaf"].to_list() == list(range(1, 10))
    assert (audit.total, audit.clips.total) == (9, run(output="p.csv").clips.total)
    assert [file["path"] for file in audit.run_provenance["inputs"]["input"]] == [
        f"s{index}.parquet" for index in range(3)
    ]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_a_run_takes_up_what_an_earlier_one_could_not_do(suffix):
    pm.sink_table(pm.scan_table("f.csv"), f"g{suffix}")
    run(input=f"g{suffix}", output=f"first{suffix}", root="elsewhere")
    assert set(as_text(pm.scan_table(f"first{suffix}").collect())["saliency_status"]) == {"missing-source"}

    second = run(input=f"first{suffix}", output=f"second{suffix}")
    third = run(input=f"second{suffix}", output=f"third{suffix}")

    assert (second.ok, second.skipped_existing, second.failed) == (5, 0, 4)
    assert (third.ok, third.skipped_existing, third.failed) == (0, 5, 4)
    direct = as_text(pm.add_saliency(pm.scan_table(f"g{suffix}").collect(), root="clips"))
    found = as_text(pm.scan_table(f"second{suffix}").collect())
    assert_frame_equal(found, direct, check_dtypes=False)


@pytest.mark.usefixtures("bundle")
def test_without_a_root_clips_are_relative_to_base_dir(monkeypatch, tmp_path):
    shutil.copy("good.csv", "clips/good.csv")
    monkeypatch.chdir(tmp_path)

    audit = pm.materialize_saliency("good.csv", "o.csv", base_dir="bundle/clips")

    assert (audit.ok, audit.failed) == (3, 0)
    assert Path("bundle/clips/o.csv").exists()


# --- the audit ----------------------------------------------------------------------------------------


def test_the_audit(bundle):
    audit = run(audit_json="a/a.json", model_path="net.onnx", model_id="m", temporal_aggregator="ema")
    stored = load("a/a.json")

    provenance = stored.pop("run_provenance")
    failures = stored.pop("failures")
    assert list(stored) == sorted(stored)
    assert stored == {
        "schema": "saliency-materializer-audit-v1",
        "input": "f.csv",
        "output": "o.csv",
        "config": {
            **OPTIONS,
            "root": "clips",
            "model_path": "net.onnx",
            "model_id": "m",
            "temporal_aggregator": "ema",
        },
        "model_id": "m",
        "total": 9,
        "ok": 5,
        "skipped_existing": 0,
        "failed": 4,
        "statuses": {
            "ok": 5,
            "skipped-existing": 0,
            "missing-source": 2,
            "missing-geometry": 1,
            "decode-failed": 1,
            "model-failed": 0,
        },
        "clips": {"total": 6, "ok": 3, "failed": 3, "frames": 8},
        "other_tags": {"clips": 0, "matrix": {}, "transfer": {}},
        "geometry_mismatch_rows": 1,
        "shards": {"read": 1, "written": 1},
        "summary": {"total": 9, "ok": 5, "skipped_existing": 0, "failed": 4},
        "table_id": None,
        "batch_manifest": None,
        "warnings": [],
        "columns": ["src", "width", "height", "vmaf"],
        "columns_added": [
            f"saliency_{name}" for name in ("mean", "var", "status", "model_id", "aggregator", "ema_alpha")
        ],
    }
    assert [(f["path"], f["status"], f["rows"]) for f in failures] == [
        ("broken.mkv", "decode-failed", 1),
        ("gone.mkv", "missing-source", 1),
        ("r.yuv", "missing-geometry", 1),
        (None, "missing-source", 1),
    ]
    assert all(f["message"] and set(f) == {"path", "status", "message", "rows"} for f in failures)
    assert audit.run_provenance == provenance
    assert str(bundle) not in Path("a/a.json").read_text()


@pytest.mark.usefixtures("bundle")
def test_the_audit_shows_the_first_50_failures_and_counts_all():
    names = [f"gone{index:03}.mkv" for index in range(60)]
    pl.DataFrame({"src": [*names, *names, "a.mkv"]}).write_csv("many.csv")

    audit = run(input="many.csv")

    assert [failure.path for failure in audit.failures] == names[:50]
    assert {failure.rows for failure in audit.failures} == {2}
    assert {failure.message for failure in audit.failures} == {"No such file or directory"}
    assert (audit.total, audit.ok, audit.failed) == (121, 1, 120)
    assert (audit.clips.total, audit.clips.ok, audit.clips.failed) == (61, 1, 60)


@pytest.mark.usefixtures("bundle")
def test_failures_of_clips_that_rows_have_values_for_are_none():
    pl.DataFrame(
        {"src": ["gone.mkv", "a.mkv"], "saliency_mean": [0.5, 0.5], "saliency_var": [0.1, None]}
    ).write_csv("had.csv")

    audit = run(input="had.csv")

    assert (audit.ok, audit.skipped_existing, audit.failed) == (1, 1, 0)
    assert audit.failures == []
    assert audit.clips.total == 1


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("width", "height", "mismatch"),
    [
        (16, 12, 0),
        (12, 16, 0),
        (None, None, 0),
        (0, 0, 0),
        (16, None, 0),
        (17, 12, 1),
        (16, 16, 1),
        (99, 99, 1),
    ],
)
def test_rows_that_give_a_turned_clip_another_geometry_are_counted(width, height, mismatch):
    oracle.encode(Path("clips/turned.mkv"), oracle.noise(1, 16, 12), rotation=90)
    rows = {"src": ["turned.mkv"] * 3, "width": [width] * 3, "height": [height] * 3}
    pl.DataFrame(rows, schema_overrides={"width": pl.Int64, "height": pl.Int64}).write_parquet("t.parquet")

    audit = run(input="t.parquet")

    assert (audit.ok, audit.geometry_mismatch_rows) == (3, 3 * mismatch)


@pytest.mark.usefixtures("bundle")
def test_raw_video_and_failures_never_mismatch():
    pl.DataFrame({"src": ["r.yuv", "gone.mkv"], "width": [16, 5], "height": [12, 5]}).write_csv("t.csv")

    assert run(input="t.csv").geometry_mismatch_rows == 0


@pytest.mark.usefixtures("bundle")
def test_a_parquet_output_carries_its_audit():
    run(output="o.parquet", audit_json="a.json")

    metadata = pq.read_metadata("o.parquet").metadata
    [footer] = [json.loads(text) for key, text in metadata.items() if b"polars_materialize" in key]
    assert {**footer, "run_provenance": None} == {**load("a.json"), "run_provenance": None}
    assert footer["schema"] == "saliency-materializer-audit-v1"
    assert pq.read_table("o.parquet").column("saliency_status").to_pylist()[0] == "ok"


@pytest.mark.usefixtures("bundle")
def test_an_audit_shows_itself_in_notebooks():
    shown = run()._repr_markdown_()

    assert "3 of 6 clips measured" in shown
    assert "| missing-source | 2 |" in shown
    assert "model-failed" not in shown


# --- provenance ---------------------------------------------------------------------------------------


def test_provenance_names_every_input_and_output(bundle):
    run(audit_json="a.json", model_path="net.onnx", argv=["x"])
    provenance = load("a.json")["run_provenance"]

    assert provenance["schema"] == "ai-run-provenance-v1"
    assert provenance["argv"] == ["x"]
    missing = {"exists": False, "kind": "missing", "sha256": None, "bytes": None}
    there = ("a.mkv", "b.mkv", "broken.mkv")
    clips = [
        *(described(bundle, f"clips/{name}") for name in there),
        {"path": "clips/gone.mkv", **missing},
        described(bundle, "clips/r.yuv"),
    ]
    assert provenance["inputs"] == {
        "input": described(bundle, "f.csv"),
        "model_path": described(bundle, "net.onnx"),
        "clips": clips,
    }
    assert provenance["outputs"] == {"output": described(bundle, "o.csv")}
    paths = {"input": "f.csv", "output": "o.csv", "audit_json": "a.json", "partition_by": None}
    assert provenance["args"] == {**OPTIONS, "root": "clips", "model_path": "net.onnx", **paths}
    assert provenance["entrypoint"]["module"] == "polars_materialize"
    assert provenance["versions"]["polars_materialize"] == pm.__version__
    packages = ("polars", "pyarrow", "numpy", "av", "onnxruntime")
    assert {name: provenance["versions"].get(name) for name in packages} == {
        name: version(name) for name in packages
    }


@pytest.mark.usefixtures("bundle")
def test_versions_are_those_of_what_a_run_used(ffmpeg):
    told = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, check=True).stdout

    plain = run().run_provenance["versions"]
    program_used = run(ffmpeg_bin=ffmpeg).run_provenance["versions"]

    assert "onnxruntime" not in plain
    assert plain["av"] == version("av")
    assert "av" not in program_used
    assert told.startswith(f"ffmpeg version {program_used['ffmpeg']} ")


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("output", ["output", "audit_json"])
@pytest.mark.parametrize("role", ["f.csv", "net.onnx"])
@pytest.mark.parametrize("way", ["same", "dots", "symlink", "hard link"])
def test_an_output_that_is_an_input_is_refused(output, role, way):
    suffix = ".csv" if output == "output" else ".json"
    written = {"same": role, "dots": f"clips/../{role}"}.get(way, f"x{suffix}")
    if way == "symlink":
        Path(written).symlink_to(role)
    elif way == "hard link":
        os.link(role, written)
    elif output == "output" and role == "net.onnx":
        shutil.copy("net.onnx", "net.csv")
        role = "net.csv"
        written = written.replace("net.onnx", role)
    before = files_of(Path())

    with pytest.raises(errors.OutputError, match="is also the input"):
        run(model_path="net.onnx" if role == "f.csv" else role, **{output: written})

    assert files_of(Path()) == before


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("output", ["output", "audit_json"])
def test_an_output_that_is_a_clip_is_refused(output):
    shutil.copy("clips/a.mkv", "clips/clip.csv")
    pl.DataFrame({"src": ["b.mkv", "clip.csv"]}).write_csv("f.csv")
    before = files_of(Path())

    with pytest.raises(errors.OutputError) as caught:
        run(**{output: "./clips/clip.csv"})

    assert "'clip.csv'" in str(caught.value)
    assert files_of(Path()) == before


@pytest.mark.usefixtures("bundle")
def test_a_model_that_changes_during_the_run_is_refused(ffmpeg):
    program(
        Path("bin/ffmpeg"),
        f'#!/bin/sh\ncase "$*" in *" -i "*) echo >> net.onnx ;; esac\nexec "{ffmpeg}" "$@"\n',
    )
    Path("o.csv").write_text("old")

    with pytest.raises(errors.InputChangedError, match=r"net\.onnx: changed"):
        run(model_path="net.onnx", ffmpeg_bin="bin/ffmpeg")

    assert Path("o.csv").read_text() == "old"


@pytest.mark.parametrize("programs", [False, True])
def test_the_same_bundle_in_another_folder_gives_the_same_bytes(tmp_path, networks, ffmpeg, programs):
    tables = [
        {"id": "one", "input": "f.csv", "output": "o/1.parquet", "audit_json": "o/1.json", "root": "clips"},
        {
            "id": "two",
            "input": "f.csv",
            "output": "o/2.jsonl",
            "audit_json": "o/2.json",
            "root": "clips",
            "model_path": "net.onnx",
            "temporal_aggregator": "motion-weighted",
            **({"ffmpeg_bin": "bin/ffmpeg"} if programs else {"frame_selection": "uniform"}),
        },
        {"id": "three", "input": "f.csv", "output": "o/3.csv", "model_path": "no.onnx"},
    ]
    found = []
    for name in ("here", "far/away"):
        folder = fill(tmp_path / name, networks)
        without = oracle.encode(folder / "w.mp4", oracle.noise(2), codec="libx264").read_bytes()
        (folder / "clips" / "broken.mkv").write_bytes(without[: without.index(b"moov") - 4])
        program(folder / "bin" / "ffmpeg", f'#!/bin/sh\nexec "{ffmpeg}" "$@"\n')
        (folder / "m.json").write_text(json.dumps({"tables": tables}))
        status = real(
            "saliency batch --manifest m.json --report-json o/r.json --report-md o/r.md", folder
        ).returncode
        assert status == 1
        found.append(files_of(folder / "o"))

    assert found[0] == found[1]
    assert sorted(found[0]) == ["1.json", "1.parquet", "2.json", "2.jsonl", "r.json", "r.md"]
    assert not any(str(tmp_path).encode() in content for content in found[0].values())


@pytest.mark.usefixtures("bundle")
def test_audits_hold_no_clock():
    run(audit_json="a.json", output="o.parquet")
    first = files_of(Path())
    for name in ("f.csv", "clips/a.mkv", "clips/broken.mkv"):
        os.utime(name, ns=(10**18, 10**18))

    run(audit_json="a.json", output="o.parquet")

    assert files_of(Path()) == first


# --- refused runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"model_path": "no.onnx"}, errors.ModelError),
        ({"model_path": "f.csv"}, errors.ModelError),
        ({"model_path": "clips"}, errors.ModelError),
        ({"input": "no.csv"}, errors.TableError),
        ({"path_column": "path"}, errors.KeyColumnError),
        ({"status_column": "src"}, errors.OptionError),
        ({"ema_alpha": 2}, errors.OptionError),
        ({"ffmpeg_bin": "no/ffmpeg"}, errors.OptionError),
        ({"output": "o.xlsx"}, errors.OptionError),
        ({"audit_json": ""}, errors.OptionError),
    ],
)
def test_a_refused_run_writes_nothing(bundle, options, error):
    Path("o.csv").write_text("old table")
    Path("a.json").write_text("old audit")
    before = files_of(bundle)

    with pytest.raises(error) as caught:
        run(**{"audit_json": "a.json", **options})

    assert "\n" not in str(caught.value)
    assert files_of(bundle) == before


@pytest.mark.usefixtures("bundle")
def test_a_refused_run_decodes_nothing(ffmpeg):
    program(
        Path("bin/ffmpeg"),
        f'#!/bin/sh\ncase "$*" in *" -i "*) echo >> calls ;; esac\nexec "{ffmpeg}" "$@"\n',
    )
    pl.DataFrame({"src": ["a.mkv"], "saliency_mean": ["text"]}).write_csv("bad.csv")

    for options, words in (
        ({"model_path": "f.csv"}, "not an ONNX network"),
        ({"input": "bad.csv"}, "'saliency_mean'"),
        ({"status_column": "src"}, "status_column"),
    ):
        with pytest.raises(errors.MaterializeError, match=words):
            run(ffmpeg_bin="bin/ffmpeg", **options)

    assert not Path("calls").exists()
    run(ffmpeg_bin="bin/ffmpeg")
    assert Path("calls").exists()


# --- the command line ---------------------------------------------------------------------------------

TABLE = "saliency table --input f.csv --output o.csv --root clips"
GOOD = "saliency table --input good.csv --output o.csv --root clips"


def test_a_real_run(bundle):
    result = real(f"{GOOD} --audit-json a/b.json", bundle)

    line = "saliency materialize: total=3 ok=3 skipped=0 failed=0\n"
    assert (result.returncode, result.stdout, result.stderr) == (0, "", line)
    assert (bundle / "o.csv").read_text().count("\n") == 4
    provenance = load("a/b.json")["run_provenance"]
    assert provenance["argv"] == f"{GOOD} --audit-json a/b.json".split()
    assert provenance["entrypoint"]["run"] == "saliency table"


def test_a_real_run_with_failures_writes_its_table_and_exits_with_1(bundle):
    result = real(f"{TABLE} --audit-json a.json", bundle)

    lines = result.stderr.splitlines(keepends=True)
    assert (result.returncode, result.stdout, lines[-1]) == (1, "", LINE)
    assert len(lines) == 5
    assert "gone.mkv: missing-source: No such file or directory\n" in lines
    assert "a row without a path: missing-source: the row names no clip\n" in lines
    assert (bundle / "o.csv").read_text().count("\n") == 10
    assert load("a.json")["failed"] == 4


@pytest.mark.usefixtures("bundle")
def test_a_run_shows_ten_failures_and_counts_the_others(capsys):
    pl.DataFrame({"src": [f"gone{index:02}" for index in range(14)]}).write_csv("f.csv")

    status = main(TABLE.split())

    lines = capsys.readouterr().err.splitlines()
    assert status == 1
    assert [line.split(":")[0] for line in lines[:10]] == [f"gone{index:02}" for index in range(10)]
    assert lines[10].startswith("and 4 more")
    assert len(lines) == 12


@pytest.mark.usefixtures("bundle")
def test_a_failure_is_one_line_whatever_the_path_is(capsys):
    pl.DataFrame({"src": ["new\nline.mkv", "tab\r\n\u2028.mkv", "wipe\x1b[2J.mkv"]}).write_parquet(
        "f.parquet"
    )

    status = main(f"{TABLE} --input f.parquet".split())

    shown = capsys.readouterr().err
    assert status == 1
    assert len(shown.splitlines()) == 4
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", {}),
        ("--path-column vmaf", {"path_column": "vmaf"}),
        ("--width-column vmaf --height-column w", {"width_column": "vmaf", "height_column": "w"}),
        ("--model-path net.onnx", {"model_path": "net.onnx"}),
        ("--model-id spectral_residual", {"model_id": "spectral_residual"}),
        ("--max-pixels 191", {"max_pixels": 191}),
        ("--matrix as-tagged", {"matrix": "as-tagged"}),
        ("--no-hash-clips", {"hash_clips": False}),
        ("--max-frames 2", {"max_frames": 2}),
        ("--frame-samples 1", {"frame_samples": 1}),
        ("--frame-selection uniform", {"frame_selection": "uniform"}),
        ("--temporal-aggregator max", {"temporal_aggregator": "max"}),
        (
            "--temporal-aggregator ema --ema-alpha 0.3",
            {"temporal_aggregator": "ema", "ema_alpha": 0.3},
        ),
        ("--temporal-aggregator motion-weighted", {"temporal_aggregator": "motion-weighted"}),
        ("--overwrite", {"overwrite": True}),
        ("--status-column s", {"status_column": "s"}),
        ("--status-column=", {"status_column": ""}),
        ("--model-id-column m --aggregator-column=", {"model_id_column": "m", "aggregator_column": ""}),
        ("--ema-alpha-column e", {"ema_alpha_column": "e"}),
        ("--default-width 16 --default-height 12", {"default_width": 16, "default_height": 12}),
        ("--decode-timeout-s 7.5", {"decode_timeout_s": 7.5}),
    ],
)
@pytest.mark.usefixtures("bundle")
def test_options_are_those_of_the_library(words, options):
    status = main(f"{TABLE} --audit-json a.json {words}".split())
    audit = run(output="library.csv", audit_json="b.json", **options)

    assert status == 1
    assert Path("o.csv").read_bytes() == Path("library.csv").read_bytes()
    stored = load("a.json")
    assert stored["config"] == {**OPTIONS, "root": "clips", **options}
    assert stored["statuses"] == audit.statuses
    args, other = stored["run_provenance"]["args"], audit.run_provenance["args"]
    assert {**args, "output": "", "audit_json": ""} == {**other, "output": "", "audit_json": ""}


@pytest.mark.usefixtures("bundle")
def test_programs_may_be_named_on_the_command_line(ffmpeg):
    status = main(f"{GOOD} --ffmpeg-bin {ffmpeg} --audit-json a.json".split())

    assert status == 0
    assert load("a.json")["config"]["ffmpeg_bin"] == ffmpeg
    expected = pm.add_saliency(pm.scan_table("good.csv").collect(), root="clips")
    found = pm.scan_table("o.csv").collect()
    assert found["saliency_mean"].to_list() == pytest.approx(expected["saliency_mean"].to_list(), abs=1e-9)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("saliency table --input f.csv", 2, "Missing option '--output'"),
        ("saliency table --output o.csv", 2, "Missing option '--input'"),
        (f"{TABLE} --temporal-aggregator median", 2, "'median' is not one of"),
        (f"{TABLE} --frame-selection last", 2, "'last' is not one of"),
        (f"{TABLE} --max-frames many", 2, "'many' is not a valid integer"),
        (f"{TABLE} --max-frames 0", 2, "max_frames: 0"),
        (f"{TABLE} --ema-alpha 0", 2, "ema_alpha"),
        (f"{TABLE} --decode-timeout-s -1", 2, "decode_timeout_s"),
        (f"{TABLE} --output o.xlsx", 2, "o.xlsx"),
        (f"{TABLE} --ffmpeg-bin no/such", 2, "ffmpeg_bin: 'no/such' is not there"),
        (f"{TABLE} --nope", 2, "No such option"),
        (f"{TABLE} --model-path no.onnx", 1, "no.onnx: cannot be read: No such file or directory"),
        (f"{TABLE} --model-path f.csv", 1, "f.csv: not an ONNX network"),
        (f"{TABLE} --path-column path", 1, "no path column 'path'"),
        (f"{TABLE} --input no.csv", 1, "no.csv: no such file"),
        (f"{TABLE} --output f.csv", 1, "f.csv"),
    ],
)
def test_mistakes_are_one_line(bundle, words, status, said, capsys):
    before = files_of(bundle)

    found = main(words.split())

    shown = capsys.readouterr()
    assert (found, shown.out) == (status, "")
    assert said in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert files_of(bundle) == before


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "table",
            [
                *("--input", "--output", "--audit-json", "--partition-by", "--jobs", "--dask"),
                *(f"--{option.replace('_', '-')}" for option in OPTIONS),
            ],
        ),
        (
            "batch",
            [
                *("--manifest", "--base-dir", "--report-json", "--report-md"),
                *("--fail-fast", "--allow-row-failures", "--jobs", "--dask"),
            ],
        ),
    ],
)
def test_help_names_every_option(command, expected, capsys):
    status = main(["saliency", command, "--help"])

    shown = re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert status == 0
    assert sorted(shown) == sorted([*expected, "--help"])


# --- batches ------------------------------------------------------------------------------------------


def tables_of(**changes):
    """Three tables, of which `changes` changes the second."""
    common = {"root": "clips"}
    return [
        {"id": "one", "input": "good.csv", "output": "o/one.csv", "audit_json": "a/one.json", **common},
        {"id": "two", "input": "good.csv", "output": "o/two.parquet", **common, **changes},
        {"id": "three", "input": "good.csv", "output": "o/three.jsonl", **common, "model_path": "net.onnx"},
    ]


def manifest(tables, **top):
    """Writes a manifest."""
    Path("m.json").write_text(json.dumps({"tables": tables, **top}))


def batch(words=""):
    """Runs the manifest, with a report."""
    return main(f"saliency batch --manifest m.json --report-json r.json --report-md r.md {words}".split())


def test_the_report_of_a_batch(bundle, capsys):
    manifest(tables_of(input="f.csv", overwrite=True), defaults={"max_frames": 2}, _note="a comment")

    status = batch("--allow-row-failures")

    report = load("r.json")
    line = "saliency batch materialize: tables=3 total=15 ok=11 skipped=0 failed=4 failed_tables=0\n"
    said = capsys.readouterr().err.splitlines(keepends=True)
    assert (status, said[-1]) == (0, line)
    assert [one.partition(": ")[2].rpartition(": ")[0] for one in said[:-1]] == [
        "broken.mkv: decode-failed: Invalid data found when processing input",
        "gone.mkv: missing-source",
        "r.yuv: missing-geometry",
        "a row without a path: missing-source",
    ]
    assert list(report) == sorted(report)
    assert report["schema"] == "saliency-materializer-batch-v1"
    assert (report["status"], report["manifest"]) == ("row-failures", "m.json")
    assert report["summary"] == {
        "tables": 3,
        "failed_tables": 0,
        "total": 15,
        "ok": 11,
        "skipped_existing": 0,
        "failed": 4,
    }
    entry = report["tables"][1]
    assert [(one["path"], one["status"]) for one in entry.pop("failures")] == [
        ("broken.mkv", "decode-failed"),
        ("gone.mkv", "missing-source"),
        ("r.yuv", "missing-geometry"),
        (None, "missing-source"),
    ]
    assert report["tables"][0]["failures"] == []
    assert entry == {
        "id": "two",
        "input": "f.csv",
        "output": "o/two.parquet",
        "audit_json": None,
        "partition_by": None,
        "config": {**OPTIONS, "root": "clips", "max_frames": 2, "overwrite": True},
        "status": "row-failures",
        "summary": {
            "total": 9,
            "ok": 5,
            "skipped_existing": 0,
            "failed": 4,
            "shards": {"read": 1, "written": 1},
        },
        "warnings": [],
        "columns_added": [
            f"saliency_{name}" for name in ("mean", "var", "status", "model_id", "aggregator", "ema_alpha")
        ],
    }
    assert [table["status"] for table in report["tables"]] == ["ok", "row-failures", "ok"]
    inputs = report["run_provenance"]["inputs"]
    assert [clip["path"] for clip in inputs.pop("clips")] == [
        *("clips/a.mkv", "clips/b.mkv", "clips/broken.mkv", "clips/gone.mkv", "clips/r.yuv")
    ]
    assert inputs == {
        "input": [described(bundle, "f.csv"), described(bundle, "good.csv")],
        "model_path": [described(bundle, "net.onnx")],
        "manifest": described(bundle, "m.json"),
    }
    outputs = ["o/one.csv", "a/one.json", "o/two.parquet", "o/three.jsonl"]
    assert report["run_provenance"]["outputs"]["tables"] == [described(bundle, name) for name in outputs]
    audit = load("a/one.json")
    assert audit["run_provenance"]["inputs"]["manifest"] == described(bundle, "m.json")
    assert audit["config"]["max_frames"] == 2
    assert (audit["table_id"], audit["batch_manifest"]) == ("one", "m.json")
    assert audit["summary"] == {name: audit[name] for name in ("total", "ok", "skipped_existing", "failed")}


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("tables", "words", "exit_status", "report_status"),
    [
        (tables_of(), "", 0, "ok"),
        (tables_of(input="f.csv"), "", 1, "row-failures"),
        (tables_of(input="f.csv"), "--allow-row-failures", 0, "row-failures"),
        (tables_of(model_path="no.onnx"), "", 1, "failed"),
        (tables_of(model_path="no.onnx"), "--allow-row-failures", 1, "failed"),
        (
            [*tables_of(input="f.csv")[:2], tables_of(id="x", output="x.csv", input="no.csv")[1]],
            "",
            1,
            "failed",
        ),
    ],
)
def test_how_a_batch_ends(tables, words, exit_status, report_status):
    manifest(tables)

    assert batch(words) == exit_status
    assert load("r.json")["status"] == report_status


@pytest.mark.usefixtures("bundle")
def test_markdown_of_a_batch():
    manifest([*tables_of(input="f.csv")[:2], tables_of(id="x|<b>", output="x.csv", model_path="no.onnx")[1]])

    batch()

    text = Path("r.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert text.startswith("# Saliency batch report\n\nStatus: **failed**")
    assert rows == [
        "| Table | Status | Total | OK | Skipped | Failed | Output |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| one | ok | 3 | 3 | 0 | 0 | o/one.csv |",
        "| two | row-failures | 9 | 5 | 0 | 4 | o/two.parquet |",
        r"| x\|&lt;b&gt; | error |  |  |  |  |  |",
    ]
    assert "no.onnx: cannot be read: No such file or directory" in text


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_path": "no.onnx"}, "no.onnx: cannot be read: No such file or directory"),
        ({"model_path": "good.csv"}, "good.csv: not an ONNX network"),
        ({"input": "no.csv"}, "no.csv: no such file"),
        ({"path_column": "path"}, "no path column 'path'"),
        ({"ffmpeg_bin": "bin/no"}, "ffmpeg_bin: 'bin/no' is not there"),
    ],
)
def test_a_table_that_fails_leaves_the_others_alone(changes, words, capsys):
    manifest(tables_of(**changes))

    status = batch()

    lines, report = capsys.readouterr().err.splitlines(), load("r.json")
    assert status == 1
    assert len(lines) == 2
    assert lines[0].startswith("table 'two': ")
    assert words in lines[0]
    assert lines[1] == "saliency batch materialize: tables=3 total=6 ok=6 skipped=0 failed=0 failed_tables=1"
    assert [table["status"] for table in report["tables"]] == ["ok", "error", "ok"]
    assert words in report["tables"][1]["error"]
    assert "summary" not in report["tables"][1]
    assert report["summary"]["failed_tables"] == 1
    assert sorted(path.name for path in Path("o").iterdir()) == ["one.csv", "three.jsonl"]


@pytest.mark.usefixtures("bundle")
def test_a_missing_model_is_an_input_that_does_not_exist():
    manifest(tables_of(model_path="no.onnx"))

    batch()

    missing = {"path": "no.onnx", "exists": False, "kind": "missing", "sha256": None, "bytes": None}
    assert missing in load("r.json")["run_provenance"]["inputs"]["model_path"]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(("words", "done"), [("", 3), ("--fail-fast", 2)])
def test_fail_fast_stops_at_the_first_table_that_fails(words, done):
    manifest(tables_of(model_path="no.onnx"))

    assert batch(words) == 1
    assert len(load("r.json")["tables"]) == done
    assert Path("o/three.jsonl").exists() == (done == 3)


@pytest.mark.usefixtures("bundle")
def test_failed_rows_do_not_stop_a_batch_that_fails_fast():
    manifest(tables_of(input="f.csv"))

    assert batch("--fail-fast --allow-row-failures") == 0
    assert len(load("r.json")["tables"]) == 3


@pytest.mark.parametrize(
    ("changes", "top", "place"),
    [
        ({"max_frames": "8"}, {}, "$.tables[1].max_frames"),
        ({"max_frames": 0}, {}, "$.tables[1].max_frames"),
        ({"max_frames": 1.5}, {}, "$.tables[1].max_frames"),
        ({"frame_selection": "last"}, {}, "$.tables[1].frame_selection"),
        ({"temporal_aggregator": "median"}, {}, "$.tables[1].temporal_aggregator"),
        ({"ema_alpha": 0}, {}, "$.tables[1].ema_alpha"),
        ({"ema_alpha": 1.5}, {}, "$.tables[1].ema_alpha"),
        ({"decode_timeout_s": 0}, {}, "$.tables[1].decode_timeout_s"),
        ({"overwrite": "yes"}, {}, "$.tables[1].overwrite"),
        ({"status_column": "saliency_var"}, {}, "$.tables[1].status_column"),
        ({"ffprobe_bin": "x"}, {}, "$.tables[1].ffprobe_bin"),
        ({"ffmpeg_bin": "x", "frame_selection": "uniform"}, {}, "$.tables[1].frame_selection"),
        ({"model_path": ""}, {}, "$.tables[1].model_path"),
        ({"frames": 8}, {}, "$.tables[1].frames"),
        ({"features": "f.csv"}, {}, "$.tables[1].features"),
        ({"output": "o.xlsx"}, {}, "$.tables[1].output"),
        ({"output": "o/one.csv"}, {}, "$.tables[1].output"),
        ({"output": "net.onnx.csv", "model_path": "net.onnx.csv"}, {}, "$.tables[1].output"),
        ({"output": "good.csv"}, {}, "$.tables[1].output"),
        ({"audit_json": "net.onnx"}, {}, "$.tables[1].audit_json"),
        ({"audit_json": "m.json"}, {}, "$.tables[1].audit_json"),
        ({"audit_json": "r.json"}, {}, "$.tables[1].audit_json"),
        ({"id": "one"}, {}, "$.tables[1].id"),
        ({}, {"defaults": {"max_frame": 1}}, "$.defaults.max_frame"),
        ({}, {"defaults": {"input": "f.csv"}}, "$.defaults.input"),
        ({}, {"default": {}}, "$.default"),
    ],
)
def test_a_wrong_manifest_is_one_line_with_its_place(bundle, changes, top, place, capsys):
    manifest(tables_of(**changes), **top)
    before = files_of(bundle)

    status = batch()

    shown = capsys.readouterr().err
    assert (status, shown.count("\n")) == (2, 1)
    assert shown.startswith(f"error: m.json: {place}: ")
    assert files_of(bundle) == before


@pytest.mark.parametrize("missing", ["id", "input", "output"])
@pytest.mark.usefixtures("bundle")
def test_a_table_of_a_manifest_needs_an_id_an_input_and_an_output(missing, capsys):
    tables = tables_of()
    del tables[1][missing]
    manifest(tables)

    assert batch() == 2
    assert f"$.tables[1]: '{missing}' is missing" in capsys.readouterr().err


def test_paths_of_a_manifest_are_relative_to_its_folder(bundle, tmp_path, ffmpeg, monkeypatch):
    program(bundle / "bin" / "ffmpeg", f'#!/bin/sh\nexec "{ffmpeg}" "$@"\n')
    manifest(tables_of(model_path="net.onnx", ffmpeg_bin="bin/ffmpeg"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    status = main(["saliency", "batch", "--manifest", "../bundle/m.json"])

    assert status == 0
    assert list(elsewhere.iterdir()) == []
    assert sorted(path.name for path in (bundle / "o").iterdir()) == ["one.csv", "three.jsonl", "two.parquet"]
    assert str(tmp_path) not in (bundle / "a" / "one.json").read_text()
    two = pl.read_parquet(bundle / "o" / "two.parquet")
    three = pm.scan_table(bundle / "o" / "three.jsonl").collect()
    assert two["saliency_mean"].to_list() == pytest.approx(three["saliency_mean"].to_list(), abs=1e-9)


def test_base_dir_goes_before_the_folder_of_the_manifest(bundle, tmp_path, monkeypatch):
    manifest(tables_of())
    shutil.move("m.json", tmp_path / "m.json")
    monkeypatch.chdir(tmp_path)

    status = main(["saliency", "batch", "--manifest", "m.json", "--base-dir", "bundle"])

    assert status == 0
    assert (bundle / "o" / "one.csv").exists()


@pytest.mark.usefixtures("bundle")
def test_a_batch_from_python():
    manifest(tables_of(input="f.csv"))
    told = []

    report = pm.run_batch("m.json", kind="saliency", progress=lambda done, total: told.append((done, total)))

    assert (report.status, report.summary["failed"]) == ("row-failures", 4)
    assert (2, 2) in told


# --- extras that are not installed --------------------------------------------------------------------

BLOCKED = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from polars_materialize.cli import main
sys.exit(main(sys.argv[2:]))
"""


def without(packages, command, folder):
    """Runs the command line where packages are not installed."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, packages, *command.split()],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        ("av", ""),
        ("onnxruntime", "--model-path net.onnx"),
        ("numpy", ""),
        ("av,onnxruntime,numpy", "--model-path net.onnx"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(bundle, packages, words):
    before = files_of(bundle)

    result = without(packages, f"{TABLE} {words}", bundle)

    assert (result.returncode, result.stdout) == (1, "")
    package = "numpy" if "numpy" in packages else packages
    assert result.stderr == (
        f"error: {package} is not installed; pip install 'polars-materialize[saliency]' brings it\n"
    )
    assert files_of(bundle) == before


def test_raw_video_and_the_spectral_residual_need_neither_pyav_nor_onnxruntime(bundle):
    (bundle / "raw.csv").write_text("src,width,height\nr.yuv,16,12\n")
    command = "saliency table --input raw.csv --output o.csv --root clips"

    result = without("av,onnxruntime", command, bundle)

    assert (result.returncode, result.stderr.count("\n")) == (0, 1)
    expected = pm.add_saliency(pm.scan_table("raw.csv").collect(), root="clips")
    assert pm.scan_table("o.csv").collect()["saliency_mean"][0] == expected["saliency_mean"][0]


def test_programs_and_the_spectral_residual_need_neither_pyav_nor_onnxruntime(bundle, ffmpeg):
    result = without("av,onnxruntime", f"{GOOD} --ffmpeg-bin {ffmpeg}", bundle)

    assert (result.returncode, result.stderr.count("\n")) == (0, 1)


def test_other_runs_need_none_of_the_extra(bundle):
    (bundle / "s.jsonl").write_text('{"src": "a.mkv", "score": 1}\n')
    command = "second-opinion table --features good.csv --scores m=s.jsonl --out o.csv"

    assert without("av,onnxruntime,numpy", command, bundle).returncode == 0


@pytest.mark.parametrize(
    "code",
    [
        "import polars_materialize; dir(polars_materialize)",
        "import polars_materialize as pm; pm.add_saliency, pm.materialize_saliency, pm.SaliencyAudit",
        "from polars_materialize.cli import main; main(['--help'])",
        "from polars_materialize.cli import main; main(['saliency', 'table', '--help'])",
        "from polars_materialize.cli import main; main(['saliency', 'batch', '--nope'])",
    ],
)
def test_what_measures_nothing_imports_none_of_the_extra(code):
    heavy = "import sys; print('heavy:', sorted({'numpy', 'av', 'onnxruntime'} & set(sys.modules)))"

    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{heavy}"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert result.stdout.splitlines()[-1] == "heavy: []"


# --- interrupted runs, and progress -------------------------------------------------------------------


def alive(pid):
    """Whether a process runs; one that has ended and waits to be noted does not."""
    place = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        return place.exists() and place.read_text().rpartition(")")[2].split()[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pids):
    """Whether processes end soon; those that do not are ended here."""
    for _ in range(200):
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    for pid in filter(alive, pids):
        os.kill(pid, signal.SIGKILL)
    return False


def wait_for(condition, process):
    """Waits until something is so."""
    for _ in range(6000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    pytest.fail("the run did not come so far")


HANGING = """#!/bin/sh
case " $* " in *" -i "*) ;; *) exec "{ffmpeg}" "$@" ;; esac
trap '' TERM INT HUP
sleep 600 &
echo $$ $! > pids.part
mv pids.part "{mark}"
while :; do wait; sleep 1; done
"""
MARKING = """#!/bin/sh
"{ffmpeg}" "$@"
status=$?
case " $* " in *" -i "*) echo > "{mark}" ;; esac
exit $status
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "kill"])
@pytest.mark.parametrize("during", ["decoding", "inference"])
def test_an_interrupted_run_leaves_the_old_files_and_no_others(tmp_path, ffmpeg, number, during):
    folder, mark = tmp_path / "run", tmp_path / "mark"
    folder.mkdir()
    text = HANGING if during == "decoding" else MARKING
    ours = program(tmp_path / "bin" / "ffmpeg", text.format(ffmpeg=ffmpeg, mark=mark))
    (folder / "a.mkv").write_bytes(oracle.noise_clip(6, 320, 320, 0))
    oracle.slow_network(folder / "slow.onnx")
    (folder / "f.csv").write_text("src\na.mkv\n")
    (folder / "o.csv").write_text("old table")
    (folder / "a.json").write_text("old audit")
    before = files_of(folder)
    words = f"saliency table --input f.csv --output o.csv --audit-json a.json --ffmpeg-bin {ours}"

    process = subprocess.Popen(
        [sys.executable, "-m", "polars_materialize", *words.split(), "--model-path", "slow.onnx"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(mark.exists, process)
        process.send_signal(number)
        printed, told = process.communicate(timeout=120)
    finally:
        process.kill()

    assert (process.returncode, printed) == (130, "")
    assert told.strip() == "interrupted; what was being written is left as it was"
    left = files_of(folder)
    assert {name: left[name] for name in left if name != "pids.part"} == before
    assert gone([int(pid) for pid in mark.read_text().split()])


def watched(words, folder, act=None):
    """Runs the command line with standard error on a terminal; what it showed there, and how it ended."""
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "polars_materialize", *words.split()],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=child,
    ) as process:
        os.close(child)
        shown = b""
        try:
            while True:
                ready, _, _ = select.select([parent], [], [], 120)
                assert ready, "nothing was shown"
                try:
                    piece = os.read(parent, 10_000)
                except OSError:  # the other end is closed
                    break
                if not piece:
                    break
                shown += piece
                if act is not None:
                    act(process, shown)
            process.wait(timeout=120)
        finally:
            process.kill()
            os.close(parent)
    return shown.decode().replace("\r\n", "\n"), process.returncode


def many_clips(folder, count):
    """A table of clips that are all one file, but not by name."""
    oracle.encode(folder / "0.mkv", oracle.noise(8, 320, 240))
    for index in range(1, count):
        os.link(folder / "0.mkv", folder / f"{index}.mkv")
    names = [f"{index}.mkv" for index in range(count)]
    pl.DataFrame({"src": names}).write_csv(folder / "f.csv")


def test_progress_is_one_line_on_a_terminal_that_goes_away(tmp_path):
    many_clips(tmp_path, 20)

    shown, status = watched("saliency table --input f.csv --output o.csv", tmp_path)

    assert status == 0
    assert re.search(r"\r\d+ of 20 clips", shown)
    assert shown.endswith("\x1b[Ksaliency materialize: total=20 ok=20 skipped=0 failed=0\n")
    assert shown.count("\n") == 1


def test_progress_is_not_shown_elsewhere(tmp_path):
    many_clips(tmp_path, 8)

    result = real("saliency table --input f.csv --output o.csv", tmp_path)

    assert result.stderr == "saliency materialize: total=8 ok=8 skipped=0 failed=0\n"


def test_a_run_that_decodes_in_process_can_be_interrupted_too(tmp_path):
    many_clips(tmp_path, 3000)
    before = sorted(path.name for path in tmp_path.iterdir())
    sent = []

    def interrupt(process, shown):
        if b" of 3,000 clips" in shown and not sent:
            sent.append(process.send_signal(signal.SIGINT))

    shown, status = watched("saliency table --input f.csv --output o.csv", tmp_path, interrupt)

    assert status == 130
    assert shown.rpartition("\x1b[K")[2].strip() == "interrupted; what was being written is left as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == before
