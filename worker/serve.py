"""Where an engine meets the queue and the store: serve jobs until told to stop.

Knows no torch: the engine is whatever keeps to `worker.interfaces.Engine`.
"""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, nullcontext

from redis import Redis

from protocol.errors import QueueUnavailable
from protocol.queue.progress import ProgressBoard
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import WorkerState
from protocol.request.model_card import ModelCard
from protocol.storage.object_store import ObjectStore
from protocol.storage.pins import Pins
from protocol.telemetry.tracing import NO_TRACING, Tracing
from worker.consumer.consumer import EngineBroken
from worker.consumer.progress_reporter import Reporter
from worker.consumer.rq_worker import RqJobSource, RqWorker
from worker.interfaces import Engine, Models
from worker.output.garbage_collector import GarbageCollector
from worker.output.output_processor import OutputProcessor
from worker.periodic_runner import PeriodicRunner, PeriodicTask
from worker.settings import WorkerSettings
from worker.telemetry.engine_metrics import EngineCollector
from worker.telemetry.heartbeat import Heartbeat
from worker.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

REDIS_RETRY_S = 1.0

Offer = tuple[ModelCard, str]  # and its tokenizer, serialised


def serve(
    settings: WorkerSettings,
    redis: Redis,
    name: str,
    engine: Engine,
    models: Models,
    offers: Iterable[Offer],
    heartbeat: Heartbeat,
    metrics: Metrics,
    tracing: Tracing = NO_TRACING,
    beside: Callable[[RqJobSource], AbstractContextManager[object]] = lambda ledger: nullcontext(),
) -> int:
    """Make the `offers` and draw with `engine`; the exit status, 1 if the engine broke.

    `beside`: what goes on as long as jobs are served, with a thread of its own.
    """
    metrics.registry.register(EngineCollector(engine))
    metrics.serve(settings.worker_metrics_host, settings.worker_metrics_port)
    store = ObjectStore.open(settings.object_store_url, metrics.meters.store)
    delivery = OutputProcessor(
        store,
        settings.worker_delivery_threads,
        settings.worker_store_patience_s,
    )
    reporter = Reporter(ProgressBoard(redis))
    worker = RqWorker(redis, name, models, engine, delivery, reporter, metrics, settings, tracing)
    publish(redis, offers)
    worker.heed_signals()  # before anybody hears that it serves: else it could go without goodbye
    heartbeat.mark_ready(busy=lambda: bool(worker.loop.claims))
    logger.info("ready", extra={"worker": name, "models": list(models.names)})
    sweeper = GarbageCollector(store, Pins(redis, settings), settings, settings.worker_sweep_s)
    try:
        with (
            PeriodicRunner(PeriodicTask(settings.worker_sweep_s, sweeper.sweep)),
            closing(sweeper),
            beside(worker.ledger),
        ):
            worker.work()
    except EngineBroken:
        logger.exception("the engine is broken, ending")
        return 1
    finally:
        heartbeat.update(state=WorkerState.STOPPING)
        delivery.close()
        tracing.close()
    return 0


def publish(redis: Redis, offers: Iterable[Offer]) -> None:
    """Tell which models there are, however long it takes Redis to answer."""
    catalogue = ModelRegistry(redis)
    for card, tokenizer_json in offers:
        while True:
            try:
                catalogue.publish(card, tokenizer_json)
                break
            except QueueUnavailable:
                logger.warning("cannot publish the models: redis is away")
                time.sleep(REDIS_RETRY_S)
