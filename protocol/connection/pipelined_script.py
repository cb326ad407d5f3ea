"""One script for many: all calls go out together, and come back in one round trip."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

from protocol.connection.keyspace import key

Arguments = Sequence[str | bytes | float]


class PipelinedScript:
    """A script, by its hash; Redis is sent the text when it turns out not to have it.

    Calls must bear repetition: redis-py repeats what got no answer. Raises what redis-py raises.
    """

    def __init__(self, redis: Redis, text: str) -> None:
        self._redis = redis
        self._text = text
        self._sha = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, calls: Sequence[Arguments]) -> list[Any]:
        """The answers to `calls`, in their order."""
        try:
            return self._send(calls)
        except NoScriptError:  # Redis never saw it, or was started anew
            self._redis.script_load(self._text)
            return self._send(calls)

    def _send(self, calls: Sequence[Arguments]) -> list[Any]:
        # The key is for Redis Cluster, to know where to run this.
        if len(calls) == 1:
            return [self._redis.evalsha(self._sha, 1, key(), *calls[0])]
        with self._redis.pipeline(transaction=False) as pipe:
            for arguments in calls:
                pipe.evalsha(self._sha, 1, key(), *arguments)
            return pipe.execute()
