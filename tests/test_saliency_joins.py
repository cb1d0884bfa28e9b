"""Saliency joined onto frames: rows, columns, statuses, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import av
import onnxruntime
import polars as pl
import pytest
import saliency_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import errors

STATUSES = ["ok", "skipped-existing", "missing-source", "missing-geometry", "decode-failed", "model-failed"]
NEW = [
    *("saliency_mean", "saliency_var", "saliency_status"),
    *("saliency_model_id", "saliency_aggregator", "saliency_ema_alpha"),
]
DTYPES = {
    "saliency_mean": pl.Float64,
    "saliency_var": pl.Float64,
    "saliency_status": pl.String,
    "saliency_model_id": pl.String,
    "saliency_aggregator": pl.String,
    "saliency_ema_alpha": pl.Float64,
}
OWN = {"saliency_mean": 0.25, "saliency_var": 0.5}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with small clips, two of which are broken."""
    folder = tmp_path_factory.mktemp("corpus")
    for index, name in enumerate(("a.mkv", "b.mkv")):
        oracle.encode(folder / name, oracle.noise(3, 16, 12, seed=index))
    oracle.raw(folder / "r.yuv", oracle.noise(2, 16, 12, seed=5))
    oracle.raw(folder / "odd.YUV", oracle.noise(2, 3, 5, seed=6))
    (folder / "broken.mkv").write_bytes(b"no clip")
    (folder / "folder.mkv").mkdir()
    return folder


@pytest.fixture
def here(corpus, monkeypatch):
    """That folder as the current one."""
    monkeypatch.chdir(corpus)
    return corpus


def values(path, width=None, height=None, **options):
    """The mean and variance of one clip, measured by itself."""
    table = pl.DataFrame({"src": [path], "width": [width], "height": [height]})
    return pm.measure_saliency(table, **options).select("saliency_mean", "saliency_var").row(0)


def statuses(frame):
    """The statuses of a table's rows."""
    return frame["saliency_status"].to_list()


# --- rows and columns ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_new_columns_come_after_those_of_the_table():
    table = pl.DataFrame({"vmaf": [1.5, 2.5], "src": ["a.mkv", "gone.mkv"], "note": ["x", None]})

    found = pm.add_saliency(table)

    assert found.columns == [*table.columns, *NEW]
    assert {name: found.schema[name] for name in NEW} == DTYPES
    assert_frame_equal(found.select(table.columns), table)
    assert found.select(NEW).rows() == [
        (*values("a.mkv"), "ok", "spectral_residual", "mean", 0.6),
        (None, None, "missing-source", None, None, None),
    ]


@pytest.mark.usefixtures("here")
def test_numbers_are_those_of_the_oracle(networks):
    frames = oracle.noise(3, 16, 12, seed=1)
    table = pl.DataFrame({"src": ["b.mkv"]})

    for name, mask in (("pixel", oracle.pixel_mask), ("block", oracle.block_mask)):
        for aggregator in ("mean", "ema", "max", "motion-weighted"):
            found = pm.add_saliency(
                table,
                model_path=networks / f"{name}.onnx",
                temporal_aggregator=aggregator,
                ema_alpha=0.25,
                model_id=None if name == "pixel" else "my net",
            ).row(0, named=True)
            expected = oracle.saliency(frames, mask, aggregator, 0.25)
            assert (found["saliency_mean"], found["saliency_var"]) == pytest.approx(expected, abs=1e-5)
            assert found["saliency_model_id"] == (name if name == "pixel" else "my net")
            assert (found["saliency_aggregator"], found["saliency_ema_alpha"]) == (aggregator, 0.25)


