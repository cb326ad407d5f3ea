"""Types of settings. Each refuses what the program could not use; an error is the bound in words.

They look at values only, except for the certificates and the socket that a URL of Redis names.
"""

import ipaddress
import re
import ssl
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode
from redis import RedisError

from protocol.connection.redis_client import connect
from protocol.connection.topology import CLUSTER, SENTINEL, Topology, has_topology

HIDDEN = "***"
MAX_PORT = 65535
LONGEST_SOCKET_PATH = 107  # bytes, of sockaddr_un.sun_path on Linux

PLAIN_SCHEMES = ("redis", "rediss")
REDIS_SCHEMES = (
    *PLAIN_SCHEMES,
    "unix",
    *(f"{scheme}{kind}" for kind in (SENTINEL, CLUSTER) for scheme in PLAIN_SCHEMES),
)
STORE_SCHEMES = ("file", "memory", "s3", "s3a", "gs", "az", "azure", "abfs", "abfss")
# Other options of redis-py would change what our code reads or how it waits.
TLS_OPTIONS = (
    *("ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"),
    *("ssl_keyfile_password", "ssl_check_hostname"),
)
REDIS_OPTIONS = (
    *("db", "client_name", "health_check_interval", "sentinel_password", "socket_connect_timeout"),
    *("socket_keepalive", "socket_timeout"),
    *TLS_OPTIONS,
)
HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


def split_list(value: object) -> object:
    """Split a list separated by commas, as it is written in the environment.

    Bytes that are no UTF-8 are refused here: pydantic cannot repeat them in an error.
    """
    if not isinstance(value, str):
        return value
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("a list with commas, in UTF-8")
    return tuple(part.strip() for part in value.split(",") if part.strip())


# Without NoDecode a list would have to be written as JSON.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]


def _hub_owners(owners: tuple[str, ...]) -> tuple[str, ...]:
    for owner in owners:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", owner):
            raise ValueError(f"a list with commas; each is the name of an owner; {owner} is not")
    return owners


HubOwners = Annotated[Names, AfterValidator(_hub_owners)]


@dataclass(frozen=True)
class HoldsPassword:
    """Mark of a setting that may contain a password, also where it is malformed."""


def is_text(value: str) -> bool:
    """Return False for text with control characters, or with bytes that are not UTF-8."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in value)


def masked(text: str) -> str:
    """Return a URL without its user, its password and its query; other text as it is.

    The password of a malformed URL may contain any character, so everything up to the last @ goes.
    """
    scheme, separator, rest = text.rpartition("://") if text.count("://") == 1 else ("", "", text)
    before, at, after = rest.rpartition("@")
    if at and (separator or ":" in before):
        rest = f"{HIDDEN}@{after}"
    if separator and "?" in rest:
        rest = f"{rest.partition('?')[0]}?{HIDDEN}"
    return f"{scheme}{separator}{rest}"


def masked_url(text: str) -> str:
    """Return a URL as `masked` does; of text that is no URL, or has no port where one is due, hide
    all that could be a password."""
    scheme, separator, _ = text.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return text if re.fullmatch(r"[\w.-]+:\d+(/\d*)?", text) else HIDDEN
    rest = masked(text).removeprefix(f"{scheme}://")
    authority, slash, path = rest.partition("/")
    if "[" not in authority:
        login, at, hosts = authority.rpartition("@")
        hosts = ",".join(re.sub(r":(?!\d+$).*", f":{HIDDEN}", host) for host in hosts.split(","))
        authority = f"{login}{at}{hosts}"
    return f"{scheme}://{authority}{slash}{path}"


def split_url(url: str) -> SplitResult:
    """Split a URL and check its port. Raises ValueError with the bound."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("a URL with a host name or an IP address") from None
    for address in parts.netloc.rpartition("@")[2].split(","):
        host = urlsplit(f"//{address}")
        try:
            port = host.port
        except ValueError:
            port = 0
        if port == 0:
            raise ValueError(f"a URL with a port from 1 to {MAX_PORT}")
        try:
            check_host(host.hostname or "localhost")
        except ValueError:
            raise ValueError("a URL with a host name or an IP address") from None
    return parts


