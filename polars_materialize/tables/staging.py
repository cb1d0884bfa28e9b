"""Files and folders that are made beside their place, and take it as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from polars_materialize.errors import OutputError
from polars_materialize.leftovers import left_by_the_dead, new_owned
from polars_materialize.stores import Url, uploaded
from polars_materialize.tables.failures import FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polars_materialize.stores import Place

NO_ROWS = "00000000.parquet"
"""What a folder holds that is parted by columns of a table without rows."""

FOOTER_KEY = "polars_materialize.audit"
"""Where a Parquet output keeps its own audit, less its provenance: that lists every input file."""

staging_mark = ContextVar("staging_mark", default="")
"""What the names of files in the making hold that are of one batch, whatever process of it makes them."""

NAME_BYTES = 255
"""How long a name may be on most file systems."""

_BESIDE = re.compile(r"\.(?P<name>.+)\.[0-9a-f-]+\.(?P<kind>part|old)", re.DOTALL)


def _make_folder(written: str, folder: Path) -> None:
    """Make the folder of an output, with those above it.

    Raises:
        OutputError: If one of them is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        taken = next(path for path in (folder, *folder.parents) if path.exists())
        problem = f"{written}: {taken.name} is a file; expected a folder"
        raise OutputError(problem, path=written) from None


def _beside(target: Path, kind: Literal["part", "old"]) -> Path:
    """A name beside a target that nobody has, hidden, and that says whose it is."""
    end = f".{new_owned(staging_mark.get())}.{kind}"
    name = target.name
    if len(os.fsencode(name)) + 1 + len(end) > NAME_BYTES:
        name = os.fsencode(name)[: NAME_BYTES - 1 - len(end)].decode(errors="ignore")
    return target.with_name(f".{name}{end}")


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes have left in a folder; what they had put aside comes back."""
    for path in left_by_the_dead(folder):
        found = _BESIDE.fullmatch(path.name)
        if found is None:
            continue
        with contextlib.suppress(OSError):
            target = path.with_name(found["name"])
            if found["kind"] == "old" and not target.exists():
                if len(os.fsencode(path.name)) < NAME_BYTES - 4:  # else its own name may have been cut
                    path.rename(target)  # the process was killed between two renames
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextlib.contextmanager
def staged_folder(written: str, path: Path) -> Iterator[Path]:
    """A folder beside `path` to make and to fill; it takes the place of `path` when the block ends well.

    Raises:
        OutputError: If it cannot be made, or `path` is something else than what an earlier run has written.
    """
    target = Path(os.path.realpath(path))
    if not target.name:
        raise OutputError(f"{written}: is the root of all files; expected a folder of its own", path=written)
    part, old = _beside(target, "part"), _beside(target, "old")
    try:
        clear_leftovers(target.parent)
        _refuse_other_folder(written, target)
        _make_folder(written, target.parent)
        yield part
        if target.exists():
            target.rename(old)
            _refuse_other_folder(written, old)  # others may have written to it meanwhile
        part.rename(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{written}: could not be written: {reason}", path=written) from None
    finally:
        # Whatever went wrong, be it an interrupt between the renames: what was there is not lost.
        if old.exists() and not target.exists():
            with contextlib.suppress(OSError):
                old.rename(target)
        shutil.rmtree(part, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def _refuse_other_folder(written: str, target: Path) -> None:
    """Refuses to replace anything but a folder that an earlier run has made."""
    if target.exists() and not target.is_dir():
        raise OutputError(f"{written}: is a file; expected a folder, as partition_by is said", path=written)
    for path in target.rglob("*") if target.is_dir() else ():
        parts = path.relative_to(target).parts
        folders = parts if path.is_dir() else parts[:-1]
        ours = all("=" in folder for folder in folders) and (
            path.is_dir() or (path.suffix == ".parquet" and (folders or path.name == NO_ROWS))
        )
        if not ours:
            raise OutputError(
                f"{written}: holds {'/'.join(parts)}, which is no partition; expected a new folder",
                path=written,
            )
        if path.is_file() and not _was_written_here(path):
            problem = f"holds {'/'.join(parts)}, which no run has written; expected a new folder"
            raise OutputError(f"{written}: {problem}", path=written)


def _was_written_here(path: Path) -> bool:
    """Whether a Parquet file carries the audit of a run."""
    try:
        return FOOTER_KEY in pl.read_parquet_metadata(path)
    except FAILURES:
        return False


@contextlib.contextmanager
def staged(written: str, path: Place) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends well.

    For an object it is a temporary file, which is sent then.

    Several blocks may be nested: each is complete and on the disk before the outermost is renamed.

    Raises:
        OutputError: If the folder or the file cannot be made.
    """
    if isinstance(path, Url):
        try:
            with uploaded(path) as part:
                yield part
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"{written}: could not be written: {reason}", path=written) from None
        return
    target = Path(os.path.realpath(path))  # a link keeps pointing where it points
    part = _beside(target, "part")
    try:
        if target.is_dir():
            raise OutputError(f"{written}: is a folder; expected a file", path=written)
        if target.exists() and not target.is_file():
            raise OutputError(f"{written}: is a device or a pipe; expected a file", path=written)
        _make_folder(written, target.parent)
        clear_leftovers(target.parent)
        yield part
        part.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{written}: could not be written: {reason}", path=written) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
