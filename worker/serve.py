"""Connects an engine with the queue and the store, and serves jobs until told to stop.

It uses no torch: the engine is any `worker.interfaces.Engine`.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext

from redis import Redis

from protocol.registry.model_registry import PublishedModel
from protocol.registry.presence import WorkerState
from protocol.storage.deleted_jobs import DeletedJobs
from protocol.storage.pins import Pins
from worker.consumer.consumer import EngineBroken
from worker.consumer.context import WorkerContext
from worker.consumer.rq_worker import RqJobSource, RqWorker
from worker.output.garbage_collector import GarbageCollector
from worker.periodic_runner import PeriodicRunner, PeriodicTask
from worker.publisher import CHECK_EVERY_S, ModelPublisher
from worker.telemetry.engine_metrics import EngineCollector
from worker.telemetry.heartbeat import Heartbeat

logger = logging.getLogger(__name__)

DELETE_EVERY_S = 30.0  # objects of deleted jobs, where the API could not

Background = Callable[[RqJobSource], AbstractContextManager[object]]


def serve(
    redis: Redis,
    name: str,
    context: WorkerContext,
    models: Callable[[], Sequence[PublishedModel]],
    heartbeat: Heartbeat,
    background: Background = lambda source: nullcontext(),
) -> int:
    """Publish `models`, keep them published, and serve jobs.

    Returns the exit status, 1 if the engine broke.

    `background` is entered while jobs are served.
    """
    settings, metrics = context.settings, context.metrics
    metrics.registry.register(EngineCollector(context.engine))
    metrics.serve(settings.worker_metrics_host, settings.worker_metrics_port)
    worker = RqWorker(redis, name, context)
    publisher = ModelPublisher(redis, name, models)
    publisher.publish_first()
    worker.handle_signals()  # before READY is published: a signal must find the handler
    heartbeat.mark_ready(busy=lambda: bool(worker.consumer.claims))
    logger.info("ready", extra={"worker": name, "models": list(context.models.names)})
    store, pins = context.output.store, Pins(redis, settings)
    collector = GarbageCollector(store, pins, settings, settings.worker_sweep_s)

    def keep_published() -> None:
        if publisher.check():
            heartbeat.send()  # lost as well

    try:
        with (
            PeriodicRunner(PeriodicTask(CHECK_EVERY_S, keep_published)),
            PeriodicRunner(
                PeriodicTask(settings.worker_sweep_s, collector.collect),
                PeriodicTask(DELETE_EVERY_S, DeletedJobs(redis, store, pins).collect),
            ),
            closing(collector),
            background(worker.source),
        ):
            worker.work()
    except EngineBroken:
        logger.exception("the engine is broken, ending")
        return 1
    finally:
        heartbeat.update(state=WorkerState.STOPPING)
        context.output.close()
        context.tracing.close()
    return 0
