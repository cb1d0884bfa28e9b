"""The signal-mix audit: what it says of tables, as structs, files and on the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.cli import main
from polars_materialize.signal_mix.families import built_in
from polars_materialize.signal_mix.html import to_html

REPOSITORY = Path(pm.__file__).resolve().parents[1]
FIELDS = [
    "label",
    "path",
    "rows",
    "columns",
    "target",
    "numeric_columns",
    "signal_columns",
    "family_columns",
    "family_health",
    "column_stats",
    "target_correlations",
    "redundant_pairs",
    "intersections",
    "missing_families",
    "weak_families",
]


def features(rows=40):
    """A table with a signal of several families, one of them a copy of another, and with bookkeeping."""
    random = np.random.default_rng(0)
    quality, noise = random.normal(size=rows), random.normal(size=rows)
    return pl.DataFrame(
        {
            "clip_id": np.arange(rows),
            "psnr_y": quality + 0.5 * random.normal(size=rows),
            "noise_sigma": noise,
            "grain": noise * 2 + 1,
            "mos": quality + noise,
            "bitdepth": 8,
            "cambi": pl.Series([None] * rows, dtype=pl.Float64),
            "saliency_status": "ok",
            "codec": "h264",
        }
    )


def audit(frame, **options):
    return pm.audit_signals(frame, **options).tables[0]


# --- what an audit says -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.DataFrame.lazy], ids=["eager", "lazy"])
def test_an_audit(kind):
    table = audit(features().lazy().collect() if kind is pl.DataFrame else features().lazy())

    assert (table.target, table.rows, table.columns) == ("mos", 40, 9)
    assert table.signal_columns == ["psnr_y", "noise_sigma", "grain", "bitdepth", "cambi"]
    assert table.excluded_columns == {
        "clip_id": "identity",
        "mos": "target",
        "saliency_status": "bookkeeping",
        "codec": "not-numeric",
    }
    assert table.constant_columns == ["bitdepth"]
    assert table.warnings == ["constant, so without any correlation: 'bitdepth'"]
    assert table.covered_families == ["error_energy", "noise_grain_blur"]
    assert table.weak_families == [
        "banding_tone_mapping",
        "saliency_roi",
        "hdr_display_panel",
        "codec_encoder",
        "no_reference_ugc",
    ]
    assert table.family_health["no_reference_ugc"].matched_columns == ["mos"]
    assert table.family_health["no_reference_ugc"].numeric_columns == []
    assert [(pair.left, pair.right, pair.pearson, pair.n) for pair in table.redundant_pairs] == [
        ("noise_sigma", "grain", 1.0, 40)
    ]
    assert [group.columns for group in table.clusters] == [["grain", "noise_sigma"]]
    assert {(pair.left_family, pair.right_family) for pair in table.intersections} <= {
        ("error_energy", "noise_grain_blur"),
        ("noise_grain_blur", "error_energy"),
    }
    assert table.intersection_count == 2
    assert table.target_correlations[-1].pearson is None


def test_the_json_has_every_field_of_the_contract():
    report = json.loads(pm.audit_signals(features()).to_json())

    assert set(FIELDS) <= set(report["tables"][0])
    assert {"tables", "run_provenance"} <= set(report)
    assert set(report["tables"][0]["family_health"]["error_energy"]) >= {
        *("status", "matched_columns", "numeric_columns", "healthy_columns", "candidate_metrics"),
        "recommendation",
    }
    assert set(report["tables"][0]["target_correlations"][0]) == {
        "column",
        "family",
        "pearson",
        "spearman",
        "n",
    }
    assert set(report["tables"][0]["redundant_pairs"][0]) == {
        *("left", "right", "left_family", "right_family", "pearson", "n")
    }


@pytest.mark.parametrize(
    ("columns", "target"),
    [
        (["score", "dmos", "MOS", "mos_raw_0_100", "vmaf_score", "VMAF"], "VMAF"),
        (["score", "dmos", "MOS", "mos_raw_0_100", "vmaf_score"], "vmaf_score"),
        (["score", "dmos", "MOS", "mos_raw_0_100"], "mos_raw_0_100"),
        (["score", "dmos", "MOS"], "MOS"),
        (["score", "dmos"], "dmos"),
        (["score"], "score"),
        (["psnr"], None),
    ],
)
def test_the_target_is_the_first_known_name(columns, target):
    frame = pl.DataFrame({name: [1.0, 2, 4 + i, 3 + i * i] for i, name in enumerate([*columns, "vif"])})

    table = audit(frame)

    assert table.target == target
    metrics = [name for name in frame.columns if name in ("vmaf_score", "score", "vif", "psnr")]
    assert table.signal_columns == [name for name in metrics if name != target]
    assert [leak.column for leak in table.leakage_columns] == [
        name for name in frame.columns if name not in (*metrics, target)
    ]
    assert {row.column for row in table.target_correlations} == set(table.signal_columns if target else [])
    assert ("no target" in " ".join(table.warnings)) == (target is None)


def test_a_target_name_without_numbers_is_passed_over():
    table = audit(pl.DataFrame({"vmaf": ["a", "b"], "mos": [1, 2]}))

    assert table.target == "mos"
    assert "'vmaf'" in table.warnings[0]


def test_metrics_beside_opinions_are_signals():
    random = np.random.default_rng(8)
    mos = random.uniform(1, 5, 30)
    scores = {name: mos + random.normal(size=30) for name in ("vmaf", "vmaf_score", "vmaf_neg", "score")}

    table = audit(pl.DataFrame({"mos": mos, **scores}), target="mos")

    assert table.signal_columns == ["vmaf", "vmaf_score", "vmaf_neg", "score"]
    assert table.leakage_columns == []
    for row in table.target_correlations:
        assert row.pearson == pytest.approx(np.corrcoef(scores[row.column], mos)[0, 1], abs=1e-12)
    assert table.family_health["canonical_fr"].healthy_columns == ["vmaf", "vmaf_score", "vmaf_neg"]


def test_two_names_of_one_score_do_not_explain_each_other():
    vmaf = [90.0, 80.0, 85.0, 60.0]

    for target, copy in (("vmaf", "vmaf_score"), ("vmaf_score", "vmaf")):
        table = audit(pl.DataFrame({target: vmaf, copy: vmaf, "vmaf_p10": [1.0, 2, 3, 5]}), target=target)

        assert table.signal_columns == []
        assert [leak.column for leak in table.leakage_columns] == [copy, "vmaf_p10"]


def test_other_opinions_are_listed_with_their_r_and_are_no_signals():
    random = np.random.default_rng(9)
    mos = random.uniform(1, 5, 30)
    others = {
        name: mos + random.normal(size=30) * 0.1
        for name in (
            "MOSChunk00",
            "MOSChunk05",
            "stdFull",
            "dmos",
            "votes",
            "rating_3",
            "subject_07",
            "ci_low",
        )
    }
    frame = pl.DataFrame({"MOSFull": mos, **others, "raw_mos": ["1"] * 30, "psnr": random.normal(size=30)})

    table = audit(frame, target="MOSFull")

    assert table.signal_columns == ["psnr"]
    assert [leak.column for leak in table.leakage_columns] == list(others)
    assert table.excluded_columns["raw_mos"] == "not-numeric"
    for leak in table.leakage_columns:
        assert table.excluded_columns[leak.column] == "leakage"
        assert leak.n == 30
        assert leak.pearson == pytest.approx(np.corrcoef(others[leak.column], mos)[0, 1], abs=1e-12)
        assert leak.spearman == pytest.approx(
            np.corrcoef(frame[leak.column].rank(), frame["MOSFull"].rank())[0, 1], abs=1e-12
        )
    report = pm.audit_signals(frame, target="MOSFull")
    for page in (report.to_markdown(), Page(report.to_html()).text):
        assert f"{table.leakage_columns[3].pearson:.3f}" in page
        assert "ci_low" in page.split("Leakage")[1]
    assert table.family_health["no_reference_ugc"].status == "weak"
    assert any(warning.startswith("leakage: 8 columns are no signals") for warning in table.warnings)


def test_opinions_are_no_signals_without_a_target_either():
    table = audit(pl.DataFrame({"MOSFull": [1.0, 2, 4], "psnr": [1.0, 2, 3]}))

    assert (table.target, table.signal_columns) == (None, ["psnr"])
    assert [(leak.column, leak.pearson, leak.n) for leak in table.leakage_columns] == [("MOSFull", None, 0)]
    assert table.redundant_pairs == []


def test_a_second_opinion_whose_prefix_is_an_opinion_is_a_signal():
    frame = pl.DataFrame(
        {
            "mos_x_score": [1.0, 2, 4],
            "mos_x_status": "ok",
            "mos_x_runtime_ms": 1.0,
            "mos_x_frames": 1,
            "mos_x_source": "s",
        }
    )

    assert audit(frame).signal_columns == ["mos_x_score"]


def test_a_table_without_the_target_is_reported_without_one():
    report = pm.audit_signals({"before": features().drop("mos"), "after": features()}, target="mos")

    before, after = report.tables
    assert (before.target, before.target_correlations, before.intersections) == (None, [], [])
    assert before.warnings[0] == "no target column 'mos', so there is nothing to correlate with"
    assert after.target == "mos"
    assert before.signal_columns == after.signal_columns
    assert before.redundant_pairs == after.redundant_pairs
    assert "no target column 'mos'" in Page(report.to_html()).text
    assert "no target column 'mos'" in report.to_markdown()


def test_a_default_target_does_not_stand_in_for_one_that_was_asked_for():
    frames = {"a": features().with_columns(vmaf=pl.col("mos").sin()).drop("mos"), "b": features()}

    assert [table.target for table in pm.audit_signals(frames, target="mos").tables] == [None, "mos"]


def test_a_target_that_no_table_has_is_refused():
    with pytest.raises(errors.TableError) as caught:
        pm.audit_signals({"phone": features(), "tv": features().drop("psnr_y")}, target="mso")

    assert str(caught.value).startswith(
        "phone, tv: no target column 'mso'; did you mean 'mos'?; the columns are"
    )


@pytest.mark.parametrize(("target", "words"), [("mso", "did you mean 'mos'"), ("codec", "numeric columns")])
def test_a_target_that_cannot_be_is_refused_with_the_columns(target, words):
    with pytest.raises(errors.TableError) as caught:
        pm.audit_signals({"phone": features()}, target=target)

    assert words in str(caught.value)
    assert str(caught.value).startswith("phone: ")
    assert "'psnr_y'" in str(caught.value)


def test_columns_made_from_the_target_are_no_signals():
    random = np.random.default_rng(1)
    mos = random.uniform(1, 5, 50)
    frame = pl.DataFrame(
        {
            "mos": mos,
            "mos_raw_0_100": (mos - 1) * 25,
            "mos_std_dev": random.random(50),
            "rank_mos": np.log(mos),
            "dover_mos": mos + random.random(50),
            "copy": mos * 2,
        }
    )

    table = audit(frame, target="mos")

    assert table.signal_columns == ["dover_mos", "copy"]
    assert [leak.column for leak in table.leakage_columns] == ["mos_raw_0_100", "mos_std_dev", "rank_mos"]
    assert any(warning.startswith("leakage: 3 columns") for warning in table.warnings)
    assert any("straight line" in warning and "'copy'" in warning for warning in table.warnings)
    assert "mos_raw_0_100" not in [row.column for row in table.target_correlations]


def test_a_second_opinion_that_is_all_missing_is_weak():
    scores = pl.DataFrame({"scorer": "dover", "key": ["z"], "score": [1.0]})
    joined = pl.DataFrame({"clip_id": ["a", "b", "c"], "vmaf": [1.0, 2, 4]}).pipe(pm.join_scores, scores)

    table = audit(joined)

    assert table.family_health["no_reference_ugc"].status == "weak"
    assert table.signal_columns == ["second_opinion_dover_score"]


def test_bookkeeping_of_a_second_opinion_covers_nothing():
    frame = pl.DataFrame(
        {
            "nr_x_score": pl.Series([None] * 3, dtype=pl.Float64),
            "nr_x_status": ["bad"] * 3,
            "nr_x_runtime_ms": [1.0, 2.0, 3.0],
            "nr_x_frames": [1, 2, 3],
            "nr_x_source": ["s"] * 3,
            "mos_label_status": ["ok"] * 3,
        }
    )

    health = audit(frame).family_health["no_reference_ugc"]

    assert (health.status, health.numeric_columns) == ("weak", ["nr_x_score"])
    assert "nr_x_frames" in health.matched_columns


@pytest.mark.parametrize(
    ("values", "options", "status"),
    [
        ([1.0, 2, 3, 4, None], {}, "covered"),
        ([1.0, 2, 3, None, None], {}, "weak"),
        ([1.0, 2, 3, None, None], {"min_finite_ratio": 0.6}, "covered"),
        ([1.0, 2, 3, float("inf"), float("nan")], {}, "weak"),
        ([7.0] * 5, {}, "weak"),
        ([1.0, 1.0 + 1e-13, 1.0, 1.0, 1.0], {}, "weak"),
        ([1.0, 1.0 + 1e-13, 1.0, 1.0, 1.0], {"min_std": 0.0}, "covered"),
        ([True, False, True, True, True], {}, "covered"),
        (["1", "2", "3", "4", "5"], {}, "weak"),
    ],
)
def test_health_of_a_family(values, options, status):
    table = audit(pl.DataFrame({"psnr_y": values}), **options)

    assert table.family_health["error_energy"].status == status
    assert ("numbers written as text" in " ".join(table.warnings)) == (values[0] == "1")


def test_what_does_not_exist_is_null():
    frame = pl.DataFrame({"mos": [1.0, 2, None], "psnr_y": [1.0, None, 3], "vif": [float("inf")] * 3})

    text = pm.audit_signals(frame).to_json()

    report = json.loads(text, parse_constant=pytest.fail)
    assert report["tables"][0]["column_stats"]["vif"] == {
        "n": 0,
        "finite_ratio": 0.0,
        **dict.fromkeys(("mean", "std", "min", "max")),
    }
    assert [row["n"] for row in report["tables"][0]["target_correlations"]] == [1, 0]


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame(),
        pl.DataFrame({"mos": []}, schema={"mos": pl.Float64}),
        pl.DataFrame({"mos": [1.0]}),
        pl.DataFrame({"mos": [None, None], "psnr": [None, 1.0]}, schema={"mos": pl.Int8, "psnr": pl.Float64}),
        pl.DataFrame({"a": [[1]], "psnr": [{"x": 1}], "clip_id": ["a"], "": [1]}),
    ],
)
def test_odd_tables_are_audited(frame):
    report = pm.audit_signals(frame)

    assert report.tables[0].warnings
    assert report.to_markdown()
    assert report.to_html()


def test_thresholds_are_options():
    frame = features()

    assert audit(frame, redundancy_threshold=0.0).redundant_pair_count == 3
    assert audit(frame, target_threshold=1.0).intersection_count == 0
    assert audit(frame, complement_threshold=0.0).intersection_count == 0
    assert len(audit(frame, top_k=1).intersections) == 1
    assert audit(frame, top_k=1).intersection_count == 2


def above(x):
    return float(np.nextafter(x, 2))


def below(x):
    return float(np.nextafter(x, -1))


@pytest.mark.parametrize("seed", range(5))
def test_thresholds_hold_for_what_is_shown(seed):
    """A number that a report shows is on the right side of a threshold that equals it."""
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(2, 10))
    frame = pl.DataFrame({"mos": x + y, "psnr": x, "blur": y + x / 2}).with_columns(
        pl.when(pl.int_range(10) > 2).then("blur").alias("blur")
    )
    everything = {"redundancy_threshold": 0.0, "complement_threshold": 1.0, "target_threshold": 0.0}
    table = audit(frame, **everything)
    pair, weaker = table.redundant_pairs[0], table.target_correlations[-1]
    r, stats = abs(pair.pearson), table.column_stats["blur"]

    for option, bound, inside, outside in (
        ("redundancy_threshold", r, r, above(r)),
        ("complement_threshold", r, r, below(r)),
        ("target_threshold", abs(weaker.pearson), abs(weaker.pearson), above(abs(weaker.pearson))),
    ):
        count = "redundant_pair_count" if option == "redundancy_threshold" else "intersection_count"
        assert getattr(audit(frame, **{**everything, option: inside}), count) == 1, (option, bound)
        assert getattr(audit(frame, **{**everything, option: outside}), count) == 0, (option, bound)
    for options, status in (
        ({"min_finite_ratio": 0.7}, "covered"),
        ({"min_finite_ratio": above(0.7)}, "weak"),
        ({"min_finite_ratio": 0.0, "min_std": stats.std}, "weak"),
        ({"min_finite_ratio": 0.0, "min_std": below(stats.std)}, "covered"),
    ):
        assert audit(frame, **options).family_health["noise_grain_blur"].status == status


def test_pairs_of_a_shared_or_of_no_family_do_not_complement_each_other():
    random = np.random.default_rng(4)
    x, y = random.normal(size=(2, 200))
    frame = pl.DataFrame({"mos": x + y, "motion": x, "vif": y, "plain": y})

    assert audit(frame).intersections == []


def test_the_joint_correlation_is_that_of_a_linear_model():
    random = np.random.default_rng(5)
    x, y, z = random.normal(size=(3, 200))
    frame = pl.DataFrame({"mos": x + y + z, "psnr": x + 0.3 * y, "blur": y})

    found = audit(frame).intersections[0]

    model = np.column_stack([np.ones(200), frame["psnr"], frame["blur"]])
    fitted = model @ np.linalg.lstsq(model, frame["mos"].to_numpy(), rcond=None)[0]
    assert found.joint == pytest.approx(np.corrcoef(fitted, frame["mos"])[0, 1], abs=1e-9)


def test_several_tables_side_by_side():
    report = pm.audit_signals({"phone": features(), "tv": features().drop("psnr_y").lazy()})

    assert [table.label for table in report.tables] == ["phone", "tv"]
    assert report.summary["tables"] == 2
    assert sum(report.summary[name] for name in ("covered", "weak", "missing")) == 26
    assert "| error_energy | covered (1) | **missing** |" in report.to_markdown()
    assert [t.label for t in pm.audit_signals([features(), features()]).tables] == ["table 1", "table 2"]


def test_a_sample_is_seeded_and_told():
    frame = features(400)

    one, again, other = (audit(frame, sample=100, seed=seed) for seed in (1, 1, 2))

    assert one == again
    assert one != other
    assert (one.rows, one.sampled_rows, one.target_stats.n) == (400, 100, 100)
    assert "100 of 400" in one.warnings[0]
    assert audit(frame, sample=400).sampled_rows is None


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"top_k": 1.5},
        {"redundancy_threshold": 1.1},
        {"complement_threshold": float("nan")},
        {"min_finite_ratio": "0.8"},
        {"min_std": -1},
        {"sample": 0},
        {"seed": -1},
        {"target": 3},
        {"baseline": 3},
        {"families": 3},
    ],
)
def test_wrong_options_are_refused_by_name(options):
    with pytest.raises(errors.OptionError, match=next(iter(options))):
        pm.audit_signals(features(), **options)


@pytest.mark.parametrize("frames", [None, [], {}, {"a": 1}, {"": pl.DataFrame()}, {1: pl.DataFrame()}, "x"])
def test_wrong_frames_are_refused(frames):
    with pytest.raises(errors.OptionError, match="frames"):
        pm.audit_signals(frames)


def test_own_families_decide():
    mine = pm.Family(name="mine", patterns=["sigma", "clip"])

    table = audit(features(), families=[mine])

    assert table.family_columns == {"mine": ["noise_sigma"]}
    assert table.unmatched_columns == ["psnr_y", "grain", "bitdepth", "cambi"]


# --- baselines ----------------------------------------------------------------------------------------


def test_a_baseline_shows_what_changed(tmp_path):
    before = features().drop("noise_sigma", "grain").with_columns(cambi=pl.lit(1.0))
    after = features().with_columns(
        cambi=pl.col("mos").sin(), psnr_y=pl.when(pl.col("clip_id") > 3).then("psnr_y").otherwise(9.0)
    )
    (tmp_path / "old.json").write_text(pm.audit_signals({"x": before}).to_json())

    report = pm.audit_signals({"y": after}, baseline=tmp_path / "old.json")

    change = report.baseline.tables[0]
    assert (change.label, change.baseline_label) == ("y", "x")
    assert change.newly_covered == ["banding_tone_mapping", "noise_grain_blur"]
    assert change.no_longer_covered == []
    assert change.signals_added == ["noise_sigma", "grain"]
    assert {move.column for move in change.moved} == {"psnr_y", "cambi"}
    assert "banding_tone_mapping, noise_grain_blur" in report.to_markdown()
    assert "banding_tone_mapping, noise_grain_blur" in report.to_html()


def test_a_scorer_beside_a_target_is_a_first_signal():
    before = pl.DataFrame({"clip_id": ["a", "b", "c"], "mos": [1.0, 2, 4]})
    scores = pl.DataFrame({"scorer": "m", "key": ["a", "b", "c"], "score": [1.0, 3, 4]})

    old = pm.audit_signals(before)
    new = pm.audit_signals(before.pipe(pm.join_scores, scores), baseline=old)

    assert old.tables[0].weak_families == ["no_reference_ugc"]
    assert new.baseline.tables[0].newly_covered == ["no_reference_ugc"]


def test_what_moved_by_a_twentieth_as_shown_has_moved(tmp_path):
    random = np.random.default_rng(2)
    mos = random.normal(size=30)
    frame = pl.DataFrame(
        {"mos": mos, **{f"psnr_{i}": mos * i / 9 + random.normal(size=30) for i in range(20)}}
    )
    old = json.loads(pm.audit_signals(frame).to_json())
    moved = set()
    for place, row in enumerate(old["tables"][0]["target_correlations"]):
        for statistic in ("pearson", "spearman"):
            step = 0.05 if place % 2 else 0.0499999999
            if place % 2:
                moved.add((row["column"], statistic))
            row[statistic] = round(row[statistic] - step if place % 4 < 2 else row[statistic] + step, 12)
    (tmp_path / "old.json").write_text(json.dumps(old))

    change = pm.audit_signals(frame, baseline=tmp_path / "old.json").baseline.tables[0]

    assert {(move.column, move.statistic) for move in change.moved} == moved


def test_tables_of_a_baseline_are_matched_by_label():
    old = pm.audit_signals({"a": features(), "b": features()})

    new = pm.audit_signals({"b": features().rename({"mos": "dmos"}), "c": features()}, baseline=old)

    assert [change.label for change in new.baseline.tables] == ["b"]
    assert (new.baseline.tables[0].target_after, new.baseline.tables[0].moved) == ("dmos", [])
    assert (new.baseline.tables_added, new.baseline.tables_removed) == (["c"], ["a"])


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"tables": [{}]}', '{"schema": "v0", "tables": []}', "\xff"]
)
def test_what_is_no_baseline_is_refused(tmp_path, content):
    path = tmp_path / "old.json"
    path.write_bytes(content.encode("latin-1"))

    with pytest.raises(errors.TableError, match=r"old\.json"):
        pm.audit_signals(features(), baseline=path)


# --- pages --------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page would load or run, its text, and whether its tags are closed."""

    void = frozenset({"meta"})

    def __init__(self, text):
        super().__init__()
        self.loads, self.open, self.tags, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [(tag, k) for k, _ in attrs if k in ("src", "href", "xlink:href") or k.startswith("on")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone_and_has_its_pictures():
    report = pm.audit_signals({"phone": features(), "tv": features()}, baseline=pm.audit_signals(features()))

    page = Page(to_html(report))

    assert page.open == []
    assert page.loads == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert page.tags.count("svg") == 4
    assert "http" not in to_html(report).replace("http-equiv", "")
    assert "url(" not in to_html(report)
    assert "@import" not in to_html(report)


def test_text_from_files_is_escaped():
    evil = '<script>alert("psnr")</script> & |x|'
    frame = features().rename({"psnr_y": evil, "mos": "mos"})
    mine = pm.Family(name="<b>mine</b>", patterns=["psnr"], label="<i>", question="<u>", recommendation="<s>")

    report = pm.audit_signals(
        {"<img src=x onerror=y>": frame}, families=[mine], baseline=pm.audit_signals(frame)
    )

    page = Page(report.to_html())
    assert page.open == []
    assert not {"script", "b", "i", "u", "s", "img"} & set(page.tags)
    assert evil in page.text
    assert "<script>" not in report.to_markdown()
    assert "<img" not in report.to_markdown()


HIDDEN = ["\u202e", "\u2066", "\u200b", "\x07", "\n", "\u2028", "\u00ad", "\U000e0041", "\x85"]


@pytest.mark.parametrize("hidden", HIDDEN, ids=ascii)
def test_hidden_characters_are_shown_as_escapes_in_every_page(hidden):
    evil = f"psnr{hidden}x"
    other = f"noise{hidden}y"
    random = np.random.default_rng(3)
    mos = random.normal(size=30)
    frame = pl.DataFrame(
        {
            f"mos{hidden}t": mos,
            evil: mos + random.normal(size=30),
            other: random.normal(size=30) + mos,
            f"{other} b": 1.0,
            f"MOS {hidden}": mos,
            f"mos{hidden}r": mos * 2,
        }
    ).with_columns(pl.col(other).alias(f"grain{hidden}z"))
    mine = pm.Family(
        name=f"f{hidden}",
        patterns=["grain", "zzz"],
        label=f"l{hidden}",
        question=f"q{hidden}",
        recommendation=f"r{hidden}",
        candidate_metrics=[f"c{hidden}"],
    )
    old = pm.audit_signals({f"o{hidden}": frame.with_columns(pl.col(evil).reverse())}, target=f"mos{hidden}t")

    report = pm.audit_signals(
        {f"t{hidden}": frame.drop(evil), f"o{hidden}": frame},
        target=f"mos{hidden}t",
        families=[mine, msgspec.structs.replace(mine, name="gap", patterns=["zzz"]), *built_in()],
        baseline=old,
    )

    escape = hidden.encode("unicode_escape").decode()
    markdown, page = report.to_markdown(), report.to_html()
    if hidden != "\n":
        assert hidden not in markdown
        assert hidden not in page
    assert f"psnr{escape}x" in Page(page).text
    assert f"psnr\\{escape}x" in markdown
    assert evil in report.tables[1].signal_columns  # JSON is data
    assert all("\n" not in warning for warning in report.tables[0].warnings)


def test_long_names_leave_room_for_numbers():
    long = "psnr_" + "x" * 5000
    frame = features().rename({"psnr_y": long, "mos": "mos" + "y" * 900})
    frame = frame.with_columns(pl.lit(1.0).alias("votes_" + "q" * 5000))

    report = pm.audit_signals({"t" * 3000: frame}, target="mos" + "y" * 900)

    assert long in report.to_json()
    assert max(len(line) for line in report.to_markdown().splitlines()) < 1000
    assert "psnr_xxx" in report.to_html()
    assert not re.search("x{61}|y{601}|t{61}|q{601}", report.to_html())
    assert max(len(item) for item in re.findall("<li>(.*?)</li>", report.to_html())) < 700


def test_notebooks_get_the_report():
    report = pm.audit_signals(features())

    assert report._repr_markdown_() == report.to_markdown()
    assert report._repr_html_().startswith("<div")
    assert "<html" not in report._repr_html_()


def test_a_heat_map_of_many_signals_shows_representatives():
    random = np.random.default_rng(6)
    base = random.normal(size=(20, 300))
    many = {f"psnr_{i}": base[i % 20] + 0.01 * random.normal(size=300) for i in range(100)}

    table = audit(pl.DataFrame({"mos": base[0], **many}))

    assert len(table.clusters) == 20
    assert sorted(table.heat_map.columns) == sorted(group.representative for group in table.clusters)
    assert table.heat_map.left_out == 80


# --- files and the command line -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    features().write_parquet("f.parquet")
    features().drop("psnr_y").write_csv("g.csv")
    Path("families.json").write_text('{"families": [{"name": "mine", "patterns": ["sigma"]}]}')
    Path("t.json").write_text('{"rows": [{"x": 1}]}')
    return tmp_path


def test_a_real_run(folder):
    words = "signal-mix --input phone=f.parquet --input g.csv --out-json r/r.json --out-md r/r.md"
    words += " --out-html r/r.html"

    result = subprocess.run(
        [sys.executable, "-m", "polars_materialize", *words.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == "signal-mix: tables=2 rows=80 covered=3 weak=10 missing=13\n"
    report = json.loads((folder / "r/r.json").read_text())
    assert [table["label"] for table in report["tables"]] == ["phone", "g"]
    provenance = report["run_provenance"]
    assert provenance["argv"] == words.split()
    assert [file["path"] for file in provenance["inputs"]["tables"]] == ["f.parquet", "g.csv"]
    assert all(len(file["sha256"]) == 64 for file in provenance["inputs"]["tables"])
    assert set(provenance["outputs"]) == {"out_md", "out_html"}
    assert (folder / "r/r.md").read_text().startswith("# Signal-mix audit\n")
    assert (folder / "r/r.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.usefixtures("folder")
def test_without_an_output_the_report_is_printed(capsys):
    assert main(["signal-mix", "--input", "f.parquet"]) == 0

    shown = capsys.readouterr()
    assert shown.out == pm.audit_tables("f.parquet").to_markdown()
    assert shown.err == "signal-mix: tables=1 rows=40 covered=2 weak=5 missing=6\n"


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--target psnr_y", {"target": "psnr_y"}),
        ("--top-k 1", {"top_k": 1}),
        ("--redundancy-threshold 0.1", {"redundancy_threshold": 0.1}),
        ("--complement-threshold 0.01", {"complement_threshold": 0.01}),
        ("--target-threshold 0.9", {"target_threshold": 0.9}),
        ("--min-finite-ratio 0", {"min_finite_ratio": 0.0}),
        ("--min-std 3", {"min_std": 3.0}),
        ("--sample 20 --seed 3", {"sample": 20, "seed": 3}),
        ("--families families.json", {"families": "families.json"}),
        ("--baseline old.json", {"baseline": "old.json"}),
    ],
)
@pytest.mark.usefixtures("folder")
def test_options_of_the_command_line_are_those_of_the_library(words, options):
    pm.audit_tables("f.parquet", out_json="old.json", top_k=2)

    assert main(f"signal-mix --input f.parquet --out-json a.json {words}".split()) == 0
    report = pm.audit_tables("f.parquet", out_json="b.json", **options)

    found = json.loads(Path("a.json").read_text())
    args = found["run_provenance"]["args"]
    assert {name: args[name] for name in options} == options
    other = json.loads(report.to_json())
    assert {**args, "out_json": ""} == {**other["run_provenance"]["args"], "out_json": ""}
    assert {k: v for k, v in found.items() if k != "run_provenance"} == {
        k: v for k, v in other.items() if k != "run_provenance"
    }


MISTAKES = [
    (2, "", "--input"),
    (2, "--input f.parquet --nope", "--nope"),
    (2, "--input f.parquet --top-k many", "many"),
    (2, "--input f.parquet --top-k 0", "top_k"),
    (2, "--input f.parquet --redundancy-threshold 2", "redundancy_threshold"),
    (2, "--input f.parquet --sample 0", "sample"),
    (2, "--input f.parquet --input f=g.csv", "label"),
    (2, "--input a=", "blank"),
    (2, "--input f.parquet --families no.json", "no.json"),
    (2, "--input f.parquet --families t.json", "t.json"),
    (2, "--input f.parquet --out-json=", "out_json"),
    (1, "--input no.parquet", "no.parquet: no such file"),
    (1, "--input no*.parquet", "no file matches"),
    (1, "--input f.xlsx", "f.xlsx"),
    (1, "--input torn.parquet", "torn.parquet"),
    (1, "--input f.parquet --target nope", "f.parquet: no target column 'nope'"),
    (1, "--input f.parquet --target codec", "'codec'"),
    (1, "--input f.parquet --baseline t.json", "t.json"),
    (1, "--input f.parquet --baseline no.json", "no.json"),
    (1, "--input f.parquet --out-json f.parquet", "f.parquet"),
    (1, "--input f.parquet --baseline old.json --out-json old.json", "old.json"),
    (1, "--input f.parquet --out-json a --out-md a", "a"),
    (1, "--input *.json --out-json new.json", "new.json"),
    (1, "--input f.parquet --out-md f.parquet/x.md", "f.parquet/x.md"),
]


@pytest.mark.parametrize(
    ("status", "words", "told"), MISTAKES, ids=[mistake[1][-50:] for mistake in MISTAKES]
)
def test_a_mistake_is_one_line_and_writes_nothing(folder, status, words, told, capsys):
    Path("torn.parquet").write_bytes(b"PAR1")
    Path("f.xlsx").write_bytes(b"PK")
    Path("old.json").write_text(pm.audit_signals(features()).to_json())
    before = {path: path.read_bytes() for path in folder.iterdir()}

    found = main(["signal-mix", *words.split()])

    shown = capsys.readouterr()
    assert (found, shown.out, shown.err.count("\n")) == (status, "", 1)
    assert told in shown.err
    assert "this is a bug" not in shown.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_same_bundle_in_another_folder_gives_the_same_bytes(tmp_path):
    found = []
    for name in ("one", "two"):
        place = tmp_path / name
        place.mkdir()
        features(3000).write_parquet(place / "f.parquet")
        pm.audit_tables(["a=f.parquet"], out_json="a.json", out_md="a.md", out_html="a.html", base_dir=place)
        found.append([(place / f"a.{suffix}").read_bytes() for suffix in ("json", "md", "html")])

    assert found[0] == found[1]
    assert str(tmp_path).encode() not in b"".join(found[0])


def test_shards_are_one_table(folder):
    features()[:10].write_parquet("s1.parquet")
    features()[10:].write_parquet("s2.parquet")

    report = pm.audit_tables("s?.parquet")

    assert report.tables[0].column_stats == audit(features()).column_stats
    assert report.tables[0].label == "s?"
    assert folder.is_dir()


@pytest.mark.parametrize(
    "code", ["import polars_materialize.signal_mix.options", "main(['signal-mix', '--help'])"]
)
def test_help_imports_nothing_heavy(code):
    listing = "import sys; print('heavy:', sorted({'polars', 'pyarrow', 'numpy'} & set(sys.modules)))"

    result = subprocess.run(
        [sys.executable, "-c", f"from polars_materialize.cli import main\n{code}\n{listing}"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert result.stdout.splitlines()[-1] == "heavy: []"


def test_the_help_names_every_option(capsys):
    assert main(["signal-mix", "--help"]) == 0

    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert options >= {
        *("--input", "--target", "--out-json", "--out-md", "--out-html", "--top-k", "--redundancy-threshold"),
        *("--complement-threshold", "--min-finite-ratio", "--target-threshold", "--families", "--sample"),
        *("--seed", "--baseline", "--min-std"),
    }


# --- real tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corpus", "key", "rows"), [("konvid_1k", "flickr_id", 1200), ("live_vqc", "File", 585)]
)
def test_real_features_with_their_mos(shared, corpus, key, rows):
    folder = shared / "data" / corpus
    labels = pm.LabelFile(str(folder / "metadata.csv"), key_column=key)
    joined = pm.scan_table(folder / "videval_features.csv").pipe(
        pm.join_labels, pm.scan_labels(labels), feature_key_column=key
    )

    table = audit(joined, target="mos")

    frame = joined.collect().to_pandas()
    assert (table.rows, len(table.signal_columns)) == (rows, 60)
    assert [leak.column for leak in table.leakage_columns] == ["mos_raw_0_100"]
    assert any(table.column_stats[name].n < rows for name in table.signal_columns)
    assert [row.column for row in table.target_correlations if row.pearson is None] == table.constant_columns
    for row in table.target_correlations:
        if row.pearson is None:
            continue
        assert row.n == frame[row.column].count()
        assert row.pearson == pytest.approx(frame[row.column].corr(frame["mos"]), abs=1e-9)
        both = frame[[row.column, "mos"]].dropna().rank()
        assert row.spearman == pytest.approx(both[row.column].corr(both["mos"]), abs=1e-9)


def test_four_real_scorers_against_mos(shared):
    metrics = shared / "data/nvc/metrics"
    scores = pm.scan_scores(
        [
            pm.Sidecar(str(metrics / "dover"), "dover", key_field="distorted", score_field="fused_score"),
            pm.Sidecar(str(metrics / "fastervqa"), "fastervqa", key_field="distorted", score_field="score"),
            pm.Sidecar(str(metrics / "musiq"), "musiq", key_field="video", score_field="mean_musiq"),
            pm.Sidecar(
                str(metrics / "qalign"), "q-align", key_field="video_name", score_field="qalign_score"
            ),
        ]
    )
    clips = pm.scan_table(shared / "data/nvc/subjective.csv")

    before = pm.audit_signals(clips)
    after = pm.audit_signals(
        clips.pipe(pm.join_scores, scores, key_column="name", key_normalize="stem"), baseline=before
    )

    table = after.tables[0]
    found = [
        (row.column, round(row.pearson, 3), round(row.spearman, 3), row.n)
        for row in table.target_correlations
    ]
    assert found == [
        ("second_opinion_fastervqa_score", 0.802, 0.803, 216),
        ("second_opinion_musiq_score", 0.664, 0.683, 216),
        ("second_opinion_dover_score", 0.634, 0.629, 216),
        ("second_opinion_q_align_score", 0.245, 0.263, 216),
    ]
    assert [leak.column for leak in table.leakage_columns] == ["std", "var", "ci"]
    assert after.baseline.tables[0].newly_covered == ["no_reference_ugc"]
