"""Raw video: frames are read where they are, and nothing else of the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polars_materialize.saliency.clips import ClipError, evenly, frame_bytes, split_planes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polars_materialize.saliency.clips import Clip, Planes, Sampling


def read_raw(clip: Clip, sampling: Sampling) -> Iterator[Planes]:
    """The sampled frames of raw video, in order.

    Raises:
        ClipError: If its size is not a whole number of frames: then its geometry is another, or it was
            cut off, and what would be read is no picture. Or if it cannot be read, or is too large.
    """
    sampling.refuse_large(clip.width, clip.height)
    try:
        yield from _read(clip, sampling)
    except OSError as error:
        raise ClipError("decode-failed", error.strerror or str(error)) from None


def _read(clip: Clip, sampling: Sampling) -> Iterator[Planes]:
    size, one = Path(clip.path).stat().st_size, frame_bytes(clip.width, clip.height)
    count, rest = divmod(size, one)
    if rest or not count:
        raise ClipError(
            "decode-failed",
            f"{size:,} bytes are no whole number of {clip.width}x{clip.height} frames of {one:,} bytes each",
        )
    with Path(clip.path).open("rb") as stream:
        for index in sampled(count, sampling):
            stream.seek(index * one)
            content = stream.read(one)
            if len(content) != one:
                raise ClipError("decode-failed", f"ends within frame {index}")
            yield split_planes(np.frombuffer(content, np.uint8), clip.width, clip.height)


def sampled(count: int, sampling: Sampling) -> list[int]:
    """Which of `count` frames are taken.

    Example:
        >>> from polars_materialize.saliency.clips import Sampling
        >>> sampled(240, Sampling(8, 4)), sampled(240, Sampling(8, 4, uniform=True))
        ([0, 2, 4, 6], [0, 60, 120, 180])
    """
    if not sampling.uniform:
        return evenly(min(count, sampling.max_frames), sampling.frame_samples)
    moments = evenly(sampling.max_frames, sampling.frame_samples)
    return list(dict.fromkeys(moment * count // sampling.max_frames for moment in moments))
