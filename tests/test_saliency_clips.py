"""Clips: where they are, which of their frames are taken, and how those are decoded."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import saliency_oracle as oracle
from av.stream import Disposition
from hypothesis import given, settings
from hypothesis import strategies as st

from polars_materialize import errors
from polars_materialize.saliency import clips, containers, programs
from polars_materialize.saliency.clips import (
    Clip,
    ClipError,
    Sampling,
    evenly,
    file_state,
    frame_bytes,
    locate,
    split_planes,
    take_first,
)
from polars_materialize.saliency.containers import listening, read_container
from polars_materialize.saliency.programs import find_programs, read_program
from polars_materialize.saliency.raw import read_raw, sampled

REPOSITORY = Path(clips.__file__).resolve().parents[2]
X264 = {"codec": "libx264", "options": {"qp": "0"}}
counts = st.integers(1, 60)

FFPROBE = """#!{python}
# Stands in for ffprobe: says the times of packets as it does, read by PyAV.
import json, sys, av
with av.open(sys.argv[-1].removeprefix("file:")) as container:
    stream = container.streams.video[0]
    unit, start = stream.time_base, container.start_time or 0
    times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
print(json.dumps({{
    "programs": [],
    "packets": [{{"pts": time}} for time in times],
    "streams": [{{"time_base": f"{{unit.numerator}}/{{unit.denominator}}"}}],
    "format": {{"start_time": f"{{start / av.time_base:.6f}}"}},
}}))
"""


def script(path, text):
    """Writes a program."""
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture(scope="session")
def ffprobe(tmp_path_factory):
    """A program that says what ffprobe says."""
    return script(tmp_path_factory.mktemp("bin") / "ffprobe", FFPROBE.format(python=sys.executable))


@pytest.fixture(scope="session", params=["PyAV", "ffmpeg"])
def decoder(request):
    """Each way of decoding, as a function of a path and a sampling that gives frames."""
    if request.param == "PyAV":
        return in_process
    ffmpeg, ffprobe = (request.getfixturevalue(name) for name in ("ffmpeg", "ffprobe"))
    found = find_programs(ffmpeg, ffprobe, base_dir=None)
    return lambda path, *asked, **named: list(
        read_program(Clip(str(path), str(path)), Sampling(*asked, **named), found, lambda: None)
    )


def in_process(path, *asked, **named):
    """The frames of a clip, decoded by PyAV."""
    with listening():
        return list(read_container(Clip(str(path), str(path)), Sampling(*asked, **named), lambda: None))


def raw_frames(path, width, height, *asked, **named):
    """The frames of raw video."""
    return list(read_raw(Clip(str(path), str(path), width, height), Sampling(*asked, **named)))


def numbers(frames):
    """The numbers that frames hold."""
    return [oracle.number(frame.y) for frame in frames]


def assert_same(frames, expected, within=0):
    """Compares frames with planes, value by value."""
    assert len(frames) == len(expected)
    for frame, planes in zip(frames, expected, strict=True):
        for found, plane in zip((frame.y, frame.u, frame.v), planes, strict=True):
            assert found.shape == plane.shape
            assert np.abs(found.astype(int) - plane.astype(int)).max() <= within


# --- which frames -------------------------------------------------------------------------------------


@given(count=counts, samples=counts)
def test_evenly_takes_the_first_of_equal_parts(count, samples):
    found = evenly(count, samples)

    assert found == oracle.first(count, count, samples)
    assert found[0] == 0
    assert found == sorted(set(found))
    assert len(found) == min(count, samples)
    assert max(found) < count
    gaps = {b - a for a, b in itertools.pairwise([*found, count])}
    assert max(gaps) - min(gaps) <= 1


@given(count=counts, most=counts, samples=counts, spread=st.booleans())
def test_sampled_frames_are_in_order_and_each_once(count, most, samples, spread):
    found = sampled(count, Sampling(most, samples, uniform=spread))

    assert found == (oracle.uniform if spread else oracle.first)(count, most, samples)
    assert found[0] == 0
    assert found == sorted(set(found))
    assert len(found) <= min(samples, most, count)
    assert max(found) < (count if spread else min(count, most))


@given(count=st.integers(0, 30), most=counts, samples=counts, kept=st.integers(0, 40))
def test_first_frames_are_the_same_whether_they_are_kept_or_decoded_again(count, most, samples, kept):
    calls = []

    def decode():
        calls.append(1)
        return iter(range(count))

    before, clips.KEPT_BYTES = clips.KEPT_BYTES, kept
    try:
        found = list(take_first(decode, Sampling(most, samples), lambda _: 1))
    finally:
        clips.KEPT_BYTES = before

    assert found == (oracle.first(count, most, samples) if count else [])
    assert len(calls) == (2 if samples < most and kept < min(count, most) else 1)


def test_no_more_frames_are_decoded_than_are_considered():
    decoded = []

    def decode():
        for index in range(100):
            decoded.append(index)
            yield index

    assert list(take_first(decode, Sampling(5, 2), lambda _: 1)) == [0, 2]
    assert max(decoded) <= 5


# --- raw video ----------------------------------------------------------------------------------------


@given(
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    count=st.integers(1, 12),
    sampling=st.builds(Sampling, st.integers(1, 14), st.integers(1, 14), st.booleans()),
)
@settings(max_examples=40)
def test_raw_video_is_read_where_it_is(tmp_path, width, height, count, sampling):
    frames = oracle.noise(count, width, height, seed=count)
    path = oracle.raw(tmp_path / "a.yuv", frames)

    found = list(read_raw(Clip("a.yuv", str(path), width, height), sampling))

    which = (oracle.uniform if sampling.uniform else oracle.first)(
        count, sampling.max_frames, sampling.frame_samples
    )
    assert_same(found, [frames[index] for index in which])
    assert {frame.stored for frame in found} == {(width, height)}
    assert path.stat().st_size == count * frame_bytes(width, height)


@pytest.mark.parametrize("size", [0, 1, 23, 25, 36])
def test_raw_video_that_is_no_whole_number_of_frames_fails(tmp_path, size):
    path = tmp_path / "a.yuv"
    path.write_bytes(bytes(size))

    with pytest.raises(ClipError) as caught:
        raw_frames(path, 4, 4)

    assert caught.value.status == "decode-failed"
    assert f"{size} bytes are no whole number of 4x4 frames of 24 bytes each" in caught.value.message


@pytest.mark.parametrize("left", [0, 1, 30_000, 49_151])
def test_raw_video_that_shrinks_while_it_is_read_fails(tmp_path, left):
    path = oracle.raw(tmp_path / "a.yuv", oracle.noise(3, 128, 128))  # larger than what a read takes ahead
    frames = read_raw(Clip("a", str(path), 128, 128), Sampling())
    next(frames)
    with path.open("r+b") as stream:
        stream.truncate(left)

    with pytest.raises(ClipError, match="ends within frame"):
        list(frames)


def test_raw_video_that_cannot_be_read_fails(tmp_path):
    with pytest.raises(ClipError) as caught:
        raw_frames(tmp_path / "gone.yuv", 4, 4)

    assert (caught.value.status, caught.value.message) == ("decode-failed", "No such file or directory")


def test_only_sampled_frames_of_raw_video_are_read(tmp_path):
    path = tmp_path / "huge.yuv"
    with path.open("wb") as stream:
        stream.truncate(frame_bytes(1920, 1080) * 20_000)  # 62 GB of nothing

    found = raw_frames(path, 1920, 1080, 3, 3, uniform=True)

    assert len(found) == 3
    assert not any(frame.y.any() for frame in found)


def test_planes_of_odd_sizes_lie_one_after_another():
    [(y, u, v)] = frames = oracle.noise(1, 7, 5)
    buffer = np.concatenate([plane.ravel() for plane in (y, u, v)])

    planes = split_planes(buffer, 7, 5)

    assert len(buffer) == frame_bytes(7, 5) == 35 + 2 * 12
    assert_same([planes], frames)
    assert planes.size == planes.stored == (7, 5)


# --- where clips are ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "folders", "expected"),
    [
        ("a.mp4", [], "a.mp4"),
        ("a.mp4", ["x", "y"], "x/y/a.mp4"),
        ("/z/a.mp4", ["x"], "/z/a.mp4"),
        ("a.mp4", ["x", "/y"], "/y/a.mp4"),
        (" a.mp4", ["x"], "x/ a.mp4"),
        ("", ["x"], ""),
        (" \t", ["x"], ""),
        (None, ["x"], ""),
    ],
)
def test_a_clip_is_below_its_folders(written, folders, expected):
    assert locate(written, [Path(folder) for folder in folders]) == expected


def missing_sources(folder):
    """Paths that are no clips, each with a word of the reason."""
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "fifo.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s.mp4"))
    (folder / "loop.mp4").symlink_to("loop.mp4")
    return [
        ("", "names no clip"),
        (str(folder / "gone.mp4"), "No such file"),
        (str(folder / "gone" / "a.mp4"), "No such file"),
        (str(folder / "folder.mp4"), "is not a file"),
        (str(folder / "fifo.mp4"), "is not a file"),
        (str(folder / "s.mp4"), "is not a file"),
        (str(folder / "loop.mp4"), "symbolic link"),
        ("/dev/zero", "is not a file"),
        ("/dev/null", "is not a file"),
        ("a\0b.mp4", "null"),
        ("x" * 300 + ".mp4", "too long"),
        ("http://127.0.0.1:9/a.mp4", "No such file"),
        ("-", "No such file"),
    ]


@pytest.mark.parametrize("index", range(13))
def test_what_is_no_file_is_a_missing_source(tmp_path, index):
    path, reason = missing_sources(tmp_path)[index]

    with pytest.raises(ClipError) as caught:
        file_state(Clip(path, path))

    assert caught.value.status == "missing-source"
    assert reason in caught.value.message


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_clip_that_may_not_be_read_is_a_missing_source(tmp_path):
    path = oracle.raw(tmp_path / "a.yuv", oracle.noise(1, 4, 4))
    path.chmod(0)

    with pytest.raises(ClipError) as caught:
        file_state(Clip("a", str(path)))

    assert (caught.value.status, caught.value.message) == ("missing-source", "may not be read")


def test_errors_of_clips_are_one_line():
    assert ClipError("decode-failed", "one\n  two\tthree ").message == "one two three"


# --- pictures -----------------------------------------------------------------------------------------


def widened(frame):
    """A frame's chroma for 4:4:4."""
    y, u, v = frame
    return y, *(plane.repeat(2, 0).repeat(2, 1)[: y.shape[0], : y.shape[1]] for plane in (u, v))


