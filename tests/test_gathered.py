"""Small files read together give what they give one by one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polars_materialize as pm
from polars_materialize.tables import Dialect, csv, files, find, read_records

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


KEYS = ["c{}", "{}", "{}.0", "00{}", "d/{}.mp4", "{}.50"]
SCORES = st.sampled_from(["1", "1.5", "-0", "7.0", "1e3", "9007199254740993"])


@st.composite
def csv_files(draw: st.DrawFn) -> list[str]:
    """Files of scores, of which most are good: each key stands once, in the spelling of its file."""
    headers = st.sampled_from(
        ["clip_id,score,note", "clip_id,score,note", "score,clip_id,note", "clip_id,score"]
    )
    texts, number = [], 10
    for _ in range(draw(st.integers(1, 5))):
        header, end, spelling = draw(headers), draw(END), draw(st.sampled_from(KEYS))
        lines = [header]
        for _ in range(draw(st.integers(1, 4))):
            number += 1
            cells = {"clip_id": spelling.format(number), "score": draw(SCORES), "note": draw(CELLS)}
            if draw(st.integers(0, 19)) == 0:
                cells[draw(st.sampled_from(["clip_id", "score"]))] = draw(CELLS)
            lines.append(",".join(quoted(cells[name]) for name in header.split(",")))
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


def compare(texts: list[str], suffix: str) -> bool:
    """Compares both ways to read files; returns whether they can be read at all."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for index, text in enumerate(texts):
            (Path(folder) / f"{index}{suffix}").write_bytes(text.encode())
        together = read(Path(folder))
        patch.setattr(files, "SMALL_BYTES", -1)
        alone = read(Path(folder))
    # Which of several faults is told first may differ.
    assert together == alone or (isinstance(together, str) and isinstance(alone, str))
    return not isinstance(together, str)


def test_small_csv_files_read_as_they_do_one_by_one():
    read_well = []

    @settings(max_examples=100, deadline=None)
    @given(csv_files())
    def each(texts: list[str]) -> None:
        read_well.append(compare(texts, ".csv"))

    each()
    assert sum(read_well) > len(read_well) / 2


@pytest.mark.parametrize(
    ("cells", "keys"),
    [
        (["12345.0", "abc"], ["12345", "abc"]),
        (["abc", "12345.0"], ["abc", "12345"]),
        (["12345.0", "007"], ["12345", "007"]),
        (["12345.0\n7.0", "abc"], ["12345", "7", "abc"]),
        (["12345.0\nx", "abc"], ["12345.0", "x", "abc"]),
        (["12345.0", "67890.0"], ["12345", "67890"]),
    ],
)
def test_keys_of_small_files_are_those_of_each_file(tmp_path, monkeypatch, cells, keys):
    for index, cell in enumerate(cells):
        rows = "".join(f"{key},1.5\n" for key in cell.split("\n"))
        (tmp_path / f"{index}.csv").write_text(f"clip_id,score\n{rows}")

    together = pm.scan_scores(f"dover={tmp_path}").collect()
    monkeypatch.setattr(files, "SMALL_BYTES", -1)
    alone = pm.scan_scores(f"dover={tmp_path}").collect()

    assert together["key"].to_list() == alone["key"].to_list() == keys


@pytest.mark.parametrize(
    ("text", "lines"), [('a\n"x"\n\ny\n', [2, 3, 4]), ('a,b\n"x",1\n\n"y\nz",2\nu,3\n', [2, 4, 6])]
)
def test_rows_know_their_lines_whatever_is_blank_or_quoted(tmp_path, text, lines):
    (tmp_path / "s.csv").write_text(text)

    [records] = read_records(find(tmp_path / "s.csv"))

    assert records.place.to_list() == [f"{tmp_path / 's.csv'}:{line}" for line in lines]


@pytest.mark.parametrize("blank", ["", " "])
def test_a_cell_beyond_the_last_name_is_refused(tmp_path, blank):
    dialect = Dialect("csv", trimmed=True)
    (tmp_path / "s.csv").write_text(f"path, score,\na, 1,{blank}\nb, 2, \n")
    [records] = read_records(find(tmp_path / "s.csv", dialect=dialect))
    assert records.frame.rows() == [("a", 1), ("b", 2)]

    (tmp_path / "s.csv").write_text(f"path, score,\na, 1,{blank}\nb, 2, x\n")
    with pytest.raises(pm.MaterializeError, match=r"s\.csv: a cell beyond the last name"):
        list(read_records(find(tmp_path / "s.csv", dialect=dialect)))


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
