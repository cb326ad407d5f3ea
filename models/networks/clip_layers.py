"""The transformer layers that CLIP's text and vision encoders share (Radford et al. 2021).

Names are those of published files. Sequences are (B, T, D).
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.attention import Kernel, sdpa


class LayerConfig(Protocol):
    """The part of a configuration that describes its layers."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def hidden_act(self) -> str: ...
    @property
    def layer_norm_eps(self) -> float: ...


class SelfAttention(nn.Module):
    """Self-attention, x (B, T, D); with `causal`, tokens do not attend to later ones."""

    def __init__(self, dim: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.kernel: Kernel = sdpa
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1))
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out: Tensor = self.out_proj(self.kernel(q, k, v, causal=self.causal).flatten(-2))
        return out


class MLP(nn.Module):
    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.quick = config.hidden_act == "quick_gelu"
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc1(x)
        h = h * torch.sigmoid(1.702 * h) if self.quick else F.gelu(h)
        out: Tensor = self.fc2(h)
        return out


class Layer(nn.Module):
    def __init__(self, config: LayerConfig, *, causal: bool) -> None:
        super().__init__()
        dim, eps = config.hidden_size, config.layer_norm_eps
        self.self_attn = SelfAttention(dim, config.num_attention_heads, causal=causal)
        self.layer_norm1 = nn.LayerNorm(dim, eps=eps)
        self.mlp = MLP(config)
        self.layer_norm2 = nn.LayerNorm(dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class LayerStack(nn.Module):
    def __init__(self, config: LayerConfig, *, causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(config, causal=causal) for _ in range(config.num_hidden_layers)
        )
