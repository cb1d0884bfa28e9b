"""Chunks that are read with the schema of earlier ones hold what they hold without it."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.tables import chunks, strict

FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.floats(-100, 100, width=16), st.just(-0.0)
)
INTEGERS = st.one_of(st.integers(-5, 5), st.integers(-(2**53) - 2, 2**53 + 2))
TEXTS = st.one_of(st.text('aé"\\{}[]: \n,NaN-0', max_size=5), st.sampled_from(["null", "true", "x"]))
USUAL = st.fixed_dictionaries(
    {"clip_id": TEXTS, "vmaf": FLOATS, "frame": INTEGERS, "ok": st.booleans()},
    optional={
        "none": st.none(),
        "list": st.lists(st.one_of(st.none(), FLOATS), max_size=3),
        "summary": st.fixed_dictionaries({"Score": FLOATS}, optional={"name": TEXTS}),
        "frames": st.lists(st.fixed_dictionaries({}, optional={"score": FLOATS, "t": INTEGERS}), max_size=3),
    },
)
"""Rows that mostly agree in their kinds."""
ODD_VALUES = [
    *('"12"', '"NaN"', "true", "null", "NaN", "-Infinity", "Infinity", "Inf", "-NaN", "-0", "-0.0", "-0e1"),
    *("1e2", "12.0", "1e400", "1.7976931348623159e308", "1e-400", "12345678901234567890", "-1e19"),
    *("9007199254740993", "1" + "0" * 40, "[]", "[1]", "[null]", "[[1]]", "{}", '{"x": 1}', '[{"score": 1}]'),
    *(
        r'"\ud800"',
        r'"\udc00\ud800"',
        r'"\ud83d\ude00"',
        r'"\u0000"',
        '"a\tb"',
        "01",
        "+1",
        ".5",
        "1.",
        "tru",
    ),
    *('1, "vmaf": 2', 'null, "vmaf": null', '1, "VMAF": 2', '1, "late": "x"', r'1, "v\u006daf": 2'),
    *('1} {"vmaf": 2', '1}{"vmaf": 2', '1} null {"vmaf": 2', "1}x", "1,", '{"Score": 1, "Score": 1}'),
    *('[{"score": 1, "score": 1}]', '[{"score": 1}, null]', "1 /* no */", '{"score": 1}', "\n1", "1\n"),
]
ODD_LINES = [
    *(b"", b" ", b"{}", b" {}", b"{} ", b"null", b"[1]", b"1", b'"x"', b"{", b"}", b"\0", b"// no", b"]"),
    *(b"\xff", b'{"clip_id": "\xff"}', b'{"clip_id": "\xed\xa0\x80"}', b'{"\xff": 1}', b"\xef\xbb\xbf{}"),
    *(
        b'{"summary": null, "frames": null}',
        b'{"frames": [null]}',
        b'{"summary": {}}',
        b"{} null",
        b"null {}",
    ),
]


@st.composite
def odd_lines(draw):
    name = draw(st.sampled_from(["vmaf", "frame", "clip_id", "ok", "none", "list", "summary", "frames"]))
    return f'{{"{name}": {draw(st.sampled_from(ODD_VALUES))}}}'.encode()


@st.composite
def files(draw):
    """JSON lines of which most are alike, and some are not, or are none."""
    rows = draw(st.lists(USUAL, min_size=1, max_size=12))
    encoded = [json.dumps(row, ensure_ascii=draw(st.booleans())).encode() for row in rows]
    for line in draw(st.lists(st.one_of(odd_lines(), st.sampled_from(ODD_LINES)), max_size=2)):
        encoded.insert(draw(st.integers(0, len(encoded))), line)
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    mark = draw(st.sampled_from([b"", b"", chunks.BOM]))
    return mark + end.join(encoded) + draw(st.sampled_from([b"", end]))


def outcome(read, path, chunk, misses):
    """What comes of a reading: a frame, or an error's kind and words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_BYTES", chunk)
        patch.setattr(strict, "MISSES", misses)
        try:
            return read(path)
        except errors.MaterializeError as error:
            return type(error), str(error)