def tall(frame):
    """A frame's chroma for 4:2:2."""
    y, u, v = frame
    return y, *(plane.repeat(2, 0)[: y.shape[0]] for plane in (u, v))


def deep(frame, bits):
    """A frame with more bits a value."""
    return tuple(plane.astype(np.uint16) << (bits - 8) for plane in frame)


def full_range(frame):
    """A frame of limited range as one of full range."""
    y, u, v = (plane.astype(float) for plane in frame)
    planes = ((y - 16) * 255 / 219, (u - 128) * 255 / 224 + 128, (v - 128) * 255 / 224 + 128)
    return tuple(np.clip(np.round(plane), 0, 255).astype(np.uint8) for plane in planes)


SAME = lambda frame: frame  # noqa: E731 - one of a table of such functions
PICTURES = {
    "ffv1 in mkv": ("a.mkv", SAME, {}, 0),
    "h264 in mp4": ("a.mp4", SAME, X264, 0),
    "h264 in mov": ("a.mov", SAME, X264, 0),
    "h264 in ts": ("a.ts", SAME, X264, 0),
    "h264 by itself": ("a.h264", SAME, X264, 0),
    "vp9 in webm": ("a.webm", SAME, {"codec": "libvpx-vp9", "options": {"lossless": "1"}}, 0),
    "raw in nut": ("a.nut", SAME, {"codec": "rawvideo"}, 0),
    "ffv1 in avi": ("a.avi", SAME, {}, 0),
    "yuv4mpeg": ("a.y4m", SAME, {"codec": "wrapped_avframe"}, 0),
    "4:2:2": ("a.mkv", tall, {"pix_fmt": "yuv422p"}, 1),
    "4:4:4": ("a.mkv", widened, {"pix_fmt": "yuv444p"}, 1),
    "alpha": (
        "a.mkv",
        lambda f: (*f, np.full((48, 64), 9, np.uint8)),
        {"pix_fmt": "yuva420p"},
        0,
    ),
    "10 bits": ("a.mkv", lambda f: deep(f, 10), {"pix_fmt": "yuv420p10le"}, 1),
    "12 bits 4:2:2": ("a.mkv", lambda f: deep(tall(f), 12), {"pix_fmt": "yuv422p12le"}, 1),
    "10 bits h264": ("a.mp4", lambda f: deep(f, 10), {**X264, "pix_fmt": "yuv420p10le"}, 1),
    "full range by tag": ("a.mkv", full_range, {"full": True}, 1),
    "full range by format": ("a.mp4", full_range, {**X264, "pix_fmt": "yuvj420p", "full": True}, 1),
    "motion jpeg": (
        "a.mkv",
        full_range,
        {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {"qmin": "1", "qmax": "1"}},
        4,
    ),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_come_out_as_8_bit_limited_range(decoder, tmp_path, kind):
    name, change, options, within = PICTURES[kind]
    frames = oracle.gradient(4)
    path = oracle.encode(tmp_path / name, [change(frame) for frame in frames], **options)

    found = decoder(path)

    assert_same(found, frames, within)
    assert {frame.stored for frame in found} == {(64, 48)}
    assert {plane.dtype for frame in found for plane in (frame.y, frame.u, frame.v)} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(("width", "height"), [(63, 47), (64, 47), (63, 48), (1, 1), (17, 90)])
def test_every_pixel_of_every_size_comes_out(decoder, tmp_path, width, height):
    frames = oracle.noise(3, width, height)
    path = oracle.encode(tmp_path / "a.nut", frames, codec="rawvideo")

    assert_same(decoder(path), frames)


def coloured(count):
    """RGB pictures of mild colours, and the same in 4:2:0 by BT.709."""
    pictures, frames = [], []
    for index in range(count):
        down, across = np.mgrid[0:48, 0:64]
        levels = (0.35 + 0.3 * across / 64, 0.5 - 0.2 * down / 48, 0.4 + 0.01 * index + 0 * down)
        picture = np.round(np.stack(levels, 2) * 255).astype(np.uint8)
        red, green, blue = np.moveaxis(picture / 255, 2, 0)
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        planes = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)
        mean = [plane.reshape(24, 2, 32, 2).mean(axis=(1, 3)) for plane in planes[1:]]
        pictures.append((picture,))
        frames.append(tuple(np.round(plane).astype(np.uint8) for plane in (planes[0], *mean)))
    return pictures, frames


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mov", {"codec": "png", "pix_fmt": "rgb24"}),
        ("a.mkv", {"codec": "libx264rgb", "pix_fmt": "rgb24", "options": {"qp": "0"}}),
    ],
    ids=["png", "h264"],
)
def test_rgb_becomes_bt_709(decoder, tmp_path, name, options):
    pictures, frames = coloured(3)
    path = oracle.encode(tmp_path / name, pictures, **options)

    assert_same(decoder(path), frames, within=2)


