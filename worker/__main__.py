"""`python -m worker`: read the settings, load the model, draw until stopped.

The one place where the worker's parts are joined. While it gets ready, its presence says how far
it is; a failed start says why and ends with status 1.
"""

import logging
import secrets
import sys
from collections.abc import Callable

import torch

from models.loading import default_device, load_model
from models.pipeline import LatentDiffusion
from protocol.catalogue import ModelCard
from protocol.logs import start_logging
from protocol.presence import Presence, WorkerState
from protocol.redis_client import connect
from protocol.tracing import start_tracing
from worker import ports
from worker.announcer import REPEAT_S, Announcer
from worker.card import model_card
from worker.engine import Engine
from worker.gpu import gpu_collector
from worker.metrics import Metrics
from worker.serve import serve
from worker.settings import WorkerSettings
from worker.ticker import Chore, Ticker
from worker.warmup import empty_engine, ready_resident, weights_dtype

logger = logging.getLogger(__name__)

LOADED = 0.9  # the share of getting ready that loading is; the rest is warming up


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
        announcer = Announcer(Presence(redis), name)
        with Ticker(Chore(REPEAT_S, announcer.repeat)):
            try:
                engine, card, tokenizer = _get_ready(settings, announcer)
            except Exception as error:  # whatever it is, it is shown, not hidden behind "starting"
                logger.error("cannot start", exc_info=error)
                announcer.say(state=WorkerState.SETUP_FAILED, detail=str(error))
                return 1
            watch_gpu(metrics, _device(settings))
            status = serve(
                settings,
                redis,
                name,
                policy(engine),
                ports.OneModel(card.name),
                [(card, tokenizer)],
                announcer,
                metrics,
                tracing,
            )
        announcer.leave()
    return status


def _get_ready(settings: WorkerSettings, announcer: Announcer) -> tuple[Engine, ModelCard, str]:
    """Load and warm up the model, telling how far it is: an engine, its card and tokenizer."""
    source = settings.model or "bundled"
    device = _device(settings)

    def report(fraction: float, what: str) -> None:
        announcer.say(
            state=WorkerState.LOADING, device=str(device), detail=what, progress=LOADED * fraction
        )

    dtype = weights_dtype(device, settings.worker_precision)
    model = load_model(source, device, dtype, report)
    card = model_card(model, source)
    announcer.say(model=card.name, detail="warming up")
    engine = empty_engine(device, settings)
    size = card.default_width, card.default_height
    engine.put(card.name, ready_resident(model, size, settings))
    return engine, card, _tokenizer_json(model)


def _device(settings: WorkerSettings) -> torch.device:
    return default_device() if settings.device == "auto" else torch.device(settings.device)


def _tokenizer_json(model: LatentDiffusion) -> str:
    """What counts the tokens of a prompt; nothing where there are no prompts."""
    tokenizer = model.conditioner.tokenizer
    return "" if tokenizer is None else tokenizer.to_json()


def watch_gpu(metrics: Metrics, device: torch.device) -> None:
    """Tell of the GPU too, if the model is on one of NVIDIA's and its library is there."""
    if device.type == "cuda" and torch.version.cuda:
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        if collector := gpu_collector(uuid):
            metrics.registry.register(collector)


if __name__ == "__main__":
    sys.exit(main())
