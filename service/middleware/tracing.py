"""A trace span around every request but the routine ones of monitoring."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from protocol.telemetry.tracing import Tracing
from service.middleware.access_log import ROUTINE, method_of, route_of
from service.middleware.response_status import ResponseStatus


class TracingMiddleware:
    """Records a span for each request; installed only if tracing is on."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self.app = app
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in ROUTINE:
            await self.app(scope, receive, send)
            return
        status = ResponseStatus(send)
        parent = Headers(scope=scope).get("traceparent", "")
        with self.tracing.request(method_of(scope), parent) as finish:
            try:
                await self.app(scope, receive, status)
            finally:
                finish(route_of(scope), status.value)
