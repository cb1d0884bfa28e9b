"""Work on many items by any `concurrent.futures.Executor`, whatever becomes of its workers."""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from concurrent.futures import BrokenExecutor, CancelledError, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from polars_materialize.clusters import client_of, count_threads, dask, is_there
from polars_materialize.errors import (
    MaterializeError,
    OptionError,
    WorkersError,
    first_line,
    is_panic,
    unexpected,
)
from polars_materialize.processes import Jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from concurrent.futures import Executor, Future

Item = TypeVar("Item")
Value = TypeVar("Value")

TICK_S = 0.5
"""How often workers that say nothing are looked after, in seconds."""

PATIENCE_S = 60.0
"""How long a cluster may be without any worker until nobody waits for it any longer."""

UNKNOWN = 256
"""How many tasks an executor is given at a time that does not say how many workers it has."""

DIED = "the worker that ran it died, twice"
LEFT = "no worker was left to run it"


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What came of an item: a value, or why there is none.

    Attributes:
        value: What the function gave.
        problem: Why it gave nothing.
    """

    value: Value | None = None
    problem: str | None = None


@contextlib.contextmanager
def open_executor(jobs: int = 1, address: str | None = None) -> Iterator[Executor | None]:
    """What runs the work that can be divided: `jobs` processes of this machine, or a Dask cluster.

    Args:
        jobs: How many processes; with 1 there is no executor, the work is done in this process.
        address: The address of a Dask scheduler.

    Raises:
        OptionError: If both are given.
        MaterializeError: Whatever `Jobs` and `dask` raise.

    Example:
        >>> with open_executor() as executor:
        ...     print(executor)
        None
    """
    if address is not None and jobs != 1:
        raise OptionError("jobs, dask: both are given; expected at most one of them", option="dask")
    if address is not None:
        with dask(address) as executor:
            yield executor
    elif jobs == 1:
        yield None
    else:
        with Jobs(jobs) as executor:
            yield executor


def check_executor(executor: Executor) -> None:
    """Refuses what cannot be given work, or would never give it back.

    Raises:
        OptionError: If it is no executor, or one whose processes are forks: Polars' threads do not come
            along, and a fork waits for them for ever.
    """
    if not callable(getattr(executor, "submit", None)):
        problem = f"executor: {type(executor).__name__}; expected a concurrent.futures.Executor"
        raise OptionError(problem, option="executor")
    context = getattr(executor, "_mp_context", None)  # no public name says how a pool starts processes
    if isinstance(executor, ProcessPoolExecutor) and context and context.get_start_method() == "fork":
        raise OptionError(
            "executor: its processes are forks, in which Polars hangs; expected pm.Jobs(2), or "
            "ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('spawn'))",
            option="executor",
        )


def threads_each(executor: Executor) -> int:
    """How many threads a task is to have; an executor that does not say it gives a task one core."""
    return executor.threads if isinstance(executor, Jobs) else 1


def refuse_other_versions(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Refuses to work where results could be others than where they are asked for.

    Raises:
        WorkersError: Names the first difference.

    Example:
        >>> refuse_other_versions({"polars": "2.1.0"}, {"polars": "2.1.0"})
    """
    for package, version in expected.items():
        if found.get(package) != version:
            has = found.get(package, "no")
            raise WorkersError(
                f"a worker has {has} {package}, {version} is installed here; expected the same everywhere"
            )


def run_all(
    executor: Executor,
    function: Callable[[Item], Value],
    items: Iterable[Item],
    *,
    one_by_one: bool = False,
) -> Generator[tuple[int, Outcome[Value]], None, None]:
    """Calls a function with every item, by an executor's workers; gives what comes of them as it comes.

    An item whose worker dies is tried once more, alone, when all others are done: so it is to blame if its
    worker dies again. An item that fails for any such reason, or with an exception that is no
    `MaterializeError`, has a `problem`; the others go on. Not many more items are under way than there are
    workers. Whoever stops asking for more, by Ctrl-C for one, cancels what is under way.

    Args:
        executor: Whose workers.
        function: What to call; has to be found by its name where the workers are, as items have to be
            what `pickle` takes.
        items: The items.
        one_by_one: Begin an item when the one before is done.

    Yields:
        The index of an item, and its outcome.

    Raises:
        MaterializeError: What the function raised: no item is to blame.
        WorkersError: If the workers could not run a single item.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as executor:
        ...     sorted((index, found.value) for index, found in run_all(executor, len, ["a", "bc"]))
        [(0, 1), (1, 2)]
    """
    check_executor(executor)
    return _Run(executor, partial(_call, function), deque(enumerate(items)), one_by_one).outcomes()


def _call(function: Callable[[Item], Value], item: Item) -> tuple[Value | None, str | None, Exception | None]:
    """What a worker does: the value, or the problem of this item, or an error that concerns all."""
    try:
        return function(item), None, None
    except MaterializeError as error:
        return None, None, error
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        return None, unexpected(error), None  # whatever one item breaks must not stop the others


