"""Which objects in the store somebody may still need: said in Redis, asked by who sweeps.

A result belongs to its job's record and is free when that has expired. An input is named by its
content and may be shared by many jobs, so it is held, from before it is written, for as long as a
job can live; what is being deleted cannot be held until it is gone, and is then written anew.
"""

import time
from collections.abc import Iterable, Sequence

from redis import Redis

from protocol.connection.keyspace import RQ, key
from protocol.connection.redis_client import redis_errors
from protocol.connection.scripts import PipelinedScript
from protocol.errors import StoreUnavailable
from protocol.settings import Settings

MARGIN_S = 3600  # between being held and its job being accepted, and for clocks that disagree
DELETING_S = 60  # longer than the store tries to delete
LOOK_EVERY_S = 0.02


class Pins:
    """Raises `QueueUnavailable` when Redis is away."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._life_s = settings.job_lifetime_s + MARGIN_S
        self._hold = PipelinedScript(redis, "pin")
        self._condemn = PipelinedScript(redis, "mark_for_deletion")

    def hold(self, keys: Sequence[str]) -> None:
        """Keep inputs for the life of a job. To be called before they are written.

        Waits for a deletion that has begun. Raises StoreUnavailable if that never ends.
        """
        deadline = time.monotonic() + DELETING_S
        while keys:
            with redis_errors():
                going = self._hold(seconds=self._life_s, keys=list(keys))
            keys = [one.decode() for one in going]
            if keys and time.monotonic() > deadline:
                raise StoreUnavailable
            if keys:
                time.sleep(LOOK_EVERY_S)

    def condemn(self, keys: Sequence[str]) -> list[str]:
        """Those inputs that nobody needs. They are to be deleted now, and then `deleted`."""
        with redis_errors():
            free = self._condemn(seconds=DELETING_S, keys=list(keys))
        return [one.decode() for one in free]

    def deleted(self, keys: Iterable[str]) -> None:
        """These may be held again."""
        with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for one in keys:
                pipe.delete(key("condemned", one))
            pipe.execute()

    def has_record(self, job_id: str) -> bool:
        """Whether there is a job, alive or ended, whose results these are."""
        with redis_errors():
            return bool(self._redis.exists(f"{RQ}:job:{job_id}"))

    def my_turn_to_sweep(self, every_s: float) -> bool:
        """Whether nobody else has begun to within `every_s` seconds; who asks is then at it."""
        with redis_errors():
            return bool(self._redis.set(key("swept"), 1, nx=True, px=max(1, int(every_s * 1000))))
