"""The whole house in one block: Redis, one worker, the API, started in order and stopped in order.

async with open_house(home, settings, display) as house:
    await house.during(do_something_with(house.url))
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import httpx

from darkroom.addresses import server_url, with_free_port
from darkroom.child import Child, Program, ProgramFailed, running, this_python
from darkroom.embedded_redis import EmbeddedRedis, embedded_redis
from protocol.presence import Presence, WorkerReport, WorkerState
from protocol.redis_client import connect
from protocol.settings import Settings

POLL_S = 0.1
API_GRACE_S = 10.0
WORKER_GRACE_S = 20.0

T = TypeVar("T")


class Display(Protocol):
    """Where the house shows what goes on inside."""

    def line(self, program: str, text: str) -> None:
        """`program` printed `text`."""

    def worker(self, report: WorkerReport) -> None:
        """What the worker says of itself while it gets ready."""


@dataclass(frozen=True)
class House:
    """A running house: every program in it is ready."""

    url: str
    children: list[Child]

    async def during(self, work: Awaitable[T]) -> T:
        """Do `work` as long as the house stands.

        Raises:
            ProgramFailed: a program of the house cannot go on.
        """
        return await _unless_failed(work, self.children)

    async def stand(self) -> None:
        """Stand until a program cannot go on, or until cancelled."""
        await self.during(asyncio.Event().wait())


@asynccontextmanager
async def open_house(home: Path, settings: Settings, display: Display) -> AsyncIterator[House]:
    """Start everything and wait until it is ready; on leaving, nothing of it runs any more.

    `home` keeps the embedded Redis and the pictures. An embedded Redis is started unless the
    settings name one. The API goes first when leaving, Redis last: whoever needs another
    program still has it.

    Raises:
        PortTaken, EmbeddedRedisError, NoServerBinary: it cannot start here.
        ProgramFailed: a program ended, or gave up, before it was ready.
    """
    settings = with_free_port(settings)
    url = server_url(settings)
    async with AsyncExitStack() as stack:
        children: list[Child] = []

        async def start(*programs: Program) -> None:
            started = [await stack.enter_async_context(running(program)) for program in programs]
            children.extend(started)
            everything_ready = asyncio.gather(*(child.is_ready.wait() for child in started))
            await _unless_failed(everything_ready, children)

        redis_url = settings.redis_url
        if "redis_url" not in settings.model_fields_set:
            server = stack.enter_context(embedded_redis(home / "redis"))
            redis_url = server.url
            await _start_redis(start, server, display)
        environment = {
            "REDIS_URL": redis_url,
            "OBJECT_STORE_URL": _store_url(settings, home),
            "HOST": settings.host,
            "PORT": str(settings.port),
        }
        await start(
            Program(
                name="worker",
                command=this_python("darkroom", "worker"),
                ready=lambda: _worker_ready(redis_url, display),
                show=display.line,
                environment=environment,
                grace_s=WORKER_GRACE_S,
            ),
            Program(
                name="api",
                command=this_python("darkroom", "api"),
                ready=lambda: _api_ready(url),
                show=display.line,
                environment=environment,
                grace_s=API_GRACE_S,
            ),
        )
        yield House(url, children)


async def _start_redis(
    start: Callable[[Program], Awaitable[None]], server: EmbeddedRedis, display: Display
) -> None:
    try:
        await start(server.program(display.line))
    except ProgramFailed as error:
        raise ProgramFailed(f"{error}; the end of {server.log}:\n{server.last_words()}") from error


async def _worker_ready(redis_url: str, display: Display) -> None:
    """Wait for a worker that was not there before to say that it serves.

    Raises:
        ProgramFailed: it says that its set-up failed.
    """
    with connect(redis_url) as redis:
        presence = Presence(redis)
        known = {report.name for report in await asyncio.to_thread(presence.workers)}
        while True:
            for report in await asyncio.to_thread(presence.workers):
                if report.name in known:
                    continue
                display.worker(report)
                if report.state.serves:
                    return
                if report.state is WorkerState.SETUP_FAILED:
                    raise ProgramFailed(f"the worker could not get ready: {report.detail}")
            await asyncio.sleep(POLL_S)


async def _api_ready(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        while True:
            try:
                if (await client.get("/healthz")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(POLL_S)


async def _unless_failed(work: Awaitable[T], children: list[Child]) -> T:
    """Await `work`, unless one of the children fails meanwhile: then raise its failure."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait(
            {task, *(child.watch for child in children)}, return_when=asyncio.FIRST_COMPLETED
        )
        for child in children:
            if child.watch.done():
                child.watch.result()
        return task.result()
    finally:
        task.cancel()


def _store_url(settings: Settings, home: Path) -> str:
    if "object_store_url" in settings.model_fields_set:
        return settings.object_store_url
    return (home.resolve() / "pictures").as_uri()
