"""Waiting for jobs: one Pub/Sub connection per process for all jobs that requests wait for.

A message wakes the waiters; the state they return is read from the queue. A waiter without
messages polls every `poll_s` seconds, so a lost message or connection costs only a short delay. It
also reads the job at its deadline, because no worker may be alive to end it.
"""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress

from redis import RedisError
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.client import PubSub

from protocol.errors import JobLost, QueueUnavailable, UnknownJob
from protocol.queue.job import TERMINAL, JobState, JobView, Progress
from protocol.queue.job_queue import JobQueue
from protocol.queue.progress import channel, progress_messages
from service.jobs.micro_batcher import MicroBatcher

RECONNECT_S = 0.5
FIRST_POLL_S = 0.02  # after submission, in case the job ended before the subscription
MAX_STALE = 64  # channels of ended jobs, unsubscribed together; no messages arrive on them
ANCHOR = channel("")  # always subscribed, because a PubSub without channels stops listening


class _Waiter:
    """One waiting request. It sees the latest message only; earlier ones are obsolete."""

    def __init__(self) -> None:
        self.message: Progress | None = None
        self.notified = asyncio.Event()

    def notify(self, message: Progress) -> None:
        self.message = message
        self.notified.set()

    async def wait(self, timeout_s: float) -> Progress | None:
        """Return the latest message, or None if there was none for `timeout_s` seconds."""
        # Unlike `asyncio.wait_for` of Python 3.11, this never ignores that the task is cancelled.
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.notified.wait()
        self.notified.clear()
        message, self.message = self.message, None
        return message


class JobWatcher:
    """Follows jobs for all requests of this process, within `async with JobWatcher(…)`."""

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
        self._listening = asyncio.create_task(self._keep_listening(), name="job messages")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listening
        self._listening.cancel()
        with suppress(asyncio.CancelledError):
            await self._listening
        self._views.close()

    async def view(self, job_id: str, client: str | None = None) -> JobView:
        """Return the job as `JobQueue.view` does, in one round trip with those of other requests.

        Raises `UnknownJob` and `QueueUnavailable`.
        """
        return await self._views((job_id, client))

    async def view_or_last(self, job_id: str, last_seen: JobView | None = None) -> JobView:
        """Return the job; while Redis is unreachable, `last_seen` or a queued job.

        For accepted jobs only: during an outage they must not seem to be lost. A job that has no
        record any more has failed with `JobLost`.
        """
        try:
            return await self.view(job_id)
        except QueueUnavailable:
            return last_seen or JobView(id=job_id, state=JobState.QUEUED)
        except UnknownJob:
            lost = JobView(id=job_id, state=JobState.FAILED, error=JobLost(job_id).to_record())
            return lost.model_copy(update={"warnings": last_seen.warnings}) if last_seen else lost

    async def updates(
        self, job_id: str, *, just_queued: JobView | None = None
    ) -> AsyncGenerator[JobView]:
        """Yield the job now and at every change until it ends. It must have been accepted.

        A `just_queued` job is first read after `FIRST_POLL_S` seconds, and each at its deadline.
        """
        with self._waiting(job_id) as waiter:
            await self.subscribe(job_id)
            view = just_queued or await self.view_or_last(job_id)
            due_at = time.monotonic() + FIRST_POLL_S if just_queued else _due_at(view)
            yield (shown := _undated(view))
            while view.state not in TERMINAL:
                message = await waiter.wait(min(self._poll_s, due_at - time.monotonic()))
                if message is not None and _is_complete(message) and time.monotonic() < due_at:
                    view = _view_of(message, view)
                else:
                    last, view = view, await self.view_or_last(job_id, view)
                    # During an outage `due_s` is an old one, and polling is enough.
                    due_at = math.inf if view is last else _due_at(view)
                if _undated(view) != shown:
                    yield (shown := _undated(view))

    async def finished(self, job_id: str, *, just_queued: JobView | None = None) -> JobView:
        """Wait until the job ends in any state and return it. It must have been accepted."""
        async with aclosing(self.updates(job_id, just_queued=just_queued)) as updates:
            async for view in updates:
                if view.state in TERMINAL:
                    return view
        raise AssertionError("updates end with a terminal state")

    @asynccontextmanager
    async def notices(self, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Listen to notices, which are published like the progress of a job with the id `name`.

        Yields what waits for the next one, for `poll_s` seconds at most, as one may be lost.
        """
        with self._waiting(name) as waiter:
            await self.subscribe(name)

            async def notice() -> None:
                await waiter.wait(self._poll_s)

            yield notice

    @property
    def watched(self) -> int:
        """Return the number of jobs that requests wait for."""
        return len(self._waiters)

    def waits_for(self, job_id: str) -> bool:
        """Return True if a request of this process waits for the job."""
        return job_id in self._waiters

    @contextmanager
    def _waiting(self, job_id: str) -> Iterator[_Waiter]:
        waiter = _Waiter()
        self._waiters[job_id].add(waiter)
        try:
            yield waiter
        finally:
            self._waiters[job_id].discard(waiter)
            if not self._waiters[job_id]:
                # The channel is unsubscribed with a later subscription: nothing may block here.
                del self._waiters[job_id]

    async def subscribe(self, job_id: str) -> None:
        """Subscribe to messages of a job, and unsubscribe from jobs that no request waits for.

        It should be called before the job is queued, or the end of a short job may be missed.
        """
        if channel(job_id) in self._channels:
            return
        # Without a connection the waiter polls, and the next connection subscribes to all jobs.
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(self._poll_s), self._subscribing:
                if self._pubsub is None:
                    return
                await self._pubsub.subscribe(channel(job_id))
                self._channels.add(channel(job_id))
                stale = self._channels - self._wanted()
                if len(stale) > MAX_STALE:
                    await self._pubsub.unsubscribe(*stale)
                    self._channels -= stale

    def _wanted(self) -> set[str]:
        return {channel(job_id) for job_id in self._waiters}

    async def _keep_listening(self) -> None:
        while True:
            with suppress(RedisError):
                await self._listen()
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        """Pass messages on until the connection breaks."""
        async with self._redis.pubsub() as pubsub:
            self._channels = self._wanted()
            await pubsub.subscribe(ANCHOR, *self._channels)
            self._pubsub = pubsub
            try:
                async for message in progress_messages(pubsub):
                    for waiter in self._waiters.get(message.job_id, ()):
                        waiter.notify(message)
            finally:
                self._pubsub = None


def _due_at(view: JobView) -> float:
    """Return the deadline of a job just read, on this process' monotonic clock."""
    return math.inf if view.due_s is None else time.monotonic() + view.due_s


def _undated(view: JobView) -> JobView:
    """Return a view without what changes as time passes: that is no change of the job."""
    return view.model_copy(update={"due_s": None})


def _is_complete(message: Progress) -> bool:
    """Return True if a message is all that a client is shown; a failure's error is in the queue.

    A cancelled job may be deleted, and no longer in the queue.
    """
    shown = message.state not in TERMINAL or message.state is JobState.CANCELLED
    return shown or message.result is not None


def _view_of(message: Progress, before: JobView) -> JobView:
    """Return the job as `message` describes it; its warnings are those of the view `before`."""
    return JobView(
        id=message.job_id,
        state=message.state,
        progress=message.model_copy(update={"result": None}),
        result=message.result,
        warnings=before.warnings,
    )
