"""Fetching from an address that a client gives, without lending it our place in the network.

One parser, httpx's, reads the address, and what it read is what is connected to. The name is
resolved once, every address it has must be public, and one of those very addresses is dialled, so
that a second answer of a name server changes nothing. Redirects are not followed. All failures look
alike from outside: who may not see our network must not learn of it from our words either.
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
LONGEST_URL = 2048
URL = re.compile(
    r"https?://[A-Za-z0-9.\[\]:-]+(/[!-~]*)?(\?[!-~]*)?"
)  # no user, no backslash, ASCII
BOUND = "the address of a PNG, JPEG or WebP file that anybody on the internet can fetch"

# Public by their number, but a way to places that are not: into IPv4, through a tunnel or a relay.
DETOURS = tuple(
    map(
        ipaddress.ip_network,
        ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/23", "2002::/16", "192.88.99.0/24"),
    )
)
GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # all there is of the public IPv6 internet


def is_public(address: Address) -> bool:
    """Whether `address` is a single machine on the open internet."""
    if address.version == 6 and address not in GLOBAL_V6:  # ::1, ::ffff:a.b.c.d, fe80::, fc00::, …
        return False
    blocked = address.is_multicast or not address.is_global
    return not blocked and not any(address in network for network in DETOURS)


async def resolve(name: str, port: int) -> list[str]:
    """The addresses of `name`, as the system knows them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class _Refused(Exception):
    """Not fetched; why is nobody's business."""


@dataclass(frozen=True)
class Guard:
    """Fetches files of at most `max_bytes`, within `timeout_s` seconds in all."""

    max_bytes: int
    timeout_s: float
    resolve: Resolve = resolve
    allowed: Callable[[Address], bool] = is_public
    ports: frozenset[int] = frozenset(PORTS.values())

    async def fetch(self, field: str, url: object, hold: Callable[[int], None]) -> bytes:
        """The file at `url`; `hold` is told of every piece, and may raise.

        Raises `InvalidRequest`, with the same words whatever went wrong.
        """
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._fetch(_parsed(url), hold)
        except (_Refused, httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise InvalidRequest(field, url, BOUND, "cannot-fetch") from error

    async def _fetch(self, url: httpx.URL, hold: Callable[[int], None]) -> bytes:
        port = url.port or PORTS[url.scheme]
        if port not in self.ports:
            raise _Refused
        address = await self._address(url.host, port)
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
        # A client of its own for each file: no proxy, no cookie, no connection is shared.
        async with httpx.AsyncClient(trust_env=False, timeout=self.timeout_s) as client:
            answer = await client.send(request, stream=True, follow_redirects=False)
            async with aclosing(answer):
                return await self._read(answer, hold)

    async def _address(self, name: str, port: int) -> Address:
        """One address of `name`, if all it has are allowed: a mixed answer is a trick."""
        found = [ipaddress.ip_address(text) for text in await self.resolve(name, port)]
        if not found or not all(map(self.allowed, found)):
            raise _Refused
        return found[0]

    async def _read(self, answer: httpx.Response, hold: Callable[[int], None]) -> bytes:
        if answer.status_code != httpx.codes.OK or "content-encoding" in answer.headers:
            raise _Refused
        data = bytearray()
        async for chunk in answer.aiter_raw():
            hold(len(chunk))
            data += chunk
            if len(data) > self.max_bytes:
                raise _Refused
        return bytes(data)


def _parsed(url: object) -> httpx.URL:
    """Raises `_Refused` for whatever two readers might read differently."""
    if not isinstance(url, str) or len(url) > LONGEST_URL or not URL.fullmatch(url):
        raise _Refused
    parsed = httpx.URL(url)
    if parsed.userinfo or not parsed.host:
        raise _Refused
    return parsed
