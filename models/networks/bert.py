"""The text encoder of the paper's own models (Rombach et al. 2022, section 4.3.1 and appendix E).

A bidirectional transformer, trained together with the diffusion model; it shares no weights with
the published BERT, only its tokenizer. Module names are those of diffusers' LDMBertModel files,
whose `to_logits` is unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoints.config_fields import select
from models.networks.attention import Kernel, sdpa

# Further keys that transformers writes: about training, or repeated elsewhere.
_IRRELEVANT = {
    "activation_dropout",
    "attention_dropout",
    "classifier_dropout",
    "dropout",
    "encoder_layerdrop",
    "init_std",
    "num_hidden_layers",
    "pad_token_id",
    "use_cache",
}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "activation_function": ("gelu",),
    "scale_embedding": (False,),
}


@dataclass(frozen=True)
class BertConfig:
    """Fields of `bert/config.json`; the inner width of attention is heads · `head_dim`."""

    vocab_size: int = 30522
    max_position_embeddings: int = 77
    d_model: int = 1280
    encoder_layers: int = 32
    encoder_ffn_dim: int = 5120
    encoder_attention_heads: int = 8
    head_dim: int = 64

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        kept = {key: value for key, value in data.items() if key not in _IRRELEVANT}
        return cls(**select(cls, kept, _NEUTRAL))

    def to_dict(self) -> dict[str, Any]:
        return {"architectures": ["LDMBertModel"], "model_type": "ldmbert", **asdict(self)}


class SelfAttention(nn.Module):
    """Bidirectional self-attention; x (B, T, D)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.encoder_attention_heads
        self.kernel: Kernel = sdpa
        inner = self.heads * config.head_dim
        self.k_proj = nn.Linear(config.d_model, inner, bias=False)
        self.v_proj = nn.Linear(config.d_model, inner, bias=False)
        self.q_proj = nn.Linear(config.d_model, inner, bias=False)
        self.out_proj = nn.Linear(inner, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1))
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out: Tensor = self.out_proj(self.kernel(q, k, v).flatten(-2))
        return out


class Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return out


class Transformer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed_tokens(ids) + self.embed_positions.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.layer_norm(x)
        return out


class BertEncoder(nn.Module):
    """ids (B, T), T at most `config.max_position_embeddings` -> context (B, T, D)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Transformer(config)

    def forward(self, ids: Tensor) -> Tensor:
        context: Tensor = self.model(ids)
        return context
