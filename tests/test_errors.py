"""Errors: one family, one line, a stable code, fields that a program can use, whole after a pickle."""

from __future__ import annotations

import pickle

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import errors

FRAME = pl.DataFrame({"scorer": ["m"], "key": ["a"], "rows": [3]})
EXAMPLES = [
    errors.MaterializeError("what is wrong", place="here"),
    errors.OptionError("prefix: blank", option="prefix"),
    errors.ManifestError("m.json", "unknown name", place="$.tables[1]"),
    errors.TableError("x.jsonl", "not a JSON object", line=17),
    errors.TableError("x.parquet", "no such file"),
    errors.OutputError("out.csv: no", path="out.csv", columns=["a"]),
    errors.InputChangedError.of("x.jsonl"),
    errors.KeyColumnError("no key column", columns=["a"], tried=["key"]),
    errors.FoldingError("folds", column="path", offenders=FRAME),
    errors.SidecarError([("x.jsonl:1", "no key"), ("x.jsonl:2", "no score")], 14),
    errors.ScorerNameError("no slug", label="!"),
    errors.DuplicateKeyError("twice", offenders=FRAME),
    errors.ColumnExistsError("taken", columns=["a"]),
    errors.MissingScoreError("3 rows without a score", FRAME),
    errors.BadScoreError("3 rows with a bad score", FRAME),
]
each_example = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


def kinds(base=errors.MaterializeError):
    return [base, *(kind for child in base.__subclasses__() for kind in kinds(child))]


def assert_same_values(left, right):
    assert list(left) == list(right)
    for name, value in left.items():
        if isinstance(value, pl.DataFrame):
            assert_frame_equal(value, right[name])
        else:
            assert value == right[name]


def own_attributes(error):
    return {name: value for name, value in vars(error).items() if name != "fields"}


@each_example
def test_pickle_keeps_everything(error):
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.code == error.code
    assert_same_values(error.fields, again.fields)
    assert_same_values(own_attributes(error), own_attributes(again))


@each_example
def test_a_pickled_error_pickles_again(error):
    once = pickle.loads(pickle.dumps(error))

    twice = pickle.loads(pickle.dumps(once))

    assert (type(twice), str(twice)) == (type(error), str(error))


@each_example
def test_errors_are_value_errors_of_one_family(error):
    assert isinstance(error, ValueError)
    assert isinstance(error, pm.MaterializeError)


@each_example
def test_examples_are_one_line(error):
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\rb"])
def test_messages_are_one_line_whatever_they_quote(text):
    assert len(str(errors.MaterializeError(f"no file {text}")).splitlines()) == 1


def test_codes_tell_the_kinds_apart():
    codes = {kind: kind.code for kind in kinds() if kind.__doc__ and not kind.__subclasses__()}

    assert len(set(codes.values())) == len(codes)
    assert all(code == code.lower() and " " not in code for code in codes.values())


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.OptionError, "option"),
        (errors.ManifestError, "manifest"),
        (errors.TableError, "table"),
        (errors.OutputError, "output"),
        (errors.InputChangedError, "input-changed"),
        (errors.KeyColumnError, "key-column"),
        (errors.FoldingError, "folding"),
        (errors.SidecarError, "sidecar"),
        (errors.ScorerNameError, "scorer-name"),
        (errors.DuplicateKeyError, "duplicate-key"),
        (errors.ColumnExistsError, "column-exists"),
        (errors.MissingScoreError, "missing-score"),
        (errors.BadScoreError, "bad-score"),
    ],
)
def test_codes_are_stable(kind, code):
    assert kind.code == code


def test_table_errors_name_file_and_line():
    error = errors.TableError("x.jsonl", "not a JSON object", line=17)

    assert str(error) == "x.jsonl:17: not a JSON object"
    assert error.fields == {"path": "x.jsonl", "line": 17, "problem": "not a JSON object"}