@pytest.mark.usefixtures("here")
def test_sampling_options_choose_the_frames(networks):
    frames = oracle.noise(3, 16, 12, seed=1)
    table = pl.DataFrame({"src": ["b.mkv"]})

    def mean(**options):
        found = pm.add_saliency(table, model_path=networks / "pixel.onnx", **options)
        return found["saliency_mean"][0]

    for taken, options in (
        ([0], {"max_frames": 1}),
        ([0], {"frame_samples": 1}),
        ([0, 1], {"max_frames": 2}),
        ([0, 1], {"frame_samples": 2}),
        ([0, 1, 2], {"frame_selection": "uniform"}),
        ([0, 1], {"frame_selection": "uniform", "max_frames": 2}),
    ):
        expected = oracle.saliency([frames[index] for index in taken], oracle.pixel_mask)[0]
        assert mean(**options) == pytest.approx(expected, abs=1e-6)


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["a.mkv", "b.mkv", "./a.mkv", "broken.mkv", "r.yuv", "gone.mkv", "", None]),
            st.sampled_from([None, 16, 3]),
            st.sampled_from([None, 12, 5]),
            st.sampled_from([None, 0.5, float("nan"), float("inf")]),
            st.integers(0, 3),
        ),
        max_size=30,
    ),
    overwrite=st.booleans(),
)
@settings(max_examples=25)
def test_rows_come_out_in_their_order_with_what_they_had(corpus, rows, *, overwrite):
    columns = {"src": pl.String, "width": pl.Int32, "height": pl.Int64, "saliency_mean": pl.Float64}
    table = pl.DataFrame(rows, {**columns, "other": pl.Int8}, orient="row")
    table = table.with_columns(saliency_var=pl.col("saliency_mean"))
    single = {
        "a.mkv": values(str(corpus / "a.mkv")),
        "b.mkv": values(str(corpus / "b.mkv")),
        "r.yuv": values(str(corpus / "r.yuv"), 16, 12),
    }
    expected = []
    for path, width, height, old, _ in rows:
        name = (path or "").removeprefix("./")
        if old == 0.5 and not overwrite:
            expected.append((0.5, 0.5, "skipped-existing"))
        elif name == "r.yuv" and (width is None or height is None):
            expected.append((old, old, "missing-geometry"))
        elif name == "r.yuv" and (width, height) != (16, 12):
            expected.append((old, old, "decode-failed"))
        elif name in single:
            expected.append((*single[name], "ok"))
        else:
            status = "decode-failed" if name == "broken.mkv" else "missing-source"
            expected.append((old, old, status))

    eager = pm.add_saliency(table, root=corpus, overwrite=overwrite)
    lazy = pm.add_saliency(table.lazy(), root=corpus, overwrite=overwrite)

    untouched = ["src", "width", "height", "other"]
    assert_frame_equal(eager.select(untouched), table.select(untouched))
    wanted = pl.DataFrame(
        expected, {"saliency_mean": pl.Float64, "saliency_var": pl.Float64, "s": pl.String}, orient="row"
    )
    found = eager.select("saliency_mean", "saliency_var", s=pl.col("saliency_status").cast(pl.String))
    assert_frame_equal(found, wanted)
    for engine in ("streaming", "in-memory"):
        assert_frame_equal(lazy.collect(engine=engine), eager)


def test_a_table_without_rows_has_the_columns():
    found = pm.add_saliency(pl.DataFrame(schema={"src": pl.String}))

    assert found.height == 0
    assert dict(found.schema) == {"src": pl.String, **DTYPES}


@pytest.mark.usefixtures("here")
def test_frames_keep_their_kind_and_lazy_ones_decode_when_collected():
    table = pl.DataFrame({"src": ["late.mkv"]})

    lazy = pm.add_saliency(table.lazy())

    assert isinstance(lazy, pl.LazyFrame)
    assert dict(lazy.collect_schema()) == {"src": pl.String, **DTYPES}
    oracle.encode("late.mkv", oracle.noise(1))
    try:
        assert statuses(lazy.collect()) == ["ok"]
        assert statuses(pm.add_saliency(table)) == ["ok"]
    finally:
        Path("late.mkv").unlink()
    assert statuses(lazy.collect()) == ["missing-source"]


@pytest.mark.usefixtures("here")
def test_a_clip_that_changed_between_two_collections_is_measured_anew():
    lazy = pm.add_saliency(pl.LazyFrame({"src": ["late.mkv"]}))
    found = []
    for seed in (1, 2):
        oracle.encode("late.mkv", oracle.noise(2, seed=seed))
        found.append(lazy.collect()["saliency_mean"][0])
    Path("late.mkv").unlink()

    assert found[0] != found[1]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("engine", ["streaming", "in-memory"])
def test_a_lazy_join_composes(engine):
    table = pl.LazyFrame({"src": ["a.mkv", "b.mkv", "gone.mkv"], "vmaf": [1, 2, 3]})

    joined = pm.add_saliency(table.filter(pl.col("vmaf") > 1)).with_columns(twice=pl.col("vmaf") * 2)

    found = joined.filter(pl.col("saliency_status") == "ok").select("src", "twice").collect(engine=engine)
    assert found.rows() == [("b.mkv", 4)]


