"""A Redis client that measures each round trip, except those of subscriptions, which wait."""

from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import NoScriptError, RedisError, WatchError

from protocol.observing import Observe, observed

# Expected errors: a script is sent again, a transaction is tried again.
EXPECTED_ERRORS = (NoScriptError, WatchError)


class TimedRedis(Redis):
    """A client that calls `observe` for each command, and for each pipeline once."""

    observe: Observe

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with observed(self.observe, "command", RedisError, ignored=EXPECTED_ERRORS):
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
        with observed(self.observe, "pipeline", RedisError, ignored=EXPECTED_ERRORS):
            return super().execute(raise_on_error)
