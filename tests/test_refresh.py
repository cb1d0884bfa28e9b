"""One pass for everything: the rows of the runs one after another, in one reading and one writing."""

from __future__ import annotations

import itertools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from written import described, files_of

import polars_materialize as pm
from polars_materialize import LabelPart, SaliencyOptions, ScorePart, errors, label_runs, score_runs
from polars_materialize.cli import main
from polars_materialize.options import LabelFile, Sidecar
from polars_materialize.reports import to_json

pytest.importorskip("av", reason="needs PyAV")

LABELS = LabelPart(files=["l.csv"], min_match_rate=0)
SCORES = ScorePart(files=["s.jsonl"])
SALIENCY = SaliencyOptions(root="clips")
WIDTH, HEIGHT = 16, 12


def evidence(folder="."):
    """Writes scores, labels, and raw clips."""
    folder = Path(folder)
    scores = [
        {"clip_id": "a", "competitor": "M", "score": 0.5, "runtime_ms": 2},
        {"clip_id": "b", "competitor": "M", "status": "broken", "score": 0.1},
        {"clip_id": "c", "competitor": "M", "score": 0.25},
        {"clip_id": "a", "competitor": "N", "score": [1, 2]},
        {"clip_id": "b", "competitor": "N", "score": 7},
        {"clip_id": "d", "competitor": "N", "score": 8},
    ]
    (folder / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    (folder / "l.csv").write_text(
        "clip_id,mos,std_dev,split\na,4.5,0.5,train\nb,3,,test\nd,1.5,1,train\nz,2,1,x\n"
    )
    (folder / "clips").mkdir(exist_ok=True)
    for index, name in enumerate("abc"):
        (folder / "clips" / f"{name}.yuv").write_bytes(clip(index))


def clip(seed):
    """Two frames of raw video."""
    picture = bytes((x * (seed + 3) + y * 7 + 40) % 200 for y in range(HEIGHT) for x in range(WIDTH))
    return (picture + bytes([128]) * (WIDTH * HEIGHT // 2)) * 2


def table(rows):
    """Rows of a feature table: what names the clip, and which frame it is."""
    return pl.DataFrame(
        {
            "clip_id": [name for name, _ in rows],
            "other": [None if name is None else f"x/{name}" for name, _ in rows],
            "src": [None if name is None else f"{name}.yuv" for name, _ in rows],
            "width": [WIDTH] * len(rows),
            "height": [HEIGHT] * len(rows),
            "frame": [frame for _, frame in rows],
        },
        schema_overrides={"clip_id": pl.String, "other": pl.String, "src": pl.String, "frame": pl.Int64},
    )


ROWS = [("a", 0), ("b", 0), ("b", 1), (None, 0), ("c", 0), ("a", 1), ("d", 0), ("e", 0)]


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A current folder with a feature table and evidence."""
    monkeypatch.chdir(tmp_path)
    evidence()
    table(ROWS).write_parquet("f.parquet")
    return tmp_path


def options_of(part):
    """The options of a part, less its files."""
    return {name: getattr(part, name) for name in part.__struct_fields__ if name != "files"}


def one_after_another(out, parts, features="f.parquet", suffix=".parquet"):
    """The three runs, each on the output of the one before."""
    steps = [(name, part) for name, part in parts.items() if part is not None]
    audits = {}
    for index, (name, part) in enumerate(steps):
        to = out if index == len(steps) - 1 else f"step{index}{suffix}"
        if name == "labels":
            audits[name] = pm.materialize_labels(features, part.files, to, **options_of(part))
        elif name == "scores":
            audits[name] = pm.materialize_scores(features, part.files, to, **options_of(part))
        else:
            audits[name] = pm.materialize_saliency(features, to, **options_of(part))
        features = to
    return audits


def counts_of(audit):
    """What an audit counts, less its paths and its provenance."""
    content = to_json(audit)
    ignored = {"run_provenance", "feature_table", "output", "input", "shards", "columns"}
    return {name: value for name, value in json.loads(content).items() if name not in ignored}


def same_as_three_runs(parts, suffix=".parquet"):
    """Checks that one pass gives the rows, the columns and the counts of the runs one after another."""
    singles = one_after_another(f"three{suffix}", parts, suffix=suffix)
    audit = pm.refresh_table("f.parquet", f"one{suffix}", **parts)
    three, one = (pm.scan_table(f"{name}{suffix}").collect() for name in ("three", "one"))
    assert_frame_equal(one, three, check_exact=True, categorical_as_str=True)
    assert one.schema == three.schema
    for name, single in singles.items():
        assert counts_of(getattr(audit, name)) == counts_of(single)
    assert audit.input_rows == pl.read_parquet("f.parquet").height
    assert audit.output_rows == one.height
    return audit


# --- the rows -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("missing", ["mark", "drop"])
@pytest.mark.parametrize("bad", ["mark", "drop"])
@pytest.mark.parametrize(
    "names", [c for n in (1, 2, 3) for c in itertools.combinations(("labels", "scores", "saliency"), n)]
)
def test_one_pass_gives_the_rows_of_the_runs_one_after_another(missing, bad, names):
    scores = ScorePart(files=["s.jsonl"], missing_policy=missing, bad_policy=bad)
    parts = {"labels": LABELS, "scores": scores, "saliency": SALIENCY}
    same_as_three_runs({name: part for name, part in parts.items() if name in names})


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".arrow", ".csv.gz"])
def test_every_format(suffix):
    same_as_three_runs({"labels": LABELS, "scores": SCORES, "saliency": SALIENCY}, suffix)


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    "parts",
    [
        {
            "labels": LabelPart(
                files=["l.csv"], feature_key_column="other", key_normalize="basename", min_match_rate=0
            )
        },
        {"scores": ScorePart(files=["s.jsonl"], key_column="other", key_normalize="basename")},
        {"scores": ScorePart(files=["s.jsonl"], key_column="src", key_normalize="stem")},
        {
            "labels": LabelPart(
                files=["l.csv"], feature_key_column="src", key_normalize="stem", min_match_rate=0
            )
        },
        {
            "saliency": SaliencyOptions(
                root="clips", width_column="", height_column="", default_width=16, default_height=12
            )
        },
        {"saliency": SaliencyOptions(root="clips", status_column="", model_id_column="m")},
        {"scores": ScorePart(files=[Sidecar("s.jsonl", duplicates="last")], prefix="p")},
        {
            "labels": LabelPart(
                files=[LabelFile("l.csv", scale="0:100")], status_column="st", min_match_rate=0
            )
        },
    ],
)
def test_options_of_parts(parts):
    same_as_three_runs({"labels": LABELS, "scores": SCORES, "saliency": SALIENCY} | parts)


@pytest.mark.usefixtures("bundle")
def test_clips_and_keys_of_one_column():
    saliency = SaliencyOptions(
        root="clips", width_column="w", height_column="h", default_width=WIDTH, default_height=HEIGHT
    )
    scores = ScorePart(files=["s.jsonl"], key_column="src", key_normalize="stem")
    audit = same_as_three_runs({"labels": None, "scores": scores, "saliency": saliency})
    assert audit.saliency.ok == 5


@pytest.mark.usefixtures("bundle")
def test_overwrite_replaces_columns_in_their_places():
    old = {"mos": 9.0, "second_opinion_m_score": 9.0, "saliency_mean": 9.0, "saliency_var": 9.0}
    lits = {name: pl.lit(value) for name, value in old.items()}
    frame = pl.read_parquet("f.parquet").with_columns(**lits).select(*old, pl.exclude(*old))
    frame.write_parquet("f.parquet")
    parts = {
        "labels": LabelPart(files=["l.csv"], overwrite=True, min_match_rate=0),
        "scores": ScorePart(files=["s.jsonl"], overwrite=True, missing_policy="drop"),
        "saliency": SaliencyOptions(root="clips", overwrite=True),
    }
    same_as_three_runs(parts)
    assert pl.read_parquet("one.parquet").columns[:4] == list(old)
    parts["saliency"] = SALIENCY
    audit = same_as_three_runs(parts)
    assert audit.saliency.ok == 0
    assert audit.saliency.skipped_existing == audit.output_rows
    with pytest.raises(errors.ColumnExistsError, match="'mos'"):
        pm.refresh_table("f.parquet", "o.parquet", **{**parts, "labels": LABELS})


rows = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", "e", None]), st.integers(0, 3)), max_size=12)


@settings(max_examples=25)
@given(
    content=rows,
    missing=st.sampled_from(["mark", "drop"]),
    bad=st.sampled_from(["mark", "drop"]),
    key=st.sampled_from(["clip_id", "other"]),
    names=st.sets(st.sampled_from(["labels", "scores", "saliency"]), min_size=1),
)
def test_any_table_in_one_pass(content, missing, bad, key, names):
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evidence()
        table(content).write_parquet("f.parquet")
        parts = {
            "labels": LABELS,
            "scores": ScorePart(
                files=["s.jsonl"],
                key_column=key,
                key_normalize="basename",
                missing_policy=missing,
                bad_policy=bad,
            ),
            "saliency": SALIENCY,
        }
        wanted = {name: part for name, part in parts.items() if name in names}
        try:
            one_after_another("three.parquet", wanted)
        except errors.PolicyError as error:  # no row would be left
            with pytest.raises(type(error)):
                pm.refresh_table("f.parquet", "one.parquet", **wanted)
        else:
            same_as_three_runs(wanted)


@pytest.mark.usefixtures("bundle")
def test_only_clips_of_rows_that_are_kept_are_measured():
    strict = ScorePart(files=["s.jsonl"], missing_policy="drop", bad_policy="drop")
    audit = pm.refresh_table("f.parquet", "one.parquet", scores=strict, saliency=SALIENCY)
    assert (audit.input_rows, audit.output_rows) == (8, 2)  # those of a
    assert (audit.saliency.clips.total, audit.saliency.clips.ok) == (1, 1)
    assert audit.saliency.total == 2
    everything = pm.refresh_table("f.parquet", "two.parquet", scores=SCORES, saliency=SALIENCY)
    assert everything.saliency.clips.total == 5
    assert everything.saliency.clips.ok == 3
    assert everything.failed == 3


@pytest.mark.usefixtures("bundle")
def test_shards_and_each_kind_of_output():
    parts = {"labels": LABELS, "scores": SCORES, "saliency": SALIENCY}
    pm.refresh_table("f.parquet", "whole.parquet", **parts)
    whole = pl.read_parquet("whole.parquet")
    for index in range(4):
        pm.sink_table(table(ROWS[index * 2 : index * 2 + 2]), f"t/{index}{('.parquet', '.csv')[index % 2]}")

    one = pm.refresh_table("t", "one.parquet", **parts)
    each = pm.refresh_table("t", "each/{stem}.parquet", **parts)
    folder = pm.refresh_table("t", "folder", partition_by=["split", "saliency_status"], **parts)

    for audit, written in ((one, 1), (each, 4), (folder, folder.shards.written)):
        assert (audit.shards.read, audit.shards.written) == (4, written)
        assert audit.labels.shards == audit.scores.shards == audit.saliency.shards == audit.shards
    assert_frame_equal(pl.read_parquet("one.parquet"), whole, categorical_as_str=True)
    assert_frame_equal(pm.scan_table("each").collect(), whole, categorical_as_str=True)
    found = pm.scan_table("folder").collect().sort("clip_id", "frame")
    assert_frame_equal(found, whole.sort("clip_id", "frame"), categorical_as_str=True)


# --- what is refused ----------------------------------------------------------------------------------


def refused(error, work, *parts):
    """Checks that work is refused in one line, and leaves everything as it was."""
    before = files_of()
    with pytest.raises(error) as info:
        work()
    message = str(info.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert files_of() == before
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"labels": LabelPart(files=["l.csv"], status_column="saliency_status", min_match_rate=0)},
            "labels and saliency would both write 'saliency_status'",
        ),
        (
            {"saliency": SaliencyOptions(root="clips", model_id_column="second_opinion_m_source")},
            "scores and saliency would both write 'second_opinion_m_source'",
        ),
        (
            {"labels": LabelPart(files=["l.csv"], status_column="src", overwrite=True, min_match_rate=0)},
            "labels would replace 'src', by which saliency knows its rows",
        ),
        (
            {"saliency": SaliencyOptions(root="clips", status_column="clip_id")},
            "saliency would replace 'clip_id', by which labels knows its rows",
        ),
    ],
)
def test_parts_that_collide_are_refused_before_anything_is_written(parts, message):
    given_parts = {"labels": LABELS, "scores": SCORES, "saliency": SALIENCY} | parts
    refused(
        errors.ColumnExistsError,
        lambda: pm.refresh_table("f.parquet", "out/o.parquet", audit_json="a.json", **given_parts),
        message,
    )


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({}, errors.OptionError, "expected at least one of labels scores saliency"),
        ({"labels": LabelPart(files=["l.csv"])}, errors.MatchRateError, "match rate 0.6000 (3 of 5"),
        (
            {"scores": ScorePart(files=["s.jsonl"], missing_policy="fail")},
            errors.MissingScoreError,
            "M: 3 rows without a score, 2 clips: 'd', 'e', 1 row of them without a key; N: 3 rows",
        ),
        ({"scores": ScorePart(files=["s.jsonl"], bad_policy="fail")}, errors.BadScoreError, "M: 2 rows"),
        ({"scores": ScorePart(files=[])}, errors.OptionError, "expected at least one sidecar"),
        ({"labels": LabelPart(files=["no.csv"])}, errors.MaterializeError, "no.csv: no such file"),
        ({"saliency": SaliencyOptions(path_column="clip")}, errors.KeyColumnError, "no path column 'clip'"),
        ({"saliency": SaliencyOptions(max_frames=0)}, errors.OptionError, "max_frames"),
    ],
)
def test_guards_of_parts_refuse_the_table(parts, error, message):
    rest = {} if not parts else {"saliency": SALIENCY}
    refused(error, lambda: pm.refresh_table("f.parquet", "o.parquet", **{**rest, **parts}), message)


# --- audits -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
def test_the_audit_and_the_footer(networks):
    shutil.copy(networks / "block.onnx", "net.onnx")
    saliency = SaliencyOptions(root="clips", model_path="net.onnx")
    audit = pm.refresh_table(
        "f.parquet", "o.parquet", audit_json="a.json", labels=LABELS, scores=SCORES, saliency=saliency
    )

    stored = json.loads(Path("a.json").read_text())
    assert stored["schema"] == "refresh-materializer-audit-v1"
    assert (stored["feature_table"], stored["output"]) == ("f.parquet", "o.parquet")
    assert stored["shards"] == {"read": 1, "written": 1}
    assert stored["failed"] == audit.failed == stored["saliency"]["failed"] == 3
    provenance = stored["run_provenance"]
    missing = {"exists": False, "kind": "missing", "sha256": None, "bytes": None}
    assert provenance["entrypoint"]["run"] == "refresh_table"
    assert provenance["inputs"] == {
        "features": described("f.parquet"),
        "labels": [described("l.csv")],
        "scores": [described("s.jsonl")],
        "model_path": described("net.onnx"),
        "clips": [
            *(described(f"clips/{name}.yuv") for name in "abc"),
            *({"path": f"clips/{name}.yuv", **missing} for name in "de"),
        ],
    }
    assert provenance["outputs"] == {"out": described("o.parquet")}
    assert "onnxruntime" in provenance["versions"]
    assert provenance["args"]["scores"]["missing_policy"] == "mark"
    assert all(stored[name]["run_provenance"] == {} for name in ("labels", "scores", "saliency"))
    footer = json.loads(pl.read_parquet_metadata("o.parquet")["polars_materialize.audit"])
    unknown = {"path": "o.parquet", "exists": True, "kind": "file", "sha256": None, "bytes": None}
    assert footer == {**stored, "run_provenance": {**provenance, "outputs": {"out": unknown}}}
    markdown = audit._repr_markdown_()
    assert all(part in markdown for part in ("| Scorer |", "| Labels |", "| Status |"))


@pytest.mark.usefixtures("bundle")
def test_parts_that_a_table_lacks_are_null():
    pm.refresh_table("f.parquet", "o.parquet", audit_json="a.json", scores=SCORES)
    stored = json.loads(Path("a.json").read_text())
    assert stored["labels"] is None
    assert stored["saliency"] is None
    assert stored["failed"] == 0
    assert set(stored["run_provenance"]["inputs"]) == {"features", "scores"}


# --- manifests ----------------------------------------------------------------------------------------


def manifest(*tables, **top):
    """Writes a manifest."""
    Path("m.json").write_text(json.dumps({**top, "tables": tables}))
    return "m.json"


def entry(name="one", **fields):
    """A table of a manifest with everything."""
    return {
        "id": name,
        "features": "f.parquet",
        "out": f"{name}.parquet",
        "labels": {"files": ["l.csv"], "min_match_rate": 0},
        "scores": {"files": ["s.jsonl"]},
        "saliency": {"root": "clips"},
        **fields,
    }


def batch(path, **options):
    """Runs a manifest."""
    return pm.run_batch(path, kind="refresh", **options)


@pytest.mark.usefixtures("bundle")
def test_the_order_of_keys_in_a_manifest_does_not_matter():
    whole = entry(scores={"files": ["s.jsonl"], "missing_policy": "drop"})
    found = set()
    for names in itertools.permutations(("labels", "scores", "saliency", "features", "out", "id")):
        if names[3:] != ("features", "out", "id") and names[:3] != ("id", "out", "features"):
            continue
        assert batch(manifest({name: whole[name] for name in names})).status == "ok"
        footer = json.loads(pl.read_parquet_metadata("one.parquet")["polars_materialize.audit"])
        del footer["run_provenance"]["inputs"]["manifest"]  # another one each time
        found.add((pl.read_parquet("one.parquet").write_csv(), json.dumps(footer, sort_keys=True)))
    assert len(found) == 1


@pytest.mark.usefixtures("bundle")
def test_defaults_of_parts():
    defaults = {
        "labels": {"min_match_rate": 0.1, "status_column": "st"},
        "scores": {"prefix": "p", "missing_policy": "drop"},
        "saliency": {"root": "clips", "frame_samples": 1},
    }
    tables = [
        entry("all", labels={"files": ["l.csv"]}, saliency={}),
        {
            "id": "scores",
            "features": "f.parquet",
            "out": "s.csv",
            "scores": {"files": ["s.jsonl"], "prefix": "q"},
        },
        entry("no", labels=None, saliency={"frame_samples": 2}),
    ]

    report = batch(manifest(*tables, defaults=defaults))

    configs = [table["config"] for table in report.tables]
    assert configs[0]["labels"]["min_match_rate"] == 0.1
    assert configs[0]["labels"]["status_column"] == "st"
    assert configs[0]["scores"]["prefix"] == "p"
    assert configs[0]["saliency"]["frame_samples"] == 1
    assert configs[1]["scores"]["prefix"] == "q"
    assert configs[1]["scores"]["missing_policy"] == "drop"
    assert configs[1]["labels"] is None
    assert configs[1]["saliency"] is None
    assert configs[2]["labels"] is None
    assert (configs[2]["saliency"]["frame_samples"], configs[2]["saliency"]["root"]) == (2, "clips")
    assert "st" in pl.read_parquet_schema("all.parquet")
    assert report.tables[1]["summary"]["output_rows"] == 4


@pytest.mark.usefixtures("bundle")
def test_formats_of_parts():
    Path("own.csv").write_text("who,how\na,80\nb,20\n")
    Path("opinion.jsonl").write_text('{"who": "a", "value": 3}\n{"who": "b", "value": 4}\n')
    formats = {
        "labels": {"mine": {"key_column": ["who"], "mos_column": ["how"], "scale": "0:100"}},
        "scores": {"mine": {"key_field": ["who"], "score_field": ["value"], "label": "own"}},
    }
    fields = {
        "labels": {"files": [{"path": "own.csv", "format": "mine"}], "min_match_rate": 0},
        "scores": {"files": [{"path": "opinion.jsonl", "format": "mine"}]},
    }
    report = batch(manifest(entry(saliency=None, **fields), formats=formats))
    assert report.tables[0].get("error") is None
    found = pl.read_parquet("one.parquet")
    assert found["second_opinion_own_score"].to_list()[:3] == [3, 4, 4]
    assert report.tables[0]["summary"]["labels"]["label_sources"][0]["format"] == "mine"


@pytest.mark.usefixtures("bundle")
def test_the_report():
    tables = [
        entry("one", audit_json="one.json"),
        entry("two", features="no.parquet"),
        entry("three", saliency=None),
    ]

    report = batch(manifest(*tables), report_json="r.json", report_md="r.md")

    stored = json.loads(Path("r.json").read_text())
    assert stored["schema"] == "refresh-materializer-batch-v1"
    assert stored["status"] == report.status == "failed"
    assert [table["status"] for table in stored["tables"]] == ["row-failures", "error", "ok"]
    assert stored["tables"][1]["error"] == "no.parquet: no such file"
    assert stored["summary"] == {
        "tables": 3,
        "failed_tables": 1,
        "input_rows": 16,
        "output_rows": 16,
        "failed": 3,
    }
    summary = stored["tables"][0]["summary"]
    audit = json.loads(Path("one.json").read_text())
    assert summary == {name: audit[name] for name in summary}
    assert set(summary) == {"input_rows", "output_rows", "failed", "labels", "scores", "saliency", "shards"}
    assert [file["path"] for file in stored["run_provenance"]["outputs"]["tables"]] == [
        *("one.parquet", "one.json", "three.parquet"),
    ]
    assert set(stored["run_provenance"]["inputs"]) == {
        *("features", "labels", "scores", "clips", "model_path", "manifest"),
    }
    text = Path("r.md").read_text()
    assert text.startswith("# Refresh batch report\n")
    assert "| one | row-failures | 8 | 8 | 3 | one.parquet |" in text


@pytest.mark.usefixtures("bundle")
def test_tables_that_share_sidecars_read_them_once(monkeypatch):
    calls = []
    for module, name in ((label_runs, "read_labels"), (score_runs, "read_scores")):
        real = getattr(module, name)

        def counted(*args, real=real, name=name, **options):
            calls.append(name)
            return real(*args, **options)

        monkeypatch.setattr(module, name, counted)
    report = batch(manifest(entry("one", saliency=None), entry("two", saliency=None)))
    assert report.status == "ok"
    assert sorted(calls) == ["read_labels", "read_scores"]
    assert Path("one.parquet").exists()
    assert_frame_equal(
        pl.read_parquet("one.parquet"), pl.read_parquet("two.parquet"), categorical_as_str=True
    )


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("fields", "top", "message"),
    [
        ({"score": {}}, {}, "$.tables[0].score: unknown name; did you mean 'scores'?"),
        ({"scores": {"files": ["s.jsonl"], "prefx": "p"}}, {}, "$.tables[0].scores.prefx: unknown name"),
        (
            {"scores": {"files": [{"path": "s.jsonl", "lable": "p"}]}},
            {},
            "$.tables[0].scores.files[0].lable: ",
        ),
        ({"scores": {}}, {}, "$.tables[0].scores: 'files' is missing"),
        ({"scores": []}, {}, "$.tables[0].scores: "),
        ({"scores": {"files": "s.jsonl"}}, {}, "$.tables[0].scores.files: "),
        (
            {"scores": {"files": ["s.jsonl"], "bad_policy": "dorp"}},
            {},
            "$.tables[0].scores.bad_policy: unknown choice",
        ),
        ({"labels": {"files": ["l.csv"], "min_match_rate": 2}}, {}, "$.tables[0].labels.min_match_rate: "),
        ({"labels": {"files": [{"path": "l.csv", "scale": "x"}]}}, {}, "$.tables[0].labels.files[0].scale: "),
        ({"saliency": {"max_frames": 0}}, {}, "$.tables[0].saliency.max_frames: "),
        ({"saliency": {"max_frame": 1}}, {}, "$.tables[0].saliency.max_frame: unknown name"),
        ({"out": "o.txt"}, {}, "$.tables[0].out: o.txt: unknown kind of table"),
        ({"out": "o.txt", "labels": None, "scores": None}, {}, "$.tables[0].out: o.txt: unknown kind"),
        ({"out": "l.csv"}, {}, "$.tables[0].out: is also an input, $.tables[0].labels.files[0]"),
        (
            {"audit_json": "s.jsonl"},
            {},
            "$.tables[0].audit_json: is also an input, $.tables[0].scores.files[0]",
        ),
        (
            {"saliency": {"model_path": "n.onnx"}, "audit_json": "n.onnx"},
            {},
            "$.tables[0].saliency.model_path",
        ),
        ({"labels": None, "scores": None, "saliency": None}, {}, "$.tables[0]: expected at least one of"),
        ({}, {"defaults": {"prefix": "p"}}, "$.defaults.prefix: unknown name"),
        ({}, {"defaults": {"scores": {"files": []}}}, "$.defaults.scores.files: unknown name"),
        ({}, {"defaults": {"labels": {"min_match_rate": "x"}}}, "$.defaults.labels.min_match_rate: "),
        ({}, {"formats": {"mine": {}}}, "$.formats.mine: unknown name; expected labels or scores"),
        ({}, {"formats": {"score": {}}}, "$.formats.score: unknown name; did you mean 'scores'?"),
        ({}, {"formats": {"scores": {"mine": {"kee": "x"}}}}, "$.formats.scores.mine.kee: unknown name"),
        (
            {"scores": {"files": [{"path": "s.jsonl", "format": "dovr"}]}},
            {},
            "$.tables[0].scores.files[0].format: ",
        ),
    ],
)
def test_wrong_manifests_name_the_place(fields, top, message):
    manifest(entry(**fields), **top)
    refused(errors.ManifestError, lambda: batch("m.json"), message)


# --- the command line ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
def test_the_command_line(capsys):
    command = ["refresh", "table", "--features", "f.parquet", "--out", "o.parquet", "--labels", "l.csv"]
    command += ["--scores", "s.jsonl", "--label-options", '{"min_match_rate": 0}']
    assert main([*command, "--audit-json", "a.json"]) == 0
    assert capsys.readouterr().err == "refresh materialize: input_rows=8 output_rows=8 failed=0\n"
    audit = json.loads(Path("a.json").read_text())
    assert audit["run_provenance"]["argv"] == [*command, "--audit-json", "a.json"]
    assert audit["run_provenance"]["entrypoint"]["run"] == "refresh table"
    options = ["--saliency-options", '{"root": "clips"}', "--score-options", '{"missing_policy": "drop"}']
    assert main([*command, *options]) == 0
    assert capsys.readouterr().err == "refresh materialize: input_rows=8 output_rows=4 failed=0\n"
    assert main([*command, *options[:2]]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "refresh materialize: input_rows=8 output_rows=8 failed=3"
    entries = [
        "--scores",
        '{"path": "s.jsonl", "duplicates": "last"}',
        "--saliency-options",
        '{"root": "clips"}',
    ]
    assert main(["refresh", "table", "--features", "f.parquet", "--out", "p.parquet", *entries]) == 1
    assert pl.read_parquet("p.parquet")["saliency_status"].null_count() == 0


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "expected at least one of labels scores saliency"),
        (
            ["--label-options", "{}"],
            2,
            "--label-options: --labels is missing",
        ),
        (["--scores", "s.jsonl", "--score-options", "{"], 2, "--score-options: line 1, column 2: not JSON: "),
        (
            ["--scores", "s.jsonl", "--score-options", "[]"],
            2,
            "--score-options: $: expected an object",
        ),
        (
            ["--scores", "s.jsonl", "--score-options", '{"prefx": 1}'],
            2,
            "--score-options: $.prefx: unknown name; did you mean 'prefix'?; expected one of allow_folding ",
        ),
        (
            ["--scores", "s.jsonl", "--score-options", '{"prefix": 1}'],
            2,
            "--score-options: $.prefix: expected str, got int",
        ),
        (["--saliency-options", '{"max_frames": 0}'], 2, "max_frames"),
        (["--saliency-options", "null"], 2, "--saliency-options: $: expected an object"),
        (["--scores", '{"path": 1}'], 2, '--scores {"path": 1}: $.path: expected str, got int'),
        (["--scores", '{"path": "s.jsonl", "labl": "x"}'], 2, "$.labl: unknown name; did you mean 'label'?"),
        (["--scores", "s.jsonl", "--features", ""], 2, "features: ''; expected a path"),
        (["--scores", "s.jsonl", "--out", "o/{stm}.csv"], 2, "unknown {stm}; did you mean '{stem}'?"),
        (["--scores", "no.jsonl"], 1, "no.jsonl: no such file"),
        (["--labels", "l.csv"], 1, "match rate 0.6000"),
    ],
)
def test_mistakes_on_the_command_line(capsys, options, code, message):
    before = files_of()
    assert main(["refresh", "table", "--features", "f.parquet", "--out", "o.parquet", *options]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: ")
    assert message in said
    assert files_of() == before


@pytest.mark.usefixtures("bundle")
def test_batches_on_the_command_line(capsys):
    manifest(entry())
    command = ["refresh", "batch", "--manifest", "m.json"]
    assert main(command) == 1
    assert capsys.readouterr().err.splitlines() == [
        "table 'one': d.yuv: missing-source: No such file or directory",
        "table 'one': e.yuv: missing-source: No such file or directory",
        "table 'one': a row without a path: missing-source: the row names no clip",
        "refresh batch materialize: tables=1 input_rows=8 output_rows=8 failed=3 failed_tables=0",
    ]
    assert main([*command, "--allow-row-failures"]) == 0
    manifest(entry(), entry("two", features="no.csv"))
    capsys.readouterr()
    assert main([*command, "--allow-row-failures"]) == 1
    assert "table 'two': no.csv: no such file\n" in capsys.readouterr().err
    manifest(entry(saliency=None))
    assert main(command) == 0


# --- workers ------------------------------------------------------------------------------------------


class Counting(ThreadPoolExecutor):
    """Two threads, and how many tasks they were given."""

    def __init__(self):
        super().__init__(2)
        self.tasks = 0

    def submit(self, *task, **options):
        self.tasks += 1
        return super().submit(*task, **options)


@pytest.mark.usefixtures("bundle")
def test_the_clips_of_one_table_are_spread_over_workers():
    parts = {"labels": LABELS, "scores": SCORES, "saliency": SALIENCY}
    pm.refresh_table("f.parquet", "here.parquet", **parts)
    with Counting() as executor:
        pm.refresh_table("f.parquet", "there.parquet", **parts, executor=executor)

    assert executor.tasks == 3  # of five clips two are not there
    assert_frame_equal(pl.read_parquet("here.parquet"), pl.read_parquet("there.parquet"), check_exact=True)


@pytest.mark.usefixtures("bundle")
def test_of_a_batch_workers_are_given_clips_and_tables_without_clips():
    without = {name: part for name, part in entry("two").items() if name != "saliency"}
    path = manifest(entry("one"), without, {**without, "id": "three", "out": "three.parquet"}, entry("four"))
    results = []
    for executor in (None, Counting()):
        report = pm.run_batch(path, kind="refresh", report_json="r.json", executor=executor)
        results.append((files_of(), report.status))

    assert executor.tasks == 3 + 1 + 1 + 3
    assert results[0] == results[1]
    executor.shutdown()


@pytest.mark.usefixtures("bundle")
def test_a_command_may_use_processes_and_says_which_clips_failed(capsys):
    paths = ["--features", "f.parquet", "--out", "o.parquet", "--labels", "l.csv", "--scores", "s.jsonl"]
    own = ["--label-options", '{"min_match_rate": 0}', "--saliency-options", '{"root": "clips"}']

    assert main(["refresh", "table", *paths, *own, "--jobs", "2"]) == 1

    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[:2] for line in lines[:-1]] == [
        ["d.yuv", " missing-source"],
        ["e.yuv", " missing-source"],
        ["a row without a path", " missing-source"],
    ]
    assert lines[-1] == "refresh materialize: input_rows=8 output_rows=8 failed=3"
    pm.refresh_table("f.parquet", "here.parquet", labels=LABELS, scores=SCORES, saliency=SALIENCY)
    assert_frame_equal(pl.read_parquet("here.parquet"), pl.read_parquet("o.parquet"), check_exact=True)


# --- Python -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
def test_the_files_of_a_part_may_be_one_path():
    parts = {"labels": LabelPart(files="l.csv", min_match_rate=0), "scores": ScorePart(files="s.jsonl")}
    pm.refresh_table("f.parquet", "one.parquet", **parts)
    pm.refresh_table("f.parquet", "two.parquet", labels=LABELS, scores=SCORES)
    assert_frame_equal(pl.read_parquet("one.parquet"), pl.read_parquet("two.parquet"), check_exact=True)


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": ["s.jsonl"]}, "scores: a list; expected a ScorePart"),
        ({"labels": "l.csv"}, "labels: 'l.csv'; expected a LabelPart"),
        ({"labels": LabelPart(files=[])}, "labels.files: expected at least one label file"),
        ({"scores": SCORES, "base_dir": "nope"}, "base_dir: nope: no such folder"),
        ({"scores": SCORES, "base_dir": "l.csv"}, "base_dir: l.csv: is no folder"),
        (
            {"saliency": SALIENCY, "executor": "two"},
            "executor: 'two'; expected a concurrent.futures.Executor",
        ),
    ],
)
def test_wrong_options_are_named(options, message):
    before = files_of()
    with pytest.raises(errors.OptionError) as info:
        pm.refresh_table("f.parquet", "o.parquet", **options)
    assert str(info.value).startswith(message)
    assert files_of() == before


@pytest.mark.usefixtures("bundle")
def test_the_place_of_a_parts_files_in_a_manifest():
    with pytest.raises(errors.ManifestError, match=r"\$.tables\[0\].labels.files: expected at least one"):
        pm.run_batch(manifest(entry(labels={"files": []})), kind="refresh")
