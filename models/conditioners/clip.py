"""Prompts for one or two CLIP text encoders: Stable Diffusion 1.x and SDXL."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from models.conditioners import Conditioner
from models.conditioners.embedding_cache import EmbeddingCache
from models.denoising.denoiser import Conditioning
from models.denoising.sampling_params import SamplingParams
from models.networks.text_encoder import TextEncoder, TextFeatures
from models.text.emphasis import apply_emphasis
from models.text.tokenizer import Tokenizer, align_rows
from models.text.weighted_prompt import WeightedPrompt

# Negative conditioning of the refiner in the published code (Stability-AI/generative-models).
NEGATIVE_AESTHETIC_SCORE = 2.5


@dataclass(frozen=True)
class TextStage:
    """A tokenizer and the text encoder of its tokens."""

    tokenizer: Tokenizer
    encoder: TextEncoder


@dataclass(frozen=True)
class _CacheKey:
    """Everything that determines an encoded prompt; false for the empty prompt."""

    prompt: WeightedPrompt
    clip_skip: int

    def __bool__(self) -> bool:
        return not self.prompt.empty


@dataclass(frozen=True)
class ClipConditioner:
    """Encoder of prompts of any length, with a cache.

    sdxl: the network is also conditioned on pooled text, sizes and crops (Podell et al. 2023,
    section 2.2). refiner: it is SDXL's refiner, with an aesthetic score in place of the target
    size. zero_empty_negative: SDXL base was trained with zeros, not with the encoding of "", as its
    unconditional input. embedding_names: textual inversion embeddings of the tokenizers.
    """

    stages: tuple[TextStage, ...]
    device: torch.device
    sdxl: bool = False
    refiner: bool = False
    zero_empty_negative: bool = False
    embedding_names: tuple[str, ...] = ()
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.stages[0].tokenizer

    def positive(self, params: SamplingParams) -> Conditioning:
        encoded = self.encode(params.prompt, params.clip_skip)
        return self._with_sizes(encoded, params, params.aesthetic_score)

    def negative(self, params: SamplingParams) -> Conditioning:
        """Encode the negative prompt; an empty one as in the model's training."""
        encoded = self.encode(params.negative_prompt, params.clip_skip)
        if WeightedPrompt.of(params.negative_prompt).empty and self.zero_empty_negative:
            parts = (encoded.context, encoded.pooled)
            encoded = Conditioning(*(None if t is None else torch.zeros_like(t) for t in parts))
        return self._with_sizes(encoded, params, NEGATIVE_AESTHETIC_SCORE)

    def encode(self, prompt: str | WeightedPrompt, clip_skip: int = 0) -> Conditioning:
        return self.embeddings.get(_CacheKey(WeightedPrompt.of(prompt), clip_skip), self._encode)

    @torch.inference_mode()
    def _encode(self, key: _CacheKey) -> Conditioning:
        """Encode rows of 77 tokens separately and join them."""
        contexts, pooled = [], None
        tokenizers = [stage.tokenizer for stage in self.stages]
        by_stage = align_rows(tokenizers, key.prompt)
        for stage, rows in zip(self.stages, by_stage, strict=True):
            features = stage.encoder(torch.tensor(rows.ids, device=self.device))
            hidden = self._hidden(stage.encoder, features, key.clip_skip)
            if key.prompt.weighted:
                hidden = apply_emphasis(hidden, torch.tensor(rows.weights, device=self.device))
            contexts.append(hidden.flatten(0, 1))  # (rows · 77, D)
            pooled = features.pooled[0] if self.sdxl else None
        return Conditioning(torch.cat(contexts, dim=-1), pooled)

    def _hidden(self, encoder: TextEncoder, features: TextFeatures, clip_skip: int) -> Tensor:
        """Return the hidden states for cross-attention, (rows, 77, D)."""
        if self.sdxl:  # the last layer but one of both encoders, without the final norm
            return features.hidden_states[-2 - clip_skip]
        if clip_skip:
            return encoder.text_model.final_layer_norm(features.hidden_states[-1 - clip_skip])
        return features.last

    def _with_sizes(
        self, encoded: Conditioning, params: SamplingParams, score: float
    ) -> Conditioning:
        return replace(encoded, time_ids=self._time_ids(params, score)) if self.sdxl else encoded

    def _time_ids(self, params: SamplingParams, score: float) -> Tensor:
        """Return the original size and the crop corner, then the target size or the score.

        In pixels, rows first.
        """
        size = [params.height, params.width]
        last = [score] if self.refiner else size
        return torch.tensor([*size, 0, 0, *last], device=self.device).float()


def text_stages(conditioner: Conditioner) -> tuple[TextStage, ...]:
    """Return the CLIP encoders of a conditioner; none for other conditioners."""
    return conditioner.stages if isinstance(conditioner, ClipConditioner) else ()


def max_clip_skip(conditioner: Conditioner) -> int:
    """Return the largest `clip_skip` that leaves every encoder a layer; 0 without CLIP encoders."""
    if not isinstance(conditioner, ClipConditioner):
        return 0
    depths = (len(stage.encoder.text_model.encoder.layers) for stage in conditioner.stages)
    return max(0, min(depths) - (2 if conditioner.sdxl else 1))


def embedding_names(conditioner: Conditioner) -> tuple[str, ...]:
    """Return the names of the textual inversion embeddings of a conditioner."""
    return conditioner.embedding_names if isinstance(conditioner, ClipConditioner) else ()