@pytest.mark.parametrize(
    ("name", "options", "red"),
    [
        ("a.mov", {"codec": "png", "pix_fmt": "rgb24"}, [255, 0, 0]),
        ("a.mov", {"codec": "png", "pix_fmt": "rgba"}, [255, 0, 0, 9]),
        ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}, [0b11100000]),
    ],
    ids=["rgb", "with alpha", "gif"],
)
def test_pure_red_is_that_of_bt_709(decoder, tmp_path, name, options, red):
    picture = np.full((48, 64, len(red)), red, np.uint8)
    path = oracle.encode(tmp_path / name, [(picture,)] * 2, **options)

    planes = [np.full(shape, value) for shape, value in (((48, 64), 63), ((24, 32), 102), ((24, 32), 240))]
    assert_same(decoder(path), [tuple(planes)] * 2, within=2)


TURNED = {
    "mkv": ("a.mkv", 64, 48, {}),
    "mkv of odd size": ("a.mkv", 63, 47, {}),
    "mp4": ("a.mp4", 64, 48, X264),
    "mov": ("a.mov", 64, 48, X264),
}


@pytest.mark.parametrize("degrees", [90, -90, 180, 270])
@pytest.mark.parametrize("kind", TURNED)
def test_a_clip_that_asks_to_be_turned_is_turned(decoder, tmp_path, degrees, kind):
    name, width, height, options = TURNED[kind]
    frames = oracle.noise(2, width, height)
    path = oracle.encode(tmp_path / name, frames, **options, rotation=degrees)

    found = decoder(path)

    assert_same(found, [tuple(np.rot90(plane, degrees // 90) for plane in frame) for frame in frames])


@pytest.mark.parametrize("degrees", [0, 90, 180])
def test_a_turned_clip_tells_the_size_in_which_it_is_stored(tmp_path, degrees):
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(1), rotation=degrees)

    [frame] = in_process(path)  # a program gives pictures that are turned already

    assert frame.stored == (64, 48)
    assert frame.size == ((48, 64) if degrees == 90 else (64, 48))


@pytest.mark.parametrize("degrees", [45, -30, 137])
def test_a_turn_that_is_no_quarter_is_that_of_the_program(tmp_path, ffmpeg, degrees):
    path = oracle.encode(tmp_path / "a.mov", oracle.noise(2), **X264, rotation=degrees)

    found = in_process(path)

    programs = find_programs(ffmpeg, None, None)
    theirs = list(read_program(Clip("a", str(path)), Sampling(), programs, lambda: None))
    assert_same(found, [(frame.y, frame.u, frame.v) for frame in theirs], within=1)


def test_the_first_video_stream_that_is_no_cover_is_taken(decoder, tmp_path):
    covered, frames = tmp_path / "a.mp4", oracle.noise(3)
    with av.open(str(covered), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        film = container.add_stream("libx264", rate=25, options={"qp": "0"})
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        for stream, pictures in ((cover, oracle.noise(1, 32, 32)), (film, frames)):
            for index, planes in enumerate(pictures):
                picture = oracle.fill(av.VideoFrame(stream.width, stream.height, stream.pix_fmt), planes)
                picture.pts = index
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        container.mux([*sound.encode(oracle.silence()), *sound.encode(None)])

    assert_same(decoder(covered), frames)


# --- frames by their numbers --------------------------------------------------------------------------

CONTAINERS = {
    "long groups in mp4": ("a.mp4", {"codec": "libx264", "options": {"g": "250", "bf": "0"}}, 0),
    "long groups in mkv": ("a.mkv", {"codec": "libx264", "options": {"g": "250", "bf": "0"}}, 0),
    "short groups in mp4": ("a.mp4", {"codec": "libx264", "options": {"g": "3", "bf": "0"}}, 0),
    "keyframes only": ("a.mkv", {}, 0),
    "frames out of order in mp4": ("a.mp4", {"codec": "libx264", "options": {"g": "12", "bf": "3"}}, 0),
    "frames out of order in mkv": ("a.mkv", {"codec": "libx264", "options": {"g": "12", "bf": "3"}}, 0),
    "open groups": (
        "a.mkv",
        {"codec": "libx264", "options": {"g": "12", "bf": "3", "x264-params": "open-gop=1"}},
        0,
    ),
    "transport stream": ("a.ts", {"codec": "libx264", "options": {"g": "12", "bf": "2"}}, 1),
    "long groups in a transport stream": ("a.ts", {"codec": "libx264", "options": {"g": "250"}}, 1),
    "h265": ("a.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=20"}}, 0),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "options": {"g": "20", "cpu-used": "8"}}, 0),
    "raw in avi": ("a.avi", {}, 0),
}


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Clips of 50 frames that hold their numbers, by kind; each is made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("numbered"), {}

    def make(kind):
        if kind not in made:
            name, options, _ = CONTAINERS[kind]
            (folder / kind).mkdir()
            made[kind] = oracle.encode(folder / kind / name, oracle.numbered(50), **options)
        return made[kind]

    return make


