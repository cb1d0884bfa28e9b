"""Which files a path means, and which format each of them is in."""

from __future__ import annotations

import glob
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast
from urllib.parse import unquote

from polars_materialize import warm
from polars_materialize.errors import TableError, listing
from polars_materialize.stores import Place, Url, below, find_objects, is_url, locate
from polars_materialize.tables.failures import unreadable
from polars_materialize.texts import PROBLEM, is_utf8

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from polars_materialize.stores import StorageOptions

Format = Literal["parquet", "jsonl", "json", "csv", "ipc", "xml"]

SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
}
SMALL_BYTES = 2**16
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
SCANNED: tuple[Format, ...] = ("parquet", "ipc")
"""What Polars reads by ranges, and so where it is; all else is read as a whole, and more than once."""
COMPRESSIONS: dict[str, Literal["gzip", "zstd"]] = {".gz": "gzip", ".zst": "zstd"}
TEXT_FORMATS: tuple[Format, ...] = ("jsonl", "json", "csv")
EXPECTED = f"{' '.join(SUFFIXES)}, and for text formats also {' '.join(COMPRESSIONS)}"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the text of files is laid out, where their suffix does not say.

    Attributes:
        format: Their format, whatever their suffix.
        columns: The names of a CSV's columns, if it has no header.
        trimmed: Whether blanks around a CSV's names and cells are taken away, and a comma at their end.
        evidence: Whether they are evidence, which may be XML, and whose format may be named.
        texts: The columns that are text as it is written, even of digits; in lower case.
    """

    format: Format | None = None
    columns: tuple[str, ...] | None = None
    trimmed: bool = False
    evidence: bool = False
    texts: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        text: Literal["auto", "csv", "json", "xml"],
        columns: Sequence[str] | None,
        texts: Sequence[str] = (),
    ) -> Dialect:
        """What a format of evidence says of the text of its files."""
        if columns is not None:
            return cls("csv", tuple(columns), trimmed=True, evidence=True, texts=tuple(texts))
        form = None if text == "auto" else text
        return cls(form, trimmed=text == "csv", evidence=True, texts=tuple(texts))


PLAIN = Dialect()


@dataclass(frozen=True, slots=True)
class File:
    """One file or object: where it is, and how the user wrote it.

    Attributes:
        written: The path for messages, columns and reports, as the user wrote it.
        path: Where it is.
        format: What its suffix says.
        compression: What its last suffix says, if it is a compressed text file.
        dialect: How its text is laid out.
        partitions: What the folders that it lies in say of all its rows: columns, and their values as text.
    """

    written: str
    path: Place
    format: Format
    compression: Literal["gzip", "zstd"] | None = None
    dialect: Dialect = PLAIN
    partitions: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def of(
        cls,
        written: str | os.PathLike[str],
        base_dir: Path | None = None,
        dialect: Dialect = PLAIN,
        *,
        storage_options: StorageOptions | None = None,
        place: Place | None = None,
    ) -> File:
        """The file that `written` names, relative to `base_dir`; or the one at `place`, which was found.

        Raises:
            TableError: If the suffix is not of a known format, or a url is not one of an object.
        """
        text = str(written)
        _refuse_unwritable(text)
        path = locate(text, base_dir, storage_options) if place is None else place
        name = Path((path.address.path if isinstance(path, Url) else text).lower())
        compression = COMPRESSIONS.get(name.suffix)
        if compression is not None:
            name = name.with_suffix("")
        known = "xml" if dialect.evidence and name.suffix == ".xml" else SUFFIXES.get(name.suffix)
        # Parquet and Arrow hold their names themselves, and JSON lines are one way to write JSON.
        if known not in ("parquet", "ipc") and (dialect.format, known) != ("json", "jsonl"):
            known = dialect.format or known
        if known is None or (compression is not None and known not in (*TEXT_FORMATS, "xml")):
            hint = "; or say the format (polars-materialize formats lists them)" if dialect.evidence else ""
            raise TableError(text, f"unknown kind of table; expected one of {EXPECTED}{hint}")
        if isinstance(path, Url):
            path.copied |= known not in SCANNED
        return cls(text, path, known, compression, dialect)

    @property
    def stem(self) -> str:
        """The file's name less its suffixes."""
        name = Path(self.path.name if isinstance(self.path, Url) else self.written).name
        name = name if self.compression is None else Path(name).stem
        return Path(name).stem

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine, or is read from a copy here."""
        return isinstance(self.path, Path) or self.path.copied

    def local(self) -> Path:
        """The file of this machine that holds its bytes, for as long as this is there."""
        return self.path if isinstance(self.path, Path) else self.path.local()

    def open(self) -> BinaryIO:
        """Opens the file's bytes, decompressed.

        Raises:
            TableError: If it cannot be; also later, on reading bytes that are damaged.
        """
        if self.compression is None:
            return self.path.open("rb")
        with warm.importing:
            import pyarrow as pa  # noqa: PLC0415 - only compressed files need it

        # Unlike a plain gzip reader this takes files of several members and refuses truncated ones.
        try:
            stream = pa.input_stream(str(self.local()), compression=self.compression)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(self.written, error) from None
        return cast("BinaryIO", io.BufferedReader(_Decompressed(stream, self.written, pa.ArrowException)))


class _Decompressed(io.RawIOBase):
    """Decompressed bytes; an error of those that are damaged names the file, wherever it comes up."""

    def __init__(self, stream: BinaryIO, written: str, failure: type[Exception]) -> None:
        self.stream = stream
        self.written = written
        self.failures = (OSError, failure)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        try:
            return cast("io.RawIOBase", self.stream).readinto(buffer) or 0
        except self.failures as error:
            raise unreadable(self.written, error) from None

    def close(self) -> None:
        self.stream.close()
        super().close()


def find(
    written: str | os.PathLike[str],
    base_dir: Path | None = None,
    *,
    folders: bool = False,
    dialect: Dialect = PLAIN,
    storage_options: StorageOptions | None = None,
) -> list[File]:
    """The files that a path, a url, a glob or (with `folders`) a folder means, sorted by name.

    A path that exists is taken as it is, even if it holds glob characters. Hidden files in a folder
    are passed over. For a table in a folder of shards see `find_shards`.

    Raises:
        TableError: If there is no such file, or a file's suffix is not of a known format.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("b.csv", "a.csv"):
        ...         _ = (Path(folder) / name).write_text("clip_id")
        ...     [file.written for file in find("*.csv", Path(folder))]
        ['a.csv', 'b.csv']
    """
    text = str(written)
    _refuse_unwritable(text)
    if is_url(text):
        urls = find_objects(text, storage_options, folders=folders)
        return [File.of(url.written, dialect=dialect, place=url) for url in urls]
    path = Path(text) if base_dir is None else base_dir / text
    found = _found(path, text)
    if found == "file":
        return [File.of(text, base_dir, dialect)]
    if found == "folder":
        if not folders:
            raise TableError(text, "is a folder; expected a file, or a glob such as shards/*.parquet")
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        if not names:
            raise TableError(text, "the folder is empty")
        stem = text.rstrip("/\\")
        inner = next((name for name in names if (path / name).is_dir()), None)
        if inner is not None:
            raise TableError(f"{stem}/{inner}", "is a folder in a folder; name the files with a glob")
        return [File.of(f"{stem}/{name}", base_dir, dialect) for name in names]
    if glob.has_magic(text):
        names = sorted(glob.glob(text, root_dir=base_dir, recursive=True))  # noqa: PTH207 - keeps the text
        files = [File.of(name, base_dir, dialect) for name in names if not _is_dir(name, base_dir)]
        if not files:
            raise TableError(text, "no file matches")
        return files
    raise TableError(text, "no such file")


def find_shards(
    written: str | os.PathLike[str],
    base_dir: Path | None = None,
    storage_options: StorageOptions | None = None,
) -> list[File]:
    """The files of a table: of a path, a url, a glob, or a folder or prefix of shards, sorted by name.

    Folders in a folder are read, too; those called `name=value`, as Hive calls them, say what a column is in
    all rows below. Files and folders whose names begin with `.` or `_` are passed over.

    Raises:
        TableError: As `find`; if files lie in folders of different columns.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     (Path(folder) / "t/split=train").mkdir(parents=True)
        ...     _ = (Path(folder) / "t/split=train/0.parquet").write_text("")
        ...     [(file.written, file.partitions) for file in find_shards("t", Path(folder))]
        [('t/split=train/0.parquet', (('split', 'train'),))]
    """
    text = str(written)
    _refuse_unwritable(text)
    if is_url(text):
        objects = find_objects(text, storage_options, deep=True)
        return _agreeing([(File.of(url.written, place=url), below(text, url)) for url in objects])
    root = Path(text) if base_dir is None else base_dir / text
    if _found(root, text) != "folder":
        return find(written, base_dir)
    stem = text.rstrip("/\\")
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    shown = []
    for name in sorted(name for name in found if not any(part[0] in "._" for part in name.split("/"))):
        path = found[name]
        if path.is_file():
            shown.append(name)
        elif path.is_symlink() or not path.is_dir():  # nothing of a table is left out in silence
            problem = "is a link that leads to no file" if path.is_symlink() else "is a device or a pipe"
            raise TableError(f"{stem}/{name}", f"{problem}; expected files and folders")
    if not shown:
        raise TableError(text, "the folder has no files")
    return _agreeing([(File.of(f"{stem}/{name}", base_dir), name) for name in shown])


def _found(path: Path, written: str) -> Literal["file", "folder"] | None:
    """What is at a path; nothing may be there yet, or it may be a glob."""
    try:
        return "file" if path.is_file() else "folder" if path.is_dir() else None
    except OSError as error:  # too long a name, or a folder that may not be looked into
        raise TableError(written, f"cannot be looked for: {error.strerror}") from None


def _agreeing(found: Sequence[tuple[File, str]]) -> list[File]:
    """Files with what their folders say, given their names below that of the table."""
    files = [replace(file, partitions=_partitions(name)) for file, name in found]
    columns = [name for name, _ in files[0].partitions]
    for file in files:
        own = [name for name, _ in file.partitions]
        twice = [name for name in own if own.count(name) > 1]
        if twice:
            raise TableError(file.written, f"lies in several folders of {twice[0]!r}; expected one")
        if own != columns:
            problem = (
                f"lies in folders of {listing(own) or 'no column'}, but of {listing(columns) or 'none'} in "
            )
            raise TableError(file.written, f"{problem}{files[0].written}; the files of a table must agree")
    return files


def _partitions(name: str) -> tuple[tuple[str, str | None], ...]:
    """What the folders of a file say, as Hive writes it: `column=value`."""
    found = []
    for part in name.split("/")[:-1]:
        column, equals, value = part.partition("=")
        if equals and column:
            found.append((unquote(column), None if value == HIVE_NULL else unquote(value)))
    return tuple(found)


def is_small(file: File) -> bool:
    """Whether reading a file takes so little that what is done around it counts more."""
    return is_up_to(file.path, SMALL_BYTES)


def is_up_to(place: Place, size: int) -> bool:
    """Whether there is a file or an object that is known to have at most so many bytes."""
    if isinstance(place, Url):
        return 0 <= place.size <= size
    try:
        return place.is_file() and place.stat().st_size <= size
    except OSError:
        return False  # reading it says what is wrong


def _refuse_unwritable(text: str) -> None:
    if not text.strip():
        raise TableError(repr(text), "expected a path")
    if "\0" in text:
        raise TableError(text.replace("\0", "\\0"), "a path cannot hold a NUL character")
    if not is_utf8(text):
        raise TableError(ascii(text), f"the path {PROBLEM}")


def _is_dir(name: str, base_dir: Path | None) -> bool:
    return (Path(name) if base_dir is None else base_dir / name).is_dir()
