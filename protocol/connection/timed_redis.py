"""A Redis client that tells how long each round trip took; not of subscriptions, which wait."""

from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import NoScriptError, RedisError, WatchError

from protocol.observing import Observe, observed

# Part of how things are done: a script is sent again, a transaction is tried again.
NO_TROUBLE = (NoScriptError, WatchError)


class TimedRedis(Redis):
    """`observe` is told of every command, and of every pipeline as one."""

    observe: Observe

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with observed(self.observe, "command", RedisError, but=NO_TROUBLE):
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        pipeline = TimedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipeline.observe = self.observe
        return pipeline


class TimedPipeline(Pipeline):
    """A pipeline of a `TimedRedis`."""

    observe: Observe

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with observed(self.observe, "pipeline", RedisError, but=NO_TROUBLE):
            return super().execute(raise_on_error)
