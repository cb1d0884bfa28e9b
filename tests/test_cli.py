"""The command line: options, exit statuses, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize.cli import main

REPOSITORY = Path(pm.__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
SCORES = "second-opinion table --features f.csv --scores m=s.jsonl --out o.csv"
LABELS = "mos-labels table --features f.csv --labels l.csv --out o.csv"
SCORES_LINE = "second-opinion materialize: input_rows=4 output_rows=4 second_opinion_m=2/4\n"
LABELS_LINE = "MOS-label materialize: input_rows=4 matched_rows=4 missing_rows=0 match_rate=1.000\n"
COMMANDS = ["second-opinion", "mos-labels"]
every_command = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with a feature table, a sidecar, labels and manifests."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.csv").write_text(
        "clip_id,other,path,mos_x\na,1,x/a.mp4,1\nb,2,b.mp4,2\nb,2,b.mp4,3\nc,3,c,4\n"
    )
    scores = [
        {"clip_id": "a", "k2": "1", "score": 0.5, "s2": 5},
        {"clip_id": "b", "k2": "2", "score": 0.25, "s2": 6, "status": "broken"},
        {"clip_id": "c", "k2": "3", "score": 0.75, "s2": 7},
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    (tmp_path / "l.csv").write_text("clip_id,k2,mos,m2,path\na,1,1,10,a.mp4\nb,2,3,50,b.mp4\nc,3,5,90,z/c\n")
    for name, key, entry in (("scores", "scores", "m=s.jsonl"), ("labels", "labels", "l.csv")):
        table = {"id": "t", "features": "f.csv", key: [entry], "out": "o.csv"}
        (tmp_path / f"{name}.json").write_text(json.dumps({"tables": [table]}))
    return tmp_path


def real(command, folder, **options):
    """Runs the command line in a process of its own."""
    words = command.split() if isinstance(command, str) else command
    return subprocess.run(
        [sys.executable, "-m", "polars_materialize", *words],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def names_in(folder):
    """The names of all that is in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


