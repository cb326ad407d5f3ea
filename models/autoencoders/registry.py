"""Which first stages there are, and how one is loaded from a folder of the published layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage import FirstStage
from models.autoencoders.first_stage_config import AutoencoderConfig, TinyConfig, VQConfig
from models.autoencoders.tiny_autoencoder import AutoencoderTiny
from models.autoencoders.vq import VQModel
from models.checkpoints.checkpoint import (
    CheckpointError,
    CheckpointMissing,
    load_component,
    read_json,
)

# By the `_class_name` of their config.json.
_KINDS: dict[str, Callable[[Mapping[str, Any]], FirstStage]] = {
    "AutoencoderKL": lambda config: AutoencoderKL(AutoencoderConfig.from_dict(config)),
    "VQModel": lambda config: VQModel(VQConfig.from_dict(config)),
    "AutoencoderTiny": lambda config: AutoencoderTiny(TinyConfig.from_dict(config)),
}


def first_stage_folder(model: Path) -> Path:
    """The folder of a model's first stage: `vae`, or `vqvae` in models of the paper."""
    for name in ("vae", "vqvae"):
        if (model / name).is_dir():
            return model / name
    raise CheckpointMissing(f"{model} has neither vae/ nor vqvae/")


def build_first_stage(config: Mapping[str, Any]) -> FirstStage:
    """The network that a config.json describes, without its weights.

    Raises CheckpointError for a class that is none of these, UnsupportedConfig for what none can.
    """
    build = _KINDS.get(str(config.get("_class_name")))
    if build is None:
        raise CheckpointError(
            f"first stage {config.get('_class_name')!r} is not supported; have {', '.join(_KINDS)}"
        )
    return build(config)


def load_first_stage(folder: Path, dtype: torch.dtype, device: torch.device) -> FirstStage:
    """The first stage of `folder`/config.json.

    In single precision whatever `dtype` says if its configuration asks for it: SDXL's autoencoder
    overflows in half precision.
    """
    with torch.device("meta"):
        config = build_first_stage(read_json(folder / "config.json")).config
    chosen = torch.float32 if config.force_upcast else dtype
    return load_component(folder, build_first_stage, chosen, device)


def load_alike(
    folder: Path, like: FirstStage, dtype: torch.dtype, device: torch.device
) -> FirstStage:
    """The first stage of `folder`, which is for the latents of `like`.

    Where its configuration does not say by what its latents are scaled, as that of a single file,
    or whether half precision is enough for it, it is as with `like`.

    Raises CheckpointError if its latents are of another shape.
    """
    config = read_json(folder / "config.json")
    unsaid: dict[str, Any] = {}
    if config.get("_class_name") == "AutoencoderKL":
        asked = ("scaling_factor", "force_upcast")
        unsaid = {key: getattr(like.config, key) for key in asked if key not in config}
    upcast = unsaid.get("force_upcast", False)
    stage = load_first_stage(folder, torch.float32 if upcast else dtype, device)
    stage.config = replace(stage.config, **unsaid)
    shapes = [(s.config.latent_channels, s.config.factor) for s in (stage, like)]
    if shapes[0] != shapes[1]:
        sizes = ", the model's have ".join(f"{c} channels for {f} pixels" for c, f in shapes)
        raise CheckpointError(f"{folder} does not fit the model: its latents have {sizes}")
    return stage
