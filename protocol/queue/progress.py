"""How far each job is: the latest word is kept for whoever asks, and told to whoever listens.

What is said here is news, not truth: the queue holds a job's state, and a listener that hears a
terminal state looks there for the result. So a lost message costs a moment, never an answer.
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
    """The progress of jobs, in Redis. Raises `QueueUnavailable` when Redis is away."""

    def __init__(self, redis: Redis, ttl_s: int = TTL_S) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    def publish(self, progress: Progress) -> None:
        """Keep `progress` as the job's latest and tell its listeners.

        Terminal states are told only after the queue has them.
        """
        self.publish_all([progress])

    def publish_all(
        self, news: Sequence[Progress], previews: Mapping[str, bytes] = NO_PREVIEWS
    ) -> None:
        """The same for many jobs in one round trip, as after every denoising step; with JPEGs of
        how some of them come on, by job id."""
        with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for job_id, jpeg in previews.items():
                pipe.set(_preview(job_id), jpeg, ex=PREVIEW_TTL_S)
            for progress in news:
                message = progress.model_dump_json()
                pipe.set(channel(progress.job_id), message, ex=self._ttl_s)
                pipe.publish(channel(progress.job_id), message)
            pipe.execute()

    def latest(self, job_id: str) -> Progress | None:
        """The last word about a job, or None if there was none lately."""
        with redis_errors():
            found: bytes | None = self._redis.get(channel(job_id))  # type: ignore[assignment]  # sync client
        return None if found is None else Progress.model_validate_json(found)

    def preview(self, job_id: str) -> bytes | None:
        """The latest preview of a job, a JPEG, or None if there was none lately."""
        with redis_errors():
            found: bytes | None = self._redis.get(_preview(job_id))  # type: ignore[assignment]  # sync client
        return found


def _preview(job_id: str) -> str:
    return key("preview", job_id)


def channel(job_id: str) -> str:
    """The name of a job's channel, and of the key that keeps its latest progress."""
    return key("progress", job_id)


async def progress_messages(pubsub: PubSub) -> AsyncIterator[Progress]:
    """Every progress told on the channels of `pubsub`, till a Redis error when the link breaks."""
    async for message in pubsub.listen():
        if message["type"] == "message":
            # What is not ours, or not of our version, is no news.
            with suppress(ValidationError):
                yield Progress.model_validate_json(message["data"])
