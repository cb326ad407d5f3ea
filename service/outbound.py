"""Requests to URLs given by clients, protected against server-side request forgery (SSRF).

One parser, httpx's, reads the URL, and the result is used for the connection. The host name is
resolved once, all its addresses must be allowed, and the connection goes to one of them, so that a
second answer of the name server (DNS rebinding) has no effect. Redirects are not followed.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]  # name, port -> addresses

PORTS = {"http": 80, "https": 443}
MAX_URL_LENGTH = 2048
# ASCII only, without a user and without a backslash in the authority.
URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-~]*)?(\?[!-~]*)?")

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


def is_machine(address: Address) -> bool:
    """Return True if `address` is a single machine, also this one or one of a private network.

    Link-local addresses are not: clouds hand out credentials there.
    """
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    machine = mapped or address
    return not (machine.is_multicast or machine.is_link_local or machine.is_unspecified)


async def resolve(name: str, port: int) -> list[str]:
    """Return the addresses of `name` from the system's resolver."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in infos]


class Rejected(Exception):
    """A URL or a response that is not allowed; the reason is not shown to clients."""


# The errors of a request to a client's URL. Names that cannot be encoded raise UnicodeError.
OUTBOUND_ERRORS = (
    *(Rejected, httpx.HTTPError, httpx.InvalidURL),
    *(OSError, TimeoutError, UnicodeError),
)


@dataclass(frozen=True)
class OutboundPolicy:
    """The addresses and ports that requests may go to."""

    resolve: Resolve = resolve
    allowed: Callable[[Address], bool] = is_public
    ports: Container[int] = frozenset(PORTS.values())

    async def address(self, name: str, port: int) -> Address:
        """Return one address of `name` if all are allowed; a mixed answer indicates an attack."""
        if port not in self.ports:
            raise Rejected
        addresses = [ipaddress.ip_address(text) for text in await self.resolve(name, port)]
        if not addresses or not all(map(self.allowed, addresses)):
            raise Rejected
        return addresses[0]


def parse_url(url: object) -> httpx.URL:
    """Return the parsed URL. Raises `Rejected` for all that two parsers might read differently."""
    if not isinstance(url, str) or len(url) > MAX_URL_LENGTH or not URL.fullmatch(url):
        raise Rejected
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Rejected from error
    port = 1 if parsed.port is None else parsed.port
    if parsed.userinfo or not parsed.host or not 0 < port < 2**16:
        raise Rejected
    return parsed


@asynccontextmanager
async def outbound(
    method: str,
    url: object,
    policy: OutboundPolicy,
    timeout_s: float,
    headers: Mapping[str, str],
    content: bytes | None = None,
) -> AsyncIterator[httpx.Response]:
    """Send a request and yield the response, of which no body is read yet.

    Raises one of `OUTBOUND_ERRORS`. Each operation on the connection has `timeout_s` seconds.
    """
    parsed = parse_url(url)
    address = await policy.address(parsed.host, parsed.port or PORTS[parsed.scheme])
    request = httpx.Request(
        method,
        parsed.copy_with(host=str(address)),
        headers={"Host": parsed.netloc.decode("ascii"), "User-Agent": "Darkroom", **headers},
        content=content,
        extensions={"sni_hostname": parsed.host},
    )
    # One client for each request: no proxy, and no shared cookies or connections.
    async with httpx.AsyncClient(trust_env=False, timeout=timeout_s) as client:
        response = await client.send(request, stream=True, follow_redirects=False)
        async with aclosing(response):
            yield response
