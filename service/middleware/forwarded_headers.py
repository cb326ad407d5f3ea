"""The headers in which proxies pass on how a client called them: pure functions.

`X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`, and `Forwarded` (RFC 7239). Each proxy adds its
part at the end, so the right part comes from the nearest proxy, and what stands to the left of the
parts of trusted proxies may be forged.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers

from service.network_addresses import Address, parse_address
from service.origins import path_prefix

MAX_PROXIES = 32  # parts of a header that are read, from its end
SCHEMES = ("http", "https")
# An address with or without a port (RFC 7239, section 6; a bare IPv6 address is common, too).
NODE = re.compile(r"\[(?P<v6>[^\]]*)\](?::[\w.-]*)?|(?P<v4>[0-9.]+)(?::[\w.-]*)?|(?P<bare>.+)")
# One parameter of RFC 7239 and what ends it. Values without quotes may have the characters of an
# address, which the grammar has in quotes only. Possessive, so that it takes linear time.
PARAMETER = re.compile(
    r"""[ \t]*+(?:(?P<name>[\w!#$%&'*+.^`|~-]++)="""
    r"""(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<value>[^ \t",;]*+)))?[ \t]*+(?P<end>[,;]|\Z)"""
)


@dataclass(frozen=True)
class Forwarded:
    """The statements of trusted proxies about a request; None or "" where they say nothing.

    `client`: the last address that is no trusted proxy. `scheme`, `host`: what the client used.
    `prefix`: the path that the proxies removed.
    """

    client: Address | None = None
    scheme: str | None = None
    host: str | None = None
    prefix: str = ""


@dataclass(frozen=True)
class _Parts:
    """The parts of each header, those of the nearest proxy last; "" where one has no value."""

    nodes: Sequence[str]
    schemes: Sequence[str]
    hosts: Sequence[str]


def read_forwarded(headers: Headers, is_trusted: Callable[[Address], bool]) -> Forwarded:
    """Return what `headers`, which a trusted proxy has sent, say of the request.

    `X-Forwarded-…` wins over `Forwarded`: a proxy that writes it may pass the other one on unread.
    Parts that make no sense count as missing.
    """
    parts = _x_forwarded(headers)
    if not (parts.nodes or parts.schemes or parts.hosts):
        parts = _rfc_7239(", ".join(headers.getlist("forwarded")))
    client, distance = _client(parts.nodes, is_trusted)
    return Forwarded(
        client=client,
        scheme=_nearest([one if one in SCHEMES else "" for one in parts.schemes], distance),
        host=_nearest(parts.hosts, distance),
        prefix=_prefix(headers),
    )


def _client(
    nodes: Sequence[str], is_trusted: Callable[[Address], bool]
) -> tuple[Address | None, int]:
    """Return the address of the client, and how many trusted proxies stand to the right of it.

    If all are trusted, it is the first. If it is hidden ("unknown"), it is the proxy that hid it.
    """
    client: Address | None = None
    for distance, node in enumerate(reversed(nodes)):
        address = _address(node)
        client = address or client
        if address is None or not is_trusted(address):
            return client, distance
    return client, max(len(nodes) - 1, 0)


def _nearest(values: Sequence[str], distance: int) -> str | None:
    """Return the value at this distance from the right, or the next one that is given.

    A list may be shorter than that of the addresses: many proxies replace a value in place of
    adding their own.
    """
    return next((value for value in values[-1 - distance :] if value), None)


def _address(node: str) -> Address | None:
    match = NODE.fullmatch(node)
    return parse_address(match["v6"] or match["v4"] or match["bare"] or "") if match else None


def _x_forwarded(headers: Headers) -> _Parts:
    return _Parts(
        nodes=_listed(headers, "x-forwarded-for"),
        schemes=[one.lower() for one in _listed(headers, "x-forwarded-proto")],
        hosts=_listed(headers, "x-forwarded-host"),
    )


def _listed(headers: Headers, name: str) -> list[str]:
    """Return the last values of a list, which may stand in several lines."""
    text = ",".join(headers.getlist(name))
    return [one.strip() for one in text.rsplit(",", MAX_PROXIES)[-MAX_PROXIES:]] if text else []


def _prefix(headers: Headers) -> str:
    """Return the path prefixes that the proxies have removed, the outermost first."""
    try:
        return path_prefix(
            "".join(path_prefix(one) for one in _listed(headers, "x-forwarded-prefix"))
        )
    except ValueError:
        return ""


def _rfc_7239(text: str) -> _Parts:
    elements = _elements(text)[-MAX_PROXIES:]
    return _Parts(
        nodes=[one.get("for", "") for one in elements],
        schemes=[one.get("proto", "").lower() for one in elements],
        hosts=[one.get("host", "") for one in elements],
    )


def _elements(text: str) -> list[dict[str, str]]:
    """Return the parameters of each element of a `Forwarded` header, by names in lower case.

    After a mistake the elements so far are dropped: a client could otherwise hide those that a
    proxy has added to its own.
    """
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        match = PARAMETER.match(text, position)
        if match is None:
            elements = [{}]
            position = (text.find(",", position) + 1) or len(text)
            continue
        if match["name"]:
            quoted = match["quoted"]
            value = match["value"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            elements[-1].setdefault(match["name"].lower(), value)
        if match["end"] == ",":
            elements.append({})
        position = match.end()
    return [one for one in elements if one]
