"""ControlNet: a picture that says where things are to be (Zhang et al. 2023, section 3).

A copy of the UNet's way down reads the latents and the control picture; what it finds is added to
the skip connections of the UNet itself. Module names are those of published ControlNetModel files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoints.errors import UnsupportedConfig
from models.networks.config import UNetConfig, misfit
from models.networks.unet import AddedConditioning, Descent, Residuals

_NUMBERS = count()

# What a UNet must have in common with a ControlNet for the one to be told by the other.
_SHARED = (
    "block_out_channels",
    "layers_per_block",
    "cross_attention_dim",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)
# Of a UNet's configuration, what the way down has no part in.
_UNET_ONLY = ("up_block_types", "out_channels", "sample_size", "time_cond_proj_dim")


@dataclass(frozen=True)
class ControlNetConfig:
    """A published `config.json`; `descent` is the part that it has in common with a UNet's."""

    descent: UNetConfig
    conditioning_channels: int = 3
    conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256)
    controlnet_conditioning_channel_order: str = "rgb"

    def __post_init__(self) -> None:
        order = self.controlnet_conditioning_channel_order
        if order not in ("rgb", "bgr"):
            raise UnsupportedConfig(f"controlnet_conditioning_channel_order={order!r}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises UnsupportedConfig for what would be drawn wrongly."""
        kind = data.get("_class_name", "ControlNetModel")
        if kind != "ControlNetModel":
            raise UnsupportedConfig(f"_class_name={kind!r}: have ControlNetModel")
        # Residuals averaged over the picture are for another way of guiding, which is not here.
        if data.get("global_pool_conditions"):
            raise UnsupportedConfig("global_pool_conditions=True is not supported")
        own = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        channels = own.get("conditioning_embedding_out_channels")
        if channels is not None:
            own["conditioning_embedding_out_channels"] = tuple(channels)
        left = {k: v for k, v in data.items() if k not in {*own, "global_pool_conditions"}}
        down = left.get("down_block_types", UNetConfig.down_block_types)
        said = {
            "cross_attention_dim": 1280,  # where the file is silent
            **left,
            "_class_name": "UNet2DConditionModel",
            "up_block_types": tuple(kind.replace("Down", "Up") for kind in reversed(down)),
        }
        return cls(UNetConfig.from_dict(said), **own)

    def to_dict(self) -> dict[str, Any]:
        descent = {k: v for k, v in self.descent.to_dict().items() if k not in _UNET_ONLY}
        own = {k: getattr(self, k) for k in self.__dataclass_fields__ if k != "descent"}
        return {**descent, **own, "_class_name": "ControlNetModel"}

    @property
    def factor(self) -> int:
        """Pixels of the control picture per latent along each side."""
        return 1 << (len(self.conditioning_embedding_out_channels) - 1)

    def misfit(self, unet: UNetConfig, factor: int) -> str | None:
        """Why it cannot tell this UNet, whose latents are of `factor` pixels; None if it can."""
        pairs = {key: (getattr(self.descent, key), getattr(unet, key)) for key in _SHARED}
        pairs["latent channels"] = self.descent.in_channels, unet.out_channels
        pairs["pixels per latent"] = self.factor, factor
        return misfit(pairs)


class HintEmbedding(nn.Module):
    """The control picture (B, 3, H, W) brought to the size and width of the first features."""

    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__()
        widths = config.conditioning_embedding_out_channels
        self.conv_in = nn.Conv2d(config.conditioning_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for before, after in pairwise(widths):
            self.blocks.append(nn.Conv2d(before, before, 3, padding=1))
            self.blocks.append(nn.Conv2d(before, after, 3, padding=1, stride=2))
        out = config.descent.block_out_channels[0]
        self.conv_out = nn.Conv2d(widths[-1], out, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.silu(self.conv_in(image))
        for block in self.blocks:
            x = F.silu(block(x))
        out: Tensor = self.conv_out(x)
        return out


class ControlNet(Descent):
    """x (B, C, h, w), timestep (B,), context (B, T, D), hint (B, C0, h, w) -> residuals.

    Pictures that hear ControlNets of other `number`s cannot share a step.
    """

    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__(config.descent)
        self.controls = config
        self.number = next(_NUMBERS)
        self.controlnet_cond_embedding = HintEmbedding(config)
        widths = _skip_widths(config.descent)
        self.controlnet_down_blocks = nn.ModuleList(nn.Conv2d(w, w, 1) for w in widths)
        self.controlnet_mid_block = nn.Conv2d(widths[-1], widths[-1], 1)

    def embed(self, image: Tensor) -> Tensor:
        """The control picture (B, 3, H, W), RGB in [0, 1] -> its hint, the same at every step."""
        bgr = self.controls.controlnet_conditioning_channel_order == "bgr"
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
        mid, skips = self.descend(x, time, context, hint)
        told = zip(self.controlnet_down_blocks, skips, strict=True)
        return Residuals(tuple(conv(skip) for conv, skip in told), self.controlnet_mid_block(mid))


def _skip_widths(config: UNetConfig) -> list[int]:
    """The channels of every skip connection, finest first."""
    widths = [config.block_out_channels[0]]
    for channels in config.block_out_channels:
        widths += [channels] * (config.layers_per_block + 1)
    return widths[:-1]  # the coarsest level has no downsampler
