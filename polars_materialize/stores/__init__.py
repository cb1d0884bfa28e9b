"""Objects in stores (`s3://`, `gs://`, `az://`) and on the web (`https://`), beside files of this machine.

A `Place` is either: a `Path`, or a `Url` with the options to reach it by. Tables of Parquet and Arrow are
read by Polars where they are; what is read more than once, all text, is copied to this machine first, so
that all of it is of one version. What is written comes to a file of this machine first, and is sent when it
is complete.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import io
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from polars_materialize import warm
from polars_materialize.errors import InputChangedError, OptionError, OutputError, TableError
from polars_materialize.stores.copies import AT_ONCE, Copies, new_prefix
from polars_materialize.stores.errors import MissingError, StoreError, in_one_line
from polars_materialize.stores.objects import Bucket, State, open_bucket
from polars_materialize.stores.options import StorageOptions, check_storage_options, for_polars
from polars_materialize.stores.urls import BUCKETS, Address, is_url, parse, real

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Buffer

    from polars_materialize.stores.web import Web

__all__ = [
    "Copies",
    "Place",
    "State",
    "StorageOptions",
    "StoreError",
    "Url",
    "below",
    "check_storage_options",
    "find_objects",
    "in_one_line",
    "is_url",
    "local_folder",
    "locate",
    "matches",
    "parse",
    "real",
    "refuse_output",
    "refuse_url",
    "states",
    "uploaded",
]


class Url:
    """An object in a store.

    Attributes:
        written: Its url, as the user wrote it or as it was listed.
        address: Its parts.
        copied: Whether it is read from a copy on this machine.
    """

    def __init__(
        self,
        written: str,
        options: StorageOptions | None = None,
        *,
        seen: State | None = None,
        copies: Copies | None = None,
    ) -> None:
        """Asks nothing of the store.

        Raises:
            TableError: If the url is not one.
        """
        self.written = written
        self.address = parse(written)
        self._options = {} if options is None else options
        self.copied = self.address.scheme not in BUCKETS
        self._seen = seen
        self._copies = Copies() if copies is None else copies
        self._number = self._copies.add(self)

    def __repr__(self) -> str:
        """Without its options, which may be secrets."""
        return f"Url({self.written!r})"

    def __str__(self) -> str:
        """The url; two of the same object are the same text."""
        return str(self.address)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.address.path.rpartition("/")[2]

    @property
    def size(self) -> int:
        """Its size in bytes; -1 if that is not known."""
        return -1 if self._seen is None else self._seen.size

    def seen(self) -> State | None:
        """Its state when it was first looked at; none if there is no such object.

        Raises:
            StoreError: If its store does not say.
        """
        if self._seen is None:
            self._seen = self.state()
        return self._seen

    def is_other(self, now: State | None) -> bool:
        """Whether its state is not the one that was seen first."""
        return self._seen is None or self._seen.is_other(now)

    def state(self) -> State | None:
        """Its state now."""
        store, key = self._store()
        return store.state(key)

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """Opens its bytes: of its copy, or straight from the store.

        Raises:
            StoreError: If it cannot be read.
            InputChangedError: If it is not what it was when it was first looked at.
        """
        if self.copied:
            return self.local().open(mode)
        return cast("BinaryIO", io.BufferedReader(_Stream(self.blocks()), 1 << 20))

    def local(self) -> Path:
        """Its copy on this machine, which is there for as long as this is."""
        return self._copies.path(self._number)

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, as they come."""
        store, key = self._store()
        state, blocks = store.read(key)
        if self._seen is None:
            self._seen = state
        if self._seen.is_other(state):
            blocks.close()
            raise InputChangedError.of(self.written)
        return blocks

    def upload(self, path: Path) -> None:
        """Sends a file, which takes its place as a whole."""
        store, key = self._store()
        assert isinstance(store, Bucket), "outputs to the web were refused"  # noqa: S101
        store.upload(path, key)

    def check_writable(self) -> None:
        """Asks whether something can be sent, before there is something to send.

        Raises:
            StoreError: If not.
        """
        store, _ = self._store()
        assert isinstance(store, Bucket), "outputs to the web were refused"  # noqa: S101
        store.check_writable()

    def for_polars(self) -> dict[str, Any]:
        """What Polars' scans need to know to read it.

        Without a provider of its own Polars finds credentials where obstore does.
        """
        store, _ = self._store()
        return {"storage_options": for_polars(cast("Bucket", store).options), "credential_provider": None}

    def _store(self) -> tuple[Bucket | Web, str]:
        scheme, bucket, key = self.address
        if scheme in BUCKETS:
            return open_bucket(scheme, bucket, self._options), key
        with warm.importing:
            from polars_materialize.stores.web import Web  # noqa: PLC0415 - few need it, and it is large

        return Web(self._options, encrypted=scheme == "https"), str(self.address)


