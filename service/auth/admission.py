"""Admission control: what a request counts against the limits of its API key.

Only requests that generate count. They are charged when their job is queued
(`protocol.queue.limits`); an invalid one counts as one request, so that a client that sends nothing
else is limited too.
"""

from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from protocol.errors import InvalidRequest, QueueUnavailable, RateLimited
from protocol.queue.idempotency import IdempotencyKeys
from protocol.queue.limits import JobLimits, Rate, Rates
from protocol.request.request import GenerationRequest
from service.auth.api_keys import User


class Admission:
    """Checks and counts requests by key, over all API processes."""

    def __init__(self, rates: Rates, idempotency: IdempotencyKeys) -> None:
        self._rates = rates
        self._idempotency = idempotency

    async def check(self, user: User, idempotency_key: str | None) -> None:
        """Raise `RateLimited` if the user has no request left; a possible retry is let through.

        For before the body is read. The script that queues a job knows what is a retry.
        """
        if (rate := _requests(user)) is None:
            return
        await run_in_threadpool(self._check, user.client, rate, idempotency_key)

    def _check(self, client: str, rate: Rate, idempotency_key: str | None) -> None:
        try:
            self._rates.check(client, rate)
        except RateLimited:
            # In this order: the first attempt has noted its key before it was charged.
            if idempotency_key is None or not self._idempotency.has(client, idempotency_key):
                raise

    async def count_invalid(self, user: User) -> None:
        """Count a request that was refused because it is invalid."""
        if (rate := _requests(user)) is not None:
            with suppress(QueueUnavailable):
                await run_in_threadpool(self._rates.take, user.client, rate, 1)


def job_limits(user: User, request: GenerationRequest) -> JobLimits:
    """Return what the job of `request` costs its user.

    Raises `InvalidRequest` if the user can never afford it.
    """
    costs = [] if (rate := _requests(user)) is None else [(rate, 1)]
    if (per_minute := user.limits.pixel_steps_per_minute) is not None:
        costs.append((Rate("pixel-steps", per_minute), _affordable(request, per_minute)))
    return JobLimits(tuple(costs), user.limits.jobs)


def pixel_steps(request: GenerationRequest) -> int:
    """Return the approximate cost of a request: pixels times steps, over all images."""
    return request.width * request.height * request.steps * request.n


def _affordable(request: GenerationRequest, per_minute: int) -> int:
    cost = pixel_steps(request)
    if cost > per_minute:  # a later attempt would fail too
        bound = f"so that width x height x steps x n is at most {per_minute}, the share of this key"
        raise InvalidRequest("steps", f"{request.steps}, in all {cost}", bound, "over-budget")
    return cost


def _requests(user: User) -> Rate | None:
    per_minute = user.limits.requests_per_minute
    return None if per_minute is None else Rate("requests", per_minute)
