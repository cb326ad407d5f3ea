"""Registry of the first stages, and loading from a folder of the published layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from models.autoencoders.asymmetric import AsymmetricAutoencoderKL
from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage import FirstStage
from models.autoencoders.first_stage_config import (
    SD_SCALING_FACTOR,
    SDXL_SCALING_FACTOR,
    AsymmetricConfig,
    AutoencoderConfig,
    FirstStageConfig,
    TinyConfig,
    VQConfig,
)
from models.autoencoders.tiny_autoencoder import AutoencoderTiny
from models.autoencoders.vq import VQModel
from models.checkpoints.checkpoint import (
    CheckpointError,
    CheckpointMissing,
    build_on_meta,
    load_component,
    read_json,
)
from models.checkpoints.detect.unsupported import refuse_network

# `_class_name` of a config.json -> network.
_KINDS: dict[str, Callable[[Mapping[str, Any]], FirstStage]] = {
    "AutoencoderKL": lambda config: AutoencoderKL(AutoencoderConfig.from_dict(config)),
    "AsymmetricAutoencoderKL": lambda config: AsymmetricAutoencoderKL(
        AsymmetricConfig.from_dict(config)
    ),
    "VQModel": lambda config: VQModel(VQConfig.from_dict(config)),
    "AutoencoderTiny": lambda config: AutoencoderTiny(TinyConfig.from_dict(config)),
}

# The classes whose latents are scaled; a single file does not say by how much.
_SCALED = ("AutoencoderKL", "AsymmetricAutoencoderKL")

# With the scale, these say how latents are normalised.
_NORMALISING = ("shift_factor", "latents_mean", "latents_std")


# The folders of a model's first stage; the second in models of the paper.
FIRST_STAGES = ("vae", "vqvae")


def first_stage_folder(model: Path) -> Path:
    """Return the folder of a model's first stage.

    Raises CheckpointMissing if there is neither.
    """
    for name in FIRST_STAGES:
        if (model / name).is_dir():
            return model / name
    raise CheckpointMissing(
        f"{model} has neither vae/ nor vqvae/: another model's can be named as `vae` in the models "
        "config"
    )


def build_first_stage(config: Mapping[str, Any]) -> FirstStage:
    """Build the network that a config.json describes, without its weights.

    Raises CheckpointError for an unknown class, by what it is where that is known, and
    UnsupportedConfig for unsupported options.
    """
    build = _KINDS.get(str(config.get("_class_name")))
    if build is None:
        refuse_network(str(config.get("_class_name")))
        raise CheckpointError(
            f"first stage {config.get('_class_name')!r} is not supported; have {', '.join(_KINDS)}"
        )
    return build(config)


def load_first_stage(folder: Path, dtype: torch.dtype, device: torch.device) -> FirstStage:
    """Load the first stage of `folder`/config.json.

    In single precision independent of `dtype` if its configuration requires it: SDXL's autoencoder
    overflows in half precision.
    """
    config = build_on_meta(folder / "config.json", build_first_stage).config
    chosen = torch.float32 if config.force_upcast else dtype
    return load_component(folder, build_first_stage, chosen, device)


def load_compatible(
    folder: Path, like: FirstStageConfig, dtype: torch.dtype, device: torch.device
) -> FirstStage:
    """Load the first stage of `folder`, which has the same latents as `like`.

    Where its configuration lacks the scale of its latents, as that of a single file does, or
    whether half precision is enough, both are taken from `like`.

    Raises CheckpointError if its latents have another shape.
    """
    config = read_json(folder / "config.json")
    missing: dict[str, Any] = {}
    if (kind := config.get("_class_name")) in _SCALED:
        keys = ("scaling_factor", "force_upcast")
        missing = {key: getattr(like, key) for key in keys if key not in config}
        normalises = kind == "AutoencoderKL" and isinstance(like, AutoencoderConfig)
        if normalises and "scaling_factor" in missing:
            missing |= {key: getattr(like, key) for key in _NORMALISING}
    upcast = missing.get("force_upcast", False)
    stage = load_first_stage(folder, torch.float32 if upcast else dtype, device)
    stage.config = replace(stage.config, **missing)
    shapes = [(c.latent_channels, c.factor) for c in (stage.config, like)]
    if shapes[0] != shapes[1]:
        sizes = ", the model's have ".join(f"{c} channels for {f} pixels" for c, f in shapes)
        raise CheckpointError(f"{folder} does not fit the model: its latents have {sizes}")
    return stage


def load_missing(
    folder: Path, latent_channels: int, *, sdxl: bool, dtype: torch.dtype, device: torch.device
) -> FirstStage:
    """Load the first stage of `folder` for a model that has none.

    Where its configuration lacks the scale of its latents, it is that of SDXL or, for other models,
    of Stable Diffusion.

    Raises CheckpointError if its latents have other channels than the model's UNet.
    """
    own = build_on_meta(folder / "config.json", build_first_stage).config
    if own.latent_channels != latent_channels:
        raise CheckpointError(
            f"{folder} does not fit the model: its latents have {own.latent_channels} channels, "
            f"the model's have {latent_channels}"
        )
    scale = SDXL_SCALING_FACTOR if sdxl else SD_SCALING_FACTOR
    return load_compatible(
        folder, replace(own, scaling_factor=scale, force_upcast=sdxl), dtype, device
    )
