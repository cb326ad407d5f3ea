"""Running a coroutine until it ends or a signal stops it."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


def run_until_signal(
    work: Coroutine[Any, Any, T], on_second_signal: Callable[[], None] = lambda: None
) -> T | None:
    """Return the result of `work`, or None if Ctrl-C, SIGTERM or SIGHUP stopped it.

    The first signal cancels `work` once, so that it can clean up; every step of that has its own
    time limit. Each further signal calls `on_second_signal`.
    """
    return asyncio.run(_run(work, on_second_signal))


async def _run(work: Coroutine[Any, Any, T], on_second_signal: Callable[[], None]) -> T | None:
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            on_second_signal()
            return
        stopped.set()
        task.cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if not stopped.is_set():
            raise
        return None
