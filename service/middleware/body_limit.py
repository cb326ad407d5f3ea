"""Limits on the size of request bodies, on the time to send one, and on their total in memory."""

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protocol.errors import Overloaded, PayloadTooLarge, TooSlow
from service.settings import ServiceSettings

DISCARDED = 4  # bodies up to this many times the limit are read and discarded


@dataclass
class MemoryBudget:
    """Bytes that all bodies together may take, and those they take now."""

    size: int
    used: int = 0

    def reserve(self, count: int) -> None:
        """Reserve `count` bytes. Raises `Overloaded` and reserves nothing if too few are free."""
        if self.used + count > self.size:
            raise Overloaded
        self.used += count

    def release(self, count: int) -> None:
        """Release `count` reserved bytes."""
        self.used -= count


class LimitedBody:
    """The body of one request; reading it fails if it is too large, too late, or over budget."""

    def __init__(
        self, receive: Receive, budget: MemoryBudget, max_bytes: int, timeout_s: float
    ) -> None:
        self._receive = receive
        self._budget = budget
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._deadline = 0.0  # on the loop's clock, set when reading begins
        self._complete = False
        self._read_bytes = 0
        self._reserved = 0

    async def receive(self) -> Message:
        """Return the next ASGI message: a chunk of the body, later the disconnect of the client.

        Raises `PayloadTooLarge`, `TooSlow` or `Overloaded`. Bodies up to `DISCARDED` times the
        limit are read to their end first: a client that reads only after it has sent everything
        would otherwise see a reset connection in place of the response.
        """
        if self._complete:
            return await self._receive()
        message = await self._next_message()
        if self._read_bytes > self._max_bytes:
            while not self._complete and self._read_bytes <= DISCARDED * self._max_bytes:
                await self._next_message()
            raise PayloadTooLarge(
                "body", f"over {self._max_bytes} bytes", f"at most {self._max_bytes} bytes"
            )
        self.reserve(len(message.get("body", b"")))
        return message

    def reserve(self, size: int) -> None:
        """Reserve `size` more bytes for this request. Raises `Overloaded`."""
        self._budget.reserve(size)
        self._reserved += size

    def release(self) -> None:
        """Release all bytes of this request; the body is no longer in memory."""
        self._budget.release(self._reserved)
        self._reserved = 0

    async def _next_message(self) -> Message:
        loop = asyncio.get_running_loop()
        self._deadline = self._deadline or loop.time() + self._timeout_s
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow(self._timeout_s) from None
        self._complete = not message.get("more_body", False)
        self._read_bytes += len(message.get("body", b""))
        return message


class BodyLimitMiddleware:
    """Limits every body. A route may release its memory early through `scope["limited_body"]`."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.max_bytes = settings.max_body_bytes
        self.timeout_s = settings.body_timeout_s
        self.budget = MemoryBudget(max(settings.max_bodies_bytes, settings.max_body_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = LimitedBody(receive, self.budget, self.max_bytes, self.timeout_s)
        scope["limited_body"] = body
        try:
            await self.app(scope, body.receive, send)
        finally:
            body.release()
