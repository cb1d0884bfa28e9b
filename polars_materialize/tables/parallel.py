"""Work on several items at a time, with results in the order of the items."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

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
