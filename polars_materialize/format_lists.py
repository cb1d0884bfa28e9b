"""What the command line says of formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from polars_materialize.errors import OptionError, did_you_mean
from polars_materialize.formats import LabelFormat, ScoreFormat, list_formats

if TYPE_CHECKING:
    from collections.abc import Sequence


Style = Literal["full", "brief", "json"]


def describe_formats(names: Sequence[str] = (), *, style: Style = "full") -> str:
    """What is known of formats.

    Args:
        names: The formats; else all.
        style: `full`, a block of lines for each; `brief`, one line each; or `json`.

    Raises:
        OptionError: If there is no format of a name.

    Example:
        >>> print(describe_formats(["live-vqc"]), end="")
        live-vqc (labels): LIVE-VQC, as VIDEVAL keeps it
          key      File: file name with suffix
          score    MOS: 0 to 100, higher is better
          scale    0:100
          example  A001.mp4,80.232,1920,1080
          source   https://github.com/vztu/VIDEVAL
    """
    known: dict[str, ScoreFormat | LabelFormat] = {**list_formats().scores, **list_formats().labels}
    for name in names:
        if name not in known:
            problem = f"no format {name!r}{did_you_mean(name, known)}; expected one of {' '.join(known)}"
            raise OptionError(problem, option="names")
    chosen = [known[name] for name in names or known]
    if style == "json":
        content = {form.name: {"reads": _reads(form), **_all_of(form)} for form in chosen}
        return msgspec.json.format(msgspec.json.encode(content)).decode() + "\n"
    return _table(chosen) if style == "brief" else "\n".join(map(_block, chosen))


def _table(formats: Sequence[ScoreFormat | LabelFormat]) -> str:
    """One line for each format."""
    rows = [["FORMAT", "READS", "KEY", "SCORE", "RANGE", "WRITTEN BY"]]
    rows += [[f.name, _reads(f), _key(f), _score(f)[0], _range(f), f.tool] for f in formats]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "".join("  ".join(line).rstrip() + "\n" for line in lines)


def _all_of(form: ScoreFormat | LabelFormat) -> dict[str, object]:
    return {name: value for name, value in msgspec.to_builtins(form).items() if name != "name"}


def _reads(form: ScoreFormat | LabelFormat) -> str:
    return "scores" if isinstance(form, ScoreFormat) else "labels"


def _key(form: ScoreFormat | LabelFormat) -> str:
    names = form.key_field if isinstance(form, ScoreFormat) else form.key_column
    return names[0] if names else "(any known)"


def _score(form: ScoreFormat | LabelFormat) -> list[str]:
    names = form.score_field if isinstance(form, ScoreFormat) else form.mos_column
    return names or ["(any known)"]


def _range(form: ScoreFormat | LabelFormat) -> str:
    """The least and the greatest number, and which is better."""
    low, high = ("" if end is None else f"{end:g}" for end in (form.low, form.high))
    better = form.higher_is_better if isinstance(form, ScoreFormat) else True
    which = {True: "higher is better", False: "lower is better", None: "the scorer decides what is better"}
    ends = f"{low or 'any'} to {high or 'any'}, " if low or high else ""
    return ends + which[better]


def _block(form: ScoreFormat | LabelFormat) -> str:
    """All that is known of a format, for people."""
    names = form.key_field if isinstance(form, ScoreFormat) else form.key_column
    details = {
        "key": f"{', else '.join(names) or '(any known)'}: {form.key}",
        "score": f"{', else '.join(_score(form))}: {_range(form)}",
    }
    shown = (item for item in _all_of(form).items() if item[0] not in _IN_WORDS)
    details |= {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in shown
    }
    details |= {"example": form.example, "source": form.source}
    width = max(map(len, details))
    lines = [f"  {name.ljust(width)}  {text}" for name, text in details.items()]
    return "\n".join([f"{form.name} ({_reads(form)}): {form.tool}", *lines]) + "\n"


_IN_WORDS = {
    *("tool", "key", "low", "high", "marks", "example", "source", "higher_is_better"),
    *("key_field", "key_column", "score_field", "mos_column"),
}
"""What a block says otherwise, or not at all."""
