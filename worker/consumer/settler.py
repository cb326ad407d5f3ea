"""Writes the endings of jobs to Redis."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from redis import RedisError

from protocol.errors import DarkroomError
from protocol.queue.job import JobResult, JobState
from protocol.request.request import GenerationRequest
from worker.consumer.context import WorkerContext
from worker.consumer.job_run import JobRun
from worker.consumer.leases import Claim, JobStatus
from worker.telemetry.metrics import HANDED_BACK

logger = logging.getLogger(__name__)

RETRY_S = 0.5  # how often to try again while Redis is away

STATES = {
    JobStatus.QUEUED: JobState.QUEUED,
    JobStatus.FINISHED: JobState.FINISHED,
    JobStatus.FAILED: JobState.FAILED,
    JobStatus.CANCELED: JobState.CANCELLED,
}

Ending = Callable[[Claim], JobStatus | None]


class JobSource(Protocol):
    """The queue of jobs; see `worker.consumer.leases`. Raises what redis-py raises."""

    def claim(self, idle: bool, models: Sequence[str]) -> Claim | None: ...
    def read(self, claim: Claim) -> GenerationRequest: ...
    def finish(self, claim: Claim, result: JobResult) -> JobStatus | None: ...
    def fail(self, claim: Claim, error: DarkroomError) -> JobStatus | None: ...
    def cancel(self, claim: Claim) -> JobStatus | None: ...
    def requeue(self, claim: Claim) -> JobStatus | None: ...
    def mark_stalled(self, claim: Claim) -> JobStatus | None: ...


class Settler:
    """Ends the jobs of one worker, in output threads, so that the engine never waits for Redis.

    `on_settled` is called there with the claim and the job's status, which is None if the lease was
    lost before.
    """

    def __init__(
        self,
        context: WorkerContext,
        source: JobSource,
        on_settled: Callable[[Claim, JobStatus | None], None],
    ) -> None:
        self._context = context
        self._source = source
        self._on_settled = on_settled

    def submit(self, claim: Claim, ending: Ending) -> None:
        """Write `ending`, a method of the job source, in an output thread."""
        self._context.output.submit_ending(self._settle, claim, ending)

    def submit_failure(self, claim: Claim, error: DarkroomError) -> None:
        """Fail a job, in an output thread."""
        self._context.output.submit_ending(self._fail, claim, error)

    def end(self, run: JobRun, outcome: JobResult | DarkroomError) -> None:
        """End a job whose images are stored or cannot be had; to be called in an output thread."""
        if isinstance(outcome, DarkroomError):
            self._fail(run.claim, outcome)
            run.trace.ended("failed")
        elif self._settle(run.claim, partial(self._source.finish, result=outcome)):
            run.trace.ended("finished")
            self._context.metrics.delivered(outcome)

    def requeue_now(self, claim: Claim) -> None:
        """Requeue a job at once. Raises RedisError instead of trying again."""
        self._context.reporter.forget(claim.job_id)
        if (status := self._source.requeue(claim)) is not None:
            self._context.metrics.retries.labels(HANDED_BACK).inc()
            self._count(claim, status)

    def _fail(self, claim: Claim, error: DarkroomError) -> None:
        if self._settle(claim, partial(self._source.fail, error=error)):
            self._context.metrics.failures.labels(type(error).__name__).inc()

    def _settle(self, claim: Claim, ending: Ending) -> bool:
        """Write an ending, however often that takes; return False if the lease was lost.

        The lease is renewed meanwhile, so an outage of Redis does not throw finished images away.
        """
        self._context.reporter.forget(claim.job_id)
        while True:
            try:
                status = ending(claim)
                break
            except RedisError:
                if not self._context.output.pause(RETRY_S):
                    return False  # stopping: the lease expires and the job runs again
        self._on_settled(claim, status)
        if status is None:
            self._context.metrics.fenced.inc()
            logger.warning("ending refused, the lease was lost", extra=claim.names)
            return False
        self._count(claim, status)
        return True

    def _count(self, claim: Claim, status: JobStatus) -> None:
        state = STATES[status]
        self._context.metrics.left(state)
        logger.info("job left", extra={**claim.names, "state": state})
