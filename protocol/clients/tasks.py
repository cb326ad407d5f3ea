"""The tasks of a client: its requests that generate, by an id that it may choose.

APIs without job ids show the progress of "the current task", and stop it. Here this is a task of
the client that asks, and any API process knows it.
"""

from contextlib import suppress
from typing import Annotated

from pydantic import Field, ValidationError
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from protocol.clients.names import client_key
from protocol.clients.options import TTL_S as OPTIONS_TTL_S
from protocol.clients.options import options_key
from protocol.connection.redis_client import redis_errors, server_time
from protocol.connection.scripts import AsyncScript
from protocol.queue.job import JobId
from protocol.record import Record, Text

MAX_TASKS = 64  # of a client; older ones are forgotten
MAX_ENDED = 16
TTL_S = 86_400


class ClientTask(Record):
    """A request of a client, the jobs that do it, and a word for what it does."""

    id: Annotated[Text, Field(min_length=1, max_length=200)]
    job_ids: Annotated[tuple[JobId, ...], Field(min_length=1)]
    kind: Text


class ClientTasks:
    """The tasks of clients, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis, async_redis: AsyncRedis) -> None:
        self._redis = redis
        self._begin = AsyncScript(redis, async_redis, "task_begin")
        self._end = AsyncScript(redis, async_redis, "task_end")

    async def begin(self, client: str, task: ClientTask) -> None:
        """Add a task that has been queued. The client's options are kept for longer, too."""
        with redis_errors():
            await self._begin(
                tasks=client_key("tasks", client),
                options=options_key(client),
                task=task.model_dump_json(),
                most=MAX_TASKS,
                ttl_s=TTL_S,
                options_ttl_s=OPTIONS_TTL_S,
            )

    async def end(self, client: str, task: ClientTask) -> None:
        """Move a task to those that have ended, of which the last `MAX_ENDED` are kept."""
        with redis_errors():
            await self._end(
                tasks=client_key("tasks", client),
                ended=client_key("ended", client),
                task=task.model_dump_json(),
                id=task.id,
                most=MAX_ENDED,
                ttl_s=TTL_S,
            )

    def begun(self, client: str) -> list[tuple[ClientTask, float]]:
        """Return the tasks that have not been ended, the oldest first, and their ages in seconds.

        A task whose process died stays here, although its job may have ended.
        """
        now = server_time(self._redis)
        with redis_errors():
            found: list[tuple[bytes, float]] = self._redis.zrange(  # type: ignore[assignment]  # sync client
                client_key("tasks", client), 0, -1, withscores=True
            )
        tasks = []
        for text, began_at in found:
            with suppress(ValidationError):  # of another version of Darkroom
                task = ClientTask.model_validate_json(text)
                tasks.append((task, max(0.0, now - began_at)))
        return tasks

    def ended(self, client: str) -> list[str]:
        """Return the ids of the tasks that ended last."""
        with redis_errors():
            found: list[bytes] = self._redis.lrange(client_key("ended", client), 0, -1)  # type: ignore[assignment]  # sync client
        return [task_id.decode() for task_id in found]
