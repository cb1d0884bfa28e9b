"""Tables in every format: nothing lost on the way in or out, faults named, and complete or not at all."""

from __future__ import annotations

import contextlib
import csv as plain_csv
import errno
import gzip
import io
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import oracle
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes

import polars_materialize as pm
from polars_materialize import errors, tables
from polars_materialize.tables import chunks, csv, csv_rows, shards, sinks

BINARY = [".parquet", ".pq", ".arrow", ".feather", ".ipc"]
LINES = [".jsonl", ".ndjson"]
TEXT = [*LINES, ".json", ".csv"]
COMPRESSED = [
    f"{suffix}{more}" for suffix in (".jsonl", ".ndjson", ".json", ".csv") for more in (".gz", ".zst")
]
SUFFIXES = [*BINARY, *TEXT, *COMPRESSED]

FRAME = pl.DataFrame(
    {
        "clip_id": ["a", "b\u00e9", "\ud55c\uae00", None],
        "n": [1, None, -(2**63), 2**63 - 1],
        "x": [0.1, 1e300, None, -2.0],
        "ok": [True, False, None, True],
        "when": ["2024-01-01", "2024-01-01T00:00:00Z", "12:00", "x"],
    }
)


def read(path):
    return pm.scan_table(path).collect()


def read_text(tmp_path, text, name="x.jsonl"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(tmp_path / name)


def refused(tmp_path, text, name="x.jsonl"):
    """The message that refuses a file, less its folder."""
    with pytest.raises(errors.TableError) as caught:
        read_text(tmp_path, text, name)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{tmp_path}{os.sep}", "")


def text_or_message(tmp_path, text):
    """What the last cell of column `a` holds, or the message that refuses the file."""
    try:
        return str(read_text(tmp_path, text)["a"][-1])
    except errors.TableError as error:
        return str(error)


def is_nan(value):
    return isinstance(value, float) and math.isnan(value)


# --- formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".CSV", ".JsonL.GZ", ".Parquet"])
def test_round_trip(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"

    pm.sink_table(FRAME, path)

    assert_frame_equal(read(path), FRAME)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x.txt", "x", "x.parquet.gz", "x.arrow.zst", "x.gz", "x.csv.bz2", "x.tsv"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    (tmp_path / name).write_text("a\n1\n")

    with pytest.raises(errors.TableError, match=r"\.parquet.*\.csv"):
        pm.scan_table(tmp_path / name)
    with pytest.raises(errors.TableError, match=r"\.parquet.*\.csv"):
        pm.sink_table(FRAME, tmp_path / "out" / name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_json_output_is_an_object_with_rows(tmp_path, suffix):
    path = tmp_path / f"x.json{suffix}"

    pm.sink_table(pl.LazyFrame({"a": [1, 2], "b": ["x", None]}), path)

    data = pa.input_stream(str(path), compression={"": None, ".gz": "gzip", ".zst": "zstd"}[suffix]).read()
    assert json.loads(data) == {"rows": [{"a": 1, "b": "x"}, {"a": 2, "b": None}]}


def test_gzip_output_is_gzip(tmp_path):
    pm.sink_table(pl.DataFrame({"a": [1]}), tmp_path / "x.csv.gz")
    pm.sink_table(pl.DataFrame({"a": [1]}), tmp_path / "x.jsonl.gz")

    assert gzip.decompress((tmp_path / "x.csv.gz").read_bytes()) == b"a\n1\n"
    assert json.loads(gzip.decompress((tmp_path / "x.jsonl.gz").read_bytes())) == {"a": 1}


def test_gzip_of_several_members(tmp_path):
    parts = (b'{"a":1}\n{"a"', b":2}\n")
    data = b"".join(gzip.compress(part) for part in parts)

    assert read_text(tmp_path, data, "x.jsonl.gz")["a"].to_list() == [1, 2]


SKIPPED = b"\x50\x2a\x4d\x18\x05\0\0\0hello"


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@pytest.mark.parametrize(
    "frames",
    [
        [SKIPPED, b"1", b"2"],
        [b"", b"1", b"2"],
        [b"1", SKIPPED, b"2"],
        [b"1", b"2", SKIPPED],
        [b"\x5f\x2a\x4d\x18\0\0\0\0", SKIPPED, b"1", b"", b"2"],
    ],
)
def test_zstd_of_several_frames(tmp_path, suffix, frames):
    line = {"jsonl": b'{"a":%s}\n', "csv": b"%s\n"}[suffix]
    parts = [part if b"\x18" in part else compressed(line % part if part else b"") for part in frames]
    if suffix == "csv":
        place = next(index for index, part in enumerate(parts) if b"\x18" not in part[:4])
        parts.insert(place, compressed(b"a\n"))
    path = tmp_path / f"x.{suffix}.zst"
    path.write_bytes(b"".join(parts))

    assert pm.scan_table(path).collect()["a"].to_list() == [1, 2]
    assert pm.scan_table(path).select(pl.len()).collect().item() == 2


def compressed(data):
    return pa.Codec("zstd").compress(data, asbytes=True)


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.csv.gz", "x.json.gz", "x.jsonl.zst", "x.csv.zst"])
def test_cut_off_compressed_files_are_refused(tmp_path, name):
    pm.sink_table(pl.DataFrame({"a": [f"{n * 7919 % 10007}" for n in range(9999)]}), tmp_path / name)
    data = (tmp_path / name).read_bytes()

    assert refused(tmp_path, data[: len(data) // 2], name).startswith(name)


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.feather", "x.jsonl.gz", "x.csv.zst"])
@pytest.mark.parametrize("data", [b"", b"not what it says", b"ARROW1\0\0", b"PAR1"])
def test_files_that_are_not_what_they_say_are_refused(tmp_path, name, data):
    assert refused(tmp_path, data, name).startswith(name)


@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".ipc"])
def test_ipc_stream_layout(tmp_path, suffix):
    FRAME.write_ipc_stream(tmp_path / f"x{suffix}")

    assert_frame_equal(read(tmp_path / f"x{suffix}"), FRAME)


def test_json_documents(tmp_path):
    expected = pl.DataFrame({"a": [1, None], "b": [None, "x"]})

    for text in (
        '[{"a": 1}, {"b": "x"}]',
        '{"rows": [{"a": 1}, {"b": "x"}]}',
        '\ufeff{\r\n"n": 2,\r\n"rows": [\r\n{"a": 1},\r\n{"b": "x"}]}\r\n',
    ):
        assert_frame_equal(read_text(tmp_path, text, "x.json"), expected)


@pytest.mark.parametrize("legacy", [False, True])
def test_an_arrow_stream_without_the_mark_of_its_end_is_refused(tmp_path, legacy):
    """Readers take the end of the file for that of the stream: rows would be lost in silence."""
    table = pa.table({"clip_id": [f"k{i}" for i in range(200)], "x": range(200)})
    out = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(use_legacy_format=legacy)
    with pa.ipc.new_stream(out, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=90)
    whole, path = out.getvalue(), tmp_path / "f.arrow"
    path.write_bytes(whole)
    assert pm.scan_table(path).collect().height == 200
    stream, borders = io.BytesIO(whole), [0]
    messages = pa.ipc.MessageReader.open_stream(stream)
    for _ in range(4):
        messages.read_next_message()
        borders.append(stream.tell())
    assert len(whole) - borders[-1] == (4 if legacy else 8)
    for end in [border + more for border in borders[1:] for more in range(4)] + [len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(errors.TableError, match=r"f\.arrow: .*was it cut off\?"):
            pm.scan_table(path)
    path.write_bytes(whole + whole)
    with pytest.raises(errors.TableError, match=r"f\.arrow: .*bytes follow the end"):
        pm.scan_table(path)
    path.write_bytes(whole + bytes(64))
    assert pm.scan_table(path).collect().height == 200
    for at in range(borders[1]):  # a damaged message is a line, too
        path.write_bytes(whole[:at] + b"\xf7" + whole[at + 1 :])
        with contextlib.suppress(errors.TableError):
            pm.scan_table(path).collect()


def test_an_arrow_file_that_is_cut_off_is_refused(tmp_path):
    table = pl.DataFrame({"clip_id": [f"k{i}" for i in range(200)]})
    path = tmp_path / "f.arrow"
    table.write_ipc(path, record_batch_size=90)
    whole = path.read_bytes()
    for end in (7, 100, len(whole) // 2, len(whole) - 10, len(whole) - 6, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(errors.TableError, match=r"f\.arrow: cannot be read"):
            pm.scan_table(path)


@pytest.mark.parametrize("suffix", [*BINARY, ".json", ".json.gz", ".csv", ".csv.zst"])
def test_a_table_without_rows(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    empty = pl.DataFrame(schema={"clip_id": pl.String, "note": pl.String})

    pm.sink_table(empty, path)

    found = read(path)
    assert found.height == 0
    if not suffix.startswith(".json"):
        assert_frame_equal(found, empty)


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson.gz", ".jsonl.zst"])
def test_json_lines_of_a_table_without_rows_is_refused_since_it_would_have_no_columns(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    with pytest.raises(errors.OutputError, match=r"there are no rows.*; write \.parquet or \.csv instead"):
        pm.sink_table(pl.DataFrame(schema={"clip_id": pl.String}), path)
    assert not path.exists()
    pm.sink_table(pl.DataFrame({"clip_id": [None]}), path)
    assert read(path).rows() == [(None,)]


def test_a_field_less_struct_is_told_to_go_where_it_can(tmp_path):
    frame = pl.DataFrame({"a": pl.Series([{}], dtype=pl.Struct([])), "b": pl.Series([1], dtype=pl.Duration)})
    for suffix in (".csv", ".parquet"):
        with pytest.raises(errors.OutputError, match=r"'a'; write \.arrow instead"):
            pm.sink_table(frame, tmp_path / f"x{suffix}")
    with pytest.raises(errors.OutputError, match=r"the duration columns 'b'; write \.parquet instead"):
        pm.sink_table(frame.drop("a"), tmp_path / "x.csv")
    pm.sink_table(frame, tmp_path / "x.arrow")
    pm.sink_table(frame.drop("a"), tmp_path / "x.parquet")


@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".ipc"])
def test_text_in_arrow_files_is_no_view(tmp_path, suffix):
    """Older readers have no views; each dtype comes back as it was."""
    frame = pl.DataFrame({"a": ["x", None], "b": [["y"], []], "c": [b"1", None]}).with_columns(
        d=pl.col("a").cast(pl.Categorical), e=pl.col("a").cast(pl.Enum(["x"])), f=pl.struct("a")
    )
    pm.sink_table(frame, tmp_path / f"x{suffix}")
    assert "view" not in str(pa.ipc.open_file(str(tmp_path / f"x{suffix}")).schema)
    assert_frame_equal(read(tmp_path / f"x{suffix}"), frame)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_ahead_of_a_csv_header(tmp_path, end):
    for number in (1, 2):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(end.join(["", "", "clip_id,x", f"k{number},5", "", "k9,6", ""]).encode())
        assert read(path).rows() == [(f"k{number}", 5), ("k9", 6)]
        assert csv.line_numbers(tables.File.of(path), 2).to_list() == [4, 6]
    path.write_text("\n\nclip_id,x\nk1,5,6\n")
    with pytest.raises(errors.TableError, match=r"2\.csv:4: expected 2 cells, found 3"):
        read(path)
    path.write_text("\n\n")
    with pytest.raises(errors.TableError, match="the file is empty"):
        read(path)


def test_a_quote_within_a_csv_cell_is_part_of_it(tmp_path):
    path = tmp_path / "x.csv"
    for body in ('k1,5" disc\nk2,6\n', 'k1,5" x "" disc\nk2,"a""b"\nk3,"a\nb"\nk4,a"\n', 'k"1,"6"\n'):
        path.write_text("clip_id,x\n" + body)
        with path.open(newline="") as stream:
            expected = [tuple(row) for row in plain_csv.reader(stream)][1:]
        found = read(path)
        assert found.cast(pl.String).rows() == expected
    for body, line in {'k1,5" disc\nk2,"abc\n': 3, 'k1,"5\nk2,6\n': 2, 'k1,5" d\nk2,"a ""b""\n': 3}.items():
        path.write_text("clip_id,x\n" + body)
        with pytest.raises(errors.TableError, match=rf"x\.csv:{line}: not CSV: a quote is not closed"):
            read(path)


# --- views of a table ---------------------------------------------------------------------------------

VIEWS = {
    "all": lambda lf: lf,
    "one column": lambda lf: lf.select("x"),
    "order": lambda lf: lf.select("x", "clip_id"),
    "filter": lambda lf: lf.filter(pl.col("n") > 3).select("clip_id"),
    "head": lambda lf: lf.head(3),
    "head of a filter": lambda lf: lf.filter(pl.col("n") > 3).head(2),
    "filter of a head": lambda lf: lf.head(5).filter(pl.col("n") > 3),
    "slice": lambda lf: lf.slice(4, 2),
    "tail": lambda lf: lf.tail(2),
    "count": lambda lf: lf.select(pl.len()),
    "no rows": lambda lf: lf.head(0),
    "row index": lambda lf: lf.with_row_index().filter(pl.col("index") > 5),
}


@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl", ".jsonl.gz", ".json", ".csv", ".csv.gz"])
@pytest.mark.parametrize("view", VIEWS.values(), ids=list(VIEWS))
def test_a_view_of_the_scan_is_the_view_of_the_table(tmp_path, monkeypatch, engine, suffix, view):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)
    monkeypatch.setattr(csv, "BLOCK_BYTES", 100)
    frame = pl.DataFrame(
        {"clip_id": list("abcdefgh"), "n": range(8), "note": ['"q"', "two\nlines"] * 4, "x": [0.5, None] * 4}
    )
    pm.sink_table(frame, tmp_path / f"x{suffix}")

    found = view(pm.scan_table(tmp_path / f"x{suffix}")).collect(engine=engine)

    assert_frame_equal(found, view(frame.lazy()).collect())


# --- globs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl", ".json", ".csv", ".jsonl.gz", ".csv.zst"])
def test_shards_with_late_columns(tmp_path, suffix):
    frames = [
        pl.DataFrame({"clip_id": ["a", "b"]}),
        pl.DataFrame({"clip_id": ["c"], "late": [1.5]}),
        pl.DataFrame({"note": ["x"], "clip_id": ["d"]}),
    ]
    for name, frame in zip(("s2", "s0", "s1"), frames, strict=True):
        pm.sink_table(frame, tmp_path / f"{name}{suffix}")

    found = read(tmp_path / f"*{suffix}")

    assert found.sort("clip_id").to_dict(as_series=False) == {
        "clip_id": ["a", "b", "c", "d"],
        "late": [None, None, 1.5, None],
        "note": [None, None, None, "x"],
    }
    assert found["clip_id"].to_list() == ["c", "d", "a", "b"]


def test_text_shards_that_disagree_become_text(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,1\n")
    (tmp_path / "b.csv").write_text("id,x\nb,1.5\n")

    found = read(tmp_path / "*.csv")

    assert found.rows() == [("1", 1.0), ("b", 1.5)]


def test_long_integers_survive_a_shard_of_floats(tmp_path):
    (tmp_path / "a.jsonl").write_text(f'{{"id": {2**53 + 1}}}\n')
    (tmp_path / "b.jsonl").write_text('{"id": 0.5}\n')

    assert read(tmp_path / "*.jsonl")["id"].to_list() == ["9007199254740993", "0.5"]


def test_long_integers_survive_a_shard_of_unsigned(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": -1}\n')
    (tmp_path / "b.jsonl").write_text(f'{{"id": {2**64 - 1}}}\n')

    assert read(tmp_path / "*.jsonl")["id"].to_list() == ["-1", "18446744073709551615"]


def test_parquet_shards_that_disagree_are_refused_by_name(tmp_path):
    pl.DataFrame({"id": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"id": ["x"]}).write_parquet(tmp_path / "b.parquet")

    with pytest.raises(errors.TableError, match=r"b\.parquet.*'id'.*a\.parquet"):
        read(tmp_path / "*.parquet")


def test_nothing_matches_a_glob(tmp_path):
    with pytest.raises(errors.TableError, match="no file matches"):
        pm.scan_table(tmp_path / "*.parquet")


def test_no_such_file(tmp_path):
    with pytest.raises(errors.TableError, match=r"gone\.csv: no such file"):
        pm.scan_table(tmp_path / "gone.csv")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl", ".csv", ".json"])
def test_a_name_with_glob_characters_is_a_name_first(tmp_path, suffix):
    pm.sink_table(pl.DataFrame({"a": [1]}), tmp_path / f"x[1]*{suffix}")
    pm.sink_table(pl.DataFrame({"a": [2]}), tmp_path / f"x1{suffix}")

    assert read(tmp_path / f"x[1]*{suffix}")["a"].to_list() == [1]


# --- JSON lines: what real files hold -----------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1, 64, 4096])
@pytest.mark.parametrize("token", ["1.5", '"text"', "NaN"])
def test_a_field_that_first_appears_late(tmp_path, monkeypatch, chunk, token):
    if chunk:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk)
    lines = 5001 if chunk in (None, 4096) else 300
    early = "".join(f'{{"clip_id": "c{n}"}}\n' for n in range(1, lines))

    found = read_text(tmp_path, f'{early}{{"clip_id": "last", "late": {token}}}\n')

    assert found.columns == ["clip_id", "late"]
    assert found.height == lines
    assert found["late"].null_count() == lines - 1
    assert str(found["late"][-1]) == {"1.5": "1.5", '"text"': "text", "NaN": "nan"}[token]


@pytest.mark.parametrize("chunk", [None, 1, 40])
def test_numbers_and_text_come_out_as_text(tmp_path, monkeypatch, chunk):
    if chunk:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk)

    found = read_text(tmp_path, '{"id": 7}\n{"id": "007"}\n{"id": 1.5}\n{"id": true}\n{"id": null}\n')

    assert found["id"].to_list() == ["7", "007", "1.5", "true", None]


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([2**53 + 1, 1], [2**53 + 1, 1]),
        ([2**63 - 1, -(2**63)], [2**63 - 1, -(2**63)]),
        ([2**64 - 1, 1], [2**64 - 1, 1]),
        ([2**64 - 1, -1], [str(2**64 - 1), "-1"]),
        ([2**53 + 1, 0.5], [str(2**53 + 1), "0.5"]),
        ([2**100, 1], [str(2**100), "1"]),
        ([2**53, 0.5], [2.0**53, 0.5]),
        ([0.5, 2**53 + 2], [0.5, 2.0**53 + 2]),
    ],
)
def test_long_integers_are_exact(tmp_path, monkeypatch, chunk, numbers, expected):
    if chunk:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk)

    found = read_text(tmp_path, "".join(f'{{"x": {number}}}\n' for number in numbers))

    assert found["x"].to_list() == expected


@pytest.mark.parametrize("chunk", [None, 1])
def test_tokens_that_python_writes(tmp_path, monkeypatch, chunk):
    if chunk:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk)
    rows = [
        {"x": float("nan"), "s": 'NaN "Infinity" \\'},
        {"x": float("inf"), "l": [float("-inf"), 1]},
        {"x": 1, "o": {"y": float("nan")}, "s": "-Infinity"},
    ]

    found = read_text(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))

    assert math.isnan(found["x"][0])
    assert found["x"].to_list()[1:] == [math.inf, 1.0]
    assert found["s"].to_list() == ['NaN "Infinity" \\', None, "-Infinity"]
    assert found["l"].to_list() == [None, [-math.inf, 1.0], None]
    assert math.isnan(found["o"][2]["y"])


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
@pytest.mark.parametrize(
    "text",
    [
        '{"a":1}\n{"a":2}',
        '\ufeff{"a":1}\n{"a":2}\n',
        '{"a":1}\r\n{"a":2}\r\n',
        '\n\n{"a":1}\n  \n\t\n{"a":2}\n\n',
        '\ufeff\r\n{"a":1}\r\n\r\n{"a":2}',
        '  {"a" : 1 }  \n\t{"a":2}\n',
    ],
)
def test_marks_line_ends_and_blank_lines(tmp_path, name, text):
    data = gzip.compress(text.encode()) if name.endswith(".gz") else text

    assert_frame_equal(read_text(tmp_path, data, name), pl.DataFrame({"a": [1, 2]}))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl", ".json", ".jsonl.zst"])
