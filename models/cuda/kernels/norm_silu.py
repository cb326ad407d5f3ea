"""silu(group_norm(x)) for channels-last feature maps, reading x twice and writing once.

PyTorch's operators need four passes through memory, and its group norm is slow for channels-last.
Three kernels: mean and squared deviations of every channel in blocks of pixels, those merged to one
mean and deviation per group (Chan et al. 1979, equation 2.1), then the result. A block's deviations
are taken from its own mean, so large means cost no precision.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 64  # of a tile
CHANNELS = 128  # of a tile, at most
MERGED = 64  # tiles that the merging kernel reads at a time


def norm_silu(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """Compute `models.networks.layers.norm_silu`; x (B, C, H, W) is made channels-last."""
    x = x.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = x.shape
    pixels, per_group = height * width, channels // groups
    rows = triton.cdiv(pixels, PIXELS)
    width_of_tile = min(CHANNELS, triton.next_power_of_2(channels))
    tiles = (batch, rows, triton.cdiv(channels, width_of_tile))
    means, deviations = x.new_empty((2, batch, rows, channels), dtype=torch.float32)
    group_means, group_scales = x.new_empty((2, batch, groups), dtype=torch.float32)
    out = torch.empty_like(x)
    _moments[tiles](x, means, deviations, pixels, channels, PIXELS, width_of_tile)
    _merge[(batch, groups)](
        means, deviations, group_means, group_scales, pixels, channels, rows, per_group, eps,
        PIXELS, MERGED, triton.next_power_of_2(per_group),
    )  # fmt: skip
    _apply[tiles](
        x, weight, bias, group_means, group_scales, out, pixels, channels, groups, per_group,
        PIXELS, width_of_tile,
    )  # fmt: skip
    return out


@triton.jit
def _moments(x, means, deviations, pixels, channels, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    """Store mean and sum of squared deviations of each channel over one tile's pixels."""
    image, row = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pixel = row * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    at = (image * pixels + pixel)[:, None] * channels + channel[None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(values, axis=0) / tl.minimum(PIXELS, pixels - row * PIXELS)
    away = tl.where(inside, values - mean[None, :], 0.0)
    to = (image * tl.num_programs(1) + row) * channels + channel
    tl.store(means + to, mean, mask=channel < channels)
    tl.store(deviations + to, tl.sum(away * away, axis=0), mask=channel < channels)


@triton.jit
def _merge(
    means, deviations, group_means, group_scales, pixels, channels, rows, per_group, eps,
    PIXELS: tl.constexpr, MERGED: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Store mean and 1 / sqrt(variance + eps) of one group, from the moments of its channels."""
    image, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = tl.arange(0, CHANNELS)
    total = pixels * per_group * 1.0
    summed = tl.zeros((MERGED, CHANNELS), tl.float32)
    for first in range(0, rows, MERGED):
        row = first + tl.arange(0, MERGED)
        inside = (row < rows)[:, None] & (channel < per_group)[None, :]
        count = tl.minimum(PIXELS, pixels - row * PIXELS)[:, None]
        at = (image * rows + row)[:, None] * channels + group * per_group + channel[None, :]
        summed += tl.load(means + at, mask=inside, other=0.0) * count
    mean = tl.sum(summed) / total
    spread = tl.zeros((MERGED, CHANNELS), tl.float32)
    for first in range(0, rows, MERGED):
        row = first + tl.arange(0, MERGED)
        inside = (row < rows)[:, None] & (channel < per_group)[None, :]
        count = tl.minimum(PIXELS, pixels - row * PIXELS)[:, None]
        at = (image * rows + row)[:, None] * channels + group * per_group + channel[None, :]
        away = tl.where(inside, tl.load(means + at, mask=inside, other=0.0) - mean, 0.0)
        spread += tl.load(deviations + at, mask=inside, other=0.0) + away * away * count
    to = image * tl.num_programs(1) + group
    tl.store(group_means + to, mean)
    tl.store(group_scales + to, 1.0 / tl.sqrt(tl.sum(spread) / total + eps))


@triton.jit
def _apply(
    x, weight, bias, group_means, group_scales, out, pixels, channels, groups, per_group,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Store silu((x - mean) · scale · weight + bias) of one tile."""
    image = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    valid = channel < channels
    group = image * groups + channel // per_group
    gain = tl.load(weight + channel, mask=valid, other=0.0).to(tl.float32)
    gain *= tl.load(group_scales + group, mask=valid, other=0.0)
    mean = tl.load(group_means + group, mask=valid, other=0.0)
    offset = tl.load(bias + channel, mask=valid, other=0.0).to(tl.float32)
    inside = (pixel < pixels)[:, None] & valid[None, :]
    at = (image * pixels + pixel)[:, None] * channels + channel[None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    y = (values - mean[None, :]) * gain[None, :] + offset[None, :]
    tl.store(out + at, y * tl.sigmoid(y), mask=inside)
