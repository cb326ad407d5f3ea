"""The objects that the consumer and its jobs share."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from protocol.queue.progress import ProgressBoard
from protocol.storage.object_store import ObjectStore
from protocol.telemetry.tracing import NO_TRACING, Tracing
from worker.consumer.progress_reporter import ProgressReporter
from worker.interfaces import Engine, Models
from worker.output.output_processor import OutputProcessor, Sign
from worker.settings import WorkerSettings
from worker.telemetry.metrics import Metrics


@dataclass(frozen=True)
class WorkerContext:
    """A worker's settings, models and engine, and the way of its results."""

    settings: WorkerSettings
    models: Models
    engine: Engine
    output: OutputProcessor
    reporter: ProgressReporter
    metrics: Metrics
    tracing: Tracing = NO_TRACING

    @classmethod
    def open(
        cls,
        settings: WorkerSettings,
        redis: Redis,
        models: Models,
        engine: Engine,
        metrics: Metrics,
        tracing: Tracing = NO_TRACING,
        store: ObjectStore | None = None,
        sign: Sign | None = None,
    ) -> WorkerContext:
        """Start the output threads, which write to `store` or to that of the settings.

        `sign`: signs each file of an image, as its last change.
        """
        store = store or ObjectStore.open(settings.object_store_url, metrics.meters.store)
        output = OutputProcessor(
            store, settings.worker_delivery_threads, settings.worker_store_patience_s, sign
        )
        reporter = ProgressReporter(ProgressBoard(redis))
        return cls(settings, models, engine, output, reporter, metrics, tracing)
