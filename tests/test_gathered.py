"""Small files read together give what they give one by one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polars_materialize as pm
from polars_materialize.tables import csv, files

CELLS = st.sampled_from(
    [
        "a",
        "b.mp4",
        "7",
        "007",
        "7.0",
        "1.5",
        "-0",
        "nan",
        "",
        " x",
        "true",
        "9007199254740993",
        "1e3",
        "é",
        "a,b",
    ]
)
END = st.sampled_from(["\n", "\r\n"])


def quoted(cell: str) -> str:
    return f'"{cell}"' if "," in cell else cell


@st.composite
def csv_files(draw: st.DrawFn) -> list[str]:
    headers = st.sampled_from(
        ["clip_id,score,note", "clip_id,score,note", "score,clip_id,note", "clip_id,score"]
    )
    texts = []
    for _ in range(draw(st.integers(1, 5))):
        header, end = draw(headers), draw(END)
        width = header.count(",") + 1
        rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=4))
        lines = [header, *(",".join(map(quoted, row)) for row in rows)]
        lines.insert(draw(st.integers(1, len(lines))), "") if draw(st.booleans()) else None
        texts.append(end.join(lines) + draw(st.sampled_from(["", end])))
    return texts


JSON_LINES = st.lists(
    st.sampled_from(
        [
            '{"clip_id": "a", "score": 1}',
            '{"clip_id": "b", "score": 1.5, "status": true}',
            '{"clip_id": 7, "score": "2"}',
            '{"clip_id": "c", "frames": [{"score": 1}, {"score": 3.5}]}',
            '{"clip_id": "d", "score": [1, 2.5], "status": {"a": 1}}',
            '{"clip_id": "e", "score": NaN, "status": "failed"}',
            '{"clip_id": "f", "score": null, "status": "[]"}',
            '{"clip_id": "g", "clip_id": "h", "score": 3}',
            "",
            "oops",
        ]
    ),
    min_size=1,
    max_size=4,
)


def read(folder: Path) -> object:
    """All scores, or the error."""
    try:
        scores = pm.scan_scores(f"dover={folder}").collect()
    except pm.MaterializeError as error:
        return str(error)
    return scores.rows()


def compare(texts: list[str], suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for index, text in enumerate(texts):
            (Path(folder) / f"{index}{suffix}").write_bytes(text.encode())
        together = read(Path(folder))
        patch.setattr(files, "SMALL_BYTES", -1)
        alone = read(Path(folder))
    # Which of several faults is told first may differ.
    assert together == alone or (isinstance(together, str) and isinstance(alone, str))


@settings(max_examples=100, deadline=None)
@given(csv_files())
def test_small_csv_files_read_as_they_do_one_by_one(texts):
    compare(texts, ".csv")


@settings(max_examples=150, deadline=None)
@given(st.lists(JSON_LINES, min_size=1, max_size=4))
def test_small_files_of_json_lines_read_as_they_do_one_by_one(texts):
    compare(["\n".join(lines) for lines in texts], ".jsonl")


def test_many_small_csv_files_are_parsed_at_once(tmp_path, monkeypatch):
    for index in range(300):
        (tmp_path / f"{index:03}.csv").write_text(f"clip_id,score\nc{index},{index}.5\n")
    parsed = []
    cells = csv._cells
    monkeypatch.setattr(csv, "_cells", lambda *args: parsed.append(args) or cells(*args))

    scores = pm.scan_scores(f"dover={tmp_path}").collect()

    assert scores["key"].to_list() == [f"c{index}" for index in range(300)]
    assert scores["place"].to_list() == [f"{tmp_path}/{index:03}.csv:2" for index in range(300)]
    assert len(parsed) == 1
