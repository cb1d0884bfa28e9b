"""Whether contenders wrote the same rows."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Digest:
    """A table's digest.

    Attributes:
        rows: How many.
        columns: The digest of each column.
        all: The rows with all columns.
        all_ordered: These in their order.
        given: The rows with the input's columns only, if there is an input.
        given_ordered: These in their order.
    """

    rows: int
    columns: dict[str, int]
    all: int
    all_ordered: int
    given: int
    given_ordered: int


def compare(own: Digest, *, given: Digest | None, joined: Digest | None, is_copy: bool) -> tuple[bool, str]:
    """Compares what a contender wrote.

    Args:
        own: Its digest.
        given: The input's, if there is one: all of its rows have to come out, unchanged.
        joined: Another contender's output with all new columns, if there is one already.
        is_copy: Whether it is the input only that has to come out.

    Returns:
        Whether the rows are the same, and what to say of it.
    """
    reference = joined or given
    if reference is None:
        return True, "first of these"
    if own.rows != reference.rows:
        return False, f"DIFFERENT: {own.rows:,} rows, not {reference.rows:,}"
    expected = {**(given.columns if given else {}), **(joined.columns if joined else {})}
    # The first joined table says which new columns there are.
    names = {*own.columns, *expected} if joined or is_copy else set(expected)
    wrong = sorted(name for name in names if own.columns.get(name) != expected.get(name))
    if wrong:
        return False, f"DIFFERENT: columns {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}"
    if (given and own.given != given.given) or (joined and own.all != joined.all):
        return False, "DIFFERENT: the columns are the same, the rows are not"
    kept = own.given_ordered == given.given_ordered if given else own.all_ordered == reference.all_ordered
    return True, "same, in order" if kept else "same, order lost"


class Checker:
    """A process that makes digests, so that the suite's own need not import Polars."""

    def __init__(self, env: Mapping[str, str], cwd: Path) -> None:
        """Starts it."""
        command = [sys.executable, "-m", "benchmarks.digests"]
        self._process = subprocess.Popen(
            command, env=dict(env), cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self._process.communicate()

    def digest(self, pattern: Path, given: Sequence[str] = ()) -> Digest:
        """The digest of a file or of all files that match a pattern.

        Args:
            pattern: Which files.
            given: The input's columns.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the checker has no pipes")
        print(json.dumps([str(pattern), list(given)]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"no digest could be made of {pattern}")
        content: dict[str, Any] = json.loads(answer)
        return Digest(**content)
