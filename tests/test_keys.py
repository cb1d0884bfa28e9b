"""Keys: which column holds them, and how its values become text that two tables share."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import oracle
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polars_materialize import errors, folding, keys

SUFFIXES = sorted(oracle.MEDIA)


def texts(values, dtype=None):
    series = pl.Series("id", values, dtype=dtype)
    text = keys.key_text(pl.col("id"), series.dtype, name="id", table="features.csv")
    return pl.DataFrame(series).select(key=text).to_series().to_list()


def normalized(values, rule):
    frame = pl.DataFrame({"id": values}, schema={"id": pl.String})
    return frame.select(key=keys.normalize_key(pl.col("id"), rule)).to_series().to_list()


def extracted(values, pattern):
    frame = pl.DataFrame({"id": values}, schema={"id": pl.String})
    key = keys.extract_key(pl.col("id"), pattern, option="feature_key_regex")
    return frame.select(key=key).to_series().to_list()


def infer(columns, asked=None):
    return keys.infer_key_column(columns, keys.SCORE_KEYS, asked=asked, table="features.csv")


# --- inference ----------------------------------------------------------------------------------------


def test_score_candidates_are_the_published_ones():
    assert list(keys.SCORE_KEYS) == oracle.SCORE_KEYS


@pytest.mark.parametrize(("first", "second"), list(pairwise(oracle.SCORE_KEYS)))
def test_candidates_go_in_order(first, second):
    assert infer(["vmaf", second, first]) == first


@pytest.mark.parametrize("name", oracle.SCORE_KEYS)
def test_candidates_match_whatever_their_case(name):
    assert infer(["frame", name.title()]) == name.title()


def test_an_exact_spelling_goes_before_another_case():
    assert infer(["CLIP_ID", "clip_id"]) == "clip_id"


def test_of_two_other_spellings_the_first_column_is_taken():
    assert infer(["CLIP_ID", "Clip_Id", "clip_ID"]) == "CLIP_ID"


def test_a_better_candidate_wins_over_a_better_spelling():
    assert infer(["name", "Clip_ID"]) == "Clip_ID"


def test_the_named_column_wins():
    assert infer(["clip_id", "vmaf"], asked="vmaf") == "vmaf"


def test_no_candidate_lists_columns_and_what_was_tried():
    with pytest.raises(errors.KeyColumnError) as caught:
        infer(["frame", "vmaf"])

    text = str(caught.value)
    assert all(word in text for word in ("features.csv", "frame", "vmaf", *oracle.SCORE_KEYS))


def test_a_misnamed_column_lists_columns():
    with pytest.raises(errors.KeyColumnError) as caught:
        infer(["clip_id", "vmaf"], asked="clip_idd")

    assert all(word in str(caught.value) for word in ("clip_idd", "'clip_id'", "'vmaf'"))


@given(
    st.lists(st.sampled_from([*oracle.SCORE_KEYS, "Clip_ID", "PATH", "NAME", "vmaf", "frame"]), unique=True)
)
def test_inference_as_the_second_opinion(columns):
    expected = oracle.infer_key_column(columns)

    if expected is None:
        with pytest.raises(errors.KeyColumnError, match="no key column"):
            infer(columns)
    else:
        assert infer(columns) == expected


# --- text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (pl.Int8, -128),
        (pl.Int64, 2**63 - 1),
        (pl.UInt64, 2**64 - 1),
        (pl.UInt32, 0),
        (pl.Int128, 2**100),
    ],
)
def test_integers_print_as_digits(dtype, value):
    assert texts([value, None], dtype) == [str(value), None]


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_whole_floats_print_as_integers(dtype):
    assert texts([12345.0, -3.0, 0.0, -0.0], dtype) == ["12345", "-3", "0", "0"]


@pytest.mark.parametrize("value", [2.0**53, -(2.0**62), 2.0**63, 1e20])
def test_large_whole_floats_print_as_integers(value):
    assert texts([value]) == [str(int(value))]


@pytest.mark.parametrize(("dtype", "value"), [(pl.Float64, 0.5), (pl.Float64, -1.1), (pl.Float32, 0.1)])
def test_other_floats_print_as_they_are_written(dtype, value):
    assert texts([value], dtype) == [str(value)]


@pytest.mark.parametrize("scale", [0, 1, 2, 10])
def test_decimals_are_called_as_other_numbers_are(scale):
    dtype = pl.Decimal(38, scale)
    numbers = {"12345": "12345", "0": "0", "-7": "-7", "100": "100"}
    numbers |= {"0.5": "0.5", "-12.5": "-12.5", "1000.5": "1000.5"} if scale else {}
    numbers |= {"0.05": "0.05", "10.25": "10.25"} if scale > 1 else {}

    found = texts([*map(Decimal, numbers), None], dtype)

    assert found == [*numbers.values(), None]
    assert found[:-1] == texts([float(number) for number in numbers])


@given(st.lists(st.one_of(st.none(), st.decimals(-(10**12), 10**12, places=3)), max_size=20))
def test_decimals_as_the_second_opinion(values):
    assert texts(values, pl.Decimal(38, 3)) == [oracle.key_text(value) for value in values]


def test_text_is_composed_and_trimmed():
    assert texts(["cafe\u0301", "  a b\t", "\u00a0a\n"]) == ["caf\u00e9", "a b", "a"]


def test_text_of_a_whole_number_is_left_alone():
    assert texts(["12345.0", "007"]) == ["12345.0", "007"]


@pytest.mark.parametrize("values", [[None], [""], [" \t"], ["\u3000"], [float("nan")]])
def test_no_key(values):
    assert texts(values) == [None]


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["a ", " "])])
def test_dictionaries_are_text(dtype):
    assert texts(["a ", " ", None], dtype) == ["a", None, None]


def test_a_column_of_nulls_has_no_keys():
    assert texts([None, None], pl.Null) == [None, None]


@pytest.mark.parametrize(
    "dtype", [pl.Boolean, pl.Date, pl.List(pl.String), pl.Struct({"x": pl.Int8}), pl.Binary]
)
def test_other_types_cannot_name_a_clip(dtype):
    with pytest.raises(errors.KeyColumnError, match=r"features\.csv.*'id'"):
        texts([None], dtype)


WORDS = st.text(st.sampled_from(list("aAbZ09._-/\\ \t\u00e9e\u0301\ud55c\u4e2d#\u00a0")), max_size=12)


@given(st.lists(st.one_of(WORDS, st.none()), max_size=20))
def test_text_as_the_second_opinion(values):
    assert texts(values, pl.String) == [oracle.key_text(value) for value in values]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**53), 2**53).map(float), st.sampled_from([0.5, -2.25]))))
def test_floats_as_the_second_opinion(values):
    values = [*values, float("nan")]

    assert texts(values, pl.Float64) == [oracle.key_text(value) for value in values]


# --- normalisation ------------------------------------------------------------------------------------


def test_rules_are_the_published_ones():
    assert set(keys.KEY_NORMALIZE) == {"auto", "raw", "basename", "stem"}


@pytest.mark.parametrize(
    ("column", "rule"),
    [
        ("path", "basename"),
        ("distorted_path", "basename"),
        ("File", "basename"),
        ("video_name", "basename"),
        ("SRC", "basename"),
        ("basename", "basename"),
        ("clip_id", "raw"),
        ("key", "raw"),
        ("flickr_id", "raw"),
    ],
)
def test_auto_goes_by_the_name_of_the_column(column, rule):
    assert keys.resolve_normalize("auto", column) == rule


@pytest.mark.parametrize("rule", ["raw", "basename", "stem"])
def test_explicit_rules_do_not_look_at_the_name(rule):
    assert keys.resolve_normalize(rule, "path") == rule
    assert keys.resolve_normalize(rule, "id") == rule


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("a/b/c.mp4", "c.mp4"),
        ("C:\\clips\\c.mp4", "c.mp4"),
        ("a\\b/c", "c"),
        ("a/b\\c", "c"),
        ("dir/", "dir"),
        ("dir/\\//", "dir"),
        ("c.mp4", "c.mp4"),
        ("/", None),
        ("\\\\", None),
        ("a/ /", None),
        ("two\nlines/c", "c"),
    ],
)
def test_basename(text, base):
    assert normalized([text], "basename") == [base]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_stem_takes_off_every_known_suffix(suffix):
    names = [f"dir/clip.v2.{suffix}", f"clip.v2.{suffix.upper()}"]

    assert normalized(names, "stem") == ["clip.v2", "clip.v2"]


@pytest.mark.parametrize(
    "name", ["360p_0.2M_", "t_20.0", "x_59.94fps_h264", "clip.json", "clip.mp4x", "clip.xmp4", "mp4", "a.b.c"]
)
def test_stem_keeps_other_dots(name):
    assert normalized([name], "stem") == [name]


def test_stem_takes_off_one_suffix():
    assert normalized(["clip.yuv.mp4", "clip.mp4.mp4"], "stem") == ["clip.yuv", "clip.mp4"]


def test_stem_of_a_name_with_a_newline():
    assert normalized(["two\nlines.mp4"], "stem") == ["two\nlines"]


def test_raw_is_left_alone():
    assert normalized(["a/b.mp4/", " x ", None], "raw") == ["a/b.mp4/", " x ", None]


PATHS = st.lists(
    st.one_of(
        st.sampled_from(["/", "\\", " ", ".", "a", "B.b", "\u00e9"]),
        st.sampled_from(SUFFIXES).map(".{}".format),
    ),
    max_size=6,
).map("".join)


@given(
    st.lists(st.one_of(PATHS, WORDS, st.none()), max_size=20), st.sampled_from(["raw", "basename", "stem"])
)
def test_normalisation_as_the_second_opinion(values, rule):
    assert normalized(texts(values, pl.String), rule) == [
        oracle.normalize(oracle.key_text(value), rule) for value in values
    ]


# --- regex --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"\d+", ["12", None, None]),
        (r"(\d+)-(\w)", ["12", None, None]),
        (r"x(?:\d+)-", ["x12-", None, None]),
        (r"(?P<id>\d)", ["1", None, None]),
        (r"^(.)", ["x", "n", None]),
        (r"(\d*)", [None, None, None]),
        (r"(?i)N(O)", [None, "o", None]),
    ],
)
def test_first_match_and_first_group(pattern, expected):
    assert extracted(["x12-a34", "none", None], pattern) == expected


def test_without_a_regex_keys_stay():
    assert extracted(["a", None], None) == ["a", None]


@pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", r"(?=a)b", r"(?<!a)b", r"(a)\1", r"\p{nonsense}"])
def test_patterns_that_rust_does_not_take_are_refused(pattern):
    with pytest.raises(errors.OptionError, match="feature_key_regex") as caught:
        keys.check_regex(pattern, option="feature_key_regex")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "group"), [("a", 0), ("(a)", 1), ("(?:a)", 0), ("(a)(b)", 1), (r"\(a\)", 0)]
)
def test_which_group(pattern, group):
    assert keys.check_regex(pattern, option="regex") == group


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "",
            " ",
            "^",
            "$",
            "^$",
            r"\b",
            r"\B",
            r"\A\z",
            "()",
            "(?:)",
            "(?i)",
            "(?i:)",
            "(?P<id>)",
            "(?<id>)",
        ),
        *("(|)", "^|$", "()*", "(?:^)+", "(){3}", "(){1,2}", r"\b{start}", "(?x) ^ $", "((()))", "|"),
    ],
)
def test_patterns_of_nothing_are_refused(pattern):
    assert extract_all(pattern, ["a b", "x", "12"]) <= {"", " ", None}

    with pytest.raises(errors.OptionError, match=r"^label_key_regex: .* matches empty text only") as caught:
        keys.check_regex(pattern, option="label_key_regex")

    assert caught.value.fields["option"] == "label_key_regex"


@pytest.mark.parametrize(
    "pattern", [".", "a*", "(a*)", r"\^", r"\\b", "[ab]", "(?i)a", r"\pL", r"\s+-", "^a|$", "b", r"\("]
)
def test_patterns_of_something_are_taken(pattern):
    assert keys.check_regex(pattern, option="regex") in (0, 1)


def extract_all(pattern, values):
    """All that Polars finds of a pattern in some values."""
    found = pl.Series(values).str.extract_all(pattern).explode(empty_as_null=True)
    return set(found.to_list())


# --- folding ------------------------------------------------------------------------------------------


def folded_of(*rows, by=()):
    """What is found of rows of text, key, and the columns of `by`."""
    frame = pl.DataFrame(rows, schema=dict.fromkeys(("text", "key", *by), pl.String), orient="row")
    found = folding.find_folded(frame, by)
    return found.rows(), folding.count_folded(found)


def test_keys_of_several_values_are_found_in_their_order():
    rows = [
        ("d/b", "b"),
        ("e/b", "b"),
        ("d/b", "b"),
        ("z", "a"),
        ("y", "a"),
        ("x", "a"),
        ("c", "c"),
        ("o", None),
    ]

    assert folded_of(*rows) == ([("a", ["x", "y", "z"]), ("b", ["d/b", "e/b"])], 5)


def test_values_without_a_key_do_not_fold():
    assert folded_of(("/", None), ("\\", None), ("a", "a")) == ([], 0)
    assert folded_of() == ([], 0)


def test_whole_numbers_with_a_point_are_the_same_value():
    rows = [("12345", "12345"), ("12345.0", "12345"), ("-7", "7"), ("7.00", "7")]

    assert folded_of(*rows) == ([("7", ["-7", "7"])], 2)


def test_values_of_one_rule_are_compared_with_each_other_only():
    rows = [
        ("d/a", "a", "path"),
        ("a", "a", "name"),
        ("d/b", "b", "path"),
        ("e/b", "b", "path"),
        ("b", "b", "name"),
    ]

    assert folded_of(*rows, by=["column"]) == ([("b", ["d/b", "e/b"])], 2)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["x", "y", "z", None])), max_size=12))
def test_folding_as_the_second_opinion(rows):
    assert folded_of(*rows)[1] == oracle.folded_values(rows)
