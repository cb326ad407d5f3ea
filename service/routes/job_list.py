"""/v1/jobs: list jobs, and submit a failed one again."""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.queue.idempotency import HEADER
from service.routes.deps import JobIdPath, ResponsesDep, ServicesDep, UserDep
from service.routes.links import path_of
from service.routes.submission import invalid_counted, webhook_target
from service.schemas.examples import JOB_EXAMPLE, JOB_LIST_EXAMPLE
from service.schemas.job_list import JobListResponse, ListQuery, cursor_of, place_of
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.schemas.request_bodies import parameters
from service.schemas.response_builder import json_response
from service.schemas.responses import JobResponse

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LIST: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of jobs.",
        "content": {"application/json": {"example": JOB_LIST_EXAMPLE}},
    },
    **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 422),
}
RETRY: dict[int | str, dict[str, Any]] = {
    202: {
        "model": JobResponse,
        "description": "The new job.",
        "content": {"application/json": {"example": JOB_EXAMPLE}},
        "headers": {
            "Location": {
                "description": "The path of the new job.",
                "required": True,
                "schema": {"type": "string", "format": "uri-reference"},
            }
        },
    },
    **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 404, 409, 410, 422, 429),
}


@router.get("", response_model=JobListResponse, responses=LIST)
async def list_jobs(
    query: ListQuery, services: ServicesDep, user: UserDep, responses: ResponsesDep
) -> Response:
    """List your jobs, the newest first; with the scope admin, those of everybody.

    Jobs are listed as long as they can be asked for. A job that is submitted while you read the
    pages is not on a later one, and none is on two of them.
    """
    after = place_of(query.cursor) if query.cursor is not None else None
    page = await run_in_threadpool(
        services.job_list.page, user.owner, query.filter, query.limit, after
    )
    return json_response(
        JobListResponse(
            jobs=await run_in_threadpool(responses.listed, page.jobs),
            next_cursor=cursor_of(page.end) if page.end else None,
        )
    )


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=JobResponse,
    responses=RETRY,
    openapi_extra=parameters("IdempotencyKey"),
)
async def retry_job(
    request: Request,
    job_id: JobIdPath,
    services: ServicesDep,
    user: UserDep,
    responses: ResponsesDep,
) -> Response:
    """Submit the request of a failed or cancelled job again, as a new job with the same seed.

    It counts as any request against the limits of the key.
    """
    failed, original = await run_in_threadpool(services.queue.request, job_id, user.owner)
    key = request.headers.get(HEADER)
    async with invalid_counted(request, services):
        target = webhook_target(None, request, services)
        queued = await services.submitter.retry(failed, original, user, key, target)
    view = await services.watcher.view_or_last(queued.id, queued)
    location = path_of(request, "get_job", job_id=queued.id)
    return json_response(await responses.job(view), 202, {"Location": location})
