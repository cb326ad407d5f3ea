"""Lag of the event loop, which delays every request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from prometheus_client import Histogram

INTERVAL_S = 0.5


@asynccontextmanager
async def measured_loop_lag(lag: Histogram) -> AsyncIterator[None]:
    """Observe in `lag`, every `INTERVAL_S` seconds inside the block, how late a sleep ends."""
    task = asyncio.create_task(_measure(lag))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _measure(lag: Histogram) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        lag.observe(max(0.0, loop.time() - due))
