"""Retries that find the job they are retries of.

A client that hears nothing of its request cannot know whether it was accepted. If it gave the
request a key of its own choice (the header `Idempotency-Key`), it asks again with the same key, at
any API, and gets the same job. Ids stay unguessable: a key leads to an id only through Redis.
"""

import hashlib

from redis import Redis

from protocol.connection.keyspace import key as key_of_ours
from protocol.connection.redis_client import redis_errors
from protocol.errors import InvalidRequest
from protocol.request.object_keys import new_job_id
from protocol.request.request import GenerationRequest

KEPT_S = 24 * 3600
HEADER = "Idempotency-Key"
LONGEST = 255


class IdempotencyKeys:
    """Which job each client's keys stand for, in Redis. Raises `QueueUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def job_id(self, client: str, key: str, fingerprint: str) -> str:
        """The id of the job that `key` stands for: a new one the first time, then always the same.

        Whether that job was ever queued is not known here; queueing it again is harmless.

        Raises:
            InvalidRequest: no fit key, or one that this client gave to a different request.
        """
        if not (0 < len(key) <= LONGEST and key.isascii() and key.isprintable()):
            bound = f"1 to {LONGEST} printable ASCII characters"
            raise InvalidRequest(HEADER, key, bound, "bad-idempotency-key")
        name = key_of_ours("idempotency", _digest(f"{client}\n{key}"))
        mine = f"{new_job_id()} {fingerprint}".encode()
        with redis_errors():
            # Two at once: one is first, and the other reads what it wrote.
            is_new = self._redis.set(name, mine, nx=True, ex=KEPT_S)
            found: bytes | None = None if is_new else self._redis.get(name)  # type: ignore[assignment]  # sync client
        job_id, _, given = (found or mine).partition(b" ")
        if given.decode() != fingerprint:
            bound = "a new key for a new request"
            raise InvalidRequest(HEADER, key, bound, "idempotency-key-reused")
        return job_id.decode()


def fingerprint(request: GenerationRequest, seed: int | None) -> str:
    """What makes two requests the same one; `seed` is the client's own, if it gave one.

    One that was drawn for it differs at each try, and is not its wish.
    """
    return _digest(request.model_copy(update={"seed": seed}).model_dump_json())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
