"""API keys: what is kept of them, and where.

A key reads `dk_<id>_<secret>`. The id is a name and no secret; the secret is 256 random bits, of
which only the SHA-256 is kept: a slow hash protects words that people think of, and there are none
here. The records are in Redis, so every API process knows of a new or a revoked key at once.
"""

import hashlib
import hmac
import re
import secrets
import time
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, ValidationError
from redis import Redis

from protocol.connection import keyspace
from protocol.connection.redis_client import redis_errors
from protocol.record import Float, Int, Record, Text

RECORDS = keyspace.key("keys")  # a hash: key id -> ApiKey as JSON
TOKEN = re.compile(r"dk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
NOBODYS_DIGEST = hashlib.sha256(secrets.token_bytes()).hexdigest()

Limit = Annotated[Int, Field(ge=1, le=2**53)]


class Scope(StrEnum):
    """What a key may do."""

    GENERATE = "generate"  # submit jobs and cancel its own
    READ = "read"  # models, samplers, its own jobs and pictures
    METRICS = "metrics"  # what Prometheus is told
    ADMIN = "admin"  # all of these, on the jobs of every key


class KeyLimits(Record):
    """How much a key may ask for; None: as much as it likes.

    `pixel_steps_per_minute` counts width x height x steps x n of what is submitted, `jobs` those
    that wait or run.
    """

    requests_per_minute: Limit | None = None
    pixel_steps_per_minute: Limit | None = None
    jobs: Limit | None = None


class ApiKey(Record):
    """What is kept of a key: everything but its secret."""

    id: Annotated[Text, Field(pattern=r"^[0-9a-f]{12}$")]
    name: Annotated[Text, Field(min_length=1, max_length=100)]
    digest: Annotated[Text, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: frozenset[Scope]
    limits: KeyLimits = KeyLimits()
    created_at: Float  # seconds since 1970

    @classmethod
    def made(cls, name: str, scopes: frozenset[Scope], limits: KeyLimits) -> tuple[str, Self]:
        """A new key: the key itself, which is nowhere kept, and its record."""
        key_id = secrets.token_hex(6)
        token = f"dk_{key_id}_{secrets.token_urlsafe(32)}"
        record = cls(
            id=key_id,
            name=name,
            digest=digest(token),
            scopes=scopes,
            limits=limits,
            created_at=time.time(),
        )
        return token, record


def digest(token: str) -> str:
    """What is kept and compared of a key."""
    return hashlib.sha256(token.encode()).hexdigest()


def matching(token: str, keys: dict[str, ApiKey]) -> ApiKey | None:
    """The record of `token` among `keys` (by id), if there is one.

    Hashes and compares once, in constant time, whether the id is known or not.
    """
    found = TOKEN.fullmatch(token)
    key = keys.get(found[1]) if found else None
    same = hmac.compare_digest(digest(token), key.digest if key else NOBODYS_DIGEST)
    return key if same else None


class KeyRecords:
    """The keys, in Redis. Raises `QueueUnavailable` when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def add(self, key: ApiKey) -> None:
        with redis_errors():
            self._redis.hset(RECORDS, key.id, key.model_dump_json())

    def revoke(self, key_id: str) -> bool:
        """Whether there was such a key."""
        with redis_errors():
            return bool(self._redis.hdel(RECORDS, key_id))

    def all(self) -> dict[str, ApiKey]:
        """Every key by id. What is not ours, or not of our version, opens nothing."""
        with redis_errors():
            found: dict[bytes, bytes] = self._redis.hgetall(RECORDS)  # type: ignore[assignment]  # sync client
        keys = {}
        for record in found.values():
            try:
                key = ApiKey.model_validate_json(record)
            except ValidationError:
                continue
            keys[key.id] = key
        return keys
