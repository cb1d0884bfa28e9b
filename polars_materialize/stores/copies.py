"""Objects copied to files of this machine, which what has to be read more than once is read from."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from polars_materialize.leftovers import left_by_the_dead, new_owned
from polars_materialize.stores.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

AHEAD_BYTES = 1 << 20
"""Up to which size the next objects of a listing are fetched too."""
AHEAD = 64
PREFIX = "polars-materialize-"
AT_ONCE = 16
"""How many requests wait for a store at a time: it takes long to answer, and nothing of a core."""


def new_prefix() -> str:
    """Make the beginning of a temporary folder's name; folders of processes that were killed are removed."""
    for path in left_by_the_dead(tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            if path.name.startswith(PREFIX) and path.lstat().st_uid == os.getuid():
                shutil.rmtree(path)
    return f"{PREFIX}{new_owned()}-"


class Source(Protocol):
    """What can be copied."""

    @property
    def size(self) -> int:
        """Its size in bytes; -1 if that is not known."""
        ...

    def blocks(self) -> Iterator[bytes]:
        """Its bytes."""
        ...


class Copies:
    """A folder of copies of the objects of one listing; it goes when nobody needs it any more."""

    def __init__(self) -> None:
        """Begins with nothing copied."""
        self._lock = threading.Lock()
        self._sources: list[weakref.ref[Source]] = []
        self._files: dict[int, Path] = {}
        self._folder: Path | None = None

    def add(self, source: Source) -> int:
        """Takes note of an object; returns its number."""
        self._sources.append(weakref.ref(source))
        return len(self._sources) - 1

    def __contains__(self, number: int) -> bool:
        """Whether an object was copied."""
        return number in self._files

    def path(self, number: int) -> Path:
        """The copy of an object; small ones that come after it are fetched with it.

        Raises:
            StoreError: If it cannot be read, or there is no room for it.
        """
        with self._lock:
            if number not in self._files:
                self._fetch([number, *self._ahead(number)])
            return self._files[number]

    def _ahead(self, number: int) -> Iterator[int]:
        for other in range(number + 1, min(number + AHEAD, len(self._sources))):
            source = self._sources[other]()
            if source is not None and other not in self._files and 0 <= source.size <= AHEAD_BYTES:
                yield other

    def _fetch(self, numbers: list[int]) -> None:
        first, *others = numbers
        if not others:
            self._files[first] = self._copy(first)
            return
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stores") as pool:
            begun = {number: pool.submit(self._copy, number) for number in numbers}
        for number, copied in begun.items():
            if number == first or copied.exception() is None:  # the others are asked for again
                self._files[number] = copied.result()

    def _copy(self, number: int) -> Path:
        source = self._sources[number]()
        assert source is not None, "it is asked for by who holds it"  # noqa: S101
        path = self.folder / f"{number}"
        blocks = source.blocks()
        try:
            with path.open("wb") as stream:
                for block in blocks:
                    stream.write(block)
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"could not be copied to {self.folder}: {error.strerror}") from None
        return path

    @property
    def folder(self) -> Path:
        """The folder of the copies."""
        if self._folder is None:
            try:
                self._folder = Path(tempfile.mkdtemp(prefix=new_prefix()))
            except OSError as error:
                problem = f"no folder for a copy in {tempfile.gettempdir()}: {error.strerror}"
                raise StoreError(problem) from None
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder
