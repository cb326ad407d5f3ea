"""The denoising UNet of latent diffusion, with the layer names of published checkpoints.

Rombach et al. (2022), section 3.3, in the shapes of the paper's own models, Stable Diffusion 1.x
and SDXL (Podell et al. 2023, table 1). The sampler table decides whether its output is read as
noise, velocity or clean latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.attention import Attention, SpatialAttention
from models.networks.config import UNetConfig
from models.networks.layers import (
    Downsample,
    NormSiLU,
    ResnetBlock,
    RowLinear,
    ScaleShiftResnetBlock,
    TokenLinear,
    Upsample,
    halve,
)


@dataclass(frozen=True)
class AddedConditioning:
    """Further conditioning of some networks, added to the embedding of the time.

    SDXL: pooled text (B, P) and time ids, (B, 6) of sizes and crop; for the refiner (B, 5), with an
    aesthetic score. Networks distilled with guidance: the embedded guidance scale (B, G). Networks
    with labels: their numbers (B,), as floats.
    """

    pooled: Tensor | None = None
    time_ids: Tensor | None = None
    guidance: Tensor | None = None
    labels: Tensor | None = None

    @classmethod
    def of(cls, config: UNetConfig, tensors: Sequence[Tensor]) -> Self | None:
        """Return the conditioning of a UNet of this configuration from its tensors, or None."""
        names = ["pooled", "time_ids"] if config.addition_embed_type else []
        names += ["guidance"] if config.time_cond_proj_dim else []
        names += ["labels"] if config.num_class_embeds else []
        return cls(**dict(zip(names, tensors, strict=True))) if names else None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Return the tensors that are not None, in a fixed order."""
        all_of_them = (self.pooled, self.time_ids, self.guidance, self.labels)
        return tuple(t for t in all_of_them if t is not None)


@dataclass(frozen=True)
class Residuals:
    """Additions of a ControlNet to the skip connections, finest first, and to the middle."""

    skips: tuple[Tensor, ...]
    mid: Tensor

    def scaled(self, weights: Tensor) -> Residuals:
        """Multiply row by row with `weights` (B,)."""
        by = weights.to(self.mid.dtype)[:, None, None, None]
        return Residuals(tuple(skip * by for skip in self.skips), self.mid * by)

    def averaged(self) -> Residuals:
        """Return the means over height and width, (B, C, 1, 1), which count at every place."""
        skips = tuple(skip.mean((2, 3), keepdim=True) for skip in self.skips)
        return Residuals(skips, self.mid.mean((2, 3), keepdim=True))

    def __add__(self, other: Residuals) -> Residuals:
        skips = zip(self.skips, other.skips, strict=True)
        return Residuals(tuple(a + b for a, b in skips), self.mid + other.mid)


def sinusoid(t: Tensor, dim: int, *, flip_sin_to_cos: bool = True, shift: int = 0) -> Tensor:
    """Embed positions t (N,) -> (N, dim) float32 (Vaswani et al. 2017, section 3.5)."""
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / (half - shift)
    angles = t.float()[:, None] * torch.exp(-math.log(10000) * exponents)
    sin, cos = angles.sin(), angles.cos()
    return torch.cat([cos, sin] if flip_sin_to_cos else [sin, cos], dim=-1)


def guidance_embedding(scale: float, dim: int) -> Tensor:
    """Embed a guidance scale for networks distilled with guidance: (dim,) float32.

    A positional embedding of 1000 (scale - 1) (Luo et al. 2023, "Latent Consistency Models",
    section 4.2), rounded as in their published code, because the angles are large.
    """
    half = dim // 2
    step = torch.log(torch.tensor(10000.0)) / (half - 1)
    angles = torch.tensor(1000.0 * (scale - 1.0)) * torch.exp(-step * torch.arange(half))
    return torch.cat([angles.sin(), angles.cos()])


class TimestepEmbedding(nn.Module):
    """MLP of x (B, I), plus a projection of `cond` (B, C) in networks that have one."""

    def __init__(self, dim_in: int, dim_out: int, cond_dim: int | None = None) -> None:
        super().__init__()
        self.linear_1 = RowLinear(dim_in, dim_out)
        if cond_dim is not None:
            self.cond_proj = RowLinear(cond_dim, dim_in, bias=False)
        self.linear_2 = RowLinear(dim_out, dim_out)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        x = x if cond is None else x + self.cond_proj(cond)
        out: Tensor = self.linear_2(F.silu(self.linear_1(x)))
        return out


def geglu(projected: Tensor) -> Tensor:
    """Return value times gelu(gate), the halves of (..., 2·inner) -> (..., inner)."""
    value, gate = projected.chunk(2, dim=-1)
    return value * F.gelu(gate)


class GEGLU(nn.Module):
    """x W · gelu(x V) (Shazeer 2020), by the kernel chosen for this layer."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = TokenLinear(dim, 2 * inner)
        self.kernel: Callable[[Tensor], Tensor] = geglu

    def forward(self, x: Tensor) -> Tensor:
        return self.kernel(self.proj(x))


class FeedForward(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        # Index 1 is the dropout of the published files, which holds no parameters.
        self.net = nn.ModuleList([GEGLU(dim, 4 * dim), nn.Identity(), TokenLinear(4 * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x


def _added_embedding(config: UNetConfig) -> TimestepEmbedding:
    """Build the embedding of SDXL's pooled text and time ids."""
    width = config.projection_class_embeddings_input_dim
    assert width is not None  # the configuration has refused it
    return TimestepEmbedding(width, 4 * config.block_out_channels[0])


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the context, feed-forward; x (B, T, dim).

    context_only: the first attention reads the context, too.
    """

    def __init__(self, dim: int, heads: int, context_dim: int, *, context_only: bool) -> None:
        super().__init__()
        self.context_only = context_only
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, heads, context_dim if context_only else None)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, heads, context_dim)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x), context if self.context_only else None)
        x = x + self.attn2(self.norm2(x), context)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map (B, C, H, W), with a residual."""

    def __init__(
        self, channels: int, heads: int, depth: int, config: UNetConfig, *, context_only: bool
    ) -> None:
        super().__init__()
        self.linear = config.use_linear_projection
        self.norm = nn.GroupNorm(config.norm_num_groups, channels, eps=1e-6)
        self.proj_in = self._projection(channels)
        width = config.cross_attention_dim
        assert width is not None  # only networks with a context have such blocks
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, heads, width, context_only=context_only)
            for _ in range(depth)
        )
        self.proj_out = self._projection(channels)

    def _projection(self, channels: int) -> nn.Module:
        return TokenLinear(channels, channels) if self.linear else nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        h = self.norm(x)
        h = h if self.linear else self.proj_in(h)
        h = h.flatten(2).transpose(1, 2)  # (B, H·W, C)
        h = self.proj_in(h) if self.linear else h
        for block in self.transformer_blocks:
            h = block(h, context)
        h = self.proj_out(h) if self.linear else h
        h = h.transpose(1, 2).unflatten(2, (height, width))
        out: Tensor = h if self.linear else self.proj_out(h)
        return x + out


def resnet(width: int, channels: int, config: UNetConfig) -> ResnetBlock:
    """Build a block from `width` to `channels` with the time conditioning of this network."""
    kind = ScaleShiftResnetBlock if config.resnet_time_scale_shift == "scale_shift" else ResnetBlock
    time_dim = 4 * config.block_out_channels[0]
    return kind(width, channels, time_dim, config.norm_num_groups, config.norm_eps)


def _attentions(kind: str, index: int, depths: Sequence[int], config: UNetConfig) -> nn.ModuleList:
    """Build the layers after each resnet of a level: transformers, attention, or nothing."""
    channels, heads = config.block_out_channels[index], config.heads[index]
    if kind.startswith("CrossAttn"):
        context_only = config.attends_to_context_only(index)
        return nn.ModuleList(
            SpatialTransformer(channels, heads, depth, config, context_only=context_only)
            for depth in depths
        )
    if kind.startswith("Attn"):
        groups, eps = config.norm_num_groups, config.norm_eps
        return nn.ModuleList(SpatialAttention(channels, heads, groups, eps) for _ in depths)
    return nn.ModuleList()


class Level(nn.Module):
    """One resolution of the UNet: resnets, each with or without attention.

    `widths` are the input channels of each resnet, `depths` the transformer blocks after each;
    `kind` is diffusers' name of the block.
    """

    def __init__(
        self, widths: list[int], depths: Sequence[int], index: int, kind: str, config: UNetConfig
    ) -> None:
        super().__init__()
        channels = config.block_out_channels[index]
        self.resnets = nn.ModuleList(resnet(width, channels, config) for width in widths)
        self.attentions = _attentions(kind, index, depths[: len(widths)], config)

    def layer(self, i: int, x: Tensor, time: Tensor, context: Tensor | None) -> Tensor:
        x = self.resnets[i](x, time)
        return self.attentions[i](x, context) if self.attentions else x


def _resampled_by_resnet(kind: str, own: str, resample_type: str) -> bool:
    """Return True if a level of this kind ends in a resnet, not in a convolution that resamples."""
    return kind == own or (kind.startswith("Attn") and resample_type == "resnet")


class DownLevel(Level):
    def __init__(self, index: int, config: UNetConfig) -> None:
        channels = config.block_out_channels[index]
        before = config.block_out_channels[max(index - 1, 0)]
        widths = [before] + [channels] * (config.layers[index] - 1)
        kind = config.down_block_types[index]
        super().__init__(widths, config.encoder_depths(index), index, kind, config)
        last = index == len(config.block_out_channels) - 1
        by_resnet = _resampled_by_resnet(kind, "ResnetDownsampleBlock2D", config.downsample_type)
        down = resnet(channels, channels, config) if by_resnet else Downsample(channels)
        self.downsamplers = nn.ModuleList([] if last else [down])

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor | None, skips: list[Tensor]
    ) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.layer(i, x, time, context)
            skips.append(x)
        for down in self.downsamplers:
            x = down(x, time, halve) if isinstance(down, ResnetBlock) else down(x)
            skips.append(x)
        return x


class UpLevel(Level):
    """A level of the decoder. `index` counts resolutions as in the encoder: 0 is the finest."""

    def __init__(self, index: int, config: UNetConfig) -> None:
        channels = config.block_out_channels
        last = len(channels) - 1
        below = channels[min(index + 1, last)]
        # Input channels of each resnet from the layer before, and from the skip connection.
        layers = config.layers[index]
        incoming = [below] + [channels[index]] * layers
        skips = [channels[index]] * layers + [channels[max(index - 1, 0)]]
        widths = [a + b for a, b in zip(incoming, skips, strict=True)]
        kind, width = config.up_block_types[last - index], channels[index]
        super().__init__(widths, config.decoder_depths(index), index, kind, config)
        by_resnet = _resampled_by_resnet(kind, "ResnetUpsampleBlock2D", config.upsample_type)
        up = resnet(width, width, config) if by_resnet else Upsample(width)
        self.upsamplers = nn.ModuleList([] if index == 0 else [up])

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor | None, skips: list[Tensor]
    ) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.layer(i, torch.cat([x, skips.pop()], dim=1), time, context)
        for up in self.upsamplers:
            # The encoder rounded odd sides: upsample to the size of the next skip connection.
            size = (skips[-1].shape[-2], skips[-1].shape[-1])
            if isinstance(up, ResnetBlock):
                x = up(x, time, partial(F.interpolate, size=size, mode="nearest"))
            else:
                x = up(x, size)
        return x


