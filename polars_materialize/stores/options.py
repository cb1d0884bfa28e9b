"""`storage_options`: how stores are reached and with whose credentials. Nothing here is ever written out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from polars_materialize.errors import OptionError

StorageOptions = Mapping[str, str | int | bool]
"""Options by name, as Polars names them: `aws_region`, `aws_endpoint_url`, `google_service_account`, ..."""

RETRIES = 5
"""How often something is asked again; a port where nobody listens is given up after about three seconds."""
RETRY_SECONDS = 60
BACKOFF = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2}
CONNECT_SECONDS = 5
READ_SECONDS = 60
"""How long a store may be silent in the middle of an answer."""
REQUEST_TIMEOUT = "1h"
"""How long one request may take; the whole of a large object is one, and its default is half a minute."""

CLIENT = (
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "default_headers",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
    "read_timeout",
    "root_certificate",
    "timeout",
    "user_agent",
)
"""What is said to the HTTP client, not to a store."""

PREFIXES = {"s3": ("aws_",), "gs": ("google_",), "az": ("azure_",), "https": (), "http": ()}
PUBLIC = ("endpoint", "region", "bucket", "allow", "account_name", "excludes", "timeout", "retries")
"""Parts of names of options that are no secrets."""


def check_storage_options(options: object) -> dict[str, str | int | bool]:
    """Options as they were given, of the right types. No error shows a value.

    Raises:
        OptionError: Names the option.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise OptionError("storage_options: expected an object of options", option="storage_options")
    for name, value in options.items():
        if not isinstance(name, str) or not isinstance(value, (str, int)):
            raise OptionError(f"storage_options.{name}: expected text", option="storage_options")
        if name == "max_retries" and not str(value).isdigit():
            raise OptionError("storage_options.max_retries: expected a number", option="storage_options")
    return dict(options)


def for_scheme(options: StorageOptions, scheme: str) -> dict[str, str]:
    """The options of one kind of store, as text, with what the environment says of where it is."""
    others = tuple(prefix for prefixes in PREFIXES.values() for prefix in prefixes)
    own = {
        name.lower(): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if name.lower().startswith(PREFIXES[scheme]) or not name.lower().startswith(others)
    }
    return _with_region(own) if scheme == "s3" else own


def _with_region(own: dict[str, str]) -> dict[str, str]:
    endpoint = _said(own, "endpoint_url", "endpoint")
    region = _said(own, "region", "default_region")
    if endpoint and not any(name.endswith(("endpoint_url", "endpoint")) for name in own):
        own["aws_endpoint_url"] = endpoint
    if not region and endpoint:
        region = "us-east-1"  # a store of one's own has no regions, but requests are signed for one
    if region and not any(name.endswith("region") for name in own):
        own["aws_region"] = region
    if endpoint.startswith("http://"):
        own.setdefault("aws_allow_http", "true")
    return own


def has_region(own: Mapping[str, str]) -> bool:
    """Whether a region is known; without one, requests would go to the wrong place, or out to ask for it."""
    return any(name.endswith("region") for name in own)


def _said(own: Mapping[str, str], *names: str) -> str:
    """What options say, or else the environment."""
    for name in names:
        for value in (own.get(f"aws_{name}"), own.get(name), os.environ.get(f"AWS_{name.upper()}")):
            if value:
                return value
    return ""


def for_polars(own: Mapping[str, str]) -> dict[str, Any]:
    """Options as Polars' scans take them."""
    retries = int(own.get("max_retries", RETRIES))
    return {**{name: value for name, value in own.items() if name != "max_retries"}, "max_retries": retries}


def for_obstore(own: Mapping[str, str]) -> dict[str, Any]:
    """Options as obstore's stores take them: those of the store, of the client, and of retries."""
    client: dict[str, Any] = {
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "read_timeout": f"{READ_SECONDS}s",
        "timeout": REQUEST_TIMEOUT,
    }
    config: dict[str, str] = {}
    for name, value in own.items():
        plain = name.partition("_")[2] if name.startswith(("aws_", "google_", "azure_")) else name
        if plain in CLIENT:
            client[plain] = value
        elif plain != "max_retries":
            config[name] = value
    if "allow_http" not in client and os.environ.get("AWS_ALLOW_HTTP"):
        client["allow_http"] = os.environ["AWS_ALLOW_HTTP"]  # options of the client hide the environment's
    retries: dict[str, Any] = {
        "max_retries": int(own.get("max_retries", RETRIES)),
        "retry_timeout": timedelta(seconds=RETRY_SECONDS),
        "backoff": BACKOFF,
    }
    return {"config": config, "client_options": client, "retry_config": retries}


def redact(text: str, options: Mapping[str, object]) -> str:
    """Text without the values of options that may be secrets.

    Example:
        >>> redact("bad key abcd1234", {"aws_secret_access_key": "abcd1234"})
        'bad key ***'
    """
    for name, value in options.items():
        if len(str(value)) > 3 and not any(part in name.lower() for part in PUBLIC):
            text = text.replace(str(value), "***")
    return text