# --- single runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "line"),
    [(SCORES, SCORES_LINE), (LABELS, LABELS_LINE)],
    ids=COMMANDS,
)
def test_a_real_run_of_one_table(folder, command, line):
    result = real(f"{command} --audit-json a/b.json", folder)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", line)
    assert (folder / "o.csv").read_text().count("\n") == 5
    argv = json.loads((folder / "a" / "b.json").read_text())["run_provenance"]["argv"]
    assert argv == f"{command} --audit-json a/b.json".split()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", {}),
        ("--key-column clip_id", {"key_column": "clip_id"}),
        ("--key-column other --score-key-field k2", {"key_column": "other", "score_key_field": "k2"}),
        ("--score-field s2", {"score_field": "s2"}),
        ("--key-normalize raw", {"key_normalize": "raw"}),
        ("--key-normalize basename", {"key_normalize": "basename"}),
        ("--key-column path --key-normalize stem", {"key_column": "path", "key_normalize": "stem"}),
        ("--missing-policy mark", {"missing_policy": "mark"}),
        ("--missing-policy drop --score-key-field k2", {"missing_policy": "drop", "score_key_field": "k2"}),
        ("--missing-policy fail", {"missing_policy": "fail"}),
        ("--bad-policy drop", {"bad_policy": "drop"}),
        ("--prefix nr", {"prefix": "nr"}),
        ("--overwrite --prefix mos_x", {"overwrite": True, "prefix": "mos_x"}),
    ],
)
@pytest.mark.usefixtures("folder")
def test_options_of_second_opinions_are_those_of_the_library(words, options):
    status = main(f"{SCORES} --audit-json a.json {words}".split())
    audit = pm.materialize_scores("f.csv", "m=s.jsonl", "library.csv", audit_json="b.json", **options)

    assert status == 0
    assert Path("o.csv").read_bytes() == Path("library.csv").read_bytes()
    args = json.loads(Path("a.json").read_text())["run_provenance"]["args"]
    assert {name: args[name] for name in options} == options
    other = audit.run_provenance["args"]
    assert {**args, "out": "", "audit_json": ""} == {**other, "out": "", "audit_json": ""}


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", {}),
        ("--feature-key-column clip_id", {"feature_key_column": "clip_id"}),
        (
            "--feature-key-column other --label-key-column k2",
            {"feature_key_column": "other", "label_key_column": "k2"},
        ),
        ("--label-mos-column m2", {"label_mos_column": "m2"}),
        ("--label-scale 1:5", {"label_scale": "1:5"}),
        ("--label-scale=-7:94", {"label_scale": "-7:94"}),
        ("--label-scale -7:94", {"label_scale": "-7:94"}),
        ("--key-normalize raw", {"key_normalize": "raw"}),
        (
            "--feature-key-column path --label-key-column path --key-normalize stem",
            {"feature_key_column": "path", "label_key_column": "path", "key_normalize": "stem"},
        ),
        (
            "--feature-key-column path --feature-key-regex ([abc])(?:\\.mp4)?$",
            {"feature_key_column": "path", "feature_key_regex": r"([abc])(?:\.mp4)?$"},
        ),
        (
            "--label-key-column path --label-key-regex ^[abc]",
            {"label_key_column": "path", "label_key_regex": "^[abc]"},
        ),
        ("--min-match-rate 0", {"min_match_rate": 0.0}),
        ("--label-key-regex b --min-match-rate 0.3", {"label_key_regex": "b", "min_match_rate": 0.3}),
        ("--status-column state", {"status_column": "state"}),
        ("--overwrite --status-column mos_x", {"overwrite": True, "status_column": "mos_x"}),
    ],
)
@pytest.mark.usefixtures("folder")
def test_options_of_mos_labels_are_those_of_the_library(words, options):
    status = main(f"{LABELS} --audit-json a.json {words}".split())
    audit = pm.materialize_labels("f.csv", "l.csv", "library.csv", audit_json="b.json", **options)

    assert status == 0
    assert Path("o.csv").read_bytes() == Path("library.csv").read_bytes()
    args = json.loads(Path("a.json").read_text())["run_provenance"]["args"]
    assert {name: args[name] for name in options} == options
    other = audit.run_provenance["args"]
    assert {**args, "out": "", "audit_json": ""} == {**other, "out": "", "audit_json": ""}


def test_scores_may_be_repeated_and_be_objects(folder):
    (folder / "n.jsonl").write_text('{"id": {"x": "a"}, "value": 9}\n')
    entry = {"path": "n.jsonl", "label": "n", "key_field": "id.x", "score_field": "value"}

    status = main([*SCORES.split(), "--scores", json.dumps(entry)])

    rows = pl.read_csv("o.csv").select("second_opinion_m_score", "second_opinion_n_score").rows()
    assert status == 0
    assert rows == [(0.5, 9.0), (0.25, None), (0.25, None), (0.75, None)]


def test_labels_may_be_repeated_and_be_objects(folder):
    (folder / "more.txt").write_text("x/d.mp4, 80\n")
    (folder / "f.csv").write_text("clip_id\na\nd\n")
    entry = {"path": "more.txt", "columns": ["path", "j"], "mos_column": "j", "key_regex": r"(\w)\.mp4"}

    status = main([*LABELS.split(), "--labels", json.dumps(entry)])

    assert status == 0
    assert pl.read_csv("o.csv")["mos"].to_list() == [1.0, 4.2]


# --- batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (
            "second-opinion batch --manifest scores.json",
            "second-opinion batch materialize: tables=1 input_rows=4 output_rows=4 failed_tables=0\n",
        ),
        (
            "mos-labels batch --manifest labels.json",
            "MOS-label batch materialize: tables=1 input_rows=4 matched_rows=4 failed_tables=0\n",
        ),
    ],
    ids=COMMANDS,
)
def test_a_real_batch(folder, command, line):
    result = real(f"{command} --report-json r/r.json --report-md r/r.md --fail-fast", folder)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", line)
    assert json.loads((folder / "r" / "r.json").read_text())["status"] == "ok"
    assert (folder / "r" / "r.md").read_text().startswith("# ")


