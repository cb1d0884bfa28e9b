"""Measures one command in a process of its own: seconds, processor seconds, peak memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WATCH_SECONDS = 0.2


@dataclass(frozen=True)
class Measurement:
    """What one run took.

    Attributes:
        seconds: From start to end, by the clock.
        cpu_seconds: Of all its processes, in user and in system code.
        peak_bytes: The largest resident set of any one of them.
        problem: Why it did not end well, if so.
        stopped: Whether it was this suite that ended it, at one of its limits.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    problem: str | None = None
    stopped: bool = False


def run(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float, memory: int
) -> Measurement:
    """Runs a command to its end.

    Args:
        command: The program and its arguments.
        env: Its environment.
        cwd: Its working folder.
        timeout: Seconds after which it is ended.
        memory: Bytes of resident memory above which it is ended, before the system ends something else.
    """
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env=dict(env), cwd=cwd, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
        )
        watch = _Watch(process.pid, timeout, memory)
        try:
            # wait4 tells what this child and the children that it waited for used, and no others.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _end(process.pid)
            process.wait()
            raise
        finally:
            watch.stop()
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        problem = watch.reason
        if problem is None and process.returncode:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            problem = f"exit status {process.returncode}: {lines[-1] if lines else 'nothing on stderr'}"
    peak = usage.ru_maxrss * 1024  # Linux counts in KiB
    cpu = usage.ru_utime + usage.ru_stime
    return Measurement(seconds, cpu, peak, problem, stopped=watch.reason is not None)


class _Watch:
    """Ends a process that takes too long or too much memory."""

    def __init__(self, pid: int, timeout: float, memory: int) -> None:
        self.reason: str | None = None
        self._pid, self._timeout, self._memory = pid, timeout, memory
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        deadline = time.monotonic() + self._timeout
        while self.reason is None and not self._stopped.wait(WATCH_SECONDS):
            if time.monotonic() > deadline:
                self.reason = f"ended after {self._timeout:g} s"
            elif _resident(self._pid) > self._memory:
                self.reason = f"ended above {self._memory / 1e9:.1f} GB of memory"
        if self.reason is not None:
            _end(self._pid)


def _resident(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _end(pid: int) -> None:
    """Ends a process that this module started, and what that started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def warm(paths: Iterable[Path]) -> None:
    """Reads files once, so that no contender pays for the disk that another was spared."""
    buffer = bytearray(1 << 20)
    for path in paths:
        if not path.is_dir():
            _read(path, buffer)
            continue
        with os.scandir(path) as entries:  # never as a list: this process has to stay small
            for entry in entries:
                _read(entry.path, buffer)


def _read(path: str | Path, buffer: bytearray) -> None:
    with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - there may be 100,000 of them
        while stream.readinto(buffer):
            pass


def available_memory() -> int:
    """Bytes that processes can take before the system swaps or ends one."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
