"""The queue of jobs, as the service uses it. The only file here that imports RQ.

A job is an RQ job, so `rq info` and RQ's dashboards show it: a hash that names our one function,
with the request as its only argument, in JSON. RQ never runs it: the worker reads the request and
generates the images (`worker.consumer.rq_worker`). Each method is one round trip, most of them one
script of `lua/`, also for many jobs at once.

RQ's registries are never counted with its own methods: those modify them while reading, and two
readers may put one job into the queue twice.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from redis import Redis
from rq.job import JobStatus
from rq.queue import Queue
from rq.results import Result
from rq.serializers import JSONSerializer

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.connection.scripts import PipelinedScript
from protocol.errors import DarkroomError, ErrorRecord, JobFailed, UnknownJob
from protocol.queue.job import JobResult, JobState, JobView, Phase, Progress, Warnings
from protocol.queue.submission import (
    GENERATE,
    REQUEST,
    WARNINGS,
    Submission,
    arguments,
    outcome,
    queue_name,
)
from protocol.request.object_keys import is_job_id, new_job_id
from protocol.request.request import GenerationRequest, Priority
from protocol.settings import Settings
from protocol.storage.pins import Pins
from protocol.telemetry.context import NO_CONTEXT, JobContext

__all__ = ["CANCEL_FIELD", "ERROR_FIELD", "GENERATE", "REQUEST", "JobQueue", "Submission"]
__all__ += ["queue_name", "wake_channel"]

CANCEL_FIELD = "cancel"  # in the job's hash: a running job is to stop
ERROR_FIELD = "error"  # in the job's hash: an ErrorRecord as JSON

STATES = {
    JobStatus.CREATED: JobState.QUEUED,
    JobStatus.QUEUED: JobState.QUEUED,
    JobStatus.DEFERRED: JobState.QUEUED,
    JobStatus.SCHEDULED: JobState.QUEUED,
    JobStatus.RATE_LIMITED: JobState.QUEUED,
    JobStatus.READY_TO_ENQUEUE: JobState.QUEUED,
    JobStatus.STARTED: JobState.RUNNING,
    JobStatus.FINISHED: JobState.FINISHED,
    JobStatus.FAILED: JobState.FAILED,
    JobStatus.CANCELED: JobState.CANCELLED,
    JobStatus.STOPPED: JobState.CANCELLED,
}


def wake_channel(queue: str) -> str:
    """Return the channel on which new jobs of a pool are published, for idle workers."""
    return key("wake", queue)


class JobQueue:
    """The jobs of all models, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._pins = Pins(redis, settings)
        self._submit = PipelinedScript(redis, "submit", "limits")
        self._view = PipelinedScript(redis, "view")
        self._cancel = PipelinedScript(redis, "cancel")

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

    def pin(self, input_keys: Sequence[str]) -> None:
        """Keep inputs from deletion, from before they are written until no job can need them.

        Raises StoreUnavailable if one is being deleted, and that takes too long.
        """
        self._pins.pin(input_keys)

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
        return [self._read_view(job_id, client, found.get(job_id)) for job_id, client in queries]

    def cancel(self, job_id: str, client: str | None = None) -> JobView:
        """Stop a job: at once while it waits, between two steps once it runs.

        A job that has ended is unchanged. Raises UnknownJob, as `view` does.
        """
        if not is_job_id(job_id):
            raise UnknownJob(job_id)
        keep = self._settings.failure_ttl_s
        with redis_errors():
            found = self._cancel(id=job_id, client=client or None, keep=keep)
        answer = self._read_view(job_id, client, found)
        if isinstance(answer, DarkroomError):
            raise answer
        return answer

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
                pipe.llen(Queue.redis_queue_namespace_prefix + queue_name(model, priority))
            return dict(zip(Priority, pipe.execute(), strict=True))

    def _read_view(self, job_id: str, client: str | None, found: Any) -> JobView | DarkroomError:
        """Return the answer of `lua/view.lua` as a view."""
        status = _text(found[0]) if found else None
        if status not in STATES or (client is not None and client != _text(found[1])):
            return UnknownJob(job_id)
        *fields, warnings = found
        view = self._view_of(job_id, STATES[JobStatus(status)], fields)
        return view.model_copy(update={"warnings": _warnings(warnings)})

    def _view_of(self, job_id: str, state: JobState, fields: Sequence[Any]) -> JobView:
        _, _, error, progress, ahead, rate, result, left = fields
        due_s = float(left) if left else None
        match state:
            case JobState.QUEUED:
                per_second = float(rate or 0)
                eta = ahead / per_second if ahead is not None and per_second > 0 else None
                latest = _latest(progress, state)
                loading = latest if latest and latest.phase is Phase.LOAD else None
                return JobView(
                    id=job_id,
                    state=state,
                    position=ahead,
                    eta_s=eta,
                    due_s=due_s,
                    progress=loading,
                )
            case JobState.FINISHED:
                return self._finished(job_id, _latest(progress, state), result)
            case JobState.FAILED:
                return JobView(id=job_id, state=state, error=_error_record(_text(error)))
            case _:
                latest = _latest(progress, state)
                return JobView(id=job_id, state=state, due_s=due_s, progress=latest)

    def _finished(self, job_id: str, progress: Progress | None, entries: Any) -> JobView:
        try:
            [(entry_id, fields)] = entries
            payload = dict(zip(map(bytes.decode, fields[::2]), fields[1::2], strict=True))
            latest = Result.restore(job_id, entry_id.decode(), payload, self._redis, JSONSerializer)
            result = JobResult.model_validate(latest.return_value)
        except (ValueError, KeyError, TypeError):
            # Written by another program, or truncated.
            error = JobFailed("its result cannot be read").to_record()
            return JobView(id=job_id, state=JobState.FAILED, error=error)
        return JobView(id=job_id, state=JobState.FINISHED, progress=progress, result=result)


def _latest(text: Any, state: JobState) -> Progress | None:
    """Return the latest progress, unless it has another state: that of an earlier attempt."""
    with suppress(ValidationError, TypeError):
        progress = Progress.model_validate_json(text)
        return progress if progress.state is state else None
    return None


def _warnings(text: Any) -> Warnings:
    """Return a request's warnings; jobs without any, and those of older versions, have no text."""
    with suppress(ValidationError):
        return () if text is None else WARNINGS.validate_json(text)
    return ()


def _error_record(text: str | None) -> ErrorRecord:
    """Return a job's error as the worker wrote it; a job that RQ itself failed has none."""
    if text is None:
        return DarkroomError().to_record()
    try:
        return ErrorRecord.model_validate_json(text)
    except ValidationError:
        return DarkroomError().to_record()


def _text(value: object) -> str | None:
    """Return Redis' bytes as text, None for anything else."""
    if not isinstance(value, bytes):
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
