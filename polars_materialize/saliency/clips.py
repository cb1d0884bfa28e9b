"""Clips: where they are, the frames that are taken of them, and how a clip can fail.

Everything that reads a clip raises `ClipError`; it is the clip's status, never the end of a run.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from polars_materialize.stores.urls import is_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from fractions import Fraction
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    Plane = npt.NDArray[np.uint8]

FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,mpeg1video,mpeg2video,m4v,flv,live_flv,asf,ogg,ivf,obu,av1,h261,h263,"
    "h264,hevc,vvc,evc,avs2,avs3,vc1,dirac,mxf,mxf_d10,mxf_opatom,gxf,nut,yuv4mpegpipe,rm,dv,dnxhd,mjpeg,gif,apng,wtv,"
    "swf,nuv,nsv,smjpeg,webp_anim,avif,wav,mp3,aac,flac"
)
"""The formats that are opened: those that hold their pictures themselves. A playlist, a concat script, a
session description or a numbered series of pictures names other files, and is none of them."""

OPENING = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
"""How libav is told so, in process and as a program."""

STILLS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".avif")
"""The suffixes of still pictures, which are clips of one frame."""

NOT_OPENED = (
    f"is not opened: a playlist, a script, a device, or a picture other than {' '.join(STILLS)}; "
    "expected a local video file"
)
"""What is said of a file of any other format."""

RAW_SUFFIX = ".yuv"
"""Raw video, 8-bit planar 4:2:0, which says nothing of its own geometry."""

TOO_LARGE = re.compile(r"(?:Picture|Frame) size (\d{1,9})x(\d{1,9}) (?:exceeds|is invalid)")
"""What decoders say of frames that are larger than they were told to decode."""

MAX_PIXELS = 4096 * 2304
"""How many pixels a frame may have by default."""

MARKS = (
    (b"\x89PNG\r\n\x1a\n", "png_pipe"),
    (b"\xff\xd8\xff", "jpeg_pipe"),
    (b"BM", "bmp_pipe"),
    (b"II*\0", "tiff_pipe"),
    (b"MM\0*", "tiff_pipe"),
)
"""How pictures begin, and what libav calls their formats."""

KEPT_BYTES = 2**28
"""How much of a clip is kept until it is known which of its frames are taken."""

Frame = TypeVar("Frame")


class ClipError(Exception):
    """A clip has no result; its status and the reason, in the words of what failed.

    Attributes:
        status: `missing-source`, `missing-geometry`, `decode-failed` or `model-failed`.
        message: The reason.
    """

    def __init__(self, status: str, message: str) -> None:
        """Keeps both; the message on one line."""
        super().__init__(status, message)
        self.status = status
        self.message = " ".join(message.split())


@dataclass(frozen=True)
class Clip:
    """A clip that is to be measured.

    Attributes:
        written: Its path as the table has it.
        path: Where it is; empty if the row names none.
        width: Of raw video, in pixels; 0 if unknown, or if the clip says so itself.
        height: The same.
    """

    written: str
    path: str
    width: int = 0
    height: int = 0

    @property
    def is_raw(self) -> bool:
        """Whether it is raw video."""
        return is_raw(self.path)


def is_raw(path: str) -> bool:
    """Whether a path names raw video.

    Example:
        >>> is_raw("clips/a_352x288.YUV"), is_raw("a.mp4")
        (True, False)
    """
    return path.lower().endswith(RAW_SUFFIX)


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip are taken.

    `first` takes the first `max_frames` frames, `uniform` the frames that are shown at `max_frames` moments
    spread over the clip; of those, `frame_samples` are taken evenly, each once.

    Attributes:
        max_frames: How many frames are considered at most.
        frame_samples: How many of them are taken at most.
        uniform: Whether they are spread over the clip.
        max_pixels: How many pixels a frame may have; of a clip with larger frames none is taken.
    """

    max_frames: int = 8
    frame_samples: int = 8
    uniform: bool = False
    max_pixels: int = MAX_PIXELS

    def refuse_large(self, width: int, height: int) -> None:
        """Refuses frames that are larger than `max_pixels`.

        Raises:
            ClipError: Names the option.
        """
        if width * height > self.max_pixels:
            raise ClipError(
                "model-failed",
                f"has frames of {width}x{height}, {width * height:,} pixels; "
                f"expected at most max_pixels, {self.max_pixels:,}",
            )

    def refuse_told(self, words: str) -> None:
        """Refuses frames of which a decoder says that they are too large.

        Raises:
            ClipError: Names the option.
        """
        found = TOO_LARGE.search(words)
        if found is not None:
            self.refuse_large(*map(int, found.groups()))

    @property
    def decoder_pixels(self) -> int:
        """The number of pixels at which a decoder itself stops.

        It is larger than `max_pixels`, since decoders count the blocks that a picture is coded in.
        """
        return 2 * self.max_pixels + 2**20


