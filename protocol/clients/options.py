"""The options that a client has chosen for its next requests.

Some APIs have them as global settings of a server. Here each client has its own: they belong to its
API key, or to its address where none is needed.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue
from redis import Redis, RedisError
from redis.asyncio import Redis as AsyncRedis

from protocol.clients.names import client_key
from protocol.connection.redis_client import redis_errors

TTL_S = 30 * 86_400  # since they were chosen, or since a task of the client began


def options_key(client: str) -> str:
    """Return the key of a client's options: a hash of JSON texts."""
    return client_key("options", client)


class ClientOptions:
    """The options of clients, in Redis. Raises `QueueUnavailable` when Redis does not answer.

    The caller bounds their number and their size.
    """

    def __init__(self, redis: Redis, async_redis: AsyncRedis) -> None:
        self._redis = redis
        self._async_redis = async_redis

    async def read(self, client: str) -> dict[str, JsonValue]:
        """Return the options that a client has chosen."""
        name = options_key(client)
        try:  # without a thread: a request that generates waits for it
            found: Any = await self._async_redis.hgetall(name)
        except RedisError:  # that client never retries
            found = await asyncio.to_thread(self._read, name)
        return {option.decode(): json.loads(text) for option, text in found.items()}

    def _read(self, name: str) -> Any:
        with redis_errors():
            return self._redis.hgetall(name)

    def choose(self, client: str, options: Mapping[str, JsonValue]) -> None:
        """Keep `options` in place of those with the same names; others stay."""
        if not options:
            return
        name = options_key(client)
        texts: dict[Any, Any] = {option: json.dumps(value) for option, value in options.items()}
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(name, mapping=texts)
            pipe.expire(name, TTL_S)
            pipe.execute()
