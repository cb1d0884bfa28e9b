"""Manifests: read whole and checked whole, before anything runs."""

from __future__ import annotations

import json

import pytest

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.cli import main

SCORES = {"id": "one", "features": "f.csv", "scores": ["m=s.jsonl"], "out": "out/one.csv"}
LABELS = {"id": "one", "features": "f.csv", "labels": ["l.csv"], "out": "out/one.csv"}
TABLE = {"second-opinion": SCORES, "mos-labels": LABELS}
KINDS = list(TABLE)
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def bundle(tmp_path):
    """A folder with everything that the first table of a manifest needs."""
    (tmp_path / "f.csv").write_text("clip_id,vmaf\na,90\nb,40\n")
    (tmp_path / "s.jsonl").write_text('{"clip_id": "a", "score": 0.5}\n{"clip_id": "b", "score": 0.6}\n')
    (tmp_path / "l.csv").write_text("clip_id,mos\na,3\nb,4\n")
    return tmp_path


def second(kind, **changes):
    """A second table that differs from the first in its id and its output."""
    return {**TABLE[kind], "id": "two", "out": "out/two.csv", **changes}


def write(bundle, content):
    """Writes a manifest, from text or from values."""
    path = bundle / "manifest.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def files_of(folder):
    """Every file below a folder, with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(bundle, kind, content, capsys, *options):
    """The one line that the command line says of a manifest that it must refuse whole."""
    path = write(bundle, content)
    before = files_of(bundle)

    status = main([kind, "batch", "--manifest", str(path), *options])

    shown = capsys.readouterr()
    assert status == 2
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert files_of(bundle) == before
    assert not (bundle / "out").exists()
    prefix = f"error: {path}: "
    assert shown.err.startswith(prefix)
    return shown.err.removeprefix(prefix)


# --- the first table alone is well --------------------------------------------------------------------


@every_kind
def test_the_manifest_that_the_others_break_is_well(bundle, kind):
    path = write(bundle, {"tables": [TABLE[kind], second(kind)]})

    report = pm.run_batch(path, kind=kind)

    assert report.status == "ok"
    assert (bundle / "out" / "one.csv").exists()
    assert (bundle / "out" / "two.csv").exists()


# --- JSON ---------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "line 1"),
        ('{"tables":\n nope}', "line 2"),
        ('{"tables": []', "line 1"),
        ("[]", "$: "),
        ("3", "$: "),
        ("null", "$: "),
    ],
)
def test_text_that_is_no_manifest(bundle, kind, text, place, capsys):
    assert refusal(bundle, kind, text, capsys).startswith(place)


@every_kind
def test_a_name_twice_in_one_object(bundle, kind, capsys):
    text = json.dumps({"tables": [TABLE[kind]]}).replace('"id": "one"', '"id": "one", "id": "uno"')

    assert "'id'" in refusal(bundle, kind, text, capsys)


@every_kind
def test_a_manifest_that_is_not_there(bundle, kind, capsys):
    status = main([kind, "batch", "--manifest", str(bundle / "no.json")])

    shown = capsys.readouterr().err
    assert status == 2
    assert shown.startswith(f"error: {bundle / 'no.json'}: ")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b'{"tables": "\xff"}'])
def test_a_manifest_that_is_not_utf_8(bundle, content):
    (bundle / "manifest.json").write_bytes(content)

    with pytest.raises(errors.ManifestError, match="UTF-8"):
        pm.run_batch(bundle / "manifest.json")


def test_a_byte_order_mark_is_fine(bundle):
    (bundle / "manifest.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"tables": [SCORES]}).encode())

    assert pm.run_batch(bundle / "manifest.json").status == "ok"


def test_deep_nesting_is_no_crash(bundle, capsys):
    refusal(bundle, "second-opinion", '{"tables": ' + "[" * 200_000, capsys)


# --- names, types and choices -------------------------------------------------------------------------


def tables(kind, **changes):
    """A manifest whose second table is changed."""
    return {"tables": [TABLE[kind], second(kind, **changes)]}


def without(kind, name):
    """A manifest whose second table lacks a name."""
    content = tables(kind)
    del content["tables"][1][name]
    return content


@every_kind
@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"table": []}, "$.table: "),
        ({"Tables": []}, "$.Tables: "),
        ({"comment": "x"}, "$.comment: "),
        ({"tables": []}, "$.tables: "),
        ({"tables": {}}, "$.tables: "),
        ({"tables": None}, "$.tables: "),
        ({"tables": ["x"]}, "$.tables[0]: "),
        ({"tables": [[]]}, "$.tables[0]: "),
        ({"defaults": []}, "$.defaults: "),
        ({"defaults": None}, "$.defaults: "),
        ({"defaults": {"id": "x"}}, "$.defaults.id: "),
        ({"defaults": {"features": "x"}}, "$.defaults.features: "),
        ({"defaults": {"out": "x"}}, "$.defaults.out: "),
        ({"$schema": 3}, "$.$schema: "),
        ({"defaults": {"key_normalize": "all"}}, "$.defaults.key_normalize: "),
        ({"defaults": {"overwrite": 1}}, "$.defaults.overwrite: "),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_the_top_and_the_defaults(bundle, kind, change, place, capsys):
    content = {"tables": [TABLE[kind]], **change}

    assert refusal(bundle, kind, content, capsys).startswith(place)


@every_kind
def test_no_tables_at_all(bundle, kind, capsys):
    assert refusal(bundle, kind, {}, capsys).startswith("$.tables: ")


@pytest.mark.parametrize(
    ("kind", "changes", "place"),
    [
        ("second-opinion", {"missing_policy": "fails"}, "$.tables[1].missing_policy: "),
        ("second-opinion", {"missing_policy": None}, "$.tables[1].missing_policy: "),
        ("second-opinion", {"bad_policy": "MARK"}, "$.tables[1].bad_policy: "),
        ("second-opinion", {"key_normalize": 3}, "$.tables[1].key_normalize: "),
        ("second-opinion", {"key_column": ["a"]}, "$.tables[1].key_column: "),
        ("second-opinion", {"score_field": 1}, "$.tables[1].score_field: "),
        ("second-opinion", {"score_key_field": {}}, "$.tables[1].score_key_field: "),
        ("second-opinion", {"prefix": 7}, "$.tables[1].prefix: "),
        ("second-opinion", {"prefix": "  "}, "$.tables[1].prefix: "),
        ("second-opinion", {"overwrite": "yes"}, "$.tables[1].overwrite: "),
        ("second-opinion", {"label_scale": "1:5"}, "$.tables[1].label_scale: "),
        ("second-opinion", {"min_match_rate": "0.5"}, "$.tables[1].min_match_rate: "),
        ("second-opinion", {"min_match_rate": 1.5}, "$.tables[1].min_match_rate: "),
        ("second-opinion", {"allow_folding": "yes"}, "$.tables[1].allow_folding: "),
        (
            "second-opinion",
            {"scores": [{"path": "s.jsonl", "key_regex": ""}]},
            "$.tables[1].scores[0].key_regex: ",
        ),
        ("mos-labels", {"feature_key_regex": ""}, "$.tables[1].feature_key_regex: "),
        ("mos-labels", {"label_key_regex": ""}, "$.tables[1].label_key_regex: "),
        ("mos-labels", {"labels": [{"path": "l.csv", "key_regex": ""}]}, "$.tables[1].labels[0].key_regex: "),
        ("second-opinion", {"labels": ["l.csv"]}, "$.tables[1].labels: "),
        ("second-opinion", {"misisng_policy": "fail"}, "$.tables[1].misisng_policy: "),
        ("second-opinion", {"scores": "s.jsonl"}, "$.tables[1].scores: "),
        ("second-opinion", {"scores": []}, "$.tables[1].scores: "),
        ("second-opinion", {"scores": ["m=s.jsonl", 3]}, "$.tables[1].scores[1]: "),
        ("second-opinion", {"scores": [""]}, "$.tables[1].scores[0]: "),
        ("second-opinion", {"scores": ["!=s.jsonl"]}, "$.tables[1].scores[0]: "),
        ("second-opinion", {"scores": ["m=s.jsonl", {"label": "m"}]}, "$.tables[1].scores[1]"),
        ("second-opinion", {"scores": [{"path": "s.jsonl", "lable": "m"}]}, "$.tables[1].scores[0]"),
        ("second-opinion", {"scores": [{"path": 3}]}, "$.tables[1].scores[0].path: "),
        (
            "second-opinion",
            {"scores": [{"path": "s.jsonl", "key_normalize": "all"}]},
            "$.tables[1].scores[0].key_normalize: ",
        ),
        ("second-opinion", {"scores": [{"path": "s.jsonl", "key_regex": "("}]}, "$.tables[1].scores[0]"),
        ("mos-labels", {"missing_policy": "mark"}, "$.tables[1].missing_policy: "),
        ("mos-labels", {"scores": ["s.jsonl"]}, "$.tables[1].scores: "),
        ("mos-labels", {"key_column": "clip_id"}, "$.tables[1].key_column: "),
        ("mos-labels", {"labels": "l.csv"}, "$.tables[1].labels: "),
        ("mos-labels", {"labels": []}, "$.tables[1].labels: "),
        ("mos-labels", {"labels": ["l.csv", None]}, "$.tables[1].labels[1]: "),
        ("mos-labels", {"labels": [""]}, "$.tables[1].labels[0]: "),
        ("mos-labels", {"labels": [{"key_column": "x"}]}, "$.tables[1].labels[0]"),
        ("mos-labels", {"labels": [{"path": "l.csv", "mos": "x"}]}, "$.tables[1].labels[0]"),
        ("mos-labels", {"labels": [{"path": "l.csv", "columns": "a"}]}, "$.tables[1].labels[0].columns: "),
        (
            "mos-labels",
            {"labels": [{"path": "l.csv", "columns": ["a", 1]}]},
            "$.tables[1].labels[0].columns[1]: ",
        ),
        ("mos-labels", {"labels": [{"path": "l.csv", "columns": []}]}, "$.tables[1].labels[0]"),
        ("mos-labels", {"labels": [{"path": "l.csv", "columns": ["a", "a"]}]}, "$.tables[1].labels[0]"),
        ("mos-labels", {"labels": [{"path": "l.csv", "key_regex": "("}]}, "$.tables[1].labels[0]"),
        ("mos-labels", {"labels": [{"path": "l.csv", "scale": "5:1"}]}, "$.tables[1].labels[0]"),
        ("mos-labels", {"label_scale": "5:1"}, "$.tables[1].label_scale: "),
        ("mos-labels", {"label_scale": 5}, "$.tables[1].label_scale: "),
        ("mos-labels", {"label_key_regex": "(?=x)"}, "$.tables[1].label_key_regex: "),
        ("mos-labels", {"feature_key_regex": "["}, "$.tables[1].feature_key_regex: "),
        ("mos-labels", {"key_normalize": "auot"}, "$.tables[1].key_normalize: "),
        ("mos-labels", {"min_match_rate": "0.5"}, "$.tables[1].min_match_rate: "),
        ("mos-labels", {"min_match_rate": 1.5}, "$.tables[1].min_match_rate: "),
        ("mos-labels", {"min_match_rate": -1}, "$.tables[1].min_match_rate: "),
        ("mos-labels", {"min_match_rate": True}, "$.tables[1].min_match_rate: "),
        ("mos-labels", {"status_column": ""}, "$.tables[1].status_column: "),
        ("mos-labels", {"status_column": "mos"}, "$.tables[1].status_column: "),
        ("mos-labels", {"status_column": None}, "$.tables[1].status_column: "),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_options_and_entries_of_a_table(bundle, kind, changes, place, capsys):
    assert refusal(bundle, kind, tables(kind, **changes), capsys).startswith(place)


@every_kind
@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"id": ""}, "$.tables[1].id: "),
        ({"id": " "}, "$.tables[1].id: "),
        ({"id": 7}, "$.tables[1].id: "),
        ({"id": "one"}, "$.tables[1].id: "),
        ({"features": None}, "$.tables[1].features: "),
        ({"out": ["x.csv"]}, "$.tables[1].out: "),
        ({"out": "x.xlsx"}, "$.tables[1].out: "),
        ({"out": "x"}, "$.tables[1].out: "),
        ({"out": "x\0.csv"}, "$.tables[1].out: "),
        ({"audit_json": 1}, "$.tables[1].audit_json: "),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_ids_and_paths_of_a_table(bundle, kind, changes, place, capsys):
    assert refusal(bundle, kind, tables(kind, **changes), capsys).startswith(place)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in KINDS for name in TABLE[kind]],
)
def test_a_table_without_a_name_that_it_needs(bundle, kind, name, capsys):
    told = refusal(bundle, kind, without(kind, name), capsys)

    assert told.startswith("$.tables[1]")
    assert name in told


def test_the_words_of_a_choice_are_listed_and_the_nearest_is_offered(bundle, capsys):
    told = refusal(bundle, "second-opinion", tables("second-opinion", missing_policy="fials"), capsys)

    assert all(word in told for word in ("'fials'", "did you mean 'fail'", "mark drop fail"))


def test_the_first_place_of_several_is_named(bundle, capsys):
    content = {"tables": [{**SCORES, "missing_policy": "x"}, second("second-opinion", bad_policy="y")]}

    told = refusal(bundle, "second-opinion", content, capsys)

    assert told.startswith("$.tables[0].missing_policy: ")
    assert "bad_policy" not in told


# --- paths that collide -------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"out": "out/one.csv"}, "$.tables[1].out: "),
        ({"out": "out/../out/./one.csv"}, "$.tables[1].out: "),
        ({"audit_json": "out/one.csv"}, "$.tables[1].audit_json: "),
        ({"audit_json": "out/two.csv"}, "$.tables[1].audit_json: "),
        ({"out": "f.csv"}, "$.tables[1].out: "),
        ({"out": "x/../f.csv"}, "$.tables[1].out: "),
        ({"audit_json": "f.csv"}, "$.tables[1].audit_json: "),
        ({"audit_json": "manifest.json"}, "$.tables[1].audit_json: "),
        ({"features": "out/one.csv"}, "$.tables[0].out: "),
        ({"features": "out/*.csv"}, "$.tables[0].out: "),
        ({"features": "**/*.csv"}, "$.tables[0].out: "),
        ({"features": "out/**/*.csv"}, "$.tables[0].out: "),
        ({"features": "out/**/one.csv"}, "$.tables[0].out: "),
        ({"features": "out/?ne.csv"}, "$.tables[0].out: "),
        ({"features": "o[uv]t/one.*"}, "$.tables[0].out: "),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_outputs_that_collide(bundle, kind, changes, place, capsys):
    assert refusal(bundle, kind, tables(kind, **changes), capsys).startswith(place)


@every_kind
def test_outputs_that_collide_in_a_folder_whose_name_looks_like_a_glob(bundle, kind, capsys):
    folder = bundle / "run[1]"
    folder.mkdir()

    told = refusal(folder, kind, tables(kind, features="out/*.csv"), capsys)

    assert told.startswith("$.tables[0].out: ")


@every_kind
@pytest.mark.parametrize("features", ["**f.csv", "f**.csv", "*.csv", "?.csv", "[f].csv"])
def test_a_glob_that_does_not_reach_an_output_is_no_collision(bundle, kind, features):
    (bundle / "l.csv").rename(bundle / "l.csv.txt")
    entry = {"path": "l.csv.txt", "columns": ["clip_id", "mos"], "key_regex": "^[ab]$"}
    evidence = {"scores": ["m=s.jsonl"]} if kind == "second-opinion" else {"labels": [entry]}

    report = pm.run_batch(
        write(bundle, {"tables": [{**TABLE[kind], **evidence, "features": features, "out": "out/f.csv"}]}),
        kind=kind,
    )

    assert report.status == "ok"


@pytest.mark.parametrize(
    ("kind", "changes", "place"),
    [
        ("second-opinion", {"out": "s.jsonl"}, "$.tables[1].out: "),
        ("second-opinion", {"scores": ["m=out/one.csv"]}, "$.tables[0].out: "),
        ("second-opinion", {"scores": ["m=out"]}, "$.tables[0].out: "),
        ("second-opinion", {"scores": [{"path": "out/*", "label": "m"}]}, "$.tables[0].out: "),
        ("mos-labels", {"out": "l.csv"}, "$.tables[1].out: "),
        ("mos-labels", {"labels": ["out/one.csv"]}, "$.tables[0].out: "),
        ("mos-labels", {"labels": [{"path": "out/*.csv"}]}, "$.tables[0].out: "),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_outputs_that_are_evidence(bundle, kind, changes, place, capsys):
    assert refusal(bundle, kind, tables(kind, **changes), capsys).startswith(place)


@every_kind
@pytest.mark.parametrize("option", ["--report-json", "--report-md"])
@pytest.mark.parametrize("name", ["manifest.json", "f.csv", "out/one.csv", "x/../f.csv"])
def test_reports_that_collide(bundle, kind, option, name, capsys):
    told = refusal(bundle, kind, tables(kind), capsys, option, str(bundle / name))

    assert option in told or told.startswith("$.tables[0].out: ")


def test_two_reports_of_one_path(bundle, capsys):
    path = str(bundle / "report")
    options = ["--report-json", path, "--report-md", path]

    assert "--report-md" in refusal(bundle, "mos-labels", tables("mos-labels"), capsys, *options)


@every_kind
def test_an_output_that_is_an_input_by_a_link(bundle, kind, capsys):
    (bundle / "link.csv").symlink_to("f.csv")

    assert refusal(bundle, kind, tables(kind, out="link.csv"), capsys).startswith("$.tables[1].out: ")


@every_kind
def test_outputs_that_are_one_by_a_linked_folder(bundle, kind, capsys):
    (bundle / "link").symlink_to("out")

    told = refusal(bundle, kind, tables(kind, out="link/one.csv"), capsys)

    assert told.startswith("$.tables[1].out: ")


# --- defaults, comments, base_dir ---------------------------------------------------------------------


@every_kind
def test_comments_at_the_top(bundle, kind):
    path = write(bundle, {"_": 1, "_why": {"x": []}, "tables": [TABLE[kind]]})

    assert pm.run_batch(path, kind=kind).status == "ok"


def test_defaults_serve_tables_that_do_not_say_themselves(bundle):
    content = {
        "defaults": {"prefix": "nr", "missing_policy": "fail", "overwrite": True},
        "tables": [SCORES, second("second-opinion", prefix="own", overwrite=False)],
    }

    report = pm.run_batch(write(bundle, content))

    configs = [table["config"] for table in report.tables]
    assert [(c["prefix"], c["missing_policy"], c["overwrite"]) for c in configs] == [
        ("nr", "fail", True),
        ("own", "fail", False),
    ]
    assert "nr_m_score" in (bundle / "out" / "one.csv").read_text()
    assert "own_m_score" in (bundle / "out" / "two.csv").read_text()


def test_a_null_of_a_table_wins_over_the_default(bundle):
    content = {
        "defaults": {"label_mos_column": "nope", "label_key_regex": "x"},
        "tables": [{**LABELS, "label_mos_column": None, "label_key_regex": None}],
    }

    report = pm.run_batch(write(bundle, content), kind="mos-labels")

    assert report.status == "ok"
    assert report.tables[0]["config"]["label_mos_column"] is None


def test_defaults_of_labels_serve_entries_that_are_objects(bundle):
    (bundle / "raw.txt").write_text("x/a.mp4, 80\nx/b.mp4, 20\n")
    entry = {"path": "raw.txt", "columns": ["path", "j"], "key_regex": r"(\w)\.mp4", "scale": "0:100"}
    content = {
        "defaults": {"label_mos_column": "j", "label_scale": "1:5", "min_match_rate": 1},
        "tables": [{**LABELS, "labels": [entry]}],
    }

    pm.run_batch(write(bundle, content), kind="mos-labels")

    assert (bundle / "out" / "one.csv").read_text().splitlines()[1] == "a,90,4.2,80.0,ok,raw.txt"


@every_kind
def test_relative_paths_are_of_the_manifests_folder(bundle, kind, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    report = pm.run_batch(write(bundle, {"tables": [TABLE[kind]]}), kind=kind)

    assert report.status == "ok"
    assert (bundle / "out" / "one.csv").exists()


@every_kind
def test_relative_paths_are_of_base_dir_if_there_is_one(bundle, kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifests")
    path = write(folder, {"tables": [TABLE[kind]]})

    status = main([kind, "batch", "--manifest", str(path), "--base-dir", str(bundle)])

    assert status == 0
    assert (bundle / "out" / "one.csv").exists()
    assert list(folder.iterdir()) == [path]


def test_absolute_paths_stay_absolute(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifests")
    table = {**SCORES, "features": str(bundle / "f.csv"), "scores": [f"m={bundle / 's.jsonl'}"]}

    report = pm.run_batch(write(folder, {"tables": [table]}))

    assert report.status == "ok"
    assert (folder / "out" / "one.csv").exists()


def test_a_kind_that_is_none_is_refused(bundle):
    with pytest.raises(errors.OptionError, match="second-opinion mos-labels"):
        pm.run_batch(write(bundle, {"tables": [SCORES]}), kind="scores")


@pytest.mark.parametrize(("kind", "other"), [KINDS, KINDS[::-1]])
def test_a_manifest_of_another_kind_is_refused(bundle, kind, other, capsys):
    said = refusal(bundle, kind, {"tables": [TABLE[other]]}, capsys)
    evidence = {"second-opinion": "scores", "mos-labels": "labels"}[other]
    place = f"$.tables[0].{evidence}"
    assert said == f"is a manifest of {other}: {place} is not of {kind}; run it with {other} batch\n"


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ({"id": "x", "input": "f.csv", "output": "o.csv"}, "saliency"),
        ({"id": "x", "features": "f.csv", "labels": {"files": ["l.csv"]}, "out": "o.csv"}, "refresh"),
        ({"id": "x", "features": "f.csv", "saliency": {}, "typo": 1, "out": "o.csv"}, "refresh"),
    ],
)
def test_manifests_of_every_kind_are_named(bundle, table, kind, capsys):
    for asked in KINDS:
        assert refusal(bundle, asked, {"tables": [table]}, capsys).startswith(f"is a manifest of {kind}: ")


def test_a_manifest_that_may_be_of_several_kinds_is_not_named(bundle, capsys):
    mixed = {**SCORES, "labels": ["l.csv"]}
    for tables in ([mixed], [TABLE["mos-labels"], {**SCORES, "id": "two"}], [{"id": "x"}]):
        assert refusal(bundle, "saliency", {"tables": tables}, capsys).startswith("$.tables[0]")


@every_kind
def test_comments_may_stand_anywhere(bundle, kind):
    """Each of these would be refused by name if it were not a comment."""
    evidence = "scores" if kind == "second-opinion" else "labels"
    entry = {"path": TABLE[kind][evidence][0].removeprefix("m="), "_why": ["x"]}
    entry |= {"label": "m"} if kind == "second-opinion" else {}
    table = {**TABLE[kind], "_note": {"deep": 1}, evidence: [entry]}
    content = {
        "$schema": "https://x.invalid/schema.json",
        "_comment": "x",
        "defaults": {"_overwrite": "not a boolean"},
        "formats": {"_f": "no format"},
        "tables": [table],
    }

    assert pm.run_batch(write(bundle, content), kind=kind).status == "ok"


@every_kind
@pytest.mark.parametrize("field", ["id", "features", "out", "audit_json", "evidence", "option", "entry"])
def test_halves_of_characters_are_refused_with_their_place(bundle, kind, field, capsys):
    """Escapes can spell them, but no file can hold them."""
    half = "x\ud800.csv"
    evidence = "scores" if kind == "second-opinion" else "labels"
    option = "key_column" if kind == "second-opinion" else "feature_key_column"
    table, place = {
        "evidence": ({**TABLE[kind], evidence: [half]}, f"{evidence}[0]"),
        "entry": ({**TABLE[kind], evidence: [{"path": half}]}, f"{evidence}[0].path"),
        "option": ({**TABLE[kind], option: half}, option),
    }.get(field, ({**TABLE[kind], field: half}, field))

    said = refusal(bundle, kind, {"tables": [table]}, capsys)

    assert said == f"$.tables[0].{place}: 'x\\ud800.csv' is not UTF-8 text, which no report could hold\n"


@every_kind
def test_pairs_of_halves_are_characters(bundle, kind):
    text = json.dumps({"tables": [{**TABLE[kind], "id": "\U0001f600", "out": "out/\U0001f600.csv"}]})
    assert "\\ud83d" in text
    assert pm.run_batch(write(bundle, text), kind=kind).status == "ok"


@pytest.mark.parametrize("option", ["manifest", "base_dir", "report_json", "report_md"])
def test_paths_that_no_report_could_hold_are_refused(bundle, option):
    path = write(bundle, {"tables": [SCORES]})
    odd = bundle / "o\udcff"
    odd.mkdir()
    options = {"manifest": path, option: {"manifest": odd / "m.json", "base_dir": odd}.get(option, odd / "r")}
    (odd / "m.json").write_bytes(path.read_bytes())

    with pytest.raises(errors.OptionError, match="path"):
        pm.run_batch(**options)


def test_a_number_of_too_many_digits_is_refused_in_words_of_our_own(bundle, capsys):
    (bundle / "m.json").write_text('{"tables": [{"id": "t", "min_match_rate": 1' + "0" * 5_000 + "}]}")

    assert main(["second-opinion", "batch", "--manifest", str(bundle / "m.json")]) == 2

    assert capsys.readouterr().err.endswith(": holds a number of 5,001 digits; expected 300 at most\n")
