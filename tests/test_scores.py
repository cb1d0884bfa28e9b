"""Sidecars to one long frame of scores: every rule of what is read where, and every refusal."""

from __future__ import annotations

import json
import math
import re
from datetime import date
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import oracle
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.tables import chunks
from polars_materialize.tables import files as tables_files

PARTS = ["scorer", "key", "score", "status", "runtime_ms", "frames"]


def write_jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(entry, **options):
    return pm.scan_scores(entry, **options).collect()


def read_rows(tmp_path, *rows, label="m", **sidecar):
    path = write_jsonl(tmp_path / "rows.jsonl", *rows)
    return read(pm.Sidecar(str(path), label=label, **sidecar))


def only(frame):
    assert frame.height == 1
    return frame.row(0, named=True)


# --- entries ------------------------------------------------------------------------------------------


def test_label_comes_before_the_first_equals_sign(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    path = write_jsonl(folder / "lr=0.1.jsonl", {"key": "a", "score": 1})

    labelled = read(f"dover={path}")

    assert only(labelled)["scorer"] == "dover"


def test_an_equals_sign_in_a_folder_is_no_label(tmp_path):
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    path = write_jsonl(folder / "x.jsonl", {"key": "a", "score": 1, "competitor": "dover"})

    frame = read(str(path))

    assert only(frame)["scorer"] == "dover"


def test_several_entries_are_read_in_their_order(tmp_path):
    first = write_jsonl(tmp_path / "b.jsonl", {"key": "a", "score": 1})
    second = write_jsonl(tmp_path / "a.jsonl", {"key": "a", "score": 2})

    frame = read([f"one={first}", pm.Sidecar(str(second), label="two")])

    assert frame.select("scorer", "score").rows() == [("one", 1.0), ("two", 2.0)]


def test_source_is_the_path_as_written(tmp_path):
    write_jsonl(tmp_path / "x.jsonl", {"key": "a", "score": 1})

    frame = read("m=./x.jsonl", base_dir=tmp_path)

    assert only(frame)["source"] == "./x.jsonl"


def test_glob_reads_every_match(tmp_path):
    for name in ("b", "a", "c"):
        write_jsonl(tmp_path / f"{name}.jsonl", {"key": name, "score": 1})

    frame = read("m=*.jsonl", base_dir=tmp_path)

    assert frame["key"].to_list() == ["a", "b", "c"]
    assert frame["source"].to_list() == ["a.jsonl", "b.jsonl", "c.jsonl"]


def test_folder_of_one_json_a_clip(tmp_path):
    folder = tmp_path / "musiq"
    folder.mkdir()
    for index in range(20):
        text = json.dumps({"video": f"clip_{index:02}.mkv", "mean_musiq": index}, indent=2)
        (folder / f"clip_{index:02}.json").write_text(text)

    frame = read(
        pm.Sidecar("musiq", label="musiq", key_field="video", score_field="mean_musiq"),
        base_dir=tmp_path,
    )

    assert frame["key"].to_list() == [f"clip_{index:02}.mkv" for index in range(20)]
    assert frame["score"].to_list() == [float(index) for index in range(20)]


def test_folder_of_several_formats(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", {"key": "a", "score": 1})
    (tmp_path / "b.json").write_text('{"key": "b", "score": 2}')
    (tmp_path / "c.csv").write_text("key,score\nc,3\n")

    frame = read(f"m={tmp_path}")

    assert sorted(frame.select("key", "score").rows()) == [("a", 1.0), ("b", 2.0), ("c", 3.0)]


def test_a_bad_file_in_a_folder_is_named(tmp_path):
    for index in range(5):
        write_jsonl(tmp_path / f"{index}.jsonl", {"key": f"{index}", "score": index})
    (tmp_path / "3.json").write_text('{"key": "x", "score": }')

    with pytest.raises(errors.TableError, match=r"3\.json"):
        read(f"m={tmp_path}")


@pytest.mark.parametrize("missing", ["gone.jsonl", "*.jsonl", "empty"])
def test_a_path_without_files_is_refused(tmp_path, missing):
    (tmp_path / "empty").mkdir()

    with pytest.raises(errors.TableError, match=missing.replace("*", r"\*")):
        read(f"m={missing}", base_dir=tmp_path)


def test_no_entries_are_refused():
    with pytest.raises(errors.OptionError, match="at least one"):
        read([])


# --- formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.jsonl", '{"key": "a", "score": 1}\n{"key": "b", "score": 2}\n'),
        ("x.ndjson", '{"key": "a", "score": 1}\n{"key": "b", "score": 2}'),
        ("x.json", '[{"key": "a", "score": 1}, {"key": "b", "score": 2}]'),
        ("x.json", '{"rows": [{"key": "a", "score": 1}, {"key": "b", "score": 2}]}'),
        ("x.json", '{"n": 2, "results": [{"key": "a", "score": 1}, {"key": "b", "score": 2}]}'),
        ("x.csv", "key,score\na,1\nb,2\n"),
        ("x.csv", '\ufeffkey,score\r\n"a",1\r\nb,2'),
    ],
)
def test_text_formats(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())

    frame = read(f"m={tmp_path / name}")

    assert frame.select("key", "score").rows() == [("a", 1.0), ("b", 2.0)]


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.feather", "x.jsonl.gz", "x.csv.zst"])
def test_formats_that_this_package_writes(tmp_path, name):
    pm.sink_table(pl.DataFrame({"key": ["a", "b"], "score": [1.0, 2.0]}), tmp_path / name)

    frame = read(f"m={tmp_path / name}")

    assert frame.select("key", "score").rows() == [("a", 1.0), ("b", 2.0)]
    assert frame["source"].to_list() == [str(tmp_path / name)] * 2


def test_one_json_object_is_one_payload(tmp_path):
    (tmp_path / "x.json").write_text('{\n  "key": "a",\n  "score": 1\n}\n')

    assert only(read(f"m={tmp_path / 'x.json'}"))["score"] == 1.0


def test_wrapper_payload(tmp_path):
    payload = {
        "name": "clip_a.yuv",
        "frames": [
            {"frame_idx": 0, "predicted_vmaf_or_mos": 70.0, "runtime_ms": 1.5},
            {"frame_idx": 1, "predicted_vmaf_or_mos": 71.0, "runtime_ms": 2.5},
        ],
        "summary": {
            "competitor": "fork-nr-metric",
            "plcc": 0.0,
            "srocc": 0.0,
            "rmse": 0.0,
            "runtime_total_ms": 3.5,
            "params": 10,
            "gflops": 0.1,
        },
    }
    (tmp_path / "x.json").write_text(json.dumps(payload))

    row = only(read(tmp_path / "x.json"))

    assert [row[part] for part in PARTS] == ["fork-nr-metric", "clip_a.yuv", 70.5, "ok", 3.5, 2]


# --- scorer -------------------------------------------------------------------------------------------


def test_scorer_is_the_label(tmp_path):
    assert only(read_rows(tmp_path, {"key": "a", "score": 1}, label="DOVER"))["scorer"] == "DOVER"


def test_scorer_is_the_competitor(tmp_path):
    frame = read_rows(tmp_path, {"key": "a", "score": 1, "Competitor": "musiq"}, label=None)

    assert only(frame)["scorer"] == "musiq"


