"""`python -m worker`: read the settings, load the model, draw until stopped.

The one place where the worker's parts are joined. While it gets ready, its presence says how far
it is; a failed start says why and ends with status 1.
"""

import logging
import secrets
import socket
import sys
import time

import torch
from redis import Redis

from models.loading import default_device, load_model
from models.pipeline import LatentDiffusion
from protocol.catalogue import Catalogue, ModelCard
from protocol.errors import QueueUnavailable
from protocol.presence import Presence, WorkerState
from protocol.progress import ProgressBoard
from protocol.redis_client import connect
from protocol.store import ObjectStore
from worker.announcer import REPEAT_S, Announcer
from worker.card import model_card
from worker.deliver import Delivery
from worker.engine import Engine
from worker.logs import log_as_json
from worker.loop import EngineBroken
from worker.metrics import Metrics
from worker.reporter import Reporter
from worker.rq_worker import RqWorker
from worker.settings import WorkerSettings
from worker.ticker import Chore, Ticker
from worker.warmup import warm_up

logger = logging.getLogger(__name__)

REDIS_RETRY_S = 1.0
LOADED = 0.9  # the share of getting ready that loading is; the rest is warming up


def main() -> int:
    """The exit status: 0 after an orderly stop, 1 if this worker could not start or go on."""
    log_as_json()
    settings = WorkerSettings()
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    with connect(settings.redis_url) as redis:
        announcer = Announcer(Presence(redis), name)
        with Ticker(Chore(REPEAT_S, announcer.repeat)):
            try:
                model, card = _get_ready(settings, announcer)
            except Exception as error:  # whatever it is, it is shown, not hidden behind "starting"
                logger.error("cannot start", exc_info=error)
                announcer.say(state=WorkerState.SETUP_FAILED, detail=str(error))
                return 1
            status = _serve(settings, redis, name, model, card, announcer)
        announcer.leave()
    return status


def _get_ready(settings: WorkerSettings, announcer: Announcer) -> tuple[LatentDiffusion, ModelCard]:
    """Load and warm up the model, telling how far it is."""
    source = settings.model or "bundled"
    device = default_device() if settings.device == "auto" else torch.device(settings.device)

    def report(fraction: float, what: str) -> None:
        announcer.say(
            state=WorkerState.LOADING, device=str(device), detail=what, progress=LOADED * fraction
        )

    model = load_model(source, device, report=report)
    card = model_card(model, source)
    announcer.say(model=card.name, detail="warming up")
    warm_up(model, settings.worker_attention, card.default_width, card.default_height)
    return model, card


def _serve(
    settings: WorkerSettings,
    redis: Redis,
    name: str,
    model: LatentDiffusion,
    card: ModelCard,
    announcer: Announcer,
) -> int:
    metrics = Metrics()
    metrics.serve(settings.worker_metrics_host, settings.worker_metrics_port)
    delivery = Delivery(
        ObjectStore.open(settings.object_store_url),
        settings.worker_delivery_threads,
        settings.worker_store_patience_s,
    )
    worker = RqWorker(
        redis,
        name,
        card.name,
        Engine(model, settings.worker_slots),
        delivery,
        Reporter(ProgressBoard(redis)),
        metrics,
        settings,
    )
    _publish(redis, card, model.text[0].tokenizer.to_json())
    announcer.serve(busy=lambda: bool(worker.loop.claims))
    logger.info("ready", extra={"worker": name, "model": card.name, "device": str(model.device)})
    try:
        worker.work()
    except EngineBroken:
        logger.exception("the engine is broken, ending")
        return 1
    finally:
        announcer.say(state=WorkerState.STOPPING)
        delivery.close()
    return 0


def _publish(redis: Redis, card: ModelCard, tokenizer_json: str) -> None:
    """Offer the model, however long it takes Redis to answer."""
    while True:
        try:
            Catalogue(redis).publish(card, tokenizer_json)
            return
        except QueueUnavailable:
            logger.warning("cannot publish the model: redis is away")
            time.sleep(REDIS_RETRY_S)


if __name__ == "__main__":
    sys.exit(main())
