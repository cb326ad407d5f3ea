"""Pins: marks in Redis that keep stored objects from being deleted by the garbage collector.

A result belongs to its job's record and may be deleted when that has expired. The key of an input
is a digest of its content, so many jobs may share it. It is pinned before it is written, for as
long as a job can live, or until all jobs that share it are deleted. An object that is marked for
deletion cannot be pinned until it is deleted; it is then written again.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from redis import Redis

from protocol.connection.keyspace import RQ, key
from protocol.connection.redis_client import redis_errors, server_time
from protocol.connection.scripts import PipelinedScript
from protocol.errors import StoreUnavailable
from protocol.settings import Settings
from protocol.storage.object_store import ObjectStore

MARGIN_S = 3600  # for the time from pin to acceptance of the job, and for the store's clock
DELETION_S = 60  # longer than the store tries to delete
POLL_S = 0.02


def pin_s(settings: Settings) -> int:
    """Return the seconds for which an input is pinned."""
    return settings.job_lifetime_s + MARGIN_S


class Pins:
    """The pins of stored objects. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._pin_s = pin_s(settings)
        self._pin = PipelinedScript(redis, "pin")
        self._mark_for_deletion = PipelinedScript(redis, "mark_for_deletion")

    def pin(self, keys: Sequence[str], job_id: str = "") -> None:
        """Pin inputs for the life of a job. To be called before they are written.

        A pin without a `job_id` lasts for that time, whichever jobs are deleted.

        Waits for a deletion that has begun. Raises StoreUnavailable if that does not end.
        """
        deadline = time.monotonic() + DELETION_S
        while keys:
            with redis_errors():
                deleting = self._pin(seconds=self._pin_s, keys=list(keys), id=job_id)
            keys = [one.decode() for one in deleting]
            if keys and time.monotonic() > deadline:
                raise StoreUnavailable
            if keys:
                time.sleep(POLL_S)

    def mark_for_deletion(self, keys: Sequence[str]) -> list[str]:
        """Mark the inputs without a pin and return them.

        The caller deletes them and then calls `unmark`.
        """
        with redis_errors():
            free = self._mark_for_deletion(seconds=DELETION_S, keys=list(keys))
        return [one.decode() for one in free]

    def delete_unpinned(self, keys: Sequence[str], store: ObjectStore) -> int:
        """Delete those of the inputs that have no pin, and return their number."""
        free = self.mark_for_deletion(keys)
        for one in free:
            store.delete(one)
        self.unmark(free)
        return len(free)

    def unmark(self, keys: Iterable[str]) -> None:
        """Allow deleted inputs to be pinned again."""
        with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for one in keys:
                pipe.delete(key("condemned", one))
            pipe.execute()

    def now(self) -> datetime:
        """Return Redis' time, the clock of pins and records."""
        return datetime.fromtimestamp(server_time(self._redis), UTC)

    def has_record(self, job_id: str) -> bool:
        """Return True if the job has a record, whether it has ended or not."""
        with redis_errors():
            return bool(self._redis.exists(f"{RQ}:job:{job_id}"))

    def has_file(self, file_id: str) -> bool:
        """Return True if an uploaded file has a record, so that it has not expired."""
        with redis_errors():
            return bool(self._redis.exists(key("file", file_id)))

    def claim_collection(self, every_s: float) -> bool:
        """Return True if no other collection began within `every_s` seconds, and claim this one."""
        with redis_errors():
            return bool(self._redis.set(key("swept"), 1, nx=True, px=max(1, int(every_s * 1000))))
