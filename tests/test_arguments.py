"""Every public function and struct, with every argument wrong: this package's errors, never Python's own."""

from __future__ import annotations

import inspect
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType

import msgspec
import polars as pl
import pytest

import polars_materialize as pm
from polars_materialize import arguments, errors

FRAME = pl.DataFrame({"clip_id": ["a"], "vmaf": [90.0], "src": ["gone.mp4"]})
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

WRONG = {
    "none": lambda: None,
    "true": lambda: True,
    "zero": lambda: 0,
    "minus-one": lambda: -1,
    "two": lambda: 2,
    "huge": lambda: 10**30,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "half": lambda: 0.5,
    "object": object,
    "x": lambda: "x",
    "blank": lambda: " ",
    "nul": lambda: "a\0b",
    "surrogate": lambda: "a\udc80b",
    "number-as-text": lambda: "0.9",
    "list": list,
    "list-of-none": lambda: [None],
    "list-of-ints": lambda: [1],
    "tuple": lambda: ("x",),
    "dict": dict,
    "dict-of-ints": lambda: {1: 2},
    "dict-of-paths": lambda: {"dover": "s.csv"},
    "bytes": lambda: b"x",
    "path": lambda: Path("x"),
    "pandas": lambda: FRAME.to_pandas(),
    "polars": lambda: FRAME,
    "lazy": lambda: FRAME.lazy(),
    "series": lambda: FRAME["clip_id"],
    "generator": lambda: iter(()),
    "function": lambda: print,
    "sidecar": lambda: pm.Sidecar("s.csv"),
    "label-file": lambda: pm.LabelFile("mos.csv"),
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
    Path("f.csv").write_text("clip_id,vmaf,src\na,90,gone.mp4\n")
    Path("mos.csv").write_text("clip_id,mos\na,4\n")
    Path("s.csv").write_text("clip_id,score\na,0.7\n")
    table = {"id": "t", "features": "f.csv", "labels": ["mos.csv"], "out": "batch.csv"}
    Path("m.json").write_bytes(msgspec.json.encode({"tables": [table]}))


CALLBACKS = ("progress", "on_failure")
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
def test_the_calls_work_as_they_are(name, files):
    if name in ("ScorePart", "Sidecar", "ScoreFormat"):  # what has no name of a scorer
        with pytest.raises(errors.SidecarError, match="no scorer"):
            call(name, CALLS[name]())
    else:
        call(name, CALLS[name]())


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_a_wrong_argument_gives_a_result_or_an_error_of_this_package(name, parameter, files):
    for kind, value in WRONG.items():
        if parameter in CALLBACKS and kind in ("type", "function"):
            continue
        wrong = value()
        given = {**CALLS[name](), parameter: wrong}

        try:
            call(name, given)
        except errors.MaterializeError as error:
            text = str(error)
        except Exception as error:  # noqa: BLE001 - Python's own, which this is about
            pytest.fail(f"{wrong!r}: {type(error).__name__}: {error}")
        else:
            continue
        assert text
        assert "\n" not in text, wrong


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_what_no_argument_takes_is_refused_by_its_name(name, parameter, files):
    for value in PLAINLY_WRONG:
        if parameter in CALLBACKS and value == "type":
            continue
        with pytest.raises(errors.OptionError) as caught:
            call(name, {**CALLS[name](), parameter: WRONG[value]()})

        assert str(caught.value).startswith({"count": "jobs", "address": "address"}.get(parameter, parameter))
        assert "expected" in str(caught.value)
