"""ControlNet: an image that controls the layout of another (Zhang et al. 2023, section 3).

A copy of the UNet's encoder takes the latents and the control image; its outputs are added to the
skip connections of the UNet. Module names are those of published ControlNetModel files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoints.config_fields import select
from models.checkpoints.errors import UnsupportedConfig
from models.networks.config import UNetConfig, mismatch
from models.networks.unet import AddedConditioning, Residuals, UNetEncoder

_NUMBERS = count()

# Keys that a UNet and its ControlNets must have in common.
_SHARED = (
    "block_out_channels",
    "layers",
    "cross_attention_dim",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "num_class_embeds",
)
# Keys of a UNet's configuration that its encoder does not use.
_UNET_ONLY = (
    "up_block_types",
    "out_channels",
    "sample_size",
    "time_cond_proj_dim",
    "reverse_transformer_layers_per_block",
)


@dataclass(frozen=True)
class ControlNetConfig:
    """A published `config.json`; `unet` is the part that it has in common with a UNet's.

    global_pool_conditions: the residuals are averaged over height and width, so that the control
    image gives contents and colours without a layout (control_v11e_sd15_shuffle).
    """

    unet: UNetConfig
    conditioning_channels: int = 3
    conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256)
    controlnet_conditioning_channel_order: str = "rgb"
    global_pool_conditions: bool = False

    def __post_init__(self) -> None:
        order = self.controlnet_conditioning_channel_order
        if order not in ("rgb", "bgr"):
            raise UnsupportedConfig(f"controlnet_conditioning_channel_order={order!r}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a configuration.

        Raises UnsupportedConfig for options that would change the result.
        """
        kind = data.get("_class_name", "ControlNetModel")
        if kind != "ControlNetModel":
            raise UnsupportedConfig(f"_class_name={kind!r}: have ControlNetModel")
        keys = cls.__dataclass_fields__.keys() - {"unet"}
        own = select(cls, {key: data[key] for key in keys if key in data}, {}, foreign=("unet",))
        left = {k: v for k, v in data.items() if k not in keys}
        unet = {
            "cross_attention_dim": 1280,  # the default of such files
            **left,
            "_class_name": "UNet2DConditionModel",
            "up_block_types": _mirrored(left.get("down_block_types", UNetConfig.down_block_types)),
            "reverse_transformer_layers_per_block": _any_depths(left),
        }
        return cls(UNetConfig.from_dict(unet), **own)

    def to_dict(self) -> dict[str, Any]:
        unet = {k: v for k, v in self.unet.to_dict().items() if k not in _UNET_ONLY}
        own = {k: getattr(self, k) for k in self.__dataclass_fields__ if k != "unet"}
        return {**unet, **own, "_class_name": "ControlNetModel"}

    @property
    def factor(self) -> int:
        """Return the pixels of the control image per latent along each side."""
        return 1 << (len(self.conditioning_embedding_out_channels) - 1)

    def mismatch(self, unet: UNetConfig, factor: int) -> str | None:
        """Describe why it does not fit a UNet with latents of `factor` pixels, or return None."""
        pairs = {key: (getattr(self.unet, key), getattr(unet, key)) for key in _SHARED}
        pairs["latent channels"] = self.unet.in_channels, unet.out_channels
        pairs["pixels per latent"] = self.factor, factor
        return mismatch(pairs)


def _mirrored(down_block_types: object) -> object:
    """Return the blocks of a decoder for those of an encoder; no list is returned unchanged."""
    if not isinstance(down_block_types, list | tuple):
        return down_block_types
    return [str(kind).replace("Down", "Up") for kind in reversed(down_block_types)]


def _any_depths(data: Mapping[str, Any]) -> object:
    """Return the depths of a decoder, which is not built, where an encoder's do not give them."""
    depths = data.get("transformer_layers_per_block")
    nested = isinstance(depths, list | tuple) and any(isinstance(d, list | tuple) for d in depths)
    return [1] * len(depths) if nested and isinstance(depths, list | tuple) else None


class HintEmbedding(nn.Module):
    """Embedding of the control image (B, 3, H, W) at the size and width of the first features."""

    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__()
        widths = config.conditioning_embedding_out_channels
        self.conv_in = nn.Conv2d(config.conditioning_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for before, after in pairwise(widths):
            self.blocks.append(nn.Conv2d(before, before, 3, padding=1))
            self.blocks.append(nn.Conv2d(before, after, 3, padding=1, stride=2))
        out = config.unet.block_out_channels[0]
        self.conv_out = nn.Conv2d(widths[-1], out, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.silu(self.conv_in(image))
        for block in self.blocks:
            x = F.silu(block(x))
        out: Tensor = self.conv_out(x)
        return out


class ControlNet(UNetEncoder):
    """x (B, C, h, w), timestep (B,), context (B, T, D), hint (B, C0, h, w) -> residuals.

    Images with ControlNets of different `number` cannot share a step.
    """

    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__(config.unet)
        self.control_config = config
        self.number = next(_NUMBERS)
        self.controlnet_cond_embedding = HintEmbedding(config)
        widths = _skip_widths(config.unet)
        self.controlnet_down_blocks = nn.ModuleList(nn.Conv2d(w, w, 1) for w in widths)
        self.controlnet_mid_block = nn.Conv2d(widths[-1], widths[-1], 1)

    @property
    def pools(self) -> bool:
        """Return True if its residuals are averaged over height and width."""
        return self.control_config.global_pool_conditions

    def embed(self, image: Tensor) -> Tensor:
        """Embed the control image (B, 3, H, W), RGB in [0, 1], to a hint (B, C0, h, w)."""
        bgr = self.control_config.controlnet_conditioning_channel_order == "bgr"
        out: Tensor = self.controlnet_cond_embedding(image.flip(1) if bgr else image)
        return out

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        hint: Tensor,
        added: AddedConditioning | None = None,
    ) -> Residuals:
        time = self.embed_time(timestep, added, x.dtype)
        mid, skips = self.encode(x, time, context, hint)
        pairs = zip(self.controlnet_down_blocks, skips, strict=True)
        additions = tuple(conv(skip) for conv, skip in pairs)
        found = Residuals(additions, self.controlnet_mid_block(mid))
        return found.averaged() if self.pools else found


def _skip_widths(config: UNetConfig) -> list[int]:
    """Return the channels of every skip connection, finest first."""
    widths = [config.block_out_channels[0]]
    for channels, layers in zip(config.block_out_channels, config.layers, strict=True):
        widths += [channels] * (layers + 1)
    return widths[:-1]  # the coarsest level has no downsampler
