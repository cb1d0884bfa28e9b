"""Clips decoded by the `ffmpeg` and `ffprobe` programs, through a pipe.

For builds with codecs that PyAV's own lacks. Nothing touches the disk, and a program that hangs is ended with
all that it has started.
"""

from __future__ import annotations

import bisect
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from polars_materialize.errors import OptionError
from polars_materialize.saliency.clips import (
    NO_TAGS,
    OPENING,
    ClipError,
    Planes,
    Tags,
    changed_words,
    evenly,
    frame_bytes,
    missing_s,
    missing_words,
    shown_for,
    split_planes,
    still_format,
    take_first,
)
from polars_materialize.saliency.pipes import LEVELS, Said, Stream, own_words, running
from polars_materialize.saliency.pixels import GREY, YUV_FILTERS, as_tagged, filters_of, limited

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from polars_materialize.saliency.clips import Clip, Sampling
    from polars_materialize.saliency.pipes import Check

UNKNOWN = "setparams=colorspace=bt709,scale=out_color_matrix=bt709,format=yuv420p"
"""The filters for an `ffmpeg` that does not say what it decodes: grey is off by up to one code."""

KEEPING = "scale=in_range=pc:out_range=pc,format=yuvj420p"
"""The filters for clips of full range and an `ffmpeg` before version 4.3, which does not say what it did."""

INDEXED = ("mov", "matroska")
"""The formats in which a seek is known to land where it should."""