def evenly(count: int, samples: int) -> list[int]:
    """The first position of each of `samples` equal parts of `count`, each once.

    Example:
        >>> evenly(8, 4), evenly(8, 3), evenly(3, 8)
        ([0, 2, 4, 6], [0, 2, 5], [0, 1, 2])
    """
    parts = min(count, samples)
    return [index * count // parts for index in range(parts)]


def shown_for(times: Sequence[int], duration: int | None) -> int:
    """How long a clip's frames are shown, in the units of their times.

    Args:
        times: When each is shown, in order.
        duration: What the stream says of it, if anything. What a container says is of all of its streams.

    Example:
        >>> shown_for([0, 40, 80], None), shown_for([0, 40, 80], 125)
        (120, 125)
    """
    if duration:
        return duration
    span = times[-1] - times[0]
    return span + span // max(1, len(times) - 1)


def missing_s(rate: Fraction | float | None) -> float:
    """How long the last frame of a clip is shown, in seconds, if its decoder complains.

    The last frame of a whole clip may be shown for longer, and nobody complains then.

    Args:
        rate: How many frames a second the clip has on average, if that is known.

    Example:
        >>> missing_s(25), missing_s(None), missing_s(0.1)
        (0.04, 1.0, 1.0)
    """
    return min(1.0, float(1 / rate)) if rate else 1.0


def missing_words(words: str) -> str:
    """What is said of a clip that was cut off."""
    return f"frames are missing: {words}"


def changed_words(before: tuple[int, int], after: tuple[int, int], number: int) -> str:
    """What is said of a clip whose pictures change in size.

    Example:
        >>> changed_words((64, 48), (32, 48), 4)
        'changes from 64x48 to 32x48 in its 4. frame'
    """
    return f"changes from {before[0]}x{before[1]} to {after[0]}x{after[1]} in its {number}. frame"


def take_first(
    frames: Callable[[], Iterator[Frame]], sampling: Sampling, size: Callable[[Frame], int]
) -> Iterator[Frame]:
    """The sampled ones of a clip's first frames.

    Which they are depends on how many frames the clip has, so they are kept until that is known; if they are
    too large for that, they are decoded once more.

    Args:
        frames: Decodes the clip from its start.
        sampling: Which frames.
        size: The size of a frame, in bytes.
    """
    first = itertools.islice(frames(), sampling.max_frames)
    if sampling.frame_samples >= sampling.max_frames:
        yield from first
        return
    kept: list[Frame] = []
    count = held = 0
    for frame in first:
        count += 1
        held += size(frame)
        if held <= KEPT_BYTES:
            kept.append(frame)
        else:
            kept.clear()
    wanted = evenly(count, sampling.frame_samples) if count else []
    again = kept if held <= KEPT_BYTES else itertools.islice(frames(), count)
    yield from (frame for index, frame in enumerate(again) if index in wanted)


@dataclass(frozen=True)
class Tags:
    """What a clip says of its own pixels, in the names that the `ffmpeg` program uses.

    Attributes:
        pix_fmt: The pixel format, such as `yuv420p10le`.
        matrix: The matrix between RGB and YUV, such as `bt709`; none if the clip does not say.
        transfer: The transfer function, such as `smpte2084`; none likewise.
        range: `tv` for limited range, `pc` for full range; none likewise.
    """

    pix_fmt: str | None = None
    matrix: str | None = None
    transfer: str | None = None
    range: str | None = None


NO_TAGS = Tags()
"""What raw video says."""


@dataclass(frozen=True)
class Planes:
    """One frame as 8-bit 4:2:0 video of limited range, the right way up.

    Attributes:
        y: Luma, `[H, W]`.
        u: Chroma, `[ceil(H / 2), ceil(W / 2)]`.
        v: The same.
        stored: The width and height before a rotation that the clip asks for.
        tags: What the clip says of its pixels; nothing of raw video.
        matrix: The matrix that makes RGB of it: `bt601`, `bt709` or `bt2020`.
    """

    y: Plane
    u: Plane
    v: Plane
    stored: tuple[int, int]
    tags: Tags = NO_TAGS
    matrix: str = "bt709"

    @property
    def size(self) -> tuple[int, int]:
        """The width and height."""
        return self.y.shape[1], self.y.shape[0]


def split_planes(buffer: Plane, width: int, height: int) -> Planes:
    """The planes of one frame that lie one after another without gaps."""
    across, down = (width + 1) // 2, (height + 1) // 2
    luma, chroma = width * height, across * down
    return Planes(
        y=buffer[:luma].reshape(height, width),
        u=buffer[luma : luma + chroma].reshape(down, across),
        v=buffer[luma + chroma : luma + 2 * chroma].reshape(down, across),
        stored=(width, height),
    )


def frame_bytes(width: int, height: int) -> int:
    """The size of one frame, in bytes.

    Example:
        >>> frame_bytes(352, 288), frame_bytes(3, 3)
        (152064, 17)
    """
    return width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)


