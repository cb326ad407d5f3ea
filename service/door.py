"""Who gets in: what is checked of every request before a byte of its body is read.

Everything is closed but what is named here, so that a new route is closed until somebody opens it.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Call

from protocol.access import Scope
from protocol.errors import DarkroomError, ForeignOrigin, UnknownHost
from protocol.limits import Rate
from service.keys import Visitor
from service.page_files import part_paths
from service.problems import problem_response
from service.settings import ServiceSettings

HEALTH = frozenset({"/healthz", "/readyz"})
PAGES = frozenset({"/", "/docs", "/openapi.json"}) | part_paths()
METRICS = "/metrics"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
AUTHORITY = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


class KnownHost:
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
                await _refuse(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _means_us(self, host: str) -> bool:
        if self.any_name or host in self.names or f"*.{host.partition('.')[2]}" in self.names:
            return True
        return not self.names and (_is_address(host) or _is_local(host))


class SameOrigin:
    """Refuses what another site's page makes a browser change here (403).

    Forms may be sent anywhere without asking, but browsers say where from.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self.app = app
        self.origins = frozenset(origins)

    async def __call__(self, scope: Call, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in READING:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._is_ours(origin, headers.get("host", "")):
                error = ForeignOrigin("Origin", origin, "this service, or among its origins")
                await _refuse(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_ours(self, origin: str, host: str) -> bool:
        if origin in self.origins:
            return True
        try:
            return urlsplit(origin).netloc.lower() == host.lower() != ""
        except ValueError:  # a broken IPv6 address
            return False


class Authenticate:
    """Lets those in who show a key for what they want (401, 403, 429); names them in the scope."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.keys_needed = settings.keys_needed
        self.open = HEALTH | PAGES | ({METRICS} if settings.public_metrics else set())

    async def __call__(self, scope: Call, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self.open:
            try:
                scope["visitor"] = visitor = await self._visitor(scope)
            except DarkroomError as error:
                await _refuse(error, scope, receive, send)
                return
            scope["client_name"] = visitor.name
        await self.app(scope, receive, send)

    async def _visitor(self, scope: Call) -> Visitor:
        if not self.keys_needed:
            return Visitor.anybody(scope["client"][0] if scope.get("client") else "")
        services = scope["app"].state.services
        visitor: Visitor = await services.keys.visitor(Headers(scope=scope))
        visitor.may(wanted_scope(scope["method"], scope["path"]))
        if visitor.limits.requests_per_minute is not None:
            rate = Rate("requests", visitor.limits.requests_per_minute)
            await run_in_threadpool(services.limits.take, visitor.client, rate, 1)
        return visitor


def wanted_scope(method: str, path: str) -> Scope:
    """What a key must be meant for, to ask for this."""
    if path == METRICS:
        return Scope.METRICS
    return Scope.READ if method in READING else Scope.GENERATE


async def _refuse(error: DarkroomError, scope: Call, receive: Receive, send: Send) -> None:
    await problem_response(Request(scope), error)(scope, receive, send)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")
