"""RRDBNet, the network of ESRGAN (Wang et al. 2018) and Real-ESRGAN (Wang et al. 2021).

Module names are those of Real-ESRGAN's files; `models.checkpoints.keys.upscaler` has the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.upscalers.config import UpscalerConfig, checked_sizes

_RESIDUAL = 0.2  # factor of every residual
_SLOPE = 0.2  # of the leaky ReLUs


@dataclass(frozen=True)
class RRDBConfig(UpscalerConfig):
    """Sizes of an RRDBNet.

    The image is first folded by `unshuffle` along each side, and doubled `doublings` times at last.
    """

    width: int = 64
    growth: int = 32
    blocks: int = 23
    doublings: int = 2
    unshuffle: int = 1

    @property
    def scale(self) -> int:
        return 2**self.doublings // self.unshuffle

    @property
    def multiple(self) -> int:
        return self.unshuffle

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> RRDBConfig:
        """Read a config.json. Raises UnsupportedConfig."""
        return checked_sizes(cls, config)


class DenseBlock(nn.Module):
    """Five convolutions, each of which reads the outputs of all before it; a residual block."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for i in range(4):
            self.add_module(f"conv{i + 1}", _conv(width + i * growth, growth))
        self.conv5 = _conv(width + 4 * growth, width)

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for i in range(4):
            new = F.leaky_relu(self.get_submodule(f"conv{i + 1}")(features), _SLOPE)
            features = torch.cat([features, new], dim=1)
        out: Tensor = x + _RESIDUAL * self.conv5(features)
        return out


class ResidualBlock(nn.Module):
    """Three dense blocks in a residual block."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, growth)
        self.rdb2 = DenseBlock(width, growth)
        self.rdb3 = DenseBlock(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + _RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x)))
        return out


class RRDBNet(nn.Module):
    """image (B, C, H, W) in [0, 1] -> (B, C, scale·H, scale·W); H and W are multiples."""

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv_first = _conv(config.channels * config.unshuffle**2, width)
        blocks = (ResidualBlock(width, config.growth) for _ in range(config.blocks))
        self.body = nn.Sequential(*blocks)
        self.conv_body = _conv(width, width)
        for i in range(config.doublings):
            self.add_module(f"conv_up{i + 1}", _conv(width, width))
        self.conv_hr = _conv(width, width)
        self.conv_last = _conv(width, config.channels)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv_first(F.pixel_unshuffle(image, self.config.unshuffle))
        x = x + self.conv_body(self.body(x))
        for i in range(self.config.doublings):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.leaky_relu(self.get_submodule(f"conv_up{i + 1}")(x), _SLOPE)
        out: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), _SLOPE))
        return out


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)
