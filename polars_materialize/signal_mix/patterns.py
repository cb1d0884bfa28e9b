"""Patterns of column names, which match whole name parts and never a piece of one.

The parts of a name are what stands between separators and changes of case:
`VMAF_integer_feature_adm2_score` has the parts `vmaf integer feature adm2 score`, and `maxNits` has `max
nits`.

| Pattern | Matches |
| --- | --- |
| `adm` | that part anywhere, also with digits behind it: `adm`, `integer_adm2`; not `admin` |
| `x264` | that part anywhere, exactly, since it ends with a digit |
| `ms_ssim` | those parts in a row, also written as one or parted otherwise: `ms_ssim`, `MS-SSIM`, `msssim` |
| `_p10` | those parts at the end of a longer name: `adm2_p10`; not `p10` |
| `=scale_0` | the whole name |
"""

from __future__ import annotations

import re
from functools import lru_cache

CASES = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
SEPARATORS = re.compile(r"[\W_]+")


@lru_cache(maxsize=65_536)
def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a column's name, in lower case.

    Example:
        >>> parts_of("VMAF_integer_feature_adm2_score")
        ('vmaf', 'integer', 'feature', 'adm2', 'score')
        >>> parts_of("MS-SSIM"), parts_of("bitDepth")
        (('ms', 'ssim'), ('bit', 'depth'))
    """
    words = SEPARATORS.split(CASES.sub("_", name))
    return tuple(word.lower() for word in words if word)


def is_valid(pattern: str) -> bool:
    """Whether a pattern could match any name.

    Example:
        >>> is_valid("ms_ssim"), is_valid("_p10"), is_valid("=n"), is_valid("_"), is_valid("adm*")
        (True, True, True, False, False)
    """
    return bool(re.fullmatch(r"[=_]?[^\W_](?:[\w-]*[^\W_])?", pattern))


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern matches a column's name.

    Example:
        >>> [matches("clipping", name) for name in ("clip_id", "a_clip_iqa_score", "hdr_clipping")]
        [False, False, True]
        >>> matches("nits", "unit"), matches("nits", "max_nits"), matches("adm", "integer_adm2")
        (False, True, True)
    """
    word, whole = _joined(pattern), _joined(name)
    if word not in whole:  # mostly so
        return False
    parts = parts_of(name)
    if pattern.startswith("="):
        return _same(word, whole)
    if pattern.startswith("_"):
        return any(_same(word, "".join(parts[start:])) for start in range(1, len(parts)))
    return any(_begins(word, parts[start:]) for start in range(len(parts)))


def begins(pattern: str, name: str) -> bool:
    """Whether a column's name begins with the parts of a pattern.

    Example:
        >>> [begins("mos", name) for name in ("MOSChunk05", "mos2", "raw_mos", "mosquito_noise")]
        [True, True, False, False]
    """
    return _begins(_joined(pattern), parts_of(name))


@lru_cache(maxsize=65_536)
def _joined(name: str) -> str:
    return "".join(parts_of(name))


def _begins(word: str, parts: tuple[str, ...]) -> bool:
    """Whether some first parts, written as one, are the word."""
    joined = ""
    for part in parts:
        joined += part
        if _same(word, joined):
            return True
        if len(joined) >= len(word) and not joined.startswith(word):
            return False
    return False


def _same(word: str, found: str) -> bool:
    """Whether two are the same, but for the digits of a version: `ciede2000` is `ciede`."""
    if found == word:
        return True
    return found.startswith(word) and not word[-1].isdigit() and found[len(word) :].isdigit()