@every_command
def test_reports_are_relative_to_the_current_folder_and_tables_to_the_manifest(folder, command, monkeypatch):
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    manifest = "../scores.json" if command == "second-opinion" else "../labels.json"

    status = main([command, "batch", "--manifest", manifest, "--report-json", "r.json"])

    assert status == 0
    assert (folder / "o.csv").exists()
    assert names_in(folder / "elsewhere") == ["r.json"]


def test_a_failed_table_is_told_before_the_last_line(folder):
    manifest = {"tables": [{"id": "x", "features": "no.csv", "scores": ["m=s.jsonl"], "out": "o.csv"}]}
    (folder / "m.json").write_text(json.dumps(manifest))

    result = real("second-opinion batch --manifest m.json", folder)

    assert result.returncode == 1
    assert result.stderr == (
        "table 'x': no.csv: no such file\n"
        "second-opinion batch materialize: tables=1 input_rows=0 output_rows=0 failed_tables=1\n"
    )


# --- mistakes -----------------------------------------------------------------------------------------

MISTAKES = [
    (2, "", ""),
    (2, "--nope", "--nope"),
    (2, "nope", "nope"),
    (2, "second-opinion", ""),
    (2, "second-opinion tabel", "tabel"),
    (2, "second-opinion table", "--features"),
    (2, "second-opinion table --features f.csv --out o.csv", "--scores"),
    (2, "second-opinion table --features f.csv --scores m=s.jsonl", "--out"),
    (2, f"{SCORES} extra", "extra"),
    (2, f"{SCORES} --missing-policy fial", "'fial'"),
    (2, f"{SCORES} --bad-policy Mark", "'Mark'"),
    (2, f"{SCORES} --key-normalize all", "'all'"),
    (2, f"{SCORES} --prefix=", "prefix"),
    (2, f"{SCORES} --overwrite=yes", "--overwrite"),
    (2, f"{SCORES} --min-match-rate 1", "--min-match-rate"),
    (2, f'{SCORES} --scores {{"path":1}}', "path"),
    (2, f"{SCORES} --scores {{nope", "{nope"),
    (2, f'{SCORES} --scores {{"path":"s.jsonl","lable":"x"}}', "lable"),
    (2, f'{SCORES} --scores {{"path":"s.jsonl","key_regex":"("}}', "key_regex"),
    (2, f"{SCORES} --scores !=s.jsonl", "'!'"),
    (1, f"{SCORES} --features no.csv", "no.csv: no such file"),
    (1, f"{SCORES} --features no*.csv", "no*.csv: no file matches"),
    (1, f"{SCORES} --features .", "./f.xlsx: unknown kind of table"),
    (1, f"{SCORES} --features broken.jsonl", "broken.jsonl:2"),
    (1, f"{SCORES} --features latin.csv", "latin.csv:2"),
    (1, f"{SCORES} --features torn.parquet", "torn.parquet"),
    (1, f"{SCORES} --features torn.csv.gz", "torn.csv.gz"),
    (1, f"{SCORES} --features empty.csv", "empty.csv"),
    (1, f"{SCORES} --features f.xlsx", "f.xlsx"),
    (1, f"{SCORES} --features deep.json", "deep.json"),
    (1, f"{SCORES} --key-column nope", "'nope'"),
    (1, f"{SCORES} --score-field nope", "'nope'"),
    (1, f"{SCORES} --score-key-field nope", "'nope'"),
    (1, f"{SCORES} --key-column other --missing-policy fail", "missing_policy"),
    (1, f"{SCORES} --bad-policy fail", "bad_policy"),
    (1, f"{SCORES} --scores m=s.jsonl", "s.jsonl:1"),
    (1, f"{SCORES} --scores s.jsonl", "s.jsonl:1"),
    (1, f"{SCORES} --scores empty.csv", "empty.csv"),
    (1, f"{SCORES} --scores n=deep.json", "deep.json"),
    (1, f"{SCORES} --out f.csv", "f.csv"),
    (1, f"{SCORES} --out f.csv/o.csv", "f.csv/o.csv"),
    (1, f"{SCORES} --audit-json s.jsonl", "s.jsonl"),
    (1, f"{SCORES} --audit-json o.csv", "o.csv"),
    (2, "mos-labels table --features f.csv --out o.csv", "--labels"),
    (2, f"{LABELS} --label-scale 5:1", "'5:1'"),
    (2, f"{LABELS} --label-key-regex (", "label_key_regex"),
    (2, f"{LABELS} --feature-key-regex (?=a)", "feature_key_regex"),
    (2, f"{LABELS} --min-match-rate half", "'half'"),
    (2, f"{LABELS} --min-match-rate 95", "min_match_rate"),
    (2, f"{LABELS} --status-column mos", "status_column"),
    (2, f"{LABELS} --missing-policy mark", "--missing-policy"),
    (2, f'{LABELS} --labels {{"path":"l.csv","scale":"x"}}', "scale"),
    (1, f"{LABELS} --labels no.csv", "no.csv: no such file"),
    (1, f"{LABELS} --labels broken.jsonl", "broken.jsonl:2"),
    (1, f"{LABELS} --label-key-column nope", "'nope'"),
    (1, f"{LABELS} --label-mos-column path", "l.csv:2"),
    (1, f"{LABELS} --label-scale 0:2", "l.csv:3"),
    (1, f"{LABELS} --label-key-regex a", "match rate 0.33"),
    (1, f"{LABELS} --feature-key-column nope", "'nope'"),
    (2, "mos-labels batch", "--manifest"),
    (2, "mos-labels batch --manifest no.json", "no.json"),
    (2, "mos-labels batch --manifest .", "."),
    (2, "mos-labels batch --manifest f.csv", "f.csv"),
    (2, "mos-labels batch --manifest scores.json", "$.tables[0]"),
    (2, "second-opinion batch --manifest labels.json", "$.tables[0]"),
    (2, "second-opinion batch --manifest scores.json --report-json f.csv", "--report-json"),
]


