"""Events of a request in fal's queue: its state at each change."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from fastapi import Request
from fastapi.sse import ServerSentEvent

from service.dialects.fal.status import status_of
from service.middleware.errors import shown_error
from service.routes.deps import Services
from service.schemas.problems import problem_event


async def status_events(
    request: Request, services: Services, request_id: str, urls: Mapping[str, str], logs: bool
) -> AsyncGenerator[ServerSentEvent]:
    """Yield the events of a request until it has ended. An error is the last of them.

    Each has the lines of the log that the client has not seen, as the client adds them up.
    """
    try:
        async with aclosing(services.watcher.updates(request_id)) as updates:
            async for view in updates:
                status = status_of(view, urls, logs)
                yield ServerSentEvent(raw_data=status.model_dump_json())
    except Exception as error:
        yield problem_event(request, shown_error(error))