def still_format(path: str) -> str | None:
    """The name of the format of a still picture; none of anything else.

    The name says that it is one, and its first bytes say of which kind: pictures often have the suffix of
    another kind, and libav would take a name such as `a%03d.jpg` for a numbered series. AVIF, and animations,
    are found as videos are.

    Raises:
        ClipError: If the file cannot be read.
    """
    if not path.lower().endswith(STILLS):
        return None
    head = _head(path)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return None if is_animated_webp(path) else "webp_pipe"
    return next((name for mark, name in MARKS if head.startswith(mark)), None)


def is_animated_webp(path: str) -> bool:
    """Whether a file is a WebP of several frames."""
    head = _head(path)
    return head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def _head(path: str) -> bytes:
    """How a file begins, filled up with zeros."""
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - as it is, not tidied up
            return stream.read(32).ljust(32, b"\0")
    except OSError as error:
        raise ClipError("decode-failed", error.strerror or str(error)) from None


def file_state(clip: Clip) -> tuple[int, ...]:
    """What changes when a clip's file is written to; proof as well that it is a file that can be read.

    Raises:
        ClipError: If there is none. Folders, devices and pipes are no clips: reading them may never end.
    """
    if not clip.path:
        raise ClipError("missing-source", "the row names no clip")
    if is_url(clip.written or ""):
        raise ClipError("missing-source", "No such file: clips are read from this machine only, not by url")
    try:
        status = os.stat(clip.path)  # noqa: PTH116 - as it is, not tidied up
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ClipError("missing-source", reason or "cannot be found") from None
    if not stat.S_ISREG(status.st_mode):
        raise ClipError("missing-source", "is not a file; expected a local video file")
    if not os.access(clip.path, os.R_OK):
        raise ClipError("missing-source", "may not be read")
    return status.st_size, status.st_mtime_ns, status.st_ino


def locate(written: str | None, folders: Sequence[Path]) -> str:
    """Where a path of a row is: below the folders, each of which is relative to the one before.

    Example:
        >>> from pathlib import Path
        >>> locate("a.mp4", [Path("corpus"), Path("clips")])
        'corpus/clips/a.mp4'
    """
    if written is None or not written.strip():
        return ""
    return os.path.join(*folders, written)  # noqa: PTH118 - as written, not tidied up
