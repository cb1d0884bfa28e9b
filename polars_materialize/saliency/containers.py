"""Clips in containers, decoded in process by PyAV.

Only the file itself is opened: by the `file` protocol, and in none of the formats that name other files,
hosts or devices.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import struct
import threading
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.stream import Disposition

from polars_materialize.saliency.clips import (
    NOT_OPENED,
    OPENING,
    ClipError,
    Planes,
    Tags,
    evenly,
    is_animated_webp,
    missing_s,
    missing_words,
    shown_for,
    still_format,
    take_first,
)
from polars_materialize.saliency.pixels import YUV_FILTERS, as_tagged, filters_of, limited, turns
from polars_materialize.saliency.raw import sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from polars_materialize.saliency.clips import Clip, Plane, Sampling

    Check = Callable[[], None]


READING: Any = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
"""How PyAV is told to read titles that are not UTF-8; from version 19 on it does so by itself."""

ANIMATED = "is an animated WebP, which PyAV before version 19 cannot decode; name an ffmpeg_bin that can"
"""What is said of one then."""

FULL_RANGE = 2
SPACES = {
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    0: "gbr",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
TRANSFERS = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
RANGES = {1: "tv", 2: "pc"}
"""What libav's numbers mean (ITU-T H.273), in the words of the `ffmpeg` program."""


def read_container(clip: Clip, sampling: Sampling, check: Check) -> Iterator[Planes]:
    """The sampled frames of a clip, in order.

    Args:
        clip: The clip.
        sampling: Which frames.
        check: Called between packets and frames; raises if that took too long.

    Raises:
        ClipError: If it cannot be opened or decoded, or holds no picture.
    """
    found = 0
    with _said() as said:
        try:
            frames = (
                _uniform(clip, sampling, check, said) if sampling.uniform else _first(clip, sampling, check)
            )
            converter = _Converter(sampling)
            for frame in frames:
                found += 1
                yield converter.planes(frame)
        except FFmpegError as error:
            sampling.refuse_told(said.all())
            raise ClipError("decode-failed", _words(clip, error, said.last())) from None
        if not found:
            sampling.refuse_told(said.all())
            raise ClipError("decode-failed", said.last() or "no frame could be decoded")


class _Listeners:
    """How many listen, and how it was before the first of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.before: tuple[Any, bool] = (None, False)


_listeners = _Listeners()


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Lets libav say what is wrong with a clip, which PyAV else keeps it from; several threads may listen."""
    with _listeners.lock:
        if not _listeners.count:
            _listeners.before = av.logging.get_level(), av.logging.get_skip_repeated()
            av.logging.set_level(av.logging.ERROR)
            av.logging.set_skip_repeated(False)  # what two clips have wrong alike is to be said of both
        _listeners.count += 1
    try:
        yield
    finally:
        with _listeners.lock:
            _listeners.count -= 1
            if not _listeners.count:
                av.logging.set_level(_listeners.before[0])
                av.logging.set_skip_repeated(_listeners.before[1])


class _Said:
    """What libav says of errors."""

    def __init__(self, logs: Sequence[tuple[int, str, str]]) -> None:
        self._logs = logs

    def last(self) -> str:
        """Its last word; empty if there is none."""
        return self._logs[-1][2].strip() if self._logs else ""

    def all(self) -> str:
        """All of it."""
        return "\n".join(text for _, _, text in self._logs)


@contextlib.contextmanager
def _said() -> Iterator[_Said]:
    """What libav says of errors in this thread meanwhile."""
    with av.logging.Capture(local=True) as logs:
        yield _Said(logs)


def _words(clip: Clip, error: FFmpegError, said: str) -> str:
    """The decoder's own words, without the place of the file on this machine."""
    if "not on whitelist" in said:
        return ANIMATED if is_animated_webp(clip.path) else NOT_OPENED
    return ": ".join(word for word in (error.strerror, said) if word)