def test_scorer_is_the_competitor_in_the_summary(tmp_path):
    row = {"key": "a", "score": 1, "summary": {"COMPETITOR": "musiq"}}

    assert only(read_rows(tmp_path, row, label=None))["scorer"] == "musiq"


def test_a_blank_competitor_is_not_that_of_the_summary(tmp_path):
    row = {"key": "a", "score": 1, "competitor": " ", "summary": {"competitor": "musiq"}}

    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:1: no scorer"):
        read_rows(tmp_path, row, label=None)


def test_one_file_may_hold_several_scorers(tmp_path):
    rows = [{"key": "a", "score": 1, "competitor": name} for name in ("musiq", "dover")]

    assert read_rows(tmp_path, *rows, label=None)["scorer"].to_list() == ["musiq", "dover"]


def test_a_label_of_the_same_slug_agrees(tmp_path):
    frame = read_rows(tmp_path, {"key": "a", "score": 1, "competitor": "Q Align"}, label="q-align")

    assert only(frame)["scorer"] == "q-align"


@pytest.mark.parametrize("place", ["row", "summary"])
def test_a_label_of_another_slug_is_refused(tmp_path, place):
    row = {"key": "a", "score": 1}
    (row if place == "row" else row.setdefault("summary", {}))["competitor"] = "musiq"

    with pytest.raises(errors.ScorerNameError, match=r"'musiq'.*'dover'"):
        read_rows(tmp_path, row, label="dover")


