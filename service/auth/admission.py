"""Admission control: what a request counts against the limits of its API key.

Only POST requests count. Those that generate are charged when their job is queued
(`protocol.queue.limits`); an invalid one, and one that reads the recipe of an image, counts as one
request without pixels, so that a client that sends nothing else is limited too.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from starlette.concurrency import run_in_threadpool

from protocol.auth.api_keys import KeyLimits
from protocol.errors import InvalidRequest, QueueUnavailable, RateLimited
from protocol.queue.idempotency import IdempotencyKeys
from protocol.queue.limits import JobLimits, Rate, Rates, Window
from protocol.request.request import GenerationRequest
from service.auth.api_keys import User

FACTORS = ("steps", "n", "width", "height")  # of what a request costs; the first sent is named
FACTORS_OF = {"images": ("n",), "requests": ()}
ORDER = ("width", "height", "steps", "n")  # in which the bound names them


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

    def left(self, user: User, rate: Rate) -> float:
        """Return how much of a rate the user has left. Raises `QueueUnavailable`."""
        return self._rates.left(user.client, rate)

    async def count(self, user: User) -> None:
        """Count a request that queues no job: it is invalid, or only reads an image."""
        if (rate := _requests(user)) is not None:
            with suppress(QueueUnavailable):
                await run_in_threadpool(self._rates.take, user.client, rate, 1)


def job_limits(user: User, request: GenerationRequest, sent: Collection[str]) -> JobLimits:
    """Return what the job of `request` costs its user; `sent`: the fields that the client sent.

    Raises `InvalidRequest` if the user can never afford it.
    """
    return batch_limits(user, [request], sent)


def batch_limits(
    user: User, requests: Sequence[GenerationRequest], sent: Collection[str]
) -> JobLimits:
    """Return what the jobs of `requests` cost their user together. Raises like `job_limits`."""
    totals: dict[Rate, float] = {}
    if (rate := _requests(user)) is not None:
        totals[rate] = len(requests)
    for request in requests:
        for rate, cost in _costs(user.limits, request):
            totals[rate] = totals.get(rate, 0) + cost
    for rate, cost in totals.items():
        _check_affordable(rate, cost, requests[0], sent)
    return JobLimits(tuple(totals.items()), user.limits.jobs)


def pixel_steps(request: GenerationRequest) -> int:
    """Return the approximate cost of a request: pixels times steps, over all images."""
    return request.width * request.height * request.steps * request.n


def _costs(limits: KeyLimits, request: GenerationRequest) -> Iterator[tuple[Rate, float]]:
    """Yield the limited rates and what the request costs of each."""
    cost = pixel_steps(request)
    if limits.pixel_steps_per_minute is not None:
        yield Rate("pixel-steps", limits.pixel_steps_per_minute), cost
    if limits.images_per_day is not None:
        yield Rate("images", limits.images_per_day, Window.DAY), request.n
    if limits.megapixel_steps_per_day is not None:
        yield Rate("megapixel-steps", limits.megapixel_steps_per_day, Window.DAY), cost / 1e6


def _check_affordable(
    rate: Rate, cost: float, request: GenerationRequest, sent: Collection[str]
) -> None:
    """Raise `InvalidRequest` if a later attempt would fail, too."""
    if cost <= rate.amount:
        return
    factors = FACTORS_OF.get(rate.what, FACTORS)
    product = " x ".join(sorted(factors, key=ORDER.index)) or "the number of jobs"
    bound = f"so that {product} is at most {rate.amount} {rate.what}, the share of this key"
    known = [name for name in ("prompts", *factors) if name in sent]
    field = known[0] if known else "body"
    value = f"{getattr(request, field)}, " if field in factors else ""
    raise InvalidRequest(field, f"{value}in all {cost:.15g}", bound, "over-budget")


def _requests(user: User) -> Rate | None:
    per_minute = user.limits.requests_per_minute
    return None if per_minute is None else Rate("requests", per_minute)
