"""Which files a path means, and which format each of them is in."""

from __future__ import annotations

import glob
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from polars_materialize.errors import TableError
from polars_materialize.stores import Place, Url, find_objects, is_url, locate

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

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
    """

    format: Format | None = None
    columns: tuple[str, ...] | None = None
    trimmed: bool = False
    evidence: bool = False

    @classmethod
    def of(cls, text: Literal["auto", "csv", "json", "xml"], columns: Sequence[str] | None) -> Dialect:
        """What a format of evidence says of the text of its files."""
        if columns is not None:
            return cls("csv", tuple(columns), trimmed=True, evidence=True)
        return cls(None if text == "auto" else text, trimmed=text == "csv", evidence=True)


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
    """

    written: str
    path: Place
    format: Format
    compression: Literal["gzip", "zstd"] | None = None
    dialect: Dialect = PLAIN

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
        if not (dialect.format == "json" and known == "jsonl"):
            known = dialect.format or known
        if known is None or (compression is not None and known not in TEXT_FORMATS):
            hint = "; or say the format (polars-materialize formats lists them)" if dialect.evidence else ""
            raise TableError(text, f"unknown kind of table; expected one of {EXPECTED}{hint}")
        if isinstance(path, Url):
            path.copied |= known not in SCANNED
        return cls(text, path, known, compression, dialect)

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine, or is read from a copy here."""
        return isinstance(self.path, Path) or self.path.copied

    def local(self) -> Path:
        """The file of this machine that holds its bytes, for as long as this is there."""
        return self.path if isinstance(self.path, Path) else self.path.local()

    def open(self) -> BinaryIO:
        """Opens the file's bytes, decompressed."""
        if self.compression is None:
            return self.path.open("rb")
        import pyarrow as pa  # noqa: PLC0415 - only compressed files need it

        # Unlike a plain gzip reader this takes files of several members and refuses truncated ones.
        stream = pa.input_stream(str(self.local()), compression=self.compression)
        return cast("BinaryIO", io.BufferedReader(stream))


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
    are passed over.

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
    if path.is_file():
        return [File.of(text, base_dir, dialect)]
    if path.is_dir():
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


def is_small(file: File) -> bool:
    """Whether reading a file takes so little that what is done around it counts more."""
    if isinstance(file.path, Url):
        return 0 <= file.path.size <= SMALL_BYTES
    try:
        return file.path.stat().st_size <= SMALL_BYTES
    except OSError:
        return False  # reading it says what is wrong


def _refuse_unwritable(text: str) -> None:
    if "\0" in text:
        raise TableError(text.replace("\0", "\\0"), "a path cannot hold a NUL character")
    if not text.isascii() and text.encode(errors="ignore").decode() != text:
        raise TableError(ascii(text), "the path is not UTF-8 text, which no report could hold")


def _is_dir(name: str, base_dir: Path | None) -> bool:
    return (Path(name) if base_dir is None else base_dir / name).is_dir()
