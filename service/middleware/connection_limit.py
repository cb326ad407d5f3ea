"""Refusal of requests while too many connections are open."""

from starlette.types import ASGIApp, Receive, Scope, Send

from protocol.errors import TooManyConnections
from service.middleware.errors import send_error
from service.middleware.public_paths import HEALTH


class ConnectionLimitMiddleware:
    """Responds 503 over the limit, but to health checks: a busy process must not be restarted.

    The server counts the connections (`service.http_protocol`) and has closed idle ones before.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        open_now = scope.get("state", {}).get("connections", 0)
        if open_now > self.limit and scope["path"] not in HEALTH:
            await send_error(TooManyConnections(self.limit), scope, receive, send)
            return
        await self.app(scope, receive, send)
