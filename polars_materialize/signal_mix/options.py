"""The options of a signal-mix audit: their names, types, defaults and bounds."""

from __future__ import annotations

import msgspec

from polars_materialize.errors import OptionError


class SignalOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tables are audited.

    Attributes:
        target: The column to correlate signals with; by default the first known name in each table.
        top_k: How many rows the lists of the reports for people show.
        redundancy_threshold: Least |r| of two redundant signals.
        complement_threshold: Greatest |r| between the signals of a complementary pair.
        target_threshold: Least |r| with the target of both signals of a complementary pair.
        min_finite_ratio: The least share of finite values of a healthy column.
        min_std: A healthy column has a standard deviation above this.
        sample: Number of rows of each table to look at; all, if null.
        seed: Random seed of the sample.
    """

    target: str | None = None
    top_k: int = 12
    redundancy_threshold: float = 0.95
    complement_threshold: float = 0.70
    target_threshold: float = 0.20
    min_finite_ratio: float = 0.80
    min_std: float = 1e-12
    sample: int | None = None
    seed: int = 0


SHARES = ("redundancy_threshold", "complement_threshold", "target_threshold", "min_finite_ratio")


def check_options(options: SignalOptions) -> None:
    """Refuses options that no table could make right.

    Raises:
        OptionError: Names the option.

    Example:
        >>> check_options(SignalOptions(top_k=0))
        Traceback (most recent call last):
        polars_materialize.errors.OptionError: top_k: 0; expected a whole number of at least 1
    """
    for name in SHARES:
        value = getattr(options, name)
        if not _is_number(value) or not 0 <= value <= 1:
            raise OptionError(f"{name}: {value!r}; expected a number from 0 to 1", option=name)
    if not _is_number(options.min_std) or not 0 <= options.min_std < float("inf"):
        raise OptionError(f"min_std: {options.min_std!r}; expected a number of at least 0", option="min_std")
    for name, least in (("top_k", 1), ("sample", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is None and name == "sample":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            problem = f"{name}: {value!r}; expected a whole number of at least {least}"
            raise OptionError(problem, option=name)
    if options.target is not None and not isinstance(options.target, str):
        raise OptionError(f"target: {options.target!r}; expected a column's name", option="target")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
