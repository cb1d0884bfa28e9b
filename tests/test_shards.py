"""Tables of many files: folders, Hive folders, globs; one output, one each, or a folder parted by columns."""

from __future__ import annotations

import json
import os
import shutil
from datetime import date, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from written import described, files_of

import polars_materialize as pm
from polars_materialize import chains, errors, outputs, runs
from polars_materialize.cli import main
from polars_materialize.tables import staging

SUFFIXES = [
    *(".parquet", ".jsonl", ".json", ".csv", ".arrow", ".csv.gz", ".jsonl.zst"),
]
KINDS = ["scores", "labels"]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_suffix = pytest.mark.parametrize("suffix", SUFFIXES)
TABLE = pl.DataFrame(
    {
        "clip_id": ["a", "b", "b", None, "d", "a", "e"],
        "vmaf": [90.5, None, 1.0, 2.0, 3.0, 4.0, 5.5],
        "frame": [1, 2, 3, 4, 5, 2**53 + 1, None],
        "note": ["2024-01-01", 'x,"y"', "\ud55c\uae00", None, "z", "w", "v"],
    }
)
ADDED = {
    "scores": ["score", "status", "runtime_ms", "frames", "source"],
    "labels": ["mos", "mos_label_status"],
}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A current folder with scores and labels."""
    monkeypatch.chdir(tmp_path)
    evidence()
    return tmp_path


def evidence(folder="."):
    """Writes scores and labels."""
    scores = [
        {"clip_id": "a", "competitor": "M", "score": 0.5, "runtime_ms": 2},
        {"clip_id": "b", "competitor": "M", "status": "broken", "score": 0.1},
        {"clip_id": "e", "competitor": "M", "score": 0.25},
        {"clip_id": "z", "competitor": "M", "score": 0.9},
    ]
    (Path(folder) / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    (Path(folder) / "l.csv").write_text("name,mos\na,4.5\nb,3\ne,1.5\nunused,2\n")


def write(path, data):
    """Writes a table, be it a frame, or columns."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = data if isinstance(data, pl.DataFrame) else pl.DataFrame(data)
    pm.sink_table(frame, path)


