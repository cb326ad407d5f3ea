"""/v1/jobs/{id}: look at a job, follow it, cancel it, fetch its pictures."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from protocol.errors import UnknownImage
from protocol.queue.job import TERMINAL, ImageResult, JobView
from protocol.request.object_keys import Extra, ExtraFormat
from service.routes.deps import AnswersDep, JobDep, JobIdPath, ServicesDep, VisitorDep
from service.schemas.problems import DOOR, documented
from service.schemas.responses import JobAnswer, json_response, previews_of

PROBLEMS = documented(*DOOR, 404, 422, 500, 503)
router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=PROBLEMS)

IndexPath = Annotated[int, Path(ge=0, le=9999, description="From 0, in order of the seeds.")]
PICTURE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    # Anybody's page may show a picture whose unguessable address it knows.
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "private, max-age=3600, immutable",
}


@router.get("/{job_id}", response_model=JobAnswer)
async def get_job(job: JobDep, answers: AnswersDep) -> Response:
    """Where a job stands: its place in the queue, its progress by step, its result or error."""
    return json_response(await answers.job(job))


@router.get("/{job_id}/events", response_class=EventSourceResponse)
async def follow_job(
    job: JobDep, services: ServicesDep, answers: AnswersDep
) -> AsyncIterator[ServerSentEvent]:
    """The job as server-sent events, one at each change, the last with its final state.

    Each event is named by the job's state and holds what GET on the job answers, but for previews
    that an earlier event has brought.
    """
    seen = 0
    async with aclosing(services.watcher.updates(job.id)) as updates:
        async for view in updates:
            answer = await answers.job(view, seen)
            seen = previews_of(view)
            yield ServerSentEvent(
                event=view.state.value, raw_data=answer.model_dump_json(exclude_none=True)
            )


@router.delete("/{job_id}", response_model=JobAnswer)
async def cancel_job(
    job_id: JobIdPath, services: ServicesDep, visitor: VisitorDep, answers: AnswersDep
) -> Response:
    """Stop a job: at once if it waits, after its current step if it runs. What has ended stays."""
    view = await run_in_threadpool(services.queue.cancel, job_id, visitor.owner)
    return json_response(await answers.job(view))


@router.get(
    "/{job_id}/images/{index}",
    response_class=Response,
    responses={
        200: {
            "description": "The picture.",
            "content": {f"image/{kind}": {} for kind in ("png", "jpeg", "webp")},
        }
    },
)
def get_image(job: JobDep, index: IndexPath, services: ServicesDep) -> Response:
    """The bytes of one picture of a finished job."""
    image = _picture(job, index)
    return Response(
        services.store.get(image.key), 200, PICTURE_HEADERS, media_type=image.format.content_type
    )


@router.get(
    "/{job_id}/images/{index}/{kind}",
    response_class=Response,
    responses={
        200: {
            "description": "The file.",
            "content": {file_format.content_type: {} for file_format in ExtraFormat},
        }
    },
)
def get_extra(job: JobDep, index: IndexPath, kind: Extra, services: ServicesDep) -> Response:
    """The bytes of a file that comes with a picture: its depth, or its sound."""
    image = _picture(job, index)
    for extra in image.extras:
        if extra.kind is kind:
            content = services.store.get(extra.key)
            return Response(content, 200, PICTURE_HEADERS, media_type=extra.format.content_type)
    raise UnknownImage(f"{index} of job {job.id} with {kind.value}")


def _picture(job: JobView, index: int) -> ImageResult:
    images = job.result.images if job.result else ()
    if index >= len(images):
        yet = "" if job.state in TERMINAL else " yet"
        raise UnknownImage(f"{index} of job {job.id}{yet}")
    return images[index]