def spoil(folder):
    """Writes files that are not what they seem."""
    (folder / "broken.jsonl").write_text('{"clip_id": "a"}\n{"clip_id": \n')
    (folder / "latin.csv").write_bytes(b"clip_id\n\xe9\n")
    (folder / "torn.parquet").write_bytes(b"PAR1")
    (folder / "torn.csv.gz").write_bytes(b"\x1f\x8b\x08")
    (folder / "empty.csv").write_bytes(b"")
    (folder / "f.xlsx").write_bytes(b"PK")
    (folder / "deep.json").write_text("[" * 100_000)


@pytest.mark.parametrize(("status", "command", "words"), MISTAKES, ids=[m[1][-60:] for m in MISTAKES])
def test_a_mistake_is_one_line_and_writes_nothing(folder, status, command, words, capsys):
    spoil(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}

    found = main(command.split())

    shown = capsys.readouterr()
    assert (found, shown.out) == (status, "")
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert words in shown.err
    assert "Traceback" not in shown.err
    assert "this is a bug" not in shown.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("status", "command"),
    [
        (2, "second-opinion table"),
        (1, f"{SCORES} --features torn.parquet"),
        (1, f"{SCORES} --bad-policy fail"),
        (1, f"{LABELS} --labels broken.jsonl"),
        (2, "mos-labels batch --manifest f.csv"),
    ],
)
def test_a_mistake_of_a_real_run(folder, status, command):
    spoil(folder)

    result = real(command, folder)

    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["--features", "--scores", "--out", "--audit-json"])
def test_a_path_with_a_line_break_does_not_break_the_line(folder, words, capsys):
    status = main(
        [*SCORES.split(), words, "no/such\nfile.xlsx", "--missing-policy", "fail", "--bad-policy", "fail"]
    )

    shown = capsys.readouterr().err
    assert status in (1, 2)
    assert shown.count("\n") == 1
    assert names_in(folder) == ["f.csv", "l.csv", "labels.json", "s.jsonl", "scores.json"]


def test_errors_of_a_batch_with_line_breaks_are_one_line_a_table(folder, capsys):
    table = {"id": "a\nb", "features": "no\nsuch.csv", "scores": ["m=s.jsonl"], "out": "o.csv"}
    (folder / "m.json").write_text(json.dumps({"tables": [table]}))

    status = main(["second-opinion", "batch", "--manifest", "m.json"])

    assert status == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


