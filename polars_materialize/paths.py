"""Which files a path, a glob or a folder would read."""

from __future__ import annotations

import fnmatch
import glob
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Readers:
    """Many inputs, and which of them reads a file: one look for each file, not one for each of both."""

    def __init__(self, base_dir: Path | None, inputs: Iterable[tuple[str, str]]) -> None:
        """Takes note of inputs.

        Args:
            base_dir: What they are relative to.
            inputs: What to call each, and its path, glob or folder.
        """
        self._base_dir = Path() if base_dir is None else base_dir
        self._places: dict[str, str] = {}
        self._globs: dict[str, str] = {}
        for place, pattern in inputs:
            whole = self._base_dir / pattern
            if whole.exists() or not glob.has_magic(pattern):
                self._places.setdefault(os.path.realpath(whole), place)
            else:
                self._globs.setdefault(pattern, place)

    def of(self, real: str) -> str | None:
        """What reads the file at `real`, if an input does."""
        for path in (real, *map(str, PurePath(real).parents)):
            if path in self._places:
                return self._places[path]
        found = (
            place for pattern, place in self._globs.items() if _matches_glob(self._base_dir, pattern, real)
        )
        return next(found, None)


def reads(base_dir: Path | None, pattern: str, real: str) -> bool:
    """Whether an input (a file, a glob or a folder) reads the file at `real`."""
    return Readers(base_dir, [("", pattern)]).of(real) is not None


def plain_part(pattern: str) -> str:
    """A path; of a glob, which names no file, the folder that all it matches lies in.

    Example:
        >>> plain_part("shards/*/x.csv"), plain_part("x.csv")
        ('shards/*', 'x.csv')
    """
    parts = PurePath(pattern).parts
    plain = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return os.path.join(*parts[: plain + 1]) if parts else pattern  # noqa: PTH118 - a text


def _matches_glob(base_dir: Path, pattern: str, real: str) -> bool:
    parts = PurePath(pattern).parts
    plain = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    folder = os.path.realpath(base_dir.joinpath(*parts[:plain]))
    try:
        below = PurePath(real).relative_to(folder).parts
    except ValueError:
        return False
    return _matches(parts[plain:], below)


def _matches(patterns: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a path matches a glob, part by part; `**` stands for any number of folders."""
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(patterns[1:], parts[skip:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _matches(patterns[1:], parts[1:])
