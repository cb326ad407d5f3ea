"""The progress of jobs: the latest is stored, and each is published to subscribers.

Messages are hints. The queue has the state of a job, and a subscriber reads the result there after
a message with a terminal state. So a lost message causes a delay, never a lost answer.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError
from redis import Redis
from redis.asyncio.client import PubSub

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.queue.job import Phase, Progress

__all__ = ["Phase", "Previews", "Progress", "ProgressBoard", "channel", "progress_messages"]

TTL_S = 3600
PREVIEW_TTL_S = 300


@dataclass(frozen=True)
class Previews:
    """JPEGs of the images of a job that runs.

    `first` is of its first unfinished image, if that has a new one. `each` has those of all images
    by their index; it is empty for a job of one image. `number` counts the times that previews of
    the job were made.
    """

    first: bytes | None
    each: Mapping[int, bytes] = field(default_factory=dict)
    number: int = 1

    def after(self, before: "Previews") -> "Previews":
        """Return these, with those of other images from `before`, which were not sent."""
        return replace(self, first=self.first or before.first, each={**before.each, **self.each})


NO_PREVIEWS: Mapping[str, Previews] = {}


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
        self, updates: Sequence[Progress], previews: Mapping[str, Previews] = NO_PREVIEWS
    ) -> None:
        """Do the same for many jobs at once, as after every denoising step.

        `previews` are by job id. Of each image the latest is kept.
        """
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            for job_id, made in previews.items():
                if made.first is not None:
                    pipe.set(_preview(job_id), made.first, ex=PREVIEW_TTL_S)
                if made.each:
                    numbered: dict[Any, Any] = {
                        index: b"%d %b" % (made.number, jpeg) for index, jpeg in made.each.items()
                    }
                    pipe.hset(_previews(job_id), mapping=numbered)
                    pipe.expire(_previews(job_id), PREVIEW_TTL_S)
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
        """Return the latest preview of a job's first unfinished image, a JPEG; None without one."""
        with redis_errors():
            found: bytes | None = self._redis.get(_preview(job_id))  # type: ignore[assignment]  # sync client
        return found

    def previews(self, job_id: str, seen: int) -> Previews:
        """Return the latest previews of a job, all of one denoising step.

        Those in `each` whose number is at most `seen` are left out.
        """
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.get(_preview(job_id))
            pipe.hgetall(_previews(job_id))
            first, found = pipe.execute()
        numbered = {int(index): value.partition(b" ") for index, value in found.items()}
        each = {
            index: jpeg
            for index, (number, _, jpeg) in sorted(numbered.items())
            if int(number) > seen
        }
        return Previews(first, each)


def _preview(job_id: str) -> str:
    return key("preview", job_id)


def _previews(job_id: str) -> str:
    return key("previews", job_id)


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
