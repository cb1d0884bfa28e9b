"""Urls of objects as text: what is one, and what two of them that name the same object share."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from polars_materialize.errors import TableError

if TYPE_CHECKING:
    from pathlib import Path

BUCKETS = ("s3", "gs", "az")
"""The schemes of stores with buckets, which can be listed."""

SCHEMES = (*BUCKETS, "https", "http")

SIGNED = ("signature", "sig", "x-amz-signature", "x-goog-signature", "x-amz-credential", "token")
"""Names of query parameters that are secrets."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SLASH_LOST = re.compile(rf"({'|'.join(SCHEMES)}):/[^/]", re.IGNORECASE)


class Address(NamedTuple):
    """Where an object is.

    Attributes:
        scheme: What kind of store: one of `SCHEMES`.
        bucket: The bucket, or container; of a web address the host, and the port if it names one.
        key: The object's name in it; of a web address what comes after the host.
    """

    scheme: str
    bucket: str
    key: str

    @property
    def path(self) -> str:
        """The key without what is a query of the web."""
        return self.key if self.scheme in BUCKETS else urlsplit(f"//x/{self.key}").path.removeprefix("/")

    def __str__(self) -> str:
        """The url; two of the same object are the same text."""
        return f"{self.scheme}://{self.bucket}/{self.key}"


def is_url(written: str | os.PathLike[str]) -> bool:
    """Whether a path is the url of an object, and not a path of this machine.

    Example:
        >>> [is_url(text) for text in ("s3://bucket/f.csv", "runs/f.csv", "C:/f.csv", "ftp://host/f.csv")]
        [True, False, False, True]
    """
    text = os.fspath(written)
    return bool(_URL.match(text) or _SLASH_LOST.match(text))


def parse(written: str) -> Address:
    """Takes a url apart.

    Raises:
        TableError: If it is not of a known scheme, names no object, or holds a secret.

    Example:
        >>> parse("S3://bucket/shards/a.parquet")
        Address(scheme='s3', bucket='bucket', key='shards/a.parquet')
    """
    scheme, mark, rest = written.partition("://")
    if not mark:
        raise TableError(written, "a slash is missing; give urls as text, pathlib takes one out")
    scheme = scheme.lower()
    bucket, _, key = rest.partition("/")
    if "@" in bucket:
        shown = f"{scheme}://{bucket.rpartition('@')[2]}/{key.partition('?')[0]}"
        raise TableError(shown, "holds a user or a password, which reports would show")
    if scheme not in SCHEMES:
        known = " ".join(f"{name}://" for name in SCHEMES if name != "http")
        raise TableError(written, f"unknown kind of store; expected a path, or one of {known}")
    if not bucket:
        raise TableError(written, f"expected {scheme}://{'BUCKET' if scheme in BUCKETS else 'HOST'}/NAME")
    if scheme in BUCKETS:
        _check_key(written, key)
        return Address(scheme, bucket, key)
    _refuse_signed(f"{scheme}://{bucket}/{key}")
    return Address(scheme, bucket.lower(), quote(key.partition("#")[0], safe="/%:;,=&?+@!$'()*~[]"))


def _check_key(written: str, key: str) -> None:
    """Refuses what stores would take for another key than the one that is written."""
    parts = key.removesuffix("/").split("/")
    if key and any(part in ("", ".", "..") for part in parts):
        raise TableError(written, "parts of a name in a store cannot be empty, '.' or '..'")


def _refuse_signed(url: str) -> None:
    shown, _, query = url.partition("?")
    if any(name.lower() in SIGNED for name, _ in parse_qsl(query, keep_blank_values=True)):
        raise TableError(
            shown, "a signed url is a secret, which reports would show; download it, or name the object"
        )


def real(base_dir: Path | None, written: str) -> str:
    """What two names of one file or object share, as text.

    Example:
        >>> from pathlib import Path
        >>> real(Path("/runs"), "../f.csv"), real(Path("/runs"), "S3://bucket/f.csv")
        ('/f.csv', 's3://bucket/f.csv')
    """
    if is_url(written):
        return str(parse(written))
    return os.path.realpath(written if base_dir is None else base_dir / written)
