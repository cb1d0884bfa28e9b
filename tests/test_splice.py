"""Parquet tables that get columns without their own being read."""

from __future__ import annotations

import contextlib
import io
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize.tables import File, Splice, find, thrift, write_spliced
from polars_materialize.tables.parquet import ENCRYPTION, MAGIC, read_footer

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 1000


def frame(rows=ROWS):
    """A table of many dtypes, with nulls, nested columns, and keys that repeat."""
    return pl.DataFrame(
        {
            "clip_id": [f"clip_{i // 10}" if i % 17 else None for i in range(rows)],
            "x": [i / 7 if i % 5 else None for i in range(rows)],
            "big": pl.Series([2**62 + i for i in range(rows)], dtype=pl.Int64),
            "small": pl.Series([i % 100 for i in range(rows)], dtype=pl.UInt8),
            "flag": [i % 3 == 0 for i in range(rows)],
            "day": [date(2026, 1, 1) + timedelta(days=i) for i in range(rows)],
            "at": [datetime(2026, 1, 1) + timedelta(seconds=i) for i in range(rows)],
            "kind": pl.Series([["a", "b", "c"][i % 3] for i in range(rows)], dtype=pl.Enum(["a", "b", "c"])),
            "price": pl.Series([Decimal(i) / 4 for i in range(rows)], dtype=pl.Decimal(12, 2)),
            "raw": [bytes([i % 256]) for i in range(rows)],
            "list": [[j / 3 for j in range(i % 4)] if i % 6 else None for i in range(rows)],
            "deep": [{"a": i, "b": [{"c": str(i), "d": None if i % 2 else i}]} for i in range(rows)],
            "nothing": [None] * rows,
        }
    )


def scores(folder: Path):
    path = folder / "s.jsonl"
    path.write_text("".join(f'{{"key": "clip_{i}", "score": {i}.5, "runtime_ms": 2}}\n' for i in range(90)))
    return f"dover={path}"


def by_polars(table, path):
    table.write_parquet(path, row_group_size=170)


def by_pyarrow(table, path):
    pq.write_table(
        table.to_arrow(),
        path,
        row_group_size=300,
        compression="snappy",
        use_dictionary=["clip_id"],
        write_page_index=True,
        write_page_checksum=True,
        sorting_columns=[pq.SortingColumn(2)],
    )


def by_pyarrow_2(table, path):
    pq.write_table(table.to_arrow(), path, data_page_version="2.0", compression="gzip", store_schema=False)


def by_duckdb(table, path):
    plain = table.drop("kind", "nothing")  # noqa: F841 - read by the query
    duckdb.sql(f"copy (select * from plain) to '{path}' (format parquet, row_group_size 2048)")


def by_pandas(table, path):
    table.drop("deep", "price").to_pandas().set_index("x").to_parquet(path)


WRITERS = [by_polars, by_pyarrow, by_pyarrow_2, by_duckdb, by_pandas]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_spliced_table_is_the_table_with_the_new_columns(tmp_path, writer):
    writer(frame(), tmp_path / "f.parquet")
    before = pl.read_parquet(tmp_path / "f.parquet")
    wanted = before.lazy().pipe(pm.join_scores, pm.scan_scores(scores(tmp_path))).collect()

    pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet")

    found = pl.read_parquet(tmp_path / "o.parquet")
    new = [name for name in found.columns if name.startswith("second_opinion")]
    assert_frame_equal(found.drop(new), before)
    texts = [name for name in new if name.endswith(("status", "source"))]
    assert_frame_equal(
        found.with_columns(pl.col(texts).cast(str)), wanted.with_columns(pl.col(texts).cast(str))
    )


@pytest.mark.parametrize("writer", WRITERS)
def test_every_reader_reads_a_spliced_table(tmp_path, writer):
    writer(frame(), tmp_path / "f.parquet")
    pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet")
    wanted = pl.read_parquet(
        tmp_path / "o.parquet", columns=["clip_id", "x", "second_opinion_dover_score"]
    ).rows()
    path = tmp_path / "o.parquet"

    by_arrow = pq.read_table(path)
    assert pl.from_arrow(by_arrow).select("clip_id", "x", "second_opinion_dover_score").rows() == wanted
    by_duck = duckdb.sql(f"select clip_id, x, second_opinion_dover_score from '{path}'").fetchall()
    assert by_duck == wanted
    assert pq.ParquetFile(path).read_row_group(0).num_rows == pq.read_metadata(path).row_group(0).num_rows
    by_filter = pq.read_table(path, filters=[("second_opinion_dover_score", "==", 3.5)], use_threads=False)
    assert by_filter.num_rows == sum(row[2] == 3.5 for row in wanted)
    assert len(by_arrow.to_pandas()) == ROWS


