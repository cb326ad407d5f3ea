"""Starts a worker's models: describes all that are configured and loads the first of them."""

from __future__ import annotations

from functools import partial
from math import inf

import torch

from models.checkpoints.hub import fetch_component
from models.loading.loader import Fetching, load_model
from models.loading.replacements import with_tiny
from models.pipeline import LatentDiffusion
from protocol.registry.presence import WorkerState
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import LoadedModel
from worker.engine.memory import free_bytes
from worker.model_info.extra_networks import ModelCards
from worker.model_info.model_description import ModelDescription, describe_models, stated_by
from worker.model_info.sources import network_folder
from worker.model_info.weights_dtype import weights_dtype
from worker.model_manager.eviction_policy import EvictionPolicy
from worker.model_manager.model_manager import ModelManager, ProgressCallback
from worker.model_manager.served_models import ServedModels, entry_of
from worker.model_manager.warmup import (
    empty_engine,
    installed_upscalers,
    ready_resident,
    reserved_bytes,
)
from worker.settings import WorkerSettings
from worker.telemetry.heartbeat import Heartbeat
from worker.telemetry.metrics import Metrics

LOADED = 0.9  # share of the progress that loading takes; the rest is the warmup


def start_models(
    settings: WorkerSettings, device: torch.device, heartbeat: Heartbeat, metrics: Metrics
) -> tuple[DiffusionEngine, ServedModels]:
    """Describe the models, and load the first of them, with progress as heartbeats.

    Raises any error that prevents the worker from serving a single model.
    """
    heartbeat.update(state=WorkerState.LOADING, device=str(device), detail="reading configurations")
    described = describe_models(settings, device)
    descriptions = dict(described.descriptions)

    def load(name: str, report: ProgressCallback) -> LoadedModel:
        return _load(descriptions[name], settings, device, report)

    def report(name: str, share: float, part: str) -> None:
        heartbeat.update(state=WorkerState.LOADING, model=name, detail=part, progress=share)

    entries = {name: entry_of(description) for name, description in descriptions.items()}
    upscalers = installed_upscalers(device, settings)
    budget = inf if described.budget is None else described.budget
    folders = [description.skeleton.folder for description in descriptions.values()]
    budget -= upscalers.reserve() + reserved_bytes(settings, device, folders)
    policy = EvictionPolicy(entries, budget, settings.worker_model_patience_s)
    engine = empty_engine(device, settings, upscalers)
    free = partial(free_bytes, device)
    manager = ModelManager(engine, load, policy, described.broken, metrics, free)
    manager.load_first(report)
    heartbeat.update(model=next(iter([*manager.claimable(), *manager.names])))
    cards = ModelCards(list(descriptions.values()), settings.models_home, upscalers)
    names = described.names
    return engine, ServedModels(settings, device, descriptions, names, manager, cards)


def _load(
    description: ModelDescription,
    settings: WorkerSettings,
    device: torch.device,
    report: ProgressCallback,
) -> LoadedModel:
    """Read the weights, then choose the executor and measure the steps."""
    config, card = description.config, description.card
    precision = config.precision or settings.worker_precision
    chosen = settings.model_copy(update={"worker_precision": precision})
    model = _read(description, chosen, device, lambda share, part: report(LOADED * share, part))
    report(LOADED, "warming up")
    return ready_resident(model, (card.default_width, card.default_height), chosen)


def _read(
    description: ModelDescription,
    settings: WorkerSettings,
    device: torch.device,
    report: ProgressCallback,
) -> LatentDiffusion:
    """Read the weights of a model and of the networks that replace its own."""
    config = description.config
    dtype = weights_dtype(device, settings.worker_precision)
    download = partial(fetch_component, half=dtype != torch.float32)
    unet = None
    if config.unet is not None:
        reported = partial(download, report=Fetching(report))
        unet = network_folder(config.unet, "unet", settings, reported)
    first_stage = None
    if config.vae is not None:
        first_stage = network_folder(config.vae, "vae", settings, download)
    model = load_model(
        description.source,
        device,
        dtype,
        report,
        unet=unet,
        first_stage=first_stage,
        stated=stated_by(config),
    )
    if config.tiny_vae is not None:
        model = with_tiny(model, network_folder(config.tiny_vae, "vae", settings, download))
    return model
