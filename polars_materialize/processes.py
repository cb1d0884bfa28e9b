"""Worker processes on this machine, as an executor whose workers may die."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from polars_materialize import signals
from polars_materialize.arguments import describe
from polars_materialize.errors import LibraryError, OptionError, WorkersError, is_panic, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.connection import Connection
    from types import TracebackType

    Task = tuple[Future[Any], bytes]

Result = TypeVar("Result")
Given = ParamSpec("Given")

AT_MOST = 1024
"""How many workers there may be at most."""
GRACE_S = 3.0
"""How long a worker that is asked to end may take for it, in seconds."""

_spawning = threading.Lock()
_SPAWN = multiprocessing.get_context("spawn")


class Jobs(Executor):
    """Worker processes on this machine, one task at a time each; a context manager.

    Unlike `ProcessPoolExecutor` it survives its workers: a task whose worker dies raises `BrokenExecutor`, no
    other task does, and the next one gets a new worker. Workers are given their share of Polars' threads, and
    end with this process, however it ends. They are started when there is something to do.

    Functions and arguments have to be what `pickle` takes, and a script that uses it needs the usual
    `if __name__ == "__main__":`, as with every pool of processes that are spawned.

    Example:
        >>> with Jobs(2) as executor:
        ...     executor.submit(sum, [1, 2]).result()
        3
    """

    def __init__(self, count: int) -> None:
        """Takes note of how many workers there may be.

        Args:
            count: How many.

        Raises:
            OptionError: If that is no number of workers that a machine could have.
        """
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= AT_MOST:
            expected = f"a whole number from 1 to {AT_MOST}"
            raise OptionError(f"jobs: {describe(count)}; expected {expected}", option="jobs")
        import polars as pl  # noqa: PLC0415 - workers do not need it for this, and it is slow to import

        self.count = count
        """How many workers there are."""
        self.threads = max(1, pl.thread_pool_size() // count)
        """How many threads each of them has for its work."""
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        text = str(self.threads)
        environment = {"POLARS_MAX_THREADS": text, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", text)}
        self._slots = [_Slot(self._tasks, environment) for _ in range(count)]

    def submit(
        self, fn: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Result]:
        """Has a worker call a function, once one is free.

        Raises:
            RuntimeError: If the workers were told to end.
        """
        future: Future[Result] = Future()
        content = pickle.dumps((fn, args, kwargs))
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._tasks.put((future, content))
        return future

    def interrupt(self) -> None:
        """Ends the workers that are at work; when it returns they are gone. What they did fails."""
        for slot in self._slots:
            slot.ask_to_end()
        until = time.monotonic() + GRACE_S
        for slot in self._slots:
            slot.end(until)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets the workers end when all is done that was asked for.

        Args:
            wait: Return when they have ended.
            cancel_futures: Do not begin what has not begun.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                while cancel_futures:
                    try:
                        task = self._tasks.get_nowait()
                    except queue.Empty:
                        break
                    if task is not None:
                        task[0].cancel()
                for _ in self._slots:
                    self._tasks.put(None)
        if wait:
            for slot in self._slots:
                slot.thread.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the workers: at once if an exception ends the block."""
        if kind is not None:
            self.shutdown(wait=False, cancel_futures=True)
            self.interrupt()
        self.shutdown(wait=True)


