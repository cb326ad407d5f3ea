"""Local stack: Redis, one worker and the API, started and stopped in order.

async with local_stack(home, settings, display) as stack:
    await stack.during(do_something_with(stack.url))
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
from protocol.startup import read_settings

POLL_S = 0.1
API_GRACE_S = 10.0
WORKER_GRACE_S = 40.0
# After Ctrl-C a user waits less than an operator: jobs that are not finished after this time are
# requeued and resume at the next start.
GRACE, DEFAULT_GRACE_S = "DARKROOM_WORKER_SHUTDOWN_GRACE_S", "3"
API_GRACE = "DARKROOM_SHUTDOWN_GRACE_S"
MARGIN_S = 10.0  # for a program to end after its own time
WORKER = this_python("darkroom", "worker")

T = TypeVar("T")


class Display(Protocol):
    """Output of the local stack."""

    def line(self, program: str, text: str) -> None:
        """Show the line `text` of `program`."""

    def worker(self, report: WorkerReport) -> None:
        """Show the worker's start-up progress."""


class LocalStack:
    """A running local stack; each of its programs is kept running while `stack` is open."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url = url
        self._stack = stack
        self._processes: list[ManagedProcess] = []

    async def start(self, *programs: Program) -> None:
        """Start programs and wait until all are ready.

        Raises:
            ProgramFailed: a program cannot be started.
        """
        started = [await self._stack.enter_async_context(running(program)) for program in programs]
        self._processes += started
        await self.during(_all_ready(started))

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` while all programs run, and return its result.

        Raises:
            ProgramFailed: a program failed for good; `work` has been cancelled.
        """
        task = asyncio.create_task(work)
        watches = [process.watch for process in self._processes]
        try:
            await asyncio.wait({task, *watches}, return_when=asyncio.FIRST_COMPLETED)
            for watch in watches:
                if watch.done():
                    watch.result()
            return await task
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def wait(self) -> None:
        """Wait until a program fails for good, or until cancelled."""
        await self.during(asyncio.sleep(math.inf))


def check_stack_settings() -> None:
    """Raise InvalidSettings if the settings of one of the programs are invalid."""
    # Only here: the other commands need no settings of the programs.
    from service.settings import ServiceSettings
    from worker.settings import WorkerSettings

    read_settings(ServiceSettings)
    read_settings(WorkerSettings)


@asynccontextmanager
async def local_stack(
    home: Path, settings: Settings, display: Display, worker: Sequence[str] = WORKER
) -> AsyncIterator[LocalStack]:
    """Start all programs and wait until they are ready; stop them on leaving the block.

    `home` is the folder of the embedded Redis and the images; `worker` is the worker's command. An
    embedded Redis is started unless the settings name a Redis. On leaving, the API stops first and
    Redis last, so that each program still has the programs it needs.

    Raises:
        InvalidSettings, EmbeddedRedisError, NoServerBinary: the stack cannot start here.
        ProgramFailed: a program ended or failed before it was ready.
    """
    settings = with_free_port(settings)
    async with AsyncExitStack() as exit_stack:
        stack = LocalStack(server_url(settings), exit_stack)
        redis_url = settings.redis_url
        if "redis_url" not in settings.model_fields_set:
            server = exit_stack.enter_context(embedded_redis(home / "redis"))
            redis_url = server.url
            await stack.start(server.program(display.line))
        environment = {
            "REDIS_URL": redis_url,
            "OBJECT_STORE_URL": _store_url(settings, home),
            "HOST": settings.host,
            "PORT": str(settings.port),
            "DARKROOM_LOG_FORMAT": _log_format(settings),
        }
        await stack.start(
            _worker(worker, environment, display), _api(environment, display, stack.url)
        )
        yield stack


def _worker(command: Sequence[str], environment: Mapping[str, str], display: Display) -> Program:
    own_grace_s = os.environ.get(GRACE) or DEFAULT_GRACE_S
    return Program(
        name="worker",
        command=command,
        ready=lambda: _worker_ready(environment["REDIS_URL"], display),
        show=display.line,
        environment={GRACE: own_grace_s, **environment},
        grace_s=max(WORKER_GRACE_S, float(own_grace_s) + MARGIN_S),
    )


def _api(environment: Mapping[str, str], display: Display, url: str) -> Program:
    return Program(
        name="api",
        command=this_python("darkroom", "api"),
        ready=lambda: _api_ready(url),
        show=display.line,
        environment=environment,
        grace_s=max(API_GRACE_S, float(os.environ.get(API_GRACE) or 0) + MARGIN_S),
    )


async def _all_ready(processes: list[ManagedProcess]) -> None:
    for process in processes:
        await process.is_ready.wait()


async def _worker_ready(redis_url: str, display: Display) -> None:
    """Wait until a new worker reports that it is ready.

    Raises:
        ProgramFailed: the worker reports that its set-up failed.
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
    """Return the configured log format, with text instead of JSON for `auto`: a user reads the
    lines, although the programs do not print to a terminal."""
    return LogFormat.TEXT if settings.log_format is LogFormat.AUTO else settings.log_format


def _store_url(settings: Settings, home: Path) -> str:
    if "object_store_url" in settings.model_fields_set:
        return settings.object_store_url
    return (home.resolve() / "images").as_uri()
