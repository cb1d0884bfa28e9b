"""Clips in containers, decoded in process by PyAV.

Only the file itself is opened: by the `file` protocol, and in none of the formats that name other files,
hosts or devices.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from polars_materialize.saliency.clips import (
    NOT_OPENED,
    OPENING,
    ClipError,
    Planes,
    evenly,
    shown_for,
    take_first,
)
from polars_materialize.saliency.raw import sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from polars_materialize.saliency.clips import Clip, Plane, Sampling

    Check = Callable[[], None]


MISSING_S = 1.0
"""How long before a moment a clip may end until it is taken to be cut off, if libav says what is wrong."""


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
            for frame in frames:
                found += 1
                yield _planes(frame)
        except FFmpegError as error:
            raise ClipError("decode-failed", _words(error, said())) from None
        if not found:
            raise ClipError("decode-failed", said() or "no frame could be decoded")


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


@contextlib.contextmanager
def _said() -> Iterator[Callable[[], str]]:
    """What libav says of errors in this thread meanwhile, its last word when asked."""
    with av.logging.Capture(local=True) as logs:
        yield lambda: logs[-1][2].strip() if logs else ""


def _words(error: FFmpegError, said: str) -> str:
    """The decoder's own words, without the place of the file on this machine."""
    if "not on whitelist" in said:
        return NOT_OPENED
    return ": ".join(word for word in (error.strerror, said) if word)


@contextlib.contextmanager
def _open(clip: Clip) -> Iterator[tuple[Any, Any]]:
    path = os.path.abspath(clip.path)  # noqa: PTH100 - not resolved: links keep their names
    with av.open(f"file:{path}", container_options=OPENING, metadata_errors="replace") as container:
        pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not pictures:
            raise ClipError("decode-failed", "holds no video stream")
        stream = pictures[0]
        # Clips are decoded side by side; threads within one would compete with the others.
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        yield container, stream


def _decode(container: Any, stream: Any, check: Check) -> Iterator[Any]:
    """The frames from where the container stands, in the order in which they are shown.

    A damaged packet is passed over, as every player does; what follows it may be whole.
    """
    for packet in container.demux(stream):
        check()
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        for frame in frames:
            check()
            yield frame


def _all(clip: Clip, check: Check) -> Iterator[Any]:
    """All frames of a clip, opened anew: not every format can be sought through."""
    with _open(clip) as (container, stream):
        yield from _decode(container, stream, check)


def _first(clip: Clip, sampling: Sampling, check: Check) -> Iterator[Any]:
    return take_first(lambda: _all(clip, check), sampling, _size)


def _size(frame: Any) -> int:
    """What a frame takes in memory, in bytes."""
    return sum(plane.buffer_size for plane in frame.planes)


def _counted(clip: Clip, sampling: Sampling, check: Check) -> Iterator[Any]:
    """Frames spread over a clip without times: they are counted first."""
    wanted = set(sampled(sum(1 for _ in _all(clip, check)), sampling))
    for index, frame in enumerate(_all(clip, check)):
        if index in wanted:
            yield frame
        if index == max(wanted):
            return


def _uniform(clip: Clip, sampling: Sampling, check: Check, said: Callable[[], str]) -> Iterator[Any]:
    with _open(clip) as (container, stream):
        moments = _moments(clip, stream, sampling, check, said)

        def seek(moment: int) -> Iterator[Any]:
            return _seek(clip, container, stream, moment, check)

        given = yield from _sought(seek, moments, MISSING_S / (stream.time_base or 1), said)
    if not given:
        yield from _counted(clip, sampling, check)


def _sought(
    seek: Callable[[int], Iterator[Any]], moments: list[int], missing: float, said: Callable[[], str]
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
        if ahead is None and moment - shown.pts > missing and said():
            # The last frame of a whole clip may be shown for long; a clip that was cut off says so.
            raise ClipError("decode-failed", f"frames are missing: {said()}")
        reached = shown.pts if reached is None else max(reached, shown.pts)
        if shown.pts != given:
            given = shown.pts
            yield shown
    return given is not None


def _seek(clip: Clip, container: Any, stream: Any, moment: int, check: Check) -> Iterator[Any]:
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
    return _timed(_all(clip, check))


def _timed(frames: Iterator[Any]) -> Iterator[Any]:
    return (frame for frame in frames if frame.pts is not None)


def _moments(clip: Clip, stream: Any, sampling: Sampling, check: Check, said: Callable[[], str]) -> list[int]:
    """The sampled moments of a clip, in its stream's own units of time; none if its frames have no times."""
    start, duration = stream.start_time, stream.duration
    if start is None or not duration:
        times = _times(clip, check)
        if said():
            raise ClipError("decode-failed", f"frames are missing: {said()}")
        if not times:
            return []
        start, duration = times[0], shown_for(times, None)
    wanted = evenly(sampling.max_frames, sampling.frame_samples)
    return [start + moment * duration // sampling.max_frames for moment in wanted]


def _times(clip: Clip, check: Check) -> list[int]:
    """When the frames of a clip are shown, from its packets alone: nothing is decoded."""
    times = []
    with _open(clip) as (container, stream):
        for packet in container.demux(stream):
            check()
            if packet.pts is not None:
                times.append(packet.pts)
    return sorted(times)


def _planes(frame: Any) -> Planes:
    """A frame as 8-bit 4:2:0 of limited range, turned as the clip asks for."""
    is_rgb = frame.format.is_rgb
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    plain = frame.reformat(
        format="yuv420p",
        interpolation=Interpolation.BICUBIC,
        src_color_range=None if is_rgb else ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.MPEG,
        # Of YUV the matrix is kept; RGB has none, so it gets the one that is taken off again.
        dst_colorspace=Colorspace.ITU709 if is_rgb else None,
        threads=1,
    )
    turns, rest = divmod(frame.rotation or 0, 90)
    if rest:
        raise ClipError(
            "decode-failed", f"is to be shown turned by {frame.rotation} degrees; expected a quarter"
        )
    y, u, v = (np.rot90(_plane(plane), turns) for plane in plain.planes)
    return Planes(y, u, v, stored=(frame.width, frame.height))


def _plane(plane: Any) -> Plane:
    """A plane without the padding at the ends of its lines, in memory of its own."""
    lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width].copy()
