"""Decides which requests are sent again, and when."""

import random
from uuid import uuid4

from darkroom_client.errors import DarkroomError, JobLost, ProblemError, ServerUnreachable

RETRIES = 4  # further tries by default
RETRIED = (429, 502, 503, 504)
FIRST_WAIT_S = 0.25  # twice as long each time
LONGEST_WAIT_S = 60.0  # a server that asks for more gets no other try


def wait_before_retry(error: DarkroomError, tried: int) -> float | None:
    """Return the seconds to wait after `tried` earlier failures; None if another try cannot help.

    The server's own `Retry-After` comes first. The wait is random, so that clients spread.
    """
    asked: float | None = None
    if isinstance(error, ProblemError):
        if error.status not in RETRIED or isinstance(error, JobLost):
            return None
        asked = error.retry_after_s
    elif not isinstance(error, ServerUnreachable):
        return None
    wait = FIRST_WAIT_S * 2.0**tried * random.uniform(0.5, 1) if asked is None else asked
    return wait if wait <= LONGEST_WAIT_S else None


def new_key() -> str:
    """Return an idempotency key: a request sent again with it is the same job."""
    return uuid4().hex
