"""The layers around every request. Each does one thing; `app.create_app` shows their order."""

import re
import uuid
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protocol.errors import PayloadTooLarge

REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")  # nothing that could break a log line or a header
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # For JSON and pictures; pages bring their own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}
DISCARDED = 4  # bodies up to this many times the bound are read and dropped


class RequestId:
    """Names each request: by the client's `X-Request-Id` if harmless, else by a fresh one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        await self.app(scope, receive, _with_headers(send, [("X-Request-Id", request_id)]))


class SecurityHeaders:
    """Adds the headers that keep browsers from being too helpful, unless the route set its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self.app(scope, receive, _with_headers(send, SECURITY_HEADERS.items()))


class BodyLimit:
    """Ends reading with `PayloadTooLarge` once a body exceeds the bound, whatever length it claims.

    Somewhat larger bodies are read to their end first, else a client that only listens after it
    has sent everything would see a reset connection and not our answer.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read <= self.max_bytes:
                return message
            while message.get("more_body") and read <= DISCARDED * self.max_bytes:
                message = await receive()
                read += len(message.get("body", b""))
            raise PayloadTooLarge(
                "body", f"over {self.max_bytes} bytes", f"at most {self.max_bytes} bytes"
            )

        await self.app(scope, counted, send)


def _with_headers(send: Send, headers: Iterable[tuple[str, str]]) -> Send:
    """A `send` that adds `headers` to the response, where it does not have them yet."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = MutableHeaders(scope=message)
            for name, value in headers:
                present.setdefault(name, value)
        await send(message)

    return sending
