"""MOS labels: how label files are read, scaled, keyed and joined."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import label_oracle
import oracle
import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import errors

KINDS = ["eager", "streaming", "in-memory"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def write(folder, name, content):
    """Writes text as it is, and a list of rows as JSON lines."""
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(content, encoding="utf-8")
    return path


def joined(frame, labels, kind="eager", **options):
    """Joins as a DataFrame (`eager`) or as a LazyFrame in one of the engines."""
    if kind == "eager":
        return pm.join_labels(frame, labels, **options)
    return pm.join_labels(frame.lazy(), labels, **options).collect(engine=kind)


def as_text(frame):
    """Enum and Categorical columns as the text they hold."""
    return frame.with_columns(pl.col(pl.Enum, pl.Categorical).cast(pl.String))


def mos_of(folder, labels, keys, *, kind="eager", scan=None, **options):
    """The `mos` that the given keys of a table get from one label file's content."""
    path = write(folder, "labels.jsonl" if isinstance(labels, list) else "labels.csv", labels)
    frame = pl.DataFrame({"key": keys}, strict=False)
    result = joined(frame, pm.scan_labels(path, **(scan or {})), kind, **{"min_match_rate": 0.0, **options})
    return result["mos"].to_list()


def attempt(run):
    """What a call gives, or the text of the refusal."""
    try:
        return run(), None
    except errors.MaterializeError as error:
        return None, str(error)


# --- what a join gives --------------------------------------------------------------------------------


@every_kind
def test_columns_and_values_of_rows_with_and_without_a_label(kind, tmp_path):
    write(tmp_path, "labels.csv", "key,mos\na,4.2\nb,1\nunused,5\n")
    frame = pl.DataFrame({"key": ["b", "x", "a", "b", None], "vmaf": [1, 2, 3, 4, 5]})

    labels = pm.scan_labels("labels.csv", base_dir=tmp_path)
    result = as_text(joined(frame, labels, kind, min_match_rate=0.5))

    assert result.columns == ["key", "vmaf", "mos", "mos_raw_0_100", "mos_label_status", "mos_label_source"]
    assert result.schema["mos"] == result.schema["mos_raw_0_100"] == pl.Float64()
    missing = (None, None, "missing-label", None)
    assert [row[2:] for row in result.rows()] == [
        (1.0, 0.0, "ok", "labels.csv"),
        missing,
        (4.2, pytest.approx(80.0), "ok", "labels.csv"),
        (1.0, 0.0, "ok", "labels.csv"),
        missing,
    ]
    assert_frame_equal(result.select(frame.columns), frame)


def test_a_frame_gives_a_frame_and_a_plan_a_plan():
    frame, labels = pl.DataFrame({"key": ["a"]}), pl.DataFrame({"key": ["a"], "mos": [3.0]})

    assert isinstance(pm.join_labels(frame, labels), pl.DataFrame)
    assert isinstance(pm.join_labels(frame.lazy(), labels.lazy()), pl.LazyFrame)


def test_the_schema_of_a_plan_is_that_of_its_result(tmp_path):
    path = write(tmp_path, "l.csv", "key,mos,n_ratings,std_dev,split\na,3,20,0.4,test\n")
    plan = pm.join_labels(pl.LazyFrame({"key": ["a"]}), pm.scan_labels(path))

    assert plan.collect_schema() == plan.collect().schema


@every_kind
def test_order_and_number_of_rows_of_many_frames(kind):
    rows = 30_000
    clips = [str(row * 7919 % 997) for row in range(rows)]
    frame = pl.DataFrame({"clip_id": clips, "row": range(rows)})
    labels = pl.DataFrame(
        {"key": [str(n) for n in range(0, 997, 2)], "mos": [2.0 + n / 997 for n in range(499)]}
    )

    result = joined(frame, labels, kind, min_match_rate=0.5)

    assert_frame_equal(result.select(frame.columns), frame)
    expected = [2.0 + int(clip) // 2 / 997 if int(clip) % 2 == 0 else None for clip in clips]
    assert result["mos"].to_list() == expected


@every_kind
def test_status_column_is_renamed(kind):
    frame, labels = pl.DataFrame({"key": ["a"]}), pl.DataFrame({"key": ["a"], "mos": [3.0]})

    result = joined(frame, labels, kind, status_column="label_state")

    assert result.columns == ["key", "mos", "mos_raw_0_100", "label_state", "mos_label_source"]
    assert as_text(result)["label_state"].to_list() == ["ok"]


@pytest.mark.parametrize("name", ["", " ", "mos", "mos_raw_0_100", "mos_label_source", "split", "^a$"])
def test_a_status_column_that_is_another_column_is_refused(name):
    frame, labels = pl.DataFrame({"key": ["a"]}), pl.DataFrame({"key": ["a"], "mos": [3.0]})

    with pytest.raises(errors.OptionError, match="status_column"):
        pm.join_labels(frame, labels, status_column=name)


@pytest.mark.parametrize("name", ["mos", "mos_raw_0_100", "mos_label_status", "mos_label_source", "split"])
def test_columns_that_exist_are_refused_at_once(name, tmp_path):
    path = write(tmp_path, "l.csv", "key,mos,split\na,3,test\n")
    frame = pl.LazyFrame({"key": ["a"], name: [1]})

    with pytest.raises(errors.ColumnExistsError, match=name):
        pm.join_labels(frame, pm.scan_labels(path))


def test_an_extra_that_no_label_has_is_not_in_the_way():
    frame = pl.DataFrame({"key": ["a"], "split": ["train"]})

    result = pm.join_labels(frame, pl.DataFrame({"key": ["a"], "mos": [3.0]}))

    assert result["split"].to_list() == ["train"]


@every_kind
def test_overwrite_replaces_in_place(kind, tmp_path):
    path = write(tmp_path, "l.csv", "key,mos,split\na,3,test\n")
    frame = pl.DataFrame(
        {"split": [1, 2], "mos": ["old", "old"], "key": ["a", "b"], "mos_label_source": [True, False]}
    )

    result = as_text(joined(frame, pm.scan_labels(path), kind, overwrite=True, min_match_rate=0.5))

    assert result.columns == ["split", "mos", "key", "mos_label_source", "mos_raw_0_100", "mos_label_status"]
    assert result.rows() == [
        ("test", 3.0, "a", str(path), 50.0, "ok"),
        (None, None, "b", None, None, "missing-label"),
    ]


def test_the_key_is_never_replaced():
    frame, labels = pl.DataFrame({"split": ["a"]}), pl.DataFrame({"key": ["a"], "mos": [3.0], "split": ["x"]})

    with pytest.raises(errors.ColumnExistsError, match="key column"):
        pm.join_labels(frame, labels, feature_key_column="split", overwrite=True)


# --- keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(len(label_oracle.LABEL_KEYS) - 1))
def test_the_key_column_of_both_sides_is_the_first_known_name(first, tmp_path):
    # The names stand in the reverse order in both tables, and only the best of them holds keys that match.
    names = label_oracle.LABEL_KEYS[first:][::-1]
    spelled = [name.title() for name in names]
    wrong = ["no"] * (len(names) - 1)
    path = write(tmp_path, "l.csv", ",".join([*spelled, "mos"]) + "\n" + ",".join([*wrong, "a", "3"]) + "\n")
    frame = pl.DataFrame(dict(zip(names, [*wrong, "a"], strict=True)))

    result = pm.join_labels(frame.rename(str.upper), pm.scan_labels(path))

    assert result["mos"].to_list() == [3.0]


def test_no_key_column_is_refused_with_what_there_is_and_what_was_tried(tmp_path):
    path = write(tmp_path, "l.csv", "clip,mos\na,3\n")
    labels = pl.DataFrame({"key": ["a"], "mos": [3.0]})

    with pytest.raises(errors.KeyColumnError) as of_labels:
        pm.scan_labels(path).collect()
    with pytest.raises(errors.KeyColumnError) as of_table:
        pm.join_labels(pl.LazyFrame({"frame": [1]}), labels)

    assert all(word in str(of_labels.value) for word in (str(path), "'clip', 'mos'", "clip_key", "dis_path"))
    assert all(word in str(of_table.value) for word in ("'frame'", "clip_key", "dis_path"))


@every_kind
def test_the_named_key_column_of_each_side(kind, tmp_path):
    path = write(tmp_path, "l.csv", "key,flickr,mos\nx,1,3\ny,2,4\n")
    frame = pl.DataFrame({"key": ["y", "x"], "id": [1, 2]})

    labels = pm.scan_labels(path, label_key_column="flickr")
    result = joined(frame, labels, kind, feature_key_column="id")

    assert result["mos"].to_list() == [3.0, 4.0]


def test_a_named_key_column_that_is_not_there_is_refused(tmp_path):
    path = write(tmp_path, "l.csv", "key,mos\na,3\n")

    with pytest.raises(errors.KeyColumnError, match=r"l\.csv.*'kye'.*did you mean 'key'"):
        pm.scan_labels(path, label_key_column="kye").collect()
    with pytest.raises(errors.KeyColumnError, match=r"'kye'.*did you mean 'key'"):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), pm.scan_labels(path), feature_key_column="kye")


@every_kind
def test_numbers_as_keys_print_as_integers(kind, tmp_path):
    path = write(tmp_path, "l.csv", "key,mos\n12345,3\n3339962845,4\n")
    frame = pl.DataFrame({"key": [12345.0, 3339962845.0, None, float("nan")]})

    result = joined(frame, pm.scan_labels(path), kind)

    assert result["mos"].to_list() == [3.0, 4.0, None, None]


@every_kind
def test_text_keys_are_trimmed_and_nfc(kind, tmp_path):
    path = write(tmp_path, "l.jsonl", [{"key": " cafe\u0301 ", "mos": 3}])
    frame = pl.DataFrame({"key": ["caf\u00e9"]})

    assert joined(frame, pm.scan_labels(path), kind)["mos"].to_list() == [3.0]


