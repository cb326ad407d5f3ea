"""Layers that the UNet and the autoencoder share.

Module names are those of the published (diffusers) files. Feature maps are (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

Resample = Callable[[Tensor], Tensor]


class NormSiLUKernel(Protocol):
    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor: ...


def norm_silu(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """Compute silu(group_norm(x)) by PyTorch's operators; x (B, C, H, W), weight and bias (C,)."""
    return F.silu(F.group_norm(x, groups, weight, bias, eps))


class NormSiLU(nn.GroupNorm):
    """Group normalisation (Wu & He 2018) and SiLU, by the kernel chosen for this layer."""

    def __init__(self, groups: int, channels: int, eps: float) -> None:
        super().__init__(groups, channels, eps)
        self.kernel: NormSiLUKernel = norm_silu

    def forward(self, x: Tensor) -> Tensor:
        return self.kernel(x, self.weight, self.bias, self.num_groups, self.eps)


class RowLinear(nn.Linear):
    """A linear layer on (B, C) that is computed on a multiple of `multiple` rows.

    Libraries use other kernels for few rows than for many, and those add in another order. On a
    fixed number of rows a row's result does not depend on the number of other rows.
    """

    multiple = 1

    def forward(self, x: Tensor) -> Tensor:
        missing = -len(x) % self.multiple
        if not missing:
            return super().forward(x)
        return super().forward(F.pad(x, (0, 0, 0, missing)))[: len(x)]


MIN_TOKENS = 16


class TokenLinear(nn.Linear):
    """A linear layer on (B, T, C) that pads few tokens to `MIN_TOKENS`.

    A context of one class, and a map of one pixel, are a single token each. The number of rows is
    then that of images, of which there are at least two, and for few rows libraries use other
    kernels: for fewer than four on most processors, than sixteen on those with AMX.
    """

    def forward(self, x: Tensor) -> Tensor:
        missing = MIN_TOKENS - x.shape[-2]
        if missing <= 0:
            return super().forward(x)
        return super().forward(F.pad(x, (0, 0, 0, missing)))[..., :-missing, :]


@contextmanager
def row_multiple(layers: Sequence[RowLinear], multiple: int) -> Iterator[None]:
    """Pad the inputs of these layers to `multiple` rows within the context."""
    try:
        for layer in layers:
            layer.multiple = multiple
        yield
    finally:
        for layer in layers:
            layer.multiple = 1


def pointwise_convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of 1 x 1 pixels in a module."""
    return [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]


@contextmanager
def dilated(convolutions: Sequence[nn.Conv2d]) -> Iterator[None]:
    """Mark convolutions of 1 x 1 pixels as dilated within the context, which changes no output.

    With one thread PyTorch computes them by oneDNN from sixteen rows on only, and by a kernel of
    its own, which rounds differently, for fewer; dilated ones always by oneDNN (`use_mkldnn` in
    ATen/native/Convolution.cpp).
    """
    try:
        for convolution in convolutions:
            convolution.dilation = (2, 2)
        yield
    finally:
        for convolution in convolutions:
            convolution.dilation = (1, 1)


def halve(x: Tensor) -> Tensor:
    """Halve the resolution by the mean of every 2x2 pixels."""
    return F.avg_pool2d(x, 2)


class ResnetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + time))); `time_dim` None leaves time out.

    `resample`, a function that changes the size of a feature map, is applied before the first
    convolution and to the skip connection (Song et al. 2021, "BigGAN-type up- and downsampling").
    """

    def __init__(
        self, channels_in: int, channels_out: int, time_dim: int | None, groups: int, eps: float
    ) -> None:
        super().__init__()
        self.norm1 = NormSiLU(groups, channels_in, eps)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        if time_dim is not None:
            self.time_emb_proj = RowLinear(time_dim, channels_out)
        self.norm2: nn.GroupNorm = NormSiLU(groups, channels_out, eps)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.conv_shortcut = (
            nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else None
        )

    def forward(
        self, x: Tensor, time: Tensor | None = None, resample: Resample | None = None
    ) -> Tensor:
        h = self.norm1(x)
        if resample is not None:
            h, x = resample(h), resample(x)
        h = self.conv2(self.timed(self.conv1(h), time))
        skip: Tensor = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return skip + h

    def timed(self, h: Tensor, time: Tensor | None) -> Tensor:
        """Add the time, then apply norm and SiLU, between the two convolutions."""
        if time is not None:
            h = h + self.time_emb_proj(F.silu(time))[:, :, None, None]
        out: Tensor = self.norm2(h)
        return out


class ScaleShiftResnetBlock(ResnetBlock):
    """A resnet block whose time scales and shifts the normed features.

    Dhariwal & Nichol 2021, section 3, "AdaGN".
    """

    def __init__(
        self, channels_in: int, channels_out: int, time_dim: int, groups: int, eps: float
    ) -> None:
        super().__init__(channels_in, channels_out, None, groups, eps)
        self.time_emb_proj = RowLinear(time_dim, 2 * channels_out)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps)

    def timed(self, h: Tensor, time: Tensor | None) -> Tensor:
        assert time is not None  # every block of a UNet gets the time
        scale, shift = self.time_emb_proj(F.silu(time))[:, :, None, None].chunk(2, dim=1)
        return F.silu(self.norm2(h) * (1 + scale) + shift)


class Downsample(nn.Module):
    """Half the resolution by a strided convolution.

    `asymmetric` pads right and below only, as the autoencoder of Rombach et al. does.
    """

    def __init__(self, channels: int, *, asymmetric: bool = False) -> None:
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.asymmetric:
            x = F.pad(x, (0, 1, 0, 1))
        out: Tensor = self.conv(x)
        return out


class Upsample(nn.Module):
    """Nearest-neighbour upsampling to `size`, by default twice the resolution; a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        out: Tensor = self.conv(F.interpolate(x, size=size, mode="nearest"))
        return out
