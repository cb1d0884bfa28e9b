"""Dask clusters that run already: their executor, and what is known of their workers."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

from polars_materialize import warm
from polars_materialize.arguments import checked
from polars_materialize.errors import ExtraError, OptionError, WorkersError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

CONNECT_S = 10
"""How long a scheduler may take to answer, in seconds."""

CLOSE_S = 5
"""How long taking leave of it may take."""


@checked
@contextlib.contextmanager
def dask(address: str) -> Iterator[Executor]:
    """The executor of a Dask cluster that runs already, for as long as the block lasts.

    Its scheduler and workers need this package, in the versions that are installed here, and the files under
    the paths that they have here. Needs the extra: `pip install 'polars-materialize[dask]'`.

    Args:
        address: Its scheduler's, such as `tcp://scheduler:8786`.

    Raises:
        ExtraError: If Dask is not installed.
        OptionError: If the address is none.
        WorkersError: If no scheduler answers.

    Example:
        >>> with dask("tcp://127.0.0.1:no"):
        ...     pass
        Traceback (most recent call last):
        polars_materialize.errors.OptionError: dask: 'tcp://127.0.0.1:no' is no address; ...
    """
    try:
        with warm.importing:
            from distributed import Client  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ExtraError.of(str(error.name), "dask") from None
    if not _is_address(address):
        raise OptionError(
            f"dask: {address!r} is no address; expected a scheduler's, such as tcp://scheduler:8786",
            option="dask",
        )
    with _quiet():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its own versions; those that matter come with every task
                client = Client(address, timeout=f"{CONNECT_S}s", set_as_default=False)
        except (OSError, TimeoutError):
            raise WorkersError(
                f"{address}: no Dask scheduler answers in {CONNECT_S} s; expected one that runs there",
                address=address,
            ) from None
        except Exception as error:  # noqa: BLE001 - an address of a kind it does not know, or a wrong certificate
            raise WorkersError(f"{address}: cannot be used: {first_line(error)}", address=address) from None
        executor = client.get_executor(pure=False)  # equal tasks are different tasks: files may have changed
        try:
            yield executor
        finally:
            # Waiting would never end if no worker is left.
            executor.shutdown(wait=False)
            with contextlib.suppress(Exception):
                client.close(timeout=CLOSE_S)


def _is_address(address: str) -> bool:
    scheme, mark, place = address.rpartition("://")
    host, colon, port = place.rpartition(":")
    return bool((scheme or not mark) and host and colon and port.isdecimal())


def client_of(executor: Executor) -> Any:
    """The Dask client behind an executor; none if it is another's."""
    is_dask = type(executor).__module__.partition(".")[0] == "distributed"
    return getattr(executor, "_client", None) if is_dask else None


def is_there(client: Any) -> bool:
    """Whether a client has its scheduler."""
    return bool(client.status == "running")


def count_threads(client: Any) -> int:
    """How many tasks a client's cluster can run at a time; 0 if no worker is there."""
    if not is_there(client):
        return 0
    try:
        return sum(client.nthreads().values())
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it runs nothing
        return 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Dask from telling what is told here in one line."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
