"""What a model promises clients: bounds and defaults, read off its files, not its weights.

A `darkroom.json` beside `model_index.json` may override any entry of the card; that is where an
operator says what the published files do not (a name, a description, better defaults).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.autoencoders.pixels import RGB
from models.checkpoints.checkpoint import read_json
from models.conditioners.clip import embedding_names, max_clip_skip
from models.pipeline import LatentDiffusion
from models.samplers.schedules.registry import schedules_of
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import Extra
from protocol.request.request import MOST_CLIP_SKIP, Decoder
from protocol.request.samplers import SAMPLERS
from worker.model_info.published_sampler import published_sampler
from worker.model_info.task_card import task_entries

CARD_FILE = "darkroom.json"
NOTHING: Mapping[str, object] = {}
# The family whose pictures can be heard, and the models known to be of it by their published name:
# in their files they are like any other.
SPECTROGRAMS = "riffusion"
SPECTROGRAM_MODELS = {"riffusion-model-v1"}
LONGEST_PROMPT_CHUNKS = 4  # rows of 77 tokens that a prompt may take
LARGEST_AREA = 4  # times the area that the model was trained at


def model_name(path_or_id: str) -> str:
    """The last part of a path or hub id, in letters that fit a queue's name and a URL."""
    name = Path(path_or_id).name.removesuffix(".safetensors")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def model_card(
    model: LatentDiffusion, path_or_id: str, declared: Mapping[str, object] = NOTHING
) -> ModelCard:
    """The card of `model` (its networks suffice, without weights) from `path_or_id`.

    `declared` are entries that the operator has given. Raises ValueError if overrides are bad.
    """
    first_stage = model.autoencoder.config
    factor = first_stage.factor
    side = model.unet.config.sample_size * factor
    coarsest = factor * 2 ** (len(model.unet.config.block_out_channels) - 1)
    tokenizer = model.conditioner.tokenizer
    chunk = 0 if tokenizer is None else tokenizer.chunk
    scheduler = read_json(model.folder / "scheduler/scheduler_config.json")
    sampler, schedule = published_sampler(scheduler)
    card: dict[str, Any] = {
        "name": model_name(path_or_id),
        "family": "sdxl" if model.is_sdxl else "sd1",
        "size_multiple": factor,
        "default_width": side,
        "default_height": side,
        "min_side": coarsest,
        "max_side": 4 * side,
        "max_pixels": LARGEST_AREA * side * side,
        "samplers": tuple(SAMPLERS),
        "schedules": schedules_of(sdxl=model.is_sdxl),
        "default_sampler": sampler,
        "default_schedule": schedule,
        "max_prompt_tokens": LONGEST_PROMPT_CHUNKS * chunk,
        "chunk_tokens": chunk,
        "embeddings": embedding_names(model.conditioner),
        "max_clip_skip": min(max_clip_skip(model.conditioner), MOST_CLIP_SKIP),
        "decoders": (Decoder.FULL,) if model.tiny is None else tuple(Decoder),
        "outputs": ("image", "depth") if first_stage.out_channels > RGB else ("image",),
        "scaling_factor": first_stage.scaling_factor,
    }
    card |= task_entries(model)
    if card["name"] in SPECTROGRAM_MODELS:
        card["family"] = SPECTROGRAMS
    overrides = model.folder / CARD_FILE
    beside = read_json(overrides) if overrides.exists() else {}
    card |= beside | dict(declared)
    if card["family"] == SPECTROGRAMS:
        card["outputs"] = tuple(dict.fromkeys((*card["outputs"], Extra.SOUND)))
    return ModelCard.model_validate(card)
