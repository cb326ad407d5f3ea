"""Describes the configured models before they are loaded: card, size and tokenizer.

Only small files are read: the networks are built without their weights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import ValidationError

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.hub import fetch_component, fetch_configs
from models.conditioners.clip import text_stages
from models.loading.footprint import META, weights_bytes
from models.loading.loader import BUNDLED, load_model
from models.loading.replacements import with_tiny
from models.networks.safety_checker import ships_safety_checker
from models.pipeline import LatentDiffusion
from protocol.registry.models_config import InvalidModelsConfig, ModelConfig, read_models_config
from protocol.request.model_card import ModelCard
from worker.model_info.model_card import model_card, model_name
from worker.model_info.sources import locate, network_folder, without_weights
from worker.model_info.weights_dtype import weights_dtype
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

EMBEDDINGS = "embeddings"  # the folder of textual inversion embeddings in the model store


@dataclass(frozen=True)
class ModelDescription:
    """A model that can be served.

    `source`: a path, a hub id, or "bundled". `skeleton`: its networks without weights. `size`: the
    bytes of the weights, including the safety checker's if that is on.
    """

    config: ModelConfig
    source: str
    skeleton: LatentDiffusion
    card: ModelCard
    tokenizer_json: str
    size: int


@dataclass(frozen=True)
class DescribedModels:
    """All models of a worker by name.

    `broken`: why the others cannot be described. `budget`: the bytes that weights may take; None:
    unbounded.
    """

    descriptions: Mapping[str, ModelDescription]
    broken: Mapping[str, str]
    budget: int | None


def describe_models(settings: WorkerSettings, device: torch.device) -> DescribedModels:
    """Describe the models of the models config, or the single model that the settings name.

    Raises InvalidModelsConfig, and, for a single model, CheckpointError and ValueError.
    """
    if settings.catalogue is None:
        description = _describe_single(settings, device)
        return DescribedModels({description.card.name: description}, {}, None)
    models_config = read_models_config(settings.catalogue)
    descriptions: dict[str, ModelDescription] = {}
    broken: dict[str, str] = {}
    for name, config in models_config.models.items():
        try:
            descriptions[name] = _describe_entry(name, config, settings, device)
        except (CheckpointError, ValueError) as error:
            broken[name] = str(error)
            logger.error("a model cannot be served", extra={"model": name, "error": str(error)})
    for name, description in list(descriptions.items()):
        refiner = description.config.refiner
        if refiner is not None and refiner in broken:
            broken[name] = f"its refiner {refiner} cannot be loaded: {broken[refiner]}"
            del descriptions[name]
    return DescribedModels(descriptions, broken, models_config.memory_budget)


def _describe_single(settings: WorkerSettings, device: torch.device) -> ModelDescription:
    config = ModelConfig(source=settings.model or "bundled", resident=True)
    source = locate(config.source, settings.models_home / "models")
    return _describe(config, source, {}, settings, device)


def _describe_entry(
    name: str, config: ModelConfig, settings: WorkerSettings, device: torch.device
) -> ModelDescription:
    assert settings.catalogue is not None
    base = settings.catalogue.resolve().parent
    source = locate(config.source, settings.models_home / "models", base)
    refiners = () if config.refiner is None else (config.refiner,)
    fields = {"name": name, "aliases": config.aliases, "refiners": refiners}
    try:
        return _describe(config, source, config.defaults | fields, settings, device)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        raise InvalidModelsConfig(f"models.{name}.defaults: {faults}") from error


def _describe(
    config: ModelConfig,
    source: str,
    card_fields: Mapping[str, object],
    settings: WorkerSettings,
    device: torch.device,
) -> ModelDescription:
    skeleton = _skeleton(config, source, settings)
    dtype = weights_dtype(device, config.precision or settings.worker_precision)
    safety = settings.worker_safety != "off" and ships_safety_checker(skeleton.folder)
    return ModelDescription(
        config,
        source,
        skeleton,
        model_card(skeleton, model_name(source), card_fields),
        _tokenizer_json(skeleton),
        weights_bytes(skeleton, dtype, safety=safety),
    )


def _skeleton(config: ModelConfig, source: str, settings: WorkerSettings) -> LatentDiffusion:
    """Build the networks of a model without their weights."""
    folder = BUNDLED if source == "bundled" else without_weights(source)
    embeddings = settings.models_home / EMBEDDINGS
    unet = None
    if config.unet is not None:
        unet = network_folder(config.unet, "unet", settings, fetch_configs)
    skeleton = load_model(str(folder), META, torch.float32, embeddings=embeddings, unet=unet)
    if config.tiny_vae is not None:
        tiny = network_folder(config.tiny_vae, "vae", settings, fetch_component)
        skeleton = with_tiny(skeleton, tiny)
    return skeleton


def _tokenizer_json(model: LatentDiffusion) -> str:
    """Return the tokenizer that counts a prompt's tokens, or "" for a model without prompts."""
    tokenizer = model.conditioner.tokenizer
    others = [stage.tokenizer for stage in text_stages(model.conditioner)[1:]]
    return "" if tokenizer is None else tokenizer.to_json(*others)