@contextlib.contextmanager
def _open(clip: Clip, sampling: Sampling) -> Iterator[tuple[Any, Any]]:
    path = os.path.abspath(clip.path)  # noqa: PTH100 - not resolved: links keep their names
    still = still_format(clip.path)
    opening = OPENING if still is None else {**OPENING, "format_whitelist": still}
    # Some formats decode a frame when they are opened: the decoder has to know then what is too large.
    options = {**opening, "max_pixels": str(sampling.decoder_pixels)}
    with av.open(f"file:{path}", "r", still, options, **READING) as container:
        pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not pictures:
            raise ClipError("decode-failed", "holds no video stream")
        stream = pictures[0]
        if stream.codec_context is None or stream.codec_context.codec is None:
            raise ClipError("decode-failed", "has a codec that this version of PyAV cannot decode")
        # Clips are decoded side by side; threads within one would compete with the others.
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(sampling.decoder_pixels)}
        sampling.refuse_large(stream.width or 0, stream.height or 0)
        stream.codec_context.open(strict=False)  # or each packet would be tried with a decoder that is none
        yield container, stream


def _decode(container: Any, stream: Any, check: Check) -> Iterator[Any]:
    """The frames from where the container stands, in the order in which they are shown.

    A damaged packet is passed over, as every player does; what follows it may be whole. So is an empty
    one, by which Theora says that a picture is shown again. The last packet, which has no times, empties the
    decoder.
    """
    for packet in container.demux(stream):
        check()
        if _is_empty(packet):
            continue
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        for frame in frames:
            check()
            yield frame


def _is_empty(packet: Any) -> bool:
    """Whether a packet holds nothing, but is not the one that ends a stream."""
    return not packet.size and packet.dts is not None


def _all(clip: Clip, sampling: Sampling, check: Check) -> Iterator[Any]:
    """All frames of a clip, opened anew: not every format can be sought through."""
    with _open(clip, sampling) as (container, stream):
        yield from _decode(container, stream, check)


def _first(clip: Clip, sampling: Sampling, check: Check) -> Iterator[Any]:
    return take_first(lambda: _all(clip, sampling, check), sampling, _size)


def _size(frame: Any) -> int:
    """What a frame takes in memory, in bytes."""
    return sum(plane.buffer_size for plane in frame.planes)


def _counted(clip: Clip, sampling: Sampling, check: Check) -> Iterator[Any]:
    """Frames spread over a clip without times: they are counted first."""
    wanted = set(sampled(sum(1 for _ in _all(clip, sampling, check)), sampling))
    for index, frame in enumerate(_all(clip, sampling, check)):
        if index in wanted:
            yield frame
        if index == max(wanted):
            return


def _uniform(clip: Clip, sampling: Sampling, check: Check, said: _Said) -> Iterator[Any]:
    with _open(clip, sampling) as (container, stream):
        moments = _moments(clip, stream, sampling, check, said)

        def seek(moment: int) -> Iterator[Any]:
            return _seek(clip, sampling, container, stream, moment, check)

        missing = missing_s(stream.average_rate) / (stream.time_base or 1)
        given = yield from _sought(seek, moments, missing, said)
    if not given:
        yield from _counted(clip, sampling, check)


def _sought(
    seek: Callable[[int], Iterator[Any]], moments: list[int], missing: float, said: _Said
) -> Generator[Any, None, bool]:
    """The frames that are shown at some moments, each once; returns whether there was any."""
    frames: Iterator[Any] = iter(())
    shown = ahead = None
    reached, seeking, given = None, True, None
    for moment in moments:
        if ahead is None or ahead.pts <= moment:
            if seeking and (reached is None or moment > reached):
                frames = seek(moment)
                shown, ahead = None, next(frames, None)
                # Where a seek lands behind what was decoded already, keyframes lie further apart than
                # the moments, and it is quicker to go on from here.
                seeking = reached is None or (ahead is not None and ahead.pts > reached)
            while ahead is not None and (ahead.pts <= moment or shown is None):
                shown, ahead = ahead, next(frames, None)
        if shown is None:
            continue
        if ahead is None and moment - shown.pts >= missing and said.last():
            # The last frame of a whole clip may be shown for long; a clip that was cut off says so.
            raise ClipError("decode-failed", missing_words(said.last()))
        reached = shown.pts if reached is None else max(reached, shown.pts)
        if shown.pts != given:
            given = shown.pts
            yield shown
    return given is not None