class _Run(Generic[Item]):
    """Items on their way through an executor."""

    def __init__(
        self,
        executor: Executor,
        call: Callable[[Item], tuple[Any, str | None, Exception | None]],
        items: deque[tuple[int, Item]],
        one_by_one: bool,
    ) -> None:
        self._executor = executor
        self._client = client_of(executor)
        self._call = call
        self._waiting = items
        self._suspects: deque[tuple[int, Item]] = deque()
        self._flying: dict[Future[Any], tuple[int, Item]] = {}
        self._landed: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._tried: set[int] = set()
        self._one_by_one = one_by_one
        self._room = self._find_room()
        self._well = False
        self._deserted_since: float | None = None

    def outcomes(self) -> Generator[tuple[int, Outcome[Any]], None, None]:
        try:
            while self._waiting or self._suspects or self._flying:
                problem = self._submit()
                if problem is None:
                    try:
                        landed = self._landed.get(timeout=TICK_S)
                    except queue.Empty:
                        problem = self._look_after()
                    else:
                        if landed in self._flying:
                            yield from self._land(landed)
                        problem = self._abandoned()
                if problem is not None:
                    yield from self._give_up(problem)
        finally:
            if self._flying:
                for future in self._flying:
                    future.cancel()
                if isinstance(self._executor, Jobs):
                    self._executor.interrupt()

    def _submit(self) -> str | None:
        """Hands out as many items as there is room for; why that cannot be done."""
        while True:
            if self._waiting and len(self._flying) < self._room:
                queued = self._waiting
            elif self._suspects and not self._waiting and not self._flying:
                queued = self._suspects
            else:
                return None
            try:
                future = self._executor.submit(self._call, queued[0][1])
            except BrokenExecutor as error:
                return f"its workers died: {first_line(error)}"
            except Exception as error:  # noqa: BLE001 - executors have errors of their own
                return f"the executor takes no more tasks: {first_line(error)}"
            self._flying[future] = queued.popleft()
            future.add_done_callback(self._landed.put)
            if queued is self._suspects:
                return None

    def _land(self, future: Future[Any]) -> Iterator[tuple[int, Outcome[Any]]]:
        index, item = self._flying.pop(future)
        failure = CancelledError() if future.cancelled() else future.exception()
        if isinstance(failure, MaterializeError):
            raise failure
        if failure is not None:
            died = _is_death(failure)
            if not died and not self._well:
                raise WorkersError(f"the workers cannot run a task: {unexpected(failure)}") from None
            if index not in self._tried:
                self._tried.add(index)
                self._suspects.append((index, item))
                return
            yield index, Outcome(problem=DIED if died else unexpected(failure))
            return
        value, problem, error = future.result()
        if error is not None:
            raise error
        self._well = True
        yield index, Outcome(value, problem)

    def _abandoned(self) -> str | None:
        """Whether a cluster's scheduler is gone, which takes all tasks with it."""
        return None if self._client is None or is_there(self._client) else "the Dask scheduler is gone"

    def _look_after(self) -> str | None:
        """Why nothing will come of waiting any longer: tasks of a cluster without workers wait for ever."""
        if self._client is None:
            return None
        self._room = self._find_room()
        if count_threads(self._client):
            self._deserted_since = None
            return self._abandoned()
        now = time.monotonic()
        self._deserted_since = self._deserted_since or now
        return self._abandoned() or (LEFT if now - self._deserted_since > PATIENCE_S else None)

    def _give_up(self, problem: str) -> Iterator[tuple[int, Outcome[Any]]]:
        """All that is left has this problem; if nothing was done at all, there is no run to save."""
        if not self._well:
            raise WorkersError(f"the workers could not run a single task: {problem}")
        left = sorted([*self._flying.values(), *self._suspects, *self._waiting], key=lambda one: one[0])
        for future in self._flying:
            future.cancel()
        for queued in (self._flying, self._suspects, self._waiting):
            queued.clear()
        for index, _ in left:
            yield index, Outcome(problem=problem)

    def _find_room(self) -> int:
        """How many items may be under way: enough that no worker waits for its next."""
        if self._one_by_one:
            return 1
        if isinstance(self._executor, Jobs):
            return 2 * self._executor.count
        if self._client is not None:
            return 2 * max(1, count_threads(self._client)) + 2
        known = getattr(self._executor, "_max_workers", None)
        return 2 * known if isinstance(known, int) else UNKNOWN


def _is_death(failure: BaseException) -> bool:
    """Whether it says that a worker died; Dask's own error for it is no `BrokenExecutor`."""
    return isinstance(failure, BrokenExecutor | CancelledError) or type(failure).__name__ == "KilledWorker"
