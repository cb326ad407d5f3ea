"""SRVGGNetCompact, the small network of Real-ESRGAN (realesr-general-x4v3, realesr-animevideov3).

github.com/xinntao/Real-ESRGAN, realesrgan/archs/srvgg_arch.py at a4abfb2. Module names are those of
its files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from models.upscalers.config import UpscalerConfig, checked_sizes


@dataclass(frozen=True)
class CompactConfig(UpscalerConfig):
    """Sizes of an SRVGGNetCompact: `convolutions` between the first and the last."""

    width: int = 64
    convolutions: int = 32
    upscale: int = 4

    @property
    def scale(self) -> int:
        return self.upscale

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> CompactConfig:
        """Read a config.json. Raises UnsupportedConfig."""
        return checked_sizes(cls, config)


class SRVGGNetCompact(nn.Module):
    """image (B, C, H, W) in [0, 1] -> (B, C, scale·H, scale·W)."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.body = nn.Sequential(*self._layers(config))

    def _layers(self, config: CompactConfig) -> Iterator[nn.Module]:
        channels = config.channels
        for _ in range(config.convolutions + 1):
            yield nn.Conv2d(channels, config.width, 3, padding=1)
            yield nn.PReLU(config.width)
            channels = config.width
        yield nn.Conv2d(channels, config.channels * config.scale**2, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        residual = F.pixel_shuffle(self.body(image), self.config.scale)
        enlarged = F.interpolate(image, scale_factor=float(self.config.scale), mode="nearest")
        out: Tensor = enlarged + residual
        return out