@pytest.mark.parametrize("kind", CONTAINERS)
def test_first_frames_are_the_first(numbered, kind):
    assert numbers(in_process(numbered(kind), 8, 8)) == list(range(8))
    assert numbers(in_process(numbered(kind), 20, 3)) == [0, 6, 13]
    assert numbers(in_process(numbered(kind), 99, 2)) == [0, 25]


@pytest.mark.parametrize("kind", CONTAINERS)
def test_programs_take_the_same_first_frames(decoder, numbered, kind):
    assert numbers(decoder(numbered(kind), 20, 3)) == [0, 6, 13]


@pytest.mark.parametrize("kept", [0, 10_000, 60_000])
def test_frames_decoded_twice_are_the_same(decoder, numbered, kept, monkeypatch):
    monkeypatch.setattr(clips, "KEPT_BYTES", kept)

    assert numbers(decoder(numbered("frames out of order in mkv"), 20, 3)) == [0, 6, 13]


@pytest.mark.parametrize("asked", [(8, 8), (16, 3), (5, 9), (1, 1), (50, 50), (7, 2)])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_uniform_frames_are_spread_over_the_clip(numbered, kind, asked):
    found = numbers(in_process(numbered(kind), *asked, uniform=True))

    expected, within = oracle.uniform(50, *asked), CONTAINERS[kind][2]
    if asked == (50, 50):  # every frame that the container's own idea of its duration lets it find
        assert found == sorted(set(found))
        assert len(found) >= 50 - 3 * within
    else:
        assert len(found) == len(expected)
    if not within:
        assert found == expected
    elif asked != (50, 50):
        assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= within


