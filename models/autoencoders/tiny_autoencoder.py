"""The tiny autoencoder (Bohan 2023, github.com/madebyollin/taesd): convolutions and ReLU only.

It was distilled from a large first stage and replaces it where speed matters more than detail: in
previews, and where a client requests it. Module names are those of AutoencoderTiny files.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoders.first_stage import FirstStage, Point
from models.autoencoders.first_stage_config import TinyConfig


class Block(nn.Module):
    """relu(x + three convolutions of x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(channels, channels),
            nn.ReLU(),
            _conv(channels, channels),
            nn.ReLU(),
            _conv(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


def _conv(channels_in: int, channels_out: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=bias)


class Encoder(nn.Module):
    """image (B, 3, H, W) in [-1, 1] -> scaled latents (B, C, h, w)."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*self._layers(config))

    def _layers(self, config: TinyConfig) -> Iterator[nn.Module]:
        width = config.encoder_block_out_channels[0]
        for level, blocks in enumerate(config.num_encoder_blocks):
            if level == 0:
                yield _conv(config.in_channels, width)
            else:
                yield _conv(width, width, stride=2, bias=False)
            yield from (Block(width) for _ in range(blocks))
        yield _conv(width, config.latent_channels)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.layers((image + 1) / 2)  # the layers take images in [0, 1]
        return out


class Decoder(nn.Module):
    """scaled latents (B, C, h, w) -> image (B, 3, H, W) in about [-1, 1]."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*self._layers(config))

    def _layers(self, config: TinyConfig) -> Iterator[nn.Module]:
        width = config.decoder_block_out_channels[0]
        yield _conv(config.latent_channels, width)
        yield nn.ReLU()
        last = len(config.num_decoder_blocks) - 1
        for level, blocks in enumerate(config.num_decoder_blocks):
            yield from (Block(width) for _ in range(blocks))
            if level < last:
                yield nn.Upsample(scale_factor=2)
                yield _conv(width, width, bias=False)
        yield _conv(width, config.out_channels)

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.layers(3 * torch.tanh(z / 3))  # latents are limited to [-3, 3]
        return 2 * image - 1


class AutoencoderTiny(FirstStage):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def moments(self, image: Tensor) -> Tensor:
        """Encode image (B, 3, H, W) to its scaled latents (B, C, h, w)."""
        latents: Tensor = self.encoder(image)
        return latents

    def posterior(self, moments: Tensor) -> Point:
        return Point(moments)

    def decode(self, z: Tensor) -> Tensor:
        image: Tensor = self.decoder(z)
        return image
