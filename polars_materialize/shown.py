"""How audits and reports show themselves: in a screenful, however much they hold, and as plain text.

Names of files, scorers and columns come from outside, so nothing in them may be read as Markdown or HTML, and
characters that cannot be seen are spelled.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from polars_materialize.errors import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS = 12
"""How many rows of a table, and how many notes, a notebook shows."""

ITEMS, TEXT, SCREENFUL = 3, 80, 1_500
"""How many items of a list, and how many characters of a text and in all, a `repr` shows."""


class View(NamedTuple):
    """What a notebook shows of an audit.

    Attributes:
        of: The names that its title begins with, such as the table and its output.
        said: The rest of its title.
        head: The heads of a table.
        rows: Its rows.
        notes: What has to be known before the table is used.
    """

    of: Sequence[str]
    said: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """All of it as Markdown."""
        title = " to ".join(f"**{escape(name)}**" for name in self.of)
        notes = "\n".join(f"- {escape(note)}" for note in _first(self.notes))
        parts = [f"{title}: {escape(self.said)}", table(self.head, _first_rows(self.rows)), notes]
        return "\n\n".join(part for part in parts if part)

    def html(self) -> str:
        """All of it as HTML."""
        title = " to ".join(f"<b>{_text(name)}</b>" for name in self.of)
        rows = [("th", self.head), *(("td", row) for row in _first_rows(self.rows))]
        lines = "".join(
            f"<tr>{''.join(f'<{tag}>{_text(cell)}</{tag}>' for cell in row)}</tr>" for tag, row in rows
        )
        notes = "".join(f"<li>{_text(note)}</li>" for note in _first(self.notes))
        return f"<p>{title}: {_text(self.said)}</p><table>{lines}</table>" + (
            f"<ul>{notes}</ul>" if notes else ""
        )


class Shown:
    """What makes a struct show the most important part of itself."""

    __slots__ = ()

    def views(self) -> list[View]:
        """What a notebook shows of it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """Its fields, the long ones cut; all of it would fill pages."""
        text = brief(self)
        return text if len(text) <= SCREENFUL else f"{text[:SCREENFUL]} ...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for rich, which prints by fields."""
        return [("shown", _Plain(repr(self)))]

    def _repr_markdown_(self) -> str:
        return "\n\n".join(view.markdown() for view in self.views())

    def _repr_html_(self) -> str:
        return "".join(view.html() for view in self.views())


class _Plain(str):
    """Text that is shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def brief(value: object) -> str:
    """A value as `repr` shows it, with the first of many items, and without provenance.

    Example:
        >>> print(brief({"a": [1, 2, 3, 4, 5], "b": "x" * 100}))
        {'a': [1, 2, 3, ... 2 more], 'b': 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'}
    """
    if isinstance(value, str):
        return repr(value) if len(value) <= TEXT else f"{value[: TEXT // 2]!r}"[:-1] + "...'"
    if isinstance(value, list):
        return f"[{_some([brief(item) for item in value[:ITEMS]], len(value))}]"
    if isinstance(value, dict):
        items = [f"{brief(key)}: {brief(value[key])}" for key in list(value)[:ITEMS]]
        return f"{{{_some(items, len(value))}}}"
    if isinstance(value, msgspec.Struct):
        own = {name: getattr(value, name) for name in value.__struct_fields__}
        fields = [
            f"{name}={'...' if name == 'run_provenance' else brief(field)}" for name, field in own.items()
        ]
        return f"{type(value).__name__}({', '.join(fields)})"
    return repr(value)


def _some(items: Sequence[str], total: int) -> str:
    return ", ".join([*items, *([f"... {total - len(items)} more"] if total > len(items) else [])])


def _first(items: Sequence[str]) -> list[str]:
    more = len(items) - ROWS
    return [*items[:ROWS], *([f"and {more:,} more"] if more > 0 else [])]


def _first_rows(rows: Sequence[Sequence[object]]) -> list[Sequence[object]]:
    more = len(rows) - ROWS
    rest = [[f"and {more:,} more", *[""] * (len(rows[0]) - 1)]] if more > 0 else []
    return [*rows[:ROWS], *rest]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; cells are escaped.

    Example:
        >>> print(table(["Table", "Rows"], [["a<b", 3]]))
        | Table | Rows |
        | --- | --- |
        | a&lt;b | 3 |
    """
    lines = [head, ["---"] * len(head), *([escape(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    r"""Makes text from a file plain text in Markdown: one line, no markup, no HTML, nothing unseen.

    Example:
        >>> print(escape("<b>*clip*</b> a|b snake_case \u202eabc"))
        &lt;b&gt;\*clip\*&lt;/b&gt; a\|b snake_case \\u202eabc
    """
    text = visible(text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|\[\]~])", r"\\\1", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside of a word it is no markup


def visible(text: str) -> str:
    r"""Write control, format and direction characters as escapes, since they change what a reader sees.

    Example:
        >>> print(visible("psnr\u202egnp.exe\n\x1b[2J"))
        psnr\u202egnp.exe\n\x1b[2J
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def shortened(text: str, most: int = 300) -> str:
    """A text in one line, the end of a long one left out.

    Example:
        >>> shortened("a.json, b.json, c.json: no score", 20)
        'a.json, b.json, c.js... (12 more characters)'
    """
    line = visible(" ".join(text.split()))
    rest = len(line) - most
    return line if rest <= 0 else f"{line[:most]}... ({counted(rest, 'more character')})"


def _text(value: object) -> str:
    return html.escape(visible(str(value)))
