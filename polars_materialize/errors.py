"""What can go wrong, as one family of exceptions.

Every error of this package is a `MaterializeError`, which is a `ValueError`. Its text is one line:
what is wrong, where, what was expected, and a hint. What the text is made of is kept as fields, so
that a program does not have to parse it; `code` is a stable word for the kind of the error.

Example:
    >>> try:
    ...     raise TableError("scores.jsonl", "not a JSON object", line=17)
    ... except MaterializeError as error:
    ...     print(error.code, "|", error)
    table | scores.jsonl:17: not a JSON object
"""

from __future__ import annotations

import contextlib
import difflib
import re
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import polars as pl

LISTED = 10
"""How many offenders an error shows before it counts the rest."""


def listing(items: Iterable[object], *, limit: int = LISTED, total: int | None = None) -> str:
    """Quotes the first `limit` of `items` and counts the rest.

    Example:
        >>> listing(["a", "b", "c"], limit=2)
        "'a', 'b' and 1 more"
    """
    shown = list(items)
    total = len(shown) if total is None else total
    text = ", ".join(repr(item) for item in shown[:limit])
    more = total - min(limit, len(shown))
    return f"{text} and {more:,} more" if more > 0 else text


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """A count with its noun.

    Example:
        >>> counted(1, "clip"), counted(1200, "clip")
        ('1 clip', '1,200 clips')
    """
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def first_line(error: BaseException) -> str:
    """What another library's error says first; the rest is for its own users.

    Example:
        >>> first_line(ValueError("too short\\nat line 3"))
        'too short'
    """
    return str(error).strip().split("\n", 1)[0]


def panic_reason(error: BaseException) -> str:
    """Say in one line what a panic tells, without Rust's words around it.

    Example:
        >>> panic_reason(Exception('an `Err` value: E(ErrString("no such type"))'))
        'a library failed inside: no such type'
    """
    text = " ".join(str(error).split())
    inner = re.search(r'ErrString\("(.+?)"\)', text)
    return f"a library failed inside: {inner[1] if inner else text}"


def is_panic(error: BaseException) -> bool:
    """Tell whether an error is a panic of a library in Rust: no `Exception`, of a class for each library.

    Example:
        >>> is_panic(ValueError("no"))
        False
    """
    return type(error).__name__ == "PanicException"


def unexpected(error: BaseException) -> str:
    """Say in one line what an error is that nobody has thought of.

    Example:
        >>> unexpected(KeyError("a\\nb")), unexpected(MemoryError())
        ("unexpected KeyError: 'a\\\\nb'", 'there is not enough memory')
    """
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if is_panic(error):
        return panic_reason(error)
    return f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"


@contextlib.contextmanager
def no_panics() -> Iterator[None]:
    """Raise a panic of a library as an error of this package.

    Raises:
        LibraryError: Then.
    """
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise LibraryError(unexpected(error)) from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of `known`, or nothing.

    Example:
        >>> did_you_mean("missing_polcy", ["missing_policy", "prefix"])
        "; did you mean 'missing_policy'?"
        >>> did_you_mean("Clip_ID", ["id", "clip_id"])
        "; did you mean 'clip_id'?"
    """
    spelled = {name.lower(): name for name in reversed(list(known))}
    near = difflib.get_close_matches(word.lower(), list(spelled)[::-1], n=1)
    return f"; did you mean {spelled[near[0]]!r}?" if near else ""


def other_separator(cells: Sequence[str]) -> str:
    """A hint where the names of a CSV stand in one cell, with something else than commas between them.

    Example:
        >>> other_separator(["clip_id;mos"])
        "; are its cells separated by ';'? Expected commas"
        >>> other_separator(["clip_id", "mos;raw"])
        ''
    """
    found = next((mark for mark in ";\t|" if len(cells) == 1 and mark in cells[0]), None)
    return f"; are its cells separated by {found!r}? Expected commas" if found else ""


class MaterializeError(ValueError):
    """Base of every error this package raises on purpose.

    Attributes:
        code: A stable word for the kind of the error.
        fields: What the message was made of.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **fields: Any) -> None:
        """Keeps the one-line message and its parts."""
        super().__init__(" ".join(message.splitlines()))
        self.fields: Mapping[str, Any] = fields

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets the error travel between processes whole."""
        return _revive, (type(self), str(self), dict(self.fields))


def _revive(kind: type[MaterializeError], message: str, fields: dict[str, Any]) -> MaterializeError:
    error = kind.__new__(kind)
    MaterializeError.__init__(error, message, **fields)
    return error


class LibraryError(MaterializeError):
    """A library failed inside, in a way that it has no error for: Rust calls it a panic."""

    code = "library"


class OptionError(MaterializeError):
    """An option, an argument or a combination of them makes no sense."""

    code = "option"


class ManifestError(OptionError):
    """A manifest is wrong; the text names the place as a JSON path."""

    code = "manifest"

    def __init__(self, path: str, problem: str, *, place: str | None = None) -> None:
        """Says which manifest, which place in it, and what is wrong there."""
        where = path if place is None else f"{path}: {place}"
        super().__init__(f"{where}: {problem}", path=path, place=place, problem=problem)


class TableError(MaterializeError):
    """A file cannot be read as the table that its name says it is."""

    code = "table"

    def __init__(self, path: str, problem: str, *, line: int | None = None) -> None:
        """Says which file, which line of it if one is to blame, and what is wrong."""
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {problem}", path=path, line=line, problem=problem)


class OutputError(MaterializeError):
    """An output cannot be written, or may not be."""

    code = "output"


class InputChangedError(MaterializeError):
    """An input was not the same file after the run as before it."""

    code = "input-changed"

    @classmethod
    def of(cls, path: str) -> Self:
        """Names the file that changed."""
        return cls(
            f"{path}: changed while it was read, so nothing was written; run again when its writer is done",
            path=path,
        )


class KeyColumnError(MaterializeError):
    """A table has no column that can serve as its key."""

    code = "key-column"


class FoldingError(MaterializeError):
    """A normalisation or a pattern would make one key of different values."""

    code = "folding"


class RowsError(MaterializeError):
    """Rows of evidence that cannot be used.

    Attributes:
        problems: The first ten of them: place and reason.
        count: How many there are.
    """

    noun: ClassVar[str] = ""

    def __init__(self, problems: Sequence[tuple[str, str]], count: int) -> None:
        """Joins the first problems to one line: for each reason one place, and then all others of it."""
        places: dict[str, list[str]] = {}
        for place, reason in problems[:LISTED]:
            places.setdefault(reason, []).append(place)
        shown = "; ".join(
            f"{first}: {reason}" + (f" (also {', '.join(others)})" if others else "")
            for reason, (first, *others) in places.items()
        )
        more = count - min(LISTED, len(problems))
        tail = f"; and {more:,} more" if more > 0 else ""
        rows = "row is" if count == 1 else "rows are"
        super().__init__(f"{count:,} {self.noun} {rows} not usable: {shown}{tail}")
        self.problems = list(problems)
        self.count = count

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets the error travel between processes whole."""
        return type(self), (self.problems, self.count)