def test_rows_without_a_scorer_are_refused(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", {"key": "a", "score": 1, "competitor": "m"}, {"key": 1})

    with pytest.raises(errors.SidecarError) as caught:
        read(path)

    assert f"{path}:2" in str(caught.value)
    assert "scorer" in str(caught.value)


# --- key ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", oracle.SCORE_KEYS)
def test_every_known_key_field(tmp_path, name):
    assert only(read_rows(tmp_path, {name.upper(): "x", "score": 1}))["key"] == "x"


@pytest.mark.parametrize(("first", "second"), list(pairwise(oracle.SCORE_KEYS)))
def test_key_fields_go_in_order(tmp_path, first, second):
    assert only(read_rows(tmp_path, {second: "no", first: "yes", "score": 1}))["key"] == "yes"


@pytest.mark.parametrize("absent", [None, "", "  ", float("nan")])
def test_no_other_field_stands_in_for_the_key(tmp_path, absent):
    rows = [{"clip_id": "a", "name": "x", "score": 1}, {"clip_id": absent, "name": "y", "score": 1}]

    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:2: no key in 'clip_id'"):
        read_rows(tmp_path, *rows)


def test_the_key_is_in_one_field_of_a_file(tmp_path):
    rows = [{"name": "b", "score": 2}, {"clip_id": "a", "score": 1}]

    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:1: no key in 'clip_id'"):
        read_rows(tmp_path, *rows)


def test_a_key_in_the_row_goes_before_one_in_the_summary(tmp_path):
    row = {"src_path": "row", "summary": {"clip_id": "summary"}, "score": 1}

    assert only(read_rows(tmp_path, row))["key"] == "row"


def test_a_key_in_the_summary(tmp_path):
    assert only(read_rows(tmp_path, {"summary": {"Clip_ID": "a"}, "score": 1}))["key"] == "a"


def test_an_object_under_a_key_name_is_no_key(tmp_path):
    frame = read_rows(tmp_path, {"name": {"first": 1}, "path": "a", "score": 1})

    assert only(frame)["key"] == "a"


def test_an_object_under_a_key_name_is_no_key_beside_text(tmp_path):
    rows = [{"name": {"first": 1}, "path": "a", "score": 1}, {"name": "b", "score": 1}]

    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:1: no key in 'name'"):
        read_rows(tmp_path, *rows)


def test_an_object_under_a_key_name_in_another_spelling_is_no_key(tmp_path):
    rows = [{"Name": {"first": 1}, "path": "a", "score": 1}, {"NAME": {"first": 1}, "path": "b", "score": 1}]

    assert read_rows(tmp_path, *rows)["key"].to_list() == ["a", "b"]


@pytest.mark.parametrize("value", [True, ["a"], [1.5], [{"a": 1}]])
def test_a_field_of_the_key_that_cannot_name_clips_is_refused(tmp_path, value):
    rows = [{"clip_id": None, "name": "z", "score": 1}, {"clip_id": value, "name": "a", "score": 1}]

    with pytest.raises(errors.KeyColumnError, match=r"rows\.jsonl:2: the key column 'clip_id' is "):
        read_rows(tmp_path, *rows)


@pytest.mark.parametrize("value", [date(2024, 1, 1), True, [1.0], b"a"])
def test_a_column_of_the_key_that_cannot_name_clips_is_refused(tmp_path, value):
    path = tmp_path / "s.parquet"
    pl.DataFrame({"clip_id": [value], "name": ["a"], "score": [0.5]}).write_parquet(path)

    with pytest.raises(errors.KeyColumnError, match=r"s\.parquet: rows\[0\]: the key column 'clip_id' is "):
        pm.scan_scores(f"x={path}").collect()


def test_whole_floats_and_integers_are_the_same_key_text(tmp_path):
    rows = [{"key": 12345.0, "score": 1}, {"key": 678, "score": 1}, {"key": "b", "score": 1}]

    assert read_rows(tmp_path, *rows)["key"].to_list() == ["12345", "678", "b"]


def test_long_integer_keys_keep_every_digit(tmp_path):
    rows = [{"key": 2**53 + 1, "score": 1}, {"key": 2**64 - 1, "score": 1}]

    assert read_rows(tmp_path, *rows)["key"].to_list() == ["9007199254740993", "18446744073709551615"]


def test_the_named_key_field_wins(tmp_path):
    frame = read_rows(tmp_path, {"clip_id": "no", "Video": "yes", "score": 1}, key_field="video")

    assert only(frame)["key"] == "yes"


def test_the_named_key_field_must_be_in_every_row(tmp_path):
    rows = [{"video": "a", "key": "x", "score": 1}, {"key": "y", "score": 1}]

    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:2.*'video'"):
        read_rows(tmp_path, *rows, key_field="video")


def test_score_key_field_is_for_entries_that_say_nothing(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", {"one": "1", "two": "2", "score": 1})
    entries = [pm.Sidecar(str(path), label="a"), pm.Sidecar(str(path), label="b", key_field="two")]

    assert read(entries, score_key_field="one")["key"].to_list() == ["1", "2"]


def test_a_misspelled_key_field_names_the_fields_there_are(tmp_path):
    with pytest.raises(errors.MaterializeError, match="'video_name'"):
        read_rows(tmp_path, {"video_name": "a", "score": 1}, key_field="video_nam")


def test_dotted_key_field(tmp_path):
    frame = read_rows(tmp_path, {"metadata": {"Name": "a"}, "score": 1}, key_field="metadata.name")

    assert only(frame)["key"] == "a"


def test_a_field_whose_whole_name_is_dotted_wins(tmp_path):
    for spelled in ("metadata.name", "Metadata.Name"):
        row = {"metadata": {"name": "no"}, spelled: "yes", "score": 1}

        assert only(read_rows(tmp_path, row, key_field="metadata.name"))["key"] == "yes"


def join_keys(scores, *values, **options):
    frame = pl.DataFrame({"clip_id": list(values)})
    joined = pm.join_scores(frame, scores, **options)
    return dict(zip(values, joined["second_opinion_m_score"], strict=True))


def test_filename_as_key(tmp_path):
    for name in ("t_20.0.json", "clip_a.mkv.json"):
        (tmp_path / name).write_text('{"score": 1, "name": "not this"}')
    sidecar = pm.Sidecar(str(tmp_path), label="m", key_field="@filename", key_normalize="stem")

    matched = join_keys(pm.scan_scores(sidecar), "t_20.0", "clip_a", "not this")

    assert matched == {"t_20.0": 1.0, "clip_a": 1.0, "not this": None}


def test_filename_as_key_with_a_regex(tmp_path):
    (tmp_path / "bunny_q48.vmaf.json").write_text('{"score": 1}')
    sidecar = pm.Sidecar(
        str(tmp_path),
        label="m",
        key_field="@filename",
        key_normalize="stem",
        key_regex=r"^(.*)\.vmaf$",
    )

    assert join_keys(pm.scan_scores(sidecar), "bunny_q48") == {"bunny_q48": 1.0}


def test_filename_without_a_rule_keeps_the_suffix(tmp_path):
    (tmp_path / "a.mp4.json").write_text('{"score": 1}')
    sidecar = pm.Sidecar(str(tmp_path), label="m", key_field="@filename")

    assert join_keys(pm.scan_scores(sidecar), "a.mp4.json", "a.mp4") == {"a.mp4.json": 1.0, "a.mp4": None}


def test_entry_rule_wins_over_the_table_rule(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", {"clip_id": "d/a.mp4", "score": 1})
    sidecar = pm.Sidecar(str(path), label="m", key_normalize="stem")

    assert join_keys(pm.scan_scores(sidecar), "a", key_normalize="raw") == {"a": 1.0}


def test_entry_regex_without_a_group_takes_the_whole_match(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", {"clip_id": "scene A012 take", "score": 1})
    sidecar = pm.Sidecar(str(path), label="m", key_regex=r"A\d{3}")

    assert join_keys(pm.scan_scores(sidecar), "A012") == {"A012": 1.0}


def test_a_row_that_the_entry_regex_does_not_match_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", {"clip_id": "A1", "score": 1}, {"clip_id": "B", "score": 1})
    scores = pm.scan_scores(pm.Sidecar(str(path), label="m", key_regex=r"\d"))

    with pytest.raises(errors.SidecarError, match=r"x\.jsonl:2"):
        join_keys(scores, "1")


@pytest.mark.parametrize("pattern", ["(", r"(?=a)", r"(a)\1", "[z-a]"])
def test_a_wrong_regex_is_refused_before_any_file_is_read(tmp_path, pattern):
    path = tmp_path / "x.jsonl"
    path.write_text("not json\n")

    with pytest.raises(errors.OptionError, match="key_regex"):
        pm.scan_scores(pm.Sidecar(str(path), label="m", key_regex=pattern))


# --- score --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), list(pairwise(oracle.SCORES)))
def test_score_fields_go_in_order(tmp_path, first, second):
    # Beside a prediction `mos` is the human label, which its own test says.
    frame = read_rows(tmp_path, {"key": "a", second: 2, first.upper(): 1})

    assert only(frame)["score"] == 1.0


@pytest.mark.parametrize(
    "unusable", [None, "", " ", True, False, float("nan"), float("inf"), "nan", "inf", "x", {}, [], [None]]
)
def test_no_other_field_stands_in_for_an_unusable_score(tmp_path, unusable):
    others = {"predicted_mos": 2, "vmaf": 91.2, "summary": {"score": 3}, "frames": [{"score": 4}]}
    rows = [{"key": "a", "score": 1, **others}, {"key": "b", "score": unusable, **others}]

    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:2: status ok .*score in 'score'"):
        read_rows(tmp_path, *rows)
    failed = [rows[0], {**rows[1], "status": "error"}]
    assert read_rows(tmp_path, *failed).select("score", "status", "frames").rows() == [
        (1.0, "ok", 0),
        (None, "bad", 0),
    ]
    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:1: status ok .*score in 'score'"):
        read_rows(tmp_path, rows[1])


@pytest.mark.parametrize("layout", ["csv", "parquet", "jsonl", "json", "folder"])
def test_a_failed_score_is_not_replaced_in_any_layout(tmp_path, layout):
    rows = [{"clip_id": "a", "score": 0.5, "vmaf": 90.5}, {"clip_id": "b", "score": None, "vmaf": 91.2}]
    path = tmp_path / f"s.{layout}"
    if layout == "folder":
        path.mkdir()
        for row in rows:
            (path / f"{row['clip_id']}.json").write_text(json.dumps(row))
    else:
        pm.sink_table(pl.DataFrame(rows), path)

    with pytest.raises(errors.SidecarError, match=r"^1 sidecar row is not usable: .*score in 'score'"):
        read(f"m={path}")


def test_the_file_of_a_clip_that_failed_may_lack_the_field(tmp_path):
    (tmp_path / "a.json").write_text('{"clip_id": "a", "score": 0.5, "vmaf": 90.5}')
    (tmp_path / "b.json").write_text('{"clip_id": "b", "vmaf": 91.2}')

    with pytest.raises(errors.SidecarError, match=r"b\.json: status ok without a usable score in 'score'"):
        read(f"m={tmp_path}")


def test_files_of_one_row_are_read_by_the_same_field_whatever_their_suffix(tmp_path):
    (tmp_path / "a.json").write_text('{"clip_id": "a", "score": 0.5, "vmaf": 90.5}')
    (tmp_path / "b.csv").write_text("clip_id,vmaf\nb,91.2\n")

    with pytest.raises(errors.SidecarError, match=r"b\.csv:2: status ok without a usable score in 'score'"):
        read(f"m={tmp_path}")


@pytest.mark.parametrize(
    ("early", "late", "lacking"),
    [
        ({"vmaf": 90}, {"score": 1}, "score in 'score'"),
        ({"score": 1, "summary": {"competitor": "x"}}, {"score": 1, "competitor": "m"}, "no scorer"),
    ],
)
def test_a_better_field_that_comes_late_is_that_of_the_file(tmp_path, monkeypatch, early, late, lacking):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    monkeypatch.setattr(tables_files, "SMALL_BYTES", -1)
    rows = [{"key": f"k{i}", "note": "x" * 40, **early} for i in range(4)] + [{"key": "z", **late}]
    path = write_jsonl(tmp_path / "x.jsonl", *rows)

    with pytest.raises(errors.SidecarError, match=rf"^4 sidecar rows are not usable: .*{lacking}"):
        read(f"m={path}" if "vmaf" in early else path)


def test_files_of_several_rows_decide_for_themselves(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", {"clip_id": "a", "score": 1}, {"clip_id": "b", "score": 2})
    write_jsonl(tmp_path / "b.jsonl", {"name": "c", "vmaf": 3}, {"name": "d", "vmaf": 4})

    frame = read(f"m={tmp_path}")

    assert frame.select("key", "score").rows() == [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)]
    assert frame["key_field"].to_list() == ["clip_id", "clip_id", "name", "name"]
    assert [json.loads(text) for text in frame["fields"].unique(maintain_order=True)] == [
        {"key": "clip_id", "score": "score"},
        {"key": "name", "score": "vmaf"},
    ]


def test_a_field_that_is_null_throughout_a_file_is_its_field(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", {"clip_id": "a", "score": 1}, {"clip_id": "b", "score": 2})
    write_jsonl(
        tmp_path / "b.jsonl",
        {"clip_id": "c", "score": None, "vmaf": 3},
        {"clip_id": "d", "score": None, "vmaf": 4},
    )

    with pytest.raises(errors.SidecarError, match=r"^2 sidecar rows are not usable: .*b\.jsonl:1"):
        read(f"m={tmp_path}")


def test_what_comes_late_in_a_file_decides_for_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    monkeypatch.setattr(tables_files, "SMALL_BYTES", -1)
    rows = [{"name": f"k{i}", "vmaf": i, "elapsed_ms": i, "competitor": "m"} for i in range(9)]
    rows += [{"name": "z", "vmaf": 3, "runtime_ms": 1, "competitor": "m"}]
    path = write_jsonl(tmp_path / "x.jsonl", *rows)

    frame = read(path)

    assert frame["runtime_ms"].to_list() == [None] * 9 + [1.0]
    expected = {"key": "name", "runtime_ms": "runtime_ms", "score": "vmaf", "scorer": "competitor"}
    assert [json.loads(text) for text in frame["fields"].unique()] == [expected]


@pytest.mark.parametrize("name", ["pred", "PREDICTION_raw", "gt", "GT_score", "predicted_quality"])
@pytest.mark.parametrize("place", ["row", "summary", "frames", "csv"])
def test_mos_beside_a_prediction_or_a_truth_is_refused(tmp_path, name, place):
    row = {"key": "a", "mos": 4.5}
    if place == "csv":
        path = tmp_path / "x.csv"
        path.write_text(f"key,mos,{name}\na,4.5,3.5\nb,2.5,3\n")
    else:
        inner = {"row": {name: 3.5}, "summary": {"summary": {name: 3.5}}, "frames": {"frames": [{name: 3}]}}
        path = write_jsonl(tmp_path / "x.jsonl", {**row, **inner[place]}, {"key": "b", "mos": 2.5})

    with pytest.raises(errors.TableError, match=rf"x\.{path.suffix[1:]}: .*'mos'.*{name!r}.*score_field"):
        read(f"m={path}")
    assert read(pm.Sidecar(str(path), label="m", score_field="mos"))["score"].to_list() == [4.5, 2.5]


def test_mos_beside_a_truth_is_refused_in_the_file_that_has_both(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", {"key": "a", "mos": 4}, {"key": "b", "mos": 4})
    write_jsonl(tmp_path / "b.jsonl", {"key": "c", "mos": 4, "gt": 1}, {"key": "d", "mos": 4, "gt": 1})

    with pytest.raises(errors.TableError, match=r"b\.jsonl: the score would be 'mos', but 'gt' stands"):
        read(f"m={tmp_path}")
    write_jsonl(tmp_path / "b.jsonl", {"key": "c", "score": 4, "gt": 1}, {"key": "d", "score": 4, "gt": 1})
    assert read(f"m={tmp_path}")["score"].to_list() == [4.0] * 4


@pytest.mark.parametrize("name", ["gt_score", "label", "ground_truth"])
def test_what_people_said_is_never_a_score(tmp_path, name):
    with pytest.raises(errors.SidecarError, match="usable score in any of score predicted_mos"):
        read_rows(tmp_path, {"key": "a", name: 4.5})


def test_the_prediction_beside_human_labels_is_the_score(tmp_path):
    path = tmp_path / "results_eval.csv"  # as FineVQ writes it
    path.write_text("video_name,mos,pred_score\na.mp4,62.5,58.25\nb.mp4,12.5,14.75\n")

    for entry in (f"finevq={path}", pm.Sidecar(str(path), label="finevq", key_field="video_name")):
        assert read(entry).select("key", "score").rows() == [("a.mp4", 58.25), ("b.mp4", 14.75)]


@pytest.mark.parametrize("text", ["0.5", " 0.5 ", "+.5", "5e-1", "0.5\n"])
def test_numbers_as_text_count(tmp_path, text):
    assert only(read_rows(tmp_path, {"key": "a", "score": text}))["score"] == 0.5


@pytest.mark.parametrize("text", ["1_000", "0x10", "1,5", "1 000", "true", "NaN", "-Infinity", "1e999"])
def test_other_text_is_no_number(tmp_path, text):
    with pytest.raises(errors.SidecarError, match="score"):
        read_rows(tmp_path, {"key": "a", "score": text})


def test_a_field_has_one_name_whatever_its_case(tmp_path):
    frame = read_rows(tmp_path, {"Key": "a", "SCORE": 2}, {"Key": "b", "SCORE": 1})

    assert frame.select("key", "score").rows() == [("a", 2.0), ("b", 1.0)]


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ({"Key": "a", "score": 1}, {"key": "b", "score": 1}, "no key in 'key'"),
        ({"KEY": "a", "score": 1}, {"Key": "b", "score": 1}, "no key in 'KEY'"),
        ({"key": "a", "Score": 1}, {"key": "b", "score": 1}, "a usable score in 'score'"),
        ({"key": "a", "SCORE": 1}, {"key": "b", "Score": 1}, "a usable score in 'SCORE'"),
        ({"key": "a", "summary": {"Score": 1}}, {"key": "b", "summary": {"score": 1}}, "'summary.score'"),
        ({"key": "a", "Summary": {"score": 1}}, {"key": "b", "summary": {"score": 1}}, "'summary.score'"),
        ({"key": "a", "frames": [{"Score": 1}]}, {"key": "b", "frames": [{"score": 1}]}, "'frames.score'"),
    ],
)
@pytest.mark.parametrize("layout", ["one file", "files", "batches"])
def test_another_spelling_of_a_field_never_steps_in(tmp_path, first, second, problem, layout):
    note = {"a": 1} if layout == "batches" else "n"  # another kind of a field makes a batch
    texts = [json.dumps({**first, "note": "n"}), json.dumps({**second, "note": note})]
    if layout != "files":
        (tmp_path / "s.jsonl").write_text("\n".join(texts))
    else:
        for name, text in zip("ab", texts, strict=True):
            (tmp_path / f"{name}.json").write_text(text)

    with pytest.raises(errors.SidecarError, match="1 sidecar row is not usable") as caught:
        pm.scan_scores(f"x={tmp_path}").collect()

    assert problem in str(caught.value)


def test_files_of_several_rows_may_spell_a_field_each_its_own_way(tmp_path):
    for name, rows in {"a": [{"Key": "a", "SCORE": 1}] * 2, "b": [{"key": "b", "score": 2}] * 2}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    found = pm.scan_scores(f"x={tmp_path}").collect()

    assert found.select("key", "score").rows() == [("a", 1.0)] * 2 + [("b", 2.0)] * 2


def test_other_spellings_of_run_time_and_status_do_not_count_either(tmp_path):
    row = {"key": "a", "score": 1, "Status": "failed", "RUNTIME_MS": 7}
    frame = read_rows(tmp_path, row, {"key": "b", "score": 1, "status": "ok", "runtime_ms": 2})

    assert frame.select("status", "runtime_ms").rows() == [("ok", None), ("ok", 2.0)]


def test_a_score_in_the_row_goes_before_one_in_the_summary(tmp_path):
    row = {"key": "a", "summary": {"score": 1}, "vmaf": 2, "frames": [{"score": 3}]}

    assert only(read_rows(tmp_path, row))["score"] == 2.0


def test_a_score_in_the_summary_goes_before_the_frames(tmp_path):
    row = {"key": "a", "summary": {"vmaf": 2}, "frames": [{"score": 3}]}
    found = only(read_rows(tmp_path, row))

    assert (found["score"], found["frames"]) == (2.0, 0)


def test_the_mean_over_frames(tmp_path):
    row = {"key": "a", "Frames": [{"score": "1", "vmaf": 9}, {"score": 2.0}, {"score": 6}]}
    found = only(read_rows(tmp_path, row))

    assert (found["score"], found["frames"]) == (3.0, 3)


@pytest.mark.parametrize(
    "frame",
    [{}, {"score": None}, {"score": True}, {"score": float("nan")}, {"vmaf": 6}, {"score": None, "vmaf": 6}],
)
def test_a_frame_without_a_score_is_no_mean(tmp_path, frame):
    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:1"):
        read_rows(tmp_path, {"key": "a", "frames": [{"score": 1}, frame]})


def test_the_named_score_field_wins(tmp_path):
    frame = read_rows(tmp_path, {"key": "a", "score": 1, "Mean_Musiq": 2}, score_field="mean_musiq")

    assert only(frame)["score"] == 2.0


@pytest.mark.parametrize(
    ("row", "score"),
    [({"summary": {"q": 1}}, 1.0), ({"frames": [{"q": 1, "score": 9}, {"q": 2}]}, 1.5)],
)
def test_the_named_score_field_in_summary_and_frames(tmp_path, row, score):
    rows = [{"key": "a", "score": 9, **row}, {"key": "b", "score": 9, **row}]

    assert read_rows(tmp_path, *rows, score_field="q")["score"].to_list() == [score] * 2


def test_no_other_score_stands_in_for_the_named_one(tmp_path):
    rows = [{"key": "a", "q": 1}, {"key": "b", "score": 1}]

    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:2.*'q'"):
        read_rows(tmp_path, *rows, score_field="q")


def test_dotted_score_field(tmp_path):
    row = {"key": "a", "pooled_metrics": {"vmaf": {"Mean": 91.5}}, "vmaf": 1}
    found = only(read_rows(tmp_path, row, score_field="pooled_metrics.vmaf.mean"))

    assert (found["score"], found["frames"]) == (91.5, 0)


def test_dotted_score_field_through_frames(tmp_path):
    row = {"key": "a", "frames": [{"metrics": {"vmaf": 1}}, {"metrics": {"vmaf": "2"}}]}
    found = only(read_rows(tmp_path, row, score_field="frames.metrics.vmaf"))

    assert (found["score"], found["frames"]) == (1.5, 2)


def test_a_dotted_path_misses_no_frame(tmp_path):
    row = {"key": "a", "frames": [{"metrics": {"vmaf": 1}}, {"metrics": {}}]}

    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:1"):
        read_rows(tmp_path, row, score_field="frames.metrics.vmaf")


def test_a_list_of_numbers_pools_to_its_mean(tmp_path):
    row = {"key": "a", "frame_distances": [1, 2.5, "4"]}
    found = only(read_rows(tmp_path, row, score_field="frame_distances"))

    assert (found["score"], found["frames"]) == (2.5, 3)


@pytest.mark.parametrize("values", [[], [1, None], [1, True], [1, "x"], [1, float("inf")], [[1]]])
def test_a_list_with_something_else_is_no_score(tmp_path, values):
    with pytest.raises(errors.SidecarError, match=r"rows\.jsonl:1: .*'values'"):
        read_rows(tmp_path, {"key": "a", "values": values}, score_field="values")


def test_lists_and_numbers_in_one_field(tmp_path):
    rows = [{"key": "a", "score": [1, 2]}, {"key": "b", "score": 3}, {"key": "c", "score": "4"}]
    frame = read_rows(tmp_path, *rows)

    assert frame["score"].to_list() == [1.5, 3.0, 4.0]
    assert frame["frames"].to_list() == [2, 0, 0]


def test_rows_whose_summary_is_something_else(tmp_path):
    rows = [{"key": "a", "summary": {"score": 1}}, {"key": "b", "summary": "fine", "status": "failed"}]

    assert read_rows(tmp_path, *rows)["score"].to_list() == [1.0, None]


def test_rows_whose_frames_are_a_count(tmp_path):
    rows = [{"key": "a", "frames": [{"score": 1}]}, {"key": "b", "frames": 240, "status": "failed"}]

    assert read_rows(tmp_path, *rows)["score"].to_list() == [1.0, None]


# --- status, run time, frames -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, "", "  ", "ok", "pass", "success", "succeeded", "done", "completed", " Completed ", "DONE"],
)
def test_words_for_ok(tmp_path, value):
    assert only(read_rows(tmp_path, {"key": "a", "score": 1, "Status": value}))["status"] == "ok"


@pytest.mark.parametrize(
    "value",
    [
        "failed",
        "okay",
        "error",
        "complete",
        "succeed",
        "undone",
        "not ok",
        0,
        1,
        False,
        True,
        {"code": 3},
        ["ok"],
        [],
        {},
    ],
)
def test_anything_else_is_bad(tmp_path, value):
    assert only(read_rows(tmp_path, {"key": "a", "score": 1, "status": value}))["status"] == "bad"


def test_a_status_in_the_summary_says_nothing_about_the_row(tmp_path):
    row = {"key": "a", "score": 1, "summary": {"status": "failed"}}

    assert only(read_rows(tmp_path, row))["status"] == "ok"


def test_a_bad_row_keeps_a_usable_score(tmp_path):
    rows = [
        {"key": "a", "score": 1, "status": "failed"},
        {"key": "b", "score": None, "status": "failed"},
        {"key": "c", "score": [1, 2], "status": "failed"},
    ]
    frame = read_rows(tmp_path, *rows)

    assert frame["score"].to_list() == [1.0, None, 1.5]
    assert frame["frames"].to_list() == [0, 0, 2]


def test_a_bad_row_still_needs_a_key(tmp_path):
    with pytest.raises(errors.SidecarError, match="key"):
        read_rows(tmp_path, {"score": 1, "status": "failed"})


def test_the_named_status_field(tmp_path):
    rows = [{"key": "a", "score": 1, "status": "failed", "state": {"word": "ok"}}]

    assert only(read_rows(tmp_path, *rows, status_field="state.word"))["status"] == "ok"


@pytest.mark.parametrize(
    ("row", "runtime"),
    [
        ({}, None),
        ({"Runtime_MS": 1.5}, 1.5),
        ({"runtime_ms": "1.5"}, 1.5),
        ({"elapsed_ms": 3, "runtime_total_ms": 2, "runtime_ms": 1}, 1.0),
        ({"elapsed_ms": 3, "runtime_total_ms": 2, "runtime_ms": None}, None),
        ({"elapsed_ms": 3, "summary": {"runtime_ms": 1}}, 3.0),
        ({"summary": {"elapsed_ms": 4}, "frames": [{"runtime_ms": 1}]}, 4.0),
        ({"frames": [{"runtime_ms": 1}, {}, {"runtime_ms": "2", "elapsed_ms": 5}]}, 3.0),
        ({"frames": [{"runtime_ms": 1}, {}, {"elapsed_ms": "2"}]}, 1.0),
        ({"runtime_ms": None, "frames": [{"runtime_ms": 1}]}, None),
        ({"frames": [{}, {"score": 1}]}, None),
        ({"runtime_ms": float("nan")}, None),
        ({"runtime_ms": float("inf")}, None),
        ({"runtime_ms": True}, None),
        ({"runtime_ms": "fast"}, None),
    ],
)
def test_run_time(tmp_path, row, runtime):
    assert only(read_rows(tmp_path, {"key": "a", "score": 1, **row}))["runtime_ms"] == runtime


def test_the_named_run_time_field(tmp_path):
    row = {"key": "a", "score": 1, "runtime_ms": 1, "timing": {"total": 7}}

    assert only(read_rows(tmp_path, row, runtime_field="timing.total"))["runtime_ms"] == 7.0


def test_frames_without_run_times_have_none(tmp_path):
    """A clip of which no frame says how long it took did not take 0 ms."""
    text = "clip,vmaf,runtime_ms\na,1,\na,2,\nb,3,1.5\nb,4,\n"
    (tmp_path / "a.csv").write_text(text)
    form = pm.ScoreFormat(rows="frames", key_field=["clip"], score_field=["vmaf"], label="m")

    found = read(pm.Sidecar(str(tmp_path / "a.csv"), format=form))

    assert found.select("key", "score", "runtime_ms").rows() == [("a", 1.5, None), ("b", 3.5, 1.5)]
    json_rows = [{"key": "c", "frames": [{"score": 1, "runtime_ms": None}, {"score": 2}]}]
    assert only(read_rows(tmp_path, *json_rows))["runtime_ms"] is None


# --- refusals -----------------------------------------------------------------------------------------


def test_an_ok_row_without_a_score_is_refused_by_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"key": "a", "score": 1}\n\n{"key": "b", "score": null}\n')

    with pytest.raises(errors.SidecarError) as caught:
        read(f"m={path}")

    assert f"{path}:3" in str(caught.value)
    assert caught.value.count == 1


@pytest.mark.parametrize(
    "text", ['[{"key": 1, "score": 1}, {}]', '{"results": [{"key": 1, "score": 1}, {}]}']
)
def test_a_row_of_a_document_is_refused_by_index(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)

    with pytest.raises(errors.SidecarError) as caught:
        read(f"m={path}")

    assert f"{path}: rows[1]" in str(caught.value)


def test_a_row_of_a_csv_is_refused_by_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('key,score,note\na,1,"two\nlines"\nb,,\n')

    with pytest.raises(errors.SidecarError) as caught:
        read(f"m={path}")

    assert f"{path}:4" in str(caught.value)


def test_a_row_of_a_parquet_file_is_refused_by_index(tmp_path):
    path = tmp_path / "x.parquet"
    pl.DataFrame({"key": ["a", None], "score": [1.0, 2.0]}).write_parquet(path)

    with pytest.raises(errors.SidecarError) as caught:
        read(f"m={path}")

    assert f"{path}: rows[1]" in str(caught.value)


def test_ten_places_and_the_count(tmp_path):
    rows = [{"key": f"k{index}", "score": None, "mos": None} for index in range(25)]
    path = write_jsonl(tmp_path / "x.jsonl", {"key": "fine", "score": 1}, *rows)

    with pytest.raises(errors.SidecarError) as caught:
        read(f"m={path}")

    text = str(caught.value)
    assert caught.value.count == 25
    assert "25" in text
    assert [f"{path}:{line}" in text for line in (2, 11)] == [True, True]
    assert f"{path}:12" not in text


def test_problems_of_several_files_are_counted_together(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", {"key": "a"}, {"key": "b"})
    second = write_jsonl(tmp_path / "b.jsonl", {"score": 1})

    with pytest.raises(errors.SidecarError) as caught:
        read([f"m={first}", f"n={second}"])

    assert caught.value.count == 3
    assert f"{second}:1" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"), [("x.json", "[]"), ("x.json", '{"rows": []}'), ("x.csv", "key,score\n")]
)
def test_no_rows_at_all_are_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)

    with pytest.raises(errors.TableError, match="no rows"):
        read(f"m={tmp_path / name}")


@pytest.mark.parametrize(
    ("name", "text"), [("x.json", ""), ("x.jsonl", ""), ("x.csv", ""), ("x.jsonl", "\n")]
)
def test_an_empty_file_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)

    with pytest.raises(errors.TableError, match="empty"):
        read(f"m={tmp_path / name}")


