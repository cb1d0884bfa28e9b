"""Work on several items at a time, with results in the order of the items."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TYPE_CHECKING, Self, TypeVar

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

SIDE_BY_SIDE = 3
"""How many small tables are worked on at a time; Python's own part of that leaves no room for more."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, at_once: int | None = None
) -> Iterator[Result]:
    """The results of work on items, several at a time; no more items are held.

    The first error of an item, in their order, ends it. A single item needs no other thread.

    Args:
        work: What is done with an item.
        items: The items.
        at_once: How many threads work; as many as Polars has, if that is not said.

    Example:
        >>> list(in_order(len, ["a", "bc", ""]))
        [1, 2, 0]
    """
    rest = iter(items)
    first = list(islice(rest, 2))
    if len(first) < 2:
        yield from map(work, first)
        return
    workers = at_once or pl.thread_pool_size()
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="tables") as pool:
        try:
            for item in chain(first, rest):
                ahead.append(pool.submit(work, item))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Behind:
    """Does one thing after another in a thread of its own, while the next is made ready.

    What is to be done waits until the thing before it is done, so no more than two are held.

    Example:
        >>> with Behind() as behind:
        ...     behind.do(print, "a")
        ...     behind.do(print, "b")
        a
        b
    """

    def __init__(self) -> None:
        """Starts no thread yet."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="tables")
        self._last: Future[None] | None = None

    def do(self, work: Callable[..., None], *args: object) -> None:
        """Has something done.

        Raises:
            Exception: What the thing before it has raised.
        """
        self._wait()
        self._last = self._pool.submit(work, *args)

    def _wait(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> Self:
        """Begins with nothing to do."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits for the last thing, and raises what it has raised if nothing else was."""
        try:
            if kind is None:
                self._wait()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
