"""Joins evidence onto video-quality feature tables with Polars, and proves what was joined with what.

In a notebook, joins compose on LazyFrames::

    import polars as pl, polars_materialize as pm

    features = pl.scan_parquet("shards/*.parquet")
    scores = pm.scan_scores(["dover=dover.jsonl", pm.Sidecar("nvc/qalign", label="q-align")])
    joined = features.pipe(pm.join_scores, scores, missing_policy="fail")

From files to files, with an audit, `materialize_scores` runs one table and `run_batch` a manifest of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from polars_materialize._version import __version__

if TYPE_CHECKING:
    from polars_materialize.batches import run_batch
    from polars_materialize.clusters import dask
    from polars_materialize.errors import MatchWarning, MaterializeError
    from polars_materialize.formats import LabelFormat, ScoreFormat, list_formats
    from polars_materialize.label_files import scan_labels
    from polars_materialize.label_joins import join_labels
    from polars_materialize.label_runs import materialize_labels
    from polars_materialize.labels import LABEL_SCHEMA
    from polars_materialize.options import LabelFile, LabelPart, SaliencyOptions, ScorePart, Sidecar
    from polars_materialize.processes import Jobs
    from polars_materialize.refresh_runs import refresh_table
    from polars_materialize.reports import BatchReport, LabelAudit, RefreshAudit, SaliencyAudit, ScoreAudit
    from polars_materialize.saliency_frames import add_saliency, measure_saliency
    from polars_materialize.saliency_runs import materialize_saliency
    from polars_materialize.score_joins import join_scores
    from polars_materialize.score_runs import materialize_scores
    from polars_materialize.scores import SCORE_SCHEMA
    from polars_materialize.sidecars import scan_scores
    from polars_materialize.signal_mix.audit import audit_signals
    from polars_materialize.signal_mix.families import Family
    from polars_materialize.signal_mix.files import audit_tables
    from polars_materialize.signal_mix.reports import SignalReport
    from polars_materialize.tables import scan_table, sink_table

__all__ = [
    "LABEL_SCHEMA",
    "SCORE_SCHEMA",
    "BatchReport",
    "Family",
    "Jobs",
    "LabelAudit",
    "LabelFile",
    "LabelFormat",
    "LabelPart",
    "MatchWarning",
    "MaterializeError",
    "RefreshAudit",
    "SaliencyAudit",
    "SaliencyOptions",
    "ScoreAudit",
    "ScoreFormat",
    "ScorePart",
    "Sidecar",
    "SignalReport",
    "__version__",
    "add_saliency",
    "audit_signals",
    "audit_tables",
    "dask",
    "join_labels",
    "join_scores",
    "list_formats",
    "materialize_labels",
    "materialize_saliency",
    "materialize_scores",
    "measure_saliency",
    "refresh_table",
    "run_batch",
    "scan_labels",
    "scan_scores",
    "scan_table",
    "sink_table",
]

_HOMES = {
    "SCORE_SCHEMA": "scores",
    "BatchReport": "reports",
    "Family": "signal_mix.families",
    "MatchWarning": "errors",
    "MaterializeError": "errors",
    "SaliencyAudit": "reports",
    "ScoreAudit": "reports",
    "add_saliency": "saliency_frames",
    "materialize_saliency": "saliency_runs",
    "measure_saliency": "saliency_frames",
    "LABEL_SCHEMA": "labels",
    "LabelAudit": "reports",
    "LabelFile": "options",
    "LabelFormat": "formats",
    "LabelPart": "options",
    "RefreshAudit": "reports",
    "SaliencyOptions": "options",
    "ScorePart": "options",
    "refresh_table": "refresh_runs",
    "ScoreFormat": "formats",
    "list_formats": "formats",
    "Sidecar": "options",
    "SignalReport": "signal_mix.reports",
    "audit_signals": "signal_mix.audit",
    "audit_tables": "signal_mix.files",
    "join_labels": "label_joins",
    "join_scores": "score_joins",
    "materialize_labels": "label_runs",
    "materialize_scores": "score_runs",
    "run_batch": "batches",
    "Jobs": "processes",
    "dask": "clusters",
    "scan_labels": "label_files",
    "scan_scores": "sidecars",
    "scan_table": "tables",
    "sink_table": "tables",
}


def __getattr__(name: str) -> object:
    """Imports the home of a public name when it is first asked for, which keeps start-up light."""
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion."""
    return __all__
