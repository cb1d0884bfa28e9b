"""The masks of a clip's frames made one mask, and that two numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from polars_materialize.options import TemporalAggregator
    from polars_materialize.saliency.clips import Plane

    Mask = npt.NDArray[np.float32]

LEAST_MOTION = 1e-6
"""What a frame weighs that is the same as the one before, so that still clips have a mean too."""


class Reducer(Protocol):
    """Takes the masks of a clip in the order of its frames; keeps no more than one."""

    def add(self, mask: Mask, y: Plane) -> None:
        """Takes the next frame's mask, with its luma plane."""

    def mask(self) -> npt.NDArray[np.float64]:
        """The one mask."""


class _Weighted:
    """The weighted mean, per pixel."""

    def __init__(self) -> None:
        self._sum: npt.NDArray[np.float64] | None = None
        self._weight = 0.0

    def add(self, mask: Mask, y: Plane) -> None:
        weight = self.weigh(y)
        weighted = np.multiply(mask, weight, dtype=np.float64)
        self._sum = weighted if self._sum is None else np.add(self._sum, weighted, out=self._sum)
        self._weight += weight

    def weigh(self, y: Plane) -> float:  # noqa: ARG002 - what a plain mean does not look at, others do
        return 1.0

    def mask(self) -> npt.NDArray[np.float64]:
        assert self._sum is not None, "a clip has at least one frame"  # noqa: S101
        return self._sum / self._weight


class _MotionWeighted(_Weighted):
    """The mean weighted by how much luma changes from the sampled frame before."""

    def __init__(self) -> None:
        super().__init__()
        self._before: npt.NDArray[np.int16] | None = None

    def weigh(self, y: Plane) -> float:
        now, before = y.astype(np.int16), self._before
        self._before = now
        if before is None or before.shape != now.shape:
            return 1.0
        return max(float(np.abs(now - before).mean(dtype=np.float64)) / 255, LEAST_MOTION)


class _Max:
    """The largest value, per pixel."""

    def __init__(self) -> None:
        self._max: npt.NDArray[np.float64] | None = None

    def add(self, mask: Mask, y: Plane) -> None:  # noqa: ARG002
        self._max = mask.astype(np.float64) if self._max is None else np.maximum(self._max, mask)

    def mask(self) -> npt.NDArray[np.float64]:
        assert self._max is not None, "a clip has at least one frame"  # noqa: S101
        return self._max


class _Ema:
    """The exponential moving average, per pixel; the first frame is its start."""

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._average: npt.NDArray[np.float64] | None = None

    def add(self, mask: Mask, y: Plane) -> None:  # noqa: ARG002
        now = mask.astype(np.float64)
        if self._average is None:
            self._average = now
        else:
            self._average = self._alpha * now + (1 - self._alpha) * self._average

    def mask(self) -> npt.NDArray[np.float64]:
        assert self._average is not None, "a clip has at least one frame"  # noqa: S101
        return self._average


def reducer(aggregator: TemporalAggregator, ema_alpha: float) -> Reducer:
    """A reducer for one clip.

    Args:
        aggregator: `mean`, `ema`, `max` or `motion-weighted`.
        ema_alpha: What the current frame weighs in `ema`.
    """
    if aggregator == "ema":
        return _Ema(ema_alpha)
    if aggregator == "max":
        return _Max()
    return _MotionWeighted() if aggregator == "motion-weighted" else _Weighted()


def moments(mask: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The mean and the population variance of a mask, clipped to 0..1.

    Example:
        >>> import numpy as np
        >>> moments(np.array([[0.0, 1.0], [1.0, 2.0]]))
        (0.75, 0.1875)
    """
    clipped = np.clip(mask, 0, 1)
    return float(clipped.mean()), float(clipped.var())
