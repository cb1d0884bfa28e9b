"""Pixels of every kind made 8-bit 4:2:0 of limited range: what both ways of decoding share.

The `ffmpeg` program converts by a filter graph, and so does this package in process: the same filters give
the same bits. One thing is done here instead: newer versions of libswscale bring chroma of full range to
limited range with a bias of half a code.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polars_materialize.saliency.clips import Planes, Tags

RGB = ("rgb", "bgr", "gbr", "bayer", "pal8", "xyz")
"""What the names of pixel formats hold that have no matrix of their own."""

GREY = ("gray", "ya8", "ya16", "mono")
"""How the names of pixel formats begin that have no colour: of full range, if they do not say otherwise."""

YUV_FILTERS = "format=yuv420p"
RGB_FILTERS = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
"""The filters that make 4:2:0 of YUV and grey, and of RGB. YUV keeps its matrix, whatever that is. RGB has
none, so it gets the one that is taken off again."""

MATRICES = {
    "bt709": "bt709",
    "bt470bg": "bt601",
    "smpte170m": "bt601",
    "bt2020nc": "bt2020",
}
"""The matrices that can be undone, by their tags."""

HDR = ("smpte2084", "arib-std-b67")
"""The tags of PQ and HLG, whose code values are not those of ordinary video."""

_LEVELS = np.arange(256)
_LUMA = np.floor(16 + _LEVELS * 219 / 255 + 0.5).astype(np.uint8)
_CHROMA = np.floor(128 + (_LEVELS - 128) * 224 / 255 + 0.5).astype(np.uint8)


def is_rgb(pix_fmt: str) -> bool:
    """Whether a pixel format has no matrix of its own.

    Example:
        >>> is_rgb("gbrp10le"), is_rgb("yuv420p"), is_rgb("gray")
        (True, False, False)
    """
    return any(part in pix_fmt for part in RGB)


def filters_of(pix_fmt: str) -> str:
    """The filters that make 8-bit 4:2:0 of a pixel format.

    Example:
        >>> filters_of("yuv444p10le")
        'format=yuv420p'
    """
    return RGB_FILTERS if is_rgb(pix_fmt) else YUV_FILTERS


def as_tagged(tags: Tags) -> Tags:
    """Tags as the `ffmpeg` program says them: RGB has one matrix, and RGB and grey are of full range.

    Example:
        >>> from polars_materialize.saliency.clips import Tags
        >>> as_tagged(Tags("gbrp")).matrix, as_tagged(Tags("gray")).range, as_tagged(Tags("yuv420p")).range
        ('gbr', 'pc', None)
    """
    name = tags.pix_fmt or ""
    if is_rgb(name):
        return replace(tags, matrix="gbr", range="pc")
    return replace(tags, range=tags.range or "pc") if name.startswith(GREY) else tags


def known_matrix(tags: Tags) -> str:
    """The matrix that makes RGB of a clip by its tags: `bt709` where they say nothing that is known.

    Example:
        >>> from polars_materialize.saliency.clips import Tags
        >>> known_matrix(Tags("yuv420p", "smpte170m")), known_matrix(Tags("rgb24")), known_matrix(Tags())
        ('bt601', 'bt709', 'bt709')
    """
    if tags.matrix is None or is_rgb(tags.pix_fmt or ""):
        return "bt709"
    return MATRICES.get(tags.matrix, "bt709")


def limited(planes: Planes) -> Planes:
    """A frame of full range as one of limited range, each value rounded to the nearest.

    Example:
        >>> int(_CHROMA[140]), int(_CHROMA[100]), int(_LUMA[0]), int(_LUMA[255])
        (139, 103, 16, 235)
    """
    return replace(planes, y=_LUMA[planes.y], u=_CHROMA[planes.u], v=_CHROMA[planes.v])


def turns(matrix: Sequence[float] | None) -> tuple[str, ...]:
    """The filters by which the `ffmpeg` program turns and mirrors a picture, from its display matrix.

    Args:
        matrix: Its numbers by rows, of which the first five matter; none if the clip asks for nothing.

    Example:
        >>> turns([0, 65536, 0, -65536, 0, 0, 0, 0, 2**30]), turns([65536, 0, 0, 0, 65536, 0, 0, 0, 2**30])
        (('transpose=clock',), ())
    """
    if matrix is None:
        return ()
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:
        return ()
    angle = math.floor(math.degrees(math.atan2(b / down, a / across)) + 0.5)
    angle -= 360 * math.floor(angle / 360 + 0.9 / 360)
    if abs(angle - 90) < 1:
        return ("transpose=cclock_flip" if c > 0 else "transpose=clock",)
    if abs(angle - 270) < 1:
        return ("transpose=clock_flip" if c < 0 else "transpose=cclock",)
    if abs(angle - 180) < 1:
        return (*(("hflip",) if a < 0 else ()), *(("vflip",) if d < 0 else ()))
    if abs(angle) > 1:
        return (f"rotate={angle:f}*PI/180",)
    return ("vflip",) if d < 0 else ()
