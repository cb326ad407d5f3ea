"""A TCP proxy with faults, to be put between our programs and Redis.

    with Proxy(server.port) as proxy:
        redis.Redis(port=proxy.port)
        proxy.reset()                       # every connection breaks, as when a switch restarts
        proxy.lose_answers(3)               # three requests are carried out; nobody hears of it
        proxy.mute()                        # connections stay open, nothing arrives; until unmute()
        trap = proxy.hold_request(b"…")     # the first request with these bytes goes no further
        trap = proxy.hold_answer_to(b"…")   # … is carried out, and its answer goes no further
        trap = proxy.hold_answer(b"…")      # the first answer with these bytes goes no further

It runs in a thread of its own, so tests may be synchronous and kill what is stuck in a trap.
"""

import asyncio
import threading
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Self

CHUNK = 1 << 16


class Hold(Enum):
    """What a trap looks at, and what it holds."""

    REQUEST = auto()
    ANSWER_TO_REQUEST = auto()
    ANSWER = auto()


class Trap:
    """Waits for all of `words`; `sprung` once they have come: that connection is stuck for good."""

    def __init__(self, hold: Hold, words: tuple[bytes, ...]) -> None:
        self.hold = hold
        self.sprung = threading.Event()
        self._words = words

    def catches(self, data: bytes) -> bool:
        return not self.sprung.is_set() and all(word in data for word in self._words)


class Proxy:
    """Passes bytes on between whoever connects to `port` and a server on this machine."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._links: set[asyncio.StreamWriter] = set()
        self._lost_answers = 0
        self._traps: list[Trap] = []
        self._open = asyncio.Event()  # cleared while muted
        self._open.set()

    @property
    def url(self) -> str:
        """Redis' address by way of here."""
        return f"redis://127.0.0.1:{self.port}/0"

    def reset(self) -> None:
        """Break every connection."""
        self._loop.call_soon_threadsafe(self._reset)

    def lose_answers(self, times: int) -> None:
        """Break the next `times` connections that ask something, once the server has done it."""
        self._lost_answers += times

    def mute(self) -> None:
        """Let nothing through, in either direction, until `unmute`."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def unmute(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    def hold_request(self, *words: bytes) -> Trap:
        """Stop the next request that contains all `words` before the server gets it."""
        return self._trap(Trap(Hold.REQUEST, words))

    def hold_answer_to(self, *words: bytes) -> Trap:
        """Let the next request that contains all `words` be carried out, and stop its answer."""
        return self._trap(Trap(Hold.ANSWER_TO_REQUEST, words))

    def hold_answer(self, *words: bytes) -> Trap:
        """Stop the next answer that contains all `words`."""
        return self._trap(Trap(Hold.ANSWER, words))

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        """One connection, until either side ends it."""
        try:
            server_reader, server_writer = await asyncio.open_connection(
                "127.0.0.1", self._target_port
            )
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server_writer)
        self._links |= {writer, server_writer}
        ways = [
            asyncio.create_task(self._pass_requests(reader, link)),
            asyncio.create_task(self._pass_answers(server_reader, link)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._links -= {writer, server_writer}
            link.abort()

    def _caught(self, hold: Hold, data: bytes) -> Trap | None:
        """The trap that these bytes are caught in; one that holds what it looks at has sprung."""
        for trap in self._traps:
            if trap.hold is hold and trap.catches(data):
                if hold is not Hold.ANSWER_TO_REQUEST:
                    trap.sprung.set()
                return trap
        return None

    async def _pass_requests(self, reader: asyncio.StreamReader, link: "_Link") -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                if self._caught(Hold.REQUEST, data):
                    link.stuck = True
                    continue
                link.trap = link.trap or self._caught(Hold.ANSWER_TO_REQUEST, data)
                if self._lost_answers > 0:
                    self._lost_answers -= 1
                    link.deaf = True
                link.server.write(data)
                await link.server.drain()

    async def _pass_answers(self, reader: asyncio.StreamReader, link: "_Link") -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                if link.deaf:
                    return
                if link.trap or self._caught(Hold.ANSWER, data):
                    link.stuck = True
                if link.trap:
                    link.trap.sprung.set()
                if link.stuck:
                    continue
                link.client.write(data)
                await link.client.drain()


class _Link:
    """Both ends of one connection, and what is to go wrong with it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.deaf = False
        self.stuck = False
        self.trap: Trap | None = None

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()
