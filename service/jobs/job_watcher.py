"""Waiting for jobs: one connection per process hears the news of all jobs anybody waits for.

News only wakes the waiters up; what they return is read from the queue. A waiter that hears nothing
looks for itself every `poll_s` seconds, so a lost message or a broken link costs a moment only.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress

from redis import RedisError
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.client import PubSub

from protocol.errors import QueueUnavailable
from protocol.queue.job import TERMINAL, JobState, JobView, Progress
from protocol.queue.job_queue import JobQueue
from protocol.queue.progress import channel, progress_messages
from service.jobs.micro_batcher import MicroBatcher

RECONNECT_S = 0.5
FIRST_LOOK_S = 0.02  # after acceptance, should the end have come before the subscription
MOST_STALE = 64  # channels of ended jobs, which are silent, that are left together
ANCHOR = channel("")  # always subscribed, for a PubSub without channels stops listening


class _Waiter:
    """One who waits: sees the latest news only, for steps in between are of no use to anybody."""

    def __init__(self) -> None:
        self.news: Progress | None = None
        self.called = asyncio.Event()

    def tell(self, news: Progress) -> None:
        self.news = news
        self.called.set()

    async def listen(self, patience_s: float) -> Progress | None:
        """The latest news, or None if there was none for `patience_s` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.called.wait(), patience_s)
        self.called.clear()
        news, self.news = self.news, None
        return news


class JobWatcher:
    """Follows jobs for everybody in this process, within `async with JobWatcher(…)`."""

    def __init__(self, redis: AsyncRedis, queue: JobQueue, poll_s: float) -> None:
        self._redis = redis
        self._views = MicroBatcher(queue.view_many, "views")
        self._poll_s = poll_s
        self._waiters: dict[str, set[_Waiter]] = defaultdict(set)
        self._pubsub: PubSub | None = None
        self._channels: set[str] = set()
        self._subscribing = asyncio.Lock()
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "JobWatcher":
        self._listening = asyncio.create_task(self._listen_for_ever(), name="job news")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listening
        self._listening.cancel()
        with suppress(asyncio.CancelledError):
            await self._listening
        self._views.close()

    async def view(self, job_id: str, client: str | None = None) -> JobView:
        """The job at this moment, as `JobQueue.view` says, in one round trip with those of others.

        Raises `UnknownJob` and `QueueUnavailable`.
        """
        return await self._views((job_id, client))

    async def now(self, job_id: str, last_seen: JobView | None = None) -> JobView:
        """The job as it stands. While Redis is away, as it was `last_seen`, or simply queued.

        For jobs known to have been accepted: an outage must not look like their loss.
        """
        try:
            return await self.view(job_id)
        except QueueUnavailable:
            return last_seen or JobView(id=job_id, state=JobState.QUEUED)

    async def updates(self, job_id: str, *, fresh: bool = False) -> AsyncGenerator[JobView]:
        """The job now, then at every change of it, to its end. Raises `UnknownJob`.

        Of a `fresh` job, accepted a moment ago, there is nothing to be seen yet: news of it is
        waited for first, and only if there is none so soon, it is looked at.
        """
        with self._waiting(job_id) as waiter:
            await self.expect(job_id)
            queued = JobView(id=job_id, state=JobState.QUEUED)
            shown = view = queued if fresh else await self.now(job_id)
            yield view
            patience_s = FIRST_LOOK_S if fresh else self._poll_s
            while view.state not in TERMINAL:
                news = await waiter.listen(patience_s)
                patience_s = self._poll_s
                if news is not None and (news.result or news.state not in TERMINAL):
                    seen = news.model_copy(update={"result": None})
                    view = JobView(id=job_id, state=news.state, progress=seen, result=news.result)
                else:
                    view = await self.now(job_id, view)
                if view != shown:
                    yield view
                    shown = view

    async def finished(self, job_id: str, *, fresh: bool = False) -> JobView:
        """The job once it has ended, however that was. Raises `UnknownJob`."""
        async with aclosing(self.updates(job_id, fresh=fresh)) as updates:
            async for view in updates:
                if view.state in TERMINAL:
                    return view
        raise AssertionError("updates end with a terminal state")

    @property
    def watched(self) -> int:
        """How many jobs are being waited for."""
        return len(self._waiters)

    @contextmanager
    def _waiting(self, job_id: str) -> Iterator[_Waiter]:
        waiter = _Waiter()
        self._waiters[job_id].add(waiter)
        try:
            yield waiter
        finally:
            self._waiters[job_id].discard(waiter)
            if not self._waiters[job_id]:
                # Its channel is left when the next one is joined: nothing may block here.
                del self._waiters[job_id]

    async def expect(self, job_id: str) -> None:
        """Listen to news of a job, best before it is queued: nothing comes before the end of a
        short one. Now and then, stop listening to those nobody waits for."""
        if channel(job_id) in self._channels:
            return
        # Without a link there is no news; the waiter polls, and the next link subscribes to all.
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(self._poll_s), self._subscribing:
                if self._pubsub is None:
                    return
                await self._pubsub.subscribe(channel(job_id))
                self._channels.add(channel(job_id))
                stale = self._channels - self._wanted()
                if len(stale) > MOST_STALE:
                    await self._pubsub.unsubscribe(*stale)
                    self._channels -= stale

    def _wanted(self) -> set[str]:
        return {channel(job_id) for job_id in self._waiters}

    async def _listen_for_ever(self) -> None:
        while True:
            with suppress(RedisError):
                await self._listen()
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        """Pass news on until the link breaks."""
        async with self._redis.pubsub() as pubsub:
            self._channels = self._wanted()
            await pubsub.subscribe(ANCHOR, *self._channels)
            self._pubsub = pubsub
            try:
                async for news in progress_messages(pubsub):
                    for waiter in self._waiters.get(news.job_id, ()):
                        waiter.tell(news)
            finally:
                self._pubsub = None
