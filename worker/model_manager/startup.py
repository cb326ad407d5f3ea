"""From the settings to a worker's models: described, on the shelf, the first of them in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

import torch

from models.checkpoints.hub import fetch_part
from models.loading.loader import Fetching, load_model
from models.loading.replacements import with_first_stage, with_tiny
from protocol.registry.presence import WorkerState
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import LoadedModel
from worker.engine.memory import free_bytes
from worker.model_info.compatibility import fitting
from worker.model_info.extra_networks import Offer
from worker.model_info.model_description import EMBEDDINGS, ModelDescription, Plan, plan
from worker.model_info.sources import network_folder
from worker.model_info.weights_dtype import weights_dtype
from worker.model_manager.eviction_policy import EvictionPolicy, ModelEntry
from worker.model_manager.loader import Loader, Report
from worker.model_manager.model_manager import ModelManager
from worker.model_manager.warmup import empty_engine, ready_resident
from worker.settings import WorkerSettings
from worker.telemetry.heartbeat import Heartbeat
from worker.telemetry.metrics import Metrics

LOADED = 0.9  # the share of getting ready that loading is; the rest is warming up


@dataclass(frozen=True)
class Opened:
    """A worker's engine, its models, and what it offers of them."""

    engine: DiffusionEngine
    shelf: ModelManager
    offers: Sequence[Offer]


def start_models(
    settings: WorkerSettings, device: torch.device, announcer: Heartbeat, metrics: Metrics
) -> Opened:
    """Read what is to be served, and load the first of it, telling how far that is.

    Raises whatever speaks against serving anything at all.
    """
    announcer.say(state=WorkerState.LOADING, device=str(device), detail="reading configurations")
    planned = plan(settings, device)
    engine = empty_engine(device, settings)

    def load(name: str, report: Report) -> LoadedModel:
        return _load(planned.offerings[name], settings, device, report)

    def tell(name: str, share: float, what: str) -> None:
        announcer.say(state=WorkerState.LOADING, model=name, detail=what, progress=share)

    shelf = ModelManager(
        engine,
        Loader(load),
        _books(planned, settings),
        planned.broken,
        metrics,
        free=lambda: free_bytes(device),
    )
    shelf.load_first(tell)
    announcer.say(model=next(iter([*shelf.takes(), *shelf.names])))
    home = settings.models_home
    offers = [
        Offer(offering.card, offering.tokenizer_json, fitting(offering.skeleton, home))
        for offering in planned.offerings.values()
    ]
    return Opened(engine, shelf, offers)


def _books(planned: Plan, settings: WorkerSettings) -> EvictionPolicy:
    lodgers = {name: _lodger(offering) for name, offering in planned.offerings.items()}
    budget = inf if planned.budget is None else planned.budget
    return EvictionPolicy(lodgers, budget, settings.worker_model_patience_s)


def _lodger(offering: ModelDescription) -> ModelEntry:
    declared = offering.declared
    return ModelEntry(
        offering.size,
        stays=declared.resident is True,
        needs=() if declared.refiner is None else (declared.refiner,),
        idle_s=declared.idle_unload_s,
    )


def _load(
    offering: ModelDescription, settings: WorkerSettings, device: torch.device, report: Report
) -> LoadedModel:
    """Read the weights, then choose what runs them and measure it."""
    declared, card = offering.declared, offering.card
    precision = declared.precision or settings.worker_precision
    dtype = weights_dtype(device, precision)
    half = dtype != torch.float32

    def loading(share: float, what: str) -> None:
        report(LOADED * share, what)

    download = partial(fetch_part, half=half)
    unet = None
    if declared.unet is not None:
        told = partial(download, report=Fetching(loading))
        unet = network_folder(declared.unet, "unet", settings, told)
    words = settings.models_home / EMBEDDINGS
    model = load_model(offering.source, device, dtype, loading, words, unet)
    if declared.vae is not None:
        model = with_first_stage(model, network_folder(declared.vae, "vae", settings, download))
    if declared.tiny_vae is not None:
        model = with_tiny(model, network_folder(declared.tiny_vae, "vae", settings, download))
    report(LOADED, "warming up")
    chosen = settings.model_copy(update={"worker_precision": precision})
    return ready_resident(model, (card.default_width, card.default_height), chosen)