# --- what rows have already ---------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_rows_with_finite_values_are_skipped_and_get_no_metadata():
    table = pl.DataFrame(
        {
            "src": ["a.mkv", "gone.mkv", None, "broken.mkv", "a.mkv", "a.mkv", "a.mkv"],
            "saliency_mean": [0.1, 0.2, 0.3, 0.4, None, 0.6, float("nan")],
            "saliency_var": [0.1, 0.2, 0.3, 0.4, 0.5, float("inf"), 0.7],
        }
    )

    found = pm.add_saliency(table)

    assert statuses(found) == [*["skipped-existing"] * 4, *["ok"] * 3]
    assert found["saliency_mean"].to_list() == [0.1, 0.2, 0.3, 0.4, *[values("a.mkv")[0]] * 3]
    assert found["saliency_var"].to_list() == [0.1, 0.2, 0.3, 0.4, *[values("a.mkv")[1]] * 3]
    assert found["saliency_model_id"].to_list() == [None] * 4 + ["spectral_residual"] * 3
    assert found["saliency_aggregator"].to_list() == [None] * 4 + ["mean"] * 3
    assert found["saliency_ema_alpha"].to_list() == [None] * 4 + [0.6] * 3


@pytest.mark.usefixtures("here")
def test_rows_that_are_not_measured_keep_all_they_had_but_the_status():
    had = {
        "saliency_status": "of old",
        "saliency_model_id": "an older net",
        "saliency_aggregator": "max",
        "saliency_ema_alpha": 0.9,
    }
    table = pl.DataFrame(
        [
            {"src": "a.mkv", **OWN, **had},
            {"src": "gone.mkv", **OWN, **had, "saliency_var": None},
            {"src": "broken.mkv", **OWN, **had, "saliency_mean": float("nan")},
            {"src": "b.mkv", **OWN, **had, "saliency_var": None},
        ]
    )

    found = pm.add_saliency(table)

    assert found.columns == table.columns
    assert statuses(found) == ["skipped-existing", "missing-source", "decode-failed", "ok"]
    kept = [name for name in table.columns if name != "saliency_status"]
    as_text = found.with_columns(pl.col(pl.Categorical).cast(pl.String))
    assert_frame_equal(as_text.select(kept).head(3), table.select(kept).head(3))
    new = as_text.select(NEW).row(3, named=True)
    assert (new["saliency_model_id"], new["saliency_aggregator"]) == ("spectral_residual", "mean")
    assert new["saliency_ema_alpha"] == 0.6


@pytest.mark.usefixtures("here")
def test_overwrite_measures_again_and_leaves_failures_as_they_were():
    table = pl.DataFrame([{"src": path, **OWN} for path in ("a.mkv", "gone.mkv", "broken.mkv")])

    found = pm.add_saliency(table, overwrite=True)

    assert found.rows()[0][1:3] == values("a.mkv")
    assert found.select(*OWN).rows()[1:] == [(0.25, 0.5)] * 2
    assert statuses(found) == ["ok", "missing-source", "decode-failed"]
    assert found["saliency_model_id"].to_list() == ["spectral_residual", None, None]


