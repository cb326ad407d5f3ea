"""Deletes the objects of deleted jobs and of expired files from the store.

The script that deletes a job notes its id and its inputs (`lua/library/deletion.lua`), and the one
that keeps a client's file notes its key for when it expires (`lua/file_add.lua`). A note is removed
after its objects, so a crash between the two costs nothing but a second look.
"""

from itertools import chain

from redis import Redis

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors, server_time
from protocol.request.object_keys import is_input, is_job_id, is_upload
from protocol.storage.object_store import ObjectStore
from protocol.storage.pins import Pins

DELETIONS = key("deletions")  # a sorted set of notes; the time from which each is due
PAGE = 100


class DeletedJobs:
    """The deleted jobs, and the files, whose objects may still be stored.

    Raises `QueueUnavailable` and `StoreUnavailable`; the rest is then deleted later.
    """

    def __init__(self, redis: Redis, store: ObjectStore, pins: Pins) -> None:
        self._redis = redis
        self._store = store
        self._pins = pins

    def collect(self) -> None:
        """Delete what is due. An input of another job stays."""
        while notes := self._due():
            jobs, uploads = filter(is_job_id, notes), filter(is_upload, notes)
            for found in chain(uploads, *map(self._store.results_of, jobs)):
                self._store.delete(found)
            self._pins.delete_unpinned(list(filter(is_input, notes)), self._store)
            with redis_errors():
                self._redis.zrem(DELETIONS, *notes)

    def _due(self) -> list[str]:
        with redis_errors():
            now = server_time(self._redis)
            notes = self._redis.zrangebyscore(DELETIONS, "-inf", now, start=0, num=PAGE)
        return [note.decode() for note in notes]  # type: ignore[union-attr]  # sync client