def test_nested_columns(tmp_path, suffix):
    frame = pl.DataFrame(
        {
            "list": [[1, 2], [], None],
            "struct": [{"a": 1, "b": {"c": "x"}}, {"a": None, "b": None}, {"a": 3, "b": {"c": None}}],
            "deep": [[{"x": [0.5]}], [], [{"x": []}, {"x": None}]],
        }
    )

    pm.sink_table(frame, tmp_path / f"x{suffix}")

    assert read(tmp_path / f"x{suffix}").to_dicts() == frame.to_dicts()


def test_fields_of_nested_objects_that_appear_late(tmp_path):
    early = '{"o": {"a": 1}, "l": [{"a": 1}]}\n' * 3000

    found = read_text(tmp_path, early + '{"o": {"b": "x"}, "l": [{"b": 2}]}\n')

    assert found["o"][-1] == {"a": None, "b": "x"}
    assert found["l"][-1].to_list() == [{"a": None, "b": 2}]


@pytest.mark.parametrize(
    "text", ["2024-01-01", "2024-01-01T10:00:00", "10:00", "NaN", "null", "", " x ", "\u2028"]
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_text_stays_text(tmp_path, text, suffix):
    rows = [{"x": text}, {"x": text}]
    content = json.dumps(rows) if suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows)

    assert read_text(tmp_path, content, f"x{suffix}")["x"].to_list() == [text, text]


