"""The progress of jobs: the latest is stored, and each is published to subscribers.

Messages are hints. The queue has the state of a job, and a subscriber reads the result there after
a message with a terminal state. So a lost message causes a delay, never a lost answer.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress

from pydantic import ValidationError
from redis import Redis
from redis.asyncio.client import PubSub

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.queue.job import Phase, Progress

__all__ = ["Phase", "Progress", "ProgressBoard", "channel", "progress_messages"]

TTL_S = 3600
PREVIEW_TTL_S = 300
NO_PREVIEWS: Mapping[str, bytes] = {}


class ProgressBoard:
    """The progress of jobs, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis, ttl_s: int = TTL_S) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    def publish(self, progress: Progress) -> None:
        """Store `progress` as the job's latest and publish it.

        Terminal states are published only after the queue has them.
        """
        self.publish_all([progress])

    def publish_all(
        self, updates: Sequence[Progress], previews: Mapping[str, bytes] = NO_PREVIEWS
    ) -> None:
        """Do the same for many jobs in one round trip, as after every denoising step.

        `previews` are JPEGs by job id.
        """
        with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for job_id, jpeg in previews.items():
                pipe.set(_preview(job_id), jpeg, ex=PREVIEW_TTL_S)
            for progress in updates:
                message = progress.model_dump_json()
                pipe.set(channel(progress.job_id), message, ex=self._ttl_s)
                pipe.publish(channel(progress.job_id), message)
            pipe.execute()

    def latest(self, job_id: str) -> Progress | None:
        """Return the latest progress of a job, None if there was none lately."""
        with redis_errors():
            found: bytes | None = self._redis.get(channel(job_id))  # type: ignore[assignment]  # sync client
        return None if found is None else Progress.model_validate_json(found)

    def preview(self, job_id: str) -> bytes | None:
        """Return the latest preview of a job, a JPEG, None if there was none lately."""
        with redis_errors():
            found: bytes | None = self._redis.get(_preview(job_id))  # type: ignore[assignment]  # sync client
        return found


def _preview(job_id: str) -> str:
    return key("preview", job_id)


def channel(job_id: str) -> str:
    """Return the name of a job's channel, and of the key of its latest progress."""
    return key("progress", job_id)


async def progress_messages(pubsub: PubSub) -> AsyncIterator[Progress]:
    """Yield each progress on the channels of `pubsub`, until the connection breaks (RedisError)."""
    async for message in pubsub.listen():
        if message["type"] == "message":
            # Messages of other programs or versions are skipped.
            with suppress(ValidationError):
                yield Progress.model_validate_json(message["data"])
