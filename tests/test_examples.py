"""The examples of the documentation: what they say is what happens."""

from __future__ import annotations

import contextlib
import doctest
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize.cli import main

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLE = REPOSITORY / "docs" / "examples" / "second-opinion"
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))


@pytest.fixture
def example(tmp_path, monkeypatch):
    """A copy of the example, without what an earlier run has left in the original."""
    copy = tmp_path / "second-opinion"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("out"))
    monkeypatch.chdir(copy)
    return copy


def test_the_example_ends_with_the_documented_line_and_outputs(example):
    command = "-m polars_materialize second-opinion batch --manifest manifest.json --report-md out/report.md"

    result = subprocess.run(
        [sys.executable, *command.split()],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    line = "second-opinion batch materialize: tables=2 input_rows=5 output_rows=5 failed_tables=0"
    assert (result.returncode, result.stdout, result.stderr) == (0, "", line + "\n")
    assert line in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in (example / "out").iterdir()) == [
        "phone.audit.json",
        "phone.parquet",
        "report.md",
        "studio.audit.json",
        "studio.jsonl",
    ]


@pytest.mark.usefixtures("example")
def test_the_tables_of_the_example_are_joined():
    pm.run_batch("manifest.json")

    studio = pm.scan_table("out/studio.jsonl").collect()
    phone = pm.scan_table("out/phone.parquet").collect()
    assert studio.select("clip_id", "second_opinion_dover_score").rows() == [
        ("studio-001", 0.8122),
        ("studio-002", 0.634),
        ("studio-003", 0.3275),
    ]
    assert phone["second_opinion_dover_status"].to_list() == ["ok", "bad"]
    audits = [json.loads(Path(f"out/{name}.audit.json").read_text()) for name in ("studio", "phone")]
    assert [audit["competitors"]["dover"]["matched_rows"] for audit in audits] == [3, 1]


def blocks(page, language):
    """The fenced blocks of a page."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


NOT_RUN = {
    r"^python3 -m venv ": "the continuous integration runs it",
    r"^pip install ": "needs a package index",
    r"^export ": "sets secrets",
    r"s3://": "needs a store; test_stores has one of its own",
    r"--dask |^POLARS_MAX_THREADS=2 dask worker": "needs a cluster; test_executors starts one",
}
"""The commands of the pages that no test here runs, and why."""


def said(page):
    """The commands of a page, each with what the page says that it prints; null if it does not say."""
    found = []
    shells = r"^```(sh|bash|console)\n(.*?)^```$"
    for language, block in re.findall(shells, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        lines = block.replace("\\\n", "").splitlines(keepends=True)
        if language != "console":
            found += [(line.strip(), None) for line in lines if line.strip()]
            continue
        for line in lines:
            if line.startswith("$ "):
                found.append((line[2:].strip(), ""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def run(command, capsys):
    """Runs a command line of this package; its exit status and what it printed."""
    words = shlex.split(re.sub(r"^[A-Z_]+=\S+ ", "", command))
    assert words[0] == "polars-materialize", command
    capsys.readouterr()
    status = main(words[1:])
    shown = capsys.readouterr()
    return status, shown.out + shown.err


def check_commands(page, capsys, before=None):
    """Runs the commands of a page, in the current folder: each must print what the page says, or succeed."""
    for command, told in said(page):
        if any(re.search(pattern, command) for pattern in NOT_RUN):
            continue
        if command.startswith("cd "):
            shutil.copytree(REPOSITORY / command[3:], "copy", ignore=shutil.ignore_patterns("out"))
            os.chdir("copy")
            continue
        if before is not None:
            before(command)
        status, shown = run(command, capsys)
        if told is None:
            assert status == 0, f"{command}\n{shown}"
        else:
            assert shown == told, command


def raw_clip(path, grey):
    """Writes one grey frame of 64x48."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(bytes([grey]) * (64 * 48 * 3 // 2))