def test_a_large_file_of_blank_lines_has_no_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(tables_files, "SMALL_BYTES", -1)
    (tmp_path / "x.jsonl").write_text("\n\n")

    with pytest.raises(errors.TableError, match="no rows"):
        read(f"m={tmp_path / 'x.jsonl'}")


@pytest.mark.parametrize("text", ["5", '"x"', '{"rows": 5}', '{"results": {}}', '{"rows": null}', "[1]"])
def test_a_document_of_another_shape_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)

    with pytest.raises(errors.MaterializeError, match=r"x\.json"):
        read(f"m={tmp_path / 'x.json'}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", '{"key": "a", "score": 1'),
        ("x.json", '[{"key": "a", "score": 1},\n {"key": "b", "sco'),
        ("x.json", '{"key": "a", "score": 1}{"key": "b", "score": '),
        ("x.jsonl", '{"key": "a", "score": 1}\n{"key": "b", "sc'),
        ("x.jsonl", '{"key": "a", "score": 1}\n{"key": "b", "score": 2'),
    ],
)
def test_a_file_that_is_cut_off_may_be(tmp_path, name, text):
    (tmp_path / name).write_text(text)

    with pytest.raises(errors.TableError, match=r"was the file cut off\?$"):
        read(f"m={tmp_path / name}")
    (tmp_path / name).write_text('{"key": "a", "score": }\n')
    with pytest.raises(errors.TableError) as caught:
        read(f"m={tmp_path / name}")
    assert "cut off" not in str(caught.value)


