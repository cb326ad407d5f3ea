"""A Lua script whose calls are sent together, in one round trip."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

from protocol.connection.keyspace import key

Arguments = Sequence[str | bytes | float]


class PipelinedScript:
    """A script, called by its hash; the text is sent only if Redis does not have it.

    Calls must be repeatable: redis-py repeats calls without an answer. Raises redis-py's errors.
    """

    def __init__(self, redis: Redis, text: str) -> None:
        self._redis = redis
        self._text = text
        self._sha = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, calls: Sequence[Arguments]) -> list[Any]:
        """Return the answers to `calls`, in their order."""
        try:
            return self._send(calls)
        except NoScriptError:  # new to Redis, or Redis was restarted
            self._redis.script_load(self._text)
            return self._send(calls)

    def _send(self, calls: Sequence[Arguments]) -> list[Any]:
        # The key determines the node of a Redis Cluster that runs this.
        if len(calls) == 1:
            return [self._redis.evalsha(self._sha, 1, key(), *calls[0])]
        with self._redis.pipeline(transaction=False) as pipe:
            for arguments in calls:
                pipe.evalsha(self._sha, 1, key(), *arguments)
            return pipe.execute()