@pytest.mark.usefixtures("here")
def test_existing_columns_are_replaced_in_their_places():
    table = pl.DataFrame(
        {
            "saliency_ema_alpha": [None],
            "saliency_var": [None],
            "x": [1],
            "saliency_status": [7],
            "src": ["a.mkv"],
            "saliency_mean": [None],
        }
    )

    found = pm.add_saliency(table)

    assert found.columns == [*table.columns, "saliency_model_id", "saliency_aggregator"]
    assert {name: found.schema[name] for name in NEW} == DTYPES
    assert statuses(found) == ["ok"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("dtype", [pl.Float32, pl.Int64, pl.Null, pl.Decimal(10, 2)])
def test_values_of_any_number_type_count(dtype):
    old = None if dtype == pl.Null else 1
    table = pl.DataFrame(
        {"src": ["a.mkv"], "saliency_mean": [old], "saliency_var": [old]},
        schema_overrides={"saliency_mean": dtype, "saliency_var": dtype},
    )

    found = pm.add_saliency(table)

    assert statuses(found) == ["ok" if old is None else "skipped-existing"]
    assert found.schema["saliency_mean"] == pl.Float64


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("blank", [None, "", "  "])
def test_numbers_may_be_text_and_text_without_a_word_is_none(blank):
    """A column of a CSV whose cells are all empty is read as text."""
    table = pl.DataFrame(
        {
            "src": ["a.mkv", "gone.mkv", "b.mkv"],
            "saliency_mean": [blank, blank, " 0.25"],
            "saliency_var": [blank, "0.5", "0.5"],
            "saliency_ema_alpha": [blank, "0.5", blank],
        },
        schema_overrides=dict.fromkeys(["saliency_mean", "saliency_var", "saliency_ema_alpha"], pl.String),
    )

    for found in (pm.add_saliency(table), pm.add_saliency(table.lazy()).collect()):
        assert statuses(found) == ["ok", "missing-source", "skipped-existing"]
        assert found.select(*OWN).rows() == [values("a.mkv"), (None, 0.5), (0.25, 0.5)]
        assert found["saliency_ema_alpha"].to_list() == [0.6, 0.5, None]
        assert {name: found.schema[name] for name in NEW} == DTYPES


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["saliency_mean", "saliency_var", "saliency_ema_alpha"])
def test_text_that_is_no_number_is_refused_and_never_lost(name):
    table = pl.DataFrame({"src": ["a.mkv", "b.mkv"], name: ["0.5", "high"]})

    with pytest.raises(errors.ColumnExistsError, match="1 row with text"):
        pm.add_saliency(table)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"saliency_var": [[0.5]]}, "'saliency_var' is List"),
        ({"saliency_ema_alpha": [True]}, "'saliency_ema_alpha' is Boolean; expected numbers"),
        ({"saliency_model_id": [["x"]]}, "'saliency_model_id' is List"),
        ({"saliency_aggregator": [{"x": 1}]}, "'saliency_aggregator' is Struct"),
    ],
)
def test_columns_that_hold_something_else_are_refused(columns, words):
    table = pl.DataFrame({"src": ["a.mkv"], **columns})

    with pytest.raises(errors.ColumnExistsError) as caught:
        pm.add_saliency(table.lazy())

    assert words in str(caught.value)
    assert caught.value.fields["columns"] == list(columns)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "left_out", [*[[name] for name in NEW[2:]], NEW[2:], ["saliency_status", "saliency_ema_alpha"]]
)
def test_an_empty_name_leaves_the_column_out(left_out):
    option = {
        "saliency_status": "status_column",
        "saliency_model_id": "model_id_column",
        "saliency_aggregator": "aggregator_column",
        "saliency_ema_alpha": "ema_alpha_column",
    }

    found = pm.add_saliency(pl.DataFrame({"src": ["a.mkv"]}), **{option[name]: "" for name in left_out})

    assert found.columns == ["src", *(name for name in NEW if name not in left_out)]


@pytest.mark.usefixtures("here")
def test_columns_may_have_other_names():
    names = {"status_column": "s", "model_id_column": "m", "aggregator_column": "g", "ema_alpha_column": "e"}

    found = pm.add_saliency(pl.DataFrame({"clip": ["a.mkv"]}), path_column="clip", **names)

    assert found.columns == ["clip", "saliency_mean", "saliency_var", "s", "m", "g", "e"]
    assert found.select("s", "m", "g", "e").row(0) == ("ok", "spectral_residual", "mean", 0.6)


# --- where clips are ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "path", [None, "", "  ", "gone.mkv", "folder.mkv", "/dev/zero", "a\0b.mkv", "http://127.0.0.1/a.mkv", "."]
)
def test_what_is_no_clip_is_a_missing_source_and_leaves_the_others_alone(path):
    table = pl.DataFrame({"src": ["a.mkv", path, "b.mkv", path]})

    found = pm.add_saliency(table)

    assert statuses(found) == ["ok", "missing-source", "ok", "missing-source"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://127.0.0.1:{}/a.mkv",
            "HTTP://127.0.0.1:{}/a.yuv",
            "tcp://127.0.0.1:{}",
            "rtmp://127.0.0.1:{}/a",
        ),
        *("concat:http://127.0.0.1:{}/a.ts", "cache:http://127.0.0.1:{}/a.ts", "ftp://127.0.0.1:{}/a.mkv"),
        *("file:a.mkv", "concat:a.mkv", "subfile,,start,0,end,0,,:a.mkv", "pipe:0", "/dev/stdin"),
    ],
)
def test_addresses_are_no_clips_and_are_not_asked(address, listener, ffmpeg):
    table = pl.DataFrame({"src": [address.format(listener), "a.mkv"]})

    for options in ({}, {"ffmpeg_bin": ffmpeg}):
        found = pm.add_saliency(table, default_width=4, default_height=4, **options)

        assert statuses(found) == ["missing-source", "ok"]


