"""Signal families: patterns of whole name parts, the built-in table, and files that extend or replace it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.signal_mix.columns import second_opinions, why_no_signal
from polars_materialize.signal_mix.families import built_in, choose_families
from polars_materialize.signal_mix.leakage import is_named_after, is_opinion, is_statistic, why_leak
from polars_materialize.signal_mix.patterns import is_valid, matches, parts_of


def families(name):
    """The families of one column."""
    return {family.name for family in built_in() if family.has(name)}


def families_of(names, known):
    """The columns of each family, in the order of both."""
    columns = list(names)
    return {family.name: [name for name in columns if family.has(name)] for family in known}


# --- patterns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("adm", "adm2", True),
        ("adm", "integer_adm_scale0", True),
        ("adm", "VMAF_integer_feature_adm2_score", True),
        ("adm", "admin", False),
        ("adm", "madm", False),
        ("clipping", "clip_id", False),
        ("clipping", "second_opinion_clip_iqa_score", False),
        ("band", "sidebands", False),
        ("nits", "unit", False),
        ("nits", "maxNits", True),
        ("ms_ssim", "float_ms_ssim", True),
        ("ms_ssim", "MS-SSIM", True),
        ("ms_ssim", "msssim", True),
        ("ms_ssim", "ssim", False),
        ("ssim", "dssim", False),
        ("p10", "p100", False),
        ("_p10", "adm2_p10", True),
        ("_p10", "p10", False),
        ("_p10", "p10_adm2", False),
        ("_std", "mos_std_dev", False),
        ("=scale_0", "scale_0", True),
        ("=scale_0", "adm_scale_0", False),
        ("x264", "libx264", False),
        ("x264", "x264_crf", True),
        ("x26", "x264", False),
        ("clip_iqa", "clipiqa+", True),
        ("u2net", "U2Net_mean", True),
        ("pix_fmt", "pixfmt", True),
        ("ciede", "ciede2000", True),
        ("mos", "", False),
    ],
)
def test_patterns_match_whole_parts(pattern, name, expected):
    assert matches(pattern, name) is expected


@pytest.mark.parametrize("pattern", ["", "_", "=", "__", "adm*", "a b", "^adm", "-", "adm_", "_adm_"])
def test_what_is_no_pattern(pattern):
    assert not is_valid(pattern)


def test_parts_of_odd_names():
    assert parts_of("") == ()
    assert parts_of("overall/final score") == ("overall", "final", "score")
    assert parts_of("maxNitsÄ") == ("max", "nitsä")


# --- the built-in table -------------------------------------------------------------------------------


def test_the_table_has_thirteen_complete_families():
    assert len(built_in()) == 13
    for family in built_in():
        assert family.label
        assert family.question.endswith("?")
        assert family.candidate_metrics
        assert family.recommendation.endswith(".")
        assert all(is_valid(pattern) for pattern in (*family.patterns, *family.unless))


EXTRACTORS = {
    # libvmaf 3, the keys of `metrics` in its JSON log and its internal names.
    "integer_adm2": {"canonical_fr"},
    "integer_adm_scale0": {"canonical_fr"},
    "integer_adm2_egl_1": {"canonical_fr"},
    "integer_vif_scale3": {"canonical_fr"},
    "integer_motion2": {"canonical_fr", "temporal_flicker"},
    "VMAF_integer_feature_vif_scale0_score": {"canonical_fr"},
    "vmaf_neg": {"canonical_fr"},
    "psnr_y": {"error_energy"},
    "psnr_cb": {"error_energy", "color_chroma"},
    "psnr_hvs_cr": {"error_energy", "color_chroma"},
    "float_ssim": {"structural_similarity"},
    "float_ms_ssim": {"structural_similarity"},
    "ciede2000": {"color_chroma"},
    "cambi": {"banding_tone_mapping"},
    "float_ansnr": {"error_energy"},
    # ffmpeg-quality-metrics 3.13, per frame: psnr, ssim, vif, msad.
    "n": set(),
    "mse_avg": {"error_energy"},
    "mse_u": {"error_energy", "color_chroma"},
    "psnr_avg": {"error_energy"},
    "psnr_v": {"error_energy", "color_chroma"},
    "ssim_avg": {"structural_similarity"},
    "ssim_u": {"structural_similarity", "color_chroma"},
    "scale_0": {"canonical_fr"},
    "msad_y": {"error_energy"},
    "msad_avg": {"error_energy"},
    # VIDEVAL's 60 features have numbers, no names; and the metadata of its corpora.
    "videval_00": {"no_reference_ugc"},
    "videval_59": {"no_reference_ugc"},
    "flickr_id": set(),
    "pixfmt": {"hdr_display_panel"},
    "bitdepth": {"hdr_display_panel"},
    "framerate": {"source_geometry_content"},
    "nb_frames": {"source_geometry_content"},
    "bitrate": {"codec_encoder"},
    # DOVER: its CSV and its JSON; the other scorers of AVT-VQDB-UHD-1-NVC.
    "aesthetic score": {"no_reference_ugc"},
    "technical score": {"no_reference_ugc"},
    "overall/final score": {"no_reference_ugc"},
    "fused_score": {"no_reference_ugc"},
    "mean_musiq_cc": {"no_reference_ugc"},
    "qalign_score": {"no_reference_ugc"},
    # This project.
    "second_opinion_clip_iqa_score": {"no_reference_ugc"},
    "second_opinion_fork_nr_metric_score": {"no_reference_ugc"},
    "mos_raw_0_100": {"no_reference_ugc"},
    "mos_std_dev": {"no_reference_ugc"},
    "mos_n_ratings": {"no_reference_ugc"},
    "saliency_mean": {"saliency_roi"},
    "saliency_var": {"saliency_roi"},
    "corpus": set(),
    # Pools, as feature tables of clips have them.
    "adm2_p10": {"canonical_fr", "temporal_flicker"},
    "ciede2000_std": {"color_chroma", "temporal_flicker"},
    "cambi_mean": {"banding_tone_mapping"},
    "speed_temporal_p90": {"temporal_flicker"},
    "speed_chroma": {"color_chroma"},
    "ssimulacra2": {"texture_deep_perceptual"},
    "mobilesal_mean": {"saliency_roi"},
    "transnet_v2_shots": {"temporal_flicker"},
    "noise_sigma": {"noise_grain_blur"},
}


def collected():
    """The families of each name that was collected."""
    found = {}
    text = Path(__file__).with_name("signal_mix_names.txt").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        if block.startswith("["):
            head, _, names = block.partition("\n")
            for name in names.split():
                assert name not in found, f"{name} stands twice"
                found[name] = set(head.strip("[]").split())
    return found


def test_families_of_all_names_that_were_collected():
    names = collected()

    wrong = {
        name: (families(name), expected) for name, expected in names.items() if families(name) != expected
    }
    assert wrong == {}
    assert len(names) > 1100
    assert {family for own in names.values() for family in own} == {family.name for family in built_in()}


def test_measures_of_the_field_are_signals():
    """Names of a family are signals, but for opinions of people."""
    none = {name for name, own in collected().items() if own and why_no_signal(name, set())}

    assert none == {name for name in collected() if is_opinion(name)}


def test_every_pattern_of_the_table_is_needed():
    """A pattern that no name needs is a mistake or wants a name in the list."""
    names = [*collected(), *EXTRACTORS]

    idle = [
        f"{family.name}: {pattern}"
        for family in built_in()
        for pattern in (*family.patterns, *family.unless)
        if not any(matches(pattern, name) for name in names)
    ]
    assert idle == []


@pytest.mark.parametrize(("name", "expected"), EXTRACTORS.items(), ids=list(EXTRACTORS))
def test_families_of_columns_that_extractors_write(name, expected):
    assert families(name) == expected


def test_families_of_the_real_libvmaf_log(shared):
    log = next((shared / "data/nvc/metrics/vmaf").glob("*.json"))
    metrics = json.loads(log.read_text())["frames"][0]["metrics"]

    assert [name for name in metrics if not families(name)] == []


def test_families_of_the_real_report_of_ffmpeg_quality_metrics(shared):
    report = json.loads((shared / "data/other/ffmpeg_quality_metrics.json").read_text())

    assert [name for name in report["vmaf"][0] if not families(name)] == ["n"]


# --- columns that are no signals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "src",
        "src_path",
        "clip_id",
        "content_id",
        "id",
        "sha256",
        "src_sha256",
        "basename",
        "filename",
        "path",
        "clip_path",
        "uuid",
        "timestamp",
        "manifest_line",
        "license",
        "source_url",
        "bucket",
        "split",
        "split_name",
        "fold",
        "fold_0",
        "corpus_version",
        "videoId",
    ],
)
def test_identities_are_no_signals(name):
    assert why_no_signal(name, set()) == "identity"


@pytest.mark.parametrize(
    "name", ["src_width", "valid_frames_ratio", "width", "grid", "video", "shape", "psnr_y"]
)
def test_names_that_only_hold_an_identity_are_signals(name):
    assert why_no_signal(name, set()) is None


@pytest.mark.parametrize(
    "name",
    [
        *(
            "mos",
            "MOS",
            "mos_raw_0_100",
            "mos_j",
            "sos_j",
            "dmos",
            "DMOS_std",
            "MOSFull",
            "MOSChunk05",
            "stdFull",
        ),
        *("moschunk05", "mosfull", "stdchunk00", "std", "stddev", "std_dev", "stdev", "std_hdr", "mos_hdr"),
        *("ci_low", "ci_95", "ci95_high", "CI", "n_ratings", "num_ratings", "votes", "n_votes", "rating_1"),
        *("rating", "subject_07", "subject12", "subjective_score", "raw_mos", "mean_opinion_score"),
    ],
)
def test_opinions_are_no_signals(name):
    assert is_opinion(name)
    assert why_no_signal(name, set()) == "leakage"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "vmaf",
            "vmaf_score",
            "score",
            "dover_mos",
            "predicted_mos",
            "mosaic",
            "mosquito_noise",
            "psnr_std",
        ),
        *(
            "std_psnr_y",
            "stddev_motion",
            "StdDev_QP",
            "std_FrameSize",
            "std_Av_Motion",
            "city",
            "cif",
            "voted",
        ),
        *("operating_point", "subjectively", "standard", "n_frames_rated_x", "second_opinion_x_score"),
    ],
)
def test_what_only_sounds_like_an_opinion_is_a_signal(name):
    assert why_no_signal(name, set()) is None


@pytest.mark.parametrize(
    "name",
    [
        "second_opinion_dover_frames",
        "second_opinion_dover_runtime_ms",
        "second_opinion_dover_status",
        "frame_idx",
        "frameNum",
        "n",
        "saliency_ema_alpha",
    ],
)
def test_bookkeeping_is_no_signal(name):
    assert why_no_signal(name, set()) == "bookkeeping"


def test_second_opinions_are_known_under_any_prefix():
    columns = [f"nr_x_{part}" for part in ("score", "status", "runtime_ms", "frames", "source")]

    assert second_opinions([*columns, "y_score", "y_status"]) == set(columns)


# --- leakage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("mos_std_dev", "mos", True),
        ("mos_std_dev", "mos_raw_0_100", True),
        ("std", "mos", True),
        ("std", "vmaf", False),
        ("var", "MOSFull", True),
        ("var", "vmaf", False),
        ("vmaf_p10", "vmaf", True),
        ("vmaf_neg", "vmaf", False),
        ("mos_n_ratings", "mos", False),
        ("dover_mos_std", "mos", False),
    ],
)
def test_statistics_of_the_target(name, target, expected):
    assert is_statistic(name, target) is expected


def test_a_name_alone_or_a_line_alone_is_no_leak():
    assert is_named_after("predicted_mos", "mos")
    assert why_leak("predicted_mos", "mos", pearson=0.99, spearman=0.99, n=1000) is None
    assert why_leak("psnr_y", "mos", pearson=1.0, spearman=1.0, n=1000) is None
    assert "straight line" in why_leak("scaled_mos", "mos", pearson=-1.0, spearman=-1.0, n=3)
    assert "order" in why_leak("log_mos", "mos", pearson=0.9, spearman=1.0, n=20)
    assert why_leak("log_mos", "mos", pearson=0.9, spearman=1.0, n=19) is None


# --- files of families --------------------------------------------------------------------------------


def write(tmp_path, content):
    path = tmp_path / "families.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_file_extends_the_table(tmp_path):
    path = write(
        tmp_path,
        {
            "families": [
                {"name": "freezes", "patterns": ["stall"], "label": "Freezes"},
                {"name": "error_energy", "patterns": ["strred", "psnr"], "recommendation": "Do."},
            ]
        },
    )

    found = {family.name: family for family in choose_families(path)}

    assert len(found) == 14
    assert found["freezes"].title == "Freezes"
    assert found["error_energy"].patterns == [*built_in()[1].patterns, "strred"]
    assert found["error_energy"].recommendation == "Do."
    assert found["error_energy"].question == built_in()[1].question


def test_a_file_replaces_the_table(tmp_path):
    path = write(tmp_path, {"mode": "replace", "families": [{"name": "a_b", "patterns": ["content"]}]})

    found = choose_families(path)

    assert [(family.name, family.title) for family in found] == [("a_b", "a b")]
    assert families_of(["content_id", "content"], found) == {"a_b": ["content_id", "content"]}


def test_families_may_be_given_as_structs():
    mine = pm.Family(name="mine", patterns=["x"])

    assert choose_families([*built_in(), mine])[-1] == mine


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "families.json"),
        ("{nope", "families.json"),
        ("[]", "families.json"),
        ('{"families": []}', "$.families"),
        ('{"families": [{"patterns": ["x"]}]}', "name"),
        ('{"families": [{"name": "x"}]}', "no patterns"),
        ('{"families": [{"name": "x", "patterns": "x"}]}', "$.families[0].patterns"),
        ('{"families": [{"name": "x", "patterns": ["adm*"]}]}', "adm*"),
        ('{"families": [{"name": "x", "patterns": ["a"], "unless": [""]}]}', "pattern"),
        ('{"families": [{"name": "x", "paterns": ["a"]}]}', "paterns"),
        ('{"mode": "add", "families": []}', "mode"),
        ('{"families": [{"name": "x", "patterns": ["a"]}, {"name": "x", "patterns": ["b"]}]}', "twice"),
        ('{"families": [{"name": " ", "patterns": ["a"]}]}', "name"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_place(tmp_path, content, words):
    with pytest.raises(errors.ManifestError) as caught:
        choose_families(write(tmp_path, content))

    assert words in str(caught.value)
    assert "families.json" in str(caught.value)


def test_wrong_families_are_refused(tmp_path):
    for families in ([1], 3, tmp_path / "no.json", []):
        with pytest.raises(errors.OptionError, match=r"^families: |no\.json: "):
            choose_families(families)
