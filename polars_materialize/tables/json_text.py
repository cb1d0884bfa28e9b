"""JSON text as Python reads it, without what Python would let pass."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEEPEST = 64
"""How many lists and objects may be within one another; Polars and Python fail at a few hundred."""
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
ALIKE = bytes.maketrans(b"{}", b"[]")
NUMBER = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


class RepeatedFieldError(Exception):
    """An object of JSON has a field twice."""


def loads(text: bytes, *, parse_float: Callable[[str], object] | None = None) -> object:
    """A JSON value.

    Args:
        text: The JSON text.
        parse_float: What makes something of a number with a point or an exponent; else `float`.

    Raises:
        ValueError: If it is none, or not UTF-8: Python would take the surrogates of CESU-8 for text.
        RepeatedFieldError: If an object has a field twice.

    Example:
        >>> loads(b'{"a": [NaN]}')
        {'a': [nan]}
    """
    return json.loads(text.decode(), object_pairs_hook=_refuse_twice, parse_float=parse_float)


def numbers_as_text(data: bytes, names: Sequence[str]) -> bytes:
    """Quotes the numbers of some fields, whatever the case of their names, so that they are read as written.

    Example:
        >>> numbers_as_text(b'{"Split": 2.10, "mos": 3.50}', ["split"])
        b'{"Split": "2.10", "mos": 3.50}'
    """
    if not names:
        return data
    # No string holds a quote without a backslash before it, so what begins with one is a name.
    some = "|".join(map(re.escape, names)).encode()
    field = re.compile(rb'(?<!\\)("(?:' + some + rb')"\s*:\s*)(' + NUMBER + rb")(?=\s*[,}])", re.IGNORECASE)
    return field.sub(rb'\1"\2"', data)


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RepeatedFieldError(f"an object has the field {twice!r} twice")
    return members


def is_deep(text: bytes) -> bool:
    """Whether lists and objects are nested more than `DEEPEST` deep.

    Example:
        >>> [is_deep(b"[" * depth + b"]" * depth) for depth in (64, 65)]
        [False, True]
    """
    if text.count(b"[") + text.count(b"{") <= DEEPEST or not _is_deep(text):
        return False
    return _is_deep(STRING.sub(b"", text))


def _is_deep(text: bytes) -> bool:
    """The same, with brackets of strings taken for others.

    Level by level, pairs that hold no others are taken away. Of text that is cut off some are left over.
    """
    brackets = text.translate(ALIKE, NO_BRACKETS)
    for _ in range(DEEPEST):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    return b"[]" in brackets or brackets.count(b"[") > DEEPEST