@pytest.mark.parametrize(
    ("rule", "feature", "label", "matches"),
    [
        ("raw", "x/a.mp4", "x/a.mp4", True),
        ("raw", "x/a.mp4", "y/a.mp4", False),
        ("basename", "x/a.mp4", "y\\a.mp4", True),
        ("basename", "x/a.mp4", "a.yuv", False),
        ("stem", "x/a.mp4", "a.YUV", True),
        ("stem", "360p_0.2M_", "360p_0.2M_", True),
        ("stem", "t_20.0", "t_20.1", False),
    ],
)
def test_key_normalize_applies_to_both_sides(rule, feature, label, matches):
    labels = pl.DataFrame({"key": [label], "mos": [3.0]})

    result = pm.join_labels(
        pl.DataFrame({"clip_id": [feature]}), labels, key_normalize=rule, min_match_rate=0
    )

    assert result["mos"].to_list() == [3.0 if matches else None]


@every_kind
@pytest.mark.parametrize(
    ("feature_column", "label_column", "expected"),
    [("path", "file_name", 3.0), ("path", "clip_id", None), ("clip_id", "file_name", None)],
)
def test_auto_is_decided_for_each_side_by_its_own_column(
    kind, feature_column, label_column, expected, tmp_path
):
    path = write(tmp_path, "l.csv", f"{label_column},mos\nd/a.mp4,3\n")
    frame = pl.DataFrame({feature_column: ["e/a.mp4"]})

    result = joined(frame, pm.scan_labels(path), kind, min_match_rate=0)

    assert result["mos"].to_list() == [expected]


FOLDING = [
    {"key_normalize": "auto"},
    {"key_normalize": "basename"},
    {"key_normalize": "stem"},
    {"key_normalize": "raw", "feature_key_regex": "cl.*"},
    {"key_normalize": "stem", "feature_key_regex": "^clip"},
    {"key_normalize": "auto", "feature_key_regex": "^(clip)"},
]


@every_kind
@pytest.mark.parametrize("options", FOLDING, ids=lambda options: str(list(options.values())))
def test_folding_of_feature_values_is_refused_unless_it_is_allowed(kind, options):
    frame = pl.DataFrame({"path": ["one/clip.mp4", "two/clip.mp4", "three/other.mp4"]})
    label = "clip" if "stem" in options.values() or "^(clip)" in options.values() else "clip.mp4"
    labels = pl.DataFrame({"key": [label], "mos": [3.0]})

    with pytest.raises(errors.FoldingError) as caught:
        joined(frame, labels, kind, min_match_rate=0, **options)
    result = joined(frame, labels, kind, min_match_rate=0, allow_folding=True, **options)

    text = str(caught.value)
    assert f"'one/clip.mp4', 'two/clip.mp4' would all be {label!r}" in text
    assert all(repr(option) in text for option in options.values())
    assert "other" not in text
    assert result["mos"].to_list() == [3.0, 3.0, None]


@every_kind
def test_ids_that_came_back_as_floats_are_no_folding(kind):
    frame = pl.DataFrame({"key": ["12345", "12345.0", "777"]})
    labels = pl.DataFrame({"key": ["12345", "777"], "mos": [3.0, 4.0]})

    result = joined(frame, labels, kind, feature_key_regex=r"^\d+")

    assert result["mos"].to_list() == [3.0, 3.0, 4.0]


@every_kind
@pytest.mark.parametrize("second", [3.0, 3.0000001])
def test_folding_of_labels_is_refused_though_they_are_equal(kind, second):
    frame = pl.DataFrame({"key": ["clip"]})
    labels = pl.DataFrame({"key": ["one/clip.mp4", "two/clip.mp4"], "mos": [3.0, second]})

    with pytest.raises(errors.FoldingError) as caught:
        joined(frame, labels, kind, key_normalize="stem")
    result = joined(frame, labels, kind, key_normalize="stem", allow_folding=True)

    assert str(caught.value).startswith(
        "key_normalize 'stem' would make 1 key of 2 different values of 'key' of the labels: "
        "'one/clip.mp4', 'two/clip.mp4' would all be 'clip'; "
    )
    assert result["mos"].to_list() == [3.0]


def test_folding_of_different_labels_is_refused_even_if_folding_is_allowed():
    labels = pl.DataFrame({"key": ["one/clip", "two/clip"], "mos": [3.0, 4.0]})

    with pytest.raises(errors.DuplicateKeyError, match="different labels of the key 'clip'"):
        pm.join_labels(pl.DataFrame({"key": ["clip"]}), labels, key_normalize="stem", allow_folding=True)


def test_label_files_may_spell_a_clip_each_in_its_way(tmp_path):
    one = write(tmp_path, "one.csv", "path,mos\nd/clip.mp4,3\n")
    two = write(tmp_path, "two.csv", "file_name,mos\nclip.mp4,3\n")

    result = pm.join_labels(pl.DataFrame({"key": ["clip.mp4"]}), pm.scan_labels([one, two]))

    assert result["mos"].to_list() == [3.0]


def test_shards_of_labels_fold_as_one_file_does(tmp_path):
    for name in ("one", "two"):
        write(tmp_path, f"{name}.csv", f"path,mos\n{name}/clip.mp4,3\n")

    with pytest.raises(errors.FoldingError, match=r"'one/clip\.mp4', 'two/clip\.mp4' would all be"):
        pm.join_labels(pl.DataFrame({"key": ["clip.mp4"]}), pm.scan_labels(tmp_path / "*.csv"))


# --- regexes ------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        (r"(\d+)\.mp4$", "KoNViD/4542323058.mp4", "4542323058"),
        (r"\d+", "clip-17-18", "17"),  # no group: the whole of the first match
        (r"(\d)(\d)", "x42", "4"),  # the first of several groups
        (r"(?P<id>\d+)x", "7x", "7"),
        (r"(?:a|b)c", "zbc", "bc"),  # a group that does not capture is none
        (r"(?i)A\d", "xa1", "a1"),
    ],
)
def test_a_label_regex_takes_group_one_or_the_whole_match(kind, pattern, key, expected, tmp_path):
    labels = [{"key": key, "mos": 3}]

    mos = mos_of(tmp_path, labels, [expected, key], kind=kind, scan={"label_key_regex": pattern})

    assert mos == [3.0, None]


@every_kind
@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [(r"(\d+)\.mp4$", "KoNViD/45.mp4", "45"), (r"\d+", "clip-17-18", "17"), (r"(\d)(\d)", "x42", "4")],
)
def test_a_feature_regex_takes_group_one_or_the_whole_match(kind, pattern, key, expected, tmp_path):
    labels = [{"key": expected, "mos": 3}, {"key": key, "mos": 4}]

    assert mos_of(tmp_path, labels, [key], kind=kind, feature_key_regex=pattern) == [3.0]


def test_a_regex_is_applied_after_normalisation(tmp_path):
    path = write(tmp_path, "l.csv", "path,mos\n99/a.mp4,2\n99/17.mp4,3\n")
    frame = pl.DataFrame({"path": ["98/17.mp4"]})
    labels = pm.scan_labels(path, label_key_regex=r"\d\d")

    result = pm.join_labels(frame, labels, feature_key_regex=r"\d\d")

    assert result["mos"].to_list() == [3.0]  # on the raw paths 99 and 98 would have been found


def test_no_match_is_no_key_on_either_side(tmp_path):
    labels = [{"key": "n7", "mos": 3}, {"key": "bonus", "mos": 4}]

    mos = mos_of(tmp_path, labels, ["n7", "bonus"], scan={"label_key_regex": r"\d"}, feature_key_regex=r"\d")

    assert mos == [3.0, None]


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "[z-a]", "*"])
@pytest.mark.parametrize("option", ["feature_key_regex", "label_key_regex"])
def test_a_bad_regex_is_refused_before_any_file_is_read(pattern, option, tmp_path):
    out = tmp_path / "out.csv"

    with pytest.raises(errors.OptionError, match=option):
        pm.materialize_labels("no/such.csv", "nor/this.csv", out, base_dir=tmp_path, **{option: pattern})

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pattern", ["(", "(?=a)"])
def test_a_bad_regex_of_any_entry_is_refused_before_any_file_is_found(pattern, tmp_path):
    entries = [pm.LabelFile("no/such.csv"), pm.LabelFile("nor/this.csv", key_regex=pattern)]

    with pytest.raises(errors.OptionError, match=r"^key_regex: "):
        pm.scan_labels(entries, base_dir=tmp_path)
    with pytest.raises(errors.OptionError, match=r"^label_key_regex: "):
        pm.scan_labels("no/such.csv", label_key_regex=pattern, base_dir=tmp_path)
    with pytest.raises(errors.OptionError, match="feature_key_regex"):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), _unreadable(tmp_path), feature_key_regex=pattern)


def _unreadable(folder):
    """A plan that fails as soon as it is collected."""
    return pm.scan_labels(write(folder, "broken.jsonl", "not JSON\n"))


# --- the MOS and its scale ----------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(len(label_oracle.MOS)))
def test_the_mos_column_is_the_first_known_name(first, tmp_path):
    names = label_oracle.MOS[first:][::-1]
    values = [*("2" for _ in names[1:]), "4"]
    text = ",".join([*(name.upper() for name in names), "key"]) + "\n" + ",".join([*values, "a"]) + "\n"

    mos = mos_of(tmp_path, text, ["a"])

    assert mos == [pytest.approx(1.16) if names[-1] == "mos_raw_0_100" else 4.0]


def test_the_named_mos_column(tmp_path):
    mos = mos_of(tmp_path, "key,mos,mos_j\na,1,3\n", ["a"], scan={"label_mos_column": "mos_j"})

    assert mos == [3.0]


