"""Network configurations of the bundled model, and of a miniature that tests train in seconds.

The bundled model is trained for images of 64 × 64 first; `python -m training enlarge` then adds a
level to its autoencoder, for 128 × 128 pixels of the same latents.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.autoencoders.first_stage_config import AutoencoderConfig
from models.networks.config import TextEncoderConfig, UNetConfig


@dataclass(frozen=True)
class Preset:
    """Configurations of a model's networks, and the side of its images in pixels."""

    image_size: int
    vocab_size: int
    autoencoder: AutoencoderConfig
    unet: UNetConfig
    text_encoder: TextEncoderConfig


def _text_encoder(vocab_size: int, width: int, layers: int, heads: int) -> TextEncoderConfig:
    return TextEncoderConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        eos_token_id=vocab_size - 1,
        projection_dim=width,
    )


def _autoencoder(image_size: int, channels: tuple[int, ...], groups: int) -> AutoencoderConfig:
    return AutoencoderConfig(
        sample_size=image_size,
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        norm_num_groups=groups,
        scaling_factor=1.0,  # measured on the latents before the diffusion stage
    )


def _unet(
    latent_size: int, channels: tuple[int, ...], *, heads: int, groups: int, context: int
) -> UNetConfig:
    # The finest level has no attention: it is most expensive there, and the latents are small.
    crossed = len(channels) - 1
    return UNetConfig(
        sample_size=latent_size,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * crossed,
        up_block_types=("CrossAttnUpBlock2D",) * crossed + ("UpBlock2D",),
        layers_per_block=1,
        attention_head_dim=heads,
        cross_attention_dim=context,
        norm_num_groups=groups,
    )


BUNDLED = Preset(
    image_size=64,
    vocab_size=3000,
    autoencoder=_autoencoder(64, (32, 64, 128), groups=8),
    unet=_unet(16, (96, 128, 256), heads=4, groups=16, context=256),
    text_encoder=_text_encoder(3000, width=256, layers=3, heads=4),
)

MINIATURE = Preset(
    image_size=16,
    vocab_size=400,
    autoencoder=_autoencoder(16, (8, 8, 8), groups=4),
    unet=_unet(4, (16, 16), heads=2, groups=4, context=16),
    text_encoder=_text_encoder(400, width=16, layers=1, heads=2),
)
