"""The CLIP text transformer (Radford et al. 2021), with the layer names of published files.

One class serves both text encoders of SDXL, that of Stable Diffusion 1.x and the bundled one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import Kernel, sdpa
from models.config import TextEncoderConfig


@dataclass(frozen=True)
class TextFeatures:
    """What the transformer knows about a batch of token rows.

    hidden_states: the embeddings and the output of every layer, each (B, T, D), not normalised.
    last: the last of them after the final layer norm, (B, T, D).
    pooled: `last` at the first end-of-text token, projected where the model has a projection.
    """

    hidden_states: tuple[Tensor, ...]
    last: Tensor
    pooled: Tensor


class SelfAttention(nn.Module):
    """Causal self-attention, x (B, T, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
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
        out: Tensor = self.out_proj(self.kernel(q, k, v, causal=True).flatten(-2))
        return out


class MLP(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
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
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        dim, eps = config.hidden_size, config.layer_norm_eps
        self.self_attn = SelfAttention(dim, config.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(dim, eps=eps)
        self.mlp = MLP(config)
        self.layer_norm2 = nn.LayerNorm(dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class Embeddings(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.position_embedding.weight[: ids.shape[1]]
        out: Tensor = self.token_embedding(ids) + positions
        return out


class LayerStack(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))


class TextTransformer(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = LayerStack(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        hidden = [self.embeddings(ids)]
        for layer in self.encoder.layers:
            hidden.append(layer(hidden[-1]))
        return tuple(hidden), self.final_layer_norm(hidden[-1])


class TextEncoder(nn.Module):
    """ids (B, T), T at most `config.max_position_embeddings` -> TextFeatures."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextTransformer(config)
        self.text_projection = (
            nn.Linear(config.hidden_size, config.projection_dim, bias=False)
            if config.with_projection
            else None
        )

    def forward(self, ids: Tensor) -> TextFeatures:
        hidden_states, last = self.text_model(ids)
        pooled = last[torch.arange(len(ids), device=ids.device), self._end_of_text(ids)]
        if self.text_projection is not None:
            pooled = self.text_projection(pooled)
        return TextFeatures(hidden_states, last, pooled)

    def _end_of_text(self, ids: Tensor) -> Tensor:
        """Position (B,) of the first end-of-text token.

        Published SD files say `eos_token_id` 2, which is wrong: the token is 49407, the largest
        of the vocabulary. That value therefore means "the largest id of the row".
        """
        if self.config.eos_token_id == 2:
            return ids.argmax(dim=-1)
        return (ids == self.config.eos_token_id).int().argmax(dim=-1)