class MidBlock(nn.Module):
    """Resnet, attention, resnet at the coarsest resolution; distilled networks have fewer."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        channels, number = config.block_out_channels[-1], config.mid_resnets
        self.resnets = nn.ModuleList(resnet(channels, channels, config) for _ in range(number))
        self.attentions = nn.ModuleList([_mid_attention(config)] if config.mid_attends else [])

    def forward(self, x: Tensor, time: Tensor, context: Tensor | None) -> Tensor:
        for first in self.resnets[:1]:
            x = first(x, time)
        for attention in self.attentions:
            x = attention(x, context)
        for second in self.resnets[1:]:
            x = second(x, time)
        return x


def _mid_attention(config: UNetConfig) -> nn.Module:
    channels, heads = config.block_out_channels[-1], config.heads[-1]
    if config.is_unconditional:
        groups = config.attn_norm_num_groups or config.norm_num_groups
        return SpatialAttention(channels, heads, groups, config.norm_eps)
    return SpatialTransformer(channels, heads, config.mid_depth, config, context_only=False)


class UNetEncoder(nn.Module):
    """The encoder of a UNet and its middle block, of which a ControlNet has a copy."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.block_out_channels
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(
            channels[0], 4 * channels[0], config.time_cond_proj_dim
        )
        if config.addition_embed_type == "text_time":
            self.add_embedding = _added_embedding(config)
        if config.num_class_embeds is not None:
            self.class_embedding = nn.Embedding(config.num_class_embeds, 4 * channels[0])
        self.down_blocks = nn.ModuleList(DownLevel(i, config) for i in range(len(channels)))
        self.mid_block = MidBlock(config)

    def encode(
        self, x: Tensor, time: Tensor, context: Tensor | None, hint: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the features of the middle and the skip connections, finest first, of latents.

        A `hint` (B, C0, h, w) is added to the first features. Raises ValueError for a context that
        the network does not have, or that is missing.
        """
        if (context is None) != self.config.is_unconditional:
            expected = "no context" if self.config.is_unconditional else "a context"
            raise ValueError(f"this network takes {expected}")
        x = self.conv_in(x)
        x = x if hint is None else x + hint
        skips = [x]
        for down in self.down_blocks:
            x = down(x, time, context, skips)
        return self.mid_block(x, time, context), skips

    def embed_time(
        self, timestep: Tensor, added: AddedConditioning | None, dtype: torch.dtype
    ) -> Tensor:
        """Embed timesteps (B,) -> (B, 4·C0): sinusoid and MLP, plus the added conditioning."""
        added = added or AddedConditioning()
        position = self._position(timestep, self.config.block_out_channels[0])
        time: Tensor = self.time_embedding(position.to(dtype), self._guidance(added, dtype))
        if self.config.num_class_embeds is not None:
            time = time + self.class_embedding(self._labels(added)).to(dtype)
        if self.config.addition_embed_type is None:
            return time
        return time + self.add_embedding(self._pooled_and_ids(added).to(dtype))

    def _guidance(self, added: AddedConditioning, dtype: torch.dtype) -> Tensor | None:
        """Return the embedded guidance scale of a network that was distilled with guidance."""
        if self.config.time_cond_proj_dim is None:
            return None
        if added.guidance is None:
            raise ValueError("this UNet needs added conditioning: its guidance")
        return added.guidance.to(dtype)

    def _labels(self, added: AddedConditioning) -> Tensor:
        if added.labels is None:
            raise ValueError("this UNet needs added conditioning: its labels")
        return added.labels.long()

    def _pooled_and_ids(self, added: AddedConditioning) -> Tensor:
        """Return the input of `add_embedding`, (B, P + ids·D)."""
        each = self.config.addition_time_embed_dim
        if added.pooled is None or added.time_ids is None or each is None:
            raise ValueError("this UNet needs added conditioning: pooled text and time ids")
        ids = self._position(added.time_ids.flatten(), each)
        ids = ids.unflatten(0, added.time_ids.shape).flatten(1)
        return torch.cat([added.pooled, ids.to(added.pooled.dtype)], dim=-1)

    def _position(self, t: Tensor, dim: int) -> Tensor:
        flip, shift = self.config.flip_sin_to_cos, self.config.freq_shift
        return sinusoid(t, dim, flip_sin_to_cos=flip, shift=shift)


class UNet(UNetEncoder):
    """x (B, C, h, w), timestep (B,), context (B, T, D) or None -> prediction (B, C_out, h, w).

    Where C is more than C_out, the further channels are the concat conditioning of the image: a
    mask and the masked image, a low-resolution image, a map (Rombach et al. 2022, section 3.3).
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        channels = config.block_out_channels
        levels = range(len(channels))
        self.up_blocks = nn.ModuleList(UpLevel(i, config) for i in reversed(levels))
        self.conv_norm_out = NormSiLU(config.norm_num_groups, channels[0], config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        added: AddedConditioning | None = None,
        residuals: Residuals | None = None,
    ) -> Tensor:
        time = self.embed_time(timestep, added, x.dtype)
        x, skips = self.encode(x, time, context)
        if residuals is not None:
            x = x + residuals.mid
            skips = [skip + more for skip, more in zip(skips, residuals.skips, strict=True)]
        for up in self.up_blocks:
            x = up(x, time, context, skips)
        out: Tensor = self.conv_out(self.conv_norm_out(x))
        return out
