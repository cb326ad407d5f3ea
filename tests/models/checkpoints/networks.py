"""Builders of our networks, by the folder of their component."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.autoencoders.registry import build_first_stage
from models.checkpoints.checkpoint import load_component
from models.networks.bert import BertConfig, BertEncoder
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.embedders import (
    ClassEmbedder,
    ClassEmbedderConfig,
    SpatialRescaler,
    SpatialRescalerConfig,
)
from models.networks.text_encoder import TextEncoder
from models.networks.unet import UNet

BUILDERS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "unet": lambda config: UNet(UNetConfig.from_dict(config)),
    "vae": build_first_stage,
    "vqvae": build_first_stage,
    "text_encoder": lambda config: TextEncoder(TextEncoderConfig.from_dict(config)),
    "text_encoder_2": lambda config: TextEncoder(TextEncoderConfig.from_dict(config)),
    "bert": lambda config: BertEncoder(BertConfig.from_dict(config)),
    "class_embedder": lambda config: ClassEmbedder(ClassEmbedderConfig.from_dict(config)),
    "rescaler": lambda config: SpatialRescaler(SpatialRescalerConfig.from_dict(config)),
}


def component(folder: Path, part: str, dtype: torch.dtype = torch.float32) -> Any:
    """Load a network of a model's folder."""
    return load_component(folder / part, BUILDERS[part], dtype, torch.device("cpu"))
