"""Published configurations, reduced: every kind of block, but few channels and few layers.

They are read in place from files outside this project. A test whose file is absent is skipped with
the name of the file.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.shared_files import shared_file

SD15 = "stable-diffusion-v1-5__stable-diffusion-v1-5"
SDXL = "stabilityai__stable-diffusion-xl-base-1.0"
REFINER = "stabilityai__stable-diffusion-xl-refiner-1.0"


def published(model: str, file: str) -> dict[str, Any]:
    """Read a JSON file of a published model, such as `unet/config.json`."""
    path = shared_file(f"facts/checkpoints/configs/{model}/{file}")
    config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return config


def key_list(name: str) -> dict[str, tuple[int, ...]]:
    """Return parameter name -> shape, as in the published weight file."""
    path = shared_file(f"facts/checkpoints/keys/{name}.json")
    tensors = json.loads(path.read_text("utf-8"))["tensors"]
    return {key: tuple(shape) for key, (_, shape) in tensors.items()}


def small_unet(model: str) -> dict[str, Any]:
    config = published(model, "unet/config.json")
    levels = len(config["block_out_channels"])
    config["block_out_channels"] = [32, 64, 96, 96][:levels]
    config["cross_attention_dim"] = 48
    if model == SD15:
        return config | {"attention_head_dim": 8, "sample_size": 16}
    return config | {
        "attention_head_dim": [2, 4, 6, 6][:levels],
        "transformer_layers_per_block": [1, 2, 3, 3][:levels],
        "addition_time_embed_dim": 32,
        "projection_class_embeddings_input_dim": 64 + 6 * 32,
        "sample_size": 16,
    }


def small_autoencoder(model: str) -> dict[str, Any]:
    config = published(model, "vae/config.json")
    return config | {"block_out_channels": [32, 64, 64, 64], "sample_size": 64}


def small_text_encoder(model: str, part: str, hidden: int, projection: int) -> dict[str, Any]:
    config = published(model, f"{part}/config.json")
    return config | {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "projection_dim": projection,
    }
