"""Claims jobs, admits them to the engine and steps it, until told to stop.

One thread runs this and calls the engine. It waits only for the engine and for the one round trip
that claims a job. Heartbeats, cancel requests and progress belong to periodic tasks
(`worker.consumer.rq_worker`), images and endings to the output threads.
"""

import logging
import math
import threading
import time
from contextlib import suppress

from redis import RedisError

from protocol.errors import DarkroomError
from protocol.telemetry.logs import exception_fields
from worker.consumer.context import WorkerContext
from worker.consumer.job_run import JobRun, Stage
from worker.consumer.leases import Claim, JobStatus
from worker.consumer.settler import Ending, JobSource, Settler
from worker.telemetry.metrics import ENGINE_FAILED

logger = logging.getLogger(__name__)

POLL_S = 0.25  # how often to look for jobs that were not announced
MAX_FAILED_ALONE = 2  # different jobs, without a good step between: then it is the engine


class EngineBroken(Exception):
    """The engine's steps fail with different jobs; only a new process can help."""


class Consumer:
    """Runs jobs with one engine.

    `stop`, `wake`, `cancel`, `lose_lease` and `reconnected` may be called from any thread.
    """

    def __init__(self, context: WorkerContext, source: JobSource) -> None:
        self._context = context
        self._source = source
        self._settler = Settler(context, source, self._settled)
        self._runs: dict[str, JobRun] = {}  # by execution: a lost job may be claimed again
        self._stops = 0
        self._woken = threading.Event()
        self._announced = False
        self._more_wait = True  # as of the last claim
        self._next_claim_at = 0.0
        self._last_turn_at = math.inf  # not yet
        self._nothing_to_do = False
        self._redis_answers = True
        self._failed_alone: set[str] = set()  # job ids
        context.metrics.held.set_function(lambda: len(self._runs))

    @property
    def claims(self) -> list[Claim]:
        """The claims that this worker holds now."""
        return [run.claim for run in self._jobs()]

    @property
    def stuck_s(self) -> float:
        """Seconds since the last turn began; only a step of the engine takes long."""
        return time.monotonic() - self._last_turn_at

    def stop(self) -> None:
        """Claim no more jobs, finish what runs, then return; the second call requeues what runs.

        Only adds to a number, so that a signal handler may call it at any moment.
        """
        self._stops += 1

    @property
    def stopping(self) -> bool:
        """True after `stop`."""
        return self._stops > 0

    def wake(self) -> None:
        """Look for jobs at once."""
        self._announced = True
        self._woken.set()

    def cancel(self, job_id: str) -> None:
        """Cancel a job before its next step, on a client's request."""
        for run in self._jobs():
            run.cancel_requested |= run.claim.job_id == job_id

    def lose_lease(self, execution_id: str) -> None:
        """Drop a job before its next step, because another worker may have it now."""
        if (run := self._runs.get(execution_id)) is not None:
            run.lease_lost = True

    def reconnected(self) -> None:
        """Claim jobs again: Redis answers, so that a claim will not hold up the batch."""
        self._redis_answers = True

    def run(self, until_empty: bool = False) -> None:
        """Run jobs until `stop`, or `until_empty` until none is left.

        Raises EngineBroken, with every job requeued.
        """
        try:
            while not self._stops and not (until_empty and self._nothing_to_do):
                self._turn()
            deadline = time.monotonic() + self._context.settings.worker_shutdown_grace_s
            while self._runs and self._stops < 2 and time.monotonic() < deadline:
                self._turn()
        finally:
            self._requeue_all()

    def _jobs(self) -> list[JobRun]:
        # One copy, because output threads remove their jobs at any time.
        return list(self._runs.values())

    def _turn(self) -> None:
        self._last_turn_at = time.monotonic()
        self._woken.clear()
        if self._announced:
            self._announced = False
            self._next_claim_at = 0.0
        self._drop_unwanted()
        self._context.models.update({run.request.model for run in self._jobs() if run.active})
        self._claim_jobs()
        self._admit_ready()
        if self._context.engine.idle:
            self._woken.wait(POLL_S)
        else:
            self._step()

    def _drop_unwanted(self) -> None:
        for run in [run for run in self._jobs() if run.active]:
            if run.lease_lost:
                logger.warning("job lost to another worker", extra=run.claim.names)
                self._abort(run)
            elif run.cancel_requested:
                self._abort(run, self._source.cancel)
            elif error := run.overdue:
                run.fail(error)

    def _claim_jobs(self) -> None:
        while self._next_claim_at <= time.monotonic() and self._free_slots() > 0:
            idle, models = not self._runs, self._context.models.claimable()
            try:
                claim = self._source.claim(idle, models)
            except RedisError as error:
                # The batch must not wait for Redis; the heartbeat finds out when it is back.
                self._redis_answers = False
                logger.warning("cannot claim jobs", extra={"error": type(error).__name__})
                return
            self._nothing_to_do = idle and claim is None
            # A worker that is not idle gets none although one waits, if that one is stalled.
            self._more_wait = claim.waiting > 0 if claim else not idle
            if claim is None or not self._more_wait:
                self._next_claim_at = time.monotonic() + POLL_S
            if claim is not None:
                self._begin(claim)

    def _free_slots(self) -> int:
        """Return the number of images that may be claimed now."""
        runs = self._jobs()
        delivering = sum(run.stage is Stage.DELIVERING for run in runs)
        max_deliveries = 2 * self._context.settings.worker_slots
        if self._stops or not self._redis_answers or delivering >= max_deliveries:
            return 0
        if any(run.claim.runs_alone for run in runs):
            return 0
        waiting = sum(run.request.n for run in runs if run.stage is Stage.WAITING)
        return self._context.engine.free_slots - waiting

    def _begin(self, claim: Claim) -> None:
        context = self._context
        try:
            request = self._source.read(claim)
        except DarkroomError as error:
            logger.warning("job refused", extra={**claim.names, "why": type(error).__name__})
            self._settler.submit_failure(claim, error)
            return
        if not context.models.is_ready(request.model):
            # Claimed before the model was evicted, by a claim whose answer was lost.
            self._settler.submit(claim, self._source.requeue)
            return
        context.models.mark_claimed(request.model)
        for run in self._jobs():
            if run.claim.job_id == claim.job_id:  # its lease was lost, and this worker has it again
                self._abort(run)
        run = self._runs[claim.execution_id] = JobRun(context, claim, request, self._settler.end)
        context.metrics.queue_wait.labels(request.priority).observe(run.queued_s)
        logger.info("job claimed", extra={**claim.names, "stalled_count": claim.stalled_count})
        run.prepare(on_ready=self._woken.set)

    def _admit_ready(self) -> None:
        for run in self._jobs():
            if run.ready and self._context.engine.free_slots > 0:
                try:
                    run.admit()
                except Exception as error:
                    self._engine_failed([run], error)

    def _step(self) -> None:
        started = time.monotonic()
        try:
            self._context.engine.step()
        except Exception as error:
            running = [run for run in self._jobs() if run.stage is Stage.RUNNING]
            self._engine_failed(running, error)
            if len(running) == 1:
                self._failed_alone.add(running[0].claim.job_id)
            if len(self._failed_alone) >= MAX_FAILED_ALONE:
                raise EngineBroken from error
            return
        self._failed_alone.clear()
        self._context.metrics.stepped(time.monotonic() - started, self._context.engine.stats)

    def _engine_failed(self, runs: list[JobRun], error: Exception) -> None:
        """Mark the engine's jobs as stalled: each is tried alone, maybe by another worker."""
        ids = [run.claim.job_id for run in runs]
        logger.error("the engine failed", extra={"jobs": ids, **exception_fields(error)})
        self._context.metrics.retries.labels(ENGINE_FAILED).inc(len(runs))
        for run in runs:
            self._abort(run, self._source.mark_stalled)

    def _abort(self, run: JobRun, ending: Ending | None = None) -> None:
        """Abort a job; without an `ending`, it is no longer this worker's to end."""
        run.abort()
        if ending is None:
            self._runs.pop(run.claim.execution_id, None)
        else:
            self._settler.submit(run.claim, ending)

    def _requeue_all(self) -> None:
        """Requeue all jobs, also those on their way to the store: their endings will be refused.

        If Redis is away, their leases expire.
        """
        with suppress(RedisError):
            for run in [run for run in self._jobs() if run.stage is not Stage.ABORTED]:
                run.abort()
                self._settler.requeue_now(run.claim)

    def _settled(self, claim: Claim, status: JobStatus | None) -> None:
        """Let go of a job that has ended; called in an output thread."""
        self._runs.pop(claim.execution_id, None)
        if self._more_wait or status is JobStatus.QUEUED:
            self.wake()
        self._woken.set()
