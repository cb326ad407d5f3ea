"""The request as its client sent it, where trusted proxies stand between."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.middleware.forwarded_headers import Forwarded, read_forwarded
from service.network_addresses import Address, parse_address
from service.settings import ServiceSettings

WEB_SOCKET = {"http": "ws", "https": "wss"}


class ForwardedMiddleware:
    """Sets client, scheme, host and path of a request to what its client used.

    The headers that say so count only if the connection comes from one of
    `DARKROOM_TRUSTED_PROXIES`; others cannot be believed. `scope["forwarded"]` has what they say,
    and the path prefix of the settings. A proxy may remove the prefix or leave it: the rest of the
    service sees paths without it.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.trusted = settings.trusted_proxies
        self.prefix = settings.path_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self._restore(scope)
        await self.app(scope, receive, send)

    def _restore(self, scope: Scope) -> None:
        host, port = scope.get("client") or ("", 0)
        client, forwarded = parse_address(host), Forwarded()
        if client and self._is_trusted(client):
            forwarded = read_forwarded(Headers(scope=scope), self._is_trusted)
        if address := forwarded.client or client:
            scope["client"] = (str(address), 0 if forwarded.client else port)
        if forwarded.scheme is not None:
            web_socket = scope["type"] == "websocket"
            scope["scheme"] = WEB_SOCKET[forwarded.scheme] if web_socket else forwarded.scheme
        if forwarded.host is not None:
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [*others, (b"host", forwarded.host.encode("latin-1"))]
        prefix = self.prefix or forwarded.prefix
        if prefix and f"{scope['path']}/".startswith(f"{prefix}/"):
            scope["path"] = scope["path"].removeprefix(prefix) or "/"
        scope["forwarded"] = Forwarded(forwarded.client, forwarded.scheme, forwarded.host, prefix)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self.trusted)
