"""The KL-regularised first stage (Rombach et al. 2022, section 3.1): latents are a Gaussian.

Module names are those of published AutoencoderKL files.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.autoencoders.encoder_decoder import Decoder, Encoder
from models.autoencoders.first_stage import FirstStage, Gaussian
from models.autoencoders.first_stage_config import AutoencoderConfig


class AutoencoderKL(FirstStage):
    """Encoder and decoder with 1x1 convolutions around the Gaussian bottleneck, if configured."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        c = config.latent_channels
        self.encoder = Encoder(config, 2 * c)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * c, 2 * c, 1) if config.use_quant_conv else nn.Identity()
        self.post_quant_conv = nn.Conv2d(c, c, 1) if config.use_post_quant_conv else nn.Identity()

    def encode(self, image: Tensor) -> Gaussian:
        """Encode image (B, C, H, W) in [-1, 1], sides multiples of `config.factor`."""
        return self.posterior(self.moments(image))

    def moments(self, image: Tensor) -> Tensor:
        """Encode image (B, C, H, W) to mean and log-variance of its latents, (B, 2·C, h, w)."""
        moments: Tensor = self.quant_conv(self.encoder(image))
        return moments

    def posterior(self, moments: Tensor) -> Gaussian:
        return Gaussian.from_moments(moments)

    def decode(self, z: Tensor) -> Tensor:
        image: Tensor = self.decoder(self.post_quant_conv(z))
        return image

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Gaussian]:
        """Return the reconstruction through a sampled bottleneck, and the bottleneck."""
        posterior = self.encode(image)
        return self.decode(posterior.sample(noise)), posterior