def test_columns_of_nulls_and_of_nothing(tmp_path):
    found = read_text(tmp_path, '{"n": null, "l": [], "o": {}}\n{"n": null, "l": [], "o": {}}\n')

    assert found.columns == ["n", "l", "o"]
    assert found["n"].to_list() == [None, None]
    assert found["l"].to_list() == [[], []]


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([{"z": 1, "a": 2}, {"m": 3, "a": 4}, {"b": 5}], "zamb"),
        ([{"A": False}, {"a": None, "A": None}], "Aa"),
        ([{"b": 1}, {"a": 1, "b": 1}, {"c": 1, "a": 1}], "bac"),
        ([{"z": None}, {"y": 1, "z": 1}, {"x": "t", "y": "t", "z": "t"}], "zyx"),
    ],
)
def test_columns_keep_the_order_of_their_first_appearance(tmp_path, monkeypatch, chunk, rows, columns):
    if chunk:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk)

    found = read_text(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))

    assert found.columns == list(columns)


@pytest.mark.parametrize(
    "values", [[{"b": 'q"q\\'}, []], [{"b": "\x1f"}, "text"], [["\n", '"'], {"a": 1}], [[1, {"a": "\\"}], 5]]
)
def test_objects_and_lists_beside_other_things_come_out_as_json(tmp_path, values):
    found = read_text(tmp_path, "".join(json.dumps({"a": value}) + "\n" for value in values))

    assert [text if text == "text" else json.loads(text) for text in found["a"]] == values


@pytest.mark.parametrize("fields", [10, 32, 33, 60, 200])
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.jsonl.gz"])
def test_wide_rows_keep_their_columns_in_place(tmp_path, fields, name):
    row = {f"f{index * 7919 % 1009}": index for index in range(fields)}
    rows = [row, dict(reversed(row.items())), {**row, "late": 1}]
    text = json.dumps(rows) if name == "x.json" else "".join(json.dumps(row) + "\n" for row in rows)
    data = gzip.compress(text.encode()) if name.endswith(".gz") else text

    found = read_text(tmp_path, data, name)

    assert found.columns == [*row, "late"]
    assert found.row(1) == (*row.values(), None)


def test_wide_objects_keep_their_fields_in_place(tmp_path):
    row = {f"f{index * 7919 % 1009}": index for index in range(60)}

    found = read_text(tmp_path, json.dumps({"o": row, "l": [row]}) + "\n")

    assert list(found["o"][0]) == list(row)
    assert list(found["l"][0][0]) == list(row)


def test_objects_without_fields_come_through_or_are_refused_by_name(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1, "empty": {}}\n')

    try:
        pm.sink_table(pm.scan_table(tmp_path / "x.jsonl"), tmp_path / "x.parquet")
        outcome = ", ".join(map(repr, read(tmp_path / "x.parquet").columns))
    except errors.OutputError as error:
        outcome = str(error)

    assert "'empty'" in outcome


# --- JSON: faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1, 20])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"a":1}\n[1]\n{"a":2}\n', 2),
        ('{"a":1}\n{"a":2}\n5\n', 3),
        ('null\n{"a":1}\n', 1),
        ('{"a":1}\n"text"', 2),
        ('{"a":1}\n\n\n{"a":\n{"a":2}\n', 4),
        ('\ufeff{"a":1}\r\n{"a" 1}\r\n', 2),
        ('{"a":1}\n{"a":1}{"a":2}\n', 2),
        ('{"a":1}\n{"a":2},\n', 2),
        ('{"a":NaN}\n{"a":nan}\n', 2),
        ('{"a":1}\n{"a":1', 2),
        ("{'a':1}\n", 1),
        ('{"a":01}\n', 1),
        ('{"a":"\t"}\n', 1),
    ],
)
def test_malformed_lines_are_named(tmp_path, monkeypatch, chunk, text, line):
    if chunk:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", chunk)

    assert refused(tmp_path, text).startswith(f"x.jsonl:{line}: not a JSON object")


def test_a_malformed_line_after_many(tmp_path):
    text = '{"a": 1}\n' * 5000 + '{"a": }\n'

    assert refused(tmp_path, text).startswith("x.jsonl:5001: not a JSON object")


def test_the_same_line_of_a_compressed_file(tmp_path):
    text = gzip.compress(b'{"a": 1}\n{"a": }\n')

    assert refused(tmp_path, text, "x.jsonl.gz").startswith("x.jsonl.gz:2: not a JSON object")


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_bytes_that_are_no_text_are_refused(tmp_path, name):
    data = b'{"a":"\xff"}' if name == "x.jsonl" else b'[{"a":"\xff"}]'

    assert refused(tmp_path, data, name).startswith(name)


def test_half_a_surrogate_pair_is_refused(tmp_path):
    assert refused(tmp_path, '{"a":"x"}\n{"a":"\\ud800"}\n').startswith("x.jsonl:2: ")


def test_a_whole_surrogate_pair_is_a_character(tmp_path):
    assert read_text(tmp_path, '{"a":"\\ud83d\\ude00"}\n')["a"].to_list() == ["\U0001f600"]


@pytest.mark.parametrize("number", [2**130, -(2**200), "1e999"])
def test_numbers_beyond_every_type_are_text_or_refused(tmp_path, number):
    outcome = text_or_message(tmp_path, f'{{"a":1}}\n{{"a":{number}}}\n')

    assert outcome == str(number) or "x.jsonl:2: " in outcome


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('{"a": "null", "a": 1}', "a"),
        ('{"a" : 1, "b":2, "b":3}', "b"),
        ('{"a"\t: 1, "b":2, "b":3}', "b"),
        ('{"null": 1, "b": null, "b": 3}', "b"),
        ('{"a": null, "b": 1, "b": null}', "b"),
        ('{"a": [{"x": null, "y": "null", "y": 2}]}', "y"),
        ('{"a": "x\\":", "b": 1, "b": 2}', "b"),
    ],
)
def test_a_repeated_field_is_seen_whatever_else_looks_like_a_name_or_a_null(tmp_path, line, name):
    with pytest.raises(errors.TableError, match=rf"x\.jsonl:1: an object has the field '{name}' twice"):
        read_text(tmp_path, line + "\n")


