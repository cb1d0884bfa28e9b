"""What processes that were killed have left half made: named so that it can be told, and found again.

A name of a file in the making says whose it is: `.t.parquet.5f0c1a9e-4711-92834-0.part`, by the number of its
process and when that was started. What comes first stands for all processes that see one another's numbers:
those of one host since it was started, and of one container there. What others make is never found, since
nobody here can tell whether they still do; on systems other than Linux nothing is.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from polars_materialize import warm

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARE = 100
"""A folder is not looked through again for so many times as long as that has taken."""

_OWNER = re.compile(
    r"(?P<world>[0-9a-f]{8})-(?P<pid>[1-9][0-9]{0,9})-(?P<start>[0-9]+)-(?:[0-9a-f]+-)?[0-9]+"
)
_counter = itertools.count()
_next_look: dict[str, float] = {}


def new_owned(mark: str = "") -> str:
    """Make a part of a name that says whose it is, and that no other name has.

    Args:
        mark: What names of one batch have in common, in hexadecimal.
    """
    pid, status = os.getpid(), _status(os.getpid())
    world = _world() if status is not None else None  # else nobody may take it for another's
    return (
        f"{world or '0' * 8}-{pid}-{status[1] if status else 0}-{f'{mark}-' if mark else ''}{next(_counter)}"
    )


def left_by_the_dead(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Find what processes that are no more have left in a folder, now and then."""
    place, begun = os.fspath(folder), time.monotonic()
    if _world() is None or begun < _next_look.get(place, 0.0):
        return
    try:
        names = [entry.name for entry in os.scandir(place)]
    except OSError:  # it is not there, or may be written to only
        return
    for name in names:
        found = _OWNER.search(name)
        if found and found["world"] == _world() and _is_dead(int(found["pid"]), int(found["start"])):
            yield Path(place, name)
    _next_look[place] = time.monotonic() + SHARE * (time.monotonic() - begun)


@warm.once
def _world() -> str | None:
    """What processes share that see one another's numbers; none if that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        numbers = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it points to no file
    except OSError:
        return None
    return hashlib.sha256(f"{platform.node()} {boot} {numbers}".encode()).hexdigest()[:8]


def _status(pid: int) -> tuple[str, int] | None:
    """The state of a process, and when it was started; none if that cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, LookupError, ValueError):
        return None


def _is_dead(pid: int, start: int) -> bool:
    """Tell whether a process is no more; another may have its number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is another user's
        return False
    status = _status(pid)
    return status is not None and (status[0] in "ZX" or status[1] != start)