@pytest.mark.parametrize("score", [float("inf"), float("-inf"), float("nan")])
def test_a_score_of_a_bad_row_that_is_no_number_is_none(score):
    scores = pl.DataFrame(
        {"scorer": "m", "key": ["a", "b"], "score": [score, 1.0], "status": ["failed", "ok"]}
    )

    joined = pm.join_scores(pl.DataFrame({"clip_id": ["a", "b"]}), scores)

    assert joined["second_opinion_m_score"].to_list() == [None, 1.0]
    assert joined["second_opinion_m_status"].to_list() == ["bad", "ok"]
    with pytest.raises(
        errors.SidecarError, match=r"^1 sidecar row is not usable: scores: rows\[0\]: status ok"
    ):
        pm.join_scores(pl.DataFrame({"clip_id": ["a"]}), scores.with_columns(status=pl.lit("ok")))


def test_a_frame_as_scan_scores_gives_it_is_checked_where_it_was_changed(tmp_path):
    scores = read_rows(tmp_path, {"key": "a", "score": 1}).with_columns(score=pl.lit(float("nan")))

    with pytest.raises(errors.SidecarError, match="status ok without a usable score"):
        pm.join_scores(FEATURES, scores)


def test_what_a_row_lacks_is_told_by_the_field_first(tmp_path):
    """A field that was renamed in a newer version of a scorer takes its format, and so its scorer, too."""
    for index in range(3):
        row = {"distorted": f"{index}.mkv", "technical_score": 1, "aesthetic_score": 1, "fusedscore": 0.5}
        (tmp_path / f"{index}.json").write_text(json.dumps(row))

    with pytest.raises(errors.SidecarError) as caught:
        read(str(tmp_path))

    [reason] = {reason for _, reason in caught.value.problems}
    assert reason.startswith(
        "it has all fields of the format 'nvc-dover' but 'fused_score'; no key in any of"
    )
    assert reason.endswith("; no scorer, expected LABEL=path or a field 'competitor'")


