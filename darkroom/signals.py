"""Run something until it ends or a person or the system asks for a stop."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


def run_until_signal(
    work: Coroutine[Any, Any, T], hurry: Callable[[], None] = lambda: None
) -> T | None:
    """The result of `work`, or None if it was stopped by Ctrl-C, SIGTERM or SIGHUP.

    Being stopped means that `work` is cancelled once and may leave in order, for every step on the
    way out has its own time limit. `hurry` is what asking again does.
    """
    return asyncio.run(_run(work, hurry))


async def _run(work: Coroutine[Any, Any, T], hurry: Callable[[], None]) -> T | None:
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            hurry()
            return
        stopped.set()
        task.cancel()

    for number in STOPPING:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if not stopped.is_set():
            raise
        return None
