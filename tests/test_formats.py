"""Formats: what each tool and dataset writes, to the letter, and what must not be taken for it.

All numbers are invented. Where a layout is known from is said beside it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import polars_materialize as pm
from polars_materialize import errors, formats
from polars_materialize.cli import main
from polars_materialize.tables import chunks
from polars_materialize.tables import files as tables_files

PARTS = ["scorer", "key", "score", "status", "frames"]


def write(folder, name, content):
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def scores(path, **options):
    return pm.scan_scores(pm.Sidecar(str(path), **options)).collect()


def labels(path, **options):
    return pm.scan_labels(pm.LabelFile(str(path), **options)).collect()


def rows(frame):
    return frame.select(PARTS).rows()


def crlf(table):
    """As Python's csv.writer does."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(table)
    return text.getvalue()


def mean(numbers):
    return math.fsum(numbers) / len(numbers)


def harmonic(numbers):
    """As libvmaf defines it."""
    return len(numbers) / math.fsum(1 / (number + 1) for number in numbers) - 1


# --- what scorers write ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A file to the letter of a layout, and what it says.

    Attributes:
        layout: What to call it.
        format: The format that it is in.
        name: Its name.
        text: Its text.
        rows: The scorer, key, score, status and frames of each clip.
        source: Where the layout is known from.
        auto: Whether it is unmistakable.
        options: What an entry has to say beside the format.
    """

    layout: str
    format: str
    name: str
    text: str
    rows: list = field(default_factory=list)
    source: str = ""
    auto: bool = True
    options: dict = field(default_factory=dict)

    def __str__(self):
        return self.layout


DOVER = "https://github.com/VQAssessment/DOVER/blob/master/evaluate_a_set_of_videos.py"
COVER = "https://github.com/vztu/COVER/blob/release/"
QALIGN = "https://github.com/Q-Future/Q-Align/blob/main/q_align/evaluate/"
PYIQA = "https://github.com/chaofengc/IQA-PyTorch/blob/main/inference_iqa.py"
UVQ = "https://github.com/google/uvq/blob/main/uvq_inference.py"
VMAF = "https://github.com/Netflix/vmaf/blob/master/libvmaf/src/output.c"
VMAF_1 = "https://github.com/Netflix/vmaf/blob/v1.5.1/libvmaf/src/vmaf.cpp"
RUN_VMAF = "https://github.com/Netflix/vmaf/blob/master/resource/doc/VMAF_Python_library.md"
FQM = "https://github.com/slhck/ffmpeg-quality-metrics"
P1204 = "https://github.com/Telecommunication-Telemedia-Assessment/bitstream_mode3_p1204_3"
NVC = "https://github.com/Telecommunication-Telemedia-Assessment/AVT-VQDB-UHD-1-NVC"
KVQ = "https://github.com/lixinustc/KVQ-Challenge-CVPR-NTIRE2024/blob/main/trainer.py"

dover = [("./demo/b.mp4", 47.12, 53.66, 51.99), ("./demo/sub/night walk.mp4", 9.31, 11.77, 10.23)]
dover_csv = "path, aesthetic score, technical score, overall/final score\n" + "".join(
    f"{name}, {a:4f}, {t:4f},{o:4f}\n" for name, a, t, o in dover
)
dover_log = "".join(f"{Path(name).name},{a:4f}, {t:4f},{o:4f}\n" for name, a, t, o in dover)
cover_head = ["semantic score", "technical score", "aesthetic score", "overall/final score"]

WORDS = [
    *("good", "poor", "high", "fair", "low", "excellent", "bad"),
    *("fine", "moderate", "decent", "average", "medium", "acceptable"),
]
LEVELS = {"excellent": 1.0, "good": 0.75, "fair": 0.5, "poor": 0.25, "bad": 0.0}
LOGITS = [14.5, 9.5, 9.25, 11.75, 8.875, 13.25, 7.0, 9.5, 7.75, 8.5, 8.0, 7.5, 8.25]


def logits(shift=0.0):
    return {
        word: logit + shift * index for index, (word, logit) in enumerate(zip(WORDS, LOGITS, strict=True))
    }


def expected_value(found):
    """The expected value over the five words, from their softmax."""
    weights = {word: math.exp(found[word]) for word in LEVELS}
    return math.fsum(weights[word] * LEVELS[word] for word in LEVELS) / math.fsum(weights.values())


def q_align_video(name, shift, gt):
    found = logits(shift)
    return {"img_path": name, "gt_score": gt, "logits": found, "score": expected_value(found)}


def q_align_image(name, shift, gt):
    talk = [
        {"from": "human", "value": "Can you rate the quality?\n<|image|>"},
        {"from": "gpt", "value": "good"},
    ]
    return {
        "id": f"{name}->{gt}",
        "image": f"koniq/{name}",
        "conversations": talk,
        "gt_score": gt,
        "logits": logits(shift),
    }


UVQ_1 = [
    *("compression", "content", "distortion", "compression_content", "compression_distortion"),
    *("content_distortion", "compression_content_distortion"),
]

VMAFS = [83.856285, 81.10422, 79.932101]
FEATURES = [{"integer_adm2": 0.96, "integer_motion2": float(i), "vmaf": v} for i, v in enumerate(VMAFS)]
NAMES = list(FEATURES[0])


def pools(name):
    numbers = [frame[name] for frame in FEATURES]
    return {
        "min": min(numbers),
        "max": max(numbers),
        "mean": mean(numbers),
        "harmonic_mean": harmonic(numbers),
    }


def six(value):
    return float(f"{value:.6f}")


POOLED = six(mean(VMAFS))


def vmaf_json(head='  "version": "3.0.0",\n  "fps": 41.98,\n', *, pooled=True, frames=None):
    frames = FEATURES if frames is None else frames
    items = [
        f'    {{\n      "frameNum": {i},\n      "metrics": {{\n'
        + ",\n".join(f'        "{k}": {"null" if v is None else f"{v:.6f}"}' for k, v in frame.items())
        + "\n      }\n    }"
        for i, frame in enumerate(frames)
    ]
    blocks = [
        f'    "{name}": {{\n'
        + ",\n".join(f'      "{k}": {v:.6f}' for k, v in pools(name).items())
        + "\n    }"
        for name in NAMES
    ]
    text = "{\n" + head + '  "frames": [\n' + ",\n".join(items) + "\n  ]"
    if pooled:
        text += ',\n  "pooled_metrics": {\n' + ",\n".join(blocks) + '\n  },\n  "aggregate_metrics": {\n  }'
    return text + "\n}\n"


def vmaf_1_json(*, score=True):
    content = {
        "version": "1.5.1",
        "params": {"model": "vmaf_v0.6.1.pkl", "scaledWidth": 1920, "scaledHeight": 1080, "subsample": 1},
        "metrics": NAMES,
        "frames": [{"frameNum": i, "metrics": frame} for i, frame in enumerate(FEATURES)],
        **({"VMAF score": POOLED} if score else {}),
        "ExecFps": 24.3,
    }
    return json.dumps(content, separators=(",", ":"), indent=2)


def vmaf_1_3_json():
    """As libvmaf 1.3 writes it: nothing but frames, and with a model of confidence intervals more of them."""
    models = {"bagging": 80.5, "ci95_high": 84.0, "stddev": 1.5, "vmaf_0001": 79.5}
    content = {
        "version": "1.3.11",
        "params": {"model": "vmaf_rb_v0.6.3.pkl", "scaledWidth": 3840, "num_bootstrap_models": 20},
        "metrics": sorted([*NAMES, *models]),
        "frames": [{"frameNum": i, "metrics": {**models, **frame}} for i, frame in enumerate(FEATURES)],
    }
    return json.dumps(content, separators=(",", ":"), indent=2)


def vmaf_csv(*, head="Frame,", cells="{},", spec=".6f"):
    lines = [head + "".join(f"{name}," for name in NAMES)]
    for i, frame in enumerate(FEATURES):
        lines.append(cells.format(i) + "".join(f"{frame[name]:{spec}}," for name in NAMES))
    return "\n".join(lines) + "\n"


def vmaf_xml(*, pooled=True):
    frames = "".join(
        f'    <frame frameNum="{i}" ' + "".join(f'{k}="{v:.6f}" ' for k, v in frame.items()) + "/>\n"
        for i, frame in enumerate(FEATURES)
    )
    metrics = "".join(
        f'    <metric name="{name}" ' + "".join(f'{k}="{v:.6f}" ' for k, v in pools(name).items()) + "/>\n"
        for name in NAMES
    )
    return (
        '<VMAF version="3.0.0">\n  <params qualityWidth="576" qualityHeight="324" />\n  <fyi fps="41.98" />\n'
        f"  <frames>\n{frames}  </frames>\n"
        + (f"  <pooled_metrics>\n{metrics}  </pooled_metrics>\n" if pooled else "")
        + "  <aggregate_metrics />\n</VMAF>\n"
    )


VMAF_1_XML = (
    '<?xml version="1.0"?>\n<VMAF version="1.5.1">\n\t<params model="vmaf_v0.6.1.pkl" scaledWidth="1920" />\n'
    f'\t<fyi numOfFrames="3" aggregateVMAF="{POOLED}" execFps="24.3" />\n\t<frames>\n'
    + "".join(f'\t\t<frame frameNum="{i}" vmaf="{v}" />\n' for i, v in enumerate(VMAFS))
    + "\t</frames>\n</VMAF>\n"
)


def fqm(*, average=True, **others):
    frames = [{"integer_adm2": 0.7, "vmaf": v, "n": i + 1} for i, v in enumerate(VMAFS)]
    ssim = [{"ssim_avg": 0.9, "n": i + 1} for i in range(3)]
    numbers = {"average": round(mean(VMAFS), 3), "median": 1.0, "stdev": 1.0, "min": 1.0, "max": 1.0}
    overall = {"vmaf": {"vmaf": numbers}} if average else {}
    content = {"vmaf": frames, "ssim": ssim, "global": {**overall, "ssim": {"ssim_avg": {"average": 0.9}}}}
    return {**content, "input_file_dist": "enc/a-854x480.mkv", "input_file_ref": "ref/a.mkv", **others}


fqm_rows = [[i + 1, 35.6, v, "enc/a.mkv", "ref/a.mkv"] for i, v in enumerate(VMAFS)]
fqm_head = ["n", "psnr_avg", "vmaf", "input_file_dist", "input_file_ref"]


def p1204(name="a.mkv", per_sequence=2.6713, *, new=True):
    content = {
        "date": "2024-05-03 18:26:24.722478",
        "debug": {"baseline": 2.9, "coding_deg": 52.5},
        "per_second": [2.5, 2.75, 3.0],
        **({} if per_sequence is None else {"per_sequence": per_sequence}),
        "video_basename": name,
        "video_full_path": f"videos/{name}",
    }
    return content | ({"features": {"Bitrate": 772.1, "vp9": 1.0}, "version": "0.1.2"} if new else {})


def wrapped(name, numbers):
    return {
        "name": name,
        "frames": [
            {"frame_idx": i, "predicted_vmaf_or_mos": n, "runtime_ms": 1.5} for i, n in enumerate(numbers)
        ],
        "summary": {"competitor": "fork-nr-metric", "plcc": 0.0, "runtime_total_ms": 1.5 * len(numbers)},
    }


def indented(content, indent=4):
    return json.dumps(content, indent=indent) + "\n"


CASES = [
    Case(
        "dover-csv",
        "dover-csv",
        "demo.csv",
        dover_csv,
        [("dover", name, o, "ok", 0) for name, _, _, o in dover],
        DOVER,
    ),
    Case(
        "dover-log",
        "dover-log",
        "zero_shot_res_sensehdr.txt",
        dover_log,
        [("dover", Path(name).name, o, "ok", 0) for name, _, _, o in dover],
        DOVER,
        auto=False,
    ),
    Case(
        "cover-csv",
        "cover-csv",
        "demo.csv",
        f"path, {', '.join(cover_head)}\na.mp4,-0.086216,-0.089703,0.105127,-0.070792\n",
        [("cover", "a.mp4", -0.070792, "ok", 0)],
        COVER + "evaluate_a_set_of_videos.py",
    ),
    Case(
        "cover-csv of a dataset",
        "cover-csv",
        "konvid.csv",
        crlf([["Video", *cover_head], ["007", 0.1, 0.2, 0.25, 0.55], ["1.10", -1, -1, 1, -1]]),
        [("cover", "007", 0.55, "ok", 0), ("cover", "1.10", -1.0, "ok", 0)],
        COVER + "evaluate_one_dataset.py",
    ),
    Case(
        "q-align of videos",
        "q-align",
        "konvid.json",
        json.dumps(q_align_video("a.mp4", 0.0, 4.04)) + json.dumps(q_align_video("b.mp4", 0.3, 1.92)),
        [(*("q-align", f"{n}.mp4", expected_value(logits(s)), "ok"), 0) for n, s in [("a", 0.0), ("b", 0.3)]],
        QALIGN + "vqa_eval.py",
    ),
    Case(
        "q-align of images",
        "q-align",
        "koniq.json",
        json.dumps(q_align_image("1.jpg", 0.0, 61.5)) + json.dumps(q_align_image("2.jpg", -0.4, 22.25)),
        [
            ("q-align", f"koniq/{n}.jpg", pytest.approx(expected_value(logits(s)), abs=1e-14), "ok", 0)
            for n, s in [(1, 0.0), (2, -0.4)]
        ],
        QALIGN + "iqa_eval.py",
    ),
    Case(
        "pyiqa-csv",
        "pyiqa-csv",
        "musiq.csv",
        crlf([("I03.bmp", 62.43786239624023), ("a, b.png", 33.5), ("dark.png", "nan")]),
        [
            ("musiq", "I03.bmp", 62.43786239624023, "ok", 0),
            ("musiq", "a, b.png", 33.5, "ok", 0),
            ("musiq", "dark.png", None, "bad", 0),
        ],
        PYIQA,
        auto=False,
        options={"label": "musiq"},
    ),
    Case(
        "uvq-csv",
        "uvq-csv",
        "uvq.csv",
        "G-000a_crf_10_ss_00_t_20.0.mp4,3.9241766929626465\nV-000b.mp4,3\n",
        [
            ("uvq", "G-000a_crf_10_ss_00_t_20.0.mp4", 3.9241766929626465, "ok", 0),
            ("uvq", "V-000b.mp4", 3.0, "ok", 0),
        ],
        UVQ,
        auto=False,
    ),
    Case(
        "uvq-json of several clips",
        "uvq-json",
        "batch.json",
        json.dumps(
            [
                {"uvq1p5_score": 3.9, "per_frame_scores": [3, 5], "frame_indices": [0, 30], "video_name": n}
                for n in ("a.mp4", "b.mp4")
            ],
            indent=2,
        ),
        [("uvq", "a.mp4", 3.9, "ok", 0), ("uvq", "b.mp4", 3.9, "ok", 0)],
        UVQ,
    ),
    Case(
        "uvq-json 1.0",
        "uvq-json",
        "a.json",
        json.dumps({**{name: 3 + i / 8 for i, name in enumerate(UVQ_1)}, "video_name": "c/a.mp4"}, indent=2),
        [("uvq", "c/a.mp4", 3.75, "ok", 0)],
        UVQ,
    ),
    *(
        Case(
            layout,
            "libvmaf-json",
            "clip_a.json",
            text,
            [("vmaf", "clip_a.json", score, "ok", frames)],
            source,
        )
        for layout, text, score, frames, source in [
            ("libvmaf-json 3", vmaf_json(), POOLED, 0, VMAF),
            ("libvmaf-json 2.1 has no fps", vmaf_json('  "version": "2.1.1",\n'), POOLED, 0, VMAF),
            ("libvmaf-json fps null", vmaf_json('  "version": "3.0.0",\n  "fps": null,\n'), POOLED, 0, VMAF),
            ("libvmaf-json 1", vmaf_1_json(), POOLED, 0, VMAF_1),
            (
                "libvmaf-json of run_vmaf",
                indented(
                    {
                        "executorId": "VMAF_V0.2.7-VMAF_v0.6.1",
                        "asset": {"identifier": "test_0_0_src01_576x324_vs_dis01_576x324"},
                        "frames": [{"frameNum": i, "VMAF_score": v} for i, v in enumerate(VMAFS)],
                        "aggregate": {"VMAF_feature_adm2_score": 0.9, "VMAF_score": POOLED, "method": "mean"},
                    }
                ),
                POOLED,
                0,
                RUN_VMAF,
            ),
        ]
    ),
    Case(
        "libvmaf-json 1.3",
        "libvmaf-json",
        "clip_a.json",
        vmaf_1_3_json(),
        [("vmaf", "clip_a.json", pytest.approx(mean(VMAFS), rel=1e-15), "ok", 3)],
        "https://github.com/Netflix/vmaf/blob/v1.3.15/wrapper/src/vmaf.cpp",
    ),
    Case(
        "libvmaf-json of frames only",
        "libvmaf-json",
        "clip_a.json",
        vmaf_1_json(score=False),
        [("vmaf", "clip_a.json", pytest.approx(mean(VMAFS), rel=1e-15), "ok", 3)],
        VMAF_1,
    ),
    Case(
        "libvmaf-csv",
        "libvmaf-csv",
        "clip_a.csv",
        vmaf_csv(),
        [("vmaf", "clip_a.csv", pytest.approx(mean(VMAFS), rel=1e-15), "ok", 3)],
        VMAF,
    ),
    Case(
        "libvmaf-csv 1",
        "libvmaf-csv",
        "clip_a.csv",
        vmaf_csv(head="Frame,Width,Height,", cells="{},1920,1080,", spec="4.4f"),
        [("vmaf", "clip_a.csv", pytest.approx(mean([83.8563, 81.1042, 79.9321]), rel=1e-15), "ok", 3)],
        VMAF_1,
    ),
    Case(
        "libvmaf-xml",
        "libvmaf-xml",
        "clip_a.xml",
        vmaf_xml(),
        [("vmaf", "clip_a.xml", POOLED, "ok", 0)],
        VMAF,
    ),
    Case(
        "libvmaf-xml 1",
        "libvmaf-xml",
        "clip_a.xml",
        VMAF_1_XML,
        [("vmaf", "clip_a.xml", POOLED, "ok", 0)],
        VMAF_1,
    ),
    Case(
        "libvmaf-xml of frames only",
        "libvmaf-xml",
        "clip_a.xml",
        vmaf_xml(pooled=False),
        [("vmaf", "clip_a.xml", pytest.approx(mean(VMAFS), rel=1e-15), "ok", 3)],
        VMAF,
    ),
    Case(
        "ffmpeg-quality-metrics",
        "ffmpeg-quality-metrics",
        "a.json",
        indented(fqm()),
        [("vmaf", "enc/a-854x480.mkv", round(mean(VMAFS), 3), "ok", 0)],
        FQM,
    ),
    Case(
        "ffmpeg-quality-metrics of frames only",
        "ffmpeg-quality-metrics",
        "a.json",
        indented(fqm(average=False)),
        [("vmaf", "enc/a-854x480.mkv", pytest.approx(mean(VMAFS), rel=1e-15), "ok", 3)],
        FQM,
    ),
    Case(
        "ffmpeg-quality-metrics-csv",
        "ffmpeg-quality-metrics-csv",
        "a.csv",
        crlf([fqm_head, *fqm_rows]),
        [("vmaf", "enc/a.mkv", pytest.approx(mean(VMAFS), rel=1e-15), "ok", 3)],
        FQM,
    ),
    Case(
        "ffmpeg-quality-metrics-csv in pandas' order",
        "ffmpeg-quality-metrics-csv",
        "a.csv",
        "n,vmaf,psnr_avg,input_file_dist,input_file_ref\n1,80.5,inf,d.mkv,r.mkv\n2,81.5,35,d.mkv,r.mkv\n",
        [("vmaf", "d.mkv", 81.0, "ok", 2)],
        FQM,
    ),
    Case(
        "p1204",
        "p1204",
        "a.json",
        json.dumps(p1204(), indent=4),
        [("p1204_3", "a.mkv", 2.6713, "ok", 0)],
        P1204,
    ),
    Case(
        "p1204 of 2020",
        "p1204",
        "a.json",
        json.dumps(p1204(new=False), indent=4),
        [("p1204_3", "a.mkv", 2.6713, "ok", 0)],
        P1204,
    ),
    Case(
        "p1204 of several clips",
        "p1204",
        "all.json",
        indented([p1204(), p1204("b.mkv", 3)]),
        [("p1204_3", "a.mkv", 2.6713, "ok", 0), ("p1204_3", "b.mkv", 3.0, "ok", 0)],
        P1204,
    ),
    Case(
        "p1204 of seconds only",
        "p1204",
        "a.json",
        indented(p1204("b.mkv", None)),
        [("p1204_3", "b.mkv", 2.75, "ok", 3)],
        P1204,
        auto=False,
    ),
    Case(
        "wrapper",
        "wrapper",
        "a.jsonl",
        "".join(json.dumps(wrapped(n, v)) + "\n" for n, v in [("a.yuv", [70, 71, 72]), ("b.yuv", [33])]),
        [("fork-nr-metric", "a.yuv", 71.0, "ok", 3), ("fork-nr-metric", "b.yuv", 33.0, "ok", 1)],
        "docs/second-opinions.md",
        auto=False,
    ),
    Case(
        "nvc-dover",
        "nvc-dover",
        "a.json",
        indented(
            {"distorted": "a.mkv", "technical_score": -0.06, "aesthetic_score": 0.2, "fused_score": 0.85}
        ),
        [("dover", "a.mkv", 0.85, "ok", 0)],
        NVC,
    ),
    Case(
        "nvc-fastervqa",
        "nvc-fastervqa",
        "a.json",
        indented({"distorted": "a.mkv", "model": "FasterVQA", "sampled_frames": [2, 3], "score": "0.81274"}),
        [("fastervqa", "a.mkv", 0.81274, "ok", 0)],
        NVC,
    ),
    Case(
        "nvc-musiq",
        "nvc-musiq",
        "a.json",
        indented({"mean_musiq": 30.3228, "mean_musiq_cc": 36.1447, "video": "../NVC/encoded/a.mkv"}),
        [("musiq", "../NVC/encoded/a.mkv", 30.3228, "ok", 0)],
        NVC,
    ),
    Case(
        "nvc-qalign",
        "nvc-qalign",
        "a.json",
        indented({"qalign_score": 0.9052734375, "video_name": "a.mkv"}),
        [("q-align", "a.mkv", 0.9052734375, "ok", 0)],
        NVC,
    ),
    Case(
        "lpips-json",
        "lpips-json",
        "a_q48.lpips.json",
        indented(
            {"metadata": {"name": "a_q48", "mean_distance": 0.125}, "frame_distances": [0.125, 0.25, 0.0]}
        ),
        [("lpips", "a_q48", 0.125, "ok", 3)],
        NVC,
    ),
    Case(
        "kvq-csv",
        "kvq-csv",
        "output.txt",
        "0001.mp4,3.217\n0002.mp4,2.904\n",
        [("kvq", "0001.mp4", 3.217, "ok", 0), ("kvq", "0002.mp4", 2.904, "ok", 0)],
        KVQ,
        auto=False,
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_format_of_scores_has_a_case():
    assert {case.format for case in CASES} == set(pm.list_formats().scores)
    assert all(case.source for case in CASES)


@every_case
def test_scores_by_format_alone(tmp_path, case):
    path = write(tmp_path, case.name, case.text)

    frame = scores(path, format=case.format, **case.options)

    assert rows(frame) == case.rows
    assert frame["format"].unique().to_list() == [case.format]


@every_case
def test_scores_by_auto(tmp_path, case):
    path = write(tmp_path, case.name, case.text)

    if case.auto:
        frame = scores(path, **case.options)
        assert rows(frame) == case.rows
        assert frame["format"].unique().to_list() == [case.format]
        return
    try:
        frame = scores(path, **case.options)
    except errors.MaterializeError:
        return
    assert frame["format"].to_list() == [None] * len(case.rows)
    assert rows(frame) == case.rows


VARIANTS = {
    "windows": lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n").encode(),
    "mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
}


@pytest.mark.parametrize("variant", VARIANTS)
@every_case
def test_scores_with_other_line_ends_with_a_mark_and_compressed(tmp_path, case, variant):
    name = case.name + (".gz" if variant == "gzip" else "")
    path = write(tmp_path, name, VARIANTS[variant](case.text))

    frame = scores(path, format=case.format, **case.options)

    found = frame.with_columns(pl.col("key").str.strip_suffix(".gz")).select(PARTS).rows()
    assert found == case.rows


@every_case
def test_scores_of_an_empty_file_are_refused_by_name(tmp_path, case):
    folder = tmp_path / "logs"
    write(folder, case.name, "")

    for path in (folder / case.name, folder):
        with pytest.raises(errors.TableError, match=f"{case.name}: the file is empty"):
            scores(path, format=case.format, **case.options)


def test_an_empty_file_beside_others_is_refused_by_name(tmp_path):
    write(tmp_path, "a.txt", "x.mp4,3\n")
    write(tmp_path, "b.txt", "")

    with pytest.raises(errors.TableError, match=r"b\.txt: the file is empty; expected lines of 2 cells"):
        scores(tmp_path, format="uvq-csv")


@pytest.mark.parametrize("name", [".~lock.a.csv#", ".a.csv.swp", ".DS_Store"])
def test_lock_files_in_a_folder_are_passed_over(tmp_path, name):
    write(tmp_path, "a.csv", dover_csv)
    write(tmp_path, name, ",user,host,21.11.2026 15:00,file:///;")

    assert scores(tmp_path, format="dover-csv").height == len(dover)
    assert scores(tmp_path).height == len(dover)
    assert scores(tmp_path / "*").height == len(dover)


def test_an_unknown_suffix_is_refused_with_a_hint(tmp_path):
    path = write(tmp_path, "log.txt", dover_log)

    with pytest.raises(errors.TableError, match=r"log\.txt: unknown kind of table.*or say the format"):
        scores(path)
    with pytest.raises(errors.TableError, match="or say the format"):
        labels(path)
    with pytest.raises(errors.TableError) as refused:
        pm.scan_table(path)
    assert "say the format" not in str(refused.value)


def test_a_visible_stranger_in_a_folder_is_refused_by_name(tmp_path):
    write(tmp_path, "a.json", indented(p1204()))
    write(tmp_path, "notes.txt", "not scores")

    with pytest.raises(errors.TableError, match=r"notes\.txt:1: not JSON"):
        scores(tmp_path, format="p1204")


# --- what scorers write that cannot be used -------------------------------------------------------------

REFUSED = {
    "a short row of libvmaf-csv": (
        "libvmaf-csv",
        "a.csv",
        "Frame,adm2,motion2,vmaf,\n0,0.9,0.1,80.0,\n1,0.9,81.0,\n",
        r"a\.csv:3: expected 5 cells, found 4",
    ),
    "a cell beyond the last name": (
        "libvmaf-csv",
        "a.csv",
        "Frame,vmaf,\n0,80.0,\n1,81.0,82.0\n",
        r"a\.csv: a cell beyond the last name",
    ),
    "a frame that is nan": (
        "libvmaf-csv",
        "a.csv",
        "Frame,vmaf,\n0,80.0,\n1,nan,\n2,81.0,\n",
        r"a\.csv:3: status ok without a usable score in 'vmaf'; read as 'libvmaf-csv'",
    ),
    "a frame without vmaf": (
        "libvmaf-json",
        "a.json",
        vmaf_json(pooled=False, frames=[*FEATURES[:2], {"integer_adm2": 0.9}]),
        r"a\.json: status ok without a usable score",
    ),
    "a frame whose vmaf is null": (
        "libvmaf-json",
        "a.json",
        vmaf_json(pooled=False, frames=[*FEATURES[:2], {"vmaf": None}]),
        r"a\.json: status ok without a usable score",
    ),
    "uvq of three columns": ("uvq-csv", "a.csv", "a,content,3.6\n", r"a\.csv:1: expected 2 cells, found 3"),
    "pyiqa with tabs": ("pyiqa-csv", "a.txt", "I03.bmp\t62.4\n", r"a\.txt:1: expected 2 cells, found 1"),
    "an empty object of p1204": (
        "p1204",
        "a.json",
        json.dumps([p1204(), {}]),
        r"rows\[1\]: no key in 'video_basename'; status ok without a usable score in 'per_sequence'",
    ),
    "a header where none is": (
        "dover-log",
        "a.csv",
        dover_csv,
        r"a\.csv:1: status ok without a usable score",
    ),
    "only ssim": (
        "ffmpeg-quality-metrics",
        "a.json",
        json.dumps({"ssim": [{"ssim_avg": math.inf, "n": 1}], "global": {}, "input_file_dist": "a.mkv"}),
        r"a\.json: status ok without a usable score in any of global\.vmaf\.vmaf\.average vmaf\.vmaf",
    ),
    "a doctype": (
        "libvmaf-xml",
        "a.xml",
        '<?xml version="1.0"?>\n<!DOCTYPE VMAF [<!ENTITY a "b">]>\n<VMAF/>',
        r"a\.xml: XML with a DOCTYPE",
    ),
    "another root": (
        "libvmaf-xml",
        "a.xml",
        "<html><body/></html>",
        r"a\.xml: XML of <html>; expected .*<VMAF>",
    ),
    "broken XML": ("libvmaf-xml", "a.xml", "<VMAF>\n<frames>\n</VMAF>", r"a\.xml:3: not XML: mismatched tag"),
    "XML without frames": ("libvmaf-xml", "a.xml", "<VMAF/>", r"a\.xml: status ok without a usable score"),
    "XML in another encoding": (
        "libvmaf-xml",
        "a.xml",
        "<VMAF/>".encode("utf-16"),
        r"a\.xml: not UTF-8 text",
    ),
    "half an object": (
        "q-align",
        "a.json",
        json.dumps(q_align_video("a.mp4", 0, 1)) + '{"img_path": "b.mp4", "lo',
        r"a\.json:1: not JSON",
    ),
    "an object in another encoding": (
        "q-align",
        "a.json",
        '{"img_path": "a.mp4", "score": 1}'.encode("utf-16"),
        r"a\.json:1: not UTF-8 text: invalid start byte",
    ),
    "objects in another encoding": (
        "q-align",
        "a.json",
        ('{"img_path": "a.mp4", "score": 1}' * 2).encode("utf-16"),
        r"a\.json:1: not UTF-8 text",
    ),
    "no object": (
        "q-align",
        "a.json",
        '{"img_path": "a.mp4", "score": 1} 7',
        r"rows\[1\]: not a JSON object",
    ),
    "logits of one word less": (
        "q-align",
        "a.json",
        json.dumps({"image": "a.jpg", "gt_score": 61.5, "logits": {"good": 1.0, "bad": 0.0}}),
        r"a\.json: status ok without a usable score",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path, why):
    form, name, text, problem = REFUSED[why]
    path = write(tmp_path, name, text)

    with pytest.raises(errors.MaterializeError, match=problem) as refused:
        scores(path, format=form, label="m")

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("word", ["na", "NaN", "nan", "NA", "", "  "])
def test_missing_scores_are_bad(tmp_path, word):
    csv_text = dover_csv + f"c.mp4, 1.0, 2.0,{word}\n"
    log = dover_log + f"c.mp4,1.0, 2.0,{word}\n"

    for name, text, form in (("a.csv", csv_text, "dover-csv"), ("a.txt", log, "dover-log")):
        frame = scores(write(tmp_path, name, text), format=form)
        assert frame.filter(status="bad").select("key", "score").rows() == [("c.mp4", None)]
        assert frame.filter(status="ok").height == len(dover)


def test_missing_words_of_a_format_count_whatever_their_case(tmp_path):
    path = write(tmp_path, "a.csv", "a,N/A\nb,n/a\nc,1\n")
    form = pm.ScoreFormat(columns=["k", "s"], key_field=["k"], score_field=["s"], missing=["N/A"])

    assert scores(path, format=form, label="m")["status"].to_list() == ["bad", "bad", "ok"]


@pytest.mark.parametrize("spelled", ["-1", "-1.0", " -1"])
def test_a_number_may_stand_for_a_missing_score(tmp_path, spelled):
    path = write(tmp_path, "a.csv", f"a,{spelled}\nb,0.5\n")
    form = pm.ScoreFormat(columns=["k", "s"], key_field=["k"], score_field=["s"], missing=["-1"])

    assert rows(scores(path, format=form, label="m")) == [
        ("m", "a", None, "bad", 0),
        ("m", "b", 0.5, "ok", 0),
    ]


def test_frames_say_that_a_score_is_not_missing(tmp_path):
    path = write(tmp_path, "a.json", json.dumps([wrapped("a", [1, 3]), {"name": "b", "frames": []}]))
    form = pm.ScoreFormat(missing=["", "2"], label="fork-nr-metric")

    found = scores(path, format=form)

    expected = [("fork-nr-metric", "a", 2.0, "ok", 2), ("fork-nr-metric", "b", None, "bad")]
    assert [row[: len(wanted)] for row, wanted in zip(rows(found), expected, strict=True)] == expected


def test_another_word_is_no_missing_score(tmp_path):
    with pytest.raises(errors.SidecarError, match=r"a\.txt:1: status ok without a usable score"):
        scores(write(tmp_path, "a.txt", "a.mp4,1, 2,failed\n"), format="dover-log")


# --- Q-Align --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["q-align", "auto"])
def test_the_human_score_of_q_align_is_never_taken(tmp_path, form):
    row = {"img_path": "a.mp4", "gt_score": 4.04, "logits": {"good": 1.0}}
    path = write(tmp_path, "a.json", json.dumps(row))

    with pytest.raises(errors.SidecarError, match="without a usable score"):
        scores(path, format=form)


@pytest.mark.parametrize("form", ["q-align", "auto"])
@pytest.mark.parametrize("name", ["mos", "quality", "vmaf", "predicted_mos"])
def test_what_stands_beside_the_score_of_a_format_is_not_taken(tmp_path, form, name):
    row = {"img_path": "a.mp4", "gt_score": 4.04, "logits": {"good": 1.0}, "score": None, name: 4.0}
    path = write(tmp_path, "a.json", json.dumps(row))

    with pytest.raises(errors.SidecarError, match=r"usable score in 'score'; read as 'q-align'$"):
        scores(path, format=form)


@given(
    st.lists(st.floats(-700, 700), min_size=5, max_size=5),
    st.sampled_from([0.0, 1000.0, -1000.0]),
)
def test_q_align_scores_are_the_expected_value_of_a_softmax(tmp_path, numbers, shift):
    found = dict(zip(LEVELS, (number + shift for number in numbers), strict=True))
    row = {"image": "a.jpg", "gt_score": 1, "logits": {**found, "fine": 99999.0}}
    path = write(tmp_path, "a.json", json.dumps(row))

    score = scores(path, format="q-align").item(0, "score")

    top = max(found.values())
    assert score == pytest.approx(expected_value({w: v - top for w, v in found.items()}), abs=1e-12)
    assert 0 <= score <= 1


def test_a_score_comes_before_logits(tmp_path):
    path = write(tmp_path, "a.json", json.dumps({**q_align_video("a.mp4", 0, 1), "score": 0.125}))

    assert scores(path, format="q-align")["score"].to_list() == [0.125]


@pytest.mark.parametrize("between", ["", " ", "\n", "\r\n\r\n", ",\n"])
def test_objects_one_after_another(tmp_path, between):
    objects = [json.dumps(q_align_video(f"{n}.mp4", n / 10, 1), indent=2) for n in range(3)]
    path = write(tmp_path, "a.json", between.join(objects))

    if "," in between:
        with pytest.raises(errors.TableError, match=r"a\.json:\d+: not JSON"):
            scores(path, format="q-align")
        return
    frame = scores(path, format="q-align")

    assert frame["key"].to_list() == ["0.mp4", "1.mp4", "2.mp4"]
    assert [Path(place).name for place in frame["place"]] == [f"a.json: rows[{n}]" for n in range(3)]


# --- what auto must not guess ---------------------------------------------------------------------------


def test_a_table_of_frames_with_a_key_is_no_libvmaf_log(tmp_path):
    path = write(tmp_path, "scores.csv", "clip_id,Frame,vmaf\na,0,50\nb,0,60\n")

    frame = scores(path, label="m")

    assert rows(frame) == [("m", "a", 50.0, "ok", 0), ("m", "b", 60.0, "ok", 0)]
    assert frame["format"].to_list() == [None, None]


@pytest.mark.parametrize(
    "text",
    [
        ",clip,Frame,vmaf\n0,a,0,50\n1,b,0,60\n",
        "Frame,vmaf,clip\n0,50,a\n0,60,b\n",
        "Frame,vmaf,\n0,50,a\n0,60,b\n",
    ],
)
def test_a_table_of_frames_of_several_clips_is_no_libvmaf_log(tmp_path, text):
    with pytest.raises(errors.SidecarError, match=r"2 sidecar rows are not usable: .*no key in any of"):
        scores(write(tmp_path, "scores.csv", text), label="m")


def test_rows_do_not_get_the_scorer_of_their_neighbours(tmp_path):
    write(tmp_path, "a.json", json.dumps({"uvq1p5_score": 3.5, "video_name": "a.mp4"}))
    write(tmp_path, "b.json", json.dumps({"clip_id": "b", "score": 1}))

    with pytest.raises(errors.SidecarError, match=r"b\.json: no scorer"):
        scores(tmp_path)


def test_each_file_of_a_folder_has_its_own_format(tmp_path):
    write(tmp_path, "a.json", json.dumps({"qalign_score": 0.25, "video_name": "a.mp4"}))
    fields = {"distorted": "a.mp4", "technical_score": 1, "aesthetic_score": 2, "fused_score": 0.5}
    write(tmp_path, "b.json", json.dumps(fields))
    write(tmp_path, "c.csv", dover_csv.replace("./demo/b.mp4", "z.mp4"))
    write(tmp_path, "d.json", json.dumps({"competitor": "own", "clip_id": "a", "score": 7}))
    write(tmp_path, "e.xml", vmaf_xml())

    frame = scores(tmp_path)

    assert frame.select("scorer", "score", "format").rows() == [
        ("q-align", 0.25, "nvc-qalign"),
        ("dover", 0.5, "nvc-dover"),
        ("dover", 51.99, "dover-csv"),
        ("dover", 10.23, "dover-csv"),
        ("own", 7.0, None),
        ("vmaf", POOLED, "libvmaf-xml"),
    ]


def test_what_was_looked_for_is_said_of_each_format(tmp_path):
    write(tmp_path, "a.csv", "Frame,vmaf,\n0,nan,\n")
    write(tmp_path, "b.json", indented(fqm(vmaf=[], **{"global": {}})))
    write(tmp_path, "c.json", json.dumps({"clip_id": "c", "competitor": "own"}))
    write(tmp_path, "d.json", json.dumps({"clip_id": "d", "competitor": "own", "runtime_ms": 1}))

    with pytest.raises(errors.SidecarError, match="4 sidecar rows") as refused:
        scores(tmp_path)

    reasons = dict(sorted((Path(place).name, reason) for place, reason in refused.value.problems))
    assert reasons["a.csv:2"] == "status ok without a usable score in 'vmaf'; read as 'libvmaf-csv'"
    assert "any of global.vmaf.vmaf.average vmaf.vmaf; read as" in reasons["b.json"]
    assert reasons["c.json"].endswith("quality mos vmaf (name it with score_field, or say the format)")


FIELDS = {"distorted": "a.mkv", "technical_score": -0.06, "aesthetic_score": 0.2, "fused_score": 0.85}
QUALITY = {"excellent": 13.0, "good": 14.5, "fair": 11.75, "poor": 9.5, "bad": 7.0}
RELATIVES = {
    # COVER of AVT-VQDB-UHD-1-NVC writes what DOVER does, and one more.
    "COVER": {**FIELDS, "semantic_score": 0.1},
    # https://github.com/zhiyuanyou/DeQA-Score/blob/main/src/evaluate/iqa_eval.py
    "DeQA-Score": {"id": "1", "image": "koniq/1.jpg", "gt_score": 61.5, "logits": QUALITY},
    "DeQA-Score with probabilities": {
        "id": "1",
        "img_path": "1.jpg",
        "gt_score": 61.5,
        "logits": QUALITY,
        "probs": QUALITY,
    },
    # https://github.com/Q-Future/Q-Instruct/tree/main/eval_scripts
    "Q-Instruct": {"img_path": "a.mp4", "gt_score": 4, "logit_good": 14.1, "logit_poor": 9.0, "logits": {}},
    # https://github.com/Telecommunication-Telemedia-Assessment/AVT-VQDB-UHD-1-HDR, hyn0_scores
    "hybrid P.1204": {**p1204(), "model": "hybrid_type_2", "hybrid_encoding_params": {"encoder": "libx265"}},
}


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives_of_a_format_are_not_taken_for_it(tmp_path, name):
    path = write(tmp_path, "a.json", json.dumps(RELATIVES[name]))

    with pytest.raises(errors.SidecarError) as caught:
        scores(path)

    assert "read as" not in str(caught.value)
    assert "status ok without a usable score in any of score predicted_mos" in str(caught.value)


def test_the_scorer_of_a_format_is_that_which_its_field_names(tmp_path):
    row = {"distorted": "a.mkv", "sampled_frames": [2, 3], "score": "0.5"}
    for index, model in enumerate(("FasterVQA", "FAST-VQA", None)):
        write(tmp_path, f"{index}.json", json.dumps({**row, "model": model}))

    frame = scores(tmp_path)

    assert frame["scorer"].to_list() == ["fastervqa", "FAST-VQA", "fastervqa"]
    assert scores(tmp_path, label="m")["scorer"].unique().to_list() == ["m"]


# --- one format under one label -------------------------------------------------------------------------


def test_files_of_two_formats_under_one_label_are_refused(tmp_path):
    write(tmp_path, "a.json", json.dumps(FIELDS))
    write(tmp_path, "b.json", json.dumps({"qalign_score": 0.25, "video_name": "b.mp4"}))
    write(tmp_path, "c.json", json.dumps({"qalign_score": 0.5, "video_name": "c.mp4"}))

    with pytest.raises(errors.ScorerNameError) as caught:
        scores(tmp_path, label="dover")

    assert str(caught.value) == (
        f"the label 'dover' has files of different formats: 'nvc-dover' in {tmp_path}/a.json; "
        f"'nvc-qalign' in {tmp_path}/b.json and 1 more file; expected one format under one label"
    )
    found = scores(tmp_path).select("scorer", "score").rows()
    assert found == [("dover", 0.85), ("q-align", 0.25), ("q-align", 0.5)]


@pytest.mark.parametrize("name", ["b.csv", "b.json", "b.jsonl"])
def test_a_file_of_no_format_beside_one_of_a_format_is_refused(tmp_path, name):
    write(tmp_path, "a.json", json.dumps(FIELDS))
    text = "clip_id,score\nb,1\nc,2\n" if name == "b.csv" else '{"clip_id": "b", "score": 1}\n'
    write(tmp_path, name, text)

    with pytest.raises(
        errors.ScorerNameError, match=rf"no known format in .*{name}; 'nvc-dover' in .*a\.json"
    ):
        scores(tmp_path, label="dover")


def test_formats_may_differ_where_both_fields_are_named(tmp_path):
    row = {"video": "a.mkv", "mean_musiq": 30.5}
    write(tmp_path, "a.json", json.dumps({**row, "mean_musiq_cc": 31}))
    write(tmp_path, "b.json", json.dumps({**row, "video": "b.mkv"}))

    found = scores(tmp_path, label="musiq", key_field="video", score_field="mean_musiq")

    assert found.select("key", "score").rows() == [("a.mkv", 30.5), ("b.mkv", 30.5)]


def test_entries_of_one_scorer_in_formats_of_different_scorers_are_refused(tmp_path):
    one = write(tmp_path, "a.json", json.dumps(FIELDS))
    other = write(tmp_path, "b.json", json.dumps({"qalign_score": 0.25, "video_name": "b.mp4"}))

    with pytest.raises(errors.ScorerNameError, match=r"'nvc-dover' .*a\.json and 'nvc-qalign' .*b\.json"):
        pm.join_scores(pl.DataFrame({"clip_id": ["a"]}), pm.scan_scores([f"m={one}", f"m={other}"]))


@pytest.mark.parametrize("label", [None, "dover"])
def test_the_file_of_a_clip_that_failed_is_of_the_format_of_the_others(tmp_path, label):
    """It lacks a mark of the format, and must not be read by other rules than the others."""
    write(tmp_path, "a.json", json.dumps(FIELDS))
    write(tmp_path, "b.json", json.dumps({"distorted": "b.mkv", "status": "failed"}))
    write(tmp_path, "c.json", json.dumps({**dict.fromkeys(FIELDS), "distorted": "c.mkv", "status": "error"}))

    frame = scores(tmp_path, label=label)

    assert frame.select("scorer", "key", "score", "status", "format").rows() == [
        ("dover", "a.mkv", 0.85, "ok", "nvc-dover"),
        ("dover", "b.mkv", None, "bad", "nvc-dover"),
        ("dover", "c.mkv", None, "bad", "nvc-dover"),
    ]
    write(tmp_path, "d.json", json.dumps({"distorted": "d.mkv", "score": 3, "vmaf": 90}))
    with pytest.raises(errors.SidecarError, match=r"d\.json: .*score in 'fused_score'; read as 'nvc-dover'"):
        scores(tmp_path, label=label)


def test_a_file_of_its_own_beside_a_format_stays_its_own(tmp_path):
    write(tmp_path, "a.json", json.dumps({"qalign_score": 0.25, "video_name": "a.mp4"}))
    write(tmp_path, "b.json", json.dumps({"video_name": "b.mp4", "competitor": "own", "score": 3}))

    assert scores(tmp_path).select("scorer", "key", "score", "format").rows() == [
        ("q-align", "a.mp4", 0.25, "nvc-qalign"),
        ("own", "b.mp4", 3.0, None),
    ]
    write(tmp_path, "b.json", json.dumps({"video_name": "b.mp4", "clip_id": "b", "score": 3}))
    with pytest.raises(errors.SidecarError, match=r"b\.json: no scorer"):
        scores(tmp_path)


def test_a_large_file_is_of_one_format_throughout(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 64)
    monkeypatch.setattr(tables_files, "SMALL_BYTES", -1)
    rows = [q_align_video(f"{n}.mp4", n / 10, 1) for n in range(3)]
    rows[2] = {**rows[2], "clip_id": "else", "quality": 5}
    path = write(tmp_path, "a.jsonl", json_lines(*rows))

    frame = scores(path)

    assert frame["key"].to_list() == ["0.mp4", "1.mp4", "2.mp4"]
    assert frame["format"].to_list() == ["q-align"] * 3


def test_logs_of_xml_with_and_without_a_mean_may_stand_side_by_side(tmp_path):
    write(tmp_path, "a.xml", vmaf_xml())
    write(tmp_path, "b.xml", vmaf_xml(pooled=False))

    assert scores(tmp_path)["frames"].to_list() == [0, 3]


def test_layouts_of_a_format_decide_for_themselves(tmp_path):
    write(tmp_path, "a.json", vmaf_json())
    write(tmp_path, "b.json", vmaf_1_json())
    write(tmp_path, "c.json", vmaf_1_3_json())
    failed = json.loads(vmaf_json())
    failed["pooled_metrics"]["vmaf"] = None

    for form in ("auto", "libvmaf-json"):
        assert scores(tmp_path, format=form)["frames"].to_list() == [0, 0, 3]
    write(tmp_path, "d.json", json.dumps(failed))
    for form in ("auto", "libvmaf-json"):
        with pytest.raises(errors.SidecarError, match=r"d\.json: .*score in 'pooled_metrics.vmaf.mean'"):
            scores(tmp_path, format=form)


def test_lines_of_one_file_are_of_one_format(tmp_path):
    one, other = q_align_video("a.mp4", 0.0, 4.0), {"clip_id": "b", "competitor": "own", "score": 1}
    path = write(tmp_path, "a.jsonl", json_lines(one, other))

    with pytest.raises(errors.SidecarError, match=r"a\.jsonl:1: no key in 'clip_id'.*no scorer"):
        scores(path)


def test_names_that_are_one_without_blanks_stand_twice(tmp_path):
    head = "path, aesthetic score, technical score, overall/final score, path"
    path = write(tmp_path, "a.csv", f"{head}\na.mp4,1,2,3,4\n")

    for form in ("auto", "dover-csv"):
        with pytest.raises(errors.TableError, match=r"a\.csv:1: columns that stand twice: 'path'"):
            scores(path, format=form)


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (["path", "aesthetic score", "technical score", "overall/final score"], "dover-csv"),
        (
            ["path", "semantic score", "aesthetic score", "technical score", "overall/final score"],
            "cover-csv",
        ),
        (["path", "overall/final score"], None),
        (["Frame", "integer_adm2", "vmaf", ""], "libvmaf-csv"),
        (["Frame", "vmaf"], None),
        (["", "Frame", "vmaf"], None),
        (["clip", "Frame", "vmaf", ""], None),
        (["frame", "vmaf", ""], None),
        (["Frame", "vmaf", "name", ""], None),
        (["Frame", "vmaf", "Clip_ID", ""], None),
        (["n", "vmaf", "input_file_dist", "input_file_ref"], "ffmpeg-quality-metrics-csv"),
        (["clip", "n", "vmaf", "input_file_dist", "input_file_ref"], None),
        (["video_name", "score"], None),
        (["qalign_score", "video_name", "uvq1p5_score"], None),
        (["frames", "version"], None),
    ],
)
def test_scores_are_recognised_only_when_unmistakable(columns, name):
    from polars_materialize.keys import SCORE_KEYS  # noqa: PLC0415

    found = formats.recognise(columns, pm.list_formats().scores, SCORE_KEYS)

    assert (found and found.name) == name


# --- what wins over what --------------------------------------------------------------------------------


def test_what_an_entry_says_wins_over_its_format(tmp_path):
    path = write(tmp_path, "a.csv", dover_csv)

    found = scores(
        path, format="dover-csv", score_field="technical score", label="t", key_regex=r"([a-z ]+)\.mp4"
    )

    assert found.select("scorer", "score", "key_regex").rows() == [
        ("t", 53.66, r"([a-z ]+)\.mp4"),
        ("t", 11.77, r"([a-z ]+)\.mp4"),
    ]
    own = scores(path, score_field="aesthetic score", label="aesthetic")
    assert own.select("scorer", "score", "format").rows() == [
        ("aesthetic", 47.12, "dover-csv"),
        ("aesthetic", 9.31, "dover-csv"),
    ]


def test_another_score_than_that_of_a_format_needs_a_label(tmp_path):
    path = write(tmp_path, "a.csv", dover_csv)

    for said in ({"format": "dover-csv"}, {}):
        with pytest.raises(errors.SidecarError, match="no scorer, expected LABEL=path"):
            scores(path, score_field="aesthetic score", **said)


def test_scores_of_formats_with_other_ranges_are_not_mixed(tmp_path):
    one = write(tmp_path, "a.csv", dover_csv)
    other = write(
        tmp_path,
        "b.json",
        '{"distorted": "z.mkv", "technical_score": 0, "aesthetic_score": 0, "fused_score": 0.5}',
    )
    features = pl.DataFrame({"clip_id": ["z"]})

    with pytest.raises(
        errors.ScorerNameError,
        match=r"'dover-csv' \(0 to 100\) in .*a\.csv and 'nvc-dover' \(0 to 1\) in .*b\.json",
    ):
        pm.join_scores(features, pm.scan_scores([one, other]))

    both = pm.join_scores(features, pm.scan_scores([one, f"fused={other}"]), key_normalize="stem")
    assert both["second_opinion_fused_score"].to_list() == [0.5]


def test_a_named_format_wins_over_the_options_of_the_table(tmp_path):
    path = write(tmp_path, "a.csv", dover_csv)
    options = {"score_field": "technical score", "score_key_field": "aesthetic score"}

    named = pm.scan_scores(pm.Sidecar(path, format="dover-csv"), **options).collect()
    guessed = pm.scan_scores(pm.Sidecar(path, label="technical"), **options).collect()

    assert named["score"].to_list() == [51.99, 10.23]
    assert named["key"].to_list() == [name for name, *_ in dover]
    assert guessed["score"].to_list() == [53.66, 11.77]


def test_columns_of_an_entry_win_over_those_of_its_format(tmp_path):
    path = write(tmp_path, "a.txt", "3.5,a.mp4\n")

    assert rows(scores(path, format="uvq-csv", columns=["score", "name"])) == [("uvq", "a.mp4", 3.5, "ok", 0)]


def test_a_field_that_an_entry_names_must_be_there(tmp_path):
    path = write(tmp_path, "a.csv", dover_csv)

    with pytest.raises(errors.TableError, match=r"no row has the score_field 'overall score'.*did you mean"):
        scores(path, format="dover-csv", score_field="overall score")


@pytest.mark.parametrize("name", ["zero.vmaf.json", "zero.json", "zero.mp4.json", "zero.mkv.vmaf.json.gz"])
def test_logs_are_keyed_by_their_file_name(tmp_path, name):
    text = vmaf_json()
    path = write(tmp_path, name, gzip.compress(text.encode()) if name.endswith(".gz") else text)

    found = pm.join_scores(pl.DataFrame({"clip_id": ["zero"]}), pm.scan_scores(path))

    assert found["second_opinion_vmaf_score"].to_list() == [POOLED]


@pytest.mark.parametrize("named", [True, False], ids=["named", "auto"])
def test_what_a_tool_writes_may_be_kept_as_parquet(tmp_path, named):
    path = write(tmp_path, "a.csv", dover_csv)
    table = (
        pl.read_csv(path).rename(str.strip).with_columns(pl.exclude("path").cast(pl.String).str.strip_chars())
    )
    table.write_parquet(tmp_path / "b.parquet")
    table.write_ipc(tmp_path / "b.arrow")

    for name in ("b.parquet", "b.arrow"):
        found = scores(tmp_path / name, format="dover-csv" if named else "auto")
        assert rows(found) == [("dover", name, o, "ok", 0) for name, _, _, o in dover]


@pytest.mark.parametrize("encoding", ["klingon", "utf-16", "cp037", "ISO-8859-1", "UTF-8"])
def test_xml_is_utf_8_whatever_it_claims(tmp_path, encoding):
    path = write(tmp_path, "a.xml", f'<?xml version="1.0" encoding="{encoding}"?>\n{vmaf_xml()}')

    assert scores(path)["score"].to_list() == [POOLED]


def test_a_folder_of_logs_of_every_layout(tmp_path):
    write(tmp_path, "a.json", vmaf_json())
    write(tmp_path, "b.csv", vmaf_csv())
    write(tmp_path, "c.vmaf.xml", vmaf_xml())
    write(tmp_path, "d.json", vmaf_1_json())
    keys = pl.DataFrame({"clip_id": list("abcd")})

    found = pm.join_scores(keys, pm.scan_scores(tmp_path), missing_policy="fail")

    assert found["second_opinion_vmaf_score"].to_list() == pytest.approx([mean(VMAFS)] * 4, abs=1e-6)
    assert found["second_opinion_vmaf_frames"].to_list() == [0, 3, 0, 0]


# --- one row a frame ------------------------------------------------------------------------------------


def frames_format(**options):
    said = {"rows": "frames", "key_field": ["clip"], "score_field": ["vmaf"], "label": "m"}
    return pm.ScoreFormat(**{**said, **options})


def json_lines(*found):
    return "".join(json.dumps(row) + "\n" for row in found)


def test_frames_of_several_clips_in_one_file_may_be_mixed(tmp_path):
    path = write(tmp_path, "a.csv", "clip,vmaf\na,1\nb,5\na,2\nb,7\na,6\n")

    assert rows(scores(path, format=frames_format())) == [("m", "a", 3.0, "ok", 3), ("m", "b", 6.0, "ok", 2)]


def test_frames_of_one_clip_in_several_files_are_refused(tmp_path):
    write(tmp_path, "a.csv", "clip,vmaf\na,1\na,3\n")
    write(tmp_path, "b.csv", "clip,vmaf\na,5\n")
    found = scores(tmp_path, format=frames_format())

    assert found["score"].to_list() == [2.0, 5.0]
    with pytest.raises(errors.DuplicateKeyError, match=r"'a' at .*a\.csv:2 and .*b\.csv:2"):
        pm.join_scores(pl.DataFrame({"clip_id": ["a"]}), found)


def test_frames_of_a_clip_may_go_on_in_another_batch(tmp_path):
    numbers = [n % 100 for n in range(9000)]
    lines = [{"clip": "ab"[n % 2], "vmaf": v, "pad": "x" * 300} for n, v in enumerate(numbers)]
    path = write(tmp_path, "a.jsonl", json_lines(*lines))

    found = scores(path, format=frames_format())

    assert rows(found) == [
        ("m", "a", pytest.approx(mean(numbers[::2])), "ok", 4500),
        ("m", "b", pytest.approx(mean(numbers[1::2])), "ok", 4500),
    ]


def test_frames_may_have_dotted_fields_and_numbers_as_text(tmp_path):
    lines = [
        {"clip": "a", "metrics": {"vmaf": v}, "time": {"ms": ms}} for v, ms in ((1, 0.5), ("3", None), (5, 2))
    ]
    path = write(tmp_path, "a.jsonl", json_lines(*lines))
    form = frames_format(score_field=["metrics.vmaf"], runtime_field="time.ms")

    found = scores(path, format=form)

    assert rows(found) == [("m", "a", 3.0, "ok", 3)]
    assert found["runtime_ms"].to_list() == [2.5]


def test_a_frame_that_failed_makes_its_clip_bad(tmp_path):
    text = "clip,vmaf,status,note\na,1,ok,x\na,,failed,y\na,3,ok,z\nb,1,,x\nb,2,pass,x\nc,7,FAILED,x\n"
    path = write(tmp_path, "a.csv", text)

    assert rows(scores(path, format=frames_format())) == [
        ("m", "a", None, "bad", 3),
        ("m", "b", 1.5, "ok", 2),
        ("m", "c", 7.0, "bad", 1),
    ]


def test_frames_of_two_scorers_in_one_file(tmp_path):
    path = write(tmp_path, "a.csv", "clip,vmaf,competitor\na,1,x\na,5,y\na,3,x\n")

    assert rows(scores(path, format=frames_format(label=None))) == [
        ("x", "a", 2.0, "ok", 2),
        ("y", "a", 5.0, "ok", 1),
    ]


def test_a_frame_without_a_key_is_refused(tmp_path):
    path = write(tmp_path, "a.csv", "clip,vmaf\na,1\n,5\n")

    with pytest.raises(errors.SidecarError, match=r"a\.csv:3: no key in 'clip'"):
        scores(path, format=frames_format())


# --- pooling --------------------------------------------------------------------------------------------

POOLINGS = {
    "mean": mean,
    "harmonic_mean": harmonic,
    "min": min,
    "median": statistics.median,
    "p5": lambda numbers: float(np.percentile(numbers, 5)),
    "p10": lambda numbers: float(np.percentile(numbers, 10)),
}
every_pooling = pytest.mark.parametrize("pooling", POOLINGS)


@every_pooling
@given(numbers=st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_every_pooling_is_that_of_plain_python(tmp_path, pooling, numbers):
    path = write(tmp_path, "a.json", json.dumps({"name": "a", "competitor": "m", "values": numbers}))

    found = scores(path, score_field="values", pooling=pooling).row(0, named=True)

    assert found["score"] == pytest.approx(POOLINGS[pooling](numbers), rel=1e-9, abs=1e-9)
    assert found["frames"] == len(numbers)


@every_pooling
@pytest.mark.parametrize(
    ("form", "name", "text"),
    [
        ("libvmaf-json", "a.json", vmaf_json()),
        ("libvmaf-json", "a.json", vmaf_1_json()),
        ("libvmaf-csv", "a.csv", vmaf_csv()),
        ("libvmaf-xml", "a.xml", vmaf_xml()),
        ("ffmpeg-quality-metrics", "a.json", indented(fqm())),
        ("ffmpeg-quality-metrics-csv", "a.csv", crlf([fqm_head, *fqm_rows])),
    ],
)
def test_pooling_takes_frames_of_every_layout(tmp_path, pooling, form, name, text):
    path = write(tmp_path, name, text)
    expected = pytest.approx(POOLINGS[pooling](VMAFS), abs=1e-6)

    for found in (scores(path, format=form, pooling=pooling), scores(path, pooling=pooling)):
        assert found.select("score", "frames").rows() == [(expected, 3)]


def test_harmonic_mean_and_min_are_those_that_libvmaf_pools(tmp_path):
    path = write(tmp_path, "a.json", vmaf_json())
    for pooling in ("harmonic_mean", "min", "mean"):
        own = scores(path, pooling=pooling).item(0, "score")
        written = scores(path, label="vmaf", score_field=f"pooled_metrics.vmaf.{pooling}").item(0, "score")
        assert own == pytest.approx(written, abs=1e-6)


def test_harmonic_mean_takes_zeros_and_refuses_what_it_is_not_defined_for(tmp_path):
    zeros = write(tmp_path, "a.json", json.dumps({"name": "a", "values": [0, 0, 1]}))
    below = write(tmp_path, "b.json", json.dumps({"name": "a", "values": [-1, 5]}))

    zero = scores(zeros, label="m", score_field="values", pooling="harmonic_mean")
    assert zero["score"].to_list() == [pytest.approx(3 / 2.5 - 1)]
    with pytest.raises(errors.SidecarError, match="pooling 'harmonic_mean' needs a list"):
        scores(below, label="m", score_field="values", pooling="harmonic_mean")


@pytest.mark.parametrize(
    ("form", "name", "text"),
    [
        ("dover-csv", "a.csv", dover_csv),
        ("nvc-dover", "a.json", CASES[[str(c) for c in CASES].index("nvc-dover")].text),
        ("p1204", "a.json", json.dumps({"per_sequence": 2.5, "video_basename": "a.mkv", "per_second": []})),
    ],
)
def test_plain_scores_do_not_count_where_pooling_is_said(tmp_path, form, name, text):
    with pytest.raises(errors.SidecarError, match="pooling 'min' needs a list"):
        scores(write(tmp_path, name, text), format=form, pooling="min")


def test_pooling_of_a_format_and_of_an_entry(tmp_path):
    path = write(tmp_path, "a.json", json.dumps({"name": "a", "values": [1, 2, 6]}))
    form = pm.ScoreFormat(score_field=["values"], pooling="min", label="m")

    assert scores(path, format=form)["score"].to_list() == [1.0]
    assert scores(path, format=form, pooling="median")["score"].to_list() == [2.0]


def test_unknown_pooling_is_refused(tmp_path):
    with pytest.raises(errors.OptionError, match="pooling: 'max'; expected one of mean harmonic_mean min"):
        scores(write(tmp_path, "a.csv", dover_csv), pooling="max")


# --- duplicates -----------------------------------------------------------------------------------------

TWICE = "a.mp4,1, 2,3\nb.mp4,1, 2,4\na.mp4,1, 2,5\na.mp4,1, 2,6\n"
FEATURES_OF_CLIPS = pl.DataFrame({"file_name": ["a.mp4", "b.mp4", "a.mp4", "c.mp4"]})


def joined(sidecars, *, kind="eager"):
    frame = FEATURES_OF_CLIPS.lazy() if kind == "lazy" else FEATURES_OF_CLIPS
    return pm.join_scores(frame, pm.scan_scores(sidecars)).lazy().collect()


def test_keys_that_stand_twice_are_refused_with_a_hint(tmp_path):
    path = write(tmp_path, "log.txt", TWICE)

    with pytest.raises(errors.DuplicateKeyError, match=r"log\.txt:1 and .*log\.txt:3.*say duplicates: last"):
        joined(pm.Sidecar(path, format="dover-log"))


@pytest.mark.parametrize("kind", ["eager", "lazy"])
def test_the_last_of_a_key_is_taken_where_that_is_said(tmp_path, kind):
    path = write(tmp_path, "log.txt", TWICE)

    found = joined(pm.Sidecar(path, format="dover-log", duplicates="last"), kind=kind)

    assert found["second_opinion_dover_score"].to_list() == [6.0, 4.0, 6.0, None]


def test_the_last_is_taken_within_a_file_only(tmp_path):
    """Another file of the clip may be of another metric, or of an older run: its name does not tell."""
    write(tmp_path, "logs/1.txt", TWICE)
    last = pm.Sidecar(str(tmp_path / "logs"), format="dover-log", duplicates="last")
    assert joined(last)["second_opinion_dover_score"].to_list() == [6.0, 4.0, 6.0, None]

    write(tmp_path, "logs/2.txt", "a.mp4,1, 2,nan\n")
    with pytest.raises(errors.DuplicateKeyError, match=r"'a.mp4' at .*1\.txt:4 and .*2\.txt:1") as caught:
        joined(last)
    assert "duplicates: last" not in str(caught.value)


def test_the_last_run_of_a_clip_may_have_failed(tmp_path):
    path = write(tmp_path, "log.txt", TWICE + "a.mp4,1, 2,nan\n")

    found = joined(pm.Sidecar(path, format="dover-log", duplicates="last"))

    # An older score is not that of the last run.
    assert found["second_opinion_dover_score"].to_list() == [None, 4.0, None, None]
    assert found["second_opinion_dover_status"].to_list() == ["bad", "ok", "bad", "missing"]


def test_the_files_of_two_metrics_are_not_reruns(tmp_path):
    for metric, score in (("cvqa-fr", 0.75), ("cvqa-frMS", 0.25)):
        write(tmp_path, f"logs/clip.{metric}.json", json.dumps({"name": "a.mp4", "score": score}))
    entry = {"path": str(tmp_path / "logs"), "label": "cvqa", "duplicates": "last"}

    for more in ({}, {"key_field": "@filename", "key_regex": "^([a-z]+)"}):
        with pytest.raises(errors.DuplicateKeyError, match=r"cvqa-fr\.json and .*cvqa-frMS\.json") as caught:
            joined(pm.Sidecar(**entry, **more))
        assert "say duplicates: last" not in str(caught.value)


def test_other_entries_and_scorers_stay_strict(tmp_path):
    log = write(tmp_path, "log.txt", TWICE)
    other = write(tmp_path, "other.csv", "path,score\na.mp4,0.5\na.mp4,0.75\n")
    last = pm.Sidecar(log, format="dover-log", duplicates="last")

    with pytest.raises(errors.DuplicateKeyError, match=r"^more than one score of 1 clip.*: x 'a.mp4'"):
        joined([last, pm.Sidecar(other, label="x")])
    other2 = write(tmp_path, "other2.csv", "path,score\na.mp4,0.5\n")
    with pytest.raises(errors.DuplicateKeyError, match=r"dover 'a.mp4' at .*log\.txt:4 and .*other"):
        joined([last, pm.Sidecar(other2, label="dover", key_field="path", score_field="score")])
    both = pm.Sidecar(write(tmp_path, "b.txt", "a.mp4,1, 2,7\n"), format="dover-log", duplicates="last")
    with pytest.raises(errors.DuplicateKeyError, match=r"dover 'a.mp4' at .*log\.txt:4 and .*b\.txt:1"):
        joined([last, both])


@pytest.mark.parametrize("duplicates", ["last", None])
def test_a_file_that_two_entries_name_is_no_rerun(tmp_path, duplicates):
    path = write(tmp_path, "s.csv", "key,score\na,0.5\nb,0.75\n")
    entry = pm.Sidecar(path, label="x", duplicates=duplicates)

    with pytest.raises(errors.DuplicateKeyError, match=r"; the file is named by two entries$"):
        joined([entry, entry])


@pytest.mark.parametrize("duplicates", ["last", None])
def test_rows_of_one_file_whose_name_is_the_key_are_no_reruns(tmp_path, duplicates):
    path = write(tmp_path, "s.csv", "clip_id,score\na,0.5\na,0.75\n")

    with pytest.raises(errors.DuplicateKeyError, match=r"; the key of every row is its file's name$"):
        joined(pm.Sidecar(path, label="x", key_field="@filename", duplicates=duplicates))


@pytest.mark.parametrize("name", ["frame", "Frame_Idx", "n"])
def test_no_rerun_is_suspected_in_a_table_of_frames(tmp_path, name):
    path = write(tmp_path, "s.csv", f"clip_id,{name},score\na,0,0.5\na,1,0.75\n")

    with pytest.raises(errors.DuplicateKeyError, match=r"expected one row for each scorer and key$"):
        joined(pm.Sidecar(path, label="x"))


DOVER = "path, aesthetic score, technical score, overall/final score\n"


@pytest.mark.parametrize("known", [{}, {"format": "dover-csv"}])
def test_files_of_a_format_and_of_none_in_two_entries_of_one_scorer_are_refused(tmp_path, known):
    dover = pm.Sidecar(write(tmp_path, "d.csv", DOVER + "v/a, 1,2,30\n"), label="x", **known)
    other = write(tmp_path, "g.csv", "clip_id,score\nb,0.3\n")

    for entries in ([dover, pm.Sidecar(other, label="x")], [pm.Sidecar(other, label="X"), dover]):
        with pytest.raises(
            errors.ScorerNameError, match=r"no known format in .*g.csv; 'dover-csv' in .*d.csv"
        ):
            joined(entries)
    named = pm.Sidecar(other, label="x", key_field="clip_id", score_field="score")
    assert joined([dover, named]).height > 0


def test_a_format_of_ones_own_beside_another_is_refused_unless_they_measure_the_same(tmp_path):
    dover = pm.Sidecar(write(tmp_path, "d.csv", DOVER + "v/a, 1,2,30\n"), label="x")
    path = write(tmp_path, "g.csv", "clip_id,score\nb,0.3\n")
    own = formats.ScoreFormat(name="mine", key_field=["clip_id"], score_field=["score"])
    same = formats.ScoreFormat(
        name="mine", key_field=["clip_id"], score_field=["score"], label="dover", low=0, high=100
    )

    with pytest.raises(errors.ScorerNameError, match=r"'dover-csv' in .*d.csv; 'mine' in .*g.csv"):
        joined([dover, pm.Sidecar(path, label="x", format=own)])
    assert joined([dover, pm.Sidecar(path, label="x", format=same)]).height > 0


def test_two_entries_of_one_format_or_of_none_are_one_scorer(tmp_path):
    for name, texts in {
        "known": (DOVER + "v/a, 1,2,30\n", DOVER + "v/b, 1,2,30\n"),
        "none": ("clip_id,score\na,1\n", "clip_id,score\nb,1\n"),
    }.items():
        paths = [write(tmp_path, f"{name}{i}.csv", text) for i, text in enumerate(texts)]
        assert pm.scan_scores([pm.Sidecar(path, label="x") for path in paths]).collect().height == 2


def test_one_way_to_a_score_is_decided_for_all_files_of_one_row(tmp_path):
    logits = {"excellent": 1, "good": 2, "fair": 1, "poor": 0, "bad": 0}
    write(tmp_path, "q/1.json", json.dumps({"img_path": "a.mp4", "gt_score": 3, "logits": logits}))
    write(tmp_path, "q/2.json", json.dumps({"img_path": "b.mp4", "score": 0.5}))

    with pytest.raises(errors.SidecarError, match=r"1\.json: status ok without a usable score in 'score'"):
        scores(tmp_path / "q", label="x")


def test_quotes_after_a_blank_are_quotes(tmp_path):
    path = write(tmp_path, "d.csv", DOVER + ' "./v/a", 1,2,30\n\t"./v/""b""" ,1,2,31\n"./v/c", 1,2,32\n')

    assert scores(path)["key"].to_list() == ["./v/a", './v/"b"', "./v/c"]
    with pytest.raises(errors.TableError, match=r"e\.csv:2: expected 4 cells, found 5"):
        scores(write(tmp_path, "e.csv", DOVER + ' "a,b", 1,2,30\n'))


