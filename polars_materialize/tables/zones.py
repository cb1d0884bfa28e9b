"""Time zones of Arrow schemas that Polars panics at: offsets such as `+05:30`, which are no names of zones.

They are looked for before Polars is, whose panic writes a hundred lines to standard error.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from polars_materialize import warm
from polars_materialize.errors import TableError, listing

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

ALLOW = "POLARS_IGNORE_TIMEZONE_PARSE_ERROR"
"""The variable with which Polars takes them, and keeps them as they are."""
OFFSET = r"[+-]?\d\d(?::?\d\d)?"
MAY_HAVE_ONE = re.compile(rb"[+-]?\d\d(?::?\d\d)?\0")
UTC = "+00:00"


def refuse_offsets(written: str, schema: bytes, read: Callable[[], pa.Schema]) -> None:
    """Refuses columns of times in a zone that is an offset.

    Args:
        written: The file.
        schema: The bytes of its Arrow schema, and perhaps more.
        read: Reads that schema.

    Raises:
        TableError: Names the columns and their zones.
    """
    if os.environ.get(ALLOW) == "1" or not MAY_HAVE_ONE.search(schema):
        return
    with warm.importing:
        import pyarrow as pa  # noqa: PLC0415 - slow to import

    try:
        fields = list(read())
    except (pa.ArrowException, ValueError, OSError):  # whoever reads its rows says what is wrong with it
        return
    zones = {}
    for field in fields:
        found = re.search(rf"tz=({OFFSET})\]", str(field.type))
        if found and found[1] != UTC:
            zones[field.name] = found[1]
    if zones:
        problem = f"the columns {listing(zones)} hold times at the offset {next(iter(zones.values()))}"
        hint = f"expected a named zone such as UTC; or set {ALLOW}=1, with which offsets are kept"
        raise TableError(written, f"{problem}, which Polars takes for no time zone; {hint}")
