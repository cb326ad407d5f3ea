"""Several workers on one machine, a process for each device, kept running and stopped together."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack

from darkroom.processes.devices import all_devices, environments
from darkroom.processes.process import ManagedProcess, Program, running, this_python
from protocol.connection.redis_client import connect
from protocol.errors import QueueUnavailable
from protocol.registry.presence import Presence
from protocol.settings import Settings

logger = logging.getLogger(__name__)

POLL_S = 0.2
NAME = "DARKROOM_WORKER_NAME"
METRICS_PORT = "DARKROOM_WORKER_METRICS_PORT"
WORKER = this_python("darkroom", "worker")


class WorkerPool:
    """One worker for each of `devices`; ["all"] stands for all there are.

    Metrics are served at `metrics_port` and the ports after it, or anywhere if it is 0. `grace_s`
    is the time between SIGTERM and SIGKILL.
    """

    def __init__(
        self, devices: list[str], settings: Settings, metrics_port: int, grace_s: float
    ) -> None:
        self._devices = devices
        self._settings = settings
        self._metrics_port = metrics_port
        self._grace_s = grace_s
        self._children: list[ManagedProcess] = []

    async def stand(self) -> None:
        """Keep all running until cancelled.

        Raises:
            NoDevices: nobody can tell which there are.
            ProgramFailed: a worker ended before it was ever ready; the others have been stopped.
        """
        devices = self._devices
        if devices == ["all"]:
            devices = await asyncio.to_thread(all_devices)
        logger.info("starting workers", extra={"devices": ",".join(devices)})
        async with AsyncExitStack() as stack:
            try:
                for number, told in enumerate(environments(devices)):
                    program = self._program(number, devices[number], told)
                    self._children.append(await stack.enter_async_context(running(program)))
                watches = [child.watch for child in self._children]
                done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
                for watch in done:
                    watch.result()
            finally:
                # All at once; the stack then waits for one after the other.
                for child in self._children:
                    child.stop()

    def hurry(self) -> None:
        """Have what is being drawn handed back at once, instead of finished."""
        for child in self._children:
            child.hurry()

    def _program(self, number: int, device: str, told: Mapping[str, str]) -> Program:
        name = f"{socket.gethostname()}-{os.getpid()}-{number}"
        port = self._metrics_port + number if self._metrics_port else 0
        return Program(
            name=f"worker {number} ({device})",
            command=WORKER,
            ready=lambda: self._serves(name),
            show=_show,
            environment={NAME: name, METRICS_PORT: str(port), **told},
            grace_s=self._grace_s,
        )

    async def _serves(self, name: str) -> None:
        """Wait until a worker of that name serves that did not before. One that cannot ends by
        itself: at first that ends the fleet, later it is tried again."""
        with connect(self._settings.redis_url) as redis:
            presence = Presence(redis)
            before = await _serving(presence, name)
            while not await _serving(presence, name) - before:
                await asyncio.sleep(POLL_S)


async def _serving(presence: Presence, name: str) -> set[str]:
    """The whole names of those that serve; each start of a worker adds something to its name."""
    try:
        reports = await asyncio.to_thread(presence.workers)
    except QueueUnavailable:
        return set()  # the worker waits for Redis, too
    return {r.name for r in reports if r.name.startswith(f"{name}-") and r.state.serves}


def _show(program: str, line: str) -> None:
    """Workers write their own log, and it is passed on; what is said of them is logged here."""
    if line.startswith("{"):
        print(line, file=sys.stderr, flush=True)
    else:
        logger.warning(line, extra={"program": program})
