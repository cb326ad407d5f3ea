"""/v1/jobs/{id}: get a job, cancel or delete it, get its images."""

import logging
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.errors import DarkroomError, UnknownImage
from protocol.queue.job import TERMINAL, ImageResult, JobView
from protocol.request.object_keys import Extra, ExtraFormat, OutputFormat
from service.routes.deps import JobDep, JobIdPath, ResponsesDep, Services, ServicesDep, UserDep
from service.routes.endings import with_endings
from service.schemas.examples import JOB_EXAMPLE
from service.schemas.file_responses import DESCRIPTIONS, file_response
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.schemas.request_bodies import BINARY
from service.schemas.response_builder import json_response
from service.schemas.responses import JobResponse

log = logging.getLogger(__name__)

PROBLEMS = problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 404, 422)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=PROBLEMS)

IndexPath = Annotated[
    int, Path(ge=0, le=9999, description="From 0, in order of the seeds.", examples=[0])
]
HEADERS = {
    **DESCRIPTIONS,
    "ETag": {"description": "For `If-None-Match`.", "schema": {"type": "string"}},
}
JOB: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The job.",
        "content": {"application/json": {"example": JOB_EXAMPLE}},
    }
}
DELETED: dict[int | str, dict[str, Any]] = {204: {"description": "The job is deleted."}}
Purge = Annotated[bool, Query(description="Delete the job with all that belongs to it.")]
NOT_MODIFIED = {"description": "The client has the file: its `If-None-Match` has the ETag."}


def _file(description: str, *content_types: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of a response with a file."""
    content = {content_type: {"schema": BINARY} for content_type in content_types}
    found = {"description": description, "headers": HEADERS, "content": content}
    return {200: found, 304: NOT_MODIFIED}


@router.get("/{job_id}", response_model=JobResponse, responses=JOB)
async def get_job(job: JobDep, responses: ResponsesDep) -> Response:
    """Get the state of a job: its place in the queue, its progress by step, its result or error."""
    return json_response(await responses.job(job))


@router.delete("/{job_id}", response_model=JobResponse, responses=JOB | DELETED)
async def cancel_job(
    job_id: JobIdPath,
    services: ServicesDep,
    user: UserDep,
    responses: ResponsesDep,
    purge: Purge = False,
) -> Response:
    """Cancel a job: at once if it is queued, after its current step if it runs.

    A job that has ended is not changed. With `purge` it is deleted, in every state: its record with
    the prompt, its images, and its input images unless another job has the same. Nobody can ask for
    it from then on; a running one stops after its current step.
    """
    if purge:
        await run_in_threadpool(services.queue.delete, job_id, user.owner)
        await run_in_threadpool(_delete_objects, services)
        return Response(status_code=HTTPStatus.NO_CONTENT)
    view = await run_in_threadpool(services.queue.cancel, job_id, user.owner)
    return json_response(await responses.job(view))


def _delete_objects(services: Services) -> None:
    """Delete the objects of deleted jobs; if the store is away, a worker does it later."""
    try:
        services.deleted_jobs.collect()
    except DarkroomError as error:
        log.warning("objects are deleted later", extra={"error": type(error).__name__})


@router.get(
    "/{job_id}/images/{index}",
    response_class=Response,
    responses=_file("The image.", *(kind.content_type for kind in OutputFormat)),
)
@with_endings(router, "/{job_id}/images/{index}", OutputFormat)
def get_image(request: Request, job: JobDep, index: IndexPath, services: ServicesDep) -> Response:
    """Get the bytes of one image of a finished job.

    The address may end in the image's format, as in `…/images/0.png`.
    """
    image = _image(job, index)
    _check_ending(request, job, image.format)
    return file_response(request, services.store, job, image, f"darkroom-{image.seed}")


@router.get(
    "/{job_id}/images/{index}/{kind}",
    response_class=Response,
    responses=_file("The file.", *(kind.content_type for kind in ExtraFormat)),
)
@with_endings(router, "/{job_id}/images/{index}/{kind}", ExtraFormat)
def get_extra(
    request: Request, job: JobDep, index: IndexPath, kind: Extra, services: ServicesDep
) -> Response:
    """Get the bytes of a file that comes with an image: its depth, or its sound.

    The address may end in the file's format, as in `…/images/0/depth.png`.
    """
    image = _image(job, index)
    for extra in image.extras:
        if extra.kind is kind:
            _check_ending(request, job, extra.format)
            name = f"darkroom-{image.seed}-{kind}"
            return file_response(request, services.store, job, extra, name)
    raise UnknownImage(f"{index} of job {job.id} with {kind.value}")


def _image(job: JobView, index: int) -> ImageResult:
    images = job.result.images if job.result else ()
    if index >= len(images):
        yet = "" if job.state in TERMINAL else " yet"
        raise UnknownImage(f"{index} of job {job.id}{yet}")
    return images[index]


def _check_ending(request: Request, job: JobView, file_format: str) -> None:
    """Raise `UnknownImage` if the address ends in another format than the file's."""
    name: str = request.scope["path"].rpartition("/")[2]
    if name.partition(".")[2] not in ("", file_format):
        raise UnknownImage(f"{name} of job {job.id}")
