"""How much of what clients send is held at once, and for how long they may be at it."""

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from protocol.errors import Overloaded, PayloadTooLarge, TooSlow
from service.settings import ServiceSettings

DISCARDED = 4  # bodies up to this many times the bound are read and dropped


@dataclass
class Room:
    """Bytes that all bodies may take together, and those they take now."""

    size: int
    used: int = 0

    def take(self, count: int) -> None:
        """Raises `Overloaded` and takes nothing where there is no room."""
        if self.used + count > self.size:
            raise Overloaded
        self.used += count


class Upload:
    """A body on its way in: reading it ends with an error once it is too large, late or many."""

    def __init__(self, receive: Receive, room: Room, max_bytes: int, timeout_s: float) -> None:
        self._receive = receive
        self._room = room
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._deadline = 0.0  # on the loop's clock, once reading has begun
        self._complete = False
        self._read = 0
        self._held = 0

    async def receive(self) -> Message:
        """The next message: a piece of the body, later that the client has left.

        Raises `PayloadTooLarge`, `TooSlow` or `Overloaded`. Somewhat larger bodies are read to
        their end first, else a client that only listens after it has sent everything would see a
        reset connection and not our answer.
        """
        if self._complete:
            return await self._receive()
        message = await self._next()
        if self._read > self._max_bytes:
            while not self._complete and self._read <= DISCARDED * self._max_bytes:
                await self._next()
            raise PayloadTooLarge(
                "body", f"over {self._max_bytes} bytes", f"at most {self._max_bytes} bytes"
            )
        self.hold(len(message.get("body", b"")))
        return message

    def hold(self, size: int) -> None:
        """So many bytes more are held for this request. Raises `Overloaded`."""
        self._room.take(size)
        self._held += size

    def let_go(self) -> None:
        """The body is no longer needed by anybody."""
        self._room.used -= self._held
        self._held = 0

    async def _next(self) -> Message:
        loop = asyncio.get_running_loop()
        self._deadline = self._deadline or loop.time() + self._timeout_s
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow(self._timeout_s) from None
        self._complete = not message.get("more_body", False)
        self._read += len(message.get("body", b""))
        return message


class BodyLimitMiddleware:
    """Puts each body under the bounds; a route may let go of it early (`scope["upload"]`)."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self.max_bytes = settings.max_body_bytes
        self.timeout_s = settings.body_timeout_s
        self.room = Room(max(settings.max_bodies_bytes, settings.max_body_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        upload = Upload(receive, self.room, self.max_bytes, self.timeout_s)
        scope["upload"] = upload
        try:
            await self.app(scope, upload.receive, send)
        finally:
            upload.let_go()
