"""The queue of jobs, as the service uses it.

A job is an RQ job, so `rq info` and RQ's dashboards show it: a hash that names our one function,
with the request as its only argument, in JSON. RQ never runs it: the worker reads the request and
generates the images (`worker.consumer.rq_worker`). Each method is one round trip, most of them one
script of `lua/`, also for many jobs at once.

RQ's registries are never counted with its own methods: those modify them while reading, and two
readers may put one job into the queue twice.
"""

from collections.abc import Sequence

from redis import Redis

from protocol.connection.keyspace import RQ, key
from protocol.connection.redis_client import redis_errors
from protocol.connection.scripts import PipelinedScript
from protocol.errors import DarkroomError, UnknownJob
from protocol.queue.job import JobView
from protocol.queue.submission import (
    GENERATE,
    REQUEST,
    Submission,
    arguments,
    outcome,
    queue_name,
    read_request,
)
from protocol.queue.views import STATES, read_view
from protocol.request.object_keys import is_job_id, new_job_id
from protocol.request.request import GenerationRequest, Priority
from protocol.settings import Settings
from protocol.storage.pins import Pins
from protocol.telemetry.context import NO_CONTEXT, JobContext

__all__ = ["CANCEL_FIELD", "ERROR_FIELD", "GENERATE", "REQUEST", "STATES", "JobQueue"]
__all__ += ["Submission", "queue_name", "wake_channel"]

CANCEL_FIELD = "cancel"  # in the job's hash: a running job is to stop
ERROR_FIELD = "error"  # in the job's hash: an ErrorRecord as JSON


def wake_channel(queue: str) -> str:
    """Return the channel on which new jobs of a pool are published, for idle workers."""
    return key("wake", queue)


class JobQueue:
    """The jobs of all models, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._pins = Pins(redis, settings)
        self._submit = PipelinedScript(redis, "submit", "limits", "submission")
        self._view = PipelinedScript(redis, "view")
        self._cancel = PipelinedScript(redis, "cancel")
        self._delete = PipelinedScript(redis, "delete")

    def submit(
        self,
        request: GenerationRequest,
        job_id: str | None = None,
        context: JobContext = NO_CONTEXT,
        client: str = "",
    ) -> str:
        """Queue `request` and return the job's id; the job is then durable.

        With the caller's own `job_id`, submitting again is harmless: the job exists once, and
        keeps its first request. `client` is its owner: clients share the queue fairly, and only
        the owner can view a job (`view`).

        Raises:
            QueueFull: `max_queue_length` jobs wait for this model.
            ClientQueueFull: `max_queue_per_client` of them are this client's.
            WouldMissDeadline: at the measured rate its turn comes after its deadline.
        """
        [answer] = self.submit_many([Submission(request, job_id or new_job_id(), client, context)])
        if isinstance(answer, DarkroomError):
            raise answer
        return answer

    def submit_many(self, submissions: Sequence[Submission]) -> list[str | DarkroomError]:
        """Submit many in one round trip; return for each its id, or the error that refuses it."""
        with redis_errors():
            answers = self._submit.many([arguments(one, self._settings) for one in submissions])
        return [
            outcome(one, answer, self._settings)
            for one, answer in zip(submissions, answers, strict=True)
        ]

    def pin(self, input_keys: Sequence[str], job_id: str = "") -> None:
        """Keep the inputs of a job from deletion, from before they are written until no job can
        need them, or all jobs that do are deleted.

        Raises StoreUnavailable if one is being deleted, and that takes too long.
        """
        self._pins.pin(input_keys, job_id)

    def view(self, job_id: str, client: str | None = None) -> JobView:
        """Return the job at this moment. Raises UnknownJob if it does not exist, or no longer.

        A job whose deadline has passed is failed first, even if no worker is alive.

        `client`: the caller; another client's job is unknown to it. None is the operator, who can
        view all jobs.
        """
        [answer] = self.view_many([(job_id, client)])
        if isinstance(answer, DarkroomError):
            raise answer
        return answer

    def view_many(self, queries: Sequence[tuple[str, str | None]]) -> list[JobView | DarkroomError]:
        """Return the views, or errors, of many (job id, client) in one round trip."""
        legal = [job_id for job_id, _ in queries if is_job_id(job_id)]
        with redis_errors():
            views = self._view.many([{"id": job_id} for job_id in legal])
        found = dict(zip(legal, views, strict=True))
        return [
            read_view(self._redis, job_id, client, found.get(job_id)) for job_id, client in queries
        ]

    def cancel(self, job_id: str, client: str | None = None) -> JobView:
        """Stop a job: at once while it waits, between two steps once it runs.

        A job that has ended is unchanged. Raises UnknownJob, as `view` does.
        """
        if not is_job_id(job_id):
            raise UnknownJob(job_id)
        keep = self._settings.failure_ttl_s
        with redis_errors():
            found = self._cancel(id=job_id, client=client or None, keep=keep)
        answer = read_view(self._redis, job_id, client, found)
        if isinstance(answer, DarkroomError):
            raise answer
        return answer

    def delete(self, job_id: str, client: str | None = None) -> None:
        """Delete a job with all that belongs to it, but for its objects in the store.

        A running job is cancelled, is unknown from now on, and is deleted when it ends. Its objects
        are deleted by `protocol.storage.deleted_jobs`. Raises UnknownJob, as `view` does.
        """
        keep = self._settings.failure_ttl_s
        with redis_errors():
            if not is_job_id(job_id) or not self._delete(id=job_id, client=client, keep=keep):
                raise UnknownJob(job_id)

    def request(self, job_id: str, client: str | None = None) -> tuple[JobView, GenerationRequest]:
        """Return a job and its complete request. Raises UnknownJob, as `view` does.

        Raises JobFailed if the request cannot be read.
        """
        view = self.view(job_id, client)
        with redis_errors():
            data: bytes | None = self._redis.hget(f"{RQ}:job:{job_id}", "data")  # type: ignore[assignment]  # sync client
        if data is None:
            raise UnknownJob(job_id)
        return view, read_request(data)

    def cancel_many(self, job_ids: Sequence[str]) -> None:
        """Stop many jobs in one round trip, as `cancel` does; unknown ones are skipped."""
        keep = self._settings.failure_ttl_s
        with redis_errors():
            self._cancel.many([{"id": job_id, "keep": keep} for job_id in job_ids])

    def position(self, job_id: str) -> int | None:
        """Return the jobs ahead of a waiting one (0 = next); None if not waiting, or far back."""
        return self.view(job_id).position

    def depth(self, model: str) -> int:
        """Return the number of jobs that wait for `model`."""
        return sum(self.depths(model).values())

    def depths(self, model: str) -> dict[Priority, int]:
        """Return the number of jobs that wait for `model`, by priority."""
        with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for priority in Priority:
                pipe.llen(f"{RQ}:queue:{queue_name(model, priority)}")
            return dict(zip(Priority, pipe.execute(), strict=True))
