"""Admission control: the compute budget of a client and its number of jobs in flight."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.concurrency import run_in_threadpool

from protocol.auth.limits import Limits, Rate
from protocol.errors import DarkroomError, InvalidRequest, QueueUnavailable
from protocol.request.request import GenerationRequest
from service.auth.api_keys import User


@asynccontextmanager
async def admitted(
    limits: Limits, user: User, request: GenerationRequest, job_id: str
) -> AsyncIterator[None]:
    """Charge the user for a job that the block submits.

    Raises `RateLimited` or `TooManyJobs` if a limit of the user is reached.
    """
    if (per_minute := user.limits.pixel_steps_per_minute) is not None:
        await run_in_threadpool(_spend, limits, user, request, per_minute)
    if user.limits.jobs is None:
        yield
        return
    await run_in_threadpool(limits.enter, user.client, job_id, user.limits.jobs)
    try:
        yield
    except DarkroomError:
        with suppress(QueueUnavailable):
            await run_in_threadpool(limits.leave, user.client, job_id)
        raise


def pixel_steps(request: GenerationRequest) -> int:
    """Return the approximate cost of a request: pixels times steps, over all images."""
    return request.width * request.height * request.steps * request.n


def _spend(limits: Limits, user: User, request: GenerationRequest, per_minute: int) -> None:
    cost = pixel_steps(request)
    if cost > per_minute:  # a later attempt would fail too
        bound = f"so that width x height x steps x n is at most {per_minute}, the share of this key"
        raise InvalidRequest("steps", f"{request.steps}, in all {cost}", bound, "over-budget")
    limits.take(user.client, Rate("pixel-steps", per_minute), cost)
