"""Parquet tables that get columns without their own being read."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import subprocess
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize.tables import File, Splice, find, thrift, write_spliced
from polars_materialize.tables.pages import PageError, Pages
from polars_materialize.tables.parquet import (
    ARROW_SCHEMA,
    BLOOM_FILTER,
    CHUNK_ENCRYPTION,
    CHUNK_META,
    CHUNK_OFFSET,
    CHUNKS,
    COMPRESSED,
    DATA,
    DICTIONARY,
    ELSEWHERE,
    ENCRYPTION,
    GROUP_BYTES,
    GROUP_COMPRESSED,
    GROUP_OFFSET,
    GROUPS,
    INDEX,
    MAGIC,
    NAME,
    ORDERS,
    PAGE_INDEX,
    SCHEMA,
    SORTING,
    UNCOMPRESSED,
    first_page,
    read_footer,
)

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


def test_files_that_cannot_be_spliced_are_not(tmp_path):
    added = {"new": pl.Float64()}
    path = tmp_path / "f.parquet"

    pl.DataFrame({"clip_id": ["a"]}).write_csv(tmp_path / "f.csv")
    assert Splice.of([File.of(tmp_path / "f.csv")], added) is None
    pl.DataFrame({"clip_id": ["a"]}).write_parquet(path)
    pl.DataFrame({"clip_id": ["a"], "y": [1]}).write_parquet(tmp_path / "g.parquet")
    assert Splice.of([File.of(path)], added) is not None
    assert Splice.of([File.of(path), File.of(tmp_path / "g.parquet")], added) is None
    pl.DataFrame({"clip_id": [1]}).write_parquet(tmp_path / "h.parquet")
    assert Splice.of([File.of(path), File.of(tmp_path / "h.parquet")], added) is None
    by_duckdb(frame(3).select("clip_id", "kind", "nothing"), tmp_path / "i.parquet")  # no Arrow schema
    assert Splice.of([File.of(path), File.of(tmp_path / "i.parquet")], added) is None


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


def with_footer(path, change, target=None):
    """Writes a file anew with a footer that was changed."""
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    meta = thrift.decode(content[-8 - length : -8])
    change(meta)
    footer = thrift.encode(meta)
    (target or path).write_bytes(content[: -8 - length] + footer + len(footer).to_bytes(4, "little") + MAGIC)


def chunks_of(meta):
    return [chunk for group in meta.get(GROUPS).items for chunk in group.get(CHUNKS).items]


def footer_of(path):
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    return thrift.decode(content[-8 - length : -8])


def refused(tmp_path, source="f.parquet"):
    """The line that a run of a damaged table ends with; it leaves the old output as it was."""
    (tmp_path / "o.parquet").write_bytes(b"old")
    with pytest.raises(pm.MaterializeError) as caught:
        pm.materialize_scores(tmp_path / source, scores(tmp_path), tmp_path / "o.parquet")
    assert (tmp_path / "o.parquet").read_bytes() == b"old"
    assert str(caught.value).startswith(f"{tmp_path / 'f.parquet'}: ")
    return str(caught.value)


def test_a_footer_that_says_more_than_there_is_is_an_error(tmp_path):
    by_polars(frame().select("clip_id", "x"), tmp_path / "f.parquet")

    def longer(meta):
        last = chunks_of(meta)[-1].get(CHUNK_META)
        last.set(COMPRESSED, thrift.I64, last.get(COMPRESSED) + 10**6)

    with_footer(tmp_path / "f.parquet", longer)

    assert "cannot be read: the file ends before its column 'x' does" in refused(tmp_path)


def test_a_file_that_is_cut_off_meanwhile_is_an_error(tmp_path):
    table = frame().select("clip_id", "x")
    by_polars(table, tmp_path / "f.parquet")
    path = tmp_path / "f.parquet"
    splice = Splice.of([File.of(path)], {"new": pl.Int64()})
    path.write_bytes(path.read_bytes()[:3000])
    (tmp_path / "o.parquet").write_bytes(b"old")

    with pytest.raises(pm.MaterializeError, match=r"f\.parquet: cannot be read: the file ends"):
        write_spliced(
            splice,
            table.lazy().select(new=pl.col("clip_id").is_null().cast(pl.Int64)),
            File.of(tmp_path / "o.parquet"),
            tmp_path / "part",
            names=["clip_id", "x", "new"],
            metadata={},
        )


# --- damaged pages ------------------------------------------------------------------------------------


def noisy(path, **options):
    """A table whose columns have several pages each, some of them large."""
    rows = 40_000
    table = pa.table(
        {
            "clip_id": [f"clip_{i % 90}" for i in range(rows)],
            "x": [(i * 7919) % 10007 / 7 for i in range(rows)],
            "t": ["\u00e4" * (i % 50) for i in range(rows)],
            "l": [[1.5] * (i % 3) if i % 5 else None for i in range(rows)],
        }
    )
    pq.write_table(table, path, row_group_size=15_000, data_page_size=20_000, **options)
    return table


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
def test_pages_with_checksums_that_hold_are_copied(tmp_path, version, codec):
    table = noisy(
        tmp_path / "f.parquet", data_page_version=version, compression=codec, write_page_checksum=True
    )

    pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet")

    found = pq.read_table(tmp_path / "o.parquet", page_checksum_verification=True)
    assert found.select(table.column_names).equals(table)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("column", ["x", "t", "l.list.element"])
@pytest.mark.parametrize("place", [0.3, 0.7, 1.0])
def test_a_page_that_has_another_checksum_than_its_bytes_is_refused(tmp_path, version, column, place):
    path = tmp_path / "f.parquet"
    noisy(path, data_page_version=version, compression="none", write_page_checksum=True)
    content = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(1)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start + int((chunk.total_compressed_size - 1) * place)] ^= 0x10
    path.write_bytes(content)

    message = refused(tmp_path)

    assert f"the column {column!r} is damaged: " in message


@pytest.mark.parametrize("piece", [1, 7, 2**20])
def test_pages_are_seen_whatever_pieces_they_come_in(tmp_path, piece):
    path = tmp_path / "f.parquet"
    noisy(path, compression="none", write_page_checksum=True)
    content = path.read_bytes()
    chunk = chunks_of(footer_of(path))[1].get(CHUNK_META)
    start, size = first_page(chunk), chunk.get(COMPRESSED)

    def look(data, values):
        pages = Pages(values, chunk.get(UNCOMPRESSED), is_packed=False)
        for at in range(0, len(data), piece):
            pages.add(memoryview(data)[at : at + piece])
        pages.end()

    data = content[start : start + size]
    look(data, chunk.get(5))
    for wrong in (data[:-1], data + b"\0", data[1:], data[: size // 2], b"", b"\xff" * 40, b"\x15" * 2000):
        with pytest.raises(PageError):
            look(wrong, chunk.get(5))
    for values in (chunk.get(5) - 1, chunk.get(5) + 1):
        with pytest.raises(PageError, match="as many values"):
            look(data, values)


@pytest.mark.parametrize("writer", [by_polars, by_duckdb, by_pyarrow_2])
def test_zeros_where_pages_were_are_refused(tmp_path, writer):
    """A block that the disk lost: without checksums it is seen by the headers of pages."""
    writer(frame(3000), tmp_path / "f.parquet")
    content = bytearray((tmp_path / "f.parquet").read_bytes())
    chunk = chunks_of(footer_of(tmp_path / "f.parquet"))[1].get(CHUNK_META)
    start = first_page(chunk)
    content[start : start + chunk.get(COMPRESSED)] = bytes(chunk.get(COMPRESSED))
    (tmp_path / "f.parquet").write_bytes(content)

    assert "the column 'x' is damaged" in refused(tmp_path)


HEADERS = {
    "fewer bytes": lambda page: page.set(2, thrift.I32, page.get(2) - 1),
    "more bytes": lambda page: page.set(2, thrift.I32, page.get(2) + 1),
    "less than no bytes": lambda page: page.set(2, thrift.I32, -page.get(2)),
    "no bytes": lambda page: page.drop(2),
    "bytes of more than 32 bits": lambda page: page.set(2, thrift.I32, 2**31),
    "bytes as text": lambda page: page.set(2, thrift.BINARY, b"50"),
    "kind as text": lambda page: page.set(1, thrift.BINARY, b"0"),
    "checksum as text": lambda page: page.set(4, thrift.BINARY, b"0"),
    "values as text": lambda page: own(page).set(1, thrift.BINARY, b"0"),
    "encoding as text": lambda page: own(page).set(2, thrift.BINARY, b"0"),
    "encoding unknown": lambda page: own(page).set(thrift_encoding(page), thrift.I32, 77),
    "no encoding": lambda page: own(page).drop(thrift_encoding(page)),
    "statistics as a number": lambda page: own(page).set(statistics(page), thrift.I32, 7),
    "statistics of other types": lambda page: own(page).set(
        statistics(page), thrift.STRUCT, thrift.Struct({3: (thrift.BINARY, b"x")})
    ),
    "the header of another kind": lambda page: page.drop(5, 8),
}


def own(page):
    return page.get(5) or page.get(8)


def thrift_encoding(page):
    return 2 if page.get(5) else 4


def statistics(page):
    return 5 if page.get(5) else 8


@pytest.mark.parametrize("wrong", HEADERS)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_page_whose_header_is_damaged_is_refused(tmp_path, wrong, version, codec):
    path = tmp_path / "f.parquet"
    table = pa.table({"clip_id": ["k1", "k2"], "x": [0.5, None]})
    options = {"use_dictionary": False, "compression": codec, "data_page_version": version}
    pq.write_table(table, path, **options)
    content = path.read_bytes()
    chunk = chunks_of(footer_of(path))[1].get(CHUNK_META)
    start, size = first_page(chunk), chunk.get(COMPRESSED)
    page, length = thrift.decode_first(content[start : start + size])
    whole = content[start : start + size]
    HEADERS[wrong](page)
    damaged = thrift.encode(page) + whole[length:]

    def look(data):
        pages = Pages(chunk.get(5), chunk.get(UNCOMPRESSED) + shift, is_packed=codec != "none")
        pages.add(memoryview(data))
        pages.end()

    shift = 0
    look(whole)
    shift = len(damaged) - len(whole)  # what the header itself takes is not what shows it
    with pytest.raises(PageError):
        look(damaged)
    path.write_bytes(content[:start] + damaged[:size] + content[start + size :])
    if len(damaged) == size:
        assert "the column 'x' is damaged" in refused(tmp_path)


# --- what a footer says of other places ---------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1, 4, 10**12, -1])
def test_an_index_page_is_no_place_that_anything_begins_at(tmp_path, offset):
    table = frame().select("clip_id", "x", "deep")
    by_polars(table, tmp_path / "f.parquet")

    def point(meta):
        for chunk in chunks_of(meta):
            chunk.get(CHUNK_META).set(INDEX, thrift.I64, offset)

    with_footer(tmp_path / "f.parquet", point)
    assert Splice.of([File.of(tmp_path / "f.parquet")], {"new": pl.Int64()}) is not None

    pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet")

    assert_frame_equal(pl.read_parquet(tmp_path / "o.parquet", columns=table.columns), table)
    assert pq.read_table(tmp_path / "o.parquet", columns=table.columns).num_rows == ROWS
    assert duckdb.sql(f"select x from '{tmp_path / 'o.parquet'}'").fetchall() == table.select("x").rows()


@pytest.mark.parametrize("offset", [0, 10**12])
def test_a_dictionary_that_is_not_ahead_of_the_data_is_none(tmp_path, offset):
    table = frame().select("clip_id", "x")
    pq.write_table(table.to_arrow(), tmp_path / "f.parquet", use_dictionary=False)

    def point(meta):
        chunks_of(meta)[1].get(CHUNK_META).set(DICTIONARY, thrift.I64, offset)

    with_footer(tmp_path / "f.parquet", point)

    pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet")

    assert_frame_equal(pl.read_parquet(tmp_path / "o.parquet", columns=table.columns), table)
    metas = [chunk.get(CHUNK_META) for chunk in chunks_of(footer_of(tmp_path / "o.parquet"))]
    assert all(meta.get(DICTIONARY) in (None, first_page(meta)) for meta in metas)


def test_what_points_to_places_in_the_old_file_is_left_out(tmp_path):
    path = tmp_path / "f.parquet"
    by_pyarrow(frame(), path)

    def point(meta):
        for chunk in chunks_of(meta):
            for number in BLOOM_FILTER:
                chunk.get(CHUNK_META).set(number, thrift.I64, 5)

    with_footer(path, point)
    old = footer_of(path)
    assert any(chunk.get(number) for chunk in chunks_of(old) for number in PAGE_INDEX)
    assert all(group.get(SORTING) for group in old.get(GROUPS).items)

    pm.materialize_scores(path, scores(tmp_path), tmp_path / "o.parquet")

    new = footer_of(tmp_path / "o.parquet")
    assert not any(chunk.get(number) for chunk in chunks_of(new) for number in PAGE_INDEX)
    assert not any(chunk.get(CHUNK_META).get(n) for chunk in chunks_of(new) for n in (*BLOOM_FILTER, INDEX))
    assert not any(group.get(SORTING) for group in new.get(GROUPS).items)
    assert not any(chunk.get(CHUNK_OFFSET) for chunk in chunks_of(new))
    for group in new.get(GROUPS).items:
        metas = [chunk.get(CHUNK_META) for chunk in group.get(CHUNKS).items]
        assert group.get(GROUP_OFFSET) == first_page(metas[0])
        assert group.get(GROUP_COMPRESSED) == sum(meta.get(COMPRESSED) for meta in metas)
        assert group.get(GROUP_BYTES) == sum(meta.get(UNCOMPRESSED) for meta in metas)


@pytest.mark.parametrize("which", ["table", "both"])
def test_statistics_are_not_believed_where_a_file_has_no_column_orders(tmp_path, which):
    path = tmp_path / "f.parquet"
    by_polars(frame(), path)
    if which == "table":
        with_footer(path, lambda meta: meta.drop(ORDERS))

    pm.materialize_scores(path, scores(tmp_path), tmp_path / "o.parquet")

    orders = footer_of(tmp_path / "o.parquet").get(ORDERS)
    assert orders is None if which == "table" else len(orders.items) == pq.read_metadata(path).num_columns + 5
    found = pq.read_table(tmp_path / "o.parquet", filters=[("x", ">", 100.0)])
    assert found.num_rows == frame().filter(pl.col("x") > 100.0).height


def _seal(meta):
    chunks_of(meta)[0].set(CHUNK_ENCRYPTION[0], thrift.STRUCT, thrift.Struct())


def _seal_by_bytes(meta):
    chunks_of(meta)[-1].set(CHUNK_ENCRYPTION[1], thrift.BINARY, b"sealed")


def _move_out(meta):
    chunks_of(meta)[-1].set(ELSEWHERE, thrift.BINARY, b"other.parquet")


def _drop_meta(meta):
    chunks_of(meta)[1].drop(CHUNK_META)


def _drop_chunk(meta):
    meta.get(GROUPS).items[0].get(CHUNKS).items.pop()


def _miscount(meta):
    meta.set(3, thrift.I64, meta.get(3) + 1)


def _begin_before(meta):
    chunks_of(meta)[0].get(CHUNK_META).set(DATA, thrift.I64, 2)


def _name_twice(meta):
    elements = meta.get(SCHEMA).items
    elements[2].set(NAME, thrift.BINARY, elements[1].get(NAME))


@pytest.mark.parametrize(
    "change",
    [_seal, _seal_by_bytes, _move_out, _drop_meta, _drop_chunk, _miscount, _begin_before, _name_twice],
)
def test_chunks_that_cannot_be_copied_are_not(tmp_path, change):
    path = tmp_path / "f.parquet"
    by_polars(frame().select("clip_id", "x"), path)
    assert Splice.of([File.of(path)], {"new": pl.Int64()}) is not None

    with_footer(path, change)

    assert Splice.of([File.of(path)], {"new": pl.Int64()}) is None


# --- shards, and types ---------------------------------------------------------------------------------


def test_shards_that_differ_in_nullability_are_one_table(tmp_path):
    keys = pa.array(["clip_1", "clip_2"])
    for name, nullable, values in (("a", False, [1, 2]), ("b", True, [None, 4])):
        schema = pa.schema([pa.field("clip_id", pa.string()), pa.field("x", pa.int64(), nullable=nullable)])
        pq.write_table(
            pa.table([keys, pa.array(values)], schema=schema),
            tmp_path / f"s_{name}.parquet",
            store_schema=False,
        )

    pm.materialize_scores(tmp_path / "s_*.parquet", scores(tmp_path), tmp_path / "o.parquet")

    assert pq.read_table(tmp_path / "o.parquet").column("x").to_pylist() == [1, 2, None, 4]
    assert duckdb.sql(f"select x from '{tmp_path / 'o.parquet'}'").fetchall() == [(1,), (2,), (None,), (4,)]


@pytest.mark.parametrize("rows", [[2, 0, 3], [0, 2], [2, 0], [0], []])
def test_row_groups_without_rows_change_no_type(tmp_path, rows):
    schema = pa.schema([("clip_id", pa.string()), ("n", pa.int16()), ("t", pa.timestamp("ms", "UTC"))])
    with pq.ParquetWriter(tmp_path / "f.parquet", schema) as writer:
        for count in rows:
            part = {"clip_id": [f"clip_{i}" for i in range(count)], "n": [1] * count, "t": [None] * count}
            writer.write_table(pa.table(part, schema=schema))
    table = pq.read_table(tmp_path / "f.parquet")
    (tmp_path / "s.jsonl").write_text('{"key": "clip_1", "score": 1.5}\n')

    pm.materialize_scores(tmp_path / "f.parquet", f"s={tmp_path / 's.jsonl'}", tmp_path / "o.parquet")

    found = pq.read_table(tmp_path / "o.parquet")
    assert found.select(table.column_names).equals(table)
    assert found.schema.field("clip_id").type == pa.string()
    assert found.column("second_opinion_s_score").to_pylist() == [
        1.5 if key == "clip_1" else None for key in table.column("clip_id").to_pylist()
    ]
    assert pl.read_parquet(tmp_path / "o.parquet").height == table.num_rows
    assert duckdb.sql(f"select * from '{tmp_path / 'o.parquet'}'").fetchall() == [
        tuple(row.values()) for row in found.to_pylist()
    ]


def test_integers_of_128_bits_come_through(tmp_path):
    """pyarrow does not know their Arrow type, so their bytes alone would be lost on every reader."""
    table = pl.DataFrame({"clip_id": ["clip_1"], "n": pl.Series([2**100], dtype=pl.Int128)})
    table.write_parquet(tmp_path / "f.parquet")

    pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet")

    assert_frame_equal(pl.read_parquet(tmp_path / "o.parquet", columns=table.columns), table)


@pytest.mark.parametrize("text", ["", "no base 64!", "AAAA", "/////wAA"])
def test_an_arrow_schema_that_is_none_is_no_reason_to_stop(tmp_path, text):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"clip_id": ["clip_1"], "x": [1]}), path, store_schema=False)

    def claim(meta):
        entry = thrift.Struct({1: (thrift.BINARY, ARROW_SCHEMA), 2: (thrift.BINARY, text.encode())})
        meta.set(5, thrift.LIST, thrift.List(thrift.STRUCT, [entry]))

    with_footer(path, claim)
    assert Splice.of([File.of(path)], {"new": pl.Int64()}) is None
    try:
        expected = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        refused(tmp_path)
        return
    pm.materialize_scores(path, scores(tmp_path), tmp_path / "o.parquet")
    assert_frame_equal(pl.read_parquet(tmp_path / "o.parquet", columns=["clip_id", "x"]), expected)


def test_an_arrow_schema_of_other_columns_is_no_reason_to_stop(tmp_path):
    path, other = tmp_path / "f.parquet", io.BytesIO()
    pq.write_table(pa.table({"clip_id": ["clip_1"], "x": [1]}), path)
    pq.write_table(pa.table({"clip_id": ["clip_1"], "y": [1]}), other)
    text = pq.read_metadata(other).metadata[ARROW_SCHEMA]

    def claim(meta):
        entry = thrift.Struct({1: (thrift.BINARY, ARROW_SCHEMA), 2: (thrift.BINARY, text)})
        meta.set(5, thrift.LIST, thrift.List(thrift.STRUCT, [entry]))

    with_footer(path, claim)
    assert Splice.of([File.of(path)], {"new": pl.Int64()}) is None
    try:
        expected = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        refused(tmp_path)
        return
    pm.materialize_scores(path, scores(tmp_path), tmp_path / "o.parquet")
    assert_frame_equal(pl.read_parquet(tmp_path / "o.parquet", columns=expected.columns), expected)


# --- metadata -------------------------------------------------------------------------------------------

OLD = {
    "date": pd.to_datetime(["2020-01-01", "2021-01-01"]),
    "zoned": pd.to_datetime(["2020-01-01", "2021-01-01"]).tz_localize("Europe/Berlin"),
    "Int64": pd.array([1, None], dtype="Int64"),
    "category": pd.Categorical(["x", "y"]),
    "text": ["x", "y"],
    "boolean": pd.array([True, None], dtype="boolean"),
}


@pytest.mark.parametrize("old", OLD.values(), ids=list(OLD))
@pytest.mark.parametrize("column", ["score", "status", "frames"])
@pytest.mark.parametrize("index", [False, True])
def test_pandas_reads_replaced_columns_as_what_they_are(tmp_path, old, column, index):
    name = f"second_opinion_dover_{column}"
    table = pd.DataFrame({"clip_id": ["clip_1", "gone"], name: old, "x": [7, 3]})
    (table.set_index([name, "x"]) if index else table).to_parquet(tmp_path / "f.parquet")

    pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet", overwrite=True)

    found = pd.read_parquet(tmp_path / "o.parquet")
    expected = {"score": [1.5, None], "status": ["ok", "missing"], "frames": [0, 0]}[column]
    assert found[name].astype(object).where(found[name].notna(), None).tolist() == expected
    assert found.index.names == (["x"] if index else [None])
    assert found.reset_index()["x"].tolist() == [7, 3]


@pytest.mark.parametrize(
    "names",
    [
        [0, 1],
        pd.MultiIndex.from_tuples([("a", "b"), ("c", "d")]),
        pd.to_datetime(["2020", "2021"]),
        [0.5, 1.5],
    ],
    ids=["integers", "levels", "dates", "floats"],
)
def test_pandas_reads_a_table_whose_columns_have_no_text_for_names(tmp_path, names):
    table = pd.DataFrame([["clip_1", 2], ["clip_2", 3]], columns=names)
    table.to_parquet(tmp_path / "f.parquet")
    key = pl.read_parquet_schema(tmp_path / "f.parquet")

    pm.materialize_scores(
        tmp_path / "f.parquet",
        scores(tmp_path),
        tmp_path / "o.parquet",
        key_column=next(iter(key)),
        key_normalize="raw",
    )

    found = pd.read_parquet(tmp_path / "o.parquet")
    assert found["second_opinion_dover_score"].tolist() == [1.5, 2.5]
    assert found.iloc[:, 1].tolist() == [2, 3]


def test_readers_that_keep_a_schema_of_their_own_see_new_columns(tmp_path):
    table = pa.table({"clip_id": ["a"]}).replace_schema_metadata(
        {"org.apache.spark.sql.parquet.row.metadata": "{}", "parquet.avro.schema": "{}", "writer": "us"}
    )
    pq.write_table(table, tmp_path / "f.parquet")

    pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet")

    metadata = pl.read_parquet_metadata(tmp_path / "o.parquet")
    assert set(metadata) == {"writer", "ARROW:schema", "polars_materialize.audit"}
    assert set(pq.read_schema(tmp_path / "o.parquet").metadata) == {b"writer"}


def test_metadata_of_shards_is_kept_where_it_is_true_of_all(tmp_path):
    both = [{"by": "us", "part": "1", "first": "x"}, {"by": "us", "part": "2", "second": "y"}]
    for number, metadata in enumerate(both):
        table = pa.table({"clip_id": [f"clip_{number}"]}).replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / f"s_{number}.parquet")
    assert Splice.of(find(str(tmp_path / "s_*.parquet")), {"new": pl.Int64()}) is not None

    pm.materialize_scores(tmp_path / "s_*.parquet", scores(tmp_path), tmp_path / "o.parquet")

    metadata = pl.read_parquet_metadata(tmp_path / "o.parquet")
    del metadata["ARROW:schema"], metadata["polars_materialize.audit"]
    assert metadata == {"by": "us", "first": "x", "second": "y"}
    schema = pq.read_schema(tmp_path / "o.parquet").metadata
    assert schema == {b"by": b"us", b"first": b"x", b"second": b"y"}


@pytest.mark.parametrize("named", [False, True])
def test_pandas_reads_shards_with_an_index(tmp_path, named):
    for number in range(2):
        table = pd.DataFrame({"clip_id": [f"clip_{number}"] * 3, "x": [number, 5, 3]})
        (table.set_index("x") if named else table).to_parquet(tmp_path / f"s_{number}.parquet")

    pm.materialize_scores(tmp_path / "s_*.parquet", scores(tmp_path), tmp_path / "o.parquet")

    found = pd.read_parquet(tmp_path / "o.parquet")
    assert found.index.tolist() == ([0, 5, 3, 1, 5, 3] if named else [0, 1, 2, 3, 4, 5])
    assert found["second_opinion_dover_score"].tolist() == [0.5] * 3 + [1.5] * 3


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


# --- types that Polars does not have ------------------------------------------------------------------


def odd_types():
    return pa.table(
        {
            "clip_id": ["clip_1", "none"],
            "u": pa.array([b"1" * 16] * 2, pa.uuid())
            if hasattr(pa, "uuid")
            else pa.array([b"1" * 16] * 2, pa.binary(16)),
            "f": pa.array([b"123"] * 2, pa.binary(3)),
            "t": pa.array([1, 2], pa.time32("ms")),
            "o": pa.DictionaryArray.from_arrays([0, 1], ["a", "b"], ordered=True),
            "c": pa.DictionaryArray.from_arrays([0, 1], ["a", "b"]),
            "m": pa.array([[("a", 1)]] * 2, pa.map_(pa.string(), pa.int8())),
            "d": pa.array([1, 2], pa.timestamp("us", "UTC")),
            "l": [[["a"]], []],
        }
    )


def test_types_that_are_copied_are_kept_without_a_word(tmp_path):
    pq.write_table(odd_types(), tmp_path / "f.parquet")
    audit = pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet")
    assert audit.warnings == []
    old = pq.read_schema(tmp_path / "f.parquet")
    assert [pq.read_schema(tmp_path / "o.parquet").field(name) for name in old.names] == list(old)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("source", "out", "options"),
    [
        ("f.parquet", "o.parquet", {"missing_policy": "drop"}),
        ("f.parquet", "o", {"partition_by": ["c"]}),
        ("f.parquet", "o.arrow", {}),
        ("f.arrow", "o.parquet", {}),
        ("f.arrow", "o.arrow", {}),
    ],
)
def test_types_that_polars_does_not_keep_are_told(tmp_path, source, out, options):
    pq.write_table(odd_types(), tmp_path / "f.parquet")
    with pa.ipc.new_file(str(tmp_path / "f.arrow"), odd_types().schema) as writer:
        writer.write_table(odd_types())
    audit = pm.materialize_scores(tmp_path / source, scores(tmp_path), tmp_path / out, **options)
    said = [warning.split(" is ")[0] for warning in audit.warnings]
    assert said == [f"the column {name!r}" for name in ("u", "f", "t", "o")]
    assert "the column 't' is time32[ms], written as time64[ns]" in audit.warnings


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_index_of_pandas_that_becomes_a_column_is_told(tmp_path):
    table = pd.DataFrame({"clip_id": ["clip_1", "none"]})
    for named, said in (table.set_axis(["a", "b"]), 1), (table, 0):
        named.to_parquet(tmp_path / "f.parquet")
        audit = pm.materialize_scores(
            tmp_path / "f.parquet", scores(tmp_path), tmp_path / "o.parquet", missing_policy="drop"
        )
        assert len(audit.warnings) == said


# --- what is wrong with an input, found as the output is written --------------------------------------


def test_an_input_that_cannot_be_read_is_named_and_not_the_output(tmp_path):
    """The footer is whole and its keys can be read, so that it is found only as rows are written."""
    pq.write_table(odd_types().select(["clip_id", "d"]), tmp_path / "f.parquet", compression="zstd")
    content = bytearray((tmp_path / "f.parquet").read_bytes())
    chunk = chunks_of(footer_of(tmp_path / "f.parquet"))[1].get(CHUNK_META)
    start = first_page(chunk)
    content[start : start + chunk.get(COMPRESSED)] = b"\xff" * chunk.get(COMPRESSED)
    (tmp_path / "f.parquet").write_bytes(content)
    for out in ("o.csv", "o.arrow", "o.jsonl"):
        with pytest.raises(pm.MaterializeError) as caught:
            pm.materialize_scores(tmp_path / "f.parquet", scores(tmp_path), tmp_path / out)
        assert str(caught.value).startswith(f"{tmp_path / 'f.parquet'}: cannot be read: ")
        assert not (tmp_path / out).exists()


def test_an_encrypted_column_is_said_of_the_input(tmp_path):
    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Client(encryption.KmsClient):
        def wrap_key(self, key, name):  # noqa: ARG002
            return base64.b64encode(key)

        def unwrap_key(self, key, name):  # noqa: ARG002
            return base64.b64decode(key)

    properties = encryption.CryptoFactory(lambda _: Client()).file_encryption_properties(
        encryption.KmsConnectionConfig(),
        encryption.EncryptionConfiguration(footer_key="f", plaintext_footer=True, column_keys={"c": ["x"]}),
    )
    table = pa.table({"clip_id": ["clip_1", "none"], "x": [1, 2]})
    path = tmp_path / "f.parquet"
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    for out in ("o.parquet", "o.arrow"):
        with pytest.raises(pm.MaterializeError) as caught:
            pm.materialize_scores(path, scores(tmp_path), tmp_path / out)
        assert str(caught.value).startswith(f"{path}: cannot be read: ")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_types_of_files_whose_columns_differ_and_of_hive_folders_are_told(tmp_path):
    for name, table in {
        "a/0.parquet": odd_types(),
        "a/1.parquet": odd_types().drop(["d"]),
        "h/day=1/0.parquet": odd_types(),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / name)
    for folder in ("a", "h"):
        audit = pm.materialize_scores(tmp_path / folder, scores(tmp_path), tmp_path / "o.parquet")
        assert "the column 't' is time32[ms], written as time64[ns]" in audit.warnings


@pytest.mark.parametrize(("zone", "nested"), [("+05:30", False), ("-03:00", False), ("-03:00", True)])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_times_at_an_offset_are_one_line(suffix, zone, nested, request):
    """Polars panics at them, and writes of it to standard error."""
    tmp_path, capfd, monkeypatch = map(request.getfixturevalue, ("tmp_path", "capfd", "monkeypatch"))
    monkeypatch.delenv("POLARS_IGNORE_TIMEZONE_PARSE_ERROR", raising=False)
    times = pa.array([1, 2], pa.timestamp("us", zone))
    times = pa.array([[1], [2]], pa.list_(times.type)) if nested else times
    table = pa.table({"clip_id": ["clip_1", "none"], "when": times})
    path = tmp_path / f"f{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(pm.MaterializeError, match=rf"'when' hold times at the offset {re.escape(zone)}"):
        pm.materialize_scores(path, scores(tmp_path), tmp_path / "o.parquet")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_the_hint_about_times_at_an_offset_helps(tmp_path, suffix):
    table = pa.table({"clip_id": ["clip_1"], "when": pa.array([1], pa.timestamp("us", "+05:30"))})
    pq.write_table(table, tmp_path / "f.parquet")
    (tmp_path / "s.jsonl").write_text('{"clip_id": "clip_1", "score": 1}')
    command = [sys.executable, "-m", "polars_materialize", "second-opinion", "table"]
    options = ["--features", "f.parquet", "--scores", "s=s.jsonl", "--out", f"o{suffix}"]
    environment = {**os.environ, "POLARS_IGNORE_TIMEZONE_PARSE_ERROR": "1"}
    subprocess.run([*command, *options], cwd=tmp_path, env=environment, check=True)
    path = tmp_path / f"o{suffix}"
    found = pq.read_schema(path) if suffix == ".parquet" else pa.ipc.open_file(str(path)).schema
    assert found.field("when").type == table.schema.field("when").type
