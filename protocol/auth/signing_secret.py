"""The secret that signs URLs and webhooks, shared by all API processes through Redis.

It is for installations that set none. If Redis loses it, the next process that reads it writes back
the one it knows, so the URLs stay valid as long as one process lives.
"""

import secrets

from redis import Redis

from protocol.connection import keyspace
from protocol.connection.redis_client import redis_errors

SECRET = keyspace.key("signing-secret")


class SigningSecret:
    """The shared secret, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._known = secrets.token_bytes(32)

    def read(self) -> bytes:
        """Return the secret; the first process to ask makes it."""
        with redis_errors():
            self._redis.set(SECRET, self._known, nx=True)
            found: bytes | None = self._redis.get(SECRET)  # type: ignore[assignment]  # sync client
        self._known = found or self._known
        return self._known
