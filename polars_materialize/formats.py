"""What scorers and datasets write: one table of formats, as data.

A format says how a file's text is laid out and where in it the key and the number are. The built-in ones
are rows of `formats.json`; a manifest or a `Sidecar` may bring its own. What an entry says itself always
wins over its format.
"""

from __future__ import annotations

import contextlib
import math
from importlib import resources
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from polars_materialize import warm
from polars_materialize.arguments import Checked
from polars_materialize.errors import OptionError, did_you_mean, listing
from polars_materialize.shown import Shown, View

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KeyNormalize = Literal["auto", "raw", "basename", "stem"]
Pooling = Literal["mean", "harmonic_mean", "min", "p5", "p10", "median"]
Duplicates = Literal["refuse", "last"]
Text = Literal["auto", "csv", "json", "xml"]


class _Format(
    Checked, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What formats of all kinds have.

    Attributes:
        name: What it is called.
        tool: What writes it.
        text: How its text is laid out: `auto`, as the file's suffix says; `csv`, with blanks around names and
            cells taken away; `json`, objects one after another, or a list of them; `xml`.
        columns: The columns of a CSV that has no header, in their order.
        key_normalize: How its keys are normalised, if not as the table's.
        key_regex: What to take from the normalised key: the first group of the first match.
        key: What its key is, for people.
        low: The least number that it is meant to hold; scores are not checked against it.
        high: The greatest.
        example: A line of it.
        source: Where that is known from.
        marks: The names that rows of this format have, and no others: one list for each of its layouts; an
            empty name, if a comma ends each line. Without them the format has to be named.
        never: The names that rows of this format do not have, but those of its relatives do.
    """

    name: str = ""
    tool: str = ""
    text: Text = "auto"
    columns: list[str] | None = None
    key_normalize: KeyNormalize | None = None
    key_regex: str | None = None
    key: str = ""
    low: float | None = None
    high: float | None = None
    example: str = ""
    source: str = ""
    marks: list[list[str]] = []
    never: list[str] = []


class ScoreFormat(_Format, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a scorer writes.

    Attributes:
        label: The scorer, where neither a row nor the entry says.
        label_field: The field that names the scorer, where others write the same fields.
        rows: What a row is: a clip, or a frame of the clip that the file is about.
        key_field: The fields that may hold the clip's key, the first that a file has; or `@filename`.
        score_field: The fields that may hold the score or a list of one a frame; the first that a file has.
        runtime_field: The field that holds the run time in milliseconds.
        status_field: The field that says whether the scorer succeeded.
        pooling: How the scores of frames become one.
        duplicates: What to do with a key that stands twice: `refuse`, or take the `last`.
        logits_field: The field that holds an object with the logit of each rating word, from which the score
            comes where there is none.
        levels: For each rating word what it stands for; the score is the expected value.
        missing: How it spells that there is no score; such rows are `bad`.
        higher_is_better: Whether a higher score means a better clip, if that is known.

    Example:
        >>> ScoreFormat(columns=["path", "score"], key_field=["path"]).columns
        ['path', 'score']
    """

    label: str | None = None
    label_field: str | None = None
    rows: Literal["clips", "frames"] = "clips"
    key_field: list[str] = []
    score_field: list[str] = []
    runtime_field: str | None = None
    status_field: str | None = None
    pooling: Pooling | None = None
    duplicates: Duplicates | None = None
    logits_field: str | None = None
    levels: dict[str, float] = {}
    missing: list[str] = []
    higher_is_better: bool | None = None


class LabelFormat(_Format, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a dataset publishes.

    Attributes:
        key_column: The columns that may hold the clip's key; the first that a file has.
        mos_column: The columns that may hold the mean opinion score.
        std_dev_column: The columns that may hold the standard deviation of the ratings.
        n_ratings_column: The columns that may hold their number.
        scale: The scale of the scores, `LOW:HIGH`.
        missing: How it spells that a clip has no score; such rows are no labels.

    Example:
        >>> LabelFormat(key_column=["File"], mos_column=["MOS"], scale="0:100").scale
        '0:100'
    """

    key_column: list[str] = []
    mos_column: list[str] = []
    std_dev_column: list[str] = []
    n_ratings_column: list[str] = []
    scale: str | None = None
    missing: list[str] = []


class Formats(Shown, msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The built-in formats by name, for sidecars and for label files.

    Attributes:
        scores: What scorers write.
        labels: What datasets publish.
    """

    scores: dict[str, ScoreFormat]
    labels: dict[str, LabelFormat]

    def __repr__(self) -> str:
        """The names; all that is known of them would fill pages."""
        return f"Formats(scores: {_names(self.scores)}; labels: {_names(self.labels)})"

    def views(self) -> list[View]:
        """A row a format."""
        scores = [[form.name, form.tool, ", ".join(form.score_field)] for form in self.scores.values()]
        labels = [[form.name, form.tool, ", ".join(form.mos_column)] for form in self.labels.values()]
        return [
            View(["scores"], "what scorers write", ["Format", "Written by", "Score"], scores),
            View(["labels"], "what datasets publish", ["Format", "Published as", "MOS"], labels),
        ]


def _names(formats: Iterable[str]) -> str:
    names = list(formats)
    more = len(names) - NAMES
    return " ".join(names[:NAMES]) + (f" and {more:,} more" if more > 0 else "")


NAMES = 50
"""How many formats of each kind a `repr` names."""
UNNAMED = "(unnamed)"
"""What an audit calls a format of somebody's own that has no name."""
Form = TypeVar("Form", ScoreFormat, LabelFormat)


@warm.once
def list_formats() -> Formats:
    """The built-in formats.

    Example:
        >>> list_formats().labels["live-vqc"].key_column
        ['File']
    """
    content = resources.files("polars_materialize").joinpath("formats.json").read_bytes()
    warm.describe(Formats)
    found = msgspec.json.decode(content, type=Formats)
    return Formats(_named(found.scores), _named(found.labels))


def _named(formats: dict[str, Form]) -> dict[str, Form]:
    return {name: msgspec.structs.replace(form, name=name) for name, form in sorted(formats.items())}


def recognise(columns: Iterable[str], known: dict[str, Form], keys: Iterable[str]) -> Form | None:
    """The one format of which rows with some columns have all the marks; none if there is not just one.

    Of two formats the one with all marks of the other and more is meant. Rows that have a key of the generic
    rule which is no mark of a format are not of it: somebody made them, and means that key. A table of frames
    begins with its first mark, not with a column that could say whose frames they are.

    Args:
        columns: The columns, in their order.
        known: The formats.
        keys: The names of keys of the generic rule, in lower case.

    Example:
        >>> columns = ["Video", "mos_j", "sos_j", "ref"]
        >>> recognise(columns, list_formats().labels, ["clip_id"]).name
        'chug'
        >>> recognise([*columns, "clip_id"], list_formats().labels, ["clip_id"])
    """
    names, generic = list(columns), set(keys)
    present, meant = set(names), {name for name in names if name.lower() in generic}
    marked = (
        (form, set(marks))
        for form in known.values()
        if not present.intersection(form.never)
        for marks in form.marks
        if getattr(form, "rows", "clips") == "clips" or names[:1] == marks[:1]
    )
    found = [(form, marks) for form, marks in marked if meant <= marks <= present]
    closest = {form.name: form for form, marks in found if all(marks >= others for _, others in found)}
    closest = closest or {form.name: form for form, _ in found}  # several layouts of one format, say
    return next(iter(closest.values())) if len(closest) == 1 else None


def nearest(columns: Iterable[str], known: dict[str, Form]) -> tuple[str, str] | None:
    """The one format of whose marks columns lack but one, and that mark.

    Example:
        >>> nearest(["distorted", "technical_score", "aesthetic_score", "fused"], list_formats().scores)
        ('nvc-dover', 'fused_score')
    """
    present = set(columns)
    found = {
        form.name: mark
        for form in known.values()
        if not present.intersection(form.never)
        for marks in form.marks
        for mark in marks
        if len(marks) > 2 and mark and set(marks) - present == {mark}
    }
    return next(iter(found.items())) if len(found) == 1 else None


def is_own_key(asked: str | None, own: Sequence[str]) -> bool:
    """Whether a format's rule for keys is meant for a field: for its own fields, or for all if it names none.

    Args:
        asked: The field that an entry or a run names, if it does.
        own: The fields that the format names.

    Example:
        >>> is_own_key("Name", ["name"]), is_own_key("src", ["@filename"]), is_own_key("src", [])
        (True, False, True)
    """
    return asked is None or not own or asked.lower() in [name.lower() for name in own]


def numbers_of(missing: Iterable[str]) -> list[float]:
    """The words for a missing number that are numbers themselves, which a file may spell otherwise.

    Example:
        >>> numbers_of(["nan", "-1"])
        [-1.0]
    """
    found = []
    for word in missing:
        with contextlib.suppress(ValueError):
            found.append(float(word))
    return [number for number in found if math.isfinite(number)]


def check_columns(columns: Sequence[str] | None) -> None:
    """Refuses names of columns that a CSV without a header could not have.

    Raises:
        OptionError: If there is none, or one stands twice.
    """
    if columns is not None and (not columns or len(set(columns)) < len(columns)):
        raise OptionError(
            f"columns: {listing(columns) or 'none'}; expected one name for each cell, each once",
            option="columns",
        )


def check_named(check: Callable[[Form], None], form: Form) -> None:
    """Checks the format that an entry names; an error says that it is the format's.

    Raises:
        OptionError: If the format is not valid.
    """
    try:
        check(form)
    except OptionError as error:
        name = f" {form.name!r}" if form.name not in ("", UNNAMED) else ""
        raise OptionError(f"format{name}: {error}", option="format") from None


def find_format(asked: str | Form, known: dict[str, Form]) -> Form:
    """The format that an entry asks for, by its name or as it is.

    Raises:
        OptionError: If there is no format of that name, it is one of another kind, or its own name is blank.
    """
    if not isinstance(asked, str):
        kind = type(next(iter(known.values())))
        if not isinstance(asked, kind):
            found = type(asked).__name__
            raise OptionError(f"format: a {found}; expected a name, or a {kind.__name__}", option="format")
        if asked.marks:
            raise OptionError(
                "format: marks are for built-in formats; a format of your own is read where it is named",
                option="format",
            )
        if asked.name and not asked.name.strip():
            problem = f"format: its name is {asked.name!r}; expected a name, or none"
            raise OptionError(problem, option="format")
        return asked if asked.name else msgspec.structs.replace(asked, name=UNNAMED)
    if asked not in known:
        raise OptionError(
            f"format: {asked!r}{did_you_mean(asked, known)}; expected auto or one of {' '.join(known)}",
            option="format",
        )
    return known[asked]