FEATURES = pl.DataFrame({"clip_id": ["a"]})


def test_duplicates_in_one_file_name_both_places(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", *[{"key": "a", "score": 1}] * 2)

    with pytest.raises(errors.DuplicateKeyError) as caught:
        pm.join_scores(FEATURES, pm.scan_scores(f"m={path}"))

    assert f"{path}:1" in str(caught.value)
    assert f"{path}:2" in str(caught.value)
    assert "'a'" in str(caught.value)


def test_duplicates_in_two_files_name_both_places(tmp_path):
    first = write_jsonl(tmp_path / "one.jsonl", {"key": 7, "score": 1})
    (tmp_path / "two.json").write_text('[{"key": "7", "score": 1}]')

    with pytest.raises(errors.DuplicateKeyError) as caught:
        pm.join_scores(FEATURES, pm.scan_scores([f"m={first}", f"m={tmp_path / 'two.json'}"]))

    assert f"{first}:1" in str(caught.value)
    assert f"{tmp_path / 'two.json'}: rows[0]" in str(caught.value)


def test_normalising_makes_duplicates(tmp_path):
    rows = [{"path": "x/a.mp4", "score": 1}, {"path": "y/a.mp4", "score": 1}]
    scores = pm.scan_scores(f"m={write_jsonl(tmp_path / 'x.jsonl', *rows)}")

    assert pm.join_scores(FEATURES, scores, key_normalize="raw").height == 1
    with pytest.raises(
        errors.DuplicateKeyError,
        match=r"'x/a\.mp4' at .*:1 and 'y/a\.mp4' at .*:2, which are the one key 'a\.mp4'",
    ):
        pm.join_scores(FEATURES, scores, key_normalize="auto")


def test_two_scorers_may_score_one_clip(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", {"key": "a", "score": 1})

    joined = pm.join_scores(FEATURES, pm.scan_scores([f"m={path}", f"n={path}"]))

    assert joined.columns[1::5] == ["second_opinion_m_score", "second_opinion_n_score"]


@pytest.mark.parametrize("names", [("DOVER", "dover!"), ("a b", "a_b"), ("!", "x"), ("\u4e2d\u6587", "x")])
def test_names_that_make_no_columns_of_their_own_are_refused(tmp_path, names):
    rows = [{"key": "a", "score": 1, "competitor": name} for name in names]
    scores = pm.scan_scores(write_jsonl(tmp_path / "x.jsonl", *rows))

    with pytest.raises(errors.ScorerNameError, match=re.escape(names[0])):
        pm.join_scores(FEATURES, scores)


@pytest.mark.parametrize(
    ("scorer", "slug"),
    [("Q-Align (v1.1)", "q_align_v1_1"), ("__A__b__", "a_b"), ("\u00c9tude 2", "tude_2"), ("x", "x")],
)
def test_slugs(tmp_path, scorer, slug):
    path = write_jsonl(tmp_path / "x.jsonl", {"key": "a", "score": 1, "competitor": scorer})

    joined = pm.join_scores(FEATURES, pm.scan_scores(path))

    assert joined.columns[1] == f"second_opinion_{slug}_score"
    assert oracle.slug(scorer) == slug


# --- chunks and random rows ---------------------------------------------------------------------------


def test_chunks_that_differ_in_dtypes(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    rows = [
        {"key": 1, "score": 1, "note": "x" * 40},
        {"key": "b", "score": "2", "note": ["x" * 40]},
        {"key": 3.0, "score": [3, 4], "note": {"x": "y" * 40}},
        {"key": 2**63, "score": 5, "note": "x" * 40},
        {"key": "e", "score": 6.0, "note": True, "runtime_ms": 1},
    ]
    frame = read_rows(tmp_path, *rows)

    assert frame["key"].to_list() == ["1", "b", "3", str(2**63), "e"]
    assert frame["score"].to_list() == [1.0, 2.0, 3.5, 5.0, 6.0]
    assert [place.rsplit(":")[-1] for place in frame["place"]] == ["1", "2", "3", "4", "5"]


FINITE = st.floats(-1e6, 1e6, width=32)
SPACE = st.sampled_from(["", " ", "\t", "\n"])
NUMBER_TEXT = st.builds("{}{}{}".format, SPACE, st.one_of(FINITE, st.integers(-99, 99)), SPACE)
NO_NUMBER = st.sampled_from(
    [
        *(None, "", "  ", True, False, float("nan"), float("inf"), float("-inf"), {}, {"score": 1}),
        *("nan", "-inf", "NaN", "x", "1_0", "0x1", "1e999", "2024-01-01"),
    ]
)
SCALARS = st.one_of(FINITE, st.integers(-(2**60), 2**60), NUMBER_TEXT, NO_NUMBER)
SCORE_VALUES = st.one_of(SCALARS, st.lists(st.one_of(FINITE, SCALARS), max_size=3))
KEY_VALUES = st.one_of(
    st.text("ab\u00e9e\u0301 /.\\", max_size=6),
    st.integers(-5, 2**63),
    st.integers(-9, 9).map(float),
    st.integers(-9, 9).map(lambda n: n + 0.25),
    st.sampled_from([None, float("nan"), {}, {"x": 1}, ["a"], "\ud55c\uae00.mp4"]),
)
STATUSES = st.sampled_from(
    [None, "", " ", "ok", "pass", "Done", "failed", "bad", 0, 1, False, float("nan"), {"x": 1}, ["ok"]]
)
CASES = st.sampled_from([str.lower, str.upper, str.title, str.lower, str.lower])


@st.composite
def fields_of(draw, choices, max_size=4):
    names = draw(st.lists(st.sampled_from(sorted(choices)), unique=True, max_size=max_size))
    return {draw(CASES)(name): draw(choices[name]) for name in names}


SCORING = dict.fromkeys(oracle.SCORES, SCORE_VALUES)
TIMING = dict.fromkeys(oracle.RUNTIMES, SCALARS)
KEYING = dict.fromkeys(["clip_id", "name", "path", "key"], KEY_VALUES)
FRAMES = st.one_of(
    st.lists(fields_of({**SCORING, **TIMING}), max_size=3),
    st.lists(st.fixed_dictionaries({"score": FINITE, "runtime_ms": FINITE}), max_size=3),
    st.sampled_from([None, 240, "many", [1, 2], [{"score": 1}, 2]]),
)
COMPETITOR = {"competitor": st.sampled_from(["m", "M!", "", None])}
SUMMARIES = st.one_of(
    fields_of({**SCORING, **TIMING, **KEYING, **COMPETITOR}), st.sampled_from([None, "x", 5, [{}]])
)
REST = {"status": STATUSES, "frames": FRAMES, "summary": SUMMARIES, **COMPETITOR}


@st.composite
def sidecar_rows(draw):
    sure = draw(st.sampled_from([{}, {"key": "k"}, {"key": "k", "score": 1.5}, {"score": "2.5"}]))
    row = draw(fields_of({**SCORING, **TIMING}, 3)) | draw(fields_of(KEYING, 2)) | draw(fields_of(REST, 4))
    taken = {name.lower() for name in row}
    return row | {name: value for name, value in sure.items() if name not in taken}


def same(found, expected):
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-6)


def second_opinion(files, label):
    """The rows that the oracle reads, or why it refuses the files."""
    try:
        return oracle.read_entry(files, label=label), None
    except oracle.Refused as refused:
        return [], refused.kind


def assert_same(path, files, label):
    """What is read of files is what the second opinion makes of their rows."""
    entry = pm.Sidecar(str(path), label=label)
    expected, refused = second_opinion(files, label)
    if refused is not None:
        with pytest.raises(errors.MaterializeError) as caught:
            read(entry)
        assert caught.value.code in (refused, errors.KeyColumnError.code)
        return
    if None in expected:
        with pytest.raises((errors.SidecarError, errors.KeyColumnError)) as caught:
            read(entry)
        if isinstance(caught.value, errors.SidecarError):
            assert caught.value.count == expected.count(None)
        else:  # a row whose key is of a kind that names no clip
            assert any(
                isinstance(value, (bool, list)) for rows in files for row in rows for value in row.values()
            )
        return
    frame = read(entry)
    assert frame.height == len(expected)
    for found, row in zip(frame.iter_rows(named=True), expected, strict=True):
        assert found["scorer"] == row.scorer
        assert found["key"] == row.key
        assert found["key_field"].split(".")[-1] == row.key_field
        assert same(found["score"], row.score)
        assert found["status"] == row.status
        assert same(found["runtime_ms"], row.runtime_ms)
        assert found["frames"] == row.frames


@given(sidecar_rows(), st.sampled_from(["m", None]))
@settings(max_examples=400)
def test_one_random_row_reads_as_the_second_opinion_reads_it(row, label):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        write_jsonl(path, row)
        assert_same(path, [[row]], label)


@given(st.lists(sidecar_rows(), min_size=2, max_size=6), st.sampled_from(["jsonl", "json", "folder"]))
@settings(max_examples=200)
def test_random_rows_of_one_entry_read_as_the_second_opinion_reads_them(rows, layout):
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{layout}"
        if layout == "jsonl":
            write_jsonl(path, *rows)
        elif layout == "json":
            path.write_text(json.dumps(rows))
        else:
            path.mkdir()
            for index, row in enumerate(rows):
                (path / f"{index}.json").write_text(json.dumps(row, indent=1))
        assert_same(path, [[row] for row in rows] if layout == "folder" else [rows], "m")


SIMPLE = st.fixed_dictionaries(
    {"key": st.sampled_from(["a", "b", "c"])},
    optional={
        "clip_id": st.sampled_from(["x", "y", None]),
        "score": st.sampled_from([1.0, 2, "3", None, "failed", float("nan"), True, [1, 3]]),
        "quality": st.sampled_from([5.0, None]),
        "mos": st.just(4.0),
        "gt_score": st.just(4.5),
        "vmaf": st.sampled_from([90.0, 91.0]),
        "status": st.sampled_from(["ok", "failed", "done"]),
        "runtime_ms": st.sampled_from([7.0, None]),
        "elapsed_ms": st.just(9.0),
        "frames": st.lists(
            st.fixed_dictionaries({}, optional={"score": st.just(10.0), "vmaf": st.just(50.0)}),
            max_size=2,
        ),
        "summary": st.fixed_dictionaries(
            {}, optional={"name": st.just("s"), "vmaf": st.just(70.0), "score": st.just(6.0)}
        ),
    },
)
"""Rows that differ in which fields they have, mostly usable."""


@given(st.lists(st.lists(SIMPLE, min_size=1, max_size=3), min_size=1, max_size=4))
@settings(max_examples=300)
def test_files_that_are_read_together_read_as_the_second_opinion_reads_them(files):
    with TemporaryDirectory() as folder:
        for index, rows in enumerate(files):
            write_jsonl(Path(folder) / f"{index}.jsonl", *rows)
        assert_same(folder, files, "m")


@given(st.lists(SIMPLE, min_size=1, max_size=8))
@settings(max_examples=150)
def test_pieces_of_one_file_read_as_the_second_opinion_reads_them(rows):
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_BYTES", 64)
        patch.setattr(tables_files, "SMALL_BYTES", -1)
        path = write_jsonl(Path(folder) / "x.jsonl", *rows)
        assert_same(path, [rows], "m")


def test_rows_of_an_array_may_be_long_and_deep(tmp_path):
    frames = [{"score": index / 10, "nested": {"list": [index] * 3}} for index in range(3000)]
    (tmp_path / "x.json").write_text(json.dumps([{"key": "a", "frames": frames}]))

    found = only(read(f"m={tmp_path / 'x.json'}"))

    assert (found["score"], found["frames"]) == (pytest.approx(149.95), 3000)


# --- real sidecars ------------------------------------------------------------------------------------

NVC = {
    "dover": ("distorted", "fused_score"),
    "fastervqa": ("distorted", "score"),
    "musiq": ("video", "mean_musiq"),
    "qalign": ("video_name", "qalign_score"),
}


@pytest.mark.parametrize("scorer", sorted(NVC))
def test_real_folders_of_one_json_a_clip(shared, scorer):
    key_field, score_field = NVC[scorer]
    folder = shared / "data" / "nvc" / "metrics" / scorer
    if not folder.is_dir():
        pytest.skip(f"no sidecars of {scorer} in the shared data")
    entry = pm.Sidecar(str(folder), label=scorer, key_field=key_field, score_field=score_field)
    expected = oracle.read_entry(
        [[json.loads(path.read_text())] for path in sorted(folder.glob("*.json"))],
        label=scorer,
        key_field=key_field,
        score_field=score_field,
    )

    frame = read(entry)

    assert frame.height == 216
    assert frame["key"].to_list() == [row.key for row in expected]
    assert frame["score"].to_list() == [row.score for row in expected]
    assert frame["status"].unique().to_list() == ["ok"]


def test_real_sidecars_match_every_clip(shared):
    data = shared / "data" / "nvc"
    if not (data / "subjective.csv").is_file():
        pytest.skip("no subjective scores in the shared data")
    entries = [
        pm.Sidecar(f"metrics/{scorer}", label=scorer, key_field=key, score_field=score, key_normalize="stem")
        for scorer, (key, score) in NVC.items()
    ]

    joined = pm.join_scores(
        pm.scan_table(data / "subjective.csv"),
        pm.scan_scores(entries, base_dir=data),
        missing_policy="fail",
        key_normalize="stem",
    ).collect()

    assert joined.height == 216
    assert joined.select(pl.col("^.*_status$").eq("ok").all()).row(0) == (True,) * 4


def test_real_libvmaf_log_by_its_file_name(shared):
    logs = sorted((shared / "data" / "nvc" / "metrics" / "vmaf").glob("*.json"))
    if not logs:
        pytest.skip("no libvmaf log in the shared data")
    frames = [frame["metrics"]["vmaf"] for frame in json.loads(logs[0].read_text())["frames"]]
    entry = pm.Sidecar(str(logs[0]), label="vmaf", key_field="@filename", score_field="frames.metrics.vmaf")

    found = only(read(entry))

    assert found["key"] == logs[0].name
    assert (found["score"], found["frames"]) == (pytest.approx(sum(frames) / len(frames)), len(frames))
