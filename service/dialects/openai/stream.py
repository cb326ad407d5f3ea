"""Server-sent events of a request with `stream`: previews of its images, then the images."""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from anyio import to_thread
from fastapi import Request
from fastapi.sse import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from protocol.errors import QueueUnavailable
from protocol.queue.job import JobState, JobView
from protocol.request.object_keys import OutputFormat
from protocol.request.sizes import Size
from service.dialects.event_stream import cancel_soon
from service.dialects.openai.answers import Answer, StreamedImage
from service.images.enlarged_previews import enlarged_preview
from service.middleware.errors import shown_error
from service.routes.deps import Services
from service.routes.submission import finished
from service.schemas.problems import problem_event
from service.schemas.requests import ResponseKind
from service.schemas.response_builder import ResponseBuilder, previews_of


class PartialImages:
    """The previews that a stream sends: at most `wanted`, spread over the steps of the job."""

    def __init__(self, services: Services, answer: Answer, size: Size) -> None:
        self._services = services
        self._answer = answer
        self._size = size
        self._sent = 0
        self._last: bytes | None = None

    async def after(self, view: JobView) -> StreamedImage | None:
        """Return the event that is due after a change of the job, if one is.

        The last preview of a finished job is due, too, as a fast one has few.
        """
        wanted = self._answer.asked.partial_images
        if self._sent == wanted or not (self._is_due(view) or view.state is JobState.FINISHED):
            return None
        jpeg = await run_in_threadpool(self._preview, view.id)
        if jpeg is None or jpeg == self._last:
            return None
        self._last = jpeg
        event = await to_thread.run_sync(
            self._event, jpeg, self._sent, limiter=self._services.decoding
        )
        self._sent += 1
        return event

    def _is_due(self, view: JobView) -> bool:
        if view.progress is None or not previews_of(view):
            return False
        share = (self._sent + 1) / (self._answer.asked.partial_images + 1)
        return view.progress.step >= share * view.progress.steps

    def _preview(self, job_id: str) -> bytes | None:
        with suppress(QueueUnavailable):  # an outage must not end the stream
            return self._services.board.preview(job_id)
        return None

    def _event(self, jpeg: bytes, index: int) -> StreamedImage:
        file_format = OutputFormat(self._answer.asked.output_format)
        data = base64.b64encode(enlarged_preview(jpeg, self._size, file_format)).decode()
        return self._answer.partial(data, self._size, index)


async def events(
    request: Request,
    services: Services,
    responses: ResponseBuilder,
    queued: JobView,
    answer: Answer,
    size: Size,
) -> AsyncGenerator[ServerSentEvent]:
    """Yield the events of an accepted job. An error is the last of them."""
    partial_images = PartialImages(services, answer, size)
    try:
        async with aclosing(services.watcher.updates(queued.id, just_queued=queued)) as updates:
            async for view in updates:
                if (event := await partial_images.after(view)) is not None:
                    yield _sse(event)
        job = finished(view, services.settings.max_wait_s)
        images = await run_in_threadpool(responses.images, job, ResponseKind.BASE64)
        for completed in answer.completed(images):
            yield _sse(completed)
    except Exception as error:
        yield problem_event(request, shown_error(error))
    except BaseException:  # the client has disconnected
        if services.cancels_on_disconnect(answer.cancel_on_disconnect):
            cancel_soon(services, queued.id)
        raise


def _sse(event: StreamedImage) -> ServerSentEvent:
    return ServerSentEvent(event=event.type, raw_data=event.model_dump_json())
