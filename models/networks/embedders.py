"""The two small embedders of the paper: of a class, and of a map of classes.

Rombach et al. 2022, sections 4.3 and 4.3.2. Their configurations use the names of CompVis'
published ones; neither has a diffusers counterpart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoints.config_fields import select


@dataclass(frozen=True)
class ClassEmbedderConfig:
    """Fields of `class_embedder/config.json`. The last class stands for none at all."""

    n_classes: int = 1001
    embed_dim: int = 512

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**select(cls, data, {}))

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "ClassEmbedder", **asdict(self)}


class ClassEmbedder(nn.Module):
    """classes (B,), 0 to n_classes - 1 -> context (B, 1, D)."""

    def __init__(self, config: ClassEmbedderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.n_classes, config.embed_dim)

    @property
    def unconditional(self) -> int:
        """Return the class that stands for no class in training."""
        return self.config.n_classes - 1

    def forward(self, classes: Tensor) -> Tensor:
        context: Tensor = self.embedding(classes[:, None])
        return context


@dataclass(frozen=True)
class SpatialRescalerConfig:
    """Fields of `rescaler/config.json`: halved `n_stages` times, then mapped to `out_channels`."""

    n_stages: int = 2
    in_channels: int = 182
    out_channels: int = 3

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        neutral = {"method": ("bilinear",), "multiplier": (0.5,), "bias": (False,)}
        return cls(**select(cls, data, neutral))

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "SpatialRescaler", **asdict(self)}


class SpatialRescaler(nn.Module):
    """maps (B, C, H, W) -> (B, C', H / 2ⁿ, W / 2ⁿ), concatenated with latents of that size."""

    def __init__(self, config: SpatialRescalerConfig) -> None:
        super().__init__()
        self.config = config
        self.channel_mapper = nn.Conv2d(config.in_channels, config.out_channels, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        for _ in range(self.config.n_stages):
            maps = F.interpolate(maps, scale_factor=0.5, mode="bilinear")
        out: Tensor = self.channel_mapper(maps)
        return out
