"""The stream of a prediction: its logs, then its images, as server-sent events."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import count
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from protocol.queue.dialect_jobs import DialectJob
from service.dialects.replicate.descriptions import STREAM
from service.dialects.replicate.predictions import PATH, Prediction, PredictionBuilder, Status
from service.middleware.errors import shown_error
from service.routes.deps import JobIdPath, ServicesDep, UserDep
from service.routes.links import base_url_of
from service.schemas.problems import problem_event
from service.settings import DialectName

DONE = {Status.SUCCEEDED: "{}", Status.FAILED: '{"reason":"error"}'}
CANCELED = '{"reason":"canceled"}'

router = APIRouter(tags=[DialectName.REPLICATE])


async def _kept(job_id: JobIdPath, services: ServicesDep, user: UserDep) -> DialectJob:
    """Return a prediction of the client. An error is one of the request, not of the stream."""
    return await run_in_threadpool(
        services.dialect_jobs.read, job_id, DialectName.REPLICATE, user.owner
    )


KeptDep = Annotated[DialectJob, Depends(_kept)]


@router.get(f"{PATH}/{{job_id}}/stream", response_class=EventSourceResponse, responses=STREAM)
async def stream_prediction(
    request: Request, kept: KeptDep, services: ServicesDep
) -> AsyncIterator[ServerSentEvent]:
    """Follow a prediction: `logs` as it goes on, an `output` for each image, and `done`.

    One that fails has an `error` before `done`. The address in `urls` needs no key.
    """
    builder = PredictionBuilder(services, base_url_of(request, services.settings.public_url))
    seen, ids = "", (f"{kept.id}:{number}" for number in count())
    try:
        async with aclosing(services.watcher.updates(kept.id)) as updates:
            async for view in updates:
                prediction = await run_in_threadpool(builder.prediction, view, kept)
                if len(prediction.logs) > len(seen):
                    yield _event("logs", prediction.logs[len(seen) :], next(ids))
                    seen = prediction.logs
                for event, data in _last_events(prediction):
                    yield _event(event, data, next(ids))
    except Exception as error:  # FastAPI would end the stream as if it were complete
        yield problem_event(request, shown_error(error))


def _last_events(prediction: Prediction) -> list[tuple[str, str]]:
    """Return the events of a prediction that has ended: name and data."""
    if prediction.status in (Status.STARTING, Status.PROCESSING):
        return []
    events = [("output", url) for url in prediction.output or ()]
    if prediction.error is not None:
        events.append(("error", prediction.error))
    return [*events, ("done", DONE.get(prediction.status, CANCELED))]


def _event(name: str, data: str, event_id: str) -> ServerSentEvent:
    return ServerSentEvent(event=name, id=event_id, raw_data=data)