def test_old_columns_keep_their_bytes(tmp_path):
    by_pyarrow(frame(), tmp_path / "f.parquet")
    pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet")

    old, new = pq.read_metadata(tmp_path / "f.parquet"), pq.read_metadata(tmp_path / "o.parquet")
    old_bytes, new_bytes = (tmp_path / "f.parquet").read_bytes(), (tmp_path / "o.parquet").read_bytes()
    assert new.num_row_groups == old.num_row_groups == 4
    assert new.num_columns == old.num_columns + 5
    for group in range(old.num_row_groups):
        for column in range(old.num_columns):
            one, other = old.row_group(group).column(column), new.row_group(group).column(column)
            assert (one.path_in_schema, one.compression, one.encodings) == (
                other.path_in_schema,
                other.compression,
                other.encodings,
            )
            assert pages(one, old_bytes) == pages(other, new_bytes)
            assert one.statistics == other.statistics


def pages(chunk, content):
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return content[start : start + chunk.total_compressed_size]


def test_metadata_is_kept_and_the_audit_added(tmp_path):
    table = pa.table({"clip_id": ["a"]}).replace_schema_metadata({"made by": "us"})
    pq.write_table(table, tmp_path / "f.parquet")
    (tmp_path / "s.jsonl").write_text('{"key": "a", "score": 1}\n')

    pm.materialize_scores(tmp_path / "f.parquet", f"s={tmp_path / 's.jsonl'}", tmp_path / "o.parquet")

    metadata = pl.read_parquet_metadata(tmp_path / "o.parquet")
    assert metadata["made by"] == "us"
    assert '"input_rows": 1' in metadata["polars_materialize.audit"]
    assert pq.read_schema(tmp_path / "o.parquet").metadata[b"made by"] == b"us"


def test_a_replaced_column_stays_in_its_place(tmp_path):
    table = (
        frame()
        .with_columns(second_opinion_dover_score=pl.lit("old"))
        .select("clip_id", "second_opinion_dover_score", "deep", "x")
    )
    by_polars(table, tmp_path / "f.parquet")

    pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet", overwrite=True)

    found = pl.read_parquet(tmp_path / "o.parquet")
    assert found.columns[:4] == table.columns
    assert found.schema["second_opinion_dover_score"] == pl.Float64
    assert_frame_equal(found.select("clip_id", "deep", "x"), table.select("clip_id", "deep", "x"))


def test_shards_of_one_kind_are_spliced_in_order(tmp_path):
    table = frame()
    (tmp_path / "shards").mkdir()
    table.head(301).write_parquet(tmp_path / "shards" / "a.parquet", row_group_size=100)
    table.slice(301).write_parquet(tmp_path / "shards" / "b.parquet", row_group_size=77)
    files = find(str(tmp_path / "shards" / "*.parquet"))

    assert Splice.of(files, {"new": pl.Float64()}) is not None
    pm.materialize_scores(tmp_path / "shards" / "*.parquet", scores(tmp_path), tmp_path / "o.parquet")

    assert_frame_equal(pl.read_parquet(tmp_path / "o.parquet", columns=table.columns), table)


@pytest.mark.parametrize("policy", ["drop", "mark"])
def test_rows_that_are_dropped_are_not_spliced(tmp_path, policy):
    by_polars(frame(), tmp_path / "f.parquet")

    audit = pm.materialize_scores(
        tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet", missing_policy=policy
    )

    assert pl.read_parquet(tmp_path / "o.parquet").height == audit.output_rows
    assert (audit.output_rows < ROWS) == (policy == "drop")