@pytest.mark.parametrize("kind", CONTAINERS)
def test_programs_take_the_same_uniform_frames(decoder, numbered, kind):
    found = numbers(decoder(numbered(kind), 6, 6, uniform=True))

    gaps = [abs(a - b) for a, b in zip(found, oracle.uniform(50, 6, 6), strict=True)]
    assert max(gaps) <= CONTAINERS[kind][2]


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_clip_shorter_than_max_frames_gives_what_it_has(decoder, tmp_path, count, uniform):
    path = oracle.encode(tmp_path / "a.mkv", oracle.numbered(count))

    assert numbers(decoder(path, 20, 20, uniform=uniform)) == list(range(count))


@pytest.mark.parametrize("asked", [(8, 8), (16, 3), (60, 60)])
def test_a_stream_without_times_is_counted(tmp_path, asked):
    options = {"codec": "libx264", "options": {"g": "12", "bf": "2"}}
    path = oracle.encode(tmp_path / "a.h264", oracle.numbered(50), **options)

    assert numbers(in_process(path, *asked, uniform=True)) == oracle.uniform(50, *asked)


TIMES = [0, 1, 2, 10, 11, 30, 50, 51]


@pytest.mark.parametrize("begin", [3, 100, 100_000])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_uniform_counts_from_where_a_clip_begins(decoder, tmp_path, name, begin):
    options = {} if name == "a.mkv" else {"codec": "libx264", "options": {"g": "12", "bf": "2"}}
    times = range(begin, begin + 50)
    path = oracle.encode(tmp_path / name, oracle.numbered(50), times=times, **options)

    found = numbers(decoder(path, 6, 6, uniform=True))

    expected = oracle.uniform(50, 6, 6)
    assert len(found) == 6
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 1


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_uniform_goes_by_time_and_not_by_count(decoder, tmp_path, name):
    options = X264 if name == "a.mp4" else {}
    path = oracle.encode(tmp_path / name, oracle.numbered(len(TIMES)), times=TIMES, **options)

    def shown(moment):
        return max(index for index, time in enumerate(TIMES) if time <= moment)

    # The container lasts 52 units of time.
    for asked, moments in ((4, (0, 13, 26, 39)), (3, (0, 17, 34)), (2, (0, 26))):
        found = numbers(decoder(path, asked, asked, uniform=True))
        assert found == sorted({shown(moment) for moment in moments})
    assert numbers(decoder(path, 8, 8)) == list(range(8))


