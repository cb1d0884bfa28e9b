"""The examples of the documentation: what they say is what happens."""

from __future__ import annotations

import doctest
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import polars_materialize as pm
from polars_materialize.cli import main

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLE = REPOSITORY / "docs" / "examples" / "second-opinion"
PAGES = sorted((REPOSITORY / "docs").glob("*.md"))


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


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_blocks_of_a_page_run_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = "\n".join(block for block in blocks(page, "python") if ">>>" in block)
    test = doctest.DocTestParser().get_doctest(source, {"__name__": "__main__"}, page.name, str(page), 0)
    told = []

    result = doctest.DocTestRunner(verbose=False).run(test, out=told.append)

    assert result.failed == 0, "".join(told)
    assert result.attempted == len(re.findall(r"^>>> ", source, re.MULTILINE))


def test_the_guide_has_blocks_that_run():
    guide = REPOSITORY / "docs" / "second-opinions.md"

    assert sum(block.count(">>>") for block in blocks(guide, "python")) > 20


def test_the_manifest_in_the_guide_is_that_of_the_example():
    stored = json.loads((EXAMPLE / "manifest.json").read_text())

    shown = [json.loads(block) for block in blocks(REPOSITORY / "docs" / "second-opinions.md", "json")]

    assert stored in shown


def commands():
    """The `$ polars-materialize` lines of the guide with the line that each says it ends with."""
    for block in blocks(REPOSITORY / "docs" / "second-opinions.md", "console"):
        joined = block.replace("\\\n", "")
        for command, said in re.findall(r"^\$ polars-materialize (.*)\n([^$\n].*)$", joined, re.MULTILINE):
            yield pytest.param(command, said, id=command[:40])


@pytest.mark.parametrize(("command", "said"), list(commands()))
@pytest.mark.usefixtures("example")
def test_commands_of_the_guide_say_what_it_says(command, said, capsys):
    words = re.findall(r"'([^']*)'|(\S+)", command)

    status = main([quoted or plain for quoted, plain in words])

    assert status == 0
    assert capsys.readouterr().err == said + "\n"


def test_links_of_the_documentation_lead_to_files():
    pages = [*PAGES, REPOSITORY / "README.md"]

    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert broken == []
