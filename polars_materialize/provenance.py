"""What a run was made of: hashes, versions and options, without clocks or host names.

The same bundle gives the same block wherever it runs: paths are as the user wrote them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from polars_materialize._version import __version__
from polars_materialize.errors import InputChangedError, OutputError, TableError
from polars_materialize.stores import StoreError, Url, in_one_line, is_url, states

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from polars_materialize.stores import Place

SCHEMA = "ai-run-provenance-v1"
SMALL_BYTES = 2**18
OBJECTS_AT_ONCE = 8

Base = Literal["working-directory", "base-dir", "manifest-folder"]
"""What relative paths are relative to: where the run was started, the option `base_dir`, or the manifest."""

Described = dict[str, Any]
"""A path: `path`, `exists`, `kind`, `sha256` (null for folders and missing files), `bytes`."""


def from_base(written: str, base_dir: Path | None) -> str:
    """A path that is relative to the working directory as one that is relative to a base; others as they are.

    Example:
        >>> from pathlib import Path
        >>> from_base("bundle/manifest.json", Path("bundle")), from_base("r.json", Path("bundle"))
        ('manifest.json', '../r.json')
    """
    if base_dir is None or is_url(written) or Path(written).is_absolute() or not written:
        return written
    if os.path.realpath(base_dir) == str(Path.cwd()):
        return written
    return PurePath(os.path.relpath(written, base_dir)).as_posix()


def describe(written: str, path: Place, *, hashed: bool = True) -> Described:
    """Describes a path, with the hash of a file unless it is not wanted.

    Example:
        >>> from pathlib import Path
        >>> describe("no/such.csv", Path("no/such.csv"))
        {'path': 'no/such.csv', 'exists': False, 'kind': 'missing', 'sha256': None, 'bytes': None}
    """
    if isinstance(path, Url):
        return _described_object(written, path, hashed=hashed)
    if path.is_file():
        digest = sha256(path) if hashed else None
        return _described(written, "file", digest, path.stat().st_size)
    return _described(written, "directory" if path.is_dir() else "missing", None, None)


def _described_object(written: str, url: Url, *, hashed: bool) -> Described:
    state = file_state(url)
    if state is None:
        return _described(written, "missing", None, None)
    digest = None
    with contextlib.suppress(StoreError, InputChangedError):  # what can be said of it is said
        digest = sha256(url) if hashed else None
    return _described(written, "file", digest, _size(state))


def as_written(written: str, kind: str) -> Described:
    """Describes what is going to be written, whose size and hash nobody knows yet."""
    return _described(written, kind, None, None)


def describe_bytes(written: str, content: bytes) -> Described:
    """Describes a file by what was read from it."""
    return _described(written, "file", hashlib.sha256(content).hexdigest(), len(content))


def _described(written: str, kind: str, digest: str | None, size: int | None) -> Described:
    return {
        "path": written,
        "exists": kind != "missing",
        "kind": kind,
        "sha256": digest,
        "bytes": size,
    }


def sha256(path: Place) -> str:
    """The SHA-256 of a file's or an object's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(cast("io.BufferedReader", stream), "sha256").hexdigest()


