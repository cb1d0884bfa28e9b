"""What tests have workers do: functions that other processes can import."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import polars as pl


def double(number):
    return 2 * number


def slow_double(number):
    time.sleep(0.1)
    return 2 * number


def fail_on_3(number):
    if number == 3:
        raise KeyError("not\nthis one")
    return number


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_on_3(number):
    if number == 3:
        die()
    time.sleep(0.05)
    return number


def die_once(place):
    """Kills its worker the first time."""
    path = Path(place)
    if not path.exists():
        path.touch()
        die()
    return path.name


def environment():
    """What a worker has for its threads."""
    return os.getpid(), pl.thread_pool_size(), os.environ.get("OMP_NUM_THREADS")


def die_while_writing(folder, mark, function, *given):
    """Calls a function, and kills its worker as soon as a file is half-written; once, if there is a mark."""

    def watch():
        while True:
            if any(path.suffix == ".part" for path in Path(folder).iterdir()):
                if mark is not None:
                    Path(mark).touch()
                die()

    if mark is None or not Path(mark).exists():
        Path(folder).mkdir(exist_ok=True)
        threading.Thread(target=watch, daemon=True).start()
    return function(*given)
