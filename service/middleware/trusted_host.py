"""Host header check."""

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Call

from protocol.errors import UnknownHost
from service.middleware.public_paths import HEALTH, METRICS
from service.middleware.refusal import refuse
from service.settings import ServiceSettings

AUTHORITY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


class TrustedHostMiddleware:
    """Refuses a Host header that does not mean us (421).

    A page of a site whose name was pointed at this machine is, to a browser, of one origin with us
    (DNS rebinding); only that name gives it away. An address cannot be pointed elsewhere.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.names = frozenset(name.lower() for name in settings.allowed_hosts)
        self.any_name = settings.keys_needed and not self.names
        self.open = HEALTH | ({METRICS} if settings.public_metrics else set())

    async def __call__(self, scope: Call, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self.open:
            given = Headers(scope=scope).getlist("host")
            host = AUTHORITY.fullmatch(given[0]) if len(given) == 1 else None
            if host is None or not self._means_us(host["host"].lower()):
                error = UnknownHost("Host", ", ".join(given) or None, "a name of this service")
                await refuse(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _means_us(self, host: str) -> bool:
        if self.any_name or host in self.names or f"*.{host.partition('.')[2]}" in self.names:
            return True
        return not self.names and (_is_address(host) or _is_local(host))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")
