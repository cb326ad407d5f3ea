"""The whole house in one block: Redis, one worker, the API, started in order and stopped in order.

async with local_stack(home, settings, display) as house:
    await house.during(do_something_with(house.url))
"""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx

from darkroom.addresses import server_url, with_free_port
from darkroom.processes.embedded_redis import embedded_redis
from darkroom.processes.process import ManagedProcess, Program, ProgramFailed, running, this_python
from protocol.connection.redis_client import connect
from protocol.registry.presence import Presence, WorkerReport, WorkerState
from protocol.settings import LogFormat, Settings

POLL_S = 0.1
API_GRACE_S = 10.0
WORKER_GRACE_S = 40.0
# A person at a Ctrl-C waits less gladly than an operator: what is not finished after these seconds
# is handed back to the queue, and goes on at the next start.
FINISHING, FINISHING_S = "DARKROOM_WORKER_SHUTDOWN_GRACE_S", "3"
WORKER = this_python("darkroom", "worker")

T = TypeVar("T")


class Display(Protocol):
    """Where the house shows what goes on inside."""

    def line(self, program: str, text: str) -> None:
        """`program` printed `text`."""

    def worker(self, report: WorkerReport) -> None:
        """What the worker says of itself while it gets ready."""


class LocalStack:
    """A running house: every program started in it is kept running as long as `stack` is open."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url = url
        self._stack = stack
        self._children: list[ManagedProcess] = []

    async def start(self, *programs: Program) -> None:
        """Start programs and wait until all are ready. Raises what `during` raises."""
        started = [await self._stack.enter_async_context(running(program)) for program in programs]
        self._children += started
        await self.during(_all_ready(started))

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` as long as the house stands.

        Raises:
            ProgramFailed: a program of the house cannot go on; `work` has been cancelled.
        """
        task = asyncio.create_task(work)
        watches = [child.watch for child in self._children]
        try:
            await asyncio.wait({task, *watches}, return_when=asyncio.FIRST_COMPLETED)
            for watch in watches:
                if watch.done():
                    watch.result()
            return await task
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def stand(self) -> None:
        """Stand until a program cannot go on, or until cancelled."""
        await self.during(asyncio.sleep(math.inf))


@asynccontextmanager
async def local_stack(
    home: Path, settings: Settings, display: Display, worker: Sequence[str] = WORKER
) -> AsyncIterator[LocalStack]:
    """Start everything and wait until it is ready; on leaving, nothing of it runs any more.

    `home` keeps the embedded Redis and the pictures; `worker` is the command that draws. An
    embedded Redis is started unless the settings name one. The API goes first when leaving, Redis
    last: whoever needs another program still has it.

    Raises:
        PortTaken, EmbeddedRedisError, NoServerBinary: it cannot start here.
        ProgramFailed: a program ended, or gave up, before it was ready.
    """
    settings = with_free_port(settings)
    async with AsyncExitStack() as stack:
        house = LocalStack(server_url(settings), stack)
        redis_url = settings.redis_url
        if "redis_url" not in settings.model_fields_set:
            server = stack.enter_context(embedded_redis(home / "redis"))
            redis_url = server.url
            await house.start(server.program(display.line))
        environment = {
            "REDIS_URL": redis_url,
            "OBJECT_STORE_URL": _store_url(settings, home),
            "HOST": settings.host,
            "PORT": str(settings.port),
            "DARKROOM_LOG_FORMAT": _log_format(settings),
        }
        await house.start(
            _worker(worker, environment, display), _api(environment, display, house.url)
        )
        yield house


def _worker(command: Sequence[str], environment: Mapping[str, str], display: Display) -> Program:
    return Program(
        name="worker",
        command=command,
        ready=lambda: _worker_ready(environment["REDIS_URL"], display),
        show=display.line,
        environment={FINISHING: os.environ.get(FINISHING, FINISHING_S), **environment},
        grace_s=WORKER_GRACE_S,
    )


def _api(environment: Mapping[str, str], display: Display, url: str) -> Program:
    return Program(
        name="api",
        command=this_python("darkroom", "api"),
        ready=lambda: _api_ready(url),
        show=display.line,
        environment=environment,
        grace_s=API_GRACE_S,
    )


async def _all_ready(children: list[ManagedProcess]) -> None:
    for child in children:
        await child.is_ready.wait()


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


def _log_format(settings: Settings) -> LogFormat:
    """A person reads along, though the programs print to no terminal; unless told otherwise."""
    return LogFormat.TEXT if settings.log_format is LogFormat.AUTO else settings.log_format


def _store_url(settings: Settings, home: Path) -> str:
    if "object_store_url" in settings.model_fields_set:
        return settings.object_store_url
    return (home.resolve() / "pictures").as_uri()