@pytest.mark.parametrize("text", ["clip_id, score\na, 3\n", ' "clip_id" , "score"\n"a", 3\n'])
def test_blanks_around_names_are_no_part_of_them(tmp_path, text):
    assert rows(scores(write(tmp_path, "s.csv", text), label="x", score_field="score"))
    assert rows(scores(write(tmp_path, "s.csv", text), label="x"))
    mos = write(tmp_path, "l.csv", text.replace("score", "mos"))
    assert labels(mos)["key"].to_list() == ["a"]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("times", [2, 30_000])
@pytest.mark.parametrize("kind", ["scores", "labels"])
def test_a_damaged_compressed_file_is_named(tmp_path, suffix, times, kind):
    text = {
        "jsonl": "".join(f'{{"clip_id": "{n}", "mos": {n % 97}}}\n' for n in range(times)),
        "json": json.dumps([{"clip_id": f"{n}", "mos": n % 97} for n in range(times)]),
        "csv": "clip_id,mos\n" + "".join(f"{n},{n % 97}\n" for n in range(times)),
    }[suffix]
    packed = gzip.compress(text.encode())
    path = tmp_path / f"s.{suffix}.gz"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    other = tmp_path / f"s.{suffix}.zst"
    other.write_bytes(b"no such stream")

    for file in (path, other):
        with pytest.raises(errors.TableError, match=rf"{file.name}: cannot be read: "):
            scores(file, label="x") if kind == "scores" else labels(file)


