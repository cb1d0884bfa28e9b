"""Pixels of every kind, against frames that the `ffmpeg` program made, and what clips say of them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
import saliency_oracle as oracle

import polars_materialize as pm
from polars_materialize import errors
from polars_materialize.cli import main
from polars_materialize.saliency import stage
from polars_materialize.saliency.clips import Clip, ClipError, Planes, Sampling, Tags
from polars_materialize.saliency.containers import listening, read_container
from polars_materialize.saliency.pixels import HDR, known_matrix, turns
from polars_materialize.saliency.programs import find_programs, read_program
from polars_materialize.saliency.tensors import to_tensor

NEW_PYAV = int(av.__version__.partition(".")[0]) >= 19
WIDTH, HEIGHT = 62, 46
PICTURE = f"testsrc2=s={WIDTH}x{HEIGHT}:r=25:d=0.12"

FFPROBE = """#!{python}
# Stands in for ffprobe: says of packets what it does, read by PyAV.
import json, sys, av
with av.open(sys.argv[-1].removeprefix("file:")) as container:
    stream = container.streams.video[0]
    unit, start = stream.time_base, container.start_time or 0
    duration = {{"duration_ts": stream.duration}} if stream.duration else {{}}
    packets = [p for p in container.demux(stream) if p.pts is not None]
    print(json.dumps({{
        "packets": [
            {{"pts": p.pts, "size": str(p.size), "flags": "K" + "_D"[p.is_discard] + "_"}} for p in packets
        ],
        "streams": [{{
            "time_base": f"{{unit.numerator}}/{{unit.denominator}}",
            "avg_frame_rate": str(stream.average_rate or "0/0"),
            **duration,
        }}],
        "format": {{"start_time": f"{{start / av.time_base:.6f}}", "format_name": container.format.name}},
    }}))
if {complains!r}:
    print("partial file", file=sys.stderr)
"""


@pytest.fixture(scope="session")
def make(ffmpeg, tmp_path_factory):
    """Makes a clip by the program: its name, options of the picture, and options of the encoder."""
    folder = tmp_path_factory.mktemp("made")

    def clip(name, *options, picture=PICTURE):
        path = folder / f"{len(list(folder.iterdir()))}-{name}"
        command = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", picture, *options, str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return path

    return clip


def probe(folder, *, complains=False):
    """A program that says what ffprobe says."""
    path = folder / f"ffprobe-{complains}"
    path.write_text(FFPROBE.format(python=sys.executable, complains=complains))
    path.chmod(0o755)
    return str(path)


def in_process(path, *asked, **named):
    """The frames of a clip, decoded by PyAV."""
    with listening():
        return list(read_container(Clip(str(path), str(path)), Sampling(*asked, **named), lambda: None))


def by_program(path, ffmpeg, *asked, ffprobe=None, **named):
    """The frames of a clip, decoded by the program."""
    programs = find_programs(ffmpeg, ffprobe, None)
    return list(read_program(Clip(str(path), str(path)), Sampling(*asked, **named), programs, lambda: None))


def reference(path, ffmpeg, filters="format=yuv420p", size=(WIDTH, HEIGHT)):
    """The frames that the program makes of a clip, with nothing of the package's own."""
    command = [
        ffmpeg,
        "-v",
        "error",
        "-i",
        str(path),
        "-vf",
        filters,
        "-f",
        "rawvideo",
        "-pix_fmt",
        "yuv420p",
        "-",
    ]
    found = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.uint8)
    width, height = size
    across, down = (width + 1) // 2, (height + 1) // 2
    frames = []
    for frame in found.reshape(-1, width * height + 2 * across * down):
        y, u, v = np.split(frame, [width * height, width * height + across * down])
        frames.append((y.reshape(height, width), u.reshape(down, across), v.reshape(down, across)))
    return frames


def planes(frames):
    """The planes of frames."""
    return [(frame.y, frame.u, frame.v) for frame in frames]


def difference(found, expected):
    """The largest difference of two lists of frames, in codes."""
    assert len(found) == len(expected) > 0
    pairs = zip([p for f in found for p in f], [p for f in expected for p in f], strict=True)
    return max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs)


# --- every pixel format, range and matrix -------------------------------------------------------------

