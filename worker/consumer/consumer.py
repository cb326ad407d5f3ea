"""The worker's day: admit what there is room for, step the engine, until told to stop.

One thread runs this and calls the engine. It waits for nothing but the engine, save for the one
round trip that asks for a job; heartbeats, marks and progress are a ticker's
(`worker.consumer.rq_worker`),
pictures and endings those of the delivery threads.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from redis import RedisError

from protocol.errors import DarkroomError, DeadlineExceeded
from protocol.queue.job import JobResult, JobState
from protocol.request.request import GenerationRequest
from protocol.telemetry.logs import exception_fields
from protocol.telemetry.tracing import NO_TRACING, Tracing
from worker.consumer.job_run import JobRun, Stage
from worker.consumer.leases import Claim, JobStatus
from worker.consumer.progress_reporter import Reporter
from worker.interfaces import Engine, Models, stats_of
from worker.output.output_processor import OutputProcessor
from worker.telemetry.metrics import ENGINE_FAILED, HANDED_BACK, Metrics

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25  # how often to look for jobs unannounced
RETRY_S = 0.5  # how often to try to end a job while Redis is away
MOST_FAILED_ALONE = 2  # different jobs, with no good step between: then it is the engine

STATES = {
    JobStatus.QUEUED: JobState.QUEUED,
    JobStatus.FINISHED: JobState.FINISHED,
    JobStatus.FAILED: JobState.FAILED,
    JobStatus.CANCELED: JobState.CANCELLED,
}


class EngineBroken(Exception):
    """Steps fail whichever job is drawn; only a new process can help."""


class JobSource(Protocol):
    """The queue, as the loop uses it; see `worker.consumer.leases`. Raises what redis-py raises."""

    def claim(self, idle: bool, models: Sequence[str]) -> Claim | None: ...
    def read(self, claim: Claim) -> GenerationRequest: ...
    def finish(self, claim: Claim, result: JobResult) -> JobStatus | None: ...
    def fail(self, claim: Claim, error: DarkroomError) -> JobStatus | None: ...
    def cancel(self, claim: Claim) -> JobStatus | None: ...
    def hand_back(self, claim: Claim) -> JobStatus | None: ...
    def suspect(self, claim: Claim) -> JobStatus | None: ...


class Consumer:
    """Serves jobs with one engine. `stop`, `wake`, `cancel`, `lose`, `reconnected` and `told` may
    be called from any thread."""

    def __init__(
        self,
        models: Models,
        engine: Engine,
        ledger: JobSource,
        delivery: OutputProcessor,
        reporter: Reporter,
        metrics: Metrics,
        job_timeout_s: float,
        grace_s: float,
        most_deliveries: int,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        """`grace_s`: how long to go on with what runs once told to stop. `most_deliveries`: how
        many jobs may wait for the store before no more are taken."""
        self._models = models
        self._engine = engine
        self._ledger = ledger
        self._delivery = delivery
        self._reporter = reporter
        self._metrics = metrics
        self._job_timeout_s = job_timeout_s
        self._grace_s = grace_s
        self._most_deliveries = most_deliveries
        self._tracing = tracing
        self._held: dict[str, JobRun] = {}  # by execution: a job lost may be claimed again
        self._cancelled: set[str] = set()  # job ids
        self._lost: set[str] = set()  # execution ids
        self._stops = 0
        self._stirred = threading.Event()
        self._announced = False
        self._others_wait = True  # as far as was known at the last look
        self._next_look = 0.0
        self._turned = math.inf  # not yet
        self._nothing_to_do = False
        self._redis_answers = True
        self._failed_alone: set[str] = set()  # job ids
        metrics.held.set_function(lambda: len(self._held))

    @property
    def claims(self) -> list[Claim]:
        """What this worker holds now."""
        return [held.claim for held in self._jobs()]

    @property
    def still_for(self) -> float:
        """Seconds since the loop last came round; it waits for nothing long, but for a step."""
        return time.monotonic() - self._turned

    def stop(self) -> None:
        """Take no more jobs, finish what runs, then return. Twice: hand back what runs.

        Sets a plain number, so a signal handler may call it whatever the thread is doing.
        """
        self._stops += 1

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stops > 0

    def wake(self) -> None:
        """There may be a job."""
        self._announced = True
        self._stirred.set()

    def cancel(self, job_id: str) -> None:
        """Drop a job before its next step, because somebody asked to."""
        if any(claim.job_id == job_id for claim in self.claims):
            self._cancelled.add(job_id)

    def lose(self, execution_id: str) -> None:
        """Drop a job before its next step, because it is somebody else's by now."""
        if execution_id in self._held:
            self._lost.add(execution_id)

    def reconnected(self) -> None:
        """Redis answers: asking for jobs will not hold up the batch."""
        self._redis_answers = True

    def run(self, until_empty: bool = False) -> None:
        """Serve until `stop`, or `until_empty`: until nothing is held and nothing was found.

        Raises EngineBroken, with every job given back.
        """
        try:
            while not self._stops and not (until_empty and self._nothing_to_do):
                self._turn()
            self._finish_up()
        finally:
            self._hand_back_the_rest()

    def told(self, claim: Claim, status: JobStatus) -> None:
        """Count and log what became of a job, once it is so in Redis."""
        state = STATES[status]
        self._metrics.left(state)
        logger.info("job left", extra={**claim.names, "state": state})

    def _jobs(self) -> list[JobRun]:
        # A copy made in one go, because delivery threads take their jobs out at any time.
        return list(self._held.values())

    def _turn(self) -> None:
        self._turned = time.monotonic()
        self._stirred.clear()
        if self._announced:
            self._announced = False
            self._next_look = 0.0
        self._drop_unwanted()
        self._models.turn({held.request.model for held in self._jobs() if held.in_hand})
        self._claim_jobs()
        self._admit_ready()
        if self._engine.idle:
            self._stirred.wait(LOOK_EVERY_S)
        else:
            self._step()

    def _finish_up(self) -> None:
        deadline = time.monotonic() + self._grace_s
        while self._held and self._stops < 2 and time.monotonic() < deadline:
            self._turn()

    def _hand_back_the_rest(self) -> None:
        """Also what is on its way to the store: if it arrives yet, the fence stops it there.

        If Redis is away the leases run out by themselves.
        """
        with suppress(RedisError):
            for held in [held for held in self._jobs() if held.stage is not Stage.DROPPED]:
                self._drop(held)
                self._reporter.forget(held.claim.job_id)
                status = self._ledger.hand_back(held.claim)
                if status is not None:
                    self._metrics.retries.labels(HANDED_BACK).inc()
                    self.told(held.claim, status)

    def _room(self) -> int:
        """Pictures that may be taken on now."""
        jobs = self._jobs()
        delivering = sum(held.stage is Stage.DELIVERING for held in jobs)
        if self._stops or not self._redis_answers or delivering >= self._most_deliveries:
            return 0
        if any(held.suspect for held in jobs):
            return 0
        waiting = sum(
            held.request.n for held in jobs if held.stage in (Stage.FETCHING, Stage.READY)
        )
        return self._engine.free_slots - waiting

    def _claim_jobs(self) -> None:
        while self._next_look <= time.monotonic() and self._room() > 0:
            idle, models = not self._held, self._models.takes()
            try:
                claim = self._ledger.claim(idle, models)
            except RedisError as error:
                # The batch must not wait for Redis; the ticker finds out when it is back.
                self._redis_answers = False
                logger.warning("cannot take jobs", extra={"error": type(error).__name__})
                return
            self._nothing_to_do = idle and claim is None
            # One that is not idle may be refused what waits: a suspect.
            self._others_wait = claim.waiting > 0 if claim else not idle
            if claim is None or not self._others_wait:
                self._next_look = time.monotonic() + LOOK_EVERY_S
            if claim is not None:
                self._begin(claim)

    def _begin(self, claim: Claim) -> None:
        try:
            request = self._ledger.read(claim)
        except DarkroomError as error:
            logger.warning("job refused", extra={**claim.names, "why": type(error).__name__})
            self._delivery.submit_ending(self._fail, claim, error)
            return
        if not self._models.has(request.model):
            # Taken before the model went, by a claim whose answer was lost.
            self._delivery.submit_ending(self._settle, claim, self._ledger.hand_back)
            return
        self._models.taken(request.model)
        for held in self._jobs():
            if held.claim.job_id == claim.job_id:  # lost, and come back to us before we noticed
                self._drop(held)
                self._forget(held.claim)
        held = JobRun(
            claim, request, self._engine, self._delivery, self._reporter, self._end, self._tracing
        )
        self._held[claim.execution_id] = held
        self._metrics.queue_wait.labels(request.priority).observe(held.waited_s)
        logger.info("job taken", extra={**claim.names, "crashes": claim.crashes})
        held.fetch(then=self._stirred.set)

    def _admit_ready(self) -> None:
        for held in self._jobs():
            if held.stage is Stage.FETCHING and held.fetched:
                held.stage = Stage.READY
            if held.stage is Stage.READY and self._engine.free_slots > 0:
                self._admit(held)

    def _admit(self, held: JobRun) -> None:
        held.stage = Stage.DRAWING
        try:
            self._engine.admit(held.admitted())
        except DarkroomError as error:
            held.end(error)
        except Exception as error:
            self._suspect([held], error)

    def _step(self) -> None:
        started = time.monotonic()
        try:
            self._engine.step()
        except Exception as error:
            self._step_failed(error)
            return
        self._failed_alone.clear()
        self._metrics.stepped(time.monotonic() - started, stats_of(self._engine))

    def _step_failed(self, error: Exception) -> None:
        drawn = [held for held in self._jobs() if held.stage is Stage.DRAWING]
        self._suspect(drawn, error)
        if len(drawn) == 1:
            self._failed_alone.add(drawn[0].claim.job_id)
        if len(self._failed_alone) >= MOST_FAILED_ALONE:
            raise EngineBroken from error

    def _suspect(self, jobs: list[JobRun], error: Exception) -> None:
        """The engine failed, on one of these or by itself: each is tried alone, maybe elsewhere."""
        logger.error(
            "the engine failed",
            extra={"jobs": [held.claim.job_id for held in jobs], **exception_fields(error)},
        )
        self._metrics.retries.labels(ENGINE_FAILED).inc(len(jobs))
        for held in jobs:
            self._drop(held, self._ledger.suspect)

    def _drop_unwanted(self) -> None:
        for held in [held for held in self._jobs() if held.in_hand]:
            if held.claim.execution_id in self._lost:
                logger.warning("job lost to another worker", extra=held.claim.names)
                self._drop(held)
                self._forget(held.claim)
            elif held.claim.job_id in self._cancelled:
                self._drop(held, self._ledger.cancel)
            elif held.too_late:
                self._engine.cancel(held.claim.job_id)
                held.end(DeadlineExceeded(held.limit_s))
            elif time.monotonic() - held.begun > self._job_timeout_s:
                self._engine.cancel(held.claim.job_id)
                held.end(DeadlineExceeded(self._job_timeout_s))

    def _drop(
        self, held: JobRun, ending: Callable[[Claim], JobStatus | None] | None = None
    ) -> None:
        self._engine.cancel(held.claim.job_id)
        held.stage = Stage.DROPPED
        held.trace.ended("dropped")
        if ending is not None:
            self._delivery.submit_ending(self._settle, held.claim, ending)

    def _end(self, held: JobRun, outcome: JobResult | DarkroomError) -> None:
        """In a delivery thread: a job has its pictures, or will never have them."""
        if isinstance(outcome, DarkroomError):
            self._fail(held.claim, outcome)
            held.trace.ended("failed")
        elif self._settle(held.claim, lambda claim: self._ledger.finish(claim, outcome)):
            held.trace.ended("finished")
            self._metrics.delivered(outcome)

    def _fail(self, claim: Claim, error: DarkroomError) -> None:
        if self._settle(claim, lambda claim: self._ledger.fail(claim, error)):
            self._metrics.failures.labels(type(error).__name__).inc()

    def _settle(self, claim: Claim, ending: Callable[[Claim], JobStatus | None]) -> bool:
        """Write an ending to Redis, as often as it takes; whether it was still ours to write.

        In a delivery thread. The lease is renewed meanwhile, so finished pictures are not thrown
        away because Redis is.
        """
        self._reporter.forget(claim.job_id)
        while True:
            try:
                status = ending(claim)
                break
            except RedisError:
                if not self._delivery.pause(RETRY_S):
                    return False  # stopping: the lease runs out and the job is done again
        self._forget(claim)
        if self._others_wait or status is JobStatus.QUEUED:
            self.wake()
        self._stirred.set()
        if status is None:
            self._metrics.fenced.inc()
            logger.warning("ending refused, the lease was lost", extra=claim.names)
            return False
        self.told(claim, status)
        return True

    def _forget(self, claim: Claim) -> None:
        self._held.pop(claim.execution_id, None)
        self._lost.discard(claim.execution_id)
        self._cancelled.discard(claim.job_id)
