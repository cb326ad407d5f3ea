"""POST /v1/txt2img and the other tasks: submit a job and respond with its images."""

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.errors import JobLost, UnknownImage
from protocol.queue.job import JobView
from protocol.request.object_keys import OutputFormat
from protocol.request.tasks import Task
from service.routes.deps import ResponsesDep, Services, ServicesDep
from service.routes.submission import (
    ended,
    finished,
    invalid_counted,
    parse_task,
    submit,
    wait_for_model,
)
from service.schemas.accepted import Accepted
from service.schemas.body_parser import read_fields
from service.schemas.examples import GENERATION_EXAMPLE, JOB_EXAMPLE
from service.schemas.file_responses import OF_ANSWERS, answer_with_image
from service.schemas.preferences import Preferences
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.schemas.request_bodies import BINARY, generation_operation
from service.schemas.requests import REQUESTS, ResponseKind
from service.schemas.response_builder import ResponseBuilder, json_response
from service.schemas.responses import GenerationResponse, JobResponse

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": GenerationResponse,
        "description": "The images; the file itself if `Accept` names a type of image.",
        "headers": OF_ANSWERS,
        "content": {
            "application/json": {"example": GENERATION_EXAMPLE},
            **{kind.content_type: {"schema": BINARY} for kind in OutputFormat},
        },
    },
    202: {
        "model": JobResponse,
        "description": "Accepted; requested by `Prefer: respond-async`.",
        "content": {"application/json": {"example": JOB_EXAMPLE}},
        "headers": {
            "Location": {
                "description": "The path of the job.",
                "required": True,
                "schema": {"type": "string", "format": "uri-reference"},
            },
            "Preference-Applied": {
                "required": True,
                "schema": {"type": "string", "const": "respond-async"},
            },
        },
    },
    **problem_responses(
        *ACCESS_STATUSES, *SERVER_STATUSES, 400, 406, 408, 409, 410, 413, 415, 422, 429, 504
    ),
}
router = APIRouter(prefix="/v1", tags=["images"], responses=RESPONSES)


@router.post("/txt2img", openapi_extra=generation_operation(Task.TXT2IMG))
async def txt2img(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate images from a prompt.

    The response has the images. With `Accept: image/png`, or another type of image, it is the file
    of the one image, and header fields have its seed and the job. With the header
    `Prefer: respond-async` it comes at once and has the job; `Prefer: respond-async, wait=10` waits
    up to ten seconds for the images first. A client that waits longer than the service allows gets
    a 504 with the path of the job. While no model has been loaded yet, the request waits for one.
    If a client disconnects, the job still runs to its end and can be fetched, unless
    `cancel_on_disconnect` is set. A request sent again with the same `Idempotency-Key` (any text
    chosen by the client, kept for a day) is the same job, and gets the response of the first
    attempt.
    """
    return await _generate(Task.TXT2IMG, request, services, responses)


@router.post("/img2img", openapi_extra=generation_operation(Task.IMG2IMG))
async def img2img(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate images from an image and a prompt; `strength` is how much the image changes."""
    return await _generate(Task.IMG2IMG, request, services, responses)


@router.post("/inpaint", openapi_extra=generation_operation(Task.INPAINT))
async def inpaint(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate the white part of a mask again and keep the rest of the image.

    The prompt may be left out if the model takes none.
    """
    return await _generate(Task.INPAINT, request, services, responses)


@router.post("/outpaint", openapi_extra=generation_operation(Task.OUTPAINT))
async def outpaint(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Continue an image over its edges: by `left`, `right`, `top` and `bottom` pixels, or up to
    `width` and `height`.

    The pixels of the image come back unchanged, except for the blended edge.
    """
    return await _generate(Task.OUTPAINT, request, services, responses)


@router.post("/upscale", openapi_extra=generation_operation(Task.UPSCALE))
async def upscale(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Upscale an image: with `upscaler` by any `scale`, else by the model's `upscale_factor`."""
    return await _generate(Task.UPSCALE, request, services, responses)


@router.post("/unconditional", openapi_extra=generation_operation(Task.UNCONDITIONAL))
async def unconditional(
    request: Request, services: ServicesDep, responses: ResponsesDep
) -> Response:
    """Generate images like those the model was trained on: faces, churches, bedrooms."""
    return await _generate(Task.UNCONDITIONAL, request, services, responses)


@router.post("/class", openapi_extra=generation_operation(Task.CLASS))
async def class_conditional(
    request: Request, services: ServicesDep, responses: ResponsesDep
) -> Response:
    """Generate images of one of the model's classes."""
    return await _generate(Task.CLASS, request, services, responses)


@router.post("/layout", openapi_extra=generation_operation(Task.LAYOUT))
async def layout(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate images with objects of the model's classes in the given boxes."""
    return await _generate(Task.LAYOUT, request, services, responses)


@router.post("/semantic", openapi_extra=generation_operation(Task.SEMANTIC))
async def semantic(request: Request, services: ServicesDep, responses: ResponsesDep) -> Response:
    """Generate images from a label map, which gives the class of every pixel."""
    return await _generate(Task.SEMANTIC, request, services, responses)


@dataclass(frozen=True)
class _Accepted:
    """An accepted job, the form of its response, and the seconds that its client still waits."""

    queued: JobView
    kind: ResponseKind | None  # None: the file itself
    cancel_on_disconnect: bool | None
    wait_s: float


async def _generate(
    task: Task, request: Request, services: Services, responses: ResponseBuilder
) -> Response:
    preferences = Preferences.from_headers(request.headers)
    job = await _submit(task, request, services, preferences)
    view = await ended(
        request, services, job.queued, job.wait_s, cancel_on_disconnect=job.cancel_on_disconnect
    )
    if view is None and preferences.respond_async:
        view = await services.watcher.view_or_last(job.queued.id, job.queued)
        headers = {"Location": request.scope["job"], "Preference-Applied": "respond-async"}
        return json_response(await responses.job(view), 202, headers)
    done = finished(view, preferences.timeout_s(services.settings.max_wait_s))
    try:
        if job.kind is None:
            return await run_in_threadpool(answer_with_image, services.store, done)
        return json_response(await run_in_threadpool(responses.images, done, job.kind))
    except UnknownImage as missing:
        raise JobLost(done.id) from missing


async def _submit(
    task: Task, request: Request, services: Services, preferences: Preferences
) -> _Accepted:
    """Queue the job of a request, and keep nothing else of the body."""
    max_wait_s = services.settings.max_wait_s
    timeout_s = preferences.timeout_s(max_wait_s)
    async with invalid_counted(request, services):
        accepted = Accepted.from_headers(request.headers)
        fields = await read_fields(request, REQUESTS[task], services.decoding)
        params = accepted.applied_to(await parse_task(task, fields, request, services))
        limit_s = min(preferences.most_s(max_wait_s), params.deadline_s or max_wait_s)
        waited_s = await wait_for_model(request, services, limit_s)
        queued = await submit(task, params, request, services, timeout_s > 0, waited_s)
    kind = None if accepted.formats else params.response
    return _Accepted(queued, kind, params.cancel_on_disconnect, max(0.0, timeout_s - waited_s))