TWICE = [
    '{"a":2,"a":null}',
    '{"a":null,"a":2}',
    '{"a":null,"a":null}',
    '{"a": null, "a": "x"}',
    '{"a":\tnull,"a":2}',
    '{"b":{"a":1.5,"a":null}}',
    '{"b":[{"a":1},{"a":null,"c":1,"a":3}]}',
    '{"b":[null],"a":1,"a":2}',
    '{"b":[null,null],"a":1,"c":{"a":2,"a":null}}',
    '{"b":"\\":null","a":1,"a":null}',
    r'{"\u0061":1,"a":null}',
    r'{"b":null,"a":1,"\u0061":null}',
]


@pytest.mark.parametrize("line", TWICE)
@pytest.mark.parametrize("many", [0, 3000])
@pytest.mark.parametrize("rest", ['{"a":1}', '{"a":null,"b":[null]}', '{"c":{"a":null}}'])
def test_a_field_is_not_repeated_whatever_its_values(tmp_path, line, many, rest):
    lines = [rest] * many + [line] + [rest] * many

    message = refused(tmp_path, "\n".join(lines))

    assert message == f"x.jsonl:{many + 1}: an object has the field 'a' twice"


@pytest.mark.parametrize("line", TWICE)
def test_a_field_is_not_repeated_in_a_document(tmp_path, line):
    assert refused(tmp_path, f'[{{"a":1}},\n{line}]', "x.json").endswith("has the field 'a' twice")
    assert refused(tmp_path, f'{{"rows":[{line}]}}', "x.json").endswith("has the field 'a' twice")
    assert refused(tmp_path, f'{{"rows":[{{"x":NaN}},{line}]}}', "x.json").endswith("has the field 'a' twice")


@pytest.mark.parametrize(
    "text",
    [
        '{"rows":[{"a":1}],"rows":[{"a":2}]}',
        '{"rows":[{"a":1}],"rows":[{"a":1}]}',
        '{"rows":null,"rows":[{"a":1}]}',
        '{"x":{"rows":1,"rows":null},"rows":[{"a":1}]}',
    ],
)
def test_rows_are_not_repeated_in_a_document(tmp_path, text):
    assert refused(tmp_path, text, "x.json") == "x.json: an object has the field 'rows' twice"


def test_a_field_is_not_repeated_in_a_sidecar(tmp_path):
    for name in ("s.json", "s.jsonl"):
        (tmp_path / name).write_text('{"key":"a","score":1.5,"score":null}')

        with pytest.raises(errors.TableError, match="has the field 'score' twice"):
            pm.scan_scores(f"dover={tmp_path / name}").collect()


def test_fields_of_one_name_in_several_objects_are_not_repeated(tmp_path):
    line = '{"a":null,"b":{"a":null},"c":[{"a":null},{"a":1}],"d":"\\"a\\":null"}'

    assert read_text(tmp_path, (line + "\n") * 2000).height == 2000


DEEP = {
    "lists": lambda depth: "[" * (depth - 1) + "1" + "]" * (depth - 1),
    "objects": lambda depth: '{"a":' * (depth - 1) + "1" + "}" * (depth - 1),
    "both": lambda depth: '[{"a":' * (depth // 2) + "1" + "}]" * (depth // 2),
}


@pytest.mark.parametrize("shape", DEEP.values(), ids=list(DEEP))
@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
@pytest.mark.parametrize("depth", [65, 67, 400, 1001, 100_001])
def test_what_is_nested_too_deep_is_refused(tmp_path, shape, name, depth):
    line = f'{{"a":{shape(depth)}}}'
    text = f'{{"a":1}}\n{line}\n' if name == "x.jsonl" else f"[{line}]"

    message = refused(tmp_path, text, name)

    assert message.startswith("x.jsonl:2: " if name == "x.jsonl" else "x.json: ")
    assert message.endswith("nested more than 64 deep")


@pytest.mark.parametrize("shape", DEEP.values(), ids=list(DEEP))
def test_what_is_nested_less_deep_comes_through(tmp_path, shape):
    line = f'{{"a":{shape(63)},"b":"{"[" * 99}"}}'

    found = read_text(tmp_path, f"{line}\n" * 2)

    assert found.height == 2
    assert found["b"][0] == "[" * 99


def test_a_long_line_that_is_cut_off_is_not_called_deep(tmp_path):
    line = '{"a":[' + '{"x":[1]},' * 200

    assert refused(tmp_path, line).startswith("x.jsonl:1: not a JSON object")


@pytest.mark.parametrize("text", [b"\xed\xa0\xbd\xed\xb8\x80", b"\xe4", b"\xc0\x80", b"\xf5"])
@pytest.mark.parametrize("place", [b'{"%s":1}', b'{"a":"%s"}', b'{"b":{"%s":1}}', b'{"a":NaN,"b":["%s"]}'])
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv"])
def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path, text, place, name):
    """The first is a character as two surrogates, which is how CESU-8 writes it."""
    line = place % text
    whole = b"[{},\n%s]" if name == "x.json" else b"{}\n%s\n" if name == "x.jsonl" else b'a\n"%s"\n'
    data = whole % (line.replace(b'"', b'""') if name == "x.csv" else line)

    message = refused(tmp_path, data, name)

    assert message.startswith((f"{name}:2: not UTF-8 text: ", f"{name}: rows[1]: not UTF-8 text: "))


@pytest.mark.parametrize("size", [1, 60, 2**20])
def test_a_byte_order_mark_within_a_file_is_refused(tmp_path, monkeypatch, size):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", size)

    with pytest.raises(errors.TableError, match=r"x\.jsonl:2: .* begins with a byte-order mark"):
        read_text(tmp_path, '{"a": "\ufeff"}\n\ufeff{}\n{"a": "y"}\n')


def test_a_field_that_stands_twice_in_an_object_is_refused_or_the_last(tmp_path):
    outcome = text_or_message(tmp_path, '{"a":1}\n{"a":1,"a":2}\n')

    assert outcome == "2" or "x.jsonl:2: " in outcome


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "\r\n\n"])
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv"])
def test_empty_files_are_refused_by_name(tmp_path, text, name):
    assert refused(tmp_path, text, name).startswith(f"{name}: the file is empty")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a":1},\n{"a":}]', "x.json:2: not JSON"),
        ('[{"a":1}\n', "x.json:2: not JSON"),
        ('[{"a":1}, 5]', "x.json: rows[1]: not a JSON object"),
        ('{"rows":[{"a":1}, [1]]}', "x.json: rows[1]: not a JSON object"),
        ("[null]", "x.json: rows[0]: not a JSON object"),
        ('[NaN, {"a":1}]', "x.json: rows[0]: not a JSON object"),
        ('{"a":1}', "x.json: expected a list of row objects or an object with 'rows'"),
        ("5", "x.json: expected a list of row objects"),
        ("NaN", "x.json: expected a list of row objects"),
        ('{"rows":5}', "x.json: 'rows': expected a list of row objects"),
        ('{"rows":{"a":1}}', "x.json: 'rows': expected a list of row objects"),
        ('{"rows":null}', "x.json: 'rows': expected a list of row objects"),
    ],
)
def test_malformed_documents_are_named(tmp_path, text, message):
    assert refused(tmp_path, text, "x.json").startswith(message)