# --- help and start-up --------------------------------------------------------------------------------

HELP = {
    "second-opinion table": "--features --scores --out --audit-json --key-column --score-key-field "
    "--score-field --key-normalize --missing-policy --bad-policy --prefix --overwrite",
    "mos-labels table": "--features --labels --out --audit-json --feature-key-column --label-key-column "
    "--label-mos-column --label-scale --key-normalize --feature-key-regex --label-key-regex --min-match-rate "
    "--status-column --overwrite",
    "second-opinion batch": "--manifest --base-dir --report-json --report-md --fail-fast --jobs --dask",
    "mos-labels batch": "--manifest --base-dir --report-json --report-md --fail-fast --jobs --dask",
}


@pytest.mark.parametrize("command", HELP)
def test_help_names_every_option(command, capsys):
    status = main([*command.split(), "--help"])

    shown = capsys.readouterr()
    assert (status, shown.err) == (0, "")
    assert set(HELP[command].split()) <= set(re.findall(r"--[a-z-]+", shown.out))


@pytest.mark.parametrize("words", ["--help", "-h", "second-opinion --help", "mos-labels --help"])
def test_help_of_the_groups(words, capsys):
    assert main(words.split()) == 0
    assert "Commands:" in capsys.readouterr().out


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert pm.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "code",
    [
        "import polars_materialize",
        "import polars_materialize; dir(polars_materialize)",
        "from polars_materialize.cli import main; main(['--help'])",
        "from polars_materialize.cli import main; main(['second-opinion', 'table', '--help'])",
        "from polars_materialize.cli import main; main(['mos-labels', 'batch', '--help'])",
        "from polars_materialize.cli import main; main(['mos-labels', 'table', '--nope'])",
    ],
)
def test_what_does_no_work_imports_nothing_heavy(code):
    listing = (
        "import sys; print('heavy:', sorted({'polars', 'pyarrow', 'numpy', 'pandas'} & set(sys.modules)))"
    )

    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{listing}"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert result.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize(("words", "status"), [("--version", 0), ("nope", 2), ("formats nope", 2)])
def test_the_program_ends_with_the_status_and_what_was_to_be_done_at_its_end(words, status):
    code = (
        "import atexit, sys, threading; from polars_materialize.program import run\n"
        "atexit.register(print, 'cleaned up')\n"
        f"sys.argv[1:] = {words.split()!r}\n"
        "run()"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )

    assert result.returncode == status
    assert result.stdout.splitlines()[-1] == "cleaned up"
    assert (result.stderr == "") == (status == 0)


@pytest.mark.skipif(os.name != "posix", reason="a shell closes the streams")
@pytest.mark.parametrize(("redirection", "status"), [(">&-", 0), (">&- 2>&-", 0), ("2>&-", 0)])
def test_the_program_ends_well_where_nobody_listens(redirection, status):
    command = f"{sys.executable} -m polars_materialize --version {redirection}"

    result = subprocess.run(
        ["sh", "-c", command], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )

    assert (result.returncode, result.stderr) == (status, "")


