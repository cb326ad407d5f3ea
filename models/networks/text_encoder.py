"""The CLIP text transformer (Radford et al. 2021), with the layer names of published files.

One class serves both text encoders of SDXL, that of Stable Diffusion 1.x and the bundled one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.clip_layers import LayerStack
from models.networks.config import TextEncoderConfig


@dataclass(frozen=True)
class TextFeatures:
    """Output of the transformer for a batch of token rows.

    hidden_states: the embeddings and the output of every layer, each (B, T, D), not normalised.
    last: the last of them after the final layer norm, (B, T, D).
    pooled: `last` at the first end-of-text token, projected if the model has a projection.
    """

    hidden_states: tuple[Tensor, ...]
    last: Tensor
    pooled: Tensor


class Embeddings(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.position_embedding.weight[: ids.shape[1]]
        out: Tensor = self.token_embedding(ids) + positions
        return out


class TextTransformer(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = LayerStack(config, causal=True)
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
        """Return the position (B,) of the first end-of-text token.

        Published SD files have `eos_token_id` 2, which is wrong: the token is 49407, the largest of
        the vocabulary. That value therefore means "the largest id of the row"; ids of textual
        inversion embeddings come after the vocabulary and are not counted.
        """
        if self.config.eos_token_id == 2:
            return ids.masked_fill(ids >= self.config.vocab_size, 0).argmax(dim=-1)
        return (ids == self.config.eos_token_id).int().argmax(dim=-1)