# --- CSV ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [None, 32])
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\n1,x\n2,y\n", [(1, "x"), (2, "y")]),
        ("a,b\n1,x\n2,y", [(1, "x"), (2, "y")]),
        ("\ufeffa,b\r\n1,x\r\n2,y\r\n", [(1, "x"), (2, "y")]),
        ("a,b\n1,x\n\n2,y\n\n", [(1, "x"), (2, "y")]),
        ('a,b\n1,"x,y"\n2,"p ""q"""\n', [(1, "x,y"), (2, 'p "q"')]),
        ('a,b\n1,"two\nlines"\n2,"crlf\r\n"\n', [(1, "two\nlines"), (2, "crlf\r\n")]),
        ('a,b\n1,\n,""\n', [(1, None), (None, "")]),
        ("a,b\n1, x \n2,\u00e9\ud55c\n", [(1, " x "), (2, "\u00e9\ud55c")]),
        ("a,b\n1,2024-01-01\n2,10:00\n", [(1, "2024-01-01"), (2, "10:00")]),
        ("a,b\n007,1\n08,2\n", [("007", 1), ("08", 2)]),
        ("a,b\n+1,1e3\n-2,.5\n", [("+1", 1000.0), ("-2", 0.5)]),
        ("a,b\nx,NaN\ny,inf\n", [("x", "nan"), ("y", "inf")]),
        ("a,b\nNone,NA\n1,null\n", [("None", "NA"), ("1", "null")]),
        ("a,b\ntrue,1\nFalse,x\n", [(True, "1"), (False, "x")]),
        ("a,b\n0x1F,1_0\n0b1,1d\n", [("0x1F", "1_0"), ("0b1", "1d")]),
    ],
)
def test_csv_cells(tmp_path, monkeypatch, block, text, rows):
    if block:
        monkeypatch.setattr(csv, "BLOCK_BYTES", block)

    found = read_text(tmp_path, text, "x.csv")

    expected = [tuple(float(c) if c in ("nan", "inf") else c for c in row) for row in rows]
    assert repr(found.rows()) == repr(expected)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([2**53 + 1, 1], [2**53 + 1, 1]),
        ([2**64 - 1, 1], [2**64 - 1, 1]),
        ([2**64 - 1, -1], [str(2**64 - 1), "-1"]),
        ([2**64, 1], [str(2**64), "1"]),
        ([2**53 + 1, 0.5], [str(2**53 + 1), "0.5"]),
        ([2**53, 0.5], [2.0**53, 0.5]),
        (["1e999", 1], ["1e999", "1"]),
        (["9" * 60, 1], ["9" * 60, "1"]),
    ],
)
@pytest.mark.parametrize("block", [None, 16])
def test_long_integers_of_csv_are_exact(tmp_path, monkeypatch, cells, expected, block):
    if block:
        monkeypatch.setattr(csv, "BLOCK_BYTES", max(block, len(str(cells[0])) + 4))

    found = read_text(tmp_path, "x\n" + "".join(f"{cell}\n" for cell in cells), "x.csv")

    assert found["x"].to_list() == expected


def test_a_late_cell_of_text_keeps_the_column_as_written(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", 64)
    cells = ["1.50"] * 5000 + ["007", "x"]

    found = read_text(tmp_path, "id,v\n" + "".join(f"a,{cell}\n" for cell in cells), "x.csv")

    assert found["v"].to_list() == cells


def test_one_column_with_empty_cells(tmp_path):
    assert read_text(tmp_path, "a\n1\n\n3\n", "x.csv")["a"].to_list() == [1, None, 3]


@pytest.mark.parametrize("text", ["a,b\n", "a,b", "\ufeffa,b\r\n", '"a","b"'])
def test_a_header_alone_is_a_table_without_rows(tmp_path, text):
    found = read_text(tmp_path, text, "x.csv")

    assert found.columns == ["a", "b"]
    assert found.height == 0


def test_a_header_of_more_than_one_line(tmp_path):
    found = read_text(tmp_path, '"a\nb",c\n1,2\n', "x.csv")

    assert found.to_dict(as_series=False) == {"a\nb": [1], "c": [2]}


def test_a_header_with_an_empty_name(tmp_path):
    assert read_text(tmp_path, ",mos\n0,1.5\n", "x.csv").to_dict(as_series=False) == {"": [0], "mos": [1.5]}


@pytest.mark.parametrize("column", ["^a$", "*", "^.*$"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet", ".arrow"])
def test_a_column_that_polars_takes_for_a_pattern_is_refused_by_name(tmp_path, column, suffix):
    path = tmp_path / f"x{suffix}"
    pm.sink_table(pl.DataFrame({"clip_id": ["a"], column: [1]}), path)

    with pytest.raises(errors.TableError) as caught:
        pm.scan_table(path)
    assert str(caught.value) == f"{path}: Polars takes the column names {column!r} for patterns; rename them"
    with pytest.raises(errors.TableError, match="for patterns; rename them"):
        list(tables.read_records(tables.find(path)))


@pytest.mark.parametrize("name", ["^a$", "*", "^.*$"])
def test_a_field_within_a_column_may_be_called_as_a_pattern(tmp_path, name):
    row = {"clip_id": "a", "x": {name: 1, "a": 2, "y": [{name: None}, {name: 2.5}]}}

    assert read_text(tmp_path, f"{json.dumps(row)}\n" * 2).to_dicts() == [row, row]


@pytest.mark.parametrize("block", [None, 24])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", "x.csv:3: expected 2 cells, found 1"),
        ("a,b\n1,2,3\n", "x.csv:2: expected 2 cells, found 3"),
        ("a,b\r\n1,2\r\n\r\n3,4,\r\n", "x.csv:4: expected 2 cells, found 3"),
        ('a,b\n1,"x\ny"\n3\n', "x.csv:4: expected 2 cells, found 1"),
        ('a,b\n1,"x\ny"\n3,4\n"5', "x.csv:5: "),
        ('a,b\n1,"2\n3,4\n5,6\n', "x.csv:2: "),
        ("a,a\n1,2\n", "x.csv:1: columns that stand twice: 'a'"),
        ("b,a,b\n1,2,3\n", "x.csv:1: columns that stand twice: 'b'"),
        (b"a,b\n1,2\n3,\xff\n", "x.csv:3: not UTF-8"),
        (b"a,\xff\n1,2\n", "x.csv:1: not UTF-8"),
    ],
)
def test_malformed_csv_is_named(tmp_path, monkeypatch, block, text, message):
    if block:
        monkeypatch.setattr(csv, "BLOCK_BYTES", block)

    assert refused(tmp_path, text, "x.csv").startswith(message)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "cell",
    [
        '"A\r\nB"',
        '"a\r\n\r\nb"',
        '"A\rB"',
        '"\r\n"',
        '"A""\n""B"',
        '"\u00e4\U0001f600"',
        f'"{"y" * 90}\r\n,{"z" * 90}"',
        'A"B',
        '5" x "',
    ],
)
def test_csv_is_the_same_wherever_it_is_cut(tmp_path, monkeypatch, mark, end, cell):
    for block, before in itertools.product([3, 16], range(20)):
        monkeypatch.setattr(csv, "BLOCK_BYTES", block)
        text = end.join(["a,b", f"{'x' * before},t", f"t,{cell}", f"{cell},u", '"",""', ""])
        path = tmp_path / "x.csv"
        path.write_bytes(f"{mark}{text}".encode())
        wanted = list(plain_csv.reader(io.StringIO(text, newline="")))[1:]

        found = [[value or "" for value in row] for row in read(path).rows()]

        assert found == wanted, (block, text)


def test_a_row_may_be_longer_than_a_block(tmp_path):
    long = "x" * (2 * csv.BLOCK_BYTES + 5)
    (tmp_path / "x.csv").write_text(f'a,b\n1,"{long}"\n2,{long[:-3]}\n3,c\n')

    assert read(tmp_path / "x.csv")["b"].str.len_bytes().to_list() == [len(long), len(long) - 3, 1]


def test_a_line_feed_after_a_block_is_not_lost(tmp_path):
    head, tail = 'a,b\n"', '\r\nB",1\n'
    cell = "x" * (csv.BLOCK_BYTES - len(head) - 1)
    (tmp_path / "x.csv").write_bytes(f"{head}{cell}{tail}".encode())

    assert read(tmp_path / "x.csv")["a"].item() == f"{cell}\r\nB"


def test_a_row_without_an_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", 16)
    monkeypatch.setattr(csv_rows, "LONGEST_ROW", 200)

    message = refused(tmp_path, 'a,b\n1,2\n3,"x\n' + "4,5\n" * 100, "x.csv")

    assert message == "x.csv:3: a row of more than 1 GiB; is a quote not closed?"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a,b\r1,2\r\r3,4\r", [(1, 2), (3, 4)]),
        ("a,b\n\r1,2\n", [(1, 2)]),
        ("a,b\r\r", []),
        ("a,b\n1,2\r3,4\n\n", [(1, 2), (3, 4)]),
        ("a,b\n1,x\r\n\r\r\n2,y\n", [(1, "x"), (2, "y")]),
        ("a\rx\r\ry\n\n", [("x",), (None,), ("y",), (None,)]),
    ],
)
def test_a_carriage_return_alone_ends_a_line(tmp_path, text, rows):
    assert read_text(tmp_path, text, "x.csv").rows() == rows
    assert pm.scan_table(tmp_path / "x.csv").select(pl.len()).collect().item() == len(rows)


def test_a_line_of_csv_after_a_carriage_return_alone_is_named(tmp_path):
    assert refused(tmp_path, "a,b\r1,2\r\r3\r", "x.csv") == "x.csv:4: expected 2 cells, found 1"


def test_a_malformed_line_after_many_of_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", 4096)

    message = refused(tmp_path, "a,b\n" + "1,2\n" * 5000 + "3\n", "x.csv")

    assert message == "x.csv:5002: expected 2 cells, found 1"


# --- random tables ------------------------------------------------------------------------------------