def test_no_mos_column_is_refused_with_what_there_is_and_what_was_tried(tmp_path):
    path = write(tmp_path, "l.csv", "key,mos_j\na,3\n")

    with pytest.raises(errors.TableError) as none:
        pm.scan_labels(path).collect()
    with pytest.raises(errors.TableError) as other:
        pm.scan_labels(path, label_mos_column="mosj").collect()

    assert all(word in str(none.value) for word in (str(path), "'key', 'mos_j'", "mean_mos", "quality"))
    assert "did you mean 'mos_j'" in str(other.value)


@pytest.mark.parametrize(
    ("header", "entry", "error", "words"),
    [
        ("flickr_id,opinion", {}, errors.TableError, ["no MOS column", "that of konvid-1k"]),
        ("Video,opinion", {}, errors.TableError, ["no MOS column", "that of chug", "'mos_j'"]),
        ("Video,opinion", {"format": "chug"}, errors.TableError, ["no MOS column 'mos_j'"]),
        ("key,opinion", {}, errors.TableError, ["no MOS column", "tried mos mean_mos"]),
        ("key,opinion", {"mos_column": "opinions"}, errors.TableError, ["'opinions'", "mean 'opinion'"]),
        ("which,mos", {}, errors.KeyColumnError, ["no key column", "tried key clip_key"]),
        ("which,mos_j", {"format": "chug"}, errors.KeyColumnError, ["no key column 'Video'"]),
        ("which,opinion", {"key_column": "wich"}, errors.KeyColumnError, ["'wich'", "mean 'which'"]),
    ],
)
def test_the_column_that_is_missing_is_the_one_to_blame(header, entry, error, words, tmp_path):
    path = write(tmp_path, "l.csv", f"{header}\n1,3\n")

    with pytest.raises(error) as caught:
        pm.scan_labels(pm.LabelFile(str(path), **entry)).collect()

    assert str(caught.value).startswith(f"{path}: no ")
    assert all(word in str(caught.value) for word in words)
    assert "name it with label_mos_column" not in str(caught.value) or "mos_column" not in entry


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("mos", [1, 3, 5], [(1, 0), (3, 50), (5, 100)]),
        ("mos", [0, 3.9, 10.01], [(1, 0), (1.156, 3.9), (1.4004, 10.01)]),
        ("mos", [100], [(5, 100)]),
        ("mos_raw_0_100", [1, 3, 5], [(1.04, 1), (1.12, 3), (1.2, 5)]),
        ("MOS_Raw_0_100", [4], [(1.16, 4)]),
    ],
    ids=["up-to-five", "one-above-ten", "hundred", "by-name", "by-name-in-any-case"],
)
def test_auto_scale_is_decided_for_the_whole_file(column, values, expected, tmp_path):
    keys = [f"k{index}" for index in range(len(values))]
    path = write(tmp_path, "l.jsonl", [{"key": k, column: v} for k, v in zip(keys, values, strict=True)])

    result = pm.join_labels(pl.DataFrame({"key": keys}), pm.scan_labels(path))

    assert result.select("mos", "mos_raw_0_100").rows() == [pytest.approx(pair) for pair in expected]


def test_auto_scale_looks_at_keyed_rows_only(tmp_path):
    rows = [{"key": "a", "mos": 4}, {"key": None, "mos": 80}, {"key": " ", "mos": 90}]

    assert mos_of(tmp_path, rows, ["a"]) == [4.0]


def test_auto_scale_is_decided_for_each_file_alone(tmp_path):
    write(tmp_path, "one.csv", "key,mos\na,4\n")
    write(tmp_path, "two.csv", "key,mos\nb,80\nc,4\n")

    labels = pm.scan_labels(["one.csv", "two.csv"], base_dir=tmp_path)
    result = pm.join_labels(pl.DataFrame({"key": ["a", "b", "c"]}), labels)

    assert result["mos"].to_list() == pytest.approx([4.0, 4.2, 1.16])


def test_auto_scale_is_decided_for_each_file_of_a_glob(tmp_path):
    write(tmp_path, "x1.csv", "key,mos\na,4\n")
    write(tmp_path, "x2.csv", "key,mos\nb,80\n")

    result = pm.join_labels(pl.DataFrame({"key": ["a", "b"]}), pm.scan_labels("x*.csv", base_dir=tmp_path))

    assert result["mos"].to_list() == pytest.approx([4.0, 4.2])


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([{"key": "a", "mos": 3}, {"key": "b", "MOS": 4}], ":2: mos 'null'"),
        ([{"key": "a", "MOS": 3}, {"key": "b", "mos": 4}], ":1: mos 'null'"),
        ([{"key": "a", "score": 3}, {"key": "b", "mos": 4}], ":1: mos 'null'"),
        ([{"key": "a", "mos": None, "score": 3}, {"key": "b", "mos": 4}], ":1: mos 'null'"),
        ([{"key": "a", "mos": "n/a", "MOS": 3}, {"key": "b", "mos": 4}], ":1: mos 'n/a'"),
        ([{"key": "a", "mos": 3, "m": {"x": 1}}, {"key": "b", "MOS": 70, "m": "t"}], ":2: mos 'null'"),
    ],
    ids=["case", "case-first", "other-name", "null", "text", "other-shape"],
)
def test_no_other_mos_column_steps_in_for_a_row(rows, error, tmp_path):
    path = write(tmp_path, "l.jsonl", rows)

    with pytest.raises(errors.LabelError) as caught:
        pm.join_labels(pl.DataFrame({"key": ["a", "b"]}), pm.scan_labels(path))

    assert f"{path}{error}" in str(caught.value)


@pytest.mark.parametrize(
    "second",
    [
        *({"clip_id": "b"}, {"key": None, "clip_id": "b"}, {"key": " ", "clip_id": "b"}),
        {"clip_id": "b", "meta": "of another shape"},
    ],
    ids=["other-name", "null", "blank", "other-shape"],
)
def test_no_other_key_column_steps_in_for_a_row(second, tmp_path):
    path = write(tmp_path, "l.jsonl", [{"key": "a", "mos": 3, "meta": {"x": 1}}, {"mos": 4, **second}])

    result = pm.join_labels(pl.DataFrame({"key": ["a", "b"]}), pm.scan_labels(path), min_match_rate=0)

    assert result["mos"].to_list() == [3.0, None]


@pytest.mark.parametrize("second", [{"KEY": "b"}, {"key": None, "KEY": "b"}, {"Key": "b", "m": [1]}])
def test_a_key_column_that_is_spelled_in_two_ways_is_refused_and_loses_no_row(second, tmp_path):
    path = write(tmp_path, "l.jsonl", [{"key": "a", "mos": 3, "m": 1}, {"mos": 4, **second}])

    with pytest.raises(
        errors.LabelError, match=r"l\.jsonl:2: no key in 'key', but one in a column whose name"
    ):
        pm.join_labels(pl.DataFrame({"key": ["a"]}), pm.scan_labels(path))


@pytest.mark.parametrize(
    ("scale", "value", "mos", "raw"),
    [
        ("1:5", 5, 5, 100),
        ("0:100", 3.9, 1.156, 3.9),
        ("-7:94", -7, 1, 0),
        ("-7:94", 43.5, 3, 50),
        ("-7:94", 94, 5, 100),
        ("0:1", 0.25, 2, 25),
        ("1:10", 5.5, 3, 50),
        ("-1e1:1e1", 0, 3, 50),
    ],
)
def test_stated_scales_are_linear(scale, value, mos, raw, tmp_path):
    path = write(tmp_path, "l.csv", f"key,mos\na,{value}\n")

    result = pm.join_labels(pl.DataFrame({"key": ["a"]}), pm.scan_labels(path, label_scale=scale))

    assert result.select("mos", "mos_raw_0_100").row(0) == pytest.approx((mos, raw))


@pytest.mark.parametrize(
    "scale",
    [
        *("1", "5:1", "1:1", "a:b", "1:inf", "nan:5", "1:5:9", ":", "", "1-5", "Auto"),
        *("-1e308:1e308", "0:1_00", "\uff10:\uff15", "0:\u0661\u0660", "0:0x10", "0:\u2009100", "0:1e999"),
    ],
)
def test_a_scale_that_is_none_is_refused_before_any_file_is_found(scale, tmp_path):
    with pytest.raises(errors.OptionError, match="label_scale"):
        pm.materialize_labels("no.csv", "such.csv", "out.csv", base_dir=tmp_path, label_scale=scale)

    assert list(tmp_path.iterdir()) == []


def test_a_scale_of_an_entry_wins_and_is_checked_before_any_file_is_found(tmp_path):
    write(tmp_path, "l.csv", "key,mos\na,5\n")
    wrong = [pm.LabelFile("no/such.csv"), pm.LabelFile("l.csv", scale="5:1")]

    with pytest.raises(errors.OptionError, match="scale"):
        pm.scan_labels(wrong, base_dir=tmp_path)
    labels = pm.scan_labels(pm.LabelFile("l.csv", scale="0:10"), label_scale="1:5", base_dir=tmp_path)

    assert pm.join_labels(pl.DataFrame({"key": ["a"]}), labels)["mos"].to_list() == [3.0]


