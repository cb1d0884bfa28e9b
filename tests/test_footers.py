"""The audits in the footers of Parquet outputs, and that a table and its audit are of one run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from written import described, files_of

import polars_materialize as pm
from polars_materialize import errors, footers, provenance, signals
from polars_materialize.cli import main
from polars_materialize.provenance import Hasher, Inputs

KEY = "polars_materialize.audit"


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A current folder with a feature table and evidence of two kinds."""
    monkeypatch.chdir(tmp_path)
    rows = {"clip_id": ["a", "b", "b", "c"], "vmaf": [1.0, 2.0, 3.0, 4.0]}
    pl.DataFrame(rows).write_parquet("f.parquet", row_group_size=2)
    for name, score in (("m", 0.5), ("n", 0.25)):
        Path(f"{name}.jsonl").write_text(f'{{"clip_id": "a", "competitor": "{name}", "score": {score}}}\n')
    Path("l.csv").write_text("clip_id,mos\na,4\nb,3\nc,2\n")
    return tmp_path


def footer(path):
    return json.loads(pl.read_parquet_metadata(path)[KEY])


def audit_of(path):
    return json.loads(Path(path).read_text())


def without_hash_of_itself(audit):
    """An audit as a footer can hold it: what a file holds cannot be the file's own hash."""
    outputs = audit["run_provenance"]["outputs"]["out"]
    for one in outputs if isinstance(outputs, list) else [outputs]:
        one |= {"sha256": None, "bytes": None}
    audit["run_provenance"]["argv"] = []
    return audit


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "arrow"])
@pytest.mark.parametrize("drop", [False, True])
def test_a_footer_holds_the_whole_audit(suffix, drop):
    """Whether old columns are copied as they are, or all are written anew."""
    pm.sink_table(pm.scan_table("f.parquet"), f"g.{suffix}")
    policy = "drop" if drop else "mark"

    pm.materialize_scores(f"g.{suffix}", "m.jsonl", "o.parquet", audit_json="a.json", missing_policy=policy)

    found = footer("o.parquet")
    assert found == without_hash_of_itself(audit_of("a.json"))
    assert found["run_provenance"]["inputs"]["features"] == described(f"g.{suffix}")
    assert found["run_provenance"]["inputs"]["scores"] == [described("m.jsonl")]


@pytest.mark.usefixtures("bundle")
def test_a_footer_waits_for_the_hashes_of_large_inputs():
    pl.DataFrame({"clip_id": range(200_000), "x": [os.urandom(8) for _ in range(200_000)]}).write_parquet(
        "g.parquet"
    )
    Path("s.jsonl").write_text('{"clip_id": 7, "competitor": "m", "score": 1}\n' + " " * 2**20 + "\n")

    pm.materialize_scores("g.parquet", "s.jsonl", "o.parquet")

    inputs = footer("o.parquet")["run_provenance"]["inputs"]
    assert inputs == {"features": described("g.parquet"), "scores": [described("s.jsonl")]}


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("out", "more"),
    [("o.parquet", []), ("O.PQ", []), ("o/{stem}.parquet", []), ("o", ["--partition-by", "clip_id"])],
)
def test_the_command_line_hashes_what_a_footer_holds(out, more):
    words = ["second-opinion", "table", "--features", "f.parquet", "--scores", "m.jsonl", "--out", out]
    assert main([*words, *more]) == 0
    for path in [Path("O.PQ")] if out == "O.PQ" else [*Path().glob("o*"), *Path("o").rglob("*.parquet")]:
        if path.is_file():
            assert footer(path)["run_provenance"]["inputs"]["features"] == described("f.parquet")


@pytest.mark.usefixtures("bundle")
def test_a_table_that_passed_through_joins_keeps_the_audits_of_all():
    """Oldest first; each of them as it was."""
    pm.materialize_scores("f.parquet", "m.jsonl", "1.parquet", audit_json="1.json")
    pm.materialize_labels("1.parquet", "l.csv", "2.parquet", audit_json="2.json")
    pm.materialize_scores("2.parquet", "n.jsonl", "3.parquet", audit_json="3.json", missing_policy="drop")
    pm.refresh_table(
        "3.parquet", "4.parquet", audit_json="4.json", scores=pm.ScorePart(files=["m.jsonl"], prefix="x")
    )

    audits = [without_hash_of_itself(audit_of(f"{step}.json")) for step in (1, 2, 3, 4)]
    assert footer("1.parquet") == audits[0]
    for step in (2, 3, 4):
        assert footer(f"{step}.parquet") == audits[:step]