YUV = [
    *("yuv420p", "yuv422p", "yuv444p", "yuv410p", "yuv411p", "yuv440p", "nv12", "uyvy422"),
    *("yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "yuv422p12le", "yuv444p12le"),
    *("yuv444p16le", "yuva420p", "yuva444p", "gray", "gray10le", "gray16le", "ya8", "monob"),
]
RGB = [
    "rgb24",
    "bgr0",
    "rgba",
    "rgb48le",
    "gbrp",
    "gbrp10le",
    "gbrp12le",
    "gbrap",
    "rgb565le",
    "rgb8",
    "pal8",
]
BY_709 = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
FULL = [
    *[("ffv1", pix_fmt) for pix_fmt in ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le")],
    *[("mjpeg", pix_fmt) for pix_fmt in ("yuvj420p", "yuvj422p", "yuvj444p")],
]


@pytest.fixture(scope="session", params=["PyAV", "ffmpeg"])
def decode(request, ffmpeg):
    """Each way of decoding."""
    if request.param == "PyAV":
        return in_process
    return lambda path, *asked, **named: by_program(path, ffmpeg, *asked, **named)


@pytest.mark.parametrize("pix_fmt", [*YUV, *RGB])
def test_every_pixel_format_is_that_of_the_program(make, ffmpeg, decode, pix_fmt):
    path = make("a.nut", "-vf", f"format={pix_fmt}", "-c:v", "rawvideo", "-pix_fmt", pix_fmt)

    found = decode(path)

    expected = reference(path, ffmpeg, BY_709 if pix_fmt in RGB else "format=yuv420p")
    assert difference(planes(found), expected) == 0
    assert {frame.tags.pix_fmt for frame in found} == {pix_fmt}
    assert {frame.stored for frame in found} == {(WIDTH, HEIGHT)}


@pytest.mark.parametrize(("codec", "pix_fmt"), FULL)
def test_full_range_is_brought_to_limited_range_without_a_bias(make, ffmpeg, decode, codec, pix_fmt):
    options = ("-c:v", codec, "-pix_fmt", pix_fmt, "-color_range", "pc", "-strict", "-1", "-q:v", "2")
    path = make("a.mkv", "-vf", f"scale=out_range=pc,format={pix_fmt}", *options)

    found = decode(path)

    # By its default filters the program leaves the range as it is.
    assert difference(planes(found), [oracle.limited(frame) for frame in reference(path, ffmpeg)]) == 0
    assert {frame.tags.range for frame in found} == {"pc"}


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
def test_constant_chroma_of_full_range_is_rounded(decode, tmp_path, pix_fmt):
    shape = {"yuv420p": (24, 32), "yuv422p": (48, 32), "yuv444p": (48, 64)}[pix_fmt]
    frame = (np.full((48, 64), 120, np.uint8), np.full(shape, 140, np.uint8), np.full(shape, 100, np.uint8))
    path = oracle.encode(tmp_path / "a.mkv", [frame], pix_fmt=pix_fmt, full=True)

    [found] = decode(path)

    assert [np.unique(plane).tolist() for plane in (found.y, found.u, found.v)] == [[119], [139], [103]]


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt470bg", "bt2020nc"])
@pytest.mark.parametrize("span", ["tv", "pc"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv422p10le"])
def test_means_are_those_of_the_programs_frames(make, ffmpeg, networks, *, pix_fmt, span, matrix):
    scale = f"scale=out_color_matrix={matrix}:out_range={span},format={pix_fmt}"
    options = ("-c:v", "ffv1", "-pix_fmt", pix_fmt, "-color_range", span, "-colorspace", matrix)
    path = make("a.mkv", "-vf", scale, *options)
    frames = reference(path, ffmpeg)
    frames = [oracle.limited(frame) for frame in frames] if span == "pc" else frames
    by_tag = {"bt709": "bt709", "smpte170m": "bt601", "bt470bg": "bt601", "bt2020nc": "bt2020"}[matrix]

    for programs in ({}, {"ffmpeg_bin": ffmpeg}):
        for asked, used in (("bt709", "bt709"), ("as-tagged", by_tag)):
            found = pm.measure_saliency(
                pl.DataFrame({"src": [str(path)]}),
                model_path=networks / "pixel.onnx",
                matrix=asked,
                **programs,
            ).row(0, named=True)

            expected = oracle.saliency(frames, lambda frame, used=used: oracle.pixel_mask(frame, used))
            assert (found["saliency_mean"], found["saliency_var"]) == pytest.approx(expected, abs=1e-4)
            assert (found["saliency_matrix"], found["saliency_range"]) == (matrix, span)
            assert (found["saliency_pix_fmt"], found["saliency_transfer"]) == (pix_fmt, None)


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_rgb_is_made_by_the_matrix(matrix):
    [frame] = oracle.noise(1, 9, 7)

    tensor = to_tensor(Planes(*frame, stored=(9, 7), matrix=matrix), 7, 9)[0]

    assert np.abs(tensor - oracle.tensor(frame, matrix=matrix)).max() < 1e-5


@pytest.mark.parametrize(
    ("tags", "matrix"),
    [
        (Tags(), "bt709"),
        (Tags("yuv420p", "bt709"), "bt709"),
        (Tags("yuv420p", "smpte170m"), "bt601"),
        (Tags("yuv420p", "bt470bg"), "bt601"),
        (Tags("yuv420p10le", "bt2020nc", "smpte2084"), "bt2020"),
        (Tags("yuv420p", "ycgco"), "bt709"),
        (Tags("gbrp", "gbr"), "bt709"),
        (Tags("rgb24", "smpte170m"), "bt709"),
    ],
)
def test_the_matrix_is_that_of_the_tag(tags, matrix):
    assert known_matrix(tags) == matrix


def test_clips_with_other_tags_are_counted_and_told(make, tmp_path, capsys):
    def tagged(matrix, transfer="bt709"):
        tags = f"format=yuv420p,setparams=colorspace={matrix}:color_trc={transfer}"
        return make(f"{matrix}.mkv", "-vf", tags, "-c:v", "ffv1")

    old, odd, hdr = tagged("smpte170m"), tagged("fcc"), tagged("bt2020nc", "smpte2084")
    hlg, plain = tagged("bt709", "arib-std-b67"), tagged("bt709")
    rows = [str(path) for path in (old, odd, hdr, hlg, plain, old)]
    pl.DataFrame({"src": [*rows, "gone.mkv"]}).write_csv(tmp_path / "f.csv")

    def audit(matrix):
        found = pm.materialize_saliency(tmp_path / "f.csv", tmp_path / "o.csv", matrix=matrix)
        return found.other_tags, found.warnings

    tags, warnings = audit("bt709")
    assert (tags.clips, tags.matrix) == (4, {"bt2020nc": 1, "fcc": 1, "smpte170m": 1})
    assert tags.transfer == dict.fromkeys(sorted(HDR), 1)
    assert len(warnings) == 2
    tags, _ = audit("as-tagged")
    assert (tags.clips, tags.matrix) == (3, {"fcc": 1})
    assert tags.transfer == dict.fromkeys(sorted(HDR), 1)
    assert (
        main(["saliency", "table", "--input", str(tmp_path / "f.csv"), "--output", str(tmp_path / "p.csv")])
        == 1
    )
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if line.startswith("warning: ")] == [
        f"warning: {text}" for text in warnings
    ]


# --- turned and mirrored ------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [90, 180, 270, -45])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "gbrp"])
def test_turned_clips_are_those_of_the_program(make, ffmpeg, decode, tmp_path, *, degrees, pix_fmt):
    path = make("a.mkv", "-c:v", "ffv1", "-pix_fmt", pix_fmt)
    turned = tmp_path / "turned.mkv"
    command = [
        ffmpeg,
        "-v",
        "error",
        "-display_rotation",
        str(degrees),
        "-i",
        str(path),
        "-c",
        "copy",
        str(turned),
    ]
    subprocess.run(command, check=True)

    found = decode(turned)

    size = (HEIGHT, WIDTH) if degrees % 180 == 90 else (WIDTH, HEIGHT)
    expected = reference(turned, ffmpeg, BY_709 if pix_fmt == "gbrp" else "format=yuv420p", size)
    assert difference(planes(found), expected) == 0
    assert {frame.stored for frame in found} == {(WIDTH, HEIGHT)}
    assert {frame.tags.pix_fmt for frame in found} == {"bgr0" if pix_fmt == "gbrp" else pix_fmt}


def test_nothing_is_turned_by_a_matrix_of_zeros():
    assert turns([0] * 9) == ()
    assert turns([1, 0, 0, 0, -1]) == ("vflip",)


def oriented(path, orientation):
    """A JPEG that says how it is to be turned, as cameras do."""
    content = path.read_bytes()
    entry = struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_cameras_say(make, ffmpeg, decode, orientation):
    if not NEW_PYAV and orientation in {2, 4, 5, 7} and decode is in_process:
        pytest.skip("PyAV before version 19 does not say that a picture is mirrored")
    path = oriented(make("a.jpg", "-frames:v", "1", "-pix_fmt", "yuvj444p"), orientation)

    found = decode(path)

    size = (WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH)
    expected = [oracle.limited(frame) for frame in reference(path, ffmpeg, size=size)]
    assert difference(planes(found), expected) == 0


# --- stills -------------------------------------------------------------------------------------------

STILLS = {
    "a.png": (),
    "a.PNG": (),
    "a.jpg": (),
    "a.jpeg": ("-pix_fmt", "yuvj444p"),
    "a.bmp": (),
    "a.tif": (),
    "a.tiff": (),
    "a.webp": ("-c:v", "libwebp"),
    "a.avif": ("-c:v", "libaom-av1", "-cpu-used", "8", "-still-picture", "1"),
}


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("name", STILLS)
def test_a_still_is_a_clip_of_one_frame(make, ffmpeg, tmp_path, name, uniform):
    path = make(name, "-frames:v", "1", *STILLS[name])

    [found] = in_process(path, 8, 4, uniform=uniform)
    theirs = by_program(path, ffmpeg, 8, 4, uniform=uniform, ffprobe=probe(tmp_path))

    assert found.size == (WIDTH, HEIGHT)
    assert difference(planes([found]), planes(theirs)) == 0
    assert theirs[0].tags == found.tags


def test_a_picture_is_what_it_begins_with_and_not_its_suffix(make, decode):
    png = make("a.png", "-frames:v", "1")
    path = png.with_suffix(".jpg")
    path.write_bytes(png.read_bytes())

    assert difference(planes(decode(path)), planes(decode(png))) == 0


@pytest.mark.parametrize("name", ["a%03d.png", "a*.png", "a[0-9].jpg"])
def test_a_still_is_no_series(make, decode, tmp_path, name):
    one, other = make("a.png", "-frames:v", "1"), make("b.png", "-frames:v", "1", "-vf", "negate")
    (tmp_path / name).write_bytes(one.read_bytes())
    for index in range(3):
        (tmp_path / f"a{index:03}.png").write_bytes(other.read_bytes())

    assert difference(planes(decode(tmp_path / name)), planes(decode(one))) == 0


@pytest.mark.parametrize("suffix", [".psd", ".ppm", ".svg"])
def test_other_pictures_are_not_opened(decode, tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"P6\n2 2\n255\n" + bytes(12))

    with pytest.raises(ClipError, match="is not opened"):
        decode(tmp_path / f"a{suffix}")


def test_an_animated_webp_is_a_video(make, ffmpeg):
    path = make("a.webp", picture=PICTURE.replace("d=0.12", "d=0.4").replace("testsrc2", "testsrc"))

    theirs = by_program(path, ffmpeg)

    assert len(theirs) > 1
    if NEW_PYAV:
        assert difference(planes(in_process(path)), planes(theirs)) == 0
    else:
        with pytest.raises(ClipError, match="animated WebP"):
            in_process(path)


# --- frames that are there, and those that are not ----------------------------------------------------


@pytest.mark.parametrize("uniform", [False, True])
def test_theora_says_that_a_picture_is_shown_again(make, ffmpeg, tmp_path, uniform):
    picture = f"testsrc2=s={WIDTH}x{HEIGHT}:r=5:d=2,fps=25"
    path = make("a.ogv", "-c:v", "libtheora", "-q:v", "8", picture=picture)
    with av.open(str(path)) as container:
        assert any(not packet.size for packet in list(container.demux(video=0))[:-1])

    found = in_process(path, 8, 4, uniform=uniform)

    theirs = by_program(path, ffmpeg, 8, 4, uniform=uniform, ffprobe=probe(tmp_path))
    assert len(found) == 4
    assert difference(planes(found), planes(theirs)) == 0


def test_frames_that_an_edit_list_leaves_out_are_not_counted(make, ffmpeg, tmp_path):
    whole = make("a.mp4", "-c:v", "libx264", "-g", "50", "-bf", "2", picture=PICTURE.replace("d=0.12", "d=6"))
    path = tmp_path / "cut.mp4"
    subprocess.run(
        [ffmpeg, "-v", "error", "-ss", "1.3", "-i", str(whole), "-c", "copy", str(path)], check=True
    )
    with av.open(str(path)) as container:
        assert any(packet.is_discard for packet in container.demux(video=0))

    for asked in ((8, 4), (5, 5), (3, 1)):
        found = in_process(path, *asked, uniform=True)

        theirs = by_program(path, ffmpeg, *asked, uniform=True, ffprobe=probe(tmp_path))
        assert difference(planes(found), planes(theirs)) == 0


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("seconds", [0.8, 6])
def test_a_clip_that_was_cut_off_fails_under_both_decoders(make, ffmpeg, tmp_path, seconds, share):
    options = ("-c:v", "libx264", "-g", "10", "-movflags", "+faststart")
    whole = make("a.mp4", *options, picture=PICTURE.replace("d=0.12", f"d={seconds}")).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: int(len(whole) * share)])
    ffprobe = probe(tmp_path, complains=True)

    for decode in (in_process, lambda *a, **n: by_program(a[0], ffmpeg, *a[1:], ffprobe=ffprobe, **n)):
        with pytest.raises(ClipError) as caught:
            decode(path, 4, 4, uniform=True)
        assert caught.value.status == "decode-failed"


def test_packets_that_give_no_frame_fail_the_clip(make, ffmpeg, tmp_path):
    whole = make("a.mp4", "-c:v", "libx264", "-g", "5", picture=PICTURE.replace("d=0.12", "d=4"))
    script = tmp_path / "ffprobe"
    told = {"streams": [{"time_base": "1/12800"}], "format": {"format_name": "mov,mp4"}}
    told["packets"] = [{"pts": 512 * index} for index in range(300)]  # 12 s, three times what there is
    script.write_text(f"#!/bin/sh\ncat <<'E'\n{json.dumps(told)}\nE\n")
    script.chmod(0o755)

    with pytest.raises(ClipError, match="frames are missing"):
        by_program(whole, ffmpeg, 4, 4, uniform=True, ffprobe=str(script))


@pytest.mark.parametrize("indexed", [False, True])
def test_a_program_says_when_pictures_change_size(ffmpeg, tmp_path, indexed):
    options = {"codec": "libx264", "options": {"qp": "0"}}
    parts = [
        oracle.encode(tmp_path / f"{width}.h264", oracle.noise(3, width, 48), **options).read_bytes()
        for width in (64, 32)
    ]
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(parts))

    found = pm.measure_saliency(
        pl.DataFrame({"src": [str(path)]}), **({"ffmpeg_bin": ffmpeg} if indexed else {})
    )

    assert found["saliency_status"][0] == "decode-failed"
    assert found["saliency_message"][0] == "changes from 64x48 to 32x48 in its 4. frame"


