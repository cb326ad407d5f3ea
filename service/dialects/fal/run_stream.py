"""Events of a request to fal.run: previews of its images, then its result."""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from fastapi import Request
from fastapi.sse import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from protocol.errors import QueueUnavailable
from protocol.queue.job import JobView
from service.dialects.event_stream import cancel_soon
from service.dialects.fal.answers import FalImage, FalPartialResult, result_of
from service.dialects.fal.submission import FalRequest
from service.middleware.errors import shown_error
from service.routes.deps import Services
from service.routes.submission import finished
from service.schemas.problems import problem_event
from service.schemas.response_builder import ResponseBuilder, previews_of

PREVIEW_TYPE = "image/jpeg"


async def run_events(
    request: Request, services: Services, responses: ResponseBuilder, asked: FalRequest
) -> AsyncGenerator[ServerSentEvent]:
    """Yield the events of an accepted request. An error is the last of them."""
    seen = 0
    try:
        updates = services.watcher.updates(asked.job.id, just_queued=asked.job)
        async with aclosing(updates):
            async for view in updates:
                made, before, seen = previews_of(view), seen, max(seen, previews_of(view))
                if made > before and (partial := await run_in_threadpool(_partial, view, services)):
                    yield ServerSentEvent(raw_data=partial.model_dump_json(exclude_none=True))
        job = finished(view, services.settings.max_wait_s)
        result = await run_in_threadpool(result_of, job, asked.kept, responses)
        yield ServerSentEvent(raw_data=result.model_dump_json(exclude_none=True))
    except Exception as error:
        yield problem_event(request, shown_error(error))
    except BaseException:  # the client has disconnected
        if services.cancels_on_disconnect(asked.cancel_on_disconnect):
            cancel_soon(services, asked.job.id)
        raise


def _partial(view: JobView, services: Services) -> FalPartialResult | None:
    """Return the latest preview of a job; None during an outage, which must not end a stream."""
    with suppress(QueueUnavailable):
        if view.progress and (jpeg := services.board.preview(view.id)):
            url = f"data:{PREVIEW_TYPE};base64,{base64.b64encode(jpeg).decode()}"
            return FalPartialResult(
                images=[FalImage(url=url, content_type=PREVIEW_TYPE)],
                step=view.progress.step,
                steps=view.progress.steps,
            )
    return None