# --- interrupted runs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A feature table that takes seconds to write as compressed text, and a sidecar."""
    folder = tmp_path_factory.mktemp("large")
    random = np.random.default_rng(1)
    columns = {f"x{index}": random.random(400_000) for index in range(4)}
    pl.DataFrame({"clip_id": np.arange(400_000) % 100, **columns}).write_parquet(folder / "f.parquet")
    scores = [{"clip_id": clip, "competitor": "m", "score": clip} for clip in range(100)]
    (folder / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    (folder / "l.csv").write_text("clip_id,mos\n" + "".join(f"{clip},3\n" for clip in range(100)))
    return folder


JOIN_SCORES = "second-opinion table --features {}/f.parquet --scores {}/s.jsonl"
JOIN_LABELS = "mos-labels table --features {}/f.parquet --labels {}/l.csv"


@pytest.mark.parametrize(
    ("number", "command", "out"),
    [
        ("SIGINT", JOIN_SCORES, "o.json.gz"),
        ("SIGINT", JOIN_SCORES, "o.csv.gz"),
        ("SIGINT", JOIN_LABELS, "o.jsonl.gz"),
        ("SIGTERM", JOIN_SCORES, "o.json.gz"),
        ("SIGTERM", JOIN_LABELS, "o.jsonl.gz"),
        ("SIGHUP", JOIN_SCORES, "o.csv.gz"),
        ("SIGHUP", JOIN_LABELS, "o.jsonl.gz"),
    ],
)
def test_an_interrupted_run_leaves_the_old_files_and_no_others(large, number, command, out, tmp_path):
    (tmp_path / out).write_bytes(b"old table")
    (tmp_path / "a.json").write_bytes(b"old audit")
    words = [*command.format(large, large).split(), "--out", out, "--audit-json", "a.json"]

    process = subprocess.Popen(
        [sys.executable, "-m", "polars_materialize", *words],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_more_than(tmp_path, 2, process)
        process.send_signal(getattr(signal, number))
        printed, told = process.communicate(timeout=120)
    finally:
        process.kill()

    assert (process.returncode, printed) == (130, "")
    assert told.strip().startswith("interrupted")
    assert told.strip().count("\n") == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        out: b"old table",
        "a.json": b"old audit",
    }


EARLY = """
import os, signal, sys

module, name, *ignored = sys.argv[1:]
number = getattr(signal, name)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), number)

if ignored == ["ignored"]:
    signal.signal(number, signal.SIG_IGN)
sys.meta_path.insert(0, Finder())
sys.argv[1:] = ["mos-labels", "table", "--features", "f.csv", "--labels", "l.csv", "--out", "o.csv"]
from polars_materialize.program import run
run()
"""


def run_early(folder, *words):
    """Runs the program in a process that gets a signal when it begins to import a module."""
    (folder / "f.csv").write_text("clip_id\na\n")
    (folder / "l.csv").write_text("clip_id,mos\na,3\n")
    return subprocess.run(
        [sys.executable, "-c", EARLY, *words],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("module", ["click", "msgspec._core", "polars", "polars_materialize.label_runs"])
def test_a_signal_while_the_program_starts_gives_one_line(module, number, tmp_path):
    result = run_early(tmp_path, module, number)

    line = "interrupted; what was being written is left as it was"
    assert (result.returncode, result.stdout, result.stderr.strip()) == (130, "", line)
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    result = run_early(tmp_path, "polars", "SIGHUP", "ignored")

    assert result.returncode == 0
    assert (tmp_path / "o.csv").exists()


LOST = """
from polars_materialize.program import run
import weakref, sys, os, signal, time
from polars_materialize import cli

class Thing: pass

def main():
    thing = Thing()
    ref = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with cli.signals.interrupting():
            del thing
            time.sleep(30)
            return 7
    except KeyboardInterrupt:
        return 130

cli.main = main
run()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
def test_a_signal_that_comes_in_a_callback_is_not_lost():
    result = subprocess.run(
        [sys.executable, "-c", LOST], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )

    assert (result.returncode, result.stderr) == (130, "")


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from polars_materialize.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of the size of files")
@pytest.mark.parametrize(
    "out", ["o.parquet", "o.csv", "o.csv.gz", "o.jsonl", "o.json", "o.json.gz", "o.arrow"]
)
def test_a_run_on_a_full_disk_leaves_the_old_files_and_no_others(large, out, tmp_path):
    (tmp_path / out).write_bytes(b"old table")
    (tmp_path / "a.json").write_bytes(b"old audit")
    words = f"second-opinion table --features {large}/f.parquet --scores {large}/s.jsonl --out {out}"

    result = subprocess.run(
        [sys.executable, "-c", FULL, *words.split(), "--audit-json", "a.json"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {out}: ")
    assert result.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        out: b"old table",
        "a.json": b"old audit",
    }


def wait_for_more_than(folder, count, process):
    """Waits until a run has begun to write beside its target."""
    for _ in range(6000):
        if len(list(folder.iterdir())) > count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    pytest.fail("the run did not begin to write")
