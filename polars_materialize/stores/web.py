"""Files on the web, through the standard library: their state and their bytes."""

from __future__ import annotations

import contextlib
import time
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import TYPE_CHECKING, Any, cast
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from polars_materialize._version import __version__
from polars_materialize.stores.errors import MissingError, StoreError
from polars_materialize.stores.objects import READ_BYTES, State
from polars_materialize.stores.options import RETRIES

if TYPE_CHECKING:
    from collections.abc import Generator

    from polars_materialize.stores.options import StorageOptions

TIMEOUT_SECONDS = 30
HEADERS = {"User-Agent": f"polars-materialize/{__version__}", "Accept-Encoding": "identity"}
NO_HEAD = (403, 405, 501)
"""What servers answer that only let a file be read."""


class Web:
    """One server of the web."""

    def __init__(self, options: StorageOptions, *, encrypted: bool) -> None:
        """Takes note of options.

        Raises:
            StoreError: If it would not be encrypted and no option allows that.
        """
        self._allow_http = str(options.get("allow_http", "")).lower() == "true"
        if not encrypted and not self._allow_http:
            raise StoreError("http:// is not encrypted; expected https://, or allow_http in storage_options")
        self._retries = int(options.get("max_retries", RETRIES))
        self._opener = build_opener(_Redirects(allow_http=self._allow_http))

    def state(self, url: str) -> State | None:
        """The state of a file; none if there is none."""
        try:
            try:
                answer = self._ask(url, "HEAD")
            except _RefusedError:
                answer = self._ask(url, "GET")
        except MissingError:
            return None
        with answer:
            return _state(answer.headers)

    def read(self, url: str) -> tuple[State, Generator[bytes]]:
        """A file's state and its bytes, of the same version."""
        answer = self._ask(url, "GET")
        blocks = _blocks(answer)
        next(blocks)  # closing what has not begun would not end the connection
        return _state(answer.headers), blocks

    def _ask(self, url: str, method: str) -> HTTPResponse:
        request = Request(url, method=method, headers=HEADERS)  # noqa: S310 - the scheme was looked at
        for attempt in range(self._retries):
            try:
                return self._ask_once(request)
            except _BusyError:
                time.sleep(0.1 * 2**attempt)
        return self._ask_once(request)

    def _ask_once(self, request: Request) -> HTTPResponse:
        try:
            return cast("HTTPResponse", self._opener.open(request, timeout=TIMEOUT_SECONDS))
        except HTTPError as error:
            with error:
                raise _refusal(error, request.get_method()) from None
        except StoreError:
            raise
        except (URLError, HTTPException, OSError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            shown = getattr(cause, "strerror", None) or cause
            raise _BusyError(f"the server cannot be reached: {shown}") from None


class _BusyError(StoreError):
    """A server may answer another time."""


class _RefusedError(StoreError):
    """A server does not answer this method."""


def _refusal(error: HTTPError, method: str) -> StoreError:
    if method == "HEAD" and error.code in NO_HEAD:
        return _RefusedError()
    if error.code in (404, 410):
        return MissingError("no such file")
    if error.code in (401, 403):
        return StoreError("not permitted")
    kind = _BusyError if error.code >= 500 else StoreError
    return kind(f"the server answers {error.code} {error.reason}")


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, but to no place that is less safe."""

    def __init__(self, *, allow_http: bool) -> None:
        self._known = ("https://", "http://") if allow_http else ("https://",)

    def redirect_request(  # noqa: PLR0917 - as urllib calls it
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not newurl.lower().startswith(self._known):
            fp.close()
            raise StoreError("the server points to a place that is not https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _state(headers: HTTPMessage) -> State:
    modified = None
    with contextlib.suppress(TypeError, ValueError):  # not every server says
        modified = int(parsedate_to_datetime(headers["Last-Modified"]).timestamp())
    size = headers.get("Content-Length", "")
    return State(int(size) if size.isdigit() else -1, headers.get("ETag"), modified)


def _blocks(answer: HTTPResponse) -> Generator[bytes]:
    expected, found = answer.headers.get("Content-Length", ""), 0
    with answer:
        yield b""
        try:
            while block := answer.read(READ_BYTES):
                found += len(block)
                yield block
        except (HTTPException, OSError) as error:
            raise StoreError(f"the connection broke: {error}") from None
    if expected.isdigit() and found != int(expected):
        raise StoreError(f"the connection broke after {found:,} of {int(expected):,} bytes")