@pytest.mark.parametrize(
    ("cell", "scale"),
    [
        *(
            ("", "auto"),
            ("n/a", "auto"),
            ("inf", "auto"),
            ("-inf", "auto"),
            ("NaN", "auto"),
            ("true", "auto"),
        ),
        *(("5.01", "1:5"), ("0.99", "1:5"), ("101", "0:100")),
        *(("-7.01", "-7:94"), ("94.01", "-7:94"), ("100.5", "0:100")),
    ],
)
def test_a_keyed_mos_that_is_not_on_the_scale_is_refused_with_file_and_line(cell, scale, tmp_path):
    path = write(tmp_path, "l.csv", f"key,mos\na,3\nb,4\nc,{cell}\n")

    with pytest.raises(errors.LabelError) as caught:
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), pm.scan_labels(path, label_scale=scale))

    assert caught.value.count == 1
    assert f"{path}:4:" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0, 7.49, 3], "from 0 at {path}:2 to 7.49 at {path}:3;"),
        ([9.8, 1, 5], "from 1 at {path}:3 to 9.8 at {path}:2 (1 of 3 values outside of 1 to 5);"),
        ([1.2, 5.3, 3, 4], "from 1.2 at {path}:2 to 5.3 at {path}:3 (1 of 4 values outside of 1 to 5);"),
        ([10, 4], "from 4 at {path}:3 to 10 at {path}:2;"),
        ([0.99, 4, 3], "from 0.99 at {path}:2 to 4 at {path}:3 (1 of 3 values outside of 1 to 5);"),
        ([-1, 1], "from -1 at {path}:2 to 1 at {path}:3;"),
        ([-0.5, 80], "from -0.5 at {path}:2 to 80 at {path}:3;"),
        ([3, 120], "from 3 at {path}:2 to 120 at {path}:3;"),
        ([100.01], "from 100.01 at {path}:2 to 100.01 at {path}:2;"),
    ],
    ids=["up-to-7", "1-to-10", "a-slip", "up-to-10", "below-1", "z", "negative", "above-100", "one"],
)
def test_a_scale_that_is_not_plain_is_refused_with_the_range_and_its_places(values, text, tmp_path):
    rows = "".join(f"k{index},{value}\n" for index, value in enumerate(values))
    path = write(tmp_path, "l.csv", f"key,mos\n{rows}")

    with pytest.raises(errors.LabelFileError) as caught:
        pm.join_labels(pl.LazyFrame({"key": ["k0"]}), pm.scan_labels(path), min_match_rate=0)

    assert f"{path}: " in str(caught.value)
    assert text.format(path=path) in str(caught.value)
    assert "label_scale LOW:HIGH" in str(caught.value)
    assert (caught.value.fields["low"], caught.value.fields["high"]) == (min(values), max(values))


@pytest.mark.parametrize(("scale", "column"), [("1:5", "mos"), ("0:100", "mos_raw_0_100")])
def test_a_value_on_its_own_scale_is_kept_to_the_last_bit(scale, column):
    values = [1 + n / 700 for n in range(2801)] if scale == "1:5" else [n / 700 for n in range(70_001)]
    labels = pl.DataFrame({"key": [str(n) for n in range(len(values))], "mos": values, "scale": scale})

    result = pm.join_labels(labels.select("key"), labels)

    assert result[column].to_list() == values


def test_one_file_read_in_two_ways_has_a_scale_for_each(tmp_path):
    write(tmp_path, "l.csv", "first,mos_a,second,mos_b\na,3,b,70\nc,5,d,4\n")
    entries = [
        pm.LabelFile("l.csv", key_column="first", mos_column="mos_a"),
        pm.LabelFile("l.csv", key_column="second", mos_column="mos_b"),
    ]
    write(tmp_path, "f.csv", "key\na\nb\nc\nd\n")

    audit = pm.materialize_labels("f.csv", entries, "o.csv", base_dir=tmp_path)

    raw = pm.scan_table(tmp_path / "o.csv").select("mos_raw_0_100").collect().to_series()
    assert raw.to_list() == [50.0, 70.0, 100.0, 4.0]
    assert [(s.path, s.mos_column, s.scale, s.rows) for s in audit.label_sources] == [
        ("l.csv", "mos_a", "1:5", 2),
        ("l.csv", "mos_b", "0:100", 2),
    ]
    assert (audit.label_key_column, audit.label_mos_column, audit.label_scale) == (None, None, None)


def test_a_column_of_scores_is_no_extra_as_well(tmp_path):
    write(tmp_path, "l.csv", "key,std_dev,stddev,mos\na,3,0.5,1\nb,4,,2\n")
    labels = pm.scan_labels(pm.LabelFile("l.csv", mos_column="std_dev"), base_dir=tmp_path)

    result = pm.join_labels(pl.DataFrame({"key": ["a", "b"]}), labels)

    assert result.select("mos", "mos_std_dev").rows() == [(3.0, 0.5), (4.0, None)]


def test_a_score_in_an_object_is_found_in_rows_of_every_shape(tmp_path):
    rows = [
        {"key": "a", "r": {"MOS": 3}},
        {"key": "b", "r": {"MOS": "4.5", "n": [1]}},
        {"key": "c", "r": "x"},
    ]
    path = write(tmp_path, "l.jsonl", rows)
    named = pm.scan_labels(path, label_mos_column="r.mos")

    with pytest.raises(errors.LabelError, match=r"^1 label row is not usable: .*l\.jsonl:3: r\.MOS 'null'"):
        pm.join_labels(pl.DataFrame({"key": ["a"]}), named)
    kept = named.filter(pl.col("key") != "c")
    assert pm.join_labels(pl.DataFrame({"key": ["b", "a"]}), kept)["mos"].to_list() == [4.5, 3.0]


@pytest.mark.parametrize("entry", [{}, {"scale": "auto"}], ids=["run", "entry"])
@pytest.mark.parametrize("name", ["konvid-1k", None], ids=["recognised", "generic"])
def test_auto_of_an_entry_and_of_a_recognised_table_is_as_strict(entry, name, tmp_path):
    key = "flickr_id" if name else "key"
    path = write(tmp_path, "l.csv", f"{key},mos\n1,1.2\n2,5.3\n3,3\n")
    labels = pm.scan_labels(pm.LabelFile(str(path), **entry))

    with pytest.raises(errors.LabelFileError, match=r"5\.3 at .*:3"):
        pm.join_labels(pl.LazyFrame({"key": ["1"]}), labels, min_match_rate=0)
    write(tmp_path, "l.csv", f"{key},mos\n1,1.2\n2,4.3\n3,3\n")
    assert labels.select("format", "scale").unique().collect().rows() == [(name, "1:5")]


HUNDRED = "clip_id,mos\na,3.9\nb,2.5\nc,80\nd,55\n"


def test_rows_left_out_of_a_scanned_file_do_not_change_its_scale(tmp_path):
    labels = pm.scan_labels(write(tmp_path, "l.csv", HUNDRED))

    few = labels.filter(pl.col("key").is_in(["a", "b"]))

    assert labels.select("scale").unique().collect().item() == "0:100"
    result = pm.join_labels(pl.DataFrame({"clip_id": ["a", "b"]}), few)
    assert result["mos"].to_list() == pytest.approx([1.156, 1.1])
    write(tmp_path, "l.csv", "clip_id,mos\na,2\nb,7\n")
    with pytest.raises(errors.LabelFileError, match="cannot tell the scale of 'mos', which goes from 2 "):
        pm.join_labels(pl.DataFrame({"clip_id": ["a"]}), labels.filter(pl.col("key") == "a"))


def test_rows_that_a_pattern_leaves_without_a_key_have_no_say_in_what_a_scan_decides(tmp_path):
    path = write(tmp_path, "l.csv", "clip_id,mos\nx/a1,3.9\nx/b1,2.5\ny,7\n")

    labels = pm.scan_labels(path, label_key_regex="^[ab]1$")

    result = pm.join_labels(pl.DataFrame({"clip_id": ["a1"]}), labels, key_normalize="basename")
    assert result["mos"].to_list() == [3.9]


def test_files_of_one_name_in_two_folders_have_a_scale_each(tmp_path):
    write(tmp_path, "A/l.csv", HUNDRED)
    write(tmp_path, "B/l.csv", "clip_id,mos\ne,3.9\nf,2.5\n")
    both = pl.concat(pm.scan_labels("l.csv", base_dir=tmp_path / folder) for folder in "AB")

    result = pm.join_labels(pl.DataFrame({"clip_id": ["a", "e"]}), both)

    assert result["mos"].to_list() == pytest.approx([1.156, 3.9])


def test_rows_without_a_number_are_named_before_a_scale_that_a_scan_cannot_tell(tmp_path):
    labels = pm.scan_labels(write(tmp_path, "l.csv", "clip_id,mos\na,2\nb,7\nc,bad\n"))

    with pytest.raises(errors.LabelError, match=r"l\.csv:4: mos 'bad' is no finite number"):
        labels.collect()


def test_a_named_format_brings_its_scale_and_a_scale_that_is_said_wins(tmp_path):
    path = write(tmp_path, "l.csv", "flickr_id,mos\n1,2\n2,4\n")
    frame = pl.DataFrame({"key": ["1"]})

    def mos(**entry):
        return pm.join_labels(frame, pm.scan_labels(pm.LabelFile(str(path), **entry)))["mos"].to_list()

    assert mos(format="konvid-1k") == [2.0]
    assert mos(format="konvid-1k", scale="0:4") == [3.0]
    assert mos(scale="0:8") == [2.0]


def test_rows_that_state_no_score_have_no_say_in_the_scale(tmp_path):
    write(tmp_path, "l.csv", "name,score\na,3\nb,-1\nc,4\n")
    form = pm.LabelFormat(key_column=["name"], mos_column=["score"], missing=["-1"])
    labels = pm.scan_labels(pm.LabelFile("l.csv", format=form), base_dir=tmp_path)

    assert pm.join_labels(pl.DataFrame({"name": ["c", "a"]}), labels)["mos"].to_list() == [4.0, 3.0]


@pytest.mark.parametrize("named", ["format", "entry", "run"])
def test_ids_of_a_csv_are_keys_as_they_are_spelled(named, tmp_path):
    write(tmp_path, "l.csv", "ref,mos\n1.10,3\n1.1,4\n")
    form = pm.LabelFormat(key_column=["ref"], mos_column=["mos"])
    entry = {"format": form} if named == "format" else {"key_column": "ref"} if named == "entry" else {}
    run = {"label_key_column": "ref"} if named == "run" else {}
    labels = pm.scan_labels(pm.LabelFile("l.csv", **entry), base_dir=tmp_path, **run)

    assert pm.join_labels(pl.DataFrame({"key": ["1.1", "1.10"]}), labels)["mos"].to_list() == [4.0, 3.0]


