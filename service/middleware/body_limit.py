"""Limits on request bodies: size, pace, uploads of one client at once, total in memory."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protocol.errors import Overloaded, PayloadTooLarge, TooManyUploads, TooSlow
from service.middleware.upload_pace import UploadPace
from service.settings import ServiceSettings


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


class UploadCounts:
    """The number of bodies that each client is sending, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts = Counter[str]()

    def begin(self, client: str) -> None:
        """Count one more upload. Raises `TooManyUploads`."""
        if self._counts[client] >= self._limit:
            raise TooManyUploads(self._limit)
        self._counts[client] += 1

    def end(self, client: str) -> None:
        """Count one upload less."""
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]


@dataclass(frozen=True)
class BodyLimits:
    """The limits of one body, and the counts that it shares with all others."""

    max_bytes: int
    pace: UploadPace
    budget: MemoryBudget
    uploads: UploadCounts


class LimitedBody:
    """The body of one request; reading it fails if it is too large, too slow, or over a limit."""

    def __init__(self, receive: Receive, limits: BodyLimits, client: str, announced: int) -> None:
        self._receive = receive
        self._limits = limits
        self._client = client
        self._announced = announced  # bytes, 0 if unknown
        self._uploading = False
        self._complete = False
        self._waited_s = 0.0  # for the client; the time of reading is not its fault
        self._read_bytes = 0
        self._reserved = 0

    async def receive(self) -> Message:
        """Return the next ASGI message: a chunk of the body, later the disconnect of the client.

        Raises `PayloadTooLarge`, `TooSlow`, `TooManyUploads` or `Overloaded`. A body announced as
        too large is refused before the client is asked for it (`Expect: 100-continue`).
        """
        if self._complete:
            return await self._receive()
        self._check_size(self._announced)
        if not self._uploading:
            self._limits.uploads.begin(self._client)
            self._uploading = True
        message = await self._next_message()
        self._complete = not message.get("more_body", False)
        if self._complete:
            self._end_upload()
        size = len(message.get("body", b""))
        self._read_bytes += size
        self._check_size(self._read_bytes)
        self.reserve(size)
        return message

    def reserve(self, size: int) -> None:
        """Reserve `size` more bytes for this request. Raises `Overloaded`."""
        self._limits.budget.reserve(size)
        self._reserved += size

    def release(self) -> None:
        """Release all bytes of this request; the body is no longer in memory."""
        self._limits.budget.release(self._reserved)
        self._reserved = 0

    def close(self) -> None:
        """Release everything; the request has ended."""
        self._end_upload()
        self.release()

    def _check_size(self, size: int) -> None:
        limit = self._limits.max_bytes
        if size > limit:
            raise PayloadTooLarge("body", f"{size} bytes or more", f"at most {limit} bytes")

    def _end_upload(self) -> None:
        if self._uploading:
            self._limits.uploads.end(self._client)
            self._uploading = False

    async def _next_message(self) -> Message:
        loop, pace = asyncio.get_running_loop(), self._limits.pace
        began = loop.time()
        try:
            async with asyncio.timeout(pace.patience_s(self._waited_s, self._read_bytes)):
                return await self._receive()
        except TimeoutError:
            raise TooSlow(pace.silence_s, pace.min_rate, pace.grace_s) from None
        finally:
            self._waited_s += loop.time() - began


class BodyLimitMiddleware:
    """Limits every body. A route may release its memory early through `scope["limited_body"]`."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.limits = BodyLimits(
            max_bytes=settings.max_body_bytes,
            pace=UploadPace.from_settings(settings),
            budget=MemoryBudget(max(settings.max_bodies_bytes, settings.max_body_bytes)),
            uploads=UploadCounts(settings.max_uploads_per_client),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = int(Headers(scope=scope).get("content-length", "0"))  # the server has read it
        client = scope["user"].client if "user" in scope else ""
        body = LimitedBody(receive, self.limits, client, announced)
        scope["limited_body"] = body
        try:
            await self.app(scope, body.receive, send)
        finally:
            body.close()