def test_lists_of_one_length_are_lists(tmp_path):
    path = tmp_path / "s.parquet"
    inner = pl.Series("score", [[1.0, 2.0], [3.0, 5.0]], dtype=pl.Array(pl.Float64, 2))
    frame = pl.DataFrame({"clip_id": ["a", "b"], "score": inner})
    frame.write_parquet(path)

    assert scores(path, label="x").select("score", "frames").rows() == [(1.5, 2), (4.0, 2)]
    frame.select("clip_id", m=pl.struct("score")).write_parquet(path)
    assert scores(path, label="x", score_field="m.score", pooling="min")["score"].to_list() == [1.0, 3.0]


def test_the_scorer_beside_rows_counts_for_those_that_name_none(tmp_path):
    rows = [{"clip_id": "a", "score": 3}, {"clip_id": "b", "score": 4, "Competitor": ""}]
    for beside in ({"competitor": "zz"}, {"Competitor": "zz"}, {"summary": {"competitor": "zz"}}):
        path = write(tmp_path, "s.json", json.dumps({**beside, "rows": rows}))

        assert scores(path).select("scorer", "key").rows() == [("zz", "a"), ("zz", "b")]
        with pytest.raises(errors.ScorerNameError, match="the competitor is 'zz'"):
            scores(path, label="x")