@pytest.mark.usefixtures("bundle")
def test_shards_keep_their_own_audits():
    Path("t").mkdir()
    for name in ("m", "n"):
        pm.materialize_scores("f.parquet", f"{name}.jsonl", f"t/{name}.parquet", prefix="p")
    pl.read_parquet("f.parquet").write_parquet("t/plain.parquet")
    one, other = footer("t/m.parquet"), footer("t/n.parquet")

    pm.materialize_labels("t", "l.csv", "each/{stem}.parquet")
    pm.materialize_labels("t", "l.csv", "whole.parquet")
    pm.materialize_labels("t", "l.csv", "parted", partition_by="clip_id")
    pm.materialize_labels("t", "l.csv", "each/{stem}.csv")

    assert [footer(f"each/{name}.parquet")[:-1] for name in ("m", "n")] == [[one], [other]]
    assert footer("each/plain.parquet")["output"] == "each/{stem}.parquet"
    assert footer("whole.parquet")[:-1] == [one, other]
    for path in Path("parted").rglob("*.parquet"):
        assert footer(path)[:-1] == [one, other]


@pytest.mark.usefixtures("bundle")
def test_shards_of_one_earlier_join_have_its_audit_once():
    Path("t").mkdir()
    for name in ("0", "1"):
        pl.read_parquet("f.parquet").write_parquet(f"t/{name}.parquet")
    pm.materialize_scores("t", "m.jsonl", "each/{stem}.parquet")

    pm.materialize_labels("each", "l.csv", "o.parquet")

    assert [audit["output"] for audit in footer("o.parquet")] == ["each/{stem}.parquet", "o.parquet"]


DEEP = b"[" * 100_000


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"", None),
        (b"no JSON", "no JSON"),
        (b'{"a": 1', '{"a": 1'),
        (DEEP, DEEP.decode()),
        (b'{"deep": ' + b"[" * 900 + b"]" * 900 + b"}", ...),
        (b"[]", None),
        (b"3", 3),
        (b'{"a": {"b": [1, "x"]}}', {"a": {"b": [1, "x"]}}),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_stands_in_an_earlier_footer_is_kept_as_it_is(text, kept):
    table = pq.read_table("f.parquet").replace_schema_metadata({KEY.encode(): text})
    pq.write_table(table, "g.parquet")

    pm.materialize_scores("g.parquet", "m.jsonl", "o.parquet")

    whole = pl.read_parquet_metadata("o.parquet")[KEY]
    if kept is ...:
        assert text.decode().replace(" ", "") in "".join(whole.split())
    elif kept is None:
        assert json.loads(whole)["output"] == "o.parquet"
    else:
        assert json.loads(whole)[0] == kept
        assert json.loads(whole)[1]["output"] == "o.parquet"


# --- bounds -------------------------------------------------------------------------------------------------


def run_with(most, monkeypatch, **options):
    monkeypatch.setattr(footers, "MOST_BYTES", most)
    monkeypatch.setattr(footers, "LEAST_BYTES", 0)
    return pm.materialize_scores("f.parquet", "s", "o.parquet", audit_json="a.json", **options)