class SidecarError(RowsError):
    """Rows of sidecars lack a scorer, a key or a usable score."""

    code = "sidecar"
    noun = "sidecar"


class LabelError(RowsError):
    """Rows of label files have a key, but no usable opinion score."""

    code = "label"
    noun = "label"

    def __init__(self, problems: Sequence[tuple[str, str]], count: int) -> None:
        """Shows one row as an example, and the count."""
        super().__init__(problems, count)
        place, reason = problems[0]
        rows = "label row is not usable:" if count == 1 else "label rows are not usable, such as"
        self.args = (" ".join(f"{count:,} {rows} {place}: {reason}".splitlines()),)


class LabelFileError(MaterializeError):
    """A label file as a whole is not usable: its scale is not plain, or it has no label."""

    code = "label-file"


class MatchWarning(UserWarning):
    """Evidence met no row of its table, or fewer than a reader would expect."""


class ScorerNameError(MaterializeError):
    """A scorer has no name that a column could carry, or two scorers share one."""

    code = "scorer-name"


class ModelError(MaterializeError):
    """A saliency model cannot be used."""

    code = "model"


class ExtraError(MaterializeError):
    """A package is not installed that one of this package's extras brings."""

    code = "extra"

    @classmethod
    def of(cls, package: str, extra: str) -> Self:
        """Names the package, and the extra that brings it."""
        return cls(
            f"{package} is not installed; pip install 'polars-materialize[{extra}]' brings it",
            package=package,
            extra=extra,
        )


class WorkersError(MaterializeError):
    """Worker processes or a cluster cannot be used."""

    code = "workers"


class MatchRateError(MaterializeError):
    """Too few of a table's clips have a label, or a score.

    Attributes:
        unmatched: The keys of the table without one, with the count of their rows (and the scorer).
        unused: The keys of labels or scores that no row has (and the scorer).
    """

    code = "match-rate"

    def __init__(self, message: str, unmatched: pl.DataFrame, unused: pl.DataFrame) -> None:
        """Keeps the unmatched keys of both sides as frames."""
        super().__init__(message)
        self.unmatched = unmatched
        self.unused = unused

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets the error travel between processes whole."""
        return type(self), (str(self), self.unmatched, self.unused)


class DuplicateKeyError(MaterializeError):
    """Two rows of evidence speak of the same clip."""

    code = "duplicate-key"


class ColumnExistsError(MaterializeError):
    """The table already has columns that a join would add."""

    code = "column-exists"


class PolicyError(MaterializeError):
    """A policy of `fail` met what it forbids, or one of `drop` would leave no row.

    Attributes:
        offenders: One row for each offending scorer and key, with the count of its table rows.
    """

    code = "policy"

    def __init__(self, message: str, offenders: pl.DataFrame) -> None:
        """Keeps the offenders as a frame."""
        super().__init__(message)
        self.offenders = offenders

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets the error travel between processes whole."""
        return type(self), (str(self), self.offenders)


class MissingScoreError(PolicyError):
    """Rows of the table have no score, and `missing_policy` forbids that, or would drop every row."""

    code = "missing-score"


class BadScoreError(PolicyError):
    """Rows have a score that its scorer marked as bad, and `bad_policy` forbids that, or would drop all."""

    code = "bad-score"
