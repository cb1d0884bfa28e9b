"""Names from files as pages show them: nothing is hidden in them, and they leave room for numbers."""

from __future__ import annotations

import unicodedata

from polars_materialize.shown import visible

MOST = 60
"""How many characters of a name a list shows."""


def label(name: str, most: int = MOST) -> str:
    """A name as a list shows it; of a long one both ends.

    Example:
        >>> label("second_opinion_a_scorer_with_a_long_name_score", 20)
        'second_op…name_score'
    """
    shown = visible(name)
    if len(shown) <= most:
        return shown
    half = (most - 1) // 2
    return f"{shown[:half]}…{shown[-(most - 1 - half) :]}"


def cut(name: str, most: int = 30) -> str:
    """A name that fits beside a picture, where wide characters take the room of two.

    Example:
        >>> cut("second_opinion_a_scorer_with_a_long_name_score")
        'second_opinion…ong_name_score'
        >>> cut("映像品質の評価値の平均" * 3)
        '映像品質の評価…の評価値の平均'
    """
    shown = visible(name)
    chars = len(shown)
    while chars > 3 and _room(label(shown, chars)) > most:
        chars -= 1
    return label(shown, chars)


def _room(text: str) -> float:
    return sum(
        2.0
        if unicodedata.east_asian_width(c) in "WF"
        else 1.8
        if c in "MWmw@%"
        else 1.3
        if c.isupper()
        else 1.0
        for c in text
    )
