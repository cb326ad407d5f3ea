"""A TCP proxy with faults, between the programs and Redis.

    with Proxy(server.port) as proxy:
        redis.Redis(port=proxy.port)
        proxy.reset()                         # every connection breaks, as when a switch restarts
        proxy.lose_responses(3)               # three requests are carried out without a response
        proxy.mute()                          # connections stay open, nothing arrives; see unmute()
        trap = proxy.hold_request(b"…")       # the first request with these bytes is held
        trap = proxy.hold_response_to(b"…")   # … is carried out, and its response is held
        trap = proxy.hold_response(b"…")      # the first response with these bytes is held

It runs in its own thread, so that tests can be synchronous and can kill a program that waits for a
held message.
"""

import asyncio
import threading
from contextlib import suppress
from enum import Enum, auto
from typing import Self

CHUNK = 1 << 16


class Hold(Enum):
    """The message that a trap holds, and the message that it searches."""

    REQUEST = auto()
    RESPONSE_TO_REQUEST = auto()
    RESPONSE = auto()


class Trap:
    """A filter for messages with all of `patterns`.

    `triggered` is set when such a message is held; its connection then stays blocked.
    """

    def __init__(self, hold: Hold, patterns: tuple[bytes, ...]) -> None:
        self.hold = hold
        self.triggered = threading.Event()
        self._patterns = patterns

    def matches(self, data: bytes) -> bool:
        return not self.triggered.is_set() and all(each in data for each in self._patterns)


class Proxy:
    """A proxy between clients of `port` and a server on this machine."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._links: set[asyncio.StreamWriter] = set()
        self._lost_responses = 0
        self._traps: list[Trap] = []
        self._open = asyncio.Event()  # cleared while muted
        self._open.set()

    @property
    def url(self) -> str:
        """Address of Redis through this proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def reset(self) -> None:
        """Break every connection."""
        self._loop.call_soon_threadsafe(self._reset)

    def lose_responses(self, times: int) -> None:
        """Break the connections of the next `times` requests after the server has run them."""
        self._lost_responses += times

    def mute(self) -> None:
        """Pass nothing on, in either direction, until `unmute`."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def unmute(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    def hold_request(self, *patterns: bytes) -> Trap:
        """Hold the next request that contains all `patterns` before the server gets it."""
        return self._trap(Trap(Hold.REQUEST, patterns))

    def hold_response_to(self, *patterns: bytes) -> Trap:
        """Pass on the next request that contains all `patterns`, and hold its response."""
        return self._trap(Trap(Hold.RESPONSE_TO_REQUEST, patterns))

    def hold_response(self, *patterns: bytes) -> Trap:
        """Hold the next response that contains all `patterns`."""
        return self._trap(Trap(Hold.RESPONSE, patterns))

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _trap(self, trap: Trap) -> Trap:
        self._traps.append(trap)
        return trap

    def _reset(self) -> None:
        for writer in self._links:
            writer.transport.abort()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        try:
            server_reader, server_writer = await asyncio.open_connection(
                "127.0.0.1", self._target_port
            )
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server_writer)
        self._links |= {writer, server_writer}
        directions = [
            asyncio.create_task(self._pass_requests(reader, link)),
            asyncio.create_task(self._pass_responses(server_reader, link)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in directions:
                task.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            self._links -= {writer, server_writer}
            link.abort()

    def _matching_trap(self, hold: Hold, data: bytes) -> Trap | None:
        """Return the trap that matches a message, and trigger it if it holds this message."""
        for trap in self._traps:
            if trap.hold is hold and trap.matches(data):
                if hold is not Hold.RESPONSE_TO_REQUEST:
                    trap.triggered.set()
                return trap
        return None

    async def _pass_requests(self, reader: asyncio.StreamReader, link: "_Link") -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                if self._matching_trap(Hold.REQUEST, data):
                    link.blocked = True
                    continue
                link.trap = link.trap or self._matching_trap(Hold.RESPONSE_TO_REQUEST, data)
                if self._lost_responses > 0:
                    self._lost_responses -= 1
                    link.drop_responses = True
                link.server.write(data)
                await link.server.drain()

    async def _pass_responses(self, reader: asyncio.StreamReader, link: "_Link") -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                if link.drop_responses:
                    return
                if link.trap or self._matching_trap(Hold.RESPONSE, data):
                    link.blocked = True
                if link.trap:
                    link.trap.triggered.set()
                if link.blocked:
                    continue
                link.client.write(data)
                await link.client.drain()


class _Link:
    """Both ends of a connection, and its faults."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.drop_responses = False
        self.blocked = False
        self.trap: Trap | None = None

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()
