"""POST /v1/txt2img and the other tasks: submit a job and respond with its images."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from protocol.errors import (
    DarkroomError,
    DeadlineExceeded,
    InvalidRequest,
    JobCancelled,
    JobLost,
)
from protocol.queue.idempotency import HEADER
from protocol.queue.job import JobState, JobView
from protocol.request.generation_params import parse_params
from protocol.request.tasks import Task
from service.auth.api_keys import User
from service.images.image_urls import fetch_images
from service.middleware.body_limit import LimitedBody
from service.routes.deps import ResponsesDep, Services, ServicesDep
from service.schemas.body_parser import read_fields
from service.schemas.preferences import Preferences
from service.schemas.problems import ACCESS_STATUSES, problem_response, problem_responses
from service.schemas.requests import REQUESTS, ResponseKind, TaskRequest, request_body
from service.schemas.response_builder import ResponseBuilder, json_response
from service.schemas.responses import GenerationResponse, JobResponse

router = APIRouter(prefix="/v1", tags=["images"])

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": GenerationResponse, "description": "The images."},
    202: {
        "model": JobResponse,
        "description": "Accepted; requested by `Prefer: respond-async`.",
        "headers": {
            "Location": {"description": "The job.", "schema": {"type": "string"}},
            "Preference-Applied": {"schema": {"type": "string"}},
        },
    },
    **problem_responses(*ACCESS_STATUSES, 400, 408, 409, 413, 415, 422, 500, 503),
    504: {
        **problem_responses(504)[504],
        "description": "The images take longer than a client may wait; `job` is the job's path.",
    },
}


@router.post("/txt2img", openapi_extra=request_body(Task.TXT2IMG), responses=RESPONSES)
async def txt2img(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate images from a prompt.

    The response has the images. With the header `Prefer: respond-async` it comes at once and has
    the job; `Prefer: respond-async, wait=10` waits up to ten seconds for the images first. A client
    that waits longer than the service allows gets a 504 with the path of the job. If a client
    disconnects, the job still runs to its end and can be fetched. A request sent again with the
    same `Idempotency-Key` (any text chosen by the client, kept for a day) is the same job, and gets
    the response of the first attempt.
    """
    return await _generate(Task.TXT2IMG, request, services, responses)


@router.post("/img2img", openapi_extra=request_body(Task.IMG2IMG), responses=RESPONSES)
async def img2img(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate images from an image and a prompt; `strength` is how much the image changes."""
    return await _generate(Task.IMG2IMG, request, services, responses)


@router.post("/inpaint", openapi_extra=request_body(Task.INPAINT), responses=RESPONSES)
async def inpaint(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate the white part of a mask again and keep the rest of the image.

    The prompt may be left out if the model takes none.
    """
    return await _generate(Task.INPAINT, request, services, responses)


@router.post("/upscale", openapi_extra=request_body(Task.UPSCALE), responses=RESPONSES)
async def upscale(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Upscale an image by the model's `upscale_factor`."""
    return await _generate(Task.UPSCALE, request, services, responses)


@router.post("/unconditional", openapi_extra=request_body(Task.UNCONDITIONAL), responses=RESPONSES)
async def unconditional(
    request: Request, services: ServicesDep, responses: ResponsesDep
) -> Response:
    """Generate images like those the model was trained on: faces, churches, bedrooms."""
    return await _generate(Task.UNCONDITIONAL, request, services, responses)


@router.post("/class", openapi_extra=request_body(Task.CLASS), responses=RESPONSES)
async def of_class(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate images of one of the model's classes."""
    return await _generate(Task.CLASS, request, services, responses)


@router.post("/layout", openapi_extra=request_body(Task.LAYOUT), responses=RESPONSES)
async def layout(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate images with objects of the model's classes in the given boxes."""
    return await _generate(Task.LAYOUT, request, services, responses)


@router.post("/semantic", openapi_extra=request_body(Task.SEMANTIC), responses=RESPONSES)
async def semantic(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate images from a label map, which gives the class of every pixel."""
    return await _generate(Task.SEMANTIC, request, services, responses)


async def _generate(
    task: Task, request: Request, services: Services, responses: ResponseBuilder
) -> Response:
    preferences = Preferences.from_headers(request.headers)
    timeout_s = preferences.timeout_s(services.settings.max_wait_s)
    queued, kind = await _submit(task, request, services, waits=timeout_s > 0)
    location = str(request.app.url_path_for("get_job", job_id=queued.id))
    view = await _until_disconnect(request, _finished(services, queued, timeout_s))
    match view:
        case JobView(state=JobState.FINISHED):
            images = await run_in_threadpool(responses.images, view, kind)
            return json_response(images)
        case JobView(state=JobState.FAILED, error=record):
            error = DarkroomError.from_record(record) if record else DarkroomError()
            return problem_response(request, error, _unless_lost(error, location))
        case JobView(state=JobState.CANCELLED):
            return problem_response(request, JobCancelled(queued.id), location)
        case _ if preferences.respond_async:
            view = await services.watcher.view_or_last(queued.id, queued)
            headers = {"Location": location, "Preference-Applied": "respond-async"}
            return json_response(await responses.job(view), 202, headers)
        case _:
            return problem_response(request, DeadlineExceeded(timeout_s), location)


def _unless_lost(error: DarkroomError, location: str) -> str | None:
    return None if isinstance(error, JobLost) else location


async def _submit(
    task: Task, request: Request, services: Services, waits: bool
) -> tuple[JobView, ResponseKind]:
    """Parse and validate the body and queue the job; return it and the form of the images.

    Afterwards the body is no longer in memory. `waits`: whether the client waits for the images.
    """
    user: User = request.scope["user"]
    body: LimitedBody = request.scope["limited_body"]
    key = request.headers.get(HEADER)
    subscribe = services.watcher.subscribe if waits else None
    try:
        params = await _parse(task, request, body, services)
        job = await services.submitter.submit(task, params, user, key, before_queued=subscribe)
    except InvalidRequest:
        await services.admission.count_invalid(user)
        raise
    body.release()
    return job, params.response


async def _parse(
    task: Task, request: Request, body: LimitedBody, services: Services
) -> TaskRequest:
    """Read the body, and the images whose addresses it has, and validate the fields.

    Requests with images share a limited number of threads, because decoding needs much memory.
    """
    schema = REQUESTS[task]
    fields = await read_fields(request, schema, services.decoding)
    fields = await fetch_images(fields, services.ssrf_guard, body)
    if task.takes_image or "controls" in fields:
        return await to_thread.run_sync(parse_params, schema, fields, limiter=services.decoding)
    return parse_params(schema, fields)


async def _finished(services: Services, queued: JobView, timeout_s: float) -> JobView | None:
    """Return the job when it has ended, or None after `timeout_s` seconds."""
    if timeout_s <= 0:
        return None
    try:
        async with asyncio.timeout(timeout_s):
            return await services.watcher.finished(queued.id, just_queued=queued)
    except TimeoutError:
        return None


async def _until_disconnect(
    request: Request, waiting: Coroutine[Any, Any, JobView | None]
) -> JobView | None:
    """Return the result of `waiting`; raise `ClientDisconnect` if the client disconnects first.

    The job is not cancelled.
    """
    wait = asyncio.ensure_future(waiting)
    disconnect = asyncio.ensure_future(_client_disconnect(request))
    try:
        await asyncio.wait((wait, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not wait.done():
            raise ClientDisconnect
        return wait.result()
    finally:
        for task in (wait, disconnect):
            task.cancel()
        await asyncio.gather(wait, disconnect, return_exceptions=True)


async def _client_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
