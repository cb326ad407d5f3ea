"""The card of a model: its limits and defaults, read from its small files without the weights.

A `darkroom.json` next to `model_index.json` may override any field of the card. Operators use it
for a name, a description or better defaults, which the published files do not contain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.autoencoders.pixels import RGB
from models.checkpoints.checkpoint import read_json
from models.checkpoints.names import default_name
from models.conditioners.clip import embedding_names, max_clip_skip
from models.loading.scheduler import read_scheduler
from models.loading.stated import NOTHING_STATED, STATED_FIELDS, STATED_FILE, Stated
from models.pipeline import LatentDiffusion
from models.samplers import fitting_samplers
from models.samplers.schedules.registry import schedules_of
from protocol.request.fields import MAX_CLIP_SKIP
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import Extra
from protocol.request.request import Decoder
from protocol.request.samplers import SAMPLERS
from worker.model_info.published_sampler import published_sampler
from worker.model_info.task_card import task_fields
from worker.model_info.turbo import turbo_fields

NO_FIELDS: Mapping[str, object] = {}
# The family whose images are spectrograms of sound, and its published models. Only the name tells
# them from other models; the files do not.
SPECTROGRAMS = "riffusion"
SPECTROGRAM_MODELS = {"riffusion-model-v1"}
SD2_CONTEXT = 1024  # width of the text features
LONGEST_PROMPT_CHUNKS = 4  # most rows of 77 tokens in a prompt
LARGEST_AREA = 4  # in multiples of the area of the training images


def model_name(path_or_id: str) -> str:
    """Return the name of a model that has none of its own, from its path or hub id."""
    return default_name(path_or_id)


def _family(model: LatentDiffusion) -> str:
    """Return the family, as extra networks are made for it."""
    if model.is_sdxl:
        return "sdxl"
    return "sd2" if model.unet.config.cross_attention_dim == SD2_CONTEXT else "sd1"


def model_card(
    model: LatentDiffusion,
    path_or_id: str,
    configured: Mapping[str, object] = NO_FIELDS,
    stated: Stated = NOTHING_STATED,
) -> ModelCard:
    """Return the card of `model`, which needs no weights, named after `path_or_id`.

    `configured` are fields of the models config; they override those of the files, as does what is
    `stated` of its scheduler. Raises ValueError if an override is invalid.
    """
    first_stage = model.autoencoder.config
    factor = first_stage.factor
    side = model.unet.config.sample_size * factor
    coarsest = factor * 2 ** (len(model.unet.config.block_out_channels) - 1)
    tokenizer = model.conditioner.tokenizer
    chunk = 0 if tokenizer is None else tokenizer.chunk
    levels = model.noise_schedule
    sampler, schedule = published_sampler(read_scheduler(model.folder, stated))
    card: dict[str, Any] = {
        "name": model_name(path_or_id),
        "family": _family(model),
        "size_multiple": factor,
        "default_width": side,
        "default_height": side,
        "min_side": coarsest,
        "max_side": 4 * side,
        "max_pixels": LARGEST_AREA * side * side,
        "samplers": tuple(name for name in SAMPLERS if name in fitting_samplers(levels)),
        "schedules": schedules_of(levels, sdxl=model.is_sdxl),
        "default_sampler": sampler,
        "default_schedule": schedule,
        "max_prompt_tokens": LONGEST_PROMPT_CHUNKS * chunk,
        "chunk_tokens": chunk,
        "embeddings": embedding_names(model.conditioner),
        "max_clip_skip": min(max_clip_skip(model.conditioner), MAX_CLIP_SKIP),
        "decoders": (Decoder.FULL,) if model.tiny is None else tuple(Decoder),
        "outputs": ("image", "depth") if first_stage.out_channels > RGB else ("image",),
        "scaling_factor": first_stage.scaling_factor,
    }
    card |= task_fields(model)
    index = read_json(model.folder / "model_index.json")
    card |= turbo_fields(card["name"], index, side=side, factor=factor, sdxl=model.is_sdxl)
    if card["name"] in SPECTROGRAM_MODELS:
        card["family"] = SPECTROGRAMS
    overrides = model.folder / STATED_FILE
    entries = read_json(overrides) if overrides.exists() else {}
    card |= {key: value for key, value in entries.items() if key not in STATED_FIELDS}
    card |= dict(configured)
    if card["family"] == SPECTROGRAMS:
        card["outputs"] = tuple(dict.fromkeys((*card["outputs"], Extra.SOUND)))
    return ModelCard.model_validate(card)
