"""Every public function and struct, with every argument wrong: this package's errors, never Python's own."""

from __future__ import annotations

import inspect
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType

import msgspec
import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize import arguments, errors

FRAME = pl.DataFrame({"clip_id": ["a"], "vmaf": [90.0], "src": ["a.yuv"], "width": [16], "height": [16]})
SCORES = pl.DataFrame({"scorer": ["dover"], "key": ["a"], "score": [0.7]})
LABELS = pl.DataFrame({"key": ["a"], "mos": [4.0]})
FORMAT = {"key_field": ["clip_id"], "score_field": ["score"]}

CALLS = {
    "LabelFile": lambda: {"path": "mos.csv"},
    "LabelFormat": dict,
    "LabelPart": lambda: {"files": ["mos.csv"]},
    "SaliencyOptions": dict,
    "ScoreFormat": dict,
    "ScorePart": lambda: {"files": ["s.csv"]},
    "Sidecar": lambda: {"path": "s.csv"},
    "Family": lambda: {"name": "freezes", "patterns": ["freeze"]},
    "Jobs": lambda: {"count": 1},
    "add_saliency": lambda: {"frame": FRAME},
    "audit_signals": lambda: {"frames": FRAME},
    "audit_tables": lambda: {"inputs": "f.csv", "base_dir": "."},
    "dask": lambda: {"address": "tcp://127.0.0.1:no"},
    "join_labels": lambda: {"frame": FRAME, "labels": LABELS},
    "join_scores": lambda: {"frame": FRAME, "scores": SCORES},
    "materialize_labels": lambda: {"features": "f.csv", "labels": "mos.csv", "out": "o.csv"},
    "materialize_saliency": lambda: {"input": "f.csv", "output": "o.csv"},
    "materialize_scores": lambda: {"features": "f.csv", "scores": "dover=s.csv", "out": "o.csv"},
    "measure_saliency": lambda: {"clips": FRAME},
    "refresh_table": lambda: {
        "features": "f.csv",
        "out": "o.csv",
        "labels": pm.LabelPart(files="mos.csv"),
    },
    "run_batch": lambda: {"manifest": "m.json", "kind": "mos-labels"},
    "scan_labels": lambda: {"labels": "mos.csv"},
    "scan_scores": lambda: {"scores": "dover=s.csv"},
    "scan_table": lambda: {"path": "f.csv"},
    "sink_table": lambda: {"lf": FRAME, "path": "o.csv"},
}
"""For each public function and struct a call that works, with the files of the fixture `files`."""
RESULTS = {"BatchReport", "LabelAudit", "RefreshAudit", "SaliencyAudit", "ScoreAudit", "SignalReport"}
OTHERS = {"LABEL_SCHEMA", "SCORE_SCHEMA", "MatchWarning", "MaterializeError", "__version__", "list_formats"}

pytestmark = pytest.mark.usefixtures("files")

WRONG = {
    "none": lambda: None,
    "zero": lambda: 0,
    "minus-one": lambda: -1,
    "huge": lambda: 10**30,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "object": object,
    "x": lambda: "x",
    "blank": lambda: " ",
    "long": lambda: "x" * 5000,
    "nul": lambda: "a\0b",
    "surrogate": lambda: "a\udc80b",
    "list": list,
    "list-of-none": lambda: [None],
    "dict": dict,
    "dict-of-ints": lambda: {1: 2},
    "dict-of-paths": lambda: {"dover": "s.csv"},
    "bytes": lambda: b"x",
    "path": lambda: Path("x"),
    "pandas": FRAME.to_pandas,
    "polars": lambda: FRAME,
    "lazy": FRAME.lazy,
    "function": lambda: print,
    "sidecar": lambda: pm.Sidecar("s.csv"),
    "type": lambda: int,
}
PLAINLY_WRONG = ["object", "type", "bytes", "pandas", "dict-of-ints", "list-of-none"]
"""What no argument takes (but where it is said below); the error has to name the argument."""


