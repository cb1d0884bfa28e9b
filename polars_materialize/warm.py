"""What threads must not make at once is made here by one of them, and the others wait until it is whole.

- msgspec keeps what it knows of a struct type with the type, and others read it while it is being filled:
  they meet null pointers, and the process dies. So `describe` comes before a struct type is decoded or
  converted to.
- `import pyarrow.json` does not wait for an `import pyarrow` that another thread has begun, and NumPy's and
  Arrow's own code imports parts of each other. So extension packages that functions import are imported
  `with importing:`.
- `functools.cache` lets several threads call a function for the same thing; `once` does not.

Nothing is made before it is needed, so no command starts slower. It does not matter whose threads they are:
those of a pool here, of an `executor=`, of Polars, or two of a notebook that call this package.

All is under one lock. So nothing is made here while a module is imported (another thread could wait for that
module with the lock in hand), and what is made does not wait for Polars.
"""

from __future__ import annotations

import threading
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

Made = TypeVar("Made")

importing = threading.RLock()
"""Lets one thread at a time import what functions import: extension packages, and modules that need them."""

_described: set[type[msgspec.Struct]] = set()


def describe(struct: type[msgspec.Struct]) -> None:
    """Have msgspec learn a struct type and those in it, unless it knows them."""
    if struct in _described:
        return
    import msgspec  # noqa: PLC0415 - whoever has a struct has imported it

    with importing:
        msgspec.json.Decoder(struct)
        _described.add(struct)


def once(make: Callable[[], Made]) -> Callable[[], Made]:
    """Wrap a function so that it is called once, whoever asks, and all get what it gave.

    Example:
        >>> made = once(object)
        >>> made() is made()
        True
    """
    known: list[Made] = []

    @wraps(make)
    def made() -> Made:
        if not known:
            with importing:
                if not known:
                    known.append(make())
        return known[0]

    return made
