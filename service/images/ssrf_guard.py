"""Downloads from URLs given by clients, protected against server-side request forgery (SSRF).

One parser, httpx's, reads the URL, and the result is used for the connection. The host name is
resolved once, all its addresses must be public, and the connection goes to one of them, so that a
second answer of the name server (DNS rebinding) has no effect. Redirects are not followed. All
failures give the same error, which therefore tells a client nothing about the internal network.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import httpx

from protocol.errors import InvalidRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]  # name, port -> addresses

PORTS = {"http": 80, "https": 443}
MAX_URL_LENGTH = 2048
# ASCII only, without a user and without a backslash in the authority.
URL = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+(/[!-~]*)?(\?[!-~]*)?")
BOUND = "the address of a PNG, JPEG or WebP file that anybody on the internet can fetch"

# Networks of public addresses that lead to others: NAT64, Teredo and related, 6to4 and its relays.
TRANSITION_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16", "192.88.99.0/24"),
    )
)
GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # the whole public IPv6 internet


def is_public(address: Address) -> bool:
    """Return True if `address` is a single machine on the public internet."""
    if address.version == 6 and address not in GLOBAL_V6:  # ::1, ::ffff:a.b.c.d, fe80::, fc00::, …
        return False
    blocked = address.is_multicast or not address.is_global
    return not blocked and not any(address in network for network in TRANSITION_NETWORKS)


async def resolve(name: str, port: int) -> list[str]:
    """Return the addresses of `name` from the system's resolver."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in infos]


class _Rejected(Exception):
    """A URL or a response that is not allowed; the reason is not shown to clients."""


@dataclass(frozen=True)
class SsrfGuard:
    """Downloads files of at most `max_bytes` from public addresses, each within `timeout_s`."""

    max_bytes: int
    timeout_s: float
    resolve: Resolve = resolve
    allowed: Callable[[Address], bool] = is_public
    ports: frozenset[int] = frozenset(PORTS.values())

    async def fetch(self, field: str, url: object, reserve: Callable[[int], None]) -> bytes:
        """Return the file at `url`. Calls `reserve` with the size of each chunk; it may raise.

        Raises `InvalidRequest`, with the same message for every failure.
        """
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._fetch(_parse(url), reserve)
        except (_Rejected, httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise InvalidRequest(field, url, BOUND, "cannot-fetch") from error

    async def _fetch(self, url: httpx.URL, reserve: Callable[[int], None]) -> bytes:
        port = url.port or PORTS[url.scheme]
        if port not in self.ports:
            raise _Rejected
        address = await self._allowed_address(url.host, port)
        request = httpx.Request(
            "GET",
            url.copy_with(host=str(address)),
            headers={
                "Host": url.netloc.decode("ascii"),
                "Accept": "image/png, image/jpeg, image/webp",
                "Accept-Encoding": "identity",
                "User-Agent": "Darkroom",
            },
            extensions={"sni_hostname": url.host},
        )
        # One client for each file: no proxy, and no shared cookies or connections.
        async with httpx.AsyncClient(trust_env=False, timeout=self.timeout_s) as client:
            response = await client.send(request, stream=True, follow_redirects=False)
            async with aclosing(response):
                return await self._read(response, reserve)

    async def _allowed_address(self, name: str, port: int) -> Address:
        """Return one address of `name` if all are allowed; a mixed answer indicates an attack."""
        addresses = [ipaddress.ip_address(text) for text in await self.resolve(name, port)]
        if not addresses or not all(map(self.allowed, addresses)):
            raise _Rejected
        return addresses[0]

    async def _read(self, response: httpx.Response, reserve: Callable[[int], None]) -> bytes:
        if response.status_code != httpx.codes.OK or "content-encoding" in response.headers:
            raise _Rejected
        data = bytearray()
        async for chunk in response.aiter_raw():
            reserve(len(chunk))
            data += chunk
            if len(data) > self.max_bytes:
                raise _Rejected
        return bytes(data)


def _parse(url: object) -> httpx.URL:
    """Return the parsed URL. Raises `_Rejected` for all that two parsers might read differently."""
    if not isinstance(url, str) or len(url) > MAX_URL_LENGTH or not URL.fullmatch(url):
        raise _Rejected
    parsed = httpx.URL(url)
    if parsed.userinfo or not parsed.host:
        raise _Rejected
    return parsed