def test_a_row_without_a_number_is_named_before_a_scale_that_is_not_plain(tmp_path):
    path = write(tmp_path, "l.csv", "key,mos\na,0\nb,7\nc,n/a\n")

    with pytest.raises(errors.LabelError, match=r"^1 label row is not usable: .*l\.csv:4: mos 'n/a'"):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), pm.scan_labels(path))


@pytest.mark.parametrize(
    ("content", "scan", "text"),
    [
        ("key,mos\n,3\n ,4\n", {}, "2 rows, 2 without a key; the key is in 'key'"),
        (
            "key,mos\na,3\nb,4\n,5\n",
            {"label_key_regex": r"\d"},
            "3 rows, 1 without a key, 2 whose key the regex does not match (such as 'a')",
        ),
        ("flickr_id,mos\n", {}, "no rows"),
        ("key,clip_id,mos\n,a,3\n,b,4\n", {}, "2 rows, 2 without a key; the key is in 'key'"),
    ],
    ids=["blank-keys", "regex", "header-only", "another-column-has-some"],
)
def test_files_without_any_label_are_refused_whatever_the_match_rate(content, scan, text, tmp_path):
    path = write(tmp_path, "l.csv", content)
    labels = pm.scan_labels(path, **scan)

    with pytest.raises(errors.MaterializeError) as caught:
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), labels, min_match_rate=0)

    assert text in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_in_which_all_rows_state_no_score_is_refused(tmp_path):
    write(tmp_path, "l.csv", "vid,MOSFull\na,nan\n,nan\n")
    labels = pm.scan_labels(pm.LabelFile("l.csv", format="youtube-ugc"), base_dir=tmp_path)

    with pytest.raises(errors.LabelFileError, match="2 rows, 1 without a key, 1 that state no score"):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), labels, min_match_rate=0)


def test_a_frame_of_labels_without_rows_is_refused():
    labels = pl.DataFrame(schema={"key": pl.String, "mos": pl.Float64})

    with pytest.raises(errors.LabelFileError, match="0 rows"):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), labels, min_match_rate=0)


def test_one_file_without_labels_beside_others_is_counted_and_has_no_scale(tmp_path):
    write(tmp_path, "one.csv", "key,mos\na,3\n")
    write(tmp_path, "two.csv", "key,mos\n,99\n")
    write(tmp_path, "f.csv", "key\na\n")

    audit = pm.materialize_labels("f.csv", ["one.csv", "two.csv"], "o.csv", base_dir=tmp_path)

    assert [source.scale for source in audit.label_sources] == ["1:5", None]
    assert audit.label_scale == "1:5"
    assert audit.labels_without_key == 1


def test_labels_that_no_row_has_are_a_matter_of_the_match_rate():
    labels = pl.DataFrame({"key": ["x"], "mos": [3.0]})

    result = pm.join_labels(pl.DataFrame({"key": ["a"]}), labels, min_match_rate=0)

    assert result["mos"].to_list() == [None]


def test_bad_mos_in_a_json_file_is_named_by_row(tmp_path):
    path = write(tmp_path, "l.json", '{"rows": [{"key": "a", "mos": 3}, {"key": "b", "mos": null}]}')

    with pytest.raises(errors.LabelError) as caught:
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), pm.scan_labels(path))

    assert f"{path}: rows[1]:" in str(caught.value)


def test_unusable_labels_are_counted_and_one_is_shown(tmp_path):
    path = write(tmp_path, "l.jsonl", [{"key": f"k{n}", "mos": None if n else 3} for n in range(26)])

    with pytest.raises(errors.LabelError) as caught:
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), pm.scan_labels(path))

    text = str(caught.value)
    assert text == (f"25 label rows are not usable, such as {path}:2: mos 'null' is no finite number")
    assert caught.value.count == 25
    assert [place for place, _ in caught.value.problems] == [f"{path}:{line}" for line in range(2, 12)]


@every_kind
def test_numbers_as_text_count(kind, tmp_path):
    rows = [{"key": "a", "mos": " 3.5 "}, {"key": "b", "mos": 4}]

    assert mos_of(tmp_path, rows, ["a", "b"], kind=kind) == [3.5, 4.0]


@pytest.mark.parametrize(
    "row",
    [
        {"key": None, "mos": None},
        {"key": "", "mos": "n/a"},
        {"key": " \t", "mos": -1},
        {"mos": 1000},
        {"key": None, "mos": 3, "std_dev": "n/a", "n_ratings": "many"},
    ],
    ids=["null", "empty", "blank", "absent", "unusable-extras"],
)
def test_a_label_row_without_key_is_passed_over_whatever_it_holds(row, tmp_path):
    rows = [{"key": "a", "mos": 3}, row, {"key": "b", "mos": 4}]

    assert mos_of(tmp_path, rows, ["a", "b"]) == [3.0, 4.0]


def test_a_label_row_that_the_regex_does_not_match_is_passed_over(tmp_path):
    rows = [{"key": "7", "mos": 3}, {"key": "readme", "mos": None}]

    assert mos_of(tmp_path, rows, ["7"], scan={"label_key_regex": r"\d"}) == [3.0]


@pytest.mark.parametrize("text", ["[]", '{"rows": []}', ""])
def test_a_json_label_file_without_rows_is_no_crash(text, tmp_path):
    write(tmp_path, "l.json", text)

    result, error = attempt(
        lambda: pm.join_labels(
            pl.DataFrame({"key": ["a"]}), pm.scan_labels("l.json", base_dir=tmp_path), min_match_rate=0
        )
    )

    assert "l.json" in error if result is None else result["mos"].to_list() == [None]


# --- extras -------------------------------------------------------------------------------------------


@every_kind
def test_extras_are_copied_sorted_and_typed(kind, tmp_path):
    text = "key,split,corpus_version,stddev,CORPUS,rating_count,mos\na,train,1.0,0.5,konvid,20,3\nb,,,,,,4\n"
    path = write(tmp_path, "l.csv", text)

    result = joined(pl.DataFrame({"key": ["b", "a"]}), pm.scan_labels(path), kind)

    extras = ["corpus", "corpus_version", "mos_n_ratings", "mos_std_dev", "split"]
    assert result.columns[-5:] == extras
    assert result.select(extras).rows() == [(None,) * 5, ("konvid", "1.0", 20, 0.5, "train")]


@pytest.mark.parametrize(
    ("names", "extra"),
    [
        (["mos_std_dev", "stddev", "std_dev"], "mos_std_dev"),
        (["n_ratings", "mos_n_ratings", "rating_count"], "mos_n_ratings"),
    ],
)
def test_the_first_of_several_names_that_is_not_null_wins(names, extra, tmp_path):
    rows = [
        {"key": "a", "mos": 3, names[2]: 3, names[1]: 2, names[0]: 1},
        {"key": "b", "mos": 3, names[2]: 3, names[1]: 2, names[0]: None},
        {"key": "c", "mos": 3, names[2]: 3, names[1]: None},
        {"key": "d", "mos": 3},
    ]
    path = write(tmp_path, "l.jsonl", rows)

    result = pm.join_labels(pl.DataFrame({"key": ["a", "b", "c", "d"]}), pm.scan_labels(path))

    assert result[extra].to_list() == [1, 2, 3, None]


def test_an_extra_that_is_no_number_is_refused_with_file_and_line(tmp_path):
    path = write(tmp_path, "l.csv", "key,mos,std_dev\na,3,0.5\nb,3,wide\n")

    with pytest.raises(errors.LabelError, match=r"l\.csv:3: std_dev 'wide'"):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), pm.scan_labels(path))


@pytest.mark.parametrize("count", ["99999999999999999999", "1e300"])
def test_a_number_of_ratings_beyond_64_bits_is_kept_or_refused_with_its_place(count, tmp_path):
    path = write(tmp_path, "l.csv", f"key,mos,n_ratings\na,3,{count}\n")

    result, error = attempt(lambda: pm.join_labels(pl.DataFrame({"key": ["a"]}), pm.scan_labels(path)))

    assert "l.csv:2" in error if result is None else result["mos_n_ratings"].to_list() == [float(count)]


# --- the same key again -------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [3.0, 3.0 + 5e-7, "3"])
def test_equal_labels_of_one_key_count_once(second, tmp_path):
    rows = [{"key": "a", "mos": 3, "split": "x"}, {"key": " a ", "mos": second, "split": "x"}]

    assert mos_of(tmp_path, rows, ["a", "a"]) == [3.0, 3.0]


def test_equal_labels_on_different_scales_count_once(tmp_path):
    write(tmp_path, "one.csv", "key,mos\na,4.2\n")
    write(tmp_path, "two.csv", "key,mos_raw_0_100\na,80\n")
    labels = pm.scan_labels(["one.csv", "two.csv"], base_dir=tmp_path)

    result = as_text(pm.join_labels(pl.DataFrame({"key": ["a"]}), labels))

    assert result.select("mos", "mos_label_source").row(0) == (4.2, "one.csv")


@pytest.mark.parametrize(
    "other",
    [
        *({"mos": 3.1}, {"mos": 3.00001}, {"split": "test"}, {"std_dev": 0.6}, {"n_ratings": 5}),
        *({"corpus": "z"}, {"corpus_version": "2"}, {"split": None}, {"std_dev": None}),
    ],
    ids=lambda other: next(iter(other)) + str(next(iter(other.values()))),
)
def test_different_labels_of_one_key_are_refused_with_both_places(other, tmp_path):
    row = {"key": "clip_7", "mos": 3, "split": "train", "std_dev": 0.5, "n_ratings": 20, "corpus": "k"}
    write(tmp_path, "one.jsonl", [{**row, "key": "b"}, row])
    write(tmp_path, "two.jsonl", [{**row, **other}])
    labels = pm.scan_labels(["one.jsonl", "two.jsonl"], base_dir=tmp_path)

    with pytest.raises(errors.DuplicateKeyError) as caught:
        pm.join_labels(pl.LazyFrame({"key": ["clip_7"]}), labels)

    assert all(word in str(caught.value) for word in ("'clip_7'", "one.jsonl:2", "two.jsonl:1"))


