"""Which files a path, a url, a glob or a folder would read."""

from __future__ import annotations

import glob
import os
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from polars_materialize.stores import matches
from polars_materialize.stores.urls import BUCKETS, Address, is_url, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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
        self._urls: dict[Address, str] = {}
        for place, pattern in inputs:
            if is_url(pattern):
                self._add_url(pattern, place)
                continue
            whole = self._base_dir / pattern
            if whole.exists() or not glob.has_magic(pattern):
                self._places.setdefault(os.path.realpath(whole), place)
            else:
                self._globs.setdefault(pattern, place)

    def _add_url(self, pattern: str, place: str) -> None:
        address = parse(pattern)
        if glob.has_magic(address.key) and address.scheme in BUCKETS:
            self._urls.setdefault(address, place)
        self._places.setdefault(str(address).rstrip("/"), place)  # also one that is called so

    def of(self, real: str) -> str | None:
        """What reads the file or the object at `real`, if an input does."""
        if is_url(real):
            return self._of_url(real)
        for path in _up_to_hidden(PurePath(real)):
            if path in self._places:
                return self._places[path]
        found = (
            place for pattern, place in self._globs.items() if _matches_glob(self._base_dir, pattern, real)
        )
        return next(found, None)

    def _of_url(self, real: str) -> str | None:
        start, _, rest = real.partition("://")
        for path in _up_to_hidden(PurePosixPath(rest)):
            url = f"{start}://{path}"
            if url in self._places:
                return self._places[url]
        store, key = rest.partition("/")[::2]
        for (scheme, bucket, pattern), place in self._urls.items():
            same = real.startswith(f"{scheme}://") and store == bucket
            if same and matches(pattern.split("/"), key.split("/")):
                return place
        return None


def _up_to_hidden(path: PurePath) -> Iterator[str]:
    """A path, and the folders that would be read with it: not those above a hidden name."""
    yield str(path)
    while path.parent != path and not path.name.startswith("."):
        path = path.parent
        yield str(path)


def reads(base_dir: Path | None, pattern: str, real: str) -> bool:
    """Whether an input (a file, a url, a glob or a folder) reads what is at `real`."""
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
    return matches(parts[plain:], below)
