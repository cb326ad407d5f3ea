"""The queue of jobs, as the service uses it. The only file here that knows RQ.

A job is an RQ job, so `rq info` and RQ's dashboards show it: a hash that names our one function,
with the request as its only argument, in JSON. RQ is never asked to run it: the worker reads the
request and draws (`worker.rq_worker`). Two things in the hash are ours: `cancel`, the mark that
stops a running job, and `error`, why it failed.

RQ's registries are never counted with its own methods here: those tidy up while they look, and two
lookers may put one job into the queue twice.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from pydantic import ValidationError
from redis import Redis, RedisError
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.job import Job, JobStatus
from rq.registry import CanceledJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import utcformat

from protocol.context import NO_CONTEXT, JobContext
from protocol.errors import DarkroomError, ErrorRecord, JobFailed, QueueFull, UnknownJob
from protocol.job import JobResult, JobState, JobView, Progress
from protocol.keys import is_job_id, new_job_id
from protocol.progress import ProgressBoard
from protocol.redis_client import redis_errors
from protocol.request import GenerationRequest
from protocol.settings import Settings

GENERATE = "worker.jobs.generate"  # the one function that jobs name
REQUEST = "request"  # its one argument
DESCRIPTION = "generate"  # RQ's default would show and log the prompt

CANCEL_FIELD = "cancel"  # in the job's hash: somebody asked a running job to stop
ERROR_FIELD = "error"  # in the job's hash: an ErrorRecord as JSON

DEEPEST_POSITION = 10_000  # entries of a queue that are searched for a job's position

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

# KEYS: job, queue, RQ's registry of cancelled jobs. ARGV: job id, seconds to keep it, now as RQ
# writes it, now. One atomic step, so that a job is either never begun or carries the mark.
CANCEL_SCRIPT = f"""
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'queued' then
  redis.call('LREM', KEYS[2], 0, ARGV[1])
  redis.call('HSET', KEYS[1], 'status', 'canceled', 'ended_at', ARGV[3])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('ZADD', KEYS[3], ARGV[4] + ARGV[2], ARGV[1])
  return 1
end
if status == 'started' then
  redis.call('HSET', KEYS[1], '{CANCEL_FIELD}', 1)
end
return 0
"""


def queue_name(model: str) -> str:
    """The RQ queue of a model's jobs."""
    return f"darkroom-{model}"


def wake_channel(queue: str) -> str:
    """Where a submitted job is announced, so that an idle worker need not poll quickly."""
    return f"darkroom:wake:{queue}"


