"""Runs of one table, from files to a file: the table, its audit, and its provenance."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

import polars_materialize as pm
from polars_materialize import errors, runs
from polars_materialize.options import Sidecar
from polars_materialize.runs import Memo
from polars_materialize.tables import File

SUFFIXES = [
    *(".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".csv", ".arrow", ".feather", ".ipc"),
    *(".jsonl.gz", ".json.gz", ".csv.gz", ".jsonl.zst", ".json.zst", ".csv.zst"),
]
KINDS = ["scores", "labels"]
every_kind = pytest.mark.parametrize("kind", KINDS)

FEATURES = pl.DataFrame(
    {
        "clip_id": ["a", "b", "b", None, "d", "a"],
        "vmaf": [90.5, None, 1.0, 2.0, 3.0, 4.0],
        "frame": [1, 2, 3, 4, 5, 2**53 + 1],
        "note": ["2024-01-01", 'x,"y"', "\ud55c\uae00", None, "z", "w"],
    }
)
SCORES = [
    {"clip_id": "a", "competitor": "M", "score": 0.5, "runtime_ms": 2},
    {"clip_id": "b", "competitor": "M", "status": "broken", "score": 0.1},
    {"clip_id": "z", "competitor": "M", "score": 0.9},
    {"clip_id": "d", "competitor": "Alpha", "score": [1, 2]},
]
LABELS = [
    {"name": "x/a", "mos_raw_0_100": 80, "std_dev": 12.5, "n_ratings": 20},
    {"name": "x/b", "mos_raw_0_100": 3.9, "split": "test"},
    {"name": " x/a", "mos_raw_0_100": 80, "std_dev": 12.5, "n_ratings": 20},
    {"name": "z", "mos_raw_0_100": 50},
    {"name": None, "mos_raw_0_100": None},
]


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A current folder with a feature table, sidecars and labels."""
    monkeypatch.chdir(tmp_path)
    FEATURES.write_parquet("features.parquet")
    for name, rows in (("scores.jsonl", SCORES), ("labels.jsonl", LABELS)):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(kind, out, *, features="features.parquet", **options):
    """Runs one table of the bundle."""
    if kind == "scores":
        return pm.materialize_scores(features, "scores.jsonl", out, **options)
    return pm.materialize_labels(features, "labels.jsonl", out, **{"min_match_rate": 0.5, **options})


def lazily(kind, frame):
    """The same join on frames."""
    if kind == "scores":
        return pm.join_scores(frame, pm.scan_scores("scores.jsonl"))
    return pm.join_labels(frame, pm.scan_labels("labels.jsonl"), min_match_rate=0.5)


def as_text(frame):
    """Enum and Categorical columns as the text they hold."""
    return frame.with_columns(pl.col(pl.Enum, pl.Categorical).cast(pl.String))


