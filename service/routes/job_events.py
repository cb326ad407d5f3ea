"""/v1/jobs/{id}/events and /ws: follow a job, by server-sent events or a WebSocket."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, WebSocket
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

from protocol.queue.job import TERMINAL, JobView
from service.auth.subprotocol_key import SUBPROTOCOL
from service.middleware.errors import INTERNAL_ERROR, shown_error
from service.routes.deps import JobDep, ResponsesDep, ServicesDep, UserDep
from service.routes.links import path_of
from service.routes.waiting import until_disconnect
from service.schemas.examples import EVENTS_EXAMPLE
from service.schemas.job_events import PROBLEM, JobEvent, event_id
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.schemas.problems import NothingNew, problem_event, seen_problem
from service.schemas.response_builder import ResponseBuilder, previews_of

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

MAX_EVENT_ID = 100
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The changes of the job. The data of each event is a `JobResponse`; that of "
        "an event named `problem` is a `Problem`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EVENTS_EXAMPLE}},
    },
    204: {"description": "The client has seen the last event, and need not connect again."},
    **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 404, 422),
}
LastEventId = Annotated[
    str,
    Header(
        alias="Last-Event-ID",
        max_length=MAX_EVENT_ID,
        description="The id of the last event that the client has seen, after a reconnection.",
    ),
]


async def _unseen(job: JobDep, last_event_id: LastEventId = "") -> JobView:
    """Return the job. Raises `NothingNew` if the client has seen how it ended."""
    if job.state in TERMINAL and event_id(job) == last_event_id:
        raise NothingNew
    return job


@router.get("/{job_id}/events", response_class=EventSourceResponse, responses=EVENTS)
async def follow_job(
    request: Request,
    job: Annotated[JobView, Depends(_unseen)],
    services: ServicesDep,
    responses: ResponsesDep,
    last_event_id: LastEventId = "",
) -> AsyncIterator[ServerSentEvent]:
    """Follow a job by server-sent events, one at each change, the last with its final state.

    The name of each event is the job's state, and its data is the response of GET on the job,
    without a preview that an earlier event has sent. If the stream cannot go on, its last event is
    named `problem` and has the problem. A client that connects again with the id of the last event
    it has seen gets the state of the job at once if that has changed, and 204 if it had ended.

    `/v1/jobs/{job_id}/ws` sends the same over a WebSocket, as JSON with `event`, `id` and `data`.
    """
    request.scope["job"] = path_of(request, "get_job", job_id=job.id)
    try:
        updates = services.watcher.updates(job.id)
        async with aclosing(_events(updates, responses, last_event_id)) as events:
            async for event in events:
                data = event.data.model_dump_json(exclude_none=True)
                yield ServerSentEvent(event=event.event, id=event.id, raw_data=data)
    except Exception as error:  # FastAPI would end the stream as if it were complete
        yield problem_event(request, shown_error(error))


@router.websocket("/{job_id}/ws")
async def follow_job_by_websocket(
    socket: WebSocket,
    job_id: str,
    services: ServicesDep,
    user: UserDep,
    responses: ResponsesDep,
    last_event_id: str = "",
) -> None:
    """Follow a job over a WebSocket, which is refused like a request, before it is accepted."""
    job = await services.watcher.view(job_id, user.owner)
    socket.scope["job"] = path_of(socket, "get_job", job_id=job.id)
    spoken = SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None
    await socket.accept(spoken)
    updates = services.watcher.updates(job.id)
    with suppress(ClientDisconnect, WebSocketDisconnect):
        await until_disconnect(socket, _send_events(socket, updates, responses, last_event_id))


async def _send_events(
    socket: WebSocket, updates: AsyncGenerator[JobView], responses: ResponseBuilder, last: str
) -> None:
    """Send the events of a job, and close the WebSocket."""
    try:
        async with aclosing(_events(updates, responses, last)) as events:
            async for event in events:
                await socket.send_text(event.model_dump_json(exclude_none=True))
        await socket.close()
    except WebSocketDisconnect:
        raise
    except Exception as error:
        problem = seen_problem(socket, shown_error(error))
        last_event = JobEvent(event=PROBLEM, data=problem)
        await socket.send_text(last_event.model_dump_json(exclude_none=True))
        await socket.close(INTERNAL_ERROR)


async def _events(
    updates: AsyncGenerator[JobView], responses: ResponseBuilder, last_event_id: str
) -> AsyncGenerator[JobEvent]:
    """Yield the events of a job, but for a first one that the client has seen."""
    seen = 0
    async with aclosing(updates):
        async for view in updates:
            response = await responses.job(view, seen)
            seen, this = previews_of(view), event_id(view)
            if this != last_event_id:
                yield JobEvent(event=view.state.value, id=this, data=response)
            last_event_id = ""