@pytest.mark.usefixtures("here")
def test_a_pipe_is_a_missing_source_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.yuv")

    found = pm.add_saliency(
        pl.DataFrame({"src": ["pipe.yuv"]}), root=tmp_path, default_width=4, default_height=4
    )

    assert statuses(found) == ["missing-source"]


def test_paths_are_relative_to_the_root(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pl.DataFrame({"src": ["a.mkv", f"{corpus}/b.mkv"]})

    assert statuses(pm.add_saliency(table)) == ["missing-source", "ok"]
    assert statuses(pm.add_saliency(table, root=corpus)) == ["ok", "ok"]
    assert statuses(pm.add_saliency(table, root=os.path.relpath(corpus))) == ["ok", "ok"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["a.mkv", "gone.mkv"]), pl.String])
def test_paths_may_be_any_text(dtype):
    table = pl.DataFrame({"src": ["a.mkv", "gone.mkv", None]}, schema={"src": dtype})

    found = pm.add_saliency(table)

    assert statuses(found) == ["ok", "missing-source", "missing-source"]
    assert found.schema["src"] == table.schema["src"]


def test_paths_may_be_numbers(tmp_path):
    oracle.encode(tmp_path / "7.mkv", oracle.noise(1)).rename(tmp_path / "7")

    found = pm.add_saliency(pl.DataFrame({"src": [7, 8]}), root=tmp_path)

    assert statuses(found) == ["ok", "missing-source"]


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        ({"SRC": ["a"]}, {}, "no path column 'src'; it has 'SRC'"),
        ({"path": ["a"], "x": [1]}, {}, "it has 'path', 'x'; name it with path_column"),
        ({"src": ["a"]}, {"path_column": "srcs"}, "did you mean 'src'?"),
        ({"src": [1.5]}, {}, "the path column 'src' is Float64; expected text"),
        ({"src": [["a"]]}, {}, "expected text"),
        ({"src": [True]}, {}, "expected text"),
        ({"src": ["a"], "width": [[1]]}, {}, "the geometry column 'width' is List"),
        ({"src": ["a"], "height": [True]}, {}, "the geometry column 'height' is Boolean"),
    ],
)
def test_a_table_without_a_path_column_is_refused(table, options, words):
    with pytest.raises(errors.KeyColumnError) as caught:
        pm.add_saliency(pl.DataFrame(table), **options)

    assert words in str(caught.value)


# --- geometry -----------------------------------------------------------------------------------------

GEOMETRIES = [
    ((16, 12), {}, "ok"),
    ((16.0, 12.0), {}, "ok"),
    (("16", " 12 "), {}, "ok"),
    (("16.0", "12"), {}, "ok"),
    ((None, None), {}, "missing-geometry"),
    ((16, None), {}, "missing-geometry"),
    ((None, 12), {}, "missing-geometry"),
    ((0, 0), {}, "missing-geometry"),
    ((-16, -12), {}, "missing-geometry"),
    ((16.5, 12.0), {}, "missing-geometry"),
    (("wide", "12"), {}, "missing-geometry"),
    (("", "nan"), {}, "missing-geometry"),
    ((float("nan"), 12.0), {}, "missing-geometry"),
    ((float("inf"), 12.0), {}, "missing-geometry"),
    ((1e300, 12.0), {}, "missing-geometry"),
    ((10**12, 12), {}, "missing-geometry"),
    ((None, None), {"default_width": 16, "default_height": 12}, "ok"),
    (("", "NaN"), {"default_width": 16, "default_height": 12}, "ok"),
    ((0, 0), {"default_width": 16, "default_height": 12}, "ok"),
    ((None, 12), {"default_width": 16}, "ok"),
    ((None, None), {"default_width": 16}, "missing-geometry"),
    ((16, 12), {"default_width": 99, "default_height": 99}, "ok"),
    ((-1, 12), {"default_width": 16, "default_height": 12}, "missing-geometry"),
    (("wide", "high"), {"default_width": 16, "default_height": 12}, "missing-geometry"),
    ((12, 16), {}, "ok"),
    ((15, 12), {}, "decode-failed"),
    ((None, None), {"default_width": 17, "default_height": 12}, "decode-failed"),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("geometry", "options", "status"), GEOMETRIES)
