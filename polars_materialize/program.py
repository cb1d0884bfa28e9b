"""The program `polars-materialize`: the command line, with what only a process of its own needs.

Nothing of the package is imported before signals are handled, so that Ctrl-C gives one line at any time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from polars_materialize import signals

if TYPE_CHECKING:
    from typing import NoReturn

GARBAGE_OBJECTS = 50_000
"""After how many new objects Python looks for garbage; most of the first are those of libraries."""


def run() -> NoReturn:
    """Run the command line, and end with its exit status.

    It ends without taking apart what is in memory, which would take a tenth of a second for nothing.
    """
    signals.on_end(_stop)  # nothing has been begun yet
    signals.keep_interrupts()

    import atexit  # noqa: PLC0415
    import gc  # noqa: PLC0415
    import sys  # noqa: PLC0415

    from polars_materialize.cli import main  # noqa: PLC0415

    gc.set_threshold(GARBAGE_OBJECTS, 20, 20)
    status = main()
    signals.on_end(lambda *_: os._exit(status))  # all has been said
    atexit._run_exitfuncs()  # they remove temporary files
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed by whoever began it
                stream.flush()
    except OSError:  # whoever read it has gone
        sys.exit(status)
    os._exit(status)


def _stop(*_: Any) -> None:
    """End the process: nothing is half-written."""
    try:
        os.write(2, f"{signals.LINE}\n".encode())
    finally:
        os._exit(130)
