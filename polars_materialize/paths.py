"""Which files a path, a glob or a folder would read."""

from __future__ import annotations

import fnmatch
import glob
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def reads(base_dir: Path | None, pattern: str, real: str) -> bool:
    """Whether an input (a file, a glob or a folder) reads the file at `real`."""
    base_dir = Path() if base_dir is None else base_dir
    whole = base_dir / pattern
    if whole.exists() or not glob.has_magic(pattern):
        return os.path.realpath(whole) in (real, os.path.dirname(real))  # noqa: PTH120 - text, as realpath gives it
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
