"""Matrix products in eight bits (float8 e4m3), twice as fast as half precision on Hopper.

Every row of the activations and every row of the weight has a scale of its own, found as it comes.
So a row's result never depends on the rows beside it, as it would with one scale for a tensor, and
nothing has to be calibrated. Convolutions stay as they are but for those of one pixel, which are
matrix products.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cuda.float8 import FLOAT8, LARGEST, SMALLEST_SCALE, Fp8Rows
from models.networks.unet import TimestepEmbedding, UNet

# Tensor cores take tiles of sixteen in eight bits.
TILE = 16

Arithmetic = Callable[[Tensor, "Rows8", Tensor | None], Tensor]


def available(device: torch.device) -> bool:
    """Whether the device multiplies float8 with a scale per row: Hopper and later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def quantise(x: Tensor) -> Fp8Rows:
    """(M, K) -> the nearest in eight bits: the largest of a row becomes the largest there is."""
    values = x.float()
    scales = (values.abs().amax(dim=1, keepdim=True) / LARGEST).clamp(min=SMALLEST_SCALE)
    # The division can round to just beyond the largest number, which would become a NaN.
    return Fp8Rows((values / scales).clamp(-LARGEST, LARGEST).to(FLOAT8), scales)


def on_tensor_cores(x: Tensor, weight: Fp8Rows, bias: Tensor | None) -> Tensor:
    """x (M, K) times weight (N, K) transposed, in eight bits -> (M, N) of x's dtype."""
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
    """The same of the same numbers in eight bits, on any device: multiplied in float32."""
    rows = quantise(x)
    product = F.linear(rows.values.float() * rows.scales, weight.values.float() * weight.scales)
    return (product if bias is None else product + bias.float()).to(x.dtype)


@cache
def _quantiser() -> Callable[[Tensor], Fp8Rows]:
    """Our kernel where there is Triton, in one pass instead of six."""
    if find_spec("triton") is None:
        return quantise
    from models.cuda.kernels.quantise import quantise as fused

    return fused


class Fp8Linear(nn.Module):
    """What a linear layer, or a convolution of one pixel, computes: in eight bits.

    x is (..., K), or (B, K, H, W) in the place of a convolution.
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
        if self._of_maps:  # channels last in memory, so neither permutation moves anything
            return self._product(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self._product(x)

    def _product(self, x: Tensor) -> Tensor:
        out = self._arithmetic(x.flatten(0, -2), Fp8Rows(self.values, self.scales), self.bias)
        return out.unflatten(0, x.shape[:-1])


def quantise_unet(unet: UNet, arithmetic: Arithmetic) -> UNet:
    """A UNet that shares the weights of `unet`, but for copies in eight bits of most matrices.

    These are the projections, attention and feed-forward of the transformers, and the shortcuts of
    one pixel. What is small or delicate stays: the first and last convolution, the embedding of
    time, and matrices that do not fill tiles of 16.
    """
    twin = _sharing_weights(unet)
    for parent in list(twin.modules()):
        for name, layer in list(parent.named_children()):
            if _suits(layer, parent, name):
                setattr(parent, name, Fp8Linear(layer, arithmetic))
    return twin


def _sharing_weights(unet: UNet) -> UNet:
    """Another UNet with the same parameters in memory, and the same kernels in its layers."""
    memo = {id(tensor): tensor for tensor in unet.parameters()}
    return copy.deepcopy(unet, memo)


def _suits(layer: nn.Module, parent: nn.Module, name: str) -> TypeGuard[nn.Linear | nn.Conv2d]:
    if isinstance(layer, nn.Linear):
        if isinstance(parent, TimestepEmbedding) or name == "time_emb_proj":
            return False
    elif not (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)):
        return False
    return layer.weight.shape[0] % TILE == 0 and layer.weight.shape[1] % TILE == 0
