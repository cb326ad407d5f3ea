"""What an operator has declared, described before it is loaded: its card, its size, its tokenizer.

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

EMBEDDINGS = "embeddings"  # the folder of learned words in the models' home


@dataclass(frozen=True)
class ModelDescription:
    """A model that can be served.

    `source`: where it is. `skeleton`: its networks without weights. `size`: the bytes that these
    take, with the safety checker if one looks at its pictures.
    """

    declared: ModelConfig
    source: str
    skeleton: LatentDiffusion
    card: ModelCard
    tokenizer_json: str
    size: int


@dataclass(frozen=True)
class Plan:
    """All that a worker is to serve: what is wrong with the rest, by name, and the bytes that
    weights may take, if they are bounded."""

    offerings: Mapping[str, ModelDescription]
    broken: Mapping[str, str]
    budget: int | None


def plan(settings: WorkerSettings, device: torch.device) -> Plan:
    """What the settings declare: the models of the catalogue, or the one they name.

    Raises InvalidModelsConfig, and, where only one model is named, CheckpointError and ValueError.
    """
    if settings.catalogue is None:
        offering = _single(settings, device)
        return Plan({offering.card.name: offering}, {}, None)
    catalogue = read_models_config(settings.catalogue)
    offerings: dict[str, ModelDescription] = {}
    broken: dict[str, str] = {}
    for name, declared in catalogue.models.items():
        try:
            offerings[name] = _declared(name, declared, settings, device)
        except (CheckpointError, ValueError) as error:
            broken[name] = str(error)
            logger.error("a model cannot be offered", extra={"model": name, "error": str(error)})
    for name, offering in list(offerings.items()):
        refiner = offering.declared.refiner
        if refiner is not None and refiner in broken:
            broken[name] = f"its refiner {refiner} cannot be loaded: {broken[refiner]}"
            del offerings[name]
    return Plan(offerings, broken, catalogue.memory_budget)


def _single(settings: WorkerSettings, device: torch.device) -> ModelDescription:
    declared = ModelConfig(source=settings.model or "bundled", resident=True)
    source = locate(declared.source, settings.models_home / "models")
    return _offering(declared, source, {}, settings, device)


def _declared(
    name: str, declared: ModelConfig, settings: WorkerSettings, device: torch.device
) -> ModelDescription:
    assert settings.catalogue is not None
    source = locate(
        declared.source, settings.models_home / "models", settings.catalogue.resolve().parent
    )
    refiners = () if declared.refiner is None else (declared.refiner,)
    entries = {"name": name, "aliases": declared.aliases, "refiners": refiners}
    try:
        return _offering(declared, source, declared.defaults | entries, settings, device)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        raise InvalidModelsConfig(f"models.{name}.defaults: {faults}") from error


def _offering(
    declared: ModelConfig,
    source: str,
    entries: Mapping[str, object],
    settings: WorkerSettings,
    device: torch.device,
) -> ModelDescription:
    folder = BUNDLED if source == "bundled" else without_weights(source)
    words = settings.models_home / EMBEDDINGS
    unet = None
    if declared.unet is not None:
        unet = network_folder(declared.unet, "unet", settings, fetch_configs)
    skeleton = load_model(str(folder), META, torch.float32, embeddings=words, unet=unet)
    if declared.tiny_vae is not None:
        tiny = network_folder(declared.tiny_vae, "vae", settings, fetch_component)
        skeleton = with_tiny(skeleton, tiny)
    dtype = weights_dtype(device, declared.precision or settings.worker_precision)
    safety = settings.worker_safety != "off" and ships_safety_checker(skeleton.folder)
    return ModelDescription(
        declared,
        source,
        skeleton,
        model_card(skeleton, model_name(source), entries),
        _tokenizer_json(skeleton),
        weights_bytes(skeleton, dtype, safety=safety),
    )


def _tokenizer_json(model: LatentDiffusion) -> str:
    """What counts the tokens of a prompt; nothing where there are no prompts."""
    tokenizer = model.conditioner.tokenizer
    others = [stage.tokenizer for stage in text_stages(model.conditioner)[1:]]
    return "" if tokenizer is None else tokenizer.to_json(*others)
