"""What a Parquet output says of itself in its footer: its audit, behind the audits of earlier joins.

The footer holds one audit as an object, or several as a list, oldest first. It cannot hold the hash of the
file that it is part of. Readers load a whole footer before anything else, and pyarrow takes no text of more
than 100 MB in it; so where many files would be listed in it, their count and one hash stand for them.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from polars_materialize.stores import Url
from polars_materialize.tables import FOOTER_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from polars_materialize.tables import File

AUDITS = 64
"""How many audits of earlier joins a footer keeps."""

ALL_BYTES, LEAST_BYTES, MOST_BYTES = 2**26, 2**16, 2**24
"""How large the audits in the footers of all files of one output may be, and in the footer of one file."""


def limit(files: int) -> int:
    """How many bytes the audits in the footer of each of so many files may take.

    Example:
        >>> limit(1), limit(16), limit(100_000)
        (16777216, 4194304, 65536)
    """
    return max(LEAST_BYTES, min(MOST_BYTES, ALL_BYTES // files))


def earlier_audits(files: Iterable[File]) -> list[bytes]:
    """The audits that the Parquet files of a table carry, each once, in order."""
    found: dict[bytes, None] = {}
    for file in files:
        if file.format == "parquet":
            found.update(dict.fromkeys(_audits(_footer(file))))
    return list(found)


def _footer(file: File) -> bytes:
    try:
        if isinstance(file.path, Url) and not file.path.copied:
            pairs = pl.read_parquet_metadata(str(file.path), **file.path.for_polars())
        else:
            pairs = pl.read_parquet_metadata(file.local())
        return pairs.get(FOOTER_KEY, "").encode()
    except (pl.exceptions.PolarsError, OSError):  # whoever reads its rows says what is wrong with it
        return b""


def _audits(text: bytes) -> list[bytes]:
    """The audits in a footer, as they are there; what is not JSON is kept as text."""
    if not text:
        return []
    try:
        text.decode()
        several = text.lstrip().startswith(b"[")
        audits = msgspec.json.decode(text if several else b"[" + text + b"]", type=list[msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return [json.dumps(text.decode(errors="replace")).encode()]
    return [bytes(audit) for audit in audits]


def footer_text(audit: msgspec.Struct, earlier: Sequence[bytes], most: int) -> str:
    """The audit of a table behind those of earlier joins, in at most about so many bytes.

    What does not fit is counted: the oldest audits as `{"audits_left_out": 3}`, and the files of a role as
    `{"files": 9000, "bytes": 1048576, "sha256": "..."}`, the hash of the lines that `sha256sum` prints.

    Args:
        audit: The audit.
        earlier: The audits of earlier joins, oldest first.
        most: How many bytes they may take.
    """
    own = msgspec.json.encode(audit, order="sorted")
    if len(own) > most:
        own = msgspec.json.encode(_shortened(msgspec.to_builtins(audit)), order="sorted")
    kept: list[bytes] = []
    left = most - len(own)
    for one in reversed(earlier):
        left -= len(one) + 1
        if left < 0 or len(kept) == AUDITS:
            break
        kept.insert(0, one)
    if len(kept) < len(earlier):
        kept.insert(0, b'{"audits_left_out":%d}' % (len(earlier) - len(kept)))
    text = b"[" + b",".join([*kept, own]) + b"]" if kept else own
    try:
        return msgspec.json.format(text, indent=2).decode()
    except RecursionError:  # an earlier one is nested as deep as can be read
        return text.decode()


def _shortened(audit: dict[str, Any]) -> dict[str, Any]:
    """An audit whose provenance counts the files of roles with several."""
    provenance = audit["run_provenance"]
    counted = {
        side: {role: _counted(files) if isinstance(files, list) else files for role, files in roles.items()}
        for side, roles in provenance.items()
        if side in ("inputs", "outputs")
    }
    return {**audit, "run_provenance": {**provenance, **counted}}


def _counted(files: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    lines = "".join(f"{file['sha256']}  {file['path']}\n" for file in files)
    sizes, hashes = [file["bytes"] for file in files], [file["sha256"] for file in files]
    return {
        "files": len(files),
        "bytes": None if None in sizes else sum(sizes),
        "sha256": None if None in hashes else hashlib.sha256(lines.encode()).hexdigest(),
    }