def test_files_that_cannot_be_spliced_are_read(tmp_path):
    added = {"new": pl.Float64()}
    path = tmp_path / "f.parquet"

    pl.DataFrame({"clip_id": []}, schema={"clip_id": pl.String}).write_parquet(path)
    assert Splice.of([File.of(path)], added) is None or pl.read_parquet(path).height == 0
    pl.DataFrame({"clip_id": ["a"]}).write_csv(tmp_path / "f.csv")
    assert Splice.of([File.of(tmp_path / "f.csv")], added) is None
    pl.DataFrame({"clip_id": ["a"]}).write_parquet(path)
    pl.DataFrame({"clip_id": ["a"], "y": [1]}).write_parquet(tmp_path / "g.parquet")
    assert Splice.of([File.of(path)], added) is not None
    assert Splice.of([File.of(path), File.of(tmp_path / "g.parquet")], added) is None


def test_an_encrypted_or_damaged_file_has_no_footer():
    stream = io.BytesIO()
    pl.DataFrame({"a": [1]}).write_parquet(stream)
    content = stream.getvalue()
    length = int.from_bytes(content[-8:-4], "little")
    footer = thrift.decode(content[-8 - length : -8])

    footer.set(ENCRYPTION, thrift.STRUCT, thrift.Struct())
    sealed = thrift.encode(footer)
    body = content[: -8 - length]

    assert read_footer(io.BytesIO(content)) is not None
    assert read_footer(io.BytesIO(body + sealed + len(sealed).to_bytes(4, "little") + MAGIC)) is None
    assert read_footer(io.BytesIO(content[:-1])) is None
    assert read_footer(io.BytesIO(b"")) is None
    assert read_footer(io.BytesIO(content[:-20] + content[-8:])) is None


def test_a_file_that_is_cut_off_is_an_error(tmp_path):
    """Its footer is whole and says more than there is: a copy that went wrong in the middle."""
    table = frame().select("clip_id", "x")
    by_polars(table, tmp_path / "f.parquet")
    content = (tmp_path / "f.parquet").read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    meta = thrift.decode(content[-8 - length : -8])
    chunk = meta.get(4).items[-1].get(1).items[-1].get(3)
    chunk.set(7, thrift.I64, chunk.get(7) + 10**6)
    wrong = thrift.encode(meta)
    path = tmp_path / "g.parquet"
    path.write_bytes(content[: -8 - length] + wrong + len(wrong).to_bytes(4, "little") + MAGIC)
    splice = Splice.of([File.of(path)], {"new": pl.Int64()})
    (tmp_path / "o.parquet").write_bytes(b"old")

    with pytest.raises(pm.MaterializeError, match=r"g\.parquet: cannot be read: the file ends"):
        write_spliced(
            splice,
            table.lazy().select(new=pl.col("clip_id").is_null().cast(pl.Int64)),
            File.of(tmp_path / "o.parquet"),
            tmp_path / "part",
            names=["clip_id", "x", "new"],
            metadata={},
        )


@pytest.mark.parametrize("writer", WRITERS)
def test_footers_come_back_byte_for_byte(tmp_path, writer):
    writer(frame(), tmp_path / "f.parquet")
    content = (tmp_path / "f.parquet").read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8]

    assert thrift.encode(thrift.decode(footer)) == footer


values = st.recursive(
    st.one_of(
        st.tuples(st.sampled_from([thrift.I16, thrift.I32, thrift.I64]), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just(thrift.BINARY), st.binary(max_size=40)),
        st.tuples(st.just(thrift.DOUBLE), st.floats(allow_nan=False)),
        st.tuples(st.just(thrift.BYTE), st.integers(0, 255)),
        st.tuples(st.just(thrift.TRUE), st.just(value=True)),
    ),
    lambda inner: st.one_of(
        st.dictionaries(st.integers(1, 300), inner, max_size=5).map(
            lambda fields: (thrift.STRUCT, thrift.Struct(dict(sorted(fields.items()))))
        ),
        st.tuples(inner, st.integers(0, 20)).map(
            lambda pair: (thrift.LIST, thrift.List(pair[0][0], [pair[0][1]] * pair[1]))
        ),
        st.tuples(inner, inner).map(
            lambda pair: (thrift.MAP, thrift.Map((pair[0][0], pair[1][0]), [(pair[0][1], pair[1][1])]))
        ),
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.integers(1, 1000), values, max_size=6))
def test_structs_come_back(fields):
    struct = thrift.Struct(dict(sorted(fields.items())))

    assert thrift.decode(thrift.encode(struct)) == struct


@given(st.binary(max_size=60))
def test_bytes_that_are_no_struct_are_a_value_error(data):
    with contextlib.suppress(ValueError):
        thrift.decode(data)