def test_frames_are_neither_repeated_nor_dropped_for_a_constant_rate(decoder, tmp_path):
    path = oracle.encode(tmp_path / "a.mkv", oracle.numbered(5), times=[0, 25, 26, 27, 100])

    assert numbers(decoder(path, 5, 5)) == [0, 1, 2, 3, 4]


def test_real_ffprobe_says_what_its_stand_in_says(numbered, ffmpeg, ffprobe):
    real = shutil.which("ffprobe")
    if real is None:
        pytest.skip("no ffprobe on the search path")
    path = str(numbered("frames out of order in mkv"))

    def found(program):
        programs = find_programs(ffmpeg, program, None)
        return numbers(read_program(Clip(path, path), Sampling(6, 6, uniform=True), programs, lambda: None))

    assert found(real) == found(ffprobe) == oracle.uniform(50, 6, 6)


# --- clips that fail ----------------------------------------------------------------------------------


def audio_only(path):
    """Writes a container with sound alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        container.mux([*stream.encode(oracle.silence()), *stream.encode(None)])
    return path


def cover_only(path):
    """Writes a container with sound and a cover."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=8000)
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        picture = oracle.fill(av.VideoFrame(32, 32, "yuvj420p"), oracle.noise(1, 32, 32)[0])
        picture.pts = 0
        container.mux([*cover.encode(picture), *cover.encode(None)])
        container.mux([*sound.encode(oracle.silence()), *sound.encode(None)])
    return path


def without_index(path):
    """Writes an mp4 that was cut off before its index."""
    whole = oracle.encode(path.with_name("whole.mp4"), oracle.noise(9), **X264).read_bytes()
    path.write_bytes(whole[: whole.index(b"moov") - 4])
    return path


def written(content):
    """Makes a file of some bytes."""

    def write(path):
        path.write_bytes(content)
        return path

    return write


BROKEN = {
    "sound alone": ("a.mp4", audio_only, "no video stream"),
    "sound and a cover": ("a.mp4", cover_only, "no video stream"),
    "nothing": ("a.mp4", written(b""), ""),
    "zeros": ("a.mkv", written(bytes(5000)), ""),
    "text": ("a.mp4", written(b"hello, this is no video\n" * 50), ""),
    "no index": ("a.mp4", without_index, "moov atom not found"),
    "a table": ("a.mp4", written(b"src,width\na.mp4,3\n"), ""),
}


@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_clip_fails_with_the_decoders_words(decoder, tmp_path, kind, uniform):
    name, make, words = BROKEN[kind]
    path = make(tmp_path / name)

    with pytest.raises(ClipError) as caught:
        decoder(path, uniform=uniform)

    assert caught.value.status == "decode-failed"
    assert caught.value.message
    assert "\n" not in caught.value.message
    assert str(tmp_path) not in caught.value.message
    if decoder is in_process:
        assert words in caught.value.message


def test_clips_that_are_broken_alike_say_alike(decoder, tmp_path):
    said = []
    for index in range(4):
        path = without_index(tmp_path / f"{index}.mp4")
        with pytest.raises(ClipError) as caught:
            decoder(path)
        said.append(caught.value.message)

    assert len(set(said)) == 1
    assert said[0].count("moov atom not found") == 1


