"""Streams of server-sent events: their bytes, and the job of a client that leaves one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

from fastapi.sse import KEEPALIVE_COMMENT, ServerSentEvent, format_sse_event

from protocol.errors import DarkroomError
from service.routes.deps import Services

SILENCE_S = 15.0  # after which a comment keeps the connection open


def cancel_soon(services: Services, job_id: str) -> None:
    """Cancel a job in a thread: a task that is being cancelled itself can wait for nothing."""

    def cancel() -> None:
        with suppress(DarkroomError):
            services.queue.cancel(job_id)

    asyncio.get_running_loop().run_in_executor(None, cancel)


async def encoded(
    source: AsyncGenerator[ServerSentEvent], silence_s: float = SILENCE_S
) -> AsyncIterator[bytes]:
    """Yield the bytes of events, and a comment when there was none for `silence_s` seconds."""
    async with aclosing(source):
        waiting = asyncio.ensure_future(anext(source))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=silence_s)
                if not done:
                    yield KEEPALIVE_COMMENT
                    continue
                event = waiting.result()
                yield format_sse_event(
                    event=event.event, data_str=event.raw_data, retry=event.retry
                )
                waiting = asyncio.ensure_future(anext(source))
        except StopAsyncIteration:
            return
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