def check_host(host: str) -> str:
    """Return the name or address of a host. Raises ValueError with the bound."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        named = HOST_NAME.fullmatch(host) and len(host) <= 253
        if not named or re.fullmatch(r"[0-9.]+", host):
            raise ValueError(
                "an IP address or a host name, without scheme, port or brackets"
            ) from None
    return host


def check_http_url(url: str) -> str:
    """Return the URL of an HTTP server, perhaps with a path, without a slash at the end.

    Raises ValueError with the bound.
    """
    parts = split_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL such as http://host:8000")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("a URL without user, query and fragment")
    return url.rstrip("/")


def _check_redis_url(url: str) -> str:
    if _scheme(url) not in REDIS_SCHEMES:
        raise ValueError(_one_of(REDIS_SCHEMES))
    if re.match(r"rediss?(\+\w+)?://[^@/?#]*[/?#].*@", url):
        raise ValueError("a URL whose password has / ? # written as %2F %3F %23")
    parts = split_url(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.fragment:
        raise ValueError("a URL without a fragment")
    if unknown := options.keys() - set(REDIS_OPTIONS):
        known = ", ".join(REDIS_OPTIONS)
        raise ValueError(f"a URL with these options only: {known} (not {min(unknown)})")
    if has_topology(url):
        Topology.read(url)
    elif parts.scheme == "unix":
        _check_socket(parts)
    elif not re.fullmatch(r"/?[0-9]*", parts.path):
        raise ValueError("a URL that ends in the number of a database, as in /0")
    if not re.fullmatch("[0-9]{1,6}", options.get("db", "0")):
        raise ValueError("a URL whose option db is the number of a database")
    _check_certificates(options)
    try:
        connect(url).connection_pool.make_connection()  # connects when it is first used
    except (RedisError, TypeError, ValueError):
        # Their messages may quote the password.
        raise ValueError("a URL whose options have values that redis-py takes") from None
    return url


def _check_socket(parts: SplitResult) -> None:
    path = unquote(parts.path)
    if parts.netloc.rpartition("@")[2] or not path.startswith("/"):
        raise ValueError("a URL with the whole path of a socket, as in unix:///run/redis.sock")
    if len(path.encode()) > LONGEST_SOCKET_PATH:
        raise ValueError(f"a URL with a path of at most {LONGEST_SOCKET_PATH} bytes")
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # the server may start later
        return
    if not stat.S_ISSOCK(mode):
        raise ValueError("a URL with the path of a socket, not of a file or folder")


def _check_certificates(options: Mapping[str, str]) -> None:
    """Load the certificates that the options of a URL name, as the connection will."""
    authority, folder = options.get("ssl_ca_certs"), options.get("ssl_ca_path")
    certificate, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    if not any((authority, folder, certificate)):
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authority or folder:
            context.load_verify_locations(authority, folder)
        if certificate:
            password = options.get("ssl_keyfile_password", "")  # without one, it would be asked for
            context.load_cert_chain(certificate, key, password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = ", ".join(filter(None, (authority, folder, certificate, key)))
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ValueError(
            f"a URL whose certificate files are PEM files that can be read, not {files} ({reason})"
        ) from None


def _check_store_url(url: str) -> str:
    if _scheme(url) not in STORE_SCHEMES:
        raise ValueError(_one_of(STORE_SCHEMES))
    parts = split_url(url)
    if parts.query or parts.fragment:
        raise ValueError("a URL without query and fragment; ? and # are written %3F and %23")
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/") or "\0" in unquote(parts.path):
            raise ValueError("the whole path of a folder, as in file:///var/lib/darkroom")
    elif parts.scheme != "memory" and not parts.hostname:
        raise ValueError(f"a URL with a bucket, as in {parts.scheme}://bucket")
    if parts.password is not None:
        raise ValueError("a URL without a password; credentials are set by AWS_ACCESS_KEY_ID, …")
    return url


def _scheme(url: str) -> str:
    return url.partition("://")[0] if "://" in url else ""


def _one_of(schemes: tuple[str, ...]) -> str:
    return f"a URL that begins with one of {', '.join(f'{scheme}://' for scheme in schemes)}"


def expanded(path: Path) -> Path:
    """Return the path with `~` replaced; unchanged if there is no such user or home folder."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _check_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", device):
        raise ValueError("auto, cpu, mps, cuda or a GPU by its number, as in cuda:1")
    return device


Device = Annotated[str, AfterValidator(_check_device)]
Host = Annotated[str, AfterValidator(check_host)]
HttpUrl = Annotated[str, AfterValidator(check_http_url)]
RedisUrl = Annotated[str, AfterValidator(_check_redis_url), HoldsPassword()]
StoreUrl = Annotated[str, AfterValidator(_check_store_url)]
FilePath = Annotated[Path, AfterValidator(expanded)]
