"""One more level for a trained autoencoder: images with twice the side from the same latents.

The diffusion model stays as it is. The added level begins as an enlargement by repeated pixels and
an average over squares of two pixels, so training starts from today's quality.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AutoencoderConfig
from models.networks.layers import ResnetBlock
from training.device import channels_last


def enlarged_config(config: AutoencoderConfig) -> AutoencoderConfig:
    """Return the configuration with a level of the finest width added before the finest."""
    return replace(
        config,
        sample_size=2 * config.sample_size,
        block_out_channels=(config.block_out_channels[0], *config.block_out_channels),
        down_block_types=("DownEncoderBlock2D", *config.down_block_types),
        up_block_types=(*config.up_block_types, "UpDecoderBlock2D"),
    )


def config_of(autoencoder: AutoencoderKL) -> AutoencoderConfig:
    """Return the configuration of an autoencoder, by its own type."""
    assert isinstance(autoencoder.config, AutoencoderConfig)
    return autoencoder.config


@torch.no_grad()
def enlarge(trained: AutoencoderKL) -> AutoencoderKL:
    """Return an autoencoder with one more level and the weights of `trained` in all others."""
    network = AutoencoderKL(enlarged_config(config_of(trained)))
    weights = network.state_dict()
    for name, value in trained.state_dict().items():
        weights[_below(name)].copy_(value)
    levels = len(network.decoder.up_blocks)
    added = (network.decoder.up_blocks[-1], network.encoder.down_blocks[0])
    for resnet in (part for level in added for part in level.modules()):
        if isinstance(resnet, ResnetBlock):
            for parameter in resnet.conv2.parameters():
                nn.init.zeros_(parameter)
    _pass_through(network, f"decoder.up_blocks.{levels - 2}.upsamplers.0.conv", [1])
    _pass_through(network, "encoder.down_blocks.0.downsamplers.0.conv", [0, 1])
    channels_last(network)
    return network.eval().requires_grad_(False)


def _below(name: str) -> str:
    """Return the name of an encoder's parameter after a level was added before its first."""
    prefix = "encoder.down_blocks."
    if not name.startswith(prefix):
        return name
    level, rest = name.removeprefix(prefix).split(".", 1)
    return f"{prefix}{int(level) + 1}.{rest}"


def _pass_through(network: AutoencoderKL, name: str, taps: list[int]) -> None:
    """Make a 3x3 convolution average each channel over the rows and columns of `taps`."""
    conv = network.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    for row in taps:
        for column in taps:
            conv.weight[:, :, row, column].fill_diagonal_(1 / len(taps) ** 2)
