"""Attention in one place: softmax(q kᵀ / √d) v by several kernels, chosen by measurement.

Every kernel takes q (B, Tq, heads, d) and k, v (B, Tk, heads, d), gives (B, Tq, heads, d) and
computes the same function; they differ in speed and in the order of additions only. An
`Attention` layer holds the kernel it uses, so nothing global changes under a running model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger(__name__)


class Kernel(Protocol):
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor: ...


def reference(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """The definition, in float32: for tests and for hardware that has nothing better."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q.float(), k.float()) * q.shape[-1] ** -0.5
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, -torch.inf)
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v.float()).to(q.dtype)


def sdpa(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """PyTorch's own fused attention, on every device."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)


def _xformers() -> Kernel | None:
    """The memory-efficient attention of xformers, where it is installed and there is a GPU."""
    if not torch.cuda.is_available():
        return None
    try:
        from xformers import ops
    except ImportError:
        return None

    def xformers(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
        bias = ops.LowerTriangularMask() if causal else None
        out: Tensor = ops.memory_efficient_attention(q, k, v, attn_bias=bias)
        return out

    return xformers


def available_kernels() -> dict[str, Kernel]:
    """Name -> kernel, of those that can run on this machine."""
    kernels: dict[str, Kernel] = {"sdpa": sdpa, "reference": reference}
    if (xformers := _xformers()) is not None:
        kernels["xformers"] = xformers
    return kernels


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
        self.to_q = nn.Linear(dim, dim, bias=qkv_bias)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=qkv_bias)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=qkv_bias)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        source = x if context is None else context
        q, k, v = (
            t.unflatten(-1, (self.heads, -1))  # (B, T, heads, d)
            for t in (self.to_q(x), self.to_k(source), self.to_v(source))
        )
        out: Tensor = self.to_out[0](self.kernel(q, k, v).flatten(-2))
        return out


def attention_layers(module: nn.Module) -> Iterator[Attention]:
    return (layer for layer in module.modules() if isinstance(layer, Attention))


def use_kernel(module: nn.Module, kernel: Kernel) -> None:
    """Every attention layer under `module` uses `kernel` from now on."""
    for layer in attention_layers(module):
        layer.kernel = kernel


def choose_kernels(module: nn.Module, forward: Callable[[], object]) -> dict[str, str]:
    """Give each attention layer the kernel that is fastest for the shapes that `forward` brings.

    `forward` calls the module once on representative inputs. Returns the choices, by a readable
    shape, for the log. The inputs recorded are real ones, so a kernel that cannot take their head
    size or dtype shows it here, and is left out.
    """
    seen: dict[Attention, tuple[Tensor, Tensor, Tensor]] = {}

    def record(layer: Attention) -> Kernel:
        def run(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
            seen[layer] = (q, k, v)
            return sdpa(q, k, v, causal=causal)

        return run

    for layer in attention_layers(module):
        layer.kernel = record(layer)
    with torch.inference_mode():
        forward()
    kernels = {name: k for name, k in available_kernels().items() if name != "reference"}
    choices: dict[str, str] = {}
    for layer in attention_layers(module):
        q, k, v = seen.pop(layer)
        shape = f"{tuple(q.shape)}x{k.shape[1]} {str(q.dtype).removeprefix('torch.')}"
        if shape not in choices:
            choices[shape] = _fastest(kernels, q, k, v)
        layer.kernel = kernels[choices[shape]]
    log.info("attention kernels: %s", choices)
    return choices


def _fastest(kernels: dict[str, Kernel], q: Tensor, k: Tensor, v: Tensor) -> str:
    if len(kernels) == 1:
        return next(iter(kernels))
    seconds: dict[str, float] = {}
    for name, kernel in kernels.items():
        try:
            seconds[name] = _seconds(kernel, q, k, v)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            log.info("attention kernel %s cannot take %s: %s", name, tuple(q.shape), error)
    return min(seconds, key=seconds.__getitem__)


def _seconds(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, repeats: int = 10) -> float:
    """Best wall time of one call, after two calls to warm up."""
    best = float("inf")
    for i in range(repeats + 2):
        started = time.perf_counter()
        kernel(q, k, v)
        if q.is_cuda:
            torch.cuda.synchronize(q.device)
        if i >= 2:
            best = min(best, time.perf_counter() - started)
    return best
