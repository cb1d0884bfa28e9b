"""Saliency without weights: the spectral residual.

Xiaodi Hou and Liqing Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007. What is salient is
what the log amplitude spectrum has beyond its own local average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.fft import fft2, ifft2  # now: threads use them

from polars_materialize.saliency.tensors import luma

if TYPE_CHECKING:
    import numpy.typing as npt

    from polars_materialize.saliency.clips import Planes

    Array = npt.NDArray[np.float64]

SIDE = 64
"""The side, in pixels, at which the paper takes the spectrum: saliency is of objects, not of detail."""

SIGMA = 8.0
RADIUS = 2
"""The Gaussian that smooths the map: the paper's sigma of 8, cut to 5 x 5 pixels."""


class SpectralResidual:
    """The spectral residual of a frame's luma."""

    def mask(self, planes: Planes) -> npt.NDArray[np.float32]:
        """The saliency of a frame, `[H, W]` in 0..1."""
        height, width = planes.y.shape
        small = _shrink(luma(planes.y).astype(np.float64), SIDE)
        return _grow(spectral_residual(small), height, width).astype(np.float32)


def spectral_residual(picture: Array) -> Array:
    """The saliency map of a small grey picture, in 0..1, of its own size; 0 everywhere for a flat one.

    Example:
        >>> import numpy as np
        >>> float(spectral_residual(np.zeros((64, 64))).max())
        0.0
    """
    if np.ptp(picture) < 1e-9:
        return np.zeros_like(picture)
    spectrum = fft2(picture)
    amplitude = np.abs(spectrum)
    log_amplitude = np.log(np.maximum(amplitude, 1e-9))
    residual = log_amplitude - _blur(log_amplitude, np.full(3, 1 / 3))
    # exp(residual + i phase), with the phase as a unit vector; where there is no amplitude there is none.
    unit = np.divide(spectrum, amplitude, out=np.ones_like(spectrum), where=amplitude > 0)
    saliency = np.abs(ifft2(np.exp(residual) * unit)) ** 2
    offsets = np.arange(-RADIUS, RADIUS + 1)
    kernel = np.exp(-(offsets**2) / (2 * SIGMA**2))
    smooth = _blur(saliency, kernel / kernel.sum())
    return np.asarray(smooth / smooth.max())


def _blur(picture: Array, kernel: Array) -> Array:
    """A separable filter; the border is mirrored about its outermost pixels."""
    radius = len(kernel) // 2
    for axis in (0, 1):
        padded = np.pad(picture, [(radius, radius) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        size = picture.shape[axis]
        parts = (np.take(padded, range(i, i + size), axis=axis) * k for i, k in enumerate(kernel))
        picture = np.sum(list(parts), axis=0)
    return picture


def _shrink(picture: Array, side: int) -> Array:
    """Resamples to `side` x `side`: the mean of the area that each pixel covers, so that nothing aliases."""
    for axis in (0, 1):
        size = picture.shape[axis]
        edges = np.linspace(0, size, side + 1)
        # The integral of the picture up to each edge, linear within a pixel.
        total = np.concatenate([np.zeros_like(np.take(picture, [0], axis)), np.cumsum(picture, axis)], axis)
        below = np.minimum(edges.astype(np.intp), size - 1)
        share = (edges - below).reshape([-1 if a == axis else 1 for a in (0, 1)])
        integral = np.take(total, below, axis) * (1 - share) + np.take(total, below + 1, axis) * share
        picture = np.diff(integral, axis=axis) * (side / size)
    return picture


def _grow(picture: Array, height: int, width: int) -> Array:
    """Resamples to `height` x `width`, linearly between the centres of pixels."""
    for axis, size in ((0, height), (1, width)):
        old = picture.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        below = np.minimum(place.astype(np.intp), old - 2)
        share = (place - below).reshape([-1 if a == axis else 1 for a in (0, 1)])
        picture = np.take(picture, below, axis) * (1 - share) + np.take(picture, below + 1, axis) * share
    return picture
