"""Host header check against DNS rebinding."""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from protocol.errors import UnknownHost
from service.middleware.errors import send_error
from service.middleware.public_paths import HEALTH, METRICS
from service.network_addresses import is_loopback, parse_address
from service.origins import Origin
from service.settings import ServiceSettings

AUTHORITY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


class TrustedHostMiddleware:
    """Rejects requests whose Host header does not name this service (421).

    If a site's name is made to resolve to this machine (DNS rebinding), a browser takes its pages
    for pages of this service; only the name in `Host` differs. An IP address cannot be rebound,
    nor can the names of the loopback, which are always allowed.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.names = frozenset(name.lower() for name in settings.allowed_hosts)
        self.any_name = settings.keys_needed and not self.names
        self.public_name = Origin.of_url(settings.public_url).host if settings.public_url else None
        self.unchecked = HEALTH | ({METRICS} if settings.public_metrics else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and scope["path"] not in self.unchecked:
            given = Headers(scope=scope).getlist("host")
            host = AUTHORITY.fullmatch(given[0]) if len(given) == 1 else None
            if host is None or not self._is_allowed(host["host"].lower()):
                error = UnknownHost("Host", ", ".join(given) or None, self._bound())
                await send_error(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        if self.any_name or host in self.names or f"*.{host.partition('.')[2]}" in self.names:
            return True
        if host == self.public_name or _is_local(host):
            return True
        return not self.names and parse_address(host.strip("[]")) is not None

    def _bound(self) -> str:
        if self.any_name:
            return "one host name, perhaps with a port"
        unnamed = "localhost" if self.names else "localhost, an IP address"
        return f"{unnamed} or a name in DARKROOM_ALLOWED_HOSTS"


def _is_local(host: str) -> bool:
    return is_loopback(host.strip("[]")) or host.endswith(".localhost")