def test_labels_that_a_regex_folds_are_refused_if_they_differ(tmp_path):
    path = write(tmp_path, "l.csv", "key,mos\nA001_x,3\nA001_y,4\n")
    labels = pm.scan_labels(path, label_key_regex=r"A\d{3}")

    with pytest.raises(
        errors.DuplicateKeyError, match=r"the key 'A001': mos 3 at .*:2 .*, but mos 4 at .*:3 "
    ) as caught:
        pm.join_labels(pl.LazyFrame({"key": ["A001"]}), labels)

    assert "(written 'A001_x')" in str(caught.value)
    assert "(written 'A001_y')" in str(caught.value)


def test_different_labels_are_shown_as_they_are_written_one_key_for_all(tmp_path):
    write(tmp_path, "one.csv", "key,mos\na,41.9\nb,12.50\nc,70\n")
    write(tmp_path, "two.csv", "key,MOS,stddev\na,4.63,0.5\nb,12.5,\nc,2,\n")
    labels = pm.scan_labels(["one.csv", pm.LabelFile("two.csv", scale="0:20")], base_dir=tmp_path)

    with pytest.raises(errors.DuplicateKeyError) as caught:
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), labels)

    assert str(caught.value) == (
        "different labels of 3 keys, such as 'a': mos 41.9 on 0:100, mos_std_dev absent at one.csv:2, "
        "but MOS 4.63 on 0:20, mos_std_dev 0.5 at two.csv:2; expected one label for each key"
    )
    assert caught.value.fields["offenders"]["key"].to_list() == ["a", "b", "c"]


def test_labels_of_one_key_that_drift_apart_name_the_two_ends(tmp_path):
    path = write(tmp_path, "l.csv", "key,mos\na,3\na,3.0000009\na,2.9999991\n")

    with pytest.raises(
        errors.DuplicateKeyError, match=r"mos 3\.0000009 at .*:3, but mos 2\.9999991 at .*:4;"
    ):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), pm.scan_labels(path))


def test_labels_that_differ_only_in_an_extra_say_in_which(tmp_path):
    path = write(tmp_path, "l.csv", "key,mos,split\na,3,train\na,3,test\n")

    with pytest.raises(errors.DuplicateKeyError, match=r"split 'train' at .*:2, but split 'test' at .*:3;"):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), pm.scan_labels(path))


def test_a_frame_of_labels_goes_by_the_names_that_files_go_by():
    labels = pl.DataFrame({"key": ["a"], "mos": [3.0], "stddev": [0.5], "n_ratings": [20]})

    result = pm.join_labels(pl.DataFrame({"key": ["a"]}), labels)

    assert result.select("mos", "mos_n_ratings", "mos_std_dev").rows() == [(3.0, 20, 0.5)]
    with pytest.raises(errors.OptionError, match="both"):
        pm.join_labels(pl.DataFrame({"key": ["a"]}), labels.with_columns(value=1.0))


# --- labels in a frame of one's own -------------------------------------------------------------------


def of_frame(labels, keys, **options):
    """What keys get from a frame of labels."""
    return as_text(pm.join_labels(pl.DataFrame({"key": keys}), labels, **{"min_match_rate": 0, **options}))


@pytest.mark.parametrize(
    "name", ["source", "scale", "place", "written", "mos_column", "key_column", "missing"]
)
def test_a_null_in_a_frame_of_labels_hides_no_row_from_the_checks(name):
    dtype = pl.Boolean if name == "missing" else pl.String
    good = pl.DataFrame({"key": ["a"], "mos": [3.0], name: pl.Series([None], dtype=dtype)})
    bad = good.with_columns(mos=pl.lit(None, pl.Float64))

    assert of_frame(good, ["a"]).select("mos", "mos_label_source").row(0) == (3.0, "labels")
    with pytest.raises(errors.LabelError, match=r"^1 label row is not usable: labels: rows\[0\]: mos 'null'"):
        of_frame(bad, ["a"])


@pytest.mark.parametrize(
    ("mos", "error"),
    [
        (pl.Series(["3.5", "n/a"]), "rows[1]: mos 'n/a' is no finite number"),
        (pl.Series([3.5, float("nan")]), "rows[1]: mos 'NaN' is no finite number"),
        (pl.Series([True, False]), "rows[0]: mos 'true' is no finite number"),
        (pl.Series([1, 2]).cast(pl.Date), "rows[0]: mos '1970-01-02' is no finite number"),
        (pl.Series([[3], [4]]), "rows[0]: mos 'a list or an object' is no finite number"),
    ],
    ids=["text", "nan", "boolean", "date", "list"],
)
def test_what_is_no_number_in_a_frame_of_labels_is_none(mos, error):
    with pytest.raises(errors.LabelError) as caught:
        of_frame(pl.DataFrame({"key": ["a", "b"], "mos": mos}), ["a"])

    assert error in str(caught.value)


@pytest.mark.parametrize("values", [[True], ["0.5x"], [[1]]], ids=["boolean", "text", "list"])
@pytest.mark.parametrize("name", ["std_dev", "n_ratings"])
def test_an_extra_of_a_frame_that_is_no_number_is_refused(name, values):
    with pytest.raises(errors.OptionError, match=r"^labels: "):
        of_frame(pl.DataFrame({"key": ["a"], "mos": [3.0], name: values}), ["a"])


def test_extras_of_a_frame_go_by_all_their_names_too():
    labels = pl.DataFrame(
        {
            "key": ["a", "b"],
            "mos": ["3.5", "4"],
            "std_dev": [0.2, 0.3],
            "stddev": [None, 0.4],
            "split": ["x", None],
            "rating_count": ["20", None],
        }
    )

    result = of_frame(labels, ["a", "b"])

    extras = ["mos", "mos_n_ratings", "mos_std_dev", "split"]
    assert result.select(extras).rows() == [(3.5, 20, 0.2, "x"), (4.0, None, 0.4, None)]


def test_rows_of_a_frame_may_be_of_several_files_and_scales():
    labels = pl.DataFrame(
        {
            "key": ["a", "b", "c", "d"],
            "mos": [3.0, 3.0, 80.0, 3.0],
            "source": ["x", "y", "y", "y"],
            "scale": [None, None, None, "0:6"],
        }
    )

    assert of_frame(labels, ["a", "b", "c", "d"])["mos_raw_0_100"].to_list() == [50.0, 3.0, 80.0, 50.0]


EXTRA_TEXTS = {
    "l.csv": "key,mos,Corpus_Version,split,corpus\na,3,2.10,TRUE,1e3\nb,4,1.10,true,007\n",
    "l.jsonl": '{"key":"a","mos":3,"Corpus_Version":2.10,"split":"TRUE","corpus":1e3}\n'
    '{"key":"b","mos":4,"Corpus_Version" : 1.10,"split":true,"corpus":"007"}\n',
    "l.json": '[{"key":"a","mos":3,"Corpus_Version":2.10,"split":"TRUE","corpus":1e3, "x": NaN},\n'
    '{"key":"b","mos":4,"Corpus_Version"\n:\n1.10,"split":true,"corpus":"007"}]',
}


@pytest.mark.parametrize("name", EXTRA_TEXTS)
def test_extras_that_are_text_are_so_as_they_are_written(name, tmp_path):
    path = write(tmp_path, name, EXTRA_TEXTS[name])

    result = pm.join_labels(pl.DataFrame({"key": ["a", "b"]}), pm.scan_labels(path))

    assert result.select("corpus_version", "split", "corpus").rows() == [
        ("2.10", "TRUE", "1e3"),
        ("1.10", "true", "007"),
    ]


def test_columns_without_a_header_are_text_by_their_names_too(tmp_path):
    path = write(tmp_path, "l.txt", "a,3,2.10\na,3,2.1\n")
    labels = pm.scan_labels(pm.LabelFile(str(path), columns=["key", "mos", "corpus_version"]))

    with pytest.raises(errors.DuplicateKeyError, match=r"corpus_version '2\.10' at .*but .* '2\.1' at"):
        pm.join_labels(pl.DataFrame({"key": ["a"]}), labels)


@pytest.mark.parametrize("name", ["split", "corpus", "corpus_version", "n_ratings", "stddev"])
@pytest.mark.parametrize("value", [["x"], {"x": 1}], ids=["list", "object"])
def test_extras_that_are_lists_or_objects_are_refused(name, value, tmp_path):
    rows = [{"key": "a", "mos": 3, name: "1"}, {"key": "b", "mos": 4, name: value}]
    path = write(tmp_path, "l.jsonl", rows)
    wanted = "a number" if name in ("n_ratings", "stddev") else "text"

    with pytest.raises(
        errors.LabelError, match=rf"l\.jsonl:2: {name} is a list or an object; expected {wanted}"
    ):
        pm.join_labels(pl.DataFrame({"key": ["a"]}), pm.scan_labels(path))


@pytest.mark.parametrize("value", [["x"], {"x": 1}, b"x"], ids=["list", "object", "bytes"])
@pytest.mark.parametrize("name", ["split", "corpus", "scale", "place", "format", "source", "missing"])
def test_columns_of_a_frame_that_are_no_text_are_refused_in_plain_words(name, value):
    labels = pl.DataFrame({"key": ["a"], "mos": [3.0], name: [value]})

    expected = "True or False" if name == "missing" else "text"
    with pytest.raises(errors.OptionError, match=rf"^labels: {name} is \w+.*; expected {expected}$"):
        of_frame(labels, ["a"])


def test_an_empty_frame_of_labels_names_no_column():
    labels = pl.DataFrame(schema={"key": pl.String, "mos": pl.Float64})

    with pytest.raises(errors.LabelFileError, match="0 rows; expected at least one row with a key"):
        of_frame(labels, ["a"])


# --- the match rate -----------------------------------------------------------------------------------