def test_a_clip_that_was_cut_in_half_gives_its_first_frames(decoder, tmp_path):
    frames = oracle.noise(30)
    whole = oracle.encode(tmp_path / "a.mkv", frames).read_bytes()
    half = tmp_path / "half.mkv"
    half.write_bytes(whole[: len(whole) // 2])

    assert_same(decoder(half, 5, 5), frames[:5])


def test_a_clip_that_was_cut_in_half_is_not_uniform(tmp_path):
    whole = oracle.encode(tmp_path / "a.mkv", oracle.numbered(200), **X264).read_bytes()
    half = tmp_path / "half.mkv"
    half.write_bytes(whole[: len(whole) // 2])

    for _ in range(3):  # the second time no less than the first
        with pytest.raises(ClipError) as caught:
            in_process(half, uniform=True)

        assert caught.value.status == "decode-failed"
        assert "frames are missing" in caught.value.message


def test_a_damaged_packet_is_passed_over(tmp_path):
    frames = oracle.noise(12)
    path = oracle.encode(tmp_path / "a.mkv", frames, codec="libx264", options={"qp": "0", "g": "1"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)

    found = in_process(path, 12, 12)

    assert len(found) >= 11
    assert_same(found[:4], frames[:4])
    assert_same(found[-4:], frames[-4:])


# --- only local files are opened ----------------------------------------------------------------------


PLAYLIST = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n{}#EXT-X-ENDLIST\n"
REFERRING = {
    "playlist of addresses": (
        ".m3u8",
        PLAYLIST.format("#EXTINF:1,\nhttp://127.0.0.1:{port}/good.ts\n"),
    ),
    "playlist of files": (".m3u8", PLAYLIST.format("#EXTINF:1,\ngood.ts\n")),
    "playlist of playlists": (
        ".m3u8",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://127.0.0.1:{port}/a.m3u8\n",
    ),
    "concat script of files": (".ffconcat", "ffconcat version 1.0\nfile good.ts\n"),
    "concat script of addresses": (
        ".ffconcat",
        "ffconcat version 1.0\nfile http://127.0.0.1:{port}/good.ts\n",
    ),
    "session description": (
        ".sdp",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video {port} RTP/AVP/TCP 96\na=rtpmap:96 H264/90000\n",
    ),
    "manifest": (
        ".mpd",
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>'
        "http://127.0.0.1:{port}/a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>\n",
    ),
}


@pytest.mark.parametrize("kind", REFERRING)
def test_a_file_that_names_others_opens_none(decoder, tmp_path, listener, kind):
    oracle.encode(tmp_path / "good.ts", oracle.noise(5), **X264)
    suffix, text = REFERRING[kind]

    for name in (f"a{suffix}", "a.mp4"):
        (tmp_path / name).write_text(text.format(port=listener))
        with pytest.raises(ClipError) as caught:
            decoder(tmp_path / name)

        assert caught.value.status == "decode-failed"
        assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("guard", ["protocol_whitelist", "format_whitelist"])
def test_either_guard_alone_keeps_to_this_machine(decoder, tmp_path, listener, guard, monkeypatch):
    for module in (containers, programs):
        monkeypatch.setattr(module, "OPENING", {guard: clips.OPENING[guard]})
    suffix, text = REFERRING["playlist of addresses"]
    (tmp_path / f"a{suffix}").write_text(text.format(port=listener))

    with pytest.raises(ClipError) as caught:
        decoder(tmp_path / f"a{suffix}")

    assert caught.value.status == "decode-failed"


@pytest.mark.parametrize("name", ["a.m3u8", "a.mp4"])
def test_a_playlist_is_called_one(decoder, tmp_path, name):
    oracle.encode(tmp_path / "good.ts", oracle.noise(5), **X264)
    (tmp_path / name).write_text(REFERRING["playlist of files"][1])

    with pytest.raises(ClipError) as caught:
        decoder(tmp_path / name)

    if name == "a.m3u8":
        assert caught.value.message.startswith("is not opened: a playlist")
        assert caught.value.message.endswith("expected a local video file")
    assert str(tmp_path) not in caught.value.message


STRANGE = [
    *("a%03d.mkv", "100%.mkv", "concat:b.mkv", "http:c.mkv", "file:d.mkv", "-e.mkv", "pipe:0.mkv"),
    *("f g.mkv", "h#?.mkv", "\ud55c\uae00.mkv", "new\nline.mkv", "*.mkv", "[1].mkv", "'q\".mkv", "no suffix"),
    *("subfile,,start,0,end,9,,:x.mkv", "$(x).mkv", "\\.mkv"),
]


@pytest.mark.parametrize("name", STRANGE)
def test_a_name_is_only_a_name(decoder, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = oracle.noise(2)
    oracle.encode(tmp_path / "plain.mkv", frames).rename(tmp_path / name)
    oracle.encode(tmp_path / "a001.mkv", oracle.noise(2, seed=9))

    assert_same(decoder(name), frames)


# --- programs -----------------------------------------------------------------------------------------


def test_a_program_is_found_by_name_by_path_and_below_a_folder(tmp_path, monkeypatch, ffmpeg):
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "my-ffmpeg", f'#!/bin/sh\nexec "{ffmpeg}" "$@"\n')
    expected = str(tmp_path / "bin" / "my-ffmpeg")

    below = find_programs("bin/my-ffmpeg", None, tmp_path)
    absolute = find_programs(expected, None, Path("elsewhere"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    named = find_programs("my-ffmpeg", None, tmp_path / "elsewhere")

    assert [programs.ffmpeg for programs in (below, absolute, named)] == [expected] * 3
    assert below.all_frames == ("-fps_mode", "passthrough")
    assert below.ffprobe is None


def test_an_older_ffmpeg_is_told_in_its_own_words(tmp_path):
    old = script(tmp_path / "ffmpeg", "#!/bin/sh\necho '-vsync  video sync method'\n")

    assert find_programs(old, None, None).all_frames == ("-vsync", "passthrough")


@pytest.mark.parametrize("option", ["ffmpeg_bin", "ffprobe_bin"])
@pytest.mark.parametrize("name", ["no-such-program", "no/such", "folder/", "plain.txt"])
def test_a_program_that_is_not_there_is_refused(tmp_path, ffmpeg, option, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain.txt").write_text("not a program")
    words = {"ffmpeg_bin": ffmpeg, "ffprobe_bin": None, option: name}

    with pytest.raises(errors.OptionError) as caught:
        find_programs(words["ffmpeg_bin"], words["ffprobe_bin"], tmp_path)

    assert str(caught.value).startswith(f"{option}: {name!r} is not there")
    assert caught.value.fields["option"] == option


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/bin/sh\nexit 3\n", "does not run"),
        ("no program at all", "does not run"),
        ("#!/bin/sh\necho something else\n", "is no ffmpeg"),
    ],
)
def test_a_program_that_is_no_ffmpeg_is_refused(tmp_path, text, words):
    program = script(tmp_path / "ffmpeg", text)

    with pytest.raises(errors.OptionError) as caught:
        find_programs(program, None, None)

    assert words in str(caught.value)
    assert str(caught.value).startswith("ffmpeg_bin: ")
    assert caught.value.fields["option"] == "ffmpeg_bin"


NOISY = """#!/bin/sh
case " $* " in *" -i "*) ;; *) echo -fps_mode; exit 0 ;; esac
{body}
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 'the codec is unknown' >&2; exit 1", "the codec is unknown"),
        ("exit 7", "ended with status 7"),
        ("exit 0", "no frame could be decoded"),
        ("echo 'YUV4MPEG2 W4 H4 F25:1'; echo FRAME; echo short", "the program ended within a frame"),
        ("echo 'this is no video'", "no frame could be decoded"),
        ("kill -9 $$", "ended with status -9"),
        ('echo "[in @ 0x55d0c0ffee] no: $(pwd)" >&2; exit 1', "no: "),
    ],
)
def test_a_program_that_fails_is_quoted(tmp_path, body, message):
    program = script(tmp_path / "ffmpeg", NOISY.format(body=body))
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(1))

    with pytest.raises(ClipError) as caught:
        list(read_program(Clip("a", str(path)), Sampling(), find_programs(program, None, None), lambda: None))

    assert caught.value.status == "decode-failed"
    assert caught.value.message.startswith(message)


def test_a_program_that_floods_its_errors_is_not_held_up(tmp_path, ffmpeg):
    body = f'head -c 300000 /dev/zero | tr "\\0" x >&2; exec "{ffmpeg}" "$@"'
    programs = find_programs(script(tmp_path / "ffmpeg", NOISY.format(body=body)), None, None)
    frames = oracle.noise(3)
    path = oracle.encode(tmp_path / "a.mkv", frames)

    found = list(read_program(Clip("a", str(path)), Sampling(), programs, lambda: None))

    assert_same(found, frames)


def test_a_program_ends_when_no_more_frames_are_wanted(tmp_path):
    mark = tmp_path / "pid"
    body = f"echo $$ > {mark}; printf 'YUV4MPEG2 W1 H1 F25:1\\n'; while :; do printf 'FRAME\\nabc'; done"
    programs = find_programs(script(tmp_path / "ffmpeg", NOISY.format(body=body)), None, None)
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(1))

    frames = read_program(Clip("a", str(path)), Sampling(), programs, lambda: None)
    next(frames)
    frames.close()

    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


@pytest.mark.parametrize(
    "body",
    ["echo '{}'", 'echo \'{"packets": [], "streams": [], "format": {}}\'', "exit 1"],
)
def test_an_ffprobe_that_says_no_times_fails_the_clip(tmp_path, ffmpeg, body):
    probe = script(tmp_path / "ffprobe", f"#!/bin/sh\n{body}\n")
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(3))
    programs = find_programs(ffmpeg, probe, None)

    with pytest.raises(ClipError) as caught:
        list(read_program(Clip("a", str(path)), Sampling(uniform=True), programs, lambda: None))

    assert caught.value.status == "decode-failed"


def test_both_ways_of_decoding_need_nothing_of_the_other(tmp_path, ffmpeg):
    """The programs' way runs where PyAV is not installed."""
    path = oracle.encode(tmp_path / "a.mkv", oracle.noise(1))
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from polars_materialize.saliency.clips import Clip, Sampling\n"
        "from polars_materialize.saliency.programs import find_programs, read_program\n"
        "programs = find_programs(sys.argv[1], None, None)\n"
        "print(len(list(read_program(Clip('a', sys.argv[2]), Sampling(), programs, lambda: None))))\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", code, ffmpeg, path],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "1\n", "")
