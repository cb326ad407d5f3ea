"""The worker as RQ's tools see it. The only file of the worker that imports RQ.

RQ's tools find a worker like any other: registered, with heartbeats and executions under its name,
obeying the commands stop-job, stop-execution and shutdown. RQ's own loop is not used: it runs one
job at a time, gives up when Redis is away, and takes ten minutes to notice dead workers. The
consumer (`worker.consumer.consumer`) and the leases (`worker.consumer.leases`) replace it.

The contents of Redis are not trusted: a job's function is never imported or called, only its name
is compared, and its argument is parsed with the same record that the service wrote it from.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
from protocol.queue.job_queue import queue_name, wake_channel
from protocol.queue.submission import read_request
from protocol.request.request import GenerationRequest, Priority
from worker.consumer.consumer import Consumer
from worker.consumer.context import WorkerContext
from worker.consumer.failure_detector import FailureDetector
from worker.consumer.leases import Claim, JobStatus, Leases, LeaseTerms, ResultEntry
from worker.periodic_runner import PeriodicRunner, PeriodicTask
from worker.settings import WorkerSettings
from worker.telemetry.metrics import WORKER_DIED

logger = logging.getLogger(__name__)

REDIS_RETRY_S = 1.0
REGISTRATION_TTL_S = 60  # for how long RQ's tools still list a silent worker
PUBSUB_WAIT_S = 60
EXIT_HANGING = 75  # exit status of a worker whose engine hangs


class RqWorker(BaseWorker):
    """The worker of one process, for the queues of all its models."""

    def __init__(self, redis: Redis, name: str, context: WorkerContext) -> None:
        """`name` must be new: RQ refuses the name of a worker that died a moment ago."""
        models = context.models.names
        super().__init__(
            _queues(redis, models),
            name=name,
            connection=redis,
            worker_ttl=REGISTRATION_TTL_S,
            log_job_description=False,
            serializer="json",
        )
        self.source = RqJobSource(redis, name, models, context.settings)
        self.consumer = Consumer(context, self.source)
        self._context = context
        self._failure_detector = FailureDetector(context.settings.worker_lease_s)
        self._models = list(models)
        self._listener: PubSubWorkerThread | None = None

    def work(self, burst: bool = False, *_: Any, **__: Any) -> bool:
        """Run jobs until told to stop; with `burst`, until none is left.

        Raises EngineBroken when only a new process can help.
        """
        if not self._register():
            return True
        settings = self._context.settings
        try:
            with (
                # In a thread of its own: no other task may delay it by waiting for a lost answer.
                PeriodicRunner(PeriodicTask(settings.worker_heartbeat_s, self.beat)),
                PeriodicRunner(
                    PeriodicTask(settings.worker_cancel_poll_s, self.check_cancel_requests),
                    PeriodicTask(settings.worker_progress_s, self._context.reporter.flush),
                    PeriodicTask(settings.worker_reap_s, self.requeue_stalled),
                    PeriodicTask(settings.worker_reap_s, self.fail_expired),
                    PeriodicTask(1.0, self.check_engine),
                    PeriodicTask(1.0, self.follow_models),
                ),
            ):
                self.consumer.run(until_empty=burst)
        finally:
            with suppress(RedisError):
                self.teardown()  # type: ignore[no-untyped-call]
        return True

    def beat(self) -> None:
        """Send a heartbeat and renew all leases, in one round trip."""
        claims = self.consumer.claims
        with self.connection.pipeline(transaction=False) as pipe:
            self.heartbeat(REGISTRATION_TTL_S, pipeline=pipe)
            self.set_state(WorkerStatus.BUSY if claims else WorkerStatus.IDLE, pipeline=pipe)
            pipe.hset(self.key, items=self._context.metrics.for_rq)
            pipe.sismember(self.redis_workers_keys, self.key)
            pipe.hexists(self.key, "birth")
            before_the_leases = len(pipe)
            self.source.leases.renew(claims, pipe)
            answers = pipe.execute()
        is_listed = all(answers[before_the_leases - 2 : before_the_leases])
        self._failure_detector.contact()
        self.consumer.reconnected()
        for member in chain.from_iterable(answers[before_the_leases:]):
            self.consumer.lose_lease(member.decode().rpartition(":")[2])
        if not is_listed:  # expired in an outage, or Redis has lost its data
            self.connection.delete(self.key)
            self.register_birth()  # type: ignore[no-untyped-call]

    def check_cancel_requests(self) -> None:
        """Cancel the running jobs that a client asked to cancel."""
        running = [claim.job_id for claim in self.consumer.claims]
        if running:
            for job_id in self.source.leases.cancel_requested(running):
                self.consumer.cancel(job_id)

    def requeue_stalled(self) -> None:
        """Requeue the jobs of dead workers."""
        if not self._failure_detector.may_judge():
            return
        for job_id, status in self.source.leases.requeue_stalled():
            logger.warning("stalled job requeued", extra={"job": job_id, "becomes": status})
            self._context.metrics.retries.labels(WORKER_DIED).inc()
            self.consumer.wake()

    def fail_expired(self) -> None:
        """Fail the waiting jobs whose deadlines have passed."""
        for job_id in self.source.leases.fail_expired():
            logger.info("job failed, its deadline has passed", extra={"job": job_id})
            self._context.metrics.failures.labels(DeadlineExceeded.__name__).inc()

    def check_engine(self) -> None:
        """End this process if a step hangs: the leases expire, and others run the jobs."""
        if self.consumer.stuck_s > self._context.settings.worker_stall_s:
            jobs = [claim.job_id for claim in self.consumer.claims]
            logger.critical("a step hangs, ending", extra={"jobs": jobs})
            os._exit(EXIT_HANGING)

    def follow_models(self) -> None:
        """Serve the models that were added since the last call as those of the start."""
        added = [name for name in self._context.models.names if name not in self._models]
        if not added:
            return
        queues = [*self.queues, *_queues(self.connection, added)]
        if self.pubsub is not None:
            self.pubsub.subscribe(**self._wakers(added))
        self.connection.hset(self.key, "queues", ",".join(queue.name for queue in queues))
        self.source.add_models(added)
        self.queues = queues
        self._models += added

    def _wakers(self, models: Sequence[str]) -> dict[str, Callable[[object], None]]:
        """Return the channels that announce jobs of `models`, and what to call then."""
        channels = (wake_channel(queue_name(model)) for model in models)
        return {channel: lambda _: self.consumer.wake() for channel in channels}

    def handle_payload(self, message: dict[str, Any]) -> None:
        """Obey a command of RQ's, received by pub/sub."""
        command = parse_payload(message)
        match command.get("command"):
            case "stop-job":
                self.consumer.cancel(str(command.get("job_id")))
            case "stop-execution":
                self.request_stop_execution(str(command.get("execution_id")))
            case "shutdown":
                self.consumer.stop()

    def request_stop_execution(self, execution_id: str) -> None:
        for claim in self.consumer.claims:
            if claim.execution_id == execution_id:
                self.consumer.cancel(claim.job_id)

    def subscribe(self) -> None:
        """Listen to RQ's commands, and to the announcements of jobs."""
        pubsub = self.connection.pubsub()  # type: ignore[no-untyped-call]
        pubsub.subscribe(
            **{
                self.pubsub_channel_name: self.handle_payload,
                **self._wakers(self._models),
            }
        )
        self.pubsub = pubsub
        self._listener = pubsub.run_in_thread(
            sleep_time=PUBSUB_WAIT_S, daemon=True, exception_handler=self._pubsub_exception_handler
        )

    def unsubscribe(self) -> None:
        # In this order: unsubscribing wakes the thread, which must then find that it is to end. RQ
        # uses the other order, and waits for a second to no effect.
        if self._listener is not None and self.pubsub is not None:
            self._listener.stop()
            self.pubsub.unsubscribe()  # type: ignore[no-untyped-call]
            self._listener.join(REDIS_RETRY_S)

    def _pubsub_exception_handler(
        self, exc: BaseException, pubsub: PubSub, pubsub_thread: PubSubWorkerThread
    ) -> None:
        # Listening goes on after any error; polling finds what was missed. RQ's own handler lets
        # the thread end after a timeout.
        logger.debug("pub/sub interrupted", extra={"error": type(exc).__name__})
        time.sleep(REDIS_RETRY_S)

    def _set_connection(self, connection: Redis) -> Redis:
        # RQ would raise the socket timeout to minutes, for its blocking pops. This worker never
        # blocks, and must notice an outage of Redis soon: a batch may be waiting for the answer,
        # and every task here tries again. One retry at once, for a stale connection.
        connection.set_retry(Retry(NoBackoff(), 1))
        return connection

    def _set_ip_address(self, connection: Redis) -> None:
        # Requested by RQ's constructor, when Redis may still be away.
        try:
            super()._set_ip_address(connection)
        except RedisError:
            self.ip_address = "unknown"

    def handle_signals(self) -> None:
        """Let SIGTERM and SIGINT stop `work` in order, even before it begins."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.consumer.stop())

    def _register(self) -> bool:
        """Register with RQ; return False if told to stop before Redis answers."""
        while not self.consumer.stopping:
            try:
                self.connection.delete(self.key)  # of an attempt before that was cut short
                self.bootstrap(logging_level="WARNING")
                return True
            except RedisError as error:
                logger.warning("cannot register", extra={"error": type(error).__name__})
                time.sleep(REDIS_RETRY_S)
        return False


class RqJobSource:
    """Leases whose contents have RQ's form; a `worker.consumer.settler.JobSource`."""

    def __init__(
        self, redis: Redis, worker: str, models: Sequence[str], settings: WorkerSettings
    ) -> None:
        self._redis = redis
        self._worker = worker
        pools = list(map(queue_name, models))
        self.leases = Leases(redis, pools, _terms(settings, redis, worker))
        self.cancel = self.leases.cancel
        self.requeue = self.leases.requeue
        self.mark_stalled = self.leases.mark_stalled

    def add_models(self, models: Sequence[str]) -> None:
        """Look after the jobs of these models, too."""
        self.leases.add_pools(list(map(queue_name, models)))

    def claim(self, idle: bool, models: Sequence[str]) -> Claim | None:
        """Claim the next job of the first of `models` that has one waiting."""
        return self.leases.claim(idle, [queue_name(model) for model in models])

    def read(self, claim: Claim) -> GenerationRequest:
        """Return a job's request. Raises JobFailed for anything our service did not write."""
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
        """Return the number of waiting jobs of each model.

        A number in `loading` is the share (0 to 1) of the model loaded so far; its jobs report it.
        """
        pools = {queue_name(model): share for model, share in loading.items()}
        return dict(zip(loading, self.leases.waiting_counts(pools).values(), strict=True))

    def fail_waiting(self, model: str, error: DarkroomError) -> list[str]:
        """Fail the jobs that wait for `model`; return their ids."""
        record = _record(self._redis, Result.Type.FAILED, exc_string=type(error).__name__)
        text = error.to_record().model_dump_json()
        return self.leases.fail_waiting(queue_name(model), text, record)


def _queues(redis: Redis, models: Sequence[str]) -> list[Queue]:
    """Return the RQ queues of models, one for each priority."""
    return [
        Queue(queue_name(model, priority), connection=redis, serializer=JSONSerializer)
        for model in models
        for priority in Priority
    ]


def _record(redis: Redis, kind: Result.Type, **fields: Any) -> ResultEntry:
    """Return a result as RQ stores it."""
    fields.setdefault("job_id", "")
    result = Result(type=kind, connection=redis, serializer=JSONSerializer, **fields)
    return [str(part) for field in result.serialize().items() for part in field]


def _terms(settings: WorkerSettings, redis: Redis, worker: str) -> LeaseTerms:
    error = JobFailed("every worker that tried it broke down")
    return LeaseTerms(
        worker=worker,
        lease_s=settings.worker_lease_s,
        max_stalled=settings.worker_max_crashes,
        patience=settings.worker_priority_patience,
        result_ttl_s=settings.result_ttl_s,
        failure_ttl_s=settings.failure_ttl_s,
        stalled_error=error.to_record().model_dump_json(),
        stalled_record=_record(redis, Result.Type.FAILED, exc_string=type(error).__name__),
    )
