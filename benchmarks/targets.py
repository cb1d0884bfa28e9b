"""Targets, as data: what is measured, against what, and how much of it is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Measurement

Quantity = Literal["seconds", "peak_bytes"]


@dataclass(frozen=True)
class Target:
    """One target of a case.

    Its value is `((of - minus - plus) / each) / over`, and the other way up where `at_least` is set: then it
    says how many times quicker `of` is than `over`.

    Attributes:
        text: In words.
        of: The contender that has to reach it.
        limit: The most that the value may be, or the least.
        over: The contender that it is measured against; without, the value is a quantity itself.
        quantity: Seconds, or bytes of peak memory.
        at_least: Whether the limit is the least.
        plus: How many seconds are allowed on top of the ratio.
        minus: A contender whose seconds do not count.
        each: How many pieces of work share what is left.
    """

    text: str
    of: str
    limit: float
    over: str | None = None
    quantity: Quantity = "seconds"
    at_least: bool = False
    plus: float = 0.0
    minus: str | None = None
    each: int = 1

    def value(self, repeat: Mapping[str, Measurement]) -> float | None:
        """The value in one repeat; None if a contender that it needs did not end well there."""
        names = [name for name in (self.of, self.over, self.minus) if name is not None]
        if any(name not in repeat or repeat[name].problem for name in names):
            return None
        own = self._quantity(repeat[self.of]) - self.plus
        own -= self._quantity(repeat[self.minus]) if self.minus else 0.0
        own /= self.each
        base = self._quantity(repeat[self.over]) if self.over else 1.0
        if self.at_least:
            return base / own if own > 0 else float("inf")
        return own / base

    def judge(self, repeats: Sequence[Mapping[str, Measurement]]) -> Judgement:
        """Judges by the median of the repeats' values."""
        values = [value for repeat in repeats if (value := self.value(repeat)) is not None]
        if not values:
            return Judgement(self, values, None, None)
        value = median(values)
        return Judgement(self, values, value, value >= self.limit if self.at_least else value <= self.limit)

    def allowed(self, repeats: Sequence[Mapping[str, Measurement]]) -> float | None:
        """How many seconds the contender might have taken, by the medians of the others; for the picture."""
        if self.quantity != "seconds":
            return None
        base = _median_seconds(repeats, self.over) if self.over else 1.0
        start = _median_seconds(repeats, self.minus) if self.minus else 0.0
        if base is None or start is None:
            return None
        return (base / self.limit if self.at_least else base * self.limit) * self.each + start + self.plus

    def _quantity(self, measurement: Measurement) -> float:
        return float(getattr(measurement, self.quantity))


@dataclass(frozen=True)
class Judgement:
    """What came of a target.

    Attributes:
        target: The target.
        values: Its value in each repeat that has one.
        value: Their median.
        met: Whether that is within the limit; None if there is no value.
    """

    target: Target
    values: list[float]
    value: float | None
    met: bool | None


def _median_seconds(repeats: Sequence[Mapping[str, Measurement]], name: str) -> float | None:
    seconds = [repeat[name].seconds for repeat in repeats if name in repeat and not repeat[name].problem]
    return median(seconds) if seconds else None