EXACT = [
    *(pl.Int8, pl.Int64, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date),
    *(pl.Datetime, pl.Duration, pl.Time, pl.List, pl.Struct, pl.Enum, pl.Decimal),
]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@given(frame=dataframes(min_cols=1, max_cols=4, max_size=8, allowed_dtypes=EXACT))
@settings(max_examples=40)
def test_any_frame_comes_back_exactly(suffix, frame):
    with TemporaryDirectory() as folder:
        pm.sink_table(frame, Path(folder) / f"x{suffix}")

        assert_frame_equal(read(Path(folder) / f"x{suffix}"), frame)


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-9, 9),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([2**53 + 1, 2**63, 2**64, -(2**63) - 1, 1.0, -0.0]),
)
LEAVES = st.one_of(
    st.none(), st.booleans(), NUMBERS, WORDS, st.sampled_from(["NaN", "2024-01-01", '"', "\\"])
)
NAMES = st.sampled_from(["a", "A", "b", "\u00e9", "a.b", "", "NaN"])
VALUES = st.recursive(
    LEAVES, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(NAMES, v, max_size=2)), max_leaves=4
)
UNIFORM = st.sampled_from([st.booleans(), NUMBERS, WORDS, st.lists(NUMBERS, max_size=2), st.none()])


@st.composite
def json_rows(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    cells = {name: draw(st.one_of(UNIFORM, st.just(VALUES))) for name in names}
    rows = draw(st.lists(st.fixed_dictionaries({}, optional=cells), min_size=1, max_size=8))
    return [*rows, dict.fromkeys(names)]


def holds(found, wanted):
    """Whether a value that was read holds all of one that was written."""
    if wanted is None:
        return found is None
    if isinstance(found, str) and not isinstance(wanted, str):
        try:
            return holds(json.loads(found), wanted)
        except ValueError:
            return found.lower() == str(wanted).lower()
    if isinstance(wanted, (bool, str)):
        return type(found) is type(wanted) and found == wanted
    if isinstance(wanted, int):
        return type(found) in (int, float) and not isinstance(found, bool) and found == wanted
    if isinstance(wanted, float):
        if type(found) not in (int, float):
            return False
        return float(found) == wanted or (is_nan(found) and is_nan(wanted))
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
    return isinstance(found, dict) and all(holds(found.get(k), wanted.get(k)) for k in {*found, *wanted})


@given(json_rows(), st.sampled_from([None, 1, 50]), st.sampled_from(["x.jsonl", "x.json"]))
@settings(max_examples=250)
def test_any_json_comes_through(rows, chunk, name):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if chunk:
            patch.setattr(chunks, "CHUNK_BYTES", chunk)
        path = Path(folder) / name
        text = json.dumps(rows) if name == "x.json" else "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(text)
        if name == "x.jsonl":
            assert [row for _, row in oracle.read_jsonl(path)] == rows or "NaN" in text

        found = read(path)

    assert found.columns == columns
    assert found.height == len(rows)
    for row, wanted in zip(found.to_dicts(), rows, strict=True):
        for column in columns:
            assert holds(row[column], wanted.get(column)), (column, row[column], wanted.get(column))


@given(json_rows())
@settings(max_examples=80)
def test_reading_the_output_of_a_reading_changes_nothing(rows):
    with TemporaryDirectory() as folder:
        first, second, third = (Path(folder) / name for name in ("a.jsonl", "b.parquet", "c.parquet"))
        first.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assume("Struct({})" not in str(read(first).schema))  # Parquet has no objects without fields

        pm.sink_table(pm.scan_table(first), second)
        pm.sink_table(pm.scan_table(second), third)

        assert_frame_equal(read(second), read(first))
        assert_frame_equal(read(third), read(first))


CELLS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=6),
    NUMBERS.map(str),
    st.sampled_from(
        [
            "",
            "007",
            "-0",
            "1.50",
            "1e5",
            "true",
            "False",
            "NaN",
            "inf",
            " 1",
            "1 ",
            "+1",
            "1_0",
            ",",
            '"',
            "\n",
        ]
    ),
)


@st.composite
def csv_tables(draw):
    width = draw(st.integers(2, 3))
    cells = [
        draw(st.sampled_from([CELLS, NUMBERS.map(str), st.integers(-9, 2**64).map(str)]))
        for _ in range(width)
    ]
    return draw(st.lists(st.tuples(*cells), min_size=1, max_size=8))


def cell_holds(found, cell):
    if found is None:
        return cell == ""
    if isinstance(found, bool):
        return cell.lower() == str(found).lower()
    if isinstance(found, int):
        return cell == str(found)
    if isinstance(found, float):
        same = float(cell) == found or (is_nan(found) and "nan" in cell.lower())
        return same and (not cell.lstrip("-").isdigit() or Decimal(cell) == Decimal(found))
    return found == cell


@given(
    csv_tables(),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([plain_csv.QUOTE_MINIMAL, plain_csv.QUOTE_ALL]),
)
@settings(max_examples=200)
def test_any_csv_comes_through(rows, line_end, quoting):
    text = io.StringIO()
    writer = plain_csv.writer(text, lineterminator=line_end, quoting=quoting)
    writer.writerow(list("abc")[: len(rows[0])])
    writer.writerows(rows)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        path.write_bytes(text.getvalue().encode())
        again = [tuple(cell or "" for cell in row.values()) for row in oracle.read_csv(path)]

        found = read(path)

    assert again == rows
    assert found.height == len(rows)
    for row, wanted in zip(found.rows(), rows, strict=True):
        assert all(map(cell_holds, row, wanted)), (row, wanted)


TYPED = {
    "id": st.one_of(st.none(), WORDS.map("c{}".format)),
    "n": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    "x": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    "ok": st.one_of(st.none(), st.booleans()),
}
SCHEMA = {"id": pl.String, "n": pl.Int64, "x": pl.Float64, "ok": pl.Boolean}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".csv.gz"])
@given(rows=st.lists(st.fixed_dictionaries(TYPED), min_size=1, max_size=8))
@settings(max_examples=40)
def test_values_come_back_from_text(suffix, rows):
    frame = pl.DataFrame([{"id": "c", "n": 1, "x": 0.5, "ok": True}, *rows], schema=SCHEMA)
    with TemporaryDirectory() as folder:
        pm.sink_table(frame, Path(folder) / f"x{suffix}")

        assert_frame_equal(read(Path(folder) / f"x{suffix}"), frame, check_exact=True)


# --- output -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_json_output_writes_null_for_what_json_has_not(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"

    pm.sink_table(pl.DataFrame({"x": [math.nan, math.inf, 1.0], "l": [[math.nan], [-math.inf], []]}), path)

    assert "NaN" not in path.read_text()
    assert "nf" not in path.read_text()
    assert read(path)["x"].to_list() == [None, None, 1.0]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_nan_and_infinity_survive_in_binary_formats(tmp_path, suffix):
    frame = pl.DataFrame({"x": [math.nan, math.inf, -math.inf, None]})

    pm.sink_table(frame, tmp_path / f"x{suffix}")

    assert_frame_equal(read(tmp_path / f"x{suffix}"), frame)