@every_kind
def test_too_low_a_match_rate_is_refused_with_rate_counts_and_keys_of_both_sides(kind):
    keys = [f"k{n:02}" for n in range(40)]
    frame = pl.DataFrame({"key": keys + ["k39"] * 9})
    labels = pl.DataFrame({"key": keys[:28] + [f"u{n:02}" for n in range(13)], "mos": [3.0] * 41})

    with pytest.raises(errors.MatchRateError) as caught:
        joined(frame, labels, kind, min_match_rate=0.75)

    text = str(caught.value)
    assert all(word in text for word in ("0.7", "28 of 40", "0.75"))
    before, _, after = text.partition("u00")
    assert [key for key in keys if f"'{key}'" in text] == keys[28:38]
    assert "and 2 more" in before
    assert [n for n in range(13) if f"u{n:02}'" in text] == list(range(10))
    assert "and 3 more" in after
    assert caught.value.unmatched.select("key", "rows").rows()[-1] == ("k39", 10)
    assert caught.value.unused.height == 13


@pytest.mark.parametrize(("rate", "passes"), [(0.0, True), (0.5, True), (0.51, False), (1.0, False)])
def test_the_match_rate_is_of_distinct_keys(rate, passes):
    frame = pl.DataFrame({"key": ["a", "b", "b", "b", "b", None, None]})
    labels = pl.DataFrame({"key": ["a"], "mos": [3.0]})

    if passes:
        assert pm.join_labels(frame, labels, min_match_rate=rate)["mos"].null_count() == 6
    else:
        with pytest.raises(errors.MatchRateError, match=r"0\.5.*1 of 2"):
            pm.join_labels(frame, labels, min_match_rate=rate)


def test_the_least_match_rate_is_095_if_none_is_asked_for():
    frame = pl.DataFrame({"key": [f"k{n}" for n in range(100)]})

    def labels(count):
        return pl.DataFrame({"key": [f"k{n}" for n in range(count)], "mos": [3.0] * count})

    assert pm.join_labels(frame, labels(95))["mos"].count() == 95
    with pytest.raises(errors.MatchRateError, match=r"94 of 100 .*expected 0\.95"):
        pm.join_labels(frame, labels(94))


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_match_rate_that_is_no_share_is_refused(rate):
    labels = pl.DataFrame({"key": ["a"], "mos": [3.0]})

    with pytest.raises(errors.OptionError, match="min_match_rate"):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), labels, min_match_rate=rate)


@pytest.mark.parametrize("later", ["filter", "select", "head", "len"])
@pytest.mark.parametrize("kind", ["streaming", "in-memory"])
def test_guards_count_every_row_whatever_follows(later, kind):
    frame = pl.LazyFrame({"key": ["a", "b", "b", "c"], "row": range(4)})
    labels = pl.DataFrame({"key": ["a"], "mos": [3.0]})
    plan = pm.join_labels(frame, labels)
    plan = {
        "filter": plan.filter(pl.col("row") == 0),
        "select": plan.select("row"),
        "head": plan.head(1),
        "len": plan.select(pl.len()),
    }[later]

    with pytest.raises(errors.MatchRateError) as caught:
        plan.collect(engine=kind)

    assert caught.value.unmatched.sort("key").select("key", "rows").rows() == [("b", 2), ("c", 1)]


def test_a_table_without_rows_is_joined():
    frame = pl.DataFrame({"key": []}, schema={"key": pl.String})

    result = pm.join_labels(frame, pl.DataFrame({"key": ["a"], "mos": [3.0]}))

    assert result.height == 0
    assert "mos" in result.columns


# --- files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json", ".csv", ".arrow", ".csv.gz", ".jsonl.zst"])
def test_label_files_of_every_format(suffix, tmp_path):
    rows = pl.DataFrame({"clip_id": ["a", "b"], "MOS": [80.0, 3.9], "n_ratings": [20, 21]})
    path = tmp_path / f"labels{suffix}"
    pm.sink_table(rows, path)

    result = pm.join_labels(pl.DataFrame({"key": ["b", "a"]}), pm.scan_labels(path))

    assert result["mos_raw_0_100"].to_list() == pytest.approx([3.9, 80.0])
    assert result["mos_n_ratings"].to_list() == [21, 20]


@every_kind
def test_a_headerless_csv_with_columns(kind, tmp_path):
    text = "videos/10.mp4, 8.0, 29.97, 3.22\nvideos/11.mp4, 8.0, 25.0, 4.5\n"
    write(tmp_path, "labels.txt", text)
    entry = pm.LabelFile("labels.txt", columns=["path", "duration", "fps", "mos"], key_regex=r"(\d+)\.mp4$")

    labels = pm.scan_labels(entry, base_dir=tmp_path)
    result = joined(pl.DataFrame({"key": [11, 10]}), labels, kind)

    assert result["mos"].to_list() == [4.5, 3.22]


def test_lines_of_a_headerless_csv_count_from_its_first(tmp_path):
    write(tmp_path, "labels.txt", "a, 3\nb, x\n")
    labels = pm.scan_labels(pm.LabelFile("labels.txt", columns=["key", "mos"]), base_dir=tmp_path)

    with pytest.raises(errors.LabelError, match=r"^1 label row is not usable: labels\.txt:2: "):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), labels)


def test_a_headerless_csv_with_another_number_of_cells_is_refused_with_its_line(tmp_path):
    write(tmp_path, "labels.txt", "a, 3\nb, 4, 5\n")
    labels = pm.scan_labels(pm.LabelFile("labels.txt", columns=["key", "mos"]), base_dir=tmp_path)

    with pytest.raises(errors.TableError, match=r"^labels\.txt:2: "):
        labels.collect()


@pytest.mark.parametrize("columns", [[], ["key", "key"]])
def test_columns_that_name_nothing_or_one_thing_twice_are_refused(columns, tmp_path):
    with pytest.raises(errors.OptionError, match="columns"):
        pm.scan_labels(pm.LabelFile("no/such.txt", columns=columns), base_dir=tmp_path)


@every_kind
def test_label_files_with_different_columns_in_one_join(kind, tmp_path):
    write(tmp_path, "one.csv", "clip_id,MOS,std_dev\na,4,0.5\n")
    write(tmp_path, "two.jsonl", [{"File": "x/b.mp4", "quality": 80, "split": "test", "n_ratings": 9}])
    write(tmp_path, "three.txt", "videos/c.mp4, 40\n")
    entries = [
        "one.csv",
        pm.LabelFile("two.jsonl", key_column="File", key_regex=r"(\w)\.mp4"),
        pm.LabelFile(
            "three.txt", columns=["path", "j"], mos_column="j", key_regex=r"(\w)\.mp4", scale="-7:94"
        ),
    ]

    labels = pm.scan_labels(entries, base_dir=tmp_path)
    result = as_text(joined(pl.DataFrame({"key": ["a", "b", "c"]}), labels, kind))

    names = ["mos", "mos_label_source", "mos_n_ratings", "mos_std_dev", "split"]
    assert result.select(names).rows() == [
        (4.0, "one.csv", None, 0.5, None),
        (pytest.approx(4.2), "two.jsonl", 9, None, "test"),
        (pytest.approx(1 + 4 * 47 / 101), "three.txt", None, None, None),
    ]


def test_options_of_the_call_serve_entries_that_do_not_say_themselves(tmp_path):
    write(tmp_path, "one.csv", "a,b\n1x,3\n")
    write(tmp_path, "two.csv", "c,b\nq2,9\n")
    entries = ["one.csv", pm.LabelFile("two.csv", key_column="c", scale="0:10")]

    labels = pm.scan_labels(
        entries,
        base_dir=tmp_path,
        label_key_column="a",
        label_mos_column="b",
        label_key_regex=r"\d",
        label_scale="1:5",
    )
    result = pm.join_labels(pl.DataFrame({"key": ["1", "2"]}), labels)

    assert result["mos"].to_list() == pytest.approx([3.0, 4.6])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "at least one"),
        ([pm.LabelFile("")], "path"),
        ("no/such.csv", "no/such.csv: no such file"),
        ("no*.csv", "no file matches"),
    ],
)
def test_labels_that_name_no_file_are_refused_at_once(entries, words, tmp_path):
    with pytest.raises((errors.OptionError, errors.TableError), match=words):
        pm.scan_labels(entries, base_dir=tmp_path)


def test_a_malformed_line_is_named(tmp_path):
    write(tmp_path, "l.jsonl", '{"key": "a", "mos": 3}\n[]\n')

    with pytest.raises(errors.TableError, match=r"^l\.jsonl:2: not a JSON object"):
        pm.scan_labels("l.jsonl", base_dir=tmp_path).collect()


def test_a_frame_of_labels_without_key_or_mos_is_refused():
    with pytest.raises(errors.OptionError, match="'key'"):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), pl.DataFrame({"mos": [3.0]}))
    with pytest.raises(errors.OptionError, match="'mos'"):
        pm.join_labels(pl.LazyFrame({"key": ["a"]}), pl.DataFrame({"key": ["a"]}))


# --- against the oracle -------------------------------------------------------------------------------

PLAIN_KEYS = ["a", "b", "c", "d", "A", "caf\u00e9", "7", "t_20.0", None]
MESSY_KEYS = [
    *("a", "b", "c.mp4", "d/c.mp4", "e\\c.MP4", "x/b.mp4", " a ", "A", "7", "17", "", "  ", None),
    *("caf\u00e9", "cafe\u0301"),
]
NUMBER_KEYS = [1, 7, 12, 17, 3339962845, None]
VALUES = {
    "1:5": [1, 1.5, 3, 3.0000001, 3.9, 5],
    "0:100": [0, 3, 3.9, 5, 5.5, 80, 100],
    "-7:94": [-7, 0, 3.9, 94],
}
ODD = [0.9, 3, 5, 5.3, 7.49, 10]
"""Values of scales that nobody can tell."""
PATTERNS = [r"(\w)\.mp4$", r"[abc]", r"\d(\d*)"]
EXTRA_NAMES = ["split", "stddev", "std_dev", "mos_n_ratings", "rating_count", "Corpus"]


