"""Encoder and decoder of the paper's autoencoders.

Residual blocks at every resolution, attention at some (Esser et al. 2021, appendix; Rombach et al.
2022, appendix G). Module names are those of the published (diffusers) files. Feature maps are
(B, C, H, W).
"""

from __future__ import annotations

from torch import Tensor, nn

from models.autoencoders.first_stage_config import EncoderDecoderConfig
from models.networks.attention import SpatialAttention
from models.networks.layers import Downsample, NormSiLU, ResnetBlock, Upsample

_EPS = 1e-6  # in every GroupNorm of the autoencoders


def _resnets(before: int, channels: int, number: int, groups: int) -> nn.ModuleList:
    widths = [before] + [channels] * (number - 1)
    return nn.ModuleList(ResnetBlock(w, channels, None, groups, _EPS) for w in widths)


def _attentions(channels: int, number: int, groups: int) -> nn.ModuleList:
    return nn.ModuleList(SpatialAttention(channels, 1, groups, _EPS) for _ in range(number))


class MidBlock(nn.Module):
    """Two resnets with attention between them, if configured."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        channels, groups = config.block_out_channels[-1], config.norm_num_groups
        self.attentions = _attentions(channels, int(config.mid_block_add_attention), groups)
        self.resnets = _resnets(channels, channels, 2, groups)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.resnets[0], *self.attentions, self.resnets[1]):
            x = layer(x)
        return x


class Level(nn.Module):
    """Resnets at one resolution, each followed by attention where the level has any."""

    def __init__(
        self, before: int, channels: int, resnets: int, groups: int, *, attention: bool
    ) -> None:
        super().__init__()
        self.resnets = _resnets(before, channels, resnets, groups)
        self.attentions = _attentions(channels, resnets if attention else 0, groups)

    def at_one_resolution(self, x: Tensor) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            x = resnet(x)
            if self.attentions:
                x = self.attentions[i](x)
        return x


class DownLevel(Level):
    """A level that halves the resolution at its end, except the last."""

    def __init__(
        self, before: int, channels: int, config: EncoderDecoderConfig, kind: str, *, last: bool
    ):
        number, groups = config.layers_per_block, config.norm_num_groups
        super().__init__(before, channels, number, groups, attention=kind.startswith("Attn"))
        self.downsamplers = nn.ModuleList([] if last else [Downsample(channels, asymmetric=True)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.at_one_resolution(x)
        for layer in self.downsamplers:
            x = layer(x)
        return x


class UpLevel(Level):
    """A level that doubles the resolution at its end, except the last."""

    def __init__(
        self, before: int, channels: int, config: EncoderDecoderConfig, kind: str, *, last: bool
    ):
        number, groups = config.layers_per_block + 1, config.norm_num_groups
        super().__init__(before, channels, number, groups, attention=kind.startswith("Attn"))
        self.upsamplers = nn.ModuleList([] if last else [Upsample(channels)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.at_one_resolution(x)
        for layer in self.upsamplers:
            x = layer(x)
        return x


class Encoder(nn.Module):
    """image (B, C, H, W) -> `out_channels` features at the latents' resolution."""

    def __init__(self, config: EncoderDecoderConfig, out_channels: int) -> None:
        super().__init__()
        channels = config.block_out_channels
        befores = (channels[0], *channels[:-1])
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownLevel(before, after, config, config.down_block_types[i], last=i == last)
            for i, (before, after) in enumerate(zip(befores, channels, strict=True))
        )
        self.mid_block = MidBlock(config)
        self.conv_norm_out = NormSiLU(config.norm_num_groups, channels[-1], _EPS)
        self.conv_out = nn.Conv2d(channels[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        out: Tensor = self.conv_out(self.conv_norm_out(self.mid_block(x)))
        return out


class Decoder(nn.Module):
    """latents (B, C, h, w) -> image (B, C', H, W)."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        channels = tuple(reversed(config.block_out_channels))
        befores = (channels[0], *channels[:-1])
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.mid_block = MidBlock(config)
        self.up_blocks = nn.ModuleList(
            UpLevel(before, after, config, config.up_block_types[i], last=i == last)
            for i, (before, after) in enumerate(zip(befores, channels, strict=True))
        )
        self.conv_norm_out = NormSiLU(config.norm_num_groups, channels[-1], _EPS)
        self.conv_out = nn.Conv2d(channels[-1], config.out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(self.conv_norm_out(x))
        return out
