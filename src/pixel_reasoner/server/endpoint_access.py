"""Which model servers users of Studio may connect: hosts of the operator's list, and public hosts if it contains `public`.

A host of the list may be private and may use http. A public host needs https, and all its addresses must be public. The check
is repeated for every request, and the connection goes to the address that was checked, so a changed DNS answer has no effect.
Redirects are not followed. Proxies of the environment are not used, because they would resolve the name again.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from typing import Any, NamedTuple

import httpx2

from pixel_reasoner.errors import UsageError
from pixel_reasoner.server.addresses import is_public
from pixel_reasoner.server.errors import ApiError
from pixel_reasoner.server.fetch import Resolve, resolve

PUBLIC = "public"
"""entry of the list that allows every public host"""
MAX_URL_CHARS = 2000
_PORTS = {"http": 80, "https": 443}
_LISTED = re.compile(r"(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?")
_URL = re.compile(
    r"https?://(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?(?:[/?][!-~]*)?",
    re.IGNORECASE,
)


def check_endpoint_host(name: str) -> str:
    """Return a host of the list in lower case.

    Raises:
        UsageError: not the exact name of a host, with a port or without, and not `public`.

    >>> check_endpoint_host("LocalHost:8000"), check_endpoint_host("public")
    ('localhost:8000', 'public')
    """
    if not _LISTED.fullmatch(name.lower()):
        raise UsageError(
            expected="the exact name of a host for --allow-endpoint, or `public`",
            got=repr(name),
            fix="for example localhost:8000; patterns and addresses with http:// are not allowed",
        )
    return name.lower()


class Place(NamedTuple):
    """Where a request goes."""

    scheme: str
    host: str
    port: int

    @property
    def shown(self) -> str:
        """Host as an entry of the list: with the port unless it is the default of the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @classmethod
    def of(cls, url: httpx2.URL) -> Place:
        """Return the place of an address, as the HTTP client reads it."""
        host = url.host.lower().removesuffix(".")
        return cls(url.scheme, host, url.port or _PORTS[url.scheme])


class EndpointAccess:
    """Rules for the addresses of model servers that users name.

    Args:
        hosts: exact names, `name:port` for a port other than the default of the scheme, and `public` for every public host.
        resolve: host and port -> addresses.
    """

    def __init__(self, hosts: Iterable[str], *, resolve: Resolve = resolve) -> None:
        names = frozenset(hosts)
        self.hosts = names - {PUBLIC}
        self.allows_public = PUBLIC in names
        self._resolve = resolve

    def check(self, url: str) -> None:
        """Raise an error for an address that no rule allows. Sends and resolves nothing.

        Raises:
            ApiError: 400, or 403 for a host that is not allowed.
        """
        if len(url) > MAX_URL_CHARS or not _URL.fullmatch(url):
            raise ApiError(
                400,
                "endpoint: must begin with http:// or https:// and a host, in ASCII, without user and password",
                param="endpoint",
            )
        try:
            place = Place.of(httpx2.URL(url))
        except (httpx2.InvalidURL, ValueError):
            place = None
        if place is None or not 0 < place.port < 65536:
            raise ApiError(400, "endpoint: an invalid host or port", param="endpoint")
        self._check(place)

    def address(self, url: httpx2.URL) -> str:
        """Return the address to connect to.

        Raises:
            ApiError: 403.
            OSError: the name has no address.
        """
        place = Place.of(url)
        is_listed = self._check(place)
        found = list(self._resolve(place.host, place.port))
        if not found:
            raise OSError("the name has no address")
        if not is_listed and not all(map(is_public, found)):
            raise _not_allowed(place, "is not a public address")
        return found[0]

    def _check(self, place: Place) -> bool:
        """Return whether a place is on the list.

        Raises:
            ApiError: 403 if no rule allows it.
        """
        if place.shown in self.hosts:
            return True
        if not self.allows_public:
            raise _not_allowed(place, "is not on the list of the operator")
        if place.scheme != "https":
            raise _not_allowed(
                place, "is not on the list of the operator, and a public server needs https"
            )
        return False


def _not_allowed(place: Place, why: str) -> ApiError:
    return ApiError(
        403,
        f"endpoint: {place.shown} {why}; the operator can allow it: pixel-reasoner serve --allow-endpoint {place.shown}",
        param="endpoint",
        code="endpoint_not_allowed",
    )


class CheckedTransport(httpx2.BaseTransport):
    """Transport that connects to checked addresses only.

    Args:
        access: the rules.
        context: of TLS. The certificate must be that of the name.
    """

    def __init__(self, access: EndpointAccess, context: ssl.SSLContext) -> None:
        self._access = access
        self._inner = httpx2.HTTPTransport(verify=context, trust_env=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to the address of its host. The Host header keeps the name.

        Raises:
            ApiError: 403 for a host that is not allowed.
            httpx2.ConnectError: the name has no address.
        """
        url = request.url
        try:
            address = self._access.address(url)
        except OSError as error:
            raise httpx2.ConnectError("the name has no address", request=request) from error
        extensions: dict[str, Any] = dict(request.extensions)
        if url.scheme == "https":
            extensions["sni_hostname"] = url.host
        request.extensions = extensions
        request.url = url.copy_with(host=address)
        return self._inner.handle_request(request)

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()
