"""What audits and reports show of themselves: a screenful of plain text, whatever they hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import polars_materialize as pm
from polars_materialize.reports import (
    BatchReport,
    ClipCounts,
    ClipFailure,
    KeyCounts,
    LabelAudit,
    LabelKeyCounts,
    LabelSource,
    OtherTags,
    RefreshAudit,
    RowCounts,
    SaliencyAudit,
    ScoreAudit,
    ScoreKeyCounts,
    ScorerCounts,
)
from polars_materialize.shown import brief, escape, shortened

HOSTILE = "<b>|\u202e**x**\x1b[2J\n# y"
MANY = 2_000
COUNTS = KeyCounts(rows=1, rows_without_key=0, distinct_values=1, distinct_keys=1, folded_values=0)
PROVENANCE = {"inputs": {"scores": [{"path": f"secret{n}"} for n in range(MANY)]}}
COLUMNS = {"columns": [f"c{n}" for n in range(MANY)], "columns_added": [f"d{n}" for n in range(MANY)]}
WARNINGS = [f"{HOSTILE} warning {n}" for n in range(MANY)]
SCORES = ScoreAudit(
    feature_table=HOSTILE,
    output="o" * MANY,
    key_column="clip_id",
    key_normalize="auto",
    input_rows=1,
    output_rows=1,
    missing_policy="mark",
    bad_policy="mark",
    competitors={
        f"{HOSTILE}{n}": ScorerCounts(
            competitor=f"{HOSTILE}{n}",
            column_prefix=f"p{n}",
            scores_loaded=1,
            matched_rows=0,
            missing_rows=1,
            bad_rows=0,
            unused_scores=1,
            total_feature_keys=1,
            matched_feature_keys=0,
            match_rate=0.0,
            hint=f"hint {n} {HOSTILE}",
        )
        for n in range(MANY)
    },
    keys=ScoreKeyCounts(1, 0, 1, 1, 0, {f"s{n}": COUNTS for n in range(MANY)}),
    run_provenance=PROVENANCE,
    warnings=WARNINGS[:2],
    **COLUMNS,
)
LABELS = LabelAudit(
    feature_table=HOSTILE,
    output="o.csv",
    feature_key_column="clip_id",
    label_key_column=None,
    label_mos_column=None,
    label_scale=None,
    key_normalize="auto",
    feature_key_regex=None,
    label_key_regex=None,
    min_match_rate=0.5,
    input_rows=1,
    output_rows=1,
    total_feature_keys=1,
    matched_feature_keys=1,
    matched_rows=1,
    missing_rows=0,
    labels_loaded=1,
    labels_without_key=0,
    unused_labels=0,
    match_rate=1.0,
    label_sources=[LabelSource(f"{HOSTILE}{n}", "k", "m", "1:5", 1, 0) for n in range(MANY)],
    keys=LabelKeyCounts(1, 0, 1, 1, 0, COUNTS),
    run_provenance=PROVENANCE,
    warnings=WARNINGS,
    **COLUMNS,
)
SALIENCY = SaliencyAudit(
    input=HOSTILE,
    output="o.csv",
    config={f"option{n}": n for n in range(MANY)},
    model_id="m",
    summary=RowCounts(total=1, ok=0, skipped_existing=0, failed=1),
    total=1,
    ok=0,
    skipped_existing=0,
    failed=1,
    statuses={"ok": 0, "missing-source": 1},
    clips=ClipCounts(1, 0, 1, 0),
    other_tags=OtherTags(clips=0, matrix={}, transfer={}),
    geometry_mismatch_rows=0,
    failures=[ClipFailure(f"{HOSTILE}{n}", "missing-source", HOSTILE, 1) for n in range(50)],
    run_provenance=PROVENANCE,
    **COLUMNS,
)
REFRESH = RefreshAudit(
    feature_table=HOSTILE,
    output="o.csv",
    input_rows=1,
    output_rows=1,
    failed=1,
    labels=LABELS,
    scores=SCORES,
    saliency=SALIENCY,
    run_provenance=PROVENANCE,
    **COLUMNS,
)
REPORT = BatchReport(
    schema="s",
    status="failed",
    manifest=HOSTILE,
    summary={"tables": MANY, "failed_tables": 1},
    tables=[
        {
            "id": f"{HOSTILE}{n}",
            "status": "error" if n == MANY - 1 else "ok",
            **({"error": f"broken {HOSTILE}"} if n == MANY - 1 else {}),
            "warnings": [f"warning of {n}"],
        }
        for n in range(MANY)
    ],
    run_provenance=PROVENANCE,
)
ALL = [SCORES, LABELS, SALIENCY, REFRESH, REPORT]
every = pytest.mark.parametrize("one", ALL, ids=lambda one: type(one).__name__)


@every
def test_a_repr_is_a_screenful_without_provenance(one):
    for text in (repr(one), str(one), f"{one}", repr(one.__rich_repr__()[0][1])):
        assert len(text) < 1_600
        assert text.startswith(f"{type(one).__name__}(")
        assert "secret" not in text
        assert text.isprintable()


@every
@pytest.mark.parametrize("form", ["markdown", "html"])
def test_a_notebook_shows_a_screenful_of_plain_text(one, form):
    text = getattr(one, f"_repr_{form}_")()

    assert text.count("\n" if form == "markdown" else "<tr>") < 130
    assert "secret" not in text
    assert not re.search("[\u202e\x1b]", text)
    assert "<b>|" not in text
    assert "**x**" not in text if form == "markdown" else "<b>x" not in text
    assert r"\u202e" in text.replace("\\\\", "\\")


@every
@pytest.mark.parametrize("form", ["markdown", "html"])
def test_a_notebook_shows_what_has_to_be_known(one, form):
    text = getattr(one, f"_repr_{form}_")()

    expected = {
        ScoreAudit: ["warning 0", "warning 1", "hint 0"],
        LabelAudit: ["warning 0", "and 1,988 more"],
        SaliencyAudit: ["missing-source"],
        RefreshAudit: ["warning 0", "hint 0", "missing-source"],
        BatchReport: ["broken", "warning of 0", "failed", "and 1,988 more"],
    }[type(one)]
    assert [word for word in expected if word not in text] == []


def test_every_row_of_a_markdown_table_has_the_cells_of_its_head():
    for one in ALL:
        rows = [line for line in one._repr_markdown_().splitlines() if line.startswith("|")]
        cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
        assert len(set(cells)) == (1 if one is not REFRESH else 2)


def test_a_batch_of_nothing_shows_itself():
    empty = BatchReport(
        schema="s", status="running", manifest="m.json", summary={}, tables=[], run_provenance={}
    )
    assert "running" in empty._repr_markdown_()
    assert "running" in empty._repr_html_()


def test_real_audits_are_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("f.csv").write_text("clip_id\na\n")
    Path("s.jsonl").write_text(
        "".join(json.dumps({"clip_id": "a", "competitor": f"m{n}", "score": 1}) + "\n" for n in range(300))
    )

    audit = pm.materialize_scores("f.csv", "s.jsonl", "o.csv")

    assert len(repr(audit)) < 1_600
    assert "... 297 more" in repr(audit)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, 2, 3], "[1, 2, 3]"),
        ([], "[]"),
        ({}, "{}"),
        ({"a": None}, "{'a': None}"),
        ("x" * 81, f"'{'x' * 40}...'"),
        ("x" * 80, f"'{'x' * 80}'"),
        (list(range(5)), "[0, 1, 2, ... 2 more]"),
    ],
)
def test_values_are_cut(value, text):
    assert brief(value) == text


def test_long_lines_say_how_much_is_left_out():
    assert shortened("a" * 300) == "a" * 300
    assert shortened("a" * 301) == f"{'a' * 300}... (1 more character)"
    assert shortened("a\nb\x07") == r"a b\x07"


def test_what_cannot_be_seen_is_spelled_in_markdown():
    assert escape("a\u202eb\u200bc\x00") == r"a\\u202eb\\u200bc\\x00"


def test_formats_are_shown_by_name_and_in_a_notebook_as_tables():
    formats = pm.list_formats()

    assert len(repr(formats)) < 1_500
    assert all(f" {name}" in repr(formats) for name in [*formats.scores, *formats.labels])
    page = formats._repr_html_()
    assert page.count("<table>") == 2
    assert "<td>live-vqc</td>" in page or "more" in page


def test_a_batch_names_the_first_tables_that_failed():
    entries = [{"id": f"t{n}", "status": "error", "error": f"no such file {n}"} for n in range(5)]
    report = BatchReport(
        schema="s",
        status="failed",
        manifest="m.json",
        summary={"tables": 6, "failed_tables": 5},
        tables=[{"id": "good", "status": "ok"}, *entries],
        run_provenance={},
    )

    assert "'t0': 'no such file 0'" in repr(report)
    assert repr(report).endswith("'t2': 'no such file 2'} and 2 more)")
    assert "good" not in repr(report)
