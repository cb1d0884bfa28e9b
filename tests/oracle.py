"""A second opinion: keys, sidecars, joins and their counts in plain Python, one value at a time.

It knows nothing of Polars and shares no code with the package, so an error of one is not an error of the
other. Tests compare the two on random input.
"""

from __future__ import annotations

import csv
import json
import math
import re
import unicodedata
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

SCORE_KEYS = [
    *("clip_id", "video_id", "chug_video_id", "content_id", "file_name", "filename", "basename"),
    *("name", "distorted_path", "dis_path", "path", "key", "clip_key", "clip_name", "src", "src_path"),
    *("video", "video_name", "video_path", "vid", "stimulus", "stimuli_file", "file", "filepath"),
    *("image", "image_name", "image_path", "img_path", "image_id", "flickr_id"),
]
SCORES = [
    *("score", "predicted_mos", "predicted_vmaf_or_mos", "pred_score", "prediction", "quality"),
    *("mos", "vmaf"),
]
OK = {None, "ok", "pass", "success", "succeeded", "done", "completed"}
RUNTIMES = ["runtime_ms", "runtime_total_ms", "elapsed_ms"]
MEDIA = {
    *("mp4", "mkv", "mov", "webm", "avi", "yuv", "y4m", "m4v", "ts", "mts", "m2ts", "mpg", "mpeg", "wmv"),
    *("flv", "3gp", "mxf", "ogv", "vob", "ivf", "obu", "av1", "264", "265", "266", "h264", "h265", "h266"),
    *("hevc", "gif", "png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "exr"),
}
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


class Refused(Exception):  # noqa: N818 - it says what happens
    """The input is one that has to be refused; `kind` says why."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


# --- keys ---------------------------------------------------------------------------------------------


def infer_key_column(columns, candidates=SCORE_KEYS):
    """The first candidate that the table has, whatever the case; an exact spelling goes first."""
    for candidate in candidates:
        if candidate in columns:
            return candidate
        for column in columns:
            if column.lower() == candidate:
                return column
    return None


def key_text(value):
    """The text of a key cell, or None."""
    if value is None or isinstance(value, (bool, list, dict)):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return str(int(value)) if value == int(value) else f"{value.normalize():f}"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    text = unicodedata.normalize("NFC", value).strip()
    return text or None


def resolve(rule, column):
    """What `auto` means for a column."""
    if rule != "auto":
        return rule
    words = ("path", "file", "name", "src")
    return "basename" if any(word in column.lower() for word in words) else "raw"


def normalize(text, rule):
    """The key of a text under a rule, or None."""
    if text is None or rule == "raw":
        return text
    while text and text[-1] in "/\\":
        text = text[:-1]
    base = re.split(r"[/\\]", text)[-1]
    if rule == "stem":
        head, dot, tail = base.rpartition(".")
        if dot and head and tail.lower() in MEDIA:
            base = head
    return base if base.strip() else None


def make_key(value, rule, column):
    """The key of a cell, or None."""
    return normalize(key_text(value), resolve(rule, column))


def slug(scorer):
    """The part of a column's name that stands for a scorer."""
    out = ""
    for letter in scorer.lower():
        out += letter if letter in "abcdefghijklmnopqrstuvwxyz0123456789" else "_"
    while "__" in out:
        out = out.replace("__", "_")
    return out.strip("_")


# --- files --------------------------------------------------------------------------------------------


def read_jsonl(path):
    """Rows of a file of JSON lines, with their line numbers."""
    text = Path(path).read_bytes().decode("utf-8-sig")
    lines = enumerate(text.split("\n"), start=1)
    return [(number, json.loads(line)) for number, line in lines if line.strip()]


def read_csv(path):
    """Cells of a CSV file as text, a dict a row; an empty cell is None."""
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:
        return [{k: v or None for k, v in row.items()} for row in csv.DictReader(stream)]


# --- sidecars -----------------------------------------------------------------------------------------


@dataclass
class Score:
    """One row of a sidecar."""

    scorer: str
    key: str
    key_field: str
    score: float | None = None
    status: str = "ok"
    runtime_ms: float | None = None
    frames: int = 0
    source: str | None = None


def is_absent(value):
    """Null and blank count as absent."""
    return value is None or (isinstance(value, str) and not value.strip())


def read_entry(files, *, label=None, key_field=None, score_field=None):
    """The rows of an entry, `None` for those that are not usable.

    Args:
        files: For each file its rows, which are objects.
        label: The label of the entry.
        key_field: The field that was named for the key.
        score_field: The field that was named for the score.
    """
    # Which field is meant is decided once a file, and once for all files that hold one row each.
    small = [rows[0] for rows in files if len(rows) == 1]
    keys = [key_field] if key_field else SCORE_KEYS
    scores = [score_field] if score_field else SCORES
    found = []
    for rows in files:
        decided = decide(small if len(rows) == 1 else rows, keys, scores)
        if score_field is None and decided["score"] is not None and decided["score"][1].lower() == "mos":
            beside = {name.lower() for row in (small if len(rows) == 1 else rows) for name in all_names(row)}
            if any(name.startswith(("pred", "gt")) for name in beside):
                raise Refused("table")
        found += [read_row(row, decided, label) for row in rows]
    return found


def decide(rows, keys, scores):
    """For each part of rows the place and the name of the field that holds it, or None."""
    every = ("row", "summary", "frames")
    return {
        "scorer": first_candidate(rows, ["competitor"], every[:2]),
        "key": first_candidate(rows, keys, every[:2], may_name_clips),
        "score": first_candidate(rows, scores, every),
        "runtime": first_candidate(rows, RUNTIMES, every),
        "status": first_candidate(rows, ["status"], every[:1]),
    }


def first_candidate(rows, names, places, test=None):
    """The first of the names, in the first of the places, that some row has, in the file's one spelling."""
    for place in places:
        for name in names:
            found = [key for row in rows for each in outer_of(row, place) for key in each]
            spelled = [key for key in found if key == name] + [key for key in found if key.lower() == name]
            for each in dict.fromkeys(spelled):
                values = [value for row in rows for value in values_at(row, place, each)]
                if test is None or test(values):
                    return place, each
    return None


def may_name_clips(values):
    """Objects that happen to have the name of a key hold fields, and are none."""
    said = [value for value in values if value is not None]
    return not said or any(not isinstance(value, dict) for value in said)


def outer_of(row, place):
    """The objects of a row in which fields of a place stand."""
    return {"row": [row], "summary": summaries(row), "frames": frames_of(row)}[place]


def values_at(row, place, name):
    """What a row has under a name: one value, of frames one for each frame that has it, or nothing."""
    return [each[name] for each in outer_of(row, place) if name in each]


def summaries(row):
    """The summary of a row, if it is an object."""
    return [value for key, value in row.items() if key.lower() == "summary" and isinstance(value, dict)]


def frames_of(row):
    """The frames of a row, if they are objects."""
    for key, value in row.items():
        if key.lower() == "frames" and isinstance(value, list) and all(isinstance(i, dict) for i in value):
            return value
    return []


def all_names(row):
    """The names that a row, its summary and its frames have."""
    return [name for each in (row, *summaries(row), *frames_of(row)) for name in each]


def number(value):
    """A finite number, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if not NUMBER.fullmatch(value.strip()):
            return None
        value = float(value)
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None


def mean_of(values):
    """The mean of numbers, each of which has to be one; None otherwise."""
    numbers = [number(value) for value in values]
    if not numbers or None in numbers:
        return None
    return math.fsum(numbers) / len(numbers)


def word(value):
    """Text without blanks around it; None for nothing."""
    return (value.strip() or None) if isinstance(value, str) else value


def read_row(row, decided, label=None):
    """One row by the fields that were decided for its file; None if it is not usable."""

    def one(part):
        values = values_at(row, *decided[part]) if decided[part] else []
        return values[0] if values else None

    competitor = word(one("scorer"))
    if label is not None and competitor is not None and slug(label) != slug(competitor):
        raise Refused("scorer-name")
    scorer = label if label is not None else competitor
    key = key_text(one("key"))
    score, frames = read_score(row, decided["score"])
    state = word(one("status"))
    # An object or a list is no word, but it says something.
    is_ok = not isinstance(state, (list, dict)) and (state.lower() if isinstance(state, str) else state) in OK
    if scorer is None or key is None or (is_ok and score is None):
        return None
    spelled = decided["key"][1]
    status, runtime = "ok" if is_ok else "bad", read_runtime(row, decided["runtime"])
    return Score(scorer, key, spelled, score, status, runtime, frames)


def read_score(row, decided):
    """The score of a row and how many frames it is the mean of."""
    values = values_at(row, *decided) if decided else []
    if decided and decided[0] == "frames":
        mean = mean_of(values) if len(values) == len(frames_of(row)) else None
        return (None, 0) if mean is None else (mean, len(values))
    value = values[0] if values else None
    if isinstance(value, list):
        mean = mean_of(value)
        return (None, 0) if mean is None else (mean, len(value))
    return number(value), 0


def read_runtime(row, decided):
    """The run time of a row in milliseconds, or None."""
    values = values_at(row, *decided) if decided else []
    if decided and decided[0] == "frames":
        times = [number(value) for value in values if number(value) is not None]
        return math.fsum(times) if times else None
    return number(values[0]) if values else None


# --- joins --------------------------------------------------------------------------------------------


@dataclass
class Joined:
    """What a join gives: why it is refused, or else rows, and the counts of its audit."""

    refusals: set[str] = field(default_factory=set)
    rows: list[dict] = field(default_factory=list)
    competitors: dict[str, dict[str, object]] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    input_rows: int = 0


def join(
    rows,
    scores,
    *,
    key_column,
    key_normalize="auto",
    missing_policy="mark",
    bad_policy="mark",
    min_match_rate=None,
    allow_folding=False,
    prefix="second_opinion",
):
    """Joins scores onto rows, or gives the code of every error that it may be refused with."""
    table = {}
    reasons = set()
    for score in scores:
        key = make_key(score.key, key_normalize, score.key_field)
        if key is None:
            reasons.add("sidecar")
        elif (score.scorer, key) in table:
            reasons.add("duplicate-key")
        else:
            table[score.scorer, key] = score
    scorers = sorted({score.scorer for score in scores})
    if len({slug(scorer) for scorer in scorers}) != len(scorers) or not all(map(slug, scorers)):
        reasons.add("scorer-name")

    texts = [key_text(row[key_column]) for row in rows]
    keys = [make_key(row[key_column], key_normalize, key_column) for row in rows]
    folded = folded_values(zip(texts, keys, strict=True))
    if folded and not allow_folding:
        reasons.add("folding")
    wanted = set(keys) - {None}

    out, competitors = [], {}
    for scorer in scorers:
        own = [key for name, key in table if name == scorer]
        states = [table[scorer, key].status if (scorer, key) in table else "missing" for key in keys]
        competitors[scorer] = {
            "competitor": scorer,
            "column_prefix": f"{prefix}_{slug(scorer)}",
            "scores_loaded": len(own),
            "matched_rows": states.count("ok"),
            "missing_rows": states.count("missing"),
            "bad_rows": states.count("bad"),
            "unused_scores": len(set(own) - set(keys)),
            "total_feature_keys": len(wanted),
            "matched_feature_keys": len(set(own) & wanted),
            "match_rate": len(set(own) & wanted) / len(wanted) if wanted else float(not rows),
        }
        reasons |= refusals(
            states, competitors[scorer]["match_rate"], missing_policy, bad_policy, min_match_rate
        )
    if reasons:
        return Joined(reasons)

    dropped = {
        state for state, policy in (("missing", missing_policy), ("bad", bad_policy)) if policy == "drop"
    }
    for row, key in zip(rows, keys, strict=True):
        found = {scorer: table.get((scorer, key)) for scorer in scorers}
        if not dropped & {score.status if score else "missing" for score in found.values()}:
            new = [five_columns(f"{prefix}_{slug(scorer)}", score) for scorer, score in found.items()]
            out.append({**row, **{name: value for columns in new for name, value in columns.items()}})
    if rows and not out:
        lacks = any((scorer, key) not in table for scorer in scorers for key in keys)
        return Joined({"missing-score" if "missing" in dropped and lacks else "bad-score"})
    counts = {
        "rows": len(rows),
        "rows_without_key": keys.count(None),
        "distinct_values": len(set(texts) - {None}),
        "distinct_keys": len(wanted),
        "folded_values": folded,
    }
    return Joined(set(), out, competitors, counts, len(rows))


def refusals(states, rate, missing_policy, bad_policy, min_match_rate):
    """Why one scorer's scores may be refused, given the status of each row."""
    reasons = {
        "match-rate": min_match_rate is not None and rate < min_match_rate,
        "missing-score": missing_policy == "fail" and "missing" in states,
        "bad-score": bad_policy == "fail" and "bad" in states,
    }
    return {reason for reason, holds in reasons.items() if holds}


def folded_values(pairs):
    """How many texts share their key with another text."""
    texts = {}
    for text, key in pairs:
        if key is not None:
            texts.setdefault(key, set()).add(text)
    return sum(len(own) for own in texts.values() if len(own) > 1)


def five_columns(prefix, score):
    """The columns of one scorer in one row."""
    return {
        f"{prefix}_score": score.score if score else None,
        f"{prefix}_status": score.status if score else "missing",
        f"{prefix}_runtime_ms": score.runtime_ms if score else None,
        f"{prefix}_frames": score.frames if score else 0,
        f"{prefix}_source": score.source if score else None,
    }