@pytest.mark.parametrize(
    ("suffix", "frame", "column"),
    [
        (".csv", {"a": [1], "deep": [[1]]}, "deep"),
        (".csv.gz", {"a": [1], "deep": [{"x": 1}]}, "deep"),
        (".csv", {"a": [1], "raw": [b"x"]}, "raw"),
        (".jsonl", {"a": [1], "raw": [b"x"]}, "raw"),
        (".json", {"a": [1], "raw": [b"x"]}, "raw"),
        (".jsonl", {"a": [1], "deep": [[b"x"]]}, "deep"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_writing(tmp_path, suffix, frame, column):
    path = tmp_path / "new" / f"x{suffix}"

    with pytest.raises(errors.OutputError, match=f"'{column}'"):
        pm.sink_table(pl.DataFrame(frame), path)

    assert not path.parent.exists()


def test_folders_are_made(tmp_path):
    pm.sink_table(FRAME, tmp_path / "a" / "b" / "x.csv")

    assert read(tmp_path / "a" / "b" / "x.csv").height == FRAME.height


def test_a_folder_in_the_way_is_refused(tmp_path):
    (tmp_path / "x.csv").mkdir()
    (tmp_path / "file").write_text("")

    with pytest.raises(errors.OutputError, match=r"x\.csv"):
        pm.sink_table(FRAME, tmp_path / "x.csv")
    with pytest.raises(errors.OutputError, match=r"file"):
        pm.sink_table(FRAME, tmp_path / "file" / "x.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.csv"]


def test_an_old_file_is_replaced_through_a_link(tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")

    pm.sink_table(pl.DataFrame({"a": [1]}), tmp_path / "link.csv")

    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "a\n1\n"


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl", ".csv", ".json"])
def test_a_table_may_be_written_over_itself(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    pm.sink_table(pl.DataFrame({"a": [1, 2]}), path)

    plan = pm.scan_table(path).with_columns(b=pl.col("a") * 2)
    # Polars does not let one know that a plan reads Arrow.
    pm.sink_table(plan if suffix == ".arrow" else plan.collect(), path)

    assert read(path).to_dict(as_series=False) == {"a": [1, 2], "b": [2, 4]}


TYPES = pl.DataFrame(
    {
        "enum": pl.Series(["ok", None, "b\u00e9", "ok"], dtype=pl.Enum(["b\u00e9", "ok"])),
        "cat": pl.Series(["x.jsonl", "", None, "\ud55c"], dtype=pl.Categorical),
        "n": [1, 2, 3, 4],
    }
)
ENUM, CAT = ["ok", None, "b\u00e9", "ok"], ["x.jsonl", "", None, "\ud55c"]


def plain(values):
    return [None if value is None or is_nan(value) else str(value) for value in values]


def pandas_columns(path):
    readers = {
        ".parquet": pd.read_parquet,
        ".feather": pd.read_feather,
        ".arrow": pd.read_feather,
        ".csv": lambda path: pd.read_csv(path, keep_default_na=False, na_values={"enum": [""]}),
        ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False),
        ".json": lambda path: pd.DataFrame(json.loads(path.read_text())["rows"]),
    }
    return readers[path.suffix](path)


def pyarrow_columns(path):
    readers = {
        ".parquet": pa.parquet.read_table,
        ".feather": pa.feather.read_table,
        ".arrow": pa.feather.read_table,
        ".csv": lambda path: pa.csv.read_csv(
            path,
            convert_options=pa.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
        ),
        ".jsonl": pa.json.read_json,
    }
    return readers[path.suffix](path).to_pydict()


def duckdb_columns(path):
    with duckdb.connect() as connection:
        if path.suffix in (".feather", ".arrow"):
            connection.register("source", pa.feather.read_table(path))
            rows = connection.execute("select enum, cat from source order by n").fetchall()
        else:
            name = {".parquet": "read_parquet", ".csv": "read_csv", ".jsonl": "read_json"}[path.suffix]
            rows = connection.execute(f"select enum, cat from {name}(?) order by n", [str(path)]).fetchall()
    return dict(zip(("enum", "cat"), map(list, zip(*rows, strict=True)), strict=True))


@pytest.mark.parametrize("reader", [pandas_columns, pyarrow_columns, duckdb_columns])
@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".arrow", ".csv", ".jsonl"])
def test_other_readers_read_the_same_text(tmp_path, reader, suffix):
    pm.sink_table(TYPES, tmp_path / f"x{suffix}")

    found = reader(tmp_path / f"x{suffix}")

    blank = [None, ""] if suffix == ".csv" else [""]  # some readers take empty text of CSV for null
    assert plain(found["enum"]) == ENUM
    cat = plain(found["cat"])
    assert [cat[0], cat[3]] == [CAT[0], CAT[3]]
    assert cat[1] in blank
    assert cat[2] in (blank if suffix == ".csv" else [None])


def test_other_readers_read_the_same_text_of_a_join(tmp_path):
    frame = pl.DataFrame({"clip_id": [f"c{n}" for n in range(300)]})
    scores = pl.DataFrame(
        {
            "scorer": "m",
            "key": [f"c{n}" for n in range(200)],
            "score": 1.0,
            "status": ["ok", "bad"] * 100,
            "source": [f"folder/{n}.json" for n in range(200)],
        }
    )
    labels = pl.DataFrame({"key": ["c1"], "mos": 3.0, "mos_raw_0_100": 50.0, "source": "labels.csv"})
    names = [
        "second_opinion_m_status",
        "second_opinion_m_source",
        "mos_label_status",
        "mos_label_source",
    ]
    joined = frame.pipe(pm.join_scores, scores).pipe(pm.join_labels, labels, min_match_rate=0)
    assert set(joined.select(names).dtypes) == {pl.String}
    expected = joined.select(names).to_dict(as_series=False)

    for suffix in (".parquet", ".arrow", ".csv", ".jsonl"):
        path = tmp_path / f"x{suffix}"
        pm.sink_table(joined, path)
        assert {n: plain(pandas_columns(path)[n].replace("", None)) for n in names} == expected
        assert {n: plain(pyarrow_columns(path)[n]) for n in names} == expected
        polars = read(path).select(names).to_dict(as_series=False)
        assert polars == expected
    rows = duckdb.execute(
        f"select {', '.join(names)} from read_parquet(?)", [str(tmp_path / "x.parquet")]
    ).fetchall()
    assert [list(column) for column in zip(*rows, strict=True)] == [expected[n] for n in names]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_text_of_a_run_is_plain_text_in_its_file(tmp_path, suffix):
    """With old columns copied, and with all of them written anew: no reader is shown a dictionary."""
    pm.sink_table(pl.DataFrame({"clip_id": ["a", "b"]}), tmp_path / f"f{suffix}")
    (tmp_path / "s.jsonl").write_text('{"key": "a", "score": 1}\n')
    (tmp_path / "l.csv").write_text("key,mos,split\na,3.5,test\n")

    pm.materialize_scores(tmp_path / f"f{suffix}", f"m={tmp_path / 's.jsonl'}", tmp_path / "o.parquet")
    pm.materialize_labels(
        tmp_path / "o.parquet",
        tmp_path / "l.csv",
        tmp_path / "p.parquet",
        min_match_rate=0,
        label_scale="1:5",
    )

    texts = {
        field.name: str(field.type)
        for field in pa.parquet.read_schema(tmp_path / "p.parquet")
        if field.name.endswith(("status", "source", "split"))
    }
    assert set(texts.values()) <= {"string", "large_string"}, texts
    assert len(texts) == 5
    described = duckdb.execute(f"describe select * from '{tmp_path / 'p.parquet'}'").fetchall()
    assert {kind for name, kind, *_ in described if name in texts} == {"VARCHAR"}


def test_intervals_are_refused_by_name_without_a_panic(tmp_path, capfd):
    path = tmp_path / "iv.parquet"
    duckdb.sql(f"copy (select 'a' clip_id, interval 1 day iv, [interval 2 day] ivs) to '{path}'")

    with pytest.raises(errors.TableError, match=r"iv\.parquet: the columns 'iv', 'ivs' hold intervals"):
        pm.scan_table(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_a_panic_is_an_error_that_names_the_file(tmp_path, monkeypatch, name):
    pm.sink_table(pl.DataFrame({"clip_id": ["a"]}), tmp_path / name)

    def panic(*_, **__):
        raise pl.exceptions.PanicException("index out of bounds")

    monkeypatch.setattr(pl, "scan_parquet", panic)
    monkeypatch.setattr(pl, "scan_ipc", panic)

    with pytest.raises(errors.TableError, match=rf"{name}: cannot be read: .* index out of bounds"):
        pm.scan_table(tmp_path / name)


# --- complete or not at all ---------------------------------------------------------------------------


def failing(error, at=3):
    """A frame of several batches, the reading of one of which fails."""

    def source(with_columns, predicate, n_rows, batch_size):  # noqa: ARG001 - a source has to take these
        for batch in range(at + 2):
            if batch == at:
                raise error
            part = pl.DataFrame({"a": range(batch * 50_000, (batch + 1) * 50_000)})
            part = part if with_columns is None else part.select(with_columns)
            yield part if predicate is None else part.filter(predicate)

    return pl.io.plugins.register_io_source(source, schema={"a": pl.Int64})


@pytest.mark.parametrize(
    "suffix", [".parquet", ".arrow", ".jsonl", ".csv", ".json", ".jsonl.gz", ".json.zst"]
)
@pytest.mark.parametrize("old", [b"old bytes", None])
@pytest.mark.parametrize(
    "error", [errors.OptionError("no"), RuntimeError("no"), KeyError("no")], ids=lambda e: type(e).__name__
)
def test_a_failing_sink_leaves_the_old_bytes_and_no_stray_file(tmp_path, suffix, old, error):
    path = tmp_path / f"x{suffix}"
    if old is not None:
        path.write_bytes(old)

    with pytest.raises(Exception, match="no"):
        pm.sink_table(failing(error), path)

    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == (
        [] if old is None else [(path.name, old)]
    )


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".json"])
def test_this_packages_errors_pass_through_a_sink(tmp_path, suffix):
    with pytest.raises(errors.OptionError, match=r"^no$"):
        pm.sink_table(failing(errors.OptionError("no")), tmp_path / f"x{suffix}")


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_polars_error_half_way_is_an_output_error(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old")
    frame = pl.LazyFrame({"a": ["1"] * 100_000 + ["x"]}).select(pl.col("a").cast(pl.Int64))

    with pytest.raises(errors.OutputError, match=f"x{suffix}"):
        pm.sink_table(frame, path)

    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(path.name, b"old")]


def test_a_malformed_input_leaves_the_output(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"a":1}\n{"a":}\n')
    (tmp_path / "out.csv").write_text("old")

    with pytest.raises(errors.TableError, match=r"in\.jsonl:2"):
        pm.sink_table(pm.scan_table(tmp_path / "in.jsonl"), tmp_path / "out.csv")

    assert (tmp_path / "out.csv").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


KILLED = """
import sys, time
import polars as pl
from polars.io.plugins import register_io_source
import polars_materialize as pm

def source(with_columns, predicate, n_rows, batch_size):
    for batch in range(10_000):
        if batch == 20:
            print("half", flush=True)
        if batch > 20:
            time.sleep(0.05)
        yield pl.DataFrame({"a": range(20_000), "b": ["text"] * 20_000})

pm.sink_table(register_io_source(source, schema={"a": pl.Int64, "b": pl.String}), sys.argv[1])
"""

FULL = """
import resource, signal, sys
import polars as pl
import polars_materialize as pm

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
frame = pl.LazyFrame({"a": range(400_000)}).with_columns(b=pl.col("a").hash(1).cast(pl.String))
try:
    pm.sink_table(frame, sys.argv[1])
except pm.MaterializeError as error:
    print(error.code, str(error).count(chr(10)))
"""


def start(code, path):
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(pm.__file__).resolve().parents[1],
    )


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".json"])
def test_a_killed_writer_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old")

    with start(KILLED, path) as process:
        line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()

    assert line == "half\n"
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no file size limit on this system")
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".jsonl", ".json", ".csv.gz"])
def test_a_full_disk_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old")

    with start(FULL, path) as process:
        out, err = process.communicate()

    assert out == "output 0\n", err
    assert process.returncode == 0
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(path.name, b"old")]


