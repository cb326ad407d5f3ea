"""Limits of one client over all API processes: rates, and jobs that wait or run.

A job counts when it is queued, in the script that queues it (`lua/submit.lua`). So a request that
is refused, or that repeats an earlier one, costs nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from redis import Redis

from protocol.connection.redis_client import redis_errors
from protocol.connection.scripts import PipelinedScript
from protocol.errors import RateLimited


class Window(IntEnum):
    """The time in which all of a rate can be used, in milliseconds."""

    MINUTE = 60_000
    DAY = 86_400_000


@dataclass(frozen=True)
class Rate:
    """A limit of `amount` of `what` in a window; the name is for the client and for Redis.

    What has been used comes back evenly over the window, not at its end.
    """

    what: str
    amount: int
    window: Window = Window.MINUTE

    def arguments(self, cost: float) -> Mapping[str, str | float]:
        """Return a rate as the Lua scripts take it."""
        return {
            "what": self.what,
            "capacity": self.amount,
            "window_ms": self.window,
            "cost": cost,
        }

    def error(self, wait_ms: int) -> RateLimited:
        """Return the error for a client that has to wait."""
        return RateLimited(self.what, self.amount, wait_ms / 1000, self.window.name.lower())


@dataclass(frozen=True)
class JobLimits:
    """Costs of a job for its client: an amount of each rate, and one of at most `jobs`."""

    costs: tuple[tuple[Rate, float], ...] = ()
    jobs: int | None = None


NO_LIMITS = JobLimits()


class Rates:
    """The rates of clients, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._script = PipelinedScript(redis, "rate", "limits")

    def check(self, client: str, rate: Rate) -> None:
        """Raise `RateLimited` if not even 1 is left; take nothing."""
        with redis_errors():
            wait_ms = self._script(client=client, rate=rate.arguments(1), take=False)
        if wait_ms:
            raise rate.error(wait_ms)

    def left(self, client: str, rate: Rate) -> float:
        """Return how much of a rate is left."""
        with redis_errors():
            wait_ms = self._script(client=client, rate=rate.arguments(rate.amount), take=False)
        return rate.amount * (1 - wait_ms / rate.window)

    def take(self, client: str, rate: Rate, cost: float) -> None:
        """Take `cost`, or what is left if that is less."""
        with redis_errors():
            self._script(client=client, rate=rate.arguments(cost), take=True)
