"""Attention kernel for training: two matrix products in the autocast dtype.

Torch's fused kernel is slower for training in bfloat16 on a CPU with so few tokens (measured: it
took a third of a whole training step, most for causal rows).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.networks.attention import use_kernel
from models.networks.clip_layers import SelfAttention


def matmul_attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Return softmax(scale · q kᵀ) v for q (B, Tq, heads, d), k and v (B, Tk, heads, d).

    The result is (B, Tq, heads, d). `scale` is 1 / √d by default.
    """
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    scores = (q @ k.transpose(-1, -2)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        hidden = torch.full(scores.shape[-2:], -1e4, dtype=scores.dtype).triu(1)
        scores = scores + hidden
    return (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2)


def use_training_kernel(*networks: nn.Module) -> None:
    """Set `matmul_attention` as the kernel of every attention layer of `networks`."""
    for network in networks:
        use_kernel(network, matmul_attention)
        for layer in network.modules():
            if isinstance(layer, SelfAttention):
                layer.kernel = matmul_attention
