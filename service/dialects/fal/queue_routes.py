"""queue.fal.run: POST /fal/queue/{owner}/{alias}, and the requests in the queue.

The addresses of a request have no last part of the app's id, as fal's have none.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from protocol.queue.dialect_jobs import DialectJob
from protocol.queue.job import TERMINAL, JobState
from service.dialects.event_stream import encoded
from service.dialects.fal.answers import FalCancelled, FalQueued, FalResult, FalStatus
from service.dialects.fal.descriptions import BODY, CANCELLED, OF_REQUEST, QUEUED, RESULT, STREAM
from service.dialects.fal.errors import REQUEST_ID_HEADER, RequestInProgress
from service.dialects.fal.run_routes import TaskPath, result_response
from service.dialects.fal.status import status_of, urls_of
from service.dialects.fal.status_stream import status_events
from service.dialects.fal.submission import submit_app
from service.dialects.model_paths import ModelPath, OwnerPath
from service.routes.deps import (
    JobIdPath,
    ResponsesDep,
    Services,
    ServicesDep,
    UserDep,
)
from service.routes.links import base_url_of
from service.routes.submission import finished
from service.schemas.response_builder import json_response
from service.settings import DialectName

REQUEST = "/{owner}/{alias}/requests/{request_id}"
Webhook = Annotated[
    str | None,
    Query(description="An http or https address that is called with the result."),
]
Logs = Annotated[str, Query(max_length=5, description="1: the answer has the log.")]
router = APIRouter(prefix="/fal/queue", tags=[DialectName.FAL])


@router.post("/{owner}/{alias}", response_model=FalQueued, responses=QUEUED, openapi_extra=BODY)
async def fal_submit(
    request: Request,
    owner: OwnerPath,
    alias: ModelPath,
    services: ServicesDep,
    fal_webhook: Webhook = None,
) -> Response:
    """Queue a request and return its addresses at once."""
    return await _submit(owner, alias, None, request, services, fal_webhook)


@router.post(
    "/{owner}/{alias}/{task}", response_model=FalQueued, responses=QUEUED, openapi_extra=BODY
)
async def fal_submit_task(
    request: Request,
    owner: OwnerPath,
    alias: ModelPath,
    task: TaskPath,
    services: ServicesDep,
    fal_webhook: Webhook = None,
) -> Response:
    """Queue a request for the task that the last part of the app's id names."""
    return await _submit(owner, alias, task, request, services, fal_webhook)


async def _submit(
    owner: str,
    alias: str,
    task: str | None,
    request: Request,
    services: Services,
    webhook: str | None,
) -> Response:
    asked = await submit_app(alias, task, request, services, waits=False, webhook=webhook)
    view = await services.watcher.view_or_last(asked.job.id, asked.job)
    urls = _urls(request, services, owner, alias, view.id)
    queued = FalQueued(request_id=view.id, queue_position=view.position or 0, **urls)
    return json_response(queued, headers={REQUEST_ID_HEADER: view.id})


async def _own_request(request_id: JobIdPath, services: ServicesDep, user: UserDep) -> DialectJob:
    """Return a request of the caller. Raises `UnknownJob`."""
    return await run_in_threadpool(
        services.dialect_jobs.read, request_id, DialectName.FAL.value, user.owner
    )


OwnRequest = Annotated[DialectJob, Depends(_own_request)]


@router.get(f"{REQUEST}/status", response_model=FalStatus, responses=OF_REQUEST)
async def fal_status(
    request: Request,
    owner: OwnerPath,
    alias: ModelPath,
    found: OwnRequest,
    services: ServicesDep,
    logs: Logs = "0",
) -> FalStatus:
    """Get the state of a request: its place in the queue, its log, or that it has ended."""
    job = await services.watcher.view_or_last(found.id)
    return status_of(job, _urls(request, services, owner, alias, job.id), _is_true(logs))


@router.get(f"{REQUEST}/status/stream", response_class=StreamingResponse, responses=STREAM)
async def fal_status_stream(
    request: Request,
    owner: OwnerPath,
    alias: ModelPath,
    found: OwnRequest,
    services: ServicesDep,
    logs: Logs = "0",
) -> StreamingResponse:
    """Follow a request by server-sent events: its state at each change, until it has ended."""
    urls = _urls(request, services, owner, alias, found.id)
    events = status_events(request, services, found.id, urls, _is_true(logs))
    return StreamingResponse(encoded(events), media_type=EventSourceResponse.media_type)


@router.get(REQUEST, response_model=FalResult, responses=RESULT)
async def fal_result(
    owner: OwnerPath,
    alias: ModelPath,
    found: OwnRequest,
    services: ServicesDep,
    responses: ResponsesDep,
) -> Response:
    """Get the images of a request that has ended, or the error with which it has failed."""
    job = await services.watcher.view(found.id)
    if job.state not in TERMINAL:
        raise RequestInProgress(job.id)
    return await result_response(finished(job, 0), found.object, responses)


@router.put(f"{REQUEST}/cancel", status_code=202, response_model=FalCancelled, responses=CANCELLED)
async def fal_cancel(
    owner: OwnerPath, alias: ModelPath, found: OwnRequest, services: ServicesDep, user: UserDep
) -> Response:
    """Cancel a request: at once if it is queued, after its current step if it runs."""
    job = await run_in_threadpool(services.queue.cancel, found.id, user.owner)
    if job.state in TERMINAL - {JobState.CANCELLED}:
        late = FalCancelled(status="ALREADY_COMPLETED", detail="Request has ended already")
        return json_response(late, 400)
    asked = FalCancelled(status="CANCELLATION_REQUESTED", detail="Request is being cancelled")
    return json_response(asked, 202)


def _urls(
    request: Request, services: Services, owner: str, alias: str, request_id: str
) -> dict[str, str]:
    base_url = base_url_of(request, services.settings.public_url)
    return urls_of(base_url, owner, alias, request_id)


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "true")