def assert_equal(read, data, chunk):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_bytes(data)
        slow, fast = (outcome(read, path, chunk, misses) for misses in (0, 100))
    if isinstance(slow, pl.DataFrame):
        assert isinstance(fast, pl.DataFrame), fast
        assert fast.schema == slow.schema
        assert list(fast.schema) == list(slow.schema)
        assert_frame_equal(fast, slow, check_exact=True)
        assert fast.write_ndjson() == slow.write_ndjson()  # which tells -0.0 from 0.0
    else:
        assert fast == slow


def read_kept(path):
    return pm.tables.scan_files(pm.tables.find(path), keep=True).collect()


@given(
    files(), st.sampled_from([1, 60, 200]), st.sampled_from([read_kept, lambda p: pm.scan_table(p).collect()])
)
@settings(max_examples=100, deadline=None)
def test_tables_are_the_same(data, chunk, read):
    assert_equal(read, data, chunk)


@given(
    files(),
    st.sampled_from([1, 60, 200]),
    st.sampled_from([None, "vmaf", "summary.score", "frames.score", "list", "late"]),
    st.sampled_from([None, "frame", "vmaf", "summary.name", "late"]),
)
@settings(max_examples=100, deadline=None)
def test_sidecars_are_the_same(data, chunk, score_field, key_field):
    def read(path):
        sidecar = pm.Sidecar(str(path), label="m", score_field=score_field, key_field=key_field)
        return pm.scan_scores(sidecar).collect()

    assert_equal(read, data, chunk)


def chunk_of(*lines, schema):
    return strict.read(chunks.Chunk("\n".join(lines).encode(), "x.jsonl"), schema)


SCHEMA = {"name": pl.String(), "frames": pl.List(pl.Struct({"score": pl.Float64(), "index": pl.Int64()}))}


@pytest.mark.parametrize("end", ["", "\r"])
def test_what_earlier_lines_let_expect_is_read(end):
    lines = ['{"name": "é", "frames": [{"score": 1, "index": 2}, null]}', '{"frames": null}', "{}"]

    frame = chunk_of(*(line + end for line in lines), schema=SCHEMA)

    assert frame.schema == SCHEMA
    assert frame.rows() == [("é", [{"score": 1.0, "index": 2}, None]), (None, None), (None, None)]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "-NaN", "-0", "-0.0"])
def test_odd_numbers_are_read_only_as_what_they_are(number):
    frame = chunk_of(f'{{"x": {number}}}', schema={"x": pl.Float64()})

    if number in ("NaN", "-0.0"):
        assert str(frame.item()) == str(float(number))
    else:
        assert frame is None


@pytest.mark.parametrize(
    "line", [line.decode(errors="replace") for line in ODD_LINES if line.strip() != b"{}"][:12]
)
def test_lines_that_are_no_objects_are_not_read(line):
    assert chunk_of("{}", line, "{}", schema=SCHEMA) is None


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**53, 2**53 - 1])
def test_a_long_integer_among_floats_of_earlier_chunks_is_exact(tmp_path, monkeypatch, number):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    lines = ['{"a":0.5}'] * 20 + [f'{{"a":{number}}}'] + ['{"a":1.5}'] * 20
    (tmp_path / "x.jsonl").write_text("\n".join(lines))

    found = pm.scan_table(tmp_path / "x.jsonl").collect()["a"]

    exact = abs(number) <= 2**53
    assert found.dtype == (pl.Float64 if exact else pl.String)
    assert found[20] == (float(number) if exact else str(number))


def test_a_file_that_disappoints_is_not_tried_for_ever(tmp_path, monkeypatch):
    tried = []
    read = strict.read
    monkeypatch.setattr(
        strict, "read", lambda chunk, schema: tried.append(bool(schema)) or read(chunk, schema)
    )
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    (tmp_path / "x.jsonl").write_text("".join(f'{{"x": {x}}}\n' for x in [1, '"a"'] * 50))

    frame = pm.scan_table(tmp_path / "x.jsonl").collect()

    assert frame["x"].to_list() == ["1", "a"] * 50
    assert sum(tried) < 20