def test_raw_video_takes_the_geometry_of_its_row_then_the_defaults(geometry, options, status):
    table = pl.DataFrame({"src": ["r.yuv"], "width": [geometry[0]], "height": [geometry[1]]}, strict=False)

    found = pm.add_saliency(table, **options)

    assert statuses(found) == [status]
    if status == "ok" and geometry != (12, 16):
        assert found.select(*OWN).row(0) == values("r.yuv", 16, 12)
    if status != "ok":
        assert found.select(*OWN).row(0) == (None, None)


@pytest.mark.usefixtures("here")
def test_raw_video_of_odd_size(networks):
    table = pl.DataFrame({"src": ["odd.YUV"], "w": [3], "h": [5]})

    found = pm.add_saliency(table, width_column="w", height_column="h", model_path=networks / "block.onnx")

    expected = oracle.saliency(oracle.noise(2, 3, 5, seed=6), oracle.block_mask)
    assert found.select(*OWN).row(0) == pytest.approx(expected, abs=1e-5)


@pytest.mark.usefixtures("here")
def test_geometry_columns_may_be_absent():
    table = pl.DataFrame({"src": ["r.yuv", "a.mkv"]})

    assert statuses(pm.add_saliency(table)) == ["missing-geometry", "ok"]
    assert statuses(pm.add_saliency(table, default_width=16, default_height=12)) == ["ok", "ok"]
    assert statuses(pm.add_saliency(table, width_column="", height_column="")) == ["missing-geometry", "ok"]


@pytest.mark.usefixtures("here")
def test_a_containers_geometry_is_its_own():
    table = pl.DataFrame({"src": ["a.mkv"] * 3, "width": [16, 99, -5], "height": [12, 99, None]})

    found = pm.add_saliency(table, default_width=7, default_height=7)

    assert found.select(*OWN).rows() == [values("a.mkv")] * 3


@pytest.mark.usefixtures("here")
def test_programs_give_the_numbers_that_pyav_gives(ffmpeg, networks):
    table = pl.DataFrame({"src": ["a.mkv", "b.mkv", "r.yuv", "broken.mkv"], "width": 16, "height": 12})
    options = {"model_path": networks / "block.onnx", "temporal_aggregator": "motion-weighted"}

    by_program = pm.add_saliency(table, ffmpeg_bin=ffmpeg, **options)

    assert statuses(by_program) == ["ok", "ok", "ok", "decode-failed"]
    assert_frame_equal(by_program, pm.add_saliency(table, **options), abs_tol=1e-9)


@pytest.mark.usefixtures("here")
def test_raw_video_of_two_geometries_is_two_clips():
    table = pl.DataFrame({"src": ["r.yuv"] * 4, "width": [16, 12, 16, 12], "height": [12, 16, 12, 16]})

    found = pm.add_saliency(table)

    assert found["saliency_mean"].n_unique() == 2
    assert found.select(*OWN).rows()[:2] == found.select(*OWN).rows()[2:]


