"""Pool of workers on one machine: one process for each device."""

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
from protocol.setting_types import MAX_PORT
from protocol.settings import Settings
from protocol.startup import invalid_setting

logger = logging.getLogger(__name__)

POLL_S = 0.2
NAME = "DARKROOM_WORKER_NAME"
METRICS_PORT = "DARKROOM_WORKER_METRICS_PORT"
WORKER = this_python("darkroom", "worker")


class WorkerPool:
    """One worker for each of `devices`; ["all"] means all devices of this machine.

    Workers serve metrics at `metrics_port` and the ports after it, or at any free ports if it is 0.
    `grace_s` is the time between SIGTERM and SIGKILL.
    """

    def __init__(
        self, devices: list[str], settings: Settings, metrics_port: int, grace_s: float
    ) -> None:
        self._devices = devices
        self._settings = settings
        self._metrics_port = metrics_port
        self._grace_s = grace_s
        self._processes: list[ManagedProcess] = []

    async def run(self) -> None:
        """Keep all workers running until cancelled; then stop them.

        Raises:
            InvalidSettings: there are not enough ports for the metrics of so many workers.
            NoDevices: the devices of this machine cannot be listed.
            ProgramFailed: a worker ended before it was ever ready; the others have been stopped.
        """
        devices = self._devices
        if devices == ["all"]:
            devices = await asyncio.to_thread(all_devices)
        self._check_ports(len(devices))
        logger.info("starting workers", extra={"devices": ",".join(devices)})
        async with AsyncExitStack() as stack:
            try:
                for number, environment in enumerate(environments(devices)):
                    program = self._program(number, devices[number], environment)
                    self._processes.append(await stack.enter_async_context(running(program)))
                watches = [process.watch for process in self._processes]
                done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
                for watch in done:
                    watch.result()
            finally:
                # Stop all at once; the exit stack then waits for one after the other.
                for process in self._processes:
                    process.stop()

    def _check_ports(self, count: int) -> None:
        last = self._metrics_port + count - 1
        if self._metrics_port and last > MAX_PORT:
            bound = f"at most {MAX_PORT - count + 1} for {count} workers"
            raise invalid_setting(METRICS_PORT, self._metrics_port, bound)

    def terminate(self) -> None:
        """Send SIGTERM again to every worker, so that it requeues its jobs without finishing."""
        for process in self._processes:
            process.terminate()

    def _program(self, number: int, device: str, environment: Mapping[str, str]) -> Program:
        name = f"{socket.gethostname()}-{os.getpid()}-{number}"
        port = self._metrics_port + number if self._metrics_port else 0
        return Program(
            name=f"worker {number} ({device})",
            command=WORKER,
            ready=lambda: self._wait_until_ready(name),
            show=_show,
            environment={NAME: name, METRICS_PORT: str(port), **environment},
            grace_s=self._grace_s,
        )

    async def _wait_until_ready(self, name: str) -> None:
        """Wait until a new worker of that name is ready. A worker that cannot get ready ends by
        itself: at its first start that ends the pool, later it is started again."""
        with connect(self._settings.redis_url) as redis:
            presence = Presence(redis)
            before = await _ready_workers(presence, name)
            while not await _ready_workers(presence, name) - before:
                await asyncio.sleep(POLL_S)


async def _ready_workers(presence: Presence, name: str) -> set[str]:
    """Return the full names of the ready workers; each start of a worker adds a suffix."""
    try:
        reports = await asyncio.to_thread(presence.workers)
    except QueueUnavailable:
        return set()  # the worker waits for Redis too
    return {r.name for r in reports if r.name.startswith(f"{name}-") and r.state.serves}


def _show(program: str, line: str) -> None:
    """Pass log lines of workers on; log other lines, such as restarts, here."""
    if line.startswith("{"):
        print(line, file=sys.stderr, flush=True)
    else:
        logger.warning(line, extra={"program": program})
