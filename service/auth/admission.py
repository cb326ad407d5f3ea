"""Whether a client may have one more job: its share of drawing, and how many it has already."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.concurrency import run_in_threadpool

from protocol.auth.limits import Limits, Rate
from protocol.errors import DarkroomError, InvalidRequest, QueueUnavailable
from protocol.request.request import GenerationRequest
from service.auth.api_keys import User


@asynccontextmanager
async def admitted(
    limits: Limits, visitor: User, request: GenerationRequest, job_id: str
) -> AsyncIterator[None]:
    """The block submits the job; raises `RateLimited` or `TooManyJobs` where it may not."""
    if (per_minute := visitor.limits.pixel_steps_per_minute) is not None:
        await run_in_threadpool(_spend, limits, visitor, request, per_minute)
    if visitor.limits.jobs is None:
        yield
        return
    await run_in_threadpool(limits.enter, visitor.client, job_id, visitor.limits.jobs)
    try:
        yield
    except DarkroomError:
        with suppress(QueueUnavailable):
            await run_in_threadpool(limits.leave, visitor.client, job_id)
        raise


def pixel_steps(request: GenerationRequest) -> int:
    """What drawing costs, roughly: pixels times steps, of all pictures."""
    return request.width * request.height * request.steps * request.n


def _spend(limits: Limits, visitor: User, request: GenerationRequest, per_minute: int) -> None:
    cost = pixel_steps(request)
    if cost > per_minute:  # no waiting would help
        bound = f"so that width x height x steps x n is at most {per_minute}, the share of this key"
        raise InvalidRequest("steps", f"{request.steps}, in all {cost}", bound, "over-budget")
    limits.take(visitor.client, Rate("pixel-steps", per_minute), cost)
