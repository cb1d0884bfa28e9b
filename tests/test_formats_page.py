"""The entries of the page on formats read the files that it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import polars_materialize as pm
from polars_materialize.cli import main
from polars_materialize.labels import key_labels
from polars_materialize.scores import key_scores

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
TEXT = PAGE.read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"^`([^`\n]+)`:\n\n```text\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
IN_PYTHON = {
    "features.csv": "path\nclips/a.mp4\n",
    "dover.csv": "path, aesthetic score, technical score, overall/final score\n./in/a.mp4, 1.0, 2.0,3.0\n",
}
"""What the page writes in Python."""
ENTRIES = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with all the files of the page."""
    monkeypatch.chdir(tmp_path)
    for name, text in {**IN_PYTHON, **SHOWN}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def name_of(entry):
    """What to call a block of JSON in a report."""
    return entry.get("path") or entry.get("id") or entry["tables"][0]["id"]


@pytest.mark.parametrize("entry", [e for e in ENTRIES if "path" in e], ids=name_of)
def test_an_entry_reads_what_stands_above_it(entry):
    scores = pm.scan_scores(pm.Sidecar(**entry)).collect()

    assert scores.height > 0
    assert scores["scorer"].null_count() == 0
    if "format" in entry:
        assert set(scores["format"]) == {entry["format"]}
        assert entry["format"] in pm.list_formats().scores


@pytest.mark.parametrize("entry", [e for e in ENTRIES if "path" not in e], ids=name_of)
def test_a_table_gives_every_row_its_evidence(entry):
    manifest = entry if "tables" in entry else {"tables": [entry]}
    Path("manifest.json").write_text(json.dumps(manifest))
    kind = "mos-labels" if "labels" in manifest["tables"][0] else "second-opinion"

    report = pm.run_batch("manifest.json", kind=kind)

    for table in report.tables:
        assert table["status"] == "ok", table
        if kind == "mos-labels":
            assert table["summary"]["match_rate"] == 1
            assert table["summary"]["missing_rows"] == 0
        else:
            rows = table["summary"]["input_rows"]
            assert {c["matched_rows"] for c in table["summary"]["competitors"].values()} == {rows}


def test_the_page_names_every_format_and_reads_most():
    known = {*pm.list_formats().scores, *pm.list_formats().labels}

    assert {name for name in known if f"`{name}`" not in TEXT} == set()
    assert {name for name in known if f'"{name}"' not in TEXT} == set()


@pytest.mark.parametrize(
    ("command", "said"),
    re.findall(r"^```console\n\$ polars-materialize ([^\n]*)\n(.*?)^```$", TEXT, re.S | re.M),
)
def test_commands_of_the_page_say_what_it_says(command, said, capsys):
    assert main(command.split()) == 0
    assert capsys.readouterr().out == said


def first(path, **entry):
    """The first score that an entry reads, and its key when it has been made."""
    found = pm.scan_scores(pm.Sidecar(path, **entry)).collect()
    keyed = key_scores(found, "auto")
    return keyed.item(0, "scorer"), keyed.item(0, "key"), keyed.item(0, "score")


def test_what_the_page_says_of_an_entry_in_a_sentence(folder):
    log = (folder / "vmaf" / "clip_a.json").read_text()
    (folder / "named").mkdir()
    for name in ("clip_a", "clip_a.vmaf", "clip_a.mp4", "clip_b.mp4.vmaf", "clip_c_vmaf"):
        (folder / "named" / f"{name}.json").write_text(log.replace('"vmaf":', '"vmaf_neg":'))
    neg = {"score_field": "pooled_metrics.vmaf_neg.mean", "label": "vmaf_neg"}
    own = {**neg, "key_regex": r"^(.+?)(?:[._]vmaf)?$"}
    ugc = {"key_normalize": "stem", "key_regex": r"^(.+?)(?:_crf_\d+_ss_\d+_t_[0-9.]+|_orig)?$"}

    technical = first("dover/predictions.csv", score_field="technical score", label="dover-technical")
    lpips = first("clip_a_q48.lpips.json", key_field="metadata.distorted_video")
    logs = [first(f"named/clip_a{end}.json", **neg)[1] for end in ("", ".vmaf", ".mp4")]
    others = [first(f"named/{name}.json", **neg)[1] for name in ("clip_b.mp4.vmaf", "clip_c_vmaf")]
    mended = [first(f"named/{name}.json", **own)[1] for name in ("clip_a.vmaf", "clip_c_vmaf")]

    assert technical == ("dover-technical", "17734.mp4", 53.66)
    assert lpips[1] == "clip_a_q48.mkv"
    assert logs == ["clip_a"] * 3
    assert others == ["clip_b", "clip_c_vmaf"]
    assert mended == ["clip_a", "clip_c"]
    assert first("named/clip_a.json", **neg) == ("vmaf_neg", "clip_a", 82.0)
    assert first("uvq.csv", format="uvq-csv", **ugc)[1] == "Gaming_1080P-000a"
    assert first("uvq.json", score_field="per_frame_scores", pooling="min", label="uvq")[2] == 3.674
    assert first("tf/*.csv", **{k: v for k, v in named("tf/*_uvq.csv").items() if k != "path"})[2] == 3.792
    assert first("dover/zero_shot_res_sensehdr.txt", format="dover-log", duplicates="last")[1:] == (
        "1724.mp4",
        41.0,
    )
    with pytest.raises(pm.MaterializeError, match="expected 2 cells, found 3"):
        first("tf/Gaming_1080P-000a_uvq.csv", format="uvq-csv")
    (folder / "old.txt").write_text("I03.bmp\t62.4\n")
    with pytest.raises(pm.MaterializeError, match="expected 2 cells, found 1"):
        first("old.txt", format="pyiqa-csv", label="musiq")
    (folder / "less.csv").write_text("Frame,integer_adm2,integer_motion2,vmaf,\n0,1,2,3,\n1,2,3,\n")
    with pytest.raises(pm.MaterializeError, match=r"less\.csv:3: expected 5 cells, found 4"):
        first("less.csv")


def named(path):
    """The entry of the page that reads a path."""
    return next(entry for entry in ENTRIES if entry.get("path") == path)


def test_what_the_page_says_of_label_files_in_a_sentence(folder):
    (folder / "lsvq.txt").write_text("yfcc-batch1/725.mp4, -1, -1, 71.25\n")
    lsvq = pm.LabelFile(
        "lsvq.txt", format="dover-labels", scale="0:100", key_normalize="raw", key_regex=r"^(.+)\.mp4$"
    )
    aesthetic = pm.LabelFile("lists/val_labels.txt", format="divide-3k", mos_column="aesthetic_mos")
    (folder / "sheet.csv").write_text(
        "vid,category,MOS full,# Subjects,std full\na,X,3.2,120,0.7\nb,X,NaN,,\n"
    )

    sheet = pm.materialize_labels("own.csv", "sheet.csv", "out/sheet.parquet", min_match_rate=0.5)

    assert key_labels(pm.scan_labels(lsvq).collect(), "auto").labels["key"].to_list() == ["yfcc-batch1/725"]
    assert pm.scan_labels(aesthetic).collect()["value"].to_list() == [3.41, 2.14]
    assert [(s.format, s.rows_without_mos) for s in sheet.label_sources] == [("youtube-ugc", 1)]
