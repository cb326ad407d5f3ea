"""Attention in one place: softmax(q kᵀ / √d) v by several kernels, chosen by measurement.

Every kernel takes q (B, Tq, heads, d) and k, v (B, Tk, heads, d), returns (B, Tq, heads, d) and
computes the same function; they differ only in speed and in the order of additions. An `Attention`
layer holds the kernel it uses, so nothing global changes while a model runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.networks.attention_autotune import autotune
from models.networks.layers import TokenLinear


class Kernel(Protocol):
    """An attention kernel. `scale` replaces 1 / √d."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, scale: float | None = None
    ) -> Tensor: ...


def reference(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Compute the definition in float32, for tests and for hardware without a faster kernel."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float())
    scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v.float()).to(q.dtype)


def sdpa(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Compute PyTorch's fused attention, on every device, with the backend that PyTorch prefers."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale).transpose(1, 2)


def sdpa_with(backend: SDPBackend) -> Kernel:
    """Return PyTorch's attention with one backend; it raises RuntimeError for unsuitable inputs."""

    def kernel(
        q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, scale: float | None = None
    ) -> Tensor:
        with sdpa_kernel(backend):
            return sdpa(q, k, v, causal=causal, scale=scale)

    return kernel


def pad_heads(kernel: Kernel, sizes: tuple[int, ...]) -> Kernel:
    """Return `kernel` with heads padded with zeros to the next of `sizes`.

    Zeros add nothing to a product, so the result is the same. A kernel may have no fast path for
    the heads of Stable Diffusion 1.x, which are 40, 80 and 160 wide. The result raises ValueError
    if a head already has one of the sizes or is beyond the largest.
    """

    def run(
        q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, scale: float | None = None
    ) -> Tensor:
        size = q.shape[-1]
        wider = next((s for s in sizes if s >= size), size)
        if wider == size:
            raise ValueError(f"a head of {size} is not padded to any of {sizes}")
        q, k, v = (F.pad(t, (0, wider - size)) for t in (q, k, v))
        out = kernel(q, k, v, causal=causal, scale=size**-0.5 if scale is None else scale)
        return out[..., :size]

    return run


def _xformers() -> Kernel | None:
    """Return the memory-efficient attention of xformers, or None if it is not installed."""
    try:
        from xformers import ops
    except ImportError:
        return None

    def xformers(
        q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, scale: float | None = None
    ) -> Tensor:
        bias = ops.LowerTriangularMask() if causal else None
        out: Tensor = ops.memory_efficient_attention(q, k, v, attn_bias=bias, scale=scale)
        return out

    return xformers


def _flash3() -> Kernel | None:
    """Return FlashAttention-3 (Shah et al. 2024), or None without its package for Hopper."""
    try:
        # The package is on no index, so it cannot be a declared requirement.
        interface: Any = importlib.import_module("flash_attn_interface")
    except ImportError:
        return None

    def flash3(
        q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, scale: float | None = None
    ) -> Tensor:
        out = interface.flash_attn_func(q, k, v, softmax_scale=scale, causal=causal)
        attended: Tensor = out[0] if isinstance(out, tuple) else out
        return attended

    return flash3


HEAD_SIZES = (64, 128, 192, 256)  # for which fused kernels on GPUs are written


def available_kernels() -> dict[str, Kernel]:
    """Return the kernels that can run on this machine, by name."""
    kernels: dict[str, Kernel] = {"sdpa": sdpa, "reference": reference}
    if not torch.cuda.is_available():
        return kernels
    kernels["cudnn"] = sdpa_with(SDPBackend.CUDNN_ATTENTION)
    kernels["flash"] = sdpa_with(SDPBackend.FLASH_ATTENTION)
    kernels["efficient"] = sdpa_with(SDPBackend.EFFICIENT_ATTENTION)
    optional = {"xformers": _xformers(), "flash3": _flash3()}
    return kernels | {name: kernel for name, kernel in optional.items() if kernel is not None}


def candidates() -> dict[str, Kernel]:
    """Return the kernels to measure: all except `reference`, on a GPU also with padded heads."""
    kernels = {name: k for name, k in available_kernels().items() if name != "reference"}
    if not torch.cuda.is_available():
        return kernels
    return kernels | {f"{name}, padded": pad_heads(k, HEAD_SIZES) for name, k in kernels.items()}


class Attention(nn.Module):
    """Multi-head attention with the parameter names of published UNets and autoencoders.

    Shapes: x (B, T, dim), context (B, S, context_dim) or None for self-attention -> (B, T, dim).
    """

    def __init__(
        self, dim: int, heads: int, context_dim: int | None = None, *, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.kernel: Kernel = sdpa
        self.to_q = TokenLinear(dim, dim, bias=qkv_bias)
        self.to_k = TokenLinear(context_dim or dim, dim, bias=qkv_bias)
        self.to_v = TokenLinear(context_dim or dim, dim, bias=qkv_bias)
        self.to_out = nn.ModuleList([TokenLinear(dim, dim)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        source = x if context is None else context
        q, k, v = (
            t.unflatten(-1, (self.heads, -1))  # (B, T, heads, d)
            for t in (self.to_q(x), self.to_k(source), self.to_v(source))
        )
        out: Tensor = self.to_out[0](self.kernel(q, k, v).flatten(-2))
        return out


class SpatialAttention(Attention):
    """Self-attention over the pixels of a feature map (B, C, H, W), with norm and residual."""

    def __init__(self, channels: int, heads: int, groups: int, eps: float) -> None:
        super().__init__(channels, heads, qkv_bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, eps)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, H·W, C)
        h = super().forward(h, context)
        return x + h.transpose(1, 2).unflatten(2, x.shape[-2:])


def attention_layers(module: nn.Module) -> Iterator[Attention]:
    """Return the attention layers below `module`."""
    return (layer for layer in module.modules() if isinstance(layer, Attention))


def use_kernel(module: nn.Module, kernel: Kernel) -> None:
    """Set the kernel of every attention layer below `module`."""
    for layer in attention_layers(module):
        layer.kernel = kernel


def autotune_attention(module: nn.Module, forward: Callable[[], object]) -> dict[str, str]:
    """Give each attention layer the fastest kernel for the shapes it gets from `forward`.

    `forward` calls the module once on representative inputs. Returns the choices, by a readable
    shape, for the log.
    """
    return autotune("attention", list(attention_layers(module)), candidates(), forward)
