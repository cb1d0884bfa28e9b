"""Warnings that point at the line of the user who asked for a join.

Polars runs the guards of a lazy plan on threads of its own, where no line of the user is on the stack. So the
line is kept when the join is asked for.
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from polars_materialize.errors import MatchWarning

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOT_USERS = tuple(os.path.dirname(path) + os.sep for path in (__file__, str(pl.__file__)))  # noqa: PTH120


@dataclass(frozen=True)
class Caller:
    """A line of the user's code.

    Attributes:
        filename: Its file.
        line: Its number.
        module: The name of its module.
        registry: Where Python keeps which warnings were shown of this module.
    """

    filename: str
    line: int
    module: str
    registry: dict[Any, Any]

    @classmethod
    def find(cls) -> Self:
        """Find the innermost line that is neither of this package nor of Polars."""
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_USERS):
            frame = frame.f_back
        registry = frame.f_globals.setdefault("__warningregistry__", {})
        module = str(frame.f_globals.get("__name__", "<unknown>"))
        return cls(frame.f_code.co_filename, frame.f_lineno, module, registry)

    def warn(self, texts: Iterable[str]) -> None:
        """Issue a `MatchWarning` for each text."""
        for text in texts:
            warnings.warn_explicit(
                text, MatchWarning, self.filename, self.line, module=self.module, registry=self.registry
            )
