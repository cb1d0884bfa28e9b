"""Which files of this machine a plan reads, as far as Polars lets one know."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READS = "reads"
"""The attribute of a reader of this package that names its file."""


def is_input(frame: pl.LazyFrame, path: Path) -> bool:
    """Whether a plan is known to read a file; False where nothing is known.

    Polars has no public way to ask. The one that it has for engines does not know all plans, and may change:
    then a plan reads its old input whole before the new file takes its place, as it would anyway.
    """
    with contextlib.suppress(Exception, pl.exceptions.PanicException):
        if path.exists():
            real = os.path.realpath(path)
            return any(os.path.realpath(each) == real for each in _inputs(frame._ldf.visit()))
    return False


def _inputs(plan: Any) -> Iterator[str | os.PathLike[str]]:
    """The files that a plan's nodes read."""
    node = None
    with contextlib.suppress(NotImplementedError):  # of a scan of Arrow, for one
        node = plan.view_current_node()
    yield from getattr(node, "paths", None) or []
    options = getattr(node, "options", None)
    for part in options if isinstance(options, tuple) else ():
        cells = (cell.cell_contents for cell in getattr(part, "__closure__", None) or ())
        yield from (path for cell in cells if (path := getattr(cell, READS, None)) is not None)
    for each in plan.get_inputs():
        plan.set_node(each)
        yield from _inputs(plan)