def _parameters():
    for name in CALLS:
        for parameter in inspect.signature(getattr(pm, name)).parameters:
            yield pytest.param(name, parameter, id=f"{name}-{parameter}")


PARAMETERS = list(_parameters())


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files that the calls name, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("f.csv").write_text("clip_id,vmaf,src,width,height\na,90,a.yuv,16,16\n")
    Path("a.yuv").write_bytes(bytes(2 * 16 * 16 * 3 // 2))
    Path("mos.csv").write_text("clip_id,mos\na,4\n")
    Path("s.csv").write_text("clip_id,score\na,0.7\n")
    table = {"id": "t", "features": "f.csv", "labels": ["mos.csv"], "out": "batch.csv"}
    Path("m.json").write_bytes(msgspec.json.encode({"tables": [table]}))


CALLBACKS = ("progress", "on_failure", "on_lacking")
"""Arguments that are functions: what a wrong one of those raises is its author's own error."""


def call(name, given):
    """Calls a public function, and looks at what it gives to the end."""
    result = getattr(pm, name)(**given)
    if name == "dask":
        with result:
            pass
    if name == "Jobs":
        result.shutdown()
    if isinstance(result, pl.LazyFrame):
        result = result.collect()
    if name in ("Sidecar", "LabelFile"):
        scan = pm.scan_scores if name == "Sidecar" else pm.scan_labels
        scan(result).collect()
    if name in ("ScoreFormat", "LabelFormat"):
        entry = pm.Sidecar("s.csv", format=result) if name == "ScoreFormat" else None
        entry = entry or pm.LabelFile("mos.csv", format=result)
        (pm.scan_scores if name == "ScoreFormat" else pm.scan_labels)(entry).collect()
    if name in ("ScorePart", "LabelPart"):
        part = {"scores" if name == "ScorePart" else "labels": result}
        pm.refresh_table("f.csv", "o.csv", **part)
    if name == "SaliencyOptions":
        pm.refresh_table("f.csv", "o.csv", saliency=result)
    if name == "Family":
        pm.audit_signals(FRAME, families=[result])
    return result


def test_every_public_name_is_looked_at():
    assert set(CALLS) | RESULTS | OTHERS == set(pm.__all__)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "dask"])
def test_the_calls_work_as_they_are(name):
    if name in ("ScorePart", "Sidecar", "ScoreFormat"):  # what has no name of a scorer
        with pytest.raises(errors.SidecarError, match="no scorer"):
            call(name, CALLS[name]())
    else:
        call(name, CALLS[name]())


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_a_wrong_argument_gives_a_result_or_an_error_of_this_package(name, parameter):
    for kind, value in WRONG.items():
        if parameter in CALLBACKS and kind in ("type", "function"):
            continue
        wrong, refusal = value(), None

        try:
            call(name, {**CALLS[name](), parameter: wrong})
        except errors.MaterializeError as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 - Python's own, which this is about
            pytest.fail(f"{wrong!r}: {type(error).__name__}: {error}")
        if refusal is not None:
            assert re.fullmatch(".+", str(refusal)), wrong
        if kind in PLAINLY_WRONG:
            assert isinstance(refusal, errors.OptionError), wrong
            assert str(refusal).startswith("jobs" if name == "Jobs" else parameter)
            assert "expected" in str(refusal)


# --- what is taken, and hints that are followed --------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        lambda: pm.Sidecar(Path("s.csv"), label="dover"),
        lambda: {"path": "s.csv", "label": "dover"},
        lambda: {"path": Path("s.csv"), "label": "dover", "key_field": "clip_id"},
        lambda: {"path": "s.csv", "label": "dover", "format": FORMAT},
        lambda: [{"path": "s.csv", "label": "dover"}],
        lambda: (pm.Sidecar("s.csv", label="dover"),),
        lambda: iter(["dover=s.csv"]),
        lambda: pl.Series(["dover=s.csv"]),
    ],
    ids=["path", "object", "path-in-object", "format", "list", "tuple", "iterator", "series"],
)
def test_an_entry_of_scores_may_be_written_in_many_ways(entry):
    assert pm.scan_scores(entry()).collect()["score"].to_list() == [0.7]

    audit = pm.materialize_scores("f.csv", entry(), "o.csv")
    part = pm.refresh_table("f.csv", "o.csv", scores=pm.ScorePart(files=entry()))

    assert audit.competitors["dover"].matched_rows == 1
    assert part.scores.competitors["dover"].matched_rows == 1


