"""Idempotency keys: a retry of a request returns the job of the first try.

A client without an answer cannot know whether its request was accepted. If it sent a key of its own
choice (the header `Idempotency-Key`), it sends the request again with the same key, to any API
process, and gets the same job. Ids stay unguessable: only Redis maps a key to an id.
"""

import hashlib

from redis import Redis

from protocol.connection.keyspace import key as key_of_ours
from protocol.connection.redis_client import redis_errors
from protocol.errors import InvalidRequest
from protocol.request.object_keys import new_job_id
from protocol.request.request import GenerationRequest

TTL_S = 24 * 3600
HEADER = "Idempotency-Key"
MAX_LENGTH = 255


class IdempotencyKeys:
    """The jobs of each client's keys, in Redis. Raises `QueueUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def job_id(self, client: str, key: str, fingerprint: str) -> str:
        """Return the id of the job of `key`: a new one the first time, then always the same.

        The job may never have been queued; to queue it again changes nothing.

        Raises:
            InvalidRequest: the key is malformed, or this client used it for a different request.
        """
        if not _well_formed(key):
            bound = f"1 to {MAX_LENGTH} printable ASCII characters"
            raise InvalidRequest(HEADER, key, bound, "bad-idempotency-key")
        name = _name(client, key)
        mine = f"{new_job_id()} {fingerprint}".encode()
        with redis_errors():
            # Of two concurrent requests one is first, and the other reads its value.
            is_new = self._redis.set(name, mine, nx=True, ex=TTL_S)
            found: bytes | None = None if is_new else self._redis.get(name)  # type: ignore[assignment]  # sync client
        job_id, _, given = (found or mine).partition(b" ")
        if given.decode() != fingerprint:
            bound = "a new key for a new request"
            raise InvalidRequest(HEADER, key, bound, "idempotency-key-reused")
        return job_id.decode()

    def has(self, client: str, key: str) -> bool:
        """Return True if the client has used the key, so that its request may be a retry."""
        with redis_errors():
            return _well_formed(key) and bool(self._redis.exists(_name(client, key)))


def fingerprint(request: GenerationRequest, seed: int | None) -> str:
    """Return a digest that is equal for equal requests.

    `seed` is the client's, None if it sent none: a random seed differs at each try, so it is not
    part of the digest. Nor is the hash of the model, which a worker may find between two tries.
    """
    same = request.model_copy(update={"seed": seed, "model_hash": None})
    return _digest(same.model_dump_json())


def retry_fingerprint(job_id: str) -> str:
    """Return a digest that is equal for two retries of the same job, and for nothing else."""
    return _digest(f"retry {job_id}")


def _well_formed(key: str) -> bool:
    return 0 < len(key) <= MAX_LENGTH and key.isascii() and key.isprintable()


def key_digest(client: str, key: str) -> str:
    """Return the digest of a client's key, by which its job is found."""
    return _digest(f"{client}\n{key}")


def _name(client: str, key: str) -> str:
    return key_of_ours("idempotency", key_digest(client, key))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