class _Slot:
    """A place for one worker at a time, and the thread that hands it tasks and waits for it."""

    def __init__(self, tasks: queue.SimpleQueue[Task | None], environment: Mapping[str, str]) -> None:
        self._tasks = tasks
        self._environment = environment
        self._process: Any = None
        self._connection: Connection[bytes, bytes] | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._ended = False
        self._lock = threading.Lock()
        # A daemon, or a pool that nobody closes would keep Python from ending.
        self.thread = threading.Thread(target=self._work, daemon=True, name="jobs")
        self.thread.start()

    def ask_to_end(self) -> None:
        """Asks the worker to end, if it is at work."""
        with self._lock:
            if not self._idle.is_set():
                self._ended = True
                self._tell("terminate")

    def end(self, until: float) -> None:
        """Waits for the worker to end, if it is at work, until it is ended."""
        if not self._idle.wait(max(0.0, until - time.monotonic())):
            self._tell("kill")
            self._idle.wait(GRACE_S)

    def _tell(self, what: Literal["terminate", "kill"]) -> None:
        process = self._process
        if process is not None:
            with contextlib.suppress(ValueError):  # it has ended just now
                getattr(process, what)()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, content = task
            self._idle.clear()
            if future.set_running_or_notify_cancel():
                found, error = self._run(content)
                self._rest()
                if error is None:
                    future.set_result(found)
                else:
                    future.set_exception(error)
            self._rest()
        self._drop()

    def _rest(self) -> None:
        """Is idle from now on; a worker that was asked to end takes no other task."""
        with self._lock:
            if self._ended:
                self._drop()
                self._ended = False
            self._idle.set()

    def _run(self, content: bytes) -> tuple[Any, BaseException | None]:
        """What comes of a task: a value or an error."""
        try:
            connection = self._connection or self._start()
            connection.send_bytes(content)
            reply: tuple[Any, BaseException | None] = pickle.loads(connection.recv_bytes())  # noqa: S301 - of our own worker
        except (EOFError, OSError):
            self._drop()
            return None, BrokenExecutor("its worker died")
        except Exception as error:  # noqa: BLE001 - a reply that cannot be read, or no worker at all
            return None, error
        return reply

    def _start(self) -> Connection[bytes, bytes]:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True, name="polars-materialize-job")
        with _spawning, _environment(self._environment), _without_interrupts():
            process.start()
        theirs.close()  # so that its end shows at ours
        self._process, self._connection = process, ours
        try:
            ours.recv_bytes()
        except (EOFError, OSError):
            self._drop()
            raise WorkersError(
                "a worker process ended while it started; a script that uses several processes needs "
                "`if __name__ == '__main__':` around what it runs"
            ) from None
        return ours

    def _drop(self) -> None:
        """Sees the worker end; it does by itself when nobody talks to it any more."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.join(GRACE_S)
            if self._process.exitcode is None:
                self._process.kill()
                self._process.join()
            self._process.close()
        self._process = self._connection = None


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Other environment variables for what is started meanwhile.

    A worker imports Polars, which reads its variable then, before it could be told anything.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keeps what a terminal sends to all processes from one that is started meanwhile.

    This process ends its workers, once it has been told itself.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(signals.ENDING) - {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection[bytes, bytes]) -> None:
    """What a worker does: tasks, one after another, until nobody is there to ask."""
    serving = True

    def stop(*_: Any) -> None:
        if serving:  # so that what is in work is cleared away; else it ends already
            raise KeyboardInterrupt

    try:
        for number in signals.ENDING:
            signal.signal(number, stop if number == signal.SIGTERM else signal.SIG_IGN)
        signals.keep_interrupts(signal.SIGTERM)
        threading.Thread(target=_end_with_parent, daemon=True, name="parent").start()
        connection.send_bytes(b"ready")
        while True:
            connection.send_bytes(_reply(connection.recv_bytes()))
    except (KeyboardInterrupt, EOFError, OSError):
        serving = False


def _end_with_parent() -> None:
    """Ends this process if the one that asks is killed, even in the middle of a task."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(1)


def _reply(content: bytes) -> bytes:
    try:
        function, args, kwargs = pickle.loads(content)  # noqa: S301 - of the process that started this one
        return pickle.dumps((function(*args, **kwargs), None))
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        try:  # whatever it is, it goes to who asked
            content = pickle.dumps((None, LibraryError(unexpected(error)) if is_panic(error) else error))
            pickle.loads(content)  # noqa: S301 - some errors can be written but not read
        except Exception:  # noqa: BLE001
            content = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
        return content