@pytest.mark.parametrize(
    "entry",
    [
        lambda: Path("mos.csv"),
        lambda: pm.LabelFile(Path("mos.csv"), columns=None),
        lambda: {"path": "mos.csv", "scale": "1:5"},
        lambda: [{"path": Path("mos.csv")}],
        lambda: {"path": "mos.csv", "format": {"key_column": ["clip_id"], "mos_column": ["mos"]}},
    ],
    ids=["path", "label-file", "object", "list", "format"],
)
def test_an_entry_of_labels_may_be_written_in_many_ways(entry):
    assert pm.scan_labels(entry()).collect()["value"].to_list() == [4.0]

    audit = pm.materialize_labels("f.csv", entry(), "o.csv")
    part = pm.refresh_table("f.csv", "o.csv", labels=pm.LabelPart(files=entry()))

    assert audit.matched_rows == part.labels.matched_rows == 1


def test_structs_hold_what_json_holds():
    sidecar = pm.Sidecar(Path("s.csv"), columns=("a", "b"))
    part = pm.LabelPart(files=(Path("mos.csv"), "other.csv", {"path": "x.csv"}))
    options = pm.SaliencyOptions(root=Path("clips"), ffmpeg_bin=Path("ffmpeg"))

    assert (sidecar.path, sidecar.columns) == ("s.csv", ["a", "b"])
    assert part.files == [pm.LabelFile("mos.csv"), "other.csv", pm.LabelFile("x.csv")]
    assert (options.root, options.ffmpeg_bin) == ("clips", "ffmpeg")
    assert msgspec.json.decode(msgspec.json.encode(part), type=pm.LabelPart) == part


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (
            lambda: pm.scan_scores({"pth": "s.csv"}),
            "scores: a dict without a path; expected an entry such as",
        ),
        (lambda: pm.scan_scores({"path": "s.csv", "lable": "x"}), "'lable'; did you mean 'label'?"),
        (lambda: pm.scan_scores({"label": "dover"}), "scores: 'path' is missing"),
        (lambda: pm.scan_scores([{"path": 5}]), "scores[0].path: 5; expected text"),
        (lambda: pm.scan_scores(["s.csv", 7]), "scores[1]: 7; expected a path, a Sidecar, or a dict"),
        (lambda: pm.scan_labels(["mos.csv", 7]), "labels[1]: 7; expected a path, a LabelFile, or a dict"),
        (lambda: pm.scan_labels({"mos": "mos.csv"}), "expected an entry such as {'path': 'mos.csv'}"),
        (
            lambda: pm.scan_scores({"path": "s.csv", "format": {"key_field": "clip_id"}}),
            "scores.format.key_field: 'clip_id'; expected a list of text",
        ),
        (lambda: pm.Sidecar("s.csv", pooling="p99"), "pooling: 'p99'; expected one of mean harmonic_mean"),
        (lambda: pm.LabelPart(files=["mos.csv", None]), "files[1]: None; expected a path"),
        (
            lambda: pm.LabelPart(files="mos.csv", min_match_rate="0.9"),
            "min_match_rate: '0.9'; expected a number",
        ),
        (lambda: pm.join_labels(FRAME, LABELS, overwrite=1), "overwrite: 1; expected True or False"),
        (
            lambda: pm.join_labels(FRAME, LABELS, key_normalize="base"),
            "expected one of auto raw basename stem",
        ),
        (lambda: pm.scan_table("a\udc80.csv"), "path: 'a\\udc80.csv'; expected a path, in Unicode"),
        (
            lambda: pm.materialize_scores(FRAME, "s.csv", "o.csv"),
            "features: a polars DataFrame; expected a path",
        ),
        (lambda: pm.audit_signals({"x": FRAME.to_pandas()}), "frames: 'x' is a pandas DataFrame; expected"),
        (lambda: pm.run_batch("m.json", kind=[]), "kind: a list; expected text"),
        (lambda: pm.scan_scores("x" * 500), "cannot be looked for: File name too long"),
        (lambda: pm.scan_table(b"x" * 500), f"path: b'{'x' * 58}...; expected a path"),
    ],
)
def test_what_is_said_of_wrong_arguments(work, text):
    with pytest.raises(errors.MaterializeError) as caught:
        work()

    assert text in str(caught.value)