@pytest.mark.parametrize(
    "beside", [{"score": 3, "clip_id": "c"}, {"MOS": 1}, {"results": [{"clip_id": "b"}]}]
)
def test_nothing_that_would_be_lost_stands_beside_rows(tmp_path, beside):
    path = write(tmp_path, "s.json", json.dumps({**beside, "rows": [{"clip_id": "a", "score": 3}]}))

    with pytest.raises(errors.TableError, match=r"stands beside 'rows'; expected it in the rows"):
        scores(path, label="x")


@pytest.mark.parametrize("duplicates", ["last", None])
def test_keys_that_are_written_otherwise_are_no_reruns(tmp_path, duplicates):
    path = write(tmp_path, "a.txt", "x/a.mp4,1\ny/a.mp4,2\n")

    with pytest.raises(errors.DuplicateKeyError) as caught:
        joined(pm.Sidecar(path, format="uvq-csv", duplicates=duplicates))

    assert str(caught.value) == (
        f"more than one score of 1 clip by one scorer: uvq 'x/a.mp4' at {path}:1 and 'y/a.mp4' at {path}:2, "
        "which are the one key 'a.mp4'; expected one row for each scorer and key"
    )


def test_the_last_of_rows_that_spell_the_field_of_the_key_in_two_ways(tmp_path):
    rows = [{"Name": "a.mp4", "score": 1}, {"name": "a.mp4", "score": 2}, {"Name": "a.mp4", "score": 3}]
    path = write(tmp_path, "a.jsonl", json_lines(*rows, {"name": "b.mp4", "score": 4}))

    with pytest.raises(errors.SidecarError, match="no key in 'name'"):
        joined(pm.Sidecar(path, label="m", duplicates="last"))