def _seek(  # noqa: PLR0917 - what all of these functions share
    clip: Clip, sampling: Sampling, container: Any, stream: Any, moment: int, check: Check
) -> Iterator[Any]:
    """The frames from the last keyframe at or before a moment, or from an earlier one.

    Formats without an index (transport streams) guess where that is, and may guess too late; then the guess
    is made for an earlier moment. Their very first frame no seek may find, so a clip is opened anew for it.
    """
    start, back = stream.start_time or 0, 0
    while moment - back > start:
        try:
            container.seek(moment - back, stream=stream, backward=True)
        except FFmpegError:
            break
        frames = _timed(_decode(container, stream, check))
        first = next((frame for frame in frames if frame.key_frame), None)
        if first is not None and first.pts <= moment:
            return itertools.chain([first], frames)
        back = max(2 * back, int(1 / stream.time_base))
    return _timed(_all(clip, sampling, check))


def _timed(frames: Iterator[Any]) -> Iterator[Any]:
    return (frame for frame in frames if frame.pts is not None)


def _moments(clip: Clip, stream: Any, sampling: Sampling, check: Check, said: _Said) -> list[int]:
    """The sampled moments of a clip, in its stream's own units of time; none if its frames have no times."""
    start, duration = stream.start_time, stream.duration
    if start is None or not duration:
        times = _times(clip, sampling, check)
        if said.last():
            raise ClipError("decode-failed", missing_words(said.last()))
        if not times:
            return []
        start, duration = times[0], shown_for(times, None)
    wanted = evenly(sampling.max_frames, sampling.frame_samples)
    return [start + moment * duration // sampling.max_frames for moment in wanted]


def _times(clip: Clip, sampling: Sampling, check: Check) -> list[int]:
    """When the frames of a clip are shown, from its packets alone: nothing is decoded."""
    times = []
    with _open(clip, sampling) as (container, stream):
        for packet in container.demux(stream):
            check()
            if packet.pts is not None and packet.size and not packet.is_discard:
                times.append(packet.pts)
    return sorted(times)


class _Converter:
    """Makes planes of a clip's frames, by the filters of libav."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._kind: object = None
        self._graph: Any = None

    def planes(self, frame: Any) -> Planes:
        """A frame as 8-bit 4:2:0 of limited range, turned as the clip asks for."""
        self._sampling.refuse_large(frame.width, frame.height)
        if frame.format is None:
            raise ClipError("decode-failed", "has a pixel format that this version of PyAV does not know")
        tags = _tags(frame)
        plain = self._converted(frame, turns(_display_matrix(frame)))
        y, u, v = (_plane(plane) for plane in plain.planes)
        planes = Planes(y, u, v, stored=(frame.width, frame.height), tags=tags)
        return limited(planes) if plain.color_range == FULL_RANGE else planes

    def _converted(self, frame: Any, turning: tuple[str, ...]) -> Any:
        if frame.format.name == "yuv420p" and not turning:
            return frame
        source = (
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1:pixel_aspect=1/1:"
            f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
        )
        if self._kind != (source, turning):
            converting = filters_of(frame.format.name).split(",")
            # The program turns first; but what its `format` needs is done where the formats first differ.
            filters = (*converting, *turning) if converting == [YUV_FILTERS] else (*turning, *converting)
            self._graph = _graph(source, filters)
            self._kind = source, turning
        self._graph.push(frame)
        return self._graph.pull()


def _graph(source: str, filters: Sequence[str]) -> Any:
    """A graph of filters, one after another."""
    graph = Graph()
    nodes = [graph.add("buffer", source)]
    for text in filters:
        name, _, arguments = text.partition("=")
        nodes.append(graph.add(name, arguments or None))
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes)
    graph.configure()
    return graph


def _tags(frame: Any) -> Tags:
    return as_tagged(
        Tags(
            pix_fmt=frame.format.name,
            matrix=SPACES.get(int(frame.colorspace)),
            transfer=TRANSFERS.get(int(frame.color_trc)),
            range=RANGES.get(int(frame.color_range)),
        )
    )


def _display_matrix(frame: Any) -> Sequence[float] | None:
    """How a clip asks to be turned and mirrored, as libav says it."""
    try:
        found = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:  # PyAV before version 19 lists nothing where there is something that it does not know
        angle = -math.radians(frame.rotation)
        return math.cos(angle), math.sin(angle), 0, -math.sin(angle), math.cos(angle)
    return None if found is None else struct.unpack("9i", bytes(found))


def _plane(plane: Any) -> Plane:
    """A plane without the padding at the ends of its lines, in memory of its own."""
    lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width].copy()
