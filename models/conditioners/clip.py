"""Prompts read by one or two CLIP text encoders: Stable Diffusion 1.x and SDXL."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from models.conditioners import Conditioner
from models.conditioners.embedding_cache import EmbeddingCache
from models.denoising.denoiser import Conditioning
from models.denoising.sampling_params import SamplingParams
from models.networks.text_encoder import TextEncoder, TextFeatures
from models.text.emphasis import emphasised
from models.text.tokenizer import Tokenizer, aligned_rows
from models.text.wording import Wording

# What the refiner is guided away from, in the published code (Stability-AI/generative-models).
NEGATIVE_AESTHETIC_SCORE = 2.5


@dataclass(frozen=True)
class TextStage:
    """A tokenizer and the text encoder that reads its tokens."""

    tokenizer: Tokenizer
    encoder: TextEncoder


@dataclass(frozen=True)
class _Reading:
    """What there is to know of an encoded prompt; false if it says nothing."""

    wording: Wording
    clip_skip: int

    def __bool__(self) -> bool:
        return not self.wording.empty


@dataclass(frozen=True)
class ClipConditioner:
    """Prompts of any length, encoded now or before.

    sdxl: the network also wants pooled text, sizes and crops (Podell et al. 2023, section 2.2).
    scored: it is SDXL's refiner, which wants an aesthetic score in place of the target size.
    zero_empty_negative: SDXL base was trained with zeros, not with the encoding of "", as its
    unconditional input. words: those learned by textual inversion.
    """

    stages: tuple[TextStage, ...]
    device: torch.device
    sdxl: bool = False
    scored: bool = False
    zero_empty_negative: bool = False
    words: tuple[str, ...] = ()
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.stages[0].tokenizer

    def positive(self, recipe: SamplingParams) -> Conditioning:
        said = self.encode(recipe.prompt, recipe.clip_skip)
        return self._with_sizes(said, recipe, recipe.aesthetic_score)

    def negative(self, recipe: SamplingParams) -> Conditioning:
        """The negative prompt; an empty one as the model was trained to read it."""
        said = self.encode(recipe.negative_prompt, recipe.clip_skip)
        if Wording.of(recipe.negative_prompt).empty and self.zero_empty_negative:
            parts = (said.context, said.pooled)
            said = Conditioning(*(None if t is None else torch.zeros_like(t) for t in parts))
        return self._with_sizes(said, recipe, NEGATIVE_AESTHETIC_SCORE)

    def encode(self, prompt: str | Wording, clip_skip: int = 0) -> Conditioning:
        return self.embeddings.get(_Reading(Wording.of(prompt), clip_skip), self._encode)

    @torch.inference_mode()
    def _encode(self, reading: _Reading) -> Conditioning:
        """Rows of 77 tokens are encoded apart and joined."""
        contexts, pooled = [], None
        tokenizers = [stage.tokenizer for stage in self.stages]
        by_stage = aligned_rows(tokenizers, reading.wording)
        for stage, rows in zip(self.stages, by_stage, strict=True):
            features = stage.encoder(torch.tensor(rows.ids, device=self.device))
            hidden = self._hidden(stage.encoder, features, reading.clip_skip)
            if reading.wording.weighted:
                hidden = emphasised(hidden, torch.tensor(rows.weights, device=self.device))
            contexts.append(hidden.flatten(0, 1))  # (rows · 77, D)
            pooled = features.pooled[0] if self.sdxl else None
        return Conditioning(torch.cat(contexts, dim=-1), pooled)

    def _hidden(self, encoder: TextEncoder, features: TextFeatures, clip_skip: int) -> Tensor:
        """What the network attends to, (rows, 77, D)."""
        if self.sdxl:  # the last layer but one of both encoders, without the final norm
            return features.hidden_states[-2 - clip_skip]
        if clip_skip:
            return encoder.text_model.final_layer_norm(features.hidden_states[-1 - clip_skip])
        return features.last

    def _with_sizes(self, said: Conditioning, recipe: SamplingParams, score: float) -> Conditioning:
        return replace(said, time_ids=self._time_ids(recipe, score)) if self.sdxl else said

    def _time_ids(self, recipe: SamplingParams, score: float) -> Tensor:
        """Original size and crop corner in pixels, rows first; then target size, or the score."""
        size = [recipe.height, recipe.width]
        last = [score] if self.scored else size
        return torch.tensor([*size, 0, 0, *last], device=self.device).float()


def text_stages(conditioner: Conditioner) -> tuple[TextStage, ...]:
    """The CLIP encoders that read prompts; none where something else is read, or otherwise."""
    return conditioner.stages if isinstance(conditioner, ClipConditioner) else ()


def most_clip_skip(conditioner: Conditioner) -> int:
    """The largest `clip_skip` that leaves every encoder a layer; 0 where prompts are not CLIP's."""
    if not isinstance(conditioner, ClipConditioner):
        return 0
    depths = (len(stage.encoder.text_model.encoder.layers) for stage in conditioner.stages)
    return max(0, min(depths) - (2 if conditioner.sdxl else 1))


def learned_words(conditioner: Conditioner) -> tuple[str, ...]:
    """The words that its text encoders have learned by textual inversion."""
    return conditioner.words if isinstance(conditioner, ClipConditioner) else ()
