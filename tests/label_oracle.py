"""MOS labels in plain Python: section 4 of the contract, one value at a time.

It knows nothing of Polars and shares no code with the package. Keys are those of `oracle`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import oracle
from oracle import Refused

LABEL_KEYS = [
    *("key", "clip_key", "clip_id", "video_id", "chug_video_id", "content_id", "clip_name", "file_name"),
    *("filename", "basename", "name", "src", "source", "src_path", "distorted_path", "dis_path", "path"),
    *oracle.SCORE_KEYS[oracle.SCORE_KEYS.index("video") :],
]
MOS = ["mos", "mean_mos", "mos_raw_0_100", "raw_mos", "score", "quality"]
EXTRAS = {
    "corpus": ["corpus"],
    "corpus_version": ["corpus_version"],
    "mos_n_ratings": ["n_ratings", "mos_n_ratings", "rating_count"],
    "mos_std_dev": ["mos_std_dev", "stddev", "std_dev"],
    "split": ["split"],
}


@dataclass
class LabelFile:
    """A label file as the user gives it: its rows, and how to read them."""

    name: str
    columns: list[str]
    rows: list[dict]
    key_column: str | None = None
    mos_column: str | None = None
    key_regex: str | None = None
    scale: str = "auto"


@dataclass
class Label:
    """One label of a key."""

    key: str
    mos: float
    raw: float
    source: str
    extras: dict[str, object]


@dataclass
class Labels:
    """One label a key, and what was counted on the way."""

    by_key: dict[str, Label]
    without_key: int
    scales: dict[str, str]
    reasons: set[str]
    texts: set[str] = field(default_factory=set)
    pairs: dict[tuple, list] = field(default_factory=dict)
    rows: int = 0


def search(key, pattern):
    """What a pattern takes from a key: group 1 of the first match, or all of it; None without a match."""
    if key is None or pattern is None:
        return key
    match = re.search(pattern, key)
    if match is None:
        return None
    found = match.group(1) if match.re.groups else match.group(0)
    return found if found is not None and found.strip() else None


def column(columns, names):
    """The first of `names` among the columns, an exact spelling before one of another case."""
    return oracle.infer_key_column(columns, names)


def ends(scale, mos_column, values):
    """The ends of a file's scale, by the values of its rows with a key; None where `auto` cannot tell."""
    if scale != "auto":
        low, high = scale.split(":")
        return float(low), float(high)
    if mos_column.lower() == "mos_raw_0_100" or (
        all(0 <= value <= 100 for value in values) and max(values, default=0) > 10
    ):
        return 0.0, 100.0
    return (1.0, 5.0) if all(1 <= value <= 5 for value in values) else None


def read(files, key_normalize):
    """All files as one label a key; what has to be refused is in `reasons`."""
    labels = Labels({}, 0, {}, set())
    for file in files:
        key_column = file.key_column or column(file.columns, LABEL_KEYS)
        mos_column = file.mos_column or column(file.columns, MOS)
        keyed = []
        for row in file.rows:
            # Only the chosen column counts: another never steps in for a row that lacks it.
            text = oracle.key_text(row.get(key_column))
            key = search(oracle.make_key(row.get(key_column), key_normalize, key_column), file.key_regex)
            others = [name for name in row if name.lower() == key_column.lower()]
            if text is None and any(oracle.key_text(row[name]) is not None for name in others):
                labels.reasons.add("label")
            labels.rows += 1
            labels.texts |= {text} - {None}
            labels.pairs.setdefault((key_column, file.key_regex), []).append((text, key))
            if key is None:
                labels.without_key += 1
            else:
                keyed.append((key, oracle.number(row.get(mos_column)), row))
        values = [value for _, value, _ in keyed if value is not None]
        if len(values) < len(keyed):
            labels.reasons.add("label")
        scale = ends(file.scale, mos_column, values)
        if scale is None:
            labels.reasons.add("label-file")
            continue
        low, high = scale
        labels.scales[file.name] = f"{low:g}:{high:g}" if values or file.scale != "auto" else None
        for key, value, row in keyed:
            if value is None or not low <= value <= high:
                labels.reasons.add("label")
                continue
            share = (value - low) / (high - low)
            label = Label(key, 1 + 4 * share, 100 * share, file.name, extras(file.columns, row, mos_column))
            known = labels.by_key.setdefault(key, label)
            if not math.isclose(known.mos, label.mos, rel_tol=0, abs_tol=1e-6):
                labels.reasons.add("duplicate-key")
            if known.extras != label.extras:
                labels.reasons.add("duplicate-key")
    if not labels.by_key:
        labels.reasons.add("label-file")
    return labels


def extras(columns, row, mos_column):
    """What is copied along: the first of several names that is not null."""
    found = {}
    for extra, names in EXTRAS.items():
        values = [row.get(name) for wanted in names for name in columns if name.lower() == wanted]
        values = [value for value in values if not oracle.is_absent(value)]
        if values and mos_column not in names:
            found[extra] = values[0]
    return found


@dataclass
class Joined:
    """What a join gives: rows, and the counts of its audit."""

    rows: list[dict]
    extras: list[str]
    audit: dict[str, object]


def join(
    rows,
    files,
    *,
    feature_key_column,
    key_normalize="auto",
    feature_key_regex=None,
    min_match_rate=0.95,
    allow_folding=False,
    status_column="mos_label_status",
):
    """Joins labels onto rows; raises `Refused` with every reason there is, joined by commas."""
    labels = read(files, key_normalize)
    texts = [oracle.key_text(row[feature_key_column]) for row in rows]
    normal = [oracle.make_key(row[feature_key_column], key_normalize, feature_key_column) for row in rows]
    keys = [search(key, feature_key_regex) for key in normal]
    reasons = set(labels.reasons)

    folded = oracle.folded_values(zip(texts, keys, strict=True))
    if (folded or any(map(oracle.folded_values, labels.pairs.values()))) and not allow_folding:
        reasons.add("folding")
    wanted = set(keys) - {None}
    matched = wanted & set(labels.by_key)
    rate = len(matched) / len(wanted) if wanted else float(not rows)
    if rate < min_match_rate:
        reasons.add("match-rate")
    if reasons:
        raise Refused(",".join(sorted(reasons)))

    present = sorted({extra for label in labels.by_key.values() for extra in label.extras})
    out = []
    for row, key in zip(rows, keys, strict=True):
        label = labels.by_key.get(key)
        new = {
            "mos": label.mos if label else None,
            "mos_raw_0_100": label.raw if label else None,
            status_column: "ok" if label else "missing-label",
            "mos_label_source": label.source if label else None,
            **{extra: label.extras.get(extra) if label else None for extra in present},
        }
        out.append({**row, **new})
    matched_rows = sum(key in labels.by_key for key in keys)
    audit = {
        "input_rows": len(rows),
        "output_rows": len(rows),
        "total_feature_keys": len(wanted),
        "matched_feature_keys": len(matched),
        "matched_rows": matched_rows,
        "missing_rows": len(rows) - matched_rows,
        "labels_loaded": len(labels.by_key),
        "labels_without_key": labels.without_key,
        "unused_labels": len(set(labels.by_key) - wanted),
        "match_rate": rate,
        "keys": {
            "rows": len(rows),
            "rows_without_key": keys.count(None),
            "distinct_values": len(set(texts) - {None}),
            "distinct_keys": len(wanted),
            "folded_values": folded,
        },
    }
    return Joined(out, present, audit)
