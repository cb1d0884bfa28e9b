"""Clips decoded by the `ffmpeg` and `ffprobe` programs, through a pipe.

For builds with codecs that PyAV's own lacks. Nothing touches the disk, and a program that hangs is ended with
all that it has started.
"""

from __future__ import annotations

import bisect
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from polars_materialize.errors import OptionError
from polars_materialize.saliency.clips import (
    NOT_OPENED,
    OPENING,
    ClipError,
    Planes,
    evenly,
    frame_bytes,
    shown_for,
    split_planes,
    take_first,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from polars_materialize.saliency.clips import Clip, Sampling

    Check = Callable[[], None]

TICK_S = 0.1
"""How often a program that says nothing is looked after."""

WORDS = 2_000
"""How much of what a program says of errors is kept, in bytes."""

TO_YUV420P = (
    "setparams=colorspace=bt709,scale=out_color_matrix=bt709:out_range=tv:flags=bicubic,format=yuv420p"
)
"""The filters that make 8-bit 4:2:0 of limited range. Of YUV the matrix is kept, whatever it says it is; RGB
has none, so it gets the one that is taken off again."""

INDEXED = ("mov", "matroska")
"""The formats in which a seek is known to land where it should."""

HEADER = 1_000
"""More than the longest header of a YUV4MPEG2 stream or of one of its frames, in bytes."""


@dataclass(frozen=True)
class Programs:
    """The programs to decode with.

    Attributes:
        ffmpeg: The `ffmpeg` program.
        ffprobe: The `ffprobe` program, which only `uniform` needs.
        all_frames: How this `ffmpeg` is told to neither repeat nor drop frames.
        version: The version of `ffmpeg`, in its own words.
    """

    ffmpeg: str
    ffprobe: str | None
    all_frames: tuple[str, str]
    version: str


def find_programs(ffmpeg_bin: str, ffprobe_bin: str | None, base_dir: Path | None) -> Programs:
    """Finds the programs: names on the search path, paths relative to a folder.

    Raises:
        OptionError: If one is not there, or `ffmpeg_bin` is no `ffmpeg`.
    """
    ffmpeg = _find("ffmpeg_bin", ffmpeg_bin, base_dir)
    ffprobe = None if ffprobe_bin is None else _find("ffprobe_bin", ffprobe_bin, base_dir)
    told = _told(ffmpeg, ffmpeg_bin, "-h", "long")
    # ffmpeg 5.1 gave the option its new name.
    option = next((name for name in ("-fps_mode", "-vsync") if name in told), None)
    if option is None:
        raise OptionError(f"ffmpeg_bin: {ffmpeg_bin!r} is no ffmpeg", option="ffmpeg_bin")
    version = _told(ffmpeg, ffmpeg_bin, "-version").removeprefix("ffmpeg version ").split(" ", 1)[0]
    return Programs(ffmpeg, ffprobe, (option, "passthrough"), version.strip())


def _told(program: str, written: str, *arguments: str) -> str:
    """What a program says of itself."""
    try:
        told = subprocess.run(  # noqa: S603 - the user named the program
            [program, "-hide_banner", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise OptionError(f"ffmpeg_bin: {written!r} does not run: {reason}", option="ffmpeg_bin") from None
    return told.stdout.decode(errors="replace")


def _find(option: str, name: str, base_dir: Path | None) -> str:
    bare = os.path.basename(name) == name  # noqa: PTH119
    place = name if bare or base_dir is None else os.path.join(base_dir, name)  # noqa: PTH118
    found = shutil.which(place)
    if found is None:
        where = "on the search path" if bare else "as a program"
        raise OptionError(f"{option}: {name!r} is not there {where}", option=option)
    return os.path.abspath(found)  # noqa: PTH100


def read_program(clip: Clip, sampling: Sampling, programs: Programs, check: Check) -> Iterator[Planes]:
    """The sampled frames of a clip, in order.

    Args:
        clip: The clip.
        sampling: Which frames.
        programs: What decodes it.
        check: Called while waiting; raises if that took too long.

    Raises:
        ClipError: If it cannot be decoded, or holds no picture; in the program's own words.
    """
    if not sampling.uniform:
        return take_first(
            lambda: _frames(programs, clip, ["-frames:v", str(sampling.max_frames)], check),
            sampling,
            lambda planes: frame_bytes(*planes.size),
        )
    return _uniform(clip, sampling, programs, check)


def _uniform(clip: Clip, sampling: Sampling, programs: Programs, check: Check) -> Iterator[Planes]:
    """The frames that are shown at moments spread over the clip."""
    found = _probe(programs, clip, check)
    duration = shown_for(found.times, found.duration)
    moments = evenly(sampling.max_frames, sampling.frame_samples)
    wanted = [found.times[0] + moment * duration // sampling.max_frames for moment in moments]
    shown = list(dict.fromkeys(bisect.bisect_right(found.times, moment) - 1 for moment in wanted))
    if not found.indexed:
        # Without an index a seek may land anywhere, so the clip is decoded up to the last of them.
        chosen = "+".join(f"eq(n\\,{index})" for index in shown)
        amount = ["-frames:v", str(len(shown))]
        yield from _frames(programs, clip, amount, check, filters=f"select={chosen},")
        return
    for index in shown:
        # Half a millisecond early: the program rounds to its own clock, and must not round past the frame.
        seconds = max(0.0, float(found.times[index] * found.unit - found.start) - 0.0005)
        yield from _frames(programs, clip, ["-frames:v", "1"], check, seek=["-ss", f"{seconds:.6f}"])


@dataclass(frozen=True)
class _Probed:
    """What the packets of a clip say.

    Attributes:
        times: When each frame is shown, in order.
        unit: What times are counted in, in seconds.
        duration: How long the stream is, in the same, if it says so.
        start: When the file starts, in seconds.
        indexed: Whether its format knows where its keyframes are.
    """

    times: list[int]
    unit: Fraction
    duration: int | None
    start: Fraction
    indexed: bool


def _probe(programs: Programs, clip: Clip, check: Check) -> _Probed:
    assert programs.ffprobe is not None, "checked with the options"  # noqa: S101
    entries = "packet=pts:stream=time_base,duration_ts:format=start_time,format_name"
    asked = ["-select_streams", "V:0", "-show_entries", entries, "-of", "json=compact=1"]
    command = [programs.ffprobe, "-v", "error", *_input_options(), *asked, _url(clip)]
    with _running(command, check) as output:
        content = b"".join(output)
    found = json.loads(content)
    times = sorted(packet["pts"] for packet in found.get("packets", []) if "pts" in packet)
    if not times:
        raise ClipError("decode-failed", "says no times of its frames; frame_selection 'first' needs none")
    stream, container = found["streams"][0], found.get("format", {})
    return _Probed(
        times=times,
        unit=Fraction(stream["time_base"]),
        duration=stream.get("duration_ts"),
        start=Fraction(container.get("start_time", "0")),
        indexed=container.get("format_name", "").split(",")[0] in INDEXED,
    )


def _frames(
    programs: Programs,
    clip: Clip,
    amount: Sequence[str],
    check: Check,
    *,
    seek: Sequence[str] = (),
    filters: str = "",
) -> Iterator[Planes]:
    """Frames as the program writes them: YUV4MPEG2, which says its own geometry."""
    command = [
        programs.ffmpeg,
        *("-hide_banner", "-nostdin", "-v", "error", "-threads", "1"),
        *_input_options(),
        *seek,
        *("-i", _url(clip), "-map", "0:V:0", *amount, *programs.all_frames),
        *("-vf", filters + TO_YUV420P, "-f", "yuv4mpegpipe", "pipe:1"),
    ]
    with _running(command, check) as output:
        stream = _Stream(output)
        head = stream.line()
        if not head.startswith(b"YUV4MPEG2 "):
            raise ClipError("decode-failed", "no frame could be decoded")
        found = re.search(rb" W(\d{1,5}) H(\d{1,5}) ", head)
        if found is None:
            raise ClipError("decode-failed", "the program wrote no width and height")
        width, height = map(int, found.groups())
        while stream.line().startswith(b"FRAME"):
            content = stream.read(frame_bytes(width, height))
            yield split_planes(np.frombuffer(content, np.uint8), width, height)


def _input_options() -> list[str]:
    return [text for name, value in OPENING.items() for text in (f"-{name}", value)]


def _url(clip: Clip) -> str:
    return f"file:{os.path.abspath(clip.path)}"  # noqa: PTH100


@contextmanager
def _running(command: Sequence[str], check: Check) -> Iterator[Iterator[bytes]]:
    """What a program writes, piece by piece; it is ended with its children, whatever happens.

    Raises:
        ClipError: If it fails, in its own words.
    """
    with subprocess.Popen(  # noqa: S603 - the user named the program
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a group of its own, so that all of it can be ended
    ) as process:
        try:
            yield _output(process, check)
        finally:
            _end(process)


def _output(process: subprocess.Popen[bytes], check: Check) -> Iterator[bytes]:
    """What the program writes to its standard output; what it says of errors is kept apart."""
    said = bytearray()
    assert process.stdout is not None, "it is a pipe"  # noqa: S101
    assert process.stderr is not None, "it is a pipe"  # noqa: S101
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            check()
            for ready, _ in selector.select(TICK_S):
                piece = os.read(ready.fd, 2**20)
                if not piece:
                    selector.unregister(ready.fileobj)
                elif ready.fileobj is process.stdout:
                    yield piece
                else:
                    said += piece[: WORDS - len(said)]
    while process.poll() is None:
        check()
        with suppress(subprocess.TimeoutExpired):
            process.wait(TICK_S)
    if process.returncode:
        words = said.decode(errors="replace").strip() or f"ended with status {process.returncode}"
        raise ClipError("decode-failed", _own_words(words, process.args))


def _own_words(words: str, command: object) -> str:
    """The program's own words, without the place of the file on this machine."""
    if "not on whitelist" in words:
        return NOT_OPENED
    words = re.sub(r"\[[^\]]* @ 0x[0-9a-f]+\] ", "", words)  # places in memory differ from run to run
    for argument in command if isinstance(command, list) else []:
        if str(argument).startswith("file:"):
            words = words.replace(str(argument), "the clip").replace(str(argument)[5:], "the clip")
    return words


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a program, and what it has started even if it has ended itself."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Stream:
    """Reads lines and blocks from pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def line(self) -> bytes:
        """Up to the next end of a line; empty at the end."""
        while b"\n" not in self._rest and len(self._rest) < HEADER:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def read(self, size: int) -> bytes:
        """The next `size` bytes."""
        parts, have = [self._rest], len(self._rest)
        while have < size:
            piece = next(self._pieces, b"")
            if not piece:
                raise ClipError("decode-failed", "the program ended within a frame")
            parts.append(piece)
            have += len(piece)
        content = b"".join(parts)
        self._rest = content[size:]
        return content[:size]
