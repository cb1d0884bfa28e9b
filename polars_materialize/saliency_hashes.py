"""The clips of a table as inputs of its run: hashed beside decoding, and proved unchanged at its end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polars_materialize import warm
from polars_materialize.errors import InputChangedError
from polars_materialize.provenance import file_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future

    from polars_materialize.provenance import Described, Hasher
    from polars_materialize.saliency.clips import Clip

    State = tuple[Any, ...] | None


class ClipHashes:
    """Watches the clips of one table.

    A clip that was measured has to be what it was when its hash was begun; a clip that has no result may be
    missing, or change, and has no hash then.
    """

    def __init__(self, hasher: Hasher | None, folders: Sequence[Path]) -> None:
        """Begins without clips.

        Args:
            hasher: What hashes them; without, their hashes are null.
            folders: What their paths are relative to in the audit, each relative to the one before.
        """
        self._hasher = hasher
        self._folders = [os.fspath(folder) for folder in folders]
        self._states: dict[str, tuple[str, State]] = {}
        self._digests: dict[str, Future[str]] = {}
        self._measured: set[str] = set()

    def begin(self, clips: Iterable[Clip]) -> None:
        """Takes note of clips, and begins to hash them.

        Raises:
            InputChangedError: If another table of the run has read another state of a clip.
        """
        with warm.importing:
            from polars_materialize.saliency.clips import ClipError  # noqa: PLC0415 - an extra
            from polars_materialize.saliency.clips import file_state as clip_state  # noqa: PLC0415 - an extra

        for clip in clips:
            if not clip.path:  # a row that names none
                continue
            written = self._written(clip)
            if written in self._states:
                continue
            try:
                clip_state(clip)
            except ClipError:  # missing, or nothing that may be read
                self._states[written] = clip.path, None
                continue
            path = Path(clip.path)
            state = file_state(path)
            self._states[written] = clip.path, state
            if self._hasher is not None:
                self._digests[written] = self._hasher.submit(written, path, state)

    def measured(self, clips: Iterable[Clip]) -> None:
        """Takes note of the clips that have a result."""
        self._measured.update(self._written(clip) for clip in clips)

    def refuse_changed(self) -> None:
        """Refuses to go on if a clip that was measured is not what it was.

        Raises:
            InputChangedError: Names the clip.
        """
        for written in sorted(self._measured):
            hashed = self._hasher is None or self._digest(written) is not None
            if not (hashed and self._is_unchanged(written)):
                raise InputChangedError.of(written)

    def described(self) -> list[Described]:
        """Every clip, sorted by path."""
        found = []
        for written, (path, state) in sorted(self._states.items()):
            if state is None:
                found.append(_missing(written, path))
            else:
                one = {"path": written, "exists": True, "kind": "file", "bytes": state[0]}
                found.append({**one, "sha256": self._digest(written)})
        return found

    def _written(self, clip: Clip) -> str:
        """A clip's path, relative to what all paths of a run are relative to."""
        return os.path.join(*self._folders, clip.written)  # noqa: PTH118 - as written, not tidied up

    def _is_unchanged(self, written: str) -> bool:
        path, state = self._states[written]
        return file_state(Path(path)) == state

    def _digest(self, written: str) -> str | None:
        """The hash of a clip; none if it is not what it was."""
        digest = self._digests.get(written)
        if digest is None or digest.exception() is not None or not self._is_unchanged(written):
            return None
        return digest.result()


def _missing(written: str, path: str) -> Described:
    """What is at a path that names no clip."""
    folder = "\0" not in path and os.path.isdir(path)  # noqa: PTH112 - as written, not tidied up
    kind = "directory" if folder else "missing"
    return {"path": written, "exists": folder, "kind": kind, "sha256": None, "bytes": None}