Place = Path | Url
"""Where a file or an object is."""


class _Stream(io.RawIOBase):
    """Blocks of bytes as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        into = memoryview(buffer)
        count = min(len(into), len(self._rest))
        into[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def locate(written: str, base_dir: Path | None, options: StorageOptions | None) -> Place:
    """Where something is: a url as it is, a path below a folder."""
    if is_url(written):
        return Url(written, options)
    return Path(written) if base_dir is None else base_dir / written


def states(places: Sequence[Url]) -> list[State | None]:
    """The states of objects now; none for those that are gone or cannot be reached."""

    def state(url: Url) -> State | None:
        try:
            return url.state()
        except StoreError:
            return None

    if len(places) < 2:
        return [state(url) for url in places]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="stores") as pool:
        return list(pool.map(state, places))


def refuse_url(path: str | os.PathLike[str] | None, option: str) -> None:
    """Refuses an option that must be a path of this machine.

    Raises:
        OptionError: If it is a url.
    """
    if path is not None and is_url(path):
        problem = f"{os.fspath(path)!r} is a url; expected a path of this machine"
        raise OptionError(f"{option}: {problem}", option=option)


def local_folder(base_dir: str | os.PathLike[str] | None) -> Path | None:
    """What relative paths are relative to.

    Raises:
        OptionError: If it is a url (urls are whole, or not urls), or no folder.
    """
    refuse_url(base_dir, "base_dir")
    if base_dir is None:
        return None
    folder = Path(base_dir)
    try:
        is_folder, is_there = folder.is_dir(), folder.exists()
    except (OSError, ValueError):  # it is too long, may not be looked at, or holds a NUL
        is_folder = is_there = False
    if not is_folder:
        problem = "is no folder" if is_there else "no such folder"
        raise OptionError(f"base_dir: {os.fspath(base_dir)}: {problem}", option="base_dir")
    return folder


def refuse_output(written: str) -> None:
    """Refuses urls that nothing is written to.

    Raises:
        OutputError: If it is one.
        TableError: If it is no url of an object.
    """
    if not is_url(written):
        return
    address = parse(written)
    if address.scheme != "s3":
        problem = f"outputs go to files or to s3://, not to {address.scheme}://"
        raise OutputError(f"{written}: {problem}", path=written)
    if not address.key or address.key.endswith("/"):
        raise OutputError(f"{written}: expected the name of an object, not a prefix", path=written)


@contextlib.contextmanager
def uploaded(url: Url) -> Iterator[Path]:
    """A path to write to; what is there when the block ends well is sent, and takes the place of the object.

    Raises:
        StoreError: If it cannot be sent.
    """
    refuse_output(url.written)
    url.check_writable()
    with tempfile.TemporaryDirectory(prefix=new_prefix(), ignore_cleanup_errors=True) as folder:
        part = Path(folder) / "part"
        yield part
        url.upload(part)


def find_objects(
    written: str, options: StorageOptions | None, *, folders: bool = False, deep: bool = False
) -> list[Url]:
    """The objects that a url, a glob of them or (with `folders` or `deep`) a prefix means, sorted by name.

    As `tables.find` does for paths: a key that exists is taken as it is, even if it holds glob characters;
    hidden objects of a prefix are passed over. With `deep` a prefix means those of prefixes in it, too, as
    `tables.find_shards` does for folders. The web cannot be listed.

    Raises:
        TableError: If there is no such object, or its store does not let it be read.
    """
    url = Url(written, options)
    try:
        if url.address.scheme not in BUCKETS:
            return [_existing(url)]
        if glob.has_magic(url.address.key):
            return _match(url, options)
        if url.address.key and not url.address.key.endswith("/") and url.seen() is not None:
            return [url]
        return _list_deep(url, options) if deep else _list(url, options, folders=folders)
    except MissingError:
        raise TableError(written, "no such object") from None
    except StoreError as error:
        raise TableError(written, str(error)) from None


def _existing(url: Url) -> Url:
    if url.seen() is None:
        raise MissingError
    return url


def _bucket(address: Address, options: StorageOptions | None) -> Bucket:
    return open_bucket(address.scheme, address.bucket, {} if options is None else options)


def _match(url: Url, options: StorageOptions | None) -> list[Url]:
    """The objects that match a glob, or the one that is called so."""
    parts = url.address.key.split("/")
    plain = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    deep = plain < len(parts) - 1 or parts[plain] == "**"
    listed = list(_bucket(url.address, options).list("/".join(parts[:plain]), deep=deep))
    objects = {key: state for key, state in listed if state is not None}
    if url.address.key in objects:
        return [Url(url.written, options, seen=objects[url.address.key])]
    found = {key: state for key, state in objects.items() if matches(parts, key.split("/"))}
    if not found:
        raise TableError(url.written, "no object matches")
    return _urls(url, options, found)


def _list(url: Url, options: StorageOptions | None, *, folders: bool) -> list[Url]:
    """The objects of a prefix."""
    prefix = url.address.key.rstrip("/")
    listed = list(_bucket(url.address, options).list(prefix, deep=False))
    if not listed:
        raise MissingError
    if not folders:
        raise TableError(url.written, "is a prefix; expected an object, or a glob such as shards/*.parquet")
    names = {key.rpartition("/")[2]: (key, state) for key, state in listed}
    shown = {name: found for name, found in names.items() if name and not name.startswith(".")}
    inner = next((key for key, state in shown.values() if state is None), None)
    if inner is not None:
        raise TableError(
            f"{url.address.scheme}://{url.address.bucket}/{inner}",
            "is a prefix in a prefix; name the objects with a glob",
        )
    found = {key: state for key, state in shown.values() if state is not None and key != prefix}
    if not found:
        raise TableError(url.written, "the prefix is empty")
    return _urls(url, options, found)


def _list_deep(url: Url, options: StorageOptions | None) -> list[Url]:
    """The objects of a prefix and of those in it, but for hidden ones."""
    prefix = url.address.key.rstrip("/")
    listed = list(_bucket(url.address, options).list(prefix, deep=True))
    if not listed:
        raise MissingError
    prefixes = {"/".join(parts[:n]) for parts in (k.split("/") for k, _ in listed) for n in range(len(parts))}
    found = {}
    for key, state in listed:
        hidden = any(part[:1] in (".", "_") for part in below(url.written, key).split("/"))
        # What consoles make of a "folder" is an empty object that is called as a prefix is.
        if state is not None and not hidden and key != prefix and not (key in prefixes and not state.size):
            found[key] = state
    if not found:
        raise TableError(url.written, "the prefix has no objects")
    return _urls(url, options, found)


def below(written: str, found: Url | str) -> str:
    """The name of an object, or of its key, below the prefix that it was found by; else its last part."""
    key = found.address.path if isinstance(found, Url) else found
    address = parse(written)
    prefix = address.key.rstrip("/")
    if glob.has_magic(address.key) or not (not prefix or key.startswith(f"{prefix}/")):
        return key.rpartition("/")[2]
    return key.removeprefix(f"{prefix}/") if prefix else key


def _urls(url: Url, options: StorageOptions | None, found: dict[str, State]) -> list[Url]:
    copies = Copies()
    start = f"{url.written.partition('://')[0]}://{url.address.bucket}/"
    return [Url(start + key, options, seen=found[key], copies=copies) for key in sorted(found)]


def matches(patterns: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a key matches a glob, part by part, by the rules of `glob`.

    Example:
        >>> [matches(["a", "**", "*.csv"], key.split("/")) for key in ("a/x.csv", "a/b/c/x.csv", "a/.x.csv")]
        [True, True, False]
    """
    if not patterns:
        return not parts
    pattern, *rest = patterns
    if pattern == "**":
        visible = next((n for n, part in enumerate(parts) if part.startswith(".")), len(parts))
        if not rest:
            return bool(parts) and visible == len(parts)
        return any(matches(rest, parts[skip:]) for skip in range(min(visible, len(parts)) + 1))
    if not parts or (parts[0].startswith(".") and not pattern.startswith(".")):
        return False
    return fnmatch.fnmatchcase(parts[0], pattern) and matches(rest, parts[1:])
