"""fal.run: POST /fal/run/{owner}/{alias}, which waits for the images."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from protocol.errors import JobLost, UnknownImage
from protocol.queue.dialect_jobs import DialectObject
from protocol.queue.job import JobView
from service.dialects.event_stream import encoded
from service.dialects.fal.answers import FalResult, result_of
from service.dialects.fal.descriptions import BODY, RESULT, STREAM
from service.dialects.fal.errors import REQUEST_ID_HEADER
from service.dialects.fal.run_stream import run_events
from service.dialects.fal.submission import submit_app
from service.dialects.model_paths import ModelPath, OwnerPath
from service.routes.deps import ResponsesDep, Services, ServicesDep
from service.routes.submission import ended, finished
from service.schemas.file_responses import WARNINGS_HEADER, warnings_header
from service.schemas.response_builder import ResponseBuilder, json_response
from service.settings import DialectName

TaskPath = Annotated[
    str,
    Path(
        max_length=200,
        description="text-to-image, image-to-image or inpainting.",
        examples=["text-to-image"],
    ),
]
router = APIRouter(prefix="/fal/run", tags=[DialectName.FAL])


@router.post("/{owner}/{alias}", response_model=FalResult, responses=RESULT, openapi_extra=BODY)
async def fal_run(
    request: Request,
    owner: OwnerPath,
    alias: ModelPath,
    services: ServicesDep,
    responses: ResponsesDep,
) -> Response:
    """Generate images of a prompt, or of an image if the body has one, and wait for them."""
    return await _run(alias, None, request, services, responses)


@router.post(
    "/{owner}/{alias}/stream",
    response_class=StreamingResponse,
    responses=STREAM,
    openapi_extra=BODY,
)
async def fal_stream(
    request: Request,
    owner: OwnerPath,
    alias: ModelPath,
    services: ServicesDep,
    responses: ResponsesDep,
) -> StreamingResponse:
    """Generate images with server-sent events: previews of them, then the result."""
    asked = await submit_app(alias, None, request, services, waits=True, previews=True)
    return StreamingResponse(
        encoded(run_events(request, services, responses, asked)),
        headers={REQUEST_ID_HEADER: asked.job.id},
        media_type=EventSourceResponse.media_type,
    )


@router.post(
    "/{owner}/{alias}/{task}", response_model=FalResult, responses=RESULT, openapi_extra=BODY
)
async def fal_run_task(
    request: Request,
    owner: OwnerPath,
    alias: ModelPath,
    task: TaskPath,
    services: ServicesDep,
    responses: ResponsesDep,
) -> Response:
    """Generate images by the task that the last part of the app's id names."""
    return await _run(alias, task, request, services, responses)


async def _run(
    alias: str,
    task: str | None,
    request: Request,
    services: Services,
    responses: ResponseBuilder,
) -> Response:
    asked = await submit_app(alias, task, request, services, waits=True)
    timeout_s = services.settings.max_wait_s
    view = await ended(
        request,
        services,
        asked.job,
        timeout_s,
        cancel_on_disconnect=asked.cancel_on_disconnect,
    )
    return await result_response(finished(view, timeout_s), asked.kept, responses)


async def result_response(
    job: JobView, kept: DialectObject, responses: ResponseBuilder
) -> Response:
    """Return the result of a finished job, with its id in a header. Raises `JobLost`."""
    try:
        result = await run_in_threadpool(result_of, job, kept, responses)
    except UnknownImage as missing:
        raise JobLost(job.id) from missing
    headers = {WARNINGS_HEADER: warnings_header(job)} if job.warnings else {}
    return json_response(result, headers=headers | {REQUEST_ID_HEADER: job.id})