@st.composite
def label_files(draw, name, keys, patterns):
    """A label file of these keys, mostly a clean one; others of its columns could be taken for its own."""
    key_column = draw(st.sampled_from(["key", "Clip_ID", "path", "File_Name", "rating_of"]))
    mos_column = draw(st.sampled_from(["mos", "MOS", "mean_mos", "mos_raw_0_100", "quality"]))
    scale = draw(st.sampled_from(["auto", "auto", "auto", *VALUES]))
    values = VALUES[draw(st.sampled_from(["1:5", "0:100"])) if scale == "auto" else scale]
    values = draw(st.sampled_from([values] * 5 + [ODD]))
    dirty = draw(st.sampled_from([False] * 5 + [True]))
    extras = draw(st.lists(st.sampled_from(EXTRA_NAMES), unique=True, max_size=3))
    others = draw(
        st.lists(st.sampled_from(["KEY", "src", "Mos", "raw_mos", "score"]), unique=True, max_size=2)
    )
    others = [other for other in others if other.lower() not in (key_column.lower(), mos_column.lower())]
    others += draw(st.sampled_from([[], [], [key_column.swapcase()], [mos_column.swapcase()]]))
    rows = []
    for key in keys:
        mos = draw(st.sampled_from([*values, None, "x", 101.5, -50] if dirty else values))
        if key is None or not str(key).strip():
            mos = draw(st.sampled_from([None, 3, 99, "n/a"]))
        row = {key_column: key, mos_column: mos}
        for extra in extras:
            text = extra in ("split", "Corpus")
            row[extra] = draw(st.sampled_from(["x", "x", "y", None] if text else [20, 20, 0.5, None]))
        for other in others:
            row[other] = draw(st.sampled_from(["a", 3, None]))
        if rows and dirty and draw(st.booleans()):
            del row[draw(st.sampled_from([key_column, mos_column]))]
        rows.append(row)
    return label_oracle.LabelFile(
        name,
        list(dict.fromkeys(column for row in rows for column in row)),
        rows,
        key_column=key_column if key_column == "rating_of" else None,
        mos_column=draw(st.sampled_from([None, None, mos_column])),
        key_regex=draw(st.sampled_from(patterns)),
        scale=scale,
    )


@st.composite
def cases(draw):
    """A feature table, label files, and options: plain ones that mostly join, and messy ones."""
    messy = draw(st.sampled_from([False, False, True]))
    pool = draw(st.sampled_from([MESSY_KEYS] if messy else [PLAIN_KEYS, NUMBER_KEYS]))
    patterns = [None, None, *PATTERNS] if messy else [None]
    unique = draw(st.sampled_from([True, True, True, False]))
    known = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=9, unique=unique))
    parts = draw(st.integers(1, min(3, len(known))))
    files = [draw(label_files(f"l{n}.jsonl", known[n::parts], patterns)) for n in range(parts)]
    column = draw(st.sampled_from(["key", "clip_id", "path", "SRC"]))
    rows = draw(st.lists(st.sampled_from([*known, *known, *pool]), max_size=8))
    options = {
        "key_normalize": draw(st.sampled_from(["auto", "auto", "raw", "basename", "stem"])),
        "feature_key_regex": draw(st.sampled_from(patterns)),
        "min_match_rate": draw(st.sampled_from([0.0, 0.0, 0.0, 0.5, 0.95, 1.0])),
        "allow_folding": draw(st.sampled_from([False, True, True])),
        "status_column": draw(st.sampled_from(["mos_label_status", "state"])),
    }
    dtype = pl.Int64() if pool is NUMBER_KEYS else pl.String()
    frame = pl.DataFrame({column: rows, "row": range(len(rows))}, schema_overrides={column: dtype})
    return column, frame, files, options


def read_case(folder, case):
    """Writes a case's files, and gives the oracle's answer and the entries for the package."""
    column, frame, files, options = case
    entries = []
    for file in files:
        write(folder, file.name, file.rows)
        entries.append(
            pm.LabelFile(
                file.name,
                key_column=file.key_column,
                mos_column=file.mos_column,
                key_regex=file.key_regex,
                scale=file.scale,
            )
        )
    try:
        expected = label_oracle.join(frame.to_dicts(), files, feature_key_column=column, **options)
    except oracle.Refused as refused:
        expected = refused
    return entries, expected


def assert_rows(result, expected):
    """Compares a frame with the oracle's rows; numbers nearly, all else exactly."""
    found = as_text(result).to_dicts()
    assert len(found) == len(expected.rows)
    for row, wanted in zip(found, expected.rows, strict=True):
        assert list(row) == list(wanted)
        for name, value in wanted.items():
            near = isinstance(value, (int, float)) and name != "row"
            assert row[name] == (pytest.approx(value, abs=2e-6) if near else value), name


@settings(max_examples=150)
@given(case=cases(), kind=st.sampled_from(KINDS))
def test_joins_are_those_of_the_oracle(case, kind):
    _, frame, _, options = case
    with TemporaryDirectory() as folder:
        entries, expected = read_case(folder, case)
        labels = pm.scan_labels(entries, base_dir=folder)
        event(f"refused: {expected.kind}" if isinstance(expected, oracle.Refused) else "joined")

        if isinstance(expected, oracle.Refused):
            with pytest.raises(errors.MaterializeError) as caught:
                joined(frame, labels, kind, **options)
            assert caught.value.code in expected.kind.split(",")
        else:
            assert_rows(joined(frame, labels, kind, **options), expected)


@settings(max_examples=50)
@given(case=cases())
def test_audits_are_those_of_the_oracle(case):
    column, frame, files, options = case
    with TemporaryDirectory() as folder:
        entries, expected = read_case(folder, case)
        pm.sink_table(frame, Path(folder) / "features.parquet")

        def run():
            return pm.materialize_labels(
                "features.parquet", entries, "out.parquet", base_dir=folder, **options
            )

        if isinstance(expected, oracle.Refused):
            with pytest.raises(errors.MaterializeError) as caught:
                run()
            assert caught.value.code in expected.kind.split(",")
            assert not (Path(folder) / "out.parquet").exists()
            return
        audit = run()
        assert_rows(pm.scan_table(Path(folder) / "out.parquet").collect(), expected)
    assert audit.feature_key_column == column
    for name, value in expected.audit.items():
        found = getattr(audit, name)
        if name == "keys":
            assert {count: getattr(found, count) for count in value} == value
        else:
            assert found == value, name
    read = label_oracle.read(files, options["key_normalize"])
    assert {source.path: source.scale for source in audit.label_sources} == read.scales
    assert audit.keys.labels.rows == read.rows
    assert audit.keys.labels.rows_without_key == read.without_key
    assert audit.keys.labels.distinct_values == len(read.texts)
    assert audit.keys.labels.distinct_keys == len(read.by_key)


# --- real corpora -------------------------------------------------------------------------------------


def test_konvid_by_flickr_id_and_by_dover_labels(shared):
    folder = shared / "data" / "konvid_1k"
    features = pm.scan_table(folder / "videval_features.csv")
    own = pm.scan_labels(folder / "metadata.csv", label_key_column="flickr_id")
    dover = pm.scan_labels(
        pm.LabelFile(
            str(folder / "dover_labels.txt"),
            columns=["path", "duration", "fps", "mos"],
            key_regex=r"(\d+)\.mp4$",
        )
    )

    first = pm.join_labels(features, own, feature_key_column="flickr_id").collect()
    second = pm.join_labels(features, dover, feature_key_column="flickr_id").collect()

    assert first.height == second.height == 1200
    assert first["mos"].null_count() == second["mos"].null_count() == 0
    # DOVER's file holds the scores of the corpus with two decimals.
    assert first["mos"].round(2).to_list() == pytest.approx(second["mos"].to_list(), abs=0.0101)


def test_live_vqc_by_basename_and_by_regex(shared, tmp_path):
    folder = shared / "data" / "live_vqc"
    features = folder / "videval_features.csv"
    labels = pm.LabelFile(str(folder / "dover_labels.txt"), columns=["path", "duration", "fps", "mos"])
    pattern = r"^([A-Z]\d{3})(?:NEW)?\.mp4$"

    by_name = pm.materialize_labels(features, labels, tmp_path / "name.parquet", feature_key_column="File")
    by_regex = pm.materialize_labels(
        features,
        labels,
        tmp_path / "regex.parquet",
        feature_key_column="File",
        feature_key_regex=pattern,
        label_key_regex=pattern,
    )

    assert (by_name.matched_feature_keys, by_name.total_feature_keys) == (576, 585)
    assert (by_regex.matched_feature_keys, by_regex.total_feature_keys) == (585, 585)
    assert by_name.label_scale == by_regex.label_scale == "0:100"
    assert by_regex.keys.distinct_values == by_regex.keys.distinct_keys == 585


def test_live_vqc_folded_by_a_regex_shows_in_the_audit(shared, tmp_path):
    folder = shared / "data" / "live_vqc"
    with pytest.raises(errors.DuplicateKeyError, match=r"A\d{3}"):
        pm.materialize_labels(
            folder / "videval_features.csv",
            folder / "metadata.csv",
            tmp_path / "out.parquet",
            feature_key_column="File",
            label_key_column="File",
            feature_key_regex=r"(A\d{3})",
            label_key_regex=r"([A-Z])\d{3}",
        )


def test_chug_by_video(shared, tmp_path):
    table = shared / "data" / "chug" / "chug.csv"
    pm.sink_table(pm.scan_table(table).select("Video", "width"), tmp_path / "features.parquet")

    audit = pm.materialize_labels(
        tmp_path / "features.parquet",
        table,
        tmp_path / "out.parquet",
        feature_key_column="Video",
        label_key_column="Video",
        label_mos_column="mos_j",
    )

    assert (audit.matched_rows, audit.missing_rows, audit.labels_loaded) == (5992, 0, 5992)
    assert audit.label_scale == "0:100"
