"""Prompts read by the text encoder of the paper's own models (Rombach et al. 2022, section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from models.conditioners.embedding_cache import EmbeddingCache
from models.denoising.denoiser import Conditioning
from models.denoising.sampling_params import SamplingParams
from models.networks.bert import BertEncoder
from models.text.emphasis import emphasised
from models.text.tokenizer import Tokenizer, aligned_rows
from models.text.wording import Wording


@dataclass(frozen=True)
class BertConditioner:
    """Rows of 77 tokens, padded to their end, are encoded apart and joined."""

    tokenizer: Tokenizer
    encoder: BertEncoder
    device: torch.device
    embeddings: EmbeddingCache = field(default_factory=EmbeddingCache)

    def positive(self, recipe: SamplingParams) -> Conditioning:
        return self.embeddings.get(Wording.of(recipe.prompt), self._encode)

    def negative(self, recipe: SamplingParams) -> Conditioning:
        return self.embeddings.get(Wording.of(recipe.negative_prompt), self._encode)

    @torch.inference_mode()
    def _encode(self, wording: Wording) -> Conditioning:
        [rows] = aligned_rows([self.tokenizer], wording)
        context = self.encoder(torch.tensor(rows.ids, device=self.device))
        if wording.weighted:
            context = emphasised(context, torch.tensor(rows.weights, device=self.device))
        return Conditioning(context.flatten(0, 1))
