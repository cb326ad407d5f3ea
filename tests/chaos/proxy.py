"""A TCP proxy with faults, to be put between our programs and Redis.

    with Proxy(server.port) as proxy:
        redis.Redis(port=proxy.port)
        proxy.reset()                       # every connection breaks, as when a switch restarts
        proxy.lose_answers(3)               # three requests are carried out; nobody hears of it
        proxy.mute()                        # connections stay open, nothing arrives; until unmute()
        trap = proxy.hold_request(b"…")     # the first request with these bytes goes no further
        trap = proxy.hold_answer(b"…")      # … is carried out, and its answer goes no further

It runs in a thread of its own, so tests may be synchronous and kill what is stuck in a trap.
"""

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK = 1 << 16


class Trap:
    """Waits for one request; `sprung` once it has come: its connection is stuck from then on."""

    def __init__(self, pattern: bytes, carried_out: bool) -> None:
        self.pattern = pattern
        self.carried_out = carried_out
        self.sprung = threading.Event()


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

    def hold_request(self, pattern: bytes) -> Trap:
        """Stop the next request that contains `pattern` before the server gets it."""
        return self._trap(Trap(pattern, carried_out=False))

    def hold_answer(self, pattern: bytes) -> Trap:
        """Let the next request that contains `pattern` be carried out, and stop its answer."""
        return self._trap(Trap(pattern, carried_out=True))

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

    async def _pass_requests(self, reader: asyncio.StreamReader, link: "_Link") -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                trap = next((trap for trap in self._traps if trap.pattern in data), None)
                if trap:
                    self._traps.remove(trap)
                    link.trap = trap
                    if not trap.carried_out:
                        trap.sprung.set()
                        continue
                elif self._lost_answers > 0:
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
                if link.trap:
                    link.trap.sprung.set()
                    continue
                link.client.write(data)
                await link.client.drain()


class _Link:
    """Both ends of one connection, and what is to go wrong with it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.deaf = False
        self.trap: Trap | None = None

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()