def digest(path):
    """The SHA-256 of a file, by hashlib alone."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def described(written, path=None):
    """How provenance has to describe a file that is there."""
    path = Path(path or written)
    content = {"path": written, "exists": True, "kind": "file"}
    return {**content, "sha256": digest(path), "bytes": path.stat().st_size}


def flat(inputs):
    """Every described file of provenance, by path."""
    found = [file for value in inputs.values() for file in (value if isinstance(value, list) else [value])]
    return sorted(found, key=lambda file: file["path"])


def files_of(folder):
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the table ----------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_every_format_to_files_of_every_format(bundle, kind, suffix):
    pm.sink_table(FEATURES, f"features{suffix}")
    expected = as_text(lazily(kind, FEATURES))

    audit = run(kind, f"new/folder/out{suffix}", features=f"features{suffix}")

    result = as_text(pm.scan_table(f"new/folder/out{suffix}").collect())
    assert audit.input_rows == audit.output_rows == 6
    assert result.columns == expected.columns
    assert_frame_equal(result, expected, check_dtypes=False)
    assert list((bundle / "new" / "folder").iterdir()) == [bundle / "new" / "folder" / f"out{suffix}"]


@every_kind
@pytest.mark.parametrize("out", ["out.parquet", "out.jsonl"])
def test_shards_are_one_table_in_the_order_of_their_names(bundle, kind, out):
    for index in (2, 0, 1):
        FEATURES[index * 2 : index * 2 + 2].write_parquet(bundle / f"shard{index}.parquet")

    audit = run(kind, out, features="shard*.parquet")

    assert_frame_equal(
        as_text(pm.scan_table(out).collect()), as_text(lazily(kind, FEATURES)), check_dtypes=False
    )
    assert audit.feature_table == "shard*.parquet"
    features = audit.run_provenance["inputs"]["features"]
    assert features == [described(f"shard{index}.parquet") for index in range(3)]


@every_kind
def test_an_older_output_is_replaced_without_overwrite(bundle, kind):
    (bundle / "out.csv").write_text("old")

    run(kind, "out.csv")

    assert (bundle / "out.csv").read_text().startswith("clip_id,")


@every_kind
def test_a_link_as_output_keeps_pointing_where_it_points(bundle, kind):
    (bundle / "real").mkdir()
    (bundle / "out.csv").symlink_to("real/target.csv")

    run(kind, "out.csv")

    assert (bundle / "out.csv").is_symlink()
    assert (bundle / "real" / "target.csv").read_text().startswith("clip_id,")


@pytest.mark.usefixtures("bundle")
def test_a_chain_of_lazy_joins_gives_what_two_runs_give():
    run("scores", "scored.parquet")
    run("labels", "labelled.parquet", features="scored.parquet")
    features = pm.scan_table("features.parquet")

    chain = lazily("labels", lazily("scores", features))

    stored = pm.scan_table("labelled.parquet").collect()
    for engine in ("streaming", "in-memory"):
        assert_frame_equal(as_text(chain.collect(engine=engine)), as_text(stored))
    other = lazily("scores", lazily("labels", features)).collect()
    assert_frame_equal(as_text(other.select(stored.columns)), as_text(stored))


def test_a_plan_sinks_what_a_run_writes(bundle):
    run("scores", "run.jsonl")

    pm.sink_table(lazily("scores", pm.scan_table("features.parquet")), "plan.jsonl")

    assert (bundle / "plan.jsonl").read_bytes() == (bundle / "run.jsonl").read_bytes()


# --- the audit ----------------------------------------------------------------------------------------


def test_audit_of_scores(bundle):
    audit = run("scores", "out.csv", audit_json="audits/a.json", bad_policy="drop")
    stored = json.loads((bundle / "audits" / "a.json").read_text())

    provenance = stored.pop("run_provenance")
    keys = stored["keys"]
    assert list(stored) == sorted(stored)
    assert {name: stored[name] for name in stored if name not in ("competitors", "keys")} == {
        "feature_table": "features.parquet",
        "output": "out.csv",
        "key_column": "clip_id",
        "key_normalize": "auto",
        "input_rows": 6,
        "output_rows": 4,
        "missing_policy": "mark",
        "bad_policy": "drop",
        "shards": {"read": 1, "written": 1},
        "warnings": [
            "Alpha: match rate 0.3333 (1 of 3 distinct keys have a score); "
            "min_match_rate says how many to expect"
        ],
        "columns": FEATURES.columns,
        "columns_added": [
            f"second_opinion_{slug}_{name}"
            for slug in ("alpha", "m")
            for name in ("score", "status", "runtime_ms", "frames", "source")
        ],
    }
    fields = {
        "files": 1,
        "source": "scores.jsonl",
        "key": "clip_id",
        "score": "score",
        "scorer": "competitor",
        "status": "status",
        "runtime_ms": "runtime_ms",
    }
    assert stored["competitors"] == {
        "Alpha": {
            "competitor": "Alpha",
            "column_prefix": "second_opinion_alpha",
            "scores_loaded": 1,
            "matched_rows": 1,
            "missing_rows": 5,
            "bad_rows": 0,
            "unused_scores": 0,
            "total_feature_keys": 3,
            "matched_feature_keys": 1,
            "match_rate": pytest.approx(1 / 3),
            "replaced_scores": 0,
            "hint": None,
            "formats": [],
            "fields": [fields],
        },
        "M": {
            "competitor": "M",
            "column_prefix": "second_opinion_m",
            "scores_loaded": 3,
            "matched_rows": 2,
            "missing_rows": 2,
            "bad_rows": 2,
            "unused_scores": 1,
            "total_feature_keys": 3,
            "matched_feature_keys": 2,
            "match_rate": pytest.approx(2 / 3),
            "replaced_scores": 0,
            "hint": None,
            "formats": [],
            "fields": [fields],
        },
    }
    counts = {"rows": 6, "rows_without_key": 1, "distinct_values": 3, "distinct_keys": 3}
    counts["folded_values"] = 0
    assert {name: keys[name] for name in counts} == counts
    assert audit.run_provenance == provenance
    assert audit.competitors["M"].bad_rows == 2
    assert pm.scan_table("out.csv").collect().height == 4


def test_audit_of_labels(bundle):
    options = {
        "feature_key_column": "clip_id",
        "label_key_column": "name",
        "label_key_regex": r"([a-z])$",
        "feature_key_regex": r"\w",
        "key_normalize": "raw",
        "min_match_rate": 0.25,
    }

    run("labels", "out.csv", audit_json="a.json", **options)
    stored = json.loads((bundle / "a.json").read_text())

    stored.pop("run_provenance")
    keys, sources = stored.pop("keys"), stored.pop("label_sources")
    assert list(stored) == sorted(stored)
    assert stored == {
        "feature_table": "features.parquet",
        "output": "out.csv",
        "feature_key_column": "clip_id",
        "label_key_column": "name",
        "label_mos_column": "mos_raw_0_100",
        "label_scale": "0:100",
        "key_normalize": "raw",
        "feature_key_regex": r"\w",
        "label_key_regex": r"([a-z])$",
        "min_match_rate": 0.25,
        "input_rows": 6,
        "output_rows": 6,
        "shards": {"read": 1, "written": 1},
        "warnings": [],
        "total_feature_keys": 3,
        "matched_feature_keys": 2,
        "matched_rows": 4,
        "missing_rows": 2,
        "labels_loaded": 3,
        "labels_without_key": 1,
        "unused_labels": 1,
        "match_rate": pytest.approx(2 / 3),
        "columns": FEATURES.columns,
        "columns_added": [
            "mos",
            "mos_raw_0_100",
            "mos_label_status",
            "mos_label_source",
            "mos_n_ratings",
            "mos_std_dev",
            "split",
        ],
    }
    assert len(sources) == 1
    assert sources[0]["path"] == "labels.jsonl"
    counts = {"rows": 6, "rows_without_key": 1, "distinct_values": 3, "distinct_keys": 3}
    counts["folded_values"] = 0
    assert {name: keys[name] for name in counts} == counts
    labels = {"rows": 5, "rows_without_key": 1, "distinct_values": 3, "distinct_keys": 3}
    labels["folded_values"] = 0
    assert keys["labels"] == labels


def test_audit_of_labels_names_every_file_and_its_own_scale(bundle):
    (bundle / "more.csv").write_text("clip,quality\nd,4.5\n")
    entries = ["labels.jsonl", pm.LabelFile("more.csv", key_column="clip")]

    audit = pm.materialize_labels("features.parquet", entries, "out.csv")

    assert audit.match_rate == 1.0
    assert [(s.path, s.key_column, s.mos_column, s.scale) for s in audit.label_sources] == [
        ("labels.jsonl", "name", "mos_raw_0_100", "0:100"),
        ("more.csv", "clip", "quality", "1:5"),
    ]


@pytest.mark.parametrize("scale", ["1.23456789:5", "0:12345678", "-7:94"])
def test_the_scale_of_an_audit_is_the_one_that_was_used(bundle, scale):
    (bundle / "l.csv").write_text("clip_id,mos\na,3\nb,4\nd,5\n")

    audit = pm.materialize_labels("features.parquet", "l.csv", "out.csv", label_scale=scale)

    assert [float(end) for end in audit.label_scale.split(":")] == [float(end) for end in scale.split(":")]


@pytest.mark.parametrize("rule", ["basename", "stem"])
def test_folding_shows_in_the_audit(bundle, rule):
    (bundle / "f.csv").write_text("path\nx/a.mp4\ny/a.mp4\ny/b.mp4\n")
    (bundle / "s.jsonl").write_text('{"path": "a.mp4", "score": 1}\n{"path": "z/b.mp4", "score": 2}\n')

    with pytest.raises(errors.FoldingError, match=r"'x/a\.mp4', 'y/a\.mp4' would all be"):
        pm.materialize_scores("f.csv", "m=s.jsonl", "out.csv", key_normalize=rule)
    assert not (bundle / "out.csv").exists()
    audit = pm.materialize_scores("f.csv", "m=s.jsonl", "out.csv", key_normalize=rule, allow_folding=True)

    assert (audit.keys.rows, audit.keys.distinct_values, audit.keys.distinct_keys) == (3, 3, 2)
    assert (audit.keys.folded_values, audit.keys.scores["m"].folded_values) == (2, 0)
    assert audit.run_provenance["args"]["allow_folding"] is True
    assert audit.competitors["m"].matched_rows == 3


@every_kind
def test_a_parquet_output_carries_its_audit(bundle, kind):
    audit = run(kind, "out.parquet", audit_json="a.json")

    metadata = pq.read_metadata("out.parquet").metadata
    [footer] = [json.loads(text) for key, text in metadata.items() if b"polars_materialize" in key]
    stored = json.loads((bundle / "a.json").read_text())
    assert {**footer, "run_provenance": None} == {**stored, "run_provenance": None}
    assert footer["output_rows"] == audit.output_rows == pq.read_table("out.parquet").num_rows


# --- provenance ---------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("out", ["out/o.parquet", "out/o.csv", "out/o.json.gz"])
def test_provenance_has_the_hashes_of_every_input_and_of_the_output(bundle, kind, out):
    run(kind, out, audit_json="a.json", argv=["x", "--y"])
    provenance = json.loads((bundle / "a.json").read_text())["run_provenance"]

    evidence = "scores.jsonl" if kind == "scores" else "labels.jsonl"
    assert set(provenance) >= {"schema", "entrypoint", "argv", "args", "inputs", "outputs"}
    assert provenance["schema"] == "ai-run-provenance-v1"
    assert provenance["entrypoint"]["module"] == "polars_materialize"
    assert provenance["entrypoint"]["version"] == pm.__version__
    assert provenance["argv"] == ["x", "--y"]
    assert flat(provenance["inputs"]) == sorted(
        [described("features.parquet"), described(evidence)], key=lambda file: file["path"]
    )
    assert described(out) in flat(provenance["outputs"])
    assert provenance["versions"] == {
        "polars_materialize": pm.__version__,
        "python": platform.python_version(),
        "polars": version("polars"),
        "pyarrow": version("pyarrow"),
    }


@pytest.mark.parametrize("entries", [["m=s", "n=t*.jsonl"], ["n=t*.jsonl", "m=s"]])
def test_provenance_names_every_file_of_folders_and_globs(bundle, entries):
    (bundle / "s").mkdir()
    for clip in "abd":
        (bundle / "s" / f"{clip}.json").write_text(json.dumps({"clip_id": clip, "score": 1}))
    (bundle / "t.jsonl").write_text('{"clip_id": "a", "score": 1}')

    audit = pm.materialize_scores("features.parquet", entries, "out.csv")

    expected = [described(f"s/{clip}.json") for clip in "abd"] + [described("t.jsonl")]
    assert audit.run_provenance["inputs"]["scores"] == expected


@pytest.mark.usefixtures("bundle")
def test_args_hold_every_effective_option_of_scores():
    audit = run("scores", "out.csv", bad_policy="drop", min_match_rate=0.25)

    args = audit.run_provenance["args"]
    options = {
        "key_column": None,
        "score_key_field": None,
        "score_field": None,
        "key_normalize": "auto",
        "missing_policy": "mark",
        "bad_policy": "drop",
        "min_match_rate": 0.25,
        "allow_folding": False,
        "prefix": "second_opinion",
        "overwrite": False,
    }
    assert {name: args[name] for name in options} == options
    assert (args["features"], args["out"]) == ("features.parquet", "out.csv")
    assert "scores.jsonl" in json.dumps(args["scores"])


@pytest.mark.usefixtures("bundle")
def test_args_hold_every_effective_option_of_labels():
    entry = pm.LabelFile("labels.jsonl", key_column="name", key_regex="[a-z]$", scale="0:100")

    audit = pm.materialize_labels("features.parquet", entry, "out.csv", min_match_rate=0, status_column="s")

    args = audit.run_provenance["args"]
    options = {
        "feature_key_column": None,
        "label_key_column": None,
        "label_mos_column": None,
        "label_scale": "auto",
        "key_normalize": "auto",
        "feature_key_regex": None,
        "label_key_regex": None,
        "min_match_rate": 0.0,
        "status_column": "s",
        "overwrite": False,
    }
    assert {name: args[name] for name in options} == options
    assert args["labels"] == [
        {"path": "labels.jsonl", "key_column": "name", "key_regex": "[a-z]$", "scale": "0:100"}
    ]


@every_kind
def test_relative_paths_stay_relative_to_base_dir(bundle, kind, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    audit = run(kind, "out/o.csv", audit_json="out/a.json", base_dir=bundle)

    text = (bundle / "out" / "a.json").read_text()
    assert str(bundle) not in text
    assert str(bundle) not in (bundle / "out" / "o.csv").read_text()
    assert audit.output == "out/o.csv"
    assert audit.run_provenance["outputs"]["out"] == described("out/o.csv", bundle / "out" / "o.csv")
    assert list(Path().iterdir()) == []


@every_kind
def test_absolute_paths_stay_as_the_user_wrote_them(bundle, kind):
    written = f"{bundle}/./features.parquet"

    audit = run(kind, "out.csv", features=written)

    assert audit.feature_table == written
    assert audit.run_provenance["inputs"]["features"]["path"] == written


@every_kind
def test_audits_hold_no_clock(bundle, kind):
    run(kind, "out.parquet", audit_json="a.json")
    first = files_of(bundle)
    for name in ("features.parquet", "scores.jsonl", "labels.jsonl"):
        os.utime(name, ns=(10**18, 10**18))

    run(kind, "out.parquet", audit_json="a.json")

    assert files_of(bundle) == first


# --- refused runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("scores", {"missing_policy": "fail"}, errors.MissingScoreError),
        ("scores", {"bad_policy": "fail"}, errors.BadScoreError),
        ("scores", {"key_column": "nope"}, errors.KeyColumnError),
        ("scores", {"score_field": "nope"}, errors.TableError),
        ("scores", {"score_key_field": "nope"}, errors.MaterializeError),
        ("scores", {"prefix": ""}, errors.OptionError),
        ("scores", {"missing_policy": "nope"}, errors.OptionError),
        ("scores", {"features": "no.csv"}, errors.TableError),
        ("scores", {"features": "broken.jsonl"}, errors.TableError),
        ("scores", {"features": "taken.csv"}, errors.ColumnExistsError),
        ("scores", {"features": "nested.jsonl"}, errors.OutputError),
        ("labels", {"min_match_rate": 0.99}, errors.MatchRateError),
        ("labels", {"label_scale": "0:10"}, errors.LabelError),
        ("labels", {"label_key_column": "nope"}, errors.KeyColumnError),
        ("labels", {"label_mos_column": "nope"}, errors.TableError),
        ("labels", {"key_normalize": "raw", "label_key_regex": "^x"}, errors.DuplicateKeyError),
        ("labels", {"status_column": "mos"}, errors.OptionError),
        ("labels", {"features": "broken.jsonl"}, errors.TableError),
        ("labels", {"features": "taken.csv"}, errors.ColumnExistsError),
    ],
)
def test_a_refused_run_leaves_every_file_as_it_was(bundle, kind, options, error):
    (bundle / "broken.jsonl").write_text('{"clip_id": "a"}\n{"clip_id": \n')
    (bundle / "taken.csv").write_text("clip_id,second_opinion_m_score,mos\na,1,2\n")
    (bundle / "nested.jsonl").write_text('{"clip_id": "a", "x": [1]}\n')
    (bundle / "out.csv").write_text("old table")
    (bundle / "a.json").write_text("old audit")
    before = files_of(bundle)

    with pytest.raises(error) as caught:
        run(kind, "out.csv", audit_json="a.json", **options)

    assert "\n" not in str(caught.value)
    assert files_of(bundle) == before


@every_kind
def test_a_refused_run_makes_no_folder(bundle, kind):
    policy = {"missing_policy": "fail"} if kind == "scores" else {"min_match_rate": 1}

    with pytest.raises(errors.MaterializeError, match=r"missing_policy|match rate"):
        run(kind, "new/out.csv", audit_json="newer/a.json", **policy)

    assert not (bundle / "new").exists()
    assert not (bundle / "newer").exists()


@every_kind
@pytest.mark.parametrize("audit", ["folder", "features.parquet/a.json"])
def test_an_audit_that_cannot_be_written_leaves_the_old_table(bundle, kind, audit):
    (bundle / "folder").mkdir()
    (bundle / "out.csv").write_text("old table")
    before = files_of(bundle)

    with pytest.raises(errors.OutputError, match=f"^{audit}: "):
        run(kind, "out.csv", audit_json=audit)

    assert files_of(bundle) == before


@every_kind
@pytest.mark.parametrize("out", ["folder.csv", "features.parquet/o.csv"])
def test_a_table_that_cannot_be_written_leaves_the_old_audit(bundle, kind, out):
    (bundle / "folder.csv").mkdir()
    (bundle / "a.json").write_text("old audit")
    before = files_of(bundle)

    with pytest.raises(errors.OutputError, match=f"^{out}: "):
        run(kind, out, audit_json="a.json")

    assert files_of(bundle) == before


@every_kind
@pytest.mark.parametrize("way", ["same", "dots", "absolute", "symlink", "hard link", "linked folder"])
@pytest.mark.parametrize("role", ["features", "evidence"])
@pytest.mark.parametrize("output", ["out", "audit_json"])
def test_an_output_that_is_an_input_is_refused(bundle, kind, way, role, output):
    name = "features.parquet" if role == "features" else f"{kind}.jsonl"
    link = f"link{Path(name).suffix}"
    if way == "symlink":
        (bundle / link).symlink_to(name)
    elif way == "hard link":
        (bundle / link).hardlink_to(name)
    elif way == "linked folder":
        (bundle / "linked").symlink_to(".")
    path = {"same": name, "dots": f"x/../{name}", "absolute": str(bundle / name)}.get(way, link)
    path = f"linked/{name}" if way == "linked folder" else path
    if way == "dots":
        (bundle / "x").mkdir()
    before = files_of(bundle)

    with pytest.raises(errors.OutputError, match="input"):
        run(kind, **{"out": "out.csv", output: path})

    assert files_of(bundle) == before


@every_kind
@pytest.mark.parametrize("audit", ["out.json", "./out.json", "x/../out.json"])
def test_a_table_and_an_audit_of_one_path_are_refused(bundle, kind, audit):
    before = files_of(bundle)

    with pytest.raises(errors.OutputError, match=r"is also the output out\.json"):
        run(kind, "out.json", audit_json=audit)

    assert files_of(bundle) == before


@pytest.mark.usefixtures("bundle")
def test_an_output_that_a_glob_of_the_run_reads_is_refused():
    FEATURES.write_parquet("shard1.parquet")
    FEATURES.write_parquet("shard2.parquet")

    with pytest.raises(errors.OutputError, match=r"shard2\.parquet"):
        run("scores", "shard2.parquet", features="shard*.parquet")


# --- notebooks ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
@every_kind
def test_audits_show_as_markdown_tables(kind):
    text = run(kind, "out.csv")._repr_markdown_()

    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in lines] == [7] * (4 if kind == "scores" else 3)


# --- what a careful reader of the tool found ------------------------------------------------------------


def test_ids_of_a_csv_that_are_equal_as_numbers_are_two_clips(tmp_path):
    (tmp_path / "f.csv").write_text("clip_id,vmaf\n1.10,1.10\n1.1,2\n1e5,3\n")
    (tmp_path / "s.csv").write_text("clip_id,score\n1.10,5\n1.1,9\n100000,7\n")

    audit = pm.materialize_scores("f.csv", "x=s.csv", "o.csv", base_dir=tmp_path)

    found = pm.scan_table(tmp_path / "o.csv").collect()
    assert found.select("clip_id", "vmaf", "second_opinion_x_score").rows() == [
        ("1.10", 1.1, 5),
        ("1.1", 2.0, 9),
        ("1e5", 3.0, None),
    ]
    assert audit.keys.distinct_values == 3


def test_a_named_key_column_of_a_csv_keeps_its_spelling(tmp_path):
    (tmp_path / "f.csv").write_text("Shot,vmaf\n1.10,1\n1.1,2\n")
    (tmp_path / "s.csv").write_text("Shot,score\n1.10,5\n1.1,9\n")

    pm.materialize_scores(
        "f.csv", "x=s.csv", "o.csv", base_dir=tmp_path, key_column="Shot", score_key_field="Shot"
    )

    assert (tmp_path / "o.csv").read_text().splitlines()[1].startswith("1.10,1,5.0,ok")


def test_ids_that_were_nullable_integers_once_stay_numbers(tmp_path):
    (tmp_path / "f.csv").write_text("clip_id,vmaf\n12.0,1\n,2\n13,3\n")
    (tmp_path / "s.jsonl").write_text('{"clip_id": 12, "score": 5}\n')

    audit = pm.materialize_scores("f.csv", "x=s.jsonl", "o.csv", base_dir=tmp_path)

    assert audit.competitors["x"].matched_rows == 1


@pytest.mark.parametrize("name", ["^x$", "*", "^clip.*$"])
def test_a_column_that_polars_takes_for_a_pattern_is_refused_by_name(name, tmp_path):
    pl.DataFrame({"clip_id": ["a"], name: [3]}).write_parquet(tmp_path / "f.parquet")
    (tmp_path / "s.jsonl").write_text('{"clip_id": "a", "score": 1}')

    for run in (
        lambda: pm.materialize_scores("f.parquet", "n=s.jsonl", "o.parquet", base_dir=tmp_path),
        lambda: pm.join_scores(
            pl.LazyFrame({"clip_id": ["a"], name: [3]}), pm.scan_scores("n=s.jsonl", base_dir=tmp_path)
        ),
    ):
        with pytest.raises(errors.TableError) as caught:
            run()
        assert repr(name) in str(caught.value)
    assert not (tmp_path / "o.parquet").exists()


def test_an_output_that_the_next_run_would_read_is_refused(tmp_path):
    (tmp_path / "sc").mkdir()
    (tmp_path / "f.csv").write_text("clip_id\na\n")
    (tmp_path / "sc" / "s.jsonl").write_text('{"clip_id": "a", "score": 1, "competitor": "x"}')

    for features, scores, out in (("f.csv", "sc", "sc/o.csv"), ("*.csv", "sc", "o.csv")):
        with pytest.raises(errors.OutputError, match="would be an input too"):
            pm.materialize_scores(features, scores, out, base_dir=tmp_path)
        assert not (tmp_path / out).exists()


def test_an_output_that_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")

    with pytest.raises(errors.OutputError, match="a device or a pipe"):
        pm.sink_table(pl.DataFrame({"a": [1]}), tmp_path / "pipe.csv")

    assert (tmp_path / "pipe.csv").is_fifo()


@pytest.mark.parametrize("name", ["value", "rows", "text", "key", "matched"])
def test_a_status_column_may_have_any_name_of_its_own(name):
    frame = pl.DataFrame({"clip_id": ["a", "b"]})
    labels = pl.DataFrame({"key": ["a"], "mos": [3.0]})

    result = pm.join_labels(frame, labels, status_column=name, min_match_rate=0.5)

    assert result.get_column(name).to_list() == ["ok", "missing-label"]


def test_a_frame_of_scores_without_rows_is_refused():
    empty = pl.DataFrame(schema={"scorer": pl.String, "key": pl.String, "score": pl.Float64})

    with pytest.raises(errors.OptionError, match="no rows"):
        pm.join_scores(pl.DataFrame({"clip_id": ["a"]}), empty)


# --- what tables of a batch share ---------------------------------------------------------------------


def memo_of(path):
    """A memo, what it is asked to read, and how often it has."""
    memo, reads = Memo(), []
    entries = [(Sidecar(str(path)), [File.of(path)])]

    def read():
        reads.append(path.read_text())
        return pl.DataFrame({"text": [path.read_text()]})

    return memo, entries, read, reads


def test_shared_evidence_is_read_once(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("a")
    memo, entries, read, reads = memo_of(path)

    found = [memo.read(entries, read, None).item() for _ in range(3)]

    assert (found, reads) == (["a"] * 3, ["a"])


def test_tables_side_by_side_wait_for_evidence_that_is_being_read(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("a")
    memo, entries, read, reads = memo_of(path)
    begun = threading.Barrier(2)

    def slowly():
        time.sleep(0.2)
        return read()

    def table(_):
        begun.wait()
        return memo.read(entries, slowly, None).item()

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(table, range(2)))

    assert (found, reads) == (["a", "a"], ["a"])


def test_shared_evidence_is_read_anew_where_files_or_options_differ(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("a")
    memo, entries, read, reads = memo_of(path)
    memo.read(entries, read, None)

    path.write_text("bc")

    assert memo.read(entries, read, None).item() == "bc"
    memo.read(entries, read, "another field")
    memo.read([(Sidecar(str(path), label="x"), entries[0][1])], read, None)
    assert len(reads) == 4


def test_evidence_that_cannot_be_read_is_not_kept(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("a")
    memo, entries, read, _ = memo_of(path)

    with pytest.raises(ZeroDivisionError):
        memo.read(entries, lambda: 1 / 0)

    assert memo.read(entries, read).item() == "a"


def test_evidence_beyond_the_limit_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "MEMO_BYTES", 0)
    path = tmp_path / "s.jsonl"
    path.write_text("a")
    memo, entries, read, reads = memo_of(path)

    assert [memo.read(entries, read).item() for _ in range(2)] == ["a", "a"]
    assert len(reads) == 2


@pytest.mark.parametrize("out", ["plain/o.csv", "plain/deep/o.parquet"])
def test_an_output_below_a_file_is_told_what_is_in_its_way(tmp_path, out):
    (tmp_path / "plain").write_text("a file")
    (tmp_path / "f.csv").write_text("clip_id\na\n")
    (tmp_path / "s.csv").write_text("clip_id,score\na,1\n")

    with pytest.raises(errors.OutputError, match=rf"^{out}: plain is a file; expected a folder$"):
        pm.materialize_scores("f.csv", "x=s.csv", out, base_dir=tmp_path)
    assert (tmp_path / "plain").read_text() == "a file"
