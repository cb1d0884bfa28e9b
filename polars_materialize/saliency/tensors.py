"""Frames as the input of a network: RGB, normalised, padded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from polars_materialize.saliency.clips import Plane, Planes

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""The statistics of ImageNet's pictures, by which networks expect their input normalised."""

CHROMA = {
    "bt601": ((0.0, 1.402), (-0.3441, -0.7141), (1.772, 0.0)),
    "bt709": ((0.0, 1.5748), (-0.1873, -0.4681), (1.8556, 0.0)),
    "bt2020": ((0.0, 1.4746), (-0.1646, -0.5714), (1.8814, 0.0)),
}
"""What each of R, G and B takes of U and V: Rec. ITU-R BT.601-7, BT.709-6 and BT.2020-2 (non-constant
luminance), limited range."""

_LUMA = ((np.arange(256) - 16) / 219).astype(np.float32)
_CENTRED = ((np.arange(256) - 128) / 224).astype(np.float32)


def to_tensor(planes: Planes, height: int, width: int) -> npt.NDArray[np.float32]:
    """A frame as `[1, 3, height, width]`, float32, of ImageNet-normalised RGB.

    RGB is by the frame's matrix of limited range, chroma repeated 2 x 2, clipped to 0..1. What the tensor has
    beyond the frame repeats its last column and row.

    Args:
        planes: The frame.
        height: The tensor's height, at least the frame's.
        width: Its width.
    """
    across, down = planes.size
    tensor = np.empty((1, 3, height, width), np.float32)
    luma = np.take(_LUMA, planes.y)
    u, v = np.take(_CENTRED, planes.u), np.take(_CENTRED, planes.v)
    for channel, ((by_u, by_v), mean, std) in enumerate(zip(CHROMA[planes.matrix], MEAN, STD, strict=True)):
        out = tensor[0, channel]
        picture = out[:down, :across]
        # The chroma of four pixels is one number, so it is scaled before it is repeated.
        shift = by_u * u + by_v * v if by_u and by_v else by_u * u if by_u else by_v * v
        _add_repeated(luma, shift.astype(np.float32, copy=False), picture)
        np.clip(picture, 0, 1, out=picture)
        picture -= np.float32(mean)
        picture *= np.float32(1 / std)
        out[:down, across:] = picture[:, -1:]
        out[down:] = out[down - 1]
    return tensor


def _add_repeated(
    luma: npt.NDArray[np.float32], chroma: npt.NDArray[np.float32], out: npt.NDArray[np.float32]
) -> None:
    """Adds chroma to the luma of the 2 x 2 pixels that each of its samples stands for."""
    for row in (0, 1):
        for column in (0, 1):
            part = (slice(row, None, 2), slice(column, None, 2))
            here = luma[part]
            np.add(here, chroma[: here.shape[0], : here.shape[1]], out=out[part])


def luma(plane: Plane) -> npt.NDArray[np.float32]:
    """Luma of limited range as 0..1 (and a little beyond)."""
    return np.take(_LUMA, plane)
