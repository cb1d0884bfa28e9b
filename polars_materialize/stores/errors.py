"""What stores say when they refuse, in one line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from polars_materialize.errors import first_line, is_panic, panic_reason
from polars_materialize.stores.options import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

ASKED = "Error performing"
"""What obstore and Polars say when a store did not do what it was asked."""
HINT = "in the environment or in storage_options"


class StoreError(OSError):
    """A store did not do what was asked of it; the text is a reason, without the object's name."""


class MissingError(StoreError):
    """There is no such object."""


def reason(error: BaseException, options: Mapping[str, str]) -> StoreError:
    """The error of a store, in words of our own where it is known, and without secrets."""
    if isinstance(error, StoreError):
        return error
    text = str(error)
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        return StoreError("no such bucket")
    if isinstance(error, FileNotFoundError) or "404 Not Found" in text:
        return MissingError("no such object")
    if "169.254.169.254" in text or "metadata.google.internal" in text:
        return StoreError(f"no credentials were found; expected them {HINT}")
    if "403 Forbidden" in text or "401 Unauthorized" in text or "PermissionDenied" in type(error).__name__:
        return StoreError(f"not permitted; check the credentials {HINT}")
    if "error sending request" in text or "Connect" in text or "timed out" in text:
        where = next((value for name, value in options.items() if "endpoint" in name), "")
        return StoreError(f"the store{f' at {where}' if where else ''} cannot be reached")
    if "not valid for store" in text:
        named = first_line(error).split("'")[1]
        return StoreError(f"storage_options: {named!r} is no option of this kind of store")
    shown = first_line(error)
    if ASKED in shown:
        # How often it asked is of no use, and what the store answers may name whose keys it was given.
        shown = (shown.partition(" - ")[2] or shown).partition("<")[0].rstrip(" :")
    return StoreError(redact(shown, options))


def in_one_line(error: BaseException) -> str:
    """What another library's error says first; of a store, in words of our own.

    Example:
        >>> in_one_line(OSError("Object at location t.csv not found: Error performing GET ...\\n..."))
        't.csv is not there any more'
    """
    text = str(error)
    if is_panic(error):
        return panic_reason(error)
    if ASKED not in text:
        return first_line(error)
    gone = re.search(r"Object at location (.+?) not found", text)
    return f"{gone[1]} is not there any more" if gone else str(reason(error, {}))
