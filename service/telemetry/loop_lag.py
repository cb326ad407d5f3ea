"""How late the event loop comes to what is due: what every waiting client feels."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from prometheus_client import Histogram

EVERY_S = 0.5


@asynccontextmanager
async def watching_loop_lag(lag: Histogram) -> AsyncIterator[None]:
    """Inside the block, `lag` observes twice a second how much too late a sleep ends."""
    watch = asyncio.create_task(_watch(lag))
    try:
        yield
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch


async def _watch(lag: Histogram) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        lag.observe(max(0.0, loop.time() - due))