def test_a_duplicate_is_told_by_one_example_and_counts(tmp_path):
    lines = [{"key": f"k{n}", "score": n, "competitor": s} for s in ("x", "y") for n in range(40)]
    path = write(tmp_path, "a.jsonl", json_lines(*lines, *lines))

    with pytest.raises(errors.DuplicateKeyError) as caught:
        pm.join_scores(pl.DataFrame({"key": ["k1"]}), pm.scan_scores(path))

    assert str(caught.value) == (
        f"more than one score of 40 clips by each of 2 scorers, such as: x 'k0' at {path}:1 and {path}:81; "
        "expected one row for each scorer and key (if a rerun appended, say duplicates: last)"
    )
    assert caught.value.fields["offenders"].height == 80


def test_the_audit_says_what_was_replaced_and_by_which_format(tmp_path):
    FEATURES_OF_CLIPS.write_parquet(tmp_path / "f.parquet")
    write(tmp_path, "log.txt", TWICE)
    write(tmp_path, "x.csv", "path,score\na.mp4,0.5\n")
    entries = [pm.Sidecar("log.txt", format="dover-log", duplicates="last"), "x=x.csv"]

    audit = pm.materialize_scores("f.parquet", entries, "o.parquet", base_dir=tmp_path)

    counts = {
        name: (c.scores_loaded, c.replaced_scores, c.matched_rows, c.unused_scores, c.formats)
        for name, c in audit.competitors.items()
    }
    assert counts == {"dover": (2, 2, 3, 0, ["dover-log"]), "x": (1, 0, 2, 0, [])}


