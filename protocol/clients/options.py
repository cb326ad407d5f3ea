"""The options that a client has chosen for its next requests.

Some APIs have them as global settings of a server. Here each client has its own: they belong to its
API key, or to its address where none is needed.
"""

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue
from redis import Redis, RedisError
from redis.asyncio import Redis as AsyncRedis

from protocol.clients.names import client_key
from protocol.connection.redis_client import redis_errors
from protocol.queue.submission import OptionsVersion

TTL_S = 30 * 86_400  # since they were chosen, or since a task of the client began
MAX_SEEN = 10_000  # clients whose options a process remembers
VERSION = ""  # the field that is new with every choice


def options_key(client: str) -> str:
    """Return the key of a client's options: a hash of JSON texts, and `VERSION`."""
    return client_key("options", client)


@dataclass(frozen=True)
class ChosenOptions:
    """The options of a client as they were read; `version` is "" if it has chosen none."""

    client: str
    values: Mapping[str, JsonValue] = field(default_factory=dict)
    version: str = ""

    @property
    def expected(self) -> OptionsVersion:
        """Return what a submission expects: that they are still the client's options."""
        return OptionsVersion(options_key(self.client), self.version)


class ClientOptions:
    """The options of clients, in Redis. Raises `QueueUnavailable` when Redis does not answer.

    The caller bounds their number and their size.
    """

    def __init__(self, redis: Redis, async_redis: AsyncRedis) -> None:
        self._redis = redis
        self._async_redis = async_redis
        self._seen: dict[str, ChosenOptions] = {}

    def last_seen(self, client: str) -> ChosenOptions:
        """Return the options of a client without asking Redis.

        Another process may have changed them: the submission of the job (`Submission.options`)
        finds that out, without a round trip of its own.
        """
        return self._seen.get(client, ChosenOptions(client))

    async def read(self, client: str) -> ChosenOptions:
        """Return the options that a client has chosen."""
        name = options_key(client)
        try:  # without a thread: a request that generates may wait for it
            found: Any = await self._async_redis.hgetall(name)
        except RedisError:  # that client never retries
            found = await asyncio.to_thread(self._read, name)
        texts = {option.decode(): text for option, text in found.items()}
        version = texts.pop(VERSION, b"").decode()
        values = {option: json.loads(text) for option, text in texts.items()}
        chosen = ChosenOptions(client, values, version)
        self._seen.pop(client, None)
        self._seen[client] = chosen
        if len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]  # the one that was read longest ago
        return chosen

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
            pipe.hset(name, mapping=texts | {VERSION: secrets.token_hex(8)})
            pipe.expire(name, TTL_S)
            pipe.execute()
