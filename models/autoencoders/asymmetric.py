"""The first stage whose larger decoder reads the known part of an image, for inpainting.

Zhu et al. 2023, "Designing a Better Asymmetric VQGAN for StableDiffusion". Its latents are those of
Stable Diffusion. Without a mask it decodes as any other. Module names are those of published
AsymmetricAutoencoderKL files.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoders.encoder_decoder import Decoder, Encoder
from models.autoencoders.first_stage import FirstStage, Gaussian
from models.autoencoders.first_stage_config import AsymmetricConfig, EncoderDecoderConfig
from models.autoencoders.pixels import RGB


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
        """Return the features of each layer, the coarsest last."""
        first, *others = self.layers
        features = [first(image)]
        for layer in others:
            features.append(layer(F.relu(features[-1])))
        return features


class ConditionedDecoder(Decoder):
    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__(config)
        self.condition_encoder = ConditionEncoder(config.block_out_channels)

    def inpaint(self, z: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Decode z (B, C, h, w) where mask (B, 1, H, W) is 1; image (B, 3, H, W) is 0 there."""
        known = self.condition_encoder(image)
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = _merged(x, known.pop(), mask)
            x = block(x)
        out: Tensor = self.conv_out(self.conv_norm_out(_merged(x, known.pop(), mask)))
        return out


def _merged(x: Tensor, known: Tensor, mask: Tensor) -> Tensor:
    """Return x where the mask is 1, and what is known elsewhere."""
    marked = F.interpolate(mask, size=x.shape[-2:], mode="nearest") == 1
    return torch.where(marked, x, known)


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
