"""Lua scripts in Redis: each is a file, with the library before it.

A change of a job's state is one script, so it happens completely or not at all, on the server's
clock. The scripts compute the names of their keys; they get one key only, which determines the node
of a Redis Cluster that runs them.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

from redis import Redis, RedisError
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError

from protocol.connection.keyspace import OURS, RQ, key

FOLDER = Path(__file__).parent / "lua"
LIBRARY = (
    "clock",
    "keys",
    "pace",
    "lane",
    "execution",
    "pins",
    "index",
    "deletion",
    "ending",
    "view",
)  # of every script; each uses those before it

Arguments = Mapping[str, Any]


def script_text(name: str, *libraries: str) -> str:
    """Return the text of a script, after the common library and `libraries` of its own."""
    files = [FOLDER / "library" / f"{part}.lua" for part in (*LIBRARY, *libraries)]
    files.append(FOLDER / f"{name}.lua")
    prefixes = f"local rq, ours = '{RQ}', '{OURS}'"
    return "\n".join([prefixes, *(file.read_text("utf-8") for file in files)])


def argv(arguments: Arguments) -> list[str | bytes]:
    """Return a script's ARGV: one JSON object of `arguments` without those that are None.

    Bytes are no JSON: the value `data`, bytes or a list of them, becomes ARGV[2] and following.
    """
    rest = {name: v for name, v in arguments.items() if v is not None and name != "data"}
    data = arguments.get("data", [])
    return [json.dumps(rest), *([data] if isinstance(data, bytes) else data)]


class AsyncScript:
    """A script that is called without a thread. Calls must be repeatable.

    The client for asyncio never retries: a call that fails is repeated by `redis`, in a thread.
    Raises redis-py's errors.
    """

    def __init__(self, redis: Redis, async_redis: AsyncRedis, name: str) -> None:
        self._async_redis = async_redis
        self._again = PipelinedScript(redis, name)

    async def __call__(self, **arguments: Any) -> Any:
        """Return the answer to one call."""
        try:
            return await self._async_redis.evalsha(self._again.sha, 1, key(), *argv(arguments))
        except RedisError:  # also for a script that is new to Redis
            return await asyncio.to_thread(self._again, **arguments)


class PipelinedScript:
    """A script, called by its hash; the text is sent only if Redis does not have it.

    Calls must be repeatable: redis-py repeats calls without an answer. Raises redis-py's errors.
    """

    def __init__(self, redis: Redis, name: str, *libraries: str) -> None:
        self._redis = redis
        self._text = script_text(name, *libraries)
        self.sha = sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, **arguments: Any) -> Any:
        """Return the answer to one call."""
        [answer] = self.many([arguments])
        return answer

    def many(self, calls: Sequence[Arguments]) -> list[Any]:
        """Send `calls` in one round trip, and return their answers in order."""
        try:
            return self._send(calls)
        except NoScriptError:  # new to Redis, or Redis was restarted
            self._redis.script_load(self._text)
            return self._send(calls)

    def _send(self, calls: Sequence[Arguments]) -> list[Any]:
        # The key determines the node of a Redis Cluster that runs this.
        if len(calls) == 1:
            return [self._redis.evalsha(self.sha, 1, key(), *argv(calls[0]))]
        with self._redis.pipeline(transaction=False) as pipe:
            for arguments in calls:
                pipe.evalsha(self.sha, 1, key(), *argv(arguments))
            return pipe.execute()