class JobQueue:
    """Jobs of every model, in Redis. Raises `QueueUnavailable` when Redis is away."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._progress = ProgressBoard(redis)
        self._queues: dict[str, Queue] = {}
        self._cancel = redis.register_script(CANCEL_SCRIPT)

    def submit(
        self,
        request: GenerationRequest,
        job_id: str | None = None,
        context: JobContext = NO_CONTEXT,
    ) -> str:
        """Queue `request` and return the job's id; what returns is durable.

        With a `job_id` of the caller's, submitting again is harmless: the job exists once, and
        stays what it was first submitted as.

        Raises:
            QueueFull: `max_queue_length` jobs wait for this model. Submits under way at the same
                moment may overshoot the bound by their number.
        """
        job_id = job_id or new_job_id()
        queue = self._queue(queue_name(request.model))
        with redis_errors():
            depth = self._depth(queue)
            if depth >= self._settings.max_queue_length and not Job.exists(job_id, self._redis):
                raise QueueFull(depth, self._settings.max_queue_length)
            # Already there: an earlier try got through and only its answer was lost.
            with suppress(DuplicateJobError):
                self._enqueue(queue, request, job_id, context)
        # The job is safe; a worker that misses the announcement looks by itself a little later.
        with suppress(RedisError):
            self._redis.publish(wake_channel(queue.name), job_id)
        return job_id

    def view(self, job_id: str) -> JobView:
        """The job at this moment. Raises UnknownJob if there is none, or no more."""
        if not is_job_id(job_id):
            raise UnknownJob(job_id)
        with redis_errors():
            found = self._redis.hmget(Job.key_for(job_id), "status", "origin", ERROR_FIELD)
            status, origin, error = (_text(value) for value in found)
            if status is None or status not in STATES:
                raise UnknownJob(job_id)
            state = STATES[JobStatus(status)]
            match state:
                case JobState.QUEUED:
                    position = self._position(self._queue(origin or ""), job_id)
                    return JobView(id=job_id, state=state, position=position)
                case JobState.FINISHED:
                    return self._finished(job_id)
                case JobState.FAILED:
                    return JobView(id=job_id, state=state, error=_error_record(error))
                case _:
                    return JobView(id=job_id, state=state, progress=self._latest(job_id, state))

    def cancel(self, job_id: str) -> JobView:
        """Ask for a job to stop: at once while it waits, between two steps once it runs.

        What has ended stays as it is. Raises UnknownJob.
        """
        if not is_job_id(job_id):
            raise UnknownJob(job_id)
        with redis_errors():
            origin = _text(self._redis.hget(Job.key_for(job_id), "origin"))
            if origin is None:
                raise UnknownJob(job_id)
            cancelled = self._cancel(
                keys=[
                    Job.key_for(job_id),
                    self._queue(origin).key,
                    CanceledJobRegistry(origin, self._redis).key,
                ],
                args=[
                    job_id,
                    self._settings.failure_ttl_s,
                    utcformat(datetime.now(UTC)),
                    time.time(),
                ],
            )
        if cancelled:
            self._progress.publish(Progress(job_id=job_id, state=JobState.CANCELLED))
        return self.view(job_id)

    def position(self, job_id: str) -> int | None:
        """Jobs ahead of a waiting one (0 = next); None if it does not wait, or very far back."""
        return self.view(job_id).position

    def states(self, job_ids: Iterable[str]) -> dict[str, JobState]:
        """How many jobs at once stand, by id; those there are no records of are left out."""
        ids = list(job_ids)
        with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hget(Job.key_for(job_id), "status")
            found = zip(ids, map(_text, pipe.execute()), strict=True)
        return {job_id: STATES[JobStatus(text)] for job_id, text in found if text in STATES}

    def depth(self, model: str) -> int:
        """Jobs that wait for `model`."""
        with redis_errors():
            return self._depth(self._queue(queue_name(model)))

    def _queue(self, name: str) -> Queue:
        # Kept, because each new object asks the server for its version.
        if name not in self._queues:
            self._queues[name] = Queue(name, connection=self._redis, serializer=JSONSerializer)
        return self._queues[name]

    def _enqueue(
        self, queue: Queue, request: GenerationRequest, job_id: str, context: JobContext
    ) -> None:
        queue.enqueue_call(
            GENERATE,
            kwargs={REQUEST: request.model_dump(mode="json")},
            job_id=job_id,
            unique=True,
            description=DESCRIPTION,
            timeout=self._settings.job_timeout_s,
            result_ttl=self._settings.result_ttl_s,
            failure_ttl=self._settings.failure_ttl_s,
            meta=context.model_dump(exclude_defaults=True),
        )

    def _depth(self, queue: Queue) -> int:
        return int(self._redis.llen(queue.key))

    def _position(self, queue: Queue, job_id: str) -> int | None:
        place = self._redis.lpos(queue.key, job_id, maxlen=DEEPEST_POSITION)
        return place if isinstance(place, int) else None

    def _latest(self, job_id: str, state: JobState) -> Progress | None:
        """The last word about a job, unless it speaks of another state: an earlier attempt's."""
        progress = self._progress.latest(job_id)
        return progress if progress is not None and progress.state is state else None

    def _finished(self, job_id: str) -> JobView:
        job = Job(job_id, connection=self._redis, serializer=JSONSerializer)
        try:
            latest = job.latest_result()
            result = JobResult.model_validate(latest.return_value if latest else None)
        except (ValueError, KeyError):
            # Not written by a worker of ours, or cut short: there is nothing to show.
            error = JobFailed("its result cannot be read").to_record()
            return JobView(id=job_id, state=JobState.FAILED, error=error)
        progress = self._latest(job_id, JobState.FINISHED)
        return JobView(id=job_id, state=JobState.FINISHED, progress=progress, result=result)


def _error_record(text: str | None) -> ErrorRecord:
    """Why a job failed, as the worker wrote it; a job that stock RQ failed says nothing."""
    if text is None:
        return DarkroomError().to_record()
    try:
        return ErrorRecord.model_validate_json(text)
    except ValidationError:
        return DarkroomError().to_record()


def _text(value: object) -> str | None:
    """Redis' bytes as text; whatever is not text is as good as absent."""
    if not isinstance(value, bytes):
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