class Hasher:
    """Hashes files in threads beside the work, each file once for all tables of a run.

    Use as a context manager, so that the threads end with the run.
    """

    def __init__(self) -> None:
        """Begins with nothing hashed."""
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._waiting = ThreadPoolExecutor(OBJECTS_AT_ONCE)
        self._known: dict[str, tuple[object, Future[str]]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drops what nobody waits for any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._waiting.shutdown(wait=True, cancel_futures=True)

    def submit(self, written: str, path: Place, state: object) -> Future[str]:
        """The hash of a file whose size and times are `state`, when it is ready.

        Raises:
            InputChangedError: If another table of the run has read another state of the file.
        """
        real = str(path) if isinstance(path, Url) else os.path.realpath(path)
        with self._lock:  # tables may run side by side
            if real not in self._known:
                self._known[real] = state, self._begin(path)
            known, digest = self._known[real]
        if known != state:
            raise InputChangedError.of(written)
        return digest

    def _begin(self, path: Place) -> Future[str]:
        """Begins to hash a file; a small one is hashed at once, since handing it over takes longer."""
        if isinstance(path, Url):  # its store is waited for, whatever its size
            return self._waiting.submit(sha256, path)
        digest: Future[str] = Future()
        try:
            if path.stat().st_size <= SMALL_BYTES:
                digest.set_result(sha256(path))
                return digest
        except OSError as error:  # who needs the file says so in better words
            digest.set_exception(error)
            return digest
        return self._pool.submit(sha256, path)


class Inputs:
    """The inputs of one table: hashed, and proved unchanged at its end."""

    def __init__(self, hasher: Hasher | None) -> None:
        """Begins with no inputs; without a hasher only their sizes and times are watched."""
        self._hasher = hasher
        self._files: dict[str, dict[str, _Watched]] = {}

    def add(self, role: str, files: Iterable[tuple[str, Place]]) -> None:
        """Takes note of files, as they are now, and begins to hash them.

        Args:
            role: What the files are to the run: `features`, `scores`, `manifest`, ...
            files: Each as the user wrote it, and where it is.
        """
        known = self._files.setdefault(role, {})
        for written, path in files:
            if written not in known:
                known[written] = _Watched(written, path, self._hasher)

    def paths(self) -> list[tuple[str, Place]]:
        """Every file or object, as the user wrote it, and where it is."""
        return [(one.written, one.path) for files in self._files.values() for one in files.values()]

    def refuse_as_outputs(self, outputs: Iterable[tuple[str, Place]]) -> None:
        """Refuses outputs that would overwrite an input, or one another.

        Raises:
            OutputError: Names the output and the input.
        """
        taken: dict[object, str] = {}
        for files in self._files.values():
            for watched in files.values():
                taken[_identity(watched.path)] = f"the input {watched.written}"
        for written, path in outputs:
            identity = _identity(path)
            if identity in taken:
                raise OutputError(
                    f"{written}: is also {taken[identity]}; expected a file of its own", path=written
                )
            taken[identity] = f"the output {written}"

    def refuse_changed(self) -> None:
        """Refuses to go on if a file is not what it was when it was added.

        Raises:
            InputChangedError: Names the file.
            TableError: If one could not be hashed.
        """
        every = [watched for files in self._files.values() for watched in files.values()]
        objects = [watched.path for watched in every if isinstance(watched.path, Url)]
        now = dict(zip(objects, states(objects), strict=True))  # asked for side by side
        for watched in every:
            problem = None if watched.digest is None else watched.digest.exception()
            if isinstance(watched.path, Url):
                changed = watched.path.is_other(now[watched.path])
            else:
                changed = file_state(watched.path) != watched.state
            if changed:
                raise InputChangedError.of(watched.written)
            if isinstance(problem, OSError):
                raise TableError(watched.written, f"cannot be read: {in_one_line(problem)}")
            if problem is not None:
                raise problem

    def described(self) -> dict[str, list[Described]]:
        """Every file by role, sorted by path."""
        return {
            role: [files[written].described() for written in sorted(files)]
            for role, files in self._files.items()
        }


class _Watched:
    """A file as it was when it was first seen."""

    def __init__(self, written: str, path: Place, hasher: Hasher | None) -> None:
        self.written = written
        self.path = path
        self.state = file_state(path)
        self.digest = None if hasher is None else hasher.submit(written, path, self.state)

    def described(self) -> Described:
        # Of a file that could not be hashed `refuse_changed` says so.
        failed = self.digest is None or self.digest.exception() is not None
        digest = None if self.digest is None or failed else self.digest.result()
        return _described(self.written, "file", digest, _size(self.state))


def _size(state: tuple[Any, ...] | None) -> int | None:
    """The size in a state; none if there is no file, or its server does not say."""
    return state[0] if state is not None and state[0] >= 0 else None


def file_state(path: Place) -> tuple[Any, ...] | None:
    """What changes when a file is written to; none if there is no file.

    Of an object it is what was seen when it was first looked at.
    """
    try:
        if isinstance(path, Url):
            return path.seen()
        status = path.stat()
    except OSError:
        return None
    # The time of change tells of a rewrite that puts the time of modification back.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _identity(path: Place) -> object:
    """What two names of one file share, whether it exists or not."""
    if isinstance(path, Url):
        return str(path)
    try:
        status = path.stat()
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


@cache
def _version(package: str) -> str:
    """The version of a package; looking it up takes a millisecond, and there may be many tables."""
    return version(package)


def versions() -> dict[str, str]:
    """The versions that decide what a run writes."""
    return {
        "polars_materialize": __version__,
        "python": platform.python_version(),
        "polars": _version("polars"),
        "pyarrow": _version("pyarrow"),
    }


def run_provenance(
    *,
    entrypoint: str,
    argv: Sequence[str],
    args: Mapping[str, Any],
    inputs: Mapping[str, Described | Sequence[Described]],
    outputs: Mapping[str, Described | Sequence[Described]],
    others: Mapping[str, str] | None = None,
    base: Base = "working-directory",
) -> dict[str, Any]:
    """The `run_provenance` block of an audit or a report.

    Args:
        entrypoint: What ran, such as `polars_materialize second-opinion batch`.
        argv: The command line's arguments; empty for a call from Python.
        args: Every effective option.
        inputs: The described inputs by role.
        outputs: The described outputs by role.
        others: Versions of what not every run uses, by name.
        base: What all relative paths in it, but for those of `argv`, are relative to.
    """
    return {
        "schema": SCHEMA,
        "entrypoint": {"module": "polars_materialize", "run": entrypoint, "version": __version__},
        "argv": list(argv),
        "args": dict(args),
        "inputs": dict(inputs),
        "outputs": dict(outputs),
        "versions": {**versions(), **(others or {})},
        "base_dir": base,
    }