@dataclass(frozen=True)
class Programs:
    """The programs to decode with.

    Attributes:
        ffmpeg: The `ffmpeg` program.
        ffprobe: The `ffprobe` program, which only `uniform` needs.
        all_frames: How this `ffmpeg` is told to neither repeat nor drop frames.
        version: The version of `ffmpeg`, in its own words.
        shows: The filter by which it says what it decodes; empty if it has none.
    """

    ffmpeg: str
    ffprobe: str | None
    all_frames: tuple[str, str]
    version: str
    shows: str = ""


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
    showinfo = _told(ffmpeg, ffmpeg_bin, "-h", "filter=showinfo")
    # Checksums of frames take time, and older versions cannot leave them out.
    shows = (
        "showinfo=checksum=0," if "checksum" in showinfo else "showinfo," if "showinfo" in showinfo else ""
    )
    return Programs(ffmpeg, ffprobe, (option, "passthrough"), version.strip(), shows)


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
        OptionError: If a program cannot be started.
    """
    reader = _Reader(clip, sampling, programs, check)
    return reader.uniform() if sampling.uniform else reader.first()


@dataclass(frozen=True)
class _Probed:
    """What the packets of a clip say.

    Attributes:
        times: When each frame is shown, in order.
        unit: What times are counted in, in seconds.
        duration: How long the stream is, in the same, if it says so.
        rate: How many frames a second it has on average, if it says so.
        start: When the file starts, in seconds.
        indexed: Whether its format knows where its keyframes are.
        words: What the program said of errors.
    """

    times: list[int]
    unit: Fraction
    duration: int | None
    rate: Fraction | None
    start: Fraction
    indexed: bool
    words: str


class _Reader:
    """Decodes one clip by the programs."""

    def __init__(self, clip: Clip, sampling: Sampling, programs: Programs, check: Check) -> None:
        self._clip = clip
        self._sampling = sampling
        self._programs = programs
        self._check = check
        self._still = still_format(clip.path)
        self._kind = None if programs.shows else _Kind(UNKNOWN)

    def first(self) -> Iterator[Planes]:
        """The first frames."""
        amount = ["-frames:v", str(self._sampling.max_frames)]
        size = lambda planes: frame_bytes(*planes.size)  # noqa: E731 - a word for it
        return take_first(lambda: self._frames(amount), self._sampling, size)

    def uniform(self) -> Iterator[Planes]:
        """The frames that are shown at moments spread over the clip."""
        found, sampling = self._probe(), self._sampling
        duration = shown_for(found.times, found.duration)
        moments = evenly(sampling.max_frames, sampling.frame_samples)
        wanted = [found.times[0] + moment * duration // sampling.max_frames for moment in moments]
        shown_last = missing_s(found.rate) / found.unit
        if found.words and (not found.duration or wanted[-1] - found.times[-1] >= shown_last):
            raise ClipError("decode-failed", missing_words(found.words))
        shown = list(dict.fromkeys(bisect.bisect_right(found.times, moment) - 1 for moment in wanted))
        if not found.indexed:
            # Without an index a seek may land anywhere, so the clip is decoded up to the last of them.
            chosen = "+".join(f"eq(n\\,{index})" for index in shown)
            amount = ["-frames:v", str(len(shown))]
            yield from self._whole(self._frames(amount, filters=f"select={chosen},"), len(shown))
            return
        for index in shown:
            # Half a millisecond early: the program rounds to its own clock, and must not round past it.
            seconds = max(0.0, float(found.times[index] * found.unit - found.start) - 0.0005)
            yield from self._whole(self._frames(["-frames:v", "1"], seek=["-ss", f"{seconds:.6f}"]), 1)

    def _whole(self, frames: Iterator[Planes], count: int) -> Iterator[Planes]:
        """The same frames, all of which have to be there, since packets say that they are."""
        found = 0
        for planes in frames:
            found += 1
            yield planes
        if found < count:
            raise ClipError("decode-failed", missing_words("packets are there that cannot be decoded"))

    def _probe(self) -> _Probed:
        assert self._programs.ffprobe is not None, "checked with the options"  # noqa: S101
        entries = (
            "packet=pts,size,flags:stream=time_base,duration_ts,avg_frame_rate:format=start_time,format_name"
        )
        asked = ["-select_streams", "V:0", "-show_entries", entries, "-of", "json=compact=1"]
        command = [self._programs.ffprobe, "-v", "error", *self._input(), *asked, _url(self._clip)]
        try:
            with running(command, self._check) as (output, said):
                content = b"".join(output)
        except ClipError:
            self._sampling.refuse_told(said.words())
            raise
        words = own_words(said.words(), command)
        self._sampling.refuse_told(words)
        try:
            found = _probed(json.loads(content), words)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError):
            raise ClipError("decode-failed", "ffprobe does not say what its packets are") from None
        if not found.times:
            problem = "says no times of its frames; frame_selection 'first' needs none"
            raise ClipError("decode-failed", problem)
        return found

    def _frames(
        self, amount: Sequence[str], *, seek: Sequence[str] = (), filters: str = ""
    ) -> Iterator[Planes]:
        """Frames as the program writes them; asked for again where the first is RGB, or turned."""
        known = self._kind is not None
        frames = self._written(amount, seek, filters)
        for planes in frames:
            if not known and self._kind is not None and self._kind.again:
                frames.close()
                yield from self._written(amount, seek, filters)
                return
            yield planes

    def _written(
        self, amount: Sequence[str], seek: Sequence[str], filters: str
    ) -> Generator[Planes, None, None]:
        """Frames as the program writes them: YUV4MPEG2, which says its own geometry.

        As long as nothing is known of the clip its pictures are not turned, and a `scale` of its own stands
        behind what says their format: else the program may change that format before.
        """
        chain = filters + self._programs.shows
        chain += f"scale,{YUV_FILTERS}" if self._kind is None else self._kind.filters
        command = [
            self._programs.ffmpeg,
            *("-hide_banner", "-nostdin", "-nostats", "-v", LEVELS, "-threads", "1"),
            *(["-noautorotate"] if self._kind is None else []),
            *self._input(),
            *seek,
            *("-i", _url(self._clip), "-map", "0:V:0", *amount, *self._programs.all_frames),
            *("-vf", chain, "-f", "yuv4mpegpipe", "pipe:1"),
        ]
        with running(command, self._check) as (output, said):
            try:
                yield from self._read(Stream(output), said)
            except ClipError:
                self._sampling.refuse_told(said.words())
                raise

    def _read(self, stream: Stream, said: Said) -> Iterator[Planes]:
        head = stream.line()
        if not head.startswith(b"YUV4MPEG2 "):
            raise ClipError("decode-failed", "no frame could be decoded")
        found = re.search(rb" W(\d{1,9}) H(\d{1,9}) ", head)
        if found is None:
            raise ClipError("decode-failed", "the program wrote no width and height")
        width, height = map(int, found.groups())
        self._sampling.refuse_large(width, height)
        count = 0
        while stream.line().startswith(b"FRAME"):
            content = stream.read(frame_bytes(width, height))
            size = said.frames[count] if count < len(said.frames) else (width, height)
            count += 1
            if size != (width, height):  # the program scales it to the size of the first
                raise ClipError("decode-failed", changed_words((width, height), size, count))
            if self._kind is None:
                self._kind = _kind(said, size, told=b" XCOLORRANGE=" in head)
            planes = split_planes(np.frombuffer(content, np.uint8), width, height)
            planes = replace(planes, tags=self._kind.tags, stored=self._kind.stored or size)
            full = b" XCOLORRANGE=FULL" in head or self._kind.filters == KEEPING
            yield limited(planes) if full else planes

    def _input(self) -> list[str]:
        """How the programs are told what to open."""
        opening = OPENING if self._still is None else {**OPENING, "format_whitelist": self._still}
        options = {**opening, "max_pixels": str(self._sampling.decoder_pixels)}
        forced = [] if self._still is None else ["-f", self._still]
        return [*(text for name, value in options.items() for text in (f"-{name}", value)), *forced]


@dataclass(frozen=True)
class _Kind:
    """What the first frame of a clip says, and what to do with it.

    Attributes:
        filters: What makes 4:2:0 of it.
        tags: What it says of its pixels.
        stored: Its width and height before it is turned, if that is known.
        again: Whether it has to be asked for again.
    """

    filters: str
    tags: Tags = NO_TAGS
    stored: tuple[int, int] | None = None
    again: bool = False


def _kind(said: Said, size: tuple[int, int], *, told: bool) -> _Kind:
    """What the first frame of a clip says, and what to do with it.

    Args:
        said: What the program says of it.
        size: Its width and height.
        told: Whether this `ffmpeg` says of what it writes whether it is of full range.
    """
    tags = as_tagged(said.tags or Tags())
    name = tags.pix_fmt or ""
    filters = filters_of(name)
    if tags.range == "pc" and not told and filters == YUV_FILTERS and not name.startswith(GREY):
        filters = KEEPING
    return _Kind(filters, tags, size, again=said.turned or filters != YUV_FILTERS)


def _probed(found: Any, words: str) -> _Probed:
    """What ffprobe says of packets that give frames: no empty ones, none that an edit list leaves out."""
    packets = [packet for packet in found.get("packets", []) if "pts" in packet]
    stream, container = found["streams"][0], found.get("format", {})
    rate = str(stream.get("avg_frame_rate", "0/0"))
    return _Probed(
        times=sorted(
            packet["pts"]
            for packet in packets
            if "D" not in packet.get("flags", "") and packet.get("size") not in {0, "0"}
        ),
        unit=Fraction(stream["time_base"]),
        duration=stream.get("duration_ts"),
        rate=None if rate.endswith("/0") else Fraction(rate),
        start=Fraction(container.get("start_time", "0")),
        indexed=container.get("format_name", "").split(",")[0] in INDEXED,
        words=words,
    )


def _url(clip: Clip) -> str:
    return f"file:{os.path.abspath(clip.path)}"  # noqa: PTH100
