"""`python -m worker`: read the settings, load the first model, draw until stopped.

The one place where the worker's parts are joined. While it gets ready, its presence says how far
it is; a failed start says why and ends with status 1.
"""

import logging
import secrets
import sys
from collections.abc import Callable
from contextlib import closing

import torch

from models.loading.loader import default_device
from protocol.connection.redis_client import connect
from protocol.registry.presence import Presence, WorkerState
from protocol.telemetry.logs import start_logging
from protocol.telemetry.setup import start_tracing
from worker import interfaces as ports
from worker.consumer.rq_worker import RqJobSource
from worker.engine.engine import Engine
from worker.model_info import extra_networks
from worker.model_manager import load_requests
from worker.model_manager.startup import start_models
from worker.periodic_runner import PeriodicRunner, PeriodicTask
from worker.serve import serve
from worker.settings import WorkerSettings
from worker.telemetry.gpu import gpu_collector
from worker.telemetry.heartbeat import INTERVAL_S, Heartbeat
from worker.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


def main(policy: Callable[[Engine], ports.Engine] = lambda engine: engine) -> int:
    """The exit status: 0 after an orderly stop, 1 if this worker could not start or go on.

    `policy` may put another engine before ours, as benchmarks do.
    """
    settings = WorkerSettings()
    start_logging(settings)
    name = f"{settings.worker_name}-{secrets.token_hex(4)}"
    tracing, metrics = start_tracing("worker", settings.otlp_endpoint), Metrics()
    # A connection that has gone dead is given up within a heartbeat, so the next one is in time.
    patience_s = settings.worker_heartbeat_s
    with connect(settings.redis_url, metrics.meters.redis, answer_timeout_s=patience_s) as redis:
        heartbeat = Heartbeat(Presence(redis), name)
        with PeriodicRunner(PeriodicTask(INTERVAL_S, heartbeat.send)):
            device = _device(settings)
            try:
                engine, manager, models = start_models(settings, device, heartbeat, metrics)
            except Exception as error:  # whatever it is, it is shown, not hidden behind "starting"
                logger.error("cannot start", exc_info=error)
                heartbeat.update(state=WorkerState.SETUP_FAILED, detail=str(error))
                return 1
            watch_gpu(metrics, device)
            cards = extra_networks.CardPublisher(redis, models, settings.models_home)

            def watch(ledger: RqJobSource) -> PeriodicRunner:
                requests = load_requests.LoadRequests(
                    manager, ledger, redis, heartbeat, metrics, settings.worker_model_patience_s
                )
                return PeriodicRunner(
                    PeriodicTask(load_requests.CHECK_EVERY_S, requests.check),
                    PeriodicTask(extra_networks.CHECK_EVERY_S, cards.refresh),
                )

            with closing(manager):
                status = serve(
                    settings,
                    redis,
                    name,
                    policy(engine),
                    manager,
                    cards.cards(),
                    heartbeat,
                    metrics,
                    tracing,
                    beside=watch,
                )
        heartbeat.leave()
    return status


def _device(settings: WorkerSettings) -> torch.device:
    return default_device() if settings.device == "auto" else torch.device(settings.device)


def watch_gpu(metrics: Metrics, device: torch.device) -> None:
    """Tell of the GPU too, if the model is on one of NVIDIA's and its library is there."""
    if device.type == "cuda" and torch.version.cuda:
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        if collector := gpu_collector(uuid):
            metrics.registry.register(collector)


if __name__ == "__main__":
    sys.exit(main())
