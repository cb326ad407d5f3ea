"""The first stage: images to latents and back (Rombach et al. 2022, section 3.1).

Module names are those of published AutoencoderKL files. Latents here are unscaled; the factor
that gives them unit variance is `config.scaling_factor` and is applied by the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.attention import SpatialAttention
from models.config import AutoencoderConfig
from models.layers import Downsample, NormSiLU, ResnetBlock, Upsample

_EPS = 1e-6  # of every GroupNorm in the autoencoder


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian over latents: mean and log-variance, each (B, C, h, w)."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> Gaussian:
        """From (B, 2·C, h, w), with the log-variance clamped as in the published code."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    def mode(self) -> Tensor:
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std · noise, with unit `noise` of the mean's shape."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Tensor:
        """KL divergence to the unit Gaussian, summed over each sample: (B,)."""
        terms = self.mean.square() + self.logvar.exp() - 1 - self.logvar
        return 0.5 * terms.flatten(1).sum(1)


def _resnet(channels_in: int, channels_out: int, groups: int) -> ResnetBlock:
    return ResnetBlock(channels_in, channels_out, None, groups, _EPS)


class MidBlock(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([SpatialAttention(channels, 1, groups, _EPS)])
        self.resnets = nn.ModuleList(_resnet(channels, channels, groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return out


class DownLevel(nn.Module):
    """Resnets at one resolution, then half of it (but for the last level)."""

    def __init__(self, before: int, channels: int, config: AutoencoderConfig, *, last: bool):
        super().__init__()
        widths = [before] + [channels] * (config.layers_per_block - 1)
        self.resnets = nn.ModuleList(_resnet(w, channels, config.norm_num_groups) for w in widths)
        self.downsamplers = nn.ModuleList([] if last else [Downsample(channels, asymmetric=True)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class UpLevel(nn.Module):
    """Resnets at one resolution, then twice of it (but for the last level)."""

    def __init__(self, before: int, channels: int, config: AutoencoderConfig, *, last: bool):
        super().__init__()
        widths = [before] + [channels] * config.layers_per_block
        self.resnets = nn.ModuleList(_resnet(w, channels, config.norm_num_groups) for w in widths)
        self.upsamplers = nn.ModuleList([] if last else [Upsample(channels)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class Encoder(nn.Module):
    """image (B, 3, H, W) -> moments (B, 2·C, h, w)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        channels, groups = config.block_out_channels, config.norm_num_groups
        befores = (channels[0], *channels[:-1])
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownLevel(before, after, config, last=i == last)
            for i, (before, after) in enumerate(zip(befores, channels, strict=True))
        )
        self.mid_block = MidBlock(channels[-1], groups)
        self.conv_norm_out = NormSiLU(groups, channels[-1], _EPS)
        self.conv_out = nn.Conv2d(channels[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        out: Tensor = self.conv_out(self.conv_norm_out(self.mid_block(x)))
        return out


class Decoder(nn.Module):
    """latents (B, C, h, w) -> image (B, 3, H, W)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        channels, groups = tuple(reversed(config.block_out_channels)), config.norm_num_groups
        befores = (channels[0], *channels[:-1])
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.mid_block = MidBlock(channels[0], groups)
        self.up_blocks = nn.ModuleList(
            UpLevel(before, after, config, last=i == last)
            for i, (before, after) in enumerate(zip(befores, channels, strict=True))
        )
        self.conv_norm_out = NormSiLU(groups, channels[-1], _EPS)
        self.conv_out = nn.Conv2d(channels[-1], config.out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(self.conv_norm_out(x))
        return out


class AutoencoderKL(nn.Module):
    """Encoder and decoder with the 1x1 convolutions around the Gaussian bottleneck."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        c = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * c, 2 * c, 1)
        self.post_quant_conv = nn.Conv2d(c, c, 1)

    @property
    def dtype(self) -> torch.dtype:
        return self.quant_conv.weight.dtype

    def encode(self, image: Tensor) -> Gaussian:
        """image (B, 3, H, W) in [-1, 1], sides multiples of `config.factor` -> unscaled latents."""
        return Gaussian.from_moments(self.moments(image))

    def moments(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) -> mean and log-variance of its latents, (B, 2·C, h, w)."""
        moments: Tensor = self.quant_conv(self.encoder(image))
        return moments

    def decode(self, z: Tensor) -> Tensor:
        """Unscaled latents (B, C, h, w) -> image (B, 3, H, W), about [-1, 1], not clamped."""
        image: Tensor = self.decoder(self.post_quant_conv(z))
        return image

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Gaussian]:
        """Reconstruction through a sampled bottleneck, and the bottleneck: a training step."""
        posterior = self.encode(image)
        return self.decode(posterior.sample(noise)), posterior