@pytest.mark.usefixtures("bundle")
def test_many_files_are_counted_in_a_footer(monkeypatch):
    Path("s").mkdir()
    for number in range(50):
        Path(f"s/{number:02}.json").write_text(f'{{"clip_id": "{number}", "competitor": "m", "score": 1}}')

    run_with(6_000, monkeypatch)

    inputs = footer("o.parquet")["run_provenance"]["inputs"]
    names = sorted(str(path) for path in Path("s").iterdir())
    lines = "".join(f"{hashlib.sha256(Path(name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    size = sum(Path(name).stat().st_size for name in names)
    assert inputs["scores"] == {
        "files": 50,
        "bytes": size,
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }
    assert inputs["features"] == described("f.parquet")
    assert audit_of("a.json")["run_provenance"]["inputs"]["scores"] == [described(name) for name in names]
    run_with(60_000, monkeypatch)
    assert footer("o.parquet") == without_hash_of_itself(audit_of("a.json"))
    pm.materialize_scores("f.parquet", "s", "unhashed.parquet", hashed=False)


@pytest.mark.usefixtures("bundle")
def test_unhashed_files_have_no_hash_together():
    found = footers._counted(
        [{"path": "a", "sha256": None, "bytes": 1}, {"path": "b", "sha256": "x", "bytes": 2}]
    )
    assert found == {"files": 2, "bytes": 3, "sha256": None}
    assert footers._counted([{"path": "a", "sha256": "x", "bytes": None}])["bytes"] is None


@pytest.mark.usefixtures("bundle")
def test_the_oldest_audits_are_counted_where_there_are_too_many(monkeypatch):
    monkeypatch.setattr(footers, "AUDITS", 2)
    source = "f.parquet"
    for step in range(4):
        pm.materialize_scores(source, "m.jsonl", f"{step}.parquet", prefix=f"p{step}")
        source = f"{step}.parquet"

    first, *rest = footer("3.parquet")
    assert first == {"audits_left_out": 1}
    assert [one["output"] for one in rest] == ["1.parquet", "2.parquet", "3.parquet"]


@pytest.mark.usefixtures("bundle")
def test_earlier_audits_that_do_not_fit_are_counted(monkeypatch):
    pm.materialize_scores("f.parquet", "m.jsonl", "1.parquet", prefix="x")
    Path("s").mkdir()
    Path("s/m.jsonl").write_bytes(Path("m.jsonl").read_bytes())
    monkeypatch.setattr(footers, "MOST_BYTES", 3_000)
    monkeypatch.setattr(footers, "LEAST_BYTES", 0)
    pm.materialize_scores("1.parquet", "s", "o.parquet", audit_json="a.json")

    assert footer("o.parquet") == [{"audits_left_out": 1}, without_hash_of_itself(audit_of("a.json"))]


# --- provenance ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bundle")
def test_inputs_are_sorted_whatever_the_order_they_are_named_in():
    audit = pm.materialize_scores("f.parquet", ["n.jsonl", "m.jsonl"], "o.csv")

    assert [file["path"] for file in audit.run_provenance["inputs"]["scores"]] == ["m.jsonl", "n.jsonl"]


@pytest.mark.usefixtures("bundle")
def test_an_input_that_cannot_be_hashed_is_refused_and_named(monkeypatch):
    """Its hash is asked for in the middle of writing a footer."""

    def fail(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(provenance, "sha256", fail)
    with pytest.raises(errors.TableError, match=r"f\.parquet: cannot be read: .*Input/output error"):
        pm.materialize_scores("f.parquet", "m.jsonl", "o.parquet")
    assert not Path("o.parquet").exists()
    with Hasher() as hasher:
        inputs = Inputs(hasher)
        inputs.add("features", [("f.parquet", Path("f.parquet"))])
        assert inputs.described()["features"][0]["sha256"] is None


@pytest.mark.usefixtures("bundle")
def test_nothing_is_hashed_where_hashes_are_not_wanted():
    audit = pm.materialize_scores("f.parquet", "m.jsonl", "o.csv", hashed=False)

    provenance = audit.run_provenance
    files = [provenance["inputs"]["features"], *provenance["inputs"]["scores"], provenance["outputs"]["out"]]
    assert [file["sha256"] for file in files] == [None] * 3
    assert [file["bytes"] for file in files] == [Path(file["path"]).stat().st_size for file in files]


# --- a table and its audit --------------------------------------------------------------------------------


def moved(monkeypatch, at_first):
    """What takes its place, in order; with something done after the first."""
    seen = []
    for name in ("replace", "rename"):
        real = getattr(Path, name)

        def watched(self, target, real=real):
            found = real(self, target)
            seen.append(Path(target).name)
            if len(seen) == 1:
                at_first()
            return found

        monkeypatch.setattr(Path, name, watched)
    return seen


@pytest.mark.usefixtures("bundle")
@pytest.mark.parametrize("partition_by", [None, "clip_id"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_signal_comes_between_a_table_and_its_audit(monkeypatch, partition_by, number):
    """It is heard when both are there, and then as before."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        moves = moved(monkeypatch, lambda: signal.raise_signal(number))
        with pytest.raises(KeyboardInterrupt):
            pm.materialize_scores(
                "f.parquet", "m.jsonl", "o.parquet", audit_json="a.json", partition_by=partition_by
            )
        assert moves == ["a.json", "o.parquet"]
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    written = audit_of("a.json")["run_provenance"]["outputs"]["out"]
    for one in written if partition_by else [written]:
        assert one == described(one["path"])
    assert [name for name in files_of() if name.endswith(".part")] == []


@pytest.mark.usefixtures("bundle")
def test_tables_of_other_threads_take_their_places_too(monkeypatch):
    moves = moved(monkeypatch, lambda: None)
    done = []

    def run():
        done.append(pm.materialize_scores("f.parquet", "m.jsonl", "o.parquet", audit_json="a.json"))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert (moves, len(done)) == (["a.json", "o.parquet"], 1)


def test_handlers_come_back_whatever_happens_between():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    between = []
    with pytest.raises(ZeroDivisionError), signals.held_back():
        between.append(signal.getsignal(signal.SIGINT)) or 1 / 0
    assert between != [before[signal.SIGINT]]
    assert {number: signal.getsignal(number) for number in before} == before


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.held_back():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