def test_hints_are_followed_to_a_result():
    def hint_of(work):
        with pytest.raises(errors.OptionError) as caught:
            work()
        return str(caught.value).rpartition("; ")[2]

    frame, dover = FRAME.to_pandas(), {"dover": "s.csv"}
    hints = {
        "frame": hint_of(lambda: pm.join_scores(frame, SCORES)),
        "scores": hint_of(lambda: pm.join_scores(FRAME, "dover=s.csv")),
        "labels": hint_of(lambda: pm.join_labels(FRAME, "mos.csv")),
        "table": hint_of(lambda: pm.join_labels("f.csv", LABELS)),
        "entry": hint_of(lambda: pm.scan_scores(dover)),
    }

    assert hints["frame"] == "polars.from_pandas(frame) makes one"
    assert pm.join_scores(pl.from_pandas(frame), SCORES)["second_opinion_dover_score"].to_list() == [0.7]
    assert hints["scores"] == "scan_scores('dover=s.csv') reads one"
    assert pm.join_scores(FRAME, pm.scan_scores("dover=s.csv")).height == 1
    assert hints["labels"] == "scan_labels('mos.csv') reads one"
    assert pm.join_labels(FRAME, pm.scan_labels("mos.csv"))["mos"].to_list() == [4.0]
    assert hints["table"] == "scan_table('f.csv') reads one"
    assert pm.join_labels(pm.scan_table("f.csv"), LABELS).collect()["mos"].to_list() == [4.0]
    entry = {"path": "s.csv", "label": "dover"}
    assert hints["entry"] == f"expected an entry such as {entry}"
    assert pm.scan_scores(entry).collect()["score"].to_list() == [0.7]


def test_secrets_are_never_shown():
    with pytest.raises(errors.OptionError) as caught:
        pm.scan_table("f.csv", storage_options="very secret")

    assert "secret" not in str(caught.value)


# --- public functions are the functions that they seem to be ---------------------------------------------


@pytest.mark.parametrize("name", [name for name in CALLS if isinstance(getattr(pm, name), FunctionType)])
def test_public_functions_keep_their_names_and_can_be_sent(name):
    function = getattr(pm, name)
    own = inspect.unwrap(function)

    assert pickle.loads(pickle.dumps(function)) is function
    assert inspect.signature(function) == inspect.signature(own)
    assert function.__doc__ == own.__doc__
    with pytest.raises(TypeError, match=name):
        function(no_such_argument=1)


@pytest.mark.parametrize("name", CALLS)
def test_every_annotation_is_understood(name):
    """No argument is left unchecked since its annotation means nothing to the check."""
    public = getattr(pm, name)
    if isinstance(public, FunctionType):
        kinds = arguments._kinds_of_parameters(public)
        parameters = set(inspect.signature(public).parameters) - {"storage_options"}
    elif name == "Jobs":
        return
    else:
        kinds, parameters = arguments._kinds_of_fields(public), set(public.__struct_fields__)

    assert set(kinds) == parameters
    assert all(kind.words != "anything" for found in kinds.values() for kind in found)


def test_many_threads_may_be_the_first_to_call():
    arguments._fields.clear()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: pm.scan_scores({"path": "s.csv", "label": "x"}).collect(), range(40)))

    assert all(frame.height == 1 for frame in found)