# --- too large ----------------------------------------------------------------------------------------


def gif(width, height):
    """A picture of a few bytes that is as large as it says."""
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def png(width, height):
    """The same as PNG."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


MEASURING = """
import resource, sys
import polars as pl, polars_materialize as pm
found = pm.measure_saliency(
    pl.DataFrame({"src": sys.argv[2:], "width": [15900] * len(sys.argv[2:]), "height": 15900}),
    workers=1, **({"ffmpeg_bin": sys.argv[1]} if sys.argv[1] else {}),
)
print(found["saliency_status"].to_list(), found["saliency_message"].to_list(), sep="\\n")
# What a process needed before it ran another program counts for `getrusage`, so this one asks the kernel.
own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""


@pytest.mark.parametrize("program", [False, True], ids=["PyAV", "ffmpeg"])
def test_frames_that_are_too_large_take_no_memory(tmp_path, ffmpeg, program):
    (tmp_path / "a.gif").write_bytes(gif(15900, 15900))
    (tmp_path / "a.png").write_bytes(png(15900, 15900))
    (tmp_path / "b.png").write_bytes(png(60000, 60000))
    with (tmp_path / "a.yuv").open("wb") as stream:
        stream.truncate(15900 * 15900 * 3 // 2)

    result = subprocess.run(
        [sys.executable, "-c", MEASURING, ffmpeg if program else "", *sorted(map(str, tmp_path.iterdir()))],
        env={**os.environ, "PYTHONPATH": str(Path(pm.__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    statuses, messages, peak = result.stdout.splitlines()
    assert statuses == str(["model-failed"] * 4)
    assert (
        messages.count(
            "has frames of 15900x15900, 252,810,000 pixels; expected at most max_pixels, 9,437,184"
        )
        == 3
    )
    assert int(peak) < 500_000  # a frame of these alone is 1 GB as RGBA


@pytest.mark.parametrize("name", ["a.mkv", "a.yuv", "a.png"])
@pytest.mark.parametrize("program", [False, True], ids=["PyAV", "ffmpeg"])
def test_max_pixels_is_the_most_that_is_tried(make, ffmpeg, tmp_path, name, program):
    path = tmp_path / name
    if name.endswith("yuv"):
        oracle.raw(path, oracle.noise(2, WIDTH, HEIGHT))
    else:
        path.write_bytes(
            make(name, *(("-frames:v", "1") if name.endswith("png") else ("-c:v", "ffv1"))).read_bytes()
        )
    table = pl.DataFrame({"src": [str(path)], "width": [WIDTH], "height": [HEIGHT]})
    programs = {"ffmpeg_bin": ffmpeg} if program else {}

    for most, status in ((WIDTH * HEIGHT, "ok"), (WIDTH * HEIGHT - 1, "model-failed"), (1, "model-failed")):
        found = pm.measure_saliency(table, max_pixels=most, **programs).row(0, named=True)

        assert found["saliency_status"] == status
        if status != "ok":
            assert f"has frames of {WIDTH}x{HEIGHT}, 2,852 pixels" in found["saliency_message"]
            assert f"max_pixels, {most:,}" in found["saliency_message"]


def test_frames_of_the_default_size_are_tried():
    Sampling().refuse_large(4096, 2304)
    with pytest.raises(ClipError, match="max_pixels, 9,437,184"):
        Sampling().refuse_large(4096, 2305)


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mkv/", "a.mkv/.", "a.mkv//", "gone/../a.mkv", "a.mkv/../a.mkv"])
def test_a_name_that_leads_to_no_file_is_missing_beside_one_that_does(make, tmp_path, name):
    (tmp_path / "a.mkv").write_bytes(make("a.mkv", "-c:v", "ffv1").read_bytes())

    found = pm.add_saliency(pl.DataFrame({"src": ["a.mkv", name, "./a.mkv"]}), root=tmp_path)

    assert found["saliency_status"].to_list() == ["ok", "missing-source", "ok"]


NAMELESS = "model_id: 'saliency_student_v1' without model_path"


def test_a_models_name_without_a_model_is_refused_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("f.csv").write_text("src\na.mkv\n")
    name = {"model_id": "saliency_student_v1"}
    table = pl.DataFrame({"src": ["a.mkv"]})

    for call in (
        lambda: pm.add_saliency(table, **name),
        lambda: pm.add_saliency(table.lazy(), **name),
        lambda: pm.measure_saliency(table, **name),
        lambda: pm.materialize_saliency("f.csv", "o.csv", **name),
    ):
        with pytest.raises(errors.OptionError, match=NAMELESS):
            call()
    with pytest.raises(errors.OptionError, match=NAMELESS):
        pm.refresh_table("f.csv", "o.csv", saliency=pm.SaliencyOptions(**name))
    one = "saliency table --input f.csv --output o.csv --model-id saliency_student_v1"
    assert main(one.split()) == 2
    tables = [{"id": "one", "input": "f.csv", "output": "o.csv"}]
    for defaults, own in ((name, {}), ({}, name)):
        Path("m.json").write_text(json.dumps({"defaults": defaults, "tables": [{**tables[0], **own}]}))
        assert main(["saliency", "batch", "--manifest", "m.json"]) == 2
    refresh = {"id": "one", "features": "f.csv", "out": "o.csv", "saliency": name}
    Path("m.json").write_text(json.dumps({"tables": [refresh]}))
    assert main(["refresh", "batch", "--manifest", "m.json"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"error: {NAMELESS}")
    assert all("$.tables[0].model_id" in line for line in lines[1:3])
    assert "$.tables[0].saliency.model_id" in lines[3]
    assert not Path("o.csv").exists()


# --- clips as inputs ----------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A folder with a table of clips."""
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    for index, name in enumerate(("a.yuv", "b.yuv")):
        oracle.raw(Path("clips") / name, oracle.noise(2, 16, 12, seed=index))
    Path("clips/folder.mkv").mkdir()
    Path("clips/broken.mkv").write_bytes(b"no clip")
    names = ["b.yuv", "a.yuv", "a.yuv", "./a.yuv", "gone.mkv", "folder.mkv", "broken.mkv", "a.yuv/", ""]
    pl.DataFrame({"src": names, "width": 16, "height": 12}).write_csv("f.csv")


def inputs(**options):
    """The clips in the provenance of a run."""
    audit = pm.materialize_saliency("f.csv", "o.csv", root="clips", **options)
    return {one.pop("path"): one for one in audit.run_provenance["inputs"]["clips"]}


@pytest.mark.usefixtures("corpus")
def test_clips_are_hashed_and_named_from_where_all_paths_are():
    found = inputs()

    def there(name):
        content = Path(name).read_bytes()
        return {
            "exists": True,
            "kind": "file",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    missing = {"exists": False, "kind": "missing", "bytes": None, "sha256": None}
    assert found == {
        "clips/./a.yuv": there("clips/a.yuv"),
        "clips/a.yuv": there("clips/a.yuv"),
        "clips/a.yuv/": missing,
        "clips/b.yuv": there("clips/b.yuv"),
        "clips/broken.mkv": there("clips/broken.mkv"),
        "clips/folder.mkv": {**missing, "exists": True, "kind": "directory"},
        "clips/gone.mkv": missing,
    }
    assert list(found) == sorted(found)
    for options in ({"hash_clips": False}, {"hashed": False}):
        assert inputs(**options) == {name: {**one, "sha256": None} for name, one in found.items()}


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize(("name", "fails"), [("a.yuv", True), ("broken.mkv", False), ("gone.mkv", False)])
@pytest.mark.parametrize("hashed", [True, False])
def test_a_clip_that_changes_once_it_is_measured_is_refused(name, fails, hashed):
    def progress(done, total, *_):
        if done == total:
            Path("clips", name).write_bytes(b"something else")

    if fails:
        with pytest.raises(errors.InputChangedError, match=rf"clips/.*{name}"):
            inputs(progress=progress, hash_clips=hashed)
        assert not Path("o.csv").exists()
    else:
        assert inputs(progress=progress, hash_clips=hashed)[f"clips/{name}"]["sha256"] is None


@pytest.mark.usefixtures("corpus")
def test_an_error_in_a_worker_ends_the_run(monkeypatch):
    def broken(*_):
        raise TypeError("ours")

    monkeypatch.setattr(stage, "moments", broken)
    with (
        ThreadPoolExecutor(2) as executor,
        pytest.raises(errors.WorkersError, match=r"unexpected TypeError: ours"),
    ):
        pm.materialize_saliency("f.csv", "o.csv", root="clips", executor=executor)
    assert not Path("o.csv").exists()


@pytest.mark.usefixtures("corpus")
def test_an_error_of_the_program_is_one_line(monkeypatch, capsys):
    def broken(*_):
        raise AttributeError("ours\nindeed")

    monkeypatch.setattr(stage, "moments", broken)

    assert main(["saliency", "table", "--input", "f.csv", "--output", "o.csv", "--root", "clips"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: unexpected AttributeError: ours indeed")
    assert not Path("o.csv").exists()