def test_unknown_duplicates_are_refused(tmp_path):
    with pytest.raises(errors.OptionError, match="duplicates: 'first'; expected one of refuse last"):
        scores(write(tmp_path, "a.csv", dover_csv), duplicates="first")


# --- what datasets publish ------------------------------------------------------------------------------

EXAMPLES = "https://github.com/VQAssessment/DOVER/tree/master/examplar_data_labels"
VIDEVAL = "https://github.com/vztu/VIDEVAL"
KONVID = "http://database.mmsp-kn.de/konvid-1k-database.html"
KONVID_150K = "http://database.mmsp-kn.de/konvid-150k-vqa-database.html"
PATCHVQ = "https://github.com/baidut/PatchVQ"
CHUG = "https://github.com/shreshthsaini/CHUG"
HF = "https://huggingface.co/docs/datasets/video_dataset"
SIONR = "https://github.com/lorenzowu/SIONR"

LSVQ_HEAD = (
    "name,p1,p2,p3,height,width,mos_p1,mos_p2,mos_p3,mos,frame_number,fn_last_frame,left_p1,right_p1,top_p1,"
    "bottom_p1,start_p1,end_p1,is_test,is_valid"
)


def lsvq_row(name, mos, *, is_test=True):
    slash = name.replace("/", "_")
    cells = [name, *(f"{slash}_p{n}" for n in (1, 2, 3)), 480, 640, mos - 1, mos + 1, mos + 2, mos, 240, 239]
    return ",".join(map(str, [*cells, 0, 256, 0, 192, 0, 96, *([False] if is_test else []), True])) + "\n"


UGC_HEAD = "vid,category,resolution,x_Subjects,MOSFull,MOSChunk00,stdFull,stdChunk00,width"
HEX = ["273a5d8a3b8c2d0eb4d4c8ff5fcfe360", "00000000000000000000000000000012"]


@dataclass(frozen=True)
class Labels:
    """As `Case`, for labels: its rows are key, value, spread and count; and the ends of its scale."""

    layout: str
    format: str
    name: str
    text: str
    rows: list
    scale: str
    source: str
    auto: bool = True

    def __str__(self):
        return self.layout


LABELS = [
    Labels(
        "dover-labels of KoNViD",
        "dover-labels",
        "labels.txt",
        "KoNViD_1k_videos/4542323058.mp4, 8.008, 29.97002997002997, 3.22\nb.mp4, 8, 24.0, 1.88\n",
        [("KoNViD_1k_videos/4542323058.mp4", 3.22, None, None), ("b.mp4", 1.88, None, None)],
        "1:5",
        EXAMPLES,
        auto=False,
    ),
    Labels(
        "dover-labels of LSVQ",
        "dover-labels",
        "labels.txt",
        "yfcc-batch1/725.mp4, -1, -1, 71.25\nia-batch6/Video0002.3gp.mp4, -1, -1, 3.5\n",
        [("yfcc-batch1/725.mp4", 71.25, None, None), ("ia-batch6/Video0002.3gp.mp4", 3.5, None, None)],
        "0:100",
        EXAMPLES,
        auto=False,
    ),
    Labels(
        "divide-3k",
        "divide-3k",
        "val_labels.txt",
        "0000.mp4, 3.41, 2.87, 3.02\n0001.mp4, 2.14, 1.93, 1.99\n",
        [("0000.mp4", 3.02, None, None), ("0001.mp4", 1.99, None, None)],
        "1:5",
        EXAMPLES,
        auto=False,
    ),
    Labels(
        "konvid-1k",
        "konvid-1k",
        "KoNViD_1k_mos.csv",
        '"flickr_id","mos"\n3339962845,4.6400000000\n10053703034,2.5\n',
        [("3339962845", 4.64, None, None), ("10053703034", 2.5, None, None)],
        "1:5",
        KONVID,
    ),
    Labels(
        "konvid-1k of VIDEVAL",
        "konvid-1k",
        "metadata.csv",
        "flickr_id,mos,width,height,pixfmt\n3339962845,4.64,960,540,yuv420p\n",
        [("3339962845", 4.64, None, None)],
        "1:5",
        VIDEVAL,
    ),
    Labels(
        "konvid-1k with attributes",
        "konvid-1k",
        "KoNViD_1k_attributes.csv",
        "flickr_id,download_id,file_name,MOS,ti,si\n1001,12,1001_original_centercrop_960x540_8s.mp4,3.42,11.2,40.1\n",
        [("1001", 3.42, None, None)],
        "1:5",
        SIONR,
    ),
    Labels(
        "konvid-150k A",
        "konvid-150k",
        "k150ka_scores.csv",
        "video_name,video_score\norig_10000251326_540_5s.mp4,3.41\n",
        [("orig_10000251326_540_5s.mp4", 3.41, None, None)],
        "1:5",
        KONVID_150K,
    ),
    Labels(
        "konvid-150k B",
        "konvid-150k",
        "k150kb_scores.csv",
        "video_name,mos,video_score\norig_2001_540_5s.mp4,3.41,3.38\n",
        [("orig_2001_540_5s.mp4", 3.41, None, None)],
        "1:5",
        KONVID_150K,
    ),
    Labels(
        "live-vqc",
        "live-vqc",
        "metadata.csv",
        "File,MOS,width,height\nA001.mp4,80.23,1920,1080\nA012NEW.mp4,3.14,1920,1080\n",
        [("A001.mp4", 80.23, None, None), ("A012NEW.mp4", 3.14, None, None)],
        "0:100",
        VIDEVAL,
        auto=False,
    ),
    Labels(
        "youtube-ugc",
        "youtube-ugc",
        "metadata.csv",
        f"{UGC_HEAD}\nAnimation_1080P-000a,Animation,1080,121,3.812,3.8,0.741,0.75,1920\n"
        "Gaming_720P-000b,Gaming,720,118,2.905,NaN,0.803,NaN,NaN\n",
        [("Animation_1080P-000a", 3.812, 0.741, 121.0), ("Gaming_720P-000b", 2.905, 0.803, 118.0)],
        "1:5",
        VIDEVAL,
    ),
    Labels(
        "youtube-ugc as its authors publish it",
        "youtube-ugc",
        "mos.csv",
        "vid,category,# Subjects,MOS full,MOS chunk00,std full\nSports_720P-00a1,Sports,120,3.5,3.4,0.7\n",
        [("Sports_720P-00a1", 3.5, 0.7, 120.0)],
        "1:5",
        "https://media.withyoutube.com/",
    ),
    Labels(
        "lsvq",
        "lsvq",
        "labels_train_test.csv",
        f"{LSVQ_HEAD}\n" + lsvq_row("yfcc-batch1/725", 71.25) + lsvq_row("ia-batch6/Video0002.3gp", 4.5),
        [("yfcc-batch1/725", 71.25, None, None), ("ia-batch6/Video0002.3gp", 4.5, None, None)],
        "0:100",
        PATCHVQ,
    ),
    Labels(
        "lsvq 1080p",
        "lsvq",
        "labels_test_1080p.csv",
        LSVQ_HEAD.replace("is_test,", "") + "\n" + lsvq_row("yfcc-batch9/11", 66.0, is_test=False),
        [("yfcc-batch9/11", 66.0, None, None)],
        "0:100",
        PATCHVQ,
    ),
    Labels(
        "lsvq short",
        "lsvq",
        "labels_train_test.csv",
        "name,height,width,mos,frame_number\nia-batch2/St._A_B,480,640,55.125,210\n",
        [("ia-batch2/St._A_B", 55.125, None, None)],
        "0:100",
        "https://github.com/GZHU-DVL/AttackVQA",
        auto=False,
    ),
    Labels(
        "chug",
        "chug",
        "chug.csv",
        "Video,mos_j,sos_j,ref,name,bitladder,resolution,content_name,height,width\n"
        f"{HEX[0]},14.15,2.82,0,360p_0.2M_#a.mp4,360p,360p,a.mp4,640,360\n{HEX[1]},3.02,1.9,1,ref,1080p,1080p,b.mp4,1,2\n",
        [(HEX[0], 14.15, 2.82, None), (HEX[1], 3.02, 1.9, None)],
        "0:100",
        CHUG,
    ),
    Labels(
        "hf-metadata csv",
        "hf-metadata",
        "metadata.csv",
        'file_name,mos,text\na.mp4,3.4,"a walk, at night"\nsub/b.mp4,2.2,a dog\n',
        [("a.mp4", 3.4, None, None), ("sub/b.mp4", 2.2, None, None)],
        "1:5",
        HF,
        auto=False,
    ),
    Labels(
        "hf-metadata jsonl",
        "hf-metadata",
        "metadata.jsonl",
        '{"file_name": "a.mp4", "mos": 34, "n_ratings": 7}\n{"file_name": "sub/b.mp4", "mos": 2.2}\n',
        [("a.mp4", 34.0, None, 7.0), ("sub/b.mp4", 2.2, None, None)],
        "0:100",
        HF,
        auto=False,
    ),
    Labels(
        "nvc",
        "nvc",
        "subjective.csv",
        ",name,mos,std,var,ci\n0,clip_a_av1_1280x720_q48,3.1,0.81,0.6561,0.3114\n",
        [("clip_a_av1_1280x720_q48", 3.1, 0.81, None)],
        "1:5",
        NVC,
    ),
]
every_labels = pytest.mark.parametrize("case", LABELS, ids=str)
LABEL_PARTS = ["key", "value", "mos_std_dev", "mos_n_ratings"]


def audited(path, *, base_dir, **options):
    """What an audit says of one label file."""
    pl.DataFrame({"key": ["x"]}).write_parquet(base_dir / "f.parquet")
    entry = pm.LabelFile(path, **options)
    audit = pm.materialize_labels("f.parquet", entry, "o.parquet", base_dir=base_dir, min_match_rate=0)
    return audit.label_sources[0]


def test_every_format_of_labels_has_a_case():
    assert {case.format for case in LABELS} == set(pm.list_formats().labels)
    assert all(case.source for case in LABELS)


@every_labels
def test_labels_by_format_alone(tmp_path, case):
    path = write(tmp_path, case.name, case.text)

    frame = labels(path, format=case.format)
    source = audited(case.name, base_dir=tmp_path, format=case.format)

    assert frame.select(LABEL_PARTS).rows() == case.rows
    assert (source.format, source.scale, source.rows) == (case.format, case.scale, len(case.rows))
    assert (source.rows_without_key, source.rows_without_mos) == (0, 0)


@every_labels
def test_labels_by_auto(tmp_path, case):
    path = write(tmp_path, case.name, case.text)
    if case.auto:
        frame = labels(path)
        assert frame["format"].unique().to_list() == [case.format]
        assert frame["scale"].unique().to_list() in (["1:5"], ["0:100"])
        assert frame.select(LABEL_PARTS).rows() == case.rows
        return
    try:
        frame = labels(path)
    except errors.MaterializeError:
        return
    assert frame["format"].to_list() == [None] * len(case.rows)


@pytest.mark.parametrize("variant", VARIANTS)
@every_labels
def test_labels_with_other_line_ends_with_a_mark_and_compressed(tmp_path, case, variant):
    name = case.name + (".gz" if variant == "gzip" else "")
    path = write(tmp_path, name, VARIANTS[variant](case.text))

    assert labels(path, format=case.format).select(LABEL_PARTS).rows() == case.rows


@every_labels
def test_labels_of_an_empty_file_are_refused_by_name(tmp_path, case):
    path = write(tmp_path, case.name, "")

    with pytest.raises(errors.TableError, match=f"{case.name}: the file is empty"):
        labels(path, format=case.format)


def test_the_scale_of_a_format_holds_where_numbers_alone_would_say_otherwise(tmp_path):
    path = write(tmp_path, "a.csv", "File,MOS\nA1.mp4,3.9\nA2.mp4,1.5\n")

    assert audited(path, base_dir=tmp_path, format="live-vqc").scale == "0:100"
    assert audited(path, base_dir=tmp_path, format="live-vqc", scale="0:10").scale == "0:10"


def test_a_score_outside_of_the_scale_of_a_format_is_refused(tmp_path):
    path = write(tmp_path, "a.csv", "flickr_id,mos\n1001,34.5\n")

    with pytest.raises(errors.LabelError, match=r"a\.csv:2: mos '34\.5' is outside of the scale 1:5"):
        audited(path, base_dir=tmp_path, format="konvid-1k")
    # A guess of the format says nothing of the scale.
    assert audited(path, base_dir=tmp_path).scale == "0:100"


def test_keys_of_lsvq_keep_their_folder_and_their_dots(tmp_path):
    path = write(tmp_path, "a.csv", "name,mos\nia-batch6/Video0002.3gp,40.5\nyfcc-batch1/Video0002.3gp,60\n")
    features = pl.DataFrame({"path": ["x/ia-batch6/Video0002.3gp.mp4", "x/yfcc-batch1/Video0002.3gp.mp4"]})

    found = pm.join_labels(
        features,
        pm.scan_labels(pm.LabelFile(path, format="lsvq")),
        key_normalize="raw",
        feature_key_regex=r"([^/]+/[^/]+)\.mp4$",
    )

    assert found["mos_raw_0_100"].to_list() == [40.5, 60.0]


