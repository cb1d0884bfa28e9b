"""Every hint that a join gives is followed, and what is joined then is looked at.

A case is a run that is refused or warns, what its message suggests, and the scores or labels that rows have
when it is done as suggested. The last test finds hints in the source that no case has.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize import errors

PACKAGE = Path(pm.__file__).parent
MODULES = (
    "errors folding guards hints joins keys label_files label_joins labels names score_joins scores "
    "sidecar_rows sidecars"
)
HINT = re.compile(
    r"\bsay\b|says how|name it|would match|duplicates: last|overwrite|label one|did you mean|rename|no label$"
    r"|allow_folding|other side are|spelled|leading zeros|LABEL="
)
"""How hints are worded."""


@dataclass(frozen=True)
class Case:
    """A run, its message, and what comes of following it.

    Attributes:
        features: The feature table.
        files: The evidence: content by file name.
        entries: How the evidence is named.
        hint: What the message suggests.
        then: What is done then: other options, or other `entries` or `features`.
        gives: What the rows get.
        options: The options of the run.
    """

    features: dict[str, list[Any]]
    files: dict[str, list[dict[str, Any]]]
    entries: list[Any]
    hint: str
    then: dict[str, Any]
    gives: list[float | None]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def column(self) -> str:
        """The column that the rows get."""
        return "mos" if any(name.startswith("l.") for name in self.files) else "second_opinion_m_score"

    def run(self, **changed: Any) -> list[float | None]:
        """Run it in the current folder; give what the rows get."""
        for name, rows in self.files.items():
            Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = {**self.options, **changed}
        pl.DataFrame(options.pop("features", self.features)).write_parquet("f.parquet")
        entries = options.pop("entries", self.entries)
        run = pm.materialize_labels if self.column == "mos" else pm.materialize_scores
        run("f.parquet", entries, "o.parquet", **options)
        return pl.read_parquet("o.parquet")[self.column].to_list()

    def message(self) -> str:
        """What the run says as it is."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                self.run()
            except errors.MaterializeError as error:
                return str(error)
        return "; ".join(str(one.message) for one in caught)


def scores(*keys: str, name: str = "clip_id") -> list[dict[str, Any]]:
    """Rows of a sidecar: the first key has the score 1, the second 2, and so on."""
    return [{name: key, "score": score} for score, key in enumerate(keys, start=1)]


def labels(*keys: str, name: str = "clip_id") -> list[dict[str, Any]]:
    """Rows of a label file, likewise."""
    return [{name: key, "mos": score} for score, key in enumerate(keys, start=1)]


