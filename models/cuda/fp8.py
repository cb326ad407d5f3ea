"""Matrix products in FP8 (float8 e4m3), twice as fast as half precision on Hopper.

Every row of the activations and every row of the weight has its own scale, computed at run time. So
a row's result never depends on the other rows, as it would with one scale for a tensor, and nothing
has to be calibrated. Convolutions are unchanged except those of one pixel, which are matrix
products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cuda.float8 import FLOAT8, LARGEST, SMALLEST_SCALE, Fp8Rows
from models.networks.sharing import with_weights
from models.networks.unet import TimestepEmbedding, UNet

# Tensor cores take FP8 tiles of sixteen.
TILE = 16

Arithmetic = Callable[[Tensor, Fp8Rows, Tensor | None], Tensor]


def available(device: torch.device) -> bool:
    """Return True if the device multiplies float8 with a scale per row: Hopper and later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def quantise(x: Tensor) -> Fp8Rows:
    """Round (M, K) to FP8; the largest value of a row becomes the largest FP8 number."""
    values = x.float()
    scales = (values.abs().amax(dim=1, keepdim=True) / LARGEST).clamp(min=SMALLEST_SCALE)
    # The division can round to just beyond the largest number, which would become a NaN.
    return Fp8Rows((values / scales).clamp(-LARGEST, LARGEST).to(FLOAT8), scales)


def on_tensor_cores(x: Tensor, weight: Fp8Rows, bias: Tensor | None) -> Tensor:
    """Multiply x (M, K) by weight (N, K) transposed in FP8 -> (M, N) of x's dtype."""
    rows = _quantiser()(x)
    return torch._scaled_mm(
        rows.values,
        weight.values.t(),
        scale_a=rows.scales,
        scale_b=weight.scales.t(),
        bias=bias,
        out_dtype=x.dtype,
        use_fast_accum=True,
    )


def emulated(x: Tensor, weight: Fp8Rows, bias: Tensor | None) -> Tensor:
    """Compute the same product of the same FP8 numbers in float32, on any device."""
    rows = quantise(x)
    product = F.linear(rows.values.float() * rows.scales, weight.values.float() * weight.scales)
    return (product if bias is None else product + bias.float()).to(x.dtype)


@cache
def _quantiser() -> Callable[[Tensor], Fp8Rows]:
    """Return our kernel if Triton is installed: one pass instead of six."""
    if find_spec("triton") is None:
        return quantise
    from models.cuda.kernels.quantise import quantise as fused

    return fused


class Fp8Linear(nn.Module):
    """A linear layer, or a convolution of one pixel, computed in FP8.

    x is (..., K), or (B, K, H, W) for a convolution.
    """

    values: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear | nn.Conv2d, arithmetic: Arithmetic) -> None:
        super().__init__()
        weight = quantise(layer.weight.detach().flatten(1))
        self.register_buffer("values", weight.values)
        self.register_buffer("scales", weight.scales)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        self._of_maps = isinstance(layer, nn.Conv2d)
        self._arithmetic = arithmetic

    def forward(self, x: Tensor) -> Tensor:
        if self._of_maps:  # channels last in memory, so neither permutation copies
            return self._product(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self._product(x)

    def _product(self, x: Tensor) -> Tensor:
        out = self._arithmetic(x.flatten(0, -2), Fp8Rows(self.values, self.scales), self.bias)
        return out.unflatten(0, x.shape[:-1])


def quantise_unet(unet: UNet, arithmetic: Arithmetic) -> UNet:
    """Return a UNet that shares the weights of `unet`, except for FP8 copies of most matrices.

    These are the projections, attention and feed-forward of the transformers, and the shortcuts of
    one pixel. Small or sensitive layers are unchanged: the first and last convolution, the
    embedding of time, and matrices that do not fill tiles of 16.
    """
    quantised = with_weights(unet, {})
    for parent in list(quantised.modules()):
        for name, layer in list(parent.named_children()):
            if _is_suitable(layer, parent, name):
                setattr(parent, name, Fp8Linear(layer, arithmetic))
    return quantised


def _is_suitable(
    layer: nn.Module, parent: nn.Module, name: str
) -> TypeGuard[nn.Linear | nn.Conv2d]:
    if isinstance(layer, nn.Linear):
        if isinstance(parent, TimestepEmbedding) or name == "time_emb_proj":
            return False
    elif not (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)):
        return False
    return layer.weight.shape[0] % TILE == 0 and layer.weight.shape[1] % TILE == 0