# --- options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_frames": 0}, "max_frames: 0; expected at least 1"),
        ({"frame_samples": -1}, "frame_samples: -1; expected at least 1"),
        ({"default_width": -1}, "default_width: -1; expected at least 0"),
        ({"default_height": -8}, "default_height: -8; expected at least 0"),
        ({"frame_selection": "last"}, "frame_selection: 'last'; expected one of first uniform"),
        (
            {"temporal_aggregator": "median"},
            "temporal_aggregator: 'median'; expected one of mean ema max motion-weighted",
        ),
        ({"ema_alpha": 0}, "expected above 0 and up to 1"),
        ({"ema_alpha": 1.01}, "ema_alpha: 1.01"),
        ({"ema_alpha": float("nan")}, "ema_alpha: nan"),
        ({"decode_timeout_s": 0}, "expected seconds above 0"),
        ({"decode_timeout_s": float("inf")}, "decode_timeout_s: inf"),
        ({"decode_timeout_s": float("nan")}, "decode_timeout_s: nan"),
        ({"model_id": " "}, "model_id: ' '"),
        ({"root": ""}, "root: ''"),
        ({"model_path": ""}, "model_path: ''"),
        ({"ffmpeg_bin": ""}, "ffmpeg_bin: ''"),
        ({"ffprobe_bin": "x\0y"}, "ffprobe_bin: 'x\\x00y'"),
        ({"ffprobe_bin": "ffprobe"}, "ffprobe_bin: is of use only beside ffmpeg_bin"),
        ({"ffmpeg_bin": "ffmpeg", "frame_selection": "uniform"}, "needs ffprobe_bin"),
        ({"ffmpeg_bin": "no-such-program"}, "ffmpeg_bin: 'no-such-program' is not there"),
        ({"path_column": ""}, "path_column: ''"),
        ({"status_column": "saliency_mean"}, "status_column: 'saliency_mean'"),
        ({"status_column": "saliency_model_id"}, "expected a column name of its own"),
        ({"status_column": " "}, "status_column: ' '"),
        ({"ema_alpha_column": "^x$"}, "ema_alpha_column: '^x$'"),
        ({"workers": 0}, "workers: 0; expected at least 1"),
        ({"max_frames": 2.5}, "max_frames: 2.5"),
        ({"max_frames": "8"}, "max_frames: '8'"),
        ({"overwrite": "yes"}, "overwrite: 'yes'"),
        ({"status_column": None}, "status_column: None"),
        ({"width_column": "w", "height_column": "w"}, "width_column"),
        ({"width_column": "src"}, "width_column"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    table = pl.LazyFrame({"src": ["a.mkv"]})

    with pytest.raises(errors.OptionError) as caught:
        pm.add_saliency(table, **options)

    assert words in str(caught.value)
    assert caught.value.fields["option"] in options or caught.value.fields["option"].endswith("_column")


@pytest.mark.parametrize("option", ["status_column", "model_id_column", "aggregator_column"])
@pytest.mark.parametrize("name", ["src", "width"])
def test_a_column_that_names_the_clips_is_never_replaced(option, name):
    table = pl.DataFrame({"src": ["a.mkv"], "width": [1]})

    with pytest.raises(errors.MaterializeError) as caught:
        pm.add_saliency(table, **{option: name})

    assert repr(name) in str(caught.value)


def test_alphas_and_samples_at_their_bounds_are_fine(corpus):
    table = pl.DataFrame({"src": ["a.mkv"]})
    options = {"ema_alpha": 1, "max_frames": 1, "frame_samples": 1, "decode_timeout_s": 1e6}

    found = pm.add_saliency(table, root=corpus, temporal_aggregator="ema", **options)

    assert statuses(found) == ["ok"]
    assert found["saliency_ema_alpha"].to_list() == [1.0]


# --- the stage alone ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_measuring_gives_one_row_a_clip():
    table = pl.DataFrame(
        {
            "src": ["b.mkv", "a.mkv", "b.mkv", "gone.mkv", None, "broken.mkv", None],
            "vmaf": range(7),
        }
    )

    found = pm.measure_saliency(table)

    assert dict(found.schema) == {
        "src": pl.String,
        "saliency_mean": pl.Float64,
        "saliency_var": pl.Float64,
        "saliency_status": pl.String,
        "saliency_message": pl.String,
        "saliency_frames": pl.Int64,
        "saliency_pix_fmt": pl.String,
        "saliency_matrix": pl.String,
        "saliency_transfer": pl.String,
        "saliency_range": pl.String,
        "saliency_model_id": pl.String,
        "saliency_aggregator": pl.String,
        "saliency_ema_alpha": pl.Float64,
    }
    assert found["src"].to_list() == ["a.mkv", "b.mkv", "broken.mkv", "gone.mkv", None]
    assert statuses(found) == ["ok", "ok", "decode-failed", "missing-source", "missing-source"]
    assert found["saliency_frames"].to_list() == [3, 3, 0, 0, 0]
    messages = found["saliency_message"].to_list()
    assert messages[:2] == [None, None]
    assert messages[3:] == ["No such file or directory", "the row names no clip"]
    assert messages[2]
    assert found["saliency_mean"][0] == values("a.mkv")[0]


@pytest.mark.usefixtures("here")
def test_measuring_raw_video_gives_one_row_a_geometry():
    table = pl.DataFrame(
        {"src": ["r.yuv"] * 3, "height": [12, 16, 12], "width": [16, 12, 16], "x": [1, 2, 3]}
    )

    found = pm.measure_saliency(table.lazy())

    assert found.columns[:3] == ["src", "width", "height"]
    assert found.select("src", "width", "height").rows() == [("r.yuv", 12, 16), ("r.yuv", 16, 12)]


@pytest.mark.usefixtures("here")
def test_what_was_measured_can_be_joined_by_hand():
    table = pl.DataFrame({"src": ["b.mkv", "a.mkv", "b.mkv"]})

    by_hand = table.join(pm.measure_saliency(table), on="src", how="left", maintain_order="left")

    assert by_hand.select(*OWN).rows() == pm.add_saliency(table).select(*OWN).rows()


@pytest.mark.usefixtures("here")
def test_progress_counts_clips_and_not_rows():
    told = []

    pm.add_saliency(
        pl.DataFrame({"src": ["a.mkv", "b.mkv", "./a.mkv"] * 20}),
        progress=lambda done, total: told.append((done, total)),
    )

    assert told[-1] == (2, 2)


# --- real clips and networks --------------------------------------------------------------------------


def real_frames(path, count):
    """The first frames of a real clip, decoded by PyAV with nothing of the package's own."""
    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            planes = frame.reformat(format="yuv420p").planes
            frames.append(tuple(oracle.plane_of(p, p.line_size, p.width, p.height) for p in planes))
            if len(frames) == count:
                return frames
    return frames


AGGREGATORS = ["mean", "ema", "max", "motion-weighted"]


@pytest.mark.parametrize(
    ("clip", "aggregators"),
    [
        ("carphone_pristine.mp4", AGGREGATORS),
        ("carphone_distorted.mp4", AGGREGATORS),
        ("bikes.mp4", ["ema"]),
        ("konvid_10053703034.mp4", ["motion-weighted"]),
    ],
)
@pytest.mark.parametrize("network", ["saliency_student_v1", "saliency_student_v2"])
def test_real_clips_and_networks_give_the_numbers_of_the_oracle(shared, network, clip, aggregators):
    path = shared / "models" / f"{network}.onnx"
    frames = real_frames(shared / "data" / "clips" / clip, 2)
    session = onnxruntime.InferenceSession(str(path))
    height, width = frames[0][0].shape
    tensors = [oracle.tensor(frame, 8)[None].astype("float32") for frame in frames]
    masks = [session.run(None, {"input": tensor})[0][0, 0, :height, :width] for tensor in tensors]

    for aggregator in aggregators:
        found = pm.add_saliency(
            pl.DataFrame({"src": [clip]}),
            root=shared / "data" / "clips",
            model_path=path,
            max_frames=2,
            temporal_aggregator=aggregator,
        ).row(0, named=True)

        expected = oracle.moments(oracle.reduce(masks, [y for y, _, _ in frames], aggregator))
        assert (found["saliency_status"], found["saliency_model_id"]) == ("ok", network)
        assert (found["saliency_mean"], found["saliency_var"]) == pytest.approx(expected, abs=0.002)


def test_a_table_of_frames_decodes_each_real_clip_once(shared, tmp_path):
    names = ["bikes.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4"]
    table = pl.DataFrame({"src": [names[row % 3] for row in range(500)], "frame": range(500)})
    table.write_parquet(tmp_path / "f.parquet")

    audit = pm.materialize_saliency(
        tmp_path / "f.parquet", tmp_path / "o.parquet", root=shared / "data" / "clips", max_frames=2
    )

    assert (audit.total, audit.ok, audit.failed) == (500, 500, 0)
    assert (audit.clips.total, audit.clips.ok, audit.clips.frames) == (3, 3, 6)


def test_the_real_clip_of_no_bytes_fails(shared):
    found = pm.measure_saliency(pl.DataFrame({"src": ["empty.mp4"]}), root=shared / "data" / "clips")

    assert statuses(found) == ["decode-failed"]
