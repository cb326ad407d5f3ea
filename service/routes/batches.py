"""/v1/batches: submit many prompts at once, get their jobs, cancel them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from protocol.errors import InvalidRequest
from protocol.queue.batches import BatchView, batch_job_id
from protocol.queue.idempotency import HEADER
from protocol.queue.job import JobView
from protocol.request.generation_params import parse_params
from protocol.request.object_keys import JOB_ID
from service.auth.api_keys import User
from service.routes.deps import ResponsesDep, Services, ServicesDep, UserDep
from service.routes.links import path_of
from service.routes.submission import invalid_counted, wait_for_model, webhook_target
from service.schemas.batches import BatchRequest, BatchResponse
from service.schemas.body_parser import JSON_TYPE, read_fields
from service.schemas.examples import JOB
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.schemas.request_bodies import REFERENCE, parameters
from service.schemas.response_builder import ResponseBuilder

PAGE, MOST = 50, 100  # jobs of a page
SUBMIT_PROBLEMS = problem_responses(
    *ACCESS_STATUSES, *SERVER_STATUSES, 400, 408, 409, 413, 415, 422, 429
)
PROBLEMS = problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 404, 422)
router = APIRouter(prefix="/v1/batches", tags=["jobs"])

BODY: dict[str, Any] = {
    **parameters("IdempotencyKey"),
    "requestBody": {
        "required": True,
        "content": {
            JSON_TYPE: {
                "schema": {"$ref": REFERENCE.format(model=BatchRequest.__name__)},
                "example": {"prompts": ["a red heart", "a green heart"], "steps": 20},
            }
        },
    },
}
BatchId = Annotated[str, Path(pattern=JOB_ID, description="32 hexadecimal digits.", examples=[JOB])]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Jobs of the page.")]
Cursor = Annotated[
    str | None, Query(pattern="^[0-9]{1,4}$", description="`next` of the page before.")
]


@router.post(
    "",
    status_code=202,
    response_model_exclude_none=True,
    openapi_extra=BODY,
    responses=SUBMIT_PROBLEMS,
)
async def submit_batch(
    request: Request, response: Response, services: ServicesDep, responses: ResponsesDep
) -> BatchResponse:
    """Queue a job for each of up to 1,000 prompts, all of them or none.

    The other fields are those of `POST /v1/txt2img` and hold for all jobs. Each job and each image
    counts for the limits of the key. A request sent again with the same `Idempotency-Key` is the
    same batch. The response comes at once; `webhook_url` is called for each job that ends.
    """
    batch = await _submit(request, services)
    response.headers["Location"] = path_of(request, "get_batch", batch_id=batch.id)
    return await _page(batch, 0, PAGE, services, responses)


@router.get("/{batch_id}", response_model_exclude_none=True, responses=PROBLEMS)
async def get_batch(
    batch_id: BatchId,
    services: ServicesDep,
    user: UserDep,
    responses: ResponsesDep,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> BatchResponse:
    """Get a batch: how many of its jobs are in each state, and a page of them in their order."""
    batch = await run_in_threadpool(services.batches.view, batch_id, user.owner)
    return await _page(batch, int(cursor or 0), limit, services, responses)


@router.delete("/{batch_id}", response_model_exclude_none=True, responses=PROBLEMS)
async def cancel_batch(
    batch_id: BatchId, services: ServicesDep, user: UserDep, responses: ResponsesDep
) -> BatchResponse:
    """Cancel the jobs of a batch that have not ended."""
    batch = await run_in_threadpool(services.batches.view, batch_id, user.owner)
    await run_in_threadpool(services.queue.cancel_many, _job_ids(batch, 0, batch.count))
    batch = await run_in_threadpool(services.batches.view, batch_id, user.owner)
    return await _page(batch, 0, PAGE, services, responses)


async def _submit(request: Request, services: Services) -> BatchView:
    user: User = request.scope["user"]
    async with invalid_counted(request, services):
        fields = await read_fields(request, BatchRequest, services.decoding)
        if fields.get("prompt") or fields.get("controls"):
            name = "prompt" if fields.get("prompt") else "controls"
            raise InvalidRequest(name, fields[name], "left out", "unknown-field")
        params = parse_params(BatchRequest, fields)
        target = webhook_target(params.webhook_url, request, services)
        key = request.headers.get(HEADER)
        await wait_for_model(request, services, services.settings.max_wait_s)
        return await services.batch_submitter.submit(params, user, key, target)


async def _page(
    batch: BatchView, start: int, limit: int, services: Services, responses: ResponseBuilder
) -> BatchResponse:
    end = min(start + limit, batch.count)
    queries = [(job_id, None) for job_id in _job_ids(batch, start, end)]
    found = await run_in_threadpool(services.queue.view_many, queries)
    views = [view for view in found if isinstance(view, JobView)]
    return BatchResponse(
        id=batch.id,
        count=batch.count,
        states=batch.states,
        jobs=[await responses.job(view) for view in views],
        next=str(end) if end < batch.count else None,
    )


def _job_ids(batch: BatchView, start: int, end: int) -> list[str]:
    return [batch_job_id(batch.id, index) for index in range(start, end)]