@pytest.mark.parametrize("word", ["NaN", "nan", "na", "NA", "", " "])
@pytest.mark.parametrize(("form", "head"), [("youtube-ugc", "vid,MOSFull"), ("hf-metadata", "file_name,mos")])
def test_missing_scores_are_no_labels_and_counted(tmp_path, form, head, word):
    path = write(tmp_path, "a.csv", f"{head}\na,3.5\nb,{word}\nc,{word}\n,{word}\n")

    source = audited(path, base_dir=tmp_path, format=form)

    assert (source.rows, source.rows_without_mos) == (4, 3)
    assert pm.scan_table(tmp_path / "o.parquet").collect()["mos"].to_list() == [None]


def test_a_number_may_stand_for_a_missing_label(tmp_path):
    path = write(tmp_path, "a.csv", "key,mos\na,-1\nb,3.5\n")
    form = pm.LabelFormat(missing=["-1"])

    assert labels(path, format=form)["missing"].to_list() == [True, False]


def test_missing_scores_of_json(tmp_path):
    path = write(
        tmp_path,
        "a.jsonl",
        '{"file_name": "a", "mos": 3}\n{"file_name": "b", "mos": null}\n{"file_name": "c"}\n',
    )

    assert audited(path, base_dir=tmp_path, format="hf-metadata").rows_without_mos == 2


def test_missing_scores_are_refused_where_no_format_says_so(tmp_path):
    for form in ("auto", "konvid-1k"):
        path = write(tmp_path, "a.csv", "flickr_id,mos\n1,3.5\n2,nan\n")
        with pytest.raises(errors.LabelError, match=r"a\.csv:3: mos .* is no finite number"):
            audited(path, base_dir=tmp_path, format=form)


def test_missing_spreads_and_counts_are_null(tmp_path):
    path = write(tmp_path, "a.csv", "vid,MOSFull,stdFull,x_Subjects\na,3.5,na,NaN\nb,3,0.5,NA\nc,2,,100\n")

    frame = labels(path, format="youtube-ugc")

    assert frame.select(LABEL_PARTS[1:]).rows() == [(3.5, None, None), (3.0, 0.5, None), (2.0, None, 100.0)]
    assert audited(path, base_dir=tmp_path, format="youtube-ugc").rows == 3


def test_a_spread_that_is_no_number_is_refused(tmp_path):
    path = write(tmp_path, "a.csv", "vid,MOSFull,stdFull\na,3.5,wide\n")

    with pytest.raises(errors.LabelError, match="stdFull 'wide' is no number"):
        audited(path, base_dir=tmp_path, format="youtube-ugc")


def test_spread_and_count_columns_of_an_entry_win(tmp_path):
    path = write(tmp_path, "a.csv", "vid,MOSFull,stdFull,x_Subjects,s,n\na,3.5,1,100,2,50\n")
    options = {"std_dev_column": "s", "n_ratings_column": "n"}

    for form in ("youtube-ugc", "auto"):
        assert labels(path, format=form, **options).select(LABEL_PARTS[1:]).rows() == [(3.5, 2.0, 50.0)]


@pytest.mark.parametrize("option", ["std_dev_column", "n_ratings_column"])
def test_spread_and_count_columns_that_are_named_must_be_there(tmp_path, option):
    path = write(tmp_path, "a.csv", "vid,MOSFull,sos\na,3.5,1\n")

    with pytest.raises(errors.TableError, match=rf"a\.csv: no {option} 'soss'.*did you mean 'sos'"):
        labels(path, **{option: "soss"})


def test_columns_of_a_format_are_found_whatever_their_case(tmp_path):
    path = write(tmp_path, "a.csv", "FILE,mos,SOS_j\nA1.mp4,50,2\n")

    assert labels(path, format="live-vqc")["key"].to_list() == ["A1.mp4"]
    assert audited(path, base_dir=tmp_path, format="live-vqc").key_column == "FILE"


def test_what_an_entry_says_wins_over_its_format_and_that_over_the_run(tmp_path):
    path = write(tmp_path, "a.csv", "flickr_id,mos,other,score2\n1,3.5,x,70\n2,4,y,80\n")
    run = {"label_key_column": "other", "label_mos_column": "score2", "label_scale": "0:200"}

    said = pm.scan_labels(pm.LabelFile(path, format="konvid-1k"), **run).collect()
    own = pm.scan_labels(
        pm.LabelFile(path, format="konvid-1k", mos_column="score2", scale="0:100"), **run
    ).collect()
    guessed = pm.scan_labels(path, **run).collect()

    parts = ["key", "value", "scale"]
    assert said.select(parts).row(0) == ("1", 3.5, "1:5")
    assert own.select(parts).row(0) == ("1", 70.0, "0:100")
    assert guessed.select(parts).row(0) == ("x", 70.0, "0:200")


def test_labels_with_a_key_of_their_own_keep_it(tmp_path):
    path = write(tmp_path, "a.csv", "clip_id,flickr_id,mos\na,1001,3\n")

    frame = labels(path)

    assert frame.select("key", "format").rows() == [("a", None)]
    assert labels(path, format="konvid-1k")["key"].to_list() == ["1001"]


def test_a_wrong_format_of_labels_is_refused(tmp_path):
    path = write(tmp_path, "a.csv", "clip,mos\na,3\n")

    with pytest.raises(
        errors.KeyColumnError,
        match="no key column 'flickr_id', which the format 'konvid-1k' expects; it has 'clip', 'mos'; say",
    ):
        labels(path, format="konvid-1k")
    with pytest.raises(
        errors.TableError, match=r"no MOS column 'mos', 'video_score', which the format .* expects; it has"
    ):
        labels(write(tmp_path, "b.csv", "video_name,x\na,3\n"), format="konvid-150k")
    with pytest.raises(errors.TableError, match="expected 4 cells, found 2"):
        labels(path, format="dover-labels")


# --- asking for a format --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scan", "entry", "asked", "meant"),
    [
        (pm.scan_scores, pm.Sidecar, "dover-cvs", "; did you mean 'dover-csv'?"),
        (pm.scan_labels, pm.LabelFile, "youtube_ugc", "; did you mean 'youtube-ugc'?"),
        (pm.scan_scores, pm.Sidecar, "chug", ""),
        (pm.scan_labels, pm.LabelFile, "q-align", ""),
    ],
)
def test_an_unknown_format_is_refused_before_any_file_is_looked_for(scan, entry, asked, meant):
    with pytest.raises(errors.OptionError) as refused:
        scan(entry("nowhere.csv", format=asked))

    assert f"format: {asked!r}{meant}; expected auto or one of c" in str(refused.value)


def test_a_format_of_another_kind_is_refused():
    with pytest.raises(errors.OptionError, match=r"format: a LabelFormat; expected text, or a ScoreFormat"):
        pm.scan_scores(pm.Sidecar("nowhere.csv", format=pm.LabelFormat()))
    with pytest.raises(errors.OptionError, match=r"format: a ScoreFormat; expected text, or a LabelFormat"):
        pm.scan_labels(pm.LabelFile("nowhere.csv", format=pm.ScoreFormat()))


@pytest.mark.parametrize(
    ("kind", "said", "problem"),
    [
        ("scores", {"columns": ["k", "k"]}, "columns: 'k', 'k'; expected one name for each cell, each once"),
        ("scores", {"columns": []}, "columns: none; expected one name"),
        ("scores", {"key_regex": "("}, r"key_regex: not a valid pattern '\('"),
        ("scores", {"logits_field": "logits"}, "levels: expected with logits_field"),
        ("scores", {"levels": {"good": 1.0}}, "levels: expected with logits_field"),
        ("labels", {"columns": ["k", "k"]}, "columns: 'k', 'k'"),
        ("labels", {"key_regex": "("}, "key_regex: not a valid pattern"),
        ("labels", {"scale": "5:1"}, "scale: '5:1'; expected auto, or LOW:HIGH"),
    ],
)
def test_formats_are_checked_before_any_file_is_looked_for(tmp_path, kind, said, problem):
    if kind == "scores":
        run, form, entry = pm.scan_scores, pm.ScoreFormat(**said), pm.Sidecar
    else:
        run, form, entry = pm.scan_labels, pm.LabelFormat(**said), pm.LabelFile
    with pytest.raises(errors.OptionError, match=f"^format: {problem}"):
        run(entry("nowhere.csv", format=form))
    with pytest.raises(errors.ManifestError, match=rf"\$\.formats\.own\.\w+: {problem.partition(': ')[2]}"):
        run_manifest(tmp_path, kind, formats={"own": said}, entries=[{"path": "nowhere.csv"}])


@pytest.mark.parametrize("columns", [["k", "k"], []])
def test_columns_of_an_entry_are_names_each_once(columns):
    for scan, entry in ((pm.scan_scores, pm.Sidecar), (pm.scan_labels, pm.LabelFile)):
        with pytest.raises(errors.OptionError, match=r"^columns: "):
            scan(entry("nowhere.csv", columns=columns))


# --- a key that is not the format's own -------------------------------------------------------------------


RULED = pm.ScoreFormat(
    name="ruled", key_field=["name"], score_field=["q"], key_normalize="stem", key_regex="^r_(.+)$", label="m"
)
RULED_LABELS = pm.LabelFormat(
    name="ruled", key_column=["name"], mos_column=["q"], key_normalize="stem", key_regex="^r_(.+)$"
)


def rule(frame):
    return frame.select("key", "key_normalize", "key_regex").rows()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("r_a.mp4", "stem", "^r_(.+)$")]),
        ({"key_field": "name"}, [("r_a.mp4", "stem", "^r_(.+)$")]),
        ({"key_field": "NAME"}, [("r_a.mp4", "stem", "^r_(.+)$")]),
        ({"key_field": "src"}, [("x/r_b.mp4", None, None)]),
        ({"key_field": "@filename"}, [("s.jsonl", None, None)]),
        ({"key_field": "src", "key_normalize": "basename"}, [("x/r_b.mp4", "basename", None)]),
        ({"key_field": "src", "key_regex": "b"}, [("x/r_b.mp4", None, "b")]),
        ({"key_regex": "a"}, [("r_a.mp4", "stem", "a")]),
    ],
)
def test_a_formats_rule_for_keys_is_for_its_own_key(tmp_path, options, expected):
    path = write(tmp_path, "s.jsonl", '{"name": "r_a.mp4", "src": "x/r_b.mp4", "q": 1}\n')

    assert rule(scores(path, format=RULED, **options)) == expected

    if options.get("key_field") not in ("@filename", "NAME"):  # a column of labels is named to the letter
        said = {name.replace("field", "column"): value for name, value in options.items()}
        assert rule(labels(path, format=RULED_LABELS, **said)) == expected


def test_a_format_without_a_key_says_how_any_key_is_made(tmp_path):
    path = write(tmp_path, "s.jsonl", '{"src": "x/b.mp4", "q": 1}\n')
    form = pm.ScoreFormat(score_field=["q"], key_normalize="stem", label="m")
    own = pm.LabelFormat(mos_column=["q"], key_normalize="stem")

    for options in ({}, {"key_field": "src"}):
        assert rule(scores(path, format=form, **options)) == [("x/b.mp4", "stem", None)]
        said = {"key_column": "src"} if options else {}
        assert rule(labels(path, format=own, **said)) == [("x/b.mp4", "stem", None)]


def test_another_key_than_that_of_a_recognised_format_is_made_as_the_table_says(tmp_path):
    log = {"version": "3.0.0", "fps": 1, "frames": [], "pooled_metrics": {"vmaf": {"mean": 90}}, "of": "r/a"}
    path = write(tmp_path, "log.mp4.json", json.dumps(log))

    [(key, normalize, regex)] = rule(scores(path))
    assert (key, normalize, regex is None) == ("log.mp4.json", "stem", False)
    assert rule(scores(path, key_field="of")) == [("r/a", None, None)]
    by_option = pm.scan_scores(path, score_key_field="of").collect()
    assert rule(by_option) == [("r/a", None, None)]
    assert by_option["scorer"].to_list() == ["vmaf"]


def test_another_column_of_labels_takes_the_regex_of_the_run(tmp_path):
    path = write(tmp_path, "l.csv", "name,src,q\nr_a.mp4,x/r_b.mp4,3\n")
    run = {"label_key_regex": "r_(.)"}

    own = pm.scan_labels(pm.LabelFile(path, format=RULED_LABELS), **run).collect()
    other = pm.scan_labels(pm.LabelFile(path, format=RULED_LABELS, key_column="src"), **run).collect()

    assert rule(own) == [("r_a.mp4", "stem", "^r_(.+)$")]
    assert rule(other) == [("x/r_b.mp4", None, "r_(.)")]


# --- manifests ------------------------------------------------------------------------------------------

KINDS = {"scores": "second-opinion", "labels": "mos-labels"}


def run_manifest(folder, kind, *, entries, formats=None, tables=1, **options):
    if not (folder / "f.csv").exists():
        write(folder, "f.csv", "clip_id\na\nb\n")
    content = {
        "tables": [
            {
                "id": f"t{n}",
                "features": "f.csv",
                kind: entries[n] if tables > 1 else entries,
                "out": f"o{n}.parquet",
            }
            | options
            for n in range(tables)
        ]
    }
    if formats is not None:
        content["formats"] = formats
    path = write(folder, "manifest.json", json.dumps(content))
    return pm.run_batch(path, kind=KINDS[kind], report_json=folder / "report.json")


OWN = {"columns": ["clip", "q"], "key_field": ["clip"], "score_field": ["q"], "label": "own"}


def test_a_manifest_brings_a_format(tmp_path):
    write(tmp_path, "s.txt", "a,0.5\nb,nil\n")

    report = run_manifest(
        tmp_path,
        "scores",
        formats={"lab-log": {**OWN, "missing": ["Nil"]}},
        entries=[{"path": "s.txt", "format": "lab-log"}],
    )

    assert report.status == "ok"
    counts = report.tables[0]["summary"]["competitors"]["own"]
    assert (counts["formats"], counts["matched_rows"], counts["bad_rows"]) == (["lab-log"], 1, 1)
    assert report.tables[0]["scores"][0]["format"]["columns"] == ["clip", "q"]
    assert (
        json.loads((tmp_path / "report.json").read_text())["tables"][0]["scores"][0]["format"]["name"]
        == "lab-log"
    )


def test_a_manifest_of_labels_brings_a_format(tmp_path):
    write(tmp_path, "l.csv", "who,how good,sd,n\na,70,9,12\nb,-,1,2\n")
    form = {
        "key_column": ["who"],
        "mos_column": ["how good"],
        "std_dev_column": ["sd"],
        "n_ratings_column": ["n"],
        "scale": "0:100",
        "missing": ["-"],
    }

    report = run_manifest(
        tmp_path,
        "labels",
        formats={"lab": form},
        entries=[{"path": "l.csv", "format": "lab"}],
        min_match_rate=0.5,
    )

    assert report.status == "ok"
    found = pl.read_parquet(tmp_path / "o0.parquet")
    assert found["mos_raw_0_100"].to_list() == [70.0, None]
    assert found["mos_std_dev"].to_list() == [9.0, None]
    assert found["mos_n_ratings"].to_list() == [12, None]


