"""Starts a worker's models: describes all that are configured and loads the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf

import torch

from models.checkpoints.hub import fetch_component
from models.loading.loader import Fetching, load_model
from models.loading.replacements import with_first_stage, with_tiny
from models.pipeline import LatentDiffusion
from protocol.registry.presence import WorkerState
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import LoadedModel
from worker.engine.memory import free_bytes
from worker.model_info.model_description import EMBEDDINGS, ModelDescription, describe_models
from worker.model_info.sources import network_folder
from worker.model_info.weights_dtype import weights_dtype
from worker.model_manager.eviction_policy import EvictionPolicy, ModelEntry
from worker.model_manager.model_manager import ModelManager, ProgressCallback
from worker.model_manager.warmup import empty_engine, ready_resident
from worker.settings import WorkerSettings
from worker.telemetry.heartbeat import Heartbeat
from worker.telemetry.metrics import Metrics

LOADED = 0.9  # share of the progress that loading takes; the rest is the warmup


def start_models(
    settings: WorkerSettings, device: torch.device, heartbeat: Heartbeat, metrics: Metrics
) -> tuple[DiffusionEngine, ModelManager, Sequence[ModelDescription]]:
    """Describe the configured models, and load the first of them, with progress as heartbeats.

    Raises any error that prevents the worker from serving a single model.
    """
    heartbeat.update(state=WorkerState.LOADING, device=str(device), detail="reading configurations")
    described = describe_models(settings, device)
    descriptions = described.descriptions

    def load(name: str, report: ProgressCallback) -> LoadedModel:
        return _load(descriptions[name], settings, device, report)

    def report(name: str, share: float, part: str) -> None:
        heartbeat.update(state=WorkerState.LOADING, model=name, detail=part, progress=share)

    entries = {name: _entry(description) for name, description in descriptions.items()}
    budget = inf if described.budget is None else described.budget
    policy = EvictionPolicy(entries, budget, settings.worker_model_patience_s)
    engine = empty_engine(device, settings)
    free = partial(free_bytes, device)
    manager = ModelManager(engine, load, policy, described.broken, metrics, free)
    manager.load_first(report)
    heartbeat.update(model=next(iter([*manager.claimable(), *manager.names])))
    return engine, manager, list(descriptions.values())


def _entry(description: ModelDescription) -> ModelEntry:
    config = description.config
    return ModelEntry(
        description.size,
        resident=config.resident is True,
        needs=() if config.refiner is None else (config.refiner,),
        idle_unload_s=config.idle_unload_s,
    )


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
    embeddings = settings.models_home / EMBEDDINGS
    model = load_model(description.source, device, dtype, report, embeddings, unet)
    if config.vae is not None:
        model = with_first_stage(model, network_folder(config.vae, "vae", settings, download))
    if config.tiny_vae is not None:
        model = with_tiny(model, network_folder(config.tiny_vae, "vae", settings, download))
    return model
