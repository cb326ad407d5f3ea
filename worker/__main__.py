"""`python -m worker`: read the settings, load the first model, serve until stopped.

The one place where the worker's parts are connected. Its heartbeat reports the progress of the
startup; a failed startup is reported too, and ends with status 1.
"""

import logging
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import torch

from protocol.connection.redis_client import connect
from protocol.registry.presence import Presence, WorkerState
from protocol.startup import InvalidSettings, exit_status, read_settings
from protocol.telemetry.logs import start_logging
from protocol.telemetry.setup import start_tracing
from worker.consumer.context import WorkerContext
from worker.consumer.rq_worker import RqJobSource
from worker.installs.installer import installing
from worker.interfaces import Engine
from worker.model_info import extra_networks
from worker.model_manager import load_requests
from worker.model_manager.startup import start_models
from worker.output.signing import open_signer
from worker.periodic_runner import PeriodicRunner, PeriodicTask
from worker.serve import serve
from worker.settings import WorkerSettings
from worker.startup_checks import checked_device
from worker.telemetry.gpu import gpu_collector
from worker.telemetry.heartbeat import INTERVAL_S, Heartbeat
from worker.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


def main(wrap: Callable[[Engine], Engine] = lambda engine: engine) -> int:
    """Return the exit status: 0 after an orderly stop, 1 if the worker could not start or go on.

    Raises InvalidSettings if it cannot start with its settings on this machine. `wrap` may put
    another engine in front, as benchmarks do.
    """
    settings = read_settings(WorkerSettings)
    start_logging(settings)
    name = f"{settings.worker_name}-{secrets.token_hex(4)}"
    tracing, metrics = start_tracing("worker", settings.otlp_endpoint), Metrics()
    # A dead connection is given up within a heartbeat, so that the next heartbeat is in time.
    timeout_s = settings.worker_heartbeat_s
    with connect(settings.redis_url, metrics.meters.redis, answer_timeout_s=timeout_s) as redis:
        heartbeat = Heartbeat(Presence(redis), name)
        with PeriodicRunner(PeriodicTask(INTERVAL_S, heartbeat.send)):
            try:
                device = checked_device(settings)
                sign = open_signer(settings)
                engine, served = start_models(settings, device, heartbeat, metrics)
            except Exception as error:  # reported, so that the worker does not seem to be starting
                heartbeat.update(state=WorkerState.SETUP_FAILED, detail=str(error))
                if isinstance(error, InvalidSettings):
                    raise
                logger.error("cannot start", exc_info=error, extra={"detail": str(error)})
                return 1
            watch_gpu(metrics, device)
            manager = served.manager

            @contextmanager
            def model_tasks(source: RqJobSource) -> Iterator[None]:
                requests = load_requests.LoadRequests(
                    manager, source, redis, heartbeat, metrics, settings.worker_model_patience_s
                )
                with (
                    PeriodicRunner(
                        PeriodicTask(load_requests.CHECK_EVERY_S, requests.check),
                        PeriodicTask(extra_networks.CHECK_EVERY_S, served.refresh),
                    ),
                    installing(redis, served),
                ):
                    yield

            with closing(manager):
                context = WorkerContext.open(
                    settings, redis, manager, wrap(engine), metrics, tracing, sign=sign
                )
                status = serve(redis, name, context, served.cards.cards, heartbeat, model_tasks)
        heartbeat.leave()
    return status


def watch_gpu(metrics: Metrics, device: torch.device) -> None:
    """Add metrics of the GPU, if the model is on one of NVIDIA's and its library is installed."""
    if device.type == "cuda" and torch.version.cuda:
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        if collector := gpu_collector(uuid):
            metrics.registry.register(collector)


if __name__ == "__main__":
    sys.exit(exit_status("worker", main))
