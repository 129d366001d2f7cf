"""HTTP clients: headers, certificates and proxies. Configuration mistakes raise `UsageError`."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from pixel_reasoner.errors import UsageError
from pixel_reasoner.models.http_errors import MessageNames

if TYPE_CHECKING:
    from httpx2 import BaseTransport, Client

NewTransport = Callable[[ssl.SSLContext], "BaseTransport"]
"""returns the transport of a client, for example one that checks addresses; without proxies of the environment"""
_PROXY_VARIABLES = "HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"


def new_client(
    api_key: str, names: MessageNames, new_transport: NewTransport | None = None
) -> Client:
    """Return a client that sends a key with each request.

    Raises:
        UsageError: an invalid key, or unusable certificates or proxy settings in the environment.
    """
    import httpx2

    for name in ("httpx2", "httpcore2"):  # they log complete URLs and response headers
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        headers = httpx2.Headers({"Authorization": f"Bearer {api_key}"} if api_key else {})
    except UnicodeError:
        raise UsageError(
            expected="a key of ASCII characters",
            got="other characters",
            fix=f"give the key again, by {names.key}",
        ) from None
    context = _ssl_context()
    if new_transport is not None:
        return httpx2.Client(headers=headers, transport=new_transport(context))
    try:
        return httpx2.Client(headers=headers, verify=context)
    except (ValueError, ImportError, httpx2.InvalidURL) as error:  # may contain a password
        raise UsageError(
            expected="a usable proxy",
            got=f"another one in the environment ({type(error).__name__})",
            fix=f"correct or unset {_PROXY_VARIABLES}",
        ) from None


def assert_valid_url(url: str, option: str) -> None:
    """Raise an error for a URL that the client cannot parse.

    Raises:
        UsageError: invalid URL, for example with invalid characters in the host name.
    """
    import httpx2

    try:
        httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        raise UsageError(
            expected="the address of a server",
            got="a URL with an invalid host or path",
            fix=f"such as {option} http://localhost:8000/v1",
        ) from None


@cache
def _ssl_context() -> ssl.SSLContext:
    """Return the TLS context of all connections. Cached, because loading certificates takes 50 ms."""
    from httpx2 import create_ssl_context

    try:
        return create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(
            expected="readable certificates",
            got=f"{type(error).__name__} in the environment",
            fix="correct or unset SSL_CERT_FILE and SSL_CERT_DIR",
        ) from error