def text(path, content):
    """Writes a text file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)


def run(kind="scores", features="t", out="o.parquet", **options):
    """Runs one table of the bundle."""
    if kind == "scores":
        return pm.materialize_scores(features, "s.jsonl", out, **options)
    return pm.materialize_labels(features, "l.csv", out, **{"min_match_rate": 0.5, **options})


def joined(kind, frame, **options):
    """The same join on a frame."""
    if kind == "scores":
        return pm.join_scores(frame, pm.scan_scores("s.jsonl"), **options)
    return pm.join_labels(frame, pm.scan_labels("l.csv"), **{"min_match_rate": 0.5, **options})


def as_text(frame):
    """Enum and Categorical columns as the text they hold."""
    return frame.with_columns(pl.col(pl.Enum, pl.Categorical).cast(pl.String))


def read(path):
    """A table."""
    return as_text(pm.scan_table(path).collect())


def refused(error, work, *parts, **fields):
    """Checks that work is refused with an error whose message has some parts, and leaves no file behind."""
    before = files_of()
    with pytest.raises(error) as info:
        work()
    message = str(info.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert files_of() == before
    for name, value in fields.items():
        assert getattr(info.value, name) == value


# --- reading ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
@every_kind
@every_suffix
def test_a_folder_of_any_format_is_one_table(kind, suffix):
    for index, (start, end) in enumerate([(0, 3), (3, 4), (4, 7)]):
        write(f"t/part{index}{suffix}", TABLE[start:end])

    audit = run(kind)

    assert_frame_equal(read("o.parquet"), as_text(joined(kind, TABLE)), check_dtypes=suffix != ".arrow")
    assert (audit.shards.read, audit.shards.written) == (3, 1)
    assert audit.feature_table == "t"
    names = [file["path"] for file in audit.run_provenance["inputs"]["features"]]
    assert names == [f"t/part{index}{suffix}" for index in range(3)]


@pytest.mark.usefixtures("bundle")
@every_kind
@every_suffix
def test_mixed_formats_in_one_folder_to_each_kind_of_output(kind, suffix):
    cut = {".parquet": (0, 2), ".jsonl": (2, 4), ".csv": (4, 6), ".arrow": (6, 7)}
    for index, (own, (start, end)) in enumerate(cut.items()):
        write(f"t/{index}{own}", TABLE[start:end])
    expected = as_text(joined(kind, TABLE))

    run(kind, out=f"o{suffix}")
    audit = run(kind, out=f"each/{{stem}}{suffix}")

    assert_frame_equal(read(f"o{suffix}"), expected, check_dtypes=False)
    assert_frame_equal(read("each"), expected, check_dtypes=False)
    assert sorted(files_of("each")) == [f"{index}{suffix}" for index in range(4)]
    assert (audit.shards.read, audit.shards.written) == (4, 4)


@pytest.mark.usefixtures("bundle")
@every_kind
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_columns_of_later_shards_are_kept(kind, suffix):
    parts = [TABLE[:3].drop("note", "frame"), TABLE[3:5].drop("note"), TABLE[5:]]
    for index, part in enumerate(parts):
        write(f"t/{index}{suffix}", part)
    expected = as_text(joined(kind, pl.concat(parts, how="diagonal")))

    run(kind)
    run(kind, out="each/{stem}.parquet")

    assert_frame_equal(read("o.parquet"), expected)
    assert expected.columns[:4] == ["clip_id", "vmaf", "frame", "note"]
    own = [pl.read_parquet(f"each/{index}.parquet").columns for index in range(3)]
    new = expected.columns[4:]
    assert own == [["clip_id", "vmaf", *new], ["clip_id", "vmaf", "frame", *new], expected.columns]
    assert_frame_equal(read("each"), pl.concat(map(read, sorted(Path("each").iterdir())), how="diagonal"))


@pytest.mark.usefixtures("bundle")
@every_kind
def test_rows_of_shards_without_the_key_column_have_no_key(kind):
    write("t/0.parquet", {"vmaf": [1.0, 2.0]})
    write("t/1.parquet", {"clip_id": ["a"], "vmaf": [3.0]})

    audit = run(kind, key_column="clip_id") if kind == "scores" else run(kind, feature_key_column="clip_id")

    assert audit.keys.rows == 3
    assert audit.keys.rows_without_key == 2
    column = "second_opinion_m_score" if kind == "scores" else "mos"
    assert read("o.parquet")[column].to_list() == [None, None, 0.5 if kind == "scores" else 4.5]


@pytest.mark.usefixtures("bundle")
def test_shards_without_any_key_column_are_refused():
    write("t/0.parquet", {"vmaf": [1.0]})
    write("t/1.csv", {"psnr": [1.0]})
    refused(errors.KeyColumnError, run, "t: no key column", "'vmaf', 'psnr'")


@pytest.mark.usefixtures("bundle")
def test_text_formats_unite_dtypes_as_one_file_would():
    text("t/0.csv", "clip_id,a,b,c,d\na,1,1,true,9007199254740993\n")
    text("t/1.jsonl", '{"clip_id": "b", "a": 1.5, "b": "x", "c": 2, "d": 1.5}\n')
    text("t/2.csv", "clip_id,a,b,c,d\ne,,007,,\n")

    run()

    found = read("o.parquet").select("a", "b", "c", "d")
    assert found.to_dict(as_series=False) == {
        "a": [1.0, 1.5, None],
        "b": ["1", "x", "007"],
        "c": ["true", "2", None],
        "d": ["9007199254740993", "1.5", None],
    }


@pytest.mark.usefixtures("bundle")
def test_a_csv_shard_with_blank_cells_alone_says_nothing_of_a_columns_dtype():
    text("t/0.csv", "clip_id,x,y\na,,\n")
    text("t/1.csv", "clip_id,x,y\n")
    text("t/2.csv", "clip_id,x,y\nb,1.5,\n")
    write("t/3.parquet", {"clip_id": ["e"], "x": [2.5]})

    run()

    found = read("o.parquet").select("x", "y")
    assert found.schema == {"x": pl.Float64, "y": pl.String}
    assert found.rows() == [(None, None), (1.5, None), (2.5, None)]


def wide(dtype):
    """A row with a number of a dtype."""
    return pl.DataFrame({"clip_id": ["b"], "x": pl.Series([1], dtype=dtype, strict=False)})


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"0.parquet": wide(pl.Int64), "1.parquet": wide(pl.Int32)},
            "t/1.parquet: column 'x' is Int32, but Int64 in t/0.parquet",
        ),
        (
            {"0.parquet": wide(pl.Float64), "1.arrow": wide(pl.Int64)},
            "t/1.arrow: column 'x' is Int64, but Float64 in t/0.parquet",
        ),
        (
            {"0.csv": wide(pl.Int64), "1.parquet": wide(pl.Float64), "2.arrow": wide(pl.Int32)},
            "t/2.arrow: column 'x' is Int32, but Float64 in t/1.parquet",
        ),
        (
            {"0.csv": wide(pl.Int64), "1.parquet": wide(pl.Boolean)},
            "t/1.parquet: column 'x' is Boolean, but Int64 in t/0.csv",
        ),
        (
            {"0.parquet": wide(pl.String), "1.csv": wide(pl.Int64)},
            "t/1.csv: column 'x' is Int64, but String in t/0.parquet",
        ),
        (
            {"0.parquet": wide(pl.Int64), "1.csv": wide(pl.Int64), "2.csv": wide(pl.Boolean)},
            "t/2.csv: column 'x' is Boolean, but Int64 in t/0.parquet",
        ),
    ],
)
def test_typed_formats_that_disagree_are_refused_by_name(files, message):
    for name, frame in files.items():
        write(f"t/{name}", frame)
    refused(errors.TableError, run, message)


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(("typed", "first"), [(".parquet", "text"), (".arrow", "typed")])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".json"])
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, None, -(2**53)], pl.Float64),
        ([2**62, 3], pl.Float64),
        ([2**31 - 1, -(2**31)], pl.Int32),
        ([0, 255, None], pl.UInt8),
        ([2**24, 1], pl.Float32),
        ([1, 2**63 - 1], pl.UInt64),
        ([1.0, None, 9.0], pl.Int64),
        ([2.0, 0.0], pl.UInt8),
        ([0.5, 0.1, 33.333332, 1e-7, 123456792.0], pl.Float32),
    ],
)
def test_numbers_of_text_take_the_dtype_that_typed_files_give_them(values, dtype, suffix, typed, first):
    own, other = (0, 1) if first == "text" else (1, 0)
    rows = pl.DataFrame({"clip_id": ["b"] * len(values), "x": values})
    write(f"t/{own}{suffix}", rows)
    write(f"t/{own}1{suffix}", rows[:1].with_columns(x=pl.lit(1)))
    write(f"t/{other}{typed}", {"clip_id": ["a"], "x": pl.Series([1], dtype=dtype)})

    run()
    run(out="each/{stem}.parquet")

    found = read("o.parquet")
    assert found.schema["x"] == dtype
    assert found.filter(clip_id="a")["x"].to_list() == [1]
    held = pl.Series(values, dtype=pl.Float64 if isinstance(values[0], float) else pl.Int64).cast(dtype)
    assert found.filter(clip_id="b")["x"].to_list() == [*held, 1]
    assert read("each").select("clip_id", "x").rows() == found.select("clip_id", "x").rows()
    assert {pl.read_parquet_schema(path)["x"] for path in Path("each").iterdir()} == {dtype}
    assert pm.scan_table("t").select("x").filter(pl.col("x") == 1).collect().height >= 2


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("typed", [".parquet", ".arrow"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("values", "dtype", "shown"),
    [
        ([1, 2**53 + 1, 2**53 + 3], pl.Float64, "9007199254740993"),
        ([1, 2**31], pl.Int32, "2147483648"),
        ([255, 256], pl.UInt8, "256"),
        ([None, -1], pl.UInt64, "-1"),
        ([1, 2**63], pl.Int64, "9223372036854775808"),
        ([2**24 + 1], pl.Float32, "16777217"),
        ([1.0, 1.5], pl.Int64, "1.5"),
        ([1.0, 2.0**63], pl.Int64, "9.223372036854776e+18"),
        ([0.1, 0.123456789012], pl.Float32, "0.123456789012"),
        ([0.5, 1e39], pl.Float32, "1e+39"),
    ],
)
def test_numbers_of_text_that_a_typed_file_would_change_are_refused(values, dtype, shown, suffix, typed):
    write(f"t/0{typed}", {"clip_id": ["a"], "x": pl.Series([1], dtype=dtype)})
    write(f"t/1{suffix}", {"clip_id": ["b"], "x": [1]})
    write(f"t/2{suffix}", {"clip_id": ["b"] * len(values), "x": values})
    message = f"t/2{suffix}: column 'x' holds {shown}, which does not fit {dtype}, its dtype in t/0{typed};"
    refused(errors.TableError, run, message)
    refused(errors.TableError, lambda: pm.scan_table("t"), message)


@pytest.mark.usefixtures("bundle")
def test_infinities_and_nan_of_text_are_float32_but_no_integers():
    write("t/0.parquet", {"clip_id": ["a"], "x": pl.Series([0.5], dtype=pl.Float32)})
    text("t/1.csv", "clip_id,x\nb,inf\ne,NaN\n")
    assert str(pm.scan_table("t").collect()["x"].to_list()) == "[0.5, inf, nan]"
    write("t/0.parquet", wide(pl.Int64))
    refused(errors.TableError, run, "t/1.csv: column 'x' holds inf, which does not fit Int64")


@pytest.mark.usefixtures("bundle")
def test_numbers_of_text_in_hive_folders_beside_parquet():
    write("t/k=2/0.parquet", {"clip_id": ["a"], "k": pl.Series([2], dtype=pl.Int32)})
    text("t/k=2/1.csv", "clip_id,k\nb,2.0\n")
    text("t/k=3/2.csv", "clip_id\ne\n")
    found = pm.scan_table("t").collect()
    assert found.schema["k"] == pl.Int32
    assert found.rows() == [("a", 2), ("b", 2), ("e", 3)]


@pytest.mark.usefixtures("bundle")
def test_json_that_only_text_holds_beside_parquet_is_refused():
    text("t/0.jsonl", '{"clip_id": "a", "x": 9007199254740993}\n{"clip_id": "b", "x": 1.5}\n')
    write("t/1.parquet", {"clip_id": ["b"], "x": [1.5]})
    refused(errors.TableError, run, "t/1.parquet: column 'x' is Float64, but String in t/0.jsonl")


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("nulls", [0, 1, 2])
def test_a_column_of_nulls_without_a_type_takes_that_of_the_other_shards(nulls, suffix):
    for index, name in enumerate("abe"):
        x = pl.Series([None], dtype=pl.Null) if index == nulls else pl.Series([index])
        write(f"t/{index}{suffix}", pl.DataFrame({"clip_id": [name], "x": x}))

    run()
    run(out="each/{stem}.parquet")

    expected = [None if index == nulls else index for index in range(3)]
    for place in ("o.parquet", "each"):
        found = read(place)
        assert found["x"].to_list() == expected
        assert found["second_opinion_m_score"].to_list() == [0.5, 0.1, 0.25]
        assert found.schema["x"] == pl.Int64


@pytest.mark.usefixtures("bundle")
def test_column_orders_may_differ():
    write("t/0.parquet", {"clip_id": ["a"], "x": [1]})
    write("t/1.parquet", {"x": [2], "clip_id": ["b"]})
    write("t/2.parquet", {"clip_id": ["e"], "x": [3]})

    run()

    found = read("o.parquet")
    assert found.select("clip_id", "x").rows() == [("a", 1), ("b", 2), ("e", 3)]
    assert found["second_opinion_m_score"].to_list() == [0.5, 0.1, 0.25]


@pytest.mark.usefixtures("bundle")
def test_hidden_files_and_those_of_writers_are_passed_over():
    write("t/0.parquet", {"clip_id": ["a"]})
    for name in (".h/0.parquet", "_temporary/0/x.parquet", "_metadata.parquet", ".0.parquet.crc"):
        text(f"t/{name}", "no table")
    text("t/_SUCCESS", "")

    audit = run()

    assert audit.shards.read == 1
    assert audit.run_provenance["inputs"]["features"]["path"] == "t/0.parquet"


@pytest.mark.usefixtures("bundle")
def test_folders_without_a_table_are_refused():
    Path("t/deep").mkdir(parents=True)
    refused(errors.TableError, run, "t: the folder has no files")
    text("t/_SUCCESS", "")
    refused(errors.TableError, run, "t: the folder has no files")
    text("t/README.md", "")
    refused(errors.TableError, run, "t/README.md: unknown kind of table")


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("target", "problem"),
    [("../gone.parquet", "is a link that leads to no file"), ("../other", "is a link that leads to no file")],
)
def test_links_that_would_be_left_out_are_refused(target, problem):
    write("t/0.parquet", {"clip_id": ["a"]})
    write("other/1.parquet", {"clip_id": ["b"]})
    Path("t/link.parquet").symlink_to(target)
    refused(errors.TableError, run, f"t/link.parquet: {problem}")
    Path("t/link.parquet").unlink()
    Path("t/link.parquet").symlink_to("../other/1.parquet")
    assert run().shards.read == 2


@pytest.mark.usefixtures("bundle")
def test_pipes_are_refused():
    write("t/0.parquet", {"clip_id": ["a"]})
    os.mkfifo("t/1.csv")
    with pytest.raises(errors.TableError, match=r"t/1\.csv: is a device or a pipe"):
        run()


@pytest.mark.usefixtures("bundle")
@every_suffix
def test_empty_shards_are_refused_by_name(suffix):
    write("t/0.parquet", {"clip_id": ["a"]})
    text(f"t/1{suffix}", "")
    refused(errors.TableError, run, f"t/1{suffix}: ")


@pytest.mark.usefixtures("bundle")
@every_kind
@pytest.mark.parametrize("suffix", [".parquet", ".json", ".csv", ".arrow"])
def test_shards_without_rows_are_shards(kind, suffix):
    write(f"t/0{suffix}", TABLE[:0])
    write("t/1.parquet", TABLE)
    write("t/2.parquet", TABLE[:0])

    run(kind)
    audit = run(kind, out="each/{stem}.parquet")

    expected = as_text(joined(kind, TABLE))
    assert_frame_equal(read("o.parquet").select(expected.columns), expected)
    assert [pl.read_parquet(f"each/{index}.parquet").height for index in range(3)] == [0, 7, 0]
    assert (audit.shards.read, audit.shards.written) == (3, 3)


@pytest.mark.usefixtures("bundle")
def test_rows_without_any_field_are_rows():
    text("t/0.jsonl", "{}\n{}\n")
    text("t/1.json", '{"rows": []}')
    write("t/2.arrow", pl.DataFrame())
    write("t/3.csv", {"clip_id": ["a"], "x": [1]})

    audit = run()
    run(out="each/{stem}.jsonl.gz", features="t/[03].*")

    assert read("o.parquet").select("clip_id", "x").rows() == [(None, None), (None, None), ("a", 1)]
    assert (audit.input_rows, audit.keys.rows_without_key) == (3, 2)
    assert read("each/0.jsonl.gz")["second_opinion_m_status"].to_list() == ["missing"] * 2


# --- Hive folders -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
def test_hive_folders_are_columns():
    null = "__HIVE_DEFAULT_PARTITION__"
    for index, (n, code, name) in enumerate(
        [("-3", "001", "a%2Fb%20%C3%A9"), ("10", null, ""), (null, "02", "c")]
    ):
        write(f"t/n={n}/code={code}/na%3Dme={name}/0.parquet", {"clip_id": [["a", "b", "e"][index]]})

    run()

    found = read("o.parquet").sort("clip_id")
    assert found.columns[:4] == ["clip_id", "n", "code", "na=me"]
    assert found.schema["n"] == pl.Int64
    assert found.select("n", "code", "na=me").rows() == [
        (-3, "001", "a/b \u00e9"),
        (10, None, ""),
        (None, "02", "c"),
    ]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".arrow"])
def test_hive_folders_of_many_files_in_order_with_late_columns_and_empty_files(suffix):
    expected = []
    for index in range(40):
        frame = pl.DataFrame({"clip_id": list("abe"), "x": [1, 2, 3]})[: index % 4]
        late = frame.with_columns(y=pl.lit(0.5)) if index in (7, 8, 30) else frame
        write(f"t/k={index:02}/j={index % 3}/[0]{index}{suffix}", late)
        expected.append(late.with_columns(k=pl.lit(f"{index:02}"), j=pl.lit(index % 3, pl.Int64)))

    run()

    whole = pl.concat(expected, how="diagonal")
    found = read("o.parquet")
    assert_frame_equal(found.select("clip_id", "x", "k", "j"), whole.select("clip_id", "x", "k", "j"))
    assert_frame_equal(found.select("y"), whole.select("y"), check_dtypes=suffix != ".csv")
    assert_frame_equal(found.drop("y"), as_text(joined("scores", found.select("clip_id", "x", "k", "j"))))
    once = pm.scan_table("t").filter(k="01").select("j", "clip_id")
    assert once.collect().rows() == [(1, "a")]
    assert pm.scan_table("t").select(pl.len()).collect().item() == whole.height


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["1", "2"], pl.Int64),
        (["1", "01"], pl.String),
        (["1", "-0"], pl.String),
        (["1", "--5"], pl.String),
        (["1", "-"], pl.String),
        (["1", "\u0663"], pl.String),
        (["1", "9223372036854775808"], pl.String),
        (["-9223372036854775808", "1"], pl.Int64),
        (["1.5", "2"], pl.String),
        (["true", "false"], pl.String),
        (["2024-01-01", "2024-01-02"], pl.String),
    ],
)
def test_values_of_hive_folders_are_integers_only_where_each_has_one_spelling(values, dtype):
    for value in values:
        write(f"t/k={value}/0.csv", {"clip_id": ["a"]})
    found = pm.scan_table("t").collect()
    assert found.schema["k"] == dtype
    assert sorted(map(str, found["k"])) == sorted(values)


@pytest.mark.usefixtures("bundle")
def test_the_damaged_file_among_those_of_a_hive_folder_is_named():
    for index in range(3):
        path = Path(f"t/k=2/{index}.parquet")
        write(path, {"clip_id": ["a", "b"], "k": [2, 2]})
        # Without statistics the column is read.
        pq.write_table(pq.read_table(path, partitioning=None), path, write_statistics=False)
    damaged = Path("t/k=2/1.parquet")
    data = damaged.read_bytes()
    first = pq.read_metadata(damaged).row_group(0).column(0).dictionary_page_offset or 4
    damaged.write_bytes(data[:first] + bytes(200) + data[first + 200 :])

    refused(errors.TableError, lambda: pm.scan_table("t").collect(), "t/k=2/1.parquet")


@pytest.mark.usefixtures("bundle")
def test_a_hive_column_that_stands_in_files_too():
    write("t/k=1/0.parquet", {"clip_id": ["a"], "k": ["1"]})
    write("t/k=2/0.parquet", {"clip_id": ["b"]})

    run()
    run(out="each/{folder}/{stem}.csv")

    assert read("o.parquet").select("clip_id", "k").rows() == [("a", "1"), ("b", "2")]
    assert Path("each/k=2/0.csv").read_text().splitlines()[1].startswith("b,2,")
    write("t/k=2/0.parquet", {"clip_id": ["b"], "k": [2]})
    write("t/k=x/0.parquet", {"clip_id": ["b"]})
    shutil.rmtree("t/k=1")
    refused(
        errors.TableError,
        run,
        "t/k=x/0.parquet: its folder says k='x', but the column 'k' of other files is Int64",
    )


NULL = "__HIVE_DEFAULT_PARTITION__"


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".jsonl", ".json.zst"])
@pytest.mark.parametrize(
    ("folder", "values", "held", "said"),
    [
        ("train", ["train", "train", "test"], "'test'", "'train'"),
        ("train", ["train", None, "train"], "null", "'train'"),
        ("007", ["007", "7", "007"], "'7'", "'007'"),
        ("7", ["007", "x", "007"], "'007'", "'7'"),
        ("2", [2, 2, 3], "'3'", "'2'"),
        ("007", [7, 7, 8], "'8'", "'007'"),
        ("2", [2.0, 2.5, 2.0], "'2.5'", "'2'"),
        ("x", [2, 2, 2], "'2'", "'x'"),
        (NULL, [None, None, 1], "'1'", "null"),
        (NULL, ["a", "a", "a"], "'a'", "null"),
        ("true", [True, True, False], "'false'", "'true'"),
        ("a%2Fb", ["a/b", "a%2Fb", "a/b"], "'a%2Fb'", "'a/b'"),
    ],
)
def test_a_file_that_says_otherwise_than_its_folder_is_refused(suffix, folder, values, held, said):
    write(f"t/k={folder}/1{suffix}", {"clip_id": ["a", "b", "e"], "k": values})
    message = f"t/k={folder}/1{suffix}: the column 'k' holds {held}, but its folder says {said}; expected one"

    refused(errors.TableError, run, message)
    refused(errors.TableError, lambda: pm.scan_table("t"), message)


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".jsonl", ".json.zst"])
@pytest.mark.parametrize(
    ("folder", "value"),
    [
        *[("train", "train"), ("007", "007"), ("007", 7), ("7", 7), ("2", 2.0), ("0.5", 0.5)],
        *[("true", True), ("True", True), (NULL, None), ("a%2Fb", "a/b")],
    ],
)
def test_a_file_that_says_the_same_as_its_folder_is_read(suffix, folder, value):
    write(f"t/k={folder}/0{suffix}", {"clip_id": ["a", "b"], "k": [value, value]})
    write(f"t/k={folder}/1{suffix}", {"clip_id": ["e"], "k": [value]})

    run()

    assert read("o.parquet")["k"].to_list() == [value] * 3


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize(
    ("folder", "values", "other"),
    [
        ("2024-01-02", pl.Series([date(2024, 1, 2)]), pl.Series([date(2024, 1, 3)])),
        (
            "2024-01-02 00%3A00%3A01.000000005",
            pl.Series(["2024-01-02 00:00:01.000000005"]).str.to_datetime(time_unit="ns"),
            pl.Series(["2024-01-02 00:00:01.000000006"]).str.to_datetime(time_unit="ns"),
        ),
        (
            "2024-01-02 00%3A00%3A01",
            pl.Series([datetime(2024, 1, 2, 0, 0, 1)]),
            pl.Series([datetime(2024, 1, 2, 0, 0, 2)]),
        ),
        ("q", pl.Series(["q"], dtype=pl.Enum(["r", "q"])), pl.Series(["r"], dtype=pl.Enum(["r", "q"]))),
        ("q", pl.Series(["q"], dtype=pl.Categorical), pl.Series(["r"], dtype=pl.Categorical)),
        ("3", pl.Series([3], dtype=pl.UInt8), pl.Series([4], dtype=pl.UInt8)),
        ("300", pl.Series([], dtype=pl.UInt8), pl.Series([44], dtype=pl.UInt8)),
        ("0.1", pl.Series([0.1], dtype=pl.Float32), pl.Series([float("nan")], dtype=pl.Float32)),
        (NULL, pl.Series([None], dtype=pl.Null), pl.Series([0.0])),
        ("q", pl.Series([], dtype=pl.Null), pl.Series([None], dtype=pl.Null)),
        ("q", pl.Series([], dtype=pl.List(pl.String)), pl.Series([["q"]])),
        ("q", pl.Series([], dtype=pl.Duration), pl.Series([1]).cast(pl.Duration)),
        (NULL, pl.Series([None], dtype=pl.List(pl.String)), pl.Series([["q"]])),
        ("+29349-01-26", pl.Series([10**7]).cast(pl.Date), pl.Series([10**7 + 1]).cast(pl.Date)),
        ("1.50", pl.Series(["1.5"]).cast(pl.Decimal(9, 2)), pl.Series(["1.51"]).cast(pl.Decimal(9, 2))),
        ("q" * 200, pl.Series(["q" * 200]), pl.Series(["q" * 199 + "r"])),
    ],
)
def test_values_of_folders_are_compared_in_the_dtype_of_the_column(suffix, folder, values, other):
    same = pl.DataFrame({"k": values.new_from_index(0, 3) if len(values) else values})
    write(f"t/k={folder}/0{suffix}", same)
    write(f"t/k={folder}/1{suffix}", same)
    assert_frame_equal(
        pm.scan_table("t").collect(), pl.concat([same, same], rechunk=True), categorical_as_str=True
    )

    write(f"t/k={folder}/2{suffix}", pl.DataFrame({"k": other}))

    with pytest.raises(errors.TableError, match=r"2\.[a-z]+: the column 'k' holds .*, but its folder says"):
        pm.scan_table("t")


@pytest.mark.usefixtures("bundle")
def test_the_file_that_says_otherwise_is_found_among_many():
    for index in range(300):
        k = index % 7
        own = {"k": [str(k + (index == 283))] * 2} if index % 2 else {}
        write(f"t/k={k}/{index:03}.parquet", {"clip_id": ["a", "b"], **own})
    refused(errors.TableError, run, "t/k=3/283.parquet: the column 'k' holds '4', but its folder says '3'")


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("statistics", [True, False])
def test_a_file_is_looked_at_whether_or_not_its_row_groups_have_statistics(statistics):
    Path("t/k=q").mkdir(parents=True)
    frame = pl.DataFrame({"k": ["q"] * 999 + ["r"] + ["q"] * 1000})
    frame.write_parquet("t/k=q/0.parquet", statistics=statistics, row_group_size=100)
    refused(
        errors.TableError, lambda: pm.scan_table("t"), "the column 'k' holds 'r', but its folder says 'q'"
    )


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("partition_by", ["split", "n", "ok", "day"])
def test_statistics_are_enough_for_what_partition_by_has_written(partition_by):
    days = pl.Series(["2024-01-01", "2024-01-02", "2024-01-01", None, "2024-01-02"]).str.to_date()
    split, n, ok = ["train", "test", "train", None, "test"], [1, 2, 1, 2, 1], [True, False, True, True, None]
    write("t/0.parquet", parted(split=split, n=n, ok=ok, day=days))
    run(out="folder", partition_by=partition_by)
    for path in Path("folder").rglob("*.parquet"):
        content = bytearray(path.read_bytes())
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        content[4:footer] = bytes(footer - 4)
        path.write_bytes(content)

    table = pm.scan_table("folder")

    assert table.collect_schema()["n"] == pl.Int64
    with pytest.raises(pl.exceptions.PolarsError):  # so that pages would have been noticed
        table.select(partition_by).collect()


@pytest.mark.usefixtures("bundle")
def test_a_blank_cell_of_csv_is_what_folders_say_of_null_and_of_empty_text():
    for folder in ("", NULL):
        text(f"t/k={folder}/0.csv", 'clip_id,k\na,\nb,""\n')
        assert pm.scan_table("t").collect().height == 2
        shutil.rmtree("t")


@pytest.mark.usefixtures("bundle")
def test_rows_of_json_without_the_field_are_not_what_their_folder_says():
    text("t/k=1/0.jsonl", '{"clip_id": "a", "k": 1}\n{"clip_id": "b"}\n')
    refused(errors.TableError, run, "t/k=1/0.jsonl: the column 'k' holds null, but its folder says '1'")
    text("t/k=1/0.jsonl", '{"clip_id": "a", "k": [1]}\n')
    refused(errors.TableError, run, "the column 'k' holds a list or an object, but its folder says '1'")


@pytest.mark.usefixtures("bundle")
def test_what_folders_say_of_dates_and_booleans_is_read_for_files_that_lack_them():
    write("t/d=2024-01-02/b=true/0.parquet", {"d": [date(2024, 1, 2)], "b": [True]})
    write("t/d=2024-01-03/b=false/0.parquet", {"clip_id": ["a"]})
    found = pm.scan_table("t").select("d", "b").collect()
    assert found.rows() == [(date(2024, 1, 2), True), (date(2024, 1, 3), False)]


@pytest.mark.usefixtures("bundle")
def test_folders_that_disagree_are_refused():
    write("t/k=1/0.parquet", {"clip_id": ["a"]})
    write("t/k=1/j=1/0.parquet", {"clip_id": ["a"]})
    refused(errors.TableError, run, "t/k=1/j=1/0.parquet: lies in folders of 'k', 'j', but of 'k' in")
    shutil.rmtree("t/k=1/j=1")
    write("t/0.parquet", {"clip_id": ["a"]})
    refused(errors.TableError, run, "of none in t/0.parquet")
    shutil.rmtree("t")
    write("t/k=1/k=2/0.parquet", {"clip_id": ["a"]})
    refused(errors.TableError, run, "lies in several folders of 'k'")


@pytest.mark.usefixtures("bundle")
def test_the_key_may_be_in_the_folders():
    for name in "ab":
        write(f"t/clip_id={name}/0.parquet", {"vmaf": [1.0, 2.0]})
    audit = run()
    assert audit.competitors["M"].matched_rows == 2
    assert read("o.parquet")["second_opinion_m_score"].to_list() == [0.5, 0.5, 0.1, 0.1]


# --- guards over all shards ---------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("out", ["o.parquet", "each/{stem}.parquet", "folder"])
def test_guards_look_at_all_shards_together(out):
    by = "x" if out == "folder" else None
    write("t/0.csv", {"path": ["x/a.mp4"], "x": [1]})
    write("t/1.csv", {"path": ["y/a.mp4"], "x": [2]})
    refused(errors.FoldingError, lambda: run(out=out, partition_by=by), "'x/a.mp4', 'y/a.mp4'")
    write("t/0.csv", {"clip_id": ["a"], "x": [1]})
    write("t/1.csv", {"clip_id": ["no", "no"], "x": [2, 2]})
    refused(
        errors.MatchRateError,
        lambda: run("labels", out=out, partition_by=by, min_match_rate=0.6),
        "match rate 0.5000 (1 of 2 distinct keys",
    )
    refused(
        errors.MissingScoreError,
        lambda: run(out=out, partition_by=by, missing_policy="fail"),
        "M: 2 rows without a score, 1 clip: 'no'",
    )
    assert run("labels", out=out, partition_by=by).match_rate == 0.5


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("options", [{"missing_policy": "drop"}, {"bad_policy": "drop"}])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_dropped_rows_with_each_kind_of_output(options, suffix):
    cuts = [(0, 1), (1, 3), (3, 7)]  # of the second all are bad
    for index, (start, end) in enumerate(cuts):
        write(f"t/{index}{suffix}", TABLE[start:end])
    expected = as_text(joined("scores", TABLE, **options))

    for out in (f"o{suffix}", f"each/{{stem}}{suffix}"):
        audit = run(out=out, **options)
        assert (audit.input_rows, audit.output_rows) == (7, expected.height)
        assert_frame_equal(read(out.split("/")[0]), expected, check_dtypes=False)
    kept = [read(f"each/{index}{suffix}").height for index in range(3)]
    dropped = "missing" if "missing_policy" in options else "bad"
    states = as_text(joined("scores", TABLE))["second_opinion_m_status"]
    assert kept == [(states[start:end] != dropped).sum() for start, end in cuts]
    audit = run(out="folder", partition_by="second_opinion_m_status", **options)
    assert (audit.input_rows, audit.output_rows) == (7, expected.height)
    found = read("folder").sort("clip_id", "vmaf")
    assert_frame_equal(found, expected.sort("clip_id", "vmaf"), check_dtypes=False)


# --- templates ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("options", [{}, {"missing_policy": "drop"}])
def test_small_files_side_by_side_are_those_that_are_written_one_by_one(options, suffix, monkeypatch):
    monkeypatch.setattr(chains, "FEW", 1)  # so that they share what evidence is looked up by
    for index in range(40):
        write(f"t/{index:02d}{suffix}", TABLE[index % 7 : index % 7 + 3])
    written = []
    for most in (outputs.LIGHT_BYTES, -1):
        monkeypatch.setattr(outputs, "LIGHT_BYTES", most)
        run(out=f"each/{{stem}}{suffix}", **options)
        written.append(files_of("each"))

    assert len(written[0]) == 40
    assert written[0] == written[1]


@pytest.mark.usefixtures("bundle")
def test_of_files_side_by_side_none_is_left_if_one_cannot_be_written(monkeypatch):
    for index in range(12):
        write(f"t/{index:02d}.parquet", TABLE)
    monkeypatch.setattr(outputs, "_write_one", partial(_fail_on, "07", outputs._write_one))

    refused(errors.OutputError, lambda: run(out="each/{stem}.parquet"), "each/07.parquet: the disk is full")


def _fail_on(name, write_one, *parts):
    write_one(*parts)
    file = parts[2]
    if name in file.written:
        raise errors.OutputError(f"{file.written}: the disk is full", path=file.written)


@pytest.mark.usefixtures("bundle")
def test_templates_name_each_file_by_stem_and_folder():
    for name in ("x/a.csv.gz", "x/b.1.csv", "y/z/a.jsonl", "y/z/{folder}.csv", "top.csv"):
        write(f"t/{name}", {"clip_id": ["a"]})

    run(out="o/{folder}/{stem}.out.json")
    run(features="t/*/*.csv*", out="p/{stem}-of-{folder}.csv")

    names = ["top", "x/a", "x/b.1", "y/z/a", "y/z/{folder}"]
    assert sorted(files_of("o")) == [f"{name}.out.json" for name in names]
    assert sorted(files_of("p")) == ["a-of-..csv", "b.1-of-..csv"]


@pytest.mark.usefixtures("bundle")
def test_a_template_of_one_file():
    write("f.csv", TABLE)
    audit = run(features="f.csv", out="o/{stem}.parquet")
    assert_frame_equal(read("o/f.parquet"), as_text(joined("scores", TABLE)))
    assert audit.shards.written == 1


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("names", "out", "hint"),
    [
        (["x/a.csv", "y/a.csv"], "o/{stem}.csv", "with {folder} in its path"),
        (["x/a.csv", "x/b.csv"], "o/{folder}.csv", "with {stem} in its path"),
        (["x/a.csv", "x/a.jsonl"], "o/{folder}/{stem}.csv", "so one of them needs another name"),
    ],
)
def test_templates_that_give_two_files_one_output_are_refused(names, out, hint):
    for name in names:
        write(f"t/{name}", {"clip_id": ["a"]})
    both = f"would be the output of t/{names[0]} and of t/{names[1]}; expected one for each, {hint}"
    refused(errors.OutputError, lambda: run(out=out), both)


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("features", "out", "message"),
    [
        ("t", "t/{stem}.parquet", "is also the input"),
        ("t", "t/new/{stem}.csv", "would be an input too, by 't'"),
        ("t", "t/new.parquet", "would be an input too, by 't'"),
        ("t/*.parquet", "t/{stem}-2.parquet", "would be an input too, by 't/*.parquet'"),
        ("t/**/*.parquet", "t/deep/{stem}.parquet", "would be an input too"),
        ("t", "link/{stem}-2.parquet", "would be an input too, by 't'"),
        ("t", "joined/{stem}", "unknown kind of table"),
        ("t", "joined/{stems}.parquet", "unknown {stems}; did you mean '{stem}'?"),
        ("t", "{split}/{stem}.parquet", "unknown {split}; did you mean"),
    ],
)
def test_outputs_that_are_or_would_become_inputs_are_refused(features, out, message):
    write("t/0.parquet", {"clip_id": ["a"]})
    Path("link").symlink_to("t")
    with pytest.raises(errors.MaterializeError) as info:
        run(features=features, out=out)
    assert message in str(info.value)
    assert sorted(files_of()) == ["l.csv", "s.jsonl", "t/0.parquet"]


@pytest.mark.usefixtures("bundle")
def test_an_output_beside_its_inputs_that_no_glob_matches():
    write("t/0.parquet", {"clip_id": ["a"]})
    run(features="t/*.parquet", out="t/{stem}.csv")
    run(features="t/*.parquet", out="t/joined/{stem}.parquet")
    assert sorted(files_of("t")) == ["0.csv", "0.parquet", "joined/0.parquet"]


@pytest.mark.usefixtures("bundle")
@every_kind
def test_old_columns_of_parquet_templates_keep_their_bytes(kind):
    for index, (start, end) in enumerate([(0, 3), (3, 7)]):
        Path("t").mkdir(exist_ok=True)
        pq.write_table(
            TABLE[start:end].to_arrow(),
            f"t/{index}.parquet",
            compression="gzip",
            use_dictionary=["note"],
            row_group_size=2,
        )

    run(kind, out="each/{stem}.parquet")

    for index in range(2):
        old, new = (pq.ParquetFile(f"{folder}/{index}.parquet") for folder in ("t", "each"))
        assert new.metadata.num_row_groups == old.metadata.num_row_groups
        for group in range(old.metadata.num_row_groups):
            for column in range(old.metadata.num_columns):
                chunks = [(f, f.metadata.row_group(group).column(column)) for f in (old, new)]
                content = []
                for place, (_, chunk) in zip(("t", "each"), chunks, strict=True):
                    start = chunk.dictionary_page_offset or chunk.data_page_offset
                    data = Path(f"{place}/{index}.parquet").read_bytes()
                    content.append(data[start : start + chunk.total_compressed_size])
                    assert chunk.compression == "GZIP"
                assert content[0] == content[1]
        new_names = [n for n in new.schema_arrow.names if n not in TABLE.columns]
        assert new.schema_arrow.names[:4] == TABLE.columns
        assert len(new_names) >= 2


@pytest.mark.usefixtures("bundle")
def test_a_failing_run_leaves_every_file_of_a_template_as_it_was(monkeypatch):
    for index in range(4):
        write(f"t/{index}.csv", {"clip_id": ["a"], "x": [index]})
    run(out="each/{stem}.csv")
    before = files_of()
    write_once = pm.outputs._write_one
    done = []

    def breaks(joined, shard, file, part, metadata):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(shard)
        write_once(joined, shard, file, part, metadata)

    monkeypatch.setattr("polars_materialize.outputs._write_one", breaks)
    with pytest.raises(KeyboardInterrupt):
        run(out="each/{stem}.csv", prefix="other", audit_json="a.json")
    assert files_of() == before


# --- folders parted by columns ------------------------------------------------------------------------


def parted(**columns):
    """A table of five clips with columns to part by."""
    return pl.DataFrame({"clip_id": ["a", "b", "c", "d", "e"], "x": range(5), **columns})


@pytest.mark.usefixtures("bundle")
@every_kind
@every_suffix
def test_a_folder_parted_by_columns(kind, suffix):
    table = parted(
        split=["train", "test", "train", None, ""], n=[1, 1, 2, 2, 1], ok=[True, False] * 2 + [None]
    )
    write(f"t/0{suffix}", table[:2])
    write(f"t/1{suffix}", table[2:])

    audit = run(kind, out="folder", partition_by=["split", "n", "ok"])

    whole = read("t")
    expected = as_text(joined(kind, whole))
    assert_frame_equal(read("folder").sort("x"), expected, check_dtypes=False)
    names = sorted(files_of("folder"))
    if "csv" not in suffix:  # which has no empty text
        assert names[0] == "split=/n=1/ok=__HIVE_DEFAULT_PARTITION__/00000000.parquet"
    assert audit.shards.written == len(names) == 5
    assert audit.run_provenance["outputs"]["out"] == [described(f"folder/{name}") for name in names]
    for name in names:
        footer = json.loads(pl.read_parquet_metadata(f"folder/{name}")[staging.FOOTER_KEY])
        assert footer["shards"]["read"] == 2
        assert (footer["feature_table"], footer["output"]) == ("t", "folder")


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    "values",
    [
        [None, "", "..", ".", "a/b c%=\u00e9"],
        ["[a]", "*", "a?", "\\", "a:b"],
        [-1, 0, 2**63 - 1, None, 5],
        pl.Series(["x", "y", None, "x", "x"], dtype=pl.Categorical),
        pl.Series(["x", "y", None, "x", "x"], dtype=pl.Enum(["y", "x"])),
        pl.Series([1, 2, None, 1, 1], dtype=pl.UInt8),
        pl.Series([1, 2, None, 1, 1]).cast(pl.Date),
    ],
)
def test_values_to_part_by_come_back_as_they_were(values):
    table = parted(k=values)
    write("t/0.arrow", table)
    run(out="folder", partition_by="k")
    run(out="folder", partition_by="k")
    found = pm.scan_table("folder").collect().sort("x")
    assert_frame_equal(found.select(table.columns), table, categorical_as_str=True)
    assert all(path.resolve().is_relative_to(Path("folder").resolve()) for path in Path("folder").rglob("*"))


@pytest.mark.usefixtures("bundle")
def test_rows_keep_their_order_within_a_part():
    table = pl.DataFrame({"clip_id": ["a", "b"] * 50_000, "x": range(100_000)})
    for index in range(4):
        write(f"t/{index}.parquet", table[index * 25_000 : (index + 1) * 25_000])
    run(out="folder", partition_by="clip_id")
    for name in "ab":
        part = pm.scan_table(f"folder/clip_id={name}").collect()
        assert part["x"].to_list() == table.filter(clip_id=name)["x"].to_list()


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"partition_by": "y"},
            "folder: the column 'y' is Float64; expected text, integers, booleans or dates",
        ),
        ({"partition_by": "tags"}, "folder: the column 'tags' is List(String)"),
        ({"partition_by": ["k", "splt"]}, "folder: no column 'splt' to part by; the table has"),
        ({"partition_by": ["k", "splt"]}, "did you mean 'split'"),
        ({"partition_by": ["k", "k"]}, "partition_by: 'k', 'k'; expected each column once"),
        ({"partition_by": "k", "out": "f/{stem}"}, "expected a folder, as partition_by is said"),
        ({"partition_by": "k", "out": " "}, "expected a folder, as partition_by is said"),
        ({"partition_by": "hive"}, "the text '__HIVE_DEFAULT_PARTITION__' would read as null"),
        ({"partition_by": "k", "out": "s.jsonl"}, "s.jsonl: "),
        ({"partition_by": "k", "out": "t"}, "t: "),
        ({"partition_by": "k", "out": "/"}, "/: "),
        ({"partition_by": "long"}, "could not be written: File name too long"),
    ],
)
def test_folders_that_cannot_be_parted_are_refused(options, message):
    hive = ["__HIVE_DEFAULT_PARTITION__", None, "", "", ""]
    long = ["x" * 300] * 5
    tags = [["x"]] * 5
    write("t/0.parquet", parted(k=["x"] * 5, y=[0.5] * 5, split=["a"] * 5, hive=hive, long=long, tags=tags))
    before = files_of()
    with pytest.raises(errors.MaterializeError) as info:
        run(**{"out": "folder", **options})
    assert message in str(info.value)
    assert "\n" not in str(info.value)
    assert files_of() == before
    assert sorted(path.name for path in Path().iterdir()) == ["l.csv", "s.jsonl", "t"]


@pytest.mark.usefixtures("bundle")
def test_a_table_of_no_rows_is_one_file():
    write("t/0.parquet", parted(k=["x"] * 5)[:0])
    audit = run("labels", out="folder", partition_by="k", min_match_rate=0)
    assert sorted(files_of("folder")) == ["00000000.parquet"]
    assert pm.scan_table("folder").collect_schema() == joined("labels", parted(k=["x"] * 5)).schema
    assert audit.shards.written == 1
    write("t/0.parquet", parted(k=["x"] * 5))
    run("labels", out="folder", partition_by="k", min_match_rate=0)
    assert sorted(files_of("folder")) == ["k=x/00000000.parquet"]


@pytest.mark.usefixtures("bundle")
def test_an_earlier_folder_is_replaced_as_a_whole():
    write("t/0.parquet", parted(k=["x", "y", "z", "x", "x"]))
    run(out="folder", partition_by="k")
    write("t/0.parquet", parted(j=[1, 1, 1, 1, 2]))
    run(out="folder", partition_by=["j"])
    assert sorted(files_of("folder")) == ["j=1/00000000.parquet", "j=2/00000000.parquet"]
    assert sorted(path.name for path in Path().iterdir()) == ["folder", "l.csv", "s.jsonl", "t"]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    "name", ["note.txt", "k=x/note.txt", "plain.parquet", "deep/0.parquet", ".hidden", "_SUCCESS"]
)
def test_a_folder_with_anything_else_in_it_is_left_alone(name):
    write("t/0.parquet", parted(k=["x"] * 5))
    run(out="folder", partition_by="k")
    text(f"folder/{name}", "mine")
    refused(
        errors.OutputError,
        lambda: run(out="folder", partition_by="k", prefix="p"),
        f"folder: holds {name.split('/')[0]}",
        "which is no partition; expected a new folder",
    )


@pytest.mark.usefixtures("bundle")
def test_a_hive_folder_of_another_program_is_left_alone():
    write("t/0.parquet", parted(k=["x"] * 5))
    pl.DataFrame({"clip_id": ["a"], "k": ["x"]}).write_parquet(pl.PartitionBy("folder", key="k"), mkdir=True)
    refused(
        errors.OutputError,
        lambda: run(out="folder", partition_by="k"),
        "folder: holds k=x/00000000.parquet, which no run has written; expected a new folder",
    )


@pytest.mark.usefixtures("bundle")
def test_files_that_appear_in_a_folder_during_the_run_are_not_lost(monkeypatch):
    write("t/0.parquet", parted(k=["x"] * 5))
    run(out="folder", partition_by="k")
    make = pm.outputs.write_partitions

    def meanwhile(*args, **options):
        make(*args, **options)
        text("folder/k=x/mine.txt", "mine")

    monkeypatch.setattr("polars_materialize.outputs.write_partitions", meanwhile)
    with pytest.raises(errors.OutputError, match=r"holds k=x/mine\.txt"):
        run(out="folder", partition_by="k", prefix="p")
    assert Path("folder/k=x/mine.txt").read_text() == "mine"
    assert "second_opinion_m_score" in pl.read_parquet_schema("folder/k=x/00000000.parquet")
    assert sorted(path.name for path in Path().iterdir()) == ["folder", "l.csv", "s.jsonl", "t"]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", [0, 1])
def test_a_folder_is_not_lost_between_its_two_renames(monkeypatch, error, moment):
    write("t/0.parquet", parted(k=["x"] * 5))
    run(out="folder", partition_by="k")
    before = files_of()
    rename, calls = Path.rename, []

    def breaks(path, target):
        calls.append(path)
        if len(calls) == moment + 1:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", breaks)
    with pytest.raises((errors.OutputError, KeyboardInterrupt), match=r"^$|^folder: could not be written: "):
        run(out="folder", partition_by="k", prefix="p")
    assert files_of() == before
    assert sorted(path.name for path in Path().iterdir()) == ["folder", "l.csv", "s.jsonl", "t"]


@pytest.mark.usefixtures("bundle")
def test_a_failing_run_leaves_the_old_folder_and_nothing_else(monkeypatch):
    write("t/0.parquet", parted(k=["x"] * 5))
    run(out="folder", partition_by="k", audit_json="a.json")
    before = files_of()
    for broken in (KeyboardInterrupt, ValueError):

        def breaks(*_, broken=broken, **__):
            raise broken

        monkeypatch.setattr(runs.Inputs, "refuse_changed", breaks)
        with pytest.raises(broken):
            run(out="folder", partition_by="k", prefix="p", audit_json="a.json")
        assert files_of() == before
        assert not [path for path in Path().iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("features", ["f/k=x/00000000.parquet", "f/*/*.parquet", "f", "./f/k=x"])
def test_a_folder_with_an_input_in_it_is_not_replaced(features):
    write("t/0.parquet", parted(k=["x", "y", "x", "y", "x"]))
    run(out="f", partition_by="k")
    with pytest.raises(errors.OutputError, match=r"lies in it|would be an input too|is also"):
        run(features=features, out="f", partition_by="k", prefix="p")
    assert sorted(files_of("f")) == ["k=x/00000000.parquet", "k=y/00000000.parquet"]


@pytest.mark.usefixtures("bundle")
def test_sidecars_and_audits_in_a_folder_to_replace_are_refused():
    write("t/0.parquet", parted(k=["x"] * 5))
    refused(
        errors.OutputError,
        lambda: run(out="f", partition_by="k", audit_json="f/audit.json"),
        "f: f/audit.json lies in it, which would be replaced with it; expected a folder of its own",
    )
    text("f/k=x/s.jsonl", Path("s.jsonl").read_text())
    refused(
        errors.OutputError,
        lambda: pm.materialize_scores("t", "f/k=x/s.jsonl", "f", partition_by="k"),
        "f: f/k=x/s.jsonl lies in it",
    )


@pytest.mark.usefixtures("bundle")
def test_a_link_to_a_folder_keeps_pointing_where_it_points():
    write("t/0.parquet", parted(k=["x"] * 5))
    Path("real").mkdir()
    Path("link").symlink_to("real")
    run(out="link", partition_by="k")
    run(out="link", partition_by="k")
    assert Path("link").is_symlink()
    assert sorted(files_of("real")) == ["k=x/00000000.parquet"]


# --- audits, batches, the command line ----------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
@every_kind
def test_audits_of_templates_list_every_file(kind):
    for index in range(3):
        write(f"t/{index}.parquet", TABLE)

    audit = run(kind, out="each/{stem}.parquet", audit_json="a.json")

    stored = json.loads(Path("a.json").read_text())
    assert stored["shards"] == {"read": 3, "written": 3}
    names = [f"each/{index}.parquet" for index in range(3)]
    assert stored["run_provenance"]["outputs"]["out"] == [described(name) for name in names]
    assert stored["run_provenance"]["inputs"]["features"] == [described(f"t/{i}.parquet") for i in range(3)]
    assert stored["input_rows"] == audit.input_rows == 21
    assert stored["output"] == "each/{stem}.parquet"
    for name in names:
        footer = json.loads(pl.read_parquet_metadata(name)[staging.FOOTER_KEY])
        unknown = [{**described(name), "sha256": None, "bytes": None} for name in names]
        assert footer["run_provenance"].pop("outputs") == {"out": unknown}
        assert footer == {**stored, "run_provenance": footer["run_provenance"]}
        assert {**stored["run_provenance"], **footer["run_provenance"]} == stored["run_provenance"]


def manifest(*tables, **top):
    """Writes a manifest."""
    text("m.json", json.dumps({"tables": tables, **top}))
    return "m.json"


def entry(name, **fields):
    """A table of a manifest."""
    return {"id": name, "features": "t", "scores": ["s.jsonl"], "out": f"{name}.parquet", **fields}


@pytest.mark.usefixtures("bundle")
def test_batches_with_each_kind_of_output():
    for index in range(3):
        write(f"t/{index}.csv", TABLE)
    tables = [
        entry("one"),
        entry("each", out="each/{stem}.csv", audit_json="each.json"),
        entry("folder", out="folder", partition_by="second_opinion_m_status"),
    ]

    report = pm.run_batch(manifest(*tables), report_json="r.json", report_md="r.md")

    assert report.status == "ok"
    counts = [table["summary"]["shards"] for table in report.tables]
    assert counts == [{"read": 3, "written": 1}, {"read": 3, "written": 3}, {"read": 3, "written": 3}]
    outputs = json.loads(Path("r.json").read_text())["run_provenance"]["outputs"]["tables"]
    names = [
        *("one.parquet", "each/0.csv", "each/1.csv", "each/2.csv", "each.json"),
        *(f"folder/second_opinion_m_status={status}/00000000.parquet" for status in ("bad", "missing", "ok")),
    ]
    assert outputs == [described(name) for name in names]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"out": "each/0.csv"}, "$.tables[1].out: is also $.tables[0].out"),
        ({"out": "each/{folder}/{stem}.csv"}, "$.tables[1].out: is also $.tables[0].out"),
        ({"features": "each/0.csv"}, "$.tables[0].out: is also an input, $.tables[1].features"),
        ({"features": "each"}, "$.tables[0].out: is also an input, $.tables[1].features"),
        ({"audit_json": "folder/a.json"}, "$.tables[1].audit_json: lies in the folder $.tables[2].out"),
        ({"out": "folder/k=x/0.parquet"}, "$.tables[1].out: lies in the folder $.tables[2].out"),
        ({"features": "folder/k=x/0.parquet"}, "$.tables[1].features: lies in the folder $.tables[2].out"),
        ({"features": "folder/*/0.parquet"}, "$.tables[1].features: lies in the folder $.tables[2].out"),
        ({"out": "folder", "partition_by": "k"}, "$.tables[2].out: is also $.tables[1].out"),
        ({"partition_by": "frame"}, None),
        ({"out": "x/{stem}.txt"}, "$.tables[1].out: x/x.txt: unknown kind of table"),
        ({"partition_by": 3}, "$.tables[1].partition_by: "),
        ({"partition_by": ["a", "a"]}, "$.tables[1].partition_by: 'a', 'a'; expected each column once"),
    ],
)
def test_manifests_whose_outputs_meet_are_refused_before_anything_runs(second, message):
    write("t/0.csv", TABLE)
    tables = [
        entry("one", out="each/{stem}.csv"),
        entry("two", **second),
        entry("three", out="folder", partition_by="frame"),
    ]
    path = manifest(*tables)
    if message is None:
        assert pm.run_batch(path).status == "ok"
        assert Path("two.parquet").is_dir()
        return
    refused(errors.ManifestError, lambda: pm.run_batch(path), message)


@pytest.mark.usefixtures("bundle")
def test_the_command_line(capsys):
    for index in range(2):
        write(f"t/{index}.csv", TABLE)
    command = ["second-opinion", "table", "--features", "t", "--scores", "s.jsonl"]
    assert main([*command, "--out", "each/{stem}.parquet"]) == 0
    assert (
        main(
            [*command, "--out", "f", "--partition-by", "second_opinion_m_status", "--partition-by", "clip_id"]
        )
        == 0
    )
    assert sorted(files_of("each")) == ["0.parquet", "1.parquet"]
    assert "second_opinion_m_status=ok/clip_id=a/00000000.parquet" in files_of("f")
    capsys.readouterr()
    assert main([*command, "--out", "f/{stem}", "--partition-by", "clip_id"]) == 2
    assert capsys.readouterr().err == "error: out: 'f/{stem}'; expected a folder, as partition_by is said\n"
    assert main([*command, "--out", "g", "--partition-by", "clip"]) == 1
    assert capsys.readouterr().err.startswith("error: g: no column 'clip' to part by; ")


# --- any split ----------------------------------------------------------------------------------------

rows = st.fixed_dictionaries(
    {
        "clip_id": st.sampled_from(["a", "b", "d", "e", None]),
        "x": st.none() | st.integers(-(2**63), 2**63 - 1),
        "y": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "note": st.none() | st.sampled_from(["n", 'n "q"', "n,\nm", "n\u00e9"]),
    }
)
SCHEMA = {"clip_id": pl.String, "x": pl.Int64, "y": pl.Float64, "note": pl.String}
FULL = {"clip_id": "a", "x": 7, "y": 0.5, "note": "n"}


@st.composite
def splits(draw):
    """The shards of a table, each with its suffix and the columns that it has."""
    content = draw(st.lists(rows, max_size=12))
    content.insert(draw(st.integers(0, len(content))), FULL)  # so that text shows every dtype
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=5)))
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        frame = pl.DataFrame(content[start:end], schema=SCHEMA, orient="row")
        optional = [] if FULL in content[start:end] else draw(st.sets(st.sampled_from(["x", "y", "note"])))
        empty = (".parquet", ".csv", ".arrow")
        found.append((draw(st.sampled_from(SUFFIXES if end > start else empty)), frame.drop(optional)))
    return found


@settings(max_examples=30)
@given(shards=splits(), kind=st.sampled_from(KINDS), policy=st.sampled_from(["mark", "drop"]))
def test_any_split_into_shards_equals_the_whole(shards, kind, policy):
    options = {"missing_policy": policy} if kind == "scores" else {"min_match_rate": 0}
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evidence()
        for index, (suffix, frame) in enumerate(shards):
            write(f"t/{index:02}{suffix}", frame)
        whole = pl.concat([frame for _, frame in shards], how="diagonal")
        expected = as_text(joined(kind, whole, **options))

        audit = run(kind, **options)
        run(kind, out="each/{stem}.parquet", **options)
        run(kind, out="folder", partition_by="clip_id", **options)

        assert_frame_equal(read("o.parquet"), expected, check_exact=True)
        assert_frame_equal(read("each").select(expected.columns), expected, check_exact=True)
        each = [read(f"each/{index:02}.parquet") for index in range(len(shards))]
        for (_, frame), one in zip(shards, each, strict=True):
            assert one.columns == [*frame.columns, *expected.columns[4:]] or set(one.columns) == {
                *frame.columns,
                *(name for name in expected.columns if name not in whole.columns),
            }
        stable = expected.sort("clip_id", maintain_order=True, nulls_last=True)
        found = read("folder").sort("clip_id", maintain_order=True, nulls_last=True)
        assert_frame_equal(found.select(expected.columns), stable, check_exact=True)
        assert (audit.input_rows, audit.output_rows) == (whole.height, expected.height)


def test_a_real_table_in_seven_shards(shared, tmp_path, monkeypatch):
    source = shared / "data" / "live_vqc"
    tables = sorted(source.rglob("*feature*.csv")) if source.is_dir() else []
    if not tables:
        pytest.skip("no features of LIVE-VQC")
    monkeypatch.chdir(tmp_path)
    whole = pm.scan_table(tables[0]).collect()
    formats = [".parquet", ".csv", ".arrow", ".jsonl", ".parquet", ".csv.gz", ".json"]
    size = -(-whole.height // 7)
    for index, suffix in enumerate(formats):
        write(f"t/{index}{suffix}", whole[index * size : (index + 1) * size])
    key = next(name for name in whole.columns if whole.schema[name] == pl.String or "id" in name.lower())
    scores = whole.select(clip=pl.col(key).cast(pl.String)).unique().sort("clip").with_row_index("score")
    write("s.csv", scores.filter(pl.col("score") % 5 != 0))
    for features, out in (("t", "o.parquet"), (tables[0], "w.parquet"), ("t", "each/{stem}.parquet")):
        pm.materialize_scores(features, pm.Sidecar("s.csv", label="m", key_field="clip"), out, key_column=key)
    assert_frame_equal(read("o.parquet"), read("w.parquet"))
    assert_frame_equal(read("each"), read("w.parquet"))
