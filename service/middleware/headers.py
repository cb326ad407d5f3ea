"""Middleware that adds response headers: the request id and the security headers."""

import re
import uuid
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protocol.telemetry import context

REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")  # nothing that could break a log line or a header
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    # For JSON and images; the HTML pages set their own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}

# The messages that have header fields.
STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")


class RequestIdMiddleware:
    """Gives each request an id: the client's `X-Request-Id` if it is valid, else a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        context.request_id.set(request_id)  # for logs, and for a job that the request submits
        await self.app(scope, receive, _with_headers(send, [("X-Request-Id", request_id)]))


class SecurityHeadersMiddleware:
    """Adds security headers to every response, except those that the route has set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _with_headers(send, SECURITY_HEADERS.items()))


def _with_headers(send: Send, headers: Iterable[tuple[str, str]]) -> Send:
    """Return a `send` that adds to the response those of `headers` that it does not have."""

    async def sending(message: Message) -> None:
        if message["type"] in STARTS:
            present = MutableHeaders(scope=message)
            for name, value in headers:
                present.setdefault(name, value)
        await send(message)

    return sending
