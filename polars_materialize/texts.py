"""Text that no report could hold: bytes of a name that are not UTF-8, or half of a surrogate pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polars_materialize.errors import OptionError

PROBLEM = "is not UTF-8 text, which no report could hold"


def is_utf8(text: str) -> bool:
    """Tell whether text can be written as UTF-8.

    Example:
        >>> is_utf8("é"), is_utf8("\\ud800")
        (True, False)
    """
    return text.isascii() or text.encode(errors="ignore").decode() == text


def find_unwritable(value: object, place: str = "$") -> tuple[str, str] | None:
    """Find the first text that is not UTF-8 in plain values, names included: its place, and it as ASCII.

    Example:
        >>> find_unwritable({"tables": [{"out": "é.csv"}, {"out": "\\udcff.csv"}]})
        ('$.tables[1].out', "'\\\\udcff.csv'")
    """
    if isinstance(value, str):
        return None if is_utf8(value) else (place, ascii(value))
    parts: list[tuple[str, tuple[object, ...]]]
    if isinstance(value, Mapping):
        parts = [(f"{place}.{ascii(name)[1:-1]}", (name, part)) for name, part in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        parts = [(f"{place}[{index}]", (part,)) for index, part in enumerate(value)]
    else:
        return None
    for inner, both in parts:
        for part in both:
            if found := find_unwritable(part, inner):
                return found
    return None


def refuse_unwritable(options: Mapping[str, object]) -> None:
    """Refuse options that hold text which is not UTF-8.

    Raises:
        OptionError: Names the option.
    """
    if found := find_unwritable(options, ""):
        option = found[0].removeprefix(".")
        raise OptionError(f"{option}: {found[1]} {PROBLEM}", option=option)
