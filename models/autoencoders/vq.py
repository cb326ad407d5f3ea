"""The vector-quantised first stage (Esser et al. 2021; Rombach et al. 2022, section 3.1).

The diffusion model works on latents before they are quantised; the decoder begins by replacing
each with the nearest entry of the codebook. Module names are those of published VQModel files.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.autoencoders.encoder_decoder import Decoder, Encoder
from models.autoencoders.first_stage import FirstStage, Point
from models.autoencoders.first_stage_config import VQConfig


class Codebook(nn.Module):
    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, channels)

    def forward(self, z: Tensor) -> Tensor:
        """Return the entry nearest to each vector of z (B, C, h, w), as (B, C, h, w).

        By |z - e|² without |z|², which is the same for every entry. In single precision: entries
        are close together, and half precision would select a neighbour.
        """
        vectors = z.movedim(1, -1).float()  # (B, h, w, C)
        entries = self.embedding.weight.float()  # (K, C)
        distances = entries.square().sum(1) - (2 * vectors) @ entries.T  # (B, h, w, K)
        nearest: Tensor = self.embedding(distances.argmin(-1))
        return nearest.movedim(-1, 1)


class VQModel(FirstStage):
    """Encoder and decoder with the 1x1 convolutions around the codebook."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, config.latent_channels)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.quantize = Codebook(config.num_vq_embeddings, config.latent_channels)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = Decoder(config)

    def moments(self, image: Tensor) -> Tensor:
        """Encode image (B, C, H, W) to its latents, not quantised, (B, C, h, w)."""
        latents: Tensor = self.quant_conv(self.encoder(image))
        return latents

    def posterior(self, moments: Tensor) -> Point:
        return Point(moments)

    def decode(self, z: Tensor) -> Tensor:
        return self.decode_codes(self.quantize(z))

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Decode latents that are entries of the codebook, (B, C, h, w), to an image."""
        image: Tensor = self.decoder(self.post_quant_conv(codes))
        return image
