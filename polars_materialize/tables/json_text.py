"""JSON text as Python reads it, without what Python would let pass."""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 64
"""How many lists and objects may be within one another; Polars and Python fail at a few hundred."""
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
ALIKE = bytes.maketrans(b"{}", b"[]")
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


class RepeatedFieldError(Exception):
    """An object of JSON has a field twice."""


def loads(text: bytes) -> object:
    """A JSON value.

    Raises:
        ValueError: If it is none, or not UTF-8: Python would take the surrogates of CESU-8 for text.
        RepeatedFieldError: If an object has a field twice.

    Example:
        >>> loads(b'{"a": [NaN]}')
        {'a': [nan]}
    """
    return json.loads(text.decode(), object_pairs_hook=_refuse_twice)


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