def test_sidecar_errors_show_ten_and_count_all():
    problems = [(f"x.jsonl:{line}", "no key") for line in range(1, 26)]

    error = errors.SidecarError(problems, 25)

    assert "25" in str(error)
    assert "x.jsonl:10" in str(error)
    assert "x.jsonl:11" not in str(error)
    assert "15 more" in str(error)


def test_fields_of_real_errors():
    frame = pl.DataFrame({"path": ["x/a", "y/a"], "second_opinion_m_score": [1, 2]})
    scores = pl.DataFrame({"scorer": "m", "key": ["a"], "score": [1.0]})

    with pytest.raises(errors.ColumnExistsError) as exists:
        pm.join_scores(frame, scores)
    with pytest.raises(errors.FoldingError) as folding:
        pm.join_scores(frame, scores, overwrite=True)
    with pytest.raises(errors.KeyColumnError) as column:
        pm.join_scores(frame, scores, key_column="pth")

    assert exists.value.fields["columns"] == ["second_opinion_m_score"]
    assert folding.value.fields["column"] == "path"
    assert folding.value.fields["offenders"].height == 1
    assert column.value.fields["columns"] == frame.columns
    assert "did you mean 'path'" in str(column.value)


def test_real_errors_survive_a_pickle():
    frame = pl.LazyFrame({"clip_id": ["a", "b"]})
    scores = pl.DataFrame({"scorer": "m", "key": ["a"], "score": [1.0]})
    plan = pm.join_scores(frame, scores, missing_policy="fail")

    with pytest.raises(errors.MissingScoreError) as caught:
        plan.collect()
    again = pickle.loads(pickle.dumps(caught.value))

    assert str(again) == str(caught.value)
    assert_frame_equal(again.offenders, caught.value.offenders)


@pytest.mark.parametrize(
    ("items", "options", "text"),
    [
        ([], {}, ""),
        (["a"], {}, "'a'"),
        (["a", "b"], {"limit": 2}, "'a', 'b'"),
        (range(12), {}, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
        (["a"], {"total": 5000}, "'a' and 4,999 more"),
    ],
)
def test_listing(items, options, text):
    assert errors.listing(items, **options) == text


def test_did_you_mean():
    assert "'missing_policy'" in errors.did_you_mean("missing_polcy", ["prefix", "missing_policy"])
    assert errors.did_you_mean("zzz", ["prefix"]) == ""


@pytest.mark.parametrize(("word", "near"), [("Clip_ID", "clip_id"), ("CLIP", "Clip"), ("MOS", None)])
def test_a_name_in_another_case_is_what_is_meant(word, near):
    assert errors.did_you_mean(word, ["clip_id", "Clip"]) == (f"; did you mean {near!r}?" if near else "")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_csv_with_other_separators_is_told_so(mark, tmp_path):
    (tmp_path / "a.csv").write_text(f"clip_id{mark}mos\na{mark}3\n")
    (tmp_path / "b.csv").write_text(f"clip_id{mark}mos\na{mark}3,5\n")
    frame = pl.DataFrame({"clip_id": ["a"]})

    said = f"separated by {mark!r}"
    with pytest.raises(errors.TableError) as ragged:
        pm.scan_table(tmp_path / "b.csv").collect()
    assert "b.csv:2: expected 1 cell, found 2; are its cells" in str(ragged.value)
    assert said in str(ragged.value)
    for key in (None, "clip_id"):
        with pytest.raises(errors.KeyColumnError) as caught:
            pm.join_labels(frame, pm.scan_labels(tmp_path / "a.csv", label_key_column=key))
        assert said in str(caught.value)


def test_an_entry_of_another_kind_and_a_tuple_are_called_what_they_are():
    with pytest.raises(errors.OptionError, match=r"^scale: a tuple; expected text, or None$"):
        pm.LabelFile("m.csv", scale=(1, 5))
    with pytest.raises(errors.OptionError, match=r"^labels: a Sidecar; expected [^;]*$"):
        pm.scan_labels(pm.Sidecar("m.csv"))
