"""The first stage whose larger decoder reads the known part of an image, for inpainting.

Zhu et al. 2023, "Designing a Better Asymmetric VQGAN for StableDiffusion". Its latents are those of
Stable Diffusion. Without a mask it decodes as any other. Module names are those of published
AsymmetricAutoencoderKL files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoders.encoder_decoder import Decoder, Encoder
from models.autoencoders.first_stage import FirstStage, Gaussian
from models.autoencoders.first_stage_config import (
    SD_SCALING_FACTOR,
    EncoderDecoderConfig,
    FirstStageConfig,
)
from models.autoencoders.pixels import RGB
from models.checkpoints.config_fields import select
from models.checkpoints.errors import UnsupportedConfig

_LEVELS = 4  # the condition encoder halves the image three times
# diffusers repeats the decoder's widths when it saves; no computation reads the size.
_IRRELEVANT = {"block_out_channels", "sample_size"}


@dataclass(frozen=True)
class AsymmetricConfig(FirstStageConfig):
    """An encoder (`down_…`) and a decoder (`up_…`), each with its own widths, the finest first."""

    scaling_factor: float = SD_SCALING_FACTOR
    down_block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",) * _LEVELS
    layers_per_down_block: int = 2
    up_block_out_channels: tuple[int, ...] = (192, 384, 768, 768)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",) * _LEVELS
    layers_per_up_block: int = 3
    norm_num_groups: int = 32

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) != RGB:
                raise UnsupportedConfig(f"{name}={getattr(self, name)}: {RGB} are needed")
        first, last = self.up_block_out_channels[0], self.up_block_out_channels[-1]
        widths = tuple(min(first << level, last) for level in range(_LEVELS))
        if self.up_block_out_channels != widths or first == last:
            # Only of these widths does the condition encoder give the decoder's.
            raise UnsupportedConfig(
                f"up_block_out_channels={self.up_block_out_channels}: {_LEVELS} are needed, each "
                "twice the one before, or the last"
            )
        _ = self.encoder, self.decoder  # their lists have as many levels, or are refused

    @property
    def encoder(self) -> EncoderDecoderConfig:
        """Return the configuration of the encoder. Raises UnsupportedConfig."""
        return self._half(self.down_block_out_channels, self.layers_per_down_block)

    @property
    def decoder(self) -> EncoderDecoderConfig:
        """Return the configuration of the decoder. Raises UnsupportedConfig."""
        return self._half(self.up_block_out_channels, self.layers_per_up_block)

    def _half(self, widths: tuple[int, ...], layers: int) -> EncoderDecoderConfig:
        return EncoderDecoderConfig(
            latent_channels=self.latent_channels,
            block_out_channels=widths,
            down_block_types=self.down_block_types,
            up_block_types=self.up_block_types,
            layers_per_block=layers,
            norm_num_groups=self.norm_num_groups,
        )

    @property
    def factor(self) -> int:
        return 1 << (_LEVELS - 1)

    @property
    def max_channels(self) -> int:
        # The features of the known part are in memory beside those of the decoder.
        return sum(self.up_block_out_channels[:2])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        kept = {key: value for key, value in data.items() if key not in _IRRELEVANT}
        return cls(**select(cls, kept, {"act_fn": ("silu",)}))

    def to_dict(self) -> dict[str, Any]:
        return {"_class_name": "AsymmetricAutoencoderKL", "act_fn": "silu", **asdict(self)}


class ConditionEncoder(nn.Module):
    """Features of an image (B, 3, H, W) at every resolution of the decoder."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        outs = (*widths, widths[-1])
        ins = (RGB, *widths)
        self.layers = nn.Sequential(
            *(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(ins[:2], outs[:2], strict=True)),
            *(nn.Conv2d(i, o, 4, 2, 1) for i, o in zip(ins[2:], outs[2:], strict=True)),
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of each layer, the coarsest first."""
        features: list[Tensor] = []
        for layer in self.layers:
            features.insert(0, layer(F.relu(features[0]) if features else image))
        return features


class ConditionedDecoder(Decoder):
    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__(config)
        self.condition_encoder = ConditionEncoder(config.block_out_channels)

    def inpaint(self, z: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Decode z (B, C, h, w) where mask (B, 1, H, W) is 1; image (B, 3, H, W) is 0 there."""
        *coarser, finest = self.condition_encoder(image)
        x = self.mid_block(self.conv_in(z))
        for block, known in zip(self.up_blocks, coarser, strict=True):
            x = block(_merged(x, known, mask))
        out: Tensor = self.conv_out(self.conv_norm_out(_merged(x, finest, mask)))
        return out


def _merged(x: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    """Return x where the mask is 1, and what is known elsewhere."""
    mask = F.interpolate(mask, size=x.shape[-2:], mode="nearest")
    return x * mask + known * (1 - mask)


class AsymmetricAutoencoderKL(FirstStage):
    def __init__(self, config: AsymmetricConfig) -> None:
        super().__init__()
        self.config: AsymmetricConfig = config
        c = config.latent_channels
        self.encoder = Encoder(config.encoder, 2 * c)
        self.decoder = ConditionedDecoder(config.decoder)
        self.quant_conv = nn.Conv2d(2 * c, 2 * c, 1)
        self.post_quant_conv = nn.Conv2d(c, c, 1)

    def moments(self, image: Tensor) -> Tensor:
        """Encode image (B, 3, H, W) to mean and log-variance of its latents, (B, 2·C, h, w)."""
        moments: Tensor = self.quant_conv(self.encoder(image))
        return moments

    def posterior(self, moments: Tensor) -> Gaussian:
        return Gaussian.from_moments(moments)

    def conditioned(self, z: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Append what is known of the image, and the mask: the pixels of each latent as channels.

        So they are cut into the same tiles as the latents.
        """
        known = torch.cat([(1 - mask) * image, mask])
        channels = F.pixel_unshuffle(known, self.config.factor).to(z)
        return torch.cat([z, channels.expand(len(z), -1, -1, -1)], dim=1)

    def decode(self, z: Tensor) -> Tensor:
        latents = self.config.latent_channels
        x = self.post_quant_conv(z[:, :latents])
        if z.shape[1] == latents:
            image: Tensor = self.decoder(x)
            return image
        known = F.pixel_shuffle(z[:, latents:], self.config.factor)
        return self.decoder.inpaint(x, known[:, :RGB], known[:, RGB:])