def write_files(page, command, names):
    """Writes what a command of a page needs beside the files that the page's Python blocks write."""
    match page.stem:
        case "formats" if "q_align.json" in command:
            Path("features.csv").write_text("clip_id\na\n")
            Path("q_align.json").write_text(json.dumps([{"image": "v/a.mp4", "score": 0.5}]))
        case "more-machines" if "--jobs 4" in command:
            shutil.copytree(EXAMPLE, ".", dirs_exist_ok=True, ignore=shutil.ignore_patterns("out"))
        case "saliency" if "saliency table" in command:
            Path("gone.mp4").unlink()  # a later block writes it
        case "saliency" if command.startswith("POLARS_MAX_THREADS"):
            Path("features.csv").write_text("src,width,height\na.yuv,64,48\n")
            table = {"id": "one", "input": "features.csv", "output": "one.csv"}
            Path("manifest.json").write_text(json.dumps({"tables": [table]}))
        case "shards-and-refresh" if "refresh table" in command:
            Path("shards/0.csv").write_text("clip_id,src,width,height\na,a.yuv,64,48\nb,a.yuv,64,48\n")
            row = {"clip_id": "c", "src": "a.yuv", "width": 64, "height": 48}
            Path("shards/1.jsonl").write_text(json.dumps(row) + "\n")
            raw_clip("clips/a.yuv", 60)
        case "signal-mix":
            names["features"].drop("mos").write_parquet("features.parquet")
            names["joined"].write_parquet("joined.parquet")


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_page_is_true_from_top_to_bottom(page, tmp_path, monkeypatch, capsys):
    """The Python blocks run in order, then the commands, on the files that they have left."""
    monkeypatch.chdir(tmp_path)
    source = "\n".join(block for block in blocks(page, "python") if ">>>" in block)
    source = re.sub(r"^>>> folder\.cleanup\(\)\n", "", source, flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(source, {"__name__": "__main__"}, page.name, str(page), 0)
    told = []

    result = doctest.DocTestRunner(verbose=False).run(test, out=told.append, clear_globs=False)

    assert result.failed == 0, "".join(told)
    assert result.attempted == len(re.findall(r"^>>> ", source, re.MULTILINE))
    folder = test.globs.get("folder")
    with contextlib.nullcontext() if folder is None else folder:
        if folder is not None:
            monkeypatch.chdir(folder.name)
        check_commands(page, capsys, lambda command: write_files(page, command, test.globs))
        monkeypatch.chdir(tmp_path)


def test_every_block_of_the_documentation_can_be_read():
    for page in [*PAGES, REPOSITORY / "README.md"]:
        for block in blocks(page, "json"):
            json.loads(block)
        for block in blocks(page, "python"):
            if ">>>" not in block:
                compile(block, page.name, "exec")


def test_what_is_not_run_is_still_there():
    """A reason that holds for no command any more goes."""
    commands = [command for page in [*PAGES, REPOSITORY / "README.md"] for command, _ in said(page)]

    assert [pattern for pattern in NOT_RUN if not any(re.search(pattern, line) for line in commands)] == []


def write_files_of_the_readme(networks):
    """What README's blocks read: two shards, scores, labels, clips, a network and manifests."""
    features = pl.DataFrame(
        {
            "clip_id": ["a", "b", "c", "d"],
            "src": ["a.yuv", "b.yuv", "c.yuv", "d.yuv"],
            "width": 64,
            "height": 48,
            "vmaf": [90.0, 70.0, 40.0, 55.5],
            "psnr_y": [41.0, 36.5, 30.0, 33.0],
        }
    )
    Path("shards").mkdir()
    features[:2].write_parquet("shards/0.parquet")
    features[2:].write_parquet("shards/1.parquet")
    features.write_parquet("features.parquet")
    dover = [
        {"clip_id": name, "score": score} for name, score in zip("abcd", (0.9, 0.7, 0.2, 0.4), strict=True)
    ]
    Path("dover.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dover))
    Path("nvc/qalign").mkdir(parents=True)
    for name in "abcd":
        row = {"video_name": name, "qalign_score": 3.5}
        Path(f"nvc/qalign/{name}.json").write_text(json.dumps(row))
    Path("mos.csv").write_text("clip_id,mos\na,4.5\nb,3.5\nc,1.5\nd,2\n")
    for grey, name in enumerate("abcd"):
        raw_clip(f"clips/{name}.yuv", 60 + 20 * grey)
    shutil.copy(networks / "pixel.onnx", "student.onnx")
    tables = {
        "manifest.json": {
            "features": "features.parquet",
            "scores": ["dover=dover.jsonl"],
            "out": "out/s.parquet",
        },
        "labels.json": {"features": "features.parquet", "labels": ["mos.csv"], "out": "out/l.parquet"},
        "saliency.json": {"input": "features.parquet", "output": "out/m.parquet", "root": "clips"},
    }
    for name, table in tables.items():
        Path(name).write_text(json.dumps({"tables": [{"id": "t", **table}]}))


def test_readme_is_true_from_top_to_bottom(tmp_path, monkeypatch, capsys, networks):
    monkeypatch.chdir(tmp_path)
    write_files_of_the_readme(networks)
    names = {"__name__": "__main__"}

    for block in blocks(REPOSITORY / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), names)

    assert names["joined"].collect()["mos"].to_list() == [4.5, 3.5, 1.5, 2.0]
    assert names["measured"]["saliency_status"].to_list() == ["ok"] * 4
    assert [table.target for table in names["report"].tables] == [None, "mos"]
    check_commands(REPOSITORY / "README.md", capsys)
    mix = json.loads(Path("mix.json").read_text())
    assert [table["target"] for table in mix["tables"]] == [None, "mos"]
    assert "saliency_mean" in mix["tables"][1]["signal_columns"]


def test_the_guide_has_blocks_that_run():
    guide = REPOSITORY / "docs" / "second-opinions.md"

    assert sum(block.count(">>>") for block in blocks(guide, "python")) > 20


def test_the_manifest_in_the_guide_is_that_of_the_example():
    stored = json.loads((EXAMPLE / "manifest.json").read_text())

    shown = [json.loads(block) for block in blocks(REPOSITORY / "docs" / "second-opinions.md", "json")]

    assert stored in shown


def test_links_of_the_documentation_lead_to_files():
    pages = [*PAGES, REPOSITORY / "README.md"]

    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert broken == []
