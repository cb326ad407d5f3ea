"""The worker as RQ sees it. The only file of the worker that imports RQ.

To RQ's tools this is a worker like any other: registered, with heartbeats, with executions in its
name, obeying the commands stop-job, stop-execution and shutdown. Inside it shares little with one:
RQ's own loop runs one job at a time, gives up when Redis goes away, and takes ten minutes to notice
the dead, so the loop (`worker.consumer.consumer`) and the leases (`worker.consumer.leases`) are
ours.

What stands in Redis is not trusted: a job's function is never imported or called, only its name is
compared, and its argument is read with the same record that the service wrote it from.
"""

import json
import logging
import os
import signal
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.client import PubSub, PubSubWorkerThread
from redis.retry import Retry
from rq import Queue
from rq.command import parse_payload
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker, WorkerStatus

from protocol.errors import DarkroomError, DeadlineExceeded, JobFailed
from protocol.queue.job import JobResult
from protocol.queue.job_queue import GENERATE, REQUEST, queue_name, wake_channel
from protocol.request.request import GenerationRequest, Priority
from protocol.telemetry.tracing import NO_TRACING, Tracing
from worker.consumer.consumer import Consumer
from worker.consumer.failure_detector import FailureDetector
from worker.consumer.leases import Claim, JobStatus, Leases, LeaseTerms
from worker.consumer.progress_reporter import Reporter
from worker.interfaces import Engine, Models
from worker.output.output_processor import OutputProcessor
from worker.periodic_runner import PeriodicRunner, PeriodicTask
from worker.settings import WorkerSettings
from worker.telemetry.metrics import WORKER_DIED, Metrics

logger = logging.getLogger(__name__)

LARGEST_JOB = 1_000_000  # bytes of a job's JSON; two of the longest prompts take a quarter of it
REDIS_RETRY_S = 1.0
REGISTRATION_TTL_S = 60  # for how long a silent worker is still listed by RQ's tools
PUBSUB_WAIT_S = 60
STALLED = 75  # exit status of a worker whose engine hangs