M = ["m=s.jsonl"]
STRICT = {"missing_policy": "fail"}
CASES = {
    "no-row-stem": Case(
        {"clip_id": ["a.mp4", "b.mp4"]},
        {"s.jsonl": scores("b", "a")},
        M,
        "by key_normalize 'stem' 2 of 2 keys would match",
        {"key_normalize": "stem"},
        [2.0, 1.0],
    ),
    "few-basename": Case(
        {"clip_id": ["a", "x/b", "x/c"]},
        {"s.jsonl": scores("a", "b")},
        M,
        "by key_normalize 'basename' 2 of 3 keys would match",
        {"key_normalize": "basename"},
        [1.0, 2.0, None],
    ),
    "few-expected": Case(
        {"clip_id": ["a", "b", "c"]},
        {"s.jsonl": scores("a")},
        M,
        "min_match_rate says how many to expect",
        {"min_match_rate": 0.3},
        [1.0, None, None],
    ),
    "fail-stem": Case(
        {"clip_id": ["x/a.mp4"]},
        {"s.jsonl": scores("a.mkv")},
        M,
        "by key_normalize 'stem' 1 of 1 key would match",
        {"key_normalize": "stem"},
        [1.0],
        STRICT,
    ),
    "drop-stem": Case(
        {"clip_id": ["a.mp4", "b.mp4"]},
        {"s.jsonl": scores("b")},
        M,
        "by key_normalize 'stem' 1 of 2 keys would match",
        {"key_normalize": "stem"},
        [1.0],
        {"missing_policy": "drop"},
    ),
    "rate-basename": Case(
        {"clip_id": ["x/a", "b"]},
        {"s.jsonl": scores("a", "b")},
        M,
        "by key_normalize 'basename' 2 of 2 keys would match",
        {"key_normalize": "basename"},
        [1.0, 2.0],
        {"min_match_rate": 1},
    ),
    "auto-for-raw": Case(
        {"path": ["d/a/1", "d/2"]},
        {"s.jsonl": scores("2", "1")},
        M,
        "by key_normalize 'basename' 2 of 2 keys would match",
        {"key_normalize": "basename"},
        [2.0, 1.0],
        {"key_normalize": "raw"},
    ),
    "raw-keeps-apart": Case(
        {"path": ["A/x", "B/x"]},
        {"s.jsonl": scores("B/x")},
        M,
        "by key_normalize 'raw' 1 of 2 keys would match",
        {"key_normalize": "raw"},
        [None, 1.0],
    ),
    "raw-keeps-both-sides-apart": Case(
        {"path": ["A/x", "B/x"]},
        {"s.jsonl": scores("B/x", name="path")},
        M,
        "by key_normalize 'raw' 1 of 2 keys would match",
        {"key_normalize": "raw"},
        [None, 1.0],
    ),
    "folding-is-meant": Case(
        {"path": ["./x", "x"]},
        {"s.jsonl": scores("x")},
        M,
        "allow_folding if they are one clip",
        {"allow_folding": True},
        [1.0, 1.0],
    ),
    "lower-case": Case(
        {"clip_id": ["Clip_A", "clip_b"]},
        {"s.jsonl": scores("clip_a", "CLIP_B")},
        M,
        "if they were spelled in lower case 2 of 2 keys would match",
        {"features": {"clip_id": ["clip_a", "clip_b"]}, "entries": ["m=lower.jsonl"]},
        [1.0, 2.0],
    ),
    "zeros": Case(
        {"clip_id": ["007", "12"]},
        {"s.jsonl": scores("7", "0012")},
        M,
        "if they had no leading zeros 2 of 2 keys would match",
        {
            "features": {"clip_id": ["7", "12"]},
            "entries": [pm.Sidecar("s.jsonl", label="m", key_regex=r"^0*(\d+)$")],
        },
        [1.0, 2.0],
    ),
    "rerun": Case(
        {"clip_id": ["a"]},
        {"s.jsonl": scores("a", "a")},
        M,
        "say duplicates: last",
        {"entries": [pm.Sidecar("s.jsonl", label="m", duplicates="last")]},
        [2.0],
    ),
    "no-scorer": Case(
        {"clip_id": ["a"]},
        {"s.jsonl": scores("a")},
        ["s.jsonl"],
        "expected LABEL=path",
        {"entries": M},
        [1.0],
    ),
    "no-key-field": Case(
        {"clip_id": ["a", "b"]},
        {"s.jsonl": scores("b", "a", name="shot")},
        M,
        "name it with key_field",
        {"entries": [pm.Sidecar("s.jsonl", label="m", key_field="shot")]},
        [2.0, 1.0],
    ),
    "no-score-field": Case(
        {"clip_id": ["a"]},
        {"s.jsonl": [{"clip_id": "a", "points": 3}]},
        M,
        "name it with score_field",
        {"entries": [pm.Sidecar("s.jsonl", label="m", score_field="points")]},
        [3.0],
    ),
    "score-field-typo": Case(
        {"clip_id": ["a"]},
        {"s.jsonl": [{"clip_id": "a", "points": 3}]},
        M,
        "did you mean 'points'?",
        {"score_field": "points"},
        [3.0],
        {"score_field": "pionts"},
    ),
    "another-name": Case(
        {"clip_id": ["a"]},
        {"s.jsonl": [{"clip_id": "a", "score": 3, "competitor": "m"}]},
        ["n=s.jsonl"],
        "expected the same name, or no label",
        {"entries": ["s.jsonl"]},
        [3.0],
    ),
    "one-slug": Case(
        {"clip_id": ["a"]},
        {"s.jsonl": scores("a"), "t.jsonl": scores("a")},
        ["m=s.jsonl", "M!=t.jsonl"],
        "label one of them otherwise",
        {"entries": ["m=s.jsonl", "n=t.jsonl"]},
        [1.0],
    ),
    "no-plain-scale": Case(
        {"clip_id": ["a", "b"]},
        {"l.jsonl": labels("a", *"cdefgh", "b")},
        ["l.jsonl"],
        "say it with label_scale LOW:HIGH, or `scale` of the entry",
        {"label_scale": "1:8"},
        [1.0, 5.0],
    ),
    "no-plain-scale-of-an-entry": Case(
        {"clip_id": ["a", "b"]},
        {"l.jsonl": labels("a", *"cdefgh", "b")},
        ["l.jsonl"],
        "say it with label_scale LOW:HIGH, or `scale` of the entry",
        {"entries": [pm.LabelFile("l.jsonl", scale="1:8")]},
        [1.0, 5.0],
    ),
    "no-mos-column": Case(
        {"clip_id": ["a"]},
        {"l.jsonl": [{"clip_id": "a", "points": 3}]},
        ["l.jsonl"],
        "name it with label_mos_column",
        {"label_mos_column": "points", "label_scale": "1:5"},
        [3.0],
    ),
    "key-column": Case(
        {"stim": ["x", "y"], "frame": [1, 2], "no": ["1", "2"]},
        {"s.jsonl": scores("x", "1", "y")},
        M,
        "name it with key_column; keys of the other side are in 'stim' (2 of its first 2 keys), 'no' (1 of",
        {"key_column": "stim"},
        [1.0, 3.0],
    ),
    "key-column-typo": Case(
        {"clip_id": ["a"], "other": ["b"]},
        {"s.jsonl": scores("a")},
        M,
        "did you mean 'clip_id'?",
        {"key_column": "clip_id"},
        [1.0],
        {"key_column": "clip_idd"},
    ),
    "label-key-column": Case(
        {"clip_id": ["a", "b"]},
        {"l.jsonl": [{"shot": "b", "mos": 1.5}, {"shot": "a", "mos": 4.5}]},
        ["l.jsonl"],
        "name it with label_key_column",
        {"label_key_column": "shot"},
        [4.5, 1.5],
    ),
    "feature-key-column": Case(
        {"stim": ["x/a", "x/b"]},
        {"l.jsonl": labels("b", "a")},
        ["l.jsonl"],
        "name it with feature_key_column; keys of the other side are in 'stim' (2 of its first 2 keys)",
        {"feature_key_column": "stim"},
        [2.0, 1.0],
        {"key_normalize": "basename"},
    ),
    "columns-that-exist": Case(
        {"clip_id": ["a"], "second_opinion_m_score": [9.0]},
        {"s.jsonl": scores("a")},
        M,
        "expected none of them, or overwrite",
        {"overwrite": True},
        [1.0],
    ),
    "patterns": Case(
        {"clip_id": ["a"], "^v$": [9.0]},
        {"s.jsonl": scores("a")},
        M,
        "rename them",
        {"features": {"clip_id": ["a"], "v": [9.0]}},
        [1.0],
    ),
    "labels-stem": Case(
        {"clip_id": ["a.mp4", "b.mp4"]},
        {"l.jsonl": labels("b", "a")},
        ["l.jsonl"],
        "by key_normalize 'stem' 2 of 2 keys would match",
        {"key_normalize": "stem"},
        [2.0, 1.0],
    ),
    "labels-none": Case(
        {"clip_id": ["in/a.mp4"]},
        {"l.jsonl": labels("./in/a.mp4", "z")},
        ["l.jsonl"],
        "by key_normalize 'basename' 1 of 1 key would match",
        {"key_normalize": "basename"},
        [1.0],
        {"min_match_rate": 0},
    ),
    "format-of-another-key": Case(
        {"clip_id": ["a"]},
        {"l.jsonl": labels("a")},
        [pm.LabelFile("l.jsonl", format="konvid-1k")],
        "which the format 'konvid-1k' expects; it has 'clip_id', 'mos'; say another format, or the key "
        "with key_column",
        {"entries": [pm.LabelFile("l.jsonl", format="konvid-1k", key_column="clip_id")]},
        [1.0],
    ),
    "format-of-another-score": Case(
        {"clip_id": ["1"]},
        {"l.jsonl": [{"flickr_id": "1", "j": 3}]},
        [pm.LabelFile("l.jsonl", format="konvid-1k")],
        "which the format 'konvid-1k' expects; it has 'flickr_id', 'j'; say another format, or the score "
        "with mos_column",
        {"entries": [pm.LabelFile("l.jsonl", format="konvid-1k", mos_column="j")]},
        [3.0],
    ),
    "labels-folding-is-meant": Case(
        {"clip_id": ["x"]},
        {"l.jsonl": [{"clip_id": "x", "mos": 3}, {"clip_id": "./x", "mos": 3}]},
        ["l.jsonl"],
        "allow_folding if they are one clip",
        {"allow_folding": True},
        [3.0],
        {"key_normalize": "basename"},
    ),
}
WITHOUT = {
    "half-scored": Case(
        {"clip_id": ["A/x", "B/x"]}, {"s.jsonl": scores("A/x.mp4")}, M, "would match", {}, [None, None]
    ),
    "stranger": Case({"clip_id": ["B/x"]}, {"s.jsonl": scores("A/x.mp4")}, M, "would match", {}, [None]),
    "two-folders": Case(
        {"clip_id": ["a/x.mp4", "b/x.mp4"]},
        {"s.jsonl": scores("./in/a/x.mp4", "./in/b/x.mp4")},
        M,
        "would match",
        {},
        [None, None],
        {"key_normalize": "raw"},
    ),
    "two-folders-by-basename": Case(
        {"clip_id": ["a/x.mp4", "b/x.mp4"]},
        {"s.jsonl": scores("./in/a/x.mp4", "./in/b/x.mp4")},
        M,
        "duplicates: last",
        {"entries": [pm.Sidecar("s.jsonl", label="m", duplicates="last")]},
        [],
        {"key_normalize": "basename"},
    ),
    "two-metrics": Case(
        {"clip_id": ["clip"]},
        {"d/clip.cvqa-fr.json": [{"score": 1}], "d/clip.cvqa-frMS.json": [{"score": 2}]},
        [pm.Sidecar("d", label="m", key_field="@filename", key_regex=r"^[^.]*")],
        "duplicates: last",
        {
            "entries": [
                pm.Sidecar("d", label="m", key_field="@filename", key_regex=r"^[^.]*", duplicates="last")
            ]
        },
        [],
    ),
    "labels-of-strangers": Case(
        {"clip_id": ["A/x", "B/x"]}, {"l.jsonl": labels("A/x.mp4")}, ["l.jsonl"], "would match", {}, []
    ),
}
"""Runs whose message must not suggest something: it would give clips what is not theirs."""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    lower = [{"clip_id": "clip_a", "score": 1}, {"clip_id": "clip_b", "score": 2}]
    (tmp_path / "lower.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lower))


@pytest.mark.parametrize("name", CASES)
def test_a_hint_that_is_followed_gives_each_clip_its_own(name):
    case = CASES[name]

    assert case.hint in case.message()
    assert case.run(**case.then) == case.gives


@pytest.mark.parametrize("name", WITHOUT)
def test_nothing_is_suggested_that_gives_a_clip_what_is_not_its_own(name):
    case = WITHOUT[name]

    assert case.message()
    assert case.hint not in case.message()
    if case.gives:
        assert case.run() == case.gives
    else:  # also who does so nevertheless is refused
        with pytest.raises(errors.MaterializeError) as refused:
            case.run(**case.then)
        assert refused.value.code in ("duplicate-key", "folding", "match-rate")


def test_every_hint_in_the_source_is_followed():
    messages = [case.message() for case in CASES.values()]
    found = []
    for module in MODULES.split():
        tree = ast.parse((PACKAGE / f"{module}.py").read_text())
        statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [
            node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in statements
        ]
        found += [text.value for text in texts if isinstance(text.value, str) and HINT.search(text.value)]

    assert len(found) > 8
    assert [text for text in found if not any(text.strip() in message for message in messages)] == []
