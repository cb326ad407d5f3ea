"""/v1/jobs/{id}: get a job, follow it, cancel it, get its images."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from protocol.errors import UnknownImage
from protocol.queue.job import TERMINAL, ImageResult, JobView
from protocol.request.object_keys import Extra, ExtraFormat
from service.routes.deps import JobDep, JobIdPath, ResponsesDep, ServicesDep, UserDep
from service.schemas.problems import ACCESS_STATUSES, problem_responses
from service.schemas.response_builder import (
    WARNINGS_HEADER,
    file_response,
    json_response,
    previews_of,
)
from service.schemas.responses import JobResponse

PROBLEMS = problem_responses(*ACCESS_STATUSES, 404, 422, 500, 503)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=PROBLEMS)

IndexPath = Annotated[int, Path(ge=0, le=9999, description="From 0, in order of the seeds.")]
HEADERS = {
    WARNINGS_HEADER: {
        "description": "Warnings about the request, if there are any: a list of codes, each with "
        "the parameters field and detail (RFC 9651).",
        "schema": {"type": "string"},
    }
}


@router.get("/{job_id}", response_model=JobResponse)
async def get_job(job: JobDep, responses: ResponsesDep) -> Response:
    """Get the state of a job: its place in the queue, its progress by step, its result or error."""
    return json_response(await responses.job(job))


@router.get("/{job_id}/events", response_class=EventSourceResponse)
async def follow_job(
    job: JobDep, services: ServicesDep, responses: ResponsesDep
) -> AsyncIterator[ServerSentEvent]:
    """Follow a job by server-sent events, one at each change, the last with its final state.

    The name of each event is the job's state, and its data is the response of GET on the job,
    without a preview that an earlier event has sent.
    """
    seen = 0
    async with aclosing(services.watcher.updates(job.id)) as updates:
        async for view in updates:
            response = await responses.job(view, seen)
            seen = previews_of(view)
            yield ServerSentEvent(
                event=view.state.value, raw_data=response.model_dump_json(exclude_none=True)
            )


@router.delete("/{job_id}", response_model=JobResponse)
async def cancel_job(
    job_id: JobIdPath, services: ServicesDep, user: UserDep, responses: ResponsesDep
) -> Response:
    """Cancel a job: at once if it is queued, after its current step if it runs.

    A job that has ended is not changed.
    """
    view = await run_in_threadpool(services.queue.cancel, job_id, user.owner)
    return json_response(await responses.job(view))


@router.get(
    "/{job_id}/images/{index}",
    response_class=Response,
    responses={
        200: {
            "description": "The image.",
            "headers": HEADERS,
            "content": {f"image/{kind}": {} for kind in ("png", "jpeg", "webp")},
        }
    },
)
def get_image(job: JobDep, index: IndexPath, services: ServicesDep) -> Response:
    """Get the bytes of one image of a finished job."""
    image = _image(job, index)
    return file_response(job, services.store.get(image.key), image.format.content_type)


@router.get(
    "/{job_id}/images/{index}/{kind}",
    response_class=Response,
    responses={
        200: {
            "description": "The file.",
            "headers": HEADERS,
            "content": {file_format.content_type: {} for file_format in ExtraFormat},
        }
    },
)
def get_extra(job: JobDep, index: IndexPath, kind: Extra, services: ServicesDep) -> Response:
    """Get the bytes of a file that comes with an image: its depth, or its sound."""
    image = _image(job, index)
    for extra in image.extras:
        if extra.kind is kind:
            content = services.store.get(extra.key)
            return file_response(job, content, extra.format.content_type)
    raise UnknownImage(f"{index} of job {job.id} with {kind.value}")


def _image(job: JobView, index: int) -> ImageResult:
    images = job.result.images if job.result else ()
    if index >= len(images):
        yet = "" if job.state in TERMINAL else " yet"
        raise UnknownImage(f"{index} of job {job.id}{yet}")
    return images[index]