class RqWorker(BaseWorker):
    """One process' worker for the queues of its models, whichever of them it can draw with now."""

    def __init__(
        self,
        redis: Redis,
        name: str,
        models: Models,
        engine: Engine,
        delivery: OutputProcessor,
        reporter: Reporter,
        metrics: Metrics,
        settings: WorkerSettings,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        """`name` must be a fresh one: RQ refuses that of a worker that died a moment ago."""
        self.ledger = RqJobSource(redis, name, models.names, settings)
        super().__init__(
            [
                Queue(queue_name(model, priority), connection=redis, serializer=JSONSerializer)
                for model in models.names
                for priority in Priority
            ],
            name=name,
            connection=redis,
            worker_ttl=REGISTRATION_TTL_S,
            log_job_description=False,
            serializer="json",
        )
        self._wake_channels = [wake_channel(queue_name(model)) for model in models.names]
        self._listener: PubSubWorkerThread | None = None
        self._reporter = reporter
        self._metrics = metrics
        self._settings = settings
        self._vigil = FailureDetector(settings.worker_lease_s)
        self.loop = Consumer(
            models,
            engine,
            self.ledger,
            delivery,
            reporter,
            metrics,
            job_timeout_s=settings.job_timeout_s,
            grace_s=settings.worker_shutdown_grace_s,
            most_deliveries=2 * settings.worker_slots,
            tracing=tracing,
        )

    def work(self, burst: bool = False, *_: Any, **__: Any) -> bool:
        """Serve until told to stop; with `burst`, until there is nothing to do.

        Raises EngineBroken when only a new process can help.
        """
        if not self._register():
            return True
        settings = self._settings
        try:
            with (
                # By itself: no other chore may delay it, by waiting for an answer that is lost.
                PeriodicRunner(PeriodicTask(settings.worker_heartbeat_s, self.beat)),
                PeriodicRunner(
                    PeriodicTask(settings.worker_cancel_poll_s, self.look_for_marks),
                    PeriodicTask(settings.worker_progress_s, self._reporter.flush),
                    PeriodicTask(settings.worker_reap_s, self.reap),
                    PeriodicTask(settings.worker_reap_s, self.drop_late),
                    PeriodicTask(1.0, self.watch_the_loop),
                ),
            ):
                self.loop.run(until_empty=burst)
        finally:
            with suppress(RedisError):
                self.teardown()  # type: ignore[no-untyped-call]
        return True

    def beat(self) -> None:
        """Tell Redis that this worker lives, and renew all of its leases, in one round trip."""
        claims = self.loop.claims
        with self.connection.pipeline(transaction=False) as pipe:
            self.heartbeat(REGISTRATION_TTL_S, pipeline=pipe)
            self.set_state(WorkerStatus.BUSY if claims else WorkerStatus.IDLE, pipeline=pipe)
            pipe.hset(self.key, items=self._metrics.for_rq)
            before_the_leases = len(pipe)
            self.ledger.leases.renew(claims, pipe)
            answers = pipe.execute()
        heartbeat_was_new, lost = answers[0], answers[before_the_leases:]
        self._vigil.contact()
        self.loop.reconnected()
        for member in chain.from_iterable(lost):
            self.loop.lose(member.decode().rpartition(":")[2])
        if heartbeat_was_new:  # our entry was gone: expired in an outage, or Redis lost its data
            self.connection.delete(self.key)
            self.register_birth()  # type: ignore[no-untyped-call]

    def look_for_marks(self) -> None:
        """Find the running jobs that somebody asked to stop."""
        running = [claim.job_id for claim in self.loop.claims]
        if running:
            for job_id in self.ledger.leases.marked(running):
                self.loop.cancel(job_id)

    def reap(self) -> None:
        """Put the jobs of dead workers back into the queue."""
        if not self._vigil.may_judge():
            return
        for job_id, status in self.ledger.leases.reap():
            logger.warning("job taken back", extra={"job": job_id, "becomes": status})
            self._metrics.retries.labels(WORKER_DIED).inc()
            self.loop.wake()

    def drop_late(self) -> None:
        """Fail the waiting jobs that nobody waits for any more."""
        for job_id in self.ledger.leases.drop_late():
            logger.info("job dropped, its deadline is over", extra={"job": job_id})
            self._metrics.failures.labels(DeadlineExceeded.__name__).inc()

    def watch_the_loop(self) -> None:
        """End this process if a step hangs: its leases run out, and its jobs move on."""
        if self.loop.still_for > self._settings.worker_stall_s:
            jobs = [claim.job_id for claim in self.loop.claims]
            logger.critical("a step hangs, ending", extra={"jobs": jobs})
            os._exit(STALLED)

    def handle_payload(self, message: dict[str, Any]) -> None:
        """Obey RQ's commands, which come by pub/sub."""
        command = parse_payload(message)
        match command.get("command"):
            case "stop-job":
                self.loop.cancel(str(command.get("job_id")))
            case "stop-execution":
                self.request_stop_execution(str(command.get("execution_id")))
            case "shutdown":
                self.loop.stop()

    def request_stop_execution(self, execution_id: str) -> None:
        for claim in self.loop.claims:
            if claim.execution_id == execution_id:
                self.loop.cancel(claim.job_id)

    def subscribe(self) -> None:
        """Listen to RQ's commands, and to the announcement of jobs."""
        pubsub = self.connection.pubsub()  # type: ignore[no-untyped-call]
        pubsub.subscribe(
            **{
                self.pubsub_channel_name: self.handle_payload,
                **{channel: lambda _: self.loop.wake() for channel in self._wake_channels},
            }
        )
        self.pubsub = pubsub
        self._listener = pubsub.run_in_thread(
            sleep_time=PUBSUB_WAIT_S, daemon=True, exception_handler=self._pubsub_exception_handler
        )

    def unsubscribe(self) -> None:
        # In this order: the farewell wakes the thread, which must then see that it is to end. RQ
        # does it the other way round, and waits for a second in vain.
        if self._listener is not None and self.pubsub is not None:
            self._listener.stop()
            self.pubsub.unsubscribe()  # type: ignore[no-untyped-call]
            self._listener.join(REDIS_RETRY_S)

    def _pubsub_exception_handler(
        self, exc: BaseException, pubsub: PubSub, pubsub_thread: PubSubWorkerThread
    ) -> None:
        # Whatever it is, listening goes on; what is missed is found by polling. RQ's own handler
        # lets the thread die of a timeout.
        logger.debug("pub/sub interrupted", extra={"error": type(exc).__name__})
        time.sleep(REDIS_RETRY_S)

    def _set_connection(self, connection: Redis) -> Redis:
        # RQ would raise the socket timeout to minutes, for its blocking pops. We never block, and
        # want to hear soon that Redis is away: a batch may be waiting for the answer, and every
        # loop here tries again by itself. Once more at once, for a connection that went stale.
        connection.set_retry(Retry(NoBackoff(), 1))
        return connection

    def _set_ip_address(self, connection: Redis) -> None:
        # Asked for in the constructor, when Redis need not be there yet.
        try:
            super()._set_ip_address(connection)
        except RedisError:
            self.ip_address = "unknown"

    def heed_signals(self) -> None:
        """From now on SIGTERM and SIGINT end `work` in order, though it may not have begun."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.loop.stop())

    def _register(self) -> bool:
        """Whether Redis knows of us; not, if we are told to stop before it answers."""
        while not self.loop.stopping:
            try:
                self.connection.delete(self.key)  # a try before, cut short half-way
                self.bootstrap(logging_level="WARNING")
                return True
            except RedisError as error:
                logger.warning("cannot register", extra={"error": type(error).__name__})
                time.sleep(REDIS_RETRY_S)
        return False


class RqJobSource:
    """Leases with their contents in RQ's form; a `worker.consumer.consumer.JobSource`."""

    def __init__(
        self, redis: Redis, worker: str, models: Sequence[str], settings: WorkerSettings
    ) -> None:
        self._redis = redis
        self._worker = worker
        pools = [queue_name(model) for model in models]
        self.leases = Leases(redis, worker, pools, _terms(settings, redis))
        self.cancel = self.leases.cancel
        self.hand_back = self.leases.hand_back
        self.suspect = self.leases.suspect

    def claim(self, idle: bool, models: Sequence[str]) -> Claim | None:
        """Take the next job for the first of `models` that has one waiting."""
        return self.leases.claim(idle, [queue_name(model) for model in models])

    def read(self, claim: Claim) -> GenerationRequest:
        """The request a job carries. Raises JobFailed for anything not written by our service."""
        request = read_request(claim.data)
        if queue_name(request.model) != claim.pool:
            raise JobFailed("it was queued for another model")
        return request

    def finish(self, claim: Claim, result: JobResult) -> JobStatus | None:
        record = _record(
            self._redis,
            Result.Type.SUCCESSFUL,
            job_id=claim.job_id,
            return_value=result.model_dump(mode="json"),
            worker_name=self._worker,
            execution_id=claim.execution_id,
        )
        return self.leases.finish(claim, record, result.model_dump_json())

    def fail(self, claim: Claim, error: DarkroomError) -> JobStatus | None:
        record = _record(
            self._redis,
            Result.Type.FAILED,
            job_id=claim.job_id,
            exc_string=type(error).__name__,  # not its message, which may quote the request
            worker_name=self._worker,
            execution_id=claim.execution_id,
        )
        return self.leases.fail(claim, error.to_record().model_dump_json(), record)

    def waiting_counts(self, loading: Mapping[str, float | None]) -> dict[str, int]:
        """How many jobs wait for these models; those of a model that is being loaded are told how
        far that is, from 0 to 1."""
        pools = {queue_name(model): share for model, share in loading.items()}
        return dict(zip(loading, self.leases.waiting_counts(pools).values(), strict=True))

    def fail_waiting(self, model: str, error: DarkroomError) -> list[str]:
        """Fail the jobs that wait for `model`; answers their ids."""
        record = _record(self._redis, Result.Type.FAILED, exc_string=type(error).__name__)
        text = error.to_record().model_dump_json()
        return self.leases.fail_waiting(queue_name(model), text, record)


def read_request(data: bytes) -> GenerationRequest:
    """The request in a job's call as RQ keeps it: zlib of JSON of [name, object, args, kwargs].

    Raises JobFailed unless it is exactly what `protocol.queue.job_queue` writes.
    """
    try:
        inflating = zlib.decompressobj()
        text = inflating.decompress(data, LARGEST_JOB)
        if inflating.unconsumed_tail:
            raise ValueError("too large")
        name, instance, args, kwargs = json.loads(text)
        if (name, instance, args, list(kwargs)) != (GENERATE, None, [], [REQUEST]):
            raise ValueError("not a call of ours")
        return GenerationRequest.model_validate(kwargs[REQUEST])
    except (ValueError, TypeError, RecursionError, zlib.error) as error:
        raise JobFailed("it does not carry a request that can be read") from error


def _record(redis: Redis, kind: Result.Type, **fields: Any) -> dict[str, str]:
    """A result as RQ keeps it."""
    fields.setdefault("job_id", "")
    result = Result(type=kind, connection=redis, serializer=JSONSerializer, **fields)
    return {field: str(value) for field, value in result.serialize().items()}


def _terms(settings: WorkerSettings, redis: Redis) -> LeaseTerms:
    error = JobFailed("every worker that tried it broke down")
    return LeaseTerms(
        lease_s=settings.worker_lease_s,
        max_crashes=settings.worker_max_crashes,
        patience=settings.worker_priority_patience,
        result_ttl_s=settings.result_ttl_s,
        failure_ttl_s=settings.failure_ttl_s,
        poison_error=error.to_record().model_dump_json(),
        poison_record=_record(redis, Result.Type.FAILED, exc_string=type(error).__name__),
    )