# --- real tables --------------------------------------------------------------------------------------


def test_real_csv_with_an_unnamed_first_column(shared):
    path = shared / "data" / "nvc" / "subjective.csv"
    if not path.is_file():
        pytest.skip("no subjective scores in the shared data")
    expected = oracle.read_csv(path)

    found = read(path)

    assert found.columns == list(expected[0])
    assert found["name"].to_list() == [row["name"] for row in expected]
    assert found["mos"].to_list() == [float(row["mos"]) for row in expected]


def test_real_tables_survive_every_format(shared, tmp_path):
    paths = sorted((shared / "data").glob("*/*.csv"))
    if not paths:
        pytest.skip("no CSV in the shared data")

    for path in paths:
        frame = read(path)
        for suffix in (".parquet", ".jsonl", ".csv"):
            pm.sink_table(frame, tmp_path / f"x{suffix}")
            again = read(tmp_path / f"x{suffix}")
            assert again.columns == frame.columns
            assert again.rows() == frame.rows()


# --- rows that a run keeps ----------------------------------------------------------------------------

KEPT = {
    "plain": ['{"a": 1, "b": "x"}', '{"a": 2, "b": "y"}'] * 20,
    "late": ['{"a": 1}'] * 20 + ['{"a": 1, "b": 2.5}'] * 20,
    "null": ['{"a": null, "b": 1}'] * 20 + ['{"a": 3, "b": 1}'] * 20,
    "only nulls": ['{"a": null}'] * 20 + ['{"a": "x"}'] * 20,
    "mixed": ['{"a": 1}'] * 20 + ['{"a": "x"}'] * 20,
    "wide": ['{"a": 1}'] * 20 + ['{"a": 1.5}'] * 20 + ['{"a": 9007199254740993}'] * 20,
    "nested": ['{"a": {"x": 1}, "l": [1]}'] * 20 + ['{"l": [], "a": {"y": 2, "x": null}}'] * 20,
    "objects and text": ['{"a": {"x": 1}}'] * 20 + ['{"a": "x"}'] * 20,
    "tokens": ['{"a": NaN}', '{"a": -Infinity}', '{"a": 0.5}'] * 10,
    "no fields": ["{}", '{"a": null}', "{}", '{"a": 1}'] * 5,
    "no fields and nulls": ["{}", '{"a": null}'] * 5,
    "blank": ["", '{"a": 1}', "   "] * 10,
}


@pytest.mark.parametrize("limit", [2**28, 300, 0])
@pytest.mark.parametrize("name", KEPT)
def test_rows_that_were_kept_are_the_rows(tmp_path, monkeypatch, name, limit):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)
    monkeypatch.setattr(shards, "KEPT_BYTES", limit)
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(KEPT[name]) + "\n")
    (tmp_path / "u.json").write_text(f"[{','.join(line for line in KEPT[name] if line.strip())}]")

    for file in ("t.jsonl", "u.json"):
        expected = pm.scan_table(tmp_path / file).collect()
        found = tables.scan_files(tables.find(str(tmp_path / file)), keep=True).collect()
        assert_frame_equal(found, expected)


def test_small_tables_are_parsed_once(tmp_path, monkeypatch):
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n')
    lf = tables.scan_files(tables.find(str(path)), keep=True)

    path.unlink()

    assert lf.collect().rows() == [(1,)]
    path.write_text('{"a": 1}\n')
    monkeypatch.setattr(shards, "KEPT_BYTES", 1)
    lf = tables.scan_files(tables.find(str(path)), keep=True)
    path.write_text('{"a": 5}\n')
    assert lf.collect().rows() == [(5,)]


def test_what_the_disk_says_while_it_is_written_to_is_not_lost(tmp_path, monkeypatch):
    """It says it once only: to whoever asks first."""
    calls = []

    def failing_once(file):
        calls.append(file)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sinks, "FLUSH_S", 0)
    monkeypatch.setattr(os, "fsync", failing_once)

    with pytest.raises(errors.OutputError, match=r"out.parquet: could not be written: .*Input/output error"):
        pm.sink_table(pl.DataFrame({"a": range(10)}), tmp_path / "out.parquet")

    assert list(tmp_path.iterdir()) == []


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    sync, path = os.fsync, tmp_path / "out.parquet"

    def watched(file):
        seen.append((os.fstat(file).st_size, path.exists()))
        sync(file)

    monkeypatch.setattr(os, "fsync", watched)
    pm.sink_table(pl.DataFrame({"a": range(10)}), path)

    assert seen[-1] == (path.stat().st_size, False)


def test_morsels_have_the_fewest_rows_that_a_writer_asks_for_and_then_what_they_had():
    def rows():
        return pl.Config.state(if_set=True).get("POLARS_IDEAL_MORSEL_SIZE")

    with pl.Config(streaming_chunk_size=777):
        seen = []
        with sinks._small_morsels.of(20_000):
            seen.append(rows())
            with sinks._small_morsels.of(5_000), sinks._small_morsels.of(9_000):
                seen.append(rows())
            seen.append(rows())
        assert (seen, rows()) == (["20000", "5000", "20000"], "777")
    assert rows() is None


ROUNDED, HELD = "9007199254740993.0", "9007199254740992.0"


@pytest.mark.parametrize("name", ["clip_id", "v"], ids=["key", "other"])
@pytest.mark.parametrize("other", [HELD, "12345.0", "1"])
def test_a_number_with_a_point_that_a_float_would_round_keeps_its_csv_column_as_text(name, other, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"{name},n\n{ROUNDED},1\n{other},2\n")

    assert tables.scan_table(path).collect()[name].to_list() == [ROUNDED, other]


def test_numbers_with_a_point_that_floats_hold_stay_numbers(tmp_path):
    path = tmp_path / "t.csv"
    largest = "340282346638528859811704183484516925440"
    path.write_text(f"clip_id,v,w\n{HELD},{largest}.000000,1.2345678901234567e+17\n12345.0,0.5,2.5\n")

    assert set(tables.scan_table(path).collect_schema().dtypes()) == {pl.Float64()}


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([ROUNDED, HELD], [ROUNDED, HELD]),
        ([ROUNDED, "null"], [ROUNDED, None]),
        ([ROUNDED, "1.50"], [ROUNDED, "1.50"]),
        ([ROUNDED, '"x"', "9007199254740993"], [ROUNDED, "x", "9007199254740993"]),
        ([ROUNDED, '["x"]'], [ROUNDED, '["x"]']),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_a_json_number_with_a_point_that_a_float_would_round_is_text(suffix, values, texts, tmp_path):
    rows = [f'{{"k": {value}, "o": {{"v": [{value}, 1.5]}}}}' for value in values]
    text = f'{{"rows": [{", ".join(rows)}]}}' if suffix == "json" else "\n".join(rows)
    (tmp_path / f"t.{suffix}").write_text(text)

    assert tables.scan_table(tmp_path / f"t.{suffix}").collect()["k"].to_list() == texts


def test_a_json_number_that_a_float_would_round_is_text_in_every_chunk_and_beside_nan(tmp_path):
    lines = [f'{{"k": {n}.0}}\n' for n in range(30_000)]
    (tmp_path / "t.jsonl").write_text("".join([*lines, f'{{"k": {ROUNDED}}}\n']))
    (tmp_path / "t.json").write_text(f'{{"rows": [{{"k": {ROUNDED}, "n": NaN}}]}}')

    assert tables.scan_table(tmp_path / "t.jsonl").collect()["k"].to_list()[-2:] == ["29999.0", ROUNDED]
    assert tables.scan_table(tmp_path / "t.json").collect()["k"].to_list() == [ROUNDED]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("f.csv", "a\n1\n"),
        ("f.csv", 'a\n"1"\n'),
        ("f.jsonl", '{"a": 1}\n'),
        ("f.json", '[{"a": 1}]'),
        ("f.parquet", None),
    ],
)
def test_a_plan_is_not_written_over_what_it_reads(name, text, tmp_path):
    path = tmp_path / name
    if text is None:
        tables.sink_table(pl.DataFrame({"a": [1]}), path)
    else:
        path.write_text(text)
    old = path.read_bytes()
    other = pl.LazyFrame({"a": [1], "b": [2]})
    plan = tables.scan_table(path).join(other, on="a").filter(pl.col("b") > 1).group_by("a").len()
    (tmp_path / f"link{path.suffix}").symlink_to(path)

    for target in (path, tmp_path / f"link{path.suffix}"):
        with pytest.raises(errors.OutputError, match="the plan that is to be written reads it"):
            tables.sink_table(plan, target)
    assert path.read_bytes() == old
    tables.sink_table(plan, tmp_path / f"new{path.suffix}")
    tables.sink_table(plan.collect(), path)
