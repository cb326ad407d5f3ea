"""API keys and their records in Redis.

A key has the form `dk_<id>_<secret>`. The id is not secret; the secret is 256 random bits, of which
only the SHA-256 is stored: a slow hash protects passwords chosen by people, and this is none.
The records are in Redis, so each API process sees a new or a revoked key at once.
"""

import hashlib
import hmac
import re
import secrets
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, ValidationError
from redis import Redis

from protocol.connection import keyspace
from protocol.connection.redis_client import redis_errors
from protocol.record import Float, Int, Record, Text

RECORDS = keyspace.key("keys")  # a hash: key id -> ApiKey as JSON
TOKEN = re.compile(r"dk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
UNKNOWN_DIGEST = hashlib.sha256(secrets.token_bytes()).hexdigest()

LONGEST_KEY_NAME = 100
MAX_LIMIT = 2**53

Limit = Annotated[Int, Field(ge=1, le=MAX_LIMIT)]


class Scope(StrEnum):
    """The permissions of a key."""

    GENERATE = "generate"  # submit jobs and cancel its own
    READ = "read"  # models, samplers, its own jobs and images
    METRICS = "metrics"  # metrics for Prometheus
    ADMIN = "admin"  # all of these, on the jobs of every key


class KeyLimits(Record):
    """The limits of a key; None: no limit.

    `requests_per_minute` counts requests that generate, `pixel_steps_per_minute` their width x
    height x steps x n, `images_per_day` their n, `megapixel_steps_per_day` millions of pixel-steps,
    `jobs` those that wait or run.
    """

    requests_per_minute: Limit | None = None
    pixel_steps_per_minute: Limit | None = None
    images_per_day: Limit | None = None
    megapixel_steps_per_day: Limit | None = None
    jobs: Limit | None = None


class ApiKey(Record):
    """The record of a key: everything but its secret."""

    id: Annotated[Text, Field(pattern=r"^[0-9a-f]{12}$")]
    name: Annotated[Text, Field(min_length=1, max_length=LONGEST_KEY_NAME)]
    digest: Annotated[Text, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: frozenset[Scope]
    limits: KeyLimits = KeyLimits()
    webhook_url: Annotated[Text, Field(max_length=2048)] | None = None  # of jobs that name none
    created_at: Float  # seconds since 1970, on Redis' clock

    @classmethod
    def create(
        cls,
        name: str,
        scopes: frozenset[Scope],
        limits: KeyLimits,
        created_at: float,
        webhook_url: str | None = None,
    ) -> tuple[str, Self]:
        """Return a new key, which is not stored, and its record."""
        key_id = secrets.token_hex(6)
        token = f"dk_{key_id}_{secrets.token_urlsafe(32)}"
        record = cls(
            id=key_id,
            name=name,
            digest=digest(token),
            scopes=scopes,
            limits=limits,
            created_at=created_at,
            webhook_url=webhook_url,
        )
        return token, record


def digest(token: str) -> str:
    """Return the digest of a key, which is stored and compared."""
    return hashlib.sha256(token.encode()).hexdigest()


def find_key(token: str, keys: dict[str, ApiKey]) -> ApiKey | None:
    """Return the record of `token` among `keys` (by id), None if there is none.

    Hashes and compares once, in constant time, for known and unknown ids alike.
    """
    found = TOKEN.fullmatch(token)
    key = keys.get(found[1]) if found else None
    same = hmac.compare_digest(digest(token), key.digest if key else UNKNOWN_DIGEST)
    return key if same else None


class KeyRecords:
    """The records of keys, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def add(self, key: ApiKey) -> None:
        with redis_errors():
            self._redis.hset(RECORDS, key.id, key.model_dump_json())

    def revoke(self, key_id: str) -> bool:
        """Delete a key. Return False if there was none."""
        with redis_errors():
            return bool(self._redis.hdel(RECORDS, key_id))

    def all(self) -> dict[str, ApiKey]:
        """Return all keys by id. Records of other versions are skipped."""
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
