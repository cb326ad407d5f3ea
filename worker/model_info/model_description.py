"""Describes the configured models before they are loaded: card, size and tokenizer.

Only small files are read: the networks are built without their weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import ValidationError

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.convert.model_store import ModelStore
from models.checkpoints.hub import fetch_component, fetch_configs
from models.checkpoints.meta import META
from models.conditioners.clip import text_stages
from models.loading.embeddings import Embeddings
from models.loading.footprint import weights_bytes
from models.loading.loader import BUNDLED, load_model
from models.loading.replacements import with_tiny
from models.loading.stated import Stated
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

    `source`: a path, a hub id, or "bundled". `skeleton`: its networks without weights, and without
    the words of embeddings, which `card` and `tokenizer_json` have as of now. `size`: the bytes of
    the weights, including the safety checker's if that is on.
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

    @property
    def names(self) -> set[str]:
        """The names of all models, and their aliases."""
        aliases = {a for one in self.descriptions.values() for a in one.card.aliases}
        return {*self.descriptions, *self.broken, *aliases}


def describe_models(settings: WorkerSettings, device: torch.device) -> DescribedModels:
    """Describe the models of the models config, or the single model that the settings name, and
    those that were installed by request.

    Raises InvalidModelsConfig, and, for a single model, CheckpointError and ValueError.
    """
    configured = _describe_configured(settings, device)
    requested = describe_requested(settings, device, configured.names)
    return DescribedModels(
        {**configured.descriptions, **requested.descriptions},
        {**configured.broken, **requested.broken},
        configured.budget,
    )


def describe_requested(
    settings: WorkerSettings, device: torch.device, taken: Collection[str]
) -> DescribedModels:
    """Describe the models that were installed by request, without those whose names are `taken`."""
    store = ModelStore(settings.models_home)
    describe = {
        name: partial(describe_folder, store.path("model", name), name, settings, device)
        for name in store.requested_models()
        if name not in taken
    }
    return DescribedModels(*_describe_each(describe), None)


def describe_folder(
    folder: Path, name: str, settings: WorkerSettings, device: torch.device
) -> ModelDescription:
    """Describe the model in a folder of the model store. Raises CheckpointError and ValueError."""
    return _describe(ModelConfig(source=name), str(folder), {"name": name}, settings, device)


def _describe_each(
    describe: Mapping[str, Callable[[], ModelDescription]],
) -> tuple[dict[str, ModelDescription], dict[str, str]]:
    """Return the descriptions of models, and for each that cannot be described why."""
    descriptions: dict[str, ModelDescription] = {}
    broken: dict[str, str] = {}
    for name, describe_one in describe.items():
        try:
            descriptions[name] = describe_one()
        except (CheckpointError, ValueError) as error:
            broken[name] = str(error)
            logger.error("a model cannot be served", extra={"model": name, "error": str(error)})
        except Exception as error:  # of any kind: the other models can still be served
            broken[name] = f"{type(error).__name__}: {error}"
            logger.error("a model cannot be described", extra={"model": name}, exc_info=error)
    return descriptions, broken


def _describe_configured(settings: WorkerSettings, device: torch.device) -> DescribedModels:
    if settings.catalogue is None:
        description = _describe_single(settings, device)
        return DescribedModels({description.card.name: description}, {}, None)
    models_config = read_models_config(settings.catalogue)
    descriptions, broken = _describe_each(
        {
            name: partial(_describe_entry, name, config, settings, device)
            for name, config in models_config.models.items()
        }
    )
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
    fields |= {} if config.family is None else {"family": config.family}
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
    extended = Embeddings(settings.models_home / EMBEDDINGS).extended(skeleton)
    return ModelDescription(
        config,
        source,
        skeleton,
        model_card(extended, model_name(source), card_fields, stated_by(config)),
        tokenizer_json(extended),
        weights_bytes(skeleton, dtype, safety=safety),
    )


def stated_by(config: ModelConfig) -> Stated:
    """Return what an entry of the models config states in place of the model's files."""
    return Stated(config.prediction_type, config.zero_terminal_snr, config.flow_shift, config.ema)


def _skeleton(config: ModelConfig, source: str, settings: WorkerSettings) -> LatentDiffusion:
    """Build the networks of a model without their weights."""
    folder = BUNDLED if source == "bundled" else without_weights(source)
    unet = None
    if config.unet is not None:
        unet = network_folder(config.unet, "unet", settings, fetch_configs)
    first_stage = None
    if config.vae is not None:
        first_stage = network_folder(config.vae, "vae", settings, fetch_configs)
    skeleton = load_model(
        str(folder),
        META,
        torch.float32,
        unet=unet,
        first_stage=first_stage,
        stated=stated_by(config),
    )
    if config.tiny_vae is not None:
        tiny = network_folder(config.tiny_vae, "vae", settings, fetch_component)
        skeleton = with_tiny(skeleton, tiny)
    return skeleton


def tokenizer_json(model: LatentDiffusion) -> str:
    """Return the tokenizer that counts a prompt's tokens, or "" for a model without prompts."""
    tokenizer = model.conditioner.tokenizer
    others = [stage.tokenizer for stage in text_stages(model.conditioner)[1:]]
    return "" if tokenizer is None else tokenizer.to_json(*others)
