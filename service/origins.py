"""Web origins (RFC 6454), path prefixes and public URLs, checked and in one spelling.

The errors of the functions that read settings are bounds in words, as `protocol.startup` expects.

httpx reads the URLs: it gives the host in lower case and, for other scripts than Latin, in its
ASCII form (IDNA 2008), as browsers send it.
"""

import re
from dataclasses import dataclass

import httpx

from service.network_addresses import parse_address

DEFAULT_PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"[a-z0-9._-]{1,253}")
# Letters that need no escaping in a URL, in HTML or in a header.
PREFIX = re.compile(r"(/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]{1,64}){1,16}")


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a site; `port` is None for a scheme without a default port."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> "Origin":
        """Return the origin in `text`. Raises `ValueError` if there is more or less in it."""
        url = _parsed(text)
        if url.raw_path != b"/" or not set(text).isdisjoint("?#"):
            raise ValueError(f"{text} has more than a scheme, a host and a port")
        return cls._of(url)

    @classmethod
    def of_url(cls, text: str) -> "Origin":
        """Return the origin of a URL. Raises `ValueError`."""
        return cls._of(_parsed(text))

    @classmethod
    def _of(cls, url: httpx.URL) -> "Origin":
        host = url.raw_host.decode()
        if ":" in host:  # IPv6, whose zeros can be spelled in many ways
            host = f"[{parse_address(host)}]"
        return cls(url.scheme, host, url.port or DEFAULT_PORTS.get(url.scheme))

    def __str__(self) -> str:
        """Return the origin as browsers spell it, without a default port."""
        default = DEFAULT_PORTS.get(self.scheme)
        port = "" if self.port in (None, default) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def allowed_origin(text: str) -> str:
    """Return an origin of a setting as browsers spell it. Raises `ValueError`."""
    try:
        return str(Origin.parse(text))
    except ValueError:
        raise ValueError(
            "scheme, host and perhaps port of one site, as in https://example.org"
        ) from None


def path_prefix(text: str) -> str:
    """Return a path prefix without a slash at its end, "" for none. Raises `ValueError`."""
    prefix = text.rstrip("/")
    if prefix and not PREFIX.fullmatch(prefix):
        raise ValueError("a path of letters, digits and . _ ~ -, as in /darkroom")
    return prefix


def public_url(text: str) -> str:
    """Return the URL of the service, without a slash at its end. Raises `ValueError`."""
    try:
        url = _parsed(text)
        origin = Origin.of_url(text)
        if origin.scheme in DEFAULT_PORTS and set(text).isdisjoint("?#"):
            return f"{origin}{path_prefix(url.raw_path.decode())}"
    except ValueError:
        pass
    raise ValueError(
        "http:// or https://, a host and perhaps a port and a path, "
        "as in https://example.org/darkroom"
    )


def prefix_of(url: str) -> str:
    """Return the path prefix of a public URL."""
    return path_prefix(httpx.URL(url).path)


def _parsed(text: str) -> httpx.URL:
    """Return an absolute URL without user and password. Raises `ValueError`."""
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode()
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValueError(f"{text} is no URL") from error
    known = parse_address(host) if ":" in host else HOST.fullmatch(host)
    has_port = url.port is None or 0 < url.port < 2**16
    if not (url.scheme and known and has_port) or "@" in text:
        raise ValueError(f"{text} is no URL with a host")
    return url