def test_a_format_may_stand_in_an_entry(tmp_path):
    write(tmp_path, "s.txt", "a,0.5\nb,0.25\n")

    report = run_manifest(tmp_path, "scores", entries=[{"path": "s.txt", "format": OWN}])

    assert report.tables[0]["summary"]["competitors"]["own"]["matched_rows"] == 2


@pytest.mark.parametrize(
    ("kind", "formats_said", "problem"),
    [
        ("scores", {"dover-csv": {}}, r"\$\.formats\.dover-csv: is the name of a built-in format"),
        ("labels", {"chug": {}}, r"\$\.formats\.chug: is the name of a built-in format"),
        ("scores", {"auto": {}}, r"\$\.formats\.auto: is the name of a built-in format"),
        (
            "scores",
            {"x": {"scorefield": ["a"]}},
            r"\$\.formats\.x\.scorefield: unknown name; did you mean 'score_field'",
        ),
        ("labels", {"x": {"score_field": ["a"]}}, r"\$\.formats\.x\.score_field: unknown name"),
        (
            "scores",
            {"x": {"pooling": "max"}},
            r"\$\.formats\.x\.pooling: unknown choice 'max'.*mean harmonic_mean",
        ),
        (
            "scores",
            {"x": {"rows": "frame"}},
            r"\$\.formats\.x\.rows: unknown choice 'frame'; did you mean 'frames'",
        ),
        ("scores", {"x": {"key_field": "name"}}, r"\$\.formats\.x\.key_field: expected array, got str"),
        ("scores", {"x": []}, r"\$\.formats\.x: expected an object"),
        ("scores", [], r"\$\.formats: expected an object"),
    ],
)
def test_formats_of_a_manifest_are_checked_before_anything_runs(tmp_path, kind, formats_said, problem):
    with pytest.raises(errors.ManifestError, match=problem):
        run_manifest(tmp_path, kind, formats=formats_said, entries=[{"path": "s.txt"}])

    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("name", ["", " ", "\t"])
@pytest.mark.parametrize(("kind", "file"), [("scores", "s.csv"), ("labels", "l.csv")])
def test_blank_names_of_formats_are_refused_with_their_place(tmp_path, kind, file, name):
    write(tmp_path, "s.csv", "clip_id,score\na,1\n")
    write(tmp_path, "l.csv", "clip_id,mos\na,1\n")

    with pytest.raises(errors.ManifestError) as info:
        run_manifest(tmp_path, kind, entries=[{"path": file, "format": name}])
    assert f": $.tables[0].{kind}[0].format: {name!r}; expected auto or one of " in str(info.value)
    with pytest.raises(errors.ManifestError) as info:
        run_manifest(tmp_path, kind, formats={name: {}}, entries=[{"path": file, "format": name}])
    assert str(info.value).endswith(f": $.formats: {name!r}: expected a name, not blank text")
    if name:  # without any it has none
        with pytest.raises(errors.ManifestError) as info:
            run_manifest(tmp_path, kind, entries=[{"path": file, "format": {"name": name}}])
        found = str(info.value)
        assert found.endswith(
            f": $.tables[0].{kind}[0].format: its name is {name!r}; expected a name, or none"
        )
    assert not list(tmp_path.glob("*.parquet"))


def test_an_unknown_format_in_a_manifest_is_refused_with_its_place(tmp_path):
    with pytest.raises(
        errors.ManifestError, match=r"\$\.tables\[0\]\.scores\[0\]\.format: 'dover-cvs'; did you mean"
    ):
        run_manifest(tmp_path, "scores", entries=[{"path": "s.csv", "format": "dover-cvs"}])


def test_saliency_has_no_formats(tmp_path):
    path = write(
        tmp_path, "m.json", json.dumps({"formats": {}, "tables": [{"id": "a", "input": "a", "output": "b"}]})
    )

    with pytest.raises(errors.ManifestError, match=r"\$\.formats: unknown name"):
        pm.run_batch(path, kind="saliency")


def test_a_batch_reads_one_file_anew_for_each_format(tmp_path):
    write(tmp_path, "s.csv", "a,0.5\nb,0.25\n")
    other = {**OWN, "columns": ["clip", "q"], "label": "other"}
    swapped = {"columns": ["q", "clip"], "key_field": ["q"], "score_field": ["q2"]}
    path = "s.csv"

    report = run_manifest(
        tmp_path,
        "scores",
        formats={"one": OWN, "two": other, "three": {**swapped, "columns": ["q", "q2"], "label": "own"}},
        entries=[[{"path": path, "format": name}] for name in ("one", "two", "three", "one")],
        tables=4,
    )

    assert report.status == "ok"
    found = [list(table["summary"]["competitors"].items()) for table in report.tables]
    assert [(name, counts["formats"]) for [(name, counts)] in found] == [
        ("own", ["one"]),
        ("other", ["two"]),
        ("own", ["three"]),
        ("own", ["one"]),
    ]


def test_the_memo_knows_pooling_and_duplicates(tmp_path):
    write(tmp_path, "s.jsonl", json_lines({"name": "a", "v": [1, 5]}, {"name": "a", "v": [2, 10]}))
    said = [{"duplicates": "last"}, {"duplicates": "last", "pooling": "min"}, {}]

    report = run_manifest(
        tmp_path,
        "scores",
        entries=[[{"path": "s.jsonl", "label": "m", "score_field": "v", **more}] for more in said],
        tables=3,
    )

    read = [pl.read_parquet(tmp_path / f"o{n}.parquet")["second_opinion_m_score"][0] for n in (0, 1)]
    assert read == [6.0, 2.0]
    assert [table["status"] for table in report.tables] == ["ok", "ok", "error"]


def test_a_failed_table_describes_files_of_any_suffix(tmp_path):
    write(tmp_path, "logs/a.txt", "a.mp4,3\n")
    write(tmp_path, "logs/b.txt", "b.mp4,word\n")

    report = run_manifest(tmp_path, "scores", entries=[{"path": "logs/*.txt", "format": "uvq-csv"}])

    assert report.tables[0]["status"] == "error"
    described = report.run_provenance["inputs"]["scores"]
    assert [(file["path"], file["kind"]) for file in described] == [
        ("logs/a.txt", "file"),
        ("logs/b.txt", "file"),
    ]


# --- the command line -----------------------------------------------------------------------------------


def test_the_command_lists_every_format(capsys):
    assert main(["formats"]) == 0
    full = capsys.readouterr().out
    assert main(["formats", "--brief"]) == 0
    brief = capsys.readouterr().out
    assert main(["formats", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)

    known = pm.list_formats()
    names = {**known.scores, **known.labels}
    assert list(content) == [line.split()[0] for line in brief.splitlines()[1:]]
    assert set(content) == set(names)
    for name, form in names.items():
        reads = "scores" if name in known.scores else "labels"
        assert f"{name} ({reads}): {form.tool}" in full.splitlines()
        assert form.example in full
        assert content[name]["reads"] == reads
        assert content[name]["example"] == form.example
        assert form.key
        assert form.source


def test_the_command_shows_the_formats_that_are_named(capsys):
    assert main(["formats", "chug", "q-align", "--brief"]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert [line.split()[0] for line in lines] == ["FORMAT", "chug", "q-align"]
    assert "0 to 100, higher is better" in lines[1]
    assert main(["formats", "lpips-json", "pyiqa-csv"]) == 0
    text = capsys.readouterr().out
    assert "lower is better" in text
    assert "the scorer decides what is better" in text


def test_the_command_refuses_an_unknown_format(capsys):
    assert main(["formats", "dover-cvs"]) == 2
    said = capsys.readouterr()

    assert said.out == ""
    assert said.err.startswith("error: no format 'dover-cvs'; did you mean 'dover-csv'?; expected one of ")
    assert said.err.count("\n") == 1


def test_the_command_joins_by_format(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "f.csv", "file_name\nb.mp4\nx.mp4\n")
    write(tmp_path, "log.txt", dover_log + "b.mp4,1, 2,77\n")
    entry = {"path": "log.txt", "format": "dover-log"}
    paths = ["--features", "f.csv", "--out", "o.csv", "--audit-json", "a.json"]
    command = ["second-opinion", "table", *paths, "--scores"]

    assert main([*command, json.dumps(entry)]) == 1
    assert "say duplicates: last" in capsys.readouterr().err
    assert main([*command, json.dumps({**entry, "duplicates": "last"})]) == 0
    assert "second_opinion_dover=1/2" in capsys.readouterr().err
    counts = json.loads((tmp_path / "a.json").read_text())["competitors"]["dover"]
    assert (counts["formats"], counts["replaced_scores"]) == (["dover-log"], 1)
    assert main([*command, json.dumps({**entry, "format": "dover-lgo"})]) == 2
    assert "did you mean 'dover-log'" in capsys.readouterr().err


def test_the_command_joins_labels_by_format(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "f.csv", "File\nA1.mp4\n")
    write(tmp_path, "l.csv", "File,MOS\nA1.mp4,3.5\nA2.mp4,1\n")
    command = (
        "mos-labels table --features f.csv --out o.csv --audit-json a.json --feature-key-column File --labels"
    )

    assert main([*command.split(), '{"path": "l.csv", "format": "live-vqc"}']) == 0
    source = json.loads((tmp_path / "a.json").read_text())["label_sources"][0]
    assert (source["format"], source["scale"]) == ("live-vqc", "0:100")


def test_the_command_says_where_a_format_of_a_manifest_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = {"id": "t", "features": "f.csv", "scores": ["m=s.csv"], "out": "o.csv"}
    write(tmp_path, "m.json", json.dumps({"formats": {"own": {"key_regex": "("}}, "tables": [table]}))

    assert main(["second-opinion", "batch", "--manifest", "m.json"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: m.json: $.formats.own.key_regex: not a valid pattern '('"
    )


# --- real files -----------------------------------------------------------------------------------------


@pytest.fixture
def data(shared):
    def at(*parts):
        path = shared.joinpath("data", *parts)
        if not path.exists():
            pytest.skip(f"no {'/'.join(parts)} in the shared data")
        return path

    return at


@pytest.mark.parametrize("named", [True, False], ids=["named", "auto"])
def test_real_folders_and_labels_of_nvc_by_format_alone(data, tmp_path, named):
    data("nvc", "subjective.csv")
    scorers = {"dover": "dover", "fastervqa": "fastervqa", "musiq": "musiq", "qalign": "q-align"}
    for scorer in scorers:
        data("nvc", "metrics", scorer)
    entries = [
        pm.Sidecar(f"metrics/{scorer}", format=f"nvc-{scorer}" if named else "auto", key_normalize="stem")
        for scorer in scorers
    ]
    features = pm.scan_table(data("nvc", "subjective.csv")).select("name").sort("name").collect()
    features.write_parquet(tmp_path / "f.parquet")

    audit = pm.materialize_scores(
        tmp_path / "f.parquet", entries, tmp_path / "o.parquet", base_dir=data("nvc"), missing_policy="fail"
    )
    labelled = pm.materialize_labels(
        tmp_path / "f.parquet",
        pm.LabelFile("subjective.csv", format="nvc" if named else "auto"),
        tmp_path / "l.parquet",
        base_dir=data("nvc"),
    )

    found = {name: (c.matched_rows, c.unused_scores, c.formats) for name, c in audit.competitors.items()}
    assert found == {label: (216, 0, [f"nvc-{scorer}"]) for scorer, label in scorers.items()}
    assert (labelled.matched_rows, labelled.label_sources[0].format) == (216, "nvc")
    assert labelled.label_scale == "1:5"
    text = io.StringIO(data("nvc", "subjective.csv").read_text())
    spreads = {row["name"]: float(row["std"]) for row in csv.DictReader(text)}
    result = pl.read_parquet(tmp_path / "l.parquet")
    assert dict(result.select("name", "mos_std_dev").iter_rows()) == spreads


def test_real_libvmaf_log_by_format_alone_and_as_libvmaf_pools_it(data):
    path = sorted(data("nvc", "metrics", "vmaf").glob("*.json"))[0]
    content = json.loads(path.read_text())
    numbers = [frame["metrics"]["vmaf"] for frame in content["frames"]]
    written = content["pooled_metrics"]["vmaf"]

    for form in ("libvmaf-json", "auto"):
        found = scores(path, format=form)
        assert rows(found) == [("vmaf", path.name, written["mean"], "ok", 0)]
    for pooling in ("mean", "harmonic_mean", "min"):
        found = scores(path, format="libvmaf-json", pooling=pooling)
        assert found["score"].to_list() == [pytest.approx(written[pooling], abs=1e-5)]
        assert found["score"].to_list() == [pytest.approx(POOLINGS[pooling](numbers), rel=1e-9)]
        assert found["frames"].to_list() == [len(numbers)]


@pytest.mark.parametrize(
    ("path", "form", "expected"),
    [
        ("konvid_1k/metadata.csv", "konvid-1k", (1200, "1:5")),
        ("live_vqc/metadata.csv", "live-vqc", (585, "0:100")),
        ("chug/chug.csv", "chug", (5992, "0:100")),
    ],
)
def test_real_labels_by_format_alone(data, tmp_path, path, form, expected):
    path, key = data(*path.split("/")), pm.list_formats().labels[form].key_column[0]
    count, scale = expected
    pm.sink_table(pm.scan_table(path).select(key), tmp_path / "f.parquet")

    audit = pm.materialize_labels(
        tmp_path / "f.parquet",
        pm.LabelFile(str(path), format=form),
        tmp_path / "o.parquet",
        feature_key_column=key,
    )

    assert (audit.matched_rows, audit.labels_loaded, audit.missing_rows) == (count, count, 0)
    assert (audit.label_scale, audit.label_sources[0].format) == (scale, form)


@pytest.mark.parametrize(
    ("folder", "expected"), [("konvid_1k", (1200, 1200, "1:5")), ("live_vqc", (576, 585, "0:100"))]
)
def test_real_dover_labels_by_format_alone(data, tmp_path, folder, expected):
    metadata = pm.scan_table(data(folder, "metadata.csv"))
    name = pl.col("flickr_id").cast(pl.String) + ".mp4" if folder == "konvid_1k" else pl.col("File")
    metadata.select(file_name=name).collect().write_parquet(tmp_path / "f.parquet")

    audit = pm.materialize_labels(
        tmp_path / "f.parquet",
        pm.LabelFile(str(data(folder, "dover_labels.txt")), format="dover-labels"),
        tmp_path / "o.parquet",
    )

    assert (audit.matched_feature_keys, audit.total_feature_keys, audit.label_scale) == expected


def test_real_reports_of_one_clip_by_format_alone(data):
    report = json.loads(data("other", "ffmpeg_quality_metrics.json").read_text())
    p1204_3 = json.loads(data("other", "p1204_3.json").read_text())

    for form in ("ffmpeg-quality-metrics", "auto"):
        found = scores(data("other", "ffmpeg_quality_metrics.json"), format=form).row(0, named=True)
        assert found["key"] == report["input_file_dist"]
        assert found["score"] == report["global"]["vmaf"]["vmaf"]["average"]
    pooled = scores(data("other", "ffmpeg_quality_metrics.json"), pooling="min").row(0, named=True)
    assert pooled["score"] == min(frame["vmaf"] for frame in report["vmaf"])
    for form in ("p1204", "auto"):
        found = scores(data("other", "p1204_3.json"), format=form).row(0, named=True)
        assert (found["key"], found["score"]) == (p1204_3["video_basename"], p1204_3["per_sequence"])
