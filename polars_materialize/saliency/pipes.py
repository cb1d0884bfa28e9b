"""A program that decodes: what it writes, what it says of errors and of frames, and its end.

A program that hangs is ended with all that it has started.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from polars_materialize.errors import OptionError
from polars_materialize.saliency.clips import NOT_OPENED, ClipError, Tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Check = Callable[[], None]

TICK_S = 0.1
"""How often a program that says nothing is looked after."""

WORDS = 2_000
"""How much of what a program says of errors is kept, in bytes."""

LINE = 2**16
"""The longest line that is looked at whole, in bytes."""

HEADER = 1_000
"""More than the longest header of a YUV4MPEG2 stream or of one of its frames, in bytes."""

LEVELS = "level+info"
"""How much a program is to say, each line with how bad it is: errors, and what it says of frames."""

_PLACE = r"(?:\[[^\]]* @ 0x[0-9a-f]+\] )*"
_ADDRESS = re.compile(r"\[[^\]]* @ 0x[0-9a-f]+\] ")  # places in memory differ from run to run
_FRAME = re.compile(_PLACE + r"\[info\] n: *\d+ .* fmt:(\S+) .*\bs:(\d{1,9})x(\d{1,9}) ")
_COLOUR = re.compile(_PLACE + r"\[info\] color_range:(\S+) color_space:(\S+) .*\bcolor_trc:(\S+)")
_SHOWINFO = "[Parsed_showinfo_"
_LEVEL = re.compile(f"({_PLACE})" + r"\[(panic|fatal|error|warning|info|verbose|debug|trace)\] ")
_OWN = re.compile(r"\[(?:(?:vist|vost|vf|out|fc|ist|ost)#|AVFilterGraph)")
"""How lines begin that the program says of its own parts, in no fixed order, once a decoder has failed."""


class Said:
    """What a program says on its standard error.

    Attributes:
        frames: Of each frame its width and height, as the filter `showinfo` sees it.
        tags: What the first frame says of its pixels; none until it is known.
        turned: Whether a frame asks to be turned or mirrored.
    """

    def __init__(self) -> None:
        """Begins with nothing."""
        self.frames: list[tuple[int, int]] = []
        self.tags: Tags | None = None
        self.turned = False
        self._pix_fmt: str | None = None
        self._decoders: dict[str, None] = {}
        self._own: dict[str, None] = {}
        self._size = 0
        self._level = "error"
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Takes the next piece; an empty one ends the last line."""
        *lines, self._rest = (self._rest + (piece or b"\n")).split(b"\n")
        self._rest = self._rest[-LINE:]
        for line in lines:
            self._hear(line[:LINE].decode(errors="replace"))

    def words(self) -> str:
        """What it said of errors: the decoder's words, each once, or else the program's first."""
        return "\n".join(self._decoders or list(self._own)[:1])

    def _hear(self, line: str) -> None:
        if not line.startswith(_SHOWINFO):
            self._hear_words(line)
        elif "displaymatrix" in line:
            self.turned = True
        elif (found := _FRAME.match(line)) is not None:
            self.frames.append((int(found[2]), int(found[3])))
            self._pix_fmt = self._pix_fmt or found[1]
        elif self.tags is None and (found := _COLOUR.match(line)) is not None:
            space, transfer, span = (None if x == "unknown" else x for x in (found[2], found[3], found[1]))
            self.tags = Tags(self._pix_fmt, space, transfer, span)

    def _hear_words(self, line: str) -> None:
        found = _LEVEL.match(line)
        if found is not None:  # a line that does not say it goes on with the one before
            self._level, line = found[2], found[1] + line[found.end() :]
        if self._level in {"panic", "fatal", "error"} and line.strip() and self._size < WORDS:
            line = line[: WORDS - self._size]
            self._size += len(line)
            (self._own if _OWN.match(line) else self._decoders)[_ADDRESS.sub("", line)] = None


@contextmanager
def running(command: Sequence[str], check: Check) -> Iterator[tuple[Iterator[bytes], Said]]:
    """What a program writes, piece by piece, and what it says.

    It is ended with its children, whatever happens.

    Args:
        command: The program and its arguments.
        check: Called while waiting; raises if that took too long.

    Raises:
        OptionError: If it cannot be started.
        ClipError: If it fails, in its own words.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the user named the program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a group of its own, so that all of it can be ended
        )
    except OSError as error:  # it ran when options were checked: no clip is to blame
        raise OptionError(f"{command[0]}: does not run: {error.strerror}", option="ffmpeg_bin") from None
    with process:
        said = Said()
        try:
            yield _output(process, said, check), said
        finally:
            _end(process)


def _output(process: subprocess.Popen[bytes], said: Said, check: Check) -> Iterator[bytes]:
    """What the program writes to its standard output; what it says is heard first."""
    assert process.stdout is not None, "it is a pipe"  # noqa: S101
    assert process.stderr is not None, "it is a pipe"  # noqa: S101
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            check()
            # What is said of a frame is said before the frame is written.
            for ready, _ in sorted(selector.select(TICK_S), key=lambda one: one[0].fileobj is process.stdout):
                piece = os.read(ready.fd, 2**20)
                if not piece:
                    selector.unregister(ready.fileobj)
                if ready.fileobj is process.stderr:
                    said.feed(piece)
                elif piece:
                    yield piece
    while process.poll() is None:
        check()
        with suppress(subprocess.TimeoutExpired):
            process.wait(TICK_S)
    if process.returncode:
        words = own_words(said.words(), process.args) or f"ended with status {process.returncode}"
        raise ClipError("decode-failed", words)


def own_words(words: str, command: object) -> str:
    """The program's own words, without the place of the file on this machine."""
    if "not on whitelist" in words:
        return NOT_OPENED
    for argument in command if isinstance(command, list) else []:
        if str(argument).startswith("file:"):
            words = words.replace(str(argument), "the clip").replace(str(argument)[5:], "the clip")
    return words


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a program, and what it has started even if it has ended itself."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Stream:
    """Reads lines and blocks from pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        """Begins at the first piece."""
        self._pieces = pieces
        self._rest = b""

    def line(self) -> bytes:
        """Up to the next end of a line; empty at the end."""
        while b"\n" not in self._rest and len(self._rest) < HEADER:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def read(self, size: int) -> bytes:
        """The next `size` bytes."""
        parts, have = [self._rest], len(self._rest)
        while have < size:
            piece = next(self._pieces, b"")
            if not piece:
                raise ClipError("decode-failed", "the program ended within a frame")
            parts.append(piece)
            have += len(piece)
        content = b"".join(parts)
        self._rest = content[size:]
        return content[:size]
